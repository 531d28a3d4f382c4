// Goal: the filter grammar takes what kb/filters/parse.c says and no more, a filter means what kb/filters/match.c says,
// and a refusal names the place and what to change. Method: tables of (filter, metadata, passes) for every kind of
// condition; tables of (filter, field, message) for every refusal; each limit at and one past it; every allocation
// failing once; the text freed and its parser used for other texts before matching; one filter matched by several
// threads. Random filters against a second implementation are in test_filter_model.c.
#include "filter_test.h"

#include <pthread.h>

static bool passes(const rag_filter *filter, const char *id, const char *metadata) {
  bool pass = false;
  rag_error err = {0};
  if (rag_filter_match(filter, rag_slice_str(id), rag_slice_str(metadata), reader, &pass, &err) != RAG_OK)
    fail_msg("%s: %s", metadata, err.message);
  return pass;
}

// ---------------------------------------------------------------------------------------------- one test of one key

// A condition's test of key "a", and what "a" may be ('|' between texts; "-": the key is missing).
typedef struct value_row {
  const char *test, *yes, *no;
} value_row;

static void check_values(const char *filter, const char *values, bool expected) {
  const rag_filter *f = parsed(filter);
  for (const char *at = values; *at != '\0';) {
    size_t size = strcspn(at, "|");
    char metadata[1024];
    if (size == 1 && *at == '-') snprintf(metadata, sizeof metadata, "{\"b\": 1}");
    else snprintf(metadata, sizeof metadata, "{\"z\": [0], \"a\": %.*s, \"b\": \"red\"}", (int)size, at);
    if (passes(f, "doc", metadata) != expected)
      fail_msg("%s %s %s", metadata, expected ? "should pass" : "should not pass", filter);
    at += size + (at[size] == '|');
  }
}

static void check_rows(const value_row *rows, size_t count) {
  rag_buf filter = {0};
  for (size_t i = 0; i < count; i++) {
    rag_buf_clear(&filter);
    rag_buf_printf(&filter, "{\"must\": [{\"key\": \"a\", %s}]}", rows[i].test);
    rag_buf_append_char(&filter, '\0');
    check_values(filter.data, rows[i].yes, true);
    check_values(filter.data, rows[i].no, false);
    rag_buf_clear(&filter);
    rag_buf_printf(&filter, "{\"must_not\": {\"key\": \"a\", %s}}", rows[i].test);
    rag_buf_append_char(&filter, '\0');
    check_values(filter.data, rows[i].yes, false);
    check_values(filter.data, rows[i].no, true);
  }
  rag_buf_free(&filter);
}

static void test_match(void **state) {
  RAG_UNUSED(state);
  static const value_row rows[] = {
      {"\"match\": {\"value\": \"red\"}", "\"red\"|[\"blue\", \"red\"]|[1, null, \"red\"]",
       "-|null|[]|[[]]|\"Red\"|\"red \"|\"redd\"|\"re\"|\"\"|1|true|{\"red\": \"red\"}|[[\"red\"]]|[{\"a\": \"red\"}]"},
      {"\"match\": {\"value\": \"\"}", "\"\"|[\"\"]", "-|null|[]|\" \"|0|false|{}"},
      {"\"match\": {\"value\": \"stra\xC3\x9F"
       "e\"}",
       "\"stra\xC3\x9F"
       "e\"|\"stra\\u00dfe\"",
       "\"strasse\"|\"STRASSE\"|\"stra\xC3\x9F\""},
      {"\"match\": {\"value\": \"a\\u0000b\"}", "\"a\\u0000b\"", "\"a\"|\"a\\u0000c\"|\"a\\u0000\""},
      {"\"match\": {\"value\": 1}", "1|[0, 1]|[1]", "-|null|[]|1.0|1e0|1.5|\"1\"|true|10|-1|[[1]]|{\"a\": 1}"},
      {"\"match\": {\"value\": 0}", "0", "0.0|\"\"|false|null|[]"},
      {"\"match\": {\"value\": -9223372036854775808}", "-9223372036854775808",
       "9223372036854775808|-9223372036854775807"},
      {"\"match\": {\"value\": 9223372036854775807}", "9223372036854775807",
       "9223372036854775806|9223372036854775808|9223372036854775807.0|18446744073709551615"},
      {"\"match\": {\"value\": true}", "true|[false, true]", "-|null|false|1|\"true\"|[]|[[true]]|{}"},
      {"\"match\": {\"value\": false}", "false|[false]", "-|null|true|0|\"\"|[]"},
      {"\"match\": {\"any\": [\"red\", \"blue\", \"red\", \"green\"]}", "\"red\"|\"blue\"|\"green\"|[\"x\", \"green\"]",
       "-|null|[]|\"gree\"|\"\"|[[\"red\"]]|1"},
      {"\"match\": {\"any\": [7, -3, 7, 0]}", "7|-3|0|[1, 7]", "-|null|7.0|\"7\"|1|-7|[]|false"},
      {"\"match\": {\"any\": []}", "", "-|null|[]|\"\"|0|1|\"red\"|{}|[1]"},
      {"\"match\": {\"except\": [\"red\", \"blue\"]}",
       "\"green\"|\"\"|[\"red\", \"green\"]|1|true|{}|[null, 1]|[[\"red\"]]|[\"red\", []]|[\"red\", {}]|1.5",
       "-|null|[]|\"red\"|\"blue\"|[\"red\"]|[\"red\", \"blue\"]|[null]|[null, \"red\"]"},
      {"\"match\": {\"except\": [1, 2]}", "3|1.0|\"1\"|[1, 3]|[1, \"x\"]|false|{}|[[1]]|18446744073709551615",
       "-|null|[]|1|2|[1, 2]|[null, 2]"},
      {"\"match\": {\"except\": []}", "1|\"x\"|false|{}|[0]|[[]]", "-|null|[]|[null]"},
      {"\"match\": {\"text\": \"red\"}", "\"red\"|\"a redder thing\"|[\"x\", \"bred\"]",
       "-|null|\"\"|\"Red\"|\"re d\"|1|[]|{}|[[\"red\"]]"},
      {"\"match\": {\"text\": \"red wine\"}", "\"old red wine\"", "\"red\"|\"red  wine\"|\"wine red\""},
      {"\"match\": {\"text\": \"\"}", "\"\"|\"x\"|[\"\"]", "-|null|[]|1|{}"},
      {"\"match\": {\"phrase\": \"red wine\"}", "\"old red wine\"|\"red wines\"", "-|\"wine red\"|\"red\"|null"},
      {"\"match\": {\"text_any\": \" red\\t wine\\n\"}", "\"bred\"|\"wines\"|[\"x\", \"wine\"]",
       "-|null|\"re\"|\"\"|\" \"|\"\\t\"|1|[]"},
      {"\"match\": {\"text_any\": \"a\\u0000b c\"}", "\"xa\\u0000by\"|\"c\"", "\"a\"|\"b\"|\"\\u0000\""},
      {"\"match\": {\"text_any\": \"\"}", "", "-|\"\"|\"x\"|\" \"|null|[]"},
      {"\"match\": {\"text_any\": \" \\r\\n\\t\"}", "", "\"\"|\" \"|\"x y\""},
      {"\"match\": {\"prefix\": \"re\"}", "\"re\"|\"red\"|[\"x\", \"rey\"]",
       "-|null|\"r\"|\"Red\"|\" re\"|\"\"|1|[]|{}"},
      {"\"match\": {\"prefix\": \"\"}", "\"\"|\"x\"", "-|null|1|[]|{}"},
      {"\"match\": {\"prefix\": \"\xC3\xBC\"}",
       "\"\xC3\xBC"
       "ber\"",
       "\"\xC3\xB6\"|\"u\"|\"\""},
      {"\"match\": {\"value\": null, \"any\": [\"red\"]}", "\"red\"", "\"blue\"|null|-"},
      {"\"match\": {\"value\": \"red\"}, \"range\": null, \"is_null\": null", "\"red\"", "\"blue\"|null"},
  };
  check_rows(rows, RAG_COUNT_OF(rows));
}

static void test_range(void **state) {
  RAG_UNUSED(state);
  static const value_row rows[] = {
      {"\"range\": {\"gt\": 1}", "2|1.0000001|[0, 5]|18446744073709551615|1e300",
       "-|null|1|1.0|0|-5|\"2\"|true|[]|{}|[[2]]"},
      {"\"range\": {\"gte\": 1}", "1|1.0|2", "0.9999|-1|\"1\"|null"},
      {"\"range\": {\"lt\": -0.5}", "-1|-0.6", "-0.5|0|null|-"},
      {"\"range\": {\"lte\": -0.5}", "-0.5|-1", "-0.49|0|null|-|\"-1\""},
      {"\"range\": {\"gte\": 1, \"lt\": 2}", "1|1.5|[3, 1]", "2|0|[0, 2]|[0, 3]"},
      {"\"range\": {\"gte\": 1, \"lt\": null, \"lte\": 2, \"gt\": null}", "1|2", "0|3"},
      {"\"range\": {\"gte\": 1.5, \"lte\": 1.5}", "1.5|15e-1", "1|2|1.4999"},
      {"\"range\": {\"gt\": 5, \"lt\": 1}", "", "0|1|3|5|6|[0, 6]|-|null"},
      {"\"range\": {\"gt\": 1, \"lt\": 1}", "", "0|1|2"},
      {"\"range\": {\"gte\": 0, \"lte\": 18446744073709551615}", "18446744073709551615|0|9223372036854775808",
       "-1|-0.1"},
      {"\"range\": {\"gte\": \"2024-01-01\", \"lt\": \"2024-02-01T00:00:00Z\"}",
       "\"2024-01-01\"|\"2024-01-31T23:59:59.999999Z\"|[\"x\", \"2024-01-15\"]|\"2024-02-01T00:30:00+01:00\"",
       "\"2024-02-01\"|\"2023-12-31T23:59:59.999999Z\"|\"x\"|\"\"|1704067200|-|null|[]|{}|\"2024-13-01\"|[[\"2024-01-"
       "15\"]]"},
      {"\"range\": {\"gt\": \"2024-01-01T10:00:00Z\"}", "\"2024-01-01T10:00:00.000001Z\"|\"2024-01-02\"",
       "\"2024-01-01T10:00:00Z\"|\"2024-01-01 12:00+02:00\"|\"2024-01-01\""},
      {"\"range\": {\"lte\": \"1969-12-31T23:59:59Z\"}", "\"1969-12-31T23:59:59Z\"|\"0001-01-01\"", "\"1970-01-01\"|0"},
      {"\"range\": {\"gt\": \"2024-01-02\", \"lt\": \"2024-01-01\"}", "",
       "\"2024-01-01\"|\"2024-01-01T12:00:00Z\"|\"2024-01-02\""},
  };
  check_rows(rows, RAG_COUNT_OF(rows));
}

// Each text is the same moment as the canonical one, as an end of a range and as a value; or it is no time at all.
static void test_times(void **state) {
  RAG_UNUSED(state);
  static const struct {
    const char *text, *canonical; // NULL: not a time
  } rows[] = {
      {"2024-01-01T10:00:00Z", "2024-01-01T10:00:00.000000Z"},
      {"2024-01-01t10:00:00z", "2024-01-01T10:00:00.000000Z"},
      {"2024-01-01 10:00:00Z", "2024-01-01T10:00:00Z"},
      {"2024-01-01T10:00:00", "2024-01-01T10:00:00Z"},
      {"2024-01-01 10:00:00", "2024-01-01T10:00:00Z"},
      {"2024-01-01T10:00", "2024-01-01T10:00:00Z"},
      {"2024-01-01 10:00", "2024-01-01T10:00:00Z"},
      {"2024-01-01T10:00Z", "2024-01-01T10:00:00Z"},
      {"2024-01-01T12:00+02:00", "2024-01-01T10:00:00Z"},
      {"2024-01-01T12:00+0200", "2024-01-01T10:00:00Z"},
      {"2024-01-01T12:00:00+0200", "2024-01-01T10:00:00Z"},
      {"2024-01-01 04:30:00-0530", "2024-01-01T10:00:00Z"},
      {"2024-01-01T04:30:00.25-05:30", "2024-01-01T10:00:00.25Z"},
      {"2024-01-01T04:30:00.25-0530", "2024-01-01T10:00:00.25Z"},
      {"2024-01-01T10:00:00.5", "2024-01-01T10:00:00.500000Z"},
      {"2024-01-01 10:00:00.123456", "2024-01-01T10:00:00.123456Z"},
      {"2024-01-01T10:00:00.1234567Z", "2024-01-01T10:00:00.123456Z"},
      {"2024-01-01T12:00:00.123456789+0200", "2024-01-01T10:00:00.123456Z"},
      {"2024-01-01T10:00:00.999999999", "2024-01-01T10:00:00.999999Z"},
      {"2024-01-01", "2024-01-01T00:00:00Z"},
      {"2024-02-29", "2024-02-29T00:00:00Z"},
      {"0001-01-01T00:00", "0001-01-01T00:00:00Z"},
      {"9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999Z"},
      {"", NULL},
      {"2024", NULL},
      {"2024-01", NULL},
      {"2024-1-1", NULL},
      {"2023-02-29", NULL},
      {"2024-01-01Z", NULL},
      {"2024-01-01T", NULL},
      {"2024-01-01T10", NULL},
      {"2024-01-01T10:0", NULL},
      {"2024-01-01T10:00.5", NULL},
      {"2024-01-01T10:60", NULL},
      {"2024-01-01T24:00", NULL},
      {"2024-01-01T10:00:", NULL},
      {"2024-01-01T10:00:00.", NULL},
      {"2024-01-01T10:00:00.Z", NULL},
      {"2024-01-01T10:00:00.1234567x", NULL},
      {"2024-01-01T10:00:00+02", NULL},
      {"2024-01-01T10:00:00+2500", NULL},
      {"2024-01-01T10:00:00 Z", NULL},
      {"2024-01-01  10:00:00", NULL},
      {"2024-01-01T10:00:00ZZ", NULL},
      {" 2024-01-01", NULL},
      {"2024-01-01 ", NULL},
      {"2024/01/01", NULL},
      {"20240101T100000Z", NULL},
      {"2024-01-01T10:00\\u0000", NULL},
      {"2024-01-01T10:00:00.000000000000000000000Z", NULL}, // over 40 bytes
  };
  for (size_t i = 0; i < RAG_COUNT_OF(rows); i++) {
    const char *other = rows[i].canonical != NULL ? rows[i].canonical : "2024-01-01T10:00:00Z";
    char filter[256], metadata[128];
    snprintf(filter, sizeof filter, "{\"must\": {\"key\": \"t\", \"range\": {\"gte\": \"%s\", \"lte\": \"%s\"}}}",
             other, other);
    snprintf(metadata, sizeof metadata, "{\"t\": \"%s\"}", rows[i].text);
    if (passes(parsed(filter), "doc", metadata) != (rows[i].canonical != NULL)) fail_msg("value '%s'", rows[i].text);
    snprintf(filter, sizeof filter, "{\"must\": {\"key\": \"t\", \"range\": {\"gte\": \"%s\", \"lte\": \"%s\"}}}",
             rows[i].text, rows[i].text);
    snprintf(metadata, sizeof metadata, "{\"t\": \"%s\"}", other);
    const rag_filter *out = NULL;
    rag_error err = {0};
    rag_status status = rag_filter_parse(rag_slice_str(filter), arena, &out, &err);
    if ((status == RAG_OK) != (rows[i].canonical != NULL)) fail_msg("end '%s': %s", rows[i].text, err.message);
    if (status == RAG_OK && !passes(out, "doc", metadata)) fail_msg("end '%s'", rows[i].text);
    if (status != RAG_OK) assert_string_equal(err.field, "filter.must.range.gte");
  }
}

static void test_geo(void **state) {
  RAG_UNUSED(state);
  static const value_row rows[] = {
      // A degree of latitude is 111,195.08 m on this sphere.
      {"\"geo_radius\": {\"center\": " PT(0, 0) ", \"radius\": 111196}",
       PT(1, 0) "|" PT(0, 1) "|" PT(-1, 0) "|" PT(0.0, -1.0) "|[" PT(50, 50) "," PT(
           0, 1) "]|{\"lon\": 0, \"x\": 1, \"lat\": 0}",
       "-|null|[]|{}|[0, 0]|{\"lat\": 0}|{\"lon\": 0}|{\"lat\": \"0\", \"lon\": 0}|{\"lat\": 0, \"lon\": null}|" PT(
           1, 1) "|" PT(1.0001, 0) "|\"0,0\"|[[" PT(0, 0) "]]|{\"lat\": [0], \"lon\": [0]}|" PT(0, 360) "|" PT(180, 0)},
      {"\"geo_radius\": {\"center\": " PT(0, 0) ", \"radius\": 111194}", PT(0.9999, 0), PT(1, 0) "|" PT(0, 1)},
      {"\"geo_radius\": {\"center\": " PT(52.5, 13.4) ", \"radius\": 0}", PT(52.5, 13.4) "|" PT(5.25e1, 1.34e1),
       PT(52.5, 13.400001) "|" PT(52.500001, 13.4)},
      {"\"geo_radius\": {\"center\": " PT(0, 179.9) ", \"radius\": 25000}",
       PT(0, -179.9) "|" PT(0, 180) "|" PT(0, -180), PT(0, -179.8) "|" PT(0, 0)}, // date line
      {"\"geo_radius\": {\"center\": " PT(90, 0) ", \"radius\": 1}", PT(90, 120) "|" PT(90, -180),
       PT(89.9, 0) "|" PT(-90, 0)}, // pole
      {"\"geo_radius\": {\"center\": " PT(-89, 0) ", \"radius\": 222391}", PT(-89, 180) "|" PT(-90, 77),
       PT(-87.9, 180)},
      // Antipodes, where the haversine is 1 plus rounding.
      {"\"geo_radius\": {\"center\": " PT(0.08, 0) ", \"radius\": 20015200}", PT(-0.08, 180) "|" PT(0, 0), "null"},
      {"\"geo_radius\": {\"center\": " PT(0, 0) ", \"radius\": 20015200}", PT(0, 180) "|" PT(90, 0) "|" PT(-90, 0),
       "null"},
      {"\"geo_radius\": {\"center\": " PT(0, 0) ", \"radius\": 20015000}", PT(0, 179.9), PT(0, 180)},
      // Berlin to Paris: 878 km.
      {"\"geo_radius\": {\"center\": " PT(52.52, 13.405) ", \"radius\": 880000}", PT(48.8566, 2.3522),
       PT(51.5074, -0.1278)},
      {"\"geo_radius\": {\"center\": " PT(52.52, 13.405) ", \"radius\": 876000}", PT(52, 13), PT(48.8566, 2.3522)},
      {"\"geo_bounding_box\": {\"top_left\": " PT(10, -5) ", \"bottom_right\": " PT(-10, 5) "}",
       PT(0, 0) "|" PT(10, -5) "|" PT(-10, 5) "|" PT(10, 5) "|[1, " PT(0, 0) "]",
       "-|null|[]|" PT(10.001, 0) "|" PT(-10.001, 0) "|" PT(0, 5.001) "|" PT(0, -5.001) "|" PT(0, 180) "|5|{}"},
      {"\"geo_bounding_box\": {\"top_left\": " PT(10, 170) ", \"bottom_right\": " PT(-10, -170) "}",
       PT(0, 175) "|" PT(0, -175) "|" PT(0, 180) "|" PT(0, -180) "|" PT(0, 170) "|" PT(0, -170),
       PT(0, 169) "|" PT(0, -169) "|" PT(0, 0) "|" PT(11, 180)}, // over the date line
      {"\"geo_bounding_box\": {\"top_left\": " PT(90, -180) ", \"bottom_right\": " PT(-90, 180) "}",
       PT(90, 0) "|" PT(-90, 180) "|" PT(0, -180), "-|" PT(91, 0) "|" PT(0, 181) "|" PT(0, -181) "|" PT(-91, 0)},
      {"\"geo_bounding_box\": {\"top_left\": " PT(-10, 0) ", \"bottom_right\": " PT(10, 5) "}", "",
       PT(0, 1) "|" PT(-10, 0) "|" PT(10, 5) "|" PT(20, 1)}, // upside down: nothing
      {"\"geo_bounding_box\": {\"top_left\": " PT(1, 2) ", \"bottom_right\": " PT(1, 2) "}", PT(1, 2),
       PT(1, 2.1) "|" PT(1.1, 2)},
      {"\"geo_polygon\": {\"exterior\": {\"points\": " SQUARE "}}",
       PT(5, 5) "|" PT(0.001, 0.001) "|" PT(9.999, 9.999) "|[" PT(50, 50) "," PT(1, 9) "]",
       "-|null|[]|{}|" PT(-0.001, 5) "|" PT(10.001, 5) "|" PT(5, -0.001) "|" PT(5, 10.001) "|" PT(5, -170) "|7"},
      {"\"geo_polygon\": {\"exterior\": {\"points\": " SQUARE "}, \"interiors\": null}", PT(5, 5), PT(11, 5)},
      {"\"geo_polygon\": {\"exterior\": {\"points\": " SQUARE "}, \"interiors\": []}", PT(5, 5), PT(11, 5)},
      {"\"geo_polygon\": {\"exterior\": {\"points\": " SQUARE "}, \"interiors\": [" HOLE "," HOLE_2 "]}",
       PT(3, 5) "|" PT(5, 3.99) "|" PT(5, 6.01) "|" PT(1.2, 1.9) "|" PT(9, 9),
       PT(5, 5) "|" PT(4.01, 4.01) "|" PT(1.9, 1.2) "|" PT(-1, 5) "|" PT(5, 11)},
      {"\"geo_polygon\": {\"exterior\": {\"points\": " STAR "}}", PT(5, 5) "|" PT(4, 4) "|" PT(1, 1.5) "|" PT(9, 5),
       PT(1, 5) "|" PT(2.9, 5) "|" PT(9, 4) "|" PT(0.5, 3)},
  };
  check_rows(rows, RAG_COUNT_OF(rows));
}

static void test_presence(void **state) {
  RAG_UNUSED(state);
  static const value_row rows[] = {
      {"\"values_count\": {\"gte\": 1}", "1|\"\"|false|{}|[1]|[null]|[[]]|[1, 2]", "-|null|[]"},
      {"\"values_count\": {\"lt\": 1}", "-|null|[]", "1|[null]|{}|\"\""},
      {"\"values_count\": {\"gt\": 1, \"lte\": 3}", "[1, 2]|[1, 2, 3]|[[], []]",
       "-|null|[]|1|[1]|[1, 2, 3, 4]|\"abc\"|{\"x\": 1, \"y\": 2}"},
      {"\"values_count\": {\"gte\": 2.5}", "[1, 2, 3]", "[1, 2]|1"},
      {"\"is_empty\": true", "-|null|[]", "0|\"\"|false|{}|[null]|[[]]|[1]"},
      {"\"is_empty\": false", "0|\"\"|false|{}|[null]|[[]]|[1]", "-|null|[]"},
      {"\"is_null\": true", "null|[null]|[1, null]", "-|[]|0|\"\"|false|{}|[1]|[[null]]|\"null\"|{\"x\": null}"},
      {"\"is_null\": false", "-|[]|0|\"\"|false|{}|[1]|[[null]]", "null|[null]|[1, null]"},
  };
  check_rows(rows, RAG_COUNT_OF(rows));
  check_values("{\"must\": [{\"is_empty\": {\"key\": \"a\"}}]}", "-|null|[]", true);
  check_values("{\"must\": [{\"is_empty\": {\"key\": \"a\"}}]}", "0|\"\"|[null]|[[]]|{}|false", false);
  check_values("{\"must\": [{\"is_null\": {\"key\": \"a\"}}]}", "null", true);
  check_values("{\"must\": [{\"is_null\": {\"key\": \"a\"}}]}", "-|[]|[null]|0|\"\"|{}", false);
}

// ---------------------------------------------------------------------------------------------- whole filters

typedef struct filter_row {
  const char *filter, *metadata;
  bool passes;
} filter_row;

static void check_filters(const filter_row *rows, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (passes(parsed(rows[i].filter), "doc", rows[i].metadata) != rows[i].passes)
      fail_msg("row %zu: %s %s %s", i, rows[i].metadata, rows[i].passes ? "should pass" : "should not pass",
               rows[i].filter);
}

static void test_paths(void **state) {
  RAG_UNUSED(state);
#define NESTED_ARRAYS "{\"a\": [[1, 2], [3, [4]], 5, {\"b\": 6}]}"
  static const filter_row rows[] = {
      {"{\"must\": [" M("a.b", "1") "]}", "{\"a\": {\"b\": 1}}", true},
      {"{\"must\": [" M("a.b", "1") "]}", "{\"a\": {\"b\": [0, 1]}}", true},
      {"{\"must\": [" M("a.b", "1") "]}", "{\"a\": [{\"b\": 1}]}", false}, // an array wants []
      {"{\"must\": [" M("a.b", "1") "]}", "{\"a.b\": 1}", false},
      {"{\"must\": [" M("a.b", "1") "]}", "{\"a\": 1, \"b\": 1}", false},
      {"{\"must\": [" M("a", "1") "]}", "{\"x\": {\"a\": 1}}", false},
      {"{\"must\": [" M("a.b.c", "1") "]}", "{\"a\": {\"b\": {\"c\": 1}}}", true},
      {"{\"must\": [" M("a.b.c", "1") "]}", "{\"a\": {\"b\": null}}", false},
      {"{\"must\": [" M("\\\"a.b\\\"", "1") "]}", "{\"a.b\": 1}", true},
      {"{\"must\": [" M("\\\"a.b\\\"", "1") "]}", "{\"a\": {\"b\": 1}}", false},
      {"{\"must\": [" M("a.\\\"b c[0]\\\".d", "1") "]}", "{\"a\": {\"b c[0]\": {\"d\": 1}}}", true},
      {"{\"must\": [" M("\\\"a b\\\"[]", "1") "]}", "{\"a b\": [1]}", true},
      {"{\"must\": [" M("\\\"a\\\"", "1") "]}", "{\"a\": 1}", true},
      {"{\"must\": [" M("a-b_C9", "1") "]}", "{\"a-b_C9\": 1}", true},
      {"{\"must\": [" M("0", "1") "]}", "{\"0\": 1}", true},
      {"{\"must\": [" M("stra\xC3\x9F"
                        "e.\xE6\x97\xA5",
                        "1") "]}",
       "{\"stra\xC3\x9F"
       "e\": {\"\xE6\x97\xA5\": 1}}",
       true},
      {"{\"must\": [" M("stra\\u00dfe", "1") "]}", "{\"stra\\u00DFe\": 1}", true},
      {"{\"must\": [" M("\xC3\xBC", "1") "]}", "{\"u\": 1}", false},
      {"{\"must\": [" M("a[0]", "1") "]}", "{\"a\": [1, 2]}", true},
      {"{\"must\": [" M("a[1]", "1") "]}", "{\"a\": [1, 2]}", false},
      {"{\"must\": [" M("a[1]", "2") "]}", "{\"a\": [1, 2]}", true},
      {"{\"must\": [" M("a[2]", "2") "]}", "{\"a\": [1, 2]}", false},
      {"{\"must\": [" M("a[0]", "1") "]}", "{\"a\": 1}", false},
      {"{\"must\": [" M("a[0]", "1") "]}", "{\"a\": {\"0\": 1}}", false},
      {"{\"must\": [" M("a[999999999]", "1") "]}", "{\"a\": [1]}", false},
      {"{\"must\": [" M("a[00]", "1") "]}", "{\"a\": [1]}", true},
      {"{\"must\": [" M("a[]", "1") "]}", "{\"a\": [0, 1]}", true},
      {"{\"must\": [" M("a[]", "1") "]}", "{\"a\": 1}", false},
      {"{\"must\": [" M("a[].b", "1") "]}", "{\"a\": [{\"b\": 0}, 7, {\"b\": [2, 1]}]}", true},
      {"{\"must\": [" M("a[].b", "1") "]}", "{\"a\": {\"b\": 1}}", false},
      {"{\"must\": [" M("a[1].b", "1") "]}", "{\"a\": [{\"b\": 1}, {\"b\": 2}]}", false},
      {"{\"must\": [" M("a[1].b", "2") "]}", "{\"a\": [{\"b\": 1}, {\"b\": 2}]}", true},
      {"{\"must\": [" M("a", "1") "]}", NESTED_ARRAYS, false},
      {"{\"must\": [" M("a", "5") "]}", NESTED_ARRAYS, true},
      {"{\"must\": [" M("a[]", "1") "]}", NESTED_ARRAYS, true}, // the array at the path's end is opened
      {"{\"must\": [" M("a[]", "4") "]}", NESTED_ARRAYS, false},
      {"{\"must\": [" M("a[][]", "4") "]}", NESTED_ARRAYS, true},
      {"{\"must\": [" M("a[][]", "5") "]}", NESTED_ARRAYS, false},
      {"{\"must\": [" M("a[0][1]", "2") "]}", NESTED_ARRAYS, true},
      {"{\"must\": [" M("a[0][0]", "2") "]}", NESTED_ARRAYS, false},
      {"{\"must\": [" M("a[].b", "6") "]}", NESTED_ARRAYS, true},
      {"{\"must\": [{\"is_empty\": {\"key\": \"a[]\"}}]}", "{\"a\": [null, []]}", true},
      {"{\"must\": [{\"is_empty\": {\"key\": \"a[]\"}}]}", "{\"a\": [null, 0]}", false},
      {"{\"must\": [{\"is_empty\": {\"key\": \"a.b\"}}]}", "{\"a\": 1}", true},
      {"{\"must\": [{\"is_null\": {\"key\": \"a[]\"}}]}", "{\"a\": [0, null]}", true},
      {"{\"must\": [{\"key\": \"a[].b\", \"values_count\": {\"gte\": 2}}]}", "{\"a\": [{\"b\": 1}, {\"b\": [1, 2]}]}",
       true},
      {"{\"must\": [{\"key\": \"a[].b\", \"values_count\": {\"gte\": 2}}]}", "{\"a\": [{\"b\": 1}, {\"b\": 2}]}",
       false},
      {"{\"must\": [{\"key\": \"a[].b\", \"values_count\": {\"lte\": 0}}]}", "{\"a\": [{\"b\": 1}, {}]}", false},
      {"{\"must\": [{\"key\": \"a[].b\", \"values_count\": {\"lte\": 0}}]}", "{\"a\": [{}, {}]}", true},
      {"{\"must\": [{\"key\": \"a[]\", \"match\": {\"except\": [1]}}]}", "{\"a\": [1, 2]}", true},
      {"{\"must\": [{\"key\": \"a[]\", \"match\": {\"except\": [1]}}]}", "{\"a\": [1, [1]]}", false},
      {"{\"must\": [{\"key\": \"a.b\", \"match\": {\"except\": [1]}}]}", "{\"a\": {\"c\": 2}}", false},
  };
  check_filters(rows, RAG_COUNT_OF(rows));
}

static void test_parts(void **state) {
  RAG_UNUSED(state);
  static const filter_row rows[] = {
      {"", "{\"a\": 1}", true},
      {"{}", "{\"a\": 1}", true},
      {"{}", "", true},
      {"{\"must\": []}", "{}", true},
      {"{\"must_not\": []}", "{}", true},
      {"{\"should\": []}", "{\"a\": 1}", false},
      {"{\"should\": []}", "", false},
      {"{\"should\": [], \"must\": [" A "]}", "{\"a\": 1}", false},
      {"{\"must\": null, \"should\": null, \"must_not\": null, \"min_should\": null}", "{}", true},
      {"{\"must\": {}}", "{}", true},
      {"{\"should\": [{}]}", "{}", true},
      {"{\"must_not\": [{}]}", "{}", false},
      {"{\"must\": " A "}", "{\"a\": 1}", true}, // one condition instead of a list
      {"{\"should\": " A "}", "{\"a\": 2}", false},
      {"{\"must_not\": " A "}", "{\"a\": 1}", false},
      {"{\"must\": [" A "," B "]}", "{\"a\": 1, \"b\": 1}", true},
      {"{\"must\": [" A "," B "]}", "{\"a\": 1, \"b\": 2}", false},
      {"{\"should\": [" A "," B "]}", "{\"a\": 0, \"b\": 1}", true},
      {"{\"should\": [" A "," B "]}", "{\"a\": 0, \"b\": 0}", false},
      {"{\"must_not\": [" A "," B "]}", "{\"a\": 0, \"b\": 1}", false},
      {"{\"must_not\": [" A "," B "]}", "{\"a\": 0}", true},
      {"{\"must\": [" A "], \"should\": [" B "], \"must_not\": [" C "]}", "{\"a\": 1, \"b\": 1}", true},
      {"{\"must\": [" A "], \"should\": [" B "], \"must_not\": [" C "]}", "{\"a\": 1, \"b\": 1, \"c\": 1}", false},
      {"{\"must\": [" A "], \"should\": [" B "], \"must_not\": [" C "]}", "{\"a\": 1}", false},
      {"{\"min_should\": {\"conditions\": [" A "," B "," C "], \"min_count\": 2}}", "{\"a\": 1, \"c\": 1}", true},
      {"{\"min_should\": {\"conditions\": [" A "," B "," C "], \"min_count\": 2}}", "{\"c\": 1}", false},
      {"{\"min_should\": {\"conditions\": [" A "," B "," C "], \"min_count\": 3}}", "{\"a\": 1, \"b\": 1, \"c\": 1}",
       true},
      {"{\"min_should\": {\"conditions\": [" A "," B "], \"min_count\": 3}}", "{\"a\": 1, \"b\": 1}", false},
      {"{\"min_should\": {\"conditions\": [], \"min_count\": 1}}", "{}", false},
      {"{\"min_should\": {\"min_count\": 1, \"conditions\": " A "}}", "{\"a\": 1}", true},
      {"{\"min_should\": {\"conditions\": [" A "," A "], \"min_count\": 2}}", "{\"a\": 1}", true},
      {"{\"min_should\": {\"conditions\": [" A "], \"min_count\": 1}, \"must\": " B "}", "{\"a\": 1}", false},
      {"{\"must\": [{\"should\": [" A "," B "]}, {\"must_not\": " C "}]}", "{\"b\": 1}", true},
      {"{\"must\": [{\"should\": [" A "," B "]}, {\"must_not\": " C "}]}", "{\"b\": 1, \"c\": 1}", false},
      {"{\"must_not\": [{\"must_not\": [" A "]}]}", "{\"a\": 1}", true},
      {"{\"must_not\": [{\"must_not\": [" A "]}]}", "{\"a\": 2}", false},
      {"{\"must\": " A "}", "", false},
      {"{\"must_not\": " A "}", "", true},
      {"{\"must\": {\"is_empty\": {\"key\": \"a\"}}}", "", true},
      {"{\"must\": {\"is_null\": {\"key\": \"a\"}}}", "", false},
      {"{\"must\": {\"key\": \"a\", \"is_null\": false}}", "", true},
      {"{\"must\": {\"key\": \"a\", \"values_count\": {\"lt\": 1}}}", "", true},
      {"{\"must\": {\"key\": \"a\", \"match\": {\"except\": [1]}}}", "", false},
      {"{\"must\": " A "}", "[1]", false}, // metadata that is no object has no keys
      {"{\"must\": {\"is_empty\": {\"key\": \"a\"}}}", "7", true},
      {"{\"must\": {\"has_id\": [\"doc\"]}}", "", true},
      {"{\"must\": [{\"has_id\": [\"x\", \"doc\", \"a\"]}]}", "{}", true},
      {"{\"must\": [{\"has_id\": [\"do\", \"doc \", \"docs\", \"Doc\", \"\"]}]}", "{}", false},
      {"{\"must\": [{\"has_id\": []}]}", "{}", false},
      {"{\"must_not\": [{\"has_id\": [\"doc\"]}]}", "{}", false},
      {"{\"should\": [{\"must\": {\"has_id\": [\"doc\"]}}]}", "{}", true},
  };
  check_filters(rows, RAG_COUNT_OF(rows));
  const rag_filter *ids = parsed("{\"must\": [{\"has_id\": [7, \"08\", -1, 18446744073709551615, \"a\\u0000b\"]}]}");
  assert_true(passes(ids, "7", ""));
  assert_true(passes(ids, "08", ""));
  assert_true(passes(ids, "-1", ""));
  assert_true(passes(ids, "18446744073709551615", ""));
  assert_false(passes(ids, "8", ""));
  assert_false(passes(ids, "07", ""));
  assert_false(passes(ids, "a", ""));
  assert_false(passes(ids, "", ""));
}

static void test_nested(void **state) {
  RAG_UNUSED(state);
#define BOTH "\"must\": [" M("p", "1") "," M("q", "1") "]"
#define APART "{\"a\": [{\"p\": 1, \"q\": 0}, {\"p\": 0, \"q\": 1}]}"
#define TOGETHER "{\"a\": [{\"p\": 0}, {\"p\": 1, \"q\": 1}]}"
  static const filter_row rows[] = {
      {"{\"must\": [" M("a[].p", "1") "," M("a[].q", "1") "]}", APART, true},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {" BOTH "}}}]}", APART, false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {" BOTH "}}}]}", TOGETHER, true},
      {"{\"must\": [{\"nested\": {\"key\": \"a[]\", \"filter\": {" BOTH "}}}]}", TOGETHER, true},
      {"{\"must\": [{\"nested\": {\"key\": \"a[]\", \"filter\": {" BOTH "}}}]}", APART, false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {" BOTH "}}}]}", "{\"a\": {\"p\": 1, \"q\": 1}}", false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {" BOTH "}}}]}", "{\"a\": [[{\"p\": 1, \"q\": 1}]]}",
       false},
      {"{\"must\": [{\"nested\": {\"key\": \"a[0]\", \"filter\": {" BOTH "}}}]}", "{\"a\": [[{\"p\": 1, \"q\": 1}]]}",
       true},
      {"{\"must\": [{\"nested\": {\"key\": \"a[0]\", \"filter\": {" BOTH "}}}]}", "{\"a\": [{\"p\": 1, \"q\": 1}]}",
       false},
      {"{\"must\": [{\"nested\": {\"key\": \"a[][]\", \"filter\": {" BOTH "}}}]}", "{\"a\": [[{\"p\": 1, \"q\": 1}]]}",
       true},
      {"{\"must\": [{\"nested\": {\"key\": \"x.a\", \"filter\": {" BOTH "}}}]}", "{\"x\": " TOGETHER "}", true},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {" BOTH "}}}]}", "{\"a\": []}", false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {}}}]}", "{\"a\": [1, null, \"x\"]}", false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {}}}]}", "{\"a\": [1, {}]}", true},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {}}}]}", "{}", false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {\"must_not\": " M("p", "1") "}}}]}",
       "{\"a\": [{\"p\": 1}]}", false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {\"must_not\": " M("p", "1") "}}}]}", APART, true},
      {"{\"must_not\": [{\"nested\": {\"key\": \"a\", \"filter\": {\"must\": " M("p", "1") "}}}]}", APART, false},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {\"must\": {\"is_empty\": {\"key\": \"q\"}}}}}]}",
       TOGETHER, true},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {\"must\": {\"nested\": {\"key\": \"b\", \"filter\": "
       "{" BOTH "}}}}}}]}",
       "{\"a\": [{\"b\": [{\"p\": 1}, {\"q\": 1}]}, {\"b\": [{\"p\": 1, \"q\": 1}]}]}", true},
      {"{\"must\": [{\"nested\": {\"key\": \"a\", \"filter\": {\"must\": {\"nested\": {\"key\": \"b\", \"filter\": "
       "{" BOTH "}}}}}}]}",
       "{\"a\": [{\"b\": [{\"p\": 1}, {\"q\": 1}]}], \"b\": [{\"p\": 1, \"q\": 1}]}", false},
  };
  check_filters(rows, RAG_COUNT_OF(rows));
}

// ---------------------------------------------------------------------------------------------- memory, threads

// Every kind of condition; EVERYTHING_YES passes it.
#define EVERYTHING                                                                                                     \
  "{\"must\":[" M("s", "\"red\"") "," M("i", "7") "," M(                                                               \
      "b",                                                                                                             \
      "true") ",{\"key\":\"s\",\"match\":{\"any\":[\"red\",\"x\"]}},"                                                  \
              "{\"key\":\"i\",\"match\":{\"any\":[9,7]}},{\"key\":\"s\",\"match\":{\"except\":[\"y\",\"x\"]}},"        \
              "{\"key\":\"i\",\"match\":{\"except\":[1]}},{\"key\":\"text\",\"match\":{\"text\":\"old red\"}},"        \
              "{\"key\":\"text\",\"match\":{\"text_any\":\"beer "                                                      \
              "wine\"}},{\"key\":\"text\",\"match\":{\"prefix\":\"very\"}},"                                           \
              "{\"key\":\"i\",\"range\":{\"gt\":6.5}},{\"key\":\"t\",\"range\":{\"lt\":\"2024-02-01\"}},"              \
              "{\"key\":\"g\",\"geo_bounding_box\":{\"top_left\":" PT(9, 1) ",\"bottom_right\":" PT(                   \
                  1,                                                                                                   \
                  9) "}},"                                                                                             \
                     "{\"key\":\"g\",\"geo_radius\":{\"center\":" PT(                                                  \
                         3,                                                                                            \
                         3) ",\"radius\":10}},"                                                                        \
                            "{\"key\":\"g\",\"geo_polygon\":{\"exterior\":{\"points\":" SQUARE                         \
                            "},\"interiors\":[" HOLE "," HOLE_2 "]}},"                                                 \
                            "{\"key\":\"l[]\",\"values_count\":{\"gte\":1}},{\"is_empty\":{\"key\":\"none\"}}"         \
                            ",{\"is_null\":{\"key\":\"n\"}},"                                                          \
                            "{\"has_id\":[5,\"doc\"]},{\"nested\":{\"key\":\"l\",\"filter\":{\"must\":[" M(            \
                                "\\\"p.q\\\"",                                                                         \
                                "1") "," M("r",                                                                        \
                                           "2") "]}}}],"                                                               \
                                                "\"should\":[" M("i", "8") ",{\"must_not\":" M(                        \
                                                    "i",                                                               \
                                                    "8") "}],\"must_not\":[" M("s",                                    \
                                                                               "\"blue\"") "],"                        \
                                                                                           "\"min_should\":{"          \
                                                                                           "\"conditions\":"           \
                                                                                           "[" M("i", "7") "," M(      \
                                                                                               "i",                    \
                                                                                               "8") "," M("s",         \
                                                                                                          "\""         \
                                                                                                          "re"         \
                                                                                                          "d"          \
                                                                                                          "\"") "],"   \
                                                                                                                "\"mi" \
                                                                                                                "n_"   \
                                                                                                                "coun" \
                                                                                                                "t\":" \
                                                                                                                "2}}"
#define EVERYTHING_YES                                                                                                 \
  "{\"s\":\"red\",\"i\":7,\"b\":true,\"text\":\"very old red wine\",\"t\":\"2024-01-31T12:00\",\"g\":" PT(             \
      3, 3) ",\"l\":[{\"p.q\":0,\"r\":2},{\"p.q\":1,\"r\":2}],\"n\":null}"
#define EVERYTHING_NO                                                                                                  \
  "{\"s\":\"red\",\"i\":7,\"b\":true,\"text\":\"very old red wine\",\"t\":\"2024-01-31T12:00\",\"g\":" PT(             \
      3, 3) ",\"l\":[{\"p.q\":0,\"r\":2},{\"p.q\":1,\"r\":1}],\"n\":null}"

// The filter keeps nothing of its text, nor of the parser that read it.
static void test_ownership(void **state) {
  RAG_UNUSED(state);
  static const char other[] = "{\"must\":[{\"key\":\"zzzz\",\"match\":{\"any\":[\"zzzz\",\"zzzz\"]}}]}";
  char *text = malloc(sizeof EVERYTHING - 1); // no NUL after it
  rag_arena *own = rag_arena_create(0);
  const rag_filter *filter = NULL;
  rag_error err = {0};
  assert_true(text != NULL && own != NULL);
  memcpy(text, EVERYTHING, sizeof EVERYTHING - 1);
  assert_int_equal(rag_filter_parse(rag_slice_of(text, sizeof EVERYTHING - 1), own, &filter, &err), RAG_OK);
  memset(text, 'z', sizeof EVERYTHING - 1);
  free(text);
  for (int i = 0; i < 8; i++) { // whichever parser the pool gave, it reads something else now
    rag_json_parser *again = rag_json_parser_acquire();
    rag_json value;
    rag_buf filler = {0};
    assert_non_null(again);
    rag_buf_append_char(&filler, '[');
    repeat(&filler, "\"zzzzzzzz\",77,", 200);
    rag_buf_append_str(&filler, other);
    rag_buf_append_char(&filler, ']');
    assert_int_equal(rag_json_parse(again, rag_buf_slice(&filler), &value, NULL), RAG_OK);
    rag_buf_free(&filler);
    if (i % 2 == 0) rag_json_parser_release(again);
    else rag_json_parser_destroy(again);
  }
  assert_true(passes(filter, "doc", EVERYTHING_YES));
  assert_true(passes(filter, "5", EVERYTHING_YES));
  assert_false(passes(filter, "dog", EVERYTHING_YES));
  assert_false(passes(filter, "doc", EVERYTHING_NO));
  rag_arena_destroy(own);
}

static void test_allocation_failures(void **state) {
  RAG_UNUSED(state);
  uint64_t n = 1;
  for (bool failed = true; failed; n++) {
    rag_arena *own = rag_arena_create(0);
    const rag_filter *filter = NULL;
    rag_error err = {0};
    assert_non_null(own);
    rag_alloc_fail_after(n);
    rag_status status = rag_filter_parse(rag_slice_str(EVERYTHING), own, &filter, &err);
    failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    assert_true(failed ? filter == NULL && err.message[0] != '\0' : passes(filter, "doc", EVERYTHING_YES));
    rag_arena_destroy(own);
    assert_true(n < 100);
  }
  assert_true(n > 2);
  // An arena takes many of the filter's blocks at once; a limit on it fails each of them in turn.
  size_t limit = 1, refusals = 0;
  for (rag_status status = RAG_UNKNOWN; status != RAG_OK; limit += 24) {
    rag_arena *own = rag_arena_create(limit);
    const rag_filter *filter = NULL;
    rag_error err = {0};
    if (own == NULL) continue;
    status = rag_filter_parse(rag_slice_str(EVERYTHING), own, &filter, &err);
    assert_true(status == RAG_OK || status == RAG_RESOURCE_EXHAUSTED);
    assert_true(status == RAG_OK ? passes(filter, "doc", EVERYTHING_YES) : filter == NULL && err.message[0] != '\0');
    refusals += status != RAG_OK;
    rag_arena_destroy(own);
    assert_true(limit < 1u << 20);
  }
  assert_true(refusals > 20);
  const rag_filter *filter = parsed(EVERYTHING);
  n = 1;
  for (bool failed = true; failed; n++) {
    rag_json_parser *fresh = rag_json_parser_create();
    bool pass = false;
    assert_non_null(fresh);
    rag_alloc_fail_after(n);
    rag_status status =
        rag_filter_match(filter, rag_slice_str("doc"), rag_slice_str(EVERYTHING_YES), fresh, &pass, NULL);
    failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    assert_int_equal(pass, !failed);
    rag_json_parser_destroy(fresh);
    assert_true(n < 100);
  }
}

typedef struct matcher {
  const rag_filter *filter;
  unsigned wrong;
} matcher;

static void *match_many(void *arg) {
  matcher *m = arg;
  rag_json_parser *own = rag_json_parser_create();
  for (int i = 0; i < 2000; i++) {
    bool yes = i % 3 == 0, pass = !yes;
    rag_status status = rag_filter_match(m->filter, rag_slice_str("doc"),
                                         rag_slice_str(yes ? EVERYTHING_YES : EVERYTHING_NO), own, &pass, NULL);
    m->wrong += status != RAG_OK || pass != yes;
  }
  rag_json_parser_destroy(own);
  return NULL;
}

static void test_threads(void **state) {
  RAG_UNUSED(state);
  pthread_t threads[4];
  matcher matchers[4];
  const rag_filter *filter = parsed(EVERYTHING);
  for (size_t i = 0; i < RAG_COUNT_OF(threads); i++) {
    matchers[i] = (matcher){.filter = filter};
    assert_int_equal(pthread_create(&threads[i], NULL, match_many, &matchers[i]), 0);
  }
  for (size_t i = 0; i < RAG_COUNT_OF(threads); i++) {
    assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(matchers[i].wrong, 0);
  }
}

int main(void) {
  static const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_match),     cmocka_unit_test(test_range),
      cmocka_unit_test(test_times),     cmocka_unit_test(test_geo),
      cmocka_unit_test(test_presence),  cmocka_unit_test(test_paths),
      cmocka_unit_test(test_parts),     cmocka_unit_test(test_nested),
      cmocka_unit_test(test_ownership), cmocka_unit_test(test_allocation_failures),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests_name("kb_filter", tests, setup, teardown);
}
