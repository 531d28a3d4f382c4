// Which lists a row belongs to: the nearest centroid's, and for the second entry the one that SOAR (arXiv 2404.00774)
// picks: near too, but its residual at an angle to the first one. A query that the first centroid hides lies along the
// first residual, seen from the row; there the second one sees it better. The cost of a centroid c with residual r is
// |r|^2 + weight * <r, r1>^2 / |r1|^2, r1 being the first residual.
//
// Nearest by int8 codes, of rows and of centroids: exact integer products (rag_codes_kernels.int8_tile), so the answer
// is the same on every CPU and with any number of threads.
#include "index/ivf/ivf_internal.h"

#define TILE 32u         // rows whose products with all centroids are made at once
#define CANDIDATES 16u   // nearest centroids among which the second is chosen
#define SOAR_WEIGHT 2.0f // on real embeddings 0 reads 83 lists for a recall of .98, .5 55, 1 50, 2 47, 4 46
#define BLOCK 16u        // a trip count that compilers make vector code of

typedef struct worker {
  int8_t *queries; // [TILE][bytes]
  int32_t *dots;   // [TILE][lists]
  float *scores;   // [lists, up to a multiple of BLOCK]: <x, c> - |c|^2 / 2
  float *row, *residual;
} worker;

struct rag_ivf__assigner {
  const rag_ivf_codes *codes;
  const rag_codes_kernels *kernels;
  rag_ivf__team *team;
  uint32_t lists, padded_lists;
  uint32_t bytes;       // of a code
  const float *vectors; // borrowed
  uint8_t *centroids;   // codes of them
  rag_codes_int8_factors *factors;
  float *scales, *half_norms; // of the centroids, zeros behind the last
  worker *workers;
  // Of one rag_ivf__assign.
  uint32_t begin;
  uint32_t *first, *second;
  float *distances;
};

static rag_status worker_init(const rag_ivf__assigner *a, worker *w, rag_error *err) {
  uint32_t dimension = a->codes->dimension;
  w->queries = rag_aligned_alloc(64, (size_t)TILE * a->bytes);
  w->dots = rag_alloc(((size_t)TILE * a->lists + BLOCK) * sizeof *w->dots); // the last row is read in whole blocks
  w->scores = rag_alloc(a->padded_lists * sizeof *w->scores);
  w->row = rag_alloc(dimension * sizeof *w->row);
  w->residual = rag_alloc(dimension * sizeof *w->residual);
  if (!w->queries || !w->dots || !w->scores || !w->row || !w->residual) {
    return rag_fail_no_memory(err, (size_t)TILE * a->lists * sizeof *w->dots);
  }
  memset(w->dots, 0, ((size_t)TILE * a->lists + BLOCK) * sizeof *w->dots);
  return RAG_OK;
}

rag_status rag_ivf__assigner_create(uint32_t lists, const rag_ivf_codes *codes, rag_ivf__team *team,
                                    rag_ivf__assigner **out, rag_error *err) {
  rag_status status = RAG_OK;
  uint32_t threads = rag_ivf__team_threads(team);
  rag_ivf__assigner *a = rag_calloc(1, sizeof *a);
  if (!a) return rag_fail_no_memory(err, sizeof *a);
  a->codes = codes;
  a->kernels = rag_codes_kernels_best();
  a->team = team;
  a->lists = lists;
  a->padded_lists = (lists + BLOCK - 1) / BLOCK * BLOCK;
  a->bytes = rag_codes_int8_bytes(codes->dimension);
  a->centroids = rag_aligned_alloc(64, (size_t)lists * a->bytes);
  a->factors = rag_alloc(lists * sizeof *a->factors);
  a->scales = rag_calloc(a->padded_lists, sizeof *a->scales);
  a->half_norms = rag_calloc(a->padded_lists, sizeof *a->half_norms);
  a->workers = rag_calloc(threads, sizeof *a->workers);
  if (!a->centroids || !a->factors || !a->scales || !a->half_norms || !a->workers) {
    status = rag_fail_no_memory(err, (size_t)lists * a->bytes);
    goto out;
  }
  for (uint32_t t = 0; t < threads; t++) RAG_TRY_OUT(worker_init(a, &a->workers[t], err));
  *out = a;
  a = NULL;
out:
  rag_ivf__assigner_destroy(a);
  return status;
}

void rag_ivf__assigner_destroy(rag_ivf__assigner *a) {
  if (!a) return;
  for (uint32_t t = 0; a->workers && t < rag_ivf__team_threads(a->team); t++) {
    worker *w = &a->workers[t];
    rag_free(w->queries);
    rag_free(w->dots);
    rag_free(w->scores);
    rag_free(w->row);
    rag_free(w->residual);
  }
  rag_free(a->workers);
  rag_free(a->centroids);
  rag_free(a->factors);
  rag_free(a->scales);
  rag_free(a->half_norms);
  rag_free(a);
}

void rag_ivf__assigner_use(rag_ivf__assigner *a, const float *vectors) {
  uint32_t dimension = a->codes->dimension;
  a->vectors = vectors;
  for (uint32_t c = 0; c < a->lists; c++) {
    rag_codes_int8_encode(vectors + (size_t)c * dimension, dimension, a->centroids + (size_t)c * a->bytes,
                          &a->factors[c]);
    a->scales[c] = a->factors[c].scale;
    a->half_norms[c] = a->factors[c].norm_squared / 2;
  }
}

// Scores of a row's products, and the centroids of the `max` highest, best first; how many those are.
static uint32_t nearest(const rag_ivf__assigner *a, float scale, const int32_t *dots, uint32_t max, float *scores,
                        uint32_t *out) {
  float best[CANDIDATES], floor = -FLT_MAX;
  uint32_t count = 0;
  // The last block's last products may be those of the next row: their scores are not looked at.
  for (uint32_t begin = 0; begin < a->padded_lists; begin += BLOCK) {
    uint32_t higher = 0;
    for (uint32_t i = begin; i < begin + BLOCK; i++) {
      scores[i] = (float)dots[i] * scale * a->scales[i] - a->half_norms[i];
      higher |= scores[i] > floor; // nor a NaN
    }
    if (!higher) continue;
    for (uint32_t c = begin; c < RAG_MIN(begin + BLOCK, a->lists); c++) {
      if (!(scores[c] > floor)) continue;
      uint32_t at = count < max ? count++ : max - 1;
      for (; at > 0 && best[at - 1] < scores[c]; at--) {
        best[at] = best[at - 1];
        out[at] = out[at - 1];
      }
      best[at] = scores[c];
      out[at] = c;
      if (count == max) floor = best[max - 1];
    }
  }
  if (count == 0) out[count++] = 0; // no score is a number: any list will do
  return count;
}

static uint32_t choose_second(const rag_ivf__assigner *a, worker *w, uint32_t row, const uint32_t *candidates,
                              uint32_t count) {
  if (count < 2) return a->lists > 1 ? (candidates[0] + 1) % a->lists : RAG_IVF_NONE;
  const rag_kernels *kernels = rag_kernels_best();
  const rag_ivf_codes *codes = a->codes;
  uint32_t dimension = codes->dimension;
  const float *first = a->vectors + (size_t)candidates[0] * dimension, *others[CANDIDATES];
  float products[CANDIDATES];
  rag_codes_int8_decode(codes->base + row * codes->stride, &codes->factors[row], dimension, w->row);
  for (uint32_t i = 0; i < dimension; i++) w->residual[i] = w->row[i] - first[i];
  for (uint32_t i = 1; i < count; i++) others[i] = a->vectors + (size_t)candidates[i] * dimension;
  kernels->dot_gather(w->residual, others + 1, count - 1, dimension, products + 1);
  float own = kernels->dot(w->residual, w->row, dimension), norm = kernels->dot(w->residual, w->residual, dimension);
  uint32_t best = candidates[1];
  float best_cost = INFINITY, weight = norm > 0 ? SOAR_WEIGHT / norm : 0;
  for (uint32_t i = 1; i < count; i++) {
    float along = own - products[i], distance = -2 * w->scores[candidates[i]]; // less |x|^2, alike for all
    float cost = distance + weight * along * along;
    if (cost < best_cost) {
      best_cost = cost;
      best = candidates[i];
    }
  }
  return best;
}

static void assign_row(const rag_ivf__assigner *a, worker *w, uint32_t row, const int32_t *dots) {
  uint32_t candidates[CANDIDATES], at = row - a->begin;
  uint32_t count = nearest(a, a->codes->factors[row].scale, dots, a->second ? CANDIDATES : 1, w->scores, candidates);
  a->first[at] = candidates[0];
  if (a->second) a->second[at] = choose_second(a, w, row, candidates, count);
  if (a->distances) {
    float distance = a->codes->factors[row].norm_squared - 2 * w->scores[candidates[0]];
    distance = distance > 0 ? distance : 0; // nor a NaN
    a->distances[at] = RAG_MIN(distance, FLT_MAX);
  }
}

static void assign_rows(void *context, uint32_t thread, uint32_t begin, uint32_t end) {
  const rag_ivf__assigner *a = context;
  const rag_ivf_codes *codes = a->codes;
  worker *w = &a->workers[thread];
  rag_codes_int8_query queries[TILE] = {0};
  uint32_t count = end - begin; // TILE at most
  for (uint32_t i = 0; i < count; i++) {
    uint32_t row = begin + i;
    rag_codes_int8_query_of_row(codes->base + row * codes->stride, &codes->factors[row], codes->dimension,
                                w->queries + (size_t)i * a->bytes, &queries[i]);
  }
  a->kernels->int8_tile(queries, count, a->centroids, a->bytes, a->lists, w->dots);
  for (uint32_t i = 0; i < count; i++) assign_row(a, w, begin + i, w->dots + (size_t)i * a->lists);
}

rag_status rag_ivf__assign(rag_ivf__assigner *a, uint32_t begin, uint32_t end, uint32_t *out_first,
                           uint32_t *out_second, float *out_distances, rag_error *err) {
  a->begin = begin;
  a->first = out_first;
  a->second = out_second;
  a->distances = out_distances;
  return rag_ivf__team_run(a->team, assign_rows, a, begin, end, TILE, err);
}
