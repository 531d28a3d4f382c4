// A filter as a tree of questions to field indexes. Private to kb/filters/.
#ifndef RAGD_KB_PLAN_INTERNAL_H
#define RAGD_KB_PLAN_INTERNAL_H

#include "kb/filters/filters_internal.h"

// What the index can say about a path.
typedef struct rag_kb__indexed_path {
  // What it is filed under: without a [] at the end, and with [] for [n]. Where two [] follow each other (an array within
  // an array), the path up to the first of them, which is all that is indexed.
  rag_slice text;
  bool numbered; // has [n]: the index knows more values than the path leads to
  bool trailing; // ends in []: values of arrays alone
  bool doubled;  // has [][]
  bool covered;  // by the index's options
} rag_kb__indexed_path;
// Of prefix + path (prefix may be empty). RAG_RESOURCE_EXHAUSTED.
RAG_NODISCARD rag_status rag_kb__path_indexed(const rag_kb__path *prefix, const rag_kb__path *path,
                                              const rag_fields_view *view, rag_arena *arena, rag_kb__indexed_path *out,
                                              rag_error *err);

typedef enum rag_kb__node_kind {
  RAG_KB__NODE_LEAF,
  RAG_KB__NODE_ALL,
  RAG_KB__NODE_ANY,
  RAG_KB__NODE_NONE,     // none of the children
  RAG_KB__NODE_AT_LEAST, // `min_count` of them
  RAG_KB__NODE_NESTED,   // children: what its inner filter needs at least
} rag_kb__node_kind;

typedef struct rag_kb__node {
  rag_kb__node_kind kind;
  uint32_t child_count;
  struct rag_kb__node *children;
  uint32_t min_count;
  const rag_kb__condition *condition; // LEAF, NESTED
  rag_kb__indexed_path path;          // likewise
  bool exact;                         // NESTED: the child is not needed only but enough
  bool scan;                          // LEAF: no index answers
  bool reported;                      // LEAF, NESTED: counts as a condition of the filter
  bool undecided;                     // set by the evaluation: for some live revision
  uint32_t *ordinals;                 // HAS_ID: sorted
  uint32_t ordinal_count;
} rag_kb__node;

// Bits of a count of up to all children, or min_count.
static inline uint32_t rag_kb__count_bits(const rag_kb__node *node) {
  return 32u - (uint32_t)__builtin_clz(RAG_MAX(node->child_count, node->min_count));
}

typedef struct rag_kb__plan {
  rag_kb__node root;
  uint32_t sets; // that an evaluation needs at once, of RAG_BITMAP_BLOCK_WORDS words
} rag_kb__plan;
// Everything in *out lies in the arena. Calls source->find_id.
RAG_NODISCARD rag_status rag_kb__plan_create(const rag_filter *filter, const rag_kb__filter_source *source,
                                             rag_arena *arena, rag_kb__plan *out, rag_error *err);

#endif
