// Goal: reads give exactly the rows in their bounds, in order, forwards and backwards, at a snapshot or at the newest
// state, in memtables and in tables alike; and scans that use the prefix filter give what a full scan gives.
// Method: a sorted array as the model; every pair of bounds from a set of keys that includes those in between.
#include "tests/store/store_test.h"

#define KEYS 40

static void check_scan(rag_store *store, rag_slice lower, rag_slice upper, bool reverse) {
  rag_store_iter *it = NULL;
  char key[8];
  int expected[KEYS], count = 0, seen = 0;
  for (int i = 0; i < KEYS; i++) {
    int at = reverse ? KEYS - 1 - i : i;
    snprintf(key, sizeof key, "k%02d", at * 2);
    bool below = upper.size > 0 && rag_slice_compare(rag_slice_str(key), upper) >= 0;
    if (rag_slice_compare(rag_slice_str(key), lower) >= 0 && !below) expected[count++] = at;
  }
  assert_int_equal(rag_store_iter_open(store, NULL, RAG_CF_COMMIT, lower, upper, reverse, &it, NULL), RAG_OK);
  for (; rag_store_iter_next(it); seen++) {
    assert_true(seen < count);
    snprintf(key, sizeof key, "k%02d", expected[seen] * 2);
    assert_true(rag_slice_equal(rag_store_iter_key(it), rag_slice_str(key)));
    assert_true(rag_slice_equal(rag_store_iter_value(it), rag_slice_str(key)));
  }
  assert_int_equal(seen, count);
  assert_false(rag_store_iter_next(it)); // the end stays the end
  assert_int_equal(rag_store_iter_status(it, NULL), RAG_OK);
  rag_store_iter_close(it);
}

static void check_all_scans(rag_store *store) {
  char lower[8], upper[8];
  for (int i = -1; i < KEYS * 2; i += 3) {
    for (int j = -1; j < KEYS * 2; j += 3) {
      snprintf(lower, sizeof lower, "k%02d", i);
      snprintf(upper, sizeof upper, "k%02d", j);
      rag_slice from = i < 0 ? (rag_slice){0} : rag_slice_str(lower);
      rag_slice to = j < 0 ? (rag_slice){0} : rag_slice_str(upper);
      check_scan(store, from, to, false);
      check_scan(store, from, to, true);
    }
  }
}

static void scans_keep_to_their_bounds(void **state) {
  fixture *f = *state;
  char key[8];
  for (int i = KEYS - 1; i >= 0; i--) {
    snprintf(key, sizeof key, "k%02d", i * 2);
    put(f->store, RAG_CF_COMMIT, key, key);
    if (i == KEYS / 2) assert_int_equal(rag_store_flush(f->store, NULL), RAG_OK); // half in a table
  }
  check_all_scans(f->store);
  assert_int_equal(rag_store_flush(f->store, NULL), RAG_OK);
  check_all_scans(f->store);
}

static void document_key(rag_key *key, uint32_t kb, uint64_t document, uint32_t revision) {
  rag_key_init(key);
  rag_key_u32(key, kb);
  rag_key_u64(key, document);
  rag_key_u32(key, revision);
}

static int count_documents(rag_store *store, rag_slice lower, rag_slice upper, bool reverse) {
  rag_store_iter *it = NULL;
  int count = 0;
  assert_int_equal(rag_store_iter_open(store, NULL, RAG_CF_DOCUMENT, lower, upper, reverse, &it, NULL), RAG_OK);
  while (rag_store_iter_next(it)) count++;
  assert_int_equal(rag_store_iter_status(it, NULL), RAG_OK);
  rag_store_iter_close(it);
  return count;
}

static void check_documents(rag_store *store) {
  rag_key lower, upper, key;
  for (uint32_t kb = 0; kb < 4; kb++) {
    for (uint64_t document = 0; document < 60; document++) {
      // Documents with even numbers have (document % 5) + 1 revisions in kbs 1 and 2; all others have none.
      int expected = (kb == 1 || kb == 2) && document % 2 == 0 && document < 50 ? (int)(document % 5) + 1 : 0;
      document_key(&key, kb, document, 0);
      lower = key;
      lower.size = 12;
      if (!rag_key_successor(&lower, &upper)) fail();
      assert_int_equal(count_documents(store, rag_key_slice(&lower), rag_key_slice(&upper), false), expected);
      assert_int_equal(count_documents(store, rag_key_slice(&lower), rag_key_slice(&upper), true), expected);
      document_key(&upper, kb, document, 2);
      assert_int_equal(count_documents(store, rag_key_slice(&key), rag_key_slice(&upper), false), RAG_MIN(expected, 2));
    }
    rag_key_init(&lower);
    rag_key_u32(&lower, kb);
    if (!rag_key_successor(&lower, &upper)) fail();
    int all = kb == 1 || kb == 2 ? 75 : 0;
    assert_int_equal(count_documents(store, rag_key_slice(&lower), rag_key_slice(&upper), false), all);
    assert_int_equal(count_documents(store, rag_key_slice(&lower), rag_key_slice(&upper), true), all);
    // From inside one prefix to the end of the kb: more than one prefix, so not the filter's case.
    document_key(&lower, kb, 25, 0);
    int late = kb == 1 || kb == 2 ? 36 : 0;
    assert_int_equal(count_documents(store, rag_key_slice(&lower), rag_key_slice(&upper), false), late);
  }
  assert_int_equal(count_documents(store, (rag_slice){0}, (rag_slice){0}, false), 150);
}

static void prefix_scans_find_what_full_scans_find(void **state) {
  fixture *f = *state;
  for (uint32_t kb = 1; kb < 3; kb++) {
    for (uint64_t document = 0; document < 50; document += 2) {
      for (uint32_t revision = 0; revision <= document % 5; revision++) {
        rag_key key;
        document_key(&key, kb, document, revision);
        assert_int_equal(commit_row(f->store, RAG_CF_DOCUMENT, rag_key_slice(&key), rag_slice_str("r"), NULL), RAG_OK);
      }
      // Many small tables, so that filters have something to skip.
      if (document % 10 == 0) assert_int_equal(rag_store_flush(f->store, NULL), RAG_OK);
    }
  }
  check_documents(f->store);
  assert_int_equal(rag_store_flush(f->store, NULL), RAG_OK);
  check_documents(f->store);
  fixture_reopen(f);
  check_documents(f->store);
}

static void snapshots_stay_as_they_were(void **state) {
  fixture *f = *state;
  rag_store_iter *it = NULL;
  put_text(f->store, "a", "old");
  put_text(f->store, "b", "old");
  rag_snapshot *snapshot = rag_snapshot_create(f->store);
  assert_non_null(snapshot);
  put_text(f->store, "a", "new");
  put_text(f->store, "c", "new");
  assert_int_equal(commit_row(f->store, RAG_CF_META, rag_slice_str("b"), (rag_slice){0}, NULL), RAG_OK);
  assert_int_equal(rag_store_flush(f->store, NULL), RAG_OK);

  assert_true(holds(f->store, snapshot, RAG_CF_META, "a", "old"));
  assert_true(holds(f->store, snapshot, RAG_CF_META, "b", "old"));
  assert_true(absent(f->store, snapshot, RAG_CF_META, "c"));
  assert_true(holds(f->store, NULL, RAG_CF_META, "a", "new"));
  assert_true(absent(f->store, NULL, RAG_CF_META, "b"));
  assert_int_equal(
      rag_store_iter_open(f->store, snapshot, RAG_CF_META, (rag_slice){0}, (rag_slice){0}, false, &it, NULL), RAG_OK);
  assert_true(rag_store_iter_next(it));
  assert_true(rag_slice_equal(rag_store_iter_value(it), rag_slice_str("old")));
  assert_true(rag_store_iter_next(it));
  assert_true(rag_slice_equal(rag_store_iter_key(it), rag_slice_str("b")));
  assert_false(rag_store_iter_next(it));
  rag_store_iter_close(it);
  rag_snapshot_destroy(f->store, snapshot);
}

static void check_multi_get(rag_store *store, size_t count) {
  char(*names)[16] = calloc(count + 1, sizeof *names);
  rag_slice *keys = calloc(count + 1, sizeof *keys);
  rag_value *values = calloc(count + 1, sizeof *values);
  for (size_t i = 0; i < count; i++) {
    snprintf(names[i], sizeof names[i], "m%zu", (i * 7) % 300); // not sorted, some twice, every third absent
    keys[i] = rag_slice_str(names[i]);
  }
  assert_int_equal(rag_store_multi_get(store, NULL, RAG_CF_CHUNK, count, keys, values, NULL), RAG_OK);
  for (size_t i = 0; i < count; i++) {
    if ((i * 7) % 300 % 3 == 0) assert_null(values[i].slice.data);
    else assert_true(rag_slice_equal(values[i].slice, keys[i]));
    rag_value_free(&values[i]);
  }
  free(values);
  free(keys);
  free(names);
}

static void multi_get_finds_what_get_finds(void **state) {
  fixture *f = *state;
  char name[16];
  for (int i = 0; i < 300; i++) {
    if (i % 3 == 0) continue;
    snprintf(name, sizeof name, "m%d", i);
    put(f->store, RAG_CF_CHUNK, name, name);
    if (i == 151) assert_int_equal(rag_store_flush(f->store, NULL), RAG_OK);
  }
  const size_t counts[] = {0, 1, 63, 64, 65, 128, 300}; // around the pieces that it is cut into
  for (size_t i = 0; i < RAG_COUNT_OF(counts); i++) check_multi_get(f->store, counts[i]);
}

static void an_empty_value_is_not_an_absent_one(void **state) {
  fixture *f = *state;
  rag_value value = {0};
  rag_slice key = rag_slice_str("empty");
  put_text(f->store, "empty", "");
  assert_int_equal(rag_store_get(f->store, NULL, RAG_CF_META, key, &value, NULL), RAG_OK);
  assert_non_null(value.slice.data);
  assert_int_equal(value.slice.size, 0);
  rag_value_free(&value);
  assert_int_equal(rag_store_multi_get(f->store, NULL, RAG_CF_META, 1, &key, &value, NULL), RAG_OK);
  assert_non_null(value.slice.data);
  rag_value_free(&value);
  rag_value_free(&value); // freed is empty
}

static void ranges_are_deleted(void **state) {
  fixture *f = *state;
  put_text(f->store, "a", "1");
  put_text(f->store, "b", "1");
  put_text(f->store, "c", "1");
  put_text(f->store, "\xff\xff\xff", "1");
  for (int twice = 0; twice < 2; twice++) {
    assert_int_equal(rag_store_delete_range(f->store, RAG_CF_META, rag_slice_str("a"), rag_slice_str("c"), NULL),
                     RAG_OK);
    assert_true(absent(f->store, NULL, RAG_CF_META, "a"));
    assert_true(absent(f->store, NULL, RAG_CF_META, "b"));
    assert_true(holds(f->store, NULL, RAG_CF_META, "c", "1"));
  }
  assert_int_equal(rag_store_delete_range(f->store, RAG_CF_META, rag_slice_str("c"), rag_slice_str("b"), NULL), RAG_OK);
  assert_true(holds(f->store, NULL, RAG_CF_META, "c", "1"));
  assert_int_equal(rag_store_delete_range(f->store, RAG_CF_META, rag_slice_str("b"), (rag_slice){0}, NULL), RAG_OK);
  assert_true(absent(f->store, NULL, RAG_CF_META, "c"));
  assert_true(absent(f->store, NULL, RAG_CF_META, "\xff\xff\xff"));
}

static void failed_allocations_are_errors(void **state) {
  fixture *f = *state;
  rag_store_iter *it = NULL;
  rag_alloc_fail_after(1);
  assert_null(rag_snapshot_create(f->store));
  rag_alloc_fail_after(1);
  assert_int_equal(
      rag_store_iter_open(f->store, NULL, RAG_CF_META, rag_slice_str("a"), (rag_slice){0}, false, &it, NULL),
      RAG_RESOURCE_EXHAUSTED);
  rag_alloc_fail_after(0);
  assert_null(it);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      STORE_TEST(scans_keep_to_their_bounds),          STORE_TEST(prefix_scans_find_what_full_scans_find),
      STORE_TEST(snapshots_stay_as_they_were),         STORE_TEST(multi_get_finds_what_get_finds),
      STORE_TEST(an_empty_value_is_not_an_absent_one), STORE_TEST(ranges_are_deleted),
      STORE_TEST(failed_allocations_are_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
