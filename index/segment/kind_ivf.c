// Segments with lists of 1-bit codes: index/ivf. Without an int8 plane: what the codes' error bound cannot rule out is
// scored from the full-precision rows, which the page cache holds; that is what makes it the small one.
//
// Centroids are in every file, so that each stands for itself. Those of the largest segment of the view that a new one is
// made from are taken over, as long as they suit the number of rows and fit them; else they are trained anew.
#include "index/ivf/ivf_internal.h"
#include "index/segment/segment_internal.h"
#include "index/segment/view_internal.h"

#define SEED UINT64_C(0x7261676469766600)
#define NPROBE_MIN 8u // unless it is asked for: see RESERVE of kind_graph.c
#define LISTS_STRETCH                                                                                                  \
  2u // centroids are kept while they are no fewer, and no more, than so many times what would be chosen

typedef struct ivf_state {
  rag_ivf_codes codes;
  rag_ivf_centroids *centroids;
  rag_ivf *ivf;
} ivf_state;

// ---------------------------------------------------------------------------------------------- building

// Every so manieth row's codes, apart.
static rag_status take_sample(const segment_build *b, const rag_ivf_codes *all, uint32_t wanted, uint8_t **out_codes,
                              rag_codes_int8_factors **out_factors, rag_ivf_codes *out, rag_error *err) {
  uint32_t count = RAG_MIN(wanted, b->rows);
  *out = *all;
  if (count == b->rows) return RAG_OK;
  *out_codes = rag_aligned_alloc(64, (size_t)count * all->stride);
  *out_factors = rag_realloc_array(NULL, count, sizeof **out_factors);
  if (*out_codes == NULL || *out_factors == NULL) return rag_fail_no_memory(err, (size_t)count * all->stride);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t row = (uint32_t)((uint64_t)i * b->rows / count);
    memcpy(*out_codes + (size_t)i * all->stride, all->base + (size_t)row * all->stride, all->stride);
    (*out_factors)[i] = all->factors[row];
  }
  out->base = *out_codes;
  out->factors = *out_factors;
  out->rows = count;
  return RAG_OK;
}

static rag_status train(segment_build *b, const rag_ivf_codes *codes, rag_ivf_centroids **out, rag_error *err) {
  uint8_t *sample_codes = NULL;
  rag_codes_int8_factors *sample_factors = NULL;
  rag_ivf_codes sample;
  rag_ivf_train_options options = {.lists = rag_ivf_default_lists(b->rows),
                                   .threads = b->threads,
                                   .seed = SEED,
                                   .progress = b->progress,
                                   .progress_context = b->context};
  uint64_t wanted = (uint64_t)options.lists * RAG_IVF_SAMPLE_FOR_EACH_LIST;
  rag_status status = RAG_OK;
  RAG_TRY_OUT(take_sample(b, codes, (uint32_t)RAG_MIN(wanted, (uint64_t)b->rows), &sample_codes, &sample_factors,
                          &sample, err));
  status = rag_ivf_train(&sample, &options, out, err);
out:
  rag_free(sample_codes);
  rag_free(sample_factors);
  return status;
}

// Of the view's largest segment with lists, where they suit. A copy, as the segment may go.
static const rag_ivf_centroids *known_centroids(const segment_build *b) {
  const segmented_view *view = (const segmented_view *)b->view;
  const rag_index_segment *best = NULL;
  uint32_t suits = rag_ivf_default_lists(b->rows);
  for (uint32_t i = 0; i < view->segment_count; i++) {
    const rag_index_segment *s = view->segments[i].segment;
    if (s->kind == &rag_segment__ivf && (best == NULL || s->rows > best->rows)) best = s;
  }
  if (best == NULL) return NULL;
  const ivf_state *state = best->state;
  uint32_t lists = state->centroids->meta.lists;
  if (lists * LISTS_STRETCH < suits || lists > suits * LISTS_STRETCH) return NULL;
  return rag_ivf_drift(state->ivf) <= RAG_IVF_DRIFT_RETRAIN ? state->centroids : NULL;
}

static rag_status ivf_build(segment_build *b, rag_error *err) {
  rag_ivf_centroids *trained = NULL;
  rag_ivf *ivf = NULL;
  rag_slice sections[RAG_IVF_SECTIONS];
  rag_status status = RAG_OK;
  RAG_TRY(rag_segment__encode(b, err));
  rag_ivf_codes codes = {.base = b->codes,
                         .stride = rag_codes_int8_bytes(b->shared->dimension),
                         .factors = b->factors,
                         .rows = b->rows,
                         .dimension = b->shared->dimension,
                         .metric = b->shared->metric};
  rag_ivf_fetch fetch = {rag_segment__build_fetch, b};
  rag_ivf_options options = {.threads = b->threads,
                             .seed = SEED,
                             .sample = RAG_MIN(SEGMENT_CALIBRATION_ROWS, b->rows / 10),
                             .fetch = &fetch,
                             .progress = b->progress,
                             .progress_context = b->context};
  const rag_ivf_centroids *centroids = known_centroids(b); // of the pinned view
  for (bool last = centroids == NULL;; last = true) {
    if (last) {
      RAG_TRY_OUT(train(b, &codes, &trained, err));
      centroids = trained;
    }
    RAG_TRY_OUT(rag_ivf_build(centroids, &codes, &options, &ivf, err));
    if (last || rag_ivf_drift(ivf) <= RAG_IVF_DRIFT_RETRAIN) break;
    rag_ivf_destroy(ivf); // rows of another kind
    ivf = NULL;
  }
  rag_slice section = rag_ivf_centroids_section(centroids);
  RAG_TRY_OUT(rag_segment__write(b, SEGMENT_IVF_CENTROIDS, section.data, section.size, err));
  rag_ivf_sections(ivf, sections);
  for (uint32_t i = 0; i < RAG_IVF_SECTIONS; i++)
    RAG_TRY_OUT(rag_segment__write(b, SEGMENT_IVF + i, sections[i].data, sections[i].size, err));
out:
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(trained);
  return status;
}

// ---------------------------------------------------------------------------------------------- opening, searching

static void ivf_close(void *state) {
  ivf_state *v = state;
  rag_ivf_destroy(v->ivf);
  rag_ivf_centroids_destroy(v->centroids);
  rag_free(v);
}

static rag_status ivf_open(rag_index_segment *s, rag_error *err) {
  rag_slice sections[RAG_IVF_SECTIONS], centroids;
  ivf_state *v = rag_calloc(1, sizeof *v);
  if (v == NULL) return rag_fail_no_memory(err, sizeof *v);
  v->codes = (rag_ivf_codes){.stride = rag_codes_int8_bytes(s->shared->dimension),
                             .rows = s->rows,
                             .dimension = s->shared->dimension,
                             .metric = s->shared->metric};
  rag_segment__sections(s, SEGMENT_IVF, RAG_IVF_SECTIONS, sections);
  rag_segment__sections(s, SEGMENT_IVF_CENTROIDS, 1, &centroids);
  rag_status status = rag_segment__int8(s, &v->codes.base, &v->codes.factors, err);
  if (status == RAG_OK)
    status = rag_ivf_centroids_open(centroids, s->shared->dimension, s->shared->metric, &v->centroids, err);
  if (status == RAG_OK) status = rag_ivf_open(sections, v->centroids, s->rows, &v->ivf, err);
  if (status == RAG_OK) s->state = v;
  else ivf_close(v);
  return status;
}

// What calibration measured at this nprobe, between its rungs by a straight line; 0: nothing.
static float recall_at(const rag_ivf *ivf, uint32_t k, uint32_t nprobe) {
  float recall = 0;
  uint32_t below = 0;
  for (uint32_t i = 0; i < ivf->meta.rung_count; i++) {
    uint32_t here = ivf->meta.rungs[i].nprobe;
    float measured = k <= 10 ? ivf->meta.rungs[i].recall_10 : ivf->meta.rungs[i].recall_100;
    if (measured < 0) continue;
    if (here > nprobe) {
      if (recall > 0) recall += (measured - recall) * (float)(nprobe - below) / (float)(here - below);
      break;
    }
    recall = measured;
    below = here;
  }
  return recall;
}

static rag_status ivf_search(const rag_index_segment *s, segment_search *search, const uint64_t *words,
                             uint64_t survivors, rag_error *err) {
  const ivf_state *v = s->state;
  const rag_index_query *q = search->query;
  void **scratch = rag_segment__scratch_of(search->scratch, &rag_segment__ivf);
  bool reached;
  if (*scratch == NULL) RAG_TRY(rag_ivf_scratch_create((rag_ivf_scratch **)scratch, err));
  uint32_t nprobe = q->nprobe, recall_k = rag_segment__recall_k(q);
  if (nprobe == 0)
    nprobe = RAG_MAX(rag_ivf_nprobe(v->ivf, recall_k, (float)rag_segment__target(s, q), &reached), NPROBE_MIN);
  rag_ivf_query query = {
      .vector = q->vector,
      .k = q->k,
      .nprobe = nprobe,
      .rerank = q->rerank,
      .filter = survivors < s->rows ? words : NULL,
      .survivors = survivors,
      .ordinals = s->ordinals,
      .fetch = {rag_segment__fetch, (void *)s},
      .deadline_ns = q->deadline_ns,
  };
  rag_ivf_stats stats;
  RAG_TRY(rag_ivf_search(v->ivf, &v->codes, &query, *scratch, search->top, &stats, err));
  search->plan->candidates += RAG_MAX(stats.scanned, stats.rescored);
  search->plan->rescored += stats.rescored;
  if (stats.way == RAG_IVF_PROBED)
    rag_segment__plan_recall(search->plan, (double)recall_at(v->ivf, recall_k, nprobe), nprobe);
  return RAG_OK;
}

static float ivf_recall(const rag_index_segment *s) {
  const ivf_state *v = s->state;
  bool reached;
  return recall_at(v->ivf, 10, rag_ivf_nprobe(v->ivf, 10, (float)s->shared->target_recall, &reached));
}

static void ivf_scratch_destroy(void *scratch) {
  rag_ivf_scratch_destroy(scratch);
}

const segment_kind rag_segment__ivf = {
    .name = "ivf",
    .build = ivf_build,
    .open = ivf_open,
    .close = ivf_close,
    .search = ivf_search,
    .recall = ivf_recall,
    .scratch_destroy = ivf_scratch_destroy,
};
