// From ranked chunks to an answer's hits (hits.c). Private to kb/retrieval.
#ifndef RAGD_KB_RETRIEVAL_HITS_H
#define RAGD_KB_RETRIEVAL_HITS_H

#include "kb/retrieval/retrieval_internal.h"
#include "kb/words_internal.h"

// What keeps an answer's slices alive: rag_search_result.pins.
typedef struct rag_kb__pins rag_kb__pins;
// Takes references. NULL: out of memory. Freed by rag_search_result_free.
rag_kb__pins *rag_kb__pins_create(rag_kb *kb, rag_index_view *view, uint32_t count);
rag_hit *rag_kb__pins_hits(rag_kb__pins *pins); // zeroed, `count` of them

typedef struct rag_kb__fill { // how hits of one answer are made
  rag_kb *kb;
  const rag_search *search;
  const rag_version *version;
  rag_kb__highlighter *highlighter; // NULL: no highlights
  rag_slice language;               // of the kb's texts
  rag_kb__analyzer *analyzer;       // of `language`; borrowed
} rag_kb__fill;
// In the order of the ranking, each once. Highlights are kept by the pins.
RAG_NODISCARD rag_status rag_kb__hit_fill(const rag_kb__fill *fill, rag_kb__pins *pins, const rag_kb__candidate *from,
                                          rag_hit *hit, rag_error *err);

#endif
