// What the codecs share: what a field's name and type say about its form, places in a request for error messages, the
// bound on decoded messages, inline JSON.
//
// Threads: pure functions.
#include "api/api_internal.h"

#include <stdio.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vectors on the wire are little-endian f32, used in place");

// ------------------------------------------------------------------------------------------------------------- bounds

// Per byte of body: a request of many four-letter ids, the densest that anybody means, takes 16 (protobuf-c's scratch,
// a pointer and an aligned string for 6 bytes of wire); empty messages in a list, which nobody means, would take
// over 60.
#define MESSAGE_EXPANSION_MAX 24u
#define MESSAGE_BYTES_FREE ((size_t)1 << 20) // small bodies are never refused
#define MESSAGE_BYTES_MAX ((size_t)512 << 20)
_Static_assert(MESSAGE_EXPANSION_MAX <= RAG_API_MESSAGE_EXPANSION_MAX, "api.h promises less");

size_t rag_api__message_bytes_max(size_t body_bytes) {
  size_t bytes;
  if (rag_mul_overflows(body_bytes, MESSAGE_EXPANSION_MAX, &bytes)) return MESSAGE_BYTES_MAX;
  return RAG_MIN(bytes, MESSAGE_BYTES_MAX - MESSAGE_BYTES_FREE) + MESSAGE_BYTES_FREE;
}

// ------------------------------------------------------------------------------------------------------------- fields

static bool name_is(const ProtobufCFieldDescriptor *field, const char *name) {
  return strcmp(field->name, name) == 0;
}

bool rag_api__field_is_json(const ProtobufCFieldDescriptor *field) {
  if (field->type != PROTOBUF_C_TYPE_STRING) return false;
  switch (field->name[0]) { // most fields are told apart by one letter; this runs for every field of every message
  case 'm':
    return name_is(field, "metadata");
  case 'f':
    return name_is(field, "filter");
  case 'c':
    return name_is(field, "chunk_metadata");
  case 'r':
    return name_is(field, "result");
  case 'd':
    return name_is(field, "details");
  case 'v':
    return name_is(field, "value");
  default:
    return false;
  }
}

bool rag_api__field_is_time(const ProtobufCFieldDescriptor *field) {
  if (field->type != PROTOBUF_C_TYPE_INT64) return false;
  size_t size = strlen(field->name);
  return (size > 3 && memcmp(field->name + size - 3, "_at", 3) == 0) || name_is(field, "time");
}

bool rag_api__field_is_vector(const ProtobufCFieldDescriptor *field) {
  return field->type == PROTOBUF_C_TYPE_BYTES && name_is(field, "vector");
}

size_t rag_api__field_size(const ProtobufCFieldDescriptor *field) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_INT64:
  case PROTOBUF_C_TYPE_SINT64:
  case PROTOBUF_C_TYPE_SFIXED64:
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
  case PROTOBUF_C_TYPE_DOUBLE:
    return 8;
  case PROTOBUF_C_TYPE_BOOL:
    return sizeof(protobuf_c_boolean);
  case PROTOBUF_C_TYPE_STRING:
    return sizeof(char *);
  case PROTOBUF_C_TYPE_BYTES:
    return sizeof(ProtobufCBinaryData);
  case PROTOBUF_C_TYPE_MESSAGE:
    return sizeof(ProtobufCMessage *);
  default:
    return 4;
  }
}

const ProtobufCFieldDescriptor *rag_api__field_find(const ProtobufCMessageDescriptor *descriptor, rag_slice name) {
  unsigned low = 0, high = descriptor->n_fields;
  while (low < high) {
    unsigned middle = low + (high - low) / 2;
    const ProtobufCFieldDescriptor *field = &descriptor->fields[descriptor->fields_sorted_by_name[middle]];
    int order = rag_slice_compare(name, rag_slice_str(field->name));
    if (order == 0) return field;
    if (order < 0) high = middle;
    else low = middle + 1;
  }
  return NULL;
}

ProtobufCMessage *rag_api__message_new(const ProtobufCMessageDescriptor *descriptor, rag_arena *arena) {
  ProtobufCMessage *message = rag_arena_alloc(arena, descriptor->sizeof_message);
  if (message) descriptor->message_init(message);
  return message;
}

// ------------------------------------------------------------------------------------------------------------- places

// Recursion is bounded by the depth of messages and of JSON.
void rag_api__place_text(const rag_api__place *place, char out[RAG_ERROR_FIELD_MAX]) {
  if (!place) {
    out[0] = '\0';
    return;
  }
  rag_api__place_text(place->up, out);
  size_t used = strlen(out);
  size_t left = RAG_ERROR_FIELD_MAX - used;
  if (!place->name.data) {
    snprintf(out + used, left, "[%zu]", place->index);
    return;
  }
  size_t dot = used ? 1 : 0;
  size_t room = left > dot + 1 ? left - dot - 1 : 0;
  size_t shown = rag_utf8_floor(place->name.data, place->name.size, RAG_MIN(place->name.size, room));
  snprintf(out + used, left, "%s%.*s", dot ? "." : "", (int)shown, place->name.data);
}

rag_status rag_api__fail_at(rag_error *err, rag_status status, const rag_api__place *place, const char *fmt, ...) {
  char path[RAG_ERROR_FIELD_MAX];
  char text[RAG_ERROR_MESSAGE_MAX];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  rag_api__place_text(place, path);
  return rag_fail_field(err, status, path, "%s: %s", path[0] ? path : "the request", text);
}

// ------------------------------------------------------------------------------------------------------------- vectors

rag_status rag_api__vector_check(const uint8_t *data, size_t size, const rag_api__place *place, rag_error *err) {
  if (size % sizeof(float))
    return rag_api__fail_at(err, RAG_INVALID_ARGUMENT, place,
                            "%zu bytes are no vector: little-endian 32-bit floats take 4 bytes each", size);
  // No early exit, so that a compiler makes vector instructions of it.
  uint32_t bad = 0;
  for (size_t at = 0; at < size; at += sizeof(float)) {
    uint32_t bits;
    memcpy(&bits, data + at, sizeof(bits));
    bad |= (uint32_t)((bits & 0x7F800000u) == 0x7F800000u);
  }
  if (!bad) return RAG_OK;
  rag_api__place element = {.up = place};
  for (uint32_t bits = 0;; element.index++) {
    memcpy(&bits, data + element.index * sizeof(bits), sizeof(bits));
    if ((bits & 0x7F800000u) == 0x7F800000u) break;
  }
  return rag_api__fail_at(err, RAG_INVALID_ARGUMENT, &element, "is NaN or infinite; send finite numbers");
}

// -------------------------------------------------------------------------------------------------------- inline JSON

rag_status rag_api__inline_json(const ProtobufCFieldDescriptor *field, rag_json value, const rag_api__place *place,
                                rag_arena *arena, rag_slice *out, rag_error *err) {
  rag_json_type type = rag_json_type_of(value);
  bool is_object = name_is(field, "metadata") || name_is(field, "filter");
  if (is_object && type != RAG_JSON_OBJECT)
    return rag_api__fail_at(err, RAG_INVALID_ARGUMENT, place, "expected an object, got %s%s", rag_json_type_name(type),
                            type == RAG_JSON_STRING ? "; send the object itself, not its text" : "");
  rag_buf text = {0};
  rag_json_write(value, &text);
  rag_status status = rag_buf_check(&text, err);
  if (status == RAG_OK) {
    char *copy = rag_arena_strndup(arena, text.data, text.size);
    if (copy) *out = rag_slice_of(copy, text.size);
    else status = rag_fail_no_memory(err, text.size);
  }
  rag_buf_free(&text);
  return status;
}
