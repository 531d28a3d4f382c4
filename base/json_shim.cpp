// simdjson and <charconv> behind the C functions of json_shim.h; the only C++ of this folder.
//
// Why simdjson: a search request carries a few hundred numbers, and parsing them is most of the request's cost; see
// benchmarks/json_vector. Why its DOM and not "on demand": the whole text is checked before anything is believed, and
// the result is a flat array ("tape", described in simdjson's doc/tape.md) that json.c walks without coming back here.
//
// simdjson is used through its error codes alone. It allocates with the nothrow new, so memory that is missing comes
// back as a code too; the catch blocks are there so that a later version that thinks otherwise still cannot unwind
// through C.
#define SIMDJSON_EXCEPTIONS 0
#include "base/json_shim.h"

#include <charconv>
#include <new>
#include <simdjson.h>
#include <system_error>

static_assert(simdjson::SIMDJSON_PADDING <= RAG_BASE_SIMDJSON_PADDING, "raise RAG_BASE_SIMDJSON_PADDING");

struct rag_base_simdjson {
  simdjson::dom::parser parser;
};

extern "C" {

rag_base_simdjson *rag_base_simdjson_create(void) {
  try {
    return new (std::nothrow) rag_base_simdjson;
  } catch (...) {
    return nullptr;
  }
}

void rag_base_simdjson_destroy(rag_base_simdjson *parser) {
  delete parser;
}

rag_base_simdjson_result rag_base_simdjson_reserve(rag_base_simdjson *parser, size_t text_bytes, size_t depth_max) {
  try {
    simdjson::error_code tape_error = parser->parser.doc.allocate(text_bytes);
    simdjson::error_code error = parser->parser.allocate(text_bytes, depth_max);
    return tape_error || error ? RAG_BASE_SIMDJSON_NO_MEMORY : RAG_BASE_SIMDJSON_OK;
  } catch (...) {
    return RAG_BASE_SIMDJSON_NO_MEMORY;
  }
}

rag_base_simdjson_result rag_base_simdjson_parse(rag_base_simdjson *parser, const char *padded_text, size_t text_bytes,
                                                 const uint64_t **tape, const uint8_t **strings, const char **reason) {
  try {
    // false: the text has its padding, so simdjson needs no copy of its own.
    simdjson::error_code error = parser->parser.parse(padded_text, text_bytes, false).error();
    if (error == simdjson::MEMALLOC) return RAG_BASE_SIMDJSON_NO_MEMORY;
    if (error) {
      *reason = simdjson::error_message(error);
      return RAG_BASE_SIMDJSON_INVALID;
    }
    *tape = parser->parser.doc.tape.get();
    *strings = parser->parser.doc.string_buf.get();
    return RAG_BASE_SIMDJSON_OK;
  } catch (...) {
    return RAG_BASE_SIMDJSON_NO_MEMORY;
  }
}

size_t rag_base_float_text(float v, char out[RAG_BASE_NUMBER_TEXT_MAX]) {
  return static_cast<size_t>(std::to_chars(out, out + RAG_BASE_NUMBER_TEXT_MAX, v).ptr - out);
}

size_t rag_base_double_text(double v, char out[RAG_BASE_NUMBER_TEXT_MAX]) {
  return static_cast<size_t>(std::to_chars(out, out + RAG_BASE_NUMBER_TEXT_MAX, v).ptr - out);
}

bool rag_base_double_out_of_range(const char *text, size_t size) {
  try {
    double v;
    return std::from_chars(text, text + size, v).ec == std::errc::result_out_of_range;
  } catch (...) {
    return false; // libstdc++ may allocate for very long texts
  }
}
}
