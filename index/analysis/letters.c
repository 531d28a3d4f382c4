// What each character is to the analyser, and the two foldings around the stemmer.
//
// Stemmers want small letters with their accents ("é", "й"); searchers want them without. So a word is first lowered
// and composed (accents kept), then stemmed, then folded, by the tables below and base/unicode_fold_table.c. All are
// frozen: terms are stored. A library's Unicode would change under them with a system update, and a document would no
// longer be found by its own words until its index was made again.
//
// Threads: the table of frequent letters is made once; everything else is pure. No allocation.
#include "index/analysis/analysis_internal.h"

#include <pthread.h>

#define A RAG_FOLD_ADD
#define T RAG_FOLD_ALTERNATE
#include "index/analysis/letters_table.inc"
#undef A
#undef T

// Kinds and small letters of the characters below this, so that European text needs no bisection.
#define FREQUENT_END 0x600u
typedef struct frequent_letter {
  uint8_t kind;
  uint8_t count;
  uint16_t out[2];
} frequent_letter;
static frequent_letter frequent[FREQUENT_END]; // immutable after frequent_once
static pthread_once_t frequent_once = PTHREAD_ONCE_INIT;

static const rag_fold_row *case_row_of(uint32_t c) {
  uint32_t low = 0, high = RAG_COUNT_OF(case_rows);
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (case_rows[middle].first <= c) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return NULL;
  const rag_fold_row *row = &case_rows[low - 1];
  return c - row->first < row->count ? row : NULL;
}

static bool is_dense(uint32_t c) {
  return (c >= 0xE00 && c <= 0xEFF) || (c >= 0x1000 && c <= 0x109F) || (c >= 0x1780 && c <= 0x17FF);
}

// Pictographs that the folding table leaves out, with arrows, technical signs, tiles and cards around them.
static bool is_pictograph(uint32_t c) {
  return (c >= 0x2300 && c <= 0x23FF) || (c >= 0x2B00 && c <= 0x2BFF) || (c >= 0x1F000 && c <= 0x1F0FF) ||
         c == 0x1F18E || (c >= 0x1F191 && c <= 0x1F19A);
}

static rag_letter look_up(uint32_t c, uint32_t out[RAG_UNICODE_FOLD_MAX], uint32_t *out_count) {
  *out_count = 0;
  if (c == 0x2019 || c == 0x2BC || c == 0xFF07) return RAG_LETTER_APOSTROPHE;
  if (c == 0x2010 || c == 0x2011 || c == 0xFF0D) return RAG_LETTER_HYPHEN;
  if (c >= 0x1F1E6 && c <= 0x1F1FF) return RAG_LETTER_FLAG;
  const rag_fold_row *row = case_row_of(c);
  if (row) {
    *out_count = rag_unicode_fold(row, c, out);
    return RAG_LETTER_WORD;
  }
  row = rag_unicode_fold_row(c);
  if (!row) {
    if (!is_pictograph(c)) return RAG_LETTER_BREAK;
    out[0] = c;
    *out_count = 1;
    return RAG_LETTER_EMOJI;
  }
  *out_count = rag_unicode_fold(row, c, out);
  if (*out_count == 0) return RAG_LETTER_SKIP;
  if (!(row->operation & RAG_FOLD_IDEOGRAPH)) return RAG_LETTER_WORD;
  if ((c >= 0x2600 && c <= 0x27BF) || (c >= 0x1F300 && c <= 0x1FAFF)) return RAG_LETTER_EMOJI;
  return is_dense(c) ? RAG_LETTER_DENSE : RAG_LETTER_CJK;
}

static void make_frequent(void) {
  for (uint32_t c = 0x80; c < FREQUENT_END; c++) {
    uint32_t out[RAG_UNICODE_FOLD_MAX], count;
    rag_letter kind = look_up(c, out, &count);
    frequent[c].kind = (uint8_t)kind;
    frequent[c].count = (uint8_t)count;
    for (uint32_t i = 0; i < count && i < 2; i++) frequent[c].out[i] = (uint16_t)out[i];
    if (count > 2) frequent[c].count = 0xFF; // three-fold ones (vulgar fractions of two digits are not here) look it up
  }
}

rag_letter rag_analysis__letter(uint32_t c, uint32_t out[RAG_UNICODE_FOLD_MAX], uint32_t *out_count) {
  if (c < FREQUENT_END) {
    pthread_once(&frequent_once, make_frequent);
    const frequent_letter *letter = &frequent[c];
    if (letter->count <= 2) {
      out[0] = letter->out[0];
      out[1] = letter->out[1];
      *out_count = letter->count;
      return (rag_letter)letter->kind;
    }
  }
  if ((c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3)) {
    out[0] = c;
    *out_count = 1;
    return RAG_LETTER_CJK;
  }
  return look_up(c, out, out_count);
}

uint32_t rag_analysis__compose(uint32_t base, uint32_t mark) {
  if (mark == 0xFF9E || mark == 0xFF9F) mark = mark - 0xFF9E + 0x3099; // half-width voice marks
  uint32_t low = 0, high = RAG_COUNT_OF(compose_rows);
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    const uint16_t *row = compose_rows[middle];
    if (row[0] == base && row[1] == mark) return row[2];
    if (row[0] < base || (row[0] == base && row[1] < mark)) low = middle + 1;
    else high = middle;
  }
  return 0;
}

bool rag_analysis__is_dense_mark(uint32_t c) {
  for (uint32_t i = 0; i < RAG_COUNT_OF(mark_rows); i++) {
    if (c >= mark_rows[i][0] && c <= mark_rows[i][1]) return true;
  }
  return false;
}

static bool is_kept(const char *kept, uint32_t c) {
  while (kept && *kept) {
    size_t size;
    if (rag_utf8_decode(kept, strlen(kept), &size) == c) return true;
    kept += size;
  }
  return false;
}

uint32_t rag_analysis__fold(const char *kept, const char *word, uint32_t size, char *out, uint32_t capacity) {
  uint32_t written = 0;
  for (size_t at = 0, step = 1; at < size; at += step) {
    unsigned char byte = (unsigned char)word[at];
    step = 1;
    if (byte < 0x80) {
      if (byte == '\'') continue;
      if (written == capacity) break;
      out[written++] = (char)byte;
      continue;
    }
    uint32_t c = rag_unicode_next((const unsigned char *)word + at, size - at, &step);
    uint32_t folded[RAG_UNICODE_FOLD_MAX] = {c}, count = 1;
    // A dotless i is an i: so ISPARTA, Isparta and isparta are one, whatever the language of the text and the query.
    const rag_fold_row *row = is_kept(kept, c) ? NULL : rag_unicode_fold_row(c);
    if (c == 0x131) folded[0] = 'i';
    else if (row) count = rag_unicode_fold(row, c, folded);
    char bytes[4 * RAG_UNICODE_FOLD_MAX];
    uint32_t byte_count = 0;
    for (uint32_t i = 0; i < count; i++) byte_count += rag_utf8_encode(folded[i], bytes + byte_count);
    if (written + byte_count > capacity) break;
    memcpy(out + written, bytes, byte_count);
    written += byte_count;
  }
  return written;
}
