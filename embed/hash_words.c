// Words of a text for the hash embedder: folding, splitting, identifiers, scripts without spaces, light stemming.
//
// What a word is, frozen with the fingerprint:
//  1. Characters are folded: ASCII to lower case, others by the table in base/unicode_fold_table.c.
//  2. A run of letters and digits is a word. Code identifiers stay findable both ways: snake_case, camelCase and
//     HTTPServer give each part and then the whole without underscores ("snake", "case", "snakecase").
//  3. A run longer than RAG_WORD_CHARS_MAX characters is cut there, so that every buffer is bounded and every character
//     still counts.
//  4. Ideographs, kana, Hangul, Thai, Lao, Khmer, Burmese and pictographs give each character and each adjacent pair:
//     they are written without spaces, or (Hangul) with endings glued on.
//
// Leaf code: no locks, no allocation.
#include "embed/embed_internal.h"

enum { CLASS_BREAK = 0, CLASS_LOWER, CLASS_UPPER, CLASS_DIGIT, CLASS_UNDERSCORE, CLASS_WIDE };

typedef struct word_run {
  rag_word_fn fn;
  void *context;
  uint32_t size;    // bytes of the run so far, underscores left out
  uint32_t chars;   // its characters
  uint32_t part_at; // where the current part begins
  uint32_t parts;   // parts given out
  int last_letter;  // CLASS_LOWER, CLASS_UPPER, or CLASS_BREAK at the start of a part
  uint32_t glyph;   // the ideograph just before, or 0
  char bytes[RAG_WORD_BYTES_MAX];
} word_run;

static int ascii_class(unsigned char c) {
  if (c >= 'a' && c <= 'z') return CLASS_LOWER;
  if (c >= 'A' && c <= 'Z') return CLASS_UPPER;
  if (c >= '0' && c <= '9') return CLASS_DIGIT;
  if (c == '_') return CLASS_UNDERSCORE;
  return c < 0x80 ? CLASS_BREAK : CLASS_WIDE;
}

static bool end_part(word_run *run) {
  uint32_t at = run->part_at, size = run->size - at;
  run->part_at = run->size;
  run->last_letter = CLASS_BREAK;
  if (size == 0) return true;
  run->parts++;
  return run->fn(run->context, RAG_WORD_LETTERS, run->bytes + at, size);
}

static bool end_run(word_run *run) {
  if (run->size == 0) return true;
  bool go_on = end_part(run);
  if (go_on && run->parts > 1) go_on = run->fn(run->context, RAG_WORD_LETTERS, run->bytes, run->size);
  run->size = run->chars = run->part_at = run->parts = 0;
  return go_on;
}

// Cuts before the character that would not fit.
static bool run_make_room(word_run *run) {
  return run->chars < RAG_WORD_CHARS_MAX || end_run(run);
}

static bool put_letter(word_run *run, uint32_t c) {
  if (!run_make_room(run)) return false;
  run->size += rag_utf8_encode(c, run->bytes + run->size);
  run->chars++;
  return true;
}

static bool put_glyph(word_run *run, uint32_t c) {
  if (!end_run(run)) return false;
  char pair[8];
  uint32_t first_size = run->glyph ? rag_utf8_encode(run->glyph, pair) : 0;
  uint32_t size = rag_utf8_encode(c, pair + first_size);
  bool had = run->glyph != 0;
  run->glyph = c;
  if (!run->fn(run->context, RAG_WORD_GLYPH, pair + first_size, size)) return false;
  return !had || run->fn(run->context, RAG_WORD_GLYPHS, pair, first_size + size);
}

static bool end_all(word_run *run) {
  run->glyph = 0;
  return end_run(run);
}

static bool put_folded(word_run *run, const rag_fold_row *row, uint32_t c) {
  bool (*put)(word_run *, uint32_t) = row->operation & RAG_FOLD_IDEOGRAPH ? put_glyph : put_letter;
  uint32_t folded[RAG_UNICODE_FOLD_MAX], count = rag_unicode_fold(row, c, folded);
  for (uint32_t i = 0; i < count; i++) {
    if (!put(run, folded[i])) return false;
  }
  return true;
}

// Takes one character above ASCII at p. False: stopped.
static bool take_wide(word_run *run, const unsigned char *p, size_t left, size_t *size) {
  uint32_t c = rag_unicode_next(p, left, size);
  const rag_fold_row *row = rag_unicode_fold_row(c);
  if (!row) return end_all(run);
  if (row->operation == RAG_FOLD_SKIP) return true;
  if (!(row->operation & RAG_FOLD_IDEOGRAPH)) {
    run->glyph = 0;
    run->last_letter = CLASS_LOWER;
  }
  return put_folded(run, row, c);
}

// Whether a part of an identifier ends before the capital at p: "readFile", "HTTPServer"; but not in "GPUs", a plural.
static bool part_ends_before(const word_run *run, const unsigned char *p, size_t left) {
  if (run->last_letter == CLASS_LOWER) return true;
  if (run->last_letter != CLASS_UPPER || left < 2 || ascii_class(p[1]) != CLASS_LOWER) return false;
  return !(p[1] == 's' && (left < 3 || ascii_class(p[2]) != CLASS_LOWER));
}

bool rag_embed__words(rag_slice text, rag_word_fn fn, void *context) {
  word_run run;
  run.fn = fn;
  run.context = context;
  run.size = run.chars = run.part_at = run.parts = run.glyph = 0;
  run.last_letter = CLASS_BREAK;

  const unsigned char *data = (const unsigned char *)text.data;
  size_t at = 0;
  while (at < text.size) {
    unsigned char c = data[at];
    size_t size = 1;
    bool go_on = true;
    int class = ascii_class(c);
    if (class != CLASS_WIDE) run.glyph = 0;
    switch (class) {
    case CLASS_UPPER:
      if (part_ends_before(&run, data + at, text.size - at)) go_on = end_part(&run);
      c = (unsigned char)(c + ('a' - 'A'));
      run.last_letter = CLASS_UPPER;
      break;
    case CLASS_LOWER:
      run.last_letter = CLASS_LOWER;
      break;
    case CLASS_DIGIT: // belongs to the part before it: "utf8String" is "utf8", "string"; "H2O" stays whole
      break;
    case CLASS_UNDERSCORE:
      go_on = end_part(&run);
      break;
    case CLASS_WIDE:
      go_on = take_wide(&run, data + at, text.size - at, &size);
      break;
    default:
      go_on = end_run(&run);
      break;
    }
    if (class == CLASS_LOWER || class == CLASS_UPPER || class == CLASS_DIGIT) {
      go_on = go_on && run_make_room(&run);
      run.bytes[run.size++] = (char)c;
      run.chars++;
    }
    if (!go_on) return false;
    at += size;
  }
  return end_all(&run);
}

// ---------------------------------------------------------------------------------------------- stems

static bool ends_with(const char *word, uint32_t size, const char *suffix, uint32_t suffix_size) {
  return size > suffix_size && memcmp(word + size - suffix_size, suffix, suffix_size) == 0;
}

static bool has_vowel(const char *word, uint32_t size) {
  for (uint32_t i = 0; i < size; i++) {
    char c = word[i];
    if (c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y') return true;
  }
  return false;
}

// "stopp" (of "stopping") to "stop"; "fall", "pass", "buzz" keep theirs.
static uint32_t undouble(const char *word, uint32_t size) {
  char last = word[size - 1];
  return size > 3 && last == word[size - 2] && last != 'l' && last != 's' && last != 'z' ? size - 1 : size;
}

// Plurals, -ing, -ed, -ly, a silent e, y as i, and no more: measured on the benchmark's training queries, stripping
// -ness, -ment, -ation and the like as well moved nDCG@10 by less than the choice of the hash seed does.
uint32_t rag_embed__stem(const char *word, uint32_t size, char *out) {
  memcpy(out, word, size);
  if (size < 4) return size;
  for (uint32_t i = 0; i < size; i++) {
    if (word[i] < 'a' || word[i] > 'z') return size;
  }
  if (size > 4 && ends_with(out, size, "ies", 3)) {
    out[size - 3] = 'y';
    size -= 2;
  } else if (ends_with(out, size, "sses", 4)) {
    size -= 2;
  } else if (out[size - 1] == 's') {
    char before = out[size - 2];
    if (before != 's' && before != 'u' && before != 'i') size--;
  }
  if (size > 5 && ends_with(out, size, "ing", 3) && has_vowel(out, size - 3)) {
    size = undouble(out, size - 3);
  } else if (size > 4 && ends_with(out, size, "ed", 2) && out[size - 3] != 'e' && has_vowel(out, size - 2)) {
    size = undouble(out, size - 2);
  } else if (size > 5 && ends_with(out, size, "ly", 2)) {
    size -= 2;
  }
  if (size > 4 && out[size - 1] == 'e') size--;
  if (size > 4 && out[size - 1] == 'y') out[size - 1] = 'i';
  return size;
}
