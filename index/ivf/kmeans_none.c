// In builds without FAISS: centroids are read, not trained.
#include "index/ivf/kmeans_faiss.h"

rag_ivf_kmeans_end rag_ivf__kmeans(const rag_ivf_kmeans_job *job, float *out_centroids, char *message,
                                   size_t message_max) {
  (void)job;
  (void)out_centroids;
  (void)message;
  (void)message_max;
  return RAG_IVF_KMEANS_MISSING;
}
