// Goal: the exact search ranks as an independent implementation does.
//
// Method: the same rows and queries through FAISS's IndexFlatIP and IndexFlatL2. FAISS adds in another order, so scores
// agree within a rounding bound and not to the bit, and rows whose scores lie within that bound of each other may swap:
// at every rank the two scores must be within the bound, and a row that only one side returns must score within the
// bound of the last rank.
#include "index_testing.h"

#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>

#define ROWS 3000u
#define QUERIES 8u
#define K 50u

static void check_faiss(int rc) {
  if (rc != 0) fail_msg("FAISS: %s", faiss_get_last_error());
}

static void compare(uint32_t dimension, rag_metric metric) {
  uint64_t random = dimension * 3 + (uint64_t)metric;
  float *rows = rag_alloc((size_t)(ROWS + QUERIES) * dimension * sizeof(float));
  uint32_t *ordinals = rag_alloc(ROWS * sizeof(uint32_t));
  float *distances = rag_alloc(QUERIES * K * sizeof(float));
  idx_t *labels = rag_alloc(QUERIES * K * sizeof(idx_t));
  rag_index_hit hits[K];
  assert_true(rows && ordinals && distances && labels);
  for (size_t i = 0; i < (size_t)(ROWS + QUERIES) * dimension; i++) rows[i] = random_unit(&random);
  for (uint32_t i = 0; i < ROWS; i++) ordinals[i] = i;
  if (metric == RAG_METRIC_COSINE) {
    for (uint32_t i = 0; i < ROWS + QUERIES; i++) rag_vector_normalize(rows + (size_t)i * dimension, dimension);
  }
  float *queries = rows + (size_t)ROWS * dimension;

  FaissIndex *faiss = NULL;
  if (metric == RAG_METRIC_L2) {
    FaissIndexFlatL2 *flat = NULL;
    check_faiss(faiss_IndexFlatL2_new_with(&flat, (idx_t)dimension));
    faiss = (FaissIndex *)flat;
  } else {
    FaissIndexFlatIP *flat = NULL;
    check_faiss(faiss_IndexFlatIP_new_with(&flat, (idx_t)dimension));
    faiss = (FaissIndex *)flat;
  }
  check_faiss(faiss_Index_add(faiss, ROWS, rows));
  check_faiss(faiss_Index_search(faiss, QUERIES, queries, K, distances, labels));

  rag_index *index = NULL;
  rag_index_options options = {.dimension = dimension, .metric = metric};
  assert_int_equal(rag_index_create(&options, &index, NULL), RAG_OK);
  assert_int_equal(rag_index_append(index, ordinals, ROWS, rows, NULL), RAG_OK);
  rag_index_view *view = rag_index_pin(index);
  // Sums of `dimension` products of at most 1: FAISS's error and ours. For L2 it is about the squared distance, of
  // which the root is taken where it is far from zero.
  float bound = metric == RAG_METRIC_COSINE ? 1e-5f : 2e-6f * (float)dimension + 1e-5f;
  for (uint32_t q = 0; q < QUERIES; q++) {
    uint32_t count = 0;
    rag_index_query query = {.vector = queries + (size_t)q * dimension, .k = K};
    assert_int_equal(rag_index_search(view, &query, hits, &count, NULL, NULL), RAG_OK);
    assert_int_equal(count, K);
    uint32_t shared = 0, near_last = 0;
    for (uint32_t i = 0; i < K; i++) {
      float score = hits[i].score, theirs = distances[q * K + i];
      float ours = metric == RAG_METRIC_L2 ? score * score : score;
      if (fabsf(ours - theirs) > bound) {
        fail_msg("dimension %u %s, query %u, rank %u: %.9g, FAISS %.9g", dimension, rag_metric_name(metric), q, i,
                 (double)ours, (double)theirs);
      }
      for (uint32_t j = 0; j < K; j++) shared += labels[q * K + j] == (idx_t)hits[i].ordinal;
      near_last += fabsf(theirs - distances[q * K + K - 1]) <= 2 * bound;
    }
    assert_true(shared >= K - near_last);
  }
  rag_ref_drop(view);
  rag_index_destroy(index);
  faiss_Index_free(faiss);
  rag_free(rows);
  rag_free(ordinals);
  rag_free(distances);
  rag_free(labels);
}

static void test_ranks_as_faiss_does(void **state) {
  (void)state;
  const uint32_t dimensions[] = {1, 3, 17, 100, 384, 768};
  for (size_t i = 0; i < RAG_COUNT_OF(dimensions); i++) {
    compare(dimensions[i], RAG_METRIC_COSINE);
    compare(dimensions[i], RAG_METRIC_IP);
    compare(dimensions[i], RAG_METRIC_L2);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranks_as_faiss_does)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
