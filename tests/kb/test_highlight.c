// Goal: the spans of a text that a query's words are marked in are those that highlight.c states, bounded, and never cut
// a character; a parsed query's clauses reach the lexical index as they are.
// Method: known texts with brackets where spans are; a second implementation that holds every token of the text against
// every term of the query, beside random texts and queries of few words (so that phrases overlap, repeat and end in
// each other); random bytes; texts at the limits. The seed is printed; RAGD_TEST_SEED repeats a run.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kb/retrieval/retrieval_internal.h"

#define TOKENS_MAX 4096u

static uint64_t random_state;
static rag_analyzer *analyzer;
static rag_arena *arena;
static rag_kb__highlights marks;

static uint32_t random_below(uint32_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((random_state >> 33) % bound);
}

static int setup(void **state) {
  RAG_UNUSED(state);
  arena = rag_arena_create(0);
  return arena && rag_analyzer_open(rag_slice_str("en"), &analyzer, NULL) == RAG_OK ? 0 : -1;
}

static int teardown(void **state) {
  RAG_UNUSED(state);
  rag_analyzer_close(analyzer);
  rag_arena_destroy(arena);
  return 0;
}

static rag_words_query parse(rag_slice query) {
  rag_words_query words;
  rag_arena_reset(arena);
  assert_int_equal(rag_words_parse(analyzer, query, arena, &words, NULL), RAG_OK);
  return words;
}

static void mark(const rag_words_query *words, rag_slice text) {
  rag_kb__highlighter *highlighter = NULL;
  assert_int_equal(rag_kb__highlighter_create(words, arena, &highlighter, NULL), RAG_OK);
  marks.count = UINT32_MAX;
  rag_kb__highlight(highlighter, analyzer, text, &marks);
}

// ---------------------------------------------------------------------------------------------- known texts

static const struct {
  const char *query;
  const char *marked;
} known[] = {
    // Words by their stems, without case and accents; stop words are not looked for.
    {"running", "He [runs], she [Running] ran; a [run]."},
    {"the café", "The [cafe] of the [CAFÉS]"},
    {"the", "[the] one: [The]"},
    {"nothing", "here"},
    {"", "here"},
    {"-here", "here"},
    {"\"...\" - +", "here - +"},
    // Neighbours are one span: white space or what binds compounds between them, no more.
    {"solar panel", "[solar panel] and [panels]... no, [panels], [solar]. [Panel] ([solar]) [panel]"},
    {"solar panel", "[solar\n  panel solar]\n\n[panel]"},
    {"solar panel", "[solar        panel], [solar]         [panel]"},
    {"solar panel", "[solar-panel], [solar_panel::panel], [solar] - [panel]"},
    // Phrases, whole or not at all, and what stands in them too.
    {"\"solar panel\"", "a solar cell, a [solar panel], panel solar, [Solar\nPanels] on solar"},
    {"\"solar panel\" solar", "a [solar] cell, a [solar panel], panel [solar]"},
    {"+\"end to end\"", "[end to end to end] to the end"},
    {"\"a b a\" \"b c\"", "[a b a b a], [b c], b, [a b a], [b c], [a b-a b c] a b"},
    {"-\"solar panel\" cell", "a solar panel's [cell]"},
    {"\"solar panel\" -solar", "a [solar panel], solar"},
    {"\"one two three\" \"two three four five\"", "[one two three four five], [one two three] five, two three four"},
    {"\"to be\" \"not to be\"", "[to be] or [not to be]"},
    {"\"is it. It is\"", "[is it]. [It is]"},
    // Compounds and names: the whole, its words, its parts.
    {"read", "[read]File [read]_file [reading]"},
    {"file", "read[File] read_[file], [files]"},
    {"readfile", "[readFile], [read_file read-file] read file"},
    {"+read_file", "[read_file], [read file], src/[read/file], file_read, readFile"},
    {"\"a main\"", "x [a main]_loop main, [a-main]-loop"},
    {"\"x main\" mainloop", "[x main_loop] y, [x-main]_loop, y.[main_loop]"},
    {"c", "[C]++ [c]# [C] cc"},
    {"c++", "[C++]: [c], [C]#, d"},
    {"2.0", "v[2.0], [2.0], 2.01"},
    // Prefixes.
    {"conn*", "[connection CONNECT] con [connexion], dis[Connected]"},
    {"mainl*", "[main_loop] main_pool"},
    {"aa* aaaa* aaaaaa", "a [aa], [aaaaab] b"},
    {"e*", "[élan É] f"},
    // Scripts without spaces.
    {"東京", "[東京]都と[東京]タワー"},
    {"東京都", "[東京都]、[京都]、東北、京、[東京]"},
    {"\"東京都\"", "[東京都]、京都、東京"},
    {"京", "東[京都]、[京]"},
    {"🎉", "party [🎉]!"},
};

static void test_known(void **state) {
  RAG_UNUSED(state);
  uint32_t wrong = 0;
  for (size_t i = 0; i < RAG_COUNT_OF(known); i++) {
    rag_buf text = {0}, shown = {0};
    for (const char *at = known[i].marked; *at; at++) {
      if (*at != '[' && *at != ']') rag_buf_append_char(&text, *at);
    }
    rag_words_query words = parse(rag_slice_str(known[i].query));
    mark(&words, rag_buf_slice(&text));
    uint32_t at = 0;
    for (uint32_t s = 0; s < marks.count; s++) {
      rag_buf_append(&shown, text.data + at, marks.spans[s].start - at);
      rag_buf_append_char(&shown, '[');
      rag_buf_append(&shown, text.data + marks.spans[s].start, marks.spans[s].end - marks.spans[s].start);
      rag_buf_append_char(&shown, ']');
      at = marks.spans[s].end;
    }
    rag_buf_append(&shown, text.data + at, text.size - at);
    rag_buf_append_char(&shown, '\0');
    if (strcmp(shown.data, known[i].marked) != 0 || marks.truncated) {
      print_message("query: %s\n gives: %s\n not:   %s\n", known[i].query, shown.data, known[i].marked);
      wrong++;
    }
    rag_buf_free(&text);
    rag_buf_free(&shown);
  }
  assert_int_equal(wrong, 0);
}

// ---------------------------------------------------------------------------------------------- the plain way

typedef struct plain_token {
  char term[RAG_TERM_BYTES_MAX];
  uint32_t size, start, end;
  bool path, marked;
} plain_token;

typedef struct plain_tokens {
  plain_token list[TOKENS_MAX];
  uint32_t count;
} plain_tokens;
static plain_tokens plain;

static bool keep_token(void *context, const rag_token *token) {
  plain_tokens *tokens = context;
  assert_true(tokens->count < TOKENS_MAX);
  plain_token *kept = &tokens->list[tokens->count++];
  *kept = (plain_token){.size = (uint32_t)token->term.size, .start = token->start, .end = token->end};
  memcpy(kept->term, token->term.data, token->term.size);
  kept->path = !(token->flags & RAG_TOKEN_EXTRA);
  return true;
}

static bool has_term(const plain_token *token, rag_slice term, bool prefix) {
  if (prefix ? token->size < term.size : token->size != term.size) return false;
  return memcmp(token->term, term.data, term.size) == 0;
}

static void mark_clause(const rag_words_clause *clause) {
  uint32_t path[TOKENS_MAX], count = 0;
  for (uint32_t i = 0; i < plain.count; i++) {
    plain_token *token = &plain.list[i];
    if (token->path) path[count++] = i;
    if (clause->kind == RAG_WORDS_PHRASE) continue;
    token->marked |= has_term(token, clause->terms[0], clause->kind == RAG_WORDS_PREFIX);
  }
  for (uint32_t from = 0; clause->kind == RAG_WORDS_PHRASE && from + clause->term_count <= count; from++) {
    bool all = true;
    for (uint32_t t = 0; t < clause->term_count; t++) {
      all = all && has_term(&plain.list[path[from + t]], clause->terms[t], false);
    }
    for (uint32_t t = 0; all && t < clause->term_count; t++) plain.list[path[from + t]].marked = true;
  }
}

static bool plain_gap(rag_slice text, uint32_t start, uint32_t end) {
  char gap[9];
  if (end - start > 8) return false;
  memcpy(gap, text.data + start, end - start);
  gap[end - start] = '\0';
  if (memchr(text.data + start, '\0', end - start)) return false;
  if (strspn(gap, "_-&.:@/\\'") == strlen(gap)) return true;
  const char *line = strchr(gap, '\n');
  return strspn(gap, " \t\r\n") == strlen(gap) && !(line && strchr(line + 1, '\n'));
}

static void assert_marks(const rag_words_query *words, rag_slice text) {
  static rag_span spans[TOKENS_MAX];
  uint32_t count = 0;
  plain.count = 0;
  assert_int_equal(rag_analyzer_run(analyzer, text, keep_token, &plain), RAG_OK);
  for (uint32_t i = 0; i < words->clause_count; i++) {
    if (words->clauses[i].occur != RAG_WORDS_MUST_NOT) mark_clause(&words->clauses[i]);
  }
  for (uint32_t i = 0; i < plain.count; i++) {
    const plain_token *token = &plain.list[i];
    if (!token->marked) continue;
    rag_span *last = count > 0 ? &spans[count - 1] : NULL;
    if (last && (token->start <= last->end || plain_gap(text, last->end, token->start))) {
      last->end = RAG_MAX(last->end, token->end);
    } else {
      spans[count++] = (rag_span){token->start, token->end};
    }
  }
  mark(words, text);
  bool equal = marks.count == RAG_MIN(count, RAG_HIGHLIGHTS_MAX) && marks.truncated == (count > RAG_HIGHLIGHTS_MAX) &&
               memcmp(spans, marks.spans, marks.count * sizeof *spans) == 0;
  if (!equal) {
    print_message("%u spans, not %u: %.*s\n", marks.count, count, (int)RAG_MIN(text.size, (size_t)2000), text.data);
  }
  assert_true(equal);
}

static const char *const pieces[] = {
    "a",   "b",        "c",         "a",    "b",       "a b",    "aa",       "ab",   "the", "Running",
    "run", "readFile", "read_file", "file", "x-a-b.c", "東京都", "京都",     "京",   "🎉",   "v2.0",
    "2.0", "C++",      "c",         "GPUs", "l'avion", "résumé", "a/b_c::d", "\xff",
};
static const char *const spaces[] = {" ",  " ", " ", " ", "  ", "\n",        "\n\n",
                                     ", ", "-", ".", "_", "::", "         ", ""};

static void random_text(rag_buf *out, uint32_t count, uint32_t kinds) {
  for (uint32_t i = 0; i < count; i++) {
    rag_buf_append_str(out, pieces[random_below(kinds)]);
    rag_buf_append_str(out, spaces[random_below(random_below(3) ? 4 : (uint32_t)RAG_COUNT_OF(spaces))]);
  }
}

static void random_query(rag_buf *out, uint32_t kinds) {
  for (uint32_t i = 1 + random_below(6); i > 0; i--) {
    static const char *const signs[] = {"", "", "", "+", "-"};
    rag_buf_append_str(out, signs[random_below((uint32_t)RAG_COUNT_OF(signs))]);
    if (random_below(2)) {
      rag_buf_append_char(out, '"');
      random_text(out, 1 + random_below(random_below(10) ? 5 : 80), kinds);
      rag_buf_append_char(out, '"');
    } else {
      rag_buf_append_str(out, pieces[random_below(kinds)]);
      if (random_below(5) == 0) rag_buf_append_char(out, '*');
    }
    rag_buf_append_char(out, ' ');
  }
}

static void test_random(void **state) {
  RAG_UNUSED(state);
  for (uint32_t round = 0; round < 6000; round++) {
    rag_buf query = {0}, text = {0};
    uint32_t kinds = random_below(2) ? 2 + random_below(4) : (uint32_t)RAG_COUNT_OF(pieces);
    random_query(&query, kinds);
    random_text(&text, random_below(random_below(20) ? 60 : 600), kinds);
    rag_words_query words = parse(rag_buf_slice(&query));
    assert_marks(&words, rag_buf_slice(&text));
    rag_buf_free(&query);
    rag_buf_free(&text);
  }
}

// Any bytes, in a block of their size for the address sanitizer: spans ascend, lie apart, and cut no character.
static void test_bytes(void **state) {
  RAG_UNUSED(state);
  for (uint32_t round = 0; round < 3000; round++) {
    uint32_t size = random_below(200);
    char *bytes = rag_alloc(size + (size == 0));
    for (uint32_t i = 0; i < size; i++) bytes[i] = (char)(random_below(3) ? 'a' + random_below(3) : random_below(256));
    rag_words_query words = parse(rag_slice_of(bytes, random_below(size + 1)));
    assert_marks(&words, rag_slice_of(bytes, size));
    for (uint32_t i = 0; i < marks.count; i++) {
      assert_true(marks.spans[i].start < marks.spans[i].end && marks.spans[i].end <= size);
      assert_true(i == 0 || marks.spans[i - 1].end < marks.spans[i].start);
    }
    rag_free(bytes);
  }
}

// ---------------------------------------------------------------------------------------------- limits

static void test_spans_max(void **state) {
  RAG_UNUSED(state);
  for (uint32_t count = RAG_HIGHLIGHTS_MAX - 1; count <= RAG_HIGHLIGHTS_MAX + 1; count++) {
    rag_buf text = {0};
    for (uint32_t i = 0; i < count; i++) rag_buf_append_str(&text, "word, ");
    rag_words_query words = parse(rag_slice_str("word \"other phrase here\""));
    assert_marks(&words, rag_buf_slice(&text));
    assert_int_equal(marks.truncated, count > RAG_HIGHLIGHTS_MAX);
    // The last span still grows: it is the next one that is too many.
    rag_buf_append_str(&text, "word word");
    assert_marks(&words, rag_buf_slice(&text));
    rag_buf_free(&text);
  }
}

// The longest phrase that there is, and queries of the most terms, in texts that begin it again and again.
static void test_phrases_max(void **state) {
  RAG_UNUSED(state);
  rag_buf query = {0}, text = {0};
  rag_buf_append_char(&query, '"');
  for (uint32_t i = 0; i < RAG_WORDS_PHRASE_MAX - 1; i++) rag_buf_append_str(&query, "a ");
  rag_buf_append_str(&query, "b\" ");
  for (uint32_t length = 2; length < 45; length++) { // 1,033 terms with it: the last is one too many
    rag_buf_append_char(&query, '"');
    for (uint32_t i = 1; i < length; i++) rag_buf_append_str(&query, "a ");
    rag_buf_append_str(&query, "c\" ");
  }
  for (uint32_t run = 1; run < 80; run++) {
    for (uint32_t i = 0; i < run; i++) rag_buf_append_str(&text, i % 7 == 3 && run % 2 ? "a-" : "a ");
    rag_buf_append_str(&text, run % 3 == 0 ? "b, " : run % 3 == 1 ? "c; " : "d. ");
  }
  rag_words_query words = parse(rag_buf_slice(&query));
  assert_true(words.truncated && words.clause_count > 40);
  assert_marks(&words, rag_buf_slice(&text));
  assert_true(marks.count > 20);
  rag_buf_free(&query);
  rag_buf_free(&text);
}

static void test_large(void **state) {
  RAG_UNUSED(state);
  const size_t size = 10u << 20;
  char *text = rag_alloc(size);
  memset(text, 'a', size);
  rag_words_query words = parse(rag_slice_str("a* \"a b\""));
  mark(&words, rag_slice_of(text, size)); // one word that ends behind the limit
  assert_true(marks.count == 0 && marks.truncated);
  mark(&words, rag_slice_of(text, RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX + 1));
  assert_true(marks.count == 0 && marks.truncated);
  mark(&words, rag_slice_of(text, RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX));
  assert_true(marks.count == 1 && !marks.truncated && marks.spans[0].end == RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX);
  text[RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX - 1] = ' '; // it ends before the limit
  mark(&words, rag_slice_of(text, size));
  assert_true(marks.count == 1 && marks.truncated && marks.spans[0].end == RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX - 1);
  memset(text, ' ', size);
  memcpy(text, "a,a b", 5);
  memcpy(text + size - 3, " a ", 3);
  words = parse(rag_slice_str("\"a b\""));
  mark(&words, rag_slice_of(text, size));
  assert_true(marks.count == 1 && marks.truncated && marks.spans[0].start == 2 && marks.spans[0].end == 5);
  rag_free(text);
}

// One highlighter for the texts of an answer: nothing of a text is left in the next.
static void test_reuse(void **state) {
  RAG_UNUSED(state);
  rag_words_query words = parse(rag_slice_str("\"a b c\" \"b c\""));
  rag_kb__highlighter *highlighter = NULL;
  assert_int_equal(rag_kb__highlighter_create(&words, arena, &highlighter, NULL), RAG_OK);
  static const struct {
    const char *text;
    uint32_t count;
  } cases[] = {{"x a b", 0}, {"c d", 0}, {"a b c", 1}, {"c", 0}, {"x y z", 0}, {"x a", 0}, {"b c", 1}, {"a b c", 1}};
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    rag_kb__highlight(highlighter, analyzer, rag_slice_str(cases[i].text), &marks);
    assert_int_equal(marks.count, cases[i].count);
  }
}

static void test_no_memory(void **state) {
  RAG_UNUSED(state);
  rag_words_query words = parse(rag_slice_str("a \"b c d\" e*"));
  uint32_t failed = 0;
  for (size_t limit = 256;; limit += 256) {
    rag_arena *small = rag_arena_create(limit);
    assert_non_null(small);
    rag_kb__highlighter *highlighter = NULL;
    rag_lexical_clause *clauses = NULL;
    uint32_t count = 77;
    rag_status status = rag_kb__clauses(&words, small, &clauses, &count, NULL);
    if (status == RAG_OK) status = rag_kb__highlighter_create(&words, small, &highlighter, NULL);
    else assert_true(clauses == NULL && count == 77);
    if (status == RAG_OK) rag_kb__highlight(highlighter, analyzer, rag_slice_str("b c d"), &marks);
    rag_arena_destroy(small);
    if (status == RAG_OK) break;
    assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
    assert_null(highlighter);
    failed++;
  }
  assert_true(failed > 0 && marks.count == 1);
}

// ---------------------------------------------------------------------------------------------- clauses

static void test_clauses(void **state) {
  RAG_UNUSED(state);
  rag_words_query words = parse(rag_slice_str("fox fox +\"red hen\" -dog conn* fox \"one two three\" -wo*"));
  rag_lexical_clause *clauses = NULL;
  uint32_t count = 0;
  assert_int_equal(rag_kb__clauses(&words, arena, &clauses, &count, NULL), RAG_OK);
  const rag_lexical_clause expected[] = {
      {.kind = RAG_LEXICAL_TERM, .occur = RAG_LEXICAL_SHOULD, .weight = 3, .term_count = 1},
      {.kind = RAG_LEXICAL_PHRASE, .occur = RAG_LEXICAL_MUST, .weight = 1, .term_count = 2},
      {.kind = RAG_LEXICAL_TERM, .occur = RAG_LEXICAL_MUST_NOT, .weight = 1, .term_count = 1},
      {.kind = RAG_LEXICAL_PREFIX, .occur = RAG_LEXICAL_SHOULD, .weight = 1, .term_count = 1},
      {.kind = RAG_LEXICAL_PHRASE, .occur = RAG_LEXICAL_SHOULD, .weight = 1, .term_count = 3},
      {.kind = RAG_LEXICAL_PREFIX, .occur = RAG_LEXICAL_MUST_NOT, .weight = 1, .term_count = 1},
  };
  const char *first[] = {"fox", "red", "dog", "conn", "one", "wo"};
  assert_int_equal(count, RAG_COUNT_OF(expected));
  for (uint32_t i = 0; i < count; i++) {
    assert_int_equal(clauses[i].kind, expected[i].kind);
    assert_int_equal(clauses[i].occur, expected[i].occur);
    assert_int_equal(clauses[i].term_count, expected[i].term_count);
    assert_true(clauses[i].weight == expected[i].weight);
    assert_true(rag_slice_equal(clauses[i].terms[0], rag_slice_str(first[i])));
  }
  words = parse(rag_slice_str(""));
  assert_int_equal(rag_kb__clauses(&words, arena, &clauses, &count, NULL), RAG_OK);
  assert_int_equal(count, 0);
  // A word may be there more often than a clause may weigh.
  const rag_slice term = rag_slice_str("word");
  const rag_words_clause often = {.count = 5000000, .term_count = 1, .terms = &term};
  const rag_words_query many = {.clauses = &often, .clause_count = 1, .positive_count = 1};
  assert_int_equal(rag_kb__clauses(&many, arena, &clauses, &count, NULL), RAG_OK);
  assert_true(count == 1 && clauses[0].weight == RAG_LEXICAL_WEIGHT_MAX);
}

int main(void) {
  const char *seed = getenv("RAGD_TEST_SEED");
  random_state = seed ? strtoull(seed, NULL, 10) : rag_clock_monotonic_ns();
  printf("RAGD_TEST_SEED=%llu\n", (unsigned long long)random_state);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_known),     cmocka_unit_test(test_random),      cmocka_unit_test(test_bytes),
      cmocka_unit_test(test_spans_max), cmocka_unit_test(test_phrases_max), cmocka_unit_test(test_large),
      cmocka_unit_test(test_reuse),     cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_clauses),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
