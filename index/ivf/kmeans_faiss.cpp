// FAISS's Clustering, fed with what it has no C functions for: rows that stay int8 codes (a codec), and an index that
// finds nearest centroids by integer products. FAISS draws the first centroids, averages rows, and splits large
// clusters where one is empty.
//
// Threads: FAISS runs with one OpenMP thread here (the number is the calling thread's own, and put back); it calls no
// BLAS, as the index that would is ours. So nothing of the process is changed, and the result depends on the seed alone.
// The C API is no door to this: it has no index whose search is a function of ours, and training from floats by
// faiss_Clustering_train took 23 s of CPU for 1,327 lists of 110,000 rows of 384 dimensions, ten iterations.
#include "index/ivf/kmeans_faiss.h"

#include <faiss/Clustering.h>
#include <faiss/Index.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <vector>

extern "C" void omp_set_num_threads(int);
extern "C" int omp_get_max_threads(void);

namespace {

struct stopped {};

class one_thread { // of OpenMP, for regions that this thread begins
public:
  one_thread() : before(omp_get_max_threads()) {
    omp_set_num_threads(1);
  }
  ~one_thread() {
    omp_set_num_threads(before);
  }
  one_thread(const one_thread &) = delete;
  one_thread &operator=(const one_thread &) = delete;

private:
  int before;
};

// A code is a row's number.
class row_codec : public faiss::Index {
public:
  explicit row_codec(const rag_ivf_kmeans_job &j) : faiss::Index(j.dimension), job(j) {}
  size_t sa_code_size() const override {
    return sizeof(uint32_t);
  }
  void sa_decode(int64_t n, const uint8_t *bytes, float *x) const override {
    for (int64_t i = 0; i < n; i++) {
      uint32_t row;
      std::memcpy(&row, bytes + static_cast<size_t>(i) * sizeof row, sizeof row);
      job.decode(job.context, row, x + static_cast<size_t>(i) * job.dimension);
    }
  }
  void add(int64_t, const float *) override {}
  void search(int64_t, const float *, int64_t, float *, int64_t *, const faiss::SearchParameters *) const override {}
  void reset() override {}

private:
  const rag_ivf_kmeans_job &job;
};

// Holds the centroids; is asked for all rows in their order, part by part, so that it knows which ones they are.
class nearest_centroids : public faiss::Index {
public:
  explicit nearest_centroids(const rag_ivf_kmeans_job &j) : faiss::Index(j.dimension), job(j) {}
  void add(int64_t n, const float *x) override {
    centroids.assign(x, x + static_cast<size_t>(n) * job.dimension);
    ntotal = n;
  }
  void search(int64_t n, const float *, int64_t, float *distances, int64_t *labels,
              const faiss::SearchParameters *) const override {
    if (!job.assign(job.context, centroids.data(), next, static_cast<uint32_t>(n), distances, labels)) throw stopped();
    next += static_cast<uint32_t>(n);
  }
  void reset() override {
    ntotal = 0;
    next = 0;
  }

private:
  const rag_ivf_kmeans_job &job;
  std::vector<float> centroids;
  mutable uint32_t next = 0;
};

void train(const rag_ivf_kmeans_job &job, float *out) {
  one_thread scope;
  faiss::ClusteringParameters parameters;
  parameters.niter = static_cast<int>(job.iterations);
  parameters.min_points_per_centroid = 1; // of no use here but to print a warning
  parameters.max_points_per_centroid = std::numeric_limits<int>::max();
  parameters.seed = static_cast<int>(job.seed);
  faiss::Clustering clustering(static_cast<int>(job.dimension), static_cast<int>(job.lists), parameters);
  std::vector<uint32_t> rows(job.rows);
  for (uint32_t i = 0; i < job.rows; i++) rows[i] = i;
  row_codec codec(job);
  nearest_centroids index(job);
  clustering.train_encoded(job.rows, reinterpret_cast<const uint8_t *>(rows.data()), &codec, index);
  std::memcpy(out, clustering.centroids.data(), clustering.centroids.size() * sizeof *out);
}

} // namespace

rag_ivf_kmeans_end rag_ivf__kmeans(const rag_ivf_kmeans_job *job, float *out_centroids, char *message,
                                   size_t message_max) {
  try {
    train(*job, out_centroids);
    return RAG_IVF_KMEANS_DONE;
  } catch (const stopped &) {
    return RAG_IVF_KMEANS_STOPPED;
  } catch (const std::bad_alloc &) {
    return RAG_IVF_KMEANS_NO_MEMORY;
  } catch (const std::exception &e) {
    std::snprintf(message, message_max, "%s", e.what());
    return RAG_IVF_KMEANS_FAILED;
  } catch (...) {
    std::snprintf(message, message_max, "an unknown exception");
    return RAG_IVF_KMEANS_FAILED;
  }
}
