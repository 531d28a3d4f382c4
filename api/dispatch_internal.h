// What the files between the doors and the handlers share: routing (route.c), answers (errors.c), keys (keys.c), the
// dispatcher (dispatch.c), streams (stream_import.c), and helpers of the handlers (handlers_common.c).
#ifndef RAGD_DISPATCH_INTERNAL_H
#define RAGD_DISPATCH_INTERNAL_H

#include "api/api_internal.h"

// ---------------------------------------------------------------------------------------------- routing (route.c)

#define API_PATH_PARAMS_MAX 4u
#define API_QUERY_PARAMS_MAX 64u
#define API_RPC_PREFIX "/ragd.v1."

typedef struct rag_api__param {
  rag_slice name;
  rag_slice raw; // still percent-encoded, within the target
} rag_api__param;

typedef struct rag_api__match {
  const rag_route *route; // NULL: nothing here for this method
  const char *allow;      // the methods of a known path, or NULL: no such path. Static
  bool rpc;               // below API_RPC_PREFIX: errors have Connect's shape
  rag_slice query;        // raw, without the '?'
  uint32_t param_count;
  rag_api__param params[API_PATH_PARAMS_MAX];
} rag_api__match;
// Pure and lock-free; under a microsecond. Nothing is allocated.
void rag_api__route_match(const char *method, const char *target, rag_api__match *out);
// *out: NUL-terminated, in the arena. plus: '+' is a blank (queries). RAG_INVALID_ARGUMENT: a broken escape, a NUL,
// text that is no UTF-8.
RAG_NODISCARD rag_status rag_api__percent_decode(rag_slice raw, bool plus, rag_slice name, rag_arena *arena,
                                                 rag_slice *out, rag_error *err);
// Walks "a=1&b=2": false at the end. Names come percent-encoded too; empty pieces are skipped.
bool rag_api__query_next(rag_slice *rest, rag_api__param *out);

// ---------------------------------------------------------------------------------------------- answers (errors.c)

const char *rag_api__code_name(rag_status status); // Connect's
// The nearest of `names` to `name`, or NULL when none is near enough to be meant.
const char *rag_api__nearest(rag_slice name, const char *const *names, size_t count);
// A value that must be one of a few names. RAG_INVALID_ARGUMENT lists them.
rag_status rag_api__fail_choice(rag_error *err, const char *field, rag_slice got, const char *const *names,
                                size_t count);

// ---------------------------------------------------------------------------------------------- keys (keys.c)

#define API_KEY_PREFIX "ragd_"
#define API_KEY_RANDOM_BYTES 32u
#define API_KEY_SECRET_BYTES (sizeof(API_KEY_PREFIX) - 1 + 43) // 32 bytes are 43 base64url characters
#define API_KEYS_MAX 10000u
#define API_KEY_KBS_MAX 1000u
#define API_KEY_NAME_BYTES_MAX 128u
#define API_KEY_ID_SIZE 24u // with the NUL
#define API_KEY_VIEWS_MAX 1000u
#define API_KEY_GRACE_S_MAX (30u * 86400u) // longer than a month is no rotation
#define API_KEY_RATE_MAX 1000000u          // requests a second, and of a burst

typedef struct rag_api__usage rag_api__usage; // usage.c: what one key has used; starts with a rag_ref

typedef struct rag_api__limits { // 0: none
  uint32_t requests_per_s, burst;
  uint64_t bytes_per_day;
} rag_api__limits;

typedef struct rag_api__key { // immutable
  char id[API_KEY_ID_SIZE];
  uint8_t hash[32]; // SHA-256 of the secret
  rag_role role;
  char *name;
  rag_strings kbs, views; // sorted; both empty: all of both
  int64_t created_us;
  int64_t expires_us;   // 0: never
  int64_t rotated_us;   // 0: never
  uint8_t old_hash[32]; // of the secret before the last rotation
  int64_t old_until_us; // 0: there is none
  rag_api__limits limits;
  rag_api__usage *usage; // a reference; shared by every table that has the key
} rag_api__key;
typedef struct rag_api__secret { // what a request may carry
  uint8_t hash[32];
  uint32_t key; // index
  bool old;     // the one before the last rotation
} rag_api__secret;
typedef struct rag_api__key_table { // immutable; starts with a rag_ref
  rag_ref ref;
  uint32_t count, secret_count;
  rag_api__key *keys;       // by id
  rag_api__secret *secrets; // by hash
} rag_api__key_table;

RAG_NODISCARD rag_status rag_api__keys_open(rag_store *store, bool writes_lazily, rag_api__keys **out, rag_error *err);
void rag_api__keys_close(rag_api__keys *keys);
rag_api__key_table *rag_api__keys_table(rag_api__keys *keys); // a reference
bool rag_api__keys_any(rag_api__keys *keys);
// Who is asking. RAG_UNAUTHENTICATED. On success the caller drops out->pin.
RAG_NODISCARD rag_status rag_api__authenticate(rag_api__keys *keys, const char *authorization, bool trusted,
                                               rag_api__principal *out, rag_error *err);
// RAG_PERMISSION_DENIED when the principal's key does not name this kb.
RAG_NODISCARD rag_status rag_api__check_kb(const rag_api__principal *principal, rag_slice kb, rag_error *err);
bool rag_api__may_touch(const rag_api__principal *principal, rag_slice kb);
// The same for a feature view.
RAG_NODISCARD rag_status rag_api__check_view(const rag_api__principal *principal, rag_slice view, rag_error *err);
bool rag_api__may_use_view(const rag_api__principal *principal, rag_slice view);
const char *rag_api__role_name(rag_role role);
bool rag_api__role_parse(rag_slice text, rag_role *out);
// key: id, hash and created are filled in; name and kbs are copied. secret: API_KEY_SECRET_BYTES + 1.
RAG_NODISCARD rag_status rag_api__key_create(rag_api__keys *keys, rag_api__key *key, char *secret, rag_error *err);
// A new secret for the key. The old one is taken for grace_s more seconds, one before that no longer. expires_us: 0 keeps
// what the key has. *out: a copy of the key's new state, for rag_api__key_free.
RAG_NODISCARD rag_status rag_api__key_rotate(rag_api__keys *keys, rag_slice id, uint32_t grace_s, int64_t expires_us,
                                             rag_api__key *out, char *secret, rag_error *err);
void rag_api__key_free(rag_api__key *key);
void rag_api__key_row_key(rag_key *out, rag_slice id);
// may_be_last: the key may be deleted although none is left then (in process alone).
RAG_NODISCARD rag_status rag_api__key_delete(rag_api__keys *keys, rag_slice id, bool may_be_last, rag_error *err);

// ---------------------------------------------------------------------------------------------- use (usage.c)

// What keys use: requests, bytes, when last. It outlives the tables of keys, which are replaced by every change.
typedef struct rag_api__usages rag_api__usages; // thread-safe
// writes_lazily: a thread writes what has changed once a minute; without it only close does.
RAG_NODISCARD rag_status rag_api__usages_open(rag_store *store, bool writes_lazily, rag_api__usages **out,
                                              rag_error *err);
void rag_api__usages_close(rag_api__usages *usages); // writes what has changed
// Of this key, made at the first call. A reference, or NULL: out of memory.
rag_api__usage *rag_api__usage_get(rag_api__usages *usages, const char *id);
void rag_api__usage_forget(rag_api__usages *usages, const char *id); // the key is gone
void rag_api__usage_row_key(rag_key *out, rag_slice id);             // of what is stored
RAG_NODISCARD rag_status rag_api__usages_write(rag_api__usages *usages, rag_error *err);
void rag_api__usage_touch(rag_api__usage *usage, int64_t now_us); // the key was used
int64_t rag_api__usage_last_us(const rag_api__usage *usage);      // 0: never
// One request of the key: takes a token, and looks whether a write has bytes left today. RAG_RESOURCE_EXHAUSTED, with
// *retry_after_s.
RAG_NODISCARD rag_status rag_api__usage_admit(const rag_api__key *key, bool write, uint64_t now_ns, int64_t now_us,
                                              unsigned *retry_after_s, rag_error *err);
// Bytes of a write's body, after they came: the body that passes the quota is still taken whole, the next one is not
// (a stream: not its next part).
RAG_NODISCARD rag_status rag_api__usage_charge(const rag_api__key *key, uint64_t bytes, int64_t now_us,
                                               unsigned *retry_after_s, rag_error *err);

// ---------------------------------------------------------------------------------------------- the audit log (audit.c)

typedef struct rag_api__audit rag_api__audit; // thread-safe
typedef struct rag_api__audit_line {          // borrowed; NULL or empty: left out
  const char *request_id, *key_id, *peer, *route, *outcome;
  rag_slice kb, commit;
  uint64_t job;
  int http_status;
} rag_api__audit_line;
RAG_NODISCARD rag_status rag_api__audit_open(const rag_audit_options *options, rag_api__audit **out, rag_error *err);
void rag_api__audit_close(rag_api__audit *audit); // writes what waits, where that is possible
// Room for the line of a write that is about to begin. False: there is none, and the write must be refused. Each is
// followed by one _write with `reserved`, or by _release.
bool rag_api__audit_reserve(rag_api__audit *audit);
void rag_api__audit_release(rag_api__audit *audit);
// reserved: the line of a write; else of a refusal, which may be counted instead of written.
void rag_api__audit_write(rag_api__audit *audit, const rag_api__audit_line *line, bool reserved);

// ---------------------------------------------------------------------------------------------- dispatch (dispatch.c)

// Fills `name` of a request from text; a value that the body gave too must be the same.
RAG_NODISCARD rag_status rag_api__fill_field(ProtobufCMessage *message, rag_slice name, rag_slice value,
                                             const char *where, rag_arena *arena, rag_error *err);

struct rag_api__stream {
  rag_call *call;
  const char *content_type; // of the request, or NULL
  rag_slice kb;             // the path's parameter, or empty
  rag_slice query;          // raw
  rag_read_fn read;
  void *read_ctx;
  rag_write_fn write_raw; // by rag_api__stream_write
  void *write_ctx;
  bool begun; // out's head is with the door: an error is the stream's last line
  rag_api_response *out;
};
// Writes a part of the answer; content_type goes out with the first one.
RAG_NODISCARD rag_status rag_api__stream_write(rag_api__stream *stream, const char *content_type, rag_slice data,
                                               rag_error *err);
rag_status rag_api__stream_import(rag_api__stream *stream, rag_error *err);
rag_status rag_api__stream_export(rag_api__stream *stream, rag_error *err);
rag_status rag_api__stream_kbs_import(rag_api__stream *stream, rag_error *err);
typedef struct rag_api__stream_param { // for OpenAPI and for messages
  const char *name, *type, *summary;
} rag_api__stream_param;
// The query parameters of a stream.
const rag_api__stream_param *rag_api__stream_params(rag_stream_fn stream, size_t *out_count);

// ---------------------------------------------------------------------------------------------- handlers_common.c

#define API_LIMIT_DEFAULT 100u
#define API_CONFLICTS_SHOWN_MAX 1000u

// A new message in the call's arena, or NULL.
#define API_NEW(call, type) ((void *)rag_api__message_new(&ragd__v1__##type##__descriptor, (call)->arena))

// A NUL-terminated copy in the arena. Never NULL: without memory it is "" and the call fails later (out_of_memory).
char *rag_api__text(rag_call *call, rag_slice s);
char *rag_api__text_str(rag_call *call, const char *s);
char *rag_api__commit_text(rag_call *call, uint64_t commit); // "c42"
RAG_NODISCARD rag_status rag_api__new_array(rag_call *call, size_t count, size_t size, void *out, rag_error *err);
RAG_NODISCARD rag_status rag_api__limit(bool given, uint32_t limit, uint32_t *out, rag_error *err);
rag_write rag_api__write_of(const rag_call *call, const char *branch, const char *message, const char *author,
                            const char *expect_parent);
RAG_NODISCARD rag_status rag_api__commit_result(rag_call *call, const rag_write_result *result,
                                                ProtobufCMessage **response, rag_error *err);
// {"conflicts": [...], "total": n} into the call's details.
void rag_api__conflict_details(rag_call *call, const rag_strings *conflicts);
// "c42" -> 42. RAG_INVALID_ARGUMENT naming the field.
RAG_NODISCARD rag_status rag_api__commit_parse(const char *text, const char *field, uint64_t *out, rag_error *err);

// A page token is opaque to clients: what it goes on after, sealed with a checksum over the request it belongs to
// (kind, kb, ...), so that a token of another list or kb is refused instead of answered wrongly.
char *rag_api__page_token(rag_call *call, const char *kind, const char *kb, rag_slice position);
// *out: empty when the token is. RAG_INVALID_ARGUMENT.
RAG_NODISCARD rag_status rag_api__page_position(rag_call *call, const char *kind, const char *kb, const char *token,
                                                rag_slice *out, rag_error *err);

// handlers_kb.c
RAG_NODISCARD rag_status rag_api__kb_message(rag_call *call, rag_kb *kb, Ragd__V1__Kb **out, rag_error *err);
// handlers_documents.c
RAG_NODISCARD rag_status rag_api__document_input(rag_call *call, const Ragd__V1__DocumentInput *in,
                                                 rag_document_input *out, rag_error *err);

// search_request.c, search_answer.c: what the searches of handlers_search.c share.
typedef struct rag_api__search_call {
  rag_search search; // its want_ flags are what `include` names, with:
  bool scores, plan;
} rag_api__search_call;
// Borrows from `in`.
RAG_NODISCARD rag_status rag_api__search_of(rag_call *call, const Ragd__V1__SearchRequest *in,
                                            rag_api__search_call *out, rag_error *err);
// Searches. *out lies in the arena whole and borrows from nothing; out_commit may be NULL.
RAG_NODISCARD rag_status rag_api__search_run(rag_call *call, rag_kb *kb, const rag_api__search_call *search,
                                             Ragd__V1__SearchResponse **out, uint64_t *out_commit, rag_error *err);
// A request's `filter` (JSON text), in the arena. *out: NULL where it is empty.
RAG_NODISCARD rag_status rag_api__filter_of(rag_call *call, const char *text, const rag_filter **out, rag_error *err);

// handlers_versions.c: a JobStarted.
RAG_NODISCARD rag_status rag_api__answer_job(rag_call *call, uint64_t job, ProtobufCMessage **response,
                                             rag_error *err);
// handlers_backup.c: registers its kinds of jobs.
void rag_api__backup_jobs(rag_api *api);

// The rpcs.
#define API_HANDLER(name)                                                                                              \
  rag_status rag_api__##name(rag_call *call, const ProtobufCMessage *request, ProtobufCMessage **response,             \
                             rag_error *err)
API_HANDLER(create_kb);
API_HANDLER(get_kb);
API_HANDLER(list_kbs);
API_HANDLER(update_kb);
API_HANDLER(delete_kb);
API_HANDLER(get_index);
API_HANDLER(compact_index);
API_HANDLER(put_documents);
API_HANDLER(patch_document);
API_HANDLER(delete_document);
API_HANDLER(delete_documents);
API_HANDLER(get_document);
API_HANDLER(list_documents);
API_HANDLER(list_commits);
API_HANDLER(get_commit);
API_HANDLER(list_branches);
API_HANDLER(create_branch);
API_HANDLER(delete_branch);
API_HANDLER(list_tags);
API_HANDLER(create_tag);
API_HANDLER(delete_tag);
API_HANDLER(diff);
API_HANDLER(merge);
API_HANDLER(rollback);
API_HANDLER(gc);
API_HANDLER(purge);
API_HANDLER(search);
API_HANDLER(search_batch);
API_HANDLER(facets);
API_HANDLER(list_jobs);
API_HANDLER(get_job);
API_HANDLER(pause_job);
API_HANDLER(resume_job);
API_HANDLER(cancel_job);
API_HANDLER(create_key);
API_HANDLER(list_keys);
API_HANDLER(delete_key);
API_HANDLER(rotate_key);
API_HANDLER(get_status);
API_HANDLER(create_backup);
API_HANDLER(list_backups);
API_HANDLER(verify_backup);
API_HANDLER(delete_backup);
API_HANDLER(check);
rag_status rag_api__healthz(rag_call *call, rag_api_response *out, rag_error *err);
rag_status rag_api__readyz(rag_call *call, rag_api_response *out, rag_error *err);
rag_status rag_api__metrics(rag_call *call, rag_api_response *out, rag_error *err);
rag_status rag_api__openapi_json(rag_call *call, rag_api_response *out, rag_error *err);

#endif
