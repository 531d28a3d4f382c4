// Goal: readers ask while one writer appends, merges and removes; no reader waits, and each finds exactly what the view
// that it pinned has.
//
// Method: rows whose values are a function of their ordinal, so that a reader knows every answer from the rows of its
// view alone; batches of one row and of many, over the end of a block; removals and rows that come back. Runs under
// ThreadSanitizer too.
#include "fields_testing.h"

#include <pthread.h>
#include <sched.h>

#define FIRST 60000u // so that the second block begins within
#define ROWS 9000u
#define READERS 3u

static rag_fields *fields;
static _Atomic bool done;
static _Atomic uint64_t asked;

// Row o has "m<m>" for each of these that divides it, the integer o, and the mark 1 where it is odd.
static const uint32_t moduli[] = {1, 2, 3, 50, 1500};

static void add(rag_fields_batch *batch, uint32_t ordinal) {
  char text[16];
  uint32_t names = rag_fields_batch_path(batch, rag_slice_str("names"));
  uint32_t number = rag_fields_batch_path(batch, rag_slice_str("number"));
  rag_fields_batch_row(batch, ordinal);
  for (uint32_t m = 0; m < RAG_COUNT_OF(moduli); m++) {
    if (ordinal % moduli[m] != 0) continue;
    snprintf(text, sizeof text, "m%u", moduli[m]);
    rag_fields_batch_string(batch, names, rag_slice_str(text));
  }
  rag_fields_batch_int(batch, number, ordinal);
  if (ordinal % 2) rag_fields_batch_mark(batch, number, 1);
}

static void append(uint32_t first, uint32_t count) {
  rag_fields_batch *batch = NULL;
  assert_int_equal(rag_fields_batch_create(fields, &batch, NULL), RAG_OK);
  for (uint32_t i = 0; i < count; i++) add(batch, first + i);
  assert_int_equal(rag_fields_append(fields, batch, NULL), RAG_OK);
  rag_fields_batch_destroy(batch);
}

static void check_view(const rag_fields_view *view, uint64_t *random) {
  uint64_t present[WORDS], words[WORDS], rows = 0;
  for (uint32_t block = 0; block < rag_fields_view_blocks(view); block++) {
    uint32_t modulus = moduli[random_below(random, RAG_COUNT_OF(moduli))], kind = random_below(random, 3);
    int64_t low = FIRST + random_below(random, ROWS), high = low + random_below(random, ROWS);
    char text[16];
    snprintf(text, sizeof text, "m%u", modulus);
    rag_slice string = rag_slice_str(text);
    rag_fields_range range = {.has_low = true, .has_high = true, .low = (double)low, .high = (double)high};
    memset(present, 0, sizeof present);
    memset(words, 0, sizeof words);
    rag_fields_block_present(view, block, present);
    if (kind == 0) rag_fields_block_strings(view, block, rag_slice_str("names"), &string, 1, false, words);
    if (kind == 1) rag_fields_block_numbers(view, block, rag_slice_str("number"), &range, words);
    if (kind == 2) rag_fields_block_marked(view, block, rag_slice_str("number"), 1, words);
    for (uint32_t bit = 0; bit < RAG_BITMAP_BLOCK_BITS; bit++) {
      uint32_t o = block * RAG_BITMAP_BLOCK_BITS + bit;
      bool holds = kind == 0 ? o % modulus == 0 : kind == 1 ? o >= low && o <= high : o % 2 == 1;
      RAG_ASSERT(words_have(words, bit) == (words_have(present, bit) && holds));
      rows += words_have(present, bit);
    }
  }
  RAG_ASSERT(rows == rag_fields_view_rows(view));
}

static void *read_until_done(void *arg) {
  uint64_t random = (uint64_t)(uintptr_t)arg;
  do {
    rag_fields_view *view = rag_fields_pin(fields);
    check_view(view, &random);
    rag_ref_drop(view);
    atomic_fetch_add(&asked, 1);
  } while (!atomic_load(&done));
  return NULL;
}

static void let_readers_run(void) {
  uint64_t before = atomic_load(&asked);
  while (atomic_load(&asked) < before + READERS) sched_yield();
}

static void test_readers_find_what_their_view_has(void **state) {
  (void)state;
  uint64_t random = 5;
  assert_int_equal(rag_fields_create(&(rag_fields_options){0}, &fields, NULL), RAG_OK);
  pthread_t readers[READERS];
  for (uintptr_t i = 0; i < READERS; i++)
    assert_int_equal(pthread_create(&readers[i], NULL, read_until_done, (void *)(i + 1)), 0);
  for (uint32_t at = 0, step = 0; at < ROWS; step++) {
    uint32_t count = random_below(&random, 4) > 0 ? 1 : 1 + random_below(&random, 300);
    count = RAG_MIN(count, ROWS - at);
    append(FIRST + at, count);
    at += count;
    if (step % 16 == 15) let_readers_run();
    if (step % 64 == 63 && at > 100) {
      rag_bitmap *gone = bitmap_of_range(FIRST + at - 100, 50);
      assert_int_equal(rag_fields_remove(fields, gone, NULL), RAG_OK);
      let_readers_run();
      append(FIRST + at - 100, 50);
      rag_ref_drop(gone);
    }
  }
  let_readers_run();
  atomic_store(&done, true);
  for (unsigned i = 0; i < READERS; i++) assert_int_equal(pthread_join(readers[i], NULL), 0);
  rag_fields_stats stats;
  assert_int_equal(rag_fields_stats_get(fields, &stats, NULL), RAG_OK);
  assert_true(stats.rows == ROWS && stats.merges > 10);
  rag_fields_destroy(fields);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_readers_find_what_their_view_has)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
