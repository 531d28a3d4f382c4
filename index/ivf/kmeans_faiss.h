// The door to FAISS's k-means, plain C so that C++ may read it (base.h is C alone). kmeans_faiss.cpp opens it,
// kmeans_none.c says that there is none.
#ifndef RAGD_INDEX_IVF_KMEANS_FAISS_H
#define RAGD_INDEX_IVF_KMEANS_FAISS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rag_ivf_kmeans_end {
  RAG_IVF_KMEANS_DONE = 0,
  RAG_IVF_KMEANS_STOPPED = 1, // `assign` said so
  RAG_IVF_KMEANS_NO_MEMORY = 2,
  RAG_IVF_KMEANS_FAILED = 3,  // the message says why
  RAG_IVF_KMEANS_MISSING = 4, // built without FAISS
} rag_ivf_kmeans_end;

typedef struct rag_ivf_kmeans_job {
  uint32_t dimension, lists, rows, iterations; // rows >= lists
  uint32_t seed;
  void *context;
  void (*decode)(void *context, uint32_t row, float *out);
  // The nearest of the centroids to each of [first, first + count). False stops. Called with first ascending, from 0,
  // once for each part of an iteration.
  int (*assign)(void *context, const float *centroids, uint32_t first, uint32_t count, float *out_distances,
                int64_t *out_nearest);
} rag_ivf_kmeans_job;

// centroids: lists x dimension.
rag_ivf_kmeans_end rag_ivf__kmeans(const rag_ivf_kmeans_job *job, float *out_centroids, char *message,
                                   size_t message_max);

#ifdef __cplusplus
}
#endif
#endif
