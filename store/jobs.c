// The jobs table: background work with a durable cursor.
//
// What lies in RAG_CF_JOB is the truth. Every change of a job is a commit that reads the record, decides, and writes it
// (change_apply), so two changes never work on the same old state, and each is durable before anybody is told. Memory
// holds only what a restart may lose: the list of live jobs as hints for the workers, who runs what, and clocks for the
// ETA.
//
// Transitions, each made by change_apply:
//   queued  -> running                      CLAIM: the thread that is about to run it
//   running -> succeeded, failed            FINISH: by what the runner returned
//   running -> paused, cancelled, queued    FINISH: the runner obeyed a request to stop (queued: shutdown, or resumed)
//   queued  -> paused, cancelled            PAUSE, CANCEL
//   running                                 PAUSE, CANCEL: sets `want`, durably; the runner learns of it when it polls
//   paused  -> queued, cancelled            RESUME, CANCEL
//   running -> queued, paused, cancelled    rag_jobs_open: the process ended in mid-run; `want` decides
//
// Invariants
//  1. Ids are given in apply, so in commit order: rows become visible in the order of their ids, and a scan from the
//     highest id seen finds every new job (refresh).
//  2. The live list may lag behind the table or miss a row (out of memory); CLAIM checks the row again.
//  3. At most RAG_JOBS_FINISHED_KEPT finished rows stay: the commit that finishes a job removes the oldest ones beyond.
//
// Threads and locks: `lock` guards the live list and the flags, is held for short stretches, and never over a commit or
// a runner. publish takes it inside a commit; so nobody commits while holding it. `refresh_lock` is taken before
// `lock`. next_id and finished_count belong to apply and publish, which never run at the same time.
#include "store/jobs_internal.h"

#define PRUNE_MAX 16u // finished rows removed by one commit; more only after the bound was lowered

void rag_jobs__time_after(uint64_t ns, struct timespec *out) {
  uint64_t at = rag_clock_monotonic_ns() + ns;
  *out = (struct timespec){.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
}

// ---------------------------------------------------------------------------------------------- rows

static rag_status no_such_job(uint64_t id, rag_error *err) {
  return rag_fail(err, RAG_NOT_FOUND, "job %llu does not exist; finished jobs are kept up to the newest %u",
                  (unsigned long long)id, RAG_JOBS_FINISHED_KEPT);
}

// The record borrows from *value: free it after the record's last use.
rag_status rag_job__load(rag_txn *txn, uint64_t id, rag_value *value, rag_job__record *out, rag_error *err) {
  rag_key key;
  rag_job__key(&key, id);
  rag_status status = rag_txn_get(txn, RAG_CF_JOB, rag_key_slice(&key), value, err);
  if (status == RAG_NOT_FOUND) return no_such_job(id, err);
  return status == RAG_OK ? rag_job__decode(id, value->slice, out, err) : status;
}

rag_status rag_job__save(rag_txn *txn, rag_job__record *record, rag_error *err) {
  rag_buf buf = {0};
  rag_key key;
  record->updated_us = rag_clock_now_us();
  rag_job__encode(record, &buf);
  rag_status status = rag_buf_check(&buf, err);
  rag_job__key(&key, record->id);
  if (status == RAG_OK) rag_txn_put(txn, RAG_CF_JOB, rag_key_slice(&key), rag_buf_slice(&buf));
  rag_buf_free(&buf);
  return status;
}

// Every row with an id in [from, before).
static void rows_bounds(uint64_t from, uint64_t before, rag_key *lower, rag_key *upper) {
  rag_job__key(lower, from);
  rag_job__key(upper, before);
}

// ---------------------------------------------------------------------------------------------- the live list

live_job *rag_jobs__find_live(rag_jobs *jobs, uint64_t id) {
  for (live_job *live = jobs->live; live != NULL; live = live->next)
    if (live->id == id) return live;
  return NULL;
}

void rag_jobs__drop_live(rag_jobs *jobs, uint64_t id) {
  for (live_job **at = &jobs->live; *at != NULL; at = &(*at)->next) {
    if ((*at)->id != id) continue;
    live_job *live = *at;
    *at = live->next;
    jobs->live_count--;
    rag_free(live);
    return;
  }
}

static const job_kind *find_kind(const rag_jobs *jobs, rag_slice name) {
  for (unsigned i = 0; i < jobs->kind_count; i++)
    if (rag_slice_equal(rag_slice_str(jobs->kinds[i].name), name)) return &jobs->kinds[i];
  return NULL;
}

static rag_status add_live(rag_jobs *jobs, const rag_job__record *record, rag_error *err) {
  live_job *live = rag_calloc(1, sizeof *live);
  if (live == NULL) return rag_fail_no_memory(err, sizeof *live);
  *live = (live_job){.id = record->id, .state = record->state, .kind = find_kind(jobs, record->kind)};
  if (live->kind == NULL)
    rag_log(RAG_LOG_WARN, "job.kind_unknown", "id=%llu kind=%.*s", (unsigned long long)record->id,
            (int)record->kind.size, record->kind.data);
  pthread_mutex_lock(&jobs->lock);
  live_job **at = &jobs->live;
  while (*at != NULL) at = &(*at)->next;
  *at = live;
  jobs->live_count++;
  pthread_cond_signal(&jobs->work);
  pthread_mutex_unlock(&jobs->lock);
  return RAG_OK;
}

// Reads the rows that are newer than the newest one seen.
rag_status rag_jobs__refresh(rag_jobs *jobs, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_status status;

  pthread_mutex_lock(&jobs->lock);
  jobs->stale = false; // before the scan: what is committed from here on sets it again
  pthread_mutex_unlock(&jobs->lock);
  pthread_mutex_lock(&jobs->refresh_lock);
  rows_bounds(jobs->next_scan_id, UINT64_MAX, &lower, &upper);
  RAG_TRY_OUT(rag_store_iter_open(jobs->store, NULL, RAG_CF_JOB, rag_key_slice(&lower), rag_key_slice(&upper), false,
                                  &it, err));
  while (rag_store_iter_next(it)) {
    rag_job__record record;
    uint64_t id = 0;
    if (!rag_job__key_id(rag_store_iter_key(it), &id)) continue;
    RAG_TRY_OUT(rag_job__decode(id, rag_store_iter_value(it), &record, err));
    if (!rag_job__is_finished(record.state)) RAG_TRY_OUT(add_live(jobs, &record, err));
    jobs->next_scan_id = id + 1;
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  pthread_mutex_unlock(&jobs->refresh_lock);
  if (status != RAG_OK) {
    pthread_mutex_lock(&jobs->lock);
    jobs->stale = true;
    pthread_mutex_unlock(&jobs->lock);
  }
  return status;
}

void rag_jobs_wake(rag_jobs *jobs) {
  pthread_mutex_lock(&jobs->lock);
  jobs->stale = true;
  pthread_cond_signal(&jobs->work);
  pthread_mutex_unlock(&jobs->lock);
}

// ---------------------------------------------------------------------------------------------- changes

static char *copy_bytes(rag_slice s, size_t *out_size) {
  *out_size = s.size;
  return rag_strndup(s.data, s.size);
}

static rag_status claim(job_change *c, rag_job__record *record, rag_error *err) {
  rag_job *job = c->job;
  size_t ignored = 0;
  if (record->state != RAG_JOB_QUEUED) {
    c->not_queued = true;
    return rag_fail(err, RAG_FAILED_PRECONDITION, "job %llu is not queued any more", (unsigned long long)c->id);
  }
  job->subject = copy_bytes(record->subject, &ignored);
  job->params = copy_bytes(record->params, &job->params_size);
  job->cursor = copy_bytes(record->cursor, &job->cursor_size);
  if (job->subject == NULL || job->params == NULL || job->cursor == NULL)
    return rag_fail_no_memory(err, record->params.size + record->cursor.size);
  record->state = RAG_JOB_RUNNING;
  record->want = RAG_JOB__WANT_NOTHING;
  record->error = (rag_slice){0};
  if (record->started_us == 0) record->started_us = rag_clock_now_us();
  return RAG_OK;
}

static rag_job_state state_after_run(const job_change *c, const rag_job__record *record) {
  bool obeyed = c->job->told && (c->run_status == RAG_ABORTED || c->run_status == RAG_CANCELLED);
  if (c->run_status == RAG_OK) return RAG_JOB_SUCCEEDED;
  if (!obeyed) return RAG_JOB_FAILED;
  if (record->want == RAG_JOB__WANT_CANCEL) return RAG_JOB_CANCELLED;
  return record->want == RAG_JOB__WANT_PAUSE ? RAG_JOB_PAUSED : RAG_JOB_QUEUED;
}

static void finish(job_change *c, rag_job__record *record) {
  record->state = state_after_run(c, record);
  record->want = RAG_JOB__WANT_NOTHING;
  if (c->job->result != NULL) record->result = rag_slice_str(c->job->result);
  if (record->state == RAG_JOB_FAILED)
    record->error =
        rag_slice_str(c->run_error->message[0] != '\0' ? c->run_error->message : rag_status_name(c->run_status));
}

static rag_status refuse(const rag_job__record *record, const char *verb, rag_error *err) {
  return rag_fail(err, RAG_FAILED_PRECONDITION, "job %llu is %s and cannot be %s", (unsigned long long)record->id,
                  rag_job_state_name(record->state), verb);
}

static rag_status pause_record(rag_job__record *record, rag_error *err) {
  if (record->state == RAG_JOB_QUEUED) record->state = RAG_JOB_PAUSED;
  else if (record->state == RAG_JOB_RUNNING && record->want != RAG_JOB__WANT_CANCEL) record->want = RAG_JOB__WANT_PAUSE;
  else if (record->state != RAG_JOB_PAUSED) return refuse(record, "paused", err);
  return RAG_OK;
}

static rag_status resume_record(rag_job__record *record, rag_error *err) {
  if (record->state == RAG_JOB_PAUSED) record->state = RAG_JOB_QUEUED;
  else if (record->state == RAG_JOB_RUNNING && record->want == RAG_JOB__WANT_PAUSE)
    record->want = RAG_JOB__WANT_NOTHING;
  else return refuse(record, "resumed", err);
  return RAG_OK;
}

static rag_status cancel_record(rag_job__record *record, rag_error *err) {
  if (rag_job__is_finished(record->state)) return refuse(record, "cancelled", err);
  if (record->state == RAG_JOB_RUNNING) record->want = RAG_JOB__WANT_CANCEL;
  else record->state = RAG_JOB_CANCELLED;
  return RAG_OK;
}

static rag_status change_record(job_change *c, rag_job__record *record, rag_error *err) {
  switch (c->kind) {
  case CLAIM:
    return claim(c, record, err);
  case FINISH:
    finish(c, record);
    return RAG_OK;
  case PAUSE:
    return pause_record(record, err);
  case RESUME:
    return resume_record(record, err);
  case CANCEL:
    return cancel_record(record, err);
  }
  return rag_fail(err, RAG_INTERNAL, "no such change of a job");
}

// Removes the oldest finished rows, so that with the one being finished now no more than the bound stay.
static rag_status prune(job_change *c, const rag_job__record *finishing, rag_txn *txn, rag_error *err) {
  uint64_t ids[PRUNE_MAX];
  uint64_t finished = c->jobs->finished_count + 1;
  const job_kind *kind = find_kind(c->jobs, finishing->kind);
  bool newest_only = kind != NULL && kind->newest_only;
  uint32_t want = finished <= RAG_JOBS_FINISHED_KEPT
                      ? 0
                      : (uint32_t)RAG_MIN(finished - RAG_JOBS_FINISHED_KEPT, (uint64_t)PRUNE_MAX);
  if (newest_only) want = PRUNE_MAX;
  uint32_t count = 0;
  rag_store_iter *it = NULL;
  rag_key lower, upper, key;
  rag_status status;
  if (want == 0) return RAG_OK;

  rows_bounds(0, UINT64_MAX, &lower, &upper);
  RAG_TRY(rag_txn_iter_open(txn, RAG_CF_JOB, rag_key_slice(&lower), rag_key_slice(&upper), &it, err));
  while (count < want && rag_store_iter_next(it)) {
    rag_job__record record;
    uint64_t id = 0;
    if (!rag_job__key_id(rag_store_iter_key(it), &id) || id == c->id) continue;
    RAG_TRY_OUT(rag_job__decode(id, rag_store_iter_value(it), &record, err));
    if (!rag_job__is_finished(record.state)) continue;
    // Of such a kind each one that finishes takes those before it along, so the bound is kept without it.
    if (newest_only && (!rag_slice_equal(record.kind, finishing->kind) ||
                        !rag_slice_equal(record.subject, finishing->subject)))
      continue;
    ids[count++] = id;
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  for (uint32_t i = 0; i < count; i++) {
    rag_job__key(&key, ids[i]);
    rag_txn_delete(txn, RAG_CF_JOB, rag_key_slice(&key));
  }
  c->pruned = count;
out:
  rag_store_iter_close(it);
  return status;
}

static rag_status change_apply(void *ctx, rag_txn *txn, rag_error *err) {
  job_change *c = ctx;
  rag_value value = {0};
  rag_job__record record;
  rag_status status;

  RAG_TRY_OUT(rag_job__load(txn, c->id, &value, &record, err));
  c->state = record.state;
  RAG_TRY_OUT(change_record(c, &record, err));
  if (rag_job__is_finished(record.state)) {
    record.finished_us = rag_clock_now_us();
    RAG_TRY_OUT(prune(c, &record, txn, err));
  }
  c->state = record.state;
  c->want = record.want;
  c->done = record.done;
  status = rag_job__save(txn, &record, err);
out:
  rag_value_free(&value);
  return status;
}

static void tell(live_job *live, rag_job__want want) {
  if (live->job == NULL) return;
  int stop = want == RAG_JOB__WANT_CANCEL ? STOP_CANCEL : want == RAG_JOB__WANT_PAUSE ? STOP_PAUSE : GO_ON;
  int now = atomic_load_explicit(&live->job->stop, memory_order_relaxed);
  if (now != STOP_SHUTDOWN || stop == STOP_CANCEL) atomic_store_explicit(&live->job->stop, stop, memory_order_relaxed);
}

static void change_publish(void *ctx) {
  job_change *c = ctx;
  rag_jobs *jobs = c->jobs;
  if (rag_job__is_finished(c->state)) jobs->finished_count += 1 - (uint64_t)c->pruned;
  pthread_mutex_lock(&jobs->lock);
  live_job *live = rag_jobs__find_live(jobs, c->id);
  if (live != NULL) {
    live->state = c->state;
    if (c->kind == CLAIM) {
      live->job = c->job;
      live->run_start_ns = rag_clock_monotonic_ns();
      live->run_start_done = c->done;
      if (jobs->closing) atomic_store_explicit(&c->job->stop, STOP_SHUTDOWN, memory_order_relaxed);
    } else if (c->kind == FINISH) {
      live->job = NULL;
      live->taken = false;
    } else {
      tell(live, c->want);
    }
    if (rag_job__is_finished(c->state)) rag_jobs__drop_live(jobs, c->id);
  }
  jobs->generation++;
  pthread_cond_broadcast(&jobs->changed);
  pthread_cond_signal(&jobs->work);
  pthread_mutex_unlock(&jobs->lock);
}

rag_status rag_job__change(job_change *c, rag_error *err) {
  rag_commit_request request = {
      .apply = change_apply, .publish = change_publish, .ctx = c, .room = RAG_STORE_ROOM_IGNORED};
  return rag_store_commit(c->jobs->store, &request, err);
}

rag_status rag_jobs_pause(rag_jobs *jobs, uint64_t id, rag_error *err) {
  job_change c = {.jobs = jobs, .id = id, .kind = PAUSE};
  return rag_job__change(&c, err);
}

rag_status rag_jobs_resume(rag_jobs *jobs, uint64_t id, rag_error *err) {
  job_change c = {.jobs = jobs, .id = id, .kind = RESUME};
  return rag_job__change(&c, err);
}

rag_status rag_jobs_cancel(rag_jobs *jobs, uint64_t id, rag_error *err) {
  job_change c = {.jobs = jobs, .id = id, .kind = CANCEL};
  return rag_job__change(&c, err);
}

// ---------------------------------------------------------------------------------------------- submit

rag_status rag_jobs_submit_txn(rag_jobs *jobs, rag_txn *txn, const char *kind, const char *subject, rag_slice params,
                               uint64_t *out_id, rag_error *err) {
  if (!rag_name_valid(rag_slice_str(kind)))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "kind", "not a job's kind");
  if (strlen(subject) > RAG_JOB_SUBJECT_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "subject", "longer than %u bytes", RAG_JOB_SUBJECT_MAX);
  if (params.size > RAG_JOB_PARAMS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "params", "larger than %u bytes", RAG_JOB_PARAMS_MAX);
  pthread_mutex_lock(&jobs->lock);
  bool full = jobs->live_count >= RAG_JOBS_LIVE_MAX;
  pthread_mutex_unlock(&jobs->lock);
  if (full)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "%u jobs are waiting already; let some finish or cancel them",
                    RAG_JOBS_LIVE_MAX);

  rag_job__record record = {.id = jobs->next_id,
                            .state = RAG_JOB_QUEUED,
                            .created_us = rag_clock_now_us(),
                            .kind = rag_slice_str(kind),
                            .subject = rag_slice_str(subject),
                            .params = params};
  RAG_TRY(rag_job__save(txn, &record, err));
  *out_id = jobs->next_id++;
  return RAG_OK;
}

typedef struct submission {
  rag_jobs *jobs;
  const char *kind, *subject;
  rag_slice params;
  uint64_t id;
} submission;

static rag_status submit_apply(void *ctx, rag_txn *txn, rag_error *err) {
  submission *s = ctx;
  return rag_jobs_submit_txn(s->jobs, txn, s->kind, s->subject, s->params, &s->id, err);
}

static void submit_publish(void *ctx) {
  rag_jobs_wake(((submission *)ctx)->jobs);
}

rag_status rag_jobs_submit(rag_jobs *jobs, const char *kind, const char *subject, rag_slice params, uint64_t *out_id,
                           rag_error *err) {
  submission s = {jobs, kind, subject, params, 0};
  rag_commit_request request = {
      .apply = submit_apply, .publish = submit_publish, .ctx = &s, .room = RAG_STORE_ROOM_MADE};
  RAG_TRY(rag_store_commit(jobs->store, &request, err));
  // Now, so that the bound on live jobs holds also where no worker runs. It is a hint: workers look again.
  rag_status ignored = rag_jobs__refresh(jobs, NULL);
  RAG_UNUSED(ignored);
  *out_id = s.id;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- look-ups

static rag_status info_of(rag_jobs *jobs, const rag_job__record *record, rag_job_info *out, rag_error *err) {
  RAG_TRY(rag_job__info(record, out, err));
  if (record->state != RAG_JOB_RUNNING) return RAG_OK;
  pthread_mutex_lock(&jobs->lock);
  live_job *live = rag_jobs__find_live(jobs, record->id);
  if (live != NULL && live->job != NULL && record->done > live->run_start_done && record->total >= record->done) {
    double seconds = (double)(rag_clock_monotonic_ns() - live->run_start_ns) / 1e9;
    out->eta_seconds = seconds * (double)(record->total - record->done) / (double)(record->done - live->run_start_done);
  }
  pthread_mutex_unlock(&jobs->lock);
  return RAG_OK;
}

rag_status rag_jobs_get(rag_jobs *jobs, uint64_t id, rag_job_info *out, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_job__record record;
  rag_job__key(&key, id);
  rag_status status = rag_store_get(jobs->store, NULL, RAG_CF_JOB, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND) return no_such_job(id, err);
  if (status == RAG_OK) status = rag_job__decode(id, value.slice, &record, err);
  if (status == RAG_OK) status = info_of(jobs, &record, out, err);
  rag_value_free(&value);
  return status;
}

static rag_status list_push(rag_jobs *jobs, rag_store_iter *it, rag_job_info **infos, uint32_t *count, rag_error *err) {
  rag_job__record record;
  uint64_t id = 0;
  if (!rag_job__key_id(rag_store_iter_key(it), &id)) return RAG_OK;
  RAG_TRY(rag_job__decode(id, rag_store_iter_value(it), &record, err));
  rag_job_info *grown = rag_realloc_array(*infos, (size_t)*count + 1, sizeof **infos);
  if (grown == NULL) return rag_fail_no_memory(err, sizeof *grown);
  *infos = grown;
  RAG_TRY(info_of(jobs, &record, &grown[*count], err));
  (*count)++;
  return RAG_OK;
}

rag_status rag_jobs_list(rag_jobs *jobs, uint64_t before, uint32_t limit, rag_job_info **out, uint32_t *out_count,
                         rag_error *err) {
  rag_job_info *infos = NULL;
  uint32_t count = 0;
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_status status;

  rows_bounds(0, before == 0 ? UINT64_MAX : before, &lower, &upper);
  RAG_TRY(
      rag_store_iter_open(jobs->store, NULL, RAG_CF_JOB, rag_key_slice(&lower), rag_key_slice(&upper), true, &it, err));
  while (count < limit && rag_store_iter_next(it)) RAG_TRY_OUT(list_push(jobs, it, &infos, &count, err));
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  *out = infos;
  *out_count = count;
  infos = NULL;
out:
  if (infos != NULL)
    for (uint32_t i = 0; i < count; i++) rag_job_info_free(&infos[i]);
  rag_free(infos);
  rag_store_iter_close(it);
  return status;
}

rag_status rag_jobs_wait(rag_jobs *jobs, uint64_t id, uint64_t timeout_ms, rag_job_info *out, rag_error *err) {
  struct timespec end;
  rag_jobs__time_after(RAG_MIN(timeout_ms, UINT64_MAX / 4000000u) * 1000000u, &end);
  for (;;) {
    rag_job_info info;
    int waited = 0;
    pthread_mutex_lock(&jobs->lock);
    uint64_t generation = jobs->generation; // before the look, so that no change falls between look and wait
    pthread_mutex_unlock(&jobs->lock);
    RAG_TRY(rag_jobs_get(jobs, id, &info, err));
    if (info.state != RAG_JOB_QUEUED && info.state != RAG_JOB_RUNNING) {
      *out = info;
      return RAG_OK;
    }
    rag_job_info_free(&info);
    RAG_TRY(rag_store_writable(jobs->store, err)); // no job ever ends in a store that takes no writes
    pthread_mutex_lock(&jobs->lock);
    while (jobs->generation == generation && waited == 0)
      waited = timeout_ms == 0 ? pthread_cond_wait(&jobs->changed, &jobs->lock)
                               : pthread_cond_timedwait(&jobs->changed, &jobs->lock, &end);
    pthread_mutex_unlock(&jobs->lock);
    if (waited != 0) return rag_fail(err, RAG_DEADLINE_EXCEEDED, "job %llu is still going on", (unsigned long long)id);
  }
}

// ---------------------------------------------------------------------------------------------- open, close

// What the last process left running goes where `want` says. Also counts what is there.
static rag_status recover_apply(void *ctx, rag_txn *txn, rag_error *err) {
  rag_jobs *jobs = ctx;
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_status status;

  rows_bounds(0, UINT64_MAX, &lower, &upper);
  // Over the committed rows, not the transaction: rows are rewritten while the scan goes on.
  RAG_TRY(rag_store_iter_open(jobs->store, NULL, RAG_CF_JOB, rag_key_slice(&lower), rag_key_slice(&upper), false, &it,
                              err));
  while (rag_store_iter_next(it)) {
    rag_job__record record;
    uint64_t id = 0;
    if (!rag_job__key_id(rag_store_iter_key(it), &id)) continue;
    RAG_TRY_OUT(rag_job__decode(id, rag_store_iter_value(it), &record, err));
    jobs->next_id = id + 1;
    if (record.state == RAG_JOB_RUNNING) {
      record.state = record.want == RAG_JOB__WANT_CANCEL  ? RAG_JOB_CANCELLED
                     : record.want == RAG_JOB__WANT_PAUSE ? RAG_JOB_PAUSED
                                                          : RAG_JOB_QUEUED;
      record.want = RAG_JOB__WANT_NOTHING;
      if (rag_job__is_finished(record.state)) record.finished_us = rag_clock_now_us();
      RAG_TRY_OUT(rag_job__save(txn, &record, err));
    }
    if (rag_job__is_finished(record.state)) jobs->finished_count++;
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

rag_status rag_jobs_open(rag_store *store, unsigned threads, rag_jobs **out, rag_error *err) {
  rag_jobs *jobs = rag_calloc(1, sizeof *jobs);
  pthread_condattr_t monotonic;
  if (jobs == NULL) return rag_fail_no_memory(err, sizeof *jobs);
  jobs->store = store;
  jobs->thread_count = RAG_MIN(threads, RAG_JOBS_THREADS_MAX);
  jobs->next_id = 1;
  jobs->next_scan_id = 1;
  jobs->stale = true;
  pthread_mutex_init(&jobs->lock, NULL);
  pthread_mutex_init(&jobs->refresh_lock, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&jobs->work, &monotonic);
  pthread_cond_init(&jobs->changed, &monotonic);
  pthread_condattr_destroy(&monotonic);

  rag_commit_request request = {.apply = recover_apply, .ctx = jobs, .room = RAG_STORE_ROOM_IGNORED};
  rag_status status = rag_store_commit(store, &request, err);
  if (status == RAG_OK) *out = jobs;
  else rag_jobs_close(jobs);
  return status;
}

void rag_jobs_register(rag_jobs *jobs, const char *kind, rag_job_run_fn run, void *ctx) {
  rag_slice name = rag_slice_str(kind);
  RAG_ASSERT(rag_name_valid(name) && find_kind(jobs, name) == NULL);
  RAG_ASSERT(jobs->kind_count < RAG_JOBS_KINDS_MAX && jobs->threads_started == 0);
  job_kind *slot = &jobs->kinds[jobs->kind_count++];
  memcpy(slot->name, name.data, name.size + 1);
  slot->run = run;
  slot->ctx = ctx;
}

void rag_jobs_keep_newest(rag_jobs *jobs, const char *kind) {
  job_kind *known = (job_kind *)find_kind(jobs, rag_slice_str(kind));
  RAG_ASSERT(known != NULL && jobs->threads_started == 0);
  known->newest_only = true;
}

rag_status rag_jobs_start(rag_jobs *jobs, rag_error *err) {
  while (jobs->threads_started < jobs->thread_count) {
    int error = pthread_create(&jobs->threads[jobs->threads_started], NULL, rag_jobs__worker_main, jobs);
    if (error != 0) return rag_os_fail(err, "pthread_create", "jobs", error);
    jobs->threads_started++;
  }
  return RAG_OK;
}

void rag_jobs_close(rag_jobs *jobs) {
  if (jobs == NULL) return;
  pthread_mutex_lock(&jobs->lock);
  jobs->closing = true;
  for (live_job *live = jobs->live; live != NULL; live = live->next)
    if (live->job != NULL && atomic_load_explicit(&live->job->stop, memory_order_relaxed) == GO_ON)
      atomic_store_explicit(&live->job->stop, STOP_SHUTDOWN, memory_order_relaxed);
  pthread_cond_broadcast(&jobs->work);
  pthread_mutex_unlock(&jobs->lock);
  for (unsigned i = 0; i < jobs->threads_started; i++) pthread_join(jobs->threads[i], NULL);
  while (jobs->live != NULL) rag_jobs__drop_live(jobs, jobs->live->id);
  pthread_cond_destroy(&jobs->changed);
  pthread_cond_destroy(&jobs->work);
  pthread_mutex_destroy(&jobs->refresh_lock);
  pthread_mutex_destroy(&jobs->lock);
  rag_free(jobs);
}
