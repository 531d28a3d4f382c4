// AVX2 + FMA kernels, in the order of operations of kernels/scalar.c: lanes 0-7 and 8-15 are two registers.
//
// Rows go four at a time: two accumulators each make eight independent chains, what two FMA units of latency four need,
// and the query is loaded once for four rows.
#include "index/index_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define GROUP 4u
#define REST_MIN 3u
#define LANES 16u

typedef struct lanes {
  __m256 low, high;
} lanes;

// Ones, then zeros: `left` ones are what starts 16 - left entries in.
static const int32_t tail_mask[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                             0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};

INLINE lanes load(const float *p) {
  return (lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
// The last `left` (1 to 15) floats and zeros behind them; memory past them is not read.
INLINE lanes load_tail(const float *p, uint32_t left) {
  __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)(tail_mask + LANES - left));
  __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(tail_mask + LANES - left + 8));
  // A pointer past the row would be formed for left < 8, so the upper half is only addressed when it holds something.
  return (lanes){_mm256_maskload_ps(p, low), left > 8 ? _mm256_maskload_ps(p + 8, high) : _mm256_setzero_ps()};
}

INLINE lanes step_dot(lanes q, lanes x, lanes sum) {
  return (lanes){_mm256_fmadd_ps(q.low, x.low, sum.low), _mm256_fmadd_ps(q.high, x.high, sum.high)};
}
INLINE lanes step_l2(lanes q, lanes x, lanes sum) {
  lanes d = {_mm256_sub_ps(q.low, x.low), _mm256_sub_ps(q.high, x.high)};
  return (lanes){_mm256_fmadd_ps(d.low, d.low, sum.low), _mm256_fmadd_ps(d.high, d.high, sum.high)};
}

INLINE float reduce(lanes sum) {
  __m256 t = _mm256_add_ps(sum.low, sum.high);
  __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
  __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

// The same tree for four rows side by side: each level pairs the halves of two rows in one register.
INLINE void reduce_group(const lanes sum[GROUP], float *out) {
  __m256 a = _mm256_add_ps(sum[0].low, sum[0].high), b = _mm256_add_ps(sum[1].low, sum[1].high);
  __m256 c = _mm256_add_ps(sum[2].low, sum[2].high), d = _mm256_add_ps(sum[3].low, sum[3].high);
  __m256 ab = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  __m256 cd = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
  __m256 v = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE)); // a a c c | b b d d
  __m256 w = _mm256_add_ps(_mm256_shuffle_ps(v, v, 0x88), _mm256_shuffle_ps(v, v, 0xDD));     // a c .. | b d ..
  _mm_storeu_ps(out, _mm_unpacklo_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1)));
}

INLINE lanes step(bool l2, lanes q, lanes x, lanes sum) {
  return l2 ? step_l2(q, x, sum) : step_dot(q, x, sum); // l2 is a constant where this is inlined
}

INLINE float one(bool l2, const float *a, const float *b, uint32_t dimension) {
  lanes sum = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  uint32_t at = 0;
  for (; dimension - at >= LANES; at += LANES) sum = step(l2, load(a + at), load(b + at), sum);
  if (at < dimension) sum = step(l2, load_tail(a + at, dimension - at), load_tail(b + at, dimension - at), sum);
  return reduce(sum);
}

// Four rows. `next`, if any, are the four after them, fetched while these are worked on.
INLINE void group(bool l2, const float *query, const float *const row[GROUP], const float *const next[GROUP],
                  uint32_t dimension, float *out) {
  lanes sum[GROUP];
#pragma GCC unroll 4
  for (unsigned r = 0; r < GROUP; r++) sum[r] = (lanes){_mm256_setzero_ps(), _mm256_setzero_ps()};
  uint32_t at = 0;
  for (; dimension - at >= LANES; at += LANES) {
    lanes q = load(query + at);
#pragma GCC unroll 4
    for (unsigned r = 0; r < GROUP; r++) {
      if (next) _mm_prefetch((const char *)(next[r] + at), _MM_HINT_T0);
      sum[r] = step(l2, q, load(row[r] + at), sum[r]);
    }
  }
  if (at < dimension) {
    lanes q = load_tail(query + at, dimension - at);
#pragma GCC unroll 4
    for (unsigned r = 0; r < GROUP; r++) sum[r] = step(l2, q, load_tail(row[r] + at, dimension - at), sum[r]);
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
#pragma GCC unroll 4
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

const rag_kernels rag_index__kernels_avx2 = {
    .name = "avx2",
    .dot = dot,
    .l2_squared = l2_squared,
    .dot_rows = dot_rows,
    .l2_squared_rows = l2_squared_rows,
    .dot_gather = dot_gather,
    .l2_squared_gather = l2_squared_gather,
};
#endif
