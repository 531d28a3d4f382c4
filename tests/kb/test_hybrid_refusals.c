// Goal: whatever is asked or put, the answer is a defined one or an error that names the field: queries of stop words
// alone, of 10,000 words, of a mebibyte, of emoji, of quotes that nobody closed, with NUL bytes, of -not alone; documents
// that are one word of 10 MB, or more words than a chunk takes. And what was refused leaves nothing behind.
// Method: each by hand, in every mode. Bounded time is a deadline far beyond what is needed, given with the request
// where the work could grow.
#include "hybrid_oracle.h"

#define DEADLINE_NS (UINT64_C(60) * 1000000000) // only that it ends

static uint32_t count_hits(rag_kb *kb, rag_slice query, rag_search_mode mode, rag_search_plan *plan) {
  rag_error err = {0};
  rag_search_result r = {0};
  rag_search s = {.query = query,
                  .k = 10,
                  .mode = mode,
                  .want_text = true,
                  .want_highlights = true,
                  .deadline_ns = rag_clock_monotonic_ns() + DEADLINE_NS};
  rag_status status = rag_kb_search(kb, &s, &r, &err);
  if (status != RAG_OK)
    fail_msg("mode %d, '%.*s': %s: %s", (int)mode, (int)RAG_MIN(query.size, (size_t)80), query.data,
             rag_status_name(status), err.message);
  uint32_t count = r.count;
  if (plan != NULL) *plan = r.plan;
  for (uint32_t i = 0; i < r.count; i++) {
    assert_true(isfinite(r.hits[i].score));
    assert_true(r.hits[i].highlight_count <= RAG_HIGHLIGHTS_MAX);
    for (uint32_t h = 0; h < r.hits[i].highlight_count; h++)
      assert_true(r.hits[i].highlights[h].end <= r.hits[i].text.size);
  }
  rag_search_result_free(&r);
  return count;
}

// Each query is answered in every mode; by words it finds so many of the three documents.
static void odd_queries(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "the cat sat on the mat");
  kb_test_put(kb, "b", "a dog \xF0\x9F\x90\x95 and the park of dogs");
  kb_test_put(kb, "c", "nothing else in it");
#define Q(text, hits)                                                                                                  \
  { {(text), sizeof(text) - 1}, (hits) }
  static const struct {
    rag_slice query;
    uint32_t hits;
  } cases[] = {
      Q("the", 2),
      Q("the and of a on", 2),
      Q("THE", 2),
      Q("the cat", 1), // the stop word is dropped
      Q("\xF0\x9F\x90\x95", 1),
      Q("\xF0\x9F\x98\x80\xF0\x9F\x98\x81 \xF0\x9F\x87\xA9\xF0\x9F\x87\xAA", 0),
      Q("\"cat sat", 1),
      Q("cat\" sat", 1),
      Q("\"\" cat", 1),
      Q("\"", 0),
      Q("\"\"\"", 0),
      Q("-cat", 0),
      Q("-cat -\"the park\" -do*", 0),
      Q("+", 0),
      Q("- + * \" ' ( ) [ ] ~ ^ ? : \\ AND", 1), // "and", as a stop word, for want of another
      Q("*", 0),
      Q("ca*", 1),
      Q("+cat +dog", 0),
      Q("cat\0dog", 2), // NUL is white space
      Q("\0", 0),
      Q(" \t\n", 0),
      Q("\xE2\x80\x9C"
        "the cat\xE2\x80\x9D",
        1),
      Q("\xEF\xBF\xBD", 0),
      Q("cat OR dog", 2),
  };
#undef Q
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    uint32_t hits = count_hits(kb, cases[i].query, RAG_SEARCH_LEXICAL, NULL);
    if (hits != cases[i].hits) fail_msg("case %zu, '%s': %u hits", i, cases[i].query.data, hits);
    assert_true(count_hits(kb, cases[i].query, RAG_SEARCH_HYBRID, NULL) >= hits);
    count_hits(kb, cases[i].query, RAG_SEARCH_VECTOR, NULL);
    assert_true(count_hits(kb, cases[i].query, RAG_SEARCH_AUTO, NULL) >= hits);
  }
  rag_search_plan plan;
  count_hits(kb, S("the of"), RAG_SEARCH_LEXICAL, &plan);
  assert_true(plan.only_stop_words && !plan.query_truncated);
  assert_int_equal(plan.query_clauses, 2);
  count_hits(kb, S("the cat"), RAG_SEARCH_LEXICAL, &plan);
  assert_false(plan.only_stop_words);
  rag_ref_drop(kb);
}

static void long_queries(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_buf text = {0};
  for (unsigned i = 0; i < 3000; i++) rag_buf_printf(&text, "w%u ", i);
  rag_buf_append_char(&text, '\0');
  kb_test_put(kb, "many", text.data);
  rag_search_plan plan;
  for (int kind = 0; kind < 4; kind++) {
    rag_buf_clear(&text);
    for (unsigned i = 0; i < 10000; i++) {
      if (kind == 2) rag_buf_printf(&text, "\"w%u w%u\" ", i, i + 1);
      else if (kind == 0) rag_buf_printf(&text, "w%u ", i);
      else if (kind == 1) rag_buf_printf(&text, "+w%u ", i);
      else rag_buf_printf(&text, "w%u* ", i);
    }
    uint32_t hits = count_hits(kb, rag_buf_slice(&text), RAG_SEARCH_LEXICAL, &plan);
    assert_true(plan.query_truncated);
    assert_true(plan.query_clauses <= RAG_WORDS_TERMS_MAX);
    if (kind != 1) assert_true(hits > 0);
    else assert_int_equal(hits, 0); // no chunk has 1,024 words
  }
  // At the limit of bytes, and one past it.
  rag_buf_clear(&text);
  while (text.size < RAG_SEARCH_QUERY_BYTES_MAX) rag_buf_append_str(&text, "w17 w18 ");
  rag_slice query = rag_slice_of(text.data, RAG_SEARCH_QUERY_BYTES_MAX);
  assert_true(count_hits(kb, query, RAG_SEARCH_LEXICAL, &plan) > 0);
  assert_int_equal(plan.query_clauses, 2); // equal words are one
  assert_false(plan.query_truncated);
  rag_buf_append_char(&text, 'x');
  rag_search s = {.query = rag_slice_of(text.data, RAG_SEARCH_QUERY_BYTES_MAX + 1), .k = 1};
  rag_search_result r = {.count = 77};
  for (rag_search_mode mode = RAG_SEARCH_AUTO; mode <= RAG_SEARCH_HYBRID; mode++) {
    s.mode = mode;
    FAILS_FIELD(rag_kb_search(kb, &s, &r, &err), RAG_INVALID_ARGUMENT, "query", "1048576");
  }
  // One word, one quote, one prefix of a mebibyte; nothing but quotes, signs and stars.
  static const char *const fill[] = {"a", "\"a ", "\"", "-", "+a ", "*", "a* ", "\xF0\x9F\x98\x80", "\xE5\x8C\x97"};
  for (size_t i = 0; i < RAG_COUNT_OF(fill); i++) {
    rag_buf_clear(&text);
    while (text.size + 4 < RAG_SEARCH_QUERY_BYTES_MAX) rag_buf_append_str(&text, fill[i]);
    count_hits(kb, rag_buf_slice(&text), RAG_SEARCH_LEXICAL, NULL);
  }
  rag_buf_free(&text);
  assert_int_equal(r.count, 77);
  rag_ref_drop(kb);
}

// A time that is over ends a search in every mode, and the evaluation of a filter too.
static void a_deadline_ends_it(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "the cat sat on the mat");
  hy_filter filter = hy_filter_of("{\"must\":[{\"key\":\"n\",\"match\":{\"value\":1}}]}");
  rag_search s = {.query = S("cat"), .k = 1, .deadline_ns = 1};
  rag_search_result r = {.count = 77};
  for (s.mode = RAG_SEARCH_LEXICAL; s.mode <= RAG_SEARCH_HYBRID; s.mode++)
    FAILS(rag_kb_search(kb, &s, &r, &err), RAG_DEADLINE_EXCEEDED, "deadline");
  s.filter = filter.filter;
  for (s.mode = RAG_SEARCH_VECTOR; s.mode <= RAG_SEARCH_HYBRID; s.mode++)
    FAILS(rag_kb_search(kb, &s, &r, &err), RAG_DEADLINE_EXCEEDED, "deadline");
  assert_int_equal(r.count, 77);
  s.deadline_ns = 0; // and what was not found out in time is found out later
  s.mode = RAG_SEARCH_HYBRID;
  OK(rag_kb_search(kb, &s, &r, &err));
  assert_int_equal(r.count, 0);
  rag_search_result_free(&r);
  hy_filter_free(&filter);
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- documents

enum { HUGE_WORD = 10 << 20 };

static void one_word_of_10_mb(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  char *word = malloc(HUGE_WORD + 1);
  assert_non_null(word);
  memset(word, 'x', HUGE_WORD);
  word[0] = 'y';
  word[HUGE_WORD] = '\0';
  rag_document_input in = {.id = S("huge"), .text = rag_slice_of(word, HUGE_WORD)};
  rag_put put = {.documents = &in, .document_count = 1};
  rag_write write = {0};
  rag_write_result r = {0};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err)); // cut into chunks; a word is found by its first 255 bytes
  assert_true(count_hits(kb, rag_slice_of(word, 255), RAG_SEARCH_LEXICAL, NULL) > 0);
  assert_int_equal(count_hits(kb, rag_slice_of(word, 254), RAG_SEARCH_LEXICAL, NULL), 0);
  assert_true(count_hits(kb, rag_slice_of(word, RAG_SEARCH_QUERY_BYTES_MAX), RAG_SEARCH_LEXICAL, NULL) > 0);
  assert_true(count_hits(kb, S("yxxx*"), RAG_SEARCH_HYBRID, NULL) > 0);
  // Where nothing is embedded, the whole is one chunk.
  rag_kb *given = kb_test_create(f, "given", "", 4);
  float v[4] = {1, 0, 0, 0};
  in.vector = v;
  in.vector_dimension = 4;
  OK(rag_kb_put(given, &write, &put, &r, NULL, &err));
  for (int round = 0; round < 2; round++) {
    assert_int_equal(count_hits(given, rag_slice_of(word, 255), RAG_SEARCH_LEXICAL, NULL), 1);
    assert_int_equal(count_hits(given, S("yx*"), RAG_SEARCH_LEXICAL, NULL), 1);
    assert_int_equal(count_hits(given, S("x"), RAG_SEARCH_LEXICAL, NULL), 0);
    rag_ref_drop(given);
    if (round == 1) break;
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
    given = kb_test_get(f, "given");
  }
  free(word);
  rag_ref_drop(kb);
}

// A chunk takes some 16 million words. One past it is refused before anything is written; a little less is found, and
// read again from its rows.
static void more_words_than_a_chunk_takes(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_create(f, "docs", "", 4);
  float v[4] = {1, 0, 0, 0};
  size_t size = (size_t)RAG_DOCUMENT_TEXT_BYTES_MAX;
  char *text = malloc(size);
  assert_non_null(text);
  for (size_t i = 0; i < size; i++) text[i] = i % 2 ? ' ' : 'q';
  rag_document_input in = {.id = S("words"), .text = rag_slice_of(text, size), .vector = v, .vector_dimension = 4};
  rag_put put = {.documents = &in, .document_count = 1};
  rag_write write = {0};
  rag_write_result r = {.added = 77};
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "documents[0].text", "words");
  assert_int_equal(r.added, 77);
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
  in.text.size = 2 * 1000000 - 1;
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  for (int round = 0; round < 2; round++) {
    assert_int_equal(count_hits(kb, S("q"), RAG_SEARCH_LEXICAL, NULL), 1);
    assert_int_equal(count_hits(kb, S("\"q q q\""), RAG_SEARCH_LEXICAL, NULL), 1);
    rag_ref_drop(kb);
    if (round == 1) break;
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  free(text);
}

// Texts that analysers stumble over, found and read again.
static void odd_documents(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  static const rag_slice texts[] = {{"NUL\0in the middle", 17},
                                    {"\xF0\x9F\x98\x80\xF0\x9F\x98\x80", 8},
                                    {"... --- !!!", 11},
                                    {"\"\"\"*+-", 6},
                                    {"e\xCC\x81\xCC\x81\xCC\x81\xCC\x81", 9},
                                    {"\xE2\x80\x8Bzero\xE2\x80\x8Bwidth", 15},
                                    {"\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D", 8}};
  for (size_t i = 0; i < RAG_COUNT_OF(texts); i++) {
    char id[16];
    snprintf(id, sizeof id, "t%zu", i);
    rag_document_input in = {.id = S(id), .text = texts[i]};
    rag_put put = {.documents = &in, .document_count = 1};
    rag_write write = {0};
    rag_write_result r = {0};
    OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  }
  for (int round = 0; round < 2; round++) {
    assert_int_equal(count_hits(kb, S("nul middle"), RAG_SEARCH_LEXICAL, NULL), 1);
    assert_int_equal(count_hits(kb, S("\xF0\x9F\x98\x80"), RAG_SEARCH_LEXICAL, NULL), 1);
    assert_int_equal(count_hits(kb, texts[6], RAG_SEARCH_LEXICAL, NULL), 1);
    for (size_t i = 0; i < RAG_COUNT_OF(texts); i++)
      for (rag_search_mode mode = RAG_SEARCH_AUTO; mode <= RAG_SEARCH_HYBRID; mode++)
        count_hits(kb, texts[i], mode, NULL);
    rag_ref_drop(kb);
    if (round == 1) break;
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(odd_queries),
      KB_TEST(long_queries),
      KB_TEST(a_deadline_ends_it),
      KB_TEST(one_word_of_10_mb),
      KB_TEST(more_words_than_a_chunk_takes),
      KB_TEST(odd_documents),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
