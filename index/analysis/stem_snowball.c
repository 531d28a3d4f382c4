// The adapter of libstemmer: Snowball's stemming algorithms (Porter, 1980 and later; snowballstem.org).
//
// Threads: one stemmer, one thread. Memory: libstemmer's own malloc, a few hundred bytes a stemmer; a word that it has
// no memory for is left as it is.
#include "index/analysis/analysis_internal.h"

#include <libstemmer.h>

struct rag_analysis_stemmer {
  struct sb_stemmer *snowball;
};

const char *rag_analysis__stemmer_kind(void) {
  return "snowball";
}

rag_status rag_analysis__stemmer_open(const char *algorithm, rag_analysis_stemmer **out, rag_error *err) {
  rag_analysis_stemmer *stemmer = rag_alloc(sizeof(*stemmer));
  if (!stemmer) return rag_fail_no_memory(err, sizeof(*stemmer));
  stemmer->snowball = sb_stemmer_new(algorithm, "UTF_8");
  if (!stemmer->snowball) { // out of memory, or an algorithm that this libstemmer lacks: tests open all of them
    rag_free(stemmer);
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "libstemmer cannot open its %s stemmer", algorithm);
  }
  *out = stemmer;
  return RAG_OK;
}

void rag_analysis__stemmer_close(rag_analysis_stemmer *stemmer) {
  if (!stemmer) return;
  sb_stemmer_delete(stemmer->snowball);
  rag_free(stemmer);
}

rag_slice rag_analysis__stem(rag_analysis_stemmer *stemmer, const char *word, uint32_t size) {
  const sb_symbol *stem = sb_stemmer_stem(stemmer->snowball, (const sb_symbol *)word, (int)size);
  int stem_size = stem ? sb_stemmer_length(stemmer->snowball) : 0;
  // An algorithm that takes everything off leaves nothing to find the word by.
  return stem_size > 0 ? rag_slice_of(stem, (size_t)stem_size) : rag_slice_of(word, size);
}
