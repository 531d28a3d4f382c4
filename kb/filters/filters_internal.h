// A parsed filter. Private to kb/filters/.
#ifndef RAGD_KB_FILTER_INTERNAL_H
#define RAGD_KB_FILTER_INTERNAL_H

#include "base/json.h"
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
} rag_kb__path;

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
  bool has_should, has_min_should; // an empty `should` matches nothing; an absent one everything
};

// Times as people write them: RFC 3339; a space for the T; no seconds; no zone (UTC); +HHMM; a bare date. Digits
// below a microsecond are cut.
bool rag_kb__filter_time(rag_slice text, int64_t *out_us);

#endif
