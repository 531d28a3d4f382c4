// The adapter of libmicrohttpd: network threads, and a request's way from the request line to the last byte.
//
// Why it looks as it does (measured or read in libmicrohttpd 0.9.75, and valid for 1.0):
//  1. One external-epoll daemon a thread and our own loop. Its own epoll loop goes back to waiting after exactly 128 n
//     events without having handled them; MHD_run asks with timeout 0, so nothing can be left lying.
//  2. The loop polls the daemon's epoll descriptor instead of calling epoll_wait on it: connections are registered
//     edge-triggered, and whoever fetches an event has consumed it.
//  3. Routes see the target as it was sent: libmicrohttpd decodes %2F and cuts at %00 before it hands over a path.
//  4. An answer queued before the request is complete always closes the connection, so refusals of requests without a
//     body wait for the last call; and an answer cannot be queued between two parts of a body, so there it is written to
//     the socket here (refuse_midway).
//  5. It closes with unread bytes in the socket, which makes the kernel send a reset that can overtake the answer. So a
//     connection that was answered early lives on as a duplicate descriptor that is read and thrown away (linger).
//  6. While a request is with a worker its connection is suspended; libmicrohttpd never looks at it then, nor frees it.
//     So the worker may use the connection's memory, and MHD_resume_connection is the last thing it does with it.
//  7. A response of the first callback, with nothing suspended and nothing queued, is called again at once, for ever:
//     every path of on_request queues, suspends, takes bytes, or closes.
//
// Threads: everything here runs on the connection's network thread, but pool_task, http_suspend's counterpart http_resume,
// and start/abandon.
//
// Left to others: streams' pipes (http_stream.c), limits on slow clients (http_server.c), what a request means
// (the dispatcher).
#include "api/http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

// Beyond the header: libmicrohttpd keeps parsed headers, the answer's header and chunks in the same block. Small, as it
// clears the block after every request: with 64 KiB in all that was 4 % of a search.
#define MHD_POOL_EXTRA (16u << 10)
#define RAW_HEAD_MAX 1024u
#define WAIT_FORESIGHT 4u
#define LINGER_READ_BYTES 16384u

static http_connection *connection_of(struct MHD_Connection *mhd) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  return info ? info->socket_context : NULL;
}

void http_suspend(http_connection *connection) {
  atomic_fetch_add_explicit(&connection->thread->suspended, 1, memory_order_relaxed);
  MHD_suspend_connection(connection->mhd);
}

void http_resume(http_connection *connection) {
  http_thread *thread = connection->thread; // the connection may be gone once it is resumed
  MHD_resume_connection(connection->mhd);
  http_wake(thread); // with external polling libmicrohttpd has no descriptor of its own to tell the loop by
  atomic_fetch_sub_explicit(&thread->suspended, 1, memory_order_release);
}

// ---------------------------------------------------------------------------------------------- connections

static void linger_begin(http_connection *connection) {
  http_thread *thread = connection->thread;
  if (thread->linger_count == HTTP_LINGER_MAX) return;
  int fd = fcntl(connection->fd, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return;
  thread->linger_fds[thread->linger_count] = fd;
  thread->linger_until_ns[thread->linger_count] = rag_clock_monotonic_ns() + HTTP_LINGER_NS;
  thread->linger_count++;
}

static bool linger_over(int fd) {
  char scratch[LINGER_READ_BYTES];
  for (;;) {
    ssize_t n = recv(fd, scratch, sizeof(scratch), MSG_DONTWAIT);
    if (n > 0) continue;
    return n == 0 || (errno != EAGAIN && errno != EINTR);
  }
}

static void linger_run(http_thread *thread, uint64_t now_ns) {
  unsigned kept = 0;
  for (unsigned i = 0; i < thread->linger_count; i++) {
    int fd = thread->linger_fds[i];
    if (now_ns > thread->linger_until_ns[i] || linger_over(fd)) {
      close(fd);
      continue;
    }
    thread->linger_fds[kept] = fd;
    thread->linger_until_ns[kept] = thread->linger_until_ns[i];
    kept++;
  }
  thread->linger_count = kept;
}

static http_connection *connection_create(http_thread *thread, struct MHD_Connection *mhd) {
  http_connection *c = rag_calloc(1, sizeof(*c));
  if (!c) return NULL;
  c->arena = rag_arena_create(HTTP_ARENA_BYTES_MAX);
  if (!c->arena) {
    rag_free(c);
    return NULL;
  }
  c->thread = thread;
  c->mhd = mhd;
  c->next = thread->connections;
  if (c->next) c->next->previous = c;
  thread->connections = c;
  http_enter(c, HTTP_HEADERS, rag_clock_monotonic_ns());
  return c;
}

static void connection_destroy(http_connection *c) {
  if (c->previous) c->previous->next = c->next;
  else c->thread->connections = c->next;
  if (c->next) c->next->previous = c->previous;
  rag_buf_free(&c->body);
  rag_arena_destroy(c->arena);
  rag_free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code) {
  http_thread *thread = cls;
  if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
    http_connection *c = *context;
    if (!c) return;
    http_peer *peer = c->peer;
    if (c->linger) linger_begin(c);
    connection_destroy(c);
    http_connection_closed(thread->server, peer);
    return;
  }
  *context = NULL;
  int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
  const struct sockaddr *address = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr;
  http_peer *peer = NULL;
  bool admitted = http_connection_admitted(thread->server, address, &peer);
  http_connection *c = admitted ? connection_create(thread, mhd) : NULL;
  if (c) {
    c->fd = fd;
    c->peer = peer;
    http_peer_text(address, c->peer_text);
    *context = c;
    return;
  }
  if (admitted) http_connection_closed(thread->server, peer);
  shutdown(fd, SHUT_RDWR); // there is no refusing here; it is seen as closed at once
}

// ---------------------------------------------------------------------------------------------- answers

// Static strings or the connection's; libmicrohttpd copies.
static bool add_header(struct MHD_Response *answer, const char *name, const char *value) {
  return MHD_add_response_header(answer, name, value) == MHD_YES;
}

static bool add_headers(http_connection *c, struct MHD_Response *answer) {
  const rag_api_response *response = &c->response;
  bool ok = add_header(answer, "Server", "ragd") && add_header(answer, "X-Request-Id", c->request_id);
  if (response->content_type && response->http_status != MHD_HTTP_NO_CONTENT)
    ok = ok && add_header(answer, "Content-Type", response->content_type);
  if (response->allow) ok = ok && add_header(answer, "Allow", response->allow);
  if (response->http_status == MHD_HTTP_UNAUTHORIZED) ok = ok && add_header(answer, "WWW-Authenticate", "Bearer");
  if (response->retry_after_s != 0) {
    char seconds[16];
    snprintf(seconds, sizeof(seconds), "%u", response->retry_after_s);
    ok = ok && add_header(answer, "Retry-After", seconds);
  }
  bool draining = atomic_load_explicit(&c->thread->server->draining, memory_order_relaxed);
  if (draining || c->close_after) ok = ok && add_header(answer, "Connection", "close");
  return ok;
}

// OPTIONS is answered from what the dispatcher says of a method that no route has: 405 with those that there are.
static void finish_options(http_connection *c) {
  if (!c->options || c->response.http_status != MHD_HTTP_METHOD_NOT_ALLOWED) return;
  const char *allow = c->response.allow ? c->response.allow : "";
  const char *route = c->response.route;
  c->response = (rag_api_response){.http_status = MHD_HTTP_NO_CONTENT, .route = route};
  c->response.allow = rag_arena_printf(c->arena, "%s%sOPTIONS", allow, *allow ? ", " : "");
}

static enum MHD_Result queue(http_connection *c, struct MHD_Response *answer) {
  if (!answer) return MHD_NO;
  c->stage = HTTP_STAGE_ANSWERED;
  http_enter(c, HTTP_SENDING, rag_clock_monotonic_ns());
  enum MHD_Result result = MHD_NO;
  if (add_headers(c, answer)) result = MHD_queue_response(c->mhd, (unsigned)c->response.http_status, answer);
  MHD_destroy_response(answer);
  return result;
}

static enum MHD_Result queue_body(http_connection *c) {
  finish_options(c);
  rag_slice body = c->response.body;
  if (!c->head) c->bytes_out = body.size;
  // The bytes live in the connection's arena (or the stream's, or are static) until on_completed.
  return queue(c, MHD_create_response_from_buffer(body.size, (void *)(uintptr_t)body.data, MHD_RESPMEM_PERSISTENT));
}

static ssize_t pull(void *cls, uint64_t position, char *out, size_t size) {
  RAG_UNUSED(position);
  http_connection *c = cls;
  ssize_t n = http_stream_pull(c->stream, out, size);
  if (n == HTTP_STREAM_END) return MHD_CONTENT_READER_END_OF_STREAM;
  if (n == HTTP_STREAM_BROKEN) return MHD_CONTENT_READER_END_WITH_ERROR;
  c->bytes_out += (uint64_t)n;
  return n;
}

static enum MHD_Result queue_flow(http_connection *c) {
  return queue(c, MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_PIPE_BYTES, pull, c, NULL));
}

static const char *reason(int http_status) {
  switch (http_status) {
  case MHD_HTTP_BAD_REQUEST:
    return "Bad Request";
  case MHD_HTTP_NOT_FOUND:
    return "Not Found";
  case MHD_HTTP_CONFLICT:
    return "Conflict";
  case 413:
    return "Content Too Large";
  case MHD_HTTP_SERVICE_UNAVAILABLE:
    return "Service Unavailable";
  default:
    return "Error";
  }
}

static ssize_t send_raw(http_connection *c, rag_slice head, rag_slice body) {
  if (c->thread->server->tls) {
    void *session = MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    ssize_t sent = http_tls_send(session, head.data, head.size);
    if (sent != (ssize_t)head.size) return sent;
    ssize_t more = http_tls_send(session, body.data, body.size);
    return sent + RAG_MAX(more, 0);
  }
  struct iovec parts[2] = {{(void *)(uintptr_t)head.data, head.size}, {(void *)(uintptr_t)body.data, body.size}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  return sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// c->response, between two parts of a body: libmicrohttpd takes no answer now. It has nothing of its own to send, so the
// socket is ours; a small answer fits its empty send buffer whole. The connection closes and lingers.
static enum MHD_Result refuse_midway(http_connection *c) {
  const rag_api_response *r = &c->response;
  char head[RAW_HEAD_MAX];
  char retry[40] = "";
  if (r->retry_after_s != 0) snprintf(retry, sizeof(retry), "Retry-After: %u\r\n", r->retry_after_s);
  int size = snprintf(head, sizeof(head),
                      "HTTP/1.1 %d %s\r\nConnection: close\r\nServer: ragd\r\nX-Request-Id: %s\r\n%s"
                      "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n",
                      r->http_status, reason(r->http_status), c->request_id, retry,
                      r->content_type ? r->content_type : "application/octet-stream", r->body.size);
  ssize_t sent = send_raw(c, rag_slice_of(head, (size_t)size), r->body);
  c->linger = sent > 0;
  if (sent > size) c->bytes_out = (uint64_t)(sent - size);
  c->stage = HTTP_STAGE_ANSWERED;
  return MHD_NO; // closes
}

// ---------------------------------------------------------------------------------------------- the request's head

static void refuse(http_connection *c) {
  c->stage = HTTP_STAGE_REFUSED;
}

#define REFUSE(c, code, http_status, ...)                                                                              \
  do {                                                                                                                 \
    http_error(c, code, http_status, __VA_ARGS__);                                                                     \
    refuse(c);                                                                                                         \
  } while (0)

// The method and the headers are not known yet; a request that goes wrong after this has a connection to be logged with.
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd) {
  RAG_UNUSED(cls);
  http_connection *c = connection_of(mhd);
  if (!c) return NULL;
  size_t size = uri ? strlen(uri) : 0;
  c->active = true;
  c->stage = HTTP_STAGE_HEADERS;
  c->started_ns = rag_clock_monotonic_ns();
  if (c->phase != HTTP_HEADERS) http_enter(c, HTTP_HEADERS, c->started_ns);
  c->raw_target = uri;
  c->raw_target_size = size;
  c->target_too_long = size > RAG_API_TARGET_BYTES_MAX;
  if (uri) c->request.target = rag_arena_strndup(c->arena, uri, RAG_MIN(size, (size_t)RAG_API_TARGET_BYTES_MAX));
  http_request_id(c->thread, c->request_id);
  atomic_fetch_add_explicit(&rag_api__server.requests_in_flight, 1, memory_order_relaxed);
  return c;
}

typedef enum header_name {
  HEADER_CONTENT_TYPE,
  HEADER_ACCEPT,
  HEADER_AUTHORIZATION,
  HEADER_IDEMPOTENCY_KEY,
  HEADER_TIMEOUT,
  HEADER_REQUEST_ID,
  HEADER_CONTENT_LENGTH,
  HEADER_TRANSFER_ENCODING,
  HEADER_COUNT,
} header_name;

static const struct {
  const char *name;
  size_t size;
} header_names[HEADER_COUNT] = {
    [HEADER_CONTENT_TYPE] = {"content-type", 12},     [HEADER_ACCEPT] = {"accept", 6},
    [HEADER_AUTHORIZATION] = {"authorization", 13},   [HEADER_IDEMPOTENCY_KEY] = {"idempotency-key", 15},
    [HEADER_TIMEOUT] = {"connect-timeout-ms", 18},    [HEADER_REQUEST_ID] = {"x-request-id", 12},
    [HEADER_CONTENT_LENGTH] = {"content-length", 14}, [HEADER_TRANSFER_ENCODING] = {"transfer-encoding", 17},
};

typedef struct headers {
  const char *value[HEADER_COUNT];
  unsigned count[HEADER_COUNT];
  http_walk walk; // over the bytes as they came
} headers;

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *key, size_t key_size,
                                 const char *value, size_t value_size) {
  RAG_UNUSED(kind);
  RAG_UNUSED(value_size);
  headers *found = cls;
  http_walk_header(&found->walk, key, key_size, value);
  for (unsigned i = 0; i < HEADER_COUNT; i++) {
    if (header_names[i].size != key_size || strcasecmp(header_names[i].name, key) != 0) continue;
    if (found->count[i]++ == 0) found->value[i] = value;
    break;
  }
  return MHD_YES;
}

// 0: none, or not a number (the dispatcher says so).
static uint64_t timeout_ms_of(const char *text) {
  size_t size = text ? strlen(text) : 0;
  if (size == 0 || size > 10 || strspn(text, "0123456789") != size) return 0;
  return strtoull(text, NULL, 10);
}

static uint64_t deadline_of(const http_connection *c) {
  uint64_t timeout_ms = timeout_ms_of(c->request.timeout_ms);
  // A stream may last; it has a deadline only where its client wants one.
  if (c->lane != RAG_LANE_STREAM) {
    uint64_t most_ms = c->thread->server->options.request_timeout_s * UINT64_C(1000);
    timeout_ms = timeout_ms == 0 ? most_ms : RAG_MIN(timeout_ms, most_ms);
  }
  return timeout_ms == 0 ? 0 : c->started_ns + timeout_ms * UINT64_C(1000000);
}

// How long the body is must be said once and in one way, or a proxy before us could see other requests than we do.
static bool framing(http_connection *c, const headers *found) {
  const char *length = found->value[HEADER_CONTENT_LENGTH];
  const char *encoding = found->value[HEADER_TRANSFER_ENCODING];
  if (encoding) c->content_length = UINT64_MAX;
  else if (length) c->content_length = strtoull(length, NULL, 10); // libmicrohttpd has refused what is no number
  unsigned said = found->count[HEADER_CONTENT_LENGTH] + found->count[HEADER_TRANSFER_ENCODING];
  c->has_body = c->content_length != 0 || said > 1; // where it was said twice, something may follow whatever we believe
  if (said > 1) {
    REFUSE(c, RAG_INVALID_ARGUMENT, 0, "give one Content-Length, or Transfer-Encoding: chunked, not both");
    return false;
  }
  if (encoding && strcasecmp(encoding, "chunked") != 0) {
    REFUSE(c, RAG_INVALID_ARGUMENT, 0, "Transfer-Encoding '%.32s' is not supported; use chunked", encoding);
    return false;
  }
  return true;
}

static bool check_head(http_connection *c, const headers *found, size_t header_size) {
  static const header_name single[] = {HEADER_CONTENT_TYPE, HEADER_AUTHORIZATION, HEADER_IDEMPOTENCY_KEY,
                                       HEADER_TIMEOUT};
  const rag_server_options *options = &c->thread->server->options;
  if (found->walk.hidden) {
    c->has_body = true; // nobody knows where the request ends
    REFUSE(
        c, RAG_INVALID_ARGUMENT, 0,
        "the request's head holds a NUL, a folded line, or a blank before a colon; others read such a head as another "
        "request");
    return false;
  }
  if (!framing(c, found)) return false;
  if (c->target_too_long) {
    REFUSE(c, RAG_INVALID_ARGUMENT, 414, "the request target is over the limit of %u bytes", RAG_API_TARGET_BYTES_MAX);
    return false;
  }
  if (header_size > options->header_bytes_max) {
    REFUSE(c, RAG_INVALID_ARGUMENT, 431, "the request's header is %zu bytes, over the limit of %u", header_size,
           options->header_bytes_max);
    return false;
  }
  if (!c->request.target || !http_target_sane(c->request.target, c->options)) {
    REFUSE(c, RAG_INVALID_ARGUMENT, 0,
           "the request target must begin with / and hold neither spaces, control characters "
           "nor bytes over 0x7e; percent-encode them");
    return false;
  }
  for (size_t i = 0; i < RAG_COUNT_OF(single); i++) {
    if (found->count[single[i]] <= 1) continue;
    REFUSE(c, RAG_INVALID_ARGUMENT, 0, "the header %s must come once", header_names[single[i]].name);
    return false;
  }
  return true;
}

static void admit(http_connection *c) {
  rag_server *server = c->thread->server;
  if (strcmp(c->request.target, "*") == 0) { // the server as a whole; check_head lets it pass for OPTIONS alone
    c->response =
        (rag_api_response){.http_status = MHD_HTTP_NO_CONTENT, .allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"};
    refuse(c);
    return;
  }
  if (rag_api_admit(server->api, &c->request, c->arena, &c->lane, &c->response) != RAG_OK) {
    refuse(c);
    return;
  }
  if (c->lane == RAG_LANE_STREAM && c->head) {
    REFUSE(c, RAG_UNIMPLEMENTED, MHD_HTTP_METHOD_NOT_ALLOWED, "HEAD is not answered where GET is a stream");
    c->response.allow = "GET";
    return;
  }
  uint64_t limit = server->options.body_bytes_max;
  if (c->lane != RAG_LANE_STREAM && c->has_body && c->content_length != UINT64_MAX && c->content_length > limit)
    REFUSE(c, RAG_OUT_OF_RANGE, 413, "the body is %llu bytes, over the limit of %llu; send it in parts",
           (unsigned long long)c->content_length, (unsigned long long)limit);
}

static void begin_stream(http_connection *c) {
  rag_error error = {0};
  c->stage = HTTP_STAGE_STREAM;
  http_enter(c, HTTP_UPLOAD, c->started_ns);
  if (http_stream_start(c, &error) == RAG_OK) return;
  atomic_fetch_add_explicit(&rag_api__server.rejected_overload, 1, memory_order_relaxed);
  REFUSE(c, error.status, 0, "%s", error.message);
}

static enum MHD_Result on_headers(http_connection *c, const char *method, const char *version) {
  headers found = {0};
  size_t header_size = MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
#if MHD_VERSION < 0x01000000
  http_walk_begin(&found.walk, method, c->raw_target, c->raw_target_size, version);
#else
  RAG_UNUSED(version);
#endif
  MHD_get_connection_values_n(c->mhd, MHD_HEADER_KIND, on_header, &found);
  http_walk_end(&found.walk, method + header_size);
  c->head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
  c->options = strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0;
  // Values stay where libmicrohttpd has them until the request ends, suspended or not.
  c->request.method = c->head ? MHD_HTTP_METHOD_GET : method;
  c->request.content_type = found.value[HEADER_CONTENT_TYPE];
  c->request.accept = found.value[HEADER_ACCEPT];
  c->request.authorization = found.value[HEADER_AUTHORIZATION];
  c->request.idempotency_key = found.value[HEADER_IDEMPOTENCY_KEY];
  c->request.timeout_ms = found.value[HEADER_TIMEOUT];
  c->request.request_id = c->request_id;
  c->request.peer = c->peer_text;
  c->rpc = c->request.target && strncmp(c->request.target, "/ragd.", 6) == 0;
  const char *id = found.value[HEADER_REQUEST_ID];
  if (found.count[HEADER_REQUEST_ID] == 1 && http_request_id_sane(id)) memcpy(c->request_id, id, strlen(id) + 1);
  c->stage = HTTP_STAGE_READ;
  if (check_head(c, &found, header_size)) admit(c);
  else c->close_after = true; // who sends such a head may mean something else by what follows
  c->request.deadline_ns = deadline_of(c);
  if (c->stage == HTTP_STAGE_READ && c->lane == RAG_LANE_STREAM) begin_stream(c);
  else http_enter(c, HTTP_BODY, c->started_ns);
  if (c->stage != HTTP_STAGE_REFUSED || !c->has_body) return MHD_YES;
  c->linger = true;
  return queue_body(c); // now: nobody wants the body
}

// ---------------------------------------------------------------------------------------------- the body

static enum MHD_Result keep_body(http_connection *c, const char *data, size_t size) {
  uint64_t limit = c->thread->server->options.body_bytes_max;
  uint64_t total = c->body.size + size;
  if (total > limit) {
    http_error(c, RAG_OUT_OF_RANGE, 413, "the body is over the limit of %llu bytes; send it in parts",
               (unsigned long long)limit);
    return refuse_midway(c);
  }
  uint64_t charged_from = RAG_MAX((uint64_t)c->body.size, (uint64_t)HTTP_KEPT_BODY_BYTES_MAX);
  if (total > charged_from && !http_body_charge(c, total - charged_from)) {
    atomic_fetch_add_explicit(&rag_api__server.rejected_overload, 1, memory_order_relaxed);
    http_error(c, RAG_UNAVAILABLE, 0, "too many large bodies are being received; try again in a moment");
    return refuse_midway(c);
  }
  // A small body in one piece; a large one grows by what really comes, whatever its header promises.
  if (c->body.size == 0 && c->content_length <= HTTP_KEPT_BODY_BYTES_MAX)
    rag_buf_reserve(&c->body, (size_t)c->content_length);
  rag_buf_append(&c->body, data, size);
  if (c->body.failed) {
    http_error(c, RAG_UNAVAILABLE, 0, "out of memory while receiving the body");
    return refuse_midway(c);
  }
  return MHD_YES;
}

static enum MHD_Result on_body(http_connection *c, const char *data, size_t *size) {
  if (c->stage == HTTP_STAGE_READ) {
    c->bytes_in += *size;
    enum MHD_Result result = keep_body(c, data, *size);
    *size = 0;
    return result;
  }
  if (c->stage != HTTP_STAGE_STREAM) {
    *size = 0;
    return MHD_YES;
  }
  if (http_stream_ended_early(c->stream, &c->response)) return refuse_midway(c);
  size_t taken = http_stream_push(c->stream, data, *size);
  c->bytes_in += taken;
  *size -= taken;
  return MHD_YES;
}

// ---------------------------------------------------------------------------------------------- dispatch

// Load beyond what the server can do is turned away at once, so that what it takes is answered in time. A queue is
// measured by the time that requests wait in it, not by its length alone: a thousand look-ups are nothing, a thousand
// large imports are minutes.
static uint64_t wait_max_ns(const rag_server *server) {
  return server->options.queue_wait_ms_max * UINT64_C(1000000);
}

static void refuse_late(http_connection *c) {
  atomic_fetch_add_explicit(&rag_api__server.rejected_overload, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&rag_api__server.rejected_wait, 1, memory_order_relaxed);
  http_error(c, RAG_UNAVAILABLE, 0,
             "the server has more to do than it can: requests wait over %u ms for their turn; try "
             "again in a moment",
             c->thread->server->options.queue_wait_ms_max);
}

static void pool_task(void *arg) {
  http_connection *c = arg;
  rag_server *server = c->thread->server;
  uint64_t waited_ns = rag_clock_monotonic_ns() - c->queued_ns;
  atomic_fetch_sub_explicit(&rag_api__server.pool_queued, 1, memory_order_relaxed);
  atomic_store_explicit(&server->last_wait_ns, waited_ns, memory_order_relaxed);
  if (atomic_load(&server->stopping)) http_error(c, RAG_UNAVAILABLE, 0, "the server is stopping");
  else if (atomic_load_explicit(&c->gone, memory_order_relaxed))
    http_error(c, RAG_CANCELLED, 499, "the client has left");
  else if (rag_clock_monotonic_ns() > c->request.deadline_ns)
    http_error(c, RAG_DEADLINE_EXCEEDED, 0, "the request waited for a worker past its deadline");
  else if (waited_ns > wait_max_ns(server)) refuse_late(c);
  else rag_api_handle(server->api, &c->request, c->arena, &c->response);
  atomic_store_explicit(&c->worker_done, true, memory_order_release);
  http_resume(c);
}

// Whether this one would wait too long, told from how long the last one had waited that a worker took. That one came so
// long ago; at n times the load that can be done, who comes now will wait n times as long. So at up to WAIT_FORESIGHT
// times the load the door turns away, at once, and hardly anybody waits first and is turned away then: with 1 instead of
// 4, most refusals at twice the load came after the whole wait (benchmarks/overload).
static bool would_wait(const rag_server *server) {
  uint64_t last_ns = atomic_load_explicit(&server->last_wait_ns, memory_order_relaxed);
  return last_ns > wait_max_ns(server) / WAIT_FORESIGHT && rag_pool_queued(server->pool) > 0;
}

static enum MHD_Result to_pool(http_connection *c) {
  c->queued_ns = rag_clock_monotonic_ns();
  if (would_wait(c->thread->server)) {
    refuse_late(c);
    return queue_body(c);
  }
  atomic_store_explicit(&c->worker_done, false, memory_order_relaxed);
  atomic_store_explicit(&c->gone, false, memory_order_relaxed);
  c->stage = HTTP_STAGE_POOL;
  http_enter(c, HTTP_WORKING, c->started_ns);
  http_suspend(c); // before the worker can resume it
  atomic_fetch_add_explicit(&rag_api__server.pool_queued, 1, memory_order_relaxed);
  if (rag_pool_submit(c->thread->server->pool, pool_task, c) == RAG_OK) return MHD_YES;
  atomic_fetch_sub_explicit(&rag_api__server.pool_queued, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&rag_api__server.rejected_overload, 1, memory_order_relaxed);
  REFUSE(c, RAG_UNAVAILABLE, 0, "every worker is busy and the queue is full; try again in a moment");
  http_resume(c);
  return MHD_YES;
}

// Requests that are answered on the network thread wait in their sockets for it. All those of a round were there when it
// began, so each has waited at least since then.
static bool came_too_late(const http_connection *c) {
  if (rag_clock_monotonic_ns() - c->thread->round_ns <= wait_max_ns(c->thread->server)) return false;
  const char *target = c->request.target; // whoever asks how the server is must be told
  return strcmp(target, "/healthz") != 0 && strcmp(target, "/readyz") != 0;
}

static enum MHD_Result dispatch(http_connection *c) {
  c->request.body = rag_buf_slice(&c->body);
  if (came_too_late(c)) {
    refuse_late(c);
    return queue_body(c);
  }
  if (c->lane != RAG_LANE_INLINE || c->body.size > HTTP_INLINE_BODY_BYTES_MAX) return to_pool(c);
  c->request.may_not_wait = true;
  rag_api_handle(c->thread->server->api, &c->request, c->arena, &c->response);
  if (!c->response.wants_worker) return queue_body(c);
  c->request.may_not_wait = false;
  c->response = (rag_api_response){.route = c->response.route};
  return to_pool(c);
}

static enum MHD_Result answer_stream(http_connection *c) {
  http_stream_upload_complete(c->stream);
  switch (http_stream_answer(c->stream, &c->response)) {
  case HTTP_STREAM_WAIT:
    return MHD_YES;
  case HTTP_STREAM_BODY:
    return queue_body(c);
  case HTTP_STREAM_FLOW:
    return queue_flow(c);
  }
  return MHD_NO;
}

// The request is complete (or its connection was resumed).
static enum MHD_Result on_complete(http_connection *c) {
  switch (c->stage) {
  case HTTP_STAGE_REFUSED:
    return queue_body(c);
  case HTTP_STAGE_READ:
    return dispatch(c);
  case HTTP_STAGE_POOL:
    if (!atomic_load_explicit(&c->worker_done, memory_order_acquire)) return MHD_NO;
    return queue_body(c);
  case HTTP_STAGE_STREAM:
    return answer_stream(c);
  case HTTP_STAGE_HEADERS:
  case HTTP_STAGE_ANSWERED:
    break;
  }
  return MHD_NO;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **context) {
  RAG_UNUSED(url);
  RAG_UNUSED(mhd);
  http_thread *thread = cls;
  http_connection *c = *context;
  if (!c || atomic_load(&thread->server->stopping)) return MHD_NO;
  if (c->stage == HTTP_STAGE_HEADERS) return on_headers(c, method, version);
  if (*upload_size > 0) return on_body(c, upload, upload_size);
  return on_complete(c);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode code) {
  RAG_UNUSED(cls);
  RAG_UNUSED(code);
  http_connection *c = *context;
  if (!c || !c->active) return;
  uint64_t now_ns = rag_clock_monotonic_ns();
  if (c->stage != HTTP_STAGE_ANSWERED) {
    // Not our answer: libmicrohttpd's own to a request that is no HTTP, or none.
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_HTTP_STATUS);
    c->response = (rag_api_response){.http_status = info ? (int)info->http_status : 0};
  }
  http_request_ended(c, now_ns);
  http_stream_detach(c->stream);
  http_body_release(c);
  if (c->body.capacity > HTTP_KEPT_BODY_BYTES_MAX) rag_buf_free(&c->body);
  else rag_buf_clear(&c->body);
  rag_arena_reset(c->arena);
  c->stream = NULL;
  c->request = (rag_api_request){0};
  c->response = (rag_api_response){0};
  c->bytes_in = c->bytes_out = c->content_length = 0;
  c->has_body = c->active = c->close_after = false;
  c->lane = RAG_LANE_INLINE;
  c->stage = HTTP_STAGE_HEADERS;
  http_enter(c, HTTP_IDLE, now_ns);
}

// ---------------------------------------------------------------------------------------------- threads

// Decoding is the dispatcher's; libmicrohttpd would do it to a copy that nobody reads.
static size_t no_unescape(void *cls, struct MHD_Connection *mhd, char *s) {
  RAG_UNUSED(cls);
  RAG_UNUSED(mhd);
  return strlen(s);
}

static bool has_certificate_callback(void) {
#if MHD_VERSION >= 0x00097100 // MHD_OPTION_HTTPS_CERT_CALLBACK2
  return MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK2) == MHD_YES;
#else
  return false;
#endif
}

rag_status http_daemon_start(http_thread *thread, rag_error *err) {
  const rag_server_options *options = &thread->server->options;
  size_t memory = (size_t)options->header_bytes_max + MHD_POOL_EXTRA;
  bool tls = thread->server->tls != NULL;
  struct MHD_OptionItem secure[3] = {{MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}, {MHD_OPTION_END, 0, NULL}};
  if (tls) {
    if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES || !has_certificate_callback())
      return rag_fail_field(err, RAG_UNIMPLEMENTED, "tls_certificate_file",
                            "this libmicrohttpd (%s) was built without TLS; install one with GnuTLS, or let a proxy "
                            "speak TLS",
                            MHD_get_version());
    secure[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, http_tls_callback()};
    secure[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)http_tls_priorities()};
  }
  thread->daemon = MHD_start_daemon(
      MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (tls ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, thread,
      MHD_OPTION_LISTEN_SOCKET, thread->listen_fd, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
      // More than are admitted (http_connection_admitted), so that those over the limit are turned away, not left waiting.
      MHD_OPTION_CONNECTION_LIMIT, (unsigned)(options->connections_max + HTTP_LINGER_MAX), MHD_OPTION_NOTIFY_CONNECTION,
      on_connection, thread, MHD_OPTION_NOTIFY_COMPLETED, on_completed, thread, MHD_OPTION_URI_LOG_CALLBACK, on_uri,
      thread, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, thread, MHD_OPTION_ARRAY, secure,
#if MHD_VERSION >= 0x01000000
      MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1, // else spaces in a target are mended by a redirect instead of refused
#endif
      MHD_OPTION_END);
  if (!thread->daemon) {
    thread->listen_fd = -1; // libmicrohttpd has closed it
    return rag_fail(err, RAG_INTERNAL, "libmicrohttpd did not start");
  }
  thread->epoll_fd = MHD_get_daemon_info(thread->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
  return RAG_OK;
}

static void stop_accepting(http_thread *thread) {
  if (thread->draining || !thread->daemon) return;
  thread->draining = true;
  thread->swept_ns = 0;                                   // at once: the sweep closes what is idle
  thread->listen_fd = MHD_quiesce_daemon(thread->daemon); // ours again
  if (thread->listen_fd >= 0) close(thread->listen_fd);
  thread->listen_fd = -1;
}

void http_daemon_abandon(http_thread *thread) {
  if (!thread->daemon) return;
  stop_accepting(thread);
  MHD_stop_daemon(thread->daemon);
  thread->daemon = NULL;
}

static int timeout_ms(http_thread *thread) {
  MHD_UNSIGNED_LONG_LONG ms = 0;
  int most = thread->connections || thread->linger_count > 0 ? (int)(HTTP_SWEEP_NS / 1000000) : -1;
  if (MHD_get_timeout(thread->daemon, &ms) != MHD_YES) return most;
  return most < 0 || ms < (MHD_UNSIGNED_LONG_LONG)most ? (int)RAG_MIN(ms, (MHD_UNSIGNED_LONG_LONG)60000) : most;
}

static void wait_for_events(http_thread *thread, int ms) {
  struct pollfd look[2 + HTTP_LINGER_MAX];
  look[0] = (struct pollfd){.fd = thread->epoll_fd, .events = POLLIN};
  look[1] = (struct pollfd){.fd = thread->wake_fd, .events = POLLIN};
  for (unsigned i = 0; i < thread->linger_count; i++)
    look[2 + i] = (struct pollfd){.fd = thread->linger_fds[i], .events = POLLIN};
  if (poll(look, 2 + thread->linger_count, ms) <= 0) return;
  uint64_t count = 0;
  if (look[1].revents != 0 && read(thread->wake_fd, &count, sizeof(count)) < 0) return; // somebody else was faster
}

static void run_once(http_thread *thread, int ms) {
  if (ms != 0) wait_for_events(thread, ms);
  if (atomic_load_explicit(&thread->server->draining, memory_order_relaxed)) stop_accepting(thread);
  if (atomic_load(&thread->server->stopping) && !thread->stopping) {
    thread->stopping = true;
    thread->swept_ns = 0; // at once: the sweep cancels and closes
  }
  thread->round_ns = rag_clock_monotonic_ns();
  MHD_run(thread->daemon);
  uint64_t now_ns = rag_clock_monotonic_ns();
  if (thread->linger_count > 0) linger_run(thread, now_ns);
  if (now_ns - thread->swept_ns >= HTTP_SWEEP_NS) http_sweep(thread, now_ns);
}

void *http_thread_main(void *arg) {
  http_thread *thread = arg;
  pthread_setname_np(pthread_self(), "ragd-http");
  while (!atomic_load_explicit(&thread->server->exiting, memory_order_acquire)) run_once(thread, timeout_ms(thread));
  stop_accepting(thread);
  // Nothing is suspended any more once `stopping` is set; what is, its worker resumes.
  do {
    http_sweep(thread, rag_clock_monotonic_ns());
    run_once(thread, atomic_load_explicit(&thread->suspended, memory_order_acquire) > 0 ? 10 : 0);
  } while (atomic_load_explicit(&thread->suspended, memory_order_acquire) > 0);
  MHD_run(thread->daemon); // takes note of the last resumes
  MHD_stop_daemon(thread->daemon);
  thread->daemon = NULL;
  for (unsigned i = 0; i < thread->linger_count; i++) close(thread->linger_fds[i]);
  return NULL;
}
