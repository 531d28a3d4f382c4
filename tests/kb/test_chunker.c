// Goal: chunks are what kb.h promises, for every text, and stay so for ever.
// Method: golden texts whose chunk ends are written into them as `¦`; a hash of the spans of generated text, which any
// change of a rule changes; properties (ascending, never inside a character, no blank chunk, every character that is
// not white space covered, at most max_tokens, disjoint without overlap) over random UTF-8, Markdown-like and hostile
// texts; the limit and one past it; every allocation failing once; the Rust book where it is there.
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kb/kb.h"

#define MARK "\xC2\xA6" // ¦

static uint64_t seed;
static uint32_t draw(uint32_t below) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 33) % below);
}

static uint64_t tokens(const char *text) {
  return rag_count_tokens(rag_slice_str(text));
}

// White space as the chunker has it; written a second time on purpose.
static bool is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200B) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000 || c == 0xFEFF;
}

static bool is_blank(rag_slice text, size_t from, size_t to) {
  for (size_t size; from < to; from += size)
    if (!is_space(rag_utf8_decode(text.data + from, to - from, &size))) return false;
  return true;
}

// Cuts and checks every property; the caller frees.
static rag_span *cut(rag_chunking chunking, rag_slice text, uint32_t *out_count) {
  rag_span *spans = NULL;
  rag_error err = {0};
  rag_status status = rag_chunk_text(&chunking, text, &spans, out_count, &err);
  if (status != RAG_OK) fail_msg("%s", err.message);
  size_t covered = 0;
  for (uint32_t i = 0; i < *out_count; i++) {
    rag_span span = spans[i];
    assert_true(span.start < span.end && span.end <= text.size);
    assert_true(i == 0 || (span.start > spans[i - 1].start && span.end > spans[i - 1].end));
    if (chunking.overlap_tokens == 0 && i > 0) assert_true(span.start >= spans[i - 1].end);
    assert_int_equal(rag_utf8_floor(text.data, text.size, span.start), span.start);
    assert_int_equal(rag_utf8_floor(text.data, text.size, span.end), span.end);
    if (span.start > covered) assert_true(is_blank(text, covered, span.start));
    covered = span.end;
    size_t size; // starts with a character that is to be seen
    assert_false(is_space(rag_utf8_decode(text.data + span.start, text.size - span.start, &size)));
    uint64_t count = rag_count_tokens(rag_slice_of(text.data + span.start, span.end - span.start));
    assert_true(count > 0);
    if (chunking.method != RAG_CHUNK_WHOLE) assert_true(count <= chunking.max_tokens);
  }
  assert_true(is_blank(text, covered, text.size));
  return spans;
}

// `marked` has a ¦ wherever a chunk ends.
static void expect(rag_chunk_method method, uint32_t max_tokens, const char *marked) {
  char *text = rag_strdup(marked);
  size_t ends[64], end_count = 0, size = 0;
  for (const char *p = marked; *p;) {
    if (strncmp(p, MARK, 2) == 0) {
      assert_true(end_count < RAG_COUNT_OF(ends) - 1);
      ends[end_count++] = size;
      p += 2;
    } else {
      text[size++] = *p++;
    }
  }
  ends[end_count++] = size;
  rag_chunking chunking = {method, max_tokens, 0};
  uint32_t count;
  rag_span *spans = cut(chunking, rag_slice_of(text, size), &count);
  bool good = count == end_count;
  for (uint32_t i = 0; good && i < count; i++) {
    size_t from = i == 0 ? 0 : ends[i - 1];
    good = spans[i].start >= from && spans[i].end <= ends[i] &&
           is_blank(rag_slice_of(text, size), spans[i].end, ends[i]) &&
           is_blank(rag_slice_of(text, size), from, spans[i].start);
  }
  if (!good) {
    for (uint32_t i = 0; i < count; i++)
      print_message("[%u] %.*s\n", i, (int)(spans[i].end - spans[i].start), text + spans[i].start);
    fail_msg("other chunks than in:\n%s", marked);
  }
  rag_free(spans);
  rag_free(text);
}

static void expect_structure(uint32_t max_tokens, const char *marked) {
  expect(RAG_CHUNK_STRUCTURE, max_tokens, marked);
}

// ------------------------------------------------------------------------------------------------------------- tokens

static void test_tokens(void **state) {
  RAG_UNUSED(state);
  static const struct {
    const char *text;
    uint64_t count;
  } cases[] = {
      {"", 0},
      {" \t\r\n\xC2\xA0\xE3\x80\x80\xE2\x80\xA8\xEF\xBB\xBF", 0},
      {"word", 1},
      {"two words", 2},
      {"snake_case x1", 2},
      {"don't", 3},
      {"Hello, world!", 4},
      {"3.14 1,000 1.2.3", 3},
      {"3. 14", 3},
      {".5 5.", 4},
      {"a.b", 3},
      {"...", 1},
      {"?!", 2},
      {"----------------", 1},
      {"-----------------", 2},
      {"abcdefghijklmnop", 1},
      {"abcdefghijklmnopq", 2},
      {"123456789012345.7", 1},
      {"1234567890123456.7", 3},
      {"na\xC3\xAFve caf\xC3\xA9", 2},
      {"nai\xCC\x88ve", 1},
      {"\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD0\xBC\xD0\xB8\xD1\x80", 2},
      {"\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82", 3}, // 你好。
      {"\xE3\x81\x8B\xE3\x82\x99", 1},             // か with a combining voiced mark
      {"\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4", 3}, // 한국어
      {"\xE0\xB8\xA0\xE0\xB8\xB2\xE0\xB8\xA9\xE0\xB8\xB2\xE0\xB9\x84\xE0\xB8\x97\xE0\xB8\xA2", 2}, // ภาษาไทย
      {"\xF0\x9F\x98\x80\xF0\x9F\x98\x80", 2},                                                     // two emoji
      {"\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD", 1}, // thumb with a skin tone
      {"\xE2\x9D\xA4\xEF\xB8\x8F", 1},         // heart, emoji form
      {"\xCC\x81", 1},                         // a mark alone
      {"\xE2\x80\x9Cquoted\xE2\x80\x9D", 3},
      {"a\xE2\x80\xA8"
       "b",
       2},
      {"`code`", 3},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    if (tokens(cases[i].text) != cases[i].count)
      fail_msg("\"%s\": %llu tokens, not %llu", cases[i].text, (unsigned long long)tokens(cases[i].text),
               (unsigned long long)cases[i].count);
  assert_int_equal(rag_count_tokens(rag_slice_of("a\0b", 3)), 3);
}

// A character of every kind that a rule knows.
static void append_character(rag_buf *text) {
  static const char *const characters[] = {
      "a",
      "Z",
      "7",
      "_",
      "-",
      "-",
      ".",
      "!",
      "?",
      ",",
      "\"",
      ")",
      "#",
      "`",
      "|",
      ">",
      "*",
      " ",
      " ",
      "\n",
      "\n",
      "\r\n",
      "\t",
      "\xCC\x81",
      "\xC3\xA9",
      "\xC2\xA0",
      "\xE3\x80\x82",
      "<",
      ":",
      "/",
      "\xE4\xBD\xA0",
      "\xEF\xBC\x81",
      "\xE2\x80\xA8",
      "\xE2\x80\xA9",
      "\xF0\x9F\x98\x80",
      "\xE0\xB8\xA0",
      "\xE0\xB8\xB1",
      "\xE2\x80\x8D",
      "\xEF\xBB\xBF",
      "\xD0\xB6",
      "=",
      "~",
      "\xE0\xA5\xA4",
      "\r",
      "1.",
  };
  uint32_t which = draw(RAG_COUNT_OF(characters) + 1);
  if (which == RAG_COUNT_OF(characters)) rag_buf_append_char(text, '\0');
  else rag_buf_append_str(text, characters[which]);
}

// What the packing of units rests on: counts of pieces cut between tokens add up.
static void test_counts_add_up(void **state) {
  RAG_UNUSED(state);
  for (unsigned round = 0; round < 3000; round++) {
    seed = round;
    rag_buf text = {0};
    for (uint32_t i = draw(400); i > 0; i--) append_character(&text);
    rag_chunking chunking = {RAG_CHUNK_FIXED, 16 + draw(3), 0};
    uint32_t count;
    rag_span *spans = NULL;
    assert_int_equal(rag_chunk_text(&chunking, rag_buf_slice(&text), &spans, &count, NULL), RAG_OK);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
      uint64_t n = rag_count_tokens(rag_slice_of(text.data + spans[i].start, spans[i].end - spans[i].start));
      if (i + 1 < count) assert_int_equal(n, chunking.max_tokens);
      sum += n;
    }
    assert_int_equal(sum, rag_count_tokens(rag_buf_slice(&text)));
    rag_free(spans);
    rag_buf_free(&text);
  }
}

// ------------------------------------------------------------------------------------------------------------- golden

static void test_sentences(void **state) {
  RAG_UNUSED(state);
  // Sentences of about ten tokens with max_tokens 16: a chunk ends where a sentence does, and nowhere else.
  expect_structure(16, "One two three four five six seven eight nine. ¦One two three four five six seven eight nine.");
  expect_structure(16, "He said this to Dr. Smith and to Mrs. Jones too. ¦Then he went on to vs. and etc. cases.");
  expect_structure(16, "The value of pi is 3.14 and e is 2.72 or so. ¦Version 2 of it came out one year later!");
  expect_structure(16, "The books of J. R. R. Tolkien are read in schools. ¦Nobody knows why that should be so hard.");
  expect_structure(16, "It is shown in Fig. 3 and in No. 7 of it. ¦The rest of it is left as an exercise.");
  expect_structure(16,
                   "She asked \"Is it one, or two, or is it three?\" ¦\"None of them,\" he said and left the room.");
  expect_structure(16,
                   "(All of this stands in brackets, for a good reason.) ¦But none of that does, for a better one.");
  expect_structure(16, "You may look at www.example.org for more on that. ¦What is there may not be what you want.");
  expect_structure(
      16, "\"Really and truly so, my friend?\" he asked her then. ¦\"Yes, very much so, as I said,\" she said.");
  expect_structure(16, "The army of the U.S. Government came in the night then. ¦No one had seen it come or go away.");
  expect_structure(16, "Wait for one two three four five six more... ¦Then go on with all of that as before again.");
  expect_structure(16, "我们今天去北京看长城好不好啊？¦好的我们明天早上八点出发吧。");
  expect_structure(16, "「我们今天去北京看长城好不好。」¦好的我们明天早上八点出发吧。");
  expect_structure(16,
                   "one two three four five six seven eight nine\xE2\x80\xA8¦ten one two three four five six seven");
  // Lines where no sentence ends; then words; then characters.
  expect_structure(16, "a log line of some eight words here\nanother log line of some eight words here\n"
                       "¦the third log line of nine words right here\n");
  expect_structure(16, "a b c d e f g h i j k l m n o p ¦q r s t u v w x y z");
  expect_structure(16, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa¦aaaa");
}

static void test_blocks(void **state) {
  RAG_UNUSED(state);
  // Paragraphs stay whole; an introduction goes with what it introduces.
  expect_structure(16, "One two three four five six.\n\n¦One two three four five six seven eight nine ten eleven.\n");
  expect_structure(16, "One two three four five six.\n\n¦Look at this:\n\n```\na b c d e\nf g\n```\n");
  // A fence is not cut, and # in it is no heading. A longer one is cut at lines.
  expect_structure(16,
                   "One two three four five.\n\n¦```sh\n# no heading\nx y z u v w k\n```\n\n¦Six seven eight nine.\n");
  expect_structure(16, "~~~\n```\na b c d e f g h\n¦i j k l m n o p\n¦q r s t u v w x y\nz\n~~~\n");
  // In a quote and in a list item.
  expect_structure(16, "> ```\n> # no\n> ```\n> a b c d e\n¦# Yes\n\nOne two three four five six seven eight nine.\n");
  expect_structure(16, "- item\n\n  ```\n  # no\n  ```\n¦# Yes\n\nOne two three four five six seven eight nine ten.\n");
  // Lists by items, nested ones with theirs; tables by rows, the header with the first.
  expect_structure(16,
                   "- one two three four\n- five six seven eight\n- nine ten eleven twelve\n¦- thirteen fourteen.\n");
  expect_structure(16, "1. one two three\n   - a b c d\n¦2. four five six\n   - e f g h i j\n");
  expect_structure(24, "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n¦| 5 | 6 |\n| 7 | 8 |\n| 9 | 0 |\n");
  // Quotes by their paragraphs.
  expect_structure(16, "> One two three four five six seven.\n>\n¦> One two three four five six seven.\n");
  // A comment hides its headings; a closing tag stays with what stands before it.
  expect_structure(16, "<!-- a\n# no heading\n-->\n\n¦# Yes\n\nOne two three four five six seven eight.\n");
  expect_structure(24, "<Box>\n\nOne two three four five six seven.\n\n</Box>\n\n¦Eight nine ten eleven twelve "
                       "thirteen fourteen fifteen sixteen.\n");
  expect_structure(16, "One two three four five six seven.\n\n***\n\n¦One two three four five six seven.\n");
}

static void test_sections(void **state) {
  RAG_UNUSED(state);
  // Every heading opens a chunk, of any form; seven # are none, nor are four columns of indent.
  expect_structure(16,
                   "# A\n\nOne two three four five.\n\n¦# B\n\nOne two three four five.\n\n¦## C #\nOne two three.\n");
  expect_structure(16, "Title\n=====\n\nOne two three four five.\n\n¦Other\n-----\n\nOne two three four five.\n");
  expect_structure(32, "One two three four five.\n####### six seven\n\n    # eight nine\n\n#ten eleven\n");
  // A heading is never parted from its text, also where that is a fence or one long sentence.
  expect_structure(16, "# A b\n\na b c d e f g h i j k l m ¦n o p q r s t u v w x y z\n");
  expect_structure(16, "# A b c\n\n```\na b c d e f\ng h\n¦i j k l\n```\n");
  // Headings without a text wait for one; at the end they stay with what stands before.
  expect_structure(16, "# A\n## B\n### C\nOne two three four five.\n\n¦## D\n\nOne two three four five.\n\n# E\n");
  // Small neighbours are packed (min_tokens is 8 of 32): deeper before shallower, parents with their children.
  expect_structure(32, "# A\n\nOne two.\n\n## B\n\nThree four five six seven eight nine ten eleven.\n\n"
                       "¦# C\n\nOne two three four five six seven.\n\n¦# D\n\nOne two three four five six seven.\n");
  expect_structure(32, "## A\n\nOne.\n\n## B\n\nTwo.\n\n¦## C\n\nThree.\n\n## D\n\nFour.\n");
  expect_structure(32, "# A\n\nOne two three four five six seven.\n\n¦# B\n\nOne.\n\n### C\n\nTwo.\n\n"
                       "¦# D\n\nOne two three four five six seven.\n");
  // The rest of a section is not left too small (4 of 16).
  expect_structure(16, "One two three. Four five six. Seven eight nine. ¦Ten eleven twelve. Thirteen.");
  // Front matter is one block and no heading.
  expect_structure(16, "---\ntitle: a b c d\n# no\n---\n\n¦# Yes\n\nOne two three four five six seven.\n");
}

static void test_line_ends(void **state) {
  RAG_UNUSED(state);
  expect_structure(16,
                   "\xEF\xBB\xBF# A\r\n\r\nOne two three four five.\r\n\r\n¦# B\r\n\r\nOne two three four five.\r\n");
  expect_structure(16, "# A\r\rOne two three four five.\r\r¦# B\r\rOne two three four five.\r");
  expect_structure(16, "A\r\n===\r\nOne two three four five.\r\n\r\n¦B\r\n---\r\nOne two three four five.\r\n");
}

static void test_fixed_and_whole(void **state) {
  RAG_UNUSED(state);
  expect(RAG_CHUNK_FIXED, 16, " a b c d e f g h i j k l m n o p ¦q r s t\n\nu v w x y z 1 2 3 4 5 6 ¦7 ");
  expect(RAG_CHUNK_WHOLE, 0, "\n a b c d e f g h\n\n# i j k l m n o p q r s t u v w x y z \n");
  expect(RAG_CHUNK_FIXED, 16, "a b c d e f g h i j k l m n o p ");
  uint32_t count;
  rag_chunking overlapping = {RAG_CHUNK_FIXED, 16, 7};
  rag_span *spans = cut(overlapping, rag_slice_str("a b c d e f g h i j k l m n o p q r s t u v w x y z"), &count);
  assert_int_equal(count, 3);
  const rag_span wanted[] = {{0, 31}, {18, 49}, {36, 51}}; // from j, from s
  assert_memory_equal(spans, wanted, sizeof(wanted));
  rag_free(spans);
}

static void test_overlap_is_whole_sentences(void **state) {
  RAG_UNUSED(state);
  const char *text = "A one two. B three four. C five six. D seven eight. E nine ten. F eleven. # not\n\n"
                     "# G\n\nSection of its own, no overlap.\n";
  rag_chunking chunking = {RAG_CHUNK_STRUCTURE, 16, 5};
  uint32_t count;
  rag_span *spans = cut(chunking, rag_slice_str(text), &count);
  assert_int_equal(count, 3);
  const char *wanted[] = {
      "A one two. B three four. C five six. D seven eight.",
      "D seven eight. E nine ten. F eleven. # not",
      "# G\n\nSection of its own, no overlap.",
  };
  for (uint32_t i = 0; i < count; i++) {
    rag_slice got = rag_slice_of(text + spans[i].start, spans[i].end - spans[i].start);
    if (!rag_slice_equal(got, rag_slice_str(wanted[i]))) print_message("[%u] %.*s\n", i, (int)got.size, got.data);
    assert_true(rag_slice_equal(got, rag_slice_str(wanted[i])));
  }
  rag_free(spans);
}

static void test_blank_texts(void **state) {
  RAG_UNUSED(state);
  static const char *const texts[] = {"", " ", "\n\n\n", "\xEF\xBB\xBF", " \t\r\n\xC2\xA0\xE3\x80\x80\xE2\x80\xA8 "};
  for (size_t i = 0; i < RAG_COUNT_OF(texts); i++) {
    for (int method = 0; method < 3; method++) {
      uint32_t count = 7;
      rag_free(cut((rag_chunking){(rag_chunk_method)method, 16, 0}, rag_slice_str(texts[i]), &count));
      assert_int_equal(count, 0);
    }
  }
}

// -------------------------------------------------------------------------------------------------- generated texts

static void append_markdown(rag_buf *text) {
  static const char *const lines[] = {
      "# One",
      "## Two words",
      "### Three",
      "#### x",
      "Title\n===",
      "Sub\n---",
      "```rust",
      "```",
      "~~~",
      "- item",
      "  - nested",
      "1. first",
      "> quote",
      ">> deep",
      "> # head",
      ">",
      "| a | b |",
      "|---|---|",
      "***",
      "<!-- open",
      "-->",
      "<Box>",
      "</Box>",
      "    code",
      "---",
      "",
      "",
      "",
      "A sentence. Another one! A third of e.g. Dr. No? Yes.",
      "No stop here but a colon:",
      "\tTab. And more",
      "Ein Satz über nichts. Ärger.",
      "\xE4\xBD\xA0\xE5\xA5\xBD\xE3\x80\x82\xE5\xA5\xBD\xE3\x80\x82",
  };
  static const char *const ends[] = {"\n", "\n", "\n", "\r\n", "\r"};
  rag_buf_append_str(text, lines[draw(RAG_COUNT_OF(lines))]);
  uint32_t words = draw(3) ? 0 : draw(30);
  for (; words > 0; words--) {
    int letters = (int)(1 + draw(9));
    bool stop = draw(7) == 0;
    rag_buf_printf(text, " %.*s%s", letters, "wordwordword", stop ? "." : "");
  }
  rag_buf_append_str(text, ends[draw(RAG_COUNT_OF(ends))]);
}

// One draw a statement: C leaves the order of the others open, and compilers differ.
static rag_chunking random_chunking(void) {
  rag_chunking chunking = {RAG_CHUNK_STRUCTURE, RAG_CHUNK_TOKENS_MIN, 0};
  if (draw(4) == 0) chunking.method = RAG_CHUNK_FIXED;
  uint32_t range = draw(2) ? 10 : 120;
  chunking.max_tokens += draw(range);
  if (draw(2)) chunking.overlap_tokens = draw((chunking.max_tokens + 1) / 2);
  return chunking;
}

static void test_properties(void **state) {
  RAG_UNUSED(state);
  for (unsigned round = 0; round < 6000; round++) {
    seed = round;
    rag_buf text = {0};
    if (round % 2)
      for (uint32_t i = draw(300); i > 0; i--) append_character(&text);
    else
      for (uint32_t i = draw(60); i > 0; i--) append_markdown(&text);
    uint32_t count;
    rag_free(cut(random_chunking(), rag_buf_slice(&text), &count));
    rag_buf_free(&text);
  }
}

// The spans of these texts are what stored data has. A new number here is a new chunking method, not a fix.
#define GOLDEN_HASH UINT64_C(0x7e1be2820840c59)

static void test_spans_never_change(void **state) {
  RAG_UNUSED(state);
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (unsigned round = 0; round < 500; round++) {
    seed = 1000000 + round;
    rag_buf text = {0};
    for (uint32_t i = 0; i < 100; i++) {
      if (round % 2) append_character(&text);
      else append_markdown(&text);
    }
    uint32_t count;
    rag_span *spans = cut(random_chunking(), rag_buf_slice(&text), &count);
    for (uint32_t i = 0; i < count; i++)
      hash = ((hash ^ spans[i].start) * UINT64_C(0x100000001b3) ^ spans[i].end) * UINT64_C(0x100000001b3);
    rag_free(spans);
    rag_buf_free(&text);
  }
  if (hash != GOLDEN_HASH) fail_msg("the spans are others: 0x%llx", (unsigned long long)hash);
}

// ------------------------------------------------------------------------------------------------------ hostile texts

// `unit` repeated to `size_max` bytes.
static void hostile(const char *unit, size_t unit_size, size_t size_max, rag_chunking chunking) {
  size_t size = size_max / unit_size * unit_size;
  char *text = rag_alloc(size);
  assert_non_null(text);
  for (size_t at = 0; at < size; at += unit_size) memcpy(text + at, unit, unit_size);
  rag_span *spans = NULL;
  uint32_t count = 0;
  rag_error err = {0};
  rag_status status = rag_chunk_text(&chunking, rag_slice_of(text, size), &spans, &count, &err);
  if (status == RAG_OK) {
    rag_free(spans);
    spans = cut(chunking, rag_slice_of(text, size), &count);
  } else { // too many: the advice, where there is one, must be right
    assert_int_equal(status, RAG_INVALID_ARGUMENT);
    const char *advice = strstr(err.message, "; with max_tokens ");
    if (advice) {
      chunking.max_tokens = (uint32_t)strtoul(advice + 18, NULL, 10);
      spans = cut(chunking, rag_slice_of(text, size), &count);
    } else {
      assert_non_null(strstr(err.message, "split the document"));
    }
  }
  rag_free(spans);
  rag_free(text);
}

static void test_hostile_texts(void **state) {
  RAG_UNUSED(state);
  static const char *const units[] = {
      "#",        "`",        "\n",       "\r",           "a",
      ">",        "> ",       " ",        "\r\n",         "# a\n",
      "a\n\n",    "```\n",    "<!--\n",   "- ",           "* * *\n",
      "|",        "|-|\n",    "\xCC\x81", "\xE4\xBD\xA0", "a. ",
      "a.\"",     "---\n",    "a\n---\n", "!\xCC\x81",    "\xE2\x80\xA8",
      "a:\n\n",   "<a>\n",    "</a>\n",   "1.",           "...",
      "# a\nb\n", "A. B c. ", ">\n",      "a\r",          "  - a\n",
  };
  for (size_t i = 0; i < RAG_COUNT_OF(units); i++) {
    size_t size = strlen(units[i]);
    // One character at the limit of a text; the others at a size that a quadratic step would not live through either.
    size_t size_max = size == 1 ? RAG_DOCUMENT_TEXT_BYTES_MAX : RAG_DOCUMENT_TEXT_BYTES_MAX / 4;
    hostile(units[i], size, size_max, rag_chunking_default());
    if (i % 4 == 0) hostile(units[i], size, size_max, (rag_chunking){RAG_CHUNK_STRUCTURE, 8192, 4095});
    if (i % 8 == 0) hostile(units[i], size, size_max, (rag_chunking){RAG_CHUNK_FIXED, 256, 127});
  }
  hostile("\0", 1, RAG_DOCUMENT_TEXT_BYTES_MAX, rag_chunking_default());
}

static void test_one_long_word_is_cut_evenly(void **state) {
  RAG_UNUSED(state);
  size_t size = 10u << 20;
  char *text = rag_alloc(size);
  memset(text, 'x', size);
  uint32_t count;
  rag_span *spans = cut(rag_chunking_default(), rag_slice_of(text, size), &count);
  assert_int_equal(count, size / (16 * 256)); // 16 characters a token
  for (uint32_t i = 0; i < count; i++) assert_int_equal(spans[i].end - spans[i].start, 16 * 256);
  rag_free(spans);
  rag_free(text);
}

// ------------------------------------------------------------------------------------------------------------- limits

static void test_chunks_max(void **state) {
  RAG_UNUSED(state);
  rag_buf text = {0};
  for (uint32_t i = 0; i < RAG_DOCUMENT_CHUNKS_MAX; i++) rag_buf_append_str(&text, "a b c d e f g h i j k l m n o p\n");
  for (int method = 0; method < 3; method += 2) {
    rag_chunking chunking = {(rag_chunk_method)method, 16, 0};
    uint32_t count = 0;
    rag_free(cut(chunking, rag_buf_slice(&text), &count));
    assert_int_equal(count, RAG_DOCUMENT_CHUNKS_MAX);
    rag_buf_append_str(&text, "q r s t u v w x y z a b c d e f");
    rag_span *spans = NULL;
    rag_error err = {0};
    assert_int_equal(rag_chunk_text(&chunking, rag_buf_slice(&text), &spans, &count, &err), RAG_INVALID_ARGUMENT);
    assert_null(spans);
    assert_non_null(strstr(err.message, "with max_tokens 32 it does not"));
    text.size -= strlen("q r s t u v w x y z a b c d e f");
  }
  rag_buf_free(&text);
}

static void test_text_bytes_max(void **state) {
  RAG_UNUSED(state);
  size_t size = RAG_DOCUMENT_TEXT_BYTES_MAX;
  char *text = rag_calloc(size + 1, 1);
  memset(text, ' ', size + 1);
  rag_chunking chunking = rag_chunking_default();
  rag_span *spans = NULL;
  uint32_t count = 1;
  assert_int_equal(rag_chunk_text(&chunking, rag_slice_of(text, size), &spans, &count, NULL), RAG_OK);
  assert_int_equal(count, 0);
  assert_int_equal(rag_chunk_text(&chunking, rag_slice_of(text, size + 1), &spans, &count, NULL), RAG_INVALID_ARGUMENT);
  rag_free(spans);
  rag_free(text);
}

static void test_settings(void **state) {
  RAG_UNUSED(state);
  static const struct {
    rag_chunking chunking;
    rag_status wanted;
    const char *field;
  } cases[] = {
      {{RAG_CHUNK_STRUCTURE, 256, 0}, RAG_OK, ""},
      {{RAG_CHUNK_STRUCTURE, 16, 7}, RAG_OK, ""},
      {{RAG_CHUNK_STRUCTURE, 15, 0}, RAG_INVALID_ARGUMENT, "chunking.max_tokens"},
      {{RAG_CHUNK_FIXED, 8192, 4095}, RAG_OK, ""},
      {{RAG_CHUNK_FIXED, 8192, 4096}, RAG_INVALID_ARGUMENT, "chunking.overlap_tokens"},
      {{RAG_CHUNK_FIXED, 8193, 0}, RAG_INVALID_ARGUMENT, "chunking.max_tokens"},
      {{RAG_CHUNK_WHOLE, 0, 0}, RAG_OK, ""},
      {{(rag_chunk_method)3, 256, 0}, RAG_INVALID_ARGUMENT, "chunking.method"},
      {{(rag_chunk_method)-1, 256, 0}, RAG_INVALID_ARGUMENT, "chunking.method"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    rag_error err = {0};
    assert_int_equal(rag_chunking_check(&cases[i].chunking, &err), cases[i].wanted);
    assert_string_equal(err.field, cases[i].field);
  }
  rag_chunking preset = rag_chunking_default();
  assert_int_equal(preset.method, RAG_CHUNK_STRUCTURE);
  assert_int_equal(preset.max_tokens, 256);
  assert_int_equal(preset.overlap_tokens, 0);
  for (int i = 0; i < 3; i++) {
    rag_chunk_method method = RAG_CHUNK_WHOLE;
    assert_true(rag_chunk_method_parse(rag_slice_str(rag_chunk_method_name((rag_chunk_method)i)), &method));
    assert_int_equal(method, i);
  }
  rag_chunk_method method;
  assert_false(rag_chunk_method_parse(rag_slice_str("Structure"), &method));
  assert_string_equal(rag_chunk_method_name((rag_chunk_method)9), "unknown");
}

static void test_every_allocation_may_fail(void **state) {
  RAG_UNUSED(state);
  rag_buf text = {0};
  seed = 3;
  for (uint32_t i = 0; i < 400; i++) append_markdown(&text);
  for (int method = 0; method < 3; method++) {
    for (uint64_t n = 1;; n++) {
      rag_chunking chunking = {(rag_chunk_method)method, 16, 3};
      rag_span *spans = NULL;
      uint32_t count = 0;
      rag_alloc_fail_after(n);
      rag_status status = rag_chunk_text(&chunking, rag_buf_slice(&text), &spans, &count, NULL);
      bool failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      assert_true(failed ? spans == NULL : spans != NULL);
      rag_free(spans);
      if (!failed) break;
      assert_true(n < 100);
    }
  }
  rag_buf_free(&text);
}

// ---------------------------------------------------------------------------------------------------------- real text

static void test_rust_book(void **state) {
  RAG_UNUSED(state);
  const char *shared = getenv("RAGD_SHARED");
  char dir[1024], path[2048];
  if (shared) {
    snprintf(dir, sizeof(dir), "%s/data/kb_rust_book/2026-07-13/src", shared);
  } else { // beside the repository: this file is tests/kb/test_chunker.c in it
    const char *file = __FILE__, *slash = strrchr(file, '/');
    int size = slash ? (int)(slash - file) : 1;
    snprintf(dir, sizeof(dir), "%.*s/../../../shared/data/kb_rust_book/2026-07-13/src", size, slash ? file : ".");
  }
  DIR *entries = opendir(dir);
  if (!entries) {
    print_message("skipped: no Rust book at %s (RAGD_SHARED names the folder that has data/kb_rust_book)\n", dir);
    skip();
  }
  uint64_t files = 0, bytes = 0, chunks = 0, sum = 0, most = 0;
  for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
    size_t name_size = strlen(entry->d_name);
    if (name_size < 4 || strcmp(entry->d_name + name_size - 3, ".md") != 0) continue;
    snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
    char *data;
    size_t size;
    rag_error err = {0};
    if (rag_os_read_file(path, RAG_DOCUMENT_TEXT_BYTES_MAX, &data, &size, &err) != RAG_OK) fail_msg("%s", err.message);
    rag_slice text = rag_slice_of(data, size);
    uint32_t count;
    rag_free(cut((rag_chunking){RAG_CHUNK_STRUCTURE, 128, 32}, text, &count));
    rag_free(cut((rag_chunking){RAG_CHUNK_FIXED, 256, 64}, text, &count));
    rag_span *spans = cut(rag_chunking_default(), text, &count);
    files++;
    bytes += size;
    chunks += count;
    for (uint32_t i = 0; i < count; i++) {
      uint64_t n = rag_count_tokens(rag_slice_of(data + spans[i].start, spans[i].end - spans[i].start));
      sum += n;
      most = RAG_MAX(most, n);
    }
    rag_free(spans);
    // No fence of the book is over 1,024 tokens: lines that open or close one come in pairs in every such chunk.
    spans = cut((rag_chunking){RAG_CHUNK_STRUCTURE, 1024, 0}, text, &count);
    for (uint32_t i = 0; i < count; i++) {
      unsigned ticks = 0;
      for (const char *p = data + spans[i].start, *end = data + spans[i].end; p && p < end;) {
        ticks += end - p >= 3 && memcmp(p, "```", 3) == 0;
        p = memchr(p, '\n', (size_t)(end - p));
        if (p) p++;
      }
      assert_int_equal(ticks % 2, 0);
    }
    rag_free(spans);
    rag_free(data);
  }
  closedir(entries);
  assert_true(files > 0 && chunks > 0);
  print_message("Rust book: %llu files, %llu bytes, %llu chunks of %llu tokens on average, %llu at most\n",
                (unsigned long long)files, (unsigned long long)bytes, (unsigned long long)chunks,
                (unsigned long long)(sum / chunks), (unsigned long long)most);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tokens),
      cmocka_unit_test(test_counts_add_up),
      cmocka_unit_test(test_sentences),
      cmocka_unit_test(test_blocks),
      cmocka_unit_test(test_sections),
      cmocka_unit_test(test_line_ends),
      cmocka_unit_test(test_fixed_and_whole),
      cmocka_unit_test(test_overlap_is_whole_sentences),
      cmocka_unit_test(test_blank_texts),
      cmocka_unit_test(test_properties),
      cmocka_unit_test(test_spans_never_change),
      cmocka_unit_test(test_one_long_word_is_cut_evenly),
      cmocka_unit_test(test_hostile_texts),
      cmocka_unit_test(test_chunks_max),
      cmocka_unit_test(test_text_bytes_max),
      cmocka_unit_test(test_settings),
      cmocka_unit_test(test_every_allocation_may_fail),
      cmocka_unit_test(test_rust_book),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
