// graph: an HNSW graph (arXiv 1603.09320) over the rows of one immutable segment, built and walked on int8 codes; what
// a walk finds is scored again from full-precision rows, so its scores are, bit for bit, those of the flat engine.
//
// Why on codes: a step of a walk is a row read at random, and at 384 dimensions a code is 6 cache lines where floats
// are 24. Neighbour selection needs no more precision than the walk (benchmarks/graph has the comparison).
//
// Files: graph.c is the layout, its check, and the choice of ef; walk.c the best-first walk that build and search
// share; select.c which links a node keeps; build.c the build; grow.c how a graph grows out of another; mend.c duplicates and reachability; calibrate.c the
// table of ef against recall; search.c searches with and without a filter.
//
// Invariants
//  1. A graph is flat arrays without pointers, the same in memory and in a file; rag_graph_open trusts nothing in them,
//     and what it lets through cannot lead a walk out of the arrays.
//  2. Every row can be reached from the entry over ground links: a walk that is not stopped sees all rows.
//  3. The same codes, options, seed and base give the same graph, bit for bit, with any number of threads and on any CPU.
//  4. A search allocates nothing but the growth of its scratch.
// Threads: a graph is immutable and shared; a scratch belongs to one search at a time.
//
// Layout. Nodes of the upper levels have positions: position 0 is the entry, and level l (1 and up) has positions
// 0..level_rows[l-1)-1, so one table of rows serves all levels.
//   META    rag_graph_meta
//   LINKS   u32[rows][2m]: the ground level, neighbours as rows, nearest first; RAG_GRAPH_NONE behind the last
//   UPPER   u32[level_rows[0]]: the row of each position; then for each level u32[level_rows[l-1]][m]: positions
#ifndef RAGD_INDEX_GRAPH_INTERNAL_H
#define RAGD_INDEX_GRAPH_INTERNAL_H

#include "index/codes/codes_internal.h"
#include "index/index_internal.h"

#define RAG_GRAPH_ROWS_MAX 0x7fffffffu // a row and a flag share 32 bits
#define RAG_GRAPH_NONE UINT32_MAX
#define RAG_GRAPH_M_MIN 2u
#define RAG_GRAPH_M_MAX 64u
#define RAG_GRAPH_M_DEFAULT 16u
#define RAG_GRAPH_EF_CONSTRUCTION_MAX 4096u
#define RAG_GRAPH_EF_CONSTRUCTION_DEFAULT 128u
#define RAG_GRAPH_EF_MAX 65536u
#define RAG_GRAPH_THREADS_MAX 256u
#define RAG_GRAPH_LEVELS_MAX 15u // above the ground; m^15 rows
#define RAG_GRAPH_RUNGS_MAX 16u

// What is walked; borrowed. Rows are as many as the graph has, each with rag_codes_int8_bytes(dimension) of codes.
typedef struct rag_graph_codes {
  const uint8_t *base;
  size_t stride;
  const rag_codes_int8_factors *factors;
  uint32_t rows;
  uint32_t dimension;
  rag_metric metric;
} rag_graph_codes;

// ---------------------------------------------------------------------------------------------- layout

typedef struct rag_graph_meta {
  uint32_t magic, format;
  uint32_t rows, dimension, metric;
  uint32_t m; // links of a node above the ground; the ground has twice as many
  uint32_t ef_construction;
  uint32_t levels; // above the ground
  uint32_t level_rows[RAG_GRAPH_LEVELS_MAX];
  uint32_t entry;      // row; RAG_GRAPH_NONE where there are no rows
  uint32_t duplicates; // rows whose codes an earlier row has too
  uint32_t mended;     // rows that pruning had cut off, joined again
  uint32_t sample;     // rows that were asked for the calibration
  uint32_t rung_count;
  uint32_t seed_low, seed_high;
  uint32_t built_rows;                       // when it was last built from nothing; 0: these
  uint32_t reserved;                         // 0
  rag_index_rung rungs[RAG_GRAPH_RUNGS_MAX]; // by ef: rows left out of the graph were asked for their nearest
} rag_graph_meta;
_Static_assert(sizeof(rag_graph_meta) == 384, "on disk");

typedef enum rag_graph_section {
  RAG_GRAPH_META = 0,
  RAG_GRAPH_LINKS = 1,
  RAG_GRAPH_UPPER = 2,
  RAG_GRAPH_SECTIONS = 3,
} rag_graph_section;

typedef struct rag_graph {
  rag_graph_meta meta;
  const uint32_t *links;
  uint32_t slots, upper_slots; // u32 of a node's list: 2m and m, but more while a graph is being built
  const uint32_t *upper_rows;
  const uint32_t *upper_links[RAG_GRAPH_LEVELS_MAX];
  void *owned; // a built graph's memory; NULL: borrowed
} rag_graph;

// The sections to write; borrowed from the graph.
void rag_graph_sections(const rag_graph *graph, rag_slice out[RAG_GRAPH_SECTIONS]);
// A graph upon sections that were read from a file, which are borrowed, aligned for u32 (64 bytes are faster), and
// checked whole. RAG_DATA_LOSS: they are not a graph of such rows; the text says why.
RAG_NODISCARD rag_status rag_graph_open(const rag_slice sections[RAG_GRAPH_SECTIONS], uint32_t rows, uint32_t dimension,
                                        rag_metric metric, rag_graph **out, rag_error *err);
void rag_graph_destroy(rag_graph *graph);
uint64_t rag_graph_bytes(const rag_graph *graph);      // of the sections
uint32_t rag_graph_built_rows(const rag_graph *graph); // when it was last built from nothing; since then it grew

// The smallest ef of which the calibration says that k rows are found with this recall (0 to 1); interpolated between
// rungs. *out_reached is false where no rung reached it (the largest one's is returned) or nothing was measured.
// Rows that are asked for are like rows that are there; queries of another kind deserve some reserve.
uint32_t rag_graph_ef(const rag_graph *graph, uint32_t k, float target_recall, bool *out_reached);

// ---------------------------------------------------------------------------------------------- build

// A graph of some of the rows, and perhaps of others, with the same m: rows keep their links there.
typedef struct rag_graph_base {
  const rag_graph *graph;
  const uint32_t *new_of; // of each of its rows, the row now, whose codes are the same; RAG_GRAPH_NONE: it is gone
} rag_graph_base;

typedef struct rag_graph_options {
  uint32_t m;               // 0: the default
  uint32_t ef_construction; // 0: the default
  uint32_t threads;         // 0: 1
  uint64_t seed;
  // Rows asked for the calibration, at most a tenth of those that are inserted; 0: none. A graph that grows by so few rows that
  // a quarter of them are not to be had takes over its base's.
  uint32_t sample;
  // For the calibration, from any of the threads at once, rows readable until the build returns; NULL: decoded codes stand
  // in.
  const rag_index_row_fetch *fetch;
  // Called by the building thread now and then; false stops the build with RAG_CANCELLED. NULL is fine.
  bool (*progress)(void *context, uint64_t done, uint64_t total);
  void *progress_context;
  const rag_graph_base *base; // NULL: all links are made anew
} rag_graph_options;

// Memory while it runs, beside the result: about 24 m bytes and 30 more for each row, and a bit for each thread and row.
// RAG_INVALID_ARGUMENT, RAG_RESOURCE_EXHAUSTED, RAG_CANCELLED, or what `fetch` says.
RAG_NODISCARD rag_status rag_graph_build(const rag_graph_codes *codes, const rag_graph_options *options,
                                         rag_graph **out, rag_error *err);

// ---------------------------------------------------------------------------------------------- search

typedef struct rag_graph_scratch rag_graph_scratch; // grows with the largest graph and ef it has served
RAG_NODISCARD rag_status rag_graph_scratch_create(rag_graph_scratch **out, rag_error *err);
void rag_graph_scratch_destroy(rag_graph_scratch *scratch);

typedef struct rag_graph_query {
  const float *vector;      // dimension floats; normalised where the metric is cosine
  uint32_t k;               // rows that are wanted of this graph, 1 to RAG_INDEX_K_MAX
  uint32_t ef;              // raised to k; at most RAG_GRAPH_EF_MAX
  const uint64_t *filter;   // bit i % 64 of word i / 64: row i may be found; bits past the rows are 0. NULL: every row
  uint64_t survivors;       // bits that are set
  const uint32_t *ordinals; // of the rows, for the hits; NULL: a row is its own
  rag_index_row_fetch fetch;
  uint64_t deadline_ns; // monotonic clock; 0: none
} rag_graph_query;

typedef enum rag_graph_way {
  RAG_GRAPH_WALKED = 0,  // all rows, or the filter's survivors and the links between them
  RAG_GRAPH_SCANNED = 1, // the codes of all survivors were scored: few of them, or the walk had found too few
} rag_graph_way;
typedef struct rag_graph_stats {
  rag_graph_way way;
  uint64_t scored;   // by codes
  uint64_t expanded; // nodes whose links were read
  uint64_t rescored; // from full-precision rows
} rag_graph_stats;

// What a search costs either way, in rows scored at random; the caller who has a better scan than that of the int8 codes
// (1-bit codes, another engine) compares with its own.
typedef struct rag_graph_cost {
  double walk;
  double scan;
} rag_graph_cost;
rag_graph_cost rag_graph_estimate(const rag_graph *graph, uint32_t ef, bool filtered, uint64_t survivors);

// Offers the nearest rows that pass to `top`, whose capacity is at least k, with scores of rag_index__score. `top` may
// hold hits of other segments already: what cannot pass its floor is not fetched. stats may be NULL.
// RAG_DEADLINE_EXCEEDED, RAG_RESOURCE_EXHAUSTED (the scratch's growth), or what `fetch` says.
RAG_NODISCARD rag_status rag_graph_search(const rag_graph *graph, const rag_graph_codes *codes,
                                          const rag_graph_query *query, rag_graph_scratch *scratch, rag_index_topk *top,
                                          rag_graph_stats *stats, rag_error *err);

// ---------------------------------------------------------------------------------------------- inside the room

void rag_graph__meta_init(rag_graph_meta *meta, const rag_graph_codes *codes, uint32_t m, uint32_t ef_construction,
                          uint64_t seed);

// One level of a graph. Nodes are rows where `rows` is NULL, else positions in it.
typedef struct rag_graph__layer {
  const uint32_t *links;
  uint32_t slots;
  const uint32_t *rows;
} rag_graph__layer;
static inline rag_graph__layer rag_graph__layer_of(const rag_graph *graph, uint32_t level) {
  if (level == 0) return (rag_graph__layer){graph->links, graph->slots, NULL};
  return (rag_graph__layer){graph->upper_links[level - 1], graph->upper_slots, graph->upper_rows};
}

// A scored node as one integer, so that order is one comparison: the score's bits, mapped to order as integers, over
// the complement of the node (ties: the lower node first) and the flag that it was expanded.
static inline uint64_t rag_graph__key(float score, uint32_t node) {
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  bits ^= (uint32_t) - (int32_t)(bits >> 31) | 0x80000000u;
  return (uint64_t)bits << 32 | (uint32_t)(~node << 1);
}
static inline uint32_t rag_graph__key_node(uint64_t key) {
  return ~(uint32_t)key >> 1;
}
static inline float rag_graph__key_score(uint64_t key) {
  uint32_t bits = (uint32_t)(key >> 32);
  bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

#define RAG_GRAPH__BATCH 256u     // nodes scored at once: more than the links of any node
#define RAG_GRAPH__TOUCHED 16384u // marks remembered one by one

// One thread's working memory. The pool holds the best `limit` nodes scored so far, best first.
typedef struct rag_graph__walker {
  const rag_graph_codes *codes;
  const rag_codes_kernels *kernels;
  rag_codes_int8_query query;
  uint64_t *pool;
  uint32_t count, limit;
  uint32_t room;     // keys of `pool`
  uint64_t *visited; // one bit for each node
  uint32_t visited_words, visited_room;
  uint32_t *touched; // nodes whose bit is set, while they are few
  uint32_t touched_count;
  bool touched_all; // too many to remember
  int8_t *query_codes;
  uint32_t query_room;
  uint64_t scored, expanded;
  uint32_t nodes[RAG_GRAPH__BATCH];
  uint32_t rows[RAG_GRAPH__BATCH];
  int32_t dots[RAG_GRAPH__BATCH];
  float scores[RAG_GRAPH__BATCH];
  uint64_t fresh[RAG_GRAPH__BATCH];
} rag_graph__walker;

void rag_graph__walker_init(rag_graph__walker *w);
void rag_graph__walker_free(rag_graph__walker *w);
RAG_NODISCARD rag_status rag_graph__walker_reserve(rag_graph__walker *w, const rag_graph_codes *codes, uint32_t ef,
                                                   rag_error *err);
// No node is visited, the pool is empty and keeps `limit`.
void rag_graph__walker_restart(rag_graph__walker *w, uint32_t limit);
void rag_graph__walker_ask(rag_graph__walker *w, const float *vector);
void rag_graph__walker_ask_row(rag_graph__walker *w, uint32_t row);
// True when the node is new; marks it.
static inline bool rag_graph__visit(rag_graph__walker *w, uint32_t node) {
  uint64_t bit = 1ull << (node & 63), *word = &w->visited[node >> 6];
  if (*word & bit) return false;
  *word |= bit;
  return true;
}
// Asks for what scoring a row will read: the first line of its codes, behind which the hardware goes on by itself, and its
// factors. (Asking for every line: faster in one way of writing it, slower in five pairs of runs of six in another; benchmarks/graph.)
static inline void rag_graph__prefetch(const rag_graph_codes *codes, uint32_t row) {
  __builtin_prefetch(codes->base + row * codes->stride);
  __builtin_prefetch(&codes->factors[row]);
}
// Scores nodes[0..count) into scores, without the pool.
void rag_graph__score(rag_graph__walker *w, const rag_graph__layer *layer, uint32_t count);
// Takes nodes[0..count), scored, into the pool; the place of the best one taken, or UINT32_MAX when none was.
uint32_t rag_graph__absorb(rag_graph__walker *w, uint32_t count);
// Remembers that nodes[0..count) are marked.
void rag_graph__remember(rag_graph__walker *w, const uint32_t *nodes, uint32_t count);
// Scores nodes[0..count), remembers their marks, and takes them into the pool, as above.
uint32_t rag_graph__take(rag_graph__walker *w, const rag_graph__layer *layer, uint32_t count);
// The node of the best pool entry not expanded yet, at *at or behind it, marked as expanded; false: none is left.
static inline bool rag_graph__next(rag_graph__walker *w, uint32_t *at, uint32_t *node) {
  while (*at < w->count && (w->pool[*at] & 1)) ++*at;
  if (*at == w->count) return false;
  *node = rag_graph__key_node(w->pool[*at]);
  w->pool[*at] |= 1;
  return true;
}
// Walks until every node of the pool is expanded. RAG_DEADLINE_EXCEEDED.
RAG_NODISCARD rag_status rag_graph__walk(rag_graph__walker *w, const rag_graph__layer *layer, uint64_t deadline_ns,
                                         rag_error *err);
// The node of level `to` nearest to the query that greedy steps from the entry find; the entry's when to is 0 and
// nothing is above.
uint32_t rag_graph__descend(rag_graph__walker *w, const rag_graph *graph, uint32_t to);
RAG_NODISCARD rag_status rag_graph__deadline(uint64_t deadline_ns, rag_error *err);

// A link with its score, while a graph is being built.
typedef struct rag_graph__link {
  float score;
  uint32_t node;
} rag_graph__link;
// select.c: chooses at most `max` of the candidates, best first, for the node they are scored against.
typedef struct rag_graph__chooser {
  uint32_t left[RAG_GRAPH_EF_CONSTRUCTION_MAX]; // candidates neither kept nor dropped
  bool dropped[RAG_GRAPH_EF_CONSTRUCTION_MAX];
} rag_graph__chooser;
uint32_t rag_graph__select(rag_graph__walker *w, rag_graph__chooser *chooser, const rag_graph__layer *layer,
                           const rag_graph__link *candidates, uint32_t count, uint32_t max, rag_graph__link *out);

// mend.c
// first_of[row]: the first row with the same codes and factors, itself where it is that. *out_count: rows that are not.
RAG_NODISCARD rag_status rag_graph__find_duplicates(const rag_graph_codes *codes, uint32_t *first_of,
                                                    uint32_t *out_count, rag_error *err);
// Hangs the duplicates below their first rows, then joins what cannot be reached from the entry.
RAG_NODISCARD rag_status rag_graph__mend(const rag_graph_codes *codes, const uint32_t *first_of, uint32_t *links,
                                         rag_graph_meta *meta, rag_error *err);

// calibrate.c: fills the rungs of meta. `graph` holds the rows marked in `inside`, none of them in `sample`. pool: of
// threads - 1 threads; NULL: one.
RAG_NODISCARD rag_status rag_graph__calibrate(const rag_graph *graph, const rag_graph_codes *codes,
                                              const uint64_t *inside, const uint32_t *sample, uint32_t count,
                                              const rag_index_row_fetch *fetch, rag_pool *pool, uint32_t threads,
                                              rag_graph_meta *meta, rag_error *err);

#endif
