// Goal: the chunks of a set of revisions are those of their rows, whatever order the rows came in and whatever stands
// between them. Method: random rows (runs of single chunks, runs of several, jumps, chunks that are used again, gaps,
// numbers given again) beside a plain union over single rows.
#include "kb_test.h"

#include "kb/kb_internal.h"

static uint64_t state = 88172645463325252u;
static uint32_t below(uint32_t n) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)(state % n);
}

#define REVISIONS 9000u

static void check(const rag_kb__tables *tables, const rag_kb__revision_row *rows, uint32_t percent) {
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

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(chunks_of_revisions)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
