// Goal: an append or a removal that fails for want of memory leaves the index as it was, leaks nothing and can be
// repeated; the memory bound holds and lets go when blocks of rows are gone; a deadline stops a search.
//
// Method: every allocation of a sequence of operations is made to fail in turn, and after each failure the index must
// answer as before and the same call must then succeed; the bound is approached from below until it refuses; deadlines
// that have passed and that pass in the middle of a long scan.
#include "index_testing.h"

#define DIMENSION 128u // blocks of 1,024 rows, 512 KiB

static void fill_rows(uint32_t *ordinals, float *vectors, uint32_t first, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    ordinals[i] = first + i;
    for (uint32_t j = 0; j < DIMENSION; j++) vectors[(size_t)i * DIMENSION + j] = (float)(first + i);
  }
}

static rag_bitmap *range(uint32_t first, uint32_t count) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  assert_non_null(edit);
  assert_int_equal(rag_bitmap_edit_add_range(edit, first, count), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

static void assert_rows(rag_index *index, const rag_bitmap *want) {
  rag_index_view *view = rag_index_pin(index);
  assert_true(rag_bitmap_equal(rag_index_view_present(view), want));
  for (uint32_t o = 0; rag_bitmap_next(want, o, &o); o++) {
    const float *row = rag_index_view_vector(view, o, NULL);
    assert_non_null(row);
    assert_true(row[0] == (float)o && row[DIMENSION - 1] == (float)o);
  }
  rag_ref_drop(view);
}

typedef struct step {
  bool removal;
  uint32_t first, count;
} step;

// Appends that open a shard and a block, fill one, span two shards, come back to removed slots; removals that empty a
// block, a shard, nothing.
static const step steps[] = {
    {false, 10, 5},   {false, 15, 3}, {false, 65530, 12}, {true, 12, 2},     {false, 12, 1},
    {true, 65530, 4}, {true, 0, 100}, {true, 65536, 100}, {false, 1000, 60}, {false, 65530, 2},
};

static void test_every_failed_allocation_changes_nothing(void **state) {
  (void)state;
  rag_index *index = NULL;
  rag_index_options options = {.dimension = DIMENSION, .metric = RAG_METRIC_IP};
  uint64_t failures = 0;
  for (uint64_t n = 1;; n++) {
    rag_alloc_fail_after(n);
    rag_status status = rag_index_create(&options, &index, NULL);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    if (!failed) break;
    failures++;
    assert_null(index);
  }
  rag_bitmap *expected = rag_bitmap_empty();
  uint32_t ordinals[64];
  float vectors[64 * DIMENSION];
  for (size_t s = 0; s < RAG_COUNT_OF(steps); s++) {
    rag_bitmap *set = range(steps[s].first, steps[s].count), *after = NULL;
    fill_rows(ordinals, vectors, steps[s].first, RAG_MIN(steps[s].count, 64u));
    uint64_t bytes = rag_index_memory_bytes(index);
    for (uint64_t n = 1;; n++) {
      rag_error err = {0};
      rag_alloc_fail_after(n);
      rag_status status = steps[s].removal ? rag_index_remove(index, set, &err)
                                           : rag_index_append(index, ordinals, steps[s].count, vectors, &err);
      bool failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      if (!failed) break;
      failures++;
      assert_int_equal(err.status, RAG_RESOURCE_EXHAUSTED);
      assert_rows(index, expected);
      assert_int_equal(rag_index_memory_bytes(index), bytes);
    }
    assert_int_equal(steps[s].removal ? rag_bitmap_andnot(expected, set, &after) : rag_bitmap_or(expected, set, &after),
                     RAG_OK);
    rag_ref_drop(expected);
    rag_ref_drop(set);
    expected = after;
    assert_rows(index, expected);
  }
  assert_true(failures > RAG_COUNT_OF(steps) * 2);
  rag_ref_drop(expected);
  rag_index_destroy(index);
}

static void test_search_allocates_nothing(void **state) {
  (void)state;
  rag_index *index = NULL;
  rag_index_options options = {.dimension = DIMENSION, .metric = RAG_METRIC_L2};
  assert_int_equal(rag_index_create(&options, &index, NULL), RAG_OK);
  uint32_t ordinals[64];
  float vectors[64 * DIMENSION];
  fill_rows(ordinals, vectors, 0, 64);
  assert_int_equal(rag_index_append(index, ordinals, 64, vectors, NULL), RAG_OK);
  rag_index_hit hits[64];
  uint32_t count = 0;
  rag_index_query query = {.vector = vectors, .k = 64};
  rag_alloc_fail_after(1);
  rag_index_view *view = rag_index_pin(index);
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, NULL), RAG_OK);
  assert_false(rag_alloc_has_failed());
  rag_alloc_fail_after(0);
  assert_int_equal(count, 64);
  rag_ref_drop(view);
  rag_index_destroy(index);
}

static void test_memory_bound(void **state) {
  (void)state;
  const uint64_t bound = 3u << 20;
  rag_index *index = NULL;
  rag_index_options options = {.dimension = DIMENSION, .metric = RAG_METRIC_IP, .memory_bytes_max = bound};
  assert_int_equal(rag_index_create(&options, &index, NULL), RAG_OK);
  uint32_t ordinals[64], next = 0;
  float vectors[64 * DIMENSION];
  rag_error err = {0};
  rag_status status;
  for (;;) {
    fill_rows(ordinals, vectors, next, 64);
    status = rag_index_append(index, ordinals, 64, vectors, &err);
    assert_true(rag_index_memory_bytes(index) <= bound);
    if (status != RAG_OK) break;
    next += 64;
    assert_true(next < 100000);
  }
  assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
  assert_non_null(strstr(err.message, "3145728"));
  // What was there stays, and most of the bound holds rows: 4 blocks of 652 KiB with their codes.
  assert_int_equal(next, 4 * 1024);
  assert_true(rag_index_memory_bytes(index) >= (uint64_t)next * DIMENSION * sizeof(float));
  rag_bitmap *all = range(0, next), *half = range(0, 512), *block = range(0, 1024), *rest = NULL;
  assert_rows(index, all);
  // Half a block gives nothing back; the whole of it does, but only once no view needs it.
  uint64_t full = rag_index_memory_bytes(index);
  rag_index_view *pinned = rag_index_pin(index);
  assert_int_equal(rag_index_remove(index, half, &err), RAG_OK);
  assert_int_equal(rag_index_memory_bytes(index), full);
  assert_int_equal(rag_index_remove(index, block, &err), RAG_OK);
  assert_true(rag_index_memory_bytes(index) >= full);
  assert_int_equal(rag_index_append(index, ordinals, 64, vectors, &err), RAG_RESOURCE_EXHAUSTED);
  rag_ref_drop(pinned);
  assert_true(rag_index_memory_bytes(index) <= full - 1024u * DIMENSION * sizeof(float));
  assert_int_equal(rag_index_append(index, ordinals, 64, vectors, &err), RAG_OK);
  assert_true(rag_index_memory_bytes(index) <= bound);
  assert_int_equal(rag_index_remove(index, all, &err), RAG_OK);
  rest = range(next, 64);
  assert_rows(index, rest);
  assert_int_equal(rag_index_remove(index, rest, &err), RAG_OK);
  assert_int_equal(rag_index_memory_bytes(index), 0);
  rag_ref_drop(all);
  rag_ref_drop(half);
  rag_ref_drop(block);
  rag_ref_drop(rest);
  rag_index_destroy(index);
}

static void test_deadline(void **state) {
  (void)state;
  enum { WIDE = 512, ROWS = 20000 };
  rag_index *index = NULL;
  rag_index_options options = {.dimension = WIDE, .metric = RAG_METRIC_IP};
  assert_int_equal(rag_index_create(&options, &index, NULL), RAG_OK);
  uint32_t *ordinals = rag_calloc(ROWS, sizeof(uint32_t));
  float *vectors = rag_calloc((size_t)ROWS * WIDE, sizeof(float));
  assert_true(ordinals && vectors);
  for (uint32_t i = 0; i < ROWS; i++) ordinals[i] = i;
  assert_int_equal(rag_index_append(index, ordinals, ROWS, vectors, NULL), RAG_OK);
  rag_index_view *view = rag_index_pin(index);
  rag_index_hit hits[10];
  uint32_t count = 99;
  rag_error err = {0};
  rag_index_query query = {.vector = vectors, .k = 10, .deadline_ns = 1};
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, &err), RAG_DEADLINE_EXCEEDED);
  assert_int_equal(count, 99);
  assert_int_equal(err.status, RAG_DEADLINE_EXCEEDED);
  query.deadline_ns = rag_clock_monotonic_ns() + 3600ull * 1000000000;
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, &err), RAG_OK);
  assert_int_equal(count, 10);
  // A search that begins in time is stopped in the middle: the deadline is half of the fastest scan away. Once is
  // enough, so a machine that is slow or busy cannot make this fail.
  uint64_t fastest = UINT64_MAX;
  query.deadline_ns = 0;
  for (int i = 0; i < 10; i++) {
    uint64_t start = rag_clock_monotonic_ns();
    assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, &err), RAG_OK);
    fastest = RAG_MIN(fastest, rag_clock_monotonic_ns() - start);
  }
  bool stopped_inside = false;
  for (int i = 0; i < 20 && !stopped_inside; i++) {
    query.deadline_ns = rag_clock_monotonic_ns() + fastest / 2;
    stopped_inside = rag_index_search(view, &query, hits, &count, NULL, &err) == RAG_DEADLINE_EXCEEDED;
  }
  assert_true(stopped_inside);
  rag_ref_drop(view);
  rag_index_destroy(index);
  rag_free(ordinals);
  rag_free(vectors);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_failed_allocation_changes_nothing),
      cmocka_unit_test(test_search_allocates_nothing),
      cmocka_unit_test(test_memory_bound),
      cmocka_unit_test(test_deadline),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
