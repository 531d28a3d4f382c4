// Stands in for FAISS where ragd is built without it: every way in says so.
#include "index/faiss/faiss_internal.h"

static rag_status refuse(rag_error *err) {
  return rag_fail(err, RAG_UNIMPLEMENTED, "this ragd was built without FAISS; choose another engine");
}

const char *rag_faiss_version(void) {
  return "none";
}
rag_status rag_faiss_check(const char *factory, uint32_t dimension, rag_metric metric, rag_error *err) {
  RAG_UNUSED(factory), RAG_UNUSED(dimension), RAG_UNUSED(metric);
  return refuse(err);
}
uint32_t rag_faiss_rows_min(const char *factory) {
  RAG_UNUSED(factory);
  return 1;
}
rag_status rag_faiss_build(const rag_index_row_fetch *fetch, uint32_t rows, uint32_t dimension, rag_metric metric,
                           const char *factory, const rag_faiss_options *options, rag_faiss **out, rag_error *err) {
  RAG_UNUSED(fetch), RAG_UNUSED(rows), RAG_UNUSED(dimension), RAG_UNUSED(metric), RAG_UNUSED(factory);
  RAG_UNUSED(options), RAG_UNUSED(out);
  return refuse(err);
}
rag_status rag_faiss_open(rag_slice meta, rag_slice index, uint32_t rows, uint32_t dimension, rag_metric metric,
                          rag_faiss **out, rag_error *err) {
  RAG_UNUSED(meta), RAG_UNUSED(index), RAG_UNUSED(rows), RAG_UNUSED(dimension), RAG_UNUSED(metric), RAG_UNUSED(out);
  return refuse(err);
}
void rag_faiss_destroy(rag_faiss *engine) {
  RAG_ASSERT(engine == NULL); // there can be none, here and below
}
rag_slice rag_faiss_meta_section(const rag_faiss *engine) {
  RAG_ASSERT(engine == NULL);
  return (rag_slice){NULL, 0};
}
rag_status rag_faiss_write(const rag_faiss *engine, const rag_faiss_sink *sink, rag_error *err) {
  RAG_UNUSED(engine), RAG_UNUSED(sink);
  return refuse(err);
}
const rag_faiss_meta *rag_faiss_about(const rag_faiss *engine) {
  RAG_ASSERT(engine == NULL);
  return NULL;
}
uint64_t rag_faiss_bytes(const rag_faiss *engine) {
  RAG_ASSERT(engine == NULL);
  return 0;
}
bool rag_faiss_has_parameters(const rag_faiss *engine) {
  RAG_UNUSED(engine);
  return false;
}
bool rag_faiss_has_filters(const rag_faiss *engine) {
  RAG_UNUSED(engine);
  return false;
}
bool rag_faiss_setting(const rag_faiss *engine, uint32_t k, float target_recall, uint32_t *out_value,
                       uint32_t *out_take) {
  RAG_UNUSED(engine), RAG_UNUSED(target_recall);
  *out_value = 0;
  *out_take = k;
  return false;
}
rag_status rag_faiss_scratch_create(rag_faiss_scratch **out, rag_error *err) {
  RAG_UNUSED(out);
  return refuse(err);
}
void rag_faiss_scratch_destroy(rag_faiss_scratch *scratch) {
  RAG_ASSERT(scratch == NULL);
}
rag_status rag_faiss_search(const rag_faiss *engine, const rag_faiss_query *query, rag_faiss_scratch *scratch,
                            rag_index_topk *top, rag_faiss_stats *stats, rag_error *err) {
  RAG_UNUSED(engine), RAG_UNUSED(query), RAG_UNUSED(scratch), RAG_UNUSED(top), RAG_UNUSED(stats);
  return refuse(err);
}
