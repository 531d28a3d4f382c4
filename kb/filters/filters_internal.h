// Filters: a parsed filter, field indexes of metadata, evaluation over them, facets. Private to kb/.
//
//   parse.c    the grammar: JSON text to conditions
//   match.c    what a filter means for one document
//   extract.c  a revision's metadata as values and marks at paths, into a rag_fields
//   plan.c     a filter's conditions as questions to a rag_fields
//   eval.c     a filter over all live revisions: certain, possible, verified
//   facet.c    counts per value
//
// match.c is the truth; what the others answer is the same, only faster. Its words: a *value of a path* is what walking
// the path leads to; the values that tests see are those and, of an array, its elements one level deep.
#ifndef RAGD_KB_FILTER_INTERNAL_H
#define RAGD_KB_FILTER_INTERNAL_H

#include "base/json.h"
#include "index/index.h"
#include "kb/kb.h"

typedef enum rag_kb__step_kind { RAG_KB__STEP_NAME, RAG_KB__STEP_EACH, RAG_KB__STEP_INDEX } rag_kb__step_kind;
typedef struct rag_kb__step { // of a path: a name, [] or [n]
  rag_kb__step_kind kind;
  rag_slice name;
  uint32_t index;
} rag_kb__step;
typedef struct rag_kb__path {
  const rag_kb__step *steps;
  uint32_t count;
  rag_slice text; // as it was written, in the filter's arena
} rag_kb__path;
// A path from its text. RAG_INVALID_ARGUMENT.
RAG_NODISCARD rag_status rag_kb__filter_path(rag_slice text, rag_arena *arena, rag_kb__path *out, rag_error *err);
bool rag_kb__filter_plain_name(rag_slice name); // needs no quotes in a path

typedef struct rag_kb__point {
  double lat, lon;
} rag_kb__point;
typedef struct rag_kb__ring { // closed: the last point is the first
  rag_kb__point *points;
  uint32_t count;
} rag_kb__ring;

// Bounds of a range; an absent end is infinite.
typedef struct rag_kb__bounds {
  bool has_low, has_high, low_open, high_open;
  double low, high;        // numbers
  int64_t low_us, high_us; // times
} rag_kb__bounds;

typedef enum rag_kb__condition_kind {
  RAG_KB__MATCH_STRINGS, // any of
  RAG_KB__MATCH_INTS,
  RAG_KB__MATCH_BOOL,
  RAG_KB__EXCEPT_STRINGS,
  RAG_KB__EXCEPT_INTS,
  RAG_KB__MATCH_TEXT,     // contains
  RAG_KB__MATCH_TEXT_ANY, // contains any word of
  RAG_KB__MATCH_PREFIX,
  RAG_KB__RANGE_NUMBER,
  RAG_KB__RANGE_TIME,
  RAG_KB__GEO_BOX,
  RAG_KB__GEO_RADIUS,
  RAG_KB__GEO_POLYGON,
  RAG_KB__VALUES_COUNT,
  RAG_KB__IS_EMPTY,
  RAG_KB__IS_NULL,
  RAG_KB__HAS_ID,
  RAG_KB__NESTED,
  RAG_KB__FILTER,
} rag_kb__condition_kind;

typedef struct rag_kb__condition {
  rag_kb__condition_kind kind;
  rag_kb__path path;
  union {
    struct {
      rag_slice *items; // sorted
      uint32_t count;
    } strings; // also HAS_ID, TEXT_ANY
    struct {
      int64_t *items; // sorted
      uint32_t count;
    } ints;
    rag_slice text;
    bool flag;
    bool elements; // IS_NULL: also an array that holds null
    rag_kb__bounds bounds;
    struct {
      rag_kb__point top_left, bottom_right;
    } box;
    struct {
      rag_kb__point center;
      double radius_m;
    } circle;
    struct {
      rag_kb__ring exterior;
      rag_kb__ring *interiors;
      uint32_t interior_count;
    } polygon;
    const rag_filter *filter;
  } as;
  bool expected; // IS_EMPTY, IS_NULL as field conditions: the wanted answer
} rag_kb__condition;

typedef struct rag_kb__conditions {
  rag_kb__condition *items;
  uint32_t count;
} rag_kb__conditions;

struct rag_filter {
  rag_kb__conditions must, should, must_not, min_should;
  uint32_t min_count;
  rag_digest digest;               // of the whole text; of the outermost filter only
  bool has_should, has_min_should; // an empty `should` matches nothing; an absent one everything
};

// Times as people write them: RFC 3339; a space for the T; no seconds; no zone (UTC); +HHMM; a bare date. Digits
// below a microsecond are cut.
bool rag_kb__filter_time(rag_slice text, int64_t *out_us);

// ---------------------------------------------------------------------------------------------- match.c, for others

// Calls fn with each value of the path, arrays opened as tests see them; `whole`: arrays as they are.
typedef bool (*rag_kb__value_fn)(void *context, rag_json value); // true stops
bool rag_kb__filter_walk(const rag_kb__path *path, rag_json root, bool whole, rag_kb__value_fn fn, void *context);
bool rag_kb__filter_read_point(rag_json value, rag_kb__point *out);
#define RAG_KB__EARTH_RADIUS_M 6371008.8                                                  // mean radius, IUGG
bool rag_kb__filter_point_holds(const rag_kb__condition *condition, rag_kb__point point); // GEO_*
bool rag_kb__filter_in_bounds(const rag_kb__bounds *bounds, double value);

// ---------------------------------------------------------------------------------------------- extract.c
//
// The path of a value is the text that a filter would name it by: names joined by dots, odd ones quoted, [] for each
// array that is walked through. Elements of an array stand at the path of the array, so "tags" and "tags[]" share one
// list; an array within an array is a mark and is not opened. What no key can name (an empty name, a name with a quote)
// is not there.
enum {                                // marks of a revision at a path
  RAG_KB__MARK_DIRECT = 1 << 0,       // a value that is no array
  RAG_KB__MARK_ARRAY = 1 << 1,        // a value that is an array
  RAG_KB__MARK_FILLED = 1 << 2,       // a value that is neither null nor []
  RAG_KB__MARK_NULL = 1 << 3,         // null
  RAG_KB__MARK_NULL_ELEMENT = 1 << 4, // an array with null in it
  RAG_KB__MARK_TRUE = 1 << 5,         // and the next ones: a value of this type, elements of arrays included
  RAG_KB__MARK_FALSE = 1 << 6,
  RAG_KB__MARK_STRING = 1 << 7,
  RAG_KB__MARK_INT = 1 << 8,    // in the range of int64_t
  RAG_KB__MARK_DOUBLE = 1 << 9, // any other number
  RAG_KB__MARK_OBJECT = 1 << 10,
  RAG_KB__MARK_NESTED = 1 << 11, // an array within an array
};

typedef struct rag_kb__fields_row {
  uint32_t revision;
  rag_slice metadata; // JSON object text, or empty
} rag_kb__fields_row;
// Appends revisions (strictly ascending, none of them there yet), all or nothing. The writer's. Metadata that is no JSON
// has no values.
RAG_NODISCARD rag_status rag_kb__fields_append(rag_fields *fields, uint32_t count, const rag_kb__fields_row *rows,
                                               rag_error *err);
// The two halves of it, for a loader that reads rows one by one: begin, add each, then rag_fields_append(fields,
// rag_kb__extract_batch(..)). An extractor is one thread's, and may be used again after the append.
typedef struct rag_kb__extractor rag_kb__extractor;
RAG_NODISCARD rag_status rag_kb__extractor_create(const rag_fields *fields, rag_kb__extractor **out, rag_error *err);
void rag_kb__extractor_destroy(rag_kb__extractor *extractor);
RAG_NODISCARD rag_status rag_kb__extract(rag_kb__extractor *extractor, uint32_t revision, rag_slice metadata,
                                         rag_error *err);
rag_fields_batch *rag_kb__extract_batch(rag_kb__extractor *extractor); // borrowed

// ---------------------------------------------------------------------------------------------- eval.c

// What a filter is evaluated over. Callbacks run on the calling thread; their errors end the evaluation and are
// returned as they are.
typedef struct rag_kb__filter_source {
  const rag_fields_view *fields; // NULL: no index; live revisions that it does not have are looked at one by one
  const rag_bitmap *live;
  // The id and the metadata of a live revision, borrowed until the next call. Ascending within one evaluation.
  rag_status (*get_document)(void *context, uint32_t revision, rag_slice *out_id, rag_slice *out_metadata,
                             rag_error *err);
  // The live revision of a document; *out_found false: none. (One that is not live is left out by the evaluation.)
  rag_status (*find_id)(void *context, rag_slice id, bool *out_found, uint32_t *out_revision, rag_error *err);
  void *context;
  uint64_t deadline_ns; // monotonic clock; 0: none. RAG_DEADLINE_EXCEEDED
} rag_kb__filter_source;

typedef enum rag_kb__filter_answer {
  RAG_KB__ANSWER_INDEXED,  // by the indexes alone, for every live revision
  RAG_KB__ANSWER_VERIFIED, // by the indexes but for some revisions
  RAG_KB__ANSWER_SCAN,     // by no index
} rag_kb__filter_answer;
#define RAG_KB__FILTER_PATHS_MAX 64u
typedef struct rag_kb__filter_path_report {
  rag_slice path; // in the filter's arena; of nested: its key; of has_id: "has_id"
  rag_kb__filter_answer answer;
} rag_kb__filter_path_report;
typedef struct rag_kb__filter_report {
  uint64_t live, survivors;
  uint64_t verified;                                          // revisions that were fetched and matched
  uint32_t conditions;                                        // those with a path, and has_id; nested counts as one
  uint32_t indexed, verified_some, scans;                     // of them, by answer
  rag_kb__filter_path_report paths[RAG_KB__FILTER_PATHS_MAX]; // conditions in order, the first so many
  uint32_t path_count;
  uint64_t took_ns;
} rag_kb__filter_report;
// *out (owned) is exactly the live revisions that pass. report may be NULL. Any thread.
RAG_NODISCARD rag_status rag_kb__filter_eval(const rag_filter *filter, const rag_kb__filter_source *source,
                                             rag_bitmap **out, rag_kb__filter_report *report, rag_error *err);

// ---------------------------------------------------------------------------------------------- facet.c

// Values of `path` (as filters name it) and how many of `survivors` have each: at most `limit` of them, in `arena`.
// Exact: revisions that the index does not decide are fetched; *out_verified counts them. survivors: part of
// source->live. RAG_INVALID_ARGUMENT (path), RAG_RESOURCE_EXHAUSTED, RAG_DEADLINE_EXCEEDED.
RAG_NODISCARD rag_status rag_kb__facet(const rag_kb__filter_source *source, rag_slice path, const rag_bitmap *survivors,
                                       uint32_t limit, rag_arena *arena, rag_facet *out, uint64_t *out_verified,
                                       rag_error *err);

#endif
