// Goal: no body makes the protobuf codec crash, leak, read past the body, pass its memory bound, or accept what cannot
// be said in JSON. Method: libFuzzer. The first byte picks the message type. What is accepted is encoded as JSON and
// read back into the same JSON; what is refused is refused with a reason of our own, never by protobuf-c alone.
#include "api/api_internal.h"
#include "tests/fuzz/fuzz.h"

static const ProtobufCMessageDescriptor *const types[] = {
    &ragd__v1__search_request__descriptor,
    &ragd__v1__put_documents_request__descriptor,
    &ragd__v1__create_kb_request__descriptor,
    &ragd__v1__search_response__descriptor,
    &ragd__v1__job__descriptor,
};

static void check_says_itself_in_json(const ProtobufCMessageDescriptor *type, const ProtobufCMessage *message,
                                      rag_arena *arena) {
  rag_json_parser *parser = rag_json_parser_acquire();
  rag_buf first = {0}, second = {0};
  rag_json value;
  rag_slice wire;
  ProtobufCMessage *again;
  REQUIRE(rag_api__json_encode(message, &first, NULL) == RAG_OK);
  REQUIRE(rag_json_parse(parser, rag_buf_slice(&first), &value, NULL) == RAG_OK);
  REQUIRE(rag_api__json_decode(type, value, arena, &again, NULL) == RAG_OK);
  REQUIRE(rag_api__json_encode(again, &second, NULL) == RAG_OK);
  if (!rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second))) {
    // A text of inline JSON that is there and empty is said as null, which is read as not given: once, and no other way.
    REQUIRE(memmem(first.data, first.size, ":null", 5) != NULL && second.size < first.size);
    rag_buf_clear(&first);
    REQUIRE(rag_api__json_encode(again, &first, NULL) == RAG_OK);
    REQUIRE(rag_json_parse(parser, rag_buf_slice(&first), &value, NULL) == RAG_OK);
    REQUIRE(rag_api__json_decode(type, value, arena, &again, NULL) == RAG_OK);
    rag_buf_clear(&first);
    REQUIRE(rag_api__json_encode(again, &first, NULL) == RAG_OK);
    REQUIRE(rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second)));
  }
  REQUIRE(rag_api__proto_encode(message, arena, &wire, NULL) == RAG_OK);
  REQUIRE(rag_api__proto_decode(type, wire, arena, &again, NULL) == RAG_OK);
  rag_buf_free(&first);
  rag_buf_free(&second);
  rag_json_parser_release(parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  const ProtobufCMessageDescriptor *type = types[data[0] % RAG_COUNT_OF(types)];
  rag_arena *arena = rag_arena_create(0);
  rag_error err = {0};
  ProtobufCMessage *message;
  rag_status status = rag_api__proto_decode(type, rag_slice_of(data + 1, size - 1), arena, &message, &err);
  // Compacted inline JSON comes on top of the bound; it is no longer than twice its text.
  REQUIRE(rag_arena_used(arena) <= rag_api__message_bytes_max(size - 1) + 2 * size + 4096);
  if (status == RAG_OK) {
    check_says_itself_in_json(type, message, arena);
  } else {
    REQUIRE(status == RAG_INVALID_ARGUMENT && rag_utf8_valid(err.message, strlen(err.message)));
    // From the start: further on a message may quote the body, and the fuzzer had it quote this.
    REQUIRE(strncmp(err.message, "bad protobuf: the body is no ", 29) != 0);
  }
  rag_arena_destroy(arena);
  return 0;
}
