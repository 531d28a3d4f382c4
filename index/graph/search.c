// Searches: a walk, or a scan of few survivors, then exact scores.
//
// Without a filter the walk keeps the ef best by codes. Their exact scores are taken best first, and no further than the
// codes can be wrong: twice the largest error seen among the first ones says which others may still be among the k.
//
// With a filter:
//  1. Few survivors are scanned (rag_graph_estimate).
//  2. Else a plain walk of a few steps finds where the query is, and what part of the rows survives there.
//  3. A fifth and more: the plain walk goes on, in a pool that is wider by the rows that k survivors are expected among,
//     and the survivors in it are what was found. Nothing but the end of the walk looks at the filter.
//  4. Less: from there on the pool holds survivors alone, and a step goes to the node's links that survive and, until
//     three quarters of a list are there, on through those that do not to theirs (as ACORN-1, arXiv 2403.04871): what is
//     walked is the survivors and the short ways between them. A row that does not survive is never scored, and its
//     links are read once. Survivors picked at random are in the pool from the start: where the filter's rows lie far
//     from the query, no way through short hops leads to them, and the best of the picked ones is where the walk begins.
//  5. Where the query is, few rows survive, fewer than a quarter of what survives elsewhere: the best ones are spread
//     over the far parts, which need not be linked. More are picked, and the pool is wider, unless a scan costs less.
//  6. A walk that has cost as much as a scan, or ends with fewer than k, becomes the scan: no filter makes a search
//     return too little or cost more than twice the scan.
#include "index/graph/graph_internal.h"

#define LOCATE_STEPS 8u    // nodes expanded to find where the query is
#define PLAIN_FROM 0.2     // of the rows where the query is: so many survivors, and the walk is a plain one,
#define PLAIN_WIDER 2.0    // in a pool that is wider by so many times the rows that stand between the k best survivors
#define PLAIN_RESERVE 8.0  // and by so many, as what part survives is known from few rows
#define SEEDS 32u          // survivors picked at random,
#define SEEDS_FAR 224u     // and where the filter's rows are far from the query
#define WIDER_FAR 4u       // what the pool is then, in ef
#define BRIDGE_UP_TO 3 / 4 // of a list: links that survive, and new rows beyond those that do not
#define SCAN_RESERVE 32u   // rows beyond k that a scan by codes keeps for their exact scores
#define RESCORE_FIRST 6u   // rows beyond k whose exact scores tell how wrong codes are here
#define RESCORE_BATCH 16u
#define RESCORE_MARGIN 2.0f  // times the largest error seen
#define DEADLINE_ROWS 16384u // scanned between two looks at the clock: about 0.3 ms

// Costs in rows scored at random, measured by benchmarks/graph (README: "Constants").
#define COST_SCANNED_ROW 0.3
#define COST_BRIDGE 2.0   // a node's links read to get past it
#define COST_FILTERED 3.0 // a filtered walk to a plain one: scores more rows, and tests and bridges take as long again

struct rag_graph_scratch {
  rag_graph__walker walker;
};

rag_status rag_graph_scratch_create(rag_graph_scratch **out, rag_error *err) {
  rag_graph_scratch *scratch = rag_alloc(sizeof *scratch);
  if (!scratch) return rag_fail_no_memory(err, sizeof *scratch);
  rag_graph__walker_init(&scratch->walker);
  *out = scratch;
  return RAG_OK;
}

void rag_graph_scratch_destroy(rag_graph_scratch *scratch) {
  if (!scratch) return;
  rag_graph__walker_free(&scratch->walker);
  rag_free(scratch);
}

typedef struct search {
  const rag_graph *graph;
  const rag_graph_codes *codes;
  const rag_graph_query *query;
  rag_graph__walker *w;
  uint64_t bridges;
} search;

static bool passes(const uint64_t *filter, uint32_t row) {
  return filter[row >> 6] >> (row & 63) & 1;
}

// ---------------------------------------------------------------------------------------------- exact scores

static rag_status rescore(search *s, rag_index_topk *top, rag_graph_stats *stats, rag_error *err) {
  const rag_graph_query *q = s->query;
  rag_metric metric = s->codes->metric;
  const uint64_t *pool = s->w->pool;
  uint32_t count = s->w->count, ids[RAG_INDEX_ROW_FETCH_MAX];
  float by_codes[RAG_INDEX_ROW_FETCH_MAX], raw[RAG_INDEX_ROW_FETCH_MAX];
  float wrong_by = 0;
  for (uint32_t done = 0; done < count;) {
    // The first round has what would be answered if codes were right, and a few more.
    uint32_t first = q->k + RESCORE_FIRST, batch = 0;
    uint32_t most = done < first ? RAG_MIN(first - done, RAG_INDEX_ROW_FETCH_MAX) : RESCORE_BATCH;
    for (; batch < most && done + batch < count; batch++) {
      float score = rag_graph__key_score(pool[done + batch]);
      by_codes[batch] = rag_index__score(metric, metric == RAG_METRIC_L2 ? RAG_MAX(-score, 0.0f) : score);
      if (done >= first && by_codes[batch] + wrong_by < top->floor) break;
      ids[batch] = rag_graph__key_node(pool[done + batch]);
    }
    if (batch == 0) break;
    RAG_TRY(rag_index__fetch_score(&q->fetch, metric, q->vector, ids, batch, s->codes->dimension, raw, err));
    for (uint32_t i = 0; i < batch; i++) {
      float score = rag_index__score(metric, raw[i]);
      wrong_by = RAG_MAX(wrong_by, RESCORE_MARGIN * fabsf(score - by_codes[i]));
      rag_index__topk_offer(top, q->ordinals ? q->ordinals[ids[i]] : ids[i], score);
    }
    done += batch;
    stats->rescored += batch;
    RAG_TRY(rag_graph__deadline(q->deadline_ns, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- scan

static rag_status scan(search *s, uint32_t limit, rag_error *err) {
  rag_graph__walker *w = s->w;
  const uint64_t *filter = s->query->filter;
  rag_graph__layer ground = rag_graph__layer_of(s->graph, 0);
  uint32_t words = (s->codes->rows + 63) / 64, count = 0;
  uint64_t look = w->scored + DEADLINE_ROWS;
  rag_graph__walker_restart(w, limit);
  for (uint32_t i = 0; i < words; i++) {
    for (uint64_t word = filter[i]; word; word &= word - 1) {
      w->nodes[count++] = i * 64 + (uint32_t)__builtin_ctzll(word);
    }
    if (count > RAG_GRAPH__BATCH - 64 || i + 1 == words) {
      rag_graph__score(w, &ground, count);
      rag_graph__absorb(w, count);
      count = 0;
      if (w->scored >= look) {
        look = w->scored + DEADLINE_ROWS;
        RAG_TRY(rag_graph__deadline(s->query->deadline_ns, err));
      }
    }
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- filtered walk

// Survivors at even distances among the survivors, whatever their places are: one pass over the filter, which is less
// than the walk. (By place, a filter of neighbouring rows would give the first of them alone.)
static void take_seeds(search *s, uint32_t seeds) {
  rag_graph__walker *w = s->w;
  const uint64_t *filter = s->query->filter;
  rag_graph__layer ground = rag_graph__layer_of(s->graph, 0);
  uint32_t words = (s->codes->rows + 63) / 64, count = 0;
  uint64_t distance = RAG_MAX(s->query->survivors / seeds, 1u), wanted = distance / 2, passed = 0;
  for (uint32_t i = 0; i < words && count < seeds; i++) {
    uint64_t word = filter[i];
    uint32_t here = (uint32_t)__builtin_popcountll(word);
    for (uint32_t gone = 0; passed + here > wanted && count < seeds; wanted += distance) {
      for (; passed + gone < wanted; gone++) word &= word - 1;
      uint32_t row = i * 64 + (uint32_t)__builtin_ctzll(word);
      if (rag_graph__visit(w, row)) w->nodes[count++] = row;
    }
    passed += here;
  }
  rag_graph__take(w, &ground, count);
}

// The survivors among the node's links and, while they are few, among the links of those that do not survive.
static uint32_t step(search *s, uint32_t node, uint32_t at) {
  rag_graph__walker *w = s->w;
  const uint64_t *filter = s->query->filter;
  uint32_t slots = s->graph->slots, count = 0, bridges = 0, read = 0, seen = 0;
  uint32_t bridge[2 * RAG_GRAPH_M_MAX];
  const uint32_t *links = s->graph->links + (size_t)node * slots;
  for (uint32_t i = 0; i < slots && links[i] != RAG_GRAPH_NONE; i++) {
    if (!passes(filter, links[i])) {
      bridge[bridges++] = links[i];
      continue;
    }
    seen++;
    if (!rag_graph__visit(w, links[i])) continue;
    w->nodes[count++] = links[i];
    rag_graph__prefetch(s->codes, links[i]);
  }
  for (uint32_t i = 0; i < bridges && seen < slots * BRIDGE_UP_TO; i++) {
    if (i + 2 < bridges) {
      const uint32_t *next = s->graph->links + (size_t)bridge[i + 2] * slots;
      __builtin_prefetch(next);
      __builtin_prefetch(next + 16);
    }
    if (!rag_graph__visit(w, bridge[i])) continue;
    bridge[read++] = bridge[i];
    const uint32_t *beyond = s->graph->links + (size_t)bridge[i] * slots;
    for (uint32_t j = 0; j < slots && beyond[j] != RAG_GRAPH_NONE; j++) {
      if (!passes(filter, beyond[j]) || !rag_graph__visit(w, beyond[j])) continue;
      seen++;
      w->nodes[count++] = beyond[j];
      rag_graph__prefetch(s->codes, beyond[j]);
    }
  }
  // Most often the next best one now is the next one to be expanded.
  if (at + 1 < w->count) {
    const uint32_t *next = s->graph->links + (size_t)rag_graph__key_node(w->pool[at + 1]) * slots;
    __builtin_prefetch(next);
    __builtin_prefetch(next + 16);
  }
  rag_graph__remember(w, bridge, read);
  s->bridges += read;
  w->expanded++;
  rag_graph__layer ground = rag_graph__layer_of(s->graph, 0);
  uint32_t best = rag_graph__take(w, &ground, count);
  return RAG_MIN(at, best);
}

// Finds where the query is; the part of the rows met that survives.
static double locate(search *s) {
  rag_graph__walker *w = s->w;
  rag_graph__layer ground = rag_graph__layer_of(s->graph, 0);
  uint32_t at = 0, node = rag_graph__descend(w, s->graph, 0), surviving = 0;
  w->nodes[0] = node;
  rag_graph__visit(w, node);
  rag_graph__take(w, &ground, 1);
  for (uint32_t steps = 0; steps < LOCATE_STEPS && rag_graph__next(w, &at, &node); steps++) {
    const uint32_t *links = ground.links + (size_t)node * ground.slots;
    uint32_t count = 0;
    for (uint32_t i = 0; i < ground.slots && links[i] != RAG_GRAPH_NONE; i++) {
      if (!rag_graph__visit(w, links[i])) continue;
      w->nodes[count++] = links[i];
      rag_graph__prefetch(s->codes, links[i]);
    }
    w->expanded++;
    uint32_t best = rag_graph__take(w, &ground, count);
    at = RAG_MIN(at, best);
  }
  for (uint32_t i = 0; i < w->touched_count; i++) surviving += passes(s->query->filter, w->touched[i]);
  return (double)surviving / RAG_MAX(w->touched_count, 1u);
}

// Turns what a plain walk has left into the beginning of a filtered one: survivors in the pool, what else was near in
// `near`.
static uint32_t leave_plain(search *s, uint32_t limit, uint32_t near[LOCATE_STEPS]) {
  rag_graph__walker *w = s->w;
  const uint64_t *filter = s->query->filter;
  uint32_t kept = 0, near_count = 0;
  for (uint32_t i = 0; i < w->count; i++) {
    uint32_t node = rag_graph__key_node(w->pool[i]);
    if (passes(filter, node)) w->pool[kept++] = w->pool[i] & ~1ull; // its links' links have not been looked at
    else if (near_count < LOCATE_STEPS) near[near_count++] = node;
  }
  w->limit = limit;
  w->count = RAG_MIN(kept, limit);
  // A mark says of a survivor that it was scored, and of another row that its links were read.
  for (uint32_t i = 0; i < w->touched_count; i++) {
    uint32_t node = w->touched[i];
    if (!passes(filter, node)) w->visited[node >> 6] &= ~(1ull << (node & 63));
  }
  return near_count;
}

static uint32_t plain_limit(const rag_graph_query *q, uint32_t ef, double surviving) {
  double between = q->k / surviving - q->k;
  return (uint32_t)RAG_MIN(ef + PLAIN_RESERVE + PLAIN_WIDER * between, (double)RAG_GRAPH_EF_MAX);
}

static rag_status plain_walk(search *s, uint32_t limit, rag_error *err) {
  rag_graph__walker *w = s->w;
  rag_graph__layer ground = rag_graph__layer_of(s->graph, 0);
  uint32_t kept = 0;
  w->limit = limit;
  w->count = RAG_MIN(w->count, limit);
  RAG_TRY(rag_graph__walk(w, &ground, s->query->deadline_ns, err));
  for (uint32_t i = 0; i < w->count; i++)
    if (passes(s->query->filter, rag_graph__key_node(w->pool[i]))) w->pool[kept++] = w->pool[i];
  w->count = kept;
  return RAG_OK;
}

// *out_done is false when a scan is the better way to go on.
static rag_status filtered_walk(search *s, uint32_t ef, rag_graph_cost cost, bool *out_done, rag_error *err) {
  rag_graph__walker *w = s->w;
  const rag_graph_query *q = s->query;
  uint32_t near[LOCATE_STEPS], at = 0, node, steps = 0;
  rag_graph__walker_restart(w, plain_limit(q, ef, PLAIN_FROM));
  double surviving = locate(s);
  bool far = surviving * s->codes->rows < 0.25 * (double)q->survivors;
  *out_done = false;
  if (surviving >= PLAIN_FROM) {
    RAG_TRY(plain_walk(s, plain_limit(q, ef, surviving), err));
    *out_done = w->count >= RAG_MIN((uint64_t)q->k, q->survivors);
    return RAG_OK;
  }
  if (far && cost.walk * WIDER_FAR > cost.scan) return RAG_OK;
  uint32_t near_count = leave_plain(s, far ? ef * WIDER_FAR : ef, near);
  for (uint32_t i = 0; i < near_count; i++) step(s, near[i], 0);
  take_seeds(s, far ? SEEDS_FAR : SEEDS);
  while (rag_graph__next(w, &at, &node)) {
    at = step(s, node, at);
    if (++steps % 16 != 0) continue;
    if ((double)w->scored + COST_BRIDGE * (double)s->bridges > cost.scan) return RAG_OK;
    if (steps % 64 == 0) RAG_TRY(rag_graph__deadline(q->deadline_ns, err));
  }
  *out_done = w->count >= RAG_MIN((uint64_t)q->k, q->survivors);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the whole

rag_graph_cost rag_graph_estimate(const rag_graph *graph, uint32_t ef, bool filtered, uint64_t survivors) {
  const rag_graph_meta *meta = &graph->meta;
  // Most links lead to rows that were met before: about half are new at small ef, fewer at large ones.
  double walk = (double)ef * meta->m;
  for (uint32_t i = 0; i < meta->rung_count; i++) {
    const rag_index_rung *rung = &meta->rungs[i];
    if (rung->width >= ef || i + 1 == meta->rung_count) {
      walk = (double)rung->cost * ef / rung->width;
      break;
    }
  }
  walk = RAG_MIN(walk, (double)meta->rows);
  if (filtered) walk *= COST_FILTERED;
  return (rag_graph_cost){walk, COST_SCANNED_ROW * (double)survivors};
}

rag_status rag_graph_search(const rag_graph *graph, const rag_graph_codes *codes, const rag_graph_query *query,
                            rag_graph_scratch *scratch, rag_index_topk *top, rag_graph_stats *stats, rag_error *err) {
  rag_graph_stats ignored;
  if (!stats) stats = &ignored;
  *stats = (rag_graph_stats){0};
  if (graph->meta.entry == RAG_GRAPH_NONE || (query->filter && query->survivors == 0)) return RAG_OK;
  RAG_TRY(rag_graph__deadline(query->deadline_ns, err));
  uint32_t ef = RAG_MIN(RAG_MAX(RAG_MAX(query->ef, query->k), 1u), RAG_GRAPH_EF_MAX);
  uint32_t scan_limit = RAG_MAX(ef, query->k + SCAN_RESERVE);
  rag_graph__walker *w = &scratch->walker;
  search s = {graph, codes, query, w, 0};
  uint32_t widest = RAG_MAX(scan_limit, RAG_MAX(ef * WIDER_FAR, plain_limit(query, ef, PLAIN_FROM)));
  RAG_TRY(rag_graph__walker_reserve(w, codes, widest, err));
  w->scored = w->expanded = 0;
  rag_graph__walker_ask(w, query->vector);
  rag_graph__layer ground = rag_graph__layer_of(graph, 0);
  if (!query->filter) {
    rag_graph__walker_restart(w, ef);
    w->nodes[0] = rag_graph__descend(w, graph, 0);
    rag_graph__visit(w, w->nodes[0]);
    rag_graph__take(w, &ground, 1);
    RAG_TRY(rag_graph__walk(w, &ground, query->deadline_ns, err));
  } else {
    rag_graph_cost cost = rag_graph_estimate(graph, ef, true, query->survivors);
    bool done = false;
    if (cost.walk < cost.scan) RAG_TRY(filtered_walk(&s, ef, cost, &done, err));
    if (!done) {
      stats->way = RAG_GRAPH_SCANNED;
      RAG_TRY(scan(&s, scan_limit, err));
    }
  }
  stats->scored = w->scored;
  stats->expanded = w->expanded;
  return rescore(&s, top, stats, err);
}
