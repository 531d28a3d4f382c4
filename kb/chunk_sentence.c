// Where sentences end, for the structure method.
//
// A sentence ends after . ! ? or an ellipsis, and the closing quotes, brackets and emphasis marks that follow, when
// white space or the line's end comes next, unless
//  - what follows starts with a lower-case letter ("e.g. this", `"Really?" he said`);
//  - the stop is one full stop after a title or an abbreviation that goes on ("Dr.", "vs.", "z.B."), after an initial
//    ("J. R. R. Tolkien"), after a letter with a stop before it ("U.S. Army", "Ph.D. thesis"), or after the number that
//    opens a line ("1. First");
//  - the stop is one full stop after "No.", "Fig.", "Jan." and their like and a digit follows.
// A stop inside a word is none: 3.14, example.org, foo.bar(). CJK full stops, the danda and their like end a sentence
// without white space after them. U+2028 and U+2029 end a sentence and a paragraph.
//
// It errs towards no end: a sentence joined to the next is found as well, a sentence cut at "Dr." is not.
//
// Invariants: an offset given is a character's start and never before a combining mark, so always between two tokens.
// Linear: the look back at a word is bounded, a look ahead is never repeated.
// Threads: pure functions.
#include "kb/chunk_internal.h"

#define ABBREVIATION_BYTES_MAX 8u // with the NUL

// Both sorted: they are searched once for every full stop.
static const char goes_on[][ABBREVIATION_BYTES_MAX] = {
    "adm",  "approx", "bzw", "ca",   "capt", "cf",  "col", "cpt",    "dr",  "ed",  "eds", "eg",  "esp", "gen",
    "ggf",  "gov",    "hon", "ie",   "incl", "lt",  "maj", "messrs", "mme", "mr",  "mrs", "ms",  "mt",  "mx",
    "pres", "prof",   "rep", "resp", "rev",  "sen", "sgt", "sog",    "st",  "usw", "vgl", "viz", "vs",
};
static const char before_number[][ABBREVIATION_BYTES_MAX] = {
    "abb", "abs", "app",  "apr", "art",  "aug", "bd",   "ch",  "chap", "col", "dec", "eq",  "eqs", "ex",
    "feb", "fig", "figs", "jan", "jul",  "jun", "kap",  "mar", "no",   "nos", "nov", "nr",  "oct", "op",
    "p",   "par", "pp",   "ref", "refs", "sec", "sect", "sep", "sept", "tab", "v",   "ver", "vol", "vols",
};

static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

// word: filled up with NUL.
static bool in_list(const char (*list)[ABBREVIATION_BYTES_MAX], size_t count, const char *word) {
  size_t low = 0;
  while (low < count) {
    size_t middle = (low + count) / 2;
    int order = memcmp(list[middle], word, ABBREVIATION_BYTES_MAX);
    if (order == 0) return true;
    if (order < 0) low = middle + 1;
    else count = middle;
  }
  return false;
}

// What one full stop at `stop` means; the line's text starts at `start`.
static rag_chunk__stop full_stop(const char *data, size_t start, size_t stop) {
  size_t at = stop;
  char word[ABBREVIATION_BYTES_MAX] = {0};
  size_t size = 0;
  while (at > start && is_letter(data[at - 1]) && size < sizeof(word)) {
    at--;
    size++;
  }
  if (size == sizeof(word)) return RAG_CHUNK__STOP_IF_NO_LOWER; // longer than any abbreviation
  if (size == 0) {
    // "1." at the start of a line is a number of a list.
    while (at > start && data[at - 1] >= '0' && data[at - 1] <= '9' && stop - at < 4) at--;
    return at == start && at < stop ? RAG_CHUNK__STOP_NONE : RAG_CHUNK__STOP_IF_NO_LOWER;
  }
  for (size_t i = 0; i < size; i++) {
    char c = data[at + i];
    word[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
  }
  bool stands_alone = at == start || data[at - 1] == ' ' || data[at - 1] == '\t' || data[at - 1] == '(' ||
                      data[at - 1] == '"' || data[at - 1] == '*' || data[at - 1] == '_' || data[at - 1] == '[';
  // One letter: two bytes of it where it is Latin with an accent, Greek or Cyrillic.
  bool one_letter = size == 1 || (size == 2 && ((unsigned char)data[at] & 0xE0) == 0xC0);
  if (one_letter && at > start && data[at - 1] == '.') return RAG_CHUNK__STOP_NONE;
  if (one_letter && stands_alone && !(data[at] >= 'a' && data[at] <= 'z')) return RAG_CHUNK__STOP_NONE;
  if (in_list(goes_on, RAG_COUNT_OF(goes_on), word)) return RAG_CHUNK__STOP_NONE;
  if (in_list(before_number, RAG_COUNT_OF(before_number), word)) return RAG_CHUNK__STOP_IF_NO_DIGIT;
  return RAG_CHUNK__STOP_IF_NO_LOWER;
}

static bool is_stop_anywhere(uint32_t code) { // ends a sentence whatever follows
  switch (code) {
  case 0x3002: // ideographic full stop
  case 0xFF01: // fullwidth ! ? and halfwidth full stop
  case 0xFF1F:
  case 0xFF61:
  case 0x0964: // danda, double danda
  case 0x0965:
  case 0x06D4: // Arabic full stop, question mark
  case 0x061F:
  case 0x1362: // Ethiopic
  case 0x17D4: // Khmer
  case 0x104B: // Myanmar
    return true;
  default:
    return false;
  }
}

static bool is_closer(uint32_t code) {
  switch (code) {
  case ')':
  case ']':
  case '}':
  case '"':
  case '\'':
  case '*':
  case '_':
  case '`':
  case 0x00BB: // » ’ ” ›
  case 0x2019:
  case 0x201D:
  case 0x203A:
  case 0x300D: // CJK corner brackets, brackets and quotes
  case 0x300F:
  case 0x3009:
  case 0x300B:
  case 0x3011:
  case 0x3015:
  case 0xFF09:
  case 0xFF3D:
  case 0xFF02:
    return true;
  default:
    return false;
  }
}

static bool is_lower(uint32_t code) {
  return (code >= 'a' && code <= 'z') || (code >= 0xDF && code <= 0xFF && code != 0xF7) ||
         (code >= 0x3AC && code <= 0x3CE) || (code >= 0x430 && code <= 0x45F);
}

bool rag_chunk__sentence_over(rag_slice text, rag_chunk__stop stop, size_t at, size_t end) {
  if (stop == RAG_CHUNK__STOP_NONE || at >= end) return false;
  size_t size;
  uint32_t code = rag_utf8_decode(text.data + at, end - at, &size);
  if (rag_chunk__is_mark(code)) return false;
  if (stop == RAG_CHUNK__STOP_ALWAYS) return true;
  if (stop == RAG_CHUNK__STOP_IF_NO_DIGIT && code >= '0' && code <= '9') return false;
  return !is_lower(code);
}

// The offset after closers and marks that belong to a stop.
static size_t skip_closers(rag_slice text, size_t at, size_t end) {
  while (at < end) {
    size_t size;
    uint32_t code = rag_utf8_decode(text.data + at, end - at, &size);
    if (!is_closer(code)) break;
    at += size;
  }
  return at;
}

static size_t skip_space(rag_slice text, size_t at, size_t end) {
  while (at < end) {
    size_t size;
    if (!rag_chunk__is_space(rag_utf8_decode(text.data + at, end - at, &size))) break;
    at += size;
  }
  return at;
}

// Bytes that may begin a stop: . ! ? and the lead bytes of those above.
static inline bool may_stop(unsigned char c) {
  return c == '.' || c == '!' || c == '?' || (c >= 0x80 && (c >= 0xE0 || c == 0xD8 || c == 0xDB));
}

size_t rag_chunk__sentence_next(rag_slice text, size_t start, size_t at, size_t end, rag_chunk__stop *stop_at_end) {
  const char *data = text.data;
  *stop_at_end = RAG_CHUNK__STOP_NONE;
  while (at < end) {
    if (!may_stop((unsigned char)data[at])) {
      at++;
      continue;
    }
    size_t size;
    uint32_t code = rag_utf8_decode(data + at, end - at, &size);
    rag_chunk__stop stop;
    size_t next = at + size;
    if (code == 0x2028 || code == 0x2029) {
      return next;
    } else if (is_stop_anywhere(code)) {
      stop = RAG_CHUNK__STOP_ALWAYS;
      while (next < end && is_stop_anywhere(rag_utf8_decode(data + next, end - next, &size))) next += size;
    } else if (code == '.' || code == '!' || code == '?' || code == 0x2026) {
      while (next < end && (data[next] == '.' || data[next] == '!' || data[next] == '?')) next++;
      bool one = code == '.' && next == at + 1;
      stop = one ? full_stop(data, start, at) : RAG_CHUNK__STOP_IF_NO_LOWER;
    } else {
      at = next;
      continue;
    }
    next = skip_closers(text, next, end);
    size_t follows = skip_space(text, next, end);
    if (follows == end) {
      *stop_at_end = stop;
      return end;
    }
    // Without white space the closers must not be the start of a word: `_` is.
    bool apart = follows > next || (stop == RAG_CHUNK__STOP_ALWAYS && data[next - 1] != '_');
    if (apart && rag_chunk__sentence_over(text, stop, follows, end)) return follows;
    at = follows;
  }
  return end;
}
