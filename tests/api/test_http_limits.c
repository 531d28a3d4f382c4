// Goal: no client can hold, starve or confuse the server: slow ones are closed, crowds are served, leavers are forgotten,
// the server drains, and it never shares an address.
// Method: a real server over a fake dispatcher (http_testing.h) with limits of one second; the tests wait for what must
// happen and never assert how fast.
#include "http_testing.h"

#define CROWD 200

static bool closed_by_server(int fd) {
  char byte;
  for (;;) {
    ssize_t n = recv(fd, &byte, 1, 0);
    if (n == 1) continue;
    return n == 0 || errno == ECONNRESET; // a time-out of the socket (60 s) is neither
  }
}

static void closes_slow_clients(void **state) {
  fixture *f = *state;
  f->options.header_timeout_s = f->options.body_timeout_s = f->options.idle_timeout_s = 1;
  serve(f);
  int silent = dial(f);
  int loris = dial(f); // a byte at a time keeps nothing
  int body = dial(f);
  int upload = dial(f);
  int idle = dial(f);
  int late_loris = dial(f); // slow with its second request
  say(body, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
  say(upload, "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  reply out = {0};
  reader *r = calloc(1, sizeof(*r));
  r->fd = idle;
  say(idle, GET("/echo"));
  assert_true(hear(r, &out, false, true));
  *r = (reader){.fd = late_loris};
  say(late_loris, GET("/echo"));
  assert_true(hear(r, &out, false, true));
  bool alive = true;
  while (alive) { // until none of the drips is taken any more
    alive = say_bytes(loris, "G", 1);
    alive = say_bytes(body, "b", 1) || alive;
    alive = say_bytes(late_loris, "G", 1) || alive;
    usleep(100000);
    char byte;
    bool gone = recv(loris, &byte, 1, MSG_DONTWAIT) == 0 && recv(body, &byte, 1, MSG_DONTWAIT) == 0 &&
                recv(late_loris, &byte, 1, MSG_DONTWAIT) == 0;
    if (gone) break;
  }
  int all[] = {silent, loris, body, upload, idle, late_loris};
  for (size_t i = 0; i < RAG_COUNT_OF(all); i++) {
    assert_true(closed_by_server(all[i]));
    close(all[i]);
  }
  gate_until(&gate.cancelled, 1); // the stream's worker knows
  free(r);
  rag_buf_free(&out.body);
}

static void closes_who_does_not_read(void **state) {
  fixture *f = *state;
  f->options.body_timeout_s = f->options.idle_timeout_s = 1;
  serve(f);
  int fd = dial(f);
  say(fd, "GET /out?1000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
  gate_until(&gate.failed_writes, 1); // only the sweep can end this: nobody reads and nobody leaves
  close(fd);
}

static void waits_for_slow_workers(void **state) {
  fixture *f = *state;
  f->options.header_timeout_s = f->options.body_timeout_s = f->options.idle_timeout_s = 1;
  serve(f);
  reader *r = calloc(1, sizeof(*r));
  reply out = {0};
  r->fd = dial(f);
  say(r->fd, GET("/work"));
  gate_until(&gate.waiting, 1);
  usleep(2500000); // past every limit for clients; this one has done nothing wrong
  gate_set(true);
  assert_true(hear(r, &out, false, true));
  assert_int_equal(out.status, 200);
  close(r->fd);
  free(r);
  rag_buf_free(&out.body);
}

static void forgets_clients_that_leave(void **state) {
  fixture *f = *state;
  // No time-out may be what ends this.
  f->options.header_timeout_s = f->options.body_timeout_s = f->options.idle_timeout_s = 3600;
  serve(f);
  int ends[50];
  for (int i = 0; i < 50; i++) { // in a header, in a body, while a worker has it, in a stream, after half a close
    int fd = dial(f);
    say(fd, "POST /ec");
    close(fd);
    fd = dial(f);
    say(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc");
    close(fd);
    fd = dial(f);
    say(fd, "POST /pool HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    close(fd);
    fd = dial(f);
    say(fd, "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n");
    close(fd);
    fd = dial(f);
    say(fd, GET("/echo"));
    shutdown(fd, SHUT_WR); // the end comes with the request; the answer still goes out
    reader *r = calloc(1, sizeof(*r));
    reply half = {0};
    r->fd = fd;
    assert_true(hear(r, &half, false, true));
    assert_int_equal(half.status, 200);
    rag_buf_free(&half.body);
    free(r);
    shutdown(fd, SHUT_RD);
    ends[i] = fd; // not closed: the server must end it
  }
  int fds[3];
  for (unsigned i = 0; i < 3; i++) {
    fds[i] = dial(f);
    say(fds[i], GET("/work"));
  }
  gate_until(&gate.waiting, 3);
  for (unsigned i = 0; i < 3; i++) {
    struct linger reset = {.l_onoff = 1};
    if (i == 0) setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fds[i]);
  }
  gate_set(true);
  while (atomic_load(&rag_api__server.connections) > 0) usleep(1000);
  assert_int_equal(atomic_load(&rag_api__server.requests_in_flight), 0);
  for (int i = 0; i < 50; i++) close(ends[i]);
  reply out = ask(f, GET("/work"));
  assert_int_equal(out.status, 200);
  rag_buf_free(&out.body);
}

typedef struct member {
  pthread_t thread;
  const fixture *fixture;
  unsigned index;
  unsigned wrong;
} member;

static void *crowd_member(void *arg) {
  member *m = arg;
  reader *r = calloc(1, sizeof(*r));
  reply out = {0};
  r->fd = dial(m->fixture);
  for (unsigned i = 0; i < 20; i++) {
    char request[160], want[160];
    const char *path = (m->index + i) % 3 == 0 ? "/pool" : "/echo";
    snprintf(request, sizeof(request), "POST %s?%u.%u HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", path,
             m->index, i);
    snprintf(want, sizeof(want), "POST %s?%u.%u body", path, m->index, i);
    if (!say_bytes(r->fd, request, strlen(request)) || !hear(r, &out, false, true) || out.status != 200 ||
        strcmp(out.body.data, want) != 0)
      m->wrong++;
  }
  close(r->fd);
  free(r);
  rag_buf_free(&out.body);
  return NULL;
}

static void serves_a_crowd(void **state) {
  fixture *f = *state;
  serve(f);
  member *members = calloc(CROWD, sizeof(*members));
  for (unsigned i = 0; i < CROWD; i++) {
    members[i] = (member){.fixture = f, .index = i};
    assert_int_equal(pthread_create(&members[i].thread, NULL, crowd_member, &members[i]), 0);
  }
  for (unsigned i = 0; i < CROWD; i++) {
    pthread_join(members[i].thread, NULL);
    assert_int_equal(members[i].wrong, 0);
  }
  free(members);
}

// libmicrohttpd's own loop goes back to sleep when exactly 128 n events were ready at once. One network thread is held
// in a handler while so many others become ready.
static void serves_exactly_128_ready_connections(void **state) {
  fixture *f = *state;
  f->options.network_threads = 1;
  f->options.idle_timeout_s = f->options.header_timeout_s = 3600;
  serve(f);
  reply out = {0};
  for (unsigned count = 127; count <= 257; count += count == 129 ? 126 : 1) { // 127, 128, 129, 255, 256, 257
    gate_set(false);
    int *fds = calloc(count, sizeof(*fds));
    reader *r = calloc(1, sizeof(*r));
    for (unsigned i = 0; i < count; i++) { // known to the server before they are ready
      *r = (reader){.fd = fds[i] = dial(f)};
      say(fds[i], GET("/echo"));
      assert_true(hear(r, &out, false, true));
    }
    int holder = dial(f);
    say(holder, GET("/hold"));
    gate_until(&gate.waiting, 1);
    for (unsigned i = 0; i < count; i++) say(fds[i], GET("/echo"));
    gate_set(true);
    for (unsigned i = 0; i < count; i++) {
      *r = (reader){.fd = fds[i]};
      assert_true(hear(r, &out, false, true));
      assert_int_equal(out.status, 200);
      close(fds[i]);
    }
    *r = (reader){.fd = holder};
    assert_true(hear(r, &out, false, true));
    close(holder);
    while (atomic_load(&rag_api__server.connections) > 0) usleep(1000);
    free(r);
    free(fds);
  }
  rag_buf_free(&out.body);
}

static void turns_away_connections_over_the_limit(void **state) {
  fixture *f = *state;
  f->options.connections_max = 3;
  serve(f);
  int fds[4];
  reply out = {0};
  for (unsigned i = 0; i < 4; i++) {
    reader r = {.fd = fds[i] = dial(f)};
    say_bytes(fds[i], GET("/echo"), strlen(GET("/echo")));
    assert_int_equal(hear(&r, &out, false, true), i < 3);
  }
  close(fds[0]);
  close(fds[3]);
  for (;;) { // its place is free again
    reader r = {.fd = fds[0] = dial(f)};
    say_bytes(fds[0], GET("/echo"), strlen(GET("/echo")));
    bool served = hear(&r, &out, false, true);
    close(fds[0]);
    if (served) break;
    usleep(1000);
  }
  close(fds[1]);
  close(fds[2]);
  rag_buf_free(&out.body);
}

static void bounds_large_bodies_together(void **state) {
  fixture *f = *state;
  f->options.body_bytes_max = 100000; // 32 of them: 3.2 MB; each counts from 64 KiB on: 34,464 bytes of it
  serve(f);
  int fds[93];
  char *body = calloc(1, 100000);
  for (unsigned i = 0; i < RAG_COUNT_OF(fds); i++) {
    fds[i] = dial(f);
    say(fds[i], "POST /pool HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    say_bytes(fds[i], body, 99999);
  }
  unsigned refused = 0;
  while (refused == 0) {
    for (unsigned i = 0; i < RAG_COUNT_OF(fds); i++) {
      char byte;
      if (recv(fds[i], &byte, 1, MSG_DONTWAIT | MSG_PEEK) != 1) continue;
      reader *r = calloc(1, sizeof(*r));
      reply out = {0};
      r->fd = fds[i];
      assert_true(hear(r, &out, false, true));
      assert_int_equal(out.status, 503);
      refused++;
      rag_buf_free(&out.body);
      free(r);
      break;
    }
    usleep(1000);
  }
  for (unsigned i = 0; i < RAG_COUNT_OF(fds); i++) close(fds[i]);
  free(body);
}

// ---------------------------------------------------------------------------------------------- start and stop

static void *stop_server(void *arg) {
  fixture *f = arg;
  rag_server_stop(f->server, 20000);
  return NULL;
}

static void drains_under_load(void **state) {
  fixture *f = *state;
  serve(f);
  char url[96], path[96];
  snprintf(url, sizeof(url), "%s", rag_server_url(f->server));
  snprintf(path, sizeof(path), "%s/ENDPOINT", f->dir);
  int busy[4], idle = dial(f);
  reply out = {0};
  for (unsigned i = 0; i < 4; i++) {
    busy[i] = dial(f);
    say(busy[i], GET("/work"));
  }
  gate_until(&gate.waiting, 4);
  char *text = NULL;
  size_t size = 0;
  assert_int_equal(rag_os_read_file(path, 100, &text, &size, NULL), RAG_OK);
  assert_int_equal(size, strlen(url) + 1);
  assert_memory_equal(text, url, strlen(url));
  rag_free(text);
  pthread_t stopper;
  assert_int_equal(pthread_create(&stopper, NULL, stop_server, f), 0);
  assert_true(closed_by_server(idle));
  assert_true(atomic_load(&f->api.draining)); // what /readyz looks at
  while (rag_os_exists(path)) usleep(1000);
  gate_set(true);
  for (unsigned i = 0; i < 4; i++) { // none is lost, and each is told to go
    reader r = {.fd = busy[i]};
    assert_true(hear(&r, &out, false, true));
    assert_int_equal(out.status, 200);
    assert_string_equal(header_of(&out, "Connection"), "close");
    assert_true(ended(&r));
    close(busy[i]);
  }
  pthread_join(stopper, NULL);
  f->server = NULL;
  close(idle);
  rag_buf_free(&out.body);
}

static void *open_gate_later(void *arg) {
  RAG_UNUSED(arg);
  usleep(300000);
  gate_set(true);
  return NULL;
}

static void stops_by_force(void **state) {
  fixture *f = *state;
  f->options.worker_threads = 2;
  serve(f);
  int fds[6];
  for (unsigned i = 0; i < 6; i++) { // two run, four wait
    fds[i] = dial(f);
    say(fds[i], GET("/work"));
  }
  gate_until(&gate.waiting, 2);
  while (atomic_load(&rag_api__server.pool_queued) < 4) usleep(1000);
  pthread_t opener;
  assert_int_equal(pthread_create(&opener, NULL, open_gate_later, NULL), 0);
  rag_server_stop(f->server, 20); // returns only when the two that run have ended
  f->server = NULL;
  assert_int_equal(gate.waiting, 0);
  assert_int_equal(gate.handled, 2); // those in the queue were not begun
  pthread_join(opener, NULL);
  for (unsigned i = 0; i < 6; i++) {
    assert_true(closed_by_server(fds[i]));
    close(fds[i]);
  }
}

static void refuses_an_address_that_is_taken(void **state) {
  fixture *f = *state;
  serve(f);
  rag_server_options options = f->options;
  rag_server *second = NULL;
  rag_error err = {0};
  options.listen = strstr(rag_server_url(f->server), "127");
  for (unsigned threads = 1; threads <= 2; threads++) { // sharing a port among threads must not share it with others
    options.network_threads = threads;
    assert_int_equal(rag_server_start(&f->api, &options, &second, &err), RAG_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "is taken"));
    assert_string_equal(err.field, "listen");
    assert_null(second);
  }
  char path[96];
  snprintf(path, sizeof(path), "%s/ENDPOINT", f->dir);
  assert_true(rag_os_exists(path)); // still the first one's
}

static void refuses_public_addresses_without_a_key(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  const char *public[] = {"0.0.0.0:0",       "[::]:0",      "192.0.2.1:0",
                          "[2001:db8::1]:0", "128.0.0.1:0", "[::ffff:10.0.0.1]:0"};
  for (size_t i = 0; i < RAG_COUNT_OF(public); i++) {
    f->options.listen = public[i];
    assert_int_equal(rag_server_start(&f->api, &f->options, &f->server, &err), RAG_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "API key"));
  }
  gate.keys = true;
  f->options.listen = "0.0.0.0:0";
  serve(f);
  assert_memory_equal(rag_server_url(f->server), "http://127.0.0.1:", 17);
  rag_server_stop(f->server, 0);
  f->server = NULL;
  gate.keys = false;
  const char *loopback[] = {"127.0.0.1:0", "127.8.9.1:0", "localhost:0"};
  for (size_t i = 0; i < RAG_COUNT_OF(loopback); i++) {
    f->options.listen = loopback[i];
    serve(f);
    rag_server_stop(f->server, 0);
    f->server = NULL;
  }
}

static void refuses_bad_options(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  const char *bad[] = {"",          "7700",     "127.0.0.1",   "127.0.0.1:",      "127.0.0.1:65536", "127.0.0.1:-1",
                       "host:7700", "::1:7700", "[::1]7700",   "[127.0.0.1]:700", "127.1:700",       "[::1%lo]:700",
                       ":7700",     "*:7700",   "127.0.0.1: 1"};
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    f->options.listen = bad[i];
    assert_int_equal(rag_server_start(&f->api, &f->options, &f->server, &err), RAG_INVALID_ARGUMENT);
    assert_string_equal(err.field, "listen");
  }
  f->options = rag_server_options_default();
  f->options.listen = "127.0.0.1:0";
  f->options.worker_threads = 1;
  assert_int_equal(rag_server_start(&f->api, &f->options, &f->server, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "worker_threads");
  f->options.worker_threads = 2;
  f->options.header_bytes_max = 0;
  assert_int_equal(rag_server_start(&f->api, &f->options, &f->server, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "header_bytes_max");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(closes_slow_clients, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(closes_who_does_not_read, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(waits_for_slow_workers, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(forgets_clients_that_leave, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(serves_a_crowd, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(serves_exactly_128_ready_connections, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(turns_away_connections_over_the_limit, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(bounds_large_bodies_together, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(drains_under_load, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(stops_by_force, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(refuses_an_address_that_is_taken, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(refuses_public_addresses_without_a_key, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(refuses_bad_options, fixture_open, fixture_close),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
