// Goal: whatever the bytes, an analyser hands out tokens that keep their promises, the same ones each time, and a query
// a parse that keeps its bounds; and both tables are frozen.
// Method: random texts of likely pieces (letters of many scripts, joiners, marks, emoji, digits) and of random bytes,
// each in a heap block of its exact size for the address sanitizer, in several languages. Each text is analysed by a
// fresh analyser and by one that has seen all texts before it; words are analysed alone and after a text that fills the
// cache. The seed is printed; RAGD_TEST_SEED repeats a run. Builds without libstemmer run it too.
#include "tests/index/analysis_testing.h"

#include "index/analysis/analysis_internal.h"

static uint64_t random_state;

static uint32_t random_below(uint32_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((random_state >> 33) % bound);
}

static const char *const pieces[] = {
    "a",
    "B",
    "word",
    "Running",
    "s",
    "HTTP",
    "x",
    "1",
    "23",
    "000",
    ".",
    ",",
    "-",
    "_",
    "/",
    ":",
    "::",
    "@",
    "'",
    "’",
    "\"",
    "+",
    "#",
    "++",
    "*",
    " ",
    "  ",
    "\n",
    "é",
    "ß",
    "İ",
    "ı",
    "I",
    "e\u0301",
    "й",
    "и\u0306",
    "Σ",
    "ς",
    "東",
    "京",
    "ガ",
    "ｶ\uff9e",
    "한",
    "\u1112\u1161",
    "ท",
    "ี่",
    "ខ្",
    "👍",
    "🏽",
    "🇩",
    "\u200d",
    "\ufe0f",
    "\u00ad",
    "\u0301",
    "ﬁ",
    "½",
    "ﷺ",
    "ae",
    "ue",
    "q",
    "、",
    "\u3000",
    "\u2010",
    "٣",
    "हिं",
    "\xff",
    "\xc3",
    "\xe6\x9d",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};
static const char *const tags[] = {"en", "de", "fr", "tr", "ru", "ar", "th", "und"};

static rag_slice random_text(void) {
  rag_buf made = {0};
  uint32_t count = random_below(random_below(8) == 0 ? 400 : 24);
  bool bytes = random_below(8) == 0;
  for (uint32_t i = 0; i < count; i++) {
    if (bytes) rag_buf_append_char(&made, (char)random_below(256));
    else rag_buf_append_str(&made, pieces[random_below(RAG_COUNT_OF(pieces))]);
  }
  char *exact = malloc(made.size ? made.size : 1);
  if (made.size) memcpy(exact, made.data, made.size);
  rag_slice text = rag_slice_of(exact, made.size);
  rag_buf_free(&made);
  return text;
}

typedef struct checker {
  rag_slice text;
  uint32_t path; // path tokens so far
  uint32_t last_start, last_position;
  bool valid; // the text is valid UTF-8
  rag_buf trace;
} checker;

static bool is_boundary(rag_slice text, uint32_t at) {
  return at == text.size || ((unsigned char)text.data[at] & 0xC0) != 0x80;
}

static bool check_token(void *context, const rag_token *token) {
  checker *c = context;
  assert_in_range(token->term.size, 1, RAG_TERM_BYTES_MAX);
  assert_true(rag_utf8_valid(token->term.data, token->term.size));
  assert_true(token->start < token->end && token->end <= c->text.size);
  if (c->valid) assert_true(is_boundary(c->text, token->start) && is_boundary(c->text, token->end));
  bool extra = token->flags & RAG_TOKEN_EXTRA;
  if (token->flags & RAG_TOKEN_WHOLE) assert_true(extra);
  if (!extra) { // exactly one on each position, in order
    assert_int_equal(token->position, c->path);
    assert_true(c->path == 0 || token->start >= c->last_start);
    c->last_start = token->start;
    c->path++;
  } else {
    assert_true(token->flags & RAG_TOKEN_WHOLE ? token->position == c->path : token->position + 1 == c->path);
    assert_false(token->flags & (RAG_TOKEN_STOP | RAG_TOKEN_TAIL | RAG_TOKEN_LONE));
  }
  assert_true(token->position >= c->last_position);
  c->last_position = token->position;
  rag_buf_append(&c->trace, token->term.data, token->term.size);
  rag_buf_printf(&c->trace, " %u %u %u %u\n", token->position, token->start, token->end, token->flags);
  return true;
}

static rag_buf trace_of(rag_analyzer *analyzer, rag_slice text) {
  checker c = {.text = text, .valid = rag_utf8_valid(text.data, text.size)};
  assert_int_equal(rag_analyzer_run(analyzer, text, check_token, &c), RAG_OK);
  assert_false(c.trace.failed);
  return c.trace;
}

static void tokens_keep_their_promises(void **state) {
  RAG_UNUSED(state);
  for (size_t t = 0; t < RAG_COUNT_OF(tags); t++) {
    rag_analyzer *used = open_analyzer(tags[t]);
    for (int round = 0; round < 1500; round++) {
      rag_slice text = random_text();
      rag_buf once = trace_of(used, text), again = trace_of(used, text);
      assert_true(rag_slice_equal(rag_buf_slice(&once), rag_buf_slice(&again)));
      if (round % 8 == 0) {
        rag_analyzer *fresh = open_analyzer(tags[t]);
        rag_buf first = trace_of(fresh, text);
        assert_true(rag_slice_equal(rag_buf_slice(&once), rag_buf_slice(&first)));
        rag_buf_free(&first);
        rag_analyzer_close(fresh);
      }
      rag_buf_free(&once);
      rag_buf_free(&again);
      free((char *)text.data);
    }
    rag_analyzer_close(used);
  }
}

static void parses_keep_their_bounds(void **state) {
  RAG_UNUSED(state);
  for (size_t t = 0; t < RAG_COUNT_OF(tags); t++) {
    rag_analyzer *analyzer = open_analyzer(tags[t]);
    for (int round = 0; round < 1500; round++) {
      rag_slice text = random_text();
      rag_arena *arena = rag_arena_create(1 << 20);
      rag_words_query query;
      assert_int_equal(rag_words_parse(analyzer, text, arena, &query, NULL), RAG_OK);
      uint32_t positive = 0, terms = 0;
      for (uint32_t i = 0; i < query.clause_count; i++) {
        const rag_words_clause *clause = &query.clauses[i];
        positive += clause->occur != RAG_WORDS_MUST_NOT;
        assert_true(clause->count >= 1);
        if (clause->kind == RAG_WORDS_PHRASE) assert_in_range(clause->term_count, 2, RAG_WORDS_PHRASE_MAX);
        else assert_int_equal(clause->term_count, 1);
        for (uint32_t k = 0; k < clause->term_count; k++, terms++) {
          assert_in_range(clause->terms[k].size, 1, RAG_TERM_BYTES_MAX);
          assert_true(rag_utf8_valid(clause->terms[k].data, clause->terms[k].size));
        }
      }
      assert_int_equal(positive, query.positive_count);
      assert_true(terms <= RAG_WORDS_TERMS_MAX);
      rag_arena_destroy(arena);
      free((char *)text.data);
    }
    rag_analyzer_close(analyzer);
  }
}

// What has one spelling in a document has the same in a query: each path term of a text without operators is found.
static void the_fast_path_is_the_slow_path(void **state) {
  RAG_UNUSED(state);
  rag_analyzer *analyzer = open_analyzer("en");
  for (int round = 0; round < 20000; round++) {
    char plain[64], joined[64];
    uint32_t size = 1 + random_below(30);
    for (uint32_t i = 0; i < size; i++) plain[i] = (char)('a' + random_below(26));
    if (random_below(4) == 0) plain[0] = (char)(plain[0] - 32);
    memcpy(joined, plain, size);
    memcpy(joined + size, "\u00ad", 2); // dropped, and nothing that the fast path takes
    rag_buf fast = {0}, slow = {0};
    assert_int_equal(rag_analyzer_run(analyzer, rag_slice_of(plain, size), print_token, &fast), RAG_OK);
    assert_int_equal(rag_analyzer_run(analyzer, rag_slice_of(joined, size + 2), print_token, &slow), RAG_OK);
    assert_true(rag_slice_equal(rag_buf_slice(&fast), rag_buf_slice(&slow)));
    rag_buf_free(&fast);
    rag_buf_free(&slow);
  }
  rag_analyzer_close(analyzer);
}

// Frozen: of every code point, alone and after "e", as a plain language has it. A change here is a change of stored
// terms: it needs a new RULES_VERSION in index/analysis/analyzer.c.
#define GOLDEN_TOKENS 204699u
#define GOLDEN_CRC 0xcf12174cu

static void the_tables_are_frozen(void **state) {
  RAG_UNUSED(state);
  rag_analyzer *analyzer = open_analyzer("und");
  uint32_t crc = 0, tokens = 0;
  rag_buf out = {0};
  for (uint32_t c = 1; c < 0x110000; c++) {
    if (c >= 0xD800 && c < 0xE000) continue;
    char text[16];
    uint32_t size = rag_utf8_encode(c, text);
    text[size++] = ' ';
    text[size++] = 'e';
    size += rag_utf8_encode(c, text + size);
    rag_buf_clear(&out);
    assert_int_equal(rag_analyzer_run(analyzer, rag_slice_of(text, size), print_token, &out), RAG_OK);
    crc = rag_crc32c(crc, out.data, out.size);
    tokens += out.size > 1;
    assert_true(rag_utf8_valid(out.data, out.size));
  }
  rag_buf_free(&out);
  rag_analyzer_close(analyzer);
  if (tokens != GOLDEN_TOKENS || crc != GOLDEN_CRC) print_message("tokens %u crc 0x%08x\n", tokens, crc);
  assert_int_equal(tokens, GOLDEN_TOKENS);
  assert_int_equal(crc, GOLDEN_CRC);
}

// Compounds, underscores, apostrophes, marks and commas without end: a text twice as long takes no more than a few
// times as long, or this test runs into its time limit.
static void no_text_costs_more_than_linear_time(void **state) {
  RAG_UNUSED(state);
  static const char *const repeated[] = {"a_", "a.", "_", "e\u0301", "\u0301", "1,", "1,000",  "a'", "aB",
                                         "東", "ท",  "ี่",  "👍\u200d", "🇩",      "++", "a-b/c.", "C++"};
  rag_analyzer *analyzer = open_analyzer("en");
  for (size_t i = 0; i < RAG_COUNT_OF(repeated); i++) {
    size_t piece = strlen(repeated[i]), size = (2u << 20) / piece * piece;
    char *text = rag_alloc(size);
    for (size_t at = 0; at < size; at += piece) memcpy(text + at, repeated[i], piece);
    checker c = {.text = rag_slice_of(text, size), .valid = true};
    assert_int_equal(rag_analyzer_run(analyzer, c.text, check_token, &c), RAG_OK);
    rag_buf_free(&c.trace);
    rag_arena *arena = rag_arena_create(4 << 20);
    rag_words_query query;
    assert_int_equal(rag_words_parse(analyzer, c.text, arena, &query, NULL), RAG_OK);
    rag_arena_destroy(arena);
    rag_free(text);
  }
  rag_analyzer_close(analyzer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tokens_keep_their_promises),          cmocka_unit_test(parses_keep_their_bounds),
      cmocka_unit_test(the_fast_path_is_the_slow_path),      cmocka_unit_test(the_tables_are_frozen),
      cmocka_unit_test(no_text_costs_more_than_linear_time),
  };
  const char *given = getenv("RAGD_TEST_SEED");
  rag_os_random(&random_state, sizeof(random_state));
  if (given) random_state = strtoull(given, NULL, 0);
  printf("seed: RAGD_TEST_SEED=%llu\n", (unsigned long long)random_state);
  fflush(stdout);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
