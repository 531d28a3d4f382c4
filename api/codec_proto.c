// Messages from and to the protobuf wire format.
//
// Decoding takes three steps:
//  1. check_message() reads the wire with the descriptor beside it. protobuf-c would refuse what is malformed too, but
//  says
//     neither where nor why, takes any bytes for a string, and cuts strings at a NUL.
//  2. protobuf_c_message_unpack() with an allocator over the arena and a hard cap.
//  3. Inline JSON is checked and compacted, so that a document has one form whatever door it came in by. Skipped where
//     step 1 has seen none.
//
// Invariants
//  1. A body of n bytes takes at most rag_api__message_bytes_max(n), protobuf-c's scratch included (24 n + 1 MiB, and
//  512
//     MiB at most): in a list, two bytes of wire can otherwise become a message of over a hundred.
//  2. Every string is UTF-8 without NUL; every vector is whole floats; every number is finite, as it is in JSON.
//
// A sub-message that comes twice is refused, though protobuf would merge the two: no writer sends that, and protobuf-c
// 1.4 fails to merge messages whose oneofs are not set.
//
// Fields that the descriptor does not know are ignored, as protobuf asks of a server older than its client.
//
// Vectors are aligned to 8 bytes or more, so handlers read them in place.
//
// Threads: pure functions over the caller's arena.
#include "api/api_internal.h"

#include <math.h>

#define WIRE_VARINT 0
#define WIRE_64BIT 1
#define WIRE_BYTES 2
#define WIRE_32BIT 5

#define FIELDS_MAX 64u
// Messages nest by type and no type contains itself: more can only be a mistake in the .proto files.
#define NESTING_MAX 16u

// ------------------------------------------------------------------------------------------------------ 1. the wire

typedef struct checker {
  bool inline_json; // some was seen
  unsigned nesting;
  rag_error *err;
} checker;

typedef struct wire {
  const uint8_t *at;
  const uint8_t *end;
} wire;

static size_t left_of(const wire *w) {
  return (size_t)(w->end - w->at);
}

// A varint of at most `bytes_max` bytes. NULL, or what is wrong.
static const char *read_varint(wire *w, size_t bytes_max, uint64_t *out) {
  uint64_t v = 0;
  for (size_t i = 0; i < bytes_max; i++) {
    if (w->at == w->end) return "the body ends inside a number; it was cut short";
    uint8_t byte = *w->at++;
    v |= (uint64_t)(byte & 0x7F) << (7 * i);
    if (byte & 0x80) continue;
    *out = v;
    return NULL;
  }
  return "a number takes too many bytes";
}

static unsigned wire_type_of(const ProtobufCFieldDescriptor *field) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_SFIXED64:
  case PROTOBUF_C_TYPE_FIXED64:
  case PROTOBUF_C_TYPE_DOUBLE:
    return WIRE_64BIT;
  case PROTOBUF_C_TYPE_SFIXED32:
  case PROTOBUF_C_TYPE_FIXED32:
  case PROTOBUF_C_TYPE_FLOAT:
    return WIRE_32BIT;
  case PROTOBUF_C_TYPE_STRING:
  case PROTOBUF_C_TYPE_BYTES:
  case PROTOBUF_C_TYPE_MESSAGE:
    return WIRE_BYTES;
  default:
    return WIRE_VARINT;
  }
}

static rag_status check_message(checker *c, const ProtobufCMessageDescriptor *descriptor, wire w,
                                const rag_api__place *place);

static rag_status check_bytes(checker *c, const ProtobufCFieldDescriptor *field, wire w, const rag_api__place *place) {
  size_t size = left_of(&w);
  switch (field->type) {
  case PROTOBUF_C_TYPE_MESSAGE:
    return check_message(c, field->descriptor, w, place);
  case PROTOBUF_C_TYPE_STRING: {
    size_t bad = rag_utf8_bad_offset((const char *)w.at, size);
    if (bad < size) return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, place, "not valid UTF-8 at byte %zu", bad);
    if (size && memchr(w.at, '\0', size))
      return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, place, "holds a NUL character; remove it");
    if (size && rag_api__field_is_json(field)) c->inline_json = true;
    return RAG_OK;
  }
  case PROTOBUF_C_TYPE_BYTES:
    if (rag_api__field_is_vector(field)) return rag_api__vector_check(w.at, size, place, c->err);
    return RAG_OK;
  default:
    return RAG_OK; // packed numbers
  }
}

static rag_status check_finite(checker *c, const ProtobufCFieldDescriptor *field, const uint8_t *data,
                               const rag_api__place *place) {
  double wide = 0;
  float narrow = 0;
  if (field->type == PROTOBUF_C_TYPE_DOUBLE) memcpy(&wide, data, sizeof(wide));
  if (field->type == PROTOBUF_C_TYPE_FLOAT) memcpy(&narrow, data, sizeof(narrow));
  if (isfinite(wide) && isfinite(narrow)) return RAG_OK;
  return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, place, "is NaN or infinite; send a finite number");
}

// Reads one value, and checks it where the field is known (not NULL).
static rag_status check_value(checker *c, const ProtobufCFieldDescriptor *field, unsigned type, wire *w,
                              const rag_api__place *place) {
  uint64_t number;
  const char *wrong = NULL;
  size_t fixed = type == WIRE_64BIT ? 8 : 4;
  switch (type) {
  case WIRE_VARINT:
    wrong = read_varint(w, 10, &number);
    break;
  case WIRE_64BIT:
  case WIRE_32BIT:
    if (left_of(w) < fixed) {
      wrong = "the body ends inside a number; it was cut short";
      break;
    }
    w->at += fixed;
    if (field) return check_finite(c, field, w->at - fixed, place);
    break;
  case WIRE_BYTES:
    wrong = read_varint(w, 5, &number);
    if (wrong) break;
    if (number > left_of(w))
      return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, place,
                              "bad protobuf: says it has %llu bytes, and %zu are left; the body was cut short",
                              (unsigned long long)number, left_of(w));
    wire inner = {w->at, w->at + number};
    w->at += number;
    return field ? check_bytes(c, field, inner, place) : RAG_OK;
  default:
    return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, place, "bad protobuf: wire type %u is not used", type);
  }
  if (wrong) return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, place, "bad protobuf: %s", wrong);
  return RAG_OK;
}

static rag_status check_message(checker *c, const ProtobufCMessageDescriptor *descriptor, wire w,
                                const rag_api__place *place) {
  RAG_ASSERT(descriptor->n_fields <= FIELDS_MAX && c->nesting < NESTING_MAX);
  c->nesting++;
  uint32_t counts[FIELDS_MAX]; // how often each field was seen
  memset(counts, 0, descriptor->n_fields * sizeof(counts[0]));
  while (w.at < w.end) {
    uint64_t tag;
    const char *wrong = read_varint(&w, 5, &tag);
    if (!wrong && (tag >> 3 == 0 || tag > UINT32_MAX)) wrong = "a field has a number that none can have";
    if (wrong) return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, place, "bad protobuf: %s", wrong);
    unsigned type = (unsigned)(tag & 7);
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(descriptor, (unsigned)(tag >> 3));
    if (!field) {
      RAG_TRY(check_value(c, NULL, type, &w, place));
      continue;
    }
    rag_api__place member = {.up = place, .name = rag_slice_of(field->name, strlen(field->name))};
    rag_api__place element = {.up = &member};
    const rag_api__place *at = &member;
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    bool packed = repeated && type == WIRE_BYTES;
    if (type != wire_type_of(field) && !packed)
      return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, at, "bad protobuf: wire type %u, expected %u", type,
                              wire_type_of(field));
    uint32_t earlier = counts[field - descriptor->fields]++;
    if (repeated) {
      element.index = earlier;
      at = &element;
    } else if (earlier && field->type == PROTOBUF_C_TYPE_MESSAGE) {
      return rag_api__fail_at(c->err, RAG_INVALID_ARGUMENT, at, "given twice; send one message with all of its fields");
    }
    RAG_TRY(check_value(c, field, type, &w, at));
  }
  c->nesting--;
  return RAG_OK;
}

// -------------------------------------------------------------------------------------------------------- 2. unpacking

// protobuf-c allocates every string and message by itself: small pieces are cut from blocks at 8 bytes' alignment,
// where the arena's 16 would cost short strings twice their size.
#define BLOCK_BYTES ((size_t)2048)
#define PIECE_BYTES_MAX (BLOCK_BYTES / 4)

typedef struct capped {
  rag_arena *arena;
  char *block; // what is left of the newest one
  size_t block_left;
  size_t left;    // until the cap
  bool over;      // the cap was met
  bool no_memory; // the arena had none
} capped;

static void *take(capped *cap, size_t size) {
  if (size > cap->left) {
    cap->over = true;
    return NULL;
  }
  void *p = rag_arena_alloc(cap->arena, size);
  if (p) cap->left -= size;
  else cap->no_memory = true;
  return p;
}

static void *capped_alloc(void *data, size_t size) {
  capped *cap = data;
  if (size > PIECE_BYTES_MAX) return take(cap, size);
  size_t step = RAG_MAX((size + 7) & ~(size_t)7, (size_t)8);
  if (step > cap->block_left) {
    char *block = take(cap, BLOCK_BYTES);
    if (!block) return NULL;
    cap->block = block;
    cap->block_left = BLOCK_BYTES;
  }
  void *p = cap->block;
  cap->block += step;
  cap->block_left -= step;
  return p;
}

static void capped_free(void *data, void *p) { // the arena frees it
  RAG_UNUSED(data);
  RAG_UNUSED(p);
}

// ------------------------------------------------------------------------------------------------------ 3. inline JSON

typedef struct compacter {
  rag_json_parser *parser;
  rag_arena *arena;
  rag_error *err;
} compacter;

static rag_status compact_message(const compacter *c, ProtobufCMessage *message, const rag_api__place *place);

static rag_status compact_text(const compacter *c, const ProtobufCFieldDescriptor *field, char **text,
                               const rag_api__place *place) {
  rag_slice before = rag_slice_str(*text);
  if (before.size == 0) return RAG_OK;
  rag_json value;
  rag_error why = {0};
  rag_status status = rag_json_parse(c->parser, before, &value, &why);
  if (status == RAG_INVALID_ARGUMENT) return rag_api__fail_at(c->err, status, place, "%s", why.message);
  if (status != RAG_OK) {
    if (c->err) *c->err = why;
    return status;
  }
  rag_slice after;
  RAG_TRY(rag_api__inline_json(field, value, place, c->arena, &after, c->err));
  *text =
      (char *)(uintptr_t)after.data; // the message's strings are not const; these bytes are the arena's, as they are
  return RAG_OK;
}

static rag_status compact_value(const compacter *c, const ProtobufCFieldDescriptor *field, void *member,
                                const rag_api__place *place) {
  if (field->type == PROTOBUF_C_TYPE_STRING) return compact_text(c, field, member, place);
  ProtobufCMessage *message = *(ProtobufCMessage **)member;
  return message ? compact_message(c, message, place) : RAG_OK;
}

static rag_status compact_field(const compacter *c, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                                const rag_api__place *place) {
  char *base = (char *)message;
  if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
    uint32_t set;
    memcpy(&set, base + field->quantifier_offset, sizeof(set));
    if (set != field->id) return RAG_OK;
  }
  rag_api__place member = {.up = place, .name = rag_slice_of(field->name, strlen(field->name))};
  if (field->label != PROTOBUF_C_LABEL_REPEATED) return compact_value(c, field, base + field->offset, &member);
  size_t count;
  char *elements;
  memcpy(&count, base + field->quantifier_offset, sizeof(count));
  memcpy(&elements, base + field->offset, sizeof(elements));
  rag_api__place element = {.up = &member};
  for (; element.index < count; element.index++)
    RAG_TRY(compact_value(c, field, elements + element.index * sizeof(void *), &element));
  return RAG_OK;
}

static rag_status compact_message(const compacter *c, ProtobufCMessage *message, const rag_api__place *place) {
  for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
    if (field->type == PROTOBUF_C_TYPE_MESSAGE || rag_api__field_is_json(field))
      RAG_TRY(compact_field(c, message, field, place));
  }
  return RAG_OK;
}

// ------------------------------------------------------------------------------------------------------------- doors

rag_status rag_api__proto_decode(const ProtobufCMessageDescriptor *descriptor, rag_slice body, rag_arena *arena,
                                 ProtobufCMessage **out, rag_error *err) {
  checker check = {.err = err};
  static const uint8_t nothing[1];
  const uint8_t *data = body.size ? (const uint8_t *)body.data : nothing;
  RAG_TRY(check_message(&check, descriptor, (wire){data, data + body.size}, NULL));

  size_t bytes_max = rag_api__message_bytes_max(body.size);
  capped cap = {.arena = arena, .left = bytes_max};
  ProtobufCAllocator allocator = {.alloc = capped_alloc, .free = capped_free, .allocator_data = &cap};
  ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, &allocator, body.size, data);
  if (!message && cap.over)
    return rag_fail(err, RAG_INVALID_ARGUMENT,
                    "the request would take over %zu bytes of memory for %zu on the wire; send it in several requests",
                    bytes_max, body.size);
  if (!message && cap.no_memory) return rag_fail_no_memory(err, bytes_max - cap.left);
  if (!message) return rag_fail(err, RAG_INVALID_ARGUMENT, "bad protobuf: the body is no %s", descriptor->name);

  if (check.inline_json) {
    compacter compact = {.parser = rag_json_parser_acquire(), .arena = arena, .err = err};
    if (!compact.parser) return rag_fail_no_memory(err, 0);
    rag_status status = compact_message(&compact, message, NULL);
    rag_json_parser_release(compact.parser);
    if (status != RAG_OK) return status;
  }
  *out = message;
  return RAG_OK;
}

rag_status rag_api__proto_encode(const ProtobufCMessage *message, rag_arena *arena, rag_slice *out, rag_error *err) {
  size_t size = protobuf_c_message_get_packed_size(message);
  uint8_t *data = rag_arena_alloc(arena, size);
  if (!data) return rag_fail_no_memory(err, size);
  size_t packed = protobuf_c_message_pack(message, data);
  RAG_ASSERT(packed == size);
  *out = rag_slice_of(data, size);
  return RAG_OK;
}
