// The HTTP server's life and its protection: options, start and stop, budgets, slow clients, request ids, the log line.
//
// Invariants
//  1. Start either serves or leaves nothing behind: no socket, thread or endpoint file.
//  2. After stop no thread of the server is left and no task of it runs. Order: say 503 on /readyz, stop accepting, let
//     requests end, then cancel what is left, wait for the workers, stop the network threads, free.
//  3. No client holds a connection for ever: every phase of a connection (http_internal.h) has a limit.
//
// Threads: one pool of workers, N network threads (http.c), and the caller of start and stop. A connection's fields
// belong to its network thread; the sweep runs there.
//
// Left to others: libmicrohttpd (http.c), streams (http_stream.c), addresses (listen.c).
#include "api/http_internal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> // tcp_info with tcpi_bytes_acked; the C library's <netinet/tcp.h> has an older one
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

rag_server_options rag_server_options_default(void) {
  unsigned cpus = rag_os_cpu_count();
  return (rag_server_options){
      .listen = "127.0.0.1:7700",
      .network_threads = RAG_MIN(RAG_MAX(cpus / 2, 1u), 8u),
      .worker_threads = RAG_MIN(RAG_MAX(cpus * 4, 16u), 64u), // they mostly wait for the disk, together in one group
      .worker_queue_max = 1024,
      .body_bytes_max = RAG_API_BODY_BYTES_MAX_DEFAULT,
      .header_bytes_max = 16u << 10,
      .connections_max = 4096,
      .connections_per_address_max = 1024, // a proxy has many clients behind one address
      .queue_wait_ms_max = 500,
      .header_timeout_s = 10,
      .body_timeout_s = 60,
      .idle_timeout_s = 75,
      .request_timeout_s = 60,
      .access_log = true,
  };
}

static rag_status check_range(const char *field, uint64_t value, uint64_t low, uint64_t high, rag_error *err) {
  if (value >= low && value <= high) return RAG_OK;
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s is %llu; it must be from %llu to %llu", field,
                        (unsigned long long)value, (unsigned long long)low, (unsigned long long)high);
}

static rag_status check_options(const rag_server_options *o, rag_error *err) {
  RAG_TRY(check_range("network_threads", o->network_threads, 1, HTTP_NETWORK_THREADS_MAX, err));
  // Two, as half of them may stream.
  RAG_TRY(check_range("worker_threads", o->worker_threads, 2, HTTP_WORKER_THREADS_MAX, err));
  RAG_TRY(check_range("worker_queue_max", o->worker_queue_max, 1, UINT32_MAX, err));
  RAG_TRY(check_range("body_bytes_max", o->body_bytes_max, 1, UINT64_C(1) << 40, err));
  RAG_TRY(check_range("header_bytes_max", o->header_bytes_max, HTTP_HEADER_BYTES_MIN, HTTP_HEADER_BYTES_MAX, err));
  RAG_TRY(check_range("connections_max", o->connections_max, 1, HTTP_CONNECTIONS_MAX, err));
  RAG_TRY(check_range("connections_per_address_max", o->connections_per_address_max, 1, HTTP_CONNECTIONS_MAX, err));
  RAG_TRY(check_range("queue_wait_ms_max", o->queue_wait_ms_max, 1, HTTP_TIMEOUT_S_MAX * 1000, err));
  if (!o->tls_certificate_file != !o->tls_key_file)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, o->tls_key_file ? "tls_certificate_file" : "tls_key_file",
                          "TLS needs both, the certificate's file and its key's");
  RAG_TRY(check_range("header_timeout_s", o->header_timeout_s, 1, HTTP_TIMEOUT_S_MAX, err));
  RAG_TRY(check_range("body_timeout_s", o->body_timeout_s, 1, HTTP_TIMEOUT_S_MAX, err));
  RAG_TRY(check_range("idle_timeout_s", o->idle_timeout_s, 1, HTTP_TIMEOUT_S_MAX, err));
  RAG_TRY(check_range("request_timeout_s", o->request_timeout_s, 1, HTTP_TIMEOUT_S_MAX, err));
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- start, stop

void http_wake(http_thread *thread) {
  uint64_t one = 1;
  if (write(thread->wake_fd, &one, sizeof(one)) < 0) return; // full: it is awake anyway
}

static void wake_all(rag_server *server) {
  for (unsigned i = 0; i < server->thread_count; i++) http_wake(&server->threads[i]);
}

static void join_all(rag_server *server) {
  atomic_store(&server->stopping, true);
  atomic_store_explicit(&server->exiting, true, memory_order_release);
  wake_all(server);
  for (unsigned i = 0; i < server->thread_count; i++) {
    http_thread *thread = &server->threads[i];
    if (thread->started) pthread_join(thread->thread, NULL);
    else http_daemon_abandon(thread);
    if (thread->listen_fd >= 0) close(thread->listen_fd);
    if (thread->wake_fd >= 0) close(thread->wake_fd);
  }
}

static void server_free(rag_server *server) {
  if (!server) return;
  join_all(server);
  rag_pool_destroy(server->pool);
  http_tls_close(server->tls);
  pthread_cond_destroy(&server->empty);
  pthread_mutex_destroy(&server->lock);
  rag_free(server->threads);
  rag_free(server);
}

static rag_server *server_create(rag_api *api, const rag_server_options *options) {
  rag_server *server = rag_calloc(1, sizeof(*server));
  if (!server) return NULL;
  server->api = api;
  server->options = *options;
  server->options.listen = server->options.tls_certificate_file = server->options.tls_key_file = NULL;
  server->bodies_max = options->body_bytes_max * HTTP_BODIES_IN_MEMORY_MAX;
  server->streams_max = options->worker_threads / 2;
  pthread_mutex_init(&server->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&server->empty, &attr);
  pthread_condattr_destroy(&attr);
  server->threads = rag_calloc(options->network_threads, sizeof(*server->threads));
  if (!server->threads) {
    server_free(server);
    return NULL;
  }
  server->thread_count = options->network_threads;
  for (unsigned i = 0; i < server->thread_count; i++) {
    http_thread *thread = &server->threads[i];
    thread->server = server;
    thread->listen_fd = thread->wake_fd = thread->epoll_fd = -1;
    rag_os_random(&thread->request_id_state, sizeof(thread->request_id_state));
  }
  return server;
}

static rag_status open_sockets(rag_server *server, http_address *address, rag_error *err) {
  int fds[HTTP_NETWORK_THREADS_MAX];
  RAG_TRY(http_listen(address, server->thread_count, fds, err));
  for (unsigned i = 0; i < server->thread_count; i++) server->threads[i].listen_fd = fds[i];
  http_address_url(address, server->tls != NULL, server->url, sizeof(server->url));
  return RAG_OK;
}

static rag_status start_thread(http_thread *thread, rag_error *err) {
  thread->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (thread->wake_fd < 0) return rag_os_fail(err, "eventfd", "", errno);
  RAG_TRY(http_daemon_start(thread, err));
  int failed = pthread_create(&thread->thread, NULL, http_thread_main, thread);
  if (failed != 0) return rag_os_fail(err, "pthread_create", "", failed);
  thread->started = true;
  return RAG_OK;
}

rag_status rag_server_start(rag_api *api, const rag_server_options *options, rag_server **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_server *server = NULL;
  http_address address;
  RAG_TRY(check_options(options, err));
  RAG_TRY(http_address_parse(options->listen, &address, err));
  if (!address.loopback && !options->allow_public_without_key && !rag_api_has_keys(api))
    return rag_fail_field(err, RAG_FAILED_PRECONDITION, "listen",
                          "'%.64s' can be reached from other machines and no API key exists; create one (ragctl key "
                          "create), or listen on 127.0.0.1",
                          options->listen);
  atomic_store_explicit(&api->draining, false, memory_order_relaxed);
  server = server_create(api, options);
  if (!server) return rag_fail_no_memory(err, sizeof(*server));
  if (options->tls_certificate_file)
    RAG_TRY_OUT(http_tls_open(options->tls_certificate_file, options->tls_key_file, &server->tls, err));
  RAG_TRY_OUT(open_sockets(server, &address, err));
  RAG_TRY_OUT(rag_pool_create("worker", options->worker_threads, options->worker_queue_max, &server->pool, err));
  for (unsigned i = 0; i < server->thread_count; i++) RAG_TRY_OUT(start_thread(&server->threads[i], err));
  RAG_TRY_OUT(http_endpoint_write(api->data_dir, server->url, err));
  rag_log(RAG_LOG_INFO, "http.listening", "url=%s network_threads=%u worker_threads=%u", server->url,
          server->thread_count, options->worker_threads);
  if (!address.loopback && !server->tls)
    rag_log(RAG_LOG_WARN, "http.plain_text", "url=%s effect=%s", server->url,
            "API keys and documents can be read on their way; give --tls-certificate-file and --tls-key-file");
  *out = server;
  server = NULL;
out:
  server_free(server);
  return status;
}

rag_status rag_server_reload(rag_server *server, rag_error *err) {
  return server->tls ? http_tls_reload(server->tls, err) : RAG_OK;
}

const char *rag_server_url(const rag_server *server) {
  return server->url;
}

static bool wait_until_empty(rag_server *server, uint64_t timeout_ms) {
  uint64_t until = rag_clock_monotonic_ns() + RAG_MIN(timeout_ms, UINT64_C(86400000)) * UINT64_C(1000000);
  struct timespec deadline = {.tv_sec = (time_t)(until / NS_PER_S), .tv_nsec = (long)(until % NS_PER_S)};
  int failed = 0;
  pthread_mutex_lock(&server->lock);
  while (server->connections > 0 && failed == 0)
    failed = pthread_cond_timedwait(&server->empty, &server->lock, &deadline);
  bool empty = server->connections == 0;
  pthread_mutex_unlock(&server->lock);
  return empty;
}

void rag_server_stop(rag_server *server, uint64_t timeout_ms) {
  if (!server) return;
  uint64_t began = rag_clock_monotonic_ns();
  atomic_store_explicit(&server->api->draining, true, memory_order_relaxed);
  http_endpoint_remove(server->api->data_dir, server->url);
  atomic_store_explicit(&server->draining, true, memory_order_relaxed);
  wake_all(server);
  bool drained = wait_until_empty(server, timeout_ms);
  // Network threads now cancel streams and suspend nothing more; tasks that wait in the queue answer at once.
  atomic_store(&server->stopping, true);
  wake_all(server);
  rag_log(RAG_LOG_INFO, "http.stopped", "drained=%s took_ms=%llu", drained ? "true" : "false",
          (unsigned long long)((rag_clock_monotonic_ns() - began) / 1000000));
  server_free(server);
}

// ---------------------------------------------------------------------------------------------- budgets

bool http_connection_admitted(rag_server *server, const struct sockaddr *address, http_peer **out) {
  const rag_server_options *options = &server->options;
  pthread_mutex_lock(&server->lock);
  bool room = server->connections < options->connections_max;
  *out = room ? http_peer_take(&server->peers, address, options->connections_per_address_max) : NULL;
  if (*out) server->connections++;
  pthread_mutex_unlock(&server->lock);
  atomic_fetch_add_explicit(*out ? &rag_api__server.connections : &rag_api__server.rejected_overload, 1,
                            memory_order_relaxed);
  if (room && !*out) atomic_fetch_add_explicit(&rag_api__server.rejected_peer, 1, memory_order_relaxed);
  return *out != NULL;
}

void http_connection_closed(rag_server *server, http_peer *peer) {
  pthread_mutex_lock(&server->lock);
  RAG_ASSERT(server->connections > 0);
  server->connections--;
  http_peer_drop(&server->peers, peer);
  if (server->connections == 0) pthread_cond_broadcast(&server->empty);
  pthread_mutex_unlock(&server->lock);
  atomic_fetch_sub_explicit(&rag_api__server.connections, 1, memory_order_relaxed);
}

bool http_body_charge(http_connection *connection, uint64_t bytes) {
  rag_server *server = connection->thread->server;
  uint64_t before = atomic_fetch_add_explicit(&server->bodies_bytes, bytes, memory_order_relaxed);
  if (before + bytes > server->bodies_max) {
    atomic_fetch_sub_explicit(&server->bodies_bytes, bytes, memory_order_relaxed);
    return false;
  }
  connection->body_charged += bytes;
  return true;
}

void http_body_release(http_connection *connection) {
  if (connection->body_charged == 0) return;
  atomic_fetch_sub_explicit(&connection->thread->server->bodies_bytes, connection->body_charged, memory_order_relaxed);
  connection->body_charged = 0;
}

// ---------------------------------------------------------------------------------------------- slow clients

static uint64_t bytes_moved(int fd) {
  struct tcp_info info = {0};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return info.tcpi_bytes_received + info.tcpi_bytes_acked;
}

static uint64_t bytes_received(int fd) {
  struct tcp_info info = {0};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return info.tcpi_bytes_received;
}

static bool unsent(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

void http_enter(http_connection *connection, http_phase phase, uint64_t now_ns) {
  connection->phase = phase;
  connection->phase_ns = now_ns;
  connection->baseline = false;
}

// A client that has closed its sending side has left, as libmicrohttpd too takes it once it reads the end.
static bool client_left(const http_connection *connection) {
  struct pollfd look = {.fd = connection->fd, .events = POLLRDHUP};
  return poll(&look, 1, 0) == 1 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static bool unread(const http_connection *connection) {
  int bytes = 0;
  return ioctl(connection->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

// Bytes and the end of a connection that arrive together are one event; libmicrohttpd reads the bytes, sees that there
// are no more for now, and waits for an event that will not come. Closing our side too makes one.
static bool close_left(http_connection *connection) {
  if (!client_left(connection) || unread(connection)) return false;
  shutdown(connection->fd, SHUT_RDWR); // what is still to be sent is sent
  return true;
}

static void close_slow(http_connection *connection, const char *why) {
  rag_log(RAG_LOG_INFO, "http.slow_client", "reason=%s fd=%d", why, connection->fd);
  connection->linger = false;
  // libmicrohttpd sees the end of the connection and cleans up; a suspended one is resumed by its worker and then sees.
  shutdown(connection->fd, SHUT_RDWR);
  http_enter(connection, HTTP_WORKING, rag_clock_monotonic_ns()); // once is enough
}

// Windows of body_timeout_s; each must move HTTP_RATE_MIN_BYTES_PER_S on the average, unless it was we who were slow.
static bool too_slow(http_connection *connection, uint64_t now_ns) {
  uint64_t window_ns = connection->thread->server->options.body_timeout_s * NS_PER_S;
  if (!connection->baseline) {
    connection->moved_bytes = bytes_moved(connection->fd);
    connection->phase_ns = now_ns;
    connection->baseline = true;
    return false;
  }
  if (now_ns - connection->phase_ns < window_ns) return false;
  uint64_t moved = bytes_moved(connection->fd);
  bool slow = moved - connection->moved_bytes <
              connection->thread->server->options.body_timeout_s * (uint64_t)HTTP_RATE_MIN_BYTES_PER_S;
  connection->moved_bytes = moved;
  connection->phase_ns = now_ns;
  return slow;
}

// libmicrohttpd does not tell of the first bytes of a request, so that one who sends a header byte by byte would look
// idle: the socket's own count tells.
static void sweep_idle(http_connection *connection, uint64_t now_ns) {
  const rag_server_options *options = &connection->thread->server->options;
  uint64_t received = bytes_received(connection->fd);
  if (!connection->baseline) {
    connection->moved_bytes = received;
    connection->baseline = true;
  } else if (received != connection->moved_bytes) {
    http_enter(connection, HTTP_HEADERS, now_ns);
    return;
  }
  if (now_ns - connection->phase_ns < options->idle_timeout_s * NS_PER_S) return;
  if (unsent(connection->fd)) http_enter(connection, HTTP_SENDING, now_ns); // the kernel still sends the last answer
  else close_slow(connection, "idle");
}

static void sweep_one(http_connection *connection, uint64_t now_ns) {
  const rag_server_options *options = &connection->thread->server->options;
  uint64_t in_phase_ns = now_ns > connection->phase_ns ? now_ns - connection->phase_ns : 0;
  // Half a second before the first look: busy connections cost no system call.
  if (connection->phase == HTTP_IDLE && in_phase_ns < NS_PER_S / 2) return;
  if (connection->phase != HTTP_SENDING && connection->phase != HTTP_WORKING && close_left(connection)) return;
  switch (connection->phase) {
  case HTTP_IDLE:
    sweep_idle(connection, now_ns);
    break;
  case HTTP_HEADERS:
    if (in_phase_ns >= options->header_timeout_s * NS_PER_S) close_slow(connection, "headers");
    break;
  case HTTP_BODY:
    if (in_phase_ns >= options->body_timeout_s * NS_PER_S) close_slow(connection, "body");
    break;
  case HTTP_UPLOAD:
    if (too_slow(connection, now_ns)) close_slow(connection, "upload");
    break;
  case HTTP_SENDING:
    if (too_slow(connection, now_ns)) close_slow(connection, connection->active ? "answer" : "idle");
    break;
  case HTTP_WORKING:
    break;
  }
}

// A suspended connection is in no epoll set: look whether its client is still there.
static void sweep_working(http_connection *connection) {
  connection->baseline = false; // a window begins when it is the client's turn again
  if (!client_left(connection)) return;
  if (connection->stage == HTTP_STAGE_POOL) atomic_store_explicit(&connection->gone, true, memory_order_relaxed);
  else if (connection->stream) http_stream_cancel(connection->stream);
}

static bool idle_now(const http_connection *connection) {
  if (connection->active) return false;
  return !unread(connection) && !unsent(connection->fd);
}

void http_sweep(http_thread *thread, uint64_t now_ns) {
  rag_server *server = thread->server;
  bool draining = atomic_load_explicit(&server->draining, memory_order_relaxed);
  bool stopping = atomic_load(&server->stopping);
  for (http_connection *c = thread->connections; c; c = c->next) {
    if (stopping) {
      if (c->stream) http_stream_cancel(c->stream);
      shutdown(c->fd, SHUT_RDWR);
    } else if (draining && idle_now(c)) {
      shutdown(c->fd, SHUT_RDWR);
    } else if (c->stage == HTTP_STAGE_POOL || (c->stream && http_stream_waits_for_us(c->stream))) {
      sweep_working(c);
    } else {
      sweep_one(c, now_ns);
    }
  }
  thread->swept_ns = now_ns;
}

// ---------------------------------------------------------------------------------------------- requests

// SplitMix64 (Steele, Lea, Flood 2014): a request id must be cheap and unlikely to come twice, not secret.
void http_request_id(http_thread *thread, char out[HTTP_REQUEST_ID_MAX + 1]) {
  uint64_t z = thread->request_id_state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  z ^= z >> 31;
  rag_hex(&z, sizeof(z), out);
}

void http_error(http_connection *connection, rag_status code, int http_status, const char *fmt, ...) {
  rag_error error = {.status = code};
  va_list args;
  va_start(args, fmt);
  vsnprintf(error.message, sizeof(error.message), fmt, args);
  va_end(args);
  const char *route = connection->response.route;
  connection->response = (rag_api_response){0};
  rag_api__error_answer(&error, (rag_slice){0}, connection->rpc, connection->arena, &connection->response);
  if (http_status != 0) connection->response.http_status = http_status;
  if (code == RAG_UNAVAILABLE && connection->response.retry_after_s == 0) connection->response.retry_after_s = 1;
  if (route) connection->response.route = route;
  connection->response.status = code;
}

void http_request_ended(http_connection *connection, uint64_t now_ns) {
  const rag_api_response *response = &connection->response;
  const char *route = response->route ? response->route : "unknown";
  int http_status = response->http_status != 0 ? response->http_status : 499; // the client left before the answer
  uint64_t duration_ns = now_ns - connection->started_ns;
  rag_api__metrics_observe(route, http_status, duration_ns);
  atomic_fetch_add_explicit(&rag_api__server.bytes_in, connection->bytes_in, memory_order_relaxed);
  atomic_fetch_add_explicit(&rag_api__server.bytes_out, connection->bytes_out, memory_order_relaxed);
  atomic_fetch_sub_explicit(&rag_api__server.requests_in_flight, 1, memory_order_relaxed);
  if (!connection->thread->server->options.access_log || !rag_log_enabled(RAG_LOG_INFO)) return;
  const char *target = connection->request.target ? connection->request.target : "";
  const char *method = connection->head ? "HEAD" : connection->request.method ? connection->request.method : "";
  // Without the query: it may hold what a user searched for.
  int path_size = (int)RAG_MIN(strcspn(target, "?"), (size_t)1024);
  rag_log(RAG_LOG_INFO, "http.request",
          "method=%s target=%.*s status=%d route=%s bytes_in=%llu bytes_out=%llu duration_us=%llu request_id=%s",
          method, path_size, target, http_status, route, (unsigned long long)connection->bytes_in,
          (unsigned long long)connection->bytes_out, (unsigned long long)(duration_ns / 1000), connection->request_id);
}
