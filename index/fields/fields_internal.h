// What the files of index/fields/ share.
//
//   fields.c   the index as callers see it: options, append, remove, views, when segments are merged
//   batch.c    rows before they are appended
//   segment.c  segments: from drafts, from other segments
//   path.c     one path of a segment: from a draft to its final form
//   sort.c     the order of keys
//   ask.c      questions about a block
//   count.c    counts per value
//
// A segment is some rows of one block of 65,536 ordinals, so that a row is 16 bits there. It is immutable and shared by
// views. A view is a list of segments. So readers need nothing but a reference on their view, an append is all or
// nothing by not being published, and forgetting is writing a segment anew.
//
// Of a path a segment has up to four *runs*, one for each kind of value: the different keys in ascending order and, in
// the order of keys, the rows of each. Whatever is asked (one value, a list, a prefix, a range) is some stretches of
// rows in that order. For a stretch that is long the run has unions: the set of each FIELDS_CHUNK rows of the order, as
// 1,024 words. Unions, and not the sets of all rows up to a place whose difference is any stretch in two steps: a row
// with several values may be before a stretch and in it. A stretch costs at most 8 unions for rows of one value and two
// ends of less than FIELDS_CHUNK single bits, and unions cost one byte a posting.
#ifndef RAGD_FIELDS_INTERNAL_H
#define RAGD_FIELDS_INTERNAL_H

#include "index/index.h"

#define FIELDS_WORDS RAG_BITMAP_BLOCK_WORDS
#define FIELDS_SET_BYTES (FIELDS_WORDS * sizeof(uint64_t))
#define FIELDS_CHUNK 8192u    // postings of a union
#define FIELDS_LIST_MAX 4096u // rows of a list; more are a set of words: 8 KiB either way for bare rows
#define FIELDS_MARKS 16u
#define FIELDS_FAN 8u // segments of about one size that become one

typedef enum fields_kind { FIELDS_STRINGS, FIELDS_INTS, FIELDS_DOUBLES, FIELDS_TIMES, FIELDS_KINDS } fields_kind;

// ---------------------------------------------------------------------------------------------- what all views share

typedef struct fields_list { // of paths, sorted; owned
  rag_slice *items;
  uint32_t count;
} fields_list;
typedef struct fields_shared {
  rag_ref ref;
  fields_list only, except; // immutable, as are the next five
  uint32_t paths_max;
  uint32_t strings_max;
  uint32_t string_bytes_max;
  uint32_t row_values_max;
  uint64_t bytes_max;
  _Atomic uint64_t bytes;  // atomic, relaxed: a sum over all living segments, changed from any thread
  _Atomic uint64_t merges; // atomic, relaxed
} fields_shared;
bool rag_fields__has_path(const fields_shared *shared, rag_slice path);

// ---------------------------------------------------------------------------------------------- segments

typedef struct fields_run {
  uint32_t keys;     // different ones, at least 1
  uint32_t postings; // (row, key) pairs, at least `keys`
  // keys + 1 places in `rows`: those of key i are [starts[i], starts[i + 1]). NULL: one row for each key.
  const uint32_t *starts;
  const uint16_t *rows;   // of a key in any order, each once
  const uint64_t *unions; // postings / FIELDS_CHUNK sets
  union {
    const int64_t *ints; // also times
    const double *doubles;
    struct {
      const uint32_t *offsets; // keys + 1
      const char *bytes;
    } strings;
  } as;
} fields_run;
static inline uint32_t fields_run_start(const fields_run *run, uint32_t key) {
  return run->starts ? run->starts[key] : key;
}
static inline rag_slice fields_run_string(const fields_run *run, uint32_t key) {
  uint32_t from = run->as.strings.offsets[key];
  return rag_slice_of(run->as.strings.bytes + from, run->as.strings.offsets[key + 1] - from);
}

typedef struct fields_point {
  double lat, lon;
  uint32_t row;
} fields_point;

typedef struct fields_path { // one allocation, which holds all that it points to
  rag_slice text;
  size_t bytes;
  uint32_t rows; // that have a mark or a value here
  uint32_t point_count;
  const uint32_t *marks;                // up to FIELDS_LIST_MAX rows: row << 16 | marks, ascending. Else NULL, and
  const uint64_t *const *sets;          // FIELDS_MARKS of them, NULL where no row has the mark; equal ones are one
  const fields_run *runs[FIELDS_KINDS]; // NULL: no value of the kind
  const fields_point *points;           // by latitude
} fields_path;

typedef struct fields_set { // of rows: as a list, or as words (above FIELDS_LIST_MAX)
  uint32_t count;
  uint16_t *list;
  uint64_t *words;
} fields_set;

typedef struct fields_segment {
  rag_ref ref;
  fields_shared *shared; // owned reference
  size_t bytes;
  uint32_t block;
  fields_set rows;
  fields_set opaque;
  uint32_t path_count;
  fields_path *paths[]; // owned; by text
} fields_segment;

static inline void fields_words_add(uint64_t *words, uint32_t row) {
  words[row / 64] |= UINT64_C(1) << (row % 64);
}
static inline bool fields_words_have(const uint64_t *words, uint32_t row) {
  return words[row / 64] >> (row % 64) & 1;
}
static inline void fields_words_or(uint64_t *words, const uint64_t *more) {
  for (size_t i = 0; i < FIELDS_WORDS; i++) words[i] |= more[i];
}
void rag_fields__set_or(const fields_set *set, uint64_t *words);
const fields_path *rag_fields__path(const fields_segment *segment, rag_slice text); // NULL: no row has it
uint64_t rag_fields__segment_values(const fields_segment *segment);

// Segments [first, end) of the view are those of a block.
struct rag_fields_view {
  rag_ref ref;
  fields_shared *shared; // owned reference
  uint64_t rows;
  uint64_t bytes;
  uint32_t segment_count;
  fields_segment *segments[]; // a reference on each; by block
};
void rag_fields__view_block(const rag_fields_view *view, uint32_t block, uint32_t *first, uint32_t *end);

// ---------------------------------------------------------------------------------------------- drafts

// A key with its rows, in the making. `order` sorts numbers by itself; of strings it is some bytes.
typedef struct fields_item {
  uint64_t order;
  const char *data; // of a string; borrowed
  uint32_t size;
  uint32_t count; // rows, at least 1
  union {
    const uint16_t *list; // borrowed; count > 1
    uint16_t one;
  } rows;
} fields_item;
#define FIELDS_VECTOR(type)                                                                                            \
  struct {                                                                                                             \
    type *items;                                                                                                       \
    uint32_t count, capacity;                                                                                          \
  }
// Values of one path in one block. Items of equal keys come in ascending order of rows, or have rows apart.
typedef struct fields_draft {
  FIELDS_VECTOR(fields_item) runs[FIELDS_KINDS];
  FIELDS_VECTOR(fields_point) points;
  FIELDS_VECTOR(uint32_t) marks; // as in fields_path; one for each row that has the path
} fields_draft;
void rag_fields__draft_clear(fields_draft *draft); // keeps the memory
void rag_fields__draft_free(fields_draft *draft);
// Room for one more; false: out of memory. *array is the vector's items.
bool rag_fields__grow(void *array, uint32_t count, uint32_t *capacity, size_t size);
#define FIELDS_PUSH(vector, value)                                                                                     \
  (rag_fields__grow(&(vector).items, (vector).count, &(vector).capacity, sizeof *(vector).items) &&                    \
   ((vector).items[(vector).count++] = (value), true))

static inline uint64_t fields_order_of_int(int64_t v) {
  return (uint64_t)v ^ (UINT64_C(1) << 63);
}
static inline int64_t fields_int_of_order(uint64_t order) {
  return (int64_t)(order ^ (UINT64_C(1) << 63));
}
static inline uint64_t fields_order_of_double(double v) {
  uint64_t bits;
  v += 0.0; // -0 and 0 are one key
  memcpy(&bits, &v, sizeof bits);
  return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}
static inline double fields_double_of_order(uint64_t order) {
  uint64_t bits = order >> 63 ? order ^ UINT64_C(1) << 63 : ~order;
  double v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

// Memory that building uses again and again.
typedef struct fields_scratch {
  FIELDS_VECTOR(fields_item) items; // as many as the run that is sorted
  uint64_t *sets;                   // FIELDS_MARKS of them
} fields_scratch;
void rag_fields__scratch_free(fields_scratch *scratch);

// Sorts by order, stably; strings by their bytes, `order` being theirs to set. False: out of memory.
bool rag_fields__sort(fields_item *items, uint32_t count, bool strings, fields_scratch *scratch);

// The final form of a draft, which is used up: sorted, cut to the limits.
RAG_NODISCARD rag_status rag_fields__path_create(const fields_shared *shared, rag_slice text, fields_draft *draft,
                                                 fields_scratch *scratch, fields_path **out, rag_error *err);
void rag_fields__path_destroy(fields_path *path);

// A path's values to be: of a batch (its draft is ready) or of other segments (the draft is filled from them).
typedef struct fields_draft_path {
  rag_slice text;
  fields_draft *draft;
} fields_draft_path;
// A segment of these paths (sorted here); rows and opaque are FIELDS_WORDS words, and opaque ones are added to it for
// paths that are too many.
RAG_NODISCARD rag_status rag_fields__segment_create(fields_shared *shared, uint32_t block, const uint64_t *rows,
                                                    uint64_t *opaque, fields_draft_path *paths, uint32_t path_count,
                                                    fields_scratch *scratch, fields_segment **out, rag_error *err);
// One segment of several of one block, without the rows of `without` (NULL: none). NULL in *out: no row is left.
RAG_NODISCARD rag_status rag_fields__segment_merge(fields_shared *shared, fields_segment *const *segments,
                                                   uint32_t count, const uint64_t *without, fields_segment **out,
                                                   rag_error *err);

// ---------------------------------------------------------------------------------------------- batches

// The segments of a batch, owned by it: fields.c takes them over one by one. Also finishes the last block.
RAG_NODISCARD rag_status rag_fields__batch_finish(rag_fields_batch *batch, rag_error *err);
typedef FIELDS_VECTOR(fields_segment *) fields_segments;
fields_segments *rag_fields__batch_segments(rag_fields_batch *batch);
const fields_shared *rag_fields__batch_shared(const rag_fields_batch *batch);
void rag_fields__batch_clear(rag_fields_batch *batch);
fields_shared *rag_fields__shared(const rag_fields *fields);

#endif
