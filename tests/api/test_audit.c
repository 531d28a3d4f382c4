// Goal: every write and every refused key has its line; a log that cannot be written stops writes, and nothing else, and
// is whole again afterwards; its files stay within their bounds.
// Method: the service in process for what is logged; the log alone for its files. A disk that is full is made by
// RLIMIT_FSIZE, which takes a part of a line and then nothing, and gives way when it is raised; and by /dev/full.
#include "dispatch_testing.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char *read_all(const char *path) {
  char *text = NULL;
  size_t size = 0;
  rag_error err = {0};
  if (rag_os_read_file(path, 64u << 20, &text, &size, &err) != RAG_OK) fail_msg("%s", err.message);
  return text;
}

static size_t lines_of(const char *text) {
  size_t count = 0;
  for (; *text; text++) count += *text == '\n';
  return count;
}

// Waits until the file has a line with all of these words; returns it (static).
static const char *line_with(const char *path, const char *a, const char *b, const char *c) {
  static char found[2048];
  for (;;) {
    char *text = read_all(path);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
      if (!strstr(line, a) || !strstr(line, b) || !strstr(line, c)) continue;
      snprintf(found, sizeof(found), "%s", line);
      rag_free(text);
      return found;
    }
    rag_free(text);
    usleep(2000); // a hang is the failure: the test's time limit ends it
  }
}

// ---------------------------------------------------------------------------------------------- what is logged

typedef struct audited {
  service *s;
  char path[300];
} audited;

static void reopen(audited *a, const char *path, uint32_t queue_bytes) {
  rag_error err = {0};
  rag_api_options options = rag_api_options_default();
  rag_api_close(a->s->api);
  options.data_dir = a->s->dir;
  options.audit.path = path;
  options.audit.queue_bytes_max = queue_bytes;
  if (rag_api_open(&options, &a->s->api, &err) != RAG_OK) fail_msg("open: %s", err.message);
}

static int start(void **state) {
  audited *a = calloc(1, sizeof(*a));
  a->s = service_start();
  snprintf(a->path, sizeof(a->path), "%s/audit.log", a->s->dir);
  reopen(a, a->path, 1u << 20);
  *state = a;
  return 0;
}

static int stop(void **state) {
  audited *a = *state;
  service_stop(a->s);
  free(a);
  return 0;
}

static int call_as(service *s, const char *id, const char *method, const char *target, const char *body) {
  rag_api_lane lane;
  rag_arena_reset(s->arena);
  rag_api_request request = request_of(s, method, target, body, body ? strlen(body) : 0);
  request.request_id = id;
  request.peer = "192.0.2.7";
  s->answer = (rag_api_response){0};
  // As the HTTP server does it: what the door refuses does not come to the dispatcher.
  if (rag_api_admit(s->api, &request, s->arena, &lane, &s->answer) == RAG_OK)
    rag_api_handle(s->api, &request, s->arena, &s->answer);
  look(s);
  return s->answer.http_status;
}

static void test_lines(void **state) {
  audited *a = *state;
  service *s = a->s;
  char admin[128], admin_id[32], reader[128], reader_id[32], member[64];
  assert_int_equal(call_as(s, "r1", "POST", "/v1/kbs", "{\"name\":\"docs\"}"), 200);
  assert_non_null(strstr(line_with(a->path, "\"r1\"", "\"kb\":\"docs\"", "KnowledgeBases/CreateKb"),
                         "\"event\":\"write\",\"request_id\":\"r1\",\"peer\":\"192.0.2.7\""));
  assert_int_equal(call_as(s, "r2", "POST", "/v1/keys", "{\"role\":\"admin\"}"), 200);
  snprintf(admin, sizeof(admin), "Bearer %s", at(s, "secret"));
  snprintf(admin_id, sizeof(admin_id), "%s", at(s, "key.id"));
  s->authorization = admin;
  assert_int_equal(call_as(s, "r3", "POST", "/v1/keys", "{\"role\":\"read\",\"kbs\":[\"docs\"]}"), 200);
  snprintf(reader, sizeof(reader), "Bearer %s", at(s, "secret"));
  snprintf(reader_id, sizeof(reader_id), "%s", at(s, "key.id"));
  snprintf(member, sizeof(member), "\"key\":\"%s\"", admin_id);
  line_with(a->path, "\"r3\"", member, "Operations/CreateKey");

  const char *put = "{\"documents\":[{\"id\":\"a\",\"text\":\"x\"}]}";
  assert_int_equal(call_as(s, "r4", "POST", "/v1/kbs/docs/documents", put), 200);
  line_with(a->path, "\"r4\"", "\"outcome\":\"ok\",\"status\":200,\"commit\":\"c2\"", member);
  assert_int_equal(call_as(s, "r5", "POST", "/v1/kbs/docs/documents", "{\"documents\":[{}]}"),
                   400); // a write that failed
  line_with(a->path, "\"r5\"", "\"event\":\"write\"", "\"outcome\":\"invalid_argument\",\"status\":400");
  assert_int_equal(call_as(s, "r6", "POST", "/ragd.v1.Versions/Gc", "{\"kb\":\"docs\",\"keep_commits\":1}"), 200);
  line_with(a->path, "\"r6\"", "\"kb\":\"docs\"", "\"job\":");
  stream_ends ends = {.body = "{\"id\":\"b\",\"text\":\"y\"}\n", .size = 22};
  assert_int_equal(send_stream(s, "POST", "/v1/kbs/docs/documents:import", "application/x-ndjson", &ends), 200);
  rag_buf_free(&ends.written);
  line_with(a->path, "Documents/Import", "\"kb\":\"docs\"", "\"commit\":\"c3\"");

  // Refusals: of nobody, of nobody known, by role, by kb at the door, by kb in a body.
  s->authorization = NULL;
  assert_int_equal(call_as(s, "r7", "GET", "/v1/kbs/docs", NULL), 401);
  assert_null(
      strstr(line_with(a->path, "\"r7\"", "\"event\":\"refused\"", "\"outcome\":\"unauthenticated\""), "\"key\""));
  s->authorization = "Bearer nonsense";
  assert_int_equal(call_as(s, "r8", "POST", "/v1/kbs/docs/documents", put), 401);
  line_with(a->path, "\"r8\"", "\"event\":\"refused\"", "Documents/PutDocuments");
  s->authorization = reader;
  snprintf(member, sizeof(member), "\"key\":\"%s\"", reader_id);
  assert_int_equal(call_as(s, "r9", "POST", "/v1/kbs/docs/documents", put), 403);
  line_with(a->path, "\"r9\"", member, "\"outcome\":\"permission_denied\",\"status\":403");
  assert_int_equal(call_as(s, "r10", "GET", "/v1/kbs/other", NULL), 403);
  line_with(a->path, "\"r10\"", member, "\"kb\":\"other\"");
  assert_int_equal(call_as(s, "r11", "POST", "/ragd.v1.Retrieval/Search", "{\"kb\":\"third\",\"query\":\"x\"}"), 403);
  line_with(a->path, "\"r11\"", member, "\"kb\":\"third\"");
  assert_int_equal(call_as(s, "r12", "GET", "/v1/kbs/docs", NULL), 200); // a read that was let in has no line
  char longest[600];
  snprintf(longest, sizeof(longest), "/v1/kbs/%%22%%5c%%01%%c3%%a9%0500d", 0); // cut and escaped, never torn
  assert_int_equal(call_as(s, "r13", "GET", longest, NULL), 403);
  assert_non_null(strstr(line_with(a->path, "\"r13\"", member, "\"kb\":\"\\\"\\\\\\u0001"), "\"status\":403}"));

  rag_api_close(s->api);
  s->api = NULL;
  char *text = read_all(a->path);
  assert_int_equal(lines_of(text), 13); // and no other
  assert_null(strstr(text, "ragd_"));   // no secret, ever
  assert_null(strstr(text, "r12"));
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) { // each is JSON
    rag_json value;
    assert_int_equal(rag_json_parse(s->parser, rag_slice_str(line), &value, NULL), RAG_OK);
    assert_int_equal(rag_json_type_of(value), RAG_JSON_OBJECT);
  }
  rag_free(text);
  struct stat info;
  assert_int_equal(stat(a->path, &info), 0);
  assert_int_equal(info.st_mode & 0777, 0600);
}

// Writes stop when the lines that wait fill their room; reads do not; none that was made lacks its room.
static void test_full_disk_stops_writes(void **state) {
  audited *a = *state;
  service *s = a->s;
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\"}");
  reopen(a, "/dev/full", 20000);
  unsigned made = 0;
  char body[128];
  for (;; made++) {
    snprintf(body, sizeof(body), "{\"documents\":[{\"id\":\"d%u\",\"text\":\"x\"}]}", made);
    if (send_text(s, "POST", "/v1/kbs/docs/documents", body) != 200) break;
    assert_true(made < 2 * 20000 / 150); // what waits and what is being written, of lines of 150 bytes and more
  }
  assert_true(made > 20);
  ERROR(503, "unavailable", "<absent>", "the audit log cannot be written", "POST", "/v1/kbs/docs/documents", body);
  assert_int_equal(s->answer.retry_after_s, 5);
  stream_ends ends = {.body = "{\"id\":\"b\",\"text\":\"y\"}\n", .size = 22};
  assert_int_equal(send_stream(s, "POST", "/v1/kbs/docs/documents:import", "application/x-ndjson", &ends), 503);
  assert_int_equal(ends.offset, 0);
  assert_int_equal(atomic_load(&rag_api__server.audit_failing), 1);
  CALL(200, "POST", "/v1/kbs/docs/search", "{\"query\":\"x\"}");
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  char count[16];
  snprintf(count, sizeof(count), "%u", made); // what was refused was not made
  EXPECT("documents", count);
  reopen(a, a->path, 1u << 20);
  CALL(200, "POST", "/v1/kbs/docs/documents", body);
}

static void test_opening(void **state) {
  audited *a = *state;
  rag_error err = {0};
  rag_api__audit *audit = NULL;
  rag_audit_options options = rag_api_options_default().audit;
  options.path = "/nowhere/audit.log";
  assert_int_equal(rag_api__audit_open(&options, &audit, &err), RAG_NOT_FOUND);
  assert_non_null(strstr(err.message, "the audit log: open /nowhere/audit.log"));
  // A line that a crash has torn stays, and the next is whole.
  char path[320];
  snprintf(path, sizeof(path), "%s.torn", a->path);
  assert_int_equal(rag_os_write_file(path, "{\"whole\":1}\n{\"to", 16, NULL), RAG_OK);
  options.path = path;
  assert_int_equal(rag_api__audit_open(&options, &audit, &err), RAG_OK);
  rag_api__audit_write(audit, &(rag_api__audit_line){.request_id = "x1"}, false);
  rag_api__audit_close(audit);
  char *text = read_all(path);
  assert_int_equal(strncmp(text, "{\"whole\":1}\n{\"to\n{\"time\":", 25), 0);
  assert_int_equal(lines_of(text), 3);
  rag_free(text);
}

// ---------------------------------------------------------------------------------------------- its files

#define THREADS 4
#define LINES 2000

typedef struct job {
  rag_api__audit *audit;
  unsigned number;
} job;

static void *write_lines(void *arg) {
  job *j = arg;
  for (unsigned i = 0; i < LINES; i++) {
    char id[32];
    snprintf(id, sizeof(id), "<%u.%u>", j->number, i);
    while (!rag_api__audit_reserve(j->audit)) usleep(100);
    rag_api__audit_write(j->audit, &(rag_api__audit_line){.request_id = id, .http_status = 200}, true);
  }
  return NULL;
}

// Every line of every thread once and whole, each thread's in order, over many rotations.
static void test_rotation(void **state) {
  audited *a = *state;
  rag_error err = {0};
  rag_api__audit *audit = NULL;
  char path[320], name[340];
  snprintf(path, sizeof(path), "%s.rotated", a->path);
  rag_audit_options options = {.path = path, .bytes_max = 20000, .files_max = 1000, .queue_bytes_max = 13000};
  assert_int_equal(rag_api__audit_open(&options, &audit, &err), RAG_OK);
  pthread_t threads[THREADS];
  job jobs[THREADS];
  for (unsigned i = 0; i < THREADS; i++) {
    jobs[i] = (job){audit, i};
    assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &jobs[i]), 0);
  }
  for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  rag_api__audit_close(audit);
  unsigned next[THREADS] = {0}, files = 0;
  while (snprintf(name, sizeof(name), "%s.%u", path, files + 1) && rag_os_exists(name)) files++;
  assert_true(files > THREADS * LINES * 70 / 20000);
  for (unsigned i = files + 1; i-- > 0;) { // from the oldest to the one that is written
    if (i) snprintf(name, sizeof(name), "%s.%u", path, i);
    else snprintf(name, sizeof(name), "%s", path);
    char *text = read_all(name);
    assert_true(strlen(text) <= 20000);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
      unsigned thread, number;
      assert_int_equal(sscanf(strchr(line, '<'), "<%u.%u>", &thread, &number), 2);
      assert_int_equal(number, next[thread]);
      next[thread]++;
      assert_string_equal(line + strlen(line) - 1, "}");
    }
    rag_free(text);
  }
  for (unsigned i = 0; i < THREADS; i++) assert_int_equal(next[i], LINES);

  // The oldest go: two are kept beside the one that is written.
  options.files_max = 2;
  assert_int_equal(rag_api__audit_open(&options, &audit, &err), RAG_OK);
  jobs[0] = (job){audit, 0};
  write_lines(&jobs[0]);
  rag_api__audit_close(audit);
  snprintf(name, sizeof(name), "%s.1", path);
  char *text = read_all(name);
  assert_null(strstr(text, "<1."));
  rag_free(text);
}

static void test_recovers(void **state) {
  audited *a = *state;
  rag_error err = {0};
  rag_api__audit *audit = NULL;
  char path[320];
  snprintf(path, sizeof(path), "%s.recovers", a->path);
  rag_api_close(a->s->api); // its store must not meet the limit
  a->s->api = NULL;
  struct rlimit limit, low;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
  low = limit;
  low.rlim_cur = 1000; // in the middle of a line
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
  rag_audit_options options = {.path = path, .bytes_max = 1u << 20, .files_max = 2, .queue_bytes_max = 20000};
  assert_int_equal(rag_api__audit_open(&options, &audit, &err), RAG_OK);
  unsigned made = 0;
  for (bool full = false; !full;) { // until there is no more room, and the writer has found out
    char id[16];
    snprintf(id, sizeof(id), "<%u>", made);
    if (rag_api__audit_reserve(audit)) {
      rag_api__audit_write(audit, &(rag_api__audit_line){.request_id = id, .http_status = 200}, true);
      made++;
    } else {
      full = atomic_load(&rag_api__server.audit_failing) == 1;
      usleep(1000);
    }
  }
  char *text = read_all(path);
  assert_int_equal(strlen(text), 1000);
  rag_free(text);
  unsigned refused = 50; // with less than half of the room left, refusals are counted only
  for (unsigned i = 0; i < refused; i++)
    rag_api__audit_write(audit, &(rag_api__audit_line){.request_id = "refusal"}, false);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0); // the disk has room again
  while (!rag_api__audit_reserve(audit)) usleep(1000);
  rag_api__audit_release(audit);
  line_with(path, "suppressed", "\"refusals\":50", "");
  rag_api__audit_close(audit);
  assert_int_equal(atomic_load(&rag_api__server.audit_failing), 0);
  text = read_all(path);
  unsigned next = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    rag_json value;
    assert_int_equal(rag_json_parse(a->s->parser, rag_slice_str(line), &value, NULL), RAG_OK); // none is torn
    unsigned number;
    if (strstr(line, "suppressed")) continue;
    assert_int_equal(sscanf(strchr(line, '<'), "<%u>", &number), 1);
    assert_int_equal(number, next);
    next++;
  }
  assert_int_equal(next, made); // nothing is lost
  rag_free(text);
}

// Whoever has no key can neither fill the file nor the room of those who have one.
static void test_floods(void **state) {
  audited *a = *state;
  rag_error err = {0};
  rag_api__audit *audit = NULL;
  char path[320];
  snprintf(path, sizeof(path), "%s.flood", a->path);
  rag_audit_options options = {.path = path, .bytes_max = 1u << 20, .files_max = 2, .queue_bytes_max = 1u << 20};
  assert_int_equal(rag_api__audit_open(&options, &audit, &err), RAG_OK);
  uint64_t before_ns = rag_clock_monotonic_ns();
  for (unsigned i = 0; i < 100000; i++) {
    rag_api__audit_write(audit, &(rag_api__audit_line){.request_id = "flood"}, false);
    if (i % 100 != 0) continue;
    assert_true(rag_api__audit_reserve(audit));
    rag_api__audit_release(audit);
  }
  uint64_t seconds = (rag_clock_monotonic_ns() - before_ns) / 1000000000 + 2;
  line_with(path, "suppressed", "", "");
  rag_api__audit_close(audit);
  char *text = read_all(path);
  unsigned long long logged = 0, counted = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    char *number = strstr(line, "\"refusals\":");
    if (number) counted += strtoull(number + 11, NULL, 10);
    else logged++;
  }
  assert_true(logged <= seconds * 100);
  assert_int_equal(logged + counted, 100000); // each is accounted for
  rag_free(text);
}

// ---------------------------------------------------------------------------------------------- slow searches

static void test_slow_searches(void **state) {
  audited *a = *state;
  service *s = a->s;
  char path[320];
  snprintf(path, sizeof(path), "%s.ragd", a->path);
  rag_error err = {0};
  rag_api_options options = rag_api_options_default();
  rag_api_close(s->api);
  options.data_dir = s->dir;
  options.slow_query_ms = 1;
  assert_int_equal(rag_api_open(&options, &s->api, &err), RAG_OK);
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\"}");
  CALL(200, "POST", "/v1/kbs/docs/documents", "{\"documents\":[{\"id\":\"a\",\"text\":\"alpha\"}]}");
  int fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
  rag_log_setup(fd, RAG_LOG_WARN, RAG_LOG_TEXT);
  s->api->slow_query_ns = 1; // every search is slow now
  assert_int_equal(call_as(s, "r77", "POST", "/v1/kbs/docs/search", "{\"query\":\"alpha\",\"mode\":\"vector\"}"), 200);
  CALL(200, "GET", "/v1/kbs/docs", NULL); // no search
  rag_log_setup(2, RAG_LOG_INFO, RAG_LOG_TEXT);
  close(fd);
  char *text = read_all(path);
  char *line = strstr(text, "request_id=r77");
  if (!line) fail_msg("%s", text);
  while (line > text && line[-1] != '\n') line--;
  *strchr(line, '\n') = '\0';
  assert_non_null(strstr(line, "search.slow took_us="));
  assert_non_null(strstr(line, "route=Retrieval/Search kb=docs"));
  assert_non_null(strstr(line, "engine=flat candidates=1 segments="));
  assert_non_null(strstr(line, "selectivity=1.000000"));
  assert_null(strstr(line, "alpha")); // what was searched for is nobody's business
  assert_null(strstr(text, "GetKb"));
  rag_free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_lines, start, stop),
      cmocka_unit_test_setup_teardown(test_full_disk_stops_writes, start, stop),
      cmocka_unit_test_setup_teardown(test_opening, start, stop),
      cmocka_unit_test_setup_teardown(test_rotation, start, stop),
      cmocka_unit_test_setup_teardown(test_recovers, start, stop),
      cmocka_unit_test_setup_teardown(test_floods, start, stop),
      cmocka_unit_test_setup_teardown(test_slow_searches, start, stop),
  };
  return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
