// Helpers of the filter tests: an arena and a parser for all tests of a program, parsing, and the texts of conditions.
#ifndef RAGD_TESTS_FILTER_TEST_H
#define RAGD_TESTS_FILTER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/json.h"
#include "kb/kb.h"

#define PT(lat, lon) "{\"lat\": " #lat ", \"lon\": " #lon "}"
#define SQUARE "[" PT(0, 0) "," PT(0, 10) "," PT(10, 10) "," PT(10, 0) "," PT(0, 0) "]"
#define HOLE "{\"points\": [" PT(4, 4) "," PT(6, 4) "," PT(6, 6) "," PT(4, 6) "," PT(4, 4) "]}"
#define HOLE_2 "{\"points\": [" PT(1, 1) "," PT(2, 1) "," PT(2, 2) "," PT(1, 1) "]}"
#define STAR "[" PT(0, 0) "," PT(10, 5) "," PT(0, 10) "," PT(3, 5) "," PT(0, 0) "]"
#define M(key, value) "{\"key\": \"" key "\", \"match\": {\"value\": " value "}}"
#define A M("a", "1")
#define B M("b", "1")
#define C M("c", "1")

static rag_arena *arena;
static rag_json_parser *reader;

static inline int setup(void **state) {
  RAG_UNUSED(state);
  arena = rag_arena_create(0);
  reader = rag_json_parser_create();
  return arena != NULL && reader != NULL ? 0 : -1;
}

static inline int teardown(void **state) {
  RAG_UNUSED(state);
  rag_arena_destroy(arena);
  rag_json_parser_destroy(reader);
  return 0;
}

static inline const rag_filter *parsed(const char *text) {
  const rag_filter *filter = NULL;
  rag_error err = {0};
  if (rag_filter_parse(rag_slice_str(text), arena, &filter, &err) != RAG_OK) fail_msg("%s: %s", text, err.message);
  return filter;
}

static inline void repeat(rag_buf *out, const char *text, size_t count) {
  for (size_t i = 0; i < count; i++) rag_buf_append_str(out, text);
}

#endif
