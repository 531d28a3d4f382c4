// What FAISS finds at each value of the index's knob, and how many candidates hold it: rows that are not in the index
// yet are asked for their nearest among those that are. The truth is a scan of full-precision rows.
//
// Candidates in the order of codes hold the true best somewhere among the first; how far down is read off one wide
// search for each query and value. A graph's search is never wider than what it walked, so there the candidates are as
// many as the value.
#include "index/faiss/library_internal.h"

#define TRUTH 100u
#define WIDE 2000u            // candidates that are looked through
#define LEFT_OUT 0.002f       // of what was found, behind the candidates that are taken
#define RECALL_ENOUGH 0.9995f // no further rung
#define PROBES_FIRST 7.0f     // the first rung looks into 2^-7 of the lists, the next into 2^(1/2) as many
#define REPORT_ROWS 16384u

static const uint32_t ef_ladder[] = {10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
_Static_assert(RAG_COUNT_OF(ef_ladder) <= RAG_FAISS_RUNGS_MAX, "room for every rung");

typedef struct judge {
  rag_faiss *engine;
  const float *vectors;
  const rag_index_row_fetch *fetch;
  rag_index_topk *tops;
  rag_index_hit *truth; // TRUTH for each query; ordinals are rows
  uint32_t truth_count;
  float *distances;
  faiss_idx_t *labels;
  uint32_t wide;
  uint32_t depth_10[WIDE], depth_100[WIDE]; // true rows found at each place, of all queries
} judge;

static rag_status find_truth(judge *j, const rag_faiss_options *options, rag_error *err) {
  const rag_faiss_meta *m = &j->engine->meta;
  rag_metric metric = (rag_metric)m->metric;
  for (uint32_t i = 0; i < m->held_count; i++) {
    rag_index__topk_init(&j->tops[i], j->truth + (size_t)i * TRUTH, TRUTH, -FLT_MAX);
  }
  uint32_t inside = m->rows - m->held_count, look = REPORT_ROWS;
  for (uint32_t begin = 0; begin < inside; begin += RAG_INDEX_ROW_FETCH_MAX) {
    uint32_t ids[RAG_INDEX_ROW_FETCH_MAX], count = RAG_MIN(RAG_INDEX_ROW_FETCH_MAX, inside - begin);
    const void *rows[RAG_INDEX_ROW_FETCH_MAX];
    float raw[RAG_INDEX_ROW_FETCH_MAX];
    for (uint32_t i = 0; i < count; i++) ids[i] = rag_faiss__row(m, begin + i);
    RAG_TRY(j->fetch->rows(j->fetch->context, ids, count, rows, err));
    for (uint32_t q = 0; q < m->held_count; q++) {
      const float *vector = j->vectors + (size_t)q * m->dimension;
      rag_index__rows_gather(j->fetch->datatype, metric, vector, rows, count, m->dimension, raw);
      for (uint32_t i = 0; i < count; i++) rag_index__topk_offer(&j->tops[q], ids[i], rag_index__score(metric, raw[i]));
    }
    if (begin < look) continue;
    look = begin + REPORT_ROWS;
    if (options->progress && !options->progress(options->progress_context, inside, m->rows)) {
      return rag_fail(err, RAG_CANCELLED, "the build was stopped");
    }
  }
  for (uint32_t i = 0; i < m->held_count; i++) rag_index__topk_finish(&j->tops[i]);
  j->truth_count = m->held_count > 0 ? j->tops[0].count : 0;
  return RAG_OK;
}

// The best places that hold all but LEFT_OUT of what all places hold, and that part of `whole`.
static uint32_t places_needed(const uint32_t *depth, uint32_t wide, double whole, float *out_recall) {
  uint64_t all = 0, so_far = 0;
  for (uint32_t i = 0; i < wide; i++) all += depth[i];
  uint32_t needed = 0;
  while (needed < wide && (double)so_far < (1 - (double)LEFT_OUT) * (double)all) so_far += depth[needed++];
  *out_recall = (float)RAG_MIN((double)so_far / whole, 1.0);
  return RAG_MAX(needed, 1u);
}

static rag_status climb(judge *j, uint32_t value, rag_faiss_rung *out, rag_error *err) {
  const rag_faiss_meta *m = &j->engine->meta;
  uint32_t ten = RAG_MIN(10u, j->truth_count),
           wide = m->knob == RAG_FAISS_EF_SEARCH ? RAG_MIN(value, j->wide) : j->wide;
  memset(j->depth_10, 0, sizeof j->depth_10);
  memset(j->depth_100, 0, sizeof j->depth_100);
  for (uint32_t q = 0; q < m->held_count; q++) {
    const float *vector = j->vectors + (size_t)q * m->dimension;
    const rag_index_hit *truth = j->truth + (size_t)q * TRUTH;
    RAG_TRY(rag_faiss__ask(j->engine, vector, value, wide, NULL, j->distances, j->labels, err));
    uint32_t found_10 = 0, found_100 = 0;
    for (uint32_t at = 0; at < wide && j->labels[at] >= 0; at += RAG_INDEX_ROW_FETCH_MAX) {
      uint32_t ids[RAG_INDEX_ROW_FETCH_MAX], count = 0;
      rag_metric metric = (rag_metric)m->metric;
      float raw[RAG_INDEX_ROW_FETCH_MAX];
      for (; count < RAG_INDEX_ROW_FETCH_MAX && at + count < wide && j->labels[at + count] >= 0; count++) {
        ids[count] = rag_faiss__row(m, (uint32_t)j->labels[at + count]);
      }
      RAG_TRY(rag_index__fetch_score(j->fetch, metric, vector, ids, count, m->dimension, raw, err));
      for (uint32_t i = 0; i < count; i++) {
        float score = rag_index__score(metric, raw[i]);
        // As good as the worst of the truth counts as it; more such rows than there are places do not.
        if (score >= truth[ten - 1].score && found_10++ < ten) j->depth_10[at + i]++;
        if (score >= truth[j->truth_count - 1].score && found_100++ < j->truth_count) j->depth_100[at + i]++;
      }
    }
  }
  *out = (rag_faiss_rung){.value = value, .recall_100 = -1};
  out->take_10 = places_needed(j->depth_10, wide, (double)ten * m->held_count, &out->recall_10);
  out->take_100 = wide;
  if (j->truth_count == TRUTH && wide >= TRUTH) {
    out->take_100 = places_needed(j->depth_100, wide, (double)TRUTH * m->held_count, &out->recall_100);
  }
  return RAG_OK;
}

static uint32_t value_of(const rag_faiss_meta *m, uint32_t step) { // 0: there is no such rung
  if (m->knob == RAG_FAISS_EF_SEARCH) return step < RAG_COUNT_OF(ef_ladder) ? ef_ladder[step] : 0;
  if (m->knob == RAG_FAISS_NO_KNOB) return step == 0 ? 1 : 0;
  float part = powf(2, (float)step / 2 - PROBES_FIRST);
  if (part > 1) return 0;
  return RAG_MAX((uint32_t)lroundf((float)m->knob_max * part), 1u);
}

static rag_status measure(judge *j, rag_error *err) {
  rag_faiss_meta *m = &j->engine->meta;
  for (uint32_t step = 0; step < RAG_FAISS_RUNGS_MAX; step++) {
    uint32_t value = value_of(m, step);
    if (value == 0) break;
    if (m->rung_count > 0 && m->rungs[m->rung_count - 1].value == value) continue;
    rag_faiss_rung *rung = &m->rungs[m->rung_count];
    RAG_TRY(climb(j, value, rung, err));
    m->rung_count++;
    bool all_100 = rung->recall_100 >= RECALL_ENOUGH || (rung->recall_100 < 0 && j->truth_count < TRUTH);
    if (rung->recall_10 >= RECALL_ENOUGH && all_100) break;
  }
  m->sample = m->held_count;
  return RAG_OK;
}

rag_status rag_faiss__calibrate(rag_faiss *engine, const float *vectors, const rag_index_row_fetch *fetch,
                                const rag_faiss_options *options, rag_error *err) {
  uint32_t held = engine->meta.held_count;
  rag_status status = RAG_OK;
  judge *j = rag_calloc(1, sizeof *j);
  if (!j) return rag_fail_no_memory(err, sizeof *j);
  j->engine = engine;
  j->vectors = vectors;
  j->fetch = fetch;
  j->wide = RAG_MIN(WIDE, engine->meta.rows - held);
  j->tops = rag_alloc(held * sizeof *j->tops);
  j->truth = rag_alloc((size_t)held * TRUTH * sizeof *j->truth);
  j->distances = rag_alloc(j->wide * sizeof *j->distances);
  j->labels = rag_alloc(j->wide * sizeof *j->labels);
  if (!j->tops || !j->truth || !j->distances || !j->labels) {
    status = rag_fail_no_memory(err, (size_t)held * TRUTH * sizeof *j->truth);
    goto out;
  }
  RAG_TRY_OUT(find_truth(j, options, err));
  RAG_TRY_OUT(measure(j, err));
out:
  rag_free(j->tops);
  rag_free(j->truth);
  rag_free(j->distances);
  rag_free(j->labels);
  rag_free(j);
  return status;
}
