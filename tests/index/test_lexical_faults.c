// Goal: what fails changes nothing and leaks nothing, and can be repeated; limits hold at their value and one past it;
// the memory bound holds and memory returns; a deadline stops a search; the df cache's tables stay bounded;
// words of removed chunks are forgotten.
//
// Method: every allocation of appends, removals, versions and searches is made to fail in turn, and after each failure
// the index must answer as before and the same call must then succeed; limits are met from both sides.
#include "lexical_testing.h"

static rag_lexical *create(uint64_t bytes_max) {
  rag_lexical *lexical = NULL;
  rag_lexical_options options = {.title_weight = 2, .keep_sequences = true, .memory_bytes_max = bytes_max};
  assert_int_equal(rag_lexical_create(&options, &lexical, NULL), RAG_OK);
  return lexical;
}

static uint32_t answer(rag_lexical *lexical, const corpus *c, rag_lexical_hit *hits) {
  rag_lexical_view *view = rag_lexical_pin(lexical);
  rag_lexical_version *version = NULL;
  assert_int_equal(rag_lexical_version_create(view, rag_lexical_view_present(view), NULL, &version, NULL), RAG_OK);
  rag_lexical_clause clauses[3];
  for (uint32_t i = 0; i < 3; i++) {
    clauses[i] = (rag_lexical_clause){.weight = 1, .term_count = 1, .terms = &c->slices[i * 2]};
  }
  clauses[2].kind = RAG_LEXICAL_PHRASE;
  clauses[2].terms = c->slices;
  clauses[2].term_count = 2;
  rag_lexical_query query = {.clauses = clauses, .clause_count = 3, .k = 2000};
  uint32_t count = 0, want_count;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, NULL), RAG_OK);
  rag_lexical_hit *want = calloc(c->count + 2000, sizeof *want);
  want_count = rag_bitmap_count(rag_lexical_view_present(view))
                   ? oracle_search(c, rag_lexical_view_present(view), &query, want)
                   : 0;
  assert_int_equal(count, want_count);
  for (uint32_t i = 0; i < count; i++) {
    assert_true(hits[i].ordinal == want[i].ordinal && hits[i].score == want[i].score);
  }
  free(want);
  rag_ref_drop(version);
  rag_ref_drop(view);
  return count;
}

static rag_bitmap *ordinals_of(const corpus *c, uint32_t first, uint32_t count) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  for (uint32_t i = first; i < first + count; i++) {
    assert_int_equal(rag_bitmap_edit_add(edit, c->chunks[i].ordinal), RAG_OK);
  }
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

typedef struct step {
  bool removal;
  uint32_t first, count;
} step;
// Fill tails, seal blocks, splice, remove a little (bitmap alone), remove much (written anew), bring rows back.
static const step steps[] = {{false, 0, 3},    {false, 300, 300}, {false, 100, 100}, {true, 320, 20},
                             {false, 600, 40}, {true, 100, 200},  {false, 100, 50},  {true, 0, 640}};

static void test_every_failed_allocation_changes_nothing(void **state) {
  (void)state;
  uint64_t random = 3, failures = 0;
  corpus c;
  corpus_create(&c, 640, 30, 8, 2, 300, &random);
  rag_lexical *lexical = NULL;
  rag_lexical_options options = {.title_weight = 2, .keep_sequences = true};
  for (uint64_t n = 1;; n++) {
    rag_alloc_fail_after(n);
    rag_status status = rag_lexical_create(&options, &lexical, NULL);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    if (!failed) break;
    assert_null(lexical);
  }
  rag_lexical_hit *hits = calloc(2000, sizeof *hits);
  for (size_t s = 0; s < RAG_COUNT_OF(steps); s++) {
    rag_bitmap *set = ordinals_of(&c, steps[s].first, steps[s].count);
    uint32_t before = answer(lexical, &c, hits), tries = 0;
    for (uint64_t n = 1;; n += 1 + tries++ / 40 * 7) { // each of the first allocations, then every now and then
      rag_alloc_fail_after(n);
      rag_status status = steps[s].removal ? rag_lexical_remove(lexical, set, NULL)
                                           : corpus_append(lexical, &c, steps[s].first, steps[s].count, NULL);
      bool failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      if (status == RAG_OK) {
        assert_true(!failed || steps[s].removal); // a removal does without writing the lists anew
        break;
      }
      assert_true(failed);
      assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
      failures++;
      assert_int_equal(answer(lexical, &c, hits), before);
    }
    answer(lexical, &c, hits);
    // Rows that a failed append left behind would look like removed ones, and have the lists written anew. (The
    // removal of step 5 did without, its memory being refused; the rows that step 6 brings back make up for it.)
    rag_lexical_stats stats;
    rag_lexical_stats_get(lexical, &stats);
    assert_int_equal(stats.rebuilds, s < 6 ? 0 : 1);
    rag_ref_drop(set);
  }
  assert_true(failures > 100);
  free(hits);
  rag_lexical_destroy(lexical);
  corpus_free(&c);
}

static void test_failed_searches(void **state) {
  (void)state;
  uint64_t random = 4, failures = 0;
  corpus c;
  corpus_create(&c, 600, 40, 10, 2, 0, &random);
  rag_lexical *lexical = create(0);
  assert_int_equal(corpus_append(lexical, &c, 0, 600, NULL), RAG_OK);
  rag_lexical_view *view = rag_lexical_pin(lexical);
  rag_bitmap *filter = random_set(&c, 0.5, &random);
  static rag_lexical_hit hits[RAG_INDEX_K_MAX], want[RAG_INDEX_K_MAX];
  for (int round = 0; round < 20; round++) {
    random_query q;
    make_query(&q, &c, false, &random);
    q.query.filter = filter;
    uint32_t count = 12345, want_count = oracle_search(&c, rag_lexical_view_present(view), &q.query, want);
    for (uint64_t n = 1;; n++) {
      rag_lexical_version *version = NULL;
      rag_alloc_fail_after(n);
      rag_status status = rag_lexical_version_create(view, rag_lexical_view_present(view), NULL, &version, NULL);
      if (status == RAG_OK) status = rag_lexical_search(view, version, &q.query, hits, &count, NULL, NULL);
      bool failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      rag_ref_drop(version);
      assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      if (!failed) break;
      failures++;
      assert_int_equal(count, 12345);
    }
    assert_int_equal(count, want_count);
    for (uint32_t i = 0; i < count; i++) assert_true(hits[i].ordinal == want[i].ordinal);
  }
  assert_true(failures > 60);
  rag_ref_drop(filter);
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
  corpus_free(&c);
}

static void test_memory_bound(void **state) {
  (void)state;
  enum { BOUND = 1 << 20 };
  uint64_t random = 9;
  corpus c;
  corpus_create(&c, 60000, 3000, 30, 2, 0, &random);
  rag_lexical *lexical = create(BOUND);
  rag_lexical_stats stats;
  uint32_t at = 0;
  rag_error err = {0};
  while (corpus_append(lexical, &c, at, 100, &err) == RAG_OK) {
    at += 100;
    rag_lexical_stats_get(lexical, &stats);
    assert_true(stats.bytes <= BOUND);
    assert_true(at + 100 <= c.count);
  }
  assert_int_equal(err.status, RAG_RESOURCE_EXHAUSTED);
  rag_lexical_stats_get(lexical, &stats);
  assert_int_equal(stats.chunks, at);
  assert_true(stats.bytes > BOUND / 2);
  rag_bitmap *half = ordinals_of(&c, 0, at / 2);
  assert_int_equal(rag_lexical_remove(lexical, half, NULL), RAG_OK); // a full index can shrink
  rag_lexical_stats_get(lexical, &stats);
  assert_int_equal(stats.rebuilds, 1);
  assert_int_equal(corpus_append(lexical, &c, at, 100, &err), RAG_OK);
  rag_ref_drop(half);
  rag_lexical_destroy(lexical);
  corpus_free(&c);
}

static void test_limits(void **state) {
  (void)state;
  rag_lexical *lexical = NULL;
  rag_error err = {0};
  rag_lexical_options options = {.title_weight = 0};
  assert_int_equal(rag_lexical_create(&options, &lexical, &err), RAG_INVALID_ARGUMENT);
  options.title_weight = RAG_LEXICAL_TITLE_WEIGHT_MAX + 1;
  assert_int_equal(rag_lexical_create(&options, &lexical, &err), RAG_INVALID_ARGUMENT);
  options.title_weight = RAG_LEXICAL_TITLE_WEIGHT_MAX;
  assert_int_equal(rag_lexical_create(&options, &lexical, &err), RAG_OK);
  char bytes[RAG_LEXICAL_TERM_MAX + 1];
  memset(bytes, 'x', sizeof bytes);
  rag_slice longest = {bytes, RAG_LEXICAL_TERM_MAX}, longer = {bytes, RAG_LEXICAL_TERM_MAX + 1}, empty = {bytes, 0};
  rag_slice pair[2] = {longest, longest};
  rag_lexical_chunk chunks[2] = {{.ordinal = 5, .text = &longest, .text_count = 1},
                                 {.ordinal = UINT32_MAX, .text = pair, .text_count = 2}};
  chunks[1].text = &longer;
  chunks[1].text_count = 1;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_INVALID_ARGUMENT);
  chunks[1].text = &empty;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_INVALID_ARGUMENT);
  chunks[1].text = pair;
  chunks[1].text_count = RAG_LEXICAL_CHUNK_TERMS_MAX;
  chunks[1].title_count = 1;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_INVALID_ARGUMENT);
  chunks[1].title_count = 0;
  chunks[1].extra_count = UINT32_MAX;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_INVALID_ARGUMENT);
  chunks[1].extra_count = 0;
  chunks[1].title_extra_count = 1;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_INVALID_ARGUMENT);
  chunks[1].text_count = 2;
  chunks[1].title_extra = &empty;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_INVALID_ARGUMENT);
  chunks[1].title_extra_count = 0;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_OK); // the last ordinal there is
  assert_int_equal(rag_lexical_append(lexical, chunks, 1, &err), RAG_ALREADY_EXISTS);
  chunks[0].ordinal = chunks[1].ordinal = 7;
  assert_int_equal(rag_lexical_append(lexical, chunks, 2, &err), RAG_INVALID_ARGUMENT);

  rag_lexical_view *view = rag_lexical_pin(lexical);
  rag_lexical_version *version = NULL;
  assert_int_equal(rag_lexical_version_create(view, rag_lexical_view_present(view), NULL, &version, NULL), RAG_OK);
  rag_lexical_clause *clauses = calloc(RAG_LEXICAL_TERMS_MAX + 1, sizeof *clauses);
  for (uint32_t i = 0; i <= RAG_LEXICAL_TERMS_MAX; i++) {
    clauses[i] = (rag_lexical_clause){.weight = 1, .term_count = 1, .terms = &longest};
  }
  rag_lexical_hit hits[4];
  uint32_t count = 0;
  rag_lexical_query query = {.clauses = clauses, .clause_count = RAG_LEXICAL_TERMS_MAX, .k = 4};
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_OK);
  assert_int_equal(count, 2);
  assert_int_equal(hits[0].ordinal, UINT32_MAX);
  query.clause_count++;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  clauses[0].kind = RAG_LEXICAL_PHRASE;
  clauses[0].terms = pair;
  clauses[0].term_count = 2;
  query.clause_count = 1;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_FAILED_PRECONDITION);
  clauses[0].kind = RAG_LEXICAL_TERM;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  clauses[0] = clauses[1];
  clauses[0].weight = NAN;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  clauses[0].weight = RAG_LEXICAL_WEIGHT_MAX;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_OK);
  query.k = 0;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  query.k = RAG_INDEX_K_MAX + 1;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  query.k = 4;
  query.deadline_ns = 1;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_DEADLINE_EXCEEDED);
  query.deadline_ns = 0;
  clauses[0].occur = RAG_LEXICAL_MUST_NOT; // alone: nothing
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_OK);
  assert_int_equal(count, 0);
  query.clause_count = 0;
  count = 9;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, &err), RAG_OK);
  assert_int_equal(count, 0);
  free(clauses);
  rag_ref_drop(version);
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
}

// More expansions than a prefix may have: the first in byte order count, and the plan says so.
static void test_prefix_limit(void **state) {
  (void)state;
  enum { TERMS = RAG_LEXICAL_PREFIX_TERMS_MAX + 1 };
  rag_lexical *lexical = create(0);
  static char names[TERMS][8];
  static rag_slice slices[TERMS];
  static rag_lexical_chunk chunks[TERMS];
  for (uint32_t i = 0; i < TERMS; i++) { // falling names, so that the order of terms is not that of numbers
    snprintf(names[i], sizeof names[i], "p%05u", TERMS - 1 - i);
    slices[i] = rag_slice_str(names[i]);
    chunks[i] = (rag_lexical_chunk){.ordinal = i, .text = &slices[i], .text_count = 1};
  }
  assert_int_equal(rag_lexical_append(lexical, chunks, TERMS, NULL), RAG_OK);
  rag_lexical_view *view = rag_lexical_pin(lexical);
  static rag_lexical_hit hits[RAG_INDEX_K_MAX];
  rag_slice prefix = rag_slice_str("p");
  rag_lexical_clause clause = {.kind = RAG_LEXICAL_PREFIX, .weight = 1, .term_count = 1, .terms = &prefix};
  rag_lexical_query query = {.clauses = &clause, .clause_count = 1, .k = RAG_INDEX_K_MAX};
  for (uint32_t dead = 0; dead < 2; dead++) { // one term that the version does not have leaves room for all others
    rag_bitmap_edit *edit = rag_bitmap_edit_create(rag_lexical_view_present(view));
    rag_bitmap *live = NULL;
    if (dead) assert_int_equal(rag_bitmap_edit_remove(edit, 100), RAG_OK);
    assert_int_equal(rag_bitmap_edit_finish(edit, &live), RAG_OK);
    rag_lexical_version *version = NULL;
    rag_lexical_plan plan;
    uint32_t count = 0;
    assert_int_equal(rag_lexical_version_create(view, live, NULL, &version, NULL), RAG_OK);
    assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, &plan, NULL), RAG_OK);
    assert_int_equal(count, RAG_LEXICAL_PREFIX_TERMS_MAX);
    assert_true(plan.prefix_truncated == !dead);
    assert_int_equal(hits[0].ordinal, dead ? 0 : 1); // the last in byte order is the first chunk
    rag_ref_drop(version);
    rag_ref_drop(live);
  }
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
}

static uint32_t df_of(rag_lexical_view *view, const char *text) {
  rag_lexical_version *version = NULL;
  assert_int_equal(rag_lexical_version_create(view, rag_lexical_view_present(view), NULL, &version, NULL), RAG_OK);
  uint32_t df = rag_lexical_version_df(view, version, rag_slice_str(text));
  rag_lexical_clause clause = {.kind = RAG_LEXICAL_PREFIX, .weight = 1, .term_count = 1};
  rag_slice prefix = rag_slice_of(text, strlen(text) - 1);
  clause.terms = &prefix;
  rag_lexical_query query = {.clauses = &clause, .clause_count = 1, .k = 10};
  rag_lexical_hit hits[10];
  uint32_t count = 0;
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, NULL), RAG_OK);
  assert_true(df == 0 || count > 0);
  rag_ref_drop(version);
  return df;
}

// Appends chunks first, first + 1, ...: each has a word of its own ("<letter><ordinal>z") and one that all share.
static void append_own_words(rag_lexical *lexical, char letter, uint32_t first, uint32_t count) {
  rag_lexical_chunk *chunks = calloc(count, sizeof *chunks);
  rag_slice(*slices)[2] = calloc(count, sizeof *slices);
  char(*names)[16] = calloc(count, sizeof *names);
  for (uint32_t i = 0; i < count; i++) {
    snprintf(names[i], sizeof names[i], "%c%uz", letter, first + i);
    slices[i][0] = rag_slice_str(names[i]);
    slices[i][1] = rag_slice_str("shared");
    chunks[i] = (rag_lexical_chunk){.ordinal = first + i, .text = slices[i], .text_count = 2};
  }
  assert_int_equal(rag_lexical_append(lexical, chunks, count, NULL), RAG_OK);
  free(names);
  free(slices);
  free(chunks);
}

static void remove_range(rag_lexical *lexical, uint32_t first, uint32_t count) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *gone = NULL;
  assert_int_equal(rag_bitmap_edit_add_range(edit, first, count), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &gone), RAG_OK);
  assert_int_equal(rag_lexical_remove(lexical, gone, NULL), RAG_OK);
  rag_ref_drop(gone);
}

// Words of removed chunks leave the dictionary when the lists are written anew: sorted and unsorted ones, some and all;
// views from before know them, they may come again, and the numbers of the others, which sequences hold, stay.
static void test_the_dictionary_forgets(void **state) {
  (void)state;
  enum { MANY = 5000 }; // more than are sorted at once
  rag_lexical *lexical = create(0);
  rag_lexical_stats stats, full;
  append_own_words(lexical, 'a', 0, MANY);
  append_own_words(lexical, 'b', MANY, 100);
  rag_lexical_stats_get(lexical, &full);
  assert_int_equal(full.terms, MANY + 100 + 1);
  rag_lexical_view *before = rag_lexical_pin(lexical);
  remove_range(lexical, 0, 500); // too few
  rag_lexical_stats_get(lexical, &stats);
  assert_int_equal(stats.terms, full.terms);
  remove_range(lexical, 0, MANY - 1000);
  remove_range(lexical, MANY, 50); // too few
  append_own_words(lexical, 'c', 2 * MANY, 10);
  rag_lexical_stats_get(lexical, &stats);
  assert_int_equal(stats.rebuilds, 1);
  assert_int_equal(stats.terms, 1000 + 100 + 10 + 1);
  rag_lexical_view *view = rag_lexical_pin(lexical);
  assert_int_equal(df_of(view, "a17z"), 0);
  assert_int_equal(df_of(before, "a17z"), 1);
  assert_int_equal(df_of(view, "a4999z"), 1);
  assert_int_equal(df_of(view, "b5000z"), 0);
  assert_int_equal(df_of(view, "b5099z"), 1);
  assert_int_equal(df_of(view, "c10009z"), 1);
  assert_int_equal(df_of(view, "shared"), 1000 + 50 + 10);
  rag_ref_drop(before);
  rag_lexical_stats_get(lexical, &stats);
  assert_true(stats.dictionary_bytes < full.dictionary_bytes);
  append_own_words(lexical, 'a', 17, 1); // comes again, under another number
  append_own_words(lexical, 'd', 3 * MANY, MANY);
  rag_ref_drop(view);
  view = rag_lexical_pin(lexical);
  rag_slice terms[] = {rag_slice_str("a17z"), rag_slice_str("shared")};
  rag_lexical_version *version = NULL;
  assert_int_equal(rag_lexical_version_create(view, rag_lexical_view_present(view), NULL, &version, NULL), RAG_OK);
  for (uint32_t i = 0; i < 2; i++) {
    terms[0] = rag_slice_str(i ? "a4500z" : "a17z");
    rag_lexical_clause clause = {.kind = RAG_LEXICAL_PHRASE, .weight = 1, .term_count = 2, .terms = terms};
    rag_lexical_query query = {.clauses = &clause, .clause_count = 1, .k = 10};
    rag_lexical_hit hits[10];
    uint32_t count = 0;
    assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, NULL), RAG_OK);
    assert_int_equal(count, 1);
    assert_int_equal(hits[0].ordinal, i ? 4500 : 17);
  }
  rag_ref_drop(version);
  rag_ref_drop(view);
  remove_range(lexical, 0, 4 * MANY);
  rag_lexical_stats_get(lexical, &stats);
  assert_int_equal(stats.terms, 0);
  append_own_words(lexical, 'e', 0, MANY); // sorted without what is free
  view = rag_lexical_pin(lexical);
  assert_int_equal(df_of(view, "e4999z"), 1);
  assert_int_equal(df_of(view, "d15000z"), 0);
  rag_lexical_stats_get(lexical, &stats);
  assert_int_equal(stats.terms, MANY + 1);
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_dictionary_forgets),
      cmocka_unit_test(test_every_failed_allocation_changes_nothing),
      cmocka_unit_test(test_failed_searches),
      cmocka_unit_test(test_memory_bound),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_prefix_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
