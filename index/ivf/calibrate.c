// What a search finds at each nprobe: rows of the segment are asked for their nearest others.
//
// The truth is a scan by int8 codes whose best rows are scored exactly: it keeps more of them than codes can put in the
// wrong order. The row that asks is taken out of the answers, which have one place more for it.
#include "index/ivf/ivf_internal.h"

#define TRUTH 100u
#define TRUTH_BY_CODES 200u // kept by codes
#define SCAN_ROWS 256u
#define SAMPLE_SHARE 10u      // of the rows, at most
#define RECALL_ENOUGH 0.9995f // no further rung

static const uint32_t ladder[] = {2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024};
_Static_assert(RAG_COUNT_OF(ladder) <= RAG_IVF_RUNGS_MAX, "room for every rung");

typedef struct judge {
  rag_ivf *ivf;
  const rag_ivf_codes *codes;
  rag_index_row_fetch fetch;
  uint32_t count;   // queries
  uint32_t *sample; // their rows
  float *vectors;
  rag_index_hit *truth; // TRUTH for each query
  uint32_t truth_count; // the same for every query
  float *decoded;       // where nothing is fetched: RAG_INDEX_ROW_FETCH_MAX rows
  int8_t *query_codes;
  rag_ivf_scratch *scratch;
} judge;

// Stands in for a fetch: what the codes say.
static rag_status fetch_decoded(void *context, const uint32_t *ids, uint32_t count, const void **out, rag_error *err) {
  judge *j = context;
  RAG_UNUSED(err);
  uint32_t dimension = j->codes->dimension;
  for (uint32_t i = 0; i < count; i++) {
    float *row = j->decoded + (size_t)i * dimension;
    rag_codes_int8_decode(j->codes->base + ids[i] * j->codes->stride, &j->codes->factors[ids[i]], dimension, row);
    out[i] = row;
  }
  return RAG_OK;
}

static rag_status choose_sample(judge *j, uint64_t seed, rag_error *err) {
  uint32_t rows = j->codes->rows, dimension = j->codes->dimension;
  for (uint32_t i = 0; i < j->count; i++) j->sample[i] = rag_index__sample_row(seed, rows, j->count, i);
  return rag_index__fetch_copy(&j->fetch, j->sample, j->count, dimension, j->vectors, err);
}

static rag_status find_truth(judge *j, uint32_t number, rag_error *err) {
  const rag_ivf_codes *codes = j->codes;
  const rag_codes_kernels *kernels = rag_codes_kernels_best();
  const float *vector = j->vectors + (size_t)number * codes->dimension;
  rag_index_hit hits[TRUTH_BY_CODES];
  int32_t dots[SCAN_ROWS];
  float scores[SCAN_ROWS];
  rag_index_topk by_codes, top;
  rag_codes_int8_query query;
  rag_index__topk_init(&by_codes, hits, TRUTH_BY_CODES, -FLT_MAX);
  rag_index__topk_init(&top, j->truth + (size_t)number * TRUTH, TRUTH, -FLT_MAX);
  rag_codes_int8_query_init(vector, codes->dimension, j->query_codes, &query);
  for (uint32_t first = 0; first < codes->rows; first += SCAN_ROWS) {
    uint32_t count = RAG_MIN(SCAN_ROWS, codes->rows - first);
    kernels->int8_rows(&query, codes->base + first * codes->stride, codes->stride, count, dots);
    rag_codes_int8_scores(&query, codes->metric, codes->factors + first, NULL, dots, count, scores);
    for (uint32_t i = 0; i < count; i++) {
      if (first + i != j->sample[number]) rag_index__topk_offer(&by_codes, first + i, scores[i]);
    }
  }
  rag_index__topk_finish(&by_codes);
  for (uint32_t done = 0; done < by_codes.count;) {
    uint32_t ids[RAG_INDEX_ROW_FETCH_MAX], count = RAG_MIN(RAG_INDEX_ROW_FETCH_MAX, by_codes.count - done);
    float raw[RAG_INDEX_ROW_FETCH_MAX];
    for (uint32_t i = 0; i < count; i++) ids[i] = hits[done + i].ordinal;
    RAG_TRY(rag_index__fetch_score(&j->fetch, codes->metric, vector, ids, count, codes->dimension, raw, err));
    for (uint32_t i = 0; i < count; i++) rag_index__topk_offer(&top, ids[i], rag_index__score(codes->metric, raw[i]));
    done += count;
  }
  rag_index__topk_finish(&top);
  j->truth_count = top.count;
  return RAG_OK;
}

// The part of the `k` best of the truth that is in hits, the asking row apart; a row as good as the worst counts.
static double recall_of(const rag_index_hit *truth, const rag_index_hit *hits, uint32_t count, uint32_t k,
                        uint32_t asking) {
  uint32_t found = 0, looked = 0;
  for (uint32_t i = 0; i < count && looked < k; i++) {
    if (hits[i].ordinal == asking) continue;
    found += hits[i].score >= truth[k - 1].score;
    looked++;
  }
  return (double)found / k;
}

// The mean of both recalls needs two searches: with k = 100 the bound prunes less, and would flatter k = 10.
static rag_status ask_all(judge *j, uint32_t nprobe, uint32_t k, double *out_recall, double *out_scanned,
                          rag_error *err) {
  double recall = 0, scanned = 0;
  for (uint32_t number = 0; number < j->count; number++) {
    rag_index_hit hits[TRUTH + 1];
    rag_index_topk top;
    rag_ivf_stats stats;
    rag_index__topk_init(&top, hits, k + 1, -FLT_MAX);
    rag_ivf_query query = {
        .vector = j->vectors + (size_t)number * j->codes->dimension, .k = k + 1, .nprobe = nprobe, .fetch = j->fetch};
    RAG_TRY(rag_ivf_search(j->ivf, j->codes, &query, j->scratch, &top, &stats, err));
    rag_index__topk_finish(&top);
    recall += recall_of(j->truth + (size_t)number * TRUTH, hits, top.count, k, j->sample[number]);
    scanned += (double)stats.scanned;
  }
  *out_recall = recall / j->count;
  *out_scanned = scanned / j->count;
  return RAG_OK;
}

static rag_status climb(judge *j, rag_error *err) {
  rag_ivf_meta *meta = &j->ivf->meta;
  meta->sample = j->count;
  for (uint32_t i = 0; i < RAG_COUNT_OF(ladder); i++) {
    uint32_t nprobe = RAG_MIN(ladder[i], meta->lists);
    double recall_10, recall_100 = -1, scanned;
    if (j->truth_count == TRUTH) RAG_TRY(ask_all(j, nprobe, TRUTH, &recall_100, &scanned, err));
    RAG_TRY(ask_all(j, nprobe, RAG_MIN(10u, j->truth_count), &recall_10, &scanned, err));
    meta->rungs[i] = (rag_index_rung){nprobe, (float)recall_10, (float)recall_100, (float)scanned};
    meta->rung_count = i + 1;
    bool enough = meta->rungs[i].recall_10 >= RECALL_ENOUGH;
    if (nprobe == meta->lists || (enough && (recall_100 < 0 || meta->rungs[i].recall_100 >= RECALL_ENOUGH))) break;
  }
  return RAG_OK;
}

rag_status rag_ivf__calibrate(rag_ivf *ivf, const rag_ivf_codes *codes, const rag_ivf_options *options,
                              rag_error *err) {
  rag_status status = RAG_OK;
  judge j = {.ivf = ivf, .codes = codes, .count = RAG_MIN(options->sample, codes->rows / SAMPLE_SHARE)};
  if (j.count == 0) return RAG_OK;
  size_t row_bytes = codes->dimension * sizeof(float);
  j.sample = rag_alloc(j.count * sizeof *j.sample);
  j.vectors = rag_alloc(j.count * row_bytes);
  j.truth = rag_alloc((size_t)j.count * TRUTH * sizeof *j.truth);
  j.decoded = rag_alloc(RAG_INDEX_ROW_FETCH_MAX * row_bytes);
  j.query_codes = rag_aligned_alloc(64, rag_codes_int8_bytes(codes->dimension));
  if (!j.sample || !j.vectors || !j.truth || !j.decoded || !j.query_codes) {
    status = rag_fail_no_memory(err, j.count * row_bytes);
    goto out;
  }
  j.fetch = options->fetch ? *options->fetch : (rag_index_row_fetch){.rows = fetch_decoded, .context = &j};
  RAG_TRY_OUT(rag_ivf_scratch_create(&j.scratch, err));
  RAG_TRY_OUT(choose_sample(&j, options->seed, err));
  for (uint32_t i = 0; i < j.count; i++) RAG_TRY_OUT(find_truth(&j, i, err));
  if (j.truth_count > 0) RAG_TRY_OUT(climb(&j, err));
out:
  rag_ivf_scratch_destroy(j.scratch);
  rag_free(j.query_codes);
  rag_free(j.decoded);
  rag_free(j.truth);
  rag_free(j.vectors);
  rag_free(j.sample);
  return status;
}
