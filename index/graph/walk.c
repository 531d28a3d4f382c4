// The best-first walk over one level, as build and search do it.
//
// The pool is one sorted array, the nodes that wait and those that are found alike (as in Vamana, arXiv 1907.11692's
// predecessors, and unlike the two heaps of the HNSW paper): at the ef of a search it is a few lines of cache, a batch
// of new nodes goes in with one move of each part, and "the best one not expanded" is the next flag that is not set.
// At an ef of thousands the moves grow with it; there an exact scan is the better way and rag_graph_estimate says so.
//
// Visited nodes are a bitmap: 14 KB for 110,000 rows, which the second-level cache holds together with what is walked,
// where an array of epochs, the usual way, takes 8 to 32 times as much. It is cleared by the list of nodes that were
// marked, or whole where that is less.
#include "index/graph/graph_internal.h"

#define DEADLINE_STEPS 64u // nodes expanded between two looks at the clock: about 0.1 ms

void rag_graph__walker_init(rag_graph__walker *w) {
  memset(w, 0, offsetof(rag_graph__walker, nodes));
  w->kernels = rag_codes_kernels_best();
}

void rag_graph__walker_free(rag_graph__walker *w) {
  rag_free(w->pool);
  rag_free(w->visited);
  rag_free(w->touched);
  rag_free(w->query_codes);
}

rag_status rag_graph__walker_reserve(rag_graph__walker *w, const rag_graph_codes *codes, uint32_t ef, rag_error *err) {
  uint32_t room = ef + RAG_GRAPH__BATCH; // a batch is merged before what is over the limit is dropped
  uint32_t words = codes->rows / 64 + 1, bytes = rag_codes_int8_bytes(codes->dimension);
  w->codes = codes;
  if (!w->touched) w->touched = rag_alloc(RAG_GRAPH__TOUCHED * sizeof *w->touched);
  if (!w->touched) return rag_fail_no_memory(err, RAG_GRAPH__TOUCHED * sizeof *w->touched);
  if (w->room < room) {
    rag_free(w->pool);
    w->room = 0;
    w->pool = rag_alloc((size_t)room * sizeof *w->pool);
    if (!w->pool) return rag_fail_no_memory(err, (size_t)room * sizeof *w->pool);
    w->room = room;
  }
  if (w->visited_room < words) {
    rag_free(w->visited);
    w->visited_room = w->visited_words = 0;
    w->visited = rag_calloc(words, sizeof *w->visited);
    if (!w->visited) return rag_fail_no_memory(err, (size_t)words * sizeof *w->visited);
    w->visited_room = words;
    w->touched_count = 0;
    w->touched_all = false;
  }
  // Marks of an earlier, larger graph may lie behind the words of this one.
  if (w->visited_words > words) {
    memset(w->visited, 0, (size_t)w->visited_words * sizeof *w->visited);
    w->touched_count = 0;
    w->touched_all = false;
  }
  w->visited_words = words;
  if (w->query_room < bytes) {
    rag_free(w->query_codes);
    w->query_room = 0;
    w->query_codes = rag_aligned_alloc(64, bytes);
    if (!w->query_codes) return rag_fail_no_memory(err, bytes);
    w->query_room = bytes;
  }
  return RAG_OK;
}

void rag_graph__walker_restart(rag_graph__walker *w, uint32_t limit) {
  // A line of cleared words costs about as much as clearing four bits where they lie.
  if (w->touched_all || w->touched_count >= w->visited_words / 4) {
    memset(w->visited, 0, (size_t)w->visited_words * sizeof *w->visited);
  } else {
    for (uint32_t i = 0; i < w->touched_count; i++) w->visited[w->touched[i] >> 6] = 0;
  }
  w->touched_count = 0;
  w->touched_all = false;
  w->count = 0;
  w->limit = limit;
  RAG_ASSERT(limit > 0 && limit + RAG_GRAPH__BATCH <= w->room);
}

void rag_graph__walker_ask(rag_graph__walker *w, const float *vector) {
  rag_codes_int8_query_init(vector, w->codes->dimension, w->query_codes, &w->query);
}

void rag_graph__walker_ask_row(rag_graph__walker *w, uint32_t row) {
  rag_codes_int8_query_of_row(w->codes->base + row * w->codes->stride, &w->codes->factors[row], w->codes->dimension,
                              w->query_codes, &w->query);
}

void rag_graph__score(rag_graph__walker *w, const rag_graph__layer *layer, uint32_t count) {
  const uint32_t *rows = w->nodes;
  if (layer->rows) {
    for (uint32_t i = 0; i < count; i++) w->rows[i] = layer->rows[w->nodes[i]];
    rows = w->rows;
  }
  const rag_graph_codes *codes = w->codes;
  w->kernels->int8_gather(&w->query, codes->base, codes->stride, rows, count, w->dots);
  rag_codes_int8_scores(&w->query, codes->metric, codes->factors, rows, w->dots, count, w->scores);
  w->scored += count;
}

void rag_graph__remember(rag_graph__walker *w, const uint32_t *nodes, uint32_t count) {
  if (w->touched_all || count > RAG_GRAPH__TOUCHED - w->touched_count) {
    w->touched_all = true;
    return;
  }
  memcpy(w->touched + w->touched_count, nodes, count * sizeof *nodes);
  w->touched_count += count;
}

// fresh[0..count), sorted best first, into the sorted pool: from the worst to the best, each part of the pool moved
// once. The place of the best one.
static uint32_t merge(rag_graph__walker *w, uint32_t count) {
  uint64_t *pool = w->pool;
  uint32_t end = w->count, at = 0;
  for (uint32_t i = count; i-- > 0;) {
    uint64_t key = w->fresh[i];
    uint32_t low = 0, high = end; // the first entry that is worse
    while (low < high) {
      uint32_t middle = (low + high) / 2;
      if (pool[middle] > key) low = middle + 1;
      else high = middle;
    }
    at = low;
    memmove(pool + at + i + 1, pool + at, (size_t)(end - at) * sizeof *pool);
    pool[at + i] = key;
    end = at;
  }
  w->count = RAG_MIN(w->count + count, w->limit);
  return at;
}

uint32_t rag_graph__take(rag_graph__walker *w, const rag_graph__layer *layer, uint32_t count) {
  if (count == 0) return UINT32_MAX;
  rag_graph__remember(w, w->nodes, count);
  rag_graph__score(w, layer, count);
  return rag_graph__absorb(w, count);
}

uint32_t rag_graph__absorb(rag_graph__walker *w, uint32_t count) {
  uint64_t floor = w->count == w->limit ? w->pool[w->count - 1] : 0;
  uint32_t fresh = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t key = rag_graph__key(w->scores[i], w->nodes[i]);
    if (key <= floor) continue;
    uint32_t at = fresh++;
    for (; at > 0 && w->fresh[at - 1] < key; at--) w->fresh[at] = w->fresh[at - 1];
    w->fresh[at] = key;
  }
  if (fresh == 0) return UINT32_MAX;
  return merge(w, fresh);
}

rag_status rag_graph__deadline(uint64_t deadline_ns, rag_error *err) {
  if (deadline_ns == 0 || rag_clock_monotonic_ns() < deadline_ns) return RAG_OK;
  return rag_fail(err, RAG_DEADLINE_EXCEEDED, "the search's time ran out");
}

rag_status rag_graph__walk(rag_graph__walker *w, const rag_graph__layer *layer, uint64_t deadline_ns, rag_error *err) {
  const rag_graph_codes *codes = w->codes;
  uint32_t at = 0, node, steps = 0;
  while (rag_graph__next(w, &at, &node)) {
    const uint32_t *links = layer->links + (size_t)node * layer->slots;
    uint32_t count = 0;
    for (uint32_t i = 0; i < layer->slots && links[i] != RAG_GRAPH_NONE; i++) {
      if (!rag_graph__visit(w, links[i])) continue;
      w->nodes[count++] = links[i];
      rag_graph__prefetch(codes, layer->rows ? layer->rows[links[i]] : links[i]);
    }
    // Most often the next best one now is the next one to be expanded.
    if (at + 1 < w->count) {
      const uint32_t *next = layer->links + (size_t)rag_graph__key_node(w->pool[at + 1]) * layer->slots;
      __builtin_prefetch(next);
      __builtin_prefetch(next + 16);
    }
    uint32_t best = rag_graph__take(w, layer, count);
    at = RAG_MIN(at, best);
    w->expanded++;
    if (++steps % DEADLINE_STEPS == 0) RAG_TRY(rag_graph__deadline(deadline_ns, err));
  }
  return RAG_OK;
}

uint32_t rag_graph__descend(rag_graph__walker *w, const rag_graph *graph, uint32_t to) {
  if (graph->meta.levels == 0) return graph->meta.entry;
  uint32_t best = 0;
  rag_graph__layer layer = rag_graph__layer_of(graph, graph->meta.levels);
  w->nodes[0] = 0;
  rag_graph__score(w, &layer, 1);
  uint64_t best_key = rag_graph__key(w->scores[0], 0);
  for (uint32_t level = graph->meta.levels; level > to; level--) {
    layer = rag_graph__layer_of(graph, level);
    for (bool better = true; better;) {
      const uint32_t *links = layer.links + (size_t)best * layer.slots;
      uint32_t count = 0;
      for (; count < layer.slots && links[count] != RAG_GRAPH_NONE; count++) w->nodes[count] = links[count];
      rag_graph__score(w, &layer, count);
      better = false;
      for (uint32_t i = 0; i < count; i++) {
        uint64_t key = rag_graph__key(w->scores[i], w->nodes[i]);
        if (key <= best_key) continue;
        best_key = key;
        best = w->nodes[i];
        better = true;
      }
    }
  }
  return to == 0 ? graph->upper_rows[best] : best;
}
