// The embedder interface: opening by name, the checks that are the same for every kind, and nothing else.
//
// Threads: an embedder is immutable after rag_embedder_open.
// Leaves to the kinds (rag_embedder_kind): their vectors and their fingerprint.
#include "embed/embed_internal.h"

#include <stdio.h>

#define MODEL_SHOWN_MAX 80 // bytes of an unknown name that a message repeats

static void embedder_destroy(rag_ref *self) {
  rag_embedder *embedder = (rag_embedder *)self;
  embedder->kind->destroy(embedder);
}

void rag_embed__init(rag_embedder *embedder, const rag_embedder_kind *kind, uint32_t dimension) {
  rag_ref_init(&embedder->ref, embedder_destroy);
  embedder->kind = kind;
  embedder->dimension = dimension;
}

// The N of "hash-N", or 0. One spelling for one model: no sign, no leading zero.
static uint32_t hash_dimension_of(rag_slice model) {
  static const char prefix[] = "hash-";
  const size_t prefix_size = sizeof(prefix) - 1;
  if (model.size <= prefix_size || model.size > prefix_size + 4) return 0;
  if (memcmp(model.data, prefix, prefix_size) != 0 || model.data[prefix_size] == '0') return 0;
  uint32_t dimension = 0;
  for (size_t i = prefix_size; i < model.size; i++) {
    if (model.data[i] < '0' || model.data[i] > '9') return 0;
    dimension = dimension * 10 + (uint32_t)(model.data[i] - '0');
  }
  if (dimension < RAG_EMBED_HASH_DIMENSION_MIN || dimension > RAG_EMBED_HASH_DIMENSION_MAX) return 0;
  return dimension;
}

rag_status rag_embedder_open(rag_slice model, rag_embedder **out, rag_error *err) {
  uint32_t dimension = hash_dimension_of(model);
  if (dimension != 0) return rag_embed__hash_open(dimension, out, err);
  int shown = (int)RAG_MIN(model.size, (size_t)MODEL_SHOWN_MAX);
  return rag_fail(err, RAG_NOT_FOUND,
                  "model '%.*s' does not exist; there is hash-N with N from %d to %d, such as hash-384", shown,
                  model.size ? model.data : "", RAG_EMBED_HASH_DIMENSION_MIN, RAG_EMBED_HASH_DIMENSION_MAX);
}

const char *rag_embedder_name(const rag_embedder *embedder) {
  return embedder->name;
}

const char *rag_embedder_fingerprint(const rag_embedder *embedder) {
  return embedder->fingerprint;
}

uint32_t rag_embedder_dimension(const rag_embedder *embedder) {
  return embedder->dimension;
}

rag_status rag_embedder_embed(rag_embedder *embedder, rag_embed_role role, const rag_slice *texts, uint32_t count,
                              float *out, rag_error *err) {
  if (role != RAG_EMBED_DOCUMENT && role != RAG_EMBED_QUERY) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "embedding role %d is neither document (0) nor query (1)", (int)role);
  }
  // All sizes first, so that a refused call has written nothing.
  for (uint32_t i = 0; i < count; i++) {
    if (texts[i].size <= RAG_EMBED_TEXT_BYTES_MAX) continue;
    char field[RAG_ERROR_FIELD_MAX];
    snprintf(field, sizeof(field), "texts[%u]", i);
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field,
                          "text %u has %zu bytes; at most %u can be embedded at once: cut it into chunks", i,
                          texts[i].size, RAG_EMBED_TEXT_BYTES_MAX);
  }
  return embedder->kind->embed(embedder, role, texts, count, out, err);
}
