// Goal: every kernel of codes gives the defined bits whatever the CPU, the compiler, the alignment and the number of
// rows in the call, and none reads past a row or a query; what is encoded is the nearest that the code can say, and is
// the same in every build.
//
// Method: each kernel set that this CPU runs against plain loops written here (int8 in 64-bit integers, bf16 as the
// float kernels' oracle over decoded rows, bits component by component), over dimensions around the register widths
// and those of real models, 0 to 67 rows, odd addresses, codes that would saturate 16-bit sums, and, for the heads of
// 1-bit rows, any bytes at all; rows that end where a page that must not be touched begins; checksums of encoded bytes
// that were written down once.
#include "index/codes/codes_internal.h"
#include "index_testing.h"

#include <sys/mman.h>
#include <unistd.h>

static const char *const names[] = {"scalar_libm", "scalar", "avx2", "avx512"};
static const uint32_t dimensions[] = {1, 7, 63, 150, 384, 768, 1000, 1536, 3072, RAG_DIMENSION_MAX};
#define ROWS_MAX 67u // eight groups of the widest kernel and a rest
#define QUERIES_MAX 9u
#define GUARD 0x5a5a5a5a

// Counts of rows worth a call: all of them where rows are short, else those around the groups.
static bool skip_count(uint32_t count, uint32_t dimension) {
  return dimension > 384 && count > 9 && count != 16 && count != 17 && count != 31 && count != ROWS_MAX;
}

// An address that is `offset` bytes off what malloc aligns to, so that a read past the end is still a heap overflow.
static void *alloc_at(size_t size, uint32_t offset, void **block) {
  *block = rag_alloc(size + offset);
  assert_non_null(*block);
  return (char *)*block + offset;
}

static void shuffle(uint32_t *ids, uint64_t *random) {
  for (uint32_t i = 0; i < ROWS_MAX; i++) ids[i] = random_below(random, ROWS_MAX); // repeats too
}

// ---------------------------------------------------------------------------------------------- int8

typedef enum bytes_kind { BYTES_RANDOM, BYTES_HIGH, BYTES_LOW, BYTES_ALTERNATING, BYTES_ZERO, BYTES_KINDS } bytes_kind;

static uint8_t make_row_code(bytes_kind kind, uint32_t i, uint64_t *random) {
  switch (kind) {
  case BYTES_HIGH:
    return 255;
  case BYTES_LOW:
    return 1;
  case BYTES_ALTERNATING:
    return i % 2 ? 1 : 255;
  case BYTES_ZERO:
    return 128;
  default:
    return (uint8_t)(1 + random_below(random, 255));
  }
}

static int64_t int8_oracle(const int8_t *query, const uint8_t *row, uint32_t bytes) {
  int64_t sum = 0;
  for (uint32_t i = 0; i < bytes; i++) sum += (int64_t)query[i] * ((int64_t)row[i] - 128);
  return sum;
}

static void assert_sum(int32_t got, int64_t want, const char *kernel, const char *what, uint32_t dimension) {
  if (got != want)
    fail_msg("%s %s, dimension %u: %d where the sum is %lld", kernel, what, dimension, got, (long long)want);
}

static void check_int8(const rag_codes_kernels *kernels, uint32_t dimension, bytes_kind row_kind, bytes_kind query_kind,
                       uint32_t offset, uint64_t *random) {
  uint32_t bytes = rag_codes_int8_bytes(dimension), ids[ROWS_MAX];
  size_t stride = bytes + offset;
  void *row_block, *query_block;
  uint8_t *base = alloc_at(ROWS_MAX * stride - offset, offset, &row_block);
  int8_t *codes = alloc_at((size_t)QUERIES_MAX * bytes, offset, &query_block);
  for (size_t i = 0; i < ROWS_MAX * stride - offset; i++) {
    base[i] = i % stride < dimension ? make_row_code(row_kind, (uint32_t)(i % stride), random) : 128;
  }
  rag_codes_int8_query queries[QUERIES_MAX];
  for (uint32_t q = 0; q < QUERIES_MAX; q++) {
    int32_t sum = 0;
    int8_t *code = codes + (size_t)q * bytes;
    for (uint32_t i = 0; i < bytes; i++) {
      code[i] = (int8_t)(i < dimension ? make_row_code(query_kind, i, random) - 128 : 0);
      sum += code[i];
    }
    queries[q] = (rag_codes_int8_query){.codes = code, .bytes = bytes, .excess = 128 * sum};
  }
  int64_t want[QUERIES_MAX][ROWS_MAX];
  for (uint32_t q = 0; q < QUERIES_MAX; q++)
    for (uint32_t r = 0; r < ROWS_MAX; r++) want[q][r] = int8_oracle(queries[q].codes, base + r * stride, bytes);
  shuffle(ids, random);
  int32_t out[QUERIES_MAX * ROWS_MAX + 1];
  for (uint32_t r = 0; r < ROWS_MAX; r++) {
    assert_sum(kernels->int8_dot(queries, base + r * stride), want[0][r], kernels->name, "dot", dimension);
  }
  for (uint32_t count = 0; count <= ROWS_MAX; count++) {
    if (skip_count(count, dimension)) continue;
    out[count] = GUARD;
    kernels->int8_rows(queries, base, stride, count, out);
    for (uint32_t r = 0; r < count; r++) assert_sum(out[r], want[0][r], kernels->name, "rows", dimension);
    kernels->int8_gather(queries, base, stride, ids, count, out);
    for (uint32_t r = 0; r < count; r++) assert_sum(out[r], want[0][ids[r]], kernels->name, "gather", dimension);
    assert_int_equal(out[count], GUARD);
    uint32_t query_count = count % (QUERIES_MAX + 1);
    out[query_count * count] = GUARD;
    kernels->int8_tile(queries, query_count, base, stride, count, out);
    for (uint32_t i = 0; i < query_count * count; i++) {
      assert_sum(out[i], want[i / count][i % count], kernels->name, "tile", dimension);
    }
    assert_int_equal(out[query_count * count], GUARD);
  }
  rag_free(row_block);
  rag_free(query_block);
}

static void test_int8_sums_are_exact(void **state) {
  (void)state;
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    const rag_codes_kernels *kernels = rag_codes_kernels_named(names[n]);
    if (!kernels) {
      print_message("this CPU cannot run %s\n", names[n]);
      continue;
    }
    uint64_t random = 1;
    for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
      for (uint32_t offset = 0; offset < 3; offset++) {
        check_int8(kernels, dimensions[d], BYTES_RANDOM, BYTES_RANDOM, offset, &random);
      }
      for (int r = 0; r < BYTES_KINDS; r++)
        for (int q = 0; q < BYTES_KINDS; q++)
          check_int8(kernels, dimensions[d], (bytes_kind)r, (bytes_kind)q, 1, &random);
    }
  }
}

static void test_int8_code_is_the_nearest(void **state) {
  (void)state;
  static const float scales[] = {1.0f, 1e-3f, 1e30f, FLT_MAX, 1e-38f};
  uint64_t random = 2;
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
    for (size_t s = 0; s < RAG_COUNT_OF(scales); s++) {
      uint32_t dimension = dimensions[d], bytes = rag_codes_int8_bytes(dimension);
      float *vector = rag_alloc(dimension * sizeof(float)), *back = rag_alloc(dimension * sizeof(float));
      uint8_t *row = rag_alloc(bytes);
      int8_t *codes = rag_alloc(bytes), *again = rag_alloc(bytes);
      assert_true(vector && back && row && codes && again);
      double norm = 0, max = 0;
      for (uint32_t i = 0; i < dimension; i++) {
        vector[i] = random_unit(&random) * scales[s];
        norm += (double)vector[i] * (double)vector[i];
        max = fmax(max, fabs((double)vector[i]));
      }
      rag_codes_int8_factors factors;
      rag_codes_int8_query query, of_row;
      rag_codes_int8_encode(vector, dimension, row, &factors);
      rag_codes_int8_decode(row, &factors, dimension, back);
      for (uint32_t i = 0; i < dimension; i++) {
        assert_true(row[i] >= 1);
        assert_true(fabs((double)back[i] - (double)vector[i]) <= max / 127 * 0.50001 + 128 * 0x1p-149); // of the scale
      }
      for (uint32_t i = dimension; i < bytes; i++) assert_int_equal(row[i], 128);
      assert_true(isfinite(factors.norm_squared));
      if (norm > 1e-30 && norm < 1e38) assert_true(fabs((double)factors.norm_squared - norm) <= norm * 1e-6);
      rag_codes_int8_query_init(vector, dimension, codes, &query);
      rag_codes_int8_query_of_row(row, &factors, dimension, again, &of_row);
      assert_memory_equal(codes, again, bytes);
      assert_int_equal(query.excess, of_row.excess);
      assert_int_equal(query.bytes, bytes);
      rag_free(vector);
      rag_free(back);
      rag_free(row);
      rag_free(codes);
      rag_free(again);
    }
  }
}

static void test_int8_of_zeros_and_equals(void **state) {
  (void)state;
  float zeros[100] = {0}, equal[100], score[3];
  for (size_t i = 0; i < 100; i++) equal[i] = -0.25f;
  uint8_t rows[3][128];
  int8_t codes[128];
  rag_codes_int8_factors factors[3];
  rag_codes_int8_query query;
  rag_codes_int8_encode(zeros, 100, rows[0], &factors[0]);
  rag_codes_int8_encode(equal, 100, rows[1], &factors[1]);
  memset(rows[2], 128, 128);
  factors[2] = (rag_codes_int8_factors){FLT_MAX, FLT_MAX};
  assert_true(factors[0].scale == 0 && factors[0].norm_squared == 0);
  for (size_t i = 0; i < 100; i++) assert_true(rows[0][i] == 128 && rows[1][i] == 1);
  int32_t dots[3];
  rag_codes_int8_query_init(equal, 100, codes, &query);
  rag_codes_kernels_named("scalar")->int8_rows(&query, rows[0], 128, 3, dots);
  rag_codes_int8_scores(&query, RAG_METRIC_IP, factors, NULL, dots, 3, score);
  assert_true(score[0] == 0 && fabsf(score[1] - 6.25f) < 1e-5f && score[2] == 0);
  rag_codes_int8_scores(&query, RAG_METRIC_L2, factors, NULL, dots, 3, score);
  assert_true(fabsf(score[0] + 6.25f) < 1e-5f && fabsf(score[1]) < 1e-5f && score[2] == -FLT_MAX);
  const uint32_t ids[2] = {1, 0};
  const int32_t shuffled[2] = {dots[1], dots[0]};
  rag_codes_int8_scores(&query, RAG_METRIC_COSINE, factors, ids, shuffled, 2, score);
  assert_true(fabsf(score[0] - 6.25f) < 1e-5f && score[1] == 0);
  rag_codes_int8_query_init(zeros, 100, codes, &query);
  assert_int_equal(query.excess, 0);
  rag_codes_int8_scores(&query, RAG_METRIC_L2, factors, NULL, (int32_t[]){0, 0, 0}, 2, score);
  assert_true(score[0] == 0 && fabsf(score[1] + 6.25f) < 1e-5f);
}

// ---------------------------------------------------------------------------------------------- bf16

static void test_bf16_rounds_to_nearest_even(void **state) {
  (void)state;
  static const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
  for (uint32_t upper = 0; upper < 0x10000; upper++) {
    if ((upper & 0x7f80) == 0x7f80) continue; // infinities and NaN are refused before
    for (size_t i = 0; i < RAG_COUNT_OF(lower); i++) {
      uint32_t bits = upper << 16 | lower[i];
      float value, below, above, back;
      uint16_t code[32];
      memcpy(&value, &bits, sizeof value);
      rag_codes_bf16_encode(&value, 1, code);
      rag_codes_bf16_decode(code, 1, &back);
      for (size_t j = 1; j < 32; j++) assert_int_equal(code[j], 0);
      bits = upper << 16;
      memcpy(&below, &bits, sizeof below); // toward zero
      bits = (upper + 1) << 16;
      memcpy(&above, &bits, sizeof above);
      float want = below;
      if (isfinite(above)) { // by magnitude, in doubles: exact
        double down = fabs((double)value - (double)below), up = fabs((double)above - (double)value);
        want = down < up ? below : up < down ? above : upper % 2 == 0 ? below : above;
      }
      if (float_bits(back) != float_bits(want))
        fail_msg("%a became %a, not %a", (double)value, (double)back, (double)want);
    }
  }
}

static void assert_same(float got, float want, const char *kernel, const char *what, uint32_t dimension) {
  if ((isnan(got) && isnan(want)) || float_bits(got) == float_bits(want)) return;
  if (got == 0 && want == 0) return; // rows are padded further than the oracle pads: signs of zeros may differ
  fail_msg("%s %s, dimension %u: %a where the definition gives %a", kernel, what, dimension, (double)got, (double)want);
}

static float make_float(int kind, uint64_t *random) {
  int exponent = kind == 3 ? (int)random_below(random, 120) - 60 : 0;
  switch (kind) {
  case 0:
    return random_unit(random);
  case 1:
    return random_unit(random) * FLT_MAX; // sums overflow, and infinities of both signs meet
  case 2:
    return random_unit(random) * 1e-39f; // subnormal
  default:
    return ldexpf(random_unit(random), exponent);
  }
}

static void check_bf16(const rag_codes_kernels *kernels, uint32_t dimension, int kind, uint32_t offset,
                       uint64_t *random) {
  uint32_t padded = rag_codes_bf16_padded(dimension), ids[ROWS_MAX];
  size_t stride = padded + offset;
  void *row_block, *query_block;
  uint16_t *base = alloc_at((ROWS_MAX * stride - offset) * 2, 2 * offset, &row_block);
  float *query = alloc_at(dimension * sizeof(float), 4 * offset, &query_block);
  float *vector = rag_alloc(dimension * sizeof(float));
  assert_non_null(vector);
  const uint16_t *rows[ROWS_MAX];
  float dot[ROWS_MAX], l2[ROWS_MAX], out[ROWS_MAX + 1];
  for (uint32_t i = 0; i < dimension; i++) query[i] = make_float(kind, random);
  for (uint32_t r = 0; r < ROWS_MAX; r++) {
    for (uint32_t i = 0; i < dimension; i++) vector[i] = make_float(kind, random);
    rag_codes_bf16_encode(vector, dimension, base + r * stride);
    rag_codes_bf16_decode(base + r * stride, dimension, vector);
    dot[r] = oracle_raw(query, vector, dimension, false);
    l2[r] = oracle_raw(query, vector, dimension, true);
    assert_same(kernels->bf16_dot(query, base + r * stride, dimension), dot[r], kernels->name, "dot", dimension);
    assert_same(kernels->bf16_l2_squared(query, base + r * stride, dimension), l2[r], kernels->name, "l2", dimension);
  }
  shuffle(ids, random);
  for (uint32_t count = 0; count <= ROWS_MAX; count++) {
    if (skip_count(count, dimension)) continue;
    out[count] = 12345.0f;
    kernels->bf16_dot_rows(query, base, stride, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) assert_same(out[r], dot[r], kernels->name, "dot_rows", dimension);
    kernels->bf16_l2_squared_rows(query, base, stride, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) assert_same(out[r], l2[r], kernels->name, "l2_rows", dimension);
    for (uint32_t r = 0; r < count; r++) rows[r] = base + ids[r] * stride;
    kernels->bf16_dot_gather(query, rows, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) assert_same(out[r], dot[ids[r]], kernels->name, "dot_gather", dimension);
    kernels->bf16_l2_squared_gather(query, rows, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) assert_same(out[r], l2[ids[r]], kernels->name, "l2_gather", dimension);
    assert_true(out[count] == 12345.0f);
  }
  rag_free(vector);
  rag_free(row_block);
  rag_free(query_block);
}

static void test_bf16_scores_are_those_of_the_decoded_rows(void **state) {
  (void)state;
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    const rag_codes_kernels *kernels = rag_codes_kernels_named(names[n]);
    if (!kernels) continue;
    uint64_t random = 3;
    for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++)
      for (int kind = 0; kind < 4; kind++) check_bf16(kernels, dimensions[d], kind, (uint32_t)kind % 3, &random);
  }
}

// ---------------------------------------------------------------------------------------------- 1 bit

// Component by component: the level of each from its planes, the sign of each from the code.
static void bits_oracle(const rag_codes_bits_query *query, const uint8_t *row, float *score, float *error) {
  rag_codes_bits_head head;
  memcpy(&head, row, sizeof head);
  int32_t sum = 0;
  for (uint32_t i = 0; i < query->words * 64; i++) {
    int32_t level = 0;
    for (uint32_t p = 0; p < 4; p++)
      level += (int32_t)(query->planes[i / 512 * 32 + p * 8 + i / 64 % 8] >> i % 64 & 1) << p;
    if (row[sizeof head + i / 8] >> i % 8 & 1) sum += level;
  }
  float s = fmaf(query->delta, (float)(2 * sum - query->level_sum), query->low * (float)head.balance);
  float estimate = fmaf(head.rescale, s, head.add) + query->base;
  float off = (head.rescale * query->reach) * sqrtf(fmaf(head.spread, query->distance_part, query->rounding_part));
  off = fmaf(fabsf(head.add), 0x1p-20f, off) + query->slack;
  *score = isfinite(estimate) ? estimate : FLT_MAX;
  *error = isfinite(estimate) && off < INFINITY ? off : INFINITY;
}

typedef enum bits_kind { BITS_UNIT, BITS_HUGE, BITS_TINY, BITS_MIXED, BITS_SAME, BITS_ANY_BYTES, BITS_KINDS } bits_kind;

static void check_bits(const rag_codes_kernels *kernels, uint32_t dimension, bits_kind kind, uint32_t offset,
                       uint64_t *random) {
  uint32_t padded = rag_codes_padded(dimension), bytes = rag_codes_bits_bytes(dimension), ids[ROWS_MAX];
  size_t stride = bytes + offset;
  void *row_block, *plane_block;
  uint8_t *base = alloc_at(ROWS_MAX * stride - offset, offset, &row_block);
  uint64_t *planes = alloc_at(rag_codes_bits_query_words(dimension) * sizeof *planes, 8 * offset, &plane_block);
  float *vector = rag_alloc(padded * sizeof(float)), *centroid = rag_alloc(padded * sizeof(float));
  assert_true(vector && centroid);
  rag_metric metric = random_below(random, 2) ? RAG_METRIC_L2 : RAG_METRIC_IP;
  for (uint32_t i = 0; i < padded; i++) {
    vector[i] = make_float((int)kind % 4, random);
    centroid[i] = make_float((int)kind % 4, random);
  }
  rag_codes_bits_query query;
  rag_codes_bits_query_init(vector, dimension, 1.9f, planes, &query);
  rag_codes_bits_query_list(&query, metric, kind == BITS_HUGE ? FLT_MAX : 0.5f, kind == BITS_TINY ? 1e-38f : 1.5f);
  for (uint32_t r = 0; r < ROWS_MAX; r++) {
    for (uint32_t i = 0; i < padded; i++)
      vector[i] = kind == BITS_SAME ? centroid[i] : make_float((int)kind % 4, random);
    rag_codes_bits_encode(vector, r % 3 ? centroid : NULL, dimension, metric, base + r * stride);
    if (kind == BITS_ANY_BYTES)
      for (uint32_t i = 0; i < bytes; i++) base[r * stride + i] = (uint8_t)next_random(random);
  }
  float scores[ROWS_MAX], errors[ROWS_MAX], score[ROWS_MAX + 1], error[ROWS_MAX + 1];
  for (uint32_t r = 0; r < ROWS_MAX; r++) bits_oracle(&query, base + r * stride, scores + r, errors + r);
  shuffle(ids, random);
  for (uint32_t count = 0; count <= ROWS_MAX; count++) {
    if (skip_count(count, dimension)) continue;
    for (unsigned gather = 0; gather < 2; gather++) {
      for (unsigned with_error = 0; with_error < 2; with_error++) {
        float *errors_out = with_error ? error : NULL;
        score[count] = error[count] = 12345.0f;
        if (gather) kernels->bits_gather(&query, base, stride, ids, count, score, errors_out);
        else kernels->bits_rows(&query, base, stride, count, score, errors_out);
        for (uint32_t r = 0; r < count; r++) {
          uint32_t at = gather ? ids[r] : r;
          if (float_bits(score[r]) != float_bits(scores[at]) ||
              (with_error && float_bits(error[r]) != float_bits(errors[at]))) {
            fail_msg("%s %s, dimension %u, kind %d, row %u of %u: %a +- %a where the definition gives %a +- %a",
                     kernels->name, gather ? "gather" : "rows", dimension, (int)kind, r, count, (double)score[r],
                     (double)(with_error ? error[r] : 0), (double)scores[at], (double)errors[at]);
          }
        }
        assert_true(score[count] == 12345.0f && error[count] == 12345.0f);
      }
    }
  }
  rag_free(vector);
  rag_free(centroid);
  rag_free(row_block);
  rag_free(plane_block);
}

static void test_bits_scores_are_those_of_the_definition(void **state) {
  (void)state;
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    const rag_codes_kernels *kernels = rag_codes_kernels_named(names[n]);
    if (!kernels) continue;
    uint64_t random = 4;
    for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++)
      for (int kind = 0; kind < BITS_KINDS; kind++)
        for (uint32_t offset = 0; offset < 2; offset++)
          check_bits(kernels, dimensions[d], (bits_kind)kind, offset, &random);
  }
}

static void test_every_hadamard_is_the_same(void **state) {
  (void)state;
  float want[8192], got[8192];
  const rag_codes_kernels *scalar = rag_codes_kernels_named("scalar_libm");
  for (uint32_t size = 64; size <= 8192; size *= 2) {
    uint64_t random = size;
    for (uint32_t i = 0; i < size; i++) want[i] = make_float(3, &random);
    double sum = 0, half = 0;
    for (uint32_t i = 0; i < size; i++) {
      sum += (double)want[i];
      half += i < size / 2 ? (double)want[i] : -(double)want[i];
    }
    for (size_t n = 1; n < RAG_COUNT_OF(names); n++) {
      const rag_codes_kernels *kernels = rag_codes_kernels_named(names[n]);
      if (!kernels) continue;
      random = size;
      for (uint32_t i = 0; i < size; i++) got[i] = make_float(3, &random);
      if (n == 1) scalar->hadamard(want, size);
      kernels->hadamard(got, size);
      assert_memory_equal(got, want, size * sizeof(float));
    }
    assert_true(fabs((double)want[0] - sum) <= fabs(sum) * 1e-4);
    assert_true(fabs((double)want[size / 2] - half) <= fabs(half) * 1e-4);
  }
}

// ---------------------------------------------------------------------------------------------- all

static void test_no_kernel_reads_past_a_row(void **state) {
  (void)state;
  static const uint32_t lengths[] = {1, 17, 64, 65, 150, 300, 384, 512, 513, 1000};
  size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 8 * page;
  char *rows_map = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *query_map = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(rows_map != MAP_FAILED && query_map != MAP_FAILED);
  assert_int_equal(mprotect(rows_map + size, page, PROT_NONE), 0);
  assert_int_equal(mprotect(query_map + size, page, PROT_NONE), 0);
  const uint32_t ids[9] = {8, 7, 6, 5, 4, 3, 2, 1, 0};
  int32_t sums[18];
  float scores[9], errors[9];
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    const rag_codes_kernels *kernels = rag_codes_kernels_named(names[n]);
    for (size_t d = 0; kernels && d < RAG_COUNT_OF(lengths); d++) {
      uint32_t dimension = lengths[d], bytes = rag_codes_int8_bytes(dimension);
      memset(query_map, 0, size);
      int8_t *codes = (int8_t *)query_map + size - 2 * bytes;
      rag_codes_int8_query queries[2] = {{.codes = codes, .bytes = bytes}, {.codes = codes + bytes, .bytes = bytes}};
      uint8_t *base = (uint8_t *)rows_map + size - 9 * bytes;
      kernels->int8_rows(&queries[1], base, bytes, 9, sums);
      kernels->int8_gather(&queries[1], base, bytes, ids, 9, sums);
      kernels->int8_tile(queries, 2, base, bytes, 9, sums);
      assert_int_equal(kernels->int8_dot(&queries[1], base + 8 * bytes), 0);

      float *query = (float *)(void *)(query_map + size) - dimension;
      uint32_t padded = rag_codes_bf16_padded(dimension);
      uint32_t count = RAG_MIN(9u, (uint32_t)(size / padded / 2));
      memset(rows_map, 0, size);
      uint16_t *halves = (uint16_t *)(void *)(rows_map + size) - (size_t)count * padded;
      kernels->bf16_dot_rows(query, halves, padded, count, dimension, scores);
      const uint16_t *rows[9];
      for (uint32_t r = 0; r < count; r++) rows[r] = halves + ids[9 - count + r] * padded;
      kernels->bf16_l2_squared_gather(query, rows, count, dimension, scores);
      assert_true(kernels->bf16_dot(query, halves + (count - 1) * padded, dimension) == 0);

      uint32_t row_bytes = rag_codes_bits_bytes(dimension), plane_words = rag_codes_bits_query_words(dimension);
      rag_codes_bits_query bits = {.planes = (uint64_t *)(void *)(query_map + size) - plane_words,
                                   .words = rag_codes_padded(dimension) / 64};
      kernels->bits_rows(&bits, (uint8_t *)rows_map + size - 9 * row_bytes, row_bytes, 9, scores, errors);
      kernels->bits_gather(&bits, (uint8_t *)rows_map + size - 9 * row_bytes, row_bytes, ids, 9, scores, NULL);
      assert_true(scores[0] == 0 && errors[8] == 0);
    }
  }
  munmap(rows_map, size + page);
  munmap(query_map, size + page);
}

// Written down from a run of gcc 12. Another number means that codes on disk changed their meaning.
#define ENCODED_CRC 0x8e6d7d4bu

static void test_encoded_bytes_are_those_of_other_builds(void **state) {
  (void)state;
  uint32_t crc = 0;
  uint64_t random = 5;
  for (uint32_t dimension = 1; dimension <= 2000; dimension = dimension * 5 / 3 + 1) {
    uint32_t padded = rag_codes_padded(dimension);
    float *vector = rag_alloc(dimension * sizeof(float)), *rotated = rag_alloc(2 * padded * sizeof(float));
    uint8_t *code = rag_alloc(2 * (size_t)padded + 64);
    rag_codes_rotation *rotation = NULL;
    assert_true(vector && rotated && code);
    for (uint32_t i = 0; i < dimension; i++) vector[i] = make_float(3, &random);
    rag_codes_int8_factors factors;
    rag_codes_int8_encode(vector, dimension, code, &factors);
    crc = rag_crc32c(crc, code, rag_codes_int8_bytes(dimension));
    crc = rag_crc32c(crc, &factors, sizeof factors);
    uint16_t *halves = (uint16_t *)(void *)code;
    rag_codes_bf16_encode(vector, dimension, halves);
    crc = rag_crc32c(crc, code, rag_codes_bf16_padded(dimension) * 2);
    assert_int_equal(rag_codes_rotation_create(dimension, 42, &rotation, NULL), RAG_OK);
    rag_codes_rotate(rotation, vector, rotated);
    vector[0] += 1;
    rag_codes_rotate(rotation, vector, rotated + padded);
    crc = rag_crc32c(crc, rotated, 2 * padded * sizeof(float));
    for (int metric = RAG_METRIC_IP; metric <= (int)RAG_METRIC_L2; metric++) {
      rag_codes_bits_encode(rotated, rotated + padded, dimension, (rag_metric)metric, code);
      crc = rag_crc32c(crc, code, rag_codes_bits_bytes(dimension));
    }
    rag_codes_rotation_destroy(rotation);
    rag_free(vector);
    rag_free(rotated);
    rag_free(code);
  }
  if (crc != ENCODED_CRC) fail_msg("the checksum of what is encoded is 0x%08x", crc);
}

static void test_names(void **state) {
  (void)state;
  assert_null(rag_codes_kernels_named("sse9"));
  assert_null(rag_codes_kernels_named(""));
  for (size_t n = 1; n < RAG_COUNT_OF(names); n++) {
    const rag_codes_kernels *kernels = rag_codes_kernels_named(names[n]);
    if (kernels) assert_string_equal(kernels->name, names[n]);
  }
  assert_non_null(rag_codes_kernels_named("scalar"));
}

// The choice is made once per process; main sets the environment before anything can make it.
static void test_the_environment_chooses(void **state) {
  (void)state;
  assert_string_equal(rag_codes_kernels_best()->name, "scalar");
  setenv("RAGD_KERNELS", "avx2", 1);
  assert_string_equal(rag_codes_kernels_best()->name, "scalar");
}

int main(void) {
  setenv("RAGD_KERNELS", "scalar", 1);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_int8_sums_are_exact),
      cmocka_unit_test(test_int8_code_is_the_nearest),
      cmocka_unit_test(test_int8_of_zeros_and_equals),
      cmocka_unit_test(test_bf16_rounds_to_nearest_even),
      cmocka_unit_test(test_bf16_scores_are_those_of_the_decoded_rows),
      cmocka_unit_test(test_bits_scores_are_those_of_the_definition),
      cmocka_unit_test(test_every_hadamard_is_the_same),
      cmocka_unit_test(test_no_kernel_reads_past_a_row),
      cmocka_unit_test(test_encoded_bytes_are_those_of_other_builds),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_the_environment_chooses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
