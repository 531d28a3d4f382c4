// Segments with lists of 1-bit codes: index/ivf. Without an int8 plane: what the codes' error bound cannot rule out is
// scored from the full-precision rows, which the page cache holds; that is what makes it the small one.
//
// Centroids are in every file, so that each stands for itself. Those of the largest segment of the view that a new one is
// made from are taken over, as long as they suit the number of rows and fit them; else they are trained anew.
//
// Segments with the same centroids are joined: a row's codes are copied, list by list, and only rows that had none, or
// others, are encoded. Calibration is inherited where one segment brings most of the rows.
#include "index/ivf/ivf_internal.h"
#include "index/segment/segment_internal.h"
#include "index/segment/view_internal.h"

#define SEED UINT64_C(0x7261676469766600)
#define NPROBE_MIN 8u // unless it is asked for: see RESERVE of kind_graph.c
// Centroids are kept while they are no fewer, and no more, than so many times what would be chosen.
#define LISTS_STRETCH 2u
#define INHERIT_FROM 3 / 2 // times the rows of the largest segment: no more rows than that, and its calibration holds

typedef struct ivf_state {
  rag_ivf_codes codes;
  rag_ivf_centroids *centroids;
  rag_ivf *ivf;
} ivf_state;

// ---------------------------------------------------------------------------------------------- building

static rag_ivf_codes codes_of(const segment_build *b) {
  return (rag_ivf_codes){.base = b->codes,
                         .stride = rag_codes_int8_bytes(b->shared->dimension),
                         .factors = b->factors,
                         .rows = b->rows,
                         .dimension = b->shared->dimension,
                         .metric = b->shared->metric};
}

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

static rag_status train(segment_build *b, rag_ivf_centroids **out, rag_error *err) {
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
  RAG_TRY(rag_segment__encode(b, err));
  rag_ivf_codes codes = codes_of(b);
  RAG_TRY_OUT(take_sample(b, &codes, (uint32_t)RAG_MIN(wanted, (uint64_t)b->rows), &sample_codes, &sample_factors,
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

// What a new segment is joined from: segments of the view with the same centroids, and one made of the rows beside them.
typedef struct joining {
  rag_ivf_input *inputs;
  uint32_t count, largest; // rows of the largest input
  uint64_t *covered;       // a bit for each row of the result
  uint32_t *rest;          // rows of the result that no segment brings
  uint32_t rest_count;
  uint8_t *codes; // theirs
  rag_codes_int8_factors *factors;
  rag_ivf *rest_ivf;
} joining;

static void joining_free(joining *j) {
  for (uint32_t i = 0; i < j->count; i++)
    if (j->inputs[i].map != j->rest) rag_free((void *)(uintptr_t)j->inputs[i].map);
  rag_free(j->inputs);
  rag_free(j->covered);
  rag_free(j->rest);
  rag_free(j->codes);
  rag_free(j->factors);
  rag_ivf_destroy(j->rest_ivf);
}

// Where each row of the segment stands in the result.
static rag_status add_input(joining *j, const segment_build *b, const rag_index_segment *s, rag_error *err) {
  const ivf_state *state = s->state;
  uint32_t *map = rag_realloc_array(NULL, s->rows, sizeof *map), at = 0, taken = 0;
  if (map == NULL) return rag_fail_no_memory(err, s->rows * sizeof *map);
  for (uint32_t row = 0; row < s->rows; row++) { // both ascend
    while (at < b->rows && b->ordinals[at] < s->ordinals[row]) at++;
    bool stays = at < b->rows && b->ordinals[at] == s->ordinals[row];
    map[row] = stays ? at : RAG_IVF_NONE;
    if (!stays) continue;
    j->covered[at / 64] |= 1ull << at % 64;
    taken++;
  }
  j->inputs[j->count++] = (rag_ivf_input){state->ivf, map};
  j->largest = RAG_MAX(j->largest, taken);
  return RAG_OK;
}

static rag_status find_inputs(joining *j, const segment_build *b, const rag_ivf_centroids *centroids, rag_error *err) {
  const segmented_view *view = (const segmented_view *)b->view;
  j->inputs = rag_calloc(view->segment_count + 1, sizeof *j->inputs);
  j->covered = rag_calloc(b->rows / 64 + 1, sizeof *j->covered);
  if (j->inputs == NULL || j->covered == NULL) return rag_fail_no_memory(err, b->rows / 8);
  for (uint32_t i = 0; i < view->segment_count && j->count + 1 < RAG_IVF_INPUTS_MAX; i++) {
    const rag_index_segment *s = view->segments[i].segment;
    if (s->kind != &rag_segment__ivf || rag_bitmap_and_count(s->set, b->row_set) == 0) continue;
    const ivf_state *state = s->state;
    if (state->centroids->identity == centroids->identity) RAG_TRY(add_input(j, b, s, err));
  }
  return RAG_OK;
}

static rag_status build_rest(joining *j, const segment_build *b, const rag_ivf_centroids *centroids,
                             const rag_ivf_options *all, rag_error *err) {
  uint32_t dimension = b->shared->dimension, bytes = rag_codes_int8_bytes(dimension);
  float room[RAG_DIMENSION_MAX];
  j->rest = rag_realloc_array(NULL, b->rows, sizeof *j->rest);
  if (j->rest == NULL) return rag_fail_no_memory(err, b->rows * sizeof *j->rest);
  for (uint32_t row = 0; row < b->rows; row++)
    if (!(j->covered[row / 64] >> row % 64 & 1)) j->rest[j->rest_count++] = row;
  if (j->rest_count == 0) return RAG_OK;
  j->codes = rag_aligned_alloc(64, (size_t)j->rest_count * bytes);
  j->factors = rag_realloc_array(NULL, j->rest_count, sizeof *j->factors);
  if (j->codes == NULL || j->factors == NULL) return rag_fail_no_memory(err, (size_t)j->rest_count * bytes);
  for (uint32_t i = 0; i < j->rest_count; i++)
    rag_codes_int8_encode(rag_segment__build_vector(b, j->rest[i], room), dimension, j->codes + (size_t)i * bytes,
                          &j->factors[i]);
  rag_ivf_codes codes = {j->codes, bytes, j->factors, j->rest_count, dimension, b->shared->metric};
  rag_ivf_options options = *all;
  options.sample = 0;
  RAG_TRY(rag_ivf_build(centroids, &codes, &options, &j->rest_ivf, err));
  j->inputs[j->count++] = (rag_ivf_input){j->rest_ivf, j->rest};
  return RAG_OK;
}

// *out stays NULL where no segment has these centroids.
static rag_status join(segment_build *b, const rag_ivf_centroids *centroids, const rag_ivf_options *options,
                       rag_ivf **out, rag_error *err) {
  joining j = {0};
  rag_status status = RAG_OK;
  RAG_TRY_OUT(find_inputs(&j, b, centroids, err));
  if (j.count == 0) goto out;
  RAG_TRY_OUT(build_rest(&j, b, centroids, options, err));
  bool inherits = b->rows <= (uint64_t)j.largest * INHERIT_FROM;
  if (!inherits) RAG_TRY_OUT(rag_segment__encode(b, err));
  rag_ivf_codes codes = codes_of(b);
  status = rag_ivf_merge(centroids, j.inputs, j.count, b->rows, inherits ? NULL : &codes, options, out, err);
out:
  joining_free(&j);
  return status;
}

static rag_status build_anew(segment_build *b, const rag_ivf_centroids *centroids, const rag_ivf_options *options,
                             rag_ivf **out, rag_error *err) {
  RAG_TRY(rag_segment__encode(b, err));
  rag_ivf_codes codes = codes_of(b);
  return rag_ivf_build(centroids, &codes, options, out, err);
}

static rag_status ivf_build(segment_build *b, rag_error *err) {
  rag_ivf_centroids *trained = NULL;
  rag_ivf *ivf = NULL;
  rag_slice sections[RAG_IVF_SECTIONS];
  rag_status status = RAG_OK;
  rag_index_row_fetch fetch = rag_segment__build_fetch(b);
  rag_ivf_options options = {.threads = b->threads,
                             .seed = SEED,
                             .sample = RAG_MIN(SEGMENT_CALIBRATION_ROWS, b->rows / 10),
                             .fetch = &fetch,
                             .progress = b->progress,
                             .progress_context = b->context};
  const rag_ivf_centroids *centroids = known_centroids(b); // of the pinned view
  if (centroids != NULL) {
    RAG_TRY_OUT(join(b, centroids, &options, &ivf, err));
    if (ivf == NULL) RAG_TRY_OUT(build_anew(b, centroids, &options, &ivf, err));
    if (rag_ivf_drift(ivf) > RAG_IVF_DRIFT_RETRAIN) { // rows of another kind
      rag_ivf_destroy(ivf);
      ivf = NULL;
    }
  }
  if (ivf == NULL) {
    RAG_TRY_OUT(train(b, &trained, err));
    centroids = trained;
    RAG_TRY_OUT(build_anew(b, centroids, &options, &ivf, err));
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

static double recall_at(const rag_ivf *ivf, uint32_t k, uint32_t nprobe) {
  return rag_index__rungs_recall(ivf->meta.rungs, ivf->meta.rung_count, k, nprobe);
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
      .fetch = rag_segment__fetch(s),
      .deadline_ns = q->deadline_ns,
  };
  rag_ivf_stats stats;
  RAG_TRY(rag_ivf_search(v->ivf, &v->codes, &query, *scratch, search->top, &stats, err));
  search->plan->candidates += RAG_MAX(stats.scanned, stats.rescored);
  search->plan->rescored += stats.rescored;
  if (stats.way == RAG_IVF_PROBED) rag_segment__plan_recall(search->plan, recall_at(v->ivf, recall_k, nprobe), nprobe);
  return RAG_OK;
}

static float ivf_recall(const rag_index_segment *s) {
  const ivf_state *v = s->state;
  bool reached;
  return (float)recall_at(v->ivf, 10, rag_ivf_nprobe(v->ivf, 10, (float)s->shared->target_recall, &reached));
}

static void ivf_scratch_destroy(void *scratch) {
  rag_ivf_scratch_destroy(scratch);
}

const segment_kind rag_segment__ivf = {
    .name = "ivf",
    .grows = true,
    .build = ivf_build,
    .open = ivf_open,
    .close = ivf_close,
    .search = ivf_search,
    .recall = ivf_recall,
    .scratch_destroy = ivf_scratch_destroy,
};
