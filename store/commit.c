// Group commit. One write-ahead-log sync costs far more than a write, so writers that arrive while one is running share
// the next.
//
// A request waits in a queue, on its caller's stack. The caller that finds no leader becomes it. The leader
//   1. waits briefly for company, if there is reason to expect any (below),
//   2. takes requests from the head of the queue one by one and applies each to one shared batch, under a save point;
//      requests that arrive meanwhile still get in; a request that fails is rolled back and leaves the group alone,
//   3. writes and syncs the batch once, with no lock held,
//   4. publishes in the order of apply,
//   5. makes the next waiting request the leader, and only then answers its own group.
//
// Invariants
//  1. At most one thread is between 2 and 4, so no two apply, publish or abandon run at the same time, and the order of
//     publish is the order of apply.
//  2. Nothing is published or answered before its batch is durable. (options.mutant_acknowledge_early breaks exactly
//     this, so that the fault harness can show that it would notice.)
//  3. After a failed write the store is in ERROR for good: nothing is applied any more, what waits is refused with the
//     reason. The failed group's requests are abandoned and refused, but their fate is open until the store is opened
//     again: the record may have reached the disk before its sync failed.
//
// Company. With n writers that commit in a loop, a leader that starts at once finds the few that happened to be in the
// queue while the ones just answered are still on their way back, and groups settle at half of n. So the leader waits
// until as many are queued as took part around the last group (its size and what waited behind it), but never longer
// than a quarter of what a write has been taking lately, nor GATHER_NS_MAX. One writer alone never waits: the
// expectation is one, itself. It waits by yielding the processor to those on their way: sleeping until the last of them
// wakes it was not measurably faster or slower (benchmarks/commit_latency), and took two more shared fields.
//
// Threads and locks: queue fields are guarded by `lock`, held for a few instructions and never over a callback or a
// call to RocksDB. A waiter sleeps on its own futex word, so that an answer wakes one thread and needs no lock.
// `batch`, `write_ns` and `expected` belong to the leader; leadership passes through `lock` and the futex word.
#include "store/store_internal.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define GATHER_NS_MAX 400000u    // bounds what one slow write can do to the latency of the next ones
#define GATHER_WRITE_FRACTION 4u // of the usual time of a write
#define WRITE_NS_SMOOTHING 8     // the usual time moves by 1/8 of a new sample
#define MUTANT_DELAY_MS 5        // between answer and write: what a kill in that time loses

// WAITING -> SLEEPING by the waiter itself; either -> LEADS or -> DONE by the leader that passes by.
enum { WAITING = 0, SLEEPING = 1, LEADS = 2, DONE = 3 };

typedef struct waiter {
  _Atomic uint32_t state; // the futex word; release on LEADS and DONE publishes the fields below
  const rag_commit_request *request;
  rag_error *err;
  rag_status status;
  bool applied;
  struct waiter *next;
} waiter;

struct rag_txn {
  rag_store *store;
  rag_store__batch *batch;
  size_t start_bytes; // of the batch when this request began
  rag_status status;  // sticks
  rag_error error;
};

// The mutant's thread: writes the batch some time after everybody was answered.
typedef struct mutant {
  bool on;
  bool stop, pending; // guarded by: lock
  pthread_mutex_t lock;
  pthread_cond_t changed;
  pthread_t thread;
} mutant;

struct rag_store__commits {
  pthread_mutex_t lock;
  waiter *head, **tail;    // guarded by: lock
  _Atomic uint32_t queued; // changed under lock; relaxed: a gathering leader polls it as a hint
  bool has_leader;         // guarded by: lock
  pthread_cond_t idle;     // with lock: no leader any more
  rag_store__batch *batch; // the leader's
  uint64_t write_ns;       // the leader's: usual time of a write
  uint32_t expected;       // the leader's: company to wait for
  mutant mutant;
};

// ---------------------------------------------------------------------------------------------- the ERROR state

void rag_store__set_error(rag_store *store, const char *why) {
  bool first = false;
  pthread_mutex_lock(&store->error_lock);
  if (!atomic_load_explicit(&store->failed, memory_order_relaxed)) {
    size_t size = rag_utf8_floor(why, strlen(why), RAG_MIN(strlen(why), sizeof store->error_text - 1));
    memcpy(store->error_text, why, size);
    store->error_text[size] = '\0';
    atomic_store_explicit(&store->failed, true, memory_order_release);
    first = true;
  }
  pthread_mutex_unlock(&store->error_lock);
  if (first) rag_log(RAG_LOG_ERROR, "store.error", "dir=%s why=%s", store->dir, why);
}

void rag_store_set_error_for_test(rag_store *store, const char *why) {
  rag_store__set_error(store, why);
}

rag_status rag_store_writable(rag_store *store, rag_error *err) {
  if (!atomic_load_explicit(&store->failed, memory_order_acquire)) return RAG_OK;
  return rag_fail(err, RAG_UNAVAILABLE,
                  "the store takes no writes after an error, reads go on; restart to recover. The error: %s",
                  store->error_text);
}

// ---------------------------------------------------------------------------------------------- futex

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
  // Every return, also a spurious one, makes the caller look at the word again.
  (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word) {
  (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static uint32_t wait_for_turn(waiter *self) {
  for (;;) {
    uint32_t state = atomic_load_explicit(&self->state, memory_order_acquire);
    if (state >= LEADS) return state;
    if (state == WAITING && !atomic_compare_exchange_strong_explicit(&self->state, &state, SLEEPING,
                                                                     memory_order_acq_rel, memory_order_acquire))
      continue;
    futex_wait(&self->state, SLEEPING);
  }
}

// After DONE the waiter's stack frame may be gone: the wake-up names the address only, and a stray one is harmless.
static void wake_waiter(waiter *w, uint32_t state) {
  if (atomic_exchange_explicit(&w->state, state, memory_order_acq_rel) == SLEEPING) futex_wake(&w->state);
}

// ---------------------------------------------------------------------------------------------- the transaction

rag_store *rag_txn_store(rag_txn *txn) {
  return txn->store;
}

rag_status rag_txn_check(const rag_txn *txn, rag_error *err) {
  if (txn->status != RAG_OK && err != NULL) *err = txn->error;
  return txn->status;
}

void rag_store__txn_fail(rag_txn *txn, rag_status status, const rag_error *error) {
  if (txn->status != RAG_OK) return;
  txn->status = status;
  txn->error = *error;
}

static bool txn_room(rag_txn *txn, rag_slice key, size_t value_size) {
  RAG_ASSERT(key.size <= RAG_STORE_KEY_MAX);
  if (txn->status != RAG_OK) return false;
  size_t used = rag_store__batch_bytes(txn->batch) - txn->start_bytes;
  if (value_size <= RAG_STORE__REQUEST_BYTES_MAX && used <= RAG_STORE__REQUEST_BYTES_MAX - value_size) return true;
  txn->status = rag_fail(&txn->error, RAG_RESOURCE_EXHAUSTED,
                         "one commit may write at most %zu bytes; split it into several", RAG_STORE__REQUEST_BYTES_MAX);
  return false;
}

void rag_txn_put(rag_txn *txn, rag_cf cf, rag_slice key, rag_slice value) {
  if (txn_room(txn, key, value.size)) rag_store__batch_put(txn->batch, cf, key, value);
}

void rag_txn_delete(rag_txn *txn, rag_cf cf, rag_slice key) {
  if (txn_room(txn, key, 0)) rag_store__batch_delete(txn->batch, cf, key);
}

rag_status rag_txn_get(rag_txn *txn, rag_cf cf, rag_slice key, rag_value *out, rag_error *err) {
  return rag_store__batch_get(txn->batch, cf, key, out, err);
}

rag_status rag_txn_iter_open(rag_txn *txn, rag_cf cf, rag_slice lower, rag_slice upper, rag_store_iter **out,
                             rag_error *err) {
  return rag_store__batch_iter(txn->batch, cf, lower, upper, out, err);
}

// ---------------------------------------------------------------------------------------------- the leader

static void gather(rag_store__commits *commits) {
  uint64_t limit_ns = RAG_MIN(commits->write_ns / GATHER_WRITE_FRACTION, (uint64_t)GATHER_NS_MAX);
  if (commits->expected <= 1 || limit_ns == 0) return;
  uint64_t end_ns = rag_clock_monotonic_ns() + limit_ns;
  while (atomic_load_explicit(&commits->queued, memory_order_relaxed) < commits->expected &&
         rag_clock_monotonic_ns() < end_ns)
    sched_yield();
}

static waiter *take_next(rag_store__commits *commits) {
  pthread_mutex_lock(&commits->lock);
  waiter *w = commits->head;
  if (w != NULL) {
    commits->head = w->next;
    if (commits->head == NULL) commits->tail = &commits->head;
    atomic_fetch_sub_explicit(&commits->queued, 1, memory_order_relaxed);
    w->next = NULL;
  }
  pthread_mutex_unlock(&commits->lock);
  return w;
}

static void apply_one(rag_store *store, waiter *w) {
  rag_store__batch *batch = store->commits->batch;
  rag_txn txn = {.store = store, .batch = batch, .start_bytes = rag_store__batch_bytes(batch)};
  w->status = rag_store_writable(store, w->err);
  if (w->status != RAG_OK) return;
  rag_store__batch_mark(batch);
  w->status = w->request->apply(w->request->ctx, &txn, w->err);
  if (w->status == RAG_OK && txn.status != RAG_OK) {
    w->status = txn.status;
    if (w->err != NULL) *w->err = txn.error;
  }
  w->applied = w->status == RAG_OK;
  if (!w->applied) rag_store__batch_rollback(batch);
}

// Applies waiting requests, the leader's own first, and returns them as a list in that order.
static waiter *apply_group(rag_store *store, uint32_t *out_count) {
  waiter *first = NULL, **tail = &first;
  uint32_t count = 0;
  while (count < RAG_STORE_GROUP_REQUESTS_MAX &&
         rag_store__batch_bytes(store->commits->batch) < RAG_STORE_GROUP_BYTES_MAX) {
    waiter *w = take_next(store->commits);
    if (w == NULL) break;
    apply_one(store, w);
    *tail = w;
    tail = &w->next;
    count++;
  }
  *out_count = count;
  return first;
}

static rag_status write_batch(rag_store *store, rag_error *err) {
  rag_store__commits *commits = store->commits;
  size_t bytes = rag_store__batch_bytes(commits->batch);
  uint64_t start_ns = rag_clock_monotonic_ns();
  rag_status status = rag_store__batch_write(commits->batch, err);
  if (status != RAG_OK) {
    rag_store__set_error(store, err->message);
    return rag_store_writable(store, err);
  }
  uint64_t took_ns = rag_clock_monotonic_ns() - start_ns;
  commits->write_ns = commits->write_ns == 0
                          ? took_ns
                          : commits->write_ns - commits->write_ns / WRITE_NS_SMOOTHING + took_ns / WRITE_NS_SMOOTHING;
  atomic_fetch_add_explicit(&store->group_count, 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&store->bytes_written, bytes, memory_order_relaxed);
  if (store->options.sync) atomic_fetch_add_explicit(&store->sync_count, 1, memory_order_relaxed);
  return RAG_OK;
}

static void publish_group(rag_store *store, waiter *first) {
  for (waiter *w = first; w != NULL; w = w->next) {
    if (!w->applied) continue;
    atomic_fetch_add_explicit(&store->commit_count, 1, memory_order_relaxed);
    if (w->request->publish != NULL) w->request->publish(w->request->ctx);
  }
}

static void abandon_group(waiter *first, rag_status status, const rag_error *error) {
  for (waiter *w = first; w != NULL; w = w->next) {
    if (!w->applied) continue;
    if (w->request->abandon != NULL) w->request->abandon(w->request->ctx);
    w->status = status;
    if (w->err != NULL) *w->err = *error;
  }
}

static void hand_over(rag_store__commits *commits, uint32_t count) {
  pthread_mutex_lock(&commits->lock);
  waiter *next = commits->head;
  commits->expected =
      RAG_MIN(count + atomic_load_explicit(&commits->queued, memory_order_relaxed), RAG_STORE_GROUP_REQUESTS_MAX);
  if (next == NULL) {
    commits->has_leader = false;
    pthread_cond_broadcast(&commits->idle);
  }
  pthread_mutex_unlock(&commits->lock);
  // Safe without the lock: a queued waiter stays until somebody answers it, and only a leader does.
  if (next != NULL) wake_waiter(next, LEADS);
}

static void answer_group(waiter *first) {
  while (first != NULL) {
    waiter *w = first;
    first = w->next; // before DONE: the frame is its owner's afterwards
    wake_waiter(w, DONE);
  }
}

// ---- the mutant: the leader leaves the batch to this thread, and the next leader waits until it is written, so that
// everything but durability stays as it is.

static void *mutant_main(void *arg) {
  rag_store *store = arg;
  mutant *m = &store->commits->mutant;
  pthread_mutex_lock(&m->lock);
  while (!m->stop || m->pending) {
    if (!m->pending) {
      pthread_cond_wait(&m->changed, &m->lock);
      continue;
    }
    pthread_mutex_unlock(&m->lock);
    struct timespec pause = {.tv_nsec = MUTANT_DELAY_MS * 1000000L};
    nanosleep(&pause, NULL);
    rag_error ignored = {0};
    if (write_batch(store, &ignored) == RAG_OK) rag_store__batch_clear(store->commits->batch);
    pthread_mutex_lock(&m->lock);
    m->pending = false;
    pthread_cond_broadcast(&m->changed);
  }
  pthread_mutex_unlock(&m->lock);
  return NULL;
}

static void mutant_wait(mutant *m) {
  pthread_mutex_lock(&m->lock);
  while (m->pending) pthread_cond_wait(&m->changed, &m->lock);
  pthread_mutex_unlock(&m->lock);
}

static void mutant_hand_batch(mutant *m) {
  pthread_mutex_lock(&m->lock);
  m->pending = true;
  pthread_cond_broadcast(&m->changed);
  pthread_mutex_unlock(&m->lock);
}

// Runs one group; the caller is the leader and at the head of the queue.
static void lead(rag_store *store) {
  rag_store__commits *commits = store->commits;
  uint32_t count = 0;
  rag_error error = {0};
  rag_status status = RAG_OK;

  if (commits->mutant.on) mutant_wait(&commits->mutant);
  gather(commits);
  waiter *first = apply_group(store, &count);
  bool nothing = rag_store__batch_is_empty(commits->batch);
  if (!nothing && !commits->mutant.on) status = write_batch(store, &error);
  if (status == RAG_OK) publish_group(store, first);
  else abandon_group(first, status, &error);
  if (!nothing && commits->mutant.on) mutant_hand_batch(&commits->mutant);
  else rag_store__batch_clear(commits->batch);
  hand_over(commits, count);
  answer_group(first);
}

rag_status rag_store_commit(rag_store *store, const rag_commit_request *request, rag_error *err) {
  rag_store__commits *commits = store->commits;
  waiter self = {.request = request, .err = err};
  bool leads;

  RAG_TRY(rag_store_writable(store, err));
  RAG_TRY(rag_store__space_check(store, request->room, err));
  pthread_mutex_lock(&commits->lock);
  leads = !commits->has_leader;
  commits->has_leader = true;
  *commits->tail = &self;
  commits->tail = &self.next;
  atomic_fetch_add_explicit(&commits->queued, 1, memory_order_relaxed);
  pthread_mutex_unlock(&commits->lock);

  if (leads || wait_for_turn(&self) == LEADS) lead(store);
  return self.status;
}

// ---------------------------------------------------------------------------------------------- open, close

rag_status rag_store__commits_open(rag_store *store, rag_error *err) {
  rag_store__commits *commits = rag_calloc(1, sizeof *commits);
  if (commits == NULL) return rag_fail_no_memory(err, sizeof *commits);
  rag_status status = rag_store__batch_create(store, &commits->batch, err);
  if (status != RAG_OK) {
    rag_free(commits);
    return status;
  }
  pthread_mutex_init(&commits->lock, NULL);
  pthread_cond_init(&commits->idle, NULL);
  pthread_mutex_init(&commits->mutant.lock, NULL);
  pthread_cond_init(&commits->mutant.changed, NULL);
  commits->tail = &commits->head;
  store->commits = commits;
  if (store->options.mutant_acknowledge_early) {
    int error = pthread_create(&commits->mutant.thread, NULL, mutant_main, store);
    if (error != 0) return rag_os_fail(err, "pthread_create", "mutant", error);
    commits->mutant.on = true;
  }
  return RAG_OK;
}

void rag_store__commits_close(rag_store *store) {
  rag_store__commits *commits = store->commits;
  if (commits == NULL) return;
  pthread_mutex_lock(&commits->lock);
  while (commits->has_leader) pthread_cond_wait(&commits->idle, &commits->lock);
  pthread_mutex_unlock(&commits->lock);
  if (commits->mutant.on) {
    pthread_mutex_lock(&commits->mutant.lock);
    commits->mutant.stop = true;
    pthread_cond_broadcast(&commits->mutant.changed);
    pthread_mutex_unlock(&commits->mutant.lock);
    pthread_join(commits->mutant.thread, NULL);
  }
  rag_store__batch_destroy(commits->batch);
  pthread_cond_destroy(&commits->mutant.changed);
  pthread_mutex_destroy(&commits->mutant.lock);
  pthread_cond_destroy(&commits->idle);
  pthread_mutex_destroy(&commits->lock);
  rag_free(commits);
  store->commits = NULL;
}
