// Stands in for stem_snowball.c in builds without libstemmer (-DRAGD_ONLY_KERNELS=ON): words are left as they are.
#include "index/analysis/analysis_internal.h"

struct rag_analysis_stemmer {
  char unused;
};

const char *rag_analysis__stemmer_kind(void) {
  return "none";
}

rag_status rag_analysis__stemmer_open(const char *algorithm, rag_analysis_stemmer **out, rag_error *err) {
  RAG_UNUSED(algorithm);
  rag_analysis_stemmer *stemmer = rag_calloc(1, sizeof(*stemmer));
  if (!stemmer) return rag_fail_no_memory(err, sizeof(*stemmer));
  *out = stemmer;
  return RAG_OK;
}

void rag_analysis__stemmer_close(rag_analysis_stemmer *stemmer) {
  rag_free(stemmer);
}

rag_slice rag_analysis__stem(rag_analysis_stemmer *stemmer, const char *word, uint32_t size) {
  RAG_UNUSED(stemmer);
  return rag_slice_of(word, size);
}
