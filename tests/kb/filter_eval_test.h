// Helpers of the tests of filters over field indexes: documents that nobody chose, filters that bite on them, and the
// truth, which is rag_filter_match on every live revision.
#ifndef RAGD_TESTS_FILTER_EVAL_TEST_H
#define RAGD_TESTS_FILTER_EVAL_TEST_H

#include "filter_test.h"

#include "kb/filters/filters_internal.h"

#define DOCS_MAX 4000u

typedef struct doc {
  uint32_t revision;
  char id[16];
  rag_buf metadata;
} doc;
typedef struct world {
  doc docs[DOCS_MAX]; // ascending by revision
  uint32_t count;
  rag_fields *fields;
  uint64_t fetched;
} world;

static uint64_t seed;

static inline uint32_t draw(uint32_t below) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 33) % below);
}
#define PICK(list) (list)[draw((uint32_t)RAG_COUNT_OF(list))]

static inline uint64_t from_environment(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

// ---------------------------------------------------------------------------------------------- random texts

static const char *const names[] = {"a", "b", "c", "\"x y\"", "\xC3\xBC"};
static const char *const bare_names[] = {"a", "b", "c", "x y", "\xC3\xBC"};
static const char *const strings[] = {"\"\"",
                                      "\"red\"",
                                      "\"redder\"",
                                      "\"green wine\"",
                                      "\"a string that is longer than a tiny limit\"",
                                      "\"2024-01-01\"",
                                      "\"2024-01-01T10:00:00Z\"",
                                      "\"2024-01-01 12:00+0200\"",
                                      "\"2023-12-31T23:30:00-01:00\"",
                                      "\"1969-12-31 23:59:59\"",
                                      "\"1\"",
                                      "\"2024-13-01T10:00:00Z\""};
static const char *const integers[] = {
    "0", "1", "2", "-1", "7", "9007199254740993", "9007199254740992", "9223372036854775807", "-9223372036854775808"};
static const char *const fractions[] = {
    "1.0", "0.5", "-0.0", "1e18", "2.5", "18446744073709551615", "9007199254740993.0"};
static const char *const points[] = {PT(52.5, 13.4),   PT(0, 0),  PT(90, 180),   PT(-33.9, 151.2),
                                     PT(52.51, 13.41), PT(91, 0), PT(10, -179.9)};

static inline void put_scalar(rag_buf *out) {
  switch (draw(8)) {
  case 0:
    rag_buf_append_str(out, "null");
    break;
  case 1:
    rag_buf_append_str(out, draw(2) ? "true" : "false");
    break;
  case 2:
  case 3:
    rag_buf_append_str(out, PICK(integers));
    break;
  case 4:
    rag_buf_append_str(out, PICK(fractions));
    break;
  default:
    rag_buf_append_str(out, PICK(strings));
  }
}

static inline void put_object(rag_buf *out, uint32_t depth);

static inline void put_value(rag_buf *out, uint32_t depth) {
  uint32_t kind = depth > 3 ? 0 : draw(10);
  if (kind < 5) {
    put_scalar(out);
  } else if (kind < 6) {
    rag_buf_append_str(out, PICK(points));
  } else if (kind < 8) {
    put_object(out, depth + 1);
  } else {
    uint32_t count = draw(4);
    bool same = draw(2) == 1, objects = draw(2) == 1;
    rag_buf_append_char(out, '[');
    for (uint32_t i = 0; i < count; i++) {
      if (i > 0) rag_buf_append_char(out, ',');
      if (same && objects) put_object(out, depth + 1);
      else if (same) put_scalar(out);
      else put_value(out, depth + 1);
    }
    rag_buf_append_char(out, ']');
  }
}

static inline void put_object(rag_buf *out, uint32_t depth) {
  bool first = true;
  rag_buf_append_char(out, '{');
  for (uint32_t i = 0; i < RAG_COUNT_OF(bare_names); i++) {
    if (draw(5) >= 2) continue;
    rag_buf_printf(out, "%s\"%s\":", first ? "" : ",", bare_names[i]);
    put_value(out, depth);
    first = false;
  }
  if (draw(60) == 0) rag_buf_printf(out, "%s\"\":1,\"q\\\"q\":[1]", first ? "" : ",");
  rag_buf_append_char(out, '}');
}

static inline void put_key(rag_buf *out) {
  char text[128];
  uint32_t steps = 1 + draw(3);
  size_t size = 0;
  for (uint32_t i = 0; i < steps; i++) {
    size += (size_t)snprintf(text + size, sizeof text - size, "%s%s", i > 0 ? "." : "", PICK(names));
    while (draw(4) == 0)
      size += (size_t)snprintf(text + size, sizeof text - size, "%s", draw(3) ? "[]" : draw(2) ? "[0]" : "[1]");
    if (size > 80) break;
  }
  rag_json_put_string(out, rag_slice_of(text, size));
}

static inline void put_list(rag_buf *out, const char *const *from, uint32_t count) {
  uint32_t n = draw(4);
  rag_buf_append_char(out, '[');
  for (uint32_t i = 0; i < n; i++) rag_buf_printf(out, "%s%s", i > 0 ? "," : "", from[draw(count)]);
  rag_buf_append_char(out, ']');
}

static inline void put_range(rag_buf *out, bool times) {
  static const char *const moments[] = {"\"2024-01-01\"", "\"2024-01-01T10:00:00Z\"", "\"2020-01-01\"",
                                        "\"1969-12-31 23:59:59\""};
  bool low = draw(3) > 0, high = !low || draw(2);
  rag_buf_append_char(out, '{');
  for (int end = 0; end < 2; end++) {
    if (end == 0 ? !low : !high) continue;
    const char *v = times ? PICK(moments) : draw(2) ? PICK(integers) : PICK(fractions);
    rag_buf_printf(out, "%s\"%s%s\":%s", end == 1 && low ? "," : "", end == 0 ? "gt" : "lt", draw(2) ? "e" : "", v);
  }
  rag_buf_append_char(out, '}');
}

static inline void put_filter(rag_buf *out, uint32_t depth);

static inline void put_field_test(rag_buf *out) {
  switch (draw(16)) {
  case 0:
  case 1:
    rag_buf_printf(out, "\"match\":{\"value\":%s}", draw(2) ? PICK(strings) : PICK(integers));
    break;
  case 2:
    rag_buf_printf(out, "\"match\":{\"value\":%s}", draw(2) ? "true" : "false");
    break;
  case 3:
  case 4: {
    rag_buf_printf(out, "\"match\":{\"%s\":", draw(2) ? "any" : "except");
    if (draw(2)) put_list(out, strings, RAG_COUNT_OF(strings));
    else put_list(out, integers, RAG_COUNT_OF(integers));
    rag_buf_append_char(out, '}');
    break;
  }
  case 5: {
    static const char *const texts[] = {"text\":\"re",        "text\":\"",
                                        "text\":\"wine",      "text_any\":\"red green tiny",
                                        "text_any\":\"",      "phrase\":\"0",
                                        "prefix\":\"red",     "prefix\":\"",
                                        "prefix\":\"2024-01", "prefix\":\"a string that is"};
    rag_buf_printf(out, "\"match\":{\"%s\"}", PICK(texts));
    break;
  }
  case 6:
  case 7:
    rag_buf_append_str(out, "\"range\":");
    put_range(out, false);
    break;
  case 8:
  case 9:
    rag_buf_append_str(out, "\"range\":");
    put_range(out, true);
    break;
  case 10:
    rag_buf_append_str(out, "\"values_count\":");
    rag_buf_printf(out, "{\"%s\":%u}", draw(2) ? "gte" : draw(2) ? "lt" : "lte", draw(4));
    break;
  case 11:
    rag_buf_printf(out, "\"is_empty\":%s", draw(2) ? "true" : "false");
    break;
  case 12:
    rag_buf_printf(out, "\"is_null\":%s", draw(2) ? "true" : "false");
    break;
  case 13:
    rag_buf_printf(out, "\"geo_radius\":{\"center\":%s,\"radius\":%u}", points[draw(5)], draw(2) ? 2000 : 15000000);
    break;
  case 14:
    rag_buf_printf(out, "\"geo_bounding_box\":{\"top_left\":%s,\"bottom_right\":%s}",
                   draw(2) ? PT(53, 13) : PT(60, 170), draw(2) ? PT(52, 14) : PT(-40, -170));
    break;
  default:
    rag_buf_printf(out, "\"geo_polygon\":{\"exterior\":{\"points\":%s}}",
                   draw(2) ? SQUARE : "[" PT(50, 10) "," PT(50, 20) "," PT(60, 15) "," PT(50, 10) "]");
  }
}

static inline void put_condition(rag_buf *out, uint32_t depth) {
  uint32_t kind = draw(depth < 3 ? 14 : 10);
  if (kind < 8) {
    rag_buf_append_str(out, "{\"key\":");
    put_key(out);
    rag_buf_append_char(out, ',');
    put_field_test(out);
    rag_buf_append_char(out, '}');
  } else if (kind == 8) {
    rag_buf_append_str(out, "{\"has_id\":[");
    uint32_t count = draw(5);
    for (uint32_t i = 0; i < count; i++) rag_buf_printf(out, "%s\"d%u\"", i > 0 ? "," : "", draw(400));
    rag_buf_append_str(out, "]}");
  } else if (kind < 10) {
    rag_buf_printf(out, "{\"%s\":{\"key\":", draw(2) ? "is_empty" : "is_null");
    put_key(out);
    rag_buf_append_str(out, "}}");
  } else if (kind < 12) {
    rag_buf_append_str(out, "{\"nested\":{\"key\":");
    put_key(out);
    rag_buf_append_str(out, ",\"filter\":");
    rag_buf inner = {0}; // has_id may not stand anywhere inside
    do {
      rag_buf_clear(&inner);
      put_filter(&inner, depth + 1);
      rag_buf_append_char(&inner, '\0');
    } while (strstr(inner.data, "has_id") != NULL);
    rag_buf_append_str(out, inner.data);
    rag_buf_free(&inner);
    rag_buf_append_str(out, "}}");
  } else {
    put_filter(out, depth + 1);
  }
}

static inline void put_conditions(rag_buf *out, uint32_t depth, uint32_t most) {
  uint32_t count = draw(most + 1);
  rag_buf_append_char(out, '[');
  for (uint32_t i = 0; i < count; i++) {
    if (i > 0) rag_buf_append_char(out, ',');
    put_condition(out, depth);
  }
  rag_buf_append_char(out, ']');
}

static inline void put_filter(rag_buf *out, uint32_t depth) {
  bool first = true;
  rag_buf_append_char(out, '{');
  for (uint32_t part = 0; part < 4; part++) {
    static const char *const parts[] = {"must", "should", "must_not", "min_should"};
    if (draw(5) >= (part == 0 ? 3u : 1u)) continue;
    rag_buf_printf(out, "%s\"%s\":", first ? "" : ",", parts[part]);
    first = false;
    if (part == 3) rag_buf_append_str(out, "{\"conditions\":");
    put_conditions(out, depth, part == 0 ? 2 : 4);
    if (part == 3) rag_buf_printf(out, ",\"min_count\":%u}", 1 + draw(3));
  }
  rag_buf_append_char(out, '}');
}

// ---------------------------------------------------------------------------------------------- the world

static inline const doc *doc_of(const world *w, uint32_t revision) {
  uint32_t low = 0, high = w->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (w->docs[middle].revision < revision) low = middle + 1;
    else high = middle;
  }
  assert_true(low < w->count && w->docs[low].revision == revision);
  return &w->docs[low];
}

static inline rag_status get_document(void *context, uint32_t revision, rag_slice *out_id, rag_slice *out_metadata,
                                      rag_error *err) {
  world *w = context;
  const doc *d = doc_of(w, revision);
  RAG_UNUSED(err);
  w->fetched++;
  *out_id = rag_slice_str(d->id);
  *out_metadata = rag_buf_slice(&d->metadata);
  return RAG_OK;
}

// Some other revision than the live one may have the id; then the evaluation has to leave it out.
static inline rag_status find_id(void *context, rag_slice id, bool *out_found, uint32_t *out_revision, rag_error *err) {
  const world *w = context;
  RAG_UNUSED(err);
  *out_found = false;
  for (uint32_t i = 0; i < w->count; i++) {
    if (!rag_slice_equal(rag_slice_str(w->docs[i].id), id)) continue;
    *out_found = true;
    *out_revision = w->docs[i].revision;
  }
  return RAG_OK;
}

static inline void world_free(world *w) {
  for (uint32_t i = 0; i < w->count; i++) rag_buf_free(&w->docs[i].metadata);
  rag_fields_destroy(w->fields);
  free(w);
}

static inline void world_append(world *w, uint32_t first, uint32_t count) {
  rag_kb__fields_row *rows = calloc(count > 0 ? count : 1, sizeof *rows);
  rag_error err = {0};
  for (uint32_t i = 0; i < count; i++)
    rows[i] = (rag_kb__fields_row){w->docs[first + i].revision, rag_buf_slice(&w->docs[first + i].metadata)};
  if (rag_kb__fields_append(w->fields, count, rows, &err) != RAG_OK) fail_msg("%s", err.message);
  free(rows);
}

static inline rag_bitmap *bitmap_of(const world *w, uint32_t share, uint32_t of) { // a random part of the documents
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  for (uint32_t i = 0; i < w->count; i++)
    if (draw(of) < share) assert_int_equal(rag_bitmap_edit_add(edit, w->docs[i].revision), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

// Evaluates and compares with the truth.
static inline void check_filter(world *w, const rag_fields_view *view, const rag_bitmap *live, const char *text,
                                rag_kb__filter_report *out_report) {
  rag_error err = {0};
  rag_kb__filter_report report;
  rag_bitmap *survivors = NULL;
  const rag_filter *filter = parsed(text);
  rag_kb__filter_source source = {
      .fields = view, .live = live, .get_document = get_document, .find_id = find_id, .context = w};
  w->fetched = 0;
  if (rag_kb__filter_eval(filter, &source, &survivors, &report, &err) != RAG_OK) fail_msg("%s: %s", text, err.message);
  uint64_t fetched = w->fetched, expected = 0;
  for (uint32_t i = 0; i < w->count; i++) {
    const doc *d = &w->docs[i];
    bool pass = false, is_live = rag_bitmap_has(live, d->revision);
    assert_int_equal(rag_filter_match(filter, rag_slice_str(d->id), rag_buf_slice(&d->metadata), reader, &pass, NULL),
                     RAG_OK);
    expected += pass && is_live;
    if (rag_bitmap_has(survivors, d->revision) != (pass && is_live))
      fail_msg("seed of the world and this filter: %s\nmetadata: %.*s\nrevision %u %s and %s", text,
               (int)d->metadata.size, d->metadata.data, d->revision, pass ? "passes" : "does not pass",
               is_live ? "is live" : "is not live");
  }
  assert_int_equal(rag_bitmap_count(survivors), expected);
  assert_int_equal(report.survivors, expected);
  assert_int_equal(report.live, rag_bitmap_count(live));
  assert_int_equal(report.verified, fetched);
  assert_int_equal(report.conditions, report.indexed + report.verified_some + report.scans);
  if (report.indexed == report.conditions) assert_int_equal(report.verified, 0);
  if (out_report != NULL) *out_report = report;
  rag_ref_drop(survivors);
}

#endif
