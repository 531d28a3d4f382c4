// What a filter means: does a document's metadata pass?
//
//  - A filter is must AND should AND min_should AND NOT must_not. An absent part holds; an empty `should` never does.
//  - A key that leads to several values (an array, or a path with []) holds where any of them does. An array at the end
//    of a path is its elements, one level deep; an array within an array is not opened: it is a value of another type.
//  - A missing key fails every test but is_empty and values_count (0 values).
//  - match.value with an integer meets JSON integers only (1.0 is no 1); strings and bools are exact. `except` holds
//    where some value, of whatever type but null, is not in the list.
//  - text and phrase: contains, byte for byte; text_any: contains any of the words.
//  - is_empty: nothing, null or []. is_null: null; as a test of a field also an array that holds null. Asked with
//    false, both are the negation.
//  - Ends of boxes and radii count as inside. A value that is no place on Earth is nowhere.
//  - nested: the inner filter holds within one element of the array, which must be an object.
// The same semantics as Qdrant's without a text index (refs: its OpenAPI document and condition checkers).
//
// Pure functions; recursion is bounded by RAG_FILTER_DEPTH_MAX and the JSON depth limit.
#include "kb/filters/filters_internal.h"

#include <math.h>
#include <stdlib.h>

typedef struct subject {
  rag_slice id;
  rag_json root; // an object
  bool has_root; // false: no metadata
} subject;

static bool holds(const rag_filter *filter, const subject *subject);

// ---------------------------------------------------------------------------------------------- walking a path

static bool walk_value(rag_json value, bool whole, rag_kb__value_fn fn, void *context) {
  if (whole || rag_json_type_of(value) != RAG_JSON_ARRAY) return fn(context, value);
  rag_json_iter it = rag_json_iter_of(value);
  while (rag_json_iter_next(&it))
    if (fn(context, it.value)) return true;
  return false;
}

static bool walk_from(const rag_kb__path *path, uint32_t step, rag_json value, bool whole, rag_kb__value_fn fn,
                      void *context) {
  if (step == path->count) return walk_value(value, whole, fn, context);
  const rag_kb__step *at = &path->steps[step];
  if (at->kind == RAG_KB__STEP_NAME) {
    rag_json member;
    return rag_json_type_of(value) == RAG_JSON_OBJECT && rag_json_find(value, at->name, &member) &&
           walk_from(path, step + 1, member, whole, fn, context);
  }
  if (rag_json_type_of(value) != RAG_JSON_ARRAY) return false;
  rag_json_iter it = rag_json_iter_of(value);
  for (uint32_t i = 0; rag_json_iter_next(&it); i++) {
    if (at->kind == RAG_KB__STEP_INDEX && i != at->index) continue;
    if (walk_from(path, step + 1, it.value, whole, fn, context)) return true;
    if (at->kind == RAG_KB__STEP_INDEX) break;
  }
  return false;
}

bool rag_kb__filter_walk(const rag_kb__path *path, rag_json root, bool whole, rag_kb__value_fn fn, void *context) {
  return walk_from(path, 0, root, whole, fn, context);
}

// Whether the test is true of any value that the path leads to. `whole` gets arrays themselves, not elements.
typedef bool (*test_fn)(const rag_kb__condition *condition, rag_json value);
typedef struct tested {
  const rag_kb__condition *condition;
  test_fn test;
} tested;

static bool run_test(void *context, rag_json value) {
  const tested *t = context;
  return t->test(t->condition, value);
}

static bool walk(const rag_kb__condition *condition, rag_json value, test_fn test, bool whole) {
  tested t = {condition, test};
  return rag_kb__filter_walk(&condition->path, value, whole, run_test, &t);
}

// ---------------------------------------------------------------------------------------------- tests of a value

static int compare_slices(const void *a, const void *b) {
  return rag_slice_compare(*(const rag_slice *)a, *(const rag_slice *)b);
}

static int compare_ints(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static bool has_string(const rag_kb__condition *c, rag_slice s) {
  return c->as.strings.count > 0 &&
         bsearch(&s, c->as.strings.items, c->as.strings.count, sizeof(rag_slice), compare_slices) != NULL;
}

static bool has_int(const rag_kb__condition *c, int64_t v) {
  return c->as.ints.count > 0 && bsearch(&v, c->as.ints.items, c->as.ints.count, sizeof(int64_t), compare_ints) != NULL;
}

static bool contains(rag_slice text, rag_slice part) {
  return part.size == 0 || (part.size <= text.size && memmem(text.data, text.size, part.data, part.size) != NULL);
}

static bool test_match(const rag_kb__condition *c, rag_json value) {
  rag_json_type type = rag_json_type_of(value);
  switch (c->kind) {
  case RAG_KB__MATCH_STRINGS:
    return type == RAG_JSON_STRING && has_string(c, rag_json_string(value));
  case RAG_KB__MATCH_INTS:
    return type == RAG_JSON_INT && has_int(c, rag_json_int(value));
  case RAG_KB__MATCH_BOOL:
    return type == RAG_JSON_BOOL && rag_json_bool(value) == c->as.flag;
  case RAG_KB__EXCEPT_STRINGS:
    return type != RAG_JSON_NULL && !(type == RAG_JSON_STRING && has_string(c, rag_json_string(value)));
  case RAG_KB__EXCEPT_INTS:
    return type != RAG_JSON_NULL && !(type == RAG_JSON_INT && has_int(c, rag_json_int(value)));
  case RAG_KB__MATCH_TEXT:
    return type == RAG_JSON_STRING && contains(rag_json_string(value), c->as.text);
  case RAG_KB__MATCH_TEXT_ANY:
    if (type != RAG_JSON_STRING) return false;
    for (uint32_t i = 0; i < c->as.strings.count; i++)
      if (contains(rag_json_string(value), c->as.strings.items[i])) return true;
    return false;
  case RAG_KB__MATCH_PREFIX: {
    rag_slice text = type == RAG_JSON_STRING ? rag_json_string(value) : rag_slice_of("", 0);
    return type == RAG_JSON_STRING && text.size >= c->as.text.size &&
           (c->as.text.size == 0 || memcmp(text.data, c->as.text.data, c->as.text.size) == 0);
  }
  default:
    return false;
  }
}

bool rag_kb__filter_in_bounds(const rag_kb__bounds *b, double v) {
  if (b->has_low && (b->low_open ? !(v > b->low) : !(v >= b->low))) return false;
  return !b->has_high || (b->high_open ? v < b->high : v <= b->high);
}

static bool in_time_bounds(const rag_kb__bounds *b, int64_t v) {
  if (b->has_low && (b->low_open ? v <= b->low_us : v < b->low_us)) return false;
  return !b->has_high || (b->high_open ? v < b->high_us : v <= b->high_us);
}

static bool test_range(const rag_kb__condition *c, rag_json value) {
  rag_json_type type = rag_json_type_of(value);
  if (c->kind == RAG_KB__RANGE_TIME) {
    int64_t time_us;
    return type == RAG_JSON_STRING && rag_kb__filter_time(rag_json_string(value), &time_us) &&
           in_time_bounds(&c->as.bounds, time_us);
  }
  return (type == RAG_JSON_INT || type == RAG_JSON_UINT || type == RAG_JSON_DOUBLE) &&
         rag_kb__filter_in_bounds(&c->as.bounds, rag_json_double(value));
}

// ---------------------------------------------------------------------------------------------- geography

#define RADIANS (3.14159265358979323846 / 180.0)

bool rag_kb__filter_read_point(rag_json value, rag_kb__point *out) {
  rag_json lat, lon;
  if (rag_json_type_of(value) != RAG_JSON_OBJECT || !rag_json_find(value, rag_slice_str("lat"), &lat) ||
      !rag_json_find(value, rag_slice_str("lon"), &lon))
    return false;
  rag_json_type a = rag_json_type_of(lat), b = rag_json_type_of(lon);
  if (a < RAG_JSON_INT || a > RAG_JSON_DOUBLE || b < RAG_JSON_INT || b > RAG_JSON_DOUBLE) return false;
  *out = (rag_kb__point){rag_json_double(lat), rag_json_double(lon)};
  return out->lat >= -90 && out->lat <= 90 && out->lon >= -180 && out->lon <= 180;
}

static double haversine_m(rag_kb__point a, rag_kb__point b) {
  double dlat = (b.lat - a.lat) * RADIANS, dlon = (b.lon - a.lon) * RADIANS;
  double s = sin(dlat / 2), t = sin(dlon / 2);
  double h = s * s + cos(a.lat * RADIANS) * cos(b.lat * RADIANS) * t * t;
  return 2 * RAG_KB__EARTH_RADIUS_M * asin(sqrt(h < 1 ? h : 1));
}

// Even-odd rule on the plane of degrees; rings that cross the date line are not supported, as in GeoJSON without a cut.
static bool inside_ring(const rag_kb__ring *ring, rag_kb__point p) {
  bool inside = false;
  for (uint32_t i = 0; i + 1 < ring->count; i++) {
    rag_kb__point a = ring->points[i], b = ring->points[i + 1];
    if ((a.lat > p.lat) == (b.lat > p.lat)) continue;
    double crossing = a.lon + (p.lat - a.lat) / (b.lat - a.lat) * (b.lon - a.lon);
    if (p.lon < crossing) inside = !inside;
  }
  return inside;
}

bool rag_kb__filter_point_holds(const rag_kb__condition *c, rag_kb__point p) {
  if (c->kind == RAG_KB__GEO_RADIUS) return haversine_m(c->as.circle.center, p) <= c->as.circle.radius_m;
  if (c->kind == RAG_KB__GEO_BOX) {
    double west = c->as.box.top_left.lon, east = c->as.box.bottom_right.lon;
    bool lon = west <= east ? p.lon >= west && p.lon <= east : p.lon >= west || p.lon <= east; // over the date line
    return lon && p.lat <= c->as.box.top_left.lat && p.lat >= c->as.box.bottom_right.lat;
  }
  if (!inside_ring(&c->as.polygon.exterior, p)) return false;
  for (uint32_t i = 0; i < c->as.polygon.interior_count; i++)
    if (inside_ring(&c->as.polygon.interiors[i], p)) return false;
  return true;
}

static bool test_geo(const rag_kb__condition *c, rag_json value) {
  rag_kb__point p;
  return rag_kb__filter_read_point(value, &p) && rag_kb__filter_point_holds(c, p);
}

// ---------------------------------------------------------------------------------------------- presence, nesting

static bool test_filled(const rag_kb__condition *c, rag_json value) { // neither null nor []
  RAG_UNUSED(c);
  rag_json_type type = rag_json_type_of(value);
  return type != RAG_JSON_NULL && !(type == RAG_JSON_ARRAY && rag_json_size(value) == 0);
}

static bool test_null(const rag_kb__condition *c, rag_json value) {
  if (rag_json_type_of(value) == RAG_JSON_NULL) return true;
  if (!c->as.elements || rag_json_type_of(value) != RAG_JSON_ARRAY) return false;
  rag_json_iter it = rag_json_iter_of(value);
  while (rag_json_iter_next(&it))
    if (rag_json_type_of(it.value) == RAG_JSON_NULL) return true;
  return false;
}

static bool test_count(const rag_kb__condition *c, rag_json value) {
  rag_json_type type = rag_json_type_of(value);
  double count = type == RAG_JSON_ARRAY ? (double)rag_json_size(value) : type == RAG_JSON_NULL ? 0 : 1;
  return rag_kb__filter_in_bounds(&c->as.bounds, count);
}

static bool test_present(const rag_kb__condition *c, rag_json value) {
  RAG_UNUSED(c);
  RAG_UNUSED(value);
  return true;
}

static bool test_nested(const rag_kb__condition *c, rag_json value) {
  subject element = {.root = value, .has_root = rag_json_type_of(value) == RAG_JSON_OBJECT};
  return element.has_root && holds(c->as.filter, &element);
}

// ---------------------------------------------------------------------------------------------- conditions, filters

static bool condition_holds(const rag_kb__condition *c, const subject *s) {
  switch (c->kind) {
  case RAG_KB__HAS_ID:
    return has_string(c, s->id);
  case RAG_KB__FILTER:
    return holds(c->as.filter, s);
  case RAG_KB__IS_EMPTY:
    return !(s->has_root && walk(c, s->root, test_filled, true)) == c->expected;
  case RAG_KB__IS_NULL:
    return (s->has_root && walk(c, s->root, test_null, true)) == c->expected;
  case RAG_KB__VALUES_COUNT:
    if (s->has_root && walk(c, s->root, test_present, true)) return walk(c, s->root, test_count, true);
    return rag_kb__filter_in_bounds(&c->as.bounds, 0);
  case RAG_KB__RANGE_NUMBER:
  case RAG_KB__RANGE_TIME:
    return s->has_root && walk(c, s->root, test_range, false);
  case RAG_KB__GEO_BOX:
  case RAG_KB__GEO_RADIUS:
  case RAG_KB__GEO_POLYGON:
    return s->has_root && walk(c, s->root, test_geo, false);
  case RAG_KB__NESTED:
    return s->has_root && walk(c, s->root, test_nested, true);
  default:
    return s->has_root && walk(c, s->root, test_match, false);
  }
}

static uint32_t count_holding(const rag_kb__conditions *conditions, const subject *s, uint32_t enough) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < conditions->count && count < enough; i++) count += condition_holds(&conditions->items[i], s);
  return count;
}

static bool holds(const rag_filter *filter, const subject *s) {
  for (uint32_t i = 0; i < filter->must.count; i++)
    if (!condition_holds(&filter->must.items[i], s)) return false;
  if (count_holding(&filter->must_not, s, 1) > 0) return false;
  if (filter->has_should && count_holding(&filter->should, s, 1) == 0) return false;
  return !filter->has_min_should || count_holding(&filter->min_should, s, filter->min_count) >= filter->min_count;
}

rag_status rag_filter_match(const rag_filter *filter, rag_slice id, rag_slice metadata, rag_json_parser *parser,
                            bool *out, rag_error *err) {
  subject s = {.id = id};
  if (metadata.size > 0) {
    RAG_TRY(rag_json_parse(parser, metadata, &s.root, err));
    s.has_root = rag_json_type_of(s.root) == RAG_JSON_OBJECT;
  }
  *out = holds(filter, &s);
  return RAG_OK;
}
