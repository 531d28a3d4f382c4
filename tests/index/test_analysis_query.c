// Goal: every query has the parse that index.h states, at every bound and one past it, and running out of memory is an
// error that leaks nothing.
// Method: golden parses (analysis_testing.h has the notation); generated queries around the limits; a sweep that fails
// each allocation in turn.
#include "tests/index/analysis_testing.h"

static void assert_parse_of(const char *language, rag_slice text, const char *expected) {
  rag_analyzer *analyzer = open_analyzer(language);
  rag_arena *arena = rag_arena_create(0);
  rag_words_query query;
  rag_error err = {0};
  rag_buf out = {0};
  assert_int_equal(rag_words_parse(analyzer, text, arena, &query, &err), RAG_OK);
  print_query(&query, &out);
  assert_string_equal(out.data, expected);
  rag_buf_free(&out);
  rag_arena_destroy(arena);
  rag_analyzer_close(analyzer);
}

static void assert_parse(const char *language, const char *text, const char *expected) {
  assert_parse_of(language, rag_slice_str(text), expected);
}

static void plain_words(void **state) {
  RAG_UNUSED(state);
  assert_parse("en", "", "");
  assert_parse("en", " ?! -- + - * \" \"\" ", "");
  assert_parse("en", "Refused connections refuse", "refus*2 connect");
  assert_parse("en", "readFile snake_case", "readfil read file snakecas snake case");
  assert_parse("en", "👍 🎉🎉", "👍 🎉*2");
  assert_parse("en", "C++ E0382 3.14", "c++ c e0382 3.14");
}

static void signs_and_quotes(void **state) {
  RAG_UNUSED(state);
  assert_parse("en", "+must -not plain", "+must -not plain");
  assert_parse("en", "\"the connection was refused\" +\"two words\" -“curly ones”",
               "(the connect was refus) +(two word) -(cur one)");
  assert_parse("en", "\"refused\" +\"refused\"", "refus +refus");
  assert_parse("en", "-5 +1 --verbose a-b 3-4", "5 1 verbos ab b 3-4 3 4");
  assert_parse("en", "+foo_bar -fooBar -e-mail", "+(foo bar) -foobar -(e mail)");
  assert_parse("en", "say \"unbalanced words", "say unbalanc word");
  assert_parse("en", "one \"two\" \"three", "one two three");
  assert_parse("en", "-\"no end", "-no end");
  assert_parse("en", "a 5\" pipe and 6\" pipe", "5 pipe*2 6");
  assert_parse("en", "-only -these", "-onli -these");
  assert_parse("en", "x\u3000+y\u00a0-z", "x +y -z");
}

static void stop_words(void **state) {
  RAG_UNUSED(state);
  assert_parse("en", "what is the capital", "capit");
  assert_parse("en", "to be or not to be", "to*2 be*2 or not ?");
  assert_parse("en", "the -capital", "the -capit ?");
  assert_parse("en", "the +of", "+of");
  assert_parse("en", "\"the who\" the", "(the who)");
  assert_parse("en", "WHO guidelines in the EU", "who guidelin eu");
  assert_parse("en", "WHAT IS THE CAPITAL", "capit");
  assert_parse("en", "it IT works", "it*2 work");
  assert_parse("und", "what is the", "what is the");
}

static void prefixes(void **state) {
  RAG_UNUSED(state);
  assert_parse("en", "kube* +Kube* -kube**", "kube* +kube* -kube*");
  assert_parse("en", "connections* happy*", "connect* happ*");
  assert_parse("en", "happy happy*", "happi happ*"); // the cached stem is not the prefix
  assert_parse("en", "foo_ba* Café* 1.2*", "fooba* cafe* 1.2*");
  assert_parse("en", "foo*bar *foo a,b*", "foo*2 bar b");
  assert_parse("zh", "東* 東京* 京", "東* 東京 京*");
  assert_parse("zh", "+猫 -東京都 \"東京都\" \"東京 tower\"", "+猫* -(東京 京都) (東京 京都) (東京 京 tower)");
  assert_parse("zh", "東京 \"東京\"", "東京 東京");
  assert_parse("th", "ไทย", "ไท ทย");
}

static void many_words(void **state) {
  RAG_UNUSED(state);
  for (uint32_t words = RAG_WORDS_TERMS_MAX; words <= 10000; words += words == RAG_WORDS_TERMS_MAX ? 1 : 8975) {
    rag_buf text = {0}, expected = {0};
    for (uint32_t i = 0; i < words; i++) {
      rag_buf_printf(&text, "w%u ", i);
      if (i < RAG_WORDS_TERMS_MAX) rag_buf_printf(&expected, i ? " w%u" : "w%u", i);
    }
    if (words > RAG_WORDS_TERMS_MAX) rag_buf_append_str(&expected, " !");
    rag_buf_append_char(&expected, '\0');
    assert_parse_of("en", rag_buf_slice(&text), expected.data);
    rag_buf_free(&text);
    rag_buf_free(&expected);
  }
  // The same word ten thousand times is one clause.
  rag_buf same = {0};
  for (uint32_t i = 0; i < 10000; i++) rag_buf_append_str(&same, "word ");
  assert_parse_of("en", rag_buf_slice(&same), "word*10000");
  rag_buf_free(&same);
}

static void long_phrases(void **state) {
  RAG_UNUSED(state);
  for (uint32_t words = RAG_WORDS_PHRASE_MAX; words <= 10000; words += words == RAG_WORDS_PHRASE_MAX ? 1 : 9935) {
    rag_buf text = {0}, expected = {0};
    rag_buf_append_char(&text, '"');
    rag_buf_append_char(&expected, '(');
    for (uint32_t i = 0; i < words; i++) {
      rag_buf_printf(&text, "w%u ", i);
      if (i < RAG_WORDS_PHRASE_MAX) rag_buf_printf(&expected, i ? " w%u" : "w%u", i);
    }
    rag_buf_append_str(&text, "\" last");
    rag_buf_append_str(&expected, words > RAG_WORDS_PHRASE_MAX ? ") last !" : ") last");
    rag_buf_append_char(&expected, '\0');
    assert_parse_of("en", rag_buf_slice(&text), expected.data);
    rag_buf_free(&text);
    rag_buf_free(&expected);
  }
  // Sixteen phrases of 64 words fill the query; the seventeenth is too many.
  rag_buf full = {0};
  for (uint32_t phrase = 0; phrase < 17; phrase++) {
    rag_buf_append_char(&full, '"');
    for (uint32_t i = 0; i < RAG_WORDS_PHRASE_MAX; i++) rag_buf_printf(&full, "w%u ", i);
    rag_buf_append_char(&full, '"');
  }
  rag_analyzer *analyzer = open_analyzer("en");
  rag_arena *arena = rag_arena_create(0);
  rag_words_query query;
  assert_int_equal(rag_words_parse(analyzer, rag_buf_slice(&full), arena, &query, NULL), RAG_OK);
  assert_int_equal(query.clause_count, 16);
  assert_true(query.truncated);
  rag_arena_destroy(arena);
  rag_analyzer_close(analyzer);
  rag_buf_free(&full);
}

static void quotes_cost_linear_time(void **state) {
  RAG_UNUSED(state);
  size_t size = 4u << 20;
  char *text = rag_alloc(size);
  for (size_t i = 0; i < size; i++) text[i] = i % 2 ? ' ' : '"';
  text[2] = ' '; // an odd number of them: the last has no end
  assert_parse_of("en", rag_slice_of(text, size), "");
  rag_free(text);
}

static void an_arena_that_is_too_small(void **state) {
  RAG_UNUSED(state);
  rag_analyzer *analyzer = open_analyzer("en");
  rag_arena *arena = rag_arena_create(16 << 10);
  rag_words_query query = {.clause_count = 77};
  rag_error err = {0};
  assert_int_equal(rag_words_parse(analyzer, rag_slice_str("two words"), arena, &query, &err), RAG_RESOURCE_EXHAUSTED);
  assert_int_equal(query.clause_count, 77); // untouched
  rag_arena_destroy(arena);
  rag_slice huge = {"", (size_t)RAG_ANALYSIS_TEXT_BYTES_MAX + 1};
  arena = rag_arena_create(0);
  assert_int_equal(rag_words_parse(analyzer, huge, arena, &query, &err), RAG_OUT_OF_RANGE);
  rag_arena_destroy(arena);
  rag_analyzer_close(analyzer);
}

static rag_status open_and_parse(rag_error *err) {
  rag_analyzer *analyzer = NULL;
  rag_status status = RAG_OK;
  rag_words_query query;
  rag_buf text = {0};
  for (uint32_t i = 0; i < 600; i++) rag_buf_printf(&text, "w%u \"p%u q%u\" x%u* ", i, i, i, i);
  rag_arena *arena = rag_arena_create(0);
  if (text.failed || !arena) {
    status = RAG_RESOURCE_EXHAUSTED;
    goto out;
  }
  RAG_TRY_OUT(rag_analyzer_open(rag_slice_str("ru"), &analyzer, err));
  RAG_TRY_OUT(rag_words_parse(analyzer, rag_buf_slice(&text), arena, &query, err));
  assert_true(query.truncated);
out:
  rag_arena_destroy(arena);
  rag_buf_free(&text);
  rag_analyzer_close(analyzer);
  return status;
}

static void every_allocation_may_fail(void **state) {
  RAG_UNUSED(state);
  uint64_t failures = 0;
  for (uint64_t n = 1;; n++) {
    rag_error err = {0};
    rag_alloc_fail_after(n);
    rag_status status = open_and_parse(&err);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    if (!failed) {
      assert_int_equal(status, RAG_OK);
      break;
    }
    assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
    failures++;
  }
  assert_true(failures >= 6); // the analyser, its cache, two stemmers, the arena's chunks
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_words),
      cmocka_unit_test(signs_and_quotes),
      cmocka_unit_test(stop_words),
      cmocka_unit_test(prefixes),
      cmocka_unit_test(many_words),
      cmocka_unit_test(long_phrases),
      cmocka_unit_test(quotes_cost_linear_time),
      cmocka_unit_test(an_arena_that_is_too_small),
      cmocka_unit_test(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
