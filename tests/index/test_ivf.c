// Goal: lists of 1-bit codes find what an exact search finds, to the recall stated here and with exactly its scores, on
// every shape of data, with every metric, under every filter; the calibration keeps its promise on queries that it has
// not seen; drift shows rows that the centroids were not trained on.
// Method: brute force over all rows is the oracle. Seeds are fixed, and lists do not depend on threads or CPU, so a
// recall is a number and not a chance: floors are a little below what was measured when they were written.
#include "ivf_testing.h"

static const rag_metric metrics[] = {RAG_METRIC_COSINE, RAG_METRIC_IP, RAG_METRIC_L2};
static rag_ivf_scratch *scratch;
static rag_index_hit hits[RAG_INDEX_K_MAX];

static int setup(void **state) {
  RAG_UNUSED(state);
  return rag_ivf_scratch_create(&scratch, NULL) != RAG_OK;
}
static int teardown(void **state) {
  RAG_UNUSED(state);
  rag_ivf_scratch_destroy(scratch);
  return 0;
}

typedef struct mean {
  double recall, by_scan, lists;
} mean;

static mean ask_mean(const rag_ivf *ivf, rows *r, const rows *queries, uint32_t k, uint32_t nprobe,
                     const uint64_t *filter) {
  mean m = {0};
  for (uint32_t i = 0; i < queries->count; i++) {
    ivf_answer a = ask_ivf(ivf, r, scratch, queries->data + (size_t)i * r->dimension, k, nprobe, filter, hits);
    m.recall += a.recall / queries->count;
    m.by_scan += (a.stats.way == RAG_IVF_SCANNED ? 1.0 : 0.0) / queries->count;
    m.lists += (double)a.stats.lists / queries->count;
  }
  return m;
}

static void assert_recall(const char *what, double got, double floor) {
  got += 1e-9; // sums of parts
  if (getenv("RAGD_TEST_VERBOSE")) printf("%-40s recall %.4f, floor %.4f\n", what, got, floor);
  if (got < floor && trained_by_faiss) fail_msg("%s: recall %.4f, below %.4f", what, got, floor);
}

// ---------------------------------------------------------------------------------------------- shapes of data

static void test_tiny(void **state) {
  RAG_UNUSED(state);
  static const uint32_t counts[] = {1, 2, 3, 4, 5, 8, 9, 17, 64, 65};
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    rows queries = make_rows(RANDOM, 5, 24, metrics[m], 1, 99);
    double recall = 0, asked = 0;
    for (size_t c = 0; c < RAG_COUNT_OF(counts); c++) {
      rows r = make_rows(RANDOM, counts[c], 24, metrics[m], 1, 3);
      for (uint32_t lists = 1; lists <= counts[c]; lists = lists * 3 + 1) {
        rag_ivf_centroids *centroids = train(&r, lists, 1);
        rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.sample = 3});
        assert_lists_sound(ivf);
        assert_int_equal(ivf->meta.entries, lists > 1 ? 2 * counts[c] : counts[c]);
        for (uint32_t k = 1; k <= counts[c] + 2; k += k < 10 ? 1 : 13) {
          double here = ask_mean(ivf, &r, &queries, k, lists, NULL).recall;
          if (k >= counts[c]) assert_recall("tiny, all", here, 1);
          recall += here;
          asked++;
        }
        rag_ivf_destroy(ivf);
        rag_ivf_centroids_destroy(centroids);
      }
      free_rows(&r);
    }
    assert_recall("tiny", recall / asked, 0.99); // the bound is one of chance: it may rule out a row that it should not
    free_rows(&queries);
  }
}

static void test_no_rows(void **state) {
  RAG_UNUSED(state);
  rows some = make_rows(RANDOM, 300, 24, RAG_METRIC_COSINE, 1, 3),
       none = make_rows(RANDOM, 0, 24, RAG_METRIC_COSINE, 1, 3);
  rag_ivf_centroids *centroids = train(&some, 20, 1), *no_centroids = NULL;
  rag_ivf *ivf = build_ivf(centroids, &none, &(rag_ivf_options){.sample = 3, .threads = 2}), *opened = NULL;
  rag_slice sections[RAG_IVF_SECTIONS];
  assert_int_equal(ask_ivf(ivf, &none, scratch, some.data, 10, 5, NULL, hits).count, 0);
  assert_int_equal(ask_ivf(ivf, &none, scratch, some.data, 10, 5, (uint64_t[]){0}, hits).count, 0);
  assert_true(rag_ivf_drift(ivf) == 1);
  rag_ivf_sections(ivf, sections);
  assert_int_equal(rag_ivf_open(sections, centroids, 0, &opened, NULL), RAG_OK);
  assert_int_equal(ask_ivf(opened, &none, scratch, some.data, 10, 5, NULL, hits).count, 0);
  rag_ivf_codes codes = codes_of(&none);
  assert_int_equal(rag_ivf_train(&codes, &(rag_ivf_train_options){0}, &no_centroids, NULL), RAG_INVALID_ARGUMENT);
  rag_ivf_destroy(opened);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&none);
  free_rows(&some);
}

typedef struct shape {
  const char *what;
  rows_kind kind;
  uint32_t count, dimension, clusters;
  rag_metric metric;
  uint32_t lists, nprobe;
  double floor;
} shape;

static void test_recall(void **state) {
  RAG_UNUSED(state);
  static const shape shapes[] = {
      {"random, cosine", RANDOM, 6000, 24, 1, RAG_METRIC_COSINE, 100, 30, 0.97},
      {"random, l2", RANDOM, 6000, 24, 1, RAG_METRIC_L2, 100, 30, 0.97},
      {"random, ip", RANDOM, 6000, 24, 1, RAG_METRIC_IP, 100, 30, 0.97},
      {"random, cosine, all lists", RANDOM, 6000, 384, 1, RAG_METRIC_COSINE, 100, 100, 0.97},
      {"clustered, cosine", CLUSTERED, 8000, 96, 64, RAG_METRIC_COSINE, 90, 8, 0.97},
      {"clustered, l2", CLUSTERED, 8000, 96, 64, RAG_METRIC_L2, 90, 8, 0.97},
      {"clustered, ip", CLUSTERED, 8000, 96, 64, RAG_METRIC_IP, 90, 16, 0.97},
      {"2 dimensions, l2", RANDOM, 6000, 2, 1, RAG_METRIC_L2, 100, 6, 0.97},
      {"2 dimensions, cosine", RANDOM, 2000, 2, 1, RAG_METRIC_COSINE, 50, 4, 0.60}, // 8 bits tell 500 directions apart
      {"1 dimension, l2", LINE, 3000, 1, 1, RAG_METRIC_L2, 50, 4, 0.97},
      {"1 dimension, ip", LINE, 3000, 1, 1, RAG_METRIC_IP, 50, 4, 0.97},
      {"1 dimension, cosine", LINE, 3000, 1, 1, RAG_METRIC_COSINE, 2, 2, 1.0},
      {"few distinct, l2", FEW_DISTINCT, 5000, 48, 50, RAG_METRIC_L2, 60, 4, 1.0},
      {"few distinct, cosine", FEW_DISTINCT, 5000, 48, 50, RAG_METRIC_COSINE, 60, 4, 1.0},
      {"all equal, cosine", EQUAL, 4000, 48, 1, RAG_METRIC_COSINE, 20, 1, 1.0},
      {"all equal, l2", EQUAL, 4000, 48, 1, RAG_METRIC_L2, 20, 1, 1.0},
      {"all equal, ip", EQUAL, 4000, 48, 1, RAG_METRIC_IP, 20, 1, 1.0},
      {"1,000 dimensions, l2", CLUSTERED, 500, 1000, 8, RAG_METRIC_L2, 16, 6, 0.97},
      {"8,192 dimensions, cosine", CLUSTERED, 120, 8192, 4, RAG_METRIC_COSINE, 6, 3, 0.97},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(shapes); i++) {
    const shape *s = &shapes[i];
    rows r = make_rows(s->kind, s->count, s->dimension, s->metric, s->clusters, 1000 + i);
    rows queries = make_rows(s->kind, 60, s->dimension, s->metric, s->clusters, 77777 + i);
    rag_ivf_centroids *centroids = train(&r, s->lists, 1);
    rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){0});
    assert_lists_sound(ivf);
    assert_recall(s->what, ask_mean(ivf, &r, &queries, 10, s->nprobe, NULL).recall, s->floor);
    rag_ivf_destroy(ivf);
    rag_ivf_centroids_destroy(centroids);
    free_rows(&r);
    free_rows(&queries);
  }
}

// Everything there is comes back when everything is asked for.
static void test_all_rows_are_found(void **state) {
  RAG_UNUSED(state);
  static const rows_kind kinds[] = {RANDOM, EQUAL, FEW_DISTINCT, LINE};
  for (size_t i = 0; i < RAG_COUNT_OF(kinds); i++) {
    rows r = make_rows(kinds[i], 3000, 20, RAG_METRIC_L2, 7, 5);
    rag_ivf_centroids *centroids = train(&r, 40, 1);
    for (int single = 0; single < 2; single++) {
      rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.single = single});
      assert_int_equal(ivf->meta.entries, single ? 3000 : 6000);
      assert_int_equal(ask_ivf(ivf, &r, scratch, r.data, 3000, 1, NULL, hits).count, 3000);
      rag_ivf_destroy(ivf);
    }
    rag_ivf_centroids_destroy(centroids);
    free_rows(&r);
  }
}

// Two lists a row are worth their memory: as many lists read find more.
static void test_second_lists(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 8000, 24, RAG_METRIC_COSINE, 1, 31);
  rows queries = make_rows(RANDOM, 100, 24, RAG_METRIC_COSINE, 1, 32);
  rag_ivf_centroids *centroids = train(&r, 150, 1);
  rag_ivf *once = build_ivf(centroids, &r, &(rag_ivf_options){.single = true});
  rag_ivf *twice = build_ivf(centroids, &r, &(rag_ivf_options){0});
  double of_once = ask_mean(once, &r, &queries, 10, 12, NULL).recall;
  double of_twice = ask_mean(twice, &r, &queries, 10, 12, NULL).recall;
  if (getenv("RAGD_TEST_VERBOSE")) printf("once %.4f, twice %.4f\n", of_once, of_twice);
  assert_true(1 - of_twice < 0.6 * (1 - of_once));
  rag_ivf_destroy(once);
  rag_ivf_destroy(twice);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&queries);
  free_rows(&r);
}

// Without int8 codes candidates are fetched; the answers are no worse.
static void test_without_int8(void **state) {
  RAG_UNUSED(state);
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    rows r = make_rows(CLUSTERED, 4000, 64, metrics[m], 50, 31),
         queries = make_rows(CLUSTERED, 40, 64, metrics[m], 50, 32);
    rag_ivf_centroids *centroids = train(&r, 60, 1);
    rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){0});
    rag_ivf_codes none = codes_of(&r);
    none.base = NULL;
    none.factors = NULL;
    uint64_t filter[4000 / 64 + 1] = {0};
    for (uint32_t i = 0; i < 4000; i += 3) filter[i / 64] |= 1ull << i % 64;
    double recall = 0, filtered = 0;
    for (uint32_t i = 0; i < queries.count; i++) {
      const float *query = queries.data + (size_t)i * 64;
      ivf_answer a = ask_codes(ivf, &r, &none, scratch, query, 10, 16, NULL, hits);
      assert_true(a.stats.scored == 0 && a.stats.rescored < 2000);
      recall += a.recall / queries.count;
      filtered += ask_codes(ivf, &r, &none, scratch, query, 10, 16, filter, hits).recall / queries.count;
    }
    assert_recall("without int8", recall, 0.98);
    assert_recall("without int8, filtered", filtered, 0.98);
    rag_ivf_destroy(ivf);
    rag_ivf_centroids_destroy(centroids);
    free_rows(&queries);
    free_rows(&r);
  }
}

// ---------------------------------------------------------------------------------------------- filters

typedef enum filter_kind { ANYWHERE, NEAR, FAR, PIECES } filter_kind;
static const char *const filter_names[] = {"anywhere", "near", "far", "pieces"};

// NEAR, FAR: whole clusters at the one or the other end; queries come from the first ones. To a query, far clusters are
// all in nearly right angles: its nearest ten are strewn over all of them, and no list promises more than another.
// PIECES: some of every 8th.
static uint64_t *make_filter(const rows *r, filter_kind kind, double share, uint32_t clusters) {
  uint64_t *filter = calloc(r->count / 64 + 1, sizeof *filter), state = 17, done = 0;
  uint64_t wanted = RAG_MAX((uint64_t)(share * r->count), 1u);
  assert_non_null(filter);
  for (uint32_t turn = 0; done < wanted; turn++) {
    uint32_t row = kind == NEAR ? turn : kind == FAR ? r->count - 1 - turn : random_below(&state, r->count);
    if (kind == PIECES && cluster_of(r, clusters, row) % 8 != 3 && share < 0.12) continue;
    if (has_bit(filter, row)) continue;
    filter[row / 64] |= 1ull << row % 64;
    done++;
  }
  return filter;
}

static void test_filters(void **state) {
  RAG_UNUSED(state);
  static const double shares[] = {0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1};
  const uint32_t clusters = 100;
  rows r = make_rows(CLUSTERED, 20000, 64, RAG_METRIC_COSINE, clusters, 31);
  rows queries = make_rows(CLUSTERED, 400, 64, RAG_METRIC_COSINE, clusters, 32);
  queries.count = 40; // of the first tenth of the clusters
  rag_ivf_centroids *centroids = train(&r, 280, 2);
  rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.threads = 2});
  double probed_somewhere = 0;
  for (filter_kind kind = ANYWHERE; kind <= PIECES; kind++) {
    for (size_t i = 0; i < RAG_COUNT_OF(shares); i++) {
      uint64_t *filter = make_filter(&r, kind, shares[i], clusters);
      char what[64];
      snprintf(what, sizeof what, "filter %s %g", filter_names[kind], shares[i]);
      mean m = ask_mean(ivf, &r, &queries, 10, 24, filter);
      if (getenv("RAGD_TEST_VERBOSE")) printf("   by scan %.2f, lists %.0f\n", m.by_scan, m.lists);
      assert_recall(what, m.recall, 0.98);
      if (shares[i] <= 0.01) assert_true(m.by_scan > 0.999);
      if (shares[i] >= 0.9 && kind == ANYWHERE) assert_true(m.by_scan < 0.001);
      probed_somewhere += 1 - m.by_scan;
      free(filter);
    }
  }
  assert_true(probed_somewhere > 8); // lists were tested, and not the scan alone
  uint64_t none[20000 / 64 + 1] = {0};
  assert_int_equal(ask_ivf(ivf, &r, scratch, queries.data, 10, 24, none, hits).count, 0);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
  free_rows(&queries);
}

// ---------------------------------------------------------------------------------------------- calibration, drift

static void test_calibration(void **state) {
  RAG_UNUSED(state);
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    rows r = make_rows(RANDOM, 12000, 16, metrics[m], 1, 8), queries = make_rows(RANDOM, 200, 16, metrics[m], 1, 9);
    rag_ivf_centroids *centroids = train(&r, 0, 2);
    rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
    rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.sample = 200, .fetch = &fetch, .threads = 2});
    assert_int_equal(ivf->meta.sample, 200);
    assert_true(ivf->meta.rung_count > 3);
    static const struct {
      uint32_t k;
      float target;
      double floor;
    } promises[] = {{10, 0.90f, 0.88}, {10, 0.98f, 0.98}, {10, 0.99f, 0.985}, {100, 0.95f, 0.94}, {40, 0.98f, 0.97}};
    uint32_t last = 0;
    for (size_t i = 0; i < RAG_COUNT_OF(promises); i++) {
      bool reached;
      uint32_t nprobe = rag_ivf_nprobe(ivf, promises[i].k, promises[i].target, &reached);
      assert_true(reached);
      if (i < 3) assert_true(nprobe >= last);
      last = nprobe;
      char what[64];
      snprintf(what, sizeof what, "%s, k %u, nprobe %u", rag_metric_name(metrics[m]), promises[i].k, nprobe);
      assert_recall(what, ask_mean(ivf, &r, &queries, promises[i].k, nprobe, NULL).recall, promises[i].floor);
    }
    bool reached;
    assert_true(rag_ivf_nprobe(ivf, 10000, 0.9f, &reached) <= ivf->meta.lists);
    assert_true(rag_ivf_nprobe(ivf, 10, 1.5f, &reached) >= last && !reached);
    rag_ivf *blind = build_ivf(centroids, &r, &(rag_ivf_options){0});
    assert_int_equal(blind->meta.rung_count, 0);
    assert_true(rag_ivf_nprobe(blind, 10, 0.98f, &reached) > 0 && !reached);
    rag_ivf_destroy(blind);
    rag_ivf_destroy(ivf);
    rag_ivf_centroids_destroy(centroids);
    free_rows(&queries);
    free_rows(&r);
  }
}

static void test_drift(void **state) {
  RAG_UNUSED(state);
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    // Clusters are by row number: the first ten of a thousand, all of them, and others.
    rows old = make_rows(CLUSTERED, 3000, 48, metrics[m], 10, 8),
         like = make_rows(CLUSTERED, 2000, 48, metrics[m], 10, 9);
    rows other = make_rows(CLUSTERED, 2000, 48, metrics[m], 900, 10);
    rag_ivf_centroids *centroids = train(&old, 60, 1);
    rag_ivf *of_old = build_ivf(centroids, &old, &(rag_ivf_options){0});
    rag_ivf *of_like = build_ivf(centroids, &like, &(rag_ivf_options){0});
    rag_ivf *of_other = build_ivf(centroids, &other, &(rag_ivf_options){0});
    if (getenv("RAGD_TEST_VERBOSE")) {
      printf("drift %.4f %.4f %.4f\n", (double)rag_ivf_drift(of_old), (double)rag_ivf_drift(of_like),
             (double)rag_ivf_drift(of_other));
    }
    assert_true(fabsf(rag_ivf_drift(of_old) - 1) < 0.01f);
    assert_true(rag_ivf_drift(of_like) < RAG_IVF_DRIFT_RETRAIN);
    assert_true(rag_ivf_drift(of_other) > RAG_IVF_DRIFT_RETRAIN);
    rag_ivf_destroy(of_other);
    rag_ivf_destroy(of_like);
    rag_ivf_destroy(of_old);
    rag_ivf_centroids_destroy(centroids);
    free_rows(&other);
    free_rows(&like);
    free_rows(&old);
  }
  rows equal = make_rows(EQUAL, 500, 48, RAG_METRIC_L2, 1, 8);
  rag_ivf_centroids *centroids = train(&equal, 4, 1);
  rag_ivf *ivf = build_ivf(centroids, &equal, &(rag_ivf_options){0});
  assert_true(rag_ivf_drift(ivf) < RAG_IVF_DRIFT_RETRAIN); // the codes' own error is no drift
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&equal);
}

// What other segments have found already is not looked for again, and all segments' hits share one list.
static void test_segments_share_hits(void **state) {
  RAG_UNUSED(state);
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    rows r = make_rows(CLUSTERED, 6000, 64, metrics[m], 60, 31),
         queries = make_rows(CLUSTERED, 60, 64, metrics[m], 60, 32);
    rag_ivf_centroids *centroids = train(&r, 80, 1);
    rag_ivf *ivf[2];
    rows half[2];
    uint32_t *ordinals = malloc(6000 * sizeof *ordinals);
    assert_non_null(ordinals);
    for (uint32_t i = 0; i < 6000; i++) ordinals[i] = 10 * i + 7;
    for (uint32_t h = 0; h < 2; h++) {
      half[h] = r;
      half[h].count = 3000;
      half[h].data = r.data + h * 3000ull * 64;
      half[h].codes.base = r.codes.base + h * 3000 * r.codes.stride;
      half[h].codes.factors = r.codes.factors + h * 3000;
      ivf[h] = build_ivf(centroids, &half[h], &(rag_ivf_options){0});
    }
    uint64_t rescored[2] = {0, 0};
    double recall = 0;
    for (uint32_t i = 0; i < queries.count; i++) {
      const float *query = queries.data + (size_t)i * 64;
      rag_index_topk top;
      rag_index__topk_init(&top, hits, 10, -FLT_MAX);
      for (uint32_t h = 0; h < 2; h++) {
        rag_ivf_codes codes = codes_of(&half[h]);
        rag_ivf_query q = {.vector = query,
                           .k = 10,
                           .nprobe = 20,
                           .ordinals = ordinals + 3000 * h,
                           .fetch = {.rows = fetch_row, .context = &half[h]}};
        rag_ivf_stats stats;
        assert_int_equal(rag_ivf_search(ivf[h], &codes, &q, scratch, &top, &stats, NULL), RAG_OK);
        rescored[h] += stats.rescored;
        assert_int_equal(stats.lists, 20); // even where what it has is not good enough
      }
      rag_index__topk_finish(&top);
      assert_int_equal(top.count, 10);
      rag_index_hit *all = malloc(6000 * sizeof *all);
      assert_non_null(all);
      for (uint32_t row = 0; row < 6000; row++) {
        all[row] = (rag_index_hit){10 * row + 7, oracle_score(query, r.data + (size_t)row * 64, 64, metrics[m])};
      }
      qsort(all, 6000, sizeof *all, oracle_compare);
      for (uint32_t n = 0; n < 10; n++) recall += (hits[n].score >= all[9].score ? 0.1 : 0) / queries.count;
      free(all);
    }
    assert_recall("two segments", recall, 0.98);
    // The queries are of the clusters' order, so each half has about half of the nearest: the second fetches less.
    assert_true(rescored[1] < rescored[0]);
    rag_ivf_destroy(ivf[0]);
    rag_ivf_destroy(ivf[1]);
    rag_ivf_centroids_destroy(centroids);
    free(ordinals);
    free_rows(&queries);
    free_rows(&r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tiny),         cmocka_unit_test(test_no_rows),
      cmocka_unit_test(test_recall),       cmocka_unit_test(test_all_rows_are_found),
      cmocka_unit_test(test_second_lists), cmocka_unit_test(test_without_int8),
      cmocka_unit_test(test_filters),      cmocka_unit_test(test_calibration),
      cmocka_unit_test(test_drift),        cmocka_unit_test(test_segments_share_hits),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
