// Searches of one segment: which of its rows may be found, and the cheapest way to the best of them.
//
//  - Few survivors, or `exact`: their full-precision rows, all of them.
//  - A graph: rag_graph_search, which scans the codes of the survivors where that is cheaper than to walk.
//  - 1-bit codes: every survivor's score is estimated; the best by estimate are scored exactly; then whoever may still
//    be better than the k-th of those, by the error of its own estimate, is scored too. So how many rows are scored
//    exactly follows from how well codes tell these rows apart, and no constant is to be chosen.
//
// Selecting. Rows of a segment are ordinals in ascending order, so the bits of its rows are the filter's bits at the
// segment's ordinals, pressed together: 64 at a time (pext).
#include "index/segment/segment_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define GATHER_ROWS 256u
#define EXACT_ROWS 256u      // so few survivors are scored exactly, without a look at codes
#define DEADLINE_ROWS 16384u // between two looks at the clock
#define POOL_RESERVE 64u     // rows beyond k that are chosen by estimate
#define CERTAINTY_HIGH 3.0f  // standard deviations, where a recall above HIGH_RECALL is asked for
#define HIGH_RECALL 0.99

// ---------------------------------------------------------------------------------------------- scratch

void rag_segment__scratch_destroy(segment_scratch *scratch) {
  if (scratch == NULL) return;
  rag_graph_scratch_destroy(scratch->graph);
  rag_free(scratch->words);
  rag_free(scratch->estimates);
  rag_free(scratch->rotated);
  rag_free(scratch->planes);
  rag_free(scratch->pool);
  rag_free(scratch);
}

segment_scratch *rag_segment__scratch_take(rag_index_shared *shared, rag_error *err) {
  pthread_mutex_lock(&shared->scratch_lock);
  segment_scratch *scratch = shared->scratches;
  if (scratch != NULL) shared->scratches = scratch->next;
  pthread_mutex_unlock(&shared->scratch_lock);
  if (scratch != NULL) return scratch;
  scratch = rag_calloc(1, sizeof *scratch);
  if (scratch != NULL) {
    scratch->rotated = rag_calloc(rag_codes_padded(shared->dimension), sizeof *scratch->rotated);
    scratch->planes = rag_calloc(rag_codes_bits_query_words(shared->dimension), sizeof *scratch->planes);
  }
  if (scratch == NULL || scratch->rotated == NULL || scratch->planes == NULL ||
      rag_graph_scratch_create(&scratch->graph, err) != RAG_OK) {
    rag_segment__scratch_destroy(scratch);
    (void)rag_fail_no_memory(err, sizeof *scratch);
    return NULL;
  }
  return scratch;
}

void rag_segment__scratch_give(rag_index_shared *shared, segment_scratch *scratch) {
  if (scratch == NULL) return;
  pthread_mutex_lock(&shared->scratch_lock);
  scratch->next = shared->scratches;
  shared->scratches = scratch;
  pthread_mutex_unlock(&shared->scratch_lock);
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

// ---------------------------------------------------------------------------------------------- which rows

typedef struct press { // a stream of bits
  uint64_t *words;
  uint64_t at; // bits so far
  uint64_t count;
} press;

static void press_bits(press *p, uint64_t bits, uint32_t width) {
  uint32_t shift = (uint32_t)(p->at & 63);
  uint64_t *word = p->words + (p->at >> 6);
  if (shift == 0) *word = bits;
  else *word |= bits << shift;
  if (shift + width > 64) word[1] = bits >> (64 - shift);
  p->at += width;
  p->count += (uint64_t)__builtin_popcountll(bits);
}

static void press_block_plain(press *p, const uint64_t *set, const uint64_t *passing) {
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) {
    uint64_t s = set[w], pressed = 0;
    if (s == 0) continue;
    uint64_t f = s & passing[w];
    if (f == s) pressed = s == ~0ull ? s : (1ull << __builtin_popcountll(s)) - 1;
    else
      for (; f != 0; f &= f - 1) pressed |= 1ull << __builtin_popcountll(s & ((f & -f) - 1));
    press_bits(p, pressed, (uint32_t)__builtin_popcountll(s));
  }
}

#if defined(__x86_64__)
__attribute__((target("bmi2,popcnt"))) static void press_block_bmi2(press *p, const uint64_t *set,
                                                                     const uint64_t *passing) {
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) {
    uint64_t s = set[w];
    if (s == 0) continue;
    press_bits(p, s == ~0ull ? passing[w] : _pext_u64(passing[w], s), (uint32_t)__builtin_popcountll(s));
  }
}
#endif

static void press_block(press *p, const uint64_t *set, const uint64_t *passing) {
#if defined(__x86_64__)
  static _Atomic int has_bmi2 = -1; // atomic: every thread finds the same
  int has = atomic_load_explicit(&has_bmi2, memory_order_relaxed);
  if (has < 0) atomic_store_explicit(&has_bmi2, has = __builtin_cpu_supports("bmi2") != 0, memory_order_relaxed);
  if (has) {
    press_block_bmi2(p, set, passing);
    return;
  }
#endif
  press_block_plain(p, set, passing);
}

void rag_segment__select(const rag_index_segment *s, const rag_bitmap *a, const rag_bitmap *b, uint64_t *words,
                         uint64_t *out_count) {
  press p = {.words = words};
  uint64_t both[RAG_BITMAP_BLOCK_WORDS];
  uint32_t first = s->ordinals[0] / RAG_BITMAP_BLOCK_BITS, last = s->ordinals[s->rows - 1] / RAG_BITMAP_BLOCK_BITS;
  for (uint32_t block = first; block <= last; block++) {
    uint32_t in_block = 0;
    const uint64_t *set = rag_bitmap_block(s->set, block, &in_block);
    if (set == NULL) continue;
    const uint64_t *passing = a != NULL ? rag_bitmap_block(a, block, NULL) : set;
    const uint64_t *other = b != NULL ? rag_bitmap_block(b, block, NULL) : passing;
    if (passing == NULL || other == NULL) { // none of them
      for (uint32_t left = in_block, width; left > 0; left -= width) press_bits(&p, 0, width = RAG_MIN(left, 64u));
      continue;
    }
    if (other != passing) {
      for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) both[w] = passing[w] & other[w];
      passing = both;
    }
    press_block(&p, set, passing);
  }
  *out_count = p.count;
}

// ---------------------------------------------------------------------------------------------- exact scores

typedef struct scan {
  const rag_index_segment *segment;
  segment_search *search;
  const rag_kernels *kernels;
  uint32_t pending;
  uint64_t scored;
  uint32_t ids[GATHER_ROWS];
  const float *rows[GATHER_ROWS];
  float scores[GATHER_ROWS];
} scan;

static void scan_init(scan *s, const rag_index_segment *segment, segment_search *search) { // the arrays stay as they are
  s->segment = segment;
  s->search = search;
  s->kernels = segment->shared->kernels;
  s->pending = 0;
  s->scored = 0;
}

static void scan_flush(scan *s) {
  const rag_index_shared *shared = s->segment->shared;
  const float *query = s->search->query->vector;
  if (shared->metric == RAG_METRIC_L2)
    s->kernels->l2_squared_gather(query, s->rows, s->pending, shared->dimension, s->scores);
  else s->kernels->dot_gather(query, s->rows, s->pending, shared->dimension, s->scores);
  for (uint32_t i = 0; i < s->pending; i++)
    rag_index__topk_offer(s->search->top, s->segment->ordinals[s->ids[i]],
                          rag_index__score(shared->metric, s->scores[i]));
  s->scored += s->pending;
  s->pending = 0;
}

static void scan_add(scan *s, uint32_t row) {
  const float *vector = s->segment->vectors + (size_t)row * s->segment->shared->dimension;
  __builtin_prefetch(vector);
  s->ids[s->pending] = row;
  s->rows[s->pending++] = vector;
  if (s->pending == GATHER_ROWS) scan_flush(s);
}

static rag_status scan_exactly(const rag_index_segment *segment, segment_search *search, const uint64_t *words,
                               uint64_t *out_scored, rag_error *err) {
  scan s;
  scan_init(&s, segment, search);
  uint64_t look = DEADLINE_ROWS;
  for (uint32_t w = 0; w < (segment->rows + 63) / 64; w++) {
    for (uint64_t word = words[w]; word != 0; word &= word - 1) scan_add(&s, w * 64 + (uint32_t)__builtin_ctzll(word));
    if (s.scored < look) continue;
    look = s.scored + DEADLINE_ROWS;
    RAG_TRY(rag_index__check_deadline(search->query, err));
  }
  scan_flush(&s);
  *out_scored = s.scored;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- 1-bit codes

// What codes estimate (for l2 minus the squared distance) of a score, and back.
static float raw_of(rag_metric metric, float score) {
  return metric == RAG_METRIC_L2 ? -score * score : score;
}

static void estimate(const rag_index_segment *segment, const rag_codes_bits_query *query, const uint64_t *words,
                     float *scores, float *errors) {
  const rag_codes_kernels *kernels = rag_codes_kernels_best();
  size_t stride = rag_codes_bits_bytes(segment->shared->dimension);
  uint32_t all = (segment->rows + 63) / 64;
  for (uint32_t w = 0, run; w < all; w += run) { // words with a row in them, one after another
    run = 1;
    if (words[w] == 0) continue;
    while (w + run < all && words[w + run] != 0 && run < GATHER_ROWS / 64) run++;
    uint32_t first = w * 64, count = RAG_MIN(run * 64, segment->rows - first);
    kernels->bits_rows(query, segment->bits + first * stride, stride, count, scores + first, errors + first);
  }
}

static rag_status scan_bits(const rag_index_segment *segment, segment_search *search, const uint64_t *words,
                            uint64_t survivors, rag_error *err) {
  rag_index_shared *shared = segment->shared;
  segment_scratch *scratch = search->scratch;
  const rag_index_query *q = search->query;
  uint32_t pool_rows = q->k + POOL_RESERVE;
  if (survivors <= RAG_MAX(EXACT_ROWS, pool_rows)) {
    uint64_t scored = 0;
    RAG_TRY(scan_exactly(segment, search, words, &scored, err));
    search->plan->candidates += scored;
    return RAG_OK;
  }
  RAG_TRY(reserve((void **)&scratch->estimates, &scratch->estimate_room, 2 * segment->rows + 2 * 64,
                  sizeof *scratch->estimates, err));
  RAG_TRY(reserve((void **)&scratch->pool, &scratch->pool_room, pool_rows, sizeof *scratch->pool, err));
  double target = q->target_recall > 0 ? q->target_recall : shared->target_recall;
  rag_codes_bits_query query;
  rag_codes_rotate(shared->rotation, q->vector, scratch->rotated);
  rag_codes_bits_query_init(scratch->rotated, shared->dimension,
                            target > HIGH_RECALL ? CERTAINTY_HIGH : RAG_CODES_BITS_CERTAINTY, scratch->planes, &query);
  double norm = 0;
  for (uint32_t i = 0; i < shared->dimension; i++) norm += (double)q->vector[i] * q->vector[i];
  rag_codes_bits_query_list(&query, shared->metric, 0, (float)sqrt(norm));
  float *scores = scratch->estimates, *errors = scores + segment->rows + 64;
  estimate(segment, &query, words, scores, errors);
  search->plan->candidates += survivors;

  rag_index_topk best;
  rag_index__topk_init(&best, scratch->pool, pool_rows, -FLT_MAX);
  for (uint32_t w = 0; w < (segment->rows + 63) / 64; w++)
    for (uint64_t word = words[w]; word != 0; word &= word - 1) {
      uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(word);
      rag_index__topk_offer(&best, row, RAG_MAX(scores[row], -FLT_MAX));
    }
  rag_index__topk_finish(&best);
  RAG_TRY(rag_index__check_deadline(q, err));
  scan s;
  scan_init(&s, segment, search);
  for (uint32_t i = 0; i < best.count; i++) {
    uint32_t row = scratch->pool[i].ordinal;
    errors[row] = -INFINITY; // done
    scan_add(&s, row);
  }
  scan_flush(&s);
  float floor = raw_of(shared->metric, search->top->floor);
  floor -= fabsf(floor) * 1e-5f; // what rounding may do
  for (uint32_t w = 0; w < (segment->rows + 63) / 64; w++)
    for (uint64_t word = words[w]; word != 0; word &= word - 1) {
      uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(word);
      if (scores[row] + errors[row] >= floor) scan_add(&s, row);
    }
  scan_flush(&s);
  search->plan->rescored += s.scored;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- graphs

static rag_status fetch_rows(void *context, const uint32_t *ids, uint32_t count, const float **out, rag_error *err) {
  const rag_index_segment *s = context;
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < count; i++) {
    out[i] = s->vectors + (size_t)ids[i] * s->shared->dimension;
    for (uint32_t line = 0; line < 4; line++) __builtin_prefetch((const char *)out[i] + line * 64);
  }
  return RAG_OK;
}

float rag_segment__recall(const rag_graph *graph, uint32_t k, uint32_t ef) {
  float recall = 0;
  for (uint32_t i = 0; i < graph->meta.rung_count && graph->meta.rungs[i].ef <= ef; i++) {
    float measured = k <= 10 ? graph->meta.rungs[i].recall_10 : graph->meta.rungs[i].recall_100;
    if (measured >= 0) recall = measured;
  }
  return recall;
}

static rag_status search_graph(const rag_index_segment *segment, segment_search *search, const uint64_t *words,
                               uint64_t survivors, rag_error *err) {
  const rag_index_query *q = search->query;
  double target = q->target_recall > 0 ? q->target_recall : segment->shared->target_recall;
  bool reached = false;
  uint32_t ef = q->ef > 0 ? q->ef : rag_graph_ef(segment->graph, q->k, (float)target, &reached);
  rag_graph_query query = {
      .vector = q->vector,
      .k = q->k,
      .ef = ef,
      .filter = survivors < segment->rows ? words : NULL,
      .survivors = survivors,
      .ordinals = segment->ordinals,
      .fetch = {fetch_rows, (void *)segment},
      .deadline_ns = q->deadline_ns,
  };
  rag_graph_stats stats;
  rag_status status =
      rag_graph_search(segment->graph, &segment->codes, &query, search->scratch->graph, search->top, &stats, err);
  rag_index_plan *plan = search->plan;
  plan->candidates += stats.scored;
  plan->rescored += stats.rescored;
  if (stats.way == RAG_GRAPH_WALKED) {
    double recall = (double)rag_segment__recall(segment->graph, q->k, RAG_MAX(ef, q->k));
    plan->expected_recall = plan->walked == 0 ? recall : RAG_MIN(plan->expected_recall, recall);
    plan->ef = RAG_MAX(plan->ef, RAG_MAX(ef, q->k));
    plan->walked++;
  }
  return status;
}

// ---------------------------------------------------------------------------------------------- the whole

rag_status rag_segment__search(const rag_index_segment *segment, segment_search *search, rag_error *err) {
  segment_scratch *scratch = search->scratch;
  const rag_index_query *q = search->query;
  uint64_t survivors = 0, scored = 0;
  RAG_TRY(reserve((void **)&scratch->words, &scratch->word_room, (segment->rows + 63) / 64 + 1, sizeof *scratch->words,
                  err));
  rag_segment__select(segment, q->filter, search->removed ? search->present : NULL, scratch->words, &survivors);
  if (survivors == 0) return RAG_OK;
  rag_index_plan *plan = search->plan;
  plan->segments++;
  if (survivors > plan->engine_rows) {
    plan->engine_rows = survivors;
    plan->engine = q->exact ? "flat" : rag_segment__engine_name(segment->engine);
  }
  if (q->exact || survivors <= EXACT_ROWS) {
    RAG_TRY(scan_exactly(segment, search, scratch->words, &scored, err));
    plan->candidates += scored;
    return RAG_OK;
  }
  if (segment->engine == SEGMENT_ENGINE_GRAPH) return search_graph(segment, search, scratch->words, survivors, err);
  return scan_bits(segment, search, scratch->words, survivors, err);
}
