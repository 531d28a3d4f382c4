// Goal: base/json reads exactly the JSON that json.h promises, says what is wrong with anything else, and prints text
// that reads back as the same values.
// Method: tables of good and bad texts; every limit at it and one past it; the slow diagnosing reader, written apart
// from the parser, as a second opinion on thousands of mutated texts; every allocation failed in turn; parsers shared
// by threads through the pool.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/json_internal.h"

#define S(literal) rag_slice_of(literal, sizeof(literal) - 1)

static rag_json_parser *parser;

static int open_parser(void **state) {
  RAG_UNUSED(state);
  parser = rag_json_parser_create();
  return parser ? 0 : -1;
}

static int close_parser(void **state) {
  RAG_UNUSED(state);
  rag_json_parser_destroy(parser);
  return 0;
}

static rag_json parse(const char *text) {
  rag_json value;
  rag_error err = {0};
  rag_status status = rag_json_parse(parser, rag_slice_str(text), &value, &err);
  if (status != RAG_OK) fail_msg("%s: %s", text, err.message);
  return value;
}

static void expect_refused(rag_slice text, const char *field, const char *message) {
  rag_json value = {NULL, 12345};
  rag_error err = {0};
  rag_status status = rag_json_parse(parser, text, &value, &err);
  if (status != RAG_INVALID_ARGUMENT) fail_msg("accepted or otherwise refused (%d): %.60s", (int)status, text.data);
  assert_int_equal(value.index, 12345); // untouched
  if (!strstr(err.message, message)) fail_msg("%.60s: \"%s\" does not say \"%s\"", text.data, err.message, message);
  assert_string_equal(err.field, field);
}

static char *written(rag_json value, rag_buf *out) {
  rag_buf_clear(out);
  rag_json_write(value, out);
  rag_buf_append_char(out, '\0');
  assert_false(out->failed);
  return out->data;
}

// ------------------------------------------------------------------------------------------------------------ reading

static void reads_every_type(void **state) {
  RAG_UNUSED(state);
  rag_json v = parse(" {\"n\":null,\"t\":true,\"f\":false,\"i\":-5,\"u\":18446744073709551615,\"d\":0.5,"
                     "\"s\":\"a\\u00e9\\ud83d\\ude00\\n\",\"a\":[1,[],{}],\"o\":{}} \n");
  static const rag_json_type types[] = {RAG_JSON_NULL,   RAG_JSON_BOOL,   RAG_JSON_BOOL,  RAG_JSON_INT,   RAG_JSON_UINT,
                                        RAG_JSON_DOUBLE, RAG_JSON_STRING, RAG_JSON_ARRAY, RAG_JSON_OBJECT};
  assert_int_equal(rag_json_type_of(v), RAG_JSON_OBJECT);
  assert_int_equal(rag_json_size(v), 9);
  size_t i = 0;
  for (rag_json_iter it = rag_json_iter_of(v); rag_json_iter_next(&it); i++)
    assert_int_equal(rag_json_type_of(it.value), types[i]);
  assert_int_equal(i, 9);

  rag_json m;
  assert_true(rag_json_find(v, S("t"), &m) && rag_json_bool(m));
  assert_true(rag_json_find(v, S("f"), &m) && !rag_json_bool(m));
  assert_true(rag_json_find(v, S("i"), &m) && rag_json_int(m) == -5 && rag_json_double(m) == -5);
  assert_true(rag_json_find(v, S("u"), &m) && rag_json_uint(m) == UINT64_MAX);
  assert_true(rag_json_find(v, S("d"), &m) && rag_json_double(m) == 0.5);
  assert_true(rag_json_find(v, S("s"), &m));
  assert_true(rag_slice_equal(rag_json_string(m), S("a\xC3\xA9\xF0\x9F\x98\x80\n")));
  assert_true(rag_json_find(v, S("a"), &m));
  assert_int_equal(rag_json_size(m), 3);
  assert_false(rag_json_find(v, S("absent"), &m));
  assert_false(rag_json_find(m, S("a"), &m)); // no object
  rag_json_iter none = rag_json_iter_of(parse("5"));
  assert_false(rag_json_iter_next(&none));
  assert_int_equal(rag_json_text_size(parse("[1,2]")), 5);
  assert_true(rag_slice_equal(rag_json_string(parse("\"a\\u0000b\"")), S("a\0b")));
}

static void integers_are_exact(void **state) {
  RAG_UNUSED(state);
  assert_true(rag_json_int(parse("9223372036854775807")) == INT64_MAX);
  assert_int_equal(rag_json_type_of(parse("9223372036854775807")), RAG_JSON_INT);
  assert_true(rag_json_uint(parse("9223372036854775808")) == (uint64_t)INT64_MAX + 1);
  assert_int_equal(rag_json_type_of(parse("9223372036854775808")), RAG_JSON_UINT);
  assert_true(rag_json_int(parse("-9223372036854775808")) == INT64_MIN);
  expect_refused(S("{\"a\":[0,-9223372036854775809]}"), "a[1]", "(in a[1]): an integer outside 64 bits");
  expect_refused(S("{\"kb\":{\"big\":18446744073709551616}}"), "kb.big", "bad JSON at byte 13 (in kb.big)");
  assert_int_equal(rag_json_type_of(parse("18446744073709551616.0")), RAG_JSON_DOUBLE);
}

static void bad_texts_say_where_and_why(void **state) {
  RAG_UNUSED(state);
  static const struct {
    rag_slice text;
    const char *field, *message;
  } cases[] = {
      {{"", 0}, "", "the text is empty"},
      {{" \n ", 3}, "", "the text is empty"},
      {{"\xEF\xBB\xBF{}", 5}, "", "byte order mark"},
      {{"{\"a\":1} x", 9}, "", "byte 8: text after the end"},
      {{"[1,]", 4}, "[0]", "byte 3 (in [0]): a comma before ]"},
      {{"{\"a\":1,}", 8}, "a", "byte 7 (in a): a comma before }"},
      {{"[1 2]", 5}, "[0]", "expected , or ]"},
      {{"[1", 2}, "[0]", "an array that starts here has no end"},
      {{"{\"a\":{\"b\":1", 11}, "a.b", "an object that starts here has no end"},
      {{"{\"a\" 1}", 7}, "a", "expected : after"},
      {{"{a:1}", 5}, "", "expected a member name in double quotes"},
      {{"{\"docs\":[{},{\"t\":\"x\ty\"}]}", 25}, "docs[1].t", "a control character"},
      {{"\"abc", 4}, "", "byte 0: a string that starts here has no end"},
      {{"\"\\x\"", 4}, "", "no such escape"},
      {{"\"\\u12g4\"", 8}, "", "four hexadecimal digits"},
      {{"\"\\ud800\"", 8}, "", "half of a surrogate pair"},
      {{"\"\\ud800\\u0041\"", 14}, "", "half of a surrogate pair"},
      {{"\"\\udc00\"", 8}, "", "half of a surrogate pair"},
      {{"\"\xC3(\"", 4}, "", "byte 1: not valid UTF-8"},
      {{"\"\xED\xA0\x80\"", 5}, "", "not valid UTF-8"},
      {{"01", 2}, "", "does not start with 0"},
      {{"-", 1}, "", "wants a digit"},
      {{"1.", 2}, "", "a digit after its point"},
      {{"1e+", 3}, "", "a digit in its exponent"},
      {{"1e400", 5}, "", "too large for a double"},
      {{"+1", 2}, "", "expected a value"},
      {{"NaN", 3}, "", "expected a value"},
      {{"-Infinity", 9}, "", "NaN and Infinity are no JSON"},
      {{"tru", 3}, "", "expected a value"},
      {{"nul\0", 4}, "", "expected a value"},
      {{"[1,\0]", 5}, "[1]", "expected a value"},
      {{"'a'", 3}, "", "expected a value"},
      {{"[/*x*/1]", 8}, "[0]", "expected a value"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) expect_refused(cases[i].text, cases[i].field, cases[i].message);
  assert_true(rag_json_double(parse("1e-400")) == 0); // small is not large
}

static char *nested(unsigned depth, const char *inner, char open, char close) {
  static char text[1024];
  size_t at = 0;
  for (unsigned i = 0; i < depth; i++) {
    text[at++] = open;
    if (open == '{' && (i + 1 < depth || inner[0])) at += (size_t)sprintf(text + at, "\"a\":");
  }
  at += (size_t)sprintf(text + at, "%s", inner);
  for (unsigned i = 0; i < depth; i++) text[at++] = close;
  text[at] = '\0';
  return text;
}

static void an_empty_text_may_be_a_parsers_first(void **state) {
  RAG_UNUSED(state);
  rag_json_parser *own = rag_json_parser_create();
  rag_json value;
  rag_error err = {0};
  assert_non_null(own);
  assert_int_equal(rag_json_parse(own, rag_slice_of("", 0), &value, &err), RAG_INVALID_ARGUMENT);
  assert_true(err.message[0] != '\0');
  assert_int_equal(rag_json_parse(own, rag_slice_str("[1]"), &value, &err), RAG_OK);
  rag_json_parser_destroy(own);
}

static void depth_ends_at_64(void **state) {
  RAG_UNUSED(state);
  parse(nested(RAG_JSON_DEPTH_MAX, "1", '[', ']'));
  parse(nested(RAG_JSON_DEPTH_MAX, "", '[', ']'));
  parse(nested(RAG_JSON_DEPTH_MAX, "1", '{', '}'));
  for (unsigned depth = RAG_JSON_DEPTH_MAX + 1; depth < RAG_JSON_DEPTH_MAX + 6; depth++) {
    rag_error err;
    rag_json v;
    const char *texts[] = {"1", ""};
    for (size_t i = 0; i < 2; i++) {
      char *text = nested(depth, texts[i], '[', ']');
      assert_int_equal(rag_json_parse(parser, rag_slice_str(text), &v, &err), RAG_INVALID_ARGUMENT);
      assert_non_null(strstr(err.message, "bad JSON at byte 64"));
      assert_non_null(strstr(err.message, "nested deeper than 64 levels"));
    }
  }
  // An object at the limit is as good as an array.
  rag_error err;
  rag_json v;
  assert_int_equal(rag_json_parse(parser, rag_slice_str(nested(RAG_JSON_DEPTH_MAX + 1, "", '{', '}')), &v, &err),
                   RAG_INVALID_ARGUMENT);
}

static void duplicate_names_are_refused(void **state) {
  RAG_UNUSED(state);
  expect_refused(S("{\"k\":1,\"k\":2}"), "k", "member 'k' appears twice; send it once");
  expect_refused(S("{\"k\":1,\"\\u006b\":2}"), "k", "member 'k' appears twice");
  expect_refused(S("{\"docs\":[{},{\"x\":[1,{\"q\":{}}],\"t\":1,\"t\":{}}]}"), "docs[1].t",
                 "member 't' appears twice in docs[1]");
  parse("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}"); // other objects
  parse("{\"\":1,\"a\":2}");
  // Around the step from pairwise to hashed, and far past it; the pair at every distance.
  rag_buf text = {0};
  for (unsigned members = 2; members < 400; members += members < 40 ? 1 : 61) {
    for (unsigned twin = 0; twin <= members; twin += 1 + members / 5) { // == members: none
      rag_buf_clear(&text);
      for (unsigned i = 0; i < members; i++)
        rag_buf_printf(&text, "%s\"name%u\":[%u,{}]", i ? "," : "{", i + 1 == members && twin < i ? twin : i, i);
      rag_buf_append_char(&text, '}');
      rag_json v;
      rag_error err;
      rag_status want = twin + 1 < members ? RAG_INVALID_ARGUMENT : RAG_OK;
      assert_int_equal(rag_json_parse(parser, rag_buf_slice(&text), &v, &err), want);
      if (want == RAG_OK) assert_int_equal(rag_json_size(v), members);
    }
  }
  rag_buf_free(&text);
}

static void floats_are_read_in_one_go(void **state) {
  RAG_UNUSED(state);
  float out[4] = {0};
  size_t bad;
  assert_int_equal(rag_json_floats(parse("[0.1,-2,18446744073709551615,1e-50]"), out, 4, &bad), 4);
  assert_true(out[0] == 0.1f && out[1] == -2.0f && out[2] == 18446744073709551616.0f && out[3] == 0.0f);
  out[2] = 7;
  assert_int_equal(rag_json_floats(parse("[1,2,3]"), out, 2, &bad), 3); // counts on, writes no more
  assert_true(out[2] == 7.0f);
  assert_int_equal(rag_json_floats(parse("[]"), NULL, 0, &bad), 0);
  assert_int_equal(rag_json_floats(parse("[1,2,\"3\"]"), out, 4, &bad), SIZE_MAX);
  assert_int_equal(bad, 2);
  assert_int_equal(rag_json_floats(parse("[1,[2]]"), out, 4, &bad), SIZE_MAX);
  assert_int_equal(bad, 1);
  assert_int_equal(rag_json_floats(parse("[1,3.5e38]"), out, 4, &bad), SIZE_MAX); // over FLT_MAX
  assert_int_equal(bad, 1);
  assert_int_equal(rag_json_floats(parse("[3.4028234e38]"), out, 4, &bad), 1);
  assert_int_equal(rag_json_floats(parse("{\"a\":1}"), out, 4, &bad), SIZE_MAX);
}

static void large_arrays_are_counted(void **state) {
  RAG_UNUSED(state);
  // The tape's own count saturates at 2^24 - 1.
  size_t count = (1u << 24) + 5;
  rag_buf text = {0};
  rag_buf_append_char(&text, '[');
  rag_buf_reserve(&text, count * 2);
  for (size_t i = 0; i < count; i++) rag_buf_append(&text, "1,", 2);
  assert_false(text.failed);
  text.data[text.size - 1] = ']';
  rag_json_parser *large = rag_json_parser_acquire();
  rag_json v;
  assert_int_equal(rag_json_parse(large, rag_buf_slice(&text), &v, NULL), RAG_OK);
  assert_int_equal(rag_json_size(v), count);
  rag_json_parser_release(large); // gives its buffers back: the sanitizer run would see the leak
  rag_buf_free(&text);
}

// ----------------------------------------------------------------------------------------------------------- printing

static void writing_is_compact_and_keeps_order(void **state) {
  RAG_UNUSED(state);
  static const char *const cases[][2] = {
      {" { \"b\" : [ 1 , 2.50 , \"x\" ] , \"a\" : { } } ", "{\"b\":[1,2.5,\"x\"],\"a\":{}}"},
      {"\"\\u00e9\\/\\u0001\\b\\f\\n\\r\\t\\\"\\\\\"", "\"\xC3\xA9/\\u0001\\b\\f\\n\\r\\t\\\"\\\\\""},
      {"[true,false,null]", "[true,false,null]"},
      {"[1.0,-0.0,1e2,1E22,0.1,1e-7]", "[1.0,-0.0,100.0,1e+22,0.1,1e-07]"},
      {"[-9223372036854775808,18446744073709551615,0]", "[-9223372036854775808,18446744073709551615,0]"},
      {"123456789012345683968.0", "123456789012345683968.0"}, // bare digits would not be read again
      {"\"a\\u0000b\"", "\"a\\u0000b\""},
      {"{\"\\n\":1}", "{\"\\n\":1}"},
  };
  rag_buf out = {0}, again = {0};
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    assert_string_equal(written(parse(cases[i][0]), &out), cases[i][1]);
    assert_string_equal(written(parse(cases[i][1]), &again), cases[i][1]);
  }
  rag_buf_free(&out);
  rag_buf_free(&again);
}

static void strings_are_escaped_at_every_place(void **state) {
  RAG_UNUSED(state);
  // Across the 32-byte blocks of the fast path: each escape at each offset reads back as itself.
  rag_buf out = {0};
  char text[80];
  for (int c = 0; c < 128; c++) {
    for (size_t at = 0; at < sizeof(text); at++) {
      memset(text, 'x', sizeof(text));
      text[at] = (char)c;
      rag_buf_clear(&out);
      rag_json_put_string(&out, rag_slice_of(text, sizeof(text)));
      rag_json v;
      assert_int_equal(rag_json_parse(parser, rag_buf_slice(&out), &v, NULL), RAG_OK);
      assert_true(rag_slice_equal(rag_json_string(v), rag_slice_of(text, sizeof(text))));
    }
  }
  rag_buf_free(&out);
}

static uint64_t random_state;
static uint64_t next_random(void) { // splitmix64
  uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

static void seed_random(void) {
  const char *given = getenv("RAGD_TEST_SEED");
  random_state = given ? strtoull(given, NULL, 0) : 20260131;
  print_message("seed %llu (RAGD_TEST_SEED)\n", (unsigned long long)random_state);
}

static void numbers_read_back_as_themselves(void **state) {
  RAG_UNUSED(state);
  seed_random();
  rag_buf out = {0};
  for (unsigned i = 0; i < 200000; i++) {
    uint64_t bits = next_random();
    uint32_t half = (uint32_t)bits;
    float f;
    double d;
    memcpy(&f, &half, sizeof(f));
    memcpy(&d, &bits, sizeof(d));
    rag_buf_clear(&out);
    rag_buf_append_char(&out, '[');
    rag_json_put_float(&out, f);
    rag_buf_append_char(&out, ',');
    rag_json_put_double(&out, d);
    rag_buf_append_char(&out, ',');
    rag_json_put_int(&out, (int64_t)bits);
    rag_buf_append_char(&out, ',');
    rag_json_put_uint(&out, bits);
    rag_buf_append_char(&out, ']');
    rag_json v;
    assert_int_equal(rag_json_parse(parser, rag_buf_slice(&out), &v, NULL), RAG_OK);
    rag_json_iter it = rag_json_iter_of(v);
    assert_true(rag_json_iter_next(&it));
    if (isfinite(f)) {
      float read = (float)rag_json_double(it.value);
      assert_memory_equal(&read, &f, sizeof(f));
    } else {
      assert_int_equal(rag_json_type_of(it.value), RAG_JSON_NULL);
    }
    assert_true(rag_json_iter_next(&it));
    if (isfinite(d)) {
      double read = rag_json_double(it.value);
      assert_int_equal(rag_json_type_of(it.value), RAG_JSON_DOUBLE);
      assert_memory_equal(&read, &d, sizeof(d));
    } else {
      assert_int_equal(rag_json_type_of(it.value), RAG_JSON_NULL);
    }
    assert_true(rag_json_iter_next(&it) && rag_json_int(it.value) == (int64_t)bits);
    assert_true(rag_json_iter_next(&it) && rag_json_uint(it.value) == bits);
  }
  static const float edges[] = {0.0f, -0.0f, 1.0f, FLT_MAX, -FLT_MAX, FLT_MIN, FLT_TRUE_MIN, 0.1f, 16777216.0f, 1e10f};
  for (size_t i = 0; i < RAG_COUNT_OF(edges); i++) {
    rag_buf_clear(&out);
    rag_json_put_float(&out, edges[i]);
    rag_json v;
    assert_int_equal(rag_json_parse(parser, rag_buf_slice(&out), &v, NULL), RAG_OK);
    float read = (float)rag_json_double(v);
    assert_memory_equal(&read, &edges[i], sizeof(read));
    assert_in_range(out.size, 1, 15); // shortest: 9 digits, sign, point, exponent
  }
  rag_buf_free(&out);
}

// --------------------------------------------------------------------------------------------------------- merge patch

static void merge_patches_as_rfc_7386_does(void **state) {
  RAG_UNUSED(state);
  static const char *const cases[][3] = {
      // The RFC's own table, where the patch is an object.
      {"{\"a\":\"b\"}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
      {"{\"a\":\"b\"}", "{\"b\":\"c\"}", "{\"a\":\"b\",\"b\":\"c\"}"},
      {"{\"a\":\"b\"}", "{\"a\":null}", "{}"},
      {"{\"a\":\"b\",\"b\":\"c\"}", "{\"a\":null}", "{\"b\":\"c\"}"},
      {"{\"a\":[\"b\"]}", "{\"a\":\"c\"}", "{\"a\":\"c\"}"},
      {"{\"a\":\"c\"}", "{\"a\":[\"b\"]}", "{\"a\":[\"b\"]}"},
      {"{\"a\":{\"b\":\"c\"}}", "{\"a\":{\"b\":\"d\",\"c\":null}}", "{\"a\":{\"b\":\"d\"}}"},
      {"{\"a\":[{\"b\":\"c\"}]}", "{\"a\":[1]}", "{\"a\":[1]}"},
      {"{\"e\":null}", "{\"a\":1}", "{\"e\":null,\"a\":1}"},
      {"[1,2]", "{\"a\":\"b\",\"c\":null}", "{\"a\":\"b\"}"},
      {"{}", "{\"a\":{\"bb\":{\"ccc\":null}}}", "{\"a\":{\"bb\":{}}}"},
      // A null in an array is a value, an empty target is no target, and order is the target's.
      {"", "{\"a\":[null,{\"b\":null}]}", "{\"a\":[null,{\"b\":null}]}"},
      {"{\"x\":1,\"y\":2,\"z\":3}", "{\"n\":0,\"z\":{\"q\":1},\"x\":9}", "{\"x\":9,\"y\":2,\"z\":{\"q\":1},\"n\":0}"},
  };
  rag_buf out = {0};
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    rag_buf_clear(&out);
    assert_int_equal(rag_json_merge_patch(rag_slice_str(cases[i][0]), parse(cases[i][1]), &out, NULL), RAG_OK);
    rag_buf_append_char(&out, '\0');
    assert_string_equal(out.data, cases[i][2]);
  }
  rag_error err;
  assert_int_equal(rag_json_merge_patch(S("{}"), parse("[1]"), &out, &err), RAG_INVALID_ARGUMENT);
  assert_non_null(strstr(err.message, "an array"));
  assert_int_equal(rag_json_merge_patch(S("{"), parse("{}"), &out, &err), RAG_INVALID_ARGUMENT);
  rag_buf_free(&out);
}

static void large_merges_use_the_index(void **state) {
  RAG_UNUSED(state);
  // 3,000 members: every third is removed, every third changed, 1,000 are new.
  rag_buf target = {0}, patch = {0}, want = {0}, got = {0};
  for (unsigned i = 0; i < 3000; i++) {
    rag_buf_printf(&target, "%s\"m%u\":%u", i ? "," : "{", i, i);
    if (i % 3 == 1) continue;
    rag_buf_printf(&want, "%s\"m%u\":%u", i ? "," : "{", i, i % 3 == 2 ? i + 1 : i);
  }
  for (unsigned i = 0; i < 4000; i++) {
    if (i < 3000 && i % 3 == 0) continue;
    if (i < 3000 && i % 3 == 1) rag_buf_printf(&patch, "%s\"m%u\":null", patch.size ? "," : "{", i);
    else rag_buf_printf(&patch, "%s\"m%u\":%u", patch.size ? "," : "{", i, i + 1);
    if (i >= 3000) rag_buf_printf(&want, ",\"m%u\":%u", i, i + 1);
  }
  rag_buf_append_char(&target, '}');
  rag_buf_append_char(&patch, '}');
  rag_buf_append_char(&want, '}');
  rag_json value;
  assert_int_equal(rag_json_parse(parser, rag_buf_slice(&patch), &value, NULL), RAG_OK);
  assert_int_equal(rag_json_merge_patch(rag_buf_slice(&target), value, &got, NULL), RAG_OK);
  assert_true(rag_slice_equal(rag_buf_slice(&got), rag_buf_slice(&want)));
  rag_buf_free(&target);
  rag_buf_free(&patch);
  rag_buf_free(&want);
  rag_buf_free(&got);
}

// ------------------------------------------------------------------------------------------------- failures, fuzz,
// pool

// Everything that allocates: a parser, its growth, the name table, a merge of large objects.
static rag_status everything(const char *text, rag_slice target) {
  rag_json_parser *own = rag_json_parser_create();
  if (!own) return RAG_RESOURCE_EXHAUSTED;
  rag_buf out = {0};
  rag_json value;
  rag_status status = rag_json_parse(own, rag_slice_str(text), &value, NULL);
  if (status == RAG_OK) status = rag_json_merge_patch(target, value, &out, NULL);
  if (status == RAG_OK) assert_int_equal(rag_json_parse(own, rag_buf_slice(&out), &value, NULL), RAG_OK);
  rag_buf_free(&out);
  rag_json_parser_destroy(own);
  return status;
}

static void every_allocation_may_fail(void **state) {
  RAG_UNUSED(state);
  rag_buf text = {0};
  for (unsigned i = 0; i < 100; i++) rag_buf_printf(&text, "%s\"m%u\":{\"x\":%u}", i ? "," : "{", i, i);
  rag_buf_append_str(&text, "}");
  rag_buf_append_char(&text, '\0');
  unsigned failures = 0;
  for (uint64_t n = 1;; n++) {
    rag_alloc_fail_after(n);
    // The merged text is parsed again below the failure; a smaller one could not fail there.
    rag_status status = everything(text.data, rag_slice_of(text.data, text.size - 1));
    bool happened = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    if (!happened) {
      assert_int_equal(status, RAG_OK);
      break;
    }
    assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
    failures++;
  }
  assert_in_range(failures, 6, 1000);
  rag_buf_free(&text);
}

static void a_parser_survives_a_failed_growth(void **state) {
  RAG_UNUSED(state);
  rag_json_parser *own = rag_json_parser_create();
  static char large[20000];
  memset(large, ' ', sizeof(large));
  large[sizeof(large) - 1] = '7';
  rag_json value;
  assert_int_equal(rag_json_parse(own, S("[1]"), &value, NULL), RAG_OK);
  for (uint64_t n = 1; n <= 2; n++) {
    rag_alloc_fail_after(n);
    assert_int_equal(rag_json_parse(own, rag_slice_of(large, sizeof(large)), &value, NULL), RAG_RESOURCE_EXHAUSTED);
    rag_alloc_fail_after(0);
    assert_int_equal(rag_json_parse(own, S("[1]"), &value, NULL), RAG_OK);
  }
  assert_int_equal(rag_json_parse(own, rag_slice_of(large, sizeof(large)), &value, NULL), RAG_OK);
  assert_int_equal(rag_json_int(value), 7);
  rag_json_parser_destroy(own);
}

static const char *const seeds[] = {
    "{\"vector\":[0.12,-3.4e-5,17,1E3],\"k\":10,\"at\":\"main~3\",\"exact\":true,\"min_score\":null}",
    "{\"documents\":[{\"id\":\"a\",\"text\":\"\\u00e9\\ud83d\\ude00\\\"q\",\"metadata\":{\"n\":[1,{\"d\":-0.0}]}}]}",
    "{\"a\":1,\"b\":2,\"c\":{\"d\":1,\"e\":2},\"`\":3}", // names one bit apart: mutants with duplicates
    "[18446744073709551615,-9223372036854775808,1e308,0.1,[[[]]],{\"\":{}}]",
    "{\"\xC3\xA9\":\"\xF0\x9F\x98\x80\",\"a\":\"\\\\\\/\\b\\f\\n\\r\\t\"}",
};

// One to four small changes: bytes flipped, dropped, doubled, swapped for one that JSON gives a meaning.
static void mutate(rag_buf *text) {
  static const char meaningful[] = "{}[]\",:\\0123456789+-.eEutrfalsn \n\t\x80\xC3\xED\xFF";
  for (unsigned changes = 1 + (unsigned)(next_random() % 4); changes && text->size; changes--) {
    size_t at = next_random() % text->size;
    switch (next_random() % 5) {
    case 0:
      text->data[at] ^= (char)(1 << next_random() % 8);
      break;
    case 1:
      text->data[at] = meaningful[next_random() % (sizeof(meaningful) - 1)];
      break;
    case 2:
      memmove(text->data + at, text->data + at + 1, text->size - at - 1);
      text->size--;
      break;
    case 3: {
      size_t from = next_random() % text->size;
      size_t size = RAG_MIN(text->size - from, (size_t)(next_random() % 12));
      char copy[12];
      memcpy(copy, text->data + from, size);
      rag_buf_append(text, copy, size);
      break;
    }
    default:
      text->size = at;
    }
  }
}

static void two_readers_agree_on_mutated_texts(void **state) {
  RAG_UNUSED(state);
  seed_random();
  rag_buf text = {0}, out = {0}, again = {0};
  unsigned good = 0, bad = 0, duplicates = 0;
  for (unsigned round = 0; round < 100000; round++) {
    rag_buf_clear(&text);
    rag_buf_append_str(&text, seeds[round % RAG_COUNT_OF(seeds)]);
    mutate(&text);
    // A block of its own of exactly this size, so that the sanitizer sees a read past the end.
    char *exact = rag_alloc(text.size);
    if (text.size) memcpy(exact, text.data, text.size);
    rag_slice slice = rag_slice_of(exact, text.size);
    rag_json value;
    rag_error err = {0}, second = {0};
    rag_status status = rag_json_parse(parser, slice, &value, &err);
    rag_status opinion = rag_base__json_diagnose(slice, &second);
    if (status == RAG_OK) {
      if (opinion != RAG_OK) fail_msg("only the parser accepts %.*s: %s", (int)slice.size, exact, second.message);
      good++;
      rag_buf_clear(&out);
      rag_json_write(value, &out);
      assert_int_equal(rag_json_parse(parser, rag_buf_slice(&out), &value, &err), RAG_OK);
      rag_buf_clear(&again);
      rag_json_write(value, &again);
      assert_true(rag_slice_equal(rag_buf_slice(&out), rag_buf_slice(&again))); // compact text is a fixed point
    } else {
      assert_int_equal(status, RAG_INVALID_ARGUMENT);
      assert_true(rag_utf8_valid(err.message, strlen(err.message)) && rag_utf8_valid(err.field, strlen(err.field)));
      if (opinion == RAG_OK) {
        duplicates++;
        if (!strstr(err.message, "appears twice"))
          fail_msg("only the diagnosis accepts %.*s: %s", (int)slice.size, exact, err.message);
      }
      bad++;
    }
    rag_free(exact);
  }
  print_message("%u accepted, %u refused, %u of them for duplicate names\n", good, bad, duplicates);
  assert_in_range(good, 1000, 99000);
  rag_buf_free(&text);
  rag_buf_free(&out);
  rag_buf_free(&again);
}

static void *pool_user(void *arg) {
  unsigned *wrong = arg;
  for (unsigned i = 0; i < 2000; i++) {
    rag_json_parser *own = rag_json_parser_acquire();
    char text[64];
    int size = snprintf(text, sizeof(text), "{\"n\":%u,\"p\":\"%p\"}", i, arg);
    rag_json value, member;
    bool right = rag_json_parse(own, rag_slice_of(text, (size_t)size), &value, NULL) == RAG_OK &&
                 rag_json_find(value, S("n"), &member) && rag_json_uint(member) == i;
    *wrong += !right;
    rag_json_parser_release(own);
  }
  return NULL;
}

static void the_pool_serves_threads(void **state) {
  RAG_UNUSED(state);
  pthread_t threads[4];
  unsigned wrong[RAG_COUNT_OF(threads)] = {0};
  for (size_t i = 0; i < RAG_COUNT_OF(threads); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, pool_user, &wrong[i]), 0);
  for (size_t i = 0; i < RAG_COUNT_OF(threads); i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(wrong[i], 0);
  }
  // More than the pool keeps: the rest are freed.
  rag_json_parser *many[40];
  for (size_t i = 0; i < RAG_COUNT_OF(many); i++) assert_non_null(many[i] = rag_json_parser_acquire());
  for (size_t i = 0; i < RAG_COUNT_OF(many); i++)
    for (size_t j = 0; j < i; j++) assert_ptr_not_equal(many[i], many[j]);
  for (size_t i = 0; i < RAG_COUNT_OF(many); i++) rag_json_parser_release(many[i]);
  rag_json_parser_release(NULL);
  rag_json_parser_destroy(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_every_type),
      cmocka_unit_test(integers_are_exact),
      cmocka_unit_test(bad_texts_say_where_and_why),
      cmocka_unit_test(an_empty_text_may_be_a_parsers_first),
      cmocka_unit_test(depth_ends_at_64),
      cmocka_unit_test(duplicate_names_are_refused),
      cmocka_unit_test(floats_are_read_in_one_go),
      cmocka_unit_test(large_arrays_are_counted),
      cmocka_unit_test(writing_is_compact_and_keeps_order),
      cmocka_unit_test(strings_are_escaped_at_every_place),
      cmocka_unit_test(numbers_read_back_as_themselves),
      cmocka_unit_test(merge_patches_as_rfc_7386_does),
      cmocka_unit_test(large_merges_use_the_index),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(a_parser_survives_a_failed_growth),
      cmocka_unit_test(two_readers_agree_on_mutated_texts),
      cmocka_unit_test(the_pool_serves_threads),
  };
  return cmocka_run_group_tests(tests, open_parser, close_parser);
}
