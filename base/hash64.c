// rag_hash64: a fast hash for in-memory tables, of the multiply-and-fold family: 64 x 64 -> 128 bits, halves XORed.
//
// The keys are drawn at start and never leave the process. All of them enter the products, not the seed alone: with a
// known constant c, an input word equal to c makes a product zero whatever the other word is, and a client that picks
// document ids could then fill one bucket.
//
// Threads: the keys are written by a constructor, before main, and are immutable from then on.
//
// Left to others: identity of texts (rag_digest), checksums (rag_crc32c). Its values differ from run to run: they must
// not reach a disk or a wire.
#include "base/base.h"

#define HASH_KEYS 5

static uint64_t keys[HASH_KEYS]; // immutable after the constructor

static __attribute__((constructor)) void draw_keys(void) {
  rag_os_random(keys, sizeof(keys));
}

static inline uint64_t fold(uint64_t a, uint64_t b) {
  __extension__ typedef unsigned __int128 u128;
  u128 product = (u128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load64(const unsigned char *p) {
  uint64_t v;
  memcpy(&v, p, sizeof(v));
  return v;
}

static inline uint64_t load32(const unsigned char *p) {
  uint32_t v;
  memcpy(&v, p, sizeof(v));
  return v;
}

// The last (or only) 0 to 16 bytes as two words. Overlapping loads: together with the size they give every byte back.
static inline void load_tail(const unsigned char *p, size_t size, uint64_t *a, uint64_t *b) {
  if (size >= 8) {
    *a = load64(p);
    *b = load64(p + size - 8);
  } else if (size >= 4) {
    *a = load32(p);
    *b = load32(p + size - 4);
  } else if (size > 0) {
    *a = (uint64_t)p[0] << 16 | (uint64_t)p[size >> 1] << 8 | p[size - 1];
    *b = 0;
  } else {
    *a = *b = 0;
  }
}

uint64_t rag_hash64(const void *data, size_t size) {
  const unsigned char *p = data;
  uint64_t state = keys[0];
  size_t left = size;
  if (left > 48) {
    // Three independent chains keep the multiplier busy: one alone waits for its own latency.
    uint64_t state1 = keys[0], state2 = keys[0];
    do {
      state = fold(load64(p) ^ keys[1], load64(p + 8) ^ state);
      state1 = fold(load64(p + 16) ^ keys[2], load64(p + 24) ^ state1);
      state2 = fold(load64(p + 32) ^ keys[3], load64(p + 40) ^ state2);
      p += 48;
      left -= 48;
    } while (left > 48);
    // Rotations: equal states of two chains must not cancel.
    state ^= (state1 << 21 | state1 >> 43) ^ (state2 << 42 | state2 >> 22);
  }
  while (left > 16) {
    state = fold(load64(p) ^ keys[1], load64(p + 8) ^ state);
    p += 16;
    left -= 16;
  }
  uint64_t a, b;
  load_tail(p, left, &a, &b);
  return fold(keys[4] ^ size, fold(a ^ keys[2], b ^ state));
}
