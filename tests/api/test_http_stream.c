// Goal: streams of any length pass with bounded memory, in order, and end on both sides when either leaves.
// Method: a real server over a fake dispatcher (http_testing.h) whose streams check and make a byte pattern; 100 MB each
// way with the process's peak memory read before and after; clients that leave in the middle.
#include "http_testing.h"

#define STREAM_BYTES ((size_t)100 << 20)
// Pipes, buffers of sockets' readers, allocator slack; far below what 100 MB held anywhere would need.
#define STREAM_MEMORY_BYTES ((uint64_t)32 << 20)

static uint64_t peak_bytes(void) {
  char line[256];
  unsigned long long kib = 0;
  FILE *file = fopen("/proc/self/status", "re");
  assert_non_null(file);
  while (fgets(line, sizeof(line), file))
    if (sscanf(line, "VmHWM: %llu", &kib) == 1) break;
  fclose(file);
  return kib * 1024;
}

// The pattern as a body: chunked where length is not told.
static void send_pattern(int fd, size_t size, bool chunked) {
  static char block[60013 + 32];
  for (size_t at = 0; at < size;) {
    size_t n = RAG_MIN((size_t)60013, size - at);
    size_t head = chunked ? (size_t)snprintf(block, 16, "%08zx\r\n", n) : 0;
    for (size_t i = 0; i < n; i++) block[head + i] = (char)fake_byte(at + i);
    if (chunked) memcpy(block + head + n, "\r\n", 2);
    if (!say_bytes(fd, block, head + n + (chunked ? 2 : 0))) return;
    at += n;
  }
  if (chunked) say_bytes(fd, "0\r\n\r\n", 5);
}

static reader *reader_on(const fixture *f, const char *request) {
  reader *r = calloc(1, sizeof(*r));
  r->fd = dial(f);
  say(r->fd, request);
  return r;
}

static void reader_close(reader *r) {
  close(r->fd);
  free(r);
}

static void takes_100_mb(void **state) {
  fixture *f = *state;
  serve(f);
  uint64_t before = peak_bytes();
  for (int chunked = 0; chunked <= 1; chunked++) {
    char head[128];
    reply out = {0};
    if (chunked) snprintf(head, sizeof(head), "POST /in HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    else snprintf(head, sizeof(head), "POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", STREAM_BYTES);
    reader *r = reader_on(f, head);
    send_pattern(r->fd, STREAM_BYTES, chunked);
    assert_true(hear(r, &out, false, true));
    assert_int_equal(out.status, 200);
    assert_int_equal(strtoull(out.body.data, NULL, 10), STREAM_BYTES);
    say(r->fd, GET("/echo")); // and the connection lives on
    assert_true(hear(r, &out, false, true));
    assert_string_equal(out.body.data, "GET /echo ");
    reader_close(r);
    rag_buf_free(&out.body);
  }
  assert_true(peak_bytes() - before < STREAM_MEMORY_BYTES);
}

static void gives_100_mb(void **state) {
  fixture *f = *state;
  serve(f);
  uint64_t before = peak_bytes();
  char head[128];
  reply out = {0};
  snprintf(head, sizeof(head), "GET /out?%zu HTTP/1.1\r\nHost: a\r\n\r\n" GET("/echo"), STREAM_BYTES);
  reader *r = reader_on(f, head);
  assert_true(hear(r, &out, false, false));
  assert_int_equal(out.status, 200);
  assert_string_equal(header_of(&out, "Content-Type"), "application/x-ndjson");
  assert_true(out.whole);
  assert_int_equal(out.counted, STREAM_BYTES);
  assert_false(out.mismatch);
  assert_true(hear(r, &out, false, true)); // the one behind it
  assert_string_equal(out.body.data, "GET /echo ");
  reader_close(r);
  rag_buf_free(&out.body);
  assert_true(peak_bytes() - before < STREAM_MEMORY_BYTES);
}

// A client that sends all before it reads, and a worker that answers as it reads: more lines than the pipe holds must
// wait in the file, and come out in order.
static void holds_answers_back_until_the_upload_is_complete(void **state) {
  fixture *f = *state;
  serve(f);
  const size_t size = (size_t)64 << 20; // at most 70,000 bytes a read: over 900 lines of 1,000 bytes, 3 times the pipe
  reply out = {0};
  reader *r = reader_on(f, "POST /lines HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  send_pattern(r->fd, size, true);
  assert_true(hear(r, &out, false, true));
  assert_true(out.whole);
  assert_true(out.counted > 2 * 256 * 1024);
  size_t last = 0, lines = 0;
  const char *at = out.body.data;
  for (; strlen(at) >= 1000; at += 1000, lines++) {
    size_t total = (size_t)strtoull(at, NULL, 10);
    assert_true(total > last);
    last = total;
  }
  assert_int_equal(last, size);
  assert_int_equal(strtoull(at, NULL, 10), size);
  reader_close(r);
  rag_buf_free(&out.body);
}

static void answers_early_errors(void **state) {
  fixture *f = *state;
  serve(f);
  for (int round = 0; round < 10; round++) {
    reply out = {0};
    reader *r = reader_on(f, "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n");
    send_pattern(r->fd, (size_t)4 << 20, false); // may be cut off: the server has said what it has to say
    assert_true(hear(r, &out, false, true));
    assert_int_equal(out.status, 404);
    assert_non_null(strstr(out.body.data, "no such kb"));
    assert_true(ended(r));
    reader_close(r);
    rag_buf_free(&out.body);
  }
  reply out = ask(f, GET("/early"));
  assert_int_equal(out.status, 404);
  rag_buf_free(&out.body);
}

static void tells_the_worker_when_the_client_leaves(void **state) {
  fixture *f = *state;
  serve(f);
  // In the middle of an upload.
  reader *r = reader_on(f, "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  send_pattern(r->fd, 1000, false);
  gate_until(&gate.running, 1);
  reader_close(r);
  gate_until(&gate.cancelled, 1);
  // In the middle of an answer.
  r = reader_on(f, "GET /out?1000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
  assert_true(next_byte(r) == 'H');
  reader_close(r);
  gate_until(&gate.failed_writes, 1);
}

static void keeps_half_of_the_workers_from_streams(void **state) {
  fixture *f = *state;
  f->options.worker_threads = 4;
  serve(f);
  reader *streams[2];
  for (unsigned i = 0; i < 2; i++) {
    streams[i] = reader_on(f, "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    gate_until(&gate.running, i + 1);
  }
  reply out = ask(f, "POST /in HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
  assert_int_equal(out.status, 503);
  assert_string_equal(header_of(&out, "Retry-After"), "1");
  rag_buf_free(&out.body);
  out = ask(f, GET("/pool"));
  assert_int_equal(out.status, 200);
  rag_buf_free(&out.body);
  for (unsigned i = 0; i < 2; i++) reader_close(streams[i]);
  gate_until(&gate.cancelled, 2);
  while (true) { // their places are free again once the workers have returned
    out = ask(f, GET("/out?1"));
    rag_buf_free(&out.body);
    if (out.status == 200) break;
    usleep(1000);
  }
}

static void stops_with_streams_running(void **state) {
  fixture *f = *state;
  serve(f);
  reader *in = reader_on(f, "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
  gate_until(&gate.running, 1);
  reader *out = reader_on(f, "GET /out?1000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
  gate_until(&gate.running, 2);
  rag_server_stop(f->server, 10);
  f->server = NULL;
  assert_int_equal(gate.cancelled, 1);
  assert_int_equal(gate.failed_writes, 1);
  reply cut = {0};
  if (hear(out, &cut, false, false)) assert_false(cut.whole); // never taken for complete
  assert_true(ended(in));
  rag_buf_free(&cut.body);
  reader_close(in);
  reader_close(out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(takes_100_mb, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(gives_100_mb, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(holds_answers_back_until_the_upload_is_complete, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(answers_early_errors, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(tells_the_worker_when_the_client_leaves, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(keeps_half_of_the_workers_from_streams, fixture_open, fixture_close),
      cmocka_unit_test_setup_teardown(stops_with_streams_running, fixture_open, fixture_close),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
