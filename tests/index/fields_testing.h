// Helpers of the tests of field indexes: rows that nobody chose, and the same rows as plain arrays.
#ifndef RAGD_TESTS_FIELDS_TESTING_H
#define RAGD_TESTS_FIELDS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "index/index.h"

#define WORDS RAG_BITMAP_BLOCK_WORDS

static inline uint32_t random_below(uint64_t *state, uint32_t below) {
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((*state >> 33) % below);
}

static inline rag_bitmap *bitmap_of_range(uint32_t first, uint32_t count) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  assert_int_equal(rag_bitmap_edit_add_range(edit, first, count), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

static inline bool words_have(const uint64_t *words, uint32_t bit) {
  return words[bit / 64] >> (bit % 64) & 1;
}

static inline uint64_t words_count(const uint64_t *words) {
  uint64_t count = 0;
  for (size_t i = 0; i < WORDS; i++) count += (uint64_t)__builtin_popcountll(words[i]);
  return count;
}

#endif
