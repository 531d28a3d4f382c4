// embed: text to vectors. Knows neither RocksDB nor knowledge bases.
//
// An embedder has a *fingerprint*: everything that decides its vectors (kind, weights, tokenizer, prompts, pooling,
// normalisation, dimension). Vectors of different fingerprints are never compared. The built-in `hash-384` needs no
// model: words and character n-grams hashed to a fixed dimension with a frozen weight table (embed/hash.c).
#ifndef RAGD_EMBED_H
#define RAGD_EMBED_H

#include "base/base.h"

#define RAG_EMBED_TEXT_BYTES_MAX (8u << 20) // of one text; the caller chunks
#define RAG_EMBED_FINGERPRINT_MAX 64        // with the NUL
#define RAG_EMBED_HASH_DIMENSION_MIN 16
#define RAG_EMBED_HASH_DIMENSION_MAX 4096

// Starts with a rag_ref (rag_ref_take / rag_ref_drop). Immutable after creation: any number of threads may embed.
typedef struct rag_embedder rag_embedder;

// "hash-N": the built-in embedder of dimension N (16 to 4096). RAG_NOT_FOUND for another name; the message says which
// exist. *out owned.
RAG_NODISCARD rag_status rag_embedder_open(rag_slice model, rag_embedder **out, rag_error *err);
const char *rag_embedder_name(const rag_embedder *embedder);        // "hash-384"
const char *rag_embedder_fingerprint(const rag_embedder *embedder); // "hash-384-<16 hex digits>"
uint32_t rag_embedder_dimension(const rag_embedder *embedder);

typedef enum rag_embed_role {
  RAG_EMBED_DOCUMENT = 0,
  RAG_EMBED_QUERY = 1
} rag_embed_role; // models may prompt them apart
// out: count * dimension floats, each row of unit length. Texts are valid UTF-8. A text without any word still has a
// (fixed) unit vector, so that every text can be stored. RAG_INVALID_ARGUMENT over RAG_EMBED_TEXT_BYTES_MAX.
RAG_NODISCARD rag_status rag_embedder_embed(rag_embedder *embedder, rag_embed_role role, const rag_slice *texts,
                                            uint32_t count, float *out, rag_error *err);

#endif
