// Goal: what codes promise of their scores holds. The rotation is orthogonal, spreads every vector, and is the same for
// the same seed. A 1-bit score is unbiased, and within its error as often as the query's certainty says: no less, or
// pruning loses answers, and not much more, or it prunes nothing. An int8 score is off by what rounding explains.
//
// Method: norms and products before and after, at dimensions whose transform windows overlap wholly, hardly and not at
// all; signed errors in units of the error bound, over rotations, queries and rows, of Gaussian, clustered (with their
// centroids, as in an inverted file) and sparse data, where the numbers of draws make chance failures as good as
// impossible; allocations that fail.
#include "index/codes/codes_internal.h"
#include "index_testing.h"

static double dot(const float *a, const float *b, uint32_t n) {
  double sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

static float gaussian(uint64_t *random) {
  double u = ((double)(next_random(random) >> 11) + 0.5) / 9007199254740992.0, v = (double)random_unit(random);
  return (float)(sqrt(-2 * log(u)) * cos(3.14159265358979323846 * v));
}

static rag_codes_rotation *make_rotation(uint32_t dimension, uint64_t seed) {
  rag_codes_rotation *rotation = NULL;
  assert_int_equal(rag_codes_rotation_create(dimension, seed, &rotation, NULL), RAG_OK);
  return rotation;
}

// ---------------------------------------------------------------------------------------------- rotation

static const uint32_t dimensions[] = {1,   2,    7,    63,   64,   65,   192,  384,  576,
                                      768, 1000, 1536, 1984, 2048, 3072, 4032, 8128, RAG_DIMENSION_MAX};

static void test_rotation_keeps_norms_and_products(void **state) {
  (void)state;
  uint64_t random = 1;
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
    uint32_t n = dimensions[d], padded = rag_codes_padded(n);
    rag_codes_rotation *rotation = make_rotation(n, d);
    float a[RAG_DIMENSION_MAX], b[RAG_DIMENSION_MAX], ra[RAG_DIMENSION_MAX], rb[RAG_DIMENSION_MAX];
    for (uint32_t i = 0; i < n; i++) {
      a[i] = gaussian(&random);
      b[i] = a[i] * 0.5f + gaussian(&random);
    }
    rag_codes_rotate(rotation, a, ra);
    rag_codes_rotate(rotation, b, rb);
    double scale = sqrt(dot(a, a, n) * dot(b, b, n));
    assert_true(fabs(dot(ra, ra, padded) / dot(a, a, n) - 1) < 1e-5);
    assert_true(fabs(dot(ra, rb, padded) - dot(a, b, n)) < 1e-5 * scale);
    rag_codes_rotation_destroy(rotation);
  }
}

// A component alone, which is what data with outlying dimensions looks like, ends spread as a random direction is: its
// largest component about sqrt(2 log P / P), its fourth moment about 3 / P (a plain Hadamard transform has 1 / P: every
// component is equal, and signs of sums of few rows are not random).
static void test_rotation_spreads_single_components(void **state) {
  (void)state;
  float in[RAG_DIMENSION_MAX] = {0}, out[RAG_DIMENSION_MAX];
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
    uint32_t n = dimensions[d], padded = rag_codes_padded(n);
    rag_codes_rotation *rotation = make_rotation(n, 7);
    uint32_t step = RAG_MAX(n / 16, 1u);
    double moments = 0;
    uint32_t tried = 0;
    for (uint32_t at = 0; at < n; at += step, tried++) {
      in[at] = 1;
      rag_codes_rotate(rotation, in, out);
      in[at] = 0;
      double max = 0;
      for (uint32_t i = 0; i < padded; i++) {
        double square = (double)out[i] * (double)out[i];
        max = RAG_MAX(max, square);
        moments += square * square * padded;
      }
      if (max * padded > 40) fail_msg("dimension %u: component %u keeps %.3f of its weight", n, at, max);
    }
    moments /= tried;
    if (n >= 384 && (moments < 1.5 || moments > 4)) fail_msg("dimension %u: fourth moment %.2f", n, moments);
    rag_codes_rotation_destroy(rotation);
  }
}

static void test_rotation_is_its_seed(void **state) {
  (void)state;
  uint64_t random = 3;
  float in[384], a[384], b[384], c[384];
  for (uint32_t i = 0; i < 384; i++) in[i] = gaussian(&random);
  rag_codes_rotation *one = make_rotation(384, 1), *same = make_rotation(384, 1), *other = make_rotation(384, 2);
  rag_codes_rotate(one, in, a);
  rag_codes_rotate(same, in, b);
  rag_codes_rotate(other, in, c);
  assert_memory_equal(a, b, sizeof a);
  assert_true(fabs(dot(a, c, 384)) < 0.3 * dot(a, a, 384)); // six standard deviations
  rag_codes_rotation_destroy(one);
  rag_codes_rotation_destroy(same);
  rag_codes_rotation_destroy(other);
}

static void test_rotation_at_the_ends_of_the_range(void **state) {
  (void)state;
  static const int exponents[] = {127, 110, -110, -148};
  float in[1000], out[1024], plain[1024];
  rag_codes_rotation *rotation = make_rotation(1000, 5);
  uint64_t random = 4;
  for (uint32_t i = 0; i < 1000; i++) in[i] = 1.0f - 2.0f * (float)random_below(&random, 2);
  rag_codes_rotate(rotation, in, plain);
  for (size_t e = 0; e < RAG_COUNT_OF(exponents); e++) {
    float scaled[1000];
    for (uint32_t i = 0; i < 1000; i++) scaled[i] = ldexpf(in[i], exponents[e]);
    rag_codes_rotate(rotation, scaled, out);
    for (uint32_t i = 0; i < 1024; i++) {
      double want = ldexp((double)plain[i], exponents[e]);
      assert_true(isfinite(out[i]));
      if (fabs(want) >= (double)FLT_MAX) assert_true(fabsf(out[i]) == FLT_MAX);
      else assert_true(fabs((double)out[i] - want) <= fabs(want) * 1e-6 + 1e-45);
    }
  }
  memset(in, 0, sizeof in);
  in[3] = -0.0f;
  rag_codes_rotate(rotation, in, out);
  for (uint32_t i = 0; i < 1024; i++) assert_int_equal(float_bits(out[i]), 0);
  rag_codes_rotation_destroy(rotation);
  rag_codes_rotation_destroy(NULL);
}

static void test_rotation_refusals(void **state) {
  (void)state;
  rag_error err = {0};
  rag_codes_rotation *rotation = NULL;
  assert_int_equal(rag_codes_rotation_create(0, 1, &rotation, &err), RAG_INVALID_ARGUMENT);
  assert_non_null(strstr(err.message, "1 to 8192"));
  assert_int_equal(rag_codes_rotation_create(RAG_DIMENSION_MAX + 1, 1, &rotation, &err), RAG_INVALID_ARGUMENT);
  rag_alloc_fail_after(1);
  assert_int_equal(rag_codes_rotation_create(384, 1, &rotation, &err), RAG_RESOURCE_EXHAUSTED);
  assert_true(rag_alloc_has_failed());
  rag_alloc_fail_after(0);
  assert_null(rotation);
}

// ---------------------------------------------------------------------------------------------- 1 bit

typedef enum data_kind { DATA_GAUSSIAN, DATA_CLUSTERED, DATA_SPARSE, DATA_KINDS } data_kind;
#define CLUSTERS 4u
#define ROWS 256u
#define QUERIES 12u
#define SEEDS 4u

typedef struct data {
  float *centroids, *rows, *queries; // not rotated
} data;

static data make_data(data_kind kind, uint32_t n, uint64_t *random) {
  data d = {rag_calloc(CLUSTERS * n, sizeof(float)), rag_calloc(ROWS * n, sizeof(float)),
            rag_calloc(QUERIES * n, sizeof(float))};
  assert_true(d.centroids && d.rows && d.queries);
  for (uint32_t i = 0; kind == DATA_CLUSTERED && i < CLUSTERS * n; i++) d.centroids[i] = gaussian(random);
  for (uint32_t r = 0; r < ROWS + QUERIES; r++) {
    float *v = r < ROWS ? d.rows + (size_t)r * n : d.queries + (size_t)(r - ROWS) * n;
    for (uint32_t i = 0; i < n; i++) {
      float noise = gaussian(random);
      if (kind == DATA_SPARSE) noise = i < 3 || random_below(random, 20) == 0 ? noise * 5 : 0;
      if (kind == DATA_CLUSTERED) noise *= 0.3f / (1 + (float)i / 16); // few directions carry the residual
      v[i] = d.centroids[(size_t)(r % CLUSTERS) * n + i] + noise;
    }
  }
  return d;
}

typedef struct tally {
  double count, within, sum, squares; // of errors in units of one standard deviation's bound
} tally;

// Every query against every row, through one list per cluster.
static void measure(const data *d, uint32_t n, rag_metric metric, uint64_t seed, float certainty, tally *out) {
  uint32_t padded = rag_codes_padded(n), bytes = rag_codes_bits_bytes(n);
  rag_codes_rotation *rotation = make_rotation(n, seed);
  float *row = rag_alloc(padded * sizeof(float)), *centroid = rag_alloc(CLUSTERS * padded * sizeof(float));
  uint8_t *codes = rag_alloc((size_t)ROWS * bytes);
  uint64_t *planes = rag_alloc(rag_codes_bits_query_words(n) * sizeof(uint64_t));
  assert_true(row && centroid && codes && planes);
  for (uint32_t c = 0; c < CLUSTERS; c++) {
    rag_codes_rotate(rotation, d->centroids + (size_t)c * n, centroid + (size_t)c * padded);
  }
  for (uint32_t r = 0; r < ROWS; r++) {
    rag_codes_rotate(rotation, d->rows + (size_t)r * n, row);
    rag_codes_bits_encode(row, centroid + (size_t)(r % CLUSTERS) * padded, n, metric, codes + (size_t)r * bytes);
  }
  for (uint32_t q = 0; q < QUERIES; q++) {
    const float *query = d->queries + (size_t)q * n;
    rag_codes_bits_query bits;
    rag_codes_rotate(rotation, query, row);
    rag_codes_bits_query_init(row, n, certainty, planes, &bits);
    for (uint32_t c = 0; c < CLUSTERS; c++) {
      const float *mid = d->centroids + (size_t)c * n;
      double inner = dot(query, mid, n), distance = dot(query, query, n) - 2 * inner + dot(mid, mid, n);
      float score[ROWS / CLUSTERS], error[ROWS / CLUSTERS];
      rag_codes_bits_query_list(&bits, metric, (float)inner, (float)sqrt(distance));
      rag_codes_kernels_best()->bits_rows(&bits, codes + (size_t)c * bytes, (size_t)CLUSTERS * bytes, ROWS / CLUSTERS,
                                          score, error);
      for (uint32_t i = 0; i < ROWS / CLUSTERS; i++) {
        const float *x = d->rows + (size_t)(i * CLUSTERS + c) * n;
        double truth = dot(query, x, n);
        if (metric == RAG_METRIC_L2) truth = 2 * truth - dot(x, x, n) - dot(query, query, n);
        double off = (double)score[i] - truth, unit = (double)error[i] / (double)certainty;
        assert_true(isfinite(off) && unit > 0);
        out->count++;
        out->within += fabs(off) <= (double)error[i];
        out->sum += off / unit;
        out->squares += off * off / (unit * unit);
      }
    }
  }
  rag_codes_rotation_destroy(rotation);
  rag_free(row);
  rag_free(centroid);
  rag_free(codes);
  rag_free(planes);
}

// What a normal distribution has within 1, 1.9 and 3 standard deviations: .683, .943, .997.
static void test_errors_are_within_the_bound(void **state) {
  (void)state;
  static const uint32_t sizes[] = {7, 63, 384, 1000};
  static const struct {
    float certainty;
    double least, most;
  } want[] = {{1.0f, 0.64, 0.76}, {1.9f, 0.93, 0.97}, {3.0f, 0.993, 1}};
  uint64_t random = 11;
  for (int kind = 0; kind < DATA_KINDS; kind++) {
    for (size_t s = 0; s < RAG_COUNT_OF(sizes); s++) {
      data d = make_data((data_kind)kind, sizes[s], &random);
      for (int metric = RAG_METRIC_IP; metric <= (int)RAG_METRIC_L2; metric++) {
        for (size_t w = 0; w < RAG_COUNT_OF(want); w++) {
          tally t = {0};
          for (uint64_t seed = 0; seed < SEEDS; seed++)
            measure(&d, sizes[s], (rag_metric)metric, seed, want[w].certainty, &t);
          double within = t.within / t.count, mean = t.sum / t.count, deviation = sqrt(t.squares / t.count);
          if (getenv("RAGD_TEST_PRINT")) {
            print_message("kind %d, dimension %u, %s, certainty %.1f: within %.4f, mean %.3f, deviation %.3f\n", kind,
                          sizes[s], rag_metric_name((rag_metric)metric), (double)want[w].certainty, within, mean,
                          deviation);
          }
          // In few dimensions rows and queries lie near the same lines, where errors are smaller than the bound thinks.
          bool tight = sizes[s] >= 384;
          if (within < want[w].least || (tight && within > want[w].most) || fabs(mean) > 0.08) {
            fail_msg("kind %d, dimension %u, %s: %.4f within %.1f standard deviations; mean %.3f, deviation %.3f", kind,
                     sizes[s], rag_metric_name((rag_metric)metric), within, (double)want[w].certainty, mean, deviation);
          }
        }
      }
      rag_free(d.centroids);
      rag_free(d.rows);
      rag_free(d.queries);
    }
  }
}

static void test_what_bits_cannot_hold_is_never_pruned(void **state) {
  (void)state;
  const rag_codes_kernels *kernels = rag_codes_kernels_best();
  float row[64], query[64], score, error;
  uint8_t code[24];
  uint64_t planes[32];
  rag_codes_bits_query bits;
  for (uint32_t i = 0; i < 64; i++) query[i] = row[i] = 1;
  rag_codes_bits_query_init(query, 64, 1.9f, planes, &bits);
  rag_codes_bits_query_list(&bits, RAG_METRIC_IP, 0, 8);
  rag_codes_bits_encode(row, NULL, 64, RAG_METRIC_IP, code);
  kernels->bits_rows(&bits, code, sizeof code, 1, &score, &error);
  assert_true(fabsf(score - 64) <= error && error < 0.1f); // all components equal: as good as exact
  for (uint32_t i = 0; i < 64; i++) row[i] = 1e30f;
  rag_codes_bits_encode(row, NULL, 64, RAG_METRIC_L2, code); // its squared norm is no float
  kernels->bits_rows(&bits, code, sizeof code, 1, &score, &error);
  assert_true(score == FLT_MAX && error == INFINITY);
  for (uint32_t i = 0; i < 64; i++) row[i] = 1e-42f;
  rag_codes_bits_encode(row, NULL, 64, RAG_METRIC_IP, code);
  kernels->bits_rows(&bits, code, sizeof code, 1, &score, &error);
  assert_true(score == FLT_MAX && error == INFINITY);
  rag_codes_bits_encode(row, row, 64, RAG_METRIC_IP, code); // on its centroid: no residual
  rag_codes_bits_query_list(&bits, RAG_METRIC_IP, 0.5f, 8);
  kernels->bits_rows(&bits, code, sizeof code, 1, &score, &error);
  assert_true(score == 0.5f && error < 1e-6f);
  for (uint32_t i = 0; i < 64; i++) row[i] = 1;
  rag_codes_bits_encode(row, NULL, 64, RAG_METRIC_IP, code);
  static const float extreme[] = {1e35f, 1e-35f};
  for (size_t e = 0; e < 2; e++) {
    for (uint32_t i = 0; i < 64; i++) query[i] = i % 2 ? extreme[e] : -extreme[e];
    rag_codes_bits_query_init(query, 64, 1.9f, planes, &bits);
    rag_codes_bits_query_list(&bits, RAG_METRIC_IP, 0, 1);
    kernels->bits_rows(&bits, code, sizeof code, 1, &score, &error);
    assert_true(error == INFINITY);
  }
  memset(query, 0, sizeof query);
  rag_codes_bits_query_init(query, 64, 1.9f, planes, &bits);
  rag_codes_bits_query_list(&bits, RAG_METRIC_IP, 0, 0);
  kernels->bits_rows(&bits, code, sizeof code, 1, &score, &error);
  assert_true(score == 0 && error == 0);
}

// ---------------------------------------------------------------------------------------------- int8

static void test_int8_scores_are_off_by_rounding_alone(void **state) {
  (void)state;
  static const uint32_t sizes[] = {7, 384, 1000, 3072};
  uint64_t random = 13;
  for (size_t s = 0; s < RAG_COUNT_OF(sizes); s++) {
    uint32_t n = sizes[s], bytes = rag_codes_int8_bytes(n);
    float *row = rag_alloc(n * sizeof(float)), *query = rag_alloc(n * sizeof(float));
    uint8_t *code = rag_alloc(bytes);
    int8_t *query_code = rag_alloc(bytes);
    assert_true(row && query && code && query_code);
    for (uint32_t turn = 0; turn < 200; turn++) {
      for (uint32_t i = 0; i < n; i++) {
        row[i] = gaussian(&random);
        query[i] = row[i] * 0.3f + gaussian(&random) * 2;
      }
      rag_codes_int8_factors factors;
      rag_codes_int8_query q;
      rag_codes_int8_encode(row, n, code, &factors);
      rag_codes_int8_query_init(query, n, query_code, &q);
      int32_t sum = rag_codes_kernels_best()->int8_dot(&q, code);
      float inner, l2;
      rag_codes_int8_scores(&q, RAG_METRIC_IP, &factors, NULL, &sum, 1, &inner);
      rag_codes_int8_scores(&q, RAG_METRIC_L2, &factors, NULL, &sum, 1, &l2);
      double truth = dot(row, query, n), rows = dot(row, row, n), queries = dot(query, query, n);
      // Each component's rounding is uniform within half a step: variance step^2 / 12. Six standard deviations.
      double row_step = (double)factors.scale, query_step = (double)q.factors.scale;
      double allowed = 6 * sqrt((row_step * row_step * queries + query_step * query_step * rows) / 12) + 1e-5;
      assert_true(fabs((double)inner - truth) < allowed);
      assert_true(fabs((double)l2 - (2 * truth - rows - queries)) < 2 * allowed + 1e-5 * (rows + queries));
    }
    rag_free(row);
    rag_free(query);
    rag_free(code);
    rag_free(query_code);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rotation_keeps_norms_and_products),
      cmocka_unit_test(test_rotation_spreads_single_components),
      cmocka_unit_test(test_rotation_is_its_seed),
      cmocka_unit_test(test_rotation_at_the_ends_of_the_range),
      cmocka_unit_test(test_rotation_refusals),
      cmocka_unit_test(test_errors_are_within_the_bound),
      cmocka_unit_test(test_what_bits_cannot_hold_is_never_pruned),
      cmocka_unit_test(test_int8_scores_are_off_by_rounding_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
