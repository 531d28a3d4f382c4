// The key codec. Integers are big-endian, so that memcmp order is scan order. Variable parts inside a key carry a u16
// length: ("a", "bc") and ("ab", "c") are two keys, at the price that such parts sort by length first.
#include "store/store.h"

static unsigned char *grow(rag_key *key, size_t size) {
  RAG_ASSERT(size <= RAG_STORE_KEY_MAX - key->size);
  unsigned char *at = key->bytes + key->size;
  key->size += size;
  return at;
}

// The bytes are not cleared: a key is a kilobyte on the stack and most of it is never touched.
void rag_key_init(rag_key *key) {
  key->size = 0;
}

void rag_key_u8(rag_key *key, uint8_t v) {
  *grow(key, 1) = v;
}

void rag_key_u32(rag_key *key, uint32_t v) {
  unsigned char *at = grow(key, 4);
  for (int i = 0; i < 4; i++) at[i] = (unsigned char)(v >> (24 - 8 * i));
}

void rag_key_u64(rag_key *key, uint64_t v) {
  unsigned char *at = grow(key, 8);
  for (int i = 0; i < 8; i++) at[i] = (unsigned char)(v >> (56 - 8 * i));
}

void rag_key_raw(rag_key *key, const void *data, size_t size) {
  unsigned char *at = grow(key, size);
  if (size > 0) memcpy(at, data, size);
}

void rag_key_bytes(rag_key *key, rag_slice s) {
  RAG_ASSERT(s.size <= UINT16_MAX);
  unsigned char *at = grow(key, 2);
  at[0] = (unsigned char)(s.size >> 8);
  at[1] = (unsigned char)(s.size & 0xff);
  rag_key_raw(key, s.data, s.size);
}

bool rag_key_successor(const rag_key *key, rag_key *out) {
  size_t size = key->size;
  while (size > 0 && key->bytes[size - 1] == 0xff) size--;
  if (size == 0) return false;
  memmove(out->bytes, key->bytes, size);
  out->bytes[size - 1]++;
  out->size = size;
  return true;
}
