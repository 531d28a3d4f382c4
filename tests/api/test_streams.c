// Goal: imports of any length: commits by batch, progress, a clear end, and errors that say which line and
// leave what was committed before.
// Method: rag_api_stream over memory, read in pieces of awkward sizes.
#include "dispatch_testing.h"

#define IMPORT "/v1/kbs/docs/documents:import"
#define NDJSON "application/x-ndjson"

static int start(void **state) {
  service *s = service_start();
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\",\"chunking\":{\"method\":\"whole\"}}");
  *state = s;
  return 0;
}

static int stop(void **state) {
  service_stop(*state);
  return 0;
}

// Line n (from 0) of what was written becomes s->json; n < 0 counts from the end.
static bool line(service *s, const stream_ends *ends, int n) {
  const char *lines[1024];
  int count = 0;
  size_t start_at = 0;
  for (size_t i = 0; i < ends->written.size && count < 1024; i++)
    if (ends->written.data[i] == '\n') {
      lines[count++] = ends->written.data + start_at;
      start_at = i + 1;
    }
  assert_int_equal(start_at, ends->written.size); // ends with a newline
  if (n < 0) n += count;
  if (n < 0 || n >= count) return false;
  size_t size = (size_t)((const char *)memchr(lines[n], '\n', ends->written.size) - lines[n]);
  assert_int_equal(rag_json_parse(s->parser, rag_slice_of(lines[n], size), &s->json, NULL), RAG_OK);
  return true;
}

static rag_buf documents(unsigned first, unsigned count) {
  rag_buf body = {0};
  for (unsigned i = first; i < first + count; i++)
    rag_buf_printf(&body, "{\"id\":\"d%u\",\"text\":\"document number %u\",\"metadata\":{\"n\": %u}}\n", i, i, i);
  return body;
}

static void test_import(void **state) {
  service *s = *state;
  static const size_t steps[] = {0, 1, 7, 4096};
  rag_buf body = documents(0, 25);
  for (size_t i = 0; i < RAG_COUNT_OF(steps); i++) {
    stream_ends ends = {.body = body.data, .size = body.size, .step = steps[i]};
    assert_int_equal(send_stream(s, "POST", IMPORT "?batch=10&message=load&author=me", NDJSON, &ends), 200);
    assert_string_equal(s->answer.content_type, NDJSON);
    assert_true(line(s, &ends, 0));
    EXPECT("documents", "10");
    EXPECT("lines", "10");
    EXPECT("batch", "1");
    EXPECT(i ? "unchanged" : "added", "10"); // the same again changes nothing
    assert_true(line(s, &ends, 2));
    EXPECT("documents", "25");
    assert_true(line(s, &ends, 3));
    EXPECT("done", "true");
    EXPECT("batches", "3");
    EXPECT("documents", "25");
    EXPECT("added", i ? "0" : "25");
    EXPECT("committed", i ? "false" : "true");
    assert_false(line(s, &ends, 4));
    rag_buf_free(&ends.written);
  }
  rag_buf_free(&body);
  CALL(200, "GET", "/v1/kbs/docs/commits", NULL);
  EXPECT("commits.0.message", "load");
  EXPECT("commits.0.documents", "25");
  EXPECT("commits.3.kind", "init");
  CALL(200, "GET", "/v1/kbs/docs/documents/d24", NULL);
  EXPECT("metadata", "{\"n\":24}");
}

// Blank lines, carriage returns, no newline at the end, an empty body.
static void test_shapes(void **state) {
  service *s = *state;
  static const struct {
    const char *body, *documents, *lines;
  } cases[] = {
      {"", "0", "0"},
      {"\n\r\n  \n", "0", "3"},
      {"{\"id\":\"a\",\"text\":\"x\"}", "1", "1"},
      {"\n{\"id\":\"a\",\"text\":\"x\"}\r\n\n{\"id\":\"b\",\"text\":\"y\"} \t\n", "2", "4"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    stream_ends ends = {.body = cases[i].body, .size = strlen(cases[i].body), .step = 3};
    assert_int_equal(send_stream(s, "POST", IMPORT, "application/jsonl; charset=utf-8", &ends), 200);
    assert_true(line(s, &ends, -1));
    EXPECT("done", "true");
    EXPECT("documents", cases[i].documents);
    EXPECT("lines", cases[i].lines);
    rag_buf_free(&ends.written);
  }
}

// A mistake before anything was answered is a plain error.
static void test_early_errors(void **state) {
  service *s = *state;
  static const struct {
    int status;
    const char *code, *field, *message, *target, *type, *body;
  } cases[] = {
      {404, "not_found", "<absent>", "'none'", "/v1/kbs/none/documents:import", NDJSON, "{}"},
      {400, "invalid_argument", "Content-Type", NDJSON, IMPORT, "application/json", "{}"},
      {400, "invalid_argument", "Content-Type", NDJSON, IMPORT, NULL, "{}"},
      {400, "invalid_argument", "batch", "1 to 10000", IMPORT "?batch=0", NDJSON, "{}"},
      {400, "invalid_argument", "batch", "1 to 10000", IMPORT "?batch=10001", NDJSON, "{}"},
      {400, "invalid_argument", "batch", "1 to 10000", IMPORT "?batch=5x", NDJSON, "{}"},
      {400, "invalid_argument", "query", "did you mean 'batch'", IMPORT "?bacth=5", NDJSON, "{}"},
      {400, "invalid_argument", "branch", "twice", IMPORT "?branch=a&branch=b", NDJSON, "{}"},
      {404, "not_found", "<absent>", "'none'", IMPORT "?branch=none", NDJSON, "{\"id\":\"a\",\"text\":\"x\"}"},
      {400, "invalid_argument", "id", "line 2: ", IMPORT, NDJSON, "\n{\"id\":3}"},
      {400, "invalid_argument", "txt", "line 1: ", IMPORT, NDJSON, "{\"id\":\"a\",\"txt\":\"x\"}"},
      {400, "invalid_argument", "<absent>", "line 1: ", IMPORT, NDJSON, "[1]"},
      {400, "invalid_argument", "documents[1].id", "line 3: ", IMPORT, NDJSON,
       "{\"id\":\"a\",\"text\":\"x\"}\n\n{\"id\":\"a\",\"text\":\"y\"}"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    stream_ends ends = {.body = cases[i].body, .size = strlen(cases[i].body)};
    int status = send_stream(s, "POST", cases[i].target, cases[i].type, &ends);
    expect_error(s, status, cases[i].status, cases[i].code, cases[i].field, cases[i].message, __FILE__, __LINE__);
    assert_int_equal(ends.written.size, 0);
  }
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  EXPECT("documents", "0");
}

static void test_late_error(void **state) {
  service *s = *state;
  rag_buf body = documents(0, 15);
  rag_buf_append_str(&body, "{\"id\":\"broken\"\n");
  stream_ends ends = {.body = body.data, .size = body.size};
  assert_int_equal(send_stream(s, "POST", IMPORT "?batch=10", NDJSON, &ends), 200); // the head was out
  assert_int_equal(s->answer.status, RAG_INVALID_ARGUMENT);
  assert_true(line(s, &ends, -1));
  EXPECT("error.code", "invalid_argument");
  EXPECT("error.details.line", "16");
  EXPECT("documents", "10");
  rag_buf_free(&ends.written);
  rag_buf_free(&body);
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  EXPECT("documents", "10"); // the batch before stays, the broken one has left nothing
}

static void test_idempotency(void **state) {
  service *s = *state;
  rag_buf body = documents(0, 20);
  s->idempotency_key = "load-1";
  for (int i = 0; i < 2; i++) {
    stream_ends ends = {.body = body.data, .size = body.size};
    assert_int_equal(send_stream(s, "POST", IMPORT "?batch=10", NDJSON, &ends), 200);
    assert_true(line(s, &ends, -1));
    EXPECT("added", "20"); // the second time: the first answers again
    EXPECT("commit", "c3");
    rag_buf_free(&ends.written);
  }
  rag_buf other = documents(5, 10);
  stream_ends ends = {.body = other.data, .size = other.size};
  assert_int_equal(send_stream(s, "POST", IMPORT "?batch=10", NDJSON, &ends), 409);
  rag_buf_free(&other);
  rag_buf_free(&body);
}

// Lines across blocks, and the limit of a line.
static void test_long_lines(void **state) {
  service *s = *state;
  rag_buf body = {0};
  for (int i = 0; i < 3; i++) {
    rag_buf_printf(&body, "{\"id\":\"long%d\",\"text\":\"", i);
    for (int k = 0; k < 30000; k++) rag_buf_append_str(&body, "word ");
    rag_buf_append_str(&body, "\"}\n");
  }
  stream_ends ends = {.body = body.data, .size = body.size, .step = 1000};
  assert_int_equal(send_stream(s, "POST", IMPORT, NDJSON, &ends), 200);
  assert_true(line(s, &ends, -1));
  EXPECT("documents", "3");
  rag_buf_free(&ends.written);
  rag_buf_free(&body);
  size_t size = (64u << 20) + (128u << 10);
  char *endless = malloc(size);
  memset(endless, 'x', size);
  ends = (stream_ends){.body = endless, .size = size};
  int status = send_stream(s, "POST", IMPORT, NDJSON, &ends);
  expect_error(s, status, 400, "invalid_argument", "<absent>", "line 1 is longer than", __FILE__, __LINE__);
  free(endless);
}

static void test_client_leaves(void **state) {
  service *s = *state;
  rag_buf body = documents(0, 30);
  stream_ends ends = {.body = body.data, .size = body.size, .write_fails_at = 300};
  (void)send_stream(s, "POST", IMPORT "?batch=10", NDJSON, &ends);
  assert_int_equal(s->answer.status, RAG_CANCELLED);
  rag_buf_free(&ends.written);
  rag_buf_free(&body);
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  EXPECT("documents", "20"); // what was committed before the write failed
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      TEST(test_import),      TEST(test_shapes),     TEST(test_early_errors),  TEST(test_late_error),
      TEST(test_idempotency), TEST(test_long_lines), TEST(test_client_leaves),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
