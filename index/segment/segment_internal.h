// Private to index/: files of sealed segments. A segment is a set of rows that does not change any more, with what an
// engine derived from them; its file can always be made again from the stored vectors, and is never trusted unread.
#ifndef RAGD_INDEX_SEGMENT_INTERNAL_H
#define RAGD_INDEX_SEGMENT_INTERNAL_H

#include "index/codes/codes_internal.h"
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
// No more is to be verified: closes the descriptor. There may be thousands of segments, and the mapping needs none.
void rag_segment__file_settle(segment_file *file);
uint64_t rag_segment__file_blocks(const segment_file *file);
uint64_t rag_segment__file_bytes(const segment_file *file);
const char *rag_segment__file_path(const segment_file *file);
rag_slice rag_segment__file_meta(const segment_file *file);
// A section's bytes, mapped, at an address that SEGMENT_ALIGN divides; {NULL, 0} where there is no such section.
rag_slice rag_segment__file_section(const segment_file *file, uint32_t kind);
// As above, without the right to fail: NULL unless the section has exactly `size` bytes.
const void *rag_segment__file_exactly(const segment_file *file, uint32_t kind, uint64_t size);
// Removes files that an interrupted writer left in a folder. A missing folder is fine.
RAG_NODISCARD rag_status rag_segment__sweep(const char *dir, rag_error *err);

// ---------------------------------------------------------------------------------------------- kinds

// Sections of a segment's file: pinned. A kind's own are 16 apart, so that there is room for more.
enum {
  SEGMENT_ORDINALS = 1,     // u32[rows], strictly ascending: row i is this ordinal
  SEGMENT_VECTORS = 2,      // float[rows][dimension], or SEGMENT_VECTORS_BF16 where the index's rows are bfloat16
  SEGMENT_INT8 = 3,         // u8[rows][rag_codes_int8_bytes]
  SEGMENT_INT8_FACTORS = 4, // rag_codes_int8_factors[rows]
  SEGMENT_BITS = 5,         // u8[rows][rag_codes_bits_bytes], rotated with SEGMENT_ROTATION_SEED, of no centroid
  SEGMENT_VECTORS_BF16 = 6, // u16[rows][rag_codes_bf16_padded]
  SEGMENT_GRAPH = 16,       // and the next two: rag_graph_section
  SEGMENT_IVF = 32,         // and the next three: rag_ivf_section
  SEGMENT_IVF_CENTROIDS = 36,
  SEGMENT_FAISS_META = 48,
  SEGMENT_FAISS_INDEX = 49,
};
#define SEGMENT_FORMAT 1u
#define SEGMENT_ROTATION_SEED UINT64_C(0x7261676431626974)
#define SEGMENT_KINDS 4u

typedef struct segment_build segment_build;
typedef struct segment_scratch segment_scratch;
typedef struct segment_search segment_search;

// An engine over the rows of a segment: how it writes what it derives from them, finds it again in the mapped file, and
// searches it. Rows are numbers from 0; the segment says which ordinals they are.
typedef struct segment_kind {
  const char *name;
  bool grows; // rows that a segment of the view had cost little when it is merged
  // Writes the kind's sections; ordinals and vectors are written.
  rag_status (*build)(segment_build *build, rag_error *err);
  // Makes segment->state upon the file's sections, which were verified. RAG_DATA_LOSS: they are not what they must be.
  rag_status (*open)(rag_index_segment *segment, rag_error *err);
  void (*close)(void *state);
  // Offers the best of the rows whose bits are set; `survivors` of them, more than a few.
  rag_status (*search)(const rag_index_segment *segment, segment_search *search, const uint64_t *words,
                       uint64_t survivors, rag_error *err);
  // Copies its sections without what they know of the rows of `erase`. NULL: it cannot, and is built anew.
  rag_status (*copy_without)(const rag_index_segment *segment, segment_writer *writer, const rag_bitmap *erase,
                             rag_error *err);
  float (*recall)(const rag_index_segment *segment); // measured when it was built, at the index's target; 0: not
  void (*scratch_destroy)(void *scratch);            // of segment_scratch.of_kind; NULL: it has none
} segment_kind;
extern const segment_kind rag_segment__flat, rag_segment__graph, rag_segment__ivf, rag_segment__faiss;
extern const segment_kind *const rag_segment__kinds[SEGMENT_KINDS]; // by their number on disk: 0 flat, 1 graph, ...

// ---------------------------------------------------------------------------------------------- a segment (segment.c)

// Immutable. Sealed rows are never changed; which of them are still there, and alive, the view and the filter say.
struct rag_index_segment {
  rag_ref ref;
  rag_index_shared *shared; // owned reference
  segment_file *file;       // owned; pointers below are borrowed from it
  rag_segment_id id;
  const segment_kind *kind;
  bool history;
  uint32_t rows;
  const uint32_t *ordinals;
  const uint8_t *vectors; // full-precision rows, one after another
  rag_bitmap *set;        // owned reference: the ordinals
  void *state;            // the kind's
  uint64_t charged;       // bytes counted against the bound: what searches walk
};

// Opens and verifies a file, whole. RAG_NOT_FOUND, RAG_DATA_LOSS, RAG_FAILED_PRECONDITION (a newer format).
RAG_NODISCARD rag_status rag_segment__open(rag_index_shared *shared, const char *path, const rag_segment_id *id,
                                           rag_index_segment **out, rag_error *err);
const void *rag_segment__row(const rag_index_segment *segment, uint32_t ordinal); // NULL: none
static inline uint32_t rag_segment__vectors_section(const rag_index_shared *shared) {
  return shared->datatype == RAG_DATATYPE_BFLOAT16 ? SEGMENT_VECTORS_BF16 : SEGMENT_VECTORS;
}
// For kinds, while they open: a section of as many bytes; sections in a row; "PATH is damaged: WHAT".
const void *rag_segment__section(const rag_index_segment *segment, uint32_t section, uint64_t bytes);
void rag_segment__sections(const rag_index_segment *segment, uint32_t first, uint32_t count, rag_slice *out);
RAG_NODISCARD rag_status rag_segment__damaged(const rag_index_segment *segment, const char *what, rag_error *err);
// The int8 plane; *out_base is NULL where the file has none.
RAG_NODISCARD rag_status rag_segment__int8(const rag_index_segment *segment, const uint8_t **out_base,
                                           const rag_codes_int8_factors **out_factors, rag_error *err);

// ---------------------------------------------------------------------------------------------- searches (search.c)

// What one search needs beside its stack; kept between searches.
struct segment_scratch {
  segment_scratch *next;
  uint64_t *words; // rows that may be found, a bit each
  uint32_t word_room;
  uint64_t searches; // begun with it: tells what a kind made of an earlier query from what it made of this one
  void *of_kind[SEGMENT_KINDS];
};
// Idle ones belong to the shared state of an index.
segment_scratch *rag_segment__scratch_take(rag_index_shared *shared, rag_error *err);
void rag_segment__scratch_give(rag_index_shared *shared, segment_scratch *scratch);
void rag_segment__scratch_destroy(segment_scratch *scratch);
static inline void **rag_segment__scratch_of(segment_scratch *scratch, const segment_kind *kind) {
  for (uint32_t i = 0; i < SEGMENT_KINDS; i++)
    if (rag_segment__kinds[i] == kind) return &scratch->of_kind[i];
  return NULL;
}

struct segment_search {
  const rag_index_query *query;
  const rag_bitmap *present; // of the view
  bool removed;              // some of the segment's rows are not in `present`
  segment_scratch *scratch;
  rag_index_topk *top;
  rag_index_plan *plan;
};
static inline double rag_segment__target(const rag_index_segment *segment, const rag_index_query *query) {
  return query->target_recall > 0 ? query->target_recall : segment->shared->target_recall;
}
static inline uint32_t rag_segment__recall_k(const rag_index_query *query) { // the k that the target is about
  return query->recall_k > 0 && query->recall_k < query->k ? query->recall_k : query->k;
}
// Offers the segment's rows of present AND filter to `top`.
RAG_NODISCARD rag_status rag_segment__search(const rag_index_segment *segment, segment_search *search, rag_error *err);
// Bits of the segment's rows whose ordinals are in every set that is not NULL; room for (rows + 63) / 64 words.
void rag_segment__select(const rag_index_segment *segment, const rag_bitmap *a, const rag_bitmap *b, uint64_t *words,
                         uint64_t *out_count);
// For kinds: a search that found its way by codes was measured to find so many at its setting.
void rag_segment__plan_recall(rag_index_plan *plan, double recall, uint32_t setting);
// The segment's full-precision rows, for engines.
rag_index_row_fetch rag_segment__fetch(const rag_index_segment *segment);

// Exact scores of rows, gathered and scored some hundreds at a time.
#define SEGMENT_GATHER 256u
typedef struct segment_scan {
  const rag_index_segment *segment;
  segment_search *search;
  uint32_t pending;
  uint64_t scored;
  uint32_t ids[SEGMENT_GATHER];
  const void *rows[SEGMENT_GATHER];
  float scores[SEGMENT_GATHER];
} segment_scan;
void rag_segment__scan_init(segment_scan *scan, const rag_index_segment *segment, segment_search *search);
void rag_segment__scan_add(segment_scan *scan, uint32_t row);
void rag_segment__scan_flush(segment_scan *scan);
// All rows whose bits are set.
RAG_NODISCARD rag_status rag_segment__scan_all(const rag_index_segment *segment, segment_search *search,
                                               const uint64_t *words, rag_error *err);

// ---------------------------------------------------------------------------------------------- making one (build.c)

struct segment_build {
  rag_index_shared *shared;
  const rag_index_view *view; // has every row
  const rag_bitmap *row_set;  // at least one
  const segment_kind *kind;
  bool history;
  const char *path;
  rag_segment_id id;
  uint32_t threads;
  bool (*progress)(void *context, uint64_t done, uint64_t total); // false stops it: RAG_CANCELLED; may be NULL
  void *context;

  // Made by rag_segment__build, for the kind.
  uint32_t rows;
  uint32_t *ordinals;
  const void **vectors; // of each row, in the view
  uint8_t *codes;       // int8: rag_segment__encode
  rag_codes_int8_factors *factors;
  segment_writer *writer;
};
// Writes the file. Memory while it runs: the codes, and what the kind's engine says.
RAG_NODISCARD rag_status rag_segment__build(segment_build *build, rag_error *err);
// Copies a segment's file under another id, with zeros in place of what it knows of the rows of `erase`.
// RAG_UNIMPLEMENTED: this kind's must be built anew.
RAG_NODISCARD rag_status rag_segment__copy_without(const rag_index_segment *segment, const rag_bitmap *erase,
                                                   const char *path, const rag_segment_id *id, rag_error *err);

// For kinds. The int8 codes of all rows, once.
RAG_NODISCARD rag_status rag_segment__encode(segment_build *build, rag_error *err);
RAG_NODISCARD rag_status rag_segment__write_int8(segment_build *build, rag_error *err);
RAG_NODISCARD rag_status rag_segment__write(segment_build *build, uint32_t section, const void *data, size_t size,
                                            rag_error *err);
RAG_NODISCARD rag_status rag_segment__go_on(const segment_build *build, uint64_t done, rag_error *err);
rag_index_row_fetch rag_segment__build_fetch(const segment_build *build); // its rows, for engines
// The floats of a row; room: `dimension` of them.
const float *rag_segment__build_vector(const segment_build *build, uint32_t row, float *room);
// A section of equal rows, each of `erase` replaced by bytes of `blank`; a whole section as it is.
RAG_NODISCARD rag_status rag_segment__copy_rows(segment_writer *writer, const rag_index_segment *segment,
                                                uint32_t section, const void *base, size_t row_bytes, uint8_t blank,
                                                const rag_bitmap *erase, rag_error *err);
RAG_NODISCARD rag_status rag_segment__copy_int8(segment_writer *writer, const rag_index_segment *segment,
                                                const rag_bitmap *erase, rag_error *err);
RAG_NODISCARD rag_status rag_segment__copy_section(segment_writer *writer, const rag_index_segment *segment,
                                                   uint32_t section, rag_error *err);

// kinds.c: which kind suits so many rows of this index.
const segment_kind *rag_segment__kind_for(rag_index_shared *shared, uint64_t rows);
bool rag_segment__is_as_chosen(const rag_index_segment *segment); // would be built so today
#define SEGMENT_CALIBRATION_ROWS 256u

#endif
