// api: the service. One dispatcher answers a request whatever door it came through (REST, RPC, in process); one HTTP
// server is the door for the network. Handlers take and return protobuf-c messages and never see HTTP.
//
// A request: route (by method and raw target) -> authenticate and authorise -> decode (JSON or protobuf) -> handler ->
// encode -> answer. The route table (api/routes.c) gives for each rpc its handler, its REST path, who may call it, and
// whether it may run on the network thread or goes to the worker pool. From that table come REST, RPC, /openapi.json,
// the authorisation test matrix and ragctl.
#ifndef RAGD_API_H
#define RAGD_API_H

#include "base/base.h"
#include "kb/kb.h"
#include "store/store.h"

#define RAG_API_BODY_BYTES_MAX_DEFAULT (32u << 20)
#define RAG_API_TARGET_BYTES_MAX 8192u
#define RAG_API_MESSAGE_EXPANSION_MAX                                                                                  \
  64u // decoded message bytes per body byte are bounded by a cap, see api/codec_proto.c

typedef struct rag_api rag_api; // thread-safe

typedef struct rag_audit_options { // api/audit.c
  const char *path;                // NULL: no audit log
  uint64_t bytes_max;              // the file is rotated before it passes this
  uint32_t files_max;              // older files kept: PATH.1 is the newest of them
  uint32_t queue_bytes_max;        // lines that may wait in memory; once they do, writes are refused
} rag_audit_options;

typedef struct rag_api_options {
  const char *data_dir;
  rag_store_options store;
  rag_kbs_options kbs;
  unsigned job_threads;   // 0: jobs run in the foreground only (command line)
  const char *backup_dir; // where backups go; NULL: none are made. No request names a path
  rag_audit_options audit;
  uint32_t slow_query_ms; // searches that take longer are logged with their plan; 0: none
} rag_api_options;
rag_api_options rag_api_options_default(void);
// Opens the store of data_dir, its jobs, its kbs and its API keys.
RAG_NODISCARD rag_status rag_api_open(const rag_api_options *options, rag_api **out, rag_error *err);
void rag_api_close(rag_api *api);
rag_kbs *rag_api_kbs(rag_api *api); // borrowed
rag_jobs *rag_api_jobs(rag_api *api);
rag_store *rag_api_store(rag_api *api);
bool rag_api_has_keys(rag_api *api); // at least one API key exists: requests must carry one

// ---------------------------------------------------------------------------------------------- one request

typedef struct rag_api_request { // everything borrowed for the call
  const char *method;            // "GET"
  const char *target;            // raw, still percent-encoded, with the query: "/v1/kbs/a%2Fb?at=main"
  const char *content_type;      // or NULL
  const char *accept;
  const char *authorization;
  const char *idempotency_key;
  const char *timeout_ms; // connect-timeout-ms, or NULL
  const char *request_id; // for the logs, or NULL
  const char *peer;       // the client's address, for the logs, or NULL
  rag_slice body;
  uint64_t deadline_ns; // monotonic; 0: none
  bool trusted;         // in process: no authentication, admin
  bool may_not_wait;    // on a network thread: see wants_worker
} rag_api_request;

typedef struct rag_api_response { // everything in the arena given to rag_api_handle, or static
  int http_status;
  const char *content_type;
  rag_slice body;
  const char *allow;      // for 405, or NULL
  unsigned retry_after_s; // 0: no header
  const char *route;      // static: the route's name for logs and metrics ("Documents/PutDocuments", "unknown")
  rag_status status;
  // Only for requests that may_not_wait: nothing was done and there is no answer yet, because this one would take long
  // (a scan of many rows, waiting for a commit). Ask again on a worker, without may_not_wait.
  bool wants_worker;
} rag_api_response;

// Answers any unary request; never fails: an error becomes an answer in the shape that the caller's protocol wants.
void rag_api_handle(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_response *out);

// What the door must know before it has read the body.
typedef enum rag_api_lane {
  RAG_LANE_INLINE = 0, // cheap: may run on the network thread
  RAG_LANE_POOL = 1,   // may wait (disk sync, large work): a worker's
  RAG_LANE_STREAM = 2, // body or answer of any length: rag_api_stream on a worker
} rag_api_lane;
// Also checks the API key early, so that nobody unknown may send a large body: not RAG_OK: *out is the full answer.
rag_status rag_api_admit(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_lane *lane,
                         rag_api_response *out);
// Streams: documents:import, export, kbs:import. Reads the body by `read`, writes the answer by `write`. *out gets the
// status and content type before the first write; an error after that becomes the stream's last line.
void rag_api_stream(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_read_fn read, void *read_ctx,
                    rag_write_fn write, void *write_ctx, rag_api_response *out);

// ---------------------------------------------------------------------------------------------- the HTTP server

typedef struct rag_server rag_server;
typedef struct rag_server_options {
  const char *listen; // "127.0.0.1:7700", "[::1]:0" (port 0: any free one)
  unsigned network_threads, worker_threads, worker_queue_max;
  uint64_t body_bytes_max;
  uint32_t header_bytes_max;
  uint32_t connections_max;
  uint32_t connections_per_address_max; // of one client address (IPv6: of one /64)
  uint32_t queue_wait_ms_max;           // a request that had to wait longer for its turn is answered 503
  const char *tls_certificate_file;     // PEM, the server's certificate and those between it and the root; NULL: no TLS
  const char *tls_key_file;             // PEM, unencrypted
  uint32_t header_timeout_s, body_timeout_s, idle_timeout_s; // slow clients are closed after these
  uint32_t request_timeout_s;
  bool allow_public_without_key; // never set by ragd; tests
  bool access_log;
} rag_server_options;
rag_server_options rag_server_options_default(void);
// Binds and serves. RAG_FAILED_PRECONDITION for an address that is not loopback while no API key exists, and for a port
// that is taken; RAG_UNIMPLEMENTED for TLS where the program or libmicrohttpd was built without. Writes DIR/ENDPOINT ("http://127.0.0.1:7700\n") for ragctl.
RAG_NODISCARD rag_status rag_server_start(rag_api *api, const rag_server_options *options, rag_server **out,
                                          rag_error *err);
const char *rag_server_url(const rag_server *server); // "http://127.0.0.1:43215"
// Reads the certificate and key again; connections that are open keep the one they began with. On error the server goes
// on with what it has. Without TLS: nothing is done.
RAG_NODISCARD rag_status rag_server_reload(rag_server *server, rag_error *err);
// Stops accepting, lets running requests end (at most timeout_ms), removes DIR/ENDPOINT, frees. /readyz says 503 first.
void rag_server_stop(rag_server *server, uint64_t timeout_ms);

#endif
