// Goal: the lexical index answers, bit for bit, what the definitions of index.h say: for every kind of query, at every
// version, under every filter, after any sequence of appends and removals, with and without pruning.
//
// Method: random corpora whose words follow Zipf's law; an oracle that scores every live chunk in plain code
// (lexical_testing.h); random live sets and filters from one chunk to all of them, over several pages and bitmap
// blocks; versions derived from others beside counted ones.
#include "lexical_testing.h"

static rag_lexical *create(uint32_t title_weight, bool sequences) {
  rag_lexical *lexical = NULL;
  rag_lexical_options options = {.title_weight = title_weight, .keep_sequences = sequences};
  assert_int_equal(rag_lexical_create(&options, &lexical, NULL), RAG_OK);
  return lexical;
}

static rag_status count_phrase(void *arg, uint32_t ordinal, const rag_slice *terms, uint32_t count, uint32_t *out,
                               rag_error *err) {
  const corpus *c = arg;
  RAG_UNUSED(err);
  rag_lexical_clause clause = {.kind = RAG_LEXICAL_PHRASE, .terms = terms, .term_count = count};
  for (uint32_t i = 0; i < c->count; i++) {
    if (c->chunks[i].ordinal == ordinal) *out = oracle_tf(c, &c->chunks[i], &clause);
  }
  return RAG_OK;
}

static void check_hits(const rag_lexical_hit *hits, uint32_t count, const rag_lexical_hit *want, uint32_t want_count) {
  assert_int_equal(count, want_count);
  for (uint32_t i = 0; i < count; i++) {
    assert_int_equal(hits[i].ordinal, want[i].ordinal);
    assert_memory_equal(&hits[i].score, &want[i].score, sizeof(double));
  }
}

static void check_version(const corpus *c, const rag_lexical_view *view, const rag_lexical_version *version,
                          uint32_t queries, bool plain, uint64_t *random) {
  static const double shares[] = {0.0005, 0.005, 0.05, 0.3, 0.9, 1};
  const rag_bitmap *live = rag_lexical_version_live(version);
  assert_true(rag_lexical_version_length(version) == oracle_total_length(c, live));
  uint32_t room = RAG_MAX(c->count, RAG_INDEX_K_MAX);
  rag_lexical_hit *hits = calloc(room, sizeof *hits), *want = calloc(room, sizeof *want);
  for (uint32_t i = 0; i < queries; i++) {
    random_query q;
    make_query(&q, c, plain, random);
    q.query.phrase_count = count_phrase;
    q.query.phrase_arg = (void *)(uintptr_t)c;
    rag_bitmap *filter = NULL;
    if (random_below(random, 3)) filter = random_set(c, shares[random_below(random, RAG_COUNT_OF(shares))], random);
    q.query.filter = filter;
    uint32_t count = 0, want_count = oracle_search(c, live, &q.query, want);
    rag_lexical_plan plan;
    rag_error err = {0};
    for (int exhaustive = 0; exhaustive < 2; exhaustive++) {
      q.query.exhaustive = exhaustive;
      assert_int_equal(rag_lexical_search(view, version, &q.query, hits, &count, &plan, &err), RAG_OK);
      check_hits(hits, count, want, want_count);
      assert_false(plan.prefix_truncated);
    }
    rag_lexical_clause word = {
        .kind = RAG_LEXICAL_TERM, .terms = &c->slices[random_word(random, c->words)], .term_count = 1};
    assert_int_equal(rag_lexical_version_df(view, version, word.terms[0]), oracle_df(c, live, &word));
    rag_ref_drop(filter);
  }
  free(hits);
  free(want);
}

static rag_lexical_version *version_of(const rag_lexical_view *view, const rag_bitmap *live,
                                       const rag_lexical_version *near) {
  rag_lexical_version *version = NULL;
  assert_int_equal(rag_lexical_version_create(view, live, near, &version, NULL), RAG_OK);
  return version;
}

static void run_corpus(uint32_t chunks, uint32_t words, uint32_t length, uint32_t gap, uint32_t title_weight,
                       bool sequences, uint32_t queries, bool plain, uint64_t seed) {
  uint64_t random = seed;
  corpus c;
  corpus_create(&c, chunks, words, length, title_weight, gap, &random);
  rag_lexical *lexical = create(title_weight, sequences);
  for (uint32_t at = 0, count; at < chunks; at += count) {
    count = 1 + random_below(&random, chunks / 5 + 1); // RAG_MIN would throw the dice twice
    count = RAG_MIN(count, chunks - at);
    assert_int_equal(corpus_append(lexical, &c, at, count, NULL), RAG_OK);
  }
  rag_lexical_view *view = rag_lexical_pin(lexical);
  assert_int_equal(rag_bitmap_count(rag_lexical_view_present(view)), chunks);
  for (uint32_t i = 0; i < chunks; i += 1 + chunks / 20) {
    assert_int_equal(rag_lexical_view_length(view, c.chunks[i].ordinal), oracle_length(&c, &c.chunks[i]));
  }
  static const double shares[] = {1, 0.9, 0.3, 0.02};
  for (size_t i = 0; i < RAG_COUNT_OF(shares); i++) {
    rag_bitmap *live = random_set(&c, shares[i], &random);
    rag_lexical_version *version = version_of(view, live, NULL);
    check_version(&c, view, version, queries, plain, &random);
    rag_ref_drop(version);
    rag_ref_drop(live);
  }
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
  corpus_free(&c);
}

static void test_words_equal_the_oracle(void **state) {
  (void)state;
  run_corpus(3000, 200, 20, 0, 1, false, 60, true, 1);
  run_corpus(6000, 3000, 30, 3, 3, false, 40, true, 2);
  run_corpus(1500, 50, 12, 200, 2, false, 40, true, 3); // over five bitmap blocks
  run_corpus(10, 5, 4, 0, 1, false, 60, true, 4);
}

static void test_operators_equal_the_oracle(void **state) {
  (void)state;
  run_corpus(2500, 60, 20, 0, 2, true, 100, false, 5);
  run_corpus(2500, 60, 20, 7, 16, false, 60, false, 6); // phrases through the callback
  run_corpus(1500, 400, 15, 150, 1, true, 60, false, 7);
  run_corpus(30, 8, 4, 0, 3, true, 200, false, 8);
}

// Extras by hand: they are found and scored, lengthen nothing, and no phrase sees or crosses them; a chunk may have
// nothing else, and so may a version, whose mean length is 0 then.
static void test_extras_stand_beside_the_path(void **state) {
  (void)state;
  rag_slice a = rag_slice_str("a"), b = rag_slice_str("b"), x = rag_slice_str("x");
  const rag_slice path[] = {a, b}, extra[] = {x, a}, phrases[][2] = {{a, b}, {b, x}, {b, a}, {x, a}};
  const rag_lexical_chunk chunks[] = {
      {.ordinal = 0, .text = path, .text_count = 2, .extra = extra, .extra_count = 2},
      {.ordinal = 1, .title = path, .title_count = 2, .title_extra = extra, .title_extra_count = 1},
      {.ordinal = 2, .extra = extra, .extra_count = 2},
  };
  rag_lexical *lexical = create(3, true);
  assert_int_equal(rag_lexical_append(lexical, chunks, RAG_COUNT_OF(chunks), NULL), RAG_OK);
  rag_lexical_view *view = rag_lexical_pin(lexical);
  assert_int_equal(rag_lexical_view_length(view, 0), 2);
  assert_int_equal(rag_lexical_view_length(view, 1), 6);
  assert_int_equal(rag_lexical_view_length(view, 2), 0);
  rag_lexical_version *version = version_of(view, rag_lexical_view_present(view), NULL);
  assert_int_equal(rag_lexical_version_length(version), 8);
  assert_int_equal(rag_lexical_version_df(view, version, x), 3);
  assert_int_equal(rag_lexical_version_df(view, version, b), 2);
  rag_lexical_hit hits[8];
  uint32_t count = 0;
  for (size_t i = 0; i < RAG_COUNT_OF(phrases); i++) {
    rag_lexical_clause phrase = {.kind = RAG_LEXICAL_PHRASE, .weight = 1, .term_count = 2, .terms = phrases[i]};
    rag_lexical_query query = {.clauses = &phrase, .clause_count = 1, .k = 8};
    assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, NULL), RAG_OK);
    assert_int_equal(count, i == 0 ? 2 : 0);
  }
  // f / (f + 0.3 + 0.9 L / L'): 1 / 1.975, 3 / 5.325, 1 / 1.3 at L' = 8 / 3.
  rag_lexical_clause word = {.weight = 1, .term_count = 1, .terms = &x};
  rag_lexical_query query = {.clauses = &word, .clause_count = 1, .k = 8};
  assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, NULL), RAG_OK);
  assert_int_equal(count, 3);
  assert_true(hits[0].ordinal == 2 && hits[1].ordinal == 1 && hits[2].ordinal == 0);
  assert_true(fabs(hits[1].score / hits[0].score - 3 / 5.325 * 1.3) < 1e-6);
  assert_true(fabs(hits[2].score / hits[0].score - 1 / 1.975 * 1.3) < 1e-6);
  rag_bitmap *last = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  assert_int_equal(rag_bitmap_edit_add(edit, 2), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &last), RAG_OK);
  rag_lexical_version *without_length = version_of(view, last, NULL);
  for (int exhaustive = 0; exhaustive < 2; exhaustive++) {
    query.exhaustive = exhaustive;
    assert_int_equal(rag_lexical_search(view, without_length, &query, hits, &count, NULL, NULL), RAG_OK);
    assert_int_equal(count, 1);
    assert_true(fabs(hits[0].score - log1p(0.5 / 1.5) * 2.2 / 1.3) < 1e-6);
  }
  rag_ref_drop(without_length);
  rag_ref_drop(last);
  rag_ref_drop(version);
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
}

// How phrases are found in the kept sequences: at every place of a long text and of a short one, next to words whose
// bytes look like theirs, overlapping, and not across the title.
static void test_phrases_in_sequences(void **state) {
  (void)state;
  enum { WORDS = 300, PLACES = 40 };
  uint64_t random = 31;
  corpus c;
  corpus_create(&c, PLACES * 3 + 2, WORDS, 1, 3, 0, &random);
  for (uint32_t i = 0; i < c.count; i++) {
    corpus_chunk *chunk = &c.chunks[i];
    free(chunk->words);
    *chunk = (corpus_chunk){.ordinal = i, .words = calloc(WORDS + 1, sizeof(uint32_t))};
    if (i == 0) { // so that word w has number w, and from 127 on two bytes
      chunk->text_count = WORDS;
      for (uint32_t w = 0; w < WORDS; w++) chunk->words[w] = w;
    } else if (i == 1) { // 0 and 1 overlap, and stand on both sides of where the title begins
      static const uint32_t words[] = {0, 0, 0, 1, 0, 0, 1, 1, 0, 1};
      memcpy(chunk->words, words, sizeof words);
      chunk->text_count = 5;
      chunk->title_count = 5;
    } else { // among others: the phrase 0 1; or 128 1, which ends in the same two bytes; or 0 129, which begins so
      uint32_t place = (i - 2) / 3, kind = (i - 2) % 3;
      chunk->text_count = place + 2 + (place * 7) % 23;
      for (uint32_t w = 0; w < chunk->text_count; w++) chunk->words[w] = w % 3 == 0 ? 128 : 5 + w % 2 * 200;
      chunk->words[place] = kind == 1 ? 128 : 0;
      chunk->words[place + 1] = kind == 2 ? 129 : 1;
      chunk->words[chunk->text_count] = place % 2; // each has both words
      chunk->words[chunk->text_count + 1] = 128;
      chunk->words[chunk->text_count + 2] = 1 - place % 2;
      chunk->title_count = 3;
    }
  }
  rag_lexical *lexical = create(3, true);
  assert_int_equal(corpus_append(lexical, &c, 0, c.count, NULL), RAG_OK);
  rag_lexical_view *view = rag_lexical_pin(lexical);
  rag_lexical_version *version = version_of(view, rag_lexical_view_present(view), NULL);
  static const uint32_t phrases[][3] = {{0, 1, 0}, {1, 0, 0}, {0, 0, 0}, {128, 1, 0}, {0, 129, 0}, {0, 0, 1}};
  rag_lexical_hit hits[PLACES * 3 + 2], want[PLACES * 3 + 2];
  for (size_t i = 0; i < RAG_COUNT_OF(phrases); i++) {
    for (uint32_t length = 2; length <= 3; length++) {
      rag_slice terms[3];
      for (uint32_t j = 0; j < 3; j++) terms[j] = c.slices[phrases[i][j]];
      rag_lexical_clause phrase = {.kind = RAG_LEXICAL_PHRASE, .weight = 1, .term_count = length, .terms = terms};
      rag_lexical_query query = {.clauses = &phrase, .clause_count = 1, .k = c.count};
      uint32_t count = 0;
      assert_int_equal(rag_lexical_search(view, version, &query, hits, &count, NULL, NULL), RAG_OK);
      uint32_t want_count = oracle_search(&c, rag_lexical_view_present(view), &query, want);
      check_hits(hits, count, want, want_count);
      if (i == 0 && length == 2) assert_int_equal(count, PLACES + 2);
    }
  }
  rag_ref_drop(version);
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
  corpus_free(&c);
}

// Commits: rows come and go, versions are derived from their parents, old versions are searched again.
static void test_many_versions(void **state) {
  (void)state;
  enum { CHUNKS = 2400, KEPT = 6 };
  uint64_t random = 77;
  corpus c;
  corpus_create(&c, CHUNKS, 150, 15, 2, 4, &random);
  rag_lexical *lexical = create(2, true);
  rag_lexical_version *versions[KEPT] = {0}, *parent = NULL;
  uint32_t at = 0, derived = 0, made = 0;
  rag_bitmap *live = rag_bitmap_empty();
  while (at < CHUNKS) {
    uint32_t count = at == 0 ? CHUNKS / 2 : 1 + random_below(&random, 90);
    count = RAG_MIN(count, CHUNKS - at);
    assert_int_equal(corpus_append(lexical, &c, at, count, NULL), RAG_OK);
    rag_bitmap_edit *edit = rag_bitmap_edit_create(live);
    for (uint32_t i = at; i < at + count; i++) assert_int_equal(rag_bitmap_edit_add(edit, c.chunks[i].ordinal), RAG_OK);
    for (uint32_t i = 0; i < count / 2; i++) {
      assert_int_equal(rag_bitmap_edit_remove(edit, c.chunks[random_below(&random, at + count)].ordinal), RAG_OK);
    }
    rag_ref_drop(live);
    assert_int_equal(rag_bitmap_edit_finish(edit, &live), RAG_OK);
    at += count;
    rag_lexical_view *view = rag_lexical_pin(lexical);
    rag_lexical_version *version = version_of(view, live, parent), *anew = version_of(view, live, NULL);
    derived += rag_lexical_version_derived(version);
    assert_true(rag_lexical_version_length(version) == rag_lexical_version_length(anew));
    for (uint32_t w = 0; w < c.words; w += 3) {
      assert_int_equal(rag_lexical_version_df(view, version, c.slices[w]),
                       rag_lexical_version_df(view, anew, c.slices[w]));
    }
    rag_ref_drop(anew);
    check_version(&c, view, version, 4, false, &random);
    rag_ref_drop(versions[made % KEPT]);
    versions[made++ % KEPT] = version;
    parent = version;
    rag_lexical_version *old = versions[random_below(&random, RAG_MIN(made, (uint32_t)KEPT))];
    check_version(&c, view, old, 2, false, &random);
    rag_ref_drop(view);
  }
  assert_true(derived > made / 2 && derived < made);
  for (uint32_t i = 0; i < KEPT; i++) rag_ref_drop(versions[i]);
  rag_ref_drop(live);
  rag_lexical_destroy(lexical);
  corpus_free(&c);
}

static int by_ordinal(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

// Ordinals that come below earlier ones, and ordinals that are removed and come again.
static void test_any_order_and_removal(void **state) {
  (void)state;
  enum { CHUNKS = 1800, BATCHES = 9 };
  uint64_t random = 99;
  corpus c;
  corpus_create(&c, CHUNKS, 80, 15, 2, 3, &random);
  rag_lexical *lexical = create(2, true);
  uint32_t which[CHUNKS];
  for (uint32_t batch = 0; batch < BATCHES; batch++) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < CHUNKS; i++) {
      if ((i * 7919u) % BATCHES == batch) which[count++] = i;
    }
    qsort(which, count, sizeof *which, by_ordinal);
    assert_int_equal(corpus_append_some(lexical, &c, which, count, NULL), RAG_OK);
    rag_lexical_view *view = rag_lexical_pin(lexical);
    rag_lexical_version *version = version_of(view, rag_lexical_view_present(view), NULL);
    check_version(&c, view, version, 12, false, &random);
    rag_ref_drop(version);
    rag_ref_drop(view);
  }
  rag_lexical_stats before, after;
  rag_lexical_stats_get(lexical, &before);
  rag_lexical_view *pinned = rag_lexical_pin(lexical);
  rag_lexical_version *old = version_of(pinned, rag_lexical_view_present(pinned), NULL);
  for (int round = 0; round < 8; round++) {
    rag_bitmap *gone = random_set(&c, 0.15, &random);
    assert_int_equal(rag_lexical_remove(lexical, gone, NULL), RAG_OK);
    rag_lexical_view *view = rag_lexical_pin(lexical);
    assert_int_equal(rag_bitmap_and_count(rag_lexical_view_present(view), gone), 0);
    // From the version before the removal where the lists are still the same ones, counted anew where they are not.
    rag_lexical_version *version = version_of(view, rag_lexical_view_present(view), old);
    check_version(&c, view, version, 15, false, &random);
    check_version(&c, pinned, old, 5, false, &random); // what was pinned before sees all
    if (round % 3 == 1) {                              // some come back
      uint32_t count = 0;
      for (uint32_t i = 0; i < CHUNKS; i++) {
        if (rag_bitmap_has(gone, c.chunks[i].ordinal) && i % 2) which[count++] = i;
        if (count > 0 && rag_bitmap_has(rag_lexical_view_present(view), c.chunks[which[count - 1]].ordinal)) count--;
      }
      assert_int_equal(corpus_append_some(lexical, &c, which, count, NULL), RAG_OK);
      rag_lexical_view *again = rag_lexical_pin(lexical);
      rag_lexical_version *newer = version_of(again, rag_lexical_view_present(again), version);
      check_version(&c, again, newer, 15, false, &random);
      rag_ref_drop(newer);
      rag_ref_drop(again);
    }
    rag_ref_drop(version);
    rag_ref_drop(view);
    rag_ref_drop(gone);
  }
  rag_ref_drop(old);
  rag_ref_drop(pinned);
  rag_lexical_stats_get(lexical, &after);
  assert_true(after.rebuilds >= 3);
  assert_true(after.postings < before.postings / 2 && after.postings_bytes < before.postings_bytes);
  rag_bitmap *all = random_set(&c, 1, &random);
  assert_int_equal(rag_lexical_remove(lexical, all, NULL), RAG_OK);
  rag_lexical_stats_get(lexical, &after);
  assert_int_equal(after.postings, 0);
  assert_int_equal(after.chunks, 0);
  assert_int_equal(after.sequence_bytes, 0);
  rag_ref_drop(all);
  rag_lexical_destroy(lexical);
  corpus_free(&c);
}

// A version is what it was, whatever comes later: the same bits after appends that bring new words and more chunks.
static void test_answers_do_not_move(void **state) {
  (void)state;
  enum { QUERIES = 40 };
  uint64_t random = 5;
  corpus c;
  corpus_create(&c, 1500, 100, 15, 1, 0, &random);
  rag_lexical *lexical = create(1, true);
  assert_int_equal(corpus_append(lexical, &c, 0, 500, NULL), RAG_OK);
  rag_lexical_view *first = rag_lexical_pin(lexical);
  rag_lexical_version *version = version_of(first, rag_lexical_view_present(first), NULL);
  static random_query queries[QUERIES];
  static rag_lexical_hit hits[QUERIES][1000], again[1000];
  uint32_t counts[QUERIES], count = 0;
  for (uint32_t i = 0; i < QUERIES; i++) {
    make_query(&queries[i], &c, false, &random);
    queries[i].query.k = RAG_MIN(queries[i].query.k, 1000u);
    assert_int_equal(rag_lexical_search(first, version, &queries[i].query, hits[i], &counts[i], NULL, NULL), RAG_OK);
  }
  assert_int_equal(corpus_append(lexical, &c, 500, 1000, NULL), RAG_OK);
  rag_lexical_view *second = rag_lexical_pin(lexical);
  rag_lexical_version *anew = version_of(second, rag_lexical_version_live(version), NULL);
  for (uint32_t i = 0; i < QUERIES; i++) {
    assert_int_equal(rag_lexical_search(second, version, &queries[i].query, again, &count, NULL, NULL), RAG_OK);
    check_hits(again, count, hits[i], counts[i]);
    assert_int_equal(rag_lexical_search(first, anew, &queries[i].query, again, &count, NULL, NULL), RAG_OK);
    check_hits(again, count, hits[i], counts[i]);
  }
  rag_ref_drop(anew);
  rag_ref_drop(version);
  rag_lexical_destroy(lexical); // the views hold
  rag_ref_drop(first);
  rag_ref_drop(second);
  corpus_free(&c);
}

// A block that cannot pass the floor ends in one window and the next one begins in another: what is skipped ends there.
static void test_skipping_stops_at_the_next_block(void **state) {
  (void)state;
  enum { BLOCK = 128, LENGTH = 8 };
  static const uint32_t first[] = {0, 8192, 16384}, tf[] = {2, 1, 5};
  rag_lexical *lexical = create(1, false);
  rag_slice words[3][LENGTH];
  static rag_lexical_chunk chunks[3 * BLOCK];
  for (uint32_t i = 0; i < 3; i++) {
    for (uint32_t j = 0; j < LENGTH; j++) words[i][j] = rag_slice_str(j < tf[i] ? "x" : "filler");
    for (uint32_t j = 0; j < BLOCK; j++) {
      chunks[i * BLOCK + j] = (rag_lexical_chunk){.ordinal = first[i] + j, .text = words[i], .text_count = LENGTH};
    }
  }
  assert_int_equal(rag_lexical_append(lexical, chunks, 3 * BLOCK, NULL), RAG_OK);
  rag_lexical_view *view = rag_lexical_pin(lexical);
  rag_lexical_version *version = version_of(view, rag_lexical_view_present(view), NULL);
  rag_lexical_clause clause = {.weight = 1, .term_count = 1, .terms = &words[0][0]};
  rag_lexical_query query = {.clauses = &clause, .clause_count = 1, .k = 1};
  rag_lexical_hit hit;
  rag_lexical_plan plan;
  uint32_t count = 0;
  assert_int_equal(rag_lexical_search(view, version, &query, &hit, &count, &plan, NULL), RAG_OK);
  assert_int_equal(count, 1);
  assert_int_equal(hit.ordinal, first[2]);
  assert_int_equal(plan.windows_skipped, 1); // the second block's, and not more
  rag_ref_drop(version);
  rag_ref_drop(view);
  rag_lexical_destroy(lexical);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_words_equal_the_oracle), cmocka_unit_test(test_operators_equal_the_oracle),
      cmocka_unit_test(test_many_versions),          cmocka_unit_test(test_any_order_and_removal),
      cmocka_unit_test(test_answers_do_not_move),    cmocka_unit_test(test_skipping_stops_at_the_next_block),
      cmocka_unit_test(test_phrases_in_sequences),   cmocka_unit_test(test_extras_stand_beside_the_path),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
