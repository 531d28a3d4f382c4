// Blocks of 128 postings: packing, bounds, and the score of a run of postings.
//
// Layout of a block's data (in memory only, never stored):
//   u8 bits of an ordinal's delta, u8 bits of (tf - 1), then both arrays packed: value i is in lane i % 4, lanes are
//   interleaved by u32 words, so 4 values unpack with one shift and one mask of a 16-byte vector; `bits` vectors each.
// Deltas are to the value before (the first one is 0: the header has the ordinal), summed up in registers: deltas to
// the value four before need no shuffles, but two bits more a posting.
//
// Vectors of four lanes are the compiler's generic ones: SSE2 on any x86-64, NEON on ARM, the same bits on both, as all
// floating-point operations are single IEEE ones and nothing is contracted.
#include "index/lexical/lexical_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef uint32_t v4u __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
typedef float v4f __attribute__((vector_size(16)));

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

static inline v4u load4(const void *p) {
  v4u v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void store4(void *p, v4u v) {
  memcpy(p, &v, sizeof v);
}

// ---------------------------------------------------------------------------------------------- packing

static uint32_t bits_of(uint32_t value) {
  return value == 0 ? 0 : 32u - (uint32_t)__builtin_clz(value);
}

static uint8_t *pack(const uint32_t *values, uint32_t bits, uint8_t *out) {
  uint32_t words[4 * 32] = {0};
  for (uint32_t i = 0; bits > 0 && i < LEX_BLOCK; i++) {
    uint32_t at = i / 4 * bits, word = at / 32 * 4 + i % 4, shift = at % 32;
    words[word] |= values[i] << shift;
    if (shift + bits > 32) words[word + 4] |= values[i] >> (32 - shift);
  }
  memcpy(out, words, (size_t)16 * bits);
  return out + (size_t)16 * bits;
}

size_t rag_lexical__block_encode(const lex_entry *entries, uint8_t out[LEX_BLOCK_BYTES_MAX]) {
  uint32_t deltas[LEX_BLOCK], tfs[LEX_BLOCK], any_delta = 0, any_tf = 0;
  for (uint32_t i = 0; i < LEX_BLOCK; i++) {
    deltas[i] = i == 0 ? 0 : entries[i].ordinal - entries[i - 1].ordinal;
    tfs[i] = entries[i].tf - 1;
    any_delta |= deltas[i];
    any_tf |= tfs[i];
  }
  out[0] = (uint8_t)bits_of(any_delta);
  out[1] = (uint8_t)bits_of(any_tf);
  return (size_t)(pack(tfs, out[1], pack(deltas, out[0], out + 2)) - out);
}

size_t rag_lexical__block_bytes(const uint8_t *data) {
  return 2 + (size_t)16 * data[0] + (size_t)16 * data[1];
}

// With `sum`: running sums from *start on; else values + 1. `bits` is a constant at every call, so that each becomes
// straight code.
static inline __attribute__((always_inline)) void unpack(const uint8_t *in, uint32_t bits, bool sum, uint32_t start,
                                                         uint32_t *out) {
  const v4u mask = (v4u){0} + (bits == 32 ? UINT32_MAX : (1u << bits) - 1);
  const v4u zero = {0};
  v4u base = zero + start;
  UNROLL
  for (uint32_t i = 0; i < LEX_BLOCK / 4; i++) {
    uint32_t at = i * bits, shift = at % 32;
    v4u v = load4(in + (size_t)16 * (at / 32)) >> shift;
    if (shift + bits > 32) v |= load4(in + (size_t)16 * (at / 32 + 1)) << (32 - shift);
    v &= mask;
    if (sum) {
      v += __builtin_shufflevector(v, zero, 4, 0, 1, 2);
      v += __builtin_shufflevector(v, zero, 4, 4, 0, 1);
      v += base;
      base = __builtin_shufflevector(v, v, 3, 3, 3, 3);
    } else {
      v += 1;
    }
    store4(out + (size_t)i * 4, v);
  }
}

#define CASE(n)                                                                                                        \
  case n:                                                                                                              \
    unpack(in, n, sum, start, out);                                                                                    \
    break;
#define CASES(x) CASE(x) CASE(x + 1) CASE(x + 2) CASE(x + 3) CASE(x + 4) CASE(x + 5) CASE(x + 6) CASE(x + 7)
#define DEFINE_UNPACK(name, with_sum)                                                                                  \
  static void name(const uint8_t *in, uint32_t bits, uint32_t start, uint32_t *out) {                                  \
    const bool sum = with_sum;                                                                                         \
    RAG_UNUSED(start);                                                                                                 \
    switch (bits) {                                                                                                    \
      CASES(1)                                                                                                         \
      CASES(9)                                                                                                         \
      CASES(17)                                                                                                        \
      CASES(25)                                                                                                        \
    default:                                                                                                           \
      RAG_ASSERT(bits == 0);                                                                                           \
    }                                                                                                                  \
  }
DEFINE_UNPACK(unpack_sums, true)
DEFINE_UNPACK(unpack_plus_one, false)

void rag_lexical__block_ordinals(const lex_block *block, uint32_t out[LEX_BLOCK]) {
  unpack_sums(block->data + 2, block->data[0], block->first, out);
}

void rag_lexical__block_tfs(const lex_block *block, uint32_t out[LEX_BLOCK]) {
  uint32_t bits = block->data[1];
  if (bits > 0) {
    unpack_plus_one(block->data + 2 + (size_t)16 * block->data[0], bits, 0, out);
  } else {
    for (uint32_t i = 0; i < LEX_BLOCK; i++) out[i] = 1;
  }
}

uint32_t rag_lexical__block_tf(const lex_block *block, uint32_t at) {
  uint32_t bits = block->data[1];
  if (bits == 0) return 1;
  const uint8_t *in = block->data + 2 + (size_t)16 * block->data[0];
  uint32_t bit = at / 4 * bits, low, high = 0;
  memcpy(&low, in + (size_t)16 * (bit / 32) + (size_t)4 * (at % 4), 4);
  if (bit % 32 + bits > 32) memcpy(&high, in + (size_t)16 * (bit / 32 + 1) + (size_t)4 * (at % 4), 4);
  uint64_t both = ((uint64_t)high << 32 | low) >> bit % 32;
  return 1 + (uint32_t)(both & (bits == 32 ? UINT32_MAX : (1u << bits) - 1));
}

// ---------------------------------------------------------------------------------------------- bounds

typedef struct pair {
  uint32_t tf;
  uint32_t length;
} pair;

// The score of a pair at the usual parameters, for choosing which pairs to join; any choice is correct.
static float taste(pair p, float mean) {
  return (float)p.tf / ((float)p.tf + 0.3f + 0.9f * (float)p.length / mean);
}

// The pairs that no other one dominates, tf descending and so length descending too, joined until they are few.
void rag_lexical__block_front(const lex_entry *entries, const uint32_t *lengths, uint32_t count, lex_block *out) {
  pair front[LEX_BLOCK];
  uint32_t kept = 0;
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; i++) {
    pair p = {RAG_MIN(entries[i].tf, UINT16_MAX), RAG_MIN(lengths[i], UINT16_MAX)};
    total += p.length;
    uint32_t at = 0; // before the first pair with a smaller tf
    while (at < kept && front[at].tf >= p.tf) at++;
    if (at > 0 && front[at - 1].length <= p.length) continue;
    if (at > 0 && front[at - 1].tf == p.tf) at--;
    uint32_t end = at; // what p dominates: smaller tf, no smaller length
    while (end < kept && front[end].length >= p.length) end++;
    memmove(&front[at + 1], &front[end], (kept - end) * sizeof(pair));
    front[at] = p;
    kept = kept - (end - at) + 1;
  }
  float mean = (float)total / (float)count + 1.0f;
  while (kept > LEX_FRONT) {
    uint32_t best = 0;
    float best_loss = FLT_MAX;
    for (uint32_t i = 0; i + 1 < kept; i++) {
      float loss = taste((pair){front[i].tf, front[i + 1].length}, mean) -
                   RAG_MAX(taste(front[i], mean), taste(front[i + 1], mean));
      if (loss < best_loss) best_loss = loss, best = i;
    }
    front[best].length = front[best + 1].length;
    memmove(&front[best + 1], &front[best + 2], (kept - best - 2) * sizeof(pair));
    kept--;
  }
  for (uint32_t i = 0; i < LEX_FRONT; i++) {
    pair p = front[RAG_MIN(i, kept - 1)];
    out->front_tf[i] = (uint16_t)p.tf;
    out->front_length[i] = (uint16_t)p.length;
  }
}

uint32_t rag_lexical__block_bound(const lex_scorer *scorer, const lex_block *block) {
  if (block->front_tf[0] == UINT16_MAX) return lex_bound_of(scorer->weight);
  v4f tf, length;
  for (uint32_t i = 0; i < LEX_FRONT; i++) {
    tf[i] = (float)(int32_t)block->front_tf[i];
    length[i] = (float)(int32_t)block->front_length[i];
  }
  v4f ratio = tf / (tf + (scorer->a + scorer->b * length));
  float most = RAG_MAX(RAG_MAX(ratio[0], ratio[1]), RAG_MAX(ratio[2], ratio[3]));
  return lex_bound_of(scorer->weight * most);
}

// ---------------------------------------------------------------------------------------------- scores

static void score_run_portable(const lex_scorer *scorer, const uint32_t *ordinals, const uint32_t *tfs, uint32_t count,
                               const uint32_t *length1, uint32_t *out) {
  uint32_t i = 0;
  for (; i + 4 <= count; i += 4) {
    v4i length;
    for (uint32_t j = 0; j < 4; j++) length[j] = (int32_t)(length1[ordinals[i + j] & (LEX_PAGE - 1)] - 1);
    v4f f = __builtin_convertvector((v4i)load4(tfs + i), v4f);
    v4f norm = scorer->a + scorer->b * __builtin_convertvector(length, v4f);
    v4i q = __builtin_convertvector(scorer->weight * (f / (f + norm)), v4i) + 1;
    store4(out + i, (v4u)q);
  }
  for (; i < count; i++) out[i] = lex_score(scorer, tfs[i], length1[ordinals[i] & (LEX_PAGE - 1)] - 1);
}

#if defined(__x86_64__)
// Eight lanes, and the lengths by one gather. The same operations, so the same bits.
static __attribute__((target("avx2"))) void score_run_avx2(const lex_scorer *scorer, const uint32_t *ordinals,
                                                           const uint32_t *tfs, uint32_t count, const uint32_t *length1,
                                                           uint32_t *out) {
  const __m256 weight = _mm256_set1_ps(scorer->weight), a = _mm256_set1_ps(scorer->a), b = _mm256_set1_ps(scorer->b);
  const __m256i low = _mm256_set1_epi32((int)(LEX_PAGE - 1)), one = _mm256_set1_epi32(1);
  uint32_t i = 0;
  for (; i + 8 <= count; i += 8) {
    __m256i at = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(ordinals + i)), low);
    __m256i length = _mm256_sub_epi32(_mm256_i32gather_epi32((const int *)length1, at, 4), one);
    __m256 f = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(tfs + i)));
    __m256 norm = _mm256_add_ps(a, _mm256_mul_ps(b, _mm256_cvtepi32_ps(length)));
    __m256 value = _mm256_mul_ps(weight, _mm256_div_ps(f, _mm256_add_ps(f, norm)));
    __m256i q = _mm256_add_epi32(_mm256_cvttps_epi32(value), one);
    _mm256_storeu_si256((__m256i *)(void *)(out + i), q);
  }
  for (; i < count; i++) out[i] = lex_score(scorer, tfs[i], length1[ordinals[i] & (LEX_PAGE - 1)] - 1);
}
#endif

static void (*score_run)(const lex_scorer *scorer, const uint32_t *ordinals, const uint32_t *tfs, uint32_t count,
                         const uint32_t *length1,
                         uint32_t *out) = score_run_portable; // immutable after the constructor

#if defined(__x86_64__)
static __attribute__((constructor)) void choose_score_run(void) {
  const char *wanted = getenv("RAGD_KERNELS"); // as index/kernels/dispatch.c: "scalar" turns the wide one off
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && !(wanted && strncmp(wanted, "scalar", 6) == 0)) score_run = score_run_avx2;
}
#endif

void rag_lexical__score_run(const lex_scorer *scorer, const uint32_t *ordinals, const uint32_t *tfs, uint32_t count,
                            const uint32_t *length1, uint32_t *out) {
  score_run(scorer, ordinals, tfs, count, length1, out);
}
