// Error answers: Connect's codes and HTTP statuses, in the shape that the caller's protocol wants.
//
// REST   {"code": "not_found", "message": "...", "details": {"field": "kb", ...}}       details only where there are
// any RPC    {"code": "not_found", "message": "...", "details": [{"type": "google.protobuf.Struct", "value":
// "<base64>",
//         "debug": {"field": "kb", ...}}]}
//
// Connect's details are protobuf messages. Ours are JSON objects, so they travel as the well-known message that holds
// one, encoded here by hand (it is recursive, and recursive messages are kept away from protobuf-c's parser); `debug`
// repeats them as JSON for people and for clients without protobuf.
//
// Errors are JSON for every caller, also for those that sent protobuf: Connect asks for it, and one shape is enough.
#include "api/dispatch_internal.h"

#include <stdio.h>

typedef struct code {
  const char *name;
  int http_status;
} code;
static const code codes[] = {
    // Connect's table, https://connectrpc.com/docs/protocol#error-codes; data_loss too.
    [RAG_OK] = {"ok", 200},
    [RAG_CANCELLED] = {"canceled", 499},
    [RAG_UNKNOWN] = {"unknown", 500},
    [RAG_INVALID_ARGUMENT] = {"invalid_argument", 400},
    [RAG_DEADLINE_EXCEEDED] = {"deadline_exceeded", 504},
    [RAG_NOT_FOUND] = {"not_found", 404},
    [RAG_ALREADY_EXISTS] = {"already_exists", 409},
    [RAG_PERMISSION_DENIED] = {"permission_denied", 403},
    [RAG_RESOURCE_EXHAUSTED] = {"resource_exhausted", 429},
    [RAG_FAILED_PRECONDITION] = {"failed_precondition", 400},
    [RAG_ABORTED] = {"aborted", 409},
    [RAG_OUT_OF_RANGE] = {"out_of_range", 400},
    [RAG_UNIMPLEMENTED] = {"unimplemented", 501},
    [RAG_INTERNAL] = {"internal", 500},
    [RAG_UNAVAILABLE] = {"unavailable", 503},
    [RAG_DATA_LOSS] = {"data_loss", 500},
    [RAG_UNAUTHENTICATED] = {"unauthenticated", 401},
};
#define RETRY_AFTER_S 1u // what sheds load here (queues, budgets) drains within a second or stays full for long

static const code *code_of(rag_status status) {
  return (unsigned)status < RAG_COUNT_OF(codes) ? &codes[status] : &codes[RAG_UNKNOWN];
}

const char *rag_api__code_name(rag_status status) {
  return code_of(status)->name;
}

int rag_api__http_status(rag_status status) {
  return code_of(status)->http_status;
}

// ---------------------------------------------------------------------------------------------- names for people

const char *rag_api__nearest(rag_slice name, const char *const *names, size_t count) {
  const char *best = NULL;
  unsigned best_distance = (unsigned)RAG_MIN(name.size / 2 + 1, (size_t)8); // farther ones are other words
  for (size_t i = 0; i < count; i++) {
    unsigned distance = rag_edit_distance(name, rag_slice_str(names[i]));
    if (distance >= best_distance) continue;
    best = names[i];
    best_distance = distance;
  }
  return best;
}

rag_status rag_api__fail_choice(rag_error *err, const char *field, rag_slice got, const char *const *names,
                                size_t count) {
  char list[256] = "";
  for (size_t i = 0; i < count; i++) {
    size_t used = strlen(list);
    snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", names[i]);
  }
  const char *nearest = rag_api__nearest(got, names, count);
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: '%.*s' is none of %s%s%s%s", field,
                        (int)RAG_MIN(got.size, (size_t)64), got.data, list, nearest ? "; did you mean '" : "",
                        nearest ? nearest : "", nearest ? "'?" : "");
}

// ---------------------------------------------------------------------------------------------- google.protobuf.Struct

// Struct { map<string, Value> fields = 1; }  an entry: { string key = 1; Value value = 2; }
// Value  { oneof: NullValue null = 1; double number = 2; string string = 3; bool bool = 4; Struct = 5; ListValue = 6; }
// ListValue { repeated Value values = 1; }
// Depth is bounded by RAG_JSON_DEPTH_MAX: the value came out of the parser.
static void struct_value(rag_json value, rag_buf *out);

static void length_prefixed(rag_buf *out, uint8_t tag, const rag_buf *body) {
  rag_buf_append_u8(out, tag);
  rag_buf_append_bytes(out, rag_buf_slice(body));
  if (body->failed) out->failed = true;
}

static void struct_members(rag_json container, bool object, rag_buf *out) {
  rag_json_iter it = rag_json_iter_of(container);
  while (rag_json_iter_next(&it)) {
    rag_buf value = {0}, entry = {0};
    struct_value(it.value, &value);
    if (object) {
      rag_buf_append_u8(&entry, 0x0a);
      rag_buf_append_bytes(&entry, it.name);
      length_prefixed(&entry, 0x12, &value);
    }
    length_prefixed(out, 0x0a, object ? &entry : &value);
    rag_buf_free(&value);
    rag_buf_free(&entry);
  }
}

static void struct_value(rag_json value, rag_buf *out) {
  rag_buf inner = {0};
  switch (rag_json_type_of(value)) {
  case RAG_JSON_NULL:
    rag_buf_append(out, "\x08\x00", 2);
    break;
  case RAG_JSON_BOOL:
    rag_buf_append_u8(out, 0x20);
    rag_buf_append_u8(out, rag_json_bool(value));
    break;
  case RAG_JSON_INT:
  case RAG_JSON_UINT:
  case RAG_JSON_DOUBLE: {
    double number = rag_json_double(value);
    uint64_t bits;
    memcpy(&bits, &number, sizeof(bits));
    rag_buf_append_u8(out, 0x11);
    rag_buf_append_u64le(out, bits);
    break;
  }
  case RAG_JSON_STRING:
    rag_buf_append_u8(out, 0x1a);
    rag_buf_append_bytes(out, rag_json_string(value));
    break;
  case RAG_JSON_ARRAY:
    struct_members(value, false, &inner);
    length_prefixed(out, 0x32, &inner);
    break;
  case RAG_JSON_OBJECT:
    struct_members(value, true, &inner);
    length_prefixed(out, 0x2a, &inner);
    break;
  }
  rag_buf_free(&inner);
}

static void base64_unpadded(rag_slice bytes, rag_buf *out) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t at = 0; at < bytes.size; at += 3) {
    size_t left = RAG_MIN(bytes.size - at, (size_t)3);
    const unsigned char *p = (const unsigned char *)bytes.data + at;
    uint32_t group = (uint32_t)p[0] << 16 | (left > 1 ? (uint32_t)p[1] << 8 : 0) | (left > 2 ? p[2] : 0u);
    for (size_t i = 0; i <= left; i++) rag_buf_append_char(out, letters[group >> (18 - 6 * i) & 63]);
  }
}

static void connect_details(rag_slice details, rag_buf *out) {
  rag_json_parser *parser = rag_json_parser_acquire();
  rag_buf message = {0};
  rag_json value;
  if (parser && rag_json_parse(parser, details, &value, NULL) == RAG_OK && rag_json_type_of(value) == RAG_JSON_OBJECT) {
    struct_members(value, true, &message);
    rag_buf_append_str(out, ",\"details\":[{\"type\":\"google.protobuf.Struct\",\"value\":\"");
    base64_unpadded(rag_buf_slice(&message), out);
    rag_buf_append_str(out, "\",\"debug\":");
    rag_buf_append(out, details.data, details.size);
    rag_buf_append_str(out, "}]");
  }
  rag_buf_free(&message);
  if (parser) rag_json_parser_release(parser);
}

// ---------------------------------------------------------------------------------------------- the answer

// The field joins the details: {"field": "k"} or {"field": "k", ...}.
static void all_details(const rag_error *err, rag_slice details, rag_buf *out) {
  bool any = details.size > 2;
  if (!any && !err->field[0]) return;
  rag_buf_append_char(out, '{');
  if (err->field[0]) {
    rag_buf_append_str(out, "\"field\":");
    rag_json_put_string(out, rag_slice_str(err->field));
    if (any) rag_buf_append_char(out, ',');
  }
  if (any) rag_buf_append(out, details.data + 1, details.size - 1);
  else rag_buf_append_char(out, '}');
}

// Messages quote what clients sent; a cut inside a character must not spoil the answer.
static void put_text(rag_buf *out, const char *text) {
  size_t size = strlen(text);
  size_t valid = rag_utf8_bad_offset(text, size);
  rag_json_put_string(out, rag_slice_of(text, valid));
}

void rag_api__error_answer(const rag_error *err, rag_slice details, bool rpc, rag_arena *arena, rag_api_response *out) {
  rag_status status = err->status == RAG_OK ? RAG_INTERNAL : err->status;
  rag_buf body = {0}, all = {0};
  rag_buf_append_str(&body, "{\"code\":\"");
  rag_buf_append_str(&body, rag_api__code_name(status));
  rag_buf_append_str(&body, "\",\"message\":");
  put_text(&body, err->message[0] ? err->message : "the request failed and nothing more is known; see the log");
  all_details(err, details, &all);
  if (all.size && !all.failed) {
    if (rpc) {
      connect_details(rag_buf_slice(&all), &body);
    } else {
      rag_buf_append_str(&body, ",\"details\":");
      rag_buf_append(&body, all.data, all.size);
    }
  }
  rag_buf_append_char(&body, '}');

  char *copy = body.failed ? NULL : rag_arena_strndup(arena, body.data, body.size);
  out->http_status = rag_api__http_status(status);
  out->content_type = "application/json";
  out->body = copy ? rag_slice_of(copy, body.size)
                   : rag_slice_str("{\"code\":\"resource_exhausted\",\"message\":\"out of memory\"}");
  out->status = status;
  out->retry_after_s = status == RAG_RESOURCE_EXHAUSTED ? RETRY_AFTER_S : 0;
  rag_buf_free(&body);
  rag_buf_free(&all);
}
