// Jobs, part two: the threads that run them, the foreground, and what runners call. The table and the rules are in
// jobs.c.
//
// Threads: a rag_job belongs to the thread that runs it. Its `stop` is set by others. checkpoint_txn runs on the thread
// that leads the group, while the runner's thread waits for that commit.
#include "store/jobs_internal.h"

#define FINISH_ATTEMPTS 8u
#define FINISH_PAUSE_NS 20000000L // times the attempt

// ---------------------------------------------------------------------------------------------- running

static void free_job(rag_job *job) {
  rag_free(job->subject);
  rag_free(job->params);
  rag_free(job->cursor);
  rag_free(job->result);
}

// The next job that this process can run, or 0. Under lock.
static uint64_t take_ready(rag_jobs *jobs, const job_kind **out_kind) {
  for (live_job *live = jobs->live; live != NULL; live = live->next) {
    if (live->state != RAG_JOB_QUEUED || live->taken || live->kind == NULL) continue;
    live->taken = true;
    *out_kind = live->kind;
    return live->id;
  }
  return 0;
}

// The row cannot be written (the store is in ERROR): reopening makes it queued again.
static void give_up(rag_jobs *jobs, uint64_t id, const rag_error *error) {
  rag_log(RAG_LOG_ERROR, "job.stuck", "id=%llu why=%s", (unsigned long long)id, error->message);
  pthread_mutex_lock(&jobs->lock);
  rag_jobs__drop_live(jobs, id);
  jobs->generation++;
  pthread_cond_broadcast(&jobs->changed);
  pthread_mutex_unlock(&jobs->lock);
}

// A claim that lost to a pause or cancel leaves the entry as the row says; any other failure leaves it for later.
static void unclaim(const job_change *c) {
  rag_jobs *jobs = c->jobs;
  pthread_mutex_lock(&jobs->lock);
  live_job *live = rag_jobs__find_live(jobs, c->id);
  if (live != NULL) {
    live->taken = false;
    if (c->not_queued) live->state = c->state;
    if (c->not_queued && rag_job__is_finished(c->state)) rag_jobs__drop_live(jobs, c->id);
  }
  pthread_mutex_unlock(&jobs->lock);
}

// Progress is shown outside of commits: what checkpoint_txn noted is shown at the runner's next poll.
static void show_progress(rag_job *job) {
  rag_job_info info;
  if (!job->progress_due) return;
  job->progress_due = false;
  if (job->progress == NULL || rag_jobs_get(job->jobs, job->id, &info, NULL) != RAG_OK) return;
  job->progress(job->progress_ctx, &info);
  rag_job_info_free(&info);
}

// Writes how the run ended. A want of memory passes, so it is tried again: a row that stays "running" while nobody runs
// it would keep its waiters until the next start. A store in ERROR does not pass.
static rag_status finish_run(rag_job *job, rag_status ran, const rag_error *run_error, rag_error *err) {
  rag_jobs *jobs = job->jobs;
  rag_error error = {0};
  rag_status status = RAG_OK;
  for (unsigned attempt = 1; attempt <= FINISH_ATTEMPTS; attempt++) {
    job_change c = {.jobs = jobs, .id = job->id, .kind = FINISH, .job = job, .run_status = ran, .run_error = run_error};
    status = rag_job__change(&c, &error);
    if (status == RAG_OK) {
      rag_log(ran == RAG_OK ? RAG_LOG_INFO : RAG_LOG_WARN, "job.stopped", "id=%llu kind=%s state=%s why=%s",
              (unsigned long long)job->id, job->kind->name, rag_job_state_name(c.state), run_error->message);
      return RAG_OK;
    }
    if (rag_store_writable(jobs->store, NULL) != RAG_OK) break;
    struct timespec pause = {.tv_nsec = (long)attempt * FINISH_PAUSE_NS};
    nanosleep(&pause, NULL);
  }
  give_up(jobs, job->id, &error);
  if (err != NULL) *err = error;
  return status;
}

// Claims, runs and finishes one job that take_ready gave out. An error is the table's, not the job's.
static rag_status run_one(rag_jobs *jobs, uint64_t id, const job_kind *kind, job_progress_fn progress,
                          void *progress_ctx, rag_error *err) {
  rag_job job = {.jobs = jobs, .id = id, .kind = kind, .progress = progress, .progress_ctx = progress_ctx};
  rag_error run_error = {0};
  job_change c = {.jobs = jobs, .id = id, .kind = CLAIM, .job = &job};
  rag_status status = rag_job__change(&c, err);
  if (status != RAG_OK) {
    unclaim(&c);
    free_job(&job);
    return c.not_queued ? RAG_OK : status;
  }
  rag_log(RAG_LOG_INFO, "job.started", "id=%llu kind=%s subject=%s", (unsigned long long)id, kind->name, job.subject);
  rag_status ran = kind->run(kind->ctx, &job, &run_error);
  show_progress(&job);
  status = finish_run(&job, ran, &run_error, err);
  free_job(&job);
  return status;
}

// Waits for a job that can be run; 0: closing.
static uint64_t wait_ready(rag_jobs *jobs, const job_kind **out_kind) {
  uint64_t id = 0;
  pthread_mutex_lock(&jobs->lock);
  while (!jobs->closing && (id = take_ready(jobs, out_kind)) == 0) {
    if (!jobs->stale) {
      pthread_cond_wait(&jobs->work, &jobs->lock);
      continue;
    }
    pthread_mutex_unlock(&jobs->lock);
    rag_error error = {0};
    rag_status status = rag_jobs__refresh(jobs, &error);
    pthread_mutex_lock(&jobs->lock);
    if (status == RAG_OK) continue;
    rag_log(RAG_LOG_ERROR, "job.table", "why=%s", error.message);
    struct timespec retry;
    rag_jobs__time_after(RETRY_NS, &retry);
    if (!jobs->closing) pthread_cond_timedwait(&jobs->work, &jobs->lock, &retry);
  }
  pthread_mutex_unlock(&jobs->lock);
  return id;
}

void *rag_jobs__worker_main(void *arg) {
  rag_jobs *jobs = arg;
  const job_kind *kind = NULL;
  for (uint64_t id; (id = wait_ready(jobs, &kind)) != 0;) {
    rag_error error = {0};
    if (run_one(jobs, id, kind, NULL, NULL, &error) == RAG_OK) continue;
    rag_log(RAG_LOG_ERROR, "job.table", "id=%llu why=%s", (unsigned long long)id, error.message);
    struct timespec retry;
    rag_jobs__time_after(RETRY_NS, &retry);
    pthread_mutex_lock(&jobs->lock);
    if (!jobs->closing) pthread_cond_timedwait(&jobs->work, &jobs->lock, &retry);
    pthread_mutex_unlock(&jobs->lock);
  }
  return NULL;
}

rag_status rag_jobs_run_foreground(rag_jobs *jobs, void (*progress)(void *ctx, const rag_job_info *info), void *ctx,
                                   rag_error *err) {
  for (;;) {
    const job_kind *kind = NULL;
    RAG_TRY(rag_jobs__refresh(jobs, err));
    pthread_mutex_lock(&jobs->lock);
    uint64_t id = jobs->closing ? 0 : take_ready(jobs, &kind);
    pthread_mutex_unlock(&jobs->lock);
    if (id == 0) return RAG_OK;
    RAG_TRY(run_one(jobs, id, kind, progress, ctx, err));
  }
}

// ---------------------------------------------------------------------------------------------- for runners

uint64_t rag_job_id(const rag_job *job) {
  return job->id;
}

rag_slice rag_job_params(const rag_job *job) {
  return (rag_slice){job->params, job->params_size};
}

rag_slice rag_job_cursor(const rag_job *job) {
  return (rag_slice){job->cursor, job->cursor_size};
}

const char *rag_job_subject(const rag_job *job) {
  return job->subject;
}

bool rag_job_should_stop(rag_job *job) {
  show_progress(job);
  bool stop = atomic_load_explicit(&job->stop, memory_order_relaxed) != GO_ON;
  if (stop) job->told = true;
  return stop;
}

static rag_status checkpoint(rag_job *job, rag_txn *txn, rag_slice cursor, uint64_t done, uint64_t total,
                             const char *unit, rag_error *err) {
  rag_value value = {0};
  rag_job__record record;
  if (cursor.size > RAG_JOB_CURSOR_MAX || strlen(unit) > RAG_JOB_UNIT_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a job's cursor has at most %u bytes, its unit %u", RAG_JOB_CURSOR_MAX,
                    RAG_JOB_UNIT_MAX);
  rag_status status = rag_job__load(txn, job->id, &value, &record, err);
  if (status == RAG_OK) {
    record.cursor = cursor;
    record.done = done;
    record.total = total;
    record.unit = rag_slice_str(unit);
    status = rag_job__save(txn, &record, err);
  }
  rag_value_free(&value);
  return status;
}

void rag_job_checkpoint_txn(rag_job *job, rag_txn *txn, rag_slice cursor, uint64_t done, uint64_t total,
                            const char *unit) {
  rag_error error = {0};
  rag_status status = checkpoint(job, txn, cursor, done, total, unit, &error);
  if (status != RAG_OK) rag_store__txn_fail(txn, status, &error);
  job->progress_due = true; // the runner's thread waits for this commit, so this is no race
}

typedef struct checkpoint_args {
  rag_job *job;
  rag_slice cursor;
  uint64_t done, total;
  const char *unit;
} checkpoint_args;

static rag_status checkpoint_apply(void *ctx, rag_txn *txn, rag_error *err) {
  checkpoint_args *args = ctx;
  return checkpoint(args->job, txn, args->cursor, args->done, args->total, args->unit, err);
}

rag_status rag_job_checkpoint(rag_job *job, rag_slice cursor, uint64_t done, uint64_t total, const char *unit,
                              rag_error *err) {
  checkpoint_args args = {job, cursor, done, total, unit};
  rag_commit_request request = {.apply = checkpoint_apply, .ctx = &args, .room = RAG_STORE_ROOM_MADE};
  RAG_TRY(rag_store_commit(job->jobs->store, &request, err));
  job->progress_due = true;
  if (!rag_job_should_stop(job)) return RAG_OK;
  switch (atomic_load_explicit(&job->stop, memory_order_relaxed)) {
  case STOP_CANCEL:
    return rag_fail(err, RAG_CANCELLED, "the job was cancelled");
  case STOP_PAUSE:
    return rag_fail(err, RAG_ABORTED, "the job was paused");
  case STOP_SHUTDOWN:
    return rag_fail(err, RAG_ABORTED, "shutting down; the job goes on after the restart");
  default:
    job->told = false;
    return RAG_OK; // resumed in this very moment
  }
}

rag_status rag_job_set_result(rag_job *job, const char *json, rag_error *err) {
  if (strlen(json) > RAG_JOB_RESULT_MAX)
    return rag_fail(err, RAG_OUT_OF_RANGE, "a job's result has at most %u bytes", RAG_JOB_RESULT_MAX);
  char *copy = rag_strdup(json);
  if (copy == NULL) return rag_fail_no_memory(err, strlen(json) + 1);
  rag_free(job->result);
  job->result = copy;
  return RAG_OK;
}
