// SHA-256 and the 160-bit identity cut from it: the adapter to nettle.
//
// nettle rather than our own: it has SHA instructions and is reviewed. No nettle type crosses base.h.
//
// Threads: a state belongs to its caller; the functions are pure.
#include "base/base.h"

#include <nettle/sha2.h>

_Static_assert(sizeof(struct sha256_ctx) <= sizeof(rag_digest_state), "the opaque state must hold nettle's");
_Static_assert(_Alignof(struct sha256_ctx) <= _Alignof(rag_digest_state), "and be aligned for it");
_Static_assert(RAG_DIGEST_BYTES <= SHA256_DIGEST_SIZE, "an identity is a prefix of a SHA-256");

static struct sha256_ctx *context_of(rag_digest_state *state) {
  return (struct sha256_ctx *)(void *)state->opaque;
}

void rag_digest_init(rag_digest_state *state) {
  sha256_init(context_of(state));
}

void rag_digest_update(rag_digest_state *state, const void *data, size_t size) {
  if (size) sha256_update(context_of(state), size, data);
}

void rag_digest_update_bytes(rag_digest_state *state, rag_slice s) {
  uint8_t length[8];
  for (size_t i = 0; i < sizeof(length); i++) length[i] = (uint8_t)((uint64_t)s.size >> (8 * i));
  rag_digest_update(state, length, sizeof(length));
  rag_digest_update(state, s.data, s.size);
}

rag_digest rag_digest_final(rag_digest_state *state) {
  rag_digest digest;
  sha256_digest(context_of(state), sizeof(digest.bytes), digest.bytes);
  return digest;
}

rag_digest rag_digest_of(const void *data, size_t size) {
  rag_digest_state state;
  rag_digest_init(&state);
  rag_digest_update(&state, data, size);
  return rag_digest_final(&state);
}

void rag_sha256(const void *data, size_t size, uint8_t out[32]) {
  rag_digest_state state;
  rag_digest_init(&state);
  rag_digest_update(&state, data, size);
  sha256_digest(context_of(&state), SHA256_DIGEST_SIZE, out);
}
