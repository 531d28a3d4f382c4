// Messages as JSON text. The rules stand at the top of api/proto/ragd.proto; the other direction is
// codec_json_decode.c.
//
// Encoding, where those rules leave a choice:
//  - Members come in the order of the field numbers.
//  - Sub-messages that are not set are left out, as are members of a oneof that are not set and empty vectors.
//  Everything
//    else is printed, also when it is zero or empty.
//  - float fields get the shortest text that reads back as the same float, double fields as the same double; NaN and
//    infinities, which JSON has no text for, become null.
//  - Inline JSON is copied as it is: what is stored went through a decoder, which has checked and compacted it.
//  - bytes fields other than vectors are base64 with padding.
//
// Threads: pure functions.
#include "api/api_internal.h"

// ------------------------------------------------------------------------------------------------------------- values

static rag_status encode_message(const ProtobufCMessage *message, rag_buf *out, rag_error *err);

static void put_time(rag_buf *out, int64_t time_us) {
  if (time_us == 0) {
    rag_buf_append(out, "null", 4);
    return;
  }
  char text[RAG_TIME_TEXT_MAX];
  rag_time_format(time_us, text);
  rag_buf_append_char(out, '"');
  rag_buf_append_str(out, text);
  rag_buf_append_char(out, '"');
}

static void put_vector(rag_buf *out, const ProtobufCBinaryData *bytes) {
  rag_buf_append_char(out, '[');
  for (size_t at = 0; at + sizeof(float) <= bytes->len; at += sizeof(float)) {
    float v;
    memcpy(&v, bytes->data + at, sizeof(v));
    if (at) rag_buf_append_char(out, ',');
    rag_json_put_float(out, v);
  }
  rag_buf_append_char(out, ']');
}

static void put_base64(rag_buf *out, const ProtobufCBinaryData *bytes) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  rag_buf_reserve(out, bytes->len / 3 * 4 + 6);
  rag_buf_append_char(out, '"');
  for (size_t at = 0; at < bytes->len; at += 3) {
    size_t left = RAG_MIN(bytes->len - at, (size_t)3);
    uint32_t group = (uint32_t)bytes->data[at] << 16;
    if (left > 1) group |= (uint32_t)bytes->data[at + 1] << 8;
    if (left > 2) group |= bytes->data[at + 2];
    char text[4] = {letters[group >> 18], letters[group >> 12 & 63], left > 1 ? letters[group >> 6 & 63] : '=',
                    left > 2 ? letters[group & 63] : '='};
    rag_buf_append(out, text, sizeof(text));
  }
  rag_buf_append_char(out, '"');
}

static void put_inline_json(rag_buf *out, const ProtobufCFieldDescriptor *field, const char *text) {
  if (text && text[0]) rag_buf_append_str(out, text);
  else rag_buf_append_str(out, strcmp(field->name, "metadata") == 0 ? "{}" : "null");
}

// One value; `member` points to it: to the field, or to an element of a repeated one.
static rag_status encode_value(const ProtobufCFieldDescriptor *field, const void *member, rag_buf *out,
                               rag_error *err) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_INT32:
  case PROTOBUF_C_TYPE_SINT32:
  case PROTOBUF_C_TYPE_SFIXED32:
    rag_json_put_int(out, *(const int32_t *)member);
    break;
  case PROTOBUF_C_TYPE_INT64:
  case PROTOBUF_C_TYPE_SINT64:
  case PROTOBUF_C_TYPE_SFIXED64:
    if (rag_api__field_is_time(field)) put_time(out, *(const int64_t *)member);
    else rag_json_put_int(out, *(const int64_t *)member);
    break;
  case PROTOBUF_C_TYPE_UINT32:
  case PROTOBUF_C_TYPE_FIXED32:
    rag_json_put_uint(out, *(const uint32_t *)member);
    break;
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
    rag_json_put_uint(out, *(const uint64_t *)member);
    break;
  case PROTOBUF_C_TYPE_FLOAT:
    rag_json_put_float(out, *(const float *)member);
    break;
  case PROTOBUF_C_TYPE_DOUBLE:
    rag_json_put_double(out, *(const double *)member);
    break;
  case PROTOBUF_C_TYPE_BOOL:
    if (*(const protobuf_c_boolean *)member) rag_buf_append(out, "true", 4);
    else rag_buf_append(out, "false", 5);
    break;
  case PROTOBUF_C_TYPE_STRING: {
    const char *text = *(const char *const *)member;
    if (rag_api__field_is_json(field)) put_inline_json(out, field, text);
    else rag_json_put_string(out, rag_slice_str(text ? text : ""));
    break;
  }
  case PROTOBUF_C_TYPE_BYTES:
    if (rag_api__field_is_vector(field)) put_vector(out, member);
    else put_base64(out, member);
    break;
  case PROTOBUF_C_TYPE_MESSAGE:
    return encode_message(*(const ProtobufCMessage *const *)member, out, err);
  case PROTOBUF_C_TYPE_ENUM:
    return rag_fail_field(err, RAG_INTERNAL, field->name, "field '%s' is an enum, which the codec does not know",
                          field->name);
  }
  return RAG_OK;
}

static rag_status encode_list(const ProtobufCFieldDescriptor *field, const char *elements, size_t count, rag_buf *out,
                              rag_error *err) {
  size_t step = rag_api__field_size(field);
  rag_buf_append_char(out, '[');
  for (size_t i = 0; i < count; i++) {
    if (i) rag_buf_append_char(out, ',');
    RAG_TRY(encode_value(field, elements + i * step, out, err));
  }
  rag_buf_append_char(out, ']');
  return RAG_OK;
}

// ----------------------------------------------------------------------------------------------------------- messages

static bool is_printed(const ProtobufCFieldDescriptor *field, const ProtobufCMessage *message) {
  const char *base = (const char *)message;
  if (field->label == PROTOBUF_C_LABEL_REPEATED) return true;
  if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
    uint32_t set;
    memcpy(&set, base + field->quantifier_offset, sizeof(set));
    if (set != field->id) return false;
  }
  if (field->type == PROTOBUF_C_TYPE_MESSAGE) return *(ProtobufCMessage *const *)(base + field->offset) != NULL;
  if (rag_api__field_is_vector(field)) return ((const ProtobufCBinaryData *)(base + field->offset))->len != 0;
  return true;
}

static rag_status encode_message(const ProtobufCMessage *message, rag_buf *out, rag_error *err) {
  const ProtobufCMessageDescriptor *descriptor = message->descriptor;
  char next = '{';
  for (unsigned i = 0; i < descriptor->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
    if (!is_printed(field, message)) continue;
    size_t size = strlen(field->name);
    rag_buf_reserve(out, size + 4);
    if (out->failed) return rag_buf_check(out, err);
    char *name = out->data + out->size; // names are plain letters: nothing to escape
    name[0] = next;
    name[1] = '"';
    memcpy(name + 2, field->name, size);
    name[size + 2] = '"';
    name[size + 3] = ':';
    out->size += size + 4;
    next = ',';
    const char *base = (const char *)message;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
      size_t count;
      memcpy(&count, base + field->quantifier_offset, sizeof(count));
      RAG_TRY(encode_list(field, *(const char *const *)(base + field->offset), count, out, err));
    } else {
      RAG_TRY(encode_value(field, base + field->offset, out, err));
    }
  }
  if (next == '{') rag_buf_append_char(out, '{');
  rag_buf_append_char(out, '}');
  return RAG_OK;
}

rag_status rag_api__json_encode(const ProtobufCMessage *message, rag_buf *out, rag_error *err) {
  size_t before = out->size;
  rag_status status = encode_message(message, out, err);
  if (status == RAG_OK) status = rag_buf_check(out, err);
  if (status != RAG_OK) out->size = before;
  return status;
}
