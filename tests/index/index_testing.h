// What the tests of index/ share: random numbers that are the same in every run, and the oracle: scores and top k
// written as plainly as the definitions are, independent of everything under test.
#ifndef RAGD_INDEX_TESTING_H
#define RAGD_INDEX_TESTING_H

#include "index/index.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

// splitmix64
static inline uint64_t next_random(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
static inline float random_unit(uint64_t *state) { // -1 to 1
  return (float)((double)(next_random(state) >> 11) / 4503599627370496.0 - 1.0);
}
static inline uint32_t random_below(uint64_t *state, uint32_t bound) {
  return (uint32_t)(next_random(state) % bound);
}

// The order of operations as index.h promises it: sixteen lanes over the zero-padded vectors, one fused multiply-add
// for each element, then halves onto halves.
static inline float oracle_raw(const float *a, const float *b, uint32_t dimension, bool l2) {
  float lane[16] = {0};
  for (uint32_t i = 0; i < (dimension + 15) / 16 * 16; i++) {
    float x = i < dimension ? a[i] : 0.0f, y = i < dimension ? b[i] : 0.0f;
    if (l2) {
      float difference = x - y;
      lane[i % 16] = fmaf(difference, difference, lane[i % 16]);
    } else {
      lane[i % 16] = fmaf(x, y, lane[i % 16]);
    }
  }
  for (unsigned half = 8; half > 0; half /= 2) {
    for (unsigned i = 0; i < half; i++) lane[i] = lane[i] + lane[i + half];
  }
  return lane[0];
}

static inline float oracle_score(const float *a, const float *b, uint32_t dimension, rag_metric metric) {
  float raw = oracle_raw(a, b, dimension, metric == RAG_METRIC_L2);
  if (isnan(raw)) return -FLT_MAX;
  float score = metric == RAG_METRIC_L2 ? -sqrtf(raw) : raw;
  if (score == 0) return 0; // and not -0
  return score > FLT_MAX ? FLT_MAX : score < -FLT_MAX ? -FLT_MAX : score;
}

static inline int oracle_compare(const void *a, const void *b) {
  const rag_index_hit *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

static inline uint32_t float_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

#endif
