// Segments without a structure: 1-bit codes, all of them looked at. For few rows, where building anything would cost more
// than it saves.
//
// Every survivor's score is estimated. Where larger segments, which are searched first, have not filled the list of hits,
// the best by estimate are scored exactly; then whoever may still be better than the k-th hit, by the error of its own
// estimate, is scored. So how many rows are scored exactly follows from how well codes tell these rows apart, and no
// constant is to be chosen. What the recall is follows from the certainty with which the error holds.
//
// state: the codes, u8[rows][rag_codes_bits_bytes]; borrowed.
#include "index/segment/segment_internal.h"

#define POOL_RESERVE 64u    // rows beyond k that are chosen by estimate
#define CERTAINTY_HIGH 3.0f // standard deviations, where a recall above HIGH_RECALL is asked for
#define HIGH_RECALL 0.99
#define PROGRESS_ROWS 4096u

typedef struct flat_scratch {
  float *rotated;             // the query
  uint64_t *planes;           // and as bit planes
  rag_codes_bits_query query; // the same for every segment, as rows have no centroid
  uint64_t asked_by;          // the search that made it
  float *estimates;           // of every row, and then how far off they may be
  uint32_t estimate_room;
  rag_index_hit *pool; // best by estimates
  uint32_t pool_room;
} flat_scratch;

static void flat_scratch_destroy(void *of_kind) {
  flat_scratch *scratch = of_kind;
  rag_free(scratch->rotated);
  rag_free(scratch->planes);
  rag_free(scratch->estimates);
  rag_free(scratch->pool);
  rag_free(scratch);
}

// Room for `count` items; what was there before is lost.
static rag_status reserve(void **array, uint32_t *room, uint32_t count, size_t item, rag_error *err) {
  if (count <= *room) return RAG_OK;
  rag_free(*array);
  *array = NULL;
  *room = 0;
  *array = rag_realloc_array(NULL, count, item);
  if (*array == NULL) return rag_fail_no_memory(err, count * item);
  *room = count;
  return RAG_OK;
}

static rag_status scratch_of(const rag_index_segment *s, segment_scratch *all, uint32_t pool_rows, flat_scratch **out,
                             rag_error *err) {
  void **of_kind = rag_segment__scratch_of(all, &rag_segment__flat);
  uint32_t dimension = s->shared->dimension;
  if (*of_kind == NULL) {
    flat_scratch *made = rag_calloc(1, sizeof *made);
    if (made == NULL) return rag_fail_no_memory(err, sizeof *made);
    made->rotated = rag_calloc(rag_codes_padded(dimension), sizeof *made->rotated);
    made->planes = rag_calloc(rag_codes_bits_query_words(dimension), sizeof *made->planes);
    if (made->rotated == NULL || made->planes == NULL) {
      flat_scratch_destroy(made);
      return rag_fail_no_memory(err, rag_codes_padded(dimension) * sizeof *made->rotated);
    }
    *of_kind = made;
  }
  flat_scratch *scratch = *of_kind;
  RAG_TRY(reserve((void **)&scratch->estimates, &scratch->estimate_room, s->rows + 64, 2 * sizeof(float), err));
  RAG_TRY(reserve((void **)&scratch->pool, &scratch->pool_room, pool_rows, sizeof *scratch->pool, err));
  *out = scratch;
  return RAG_OK;
}

// What codes estimate (for l2 minus the squared distance) of a score.
static float raw_of(rag_metric metric, float score) {
  return metric == RAG_METRIC_L2 ? -score * score : score;
}

static void estimate(const rag_index_segment *s, const rag_codes_bits_query *query, const uint64_t *words,
                     float *scores, float *errors) {
  const rag_codes_kernels *kernels = rag_codes_kernels_best();
  const uint8_t *bits = s->state;
  size_t stride = rag_codes_bits_bytes(s->shared->dimension);
  uint32_t all = (s->rows + 63) / 64;
  for (uint32_t w = 0, run; w < all; w += run) { // words with a row in them, one after another
    run = 1;
    if (words[w] == 0) continue;
    while (w + run < all && words[w + run] != 0 && run < SEGMENT_GATHER / 64) run++;
    uint32_t first = w * 64, count = RAG_MIN(run * 64, s->rows - first);
    kernels->bits_rows(query, bits + first * stride, stride, count, scores + first, errors + first);
  }
}

static void ask(const rag_index_segment *s, const segment_search *search, flat_scratch *scratch) {
  const rag_index_shared *shared = s->shared;
  const rag_index_query *q = search->query;
  rag_codes_bits_query *out = &scratch->query;
  if (scratch->asked_by == search->scratch->searches) return;
  scratch->asked_by = search->scratch->searches;
  bool high = rag_segment__target(s, q) > HIGH_RECALL;
  rag_codes_rotate(shared->rotation, q->vector, scratch->rotated);
  rag_codes_bits_query_init(scratch->rotated, shared->dimension, high ? CERTAINTY_HIGH : RAG_CODES_BITS_CERTAINTY,
                            scratch->planes, out);
  double norm = 0;
  for (uint32_t i = 0; i < shared->dimension; i++) norm += (double)q->vector[i] * q->vector[i];
  rag_codes_bits_query_list(out, shared->metric, 0, (float)sqrt(norm));
}

static rag_status flat_search(const rag_index_segment *s, segment_search *search, const uint64_t *words,
                              uint64_t survivors, rag_error *err) {
  const rag_index_query *q = search->query;
  uint32_t pool_rows = q->k + POOL_RESERVE, all = (s->rows + 63) / 64;
  flat_scratch *scratch = NULL;
  if (survivors <= pool_rows) return rag_segment__scan_all(s, search, words, err);
  RAG_TRY(scratch_of(s, search->scratch, pool_rows, &scratch, err));
  ask(s, search, scratch);
  float *scores = scratch->estimates, *errors = scores + s->rows + 64;
  estimate(s, &scratch->query, words, scores, errors);
  search->plan->candidates += survivors;

  segment_scan scan;
  rag_segment__scan_init(&scan, s, search);
  bool full = search->top->count == search->top->capacity;
  rag_index_topk best = {0};
  if (!full) rag_index__topk_init(&best, scratch->pool, pool_rows, -FLT_MAX);
  for (uint32_t w = 0; !full && w < all; w++)
    for (uint64_t word = words[w]; word != 0; word &= word - 1) {
      uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(word);
      rag_index__topk_offer(&best, row, RAG_MAX(scores[row], -FLT_MAX));
    }
  if (!full) rag_index__topk_finish(&best);
  RAG_TRY(rag_index__check_deadline(q, err));
  for (uint32_t i = 0; i < best.count; i++) {
    uint32_t row = scratch->pool[i].ordinal;
    errors[row] = -INFINITY; // done
    rag_segment__scan_add(&scan, row);
  }
  rag_segment__scan_flush(&scan);
  float floor = raw_of(s->shared->metric, search->top->floor);
  floor -= fabsf(floor) * 1e-5f; // what rounding may do
  for (uint32_t w = 0; w < all; w++)
    for (uint64_t word = words[w]; word != 0; word &= word - 1) {
      uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(word);
      if (scores[row] + errors[row] >= floor) rag_segment__scan_add(&scan, row);
    }
  rag_segment__scan_flush(&scan);
  search->plan->rescored += scan.scored;
  return RAG_OK;
}

static rag_status flat_build(segment_build *b, rag_error *err) {
  uint32_t dimension = b->shared->dimension, bytes = rag_codes_bits_bytes(dimension);
  float *rotated = rag_realloc_array(NULL, rag_codes_padded(dimension), sizeof *rotated);
  uint8_t *code = rag_alloc(bytes);
  float room[RAG_DIMENSION_MAX];
  rag_status status = RAG_OK;
  if (rotated == NULL || code == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, bytes));
  RAG_TRY_OUT(rag_segment__writer_section(b->writer, SEGMENT_BITS, err));
  for (uint32_t i = 0; i < b->rows; i++) {
    rag_codes_rotate(b->shared->rotation, rag_segment__build_vector(b, i, room), rotated);
    rag_codes_bits_encode(rotated, NULL, dimension, b->shared->metric, code);
    RAG_TRY_OUT(rag_segment__writer_append(b->writer, code, bytes, err));
    if (i % PROGRESS_ROWS == 0) RAG_TRY_OUT(rag_segment__go_on(b, i, err));
  }
out:
  rag_free(rotated);
  rag_free(code);
  return status;
}

static rag_status flat_open(rag_index_segment *s, rag_error *err) {
  uint64_t bytes = (uint64_t)s->rows * rag_codes_bits_bytes(s->shared->dimension);
  s->state = (void *)rag_segment__section(s, SEGMENT_BITS, bytes);
  return s->state != NULL ? RAG_OK : rag_segment__damaged(s, "it has not the codes that it says", err);
}

static void flat_close(void *state) {
  RAG_UNUSED(state);
}

static rag_status flat_copy(const rag_index_segment *s, segment_writer *writer, const rag_bitmap *erase,
                            rag_error *err) {
  return rag_segment__copy_rows(writer, s, SEGMENT_BITS, s->state, rag_codes_bits_bytes(s->shared->dimension), 0, erase,
                                err);
}

static float flat_recall(const rag_index_segment *s) {
  RAG_UNUSED(s);
  return 0;
}

const segment_kind rag_segment__flat = {
    .name = "flat",
    .build = flat_build,
    .open = flat_open,
    .close = flat_close,
    .search = flat_search,
    .copy_without = flat_copy,
    .recall = flat_recall,
    .scratch_destroy = flat_scratch_destroy,
};
