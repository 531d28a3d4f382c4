// The reference kernels, and the order of operations that every other kernel file follows to the bit.
//
// THE ORDER. Sixteen virtual lanes start at +0. Lane i takes the elements i, i + 16, i + 32, ... in ascending order,
// each by one fused multiply-add (a single rounding):
//     dot:         lane[i] = fma(a[j], b[j], lane[i])
//     l2 squared:  d = a[j] - b[j] (rounded), lane[i] = fma(d, d, lane[i])
// A dimension that is no multiple of 16 is padded with zeros, and the padding is multiplied and added too: fma(0, 0,
// -0) is +0, so leaving it out could change the sign of a zero. Then one tree:
//     8 sums  lane[i] + lane[i + 8],  4 sums  i + (i + 4),  2 sums  i + (i + 2),  and the sum of the two.
// A vector register of 16 floats is one set of lanes and the tree is "add the upper half to the lower half", so AVX-512
// and AVX2 do the same without detours. To run several rows at once changes nothing: rows never meet.
//
// Invariants
//  1. Same bits everywhere: for finite input, under round-to-nearest with subnormals on (the default environment), and
//     with -ffp-contract=off, which keeps the compiler from fusing where this file does not.
//  2. No kernel reads past `dimension` floats of a row: another thread may be writing the row behind it.
//  3. Leaf functions: no locks, no allocation, no state.
//
// The body is compiled twice: for CPUs with an FMA unit, and over libm's fmaf, which rounds once as well but costs a
// call for every element.
#include "index/index_internal.h"

#include <math.h>

#define LANES 16u
#define INLINE static inline __attribute__((always_inline))

INLINE float reduce(const float lane[LANES]) {
  float t[8], u[4];
  for (unsigned i = 0; i < 8; i++) t[i] = lane[i] + lane[i + 8];
  for (unsigned i = 0; i < 4; i++) u[i] = t[i] + t[i + 4];
  return (u[0] + u[2]) + (u[1] + u[3]);
}

INLINE float dot_body(const float *a, const float *b, uint32_t dimension) {
  float lane[LANES] = {0};
  uint32_t at = 0;
  for (; dimension - at >= LANES; at += LANES) {
    for (unsigned i = 0; i < LANES; i++) lane[i] = __builtin_fmaf(a[at + i], b[at + i], lane[i]);
  }
  if (at < dimension) {
    for (unsigned i = 0; i < LANES; i++) {
      bool real = i < dimension - at;
      lane[i] = __builtin_fmaf(real ? a[at + i] : 0.0f, real ? b[at + i] : 0.0f, lane[i]);
    }
  }
  return reduce(lane);
}

INLINE float l2_body(const float *a, const float *b, uint32_t dimension) {
  float lane[LANES] = {0};
  uint32_t at = 0;
  for (; dimension - at >= LANES; at += LANES) {
    for (unsigned i = 0; i < LANES; i++) {
      float difference = a[at + i] - b[at + i];
      lane[i] = __builtin_fmaf(difference, difference, lane[i]);
    }
  }
  if (at < dimension) {
    for (unsigned i = 0; i < LANES; i++) {
      float difference = i < dimension - at ? a[at + i] - b[at + i] : 0.0f;
      lane[i] = __builtin_fmaf(difference, difference, lane[i]);
    }
  }
  return reduce(lane);
}

// The six entry points over one pair of bodies, for one instruction set.
#define DEFINE_KERNELS(suffix, target)                                                                                 \
  target static float dot_##suffix(const float *a, const float *b, uint32_t dimension) {                               \
    return dot_body(a, b, dimension);                                                                                  \
  }                                                                                                                    \
  target static float l2_##suffix(const float *a, const float *b, uint32_t dimension) {                                \
    return l2_body(a, b, dimension);                                                                                   \
  }                                                                                                                    \
  target static void dot_rows_##suffix(const float *query, const float *base, size_t stride, uint32_t rows,            \
                                       uint32_t dimension, float *out) {                                               \
    for (uint32_t i = 0; i < rows; i++) out[i] = dot_body(query, base + i * stride, dimension);                        \
  }                                                                                                                    \
  target static void l2_rows_##suffix(const float *query, const float *base, size_t stride, uint32_t rows,             \
                                      uint32_t dimension, float *out) {                                                \
    for (uint32_t i = 0; i < rows; i++) out[i] = l2_body(query, base + i * stride, dimension);                         \
  }                                                                                                                    \
  target static void dot_gather_##suffix(const float *query, const float *const *rows, uint32_t count,                 \
                                         uint32_t dimension, float *out) {                                             \
    for (uint32_t i = 0; i < count; i++) out[i] = dot_body(query, rows[i], dimension);                                 \
  }                                                                                                                    \
  target static void l2_gather_##suffix(const float *query, const float *const *rows, uint32_t count,                  \
                                        uint32_t dimension, float *out) {                                              \
    for (uint32_t i = 0; i < count; i++) out[i] = l2_body(query, rows[i], dimension);                                  \
  }                                                                                                                    \
  const rag_kernels rag_index__kernels_##suffix = {                                                                    \
      .name = "scalar",                                                                                                \
      .dot = dot_##suffix,                                                                                             \
      .l2_squared = l2_##suffix,                                                                                       \
      .dot_rows = dot_rows_##suffix,                                                                                   \
      .l2_squared_rows = l2_rows_##suffix,                                                                             \
      .dot_gather = dot_gather_##suffix,                                                                               \
      .l2_squared_gather = l2_gather_##suffix,                                                                         \
  };

DEFINE_KERNELS(scalar_libm, )
#if defined(__x86_64__)
DEFINE_KERNELS(scalar_fma, __attribute__((target("fma"))))
#endif
