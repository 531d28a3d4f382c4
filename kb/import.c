// A knowledge base from a stream.
#include "kb/kb_internal.h"

rag_status rag_kbs_import(rag_kbs *kbs, rag_slice name, rag_read_fn read, void *ctx, rag_kb **out, rag_error *err) {
  RAG_UNUSED(kbs), RAG_UNUSED(name), RAG_UNUSED(read), RAG_UNUSED(ctx), RAG_UNUSED(out);
  return rag_fail(err, RAG_UNIMPLEMENTED, "import is not there yet");
}

rag_status rag_kbs__import_sweep(rag_kbs *kbs, rag_error *err) {
  RAG_UNUSED(kbs), RAG_UNUSED(err);
  return RAG_OK;
}
