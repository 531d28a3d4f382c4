// What the files of api/ share.
#ifndef RAGD_API_INTERNAL_H
#define RAGD_API_INTERNAL_H

#include <protobuf-c/protobuf-c.h>

#include "api/api.h"
#include "base/json.h"
#include "proto/ragd.pb-c.h"

// ---------------------------------------------------------------------------------------------- codecs

// JSON <-> protobuf-c by descriptor (codec_json.c). The rules stand at the top of api/proto/ragd.proto.
//
// Appends the message as JSON.
RAG_NODISCARD rag_status rag_api__json_encode(const ProtobufCMessage *message, rag_buf *out, rag_error *err);
// A new message in the arena from a JSON object. Unknown field: RAG_INVALID_ARGUMENT naming it and the nearest known one.
// err->field is the path ("documents[3].vector").
RAG_NODISCARD rag_status rag_api__json_decode(const ProtobufCMessageDescriptor *descriptor, rag_json value,
                                              rag_arena *arena, ProtobufCMessage **out, rag_error *err);
// Sets one scalar field of a message from text (path and query parameters): numbers, bools, strings, RFC 3339 times;
// repeated strings are appended. RAG_INVALID_ARGUMENT; RAG_NOT_FOUND when the message has no such field.
RAG_NODISCARD rag_status rag_api__field_from_text(ProtobufCMessage *message, rag_slice name, rag_slice value,
                                                  rag_arena *arena, rag_error *err);
ProtobufCMessage *rag_api__message_new(const ProtobufCMessageDescriptor *descriptor, rag_arena *arena);
// True for string fields that hold inline JSON, int64 fields that hold a time, bytes fields that hold a vector.
bool rag_api__field_is_json(const ProtobufCFieldDescriptor *field);
bool rag_api__field_is_time(const ProtobufCFieldDescriptor *field);
bool rag_api__field_is_vector(const ProtobufCFieldDescriptor *field);

// Protobuf wire format (codec_proto.c): unpack into the arena with a hard cap on its size, strings checked to be UTF-8.
RAG_NODISCARD rag_status rag_api__proto_decode(const ProtobufCMessageDescriptor *descriptor, rag_slice body,
                                               rag_arena *arena, ProtobufCMessage **out, rag_error *err);
RAG_NODISCARD rag_status rag_api__proto_encode(const ProtobufCMessage *message, rag_arena *arena, rag_slice *out,
                                               rag_error *err);

// What the codec files share (codec_common.c).
//
// The most that a body may become in memory, so that a small hostile one cannot become a large message.
size_t rag_api__message_bytes_max(size_t body_bytes);
size_t rag_api__field_size(const ProtobufCFieldDescriptor *field); // of one element in its message or array
const ProtobufCFieldDescriptor *rag_api__field_find(const ProtobufCMessageDescriptor *descriptor, rag_slice name);
// A place in a request: a chain from the value at fault up to the root (NULL), on the stack.
typedef struct rag_api__place {
  const struct rag_api__place *up;
  rag_slice name; // of a member; of an element: empty, and index counts
  size_t index;
} rag_api__place;
// "documents[3].text: <text>", and the path in err->field.
rag_status rag_api__fail_at(rag_error *err, rag_status status, const rag_api__place *place, const char *fmt, ...)
    RAG_PRINTF(4, 5);
void rag_api__place_text(const rag_api__place *place, char out[RAG_ERROR_FIELD_MAX]);
// The bytes of a vector as they came: whole floats, none NaN or infinite.
RAG_NODISCARD rag_status rag_api__vector_check(const uint8_t *data, size_t size, const rag_api__place *place,
                                               rag_error *err);
// Inline JSON: checks that a field may hold the value, and puts its compact text into the arena.
RAG_NODISCARD rag_status rag_api__inline_json(const ProtobufCFieldDescriptor *field, rag_json value,
                                              const rag_api__place *place, rag_arena *arena, rag_slice *out,
                                              rag_error *err);

// ---------------------------------------------------------------------------------------------- keys and roles

typedef enum rag_role {
  RAG_ROLE_NONE = 0,
  RAG_ROLE_READ = 1,
  RAG_ROLE_WRITE = 2,
  RAG_ROLE_ADMIN = 3
} rag_role; // pinned
struct rag_api__key;
typedef struct rag_api__principal {
  rag_role role;
  char key_id[24];                // "" when no key is asked for
  const rag_strings *scope;       // kbs it may touch; NULL: all. Borrowed: pinned for the request
  const rag_strings *views;       // feature views likewise
  const struct rag_api__key *key; // whose limits hold; NULL: nobody's
  void *pin;                      // rag_ref_drop after the request
} rag_api__principal;
typedef struct rag_api__keys rag_api__keys; // keys.c: loaded from the store, lookups lock-free by rag_cell

// ---------------------------------------------------------------------------------------------- calls and routes

// One call as a handler sees it.
typedef struct rag_call {
  rag_api *api;
  rag_arena *arena; // of the request: everything in the response lives there
  rag_api__principal principal;
  rag_slice idempotency_key;
  rag_digest request_digest;
  uint64_t deadline_ns;
  rag_buf *details; // a handler that fails may put a JSON object here (conflicts)
  rag_ref *pins[4]; // references that the response borrows from; dropped once it is encoded
  void (*unpin[4])(void *);
  void *unpin_arg[4];
  bool may_not_wait; // on a network thread: work that takes long sets wants_worker and returns RAG_UNAVAILABLE
  bool wants_worker;
  // For the audit log and the log of slow searches; borrowed until the call ends.
  rag_slice kb;                       // that the request names
  rag_slice commit;                   // that it made
  uint64_t job;                       // that it started
  const struct rag_search_plan *plan; // how a search was done
  unsigned retry_after_s;             // of an error; 0: its code's own
  bool out_of_memory; // a copy into the arena failed (rag_api__text): the answer is RAG_RESOURCE_EXHAUSTED
} rag_call;
// How a search was done, for the log of slow ones; copied. Of several in one call, the one that looked at most rows.
void rag_api__call_plan(rag_call *call, const struct rag_search_plan *plan);
// The response borrows from something until it is encoded: fn(arg) is called then. At most 4 a call.
void rag_api__call_defer(rag_call *call, void (*fn)(void *), void *arg);

// request: a decoded message of the route's type; *response: one of its answer type, in call->arena.
typedef rag_status (*rag_handler_fn)(rag_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,
                                     rag_error *err);

// Routes that are no rpc: an answer without a message (health, metrics), and streams (stream_import.c).
typedef rag_status (*rag_plain_fn)(rag_call *call, rag_api_response *out, rag_error *err);
typedef struct rag_api__stream rag_api__stream; // dispatch_internal.h
typedef rag_status (*rag_stream_fn)(rag_api__stream *stream, rag_error *err);

typedef struct rag_route {
  const char *name;          // for logs and metrics: "Documents/PutDocuments"
  const char *service, *rpc; // "Documents", "PutDocuments"; "" "": REST only
  const char *method;        // REST: "POST"
  const char *path; // "/v1/kbs/{kb}/documents"; a parameter is one path segment, percent-decoded after routing;
                    // "{id}:pause" ends a segment with a verb
  const ProtobufCMessageDescriptor *request, *response; // NULL, NULL: stream or plain
  rag_handler_fn handler;
  rag_role role; // least role; RAG_ROLE_NONE: open to all (health)
  rag_api_lane lane;
  const char *summary;  // for OpenAPI and ragctl
  rag_plain_fn plain;   // instead of handler
  rag_stream_fn stream; // instead of handler
} rag_route;
extern const rag_route rag_api__routes[];
extern const size_t rag_api__route_count;

struct rag_api {
  rag_store *store;
  rag_jobs *jobs;
  rag_kbs *kbs;
  rag_api__keys *keys;
  struct rag_api__audit *audit; // NULL: none
  uint64_t slow_query_ns;       // 0: no slow search is logged
  uint64_t started_ns;
  char *data_dir;
  char *backup_dir;      // NULL: none
  _Atomic bool draining; // atomic: a flag for /readyz alone, relaxed
};

// Handlers, by file: handlers_kb.c, handlers_documents.c, handlers_versions.c, handlers_search.c, handlers_facets.c,
// handlers_ops.c. Named rag_api__<rpc in snake case>.

// openapi.c: the document for the route table, made once.
RAG_NODISCARD rag_status rag_api__openapi(rag_arena *arena, rag_slice *out, rag_error *err);

// metrics.c: counters and latency histograms by route and status, and gauges of the store and kbs, as Prometheus text.
void rag_api__metrics_observe(const char *route, int http_status, uint64_t duration_ns);
RAG_NODISCARD rag_status rag_api__metrics_text(rag_api *api, rag_buf *out, rag_error *err);
typedef struct rag_api__server_gauges { // http*.c, dispatch.c and audit.c set them
  _Atomic uint64_t connections, requests_in_flight, pool_queued, rejected_overload, bytes_in, bytes_out;
  _Atomic uint64_t rejected_wait;  // of rejected_overload: had waited too long
  _Atomic uint64_t rejected_peer;  // of rejected_overload: connections over an address's share
  _Atomic uint64_t rejected_limit; // a key's own limits
  _Atomic uint64_t audit_failing;  // 1: the audit log cannot be written just now
} rag_api__server_gauges;
extern rag_api__server_gauges rag_api__server;

// Error answers (errors.c): Connect's code names and HTTP statuses.
int rag_api__http_status(rag_status status);
// The body of an error. rpc: Connect's shape, else REST's.
void rag_api__error_answer(const rag_error *err, rag_slice details, bool rpc, rag_arena *arena, rag_api_response *out);

#endif
