// Goal: whatever fails under a build or a search of a graph (memory, the caller's rows, time, the caller's wish to
// stop) is that call's status, nothing leaks, and the next call works; threads may search one graph at once.
// Method: every allocation fails in turn, with one and two threads; fetches fail one after another; deadlines in the
// past; progress that says stop at every report. Leaks are the address sanitizer's to find, races the thread sanitizer's.
#include "graph_testing.h"

#include <pthread.h>

static rag_index_hit hits[100];

static rag_status search(const rag_graph *g, rows *r, rag_graph_scratch *scratch, const uint64_t *filter,
                         uint64_t deadline_ns, rag_error *err) {
  rag_index_topk top;
  rag_index__topk_init(&top, hits, 10, -FLT_MAX);
  rag_graph_query q = {.vector = r->data,
                       .k = 10,
                       .ef = 30,
                       .filter = filter,
                       .survivors = filter ? count_bits(filter, r->count) : 0,
                       .fetch = {.rows = fetch_row, .context = r},
                       .deadline_ns = deadline_ns};
  return rag_graph_search(g, &r->codes, &q, scratch, &top, NULL, err);
}

static void test_no_memory_to_build(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(FEW_DISTINCT, 300, 16, RAG_METRIC_COSINE, 200, 4);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  for (uint32_t threads = 1; threads <= 2; threads++) {
    rag_graph_options options = {.m = 4, .ef_construction = 20, .threads = threads, .sample = 10, .fetch = &fetch};
    bool failed = true;
    uint32_t turns = 0;
    for (uint64_t n = 1; failed; n++, turns++) {
      rag_graph *g = NULL;
      rag_error err = {0};
      rag_alloc_fail_after(n);
      rag_status status = rag_graph_build(&r.codes, &options, &g, &err);
      failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      assert_true(failed == (g == NULL));
      rag_graph_destroy(g);
    }
    assert_true(turns > 20);
  }
  free_rows(&r);
}

static void test_no_memory_to_search(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 300, 16, RAG_METRIC_COSINE, 1, 4);
  rag_graph *g = build(&r, 4, 20);
  bool failed = true;
  uint64_t n = 1;
  for (; failed; n++) {
    rag_graph_scratch *scratch = NULL;
    rag_graph *opened = NULL;
    rag_slice sections[RAG_GRAPH_SECTIONS];
    rag_graph_sections(g, sections);
    rag_alloc_fail_after(n);
    rag_status status = rag_graph_open(sections, 300, 16, RAG_METRIC_COSINE, &opened, NULL);
    if (status == RAG_OK) status = rag_graph_scratch_create(&scratch, NULL);
    if (status == RAG_OK) status = search(opened, &r, scratch, NULL, 0, NULL);
    failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    // A scratch whose growth failed is as good as before.
    if (scratch) assert_int_equal(search(opened, &r, scratch, NULL, 0, NULL), RAG_OK);
    // And a search with a scratch that is large enough asks for nothing.
    if (scratch) {
      rag_alloc_fail_after(1);
      assert_int_equal(search(opened, &r, scratch, NULL, 0, NULL), RAG_OK);
      assert_false(rag_alloc_has_failed());
      rag_alloc_fail_after(0);
    }
    rag_graph_scratch_destroy(scratch);
    rag_graph_destroy(opened);
  }
  assert_true(n > 5);
  rag_graph_destroy(g);
  free_rows(&r);
}

// One scratch serves graphs of many sizes, and marks of one do not show in another.
static void test_one_scratch(void **state) {
  RAG_UNUSED(state);
  rag_graph_scratch *scratch = NULL;
  assert_int_equal(rag_graph_scratch_create(&scratch, NULL), RAG_OK);
  static const uint32_t counts[] = {40, 3000, 100, 20000, 1, 3000};
  for (size_t i = 0; i < RAG_COUNT_OF(counts); i++) {
    rows r = make_rows(RANDOM, counts[i], 8 + (uint32_t)i * 30, RAG_METRIC_L2, 1, 4);
    rag_graph *g = build(&r, 6, 20);
    for (uint32_t turn = 0; turn < 10; turn++) {
      float *query = r.data + (size_t)random_below(&(uint64_t){turn}, counts[i]) * r.dimension;
      answer a = ask(g, &r, scratch, query, 1 + turn, turn * turn * 9, NULL, hits);
      if (turn * turn * 9 < counts[i]) continue;
      assert_true(a.recall > 0.999);
      assert_true(hits[0].score == 0); // a row finds itself
    }
    rag_graph_destroy(g);
    free_rows(&r);
  }
  rag_graph_scratch_destroy(scratch);
}

static void test_fetch_fails(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 2000, 16, RAG_METRIC_COSINE, 1, 4);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  rag_graph_options options = {.m = 4, .ef_construction = 20, .sample = 3, .fetch = &fetch};
  rag_graph *g = NULL;
  rag_error err;
  for (uint32_t left = 0; left < 30; left += 5) {
    r.fetches_left = left;
    assert_int_equal(rag_graph_build(&r.codes, &options, &g, &err), RAG_UNAVAILABLE);
    assert_string_equal(err.message, "no rows today");
    assert_null(g);
  }
  r.fetches_left = UINT32_MAX;
  g = build_with(&r, &options);
  rag_graph_scratch *scratch = NULL;
  assert_int_equal(rag_graph_scratch_create(&scratch, NULL), RAG_OK);
  r.fetches_left = 0;
  assert_int_equal(search(g, &r, scratch, NULL, 0, &err), RAG_UNAVAILABLE);
  r.fetches_left = UINT32_MAX;
  assert_int_equal(search(g, &r, scratch, NULL, 0, &err), RAG_OK);
  rag_graph_scratch_destroy(scratch);
  rag_graph_destroy(g);
  free_rows(&r);
}

static void test_deadline(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 3000, 16, RAG_METRIC_COSINE, 1, 4);
  rag_graph *g = build(&r, 4, 20);
  rag_graph_scratch *scratch = NULL;
  rag_error err;
  assert_int_equal(rag_graph_scratch_create(&scratch, NULL), RAG_OK);
  uint64_t filter[3000 / 64 + 1] = {0xff};
  assert_int_equal(search(g, &r, scratch, NULL, 1, &err), RAG_DEADLINE_EXCEEDED);
  assert_int_equal(search(g, &r, scratch, filter, 1, &err), RAG_DEADLINE_EXCEEDED);
  assert_int_equal(search(g, &r, scratch, filter, rag_clock_monotonic_ns() + 3600000000000u, &err), RAG_OK);
  rag_graph_scratch_destroy(scratch);
  rag_graph_destroy(g);
  free_rows(&r);
}

typedef struct stopper {
  uint32_t left, calls;
  uint64_t last;
} stopper;
static bool report(void *context, uint64_t done, uint64_t total) {
  stopper *s = context;
  assert_true(total == 2000 && done < total && (s->calls == 0 || done > s->last));
  s->last = done;
  s->calls++;
  return s->left-- > 0;
}

static void test_stop(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 2000, 16, RAG_METRIC_COSINE, 1, 4);
  bool stopped = true;
  uint32_t left = 0;
  for (; stopped; left += 7) {
    stopper s = {.left = left};
    rag_graph *g = NULL;
    rag_graph_options options = {
        .m = 4, .ef_construction = 20, .threads = 2, .progress = report, .progress_context = &s};
    rag_status status = rag_graph_build(&r.codes, &options, &g, NULL);
    stopped = status == RAG_CANCELLED;
    assert_true(stopped || status == RAG_OK);
    assert_true(stopped == (g == NULL));
    if (stopped) assert_int_equal(s.calls, left + 1);
    rag_graph_destroy(g);
  }
  assert_true(left > 40); // asked often enough to stop soon
  free_rows(&r);
}

static void test_limits(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 50, 16, RAG_METRIC_COSINE, 1, 4);
  static const rag_graph_options bad[] = {
      {.m = 1},
      {.m = RAG_GRAPH_M_MAX + 1},
      {.ef_construction = RAG_GRAPH_EF_CONSTRUCTION_MAX + 1},
      {.threads = RAG_GRAPH_THREADS_MAX + 1},
  };
  static const rag_graph_options good[] = {
      {.m = RAG_GRAPH_M_MIN}, {.m = RAG_GRAPH_M_MAX}, {.ef_construction = RAG_GRAPH_EF_CONSTRUCTION_MAX},
      {.ef_construction = 1}, {.sample = 1000000},    {0},
  };
  rag_graph *g = NULL;
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    assert_int_equal(rag_graph_build(&r.codes, &bad[i], &g, NULL), RAG_INVALID_ARGUMENT);
  }
  for (size_t i = 0; i < RAG_COUNT_OF(good); i++) rag_graph_destroy(build_with(&r, &good[i]));
  rag_graph_codes many = r.codes;
  many.rows = RAG_GRAPH_ROWS_MAX + 1;
  assert_int_equal(rag_graph_build(&many, &good[5], &g, NULL), RAG_INVALID_ARGUMENT);
  free_rows(&r);
}

// Two segments into one list: as if it were one.
static void test_two_segments(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 1000, 16, RAG_METRIC_L2, 1, 4);
  rag_graph_scratch *scratch = NULL;
  assert_int_equal(rag_graph_scratch_create(&scratch, NULL), RAG_OK);
  rag_index_topk top;
  rag_index__topk_init(&top, hits, 20, -FLT_MAX);
  uint64_t rescored = 0;
  for (uint32_t part = 0; part < 2; part++) {
    rows half = make_rows(RANDOM, 500, 16, RAG_METRIC_L2, 1, 4);
    uint32_t ordinals[500];
    for (uint32_t i = 0; i < 500; i++) {
      ordinals[i] = part * 500 + i;
      float *row = half.data + (size_t)i * 16;
      memcpy(row, r.data + (size_t)(part * 500 + i) * 16, 16 * sizeof *row);
      rag_codes_int8_encode(row, 16, half.code + (size_t)i * 64, &half.factors[i]);
    }
    rag_graph *g = build(&half, 8, 40);
    rag_graph_query q = {
        .vector = r.data, .k = 20, .ef = 500, .ordinals = ordinals, .fetch = {.rows = fetch_row, .context = &half}};
    rag_graph_stats stats;
    assert_int_equal(rag_graph_search(g, &half.codes, &q, scratch, &top, &stats, NULL), RAG_OK);
    rescored += stats.rescored;
    rag_graph_destroy(g);
    free_rows(&half);
  }
  rag_index__topk_finish(&top);
  rag_graph *g = build(&r, 8, 40);
  rag_index_hit together[20];
  assert_int_equal(ask(g, &r, scratch, r.data, 20, 1000, NULL, together).count, 20);
  assert_memory_equal(hits, together, sizeof together);
  assert_true(rescored < 200); // of 1,000 in the pools
  rag_graph_destroy(g);
  rag_graph_scratch_destroy(scratch);
  free_rows(&r);
}

typedef struct asker {
  const rag_graph *graph;
  rows *r;
  rag_index_hit first[10]; // of the first query
} asker;
static void *ask_often(void *context) {
  asker *a = context;
  rag_graph_scratch *scratch = NULL;
  if (rag_graph_scratch_create(&scratch, NULL) != RAG_OK) return NULL;
  for (uint32_t i = 0; i < 200; i++) {
    rag_index_hit found[10];
    rag_index_topk top;
    rag_index__topk_init(&top, found, 10, -FLT_MAX);
    rag_graph_query q = {.vector = a->r->data + (size_t)i * a->r->dimension,
                         .k = 10,
                         .ef = 40,
                         .fetch = {.rows = fetch_row, .context = a->r}};
    if (rag_graph_search(a->graph, &a->r->codes, &q, scratch, &top, NULL, NULL) != RAG_OK) break;
    rag_index__topk_finish(&top);
    if (i == 0) memcpy(a->first, found, sizeof found);
  }
  rag_graph_scratch_destroy(scratch);
  return NULL;
}

static void test_threads(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 4000, 32, RAG_METRIC_COSINE, 10, 4);
  rag_graph *g = build_with(&r, &(rag_graph_options){.m = 8, .ef_construction = 40, .threads = 4, .sample = 20});
  pthread_t threads[4];
  asker askers[4];
  for (int t = 0; t < 4; t++) {
    askers[t] = (asker){.graph = g, .r = &r};
    assert_int_equal(pthread_create(&threads[t], NULL, ask_often, &askers[t]), 0);
  }
  for (int t = 0; t < 4; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
  assert_int_equal(askers[0].first[0].ordinal, 0);
  for (int t = 1; t < 4; t++) assert_memory_equal(askers[0].first, askers[t].first, sizeof askers[0].first);
  rag_graph_destroy(g);
  free_rows(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_no_memory_to_build),
      cmocka_unit_test(test_no_memory_to_search),
      cmocka_unit_test(test_one_scratch),
      cmocka_unit_test(test_fetch_fails),
      cmocka_unit_test(test_deadline),
      cmocka_unit_test(test_stop),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_two_segments),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
