// The C face of the C++ that JSON needs: simdjson's parser, and the standard library's shortest number texts.
//
// Does not include base.h, which is C only. No exception crosses it: everything here is noexcept on the other side.
// Names have one underscore where C files of a folder have two: two are reserved in C++.
#ifndef RAGD_BASE_JSON_SHIM_H
#define RAGD_BASE_JSON_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Readable bytes that must follow the text; their content does not matter.
#define RAG_BASE_SIMDJSON_PADDING 64

typedef enum rag_base_simdjson_result {
  RAG_BASE_SIMDJSON_OK = 0,
  RAG_BASE_SIMDJSON_INVALID = 1,
  RAG_BASE_SIMDJSON_NO_MEMORY = 2,
} rag_base_simdjson_result;

typedef struct rag_base_simdjson rag_base_simdjson;
rag_base_simdjson *rag_base_simdjson_create(void); // NULL: out of memory
void rag_base_simdjson_destroy(rag_base_simdjson *parser);
// Room for texts of `text_bytes`; about 14 times that many bytes, most of them touched only by texts that need them.
// On failure the parser has no room at all, and asking again is fine.
rag_base_simdjson_result rag_base_simdjson_reserve(rag_base_simdjson *parser, size_t text_bytes, size_t depth_max);
// text_bytes: at most what was reserved. *tape and *strings are borrowed: valid until the next call with this parser.
// *reason: static, for RAG_BASE_SIMDJSON_INVALID.
rag_base_simdjson_result rag_base_simdjson_parse(rag_base_simdjson *parser, const char *padded_text, size_t text_bytes,
                                                 const uint64_t **tape, const uint8_t **strings, const char **reason);

// The shortest text that reads back as the same number. v is finite. Returns its size.
#define RAG_BASE_NUMBER_TEXT_MAX 32
size_t rag_base_float_text(float v, char out[RAG_BASE_NUMBER_TEXT_MAX]);
size_t rag_base_double_text(double v, char out[RAG_BASE_NUMBER_TEXT_MAX]);
// True where the text of a JSON number is too large for a double (or so small that it rounds to zero).
bool rag_base_double_out_of_range(const char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
