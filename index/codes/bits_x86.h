// What the AVX2 and AVX-512 kernels of 1-bit codes share: eight rows' sums to scores and errors, in the order of
// scalar.c. Eight lanes suit both: a register of 16 floats would need 16 rows in flight, more than the sums have.
#ifndef RAGD_INDEX_CODES_BITS_X86_H
#define RAGD_INDEX_CODES_BITS_X86_H

#include "index/codes/codes_internal.h"

#include <float.h>
#include <immintrin.h>
#include <math.h>

#define BITS_GROUP 8u
// Groups that consecutive rows are asked for ahead. A group reads its rows in a pattern that the hardware's prefetcher
// does not follow where rows are no whole lines: at 768 dimensions (112 bytes a row) a scan of memory took 34 ns a row
// on Zen 5, and 5.6 with this; 0, 1, 2, 8 and 16 groups gave 6.2, 8.0, 6.5, 5.9 and 6.4 (on a busy machine).
#define BITS_AHEAD 4u
#define BITS_INLINE static inline __attribute__((always_inline, target("avx2,fma")))

typedef struct bits_heads {
  __m256 add, rescale, spread;
  __m256i balance;
} bits_heads;

// Eight heads of four fields to four registers of eight.
BITS_INLINE bits_heads load_heads(const uint8_t *const row[BITS_GROUP]) {
  __m256 pair[4]; // rows i and i + 4
#pragma GCC unroll 4
  for (unsigned i = 0; i < 4; i++) {
    __m128 low = _mm_loadu_ps((const float *)(const void *)row[i]);
    pair[i] =
        _mm256_insertf128_ps(_mm256_castps128_ps256(low), _mm_loadu_ps((const float *)(const void *)row[i + 4]), 1);
  }
  __m256 a = _mm256_unpacklo_ps(pair[0], pair[1]), b = _mm256_unpackhi_ps(pair[0], pair[1]);
  __m256 c = _mm256_unpacklo_ps(pair[2], pair[3]), d = _mm256_unpackhi_ps(pair[2], pair[3]);
  return (bits_heads){
      .add = _mm256_shuffle_ps(a, c, 0x44),
      .rescale = _mm256_shuffle_ps(a, c, 0xEE),
      .spread = _mm256_shuffle_ps(b, d, 0x44),
      .balance = _mm256_castps_si256(_mm256_shuffle_ps(b, d, 0xEE)),
  };
}

// sums: of eight rows. score and error (which may be NULL): room for eight.
BITS_INLINE void finish_group(const rag_codes_bits_query *query, const uint8_t *const row[BITS_GROUP], __m256i sums,
                              float *score, float *error) {
  const __m256 sign_bit = _mm256_set1_ps(-0.0f), largest = _mm256_set1_ps(FLT_MAX), infinity = _mm256_set1_ps(INFINITY);
  bits_heads heads = load_heads(row);
  __m256i twice = _mm256_add_epi32(sums, sums);
  __m256 levels = _mm256_cvtepi32_ps(_mm256_sub_epi32(twice, _mm256_set1_epi32(query->level_sum)));
  __m256 s = _mm256_fmadd_ps(_mm256_set1_ps(query->delta), levels,
                             _mm256_mul_ps(_mm256_set1_ps(query->low), _mm256_cvtepi32_ps(heads.balance)));
  __m256 estimate = _mm256_add_ps(_mm256_fmadd_ps(heads.rescale, s, heads.add), _mm256_set1_ps(query->base));
  __m256 finite = _mm256_cmp_ps(_mm256_andnot_ps(sign_bit, estimate), largest, _CMP_LE_OQ);
  _mm256_storeu_ps(score, _mm256_blendv_ps(largest, estimate, finite));
  if (!error) return;
  __m256 deviation = _mm256_sqrt_ps(
      _mm256_fmadd_ps(heads.spread, _mm256_set1_ps(query->distance_part), _mm256_set1_ps(query->rounding_part)));
  __m256 off = _mm256_mul_ps(_mm256_mul_ps(heads.rescale, _mm256_set1_ps(query->reach)), deviation);
  off = _mm256_add_ps(_mm256_fmadd_ps(_mm256_andnot_ps(sign_bit, heads.add), _mm256_set1_ps(0x1p-20f), off),
                      _mm256_set1_ps(query->slack));
  __m256 known = _mm256_and_ps(finite, _mm256_cmp_ps(off, infinity, _CMP_LT_OQ));
  _mm256_storeu_ps(error, _mm256_blendv_ps(infinity, off, known));
}

BITS_INLINE void ask_ahead(const uint8_t *base, size_t stride,
                           uint32_t left) { // base: of a group; left: rows from it on
  if (left < (BITS_AHEAD + 1) * BITS_GROUP) return;
  rag_codes_prefetch(base + BITS_AHEAD * BITS_GROUP * stride, BITS_GROUP * stride);
}

// The last rows of a call, fewer than a group, were scored as a group that repeats the last one: these are theirs.
BITS_INLINE void copy_rest(uint32_t count, const float *scores, const float *errors, float *score, float *error) {
  for (uint32_t r = 0; r < count; r++) {
    score[r] = scores[r];
    if (error) error[r] = errors[r];
  }
}

#endif
