// The sealed segments of a kb's index: when they are made, and what becomes of them. (segments_files.c: which there are.)
//
// Job "index" of a kb: as long as the index has a task, run it and take it in. It is submitted by whoever made work for
// it (a commit that filled the tail, a load, a gc); of a kb one is under way at most. The building itself is another
// thread's, at the lowest priority, so that searches keep their cores. Where they keep all of them, too little is built, and
// each search pays for what is not. So a builder that gets next to nothing while more and more piles up is begun again with
// more, and so are those after it, until they have caught up.
//
// One sealing and one merge may be under way at once, so that the tail stays short while a large graph is built. Erasing
// (purge) and they exclude each other: it interrupts them, and the job begins them again. A job ends after some tasks
// though there are more, and submits the next one, so that other jobs have their turn where one thread runs them all.
//
// A disk that is getting full: what needs more room than there is above the store's mark is not begun, as the store itself
// would be the next to have none. That fails the job, as any error does; the next one is submitted by a later commit or
// load, RETRY_NS after it at the soonest. Search is exact meanwhile, from the tail.
//
// Locks: kb->segments_lock guards which tasks are under way; it is held while one is chosen, and over an erasure. It is
// taken before kb->index_lock.
#include "kb/segments_internal.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define JOB "index"
#define JOB_COMPACT "index-compact" // apart, as somebody waits for it by its number
#define POLL_MS 20u
#define PARAMS_COMPACT 1u
#define RETRY_NS UINT64_C(30000000000) // after a failed job: a full disk is not helped by the next attempt
#define LOOKS_MAX 250u                 // at a tail whose rows are not durable yet: 5 s
#define TURN_TASKS 8u                  // of one job
#define JOBS_LOOKED_AT 100u            // for one that an earlier process has left
#define ROW_MORE_BYTES 512u            // of a segment's file, for links, codes' factors and the like
#define ROW_PLANES 9u                  // and so many bytes for each dimension: the vector, codes, an engine's own copy

#define READERS_LOOKS 200u // a millisecond apart: no search is waited for longer
#define STARVES_AFTER_NS UINT64_C(1000000000)
#define STARVES_SHARE 4u // a builder that gets less than one in so many of a core's time

// How a builder is begun: the first way, or where they starve, by how far the index is behind, in units of what is just due.
static const struct urgency {
  double backlog; // and more
  int nice;       // 0: as the server itself
  uint32_t share; // of the cores, one in so many: threads
} urgencies[] = {{0, 19, 2}, {2, 0, 2}, {4, 0, 1}};

enum { SLOT_SEAL = 1, SLOT_MERGE = 2 }; // tasks under way: of each one at most

// ---------------------------------------------------------------------------------------------- building

typedef struct building {
  rag_kb *kb;
  rag_index_task *task; // owned
  const char *dir;
  unsigned slots;
  size_t urgency;
  uint64_t begun_ns;
  pthread_t thread;
  rag_status status; // of the run
  rag_error err;
  _Atomic bool stop;  // atomic: a flag that is polled
  _Atomic bool ended; // atomic: release by the builder, acquire by the job
} building;

static bool go_on(void *context, uint64_t done, uint64_t total) {
  building *b = context;
  RAG_UNUSED(done);
  RAG_UNUSED(total);
  return !atomic_load_explicit(&b->stop, memory_order_relaxed) &&
         !atomic_load_explicit(&b->kb->deleted, memory_order_relaxed) &&
         atomic_load_explicit(&b->kb->segments_interrupted, memory_order_relaxed) == 0;
}

static size_t urgency_now(rag_kb *kb, unsigned slots) {
  rag_index_backlog backlog = rag_index_backlog_of(kb->index);
  double behind = slots == SLOT_SEAL ? backlog.tail : backlog.beside;
  size_t urgency = 0;
  while (urgency + 1 < RAG_COUNT_OF(urgencies) && behind >= urgencies[urgency + 1].backlog) urgency++;
  return urgency;
}

static size_t urgency_at_begin(rag_kb *kb, unsigned slots) { // under segments_lock
  size_t urgency = urgency_now(kb, slots);
  if (urgency == 0) kb->segments_starve &= ~slots;
  return (kb->segments_starve & slots) != 0 ? urgency : 0;
}

// It gets next to nothing, and meanwhile it has become more urgent: it is better begun again. What is lost is little.
static bool starves(const building *b) {
  clockid_t clock;
  struct timespec used;
  uint64_t passed = rag_clock_monotonic_ns() - b->begun_ns;
  if (passed < STARVES_AFTER_NS || urgency_now(b->kb, b->slots) <= b->urgency) return false;
  if (pthread_getcpuclockid(b->thread, &clock) != 0 || clock_gettime(clock, &used) != 0) return false;
  return ((uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec) * STARVES_SHARE < passed;
}

static void stop_if_it_starves(building *b) {
  if (atomic_load_explicit(&b->ended, memory_order_acquire) || atomic_load_explicit(&b->stop, memory_order_relaxed) ||
      !starves(b))
    return;
  pthread_mutex_lock(&b->kb->segments_lock);
  b->kb->segments_starve |= b->slots;
  pthread_mutex_unlock(&b->kb->segments_lock);
  atomic_store_explicit(&b->stop, true, memory_order_relaxed);
  rag_log(RAG_LOG_INFO, "kb.index_behind", "kb=%s nice=%d next_nice=%d why=\"%s\"", b->kb->name,
          urgencies[b->urgency].nice, urgencies[urgency_now(b->kb, b->slots)].nice, b->task->why);
}

// In a thread of its own, as a thread that has made itself nicer cannot take it back.
static void *build(void *context) {
  building *b = context;
  rag_kb *kb = b->kb;
  const struct urgency *urgency = &urgencies[b->urgency];
  rag_index_build_options options = {
      .threads = RAG_MAX(rag_os_cpu_count() / urgency->share, 1u), .progress = go_on, .context = b};
  // Threads that it starts inherit it.
  if (urgency->nice > 0) (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), urgency->nice);
  b->status = rag_index_task_run(kb->index, b->task, b->dir, &options, &b->err);
  pthread_mutex_lock(&kb->segments_lock);
  atomic_store_explicit(&b->ended, true, memory_order_release);
  pthread_cond_broadcast(&kb->segments_changed);
  pthread_mutex_unlock(&kb->segments_lock);
  return NULL;
}

// Something has changed, or POLL_MS have passed.
static void wait_a_little(rag_kb *kb, const building *b) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += POLL_MS * 1000000L;
  until.tv_sec += until.tv_nsec / 1000000000L;
  until.tv_nsec %= 1000000000L;
  pthread_mutex_lock(&kb->segments_lock);
  if (b == NULL || !atomic_load_explicit(&b->ended, memory_order_acquire))
    (void)pthread_cond_timedwait(&kb->segments_changed, &kb->segments_lock, &until);
  pthread_mutex_unlock(&kb->segments_lock);
}

// ---------------------------------------------------------------------------------------------- tasks

// Ordinals alive at the head of some branch, and the end of those that are durable.
static rag_status alive(rag_kb *kb, rag_bitmap **out, uint32_t *out_end, rag_error *err) {
  rag_kb__view *view = rag_cell_get(&kb->view);
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_status status = edit == NULL ? rag_fail_no_memory(err, 0) : RAG_OK;
  *out_end = view->state.next_chunk;
  for (uint32_t i = 0; status == RAG_OK && i < view->branch_count; i++) {
    rag_version *head = NULL;
    status = rag_kb__head(kb, NULL, view, i, &head, err);
    if (status == RAG_OK && rag_bitmap_edit_or(edit, head->chunks) != RAG_OK) status = rag_fail_no_memory(err, 0);
    rag_ref_drop(head);
  }
  rag_ref_drop(view);
  if (status != RAG_OK) {
    rag_bitmap_edit_destroy(edit);
    return status;
  }
  return rag_bitmap_edit_finish(edit, out) == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// Durable, then public, then the old files go. Only memory can be short between: then what is public is a step behind
// what is durable (*out_behind), and the task is kept, to be made public before anything else is done.
static rag_status take_in(rag_kb *kb, const rag_index_task *task, const char *dir, bool *out_behind, rag_error *err) {
  rag_status status = RAG_OK;
  rag_index_segment_info *made = rag_calloc((size_t)task->made_count + 1, sizeof *made);
  if (made == NULL) status = rag_fail_no_memory(err, task->made_count * sizeof *made);
  for (uint32_t i = 0; status == RAG_OK && i < task->made_count; i++) rag_index_task_made(task, i, &made[i]);
  if (status == RAG_OK)
    status = rag_kb__segments_exchange(kb, task->inputs, task->input_count, made, task->made_count, err);
  if (status == RAG_OK) {
    pthread_mutex_lock(&kb->index_lock);
    status = rag_index_task_install(kb->index, task, err);
    pthread_mutex_unlock(&kb->index_lock);
    if (status == RAG_OK) rag_kb__segments_remove(dir, task->inputs, task->input_count);
    else *out_behind = true;
  } else {
    rag_index_task_remove_files(task, dir);
  }
  for (uint32_t i = 0; status == RAG_OK && i < task->made_count; i++)
    rag_log(RAG_LOG_INFO, "kb.sealed", "kb=%s engine=%s rows=%u history=%d bytes=%llu recall=%.4f inputs=%u why=\"%s\"",
            kb->name, made[i].engine, made[i].rows, made[i].history, (unsigned long long)made[i].file_bytes,
            (double)made[i].recall, task->input_count, task->why);
  rag_free(made);
  return status;
}

// Takes over the task. Under segments_lock, as is catch_up.
static void keep_behind(rag_kb *kb, rag_index_task *task) {
  size_t at = 0;
  while (kb->segments_behind[at] != NULL) at++;
  RAG_ASSERT(at < RAG_COUNT_OF(kb->segments_behind)); // no task is begun while there is one, and two may be under way
  kb->segments_behind[at] = task;
}

static void release(rag_kb *kb, unsigned slots, rag_index_task *behind) {
  pthread_mutex_lock(&kb->segments_lock);
  if (behind != NULL) keep_behind(kb, behind);
  kb->segments_slots &= ~slots;
  pthread_cond_broadcast(&kb->segments_changed);
  pthread_mutex_unlock(&kb->segments_lock);
}

static rag_status catch_up(rag_kb *kb, const char *dir, rag_error *err) {
  for (size_t i = 0; i < RAG_COUNT_OF(kb->segments_behind); i++) {
    rag_index_task *task = kb->segments_behind[i];
    if (task == NULL) continue;
    pthread_mutex_lock(&kb->index_lock);
    rag_status status = rag_index_task_install(kb->index, task, err);
    pthread_mutex_unlock(&kb->index_lock);
    RAG_TRY(status);
    rag_kb__segments_remove(dir, task->inputs, task->input_count);
    rag_index_task_destroy(task);
    kb->segments_behind[i] = NULL;
  }
  return RAG_OK;
}

// Above `mark`, which others may write down to, there is room for so many bytes.
static rag_status check_room(rag_kb *kb, uint64_t bytes, bool erasing, rag_error *err) {
  rag_store_stats stats;
  rag_store_stats_get(kb->store, &stats);
  uint64_t mark = erasing ? stats.disk_free_bytes_min / 4 : stats.disk_free_bytes_min; // as the store has it of a purge
  if (stats.disk_free_bytes_min == 0 || stats.disk_free_bytes >= mark + bytes) return RAG_OK;
  return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                  "a segment of the index of '%s' may take %llu MiB, and the disk has %llu MiB left, of which the last "
                  "%llu are kept free: make room; searches stay exact, and it is tried again later",
                  kb->name, (unsigned long long)(bytes >> 20) + 1, (unsigned long long)(stats.disk_free_bytes >> 20),
                  (unsigned long long)(mark >> 20));
}

static rag_status room_to_make(rag_kb *kb, const rag_index_task *task, rag_error *err) {
  uint64_t rows = 0;
  for (int i = 0; i < 2; i++)
    if (task->rows[i] != NULL) rows += rag_bitmap_count(task->rows[i]);
  return check_room(kb, rows * ((uint64_t)kb->dimension * ROW_PLANES + ROW_MORE_BYTES), false, err);
}

static rag_status room_to_erase(rag_kb *kb, const rag_index_task *task, rag_error *err) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < rag_index_view_segments(task->view); i++) {
    rag_index_segment_info info;
    rag_index_view_segment(task->view, i, &info);
    for (uint32_t j = 0; j < task->input_count; j++)
      if (memcmp(&task->inputs[j], &info.id, sizeof info.id) == 0) bytes += info.file_bytes;
  }
  return check_room(kb, bytes, true, err);
}

static rag_status choose(rag_kb *kb, unsigned slots, rag_index_task **out, rag_error *err) {
  rag_bitmap *live = NULL;
  uint32_t end = 0;
  RAG_TRY(alive(kb, &live, &end, err));
  rag_status status = slots == SLOT_SEAL    ? rag_index_task_seal(kb->index, end, out, err)
                      : slots == SLOT_MERGE ? rag_index_task_merge(kb->index, live, out, err)
                                            : rag_index_task_compact(kb->index, live, end, out, err);
  rag_ref_drop(live);
  return status;
}

typedef enum begun { NOTHING, BUSY, BEGUN } begun;

// Begins a task for these slots, if there is one, and they are free.
static rag_status begin(rag_kb *kb, unsigned slots, const char *dir, building *b, begun *out, rag_error *err) {
  rag_status status = RAG_OK;
  *out = NOTHING;
  *b = (building){.kb = kb, .dir = dir, .slots = slots, .begun_ns = rag_clock_monotonic_ns()};
  pthread_mutex_lock(&kb->segments_lock);
  RAG_TRY_OUT(catch_up(kb, dir, err));
  if ((kb->segments_slots & slots) != 0 || atomic_load_explicit(&kb->segments_interrupted, memory_order_relaxed) > 0) {
    *out = BUSY;
    goto out;
  }
  RAG_TRY_OUT(choose(kb, slots, &b->task, err));
  if (b->task == NULL) goto out;
  RAG_TRY_OUT(room_to_make(kb, b->task, err));
  RAG_TRY_OUT(rag_os_make_dirs(dir, err));
  b->urgency = urgency_at_begin(kb, slots);
  int error = pthread_create(&b->thread, NULL, build, b);
  if (error != 0) RAG_TRY_OUT(rag_os_fail(err, "pthread_create", "index", error));
  rag_log(RAG_LOG_DEBUG, "kb.index_begun", "kb=%s nice=%d why=\"%s\"", kb->name, urgencies[b->urgency].nice,
          b->task->why);
  kb->segments_slots |= slots;
  *out = BEGUN;
out:
  pthread_mutex_unlock(&kb->segments_lock);
  if (*out != BEGUN) rag_index_task_destroy(b->task);
  return status;
}

// Searches that began before may hold what was replaced. The last to let go of it frees it, and that should be no search.
static void wait_for_readers(const rag_index_task *task) {
  for (uint32_t look = 0; look < READERS_LOOKS && !rag_index_task_alone(task); look++)
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

// Waits for a task that was begun, and takes in what it made. RAG_CANCELLED: it was stopped.
static rag_status conclude(building *b, rag_error *err) {
  pthread_join(b->thread, NULL);
  rag_status status = b->status;
  bool behind = false;
  if (status == RAG_OK) status = take_in(b->kb, b->task, b->dir, &behind, err);
  else if (err != NULL) *err = b->err;
  if (status == RAG_OK) wait_for_readers(b->task);
  if (!behind) rag_index_task_destroy(b->task);
  release(b->kb, b->slots, behind ? b->task : NULL);
  return status;
}

rag_status rag_kb__segments_erase(rag_kb *kb, const rag_bitmap *chunks, rag_error *err) {
  rag_index_task *task = NULL;
  char *dir = NULL;
  bool behind = false;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb__load(kb, err)); // files that were not opened have rows, too
  atomic_fetch_add(&kb->segments_interrupted, 1);
  pthread_mutex_lock(&kb->segments_lock);
  while (kb->segments_slots != 0) pthread_cond_wait(&kb->segments_changed, &kb->segments_lock);
  atomic_fetch_sub(&kb->segments_interrupted, 1);
  RAG_TRY_OUT(rag_kb__segments_dir(kb, &dir, err));
  RAG_TRY_OUT(catch_up(kb, dir, err));
  RAG_TRY_OUT(rag_index_task_erase(kb->index, chunks, &task, err));
  if (task != NULL) {
    rag_index_build_options options = {.threads = 1};
    RAG_TRY_OUT(room_to_erase(kb, task, err));
    RAG_TRY_OUT(rag_index_task_run(kb->index, task, dir, &options, err));
    status = take_in(kb, task, dir, &behind, err);
    if (behind) {
      keep_behind(kb, task);
      task = NULL;
    }
    RAG_TRY_OUT(status);
  }
  // What no row names any more may hold what is to be erased: an old file that could not be removed when it was due.
  status = rag_kb__segments_sweep(kb, dir, err);
out:
  pthread_mutex_unlock(&kb->segments_lock);
  rag_index_task_destroy(task);
  rag_free(dir);
  return status;
}

// ---------------------------------------------------------------------------------------------- the job

static void make_params(rag_kb *kb, bool compact, rag_buf *out) {
  rag_buf_append_u32le(out, kb->id);
  rag_buf_append_u32le(out, compact ? PARAMS_COMPACT : 0);
}

static rag_status submit(rag_kb *kb, bool compact, uint64_t *out_job, rag_error *err) {
  rag_buf params = {0};
  make_params(kb, compact, &params);
  rag_status status = rag_buf_check(&params, err);
  if (status == RAG_OK)
    status =
        rag_jobs_submit(kb->kbs->jobs, compact ? JOB_COMPACT : JOB, kb->name, rag_buf_slice(&params), out_job, err);
  rag_buf_free(&params);
  return status;
}

// One that waits already, left by an earlier process; 0: none. Command lines run no job, and open a store again and again.
static uint64_t left_waiting(rag_kb *kb) {
  rag_job_info *jobs = NULL;
  rag_buf params = {0};
  uint32_t count = 0;
  uint64_t found = 0;
  make_params(kb, false, &params);
  if (rag_jobs_list(kb->kbs->jobs, 0, JOBS_LOOKED_AT, &jobs, &count, NULL) != RAG_OK) count = 0;
  for (uint32_t i = 0; i < count; i++) {
    const rag_job_info *job = &jobs[i];
    if (job->state == RAG_JOB_QUEUED && strcmp(job->kind, JOB) == 0 &&
        rag_slice_equal(rag_slice_of(job->params, job->params_size), rag_buf_slice(&params)))
      found = job->id;
    rag_job_info_free(&jobs[i]);
  }
  rag_free(jobs);
  rag_buf_free(&params);
  return found;
}

// The flag is up: is there a job that will take it down? One that was cancelled before it began never will.
static bool comes_to_run(rag_kb *kb) {
  uint64_t id = atomic_load(&kb->segments_queued);
  rag_job_info info = {0};
  if (id == 0) return true; // it runs, or is just being submitted
  rag_status status = rag_jobs_get(kb->kbs->jobs, id, &info, NULL);
  bool comes =
      status == RAG_OK ? info.state == RAG_JOB_QUEUED || info.state == RAG_JOB_RUNNING : status != RAG_NOT_FOUND;
  rag_job_info_free(&info);
  return comes || !atomic_compare_exchange_strong(&kb->segments_queued, &id, 0); // one of those who see it submits
}

void rag_kb__segments_wake(rag_kb *kb, bool look) {
  rag_error why = {0};
  uint64_t job = 0;
  if (look) {
    rag_index_view *view = rag_index_pin(kb->index);
    look = rag_index_view_segments(view) > 0;
    rag_ref_drop(view);
  }
  if (!look && !rag_index_wants_task(kb->index)) return;
  uint64_t later_ns = atomic_load_explicit(&kb->segments_later_ns, memory_order_relaxed);
  if (later_ns > 0 && rag_clock_monotonic_ns() < later_ns) return;
  if (!atomic_load_explicit(&kb->loaded, memory_order_acquire)) return;
  if (atomic_exchange(&kb->segments_job, true) && comes_to_run(kb)) return;
  job = left_waiting(kb);
  if (job != 0 || submit(kb, false, &job, &why) == RAG_OK) {
    // Where it has begun meanwhile, comes_to_run finds it running, or the flag down.
    atomic_store(&kb->segments_queued, job);
    return;
  }
  atomic_store_explicit(&kb->segments_later_ns, rag_clock_monotonic_ns() + RETRY_NS, memory_order_relaxed);
  atomic_store(&kb->segments_job, false);
  rag_log(RAG_LOG_WARN, "kb.index_job", "kb=%s error=\"%s\"", kb->name, why.message);
}

rag_status rag_kb_index_compact(rag_kb *kb, uint64_t *out_job, rag_error *err) {
  if (atomic_load_explicit(&kb->deleted, memory_order_relaxed))
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", kb->name);
  return submit(kb, true, out_job, err);
}

typedef struct run {
  rag_kb *kb;
  rag_job *job;
  char *dir;
  uint64_t tasks; // done
  uint32_t looks;
  bool turn_is_over; // and there may be more to do
} run;

static rag_status conclude_one(run *r, building *b, rag_error *err) {
  rag_status status = conclude(b, err);
  if (status == RAG_OK) return rag_job_checkpoint(r->job, rag_slice_of("", 0), ++r->tasks, 0, "tasks", err);
  bool asked = rag_job_should_stop(r->job) || atomic_load_explicit(&r->kb->deleted, memory_order_relaxed);
  if (status == RAG_CANCELLED && !asked) return RAG_OK; // by an erasure, or it starved: the same task comes again
  return status;
}

// A sealing, whole. *out: BUSY also where somebody else is at it.
static rag_status seal_one(run *r, begun *out, rag_error *err) {
  building b;
  RAG_TRY(begin(r->kb, SLOT_SEAL, r->dir, &b, out, err));
  if (*out != BEGUN) return RAG_OK;
  while (!atomic_load_explicit(&b.ended, memory_order_acquire)) {
    if (rag_job_should_stop(r->job)) atomic_store_explicit(&b.stop, true, memory_order_relaxed);
    stop_if_it_starves(&b);
    wait_a_little(r->kb, &b);
  }
  return conclude_one(r, &b, err);
}

// Seals and merges until there is nothing to do. A merge goes on while the tail is sealed again and again.
static rag_status keep_house(run *r, rag_error *err) {
  building merge;
  begun merging = NOTHING, sealing;
  rag_status status = RAG_OK;
  for (;;) {
    r->turn_is_over = merging != BEGUN && r->tasks >= TURN_TASKS;
    if (r->turn_is_over) break;
    RAG_TRY_OUT(seal_one(r, &sealing, err));
    if (merging == BEGUN && atomic_load_explicit(&merge.ended, memory_order_acquire)) {
      merging = NOTHING;
      RAG_TRY_OUT(conclude_one(r, &merge, err));
      continue;
    }
    if (merging != BEGUN) RAG_TRY_OUT(begin(r->kb, SLOT_MERGE, r->dir, &merge, &merging, err));
    if (sealing == BEGUN) continue;
    if (sealing == NOTHING && merging == NOTHING) break;
    // Where somebody else merges, it is theirs to go on after.
    if (sealing == NOTHING && merging == BUSY && atomic_load(&r->kb->segments_interrupted) == 0) break;
    if (rag_job_should_stop(r->job)) {
      if (merging == BEGUN) atomic_store_explicit(&merge.stop, true, memory_order_relaxed);
      else RAG_TRY_OUT(rag_job_checkpoint(r->job, rag_slice_of("", 0), r->tasks, 0, "tasks", err));
    }
    if (merging == BEGUN) stop_if_it_starves(&merge);
    wait_a_little(r->kb, merging == BEGUN ? &merge : NULL);
  }
out:
  if (merging == BEGUN) {
    rag_error ignored = {0};
    atomic_store_explicit(&merge.stop, true, memory_order_relaxed);
    rag_status stopped = conclude(&merge, &ignored);
    RAG_UNUSED(stopped);
  }
  return status;
}

static rag_status make_compact(run *r, rag_error *err) {
  building b;
  begun begun_it = BUSY;
  while (begun_it == BUSY) {
    if (rag_job_should_stop(r->job)) return rag_job_checkpoint(r->job, rag_slice_of("", 0), 0, 0, "tasks", err);
    RAG_TRY(begin(r->kb, SLOT_SEAL | SLOT_MERGE, r->dir, &b, &begun_it, err));
    if (begun_it == BUSY) wait_a_little(r->kb, NULL);
  }
  if (begun_it == NOTHING) return RAG_OK;
  while (!atomic_load_explicit(&b.ended, memory_order_acquire)) {
    if (rag_job_should_stop(r->job)) atomic_store_explicit(&b.stop, true, memory_order_relaxed);
    wait_a_little(r->kb, &b);
  }
  uint64_t before = r->tasks;
  RAG_TRY(conclude_one(r, &b, err));
  return r->tasks > before ? RAG_OK : make_compact(r, err); // interrupted
}

// Until nothing has come between the last look and the clearing of the flag, which would be nobody's.
static rag_status keep_house_alone(run *r, rag_error *err) {
  rag_kb *kb = r->kb;
  atomic_store(&kb->segments_queued, 0);
  atomic_store(&kb->segments_job, true); // also of a job that an earlier process has left
  for (;;) {
    rag_status status = keep_house(r, err);
    atomic_store(&kb->segments_job, false);
    if (status != RAG_OK) {
      if (status != RAG_ABORTED && status != RAG_CANCELLED)
        atomic_store_explicit(&kb->segments_later_ns, rag_clock_monotonic_ns() + RETRY_NS, memory_order_relaxed);
      return status;
    }
    if (r->turn_is_over) {
      rag_kb__segments_wake(kb, true);
      return RAG_OK;
    }
    if (!rag_index_wants_task(kb->index) || r->looks++ >= LOOKS_MAX || rag_job_should_stop(r->job) ||
        atomic_exchange(&kb->segments_job, true))
      return RAG_OK;
    wait_a_little(kb, NULL); // rows that are not durable yet
  }
}

rag_status rag_kb__segments_run(void *ctx, rag_job *job, rag_error *err) {
  rag_kbs *kbs = ctx;
  rag_reader params = rag_reader_of(rag_job_params(job));
  uint32_t id = rag_read_u32le(&params), mode = rag_read_u32le(&params);
  if (params.bad) return rag_fail(err, RAG_DATA_LOSS, "the job's parameters cannot be decoded");
  run r = {.kb = rag_kbs__find(kbs, id), .job = job};
  if (r.kb == NULL) return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", rag_job_subject(job));
  rag_status status = rag_kb__segments_dir(r.kb, &r.dir, err);
  if (status == RAG_OK) status = rag_kb__load(r.kb, err);
  if (status == RAG_OK) status = mode == PARAMS_COMPACT ? make_compact(&r, err) : keep_house_alone(&r, err);
  else if (mode != PARAMS_COMPACT) atomic_store(&r.kb->segments_job, false);
  rag_free(r.dir);
  rag_ref_drop(r.kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- what callers see

rag_status rag_kb_index_info(rag_kb *kb, rag_kb_index *out, rag_error *err) {
  RAG_TRY(rag_kb__load(kb, err));
  rag_kb_index info = {0};
  rag_index_view *view = rag_index_pin(kb->index);
  info.count = rag_index_view_segments(view);
  info.segments = rag_calloc((size_t)info.count + 1, sizeof *info.segments);
  rag_status status = info.segments == NULL ? rag_fail_no_memory(err, info.count * sizeof *info.segments) : RAG_OK;
  if (status == RAG_OK) {
    info.rows = rag_index_view_rows(view);
    info.tail_rows = rag_index_view_tail_rows(view);
    info.memory_bytes = rag_index_memory_bytes(kb->index);
    info.building = atomic_load(&kb->segments_job);
    snprintf(info.build, sizeof info.build, "%s", rag_index_view_build(view));
    for (uint32_t i = 0; i < info.count; i++) rag_index_view_segment(view, i, &info.segments[i]);
    *out = info;
  }
  rag_ref_drop(view);
  return status;
}

void rag_kb_index_free(rag_kb_index *info) {
  rag_free(info->segments);
  *info = (rag_kb_index){0};
}
