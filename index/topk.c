// The best k hits of a scan: a bounded binary heap in the caller's memory (see index_internal.h for the order).
//
// A heap and not a sorted list or a two-pass select: a scan of n rows in random order inserts about k (1 + ln(n / k))
// times, each for log2(k) steps, which at the largest k (10,000 of 200,000 rows) is a small part of the scan itself,
// and it needs no memory beyond the result.
#include "index/index_internal.h"

static inline bool worse(rag_index_hit a, rag_index_hit b) {
  return a.score < b.score || (a.score == b.score && a.ordinal > b.ordinal);
}

void rag_index__topk_init(rag_index_topk *top, rag_index_hit *hits, uint32_t capacity, float floor) {
  *top = (rag_index_topk){.hits = hits, .capacity = capacity, .floor = floor};
}

// Puts `hit` at the top of a heap of `count` and lets it sink below what is worse.
static void sink(rag_index_hit *hits, uint32_t count, rag_index_hit hit) {
  uint32_t at = 0;
  for (;;) {
    uint32_t child = 2 * at + 1;
    if (child >= count) break;
    if (child + 1 < count && worse(hits[child + 1], hits[child])) child++;
    if (!worse(hits[child], hit)) break;
    hits[at] = hits[child];
    at = child;
  }
  hits[at] = hit;
}

void rag_index__topk_insert(rag_index_topk *top, uint32_t ordinal, float score) {
  rag_index_hit hit = {ordinal, score};
  rag_index_hit *hits = top->hits;
  if (top->count < top->capacity) {
    uint32_t at = top->count++;
    while (at > 0 && worse(hit, hits[(at - 1) / 2])) {
      hits[at] = hits[(at - 1) / 2];
      at = (at - 1) / 2;
    }
    hits[at] = hit;
    if (top->count == top->capacity) top->floor = hits[0].score;
    return;
  }
  if (!worse(hits[0], hit)) return; // an equal score, but a higher ordinal
  sink(hits, top->count, hit);
  top->floor = hits[0].score;
}

void rag_index__topk_finish(rag_index_topk *top) {
  // Heap sort: the worst goes to the end, again and again.
  for (uint32_t left = top->count; left > 1; left--) {
    rag_index_hit worst = top->hits[0];
    sink(top->hits, left - 1, top->hits[left - 1]);
    top->hits[left - 1] = worst;
  }
}
