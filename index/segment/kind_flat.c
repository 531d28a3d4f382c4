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
#define LANES 16u // estimates looked at together

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

static rag_status scratch_of(const rag_index_segment *s, segment_scratch *all, flat_scratch **out, rag_error *err) {
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
  *out = scratch;
  return RAG_OK;
}

// Words with a row in them, one after another, of at most SEGMENT_GATHER rows. False: there are no more.
typedef struct run {
  uint32_t word, words, first, rows;
} run;

static bool next_run(const rag_index_segment *s, const uint64_t *words, run *r) {
  uint32_t all = (s->rows + 63) / 64, w = r->word + r->words;
  while (w < all && words[w] == 0) w++;
  *r = (run){.word = w, .first = w * 64};
  if (w == all) return false;
  while (w + r->words < all && words[w + r->words] != 0 && r->words < SEGMENT_GATHER / 64) r->words++;
  r->rows = RAG_MIN(r->words * 64, s->rows - r->first);
  return true;
}

static void estimate(const rag_index_segment *s, const rag_codes_bits_query *query, const run *r, float *scores,
                     float *errors) {
  size_t stride = rag_codes_bits_bytes(s->shared->dimension);
  const uint8_t *bits = s->state;
  rag_codes_kernels_best()->bits_rows(query, bits + r->first * stride, stride, r->rows, scores, errors);
}

// The least that an estimate and its error must reach for a row to be among the hits.
static float floor_of(const segment_search *search, rag_metric metric) {
  float floor = search->top->floor;
  if (metric == RAG_METRIC_L2) floor = -floor * floor; // estimates are of minus the squared distance
  return floor - fabsf(floor) * 1e-5f;                 // what rounding may do
}

typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));

static bool any_above(const float scores[LANES], const float errors[LANES], float floor) {
  int4 above = {0};
  for (uint32_t i = 0; i < LANES; i += 4) {
    float4 score, error;
    memcpy(&score, scores + i, sizeof score);
    memcpy(&error, errors + i, sizeof error);
    above |= score + error >= floor;
  }
  uint64_t half[2];
  memcpy(half, &above, sizeof half);
  return (half[0] | half[1]) != 0;
}

// Has those rows of a run scored exactly that may be among the hits. scores, errors: of its first row on, and as many as
// whole words have.
static void sift(segment_scan *scan, const run *r, const uint64_t *words, const float *scores, const float *errors) {
  float floor = floor_of(scan->search, scan->segment->shared->metric);
  for (uint32_t at = 0; at < r->words * 64; at += LANES) {
    if (!any_above(scores + at, errors + at, floor)) continue; // nearly always
    uint32_t passing = (uint32_t)(words[r->word + at / 64] >> at % 64) & ((1u << LANES) - 1);
    for (; passing != 0; passing &= passing - 1) {
      uint32_t i = at + (uint32_t)__builtin_ctz(passing);
      if (scores[i] + errors[i] >= floor) rag_segment__scan_add(scan, r->first + i);
    }
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

// The list is full: estimates stay in the first-level cache, and a run is sifted by what was scored until then.
static void search_full(const rag_index_segment *s, segment_scan *scan, const rag_codes_bits_query *query,
                        const uint64_t *words) {
  float scores[SEGMENT_GATHER] = {0}, errors[SEGMENT_GATHER] = {0}; // past a last word's rows they say nothing
  for (run r = {0}; next_run(s, words, &r);) {
    estimate(s, query, &r, scores, errors);
    sift(scan, &r, words, scores, errors);
  }
}

// Those that fill it come first, the best by estimate.
static rag_status fill(const rag_index_segment *s, segment_scan *scan, flat_scratch *scratch, uint32_t pool_rows,
                       const uint64_t *words, rag_error *err) {
  uint32_t room = (s->rows + 63) / 64 * 64;
  RAG_TRY(reserve((void **)&scratch->estimates, &scratch->estimate_room, room, 2 * sizeof(float), err));
  RAG_TRY(reserve((void **)&scratch->pool, &scratch->pool_room, pool_rows, sizeof *scratch->pool, err));
  float *scores = scratch->estimates, *errors = scores + room;
  rag_index_topk best;
  rag_index__topk_init(&best, scratch->pool, pool_rows, -FLT_MAX);
  for (uint32_t i = s->rows; i < room; i++) scores[i] = errors[i] = 0;
  for (run r = {0}; next_run(s, words, &r);) {
    estimate(s, &scratch->query, &r, scores + r.first, errors + r.first);
    for (uint32_t w = r.word; w < r.word + r.words; w++)
      for (uint64_t word = words[w]; word != 0; word &= word - 1) {
        uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(word);
        rag_index__topk_offer(&best, row, RAG_MAX(scores[row], -FLT_MAX));
      }
  }
  rag_index__topk_finish(&best);
  RAG_TRY(rag_index__check_deadline(scan->search->query, err));
  for (uint32_t i = 0; i < best.count; i++) {
    uint32_t row = scratch->pool[i].ordinal;
    errors[row] = NAN; // done: at or above nothing
    rag_segment__scan_add(scan, row);
  }
  rag_segment__scan_flush(scan);
  for (run r = {0}; next_run(s, words, &r);) sift(scan, &r, words, scores + r.first, errors + r.first);
  return RAG_OK;
}

static rag_status flat_search(const rag_index_segment *s, segment_search *search, const uint64_t *words,
                              uint64_t survivors, rag_error *err) {
  uint32_t pool_rows = search->query->k + POOL_RESERVE;
  flat_scratch *scratch = NULL;
  segment_scan scan;
  if (survivors <= pool_rows) return rag_segment__scan_all(s, search, words, err);
  RAG_TRY(rag_index__check_deadline(search->query, err));
  RAG_TRY(scratch_of(s, search->scratch, &scratch, err));
  ask(s, search, scratch);
  rag_segment__scan_init(&scan, s, search);
  search->plan->candidates += survivors;
  if (search->top->count == search->top->capacity) search_full(s, &scan, &scratch->query, words);
  else RAG_TRY(fill(s, &scan, scratch, pool_rows, words, err));
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
