// Goal: the flat engine returns exactly what the definition says: the k best of present AND filter by (score, lower
// ordinal), with the scores' exact bits, whatever was appended, removed and appended again in between.
//
// Method: against a double loop and a full sort, over metrics, datatypes, dimensions, numbers of rows around the sizes of words
// and blocks, ordinals with and without holes, filters of every density and shape, and every k; then the special cases
// one by one.
#include "index_testing.h"

static rag_index *new_index(uint32_t dimension, rag_metric metric, rag_datatype datatype) {
  rag_index *index = NULL;
  rag_index_options options = {.dimension = dimension, .metric = metric, .datatype = datatype, .engine = "auto"};
  assert_int_equal(rag_index_create(&options, &index, NULL), RAG_OK);
  return index;
}

// What the index should hold: row i of `vectors` is ordinal i, where present[i].
typedef struct model {
  uint32_t dimension;
  rag_metric metric;
  rag_datatype datatype;
  uint32_t ordinals; // room
  bool *present;
  float *vectors; // rounded where they are appended to an index of bfloat16
  rag_index *index;
} model;

static model model_create(uint32_t dimension, rag_metric metric, rag_datatype datatype, uint32_t ordinals,
                          uint64_t *random) {
  model m = {.dimension = dimension, .metric = metric, .datatype = datatype, .ordinals = ordinals};
  m.present = rag_calloc(ordinals, sizeof(bool));
  m.vectors = rag_calloc((size_t)ordinals * dimension, sizeof(float));
  assert_true(m.present && m.vectors);
  // Few distinct values where the dimension is small, so that ties are common.
  for (size_t i = 0; i < (size_t)ordinals * dimension; i++) {
    m.vectors[i] = dimension < 4 ? (float)(int)random_below(random, 9) - 4 : random_unit(random);
  }
  m.index = new_index(dimension, metric, datatype);
  return m;
}

static void model_destroy(model *m) {
  rag_index_destroy(m->index);
  rag_free(m->present);
  rag_free(m->vectors);
}

static void model_append(model *m, uint32_t first, uint32_t end, uint32_t percent, uint64_t *random) {
  uint32_t *ordinals = rag_calloc(end - first + 1, sizeof(uint32_t)), count = 0;
  float *vectors = rag_calloc((size_t)(end - first + 1) * m->dimension, sizeof(float));
  assert_true(ordinals && vectors);
  for (uint32_t o = first; o < end; o++) {
    if (m->present[o] || random_below(random, 100) >= percent) continue;
    float *vector = m->vectors + (size_t)o * m->dimension;
    memcpy(vectors + (size_t)count * m->dimension, vector, m->dimension * sizeof *vector);
    if (m->datatype == RAG_DATATYPE_BFLOAT16) rag_vector_round_bf16(vector, m->dimension);
    ordinals[count++] = o;
    m->present[o] = true;
  }
  assert_int_equal(rag_index_append(m->index, ordinals, count, vectors, NULL), RAG_OK);
  rag_free(ordinals);
  rag_free(vectors);
}

static rag_bitmap *random_set(uint32_t bound, uint32_t per_million, uint64_t *random) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  assert_non_null(edit);
  for (uint32_t o = 0; o < bound; o++) {
    if (random_below(random, 1000000) < per_million) assert_int_equal(rag_bitmap_edit_add(edit, o), RAG_OK);
  }
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

// Runs of ones and zeros of random length, so that words are full, empty and cut at every place.
static rag_bitmap *random_runs(uint32_t bound, uint32_t length_max, uint64_t *random) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  assert_non_null(edit);
  for (uint32_t at = 0; at < bound;) {
    at += random_below(random, length_max);
    uint32_t run = 1 + random_below(random, length_max);
    assert_int_equal(rag_bitmap_edit_add_range(edit, at, run), RAG_OK);
    at += run;
  }
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

static void model_remove(model *m, const rag_bitmap *set) {
  assert_int_equal(rag_index_remove(m->index, set, NULL), RAG_OK);
  for (uint32_t o = 0; o < m->ordinals; o++) m->present[o] = m->present[o] && !rag_bitmap_has(set, o);
}

static void check_search(const model *m, const rag_bitmap *filter, uint32_t k, const float *query_vector,
                         const float *min_score) {
  rag_index_hit *want = rag_calloc(m->ordinals + 1, sizeof *want);
  rag_index_hit *got = rag_calloc(k, sizeof *got);
  assert_true(want && got);
  uint32_t want_count = 0, got_count = 0, candidates = 0;
  for (uint32_t o = 0; o < m->ordinals; o++) {
    if (!m->present[o] || (filter && !rag_bitmap_has(filter, o))) continue;
    candidates++;
    float score = oracle_score(query_vector, m->vectors + (size_t)o * m->dimension, m->dimension, m->metric);
    if (!min_score || score >= *min_score) want[want_count++] = (rag_index_hit){o, score};
  }
  qsort(want, want_count, sizeof *want, oracle_compare);
  want_count = RAG_MIN(want_count, k);

  rag_index_view *view = rag_index_pin(m->index);
  rag_index_query query = {.vector = query_vector, .k = k, .filter = filter};
  if (min_score) {
    query.has_min_score = true;
    query.min_score = *min_score;
  }
  rag_index_plan plan = {0};
  assert_int_equal(rag_index_search(view, &query, got, &got_count, &plan, NULL), RAG_OK);
  assert_int_equal(got_count, want_count);
  for (uint32_t i = 0; i < want_count; i++) {
    if (got[i].ordinal != want[i].ordinal || float_bits(got[i].score) != float_bits(want[i].score)) {
      fail_msg("%s, dimension %u, k %u, rank %u: ordinal %u score %a, should be ordinal %u score %a",
               rag_metric_name(m->metric), m->dimension, k, i, got[i].ordinal, (double)got[i].score, want[i].ordinal,
               (double)want[i].score);
    }
  }
  assert_int_equal(plan.candidates, candidates);
  assert_string_equal(plan.engine, "flat");
  rag_ref_drop(view);
  rag_free(want);
  rag_free(got);
}

static void check_view(const model *m) {
  float room[200];
  assert_true(m->dimension <= RAG_COUNT_OF(room));
  rag_index_view *view = rag_index_pin(m->index);
  uint64_t rows = 0;
  for (uint32_t o = 0; o < m->ordinals; o++) {
    const float *row = rag_index_view_vector(view, o, m->datatype == RAG_DATATYPE_FLOAT32 ? NULL : room);
    assert_true((row != NULL) == m->present[o]);
    assert_true(rag_bitmap_has(rag_index_view_present(view), o) == m->present[o]);
    if (!row) continue;
    rows++;
    assert_memory_equal(row, m->vectors + (size_t)o * m->dimension, m->dimension * sizeof(float));
  }
  assert_int_equal(rag_index_view_rows(view), rows);
  rag_ref_drop(view);
}

static void check_filters(const model *m, uint64_t *random) {
  const uint32_t densities[] = {0, 100, 1000, 10000, 100000, 500000, 900000, 990000, 1000000}; // per million
  const uint32_t ks[] = {1, 2, 10, 100, RAG_INDEX_K_MAX};
  float *query = rag_calloc(m->dimension, sizeof(float));
  assert_non_null(query);
  for (size_t d = 0; d < RAG_COUNT_OF(densities) + 3; d++) {
    for (uint32_t i = 0; i < m->dimension; i++) query[i] = m->dimension < 4 ? 1.0f : random_unit(random);
    rag_bitmap *filter = NULL;
    if (d < RAG_COUNT_OF(densities)) {
      filter = random_set(m->ordinals + 100, densities[d], random); // also names ordinals that have no row
    } else {
      static const uint32_t lengths[] = {12, 100, 1500};
      filter = random_runs(m->ordinals + 100, lengths[d - RAG_COUNT_OF(densities)], random);
    }
    check_search(m, filter, ks[d % RAG_COUNT_OF(ks)], query, NULL);
    check_search(m, filter, 7, query, NULL);
    float middle = oracle_score(query, m->vectors, m->dimension, m->metric);
    check_search(m, filter, 50, query, &middle);
    rag_ref_drop(filter);
  }
  for (size_t i = 0; i < RAG_COUNT_OF(ks); i++) check_search(m, NULL, ks[i], query, NULL);
  rag_free(query);
}

static void test_is_the_double_loop(void **state) {
  (void)state;
  const uint32_t dimensions[] = {1, 3, 17, 64};
  const uint32_t sizes[] = {1, 63, 64, 65, 1000, 1024, 3000};
  uint64_t random = 11;
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
    for (size_t n = 0; n < RAG_COUNT_OF(sizes); n++) {
      for (int which = 0; which < 6; which++) {
        model m = model_create(dimensions[d], (rag_metric)(which % 3), (rag_datatype)(which / 3), sizes[n], &random);
        uint32_t cut = sizes[n] / 3;
        model_append(&m, cut, sizes[n], 100, &random); // the calls need not come in order of ordinals
        model_append(&m, 0, cut, n % 2 ? 100 : 60, &random);
        check_filters(&m, &random);
        rag_bitmap *gone = random_set(sizes[n], 300000, &random);
        model_remove(&m, gone);
        check_view(&m);
        check_filters(&m, &random);
        rag_ref_drop(gone);
        model_destroy(&m);
      }
    }
  }
}

static void spans_shards(rag_datatype datatype) {
  uint64_t random = 13;
  model m = model_create(5, RAG_METRIC_L2, datatype, 3 * RAG_BITMAP_BLOCK_BITS + 1000, &random);
  model_append(&m, RAG_BITMAP_BLOCK_BITS - 100, RAG_BITMAP_BLOCK_BITS + 100, 100, &random);
  model_append(&m, 3 * RAG_BITMAP_BLOCK_BITS, 3 * RAG_BITMAP_BLOCK_BITS + 1000, 70, &random); // the third stays empty
  model_append(&m, 0, 2000, 10, &random);
  check_view(&m);
  check_filters(&m, &random);
  rag_bitmap *gone = random_runs(m.ordinals, 3000, &random);
  model_remove(&m, gone);
  check_view(&m);
  check_filters(&m, &random);
  rag_ref_drop(gone);
  model_destroy(&m);
}

static void test_spans_shards(void **state) {
  (void)state;
  spans_shards(RAG_DATATYPE_FLOAT32);
  spans_shards(RAG_DATATYPE_BFLOAT16);
}

static void test_the_largest_ordinal(void **state) {
  (void)state;
  rag_index *index = new_index(2, RAG_METRIC_IP, RAG_DATATYPE_FLOAT32);
  const uint32_t ordinals[] = {0, UINT32_MAX};
  const float vectors[] = {1, 0, 2, 0};
  assert_int_equal(rag_index_append(index, ordinals, 2, vectors, NULL), RAG_OK);
  rag_index_view *view = rag_index_pin(index);
  rag_index_hit hits[3];
  uint32_t count = 0;
  rag_index_query query = {.vector = vectors, .k = 3};
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, NULL), RAG_OK);
  assert_int_equal(count, 2);
  assert_int_equal(hits[0].ordinal, UINT32_MAX);
  assert_int_equal(hits[1].ordinal, 0);
  assert_true(rag_index_view_vector(view, UINT32_MAX, NULL)[0] == 2.0f);
  rag_ref_drop(view);
  rag_index_destroy(index);
}

static void test_equal_rows_come_by_ordinal(void **state) {
  (void)state;
  uint64_t random = 17;
  for (uint32_t dimension = 1; dimension <= 33; dimension += 16) {
    model m = model_create(dimension, RAG_METRIC_L2, (rag_datatype)(dimension / 16 % 2), 1500, &random);
    for (size_t i = 0; i < (size_t)1500 * dimension; i++) m.vectors[i] = 0.25f;
    model_append(&m, 700, 1500, 100, &random);
    model_append(&m, 0, 700, 100, &random);
    check_filters(&m, &random);
    check_search(&m, NULL, 5, m.vectors, NULL);
    model_destroy(&m);
  }
}

static void test_empty(void **state) {
  (void)state;
  uint64_t random = 19;
  model m = model_create(8, RAG_METRIC_COSINE, RAG_DATATYPE_FLOAT32, 10, &random);
  check_view(&m);
  check_search(&m, NULL, 10, m.vectors, NULL);
  assert_int_equal(rag_index_memory_bytes(m.index), 0);
  rag_bitmap *none = rag_bitmap_empty();
  assert_int_equal(rag_index_remove(m.index, none, NULL), RAG_OK);
  assert_int_equal(rag_index_append(m.index, NULL, 0, NULL, NULL), RAG_OK);
  model_append(&m, 0, 10, 100, &random);
  check_search(&m, none, 10, m.vectors, NULL);
  rag_index_view *view = rag_index_pin(m.index);
  assert_string_equal(rag_index_view_build(view), "flat");
  assert_null(rag_index_view_vector(view, 10, NULL));
  assert_null(rag_index_view_vector(view, UINT32_MAX, NULL));
  rag_ref_drop(view);
  rag_ref_drop(none);
  model_destroy(&m);
}

static void test_scores_that_overflow_still_rank(void **state) {
  (void)state;
  uint64_t random = 23;
  for (int datatype = RAG_DATATYPE_FLOAT32; datatype <= RAG_DATATYPE_BFLOAT16; datatype++) {
    model m = model_create(16, RAG_METRIC_IP, (rag_datatype)datatype, 300, &random);
    for (size_t i = 0; i < 300u * 16; i++) m.vectors[i] = random_unit(&random) * FLT_MAX; // infinities, NaN
    model_append(&m, 0, 300, 100, &random);
    check_search(&m, NULL, 300, m.vectors, NULL);
    check_search(&m, NULL, 20, m.vectors + 16, NULL);
    model_destroy(&m);
  }
}

// Codes say next to nothing here, so everything hangs on how wrong they are allowed to be: rows that differ in the last
// bits alone, components and rows of every magnitude, and rows around a far point, whose distances codes cannot tell.
static void test_what_codes_cannot_tell(void **state) {
  (void)state;
  uint64_t random = 31;
  for (int which = 0; which < 6; which++) {
    for (uint32_t dimension = 7; dimension <= 200; dimension += 193) {
      for (int shape = 0; shape < 4; shape++) {
        model m = model_create(dimension, (rag_metric)(which % 3), (rag_datatype)(which / 3), 1300, &random);
        for (uint32_t row = 0; row < 1300; row++) {
          float magnitude = exp2f(random_unit(&random) * 30);
          for (uint32_t i = 0; i < dimension; i++) {
            float *x = &m.vectors[(size_t)row * dimension + i], by_chance = *x;
            if (shape == 0) *x = (float)i - 3 + by_chance * 1e-5f;
            else if (shape == 1) *x = by_chance * magnitude;
            else if (shape == 2) *x = by_chance * exp2f(random_unit(&random) * 30);
            else *x = 1000 + by_chance;
          }
        }
        model_append(&m, 0, 1300, 100, &random);
        for (uint32_t q = 0; q < 20; q++) check_search(&m, NULL, 1 + q * 3, m.vectors + (size_t)q * dimension, NULL);
        check_filters(&m, &random);
        model_destroy(&m);
      }
    }
  }
}

// A removed ordinal may come back with another vector; a view from before still sees the first.
static void come_back(rag_datatype datatype) {
  uint64_t random = 29;
  float room[6];
  model m = model_create(6, RAG_METRIC_L2, datatype, 2500, &random);
  model_append(&m, 0, 2500, 100, &random);
  rag_index_view *old = rag_index_pin(m.index);
  float *before = rag_alloc(2500 * 6 * sizeof(float));
  assert_non_null(before);
  memcpy(before, m.vectors, 2500 * 6 * sizeof(float));
  for (int round = 0; round < 4; round++) {
    rag_bitmap *gone = round % 2 ? random_runs(2500, 2000, &random) : random_set(2500, 400000, &random);
    model_remove(&m, gone);
    for (uint32_t o = 0; o < 2500; o++) {
      if (!m.present[o]) m.vectors[(size_t)o * 6 + 1] = random_unit(&random);
    }
    model_append(&m, 0, 2500, 50, &random);
    check_view(&m);
    check_search(&m, NULL, 2500, m.vectors, NULL);
    rag_ref_drop(gone);
  }
  assert_int_equal(rag_index_view_rows(old), 2500);
  for (uint32_t o = 0; o < 2500; o++) {
    assert_memory_equal(rag_index_view_vector(old, o, room), before + (size_t)o * 6, 6 * sizeof(float));
  }
  // A view outlives the index.
  model_destroy(&m);
  rag_index_hit hit;
  uint32_t count = 0;
  rag_index_query query = {.vector = before + 6 * 77, .k = 1};
  assert_int_equal(rag_index_search(old, &query, &hit, &count, NULL, NULL), RAG_OK);
  assert_int_equal(count, 1);
  assert_int_equal(hit.ordinal, 77);
  assert_int_equal(float_bits(hit.score), float_bits(0.0f));
  rag_ref_drop(old);
  rag_free(before);
}

static void test_removed_rows_come_back_and_old_views_hold(void **state) {
  (void)state;
  come_back(RAG_DATATYPE_FLOAT32);
  come_back(RAG_DATATYPE_BFLOAT16);
}

// Half the bytes of full precision are what the datatype is for.
static void test_bfloat16_is_smaller(void **state) {
  (void)state;
  uint64_t random = 37, bytes[2];
  for (int datatype = RAG_DATATYPE_FLOAT32; datatype <= RAG_DATATYPE_BFLOAT16; datatype++) {
    model m = model_create(128, RAG_METRIC_COSINE, (rag_datatype)datatype, 4096, &random);
    model_append(&m, 0, 4096, 100, &random);
    bytes[datatype] = rag_index_memory_bytes(m.index);
    model_destroy(&m);
  }
  assert_true(bytes[0] - bytes[1] >= 4096 * 128 * 2);
}

static void test_refuses_bad_arguments(void **state) {
  (void)state;
  rag_error err = {0};
  rag_index *none = NULL;
  const rag_index_options bad[] = {
      {.dimension = 0},
      {.dimension = RAG_DIMENSION_MAX + 1},
      {.dimension = 4, .engine = "graf"},
      {.dimension = 4, .metric = (rag_metric)3},
      {.dimension = 4, .datatype = (rag_datatype)2},
  };
  static const char *const fields[] = {"dimension", "dimension", "engine", "metric", "datatype"};
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    assert_int_equal(rag_index_create(&bad[i], &none, &err), RAG_INVALID_ARGUMENT);
    assert_string_equal(err.field, fields[i]);
    assert_null(none);
  }
  const rag_index_options widest = {.dimension = RAG_DIMENSION_MAX, .engine = "flat"};
  assert_int_equal(rag_index_create(&widest, &none, &err), RAG_OK);
  rag_index_destroy(none);

  rag_index *index = new_index(1, RAG_METRIC_IP, RAG_DATATYPE_FLOAT32);
  const float vectors[3] = {1, 2, 3};
  const uint32_t good[] = {5, 6, 9}, same[] = {1, 2, 2}, falling[] = {1, 3, 2}, taken[] = {1, 6, 7};
  assert_int_equal(rag_index_append(index, same, 3, vectors, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_index_append(index, falling, 3, vectors, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_index_append(index, good, 3, vectors, &err), RAG_OK);
  assert_int_equal(rag_index_append(index, taken, 3, vectors, &err), RAG_ALREADY_EXISTS);
  rag_index_view *view = rag_index_pin(index);
  assert_int_equal(rag_index_view_rows(view), 3); // nothing of the refused calls
  rag_index_hit hits[4] = {{0}};
  uint32_t count = 99;
  rag_index_query query = {.vector = vectors, .k = 0};
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "k");
  query.k = RAG_INDEX_K_MAX + 1;
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  query = (rag_index_query){.vector = vectors, .k = 4, .has_min_score = true, .min_score = NAN};
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "min_score");
  assert_int_equal(count, 99);
  query.min_score = 2; // a score equal to the minimum stays
  assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, &err), RAG_OK);
  assert_int_equal(count, 2);
  rag_ref_drop(view);
  rag_index_destroy(index);
  rag_index_destroy(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_is_the_double_loop),
      cmocka_unit_test(test_spans_shards),
      cmocka_unit_test(test_the_largest_ordinal),
      cmocka_unit_test(test_equal_rows_come_by_ordinal),
      cmocka_unit_test(test_empty),
      cmocka_unit_test(test_scores_that_overflow_still_rank),
      cmocka_unit_test(test_what_codes_cannot_tell),
      cmocka_unit_test(test_removed_rows_come_back_and_old_views_hold),
      cmocka_unit_test(test_bfloat16_is_smaller),
      cmocka_unit_test(test_refuses_bad_arguments),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
