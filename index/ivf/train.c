// Centroids by k-means over a sample (FAISS's; kmeans_faiss.cpp), with our own search for the nearest.
#include "index/ivf/ivf_internal.h"
#include "index/ivf/kmeans_faiss.h"

typedef struct trainer {
  const rag_ivf_codes *sample;
  const rag_ivf_train_options *options;
  rag_ivf__assigner *assigner;
  uint32_t *nearest; // of one part
  uint32_t room;
  uint64_t done, total; // rows assigned, over all iterations
  rag_status status;    // of what stopped it
  rag_error *err;
} trainer;

static void decode(void *context, uint32_t row, float *out) {
  const rag_ivf_codes *codes = ((const trainer *)context)->sample;
  rag_codes_int8_decode(codes->base + row * codes->stride, &codes->factors[row], codes->dimension, out);
}

static rag_status assign_part(trainer *t, uint32_t first, uint32_t count, float *out_distances, int64_t *out_nearest) {
  const rag_ivf_train_options *o = t->options;
  if (o->progress && !o->progress(o->progress_context, t->done, t->total)) {
    return rag_fail(t->err, RAG_CANCELLED, "the training was stopped");
  }
  if (t->room < count) {
    rag_free(t->nearest);
    t->room = 0;
    t->nearest = rag_alloc(count * sizeof *t->nearest);
    if (!t->nearest) return rag_fail_no_memory(t->err, count * sizeof *t->nearest);
    t->room = count;
  }
  RAG_TRY(rag_ivf__assign(t->assigner, first, first + count, t->nearest, NULL, out_distances, t->err));
  for (uint32_t i = 0; i < count; i++) out_nearest[i] = t->nearest[i];
  t->done += count;
  return RAG_OK;
}

static int assign(void *context, const float *centroids, uint32_t first, uint32_t count, float *out_distances,
                  int64_t *out_nearest) {
  trainer *t = context;
  if (first == 0) rag_ivf__assigner_use(t->assigner, centroids);
  t->status = assign_part(t, first, count, out_distances, out_nearest);
  return t->status == RAG_OK;
}

static rag_status run(trainer *t, uint32_t lists, uint32_t iterations, float *out_vectors) {
  const rag_ivf_codes *sample = t->sample;
  char message[256] = "";
  rag_ivf_kmeans_job job = {.dimension = sample->dimension,
                            .lists = lists,
                            .rows = sample->rows,
                            .iterations = iterations,
                            .seed = (uint32_t)(t->options->seed ^ t->options->seed >> 32) >> 1, // FAISS's is an int
                            .context = t,
                            .decode = decode,
                            .assign = assign};
  t->total = (uint64_t)sample->rows * iterations;
  switch (rag_ivf__kmeans(&job, out_vectors, message, sizeof message)) {
  case RAG_IVF_KMEANS_DONE:
    return RAG_OK;
  case RAG_IVF_KMEANS_STOPPED:
    return t->status;
  case RAG_IVF_KMEANS_NO_MEMORY:
    return rag_fail(t->err, RAG_RESOURCE_EXHAUSTED, "k-means ran out of memory");
  case RAG_IVF_KMEANS_MISSING:
    return rag_fail(t->err, RAG_UNIMPLEMENTED, "this build has no k-means: build it with FAISS");
  case RAG_IVF_KMEANS_FAILED:
    break;
  }
  return rag_fail(t->err, RAG_INTERNAL, "FAISS's k-means failed: %s", message);
}

rag_status rag_ivf_train(const rag_ivf_codes *sample, const rag_ivf_train_options *options, rag_ivf_centroids **out,
                         rag_error *err) {
  uint32_t lists = options->lists ? options->lists : rag_ivf_default_lists(sample->rows);
  uint32_t iterations = options->iterations ? options->iterations : RAG_IVF_ITERATIONS_DEFAULT;
  if (sample->rows == 0 || sample->rows > RAG_IVF_ROWS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "training on %u rows; give 1 to %u", sample->rows, RAG_IVF_ROWS_MAX);
  }
  if (lists > sample->rows || lists > RAG_IVF_LISTS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u lists of %u rows; there can be as many as rows, and %u", lists,
                    sample->rows, RAG_IVF_LISTS_MAX);
  }
  if (iterations > RAG_IVF_ITERATIONS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u iterations; there can be %u at most", iterations,
                    RAG_IVF_ITERATIONS_MAX);
  }
  rag_status status = RAG_OK;
  rag_ivf__team *team = NULL;
  trainer t = {.sample = sample, .options = options, .err = err};
  size_t size = (size_t)lists * sample->dimension * sizeof(float);
  float *vectors = rag_alloc(size);
  if (!vectors) return rag_fail_no_memory(err, size);
  RAG_TRY_OUT(rag_ivf__team_create(options->threads, &team, err));
  RAG_TRY_OUT(rag_ivf__assigner_create(lists, sample, team, &t.assigner, err));
  RAG_TRY_OUT(run(&t, lists, iterations, vectors));
  RAG_TRY_OUT(rag_ivf__centroids_finish(vectors, lists, sample, team, options->seed, iterations, out, err));
out:
  rag_ivf__assigner_destroy(t.assigner);
  rag_ivf__team_destroy(team);
  rag_free(t.nearest);
  rag_free(vectors);
  return status;
}
