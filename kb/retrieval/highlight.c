// The words of a query: as clauses of the lexical index, and as spans of a text that they occur in.
//
// What is marked: every token of the text, on the path or beside it, that is a word of the query or begins with a
// prefix of it, as far as the token reaches (of "readFile", "read" marks four bytes; a compound's whole all of it); and
// the words of each occurrence of a phrase. What must not occur is not looked for.
//
// A span is what a reader sees as one: tokens that overlap or touch, and neighbours with nothing between them but ASCII
// white space without a blank line, or but the characters that bind compounds. So a phrase is one span in most cases,
// and a phrase that goes over the end of a sentence is marked, but not the full stop.
//
// How. All terms lie in one hash table; the hash goes byte by byte, so that one pass over a token's term meets every
// prefix of it as well. Phrases are an Aho-Corasick automaton over the path's terms. As a word's fate is open until the
// longest phrase that may begin there has been read, tokens wait in a ring; `reach` says how far the phrases go that
// begin at a position, which is all that is left to do per occurrence.
//
// Invariants
//  1. The ring holds tokens in the order of the text, so spans come out ascending.
//  2. Positions in the ring are fewer than RAG_WORDS_PHRASE_MAX apart, so `reach` has a slot for each.
//  3. States are numbered by depth: a failure link leads to a lower number.
//
// Time: of the text's analysis, and a constant per byte of a term. Memory: the arena, at most 400 bytes a term of the
// query, and where it has phrases up to 64 KiB for the ring.
#include "kb/retrieval/retrieval_internal.h"

// Tokens of one position: itself, wholes, parts of camelCase words. More only cost a mark of a phrase's word.
#define POSITION_TOKENS 40u
#define GAP_BYTES_MAX 8u // between words of one span
#define TERM_SIZES (RAG_TERM_BYTES_MAX + 1)

_Static_assert(RAG_WORDS_TERMS_MAX <= RAG_LEXICAL_TERMS_MAX && RAG_WORDS_PHRASE_MAX <= RAG_LEXICAL_PHRASE_MAX,
               "every parsed query is a query of the lexical index");
_Static_assert(RAG_WORDS_TERMS_MAX < UINT16_MAX, "terms and states are numbered in 16 bits");

// ---------------------------------------------------------------------------------------------- clauses

rag_status rag_kb__clauses(const rag_words_query *words, rag_arena *arena, rag_lexical_clause **out,
                           uint32_t *out_count, rag_error *err) {
  static const rag_lexical_kind kinds[] = {RAG_LEXICAL_TERM, RAG_LEXICAL_PHRASE, RAG_LEXICAL_PREFIX};
  static const rag_lexical_occur occurs[] = {RAG_LEXICAL_SHOULD, RAG_LEXICAL_MUST, RAG_LEXICAL_MUST_NOT};
  rag_lexical_clause *clauses = rag_arena_calloc(arena, (size_t)words->clause_count + 1, sizeof *clauses);
  if (!clauses) return rag_fail_no_memory(err, words->clause_count * sizeof *clauses);
  for (uint32_t i = 0; i < words->clause_count; i++) {
    const rag_words_clause *from = &words->clauses[i];
    clauses[i] = (rag_lexical_clause){.kind = kinds[from->kind],
                                      .occur = occurs[from->occur],
                                      .weight = RAG_MIN((float)from->count, RAG_LEXICAL_WEIGHT_MAX),
                                      .term_count = from->term_count,
                                      .terms = from->terms};
  }
  *out = clauses;
  *out_count = words->clause_count;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- what is looked for

typedef struct sought_term {
  rag_slice term; // size 0: an empty slot
  uint64_t hash;
  uint16_t number; // from 1, for the automaton
  bool word, prefix;
} sought_term;

typedef struct phrase_edge {
  uint32_t key; // state << 16 | number of the term; 0: an empty slot
  uint16_t to;
} phrase_edge;

typedef struct waiting_token {
  uint32_t start, end, position;
  bool matched;
  bool path;
} waiting_token;

struct rag_kb__highlighter {
  sought_term *terms; // open addressing
  uint32_t term_mask;
  uint16_t term_count;
  uint64_t seed;                          // of this process: nobody can choose terms that meet
  uint64_t prefix_sizes[TERM_SIZES / 64]; // bits: prefixes of so many bytes are sought

  phrase_edge *edges; // open addressing
  uint32_t edge_mask;
  uint16_t *fail; // of each state; 0 is the root
  uint8_t *ends;  // words of the longest phrase that ends in the state; 0: none does
  uint16_t state_count;
  uint32_t window; // words of the longest phrase; 1 without one

  waiting_token *ring;
  uint32_t ring_mask;

  // Of the text that is read.
  rag_slice text;
  bool cut; // the text goes on behind `text`
  rag_kb__highlights *out;
  uint32_t head, tail; // of the ring, counted on without end
  // What an older position has left in a slot ends before the new one begins.
  uint32_t reach[RAG_WORDS_PHRASE_MAX]; // by position: the position behind the phrases that begin there; 0: none
  uint32_t covered;                     // words before this position, and not flushed yet, are of a phrase
  uint16_t state;
};
_Static_assert(TERM_SIZES % 64 == 0, "a bit for each size");

static uint64_t hash_byte(uint64_t hash, char c) {
  return (hash ^ (unsigned char)c) * 1099511628211u; // FNV-1a
}

static uint32_t hash_slot(uint64_t hash, uint32_t mask) {
  return (uint32_t)(hash ^ hash >> 32) & mask;
}

// The slot of a term, or the empty one where it would be.
static sought_term *term_slot(const rag_kb__highlighter *h, uint64_t hash, rag_slice term) {
  uint32_t at = hash_slot(hash, h->term_mask);
  for (;; at = (at + 1) & h->term_mask) {
    sought_term *there = &h->terms[at];
    if (there->term.size == 0 || (there->hash == hash && rag_slice_equal(there->term, term))) return there;
  }
}

static sought_term *add_term(rag_kb__highlighter *h, rag_slice term) {
  uint64_t hash = h->seed;
  for (size_t i = 0; i < term.size; i++) hash = hash_byte(hash, term.data[i]);
  sought_term *slot = term_slot(h, hash, term);
  if (slot->term.size == 0) *slot = (sought_term){.term = term, .hash = hash, .number = ++h->term_count};
  return slot;
}

// ---------------------------------------------------------------------------------------------- phrases

static phrase_edge *edge_slot(const rag_kb__highlighter *h, uint32_t state, uint32_t number) {
  uint32_t key = state << 16 | number;
  uint32_t at = hash_slot(key * UINT64_C(0x9e3779b97f4a7c15), h->edge_mask);
  while (h->edges[at].key != 0 && h->edges[at].key != key) at = (at + 1) & h->edge_mask;
  return &h->edges[at];
}

// Where a term leads from a state; the root where nothing does.
static uint16_t step(const rag_kb__highlighter *h, uint16_t state, uint16_t number) {
  for (;; state = h->fail[state]) {
    const phrase_edge *edge = edge_slot(h, state, number);
    if (edge->key != 0) return edge->to;
    if (state == 0) return 0;
  }
}

static uint16_t add_state(rag_kb__highlighter *h, uint16_t from, rag_slice term) {
  uint16_t number = add_term(h, term)->number;
  phrase_edge *edge = edge_slot(h, from, number);
  if (edge->key != 0) return edge->to;
  uint16_t added = ++h->state_count;
  // From the link of `from` all edges are there: it is less deep (invariant 3).
  h->fail[added] = from == 0 ? 0 : step(h, h->fail[from], number);
  *edge = (phrase_edge){(uint32_t)from << 16 | number, added};
  return added;
}

static bool is_phrase(const rag_words_clause *clause) {
  return clause->occur != RAG_WORDS_MUST_NOT && clause->kind == RAG_WORDS_PHRASE && clause->term_count > 1;
}

// All phrases word by word, first words first, so that states are numbered by depth.
static void add_phrases(rag_kb__highlighter *h, const rag_words_query *words, uint16_t *states) {
  for (uint32_t depth = 0; depth < h->window; depth++) {
    for (uint32_t i = 0; i < words->clause_count; i++) {
      const rag_words_clause *clause = &words->clauses[i];
      if (!is_phrase(clause) || depth >= clause->term_count) continue;
      states[i] = add_state(h, states[i], clause->terms[depth]);
      if (depth + 1 == clause->term_count) h->ends[states[i]] = (uint8_t)(depth + 1);
    }
  }
  for (uint32_t state = 1; state <= h->state_count; state++) {
    if (h->ends[state] == 0) h->ends[state] = h->ends[h->fail[state]];
  }
}

static uint32_t power_of_two(uint32_t at_least) {
  uint32_t size = 16;
  while (size < at_least) size *= 2;
  return size;
}

rag_status rag_kb__highlighter_create(const rag_words_query *words, rag_arena *arena, rag_kb__highlighter **out,
                                      rag_error *err) {
  rag_kb__highlighter *h = rag_arena_calloc(arena, 1, sizeof *h);
  if (!h) return rag_fail_no_memory(err, sizeof *h);
  uint32_t term_count = 0, phrase_terms = 0;
  h->window = 1;
  for (uint32_t i = 0; i < words->clause_count; i++) {
    const rag_words_clause *clause = &words->clauses[i];
    term_count += clause->term_count;
    if (!is_phrase(clause)) continue;
    phrase_terms += clause->term_count;
    h->window = RAG_MAX(h->window, clause->term_count);
  }
  RAG_ASSERT(term_count <= RAG_WORDS_TERMS_MAX && h->window <= RAG_WORDS_PHRASE_MAX);
  h->seed = rag_hash64("highlight", 9);
  h->term_mask = power_of_two(2 * term_count) - 1;
  h->edge_mask = power_of_two(2 * phrase_terms) - 1;
  h->ring_mask = power_of_two(h->window * POSITION_TOKENS) - 1;
  h->terms = rag_arena_calloc(arena, (size_t)h->term_mask + 1, sizeof *h->terms);
  h->edges = rag_arena_calloc(arena, (size_t)h->edge_mask + 1, sizeof *h->edges);
  h->fail = rag_arena_calloc(arena, (size_t)phrase_terms + 1, sizeof *h->fail);
  h->ends = rag_arena_calloc(arena, (size_t)phrase_terms + 1, sizeof *h->ends);
  h->ring = rag_arena_calloc(arena, (size_t)h->ring_mask + 1, sizeof *h->ring);
  uint16_t *states = rag_arena_calloc(arena, (size_t)words->clause_count + 1, sizeof *states);
  if (!h->terms || !h->edges || !h->fail || !h->ends || !h->ring || !states) {
    return rag_fail_no_memory(err, term_count * sizeof *h->terms);
  }
  for (uint32_t i = 0; i < words->clause_count; i++) {
    const rag_words_clause *clause = &words->clauses[i];
    if (clause->occur == RAG_WORDS_MUST_NOT || is_phrase(clause)) continue;
    sought_term *term = add_term(h, clause->terms[0]);
    if (clause->kind != RAG_WORDS_PREFIX) term->word = true;
    else {
      term->prefix = true;
      h->prefix_sizes[term->term.size / 64] |= UINT64_C(1) << term->term.size % 64;
    }
  }
  add_phrases(h, words, states);
  *out = h;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- spans

static bool is_joiner(char c) {
  return c == '_' || c == '-' || c == '&' || c == '.' || c == ':' || c == '@' || c == '/' || c == '\\' || c == '\'';
}

// Whether words around these bytes of the text are seen as one.
static bool is_gap(rag_slice text, uint32_t start, uint32_t end) {
  if (end - start > GAP_BYTES_MAX) return false;
  uint32_t spaces = 0, joiners = 0, lines = 0;
  for (uint32_t i = start; i < end; i++) {
    char c = text.data[i];
    spaces += c == ' ' || c == '\t' || c == '\r' || c == '\n';
    lines += c == '\n';
    joiners += is_joiner(c);
  }
  return joiners == end - start || (spaces == end - start && lines < 2);
}

static void add_span(rag_kb__highlighter *h, uint32_t start, uint32_t end) {
  rag_kb__highlights *out = h->out;
  rag_span *last = out->count > 0 ? &out->spans[out->count - 1] : NULL;
  if (last && (start <= last->end || is_gap(h->text, last->end, start))) {
    last->end = RAG_MAX(last->end, end);
  } else if (out->count == RAG_HIGHLIGHTS_MAX) {
    out->truncated = true;
  } else {
    out->spans[out->count++] = (rag_span){start, end};
  }
}

static void flush_one(rag_kb__highlighter *h) {
  const waiting_token *token = &h->ring[h->head++ & h->ring_mask];
  if (token->path) h->covered = RAG_MAX(h->covered, h->reach[token->position % RAG_WORDS_PHRASE_MAX]);
  if (token->matched || (token->path && token->position < h->covered)) add_span(h, token->start, token->end);
}

// ---------------------------------------------------------------------------------------------- tokens

static bool has_size(const rag_kb__highlighter *h, size_t size) {
  return h->prefix_sizes[size / 64] >> size % 64 & 1;
}

// The term where it is sought as it is, else NULL; *matched: it is a word of the query or begins with a prefix of it.
static const sought_term *look_up(const rag_kb__highlighter *h, rag_slice term, bool *matched) {
  uint64_t hash = h->seed;
  bool prefixed = false;
  for (size_t size = 1; size <= term.size; size++) {
    hash = hash_byte(hash, term.data[size - 1]);
    if (!prefixed && has_size(h, size)) prefixed = term_slot(h, hash, rag_slice_of(term.data, size))->prefix;
  }
  const sought_term *there = term_slot(h, hash, term);
  *matched = prefixed || there->word;
  return there->term.size > 0 ? there : NULL;
}

static bool take_token(void *context, const rag_token *token) {
  rag_kb__highlighter *h = context;
  bool matched, path = !(token->flags & RAG_TOKEN_EXTRA);
  const sought_term *term = look_up(h, token->term, &matched);
  if (h->cut && token->end == h->text.size) { // it may go on
    matched = false;
    term = NULL;
  }
  if (matched || (path && h->window > 1)) {
    if (h->tail - h->head > h->ring_mask) flush_one(h);
    h->ring[h->tail++ & h->ring_mask] = (waiting_token){token->start, token->end, token->position, matched, path};
  }
  if (path && h->window > 1) {
    h->state = term ? step(h, h->state, term->number) : 0;
    uint32_t words = h->ends[h->state];
    if (words > 0) h->reach[(token->position + 1 - words) % RAG_WORDS_PHRASE_MAX] = token->position + 1;
  }
  // A phrase that ends behind this word begins at position + 2 - window or later. What is beside the path says nothing:
  // a whole comes before the word of its position.
  while (path && h->head != h->tail && h->ring[h->head & h->ring_mask].position + h->window <= token->position + 1)
    flush_one(h);
  return !h->out->truncated;
}

void rag_kb__highlight(rag_kb__highlighter *h, rag_analyzer *analyzer, rag_slice text, rag_kb__highlights *out) {
  out->count = 0;
  out->truncated = false;
  if (h->term_count == 0) return;
  h->cut = text.size > RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX;
  h->text = text;
  if (h->cut) h->text.size = rag_utf8_floor(text.data, text.size, RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX);
  h->out = out;
  h->head = h->tail = 0;
  h->covered = 0;
  h->state = 0;
  memset(h->reach, 0, sizeof h->reach);
  rag_status status = rag_analyzer_run(analyzer, h->text, take_token, h);
  RAG_ASSERT(status == RAG_OK || status == RAG_CANCELLED); // the text is short enough
  while (h->head != h->tail && !out->truncated) flush_one(h);
  out->truncated |= h->cut;
}
