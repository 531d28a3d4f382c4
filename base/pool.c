// A pool of threads over one bounded queue.
//
// Invariants (with the lock held)
//  1. queued <= queue_max; the tasks are at queue[head], queue[head + 1], ... modulo queue_max, oldest first.
//  2. A task is queued or counted in `running`, never both and never neither, until it has returned.
//  3. Once `stopping` is set nothing is queued any more; workers leave when the queue is empty.
//
// Threads and locks: `lock` guards every field that changes after creation. Tasks run without it. Workers block all
// signals: those are for the thread that the program chose.
//
// Left to others: priorities, deadlines, results. A task that must not run any more finds out by itself.
#include "base/base.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#define POOL_THREADS_MAX 1024u
#define POOL_QUEUE_MAX (1u << 20)
#define POOL_NAME_MAX 16 // the kernel's limit for a thread's name, with its NUL

typedef struct pool_task {
  rag_task_fn fn;
  void *arg;
} pool_task;

struct rag_pool {
  pthread_mutex_t lock;
  pthread_cond_t work; // queued > 0 or stopping
  pthread_cond_t idle; // queued == 0 and running == 0
  pool_task *queue;    // a ring; guarded by: lock
  unsigned queue_max;  // immutable
  unsigned head;       // guarded by: lock
  unsigned queued;     // guarded by: lock
  unsigned running;    // guarded by: lock
  bool stopping;       // guarded by: lock
  char name[POOL_NAME_MAX];
  unsigned threads; // immutable after creation
  pthread_t thread[];
};

// The pool whose worker this thread is: waiting for one's own pool would wait for ever, so it is asserted.
static _Thread_local const rag_pool *pool_of_this_thread;

// The oldest task; waits for one. False when the pool stops and nothing is left. Called and returns with the lock held.
static bool next_task(rag_pool *pool, pool_task *out) {
  while (pool->queued == 0 && !pool->stopping) pthread_cond_wait(&pool->work, &pool->lock);
  if (pool->queued == 0) return false;
  *out = pool->queue[pool->head];
  pool->head = (pool->head + 1) % pool->queue_max;
  pool->queued--;
  pool->running++;
  return true;
}

static void *work(void *arg) {
  rag_pool *pool = arg;
  pool_task task;
  pool_of_this_thread = pool;
  pthread_setname_np(pthread_self(), pool->name); // for tools; a failure hurts nobody
  pthread_mutex_lock(&pool->lock);
  while (next_task(pool, &task)) {
    pthread_mutex_unlock(&pool->lock);
    task.fn(task.arg);
    pthread_mutex_lock(&pool->lock);
    pool->running--;
    if (pool->running == 0 && pool->queued == 0) pthread_cond_broadcast(&pool->idle);
  }
  pthread_mutex_unlock(&pool->lock);
  return NULL;
}

static int start_threads(rag_pool *pool, unsigned threads) {
  sigset_t all, before;
  int failed = 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); // a thread inherits the mask that it starts with
  for (; pool->threads < threads && failed == 0; pool->threads += failed == 0)
    failed = pthread_create(&pool->thread[pool->threads], NULL, work, pool);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed;
}

rag_status rag_pool_create(const char *name, unsigned threads, unsigned queue_max, rag_pool **out, rag_error *err) {
  if (threads == 0 || threads > POOL_THREADS_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "pool %s: %u threads: want 1 to %u", name, threads, POOL_THREADS_MAX);
  if (queue_max == 0 || queue_max > POOL_QUEUE_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "pool %s: a queue of %u: want 1 to %u", name, queue_max, POOL_QUEUE_MAX);
  size_t size = sizeof(rag_pool) + threads * sizeof(pthread_t);
  rag_pool *pool = rag_calloc(1, size);
  if (!pool) return rag_fail_no_memory(err, size);
  pool->queue = rag_calloc(queue_max, sizeof(pool_task));
  if (!pool->queue) {
    rag_free(pool);
    return rag_fail_no_memory(err, queue_max * sizeof(pool_task));
  }
  pool->queue_max = queue_max;
  snprintf(pool->name, sizeof(pool->name), "%s", name);
  pthread_mutex_init(&pool->lock, NULL); // these cannot fail with default attributes on Linux
  pthread_cond_init(&pool->work, NULL);
  pthread_cond_init(&pool->idle, NULL);
  int failed = start_threads(pool, threads);
  if (failed) {
    rag_pool_destroy(pool); // joins those that did start
    return rag_os_fail(err, "pthread_create", name, failed);
  }
  *out = pool;
  return RAG_OK;
}

rag_status rag_pool_submit(rag_pool *pool, rag_task_fn fn, void *arg) {
  rag_status status = RAG_OK;
  pthread_mutex_lock(&pool->lock);
  if (pool->stopping) {
    status = RAG_UNAVAILABLE;
  } else if (pool->queued == pool->queue_max) {
    status = RAG_RESOURCE_EXHAUSTED;
  } else {
    pool->queue[(pool->head + pool->queued) % pool->queue_max] = (pool_task){fn, arg};
    pool->queued++;
    pthread_cond_signal(&pool->work);
  }
  pthread_mutex_unlock(&pool->lock);
  return status;
}

unsigned rag_pool_queued(rag_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  unsigned queued = pool->queued;
  pthread_mutex_unlock(&pool->lock);
  return queued;
}

void rag_pool_drain(rag_pool *pool) {
  RAG_ASSERT(pool_of_this_thread != pool);
  pthread_mutex_lock(&pool->lock);
  while (pool->queued > 0 || pool->running > 0) pthread_cond_wait(&pool->idle, &pool->lock);
  pthread_mutex_unlock(&pool->lock);
}

void rag_pool_destroy(rag_pool *pool) {
  if (!pool) return;
  RAG_ASSERT(pool_of_this_thread != pool);
  pthread_mutex_lock(&pool->lock);
  pool->stopping = true;
  pthread_cond_broadcast(&pool->work);
  pthread_mutex_unlock(&pool->lock);
  for (unsigned i = 0; i < pool->threads; i++) pthread_join(pool->thread[i], NULL);
  pthread_cond_destroy(&pool->idle);
  pthread_cond_destroy(&pool->work);
  pthread_mutex_destroy(&pool->lock);
  rag_free(pool->queue);
  rag_free(pool);
}
