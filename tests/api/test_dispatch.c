// Goal: the protocol side of the dispatcher: content types, parameters, error shapes and statuses, deadlines, scope of
// what a network thread may do. What the calls themselves do is in test_handlers.c.
// Method: the whole service in process over a temporary data directory; each case states status, code, field, message.
#include "dispatch_testing.h"

static int start(void **state) {
  service *s = service_start();
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\"}");
  CALL(200, "POST", "/v1/kbs/docs/documents",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"apples and pears\"},{\"id\":\"dir/b.md\",\"text\":\"boats\"}]}");
  *state = s;
  return 0;
}

static int stop(void **state) {
  service_stop(*state);
  return 0;
}

static void test_unknown_paths(void **state) {
  service *s = *state;
  ERROR(404, "not_found", "<absent>", "/openapi.json", "GET", "/v1/nothing?x=1", NULL);
  assert_string_equal(s->answer.route, "unknown");
  assert_null(s->answer.allow);
  ERROR(405, "unimplemented", "<absent>", "use GET, PATCH, DELETE", "PUT", "/v1/kbs/docs", "{}");
  assert_string_equal(s->answer.allow, "GET, PATCH, DELETE");
  assert_int_equal(s->answer.status, RAG_UNIMPLEMENTED);
  ERROR(404, "unimplemented", "<absent>", "did you mean /ragd.v1.Documents/PutDocuments?", "POST",
        "/ragd.v1.Documents/PutDocument", "{}");
  ERROR(405, "unimplemented", "<absent>", "use POST", "GET", "/ragd.v1.Documents/PutDocuments", NULL);
  assert_string_equal(s->answer.allow, "POST");
  ERROR(501, "unimplemented", "<absent>", "stream", "POST", "/v1/kbs/docs/documents:import", "{}");
}

static void test_content_types(void **state) {
  service *s = *state;
  static const char *const refused[] = {"text/plain",
                                        "application/x-www-form-urlencoded",
                                        "application/jsonx",
                                        "multipart/form-data; boundary=x",
                                        "application/jso",
                                        NULL,
                                        ""};
  for (size_t i = 0; i < RAG_COUNT_OF(refused); i++) {
    s->content_type = refused[i];
    ERROR(415, "invalid_argument", "<absent>", "application/json", "POST", "/v1/kbs/docs/search", "{\"query\":\"x\"}");
    ERROR(415, "invalid_argument", "<absent>", "application/proto", "POST", "/ragd.v1.Retrieval/Search", "{}");
  }
  s->content_type = "Application/JSON; charset=utf-8";
  CALL(200, "POST", "/v1/kbs/docs/search", "{\"query\":\"x\"}");
  assert_string_equal(s->answer.content_type, "application/json");
  // REST's protobuf types are not RPC's.
  s->content_type = "application/x-protobuf";
  CALL(415, "POST", "/ragd.v1.KnowledgeBases/ListKbs", "\n");
  // A POST that names no type: fine without anything to read, refused where the query would do something.
  s->content_type = "application/json";
  CALL(400, "POST", "/v1/kbs/docs/merge", NULL);
  ERROR(415, "invalid_argument", "<absent>", "Content-Type", "POST", "/v1/kbs/docs/rollback?to=c1", NULL);
}

// One request in every pair of types.
static void test_protobuf(void **state) {
  service *s = *state;
  Ragd__V1__SearchRequest search = RAGD__V1__SEARCH_REQUEST__INIT;
  uint8_t wire[256];
  search.kb = (char *)(uintptr_t) "docs";
  search.query = (char *)(uintptr_t) "boats";
  search.mode = (char *)(uintptr_t) "vector";
  size_t size = ragd__v1__search_request__pack(&search, wire);

  static const struct {
    const char *target, *type, *accept, *answer;
  } cases[] = {
      {"/ragd.v1.Retrieval/Search", "application/proto", NULL, "application/proto"},
      {"/ragd.v1.Retrieval/Search", "application/proto", "application/json",
       "application/proto"}, // RPC answers in kind
      {"/v1/kbs/docs/search", "application/x-protobuf", NULL, "application/x-protobuf"},
      {"/v1/kbs/docs/search", "application/protobuf", "*/*", "application/x-protobuf"},
      {"/v1/kbs/docs/search", "application/x-protobuf", "text/html", "application/x-protobuf"},
      {"/v1/kbs/docs/search", "application/x-protobuf", "application/json", "application/json"},
      {"/v1/kbs/docs/search", "application/x-protobuf", "application/json;q=0.2, application/x-protobuf;q=0.9",
       "application/x-protobuf"},
      {"/v1/kbs/docs/search", "application/x-protobuf", "application/x-protobuf;q=0, */*;q=0.1",
       "application/x-protobuf"},
      {"/v1/kbs/docs/search", "application/x-protobuf", "application/x-protobuf;q=0.300,application/json;q=0.301",
       "application/json"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    s->content_type = cases[i].type;
    s->accept = cases[i].accept;
    expect_status(s, send_bytes(s, "POST", cases[i].target, wire, size), 200, __FILE__, __LINE__);
    if (strcmp(s->answer.content_type, cases[i].answer) != 0)
      fail_msg("case %zu: answered %s, expected %s", i, s->answer.content_type, cases[i].answer);
    if (strcmp(cases[i].answer, "application/json") == 0) continue;
    Ragd__V1__SearchResponse *response =
        ragd__v1__search_response__unpack(NULL, s->answer.body.size, (const uint8_t *)s->answer.body.data);
    assert_non_null(response);
    assert_int_equal(response->n_hits, 2);
    assert_string_equal(response->hits[0]->document_id, "dir/b.md");
    ragd__v1__search_response__free_unpacked(response, NULL);
  }
  // Errors are JSON all the same.
  s->accept = NULL;
  s->content_type = "application/x-protobuf";
  expect_error(s, send_bytes(s, "POST", "/v1/kbs/none/search", "", 0), 404, "not_found", "<absent>", "'none'", __FILE__,
               __LINE__);
  expect_error(s, send_bytes(s, "POST", "/v1/kbs/docs/search", "\x0a\xff", 2), 400, "invalid_argument", "kb",
               "cut short", __FILE__, __LINE__);
}

static void test_parameters(void **state) {
  service *s = *state;
  CALL(200, "GET", "/v1/kbs/docs/documents/dir%2Fb.md", NULL);
  EXPECT("text", "boats");
  CALL(404, "GET", "/v1/kbs/docs/documents/dir/b.md", NULL);
  CALL(200, "GET", "/v1/kbs/docs/documents/a?at=main%7E0&", NULL);
  EXPECT("text", "apples and pears");
  CALL(200, "GET", "/v1/kbs/docs/documents?limit=1&text=true", NULL);
  EXPECT("documents.0.text", "apples and pears");
  EXPECT("documents.1", "<absent>");
  // Lists are comma-separated, repeated, or both; in the body they are arrays.
  CALL(200, "POST", "/v1/kbs/docs/search?include=text,plan&include=scores&query=boats",
       "{\"k\":1,\"mode\":\"vector\"}");
  EXPECT("hits.0.text", "boats");
  EXPECT("hits.0.metadata", "<absent>");
  EXPECT("plan.engine", "flat");
  assert_string_not_equal(at(s, "hits.0.scores.vector"), "<absent>");
  // '+' is a blank in a query, as forms write it, and itself in a path.
  CALL(200, "POST", "/v1/kbs/docs/search?query=apples+and%20pears", "{}");
  EXPECT("hits.0.document_id", "a");
  ERROR(404, "not_found", "<absent>", "'a+b'", "GET", "/v1/kbs/docs/documents/a+b", NULL);
}

static void test_parameters_bad(void **state) {
  service *s = *state;
  ERROR(400, "invalid_argument", "limt", "did you mean 'limit'?", "GET", "/v1/kbs/docs/documents?limt=5", NULL);
  ERROR(400, "invalid_argument", "limit", "", "GET", "/v1/kbs/docs/documents?limit=x", NULL);
  ERROR(400, "invalid_argument", "limit", "1 to 10000", "GET", "/v1/kbs/docs/documents?limit=0", NULL);
  ERROR(400, "invalid_argument", "limit", "1 to 10000", "GET", "/v1/kbs/docs/documents?limit=10001", NULL);
  ERROR(400, "invalid_argument", "limit", "given twice", "GET", "/v1/kbs/docs/documents?limit=1&limit=2", NULL);
  ERROR(400, "invalid_argument", "kb", "given twice", "GET", "/v1/kbs/docs/documents?kb=other", NULL);
  ERROR(400, "invalid_argument", "kb", "in the path", "POST", "/v1/kbs/docs/search", "{\"kb\":\"x\",\"query\":\"y\"}");
  ERROR(400, "invalid_argument", "at", "hexadecimal", "GET", "/v1/kbs/docs/documents/a?at=%zz", NULL);
  ERROR(400, "invalid_argument", "id", "NUL", "GET", "/v1/kbs/docs/documents/a%00", NULL);
  ERROR(400, "invalid_argument", "id", "UTF-8", "GET", "/v1/kbs/docs/documents/%ff", NULL);
  ERROR(400, "invalid_argument", "id", "", "GET", "/v1/jobs/seven", NULL);
  ERROR(400, "invalid_argument", "page_token", "next_page_token", "GET", "/v1/kbs?page_token=AAAAAAAA", NULL);
  ERROR(400, "invalid_argument", "page_token", "next_page_token", "GET", "/v1/kbs?page_token=%24", NULL);
  ERROR(400, "invalid_argument", "chunking", "unknown query parameter", "GET", "/v1/kbs/docs?chunking=x", NULL);
  char target[4096] = "/v1/kbs/docs?";
  for (int i = 0; i < 65; i++) strcat(target, "kb=docs&");
  ERROR(400, "invalid_argument", "<absent>", "over 64 parameters", "GET", target, NULL);
  // The same value twice is no conflict.
  CALL(200, "POST", "/v1/kbs/docs/search", "{\"kb\":\"docs\",\"query\":\"y\"}");
  CALL(200, "GET", "/v1/kbs/docs?kb=docs", NULL);
}

static void test_bodies_bad(void **state) {
  service *s = *state;
  const char *target = "/v1/kbs/docs/search";
  ERROR(400, "invalid_argument", "query", "bad JSON at byte 9", "POST", target, "{\"query\":");
  ERROR(400, "invalid_argument", "<absent>", "object", "POST", target, "[]");
  ERROR(400, "invalid_argument", "qurey", "did you mean 'query'?", "POST", target, "{\"qurey\":\"x\"}");
  ERROR(400, "invalid_argument", "k", "", "POST", target, "{\"query\":\"x\",\"k\":\"ten\"}");
  ERROR(400, "invalid_argument", "vector[1]", "", "POST", target, "{\"vector\":[1,null]}");
}

static void test_connect_errors(void **state) {
  service *s = *state;
  CALL(400, "POST", "/ragd.v1.Retrieval/Search", "{\"kb\":\"docs\",\"query\":\"x\",\"k\":0}");
  EXPECT("code", "invalid_argument");
  EXPECT("details.0.type", "google.protobuf.Struct");
  EXPECT("details.0.debug.field", "k");
  // Struct{fields: {"field": Value{string_value: "k"}}}
  EXPECT("details.0.value", "CgwKBWZpZWxkEgMaAWs");
  CALL(404, "POST", "/ragd.v1.KnowledgeBases/GetKb", "{\"kb\":\"none\"}");
  EXPECT("code", "not_found");
  EXPECT("details", "<absent>");
}

static void test_timeouts(void **state) {
  service *s = *state;
  s->timeout_ms = "0";
  ERROR(504, "deadline_exceeded", "<absent>", "time was over", "GET", "/v1/kbs/docs", NULL);
  s->timeout_ms = "60000";
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  static const char *const bad[] = {"x", "-1", "1.5", "12345678901", "10 "};
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    s->timeout_ms = bad[i];
    ERROR(400, "invalid_argument", "connect-timeout-ms", "milliseconds", "GET", "/v1/kbs/docs", NULL);
  }
}

static void test_idempotency_key(void **state) {
  service *s = *state;
  char key[300];
  memset(key, 'k', sizeof(key));
  const char *body = "{\"documents\":[{\"id\":\"i\",\"text\":\"once\"}]}";
  key[255] = '\0';
  s->idempotency_key = key;
  CALL(200, "POST", "/v1/kbs/docs/documents", body);
  EXPECT("replayed", "false");
  char commit[32];
  snprintf(commit, sizeof(commit), "%s", at(s, "commit"));
  CALL(200, "POST", "/v1/kbs/docs/documents", body);
  EXPECT("replayed", "true");
  EXPECT("commit", commit);
  EXPECT("added", "1");
  CALL(409, "POST", "/v1/kbs/docs/documents", "{\"documents\":[{\"id\":\"i\",\"text\":\"twice\"}]}");
  EXPECT("code", "already_exists");
  key[255] = 'k';
  key[256] = '\0';
  ERROR(400, "invalid_argument", "Idempotency-Key", "1 to 255", "POST", "/v1/kbs/docs/documents", body);
  s->idempotency_key = "";
  ERROR(400, "invalid_argument", "Idempotency-Key", "1 to 255", "POST", "/v1/kbs/docs/documents", body);
}

static rag_api_lane admit(service *s, const char *method, const char *target, rag_status expected) {
  rag_api_lane lane = RAG_LANE_INLINE;
  rag_api_request request = request_of(s, method, target, NULL, 0);
  rag_arena_reset(s->arena);
  assert_int_equal(rag_api_admit(s->api, &request, s->arena, &lane, &s->answer), expected);
  look(s);
  return lane;
}

static void test_admit(void **state) {
  service *s = *state;
  assert_int_equal(admit(s, "POST", "/v1/kbs/docs/search", RAG_OK), RAG_LANE_INLINE);
  assert_int_equal(admit(s, "POST", "/v1/kbs/docs/documents", RAG_OK), RAG_LANE_POOL);
  assert_int_equal(admit(s, "POST", "/v1/kbs/docs/documents:import", RAG_OK), RAG_LANE_STREAM);
  assert_int_equal(admit(s, "GET", "/v1/kbs/docs/export", RAG_OK), RAG_LANE_STREAM);
  assert_string_equal(s->answer.route, "KnowledgeBases/Export");
  (void)admit(s, "GET", "/nothing", RAG_NOT_FOUND);
  assert_int_equal(s->answer.http_status, 404);
  (void)admit(s, "PUT", "/v1/kbs", RAG_UNIMPLEMENTED);
  assert_int_equal(s->answer.http_status, 405);
  assert_string_equal(s->answer.allow, "GET, POST");
}

// What would hold up a network thread says so and has done nothing.
static void test_wants_worker(void **state) {
  service *s = *state;
  s->may_not_wait = true;
  CALL(200, "POST", "/v1/kbs/docs/search", "{\"query\":\"boats\",\"k\":200}");
  assert_false(s->answer.wants_worker);
  static const char *const large[] = {"{\"query\":\"boats\",\"k\":201}", "{\"query\":\"boats\",\"offset\":191}",
                                      "{\"query\":\"boats\",\"min_commit\":\"c1\"}"};
  for (size_t i = 0; i < RAG_COUNT_OF(large); i++) {
    s->may_not_wait = true;
    (void)send_text(s, "POST", "/v1/kbs/docs/search", large[i]);
    assert_true(s->answer.wants_worker);
    assert_int_equal(s->answer.http_status, 0);
    s->may_not_wait = false;
    CALL(200, "POST", "/v1/kbs/docs/search", large[i]);
    assert_false(s->answer.wants_worker);
  }
  s->may_not_wait = true;
  ERROR(404, "not_found", "<absent>", "none", "POST", "/v1/kbs/docs/search", "{\"query\":\"b\",\"at\":\"none\"}");
}

static void test_plain_routes(void **state) {
  service *s = *state;
  CALL(200, "GET", "/healthz", NULL);
  assert_true(rag_slice_equal(s->answer.body, rag_slice_str("{\"status\":\"ok\"}")));
  CALL(200, "GET", "/readyz", NULL);
  EXPECT("status", "ready");
  CALL(200, "GET", "/metrics", NULL);
  assert_string_equal(s->answer.content_type, "text/plain; version=0.0.4; charset=utf-8");
  CALL(200, "GET", "/v1/status", NULL);
  EXPECT("writable", "true");
  EXPECT("kbs", "1");
  EXPECT("auth", "false");
  EXPECT("data_dir", s->dir);
  atomic_store(&s->api->draining, true);
  CALL(503, "GET", "/readyz", NULL);
  EXPECT("status", "draining");
  CALL(200, "GET", "/healthz", NULL);
  atomic_store(&s->api->draining, false);
  rag_store_set_error_for_test(s->api->store, "the disk is gone");
  CALL(503, "GET", "/readyz", NULL);
  EXPECT("status", "read_only");
  if (!strstr(at(s, "reason"), "the disk is gone")) fail_msg("reason: %s", at(s, "reason"));
  CALL(200, "GET", "/v1/status", NULL);
  EXPECT("writable", "false");
  ERROR(503, "unavailable", "<absent>", "the disk is gone", "POST", "/v1/kbs/docs/documents",
        "{\"documents\":[{\"id\":\"z\",\"text\":\"z\"}]}");
  CALL(200, "GET", "/v1/kbs/docs/documents/a", NULL); // reads go on
}

// Every code has Connect's name and status; the answer's shape holds for hostile texts.
static void test_error_table(void **state) {
  service *s = *state;
  static const struct {
    rag_status status;
    const char *code;
    int http_status;
  } table[] = {
      {RAG_CANCELLED, "canceled", 499},
      {RAG_UNKNOWN, "unknown", 500},
      {RAG_INVALID_ARGUMENT, "invalid_argument", 400},
      {RAG_DEADLINE_EXCEEDED, "deadline_exceeded", 504},
      {RAG_NOT_FOUND, "not_found", 404},
      {RAG_ALREADY_EXISTS, "already_exists", 409},
      {RAG_PERMISSION_DENIED, "permission_denied", 403},
      {RAG_RESOURCE_EXHAUSTED, "resource_exhausted", 429},
      {RAG_FAILED_PRECONDITION, "failed_precondition", 400},
      {RAG_ABORTED, "aborted", 409},
      {RAG_OUT_OF_RANGE, "out_of_range", 400},
      {RAG_UNIMPLEMENTED, "unimplemented", 501},
      {RAG_INTERNAL, "internal", 500},
      {RAG_UNAVAILABLE, "unavailable", 503},
      {RAG_DATA_LOSS, "data_loss", 500},
      {RAG_UNAUTHENTICATED, "unauthenticated", 401},
  };
  assert_int_equal(RAG_COUNT_OF(table), 16);
  for (size_t i = 0; i < RAG_COUNT_OF(table); i++)
    for (int rpc = 0; rpc < 2; rpc++) {
      rag_error err = {.status = table[i].status, .field = "a\"b", .message = "line\n\"quoted\" \xe2\x82"};
      s->answer = (rag_api_response){0};
      rag_api__error_answer(&err, rag_slice_str("{\"conflicts\":[\"x\",\"\\u00e4\"],\"total\":2}"), rpc, s->arena,
                            &s->answer);
      look(s);
      assert_int_equal(s->answer.http_status, table[i].http_status);
      assert_int_equal(s->answer.status, table[i].status);
      EXPECT("code", table[i].code);
      EXPECT("message", "line\n\"quoted\" "); // cut at the broken character
      EXPECT(rpc ? "details.0.debug.field" : "details.field", "a\"b");
      EXPECT(rpc ? "details.0.debug.conflicts.1" : "details.conflicts.1", "\xc3\xa4");
      EXPECT(rpc ? "details.0.debug.total" : "details.total", "2");
      assert_int_equal(s->answer.retry_after_s != 0, table[i].status == RAG_RESOURCE_EXHAUSTED);
    }
}

// An arena too small for the answer: an error, never a crash, half an answer or one with texts missing.
static void test_small_arena(void **state) {
  service *s = *state;
  unsigned refused = 0, answered = 0;
  for (size_t limit = 512; limit <= 80 * 1024; limit += 256) {
    rag_arena *arena = rag_arena_create(limit);
    rag_api_request request = request_of(s, "GET", "/v1/kbs/docs/documents?text=true&limit=10", NULL, 0);
    rag_api_handle(s->api, &request, arena, &s->answer);
    look(s);
    if (s->answer.http_status == 200) {
      answered++;
      EXPECT("documents.0.text", "apples and pears");
      EXPECT("documents.1.id", "dir/b.md");
      EXPECT("documents.1.text", "boats");
      EXPECT("commit", "c2");
    } else {
      assert_int_equal(s->answer.http_status, 429);
      EXPECT("code", "resource_exhausted");
      refused++;
    }
    rag_arena_destroy(arena);
  }
  assert_true(refused > 0 && answered > 0);
}

// A text that does not fit while the rest of the answer does must fail the call, not leave the answer without it.
static void test_text_without_room(void **state) {
  service *s = *state;
  unsigned refused = 0, answered = 0;
  rag_buf body = {0};
  rag_buf_append_str(&body, "{\"documents\":[{\"id\":\"big\",\"text\":\"");
  for (int i = 0; i < 20000; i++) rag_buf_append_str(&body, "0123456789");
  rag_buf_append_str(&body, "\"}]}");
  expect_status(s, send_bytes(s, "POST", "/v1/kbs/docs/documents", body.data, body.size), 200, __FILE__, __LINE__);
  rag_buf_free(&body);
  for (size_t limit = 64 << 10; limit <= 1 << 20; limit += 32 << 10) {
    rag_arena *arena = rag_arena_create(limit);
    rag_api_request request = request_of(s, "GET", "/v1/kbs/docs/documents/big", NULL, 0);
    rag_api_handle(s->api, &request, arena, &s->answer);
    if (s->answer.http_status == 200) {
      answered++;
      assert_true(s->answer.body.size > 200000);
    } else {
      assert_int_equal(s->answer.http_status, 429);
      refused++;
    }
    rag_arena_destroy(arena);
  }
  assert_true(refused > 0 && answered > 0);
}

// The same for every allocation that may fail, of a read and of a write.
static void test_failing_allocations(void **state) {
  service *s = *state;
  static const char *const calls[][3] = {
      {"GET", "/v1/kbs/docs/documents/a", NULL},
      {"GET", "/v1/kbs", NULL},
      {"POST", "/v1/kbs/docs/search", "{\"query\":\"boats\"}"},
      {"POST", "/v1/kbs/docs/search",
       "{\"query\":\"boats\",\"mode\":\"vector\",\"include\":[\"text\",\"vector\",\"scores\",\"highlights\",\"plan\"],"
       "\"filter\":{\"must\":{\"has_id\":[\"a\",\"dir/b.md\"]}}}"},
      {"POST", "/v1/kbs/docs/search:batch",
       "{\"searches\":[{\"query\":\"boats\"},{\"query\":\"pears\",\"at\":\"main~0\"}]}"},
      {"POST", "/v1/kbs/docs/facets", "{\"fields\":[\"a\",\"b\"],\"filter\":{\"must\":{\"has_id\":[\"a\"]}}}"},
      {"GET", "/v1/kbs/docs/documents?filter=%7B%22must%22:%7B%22has_id%22:%5B%22a%22%5D%7D%7D", NULL},
      {"GET", "/v1/kbs/docs/diff?from=c1&text=true", NULL},
      {"POST", "/ragd.v1.KnowledgeBases/GetKb", "{\"kb\":\"none\"}"},
      {"POST", "/v1/keys", "{\"role\":\"read\"}"}, // refused: the first must be an admin
  };
  for (size_t c = 0; c < RAG_COUNT_OF(calls); c++) {
    int expected = send_text(s, calls[c][0], calls[c][1], calls[c][2]);
    char *body = strndup(s->answer.body.data, s->answer.body.size);
    unsigned n = 1;
    for (bool failed = true; failed; n++) {
      assert_true(n < 10000);
      rag_arena_reset(s->arena);
      rag_api_request request =
          request_of(s, calls[c][0], calls[c][1], calls[c][2], calls[c][2] ? strlen(calls[c][2]) : 0);
      rag_alloc_fail_after(n);
      rag_api_handle(s->api, &request, s->arena, &s->answer);
      failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      look(s);
      if (s->answer.http_status == expected) continue;
      if (s->answer.http_status != 429)
        fail_msg("%s: allocation %u: %.*s", calls[c][1], n, (int)s->answer.body.size, s->answer.body.data);
    }
    expect_status(s, s->answer.http_status, expected, __FILE__, __LINE__); // nothing failed the last time
    if (!strstr(body, "took_us")) assert_true(rag_slice_equal(s->answer.body, rag_slice_str(body)));
    free(body);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      TEST(test_unknown_paths),     TEST(test_content_types),
      TEST(test_protobuf),          TEST(test_parameters),
      TEST(test_parameters_bad),    TEST(test_bodies_bad),
      TEST(test_connect_errors),    TEST(test_timeouts),
      TEST(test_idempotency_key),   TEST(test_admit),
      TEST(test_wants_worker),      TEST(test_plain_routes),
      TEST(test_error_table),       TEST(test_small_arena),
      TEST(test_text_without_room), TEST(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
