// What the files of a build share (build.c, grow.c): lists that grow, and who works on them.
#ifndef RAGD_INDEX_GRAPH_BUILD_INTERNAL_H
#define RAGD_INDEX_GRAPH_BUILD_INTERNAL_H

#include "index/graph/graph_internal.h"

typedef struct graph_level { // lists of one level while they grow
  uint32_t *links;           // slots for each node, RAG_GRAPH_NONE behind the last
  float *scores;
  uint8_t *counts;
  uint32_t nodes, keep, slots;
} graph_level;

typedef struct graph_builder graph_builder;
typedef struct graph_worker {
  graph_builder *b;
  uint32_t number;
  rag_status status;
  rag_graph__walker walker;
  rag_graph__chooser chooser;
  rag_graph__link candidates[RAG_GRAPH_EF_CONSTRUCTION_MAX];
  rag_graph__link kept[2 * RAG_GRAPH_M_MAX];
} graph_worker;

typedef enum build_phase { PHASE_CARRY, PHASE_CHOOSE, PHASE_LINK_BACK, PHASE_FINISH } build_phase;

struct graph_builder {
  const rag_graph_codes *codes;
  const rag_graph_options *options;
  uint32_t m, ef, threads;
  uint32_t nodes;     // rows that are no duplicates
  uint32_t *order;    // by position: their rows
  uint8_t *levels_of; // by position
  uint32_t *turns;    // positions to insert, one after another
  uint32_t turn_count;
  graph_level levels[RAG_GRAPH_LEVELS_MAX + 1];
  rag_graph graph; // of what is there, over `levels`
  uint32_t top;    // highest level

  uint32_t highest; // level of an inserted row
  // Of a graph that grows out of another (grow.c); NULL: it does not.
  uint32_t *old_of;          // by row: the base's row whose links are carried over; RAG_GRAPH_NONE: it is inserted
  uint32_t *old_position_of; // by the base's rows: the position there; RAG_GRAPH_NONE: on the ground
  uint32_t *position_of;     // by row: its position, of rows above the ground

  build_phase phase;
  uint32_t begin, end; // of the phase: positions, turns, or nodes of the level that is finished
  uint32_t finishing;
  _Atomic uint32_t claimed; // atomic, relaxed: only the numbers matter, the pool's lock orders the data
  rag_pool *pool;           // NULL: one thread
  graph_worker *workers[RAG_GRAPH_THREADS_MAX];
};

static inline uint32_t *rag_graph__list_of(const graph_level *l, uint32_t node) {
  return l->links + (size_t)node * l->slots;
}
static inline float *rag_graph__scores_of(const graph_level *l, uint32_t node) {
  return l->scores + (size_t)node * l->slots;
}
// Into its place among `count` links that are sorted, best first; there is room for one more.
static inline void rag_graph__sort_in(rag_graph__link *links, uint32_t count, rag_graph__link link) {
  uint64_t key = rag_graph__key(link.score, link.node);
  for (; count > 0 && rag_graph__key(links[count - 1].score, links[count - 1].node) < key; count--)
    links[count] = links[count - 1];
  links[count] = link;
}
void rag_graph__write_list(graph_level *l, uint32_t node, const rag_graph__link *kept, uint32_t count);
rag_graph__layer rag_graph__building_layer(const graph_builder *b, uint32_t number);

static inline bool rag_graph__is_carried(const graph_builder *b, uint32_t row) {
  return b->old_of && b->old_of[row] != RAG_GRAPH_NONE;
}

// grow.c. Which rows keep what they have in the base; b->old_of stays NULL where too little of it is left. first_of: of the
// rows to come.
RAG_NODISCARD rag_status rag_graph__grow_plan(graph_builder *b, const uint32_t *first_of, rag_error *err);
// The highest level of a row that is carried over.
uint32_t rag_graph__level_in_base(const graph_builder *b, uint32_t row);
// The positions are known: puts a row that is carried over first, and finds everybody's.
RAG_NODISCARD rag_status rag_graph__grow_place(graph_builder *b, rag_error *err);
// The lists of one position, if it is carried over.
void rag_graph__carry(graph_worker *w, uint32_t position);

#endif
