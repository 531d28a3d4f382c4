// Goal: the chunks of a set of revisions are those of their rows, whatever order the rows came in and whatever stands
// between them. Tables that forget use the memory of what is left, lose nothing else, and free nothing that a reader has
// pinned. Method: random rows (runs of single chunks, runs of several, jumps, chunks that are used again, gaps, numbers
// given again) beside a plain union over single rows; random rows forgotten in random portions beside an array of what is
// alive; readers that look rows up while a writer adds and forgets (the sanitizers say what is wrong there).
#include "kb_test.h"

#include <pthread.h>

#include "kb/kb_internal.h"

static uint64_t state = 88172645463325252u;
static uint32_t below(uint32_t n) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state % n);
}

#define REVISIONS 9000u

static void check(rag_kb__tables *tables, const rag_kb__revision_row *rows, uint32_t percent) {
  rag_error err = {0};
  rag_bitmap_edit *chosen = rag_bitmap_edit_create(NULL), *wanted = rag_bitmap_edit_create(NULL);
  rag_bitmap *revisions = NULL, *expected = NULL, *got = NULL;
  for (uint32_t r = 1; r < REVISIONS; r++) {
    if (below(100) >= percent) continue;
    OK(rag_bitmap_edit_add(chosen, r));
    if (rows[r].content != 0) OK(rag_bitmap_edit_add_range(wanted, rows[r].first_chunk, rows[r].chunk_count));
  }
  OK(rag_bitmap_edit_finish(chosen, &revisions));
  OK(rag_bitmap_edit_finish(wanted, &expected));
  OK(rag_kb__tables_chunks_of(tables, revisions, &got, &err));
  assert_int_equal(rag_bitmap_count(got), rag_bitmap_count(expected));
  assert_true(rag_bitmap_equal(got, expected));
  rag_ref_drop(revisions);
  rag_ref_drop(expected);
  rag_ref_drop(got);
}

static void chunks_of_revisions(void **unused) {
  RAG_UNUSED(unused);
  rag_error err = {0};
  for (int round = 0; round < 60; round++) {
    rag_kb__tables tables;
    rag_kb__revision_row *rows = calloc(REVISIONS, sizeof *rows);
    uint32_t chunk = 1 + below(200), kind = 0;
    OK(rag_kb__tables_init(&tables, &err));
    for (uint32_t r = 1; r < REVISIONS; r++) {
      if (below(150) == 0) kind = below(5);
      uint32_t count = kind == 0 ? 1 : kind == 1 ? below(4) : kind == 2 ? 250 + below(12) : 1 + below(2);
      if (kind == 3 && below(4) == 0) continue; // a gap, filled below or never
      if (kind == 4 && below(3) == 0 && rows[r - 1].content != 0) {
        rows[r] = rows[r - 1]; // new metadata of the document before
      } else {
        rows[r] = (rag_kb__revision_row){r, chunk, count};
        chunk += count + (below(40) == 0 ? below(70000) : 0);
      }
      if (below(60) == 0) { // a write that failed: its number is given again
        rag_kb__revision_row stale = {r, chunk + 7, below(300)};
        OK(rag_kb__tables_set_revision(&tables, r, stale, &err));
      }
      OK(rag_kb__tables_set_revision(&tables, r, rows[r], &err));
      if (below(50) == 0) OK(rag_kb__tables_set_revision(&tables, r, rows[r], &err)); // alive again
    }
    static const uint32_t percents[] = {0, 1, 20, 90, 100};
    for (size_t i = 0; i < RAG_COUNT_OF(percents); i++) check(&tables, rows, percents[i]);
    for (uint32_t r = 1; r < REVISIONS; r++) { // a loader that comes after the commits
      if (rows[r].content != 0 || below(2) == 0) continue;
      rows[r] = (rag_kb__revision_row){r, chunk, 1 + below(3)};
      chunk += rows[r].chunk_count;
      OK(rag_kb__tables_set_revision(&tables, r, rows[r], &err));
    }
    for (size_t i = 0; i < RAG_COUNT_OF(percents); i++) check(&tables, rows, percents[i]);
    rag_kb__revision_row row;
    for (uint32_t r = 1; r < REVISIONS; r++)
      if (rag_kb__tables_revision(&tables, r, &row)) assert_memory_equal(&row, &rows[r], sizeof row);
      else assert_int_equal(rows[r].content, 0);
    rag_kb__tables_free(&tables);
    free(rows);
  }
}

// ---------------------------------------------------------------------------------------------- forgetting

#define FORGET_ROWS (5u * RAG_KB__TABLE_BLOCK)

static rag_kb__chunk_row chunk_row_of(uint32_t chunk) {
  return (rag_kb__chunk_row){chunk / 3 + 1, chunk, chunk + 7};
}

// Revision r consists of content r / 2 + 1, chunk r.
static rag_kb__revision_row revision_row_of(uint32_t revision) {
  return (rag_kb__revision_row){revision / 2 + 1, revision, 1};
}

static void set_both(rag_kb__tables *tables, uint32_t number) {
  rag_error err = {0};
  OK(rag_kb__tables_set_chunk(tables, number, chunk_row_of(number), &err));
  OK(rag_kb__tables_set_revision(tables, number, revision_row_of(number), &err));
}

static void forget_some(rag_kb__tables *tables, bool *alive, uint32_t percent) {
  rag_error err = {0};
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  uint32_t first = percent == 100 ? 0 : below(FORGET_ROWS), end = percent == 100 ? FORGET_ROWS : first + below(6000);
  for (uint32_t n = first; n < RAG_MIN(end, FORGET_ROWS); n++) {
    if (below(100) >= percent) continue;
    OK(rag_bitmap_edit_add(edit, n)); // now and then one that is gone already
    alive[n] = false;
  }
  OK(rag_bitmap_edit_finish(edit, &set));
  OK(rag_kb__tables_forget(tables, set, set, &err));
  rag_ref_drop(set);
}

static void check_alive(rag_kb__tables *tables, const bool *alive) {
  uint64_t most = 0;
  for (uint32_t block = 0; block < FORGET_ROWS / RAG_KB__TABLE_BLOCK; block++) {
    bool any = false;
    for (uint32_t n = block * RAG_KB__TABLE_BLOCK; n < (block + 1) * RAG_KB__TABLE_BLOCK; n++) {
      rag_kb__chunk_row chunk, chunk_wanted = chunk_row_of(n);
      rag_kb__revision_row revision, revision_wanted = revision_row_of(n);
      any |= alive[n];
      if (!alive[n]) continue;
      assert_true(rag_kb__tables_chunk(tables, n, &chunk));
      assert_memory_equal(&chunk, &chunk_wanted, sizeof chunk);
      assert_true(rag_kb__tables_revision(tables, n, &revision));
      assert_memory_equal(&revision, &revision_wanted, sizeof revision);
      if (n % 2 == 1 || !alive[n + 1]) continue;
      assert_int_equal(rag_kb__tables_newest(tables, n / 2 + 1), n + 1);
    }
    if (any) most += sizeof(rag_kb__chunk_block) + sizeof(rag_kb__revision_block) + sizeof(rag_kb__newest_block);
  }
  // Contents are half as many as revisions, and theirs may lie in a block more.
  assert_true(tables->bytes <= most + (most > 0 ? sizeof(rag_kb__newest_block) : 0));
}

static void forgotten_blocks_go(void **unused) {
  RAG_UNUSED(unused);
  rag_error err = {0};
  bool *alive = calloc(FORGET_ROWS, sizeof *alive);
  for (int round = 0; round < 6; round++) {
    rag_kb__tables tables;
    OK(rag_kb__tables_init(&tables, &err));
    for (uint32_t n = 1; n < FORGET_ROWS; n++) {
      set_both(&tables, n);
      alive[n] = true;
    }
    for (int portion = 0; portion < 25; portion++) {
      forget_some(&tables, alive, below(2) ? 99 : 60);
      if (portion % 5 == 4) check_alive(&tables, alive);
    }
    forget_some(&tables, alive, 100);
    check_alive(&tables, alive);
    assert_int_equal(tables.bytes, 0);
    for (uint32_t n = 1; n < FORGET_ROWS; n += 7) { // and the same numbers again
      set_both(&tables, n);
      alive[n] = true;
    }
    check_alive(&tables, alive);
    rag_kb__tables_free(&tables);
    memset(alive, 0, FORGET_ROWS * sizeof *alive);
  }
  free(alive);
}

// What a reader found before stays readable until it lets go, over several portions that are forgotten meanwhile.
static void pinned_blocks_stay(void **unused) {
  RAG_UNUSED(unused);
  rag_error err = {0};
  rag_kb__tables tables;
  bool *alive = calloc(FORGET_ROWS, sizeof *alive);
  OK(rag_kb__tables_init(&tables, &err));
  for (uint32_t n = 1; n < FORGET_ROWS; n++) set_both(&tables, n);
  void *first = rag_kb__tables_pin(&tables);
  const rag_kb__chunk_block *block = atomic_load(&tables.chunks[3]);
  for (int portion = 0; portion < 20; portion++) forget_some(&tables, alive, 99);
  void *second = rag_kb__tables_pin(&tables);
  forget_some(&tables, alive, 100);
  assert_int_equal(tables.bytes, 0);
  rag_ref_drop(second); // the newer one first: it must not take along what the older one holds
  for (uint32_t i = 0; i < RAG_KB__TABLE_BLOCK; i++) {
    rag_kb__chunk_row wanted = chunk_row_of(3 * RAG_KB__TABLE_BLOCK + i);
    assert_memory_equal(&block->rows[i], &wanted, sizeof wanted);
  }
  rag_ref_drop(first);
  rag_kb__tables_free(&tables);
  free(alive);
}

typedef struct crossing {
  rag_kb__tables tables;
  _Atomic uint32_t first, end; // rows from first on and before end are alive
  _Atomic bool stop;
} crossing;

static void *look_up_main(void *arg) {
  crossing *c = arg;
  uint64_t found = 0;
  do { // once even where the others were done before this thread began
    void *pin = rag_kb__tables_pin(&c->tables);
    uint32_t end = atomic_load(&c->end);
    for (uint32_t n = atomic_load(&c->first); n < end; n += 61) {
      rag_kb__chunk_row row, wanted = chunk_row_of(n);
      rag_kb__revision_row revision;
      if (rag_kb__tables_chunk(&c->tables, n, &row) && memcmp(&row, &wanted, sizeof row) == 0) found++;
      if (rag_kb__tables_revision(&c->tables, n, &revision) && revision.first_chunk == n) found++;
      uint32_t newest = rag_kb__tables_newest(&c->tables, n / 2 + 1);
      if (newest / 2 == n / 2) found++;
    }
    rag_ref_drop(pin);
  } while (!atomic_load(&c->stop));
  return (void *)(uintptr_t)(found > 0);
}

static void readers_and_forgetting_cross(void **unused) {
  RAG_UNUSED(unused);
  rag_error err = {0};
  crossing *c = calloc(1, sizeof *c);
  pthread_t threads[3];
  uint32_t step = 3000;
  uint64_t most = 0;
  OK(rag_kb__tables_init(&c->tables, &err));
  atomic_store(&c->first, 1);
  for (uint32_t n = 1; n < step; n++) set_both(&c->tables, n);
  atomic_store(&c->end, step);
  for (size_t t = 0; t < RAG_COUNT_OF(threads); t++)
    assert_int_equal(pthread_create(&threads[t], NULL, look_up_main, c), 0);
  for (uint32_t round = 0; round < 60; round++) {
    uint32_t first = atomic_load(&c->first), end = atomic_load(&c->end);
    rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
    rag_bitmap *set = NULL;
    for (uint32_t n = end; n < end + step; n++) set_both(&c->tables, n);
    atomic_store(&c->end, end + step);
    atomic_store(&c->first, end);
    OK(rag_bitmap_edit_add_range(edit, first, end - first));
    OK(rag_bitmap_edit_finish(edit, &set));
    OK(rag_kb__tables_forget(&c->tables, set, set, &err));
    rag_ref_drop(set);
    most = RAG_MAX(most, atomic_load(&c->tables.bytes));
  }
  atomic_store(&c->stop, true);
  for (size_t t = 0; t < RAG_COUNT_OF(threads); t++) {
    void *found = NULL;
    pthread_join(threads[t], &found);
    assert_non_null(found);
  }
  // 180,000 rows went through; never more than two blocks of each kind were there.
  assert_true(most <=
              2 * (sizeof(rag_kb__chunk_block) + sizeof(rag_kb__revision_block) + sizeof(rag_kb__newest_block)));
  rag_kb__tables_free(&c->tables);
  free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(chunks_of_revisions), cmocka_unit_test(forgotten_blocks_go),
                                     cmocka_unit_test(pinned_blocks_stay),
                                     cmocka_unit_test(readers_and_forgetting_cross)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
