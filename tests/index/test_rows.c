// Goal: rows of either datatype score as the floats that they stand for, bit for bit, however many are asked for at once;
// what is written is read back; and a calibration's rungs give the width and the recall that lie between them.
// Method: against the oracle, over dimensions around the sizes of registers and paddings, and counts around the size of one
// call; rungs by hand.
#include "index/index_internal.h"
#include "index_testing.h"

enum { COUNT = 700 };

static void check_scores(rag_datatype datatype, rag_metric metric, uint32_t dimension) {
  size_t bytes = rag_index__row_bytes(datatype, dimension);
  uint8_t *base = rag_aligned_alloc(64, COUNT * bytes);
  float *floats = rag_calloc((size_t)COUNT * dimension, sizeof *floats), *query = rag_calloc(dimension, sizeof *query);
  float *room = rag_calloc(dimension, sizeof *room), raw[COUNT + 1];
  const void *rows[COUNT];
  uint64_t random = dimension;
  assert_true(base && floats && query && room);
  for (uint32_t i = 0; i < dimension; i++) query[i] = random_unit(&random);
  for (uint32_t r = 0; r < COUNT; r++) {
    float *row = floats + (size_t)r * dimension;
    for (uint32_t i = 0; i < dimension; i++) row[i] = random_unit(&random);
    rag_index__row_write(datatype, row, dimension, base + r * bytes);
    if (datatype == RAG_DATATYPE_BFLOAT16) rag_vector_round_bf16(row, dimension);
    const float *read = rag_index__row_read(datatype, base + r * bytes, dimension, room);
    assert_memory_equal(read, row, dimension * sizeof *row);
  }
  static const uint32_t counts[] = {0, 1, 2, 8, 255, 256, 257, 511, 513, COUNT};
  for (size_t c = 0; c < RAG_COUNT_OF(counts); c++) {
    uint32_t count = counts[c];
    for (uint32_t i = 0; i < count; i++) rows[i] = base + i * 37 % COUNT * bytes;
    raw[count] = 12345;
    rag_index__rows_gather(datatype, metric, query, rows, count, dimension, raw);
    for (uint32_t i = 0; i < count; i++) {
      float want = oracle_score(query, floats + (size_t)(i * 37 % COUNT) * dimension, dimension, metric);
      assert_int_equal(float_bits(rag_index__score(metric, raw[i])), float_bits(want));
    }
    rag_index__rows_run(datatype, metric, query, base, count, dimension, raw);
    for (uint32_t i = 0; i < count; i++) {
      float want = oracle_score(query, floats + (size_t)i * dimension, dimension, metric);
      assert_int_equal(float_bits(rag_index__score(metric, raw[i])), float_bits(want));
    }
    assert_true(raw[count] == 12345.0f);
  }
  rag_free(base);
  rag_free(floats);
  rag_free(query);
  rag_free(room);
}

static void test_scores(void **state) {
  (void)state;
  static const uint32_t dimensions[] = {1, 15, 16, 31, 33, 100, 384, 768};
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++)
    for (int metric = RAG_METRIC_COSINE; metric <= RAG_METRIC_L2; metric++) {
      check_scores(RAG_DATATYPE_FLOAT32, (rag_metric)metric, dimensions[d]);
      check_scores(RAG_DATATYPE_BFLOAT16, (rag_metric)metric, dimensions[d]);
    }
}

// ---------------------------------------------------------------------------------------------- rungs

static const rag_index_rung rungs[] = {
    {10, 0.50f, -1.0f, 100},  {20, 0.70f, -1.0f, 200},
    {40, 0.90f, -1.0f, 400},  {80, 0.88f, -1.0f, 800}, // measured on a sample: it need not rise
    {100, 0.98f, 0.80f, 900}, {200, 1.00f, 0.95f, 2000},
};
#define RUNGS rungs, RAG_COUNT_OF(rungs)

static void test_width(void **state) {
  (void)state;
  // A tenth of what may be missed is kept back: for 0.8 it asks for 0.82.
  assert_true(fabs(rag_index__rungs_width(RUNGS, 0.8f, false) - (20 + 20 * 0.12 / 0.2)) < 1e-3);
  assert_true(rag_index__rungs_width(RUNGS, 0.1f, false) == 10.0); // none is narrower
  assert_true(fabs(rag_index__rungs_width(RUNGS, 0.95f, false) - (80 + 20 * (0.955 - 0.88) / 0.10)) < 1e-3);
  assert_true(rag_index__rungs_width(RUNGS, 1.0f, false) == 200.0);
  assert_true(rag_index__rungs_width(RUNGS, 1.5f, false) == 0.0); // none reaches it
  assert_true(rag_index__rungs_width(RUNGS, 0.5f, true) == 100.0);
  assert_true(rag_index__rungs_width(RUNGS, 0.96f, true) == 0.0);
  assert_true(rag_index__rungs_width(rungs, 0, 0.9f, false) == 0.0);
}

static void test_recall(void **state) {
  (void)state;
  assert_true(rag_index__rungs_recall(RUNGS, 10, 5) == 0.0); // nothing was measured so narrow
  assert_true(fabs(rag_index__rungs_recall(RUNGS, 10, 10) - 0.5) < 1e-6);
  assert_true(fabs(rag_index__rungs_recall(RUNGS, 10, 15) - 0.6) < 1e-6);
  assert_true(fabs(rag_index__rungs_recall(RUNGS, 10, 5000) - 1.0) < 1e-6);
  assert_true(rag_index__rungs_recall(RUNGS, 11, 90) == 0.0);
  assert_true(fabs(rag_index__rungs_recall(RUNGS, 11, 150) - 0.875) < 1e-6);
  assert_true(rag_index__rungs_recall(rungs, 0, 10, 100) == 0.0);
}

static void test_sound(void **state) {
  (void)state;
  assert_true(rag_index__rungs_sound(RUNGS, 200));
  assert_false(rag_index__rungs_sound(RUNGS, 199));
  const rag_index_rung bad[] = {
      {0, 0.5f, 0.5f, 1},  {1, NAN, 0.5f, 1},   {1, 0.5f, NAN, 1},    {1, 0.5f, 1.5f, 1},
      {1, -2.0f, 0.5f, 1}, {1, 0.5f, 0.5f, -1}, {1, 0.5f, 0.5f, NAN}, {1, 0.5f, 0.5f, INFINITY},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) assert_false(rag_index__rungs_sound(&bad[i], 1, 10));
  const rag_index_rung twice[] = {{3, 0.5f, 0.5f, 1}, {3, 0.6f, 0.6f, 1}};
  assert_false(rag_index__rungs_sound(twice, 2, 10));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_scores),
      cmocka_unit_test(test_width),
      cmocka_unit_test(test_recall),
      cmocka_unit_test(test_sound),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
