// Scans of many rows that are asked for at the same time: as many at once as there are cores, and who comes while all are
// busy waits, and scans together with whoever else is waiting for the same view. A scan reads as fast as memory gives, so
// rows read once for several queries are nearly free for all but the first; and nobody waits who could have begun.
//
// A waiting query is led by the thread that scans for it: its list and its error are written by that thread while its own
// sleeps, and the lock stands between.
#include "index/flat_scan.h"

#define SHARE_BYTES (UINT64_C(4) << 20) // of codes: a scan that is shorter (a fifth of a millisecond) shares nothing

typedef struct flat_waiter {
  flat_scan *scan;
  const flat_view *view; // pinned by its caller
  enum { WAITS, LEADS, DONE } state;
  pthread_cond_t changed;
  struct flat_waiter *next;
} flat_waiter;

// Under the lock: those that wait for the same view come along, in the order in which they came.
static uint32_t gather(flat_gate *gate, flat_waiter *leader, flat_waiter *party[FLAT_SCAN_QUERIES]) {
  uint32_t count = 0;
  party[count++] = leader;
  for (flat_waiter **at = &gate->waiting; *at && count < FLAT_SCAN_QUERIES;) {
    flat_waiter *w = *at;
    if (w->view != leader->view) {
      at = &w->next;
      continue;
    }
    *at = w->next;
    party[count++] = w;
  }
  return count;
}

static void wait_for_turn(flat_gate *gate, flat_waiter *self) {
  if (gate->scanning < gate->limit) {
    gate->scanning++;
    self->state = LEADS;
    return;
  }
  flat_waiter **end = &gate->waiting;
  while (*end) end = &(*end)->next;
  *end = self;
  while (self->state == WAITS) pthread_cond_wait(&self->changed, &gate->lock);
}

static void share(flat_gate *gate, flat_waiter *self) {
  flat_waiter *party[FLAT_SCAN_QUERIES];
  flat_scan *scans[FLAT_SCAN_QUERIES];
  pthread_mutex_lock(&gate->lock);
  wait_for_turn(gate, self);
  if (self->state == LEADS) {
    uint32_t count = gather(gate, self, party);
    pthread_mutex_unlock(&gate->lock);
    for (uint32_t i = 0; i < count; i++) scans[i] = party[i]->scan;
    rag_index__flat_scan(self->view, scans, count);
    pthread_mutex_lock(&gate->lock);
    for (uint32_t i = 1; i < count; i++) {
      party[i]->state = DONE;
      gate->led++;
      pthread_cond_signal(&party[i]->changed); // under the lock, as its memory goes with its thread's return
    }
    flat_waiter *next = gate->waiting;
    if (next) {
      gate->waiting = next->next;
      next->state = LEADS;
      pthread_cond_signal(&next->changed);
    } else {
      gate->scanning--;
    }
  }
  pthread_mutex_unlock(&gate->lock);
}

rag_status rag_index__flat_search(const rag_index_view *head, const rag_index_query *query, rag_index_topk *top,
                                  rag_index_plan *plan, rag_error *err) {
  const flat_view *view = (const flat_view *)head;
  flat_scan scan, *one = &scan;
  rag_index__flat_scan_init(&scan, head, query, top, err);
  bool long_enough = rag_bitmap_count(head->present) * head->shared->dimension >= SHARE_BYTES;
  if (scan.by_codes && long_enough) {
    flat_waiter self = {.scan = &scan, .view = view, .state = WAITS, .changed = PTHREAD_COND_INITIALIZER};
    share(&head->shared->gate, &self);
    pthread_cond_destroy(&self.changed);
  } else {
    rag_index__flat_scan(view, &one, 1);
  }
  RAG_TRY(scan.status);
  plan->segments += scan.shards;
  plan->candidates = scan.scored;
  plan->rescored = scan.rescored;
  return RAG_OK;
}
