// bf16 rows: floats without their lower sixteen bits.
#include "index/codes/codes_internal.h"

#define EXPONENT_BITS 0x7f80u // all set: infinity or NaN

void rag_codes_bf16_encode(const float *vector, uint32_t dimension, uint16_t *out) {
  uint32_t padded = rag_codes_bf16_padded(dimension);
  for (uint32_t i = 0; i < dimension; i++) {
    uint32_t bits;
    memcpy(&bits, vector + i, sizeof bits);
    // To nearest, ties to even: half a unit of what is kept, less one, plus the last bit that is kept. A finite float
    // at the very end of the range is carried into the exponent of infinity, and taken back by one: the largest bf16.
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    out[i] = (uint16_t)(rounded - ((rounded & 0x7fffu) == EXPONENT_BITS));
  }
  memset(out + dimension, 0, (padded - dimension) * sizeof *out);
}

void rag_codes_bf16_decode(const uint16_t *row, uint32_t dimension, float *out) {
  for (uint32_t i = 0; i < dimension; i++) {
    uint32_t bits = (uint32_t)row[i] << 16;
    memcpy(out + i, &bits, sizeof bits);
  }
}
