// Goal: a job runs once to its end, stops where it is told to, and goes on from its cursor after a pause and after a
// restart; cursor and work move together; the table stays bounded.
// Method: a runner that adds up numbers, one row and one cursor per step, so that a step done twice or left out shows
// in the sum; gates hold it at a step while the test does something to the job.
#include "tests/store/store_test.h"

#include <pthread.h>
#include <time.h>

// ---- the runner: adds 1..total to the row "sum", a step a commit

typedef struct adder {
  rag_store *store;
  uint64_t total;
  uint64_t fail_at;  // step that fails; 0: none
  uint64_t abort_at; // step whose commit fails after it moved the cursor; 0: none
  bool ignores_stop;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  uint64_t gate;       // guarded by: lock; the step before which it waits; 0: none
  uint64_t step;       // guarded by: lock; steps done in this run
  uint64_t first_step; // guarded by: lock; where this run began
  int runs;            // guarded by: lock
  bool waiting;        // guarded by: lock; at the gate
} adder;

typedef struct add_step {
  adder *a;
  rag_job *job;
  uint64_t step;
  bool fails;
} add_step;

static uint64_t read_sum(rag_store *store) {
  rag_value value = {0};
  uint64_t sum = 0;
  if (rag_store_get(store, NULL, RAG_CF_META, rag_slice_str("sum"), &value, NULL) == RAG_OK)
    memcpy(&sum, value.slice.data, sizeof sum);
  rag_value_free(&value);
  return sum;
}

static rag_status add_apply(void *ctx, rag_txn *txn, rag_error *err) {
  add_step *s = ctx;
  rag_value value = {0};
  uint64_t sum = 0;
  if (rag_txn_get(txn, RAG_CF_META, rag_slice_str("sum"), &value, err) == RAG_OK)
    memcpy(&sum, value.slice.data, sizeof sum);
  rag_value_free(&value);
  sum += s->step;
  rag_txn_put(txn, RAG_CF_META, rag_slice_str("sum"), rag_slice_of(&sum, sizeof sum));
  rag_job_checkpoint_txn(s->job, txn, rag_slice_of(&s->step, sizeof s->step), s->step, s->a->total, "steps");
  return s->fails ? rag_fail(err, RAG_INTERNAL, "this commit fails") : RAG_OK;
}

static void pass_gate(adder *a, uint64_t step) {
  pthread_mutex_lock(&a->lock);
  a->step = step;
  while (a->gate != 0 && step >= a->gate) {
    a->waiting = true;
    pthread_cond_broadcast(&a->changed);
    pthread_cond_wait(&a->changed, &a->lock);
  }
  a->waiting = false;
  pthread_mutex_unlock(&a->lock);
}

static rag_status add_run(void *ctx, rag_job *job, rag_error *err) {
  adder *a = ctx;
  uint64_t done = 0;
  if (rag_job_cursor(job).size == sizeof done) memcpy(&done, rag_job_cursor(job).data, sizeof done);
  pthread_mutex_lock(&a->lock);
  a->runs++;
  a->first_step = done + 1;
  pthread_mutex_unlock(&a->lock);
  for (uint64_t step = done + 1; step <= a->total; step++) {
    pass_gate(a, step);
    if (!a->ignores_stop && rag_job_should_stop(job)) return rag_fail(err, RAG_ABORTED, "told to stop");
    if (step == a->fail_at) return rag_fail(err, RAG_INTERNAL, "step %llu went wrong", (unsigned long long)step);
    add_step s = {a, job, step, step == a->abort_at};
    rag_commit_request request = {.apply = add_apply, .ctx = &s};
    RAG_TRY(rag_store_commit(a->store, &request, err));
  }
  return rag_job_set_result(job, "{\"ok\":true}", err);
}

static void adder_init(adder *a, rag_store *store, uint64_t total) {
  *a = (adder){.store = store, .total = total};
  pthread_mutex_init(&a->lock, NULL);
  pthread_cond_init(&a->changed, NULL);
}

static void set_gate(adder *a, uint64_t gate) {
  pthread_mutex_lock(&a->lock);
  a->gate = gate;
  pthread_cond_broadcast(&a->changed);
  pthread_mutex_unlock(&a->lock);
}

static void wait_at_gate(adder *a) {
  pthread_mutex_lock(&a->lock);
  while (!a->waiting) pthread_cond_wait(&a->changed, &a->lock);
  pthread_mutex_unlock(&a->lock);
}

static rag_jobs *open_jobs(rag_store *store, unsigned threads, adder *a) {
  rag_jobs *jobs = NULL;
  rag_error err = {0};
  if (rag_jobs_open(store, threads, &jobs, &err) != RAG_OK) fail_msg("%s", err.message);
  rag_jobs_register(jobs, "add", add_run, a);
  assert_int_equal(rag_jobs_start(jobs, &err), RAG_OK);
  return jobs;
}

static uint64_t submit(rag_jobs *jobs) {
  uint64_t id = 0;
  rag_error err = {0};
  if (rag_jobs_submit(jobs, "add", "kb one", rag_slice_str("params"), &id, &err) != RAG_OK) fail_msg("%s", err.message);
  return id;
}

static rag_job_state wait_state(rag_jobs *jobs, uint64_t id) {
  rag_job_info info;
  rag_error err = {0};
  if (rag_jobs_wait(jobs, id, 60000, &info, &err) != RAG_OK) fail_msg("%s", err.message);
  rag_job_state state = info.state;
  rag_job_info_free(&info);
  return state;
}

static rag_job_info get(rag_jobs *jobs, uint64_t id) {
  rag_job_info info = {0};
  assert_int_equal(rag_jobs_get(jobs, id, &info, NULL), RAG_OK);
  return info;
}

// ---- tests

static void a_job_runs_to_its_end(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  set_gate(&a, 6);
  rag_jobs *jobs = open_jobs(f->store, 2, &a);
  uint64_t id = submit(jobs);
  assert_int_equal(id, 1);
  wait_at_gate(&a);
  rag_job_info info = get(jobs, id);
  assert_int_equal(info.state, RAG_JOB_RUNNING);
  assert_int_equal(info.done, 5);
  assert_int_equal(info.total, 10);
  assert_string_equal(info.unit, "steps");
  assert_true(info.eta_seconds >= 0);
  assert_true(info.started_us >= info.created_us && info.finished_us == 0);
  rag_job_info_free(&info);
  rag_error err = {0};
  assert_int_equal(rag_jobs_wait(jobs, id, 1, &info, &err), RAG_DEADLINE_EXCEEDED);
  set_gate(&a, 0);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_SUCCEEDED);
  info = get(jobs, id);
  assert_string_equal(info.kind, "add");
  assert_string_equal(info.subject, "kb one");
  assert_string_equal(info.result, "{\"ok\":true}");
  assert_string_equal(info.error, "");
  assert_int_equal(info.params_size, 6);
  assert_memory_equal(info.params, "params", 6);
  assert_int_equal(info.done, 10);
  assert_true(info.eta_seconds < 0);
  assert_true(info.finished_us >= info.started_us);
  rag_job_info_free(&info);
  assert_int_equal(read_sum(f->store), 55);
  assert_int_equal(rag_jobs_pause(jobs, id, &err), RAG_FAILED_PRECONDITION);
  assert_int_equal(rag_jobs_resume(jobs, id, &err), RAG_FAILED_PRECONDITION);
  assert_int_equal(rag_jobs_cancel(jobs, id, &err), RAG_FAILED_PRECONDITION);
  assert_int_equal(rag_jobs_get(jobs, 77, &info, &err), RAG_NOT_FOUND);
  assert_int_equal(rag_jobs_cancel(jobs, 77, &err), RAG_NOT_FOUND);
  rag_jobs_close(jobs);
}

static void a_running_job_is_paused_and_resumed(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  set_gate(&a, 4);
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t id = submit(jobs);
  wait_at_gate(&a);
  assert_int_equal(rag_jobs_pause(jobs, id, NULL), RAG_OK);
  assert_int_equal(rag_jobs_pause(jobs, id, NULL), RAG_OK); // asking twice is no error
  set_gate(&a, 0);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_PAUSED);
  assert_int_equal(read_sum(f->store), 6);
  assert_int_equal(rag_jobs_resume(jobs, id, NULL), RAG_OK);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_SUCCEEDED);
  assert_int_equal(read_sum(f->store), 55);
  assert_int_equal(a.first_step, 4);
  assert_int_equal(a.runs, 2);
  rag_jobs_close(jobs);
}

static void a_resume_in_time_undoes_a_pause(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  set_gate(&a, 4);
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t id = submit(jobs);
  wait_at_gate(&a);
  assert_int_equal(rag_jobs_pause(jobs, id, NULL), RAG_OK);
  assert_int_equal(rag_jobs_resume(jobs, id, NULL), RAG_OK);
  set_gate(&a, 0);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_SUCCEEDED);
  assert_int_equal(read_sum(f->store), 55);
  rag_jobs_close(jobs);
}

static void a_running_job_is_cancelled(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  set_gate(&a, 4);
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t id = submit(jobs);
  wait_at_gate(&a);
  assert_int_equal(rag_jobs_cancel(jobs, id, NULL), RAG_OK);
  assert_int_equal(rag_jobs_pause(jobs, id, NULL), RAG_FAILED_PRECONDITION); // a cancel is not taken back
  set_gate(&a, 0);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_CANCELLED);
  assert_int_equal(read_sum(f->store), 6);
  rag_jobs_close(jobs);
}

static void waiting_jobs_are_paused_and_cancelled(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 3);
  set_gate(&a, 1);
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t running = submit(jobs), paused = submit(jobs), cancelled = submit(jobs);
  wait_at_gate(&a); // the one thread has the first
  assert_int_equal(rag_jobs_pause(jobs, paused, NULL), RAG_OK);
  assert_int_equal(rag_jobs_cancel(jobs, cancelled, NULL), RAG_OK);
  assert_int_equal(wait_state(jobs, paused), RAG_JOB_PAUSED);
  assert_int_equal(wait_state(jobs, cancelled), RAG_JOB_CANCELLED);
  set_gate(&a, 0);
  assert_int_equal(wait_state(jobs, running), RAG_JOB_SUCCEEDED);
  uint64_t last = submit(jobs);
  assert_int_equal(wait_state(jobs, last), RAG_JOB_SUCCEEDED);
  assert_int_equal(a.runs, 2); // neither of the two ran
  assert_int_equal(rag_jobs_cancel(jobs, paused, NULL), RAG_OK);
  assert_int_equal(wait_state(jobs, paused), RAG_JOB_CANCELLED);
  rag_jobs_close(jobs);
}

static void a_failure_is_told(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  a.fail_at = 3;
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t id = submit(jobs);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_FAILED);
  rag_job_info info = get(jobs, id);
  assert_string_equal(info.error, "step 3 went wrong");
  assert_int_equal(info.done, 2);
  rag_job_info_free(&info);
  rag_jobs_close(jobs);
}

static void a_cursor_does_not_move_without_its_work(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  a.abort_at = 5;
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t id = submit(jobs);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_FAILED);
  rag_job_info info = get(jobs, id);
  uint64_t cursor = 0;
  assert_int_equal(info.cursor_size, sizeof cursor);
  memcpy(&cursor, info.cursor, sizeof cursor);
  assert_int_equal(cursor, 4);
  assert_int_equal(info.done, 4);
  assert_int_equal(read_sum(f->store), 10);
  rag_job_info_free(&info);
  rag_jobs_close(jobs);
}

static void *closer_main(void *jobs) {
  rag_jobs_close(jobs);
  return NULL;
}

static void an_interrupted_job_goes_on_after_a_restart(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  set_gate(&a, 4);
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t id = submit(jobs);
  wait_at_gate(&a);
  // The gate opens once the jobs are closing, so that the runner learns of it at its next poll.
  pthread_t closer;
  assert_int_equal(pthread_create(&closer, NULL, closer_main, jobs), 0);
  struct timespec pause = {.tv_nsec = 50000000};
  nanosleep(&pause, NULL);
  set_gate(&a, 0);
  pthread_join(closer, NULL);
  fixture_reopen(f);
  a.store = f->store;
  uint64_t so_far = read_sum(f->store);
  jobs = open_jobs(f->store, 1, &a);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_SUCCEEDED);
  assert_int_equal(read_sum(f->store), 55);
  // Either it was stopped at the gate, or it was quicker than the close and is done.
  assert_true((so_far == 6 && a.runs == 2 && a.first_step == 4) || (so_far == 55 && a.runs == 1));
  rag_jobs_close(jobs);
}

// A process that died left its jobs "running" on disk. The rows are made as it would have left them: by a copy of the
// row taken while the job ran.
static void what_a_dead_process_left_is_taken_up(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  rag_value rows[3] = {{{0}, NULL}};
  uint64_t ids[3];
  static const rag_job_state EXPECTED[3] = {RAG_JOB_QUEUED, RAG_JOB_PAUSED, RAG_JOB_CANCELLED};
  char keys[3][9];
  rag_jobs *jobs = NULL;
  for (int i = 0; i < 3; i++) {
    set_gate(&a, 4);
    jobs = open_jobs(f->store, 1, &a);
    ids[i] = submit(jobs);
    wait_at_gate(&a);
    if (i == 1) assert_int_equal(rag_jobs_pause(jobs, ids[i], NULL), RAG_OK);
    if (i == 2) assert_int_equal(rag_jobs_cancel(jobs, ids[i], NULL), RAG_OK);
    memset(keys[i], 0, sizeof keys[i]);
    keys[i][0] = 1;
    keys[i][8] = (char)ids[i];
    assert_int_equal(rag_store_get(f->store, NULL, RAG_CF_JOB, rag_slice_of(keys[i], 9), &rows[i], NULL), RAG_OK);
    set_gate(&a, 0);
    wait_state(jobs, ids[i]);
    rag_jobs_close(jobs);
  }
  for (int i = 0; i < 3; i++) {
    assert_int_equal(commit_row(f->store, RAG_CF_JOB, rag_slice_of(keys[i], 9), rows[i].slice, NULL), RAG_OK);
    rag_value_free(&rows[i]);
  }
  fixture_reopen(f);
  a.store = f->store;
  assert_int_equal(rag_jobs_open(f->store, 0, &jobs, NULL), RAG_OK);
  for (int i = 0; i < 3; i++) {
    rag_job_info info = get(jobs, ids[i]);
    assert_int_equal(info.state, EXPECTED[i]);
    assert_int_equal(info.done, 3);
    rag_job_info_free(&info);
  }
  rag_jobs_close(jobs);
}

static void note_progress(void *ctx, const rag_job_info *info) {
  uint64_t *seen = ctx;
  assert_true(info->done > *seen || info->done == 1);
  *seen = info->done;
}

static void jobs_run_in_the_foreground(void **state) {
  fixture *f = *state;
  adder a;
  uint64_t seen = 0;
  adder_init(&a, f->store, 5);
  rag_jobs *jobs = open_jobs(f->store, 0, &a);
  uint64_t first = submit(jobs), second = submit(jobs);
  assert_int_equal(rag_jobs_run_foreground(jobs, note_progress, &seen, NULL), RAG_OK);
  assert_int_equal(seen, 5);
  assert_int_equal(wait_state(jobs, first), RAG_JOB_SUCCEEDED);
  assert_int_equal(wait_state(jobs, second), RAG_JOB_SUCCEEDED);
  assert_int_equal(read_sum(f->store), 30);
  rag_jobs_close(jobs);
}

typedef struct checkpoints {
  rag_jobs *jobs;
  rag_status seen; // what the checkpoint after the pause said
} checkpoints;

static rag_status checkpoint_run(void *ctx, rag_job *job, rag_error *err) {
  checkpoints *c = ctx;
  static const char big[RAG_JOB_CURSOR_MAX + 1];
  assert_string_equal(rag_job_subject(job), "kb one");
  assert_true(rag_slice_equal(rag_job_params(job), rag_slice_str("params")));
  RAG_TRY(rag_job_checkpoint(job, rag_slice_of(big, RAG_JOB_CURSOR_MAX), 1, 2, "rows", err));
  assert_int_equal(rag_job_checkpoint(job, rag_slice_of(big, sizeof big), 1, 2, "rows", NULL), RAG_INVALID_ARGUMENT);
  RAG_TRY(rag_jobs_pause(c->jobs, rag_job_id(job), err));
  c->seen = rag_job_checkpoint(job, rag_slice_str("half"), 1, 2, "rows", err);
  return c->seen;
}

static void a_checkpoint_stores_and_tells(void **state) {
  fixture *f = *state;
  checkpoints c = {NULL, RAG_OK};
  uint64_t id = 0;
  assert_int_equal(rag_jobs_open(f->store, 0, &c.jobs, NULL), RAG_OK);
  rag_jobs_register(c.jobs, "check", checkpoint_run, &c);
  assert_int_equal(rag_jobs_submit(c.jobs, "check", "kb one", rag_slice_str("params"), &id, NULL), RAG_OK);
  assert_int_equal(rag_jobs_run_foreground(c.jobs, NULL, NULL, NULL), RAG_OK);
  assert_int_equal(c.seen, RAG_ABORTED);
  rag_job_info info = get(c.jobs, id);
  assert_int_equal(info.state, RAG_JOB_PAUSED);
  assert_int_equal(info.cursor_size, 4);
  assert_memory_equal(info.cursor, "half", 4);
  rag_job_info_free(&info);
  rag_jobs_close(c.jobs);
}

static rag_status quick_run(void *ctx, rag_job *job, rag_error *err) {
  RAG_UNUSED(job);
  RAG_UNUSED(err);
  (*(int *)ctx)++;
  return RAG_OK;
}

static void finished_jobs_are_bounded(void **state) {
  fixture *f = *state;
  rag_jobs *jobs = NULL;
  int ran = 0;
  const uint64_t more = 30;
  uint64_t id = 0;
  for (int half = 0; half < 2; half++) { // the count must survive a restart
    assert_int_equal(rag_jobs_open(f->store, 0, &jobs, NULL), RAG_OK);
    rag_jobs_register(jobs, "quick", quick_run, &ran);
    for (uint64_t i = 0; i < (RAG_JOBS_FINISHED_KEPT + more) / 2; i++)
      assert_int_equal(rag_jobs_submit(jobs, "quick", "", (rag_slice){0}, &id, NULL), RAG_OK);
    assert_int_equal(rag_jobs_run_foreground(jobs, NULL, NULL, NULL), RAG_OK);
    if (half == 0) rag_jobs_close(jobs);
  }
  assert_int_equal(ran, RAG_JOBS_FINISHED_KEPT + more);
  assert_int_equal(id, RAG_JOBS_FINISHED_KEPT + more); // ids are not used again
  rag_job_info *infos = NULL;
  uint32_t count = 0;
  assert_int_equal(rag_jobs_list(jobs, 0, 5000, &infos, &count, NULL), RAG_OK);
  assert_int_equal(count, RAG_JOBS_FINISHED_KEPT);
  for (uint32_t i = 0; i < count; i++) {
    assert_int_equal(infos[i].id, id - i); // newest first
    rag_job_info_free(&infos[i]);
  }
  rag_free(infos);
  assert_int_equal(rag_jobs_list(jobs, id - 1, 3, &infos, &count, NULL), RAG_OK); // a page
  assert_int_equal(count, 3);
  for (uint32_t i = 0; i < count; i++) {
    assert_int_equal(infos[i].id, id - 2 - i);
    rag_job_info_free(&infos[i]);
  }
  rag_free(infos);
  rag_jobs_close(jobs);
}

static void live_jobs_are_bounded(void **state) {
  fixture *f = *state;
  rag_jobs *jobs = NULL;
  rag_error err = {0};
  uint64_t id = 0;
  assert_int_equal(rag_jobs_open(f->store, 0, &jobs, NULL), RAG_OK);
  for (uint32_t i = 0; i < RAG_JOBS_LIVE_MAX; i++)
    assert_int_equal(rag_jobs_submit(jobs, "quick", "", (rag_slice){0}, &id, NULL), RAG_OK);
  assert_int_equal(rag_jobs_submit(jobs, "quick", "", (rag_slice){0}, &id, &err), RAG_RESOURCE_EXHAUSTED);
  assert_int_equal(rag_jobs_cancel(jobs, 7, NULL), RAG_OK);
  assert_int_equal(rag_jobs_submit(jobs, "quick", "", (rag_slice){0}, &id, NULL), RAG_OK);
  rag_jobs_close(jobs);
}

static void bad_submissions_name_the_field(void **state) {
  fixture *f = *state;
  rag_jobs *jobs = NULL;
  rag_error err = {0};
  uint64_t id = 0;
  char subject[RAG_JOB_SUBJECT_MAX + 2];
  memset(subject, 's', sizeof subject - 1);
  subject[sizeof subject - 1] = '\0';
  assert_int_equal(rag_jobs_open(f->store, 0, &jobs, NULL), RAG_OK);
  assert_int_equal(rag_jobs_submit(jobs, "No Kind", "", (rag_slice){0}, &id, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "kind");
  assert_int_equal(rag_jobs_submit(jobs, "gc", subject, (rag_slice){0}, &id, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "subject");
  subject[RAG_JOB_SUBJECT_MAX] = '\0';
  char *params = calloc(1, RAG_JOB_PARAMS_MAX + 1);
  assert_int_equal(rag_jobs_submit(jobs, "gc", subject, rag_slice_of(params, RAG_JOB_PARAMS_MAX + 1), &id, &err),
                   RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "params");
  assert_int_equal(rag_jobs_submit(jobs, "gc", subject, rag_slice_of(params, RAG_JOB_PARAMS_MAX), &id, &err), RAG_OK);
  free(params);
  rag_jobs_close(jobs);
}

typedef struct joint {
  rag_jobs *jobs;
  uint64_t id;
  rag_status result;
} joint;

static rag_status joint_apply(void *ctx, rag_txn *txn, rag_error *err) {
  joint *j = ctx;
  rag_txn_put(txn, RAG_CF_META, rag_slice_str("with the job"), rag_slice_str("1"));
  RAG_TRY(rag_jobs_submit_txn(j->jobs, txn, "add", "", (rag_slice){0}, &j->id, err));
  return j->result;
}

static void joint_publish(void *ctx) {
  rag_jobs_wake(((joint *)ctx)->jobs);
}

static void a_job_lives_and_dies_with_its_commit(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 3);
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  joint j = {jobs, 0, RAG_ABORTED};
  rag_commit_request request = {.apply = joint_apply, .publish = joint_publish, .ctx = &j};
  rag_job_info info;
  assert_int_equal(rag_store_commit(f->store, &request, NULL), RAG_ABORTED);
  assert_int_equal(rag_jobs_get(jobs, j.id, &info, NULL), RAG_NOT_FOUND);
  j.result = RAG_OK;
  assert_int_equal(rag_store_commit(f->store, &request, NULL), RAG_OK);
  assert_int_equal(wait_state(jobs, j.id), RAG_JOB_SUCCEEDED);
  assert_int_equal(a.runs, 1);
  rag_jobs_close(jobs);
}

static void a_store_in_error_does_not_hang_waiters(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 10);
  set_gate(&a, 4);
  rag_jobs *jobs = open_jobs(f->store, 1, &a);
  uint64_t id = submit(jobs);
  rag_job_info info;
  wait_at_gate(&a);
  rag_store_set_error_for_test(f->store, "the disk said no");
  set_gate(&a, 0);
  assert_int_equal(rag_jobs_wait(jobs, id, 0, &info, NULL), RAG_UNAVAILABLE);
  rag_jobs_close(jobs);
  fixture_reopen(f); // and reopening takes it up again
  a.store = f->store;
  jobs = open_jobs(f->store, 1, &a);
  assert_int_equal(wait_state(jobs, id), RAG_JOB_SUCCEEDED);
  assert_int_equal(read_sum(f->store), 55);
  rag_jobs_close(jobs);
}

static void a_damaged_record_is_an_error(void **state) {
  fixture *f = *state;
  adder a;
  adder_init(&a, f->store, 1);
  rag_jobs *jobs = open_jobs(f->store, 0, &a);
  uint64_t id = submit(jobs);
  rag_value stored = {0};
  char key[9] = {1, 0, 0, 0, 0, 0, 0, 0, (char)id}, bytes[512];
  assert_int_equal(rag_store_get(f->store, NULL, RAG_CF_JOB, rag_slice_of(key, 9), &stored, NULL), RAG_OK);
  size_t size = stored.slice.size;
  assert_in_range(size, 1, sizeof bytes);
  memcpy(bytes, stored.slice.data, size);
  rag_value_free(&stored);
  assert_memory_equal(bytes, "RJOB\1\0\0\0", 8); // pinned
  for (size_t i = 0; i < size; i++) {
    rag_job_info info;
    bytes[i] ^= 4;
    assert_int_equal(commit_row(f->store, RAG_CF_JOB, rag_slice_of(key, 9), rag_slice_of(bytes, size), NULL), RAG_OK);
    assert_int_equal(rag_jobs_get(jobs, id, &info, NULL), RAG_DATA_LOSS);
    bytes[i] ^= 4;
    assert_int_equal(commit_row(f->store, RAG_CF_JOB, rag_slice_of(key, 9), rag_slice_of(bytes, i), NULL), RAG_OK);
    assert_int_equal(rag_jobs_get(jobs, id, &info, NULL), RAG_DATA_LOSS);
  }
  rag_jobs_close(jobs);
}

// Every allocation of submit, run, get and list fails once: an error or a success, never half a job or a leak.
static void failed_allocations_leave_a_sound_table(void **state) {
  fixture *f = *state;
  int ran = 0;
  bool failed = true;
  for (uint64_t n = 1; failed; n++) {
    rag_jobs *jobs = NULL;
    rag_job_info *infos = NULL;
    uint32_t count = 0;
    uint64_t id = 0;
    rag_alloc_fail_after(n);
    rag_status status = rag_jobs_open(f->store, 0, &jobs, NULL);
    if (status == RAG_OK) {
      rag_jobs_register(jobs, "quick", quick_run, &ran);
      if (rag_jobs_submit(jobs, "quick", "s", rag_slice_str("p"), &id, NULL) != RAG_OK) id = 0;
      status = rag_jobs_run_foreground(jobs, NULL, NULL, NULL);
      if (rag_jobs_list(jobs, 0, 10, &infos, &count, NULL) == RAG_OK)
        for (uint32_t i = 0; i < count; i++) rag_job_info_free(&infos[i]);
      rag_free(count > 0 ? infos : NULL);
    }
    failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    if (jobs == NULL) continue;
    // With memory again, everything that was submitted can be run.
    assert_int_equal(rag_jobs_run_foreground(jobs, NULL, NULL, NULL), RAG_OK);
    if (id != 0) assert_int_equal(wait_state(jobs, id), RAG_JOB_SUCCEEDED);
    rag_jobs_close(jobs);
    assert_true(n < 1000);
  }
  assert_true(ran > 5);
}

int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      STORE_TEST(a_job_runs_to_its_end),
      STORE_TEST(a_running_job_is_paused_and_resumed),
      STORE_TEST(a_resume_in_time_undoes_a_pause),
      STORE_TEST(a_running_job_is_cancelled),
      STORE_TEST(waiting_jobs_are_paused_and_cancelled),
      STORE_TEST(a_failure_is_told),
      STORE_TEST(a_cursor_does_not_move_without_its_work),
      STORE_TEST(an_interrupted_job_goes_on_after_a_restart),
      STORE_TEST(what_a_dead_process_left_is_taken_up),
      STORE_TEST(jobs_run_in_the_foreground),
      STORE_TEST(a_checkpoint_stores_and_tells),
      STORE_TEST(finished_jobs_are_bounded),
      STORE_TEST(live_jobs_are_bounded),
      STORE_TEST(bad_submissions_name_the_field),
      STORE_TEST(a_job_lives_and_dies_with_its_commit),
      STORE_TEST(a_store_in_error_does_not_hang_waiters),
      STORE_TEST(a_damaged_record_is_an_error),
      STORE_TEST(failed_allocations_leave_a_sound_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
