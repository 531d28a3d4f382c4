// 1-bit codes (RaBitQ): rows to signs and factors, queries to bit planes. Sums are in double precision, eight lanes that
// take the components in turn and are added in order, on every CPU.
#include "index/codes/codes_internal.h"

#include <float.h>
#include <math.h>

#define LANES 8u
#define LEVELS 15.0                // 2^RAG_CODES_BITS_PLANES - 1
#define ROUNDER 6755399441055744.0 // int8.c
// A variance below this would promise more than the float arithmetic of the score keeps. It is also that of a row whose
// components are all equal in size, where the estimate is exact.
#define SPREAD_MIN 9.5367431640625e-07 // 2^-20
#define SLACK 9.5367431640625e-07f     // 2^-20: of the terms of a score that may cancel
// Queries outside this range have estimates but no bounds: their levels would be subnormal, or overflow when summed.
#define QUERY_MAX 0x1p100f
#define QUERY_MIN 0x1p-100f

static double sum_lanes(const double lane[LANES]) {
  double sum = 0;
  for (unsigned i = 0; i < LANES; i++) sum += lane[i];
  return sum;
}

void rag_codes_bits_encode(const float *row, const float *centroid, uint32_t dimension, rag_metric metric,
                           uint8_t *out) {
  uint32_t padded = rag_codes_padded(dimension);
  double magnitudes[LANES] = {0}, squares[LANES] = {0}, products[LANES] = {0}, signed_sum[LANES] = {0};
  int32_t positive = 0;
  for (uint32_t at = 0; at < padded; at += 64) {
    uint64_t word = 0;
    for (uint32_t i = 0; i < 64; i++) {
      double c = centroid ? (double)centroid[at + i] : 0.0, r = (double)row[at + i] - c;
      bool up = r >= 0;
      word |= (uint64_t)up << i;
      magnitudes[i % LANES] += fabs(r);
      squares[i % LANES] += r * r;
      products[i % LANES] += r * c;
      signed_sum[i % LANES] += up ? c : -c;
    }
    positive += __builtin_popcountll(word);
    memcpy(out + sizeof(rag_codes_bits_head) + at / 8, &word, sizeof word);
  }
  double length = sum_lanes(magnitudes), norm = sum_lanes(squares), p = (double)padded;
  double f = length > 0 ? norm / length : 0;
  double spread = norm > 0 ? (1 - length * length / (p * norm)) * p / (p - 1) : 0;
  double shift = f * sum_lanes(signed_sum); // f <sign(r), c>
  bool l2 = metric == RAG_METRIC_L2;
  double add = l2 ? -(norm + 2 * shift) : sum_lanes(products) - shift, rescale = l2 ? 2 * f : f;
  rag_codes_bits_head head = {.spread = (float)RAG_MAX(spread, SPREAD_MIN), .balance = 2 * positive - (int32_t)padded};
  // Out of a float's range, or without its full precision: say so rather than promise a bound.
  if (rescale > FLT_MAX || fabs(add) > FLT_MAX || (norm > 0 && rescale < FLT_MIN)) {
    head.add = INFINITY;
  } else {
    head.add = (float)add;
    head.rescale = (float)rescale;
  }
  memcpy(out, &head, sizeof head);
}

void rag_codes_bits_query_init(const float *query, uint32_t dimension, float certainty, uint64_t *planes,
                               rag_codes_bits_query *out) {
  uint32_t padded = rag_codes_padded(dimension);
  float low = query[0], high = query[0];
  for (uint32_t i = 1; i < padded; i++) {
    low = RAG_MIN(low, query[i]);
    high = RAG_MAX(high, query[i]);
  }
  float delta = (float)(((double)high - (double)low) / LEVELS);
  double levels = delta > 0 ? 1.0 / (double)delta : 0, squares[LANES] = {0};
  int32_t level_sum = 0;
  memset(planes, 0, rag_codes_bits_query_words(dimension) * sizeof *planes);
  for (uint32_t at = 0; at < padded; at += 64) {
    uint64_t word[RAG_CODES_BITS_PLANES] = {0};
    for (uint32_t i = 0; i < 64; i++) {
      double exact = ((double)query[at + i] - (double)low) * levels, rounded = (exact + ROUNDER) - ROUNDER;
      uint32_t level = (uint32_t)RAG_MIN(rounded, LEVELS); // delta may have been rounded down
      double off = (double)query[at + i] - ((double)low + (double)delta * (double)level);
      squares[i % LANES] += off * off;
      level_sum += (int32_t)level;
      for (unsigned p = 0; p < RAG_CODES_BITS_PLANES; p++) word[p] |= (uint64_t)(level >> p & 1) << i;
    }
    uint64_t *chunk = planes + at / 512 * (8 * RAG_CODES_BITS_PLANES) + at / 64 % 8;
    for (unsigned p = 0; p < RAG_CODES_BITS_PLANES; p++) chunk[p * 8] = word[p];
  }
  float size = RAG_MAX(fabsf(low), fabsf(high));
  bool bounded = size == 0 || (size >= QUERY_MIN && size <= QUERY_MAX);
  *out = (rag_codes_bits_query){.planes = planes,
                                .words = padded / 64,
                                .level_sum = level_sum,
                                .low = low,
                                .delta = delta,
                                .certainty = certainty};
  out->rounding = bounded ? certainty * (float)sqrt(sum_lanes(squares)) : INFINITY;
}

void rag_codes_bits_query_list(rag_codes_bits_query *query, rag_metric metric, float inner, float distance) {
  float reach = query->certainty * distance;
  query->base = metric == RAG_METRIC_L2 ? -(distance * distance) : inner;
  query->slack = SLACK * fabsf(query->base);
  query->reach = RAG_MAX(reach, query->rounding);
  bool relative = query->reach > 0 && query->reach <= FLT_MAX;
  float d = relative ? reach / query->reach : 1, r = relative ? query->rounding / query->reach : 1;
  query->distance_part = d * d;
  query->rounding_part = r * r;
}
