// Goal: every request gets the answer that the dispatcher gave, or the right refusal, however its bytes arrive.
// Method: a real server on a free port, in process, over a fake dispatcher (http_testing.h); a blocking client that
// writes raw requests.
#include "http_testing.h"

static void answers_by_each_lane(void **state) {
  fixture *f = *state;
  serve(f);
  reply r = ask(f, GET("/echo/../a%2Fb%00c?q=%41"));
  assert_int_equal(r.status, 200);
  assert_string_equal(r.body.data, "GET /echo/../a%2Fb%00c?q=%41 "); // raw, as it was sent
  assert_string_equal(header_of(&r, "Content-Type"), "text/plain");
  assert_string_equal(header_of(&r, "Server"), "ragd");
  assert_int_equal(strlen(header_of(&r, "X-Request-Id")), 16);
  rag_buf_free(&r.body);
  r = ask(f, "POST /pool HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
  assert_string_equal(r.body.data, "POST /pool hello");
  rag_buf_free(&r.body);
  r = ask(f, "POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"); // begun inline, done by a worker
  assert_string_equal(r.body.data, "POST /later hello");
  rag_buf_free(&r.body);
  r = ask(f, "POST /pool HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
             "3\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n");
  assert_string_equal(r.body.data, "POST /pool hello");
  rag_buf_free(&r.body);
}

static void keeps_alive_and_pipelines(void **state) {
  fixture *f = *state;
  serve(f);
  reader *r = calloc(1, sizeof(*r));
  reply out = {0};
  r->fd = dial(f);
  for (int i = 0; i < 3; i++) { // one after the other
    say(r->fd, GET("/echo"));
    assert_true(hear(r, &out, false, true));
    assert_string_equal(out.body.data, "GET /echo ");
  }
  // Twelve at once, through both lanes and with bodies: answered in order.
  for (int i = 0; i < 4; i++)
    say(r->fd, GET("/echo?1") "POST /pool HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" GET("/none"));
  for (int i = 0; i < 12; i++) {
    assert_true(hear(r, &out, false, true));
    assert_int_equal(out.status, i % 3 == 2 ? 404 : 200);
    if (i % 3 == 0) assert_string_equal(out.body.data, "GET /echo?1 ");
    if (i % 3 == 1) assert_string_equal(out.body.data, "POST /pool abc");
  }
  // A request that comes byte by byte.
  const char *slow = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok";
  for (const char *p = slow; *p; p++) assert_true(say_bytes(r->fd, p, 1));
  assert_true(hear(r, &out, false, true));
  assert_string_equal(out.body.data, "POST /echo ok");
  close(r->fd);
  free(r);
  rag_buf_free(&out.body);
}

static void answers_head_options_and_wrong_methods(void **state) {
  fixture *f = *state;
  serve(f);
  reply r = ask(f, "HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_int_equal(r.status, 200);
  assert_string_equal(header_of(&r, "Content-Length"), "10"); // of "GET /echo "
  assert_int_equal(r.counted, 0);
  rag_buf_free(&r.body);
  r = ask(f, "HEAD /out?9 HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_int_equal(r.status, 405);
  rag_buf_free(&r.body);
  r = ask(f, "OPTIONS /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_int_equal(r.status, 204);
  assert_string_equal(header_of(&r, "Allow"), "GET, POST, OPTIONS");
  rag_buf_free(&r.body);
  r = ask(f, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_int_equal(r.status, 204);
  rag_buf_free(&r.body);
  r = ask(f, "DELETE /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_int_equal(r.status, 405);
  assert_string_equal(header_of(&r, "Allow"), "GET, POST");
  rag_buf_free(&r.body);
}

static void passes_request_ids_that_are_sane(void **state) {
  fixture *f = *state;
  serve(f);
  char request[512], id[160];
  for (size_t size = 128; size <= 129; size++) {
    memset(id, 'i', size);
    id[size] = '\0';
    snprintf(request, sizeof(request), "GET /echo HTTP/1.1\r\nHost: a\r\nX-Request-Id: %s\r\n\r\n", id);
    reply r = ask(f, request);
    assert_int_equal(strcmp(header_of(&r, "X-Request-Id"), id) == 0, size == 128);
    rag_buf_free(&r.body);
  }
  reply r = ask(f, "GET /none HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n");
  assert_int_equal(strlen(header_of(&r, "X-Request-Id")), 16);
  rag_buf_free(&r.body);
}

// Requests that are no HTTP may be refused by libmicrohttpd before we see them (1.0 is stricter than 0.9.75): in its own
// words, without our id.
static void refuse_case(const fixture *f, const char *request, int status, const char *says) {
  reply r = ask(f, request);
  assert_int_equal(r.status, status);
  assert_true(r.whole);
  if (header_of(&r, "X-Request-Id") == NULL && strncmp(r.body.data, "<html>", 6) == 0) {
    rag_buf_free(&r.body);
    return;
  }
  if (!strstr(r.body.data, says)) fail_msg("'%s' does not say '%s'", r.body.data, says);
  assert_non_null(header_of(&r, "X-Request-Id"));
  rag_buf_free(&r.body);
}

static void refuses_ambiguous_requests(void **state) {
  fixture *f = *state;
  serve(f);
  refuse_case(f, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400,
              "one Content");
  refuse_case(f, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400,
              "one Content");
  refuse_case(f, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
              400, "one Content");
  refuse_case(f, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400,
              "not supported");
  refuse_case(f, "GET /echo HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", 400, "authorization");
  refuse_case(f, "GET echo HTTP/1.1\r\nHost: a\r\n\r\n", 400, "begin with /");
  refuse_case(f, "GET /ec ho HTTP/1.1\r\nHost: a\r\n\r\n", 400, "begin with /");
  refuse_case(f, "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "begin with /");
  refuse_case(f, "POST /denied HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 401,
              "who are you"); // body never sent
  assert_int_equal(gate.handled, 0);
}

static void limits_the_header(void **state) {
  fixture *f = *state;
  f->options.header_bytes_max = 20000;
  serve(f);
  rag_buf b = {0};
  for (int over = 0; over <= 1; over++) { // the target: at the limit, one past it
    rag_buf_clear(&b);
    rag_buf_append_str(&b, "GET /echo?");
    for (size_t i = 0; i < RAG_API_TARGET_BYTES_MAX - 6 + (size_t)over; i++) rag_buf_append_char(&b, 'q');
    rag_buf_append_str(&b, " HTTP/1.1\r\nHost: a\r\n\r\n");
    rag_buf_append_char(&b, '\0');
    reply r = ask(f, b.data);
    assert_int_equal(r.status, over ? 414 : 200);
    if (over) assert_non_null(strstr(r.body.data, "8192"));
    rag_buf_free(&r.body);
  }
  for (int over = 0; over <= 1; over++) { // the whole header likewise
    const char *line = "GET /echo HTTP/1.1\r\nHost: a\r\nX-Fill: ";
    rag_buf_clear(&b);
    rag_buf_append_str(&b, line);
    for (size_t i = 0; i < 20000 - strlen(line) - 4 + (size_t)over; i++) rag_buf_append_char(&b, 'f');
    rag_buf_append_str(&b, "\r\n\r\n");
    rag_buf_append_char(&b, '\0');
    reply r = ask(f, b.data);
    assert_int_equal(r.status, over ? 431 : 200);
    rag_buf_free(&r.body);
  }
  // Far past it: libmicrohttpd's own refusal, and the connection closes.
  reader *rd = calloc(1, sizeof(*rd));
  reply r = {0};
  rd->fd = dial(f);
  rag_buf_clear(&b);
  rag_buf_append_str(&b, "GET /");
  for (size_t i = 0; i < 200000; i++) rag_buf_append_char(&b, 'q');
  say_bytes(rd->fd, b.data, b.size);
  if (hear(rd, &r, false, true)) assert_int_equal(r.status, 414);
  assert_true(ended(rd));
  close(rd->fd);
  free(rd);
  rag_buf_free(&r.body);
  rag_buf_free(&b);
}

static void limits_the_body(void **state) {
  fixture *f = *state;
  f->options.body_bytes_max = 100000;
  serve(f);
  char *body = calloc(1, 200000);
  memset(body, 'b', 199999);
  for (int chunked = 0; chunked <= 1; chunked++)
    for (int over = 0; over <= 1; over++) {
      size_t size = 100000 + (size_t)over;
      char head[128];
      reader *rd = calloc(1, sizeof(*rd));
      reply r = {0};
      rd->fd = dial(f);
      if (chunked)
        snprintf(head, sizeof(head), "POST /pool HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
                 size);
      else snprintf(head, sizeof(head), "POST /pool HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", size);
      say(rd->fd, head);
      say_bytes(rd->fd, body, size);
      if (chunked) say_bytes(rd->fd, "\r\n0\r\n\r\n", 7);
      assert_true(hear(rd, &r, false, true));
      assert_int_equal(r.status, over ? 413 : 200);
      if (over) assert_non_null(strstr(r.body.data, "limit of 100000"));
      else assert_int_equal(r.counted, size + strlen("POST /pool "));
      if (over) assert_true(ended(rd));
      close(rd->fd);
      free(rd);
      rag_buf_free(&r.body);
    }
  // Known from the header: answered before a byte of the body is sent; the client gets the answer, not a reset, though it
  // sends on for a while.
  for (int round = 0; round < 20; round++) {
    reader *rd = calloc(1, sizeof(*rd));
    reply r = {0};
    rd->fd = dial(f);
    say(rd->fd, "POST /ragd.v1.X/Y HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n");
    for (int i = 0; i < 10; i++) say_bytes(rd->fd, body, 200000);
    assert_true(hear(rd, &r, false, true));
    assert_int_equal(r.status, 413);
    assert_non_null(strstr(r.body.data, "\"rpc\":1")); // the shape that the caller's protocol wants
    assert_true(ended(rd));
    close(rd->fd);
    free(rd);
    rag_buf_free(&r.body);
  }
  free(body);
}

static void expects_continue(void **state) {
  fixture *f = *state;
  serve(f);
  reader *rd = calloc(1, sizeof(*rd));
  reply r = {0};
  char line[128];
  rd->fd = dial(f);
  say(rd->fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  assert_true(read_line(rd, line, sizeof(line)));
  assert_non_null(strstr(line, " 100 "));
  say(rd->fd, "ok");
  assert_true(read_line(rd, line, sizeof(line))); // the interim answer's empty line
  assert_true(hear(rd, &r, false, true));
  assert_string_equal(r.body.data, "POST /echo ok");
  say(rd->fd, "POST /denied HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  assert_true(read_line(rd, line, sizeof(line)));
  assert_non_null(strstr(line, " 401 "));
  close(rd->fd);
  free(rd);
  rag_buf_free(&r.body);
}

static void sends_large_answers(void **state) {
  fixture *f = *state;
  serve(f);
  reply r = ask(f, GET("/big?20000000"));
  assert_true(r.whole);
  assert_int_equal(r.counted, 20000000);
  rag_buf_free(&r.body);
}

static void sheds_load_when_the_queue_is_full(void **state) {
  fixture *f = *state;
  f->options.worker_threads = 2;
  f->options.worker_queue_max = 1;
  serve(f);
  int fds[3];
  for (unsigned i = 0; i < 2; i++) { // both workers
    fds[i] = dial(f);
    say(fds[i], GET("/work"));
    gate_until(&gate.waiting, i + 1);
  }
  // One waits in the queue; of it and the next one, one is turned away.
  fds[2] = dial(f);
  say(fds[2], GET("/work"));
  reply r = {0};
  while (atomic_load(&rag_api__server.pool_queued) < 1) usleep(1000);
  r = ask(f, GET("/work"));
  assert_int_equal(r.status, 503);
  assert_string_equal(header_of(&r, "Retry-After"), "1");
  assert_non_null(strstr(r.body.data, "unavailable"));
  rag_buf_free(&r.body);
  r = ask(f, GET("/echo")); // what is cheap is still answered
  assert_int_equal(r.status, 200);
  rag_buf_free(&r.body);
  gate_set(true);
  for (unsigned i = 0; i < 3; i++) {
    reader rd = {.fd = fds[i]};
    assert_true(hear(&rd, &r, false, true));
    assert_int_equal(r.status, 200);
    rag_buf_free(&r.body);
    close(fds[i]);
  }
}

static void answers_504_when_the_queue_was_slower_than_the_deadline(void **state) {
  fixture *f = *state;
  f->options.worker_threads = 2;
  serve(f);
  int fds[3];
  for (unsigned i = 0; i < 2; i++) {
    fds[i] = dial(f);
    say(fds[i], GET("/work"));
  }
  gate_until(&gate.waiting, 2);
  fds[2] = dial(f);
  say(fds[2], "GET /pool HTTP/1.1\r\nHost: a\r\nConnect-Timeout-Ms: 1\r\n\r\n");
  while (atomic_load(&rag_api__server.pool_queued) < 1) usleep(1000);
  usleep(5000); // past its deadline
  gate_set(true);
  for (unsigned i = 0; i < 3; i++) {
    reader rd = {.fd = fds[i]};
    reply r = {0};
    assert_true(hear(&rd, &r, false, true));
    assert_int_equal(r.status, i < 2 ? 200 : 504);
    rag_buf_free(&r.body);
    close(fds[i]);
  }
  assert_int_equal(gate.handled, 2); // the third never ran
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(answers_by_each_lane, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(keeps_alive_and_pipelines, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(answers_head_options_and_wrong_methods, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(passes_request_ids_that_are_sane, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(refuses_ambiguous_requests, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(limits_the_header, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(limits_the_body, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(expects_continue, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(sends_large_answers, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(sheds_load_when_the_queue_is_full, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(answers_504_when_the_queue_was_slower_than_the_deadline, fixture_open,
                                      fixture_close),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
