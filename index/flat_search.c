// The flat engine's search: every row that the filter leaves, by exact scores.
//
// The filter is tested before anything of a row is touched, 64 rows at a time: a word of `present` AND the filter's
// word. What the word looks like decides how its rows go to the kernels:
//  - many rows, one after another or nearly: their int8 codes are scanned, a quarter of the bytes of floats. A code's score is wrong
//    by no more than can be told (below), so whoever cannot be among the k best is dropped, and the rest are scored
//    exactly: the answer is, bit for bit, that of a scan of the full rows;
//  - few: collected over words, blocks and shards until BATCH_ROWS are there, then one call over pointers, so that a
//    sparse filter keeps several rows in flight too. The first line of each row is asked for when it is found, and the
//    kernels fetch the next rows while they work on these.
// `exact` scans the full rows and looks at no code: it is what everything else is compared with.
// The order in which rows reach the top-k list does not matter (index_internal.h).
//
// Several queries may share a scan (flat_share.c): codes that one asks for are scored for all of them while they are in
// the cache. Each has its own filter, floor and list.
//
// How wrong a code's score is. With q' and x' what the codes of query and row say,
//     <q, x> = <q', x'> + <q', x - x'> + <q - q', x>  is at most  <q', x'> + |q'| |x - x'| + |q - q'| |x|,
// to which comes what floats lose in the kernels' sums and in this one: `rounding` times |q| |x|.
// For l2, |q - x|^2 = |q|^2 + |x|^2 - 2 <q, x>, so a row is near enough only if <q, x> - |x|^2 / 2 is as high as
// (|q|^2 - floor^2) / 2. Where anything overflows the comparison fails, and the row is scored exactly.
//
// Leaf code: no locks, no allocation; one scan is one thread and 32 KiB of stack.
#include "index/flat_scan.h"

#define RUN_MIN 8u          // consecutive rows worth a call of their own: the widest kernel's group
#define CODED_MIN 16u       // rows of a word worth a scan of the codes of all that lie between them
#define CODED_ROWS_MIN 512u // rows in all: fewer fill the list and are scored anyway, unless others have filled it
#define LANES 16u           // bounds made at a time
#define DEADLINE_ROWS 2048u // rows between two looks at the clock

// Consecutive ordinals from `first` on, whose rows start at `base`.
static void score_run(flat_scan *s, uint32_t first, const uint8_t *base, uint32_t count) {
  s->scored += count;
  for (uint32_t done = 0, batch; done < count; done += batch) {
    batch = RAG_MIN(count - done, FLAT_SCAN_BATCH);
    rag_index__rows_run(s->datatype, s->metric, s->query->vector, base + done * s->row_bytes, batch, s->dimension,
                        s->scores);
    for (uint32_t i = 0; i < batch; i++) {
      rag_index__topk_offer(s->top, first + done + i, rag_index__score(s->metric, s->scores[i]));
    }
  }
}

static void score_pending(flat_scan *s) {
  rag_index__rows_gather(s->datatype, s->metric, s->query->vector, s->rows, s->pending, s->dimension, s->scores);
  for (uint32_t i = 0; i < s->pending; i++) {
    rag_index__topk_offer(s->top, s->ordinals[i], rag_index__score(s->metric, s->scores[i]));
  }
  s->pending = 0;
}

static void add_pending(flat_scan *s, uint32_t ordinal, const uint8_t *row) {
  __builtin_prefetch(row);
  s->ordinals[s->pending] = ordinal;
  s->rows[s->pending++] = row;
  if (s->pending == FLAT_SCAN_BATCH) score_pending(s);
}

// ---------------------------------------------------------------------------------------------- by codes

static void ask_codes(flat_scan *s) {
  const float *query = s->query->vector;
  rag_codes_int8_query_init(query, s->dimension, s->codes, &s->coded);
  double error = 0, norm = sqrt((double)s->coded.factors.norm_squared), scale = (double)s->coded.factors.scale;
  for (uint32_t i = 0; i < s->dimension; i++) {
    double wrong_by = (double)query[i] - s->codes[i] * scale;
    error += wrong_by * wrong_by;
  }
  error = sqrt(error);
  s->asked = true;
  double rounding = (s->dimension + 64) * 0x1p-23; // of a sum of so many products, in whatever order, twice over
  s->of_error = (float)((norm + error) * 1.0001);
  s->of_norm = (float)(error * 1.0001 + norm * rounding);
  s->of_norm_squared = s->metric == RAG_METRIC_L2 ? (float)(0.5 - rounding) : 0;
  s->norm_squared = (float)((double)s->coded.factors.norm_squared * (1 - rounding));
  s->rounding = (float)rounding;
}

// What a bound must reach.
static float least_bound(const flat_scan *s) {
  float floor = s->top->floor;
  if (s->metric != RAG_METRIC_L2) return floor;
  return (s->norm_squared - floor * floor * (1 + s->rounding)) * 0.5f;
}

// The highest that the scores (for l2: <q, x> - |x|^2 / 2) of `count` rows can be.
static void make_bounds(const flat_scan *s, const flat_codes *c, uint32_t slot, uint32_t count,
                        const int32_t *restrict dots, float *restrict bounds) {
  float scale = s->coded.factors.scale, of_error = s->of_error, of_norm = s->of_norm;
  float of_norm_squared = s->of_norm_squared;
  const float *restrict row_scale = c->scale + slot, *restrict error = c->error + slot, *restrict norm = c->norm + slot;
  uint32_t i = 0;
  for (; i + LANES <= count; i += LANES) // of a known number, so that compilers make vector code of them
    for (uint32_t j = i; j < i + LANES; j++)
      bounds[j] = (float)dots[j] * (scale * row_scale[j]) + of_error * error[j] + of_norm * norm[j] -
                  of_norm_squared * norm[j] * norm[j];
  for (; i < count; i++)
    bounds[i] = (float)dots[i] * (scale * row_scale[i]) + of_error * error[i] + of_norm * norm[i] -
                of_norm_squared * norm[i] * norm[i];
}

// Of rows whose products are in dots: those that pass and may be among the best, exactly. passing: a bit for each row.
static void take_bounded(flat_scan *s, const flat_codes *c, const uint8_t *base, uint32_t slot, uint32_t first,
                         uint32_t count, const int32_t *dots, const uint64_t *passing) {
  float bounds[FLAT_SCAN_BATCH], least = least_bound(s);
  make_bounds(s, c, slot, count, dots, bounds);
  for (uint32_t i = 0; i < count; i++) {
    if (bounds[i] < least) continue; // and not if it is no number
    if (!(passing[i / 64] >> i % 64 & 1)) continue;
    add_pending(s, first + i, base + i * s->row_bytes);
    s->rescored++;
  }
  score_pending(s); // the next batch has a better floor
}

// ---------------------------------------------------------------------------------------------- words

// Some rows of one word, by their full precision; `base` is the row of its bit 0, `first` its ordinal.
static void scan_word(flat_scan *s, uint64_t word, uint32_t first, const uint8_t *base) {
  while (word) {
    uint32_t start = (uint32_t)__builtin_ctzll(word);
    uint64_t rest = ~(word >> start);
    uint32_t run = rest ? (uint32_t)__builtin_ctzll(rest) : 64;
    const uint8_t *row = base + start * s->row_bytes;
    if (run >= RUN_MIN) {
      score_run(s, first + start, row, run);
    } else {
      for (uint32_t i = 0; i < run; i++) add_pending(s, first + start + i, row + i * s->row_bytes);
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

// Queries that scan together, over one shard.
typedef struct shared_scan {
  flat_scan *const *scans;
  uint32_t count;
  const flat_view *view;
  const uint64_t *present;
  const uint64_t *filters[FLAT_SCAN_QUERIES]; // of each query; NULL: nothing of this shard passes
  uint32_t asking;                            // queries that something of this shard passes, and whose time is not over
  uint64_t since_look;
  int32_t dots[FLAT_SCAN_QUERIES * FLAT_SCAN_BATCH];
} shared_scan;

static uint64_t word_of(const shared_scan *t, uint32_t query, uint32_t w) {
  return t->filters[query] ? t->present[w] & t->filters[query][w] : 0;
}

static uint64_t word_of_any(const shared_scan *t, uint32_t w) {
  uint64_t any = 0;
  for (uint32_t i = 0; i < t->count; i++) any |= word_of(t, i, w);
  return any;
}

// Rows low, low + 1, ... of word w of the shard, `rows` of them, all present, by their codes.
static void scan_codes(shared_scan *t, const flat_block *block, uint32_t w, uint32_t shard_first, uint32_t low,
                       uint32_t rows) {
  uint32_t in_block = (w & ((1u << t->view->block_shift >> 6) - 1)) * 64 + low;
  flat_codes codes = flat_codes_of(block, t->view->block_shift);
  rag_codes_int8_query queries[FLAT_SCAN_QUERIES];
  uint32_t who[FLAT_SCAN_QUERIES], asking = 0;
  for (uint32_t i = 0; i < t->count; i++) {
    if (!t->filters[i]) continue;
    if (!t->scans[i]->asked) ask_codes(t->scans[i]);
    queries[asking] = t->scans[i]->coded;
    who[asking++] = i;
  }
  const rag_codes_kernels *kernels = t->scans[0]->codes_kernels;
  for (uint32_t done = 0, batch; done < rows; done += batch) {
    batch = RAG_MIN(rows - done, FLAT_SCAN_BATCH);
    uint32_t slot = in_block + done;
    const uint8_t *base = codes.base + slot * codes.stride;
    if (asking == 1) kernels->int8_rows(&queries[0], base, codes.stride, batch, t->dots);
    else kernels->int8_tile(queries, asking, base, codes.stride, batch, t->dots);
    for (uint32_t i = 0; i < asking; i++) {
      uint64_t passing[FLAT_SCAN_BATCH / 64], survivors = 0;
      for (uint32_t j = 0; j * 64 < batch; j++) { // more rows than a word has begin at bit 0 of one
        passing[j] = word_of(t, who[i], w + done / 64 + j) >> low;
        survivors += (uint64_t)__builtin_popcountll(passing[j]);
      }
      if (survivors == 0) continue;
      t->scans[who[i]]->scored += survivors;
      take_bounded(t->scans[who[i]], &codes, block->rows + slot * t->scans[0]->row_bytes, slot,
                   shard_first + w * 64 + low + done, batch, t->dots + (size_t)i * batch, passing);
    }
  }
  t->since_look += (uint64_t)rows * asking;
}

static void look_at_clock(shared_scan *t) {
  t->since_look = 0;
  for (uint32_t i = 0; i < t->count; i++) {
    flat_scan *s = t->scans[i];
    if (s->status == RAG_OK) s->status = rag_index__check_deadline(s->query, s->err);
    if (s->status != RAG_OK && t->filters[i]) {
      t->filters[i] = NULL;
      t->asking--;
    }
  }
}

static void scan_shard(shared_scan *t, uint32_t number) {
  const flat_shard *shard = t->view->shards[number];
  bool by_codes = t->scans[0]->by_codes;
  uint32_t words_per_block = 1u << t->view->block_shift >> 6, shard_first = number * RAG_BITMAP_BLOCK_BITS;
  uint32_t words = shard ? shard->block_end * words_per_block : 0;
  for (uint32_t w = 0; w < words && t->asking > 0; w++) {
    uint64_t any = word_of_any(t, w);
    if (!any) continue;
    const flat_block *block = shard->blocks[w / words_per_block];
    uint32_t in_block = w % words_per_block, first = shard_first + w * 64, full = 1;
    const uint8_t *base = block->rows + in_block * 64 * t->scans[0]->row_bytes;
    if (any == ~0ull)
      while (in_block + full < words_per_block && word_of_any(t, w + full) == ~0ull) full++;
    // Slots without a row are not read: the writer may be filling them.
    uint64_t span = span_of(any);
    if (by_codes && (uint32_t)__builtin_popcountll(any) >= CODED_MIN && (t->present[w] & span) == span) {
      scan_codes(t, block, w, shard_first, (uint32_t)__builtin_ctzll(any),
                 (uint32_t)__builtin_popcountll(span) + (full - 1) * 64);
    } else if (by_codes || any != ~0ull) {
      full = 1;
      for (uint32_t i = 0; i < t->count; i++) {
        scan_word(t->scans[i], word_of(t, i, w), first, base);
        t->since_look += 64;
      }
    } else { // one query: `exact` shares nothing
      score_run(t->scans[0], first, base, full * 64);
      t->since_look += full * 64;
    }
    w += full - 1;
    if (t->since_look >= DEADLINE_ROWS) look_at_clock(t);
  }
}

// ---------------------------------------------------------------------------------------------- the whole

void rag_index__flat_scan_init(flat_scan *s, const rag_index_view *view, const rag_index_query *query,
                               rag_index_topk *top, rag_error *err) {
  s->query = query; // the arrays stay uninitialised: clearing them would cost a small search a tenth of its time
  s->codes_kernels = rag_codes_kernels_best();
  s->metric = view->shared->metric;
  s->dimension = view->shared->dimension;
  s->datatype = view->shared->datatype;
  s->row_bytes = rag_index__shared_row_bytes(view->shared);
  s->top = top;
  s->err = err;
  s->status = RAG_OK;
  s->scored = s->rescored = 0;
  s->shards = s->pending = 0;
  s->by_codes = !query->exact && (rag_bitmap_count(view->present) >= CODED_ROWS_MIN || top->count == top->capacity);
  s->asked = false; // a sparse filter asks no codes
}

void rag_index__flat_scan(const flat_view *view, flat_scan *const *scans, uint32_t count) {
  shared_scan t; // as above
  t.scans = scans;
  t.count = count;
  t.view = view;
  t.since_look = 0;
  for (uint32_t number = 0; number < view->shard_count; number++) {
    t.present = rag_bitmap_block(view->head.present, number, NULL);
    if (!t.present) continue;
    t.asking = 0;
    for (uint32_t i = 0; i < count; i++) {
      const rag_bitmap *filter = scans[i]->query->filter;
      t.filters[i] = filter ? rag_bitmap_block(filter, number, NULL) : t.present;
      if (scans[i]->status != RAG_OK) t.filters[i] = NULL;
      if (!t.filters[i]) continue;
      t.asking++;
      scans[i]->shards++;
    }
    if (t.asking > 0) scan_shard(&t, number);
    // A filter that leaves nothing of many shards scores no row and would not look at the clock.
    if (number % 64 == 63) look_at_clock(&t);
  }
  for (uint32_t i = 0; i < count; i++) score_pending(scans[i]);
}
