#include "engines.h"
#include "index/graph/graph_internal.h"
#include "index/ivf/ivf_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SAMPLE 200u // rows asked for the calibration, a part of every build

struct engine {
  engine_kind kind;
  const matrix *base;
  uint8_t *codes;
  size_t stride;
  rag_codes_int8_factors *factors;
  rag_graph *graph;
  rag_ivf_centroids *centroids;
  rag_ivf *ivf;
  rag_index *flat;
  rag_index_view *view;
};

struct searcher {
  const engine *e;
  uint32_t ef, nprobe, rerank; // rerank: for each of k
  rag_graph_scratch *graph;
  rag_ivf_scratch *ivf;
};

void fail(const char *what) {
  fprintf(stderr, "bench_ann: %s\n", what);
  exit(1);
}

void check(rag_status status, const rag_error *err) {
  if (status != RAG_OK) fail(err->message);
}

uint32_t number_of(rag_json object, const char *name, uint32_t otherwise) {
  rag_json value;
  return rag_json_find(object, rag_slice_str(name), &value) ? (uint32_t)rag_json_int(value) : otherwise;
}

// ---------------------------------------------------------------------------------------------- sweeps

void engine_sweep(engine_kind kind, uint32_t rows, rag_buf *out) {
  static const uint32_t efs[] = {10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
  static const uint32_t probes[] = {2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384};
  if (kind == KIND_FLAT) {
    rag_buf_append_str(out, "[{\"build\": {\"rows\": \"float32\"}, \"searches\": [{}]}]");
    return;
  }
  uint32_t lists = rag_ivf_default_lists(rows);
  const uint32_t graphs[][2] = {{16, 100}, {16, 200}, {32, 100}}, ivfs[] = {lists, lists / 2};
  size_t builds = kind == KIND_GRAPH ? RAG_COUNT_OF(graphs) : RAG_COUNT_OF(ivfs);
  for (size_t i = 0; i < builds; i++) {
    rag_buf_append_str(out, i == 0 ? "[" : ", ");
    if (kind == KIND_GRAPH) {
      rag_buf_printf(out, "{\"build\": {\"m\": %u, \"ef_construction\": %u}, \"searches\": [", graphs[i][0],
                     graphs[i][1]);
      for (size_t j = 0; j < RAG_COUNT_OF(efs); j++) rag_buf_printf(out, "%s{\"ef\": %u}", j ? ", " : "", efs[j]);
    } else {
      rag_buf_printf(out, "{\"build\": {\"lists\": %u}, \"searches\": [", ivfs[i]);
      for (size_t j = 0; j < 2 * RAG_COUNT_OF(probes); j++) {
        rag_buf_printf(out, "%s{\"nprobe\": %u, \"refine\": %u}", j ? ", " : "", probes[j % RAG_COUNT_OF(probes)],
                       j < RAG_COUNT_OF(probes) ? 5u : 20u);
      }
    }
    rag_buf_append_str(out, "]}");
  }
  rag_buf_append_str(out, "]");
}

// ---------------------------------------------------------------------------------------------- builds

static rag_status fetch_rows(void *context, const uint32_t *ids, uint32_t count, const void **out, rag_error *err) {
  const matrix *base = context;
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < count; i++) out[i] = base->floats + (size_t)ids[i] * base->columns;
  return RAG_OK;
}

engine *engine_create(engine_kind kind, const matrix *base) {
  engine *e = rag_calloc(1, sizeof *e);
  if (!e) fail("out of memory");
  e->kind = kind;
  e->base = base;
  e->stride = rag_codes_int8_bytes(base->columns);
  return e;
}

typedef struct share {
  engine *e;
  uint32_t begin, end;
} share;

static void *encode(void *arg) {
  const share *s = arg;
  const matrix *base = s->e->base;
  for (uint32_t row = s->begin; row < s->end; row++) {
    rag_codes_int8_encode(base->floats + (size_t)row * base->columns, base->columns, s->e->codes + row * s->e->stride,
                          &s->e->factors[row]);
  }
  return NULL;
}

static void make_codes(engine *e, uint32_t threads) {
  uint32_t rows = e->base->rows;
  e->codes = rag_aligned_alloc(64, rows * e->stride);
  e->factors = rag_aligned_alloc(64, ((size_t)rows * sizeof *e->factors + 63) / 64 * 64);
  if (!e->codes || !e->factors) fail("out of memory");
  share shares[64];
  pthread_t others[64];
  threads = RAG_MIN(RAG_MAX(threads, 1u), 64u);
  for (uint32_t t = 0; t < threads; t++) {
    shares[t] = (share){e, (uint32_t)((uint64_t)rows * t / threads), (uint32_t)((uint64_t)rows * (t + 1) / threads)};
    if (t > 0 && pthread_create(&others[t], NULL, encode, &shares[t]) != 0) fail("no thread");
  }
  encode(&shares[0]);
  for (uint32_t t = 1; t < threads; t++) pthread_join(others[t], NULL);
}

static rag_graph_codes graph_codes(const engine *e) {
  return (rag_graph_codes){e->codes, e->stride, e->factors, e->base->rows, e->base->columns, RAG_METRIC_COSINE};
}
static rag_ivf_codes ivf_codes(const engine *e) {
  return (rag_ivf_codes){e->codes, e->stride, e->factors, e->base->rows, e->base->columns, RAG_METRIC_COSINE};
}

static void build_graph(engine *e, rag_json build, uint32_t threads) {
  rag_graph_codes codes = graph_codes(e);
  rag_index_row_fetch fetch = {.rows = fetch_rows, .context = (void *)(uintptr_t)e->base};
  rag_graph_options options = {.m = number_of(build, "m", 0),
                               .ef_construction = number_of(build, "ef_construction", 0),
                               .threads = threads,
                               .seed = 1,
                               .sample = SAMPLE,
                               .fetch = &fetch};
  rag_error err;
  check(rag_graph_build(&codes, &options, &e->graph, &err), &err);
}

// Centroids are trained on a sample of the rows, as a space's are.
static void build_ivf(engine *e, rag_json build, uint32_t threads) {
  rag_ivf_codes codes = ivf_codes(e), sample = codes;
  uint32_t lists = number_of(build, "lists", rag_ivf_default_lists(codes.rows));
  uint32_t wanted = RAG_MIN(lists * RAG_IVF_SAMPLE_FOR_EACH_LIST, codes.rows);
  uint8_t *some = NULL;
  rag_codes_int8_factors *factors = NULL;
  if (wanted < codes.rows) {
    some = rag_aligned_alloc(64, wanted * e->stride);
    factors = rag_alloc(wanted * sizeof *factors);
    if (!some || !factors) fail("out of memory");
    for (uint32_t i = 0; i < wanted; i++) {
      uint32_t row = (uint32_t)((uint64_t)codes.rows * i / wanted);
      memcpy(some + i * e->stride, e->codes + row * e->stride, e->stride);
      factors[i] = e->factors[row];
    }
    sample = (rag_ivf_codes){some, e->stride, factors, wanted, codes.dimension, codes.metric};
  }
  rag_ivf_train_options training = {.lists = lists, .threads = threads, .seed = 1};
  rag_index_row_fetch fetch = {.rows = fetch_rows, .context = (void *)(uintptr_t)e->base};
  rag_ivf_options options = {.threads = threads, .seed = 1, .sample = SAMPLE, .fetch = &fetch};
  rag_error err;
  check(rag_ivf_train(&sample, &training, &e->centroids, &err), &err);
  check(rag_ivf_build(e->centroids, &codes, &options, &e->ivf, &err), &err);
  rag_free(some);
  rag_free(factors);
  // A segment with lists keeps no int8 plane: what its bits cannot rule out is scored from the rows.
  rag_free(e->codes);
  rag_free(e->factors);
  e->codes = NULL;
  e->factors = NULL;
}

static void build_flat(engine *e) {
  rag_index_options options = {.dimension = e->base->columns, .metric = RAG_METRIC_COSINE, .engine = "flat"};
  rag_error err;
  uint32_t *ordinals = rag_alloc(e->base->rows * sizeof *ordinals);
  if (!ordinals) fail("out of memory");
  for (uint32_t row = 0; row < e->base->rows; row++) ordinals[row] = row;
  check(rag_index_create(&options, &e->flat, &err), &err);
  check(rag_index_append(e->flat, ordinals, e->base->rows, e->base->floats, &err), &err);
  e->view = rag_index_pin(e->flat);
  rag_free(ordinals);
}

void engine_build(engine *e, rag_json build, uint32_t threads) {
  if (e->kind == KIND_FLAT) {
    build_flat(e);
    return;
  }
  make_codes(e, threads);
  if (e->kind == KIND_GRAPH) build_graph(e, build, threads);
  else build_ivf(e, build, threads);
}

uint64_t engine_stored_bytes(const engine *e) {
  if (e->kind == KIND_FLAT) return (uint64_t)e->base->rows * e->base->columns * sizeof(float);
  uint64_t codes = (uint64_t)e->base->rows * (e->stride + sizeof *e->factors);
  if (e->kind == KIND_GRAPH) return codes + rag_graph_bytes(e->graph);
  return rag_ivf_bytes(e->ivf) + rag_ivf_centroids_section(e->centroids).size;
}

// ---------------------------------------------------------------------------------------------- searches

searcher *searcher_create(const engine *e) {
  searcher *s = rag_calloc(1, sizeof *s);
  rag_error err;
  if (!s) fail("out of memory");
  s->e = e;
  check(rag_graph_scratch_create(&s->graph, &err), &err);
  check(rag_ivf_scratch_create(&s->ivf, &err), &err);
  return s;
}

void searcher_destroy(searcher *s) {
  rag_graph_scratch_destroy(s->graph);
  rag_ivf_scratch_destroy(s->ivf);
  rag_free(s);
}

void searcher_set(searcher *s, rag_json search) {
  s->ef = number_of(search, "ef", 0);
  s->nprobe = number_of(search, "nprobe", 0);
  s->rerank = number_of(search, "refine", 0);
}

static void search_flat(searcher *s, const float *vector, uint32_t k, const row_filter *filter, rag_index_hit *hits,
                        uint32_t *out_count) {
  rag_index_query query = {.vector = vector, .k = k, .filter = filter ? filter->bitmap : NULL};
  rag_error err;
  check(rag_index_search(s->e->view, &query, hits, out_count, NULL, &err), &err);
}

void searcher_search(searcher *s, const float *vector, uint32_t k, const row_filter *filter, int32_t *ids) {
  const engine *e = s->e;
  void *base = (void *)(uintptr_t)e->base;
  rag_index_hit hits[100];
  if (k > RAG_COUNT_OF(hits)) fail("k is over 100");
  rag_index_topk top;
  rag_error err;
  rag_index__topk_init(&top, hits, k, -FLT_MAX);
  const uint64_t *words = filter ? filter->words : NULL;
  uint64_t survivors = filter ? filter->survivors : 0;
  if (e->kind == KIND_FLAT) {
    search_flat(s, vector, k, filter, hits, &top.count);
  } else if (e->kind == KIND_GRAPH) {
    rag_graph_codes codes = graph_codes(e);
    rag_graph_query query = {.vector = vector,
                             .k = k,
                             .ef = s->ef,
                             .filter = words,
                             .survivors = survivors,
                             .fetch = {.rows = fetch_rows, .context = base}};
    check(rag_graph_search(e->graph, &codes, &query, s->graph, &top, NULL, &err), &err);
    rag_index__topk_finish(&top);
  } else {
    rag_ivf_codes codes = ivf_codes(e);
    rag_ivf_query query = {.vector = vector,
                           .k = k,
                           .nprobe = s->nprobe,
                           .rerank = s->rerank * k,
                           .filter = words,
                           .survivors = survivors,
                           .fetch = {.rows = fetch_rows, .context = base}};
    check(rag_ivf_search(e->ivf, &codes, &query, s->ivf, &top, NULL, &err), &err);
    rag_index__topk_finish(&top);
  }
  for (uint32_t i = 0; i < k; i++) ids[i] = i < top.count ? (int32_t)hits[i].ordinal : -1;
}
