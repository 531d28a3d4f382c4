// The grammar of queries: plain words, "phrases", +must, -not, prefix*. index.h states it; this file reads it.
//
// A query is read unit by unit. A unit is what stands between white space, or a quoted text, with its sign. Each is
// analysed as a text of its own, so what finds a word in a document finds it in a query.
//
// Bounds: terms, those of phrases included, are at most RAG_WORDS_TERMS_MAX; reading stops at the first that is too
// many. A quote without an end is the last quote of the text, so each byte is passed over twice at most.
//
// Threads: as the analyser. Memory: the arena, about 100 bytes a term.
#include "index/analysis/analysis_internal.h"

#define PLAIN_SLOTS (2u * RAG_WORDS_TERMS_MAX) // a power of two

typedef struct plain_clause {
  rag_words_clause clause;
  bool stop;  // a stop word among plain words: dropped in the end, unless nothing else is asked for
  bool upper; // that word is in capitals
} plain_clause;

typedef struct query_parser {
  rag_analyzer *analyzer;
  rag_arena *arena;
  rag_slice text;
  rag_words_occur occur; // of the unit being read
  bool quoted;
  plain_clause *clauses; // RAG_WORDS_TERMS_MAX
  uint32_t clause_count;
  uint32_t term_count;
  uint16_t *slots; // PLAIN_SLOTS: clause + 1 of a plain term, by hash; 0: empty
  rag_slice *path; // path terms of the unit, for its phrase
  uint32_t path_count;
  rag_token first, last; // of the path; `first.term` and `last.term` are not kept
  bool has_small_letter;
  bool truncated;
  bool full; // no clause was taken since: RAG_WORDS_TERMS_MAX
  bool no_memory;
} query_parser;

// ---------------------------------------------------------------------------------------------- clauses

static rag_slice copy_term(query_parser *parser, rag_slice term) {
  char *copy = rag_arena_strndup(parser->arena, term.data, term.size);
  if (!copy) parser->no_memory = true;
  return rag_slice_of(copy, copy ? term.size : 0);
}

// Room for a clause of so many terms; NULL: there is none, and the query ends here.
static plain_clause *new_clause(query_parser *parser, uint32_t term_count) {
  if (parser->full || parser->term_count + term_count > RAG_WORDS_TERMS_MAX) {
    parser->full = parser->truncated = true;
    return NULL;
  }
  parser->term_count += term_count;
  plain_clause *added = &parser->clauses[parser->clause_count++];
  *added = (plain_clause){.clause = {.occur = parser->occur, .count = 1, .term_count = term_count}};
  return added;
}

static void add_single(query_parser *parser, rag_words_kind kind, rag_slice term) {
  rag_slice *terms = rag_arena_alloc(parser->arena, sizeof(*terms));
  if (!terms) {
    parser->no_memory = true;
    return;
  }
  plain_clause *added = new_clause(parser, 1);
  if (!added) return;
  terms[0] = copy_term(parser, term);
  added->clause.kind = kind;
  added->clause.terms = terms;
}

static uint32_t slot_of(rag_slice term) {
  uint32_t hash = 2166136261u; // FNV-1a: the order of clauses does not depend on it
  for (size_t i = 0; i < term.size; i++) hash = (hash ^ (unsigned char)term.data[i]) * 16777619u;
  return (hash ^ hash >> 15) & (PLAIN_SLOTS - 1);
}

// A word that may match: again one more of the same.
static void add_plain(query_parser *parser, const rag_token *token) {
  uint32_t slot = slot_of(token->term);
  for (; parser->slots[slot]; slot = (slot + 1) & (PLAIN_SLOTS - 1)) {
    plain_clause *there = &parser->clauses[parser->slots[slot] - 1];
    if (!rag_slice_equal(there->clause.terms[0], token->term)) continue;
    there->clause.count++;
    there->stop = there->stop && token->flags & RAG_TOKEN_STOP;
    there->upper |= (token->flags & RAG_TOKEN_UPPER) != 0;
    return;
  }
  uint32_t before = parser->clause_count;
  add_single(parser, RAG_WORDS_TERM, token->term);
  if (parser->clause_count == before) return;
  plain_clause *added = &parser->clauses[before];
  added->stop = (token->flags & RAG_TOKEN_STOP) != 0;
  added->upper = (token->flags & RAG_TOKEN_UPPER) != 0;
  parser->slots[slot] = (uint16_t)(before + 1);
}

// ---------------------------------------------------------------------------------------------- units

static bool take_token(void *context, const rag_token *token) {
  query_parser *parser = context;
  bool extra = token->flags & RAG_TOKEN_EXTRA, plain = parser->occur == RAG_WORDS_SHOULD && !parser->quoted;
  if (!extra) {
    if (parser->path_count == 0) parser->first = *token;
    if (parser->path_count <= RAG_WORDS_PHRASE_MAX) { // one more, to see that there is one
      parser->path[parser->path_count++] = plain ? (rag_slice){0} : copy_term(parser, token->term);
    }
    parser->last = *token;
  }
  bool tail = (token->flags & RAG_TOKEN_TAIL) != 0, lone = (token->flags & RAG_TOKEN_LONE) != 0;
  if (lone && !parser->quoted && parser->occur == RAG_WORDS_SHOULD) add_single(parser, RAG_WORDS_PREFIX, token->term);
  else if (plain && !tail) add_plain(parser, token);
  bool enough = !plain && parser->path_count > RAG_WORDS_PHRASE_MAX;
  return !parser->full && !parser->no_memory && !enough;
}

static void add_phrase(query_parser *parser) {
  uint32_t count = parser->path_count;
  if (count > RAG_WORDS_PHRASE_MAX) {
    parser->truncated = true;
    count = RAG_WORDS_PHRASE_MAX;
  } else if (count > 1 && parser->last.flags & RAG_TOKEN_TAIL && !(parser->last.flags & RAG_TOKEN_LONE)) {
    count--; // in a document the run may go on
  }
  if (count == 0) return;
  if (count == 1) {
    bool lone = parser->first.flags & RAG_TOKEN_LONE && parser->path_count == 1;
    add_single(parser, lone ? RAG_WORDS_PREFIX : RAG_WORDS_TERM, parser->path[0]);
    return;
  }
  rag_slice *terms = rag_arena_alloc(parser->arena, count * sizeof(*terms));
  if (!terms) {
    parser->no_memory = true;
    return;
  }
  plain_clause *added = new_clause(parser, count);
  if (!added) return;
  memcpy(terms, parser->path, count * sizeof(*terms));
  added->clause.kind = RAG_WORDS_PHRASE;
  added->clause.terms = terms;
}

static void add_unit(query_parser *parser, rag_slice text) {
  parser->path_count = 0;
  // It cannot fail but by take_token, which leaves word of why.
  if (rag_analyzer_run(parser->analyzer, text, take_token, parser) != RAG_OK && parser->no_memory) return;
  if (parser->occur != RAG_WORDS_SHOULD || parser->quoted) add_phrase(parser);
}

// ---------------------------------------------------------------------------------------------- prefixes

// The one term that stands for a whole unit: of its only word, or of the whole of its compound.
typedef struct whole_term {
  uint32_t size; // 0: none
  uint32_t end;
  bool dense; // of a script without spaces: terms begin with it as they are
  char bytes[RAG_TERM_BYTES_MAX];
} whole_term;

static bool take_whole(void *context, const rag_token *token) {
  whole_term *whole = context;
  if (token->flags & RAG_TOKEN_EXTRA && !(token->flags & RAG_TOKEN_WHOLE)) return true;
  if (token->flags & RAG_TOKEN_TAIL) whole->dense = true;
  if (token->position > 0 && token->start >= whole->end) whole->size = 0; // a second word, no compound
  if (token->end <= whole->end) return true;
  whole->end = token->end;
  whole->size = token->position == 0 ? (uint32_t)token->term.size : 0;
  if (whole->size) memcpy(whole->bytes, token->term.data, whole->size);
  return true;
}

static bool whole_of(query_parser *parser, rag_slice text, bool plain, whole_term *out) {
  *out = (whole_term){0};
  parser->analyzer->plain = plain;
  rag_status status = rag_analyzer_run(parser->analyzer, text, take_whole, out);
  parser->analyzer->plain = false;
  return status == RAG_OK && out->size > 0 && !out->dense;
}

// A unit with a star behind it. False: it is no prefix, so the star is not there.
static bool add_prefix(query_parser *parser, rag_slice text) {
  whole_term written, stemmed;
  if (!whole_of(parser, text, true, &written)) return false;
  uint32_t shared = 0;
  if (whole_of(parser, text, false, &stemmed)) {
    while (shared < written.size && shared < stemmed.size && written.bytes[shared] == stemmed.bytes[shared]) shared++;
    shared = (uint32_t)rag_utf8_floor(written.bytes, written.size, shared);
  }
  add_single(parser, RAG_WORDS_PREFIX, rag_slice_of(written.bytes, shared ? shared : written.size));
  return true;
}

// ---------------------------------------------------------------------------------------------- the query

// White space at `at`, and its bytes: ASCII's and controls, U+00A0, U+2000 to U+200B, U+2028, U+2029, U+202F, U+3000.
static uint32_t space_at(rag_slice text, size_t at) {
  const unsigned char *p = (const unsigned char *)text.data + at;
  if (p[0] <= 0x20) return 1;
  size_t left = text.size - at;
  if (left >= 2 && p[0] == 0xC2 && p[1] == 0xA0) return 2;
  if (left < 3) return 0;
  if (p[0] == 0xE3 && p[1] == 0x80 && p[2] == 0x80) return 3;
  bool general = p[0] == 0xE2 && p[1] == 0x80;
  return general && (p[2] <= 0x8B || p[2] == 0xA8 || p[2] == 0xA9 || p[2] == 0xAF) ? 3 : 0;
}

// A quotation mark at `at`, straight or curly, and its bytes.
static uint32_t quote_at(rag_slice text, size_t at) {
  const unsigned char *p = (const unsigned char *)text.data + at;
  if (p[0] == '"') return 1;
  bool curly = text.size - at >= 3 && p[0] == 0xE2 && p[1] == 0x80 && (p[2] >= 0x9C && p[2] <= 0x9E);
  return curly ? 3 : 0;
}

// Reads + or - before something that it can belong to.
static size_t read_sign(query_parser *parser, size_t at) {
  char c = parser->text.data[at];
  parser->occur = RAG_WORDS_SHOULD;
  if ((c != '+' && c != '-') || at + 1 >= parser->text.size) return at;
  unsigned char next = (unsigned char)parser->text.data[at + 1];
  bool word = (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') || next >= 0x80 || next == '"';
  if (!word || space_at(parser->text, at + 1)) return at;
  parser->occur = c == '+' ? RAG_WORDS_MUST : RAG_WORDS_MUST_NOT;
  return at + 1;
}

// Reads a bare unit: to white space, or to a quote that begins a phrase of its own.
static size_t read_bare(query_parser *parser, size_t at) {
  size_t end = at;
  while (end < parser->text.size && !space_at(parser->text, end)) end++;
  size_t stars = end;
  while (stars > at && parser->text.data[stars - 1] == '*') stars--;
  rag_slice unit = rag_slice_of(parser->text.data + at, stars - at);
  parser->quoted = false;
  if (stars == end || stars == at || !add_prefix(parser, unit)) add_unit(parser, unit);
  return end;
}

static void read_query(query_parser *parser) {
  for (size_t at = 0; at < parser->text.size && !parser->full && !parser->no_memory;) {
    uint32_t space = space_at(parser->text, at);
    if (space) {
      at += space;
      continue;
    }
    at = read_sign(parser, at);
    uint32_t quote = quote_at(parser->text, at);
    if (!quote) {
      at = read_bare(parser, at);
      continue;
    }
    size_t end = at + quote;
    while (end < parser->text.size && !quote_at(parser->text, end)) end++;
    if (end == parser->text.size) {
      // No quote is behind it, so this is the last one that looks. The sign before it stays: -"word is -word.
      at += quote;
      if (at < parser->text.size && !space_at(parser->text, at)) at = read_bare(parser, at);
      continue;
    }
    parser->quoted = true;
    add_unit(parser, rag_slice_of(parser->text.data + at + quote, end - at - quote));
    at = end + quote_at(parser->text, end);
  }
}

// Takes out the plain stop words, if anything positive is left, and hands the clauses over.
static void finish(query_parser *parser, rag_words_clause *clauses, rag_words_query *out) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < parser->clause_count; i++) {
    plain_clause *c = &parser->clauses[i];
    if (c->upper && parser->has_small_letter) c->stop = false;
    kept += c->clause.occur != RAG_WORDS_MUST_NOT && !c->stop;
  }
  *out = (rag_words_query){.clauses = clauses, .truncated = parser->truncated};
  for (uint32_t i = 0; i < parser->clause_count; i++) {
    const plain_clause *c = &parser->clauses[i];
    if (c->stop && kept > 0) continue;
    clauses[out->clause_count++] = c->clause;
    out->positive_count += c->clause.occur != RAG_WORDS_MUST_NOT;
    out->only_stop_words |= c->stop;
  }
}

rag_status rag_words_parse(rag_analyzer *analyzer, rag_slice text, rag_arena *arena, rag_words_query *out,
                           rag_error *err) {
  if (text.size > RAG_ANALYSIS_TEXT_BYTES_MAX) {
    return rag_fail_field(err, RAG_OUT_OF_RANGE, "query", "the query has %zu bytes; the most are %u", text.size,
                          RAG_ANALYSIS_TEXT_BYTES_MAX);
  }
  query_parser parser = {.analyzer = analyzer, .arena = arena, .text = text};
  parser.clauses = rag_arena_calloc(arena, RAG_WORDS_TERMS_MAX, sizeof(*parser.clauses));
  parser.slots = rag_arena_calloc(arena, PLAIN_SLOTS, sizeof(*parser.slots));
  parser.path = rag_arena_calloc(arena, RAG_WORDS_PHRASE_MAX + 1, sizeof(*parser.path));
  rag_words_clause *clauses = NULL;
  if (parser.clauses && parser.slots && parser.path) {
    for (size_t i = 0; i < text.size && !parser.has_small_letter; i++) {
      parser.has_small_letter = text.data[i] >= 'a' && text.data[i] <= 'z';
    }
    read_query(&parser);
    clauses = rag_arena_calloc(arena, parser.clause_count + 1, sizeof(*clauses));
  }
  if (!clauses || parser.no_memory) return rag_fail_no_memory(err, RAG_WORDS_TERMS_MAX * sizeof(*parser.clauses));
  finish(&parser, clauses, out);
  return RAG_OK;
}
