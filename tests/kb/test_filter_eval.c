// Goal: whatever the metadata, the filter, the live set, the limits of the index and its history of appends, merges and
// removals: evaluation gives exactly the live revisions that rag_filter_match lets pass.
//
// Method: worlds of random documents in several blocks, appended in batches of random sizes (also of one), under random
// limits (none, tiny, paths left out), some rows never appended, some removed; random filters at random live sets, each
// compared with matching every document. Then cases that nobody should leave to chance. RAGD_TEST_SEED and
// RAGD_TEST_ROUNDS choose others.
#include "filter_eval_test.h"

static world *make_world(uint32_t count, const rag_fields_options *options) {
  world *w = calloc(1, sizeof *w);
  uint32_t revision = 1;
  assert_int_equal(rag_fields_create(options, &w->fields, NULL), RAG_OK);
  for (uint32_t i = 0; i < count; i++) {
    doc *d = &w->docs[w->count++];
    d->revision = revision;
    snprintf(d->id, sizeof d->id, "d%u", i);
    if (draw(20) > 0) put_object(&d->metadata, 0);
    revision += draw(50) == 0 ? 30000 : 1 + draw(3);
  }
  return w;
}

static void append_all(world *w, bool with_gaps) {
  for (uint32_t at = 0; at < w->count;) {
    uint32_t count = draw(3) == 0 ? 1 + draw(120) : 1 + draw(4);
    count = RAG_MIN(count, w->count - at);
    if (!with_gaps || draw(20) > 0) world_append(w, at, count);
    at += count;
  }
}

static rag_fields_options draw_options(void) {
  static const rag_slice only[] = {{"a", 1}, {"b", 1}, {"c.a", 3}}, except[] = {{"b", 1}, {"a[]", 3}, {"c.a", 3}};
  rag_fields_options options = {0};
  switch (draw(4)) {
  case 0:
    options.strings_max = 1 + draw(4);
    options.string_bytes_max = 1 + draw(12);
    break;
  case 1:
    options.paths_max = 1 + draw(12);
    options.row_values_max = 1 + draw(6);
    break;
  case 2:
    if (draw(2)) options.only = only, options.only_count = 1 + draw(3);
    else options.except = except, options.except_count = 1 + draw(3);
    break;
  default:
    break;
  }
  return options;
}

static void test_random_worlds(void **state) {
  RAG_UNUSED(state);
  uint64_t first = from_environment("RAGD_TEST_SEED", 1), rounds = from_environment("RAGD_TEST_ROUNDS", 24);
  uint64_t indexed = 0, verified = 0, scans = 0;
  for (uint64_t round = 0; round < rounds; round++) {
    seed = (first + round) * 7919;
    rag_fields_options options = draw_options();
    world *w = make_world(100 + draw(300), &options);
    append_all(w, draw(4) == 0);
    rag_buf text = {0};
    for (uint32_t i = 0; i < 160; i++) {
      rag_fields_view *view = rag_fields_pin(w->fields);
      rag_bitmap *live = bitmap_of(w, 1 + draw(4), 4);
      rag_kb__filter_report report;
      rag_buf_clear(&text);
      put_filter(&text, 0);
      rag_buf_append_char(&text, '\0');
      check_filter(w, draw(40) == 0 ? NULL : view, live, text.data, &report);
      indexed += report.indexed;
      verified += report.verified_some;
      scans += report.scans;
      if (i % 40 == 39) { // forget some; where they are live still, they are scanned
        rag_bitmap *gone = bitmap_of(w, 1, 5);
        assert_int_equal(rag_fields_remove(w->fields, gone, NULL), RAG_OK);
        rag_ref_drop(gone);
      }
      rag_ref_drop(live);
      rag_ref_drop(view);
      rag_arena_reset(arena);
    }
    rag_buf_free(&text);
    world_free(w);
  }
  // The test means something only where all three kinds of answer were given often.
  assert_true(indexed > 20 * rounds && verified > 20 * rounds && scans > rounds);
}

// ---------------------------------------------------------------------------------------------- answers by the index

typedef struct wanted {
  const char *filter;
  rag_kb__filter_answer answer;
} wanted;

static world *plain_world(void) {
  static const char *const langs[] = {"en", "de", "fr", "ja"};
  rag_fields_options none = {0};
  world *w = calloc(1, sizeof *w);
  assert_int_equal(rag_fields_create(&none, &w->fields, NULL), RAG_OK);
  for (uint32_t i = 0; i < 500; i++) {
    doc *d = &w->docs[w->count++];
    d->revision = 65000 + i * 7;
    snprintf(d->id, sizeof d->id, "d%u", i);
    rag_buf_printf(&d->metadata,
                   "{\"lang\":\"%s\",\"year\":%u,\"price\":%u.5,\"public\":%s,\"at\":\"2024-%02u-01T00:00:00Z\","
                   "\"place\":{\"lat\":%u,\"lon\":%u},\"tags\":[\"t%u\",\"t%u\"],\"maybe\":%s,"
                   "\"parts\":[{\"k\":%u,\"v\":\"x\"},{\"k\":%u,\"v\":\"y\"}]}",
                   langs[i % 4], 1990 + i % 30, i, i % 3 ? "true" : "false", 1 + i % 12, i % 90, i % 180, i % 10, i % 7,
                   i % 5 ? "1" : "null", i % 11, i % 13);
  }
  world_append(w, 0, w->count);
  return w;
}

static void test_index_decides(void **state) {
  RAG_UNUSED(state);
#define ONE(condition) "{\"must\":[" condition "]}"
  static const wanted cases[] = {
      {ONE(M("lang", "\"en\"")), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"lang\",\"match\":{\"except\":[\"en\",\"de\"]}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"lang\",\"match\":{\"prefix\":\"d\"}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"lang\",\"match\":{\"text\":\"r\"}}"), RAG_KB__ANSWER_INDEXED},
      {ONE(M("year", "2001")), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"price\",\"range\":{\"gt\":100,\"lte\":200.5}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"price\",\"range\":{\"gt\":200,\"lt\":100}}"), RAG_KB__ANSWER_INDEXED}, // ends that cross
      {ONE("{\"key\":\"at\",\"range\":{\"gte\":\"2024-03-01\",\"lt\":\"2024-06-01\"}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"at\",\"range\":{\"gte\":\"2024-06-01\",\"lt\":\"2024-03-01\"}}"), RAG_KB__ANSWER_INDEXED},
      {ONE(M("public", "true")), RAG_KB__ANSWER_INDEXED},
      {ONE(M("tags", "\"t3\"")), RAG_KB__ANSWER_INDEXED},
      {ONE(M("tags[]", "\"t3\"")), RAG_KB__ANSWER_INDEXED},
      {ONE(M("parts[].k", "3")), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"nested\":{\"key\":\"parts\",\"filter\":" ONE(M("k", "3")) "}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"nested\":{\"key\":\"parts[]\",\"filter\":{\"must\":[" M("k", "3") "," M("v", "\"y\"") "]}}}"),
       RAG_KB__ANSWER_VERIFIED},
      {ONE(M("tags[0]", "\"t3\"")), RAG_KB__ANSWER_VERIFIED},
      {ONE("{\"key\":\"place\",\"geo_radius\":{\"center\":" PT(10, 10) ",\"radius\":500000}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"is_null\":{\"key\":\"maybe\"}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"is_empty\":{\"key\":\"maybe\"}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"year\",\"values_count\":{\"gte\":1}}"), RAG_KB__ANSWER_INDEXED},
      {ONE("{\"key\":\"tags\",\"values_count\":{\"gte\":2}}"), RAG_KB__ANSWER_VERIFIED},
      {ONE("{\"has_id\":[\"d3\",\"d499\",\"nobody\"]}"), RAG_KB__ANSWER_INDEXED},
      {ONE(M("no.such.field", "1")), RAG_KB__ANSWER_INDEXED},
      {ONE(M("lang", "1")), RAG_KB__ANSWER_INDEXED}, // a type that the field does not have
  };
  world *w = plain_world();
  rag_fields_view *view = rag_fields_pin(w->fields);
  rag_bitmap *live = bitmap_of(w, 1, 1);
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    rag_kb__filter_report report;
    check_filter(w, view, live, cases[i].filter, &report);
    if (report.path_count != 1 || report.paths[0].answer != cases[i].answer)
      fail_msg("%s: answered as %d", cases[i].filter, (int)report.paths[0].answer);
    assert_true(cases[i].answer == RAG_KB__ANSWER_VERIFIED || report.verified == 0);
  }
  // What the index leaves open is little: only arrays of the first condition's survivors are counted.
  rag_kb__filter_report report;
  check_filter(w, view, live, "{\"must\":[" M("year", "2001") ",{\"key\":\"tags\",\"values_count\":{\"gte\":2}}]}",
               &report);
  assert_true(report.verified > 0 && report.verified < 20);
  rag_ref_drop(live);
  rag_ref_drop(view);
  world_free(w);
}

// Every key of a list with every test of a list, on every shape of a list: what paths that end in [], have [n] or go
// through arrays within arrays make of values that stand beside arrays, in them, or two deep.
static void test_shapes(void **state) {
  RAG_UNUSED(state);
  static const char *const shapes[] = {"1",
                                       "2",
                                       "null",
                                       "[]",
                                       "[1]",
                                       "[2]",
                                       "[null]",
                                       "[1,2]",
                                       "[[1]]",
                                       "[[1],2]",
                                       "[[2],1]",
                                       "[[]]",
                                       "[[[1]]]",
                                       "{}",
                                       "{\"b\":1}",
                                       "{\"b\":[1]}",
                                       "{\"b\":[]}",
                                       "{\"b\":null}",
                                       "[{}]",
                                       "[{\"b\":1}]",
                                       "[{\"b\":[1]}]",
                                       "[{\"b\":1},{\"b\":[2]}]",
                                       "[{\"b\":2},{\"b\":[1]}]",
                                       "[{\"b\":[[1],2]}]",
                                       "[{\"b\":2},{\"b\":1}]",
                                       "[{\"b\":null},{\"b\":[]}]",
                                       "[[{\"b\":1}]]",
                                       "[1,{\"b\":2}]",
                                       "{\"b\":{\"b\":1}}",
                                       "[{\"b\":{\"b\":1}}]",
                                       "[{\"b\":[{\"b\":1}]}]",
                                       "[{\"b\":1,\"c\":2},{\"b\":2,\"c\":1}]",
                                       "[{\"b\":1,\"c\":1}]",
                                       "[true,\"1\"]",
                                       "true"};
  static const char *const keys[] = {"a",         "a[]",       "a[][]",   "a[0]",   "a[1]",     "a.b",
                                     "a.b[]",     "a[].b",     "a[].b[]", "a[0].b", "a[1].b[]", "a[][].b",
                                     "a[].b[].b", "a[].b[][]", "a.b.b",   "c"};
  static const char *const tests[] = {"\"match\":{\"value\":1}",
                                      "\"match\":{\"except\":[1]}",
                                      "\"match\":{\"except\":[\"1\"]}",
                                      "\"match\":{\"value\":true}",
                                      "\"range\":{\"gte\":2}",
                                      "\"is_empty\":true",
                                      "\"is_null\":true",
                                      "\"is_null\":false",
                                      "\"values_count\":{\"gte\":1}",
                                      "\"values_count\":{\"lt\":1}",
                                      "\"values_count\":{\"gte\":2}"};
  static const char *const inner[] = {
      "{\"must\":[" M("b", "1") "]}",
      "{\"must_not\":[" M("b", "1") "]}",
      "{\"must\":[" M("b", "1") "," M("c", "1") "]}",
      "{\"must\":[" M("b", "1") "],\"must_not\":[" M("c", "2") "]}",
      "{\"should\":[" M("b[]", "1") "," M("c", "2") "]}",
      "{\"must\":[{\"nested\":{\"key\":\"b\",\"filter\":{\"must\":[" M("b", "1") "]}}}]}",
      "{\"must\":[{\"is_empty\":{\"key\":\"b\"}}]}",
      "{}"};
  rag_fields_options none = {0};
  world *w = calloc(1, sizeof *w);
  assert_int_equal(rag_fields_create(&none, &w->fields, NULL), RAG_OK);
  for (uint32_t i = 0; i < RAG_COUNT_OF(shapes); i++) {
    doc *d = &w->docs[w->count++];
    d->revision = i + 1;
    rag_buf_printf(&d->metadata, "{\"a\":%s}", shapes[i]);
  }
  world_append(w, 0, w->count);
  rag_fields_view *view = rag_fields_pin(w->fields);
  rag_bitmap *live = bitmap_of(w, 1, 1);
  char text[512];
  for (uint32_t k = 0; k < RAG_COUNT_OF(keys); k++) {
    for (uint32_t t = 0; t < RAG_COUNT_OF(tests); t++) {
      for (uint32_t part = 0; part < 2; part++) {
        snprintf(text, sizeof text, "{\"%s\":[{\"key\":\"%s\",%s}]}", part ? "must_not" : "must", keys[k], tests[t]);
        check_filter(w, view, live, text, NULL);
      }
    }
    for (uint32_t t = 0; t < RAG_COUNT_OF(inner); t++) {
      for (uint32_t part = 0; part < 2; part++) {
        snprintf(text, sizeof text, "{\"%s\":[{\"nested\":{\"key\":\"%s\",\"filter\":%s}}]}",
                 part ? "must_not" : "must", keys[k], inner[t]);
        check_filter(w, view, live, text, NULL);
      }
    }
  }
  rag_ref_drop(live);
  rag_ref_drop(view);
  world_free(w);
}

// ---------------------------------------------------------------------------------------------- bad input, ends

static void test_depth_and_width(void **state) {
  RAG_UNUSED(state);
  world *w = plain_world();
  rag_fields_view *view = rag_fields_pin(w->fields);
  rag_bitmap *live = bitmap_of(w, 2, 3);
  rag_buf text = {0};
  for (uint32_t alternate = 0; alternate < 2; alternate++) {
    rag_buf_clear(&text);
    for (uint32_t i = 0; i + 1 < RAG_FILTER_DEPTH_MAX; i++) // must_not in must_not, as deep as it goes
      rag_buf_append_str(&text,
                         alternate && i % 2 ? "{\"min_should\":{\"min_count\":1,\"conditions\":[" : "{\"must_not\":[");
    rag_buf_append_str(&text, "{\"must\":[" M("lang", "\"en\"") "]}");
    for (uint32_t i = RAG_FILTER_DEPTH_MAX - 1; i-- > 0;) rag_buf_append_str(&text, alternate && i % 2 ? "]}}" : "]}");
    rag_buf_append_char(&text, '\0');
    check_filter(w, view, live, text.data, NULL);
  }
  rag_buf_clear(&text);
  rag_buf_append_str(&text, "{\"min_should\":{\"min_count\":513,\"conditions\":[");
  for (uint32_t i = 0; i < 1024; i++)
    rag_buf_printf(&text, "%s{\"key\":\"year\",\"match\":{\"value\":%u}}", i > 0 ? "," : "",
                   1990 + (i < 520 ? 3 : i % 30));
  rag_buf_append_str(&text, "]}}");
  rag_buf_append_char(&text, '\0');
  rag_kb__filter_report report;
  check_filter(w, view, live, text.data, &report);
  assert_int_equal(report.path_count, RAG_KB__FILTER_PATHS_MAX);
  assert_int_equal(report.conditions, 1024);
  assert_true(report.survivors > 0 && report.survivors < report.live);
  check_filter(w, view, live, "{\"should\":[]}", &report);
  assert_int_equal(report.survivors, 0);
  check_filter(w, view, live, "{\"min_should\":{\"min_count\":1024,\"conditions\":[" M("lang", "\"en\"") "]}}",
               &report);
  assert_int_equal(report.survivors, 0);
  check_filter(w, view, live, "{}", &report);
  assert_int_equal(report.survivors, report.live);
  rag_buf_free(&text);
  rag_ref_drop(live);
  rag_ref_drop(view);
  world_free(w);
}

static void test_deadline_and_errors(void **state) {
  RAG_UNUSED(state);
  world *w = plain_world();
  rag_fields_view *view = rag_fields_pin(w->fields);
  rag_bitmap *live = bitmap_of(w, 1, 1), *survivors = NULL;
  rag_error err = {0};
  rag_kb__filter_source source = {
      .fields = view, .live = live, .get_document = get_document, .find_id = find_id, .context = w, .deadline_ns = 1};
  const rag_filter *filter = parsed(ONE(M("lang", "\"en\"")));
  assert_int_equal(rag_kb__filter_eval(filter, &source, &survivors, NULL, &err), RAG_DEADLINE_EXCEEDED);
  assert_null(survivors);
  source.deadline_ns = rag_clock_monotonic_ns() + UINT64_C(60000000000);
  assert_int_equal(rag_kb__filter_eval(filter, &source, &survivors, NULL, &err), RAG_OK);
  assert_int_equal(rag_bitmap_count(survivors), 125);
  rag_ref_drop(survivors);
  rag_digest one = rag_filter_digest(filter), same = rag_filter_digest(parsed(ONE(M("lang", "\"en\""))));
  rag_digest other = rag_filter_digest(parsed(ONE(M("lang", "\"de\""))));
  assert_true(rag_digest_equal(&one, &same) && !rag_digest_equal(&one, &other));
  // Metadata that is no JSON has no values.
  rag_kb__fields_row rows[2] = {{900000, rag_slice_str("{\"a\":1}")}, {900001, rag_slice_str("{\"a\":")}};
  assert_int_equal(rag_kb__fields_append(w->fields, 2, rows, &err), RAG_OK);
  rag_fields_view *after = rag_fields_pin(w->fields);
  assert_int_equal(rag_fields_view_rows(after), rag_fields_view_rows(view) + 2);
  rag_ref_drop(after);
  rag_ref_drop(live);
  rag_ref_drop(view);
  world_free(w);
}

// Every allocation of an append, an evaluation and a facet fails once: an error, no leak, and the next try is right.
static void test_failing_allocations(void **state) {
  RAG_UNUSED(state);
  seed = 42;
  rag_fields_options none = {0};
  world *w = make_world(24, &none);
  world_append(w, 0, 20);
  rag_kb__fields_row rows[4];
  for (uint32_t i = 0; i < 4; i++)
    rows[i] = (rag_kb__fields_row){w->docs[20 + i].revision, rag_buf_slice(&w->docs[20 + i].metadata)};
  rag_status status = RAG_RESOURCE_EXHAUSTED;
  for (uint64_t n = 1; status != RAG_OK; n++) {
    rag_fields_view *before = rag_fields_pin(w->fields);
    rag_alloc_fail_after(n);
    status = rag_kb__fields_append(w->fields, 4, rows, NULL);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    rag_fields_view *after = rag_fields_pin(w->fields);
    assert_true(status == RAG_OK ? after != before : (failed && status == RAG_RESOURCE_EXHAUSTED && after == before));
    rag_ref_drop(before);
    rag_ref_drop(after);
    assert_true(n < 5000);
  }
  static const char text[] = "{\"must\":[{\"key\":\"a\",\"values_count\":{\"gte\":1}},{\"has_id\":[\"d1\",\"d2\"]},"
                             "{\"nested\":{\"key\":\"c\",\"filter\":{\"should\":[" M(
                                 "a", "1") "]}}}],"
                                           "\"min_should\":{\"min_count\":1,\"conditions\":[" M("a", "1") ",{}]}}";
  rag_fields_view *view = rag_fields_pin(w->fields);
  rag_bitmap *live = bitmap_of(w, 1, 1);
  rag_kb__filter_source source = {
      .fields = view, .live = live, .get_document = get_document, .find_id = find_id, .context = w};
  const rag_filter *filter = parsed(text);
  status = RAG_RESOURCE_EXHAUSTED;
  for (uint64_t n = 1; status != RAG_OK; n++) {
    rag_bitmap *survivors = NULL;
    rag_alloc_fail_after(n);
    status = rag_kb__filter_eval(filter, &source, &survivors, NULL, NULL);
    rag_alloc_fail_after(0);
    assert_true(status == RAG_OK || (status == RAG_RESOURCE_EXHAUSTED && survivors == NULL));
    rag_ref_drop(survivors);
    assert_true(n < 1000);
  }
  status = RAG_RESOURCE_EXHAUSTED;
  for (uint64_t n = 1; status != RAG_OK; n++) {
    rag_facet facet;
    uint64_t fetched;
    rag_alloc_fail_after(n);
    status = rag_kb__facet(&source, rag_slice_str("a[]"), live, 5, arena, &facet, &fetched, NULL);
    rag_alloc_fail_after(0);
    assert_true(status == RAG_OK || status == RAG_RESOURCE_EXHAUSTED);
    assert_true(n < 1000);
  }
  check_filter(w, view, live, text, NULL);
  rag_ref_drop(live);
  rag_ref_drop(view);
  world_free(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_worlds),
      cmocka_unit_test(test_index_decides),
      cmocka_unit_test(test_shapes),
      cmocka_unit_test(test_depth_and_width),
      cmocka_unit_test(test_deadline_and_errors),
      cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
