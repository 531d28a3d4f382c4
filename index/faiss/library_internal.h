// What the files of index/faiss share. Includes FAISS's headers: nothing outside the folder includes this.
#ifndef RAGD_INDEX_FAISS_LIBRARY_INTERNAL_H
#define RAGD_INDEX_FAISS_LIBRARY_INTERNAL_H

#include "index/faiss/faiss_internal.h"

#include <faiss/c_api/Index_c.h>
#include <pthread.h>

struct rag_faiss {
  rag_faiss_meta meta; // immutable after build or open, as are the next two
  bool can_tell;       // FAISS takes the knob's value with a search
  bool can_select;     // and a filter
  FaissIndex *index;   // immutable; but for its knob where can_tell is false
  pthread_rwlock_t knob_lock;
  uint32_t knob_is; // guarded by: knob_lock
};

// ---------------------------------------------------------------------------------------------- factory.c

rag_status rag_faiss__make(const char *factory, uint32_t dimension, rag_metric metric, FaissIndex **out,
                           rag_error *err);
uint32_t rag_faiss__lists(const char *factory); // 0: not of lists

// ---------------------------------------------------------------------------------------------- library.c

// RAG_INVALID_ARGUMENT with FAISS's reason, or RAG_RESOURCE_EXHAUSTED.
rag_status rag_faiss__create(const char *factory, uint32_t dimension, bool l2, FaissIndex **out, rag_error *err);
// The status and text of FAISS's last error in this thread; `status` where it is not that memory ran out.
rag_status rag_faiss__fail(rag_error *err, rag_status status, const char *what);
rag_faiss_knob rag_faiss__find_knob(FaissIndex *index);

// How many threads FAISS's loops take in this thread, for a while.
typedef struct rag_faiss__threads {
  int before;
} rag_faiss__threads;
rag_faiss__threads rag_faiss__threads_one(void);
void rag_faiss__threads_restore(rag_faiss__threads threads);
// The same for a build, which is the only one of the process until it ends.
rag_faiss__threads rag_faiss__build_begin(uint32_t threads);
void rag_faiss__build_end(rag_faiss__threads threads);

// An engine around an index: meta.knob and what follows from it. Takes the index over, also on error.
rag_status rag_faiss__engine_create(FaissIndex *index, const rag_faiss_meta *meta, rag_faiss **out, rag_error *err);
// Asks FAISS for `take` candidates, best first. selector: the filter over FAISS's own numbers, where can_select; else
// NULL. Labels below 0: there are no more.
rag_status rag_faiss__ask(const rag_faiss *engine, const float *vector, uint32_t value, uint32_t take,
                          const uint64_t *selector, float *distances, faiss_idx_t *labels, rag_error *err);
// Finds out what FAISS can be told; the index has rows.
void rag_faiss__probe(rag_faiss *engine);
rag_status rag_faiss__load(rag_slice bytes, FaissIndex **out, rag_error *err);

// ---------------------------------------------------------------------------------------------- the rest

// FAISS's number of a row, and the row of a FAISS number: the same map.
static inline uint32_t rag_faiss__row(const rag_faiss_meta *meta, uint32_t id) {
  uint32_t tail = meta->rows - meta->held_count;
  if (id >= tail) return meta->held[id - tail];
  uint32_t low = 0, high = meta->held_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (meta->held[middle] < id) low = middle + 1;
    else high = middle;
  }
  return low < meta->held_count && meta->held[low] == id ? tail + low : id;
}

rag_status rag_faiss__deadline(uint64_t deadline_ns, rag_error *err);

// calibrate.c: fills the rungs of engine->meta. The engine's index has the rows but the held ones; `vectors` has these.
rag_status rag_faiss__calibrate(rag_faiss *engine, const float *vectors, const rag_index_row_fetch *fetch,
                                const rag_faiss_options *options, rag_error *err);

#endif
