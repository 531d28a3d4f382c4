// What the tests of index/ivf share, upon the rows and the oracle of graph_testing.h: centroids and lists of such rows, a
// search that checks what holds for every answer (scores to the bit, order, filter, count), and its recall.
#ifndef RAGD_IVF_TESTING_H
#define RAGD_IVF_TESTING_H

#include "graph_testing.h"
#include "index/ivf/ivf_internal.h"

static inline rag_ivf_codes codes_of(const rows *r) {
  return (rag_ivf_codes){r->codes.base, r->codes.stride, r->codes.factors, r->count, r->dimension, r->metric};
}

// In a build without FAISS: rows picked evenly, and a few rounds of Lloyd's. Answers are checked there as elsewhere, but
// recall was measured with FAISS's centroids.
static bool trained_by_faiss = true;

static inline void train_plainly(const rows *r, uint32_t lists, float *out) {
  uint32_t dimension = r->dimension;
  double *sums = malloc((size_t)lists * dimension * sizeof *sums);
  uint32_t *counts = malloc(lists * sizeof *counts);
  float *distances = malloc(lists * sizeof *distances);
  assert_true(sums && counts && distances);
  for (uint32_t i = 0; i < lists; i++) {
    uint64_t row = (uint64_t)i * r->count / lists;
    memcpy(out + (size_t)i * dimension, r->data + row * dimension, dimension * sizeof *out);
  }
  for (int round = 0; round < 5; round++) {
    memset(sums, 0, (size_t)lists * dimension * sizeof *sums);
    memset(counts, 0, lists * sizeof *counts);
    for (uint32_t i = 0; i < r->count; i++) {
      const float *row = r->data + (size_t)i * dimension;
      uint32_t best = 0;
      rag_kernels_best()->l2_squared_rows(row, out, dimension, lists, dimension, distances);
      for (uint32_t c = 1; c < lists; c++) {
        if (distances[c] < distances[best]) best = c;
      }
      for (uint32_t d = 0; d < dimension; d++) sums[(size_t)best * dimension + d] += (double)row[d];
      counts[best]++;
    }
    for (size_t i = 0; i < (size_t)lists * dimension; i++) {
      if (counts[i / dimension] > 0) out[i] = (float)(sums[i] / counts[i / dimension]);
    }
  }
  free(distances);
  free(counts);
  free(sums);
}

static inline rag_ivf_centroids *train(const rows *r, uint32_t lists, uint32_t threads) {
  rag_ivf_centroids *c = NULL;
  rag_error err = {0};
  rag_ivf_codes codes = codes_of(r);
  rag_ivf_train_options options = {.lists = lists, .threads = threads, .seed = 5};
  rag_status status = rag_ivf_train(&codes, &options, &c, &err);
  if (status == RAG_UNIMPLEMENTED) {
    trained_by_faiss = false;
    uint32_t count = lists ? lists : rag_ivf_default_lists(r->count);
    float *vectors = malloc((size_t)count * r->dimension * sizeof *vectors);
    assert_non_null(vectors);
    train_plainly(r, count, vectors);
    status = rag_ivf_centroids_create(vectors, count, &codes, threads, 5, &c, &err);
    free(vectors);
  }
  if (status != RAG_OK) fail_msg("train: %s", err.message);
  return c;
}

static inline rag_ivf *build_ivf(const rag_ivf_centroids *c, const rows *r, const rag_ivf_options *options) {
  rag_ivf *ivf = NULL;
  rag_error err = {0};
  rag_ivf_codes codes = codes_of(r);
  if (rag_ivf_build(c, &codes, options, &ivf, &err) != RAG_OK) fail_msg("build: %s", err.message);
  return ivf;
}

// Every row is there once, and a second time at most, elsewhere; rows ascend in a list.
static inline void assert_lists_sound(const rag_ivf *ivf) {
  uint32_t firsts = 0;
  for (uint32_t list = 0; list < ivf->meta.lists; list++) {
    for (uint32_t i = ivf->lists[list]; i < ivf->lists[list + 1]; i++) {
      uint32_t row = ivf->rows[i] & ~RAG_IVF_SECOND;
      assert_true(row < ivf->meta.rows);
      if (i > ivf->lists[list]) assert_true((ivf->rows[i - 1] & ~RAG_IVF_SECOND) < row);
      firsts += !(ivf->rows[i] & RAG_IVF_SECOND);
    }
  }
  assert_int_equal(firsts, ivf->meta.rows);
}

static inline void assert_same_ivf(const rag_ivf *a, const rag_ivf *b) {
  rag_slice x[RAG_IVF_SECTIONS], y[RAG_IVF_SECTIONS];
  rag_ivf_sections(a, x);
  rag_ivf_sections(b, y);
  for (int i = 0; i < RAG_IVF_SECTIONS; i++) assert_true(rag_slice_equal(x[i], y[i]));
}

typedef struct ivf_answer {
  uint32_t count;
  rag_ivf_stats stats;
  double recall; // of as many as could be found; a row as good as the worst of the truth counts
} ivf_answer;

// Asks, checks everything that holds whatever was found, and measures. codes->base may be NULL.
static inline ivf_answer ask_codes(const rag_ivf *ivf, rows *r, const rag_ivf_codes *codes, rag_ivf_scratch *scratch,
                                   const float *query, uint32_t k, uint32_t nprobe, const uint64_t *filter,
                                   rag_index_hit *hits) {
  uint64_t survivors = filter ? count_bits(filter, r->count) : r->count;
  rag_ivf_query q = {
      .vector = query, .k = k, .nprobe = nprobe, .filter = filter, .survivors = survivors, .fetch = {fetch_row, r}};
  ivf_answer a = {0};
  rag_index_topk top;
  rag_error err = {0};
  rag_index__topk_init(&top, hits, k, -FLT_MAX);
  if (rag_ivf_search(ivf, codes, &q, scratch, &top, &a.stats, &err) != RAG_OK) fail_msg("search: %s", err.message);
  rag_index__topk_finish(&top);
  a.count = top.count;
  assert_int_equal(a.count, RAG_MIN((uint64_t)k, survivors));
  rag_index_hit *all = malloc((r->count + 1) * sizeof *all);
  bool *seen = calloc(r->count + 1, 1);
  assert_true(all && seen);
  uint32_t passing = 0;
  for (uint32_t i = 0; i < r->count; i++) {
    if (!has_bit(filter, i)) continue;
    all[passing++] =
        (rag_index_hit){i, oracle_score(query, r->data + (size_t)i * r->dimension, r->dimension, r->metric)};
  }
  qsort(all, passing, sizeof *all, oracle_compare);
  for (uint32_t i = 0; i < a.count; i++) {
    uint32_t row = hits[i].ordinal;
    assert_true(row < r->count);
    assert_true(has_bit(filter, row));
    assert_false(seen[row]);
    seen[row] = true;
    float score = oracle_score(query, r->data + (size_t)row * r->dimension, r->dimension, r->metric);
    assert_int_equal(float_bits(hits[i].score), float_bits(score));
    if (i > 0) assert_true(oracle_compare(&hits[i - 1], &hits[i]) < 0);
    a.recall += (hits[i].score >= all[a.count - 1].score ? 1.0 : 0.0) / a.count;
  }
  if (a.count == 0) a.recall = 1;
  free(all);
  free(seen);
  return a;
}
static inline ivf_answer ask_ivf(const rag_ivf *ivf, rows *r, rag_ivf_scratch *scratch, const float *query, uint32_t k,
                                 uint32_t nprobe, const uint64_t *filter, rag_index_hit *hits) {
  rag_ivf_codes codes = codes_of(r);
  return ask_codes(ivf, r, &codes, scratch, query, k, nprobe, filter, hits);
}

#endif
