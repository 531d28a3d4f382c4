// ivf: lists of 1-bit codes (RaBitQ, arXiv 2405.12497) around shared centroids, over the rows of one immutable segment.
// A search scans the lists whose centroids promise most; what the codes' error bound cannot rule out is scored from
// int8 codes, and what is best by those from full-precision rows: final scores are, bit for bit, those of the flat
// engine. For little memory, fast builds and merges, and filters: a filter is one bit test before a code is read.
//
// Centroids belong to a space: they are trained once, on a sample, and every segment of the space has the same lists.
// That is why segments merge by concatenating lists, and a query is prepared once for all of them.
//
// A row is in two lists: that of its nearest centroid, and one whose residual points elsewhere (SOAR, arXiv 2404.00774:
// for a query that lies along the row's first residual, and so sees the first list too far away, the second is near).
// On 110,000 real embeddings in 1,326 lists a search for .98 of the true ten then reads 48 lists, where with one list a
// row it is 200 and takes nearly twice the time; the price is a second code, 68 bytes at 384 dimensions (benchmarks/ivf).
//
// Files: ivf.c is the layout, its check, and the choice of nprobe; centroids.c the centroids' section; train.c k-means;
// kmeans_faiss.cpp the door to FAISS; assign.c which lists a row belongs to; build.c, merge.c; calibrate.c the table of
// nprobe against recall; ask.c what is prepared for a query; search.c searches with and without a filter.
//
// Invariants
//  1. Centroids and an ivf are flat arrays without pointers, the same in memory and in a file; the open functions trust
//     nothing in them, and what they let through cannot lead a search out of the arrays.
//  2. The same codes, centroids, options and seed give the same ivf, bit for bit, with any number of threads and on any
//     CPU; and so does a merge of parts, as a build of all (but for the calibration, which may be inherited).
//  3. In a list, rows ascend.
//  4. A search allocates nothing but the growth of its scratch.
// Threads: centroids and an ivf are immutable and shared; a scratch belongs to one search at a time.
//
// Layout of the centroids' section
//   rag_ivf_centroids_meta; f32[lists][dimension]: the centroids; f32[lists]: radii, the root of the mean squared
//   distance of a list's sample rows
// Layout of an ivf
//   META    rag_ivf_meta
//   LISTS   u32[lists + 1]: where each list's entries begin, and where the last one's end
//   ROWS    u32[entries]: the row of each entry; RAG_IVF_SECOND is set in the row's second entry
//   CODES   u8[entries][rag_codes_bits_bytes(dimension)]: 1-bit codes of the rotated row, less the rotated centroid
#ifndef RAGD_INDEX_IVF_INTERNAL_H
#define RAGD_INDEX_IVF_INTERNAL_H

#include "index/codes/codes_internal.h"
#include "index/index_internal.h"

#define RAG_IVF_ROWS_MAX 0x7fffffffu // a row and a flag share 32 bits
#define RAG_IVF_SECOND 0x80000000u
#define RAG_IVF_NONE UINT32_MAX
#define RAG_IVF_LISTS_MAX 65536u
#define RAG_IVF_ITERATIONS_MAX 100u
#define RAG_IVF_ITERATIONS_DEFAULT 6u
#define RAG_IVF_THREADS_MAX 256u
#define RAG_IVF_RUNGS_MAX 16u
#define RAG_IVF_INPUTS_MAX 1024u
// Sample rows for each list that are worth their training time (benchmarks/ivf).
#define RAG_IVF_SAMPLE_FOR_EACH_LIST 80u

// int8 codes of a segment's rows, in row order, borrowed: the plane that the graph walks (rag_graph_codes).
typedef struct rag_ivf_codes {
  const uint8_t *base; // each row rag_codes_int8_bytes(dimension); NULL: there are none (rag_ivf_search alone)
  size_t stride;
  const rag_codes_int8_factors *factors;
  uint32_t rows;
  uint32_t dimension;
  rag_metric metric;
} rag_ivf_codes;

// Called by the working thread now and then; false stops the work with RAG_CANCELLED.
typedef bool (*rag_ivf_progress)(void *context, uint64_t done, uint64_t total);

// ---------------------------------------------------------------------------------------------- centroids

typedef struct rag_ivf_centroids_meta {
  uint32_t magic, format;
  uint32_t lists, dimension, metric;
  uint32_t iterations;
  uint32_t sample;              // rows that they were trained on
  float error;                  // mean squared distance of those from their centroids
  uint32_t seed_low, seed_high; // of the rotation too
  uint32_t reserved[6];         // 0
} rag_ivf_centroids_meta;
_Static_assert(sizeof(rag_ivf_centroids_meta) == 64, "on disk");

typedef struct rag_ivf_centroids {
  rag_ivf_centroids_meta meta;
  rag_slice section;    // all of it
  uint32_t checksum;    // of the section: what an ivf names its centroids by
  uint64_t identity;    // of the section's bytes: equal for the copies in the files of one space. Never 0
  const float *vectors; // [lists][dimension]
  const float *radii;
  uint8_t *codes; // int8 codes of the vectors, in which lists are ordered
  rag_codes_int8_factors *factors;
  rag_codes_rotation *rotation;
  void *owned; // a trained section's memory; NULL: borrowed
} rag_ivf_centroids;

// How many lists so many rows of a space deserve: 4 times the root, but 16 rows a list at least. (benchmarks/ivf: with 8
// times the root what the scan saves goes into the choice of lists, and training costs twice as much.)
uint32_t rag_ivf_default_lists(uint64_t rows);

typedef struct rag_ivf_train_options {
  uint32_t lists;      // 0: rag_ivf_default_lists of the sample; at most as many as the sample has rows
  uint32_t iterations; // 0: the default
  uint32_t threads;    // 0: 1
  uint64_t seed;
  rag_ivf_progress progress; // NULL is fine
  void *progress_context;
} rag_ivf_train_options;
// Centroids by FAISS's k-means over the sample's int8 codes: no full-precision row is read. FAISS draws and updates;
// which centroid is nearest is found here, by integer products in `threads` threads, an order of magnitude faster than
// by FAISS's BLAS. No OpenBLAS or OpenMP thread runs, and their settings are not changed for any other thread.
// Memory: 20 bytes a row, 13 for each component of a centroid, and 32 lists' products for each thread. RAG_UNIMPLEMENTED in a build without FAISS,
// RAG_INVALID_ARGUMENT (no rows; limits), RAG_RESOURCE_EXHAUSTED, RAG_CANCELLED.
RAG_NODISCARD rag_status rag_ivf_train(const rag_ivf_codes *sample, const rag_ivf_train_options *options,
                                       rag_ivf_centroids **out, rag_error *err);
// The same from centroids that somebody else chose: lists x dimension floats, copied.
RAG_NODISCARD rag_status rag_ivf_centroids_create(const float *vectors, uint32_t lists, const rag_ivf_codes *sample,
                                                  uint32_t threads, uint64_t seed, rag_ivf_centroids **out,
                                                  rag_error *err);
// The section to write; borrowed.
rag_slice rag_ivf_centroids_section(const rag_ivf_centroids *centroids);
// Centroids upon a section that was read from a file, which is borrowed, aligned for u32, and checked whole.
// RAG_DATA_LOSS: it is none of such a space; the text says why.
RAG_NODISCARD rag_status rag_ivf_centroids_open(rag_slice section, uint32_t dimension, rag_metric metric,
                                                rag_ivf_centroids **out, rag_error *err);
void rag_ivf_centroids_destroy(rag_ivf_centroids *centroids);

// ---------------------------------------------------------------------------------------------- layout

typedef struct rag_ivf_meta {
  uint32_t magic, format;
  uint32_t rows, dimension, metric;
  uint32_t lists;
  uint32_t entries;   // of all lists
  uint32_t centroids; // rag_ivf_centroids.checksum
  float error;        // mean squared distance of rows from their first centroid
  uint32_t sample;    // rows that were asked for the calibration
  uint32_t rung_count;
  uint32_t reserved[5];                    // 0
  rag_index_rung rungs[RAG_IVF_RUNGS_MAX]; // by nprobe: rows of the segment were asked for their nearest others
} rag_ivf_meta;
_Static_assert(sizeof(rag_ivf_meta) == 320, "on disk");

typedef enum rag_ivf_section {
  RAG_IVF_META = 0,
  RAG_IVF_LISTS = 1,
  RAG_IVF_ROWS = 2,
  RAG_IVF_CODES = 3,
  RAG_IVF_SECTIONS = 4,
} rag_ivf_section;

typedef struct rag_ivf {
  rag_ivf_meta meta;
  const rag_ivf_centroids *centroids; // borrowed: they outlive it
  const uint32_t *lists;
  const uint32_t *rows;
  const uint8_t *codes;
  uint32_t code_bytes;
  void *owned; // a built ivf's memory; NULL: borrowed
} rag_ivf;

// The sections to write; borrowed from the ivf.
void rag_ivf_sections(const rag_ivf *ivf, rag_slice out[RAG_IVF_SECTIONS]);
// An ivf upon sections that were read from a file, which are borrowed, aligned for u32 (64 bytes are faster), and checked
// whole. RAG_DATA_LOSS: they are no lists of such rows around these centroids; the text says why.
RAG_NODISCARD rag_status rag_ivf_open(const rag_slice sections[RAG_IVF_SECTIONS], const rag_ivf_centroids *centroids,
                                      uint32_t rows, rag_ivf **out, rag_error *err);
void rag_ivf_destroy(rag_ivf *ivf);
uint64_t rag_ivf_bytes(const rag_ivf *ivf); // of the sections, without the centroids'

// The smallest nprobe of which the calibration says that k rows are found with this recall (0 to 1); interpolated between
// rungs. *out_reached is false where no rung reached it (the largest one's is returned) or nothing was measured.
uint32_t rag_ivf_nprobe(const rag_ivf *ivf, uint32_t k, float target_recall, bool *out_reached);

// How badly the centroids fit: the mean squared distance of this segment's rows from their centroids, in units of that
// of the rows that were trained on. 1 for those, 1.05 for others of their kind, 1.34 and 1.38 for those of another kind
// (package descriptions, manual pages), where a search reads twice as much for the same recall.
#define RAG_IVF_DRIFT_RETRAIN 1.2f
float rag_ivf_drift(const rag_ivf *ivf);

// ---------------------------------------------------------------------------------------------- build, merge

typedef struct rag_ivf_options {
  uint32_t threads;                 // 0: 1
  bool single;                      // a row in one list only: half the memory, some five times the lists to probe
  uint64_t seed;                    // of the calibration's sample
  uint32_t sample;                  // rows asked for the calibration, at most a tenth of all; 0: no calibration
  const rag_index_row_fetch *fetch; // for the calibration's truth, one thread at a time; NULL: decoded codes stand in
  rag_ivf_progress progress;        // NULL is fine
  void *progress_context;
} rag_ivf_options;

// Memory while it runs, beside the result: 16 bytes for each row, 4 for each component of a centroid, and 32
// lists' products for each thread.
// RAG_INVALID_ARGUMENT, RAG_RESOURCE_EXHAUSTED, RAG_CANCELLED, or what `fetch` says.
RAG_NODISCARD rag_status rag_ivf_build(const rag_ivf_centroids *centroids, const rag_ivf_codes *codes,
                                       const rag_ivf_options *options, rag_ivf **out, rag_error *err);

typedef struct rag_ivf_input {
  const rag_ivf *ivf;
  const uint32_t *map; // [rows of ivf]: the row's number in the result; RAG_IVF_NONE: left out
} rag_ivf_input;
// Joins segments with the same centroids by their lists; nothing is encoded again. Every row below `rows` is in the
// result exactly once. codes: of the result, for its calibration by options->sample; NULL: the calibration of the input
// with the most rows is kept. RAG_FAILED_PRECONDITION: an input has other centroids; else as rag_ivf_build.
RAG_NODISCARD rag_status rag_ivf_merge(const rag_ivf_centroids *centroids, const rag_ivf_input *inputs, uint32_t count,
                                       uint32_t rows, const rag_ivf_codes *codes, const rag_ivf_options *options,
                                       rag_ivf **out, rag_error *err);

// ---------------------------------------------------------------------------------------------- search

typedef struct rag_ivf_scratch rag_ivf_scratch; // grows with the largest segment and k it has served
RAG_NODISCARD rag_status rag_ivf_scratch_create(rag_ivf_scratch **out, rag_error *err);
void rag_ivf_scratch_destroy(rag_ivf_scratch *scratch);

typedef struct rag_ivf_query {
  const float *vector;      // dimension floats; normalised where the metric is cosine
  uint32_t k;               // rows that are wanted of this segment, 1 to RAG_INDEX_K_MAX
  uint32_t nprobe;          // lists to scan; 0: 1. With a filter: until as many survivors were met as rows without one
  uint32_t rerank;          // rows kept by int8 codes for their exact scores; raised to k and a reserve
  const uint64_t *filter;   // bit i % 64 of word i / 64: row i may be found; bits past the rows are 0. NULL: every row
  uint64_t survivors;       // bits that are set
  const uint32_t *ordinals; // of the rows, for the hits; NULL: a row is its own
  rag_index_row_fetch fetch;
  uint64_t deadline_ns; // monotonic clock; 0: none
} rag_ivf_query;

typedef enum rag_ivf_way {
  RAG_IVF_PROBED = 0,  // lists
  RAG_IVF_SCANNED = 1, // all survivors were scored: few of them
} rag_ivf_way;
typedef struct rag_ivf_stats {
  rag_ivf_way way;
  uint64_t lists;    // read
  uint64_t scanned;  // 1-bit codes
  uint64_t scored;   // by int8 codes
  uint64_t rescored; // from full-precision rows
} rag_ivf_stats;

// What a search costs either way, in rows scored at random by int8 codes, the unit of rag_graph_cost.
typedef struct rag_ivf_cost {
  double probe;
  double scan;
} rag_ivf_cost;
rag_ivf_cost rag_ivf_estimate(const rag_ivf *ivf, uint32_t nprobe, bool filtered, uint64_t survivors);

// Offers the nearest rows that pass to `top`, whose capacity is at least k, with scores of rag_index__score. `top` may
// hold hits of other segments already: what cannot pass its floor is not fetched. Where codes->base is NULL, what the
// bound cannot rule out is fetched at once: less memory, and some hundreds of rows fetched. A query that the scratch was
// asked last, of the same centroids, is not prepared again. stats may be NULL.
// RAG_DEADLINE_EXCEEDED, RAG_RESOURCE_EXHAUSTED (the scratch's growth), or what `fetch` says.
RAG_NODISCARD rag_status rag_ivf_search(const rag_ivf *ivf, const rag_ivf_codes *codes, const rag_ivf_query *query,
                                        rag_ivf_scratch *scratch, rag_index_topk *top, rag_ivf_stats *stats,
                                        rag_error *err);

// ---------------------------------------------------------------------------------------------- inside the room

// team.c: threads that share out a range.
typedef struct rag_ivf__team rag_ivf__team;
typedef void (*rag_ivf__work)(void *context, uint32_t thread, uint32_t begin, uint32_t end);
RAG_NODISCARD rag_status rag_ivf__team_create(uint32_t threads, rag_ivf__team **out, rag_error *err);
void rag_ivf__team_destroy(rag_ivf__team *team);
uint32_t rag_ivf__team_threads(const rag_ivf__team *team);
// Calls work for parts of [begin, end), at most `claim` long each, and returns when all is done.
RAG_NODISCARD rag_status rag_ivf__team_run(rag_ivf__team *team, rag_ivf__work work, void *context, uint32_t begin,
                                           uint32_t end, uint32_t claim, rag_error *err);

// assign.c: rows and the centroids that they belong to.
typedef struct rag_ivf__assigner rag_ivf__assigner;
RAG_NODISCARD rag_status rag_ivf__assigner_create(uint32_t lists, const rag_ivf_codes *codes, rag_ivf__team *team,
                                                  rag_ivf__assigner **out, rag_error *err);
void rag_ivf__assigner_destroy(rag_ivf__assigner *assigner);
// Comes first: the centroids, lists x dimension, borrowed.
void rag_ivf__assigner_use(rag_ivf__assigner *assigner, const float *vectors);
// out_first[row - begin]: the nearest list of each row; out_second the second one (NULL: not wanted; RAG_IVF_NONE where
// there is but one list); out_distances the squared distance from the nearest (NULL: not wanted).
RAG_NODISCARD rag_status rag_ivf__assign(rag_ivf__assigner *assigner, uint32_t begin, uint32_t end, uint32_t *out_first,
                                         uint32_t *out_second, float *out_distances, rag_error *err);

// ivf.c
// An ivf of one block of memory, with room for its arrays and META filled but for error, sample and rungs.
RAG_NODISCARD rag_status rag_ivf__create(const rag_ivf_centroids *centroids, uint32_t rows, uint32_t entries,
                                         rag_ivf **out, rag_error *err);
static inline uint32_t *rag_ivf__own_lists(rag_ivf *ivf) {
  return ivf->owned;
}
static inline uint32_t *rag_ivf__own_rows(rag_ivf *ivf) {
  return (uint32_t *)ivf->owned + (ivf->rows - ivf->lists);
}
static inline uint8_t *rag_ivf__own_codes(rag_ivf *ivf) {
  return (uint8_t *)ivf->owned + (ivf->codes - (const uint8_t *)ivf->lists);
}
void rag_ivf__measure_error(rag_ivf *ivf); // fills meta.error from the codes

// centroids.c: rag_ivf_centroids_create for those that came of so many iterations.
RAG_NODISCARD rag_status rag_ivf__centroids_finish(const float *vectors, uint32_t lists, const rag_ivf_codes *sample,
                                                   rag_ivf__team *team, uint64_t seed, uint32_t iterations,
                                                   rag_ivf_centroids **out, rag_error *err);

// calibrate.c: fills the rungs of the ivf's meta.
RAG_NODISCARD rag_status rag_ivf__calibrate(rag_ivf *ivf, const rag_ivf_codes *codes, const rag_ivf_options *options,
                                            rag_error *err);

// ask.c: what is known of a query before the first segment.
typedef struct rag_ivf__ask {
  uint64_t identity; // of the centroids it was prepared for; 0: of none
  rag_codes_int8_query int8;
  rag_codes_bits_query bits;
  float norm_squared;
  float *inner;    // [lists]: <c, q>, by int8 codes
  uint32_t *order; // the lists, by their promise
  float *promise;  // [lists]
  float *vector;   // as it was asked
  float *rotated;
  int8_t *codes;
  uint64_t *planes;
  uint32_t lists_room, dimension_room;
} rag_ivf__ask;
void rag_ivf__ask_free(rag_ivf__ask *ask);
RAG_NODISCARD rag_status rag_ivf__ask_prepare(rag_ivf__ask *ask, const rag_ivf_centroids *centroids,
                                              const float *vector, rag_error *err);

RAG_NODISCARD rag_status rag_ivf__deadline(uint64_t deadline_ns, rag_error *err);

#endif
