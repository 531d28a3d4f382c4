// Goal: whatever FAISS makes of a factory string, the engine around it answers as many rows as there are, only rows that
// pass, with the scores of the exact search to the bit, and nearly all of the true best; what fails is a status.
//
// Method: factories of every family over small clustered sets, against all rows in turn; filters of every share, at
// random and of one region that queries are far from; a file's way out and back, with bytes turned and cut; wrong
// strings; allocations that fail one by one, and FAISS's own under a limit of the process; threads with settings that
// differ. Without FAISS (RAGD_ONLY_KERNELS) there is one test: that every way in refuses.
#include "graph_testing.h"
#include "index/faiss/faiss_internal.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define K 10u

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
#if defined(__SANITIZE_THREAD__)
#define THREADS_MANY 1u // OpenMP's library is not instrumented: its barriers look like races
#else
#define THREADS_MANY 2u
#endif
static uint32_t build_threads = 1; // with more, FAISS builds another HNSW each time, and its recall is a chance

static bool have_faiss(void) {
  return strcmp(rag_faiss_version(), "none") != 0;
}

static rag_faiss *build_of(rows *r, const char *factory, uint32_t sample) {
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = r};
  rag_faiss_options options = {.threads = build_threads, .seed = 5, .sample = sample};
  rag_faiss *engine = NULL;
  rag_error err = {0};
  if (rag_faiss_build(&fetch, r->count, r->dimension, r->metric, factory, &options, &engine, &err) != RAG_OK) {
    fail_msg("%s: %s", factory, err.message);
  }
  return engine;
}

static rag_faiss_query query_of(rows *r, const float *vector, uint32_t k, const uint64_t *filter) {
  return (rag_faiss_query){.vector = vector,
                           .k = k,
                           .filter = filter,
                           .survivors = filter ? count_bits(filter, r->count) : 0,
                           .fetch = {.rows = fetch_row, .context = r}};
}

typedef struct faiss_answer {
  uint32_t count;
  double recall;
  rag_faiss_stats stats;
} faiss_answer;

// Asks, checks what holds for every answer, and measures.
static faiss_answer ask_faiss(const rag_faiss *engine, rows *r, rag_faiss_scratch *scratch, const rag_faiss_query *q,
                              rag_index_hit *hits) {
  faiss_answer a = {0};
  rag_index_topk top;
  rag_error err = {0};
  rag_index__topk_init(&top, hits, q->k, -FLT_MAX);
  if (rag_faiss_search(engine, q, scratch, &top, &a.stats, &err) != RAG_OK) fail_msg("search: %s", err.message);
  rag_index__topk_finish(&top);
  a.count = top.count;
  uint64_t passing = q->filter ? q->survivors : r->count;
  assert_int_equal(a.count, RAG_MIN((uint64_t)q->k, passing));
  if (a.count == 0) {
    a.recall = 1;
    return a;
  }
  rag_index_hit *all = malloc((r->count + 1) * sizeof *all);
  bool *seen = calloc(r->count + 1, 1);
  assert_true(all && seen);
  uint32_t count = 0;
  for (uint32_t i = 0; i < r->count; i++) {
    if (!has_bit(q->filter, i)) continue;
    float score = oracle_score(q->vector, r->data + (size_t)i * r->dimension, r->dimension, r->metric);
    all[count++] = (rag_index_hit){i, score};
  }
  qsort(all, count, sizeof *all, oracle_compare);
  for (uint32_t i = 0; i < a.count; i++) {
    uint32_t row = hits[i].ordinal;
    assert_true(row < r->count && has_bit(q->filter, row) && !seen[row]);
    seen[row] = true;
    float score = oracle_score(q->vector, r->data + (size_t)row * r->dimension, r->dimension, r->metric);
    assert_int_equal(float_bits(hits[i].score), float_bits(score));
    if (i > 0) assert_true(oracle_compare(&hits[i - 1], &hits[i]) < 0);
    a.recall += hits[i].score >= all[a.count - 1].score ? 1.0 / a.count : 0;
  }
  free(all);
  free(seen);
  return a;
}

static void make_query(const rows *r, uint32_t clusters, uint32_t number, float *out) {
  uint64_t state = 1000 + number;
  fill_row(r, CLUSTERED, clusters, random_below(&state, r->count), &state, out);
}

// ---------------------------------------------------------------------------------------------- strings

static void test_strings(void **state) {
  RAG_UNUSED(state);
  static const char *const good[] = {"Flat",
                                     "SQ8",
                                     "IVF256,Flat",
                                     "IVF64,PQ16",
                                     "IVF64,PQ16x4fs",
                                     "HNSW32",
                                     "HNSW16,SQ8",
                                     "PCA32,IVF64,SQ8",
                                     "PQ32x8",
                                     "OPQ16,IVF64,PQ16",
                                     "IVF256_HNSW32,Flat",
                                     "IVF64,PQ16,RFlat",
                                     "RR64,IVF16,PQ8",
                                     "PQ64x4fs,Refine(SQfp16)"};
  static const char *const bad[] = {"",
                                    " ",
                                    "flat",
                                    "IVF256",
                                    "IVF256,",
                                    "IVF,Flat",
                                    "IVF0,Flat",
                                    "IVF00,Flat",
                                    "PQ0",
                                    "IVF64,PQ0x4fs",
                                    "HNSW0",
                                    "PQ7",
                                    "IVF64,PQ48x13",
                                    "PQ8x24",
                                    "IVF99999999,Flat",
                                    "IVF2000000,Flat",
                                    "IVF99999999999999999999,Flat",
                                    "PCA0,Flat",
                                    "IDMap,Flat",
                                    "Flat,IDMap2",
                                    "NSG32",
                                    "IVF16(Index0),Flat",
                                    "IVF16(Index5),Flat",
                                    "IVF16(Flat",
                                    "IVF16)Flat(",
                                    "((((((((((",
                                    "RCQ2x4",
                                    "Residual64,PQ8",
                                    "IMI2x12,Flat",
                                    "IVF64,Flat;rm",
                                    "IVF64,\xc3\xa9",
                                    "IVF64,Flat\n",
                                    "%s%n"};
  rag_error err;
  for (size_t i = 0; i < RAG_COUNT_OF(good); i++) {
    for (int metric = RAG_METRIC_COSINE; metric <= RAG_METRIC_L2; metric++) {
      if (rag_faiss_check(good[i], 64, (rag_metric)metric, &err) != RAG_OK) fail_msg("%s: %s", good[i], err.message);
    }
  }
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    memset(&err, 0, sizeof err);
    if (rag_faiss_check(bad[i], 64, RAG_METRIC_COSINE, &err) != RAG_INVALID_ARGUMENT) fail_msg("\"%s\"", bad[i]);
    assert_string_equal(err.field, "index.factory");
    assert_true(strlen(err.message) > 10);
    assert_null(strstr(err.message, ".cpp")); // FAISS's reason, without its source lines
  }
  char too_long[300] = "PCA32";
  while (strlen(too_long) < 280) strcat(too_long, ",PCA32");
  assert_int_equal(rag_faiss_check(too_long, 64, RAG_METRIC_COSINE, &err), RAG_INVALID_ARGUMENT);
  // Kinds of squared distances serve unit vectors, and no inner products.
  assert_int_equal(rag_faiss_check("LSH", 64, RAG_METRIC_L2, &err), RAG_OK);
  assert_int_equal(rag_faiss_check("LSH", 64, RAG_METRIC_COSINE, &err), RAG_OK);
  assert_int_equal(rag_faiss_check("LSH", 64, RAG_METRIC_IP, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_faiss_rows_min("IVF4096,PQ64x4fs"), 4096);
  assert_int_equal(rag_faiss_rows_min("IVF64,PQ16"), 256);
  assert_int_equal(rag_faiss_rows_min("HNSW32"), 1);
}

static void test_too_few_rows(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 255, 16, RAG_METRIC_COSINE, 1, 4);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  rag_faiss_options options = {.threads = 1};
  rag_faiss *engine = NULL;
  rag_error err;
  assert_int_equal(rag_faiss_build(&fetch, 255, 16, r.metric, "IVF256,Flat", &options, &engine, &err),
                   RAG_FAILED_PRECONDITION);
  assert_non_null(strstr(err.message, "256"));
  assert_int_equal(rag_faiss_build(&fetch, 255, 16, r.metric, "PQ4", &options, &engine, &err), RAG_FAILED_PRECONDITION);
  options.threads = RAG_FAISS_THREADS_MAX + 1;
  assert_int_equal(rag_faiss_build(&fetch, 255, 16, r.metric, "Flat", &options, &engine, &err), RAG_INVALID_ARGUMENT);
  assert_null(engine);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- recall

typedef struct kind {
  const char *factory;
  double recall; // of the ten best, at the calibrated setting for 0.98
} kind;
static const kind kinds[] = {{"Flat", 1.0},
                             {"SQ8", 0.99},
                             {"IVF256,Flat", 0.96},
                             {"IVF64,PQ16", 0.96},
                             {"HNSW32", 0.97},
                             {"IVF64,PQ16x4fs", 0.96},
                             {"PCA16,IVF64,SQ8", 0.95},
                             {"HNSW16,SQ8", 0.97},
                             {"IVF64,PQ8,RFlat", 0.96},
                             {"PQ8x4fs,Refine(SQ8)", 0.95}};

static void test_recall(void **state) {
  RAG_UNUSED(state);
  rag_faiss_scratch *scratch = NULL;
  rag_index_hit hits[100];
  assert_int_equal(rag_faiss_scratch_create(&scratch, NULL), RAG_OK);
  for (int metric = RAG_METRIC_COSINE; metric <= RAG_METRIC_L2; metric++) {
    rows r = make_rows(CLUSTERED, 6000, 32, (rag_metric)metric, 60, 4);
    for (size_t i = 0; i < RAG_COUNT_OF(kinds); i += metric == RAG_METRIC_COSINE ? 1 : 2) {
      rag_faiss *engine = build_of(&r, kinds[i].factory, 100);
      const rag_faiss_meta *m = rag_faiss_about(engine);
      assert_true(m->rung_count > 0 && m->sample == 100);
      double at_10 = 0, at_100 = 0;
      for (uint32_t number = 0; number < 40; number++) {
        float vector[32];
        make_query(&r, 60, number, vector);
        rag_faiss_query q = query_of(&r, vector, K, NULL);
        faiss_answer a = ask_faiss(engine, &r, scratch, &q, hits);
        at_10 += a.recall / 40;
        if (number < 5) assert_int_equal(a.stats.way, RAG_FAISS_ASKED);
        assert_true(a.stats.rescored < r.count);
        q.k = 100;
        at_100 += ask_faiss(engine, &r, scratch, &q, hits).recall / 40;
      }
      if (at_10 < kinds[i].recall || at_100 < kinds[i].recall - 0.06) {
        fail_msg("%s, %s: recall %.4f of 10, %.4f of 100", kinds[i].factory, rag_metric_name(r.metric), at_10, at_100);
      }
      // The dearest setting of the calibration finds nearly everything.
      uint32_t value, take;
      rag_faiss_setting(engine, K, 1.0f, &value, &take);
      assert_true(m->rungs[m->rung_count - 1].recall_10 > 0.97);
      assert_true(take >= K);
      rag_faiss_destroy(engine);
    }
    free_rows(&r);
  }
  rag_faiss_scratch_destroy(scratch);
}

// A row is found by itself, whichever rows changed places for the calibration.
static void test_rows_keep_their_numbers(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 4000, 24, RAG_METRIC_L2, 1, 4);
  rag_faiss *engine = build_of(&r, "IVF16,Flat", 200);
  assert_int_equal(rag_faiss_about(engine)->held_count, 200);
  rag_faiss_scratch *scratch = NULL;
  assert_int_equal(rag_faiss_scratch_create(&scratch, NULL), RAG_OK);
  uint32_t *ordinals = malloc(r.count * sizeof *ordinals);
  assert_non_null(ordinals);
  for (uint32_t i = 0; i < r.count; i++) ordinals[i] = i * 3 + 7;
  for (uint32_t row = 0; row < r.count; row++) {
    rag_index_hit hit;
    rag_index_topk top;
    rag_index__topk_init(&top, &hit, 1, -FLT_MAX);
    rag_faiss_query q = query_of(&r, r.data + (size_t)row * r.dimension, 1, NULL);
    q.value = 1;
    q.ordinals = ordinals;
    assert_int_equal(rag_faiss_search(engine, &q, scratch, &top, NULL, NULL), RAG_OK);
    rag_index__topk_finish(&top);
    assert_int_equal(top.count, 1);
    assert_int_equal(hit.ordinal, ordinals[row]);
    assert_true(hit.score == 0);
  }
  free(ordinals);
  rag_faiss_scratch_destroy(scratch);
  rag_faiss_destroy(engine);
  free_rows(&r);
}

static void test_large_k(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 5000, 16, RAG_METRIC_COSINE, 40, 4);
  rag_index_hit *hits = malloc(RAG_INDEX_K_MAX * sizeof *hits);
  rag_faiss_scratch *scratch = NULL;
  assert_true(hits && rag_faiss_scratch_create(&scratch, NULL) == RAG_OK);
  static const char *const factories[] = {"IVF32,Flat", "HNSW16", "IVF32,PQ8", "Flat"};
  for (size_t i = 0; i < RAG_COUNT_OF(factories); i++) {
    rag_faiss *engine = build_of(&r, factories[i], 50);
    static const uint32_t ks[] = {1, 500, 3000, 5000, RAG_INDEX_K_MAX};
    for (size_t j = 0; j < RAG_COUNT_OF(ks); j++) {
      float vector[16];
      make_query(&r, 40, (uint32_t)j, vector);
      rag_faiss_query q = query_of(&r, vector, ks[j], NULL);
      faiss_answer a = ask_faiss(engine, &r, scratch, &q, hits);
      if (a.recall < 0.93) fail_msg("%s, k %u: %.3f", factories[i], ks[j], a.recall);
      // One list, and more rows wanted than it has.
      q.value = 1;
      ask_faiss(engine, &r, scratch, &q, hits);
    }
    rag_faiss_destroy(engine);
  }
  rag_faiss_scratch_destroy(scratch);
  free(hits);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- filters

static void test_filters(void **state) {
  RAG_UNUSED(state);
  static const double shares[] = {1.0, 0.9, 0.5, 0.3, 0.1, 0.01, 0.001, 0};
  rows r = make_rows(CLUSTERED, 8000, 32, RAG_METRIC_COSINE, 60, 4);
  uint64_t *filter = malloc((r.count / 64 + 1) * sizeof *filter);
  rag_faiss_scratch *scratch = NULL;
  rag_index_hit hits[K];
  assert_true(filter && rag_faiss_scratch_create(&scratch, NULL) == RAG_OK);
  for (size_t i = 0; i < RAG_COUNT_OF(kinds); i++) {
    rag_faiss *engine = build_of(&r, kinds[i].factory, 100);
    for (int region = 0; region < 2; region++) {
      for (size_t s = 0; s < RAG_COUNT_OF(shares); s++) {
        uint64_t seed = 3;
        memset(filter, 0, (r.count / 64 + 1) * sizeof *filter);
        for (uint32_t row = 0; row < r.count; row++) {
          // Clusters lie one behind the other: the first so many are a region.
          bool in = region ? row < shares[s] * r.count : (double)random_below(&seed, 100000) < shares[s] * 100000;
          if (in) filter[row / 64] |= 1ull << row % 64;
        }
        double recall = 0;
        uint32_t scanned = 0;
        for (uint32_t number = 0; number < 16; number++) {
          float vector[32];
          make_query(&r, 60, number, vector);
          rag_faiss_query q = query_of(&r, vector, K, filter);
          faiss_answer a = ask_faiss(engine, &r, scratch, &q, hits);
          recall += a.recall / 16;
          scanned += a.stats.way == RAG_FAISS_SCANNED && a.count > 0;
        }
        if (recall < kinds[i].recall - 0.015) {
          fail_msg("%s, %s %g: recall %.4f", kinds[i].factory, region ? "region" : "random", shares[s], recall);
        }
        if (shares[s] > 0 && shares[s] <= 0.1) assert_int_equal(scanned, 16);
        // Lists are asked, and what does not pass dropped, where most rows pass.
        if (strcmp(kinds[i].factory, "IVF256,Flat") == 0 && !region && shares[s] >= 0.5) assert_int_equal(scanned, 0);
      }
    }
    rag_faiss_destroy(engine);
  }
  rag_faiss_scratch_destroy(scratch);
  free(filter);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- files

static rag_status append(void *context, const void *data, size_t size, rag_error *err) {
  rag_buf *buf = context;
  rag_buf_append(buf, data, size);
  return rag_buf_check(buf, err);
}

static rag_status sink_fails(void *context, const void *data, size_t size, rag_error *err) {
  RAG_UNUSED(data);
  uint64_t *room = context;
  if (size > *room) return rag_fail(err, RAG_UNAVAILABLE, "no room today");
  *room -= size;
  return RAG_OK;
}

static void test_round_trip(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 5000, 32, RAG_METRIC_IP, 40, 4);
  rag_faiss_scratch *scratch = NULL;
  assert_int_equal(rag_faiss_scratch_create(&scratch, NULL), RAG_OK);
  for (size_t i = 0; i < RAG_COUNT_OF(kinds); i++) {
    rag_faiss *engine = build_of(&r, kinds[i].factory, 60), *opened = NULL;
    rag_index_hit ours[K], theirs[K];
    rag_buf index = {0}, again = {0};
    rag_faiss_sink sink = {append, &index};
    rag_error err = {0};
    float vector[32];
    make_query(&r, 40, 1, vector);
    rag_faiss_query q = query_of(&r, vector, K, NULL);
    ask_faiss(engine, &r, scratch, &q, ours); // a value is set by now
    assert_int_equal(rag_faiss_write(engine, &sink, &err), RAG_OK);
    assert_int_equal(index.size, rag_faiss_about(engine)->index_bytes);
    rag_slice meta = rag_faiss_meta_section(engine);
    if (rag_faiss_open(meta, rag_buf_slice(&index), r.count, 32, r.metric, &opened, &err) != RAG_OK) {
      fail_msg("%s: %s", kinds[i].factory, err.message);
    }
    for (uint32_t number = 0; number < 20; number++) {
      make_query(&r, 40, number, vector);
      faiss_answer a = ask_faiss(engine, &r, scratch, &q, ours), b = ask_faiss(opened, &r, scratch, &q, theirs);
      assert_memory_equal(ours, theirs, sizeof ours);
      assert_int_equal(a.stats.value, b.stats.value);
      assert_int_equal(a.stats.take, b.stats.take);
    }
    sink.context = &again;
    assert_int_equal(rag_faiss_write(opened, &sink, &err), RAG_OK);
    assert_true(rag_slice_equal(rag_buf_slice(&index), rag_buf_slice(&again)));
    rag_faiss_destroy(opened);
    opened = NULL;
    // Turned and cut bytes never reach FAISS.
    for (size_t at = 0; at < index.size; at += index.size / 40 + 1) {
      index.data[at] ^= 0x10;
      assert_int_equal(rag_faiss_open(meta, rag_buf_slice(&index), r.count, 32, r.metric, &opened, &err),
                       RAG_DATA_LOSS);
      index.data[at] ^= 0x10;
    }
    rag_slice cut = {index.data, index.size - 1};
    assert_int_equal(rag_faiss_open(meta, cut, r.count, 32, r.metric, &opened, &err), RAG_DATA_LOSS);
    cut = (rag_slice){meta.data, meta.size - 1};
    assert_int_equal(rag_faiss_open(cut, rag_buf_slice(&index), r.count, 32, r.metric, &opened, &err), RAG_DATA_LOSS);
    assert_int_equal(rag_faiss_open(meta, rag_buf_slice(&index), r.count - 1, 32, r.metric, &opened, &err),
                     RAG_DATA_LOSS);
    assert_int_equal(rag_faiss_open(meta, rag_buf_slice(&index), r.count, 32, RAG_METRIC_L2, &opened, &err),
                     RAG_DATA_LOSS);
    assert_null(opened);
    for (uint64_t room = 0; room < index.size; room += index.size / 5 + 1) {
      uint64_t left = room;
      rag_faiss_sink full = {sink_fails, &left};
      assert_int_equal(rag_faiss_write(engine, &full, &err), RAG_UNAVAILABLE);
      assert_string_equal(err.message, "no room today");
    }
    rag_buf_free(&index);
    rag_buf_free(&again);
    rag_faiss_destroy(engine);
  }
  rag_faiss_scratch_destroy(scratch);
  free_rows(&r);
}

// An index that FAISS reads, under a checksum that is right, and is not of these rows.
static void test_an_index_of_other_rows(void **state) {
  RAG_UNUSED(state);
  rows a = make_rows(RANDOM, 3000, 8, RAG_METRIC_L2, 1, 4), b = make_rows(RANDOM, 2999, 8, RAG_METRIC_L2, 1, 4);
  rag_faiss *of_a = build_of(&a, "Flat", 0), *of_b = build_of(&b, "Flat", 0), *opened = NULL;
  rag_buf index = {0};
  rag_faiss_sink sink = {append, &index};
  assert_int_equal(rag_faiss_write(of_b, &sink, NULL), RAG_OK);
  rag_faiss_meta meta = *rag_faiss_about(of_a);
  meta.index_bytes = index.size;
  meta.index_crc = rag_crc32c(0, index.data, index.size);
  rag_error err = {0};
  assert_int_equal(
      rag_faiss_open(rag_slice_of(&meta, sizeof meta), rag_buf_slice(&index), 3000, 8, a.metric, &opened, &err),
      RAG_DATA_LOSS);
  // And bytes that FAISS cannot read at all.
  char junk[64] = "IxZZ this is no index";
  meta.index_bytes = sizeof junk;
  meta.index_crc = rag_crc32c(0, junk, sizeof junk);
  assert_int_equal(rag_faiss_open(rag_slice_of(&meta, sizeof meta), rag_slice_of(junk, sizeof junk), 3000, 8, a.metric,
                                  &opened, &err),
                   RAG_FAILED_PRECONDITION);
  assert_true(strlen(err.message) > 10);
  assert_null(opened);
  rag_buf_free(&index);
  rag_faiss_destroy(of_a);
  rag_faiss_destroy(of_b);
  free_rows(&a);
  free_rows(&b);
}

// ---------------------------------------------------------------------------------------------- faults

static void test_no_memory(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 3000, 16, RAG_METRIC_COSINE, 20, 4);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  rag_faiss_options options = {.threads = 1, .sample = 5};
  bool failed = true;
  uint32_t turns = 0;
  for (uint64_t n = 1; failed; n++, turns++) {
    rag_faiss *engine = NULL;
    rag_error err = {0};
    rag_alloc_fail_after(n);
    rag_status status = rag_faiss_build(&fetch, r.count, 16, r.metric, "IVF16,SQ8", &options, &engine, &err);
    // What FAISS can do is asked with memory of ours; where there is none, it is taken to do less.
    failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_true(status == RAG_OK || (failed && status == RAG_RESOURCE_EXHAUSTED));
    assert_true((status == RAG_OK) == (engine != NULL));
    rag_faiss_destroy(engine);
  }
  assert_true(turns > 8);
  rag_faiss *engine = build_of(&r, "IVF16,SQ8", 20);
  float vector[16];
  rag_index_hit hits[K];
  make_query(&r, 20, 1, vector);
  rag_faiss_query q = query_of(&r, vector, K, NULL);
  failed = true;
  for (uint64_t n = 1; failed; n++) {
    rag_faiss_scratch *scratch = NULL;
    rag_index_topk top;
    rag_index__topk_init(&top, hits, K, -FLT_MAX);
    rag_alloc_fail_after(n);
    rag_status status = rag_faiss_scratch_create(&scratch, NULL);
    if (status == RAG_OK) status = rag_faiss_search(engine, &q, scratch, &top, NULL, NULL);
    failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    if (scratch) ask_faiss(engine, &r, scratch, &q, hits); // as good as before
    rag_faiss_scratch_destroy(scratch);
  }
  rag_faiss_destroy(engine);
  free_rows(&r);
}

// FAISS's own memory runs out: in a process of its own, with a limit a little above what it has.
static void test_no_memory_for_faiss(void **state) {
  RAG_UNUSED(state);
  if (SANITIZED) skip(); // the shadow memory is past every limit
  rows r = make_rows(RANDOM, 50000, 128, RAG_METRIC_L2, 1, 4);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;
    if (!file || fscanf(file, "%lu", &pages) != 1) _exit(9);
    fclose(file);
    struct rlimit limit = {pages * 4096 + (30u << 20), RLIM_INFINITY}; // the rows are 25 MB, blocks of them 16
    setrlimit(RLIMIT_AS, &limit);
    rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
    rag_faiss_options options = {.threads = 1};
    rag_faiss *engine = NULL;
    rag_error err = {0};
    rag_status status = rag_faiss_build(&fetch, r.count, 128, r.metric, "Flat", &options, &engine, &err);
    if (status != RAG_RESOURCE_EXHAUSTED) fprintf(stderr, "%s\n", err.message);
    _exit(status == RAG_RESOURCE_EXHAUSTED && !engine && strstr(err.message, "FAISS") ? 0 : 1 + (int)status);
  }
  int how = 0;
  assert_int_equal(waitpid(child, &how, 0), child);
  assert_true(WIFEXITED(how));
  assert_int_equal(WEXITSTATUS(how), 0);
  free_rows(&r);
}

static bool stop_at(void *context, uint64_t done, uint64_t total) {
  uint32_t *left = context;
  assert_true(done <= total);
  return (*left)-- > 0;
}

static void test_stopped(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 3000, 16, RAG_METRIC_COSINE, 20, 4);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  uint32_t turns = 0;
  rag_status status = RAG_CANCELLED;
  rag_error err;
  for (uint32_t n = 0; status == RAG_CANCELLED; n++, turns++) {
    uint32_t left = n;
    rag_faiss_options options = {.threads = 1, .sample = 5, .progress = stop_at, .progress_context = &left};
    rag_faiss *engine = NULL;
    status = rag_faiss_build(&fetch, r.count, 16, r.metric, "IVF16,Flat", &options, &engine, &err);
    assert_true(status == RAG_CANCELLED || status == RAG_OK);
    assert_true((engine != NULL) == (status == RAG_OK));
    rag_faiss_destroy(engine);
  }
  assert_true(turns > 2);
  rag_faiss_options options = {.threads = 1, .sample = 5};
  rag_faiss *engine = NULL;
  for (uint32_t left = 0; left < 60; left += 7) {
    r.fetches_left = left;
    assert_int_equal(rag_faiss_build(&fetch, r.count, 16, r.metric, "IVF16,Flat", &options, &engine, &err),
                     RAG_UNAVAILABLE);
    assert_string_equal(err.message, "no rows today");
    assert_null(engine);
  }
  r.fetches_left = UINT32_MAX;
  engine = build_of(&r, "IVF16,Flat", 5);
  rag_faiss_scratch *scratch = NULL;
  assert_int_equal(rag_faiss_scratch_create(&scratch, NULL), RAG_OK);
  rag_index_hit hits[K];
  rag_index_topk top;
  rag_index__topk_init(&top, hits, K, -FLT_MAX);
  rag_faiss_query q = query_of(&r, r.data, K, NULL);
  q.deadline_ns = 1;
  assert_int_equal(rag_faiss_search(engine, &q, scratch, &top, NULL, &err), RAG_DEADLINE_EXCEEDED);
  q.deadline_ns = 0;
  r.fetches_left = 0;
  assert_int_equal(rag_faiss_search(engine, &q, scratch, &top, NULL, &err), RAG_UNAVAILABLE);
  r.fetches_left = UINT32_MAX;
  ask_faiss(engine, &r, scratch, &q, hits);
  rag_faiss_scratch_destroy(scratch);
  rag_faiss_destroy(engine);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- threads

#define SEARCHES 60u
typedef struct searcher {
  const rag_faiss *engine;
  rows *r;
  uint32_t number;
  rag_index_hit hits[SEARCHES][K];
} searcher;

static uint32_t threads_now(void) {
  DIR *dir = opendir("/proc/self/task");
  assert_non_null(dir);
  uint32_t count = 0;
  for (struct dirent *entry; (entry = readdir(dir));) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

static void *search_all(void *arg) {
  searcher *s = arg;
  rag_faiss_scratch *scratch = NULL;
  assert_int_equal(rag_faiss_scratch_create(&scratch, NULL), RAG_OK);
  for (uint32_t i = 0; i < SEARCHES; i++) {
    float vector[16];
    make_query(s->r, 20, i, vector);
    rag_faiss_query q = query_of(s->r, vector, K, NULL);
    q.value = i % 3 == 0 ? 0 : 1 + i % 16; // they change it under each other
    rag_index_topk top;
    rag_index__topk_init(&top, s->hits[i], K, -FLT_MAX);
    assert_int_equal(rag_faiss_search(s->engine, &q, scratch, &top, NULL, NULL), RAG_OK);
    rag_index__topk_finish(&top);
    assert_int_equal(top.count, K);
  }
  rag_faiss_scratch_destroy(scratch);
  return NULL;
}

static void test_threads(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 6000, 16, RAG_METRIC_COSINE, 20, 4);
  static const char *const factories[] = {"IVF32,Flat", "HNSW16", "PCA8,IVF32,Flat"};
  for (size_t f = 0; f < RAG_COUNT_OF(factories); f++) {
    rag_faiss *engine = build_of(&r, factories[f], 50);
    static searcher alone, beside[4];
    alone = (searcher){.engine = engine, .r = &r};
    uint32_t before = threads_now();
    search_all(&alone);
    assert_int_equal(threads_now(), before); // OpenMP has started none
    pthread_t threads[4];
    for (uint32_t t = 0; t < 4; t++) {
      beside[t] = (searcher){.engine = engine, .r = &r, .number = t};
      assert_int_equal(pthread_create(&threads[t], NULL, search_all, &beside[t]), 0);
    }
    for (uint32_t t = 0; t < 4; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (uint32_t t = 0; t < 4; t++) assert_memory_equal(alone.hits, beside[t].hits, sizeof alone.hits);
    rag_faiss_destroy(engine);
  }
  free_rows(&r);
}

static void test_builds_leave_no_threads(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 6000, 16, RAG_METRIC_COSINE, 20, 4);
  uint32_t before = threads_now();
  build_threads = THREADS_MANY;
  rag_faiss_destroy(build_of(&r, "IVF32,Flat", 50));
  build_threads = 1;
  assert_int_equal(threads_now(), before);
  free_rows(&r);
}

static void test_refuses_without_faiss(void **state) {
  RAG_UNUSED(state);
  rag_error err;
  rag_faiss *engine = NULL;
  rag_faiss_scratch *scratch = NULL;
  rag_index_row_fetch fetch = {0};
  rag_faiss_options options = {0};
  rag_slice nothing = {NULL, 0};
  assert_int_equal(rag_faiss_check("Flat", 8, RAG_METRIC_L2, &err), RAG_UNIMPLEMENTED);
  assert_non_null(strstr(err.message, "without FAISS"));
  assert_int_equal(rag_faiss_build(&fetch, 1, 8, RAG_METRIC_L2, "Flat", &options, &engine, &err), RAG_UNIMPLEMENTED);
  assert_int_equal(rag_faiss_open(nothing, nothing, 1, 8, RAG_METRIC_L2, &engine, &err), RAG_UNIMPLEMENTED);
  assert_int_equal(rag_faiss_scratch_create(&scratch, &err), RAG_UNIMPLEMENTED);
  rag_faiss_destroy(engine);
  rag_faiss_scratch_destroy(scratch);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_strings),
                                     cmocka_unit_test(test_no_memory_for_faiss), // before threads: it forks
                                     cmocka_unit_test(test_too_few_rows),
                                     cmocka_unit_test(test_recall),
                                     cmocka_unit_test(test_rows_keep_their_numbers),
                                     cmocka_unit_test(test_large_k),
                                     cmocka_unit_test(test_filters),
                                     cmocka_unit_test(test_round_trip),
                                     cmocka_unit_test(test_an_index_of_other_rows),
                                     cmocka_unit_test(test_no_memory),
                                     cmocka_unit_test(test_stopped),
                                     cmocka_unit_test(test_threads),
                                     cmocka_unit_test(test_builds_leave_no_threads)};
  const struct CMUnitTest without[] = {cmocka_unit_test(test_refuses_without_faiss)};
  return have_faiss() ? cmocka_run_group_tests(tests, NULL, NULL) : cmocka_run_group_tests(without, NULL, NULL);
}
