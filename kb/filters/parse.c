// The filter grammar, from JSON text to conditions in an arena.
//
//   filter    {"must": C|[C..], "should": C|[C..], "must_not": C|[C..],
//              "min_should": {"conditions": C|[C..], "min_count": n >= 1}}
//   C         field | {"is_empty": {"key": K}} | {"is_null": {"key": K}} | {"has_id": [id..]}
//             | {"nested": {"key": K, "filter": filter}} | filter
//   field     {"key": K, and one of
//               "match": {"value": string|integer|bool} | {"any": [..]} | {"except": [..]} | {"text": s}
//                        | {"text_any": s} | {"phrase": s} | {"prefix": s}
//               "range": {"gt", "gte", "lt", "lte"}        all numbers, or all times
//               "geo_radius": {"center": {lat, lon}, "radius": metres}
//               "geo_bounding_box": {"top_left": {lat, lon}, "bottom_right": {lat, lon}}
//               "geo_polygon": {"exterior": {"points": [..]}, "interiors": [{"points": [..]}]}
//               "values_count": {"gt", "gte", "lt", "lte"}
//               "is_empty": bool, "is_null": bool}
//   K         names joined by dots, each with any number of [] or [n]; a name is letters, digits, _ and -, or "quoted"
//
// Any other member is an error, at every level; a member that is null counts as absent where it may be absent.
//
// Bounds: depth, conditions, list values and key length are limited (kb.h), so a hostile filter costs what its text
// costs. What it means is in filters/match.c.
#include "kb/filters/filters_internal.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct parser {
  rag_arena *arena;
  rag_error *err;
  uint32_t conditions, values;
  bool inside_nested;
} parser;

// Where we are in the filter, for messages: a list from the innermost place out, on the stack.
typedef struct place {
  const struct place *outer;
  const char *name;
  int64_t index; // -1: none
} place;

static size_t place_text(const place *at, char *out, size_t capacity) {
  size_t size = 0;
  if (at->outer != NULL) size = place_text(at->outer, out, capacity);
  const char *dot = size > 0 ? "." : "";
  int n = at->index >= 0 ? snprintf(out + size, capacity - size, "%s%s[%lld]", dot, at->name, (long long)at->index)
                         : snprintf(out + size, capacity - size, "%s%s", dot, at->name);
  return n < 0 ? size : RAG_MIN(size + (size_t)n, capacity - 1);
}

static rag_status RAG_PRINTF(3, 4) bad(const parser *p, const place *at, const char *fmt, ...) {
  char field[RAG_ERROR_FIELD_MAX], text[256];
  va_list args;
  (void)place_text(at, field, sizeof field);
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  return rag_fail_field(p->err, RAG_INVALID_ARGUMENT, field, "%s: %s", field, text);
}

static void *take(parser *p, size_t count, size_t size) {
  return rag_arena_calloc(p->arena, count > 0 ? count : 1, size);
}

static rag_status no_memory(const parser *p) {
  return rag_fail_no_memory(p->err, 0);
}

static rag_status copy(parser *p, rag_slice from, rag_slice *out) {
  char *text = rag_arena_strndup(p->arena, from.data, from.size);
  if (text == NULL) return no_memory(p);
  *out = rag_slice_of(text, from.size);
  return RAG_OK;
}

static rag_status expect(const parser *p, const place *at, rag_json value, rag_json_type type) {
  if (rag_json_type_of(value) == type) return RAG_OK;
  return bad(p, at, "expected %s, got %s", rag_json_type_name(type), rag_json_type_name(rag_json_type_of(value)));
}

// How much of a text a message shows: whole characters.
static int shown(rag_slice text, size_t bytes_max) {
  return (int)rag_utf8_floor(text.data, text.size, RAG_MIN(text.size, bytes_max));
}

static size_t index_of(rag_slice name, const char *const *known, size_t count) { // count: not among them
  size_t i = 0;
  while (i < count && !rag_slice_equal(name, rag_slice_str(known[i]))) i++;
  return i;
}

static rag_status unknown(const parser *p, const place *at, rag_slice name, const char *const *known, size_t count) {
  const char *nearest = NULL;
  unsigned best = 0;
  for (size_t i = 0; i < count; i++) {
    unsigned distance = rag_edit_distance(name, rag_slice_str(known[i]));
    if (distance > 1 + strlen(known[i]) / 3 || (nearest != NULL && distance >= best)) continue; // a far guess misleads
    best = distance;
    nearest = known[i];
  }
  int size = shown(name, 60);
  if (nearest != NULL) return bad(p, at, "unknown member '%.*s'; did you mean '%s'?", size, name.data, nearest);
  return bad(p, at, "unknown member '%.*s'", size, name.data);
}

// An object of these members and no other; which of them must be there is the caller's to say.
static rag_status expect_members(const parser *p, const place *at, rag_json value, const char *const *known,
                                 size_t count) {
  RAG_TRY(expect(p, at, value, RAG_JSON_OBJECT));
  rag_json_iter it = rag_json_iter_of(value);
  while (rag_json_iter_next(&it))
    if (index_of(it.name, known, count) == count) return unknown(p, at, it.name, known, count);
  return RAG_OK;
}

// Finer than rag_json_type_name where the kind of number matters.
static const char *type_in_words(rag_json value) {
  rag_json_type type = rag_json_type_of(value);
  if (type == RAG_JSON_DOUBLE) return "a number with a fraction or an exponent";
  if (type == RAG_JSON_UINT) return "an integer over 2^63 - 1";
  return type == RAG_JSON_INT ? "an integer" : rag_json_type_name(type);
}

// ---------------------------------------------------------------------------------------------- paths

static bool name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         (unsigned char)c >= 0x80;
}

bool rag_kb__filter_plain_name(rag_slice name) {
  size_t i = 0;
  while (i < name.size && name_byte(name.data[i])) i++;
  return i == name.size && i > 0;
}

static bool parse_brackets(rag_slice text, size_t *at, rag_kb__step *out) {
  size_t i = *at + 1;
  if (i < text.size && text.data[i] == ']') {
    *out = (rag_kb__step){.kind = RAG_KB__STEP_EACH};
  } else {
    uint64_t index = 0;
    size_t start = i;
    while (i < text.size && text.data[i] >= '0' && text.data[i] <= '9' && i - start < 9)
      index = index * 10 + (uint64_t)(text.data[i++] - '0');
    if (i == start || i >= text.size || text.data[i] != ']') return false;
    *out = (rag_kb__step){.kind = RAG_KB__STEP_INDEX, .index = (uint32_t)index};
  }
  *at = i + 1;
  return true;
}

static bool parse_name(rag_slice text, size_t *at, rag_kb__step *out) {
  size_t i = *at, start = i;
  if (i < text.size && text.data[i] == '"') {
    start = ++i;
    while (i < text.size && text.data[i] != '"') i++;
    if (i >= text.size || i == start) return false;
    *out = (rag_kb__step){.kind = RAG_KB__STEP_NAME, .name = rag_slice_of(text.data + start, i - start)};
    *at = i + 1;
    return true;
  }
  while (i < text.size && name_byte(text.data[i])) i++;
  if (i == start) return false;
  *out = (rag_kb__step){.kind = RAG_KB__STEP_NAME, .name = rag_slice_of(text.data + start, i - start)};
  *at = i;
  return true;
}

// add_each: the key of nested, which means the elements of the array that it leads to.
static rag_status parse_path_text(parser *p, const place *at, rag_slice text, bool add_each, rag_kb__path *out) {
  if (text.size == 0 || text.size > RAG_FILTER_KEY_BYTES_MAX)
    return bad(p, at, "a key is 1 to %u bytes", RAG_FILTER_KEY_BYTES_MAX);
  RAG_TRY(copy(p, text, &text));
  // The first step takes a byte or more, each other two or more; add_each adds one.
  rag_kb__step *steps = take(p, text.size / 2 + 2, sizeof *steps);
  if (steps == NULL) return no_memory(p);
  uint32_t count = 0;
  size_t i = 0;
  bool good = parse_name(text, &i, &steps[count++]);
  while (good && i < text.size) {
    if (text.data[i] == '[') {
      good = parse_brackets(text, &i, &steps[count]);
    } else if (text.data[i] == '.') {
      i++;
      good = parse_name(text, &i, &steps[count]);
    } else {
      good = false;
    }
    count++;
  }
  if (!good)
    return bad(p, at,
               "'%.*s' is not a key: names joined by dots, with [] or [n] for arrays; quote odd names: "
               "a.\"b c\"",
               shown(text, 80), text.data);
  if (add_each && steps[count - 1].kind != RAG_KB__STEP_EACH)
    steps[count++] = (rag_kb__step){.kind = RAG_KB__STEP_EACH};
  *out = (rag_kb__path){steps, count, text};
  return RAG_OK;
}

static rag_status parse_path(parser *p, const place *at, rag_json value, bool add_each, rag_kb__path *out) {
  place here = {at, "key", -1};
  RAG_TRY(expect(p, &here, value, RAG_JSON_STRING));
  return parse_path_text(p, &here, rag_json_string(value), add_each, out);
}

rag_status rag_kb__filter_path(rag_slice text, rag_arena *arena, rag_kb__path *out, rag_error *err) {
  parser p = {.arena = arena, .err = err};
  place root = {NULL, "field", -1};
  return parse_path_text(&p, &root, text, false, out);
}

// ---------------------------------------------------------------------------------------------- values

static int compare_slices(const void *a, const void *b) {
  return rag_slice_compare(*(const rag_slice *)a, *(const rag_slice *)b);
}

static int compare_ints(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static rag_status count_values(parser *p, const place *at, size_t count) {
  if (count > RAG_FILTER_VALUES_MAX - p->values)
    return bad(p, at, "a filter's lists hold at most %u values together", RAG_FILTER_VALUES_MAX);
  p->values += (uint32_t)count;
  return RAG_OK;
}

// A list of strings or of integers (or one of them), into a condition of the given kinds.
static rag_status parse_list(parser *p, const place *at, rag_json list, rag_kb__condition_kind strings,
                             rag_kb__condition_kind ints, rag_kb__condition *out) {
  RAG_TRY(expect(p, at, list, RAG_JSON_ARRAY));
  size_t size = rag_json_size(list);
  RAG_TRY(count_values(p, at, size));
  rag_json_iter it = rag_json_iter_of(list);
  size_t count = 0;
  rag_json_type first = RAG_JSON_STRING;
  while (rag_json_iter_next(&it)) {
    rag_json_type type = rag_json_type_of(it.value);
    place one = {at->outer, at->name, (int64_t)count};
    if (type != RAG_JSON_STRING && type != RAG_JSON_INT)
      return bad(p, &one, "a list holds strings or integers, not %s", type_in_words(it.value));
    if (count == 0) first = type;
    if (type != first) return bad(p, &one, "a list holds strings or integers, not both");
    if (count == 0 && type == RAG_JSON_STRING) out->as.strings.items = take(p, size, sizeof(rag_slice));
    if (count == 0 && type == RAG_JSON_INT) out->as.ints.items = take(p, size, sizeof(int64_t));
    if (type == RAG_JSON_STRING) {
      if (out->as.strings.items == NULL) return no_memory(p);
      RAG_TRY(copy(p, rag_json_string(it.value), &out->as.strings.items[count]));
    } else {
      if (out->as.ints.items == NULL) return no_memory(p);
      out->as.ints.items[count] = rag_json_int(it.value);
    }
    count++;
  }
  if (first == RAG_JSON_INT) {
    out->kind = ints;
    out->as.ints.count = (uint32_t)count;
    if (count > 1) qsort(out->as.ints.items, count, sizeof(int64_t), compare_ints);
  } else {
    out->kind = strings;
    out->as.strings.count = (uint32_t)count;
    if (count > 1) qsort(out->as.strings.items, count, sizeof(rag_slice), compare_slices);
  }
  return RAG_OK;
}

static rag_status parse_one_value(parser *p, const place *at, rag_json value, rag_kb__condition *out) {
  switch (rag_json_type_of(value)) {
  case RAG_JSON_BOOL:
    out->kind = RAG_KB__MATCH_BOOL;
    out->as.flag = rag_json_bool(value);
    return RAG_OK;
  case RAG_JSON_INT:
    out->kind = RAG_KB__MATCH_INTS;
    out->as.ints.items = take(p, 1, sizeof(int64_t));
    out->as.ints.count = 1;
    if (out->as.ints.items == NULL) return no_memory(p);
    out->as.ints.items[0] = rag_json_int(value);
    return RAG_OK;
  case RAG_JSON_STRING:
    out->kind = RAG_KB__MATCH_STRINGS;
    out->as.strings.items = take(p, 1, sizeof(rag_slice));
    out->as.strings.count = 1;
    if (out->as.strings.items == NULL) return no_memory(p);
    return copy(p, rag_json_string(value), &out->as.strings.items[0]);
  case RAG_JSON_DOUBLE:
    return bad(p, at, "a number with a fraction is not matched by equality; use range {\"gte\": x, \"lte\": x}");
  default:
    return bad(p, at, "expected a string, an integer or a boolean, got %s", type_in_words(value));
  }
}

// Words of a text, split at ASCII white space, for text_any.
static bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static rag_status parse_words(parser *p, const place *at, rag_slice text, rag_kb__condition *out) {
  rag_slice *words = take(p, text.size / 2 + 1, sizeof *words);
  if (words == NULL) return no_memory(p);
  uint32_t count = 0;
  for (size_t i = 0; i < text.size;) {
    while (i < text.size && is_space(text.data[i])) i++;
    size_t start = i;
    while (i < text.size && !is_space(text.data[i])) i++;
    if (i > start) words[count++] = rag_slice_of(text.data + start, i - start);
  }
  RAG_TRY(count_values(p, at, count));
  out->kind = RAG_KB__MATCH_TEXT_ANY;
  out->as.strings.items = words;
  out->as.strings.count = count;
  return RAG_OK;
}

static rag_status parse_match(parser *p, const place *outer, rag_json match, rag_kb__condition *out) {
  static const char *const known[] = {"value", "any", "except", "text", "text_any", "phrase", "prefix"};
  enum { VALUE, ANY, EXCEPT, TEXT, TEXT_ANY, PHRASE, PREFIX };
  place at = {outer, "match", -1};
  RAG_TRY(expect_members(p, &at, match, known, RAG_COUNT_OF(known)));
  size_t which = RAG_COUNT_OF(known);
  rag_json value = match;
  rag_json_iter it = rag_json_iter_of(match);
  while (rag_json_iter_next(&it)) {
    if (rag_json_type_of(it.value) == RAG_JSON_NULL) continue; // as clients send it
    if (which < RAG_COUNT_OF(known)) return bad(p, &at, "has several members; a match has one");
    which = index_of(it.name, known, RAG_COUNT_OF(known));
    value = it.value;
  }
  if (which == RAG_COUNT_OF(known))
    return bad(p, &at, "is empty; give one of value, any, except, text, text_any, phrase, prefix");
  place inner = {&at, known[which], -1};
  if (which == VALUE) return parse_one_value(p, &inner, value, out);
  if (which == ANY) return parse_list(p, &inner, value, RAG_KB__MATCH_STRINGS, RAG_KB__MATCH_INTS, out);
  if (which == EXCEPT) return parse_list(p, &inner, value, RAG_KB__EXCEPT_STRINGS, RAG_KB__EXCEPT_INTS, out);
  RAG_TRY(expect(p, &inner, value, RAG_JSON_STRING));
  RAG_TRY(copy(p, rag_json_string(value), &out->as.text));
  if (which == TEXT_ANY) return parse_words(p, &inner, out->as.text, out);
  out->kind = which == PREFIX ? RAG_KB__MATCH_PREFIX : RAG_KB__MATCH_TEXT; // text and phrase: contains
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- ranges

static bool digits(rag_slice s, size_t at, size_t count) {
  if (at + count > s.size) return false;
  for (size_t i = at; i < at + count; i++)
    if (s.data[i] < '0' || s.data[i] > '9') return false;
  return true;
}

bool rag_kb__filter_time(rag_slice text, int64_t *out_us) {
  char whole[64];
  size_t size = text.size;
  if (size < 10 || size > 40) return false;
  memcpy(whole, text.data, size);
  if (size > 10) {
    rag_slice s = rag_slice_of(whole, size);
    if (whole[10] == ' ') whole[10] = 'T';
    if (size >= 16 && whole[13] == ':' && digits(s, 14, 2) && (size == 16 || strchr("Zz+-", whole[16]) != NULL)) {
      memmove(whole + 19, whole + 16, size - 16); // no seconds
      memcpy(whole + 16, ":00", 3);
      size += 3;
    }
    if (size > 20 && whole[19] == '.') { // finer than a microsecond: cut, as other programs print nanoseconds
      size_t end = 20;
      while (end < size && whole[end] >= '0' && whole[end] <= '9') end++;
      if (end > 26) {
        memmove(whole + 26, whole + end, size - end);
        size -= end - 26;
      }
    }
    s.size = size;
    if ((whole[size - 5] == '+' || whole[size - 5] == '-') && digits(s, size - 4, 4)) { // +HHMM
      memmove(whole + size - 1, whole + size - 2, 2);
      whole[size - 2] = ':';
      size++;
    }
    char last = whole[size - 1];
    bool zone = last == 'Z' || last == 'z' || whole[size - 6] == '+' || whole[size - 6] == '-';
    if (!zone) whole[size++] = 'Z';
  }
  return rag_time_parse(rag_slice_of(whole, size), out_us, NULL) == RAG_OK;
}

static rag_status parse_bounds(parser *p, const place *outer, const char *what, rag_json range, bool times_too,
                               rag_kb__condition *out) {
  static const char *const known[] = {"gt", "gte", "lt", "lte"};
  place at = {outer, what, -1};
  RAG_TRY(expect(p, &at, range, RAG_JSON_OBJECT));
  rag_kb__bounds *bounds = &out->as.bounds;
  bool numbers = false, times = false;
  rag_json_iter it = rag_json_iter_of(range);
  while (rag_json_iter_next(&it)) {
    size_t which = index_of(it.name, known, RAG_COUNT_OF(known));
    if (which == RAG_COUNT_OF(known)) return unknown(p, &at, it.name, known, RAG_COUNT_OF(known));
    place end = {&at, known[which], -1};
    rag_json_type type = rag_json_type_of(it.value);
    if (type == RAG_JSON_NULL) continue; // as clients send it
    double number = 0;
    int64_t time_us = 0;
    if (type == RAG_JSON_STRING && times_too) {
      rag_slice text = rag_json_string(it.value);
      if (!rag_kb__filter_time(text, &time_us))
        return bad(p, &end, "'%.*s' is not a time; write 2026-01-31T10:00:00Z", shown(text, 40), text.data);
      times = true;
    } else if (type == RAG_JSON_INT || type == RAG_JSON_UINT || type == RAG_JSON_DOUBLE) {
      number = rag_json_double(it.value);
      numbers = true;
    } else {
      return bad(p, &end, "expected %s, got %s", times_too ? "a number or a time" : "a number",
                 rag_json_type_name(type));
    }
    if (which < 2) {
      if (bounds->has_low) return bad(p, &at, "has both gt and gte; keep one");
      bounds->has_low = true;
      bounds->low_open = which == 0;
      bounds->low = number;
      bounds->low_us = time_us;
    } else {
      if (bounds->has_high) return bad(p, &at, "has both lt and lte; keep one");
      bounds->has_high = true;
      bounds->high_open = which == 2;
      bounds->high = number;
      bounds->high_us = time_us;
    }
  }
  if (numbers && times) return bad(p, &at, "mixes numbers and times; its ends must be of one kind");
  if (!numbers && !times) return bad(p, &at, "is empty; give gt, gte, lt or lte");
  out->kind = times ? RAG_KB__RANGE_TIME : RAG_KB__RANGE_NUMBER;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- geography

static rag_status parse_number(const parser *p, const place *outer, rag_json object, const char *name, double *out) {
  place at = {outer, name, -1};
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value)) return bad(p, &at, "is missing");
  rag_json_type type = rag_json_type_of(value);
  if (type != RAG_JSON_INT && type != RAG_JSON_UINT && type != RAG_JSON_DOUBLE)
    return bad(p, &at, "expected a number, got %s", rag_json_type_name(type));
  *out = rag_json_double(value);
  return RAG_OK;
}

static rag_status parse_point(const parser *p, const place *at, rag_json value, rag_kb__point *out) {
  static const char *const known[] = {"lat", "lon"};
  RAG_TRY(expect_members(p, at, value, known, RAG_COUNT_OF(known)));
  RAG_TRY(parse_number(p, at, value, "lat", &out->lat));
  RAG_TRY(parse_number(p, at, value, "lon", &out->lon));
  if (!(out->lat >= -90 && out->lat <= 90) || !(out->lon >= -180 && out->lon <= 180))
    return bad(p, at, "latitude is -90 to 90, longitude -180 to 180");
  return RAG_OK;
}

static rag_status parse_member_point(const parser *p, const place *outer, rag_json object, const char *name,
                                     rag_kb__point *out) {
  place at = {outer, name, -1};
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value)) return bad(p, &at, "is missing");
  return parse_point(p, &at, value, out);
}

static rag_status parse_ring(parser *p, const place *outer, rag_json value, rag_kb__ring *out) {
  static const char *const known[] = {"points"};
  place at = {outer, "points", -1};
  rag_json points;
  RAG_TRY(expect_members(p, outer, value, known, RAG_COUNT_OF(known)));
  if (!rag_json_find(value, rag_slice_str("points"), &points)) return bad(p, &at, "is missing");
  RAG_TRY(expect(p, &at, points, RAG_JSON_ARRAY));
  size_t count = rag_json_size(points), i = 0;
  RAG_TRY(count_values(p, &at, count));
  out->points = take(p, count, sizeof *out->points);
  if (out->points == NULL) return no_memory(p);
  rag_json_iter it = rag_json_iter_of(points);
  while (rag_json_iter_next(&it)) {
    place one = {outer, "points", (int64_t)i};
    RAG_TRY(parse_point(p, &one, it.value, &out->points[i++]));
  }
  if (count < 4 || out->points[0].lat != out->points[count - 1].lat || out->points[0].lon != out->points[count - 1].lon)
    return bad(p, &at, "a ring has at least four points, and the last is the first");
  out->count = (uint32_t)count;
  return RAG_OK;
}

static rag_status parse_polygon(parser *p, const place *outer, rag_json value, rag_kb__condition *out) {
  static const char *const known[] = {"exterior", "interiors"};
  place at = {outer, "geo_polygon", -1};
  place exterior_at = {&at, "exterior", -1};
  rag_json exterior, interiors;
  RAG_TRY(expect_members(p, &at, value, known, RAG_COUNT_OF(known)));
  if (!rag_json_find(value, rag_slice_str("exterior"), &exterior)) return bad(p, &exterior_at, "is missing");
  out->kind = RAG_KB__GEO_POLYGON;
  RAG_TRY(parse_ring(p, &exterior_at, exterior, &out->as.polygon.exterior));
  if (!rag_json_find(value, rag_slice_str("interiors"), &interiors) || rag_json_type_of(interiors) == RAG_JSON_NULL)
    return RAG_OK;
  place interiors_at = {&at, "interiors", -1};
  RAG_TRY(expect(p, &interiors_at, interiors, RAG_JSON_ARRAY));
  size_t count = rag_json_size(interiors), i = 0;
  RAG_TRY(count_values(p, &interiors_at, count));
  out->as.polygon.interiors = take(p, count, sizeof(rag_kb__ring));
  if (out->as.polygon.interiors == NULL) return no_memory(p);
  rag_json_iter it = rag_json_iter_of(interiors);
  while (rag_json_iter_next(&it)) {
    place one = {&at, "interiors", (int64_t)i};
    RAG_TRY(parse_ring(p, &one, it.value, &out->as.polygon.interiors[i++]));
  }
  out->as.polygon.interior_count = (uint32_t)count;
  return RAG_OK;
}

static rag_status parse_geo(parser *p, const place *outer, bool box, rag_json value, rag_kb__condition *out) {
  static const char *const of_box[] = {"top_left", "bottom_right"}, *const of_circle[] = {"center", "radius"};
  place at = {outer, box ? "geo_bounding_box" : "geo_radius", -1};
  RAG_TRY(expect_members(p, &at, value, box ? of_box : of_circle, 2));
  if (box) {
    out->kind = RAG_KB__GEO_BOX;
    RAG_TRY(parse_member_point(p, &at, value, "top_left", &out->as.box.top_left));
    return parse_member_point(p, &at, value, "bottom_right", &out->as.box.bottom_right);
  }
  out->kind = RAG_KB__GEO_RADIUS;
  RAG_TRY(parse_member_point(p, &at, value, "center", &out->as.circle.center));
  RAG_TRY(parse_number(p, &at, value, "radius", &out->as.circle.radius_m));
  place radius_at = {&at, "radius", -1};
  if (!(out->as.circle.radius_m >= 0)) return bad(p, &radius_at, "a radius is 0 or more metres");
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- conditions

static rag_status parse_filter(parser *p, const place *at, rag_json value, unsigned depth, const rag_filter **out);

static rag_status parse_field(parser *p, const place *at, rag_json value, rag_kb__condition *out) {
  static const char *const known[] = {"key",         "match",        "range",    "geo_radius", "geo_bounding_box",
                                      "geo_polygon", "values_count", "is_empty", "is_null"};
  rag_json_iter it = rag_json_iter_of(value);
  unsigned tests = 0;
  while (rag_json_iter_next(&it)) {
    size_t which = index_of(it.name, known, RAG_COUNT_OF(known));
    if (which == RAG_COUNT_OF(known)) return unknown(p, at, it.name, known, RAG_COUNT_OF(known));
    if (which == 0) {
      RAG_TRY(parse_path(p, at, it.value, false, &out->path));
      continue;
    }
    if (rag_json_type_of(it.value) == RAG_JSON_NULL) continue; // as clients send it
    if (tests++ > 0) return bad(p, at, "has several tests for one key; write one condition for each");
    switch (which) {
    case 1:
      RAG_TRY(parse_match(p, at, it.value, out));
      break;
    case 2:
      RAG_TRY(parse_bounds(p, at, "range", it.value, true, out));
      break;
    case 3:
      RAG_TRY(parse_geo(p, at, false, it.value, out));
      break;
    case 4:
      RAG_TRY(parse_geo(p, at, true, it.value, out));
      break;
    case 5:
      RAG_TRY(parse_polygon(p, at, it.value, out));
      break;
    case 6:
      RAG_TRY(parse_bounds(p, at, "values_count", it.value, false, out));
      out->kind = RAG_KB__VALUES_COUNT;
      break;
    default: {
      place flag_at = {at, known[which], -1};
      RAG_TRY(expect(p, &flag_at, it.value, RAG_JSON_BOOL));
      out->kind = which == 7 ? RAG_KB__IS_EMPTY : RAG_KB__IS_NULL;
      out->expected = rag_json_bool(it.value);
      out->as.elements = which == 8;
    }
    }
  }
  if (tests == 0)
    return bad(p, at,
               "has a key and no test; give match, range, geo_radius, geo_bounding_box, geo_polygon, "
               "values_count, is_empty or is_null");
  return RAG_OK;
}

static rag_status parse_ids(parser *p, const place *outer, rag_json list, rag_kb__condition *out) {
  place at = {outer, "has_id", -1};
  if (p->inside_nested) return bad(p, &at, "has_id is about documents and cannot stand inside nested");
  RAG_TRY(expect(p, &at, list, RAG_JSON_ARRAY));
  size_t size = rag_json_size(list), count = 0;
  RAG_TRY(count_values(p, &at, size));
  out->kind = RAG_KB__HAS_ID;
  out->as.strings.items = take(p, size, sizeof(rag_slice));
  if (out->as.strings.items == NULL) return no_memory(p);
  rag_json_iter it = rag_json_iter_of(list);
  while (rag_json_iter_next(&it)) {
    rag_json_type type = rag_json_type_of(it.value);
    rag_slice *id = &out->as.strings.items[count++];
    if (type == RAG_JSON_STRING) {
      RAG_TRY(copy(p, rag_json_string(it.value), id));
    } else if (type == RAG_JSON_INT || type == RAG_JSON_UINT) { // ids that were numbers elsewhere
      char *text = type == RAG_JSON_INT
                       ? rag_arena_printf(p->arena, "%lld", (long long)rag_json_int(it.value))
                       : rag_arena_printf(p->arena, "%llu", (unsigned long long)rag_json_uint(it.value));
      if (text == NULL) return no_memory(p);
      *id = rag_slice_str(text);
    } else {
      place one = {outer, "has_id", (int64_t)count - 1};
      return bad(p, &one, "an id is a string or an integer, not %s", type_in_words(it.value));
    }
  }
  out->as.strings.count = (uint32_t)count;
  if (count > 1) qsort(out->as.strings.items, count, sizeof(rag_slice), compare_slices);
  return RAG_OK;
}

static rag_status parse_key_only(parser *p, const place *outer, const char *name, rag_json value,
                                 rag_kb__condition *out) {
  static const char *const known[] = {"key"};
  place at = {outer, name, -1};
  rag_json key;
  RAG_TRY(expect_members(p, &at, value, known, RAG_COUNT_OF(known)));
  if (!rag_json_find(value, rag_slice_str("key"), &key)) return bad(p, &at, "'key' is missing");
  out->expected = true;
  return parse_path(p, &at, key, false, &out->path);
}

static rag_status parse_nested(parser *p, const place *outer, rag_json value, unsigned depth, rag_kb__condition *out) {
  static const char *const known[] = {"key", "filter"};
  place at = {outer, "nested", -1};
  rag_json key, filter;
  RAG_TRY(expect_members(p, &at, value, known, RAG_COUNT_OF(known)));
  if (!rag_json_find(value, rag_slice_str("key"), &key)) return bad(p, &at, "'key' is missing");
  if (!rag_json_find(value, rag_slice_str("filter"), &filter)) return bad(p, &at, "'filter' is missing");
  RAG_TRY(parse_path(p, &at, key, true, &out->path));
  out->kind = RAG_KB__NESTED;
  bool before = p->inside_nested;
  p->inside_nested = true;
  place filter_at = {&at, "filter", -1};
  rag_status status = parse_filter(p, &filter_at, filter, depth + 1, &out->as.filter);
  p->inside_nested = before;
  return status;
}

static rag_status parse_condition(parser *p, const place *at, rag_json value, unsigned depth, rag_kb__condition *out) {
  rag_json member;
  RAG_TRY(expect(p, at, value, RAG_JSON_OBJECT));
  if (++p->conditions > RAG_FILTER_CONDITIONS_MAX)
    return bad(p, at, "a filter has at most %u conditions; use match.any for lists", RAG_FILTER_CONDITIONS_MAX);
  if (rag_json_find(value, rag_slice_str("key"), &member)) return parse_field(p, at, value, out);
  if (rag_json_size(value) == 1) {
    if (rag_json_find(value, rag_slice_str("has_id"), &member)) return parse_ids(p, at, member, out);
    if (rag_json_find(value, rag_slice_str("nested"), &member)) return parse_nested(p, at, member, depth, out);
    if (rag_json_find(value, rag_slice_str("is_empty"), &member)) {
      out->kind = RAG_KB__IS_EMPTY;
      return parse_key_only(p, at, "is_empty", member, out);
    }
    if (rag_json_find(value, rag_slice_str("is_null"), &member)) {
      out->kind = RAG_KB__IS_NULL;
      return parse_key_only(p, at, "is_null", member, out);
    }
  }
  out->kind = RAG_KB__FILTER;
  return parse_filter(p, at, value, depth + 1, &out->as.filter);
}

static rag_status parse_conditions(parser *p, const place *outer, const char *name, rag_json value, unsigned depth,
                                   rag_kb__conditions *out) {
  bool list = rag_json_type_of(value) == RAG_JSON_ARRAY;
  size_t count = list ? rag_json_size(value) : 1;
  place bare = {outer, name, -1};
  if (count > RAG_FILTER_CONDITIONS_MAX)
    return bad(p, &bare, "a filter has at most %u conditions; use match.any for lists", RAG_FILTER_CONDITIONS_MAX);
  out->items = take(p, count, sizeof *out->items);
  if (out->items == NULL) return no_memory(p);
  out->count = (uint32_t)count;
  if (!list) return parse_condition(p, &bare, value, depth, &out->items[0]);
  rag_json_iter it = rag_json_iter_of(value);
  for (size_t i = 0; rag_json_iter_next(&it); i++) {
    place at = {outer, name, (int64_t)i};
    RAG_TRY(parse_condition(p, &at, it.value, depth, &out->items[i]));
  }
  return RAG_OK;
}

static rag_status parse_min_should(parser *p, const place *outer, rag_json value, unsigned depth, rag_filter *out) {
  static const char *const known[] = {"conditions", "min_count"};
  place at = {outer, "min_should", -1};
  place count_at = {&at, "min_count", -1};
  rag_json conditions, count;
  RAG_TRY(expect_members(p, &at, value, known, RAG_COUNT_OF(known)));
  if (!rag_json_find(value, rag_slice_str("conditions"), &conditions)) return bad(p, &at, "'conditions' is missing");
  if (!rag_json_find(value, rag_slice_str("min_count"), &count)) return bad(p, &at, "'min_count' is missing");
  if (rag_json_type_of(count) != RAG_JSON_INT)
    return bad(p, &count_at, "expected an integer, got %s", type_in_words(count));
  int64_t n = rag_json_int(count);
  if (n < 1 || n > RAG_FILTER_CONDITIONS_MAX) return bad(p, &count_at, "is 1 to %u", RAG_FILTER_CONDITIONS_MAX);
  out->min_count = (uint32_t)n;
  out->has_min_should = true;
  return parse_conditions(p, &at, "conditions", conditions, depth, &out->min_should);
}

// A member that is no part of a filter. Those that are conditions, or parts of one, were put in the wrong place.
static rag_status not_a_part(const parser *p, const place *at, rag_slice name) {
  static const char *const known[] = {"key",          "has_id", "nested",     "is_null",          "is_empty",
                                      "match",        "range",  "geo_radius", "geo_bounding_box", "geo_polygon",
                                      "values_count", "must",   "should",     "must_not",         "min_should"};
  size_t which = index_of(name, known, RAG_COUNT_OF(known));
  if (which == RAG_COUNT_OF(known)) return unknown(p, at, name, known, RAG_COUNT_OF(known));
  if (which < 5)
    return bad(p, at, "'%s' makes a condition, which stands alone in a list: {\"must\": [{\"%s\": ...}]}", known[which],
               known[which]);
  return bad(p, at, "'%s' has no 'key' beside it: {\"key\": \"lang\", \"%s\": ...}", known[which], known[which]);
}

static rag_status parse_filter(parser *p, const place *at, rag_json value, unsigned depth, const rag_filter **out) {
  static const char *const known[] = {"must", "should", "must_not", "min_should"};
  if (depth > RAG_FILTER_DEPTH_MAX) return bad(p, at, "filters nest at most %u deep", RAG_FILTER_DEPTH_MAX);
  RAG_TRY(expect(p, at, value, RAG_JSON_OBJECT));
  rag_filter *filter = take(p, 1, sizeof *filter);
  if (filter == NULL) return no_memory(p);
  rag_json_iter it = rag_json_iter_of(value);
  while (rag_json_iter_next(&it)) {
    size_t which = index_of(it.name, known, RAG_COUNT_OF(known));
    if (which == RAG_COUNT_OF(known)) return not_a_part(p, at, it.name);
    if (rag_json_type_of(it.value) == RAG_JSON_NULL) continue; // as clients send it
    switch (which) {
    case 0:
      RAG_TRY(parse_conditions(p, at, "must", it.value, depth, &filter->must));
      break;
    case 1:
      filter->has_should = true;
      RAG_TRY(parse_conditions(p, at, "should", it.value, depth, &filter->should));
      break;
    case 2:
      RAG_TRY(parse_conditions(p, at, "must_not", it.value, depth, &filter->must_not));
      break;
    default:
      RAG_TRY(parse_min_should(p, at, it.value, depth, filter));
    }
  }
  *out = filter;
  return RAG_OK;
}

// The reader of JSON names places within the text; here that text is the member "filter" of something.
static rag_status bad_json(rag_status status, const rag_error *inner, rag_error *err) {
  char field[RAG_ERROR_FIELD_MAX + 8];
  const char *dot = inner->field[0] != '\0' && inner->field[0] != '[' ? "." : "";
  snprintf(field, sizeof field, "filter%s%s", dot, inner->field);
  return rag_fail_field(err, status, field, "filter: %s", inner->message);
}

rag_status rag_filter_parse(rag_slice json, rag_arena *arena, const rag_filter **out, rag_error *err) {
  parser p = {.arena = arena, .err = err};
  place root = {NULL, "filter", -1};
  rag_error inner = {0};
  if (json.size == 0) json = rag_slice_str("{}");
  rag_json_parser *text = rag_json_parser_acquire();
  if (text == NULL) return rag_fail_no_memory(err, 0);
  rag_json value;
  rag_status status = rag_json_parse(text, json, &value, &inner);
  const rag_filter *filter = NULL;
  status = status == RAG_OK ? parse_filter(&p, &root, value, 1, &filter) : bad_json(status, &inner, err);
  rag_json_parser_release(text);
  if (status != RAG_OK) return status;
  ((rag_filter *)filter)->digest = rag_digest_of(json.data, json.size); // nobody else has seen it yet
  *out = filter;
  return RAG_OK;
}

rag_digest rag_filter_digest(const rag_filter *filter) {
  return filter->digest;
}
