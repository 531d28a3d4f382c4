// Unicode for words: encoding, decoding of any bytes, Hangul composition, and the look-up in the folding table.
//
// Invariant: nothing here is ever changed in effect, as vectors and terms depend on it (base/unicode_fold_table.c).
// Threads: pure functions. No allocation.
#include "base/base.h"

uint32_t rag_utf8_encode(uint32_t c, char out[4]) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = (char)(0xE0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3F));
    out[2] = (char)(0x80 | (c & 0x3F));
    return 3;
  }
  out[0] = (char)(0xF0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 0x3F));
  out[2] = (char)(0x80 | (c >> 6 & 0x3F));
  out[3] = (char)(0x80 | (c & 0x3F));
  return 4;
}

static uint32_t wide_decode(const unsigned char *p, size_t left, size_t *size) {
  *size = 1;
  uint32_t need = p[0] >= 0xF0 ? 3 : p[0] >= 0xE0 ? 2 : 1;
  if (p[0] < 0xC2 || p[0] > 0xF4 || left <= need) return 0;
  uint32_t c = p[0] & (0x3Fu >> need);
  for (uint32_t i = 1; i <= need; i++) {
    if ((p[i] & 0xC0) != 0x80) return 0;
    c = c << 6 | (p[i] & 0x3F);
  }
  *size = need + 1;
  return c;
}

// Conjoining Hangul (decomposed text, as some file systems give it) as the syllable it spells, by the arithmetic of the
// Unicode standard, section 3.12. Returns c where it begins none; *size grows by what was taken.
static uint32_t hangul_compose(uint32_t c, const unsigned char *p, size_t left, size_t *size) {
  if (c < 0x1100 || c > 0x1112 || left <= *size || p[*size] < 0x80) return c;
  size_t vowel_size;
  uint32_t vowel = wide_decode(p + *size, left - *size, &vowel_size);
  if (vowel < 0x1161 || vowel > 0x1175) return c;
  *size += vowel_size;
  uint32_t syllable = 0xAC00 + ((c - 0x1100) * 21 + (vowel - 0x1161)) * 28;
  if (left <= *size || p[*size] < 0x80) return syllable;
  size_t tail_size;
  uint32_t tail = wide_decode(p + *size, left - *size, &tail_size);
  if (tail < 0x11A8 || tail > 0x11C2) return syllable;
  *size += tail_size;
  return syllable + tail - 0x11A7;
}

uint32_t rag_unicode_next(const unsigned char *p, size_t left, size_t *out_size) {
  uint32_t c = wide_decode(p, left, out_size);
  return hangul_compose(c, p, left, out_size);
}

const rag_fold_row *rag_unicode_fold_row(uint32_t c) {
  uint32_t low = 0, high = rag_unicode_fold_row_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (rag_unicode_fold_rows[middle].first <= c) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return NULL;
  const rag_fold_row *row = &rag_unicode_fold_rows[low - 1];
  return c - row->first < row->count ? row : NULL;
}

uint32_t rag_unicode_fold(const rag_fold_row *row, uint32_t c, uint32_t out[RAG_UNICODE_FOLD_MAX]) {
  switch (row->operation & RAG_FOLD_OPERATION) {
  case RAG_FOLD_ADD:
    out[0] = (uint32_t)((int32_t)c + row->argument);
    return 1;
  case RAG_FOLD_ALTERNATE:
    out[0] = (c - row->first) % 2 == 0 ? (uint32_t)((int32_t)c + row->argument) : c;
    return 1;
  case RAG_FOLD_SAME:
    out[0] = (uint32_t)row->argument;
    return 1;
  case RAG_FOLD_LIST:
    break;
  default: // RAG_FOLD_SKIP
    return 0;
  }
  const uint32_t *list = &rag_unicode_fold_lists[row->argument];
  for (uint32_t i = 0; i < list[0]; i++) out[i] = list[1 + i];
  return list[0];
}
