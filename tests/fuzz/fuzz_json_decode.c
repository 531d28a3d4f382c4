// Goal: no body makes the JSON parser and codec crash, leak, read past the body, or accept what they cannot say again.
// Method: libFuzzer. The first byte picks the message type. What is accepted is encoded, and the encoding must be read
// back into the same encoding; what the fast parser refuses, the slow reader must refuse too, but for duplicate names.
#include "api/api_internal.h"
#include "base/json_internal.h"
#include "tests/fuzz/fuzz.h"

static const ProtobufCMessageDescriptor *const types[] = {
    &ragd__v1__search_request__descriptor,
    &ragd__v1__put_documents_request__descriptor,
    &ragd__v1__create_kb_request__descriptor,
    &ragd__v1__search_response__descriptor,
    &ragd__v1__job__descriptor,
};

static void check_round_trip(const ProtobufCMessageDescriptor *type, const ProtobufCMessage *message,
                             rag_json_parser *parser, rag_arena *arena) {
  rag_buf first = {0}, second = {0};
  rag_json value;
  ProtobufCMessage *again;
  REQUIRE(rag_api__json_encode(message, &first, NULL) == RAG_OK);
  REQUIRE(rag_json_parse(parser, rag_buf_slice(&first), &value, NULL) == RAG_OK);
  REQUIRE(rag_api__json_decode(type, value, arena, &again, NULL) == RAG_OK);
  REQUIRE(rag_api__json_encode(again, &second, NULL) == RAG_OK);
  REQUIRE(rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second)));
  rag_buf_free(&first);
  rag_buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  const ProtobufCMessageDescriptor *type = types[data[0] % RAG_COUNT_OF(types)];
  rag_slice body = rag_slice_of(data + 1, size - 1);
  rag_json_parser *parser = rag_json_parser_acquire();
  rag_arena *arena = rag_arena_create(0);
  rag_json value;
  rag_error err = {0};
  ProtobufCMessage *message;
  if (rag_json_parse(parser, body, &value, &err) != RAG_OK) {
    REQUIRE(err.status == RAG_INVALID_ARGUMENT);
    rag_error second = {0};
    bool duplicate = strstr(err.message, "appears twice") != NULL;
    REQUIRE(duplicate || rag_base__json_diagnose(body, &second) != RAG_OK);
  } else {
    REQUIRE(rag_base__json_diagnose(body, &err) == RAG_OK);
    if (rag_api__json_decode(type, value, arena, &message, &err) == RAG_OK)
      check_round_trip(type, message, parser, arena);
    else REQUIRE(err.status == RAG_INVALID_ARGUMENT && rag_utf8_valid(err.message, strlen(err.message)));
  }
  rag_arena_destroy(arena);
  rag_json_parser_release(parser);
  return 0;
}
