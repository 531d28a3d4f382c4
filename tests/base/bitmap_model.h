// A naive model of a bitmap for the tests: one byte per ordinal of a universe of four blocks, and random edits made to
// it and to the real one alike.
#ifndef RAGD_TESTS_BASE_BITMAP_MODEL_H
#define RAGD_TESTS_BASE_BITMAP_MODEL_H

#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

#define UNIVERSE (4u * RAG_BITMAP_BLOCK_BITS)

typedef struct model {
  uint8_t has[UNIVERSE];
} model;

static uint64_t random_state;

static inline uint32_t random_below(uint32_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((random_state >> 33) % bound);
}

// RAGD_TEST_SEED repeats a run.
static inline void seed_random(void) {
  const char *given = getenv("RAGD_TEST_SEED");
  rag_os_random(&random_state, sizeof(random_state));
  if (given) random_state = strtoull(given, NULL, 0);
  printf("seed: RAGD_TEST_SEED=%llu\n", (unsigned long long)random_state);
  fflush(stdout);
}

// An ordinal near an edge of a word or block half of the time.
static inline uint32_t random_ordinal(void) {
  static const uint32_t edges[] = {0, 1, 63, 64, 65535, 65536, 65537, 131071, 131072, 196607, 196608, UNIVERSE - 1};
  return random_below(2) ? edges[random_below(RAG_COUNT_OF(edges))] : random_below(UNIVERSE);
}

static inline uint32_t random_length(uint32_t first) {
  static const uint32_t lengths[] = {0, 1, 2, 63, 64, 65, 1000, 65535, 65536, 65537, 140000};
  uint32_t length = random_below(2) ? lengths[random_below(RAG_COUNT_OF(lengths))] : random_below(5000);
  return RAG_MIN(length, UNIVERSE - first);
}

// One random edit of both. The real one's status; the model only moves when it is OK.
static inline rag_status random_edit(rag_bitmap_edit *edit, model *m) {
  uint32_t first = random_ordinal(), length = random_length(first), kind = random_below(6);
  rag_status status;
  if (kind < 2) length = 1;
  switch (kind) {
  case 0:
    status = rag_bitmap_edit_add(edit, first);
    break;
  case 1:
    status = rag_bitmap_edit_remove(edit, first);
    break;
  case 2:
  case 3:
    status = rag_bitmap_edit_add_range(edit, first, length);
    break;
  default:
    status = rag_bitmap_edit_remove_range(edit, first, length);
    break;
  }
  if (status == RAG_OK) memset(m->has + first, kind == 0 || kind == 2 || kind == 3, length);
  return status;
}

// A new bitmap of random content, and its model.
static inline rag_bitmap *random_bitmap(model *m, uint32_t edits) {
  memset(m, 0, sizeof(*m));
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *bitmap = NULL;
  RAG_ASSERT(edit);
  for (uint32_t i = 0; i < edits; i++) RAG_ASSERT(random_edit(edit, m) == RAG_OK);
  uint32_t sparse = random_below(300); // scattered ordinals, too
  for (uint32_t i = 0; i < sparse; i++) {
    uint32_t value = random_below(UNIVERSE);
    RAG_ASSERT(rag_bitmap_edit_add(edit, value) == RAG_OK);
    m->has[value] = 1;
  }
  RAG_ASSERT(rag_bitmap_edit_finish(edit, &bitmap) == RAG_OK);
  return bitmap;
}

// Every way to read the bitmap says what the model says, and the invariants of its blocks hold.
static inline void assert_is_model(const rag_bitmap *bitmap, const model *m) {
  uint64_t count = 0, in_blocks = 0;
  uint32_t next = 0;
  bool more = rag_bitmap_next(bitmap, 0, &next);
  for (uint32_t i = 0; i < UNIVERSE; i++) {
    RAG_ASSERT(rag_bitmap_has(bitmap, i) == m->has[i]);
    if (!m->has[i]) continue;
    count++;
    RAG_ASSERT(more && next == i);
    more = i < UINT32_MAX && rag_bitmap_next(bitmap, i + 1, &next);
  }
  RAG_ASSERT(!more && rag_bitmap_count(bitmap) == count);
  uint32_t blocks = rag_bitmap_block_count(bitmap);
  RAG_ASSERT(blocks <= 4 && (blocks == 0 || rag_bitmap_block(bitmap, blocks - 1, NULL)));
  for (uint32_t b = 0; b < blocks + 2; b++) {
    uint32_t block_count = 0, want = 0;
    const uint64_t *words = rag_bitmap_block(bitmap, b, &block_count);
    for (uint32_t i = 0; b < 4 && i < RAG_BITMAP_BLOCK_BITS; i++) {
      uint32_t bit = m->has[b * RAG_BITMAP_BLOCK_BITS + i];
      want += bit;
      RAG_ASSERT(!words || (words[i / 64] >> (i % 64) & 1) == bit);
    }
    RAG_ASSERT(block_count == want && (words != NULL) == (want > 0));
    in_blocks += block_count;
  }
  RAG_ASSERT(in_blocks == count);
}

#endif
