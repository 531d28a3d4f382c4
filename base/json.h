// JSON text: parsing (simdjson behind base/json_shim.cpp, the only C++ of this folder) and printing. The second public
// header of base; not in -DRAGD_ONLY_KERNELS builds. Library: rag_json.
//
// Strict: valid UTF-8, no comments, no NaN or Infinity, no trailing text, no duplicate names in one object, depth at
// most RAG_JSON_DEPTH_MAX. Integers are exact in [-2^63, 2^64); larger ones are refused rather than rounded.
#ifndef RAGD_BASE_JSON_H
#define RAGD_BASE_JSON_H

#include "base/base.h"

#define RAG_JSON_DEPTH_MAX 64u

// A parser keeps its buffers from one document to the next: make one per thread or take one from the pool below. Values
// stay valid until the parser's next parse or its destruction.
typedef struct rag_json_parser rag_json_parser;
rag_json_parser *rag_json_parser_create(void); // NULL: out of memory
void rag_json_parser_destroy(rag_json_parser *parser);
rag_json_parser *rag_json_parser_acquire(void);        // from a small thread-safe free list, else created
void rag_json_parser_release(rag_json_parser *parser); // oversized buffers are given back to the system

typedef struct rag_json { // a value; copy freely
  const void *document;
  size_t index;
} rag_json;

typedef enum rag_json_type {
  RAG_JSON_NULL = 0,
  RAG_JSON_BOOL,
  RAG_JSON_INT,    // fits int64_t
  RAG_JSON_UINT,   // over INT64_MAX
  RAG_JSON_DOUBLE, // has a fraction or an exponent
  RAG_JSON_STRING,
  RAG_JSON_ARRAY,
  RAG_JSON_OBJECT,
} rag_json_type;
const char *rag_json_type_name(rag_json_type type); // "a number", "an object", ... for messages

// RAG_INVALID_ARGUMENT with the reason and, where known, the byte offset.
RAG_NODISCARD rag_status rag_json_parse(rag_json_parser *parser, rag_slice text, rag_json *out, rag_error *err);
rag_json_type rag_json_type_of(rag_json value);
size_t rag_json_text_size(rag_json value); // bytes of the whole text that the value was parsed from
bool rag_json_bool(rag_json value);
int64_t rag_json_int(rag_json value);   // RAG_JSON_INT
uint64_t rag_json_uint(rag_json value); // RAG_JSON_INT >= 0 or RAG_JSON_UINT
double rag_json_double(rag_json value); // any number
rag_slice rag_json_string(rag_json value);
size_t rag_json_size(rag_json value);                               // members or elements; walks: O(n)
bool rag_json_find(rag_json object, rag_slice name, rag_json *out); // O(members)
// Iteration: rag_json_iter it = rag_json_iter_of(v); while (rag_json_iter_next(&it)) { it.name (objects), it.value }.
typedef struct rag_json_iter {
  rag_json container;
  size_t at;
  bool object;
  rag_slice name;
  rag_json value;
} rag_json_iter;
rag_json_iter rag_json_iter_of(rag_json container);
bool rag_json_iter_next(rag_json_iter *it);
// An array of numbers as floats. Returns the number of elements (out gets at most `capacity`), or SIZE_MAX where the
// value is no array or an element is no number or overflows a float; *bad_index then names it.
size_t rag_json_floats(rag_json array, float *out, size_t capacity, size_t *bad_index);
// Appends the value as compact JSON text (strings re-escaped minimally, numbers shortest, member order kept).
void rag_json_write(rag_json value, rag_buf *out);

// Printing.
void rag_json_put_string(rag_buf *out, rag_slice s); // quoted and escaped; s is valid UTF-8
void rag_json_put_float(rag_buf *out, float v);   // shortest text that reads back as the same float; not finite: null
void rag_json_put_double(rag_buf *out, double v); // the same; a whole number keeps its kind: "1.0"
void rag_json_put_int(rag_buf *out, int64_t v);
void rag_json_put_uint(rag_buf *out, uint64_t v);

// RFC 7386: applies `patch` (an object) to `target` (object text or empty) and appends the compact result.
RAG_NODISCARD rag_status rag_json_merge_patch(rag_slice target, rag_json patch, rag_buf *out, rag_error *err);

#endif
