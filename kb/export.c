// A knowledge base as one stream.
#include "kb/kb_internal.h"

rag_status rag_kb_export(rag_kb *kb, rag_write_fn write, void *ctx, rag_error *err) {
  RAG_UNUSED(kb), RAG_UNUSED(write), RAG_UNUSED(ctx);
  return rag_fail(err, RAG_UNIMPLEMENTED, "export is not there yet");
}
