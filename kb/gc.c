// Retention.
#include "kb/kb_internal.h"

rag_status rag_kb_gc(rag_kb *kb, const rag_gc_options *options, uint64_t *out_job, rag_error *err) {
  RAG_UNUSED(kb), RAG_UNUSED(options), RAG_UNUSED(out_job);
  return rag_fail(err, RAG_UNIMPLEMENTED, "gc is not there yet");
}

rag_status rag_kb__gc_run(void *ctx, rag_job *job, rag_error *err) {
  RAG_UNUSED(ctx), RAG_UNUSED(job);
  return rag_fail(err, RAG_UNIMPLEMENTED, "gc is not there yet");
}
