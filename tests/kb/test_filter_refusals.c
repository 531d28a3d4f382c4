// Goal: the filter grammar takes what kb/filters/parse.c says and no more; a refusal names the place and what to change.
// Method: a table of (filter, field, message) for every refusal; each limit at and one past it.
#include "filter_test.h"

// ---------------------------------------------------------------------------------------------- refusals

static void refused(const char *filter, size_t size, const char *field, const char *message) {
  const rag_filter *out = (const rag_filter *)&arena;
  rag_error err = {0};
  rag_status status = rag_filter_parse(rag_slice_of(filter, size), arena, &out, &err);
  if (status != RAG_INVALID_ARGUMENT) fail_msg("%.300s: %s: %s", filter, rag_status_name(status), err.message);
  if (out != (const rag_filter *)&arena) fail_msg("%.300s: wrote its result", filter);
  if (err.status != status || strcmp(err.field, field) != 0 || strstr(err.message, message) == NULL)
    fail_msg("%.300s:\nfield '%s', wanted '%s'\nmessage '%s', wanted '%s'", filter, err.field, field, err.message,
             message);
  if (strncmp(err.message, "filter", 6) != 0) fail_msg("%.300s: the message names no place: %s", filter, err.message);
  assert_true(rag_utf8_valid(err.message, strlen(err.message)));
  assert_int_equal(rag_filter_parse(rag_slice_of(filter, size), arena, &out, NULL), RAG_INVALID_ARGUMENT);
}

static void test_refusals(void **state) {
  RAG_UNUSED(state);
#define F(condition) "{\"must\": [" A "," condition "]}"
#define FA(test) F("{\"key\": \"a\", " test "}")
#define AT "filter.must[1]"
#define EURO "\xE2\x82\xAC"
#define EUROS EURO EURO EURO EURO EURO EURO EURO EURO EURO EURO
  static const struct {
    const char *filter, *field, *message;
  } rows[] = {
      // text and shape
      {"{", "filter", "bad JSON"},
      {"{} x", "filter", "bad JSON"},
      {"{\"must\": [1, {\"a\": 1, \"a\": 2}]}", "filter.must[1].a", "appears twice"},
      {"{\"must\": [\xFF]}", "filter", "UTF-8"},
      {"[]", "filter", "expected an object, got an array"},
      {"null", "filter", "expected an object, got null"},
      {"\"x\"", "filter", "expected an object, got a string"},
      // members of a filter
      {"{\"mst\": []}", "filter", "unknown member 'mst'; did you mean 'must'?"},
      {"{\"mustnot\": []}", "filter", "unknown member 'mustnot'; did you mean 'must_not'?"},
      {"{\"x\": []}", "filter", "unknown member 'x'"},
      {"{\"x\": null}", "filter", "unknown member 'x'"},
      {"{\"" EUROS EUROS EUROS "\": []}", "filter", "unknown member '" EUROS EUROS "'"},
      {"{\"a" EUROS EUROS EUROS "\": []}", "filter",
       "unknown member 'a" EUROS EURO EURO EURO EURO EURO EURO EURO EURO EURO "'"},
      {A, "filter", "'key' makes a condition, which stands alone in a list: {\"must\": [{\"key\": ...}]}"},
      {"{\"has_id\": [1]}", "filter", "'has_id' makes a condition"},
      {F("{\"has_id\": [1], \"must\": []}"), AT, "'has_id' makes a condition"},
      {F("{\"is_null\": {\"key\": \"a\"}, \"is_empty\": {\"key\": \"a\"}}"), AT, "'is_null' makes a condition"},
      {F("{\"match\": {\"value\": 1}}"), AT, "'match' has no 'key' beside it"},
      {F("{\"has_ids\": [1]}"), AT, "unknown member 'has_ids'; did you mean 'has_id'?"},
      {F("{\"has_vector\": \"x\"}"), AT, "unknown member 'has_vector'"},
      {"{\"must\": 1}", "filter.must", "expected an object, got a number"},
      {"{\"should\": \"x\"}", "filter.should", "expected an object, got a string"},
      {"{\"must_not\": [" A ", null]}", "filter.must_not[1]", "expected an object, got null"},
      {"{\"must\": [[" A "]]}", "filter.must[0]", "expected an object, got an array"},
      {"{\"must\": [{\"should\": [{\"must_not\": {\"y\": 1}}]}]}", "filter.must[0].should[0].must_not",
       "unknown member 'y'"},
      // min_should
      {"{\"min_should\": []}", "filter.min_should", "expected an object, got an array"},
      {"{\"min_should\": {\"min_count\": 1}}", "filter.min_should", "'conditions' is missing"},
      {"{\"min_should\": {\"conditions\": []}}", "filter.min_should", "'min_count' is missing"},
      {"{\"min_should\": {\"conditions\": [], \"min_count\": 0}}", "filter.min_should.min_count", "is 1 to 1024"},
      {"{\"min_should\": {\"conditions\": [], \"min_count\": -1}}", "filter.min_should.min_count", "is 1 to 1024"},
      {"{\"min_should\": {\"conditions\": [], \"min_count\": 1025}}", "filter.min_should.min_count", "is 1 to 1024"},
      {"{\"min_should\": {\"conditions\": [], \"min_count\": 1.0}}", "filter.min_should.min_count",
       "expected an integer, got a number with"},
      {"{\"min_should\": {\"conditions\": [], \"min_count\": 9223372036854775808}}", "filter.min_should.min_count",
       "expected an integer, got an integer over"},
      {"{\"min_should\": {\"conditions\": [], \"min_count\": \"1\"}}", "filter.min_should.min_count",
       "expected an integer, got a string"},
      {"{\"min_should\": {\"conditions\": [], \"min_cout\": 1}}", "filter.min_should",
       "'min_cout'; did you mean 'min_count'?"},
      {"{\"min_should\": {\"conditions\": [" A ", {\"key\": 1}], \"min_count\": 1}}",
       "filter.min_should.conditions[1].key", "expected a string"},
      // fields
      {F("{\"key\": \"a\"}"), AT, "has a key and no test"},
      {F("{\"key\": \"a\", \"match\": null}"), AT, "has a key and no test"},
      {FA("\"match\": {\"value\": 1}, \"range\": {\"gt\": 1}"), AT, "has several tests for one key"},
      {FA("\"is_null\": true, \"is_empty\": true"), AT, "has several tests for one key"},
      {FA("\"rnage\": {\"gt\": 1}"), AT, "unknown member 'rnage'; did you mean 'range'?"},
      {FA("\"must\": []"), AT, "unknown member 'must'"},
      {FA("\"is_empty\": 1"), AT ".is_empty", "expected a boolean, got a number"},
      {FA("\"is_null\": {}"), AT ".is_null", "expected a boolean, got an object"},
      // keys
      {F("{\"key\": null, \"match\": {\"value\": 1}}"), AT ".key", "expected a string, got null"},
      {F(M("", "1")), AT ".key", "a key is 1 to 512 bytes"},
      {F(M("a b", "1")), AT ".key", "'a b' is not a key"},
      {F(M("a.", "1")), AT ".key", "'a.' is not a key"},
      {F(M(".a", "1")), AT ".key", "is not a key"},
      {F(M("a..b", "1")), AT ".key", "is not a key"},
      {F(M("[]", "1")), AT ".key", "is not a key"},
      {F(M("[0].a", "1")), AT ".key", "is not a key"},
      {F(M("a[", "1")), AT ".key", "is not a key"},
      {F(M("a[0", "1")), AT ".key", "is not a key"},
      {F(M("a]", "1")), AT ".key", "is not a key"},
      {F(M("a[-1]", "1")), AT ".key", "is not a key"},
      {F(M("a[x]", "1")), AT ".key", "is not a key"},
      {F(M("a[1 ]", "1")), AT ".key", "is not a key"},
      {F(M("a[0]b", "1")), AT ".key", "is not a key"},
      {F(M("a.[0]", "1")), AT ".key", "is not a key"},
      {F(M("a[1000000000]", "1")), AT ".key", "is not a key"},
      {F(M("\\\"a", "1")), AT ".key", "is not a key"},
      {F(M("\\\"\\\"", "1")), AT ".key", "is not a key"},
      {F(M("\\\"a\\\"b", "1")), AT ".key", "is not a key"},
      {F(M("a\\\"b\\\"", "1")), AT ".key", "is not a key"},
      {F(M("a$", "1")), AT ".key", "'a$' is not a key"},
      {F(M("a\\u0000", "1")), AT ".key", "is not a key"},
      {F(M(EUROS EUROS EUROS "!", "1")), AT ".key", "'" EUROS EUROS EURO EURO EURO EURO EURO EURO "' is not a key"},
      {F("{\"is_empty\": {}}"), AT ".is_empty", "'key' is missing"},
      {F("{\"is_empty\": true}"), AT ".is_empty", "expected an object, got a boolean"},
      {F("{\"is_null\": {\"key\": \"a\", \"x\": 1}}"), AT ".is_null", "unknown member 'x'"},
      {F("{\"is_null\": {\"key\": \"a[\"}}"), AT ".is_null.key", "is not a key"},
      // match
      {FA("\"match\": \"x\""), AT ".match", "expected an object, got a string"},
      {FA("\"match\": {}"), AT ".match", "is empty; give one of value"},
      {FA("\"match\": {\"value\": null}"), AT ".match", "is empty; give one of value"},
      {FA("\"match\": {\"value\": 1, \"any\": [1]}"), AT ".match", "has several members"},
      {FA("\"match\": {\"valu\": 1}"), AT ".match", "unknown member 'valu'; did you mean 'value'?"},
      {FA("\"match\": {\"value\": 1, \"zzzzzzz\": 1}"), AT ".match", "unknown member 'zzzzzzz'"},
      {FA("\"match\": {\"value\": 1.5}"), AT ".match.value",
       "a number with a fraction is not matched by equality; use range"},
      {FA("\"match\": {\"value\": 1.0}"), AT ".match.value", "use range {\"gte\": x, \"lte\": x}"},
      {FA("\"match\": {\"value\": 9223372036854775808}"), AT ".match.value", "got an integer over 2^63 - 1"},
      {FA("\"match\": {\"value\": []}"), AT ".match.value", "expected a string, an integer or a boolean, got an array"},
      {FA("\"match\": {\"any\": \"x\"}"), AT ".match.any", "expected an array, got a string"},
      {FA("\"match\": {\"any\": [1, \"x\"]}"), AT ".match.any[1]", "strings or integers, not both"},
      {FA("\"match\": {\"except\": [\"x\", \"y\", 1]}"), AT ".match.except[2]", "strings or integers, not both"},
      {FA("\"match\": {\"any\": [true]}"), AT ".match.any[0]", "strings or integers, not a boolean"},
      {FA("\"match\": {\"any\": [1, 1.5]}"), AT ".match.any[1]", "not a number with a fraction"},
      {FA("\"match\": {\"except\": [null]}"), AT ".match.except[0]", "not null"},
      {FA("\"match\": {\"text\": 1}"), AT ".match.text", "expected a string, got a number"},
      {FA("\"match\": {\"text_any\": [\"a\"]}"), AT ".match.text_any", "expected a string, got an array"},
      {FA("\"match\": {\"phrase\": {}}"), AT ".match.phrase", "expected a string, got an object"},
      {FA("\"match\": {\"prefix\": true}"), AT ".match.prefix", "expected a string, got a boolean"},
      // range, values_count
      {FA("\"range\": [1, 2]"), AT ".range", "expected an object, got an array"},
      {FA("\"range\": {}"), AT ".range", "is empty; give gt, gte, lt or lte"},
      {FA("\"range\": {\"gt\": null}"), AT ".range", "is empty"},
      {FA("\"range\": {\"gt\": 1, \"gte\": 1}"), AT ".range", "has both gt and gte"},
      {FA("\"range\": {\"lte\": \"2024-01-01\", \"lt\": \"2024-01-01\"}"), AT ".range", "has both lt and lte"},
      {FA("\"range\": {\"gt\": 1, \"lt\": \"2024-01-01\"}"), AT ".range", "mixes numbers and times"},
      {FA("\"range\": {\"from\": 1}"), AT ".range", "unknown member 'from'"},
      {FA("\"range\": {\"ge\": 1}"), AT ".range", "unknown member 'ge'; did you mean 'gt'?"},
      {FA("\"range\": {\"gt\": true}"), AT ".range.gt", "expected a number or a time, got a boolean"},
      {FA("\"range\": {\"gt\": \"soon\"}"), AT ".range.gt", "'soon' is not a time; write 2026-01-31T10:00:00Z"},
      {FA("\"range\": {\"lte\": \"" EUROS EUROS "\"}"), AT ".range.lte", "'" EUROS EURO EURO EURO "' is not a time"},
      {FA("\"values_count\": {\"gt\": \"2024-01-01\"}"), AT ".values_count.gt", "expected a number, got a string"},
      {FA("\"values_count\": {}"), AT ".values_count", "is empty"},
      {FA("\"values_count\": {\"gt\": 1, \"gte\": 2}"), AT ".values_count", "has both gt and gte"},
      {FA("\"values_count\": 3"), AT ".values_count", "expected an object, got a number"},
      // geography
      {FA("\"geo_radius\": []"), AT ".geo_radius", "expected an object"},
      {FA("\"geo_radius\": {\"radius\": 1}"), AT ".geo_radius.center", "is missing"},
      {FA("\"geo_radius\": {\"center\": " PT(0, 0) "}"), AT ".geo_radius.radius", "is missing"},
      {FA("\"geo_radius\": {\"center\": " PT(0, 0) ", \"radius\": -1}"), AT ".geo_radius.radius", "0 or more metres"},
      {FA("\"geo_radius\": {\"center\": " PT(0, 0) ", \"radius\": \"1\"}"), AT ".geo_radius.radius",
       "expected a number, got a string"},
      {FA("\"geo_radius\": {\"centre\": " PT(0, 0) ", \"radius\": 1}"), AT ".geo_radius",
       "'centre'; did you mean 'center'?"},
      {FA("\"geo_radius\": {\"center\": [0, 0], \"radius\": 1}"), AT ".geo_radius.center",
       "expected an object, got an array"},
      {FA("\"geo_radius\": {\"center\": {\"lat\": 1}, \"radius\": 1}"), AT ".geo_radius.center.lon", "is missing"},
      {FA("\"geo_radius\": {\"center\": {\"lat\": 1, \"lng\": 1}, \"radius\": 1}"), AT ".geo_radius.center",
       "unknown member 'lng'; did you mean"},
      {FA("\"geo_radius\": {\"center\": {\"lat\": \"1\", \"lon\": 1}, \"radius\": 1}"), AT ".geo_radius.center.lat",
       "expected a number"},
      {FA("\"geo_radius\": {\"center\": " PT(90.001, 0) ", \"radius\": 1}"), AT ".geo_radius.center",
       "latitude is -90 to 90"},
      {FA("\"geo_radius\": {\"center\": " PT(-90.001, 0) ", \"radius\": 1}"), AT ".geo_radius.center",
       "latitude is -90 to 90"},
      {FA("\"geo_radius\": {\"center\": " PT(0, 180.001) ", \"radius\": 1}"), AT ".geo_radius.center",
       "longitude -180 to 180"},
      {FA("\"geo_radius\": {\"center\": " PT(0, -180.001) ", \"radius\": 1}"), AT ".geo_radius.center",
       "longitude -180 to 180"},
      {FA("\"geo_bounding_box\": {\"top_left\": " PT(0, 0) "}"), AT ".geo_bounding_box.bottom_right", "is missing"},
      {FA("\"geo_bounding_box\": {\"top_left\": 1, \"bottom_right\": 1}"), AT ".geo_bounding_box.top_left",
       "expected an object"},
      {FA("\"geo_bounding_box\": {\"topleft\": 1}"), AT ".geo_bounding_box", "'topleft'; did you mean 'top_left'?"},
      {FA("\"geo_polygon\": {}"), AT ".geo_polygon.exterior", "is missing"},
      {FA("\"geo_polygon\": {\"exterior\": {}}"), AT ".geo_polygon.exterior.points", "is missing"},
      {FA("\"geo_polygon\": {\"exterior\": " SQUARE "}"), AT ".geo_polygon.exterior",
       "expected an object, got an array"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": {}}}"), AT ".geo_polygon.exterior.points", "expected an array"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": []}}"), AT ".geo_polygon.exterior.points",
       "at least four points"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": [" PT(0, 0) "," PT(0, 1) "," PT(0, 0) "]}}"),
       AT ".geo_polygon.exterior.points", "at least four points"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": [" PT(0, 0) "," PT(0, 1) "," PT(1, 1) "," PT(1, 0) "]}}"),
       AT ".geo_polygon.exterior.points", "the last is the first"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": [" PT(0, 0) "," PT(0, 1) "," PT(1, 1) "," PT(0, 1) "]}}"),
       AT ".geo_polygon.exterior.points", "the last is the first"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": [" PT(0, 0) "," PT(91, 1) "]}}"),
       AT ".geo_polygon.exterior.points[1]", "latitude is"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": " SQUARE "}, \"interiors\": {}}"), AT ".geo_polygon.interiors",
       "expected an array"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": " SQUARE "}, \"interiors\": [" HOLE ", {\"points\": [1]}]}"),
       AT ".geo_polygon.interiors[1].points[0]", "expected an object"},
      {FA("\"geo_polygon\": {\"exterior\": {\"points\": " SQUARE "}, \"interior\": []}"), AT ".geo_polygon",
       "did you mean 'interiors'?"},
      // ids, nested
      {F("{\"has_id\": \"doc\"}"), AT ".has_id", "expected an array, got a string"},
      {F("{\"has_id\": [1, 1.5]}"), AT ".has_id[1]", "an id is a string or an integer, not a number with a fraction"},
      {F("{\"has_id\": [null]}"), AT ".has_id[0]", "not null"},
      {F("{\"nested\": []}"), AT ".nested", "expected an object"},
      {F("{\"nested\": {\"filter\": {}}}"), AT ".nested", "'key' is missing"},
      {F("{\"nested\": {\"key\": \"a\"}}"), AT ".nested", "'filter' is missing"},
      {F("{\"nested\": {\"key\": \"a\", \"filter\": {}, \"flter\": {}}}"), AT ".nested",
       "'flter'; did you mean 'filter'?"},
      {F("{\"nested\": {\"key\": \"a[\", \"filter\": {}}}"), AT ".nested.key", "is not a key"},
      {F("{\"nested\": {\"key\": \"a\", \"filter\": []}}"), AT ".nested.filter", "expected an object, got an array"},
      {F("{\"nested\": {\"key\": \"a\", \"filter\": {\"must\": {\"has_id\": [1]}}}}"), AT ".nested.filter.must.has_id",
       "cannot stand inside nested"},
      {F("{\"nested\": {\"key\": \"a\", \"filter\": {\"must\": [{\"should\": [{\"has_id\": [1]}]}]}}}"),
       AT ".nested.filter.must[0].should[0].has_id", "cannot stand inside nested"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(rows); i++)
    refused(rows[i].filter, strlen(rows[i].filter), rows[i].field, rows[i].message);
  (void)parsed("{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {}}}, {\"has_id\": [1]}]}"); // outside it is fine
  bool pass = true;
  rag_error err = {0};
  assert_int_equal(rag_filter_match(parsed("{}"), rag_slice_str("x"), rag_slice_str("{"), reader, &pass, &err),
                   RAG_INVALID_ARGUMENT);
  assert_true(pass && err.message[0] != '\0');
}

// ---------------------------------------------------------------------------------------------- limits

static void taken(const rag_buf *filter) {
  const rag_filter *out = NULL;
  rag_error err = {0};
  if (rag_filter_parse(rag_buf_slice(filter), arena, &out, &err) != RAG_OK) fail_msg("%s", err.message);
  assert_non_null(out);
}

static void test_limits(void **state) {
  RAG_UNUSED(state);
  rag_buf b = {0};
  for (size_t over = 0; over < 2; over++) {
    size_t depth = RAG_FILTER_DEPTH_MAX + over;
    rag_buf_clear(&b); // the innermost of `depth` filters has a field condition: only filters count
    repeat(&b, "{\"must\":[", depth);
    rag_buf_append_str(&b, A);
    repeat(&b, "]}", depth);
    if (!over) taken(&b);
    else
      refused(b.data, b.size,
              "filter.must[0].must[0].must[0].must[0].must[0].must[0].must[0].must[0].must[0].must[0].must[0].",
              "filters nest at most 16 deep");

    rag_buf_clear(&b);
    repeat(&b, "{\"must\":{\"nested\":{\"key\":\"a\",\"filter\":", depth - 1);
    rag_buf_append_str(&b, "{\"must\":" A "}");
    repeat(&b, "}}}", depth - 1);
    if (!over) taken(&b);
    else
      refused(b.data, b.size,
              "filter.must.nested.filter.must.nested.filter.must.nested.filter.must.nested.filter.must.nested.",
              "filters nest at most 16 deep");

    rag_buf_clear(&b); // conditions of one list
    rag_buf_append_str(&b, "{\"should\":[" A);
    repeat(&b, "," A, RAG_FILTER_CONDITIONS_MAX - 1 + over);
    rag_buf_append_str(&b, "]}");
    if (!over) taken(&b);
    else refused(b.data, b.size, "filter.should", "at most 1024 conditions");

    rag_buf_clear(&b); // of several lists; a filter within a list is a condition too
    rag_buf_append_str(&b, "{\"should\":[" A);
    repeat(&b, "," A, 1000 - 1);
    rag_buf_append_str(&b, "],\"must\":[{\"must\":[" A);
    repeat(&b, "," A, 23 - 1 + over);
    rag_buf_append_str(&b, "]}]}");
    if (!over) taken(&b);
    else refused(b.data, b.size, "filter.must[0].must[23]", "at most 1024 conditions");

    size_t values = RAG_FILTER_VALUES_MAX + over;
    rag_buf_clear(&b); // values of one list
    rag_buf_append_str(&b, "{\"must\":[{\"key\":\"a\",\"match\":{\"any\":[1");
    repeat(&b, ",1", values - 1);
    rag_buf_append_str(&b, "]}}]}");
    if (!over) taken(&b);
    else refused(b.data, b.size, "filter.must[0].match.any", "at most 65536 values together");

    rag_buf_clear(&b); // of lists of every kind
    rag_buf_append_str(&b, "{\"must\":[{\"has_id\":[\"x\",\"y\"]},{\"key\":\"a\",\"match\":{\"text_any\":\"p q r\"}},"
                           "{\"key\":\"a\",\"geo_polygon\":{\"exterior\":{\"points\":" SQUARE "},\"interiors\":[" HOLE
                           "]}},{\"key\":\"a\",\"match\":{\"except\":[\"x\"");
    repeat(&b, ",\"x\"", values - 2 - 3 - 5 - 1 - 5 - 1);
    rag_buf_append_str(&b, "]}}]}");
    if (!over) taken(&b);
    else refused(b.data, b.size, "filter.must[3].match.except", "at most 65536 values together");

    for (size_t kind = 0; kind < 3; kind++) { // plain, as deep as it goes, and with the [] that nested adds
      size_t size = RAG_FILTER_KEY_BYTES_MAX + over;
      rag_buf_clear(&b);
      rag_buf_append_str(&b, kind == 2 ? "{\"must\":{\"nested\":{\"key\":\"" : "{\"must\":{\"key\":\"");
      if (kind == 0) repeat(&b, "a", size);
      else repeat(&b, "a.", size / 2 - 1), repeat(&b, "a", size % 2 ? 3 : 2);
      rag_buf_append_str(&b, kind == 2 ? "\",\"filter\":{}}}}" : "\",\"is_null\":true}}");
      if (!over) taken(&b);
      else refused(b.data, b.size, kind == 2 ? "filter.must.nested.key" : "filter.must.key", "a key is 1 to 512 bytes");
    }
  }
  rag_buf_clear(&b); // as many steps as 511 bytes have, and one that nested adds
  rag_buf_append_str(&b, "{\"must\":{\"nested\":{\"key\":\"a");
  repeat(&b, ".b", 255);
  rag_buf_append_str(&b, "\",\"filter\":{}}}}");
  taken(&b);
  rag_buf_free(&b);
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_limits),
  };
  return cmocka_run_group_tests_name("kb_filter_refusals", tests, setup, teardown);
}
