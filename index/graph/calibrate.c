// What a walk finds at each ef: rows that are not in the graph yet are asked for their nearest among those that are.
//
// Rows that are in the graph would be easier to find than any other query, as their links were made for them. The truth
// is a scan by codes whose best rows are scored exactly: it keeps more of them than codes can put in the wrong order.
//
// Threads take queries in turn; what each found stands at its query's place, and the sums are made in that order.
#include "index/graph/graph_internal.h"

#define TRUTH 100u
#define TRUTH_BY_CODES 200u // kept by codes
#define SCAN_ROWS 256u
#define RECALL_ENOUGH 0.9995f // no further rung

static const uint32_t ladder[] = {10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
_Static_assert(RAG_COUNT_OF(ladder) <= RAG_GRAPH_RUNGS_MAX, "room for every rung");

typedef struct judge judge;
typedef struct clerk { // a thread's
  judge *j;
  rag_graph__walker *walker;
  rag_graph_scratch *scratch;
  rag_status status;
  rag_error err;
  uint8_t *decoded; // where nothing is fetched: RAG_INDEX_ROW_FETCH_MAX rows
} clerk;

typedef struct finding { // of one query
  double recall_10, recall_100, scored;
} finding;

struct judge {
  const rag_graph *graph;
  const rag_graph_codes *codes;
  const uint64_t *inside;
  const uint32_t *sample;
  const rag_index_row_fetch *fetch; // NULL: decoded codes
  uint32_t count;                   // queries
  float *vectors;
  rag_index_hit *truth; // TRUTH for each query
  uint32_t truth_count;
  finding *found;
  uint32_t ef; // of the rung; 0: the truth is looked for
  clerk *clerks;
  uint32_t threads;
  rag_pool *pool;           // NULL: one thread
  _Atomic uint32_t claimed; // atomic, relaxed: only the numbers matter, the pool's lock orders the data
};

// Stands in for a fetch: what the codes say.
static rag_status fetch_decoded(void *context, const uint32_t *ids, uint32_t count, const void **out, rag_error *err) {
  clerk *c = context;
  const rag_graph_codes *codes = c->j->codes;
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < count; i++) {
    float *row = (float *)(void *)c->decoded + (size_t)i * codes->dimension;
    rag_codes_int8_decode(codes->base + ids[i] * codes->stride, &codes->factors[ids[i]], codes->dimension, row);
    out[i] = row;
  }
  return RAG_OK;
}

static rag_index_row_fetch fetch_of(clerk *c) {
  return c->j->fetch ? *c->j->fetch : (rag_index_row_fetch){.rows = fetch_decoded, .context = c};
}

static rag_status find_truth(clerk *c, uint32_t number, rag_error *err) {
  judge *j = c->j;
  rag_graph__walker *w = c->walker;
  const rag_graph_codes *codes = j->codes;
  rag_index_row_fetch fetch = fetch_of(c);
  float *vector = j->vectors + (size_t)number * codes->dimension;
  RAG_TRY(rag_index__fetch_copy(&fetch, &j->sample[number], 1, codes->dimension, vector, err));
  rag_index_hit hits[TRUTH_BY_CODES];
  rag_index_topk by_codes, top;
  rag_index__topk_init(&by_codes, hits, TRUTH_BY_CODES, -FLT_MAX);
  rag_index__topk_init(&top, j->truth + (size_t)number * TRUTH, TRUTH, -FLT_MAX);
  rag_graph__walker_ask(w, vector);
  for (uint32_t first = 0; first < codes->rows; first += SCAN_ROWS) {
    uint32_t count = RAG_MIN(SCAN_ROWS, codes->rows - first);
    w->kernels->int8_rows(&w->query, codes->base + first * codes->stride, codes->stride, count, w->dots);
    rag_codes_int8_scores(&w->query, codes->metric, codes->factors + first, NULL, w->dots, count, w->scores);
    for (uint32_t i = 0; i < count; i++) {
      uint32_t row = first + i;
      if (j->inside[row / 64] >> row % 64 & 1) rag_index__topk_offer(&by_codes, row, w->scores[i]);
    }
  }
  rag_index__topk_finish(&by_codes);
  for (uint32_t done = 0; done < by_codes.count;) {
    uint32_t ids[RAG_INDEX_ROW_FETCH_MAX], count = RAG_MIN(RAG_INDEX_ROW_FETCH_MAX, by_codes.count - done);
    float raw[RAG_INDEX_ROW_FETCH_MAX];
    for (uint32_t i = 0; i < count; i++) ids[i] = hits[done + i].ordinal;
    RAG_TRY(rag_index__fetch_score(&fetch, codes->metric, vector, ids, count, codes->dimension, raw, err));
    for (uint32_t i = 0; i < count; i++) rag_index__topk_offer(&top, ids[i], rag_index__score(codes->metric, raw[i]));
    done += count;
  }
  rag_index__topk_finish(&top);
  j->found[number].scored = top.count; // the same for every query
  return RAG_OK;
}

// The part of the `k` best of the truth that is in hits; a row as good as the worst of them counts as it.
static double recall_of(const rag_index_hit *truth, const rag_index_hit *hits, uint32_t count, uint32_t k) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < count && i < k; i++) found += hits[i].score >= truth[k - 1].score;
  return (double)found / k;
}

static bool is_of_100(const judge *j) {
  return j->ef >= TRUTH && j->truth_count == TRUTH;
}

static rag_status search(clerk *c, uint32_t number, rag_error *err) {
  const judge *j = c->j;
  uint32_t k = is_of_100(j) ? TRUTH : RAG_MIN(10u, j->truth_count);
  rag_index_hit hits[TRUTH];
  rag_index_topk top;
  rag_index__topk_init(&top, hits, k, -FLT_MAX);
  rag_graph_query query = {
      .vector = j->vectors + (size_t)number * j->codes->dimension, .k = k, .ef = j->ef, .fetch = fetch_of(c)};
  rag_graph_stats stats;
  RAG_TRY(rag_graph_search(j->graph, j->codes, &query, c->scratch, &top, &stats, err));
  rag_index__topk_finish(&top);
  const rag_index_hit *truth = j->truth + (size_t)number * TRUTH;
  j->found[number] = (finding){.recall_10 = recall_of(truth, hits, top.count, RAG_MIN(10u, j->truth_count)),
                               .recall_100 = is_of_100(j) ? recall_of(truth, hits, top.count, TRUTH) : 0,
                               .scored = (double)stats.scored};
  return RAG_OK;
}

static void take_queries(void *arg) {
  clerk *c = arg;
  judge *j = c->j;
  while (c->status == RAG_OK) {
    uint32_t number = atomic_fetch_add_explicit(&j->claimed, 1, memory_order_relaxed);
    if (number >= j->count) return;
    c->status = j->ef == 0 ? find_truth(c, number, &c->err) : search(c, number, &c->err);
  }
}

static rag_status ask_all(judge *j, uint32_t ef, rag_error *err) {
  rag_status status = RAG_OK;
  j->ef = ef;
  atomic_store_explicit(&j->claimed, 0, memory_order_relaxed);
  for (uint32_t t = 1; t < j->threads && status == RAG_OK; t++)
    status = rag_pool_submit(j->pool, take_queries, &j->clerks[t]);
  if (status == RAG_OK) take_queries(&j->clerks[0]);
  if (j->pool) rag_pool_drain(j->pool);
  if (status != RAG_OK) return rag_fail(err, status, "a thread of the calibration could not begin");
  for (uint32_t t = 0; t < j->threads; t++) {
    if (j->clerks[t].status == RAG_OK) continue;
    if (err) *err = j->clerks[t].err;
    return j->clerks[t].status;
  }
  return RAG_OK;
}

static rag_status climb(judge *j, uint32_t ef, rag_index_rung *out, rag_error *err) {
  finding sum = {0};
  RAG_TRY(ask_all(j, ef, err));
  for (uint32_t i = 0; i < j->count; i++) {
    sum.recall_10 += j->found[i].recall_10;
    sum.recall_100 += j->found[i].recall_100;
    sum.scored += j->found[i].scored;
  }
  *out = (rag_index_rung){.width = ef,
                          .recall_10 = (float)(sum.recall_10 / j->count),
                          .recall_100 = is_of_100(j) ? (float)(sum.recall_100 / j->count) : -1.0f,
                          .cost = (float)(sum.scored / j->count)};
  return RAG_OK;
}

static rag_status measure(judge *j, rag_graph_meta *meta, rag_error *err) {
  RAG_TRY(ask_all(j, 0, err));
  j->truth_count = j->count > 0 ? (uint32_t)j->found[0].scored : 0;
  if (j->truth_count == 0) return RAG_OK;
  meta->sample = j->count;
  for (uint32_t i = 0; i < RAG_COUNT_OF(ladder); i++) {
    rag_index_rung *rung = &meta->rungs[i];
    RAG_TRY(climb(j, ladder[i], rung, err));
    meta->rung_count = i + 1;
    bool all_10 = rung->recall_10 >= RECALL_ENOUGH;
    if (all_10 && (rung->recall_100 >= RECALL_ENOUGH || (rung->recall_100 < 0 && rung->width >= TRUTH))) break;
  }
  return RAG_OK;
}

static rag_status make_clerks(judge *j, rag_error *err) {
  size_t decoded = RAG_INDEX_ROW_FETCH_MAX * j->codes->dimension * sizeof(float);
  j->clerks = rag_calloc(j->threads, sizeof *j->clerks);
  if (!j->clerks) return rag_fail_no_memory(err, j->threads * sizeof *j->clerks);
  for (uint32_t t = 0; t < j->threads; t++) {
    clerk *c = &j->clerks[t];
    c->j = j;
    c->walker = rag_alloc(sizeof *c->walker);
    if (!c->walker) return rag_fail_no_memory(err, sizeof *c->walker);
    rag_graph__walker_init(c->walker);
    if (!j->fetch && !(c->decoded = rag_alloc(decoded))) return rag_fail_no_memory(err, decoded);
    RAG_TRY(rag_graph__walker_reserve(c->walker, j->codes, RAG_GRAPH__BATCH, err));
    RAG_TRY(rag_graph_scratch_create(&c->scratch, err));
  }
  return RAG_OK;
}

static void free_clerks(judge *j) {
  for (uint32_t t = 0; j->clerks && t < j->threads; t++) {
    clerk *c = &j->clerks[t];
    rag_graph_scratch_destroy(c->scratch);
    if (c->walker) rag_graph__walker_free(c->walker);
    rag_free(c->walker);
    rag_free(c->decoded);
  }
  rag_free(j->clerks);
}

rag_status rag_graph__calibrate(const rag_graph *graph, const rag_graph_codes *codes, const uint64_t *inside,
                                const uint32_t *sample, uint32_t count, const rag_index_row_fetch *fetch,
                                rag_pool *pool, uint32_t threads, rag_graph_meta *meta, rag_error *err) {
  judge j = {.graph = graph,
             .codes = codes,
             .inside = inside,
             .sample = sample,
             .fetch = fetch,
             .count = count,
             .pool = pool,
             .threads = threads};
  size_t row_bytes = codes->dimension * sizeof(float);
  rag_status status = RAG_OK;
  j.vectors = rag_alloc(count * row_bytes);
  j.truth = rag_alloc((size_t)count * TRUTH * sizeof *j.truth);
  j.found = rag_calloc(count, sizeof *j.found);
  if (!j.vectors || !j.truth || !j.found) {
    status = rag_fail_no_memory(err, count * row_bytes);
    goto out;
  }
  RAG_TRY_OUT(make_clerks(&j, err));
  RAG_TRY_OUT(measure(&j, meta, err));
out:
  free_clerks(&j);
  rag_free(j.vectors);
  rag_free(j.truth);
  rag_free(j.found);
  return status;
}
