// AVX-512 kernels of codes: BW, VL, VNNI and VPOPCNTDQ, as Ice Lake and Zen 4 brought them. The bits of scalar.c.
//
// Rows go eight at a time, as in index/kernels/avx512.c: eight independent chains keep two units of latency four busy,
// and the query is loaded once for eight rows.
#include "index/codes/codes_internal.h"

#if defined(__x86_64__)
#include "index/codes/bits_x86.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512vpopcntdq,avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define GROUP 8u
#define REST_MIN 3u // index/kernels/avx512.c
#define LANES 16u
#define TILE 4u // queries, and rows: 16 sums, 4 + 4 loads for 16 products

// ---------------------------------------------------------------------------------------------- int8

INLINE __m512i load512(const void *p) {
  return _mm512_loadu_si512(p);
}

INLINE __m512i pair_sums32(__m512i a, __m512i b) { // in each quarter: a b a b
  return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
INLINE __m512i pair_sums64(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
INLINE __m512i quarter_sums(__m512i a, __m512i b) { // a's quarters 0 + 1 and 2 + 3, then b's
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}

// Eight registers' sums of their 16 integers, in order.
INLINE __m256i reduce8(const __m512i sum[GROUP]) {
  __m512i low = pair_sums64(pair_sums32(sum[0], sum[1]), pair_sums32(sum[2], sum[3]));
  __m512i high = pair_sums64(pair_sums32(sum[4], sum[5]), pair_sums32(sum[6], sum[7]));
  __m512i halves = quarter_sums(low, high);
  return _mm512_castsi512_si256(quarter_sums(halves, halves));
}

INLINE int32_t int8_one(const rag_codes_int8_query *query, const uint8_t *row) {
  __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
  uint32_t at = 0;
  for (; query->bytes - at >= 128; at += 128) {
    sum[0] = _mm512_dpbusd_epi32(sum[0], load512(row + at), load512(query->codes + at));
    sum[1] = _mm512_dpbusd_epi32(sum[1], load512(row + at + 64), load512(query->codes + at + 64));
  }
  if (at < query->bytes) sum[0] = _mm512_dpbusd_epi32(sum[0], load512(row + at), load512(query->codes + at));
  return _mm512_reduce_add_epi32(_mm512_add_epi32(sum[0], sum[1])) - query->excess;
}

// Eight rows. `next`, if any, are the eight after them, fetched while these are worked on.
INLINE void int8_group(const rag_codes_int8_query *query, const uint8_t *const row[GROUP],
                       const uint8_t *const next[GROUP], int32_t *out) {
  __m512i sum[GROUP];
#pragma GCC unroll 8
  for (unsigned r = 0; r < GROUP; r++) sum[r] = _mm512_setzero_si512();
  for (uint32_t at = 0; at < query->bytes; at += 64) {
    __m512i q = load512(query->codes + at);
#pragma GCC unroll 8
    for (unsigned r = 0; r < GROUP; r++) {
      if (next) _mm_prefetch((const char *)(next[r] + at), _MM_HINT_T0);
      sum[r] = _mm512_dpbusd_epi32(sum[r], load512(row[r] + at), q);
    }
  }
  _mm256_storeu_si256((__m256i *)(void *)out, _mm256_sub_epi32(reduce8(sum), _mm256_set1_epi32(query->excess)));
}

INLINE void int8_rest(const rag_codes_int8_query *query, const uint8_t *const row[GROUP], uint32_t count,
                      int32_t *out) {
  if (count >= REST_MIN) {
    int32_t sums[GROUP];
    int8_group(query, row, NULL, sums);
    memcpy(out, sums, count * sizeof *out);
  } else {
    for (uint32_t r = 0; r < count; r++) out[r] = int8_one(query, row[r]);
  }
}

TARGET static int32_t int8_dot(const rag_codes_int8_query *query, const uint8_t *row) {
  return int8_one(query, row);
}

TARGET static void int8_rows(const rag_codes_int8_query *query, const uint8_t *base, size_t stride, uint32_t rows,
                             int32_t *out) {
  const uint8_t *row[GROUP];
  uint32_t i = 0;
  for (; rows - i >= GROUP; i += GROUP) {
#pragma GCC unroll 8
    for (unsigned r = 0; r < GROUP; r++) row[r] = base + (i + r) * stride;
    int8_group(query, row, NULL, out + i);
  }
  for (unsigned r = 0; r < GROUP && i < rows; r++) row[r] = base + RAG_MIN(i + r, rows - 1) * stride;
  int8_rest(query, row, rows - i, out + i);
}

TARGET static void int8_gather(const rag_codes_int8_query *query, const uint8_t *base, size_t stride,
                               const uint32_t *ids, uint32_t count, int32_t *out) {
  const uint8_t *row[2 * GROUP];
  uint32_t i = 0;
  for (; count - i >= 2 * GROUP; i += GROUP) {
#pragma GCC unroll 16
    for (unsigned r = 0; r < 2 * GROUP; r++) row[r] = base + ids[i + r] * stride;
    int8_group(query, row, row + GROUP, out + i);
  }
  for (; i < count; i += GROUP) { // one whole group at most, then what is left; the last id stands in for missing ones
    uint32_t left = count - i;
    for (unsigned r = 0; r < 2 * GROUP; r++) row[r] = base + ids[RAG_MIN(i + r, count - 1)] * stride;
    if (left > GROUP) int8_group(query, row, row + GROUP, out + i);
    else if (left == GROUP) int8_group(query, row, NULL, out + i);
    else int8_rest(query, row, left, out + i);
  }
}

// Four queries with four rows.
INLINE void int8_square(const rag_codes_int8_query *queries, const uint8_t *row, size_t stride, uint32_t rows,
                        int32_t *out) {
  __m512i sum[TILE * TILE];
#pragma GCC unroll 16
  for (unsigned i = 0; i < TILE * TILE; i++) sum[i] = _mm512_setzero_si512();
  for (uint32_t at = 0; at < queries->bytes; at += 64) {
    __m512i x[TILE];
#pragma GCC unroll 4
    for (unsigned r = 0; r < TILE; r++) x[r] = load512(row + r * stride + at);
#pragma GCC unroll 4
    for (unsigned q = 0; q < TILE; q++) {
      __m512i y = load512(queries[q].codes + at);
#pragma GCC unroll 4
      for (unsigned r = 0; r < TILE; r++) sum[q * TILE + r] = _mm512_dpbusd_epi32(sum[q * TILE + r], x[r], y);
    }
  }
#pragma GCC unroll 2
  for (unsigned q = 0; q < TILE; q += 2) {
    __m256i both = reduce8(sum + q * TILE); // query q, then q + 1
    __m128i first = _mm_sub_epi32(_mm256_castsi256_si128(both), _mm_set1_epi32(queries[q].excess));
    __m128i second = _mm_sub_epi32(_mm256_extracti128_si256(both, 1), _mm_set1_epi32(queries[q + 1].excess));
    _mm_storeu_si128((__m128i *)(void *)(out + (size_t)q * rows), first);
    _mm_storeu_si128((__m128i *)(void *)(out + (size_t)(q + 1) * rows), second);
  }
}

TARGET static void int8_tile(const rag_codes_int8_query *queries, uint32_t query_count, const uint8_t *base,
                             size_t stride, uint32_t rows, int32_t *out) {
  uint32_t square_queries = query_count - query_count % TILE, square_rows = rows - rows % TILE;
  for (uint32_t i = 0; i < square_rows; i += TILE) // rows outside: four of them stay in the first-level cache
    for (uint32_t q = 0; q < square_queries; q += TILE)
      int8_square(queries + q, base + i * stride, stride, rows, out + (size_t)q * rows + i);
  for (uint32_t i = square_rows; i < rows; i++)
    for (uint32_t q = 0; q < square_queries; q++) out[(size_t)q * rows + i] = int8_one(&queries[q], base + i * stride);
  for (uint32_t q = square_queries; q < query_count; q++)
    int8_rows(&queries[q], base, stride, rows, out + (size_t)q * rows);
}

// ---------------------------------------------------------------------------------------------- bf16

INLINE __m512 expand(const uint16_t *p) {
  __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

INLINE __m512 step(bool l2, __m512 q, __m512 x, __m512 sum) {
  if (!l2) return _mm512_fmadd_ps(q, x, sum); // l2 is a constant where this is inlined
  __m512 difference = _mm512_sub_ps(q, x);
  return _mm512_fmadd_ps(difference, difference, sum);
}

// 16 components of the query, or the last ones and zeros. The row behind has zeros there of its own.
INLINE __m512 load_query(const float *query, uint32_t at, uint32_t dimension) {
  uint32_t left = dimension - at;
  if (left >= LANES) return _mm512_loadu_ps(query + at);
  return _mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1), query + at);
}

INLINE float reduce(__m512 sum) {
  __m256 low = _mm512_castps512_ps256(sum);
  __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sum), 1));
  __m256 t = _mm256_add_ps(low, high);
  __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
  __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

INLINE __m512 fold(__m512 a, __m512 b, bool halves) {
  if (halves) return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

// The same tree for eight rows side by side (index/kernels/avx512.c).
INLINE void reduce_group(const __m512 sum[GROUP], float *out) {
  __m512 low = fold(fold(sum[0], sum[1], true), fold(sum[2], sum[3], true), false);
  __m512 high = fold(fold(sum[4], sum[5], true), fold(sum[6], sum[7], true), false);
  __m512 v = _mm512_add_ps(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xEE));
  __m512 w = _mm512_add_ps(_mm512_shuffle_ps(v, v, 0x88), _mm512_shuffle_ps(v, v, 0xDD));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, w)));
}

INLINE float bf16_one(bool l2, const float *query, const uint16_t *row, uint32_t dimension) {
  __m512 sum = _mm512_setzero_ps();
  for (uint32_t at = 0; at < dimension; at += LANES) {
    sum = step(l2, load_query(query, at, dimension), expand(row + at), sum);
  }
  return reduce(sum);
}

INLINE void bf16_group(bool l2, const float *query, const uint16_t *const row[GROUP], const uint16_t *const next[GROUP],
                       uint32_t dimension, float *out) {
  __m512 sum[GROUP];
#pragma GCC unroll 8
  for (unsigned r = 0; r < GROUP; r++) sum[r] = _mm512_setzero_ps();
  for (uint32_t at = 0; at < dimension; at += LANES) {
    __m512 q = load_query(query, at, dimension);
    bool line = at % 32 == 0; // one prefetch for 32 components
#pragma GCC unroll 8
    for (unsigned r = 0; r < GROUP; r++) {
      if (next && line) _mm_prefetch((const char *)(next[r] + at), _MM_HINT_T0);
      sum[r] = step(l2, q, expand(row[r] + at), sum[r]);
    }
  }
  reduce_group(sum, out);
}

INLINE void bf16_rest(bool l2, const float *query, const uint16_t *const row[GROUP], uint32_t count, uint32_t dimension,
                      float *out) {
  if (count >= REST_MIN) {
    float scores[GROUP];
    bf16_group(l2, query, row, NULL, dimension, scores);
    memcpy(out, scores, count * sizeof *out);
  } else {
    for (uint32_t r = 0; r < count; r++) out[r] = bf16_one(l2, query, row[r], dimension);
  }
}

INLINE void bf16_rows(bool l2, const float *query, const uint16_t *base, size_t stride, uint32_t rows,
                      uint32_t dimension, float *out) {
  const uint16_t *row[GROUP];
  uint32_t i = 0;
  for (; rows - i >= GROUP; i += GROUP) {
#pragma GCC unroll 8
    for (unsigned r = 0; r < GROUP; r++) row[r] = base + (i + r) * stride;
    // Side by side, half a line at a time, the rows come too slowly: at 384 dimensions a scan of memory took 49 ns a row
    // on Zen 5, and 33 with all lines of a group asked for in their order first; one or two groups earlier is no better.
    // In cache it costs 3 to 6 ns of 8. int8 and float rows gain nothing.
    rag_codes_prefetch(row[0], GROUP * stride * sizeof *base);
    bf16_group(l2, query, row, NULL, dimension, out + i);
  }
  for (unsigned r = 0; r < GROUP && i < rows; r++) row[r] = base + RAG_MIN(i + r, rows - 1) * stride;
  bf16_rest(l2, query, row, rows - i, dimension, out + i);
}

INLINE void bf16_gather(bool l2, const float *query, const uint16_t *const *rows, uint32_t count, uint32_t dimension,
                        float *out) {
  const uint16_t *row[GROUP];
  uint32_t i = 0;
  for (; count - i >= 2 * GROUP; i += GROUP) bf16_group(l2, query, rows + i, rows + i + GROUP, dimension, out + i);
  for (; count - i >= GROUP; i += GROUP) bf16_group(l2, query, rows + i, NULL, dimension, out + i);
  for (unsigned r = 0; r < GROUP && i < count; r++) row[r] = rows[RAG_MIN(i + r, count - 1)];
  bf16_rest(l2, query, row, count - i, dimension, out + i);
}

#define DEFINE_BF16(metric, is_l2)                                                                                     \
  TARGET static float bf16_##metric(const float *query, const uint16_t *row, uint32_t dimension) {                     \
    return bf16_one(is_l2, query, row, dimension);                                                                     \
  }                                                                                                                    \
  TARGET static void bf16_##metric##_rows(const float *query, const uint16_t *base, size_t stride, uint32_t rows,      \
                                          uint32_t dimension, float *out) {                                            \
    bf16_rows(is_l2, query, base, stride, rows, dimension, out);                                                       \
  }                                                                                                                    \
  TARGET static void bf16_##metric##_gather(const float *query, const uint16_t *const *rows, uint32_t count,           \
                                            uint32_t dimension, float *out) {                                          \
    bf16_gather(is_l2, query, rows, count, dimension, out);                                                            \
  }
DEFINE_BF16(dot, false)
DEFINE_BF16(l2_squared, true)

// ---------------------------------------------------------------------------------------------- 1 bit

INLINE __m512i pair_sums_u64(__m512i a, __m512i b) {
  return _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
INLINE __m512i quarter_sums_u64(__m512i a, __m512i b) {
  return _mm512_add_epi64(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
}

INLINE void bits_group(const rag_codes_bits_query *query, const uint8_t *const row[BITS_GROUP], float *score,
                       float *error) {
  __m512i sum[BITS_GROUP];
#pragma GCC unroll 8
  for (unsigned r = 0; r < BITS_GROUP; r++) sum[r] = _mm512_setzero_si512();
  const uint64_t *planes = query->planes;
  for (uint32_t w = 0; w < query->words; w += 8, planes += 8 * RAG_CODES_BITS_PLANES) {
    __m512i p0 = load512(planes), p1 = load512(planes + 8), p2 = load512(planes + 16), p3 = load512(planes + 24);
    uint32_t left = query->words - w;
    __mmask8 mask = (__mmask8)(left >= 8 ? 0xffu : (1u << left) - 1);
#pragma GCC unroll 8
    for (unsigned r = 0; r < BITS_GROUP; r++) {
      __m512i word = _mm512_maskz_loadu_epi64(mask, row[r] + sizeof(rag_codes_bits_head) + w * sizeof *planes);
      __m512i even = _mm512_add_epi64(_mm512_popcnt_epi64(_mm512_and_si512(word, p0)),
                                      _mm512_slli_epi64(_mm512_popcnt_epi64(_mm512_and_si512(word, p2)), 2));
      __m512i odd = _mm512_add_epi64(_mm512_popcnt_epi64(_mm512_and_si512(word, p1)),
                                     _mm512_slli_epi64(_mm512_popcnt_epi64(_mm512_and_si512(word, p3)), 2));
      sum[r] = _mm512_add_epi64(sum[r], _mm512_add_epi64(even, _mm512_add_epi64(odd, odd)));
    }
  }
  __m512i low = quarter_sums_u64(pair_sums_u64(sum[0], sum[1]), pair_sums_u64(sum[2], sum[3]));
  __m512i high = quarter_sums_u64(pair_sums_u64(sum[4], sum[5]), pair_sums_u64(sum[6], sum[7]));
  finish_group(query, row, _mm512_cvtepi64_epi32(quarter_sums_u64(low, high)), score, error);
}

INLINE void bits_rest(const rag_codes_bits_query *query, const uint8_t *const row[BITS_GROUP], uint32_t count,
                      float *score, float *error) {
  float scores[BITS_GROUP], errors[BITS_GROUP];
  bits_group(query, row, scores, error ? errors : NULL);
  copy_rest(count, scores, errors, score, error);
}

TARGET static void bits_rows(const rag_codes_bits_query *query, const uint8_t *base, size_t stride, uint32_t rows,
                             float *score, float *error) {
  const uint8_t *row[BITS_GROUP];
  uint32_t i = 0;
  for (; rows - i >= BITS_GROUP; i += BITS_GROUP) {
#pragma GCC unroll 8
    for (unsigned r = 0; r < BITS_GROUP; r++) row[r] = base + (i + r) * stride;
    ask_ahead(base + i * stride, stride, rows - i);
    bits_group(query, row, score + i, error ? error + i : NULL);
  }
  if (i == rows) return;
  for (unsigned r = 0; r < BITS_GROUP; r++) row[r] = base + RAG_MIN(i + r, rows - 1) * stride;
  bits_rest(query, row, rows - i, score + i, error ? error + i : NULL);
}

TARGET static void bits_gather(const rag_codes_bits_query *query, const uint8_t *base, size_t stride,
                               const uint32_t *ids, uint32_t count, float *score, float *error) {
  uint32_t bytes = (uint32_t)sizeof(rag_codes_bits_head) + query->words * 8;
  const uint8_t *row[BITS_GROUP];
  for (uint32_t i = 0; i < count; i += BITS_GROUP) {
    for (unsigned r = 0; r < BITS_GROUP; r++) row[r] = base + ids[RAG_MIN(i + r, count - 1)] * stride;
    for (uint32_t n = i + BITS_GROUP; n < RAG_MIN(i + 2 * BITS_GROUP, count); n++) {
      rag_codes_prefetch(base + ids[n] * stride, bytes);
    }
    if (count - i >= BITS_GROUP) bits_group(query, row, score + i, error ? error + i : NULL);
    else bits_rest(query, row, count - i, score + i, error ? error + i : NULL);
  }
}

// ---------------------------------------------------------------------------------------------- Hadamard

// One stage inside a register: `partner` has each element's other half; in `upper` lanes it is the first of the two.
INLINE __m512 exchange(__m512 v, __m512 partner, __mmask16 upper) {
  return _mm512_mask_sub_ps(_mm512_add_ps(v, partner), upper, partner, v);
}

TARGET static void hadamard(float *values, uint32_t size) {
  for (uint32_t at = 0; at < size; at += LANES) {
    __m512 v = _mm512_loadu_ps(values + at);
    v = exchange(v, _mm512_permute_ps(v, 0xB1), 0xAAAA);
    v = exchange(v, _mm512_permute_ps(v, 0x4E), 0xCCCC);
    v = exchange(v, _mm512_shuffle_f32x4(v, v, 0xB1), 0xF0F0);
    v = exchange(v, _mm512_shuffle_f32x4(v, v, 0x4E), 0xFF00);
    _mm512_storeu_ps(values + at, v);
  }
  for (uint32_t stride = LANES; stride < size; stride *= 2) {
    for (uint32_t at = 0; at < size; at += 2 * stride) {
      for (uint32_t i = at; i < at + stride; i += LANES) {
        __m512 a = _mm512_loadu_ps(values + i), b = _mm512_loadu_ps(values + i + stride);
        _mm512_storeu_ps(values + i, _mm512_add_ps(a, b));
        _mm512_storeu_ps(values + i + stride, _mm512_sub_ps(a, b));
      }
    }
  }
}

const rag_codes_kernels rag_codes__kernels_avx512 = {
    .name = "avx512",
    .int8_dot = int8_dot,
    .int8_rows = int8_rows,
    .int8_gather = int8_gather,
    .int8_tile = int8_tile,
    .bf16_dot = bf16_dot,
    .bf16_l2_squared = bf16_l2_squared,
    .bf16_dot_rows = bf16_dot_rows,
    .bf16_l2_squared_rows = bf16_l2_squared_rows,
    .bf16_dot_gather = bf16_dot_gather,
    .bf16_l2_squared_gather = bf16_l2_squared_gather,
    .bits_rows = bits_rows,
    .bits_gather = bits_gather,
    .hadamard = hadamard,
};
#endif
