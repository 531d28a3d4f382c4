// What the tests of index/graph share: rows of many kinds with their codes, a search that checks what holds for every
// answer (scores to the bit, order, filter, count), its recall against all rows in turn, and the soundness of a graph.
#ifndef RAGD_GRAPH_TESTING_H
#define RAGD_GRAPH_TESTING_H

#include "index/graph/graph_internal.h"
#include "index_testing.h"

typedef struct rows {
  uint32_t count, dimension;
  rag_metric metric;
  float *data;
  uint8_t *code;
  rag_codes_int8_factors *factors;
  rag_graph_codes codes;
  _Atomic uint32_t fetches_left; // atomic: threads search at once; 0: the next fetch fails
} rows;

typedef enum rows_kind { RANDOM, CLUSTERED, EQUAL, FEW_DISTINCT, LINE } rows_kind;

static inline float random_normal(uint64_t *state) { // near enough
  float sum = 0;
  for (int i = 0; i < 6; i++) sum += random_unit(state);
  return sum * 0.7f;
}

// Clusters lie one after another: row i is of cluster i * clusters / count.
static inline uint32_t cluster_of(const rows *r, uint32_t clusters, uint32_t row) {
  return (uint32_t)((uint64_t)row * clusters / r->count);
}

static inline void fill_row(const rows *r, rows_kind kind, uint32_t clusters, uint32_t row, uint64_t *state,
                            float *out) {
  uint64_t centre = (kind == FEW_DISTINCT ? row % clusters : cluster_of(r, clusters, row)) * 977 + 5;
  for (uint32_t d = 0; d < r->dimension; d++) {
    float noise = random_normal(state);
    if (kind == RANDOM) out[d] = noise;
    else if (kind == CLUSTERED) out[d] = random_normal(&centre) + 0.6f * noise;
    else if (kind == EQUAL) out[d] = 0.25f * (float)(d % 7 + 1);
    else if (kind == FEW_DISTINCT) out[d] = random_normal(&centre);
    else out[d] = (float)((row * 7919) % r->count) - (float)r->count / 3;
  }
  if (r->metric == RAG_METRIC_COSINE) rag_vector_normalize(out, r->dimension);
}

static inline rows make_rows(rows_kind kind, uint32_t count, uint32_t dimension, rag_metric metric, uint32_t clusters,
                             uint64_t seed) {
  rows r = {.count = count, .dimension = dimension, .metric = metric, .fetches_left = UINT32_MAX};
  uint32_t bytes = rag_codes_int8_bytes(dimension);
  r.data = malloc(((size_t)count * dimension + 1) * sizeof *r.data);
  r.code = malloc((size_t)count * bytes + 1);
  r.factors = malloc((count + 1) * sizeof *r.factors);
  assert_true(r.data && r.code && r.factors);
  for (uint32_t i = 0; i < count; i++) {
    float *row = r.data + (size_t)i * dimension;
    fill_row(&r, kind, clusters, i, &seed, row);
    rag_codes_int8_encode(row, dimension, r.code + (size_t)i * bytes, &r.factors[i]);
  }
  r.codes = (rag_graph_codes){r.code, bytes, r.factors, count, dimension, metric};
  return r;
}
static inline void free_rows(rows *r) {
  free(r->data);
  free(r->code);
  free(r->factors);
}

static inline rag_status fetch_row(void *context, const uint32_t *ids, uint32_t count, const void **out,
                                   rag_error *err) {
  rows *r = context;
  assert_true(count > 0 && count <= RAG_INDEX_ROW_FETCH_MAX);
  if (r->fetches_left == 0) return rag_fail(err, RAG_UNAVAILABLE, "no rows today");
  if (r->fetches_left != UINT32_MAX) r->fetches_left--;
  for (uint32_t i = 0; i < count; i++) {
    assert_true(ids[i] < r->count);
    out[i] = r->data + (size_t)ids[i] * r->dimension;
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- graphs

// Every row is met from the entry, and no list has a row twice or its own.
static inline void assert_sound(const rag_graph *g) {
  uint32_t count = g->meta.rows, met = 0, slots = 2 * g->meta.m;
  if (count == 0) return;
  bool *seen = calloc(count, 1);
  uint32_t *queue = malloc(count * sizeof *queue);
  assert_true(seen && queue);
  seen[g->meta.entry] = true;
  queue[met++] = g->meta.entry;
  for (uint32_t at = 0; at < met; at++) {
    const uint32_t *list = g->links + (size_t)queue[at] * slots;
    for (uint32_t i = 0; i < slots && list[i] != RAG_GRAPH_NONE; i++) {
      assert_true(list[i] < count && list[i] != queue[at]);
      for (uint32_t j = 0; j < i; j++) assert_int_not_equal(list[i], list[j]);
      if (!seen[list[i]]) {
        seen[list[i]] = true;
        queue[met++] = list[i];
      }
    }
  }
  assert_int_equal(met, count);
  free(seen);
  free(queue);
}

static inline rag_graph *build_with(const rows *r, const rag_graph_options *options) {
  rag_graph *g = NULL;
  rag_error err = {0};
  if (rag_graph_build(&r->codes, options, &g, &err) != RAG_OK) fail_msg("build: %s", err.message);
  assert_sound(g);
  return g;
}
static inline rag_graph *build(const rows *r, uint32_t m, uint32_t ef_construction) {
  return build_with(r, &(rag_graph_options){.m = m, .ef_construction = ef_construction, .seed = 11});
}

// ---------------------------------------------------------------------------------------------- searches

static inline bool has_bit(const uint64_t *filter, uint32_t row) {
  return !filter || (filter[row / 64] >> row % 64 & 1);
}
static inline uint64_t count_bits(const uint64_t *filter, uint32_t count) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < count; i++) n += has_bit(filter, i);
  return n;
}

typedef struct answer {
  uint32_t count;
  rag_graph_stats stats;
  double recall; // of as many as could be found; a row as good as the worst of the truth counts
} answer;

// Asks, checks everything that holds whatever was found, and measures.
static inline answer ask(const rag_graph *g, rows *r, rag_graph_scratch *scratch, const float *query, uint32_t k,
                         uint32_t ef, const uint64_t *filter, rag_index_hit *hits) {
  uint64_t survivors = filter ? count_bits(filter, r->count) : r->count;
  rag_graph_query q = {.vector = query,
                       .k = k,
                       .ef = ef,
                       .filter = filter,
                       .survivors = survivors,
                       .fetch = {.rows = fetch_row, .context = r}};
  answer a = {0};
  rag_index_topk top;
  rag_error err = {0};
  rag_index__topk_init(&top, hits, k, -FLT_MAX);
  if (rag_graph_search(g, &r->codes, &q, scratch, &top, &a.stats, &err) != RAG_OK) fail_msg("search: %s", err.message);
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

#endif
