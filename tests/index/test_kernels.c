// Goal: every kernel gives, for the same input, the bits that index.h promises, whatever the CPU, the compiler, the
// alignment of the vectors and the number of rows in the call; and none reads past a row.
//
// Method: each kernel set that this CPU runs against the plain loop of index_testing.h, bit for bit, over dimensions
// around the register widths and the sizes of real models, with ordinary, huge, subnormal and signed-zero values; a
// checksum of scores that was written down once, so that two builds which never meet are compared too; rows that end
// where a page that must not be touched begins.
#include "index_testing.h"

#include <sys/mman.h>
#include <unistd.h>

static const char *const names[] = {"scalar_libm", "scalar", "avx2", "avx512"};
static const uint32_t dimensions[] = {1, 7, 15, 16, 17, 63, 384, 768, 1000, 1536, 3072, RAG_DIMENSION_MAX};
#define ROWS_MAX 19u // two groups of the widest kernel and a rest

typedef enum kind { KIND_UNIT, KIND_HUGE, KIND_TINY, KIND_ZEROS, KIND_MIXED, KIND_SINKING, KIND_COUNT } kind;

static float make(kind k, uint64_t *random) {
  int exponent = k == KIND_MIXED ? (int)random_below(random, 120) - 60 : 0;
  switch (k) {
  case KIND_UNIT:
    return random_unit(random);
  case KIND_HUGE:
    return random_unit(random) * FLT_MAX; // sums overflow, and infinities of both signs meet
  case KIND_TINY:
    return random_unit(random) * 1e-39f; // subnormal; products underflow to zeros of either sign
  case KIND_ZEROS:
    return random_below(random, 2) ? -0.0f : 0.0f;
  case KIND_MIXED:
    return ldexpf(random_unit(random), exponent);
  case KIND_SINKING:
    return 1e-30f; // times -1e-30: every product is -0, and only the padding can make it +0
  case KIND_COUNT:
    break;
  }
  return 0;
}

static void assert_same(float got, float want, const char *kernel, const char *what, uint32_t dimension, int k) {
  if (isnan(got) && isnan(want)) return;
  if (float_bits(got) == float_bits(want)) return;
  fail_msg("%s %s, dimension %u, kind %d: %a where the definition gives %a", kernel, what, dimension, k, (double)got,
           (double)want);
}

static void check_all(const rag_kernels *kernels, uint32_t dimension, kind k, uint32_t offset, uint64_t *random) {
  size_t stride = dimension + 3;
  float *query = rag_alloc((dimension + offset) * sizeof(float));
  float *rows = rag_alloc((ROWS_MAX * stride + offset) * sizeof(float));
  assert_non_null(query);
  assert_non_null(rows);
  float *q = query + offset, *base = rows + offset;
  for (uint32_t i = 0; i < dimension; i++) q[i] = make(k, random);
  for (size_t i = 0; i < ROWS_MAX * stride; i++) base[i] = i % stride < dimension ? make(k, random) : NAN; // the gaps
  for (size_t i = 0; k == KIND_SINKING && i < ROWS_MAX * stride; i++) base[i] = -base[i];
  float dot[ROWS_MAX], l2[ROWS_MAX], out[ROWS_MAX + 1];
  const float *pointers[ROWS_MAX], *shuffled[ROWS_MAX];
  for (uint32_t r = 0; r < ROWS_MAX; r++) {
    pointers[r] = base + r * stride;
    shuffled[r] = base + r * 7 % ROWS_MAX * stride;
    dot[r] = oracle_raw(q, pointers[r], dimension, false);
    l2[r] = oracle_raw(q, pointers[r], dimension, true);
    assert_same(kernels->dot(q, pointers[r], dimension), dot[r], kernels->name, "dot", dimension, (int)k);
    assert_same(kernels->l2_squared(q, pointers[r], dimension), l2[r], kernels->name, "l2", dimension, (int)k);
  }
  for (uint32_t count = 0; count <= ROWS_MAX; count++) {
    if (dimension > 1000 && count != 0 && count != 8 && count != ROWS_MAX) continue;
    out[count] = 12345.0f; // must survive
    kernels->dot_rows(q, base, stride, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) assert_same(out[r], dot[r], kernels->name, "dot_rows", dimension, (int)k);
    kernels->l2_squared_rows(q, base, stride, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) assert_same(out[r], l2[r], kernels->name, "l2_rows", dimension, (int)k);
    kernels->dot_gather(q, shuffled, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) {
      assert_same(out[r], dot[r * 7 % ROWS_MAX], kernels->name, "dot_gather", dimension, (int)k);
    }
    kernels->l2_squared_gather(q, shuffled, count, dimension, out);
    for (uint32_t r = 0; r < count; r++) {
      assert_same(out[r], l2[r * 7 % ROWS_MAX], kernels->name, "l2_gather", dimension, (int)k);
    }
    assert_true(out[count] == 12345.0f);
  }
  rag_free(query);
  rag_free(rows);
}

static void test_every_kernel_gives_the_defined_bits(void **state) {
  (void)state;
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    const rag_kernels *kernels = rag_kernels_named(names[n]);
    if (!kernels) {
      print_message("this CPU cannot run %s\n", names[n]);
      continue;
    }
    uint64_t random = 1;
    for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
      for (int k = 0; k < KIND_COUNT; k++) {
        for (uint32_t offset = 0; offset < 4; offset++) check_all(kernels, dimensions[d], (kind)k, offset, &random);
      }
    }
  }
}

// Written down from a run of gcc 12 on AVX-512. Another number means that scores changed for everybody.
#define SCORES_CRC 0x439ca26fu

static void test_scores_are_those_of_other_builds(void **state) {
  (void)state;
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    const rag_kernels *kernels = rag_kernels_named(names[n]);
    if (!kernels) continue;
    uint64_t random = 7;
    uint32_t crc = 0;
    float a[1000], b[1000];
    for (uint32_t dimension = 1; dimension <= RAG_COUNT_OF(a); dimension += 13) {
      for (uint32_t i = 0; i < dimension; i++) {
        a[i] = make(KIND_MIXED, &random);
        b[i] = make(KIND_MIXED, &random);
      }
      float scores[2] = {kernels->dot(a, b, dimension), kernels->l2_squared(a, b, dimension)};
      crc = rag_crc32c(crc, scores, sizeof scores);
    }
    if (crc != SCORES_CRC) fail_msg("%s: the checksum of the scores is 0x%08x", names[n], crc);
  }
}

static void test_no_kernel_reads_past_a_row(void **state) {
  (void)state;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *map = mmap(NULL, 17 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_ptr_not_equal(map, MAP_FAILED);
  assert_int_equal(mprotect(map + 16 * page, page, PROT_NONE), 0);
  float *end = (float *)(void *)(map + 16 * page);
  float query[64], out[9];
  for (size_t i = 0; i < 64; i++) query[i] = 1.0f;
  for (float *p = (float *)(void *)map; p < end; p++) *p = 1.0f;
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    const rag_kernels *kernels = rag_kernels_named(names[n]);
    if (!kernels) continue;
    for (uint32_t dimension = 1; dimension <= 64; dimension++) {
      const float *row = end - dimension, *nine[9] = {row, row, row, row, row, row, row, row, row};
      assert_true(kernels->dot(query, row, dimension) == (float)dimension);
      assert_true(kernels->dot(row, row, dimension) == (float)dimension);
      assert_true(kernels->l2_squared(row, query, dimension) == 0.0f);
      kernels->dot_rows(query, end - 9 * dimension, dimension, 9, dimension, out);
      assert_true(out[8] == (float)dimension);
      kernels->l2_squared_rows(query, end - 9 * dimension, dimension, 9, dimension, out);
      assert_true(out[8] == 0.0f);
      kernels->dot_gather(query, nine, 9, dimension, out);
      assert_true(out[0] == (float)dimension && out[8] == (float)dimension);
      kernels->l2_squared_gather(row, nine, 9, dimension, out);
      assert_true(out[0] == 0.0f && out[8] == 0.0f);
    }
  }
  munmap(map, 17 * page);
}

static void test_names(void **state) {
  (void)state;
  assert_null(rag_kernels_named("sse9"));
  assert_null(rag_kernels_named(""));
  for (size_t n = 1; n < RAG_COUNT_OF(names); n++) {
    const rag_kernels *kernels = rag_kernels_named(names[n]);
    if (kernels) assert_string_equal(kernels->name, names[n]);
  }
  assert_non_null(rag_kernels_named("scalar"));
}

// The choice is made once per process, so this is the only test here that makes it.
static void test_the_environment_chooses(void **state) {
  (void)state;
  setenv("RAGD_KERNELS", "scalar", 1);
  assert_string_equal(rag_kernels_best()->name, "scalar");
  setenv("RAGD_KERNELS", "avx2", 1);
  assert_string_equal(rag_kernels_best()->name, "scalar");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_kernel_gives_the_defined_bits),
      cmocka_unit_test(test_scores_are_those_of_other_builds),
      cmocka_unit_test(test_no_kernel_reads_past_a_row),
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_the_environment_chooses),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
