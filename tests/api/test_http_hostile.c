// Goal: no bytes that a client may send make the server take one request for two, hold a place for long, keep others
// waiting, or fall over; and load that is too much is turned away at once.
// Method: raw sockets against a real server over a fake dispatcher (http_testing.h). Each malformed request is followed by
// a sound one on the same connection, which must not be answered as part of it: that would be smuggling. What existed
// before stands in test_http.c (ambiguous lengths, long heads and bodies) and test_http_limits.c (slow and silent clients,
// crowds, bodies together).
#include "http_testing.h"

#include "api/http_internal.h"

#include <microhttpd.h> // its version

#define TRAILER "GET /echo?smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

// All that the server answers until it closes.
static size_t hear_all(int fd, char *out, size_t size) {
  size_t used = 0;
  for (;;) {
    ssize_t n = recv(fd, out + used, size - 1 - used, 0);
    if (n <= 0) break;
    used += (size_t)n;
    if (used == size - 1) break;
  }
  out[used] = '\0';
  return used;
}

#define BYTES(text)                                                                                                    \
  { text, sizeof(text) - 1 }
static const struct {
  const char *data;
  size_t size;
} malformed[] = {
    // NUL bytes: in the method, the target, a name, a value.
    BYTES("GE\0T /echo HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("GET /ec\0ho HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-\0Length: 3\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    BYTES("GET /echo HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\0b\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\0"
          "00\r\n\r\nabc"),
    // Lengths that are none, or more than one.
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3 3\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\ncontent-length: 30\r\n\r\nabc"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    BYTES(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    // Chunks that are none.
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n"),
    // Request lines that are none.
    BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello \r\n\r\n"),
    BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    BYTES("GET /echo\thttp HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("GET /ec\x01ho HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("GET /ec\xffho HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("GET http://a/echo HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("GET /echo HTTP/9.9\r\nHost: a\r\n\r\n"),
    BYTES("GET /echo\0?q=1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BYTES("GET /echo HTTP/1.1\0\r\nHost: a\r\n\r\n"),
    BYTES("GET /echo HTTP/1.1\r\nHost: a\0\r\n\r\n"),
    BYTES("GET /echo HTTP/1.1\r\nHo\0st: a\r\n\r\n"),
    BYTES("GET /echo HTTP/1.1\r\nHost:\0a\r\n\r\n"),
    // Names and values that proxies read in other ways.
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\nContent-Length: 4\r\n\r\nabcd"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    BYTES("GET /echo HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n"),
    BYTES("GET /echo HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n"),
    BYTES("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\nContent-Length: 3\r\n\r\nabc"),
};

static void takes_nothing_malformed_for_a_request(void **state) {
  fixture *f = *state;
  f->options.body_timeout_s = f->options.header_timeout_s = f->options.idle_timeout_s = 1;
  serve(f);
  static char heard[65536];
  for (size_t i = 0; i < RAG_COUNT_OF(malformed); i++) {
    int fd = dial(f);
    (void)say_bytes(fd, malformed[i].data, malformed[i].size);
    (void)say_bytes(fd, TRAILER, sizeof(TRAILER) - 1); // the server may have closed
    hear_all(fd, heard, sizeof(heard));
    if (strstr(heard, "smuggled")) fail_msg("request %zu: what followed was answered: %s", i, heard);
    if (strstr(heard, "HTTP/1.1 200")) fail_msg("request %zu was taken: %s", i, heard);
    if (heard[0] && strncmp(heard, "HTTP/1.1 4", 10) != 0 && strncmp(heard, "HTTP/1.1 5", 10) != 0)
      fail_msg("request %zu: '%s'", i, heard);
    close(fd);
  }
  assert_int_equal(gate.handled, 0);
  while (atomic_load(&rag_api__server.connections) > 0) usleep(1000); // each let its place go
  reply out = ask(f, GET("/echo"));
  assert_int_equal(out.status, 200);
  rag_buf_free(&out.body);
}

// What is unusual and sound is taken: nothing above may cost an honest client its answer.
static void takes_what_is_sound(void **state) {
  static const char *const sound[] = {
    "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /echo HTTP/1.1\r\nHost:a\r\nAccept:  \t */*\r\nX-Empty:\r\nX-Blank: \r\n\r\n",
    "GET /echo HTTP/1.1\r\nHost: a\r\nX-Trailing: b  \r\nCookie: a=b; c=\"d\"\r\nAccept: a, b;q=0.5\r\n\r\n",
#if MHD_VERSION < 0x01000000 // later ones take no line that ends in LF alone, and no extension of a chunk in pieces
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: r\r\n\r\n",
    "GET /echo HTTP/1.1\nHost: a\nAccept: b\n\n",
#endif
    "GET /echo?a=1&b=%00&c HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /echo? HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /echo HTTP/1.0\r\n\r\n",
    "\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 3\r\n\r\nabc",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: r\r\n\r\n",
  };
  fixture *f = *state;
  serve(f);
  for (size_t i = 0; i < RAG_COUNT_OF(sound); i++)
    for (int split = 0; split <= 1; split++) { // in one piece, and byte by byte over a connection that has been used
      reader *r = calloc(1, sizeof(*r));
      reply out = {0};
      r->fd = dial(f);
      if (split) {
        say(r->fd, GET("/echo"));
        assert_true(hear(r, &out, false, true));
      }
      for (const char *p = sound[i]; *p; p += split ? 1 : strlen(p))
        assert_true(say_bytes(r->fd, p, split ? 1 : strlen(p)));
      assert_true(hear(r, &out, false, true));
      if (out.status != 200) fail_msg("request %zu: %d %s", i, out.status, out.body.data);
      close(r->fd);
      rag_buf_free(&out.body);
      free(r);
    }
  rag_buf head = {0}; // so many headers that libmicrohttpd's block grows while they come
  rag_buf_append_str(&head, "GET /echo HTTP/1.1\r\nHost: a\r\n");
  for (int i = 0; i < 150; i++) rag_buf_printf(&head, "X-Header-%d: %060d\r\n", i, i);
  rag_buf_append_str(&head, "\r\n");
  rag_buf_append_char(&head, '\0');
  reply out = ask(f, head.data);
  assert_int_equal(out.status, 200);
  rag_buf_free(&out.body);
  rag_buf_free(&head);
}

// Many headers, a line that does not end, a chunk's extension that does not: all within the one bound of the head.
static void bounds_what_does_not_end(void **state) {
  fixture *f = *state;
  f->options.header_timeout_s = f->options.body_timeout_s = 5;
  serve(f);
  static char heard[65536];
  const char *starts[] = {"GET /echo HTTP/1.1\r\nHost: a\r\n", "GET /echo HTTP/1.1\r\nHost: a\r\nX: ", "GET /",
                          "POST /pool HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;"};
  const char *more[] = {"A: b\r\n", "vvvvvvvv", "tttttttt", "eeeeeeee"};
  for (size_t i = 0; i < RAG_COUNT_OF(starts); i++) {
    int fd = dial(f);
    bool taken = say_bytes(fd, starts[i], strlen(starts[i]));
    size_t sent = 0;
    while (taken && sent < (8u << 20)) { // the server closes long before
      taken = say_bytes(fd, more[i], strlen(more[i]));
      sent += strlen(more[i]);
    }
    assert_true(sent < (8u << 20));
    hear_all(fd, heard, sizeof(heard));
    assert_null(strstr(heard, "HTTP/1.1 200"));
    close(fd);
  }
  assert_int_equal(gate.handled, 0);
}

static bool gone(int fd) {
  char bytes[4096];
  for (;;) {
    ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n > 0) continue;
    return n == 0 || (errno != EAGAIN && errno != EINTR);
  }
}

// A byte now and then, in a chunked body and in a stream's: it keeps a place no longer than silence would.
static void closes_drips(void **state) {
  fixture *f = *state;
  f->options.header_timeout_s = f->options.body_timeout_s = f->options.idle_timeout_s = 1;
  serve(f);
  int fds[] = {dial(f), dial(f), dial(f)};
  say(fds[0], "POST /pool HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n");
  say(fds[1], "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  say(fds[2], "POST /pool HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  const char *drips[] = {"x", NULL, "1\r\nx\r\n"}; // the second's fake looks at its bytes
  size_t round = 0;
  for (bool all = false; !all; round++) {
    all = true;
    for (size_t i = 0; i < RAG_COUNT_OF(fds); i++) {
      if (gone(fds[i])) continue;
      all = false;
      unsigned char byte = fake_byte(round);
      (void)say_bytes(fds[i], drips[i] ? (const void *)drips[i] : &byte, drips[i] ? strlen(drips[i]) : 1);
    }
    usleep(100000);
  }
  for (size_t i = 0; i < RAG_COUNT_OF(fds); i++) close(fds[i]);
  while (atomic_load(&rag_api__server.connections) > 0) usleep(1000);
}

static int dial_from(const fixture *f, const char *source) {
  const char *port = strrchr(rag_server_url(f->server), ':') + 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))}, from = to;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  from.sin_port = 0;
  assert_int_equal(inet_pton(AF_INET, source, &from.sin_addr), 1);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval patience = {.tv_sec = 60};
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
  return fd;
}

static bool served(int fd) {
  reader *r = calloc(1, sizeof(*r));
  reply out = {0};
  r->fd = fd;
  bool ok = say_bytes(fd, GET("/echo"), strlen(GET("/echo"))) && hear(r, &out, false, true) && out.status == 200;
  rag_buf_free(&out.body);
  free(r);
  return ok;
}

static void shares_connections_by_address(void **state) {
  fixture *f = *state;
  f->options.connections_per_address_max = 20;
  serve(f);
  uint64_t refused_before = atomic_load(&rag_api__server.rejected_peer);
  int flood[200];
  for (size_t i = 0; i < RAG_COUNT_OF(flood); i++) flood[i] = dial_from(f, "127.0.0.9");
  unsigned kept = 0;
  for (size_t i = 0; i < RAG_COUNT_OF(flood); i++) kept += served(flood[i]);
  assert_int_equal(kept, 20);
  assert_int_equal(atomic_load(&rag_api__server.rejected_peer) - refused_before, 180);
  for (unsigned i = 1; i <= 40; i++) { // 40 others, with a connection each, do not notice
    char source[32];
    snprintf(source, sizeof(source), "127.0.1.%u", i);
    int fd = dial_from(f, source);
    assert_true(served(fd));
    close(fd);
  }
  for (size_t i = 0; i < RAG_COUNT_OF(flood); i++) close(flood[i]);
  for (;;) { // and its own share comes back
    int fd = dial_from(f, "127.0.0.9");
    bool ok = served(fd);
    close(fd);
    if (ok) break;
    usleep(1000);
  }
  for (unsigned i = 0; i < HTTP_PEER_CHAINS; i++) { // nothing is kept of who has left
    while (atomic_load(&rag_api__server.connections) > 0) usleep(1000);
    pthread_mutex_lock(&f->server->lock);
    bool empty = f->server->peers.chains[i] == NULL;
    pthread_mutex_unlock(&f->server->lock);
    assert_true(empty);
  }
}

static http_peer *take(http_peers *peers, const char *text, uint32_t most) {
  struct sockaddr_in6 address = {.sin6_family = AF_INET6};
  assert_int_equal(inet_pton(AF_INET6, text, &address.sin6_addr), 1);
  return http_peer_take(peers, (struct sockaddr *)&address, most);
}

static void counts_ipv6_by_its_64(void **state) {
  RAG_UNUSED(state);
  http_peers peers = {0};
  http_peer *a = take(&peers, "2001:db8:0:1::1", 2), *b = take(&peers, "2001:db8:0:1:ffff::2", 2);
  assert_non_null(a);
  assert_ptr_equal(a, b);
  assert_null(take(&peers, "2001:db8:0:1::3", 2));
  http_peer *c = take(&peers, "2001:db8:0:2::1", 2);
  assert_non_null(c);
  http_peer *d = take(&peers, "::ffff:10.0.0.1", 1), *e = take(&peers, "::ffff:10.0.0.2", 1); // these are clients each
  assert_true(d && e && d != e);
  assert_null(take(&peers, "::ffff:10.0.0.1", 1));
  http_peer *all[] = {a, b, c, d, e};
  for (size_t i = 0; i < RAG_COUNT_OF(all); i++) http_peer_drop(&peers, all[i]);
  for (unsigned i = 0; i < HTTP_PEER_CHAINS; i++) assert_null(peers.chains[i]);
}

// ---------------------------------------------------------------------------------------------- overload

static void expect_late(int fd) {
  reader *r = calloc(1, sizeof(*r));
  reply out = {0};
  r->fd = fd;
  assert_true(hear(r, &out, false, true));
  assert_int_equal(out.status, 503);
  assert_string_equal(header_of(&out, "Retry-After"), "1");
  assert_non_null(strstr(out.body.data, "wait over 2000 ms"));
  rag_buf_free(&out.body);
  free(r);
}

static void expect_served(int fd) {
  reader *r = calloc(1, sizeof(*r));
  reply out = {0};
  r->fd = fd;
  assert_true(hear(r, &out, false, true));
  assert_int_equal(out.status, 200);
  rag_buf_free(&out.body);
  free(r);
}

static void bounds_the_wait_for_a_worker(void **state) {
  fixture *f = *state;
  f->options.worker_threads = 2;
  f->options.queue_wait_ms_max = 2000; // far over what a busy machine needs for what must not be late here
  serve(f);
  int fds[5];
  for (unsigned i = 0; i < 5; i++) {
    fds[i] = dial(f);
    say(fds[i], GET("/work"));
    if (i < 2) gate_until(&gate.waiting, i + 1);
  }
  while (atomic_load(&rag_api__server.pool_queued) < 3) usleep(1000);
  usleep(2100000);
  // Others wait, and the last that was taken had waited too long: who comes now is told at once, while all is held.
  atomic_store(&f->server->last_wait_ns, UINT64_C(2100000000));
  int late = dial(f);
  say(late, GET("/work"));
  expect_late(late);
  gate_set(true);
  for (unsigned i = 0; i < 5; i++) {
    if (i < 2) expect_served(fds[i]);
    else expect_late(fds[i]); // not begun: it would answer somebody who has given up
  }
  assert_int_equal(gate.handled, 2);
  // Over as soon as the queue is empty.
  say(late, GET("/work"));
  expect_served(late);
  for (unsigned i = 0; i < 5; i++) close(fds[i]);
  close(late);
}

// The same for what is answered on the network thread: a round of it that takes too long is cut short.
static void bounds_the_wait_for_the_network_thread(void **state) {
  fixture *f = *state;
  f->options.network_threads = 1;
  f->options.queue_wait_ms_max = 2000;
  serve(f);
  int fds[4], health;
  for (unsigned i = 0; i < 4; i++) { // known to the server before they are ready
    fds[i] = dial(f);
    assert_true(served(fds[i]));
  }
  health = dial(f);
  assert_true(served(health));
  int holder = dial(f);
  say(holder, GET("/hold"));
  gate_until(&gate.waiting, 1);
  for (unsigned i = 0; i < 4; i++) say(fds[i], GET("/nap?2200"));
  say(health, GET("/healthz"));
  gate_set(true);
  expect_served(holder);
  unsigned answered = 0;
  for (unsigned i = 0; i < 4; i++) {
    reader *r = calloc(1, sizeof(*r));
    reply out = {0};
    r->fd = fds[i];
    assert_true(hear(r, &out, false, true));
    answered += out.status == 200;
    if (out.status != 200) {
      assert_int_equal(out.status, 503);
      assert_string_equal(header_of(&out, "Retry-After"), "1");
    }
    rag_buf_free(&out.body);
    free(r);
  }
  assert_int_equal(answered, 1); // the first of the round; the others were 2.2 s late
  expect_served(health);         // is never turned away
  assert_true(served(fds[3]));   // the next round is in time
  for (unsigned i = 0; i < 4; i++) close(fds[i]);
  close(health);
  close(holder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(takes_nothing_malformed_for_a_request, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(takes_what_is_sound, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(bounds_what_does_not_end, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(closes_drips, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(shares_connections_by_address, fixture_open, fixture_close),
      cmocka_unit_test(counts_ipv6_by_its_64),
      cmocka_unit_test_setup_teardown(bounds_the_wait_for_a_worker, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(bounds_the_wait_for_the_network_thread, fixture_open, fixture_close),
  };
  return cmocka_run_group_tests_name("http_hostile", tests, NULL, NULL);
}
