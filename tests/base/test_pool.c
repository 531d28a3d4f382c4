// Goal: every accepted task runs once, a full queue sheds at once, drain and destroy wait for what they promise.
// Method: tasks that hold a gate make the pool's state exact; many submitters against a counter.
#include "base/base.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>

#include <cmocka.h>

typedef struct gate {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned waiting; // tasks that have reached the gate
  unsigned passed;
  bool open;
} gate;

#define GATE_INIT                                                                                                      \
  { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER }

static void pass_gate(void *arg) {
  gate *g = arg;
  pthread_mutex_lock(&g->lock);
  g->waiting++;
  pthread_cond_broadcast(&g->changed);
  while (!g->open) pthread_cond_wait(&g->changed, &g->lock);
  g->passed++;
  pthread_mutex_unlock(&g->lock);
}

static void wait_for_arrivals(gate *g, unsigned count) {
  pthread_mutex_lock(&g->lock);
  while (g->waiting < count) pthread_cond_wait(&g->changed, &g->lock);
  pthread_mutex_unlock(&g->lock);
}

static void open_gate(gate *g) {
  pthread_mutex_lock(&g->lock);
  g->open = true;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
}

static void a_full_queue_sheds(void **state) {
  RAG_UNUSED(state);
  gate g = GATE_INIT;
  rag_pool *pool;
  assert_int_equal(rag_pool_create("test", 2, 3, &pool, NULL), RAG_OK);
  for (int i = 0; i < 2; i++) assert_int_equal(rag_pool_submit(pool, pass_gate, &g), RAG_OK);
  wait_for_arrivals(&g, 2); // both threads are busy
  for (unsigned i = 0; i < 3; i++) {
    assert_int_equal(rag_pool_queued(pool), i);
    assert_int_equal(rag_pool_submit(pool, pass_gate, &g), RAG_OK);
  }
  assert_int_equal(rag_pool_submit(pool, pass_gate, &g), RAG_RESOURCE_EXHAUSTED); // one past the limit
  assert_int_equal(rag_pool_queued(pool), 3);
  open_gate(&g);
  rag_pool_drain(pool);
  assert_int_equal(g.passed, 5); // no lock: drain came after
  assert_int_equal(rag_pool_queued(pool), 0);
  assert_int_equal(rag_pool_submit(pool, pass_gate, &g), RAG_OK); // goes on after a drain
  rag_pool_destroy(pool);
  assert_int_equal(g.passed, 6); // destroy runs what is queued
}

typedef struct order {
  unsigned *seen;
  unsigned *count;
  unsigned id;
} order;

static void note_order(void *arg) {
  order *o = arg;
  o->seen[(*o->count)++] = o->id;
}

static void one_thread_runs_in_order(void **state) {
  RAG_UNUSED(state);
  enum { TASKS = 100 };
  unsigned seen[TASKS], count = 0;
  order orders[TASKS];
  rag_pool *pool;
  assert_int_equal(rag_pool_create("a-name-that-is-too-long-for-a-thread", 1, 7, &pool, NULL), RAG_OK);
  for (unsigned i = 0; i < TASKS;) { // the ring goes round many times
    orders[i] = (order){seen, &count, i};
    if (rag_pool_submit(pool, note_order, &orders[i]) == RAG_OK) i++;
    else rag_pool_drain(pool);
  }
  rag_pool_destroy(pool);
  assert_int_equal(count, TASKS);
  for (unsigned i = 0; i < TASKS; i++) assert_int_equal(seen[i], i);
}

typedef struct load {
  rag_pool *pool;
  _Atomic uint64_t accepted, ran;
} load;

static void count_run(void *arg) {
  atomic_fetch_add(&((load *)arg)->ran, 1);
}

static void *submit_many(void *arg) {
  load *l = arg;
  for (int i = 0; i < 5000; i++)
    if (rag_pool_submit(l->pool, count_run, l) == RAG_OK) atomic_fetch_add(&l->accepted, 1);
  return NULL;
}

static void every_accepted_task_runs_once(void **state) {
  RAG_UNUSED(state);
  for (unsigned threads = 1; threads <= 4; threads++) {
    load l = {0};
    pthread_t submitters[3];
    assert_int_equal(rag_pool_create("test", threads, 16, &l.pool, NULL), RAG_OK);
    for (size_t i = 0; i < RAG_COUNT_OF(submitters); i++)
      assert_int_equal(pthread_create(&submitters[i], NULL, submit_many, &l), 0);
    for (size_t i = 0; i < RAG_COUNT_OF(submitters); i++) pthread_join(submitters[i], NULL);
    rag_pool_destroy(l.pool);
    assert_true(atomic_load(&l.accepted) > 0);
    assert_int_equal(atomic_load(&l.accepted), atomic_load(&l.ran));
  }
}

typedef struct chain {
  rag_pool *pool;
  _Atomic unsigned ran;
  _Atomic int refused;
} chain;

static void submit_next(void *arg) {
  chain *c = arg;
  if (atomic_fetch_add(&c->ran, 1) < 9) {
    rag_status status = rag_pool_submit(c->pool, submit_next, c);
    if (status != RAG_OK) atomic_store(&c->refused, (int)status);
  }
}

static void drain_waits_for_tasks_of_tasks(void **state) {
  RAG_UNUSED(state);
  chain c = {0};
  assert_int_equal(rag_pool_create("test", 2, 4, &c.pool, NULL), RAG_OK);
  assert_int_equal(rag_pool_submit(c.pool, submit_next, &c), RAG_OK);
  rag_pool_drain(c.pool);
  assert_int_equal(atomic_load(&c.ran), 10);
  assert_int_equal(atomic_load(&c.refused), 0);
  rag_pool_destroy(c.pool);
}

typedef struct late {
  gate gate;
  rag_pool *pool;
  _Atomic int status; // of the last submit
} late;

static void no_task(void *arg) {
  RAG_UNUSED(arg);
}

// Submits until the pool stops: ends only because a stopping pool refuses.
static void submit_until_refused(void *arg) {
  late *l = arg;
  pass_gate(&l->gate);
  rag_status status;
  do status = rag_pool_submit(l->pool, no_task, NULL);
  while (status == RAG_OK || status == RAG_RESOURCE_EXHAUSTED);
  atomic_store(&l->status, (int)status);
}

static void a_stopping_pool_takes_nothing(void **state) {
  RAG_UNUSED(state);
  late l = {.gate = GATE_INIT};
  assert_int_equal(rag_pool_create("test", 1, 2, &l.pool, NULL), RAG_OK);
  assert_int_equal(rag_pool_submit(l.pool, submit_until_refused, &l), RAG_OK);
  wait_for_arrivals(&l.gate, 1);
  open_gate(&l.gate);
  rag_pool_destroy(l.pool);
  assert_int_equal(atomic_load(&l.status), RAG_UNAVAILABLE);
}

static void read_mask(void *arg) {
  pthread_sigmask(SIG_BLOCK, NULL, arg);
}

static void workers_block_signals(void **state) {
  RAG_UNUSED(state);
  sigset_t inside, here;
  rag_pool *pool;
  assert_int_equal(rag_pool_create("test", 1, 1, &pool, NULL), RAG_OK);
  sigemptyset(&inside);
  assert_int_equal(rag_pool_submit(pool, read_mask, &inside), RAG_OK);
  rag_pool_destroy(pool);
  assert_int_equal(sigismember(&inside, SIGTERM), 1);
  pthread_sigmask(SIG_BLOCK, NULL, &here);
  assert_int_equal(sigismember(&here, SIGTERM), 0); // the creator's own mask is as it was
}

static void bad_sizes_and_no_memory(void **state) {
  RAG_UNUSED(state);
  rag_pool *pool = NULL;
  rag_error err;
  assert_int_equal(rag_pool_create("x", 0, 1, &pool, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_pool_create("x", 1025, 1, &pool, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_pool_create("x", 1, 0, &pool, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_pool_create("x", 1, (1 << 20) + 1, &pool, &err), RAG_INVALID_ARGUMENT);
  for (uint64_t n = 1; n <= 2; n++) {
    rag_alloc_fail_after(n);
    assert_int_equal(rag_pool_create("x", 1, 1, &pool, &err), RAG_RESOURCE_EXHAUSTED);
    assert_true(rag_alloc_has_failed());
  }
  rag_alloc_fail_after(0);
  assert_null(pool);
  rag_pool_destroy(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_full_queue_sheds),
      cmocka_unit_test(one_thread_runs_in_order),
      cmocka_unit_test(every_accepted_task_runs_once),
      cmocka_unit_test(drain_waits_for_tasks_of_tasks),
      cmocka_unit_test(a_stopping_pool_takes_nothing),
      cmocka_unit_test(workers_block_signals),
      cmocka_unit_test(bad_sizes_and_no_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
