// Goal: queries that share a scan get what each would have got alone, whatever filters, lists, views and deadlines they
// come with; and nobody waits for ever.
// Method: many threads ask an index that lets one scan at a time, over two views; every answer is compared with the one
// that `exact` gives alone. Some queries have no time left and must say so, without harm to those they scan with.
#include "index_testing.h"

#include "index/index_internal.h"

#include <pthread.h>

#define DIMENSION 64u
#define ROWS 70000u // 4.5 MB of codes: long enough to be shared
#define THREADS 10u
#define SEARCHES 40u
#define K_MAX 50u

static rag_index *index_;
static rag_index_view *views[2];
static rag_bitmap *filters[4]; // the first one NULL
static _Atomic uint32_t wrong, too_late;

static rag_bitmap *some_rows(uint32_t kind) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  uint64_t random = 5;
  assert_non_null(edit);
  for (uint32_t o = 0; o < ROWS; o++) {
    bool in = kind == 1 ? random_below(&random, 2) == 0 : kind == 2 ? o > ROWS / 3 : random_below(&random, 90) == 0;
    if (in) assert_int_equal(rag_bitmap_edit_add(edit, o), RAG_OK);
  }
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

static void *ask(void *arg) {
  uint64_t random = (uint64_t)(uintptr_t)arg;
  for (uint32_t n = 0; n < SEARCHES; n++) {
    float vector[DIMENSION];
    for (uint32_t i = 0; i < DIMENSION; i++) vector[i] = random_unit(&random);
    const rag_index_view *view = views[random_below(&random, 8) == 0];
    rag_index_query query = {.vector = vector, .k = 1 + random_below(&random, K_MAX), .filter = filters[n % 4]};
    rag_index_hit got[K_MAX], want[K_MAX];
    uint32_t got_count = 0, want_count = 0;
    rag_error err = {0};
    bool late = random_below(&random, 10) == 0;
    // The clock is looked at before the scan too; this deadline mostly passes while the query waits or is scanned.
    if (late) query.deadline_ns = rag_clock_monotonic_ns() + 50000;
    rag_status status = rag_index_search(view, &query, got, &got_count, NULL, &err);
    if (late && status == RAG_DEADLINE_EXCEEDED) {
      atomic_fetch_add(&too_late, 1);
      continue;
    }
    query.deadline_ns = 0;
    query.exact = true;
    bool same = status == RAG_OK && rag_index_search(view, &query, want, &want_count, NULL, NULL) == RAG_OK;
    same = same && got_count == want_count;
    for (uint32_t i = 0; same && i < got_count; i++)
      same = got[i].ordinal == want[i].ordinal && memcmp(&got[i].score, &want[i].score, sizeof got[i].score) == 0;
    if (!same) atomic_fetch_add(&wrong, 1);
  }
  return NULL;
}

static void test_shared_scans(void **state) {
  RAG_UNUSED(state);
  rag_index_options options = {.dimension = DIMENSION, .metric = RAG_METRIC_L2, .engine = "flat"};
  assert_int_equal(rag_index_create(&options, &index_, NULL), RAG_OK);
  uint64_t random = 3;
  uint32_t *ordinals = rag_alloc(ROWS * sizeof *ordinals);
  float *vectors = rag_alloc((size_t)ROWS * DIMENSION * sizeof *vectors);
  assert_true(ordinals && vectors);
  for (uint32_t o = 0; o < ROWS; o++) ordinals[o] = o;
  for (size_t i = 0; i < (size_t)ROWS * DIMENSION; i++) vectors[i] = random_unit(&random);
  uint32_t before = ROWS - 500;
  assert_int_equal(rag_index_append(index_, ordinals, before, vectors, NULL), RAG_OK);
  views[0] = rag_index_pin(index_);
  assert_int_equal(rag_index_append(index_, ordinals + before, 500, vectors + (size_t)before * DIMENSION, NULL),
                   RAG_OK);
  views[1] = rag_index_pin(index_);
  for (uint32_t i = 1; i < 4; i++) filters[i] = some_rows(i);
  views[0]->shared->gate.limit = 1;

  pthread_t threads[THREADS];
  for (uint32_t i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, ask, (void *)(uintptr_t)(100 + i)), 0);
  for (uint32_t i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  assert_int_equal(wrong, 0);
  const flat_gate *gate = &views[0]->shared->gate;
  if (getenv("RAGD_TEST_VERBOSE"))
    printf("%llu of %u led, %u too late\n", (unsigned long long)gate->led, THREADS * SEARCHES, too_late);
  assert_true(gate->led > THREADS); // ten ask at once, and one scans at a time
  assert_true(too_late > 0);
  assert_int_equal(gate->scanning, 0);
  assert_null(gate->waiting);

  for (uint32_t i = 0; i < 2; i++) rag_ref_drop(views[i]);
  for (uint32_t i = 1; i < 4; i++) rag_ref_drop(filters[i]);
  rag_index_destroy(index_);
  rag_free(ordinals);
  rag_free(vectors);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_shared_scans)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
