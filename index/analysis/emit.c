// Tokens of a run: its words on the path, its wholes, and the parts of its words.
//
// A run is one word, or words that joiners bind (scan.c finds them). Levels of joiners, tighter first:
//   1  _ - &      2  .      3  : @      4  / \ (a backslash)
// For each level, the longest stretches of words that joiners of this level or tighter bind are wholes, where one of
// this level is among them. So wholes nest, and none is there twice.
//
// Leaf code of the analyser: no allocation. A run has at most RUN_ATOMS_MAX words and a term RAG_TERM_BYTES_MAX bytes,
// so the time is bounded by a constant per word.
#include "index/analysis/analysis_internal.h"

#define LEVEL_MAX 4u

void rag_analysis__emit(rag_analyzer *analyzer, const char *term, uint32_t size, uint32_t start, uint32_t end,
                        uint32_t flags) {
  if (analyzer->stopped) return;
  rag_token token = {rag_slice_of(term, size), analyzer->position, start, end, flags};
  if (!analyzer->fn(analyzer->context, &token)) analyzer->stopped = true;
}

static bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// ---------------------------------------------------------------------------------------------- wholes

// The words from `first` to `last` as one, into analyzer->whole. 0: it would be too long.
static uint32_t join_atoms(rag_analyzer *analyzer, uint32_t first, uint32_t last, bool *has_digit) {
  static const char symbols[LEVEL_MAX + 1] = {0, '-', '.', ':', '/'};
  uint32_t size = 0;
  *has_digit = false;
  for (uint32_t i = first; i <= last; i++) {
    const run_atom *atom = &analyzer->atoms[i];
    const char *word = analyzer->lower + atom->at;
    // Between two digits the joiner stays: 1-23 is not 12-3.
    bool kept = i > first && is_digit(analyzer->whole[size - 1]) && is_digit(word[0]);
    if (atom->cut || size + kept + atom->size > WORD_BYTES_MAX) return 0;
    if (kept) analyzer->whole[size++] = symbols[analyzer->atoms[i - 1].joiner];
    memcpy(analyzer->whole + size, word, atom->size);
    size += atom->size;
    *has_digit |= atom->has_digit;
  }
  return size;
}

static void emit_whole(rag_analyzer *analyzer, uint32_t first, uint32_t last) {
  bool has_digit;
  uint32_t size = join_atoms(analyzer, first, last, &has_digit);
  if (size == 0) return;
  rag_analysis_term term = rag_analysis__term(analyzer, analyzer->whole, size, has_digit);
  rag_analysis__emit(analyzer, term.data, term.size, analyzer->atoms[first].start, analyzer->atoms[last].end,
                     RAG_TOKEN_EXTRA | RAG_TOKEN_WHOLE);
}

// The wholes that begin with word i, longest first.
static void emit_wholes_at(rag_analyzer *analyzer, uint32_t i) {
  const run_atom *atoms = analyzer->atoms;
  uint32_t before = i == 0 ? LEVEL_MAX + 1 : atoms[i - 1].joiner;
  for (uint32_t level = LEVEL_MAX; level >= 1; level--) {
    if (before <= level) continue; // the stretch of this level began before
    uint32_t last = i;
    bool has_level = false;
    while (last + 1 < analyzer->atom_count && atoms[last].joiner <= level) {
      has_level |= atoms[last].joiner == level;
      last++;
    }
    if (has_level) emit_whole(analyzer, i, last);
  }
}

// ---------------------------------------------------------------------------------------------- parts

static bool is_upper(unsigned char c) {
  return c >= 'A' && c <= 'Z';
}

static bool is_lower(unsigned char c) {
  return c >= 'a' && c <= 'z';
}

// Whether a part of a name ends before the capital text[at]: "readFile", "HTTPServer"; but not in "GPUs", a plural.
static bool part_ends_before(const unsigned char *text, uint32_t start, uint32_t at, uint32_t end) {
  if (at == start || !is_upper(text[at])) return false;
  unsigned char before = text[at - 1];
  if (is_lower(before)) return true;
  bool after_capital = is_upper(before) || is_digit((char)before);
  if (!after_capital || at + 1 >= end || !is_lower(text[at + 1])) return false;
  return !(text[at + 1] == 's' && (at + 2 >= end || !is_lower(text[at + 2])));
}

static void emit_part(rag_analyzer *analyzer, uint32_t start, uint32_t end) {
  char lower[CAMEL_BYTES_MAX];
  uint32_t size = 0;
  bool has_digit = false;
  for (uint32_t at = start; at < end; at++) {
    unsigned char c = analyzer->text[at];
    lower[size++] = (char)(is_upper(c) ? c + ('a' - 'A') : c);
    has_digit |= is_digit((char)c);
  }
  if (size < 2) return;
  rag_analysis_term term = rag_analysis__term(analyzer, lower, size, has_digit);
  rag_analysis__emit(analyzer, term.data, term.size, start, end, RAG_TOKEN_EXTRA);
}

// "GPUs" is "GPU", too, where the stemmer leaves "gpus" as it is.
static void emit_singular(rag_analyzer *analyzer, const run_atom *atom, uint32_t end) {
  const char *word = analyzer->lower + atom->at;
  rag_analysis_term term = rag_analysis__term(analyzer, word, atom->size, false);
  if (term.size == atom->size && memcmp(term.data, word, term.size) == 0) emit_part(analyzer, atom->start, end - 1);
}

static void emit_camel_parts(rag_analyzer *analyzer, const run_atom *atom) {
  if (atom->wide || atom->end - atom->start > CAMEL_BYTES_MAX) return;
  uint32_t start = atom->start, end = atom->end - atom->suffix_size;
  bool plural = end - start >= 3 && analyzer->text[end - 1] == 's';
  for (uint32_t at = start; at < end; at++) {
    unsigned char c = analyzer->text[at];
    plural &= is_upper(c) || at + 1 == end;
    if (c == '\'' || c >= 0x80) { // "iPhone's": what follows is no part
      end = at;
      break;
    }
    if (part_ends_before(analyzer->text, atom->start, at, end)) {
      emit_part(analyzer, start, at);
      start = at;
    }
  }
  if (start > atom->start) emit_part(analyzer, start, end);
  else if (plural) emit_singular(analyzer, atom, end);
}

// "v2.0", "python3.11": the number, and the letters before it where they are two or more.
static void emit_version_parts(rag_analyzer *analyzer, const run_atom *atom) {
  if (!atom->has_dot || atom->size != atom->end - atom->start) return; // dropped or wide characters: offsets differ
  const char *word = analyzer->lower + atom->at;
  uint32_t letters = 0;
  while (letters < atom->size && !is_digit(word[letters])) letters++;
  if (letters == 0 || letters == atom->size) return;
  if (letters >= 2) {
    rag_analysis_term term = rag_analysis__term(analyzer, word, letters, false);
    rag_analysis__emit(analyzer, term.data, term.size, atom->start, atom->start + letters, RAG_TOKEN_EXTRA);
  }
  rag_analysis_term number = rag_analysis__term(analyzer, word + letters, atom->size - letters, true);
  rag_analysis__emit(analyzer, number.data, number.size, atom->start + letters, atom->end, RAG_TOKEN_EXTRA);
}

// ---------------------------------------------------------------------------------------------- words

static void emit_atom(rag_analyzer *analyzer, const run_atom *atom) {
  const char *word = analyzer->lower + atom->at;
  uint32_t flags = atom->capitals ? RAG_TOKEN_UPPER : 0;
  rag_analysis_term term = rag_analysis__term(analyzer, word, atom->size, atom->has_digit);
  if (atom->suffix_size) { // "c++": the letters alone are the extra
    char named[CAMEL_BYTES_MAX + 2];
    memcpy(named, word, atom->size);
    memcpy(named + atom->size, analyzer->text + atom->end - atom->suffix_size, atom->suffix_size);
    rag_analysis__emit(analyzer, named, (uint32_t)atom->size + atom->suffix_size, atom->start, atom->end, flags);
    rag_analysis__emit(analyzer, term.data, term.size, atom->start, atom->end - atom->suffix_size, RAG_TOKEN_EXTRA);
  } else {
    rag_analysis__emit(analyzer, term.data, term.size, atom->start, atom->end,
                       flags | (term.stop ? RAG_TOKEN_STOP : 0u));
  }
  emit_camel_parts(analyzer, atom);
  emit_version_parts(analyzer, atom);
}

void rag_analysis__emit_run(rag_analyzer *analyzer, bool wholes) {
  for (uint32_t i = 0; i < analyzer->atom_count; i++) {
    if (wholes && analyzer->atom_count > 1) emit_wholes_at(analyzer, i);
    emit_atom(analyzer, &analyzer->atoms[i]);
    analyzer->position++;
  }
  analyzer->atom_count = 0;
  analyzer->lower_size = 0;
}
