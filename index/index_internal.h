// What the files of index/ share: the kernels' tables, the top-k list, and the interface of an engine.
//
// An engine is a set of functions over immutable views. append and remove make the next view out of the newest one and
// change nothing that an older view can see; index.c checks arguments, publishes views and hands them to readers, so
// that no engine deals with cells, references in flight or half-valid requests.
#ifndef RAGD_INDEX_INTERNAL_H
#define RAGD_INDEX_INTERNAL_H

#include "index/codes/codes_internal.h"
#include "index/index.h"

#include <float.h>
#include <math.h>
#include <pthread.h>

// ---------------------------------------------------------------------------------------------- kernels

extern const rag_kernels rag_index__kernels_scalar_libm; // runs anywhere
#if defined(__x86_64__)
extern const rag_kernels rag_index__kernels_scalar_fma;
extern const rag_kernels rag_index__kernels_avx2;
extern const rag_kernels rag_index__kernels_avx512;
#endif

// A kernel's result as the score that callers see: finite, and never -0, which would print as "-0". The comparisons are
// written so that a NaN fails both and becomes the lowest score.
static inline float rag_index__score(rag_metric metric, float raw) {
  float score = (metric == RAG_METRIC_L2 ? -sqrtf(raw) : raw) + 0.0f;
  score = score > -FLT_MAX ? score : -FLT_MAX;
  return score < FLT_MAX ? score : FLT_MAX;
}

// ---------------------------------------------------------------------------------------------- chance

// splitmix64's: a number that looks like chance, and is the same for the same z.
static inline uint64_t rag_index__mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
// A sample: one row at random of each of `count` equal parts of [0, rows). Ascending by number, all different.
static inline uint32_t rag_index__sample_row(uint64_t seed, uint32_t rows, uint32_t count, uint32_t number) {
  uint64_t begin = (uint64_t)rows * number / count, end = (uint64_t)rows * (number + 1) / count;
  return (uint32_t)(begin + rag_index__mix(seed ^ rag_index__mix(number)) % (end - begin));
}

// ---------------------------------------------------------------------------------------------- top k

// The best `capacity` hits so far, in the caller's memory (topk.c). Worse is the lower score and, at equal scores, the
// higher ordinal: a strict order, so the outcome does not depend on the order of offers.
typedef struct rag_index_topk {
  rag_index_hit *hits; // borrowed; holds encoded hits until finished
  uint32_t count;
  uint32_t capacity;
  float floor; // scores below it are of no use: min_score, and when the list is full the worst kept one
} rag_index_topk;
void rag_index__topk_init(rag_index_topk *top, rag_index_hit *hits, uint32_t capacity, float floor);
void rag_index__topk_insert(rag_index_topk *top, uint32_t ordinal, float score);
// Decodes the hits and sorts them best first. No offers after it.
void rag_index__topk_finish(rag_index_topk *top);
// `score` comes from rag_index__score.
static inline void rag_index__topk_offer(rag_index_topk *top, uint32_t ordinal, float score) {
  if (__builtin_expect(score >= top->floor, 0)) rag_index__topk_insert(top, ordinal, score);
}

// ---------------------------------------------------------------------------------------------- rows (rows.c)

// A full-precision row as an index keeps it: `dimension` floats, or as many bfloat16 and zeros (index/codes). Rows that lie
// one after another leave no gap.
size_t rag_index__row_bytes(rag_datatype datatype, uint32_t dimension);
void rag_index__row_write(rag_datatype datatype, const float *vector, uint32_t dimension,
                          void *row); // rounds if need be
// The floats that a row stands for: the row itself, or decoded into `room`, `dimension` floats.
const float *rag_index__row_read(rag_datatype datatype, const void *row, uint32_t dimension, float *room);
// What the kernels say of the query and each row, for rag_index__score: rows anywhere, and one after another from base on.
void rag_index__rows_gather(rag_datatype datatype, rag_metric metric, const float *query, const void *const *rows,
                            uint32_t count, uint32_t dimension, float *raw);
void rag_index__rows_run(rag_datatype datatype, rag_metric metric, const float *query, const void *base, uint32_t count,
                         uint32_t dimension, float *raw);

// Where engines find full-precision rows: out[i] is the row of ids[i], readable until the next call with the same context.
// At most RAG_INDEX_ROW_FETCH_MAX at once. May fail, and the call that asked fails with its status.
#define RAG_INDEX_ROW_FETCH_MAX 64u
typedef struct rag_index_row_fetch {
  rag_status (*rows)(void *context, const uint32_t *ids, uint32_t count, const void **out, rag_error *err);
  void *context;
  rag_datatype datatype; // of the rows
} rag_index_row_fetch;
// As rag_index__rows_gather, of at most RAG_INDEX_ROW_FETCH_MAX.
RAG_NODISCARD rag_status rag_index__fetch_score(const rag_index_row_fetch *fetch, rag_metric metric, const float *query,
                                                const uint32_t *ids, uint32_t count, uint32_t dimension, float *raw,
                                                rag_error *err);
// out: `count` times `dimension` floats.
RAG_NODISCARD rag_status rag_index__fetch_copy(const rag_index_row_fetch *fetch, const uint32_t *ids, uint32_t count,
                                               uint32_t dimension, float *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- calibrations (rungs.c)

// What searches of one width (ef of a graph, nprobe of lists) were measured to find. On disk, widths ascending.
typedef struct rag_index_rung {
  uint32_t width;
  float recall_10; // mean part of the true 10 (or 100) best; below 0: not measured (width or rows too few)
  float recall_100;
  float cost; // rows (of lists: 1-bit codes) that were looked at, mean
} rag_index_rung;
_Static_assert(sizeof(rag_index_rung) == 16, "on disk");
bool rag_index__rungs_sound(const rag_index_rung *rungs, uint32_t count, uint32_t width_max);
// Least width on the line through the rungs that reaches the target, and a little more; 0: none does.
double rag_index__rungs_width(const rag_index_rung *rungs, uint32_t count, float target_recall, bool of_100);
// At this width, between rungs by a straight line; 0: nothing was measured.
double rag_index__rungs_recall(const rag_index_rung *rungs, uint32_t count, uint32_t k, uint32_t width);

// ---------------------------------------------------------------------------------------------- engines

// Scans of many rows (flat_share.c).
typedef struct flat_gate {
  pthread_mutex_t lock;
  uint32_t limit;              // immutable: scans at once
  uint32_t scanning;           // guarded by: lock
  uint64_t led;                // guarded by: lock: queries that another's scan answered
  struct flat_waiter *waiting; // guarded by: lock: in the order in which they came
} flat_gate;

// The engine of what is sealed.
typedef struct rag_index__choice {
  enum { RAG_INDEX__AUTO, RAG_INDEX__GRAPH, RAG_INDEX__IVF, RAG_INDEX__FAISS } engine;
  char factory[128]; // of faiss
} rag_index__choice;

// What all views of one index share, and what outlives the index while views are pinned.
typedef struct rag_index_shared {
  rag_ref ref;
  uint32_t dimension; // immutable, as are the next two
  rag_metric metric;
  rag_datatype datatype;      // of full-precision rows
  _Atomic uint64_t bytes_max; // atomic, relaxed, as the next: settings that may change while searches run; 0: no bound
  _Atomic double target_recall;
  uint32_t seal_rows, graph_rows;
  pthread_mutex_t choice_lock;
  rag_index__choice choice;            // guarded by: choice_lock
  struct rag_codes_rotation *rotation; // owned; NULL: no segments
  pthread_mutex_t scratch_lock;
  struct segment_scratch *scratches; // guarded by: scratch_lock: idle ones
  flat_gate gate;
  _Atomic uint64_t bytes; // atomic, relaxed: a sum; the last reader of a view subtracts from any thread
} rag_index_shared;
rag_index__choice rag_index__chosen(rag_index_shared *shared); // now
// Adds `bytes` unless that would pass the bound (bounded) or whatever the bound says (not bounded: small copies that a
// removal needs, as a full index must be able to shrink).
RAG_NODISCARD bool rag_index__charge(rag_index_shared *shared, uint64_t bytes, bool bounded);
void rag_index__discharge(rag_index_shared *shared, uint64_t bytes);
// `present` (NULL: the empty set) and these ordinals, which ascend.
RAG_NODISCARD rag_status rag_index__with_rows(const rag_bitmap *present, const uint32_t *ordinals, uint32_t count,
                                              rag_bitmap **out, rag_error *err);

typedef struct rag_index_engine rag_index_engine;
// The head of every engine's view; the engine allocates it and its rag_ref's destroy function frees it.
struct rag_index_view {
  rag_ref ref;
  const rag_index_engine *engine; // immutable, as is everything in a published view
  rag_index_shared *shared;       // owned reference
  rag_bitmap *present;            // owned reference
};

struct rag_index_engine {
  const char *name;
  // The view of no rows.
  rag_status (*create)(rag_index_shared *shared, rag_index_view **out, rag_error *err);
  // The successors of the newest view, owned by the caller, who publishes them. One thread at a time. The arguments are
  // checked: ordinals ascend and are not present; to_remove shares at least one ordinal with the view.
  rag_status (*append)(const rag_index_view *newest, const uint32_t *ordinals, uint32_t count, const float *vectors,
                       rag_index_view **out, rag_error *err);
  rag_status (*remove)(const rag_index_view *newest, const rag_bitmap *to_remove, rag_index_view **out, rag_error *err);
  // The full-precision row of a present ordinal.
  const void *(*row)(const rag_index_view *view, uint32_t ordinal);
  // Offers the rows of present AND filter to `top`, with scores of rag_index__score, and fills *plan. The query is
  // checked.
  rag_status (*search)(const rag_index_view *view, const rag_index_query *query, rag_index_topk *top,
                       rag_index_plan *plan, rag_error *err);
};

// The full-precision row of an ordinal; NULL: none.
static inline const void *rag_index__view_row(const rag_index_view *view, uint32_t ordinal) {
  return rag_bitmap_has(view->present, ordinal) ? view->engine->row(view, ordinal) : NULL;
}

// What a caller holds.
struct rag_index {
  rag_index_shared *shared;       // owned reference
  const rag_index_engine *engine; // immutable
  rag_cell newest;                // written by the one writer; readers take references
};

extern const rag_index_engine rag_index__flat;
extern const rag_index_engine rag_index__segmented; // index/segment/view.c

static inline size_t rag_index__shared_row_bytes(const rag_index_shared *shared) {
  return rag_index__row_bytes(shared->datatype, shared->dimension);
}

// ---------------------------------------------------------------------------------------------- flat

// The nodes of the flat engine's tree: flat.c builds it and says what holds, flat_search.c scans it.
#define FLAT_BLOCK_SHIFT_MIN 6u  // 64 rows: one word of a bitmap
#define FLAT_BLOCK_SHIFT_MAX 10u // 1,024 rows

typedef struct flat_block {
  rag_ref ref;
  rag_index_shared *shared;                            // owned reference
  uint64_t written[(1u << FLAT_BLOCK_SHIFT_MAX) / 64]; // the writer's alone: slots that hold a row, or held one
  _Alignas(64) uint8_t rows[];                         // 2^block_shift rows, one after another; then their codes
} flat_block;

// What lies behind the rows of a block: their int8 codes, and of each how far its code may be wrong.
typedef struct flat_codes {
  uint8_t *base; // rows of `stride` bytes, index/codes
  size_t stride;
  float *scale; // of the code
  float *error; // at least |x - what the code says|
  float *norm;  // |x|
} flat_codes;
static inline size_t flat_row_bytes(const rag_index_shared *shared) { // of a row and its codes
  return rag_index__shared_row_bytes(shared) + rag_codes_int8_bytes(shared->dimension) + 3 * sizeof(float);
}
static inline flat_codes flat_codes_of(const flat_block *block, uint32_t block_shift) {
  size_t rows = (size_t)1 << block_shift; // 64 at least, so codes begin at a line
  flat_codes c = {.stride = rag_codes_int8_bytes(block->shared->dimension)};
  c.base = (uint8_t *)(uintptr_t)(block->rows + rows * rag_index__shared_row_bytes(block->shared));
  c.scale = (float *)(void *)(c.base + rows * c.stride);
  c.error = c.scale + rows;
  c.norm = c.error + rows;
  return c;
}

typedef struct flat_shard {
  rag_ref ref;
  rag_index_shared *shared; // owned reference
  uint32_t block_end;       // no block at or past it: a scan of few rows must not walk 65,536 bits
  flat_block *blocks[];     // owned references; NULL where there is none
} flat_shard;

typedef struct flat_view {
  rag_index_view head;
  uint32_t block_shift; // rows of a block: 2^block_shift
  uint32_t shard_count;
  flat_shard *shards[]; // owned references; NULL where there is none
} flat_view;

rag_status rag_index__flat_search(const rag_index_view *view, const rag_index_query *query, rag_index_topk *top,
                                  rag_index_plan *plan, rag_error *err);

// RAG_DEADLINE_EXCEEDED once the query's deadline has passed.
RAG_NODISCARD rag_status rag_index__check_deadline(const rag_index_query *query, rag_error *err);

#endif
