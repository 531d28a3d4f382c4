// Goal: a vector that cannot be ranked is refused with a message that names the component and the fix; normalising
// gives unit length and the same bits everywhere, also for vectors whose squares leave the range of a float; scores are
// finite.
//
// Method: each bad value at each position class, against the message; lengths after normalising in long double; a
// checksum of normalised vectors that was written down once.
#include "index_testing.h"

#define N 100u

static void fill(float *v, uint32_t n, float scale, uint64_t *random) {
  for (uint32_t i = 0; i < n; i++) v[i] = random_unit(random) * scale;
}

static void test_refuses_what_is_not_finite(void **state) {
  (void)state;
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
  const uint32_t at[] = {0, 15, 16, N - 1};
  const rag_metric metrics[] = {RAG_METRIC_COSINE, RAG_METRIC_IP, RAG_METRIC_L2};
  uint64_t random = 1;
  float v[N];
  fill(v, N, 1, &random);
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    assert_int_equal(rag_vector_check(v, N, metrics[m], "vector", NULL), RAG_OK);
    for (size_t b = 0; b < RAG_COUNT_OF(bad); b++) {
      for (size_t a = 0; a < RAG_COUNT_OF(at); a++) {
        rag_error err = {0};
        float kept = v[at[a]];
        char component[32];
        snprintf(component, sizeof component, "component %u ", at[a]);
        v[at[a]] = bad[b];
        assert_int_equal(rag_vector_check(v, N, metrics[m], "documents[3].vector", &err), RAG_INVALID_ARGUMENT);
        assert_string_equal(err.field, "documents[3].vector");
        assert_non_null(strstr(err.message, component));
        assert_non_null(strstr(err.message, isnan(bad[b]) ? "NaN" : "infinite"));
        v[at[a]] = kept;
      }
    }
  }
}

static void test_refuses_zero_length_with_cosine_only(void **state) {
  (void)state;
  float v[N] = {0};
  v[1] = -0.0f;
  rag_error err = {0};
  assert_int_equal(rag_vector_check(v, N, RAG_METRIC_COSINE, "vector", &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "vector");
  assert_non_null(strstr(err.message, "zero"));
  assert_int_equal(rag_vector_check(v, N, RAG_METRIC_IP, "vector", &err), RAG_OK);
  assert_int_equal(rag_vector_check(v, N, RAG_METRIC_L2, "vector", &err), RAG_OK);
  v[N - 1] = FLT_TRUE_MIN; // the shortest vector there is has a direction
  assert_int_equal(rag_vector_check(v, N, RAG_METRIC_COSINE, "vector", &err), RAG_OK);
  rag_vector_normalize(v, N);
  assert_true(v[N - 1] == 1.0f);
}

static void test_normalises_at_every_scale(void **state) {
  (void)state;
  const float scales[] = {1, 1e-45f, 1e-40f, 1e-30f, 1e30f, FLT_MAX};
  const uint32_t dimensions[] = {1, 2, 15, 16, 17, 384, RAG_DIMENSION_MAX};
  uint64_t random = 3;
  for (size_t s = 0; s < RAG_COUNT_OF(scales); s++) {
    for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
      uint32_t n = dimensions[d];
      float *v = rag_alloc(n * sizeof(float));
      assert_non_null(v);
      fill(v, n, scales[s], &random);
      v[0] = scales[s];
      float first = v[0], last = v[n - 1];
      rag_vector_normalize(v, n);
      long double sum = 0;
      for (uint32_t i = 0; i < n; i++) sum += (long double)v[i] * (long double)v[i];
      assert_true(fabsl(sqrtl(sum) - 1) < 1e-6L);
      assert_true((first < 0) == (v[0] < 0) && (last < 0) == (v[n - 1] < 0));
      rag_free(v);
    }
  }
}

// Written down from a run of gcc 12. Another number means that stored unit vectors changed for everybody.
#define NORMALISED_CRC 0x46621c37u

static void test_normalised_bits_are_those_of_other_builds(void **state) {
  (void)state;
  uint64_t random = 5;
  uint32_t crc = 0;
  float v[1000];
  for (uint32_t n = 1; n <= RAG_COUNT_OF(v); n += 27) {
    fill(v, n, ldexpf(1, (int)n / 10 - 50), &random);
    rag_vector_normalize(v, n);
    crc = rag_crc32c(crc, v, n * sizeof(float));
  }
  if (crc != NORMALISED_CRC) fail_msg("the checksum of the normalised vectors is 0x%08x", crc);
}

static void test_scores_are_finite(void **state) {
  (void)state;
  float huge[32], negative[32], mixed[32];
  for (unsigned i = 0; i < 32; i++) {
    huge[i] = FLT_MAX;
    negative[i] = -FLT_MAX;
    mixed[i] = i % 2 ? FLT_MAX : -FLT_MAX;
  }
  assert_true(rag_vector_score(huge, huge, 32, RAG_METRIC_IP) == FLT_MAX);
  assert_true(rag_vector_score(huge, negative, 32, RAG_METRIC_IP) == -FLT_MAX);
  assert_true(rag_vector_score(huge, mixed, 32, RAG_METRIC_IP) == -FLT_MAX); // infinity minus infinity
  assert_true(rag_vector_score(huge, negative, 32, RAG_METRIC_L2) == -FLT_MAX);
  assert_int_equal(float_bits(rag_vector_score(huge, huge, 32, RAG_METRIC_L2)), float_bits(0.0f)); // not -0
  const float a[2] = {0, 3}, b[2] = {4, 0};
  assert_true(rag_vector_score(a, b, 2, RAG_METRIC_L2) == -5.0f);
  assert_true(rag_vector_score(a, a, 2, RAG_METRIC_COSINE) == 9.0f); // the inner product: the caller normalises
}

// The encoder's own rounding is proved in test_codes; here, that every component of every length is rounded by it, once.
static void test_rounds_every_component(void **state) {
  (void)state;
  const uint32_t dimensions[] = {1, 31, 32, 33, 255, 256, 257, 384, 1000};
  uint64_t random = 7;
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
    uint32_t n = dimensions[d];
    float v[1001], given[1001];
    fill(v, n + 1, 1, &random);
    memcpy(given, v, sizeof(float) * (n + 1));
    rag_vector_round_bf16(v, n);
    assert_int_equal(float_bits(v[n]), float_bits(given[n])); // not beyond
    for (uint32_t i = 0; i < n; i++) {
      assert_int_equal(float_bits(v[i]) & 0xffff, 0);
      uint32_t away = float_bits(given[i]) - float_bits(v[i]); // of one sign both: half a step at most
      assert_true(away + 0x8000 <= 0x10000);
      assert_true(fabs((double)v[i] - (double)given[i]) <= fabs((double)given[i]) * 0x1p-8);
    }
    memcpy(given, v, sizeof(float) * n);
    rag_vector_round_bf16(v, n);
    assert_memory_equal(v, given, sizeof(float) * n);
  }
  float ends[] = {FLT_MAX, -FLT_MAX, 0x1.01p0f, 0x1.03p0f, -0.0f};
  const float rounded[] = {0x1.fep127f, -0x1.fep127f, 1, 0x1.04p0f, -0.0f};
  rag_vector_round_bf16(ends, RAG_COUNT_OF(ends));
  assert_memory_equal(ends, rounded, sizeof ends);
}

static void test_datatype_names(void **state) {
  (void)state;
  const rag_datatype datatypes[] = {RAG_DATATYPE_FLOAT32, RAG_DATATYPE_BFLOAT16};
  for (size_t i = 0; i < RAG_COUNT_OF(datatypes); i++) {
    rag_datatype parsed = datatypes[1 - i];
    assert_true(rag_datatype_parse(rag_slice_str(rag_datatype_name(datatypes[i])), &parsed));
    assert_int_equal(parsed, datatypes[i]);
  }
  rag_datatype untouched = RAG_DATATYPE_BFLOAT16;
  assert_false(rag_datatype_parse(rag_slice_str("bf16"), &untouched));
  assert_false(rag_datatype_parse(rag_slice_str(""), &untouched));
  assert_int_equal(untouched, RAG_DATATYPE_BFLOAT16);
  assert_string_equal(rag_datatype_name((rag_datatype)17), "unknown");
}

static void test_metric_names(void **state) {
  (void)state;
  const rag_metric metrics[] = {RAG_METRIC_COSINE, RAG_METRIC_IP, RAG_METRIC_L2};
  for (size_t i = 0; i < RAG_COUNT_OF(metrics); i++) {
    rag_metric parsed = RAG_METRIC_COSINE;
    assert_true(rag_metric_parse(rag_slice_str(rag_metric_name(metrics[i])), &parsed));
    assert_int_equal(parsed, metrics[i]);
  }
  rag_metric untouched = RAG_METRIC_L2;
  assert_false(rag_metric_parse(rag_slice_str("Cosine"), &untouched));
  assert_false(rag_metric_parse(rag_slice_str(""), &untouched));
  assert_int_equal(untouched, RAG_METRIC_L2);
  assert_string_equal(rag_metric_name((rag_metric)17), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_refuses_what_is_not_finite),
      cmocka_unit_test(test_refuses_zero_length_with_cosine_only),
      cmocka_unit_test(test_normalises_at_every_scale),
      cmocka_unit_test(test_normalised_bits_are_those_of_other_builds),
      cmocka_unit_test(test_scores_are_finite),
      cmocka_unit_test(test_metric_names),
      cmocka_unit_test(test_rounds_every_component),
      cmocka_unit_test(test_datatype_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
