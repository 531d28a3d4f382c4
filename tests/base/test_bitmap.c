// Goal: bitmaps are sets, successors share what they did not change, nobody's bitmap ever changes, and running out of
// memory at any allocation leaves everything usable.
// Method: random edits and set algebra against a naive model (seed printed; RAGD_TEST_SEED repeats it); sharing is
// checked by the blocks' addresses; every allocation of an edit and of the algebra is failed in turn; threads edit and
// drop successors of one bitmap for the race detector.
#include "bitmap_model.h"

#include <pthread.h>
#include <setjmp.h>

#include <cmocka.h>

static model models[3];

static rag_bitmap *bitmap_of_range(uint32_t first, uint32_t count) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *bitmap = NULL;
  assert_int_equal(rag_bitmap_edit_add_range(edit, first, count), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &bitmap), RAG_OK);
  return bitmap;
}

static void empty_and_the_last_ordinal(void **state) {
  RAG_UNUSED(state);
  rag_bitmap *empty = rag_bitmap_empty(), *last = bitmap_of_range(UINT32_MAX, 1);
  uint32_t next = 7;
  assert_int_equal(rag_bitmap_count(empty), 0);
  assert_int_equal(rag_bitmap_block_count(empty), 0);
  assert_false(rag_bitmap_has(empty, 0));
  assert_false(rag_bitmap_next(empty, 0, &next));
  assert_int_equal(next, 7);
  assert_true(rag_bitmap_has(last, UINT32_MAX));
  assert_int_equal(rag_bitmap_block_count(last), 65536);
  assert_true(rag_bitmap_next(last, 0, &next) && next == UINT32_MAX);
  assert_true(rag_bitmap_next(last, UINT32_MAX, &next) && next == UINT32_MAX);
  assert_false(rag_bitmap_equal(empty, last));

  rag_bitmap_edit *edit = rag_bitmap_edit_create(last);
  assert_int_equal(rag_bitmap_edit_add_range(edit, UINT32_MAX, 2), RAG_OUT_OF_RANGE);
  assert_int_equal(rag_bitmap_edit_remove_range(edit, 1, UINT32_MAX), RAG_OK); // up to the last one
  assert_int_equal(rag_bitmap_edit_remove_range(edit, 2, UINT32_MAX), RAG_OUT_OF_RANGE);
  assert_int_equal(rag_bitmap_edit_add_range(edit, 5, 0), RAG_OK);
  rag_bitmap *none = NULL;
  assert_int_equal(rag_bitmap_edit_finish(edit, &none), RAG_OK);
  assert_true(rag_bitmap_equal(none, empty));
  assert_int_equal(rag_bitmap_block_count(none), 0);
  rag_ref_drop(none);
  rag_ref_drop(last);

  rag_bitmap *all = bitmap_of_range(0, UINT32_MAX); // all but the last: 65,535 shared full blocks and one of our own
  assert_int_equal(rag_bitmap_count(all), UINT32_MAX);
  assert_ptr_equal(rag_bitmap_block(all, 0, NULL), rag_bitmap_block(all, 65534, NULL));
  assert_false(rag_bitmap_has(all, UINT32_MAX));
  assert_false(rag_bitmap_next(all, UINT32_MAX, &next));
  rag_ref_drop(all);
  rag_ref_drop(empty);
}

static void random_edits_match_the_model(void **state) {
  RAG_UNUSED(state);
  for (int round = 0; round < 12; round++) {
    rag_bitmap *bitmap = random_bitmap(&models[0], random_below(20));
    assert_is_model(bitmap, &models[0]);
    for (int version = 0; version < 4; version++) {
      models[1] = models[0];
      rag_bitmap_edit *edit = rag_bitmap_edit_create(bitmap);
      for (uint32_t i = random_below(30); i > 0; i--) assert_int_equal(random_edit(edit, &models[1]), RAG_OK);
      for (int probe = 0; probe < 200; probe++) {
        uint32_t value = random_ordinal();
        assert_int_equal(rag_bitmap_edit_has(edit, value), models[1].has[value]);
      }
      rag_bitmap *successor = NULL;
      assert_int_equal(rag_bitmap_edit_finish(edit, &successor), RAG_OK);
      assert_is_model(bitmap, &models[0]); // the base is as it was
      assert_is_model(successor, &models[1]);
      assert_int_equal(rag_bitmap_equal(bitmap, successor), memcmp(&models[0], &models[1], sizeof(model)) == 0);
      rag_ref_drop(bitmap);
      bitmap = successor; // lives on without its base
      models[0] = models[1];
    }
    rag_ref_drop(bitmap);
  }
}

typedef rag_status (*algebra_fn)(const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out);
static const algebra_fn algebra[] = {rag_bitmap_and, rag_bitmap_or, rag_bitmap_andnot};

static uint8_t model_op(size_t op, uint8_t a, uint8_t b) {
  return op == 0 ? (a & b) : op == 1 ? (a | b) : (uint8_t)(a & (b ^ 1));
}

static rag_status edit_op(size_t op, const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(a);
  if (!edit) return RAG_RESOURCE_EXHAUSTED;
  rag_status status = op == 1 ? rag_bitmap_edit_or(edit, b) : rag_bitmap_edit_andnot(edit, b);
  if (status == RAG_OK) return rag_bitmap_edit_finish(edit, out);
  rag_bitmap_edit_destroy(edit);
  return status;
}

static void random_algebra_matches_the_model(void **state) {
  RAG_UNUSED(state);
  for (int round = 0; round < 25; round++) {
    rag_bitmap *a = random_bitmap(&models[0], random_below(10)), *b;
    if (round % 2) { // related bitmaps share blocks
      models[1] = models[0];
      rag_bitmap_edit *edit = rag_bitmap_edit_create(a);
      for (uint32_t i = random_below(4); i > 0; i--) assert_int_equal(random_edit(edit, &models[1]), RAG_OK);
      assert_int_equal(rag_bitmap_edit_finish(edit, &b), RAG_OK);
    } else {
      b = random_bitmap(&models[1], random_below(10));
    }
    for (size_t op = 0; op < RAG_COUNT_OF(algebra); op++) {
      for (uint32_t i = 0; i < UNIVERSE; i++) models[2].has[i] = model_op(op, models[0].has[i], models[1].has[i]);
      rag_bitmap *result = NULL;
      assert_int_equal(algebra[op](a, b, &result), RAG_OK);
      assert_is_model(result, &models[2]);
      if (op == 0) assert_int_equal(rag_bitmap_and_count(a, b), rag_bitmap_count(result));
      if (op > 0) {
        rag_bitmap *edited = NULL;
        assert_int_equal(edit_op(op, a, b, &edited), RAG_OK);
        assert_true(rag_bitmap_equal(edited, result) && rag_bitmap_equal(result, edited));
        rag_ref_drop(edited);
      }
      rag_ref_drop(result);
    }
    assert_is_model(a, &models[0]);
    assert_is_model(b, &models[1]);
    rag_ref_drop(a);
    rag_ref_drop(b);
  }
}

static void successors_share_untouched_blocks(void **state) {
  RAG_UNUSED(state);
  rag_bitmap *base = random_bitmap(&models[0], 0), *next = NULL, *result = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(base);
  for (uint32_t b = 0; b < 4; b++) assert_int_equal(rag_bitmap_edit_add(edit, b * RAG_BITMAP_BLOCK_BITS + 5), RAG_OK);
  rag_ref_drop(base);
  assert_int_equal(rag_bitmap_edit_finish(edit, &base), RAG_OK);

  edit = rag_bitmap_edit_create(base);
  assert_int_equal(rag_bitmap_edit_remove(edit, RAG_BITMAP_BLOCK_BITS + 5), RAG_OK);
  assert_int_equal(rag_bitmap_edit_add(edit, 5), RAG_OK); // there already: copies nothing
  assert_int_equal(rag_bitmap_edit_finish(edit, &next), RAG_OK);
  for (uint32_t b = 0; b < 4; b++)
    assert_int_equal(rag_bitmap_block(base, b, NULL) == rag_bitmap_block(next, b, NULL), b != 1);

  assert_int_equal(rag_bitmap_and(base, next, &result), RAG_OK); // next is a subset of base: nothing new at all
  for (uint32_t b = 0; b < 4; b++) assert_ptr_equal(rag_bitmap_block(result, b, NULL), rag_bitmap_block(next, b, NULL));
  rag_ref_drop(result);
  assert_int_equal(rag_bitmap_or(base, next, &result), RAG_OK);
  for (uint32_t b = 0; b < 4; b++) assert_ptr_equal(rag_bitmap_block(result, b, NULL), rag_bitmap_block(base, b, NULL));
  rag_ref_drop(result);
  assert_int_equal(rag_bitmap_andnot(base, next, &result), RAG_OK); // what a diff does
  assert_int_equal(rag_bitmap_count(result), 1);
  assert_true(rag_bitmap_has(result, RAG_BITMAP_BLOCK_BITS + 5));
  rag_ref_drop(result);

  edit = rag_bitmap_edit_create(NULL); // a block that fills up one by one becomes the shared one
  for (uint32_t i = 0; i < RAG_BITMAP_BLOCK_BITS; i++) assert_int_equal(rag_bitmap_edit_add(edit, i), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &result), RAG_OK);
  rag_bitmap *range = bitmap_of_range(0, RAG_BITMAP_BLOCK_BITS);
  assert_ptr_equal(rag_bitmap_block(result, 0, NULL), rag_bitmap_block(range, 0, NULL));
  assert_true(rag_bitmap_equal(result, range));
  edit = rag_bitmap_edit_create(range); // and is not written to
  assert_int_equal(rag_bitmap_edit_remove(edit, 77), RAG_OK);
  assert_false(rag_bitmap_edit_has(edit, 77));
  assert_true(rag_bitmap_has(result, 77));
  rag_bitmap_edit_destroy(edit);
  rag_ref_drop(range);
  rag_ref_drop(result);
  rag_ref_drop(next);
  rag_ref_drop(base);
  rag_bitmap_edit_destroy(NULL);
}

// Fails the Nth allocation for every N until a whole run needs fewer. After a failure the edit must still be a set: it
// is finished and read, in full.
static void edits_survive_every_failed_allocation(void **state) {
  RAG_UNUSED(state);
  rag_bitmap *base = random_bitmap(&models[0], 8), *other = random_bitmap(&models[1], 8);
  uint64_t seed = random_state;
  unsigned failures = 0;
  for (uint64_t n = 1;; n++) {
    random_state = seed;
    models[2] = models[0];
    rag_bitmap *result = NULL;
    rag_alloc_fail_after(n);
    rag_bitmap_edit *edit = rag_bitmap_edit_create(base);
    rag_status status = edit ? RAG_OK : RAG_RESOURCE_EXHAUSTED;
    for (int i = 0; i < 12 && status == RAG_OK; i++) status = random_edit(edit, &models[2]);
    if (status == RAG_OK) status = rag_bitmap_edit_or(edit, other);
    if (status == RAG_OK) status = rag_bitmap_edit_add(edit, 40 * RAG_BITMAP_BLOCK_BITS); // the spine grows
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    if (edit) {
      assert_int_equal(rag_bitmap_edit_finish(edit, &result), RAG_OK);
      uint64_t count = 0;
      for (uint32_t at = 0; rag_bitmap_next(result, at, &at); at++, count++) assert_true(rag_bitmap_has(result, at));
      assert_int_equal(rag_bitmap_count(result), count);
      rag_ref_drop(result);
    }
    if (!failed) break;
    failures++;
  }
  assert_true(failures > 5);
  assert_is_model(base, &models[0]);
  assert_is_model(other, &models[1]);

  for (size_t op = 0; op < RAG_COUNT_OF(algebra); op++) {
    for (uint64_t n = 1;; n++) {
      rag_bitmap *result = NULL;
      rag_alloc_fail_after(n);
      rag_status status = algebra[op](base, other, &result);
      bool failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      assert_int_equal(result == NULL, failed);
      rag_ref_drop(result);
      if (!failed) break;
    }
  }
  rag_alloc_fail_after(1);
  assert_null(rag_bitmap_empty());
  rag_alloc_fail_after(0);
  assert_is_model(base, &models[0]);
  rag_ref_drop(base);
  rag_ref_drop(other);
}

typedef struct shared {
  rag_bitmap *base;
  rag_cell cell;
  uint64_t base_count;
  _Atomic bool wrong;
} shared;

static void *edit_and_drop(void *arg) {
  shared *s = arg;
  for (uint32_t i = 0; i < 400; i++) {
    rag_bitmap *current = rag_cell_get(&s->cell), *next = NULL, *both = NULL;
    rag_bitmap_edit *edit = rag_bitmap_edit_create(i % 2 ? s->base : current);
    rag_status status = rag_bitmap_edit_add(edit, i * 601 % UNIVERSE);
    if (status == RAG_OK) status = rag_bitmap_edit_remove(edit, i * 67 % UNIVERSE);
    if (rag_bitmap_edit_finish(edit, &next) != RAG_OK || status != RAG_OK) abort();
    if (rag_bitmap_and(s->base, next, &both) != RAG_OK) abort();
    if (rag_bitmap_count(both) > s->base_count || rag_bitmap_count(s->base) != s->base_count)
      atomic_store(&s->wrong, true);
    if (rag_bitmap_and_count(s->base, current) > s->base_count) atomic_store(&s->wrong, true);
    rag_ref_drop(both);
    rag_cell_set(&s->cell, next);
    rag_ref_drop(current);
  }
  return NULL;
}

static void threads_share_blocks(void **state) {
  RAG_UNUSED(state);
  shared s = {.base = random_bitmap(&models[0], 6)};
  pthread_t threads[4];
  s.base_count = rag_bitmap_count(s.base);
  rag_cell_init(&s.cell, rag_ref_take(s.base));
  for (size_t i = 0; i < RAG_COUNT_OF(threads); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, edit_and_drop, &s), 0);
  for (size_t i = 0; i < RAG_COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
  assert_false(atomic_load(&s.wrong));
  assert_is_model(s.base, &models[0]);
  rag_cell_set(&s.cell, NULL);
  rag_ref_drop(s.base);
}

typedef struct owner {
  rag_bitmap *bitmap;
  uint64_t sum;
} owner;

// Reads the shared block, and then lets go of it: by dropping its bitmap, or by writing to it as its only owner.
static void *read_and_let_go(void *arg) {
  owner *o = arg;
  const uint64_t *words = rag_bitmap_block(o->bitmap, 0, NULL);
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) o->sum += words[w];
  rag_bitmap_edit *edit = rag_bitmap_edit_create(o->bitmap);
  rag_ref_drop(o->bitmap);
  if (!edit || rag_bitmap_edit_add(edit, 3) != RAG_OK) abort(); // copies, unless the other thread is gone already
  rag_bitmap_edit_destroy(edit);
  return NULL;
}

// Two threads that share a block and nothing else: its reference count alone orders their reads before the last one's
// write or free. A race detector has to see each round as ordered.
static void a_block_outlives_its_readers(void **state) {
  RAG_UNUSED(state);
  for (int round = 0; round < 200; round++) {
    owner owners[2];
    pthread_t threads[2];
    rag_bitmap *base = bitmap_of_range(5, 60000);
    uint64_t want = 0;
    for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) want += rag_bitmap_block(base, 0, NULL)[w];
    for (size_t i = 0; i < 2; i++) {
      rag_bitmap_edit *edit = rag_bitmap_edit_create(base);
      owners[i] = (owner){0};
      assert_int_equal(rag_bitmap_edit_finish(edit, &owners[i].bitmap), RAG_OK);
    }
    rag_ref_drop(base);
    for (size_t i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_and_let_go, &owners[i]), 0);
    for (size_t i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 2; i++) assert_true(owners[i].sum == want);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(empty_and_the_last_ordinal),
      cmocka_unit_test(random_edits_match_the_model),
      cmocka_unit_test(random_algebra_matches_the_model),
      cmocka_unit_test(successors_share_untouched_blocks),
      cmocka_unit_test(edits_survive_every_failed_allocation),
      cmocka_unit_test(threads_share_blocks),
      cmocka_unit_test(a_block_outlives_its_readers),
  };
  seed_random();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
