// Goal: no text makes the filter parser crash, leak, keep a part of the text, or refuse without a place and a reason;
// no filter makes matching read past the metadata or answer differently twice. Method: libFuzzer. What is accepted is
// matched against fixed metadata, after its text and its parser are gone, and is matched again negated: exactly one of
// the two may hold.
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "kb/kb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "failed: %s (%s:%d)\n", #condition, __FILE__, __LINE__);                                         \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

static const char *const metadata[] = {
    "",
    "{}",
    "{\"a\": 1, \"b\": \"red wine\", \"c\": true, \"t\": \"2024-01-31T10:00:00Z\", \"g\": {\"lat\": 52.5, \"lon\": "
    "13.4}}",
    "{\"a\": [1, 1.0, 1.5, -1, null, \"1\", [1], {}], \"b\": {\"a\": {\"a\": []}, \"b\": null}, \"t\": \"2024-01-31 "
    "10:00\"}",
    "{\"a\": [{\"a\": 1, \"b\": [{\"a\": 2}]}, {\"a\": 2, \"b\": []}], \"g\": [{\"lat\": 90, \"lon\": -180}, {\"lat\": "
    "1}]}",
    "[1]",
};

static bool matches(const rag_filter *filter, const char *text, rag_json_parser *parser) {
  bool first = false, second = true;
  REQUIRE(rag_filter_match(filter, rag_slice_str("doc"), rag_slice_str(text), parser, &first, NULL) == RAG_OK);
  REQUIRE(rag_filter_match(filter, rag_slice_str("doc"), rag_slice_str(text), parser, &second, NULL) == RAG_OK);
  REQUIRE(first == second);
  return first;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  rag_arena *arena = rag_arena_create(0);
  rag_json_parser *parser = rag_json_parser_create();
  char *text = malloc(size > 0 ? size : 1);
  rag_buf negated = {0};
  rag_error err = {0};
  const rag_filter *filter = NULL, *opposite = NULL;
  REQUIRE(arena != NULL && parser != NULL && text != NULL);
  if (size > 0) memcpy(text, data, size);
  rag_status status = rag_filter_parse(rag_slice_of(text, size), arena, &filter, &err);
  free(text);
  if (status == RAG_OK) {
    rag_buf_append_str(&negated, "{\"must_not\": [");
    if (size > 0) rag_buf_append(&negated, data, size);
    else rag_buf_append_str(&negated, "{}");
    rag_buf_append_str(&negated, "]}");
    // One deeper and one condition more may be too much; nothing else may be.
    bool negates = rag_filter_parse(rag_buf_slice(&negated), arena, &opposite, NULL) == RAG_OK;
    REQUIRE(negates || size > 100);
    for (size_t i = 0; i < RAG_COUNT_OF(metadata); i++) {
      bool pass = matches(filter, metadata[i], parser);
      if (negates) REQUIRE(matches(opposite, metadata[i], parser) == !pass);
    }
  } else {
    REQUIRE(status == RAG_INVALID_ARGUMENT && filter == NULL);
    REQUIRE(strncmp(err.field, "filter", 6) == 0 && strncmp(err.message, "filter", 6) == 0);
    REQUIRE(rag_utf8_valid(err.message, strlen(err.message)) && rag_utf8_valid(err.field, strlen(err.field)));
  }
  rag_buf_free(&negated);
  rag_json_parser_destroy(parser);
  rag_arena_destroy(arena);
  return 0;
}
