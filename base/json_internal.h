// What the JSON files share with each other and with JSON's own tests; not for other folders.
#ifndef RAGD_BASE_JSON_INTERNAL_H
#define RAGD_BASE_JSON_INTERNAL_H

#include "base/json.h"

// Reads `text` slowly and says what is wrong with it: RAG_INVALID_ARGUMENT with the reason, the byte offset, and the
// path of the value in err->field. RAG_OK where nothing is. Agrees with the parser on what is JSON, but for duplicate
// names, which it lets pass (json_diagnose.c).
rag_status rag_base__json_diagnose(rag_slice text, rag_error *err);

// A path such as "documents[3].text", growing at its end and cut to what rag_error has room for.
typedef struct rag_base__json_path {
  char text[RAG_ERROR_FIELD_MAX];
} rag_base__json_path;
void rag_base__json_path_name(rag_base__json_path *path, rag_slice name);
void rag_base__json_path_index(rag_base__json_path *path, size_t index);

#endif
