// The flat engine's search: every row that the filter leaves, by exact scores.
//
// The filter is tested before anything of a row is touched, 64 rows at a time: a word of `present` AND the filter's
// word. What the word looks like decides how its rows go to the kernels:
//  - many rows, one after another or nearly: their int8 codes are scanned, a quarter of the bytes. A code's score is wrong
//    by no more than can be told (below), so whoever cannot be among the k best is dropped, and the rest are scored
//    exactly: the answer is, bit for bit, that of a scan of the full rows;
//  - few: collected over words, blocks and shards until BATCH_ROWS are there, then one call over pointers, so that a
//    sparse filter keeps several rows in flight too. The first line of each row is asked for when it is found, and the
//    kernels fetch the next rows while they work on these.
// `exact` scans the full rows and looks at no code: it is what everything else is compared with.
// The order in which rows reach the top-k list does not matter (index_internal.h).
//
// How wrong a code's score is. With q' and x' what the codes of query and row say,
//     <q, x> = <q', x'> + <q', x - x'> + <q - q', x>  is at most  <q', x'> + |q'| |x - x'| + |q - q'| |x|,
// to which comes what floats lose in the kernels' sums and in this one: `rounding` times |q| |x|.
// For l2, |q - x|^2 = |q|^2 + |x|^2 - 2 <q, x>, so a row is near enough only if <q, x> - |x|^2 / 2 is as high as
// (|q|^2 - floor^2) / 2. Where anything overflows the comparison fails, and the row is scored exactly.
//
// Leaf code: no locks, no allocation; one search is one thread and 16 KiB of stack.
#include "index/codes/codes_internal.h"
#include "index/index_internal.h"

#define BATCH_ROWS 256u     // rows of one kernel call: their scores stay in the first-level cache
#define RUN_MIN 8u          // consecutive rows worth a call of their own: the widest kernel's group
#define CODED_MIN 16u       // rows of a word worth a scan of the codes of all that lie between them
#define LANES 16u           // bounds made at a time
#define DEADLINE_ROWS 2048u // rows between two looks at the clock

typedef struct scan {
  const rag_index_query *query; // borrowed
  const rag_kernels *kernels;
  const rag_codes_kernels *codes_kernels;
  rag_metric metric;
  uint32_t dimension;
  rag_index_topk *top;
  uint64_t scored, rescored;
  uint64_t scored_at_check;
  bool by_codes;
  rag_codes_int8_query coded;
  float of_error, of_norm, of_norm_squared; // what a row's error, norm and its square move its bound by
  float norm_squared;                       // of the query
  float rounding;
  uint32_t pending; // rows collected and not scored
  uint32_t ordinals[BATCH_ROWS];
  const float *rows[BATCH_ROWS];
  float scores[BATCH_ROWS];
  int32_t dots[BATCH_ROWS + LANES];
  float bounds[BATCH_ROWS + LANES];
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

// ---------------------------------------------------------------------------------------------- by codes

static void ask_codes(scan *s, int8_t *codes) {
  const float *query = s->query->vector;
  rag_codes_int8_query_init(query, s->dimension, codes, &s->coded);
  double error = 0, norm = sqrt((double)s->coded.factors.norm_squared), scale = (double)s->coded.factors.scale;
  for (uint32_t i = 0; i < s->dimension; i++) {
    double wrong_by = (double)query[i] - codes[i] * scale;
    error += wrong_by * wrong_by;
  }
  error = sqrt(error);
  double rounding = (s->dimension + 64) * 0x1p-23; // of a sum of so many products, in whatever order, twice over
  s->of_error = (float)((norm + error) * 1.0001);
  s->of_norm = (float)(error * 1.0001 + norm * rounding);
  s->of_norm_squared = (float)(0.5 - rounding);
  s->norm_squared = (float)((double)s->coded.factors.norm_squared * (1 - rounding));
  s->rounding = (float)rounding;
}

// What a bound must reach.
static float least_bound(const scan *s) {
  float floor = s->top->floor;
  if (s->metric != RAG_METRIC_L2) return floor;
  return (s->norm_squared - floor * floor * (1 + s->rounding)) * 0.5f;
}

// The highest that the scores (for l2: <q, x> - |x|^2 / 2) of `count` rows can be.
static void make_bounds(scan *s, const flat_codes *c, uint32_t slot, uint32_t count) {
  float scale = s->coded.factors.scale, of_error = s->of_error, of_norm = s->of_norm;
  float of_norm_squared = s->metric == RAG_METRIC_L2 ? s->of_norm_squared : 0;
  s->codes_kernels->int8_rows(&s->coded, c->base + slot * c->stride, c->stride, count, s->dots);
  const float *restrict row_scale = c->scale + slot, *restrict error = c->error + slot, *restrict norm = c->norm + slot;
  const int32_t *restrict dots = s->dots;
  float *restrict bounds = s->bounds;
  uint32_t i = 0;
  for (; i + LANES <= count; i += LANES) // of a known number, so that compilers make vector code of them
    for (uint32_t j = i; j < i + LANES; j++)
      bounds[j] = (float)dots[j] * (scale * row_scale[j]) + of_error * error[j] + of_norm * norm[j] -
                  of_norm_squared * norm[j] * norm[j];
  for (; i < count; i++)
    bounds[i] = (float)dots[i] * (scale * row_scale[i]) + of_error * error[i] + of_norm * norm[i] -
                of_norm_squared * norm[i] * norm[i];
}

// Slots of one block that all hold rows; `passing` has a bit for each, from bit 0 of its first word on, NULL: all pass.
static void scan_codes(scan *s, const flat_block *block, const flat_codes *c, uint32_t slot, uint32_t first,
                       uint32_t count, const uint64_t *passing) {
  for (uint32_t done = 0, batch; done < count; done += batch) {
    batch = RAG_MIN(count - done, BATCH_ROWS);
    make_bounds(s, c, slot + done, batch);
    float least = least_bound(s);
    for (uint32_t i = 0; i < batch; i++) {
      if (s->bounds[i] < least) continue; // and not if it is no number
      if (passing && !(passing[(done + i) / 64] >> (done + i) % 64 & 1)) continue;
      add_pending(s, first + done + i, block->rows + (size_t)(slot + done + i) * s->dimension);
      s->rescored++;
    }
    score_pending(s); // the next batch has a better floor
  }
}

// ---------------------------------------------------------------------------------------------- words

// Some rows of one word, by their full precision; `base` is the row of its bit 0, `first` its ordinal.
static void scan_word(scan *s, uint64_t word, uint32_t first, const float *base) {
  while (word) {
    uint32_t start = (uint32_t)__builtin_ctzll(word);
    uint64_t rest = ~(word >> start);
    uint32_t run = rest ? (uint32_t)__builtin_ctzll(rest) : 64;
    const float *row = base + (size_t)start * s->dimension;
    if (run >= RUN_MIN) {
      score_run(s, first + start, row, run);
    } else {
      for (uint32_t i = 0; i < run; i++) add_pending(s, first + start + i, row + (size_t)i * s->dimension);
      s->scored += run;
    }
    word = run + start == 64 ? 0 : word & ~(((1ull << run) - 1) << start);
  }
}

// Bits from the lowest to the highest one.
static uint64_t span_of(uint64_t word) {
  uint32_t low = (uint32_t)__builtin_ctzll(word), high = 63 - (uint32_t)__builtin_clzll(word);
  return ~0ull << low & ~0ull >> (63 - high);
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
    const flat_block *block = shard->blocks[w / words_per_block];
    uint32_t in_block = w % words_per_block, first = number * RAG_BITMAP_BLOCK_BITS + w * 64, full = 1;
    const float *base = block->rows + (size_t)in_block * 64 * s->dimension;
    if (word == ~0ull)
      while (in_block + full < words_per_block && (present[w + full] & filter[w + full]) == ~0ull) full++;
    if (!s->by_codes) {
      if (word != ~0ull) scan_word(s, word, first, base);
      else score_run(s, first, base, full * 64);
    } else {
      // Slots without a row are not read: the writer may be filling them.
      uint64_t span = span_of(word);
      uint32_t survivors = (uint32_t)__builtin_popcountll(word);
      if (survivors < CODED_MIN || (present[w] & span) != span) {
        scan_word(s, word, first, base);
      } else {
        flat_codes codes = flat_codes_of(block, s->dimension, view->block_shift);
        uint32_t low = (uint32_t)__builtin_ctzll(word), count = (uint32_t)__builtin_popcountll(span);
        uint64_t passing = word >> low;
        scan_codes(s, block, &codes, in_block * 64 + low, first + low, count + (full - 1) * 64,
                   survivors == count ? NULL : &passing);
        s->scored += survivors + (full - 1) * 64;
      }
    }
    w += full - 1;
    if (s->scored - s->scored_at_check >= DEADLINE_ROWS) RAG_TRY(check_deadline(s, err));
  }
  return RAG_OK;
}

rag_status rag_index__flat_search(const rag_index_view *head, const rag_index_query *query, rag_index_topk *top,
                                  rag_index_plan *plan, rag_error *err) {
  const flat_view *view = (const flat_view *)head;
  _Alignas(64) int8_t codes[RAG_CODES_DIMENSION_PADDED_MAX];
  scan s; // the arrays stay uninitialised: clearing them would cost a small search a tenth of its time
  s.query = query;
  s.kernels = head->shared->kernels;
  s.codes_kernels = rag_codes_kernels_best();
  s.metric = head->shared->metric;
  s.dimension = head->shared->dimension;
  s.top = top;
  s.scored = s.scored_at_check = s.rescored = 0;
  s.pending = 0;
  s.by_codes = !query->exact && view->shard_count > 0;
  if (s.by_codes) ask_codes(&s, codes);
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
  plan->rescored = s.rescored;
  return RAG_OK;
}
