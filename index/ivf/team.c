// Threads that share out a range of rows: the caller's and those of a pool.
#include "index/ivf/ivf_internal.h"

typedef struct member {
  rag_ivf__team *team;
  uint32_t number;
} member;

struct rag_ivf__team {
  rag_pool *pool; // NULL: one thread
  uint32_t threads;
  rag_ivf__work work; // of this run, as are the next four
  void *context;
  uint32_t begin, end, claim;
  _Atomic uint32_t claimed; // atomic, relaxed: only the numbers matter, the pool's lock orders the data
  member members[];
};

rag_status rag_ivf__team_create(uint32_t threads, rag_ivf__team **out, rag_error *err) {
  threads = RAG_MAX(threads, 1u);
  if (threads > RAG_IVF_THREADS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u threads; there can be %u at most", threads, RAG_IVF_THREADS_MAX);
  }
  size_t size = sizeof(rag_ivf__team) + threads * sizeof(member);
  rag_ivf__team *team = rag_calloc(1, size);
  if (!team) return rag_fail_no_memory(err, size);
  team->threads = threads;
  for (uint32_t t = 0; t < threads; t++) team->members[t] = (member){team, t};
  rag_status status = threads > 1 ? rag_pool_create("ivf", threads - 1, threads, &team->pool, err) : RAG_OK;
  if (status != RAG_OK) {
    rag_free(team);
    return status;
  }
  *out = team;
  return RAG_OK;
}

void rag_ivf__team_destroy(rag_ivf__team *team) {
  if (!team) return;
  rag_pool_destroy(team->pool);
  rag_free(team);
}

uint32_t rag_ivf__team_threads(const rag_ivf__team *team) {
  return team->threads;
}

static void take_part(void *arg) {
  const member *m = arg;
  rag_ivf__team *team = m->team;
  uint32_t length = team->end - team->begin;
  for (;;) {
    // Claims pass the end by at most threads * claim: far from wrapping, as ranges are below 2^31.
    uint32_t at = atomic_fetch_add_explicit(&team->claimed, team->claim, memory_order_relaxed);
    if (at >= length) return;
    uint32_t begin = team->begin + at;
    team->work(team->context, m->number, begin, begin + RAG_MIN(team->claim, length - at));
  }
}

rag_status rag_ivf__team_run(rag_ivf__team *team, rag_ivf__work work, void *context, uint32_t begin, uint32_t end,
                             uint32_t claim, rag_error *err) {
  team->work = work;
  team->context = context;
  team->begin = begin;
  team->end = end;
  team->claim = claim;
  atomic_store_explicit(&team->claimed, 0, memory_order_relaxed);
  rag_status status = RAG_OK;
  for (uint32_t t = 1; t < team->threads && status == RAG_OK; t++) {
    status = rag_pool_submit(team->pool, take_part, &team->members[t]);
  }
  if (status == RAG_OK) take_part(&team->members[0]);
  if (team->pool) rag_pool_drain(team->pool);
  return status == RAG_OK ? RAG_OK : rag_fail(err, status, "a thread of the build could not go on");
}
