// Goal: the protobuf codec reads what any protobuf library writes, refuses truncated, lying and oversized bodies with
// the path of the field, and holds its bound on memory. Method: wire bytes written by hand (a writer of its own, so
// that codec and test share no mistake); every prefix of a body; every length replaced by a lie; a body built to
// expand; every allocation failed; mutated bodies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/api_internal.h"

#define S(literal) rag_slice_of(literal, sizeof(literal) - 1)
#define MESSAGE(name) (&ragd__v1__##name##__descriptor)

// ------------------------------------------------------------------------------------------------------- wire by hand

static void put_tag(rag_buf *out, unsigned number, unsigned type) {
  rag_buf_append_varint(out, (uint64_t)number << 3 | type);
}

static void put_bytes(rag_buf *out, unsigned number, rag_slice bytes) {
  put_tag(out, number, 2);
  rag_buf_append_bytes(out, bytes);
}

static void put_varint(rag_buf *out, unsigned number, uint64_t v) {
  put_tag(out, number, 0);
  rag_buf_append_varint(out, v);
}

// A document with a chunk, metadata, a vector and a negative time: every kind of field that requests have.
static void put_document(rag_buf *out, unsigned number) {
  static const float vector[] = {0.5f, -1.0f, 2.0f};
  rag_buf chunk = {0}, document = {0};
  put_bytes(&chunk, 1, S("chunk text"));
  put_bytes(&chunk, 3, S("{ \"page\" : 1 }"));
  put_bytes(&document, 1, S("doc-1"));
  put_bytes(&document, 2, S("text \xC3\xA9"));
  put_bytes(&document, 4, S("{\"b\": [1.50, null], \"a\": {}}"));
  put_varint(&document, 6, (uint64_t)INT64_C(-5));
  put_bytes(&document, 8, rag_slice_of(vector, sizeof(vector)));
  put_bytes(&document, 9, rag_buf_slice(&chunk));
  put_bytes(out, number, rag_buf_slice(&document));
  rag_buf_free(&chunk);
  rag_buf_free(&document);
}

static void put_request(rag_buf *out) {
  put_bytes(out, 1, S("kb"));
  put_document(out, 3);
  put_document(out, 3);
  put_bytes(out, 4, S("gone"));
  put_bytes(out, 5, S("message"));
}

// Decodes a copy of exactly that size, so that the sanitizer sees a read past the end.
static rag_status decode(const ProtobufCMessageDescriptor *descriptor, rag_slice body, rag_arena *arena,
                         ProtobufCMessage **out, rag_error *err) {
  char *exact = rag_alloc(body.size);
  if (!exact) return RAG_RESOURCE_EXHAUSTED;
  if (body.size) memcpy(exact, body.data, body.size);
  rag_status status = rag_api__proto_decode(descriptor, rag_slice_of(exact, body.size), arena, out, err);
  rag_free(exact); // nothing in the message borrows from the body
  return status;
}

static void expect_refused(const ProtobufCMessageDescriptor *descriptor, rag_slice body, const char *field,
                           const char *want) {
  rag_arena *arena = rag_arena_create(0);
  ProtobufCMessage *message = NULL;
  rag_error err = {0};
  assert_int_equal(decode(descriptor, body, arena, &message, &err), RAG_INVALID_ARGUMENT);
  assert_null(message);
  assert_string_equal(err.field, field);
  assert_string_equal(err.message, want);
  rag_arena_destroy(arena);
}

// -------------------------------------------------------------------------------------------------------------- tests

static void reads_and_writes_the_wire(void **state) {
  RAG_UNUSED(state);
  rag_buf body = {0};
  put_request(&body);
  put_varint(&body, 99, 12345); // unknown fields of every wire type are passed over
  put_bytes(&body, 1000, S("\xFF\xFE"));
  put_tag(&body, 98, 1);
  rag_buf_append(&body, "12345678", 8);
  put_tag(&body, 97, 5);
  rag_buf_append(&body, "1234", 4);
  rag_arena *arena = rag_arena_create(0);
  ProtobufCMessage *message = NULL;
  rag_error err = {0};
  assert_int_equal(decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, &err), RAG_OK);
  const Ragd__V1__PutDocumentsRequest *put = (const Ragd__V1__PutDocumentsRequest *)message;
  assert_string_equal(put->kb, "kb");
  assert_string_equal(put->branch, "");
  assert_int_equal(put->n_documents, 2);
  assert_int_equal(put->n_delete_ids, 1);
  const Ragd__V1__DocumentInput *document = put->documents[1];
  assert_string_equal(document->id, "doc-1");
  assert_string_equal(document->text, "text \xC3\xA9");
  assert_string_equal(document->metadata, "{\"b\":[1.5,null],\"a\":{}}"); // compact, as from JSON
  assert_string_equal(document->chunks[0]->metadata, "{\"page\":1}");
  assert_true(document->source_modified_at == -5);
  assert_int_equal(document->vector.len, 12);
  assert_int_equal((uintptr_t)document->vector.data % 8, 0);
  assert_true(((const float *)(const void *)document->vector.data)[2] == 2.0f);

  rag_slice wire;
  ProtobufCMessage *again = NULL;
  assert_int_equal(rag_api__proto_encode(message, arena, &wire, &err), RAG_OK);
  assert_int_equal(decode(MESSAGE(put_documents_request), wire, arena, &again, &err), RAG_OK);
  assert_string_equal(((const Ragd__V1__PutDocumentsRequest *)again)->documents[0]->chunks[0]->text, "chunk text");
  // The empty body is the empty message, and writes as none.
  assert_int_equal(decode(MESSAGE(search_request), (rag_slice){0}, arena, &message, &err), RAG_OK);
  assert_int_equal(rag_api__proto_encode(message, arena, &wire, &err), RAG_OK);
  assert_int_equal(wire.size, 0);
  rag_arena_destroy(arena);
  rag_buf_free(&body);
}

static void presence_is_kept(void **state) {
  RAG_UNUSED(state);
  rag_arena *arena = rag_arena_create(0);
  rag_buf body = {0};
  ProtobufCMessage *message = NULL;
  put_varint(&body, 4, 0);
  assert_int_equal(decode(MESSAGE(search_request), rag_buf_slice(&body), arena, &message, NULL), RAG_OK);
  const Ragd__V1__SearchRequest *request = (const Ragd__V1__SearchRequest *)message;
  assert_int_equal(request->k_presence_case, RAGD__V1__SEARCH_REQUEST__K_PRESENCE_K);
  assert_int_equal(request->min_score_presence_case, 0);
  rag_arena_destroy(arena);
  rag_buf_free(&body);
}

static void bad_fields_are_named(void **state) {
  RAG_UNUSED(state);
  const ProtobufCMessageDescriptor *put = MESSAGE(put_documents_request), *search = MESSAGE(search_request);
  // documents is field 3 (tag 0x1A), a document's text 2 (0x12), its vector 8 (0x42), its metadata 4 (0x22).
  expect_refused(put, S("\x1A\x00\x1A\x04\x12\x02\xFFx"), "documents[1].text",
                 "documents[1].text: not valid UTF-8 at byte 0");
  expect_refused(put, S("\x1A\x05\x12\x03x\x00y"), "documents[0].text",
                 "documents[0].text: holds a NUL character; remove it");
  expect_refused(put, S("\x1A\x05\x42\x03xyz"), "documents[0].vector",
                 "documents[0].vector: 3 bytes are no vector: little-endian 32-bit floats take 4 bytes each");
  expect_refused(put, S("\x1A\x06\x42\x04\x00\x00\x80\x7F"), "documents[0].vector[0]",
                 "documents[0].vector[0]: is NaN or infinite; send finite numbers");
  expect_refused(put, S("\x1A\x04\x22\x02[]"), "documents[0].metadata",
                 "documents[0].metadata: expected an object, got an array");
  expect_refused(put, S("\x1A\x03\x22\x01{"), "documents[0].metadata",
                 "documents[0].metadata: bad JSON at byte 0: an object that starts here has no end");
  expect_refused(search, S("\x35\x00\x00\xC0\x7F"), "min_score", "min_score: is NaN or infinite; send a finite number");
  expect_refused(MESSAGE(create_kb_request), S("\x3A\x00:\x00"), "chunking",
                 "chunking: given twice; send one message with all of its fields");
  // Lies about lengths and types.
  expect_refused(put, S("\x1A\x05\x12\x02x"), "documents[0]",
                 "documents[0]: bad protobuf: says it has 5 bytes, and 3 are left; the body was cut short");
  expect_refused(put, S("\x1A\x03\x12\x02x"), "documents[0].text",
                 "documents[0].text: bad protobuf: says it has 2 bytes, and 1 are left; the body was cut short");
  expect_refused(put, S("\x12\xFF\xFF\xFF\xFF\x0F"), "branch",
                 "branch: bad protobuf: says it has 4294967295 bytes, and 0 are left; the body was cut short");
  expect_refused(put, S("\x12\xFF\xFF\xFF\xFF\xFF\x01"), "branch",
                 "branch: bad protobuf: a number takes too many bytes");
  expect_refused(put, S("\x18\x05"), "documents", "documents: bad protobuf: wire type 0, expected 2");
  expect_refused(search, S("\x22\x00"), "k", "k: bad protobuf: wire type 2, expected 0");
  expect_refused(search, S("\x20"), "k", "k: bad protobuf: the body ends inside a number; it was cut short");
  expect_refused(search, S("\x20\x80"), "k", "k: bad protobuf: the body ends inside a number; it was cut short");
  expect_refused(search, S("\x20\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"), "k",
                 "k: bad protobuf: a number takes too many bytes");
  expect_refused(search, S("\x35\x00\x00"), "min_score",
                 "min_score: bad protobuf: the body ends inside a number; it was cut short");
  expect_refused(search, S("\x00"), "", "the request: bad protobuf: a field has a number that none can have");
  expect_refused(search, S("\xFF\xFF\xFF\xFF\x7F"), "",
                 "the request: bad protobuf: a field has a number that none can have");
  expect_refused(search, S("\x80"), "", "the request: bad protobuf: the body ends inside a number; it was cut short");
  expect_refused(search, S("\x9B\x06"), "", "the request: bad protobuf: wire type 3 is not used"); // a group
  expect_refused(search, S("{\"query\":\"json\"}"), "", "the request: bad protobuf: wire type 3 is not used");
}

static void every_prefix_is_a_message_or_refused(void **state) {
  RAG_UNUSED(state);
  rag_buf body = {0};
  put_request(&body);
  unsigned good = 0;
  for (size_t size = 0; size <= body.size; size++) {
    rag_arena *arena = rag_arena_create(0);
    ProtobufCMessage *message = NULL;
    rag_error err = {0};
    rag_status status = decode(MESSAGE(put_documents_request), rag_slice_of(body.data, size), arena, &message, &err);
    good += status == RAG_OK;
    if (status != RAG_OK) {
      assert_int_equal(status, RAG_INVALID_ARGUMENT);
      assert_non_null(strstr(err.message, "cut short"));
    }
    rag_arena_destroy(arena);
  }
  assert_int_equal(good, 6); // before, between and after its five fields
  // Every byte replaced by every value: lengths, tags and texts alike.
  for (size_t at = 0; at < body.size; at++) {
    char before = body.data[at];
    for (unsigned v = 0; v < 256; v += 1 + (unsigned)(at % 3)) {
      body.data[at] = (char)v;
      rag_arena *arena = rag_arena_create(0);
      ProtobufCMessage *message = NULL;
      rag_status status = decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, NULL);
      assert_true(status == RAG_OK || status == RAG_INVALID_ARGUMENT);
      rag_arena_destroy(arena);
    }
    body.data[at] = before;
  }
  rag_buf_free(&body);
}

static void a_small_body_cannot_take_much_memory(void **state) {
  RAG_UNUSED(state);
  // Empty documents: 2 bytes of wire each, 100 and more as messages.
  size_t count = (1u << 20) / 2;
  rag_buf body = {0};
  for (size_t i = 0; i < count; i++) rag_buf_append(&body, "\x1A\x00", 2);
  rag_arena *arena = rag_arena_create(0);
  ProtobufCMessage *message = NULL;
  rag_error err = {0};
  assert_int_equal(decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, &err),
                   RAG_INVALID_ARGUMENT);
  assert_string_equal(err.message, "the request would take over 26214400 bytes of memory for 1048576 on the wire; send "
                                   "it in several requests");
  assert_in_range(rag_arena_used(arena), 1 << 20, rag_api__message_bytes_max(body.size));
  rag_arena_reset(arena);
  // Unknown fields are kept by protobuf-c, so they count.
  rag_buf_clear(&body);
  for (size_t i = 0; i < count; i++) rag_buf_append(&body, "\x78\x00", 2);
  assert_int_equal(decode(MESSAGE(empty), rag_buf_slice(&body), arena, &message, &err), RAG_INVALID_ARGUMENT);
  assert_in_range(rag_arena_used(arena), 0, rag_api__message_bytes_max(body.size));
  rag_arena_reset(arena);
  // What people send in numbers fits: a million short ids, and many short documents.
  rag_buf_clear(&body);
  for (unsigned i = 0; i < 1000000; i++) {
    char id[8];
    put_bytes(&body, 4, rag_slice_of(id, (size_t)snprintf(id, sizeof(id), "%04u", i % 10000)));
  }
  if (decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, &err) != RAG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(((const Ragd__V1__PutDocumentsRequest *)message)->n_delete_ids, 1000000);
  rag_arena_reset(arena);
  rag_buf_clear(&body);
  for (unsigned i = 0; i < 100000; i++) rag_buf_append(&body, "\x1A\x0C\x0A\x04id42\x12\x04text", 14);
  if (decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, &err) != RAG_OK)
    fail_msg("%s", err.message);
  rag_arena_destroy(arena);
  rag_buf_free(&body);
}

static void every_allocation_may_fail(void **state) {
  RAG_UNUSED(state);
  rag_buf body = {0};
  put_request(&body);
  put_document(&body, 3);
  unsigned failures = 0;
  for (uint64_t n = 1;; n++) {
    rag_arena *arena = rag_arena_create(0);
    ProtobufCMessage *message = NULL;
    rag_alloc_fail_after(n);
    rag_status status =
        rag_api__proto_decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, NULL);
    bool happened = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, happened ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    assert_int_equal(message == NULL, happened);
    rag_arena_destroy(arena);
    if (!happened) break;
    failures++;
  }
  assert_true(failures >= 2);
  // An arena that is too small at every size.
  unsigned refused = 0;
  for (size_t limit = 64;; limit += 16) {
    rag_arena *arena = rag_arena_create(limit);
    ProtobufCMessage *message = NULL;
    rag_slice wire;
    rag_status status =
        rag_api__proto_decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, NULL);
    if (status == RAG_OK) status = rag_api__proto_encode(message, arena, &wire, NULL);
    rag_arena_destroy(arena);
    if (status == RAG_OK) break;
    assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
    assert_true(++refused < 10000);
  }
  assert_true(refused > 10);
  rag_buf_free(&body);
}

static uint64_t random_state;
static uint64_t next_random(void) { // splitmix64
  uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

static void mutated_bodies_survive_or_are_refused(void **state) {
  RAG_UNUSED(state);
  const char *given = getenv("RAGD_TEST_SEED");
  random_state = given ? strtoull(given, NULL, 0) : 20260131;
  print_message("seed %llu (RAGD_TEST_SEED)\n", (unsigned long long)random_state);
  rag_buf valid = {0}, body = {0}, first = {0}, second = {0};
  put_request(&valid);
  rag_arena *arena = rag_arena_create(0);
  unsigned good = 0, bad = 0;
  for (unsigned round = 0; round < 60000; round++) {
    rag_buf_clear(&body);
    rag_buf_append(&body, valid.data, valid.size);
    for (unsigned changes = 1 + (unsigned)(next_random() % 3); changes && body.size; changes--) {
      size_t at = next_random() % body.size;
      switch (next_random() % 4) {
      case 0:
        body.data[at] ^= (char)(1 << next_random() % 8);
        break;
      case 1:
        body.data[at] = (char)next_random();
        break;
      case 2:
        memmove(body.data + at, body.data + at + 1, body.size - at - 1);
        body.size--;
        break;
      default:
        body.size = next_random() % 8 ? body.size : at;
      }
    }
    rag_arena_reset(arena);
    ProtobufCMessage *message = NULL, *again = NULL;
    rag_error err = {0};
    rag_status status = decode(MESSAGE(put_documents_request), rag_buf_slice(&body), arena, &message, &err);
    if (status != RAG_OK) {
      assert_int_equal(status, RAG_INVALID_ARGUMENT);
      assert_true(err.message[0] && rag_utf8_valid(err.message, strlen(err.message)));
      // Whatever is refused is refused by name, not by protobuf-c's bare no.
      assert_null(strstr(err.message, "the body is no"));
      bad++;
      continue;
    }
    good++;
    // What was accepted can be said in JSON, and means the same when read back from there.
    rag_buf_clear(&first);
    rag_buf_clear(&second);
    assert_int_equal(rag_api__json_encode(message, &first, &err), RAG_OK);
    rag_json_parser *parser = rag_json_parser_acquire();
    rag_json value;
    if (rag_json_parse(parser, rag_buf_slice(&first), &value, &err) != RAG_OK) fail_msg("%s", err.message);
    if (rag_api__json_decode(MESSAGE(put_documents_request), value, arena, &again, &err) != RAG_OK)
      fail_msg("%s", err.message);
    assert_int_equal(rag_api__json_encode(again, &second, &err), RAG_OK);
    assert_true(rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second)));
    rag_json_parser_release(parser);
  }
  print_message("%u accepted, %u refused\n", good, bad);
  assert_true(good > 1000 && bad > 1000);
  rag_arena_destroy(arena);
  rag_buf_free(&valid);
  rag_buf_free(&body);
  rag_buf_free(&first);
  rag_buf_free(&second);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_and_writes_the_wire),
      cmocka_unit_test(presence_is_kept),
      cmocka_unit_test(bad_fields_are_named),
      cmocka_unit_test(every_prefix_is_a_message_or_refused),
      cmocka_unit_test(a_small_body_cannot_take_much_memory),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(mutated_bodies_survive_or_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
