// Tokens: what max_tokens and overlap_tokens count. A model's own tokenizer would tie stored spans to that model; these
// rules are near its count (English prose: about 1.2 word pieces a token), need no table of words and never change.
//
// Rules. White space separates and counts nothing; then, from left to right, one token is
//  1. a word: letters, digits, combining marks, connectors (_), up to 16 characters; a longer word counts once per
//     started 16, so that no text is large and few tokens at once;
//  2. a number is a word too, and `.` or `,` between two ASCII digits belongs to it: 3.14, 1,000, 1.2.3; a 17th
//     character where a point would be the 16th;
//  3. one CJK character: Han, kana, bopomofo, a Hangul syllable, Yi;
//  4. up to four letters and marks of a script without spaces between words: Thai, Lao, Khmer, Myanmar, Tai;
//  5. one punctuation mark, symbol, emoji or control character (NUL too); a run of one ASCII mark, up to 16, is one:
//  the
//     rule under a table's header says as little with 70 dashes as with three.
// Combining marks that follow belong to the token (up to 16 more), so a cut between tokens parts none from its base.
// White space is Unicode's, and U+200B and U+FEFF. The classes are Unicode 14.0's, frozen in token_classes.inc.
//
// Invariants
//  1. Every character that is not white space is in exactly one token.
//  2. Stateless: tokens from a token's start on depend on nothing before it. So counts of pieces cut between tokens
//     add up exactly, which the packer rests on.
//
// Threads: pure functions. Text must be valid UTF-8; other bytes are read as U+FFFD each, never past the end.
#include "kb/chunk_internal.h"

#define WORD_CHARACTERS_MAX 16u
#define DENSE_CHARACTERS_MAX 4u
#define TRAILING_MARKS_MAX 16u
#define RUN_BYTES_MAX 16u

enum { S = 1, W, M, P, C, D, X }; // space, word, mark, symbol, CJK, dense; X: not ASCII, look it up

typedef struct class_range {
  uint32_t first;
  uint32_t last;
  uint8_t class;
} class_range;

static const class_range class_ranges[] = {
#include "kb/token_classes.inc"
};

// clang-format off
static const uint8_t byte_class[256] = {
    P, P, P, P, P, P, P, P, P, S, S, S, S, S, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P,
    S, P, P, P, P, P, P, P, P, P, P, P, P, P, P, P, W, W, W, W, W, W, W, W, W, W, P, P, P, P, P, P,
    P, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, P, P, P, P, W,
    P, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, P, P, P, P, P,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
    X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X,
};
// clang-format on

static uint8_t class_of(uint32_t code) {
  if (code < 0x80) return byte_class[code];
  // The blocks that long texts are made of, before the search.
  if ((code >= 0x4E00 && code <= 0x9FFF) || (code >= 0xAC00 && code <= 0xD7A3)) return C;
  if ((code >= 0xC0 && code <= 0x24F && code != 0xD7 && code != 0xF7) || (code >= 0x400 && code <= 0x481)) return W;
  size_t low = 0, high = RAG_COUNT_OF(class_ranges);
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (class_ranges[middle].last < code) low = middle + 1;
    else high = middle;
  }
  return low < RAG_COUNT_OF(class_ranges) && class_ranges[low].first <= code ? class_ranges[low].class : (uint8_t)W;
}

bool rag_chunk__is_space(uint32_t code) {
  return class_of(code) == S;
}

bool rag_chunk__is_mark(uint32_t code) {
  return class_of(code) == M;
}

static inline uint8_t class_at(const char *data, size_t at, size_t end, size_t *out_size) {
  uint8_t class = byte_class[(unsigned char)data[at]];
  if (class != X) {
    *out_size = 1;
    return class;
  }
  return class_of(rag_utf8_decode(data + at, end - at, out_size));
}

static inline bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// `.` or `,` at `at` between two digits.
static inline bool joins_number(const char *data, size_t start, size_t at, size_t end) {
  return at > start && at + 1 < end && (data[at] == '.' || data[at] == ',') && is_digit(data[at - 1]) &&
         is_digit(data[at + 1]);
}

// The end of the token that starts at `start`, which is not white space.
static size_t token_end(const char *data, size_t start, size_t end) {
  size_t size;
  uint8_t class = class_at(data, start, end, &size);
  size_t at = start + size;
  uint32_t characters = 1;
  if (class == P && size == 1) {
    size_t far = end - start > RUN_BYTES_MAX ? start + RUN_BYTES_MAX : end;
    while (at < far && data[at] == data[start]) at++;
  }
  uint32_t limit = class == W || class == M ? WORD_CHARACTERS_MAX : class == D ? DENSE_CHARACTERS_MAX : 1;
  while (at < end && characters < limit) {
    uint8_t next = class_at(data, at, end, &size);
    if (class == M && next == D) limit = DENSE_CHARACTERS_MAX; // a mark takes the kind of the letter after it
    if (class == M && (next == W || next == D)) class = next;
    if (next != M && next != class) {
      if (class != W || !joins_number(data, start, at, end)) break;
      // The digit comes along, so that where a token ends never depends on what stands behind it.
      at++;
      characters++;
    }
    at += size;
    characters++;
  }
  for (uint32_t marks = 0; marks < TRAILING_MARKS_MAX && at < end && (unsigned char)data[at] >= 0x80; marks++) {
    if (class_at(data, at, end, &size) != M) break;
    at += size;
  }
  return at;
}

bool rag_chunk__token(rag_slice text, size_t at, size_t end, size_t *out_start, size_t *out_end) {
  while (at < end) {
    size_t size;
    if (class_at(text.data, at, end, &size) != S) {
      *out_start = at;
      *out_end = token_end(text.data, at, end);
      return true;
    }
    at += size;
  }
  return false;
}

uint64_t rag_chunk__measure(rag_slice text, size_t start, size_t end, size_t *out_start, size_t *out_end) {
  const unsigned char *p = (const unsigned char *)text.data;
  uint64_t count = 0;
  size_t at = start, first = start, last = start;
  while (at < end) {
    uint8_t class = byte_class[p[at]];
    size_t size = 1;
    if (class == X) class = class_of(rag_utf8_decode(text.data + at, end - at, &size));
    if (class == S) {
      at += size;
      continue;
    }
    if (count == 0) first = at;
    count++;
    // The fast path: an ASCII word or mark that nothing longer can begin with. Anything else goes by the rules.
    size_t stop = at + 1;
    if (class == W && p[at] < 0x80) {
      // One byte past the limit is enough to know that the word is long; a look at all of it would be quadratic.
      size_t far = end - at > WORD_CHARACTERS_MAX ? at + WORD_CHARACTERS_MAX + 1 : end;
      while (stop < far && byte_class[p[stop]] == W) stop++;
      bool plain = stop - at <= WORD_CHARACTERS_MAX && (stop == end || p[stop] < 0x80) &&
                   !joins_number(text.data, at, stop, end);
      if (!plain) stop = token_end(text.data, at, end);
    } else if (class != P || p[at] >= 0x80 || (stop < end && (p[stop] >= 0x80 || p[stop] == p[at]))) {
      stop = token_end(text.data, at, end);
    }
    last = at = stop;
  }
  if (out_start) *out_start = first;
  if (out_end) *out_end = last;
  return count;
}

uint64_t rag_count_tokens(rag_slice text) {
  return rag_chunk__measure(text, 0, text.size, NULL, NULL);
}
