// Goal: a method and a raw target reach the right route with the right parameters, or a 404, or a 405 with Allow.
// Method: hand-made cases of each kind; every route of the table against itself; and, over many random targets, a
// second matcher written the slow and obvious way from the table's paths.
#include "dispatch_testing.h"

static const char *route_name(const char *method, const char *target, rag_api__match *match) {
  rag_api__route_match(method, target, match);
  return match->route ? match->route->name : match->allow ? match->allow : "404";
}

static void expect(const char *method, const char *target, const char *name) {
  rag_api__match match;
  const char *got = route_name(method, target, &match);
  if (strcmp(got, name) != 0) fail_msg("%s %s: got %s, expected %s", method, target, got, name);
}

static void test_paths(void **state) {
  (void)state;
  expect("GET", "/v1/kbs", "KnowledgeBases/ListKbs");
  expect("POST", "/v1/kbs", "KnowledgeBases/CreateKb");
  expect("GET", "/v1/kbs/docs", "KnowledgeBases/GetKb");
  expect("GET", "/v1/kbs/docs?x=/a/b", "KnowledgeBases/GetKb");
  expect("GET", "/v1/kbs/docs#part", "KnowledgeBases/GetKb");
  expect("POST", "/v1/kbs:import", "KnowledgeBases/Import");
  expect("POST", "/v1/kbs/docs/documents:import?batch=5", "Documents/Import");
  expect("POST", "/v1/kbs/docs/documents%3Aimport", "Documents/Import");
  expect("POST", "/v1/kbs/docs/documents%3aimport", "Documents/Import");
  expect("POST", "/v1/jobs/17:pause", "Operations/PauseJob");
  expect("POST", "/v1/jobs/17:resume", "Operations/ResumeJob");
  expect("GET", "/v1/jobs/17", "Operations/GetJob");
  expect("GET", "/healthz", "healthz");
  expect("POST", "/ragd.v1.Documents/PutDocuments", "Documents/PutDocuments");
}

static void test_not_found(void **state) {
  (void)state;
  static const char *const targets[] = {
      "",
      "/",
      "/v1",
      "/v1/",
      "/v1/kbs/",
      "/v1/kbs//documents",
      "v1/kbs",
      "*",
      "/v2/kbs",
      "/v1/kbs/a/b/c",
      "/v1/KBS",
      "//v1/kbs",
      "/v1/kb%",
      "/v1/kb%7",
      "/v1/kb%zz",
      "/v1/kbs%2Fdocs",
      "/v1/kbs/a/documents/x/y",
      "?",
      "/healthz/",
      "/healthzz",
      "/v1/kbs:importx",
      "/ragd.v1.Documents",
      "/ragd.v1.Documents/",
      "/ragd.v1.Documents/Put",
      "/ragd.v1.documents/PutDocuments",
      "/ragd.v2.Documents/PutDocuments",
  };
  for (size_t i = 0; i < RAG_COUNT_OF(targets); i++) {
    rag_api__match match;
    rag_api__route_match("GET", targets[i], &match);
    if (match.allow || match.route) fail_msg("'%s' was found", targets[i]);
    assert_int_equal(match.rpc, strncmp(targets[i], "/ragd.v1.", 9) == 0);
  }
}

static void test_method_not_allowed(void **state) {
  (void)state;
  expect("PUT", "/v1/kbs", "GET, POST");
  expect("TRACE", "/v1/kbs", "GET, POST");
  expect("get", "/v1/kbs", "GET, POST"); // methods are case-sensitive
  expect("", "/v1/kbs", "GET, POST");
  expect("POST", "/v1/kbs/docs", "GET, PATCH, DELETE");
  expect("GET", "/v1/jobs/17:pause", "POST");
  expect("DELETE", "/v1/jobs/17", "GET");
  expect("GET", "/ragd.v1.Documents/PutDocuments", "POST");
  expect("GET", "/v1/kbs/docs/documents:import", "POST");
}

static void expect_param(const rag_api__match *match, size_t i, const char *name, const char *raw) {
  assert_true(i < match->param_count);
  assert_true(rag_slice_equal(match->params[i].name, rag_slice_str(name)));
  assert_true(rag_slice_equal(match->params[i].raw, rag_slice_str(raw)));
}

static void test_parameters(void **state) {
  (void)state;
  rag_api__match match;
  rag_api__route_match("GET", "/v1/kbs/docs/documents/a%2Fb%2Fc.md?at=main~1&x", &match);
  assert_string_equal(match.route->name, "Documents/GetDocument");
  assert_int_equal(match.param_count, 2);
  expect_param(&match, 0, "kb", "docs");
  expect_param(&match, 1, "id", "a%2Fb%2Fc.md");
  assert_true(rag_slice_equal(match.query, rag_slice_str("at=main~1&x")));

  rag_api__route_match("GET", "/v1/kbs/docs/documents/notes:pause", &match); // a colon belongs to an id
  expect_param(&match, 1, "id", "notes:pause");
  rag_api__route_match("POST", "/v1/jobs/a:b:pause", &match); // the verb is the last one
  assert_string_equal(match.route->name, "Operations/PauseJob");
  expect_param(&match, 0, "id", "a:b");
  rag_api__route_match("GET", "/v1/jobs/1%3Apause", &match); // an escaped colon is no verb
  assert_string_equal(match.route->name, "Operations/GetJob");
  expect_param(&match, 0, "id", "1%3Apause");
}

static void decoded(const char *raw, bool plus, const char *expected) {
  rag_arena *arena = rag_arena_create(0);
  rag_slice out = {0};
  rag_error err = {0};
  rag_status status = rag_api__percent_decode(rag_slice_str(raw), plus, rag_slice_str("id"), arena, &out, &err);
  if (expected) {
    assert_int_equal(status, RAG_OK);
    assert_string_equal(out.data, expected);
    assert_int_equal(out.size, strlen(expected));
  } else {
    assert_int_equal(status, RAG_INVALID_ARGUMENT);
    assert_string_equal(err.field, "id");
  }
  rag_arena_destroy(arena);
}

static void test_percent(void **state) {
  (void)state;
  decoded("", false, "");
  decoded("a%2Fb", false, "a/b");
  decoded("a%2fb%25", false, "a/b%");
  decoded("a+b", false, "a+b");
  decoded("a+b%2B", true, "a b+");
  decoded("%E2%82%AC", false, "\xe2\x82\xac");
  decoded("%", false, NULL);
  decoded("a%2", false, NULL);
  decoded("%g0", false, NULL);
  decoded("%0g", false, NULL);
  decoded("a%00b", false, NULL);
  decoded("%ff", false, NULL);
  decoded("%C3%28", false, NULL);
  decoded("%ED%A0%80", false, NULL); // a surrogate
}

static void test_query(void **state) {
  (void)state;
  rag_slice rest = rag_slice_str("&a=1&&b&c=&=d&e=f=g&");
  static const char *const expected[][2] = {{"a", "1"}, {"b", ""}, {"c", ""}, {"", "d"}, {"e", "f=g"}};
  rag_api__param param;
  for (size_t i = 0; i < RAG_COUNT_OF(expected); i++) {
    assert_true(rag_api__query_next(&rest, &param));
    assert_true(rag_slice_equal(param.name, rag_slice_str(expected[i][0])));
    assert_true(rag_slice_equal(param.raw, rag_slice_str(expected[i][1])));
  }
  assert_false(rag_api__query_next(&rest, &param));
}

// Every route finds itself by its REST path and by its rpc.
static void test_table(void **state) {
  (void)state;
  for (size_t i = 0; i < rag_api__route_count; i++) {
    const rag_route *route = &rag_api__routes[i];
    char target[256] = "", rpc[256];
    for (const char *c = route->path; *c; c++) { // a parameter becomes "x"
      if (*c == '{') {
        strcat(target, "x");
        c = strchr(c, '}');
        continue;
      }
      strncat(target, c, 1);
    }
    rag_api__match match;
    rag_api__route_match(route->method, target, &match);
    assert_ptr_equal(match.route, route);
    assert_false(match.rpc);
    int kinds = (route->handler != NULL) + (route->plain != NULL) + (route->stream != NULL);
    assert_int_equal(kinds, 1);
    assert_int_equal(route->handler != NULL, route->request && route->response && route->rpc[0]);
    assert_int_equal(route->stream != NULL, route->lane == RAG_LANE_STREAM);
    assert_true(route->summary && route->summary[0]);
    if (!route->rpc[0]) continue;
    snprintf(rpc, sizeof(rpc), "/ragd.v1.%s/%s", route->service, route->rpc);
    rag_api__route_match("POST", rpc, &match);
    assert_ptr_equal(match.route, route);
    assert_true(match.rpc);
  }
}

// ---------------------------------------------------------------------------------------------- the slow matcher

static bool slow_segment(const char *pattern, size_t pattern_size, const char *text, size_t size) {
  if (pattern[0] != '{') return pattern_size == size && memcmp(pattern, text, size) == 0;
  const char *verb = (const char *)memchr(pattern, '}', pattern_size) + 1;
  size_t verb_size = pattern_size - (size_t)(verb - pattern);
  return size > verb_size && memcmp(text + size - verb_size, verb, verb_size) == 0;
}

static bool slow_path(const char *pattern, const char *text) {
  while (*pattern == '/' && *text == '/') {
    size_t p = strcspn(++pattern, "/"), t = strcspn(++text, "/");
    if (!slow_segment(pattern, p, text, t)) return false;
    pattern += p;
    text += t;
  }
  return !*pattern && !*text;
}

// The rule: a path with a verb wins over one without; everything else cannot meet.
static const rag_route *slow_match(const char *method, const char *target, bool *known) {
  const rag_route *best = NULL;
  const char *pattern = NULL;
  for (size_t i = 0; i < rag_api__route_count; i++) {
    const char *path = rag_api__routes[i].path;
    if (slow_path(path, target) && (!pattern || strstr(path, "}:"))) pattern = path;
  }
  *known = pattern != NULL;
  for (size_t i = 0; pattern && i < rag_api__route_count; i++)
    if (strcmp(rag_api__routes[i].path, pattern) == 0 && strcmp(rag_api__routes[i].method, method) == 0)
      best = &rag_api__routes[i];
  return best;
}

static uint64_t random_state = 88172645463325252u;
static unsigned pick(unsigned n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state >> 33) % n;
}

static void test_against_slow(void **state) {
  (void)state;
  static const char *const pieces[] = {"v1",       "kbs",    "jobs",   "keys",       "documents", "commits",
                                       "branches", "tags",   "diff",   "merge",      "search",    "documents:import",
                                       "1:pause",  ":pause", "x",      "kbs:import", "",          "1:cancel",
                                       "healthz",  "export", "status", "gc",         "a:b",       "rollback"};
  static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
  unsigned found = 0, refused = 0;
  for (unsigned round = 0; round < 200000; round++) {
    char target[256] = "";
    unsigned depth = 1 + pick(6);
    for (unsigned i = 0; i < depth; i++) {
      strcat(target, "/");
      strcat(target, i == 0 && pick(8) ? "v1" : i == 1 && pick(3) ? "kbs" : pieces[pick(RAG_COUNT_OF(pieces))]);
    }
    const char *method = methods[pick(RAG_COUNT_OF(methods))];
    bool known;
    const rag_route *expected = slow_match(method, target, &known);
    rag_api__match match;
    rag_api__route_match(method, target, &match);
    if (match.route != expected || (match.allow != NULL) != known)
      fail_msg("%s %s: got %s, expected %s", method, target, match.route ? match.route->name : "none",
               expected ? expected->name : "none");
    found += expected != NULL;
    refused += known && !expected;
  }
  assert_true(found > 1000 && refused > 1000); // the generator reaches both
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_paths),      cmocka_unit_test(test_not_found),    cmocka_unit_test(test_method_not_allowed),
      cmocka_unit_test(test_parameters), cmocka_unit_test(test_percent),      cmocka_unit_test(test_query),
      cmocka_unit_test(test_table),      cmocka_unit_test(test_against_slow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
