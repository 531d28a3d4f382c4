// Private to index/: files of sealed segments. A segment is a set of rows that does not change any more, with what an
// engine derived from them; its file can always be made again from the stored vectors, and is never trusted unread.
#ifndef RAGD_INDEX_SEGMENT_INTERNAL_H
#define RAGD_INDEX_SEGMENT_INTERNAL_H

#include "index/codes/codes_internal.h"
#include "index/graph/graph_internal.h"
#include "index/index_internal.h"

// ---------------------------------------------------------------------------------------------- a file of sections (file.c)

#define SEGMENT_SECTIONS_MAX 32u
#define SEGMENT_META_BYTES_MAX 2048u
#define SEGMENT_ALIGN 4096u // of every section, so that it can be mapped and read past the page cache

typedef struct segment_writer segment_writer;
// Makes PATH anew beside what is there; nothing is at PATH before segment_writer_finish. One thread.
RAG_NODISCARD rag_status rag_segment__writer_create(const char *path, segment_writer **out, rag_error *err);
// Starts a section, which ends where the next one starts. kind: the caller's, each once, not 0.
RAG_NODISCARD rag_status rag_segment__writer_section(segment_writer *writer, uint32_t kind, rag_error *err);
RAG_NODISCARD rag_status rag_segment__writer_append(segment_writer *writer, const void *data, size_t size,
                                                    rag_error *err);
// The file is complete, synced, and at its name, durably; or not there at all. meta: what the caller says of the whole.
// Ends the writer in any case.
RAG_NODISCARD rag_status rag_segment__writer_finish(segment_writer *writer, const void *meta, size_t meta_size,
                                                    rag_error *err);
void rag_segment__writer_abandon(segment_writer *writer); // NULL is fine; leaves no file

typedef struct segment_file segment_file;
// Opens and maps a file, whose header and length are checked here, and its contents by rag_segment__file_verify.
// RAG_NOT_FOUND: there is none. RAG_DATA_LOSS: it is not what was written; the text says what is wrong.
RAG_NODISCARD rag_status rag_segment__file_open(const char *path, segment_file **out, rag_error *err);
void rag_segment__file_close(segment_file *file); // NULL is fine; what was borrowed goes with it
// Reads blocks [first, first + count) of segment_file_blocks and compares them with their checksums; any thread. Reads
// by system calls, so that a disk that cannot read is an error and no signal.
RAG_NODISCARD rag_status rag_segment__file_verify(const segment_file *file, uint64_t first, uint64_t count,
                                                  rag_error *err);
uint64_t rag_segment__file_blocks(const segment_file *file);
uint64_t rag_segment__file_bytes(const segment_file *file);
rag_slice rag_segment__file_meta(const segment_file *file);
// A section's bytes, mapped, at an address that SEGMENT_ALIGN divides; {NULL, 0} where there is no such section.
rag_slice rag_segment__file_section(const segment_file *file, uint32_t kind);
// As above, without the right to fail: NULL unless the section has exactly `size` bytes.
const void *rag_segment__file_exactly(const segment_file *file, uint32_t kind, uint64_t size);
// Removes files that an interrupted writer left in a folder. A missing folder is fine.
RAG_NODISCARD rag_status rag_segment__sweep(const char *dir, rag_error *err);

// ---------------------------------------------------------------------------------------------- a segment (segment.c)

// Sections of a segment's file: pinned.
enum {
  SEGMENT_ORDINALS = 1,     // u32[rows], strictly ascending: row i is this ordinal
  SEGMENT_VECTORS = 2,      // float[rows][dimension]
  SEGMENT_INT8 = 3,         // u8[rows][rag_codes_int8_bytes]
  SEGMENT_INT8_FACTORS = 4, // rag_codes_int8_factors[rows]
  SEGMENT_BITS = 5,         // u8[rows][rag_codes_bits_bytes], rotated with SEGMENT_ROTATION_SEED, of no centroid
  SEGMENT_GRAPH = 16,       // and the next two: rag_graph_section
};
#define SEGMENT_FORMAT 1u
#define SEGMENT_ROTATION_SEED UINT64_C(0x7261676431626974)

typedef enum segment_engine { // on disk: pinned
  SEGMENT_ENGINE_FLAT = 0,    // 1-bit codes, scanned; exact scores
  SEGMENT_ENGINE_GRAPH = 1,   // index/graph on int8 codes; exact scores
} segment_engine;
const char *rag_segment__engine_name(segment_engine engine);

// Immutable. Sealed rows are never changed; which of them are still there, and alive, the view and the filter say.
struct rag_index_segment {
  rag_ref ref;
  rag_index_shared *shared; // owned reference
  segment_file *file;       // owned; everything below that is a pointer is borrowed from it, but for what is said
  rag_segment_id id;
  segment_engine engine;
  bool history;
  uint32_t rows;
  const uint32_t *ordinals;
  const float *vectors;
  rag_bitmap *set; // owned reference: the ordinals
  rag_graph_codes codes;
  const uint8_t *bits;
  rag_graph *graph; // owned
  uint64_t charged; // bytes counted against the bound: all but ordinals and vectors
};

// Opens and verifies a file, whole. RAG_NOT_FOUND, RAG_DATA_LOSS, RAG_FAILED_PRECONDITION (a newer format).
RAG_NODISCARD rag_status rag_segment__open(rag_index_shared *shared, const char *path, const rag_segment_id *id,
                                           rag_index_segment **out, rag_error *err);
const float *rag_segment__vector(const rag_index_segment *segment, uint32_t ordinal); // NULL: none

// ---------------------------------------------------------------------------------------------- searches (search.c)

// What one search needs beside its stack; kept between searches.
typedef struct segment_scratch segment_scratch;
struct segment_scratch {
  segment_scratch *next;
  rag_graph_scratch *graph;
  uint64_t *words; // rows that may be found, a bit each
  uint32_t word_room;
  float *estimates; // of every row, and how far off they may be
  uint32_t estimate_room;
  float *rotated;      // the query, rotated
  uint64_t *planes;    // and as bit planes
  rag_index_hit *pool; // best by estimates
  uint32_t pool_room;
};
// Idle ones belong to the shared state of an index.
segment_scratch *rag_segment__scratch_take(rag_index_shared *shared, rag_error *err);
void rag_segment__scratch_give(rag_index_shared *shared, segment_scratch *scratch);
void rag_segment__scratch_destroy(segment_scratch *scratch);

typedef struct segment_search {
  const rag_index_query *query;
  const rag_bitmap *present; // of the view
  bool removed;              // some of the segment's rows are not in `present`
  segment_scratch *scratch;
  rag_index_topk *top;
  rag_index_plan *plan;
} segment_search;
// Offers the segment's rows of present AND filter to `top`.
RAG_NODISCARD rag_status rag_segment__search(const rag_index_segment *segment, segment_search *search, rag_error *err);
// What calibration measured of the widest rung not above ef; 0: nothing.
float rag_segment__recall(const rag_graph *graph, uint32_t k, uint32_t ef);
// Bits of the segment's rows whose ordinals are in every set that is not NULL; room for (rows + 63) / 64 words.
void rag_segment__select(const rag_index_segment *segment, const rag_bitmap *a, const rag_bitmap *b, uint64_t *words,
                         uint64_t *out_count);

// ---------------------------------------------------------------------------------------------- making one (build.c)

typedef struct segment_build {
  rag_index_shared *shared;
  const rag_index_view *view; // has every row
  const rag_bitmap *rows;     // at least one
  segment_engine engine;
  bool history;
  const char *path;
  rag_segment_id id;
  uint32_t threads;
  bool (*progress)(void *context, uint64_t done, uint64_t total); // false stops it: RAG_CANCELLED; may be NULL
  void *context;
} segment_build;
// Writes the file. Memory while it runs: the codes, the graph, and what rag_graph_build says.
RAG_NODISCARD rag_status rag_segment__build(const segment_build *build, rag_error *err);
// Copies a segment's file under another id, with zeros in place of what it knows of the rows of `erase`.
RAG_NODISCARD rag_status rag_segment__copy_without(const rag_index_segment *segment, const rag_bitmap *erase,
                                                   const char *path, const rag_segment_id *id, rag_error *err);

#endif
