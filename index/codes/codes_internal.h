// codes: vectors in fewer bytes, and the kernels that scan them. What the larger engines walk and scan in place of the
// full-precision rows; but for those of bf16, which an index may keep as its rows (index/rows.c), no score here is final: an
// engine scores what it keeps again from the rows.
//
//                bytes a row     at 384   what a step costs      error of a score
//   float        4 d             1,536    fma                    -
//   bf16         2 d               768    expand, fma            2^-8 of each component, at most
//   int8         d (+ 8 apart)     384    one vpdpbusd per 64    about 1% of a component's deviation
//   1 bit        d/8 + 16           64    and, popcount          bounded, row by row, at a chosen certainty
// (d rounded up: to 32 components for bf16, to 64 for int8 and bits.)
//
// Files: int8.c, bf16.c, bits.c encode rows and queries and turn integers into scores; rotation.c is the random
// rotation that 1-bit codes ask for; scalar.c, avx2.c, avx512.c are the kernels, dispatch.c chooses among them.
//
// Invariants
//  1. Every kernel set gives equal bits for the same input. Integer sums are exact, whatever their order; what is done
//     in floats has one order of operations, written down where the scalar set does it.
//  2. Encoding is the same on every CPU too: no instruction set decides what is written to a file.
//  3. Higher is better: inner product where the metric is cosine or ip, minus the SQUARED Euclidean distance for l2.
//     Scores are finite.
//  4. No kernel reads past the `bytes` (or padded components) of a row, or past a query's. Nothing needs to be aligned;
//     64-byte alignment of rows is faster.
//  5. Leaf functions: no locks; nothing allocates but rag_codes_rotation_create.
// Input is finite (rag_vector_check). Nothing here holds state: any number of threads may call anything.
#ifndef RAGD_INDEX_CODES_INTERNAL_H
#define RAGD_INDEX_CODES_INTERNAL_H

#include "index/index.h"

#define RAG_CODES_DIMENSION_PADDED_MAX RAG_DIMENSION_MAX // a multiple of 64 itself

// ---------------------------------------------------------------------------------------------- int8
//
// A row is `bytes` unsigned bytes: component i is (code[i] - 128) * scale, codes from 1 to 255, the padding 128 (zero).
// The scale is the row's own: its largest component becomes 127. The query is signed bytes. vpdpbusd multiplies
// unsigned with signed: with the ROWS unsigned, what the offset of 128 adds to a dot product is 128 * sum(query), a
// constant of the query, and rows need no stored sums.
//
// Why a scale per vector, neither rotated nor calibrated by dimension: benchmarks/codes has the recall of each.
//
// The factors lie in an array of their own, 8 bytes a row: at 384 and 768 dimensions codes fill their cache lines
// exactly, and factors beside them would cost every row one line more; eight rows' factors share one.

typedef struct rag_codes_int8_factors {
  float scale;
  float norm_squared; // of the vector as it was, not of its code; used by l2 alone
} rag_codes_int8_factors;

static inline uint32_t rag_codes_int8_bytes(uint32_t dimension) {
  return (dimension + 63) / 64 * 64;
}
void rag_codes_int8_encode(const float *vector, uint32_t dimension, uint8_t *out_codes, rag_codes_int8_factors *out);
void rag_codes_int8_decode(const uint8_t *codes, const rag_codes_int8_factors *factors, uint32_t dimension, float *out);

typedef struct rag_codes_int8_query {
  const int8_t *codes; // borrowed: `bytes` of them, zeros behind the dimension
  uint32_t bytes;      // rag_codes_int8_bytes
  int32_t excess;      // 128 * sum(codes): what a row's offset adds to the sum of products
  rag_codes_int8_factors factors;
} rag_codes_int8_query;
// codes: room for rag_codes_int8_bytes(dimension), borrowed by *out.
void rag_codes_int8_query_init(const float *vector, uint32_t dimension, int8_t *codes, rag_codes_int8_query *out);
// A stored row as a query, exact in its codes: for building graphs, where rows are compared with rows.
void rag_codes_int8_query_of_row(const uint8_t *row, const rag_codes_int8_factors *factors, uint32_t dimension,
                                 int8_t *codes, rag_codes_int8_query *out);
// Scores from the kernels' sums: out[i] is the score of dots[i] with factors[ids ? ids[i] : i].
void rag_codes_int8_scores(const rag_codes_int8_query *query, rag_metric metric, const rag_codes_int8_factors *factors,
                           const uint32_t *ids, const int32_t *dots, uint32_t count, float *out);

// ---------------------------------------------------------------------------------------------- bf16
//
// The upper half of a float, rounded to nearest even; what would become an infinity is the largest bf16 of its sign.
// Components are in their order (a GPU reads them as they are), zeros up to a multiple of 32.
//
// The kernels expand a row to floats and follow the order of index/kernels/scalar.c, so a score is, bit for bit, what
// rag_kernels gives for the decoded row (but for the sign of a zero). vdpbf16ps is not used: it needs the query in bf16
// too, flushes subnormals, and rounds in an order of its own. It is about twice as fast in cache, but bf16 rows are
// scanned where they do not fit one, and there it saves 12 to 18% (benchmarks/codes); int8 saves half.
static inline uint32_t rag_codes_bf16_padded(uint32_t dimension) { // components of a row
  return (dimension + 31) / 32 * 32;
}
void rag_codes_bf16_encode(const float *vector, uint32_t dimension, uint16_t *out);
void rag_codes_bf16_decode(const uint16_t *row, uint32_t dimension, float *out);

// ---------------------------------------------------------------------------------------------- rotation
//
// A random orthogonal map, the same for the same (dimension, seed) for ever: random signs, fast Walsh-Hadamard
// transforms and half-by-half butterflies, over the dimension padded with zeros to a multiple of 64.
// O(d log d), in single precision, with the same bits on every CPU.
typedef struct rag_codes_rotation rag_codes_rotation; // immutable after creation
RAG_NODISCARD rag_status rag_codes_rotation_create(uint32_t dimension, uint64_t seed, rag_codes_rotation **out,
                                                   rag_error *err);
void rag_codes_rotation_destroy(rag_codes_rotation *rotation);
static inline uint32_t rag_codes_padded(uint32_t dimension) {
  return (dimension + 63) / 64 * 64;
}
// in: `dimension` floats; out: rag_codes_padded(dimension) floats, not overlapping. Components that leave the range of
// a float become its largest.
void rag_codes_rotate(const rag_codes_rotation *rotation, const float *in, float *out);

// ---------------------------------------------------------------------------------------------- 1 bit (RaBitQ)
//
// arXiv 2405.12497. x, c (its centroid, or NULL for the origin) and q are rotated. r = x - c; the code is sign(r), P
// bits (P: the padded dimension). With a = <sign(r) / sqrt(P), r / |r|>, and because the rotation was random:
//     <r, q - c>  is near  f <sign(r), q - c>,  f = |r|^2 / |r|_1,
//     within  e |r| |q - c| sqrt((1 - a^2) / a^2) / sqrt(P - 1)  with the certainty of e standard deviations.
// What is known of c when a row is written goes into `add`, so one query, quantised once and not once per centroid,
// serves all lists, and the error is still that of q - c, which is what makes it small.
//
// The query is rounded to 16 levels, q_j near low + delta u_j, kept as four bit planes: <sign(r), q> is then an
// exact integer sum, by four ANDs and population counts per word. The rounding's own error is known exactly and is a
// part of the bound.
//
// A row is its head, then P / 64 words, bit i of word w being the sign (1: positive or zero) of component 64 w + i:
// at 384 dimensions one cache line. Little-endian on disk, as in memory.
#define RAG_CODES_BITS_PLANES 4u
#define RAG_CODES_BITS_CERTAINTY 1.9f // standard deviations, the paper's choice: 94 of 100 within, 97 on either side

typedef struct rag_codes_bits_head {
  float add;       // score = query.base + add + rescale * <sign(r), q>; +infinity: arithmetic could not hold this row
  float rescale;   // f; twice f for l2
  float spread;    // (1 - a^2) P / (P - 1): the variance, in units of (rescale |q - c|)^2
  int32_t balance; // signs that are +1, less those that are -1
} rag_codes_bits_head;
_Static_assert(sizeof(rag_codes_bits_head) == 16, "on disk");

static inline uint32_t rag_codes_bits_bytes(uint32_t dimension) { // of a row
  return (uint32_t)sizeof(rag_codes_bits_head) + rag_codes_padded(dimension) / 8;
}
// row, centroid: rotated, rag_codes_padded(dimension) floats; centroid may be NULL. The row is of use for this metric
// alone.
void rag_codes_bits_encode(const float *row, const float *centroid, uint32_t dimension, rag_metric metric,
                           uint8_t *out);

typedef struct rag_codes_bits_query {
  const uint64_t *planes; // borrowed: for every 8 words of a row, 8 words of each of the 4 planes; zeros behind P
  uint32_t words;         // P / 64
  int32_t level_sum;      // sum of u_j
  float low, delta;       // q_j is near low + delta * u_j
  float rounding;         // e * |q - rounded q|
  float certainty;        // e
  float base;             // of the list: <c, q>, or -|q - c|^2 for l2
  float reach;            // the larger of e |q - c| and `rounding`
  float distance_part;    // (e |q - c| / reach)^2
  float rounding_part;    // (rounding / reach)^2
  float slack;            // what rounding may move in the sum with `base`
} rag_codes_bits_query;
static inline uint32_t rag_codes_bits_query_words(uint32_t dimension) { // room for the planes
  return (rag_codes_padded(dimension) + 511) / 512 * 8 * RAG_CODES_BITS_PLANES;
}
// query: rotated. planes: room for rag_codes_bits_query_words, borrowed by *out. The bounds hold with the certainty of
// `certainty` standard deviations. Follow with rag_codes_bits_query_list.
void rag_codes_bits_query_init(const float *query, uint32_t dimension, float certainty, uint64_t *planes,
                               rag_codes_bits_query *out);
// Turns the query to the rows of one centroid: inner = <c, q> and distance = |q - c| (0 and |q| where rows have none).
void rag_codes_bits_query_list(rag_codes_bits_query *query, rag_metric metric, float inner, float distance);

// ---------------------------------------------------------------------------------------------- kernels

// Rows lie `stride` bytes apart (bf16: components); ids are row numbers: row i is at base + ids[i] * stride; bf16 rows are
// gathered by their addresses, as floats are. Gathers
// ask for the lines of the rows that come next while they work on one group, so hand them as many ids as there are.
typedef struct rag_codes_kernels {
  const char *name; // "scalar", "avx2", "avx512"

  // out = sum over components of query code * (row code - 128), exactly.
  int32_t (*int8_dot)(const rag_codes_int8_query *query, const uint8_t *row);
  void (*int8_rows)(const rag_codes_int8_query *query, const uint8_t *base, size_t stride, uint32_t rows, int32_t *out);
  void (*int8_gather)(const rag_codes_int8_query *query, const uint8_t *base, size_t stride, const uint32_t *ids,
                      uint32_t count, int32_t *out);
  // Several queries of equal `bytes`: out[q * rows + r]. Each row is read once for a few queries.
  void (*int8_tile)(const rag_codes_int8_query *queries, uint32_t query_count, const uint8_t *base, size_t stride,
                    uint32_t rows, int32_t *out);

  // The query in full precision, `dimension` floats; rows have rag_codes_bf16_padded(dimension) components.
  float (*bf16_dot)(const float *query, const uint16_t *row, uint32_t dimension);
  float (*bf16_l2_squared)(const float *query, const uint16_t *row, uint32_t dimension);
  void (*bf16_dot_rows)(const float *query, const uint16_t *base, size_t stride, uint32_t rows, uint32_t dimension,
                        float *out);
  void (*bf16_l2_squared_rows)(const float *query, const uint16_t *base, size_t stride, uint32_t rows,
                               uint32_t dimension, float *out);
  void (*bf16_dot_gather)(const float *query, const uint16_t *const *rows, uint32_t count, uint32_t dimension,
                          float *out); // rows anywhere
  void (*bf16_l2_squared_gather)(const float *query, const uint16_t *const *rows, uint32_t count, uint32_t dimension,
                                 float *out);

  // Scores and how far off they may be: the true score is in [score - error, score + error] with the query's certainty.
  // error may be NULL. What the arithmetic cannot hold gets the score FLT_MAX and the error INFINITY: never pruned.
  void (*bits_rows)(const rag_codes_bits_query *query, const uint8_t *base, size_t stride, uint32_t rows, float *score,
                    float *error);
  void (*bits_gather)(const rag_codes_bits_query *query, const uint8_t *base, size_t stride, const uint32_t *ids,
                      uint32_t count, float *score, float *error);

  // One transform of `size` floats, a power of two from 64 on, in place, not scaled (rotation.c).
  void (*hadamard)(float *values, uint32_t size);
} rag_codes_kernels;

// The set that goes with rag_kernels_best (so RAGD_KERNELS decides here too), or the next one that this CPU can run:
// avx512 asks for BW, VL, VNNI and VPOPCNTDQ here, which Ice Lake and Zen 4 brought.
const rag_codes_kernels *rag_codes_kernels_best(void);
// By name: those of rag_kernels_named. NULL: unknown, or this CPU cannot run it.
const rag_codes_kernels *rag_codes_kernels_named(const char *name);

// Asks for a row's lines ahead of its turn: for a walk that knows its next candidates before it scores these.
static inline void rag_codes_prefetch(const void *row, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)row + at);
}

// ---------------------------------------------------------------------------------------------- inside the room

extern const rag_codes_kernels rag_codes__kernels_scalar_libm; // runs anywhere
#if defined(__x86_64__)
extern const rag_codes_kernels rag_codes__kernels_scalar_fma;
extern const rag_codes_kernels rag_codes__kernels_avx2;
extern const rag_codes_kernels rag_codes__kernels_avx512;
#endif

#endif
