// Searches of one segment: which of its rows may be found, and the cheapest way to the best of them. Few survivors, or
// `exact`: their full-precision rows, all of them; else the segment's kind is asked.
//
// Selecting. Rows of a segment are ordinals in ascending order, so the bits of its rows are the filter's bits at the
// segment's ordinals, pressed together: 64 at a time (pext).
#include "index/segment/segment_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define EXACT_ROWS 256u      // so few survivors are scored exactly, without a look at codes
#define DEADLINE_ROWS 16384u // between two looks at the clock

// ---------------------------------------------------------------------------------------------- scratch

void rag_segment__scratch_destroy(segment_scratch *scratch) {
  if (scratch == NULL) return;
  for (uint32_t i = 0; i < SEGMENT_KINDS; i++)
    if (scratch->of_kind[i] != NULL) rag_segment__kinds[i]->scratch_destroy(scratch->of_kind[i]);
  rag_free(scratch->words);
  rag_free(scratch);
}

segment_scratch *rag_segment__scratch_take(rag_index_shared *shared, rag_error *err) {
  pthread_mutex_lock(&shared->scratch_lock);
  segment_scratch *scratch = shared->scratches;
  if (scratch != NULL) shared->scratches = scratch->next;
  pthread_mutex_unlock(&shared->scratch_lock);
  if (scratch == NULL) scratch = rag_calloc(1, sizeof *scratch);
  if (scratch == NULL) (void)rag_fail_no_memory(err, sizeof *scratch);
  else scratch->searches++;
  return scratch;
}

void rag_segment__scratch_give(rag_index_shared *shared, segment_scratch *scratch) {
  if (scratch == NULL) return;
  pthread_mutex_lock(&shared->scratch_lock);
  scratch->next = shared->scratches;
  shared->scratches = scratch;
  pthread_mutex_unlock(&shared->scratch_lock);
}

static rag_status reserve_words(segment_scratch *scratch, uint32_t count, rag_error *err) {
  if (count <= scratch->word_room) return RAG_OK;
  rag_free(scratch->words);
  scratch->word_room = 0;
  scratch->words = rag_realloc_array(NULL, count, sizeof *scratch->words);
  if (scratch->words == NULL) return rag_fail_no_memory(err, count * sizeof *scratch->words);
  scratch->word_room = count;
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

void rag_segment__scan_init(segment_scan *s, const rag_index_segment *segment, segment_search *search) {
  s->segment = segment; // the arrays stay as they are
  s->search = search;
  s->pending = 0;
  s->scored = 0;
}

void rag_segment__scan_flush(segment_scan *s) {
  const rag_index_shared *shared = s->segment->shared;
  rag_index__rows_gather(shared->datatype, shared->metric, s->search->query->vector, s->rows, s->pending,
                         shared->dimension, s->scores);
  for (uint32_t i = 0; i < s->pending; i++)
    rag_index__topk_offer(s->search->top, s->segment->ordinals[s->ids[i]],
                          rag_index__score(shared->metric, s->scores[i]));
  s->scored += s->pending;
  s->pending = 0;
}

void rag_segment__scan_add(segment_scan *s, uint32_t row) {
  s->ids[s->pending] = row;
  s->rows[s->pending] = s->segment->vectors + row * rag_index__shared_row_bytes(s->segment->shared);
  __builtin_prefetch(s->rows[s->pending++]);
  if (s->pending == SEGMENT_GATHER) rag_segment__scan_flush(s);
}

rag_status rag_segment__scan_all(const rag_index_segment *segment, segment_search *search, const uint64_t *words,
                                 rag_error *err) {
  segment_scan s;
  uint64_t look = DEADLINE_ROWS;
  rag_segment__scan_init(&s, segment, search);
  for (uint32_t w = 0; w < (segment->rows + 63) / 64; w++) {
    for (uint64_t word = words[w]; word != 0; word &= word - 1)
      rag_segment__scan_add(&s, w * 64 + (uint32_t)__builtin_ctzll(word));
    if (s.scored < look) continue;
    look = s.scored + DEADLINE_ROWS;
    RAG_TRY(rag_index__check_deadline(search->query, err));
  }
  rag_segment__scan_flush(&s);
  search->plan->candidates += s.scored;
  return RAG_OK;
}

static rag_status fetch_rows(void *context, const uint32_t *ids, uint32_t count, const void **out, rag_error *err) {
  const rag_index_segment *s = context;
  size_t row_bytes = rag_index__shared_row_bytes(s->shared);
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < count; i++) {
    out[i] = s->vectors + ids[i] * row_bytes;
    for (uint32_t line = 0; line < 4; line++) __builtin_prefetch((const char *)out[i] + line * 64);
  }
  return RAG_OK;
}

rag_index_row_fetch rag_segment__fetch(const rag_index_segment *s) {
  return (rag_index_row_fetch){.rows = fetch_rows, .context = (void *)(uintptr_t)s, .datatype = s->shared->datatype};
}

// ---------------------------------------------------------------------------------------------- the whole

void rag_segment__plan_recall(rag_index_plan *plan, double recall, uint32_t setting) {
  plan->expected_recall = plan->walked == 0 ? recall : RAG_MIN(plan->expected_recall, recall);
  plan->setting = RAG_MAX(plan->setting, setting);
  plan->walked++;
}

rag_status rag_segment__search(const rag_index_segment *segment, segment_search *search, rag_error *err) {
  segment_scratch *scratch = search->scratch;
  const rag_index_query *q = search->query;
  uint64_t survivors = 0;
  RAG_TRY(reserve_words(scratch, (segment->rows + 63) / 64 + 1, err));
  rag_segment__select(segment, q->filter, search->removed ? search->present : NULL, scratch->words, &survivors);
  if (survivors == 0) return RAG_OK;
  rag_index_plan *plan = search->plan;
  plan->segments++;
  if (survivors > plan->engine_rows) {
    plan->engine_rows = survivors;
    plan->engine = q->exact ? rag_segment__flat.name : segment->kind->name;
  }
  if (q->exact || survivors <= EXACT_ROWS) return rag_segment__scan_all(segment, search, scratch->words, err);
  return segment->kind->search(segment, search, scratch->words, survivors, err);
}
