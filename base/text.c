// UTF-8, names, edit distance.
//
// UTF-8 is that of RFC 3629: no surrogates, no overlong forms, nothing over U+10FFFF. NUL is a character like any
// other; whoever hands text to a C string checks for it.
//
// Threads: pure functions.
#include "base/base.h"

// The length of the valid character at p (left > 0), or 0.
static inline size_t valid_char(const unsigned char *p, size_t left) {
  unsigned char lead = p[0];
  if (lead < 0x80) return 1;
  // The second byte's range carries all of the special rules: E0 and F0 would be overlong below A0 and 90, ED is a
  // surrogate from A0 on, F4 is over U+10FFFF from 90 on. C0 and C1 can only be overlong.
  unsigned char low = 0x80, high = 0xBF;
  size_t size;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  if (lead < 0xE0) {
    size = 2;
  } else if (lead < 0xF0) {
    size = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else {
    size = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  }
  if (left < size || p[1] < low || p[1] > high) return 0;
  for (size_t i = 2; i < size; i++)
    if ((p[i] & 0xC0) != 0x80) return 0;
  return size;
}

size_t rag_utf8_bad_offset(const char *data, size_t size) {
  const unsigned char *p = (const unsigned char *)data;
  size_t i = 0;
  while (i < size) {
    // Most text is runs of ASCII: eight bytes at a time.
    uint64_t word;
    if (size - i >= sizeof(word)) {
      memcpy(&word, p + i, sizeof(word));
      if ((word & UINT64_C(0x8080808080808080)) == 0) {
        i += sizeof(word);
        continue;
      }
    }
    size_t step = valid_char(p + i, size - i);
    if (step == 0) return i;
    i += step;
  }
  return size;
}

bool rag_utf8_valid(const char *data, size_t size) {
  return rag_utf8_bad_offset(data, size) == size;
}

size_t rag_utf8_floor(const char *data, size_t size, size_t offset) {
  if (offset >= size) return size;
  // A character has at most three continuation bytes; more of them is not UTF-8, and then any place is as good.
  size_t at = offset;
  while (at > 0 && offset - at < 3 && ((unsigned char)data[at] & 0xC0) == 0x80) at--;
  return ((unsigned char)data[at] & 0xC0) == 0x80 ? offset : at;
}

uint32_t rag_utf8_decode(const char *data, size_t size, size_t *out_size) {
  const unsigned char *p = (const unsigned char *)data;
  size_t length = valid_char(p, size);
  if (length == 0) { // against the contract: U+FFFD and one byte on, so that a loop still ends
    *out_size = 1;
    return 0xFFFD;
  }
  *out_size = length;
  if (length == 1) return p[0];
  uint32_t code = p[0] & (0x7Fu >> length);
  for (size_t i = 1; i < length; i++) code = code << 6 | (p[i] & 0x3Fu);
  return code;
}

static bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool rag_name_valid(rag_slice name) {
  if (name.size == 0 || name.size > RAG_NAME_MAX) return false;
  for (size_t i = 0; i < name.size; i++)
    if (!is_name_char(name.data[i])) return false;
  return name.data[0] != '.' && name.data[0] != '_' && name.data[0] != '-';
}

#define EDIT_DISTANCE_BYTES_MAX 64

unsigned rag_edit_distance(rag_slice a, rag_slice b) {
  size_t a_size = RAG_MIN(a.size, (size_t)EDIT_DISTANCE_BYTES_MAX);
  size_t b_size = RAG_MIN(b.size, (size_t)EDIT_DISTANCE_BYTES_MAX);
  uint8_t row[EDIT_DISTANCE_BYTES_MAX + 1]; // row[j]: from the prefix of a seen so far to the first j bytes of b
  for (size_t j = 0; j <= b_size; j++) row[j] = (uint8_t)j;
  for (size_t i = 0; i < a_size; i++) {
    unsigned diagonal = row[0];
    row[0] = (uint8_t)(i + 1);
    for (size_t j = 0; j < b_size; j++) {
      unsigned replaced = diagonal + (a.data[i] != b.data[j]);
      unsigned stepped = RAG_MIN(row[j], row[j + 1]) + 1u;
      diagonal = row[j + 1];
      row[j + 1] = (uint8_t)RAG_MIN(replaced, stepped);
    }
  }
  return row[b_size];
}
