// JSON printing: strings and numbers.
//
// Format: strings are escaped only where JSON asks for it (quote, backslash, control characters); everything else, also
// beyond ASCII, is written as it is. Numbers are the shortest text that reads back as the same value. A double keeps
// its kind: one without a fraction gets ".0", since "1.0" read and written again must not become the integer 1, and a
// large one printed as bare digits would come back as an integer outside 64 bits.
//
// Threads: pure functions over the caller's buffer.
#include "base/json.h"
#include "base/json_shim.h"

#include <math.h>

// 0: written as it is. 'u': as \u00XX. Else the letter after the backslash.
static const char escapes[256] = {
    ['\0'] = 'u', [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',    ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f',  ['\r'] = 'r',
    [14] = 'u',   [15] = 'u',   [16] = 'u',   [17] = 'u',   [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u',   [22] = 'u',   [23] = 'u',   [24] = 'u',   [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u',   [29] = 'u',   [30] = 'u',   [31] = 'u',   ['"'] = '"', ['\\'] = '\\',
};

// A fixed length and no early exit, so that a compiler turns it into a few vector instructions.
#define PLAIN_BLOCK 32
static inline bool block_is_plain(const char *p) {
  unsigned char found = 0;
  for (size_t i = 0; i < PLAIN_BLOCK; i++) {
    unsigned char c = (unsigned char)p[i];
    found |= (unsigned char)((c < 0x20) | (c == '"') | (c == '\\'));
  }
  return found == 0;
}

static size_t plain_prefix(const char *p, size_t size) {
  size_t i = 0;
  while (size - i >= PLAIN_BLOCK && block_is_plain(p + i)) i += PLAIN_BLOCK;
  while (i < size && !escapes[(unsigned char)p[i]]) i++;
  return i;
}

static void put_escape(rag_buf *out, unsigned char c) {
  static const char digits[] = "0123456789abcdef";
  char text[6] = {'\\', escapes[c], '0', '0', digits[c >> 4], digits[c & 15]};
  rag_buf_append(out, text, text[1] == 'u' ? 6 : 2);
}

void rag_json_put_string(rag_buf *out, rag_slice s) {
  rag_buf_reserve(out, s.size + 2);
  rag_buf_append_char(out, '"');
  for (size_t at = 0; at < s.size;) {
    size_t plain = plain_prefix(s.data + at, s.size - at);
    rag_buf_append(out, s.data + at, plain);
    at += plain;
    if (at < s.size) put_escape(out, (unsigned char)s.data[at++]);
  }
  rag_buf_append_char(out, '"');
}

static void put_null(rag_buf *out) {
  rag_buf_append(out, "null", 4);
}

void rag_json_put_float(rag_buf *out, float v) {
  if (!isfinite(v)) {
    put_null(out);
    return;
  }
  char text[RAG_BASE_NUMBER_TEXT_MAX];
  rag_buf_append(out, text, rag_base_float_text(v, text));
  if (v == 0 && signbit(v)) rag_buf_append(out, ".0", 2); // "-0" would be read as the integer, which has no sign
}

void rag_json_put_double(rag_buf *out, double v) {
  if (!isfinite(v)) {
    put_null(out);
    return;
  }
  char text[RAG_BASE_NUMBER_TEXT_MAX];
  size_t size = rag_base_double_text(v, text);
  bool whole = true;
  for (size_t i = 0; i < size; i++) whole &= text[i] != '.' && text[i] != 'e';
  rag_buf_append(out, text, size);
  if (whole) rag_buf_append(out, ".0", 2);
}

void rag_json_put_uint(rag_buf *out, uint64_t v) {
  char text[20];
  size_t at = sizeof(text);
  do text[--at] = (char)('0' + v % 10);
  while (v /= 10);
  rag_buf_append(out, text + at, sizeof(text) - at);
}

void rag_json_put_int(rag_buf *out, int64_t v) {
  if (v < 0) rag_buf_append_char(out, '-');
  rag_json_put_uint(out, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}
