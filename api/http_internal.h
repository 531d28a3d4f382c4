// What the files of the HTTP server share: http_server.c (life, limits, slow clients), http.c (libmicrohttpd, the only
// file that includes it), http_stream.c (long bodies and answers), http_peers.c (connections by address), http_tls.c
// (GnuTLS, likewise), http_head.c (what a head may look like), listen.c (addresses, sockets, the endpoint file).
#ifndef RAGD_HTTP_INTERNAL_H
#define RAGD_HTTP_INTERNAL_H

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "api/api_internal.h"

// Limits. Those of rag_server_options are an operator's; these are ours.
#define HTTP_NETWORK_THREADS_MAX 64u
#define HTTP_WORKER_THREADS_MAX 1024u
#define HTTP_CONNECTIONS_MAX 100000u
#define HTTP_HEADER_BYTES_MIN 1024u
#define HTTP_HEADER_BYTES_MAX (1u << 20)
#define HTTP_TIMEOUT_S_MAX 86400u
#define HTTP_REQUEST_ID_MAX 128u
#define HTTP_ENDPOINT_FILE "ENDPOINT"
// A body over this goes to a worker even when its route is inline: decoding it would hold up the other connections of
// the network thread (a search by an 8,192-float vector in JSON is about 100 KB; one of 384 floats 4 to 8 KB).
#define HTTP_INLINE_BODY_BYTES_MAX (64u << 10)
// Buffers kept from request to request on a connection; larger ones go back to the system when the request ends.
#define HTTP_KEPT_BODY_BYTES_MAX (64u << 10)
#define HTTP_ARENA_BYTES_MAX ((size_t)1 << 30)
// Bodies of all connections together, in units of body_bytes_max; what a connection may keep anyway is not counted.
#define HTTP_BODIES_IN_MEMORY_MAX 32u
// Streams: bytes in memory each way, and of an answer that must wait for the end of its upload (then in a file).
#define HTTP_PIPE_BYTES (256u << 10)
#define HTTP_SPILL_BYTES_MAX ((uint64_t)1 << 30)
// A client that moves less than this, averaged over body_timeout_s, while we wait for it, is closed. A window instead of
// a total, so that a stream may last for ever; an average, so that a byte now and then does not keep a slot.
#define HTTP_RATE_MIN_BYTES_PER_S 256u
// Connections that were answered before their body was read stay half-open so long: closing with unread bytes makes the
// kernel send a reset, which can destroy the answer before the client has read it.
#define HTTP_LINGER_NS (UINT64_C(2) * 1000 * 1000 * 1000)
#define HTTP_LINGER_MAX 64u // of one network thread; more are closed at once
#define HTTP_SWEEP_NS (UINT64_C(250) * 1000 * 1000)

struct MHD_Connection;
struct MHD_Daemon;
typedef struct http_stream http_stream;
typedef struct http_thread http_thread;

// ---------------------------------------------------------------------------------------------- connections

// What we wait for, and so which limit applies (http_server.c, http_sweep).
//
//   accept --> HEADERS --on_uri/on_headers--> BODY --last byte--> WORKING --answer queued--> SENDING
//                 ^                             ^                                               |
//                 | first byte (sweep)          | headers complete                              | answer sent
//               IDLE <----------------------------------------------------------------------- --+
typedef enum http_phase {
  HTTP_IDLE = 0,    // between requests: idle_timeout_s
  HTTP_HEADERS = 1, // header_timeout_s in all
  HTTP_BODY = 2,    // body_timeout_s in all
  HTTP_UPLOAD = 3,  // a stream's body: HTTP_RATE_MIN_BYTES_PER_S
  HTTP_WORKING = 4, // our turn: the request's deadline
  HTTP_SENDING = 5, // HTTP_RATE_MIN_BYTES_PER_S
} http_phase;

// Where a request stands (http.c, on_request).
typedef enum http_stage {
  HTTP_STAGE_HEADERS = 0, // the target is known
  HTTP_STAGE_READ,        // reading the body
  HTTP_STAGE_REFUSED,     // response is filled: answer once the (empty) body is over
  HTTP_STAGE_POOL,        // suspended; a worker has it until `worker_done`
  HTTP_STAGE_STREAM,      // `stream` has it
  HTTP_STAGE_ANSWERED,    // the answer is libmicrohttpd's
} http_stage;

// One connection and its current request. Belongs to its network thread; in HTTP_STAGE_POOL request, response, arena and
// body are the worker's until worker_done (release) is seen (acquire).
typedef struct http_connection {
  struct http_connection *next, *previous;
  http_thread *thread;
  struct MHD_Connection *mhd;
  struct http_peer *peer; // the share of its address
  char peer_text[INET6_ADDRSTRLEN];
  int fd;
  bool linger;      // the answer went out before the body was read
  bool close_after; // answer with Connection: close
  http_phase phase;
  uint64_t phase_ns;    // when the phase, or its window, began
  uint64_t moved_bytes; // of the socket, both ways, at phase_ns
  bool baseline;        // moved_bytes is set (IDLE)

  http_stage stage;
  bool active; // between on_uri and on_completed
  bool head;   // HEAD, dispatched as GET
  bool options;
  bool rpc;
  bool has_body;
  bool target_too_long;
  const char *raw_target; // where libmicrohttpd has it
  size_t raw_target_size;
  uint64_t started_ns;
  uint64_t queued_ns;      // when it was handed to the workers
  uint64_t content_length; // UINT64_MAX: chunked
  rag_arena *arena;
  rag_buf body;
  uint64_t body_charged; // of the server's budget for bodies
  uint64_t bytes_in, bytes_out;
  rag_api_request request;
  rag_api_response response;
  rag_api_lane lane;
  char request_id[HTTP_REQUEST_ID_MAX + 1];
  _Atomic bool worker_done; // atomic: release by the worker, acquire by the network thread
  _Atomic bool gone;        // atomic, relaxed: the client has left; a worker that has not begun need not
  http_stream *stream;      // a reference, or NULL
} http_connection;

// ---------------------------------------------------------------------------------------------- threads, server

struct http_thread {
  rag_server *server;
  struct MHD_Daemon *daemon;
  pthread_t thread;
  bool started;
  int listen_fd;
  int wake_fd;                  // eventfd
  int epoll_fd;                 // libmicrohttpd's
  http_connection *connections; // the network thread's
  uint64_t request_id_state;    // the network thread's
  uint64_t swept_ns;
  uint64_t round_ns;       // when the requests that are being looked at were seen to be there
  bool draining, stopping; // this thread has seen the server's flags
  unsigned linger_count;
  int linger_fds[HTTP_LINGER_MAX];
  uint64_t linger_until_ns[HTTP_LINGER_MAX];
  // atomic: suspended connections. Counted down after MHD_resume_connection has returned (release), so that a thread
  // that sees 0 (acquire) may stop its daemon: nobody is inside it any more.
  _Atomic unsigned suspended;
};

typedef struct http_address {
  struct sockaddr_storage storage;
  socklen_t size;
  bool loopback;
} http_address;

// Connections by client address (http_peers.c); an entry is there while its count is not 0.
#define HTTP_PEER_CHAINS 1024u // a power of two
typedef struct http_peer {
  struct http_peer *next;
  uint8_t address[16]; // IPv4 as mapped; of IPv6 the /64, which is what one client has
  uint32_t count;
} http_peer;
typedef struct http_peers {
  http_peer *chains[HTTP_PEER_CHAINS];
} http_peers;
typedef struct http_tls http_tls; // http_tls.c

struct rag_server {
  rag_api *api;
  rag_server_options options; // immutable after start; listen is not kept
  rag_pool *pool;
  http_thread *threads;
  unsigned thread_count;
  char url[96];
  uint64_t bodies_max;
  unsigned streams_max;
  _Atomic uint64_t bodies_bytes; // atomic, relaxed: a budget
  _Atomic unsigned streams;      // atomic, relaxed: running or queued
  _Atomic bool draining;         // atomic, relaxed: set once; network threads are woken after
  _Atomic bool stopping;         // atomic, seq_cst: set once; no request starts and no connection is suspended after
  _Atomic bool exiting;          // atomic, acquire/release: network threads leave
  _Atomic uint64_t last_wait_ns; // atomic, relaxed: of the request that a worker took last
  http_tls *tls;                 // NULL: plain text
  pthread_mutex_t lock;
  pthread_cond_t empty; // connections has become 0
  unsigned connections; // guarded by: lock
  http_peers peers;     // guarded by: lock
};

// http.c: libmicrohttpd
RAG_NODISCARD rag_status http_daemon_start(http_thread *thread, rag_error *err);
void http_daemon_abandon(http_thread *thread); // a daemon whose thread never ran
void *http_thread_main(void *thread);
void http_resume(http_connection *connection);  // of a suspended connection; any thread
void http_suspend(http_connection *connection); // the network thread

// http_server.c
void http_wake(http_thread *thread); // any thread: makes its loop run once
// False: connections_max or the address's share of them is reached, or memory is out. *out: for http_connection_closed.
bool http_connection_admitted(rag_server *server, const struct sockaddr *address, http_peer **out);
void http_connection_closed(rag_server *server, http_peer *peer);
void http_sweep(http_thread *thread, uint64_t now_ns); // closes slow and idle clients
void http_enter(http_connection *connection, http_phase phase, uint64_t now_ns);
void http_request_id(http_thread *thread, char out[HTTP_REQUEST_ID_MAX + 1]);
void http_request_ended(http_connection *connection, uint64_t now_ns); // log, metrics
// Takes bytes from the budget for bodies. False: nothing was taken, the server holds too many.
bool http_body_charge(http_connection *connection, uint64_t bytes);
void http_body_release(http_connection *connection);
// Fills connection->response with an error in the shape that the caller's protocol wants. status 0: the code's own.
void http_error(http_connection *connection, rag_status code, int http_status, const char *fmt, ...) RAG_PRINTF(4, 5);

// http_head.c
typedef struct http_walk {
  const char *end; // of the part that was looked at last; NULL: there is no walk
  bool hidden;     // something lies between the parts
} http_walk;
void http_walk_begin(http_walk *walk, const char *method, const char *target, size_t target_size, const char *version);
void http_walk_header(http_walk *walk, const char *name, size_t name_size, const char *value); // in their order
void http_walk_end(http_walk *walk, const char *end); // of the head
bool http_request_id_sane(const char *id);
bool http_target_sane(const char *target, bool options);

// http_peers.c
http_peer *http_peer_take(http_peers *peers, const struct sockaddr *address, uint32_t most); // NULL: no more of it
void http_peer_drop(http_peers *peers, http_peer *peer);
void http_peer_text(const struct sockaddr *address, char out[INET6_ADDRSTRLEN]);

// http_tls.c: GnuTLS, which libmicrohttpd uses. RAG_UNIMPLEMENTED where it was not there at the build.
RAG_NODISCARD rag_status http_tls_open(const char *certificate_file, const char *key_file, http_tls **out,
                                       rag_error *err);
void http_tls_close(http_tls *tls);
RAG_NODISCARD rag_status http_tls_reload(http_tls *tls, rag_error *err);
const char *http_tls_priorities(void); // what is spoken: TLS 1.2 and 1.3
void *http_tls_callback(void);         // a gnutls_certificate_retrieve_function3 for libmicrohttpd
// session: a gnutls_session_t. Sends what can be sent at once. The bytes that went, or < 0.
ssize_t http_tls_send(void *session, const void *data, size_t size);

// http_stream.c. Created by the network thread when the headers are there; the task runs on a worker.
RAG_NODISCARD rag_status http_stream_start(http_connection *connection, rag_error *err);
// A part of the body. Returns how much was taken; less than size: the connection has been suspended.
size_t http_stream_push(http_stream *stream, const void *data, size_t size);
void http_stream_upload_complete(http_stream *stream);
// What the connection may do next; WAIT: it has been suspended. Called when the upload is complete, or (with
// upload_complete false) to see whether the worker has given up on the rest of the body.
typedef enum http_stream_state { HTTP_STREAM_WAIT, HTTP_STREAM_BODY, HTTP_STREAM_FLOW } http_stream_state;
http_stream_state http_stream_answer(http_stream *stream, rag_api_response *out);
bool http_stream_ended_early(http_stream *stream, rag_api_response *out);
// Bytes of the answer: > 0; 0: none yet, the connection has been suspended; HTTP_STREAM_END, HTTP_STREAM_BROKEN.
#define HTTP_STREAM_END (-1)
#define HTTP_STREAM_BROKEN (-2)
ssize_t http_stream_pull(http_stream *stream, char *out, size_t size);
bool http_stream_waits_for_us(http_stream *stream); // suspended: the client is not to blame
void http_stream_cancel(http_stream *stream);       // the client has left or the server stops
void http_stream_detach(http_stream *stream);       // cancels and drops the connection's reference

// listen.c
// "127.0.0.1:7700", "[::1]:0", "localhost:7700". Numbers only: a name that resolves to something else tomorrow must not
// decide who may reach the server. RAG_INVALID_ARGUMENT.
RAG_NODISCARD rag_status http_address_parse(const char *text, http_address *out, rag_error *err);
// Binds and listens `count` sockets that share the port (each with its own queue). RAG_FAILED_PRECONDITION when anybody
// else holds the address. *address gets the port that was chosen.
RAG_NODISCARD rag_status http_listen(http_address *address, unsigned count, int *fds, rag_error *err);
// A URL at which a client on this machine finds the server.
void http_address_url(const http_address *address, bool tls, char *out, size_t size);
RAG_NODISCARD rag_status http_endpoint_write(const char *data_dir, const char *url, rag_error *err);
void http_endpoint_remove(const char *data_dir, const char *url); // only while it names this url

#endif
