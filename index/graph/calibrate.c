// What a walk finds at each ef: rows that are not in the graph yet are asked for their nearest among those that are.
//
// Rows that are in the graph would be easier to find than any other query, as their links were made for them. The truth
// is a scan by codes whose best rows are scored exactly: it keeps more of them than codes can put in the wrong order.
#include "index/graph/graph_internal.h"

#define TRUTH 100u
#define TRUTH_BY_CODES 200u // kept by codes
#define SCAN_ROWS 256u
#define RECALL_ENOUGH 0.9995f // no further rung

static const uint32_t ladder[] = {10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
_Static_assert(RAG_COUNT_OF(ladder) <= RAG_GRAPH_RUNGS_MAX, "room for every rung");

typedef struct judge {
  const rag_graph *graph;
  const rag_graph_codes *codes;
  const uint64_t *inside;
  rag_graph_fetch fetch;
  uint32_t count; // queries
  float *vectors;
  rag_index_hit *truth; // TRUTH for each query
  uint32_t truth_count;
  uint8_t *decoded; // where nothing is fetched: RAG_GRAPH_FETCH_MAX rows
} judge;

// Stands in for a fetch: what the codes say.
static rag_status fetch_decoded(void *context, const uint32_t *ids, uint32_t count, const float **out, rag_error *err) {
  judge *j = context;
  RAG_UNUSED(err);
  uint32_t dimension = j->codes->dimension;
  for (uint32_t i = 0; i < count; i++) {
    float *row = (float *)(void *)j->decoded + (size_t)i * dimension;
    rag_codes_int8_decode(j->codes->base + ids[i] * j->codes->stride, &j->codes->factors[ids[i]], dimension, row);
    out[i] = row;
  }
  return RAG_OK;
}

static rag_status find_truth(judge *j, rag_graph__walker *w, uint32_t number, rag_error *err) {
  const rag_graph_codes *codes = j->codes;
  const float *vector = j->vectors + (size_t)number * codes->dimension;
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
    uint32_t ids[RAG_GRAPH_FETCH_MAX], count = RAG_MIN(RAG_GRAPH_FETCH_MAX, by_codes.count - done);
    const float *rows[RAG_GRAPH_FETCH_MAX];
    for (uint32_t i = 0; i < count; i++) ids[i] = hits[done + i].ordinal;
    RAG_TRY(j->fetch.rows(j->fetch.context, ids, count, rows, err));
    for (uint32_t i = 0; i < count; i++) {
      rag_index__topk_offer(&top, ids[i], rag_vector_score(vector, rows[i], codes->dimension, codes->metric));
    }
    done += count;
  }
  rag_index__topk_finish(&top);
  j->truth_count = top.count; // the same for every query
  return RAG_OK;
}

// The part of the `k` best of the truth that is in hits; a row as good as the worst of them counts as it.
static double recall_of(const rag_index_hit *truth, const rag_index_hit *hits, uint32_t count, uint32_t k) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < count && i < k; i++) found += hits[i].score >= truth[k - 1].score;
  return (double)found / k;
}

static rag_status climb(judge *j, uint32_t ef, rag_graph_scratch *scratch, rag_graph_rung *out, rag_error *err) {
  bool of_100 = ef >= TRUTH && j->truth_count == TRUTH;
  uint32_t k = of_100 ? TRUTH : RAG_MIN(10u, j->truth_count);
  double recall_10 = 0, recall_100 = 0, scored = 0;
  for (uint32_t number = 0; number < j->count; number++) {
    rag_index_hit hits[TRUTH];
    rag_index_topk top;
    rag_index__topk_init(&top, hits, k, -FLT_MAX);
    rag_graph_query query = {
        .vector = j->vectors + (size_t)number * j->codes->dimension, .k = k, .ef = ef, .fetch = j->fetch};
    rag_graph_stats stats;
    RAG_TRY(rag_graph_search(j->graph, j->codes, &query, scratch, &top, &stats, err));
    rag_index__topk_finish(&top);
    const rag_index_hit *truth = j->truth + (size_t)number * TRUTH;
    recall_10 += recall_of(truth, hits, top.count, RAG_MIN(10u, j->truth_count));
    if (of_100) recall_100 += recall_of(truth, hits, top.count, TRUTH);
    scored += (double)stats.scored;
  }
  *out = (rag_graph_rung){.ef = ef,
                          .recall_10 = (float)(recall_10 / j->count),
                          .recall_100 = of_100 ? (float)(recall_100 / j->count) : -1.0f,
                          .scored = (float)(scored / j->count)};
  return RAG_OK;
}

static rag_status measure(judge *j, const uint32_t *sample, rag_graph__walker *w, rag_graph_scratch *scratch,
                          rag_graph_meta *meta, rag_error *err) {
  uint32_t dimension = j->codes->dimension;
  RAG_TRY(rag_graph__walker_reserve(w, j->codes, RAG_GRAPH__BATCH, err));
  for (uint32_t number = 0; number < j->count; number++) {
    const float *vector;
    RAG_TRY(j->fetch.rows(j->fetch.context, &sample[number], 1, &vector, err));
    memcpy(j->vectors + (size_t)number * dimension, vector, dimension * sizeof *vector);
  }
  for (uint32_t number = 0; number < j->count; number++) RAG_TRY(find_truth(j, w, number, err));
  if (j->truth_count == 0) return RAG_OK;
  meta->sample = j->count;
  for (uint32_t i = 0; i < RAG_COUNT_OF(ladder); i++) {
    rag_graph_rung *rung = &meta->rungs[i];
    RAG_TRY(climb(j, ladder[i], scratch, rung, err));
    meta->rung_count = i + 1;
    bool all_10 = rung->recall_10 >= RECALL_ENOUGH;
    if (all_10 && (rung->recall_100 >= RECALL_ENOUGH || (rung->recall_100 < 0 && rung->ef >= TRUTH))) break;
  }
  return RAG_OK;
}

rag_status rag_graph__calibrate(const rag_graph *graph, const rag_graph_codes *codes, const uint64_t *inside,
                                const uint32_t *sample, uint32_t count, const rag_graph_fetch *fetch,
                                rag_graph_meta *meta, rag_error *err) {
  judge j = {.graph = graph, .codes = codes, .inside = inside, .count = count};
  size_t row_bytes = codes->dimension * sizeof(float);
  rag_status status = RAG_OK;
  rag_graph__walker *w = NULL;
  rag_graph_scratch *scratch = NULL;
  j.vectors = rag_alloc(count * row_bytes);
  j.truth = rag_alloc((size_t)count * TRUTH * sizeof *j.truth);
  j.decoded = rag_alloc(RAG_GRAPH_FETCH_MAX * row_bytes);
  w = rag_alloc(sizeof *w);
  if (w) rag_graph__walker_init(w);
  if (!j.vectors || !j.truth || !j.decoded || !w) {
    status = rag_fail_no_memory(err, count * row_bytes);
    goto out;
  }
  j.fetch = fetch ? *fetch : (rag_graph_fetch){fetch_decoded, &j};
  RAG_TRY_OUT(rag_graph_scratch_create(&scratch, err));
  RAG_TRY_OUT(measure(&j, sample, w, scratch, meta, err));
out:
  rag_graph_scratch_destroy(scratch);
  if (w) rag_graph__walker_free(w);
  rag_free(w);
  rag_free(j.vectors);
  rag_free(j.truth);
  rag_free(j.decoded);
  return status;
}
