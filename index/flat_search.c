// The flat engine's search: an exact scan of the rows that the filter leaves.
//
// The filter is tested before anything of a row is touched, 64 rows at a time: a word of `present` AND the filter's
// word. What the word looks like decides how its rows go to the kernels:
//  - full words one after another: one call over consecutive rows;
//  - runs of RUN_MIN bits and more: the same for each run;
//  - fewer bits: collected over words, blocks and shards until BATCH_ROWS are there, then one call over pointers: a
//    sparse filter keeps several rows in flight too. The first line of each row is asked for when it is found, and the
//    kernels fetch the next rows while they work on these.
// The order in which rows reach the top-k list does not matter (index_internal.h).
//
// Leaf code: no locks, no allocation; one search is one thread and 5 KiB of stack.
#include "index/index_internal.h"

#define BATCH_ROWS 256u     // rows of one kernel call: their scores stay in the first-level cache
#define RUN_MIN 8u          // consecutive rows worth a call of their own: the widest kernel's group
#define DEADLINE_ROWS 2048u // rows between two looks at the clock

typedef struct scan {
  const rag_index_query *query; // borrowed
  const rag_kernels *kernels;
  rag_metric metric;
  uint32_t dimension;
  rag_index_topk *top;
  uint64_t scored;
  uint64_t scored_at_check;
  uint32_t pending; // rows collected and not scored
  uint32_t ordinals[BATCH_ROWS];
  const float *rows[BATCH_ROWS];
  float scores[BATCH_ROWS];
} scan;

// Consecutive ordinals from `first` on, whose rows start at `base`.
static void score_run(scan *s, uint32_t first, const float *base, uint32_t count) {
  s->scored += count;
  for (uint32_t done = 0, batch; done < count; done += batch) {
    batch = RAG_MIN(count - done, BATCH_ROWS);
    const float *rows = base + (size_t)done * s->dimension;
    if (s->metric == RAG_METRIC_L2) {
      s->kernels->l2_squared_rows(s->query->vector, rows, s->dimension, batch, s->dimension, s->scores);
    } else {
      s->kernels->dot_rows(s->query->vector, rows, s->dimension, batch, s->dimension, s->scores);
    }
    for (uint32_t i = 0; i < batch; i++) {
      rag_index__topk_offer(s->top, first + done + i, rag_index__score(s->metric, s->scores[i]));
    }
  }
}

static void score_pending(scan *s) {
  s->scored += s->pending;
  if (s->metric == RAG_METRIC_L2) {
    s->kernels->l2_squared_gather(s->query->vector, s->rows, s->pending, s->dimension, s->scores);
  } else {
    s->kernels->dot_gather(s->query->vector, s->rows, s->pending, s->dimension, s->scores);
  }
  for (uint32_t i = 0; i < s->pending; i++) {
    rag_index__topk_offer(s->top, s->ordinals[i], rag_index__score(s->metric, s->scores[i]));
  }
  s->pending = 0;
}

static void add_pending(scan *s, uint32_t ordinal, const float *row) {
  __builtin_prefetch(row);
  s->ordinals[s->pending] = ordinal;
  s->rows[s->pending++] = row;
  if (s->pending == BATCH_ROWS) score_pending(s);
}

// The rows of one word with some bits clear; `base` is the row of its bit 0, `first` its ordinal.
static void scan_word(scan *s, uint64_t word, uint32_t first, const float *base) {
  while (word) {
    uint32_t start = (uint32_t)__builtin_ctzll(word);
    uint32_t run = (uint32_t)__builtin_ctzll(~(word >> start)); // below 64: the word is not full
    const float *row = base + (size_t)start * s->dimension;
    if (run >= RUN_MIN) {
      score_run(s, first + start, row, run);
    } else {
      for (uint32_t i = 0; i < run; i++) add_pending(s, first + start + i, row + (size_t)i * s->dimension);
    }
    word &= ~(((1ull << run) - 1) << start);
  }
}

static rag_status check_deadline(scan *s, rag_error *err) {
  s->scored_at_check = s->scored;
  return rag_index__check_deadline(s->query, err);
}

static rag_status scan_shard(scan *s, const flat_view *view, uint32_t number, const uint64_t *present,
                             const uint64_t *filter, rag_error *err) {
  const flat_shard *shard = view->shards[number];
  uint32_t words_per_block = 1u << view->block_shift >> 6;
  uint32_t words = shard ? shard->block_end * words_per_block : 0;
  for (uint32_t w = 0; w < words; w++) {
    uint64_t word = present[w] & filter[w];
    if (!word) continue;
    const float *rows = shard->blocks[w / words_per_block]->rows;
    uint32_t in_block = w % words_per_block;
    const float *base = rows + (size_t)in_block * 64 * s->dimension;
    uint32_t first = number * RAG_BITMAP_BLOCK_BITS + w * 64;
    if (word != ~0ull) {
      scan_word(s, word, first, base);
    } else {
      uint32_t full = 1;
      while (in_block + full < words_per_block && (present[w + full] & filter[w + full]) == ~0ull) full++;
      score_run(s, first, base, full * 64);
      w += full - 1;
    }
    if (s->scored - s->scored_at_check >= DEADLINE_ROWS) RAG_TRY(check_deadline(s, err));
  }
  return RAG_OK;
}

rag_status rag_index__flat_search(const rag_index_view *head, const rag_index_query *query, rag_index_topk *top,
                                  rag_index_plan *plan, rag_error *err) {
  const flat_view *view = (const flat_view *)head;
  scan s; // the arrays stay uninitialised: clearing 5 KiB would cost a small search a tenth of its time
  s.query = query;
  s.kernels = head->shared->kernels;
  s.metric = head->shared->metric;
  s.dimension = head->shared->dimension;
  s.top = top;
  s.scored = s.scored_at_check = 0;
  s.pending = 0;
  for (uint32_t number = 0; number < view->shard_count; number++) {
    const uint64_t *present = rag_bitmap_block(head->present, number, NULL);
    const uint64_t *filter = query->filter ? rag_bitmap_block(query->filter, number, NULL) : present;
    if (!present || !filter) continue;
    plan->segments++;
    RAG_TRY(scan_shard(&s, view, number, present, filter, err));
    // A filter that leaves nothing of many shards scores no row and would not look at the clock.
    if (number % 64 == 63) RAG_TRY(check_deadline(&s, err));
  }
  score_pending(&s);
  plan->candidates = s.scored;
  return RAG_OK;
}
