// Erasure of documents.
#include "kb/kb_internal.h"

rag_status rag_kb_purge(rag_kb *kb, const rag_slice *ids, uint32_t count, uint64_t *out_job, rag_error *err) {
  RAG_UNUSED(kb), RAG_UNUSED(ids), RAG_UNUSED(count), RAG_UNUSED(out_job);
  return rag_fail(err, RAG_UNIMPLEMENTED, "purge is not there yet");
}

rag_status rag_kb__purge_run(void *ctx, rag_job *job, rag_error *err) {
  RAG_UNUSED(ctx), RAG_UNUSED(job);
  return rag_fail(err, RAG_UNIMPLEMENTED, "purge is not there yet");
}
