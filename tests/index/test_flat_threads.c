// Goal: readers search while one writer appends, removes and brings rows back; no reader waits, sees half a row, or
// sees a set of rows that was never published.
//
// Method: row o holds (o, generation of o) in every component, a function that a reader can check on each hit, and the
// writer publishes whole batches, so that the number of rows of any view is a multiple of the batch. Runs under
// ThreadSanitizer too, which sees what the checks do not.
#include "index_testing.h"

#include <pthread.h>
#include <sched.h>

#define DIMENSION 24u
#define BATCH 50u // not a divisor of a block: batches share blocks
#define BATCHES 120u
#define ROUNDS 3u
#define READERS 3u

static rag_index *shared_index;
static _Atomic bool done;
static _Atomic uint64_t searches_done; // the writer waits for it to grow, so that both really run at once

static void fill(uint32_t *ordinals, float *vectors, uint32_t batch, uint32_t generation) {
  for (uint32_t i = 0; i < BATCH; i++) {
    ordinals[i] = batch * BATCH + i;
    for (uint32_t j = 0; j < DIMENSION; j++) {
      vectors[(size_t)i * DIMENSION + j] = (float)(ordinals[i] * (ROUNDS + 1) + generation);
    }
  }
}

static void *read_until_done(void *arg) {
  uint64_t random = (uint64_t)(uintptr_t)arg;
  do {
    rag_index_view *view = rag_index_pin(shared_index);
    RAG_ASSERT(rag_index_view_rows(view) % BATCH == 0);
    float query[DIMENSION] = {0};
    query[0] = 1; // the score of a row is its first component
    rag_index_hit hits[60];
    uint32_t count = 0;
    rag_index_query request = {.vector = query, .k = 1 + random_below(&random, 60)};
    RAG_ASSERT(rag_index_search(view, &request, hits, &count, NULL, NULL) == RAG_OK);
    RAG_ASSERT(count == RAG_MIN(rag_index_view_rows(view), request.k));
    for (uint32_t i = 0; i < count; i++) {
      const float *row = rag_index_view_vector(view, hits[i].ordinal, NULL);
      RAG_ASSERT(row && row[0] == hits[i].score);
      RAG_ASSERT((uint32_t)row[0] / (ROUNDS + 1) == hits[i].ordinal);
      for (uint32_t j = 1; j < DIMENSION; j++) RAG_ASSERT(row[j] == row[0]);
      RAG_ASSERT(i == 0 || hits[i].ordinal < hits[i - 1].ordinal);
    }
    rag_ref_drop(view);
    atomic_fetch_add(&searches_done, 1);
  } while (!atomic_load(&done));
  return NULL;
}

static void remove_batches(uint32_t first, uint32_t count) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  assert_non_null(edit);
  assert_int_equal(rag_bitmap_edit_add_range(edit, first * BATCH, count * BATCH), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  assert_int_equal(rag_index_remove(shared_index, set, NULL), RAG_OK);
  rag_ref_drop(set);
}

static void let_readers_run(void) {
  uint64_t before = atomic_load(&searches_done);
  while (atomic_load(&searches_done) < before + 2 * READERS) sched_yield();
}

static void test_readers_never_see_half_a_write(void **state) {
  (void)state;
  rag_index_options options = {.dimension = DIMENSION, .metric = RAG_METRIC_IP};
  assert_int_equal(rag_index_create(&options, &shared_index, NULL), RAG_OK);
  pthread_t readers[READERS];
  for (uintptr_t i = 0; i < READERS; i++) {
    assert_int_equal(pthread_create(&readers[i], NULL, read_until_done, (void *)(i + 1)), 0);
  }
  uint32_t ordinals[BATCH];
  float vectors[BATCH * DIMENSION];
  for (uint32_t round = 0; round < ROUNDS; round++) {
    for (uint32_t batch = 0; batch < BATCHES; batch++) {
      fill(ordinals, vectors, batch, round);
      assert_int_equal(rag_index_append(shared_index, ordinals, BATCH, vectors, NULL), RAG_OK);
      if (batch % 4 == 3) let_readers_run();
      if (batch % 16 == 15) { // take the last batches back and write them again in the slots that readers may be on
        remove_batches(batch - 3, 3);
        for (uint32_t again = batch - 3; again < batch; again++) {
          fill(ordinals, vectors, again, round + 1);
          assert_int_equal(rag_index_append(shared_index, ordinals, BATCH, vectors, NULL), RAG_OK);
        }
      }
    }
    if (round + 1 < ROUNDS) remove_batches(0, BATCHES);
  }
  atomic_store(&done, true);
  for (unsigned i = 0; i < READERS; i++) assert_int_equal(pthread_join(readers[i], NULL), 0);
  rag_index_view *view = rag_index_pin(shared_index);
  assert_int_equal(rag_index_view_rows(view), BATCH * BATCHES);
  rag_index_destroy(shared_index); // the view holds
  assert_non_null(rag_index_view_vector(view, 0, NULL));
  rag_ref_drop(view);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_readers_never_see_half_a_write)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
