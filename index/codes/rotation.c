// The random rotation that 1-bit codes ask for: it makes the direction of every error random, so that no data set is a
// bad one, and spreads a vector's weight over all its components, so that their signs say as much as they can.
//
// A Hadamard transform wants a power of two, and padding to the next one would make a code of 1,536 bits 2,048 long. So
// the dimension is padded to a multiple of 64 alone, P; let T be the largest power of two in it.
//   P = T: three times, a random sign for every component and the transform of all.
//   Else: twice, (random signs, the transform of the first T; random signs, the transform of the last T; and
//   (x[i], x[i + P/2]) <- (x[i] + x[i + P/2], x[i] - x[i + P/2]), which mixes where the two windows hardly overlap:
//   by 64 components at P = 1,984).
// Every component is in a window before halves meet. With the windows taking turns, and halves meeting after each, it
// is not, and at 768 dimensions a component alone kept 7% of its weight in one place after four transforms. Each step
// is orthogonal once scaled, and the scales ride along with the signs: one multiplication.
// tests/index/test_codes_estimates.c looks at norms, products, and how evenly single components spread.
//
// Format: the signs come from splitmix64 of (seed, dimension), 64 a draw, lowest bit first, pass by pass. Codes on
// disk depend on it: it never changes.
//
// Range: a transform makes sums of up to 8,192 components. Vectors whose largest component is beyond 2^100, or below
// 2^-100, are scaled by a power of two before and after.
#include "index/codes/codes_internal.h"

#include <float.h>
#include <math.h>

#define PASSES_WHOLE 3u
#define PASSES_SPLIT 4u
#define EXPONENT_SAFE 100
#define BLOCK 32u // half of what P is a multiple of: a trip count that compilers make vector code of

struct rag_codes_rotation {
  uint32_t dimension; // immutable, as is all of it
  uint32_t padded;    // P
  uint32_t window;    // T
  uint32_t passes;    // transforms
  const rag_codes_kernels *kernels;
  _Alignas(64) float signs[]; // passes * padded: signs times the pass's scale
};

static uint64_t splitmix64(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// Where a pass's transform begins.
static uint32_t window_start(const rag_codes_rotation *rotation, uint32_t pass) {
  return pass % 2 == 0 ? 0 : rotation->padded - rotation->window;
}
static bool halves_meet(const rag_codes_rotation *rotation, uint32_t pass) {
  return rotation->window != rotation->padded && pass % 2 == 1;
}

static void draw_signs(rag_codes_rotation *rotation, uint64_t seed) {
  uint64_t state = seed ^ (uint64_t)rotation->dimension << 32;
  double transform = 1.0 / sqrt((double)rotation->window);
  for (uint32_t pass = 0; pass < rotation->passes; pass++) {
    double half = halves_meet(rotation, pass) ? sqrt(0.5) : 1.0;
    uint32_t start = window_start(rotation, pass);
    float *signs = rotation->signs + (size_t)pass * rotation->padded;
    for (uint32_t i = 0; i < rotation->padded; i += 64) {
      uint64_t draw = splitmix64(&state);
      for (uint32_t j = 0; j < 64; j++) {
        bool inside = i + j - start < rotation->window; // unsigned: before the start is outside too
        double scale = half * (inside ? transform : 1.0);
        signs[i + j] = (float)((draw >> j & 1) ? -scale : scale);
      }
    }
  }
}

rag_status rag_codes_rotation_create(uint32_t dimension, uint64_t seed, rag_codes_rotation **out, rag_error *err) {
  if (dimension == 0 || dimension > RAG_DIMENSION_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a rotation of %u dimensions: give 1 to %u", dimension,
                    RAG_DIMENSION_MAX);
  }
  uint32_t padded = rag_codes_padded(dimension), window = 64;
  while (window * 2 <= padded) window *= 2;
  uint32_t passes = window == padded ? PASSES_WHOLE : PASSES_SPLIT;
  size_t bytes = sizeof(rag_codes_rotation) + (size_t)passes * padded * sizeof(float); // below 132 KiB
  rag_codes_rotation *rotation = rag_aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!rotation) return rag_fail_no_memory(err, bytes);
  rotation->dimension = dimension;
  rotation->padded = padded;
  rotation->window = window;
  rotation->passes = passes;
  rotation->kernels = rag_codes_kernels_best();
  draw_signs(rotation, seed);
  *out = rotation;
  return RAG_OK;
}

void rag_codes_rotation_destroy(rag_codes_rotation *rotation) {
  rag_free(rotation);
}

static float largest(const float *values, uint32_t count) {
  float lane[8] = {0}, max = 0;
  for (uint32_t i = 0; i < count; i++) lane[i % 8] = RAG_MAX(lane[i % 8], __builtin_fabsf(values[i]));
  for (unsigned i = 0; i < 8; i++) max = RAG_MAX(max, lane[i]);
  return max;
}

static void multiply(float *restrict values, const float *restrict by, uint32_t count) {
  for (uint32_t at = 0; at < count; at += BLOCK)
    for (uint32_t i = 0; i < BLOCK; i++) values[at + i] *= by[at + i];
}

static void butterfly(float *restrict low, float *restrict high, uint32_t count) {
  for (uint32_t at = 0; at < count; at += BLOCK) {
    for (uint32_t i = 0; i < BLOCK; i++) {
      float a = low[at + i], b = high[at + i];
      low[at + i] = a + b;
      high[at + i] = a - b;
    }
  }
}

static void scale_back(float *values, uint32_t count, int exponent) {
  for (uint32_t i = 0; i < count; i++) {
    double value = ldexp((double)values[i], exponent);
    values[i] = value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : (float)value;
  }
}

void rag_codes_rotate(const rag_codes_rotation *rotation, const float *in, float *out) {
  uint32_t dimension = rotation->dimension, padded = rotation->padded;
  memcpy(out, in, dimension * sizeof *out);
  memset(out + dimension, 0, (padded - dimension) * sizeof *out);
  float max = largest(in, dimension);
  if (max == 0) {
    memset(out, 0, dimension * sizeof *out); // and no -0
    return;
  }
  int exponent = ilogbf(max);
  bool extreme = exponent > EXPONENT_SAFE || exponent < -EXPONENT_SAFE;
  if (extreme) {
    for (uint32_t i = 0; i < dimension; i++) out[i] = ldexpf(out[i], -exponent);
  }
  for (uint32_t pass = 0; pass < rotation->passes; pass++) {
    multiply(out, rotation->signs + (size_t)pass * padded, padded);
    rotation->kernels->hadamard(out + window_start(rotation, pass), rotation->window);
    if (halves_meet(rotation, pass)) butterfly(out, out + padded / 2, padded / 2);
  }
  if (extreme) scale_back(out, padded, exponent);
}
