// Goal: UTF-8 as RFC 3629 says, names as API says, edit distances as Levenshtein says.
// Method: every scalar value encoded, cut and broken; every sequence of two bytes, and of three and four with edge
// bytes, against a decoder written the slow way; known distances and the metric's laws.
#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static size_t encode(uint32_t code, char out[4]) {
  if (code < 0x80) {
    out[0] = (char)code;
    return 1;
  }
  size_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (size_t i = size - 1; i > 0; i--, code >>= 6) out[i] = (char)(0x80 | (code & 0x3F));
  out[0] = (char)((0xF00u >> size & 0xFF) | code);
  return size;
}

static void every_scalar_value(void **state) {
  RAG_UNUSED(state);
  for (uint32_t code = 0; code <= 0x10FFFF + 0x1000; code++) {
    char bytes[4];
    size_t size = encode(code, bytes), decoded_size = 0;
    bool scalar = code <= 0x10FFFF && !(code >= 0xD800 && code <= 0xDFFF);
    if (rag_utf8_valid(bytes, size) != scalar) fail_msg("U+%04X", code);
    if (!scalar) continue;
    if (rag_utf8_decode(bytes, size, &decoded_size) != code || decoded_size != size) fail_msg("decode U+%04X", code);
    for (size_t cut = 1; cut < size; cut++) {
      assert_int_equal(rag_utf8_bad_offset(bytes, cut), 0);
      assert_int_equal(rag_utf8_floor(bytes, size, cut), 0);
    }
    assert_int_equal(rag_utf8_floor(bytes, size, size), size);
  }
}

// Valid when it is the encoding of the scalar value that its bits give: no table of ranges.
static bool slow_valid(const unsigned char *p, size_t size) {
  for (size_t i = 0; i < size;) {
    size_t length = p[i] < 0x80             ? 1
                    : (p[i] & 0xE0) == 0xC0 ? 2
                    : (p[i] & 0xF0) == 0xE0 ? 3
                    : (p[i] & 0xF8) == 0xF0 ? 4
                                            : 0;
    if (length == 0 || size - i < length) return false;
    uint32_t code = length == 1 ? p[i] : p[i] & (0x7Fu >> length);
    for (size_t k = 1; k < length; k++) {
      if ((p[i + k] & 0xC0) != 0x80) return false;
      code = code << 6 | (p[i + k] & 0x3Fu);
    }
    char again[4];
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
    if (encode(code, again) != length || memcmp(again, p + i, length) != 0) return false;
    i += length;
  }
  return true;
}

static void every_short_sequence(void **state) {
  RAG_UNUSED(state);
  static const unsigned char edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F,
                                        0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xF0, 0xFF};
  enum { EDGES = RAG_COUNT_OF(edges) };
  for (unsigned a = 0; a < 256; a++) {
    for (unsigned b = 0; b < 256; b++) {
      unsigned char two[2] = {(unsigned char)a, (unsigned char)b};
      assert_int_equal(rag_utf8_valid((char *)two, 2), slow_valid(two, 2));
    }
    for (unsigned i = 0; i < EDGES * EDGES * EDGES; i++) {
      unsigned char four[4] = {(unsigned char)a, edges[i % EDGES], edges[i / EDGES % EDGES], edges[i / EDGES / EDGES]};
      for (size_t size = 3; size <= 4; size++)
        if (rag_utf8_valid((char *)four, size) != slow_valid(four, size)) fail_msg("%02x %u", a, i);
    }
  }
}

static void bad_offset_is_exact(void **state) {
  RAG_UNUSED(state);
  // A bad byte at each place of a text with long ASCII runs, which go eight bytes at a time.
  const char *text = "The quick brown f\xC3\xB6x jumps over the lazy d\xF0\x9F\x90\x95g, and on it goes.";
  size_t size = strlen(text);
  assert_int_equal(rag_utf8_bad_offset(text, size), size);
  for (size_t i = 0; i <= size; i++) {
    if (rag_utf8_floor(text, size, i) != i) continue; // inside a character
    char broken[128];
    memcpy(broken, text, i);
    broken[i] = (char)0xFF;
    memcpy(broken + i + 1, text + i, size - i);
    assert_int_equal(rag_utf8_bad_offset(broken, size + 1), i);
  }
  assert_true(rag_utf8_valid("", 0));
  assert_true(rag_utf8_valid("a\0b", 3));
}

static void floor_is_a_boundary(void **state) {
  RAG_UNUSED(state);
  const char *text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
  static const size_t floors[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (size_t i = 0; i < RAG_COUNT_OF(floors); i++) assert_int_equal(rag_utf8_floor(text, 11, i), floors[i]);
  assert_int_equal(rag_utf8_floor(text, 11, SIZE_MAX), 11);
  assert_int_equal(rag_utf8_floor("", 0, 5), 0);
  assert_true(rag_utf8_floor("\x80\x80\x80\x80\x80\x80", 6, 5) <= 5); // not UTF-8: any place, but in bounds
  size_t step = 0;
  assert_int_equal(rag_utf8_decode("\xE2\x82", 2, &step), 0xFFFD);
  assert_int_equal(step, 1);
}

static void names(void **state) {
  RAG_UNUSED(state);
  char longest[RAG_NAME_MAX + 2];
  memset(longest, 'a', sizeof(longest));
  assert_true(rag_name_valid(rag_slice_of(longest, RAG_NAME_MAX)));
  assert_false(rag_name_valid(rag_slice_of(longest, RAG_NAME_MAX + 1)));
  static const char *const good[] = {"a", "0", "main", "v1.2.3", "a-b_c.d", "0--", "a."};
  static const char *const bad[] = {"",    ".",   "-a",  "_a",  ".a",       "A",  "aB",
                                    "a b", "a/b", "a~1", "a@b", "\xC3\xA9", "a\n"};
  for (size_t i = 0; i < RAG_COUNT_OF(good); i++) assert_true(rag_name_valid(rag_slice_str(good[i])));
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) assert_false(rag_name_valid(rag_slice_str(bad[i])));
  assert_false(rag_name_valid(rag_slice_of("a\0b", 3)));
  for (int c = 0; c < 256; c++) {
    char name[2] = {'x', (char)c};
    bool allowed = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    assert_int_equal(rag_name_valid(rag_slice_of(name, 2)), allowed);
  }
}

static unsigned distance(const char *a, const char *b) {
  return rag_edit_distance(rag_slice_str(a), rag_slice_str(b));
}

static void edit_distances(void **state) {
  RAG_UNUSED(state);
  assert_int_equal(distance("", ""), 0);
  assert_int_equal(distance("", "abc"), 3);
  assert_int_equal(distance("kitten", "sitting"), 3);
  assert_int_equal(distance("flaw", "lawn"), 2);
  assert_int_equal(distance("documents", "documnets"), 2);
  assert_int_equal(distance("saturday", "sunday"), 3);
  static const char *const words[] = {"",       "a",       "branch", "brunch", "ranch",
                                      "commit", "commits", "at",     "query",  "queries"};
  for (size_t i = 0; i < RAG_COUNT_OF(words); i++)
    for (size_t j = 0; j < RAG_COUNT_OF(words); j++) {
      assert_int_equal(distance(words[i], words[j]), distance(words[j], words[i]));
      assert_int_equal(distance(words[i], words[j]) == 0, i == j);
      for (size_t k = 0; k < RAG_COUNT_OF(words); k++)
        assert_true(distance(words[i], words[k]) <= distance(words[i], words[j]) + distance(words[j], words[k]));
    }
  char long_a[100], long_b[100];
  memset(long_a, 'a', sizeof(long_a));
  memset(long_b, 'b', sizeof(long_b));
  assert_int_equal(rag_edit_distance(rag_slice_of(long_a, 100), rag_slice_of(long_b, 100)), 64); // cut to 64
  assert_int_equal(rag_edit_distance(rag_slice_of(long_a, 100), (rag_slice){0}), 64);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_scalar_value),
      cmocka_unit_test(every_short_sequence),
      cmocka_unit_test(bad_offset_is_exact),
      cmocka_unit_test(floor_is_a_boundary),
      cmocka_unit_test(names),
      cmocka_unit_test(edit_distances),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
