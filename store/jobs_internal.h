// Private to jobs.c (the table) and jobs_run.c (workers, and what runners call). See jobs.c for the invariants.
#ifndef RAGD_STORE_JOBS_INTERNAL_H
#define RAGD_STORE_JOBS_INTERNAL_H

#include "store/store_internal.h"

#include <time.h>

#define RETRY_NS 1000000000u // before a claim is tried again that failed for want of memory or the like

// What a running job was told. Cleared by nobody: a resume that comes later makes it queued again at the end.
enum { GO_ON = 0, STOP_PAUSE = 1, STOP_CANCEL = 2, STOP_SHUTDOWN = 3 };

typedef struct job_kind {
  char name[RAG_NAME_MAX + 1];
  rag_job_run_fn run;
  void *ctx;
  bool newest_only; // of a subject's finished jobs
} job_kind;

typedef void (*job_progress_fn)(void *ctx, const rag_job_info *info);

struct rag_job { // of the thread that runs it, but for `stop`
  rag_jobs *jobs;
  uint64_t id;
  _Atomic int stop; // atomic: a flag that is polled, nothing is ordered by it
  bool told;        // the runner has been told to stop
  bool progress_due;
  char *subject, *params, *cursor; // owned copies
  size_t params_size, cursor_size;
  char *result; // owned; written with the end of the run
  const job_kind *kind;
  job_progress_fn progress;
  void *progress_ctx;
};

typedef struct live_job { // guarded by: jobs->lock
  uint64_t id;
  rag_job_state state;  // a hint, but for running: see job
  bool taken;           // a thread is about to claim it
  const job_kind *kind; // NULL: no runner registered
  rag_job *job;         // while it runs here
  uint64_t run_start_ns, run_start_done;
  struct live_job *next; // ascending ids
} live_job;

struct rag_jobs {
  rag_store *store;
  unsigned thread_count;              // immutable after open
  job_kind kinds[RAG_JOBS_KINDS_MAX]; // immutable after start
  unsigned kind_count;
  pthread_t threads[RAG_JOBS_THREADS_MAX];
  unsigned threads_started;
  uint64_t next_id;        // apply's
  uint64_t finished_count; // apply's and publish's

  pthread_mutex_t refresh_lock;
  uint64_t next_scan_id; // guarded by: refresh_lock

  pthread_mutex_t lock;
  live_job *live;         // guarded by: lock
  uint32_t live_count;    // guarded by: lock
  uint64_t generation;    // guarded by: lock; of changes, for rag_jobs_wait
  bool stale;             // guarded by: lock; the table has rows that the list has not
  bool closing;           // guarded by: lock
  pthread_cond_t work;    // a job may be ready, or closing
  pthread_cond_t changed; // generation
};

// One transition, as change_apply and change_publish (jobs.c) see it.
typedef enum job_change_kind { CLAIM, FINISH, PAUSE, RESUME, CANCEL } job_change_kind;

typedef struct job_change {
  rag_jobs *jobs;
  uint64_t id;
  job_change_kind kind;
  rag_job *job;          // CLAIM, FINISH
  rag_status run_status; // FINISH
  const rag_error *run_error;
  // out
  rag_job_state state;
  rag_job__want want;
  uint64_t done;
  uint32_t pruned;
  bool not_queued; // CLAIM: somebody was faster
} job_change;

// Makes the transition durable, then tells the live list.
RAG_NODISCARD rag_status rag_job__change(job_change *change, rag_error *err);
// Reads a row within a commit. The record borrows from *value: free it after the record's last use.
RAG_NODISCARD rag_status rag_job__load(rag_txn *txn, uint64_t id, rag_value *value, rag_job__record *out,
                                       rag_error *err);
RAG_NODISCARD rag_status rag_job__save(rag_txn *txn, rag_job__record *record, rag_error *err);
// Brings the live list up to the table.
RAG_NODISCARD rag_status rag_jobs__refresh(rag_jobs *jobs, rag_error *err);
// Both under jobs->lock.
live_job *rag_jobs__find_live(rag_jobs *jobs, uint64_t id);
void rag_jobs__drop_live(rag_jobs *jobs, uint64_t id);
void rag_jobs__time_after(uint64_t ns, struct timespec *out); // for waits on jobs->work and jobs->changed
void *rag_jobs__worker_main(void *jobs);
static inline bool rag_job__is_finished(rag_job_state state) {
  return state >= RAG_JOB_SUCCEEDED;
}

#endif
