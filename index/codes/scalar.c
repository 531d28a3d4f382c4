// The reference kernels of codes, and the order of float operations that the other two files follow to the bit.
//
// int8: integers, exact in any order. bf16: a row is expanded to floats (exactly), then THE ORDER of
// index/kernels/scalar.c. Hadamard: stages of stride 1, 2, 4, ...; an element is touched by one addition or subtraction
// in each, so there is no order to choose.
//
// 1 bit, from a row's head and m, the sum over planes p of 2^p popcount(code and plane p):
//     s     = fma(delta, 2 m - level_sum, low * balance)        <sign, rounded q>; both integers are exact as floats
//     score = fma(rescale, s, add) + base
//     error = fma(|add|, 2^-20, (rescale * reach) * sqrt(fma(spread, distance_part, rounding_part))) + slack
// A score that is no finite number becomes FLT_MAX with the error INFINITY, and an error that is none INFINITY.
//
// The body is compiled twice, as that of index/kernels/scalar.c: with FMA and POPCNT, and without.
#include "index/codes/codes_internal.h"

#include <float.h>
#include <math.h>

#define LANES 16u
#define INLINE static inline __attribute__((always_inline))

// ---------------------------------------------------------------------------------------------- int8

INLINE int32_t int8_body(const rag_codes_int8_query *query, const uint8_t *row) {
  int32_t sum = -query->excess;
  for (uint32_t at = 0; at < query->bytes; at += 64)
    for (uint32_t i = 0; i < 64; i++) sum += (int32_t)row[at + i] * query->codes[at + i];
  return sum;
}

// ---------------------------------------------------------------------------------------------- bf16

INLINE float expand(uint16_t value) {
  uint32_t bits = (uint32_t)value << 16;
  float out;
  memcpy(&out, &bits, sizeof out);
  return out;
}

INLINE float bf16_body(bool l2, const float *query, const uint16_t *row, uint32_t dimension) {
  float lane[LANES] = {0}, t[8], u[4];
  for (uint32_t at = 0; at < dimension; at += LANES) {
    for (unsigned i = 0; i < LANES; i++) {
      float q = at + i < dimension ? query[at + i] : 0.0f, x = expand(row[at + i]), difference = q - x;
      lane[i] = l2 ? __builtin_fmaf(difference, difference, lane[i]) : __builtin_fmaf(q, x, lane[i]);
    }
  }
  for (unsigned i = 0; i < 8; i++) t[i] = lane[i] + lane[i + 8];
  for (unsigned i = 0; i < 4; i++) u[i] = t[i] + t[i + 4];
  return (u[0] + u[2]) + (u[1] + u[3]);
}

// ---------------------------------------------------------------------------------------------- 1 bit

INLINE void bits_body(const rag_codes_bits_query *query, const uint8_t *row, float *score, float *error) {
  rag_codes_bits_head head;
  memcpy(&head, row, sizeof head);
  uint32_t sum = 0;
  for (uint32_t w = 0; w < query->words; w++) {
    const uint64_t *chunk = query->planes + w / 8 * (8 * RAG_CODES_BITS_PLANES) + w % 8;
    uint64_t word;
    memcpy(&word, row + sizeof head + w * sizeof word, sizeof word);
    for (unsigned p = 0; p < RAG_CODES_BITS_PLANES; p++) {
      sum += (uint32_t)__builtin_popcountll(word & chunk[p * 8]) << p;
    }
  }
  float levels = (float)(2 * (int32_t)sum - query->level_sum);
  float s = __builtin_fmaf(query->delta, levels, query->low * (float)head.balance);
  float estimate = __builtin_fmaf(head.rescale, s, head.add) + query->base;
  bool finite = __builtin_fabsf(estimate) <= FLT_MAX;
  *score = finite ? estimate : FLT_MAX;
  if (!error) return;
  float deviation = sqrtf(__builtin_fmaf(head.spread, query->distance_part, query->rounding_part));
  float off = head.rescale * query->reach * deviation;
  off = __builtin_fmaf(__builtin_fabsf(head.add), 0x1p-20f, off) + query->slack;
  *error = finite && off < INFINITY ? off : INFINITY;
}

// ---------------------------------------------------------------------------------------------- Hadamard

INLINE void hadamard_body(float *values, uint32_t size) {
  for (uint32_t stride = 1; stride < size; stride *= 2) {
    for (uint32_t at = 0; at < size; at += 2 * stride) {
      for (uint32_t i = at; i < at + stride; i++) {
        float a = values[i], b = values[i + stride];
        values[i] = a + b;
        values[i + stride] = a - b;
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------- the sets

#define DEFINE_BF16(suffix, target, metric, is_l2)                                                                     \
  target static float bf16_##metric##_##suffix(const float *query, const uint16_t *row, uint32_t dimension) {          \
    return bf16_body(is_l2, query, row, dimension);                                                                    \
  }                                                                                                                    \
  target static void bf16_##metric##_rows_##suffix(const float *query, const uint16_t *base, size_t stride,            \
                                                   uint32_t rows, uint32_t dimension, float *out) {                    \
    for (uint32_t i = 0; i < rows; i++) out[i] = bf16_body(is_l2, query, base + i * stride, dimension);                \
  }                                                                                                                    \
  target static void bf16_##metric##_gather_##suffix(const float *query, const uint16_t *const *rows, uint32_t count,  \
                                                     uint32_t dimension, float *out) {                                 \
    for (uint32_t i = 0; i < count; i++) out[i] = bf16_body(is_l2, query, rows[i], dimension);                         \
  }

#define DEFINE_KERNELS(suffix, target)                                                                                 \
  DEFINE_BF16(suffix, target, dot, false)                                                                              \
  DEFINE_BF16(suffix, target, l2_squared, true)                                                                        \
  target static int32_t int8_dot_##suffix(const rag_codes_int8_query *query, const uint8_t *row) {                     \
    return int8_body(query, row);                                                                                      \
  }                                                                                                                    \
  target static void int8_rows_##suffix(const rag_codes_int8_query *query, const uint8_t *base, size_t stride,         \
                                        uint32_t rows, int32_t *out) {                                                 \
    for (uint32_t i = 0; i < rows; i++) out[i] = int8_body(query, base + i * stride);                                  \
  }                                                                                                                    \
  target static void int8_gather_##suffix(const rag_codes_int8_query *query, const uint8_t *base, size_t stride,       \
                                          const uint32_t *ids, uint32_t count, int32_t *out) {                         \
    for (uint32_t i = 0; i < count; i++) out[i] = int8_body(query, base + ids[i] * stride);                            \
  }                                                                                                                    \
  target static void int8_tile_##suffix(const rag_codes_int8_query *queries, uint32_t query_count,                     \
                                        const uint8_t *base, size_t stride, uint32_t rows, int32_t *out) {             \
    for (uint32_t q = 0; q < query_count; q++)                                                                         \
      for (uint32_t i = 0; i < rows; i++) out[(size_t)q * rows + i] = int8_body(&queries[q], base + i * stride);       \
  }                                                                                                                    \
  target static void bits_rows_##suffix(const rag_codes_bits_query *query, const uint8_t *base, size_t stride,         \
                                        uint32_t rows, float *score, float *error) {                                   \
    for (uint32_t i = 0; i < rows; i++) bits_body(query, base + i * stride, score + i, error ? error + i : NULL);      \
  }                                                                                                                    \
  target static void bits_gather_##suffix(const rag_codes_bits_query *query, const uint8_t *base, size_t stride,       \
                                          const uint32_t *ids, uint32_t count, float *score, float *error) {           \
    for (uint32_t i = 0; i < count; i++) {                                                                             \
      bits_body(query, base + ids[i] * stride, score + i, error ? error + i : NULL);                                   \
    }                                                                                                                  \
  }                                                                                                                    \
  target static void hadamard_##suffix(float *values, uint32_t size) {                                                 \
    hadamard_body(values, size);                                                                                       \
  }                                                                                                                    \
  const rag_codes_kernels rag_codes__kernels_##suffix = {                                                              \
      .name = "scalar",                                                                                                \
      .int8_dot = int8_dot_##suffix,                                                                                   \
      .int8_rows = int8_rows_##suffix,                                                                                 \
      .int8_gather = int8_gather_##suffix,                                                                             \
      .int8_tile = int8_tile_##suffix,                                                                                 \
      .bf16_dot = bf16_dot_##suffix,                                                                                   \
      .bf16_l2_squared = bf16_l2_squared_##suffix,                                                                     \
      .bf16_dot_rows = bf16_dot_rows_##suffix,                                                                         \
      .bf16_l2_squared_rows = bf16_l2_squared_rows_##suffix,                                                           \
      .bf16_dot_gather = bf16_dot_gather_##suffix,                                                                     \
      .bf16_l2_squared_gather = bf16_l2_squared_gather_##suffix,                                                       \
      .bits_rows = bits_rows_##suffix,                                                                                 \
      .bits_gather = bits_gather_##suffix,                                                                             \
      .hadamard = hadamard_##suffix,                                                                                   \
  };

DEFINE_KERNELS(scalar_libm, )
#if defined(__x86_64__)
DEFINE_KERNELS(scalar_fma, __attribute__((target("fma,popcnt"))))
#endif
