// int8 codes: vectors to bytes, and the kernels' integer sums to scores. The arithmetic is in double precision, where
// no product of scales overflows and every rounding is far below that of the code, in one order on every CPU.
#include "index/codes/codes_internal.h"

#include <float.h>

#define LEVEL_MAX 127.0
// Added to a double below 2^51, leaves the nearest integer (ties to even) in its low bits: what rint does, without a
// call, and in a form that compilers turn into vector code.
#define ROUNDER 6755399441055744.0

static float to_float(double value) { // keeps what overflows finite; two instructions, and no branch
  value = value < (double)FLT_MAX ? value : (double)FLT_MAX;
  return (float)(value > -(double)FLT_MAX ? value : -(double)FLT_MAX);
}

static int32_t round_level(double value) {
  double shifted = value + ROUNDER;
  uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  return (int32_t)(uint32_t)bits;
}

// The factors of a vector; returns levels per unit, 0 for a vector of zeros.
static double measure(const float *vector, uint32_t dimension, rag_codes_int8_factors *out) {
  float lane_max[8] = {0};
  double lane_sum[8] = {0}; // eight chains: one alone would wait for its own additions
  for (uint32_t i = 0; i < dimension; i++) {
    float magnitude = __builtin_fabsf(vector[i]);
    lane_max[i % 8] = RAG_MAX(lane_max[i % 8], magnitude);
    lane_sum[i % 8] += (double)magnitude * (double)magnitude;
  }
  float max = 0;
  double sum = 0;
  for (unsigned i = 0; i < 8; i++) {
    max = RAG_MAX(max, lane_max[i]);
    sum += lane_sum[i];
  }
  *out = (rag_codes_int8_factors){(float)((double)max / LEVEL_MAX), to_float(sum)};
  return max > 0 ? LEVEL_MAX / (double)max : 0;
}

void rag_codes_int8_encode(const float *vector, uint32_t dimension, uint8_t *out_codes, rag_codes_int8_factors *out) {
  double levels = measure(vector, dimension, out);
  for (uint32_t i = 0; i < dimension; i++) out_codes[i] = (uint8_t)(128 + round_level((double)vector[i] * levels));
  memset(out_codes + dimension, 128, rag_codes_int8_bytes(dimension) - dimension);
}

void rag_codes_int8_decode(const uint8_t *codes, const rag_codes_int8_factors *factors, uint32_t dimension,
                           float *out) {
  for (uint32_t i = 0; i < dimension; i++) out[i] = (float)((int)codes[i] - 128) * factors->scale;
}

static void finish_query(int8_t *codes, uint32_t bytes, rag_codes_int8_factors factors, rag_codes_int8_query *out) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < bytes; i++) sum += codes[i];
  *out = (rag_codes_int8_query){.codes = codes, .bytes = bytes, .excess = 128 * sum, .factors = factors};
}

void rag_codes_int8_query_init(const float *vector, uint32_t dimension, int8_t *codes, rag_codes_int8_query *out) {
  rag_codes_int8_factors factors;
  uint32_t bytes = rag_codes_int8_bytes(dimension);
  double levels = measure(vector, dimension, &factors);
  for (uint32_t i = 0; i < dimension; i++) codes[i] = (int8_t)round_level((double)vector[i] * levels);
  memset(codes + dimension, 0, bytes - dimension);
  finish_query(codes, bytes, factors, out);
}

void rag_codes_int8_query_of_row(const uint8_t *row, const rag_codes_int8_factors *factors, uint32_t dimension,
                                 int8_t *codes, rag_codes_int8_query *out) {
  uint32_t bytes = rag_codes_int8_bytes(dimension);
  for (uint32_t i = 0; i < bytes; i++) codes[i] = (int8_t)(row[i] - 128);
  finish_query(codes, bytes, *factors, out);
}

void rag_codes_int8_scores(const rag_codes_int8_query *query, rag_metric metric, const rag_codes_int8_factors *factors,
                           const uint32_t *ids, const int32_t *dots, uint32_t count, float *out) {
  double scale = (double)query->factors.scale, norm = (double)query->factors.norm_squared;
  if (metric != RAG_METRIC_L2) {
    for (uint32_t i = 0; i < count; i++)
      out[i] = to_float((double)dots[i] * (scale * (double)factors[ids ? ids[i] : i].scale));
    return;
  }
  for (uint32_t i = 0; i < count; i++) {
    const rag_codes_int8_factors *row = &factors[ids ? ids[i] : i];
    double inner = (double)dots[i] * (scale * (double)row->scale);
    out[i] = to_float(2 * inner - (norm + (double)row->norm_squared));
  }
}
