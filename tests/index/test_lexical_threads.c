// Goal: readers search while one writer appends, removes and brings rows back; no reader waits, and each finds exactly
// what the view that it pinned has, whatever the lists that all views share have come to hold meanwhile.
//
// Method: rows whose words are a function of their ordinal, so that a reader knows what every query must find from its
// view's bitmap alone; batches that seal blocks, outgrow tails, tables and arrays, and splice below earlier ordinals;
// versions that are derived from a shared one and whose document frequencies several readers fill at once. Runs under
// ThreadSanitizer too.
#include "lexical_testing.h"

#include <pthread.h>
#include <sched.h>

#define ROWS 6000u
#define BATCH 30u
#define READERS 3u
#define MODULI 7u
#define SORTED_TERMS 4096u

static rag_lexical *shared_index;
static _Atomic bool done;
static _Atomic uint64_t searches_done;
static const uint32_t moduli[MODULI] = {1, 2, 3, 5, 50, 500, 1500};

// Row o has the word "m<m>" for each m that divides it, "own<o>", and a filler.
static void append(uint32_t first, uint32_t count) {
  static char names[BATCH][MODULI + 2][16];
  static rag_slice slices[BATCH][MODULI + 2];
  rag_lexical_chunk chunks[BATCH];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t used = 0, ordinal = first + i;
    for (uint32_t m = 0; m < MODULI; m++) {
      if (ordinal % moduli[m] == 0) snprintf(names[i][used++], 16, "m%u", moduli[m]);
    }
    snprintf(names[i][used++], 16, "own%u", ordinal);
    for (uint32_t j = 0; j < used; j++) slices[i][j] = rag_slice_str(names[i][j]);
    chunks[i] = (rag_lexical_chunk){.ordinal = ordinal, .text = slices[i], .text_count = used};
  }
  assert_int_equal(rag_lexical_append(shared_index, chunks, count, NULL), RAG_OK);
}

static uint32_t expected(const rag_bitmap *present, uint32_t modulus) {
  uint32_t count = 0;
  for (uint32_t o = 0; rag_bitmap_next(present, o, &o); o++) count += o % modulus == 0;
  return count;
}

static void *read_until_done(void *arg) {
  uint64_t random = (uint64_t)(uintptr_t)arg;
  rag_lexical_version *parent = NULL;
  rag_lexical_hit *hits = malloc(RAG_INDEX_K_MAX * sizeof *hits);
  do {
    rag_lexical_view *view = rag_lexical_pin(shared_index);
    const rag_bitmap *present = rag_lexical_view_present(view);
    rag_lexical_version *version = NULL;
    RAG_ASSERT(rag_lexical_version_create(view, present, parent, &version, NULL) == RAG_OK);
    for (int i = 0; i < 3; i++) {
      uint32_t modulus = moduli[random_below(&random, MODULI)], other = random_below(&random, ROWS), count = 0;
      char names[2][16];
      snprintf(names[0], 16, "m%u", modulus);
      snprintf(names[1], 16, "own%u", other);
      rag_slice terms[2] = {rag_slice_str(names[0]), rag_slice_str(names[1])};
      rag_lexical_clause clauses[2] = {{.weight = 1, .term_count = 1, .terms = &terms[0]},
                                       {.weight = 1, .term_count = 1, .terms = &terms[1]}};
      rag_lexical_query query = {.clauses = clauses, .clause_count = 2, .k = RAG_INDEX_K_MAX};
      uint32_t want = expected(present, modulus);
      bool extra = rag_bitmap_has(present, other) && other % modulus != 0;
      RAG_ASSERT(rag_lexical_version_df(view, version, terms[0]) == want);
      RAG_ASSERT(rag_lexical_search(view, version, &query, hits, &count, NULL, NULL) == RAG_OK);
      RAG_ASSERT(count == want + extra);
      for (uint32_t j = 0; j < count; j++) {
        RAG_ASSERT(rag_bitmap_has(present, hits[j].ordinal));
        RAG_ASSERT(hits[j].ordinal % modulus == 0 || hits[j].ordinal == other);
      }
      clauses[1] = (rag_lexical_clause){.kind = RAG_LEXICAL_PREFIX, .weight = 1, .term_count = 1, .terms = &terms[1]};
      query.clauses = &clauses[1];
      query.clause_count = 1;
      terms[1] = rag_slice_str("own");
      RAG_ASSERT(rag_bitmap_count(present) > RAG_LEXICAL_PREFIX_TERMS_MAX ||
                 (rag_lexical_search(view, version, &query, hits, &count, NULL, NULL) == RAG_OK &&
                  count == rag_bitmap_count(present)));
    }
    if (!parent || random_below(&random, 8) == 0) {
      rag_ref_drop(parent);
      parent = rag_ref_take(version);
    }
    rag_ref_drop(version);
    rag_ref_drop(view);
    atomic_fetch_add(&searches_done, 1);
  } while (!atomic_load(&done));
  rag_ref_drop(parent);
  free(hits);
  return NULL;
}

static void let_readers_run(void) {
  uint64_t before = atomic_load(&searches_done);
  while (atomic_load(&searches_done) < before + READERS) sched_yield();
}

static void test_readers_find_what_their_view_has(void **state) {
  (void)state;
  rag_lexical_options options = {.title_weight = 1, .keep_sequences = true};
  assert_int_equal(rag_lexical_create(&options, &shared_index, NULL), RAG_OK);
  pthread_t readers[READERS];
  for (uintptr_t i = 0; i < READERS; i++) {
    assert_int_equal(pthread_create(&readers[i], NULL, read_until_done, (void *)(i + 1)), 0);
  }
  for (uint32_t batch = 0; batch < ROWS / BATCH; batch++) {
    uint32_t swapped = batch ^ (batch % 8 >= 6); // every eighth pair comes the other way round: splices
    if (swapped < ROWS / BATCH) append(swapped * BATCH, BATCH);
    if (batch % 8 == 7) let_readers_run();
    if (batch % 64 == 63) {
      rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
      rag_bitmap *set = NULL;
      assert_int_equal(rag_bitmap_edit_add_range(edit, (batch - 40) * BATCH, 20 * BATCH), RAG_OK);
      assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
      assert_int_equal(rag_lexical_remove(shared_index, set, NULL), RAG_OK);
      let_readers_run();
      for (uint32_t again = batch - 40; again < batch - 20; again++) append(again * BATCH, BATCH);
      rag_ref_drop(set);
    }
  }
  let_readers_run();
  atomic_store(&done, true);
  for (unsigned i = 0; i < READERS; i++) assert_int_equal(pthread_join(readers[i], NULL), 0);
  rag_lexical_stats stats;
  rag_lexical_stats_get(shared_index, &stats);
  assert_true(stats.rebuilds >= 1);
  assert_true(stats.terms >= SORTED_TERMS); // sorted runs were replaced under the readers
  rag_lexical_destroy(shared_index);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_readers_find_what_their_view_has)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
