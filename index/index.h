// index: similarity search over vectors. Knows neither documents nor RocksDB: a row is a u32 ordinal (the caller's
// chunk number) and `dimension` floats. Builds alone with -DRAGD_ONLY_KERNELS=ON.
//
// Determinism: every score is computed by one fixed order of operations (16 virtual lanes, explicit fused multiply-add,
// one reduction tree; index/kernels/), so that every kernel on every CPU gives the same bits for the same input, and
// the same request gives the same answer. Ties are broken by the lower ordinal.
//
// Scores, higher is better: cosine = inner product of the normalised vectors; ip = inner product; l2 = minus the
// Euclidean distance. A score is always finite and never -0: what overflows is clamped to the largest float of its
// sign, and what is no number (infinities of both signs met in one sum) to the lowest.
#ifndef RAGD_INDEX_H
#define RAGD_INDEX_H

#include "base/base.h"

#define RAG_DIMENSION_MAX 8192u
#define RAG_INDEX_K_MAX 10000u // k + offset of one search

typedef enum rag_metric { RAG_METRIC_COSINE = 0, RAG_METRIC_IP = 1, RAG_METRIC_L2 = 2 } rag_metric; // on disk: pinned
const char *rag_metric_name(rag_metric metric); // "cosine", "ip", "l2"
bool rag_metric_parse(rag_slice text, rag_metric *out);

// ---------------------------------------------------------------------------------------------- vectors, kernels

// Refuses NaN and infinities, and a vector of zero (or not normalisable) length where the metric is cosine; the message
// names the component. `field` names the request field in the error.
RAG_NODISCARD rag_status rag_vector_check(const float *vector, uint32_t dimension, rag_metric metric, const char *field,
                                          rag_error *err);
// Scales to unit length (cosine spaces hold unit vectors). The input passed rag_vector_check. Computes the norm in
// double precision over the fixed order, so the result has the same bits everywhere; a subnormal or huge vector is
// scaled first and neither over- nor underflows.
void rag_vector_normalize(float *vector, uint32_t dimension);

// A set of kernels; all sets give equal bits. Rows are `stride` floats apart; no alignment is asked for.
typedef struct rag_kernels {
  const char *name; // "scalar", "avx2", "avx512"
  float (*dot)(const float *a, const float *b, uint32_t dimension);
  float (*l2_squared)(const float *a, const float *b, uint32_t dimension);
  // Scores of `rows` consecutive rows: out[i] = dot / l2_squared (query, rows + i * stride).
  void (*dot_rows)(const float *query, const float *base, size_t stride, uint32_t rows, uint32_t dimension, float *out);
  void (*l2_squared_rows)(const float *query, const float *base, size_t stride, uint32_t rows, uint32_t dimension,
                          float *out);
  // The same for rows that lie anywhere: out[i] = dot / l2_squared (query, rows[i]).
  void (*dot_gather)(const float *query, const float *const *rows, uint32_t count, uint32_t dimension, float *out);
  void (*l2_squared_gather)(const float *query, const float *const *rows, uint32_t count, uint32_t dimension,
                            float *out);
} rag_kernels;
const rag_kernels *rag_kernels_best(void); // chosen once by CPU feature; RAGD_KERNELS=name overrides
// By name, or "scalar_libm": the scalar set without the CPU's FMA. NULL: unknown, or this CPU cannot run it.
const rag_kernels *rag_kernels_named(const char *name);
float rag_vector_score(const float *a, const float *b, uint32_t dimension, rag_metric metric); // as searches score

// ---------------------------------------------------------------------------------------------- the index of a space

// One space of one knowledge base. Rows are appended by one writer at a time (the caller serialises); any number of
// readers pin a view meanwhile and never wait. Rows are never changed; the caller's filter says which are alive.
typedef struct rag_index rag_index;
typedef struct rag_index_view rag_index_view; // starts with a rag_ref: rag_ref_drop it

typedef struct rag_index_options {
  uint32_t dimension; // 1 to RAG_DIMENSION_MAX
  rag_metric metric;
  const char *engine;        // "auto" or "flat"; the larger engines come behind the same interface
  uint64_t memory_bytes_max; // 0: no bound; an append beyond it is RAG_RESOURCE_EXHAUSTED
} rag_index_options;

RAG_NODISCARD rag_status rag_index_create(const rag_index_options *options, rag_index **out, rag_error *err);
void rag_index_destroy(rag_index *index); // views that are still pinned stay valid until dropped

// Appends `count` rows: ordinals[i] (strictly ascending within the call, none of them present yet) has the vector
// vectors + i * dimension, already normalised where the metric is cosine. All or nothing. Searchable in every view
// taken after the return.
RAG_NODISCARD rag_status rag_index_append(rag_index *index, const uint32_t *ordinals, uint32_t count,
                                          const float *vectors, rag_error *err);
// Forgets rows for good (gc, purge). Views pinned earlier may still see them. Memory returns when whole blocks of rows
// are gone and no view needs them.
RAG_NODISCARD rag_status rag_index_remove(rag_index *index, const rag_bitmap *ordinals, rag_error *err);

rag_index_view *rag_index_pin(rag_index *index); // a new reference; lock-free
uint64_t rag_index_view_rows(const rag_index_view *view);
const rag_bitmap *rag_index_view_present(const rag_index_view *view); // borrowed: ordinals that have a row
const char *rag_index_view_build(const rag_index_view *view);         // borrowed: the index build id ("flat")
// The stored vector of an ordinal (borrowed, valid while the view is pinned), or NULL when there is none.
const float *rag_index_view_vector(const rag_index_view *view, uint32_t ordinal);

typedef struct rag_index_query {
  const float *vector;      // dimension floats; normalised by the caller where the metric is cosine
  uint32_t k;               // 1 to RAG_INDEX_K_MAX
  const rag_bitmap *filter; // only these ordinals; NULL: every row
  bool has_min_score;
  float min_score;      // hits below are dropped
  bool exact;           // exhaustive, whatever the engine
  uint64_t deadline_ns; // monotonic clock; 0: none. Checked every few thousand rows: RAG_DEADLINE_EXCEEDED
} rag_index_query;

typedef struct rag_index_hit {
  uint32_t ordinal;
  float score;
} rag_index_hit;

typedef struct rag_index_plan {
  const char *engine;  // static: "flat"
  uint64_t candidates; // rows that were scored
  uint32_t segments;   // pieces that were searched
} rag_index_plan;

// hits: room for query->k, used as working space (undefined on error); *out_count hits, best first, ties by ordinal.
// plan may be NULL. Allocates nothing.
RAG_NODISCARD rag_status rag_index_search(const rag_index_view *view, const rag_index_query *query, rag_index_hit *hits,
                                          uint32_t *out_count, rag_index_plan *plan, rag_error *err);
uint64_t rag_index_memory_bytes(const rag_index *index);

#endif
