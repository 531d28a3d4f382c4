// Segments with an index of FAISS's: index/faiss, by the factory string of the index.
#include "index/faiss/faiss_internal.h"
#include "index/segment/segment_internal.h"

#define SEED UINT64_C(0x7261676466616973)

static rag_status append(void *context, const void *data, size_t size, rag_error *err) {
  return rag_segment__writer_append(context, data, size, err);
}

static rag_status faiss_build(segment_build *b, rag_error *err) {
  rag_faiss *engine = NULL;
  rag_index_row_fetch fetch = rag_segment__build_fetch(b);
  rag_faiss_options options = {.threads = b->threads,
                               .seed = SEED,
                               .sample = RAG_MIN(RAG_FAISS_SAMPLE_MAX, b->rows / 20),
                               .progress = b->progress,
                               .progress_context = b->context};
  rag_index__choice choice = rag_index__chosen(b->shared);
  if (choice.engine != RAG_INDEX__FAISS)
    return rag_fail(err, RAG_ABORTED, "the engine of the index was changed while a segment was built");
  RAG_TRY(rag_faiss_build(&fetch, b->rows, b->shared->dimension, b->shared->metric, choice.factory, &options, &engine,
                          err));
  rag_faiss_sink sink = {append, b->writer};
  rag_slice meta = rag_faiss_meta_section(engine);
  rag_status status = rag_segment__write(b, SEGMENT_FAISS_META, meta.data, meta.size, err);
  if (status == RAG_OK) status = rag_segment__writer_section(b->writer, SEGMENT_FAISS_INDEX, err);
  if (status == RAG_OK) status = rag_faiss_write(engine, &sink, err);
  rag_faiss_destroy(engine);
  return status;
}

static rag_status faiss_open(rag_index_segment *s, rag_error *err) {
  rag_slice sections[2];
  rag_segment__sections(s, SEGMENT_FAISS_META, 2, sections);
  return rag_faiss_open(sections[0], sections[1], s->rows, s->shared->dimension, s->shared->metric,
                        (rag_faiss **)&s->state, err);
}

static void faiss_close(void *state) {
  rag_faiss_destroy(state);
}

static float recall_at(const rag_faiss *engine, uint32_t k, uint32_t value) {
  const rag_faiss_meta *meta = rag_faiss_about(engine);
  float recall = 0;
  for (uint32_t i = 0; i < meta->rung_count && meta->rungs[i].value <= value; i++) {
    float measured = k <= 10 ? meta->rungs[i].recall_10 : meta->rungs[i].recall_100;
    if (measured >= 0) recall = measured;
  }
  return recall;
}

static rag_status faiss_search(const rag_index_segment *s, segment_search *search, const uint64_t *words,
                               uint64_t survivors, rag_error *err) {
  const rag_faiss *engine = s->state;
  const rag_index_query *q = search->query;
  void **scratch = rag_segment__scratch_of(search->scratch, &rag_segment__faiss);
  if (*scratch == NULL) RAG_TRY(rag_faiss_scratch_create((rag_faiss_scratch **)scratch, err));
  rag_faiss_knob knob = (rag_faiss_knob)rag_faiss_about(engine)->knob;
  rag_faiss_query query = {
      .vector = q->vector,
      .k = q->k,
      .value = knob == RAG_FAISS_NPROBE      ? q->nprobe
               : knob == RAG_FAISS_EF_SEARCH ? q->ef
                                             : 0,
      .take = q->rerank,
      .target_recall = (float)rag_segment__target(s, q),
      .filter = survivors < s->rows ? words : NULL,
      .survivors = survivors,
      .ordinals = s->ordinals,
      .fetch = rag_segment__fetch(s),
      .deadline_ns = q->deadline_ns,
  };
  rag_faiss_stats stats;
  RAG_TRY(rag_faiss_search(engine, &query, *scratch, search->top, &stats, err));
  search->plan->candidates += RAG_MAX(stats.candidates, stats.rescored);
  search->plan->rescored += stats.rescored;
  if (stats.way != RAG_FAISS_SCANNED)
    rag_segment__plan_recall(search->plan, (double)recall_at(engine, q->k, stats.value), stats.value);
  return RAG_OK;
}

static float faiss_recall(const rag_index_segment *s) {
  uint32_t value = 0, take = 0;
  (void)rag_faiss_setting(s->state, 10, (float)s->shared->target_recall, &value, &take);
  return recall_at(s->state, 10, value);
}

static void faiss_scratch_destroy(void *scratch) {
  rag_faiss_scratch_destroy(scratch);
}

const segment_kind rag_segment__faiss = {
    .name = "faiss",
    .build = faiss_build,
    .open = faiss_open,
    .close = faiss_close,
    .search = faiss_search,
    .recall = faiss_recall,
    .scratch_destroy = faiss_scratch_destroy,
};
