// Searches: lists in the order of their promise, then exact scores.
//
// 1. A list's 1-bit codes give each row a score and how far off it may be. Where score and error together do not reach
//    the k-th best so far, the row is done with.
// 2. The others are scored from their int8 codes, some tens at a time, and the best are kept: soon the k-th best is
//    nearly the final one, and few rows pass.
// 3. The best by int8 are scored exactly, best first, and no further than int8 codes can be wrong: twice the largest
//    error seen among the first says which others may still be among the k.
//
// With a filter a row's bit is tested before its code is read, and lists are read until as many survivors were met as
// rows would have been met without a filter, less where few survive (enough_survivors): where the filter's rows are far
// from the query, that is when the search comes to them. Few survivors are scanned as they are (rag_ivf_estimate); so are all of them when the lists have
// cost as much as that. However it ends, min(k, survivors) rows are found.
#include "index/ivf/ivf_internal.h"

#define BATCH 256u        // 1-bit codes scored at once
#define BLOCK 16u         // bounds looked at together: a trip count that compilers make vector code of
#define PENDING 32u       // rows scored by int8 at once
#define RERANK_RESERVE 8u // rows beyond k that are kept for their exact scores
#define SCAN_RESERVE 32u  // the same where a scan keeps them
#define RESCORE_FIRST 4u  // rows beyond k whose exact scores tell how wrong codes are here
#define RESCORE_BATCH 16u
#define RESCORE_MARGIN 2.0f // times the largest error seen
#define TOUCHED 16384u      // marks remembered one by one
#define DEADLINE_LISTS 64u
#define DEADLINE_ROWS 16384u
#define AHEAD_BYTES 2048u // of the next list's codes; its others follow in the hardware's stride

// Costs in int8 rows scored at random, measured by benchmarks/ivf.
#define COST_CENTROID 0.15
#define COST_LIST 2.0
#define COST_BIT 0.02 // an entry's bit tested
#define COST_CODE 0.15
#define COST_SCANNED_ROW 0.5

struct rag_ivf_scratch {
  rag_ivf__ask ask;
  uint64_t *pool; // the best `limit` rows by int8, best first: keys as in rag_graph
  uint32_t pool_room;
  uint64_t *visited; // one bit for each row that was a candidate
  uint32_t visited_words, visited_room;
  uint32_t *touched;
  uint32_t touched_count;
  bool touched_all;
};

typedef struct search {
  const rag_ivf *ivf;
  const rag_ivf_codes *codes;
  const rag_ivf_query *query;
  rag_ivf_scratch *scratch;
  rag_index_topk *top;
  rag_ivf_stats *stats;
  const rag_codes_kernels *kernels;
  uint64_t *pool;
  uint32_t pool_count, limit;
  float floor;     // a row whose score by codes cannot reach it is of no use
  float top_floor; // the same, of the list of all segments
  uint32_t pending_count;
  uint32_t pending[PENDING];
} search;

rag_status rag_ivf__deadline(uint64_t deadline_ns, rag_error *err) {
  if (deadline_ns == 0 || rag_clock_monotonic_ns() < deadline_ns) return RAG_OK;
  return rag_fail(err, RAG_DEADLINE_EXCEEDED, "the search's time ran out");
}

// ---------------------------------------------------------------------------------------------- scratch

rag_status rag_ivf_scratch_create(rag_ivf_scratch **out, rag_error *err) {
  rag_ivf_scratch *scratch = rag_calloc(1, sizeof *scratch);
  if (!scratch) return rag_fail_no_memory(err, sizeof *scratch);
  scratch->touched = rag_alloc(TOUCHED * sizeof *scratch->touched);
  if (!scratch->touched) {
    rag_free(scratch);
    return rag_fail_no_memory(err, TOUCHED * sizeof *scratch->touched);
  }
  *out = scratch;
  return RAG_OK;
}

void rag_ivf_scratch_destroy(rag_ivf_scratch *scratch) {
  if (!scratch) return;
  rag_ivf__ask_free(&scratch->ask);
  rag_free(scratch->pool);
  rag_free(scratch->visited);
  rag_free(scratch->touched);
  rag_free(scratch);
}

// Nothing is visited, and there is room for a pool and its next batch.
static rag_status reserve(rag_ivf_scratch *s, uint32_t rows, uint32_t limit, rag_error *err) {
  uint32_t words = rows / 64 + 1, room = limit + PENDING;
  if (s->touched_all) memset(s->visited, 0, s->visited_words * sizeof *s->visited);
  else
    for (uint32_t i = 0; i < s->touched_count; i++) s->visited[s->touched[i] >> 6] = 0;
  s->touched_count = 0;
  s->touched_all = false;
  if (s->visited_room < words) {
    rag_free(s->visited);
    s->visited_room = 0;
    s->visited = rag_calloc(words, sizeof *s->visited);
    if (!s->visited) return rag_fail_no_memory(err, words * sizeof *s->visited);
    s->visited_room = words;
  }
  s->visited_words = words;
  if (s->pool_room < room) {
    rag_free(s->pool);
    s->pool_room = 0;
    s->pool = rag_alloc(room * sizeof *s->pool);
    if (!s->pool) return rag_fail_no_memory(err, room * sizeof *s->pool);
    s->pool_room = room;
  }
  return RAG_OK;
}

static bool visit(rag_ivf_scratch *s, uint32_t row) { // true when it is new
  uint64_t bit = 1ull << (row & 63), *word = &s->visited[row >> 6];
  if (*word & bit) return false;
  *word |= bit;
  if (s->touched_count < TOUCHED) s->touched[s->touched_count++] = row;
  else s->touched_all = true;
  return true;
}

// ---------------------------------------------------------------------------------------------- the pool

// A row and its score as one integer, so that order is one comparison: the score's bits, mapped to order as integers,
// over the complement of the row (ties: the lower row first).
static uint64_t key_of(float score, uint32_t row) {
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);
  bits ^= (uint32_t) - (int32_t)(bits >> 31) | 0x80000000u;
  return (uint64_t)bits << 32 | (uint32_t)~row;
}
static uint32_t key_row(uint64_t key) {
  return ~(uint32_t)key;
}
static float key_score(uint64_t key) {
  uint32_t bits = (uint32_t)(key >> 32);
  bits ^= bits >> 31 ? 0x80000000u : 0xffffffffu;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}

// Takes scored rows into the pool: from the worst to the best, each part of the pool moved once.
static void absorb(search *s, const uint32_t *rows, const float *scores, uint32_t count) {
  uint64_t fresh[PENDING], *pool = s->pool;
  uint64_t least = s->pool_count == s->limit ? pool[s->pool_count - 1] : 0;
  uint32_t new_count = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t key = key_of(scores[i], rows[i]);
    if (key <= least) continue;
    uint32_t at = new_count++;
    for (; at > 0 && fresh[at - 1] < key; at--) fresh[at] = fresh[at - 1];
    fresh[at] = key;
  }
  uint32_t end = s->pool_count;
  for (uint32_t i = new_count; i-- > 0;) {
    uint32_t low = 0, high = end; // the first entry that is worse
    while (low < high) {
      uint32_t middle = (low + high) / 2;
      if (pool[middle] > fresh[i]) low = middle + 1;
      else high = middle;
    }
    memmove(pool + low + i + 1, pool + low, (size_t)(end - low) * sizeof *pool);
    pool[low + i] = fresh[i];
    end = low;
  }
  s->pool_count = RAG_MIN(s->pool_count + new_count, s->limit);
  if (s->pool_count >= s->query->k) s->floor = RAG_MAX(s->top_floor, key_score(pool[s->query->k - 1]));
}

// ---------------------------------------------------------------------------------------------- exact scores

// Scores of the codes' kind (inner products, squared distances below zero) and final ones.
static float to_final(rag_metric metric, float by_codes) {
  return rag_index__score(metric, metric == RAG_METRIC_L2 ? RAG_MAX(-by_codes, 0.0f) : by_codes);
}
static float to_codes(rag_metric metric, float final) {
  if (metric != RAG_METRIC_L2) return final;
  return final > 0 ? FLT_MAX : -(final * final) * 1.000001f; // the root rounded
}

static rag_status fetch_scores(search *s, const uint32_t *ids, uint32_t count, float *raw, rag_error *err) {
  const rag_ivf_query *q = s->query;
  const rag_ivf_meta *m = &s->ivf->meta;
  s->stats->rescored += count;
  return rag_index__fetch_score(&q->fetch, (rag_metric)m->metric, q->vector, ids, count, m->dimension, raw, err);
}

static void offer(search *s, uint32_t row, float score) {
  rag_index__topk_offer(s->top, s->query->ordinals ? s->query->ordinals[row] : row, score);
}

static rag_status rescore(search *s, rag_error *err) {
  const rag_ivf_query *q = s->query;
  rag_metric metric = (rag_metric)s->ivf->meta.metric;
  uint32_t count = s->pool_count, ids[RAG_INDEX_ROW_FETCH_MAX], first = q->k + RESCORE_FIRST;
  float by_codes[RAG_INDEX_ROW_FETCH_MAX], raw[RAG_INDEX_ROW_FETCH_MAX], wrong_by = 0;
  for (uint32_t done = 0; done < count;) {
    // The first round has what would be answered if codes were right, and a few more.
    uint32_t most = done < first ? RAG_MIN(first - done, RAG_INDEX_ROW_FETCH_MAX) : RESCORE_BATCH, batch = 0;
    for (; batch < most && done + batch < count; batch++) {
      by_codes[batch] = to_final(metric, key_score(s->pool[done + batch]));
      if (done >= first && by_codes[batch] + wrong_by < s->top->floor) break;
      ids[batch] = key_row(s->pool[done + batch]);
    }
    if (batch == 0) break;
    RAG_TRY(fetch_scores(s, ids, batch, raw, err));
    for (uint32_t i = 0; i < batch; i++) {
      float score = rag_index__score(metric, raw[i]);
      wrong_by = RAG_MAX(wrong_by, RESCORE_MARGIN * fabsf(score - by_codes[i]));
      offer(s, ids[i], score);
    }
    done += batch;
    RAG_TRY(rag_ivf__deadline(q->deadline_ns, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- candidates

// Scores what is pending, by int8 codes, or exactly where there are none.
static rag_status flush(search *s, rag_error *err) {
  uint32_t count = s->pending_count;
  const rag_ivf_codes *codes = s->codes;
  float scores[PENDING];
  s->pending_count = 0;
  if (count == 0) return RAG_OK;
  if (codes->base) {
    int32_t dots[PENDING];
    s->kernels->int8_gather(&s->scratch->ask.int8, codes->base, codes->stride, s->pending, count, dots);
    rag_codes_int8_scores(&s->scratch->ask.int8, codes->metric, codes->factors, s->pending, dots, count, scores);
    s->stats->scored += count;
  } else {
    rag_metric metric = (rag_metric)s->ivf->meta.metric;
    RAG_TRY(fetch_scores(s, s->pending, count, scores, err));
    for (uint32_t i = 0; i < count; i++) {
      offer(s, s->pending[i], rag_index__score(metric, scores[i]));
      if (metric == RAG_METRIC_L2) scores[i] = -scores[i];
      scores[i] = scores[i] > -FLT_MAX ? RAG_MIN(scores[i], FLT_MAX) : -FLT_MAX; // nor a NaN
    }
  }
  absorb(s, s->pending, scores, count);
  return RAG_OK;
}

static rag_status take(search *s, uint32_t row, rag_error *err) {
  if (!visit(s->scratch, row)) return RAG_OK;
  s->pending[s->pending_count++] = row;
  if (s->codes->base) {
    __builtin_prefetch(s->codes->base + row * s->codes->stride);
    __builtin_prefetch(&s->codes->factors[row]);
  }
  return s->pending_count == PENDING ? flush(s, err) : RAG_OK;
}

static rag_status scan_survivors(search *s, rag_error *err) {
  const rag_ivf_query *q = s->query;
  uint32_t words = (s->ivf->meta.rows + 63) / 64;
  uint64_t taken = 0, look = DEADLINE_ROWS;
  for (uint32_t i = 0; i < words; i++) {
    for (uint64_t word = q->filter[i]; word; word &= word - 1) {
      RAG_TRY(take(s, i * 64 + (uint32_t)__builtin_ctzll(word), err));
      taken++;
    }
    if (taken < look) continue;
    look = taken + DEADLINE_ROWS;
    RAG_TRY(rag_ivf__deadline(q->deadline_ns, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- lists

// Turns the query to a list. Inner products by int8 codes are good enough to bound a cosine, whose vectors have one
// length and lie around the origin; elsewhere they are taken exactly.
static void turn_to(search *s, uint32_t list) {
  rag_ivf__ask *ask = &s->scratch->ask;
  const rag_ivf_centroids *c = s->ivf->centroids;
  rag_metric metric = (rag_metric)c->meta.metric;
  uint32_t dimension = c->meta.dimension;
  const float *centroid = c->vectors + (size_t)list * dimension;
  float inner = ask->inner[list], squared;
  if (metric == RAG_METRIC_COSINE) {
    squared = ask->norm_squared + c->factors[list].norm_squared - 2 * inner;
  } else {
    const rag_kernels *kernels = rag_kernels_best();
    if (metric == RAG_METRIC_IP) inner = kernels->dot(ask->vector, centroid, dimension);
    squared = kernels->l2_squared(ask->vector, centroid, dimension);
  }
  rag_codes_bits_query_list(&ask->bits, metric, inner, sqrtf(squared > 0 ? squared : 0));
}

// The best scores that rows may have: of entries begin, begin + 1, ..., or of those at begin + places[i]. The last block
// is filled up with what reaches no floor.
static void bound_rows(search *s, uint32_t begin, const uint32_t *places, uint32_t count, float *bounds) {
  const rag_ivf *ivf = s->ivf;
  const uint8_t *base = ivf->codes + (size_t)begin * ivf->code_bytes;
  const rag_codes_bits_query *query = &s->scratch->ask.bits;
  float errors[BATCH];
  if (places) s->kernels->bits_gather(query, base, ivf->code_bytes, places, count, bounds, errors);
  else s->kernels->bits_rows(query, base, ivf->code_bytes, count, bounds, errors);
  for (uint32_t i = count; i % BLOCK != 0; i++) bounds[i] = errors[i] = -INFINITY;
  for (uint32_t at = 0; at < count; at += BLOCK)
    for (uint32_t i = at; i < at + BLOCK; i++) bounds[i] += errors[i];
  s->stats->scanned += count;
}

static rag_status scan_part(search *s, uint32_t begin, uint32_t count, uint64_t *seen, rag_error *err) {
  const uint32_t *rows = s->ivf->rows + begin;
  *seen += count;
  float bounds[BATCH];
  bound_rows(s, begin, NULL, count, bounds);
  for (uint32_t at = 0; at < count; at += BLOCK) {
    uint32_t reaching = 0;
    float floor = s->floor;
    for (uint32_t i = at; i < at + BLOCK; i++) reaching |= bounds[i] >= floor;
    if (!reaching) continue; // as for all but the first lists
    for (uint32_t i = at; i < RAG_MIN(at + BLOCK, count); i++) {
      if (bounds[i] >= s->floor) RAG_TRY(take(s, rows[i] & ~RAG_IVF_SECOND, err));
    }
  }
  return RAG_OK;
}

static rag_status scan_part_filtered(search *s, uint32_t begin, uint32_t count, uint64_t *seen, rag_error *err) {
  const uint64_t *filter = s->query->filter;
  const uint32_t *rows = s->ivf->rows + begin;
  uint32_t places[BATCH], passing = 0;
  float bounds[BATCH];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t row = rows[i] & ~RAG_IVF_SECOND;
    places[passing] = i;
    passing += (uint32_t)(filter[row >> 6] >> (row & 63) & 1);
  }
  *seen += passing;
  if (passing == 0) return RAG_OK;
  bool most = passing * 2 >= count; // codes in a row cost half of what picked ones do
  bound_rows(s, begin, most ? NULL : places, most ? count : passing, bounds);
  for (uint32_t i = 0; i < passing; i++) {
    if (bounds[most ? places[i] : i] < s->floor) continue;
    RAG_TRY(take(s, rows[places[i]] & ~RAG_IVF_SECOND, err));
  }
  return RAG_OK;
}

static rag_status scan_list(search *s, uint32_t list, uint64_t *seen, rag_error *err) {
  uint32_t begin = s->ivf->lists[list], end = s->ivf->lists[list + 1];
  turn_to(s, list);
  for (uint32_t at = begin; at < end; at += BATCH) {
    uint32_t count = RAG_MIN(BATCH, end - at);
    RAG_TRY(s->query->filter ? scan_part_filtered(s, at, count, seen, err) : scan_part(s, at, count, seen, err));
    if (end - begin > DEADLINE_ROWS && (at - begin) % DEADLINE_ROWS == 0) {
      RAG_TRY(rag_ivf__deadline(s->query->deadline_ns, err));
    }
  }
  return RAG_OK;
}

static void ask_ahead(const rag_ivf *ivf, uint32_t list) {
  uint32_t begin = ivf->lists[list], count = ivf->lists[list + 1] - begin;
  rag_codes_prefetch(ivf->codes + (size_t)begin * ivf->code_bytes,
                     RAG_MIN((size_t)count * ivf->code_bytes, AHEAD_BYTES));
  __builtin_prefetch(ivf->rows + begin);
}

// How many survivors a search must meet that without a filter would read nprobe lists: as many as those have entries,
// where half survive or more; of fewer, fewer, as the lists that are read are a larger part of all. On real embeddings
// (benchmarks/ivf) it keeps the recall of every filter, random or a region, above that of no filter.
static double enough_survivors(const rag_ivf *ivf, double nprobe, uint64_t survivors) {
  double share = (double)survivors / RAG_MAX(ivf->meta.rows, 1u);
  return sqrt(RAG_MIN(2 * share, 1.0)) * nprobe * ivf->meta.entries / ivf->meta.lists;
}

// *out_done is false where a scan of the survivors is the better way to go on.
static rag_status probe(search *s, rag_ivf_cost cost, bool *out_done, rag_error *err) {
  const rag_ivf *ivf = s->ivf;
  const rag_ivf_query *q = s->query;
  const uint32_t *order = s->scratch->ask.order;
  uint32_t lists = ivf->meta.lists, nprobe = RAG_MIN(RAG_MAX(q->nprobe, 1u), lists);
  uint64_t seen = 0, enough = 0;
  double spent = 0;
  if (q->filter) enough = (uint64_t)enough_survivors(ivf, nprobe, q->survivors);
  *out_done = true;
  for (uint32_t i = 0; i < lists; i++) {
    // A row is met twice at most. k that were met are not in the pool where other segments have better ones.
    bool full = s->pool_count + s->pending_count >= q->k || seen >= 2ull * q->k;
    if (i >= nprobe && full && seen >= enough) break;
    if (i + 1 < lists) ask_ahead(ivf, order[i + 1]);
    uint64_t before = seen;
    RAG_TRY(scan_list(s, order[i], &seen, err));
    s->stats->lists++;
    if (q->filter) {
      uint32_t length = ivf->lists[order[i] + 1] - ivf->lists[order[i]];
      spent += COST_LIST + COST_BIT * length + COST_CODE * (double)(seen - before);
      if (spent > cost.scan) {
        *out_done = false;
        return RAG_OK;
      }
    }
    if (i % DEADLINE_LISTS == 0) RAG_TRY(rag_ivf__deadline(q->deadline_ns, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the whole

rag_ivf_cost rag_ivf_estimate(const rag_ivf *ivf, uint32_t nprobe, bool filtered, uint64_t survivors) {
  const rag_ivf_meta *meta = &ivf->meta;
  double lists = RAG_MIN(RAG_MAX(nprobe, 1u), meta->lists), entries = meta->entries, rows = RAG_MAX(meta->rows, 1u);
  double probe = COST_CENTROID * meta->lists, of_list = entries / meta->lists;
  if (filtered) {
    double share = RAG_MAX((double)survivors, 1.0) / rows; // in every list, where they may be anywhere
    double read = enough_survivors(ivf, lists, survivors) / RAG_MAX(share * of_list, 1e-9);
    read = RAG_MIN(RAG_MAX(read, lists), (double)meta->lists);
    probe += read * (COST_LIST + of_list * (COST_BIT + COST_CODE * share));
  } else {
    probe += lists * (COST_LIST + COST_CODE * of_list);
  }
  return (rag_ivf_cost){probe, COST_SCANNED_ROW * (double)survivors};
}

rag_status rag_ivf_search(const rag_ivf *ivf, const rag_ivf_codes *codes, const rag_ivf_query *query,
                          rag_ivf_scratch *scratch, rag_index_topk *top, rag_ivf_stats *stats, rag_error *err) {
  rag_ivf_stats ignored;
  if (!stats) stats = &ignored;
  *stats = (rag_ivf_stats){0};
  if (ivf->meta.rows == 0 || (query->filter && query->survivors == 0)) return RAG_OK;
  RAG_TRY(rag_ivf__deadline(query->deadline_ns, err));
  RAG_TRY(rag_ivf__ask_prepare(&scratch->ask, ivf->centroids, query->vector, err));
  uint32_t reserve_rows = query->filter ? SCAN_RESERVE : RERANK_RESERVE;
  search s = {.ivf = ivf,
              .codes = codes,
              .query = query,
              .scratch = scratch,
              .top = top,
              .stats = stats,
              .kernels = rag_codes_kernels_best(),
              .limit = RAG_MAX(query->rerank, query->k + reserve_rows),
              .top_floor = to_codes((rag_metric)ivf->meta.metric, top->floor)};
  s.limit = RAG_MIN(s.limit, RAG_MAX(ivf->meta.rows, query->k));
  s.floor = s.top_floor;
  RAG_TRY(reserve(scratch, ivf->meta.rows, s.limit, err));
  s.pool = scratch->pool;
  bool done = false;
  rag_ivf_cost cost = {0, 0};
  if (query->filter) cost = rag_ivf_estimate(ivf, query->nprobe, true, query->survivors);
  if (!query->filter || cost.probe < cost.scan) RAG_TRY(probe(&s, cost, &done, err));
  if (!done) {
    stats->way = RAG_IVF_SCANNED;
    RAG_TRY(scan_survivors(&s, err));
  }
  RAG_TRY(flush(&s, err));
  return codes->base ? rescore(&s, err) : RAG_OK;
}
