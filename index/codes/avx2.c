// AVX2 + FMA kernels of codes. The bits of scalar.c.
//
// int8: vpmaddubsw, the obvious instruction, adds two products of up to 255 * 127 in 16 bits and saturates. So rows and
// query are widened to 16 bits and vpmaddwd adds pairs in 32: exact, at six instructions for 32 bytes where the other
// way, made safe by moving the row's sign to the query, takes seven.
//
// Rows go four at a time (index/kernels/avx2.c).
#include "index/codes/codes_internal.h"

#if defined(__x86_64__)
#include "index/codes/bits_x86.h"

#define TARGET __attribute__((target("avx2,fma,popcnt")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define GROUP 4u
#define REST_MIN 3u // index/kernels/avx2.c
#define LANES 16u

// ---------------------------------------------------------------------------------------------- int8

INLINE __m256i widen_row(const uint8_t *p) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE __m256i widen_query(const int8_t *p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

INLINE int32_t int8_one(const rag_codes_int8_query *query, const uint8_t *row) {
  __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (uint32_t at = 0; at < query->bytes; at += 32) {
#pragma GCC unroll 2
    for (unsigned i = 0; i < 2; i++) {
      __m256i products = _mm256_madd_epi16(widen_row(row + at + 16 * i), widen_query(query->codes + at + 16 * i));
      sum[i] = _mm256_add_epi32(sum[i], products);
    }
  }
  __m256i all = _mm256_add_epi32(sum[0], sum[1]);
  __m128i t = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4E));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xB1));
  return _mm_cvtsi128_si32(t) - query->excess;
}

INLINE __m128i reduce4(const __m256i sum[GROUP]) {
  __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
  return _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
}

// Four rows. `next`, if any, are the four after them, fetched while these are worked on.
INLINE void int8_group(const rag_codes_int8_query *query, const uint8_t *const row[GROUP],
                       const uint8_t *const next[GROUP], int32_t *out) {
  __m256i sum[GROUP];
#pragma GCC unroll 4
  for (unsigned r = 0; r < GROUP; r++) sum[r] = _mm256_setzero_si256();
  for (uint32_t at = 0; at < query->bytes; at += 64) {
#pragma GCC unroll 4
    for (unsigned r = 0; next && r < GROUP; r++) _mm_prefetch((const char *)(next[r] + at), _MM_HINT_T0);
#pragma GCC unroll 4
    for (uint32_t part = at; part < at + 64; part += 16) {
      __m256i q = widen_query(query->codes + part);
#pragma GCC unroll 4
      for (unsigned r = 0; r < GROUP; r++) {
        sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(widen_row(row[r] + part), q));
      }
    }
  }
  _mm_storeu_si128((__m128i *)(void *)out, _mm_sub_epi32(reduce4(sum), _mm_set1_epi32(query->excess)));
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
#pragma GCC unroll 4
    for (unsigned r = 0; r < GROUP; r++) row[r] = base + (i + r) * stride;
    int8_group(query, row, NULL, out + i);
  }
  for (unsigned r = 0; r < GROUP && i < rows; r++) row[r] = base + RAG_MIN(i + r, rows - 1) * stride;
  int8_rest(query, row, rows - i, out + i);
}

TARGET static void int8_gather(const rag_codes_int8_query *query, const uint8_t *base, size_t stride,
                               const uint32_t *ids, uint32_t count, int32_t *out) {
  const uint8_t *row[2 * GROUP];
  for (uint32_t i = 0; i < count; i += GROUP) { // the last id stands in for missing ones
    uint32_t left = count - i;
    for (unsigned r = 0; r < 2 * GROUP; r++) row[r] = base + ids[RAG_MIN(i + r, count - 1)] * stride;
    if (left > GROUP) int8_group(query, row, row + GROUP, out + i);
    else if (left == GROUP) int8_group(query, row, NULL, out + i);
    else int8_rest(query, row, left, out + i);
  }
}

// Blocks of rows that stay in the first-level cache, each for every query: 16 registers hold no square of sums.
#define TILE_BYTES 16384u

TARGET static void int8_tile(const rag_codes_int8_query *queries, uint32_t query_count, const uint8_t *base,
                             size_t stride, uint32_t rows, int32_t *out) {
  if (query_count == 0) return;
  uint32_t block = RAG_MAX(TILE_BYTES / queries->bytes / GROUP * GROUP, GROUP);
  for (uint32_t i = 0; i < rows; i += RAG_MIN(block, rows - i))
    for (uint32_t q = 0; q < query_count; q++)
      int8_rows(&queries[q], base + i * stride, stride, RAG_MIN(block, rows - i), out + (size_t)q * rows + i);
}

// ---------------------------------------------------------------------------------------------- bf16

typedef struct lanes {
  __m256 low, high;
} lanes;

// Ones, then zeros: `left` ones are what starts 16 - left entries in.
static const int32_t tail_mask[2 * LANES] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                             0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};

// 16 components of the query, or the last ones and zeros. The row behind has zeros there of its own.
INLINE lanes load_query(const float *query, uint32_t at, uint32_t dimension) {
  const float *p = query + at;
  uint32_t left = dimension - at;
  if (left >= LANES) return (lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)(tail_mask + LANES - left));
  __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(tail_mask + LANES - left + 8));
  return (lanes){_mm256_maskload_ps(p, low), left > 8 ? _mm256_maskload_ps(p + 8, high) : _mm256_setzero_ps()};
}

INLINE __m256 expand8(const uint16_t *p) {
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
INLINE lanes expand(const uint16_t *p) {
  return (lanes){expand8(p), expand8(p + 8)};
}

INLINE lanes step(bool l2, lanes q, lanes x, lanes sum) {
  if (!l2) return (lanes){_mm256_fmadd_ps(q.low, x.low, sum.low), _mm256_fmadd_ps(q.high, x.high, sum.high)};
  lanes d = {_mm256_sub_ps(q.low, x.low), _mm256_sub_ps(q.high, x.high)};
  return (lanes){_mm256_fmadd_ps(d.low, d.low, sum.low), _mm256_fmadd_ps(d.high, d.high, sum.high)};
}

INLINE float reduce(lanes sum) {
  __m256 t = _mm256_add_ps(sum.low, sum.high);
  __m128 u = _mm_add_ps(_mm256_castps256_ps128(t), _mm256_extractf128_ps(t, 1));
  __m128 v = _mm_add_ps(u, _mm_movehl_ps(u, u));
  return _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)));
}

// The same tree for four rows side by side (index/kernels/avx2.c).
INLINE void reduce_group(const lanes sum[GROUP], float *out) {
  __m256 a = _mm256_add_ps(sum[0].low, sum[0].high), b = _mm256_add_ps(sum[1].low, sum[1].high);
  __m256 c = _mm256_add_ps(sum[2].low, sum[2].high), d = _mm256_add_ps(sum[3].low, sum[3].high);
  __m256 ab = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  __m256 cd = _mm256_add_ps(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
  __m256 v = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE)); // a a c c | b b d d
  __m256 w = _mm256_add_ps(_mm256_shuffle_ps(v, v, 0x88), _mm256_shuffle_ps(v, v, 0xDD));     // a c .. | b d ..
  _mm_storeu_ps(out, _mm_unpacklo_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1)));
}

INLINE float bf16_one(bool l2, const float *query, const uint16_t *row, uint32_t dimension) {
  lanes sum = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (uint32_t at = 0; at < dimension; at += LANES) {
    sum = step(l2, load_query(query, at, dimension), expand(row + at), sum);
  }
  return reduce(sum);
}

INLINE void bf16_group(bool l2, const float *query, const uint16_t *const row[GROUP], const uint16_t *const next[GROUP],
                       uint32_t dimension, float *out) {
  lanes sum[GROUP];
#pragma GCC unroll 4
  for (unsigned r = 0; r < GROUP; r++) sum[r] = (lanes){_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (uint32_t at = 0; at < dimension; at += LANES) {
    lanes q = load_query(query, at, dimension);
    bool line = at % 32 == 0; // one prefetch for 32 components
#pragma GCC unroll 4
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
#pragma GCC unroll 4
    for (unsigned r = 0; r < GROUP; r++) row[r] = base + (i + r) * stride;
    // As in avx512.c: all lines of the group in their order.
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

// Words w to w + 3 of a row, or the last ones and zeros.
INLINE __m256i load_words(const uint8_t *row, uint32_t w, uint32_t words) {
  const uint8_t *p = row + sizeof(rag_codes_bits_head) + w * sizeof(uint64_t);
  uint32_t left = words - w;
  if (left >= 4) return _mm256_loadu_si256((const __m256i *)(const void *)p);
  __m256i mask = _mm256_loadu_si256((const __m256i *)(const void *)(tail_mask + LANES - 2 * left));
  return _mm256_maskload_epi64((const long long *)(const void *)p, mask);
}

// Population counts of nibbles from a table in a register. The counts of a byte's four planes, weighted, are at most
// 8 * 15: they are added as bytes, and summed across once.
INLINE void bits_sums(const rag_codes_bits_query *query, const uint8_t *const row[GROUP], uint32_t out[GROUP]) {
  const __m256i table =
      _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
  __m256i sum[GROUP] = {zero, zero, zero, zero};
  for (uint32_t w = 0; w < query->words; w += 4) {
    const uint64_t *planes = query->planes + w / 8 * (8 * RAG_CODES_BITS_PLANES) + w % 8;
    __m256i low_plane[RAG_CODES_BITS_PLANES], high_plane[RAG_CODES_BITS_PLANES];
#pragma GCC unroll 4
    for (unsigned p = 0; p < RAG_CODES_BITS_PLANES; p++) {
      low_plane[p] = _mm256_loadu_si256((const __m256i *)(const void *)(planes + p * 8));
      high_plane[p] = _mm256_srli_epi16(low_plane[p], 4); // what crosses bytes meets a zero of the row
    }
#pragma GCC unroll 4
    for (unsigned r = 0; r < GROUP; r++) {
      __m256i words = load_words(row[r], w, query->words), counts = zero;
      __m256i low = _mm256_and_si256(words, nibble), high = _mm256_and_si256(_mm256_srli_epi16(words, 4), nibble);
#pragma GCC unroll 4
      for (unsigned p = RAG_CODES_BITS_PLANES; p-- > 0;) {
        __m256i ones = _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(low, low_plane[p])),
                                       _mm256_shuffle_epi8(table, _mm256_and_si256(high, high_plane[p])));
        counts = _mm256_add_epi8(_mm256_add_epi8(counts, counts), ones);
      }
      sum[r] = _mm256_add_epi64(sum[r], _mm256_sad_epu8(counts, zero));
    }
  }
#pragma GCC unroll 4
  for (unsigned r = 0; r < GROUP; r++) {
    __m128i t = _mm_add_epi64(_mm256_castsi256_si128(sum[r]), _mm256_extracti128_si256(sum[r], 1));
    out[r] = (uint32_t)_mm_cvtsi128_si32(_mm_add_epi64(t, _mm_unpackhi_epi64(t, t)));
  }
}

INLINE void bits_group(const rag_codes_bits_query *query, const uint8_t *const row[BITS_GROUP], float *score,
                       float *error) {
  uint32_t sums[BITS_GROUP];
  bits_sums(query, row, sums);
  bits_sums(query, row + GROUP, sums + GROUP);
  finish_group(query, row, _mm256_loadu_si256((const __m256i *)(const void *)sums), score, error);
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
  for (uint32_t i = 0; i < rows; i += BITS_GROUP) {
    for (unsigned r = 0; r < BITS_GROUP; r++) row[r] = base + RAG_MIN(i + r, rows - 1) * stride;
    ask_ahead(base + i * stride, stride, rows - i);
    if (rows - i >= BITS_GROUP) bits_group(query, row, score + i, error ? error + i : NULL);
    else bits_rest(query, row, rows - i, score + i, error ? error + i : NULL);
  }
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

TARGET static void hadamard(float *values, uint32_t size) {
  for (uint32_t at = 0; at < size; at += 8) {
    __m256 v = _mm256_loadu_ps(values + at), partner = _mm256_permute_ps(v, 0xB1);
    v = _mm256_blend_ps(_mm256_add_ps(v, partner), _mm256_sub_ps(partner, v), 0xAA);
    partner = _mm256_permute_ps(v, 0x4E);
    v = _mm256_blend_ps(_mm256_add_ps(v, partner), _mm256_sub_ps(partner, v), 0xCC);
    partner = _mm256_permute2f128_ps(v, v, 1);
    v = _mm256_blend_ps(_mm256_add_ps(v, partner), _mm256_sub_ps(partner, v), 0xF0);
    _mm256_storeu_ps(values + at, v);
  }
  for (uint32_t stride = 8; stride < size; stride *= 2) {
    for (uint32_t at = 0; at < size; at += 2 * stride) {
      for (uint32_t i = at; i < at + stride; i += 8) {
        __m256 a = _mm256_loadu_ps(values + i), b = _mm256_loadu_ps(values + i + stride);
        _mm256_storeu_ps(values + i, _mm256_add_ps(a, b));
        _mm256_storeu_ps(values + i + stride, _mm256_sub_ps(a, b));
      }
    }
  }
}

const rag_codes_kernels rag_codes__kernels_avx2 = {
    .name = "avx2",
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
