// Reading a text: where words, compounds, characters of scripts without spaces and emoji begin and end.
//
// The rules are those of index.h ("words: analysis"). They are near the word boundaries of UAX #29 where a search wants
// them and depart on purpose: joiners make compounds with parts, scripts without spaces give pairs, a full stop between
// letters joins ("U.S.", "example.com").
//
// Invariants
//  1. Each byte is looked at a bounded number of times: what looks ahead looks at most five bytes or one character
//     ahead, or passes over a run of one joiner that the main loop passes over once more.
//  2. No byte past the text is read, also where it is no UTF-8.
//  3. What the fast path takes (most words of English prose) comes out as the slow path would give it: a word of at
//  most
//     CACHE_WORD_BYTES ASCII letters, only the first of them a capital, with nothing behind it that could belong to it.
//
// Leaf code of the analyser: no allocation.
#include "index/analysis/analysis_internal.h"

#define SUFFIX_WORD_BYTES_MAX 32u // of "c++": longer names have no such suffix
#define DENSE_UNIT_BYTES_MAX 60u  // a letter and its marks; more marks than fit are dropped

// The small letter of an ASCII letter, else 0.
// clang-format off
static const uint8_t small_letter[256] = {
  ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i',
  ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',
  ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
  ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',
  ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r',
  ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};
// What may follow a word of ASCII letters and belong to it: 1 surely to be looked at, 2 if a word follows at once.
static const uint8_t may_go_on[128] = {
  ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1,
  ['+'] = 1, ['#'] = 1, ['_'] = 2, ['-'] = 2, ['&'] = 2, ['.'] = 2, [':'] = 2, ['@'] = 2, ['/'] = 2, ['\\'] = 2,
  ['\''] = 2,
};
// clang-format on

static bool is_digit(unsigned char c) {
  return c >= '0' && c <= '9';
}

// ---------------------------------------------------------------------------------------------- characters

typedef struct character {
  rag_letter kind;
  uint32_t size; // bytes of the text
  uint32_t count;
  uint32_t out[RAG_UNICODE_FOLD_MAX];
} character;

static character read_wide(const rag_analyzer *analyzer, uint32_t at) {
  character c;
  size_t size;
  uint32_t code = rag_unicode_next(analyzer->text + at, analyzer->text_size - at, &size);
  c.kind = rag_analysis__letter(code, c.out, &c.count);
  c.size = (uint32_t)size;
  return c;
}

// A byte of ASCII, 0 at the end of the text and for wide characters.
static unsigned char ascii_at(const rag_analyzer *analyzer, uint32_t at) {
  return at < analyzer->text_size && analyzer->text[at] < 0x80 ? analyzer->text[at] : 0;
}

static bool is_letter_at(const rag_analyzer *analyzer, uint32_t at) {
  if (at >= analyzer->text_size) return false;
  unsigned char c = analyzer->text[at];
  return c < 0x80 ? small_letter[c] != 0 : read_wide(analyzer, at).kind == RAG_LETTER_WORD;
}

static bool is_word_at(const rag_analyzer *analyzer, uint32_t at) {
  return is_digit(ascii_at(analyzer, at)) || is_letter_at(analyzer, at);
}

// ---------------------------------------------------------------------------------------------- one word

typedef struct word_reader {
  rag_analyzer *analyzer;
  run_atom atom;
  uint32_t last;      // the last character, for a mark to compose with; 0: none
  uint32_t last_size; // its bytes
  uint32_t letters, capitals;
  uint32_t digits; // since the start or the last comma
  bool only_digits, grouped;
  bool after_letter;
} word_reader;

// Appends a character's bytes; what does not fit cuts the term there.
static void put_bytes(word_reader *reader, const char *bytes, uint32_t size) {
  run_atom *atom = &reader->atom;
  if (atom->cut || atom->size + size > WORD_BYTES_MAX) {
    atom->cut = true;
    return;
  }
  memcpy(reader->analyzer->lower + atom->at + atom->size, bytes, size);
  atom->size = (uint16_t)(atom->size + size);
}

static void put_wide(word_reader *reader, const character *c) {
  char bytes[4 * RAG_UNICODE_FOLD_MAX];
  uint32_t size = 0;
  bool digit = false;
  for (uint32_t i = 0; i < c->count; i++) {
    reader->last_size = rag_utf8_encode(c->out[i], bytes + size);
    reader->last = c->out[i];
    size += reader->last_size;
    digit |= c->out[i] >= '0' && c->out[i] <= '9';
  }
  put_bytes(reader, bytes, size);
  reader->atom.wide = true;
  reader->atom.has_digit |= digit;
  reader->after_letter = !digit;
  reader->only_digits = false;
  reader->letters++;
}

static void put_ascii(word_reader *reader, unsigned char c) {
  bool turkic = c == 'I' && reader->analyzer->language->flags & RAG_LANGUAGE_TURKIC;
  reader->letters++;
  reader->capitals += c <= 'Z';
  reader->after_letter = true;
  reader->only_digits = false;
  reader->last = small_letter[c];
  reader->last_size = 1;
  if (turkic) {
    put_bytes(reader, "ı", 2);
    reader->atom.wide = true;
    reader->last = 0;
  } else {
    put_bytes(reader, (const char *)&small_letter[c], 1);
  }
}

static void put_digit(word_reader *reader, unsigned char c) {
  put_bytes(reader, (const char *)&c, 1);
  reader->atom.has_digit = true;
  reader->after_letter = false;
  reader->digits++;
  reader->last = 0;
}

// A mark after a letter: the two as the one character that they spell, else nothing.
static void put_mark(word_reader *reader, uint32_t code) {
  uint32_t composed = reader->last && !reader->atom.cut ? rag_analysis__compose(reader->last, code) : 0;
  if (!composed) return;
  reader->atom.size = (uint16_t)(reader->atom.size - reader->last_size);
  character c = {RAG_LETTER_WORD, 0, 1, {composed}};
  put_wide(reader, &c);
  reader->letters--;
}

// A comma that groups thousands: three digits and no fourth behind it, one to three before it, three between two.
static bool is_group_comma(const word_reader *reader, uint32_t at) {
  const rag_analyzer *analyzer = reader->analyzer;
  if (!reader->only_digits || reader->atom.has_dot || reader->digits > 3 || reader->digits == 0) return false;
  if (reader->grouped && reader->digits != 3) return false;
  for (uint32_t i = 1; i <= 3; i++) {
    if (!is_digit(ascii_at(analyzer, at + i))) return false;
  }
  return !is_digit(ascii_at(analyzer, at + 4));
}

static bool is_elided(const word_reader *reader) {
  const rag_analyzer *analyzer = reader->analyzer;
  return rag_analysis__in_list(analyzer->language->elided, analyzer->lower + reader->atom.at, reader->atom.size);
}

// Takes what is at `at` into the word. Returns its bytes; 0: the word ends before it.
static uint32_t take(word_reader *reader, uint32_t at) {
  rag_analyzer *analyzer = reader->analyzer;
  unsigned char byte = analyzer->text[at];
  uint32_t size = 1;
  bool apostrophe = byte == '\'';
  if (byte >= 0x80) {
    character c = read_wide(analyzer, at);
    size = c.size;
    if (c.kind == RAG_LETTER_WORD) {
      put_wide(reader, &c);
      return size;
    }
    if (c.kind == RAG_LETTER_SKIP) {
      size_t mark_size;
      put_mark(reader, rag_unicode_next(analyzer->text + at, analyzer->text_size - at, &mark_size));
      return size;
    }
    if (c.kind != RAG_LETTER_APOSTROPHE) return 0;
    apostrophe = true;
  } else if (small_letter[byte]) {
    put_ascii(reader, byte);
    return 1;
  } else if (is_digit(byte)) {
    put_digit(reader, byte);
    return 1;
  }
  if (apostrophe) {
    if (!reader->after_letter || !is_letter_at(analyzer, at + size) || is_elided(reader)) return 0;
    put_bytes(reader, "'", 1);
    reader->after_letter = false;
    reader->last = 0;
    return size;
  }
  bool after_digit = at > reader->atom.start && is_digit(analyzer->text[at - 1]);
  if (byte == '.' && after_digit && is_digit(ascii_at(analyzer, at + 1))) {
    put_bytes(reader, ".", 1);
    reader->atom.has_dot = true;
    return 1;
  }
  if (byte == ',' && after_digit && is_group_comma(reader, at)) {
    reader->grouped = true;
    reader->digits = 0;
    return 1;
  }
  return 0;
}

// Reads "++" or "#" behind a word. Returns its bytes.
static uint32_t suffix_at(const rag_analyzer *analyzer, const word_reader *reader, uint32_t at) {
  const run_atom *atom = &reader->atom;
  unsigned char c = ascii_at(analyzer, at);
  if ((c != '+' && c != '#') || atom->has_digit || atom->wide || atom->size > SUFFIX_WORD_BYTES_MAX) return 0;
  if (atom->size != atom->end - atom->start || memchr(analyzer->lower + atom->at, '\'', atom->size)) return 0;
  uint32_t size = c == '+' ? 2 : 1;
  if (c == '+' && ascii_at(analyzer, at + 1) != '+') return 0;
  return ascii_at(analyzer, at + size) == c || is_word_at(analyzer, at + size) ? 0 : size;
}

// Reads the word that begins at `at` into the run's next atom; returns where it ends.
static uint32_t read_atom(rag_analyzer *analyzer, uint32_t at) {
  word_reader reader = {.analyzer = analyzer, .only_digits = true};
  reader.atom.start = at;
  reader.atom.at = (uint16_t)analyzer->lower_size;
  for (uint32_t size; at < analyzer->text_size && (size = take(&reader, at)) > 0;) at += size;
  reader.atom.end = at;
  reader.atom.capitals = reader.capitals >= 2 && reader.capitals == reader.letters;
  reader.atom.suffix_size = (uint16_t)suffix_at(analyzer, &reader, at);
  reader.atom.end += reader.atom.suffix_size;
  analyzer->lower_size += reader.atom.size;
  analyzer->atoms[analyzer->atom_count++] = reader.atom;
  return reader.atom.end;
}

// ---------------------------------------------------------------------------------------------- compounds

// Whether a joiner at `at` binds the word before it to one behind it. Returns its level (emit.c), and where that word
// begins; 0: no.
static uint8_t joiner_at(const rag_analyzer *analyzer, uint32_t at, uint32_t *next) {
  if (at >= analyzer->text_size) return 0;
  unsigned char c = analyzer->text[at];
  uint8_t level = 0;
  uint32_t size = 1;
  switch (c) {
  case '_':
    while (ascii_at(analyzer, at + size) == '_') size++;
    level = 1;
    break;
  case '-':
  case '&':
    level = 1;
    break;
  case '.':
    level = 2;
    break;
  case ':':
    if (ascii_at(analyzer, at + 1) == ':') size = 2;
    level = 3;
    break;
  case '@':
    level = 3;
    break;
  case '/':
  case '\\':
    level = 4;
    break;
  default:
    if (c >= 0x80) {
      character wide = read_wide(analyzer, at);
      size = wide.size;
      level = wide.kind == RAG_LETTER_HYPHEN;
    }
    break;
  }
  if (level == 0 || !is_word_at(analyzer, at + size)) return 0;
  *next = at + size;
  return level;
}

// Reads a word or a compound; returns where it ends.
static uint32_t read_run(rag_analyzer *analyzer, uint32_t at) {
  bool wholes = true;
  while (!analyzer->stopped) {
    at = read_atom(analyzer, at);
    run_atom *atom = &analyzer->atoms[analyzer->atom_count - 1];
    uint32_t next = at;
    atom->joiner = atom->suffix_size ? 0 : joiner_at(analyzer, at, &next);
    if (atom->joiner == 0) break;
    at = next;
    if (analyzer->atom_count == RUN_ATOMS_MAX) { // more words than a whole may have
      wholes = false;
      rag_analysis__emit_run(analyzer, wholes);
    }
  }
  rag_analysis__emit_run(analyzer, wholes);
  return at;
}

// ---------------------------------------------------------------------------------------------- without spaces

// A character, or a letter with its marks, of a script without spaces.
typedef struct unit {
  uint32_t start, end;
  uint32_t code; // of the only character so far; 0: there are several
  uint32_t size;
  char bytes[DENSE_UNIT_BYTES_MAX];
} unit;

static void unit_put(unit *u, const character *c) {
  u->code = u->size == 0 && c->count == 1 ? c->out[0] : 0;
  char bytes[4 * RAG_UNICODE_FOLD_MAX];
  uint32_t size = 0;
  for (uint32_t i = 0; i < c->count; i++) size += rag_utf8_encode(c->out[i], bytes + size);
  if (u->size + size > DENSE_UNIT_BYTES_MAX) return;
  memcpy(u->bytes + u->size, bytes, size);
  u->size += size;
}

// Reads a unit of the kind at `at`, which is there; returns where it ends.
static uint32_t read_unit(const rag_analyzer *analyzer, uint32_t at, unit *u) {
  u->start = at;
  u->size = 0;
  character c = read_wide(analyzer, at);
  rag_letter kind = c.kind;
  unit_put(u, &c);
  for (at += c.size; at < analyzer->text_size && analyzer->text[at] >= 0x80; at += c.size) {
    c = read_wide(analyzer, at);
    if (c.kind == RAG_LETTER_SKIP) { // a variation selector; or a voice mark of kana, which composes
      size_t size;
      uint32_t mark = rag_unicode_next(analyzer->text + at, analyzer->text_size - at, &size);
      uint32_t composed = kind == RAG_LETTER_CJK && u->code ? rag_analysis__compose(u->code, mark) : 0;
      if (composed) {
        character spelled = {kind, 0, 1, {composed}};
        u->size = 0;
        unit_put(u, &spelled);
      }
    } else if (kind == RAG_LETTER_DENSE && c.kind == kind && rag_analysis__is_dense_mark(c.out[0])) {
      unit_put(u, &c);
    } else {
      break;
    }
  }
  u->end = at;
  return at;
}

static void emit_pair(rag_analyzer *analyzer, const unit *a, const unit *b) {
  char pair[2 * DENSE_UNIT_BYTES_MAX];
  memcpy(pair, a->bytes, a->size);
  memcpy(pair + a->size, b->bytes, b->size);
  rag_analysis__emit(analyzer, pair, a->size + b->size, a->start, b->end, 0);
  analyzer->position++;
}

// Reads a run of one kind, CJK or DENSE; returns where it ends.
static uint32_t read_units(rag_analyzer *analyzer, uint32_t at, rag_letter kind) {
  unit units[2];
  uint32_t count = 0;
  at = read_unit(analyzer, at, &units[0]);
  for (;; count++) {
    unit *last = &units[count % 2];
    bool more = at < analyzer->text_size && analyzer->text[at] >= 0x80 && read_wide(analyzer, at).kind == kind;
    if (!more || analyzer->stopped) {
      rag_analysis__emit(analyzer, last->bytes, last->size, last->start, last->end,
                         RAG_TOKEN_TAIL | (count == 0 ? (uint32_t)RAG_TOKEN_LONE : 0u));
      analyzer->position++;
      return at;
    }
    unit *next = &units[(count + 1) % 2];
    at = read_unit(analyzer, at, next);
    emit_pair(analyzer, last, next);
  }
}

// ---------------------------------------------------------------------------------------------- emoji

static uint32_t skip_marks(const rag_analyzer *analyzer, uint32_t at) {
  while (at < analyzer->text_size && analyzer->text[at] >= 0x80) {
    character c = read_wide(analyzer, at);
    if (c.kind != RAG_LETTER_SKIP) break;
    at += c.size;
  }
  return at;
}

static uint32_t read_emoji(rag_analyzer *analyzer, uint32_t at, const character *c) {
  char bytes[4 * RAG_UNICODE_FOLD_MAX];
  uint32_t size = 0, end = at + c->size;
  for (uint32_t i = 0; i < c->count; i++) size += rag_utf8_encode(c->out[i], bytes + size);
  if (c->kind == RAG_LETTER_FLAG) { // its bytes are its term
    bool pair =
        end < analyzer->text_size && analyzer->text[end] >= 0x80 && read_wide(analyzer, end).kind == RAG_LETTER_FLAG;
    size = pair ? 8 : 4;
    memcpy(bytes, analyzer->text + at, size);
    end = at + size;
  }
  end = skip_marks(analyzer, end);
  rag_analysis__emit(analyzer, bytes, size, at, end, 0);
  analyzer->position++;
  return end;
}

// ---------------------------------------------------------------------------------------------- the text

// The fast path (invariant 3). Returns where the word ends; `at` where it is none that is this plain.
static uint32_t read_plain(rag_analyzer *analyzer, uint32_t at) {
  const unsigned char *text = analyzer->text + at;
  uint32_t left = analyzer->text_size - at, size = 1;
  if (text[0] == 'I' && analyzer->language->flags & RAG_LANGUAGE_TURKIC) return at;
  union {
    uint64_t words[CACHE_WORD_BYTES / 8];
    uint8_t bytes[CACHE_WORD_BYTES];
  } word = {{0}};
  word.bytes[0] = small_letter[text[0]];
  uint32_t most = RAG_MIN(left, CACHE_WORD_BYTES);
  while (size < most && text[size] >= 'a' && text[size] <= 'z') {
    word.bytes[size] = text[size];
    size++;
  }
  if (size < left) {
    unsigned char next = text[size];
    if (next >= 0x80 || small_letter[next] || may_go_on[next] == 1) return at;
    if (may_go_on[next] == 2 && size + 1 < left) {
      unsigned char after = text[size + 1];
      if (after >= 0x80 || small_letter[after] || is_digit(after) || after == next) return at;
    }
  }
  rag_analysis_term term = rag_analysis__cached(analyzer, word.words, size);
  rag_analysis__emit(analyzer, term.data, term.size, at, at + size, term.stop ? RAG_TOKEN_STOP : 0u);
  analyzer->position++;
  return at + size;
}

static uint32_t read_wide_token(rag_analyzer *analyzer, uint32_t at) {
  character c = read_wide(analyzer, at);
  switch (c.kind) {
  case RAG_LETTER_WORD:
    return read_run(analyzer, at);
  case RAG_LETTER_CJK:
  case RAG_LETTER_DENSE:
    return read_units(analyzer, at, c.kind);
  case RAG_LETTER_EMOJI:
  case RAG_LETTER_FLAG:
    return read_emoji(analyzer, at, &c);
  default:
    return at + c.size;
  }
}

rag_status rag_analyzer_run(rag_analyzer *analyzer, rag_slice text, rag_token_fn fn, void *context) {
  if (text.size > RAG_ANALYSIS_TEXT_BYTES_MAX) return RAG_OUT_OF_RANGE;
  analyzer->fn = fn;
  analyzer->context = context;
  analyzer->text = (const unsigned char *)text.data;
  analyzer->text_size = (uint32_t)text.size;
  analyzer->position = 0;
  analyzer->stopped = false;
  analyzer->atom_count = analyzer->lower_size = 0;
  for (uint32_t at = 0; at < analyzer->text_size && !analyzer->stopped;) {
    unsigned char c = analyzer->text[at];
    if (small_letter[c]) {
      uint32_t end = read_plain(analyzer, at);
      at = end > at ? end : read_run(analyzer, at);
    } else if (c >= 0x80) {
      at = read_wide_token(analyzer, at);
    } else if (is_digit(c)) {
      at = read_run(analyzer, at);
    } else {
      at++;
    }
  }
  return analyzer->stopped ? RAG_CANCELLED : RAG_OK;
}
