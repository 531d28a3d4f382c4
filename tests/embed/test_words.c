// Goal: texts split into the words that the fingerprint promises, for every script, and no byte is read past the text.
// Method: short texts with their expected words; the stemmer by a table; the frozen Unicode table is checked for order,
// for stability (folding a folded character changes nothing) and by a digest over every code point; random bytes, each
// text in a heap block of its exact size, for the address sanitizer.
#include "embed/embed_internal.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// Frozen: a change here is a change of every fingerprint. Of every code point above ASCII, one a line.
#define GOLDEN_WORDS 27751u
#define GOLDEN_CRC 0xa10feb81u

static bool collect(void *context, rag_word_kind kind, const char *word, uint32_t size) {
  rag_buf *out = context;
  assert_in_range(size, 1, RAG_WORD_BYTES_MAX);
  if (out->size) rag_buf_append_char(out, '|');
  if (kind != RAG_WORD_LETTERS) rag_buf_append_char(out, kind == RAG_WORD_GLYPH ? '1' : '2');
  rag_buf_append(out, word, size);
  return true;
}

static void assert_slice_words(rag_slice text, const char *expected) {
  rag_buf out = {0};
  assert_true(rag_embed__words(text, collect, &out));
  rag_buf_append_char(&out, '\0');
  assert_string_equal(out.data, expected);
  rag_buf_free(&out);
}

static void assert_words(const char *text, const char *expected) {
  assert_slice_words(rag_slice_str(text), expected);
}

static void plain_words(void **state) {
  RAG_UNUSED(state);
  assert_words("", "");
  assert_words(" \t\n.,;-()!?", "");
  assert_words("Two words", "two|words");
  assert_words("IL-6 and IL6, don't; 3.14", "il|6|and|il6|don|t|3|14");
  assert_slice_words(rag_slice_of("a\0b", 3), "a|b");
  assert_words("end", "end");
}

static void identifiers_give_parts_and_the_whole(void **state) {
  RAG_UNUSED(state);
  assert_words("read_file readFile ReadFile", "read|file|readfile|read|file|readfile|read|file|readfile");
  assert_words("HTTPServer", "http|server|httpserver");
  assert_words("__init__", "init");
  assert_words("_", "");
  assert_words("GPUs", "gpus"); // a plural, not "GP" and "Us"
  assert_words("parseGPUs", "parse|gpus|parsegpus");
  assert_words("utf8String H2O x86_64", "utf8|string|utf8string|h2o|x86|64|x8664");
  assert_words("std::vec::Vec<T>", "std|vec|vec|t");
}

static void characters_are_folded(void **state) {
  RAG_UNUSED(state);
  assert_words("Café CAFÉ cafe\u0301", "cafe|cafe|cafe");
  assert_words("Straße STRASSE", "strasse|strasse");
  assert_words("ﬁle ½ ｆｕｌｌ ①", "file|12|full|1");
  assert_words("Привет ЁЛКА елка", "привет|елка|елка");
  assert_words("Ὀδυσσεύς ΟΔΥΣΣΕΥΣ", "οδυσσευσ|οδυσσευσ");
  assert_words("İstanbul ISTANBUL", "istanbul|istanbul");
  assert_words("מִלָּה مُحَمَّد", "מלה|محمد");
  assert_words("हिन्दी", "हिन्दी"); // vowel signs are letters
  assert_words("co\u00ADoperate", "cooperate");
  assert_words("“quoted” – dash", "quoted|dash");
}

static void scripts_without_spaces_give_characters_and_pairs(void **state) {
  RAG_UNUSED(state);
  assert_words("東京都", "1東|1京|2東京|1都|2京都");
  assert_words("東京 都", "1東|1京|2東京|1都"); // a space parts them
  assert_words("Go言語v2", "go|1言|1語|2言語|v2");
  assert_words("ガ ｶ", "1ガ|1カ");
  // Conjoining Hangul, as some file systems give it; then the first and the last of each kind, and what is no syllable.
  assert_words("\u1112\u1161\u11ab\u1100\u1173\u11af", "1한|1글|2한글");
  assert_words("\u1100\u1161 \u1112\u1175 \u1100\u1161\u11a8 \u1112\u1175\u11c2", "1가|1히|1각|1힣");
  assert_words("\u1100a", "ᄀa");
  assert_words("ไทย", "1ไ|1ท|2ไท|1ย|2ทย");
  assert_words("👍🏽🎉", "1👍|1🎉|2👍🎉"); // the skin tone is dropped
}

static void long_runs_are_cut(void **state) {
  RAG_UNUSED(state);
  char text[2 * RAG_WORD_CHARS_MAX + 2], expected[2 * RAG_WORD_CHARS_MAX + 8];
  memset(text, 'x', sizeof(text));
  text[RAG_WORD_CHARS_MAX] = '\0'; // at the limit
  assert_words(text, text);
  text[RAG_WORD_CHARS_MAX] = 'x'; // one past it
  text[RAG_WORD_CHARS_MAX + 1] = '\0';
  snprintf(expected, sizeof(expected), "%.*s|x", RAG_WORD_CHARS_MAX, text);
  assert_words(text, expected);

  rag_buf wide = {0}, out = {0}; // four bytes a character: the buffer's limit
  for (int i = 0; i < RAG_WORD_CHARS_MAX + 1; i++) rag_buf_append_str(&wide, "𐐨");
  assert_true(rag_embed__words(rag_buf_slice(&wide), collect, &out));
  assert_int_equal(out.size, wide.size + 1);
  assert_int_equal(out.data[RAG_WORD_CHARS_MAX * 4], '|');
  rag_buf_free(&wide);
  rag_buf_free(&out);
}

static bool stop_at_second(void *context, rag_word_kind kind, const char *word, uint32_t size) {
  RAG_UNUSED(kind);
  RAG_UNUSED(word);
  RAG_UNUSED(size);
  return ++*(int *)context < 2;
}

static void the_callback_can_stop(void **state) {
  RAG_UNUSED(state);
  const char *texts[] = {"one two three four", "oneTwo threeFour", "東京都庁", "one éa éb ", "a_b_c"};
  for (size_t i = 0; i < RAG_COUNT_OF(texts); i++) {
    int calls = 0;
    assert_false(rag_embed__words(rag_slice_str(texts[i]), stop_at_second, &calls));
    assert_int_equal(calls, 2);
  }
}

static void stems(void **state) {
  RAG_UNUSED(state);
  static const char *const cases[][2] = {
      {"cells", "cell"},  {"cell", "cell"},         {"studies", "studi"},  {"study", "studi"},   {"classes", "class"},
      {"class", "class"}, {"running", "run"},       {"falling", "fall"},   {"string", "string"}, {"stopped", "stop"},
      {"need", "need"},   {"quickly", "quick"},     {"storage", "storag"}, {"store", "stor"},    {"stored", "stor"},
      {"virus", "virus"}, {"analysis", "analysis"}, {"use", "use"},        {"the", "the"},       {"a", "a"},
      {"i18ns", "i18ns"}, {"éléments", "éléments"}, {"bring", "bring"},    {"tries", "try"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    char out[RAG_WORD_BYTES_MAX];
    uint32_t size = rag_embed__stem(cases[i][0], (uint32_t)strlen(cases[i][0]), out);
    assert_int_equal(size, strlen(cases[i][1]));
    assert_memory_equal(out, cases[i][1], size);
  }
}

static void every_weighted_stem_can_be_reached(void **state) {
  RAG_UNUSED(state);
  uint32_t stems_seen = 0;
  for (uint32_t row = 0; row < rag_embed__hash_weight_row_count; row++) {
    assert_in_range(rag_embed__hash_weights[row].weight, 8, 136);
    if (row) assert_true(rag_embed__hash_weights[row - 1].weight < rag_embed__hash_weights[row].weight);
    for (const char *at = rag_embed__hash_weights[row].stems; *at; stems_seen++) {
      size_t size = strcspn(at, " ");
      assert_in_range(size, 1, RAG_WORD_CHARS_MAX);
      at += size + (at[size] == ' ');
    }
  }
  assert_int_equal(stems_seen, 6000);
}

static uint32_t put_utf8(uint32_t c, char *out) {
  if (c < 0x800) {
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  uint32_t size = c < 0x10000 ? 3 : 4;
  out[0] = (char)(size == 3 ? 0xE0 | c >> 12 : 0xF0 | c >> 18);
  for (uint32_t i = 1; i < size; i++) out[i] = (char)(0x80 | (c >> (6 * (size - 1 - i)) & 0x3F));
  return size;
}

static void the_unicode_table_is_sound_and_frozen(void **state) {
  RAG_UNUSED(state);
  uint32_t past = 0x80;
  for (uint32_t i = 0; i < rag_unicode_fold_row_count; i++) {
    const rag_fold_row *row = &rag_unicode_fold_rows[i];
    assert_true(row->first >= past && row->count > 0);
    past = row->first + row->count;
  }
  assert_true(past <= 0x110000);

  uint32_t crc = 0, words = 0;
  rag_buf once = {0}, twice = {0};
  for (uint32_t c = 0x80; c < 0x110000; c++) {
    if (c >= 0xD800 && c < 0xE000) continue;
    char text[4];
    rag_buf_clear(&once);
    assert_true(rag_embed__words(rag_slice_of(text, put_utf8(c, text)), collect, &once));
    crc = rag_crc32c(crc, once.data, once.size);
    crc = rag_crc32c(crc, "\n", 1);
    if (once.size == 0 || once.data[0] == '1') continue; // nothing, or an ideograph as it is
    words++;
    rag_buf_clear(&twice);
    assert_true(rag_embed__words(rag_buf_slice(&once), collect, &twice));
    assert_true(rag_slice_equal(rag_buf_slice(&once), rag_buf_slice(&twice)));
    assert_true(rag_utf8_valid(once.data, once.size));
  }
  rag_buf_free(&once);
  rag_buf_free(&twice);
  if (words != GOLDEN_WORDS || crc != GOLDEN_CRC) print_message("words %u crc 0x%08x\n", words, crc);
  assert_int_equal(words, GOLDEN_WORDS);
  assert_int_equal(crc, GOLDEN_CRC);
}

static void any_bytes_are_safe(void **state) {
  RAG_UNUSED(state);
  uint64_t seed = 0x5eed;
  static const unsigned char likely[] = {0xE1, 0x84, 0x92, 0x85, 0xA1, 0xF0, 0x9F,
                                         0xC3, 0xA9, 0xFF, 0xED, 'a',  'Z',  '_'};
  for (int round = 0; round < 20000; round++) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    size_t size = seed >> 60;
    unsigned char *text = malloc(size ? size : 1);
    for (size_t i = 0; i < size; i++) {
      seed = seed * 6364136223846793005ull + 1442695040888963407ull;
      text[i] = seed >> 63 ? (unsigned char)(seed >> 40) : likely[(seed >> 40) % sizeof(likely)];
    }
    rag_buf out = {0};
    assert_true(rag_embed__words(rag_slice_of(text, size), collect, &out));
    assert_false(out.failed);
    rag_buf_free(&out);
    free(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_words),
      cmocka_unit_test(identifiers_give_parts_and_the_whole),
      cmocka_unit_test(characters_are_folded),
      cmocka_unit_test(scripts_without_spaces_give_characters_and_pairs),
      cmocka_unit_test(long_runs_are_cut),
      cmocka_unit_test(the_callback_can_stop),
      cmocka_unit_test(stems),
      cmocka_unit_test(every_weighted_stem_can_be_reached),
      cmocka_unit_test(the_unicode_table_is_sound_and_frozen),
      cmocka_unit_test(any_bytes_are_safe),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
