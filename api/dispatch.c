// One request, whatever door it came through: route -> authenticate, authorise -> decode -> handler -> encode ->
// answer.
//
// Invariants
//  1. rag_api_handle always answers, except that it says wants_worker to a caller that may_not_wait; then nothing was
//     done.
//  2. The role is checked on the route before the body is looked at; a key's kbs on the path's {kb} at the same time,
//  and
//     on the decoded request's kb field always, so RPC and REST cannot differ. Lists are filtered by their handlers.
//  3. A key's rate is counted once a request, by rag_api_admit, which a door asks before it reads a body; the bytes of a
//     write are counted when they are there. In process nothing is counted.
//  4. Every write that ran, and every refusal, has its line in the audit log (audit.c); a write that has no room for one
//     does not run.
//  5. What the response borrows from is let go only after it is encoded (rag_api__call_defer).
//
// Content types. REST takes application/json and application/x-protobuf (also application/protobuf, application/proto)
// and answers by Accept, else in the request's type; RPC takes application/json and application/proto and answers in
// kind. A body of another type, or of none, is refused (415) rather than guessed at: a web page can make a browser send
// text/plain and forms to a server on loopback without asking anybody, but not application/json. For the same reason a
// POST whose parameters are in the query must name its content type too. Errors are JSON always (errors.c).
//
// Threads: any; a request touches shared state only through kb/, store/ and the keys' cell. Before the handler a
// protobuf request allocates from its arena alone.
#include "api/dispatch_internal.h"

#include <stdio.h>
#include <strings.h>

#define TIMEOUT_MS_DIGITS_MAX 10u // of connect-timeout-ms, by Connect
#define AUDIT_RETRY_AFTER_S 5u

typedef enum format { FORMAT_NONE = 0, FORMAT_JSON = 1, FORMAT_PROTO = 2, FORMAT_OTHER = 3 } format;
#define TYPE_JSON "application/json"
#define TYPE_RPC_PROTO "application/proto"
#define TYPE_REST_PROTO "application/x-protobuf"

// ---------------------------------------------------------------------------------------------- content types

static bool type_is(rag_slice type, const char *name) {
  return type.size == strlen(name) && strncasecmp(type.data, name, type.size) == 0;
}

// The type before any ';' of one element of a header.
static rag_slice type_of(const char *text, size_t size) {
  size_t start = 0;
  while (start < size && (text[start] == ' ' || text[start] == '\t')) start++;
  size_t end = start;
  while (end < size && text[end] != ';' && text[end] != ' ' && text[end] != '\t') end++;
  return rag_slice_of(text + start, end - start);
}

static format format_of(rag_slice type, bool rpc) {
  if (type.size == 0) return FORMAT_NONE;
  if (type_is(type, TYPE_JSON)) return FORMAT_JSON;
  if (type_is(type, TYPE_RPC_PROTO)) return FORMAT_PROTO;
  if (!rpc && (type_is(type, TYPE_REST_PROTO) || type_is(type, "application/protobuf"))) return FORMAT_PROTO;
  return FORMAT_OTHER;
}

// q of "type;q=0.5" in thousandths; 1000 where it is not given.
static unsigned quality_of(const char *text, size_t size) {
  for (size_t i = 0; i + 2 < size; i++) {
    if (text[i] != ';') continue;
    size_t at = i + 1;
    while (at < size && text[at] == ' ') at++;
    if (at + 2 >= size || (text[at] != 'q' && text[at] != 'Q') || text[at + 1] != '=') continue;
    unsigned quality = text[at + 2] == '1' ? 1000 : 0, unit = 100;
    for (at += 4; at < size && text[at] >= '0' && text[at] <= '9' && unit; at++, unit /= 10)
      quality += (unsigned)(text[at] - '0') * unit;
    return RAG_MIN(quality, 1000u);
  }
  return 1000;
}

// What Accept likes best of what we have; what it does not rule on is the request's type.
static format format_accepted(const char *accept, format request) {
  format best = request;
  unsigned best_quality = 0;
  while (accept && *accept) {
    size_t size = strcspn(accept, ",");
    rag_slice type = type_of(accept, size);
    format offered = format_of(type, false);
    if (type_is(type, "*/*") || type_is(type, "application/*")) offered = request;
    unsigned quality = quality_of(accept, size);
    if ((offered == FORMAT_JSON || offered == FORMAT_PROTO) && quality > best_quality) {
      best = offered;
      best_quality = quality;
    }
    accept += size;
    if (*accept == ',') accept++;
  }
  return best;
}

// ---------------------------------------------------------------------------------------------- answers

// An error in the caller's shape; http_status 0: the code's own.
static void answer_error(const rag_error *err, rag_slice details, const rag_api__match *match, int http_status,
                         rag_arena *arena, rag_api_response *out) {
  rag_api__error_answer(err, details, match->rpc, arena, out);
  if (http_status) out->http_status = http_status;
  if (err->status == RAG_INTERNAL || err->status == RAG_DATA_LOSS || err->status == RAG_UNKNOWN)
    rag_log(RAG_LOG_ERROR, "request.failed", "route=%s code=%s message=%s", out->route, rag_api__code_name(err->status),
            err->message);
}

static int shown(rag_slice s) {
  return (int)rag_utf8_floor(s.data, s.size, RAG_MIN(s.size, (size_t)128));
}

static void answer_no_route(const rag_api_request *request, const rag_api__match *match, rag_arena *arena,
                            rag_api_response *out) {
  rag_error err = {0};
  int http_status;
  rag_slice path = {request->target, strcspn(request->target, "?#")};
  if (match->allow) {
    (void)rag_fail(&err, RAG_UNIMPLEMENTED, "%.16s is not allowed on %.*s; use %s", request->method, shown(path),
                   path.data, match->allow);
    http_status = 405;
    out->allow = match->allow;
  } else if (match->rpc) {
    // Connect clients take a 404 without a body they know for `unimplemented`; the body says the same.
    const char *names[128];
    size_t count = 0;
    for (size_t i = 0; i < rag_api__route_count && count < RAG_COUNT_OF(names); i++)
      if (rag_api__routes[i].rpc[0]) names[count++] = rag_api__routes[i].name;
    rag_slice name = {path.data + sizeof(API_RPC_PREFIX) - 1, path.size - (sizeof(API_RPC_PREFIX) - 1)};
    const char *nearest = rag_api__nearest(name, names, count);
    (void)rag_fail(&err, RAG_UNIMPLEMENTED, "there is no rpc %.*s%s%s%s", shown(path), path.data,
                   nearest ? "; did you mean " API_RPC_PREFIX : "", nearest ? nearest : "", nearest ? "?" : "");
    http_status = 404;
  } else {
    (void)rag_fail(&err, RAG_NOT_FOUND, "there is nothing at %.*s; GET /openapi.json lists every path", shown(path),
                   path.data);
    http_status = 404;
  }
  answer_error(&err, (rag_slice){0}, match, http_status, arena, out);
}

static void answer_begin(const rag_api__match *match, rag_api_response *out) {
  *out = (rag_api_response){.route = match->route ? match->route->name : "unknown"};
}

// ---------------------------------------------------------------------------------------------- who may

static rag_status authorize(rag_api *api, const rag_api_request *request, const rag_api__match *match, rag_arena *arena,
                            rag_api__principal *out, rag_error *err) {
  const rag_route *route = match->route;
  *out = (rag_api__principal){.role = RAG_ROLE_NONE};
  if (route->role == RAG_ROLE_NONE) return RAG_OK;
  rag_api__principal principal;
  rag_status status = rag_api__authenticate(api->keys, request->authorization, request->trusted, &principal, err);
  memcpy(out->key_id, principal.key_id, sizeof(out->key_id)); // also of a refused one, for the audit log
  if (status != RAG_OK) return status;
  if (principal.role < route->role)
    RAG_TRY_OUT(rag_fail(err, RAG_PERMISSION_DENIED, "%s needs the role '%s'; the API key '%s' has '%s'", route->name,
                         rag_api__role_name(route->role), principal.key_id, rag_api__role_name(principal.role)));
  for (uint32_t i = 0; principal.scope && i < match->param_count; i++) {
    bool kb = rag_slice_equal(match->params[i].name, rag_slice_str("kb"));
    if (!kb && !rag_slice_equal(match->params[i].name, rag_slice_str("view"))) continue;
    rag_slice name;
    RAG_TRY_OUT(rag_api__percent_decode(match->params[i].raw, false, match->params[i].name, arena, &name, err));
    RAG_TRY_OUT(kb ? rag_api__check_kb(&principal, name, err) : rag_api__check_view(&principal, name, err));
  }
  *out = principal;
  return RAG_OK;
out:
  rag_ref_drop(principal.pin);
  return status;
}

static bool is_write(const rag_route *route) {
  return route->role >= RAG_ROLE_WRITE && strcmp(route->method, "GET") != 0;
}

// One line where the outcome asks for one. reserved: of a write that had its turn; refused: at the door.
static void audit(const rag_call *call, const rag_api_request *request, const rag_api_response *out, bool reserved,
                  bool refused) {
  if (!call->api->audit) return;
  rag_api__audit_line line = {.request_id = request->request_id,
                              .key_id = call->principal.key_id,
                              .peer = request->peer,
                              .route = out->route,
                              .outcome = out->status == RAG_OK ? "ok" : rag_api__code_name(out->status),
                              .kb = call->kb,
                              .commit = call->commit,
                              .job = call->job,
                              .http_status = out->http_status};
  refused = refused || out->status == RAG_UNAUTHENTICATED || out->status == RAG_PERMISSION_DENIED;
  if (reserved || refused) rag_api__audit_write(call->api->audit, &line, reserved);
}

// The kb of the path, of a request that is refused before it is decoded.
static void note_path(rag_call *call, const rag_api__match *match, rag_arena *arena) {
  for (uint32_t i = 0; call->api->audit && i < match->param_count; i++)
    if (rag_slice_equal(match->params[i].name, rag_slice_str("kb")) &&
        rag_api__percent_decode(match->params[i].raw, false, match->params[i].name, arena, &call->kb, NULL) != RAG_OK)
      call->kb = (rag_slice){0};
}

// Room for the line of a write. *reserved: there is a log, and the line must be written or let go.
static rag_status audit_begin(rag_call *call, const rag_route *route, bool *reserved, rag_error *err) {
  if (!call->api->audit || !is_write(route)) return RAG_OK;
  *reserved = rag_api__audit_reserve(call->api->audit);
  if (*reserved) return RAG_OK;
  call->retry_after_s = AUDIT_RETRY_AFTER_S;
  return rag_fail(err, RAG_UNAVAILABLE,
                  "the audit log cannot be written, so no write is made; its disk may be full: see the server's log");
}

static rag_status charge(rag_call *call, uint64_t bytes, rag_error *err) {
  const rag_api__key *key = call->principal.key;
  if (!key || bytes == 0) return RAG_OK;
  rag_status status = rag_api__usage_charge(key, bytes, rag_clock_now_us(), &call->retry_after_s, err);
  if (status != RAG_OK) atomic_fetch_add_explicit(&rag_api__server.rejected_limit, 1, memory_order_relaxed);
  return status;
}

rag_status rag_api_admit(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_lane *lane,
                         rag_api_response *out) {
  rag_api__match match;
  rag_error err = {0};
  rag_call call = {.api = api};
  rag_api__route_match(request->method, request->target, &match);
  answer_begin(&match, out);
  if (!match.route) {
    answer_no_route(request, &match, arena, out);
    return out->status;
  }
  rag_status status = authorize(api, request, &match, arena, &call.principal, &err);
  if (status == RAG_OK && call.principal.key) {
    status = rag_api__usage_admit(call.principal.key, is_write(match.route), rag_clock_monotonic_ns(),
                                  rag_clock_now_us(), &call.retry_after_s, &err);
    if (status != RAG_OK) atomic_fetch_add_explicit(&rag_api__server.rejected_limit, 1, memory_order_relaxed);
  }
  if (status != RAG_OK) {
    answer_error(&err, (rag_slice){0}, &match, 0, arena, out);
    if (call.retry_after_s) out->retry_after_s = call.retry_after_s;
    note_path(&call, &match, arena);
    audit(&call, request, out, false, true);
    rag_ref_drop(call.principal.pin);
    return status;
  }
  rag_ref_drop(call.principal.pin);
  *lane = match.route->lane;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- decoding

// Whether the message has the field already, from its body: proto3's zero is absence.
static bool field_given(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field) {
  const char *base = (const char *)message;
  if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
    uint32_t set;
    memcpy(&set, base + field->quantifier_offset, sizeof(set));
    return set == field->id;
  }
  if (field->type == PROTOBUF_C_TYPE_STRING) {
    const char *text = *(char *const *)(base + field->offset);
    return text && text[0];
  }
  static const char zeros[sizeof(ProtobufCBinaryData)];
  return memcmp(base + field->offset, zeros, rag_api__field_size(field)) != 0;
}

static bool field_same(const ProtobufCFieldDescriptor *field, const void *a, const void *b) {
  if (field->type == PROTOBUF_C_TYPE_STRING) return strcmp(*(char *const *)a, *(char *const *)b) == 0;
  return memcmp(a, b, rag_api__field_size(field)) == 0;
}

// "include=text,plan": what fills a list comes as one text.
static rag_status fill_list(ProtobufCMessage *message, rag_slice name, rag_slice value, rag_arena *arena,
                            rag_error *err) {
  while (value.size) {
    const char *comma = memchr(value.data, ',', value.size);
    rag_slice piece = {value.data, comma ? (size_t)(comma - value.data) : value.size};
    if (piece.size) RAG_TRY(rag_api__field_from_text(message, name, piece, arena, err));
    size_t step = comma ? piece.size + 1 : piece.size;
    value = rag_slice_of(value.data + step, value.size - step);
  }
  return RAG_OK;
}

rag_status rag_api__fill_field(ProtobufCMessage *message, rag_slice name, rag_slice value, const char *where,
                               rag_arena *arena, rag_error *err) {
  const ProtobufCFieldDescriptor *field = rag_api__field_find(message->descriptor, name);
  if (!field || field->type == PROTOBUF_C_TYPE_MESSAGE) { // one has no text: it goes into the body
    const char *names[64];
    size_t count = 0;
    for (unsigned i = 0; i < message->descriptor->n_fields && count < RAG_COUNT_OF(names); i++)
      if (message->descriptor->fields[i].type != PROTOBUF_C_TYPE_MESSAGE)
        names[count++] = message->descriptor->fields[i].name;
    const char *nearest = rag_api__nearest(name, names, count);
    char quoted[RAG_ERROR_FIELD_MAX];
    snprintf(quoted, sizeof(quoted), "%.*s", shown(name), name.data);
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, quoted, "unknown %s parameter '%s'%s%s%s", where, quoted,
                          nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
  }
  if (field->label == PROTOBUF_C_LABEL_REPEATED) return fill_list(message, name, value, arena, err);
  char before[sizeof(ProtobufCBinaryData)];
  char *member = (char *)message + field->offset;
  bool given = field_given(message, field);
  memcpy(before, member, rag_api__field_size(field));
  RAG_TRY(rag_api__field_from_text(message, name, value, arena, err));
  if (given && !field_same(field, before, member))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field->name,
                          "%s: given twice with different values, once in the %s; give it once", field->name, where);
  return RAG_OK;
}

static rag_status fill_from_target(const rag_api__match *match, ProtobufCMessage *message, rag_arena *arena,
                                   rag_error *err) {
  for (uint32_t i = 0; i < match->param_count; i++) {
    rag_slice value;
    RAG_TRY(rag_api__percent_decode(match->params[i].raw, false, match->params[i].name, arena, &value, err));
    RAG_TRY(rag_api__fill_field(message, match->params[i].name, value, "path", arena, err));
  }
  rag_slice rest = match->query;
  rag_api__param param;
  for (unsigned count = 0; rag_api__query_next(&rest, &param); count++) {
    rag_slice name, value;
    if (count == API_QUERY_PARAMS_MAX)
      return rag_fail(err, RAG_INVALID_ARGUMENT, "the query has over %u parameters; send them in the body",
                      API_QUERY_PARAMS_MAX);
    RAG_TRY(rag_api__percent_decode(param.name, true, rag_slice_str("query"), arena, &name, err));
    RAG_TRY(rag_api__percent_decode(param.raw, true, name, arena, &value, err));
    RAG_TRY(rag_api__fill_field(message, name, value, "query", arena, err));
  }
  return RAG_OK;
}

static rag_status decode_body(const rag_route *route, rag_slice body, format type, rag_arena *arena,
                              ProtobufCMessage **out, rag_error *err) {
  if (type == FORMAT_PROTO) return rag_api__proto_decode(route->request, body, arena, out, err);
  if (body.size == 0) {
    *out = rag_api__message_new(route->request, arena);
    return *out ? RAG_OK : rag_fail_no_memory(err, route->request->sizeof_message);
  }
  rag_json_parser *parser = rag_json_parser_acquire();
  if (!parser) return rag_fail_no_memory(err, 1);
  rag_json value;
  rag_status status = rag_json_parse(parser, body, &value, err);
  if (status == RAG_OK) status = rag_api__json_decode(route->request, value, arena, out, err);
  rag_json_parser_release(parser);
  return status;
}

// The types of the body and of the answer. RAG_INVALID_ARGUMENT: answer 415.
static rag_status negotiate(const rag_api_request *request, const rag_api__match *match, format *body_type,
                            format *answer_type, rag_error *err) {
  const char *text = request->content_type ? request->content_type : "";
  format type = format_of(type_of(text, strlen(text)), match->rpc);
  bool reads = strcmp(match->route->method, "GET") == 0 && !match->rpc;
  bool must_name = request->body.size || (!reads && match->query.size && strcmp(request->method, "POST") == 0);
  if (type == FORMAT_OTHER && reads && request->body.size == 0) type = FORMAT_NONE;
  if (type == FORMAT_OTHER || (type == FORMAT_NONE && (must_name || match->rpc) && !request->trusted))
    return rag_fail(err, RAG_INVALID_ARGUMENT, "Content-Type '%.64s' is not taken here; send " TYPE_JSON " or %s", text,
                    match->rpc ? TYPE_RPC_PROTO : TYPE_REST_PROTO);
  if (type == FORMAT_NONE) type = FORMAT_JSON;
  *body_type = type;
  *answer_type = match->rpc ? type : format_accepted(request->accept, type);
  return RAG_OK;
}

static rag_status deadline_of(const rag_api_request *request, uint64_t *out, rag_error *err) {
  *out = request->deadline_ns;
  const char *text = request->timeout_ms;
  if (!text || !text[0]) return RAG_OK;
  uint64_t ms = 0;
  size_t size = strspn(text, "0123456789");
  if (text[size] || size > TIMEOUT_MS_DIGITS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "connect-timeout-ms",
                          "connect-timeout-ms: '%.32s' is no number of milliseconds of at most %u digits", text,
                          TIMEOUT_MS_DIGITS_MAX);
  for (size_t i = 0; i < size; i++) ms = ms * 10 + (uint64_t)(text[i] - '0');
  uint64_t end_ns = rag_clock_monotonic_ns() + ms * UINT64_C(1000000);
  *out = request->deadline_ns ? RAG_MIN(request->deadline_ns, end_ns) : end_ns;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the call

void rag_api__call_defer(rag_call *call, void (*fn)(void *), void *arg) {
  size_t i = 0;
  while (i < RAG_COUNT_OF(call->unpin) && call->unpin[i]) i++;
  RAG_ASSERT(i < RAG_COUNT_OF(call->unpin)); // a call defers at most 4 things
  call->unpin[i] = fn;
  call->unpin_arg[i] = arg;
}

void rag_api__call_plan(rag_call *call, const rag_search_plan *plan) {
  if (call->api->slow_query_ns == 0) return;
  if (call->plan && call->plan->vector.candidates >= plan->vector.candidates) return;
  rag_search_plan *copy = rag_arena_alloc(call->arena, sizeof(*copy));
  if (!copy) return; // a line of the log less
  *copy = *plan;
  call->plan = copy;
}

static void call_end(rag_call *call) {
  for (size_t i = RAG_COUNT_OF(call->unpin); i-- > 0;)
    if (call->unpin[i]) call->unpin[i](call->unpin_arg[i]);
  for (size_t i = 0; i < RAG_COUNT_OF(call->pins); i++) rag_ref_drop(call->pins[i]);
  rag_ref_drop(call->principal.pin);
  rag_buf_free(call->details);
}

static rag_status call_identity(rag_call *call, const rag_api_request *request, const rag_api__match *match,
                                rag_error *err) {
  if (!request->idempotency_key) return RAG_OK;
  call->idempotency_key = rag_slice_str(request->idempotency_key);
  if (call->idempotency_key.size == 0 || call->idempotency_key.size > RAG_IDEMPOTENCY_KEY_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "Idempotency-Key", "Idempotency-Key: must have 1 to %u bytes",
                          RAG_IDEMPOTENCY_KEY_BYTES_MAX);
  rag_digest_state state;
  rag_digest_init(&state);
  rag_digest_update_bytes(&state, rag_slice_str(match->route->name));
  for (uint32_t i = 0; i < match->param_count; i++) rag_digest_update_bytes(&state, match->params[i].raw);
  rag_digest_update_bytes(&state, match->query);
  rag_digest_update_bytes(&state, request->body);
  call->request_digest = rag_digest_final(&state);
  return RAG_OK;
}

// The text of a string field; empty where the message has none of that name.
static bool text_of(const ProtobufCMessage *message, const char *name, rag_slice *out) {
  const ProtobufCFieldDescriptor *field = rag_api__field_find(message->descriptor, rag_slice_str(name));
  *out = (rag_slice){0};
  if (!field || field->type != PROTOBUF_C_TYPE_STRING || field->label == PROTOBUF_C_LABEL_REPEATED) return false;
  *out = rag_slice_str(*(char *const *)((const char *)message + field->offset));
  return true;
}

static rag_status check_scope(rag_call *call, const ProtobufCMessage *message, rag_error *err) {
  rag_slice view;
  bool has_kb = text_of(message, "kb", &call->kb);
  if (!call->principal.scope) return RAG_OK;
  if (has_kb) RAG_TRY(rag_api__check_kb(&call->principal, call->kb, err));
  if (text_of(message, "view", &view)) RAG_TRY(rag_api__check_view(&call->principal, view, err));
  return RAG_OK;
}

static rag_status encode(const ProtobufCMessage *message, format type, bool rpc, rag_arena *arena,
                         rag_api_response *out, rag_error *err) {
  if (type == FORMAT_PROTO) {
    RAG_TRY(rag_api__proto_encode(message, arena, &out->body, err));
    out->content_type = rpc ? TYPE_RPC_PROTO : TYPE_REST_PROTO;
    return RAG_OK;
  }
  rag_buf text = {0};
  rag_status status = rag_api__json_encode(message, &text, err);
  if (status == RAG_OK) {
    char *copy = rag_arena_strndup(arena, text.data, text.size);
    if (copy) out->body = rag_slice_of(copy, text.size);
    else status = rag_fail_no_memory(err, text.size);
  }
  rag_buf_free(&text);
  out->content_type = TYPE_JSON;
  return status;
}

// What a write did, for the audit log.
static void note_result(rag_call *call, const ProtobufCMessage *message, const ProtobufCMessage *response) {
  if (!call->api->audit) return;
  (void)text_of(response, "commit", &call->commit);
  const ProtobufCFieldDescriptor *job = rag_api__field_find(response->descriptor, rag_slice_str("job"));
  if (job && job->type == PROTOBUF_C_TYPE_UINT64)
    memcpy(&call->job, (const char *)response + job->offset, sizeof(call->job));
  if (message->descriptor == &ragd__v1__create_kb_request__descriptor) (void)text_of(message, "name", &call->kb);
}

// Decode, handle, encode. *http_status: an error's, where it is not its code's own.
static rag_status run_rpc(rag_call *call, const rag_api_request *request, const rag_api__match *match, int *http_status,
                          rag_api_response *out, rag_error *err) {
  format body_type = FORMAT_NONE, answer_type = FORMAT_NONE;
  ProtobufCMessage *message = NULL, *response = NULL;
  rag_status status = negotiate(request, match, &body_type, &answer_type, err);
  if (status != RAG_OK) {
    *http_status = 415;
    return status;
  }
  RAG_TRY(decode_body(match->route, request->body, body_type, call->arena, &message, err));
  if (match->param_count || match->query.size) RAG_TRY(fill_from_target(match, message, call->arena, err));
  RAG_TRY(check_scope(call, message, err));
  if (call->deadline_ns && rag_clock_monotonic_ns() >= call->deadline_ns)
    return rag_fail(err, RAG_DEADLINE_EXCEEDED, "the request's time was over before its turn came");
  RAG_TRY(match->route->handler(call, message, &response, err));
  if (call->out_of_memory) return rag_fail_no_memory(err, 1);
  note_result(call, message, response);
  return encode(response, answer_type, match->rpc, call->arena, out, err);
}

// A search that took long, with the numbers of its plan: what it had to look at, and where the time went.
static void log_slow(const rag_call *call, const rag_api_request *request, const rag_api_response *out,
                     uint64_t began_ns) {
  const rag_search_plan *p = call->plan;
  uint64_t took_ns = rag_clock_monotonic_ns() - began_ns;
  if (!p || call->api->slow_query_ns == 0 || took_ns < call->api->slow_query_ns) return;
  rag_log(RAG_LOG_WARN, "search.slow",
          "took_us=%llu route=%s kb=%.*s request_id=%s key=%s engine=%s candidates=%llu segments=%u selectivity=%.6f "
          "documents=%llu chunks=%llu chunks_matched=%llu fused=%u filter_us=%llu embed_us=%llu vector_us=%llu "
          "lexical_us=%llu rank_us=%llu fetch_us=%llu",
          (unsigned long long)(took_ns / 1000), out->route, shown(call->kb), call->kb.data,
          request->request_id ? request->request_id : "", call->principal.key_id,
          p->vector.engine ? p->vector.engine : "none", (unsigned long long)p->vector.candidates, p->vector.segments,
          p->selectivity, (unsigned long long)p->documents, (unsigned long long)p->chunks,
          (unsigned long long)p->chunks_matched, p->fused, (unsigned long long)(p->filter_ns / 1000),
          (unsigned long long)(p->embed_ns / 1000), (unsigned long long)(p->vector_ns / 1000),
          (unsigned long long)(p->lexical_ns / 1000), (unsigned long long)(p->rank_ns / 1000),
          (unsigned long long)(p->fetch_ns / 1000));
}

void rag_api_handle(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_api_response *out) {
  rag_api__match match;
  rag_error err = {0};
  rag_buf details = {0};
  int http_status = 0;
  bool reserved = false;
  rag_call call = {.api = api, .arena = arena, .details = &details, .may_not_wait = request->may_not_wait};
  uint64_t began_ns = api->slow_query_ns ? rag_clock_monotonic_ns() : 0;
  rag_api__route_match(request->method, request->target, &match);
  answer_begin(&match, out);
  if (!match.route) {
    answer_no_route(request, &match, arena, out);
    return;
  }
  note_path(&call, &match, arena);
  rag_status status = authorize(api, request, &match, arena, &call.principal, &err);
  if (status == RAG_OK) status = audit_begin(&call, match.route, &reserved, &err);
  if (status == RAG_OK && is_write(match.route)) status = charge(&call, request->body.size, &err);
  if (status == RAG_OK) status = deadline_of(request, &call.deadline_ns, &err);
  if (status == RAG_OK) status = call_identity(&call, request, &match, &err);
  if (status == RAG_OK) {
    if (match.route->handler) status = run_rpc(&call, request, &match, &http_status, out, &err);
    else if (match.route->plain) status = match.route->plain(&call, out, &err);
    else status = rag_fail(&err, RAG_UNIMPLEMENTED, "%s is a stream; its door must not buffer it", match.route->name);
  }
  if (call.wants_worker) {
    out->wants_worker = true;
  } else if (status != RAG_OK) {
    err.status = status;
    answer_error(&err, rag_buf_slice(&details), &match, http_status, arena, out);
    if (call.retry_after_s) out->retry_after_s = call.retry_after_s;
  } else if (out->http_status == 0) {
    out->http_status = 200;
  }
  if (!call.wants_worker) {
    audit(&call, request, out, reserved, false);
    log_slow(&call, request, out, began_ns);
  } else if (reserved) {
    rag_api__audit_release(api->audit);
  }
  call_end(&call);
}

// ---------------------------------------------------------------------------------------------- streams

rag_status rag_api__stream_write(rag_api__stream *stream, const char *content_type, rag_slice data, rag_error *err) {
  if (!stream->begun) {
    stream->out->http_status = 200;
    stream->out->content_type = content_type;
    stream->begun = true;
  }
  return stream->write_raw(stream->write_ctx, data.data, data.size, err);
}

typedef struct charged_body { // of a stream: each part counts for the key's quota when it is there
  rag_call *call;
  rag_read_fn read;
  void *read_ctx;
} charged_body;

static rag_status charged_read(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  charged_body *body = ctx;
  RAG_TRY(body->read(body->read_ctx, data, size, out_size, err));
  return charge(body->call, *out_size, err);
}

void rag_api_stream(rag_api *api, const rag_api_request *request, rag_arena *arena, rag_read_fn read, void *read_ctx,
                    rag_write_fn write, void *write_ctx, rag_api_response *out) {
  rag_api__match match;
  rag_error err = {0};
  rag_buf details = {0};
  bool reserved = false;
  rag_call call = {.api = api, .arena = arena, .details = &details};
  charged_body body = {&call, read, read_ctx};
  rag_api__stream stream = {.call = &call,
                            .content_type = request->content_type,
                            .read = charged_read,
                            .read_ctx = &body,
                            .write_raw = write,
                            .write_ctx = write_ctx,
                            .out = out};
  rag_api__route_match(request->method, request->target, &match);
  answer_begin(&match, out);
  if (!match.route) {
    answer_no_route(request, &match, arena, out);
    return;
  }
  stream.query = match.query;
  rag_status status = authorize(api, request, &match, arena, &call.principal, &err);
  if (status == RAG_OK) status = audit_begin(&call, match.route, &reserved, &err);
  if (status == RAG_OK) status = deadline_of(request, &call.deadline_ns, &err);
  if (status == RAG_OK) status = call_identity(&call, request, &match, &err);
  if (status == RAG_OK && match.param_count)
    status = rag_api__percent_decode(match.params[0].raw, false, match.params[0].name, arena, &stream.kb, &err);
  if (status == RAG_OK) {
    if (match.route->stream) status = match.route->stream(&stream, &err);
    else status = rag_fail(&err, RAG_INTERNAL, "%s is not a stream", match.route->name);
  }
  if (status == RAG_OK && call.out_of_memory) status = rag_fail_no_memory(&err, 1);
  err.status = status;
  if (status != RAG_OK && !stream.begun) {
    answer_error(&err, rag_buf_slice(&details), &match, 0, arena, out);
    if (call.retry_after_s) out->retry_after_s = call.retry_after_s;
  } else {
    out->status = status; // the head is out: the stream has said what it could, the door cuts the connection
  }
  if (stream.kb.size) call.kb = stream.kb;
  audit(&call, request, out, reserved, false);
  call_end(&call);
}
