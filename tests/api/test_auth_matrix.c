// Goal: nobody gets past a role or a key's kbs, by any route, through any door.
// Method: every route of the table x every door (REST, RPC, stream, admit) x thirteen callers, against a rule stated
// here without the table's role column. Then the ways around: escapes, bodies, lists, jobs, protobuf that names two kbs; and
// the life of keys.
#include "dispatch_testing.h"

#include <pthread.h>

enum {
  NONE,
  MALFORMED,
  UNKNOWN,
  EXPIRED,
  ROTATED_OUT, // the secret before a rotation, its grace over
  READ,
  WRITE,
  ADMIN,
  READ_OTHER,
  WRITE_OTHER,
  WRITE_DOCS,
  WRITE_VIEWS,    // for a feature view alone: no kb
  ADMIN_IN_GRACE, // the secret before a rotation, its grace not over
  CALLERS
};
static const char *const caller_names[CALLERS] = {
    "none",  "malformed",  "unknown",     "expired",    "rotated out", "read",          "write",
    "admin", "read other", "write other", "write docs", "write views", "admin in grace"};
typedef enum outcome { PASSES, UNAUTHENTICATED, DENIED } outcome;
static const char *const outcome_names[] = {"passes", "401", "403"};
static char headers[CALLERS][128];

#define EXPIRES_US INT64_C(2000000000000000) // 2033
#define AFTER_US (EXPIRES_US + 1)

static const char *make_key(service *s, const char *role, const char *kbs, const char *expires) {
  char body[256];
  snprintf(body, sizeof(body), "{\"role\":\"%s\",\"kbs\":[%s],\"expires_at\":%s,\"name\":\"t\"}", role, kbs, expires);
  CALL(200, "POST", "/v1/keys", body);
  return at(s, "secret");
}

static void make_caller(service *s, int caller, const char *role, const char *kbs, const char *expires) {
  snprintf(headers[caller], sizeof(headers[caller]), "Bearer %s", make_key(s, role, kbs, expires));
}

// The key of a caller gets a new secret; the caller keeps the old one.
static void rotate(service *s, const char *body) {
  char target[96];
  snprintf(target, sizeof(target), "/v1/keys/%s:rotate", at(s, "key.id"));
  CALL(200, "POST", target, body);
}

static void ensure_kb(service *s) {
  const char *authorization = s->authorization;
  s->authorization = NULL;
  s->trusted = true;
  (void)send_text(s, "POST", "/v1/kbs", "{\"name\":\"docs\"}");
  s->trusted = false;
  s->authorization = authorization;
}

static int start(void **state) {
  service *s = service_start();
  rag_clock_set_for_test(EXPIRES_US - 1000000);
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\"}");
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"other\"}");
  s->trusted = true;
  make_caller(s, ADMIN, "admin", "", "null");
  make_caller(s, EXPIRED, "admin", "", "\"2033-05-18T03:33:20Z\"");
  make_caller(s, ROTATED_OUT, "admin", "", "null");
  rotate(s, "{\"grace_seconds\":1}");
  make_caller(s, ADMIN_IN_GRACE, "admin", "", "null");
  rotate(s, "{\"grace_seconds\":3600}");
  CALL(200, "POST", "/v1/keys", "{\"role\":\"write\",\"feature_views\":[\"rides\"]}");
  snprintf(headers[WRITE_VIEWS], sizeof(headers[0]), "Bearer %s", at(s, "secret"));
  make_caller(s, READ, "read", "", "null");
  make_caller(s, WRITE, "write", "", "null");
  make_caller(s, READ_OTHER, "read", "\"zzz\",\"other\",\"aaa\"", "null");
  make_caller(s, WRITE_OTHER, "write", "\"other\"", "null");
  make_caller(s, WRITE_DOCS, "write", "\"docs\",\"other\"", "null");
  snprintf(headers[UNKNOWN], sizeof(headers[0]), "Bearer ragd_%043d", 0);
  snprintf(headers[MALFORMED], sizeof(headers[0]), "Basic %.48s", headers[ADMIN] + 7);
  s->trusted = false;
  rag_clock_set_for_test(AFTER_US);
  *state = s;
  return 0;
}

static int stop(void **state) {
  rag_clock_set_for_test(0);
  service *s = *state;
  service_stop(s);
  return 0;
}

// ---------------------------------------------------------------------------------------------- the rule

static bool is_in(const char *name, const char *const *names, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(name, names[i]) == 0) return true;
  return false;
}

// Reads may read, writes may write what can be undone, the rest is for admins, health is open.
static int least_caller(const rag_route *route) {
  static const char *const open[] = {"healthz", "readyz", "openapi.json"};
  static const char *const reads[] = {"Retrieval/Search", "Retrieval/SearchBatch", "Retrieval/Facets"};
  static const char *const admin[] = {"KnowledgeBases/DeleteKb", "KnowledgeBases/CompactIndex", "KnowledgeBases/Import",   "Versions/Gc",
                                      "Versions/Purge",          "Operations/PauseJob",     "Operations/ResumeJob",
                                      "Operations/CancelJob",    "Operations/CreateKey",    "Operations/ListKeys",
                                      "Operations/DeleteKey",    "Operations/CreateBackup", "Operations/ListBackups",
                                      "Operations/VerifyBackup", "Operations/DeleteBackup", "Operations/Check",
                                      "Operations/RotateKey"};
  if (is_in(route->name, open, RAG_COUNT_OF(open))) return NONE;
  if (is_in(route->name, admin, RAG_COUNT_OF(admin))) return ADMIN;
  if (strcmp(route->method, "GET") == 0 || is_in(route->name, reads, RAG_COUNT_OF(reads))) return READ;
  return WRITE;
}

static outcome rule(const rag_route *route, int caller, bool names_docs) {
  int least = least_caller(route);
  if (least == NONE) return PASSES;
  if (caller < READ) return UNAUTHENTICATED;
  bool not_for_docs = caller == READ_OTHER || caller == WRITE_OTHER || caller == WRITE_VIEWS;
  int role = caller == READ_OTHER ? READ : caller == ADMIN_IN_GRACE ? ADMIN : caller > ADMIN ? WRITE : caller;
  if (role < least) return DENIED;
  if (not_for_docs && names_docs) return DENIED;
  return PASSES;
}

// ---------------------------------------------------------------------------------------------- the doors

static outcome outcome_of(const service *s) {
  return s->answer.http_status == 401 ? UNAUTHENTICATED : s->answer.http_status == 403 ? DENIED : PASSES;
}

static unsigned checked;
static void check(service *s, const rag_route *route, const char *door, int caller, bool names_docs) {
  outcome expected = rule(route, caller, names_docs), got = outcome_of(s);
  if (got != expected)
    fail_msg("%s by %s as '%s': %s (%d), expected %s", route->name, door, caller_names[caller], outcome_names[got],
             s->answer.http_status, outcome_names[expected]);
  // A refusal says nothing about what is there.
  if (got != PASSES && s->answer.body.size > 600) fail_msg("%s: a long refusal", route->name);
  checked++;
}

static void target_of(const rag_route *route, char *out, size_t size) {
  size_t used = 0;
  for (const char *c = route->path; *c && used + 8 < size; c++) {
    if (*c != '{') {
      out[used++] = *c;
      continue;
    }
    bool kb = strncmp(c, "{kb}", 4) == 0;
    used += (size_t)snprintf(out + used, size - used, "%s", kb ? "docs" : "1");
    c = strchr(c, '}');
  }
  out[used] = '\0';
}

static void through_rest(service *s, const rag_route *route, int caller) {
  char target[256];
  target_of(route, target, sizeof(target));
  bool creates = strcmp(route->name, "KnowledgeBases/CreateKb") == 0;
  bool names_docs = strstr(target, "/docs") != NULL || creates;
  if (route->stream) {
    stream_ends ends = {.body = "", .size = 0};
    (void)send_stream(s, route->method, target, "application/x-ndjson", &ends);
    rag_buf_free(&ends.written);
    check(s, route, "stream", caller, names_docs);
  } else {
    (void)send_text(s, route->method, target,
                    creates                             ? "{\"name\":\"docs\"}"
                    : strcmp(route->method, "GET") == 0 ? NULL
                                                        : "{}");
    check(s, route, "REST", caller, names_docs);
  }
  rag_api_lane lane;
  rag_api_request request = request_of(s, route->method, target, NULL, 0);
  rag_arena_reset(s->arena);
  s->answer = (rag_api_response){0};
  rag_status status = rag_api_admit(s->api, &request, s->arena, &lane, &s->answer);
  assert_int_equal(status == RAG_OK, s->answer.http_status == 0);
  check(s, route, "admit", caller, names_docs && !creates); // a body's kb is not known yet
}

static void through_rpc(service *s, const rag_route *route, int caller) {
  char target[256], body[64] = "{}";
  if (!route->rpc[0]) return;
  snprintf(target, sizeof(target), "/ragd.v1.%s/%s", route->service, route->rpc);
  bool has_kb = protobuf_c_message_descriptor_get_field_by_name(route->request, "kb") != NULL;
  bool creates = strcmp(route->rpc, "CreateKb") == 0;
  if (has_kb || creates) snprintf(body, sizeof(body), "{\"%s\":\"docs\"}", creates ? "name" : "kb");
  (void)send_text(s, "POST", target, body);
  check(s, route, "RPC", caller, has_kb || creates);
}

static void test_matrix(void **state) {
  service *s = *state;
  checked = 0;
  for (size_t i = 0; i < rag_api__route_count; i++)
    for (int caller = 0; caller < CALLERS; caller++) {
      ensure_kb(s);
      s->authorization = caller == NONE ? NULL : headers[caller];
      through_rest(s, &rag_api__routes[i], caller);
      through_rpc(s, &rag_api__routes[i], caller);
    }
  print_message("%u outcomes checked\n", checked);
  assert_true(checked >= rag_api__route_count * CALLERS * 2);
}

// ---------------------------------------------------------------------------------------------- ways around

static void test_ways_around(void **state) {
  service *s = *state;
  s->authorization = headers[READ_OTHER];
  CALL(200, "GET", "/v1/kbs/other", NULL);
  CALL(403, "GET", "/v1/kbs/docs", NULL);
  EXPECT("code", "permission_denied");
  CALL(403, "GET", "/v1/kbs/d%6Fcs", NULL);
  CALL(403, "GET", "/v1/kbs/never-was", NULL); // as a kb that exists
  CALL(403, "GET", "/v1/kbs/other%2f", NULL);
  CALL(403, "GET", "/v1/kbs/otherx", NULL);
  CALL(403, "GET", "/v1/kbs/othe", NULL);
  CALL(400, "GET", "/v1/kbs/other?kb=docs", NULL);
  CALL(400, "POST", "/v1/kbs/other/search", "{\"kb\":\"docs\",\"query\":\"x\"}");
  CALL(403, "POST", "/ragd.v1.Retrieval/Search?kb=docs", "{\"query\":\"x\"}");
  CALL(400, "POST", "/ragd.v1.Retrieval/Search?kb=docs", "{\"kb\":\"other\",\"query\":\"x\"}");
  CALL(403, "POST", "/ragd.v1.Retrieval/Search", "{\"query\":\"x\"}"); // no kb is not every kb
  CALL(200, "POST", "/ragd.v1.Retrieval/Search", "{\"kb\":\"other\",\"query\":\"x\"}");
  // In protobuf the last of two values counts, for the check as for the search.
  s->content_type = "application/proto";
  static const char two[] = "\x0a\x05other\x0a\x04"
                            "docs\x12\x01x",
                    reversed[] = "\x0a\x04"
                                 "docs\x0a\x05other\x12\x01x";
  expect_status(s, send_bytes(s, "POST", "/ragd.v1.Retrieval/Search", two, sizeof(two) - 1), 403, __FILE__, __LINE__);
  expect_status(s, send_bytes(s, "POST", "/ragd.v1.Retrieval/Search", reversed, sizeof(reversed) - 1), 200, __FILE__,
                __LINE__);
  s->content_type = "application/json";
  // Lists show what the key may see.
  CALL(200, "GET", "/v1/kbs", NULL);
  EXPECT("kbs.0.name", "other");
  EXPECT("kbs.1", "<absent>");
  CALL(200, "GET", "/v1/status", NULL);
  EXPECT("data_dir", "");
  // A kb of that name that is made later is within the key's reach, another is not.
  s->authorization = headers[WRITE_OTHER];
  CALL(403, "POST", "/v1/kbs", "{\"name\":\"mine\"}");
  CALL(409, "POST", "/v1/kbs", "{\"name\":\"other\"}");
}

static void test_jobs_are_scoped(void **state) {
  service *s = *state;
  char target[64];
  s->trusted = true;
  CALL(200, "POST", "/v1/kbs/docs/gc", "{\"keep_commits\":1}");
  snprintf(target, sizeof(target), "/v1/jobs/%s", at(s, "job"));
  s->trusted = false;
  s->authorization = headers[READ_OTHER];
  CALL(404, "GET", target, NULL);
  CALL(200, "GET", "/v1/jobs", NULL);
  EXPECT("jobs", "[]");
  s->authorization = headers[READ];
  CALL(200, "GET", target, NULL);
  CALL(200, "GET", "/v1/jobs", NULL);
  EXPECT("jobs.0.subject", "docs");
}

static void test_headers(void **state) {
  service *s = *state;
  char header[256];
  const char *secret = headers[READ] + 7;
  static const char *const good[] = {"Bearer %s", "bearer %s", "BEARER   %s", "Bearer %s  "};
  static const char *const bad[] = {"%s",      "Bearer%s", "Bearer x%s", "Bearer %sx", "Bearer",
                                    "Bearer ", "",         " Bearer %s", "Token %s"};
  for (size_t i = 0; i < RAG_COUNT_OF(good) + RAG_COUNT_OF(bad); i++) {
    bool is_good = i < RAG_COUNT_OF(good);
    const char *format = is_good ? good[i] : bad[i - RAG_COUNT_OF(good)];
    const char *hole = strstr(format, "%s");
    snprintf(header, sizeof(header), "%.*s%.48s%s", (int)(hole ? hole - format : (long)strlen(format)), format,
             hole ? secret : "", hole ? hole + 2 : "");
    s->authorization = header;
    CALL(is_good ? 200 : 401, "GET", "/v1/kbs", NULL);
    if (!is_good) EXPECT("code", "unauthenticated");
  }
  // Every character counts.
  for (size_t i = 0; i < strlen(secret); i++) {
    snprintf(header, sizeof(header), "%s", headers[READ]);
    header[7 + i] = header[7 + i] == 'A' ? 'B' : 'A';
    s->authorization = header;
    CALL(401, "GET", "/v1/kbs", NULL);
  }
  s->authorization = headers[EXPIRED];
  ERROR(401, "unauthenticated", "<absent>", "expired at 2033-05-18T03:33:20Z", "GET", "/v1/kbs", NULL);
}

// ---------------------------------------------------------------------------------------------- the life of keys

static int start_bare(void **state) {
  *state = service_start();
  return 0;
}

static void expect_not_stored(service *s, const char *secret) {
  rag_store_iter *it = NULL;
  unsigned rows = 0;
  assert_int_equal(
      rag_store_iter_open(s->api->store, NULL, RAG_CF_META, (rag_slice){0}, (rag_slice){0}, false, &it, NULL), RAG_OK);
  while (rag_store_iter_next(it)) {
    rag_slice value = rag_store_iter_value(it);
    assert_null(memmem(value.data, value.size, secret + 5, 8));
    rows++;
  }
  rag_store_iter_close(it);
  assert_true(rows > 0);
}

static void test_life(void **state) {
  service *s = *state;
  char admin[128], admin_id[32], second[128], second_id[32], reader[128], reader_id[32], target[96];
  CALL(200, "GET", "/v1/kbs", NULL); // open while there is none
  assert_false(rag_api_has_keys(s->api));
  ERROR(400, "failed_precondition", "role", "first API key must be an admin", "POST", "/v1/keys",
        "{\"role\":\"read\"}");
  ERROR(400, "invalid_argument", "role", "read, write, admin", "POST", "/v1/keys", "{\"role\":\"root\"}");
  ERROR(400, "invalid_argument", "role", "read, write, admin", "POST", "/v1/keys", "{}");
  ERROR(400, "invalid_argument", "role", "none of", "POST", "/v1/keys", "{\"role\":\"none\"}");
  ERROR(400, "invalid_argument", "kbs", "admin key", "POST", "/v1/keys", "{\"role\":\"admin\",\"kbs\":[\"a\"]}");
  ERROR(400, "invalid_argument", "kbs[1]", "no name", "POST", "/v1/keys", "{\"role\":\"read\",\"kbs\":[\"a\",\"A\"]}");
  ERROR(400, "invalid_argument", "expires_at", "past", "POST", "/v1/keys",
        "{\"role\":\"admin\",\"expires_at\":\"2001-01-01T00:00:00Z\"}");

  CALL(200, "POST", "/v1/keys", "{\"role\":\"admin\",\"name\":\"first\"}");
  snprintf(admin, sizeof(admin), "Bearer %s", at(s, "secret"));
  snprintf(admin_id, sizeof(admin_id), "%s", at(s, "key.id"));
  assert_int_equal(strlen(admin), 7 + 48);
  assert_int_equal(strspn(admin + 12, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), 43);
  expect_not_stored(s, admin + 7);
  CALL(401, "GET", "/v1/kbs", NULL); // closed from now on
  CALL(200, "GET", "/healthz", NULL);
  s->authorization = admin;
  CALL(200, "POST", "/v1/keys", "{\"role\":\"read\",\"kbs\":[\"b\",\"a\"]}");
  EXPECT("key.kbs", "[\"a\",\"b\"]");
  snprintf(reader, sizeof(reader), "Bearer %s", at(s, "secret"));
  snprintf(reader_id, sizeof(reader_id), "%s", at(s, "key.id"));

  // The last admin stays while others need one.
  snprintf(target, sizeof(target), "/v1/keys/%s", admin_id);
  ERROR(400, "failed_precondition", "<absent>", "last admin key", "DELETE", target, NULL);
  CALL(200, "POST", "/v1/keys", "{\"role\":\"admin\"}");
  snprintf(second, sizeof(second), "Bearer %s", at(s, "secret"));
  snprintf(second_id, sizeof(second_id), "%s", at(s, "key.id"));
  CALL(200, "DELETE", target, NULL);
  CALL(401, "GET", "/v1/keys", NULL);
  s->authorization = second;
  CALL(200, "GET", "/v1/keys", NULL);
  EXPECT("keys.0.id", reader_id);
  EXPECT("keys.1.id", second_id);
  EXPECT("keys.2", "<absent>");
  if (memmem(s->answer.body.data, s->answer.body.size, "ragd_", 5)) fail_msg("a secret in the list");
  ERROR(404, "not_found", "id", "GET /v1/keys", "DELETE", target, NULL);

  service_reopen(s); // keys are durable
  CALL(200, "GET", "/v1/keys", NULL);
  EXPECT("keys.1.id", second_id);
  s->authorization = reader;
  CALL(200, "GET", "/v1/kbs", NULL);
  CALL(403, "GET", "/v1/keys", NULL);

  // The last key of all goes only in process: somebody may listen on a public address by virtue of it.
  s->authorization = second;
  snprintf(target, sizeof(target), "/v1/keys/%s", reader_id);
  CALL(200, "DELETE", target, NULL);
  snprintf(target, sizeof(target), "/v1/keys/%s", second_id);
  ERROR(400, "failed_precondition", "<absent>", "last API key", "DELETE", target, NULL);
  s->authorization = NULL;
  s->trusted = true;
  CALL(200, "DELETE", target, NULL);
  s->trusted = false;
  CALL(200, "GET", "/v1/kbs", NULL);
  assert_false(rag_api_has_keys(s->api));
}

static void test_expired_admin_is_none(void **state) {
  service *s = *state;
  rag_clock_set_for_test(EXPIRES_US - 1000000);
  CALL(200, "POST", "/v1/keys", "{\"role\":\"admin\"}");
  char live[128], live_id[32], target[96];
  snprintf(live, sizeof(live), "Bearer %s", at(s, "secret"));
  snprintf(live_id, sizeof(live_id), "%s", at(s, "key.id"));
  s->authorization = live;
  (void)make_key(s, "admin", "", "\"2033-05-18T03:33:20Z\"");
  snprintf(target, sizeof(target), "/v1/keys/%s", live_id);
  rag_clock_set_for_test(AFTER_US);
  // The other admin can do nothing any more.
  ERROR(400, "failed_precondition", "<absent>", "last admin key", "DELETE", target, NULL);
  rag_clock_set_for_test(0);
}

static rag_status put_damaged(void *ctx, rag_txn *txn, rag_error *err) {
  RAG_UNUSED(ctx);
  RAG_UNUSED(err);
  rag_txn_put(txn, RAG_CF_META, rag_slice_str("Kkey_x"), rag_slice_str("\x01\x03 too short"));
  return RAG_OK;
}

// A key row that cannot be read must keep the service shut, not leave it open.
static void test_damaged_row(void **state) {
  service *s = *state;
  rag_error err = {0};
  rag_api *api = NULL;
  rag_commit_request request = {.apply = put_damaged};
  assert_int_equal(rag_store_commit(s->api->store, &request, &err), RAG_OK);
  rag_api_close(s->api);
  rag_api_options options = rag_api_options_default();
  options.data_dir = s->dir;
  assert_int_equal(rag_api_open(&options, &api, &err), RAG_DATA_LOSS);
  assert_non_null(strstr(err.message, "key_x"));
  s->api = NULL;
}

// ---------------------------------------------------------------------------------------------- threads

typedef struct worker {
  service *s;
  unsigned number;
  unsigned made;
} worker;

static void *churn(void *arg) { // makes keys, calls with them, deletes them
  worker *w = arg;
  service mine = *w->s;
  mine.arena = rag_arena_create(0);
  mine.parser = rag_json_parser_create();
  for (int i = 0; i < 20; i++) {
    char secret[128], id[64];
    mine.authorization = headers[ADMIN];
    if (send_text(&mine, "POST", "/v1/keys", "{\"role\":\"read\"}") != 200) break;
    rag_json key, value;
    if (!rag_json_find(mine.json, rag_slice_str("secret"), &value)) break;
    snprintf(secret, sizeof(secret), "Bearer %.*s", 48, rag_json_string(value).data);
    if (!rag_json_find(mine.json, rag_slice_str("key"), &key) || !rag_json_find(key, rag_slice_str("id"), &value))
      break;
    snprintf(id, sizeof(id), "/v1/keys/%.*s", (int)rag_json_string(value).size, rag_json_string(value).data);
    mine.authorization = secret;
    if (send_text(&mine, "GET", "/v1/kbs/docs", NULL) != 200) break;
    mine.authorization = headers[ADMIN];
    if (send_text(&mine, "DELETE", id, NULL) != 200) break;
    mine.authorization = secret;
    if (send_text(&mine, "GET", "/v1/kbs/docs", NULL) != 401) break;
    w->made++;
  }
  rag_json_parser_destroy(mine.parser);
  rag_arena_destroy(mine.arena);
  return NULL;
}

static void test_threads(void **state) {
  service *s = *state;
  pthread_t threads[4];
  worker workers[4];
  for (unsigned i = 0; i < 4; i++) {
    workers[i] = (worker){.s = s, .number = i};
    assert_int_equal(pthread_create(&threads[i], NULL, churn, &workers[i]), 0);
  }
  for (unsigned i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  for (unsigned i = 0; i < 4; i++) assert_int_equal(workers[i].made, 20);
  s->authorization = headers[ADMIN];
  CALL(200, "GET", "/v1/keys", NULL);
  EXPECT("keys.10", "<absent>"); // the fixture's ten, all others gone
  assert_string_not_equal(at(s, "keys.9"), "<absent>");
}

int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_matrix, start, stop),
      cmocka_unit_test_setup_teardown(test_ways_around, start, stop),
      cmocka_unit_test_setup_teardown(test_jobs_are_scoped, start, stop),
      cmocka_unit_test_setup_teardown(test_headers, start, stop),
      cmocka_unit_test_setup_teardown(test_life, start_bare, stop),
      cmocka_unit_test_setup_teardown(test_expired_admin_is_none, start_bare, stop),
      cmocka_unit_test_setup_teardown(test_damaged_row, start_bare, stop),
      cmocka_unit_test_setup_teardown(test_threads, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
