// What the tests of the HTTP server share: a fake dispatcher in place of the real one, so that each lane, each error and
// each pause is at the test's command; a server on a free port; a plain blocking client.
//
// The fakes below take the place of the library's own functions of the same names: the linker takes an object out of a
// static library only for a name that is still missing.
//
// Fake routes (method does not matter but for DELETE, which is 405 everywhere):
//   /echo  inline   answers "<method> <target> <body>"     /pool  the same by a worker
//   /hold  inline   waits for the gate                     /work  the same by a worker
//   /nap?N inline   the same after N ms
//   /later inline   asks for a worker, then answers like /pool
//   /big?N          N bytes 'x'                            /denied, /none  refused by admit: 401, 404
//   /in    stream   reads all, answers the byte count      /lines  stream: a line of 1,000 bytes a read, then the count
//   /out?N stream   N bytes, a pattern                     /early  stream: answers 404 without reading
//   /hang  stream   reads until it is told to stop
#ifndef RAGD_HTTP_TESTING_H
#define RAGD_HTTP_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_internal.h"

// ---------------------------------------------------------------------------------------------- the fake dispatcher

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool open;                                  // guarded by: lock
  unsigned waiting, running;                  // guarded by: lock
  unsigned handled, cancelled, failed_writes; // guarded by: lock
  bool keys;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static inline void gate_set(bool open) {
  pthread_mutex_lock(&gate.lock);
  gate.open = open;
  pthread_cond_broadcast(&gate.changed);
  pthread_mutex_unlock(&gate.lock);
}

static inline void gate_wait(void) {
  pthread_mutex_lock(&gate.lock);
  gate.waiting++;
  pthread_cond_broadcast(&gate.changed);
  while (!gate.open) pthread_cond_wait(&gate.changed, &gate.lock);
  gate.waiting--;
  pthread_mutex_unlock(&gate.lock);
}

static inline void gate_until(const unsigned *number, unsigned at_least) {
  pthread_mutex_lock(&gate.lock);
  while (*number < at_least) pthread_cond_wait(&gate.changed, &gate.lock);
  pthread_mutex_unlock(&gate.lock);
}

static inline void gate_count(unsigned *number) {
  pthread_mutex_lock(&gate.lock);
  (*number)++;
  pthread_cond_broadcast(&gate.changed);
  pthread_mutex_unlock(&gate.lock);
}

static inline bool fake_is(const rag_api_request *request, const char *path) {
  size_t size = strlen(path);
  return strncmp(request->target, path, size) == 0 && (request->target[size] == '\0' || request->target[size] == '?');
}

static inline size_t fake_number(const rag_api_request *request) {
  const char *query = strchr(request->target, '?');
  return query ? (size_t)strtoull(query + 1, NULL, 10) : 0;
}

void rag_api__error_answer(const rag_error *err, rag_slice details, bool rpc, rag_arena *arena, rag_api_response *out) {
  static const int statuses[] = {200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401};
  RAG_UNUSED(details);
  *out = (rag_api_response){.http_status = statuses[err->status], .content_type = "application/json"};
  const char *text = rag_arena_printf(arena, "{\"code\":\"%s\",\"message\":\"%s\",\"rpc\":%d}",
                                      rag_status_name(err->status), err->message, rpc);
  out->body = rag_slice_str(text);
  out->status = err->status;
}

static inline rag_status fake_fail(rag_status code, const char *message, rag_arena *arena, rag_api_response *out) {
  rag_error error = {.status = code};
  snprintf(error.message, sizeof(error.message), "%s", message);
  rag_api__error_answer(&error, (rag_slice){0}, false, arena, out);
  out->route = "Fake/Error";
  return code;
}

rag_status rag_api_admit(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_lane *lane,
                         rag_api_response *out) {
  static const char *const pool[] = {"/pool", "/work"};
  static const char *const stream[] = {"/in", "/lines", "/out", "/early", "/hang"};
  RAG_UNUSED(api);
  *lane = RAG_LANE_INLINE;
  for (size_t i = 0; i < RAG_COUNT_OF(pool); i++)
    if (fake_is(request, pool[i])) *lane = RAG_LANE_POOL;
  for (size_t i = 0; i < RAG_COUNT_OF(stream); i++)
    if (fake_is(request, stream[i])) *lane = RAG_LANE_STREAM;
  if (fake_is(request, "/denied")) return fake_fail(RAG_UNAUTHENTICATED, "who are you", arena, out);
  if (fake_is(request, "/none")) return fake_fail(RAG_NOT_FOUND, "nothing here", arena, out);
  if (strcmp(request->method, "DELETE") == 0 || strcmp(request->method, "OPTIONS") == 0) {
    rag_status status = fake_fail(RAG_UNIMPLEMENTED, "not so", arena, out);
    out->http_status = 405;
    out->allow = "GET, POST";
    return status;
  }
  return RAG_OK;
}

void rag_api_handle(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_response *out) {
  RAG_UNUSED(api);
  *out = (rag_api_response){.http_status = 200, .content_type = "text/plain", .route = "Fake/Echo"};
  gate_count(&gate.handled);
  if (fake_is(request, "/later") && request->may_not_wait) {
    out->wants_worker = true;
    return;
  }
  if (fake_is(request, "/hold") || fake_is(request, "/work")) gate_wait();
  if (fake_is(request, "/nap")) usleep((useconds_t)fake_number(request) * 1000);
  if (fake_is(request, "/big")) {
    size_t size = fake_number(request);
    char *body = rag_arena_alloc(arena, size + 1);
    memset(body, 'x', size + 1);
    out->body = rag_slice_of(body, size);
    return;
  }
  size_t size = strlen(request->method) + strlen(request->target) + request->body.size + 2;
  char *body = rag_arena_alloc(arena, size + 1);
  snprintf(body, size + 1, "%s %s ", request->method, request->target);
  if (request->body.size > 0) memcpy(body + size - request->body.size, request->body.data, request->body.size);
  out->body = rag_slice_of(body, size);
}

static inline unsigned char fake_byte(size_t position) {
  return (unsigned char)((position * 2654435761u) >> 13);
}

static inline void fake_out(const rag_api_request *request, rag_write_fn write, void *ctx) {
  char block[10007]; // a prime: blocks and pipes do not line up
  size_t size = fake_number(request);
  for (size_t at = 0; at < size;) {
    size_t n = RAG_MIN(sizeof(block), size - at);
    for (size_t i = 0; i < n; i++) block[i] = (char)fake_byte(at + i);
    if (write(ctx, block, n, NULL) != RAG_OK) {
      gate_count(&gate.failed_writes);
      return;
    }
    at += n;
  }
}

void rag_api_stream(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_read_fn read, void *read_ctx,
                    rag_write_fn write, void *write_ctx, rag_api_response *out) {
  RAG_UNUSED(api);
  char *block = rag_arena_alloc(arena, 70000);
  size_t size = 0, total = 0;
  rag_status status = RAG_OK;
  *out = (rag_api_response){.http_status = 200, .content_type = "application/x-ndjson", .route = "Fake/Stream"};
  gate_count(&gate.running);
  if (fake_is(request, "/early")) {
    fake_fail(RAG_NOT_FOUND, "no such kb", arena, out);
    return;
  }
  if (fake_is(request, "/out")) {
    fake_out(request, write, write_ctx);
    return;
  }
  for (;;) {
    status = read(read_ctx, block, 70000, &size, NULL);
    if (status != RAG_OK || size == 0) break;
    for (size_t i = 0; i < size; i++) assert_int_equal((unsigned char)block[i], fake_byte(total + i));
    total += size;
    if (!fake_is(request, "/lines")) continue;
    char line[1001];
    snprintf(line, sizeof(line), "%0999zu\n", total);
    if (write(write_ctx, line, 1000, NULL) != RAG_OK) break;
  }
  if (status == RAG_CANCELLED) gate_count(&gate.cancelled);
  char *count = rag_arena_printf(arena, "%zu\n", total);
  if (fake_is(request, "/lines")) status = write(write_ctx, count, strlen(count), NULL);
  else out->body = rag_slice_str(count);
}

bool rag_api_has_keys(rag_api *api) {
  RAG_UNUSED(api);
  return gate.keys;
}

// metrics.c's sources.
void rag_store_stats_get(rag_store *store, rag_store_stats *out) {
  RAG_UNUSED(store);
  *out = (rag_store_stats){.commits = 7};
}
rag_status rag_store_writable(rag_store *store, rag_error *err) {
  RAG_UNUSED(store);
  RAG_UNUSED(err);
  return RAG_OK;
}
const char *rag_cf_name(rag_cf cf) {
  static const char *const names[] = {"meta",   "document", "revision", "content", "chunk",
                                      "vector", "commit",   "bitmap",   "cache",   "job"};
  return names[cf];
}
void rag_kbs_stats_get(rag_kbs *kbs, rag_kbs_stats *out) {
  RAG_UNUSED(kbs);
  *out = (rag_kbs_stats){.kbs = 3};
}

// ---------------------------------------------------------------------------------------------- the server

typedef struct fixture {
  rag_api api;
  rag_server_options options;
  rag_server *server;
  char dir[64];
} fixture;

static inline int fixture_open(void **state) {
  fixture *f = calloc(1, sizeof(*f));
  snprintf(f->dir, sizeof(f->dir), "/tmp/ragd-http-XXXXXX");
  assert_non_null(mkdtemp(f->dir));
  f->api.data_dir = f->dir;
  f->api.started_ns = rag_clock_monotonic_ns();
  f->options = rag_server_options_default();
  f->options.listen = "127.0.0.1:0";
  f->options.network_threads = 2;
  f->options.worker_threads = 4;
  f->options.access_log = false;
  gate.open = gate.keys = false;
  gate.waiting = gate.running = gate.handled = gate.cancelled = gate.failed_writes = 0;
  *state = f;
  return 0;
}

static inline void serve(fixture *f) {
  rag_error err = {0};
  if (rag_server_start(&f->api, &f->options, &f->server, &err) != RAG_OK) fail_msg("%s", err.message);
}

static inline int fixture_close(void **state) {
  fixture *f = *state;
  gate_set(true);
  rag_server_stop(f->server, 5000);
  assert_int_equal(rag_os_remove_tree(f->dir, NULL), RAG_OK);
  free(f);
  return 0;
}

// ---------------------------------------------------------------------------------------------- the client

static inline int dial(const fixture *f) {
  const char *port = strrchr(rag_server_url(f->server), ':') + 1;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval patience = {.tv_sec = 60}; // a hang becomes a failure
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
  assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
  return fd;
}

static inline bool say_bytes(int fd, const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
    if (n <= 0) return false;
    at += n;
    size -= (size_t)n;
  }
  return true;
}

static inline void say(int fd, const char *text) {
  assert_true(say_bytes(fd, text, strlen(text)));
}

typedef struct reply {
  int status;
  char head[8192];
  rag_buf body;
  bool whole;     // the answer ended as its header said
  size_t counted; // body bytes when they are not kept
  bool mismatch;  // of the pattern, when they are not kept
} reply;

typedef struct reader {
  int fd;
  size_t start, end;
  char data[65536];
} reader;

static inline int next_byte(reader *r) {
  if (r->start == r->end) {
    ssize_t n = recv(r->fd, r->data, sizeof(r->data), 0);
    if (n <= 0) return -1;
    r->start = 0;
    r->end = (size_t)n;
  }
  return (unsigned char)r->data[r->start++];
}

static inline bool read_line(reader *r, char *line, size_t size) {
  size_t n = 0;
  for (;;) {
    int c = next_byte(r);
    if (c < 0) return false;
    if (c == '\n') break;
    if (c != '\r' && n + 1 < size) line[n++] = (char)c;
  }
  line[n] = '\0';
  return true;
}

static inline bool read_body(reader *r, reply *out, size_t size, bool keep) {
  while (size > 0) {
    if (r->start == r->end) {
      int c = next_byte(r);
      if (c < 0) return false;
      r->start--;
    }
    size_t n = RAG_MIN(size, r->end - r->start);
    if (keep) rag_buf_append(&out->body, r->data + r->start, n);
    else
      for (size_t i = 0; i < n; i++)
        if ((unsigned char)r->data[r->start + i] != fake_byte(out->counted + i)) out->mismatch = true;
    out->counted += n;
    r->start += n;
    size -= n;
  }
  return true;
}

static inline bool read_chunks(reader *r, reply *out, bool keep) {
  char line[128];
  for (;;) {
    if (!read_line(r, line, sizeof(line))) return false;
    size_t size = (size_t)strtoull(line, NULL, 16);
    if (size == 0) return read_line(r, line, sizeof(line));
    if (!read_body(r, out, size, keep) || !read_line(r, line, sizeof(line))) return false;
  }
}

// The value of a header, or NULL; valid until the thread's next call.
static inline const char *header_of(const reply *r, const char *name) {
  static _Thread_local char value[512];
  char key[80];
  snprintf(key, sizeof(key), "\n%s: ", name);
  const char *at = strcasestr(r->head, key);
  if (!at) return NULL;
  at += strlen(key);
  snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\n"), at);
  return value;
}

// One answer. False: the connection ended before one began. Interim answers (100) are skipped.
static inline bool hear(reader *r, reply *out, bool head_only, bool keep) {
  char line[2048];
  rag_buf_free(&out->body);
  do {
    *out = (reply){0};
    if (!read_line(r, line, sizeof(line)) || sscanf(line, "HTTP/1.1 %d", &out->status) != 1) return false;
    size_t size = 0;
    while (read_line(r, line, sizeof(line)) && line[0])
      size += (size_t)snprintf(out->head + size, sizeof(out->head) - size, "\n%s", line);
  } while (out->status == 100);
  const char *length = header_of(out, "Content-Length");
  if (head_only || out->status == 204) out->whole = true;
  else if (length) out->whole = read_body(r, out, (size_t)strtoull(length, NULL, 10), keep);
  else if (header_of(out, "Transfer-Encoding")) out->whole = read_chunks(r, out, keep);
  rag_buf_append_char(&out->body, '\0');
  return true;
}

static inline bool ended(reader *r) {
  return next_byte(r) < 0;
}

// One request on a connection of its own.
static inline reply ask(const fixture *f, const char *request) {
  reader *r = calloc(1, sizeof(*r));
  reply out = {0};
  r->fd = dial(f);
  say(r->fd, request);
  assert_true(hear(r, &out, strncmp(request, "HEAD", 4) == 0, true));
  close(r->fd);
  free(r);
  return out;
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"

#endif
