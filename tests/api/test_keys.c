// Goal: a key's secret can be changed without a gap and without a second way in; what a key may use is what it was given,
// also after a restart; who used a key last is known.
// Method: the whole service in process with a clock that the test sets. Rotation is looked at on both sides of its grace,
// limits at the number and one past it, quotas over the end of a day and over a reopening.
#include "dispatch_testing.h"

#define NOW_US INT64_C(2000000000000000) // 2033-05-18T03:33:20Z
#define HOUR_US INT64_C(3600000000)
#define DAY_US (24 * HOUR_US)

static char admin[128];

static int start(void **state) {
  service *s = service_start();
  rag_clock_set_for_test(NOW_US - 1000000); // the first of the list
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\"}");
  CALL(200, "POST", "/v1/keys", "{\"role\":\"admin\",\"name\":\"root\"}");
  snprintf(admin, sizeof(admin), "Bearer %s", at(s, "secret"));
  s->authorization = admin;
  rag_clock_set_for_test(NOW_US);
  *state = s;
  return 0;
}

static int stop(void **state) {
  rag_clock_set_for_test(0);
  service_stop(*state);
  return 0;
}

typedef struct made {
  char header[128], id[32], rotate[96];
} made;

static made make(service *s, const char *body) {
  made out;
  s->authorization = admin;
  CALL(200, "POST", "/v1/keys", body);
  snprintf(out.header, sizeof(out.header), "Bearer %s", at(s, "secret"));
  snprintf(out.id, sizeof(out.id), "%s", at(s, "key.id"));
  snprintf(out.rotate, sizeof(out.rotate), "/v1/keys/%s:rotate", out.id);
  return out;
}

// The key's entry of the list, at a path within it.
static const char *listed(service *s, const char *id, const char *member) {
  const char *authorization = s->authorization;
  static char value[256];
  s->authorization = admin;
  CALL(200, "GET", "/v1/keys", NULL);
  s->authorization = authorization;
  for (unsigned i = 0;; i++) {
    char path[64];
    snprintf(path, sizeof(path), "keys.%u.id", i);
    if (strcmp(at(s, path), "<absent>") == 0) fail_msg("key %s is not listed", id);
    if (strcmp(at(s, path), id) != 0) continue;
    snprintf(path, sizeof(path), "keys.%u.%s", i, member);
    snprintf(value, sizeof(value), "%s", at(s, path));
    return value;
  }
}

// What a door asks before it reads a body: here requests are counted.
static int admit(service *s, const char *method, const char *target) {
  rag_api_lane lane;
  rag_api_request request = request_of(s, method, target, NULL, 0);
  rag_arena_reset(s->arena);
  s->answer = (rag_api_response){0};
  rag_status status = rag_api_admit(s->api, &request, s->arena, &lane, &s->answer);
  if (status != RAG_OK) look(s);
  return status == RAG_OK ? 200 : s->answer.http_status;
}

static void test_rotation(void **state) {
  service *s = *state;
  made key = make(s, "{\"role\":\"read\",\"kbs\":[\"docs\"]}");
  char second[128], third[128];
  CALL(200, "POST", key.rotate, "{\"grace_seconds\":60}");
  EXPECT("key.id", key.id);
  EXPECT("key.role", "read");
  EXPECT("key.kbs", "[\"docs\"]");
  EXPECT("key.rotated_at", "2033-05-18T03:33:20Z");
  EXPECT("key.old_secret_until_at", "2033-05-18T03:34:20Z");
  snprintf(second, sizeof(second), "Bearer %s", at(s, "secret"));
  assert_string_not_equal(second, key.header);
  const char *both[] = {key.header, second};
  for (size_t i = 0; i < 2; i++) { // both, with what the key may and nothing more
    s->authorization = both[i];
    CALL(200, "GET", "/v1/kbs/docs", NULL);
    CALL(403, "GET", "/v1/kbs/other", NULL);
    CALL(403, "POST", "/v1/kbs/docs/documents", "{}");
  }
  rag_clock_set_for_test(NOW_US + 60 * 1000000 - 1);
  s->authorization = key.header;
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  rag_clock_set_for_test(NOW_US + 60 * 1000000);
  ERROR(401, "unauthenticated", "<absent>", "old secret has ended at 2033-05-18T03:34:20Z", "GET", "/v1/kbs/docs",
        NULL);
  s->authorization = second;
  CALL(200, "GET", "/v1/kbs/docs", NULL);

  // Without grace the old one ends at once; one that was in grace does not come back.
  s->authorization = admin;
  CALL(200, "POST", key.rotate, "{\"grace_seconds\":3600}");
  snprintf(third, sizeof(third), "Bearer %s", at(s, "secret"));
  CALL(200, "POST", key.rotate, "{}");
  char fourth[128];
  snprintf(fourth, sizeof(fourth), "Bearer %s", at(s, "secret"));
  const char *gone[] = {key.header, second, third};
  for (size_t round = 0; round < 2; round++) {
    for (size_t i = 0; i < RAG_COUNT_OF(gone); i++) {
      s->authorization = gone[i];
      CALL(401, "GET", "/v1/kbs/docs", NULL);
    }
    s->authorization = fourth;
    CALL(200, "GET", "/v1/kbs/docs", NULL);
    service_reopen(s); // it was durable
  }
  ERROR(403, "permission_denied", "<absent>", "needs the role 'admin'", "POST", key.rotate, "{}"); // not by itself
}

static void test_rotation_refusals(void **state) {
  service *s = *state;
  made key = make(s, "{\"role\":\"read\",\"expires_at\":\"2033-05-18T04:33:20Z\"}");
  ERROR(404, "not_found", "id", "does not exist", "POST", "/v1/keys/key_0:rotate", "{}");
  ERROR(400, "invalid_argument", "grace_seconds", "at most 2592000", "POST", key.rotate, "{\"grace_seconds\":2592001}");
  ERROR(400, "invalid_argument", "expires_at", "past", "POST", key.rotate, "{\"expires_at\":\"2033-01-01T00:00:00Z\"}");
  CALL(200, "POST", key.rotate, "{\"grace_seconds\":2592000}");
  EXPECT("key.expires_at", "2033-05-18T04:33:20Z"); // kept
  // A key's end is the end of both its secrets, whatever the grace.
  rag_clock_set_for_test(NOW_US + HOUR_US);
  s->authorization = key.header;
  ERROR(401, "unauthenticated", "<absent>", "has expired", "GET", "/v1/kbs", NULL);
  s->authorization = admin;
  CALL(200, "POST", key.rotate, "{\"expires_at\":\"2034-01-01T00:00:00Z\"}");
  char renewed[128];
  snprintf(renewed, sizeof(renewed), "Bearer %s", at(s, "secret"));
  s->authorization = renewed;
  CALL(200, "GET", "/v1/kbs", NULL);
  // An admin may rotate the key that it comes with.
  s->authorization = admin;
  CALL(200, "GET", "/v1/keys", NULL);
  char target[96];
  snprintf(target, sizeof(target), "/v1/keys/%s:rotate", at(s, "keys.0.id"));
  EXPECT("keys.0.name", "root");
  CALL(200, "POST", target, "{}");
  snprintf(admin, sizeof(admin), "Bearer %s", at(s, "secret"));
  CALL(200, "GET", "/v1/keys", NULL);
}

static void test_scopes(void **state) {
  service *s = *state;
  ERROR(400, "invalid_argument", "feature_views", "admin key", "POST", "/v1/keys",
        "{\"role\":\"admin\",\"feature_views\":[\"rides\"]}");
  ERROR(400, "invalid_argument", "feature_views[1]", "no name", "POST", "/v1/keys",
        "{\"role\":\"read\",\"feature_views\":[\"rides\",\"R\"]}");
  made all = make(s, "{\"role\":\"write\"}");
  made kbs = make(s, "{\"role\":\"write\",\"kbs\":[\"docs\"]}");
  made views = make(s, "{\"role\":\"write\",\"feature_views\":[\"rides\",\"drivers\"]}");
  EXPECT("key.feature_views", "[\"drivers\",\"rides\"]");
  const struct {
    const made *key;
    bool docs, rides;
  } rule[] = {{&all, true, true}, {&kbs, true, false}, {&views, false, true}};
  for (unsigned round = 0; round < 2; round++) {
    for (size_t i = 0; i < RAG_COUNT_OF(rule); i++) {
      rag_api__principal principal;
      rag_error err = {0};
      s->authorization = rule[i].key->header;
      CALL(rule[i].docs ? 200 : 403, "GET", "/v1/kbs/docs", NULL);
      CALL(200, "GET", "/v1/kbs", NULL); // lists show what is in reach
      EXPECT("kbs.0.name", rule[i].docs ? "docs" : "<absent>");
      assert_int_equal(rag_api__authenticate(s->api->keys, s->authorization, false, &principal, &err), RAG_OK);
      assert_int_equal(rag_api__may_use_view(&principal, rag_slice_str("rides")), rule[i].rides);
      assert_int_equal(rag_api__check_view(&principal, rag_slice_str("rides"), &err),
                       rule[i].rides ? RAG_OK : RAG_PERMISSION_DENIED);
      assert_int_equal(rag_api__may_use_view(&principal, rag_slice_str("ride")), rule[i].key == &all);
      rag_ref_drop(principal.pin);
    }
    service_reopen(s);
  }
}

// ---------------------------------------------------------------------------------------------- limits

static void test_rate(void **state) {
  service *s = *state;
  ERROR(400, "invalid_argument", "burst", "without requests_per_second", "POST", "/v1/keys",
        "{\"role\":\"read\",\"burst\":5}");
  ERROR(400, "invalid_argument", "requests_per_second", "at most 1000000", "POST", "/v1/keys",
        "{\"role\":\"read\",\"requests_per_second\":1000001}");
  made key = make(s, "{\"role\":\"read\",\"requests_per_second\":1,\"burst\":3}");
  assert_string_equal(listed(s, key.id, "requests_per_second"), "1");
  assert_string_equal(listed(s, key.id, "burst"), "3");
  rag_api__key_table *table = rag_api__keys_table(s->api->keys);
  const rag_api__key *row = NULL;
  for (uint32_t i = 0; i < table->count; i++)
    if (strcmp(table->keys[i].id, key.id) == 0) row = &table->keys[i];
  assert_non_null(row);
  // By the clock of the test: 3 at once, then one a second; time that was not used fills the bucket and no more.
  const uint64_t s_ns = UINT64_C(1000000000), t0 = 1000 * s_ns;
  unsigned retry = 0;
  rag_error err = {0};
  for (int i = 0; i < 3; i++) assert_int_equal(rag_api__usage_admit(row, false, t0, NOW_US, &retry, &err), RAG_OK);
  assert_int_equal(rag_api__usage_admit(row, false, t0, NOW_US, &retry, &err), RAG_RESOURCE_EXHAUSTED);
  assert_int_equal(retry, 1);
  assert_non_null(strstr(err.message, "1 requests a second (3 at once)"));
  assert_int_equal(rag_api__usage_admit(row, false, t0 + s_ns - 1, NOW_US, &retry, &err), RAG_RESOURCE_EXHAUSTED);
  assert_int_equal(rag_api__usage_admit(row, false, t0 + s_ns, NOW_US, &retry, &err), RAG_OK);
  assert_int_equal(rag_api__usage_admit(row, false, t0 + s_ns, NOW_US, &retry, &err), RAG_RESOURCE_EXHAUSTED);
  assert_int_equal(rag_api__usage_admit(row, false, t0, NOW_US, &retry, &err), RAG_RESOURCE_EXHAUSTED); // a clock back
  for (int i = 0; i < 3; i++)
    assert_int_equal(rag_api__usage_admit(row, false, t0 + 1000 * s_ns, NOW_US, &retry, &err), RAG_OK);
  assert_int_equal(rag_api__usage_admit(row, false, t0 + 1000 * s_ns, NOW_US, &retry, &err), RAG_RESOURCE_EXHAUSTED);
  rag_ref_drop(table);
}

// Through the door, where a change of another key in between must not fill the bucket again.
static void test_rate_at_the_door(void **state) {
  service *s = *state;
  made key = make(s, "{\"role\":\"read\",\"requests_per_second\":1,\"burst\":2}");
  char rotated[128];
  s->authorization = key.header;
  uint64_t before_ns = rag_clock_monotonic_ns();
  int refused = 0;
  for (int i = 0; i < 20; i++) {
    int got = admit(s, "GET", "/v1/kbs");
    if (got != 200) {
      refused++;
      assert_int_equal(got, 429);
      assert_int_equal(s->answer.retry_after_s, 1);
      EXPECT("code", "resource_exhausted");
    }
    if (i != 10) continue;
    s->authorization = admin;
    CALL(200, "POST", "/v1/keys", "{\"role\":\"read\"}");
    CALL(200, "POST", key.rotate, "{\"grace_seconds\":3600}");
    snprintf(rotated, sizeof(rotated), "Bearer %s", at(s, "secret"));
    s->authorization = rotated; // nor must a new secret
  }
  uint64_t seconds = (rag_clock_monotonic_ns() - before_ns) / 1000000000 + 1;
  assert_true((uint64_t)refused + 2 + seconds >= 20);
  s->authorization = admin; // others are not concerned
  assert_int_equal(admit(s, "GET", "/v1/kbs"), 200);
  // The dispatcher behind the door does not count the request again.
  s->authorization = key.header;
  CALL(200, "GET", "/v1/kbs", NULL);
}

static void test_quota(void **state) {
  service *s = *state;
  char body[256], too_large[64];
  made key = make(s, "{\"role\":\"write\",\"bytes_per_day\":300}");
  snprintf(body, sizeof(body), "{\"documents\":[{\"id\":\"a\",\"text\":\"%0100d\"}]}", 7); // 139 bytes
  s->authorization = key.header;
  for (int i = 0; i < 3; i++) { // 139, 278, 417: the one that passes the quota is still taken
    assert_int_equal(admit(s, "POST", "/v1/kbs/docs/documents"), 200);
    CALL(200, "POST", "/v1/kbs/docs/documents", body);
  }
  assert_int_equal(admit(s, "POST", "/v1/kbs/docs/documents"), 429);
  unsigned until_midnight = (unsigned)((DAY_US - NOW_US % DAY_US) / 1000000 + 1);
  assert_int_equal(s->answer.retry_after_s, until_midnight);
  ERROR(429, "resource_exhausted", "<absent>", "300 bytes of this day", "POST", "/v1/kbs/docs/documents", body);
  assert_int_equal(s->answer.retry_after_s, until_midnight);
  assert_int_equal(admit(s, "POST", "/v1/kbs/docs/search"), 200); // reads go on
  CALL(200, "POST", "/v1/kbs/docs/search", "{\"query\":\"x\"}");
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  service_reopen(s); // a restart gives nothing back
  assert_int_equal(admit(s, "POST", "/v1/kbs/docs/documents"), 429);
  rag_clock_set_for_test(NOW_US + DAY_US);
  assert_int_equal(admit(s, "POST", "/v1/kbs/docs/documents"), 200);
  CALL(200, "POST", "/v1/kbs/docs/documents", body);

  // A stream is stopped at the part after the one that passed it, and keeps what it committed.
  rag_clock_set_for_test(NOW_US + 2 * DAY_US);
  rag_buf lines = {0};
  for (int i = 0; i < 20; i++) rag_buf_printf(&lines, "{\"id\":\"s%d\",\"text\":\"%060d\"}\n", i, i);
  stream_ends ends = {.body = lines.data, .size = lines.size, .step = 100};
  (void)send_stream(s, "POST", "/v1/kbs/docs/documents:import?batch=1", "application/x-ndjson", &ends);
  rag_buf_append_char(&ends.written, '\0');
  assert_non_null(strstr(ends.written.data, "resource_exhausted"));
  assert_null(strstr(ends.written.data, "\"done\":true"));
  assert_true(ends.offset <= 500);
  rag_buf_free(&ends.written);
  rag_buf_free(&lines);
  snprintf(too_large, sizeof(too_large), "%s", listed(s, key.id, "bytes_per_day"));
  assert_string_equal(too_large, "300");
}

static void test_last_use(void **state) {
  service *s = *state;
  made used = make(s, "{\"role\":\"read\"}"), unused = make(s, "{\"role\":\"read\"}");
  s->authorization = used.header;
  CALL(200, "GET", "/v1/kbs", NULL);
  assert_string_equal(listed(s, used.id, "last_used_at"), "2033-05-18T03:33:20Z");
  rag_clock_set_for_test(NOW_US + 59 * 1000000); // to the minute
  CALL(200, "GET", "/v1/kbs", NULL);
  assert_string_equal(listed(s, used.id, "last_used_at"), "2033-05-18T03:33:20Z");
  rag_clock_set_for_test(NOW_US + 60 * 1000000);
  CALL(200, "GET", "/v1/kbs", NULL);
  assert_string_equal(listed(s, used.id, "last_used_at"), "2033-05-18T03:34:20Z");
  assert_string_equal(listed(s, unused.id, "last_used_at"), "null");
  service_reopen(s);
  assert_string_equal(listed(s, used.id, "last_used_at"), "2033-05-18T03:34:20Z");
  // What a deleted key used is gone with it, also when it was still to be written.
  s->authorization = used.header;
  rag_clock_set_for_test(NOW_US + HOUR_US);
  CALL(200, "GET", "/v1/kbs", NULL);
  char target[64];
  snprintf(target, sizeof(target), "/v1/keys/%s", used.id);
  s->authorization = admin;
  CALL(200, "DELETE", target, NULL);
  service_reopen(s);
  rag_key row;
  rag_value value = {0};
  rag_api__usage_row_key(&row, rag_slice_str(used.id));
  assert_int_equal(rag_store_get(s->api->store, NULL, RAG_CF_META, rag_key_slice(&row), &value, NULL), RAG_NOT_FOUND);
  rag_api__usage_row_key(&row, rag_slice_str(listed(s, unused.id, "id")));
  assert_int_equal(rag_store_get(s->api->store, NULL, RAG_CF_META, rag_key_slice(&row), &value, NULL), RAG_NOT_FOUND);
}

// The row of a key from before there were rotations and limits: version 1, byte for byte.
static rag_status put_old_row(void *ctx, rag_txn *txn, rag_error *err) {
  RAG_UNUSED(err);
  rag_buf value = {0};
  rag_key row;
  rag_buf_append_u8(&value, 1);
  rag_buf_append_u8(&value, 1); // read
  rag_buf_append_u64le(&value, 1000000);
  rag_buf_append_u64le(&value, 0);
  rag_buf_append(&value, ctx, 32);
  rag_buf_append_bytes(&value, rag_slice_str("old"));
  rag_buf_append_varint(&value, 1);
  rag_buf_append_bytes(&value, rag_slice_str("docs"));
  rag_api__key_row_key(&row, rag_slice_str("key_old"));
  rag_txn_put(txn, RAG_CF_META, rag_key_slice(&row), rag_buf_slice(&value));
  rag_buf_free(&value);
  return RAG_OK;
}

static uint8_t stored_version(service *s, const char *id) {
  rag_key row;
  rag_value value = {0};
  rag_api__key_row_key(&row, rag_slice_str(id));
  assert_int_equal(rag_store_get(s->api->store, NULL, RAG_CF_META, rag_key_slice(&row), &value, NULL), RAG_OK);
  uint8_t version = (uint8_t)value.slice.data[0];
  rag_value_free(&value);
  return version;
}

static void test_old_rows(void **state) {
  service *s = *state;
  char secret[64], header[128];
  uint8_t hash[32];
  snprintf(secret, sizeof(secret), "ragd_%043d", 7);
  snprintf(header, sizeof(header), "Bearer %s", secret);
  rag_sha256(secret, strlen(secret), hash);
  assert_int_equal(rag_store_commit(s->api->store, &(rag_commit_request){.apply = put_old_row, .ctx = hash}, NULL),
                   RAG_OK);
  service_reopen(s);
  s->authorization = header;
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  CALL(403, "GET", "/v1/kbs/other", NULL);
  s->authorization = admin;
  assert_int_equal(stored_version(s, "key_old"), 1);
  // A key that needs nothing new is written so that an older program can read it.
  assert_int_equal(stored_version(s, make(s, "{\"role\":\"read\",\"kbs\":[\"docs\"]}").id), 1);
  CALL(200, "POST", "/v1/keys/key_old:rotate", "{\"grace_seconds\":60}");
  assert_int_equal(stored_version(s, "key_old"), 2);
  service_reopen(s);
  s->authorization = header;
  CALL(200, "GET", "/v1/kbs/docs", NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_rotation, start, stop),
      cmocka_unit_test_setup_teardown(test_rotation_refusals, start, stop),
      cmocka_unit_test_setup_teardown(test_scopes, start, stop),
      cmocka_unit_test_setup_teardown(test_rate, start, stop),
      cmocka_unit_test_setup_teardown(test_rate_at_the_door, start, stop),
      cmocka_unit_test_setup_teardown(test_quota, start, stop),
      cmocka_unit_test_setup_teardown(test_last_use, start, stop),
      cmocka_unit_test_setup_teardown(test_old_rows, start, stop),
  };
  return cmocka_run_group_tests_name("keys", tests, NULL, NULL);
}
