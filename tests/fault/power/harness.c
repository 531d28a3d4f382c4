// The parent's side (harness.h). Not preloaded: it reads and opens what is left with the plain calls.
#include "tests/fault/power/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRATCH_KBS 64u               // in one scratch store
#define JUDGE_BUFFER_BYTES (1u << 20) // RocksDB allocates a log of that size for every flush, which purges ask for
#define MEMORY_DISK "/dev/shm"
#define MEMORY_DISK_BYTES (UINT64_C(1) << 30) // free, for its use

static _Noreturn void broken(const char *what, const char *path) {
  fprintf(stderr, "the harness cannot go on: %s %s: %s\n", what, path, strerror(errno));
  exit(2);
}

static void in_base(const harness *h, const char *name, char out[PATH_MAX]) {
  if (snprintf(out, PATH_MAX, "%.3900s/%s", h->base, name) >= PATH_MAX) broken("too long", name);
}

uint64_t harness_random(harness *h, uint64_t below) {
  return fault_random(&h->random) % below;
}

static FILE *child_log(const harness *h) {
  char path[PATH_MAX];
  in_base(h, "child.log", path);
  return fopen(path, "re");
}

static void show_child_log(const harness *h) {
  char line[4096];
  FILE *log = child_log(h);
  for (uint32_t shown = 0; log != NULL && shown < 20 && fgets(line, sizeof line, log) != NULL;) {
    if (strstr(line, " level=info ") != NULL) continue;
    if (shown++ == 0) fprintf(stderr, "  the child said:\n");
    fprintf(stderr, "%.400s%s", line, strchr(line, '\n') == NULL ? "\n" : "");
  }
  if (log != NULL) fclose(log);
}

// What the child made of its index, from its log, and whether it was killed while it made something.
static void count_segments(harness *h) {
  char line[4096], path[PATH_MAX];
  FILE *log = child_log(h);
  while (log != NULL && fgets(line, sizeof line, log) != NULL) {
    if (strstr(line, "kb.sealed") == NULL) continue;
    if (strstr(line, "the tail is long") != NULL) h->sealed++;
    else if (strstr(line, "rows to be erased") != NULL) h->erased++;
    else h->merged++;
  }
  if (log != NULL) fclose(log);
  in_base(h, "live/data/index/1/1", path);
  DIR *folder = opendir(path);
  bool building = false;
  for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
    building |= strstr(entry->d_name, ".part") != NULL;
  if (folder != NULL) closedir(folder);
  h->cut_while_building += building;
}

void harness_violation(harness *h, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fprintf(stderr, "VIOLATION: ");
  vfprintf(stderr, fmt, args);
  fprintf(stderr, "\n");
  va_end(args);
  show_child_log(h);
  h->violations++;
}

// The programs lie beside each other.
static void beside(const char *program, const char *name, char out[PATH_MAX]) {
  char self[PATH_MAX];
  if (realpath(program, self) == NULL) broken("realpath", program);
  *strrchr(self, '/') = '\0';
  if (snprintf(out, PATH_MAX, "%.3900s/%s", self, name) >= PATH_MAX) broken("too long", name);
  if (access(out, R_OK) != 0) broken("find", out);
}

// A folder in memory, where there is one: what a disk would hold is faultfs's to say, and thousands of files made and
// removed a second are slow on a real one (ext4 walks over the numbers of those that were removed just now).
static const char *default_tmp(void) {
  struct statvfs disk;
  bool roomy = statvfs(MEMORY_DISK, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize >= MEMORY_DISK_BYTES;
  return roomy && access(MEMORY_DISK, W_OK) == 0 ? MEMORY_DISK : "/tmp";
}

void harness_open(harness *h, const char *program, uint64_t seed) {
  const char *tmp = getenv("TMPDIR");
  char path[PATH_MAX];
  beside(program, "fault_power_writer", h->writer);
  beside(program, "fault_power_faultfs.so", h->shim);
  h->random = seed;
  h->sync_us = 1000;
  snprintf(h->base, sizeof h->base, "%s/ragd-power-XXXXXX", tmp != NULL ? tmp : default_tmp());
  if (mkdtemp(h->base) == NULL) broken("mkdtemp", h->base);
  in_base(h, "report", path);
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof *h->report) != 0) broken("make", path);
  h->report = mmap(NULL, sizeof *h->report, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (h->report == MAP_FAILED) broken("map", path);
  close(fd);
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
}

static void remove_in_base(const harness *h, const char *name) {
  char path[PATH_MAX];
  in_base(h, name, path);
  if (rag_os_remove_tree(path, NULL) != RAG_OK) broken("remove", path);
}

static void make_in_base(const harness *h, const char *name) {
  char path[PATH_MAX];
  in_base(h, name, path);
  if (mkdir(path, 0700) != 0) broken("mkdir", path);
}

static void close_scratch(harness *h) {
  if (h->scratch_jobs != NULL) rag_jobs_close(h->scratch_jobs);
  if (h->scratch != NULL) rag_kbs_close(h->scratch);
  rag_store_close(h->scratch_store);
  h->scratch_jobs = NULL;
  h->scratch = NULL;
  h->scratch_store = NULL;
}

// Begun anew now and then: deleting what was used would cost more.
static void open_scratch(harness *h) {
  char path[PATH_MAX];
  rag_error err = {0};
  rag_store_options options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  if (h->scratch != NULL && h->scratch_serial % SCRATCH_KBS != 0) return;
  close_scratch(h);
  remove_in_base(h, "scratch");
  options.sync = false; // nobody cuts its power
  options.write_buffer_bytes = JUDGE_BUFFER_BYTES;
  in_base(h, "scratch", path);
  if (rag_store_open(path, &options, &h->scratch_store, &err) != RAG_OK ||
      rag_jobs_open(h->scratch_store, 0, &h->scratch_jobs, &err) != RAG_OK ||
      rag_kbs_open(h->scratch_store, h->scratch_jobs, &kbs_options, &h->scratch, &err) != RAG_OK)
    broken(err.message, path);
}

void harness_close(harness *h) {
  close_scratch(h);
  munmap(h->report, sizeof *h->report);
  if (h->violations == 0 || getenv("RAGD_POWER_KEEP") == NULL) {
    if (rag_os_remove_tree(h->base, NULL) != RAG_OK) broken("remove", h->base);
  } else {
    fprintf(stderr, "kept: %s\n", h->base);
  }
  rag_free(h->history);
  h->history = NULL;
}

void harness_fresh(harness *h, uint32_t threads) {
  remove_in_base(h, "live");
  make_in_base(h, "live");
  memset(&h->first, 0, sizeof h->first);
  h->first.seed = fault_random(&h->random);
  h->first.threads = threads;
  for (uint32_t i = 0; i < THREADS_MAX; i++) h->first.thread[i].next = 1;
  h->now = h->first;
  h->kb_acknowledged = false;
  h->history_count = 0;
  h->gc_possible = false;
}

void harness_print_kinds(const harness *h) {
  static const char *const names[] = {"puts",
                                      "patches",
                                      "branches",
                                      "side puts",
                                      "merges",
                                      "rollbacks",
                                      "tags",
                                      "deletions by filter",
                                      "branch deletions",
                                      "tag deletions",
                                      "purges",
                                      "gcs"};
  _Static_assert(RAG_COUNT_OF(names) == OP_GC + 1, "every kind has a name");
  for (size_t i = 0; i < RAG_COUNT_OF(names); i++)
    printf("%s%llu %s", i ? ", " : "acknowledged: ", (unsigned long long)h->acknowledged_of[i], names[i]);
  printf(
      "; %llu versions that gc took, %llu jobs looked up, %llu of them went on after the cut, %llu versions searched "
      "beside a fresh knowledge base\n",
      (unsigned long long)h->total_gone, (unsigned long long)h->total_jobs, (unsigned long long)h->total_resumed,
      (unsigned long long)h->total_agreements);
  printf("of the index: %llu segments sealed, %llu merged, %llu rewritten for a purge; %llu children ended while they "
         "wrote one, %llu before a step on one that was chosen\n",
         (unsigned long long)h->sealed, (unsigned long long)h->merged, (unsigned long long)h->erased,
         (unsigned long long)h->cut_while_building, (unsigned long long)h->killed_in_segments);
}

// ---------------------------------------------------------------------------------------------- the child

static void child(const harness *h, const char *plan, uint32_t ops, int out) {
  char live[PATH_MAX], data[PATH_MAX], durable[PATH_MAX], orders[PATH_MAX], report[PATH_MAX], log[PATH_MAX];
  char ops_text[16], sync_text[24];
  const char *args[10] = {h->writer, data, orders, ops_text};
  uint32_t count = 4;
  in_base(h, "live", live);
  in_base(h, "live/data", data);
  in_base(h, "durable", durable);
  in_base(h, "model", orders);
  in_base(h, "report", report);
  in_base(h, "child.log", log);
  snprintf(ops_text, sizeof ops_text, "%u", ops);
  snprintf(sync_text, sizeof sync_text, "%ld", h->sync_us);
  for (uint32_t i = 0; i < h->extra_count; i++) args[count++] = h->extra[i];
  int log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (log_fd < 0 || dup2(out, 1) < 0 || dup2(log_fd, 2) < 0) _exit(3);
  setenv("RAGD_FAULT_DIR", live, 1);
  setenv("RAGD_FAULT_DURABLE", durable, 1);
  setenv("RAGD_FAULT_REPORT", report, 1);
  setenv("RAGD_FAULT_SYNC_US", sync_text, 1);
  setenv("RAGD_FAULT_PLAN", plan, 1);
  if (h->entries_with_file) setenv("RAGD_FAULT_ENTRIES", "with-file", 1);
  setenv("LD_PRELOAD", h->shim, 1);
  execv(h->writer, (char *const *)(uintptr_t)args);
  _exit(3);
}

void harness_spawn(harness *h, const char *plan, uint32_t ops) {
  int ends[2];
  char orders[PATH_MAX];
  remove_in_base(h, "durable");
  make_in_base(h, "durable");
  in_base(h, "model", orders);
  if (!model_save(&h->now, orders)) broken("write", orders);
  memset(h->report, 0, sizeof *h->report);
  h->acknowledged = h->failed = h->errors = 0;
  h->opened = h->closed = false;
  h->open_failure[0] = h->error_text[0] = '\0';
  h->line_size = 0;
  if (pipe2(ends, O_CLOEXEC) != 0) broken("pipe", "");
  h->pid = fork();
  if (h->pid < 0) broken("fork", "");
  if (h->pid == 0) child(h, plan, ops, ends[1]);
  close(ends[1]);
  h->answers = ends[0];
}

// What the operation was and did is known from its number: the model's next of that thread.
static void take_answer(harness *h, uint32_t thread, uint32_t seq, bool applied, uint64_t commit, const char *digest) {
  char expected[2 * RAG_DIGEST_BYTES + 1];
  if (thread >= h->now.threads) broken("an answer of no thread", h->line);
  op o = model_next(&h->now, thread);
  rag_digest sum = model_digest(&h->now, &o);
  rag_hex(sum.bytes, RAG_DIGEST_BYTES, expected);
  if (o.seq != seq || (digest != NULL && strcmp(digest, expected) != 0)) broken("the model and the child disagree", "");
  model_apply(&h->now.thread[thread], &o, applied);
  h->gc_possible |= o.kind == OP_GC;
  if (applied && digest != NULL) h->acknowledged_of[o.kind]++;
  if (h->history_count == h->history_capacity) {
    h->history_capacity = RAG_MAX((size_t)1024, h->history_capacity * 2);
    h->history = rag_realloc_array(h->history, h->history_capacity, sizeof *h->history);
    if (h->history == NULL) broken("memory", "");
  }
  h->history[h->history_count++] = (history_entry){thread, seq, applied, commit};
}

static void take_line(harness *h) {
  unsigned thread = 0, seq = 0;
  unsigned long long commit = 0;
  char digest[64];
  switch (h->line[0]) {
  case 'K':
    h->opened = h->kb_acknowledged = true;
    return;
  case 'D':
    h->closed = true;
    return;
  case 'O':
    snprintf(h->open_failure, sizeof h->open_failure, "%.590s", h->line + 2);
    return;
  case 'V':
    harness_violation(h, "%s", h->line + 2);
    return;
  case 'A':
    if (sscanf(h->line, "A %u %u %llu %63s", &thread, &seq, &commit, digest) != 4) broken("bad answer", h->line);
    take_answer(h, thread, seq, true, commit, digest);
    h->acknowledged++;
    h->total_acknowledged++;
    return;
  case 'F':
    if (sscanf(h->line, "F %u %u", &thread, &seq) != 2) broken("bad answer", h->line);
    take_answer(h, thread, seq, false, 0, NULL);
    snprintf(h->error_text, sizeof h->error_text, "%.590s", h->line);
    h->failed++;
    return;
  case 'E': // may have been done or not: as the one that a kill interrupts
    snprintf(h->error_text, sizeof h->error_text, "%.590s", h->line);
    h->errors++;
    return;
  default:
    broken("bad answer", h->line);
  }
}

static void take_bytes(harness *h, const char *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (bytes[i] != '\n') {
      if (h->line_size + 1 >= sizeof h->line) broken("long answer", "");
      h->line[h->line_size++] = bytes[i];
      continue;
    }
    h->line[h->line_size] = '\0';
    h->line_size = 0;
    take_line(h);
  }
}

bool harness_listen(harness *h, uint64_t us) {
  char bytes[8192];
  uint64_t end_ns = rag_clock_monotonic_ns() + us * 1000;
  for (;;) {
    uint64_t now_ns = rag_clock_monotonic_ns();
    if (now_ns >= end_ns) return false;
    struct pollfd wanted = {.fd = h->answers, .events = POLLIN};
    struct timespec left = {.tv_sec = (time_t)((end_ns - now_ns) / 1000000000),
                            .tv_nsec = (long)((end_ns - now_ns) % 1000000000)};
    if (ppoll(&wanted, 1, &left, NULL) <= 0) continue;
    ssize_t got = read(h->answers, bytes, sizeof bytes);
    if (got == 0) return true;
    if (got < 0) broken("read", "the answers");
    take_bytes(h, bytes, (size_t)got);
  }
}

void harness_end(harness *h, bool kill_it) {
  char bytes[8192];
  ssize_t got;
  if (kill_it) kill(h->pid, SIGKILL);
  // What is in the pipe was said before the end.
  while ((got = read(h->answers, bytes, sizeof bytes)) > 0) take_bytes(h, bytes, (size_t)got);
  close(h->answers);
  if (waitpid(h->pid, &h->exit_status, 0) != h->pid) broken("waitpid", "");
  count_segments(h);
}

// ---------------------------------------------------------------------------------------------- the judgement

// Each thread is where it was acknowledged to be, or one operation further, wholly.
static bool judge_threads(harness *h, rag_kb *kb, model *m) {
  for (uint32_t t = 0; t < m->threads; t++) {
    rag_error before = {0}, after = {0};
    if (check_thread(kb, m, t, &m->thread[t], &before)) continue;
    op o = model_next(m, t);
    thread_state further = m->thread[t];
    model_apply(&further, &o, true);
    if (!check_thread(kb, m, t, &further, &after)) {
      harness_violation(h, "thread %u, answered up to %u: %s\n  nor is the next one (kind %d) wholly there: %s", t,
                        m->thread[t].next - 1, before.message, o.kind, after.message);
      return false;
    }
    m->thread[t] = further;
    h->total_in_flight_kept++;
  }
  return true;
}

static bool writes_main(op_kind kind) {
  return kind == OP_PUT || kind == OP_METADATA || kind == OP_MERGE || kind == OP_DELETE_FILTER;
}

static int by_number(const void *a, const void *b) {
  const uint64_t *x = a, *y = b;
  return *x < *y ? -1 : *x > *y;
}

// *log owned.
static history_facts gather_facts(const harness *h, uint64_t **log) {
  history_facts facts = {.gc_possible = h->gc_possible, .main_unknown = THREADS_MAX}; // in flight now
  model replayed = h->first;
  uint64_t *all = rag_calloc(h->history_count + 1, sizeof *all);
  size_t count = 0, distinct = 0;
  if (all == NULL) broken("memory", "");
  for (size_t i = 0; i < h->history_count; i++) {
    const history_entry *entry = &h->history[i];
    op o = model_next(&replayed, entry->thread);
    model_apply(&replayed.thread[entry->thread], &o, entry->applied);
    if (!writes_main(o.kind)) continue;
    if (entry->commit != 0) all[count++] = entry->commit;
    else facts.main_unknown++;
  }
  for (uint32_t t = 0; t < h->now.threads; t++) facts.gc_possible |= model_next(&h->now, t).kind == OP_GC;
  qsort(all, count, sizeof *all, by_number);
  for (size_t i = 0; i < count; i++)
    if (i == 0 || all[i] != all[i - 1]) all[distinct++] = all[i];
  facts.main_log = *log = all;
  facts.main_log_count = distinct;
  return facts;
}

static bool judge_job(harness *h, rag_jobs *jobs, const op *o, uint64_t job, bool ended) {
  rag_job_info info = {0};
  rag_error err = {0};
  bool good = false;
  if (rag_jobs_get(jobs, job, &info, &err) != RAG_OK) {
    harness_violation(h, "thread %u, operation %u (kind %d) was answered with job %llu: %s", o->thread, o->seq, o->kind,
                      (unsigned long long)job, err.message);
    return false;
  }
  if (strcmp(info.kind, o->kind == OP_GC ? "gc" : "purge") != 0)
    harness_violation(h, "job %llu is a %s", (unsigned long long)job, info.kind);
  else if (info.state == RAG_JOB_SUCCEEDED || (info.state == RAG_JOB_FAILED && h->jobs_may_fail)) good = true;
  else if (info.state == RAG_JOB_QUEUED && !ended) good = true;
  else
    harness_violation(h, "job %llu (%s) is %s: %s", (unsigned long long)job, info.kind, rag_job_state_name(info.state),
                      info.error);
  if (!ended) h->total_jobs++, h->total_resumed += info.state == RAG_JOB_QUEUED;
  rag_job_info_free(&info);
  return good;
}

static bool judge_entry(harness *h, rag_kb *kb, const model *m, const model *replayed, const op *o,
                        const history_entry *entry, const history_facts *facts) {
  rag_error err = {0};
  h->total_checked_at_commit++;
  if (check_at_commit(kb, replayed, o, &replayed->thread[entry->thread], &m->thread[entry->thread], entry->commit,
                      facts, &err)) {
    h->total_gone += err.status == RAG_NOT_FOUND && o->kind != OP_TAG;
    return true;
  }
  harness_violation(h, "thread %u, operation %u (kind %d) was acknowledged at commit %llu: %s", o->thread, o->seq,
                    o->kind, (unsigned long long)entry->commit, err.message);
  return false;
}

// jobs_ended: all that were queued have run.
static bool judge_history(harness *h, rag_kb *kb, rag_jobs *jobs, const model *m, bool jobs_ended) {
  model replayed = h->first;
  uint64_t *log = NULL;
  history_facts facts = gather_facts(h, &log);
  bool good = true;
  for (size_t i = 0; good && i < h->history_count; i++) {
    const history_entry *entry = &h->history[i];
    op o = model_next(&replayed, entry->thread);
    RAG_ASSERT(o.seq == entry->seq);
    model_apply(&replayed.thread[entry->thread], &o, entry->applied);
    if (!entry->applied || entry->commit == 0) continue;
    if (o.kind == OP_PURGE || o.kind == OP_GC) good = judge_job(h, jobs, &o, entry->commit, jobs_ended);
    else good = judge_entry(h, kb, m, &replayed, &o, entry, &facts);
  }
  rag_free(log);
  return good;
}

// A segment's file is durable before its row is: a row without a file is a violation, though nothing is lost with it. Not
// so where the commit of the row was said to have failed, which took the file away, and the row came through.
static void say_report(void *ctx, rag_check_level level, const char *name, const char *text) {
  harness *h = ctx;
  bool lost = strncmp(text, "segment ", 8) == 0 && !h->jobs_may_fail;
  if (level == RAG_CHECK_ERROR || lost) harness_violation(h, "the check of every row, '%s': %s", name, text);
}

static bool judge_rows(harness *h, rag_kbs *kbs) {
  rag_check_options options = {.report = say_report, .ctx = h};
  rag_check_result result = {0};
  rag_error err = {0};
  uint64_t before = h->violations;
  if (rag_kbs_check(kbs, &options, &result, &err) == RAG_OK) return result.errors == 0 && h->violations == before;
  harness_violation(h, "the check of every row: %s", err.message);
  return false;
}

// main, and one tag or branch of one thread.
static bool judge_search(harness *h, rag_kb *kb, const model *m) {
  char at[64] = "";
  rag_error err = {0};
  open_scratch(h);
  const thread_state *t = &m->thread[harness_random(h, m->threads)];
  for (int which = 0; which < 2; which++) {
    if (which == 1 && t->tag_count > 0 && harness_random(h, 2))
      model_tag((uint32_t)(t - m->thread), t->tags[0].seq, at);
    else if (which == 1 && t->has_branch) model_branch((uint32_t)(t - m->thread), at);
    else if (which == 1) break;
    h->total_agreements++;
    if (check_agreement(kb, at, h->scratch, &h->scratch_serial, &err)) continue;
    harness_violation(h, "%s", err.message);
    return false;
  }
  return true;
}

static bool judge_state(harness *h, rag_kb *kb, rag_jobs *jobs, const model *m, bool jobs_ended) {
  rag_error err = {0};
  if (!judge_history(h, kb, jobs, m, jobs_ended)) return false;
  if (!check_whole(kb, m, &err)) {
    harness_violation(h, "the whole: %s", err.message);
    return false;
  }
  return judge_search(h, kb, m);
}

static bool judge_kb(harness *h, rag_kbs *kbs, rag_kb *kb, rag_jobs *jobs, model *m) {
  rag_error err = {0};
  // Before anything is loaded, which would put right what is wrong with the files of the index.
  if (!judge_rows(h, kbs) || !judge_threads(h, kb, m) || !judge_state(h, kb, jobs, m, false)) return false;
  if (rag_jobs_start(jobs, &err) != RAG_OK || rag_jobs_run_foreground(jobs, NULL, NULL, &err) != RAG_OK) {
    harness_violation(h, "jobs do not go on: %s", err.message);
    return false;
  }
  for (uint32_t t = 0; t < m->threads; t++) {
    if (check_thread(kb, m, t, &m->thread[t], &err)) continue;
    harness_violation(h, "thread %u, after the jobs have gone on: %s", t, err.message);
    return false;
  }
  return judge_state(h, kb, jobs, m, true) && judge_rows(h, kbs);
}

bool harness_judge(harness *h, const char *dir, model *m) {
  char data[PATH_MAX];
  rag_error err = {0};
  rag_store_options options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  rag_store *store = NULL;
  rag_jobs *jobs = NULL;
  rag_kbs *kbs = NULL;
  rag_kb *kb = NULL;
  bool good = false;
  options.cache_bytes = 8u << 20;
  options.write_buffer_bytes = JUDGE_BUFFER_BYTES;
  kbs_options.seal_rows = 24; // as the writer's
  kbs_options.graph_rows = 200;
  kbs_options.load_at_open = false;
  if (snprintf(data, sizeof data, "%.3900s/data", dir) >= (int)sizeof data) broken("too long", dir);
  if (rag_store_open(data, &options, &store, &err) != RAG_OK || rag_jobs_open(store, 0, &jobs, &err) != RAG_OK ||
      rag_kbs_open(store, jobs, &kbs_options, &kbs, &err) != RAG_OK) {
    if (h->may_refuse) h->refused++, printf("refused: %s\n", err.message);
    else harness_violation(h, "it does not open again: %s", err.message);
    goto out;
  }
  rag_status status = rag_kbs_get(kbs, rag_slice_str(KB_NAME), &kb, &err);
  if (status == RAG_OK) good = judge_kb(h, kbs, kb, jobs, m);
  else if (status == RAG_NOT_FOUND && !h->kb_acknowledged) good = true;
  else harness_violation(h, "the knowledge base was acknowledged: %s", err.message);
out:
  rag_ref_drop(kb);
  if (jobs != NULL) rag_jobs_close(jobs);
  if (kbs != NULL) rag_kbs_close(kbs);
  rag_store_close(store);
  return good;
}

// An operation in flight that is there counts from now on as done; nobody was told its commit.
static void adopt(harness *h, const model *found) {
  for (uint32_t t = 0; t < h->now.threads; t++) {
    if (found->thread[t].next == h->now.thread[t].next) {
      // Not there: its number is used up, so that a later operation cannot be taken for it.
      take_answer(h, t, h->now.thread[t].next, false, 0, NULL);
    } else {
      take_answer(h, t, h->now.thread[t].next, true, 0, NULL);
    }
  }
}

bool harness_power_cut(harness *h, replay_mode mode, bool crash_too) {
  char live[PATH_MAX], durable[PATH_MAX], check[PATH_MAX], next[PATH_MAX];
  model found = h->now;
  uint64_t seed = fault_random(&h->random), again = seed;
  in_base(h, "live", live);
  in_base(h, "durable", durable);
  in_base(h, "durable/root", check);
  if (!rag_os_exists(check)) return true; // killed before it had done anything
  in_base(h, "check", check);
  in_base(h, "next", next);
  remove_in_base(h, "check");
  remove_in_base(h, "next");
  if (!replay(durable, live, check, mode, &seed) || !replay(durable, live, next, mode, &again))
    broken("replay", durable);
  if (crash_too) { // after the replays: it changes the files that they read
    model left = h->now;
    if (!harness_judge(h, live, &left)) return false;
  }
  h->may_refuse = mode == REPLAY_HOLES;
  bool good = harness_judge(h, check, &found);
  h->may_refuse = false;
  if (!good) return false;
  adopt(h, &found);
  remove_in_base(h, "live");
  if (rename(next, live) != 0) broken("rename", next);
  return true;
}
