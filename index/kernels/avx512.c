// AVX-512 (F only) kernels, in the order of operations of kernels/scalar.c: the sixteen lanes are one register.
//
// Rows go eight at a time: one accumulator each makes the eight independent chains that two FMA units of latency four
// need, and the query is loaded once for eight rows.
#include "index/index_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define GROUP 8u
#define REST_MIN 3u
#define LANES 16u

INLINE __m512 step(bool l2, __m512 q, __m512 x, __m512 sum) {
  if (!l2) return _mm512_fmadd_ps(q, x, sum); // l2 is a constant where this is inlined
  __m512 difference = _mm512_sub_ps(q, x);
  return _mm512_fmadd_ps(difference, difference, sum);
}

// Adds the upper half to the lower half, four times.
INLINE float reduce(__m512 sum) {
  __m256 low = _mm512_castps512_ps256(sum);
  __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1));
  __m256 t = _mm256_add_ps(low, high);
  __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
  __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

// One level of the tree for two rows: both rows' lower halves plus both rows' upper halves.
INLINE __m512 fold_halves(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
}
INLINE __m512 fold_quarters(__m512 ab, __m512 cd) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}

// The same tree for eight rows side by side: 29 instructions where eight single trees take 64.
INLINE void reduce_group(const __m512 sum[GROUP], float *out) {
  __m512 low = fold_quarters(fold_halves(sum[0], sum[1]), fold_halves(sum[2], sum[3]));  // 4 sums each: 0 1 2 3
  __m512 high = fold_quarters(fold_halves(sum[4], sum[5]), fold_halves(sum[6], sum[7])); // 4 5 6 7
  __m512 v = _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xEE));
  __m512 w = _mm512_add_ps(_mm512_shuffle_ps(v, v, 0x88), _mm512_shuffle_ps(v, v, 0xDD)); // 0 4 0 4 | 1 5 1 5 | ...
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, w)));
}

INLINE float one(bool l2, const float *a, const float *b, uint32_t dimension) {
  __m512 sum = _mm512_setzero_ps();
  uint32_t at = 0;
  for (; dimension - at >= LANES; at += LANES) {
    sum = step(l2, _mm512_loadu_ps(a + at), _mm512_loadu_ps(b + at), sum);
  }
  if (at < dimension) {
    __mmask16 mask = (__mmask16)((1u << (dimension - at)) - 1);
    sum = step(l2, _mm512_maskz_loadu_ps(mask, a + at), _mm512_maskz_loadu_ps(mask, b + at), sum);
  }
  return reduce(sum);
}

// Eight rows. `next`, if any, are the eight after them, fetched while these are worked on.
INLINE void group(bool l2, const float *query, const float *const row[GROUP], const float *const next[GROUP],
                  uint32_t dimension, float *out) {
  __m512 sum[GROUP];
#pragma GCC unroll 8
  for (unsigned r = 0; r < GROUP; r++) sum[r] = _mm512_setzero_ps();
  uint32_t at = 0;
  for (; dimension - at >= LANES; at += LANES) {
    __m512 q = _mm512_loadu_ps(query + at);
#pragma GCC unroll 8
    for (unsigned r = 0; r < GROUP; r++) {
      if (next) _mm_prefetch((const char *)(next[r] + at), _MM_HINT_T0);
      sum[r] = step(l2, q, _mm512_loadu_ps(row[r] + at), sum[r]);
    }
  }
  if (at < dimension) {
    __mmask16 mask = (__mmask16)((1u << (dimension - at)) - 1);
    __m512 q = _mm512_maskz_loadu_ps(mask, query + at);
#pragma GCC unroll 8
    for (unsigned r = 0; r < GROUP; r++) sum[r] = step(l2, q, _mm512_maskz_loadu_ps(mask, row[r] + at), sum[r]);
  }
  reduce_group(sum, out);
}

// The last rows of a call, fewer than a group: one by one they would each wait for their own chain of additions, so
// from REST_MIN on they go as a group that repeats the last row.
INLINE void rest(bool l2, const float *query, const float *const row[GROUP], uint32_t count, uint32_t dimension,
                 float *out) {
  if (count >= REST_MIN) {
    float scores[GROUP];
    group(l2, query, row, NULL, dimension, scores);
    for (uint32_t r = 0; r < count; r++) out[r] = scores[r];
  } else {
    for (uint32_t r = 0; r < count; r++) out[r] = one(l2, query, row[r], dimension);
  }
}

// Consecutive rows: the hardware's prefetcher sees them coming, and asking for them here made nothing faster.
INLINE void rows_of(bool l2, const float *query, const float *base, size_t stride, uint32_t rows, uint32_t dimension,
                    float *out) {
  const float *row[GROUP];
  uint32_t i = 0;
  for (; rows - i >= GROUP; i += GROUP) {
#pragma GCC unroll 8
    for (unsigned r = 0; r < GROUP; r++) row[r] = base + (i + r) * stride;
    group(l2, query, row, NULL, dimension, out + i);
  }
  for (unsigned r = 0; r < GROUP && i < rows; r++) row[r] = base + RAG_MIN(i + r, rows - 1) * stride;
  rest(l2, query, row, rows - i, dimension, out + i);
}

// Scattered rows: fetching the next group while one is scored makes a sparse scan of memory about 5% faster.
INLINE void gather(bool l2, const float *query, const float *const *rows, uint32_t count, uint32_t dimension,
                   float *out) {
  const float *row[GROUP];
  uint32_t i = 0;
  for (; count - i >= 2 * GROUP; i += GROUP) group(l2, query, rows + i, rows + i + GROUP, dimension, out + i);
  for (; count - i >= GROUP; i += GROUP) group(l2, query, rows + i, NULL, dimension, out + i);
  for (unsigned r = 0; r < GROUP && i < count; r++) row[r] = rows[RAG_MIN(i + r, count - 1)];
  rest(l2, query, row, count - i, dimension, out + i);
}

TARGET static float dot(const float *a, const float *b, uint32_t dimension) {
  return one(false, a, b, dimension);
}
TARGET static float l2_squared(const float *a, const float *b, uint32_t dimension) {
  return one(true, a, b, dimension);
}
TARGET static void dot_rows(const float *query, const float *base, size_t stride, uint32_t rows, uint32_t dimension,
                            float *out) {
  rows_of(false, query, base, stride, rows, dimension, out);
}
TARGET static void l2_squared_rows(const float *query, const float *base, size_t stride, uint32_t rows,
                                   uint32_t dimension, float *out) {
  rows_of(true, query, base, stride, rows, dimension, out);
}
TARGET static void dot_gather(const float *query, const float *const *rows, uint32_t count, uint32_t dimension,
                              float *out) {
  gather(false, query, rows, count, dimension, out);
}
TARGET static void l2_squared_gather(const float *query, const float *const *rows, uint32_t count, uint32_t dimension,
                                     float *out) {
  gather(true, query, rows, count, dimension, out);
}

const rag_kernels rag_index__kernels_avx512 = {
    .name = "avx512",
    .dot = dot,
    .l2_squared = l2_squared,
    .dot_rows = dot_rows,
    .l2_squared_rows = l2_squared_rows,
    .dot_gather = dot_gather,
    .l2_squared_gather = l2_squared_gather,
};
#endif
