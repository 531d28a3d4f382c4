// Retrieval: from the hits of the vector index and of the lexical index to one ranking, and the words to mark in it.
// Private to kb/.
//
//   rank.c       candidates of one side or of both fused; at most n of a group
//   mmr.c        maximal marginal relevance
//   highlight.c  parsed words as clauses of the lexical index, and as spans of a text
//   search.c     a search from the request to the answer; the only one here that knows a kb
//
// All but search.c are functions of their arguments: they read no kb, take no lock, and give the same bits for the same
// input on every CPU.
#ifndef RAGD_KB_RETRIEVAL_INTERNAL_H
#define RAGD_KB_RETRIEVAL_INTERNAL_H

#include "index/index.h"
#include "kb/kb.h"

// ---------------------------------------------------------------------------------------------- candidates: rank.c

typedef struct rag_kb__candidate {
  uint32_t chunk;
  uint32_t group; // what `rag_kb__group` counts by, the content or document, say; 0 until the caller sets it
  bool has_vector, has_lexical;
  float vector, lexical; // the scores of the sides, 0 where a side does not have the chunk
  double score;          // what the ranking is by, higher is better; finite
} rag_kb__candidate;

// The order of every ranking: higher scores first, at equal scores lower chunk numbers.

// A score on the scale from 0 (the worst candidate's) to 1 (the best one's); rank.c says why so. RAG_KB__SPREAD_MIN:
// the least span of the scale, of the larger score, so that scores that are nearly equal stay so; all equal are 1.
#define RAG_KB__SPREAD_MIN 0.1
double rag_kb__scaled(double score, double best, double worst);

// One side alone: the hits as candidates, score as it is, in the order of the ranking. out: room for `count`.
void rag_kb__rank_vector(const rag_index_hit *hits, uint32_t count, rag_kb__candidate *out);
void rag_kb__rank_lexical(const rag_lexical_hit *hits, uint32_t count, rag_kb__candidate *out);

// RAG_INVALID_ARGUMENT: an unknown method, k over RAG_FUSION_K_MAX, a weight that is negative or not finite, weights
// that are both 0. Fields "fusion.method", "fusion.k", "fusion.weights".
RAG_NODISCARD rag_status rag_kb__fusion_check(const rag_fusion *fusion, rag_error *err);

// Both sides as one ranking; rank.c states the formulas. `fusion` passed rag_kb__fusion_check. A chunk is at most once
// in each side; the order of hits is of no matter. out: room for vector_count + lexical_count, used as working space.
// O(n log n) for n hits.
void rag_kb__fuse(const rag_index_hit *vector, uint32_t vector_count, const rag_lexical_hit *lexical,
                  uint32_t lexical_count, const rag_fusion *fusion, rag_kb__candidate *out, uint32_t *out_count);

// Keeps the first `per_document` candidates (0: all) of each group, in place, the order as it was. O(n).
RAG_NODISCARD rag_status rag_kb__group(rag_kb__candidate *candidates, uint32_t *count, uint32_t per_document,
                                       rag_error *err);

// ---------------------------------------------------------------------------------------------- diversity: mmr.c

typedef struct rag_kb__mmr {
  float lambda;    // 1: relevance alone; 0: the most relevant one, then difference alone
  uint32_t wanted; // candidates to pick
  rag_metric metric;
  uint32_t dimension;
  // The stored vector of a chunk, borrowed for the call; NULL: it has none and is like nothing. Asked once a candidate.
  const float *(*vector)(void *context, uint32_t chunk);
  void *context;
  uint64_t deadline_ns; // monotonic clock; 0: none
} rag_kb__mmr;

// Picks min(wanted, *count) candidates one after the other, each time the one with the highest
//   lambda * relevance - (1 - lambda) * likeness to the most alike of those that are picked
// (mmr.c says what the two are; at equal values the one that is first in the ranking), and leaves these, in the order
// of picking, in candidates[0 .. *count). Scores stay. `candidates` is a ranking of at most RAG_MMR_CANDIDATES_MAX.
// Each likeness is computed at most once. On error the candidates are as they were. RAG_INVALID_ARGUMENT (lambda; field
// "mmr.lambda"), RAG_RESOURCE_EXHAUSTED, RAG_DEADLINE_EXCEEDED.
RAG_NODISCARD rag_status rag_kb__mmr_pick(const rag_kb__mmr *mmr, rag_kb__candidate *candidates, uint32_t *count,
                                          rag_error *err);

// ---------------------------------------------------------------------------------------------- words: highlight.c

// The clauses of a parsed query as those of the lexical index: the same kinds and occurrences, a plain word with its
// count as its weight. *out lies in the arena, its terms are those of `words`. RAG_RESOURCE_EXHAUSTED (arena).
RAG_NODISCARD rag_status rag_kb__clauses(const rag_words_query *words, rag_arena *arena, rag_lexical_clause **out,
                                         uint32_t *out_count, rag_error *err);

#define RAG_KB__HIGHLIGHT_TEXT_BYTES_MAX (1u << 20) // of one text; words that do not end before are not marked

// What to look for in texts, made once for a query: words, prefixes and phrases that may or must be there. Lies in the
// arena; used by one thread at a time, as it holds the working space. RAG_RESOURCE_EXHAUSTED (arena).
typedef struct rag_kb__highlighter rag_kb__highlighter;
RAG_NODISCARD rag_status rag_kb__highlighter_create(const rag_words_query *words, rag_arena *arena,
                                                    rag_kb__highlighter **out, rag_error *err);

typedef struct rag_kb__highlights {
  rag_span spans[RAG_HIGHLIGHTS_MAX]; // ascending, apart, never inside a character
  uint32_t count;
  bool truncated; // there may be more: the text or its spans are too many
} rag_kb__highlights;
// The spans of `text` that match; highlight.c says what a span covers. `analyzer` is of the text's language, not needed
// to be the one that parsed the words. Linear time, no allocation. Any bytes; of a text that is no UTF-8, too, no span
// cuts a character.
void rag_kb__highlight(rag_kb__highlighter *highlighter, rag_analyzer *analyzer, rag_slice text,
                       rag_kb__highlights *out);

#endif
