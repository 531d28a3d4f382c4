// Goal: whatever fails under a training, a build, a merge or a search (memory, the caller's rows, time, the caller's wish
// to stop) is that call's status, nothing leaks, and the next call works; threads may search one segment at once.
// Method: every allocation fails in turn, with one and two threads; fetches fail one after another; deadlines in the
// past; progress that says stop at every report. Leaks are the address sanitizer's to find, races the thread sanitizer's.
#include "ivf_testing.h"

#include <pthread.h>

static rag_index_hit hits[100];

static rag_status search(const rag_ivf *ivf, rows *r, rag_ivf_scratch *scratch, const uint64_t *filter,
                         uint64_t deadline_ns, rag_error *err) {
  rag_index_topk top;
  rag_ivf_codes codes = codes_of(r);
  rag_index__topk_init(&top, hits, 10, -FLT_MAX);
  rag_ivf_query q = {.vector = r->data,
                     .k = 10,
                     .nprobe = 3,
                     .filter = filter,
                     .survivors = filter ? count_bits(filter, r->count) : 0,
                     .fetch = {.rows = fetch_row, .context = r},
                     .deadline_ns = deadline_ns};
  return rag_ivf_search(ivf, &codes, &q, scratch, &top, NULL, err);
}

static void test_no_memory_to_train(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(FEW_DISTINCT, 300, 16, RAG_METRIC_COSINE, 200, 4);
  rag_ivf_codes codes = codes_of(&r);
  for (uint32_t threads = 1; threads <= 2; threads++) {
    rag_ivf_train_options options = {.lists = 12, .threads = threads};
    bool failed = true;
    uint32_t turns = 0;
    for (uint64_t n = 1; failed; n++, turns++) {
      rag_ivf_centroids *c = NULL;
      rag_alloc_fail_after(n);
      rag_status status = rag_ivf_train(&codes, &options, &c, NULL);
      failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      if (status == RAG_UNIMPLEMENTED) break;
      assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      assert_true(failed == (c == NULL));
      rag_ivf_centroids_destroy(c);
    }
    bool failed_once = false;
    for (uint64_t n = 1; n < 100; n++) {
      rag_ivf_centroids *c = NULL;
      rag_alloc_fail_after(n);
      rag_status status = rag_ivf_centroids_create(r.data, 12, &codes, threads, 1, &c, NULL);
      failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      assert_true(failed == (c == NULL));
      rag_ivf_centroids_destroy(c);
      failed_once |= failed;
      if (!failed) break;
    }
    assert_true(failed_once && !failed);
  }
  free_rows(&r);
}

static void test_no_memory_to_build(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(FEW_DISTINCT, 300, 16, RAG_METRIC_COSINE, 200, 4);
  rag_ivf_codes codes = codes_of(&r);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  rag_ivf_centroids *centroids = train(&r, 12, 1);
  uint32_t map[300];
  for (uint32_t i = 0; i < 300; i++) map[i] = 299 - i;
  for (uint32_t threads = 1; threads <= 2; threads++) {
    rag_ivf_options options = {.threads = threads, .sample = 10, .fetch = &fetch};
    rag_ivf *whole = build_ivf(centroids, &r, &options);
    for (int merge = 0; merge < 2; merge++) {
      bool failed = true;
      uint32_t turns = 0;
      for (uint64_t n = 1; failed; n++, turns++) {
        rag_ivf *ivf = NULL;
        rag_ivf_input input = {whole, map};
        rag_alloc_fail_after(n);
        rag_status status = merge ? rag_ivf_merge(centroids, &input, 1, 300, &codes, &options, &ivf, NULL)
                                  : rag_ivf_build(centroids, &codes, &options, &ivf, NULL);
        failed = rag_alloc_has_failed();
        rag_alloc_fail_after(0);
        assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
        assert_true(failed == (ivf == NULL));
        rag_ivf_destroy(ivf);
      }
      assert_true(turns > 15);
    }
    rag_ivf_destroy(whole);
  }
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

static void test_no_memory_to_search(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 300, 16, RAG_METRIC_COSINE, 1, 4);
  rag_ivf_centroids *centroids = train(&r, 12, 1);
  rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){0});
  bool failed = true;
  uint64_t n = 1;
  for (; failed; n++) {
    rag_ivf_scratch *scratch = NULL;
    rag_ivf *opened = NULL;
    rag_ivf_centroids *read = NULL;
    rag_slice sections[RAG_IVF_SECTIONS];
    rag_ivf_sections(ivf, sections);
    rag_alloc_fail_after(n);
    rag_status status =
        rag_ivf_centroids_open(rag_ivf_centroids_section(centroids), 16, RAG_METRIC_COSINE, &read, NULL);
    if (status == RAG_OK) status = rag_ivf_open(sections, read, 300, &opened, NULL);
    if (status == RAG_OK) status = rag_ivf_scratch_create(&scratch, NULL);
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
    rag_ivf_scratch_destroy(scratch);
    rag_ivf_destroy(opened);
    rag_ivf_centroids_destroy(read);
  }
  assert_true(n > 10);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

// One scratch serves segments of many sizes and spaces, and marks and questions of one do not show in another.
static void test_one_scratch(void **state) {
  RAG_UNUSED(state);
  rag_ivf_scratch *scratch = NULL;
  assert_int_equal(rag_ivf_scratch_create(&scratch, NULL), RAG_OK);
  static const uint32_t counts[] = {40, 3000, 100, 30000, 1, 3000};
  for (size_t i = 0; i < RAG_COUNT_OF(counts); i++) {
    rows r = make_rows(RANDOM, counts[i], 8 + (uint32_t)i * 30, RAG_METRIC_L2, 1, 4);
    rag_ivf_centroids *centroids = train(&r, RAG_MIN(30u, counts[i]), 2);
    rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.threads = 2});
    uint32_t lists = centroids->meta.lists;
    double recall = 0;
    for (uint32_t turn = 0; turn < 10; turn++) {
      float *query = r.data + (size_t)random_below(&(uint64_t){turn / 2}, counts[i]) * r.dimension; // each twice
      ivf_answer a = ask_ivf(ivf, &r, scratch, query, 1 + turn * 9, lists, NULL, hits);
      assert_true(hits[0].score == 0); // a row finds itself
      recall += a.recall / 10;
    }
    // All lists, as in every turn more candidates than marks that are remembered one by one.
    if (counts[i] == 30000) {
      rag_index_hit *many = malloc(10000 * sizeof *many);
      assert_non_null(many);
      assert_int_equal(ask_ivf(ivf, &r, scratch, r.data, 10000, lists, NULL, many).count, 10000);
      free(many);
    }
    assert_true(recall > 0.98);
    rag_ivf_destroy(ivf);
    rag_ivf_centroids_destroy(centroids);
    free_rows(&r);
  }
  rag_ivf_scratch_destroy(scratch);
}

static void test_fetch_fails(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 2000, 16, RAG_METRIC_COSINE, 1, 4);
  rag_ivf_codes codes = codes_of(&r);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  rag_ivf_options options = {.sample = 3, .fetch = &fetch};
  rag_ivf_centroids *centroids = train(&r, 12, 1);
  rag_ivf *ivf = NULL;
  rag_error err;
  for (uint32_t left = 0; left < 30; left += 5) {
    r.fetches_left = left;
    assert_int_equal(rag_ivf_build(centroids, &codes, &options, &ivf, &err), RAG_UNAVAILABLE);
    assert_string_equal(err.message, "no rows today");
    assert_null(ivf);
  }
  r.fetches_left = UINT32_MAX;
  ivf = build_ivf(centroids, &r, &options);
  rag_ivf_scratch *scratch = NULL;
  assert_int_equal(rag_ivf_scratch_create(&scratch, NULL), RAG_OK);
  for (int without = 0; without < 2; without++) {
    rag_ivf_codes asked = codes_of(&r);
    if (without) asked.base = NULL;
    for (uint32_t left = 0; left < 2; left++) {
      rag_index_topk top;
      rag_index__topk_init(&top, hits, 10, -FLT_MAX);
      rag_ivf_query q = {.vector = r.data, .k = 10, .nprobe = 3, .fetch = fetch};
      r.fetches_left = left ? UINT32_MAX : 0;
      rag_status status = rag_ivf_search(ivf, &asked, &q, scratch, &top, NULL, &err);
      assert_int_equal(status, left ? RAG_OK : RAG_UNAVAILABLE);
    }
  }
  rag_ivf_scratch_destroy(scratch);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

static void test_deadline(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 3000, 16, RAG_METRIC_COSINE, 1, 4);
  rag_ivf_centroids *centroids = train(&r, 12, 1);
  rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){0});
  rag_ivf_scratch *scratch = NULL;
  rag_error err;
  assert_int_equal(rag_ivf_scratch_create(&scratch, NULL), RAG_OK);
  uint64_t few[3000 / 64 + 1] = {0xff}, half[3000 / 64 + 1];
  memset(half, 0x55, sizeof half);
  half[3000 / 64] &= (1ull << 3000 % 64) - 1;
  const uint64_t *filters[] = {NULL, few, half};
  for (size_t f = 0; f < RAG_COUNT_OF(filters); f++) {
    assert_int_equal(search(ivf, &r, scratch, filters[f], 1, &err), RAG_DEADLINE_EXCEEDED);
    assert_int_equal(search(ivf, &r, scratch, filters[f], rag_clock_monotonic_ns() + 3600000000000u, &err), RAG_OK);
  }
  rag_ivf_scratch_destroy(scratch);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

typedef struct stopper {
  uint32_t left, calls;
  uint64_t last, total;
} stopper;
static bool report(void *context, uint64_t done, uint64_t total) {
  stopper *s = context;
  assert_true(done < total && (s->calls == 0 || (done > s->last && total == s->total)));
  s->last = done;
  s->total = total;
  s->calls++;
  return s->left-- > 0;
}

static void test_stop(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 20000, 8, RAG_METRIC_COSINE, 1, 4);
  rag_ivf_codes codes = codes_of(&r);
  rag_ivf_centroids *centroids = train(&r, 20, 1);
  for (int training = 0; training < 2; training++) {
    bool stopped = true;
    uint32_t left = 0;
    for (; stopped; left++) {
      stopper s = {.left = left};
      rag_ivf *ivf = NULL;
      rag_ivf_centroids *c = NULL;
      rag_ivf_options options = {.threads = 2, .progress = report, .progress_context = &s};
      rag_ivf_train_options train_options = {
          .lists = 20, .threads = 2, .iterations = 4, .progress = report, .progress_context = &s};
      rag_status status = training ? rag_ivf_train(&codes, &train_options, &c, NULL)
                                   : rag_ivf_build(centroids, &codes, &options, &ivf, NULL);
      if (status == RAG_UNIMPLEMENTED) break;
      stopped = status == RAG_CANCELLED;
      assert_true(stopped || status == RAG_OK);
      assert_true(stopped == (ivf == NULL && c == NULL));
      if (stopped) assert_int_equal(s.calls, left + 1);
      rag_ivf_destroy(ivf);
      rag_ivf_centroids_destroy(c);
    }
    assert_true(!stopped ? left > 3 : training);
  }
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

static void test_limits(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 50, 16, RAG_METRIC_COSINE, 1, 4),
       other = make_rows(RANDOM, 50, 17, RAG_METRIC_COSINE, 1, 4);
  rag_ivf_codes codes = codes_of(&r), others = codes_of(&other), ips = codes;
  ips.metric = RAG_METRIC_IP;
  rag_ivf_centroids *centroids = train(&r, 50, 1), *c = NULL;
  static const rag_ivf_train_options bad[] = {
      {.lists = 51},
      {.lists = RAG_IVF_LISTS_MAX + 1},
      {.iterations = RAG_IVF_ITERATIONS_MAX + 1},
      {.threads = RAG_IVF_THREADS_MAX + 1},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    assert_int_equal(rag_ivf_train(&codes, &bad[i], &c, NULL), RAG_INVALID_ARGUMENT);
    assert_null(c);
  }
  assert_int_equal(rag_ivf_centroids_create(r.data, 0, &codes, 1, 1, &c, NULL), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_ivf_centroids_create(r.data, RAG_IVF_LISTS_MAX + 1, &codes, 1, 1, &c, NULL),
                   RAG_INVALID_ARGUMENT);
  rag_ivf *ivf = NULL;
  rag_ivf_options options = {.threads = RAG_IVF_THREADS_MAX + 1};
  assert_int_equal(rag_ivf_build(centroids, &codes, &options, &ivf, NULL), RAG_INVALID_ARGUMENT);
  options.threads = 1;
  assert_int_equal(rag_ivf_build(centroids, &others, &options, &ivf, NULL), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_ivf_build(centroids, &ips, &options, &ivf, NULL), RAG_INVALID_ARGUMENT);
  assert_true(!c && !ivf);
  options.threads = RAG_IVF_THREADS_MAX;
  options.sample = 1000000;
  ivf = build_ivf(centroids, &r, &options);
  assert_int_equal(ivf->meta.sample, 5);
  assert_int_equal(rag_ivf_default_lists(0), 1);
  assert_int_equal(rag_ivf_default_lists(UINT64_MAX), RAG_IVF_LISTS_MAX);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&other);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- threads

typedef struct searcher {
  const rag_ivf *ivf;
  rows *r;
  uint32_t number;
  uint32_t found;
} searcher;

static void *search_much(void *arg) {
  searcher *s = arg;
  rag_ivf_scratch *scratch = NULL;
  rag_ivf_codes codes = codes_of(s->r);
  if (rag_ivf_scratch_create(&scratch, NULL) != RAG_OK) return NULL;
  for (uint32_t i = 0; i < 100; i++) {
    rag_index_hit own[10];
    rag_index_topk top;
    uint32_t row = (i * 31 + s->number) % s->r->count;
    rag_index__topk_init(&top, own, 10, -FLT_MAX);
    rag_ivf_query q = {.vector = s->r->data + (size_t)row * s->r->dimension,
                       .k = 10,
                       .nprobe = 4,
                       .fetch = {.rows = fetch_row, .context = s->r}};
    if (rag_ivf_search(s->ivf, &codes, &q, scratch, &top, NULL, NULL) != RAG_OK) break;
    rag_index__topk_finish(&top);
    s->found += own[0].ordinal == row;
  }
  rag_ivf_scratch_destroy(scratch);
  return NULL;
}

static void test_many_searchers(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 3000, 32, RAG_METRIC_COSINE, 1, 4);
  rag_ivf_centroids *centroids = train(&r, 30, 3);
  rag_ivf *ivf = build_ivf(centroids, &r, &(rag_ivf_options){.threads = 3});
  pthread_t threads[4];
  searcher searchers[4];
  for (uint32_t t = 0; t < 4; t++) {
    searchers[t] = (searcher){ivf, &r, t, 0};
    assert_int_equal(pthread_create(&threads[t], NULL, search_much, &searchers[t]), 0);
  }
  for (uint32_t t = 0; t < 4; t++) {
    assert_int_equal(pthread_join(threads[t], NULL), 0);
    assert_int_equal(searchers[t].found, 100);
  }
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  free_rows(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_no_memory_to_train),
      cmocka_unit_test(test_no_memory_to_build),
      cmocka_unit_test(test_no_memory_to_search),
      cmocka_unit_test(test_one_scratch),
      cmocka_unit_test(test_fetch_fails),
      cmocka_unit_test(test_deadline),
      cmocka_unit_test(test_stop),
      cmocka_unit_test(test_limits),
      cmocka_unit_test(test_many_searchers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
