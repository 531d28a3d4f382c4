// faiss: any index that FAISS's factory makes, over the rows of one immutable segment, through FAISS's C API. What it
// finds is scored again from full-precision rows, so its scores are, bit for bit, those of the flat engine.
//
// Files: factory.c checks what a user wrote; library.c is all that calls FAISS (errors, threads, parameters, files);
// build.c trains and adds, and is the sections of a file; calibrate.c measures recall; search.c searches, with and
// without a filter; none.c stands in for all of them where there is no FAISS (RAGD_ONLY_KERNELS).
//
// Invariants
//  1. A search gives as many rows as there are to be given, whatever FAISS found: what is missing is scanned for.
//  2. No row that does not pass the filter is answered, whether or not FAISS was told of the filter.
//  3. FAISS reads no byte from a file whose checksum was not right. It trusts what it reads.
//  4. No exception crosses: the C API catches them, and their text becomes a rag_error. An exception inside one of
//     FAISS's parallel loops (memory that runs out there) ends the process: OpenMP lets none out.
// Threads: an engine is shared by searches; a scratch belongs to one at a time. A search starts no threads of OpenMP's;
// builds take turns, each with the threads it was given, and leave none behind. A search's time limit is looked at
// between calls of FAISS, which cannot be stopped inside one.
//
// What FAISS can do differs, and is found out by its headers (index/CMakeLists.txt) and then by asking the index:
//
//   1.7.3 (Debian 12)  no search parameters and no filters in its C API. nprobe and efSearch are the index's own, and
//                      changing one changes it for all: searches that want the value there is go side by side under a
//                      reader's lock, one that wants another waits for them and is alone. Filters are dropped from
//                      wider answers. No RaBitQ.
//   1.11 (Debian 13)   both, for IVF and flat kinds. HNSW has them in C++ alone: as 1.7.3 does.
//   1.14 and later     both, for HNSW too.
// Kinds that refuse them or do not heed them (asked at open, with one row let through) are as in 1.7.3.
//
// A refinement at the end (",RFlat") is checked and left out: every index is re-scored here, from the rows themselves. So
// is the polysemous training of PQ, which no search here uses.
//
// Not taken, whatever FAISS says: IDMap (rows have their numbers here), NSG (cannot be added to in parts), coarse
// quantisers alone, numbers of 0 or past the limits below (FAISS divides by the former and allocates the latter).
//
// With more than one thread FAISS builds HNSW graphs in the order of luck: such an index differs from run to run.
//
// Sections of a file: META, rag_faiss_meta; INDEX, what FAISS writes. FAISS numbers rows in the order they came; rows
// held out for the calibration come last, and change places with those that would have (rag_faiss__row).
#ifndef RAGD_INDEX_FAISS_INTERNAL_H
#define RAGD_INDEX_FAISS_INTERNAL_H

#include "index/index_internal.h"

#define RAG_FAISS_FACTORY_MAX 128u // bytes, with the NUL
#define RAG_FAISS_ROWS_MAX 0x7fffffffu
#define RAG_FAISS_THREADS_MAX 256u
#define RAG_FAISS_SAMPLE_MAX 256u
#define RAG_FAISS_RUNGS_MAX 16u
#define RAG_FAISS_LISTS_MAX (1u << 20) // IVFn
#define RAG_FAISS_CODE_BITS_MAX 12u    // PQmxBITS: 4,096 centroids of each part
#define RAG_FAISS_TRAINING_DEFAULT (1u << 16)
#define RAG_FAISS_TRAINING_BYTES_MAX (1ull << 30)

// "1.7.3"; "none" where ragd was built without it.
const char *rag_faiss_version(void);

// RAG_INVALID_ARGUMENT, naming the field `index.factory`: not a factory string, or not one for such rows. Makes the
// index, empty, and drops it; a kind that FAISS makes but cannot train or fill for this metric is the build's to find.
RAG_NODISCARD rag_status rag_faiss_check(const char *factory, uint32_t dimension, rag_metric metric, rag_error *err);
// With fewer rows such an index cannot be trained.
uint32_t rag_faiss_rows_min(const char *factory);

// ---------------------------------------------------------------------------------------------- engine

typedef enum rag_faiss_knob { // what trades time for recall
  RAG_FAISS_NO_KNOB = 0,
  RAG_FAISS_NPROBE = 1, // lists looked into
  RAG_FAISS_EF_SEARCH = 2,
} rag_faiss_knob;

// What one value of the knob was measured to find: rows left out of the index were asked for their nearest.
typedef struct rag_faiss_rung {
  uint32_t value;
  uint32_t take_10, take_100; // candidates that hold nearly all of the true 10 (100) best that this value finds
  float recall_10, recall_100;
} rag_faiss_rung;

typedef struct rag_faiss_meta {
  uint32_t magic, format;
  uint32_t rows, dimension, metric;
  uint32_t knob, knob_max;
  uint32_t index_crc;
  uint64_t index_bytes;
  uint32_t sample; // rows asked for the calibration
  uint32_t rung_count;
  char library[24]; // the version that wrote it
  char factory[RAG_FAISS_FACTORY_MAX];
  uint32_t held_count;
  uint32_t held[RAG_FAISS_SAMPLE_MAX]; // ascending; held[i] has changed places with row rows - held_count + i
  uint32_t reserved[3];                // 0
  rag_faiss_rung rungs[RAG_FAISS_RUNGS_MAX];
} rag_faiss_meta;
_Static_assert(sizeof(rag_faiss_meta) == 1560, "on disk");

typedef struct rag_faiss rag_faiss;

typedef struct rag_faiss_options {
  uint32_t threads;  // 0: 1
  uint64_t seed;     // of the samples; FAISS's own k-means has a fixed one
  uint32_t training; // rows to train upon; 0: RAG_FAISS_TRAINING_DEFAULT, or 64 for each list where that is more
  uint32_t sample;   // rows asked for the calibration, at most a twentieth of all; 0: no calibration
  // Called by the building thread now and then; false stops the build with RAG_CANCELLED, but not within FAISS's
  // training. NULL is fine.
  bool (*progress)(void *context, uint64_t done, uint64_t total);
  void *progress_context;
} rag_faiss_options;

// Trains, adds `rows` rows, calibrates. Memory beside the result: the training rows (at most
// RAG_FAISS_TRAINING_BYTES_MAX) and what FAISS needs. RAG_INVALID_ARGUMENT (as rag_faiss_check),
// RAG_FAILED_PRECONDITION (fewer than rag_faiss_rows_min, or FAISS cannot train or fill it; the text is FAISS's),
// RAG_RESOURCE_EXHAUSTED, RAG_CANCELLED, RAG_UNIMPLEMENTED (no FAISS), or what `fetch` says.
RAG_NODISCARD rag_status rag_faiss_build(const rag_index_row_fetch *fetch, uint32_t rows, uint32_t dimension,
                                         rag_metric metric, const char *factory, const rag_faiss_options *options,
                                         rag_faiss **out, rag_error *err);
void rag_faiss_destroy(rag_faiss *engine); // NULL is fine

// The sections to write: META is borrowed, INDEX is given to `sink` in pieces (rag_segment__writer_append's shape but
// for the context's type).
typedef struct rag_faiss_sink {
  rag_status (*append)(void *context, const void *data, size_t size, rag_error *err);
  void *context;
} rag_faiss_sink;
rag_slice rag_faiss_meta_section(const rag_faiss *engine);
RAG_NODISCARD rag_status rag_faiss_write(const rag_faiss *engine, const rag_faiss_sink *sink, rag_error *err);
// From sections; they are read whole, into memory of FAISS's own, and not needed afterwards. RAG_DATA_LOSS: not what
// was written, or not of such rows. RAG_FAILED_PRECONDITION: written by a FAISS that this one cannot read.
RAG_NODISCARD rag_status rag_faiss_open(rag_slice meta, rag_slice index, uint32_t rows, uint32_t dimension,
                                        rag_metric metric, rag_faiss **out, rag_error *err);
const rag_faiss_meta *rag_faiss_about(const rag_faiss *engine); // borrowed
uint64_t rag_faiss_bytes(const rag_faiss *engine);              // about what it holds in memory
// What FAISS can be told in a search of this index; else the ways round it are used.
bool rag_faiss_has_parameters(const rag_faiss *engine);
bool rag_faiss_has_filters(const rag_faiss *engine);

// The cheapest setting of which the calibration says that k rows are found with this recall; *out_take candidates are
// asked for. False where none reached it (the best is given) or nothing was measured.
bool rag_faiss_setting(const rag_faiss *engine, uint32_t k, float target_recall, uint32_t *out_value,
                       uint32_t *out_take);

// ---------------------------------------------------------------------------------------------- search

typedef struct rag_faiss_scratch rag_faiss_scratch; // grows with the widest search it has served
RAG_NODISCARD rag_status rag_faiss_scratch_create(rag_faiss_scratch **out, rag_error *err);
void rag_faiss_scratch_destroy(rag_faiss_scratch *scratch);

#define RAG_FAISS_RECALL_DEFAULT 0.98f
typedef struct rag_faiss_query {
  const float *vector;      // dimension floats; normalised where the metric is cosine
  uint32_t k;               // 1 to RAG_INDEX_K_MAX
  uint32_t value;           // of the knob; 0: by the calibration
  uint32_t take;            // candidates; 0: by the calibration
  float target_recall;      // where the calibration chooses; 0: RAG_FAISS_RECALL_DEFAULT
  const uint64_t *filter;   // bit i % 64 of word i / 64: row i may be found; bits past the rows are 0. NULL: every row
  uint64_t survivors;       // bits that are set
  const uint32_t *ordinals; // of the rows, for the hits; NULL: a row is its own
  rag_index_row_fetch fetch;
  uint64_t deadline_ns; // monotonic clock; 0: none
} rag_faiss_query;

typedef enum rag_faiss_way {
  RAG_FAISS_ASKED = 0,    // FAISS was asked, and what does not pass dropped
  RAG_FAISS_SELECTED = 1, // FAISS was asked, and told of the filter
  RAG_FAISS_SCANNED = 2,  // every row that passes was scored
} rag_faiss_way;
typedef struct rag_faiss_stats {
  rag_faiss_way way;
  uint32_t asked;       // searches of FAISS's
  uint32_t value, take; // of the last one
  uint64_t candidates;  // that FAISS gave
  uint64_t rescored;    // from full-precision rows
} rag_faiss_stats;

// Offers the nearest rows that pass to `top`, whose capacity is at least k, with scores of rag_index__score. stats may
// be NULL. RAG_DEADLINE_EXCEEDED, RAG_RESOURCE_EXHAUSTED, RAG_INTERNAL (FAISS's text), or what `fetch` says.
RAG_NODISCARD rag_status rag_faiss_search(const rag_faiss *engine, const rag_faiss_query *query,
                                          rag_faiss_scratch *scratch, rag_index_topk *top, rag_faiss_stats *stats,
                                          rag_error *err);

#endif
