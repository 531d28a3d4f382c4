// Messages from JSON. The rules stand at the top of api/proto/ragd.proto; the other direction is codec_json.c.
//
// Decoding, where those rules leave a choice:
//  - null means absent, everywhere but in a list, where it is refused.
//  - Names are snake_case; their lowerCamelCase form is accepted too, as proto3 JSON asks of every reader, and is what
//    generated clients send. One field under both names is refused.
//  - Integer fields take integers alone: 1.0 is refused, as rounding it would hide a caller's mistake. 64-bit ones take
//    decimal strings as well, as proto3 JSON writes them.
//  - Strings that hold a NUL are refused: the message's strings end at one.
//  - A vector is an array of numbers, or base64 of little-endian f32. Other bytes are base64. Both alphabets, with
//  padding
//    or without.
//  - Inline JSON is stored compact. `metadata` and `filter` are objects, the others are anything.
//
// Invariant: what a decoded message takes is bounded by rag_api__message_bytes_max() of the text's size.
//
// Vectors are aligned to 16 bytes in the arena, so handlers read them in place.
//
// Threads: pure functions over the caller's arena.
#include "api/api_internal.h"

#include <float.h>
#include <math.h>

typedef struct decoder {
  rag_arena *arena;
  size_t budget; // bytes that the message may still take
  rag_error *err;
} decoder;

static rag_status decode_message(decoder *d, const ProtobufCMessageDescriptor *descriptor, rag_json value,
                                 const rag_api__place *place, ProtobufCMessage **out);

// Room for `count` things of `size` bytes.
static rag_status take(decoder *d, const rag_api__place *place, size_t count, size_t size, void **out) {
  size_t bytes;
  if (rag_mul_overflows(count, size, &bytes) || bytes > d->budget)
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place,
                            "takes too much memory for its size; send it in several requests");
  void *p = rag_arena_alloc(d->arena, bytes);
  if (!p) return rag_fail_no_memory(d->err, bytes);
  d->budget -= bytes;
  *out = p;
  return RAG_OK;
}

static rag_status fail_type(const decoder *d, const rag_api__place *place, const char *wanted, rag_json value) {
  return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "expected %s, got %s", wanted,
                          rag_json_type_name(rag_json_type_of(value)));
}

// ------------------------------------------------------------------------------------------------------------ integers

typedef struct integer { // of -2^63 to 2^64 - 1
  bool negative;
  uint64_t magnitude;
} integer;

// Decimal digits after an optional minus; nothing else.
static bool integer_of_text(rag_slice text, integer *out) {
  integer v = {.negative = text.size && text.data[0] == '-'};
  size_t digits = text.size - v.negative;
  if (digits == 0) return false;
  for (size_t i = v.negative; i < text.size; i++) {
    char c = text.data[i];
    if (c < '0' || c > '9') return false;
    if (__builtin_mul_overflow(v.magnitude, (uint64_t)10, &v.magnitude) ||
        __builtin_add_overflow(v.magnitude, (uint64_t)(c - '0'), &v.magnitude))
      return false;
  }
  if (v.negative && v.magnitude > (uint64_t)INT64_MAX + 1) return false;
  if (v.magnitude == 0) v.negative = false;
  *out = v;
  return true;
}

static bool is_signed(const ProtobufCFieldDescriptor *field) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_UINT32:
  case PROTOBUF_C_TYPE_FIXED32:
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
    return false;
  default:
    return true;
  }
}

static rag_status store_integer(const decoder *d, const ProtobufCFieldDescriptor *field, integer v,
                                const rag_api__place *place, void *member) {
  bool wide = rag_api__field_size(field) == 8;
  bool with_sign = is_signed(field);
  uint64_t highest = wide ? UINT64_MAX : UINT32_MAX;
  if (with_sign) highest /= 2;
  uint64_t lowest = with_sign ? highest + 1 : 0; // how far below zero
  if (v.magnitude > (v.negative ? lowest : highest))
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "%s%llu is outside %s%llu to %llu",
                            v.negative ? "-" : "", (unsigned long long)v.magnitude, with_sign ? "-" : "",
                            (unsigned long long)lowest, (unsigned long long)highest);
  uint64_t word = v.negative ? 0 - v.magnitude : v.magnitude;
  if (wide) {
    memcpy(member, &word, sizeof(word));
  } else {
    uint32_t half = (uint32_t)word;
    memcpy(member, &half, sizeof(half));
  }
  return RAG_OK;
}

static rag_status decode_integer(const decoder *d, const ProtobufCFieldDescriptor *field, rag_json value,
                                 const rag_api__place *place, void *member) {
  bool wide = rag_api__field_size(field) == 8;
  integer v;
  switch (rag_json_type_of(value)) {
  case RAG_JSON_INT: {
    int64_t i = rag_json_int(value);
    v = (integer){.negative = i < 0, .magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i};
    break;
  }
  case RAG_JSON_UINT:
    v = (integer){.magnitude = rag_json_uint(value)};
    break;
  case RAG_JSON_DOUBLE:
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place,
                            "expected an integer, got a number with a fraction or an exponent; send 1, not 1.0 or 1e0");
  case RAG_JSON_STRING:
    if (!wide)
      return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place,
                              "expected an integer, got a string; send the number without quotes");
    if (integer_of_text(rag_json_string(value), &v)) break;
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place,
                            "expected an integer, got a string that is none of 64 bits; send only decimal digits");
  default:
    return fail_type(d, place, "an integer", value);
  }
  return store_integer(d, field, v, place, member);
}

static rag_status decode_time(const decoder *d, rag_json value, const rag_api__place *place, void *member) {
  if (rag_json_type_of(value) != RAG_JSON_STRING)
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place,
                            "expected a time such as \"2026-01-31T10:00:00Z\", got %s",
                            rag_json_type_name(rag_json_type_of(value)));
  rag_error why;
  int64_t time_us;
  rag_status status = rag_time_parse(rag_json_string(value), &time_us, &why);
  if (status != RAG_OK) return rag_api__fail_at(d->err, status, place, "%s", why.message);
  memcpy(member, &time_us, sizeof(time_us));
  return RAG_OK;
}

static rag_status decode_real(const decoder *d, const ProtobufCFieldDescriptor *field, rag_json value,
                              const rag_api__place *place, void *member) {
  rag_json_type type = rag_json_type_of(value);
  if (type != RAG_JSON_INT && type != RAG_JSON_UINT && type != RAG_JSON_DOUBLE)
    return fail_type(d, place, "a number", value);
  double wide = rag_json_double(value);
  if (field->type == PROTOBUF_C_TYPE_DOUBLE) {
    memcpy(member, &wide, sizeof(wide));
    return RAG_OK;
  }
  float narrow = (float)wide;
  if (isinf(narrow))
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "%g does not fit a 32-bit float (at most %g)", wide,
                            (double)FLT_MAX);
  memcpy(member, &narrow, sizeof(narrow));
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------------- strings and
// bytes

static rag_status store_string(decoder *d, rag_slice text, const rag_api__place *place, void *member) {
  if (text.size && memchr(text.data, '\0', text.size))
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "holds a NUL character; remove it");
  void *copy;
  RAG_TRY(take(d, place, text.size + 1, 1, &copy));
  if (text.size) memcpy(copy, text.data, text.size);
  ((char *)copy)[text.size] = '\0';
  memcpy(member, &copy, sizeof(copy));
  return RAG_OK;
}

static rag_status decode_string(decoder *d, const ProtobufCFieldDescriptor *field, rag_json value,
                                const rag_api__place *place, void *member) {
  if (!rag_api__field_is_json(field)) {
    if (rag_json_type_of(value) != RAG_JSON_STRING) return fail_type(d, place, "a string", value);
    return store_string(d, rag_json_string(value), place, member);
  }
  rag_slice text;
  RAG_TRY(rag_api__inline_json(field, value, place, d->arena, &text, d->err));
  memcpy(member, &text.data, sizeof(text.data));
  return RAG_OK;
}

#define BASE64_BAD 64
static inline uint8_t base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return (uint8_t)(c - 'A');
  if (c >= 'a' && c <= 'z') return (uint8_t)(c - 'a' + 26);
  if (c >= '0' && c <= '9') return (uint8_t)(c - '0' + 52);
  if (c == '+' || c == '-') return 62;
  if (c == '/' || c == '_') return 63;
  return BASE64_BAD;
}

static rag_status decode_base64(decoder *d, rag_slice text, const rag_api__place *place, ProtobufCBinaryData *out) {
  size_t digits = text.size;
  for (int i = 0; i < 2 && digits && digits % 4 != 1 && text.data[digits - 1] == '=' && text.size % 4 == 0; i++)
    digits--;
  void *room;
  RAG_TRY(take(d, place, digits / 4 * 3 + 3, 1, &room));
  uint8_t *bytes = room;
  size_t size = 0;
  uint32_t group = 0;
  for (size_t i = 0; i < digits; i++) {
    uint8_t digit = base64_digit(text.data[i]);
    if (digit == BASE64_BAD)
      return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "bad base64 at character %zu", i);
    group = group << 6 | digit;
    if (i % 4 == 3) {
      bytes[size++] = (uint8_t)(group >> 16);
      bytes[size++] = (uint8_t)(group >> 8);
      bytes[size++] = (uint8_t)group;
    }
  }
  switch (digits % 4) {
  case 1:
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "bad base64: %zu characters are one too many", digits);
  case 2:
    bytes[size++] = (uint8_t)(group >> 4);
    break;
  case 3:
    bytes[size++] = (uint8_t)(group >> 10);
    bytes[size++] = (uint8_t)(group >> 2);
    break;
  default:
    break;
  }
  *out = (ProtobufCBinaryData){size, bytes};
  return RAG_OK;
}

static rag_status fail_vector(const decoder *d, rag_json array, size_t bad_index, const rag_api__place *place) {
  rag_api__place at = {.up = place, .index = bad_index};
  rag_json_iter it = rag_json_iter_of(array);
  for (size_t i = 0; i <= bad_index && rag_json_iter_next(&it);) i++;
  rag_json_type type = rag_json_type_of(it.value);
  if (type == RAG_JSON_INT || type == RAG_JSON_UINT || type == RAG_JSON_DOUBLE)
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, &at, "%g does not fit a 32-bit float (at most %g)",
                            rag_json_double(it.value), (double)FLT_MAX);
  return fail_type(d, &at, "a number", it.value);
}

static rag_status decode_vector(decoder *d, rag_json value, const rag_api__place *place, ProtobufCBinaryData *out) {
  switch (rag_json_type_of(value)) {
  case RAG_JSON_ARRAY: {
    size_t count = rag_json_size(value), bad_index;
    if (count == 0) return RAG_OK;
    void *room;
    RAG_TRY(take(d, place, count, sizeof(float), &room));
    if (rag_json_floats(value, room, count, &bad_index) == SIZE_MAX) return fail_vector(d, value, bad_index, place);
    *out = (ProtobufCBinaryData){count * sizeof(float), room};
    return RAG_OK;
  }
  case RAG_JSON_STRING: {
    ProtobufCBinaryData bytes;
    RAG_TRY(decode_base64(d, rag_json_string(value), place, &bytes));
    RAG_TRY(rag_api__vector_check(bytes.data, bytes.len, place, d->err));
    *out = bytes;
    return RAG_OK;
  }
  default:
    return fail_type(d, place, "an array of numbers or base64 text", value);
  }
}

static rag_status decode_bytes(decoder *d, const ProtobufCFieldDescriptor *field, rag_json value,
                               const rag_api__place *place, ProtobufCBinaryData *out) {
  if (rag_api__field_is_vector(field)) return decode_vector(d, value, place, out);
  if (rag_json_type_of(value) != RAG_JSON_STRING) return fail_type(d, place, "base64 text", value);
  return decode_base64(d, rag_json_string(value), place, out);
}

// ------------------------------------------------------------------------------------------------------------- fields

// One value that is not null; `member` points to where it goes.
static rag_status decode_value(decoder *d, const ProtobufCFieldDescriptor *field, rag_json value,
                               const rag_api__place *place, void *member) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_INT64:
    if (rag_api__field_is_time(field)) return decode_time(d, value, place, member);
    return decode_integer(d, field, value, place, member);
  case PROTOBUF_C_TYPE_INT32:
  case PROTOBUF_C_TYPE_SINT32:
  case PROTOBUF_C_TYPE_SFIXED32:
  case PROTOBUF_C_TYPE_SINT64:
  case PROTOBUF_C_TYPE_SFIXED64:
  case PROTOBUF_C_TYPE_UINT32:
  case PROTOBUF_C_TYPE_FIXED32:
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
    return decode_integer(d, field, value, place, member);
  case PROTOBUF_C_TYPE_FLOAT:
  case PROTOBUF_C_TYPE_DOUBLE:
    return decode_real(d, field, value, place, member);
  case PROTOBUF_C_TYPE_BOOL:
    if (rag_json_type_of(value) != RAG_JSON_BOOL) return fail_type(d, place, "true or false", value);
    *(protobuf_c_boolean *)member = rag_json_bool(value);
    return RAG_OK;
  case PROTOBUF_C_TYPE_STRING:
    return decode_string(d, field, value, place, member);
  case PROTOBUF_C_TYPE_BYTES:
    return decode_bytes(d, field, value, place, member);
  case PROTOBUF_C_TYPE_MESSAGE:
    return decode_message(d, field->descriptor, value, place, member);
  case PROTOBUF_C_TYPE_ENUM:
    break;
  }
  return rag_api__fail_at(d->err, RAG_INTERNAL, place, "is an enum, which the codec does not know");
}

static rag_status decode_list(decoder *d, const ProtobufCFieldDescriptor *field, rag_json value,
                              const rag_api__place *place, ProtobufCMessage *message) {
  if (rag_json_type_of(value) != RAG_JSON_ARRAY) return fail_type(d, place, "an array", value);
  size_t count = rag_json_size(value);
  size_t step = rag_api__field_size(field);
  void *elements = NULL;
  if (count) {
    RAG_TRY(take(d, place, count, step, &elements));
    memset(elements, 0, count * step);
  }
  rag_api__place at = {.up = place};
  for (rag_json_iter it = rag_json_iter_of(value); rag_json_iter_next(&it); at.index++) {
    if (rag_json_type_of(it.value) == RAG_JSON_NULL)
      return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, &at, "null in a list; leave it out");
    RAG_TRY(decode_value(d, field, it.value, &at, (char *)elements + at.index * step));
  }
  memcpy((char *)message + field->quantifier_offset, &count, sizeof(count));
  memcpy((char *)message + field->offset, &elements, sizeof(elements));
  return RAG_OK;
}

static void mark_present(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field) {
  if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
    memcpy((char *)message + field->quantifier_offset, &field->id, sizeof(field->id));
}

// "pageToken" as "page_token": the field, or NULL.
static const ProtobufCFieldDescriptor *find_camel(const ProtobufCMessageDescriptor *descriptor, rag_slice name) {
  char snake[64];
  size_t size = 0;
  for (size_t i = 0; i < name.size; i++) {
    char c = name.data[i];
    bool upper = c >= 'A' && c <= 'Z';
    if (c == '_' || size + 2 > sizeof(snake)) return NULL;
    if (upper) snake[size++] = '_';
    snake[size++] = upper ? (char)(c - 'A' + 'a') : c;
  }
  return rag_api__field_find(descriptor, rag_slice_of(snake, size));
}

static rag_status fail_unknown(const decoder *d, const ProtobufCMessageDescriptor *descriptor, rag_slice name,
                               const rag_api__place *place) {
  const char *nearest = NULL;
  unsigned nearest_distance = 0;
  for (unsigned i = 0; i < descriptor->n_fields; i++) {
    unsigned distance = rag_edit_distance(name, rag_slice_str(descriptor->fields[i].name));
    if (nearest && distance >= nearest_distance) continue;
    nearest = descriptor->fields[i].name;
    nearest_distance = distance;
  }
  rag_api__place at = {.up = place, .name = name};
  char path[RAG_ERROR_FIELD_MAX], in[RAG_ERROR_FIELD_MAX];
  rag_api__place_text(&at, path);
  rag_api__place_text(place, in);
  int shown = (int)rag_utf8_floor(name.data, name.size, RAG_MIN(name.size, (size_t)64));
  const char *of = in[0] ? " in " : "";
  if (!nearest)
    return rag_fail_field(d->err, RAG_INVALID_ARGUMENT, path, "unknown field '%.*s'%s%s; no fields are taken here",
                          shown, name.data, of, in);
  // A far guess is not a question worth asking, but still says what the fields look like.
  bool close = nearest_distance <= 1 + strlen(nearest) / 3;
  return rag_fail_field(d->err, RAG_INVALID_ARGUMENT, path, "unknown field '%.*s'%s%s; %s '%s'%s", shown, name.data, of,
                        in, close ? "did you mean" : "the nearest known one is", nearest, close ? "?" : "");
}

#define FIELDS_MAX 64u

static rag_status decode_message(decoder *d, const ProtobufCMessageDescriptor *descriptor, rag_json value,
                                 const rag_api__place *place, ProtobufCMessage **out) {
  if (rag_json_type_of(value) != RAG_JSON_OBJECT) return fail_type(d, place, "an object", value);
  RAG_ASSERT(descriptor->n_fields <= FIELDS_MAX);
  void *room;
  RAG_TRY(take(d, place, 1, descriptor->sizeof_message, &room));
  ProtobufCMessage *message = room;
  descriptor->message_init(message);
  uint64_t seen = 0; // by field; JSON has no duplicate names, but a field has two
  for (rag_json_iter it = rag_json_iter_of(value); rag_json_iter_next(&it);) {
    const ProtobufCFieldDescriptor *field = rag_api__field_find(descriptor, it.name);
    if (!field) field = find_camel(descriptor, it.name);
    if (!field) return fail_unknown(d, descriptor, it.name, place);
    rag_api__place at = {.up = place, .name = rag_slice_str(field->name)};
    uint64_t bit = UINT64_C(1) << (field - descriptor->fields);
    if (seen & bit) return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, &at, "given twice, in two spellings");
    seen |= bit;
    if (rag_json_type_of(it.value) == RAG_JSON_NULL) continue;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
      RAG_TRY(decode_list(d, field, it.value, &at, message));
      continue;
    }
    RAG_TRY(decode_value(d, field, it.value, &at, (char *)message + field->offset));
    mark_present(message, field);
  }
  *out = message;
  return RAG_OK;
}

rag_status rag_api__json_decode(const ProtobufCMessageDescriptor *descriptor, rag_json value, rag_arena *arena,
                                ProtobufCMessage **out, rag_error *err) {
  decoder d = {.arena = arena, .budget = rag_api__message_bytes_max(rag_json_text_size(value)), .err = err};
  return decode_message(&d, descriptor, value, NULL, out);
}

// ---------------------------------------------------------------------------------------------------------- parameters

// Values of one repeated parameter; more belong into a body.
#define PARAMETER_VALUES_MAX 256u

static rag_status append_text(decoder *d, const ProtobufCFieldDescriptor *field, rag_slice value,
                              const rag_api__place *place, ProtobufCMessage *message) {
  if (field->type != PROTOBUF_C_TYPE_STRING || rag_api__field_is_json(field))
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "cannot be a parameter; send it in the body");
  size_t count;
  char **elements;
  memcpy(&count, (char *)message + field->quantifier_offset, sizeof(count));
  memcpy(&elements, (char *)message + field->offset, sizeof(elements));
  if (count >= PARAMETER_VALUES_MAX)
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "more than %u values; send them in the body",
                            PARAMETER_VALUES_MAX);
  void *room;
  RAG_TRY(take(d, place, count + 1, sizeof(*elements), &room));
  char **grown = room;
  if (count) memcpy(grown, elements, count * sizeof(*elements));
  RAG_TRY(store_string(d, value, place, &grown[count]));
  count++;
  memcpy((char *)message + field->quantifier_offset, &count, sizeof(count));
  memcpy((char *)message + field->offset, &grown, sizeof(grown));
  return RAG_OK;
}

// Numbers with a fraction, and inline JSON: read as in a body.
static rag_status decode_text_as_json(decoder *d, const ProtobufCFieldDescriptor *field, rag_slice value,
                                      const rag_api__place *place, void *member) {
  rag_json_parser *parser = rag_json_parser_acquire();
  if (!parser) return rag_fail_no_memory(d->err, 0);
  rag_json json;
  rag_error why = {0};
  rag_status status = rag_json_parse(parser, value, &json, &why);
  if (status == RAG_OK) status = decode_value(d, field, json, place, member);
  else if (status == RAG_INVALID_ARGUMENT) status = rag_api__fail_at(d->err, status, place, "%s", why.message);
  else if (d->err) *d->err = why;
  rag_json_parser_release(parser);
  return status;
}

static rag_status decode_text(decoder *d, const ProtobufCFieldDescriptor *field, rag_slice value,
                              const rag_api__place *place, void *member) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_STRING:
    if (rag_api__field_is_json(field)) return decode_text_as_json(d, field, value, place, member);
    return store_string(d, value, place, member);
  case PROTOBUF_C_TYPE_BOOL: {
    bool yes = rag_slice_equal(value, rag_slice_str("true")) || rag_slice_equal(value, rag_slice_str("1"));
    bool no = rag_slice_equal(value, rag_slice_str("false")) || rag_slice_equal(value, rag_slice_str("0"));
    if (!yes && !no) return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "expected true or false");
    *(protobuf_c_boolean *)member = yes;
    return RAG_OK;
  }
  case PROTOBUF_C_TYPE_FLOAT:
  case PROTOBUF_C_TYPE_DOUBLE:
    return decode_text_as_json(d, field, value, place, member);
  case PROTOBUF_C_TYPE_BYTES:
  case PROTOBUF_C_TYPE_MESSAGE:
  case PROTOBUF_C_TYPE_ENUM:
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "cannot be a parameter; send it in the body");
  default:
    break;
  }
  if (rag_api__field_is_time(field)) {
    rag_error why;
    int64_t time_us;
    rag_status status = rag_time_parse(value, &time_us, &why);
    if (status != RAG_OK) return rag_api__fail_at(d->err, status, place, "%s", why.message);
    memcpy(member, &time_us, sizeof(time_us));
    return RAG_OK;
  }
  integer v;
  if (!integer_of_text(value, &v))
    return rag_api__fail_at(d->err, RAG_INVALID_ARGUMENT, place, "expected an integer of decimal digits");
  return store_integer(d, field, v, place, member);
}

rag_status rag_api__field_from_text(ProtobufCMessage *message, rag_slice name, rag_slice value, rag_arena *arena,
                                    rag_error *err) {
  const ProtobufCFieldDescriptor *field = rag_api__field_find(message->descriptor, name);
  int shown = (int)rag_utf8_floor(name.data, name.size, RAG_MIN(name.size, (size_t)64));
  if (!field) return rag_fail(err, RAG_NOT_FOUND, "unknown parameter '%.*s'", shown, name.size ? name.data : "");
  decoder d = {.arena = arena, .budget = rag_api__message_bytes_max(value.size), .err = err};
  rag_api__place place = {.name = rag_slice_str(field->name)};
  // Bodies have had this check by their parsers.
  if (!rag_utf8_valid(value.data, value.size))
    return rag_api__fail_at(err, RAG_INVALID_ARGUMENT, &place, "not valid UTF-8");
  if (field->label == PROTOBUF_C_LABEL_REPEATED) return append_text(&d, field, value, &place, message);
  RAG_TRY(decode_text(&d, field, value, &place, (char *)message + field->offset));
  mark_present(message, field);
  return RAG_OK;
}
