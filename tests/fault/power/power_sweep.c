// Goal: one file call that fails, wherever it comes, costs at most the call in flight. What was acknowledged before
// stays; after a failed write or sync of the log nothing is acknowledged any more, and the message names the cause;
// reads go on; a restart without faults recovers. Method: for every kind of fault, children whose Nth call of a class
// fails so, N from 1 to the number of calls that a run makes, in steps that fill the time. The child checks what is
// seen from inside (writer.c); then the power is cut as well, and both what the disk would hold and what the process
// left behind are judged. A small write buffer makes flushes and compactions part of every run, so their failures are
// met too. Every second child starts on what the one before left, so that recovery is met as well.
//
// Usage: fault_power_sweep [--seconds S] [--seed S] [--only CLASS:ERROR] [--group store|full|index]
// Groups: full is a disk that is full and stays so (RocksDB waits for room for seconds when it is closed then, so these
// children take long); index is the files of the index alone; store is all else.
#include "tests/fault/power/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define THREADS 3u
#define OPS 60u // of each thread and child
#define RUN_US_MAX UINT64_C(60000000)
#define BUFFER_BYTES "buffer=262144"
#define CHAIN 6u // children on one folder

static const char *const CLASSES[] = FAULT_CLASS_NAMES;

typedef struct kind {
  fault_class class;
  const char *error;
  bool forever;
  const char *part;
} kind;

// Last, the files of the index, in every step of their making, reading and removing.
static const kind KINDS[] = {
    {FAULT_WRITE, "EIO", false, ""},         {FAULT_WRITE, "ENOSPC", true, ""},
    {FAULT_WRITE, "ENOSPC", false, ""},      {FAULT_WRITE, "SHORT", true, ""},
    {FAULT_WRITE, "EIO", false, ".log"},     {FAULT_WRITE, "ENOSPC", true, ".sst"},
    {FAULT_WRITE, "EIO", false, ".sst"},     {FAULT_WRITE, "EIO", false, ".blob"},
    {FAULT_WRITE, "EIO", false, "MANIFEST"}, {FAULT_WRITE, "KILL", false, ""},
    {FAULT_FSYNC, "EIO", false, ""},         {FAULT_FSYNC, "EIO", true, ""},
    {FAULT_FSYNC, "KILL", false, ""},        {FAULT_FDATASYNC, "EIO", false, ""},
    {FAULT_FDATASYNC, "EIO", false, ".log"}, {FAULT_FDATASYNC, "ENOSPC", true, ".log"},
    {FAULT_FDATASYNC, "KILL", false, ""},    {FAULT_OPEN, "EIO", false, ""},
    {FAULT_OPEN, "EMFILE", false, ""},       {FAULT_OPEN, "ENOSPC", true, ""},
    {FAULT_OPEN, "KILL", false, ""},         {FAULT_READ, "EIO", false, ""},
    {FAULT_READ, "EIO", true, ""},           {FAULT_READ, "SHORT", true, ""},
    {FAULT_RENAME, "EIO", false, ""},        {FAULT_RENAME, "KILL", false, ""},
    {FAULT_UNLINK, "EIO", false, ""},        {FAULT_UNLINK, "KILL", false, ""},
    {FAULT_TRUNCATE, "EIO", false, ""},      {FAULT_ALLOCATE, "ENOSPC", true, ""},
    {FAULT_CLOSE, "EIO", false, ""},         {FAULT_MKDIR, "ENOSPC", false, ""},
    {FAULT_WRITE, "EIO", false, ".seg"},     {FAULT_WRITE, "ENOSPC", true, ".seg"},
    {FAULT_WRITE, "KILL", false, ".seg"},    {FAULT_FSYNC, "EIO", false, ".seg"},
    {FAULT_FSYNC, "KILL", false, ".seg"},    {FAULT_RENAME, "KILL", false, ".seg"},
    {FAULT_UNLINK, "EIO", false, ".seg"},    {FAULT_UNLINK, "KILL", false, ".seg"},
    {FAULT_READ, "EIO", false, ".seg"},      {FAULT_OPEN, "EMFILE", false, ".seg"},
};
#define KIND_COUNT RAG_COUNT_OF(KINDS)

typedef struct tally {
  uint32_t runs, fired, error_state, one_call, not_opened, unnoticed;
} tally;

static const char *group_of(const kind *k) {
  if (strcmp(k->part, ".seg") == 0) return "index";
  return k->forever && strcmp(k->error, "ENOSPC") == 0 ? "full" : "store";
}

static bool is_wanted(const kind *k, const char *only, const char *group) {
  char name[64];
  snprintf(name, sizeof name, "%s:%s", CLASSES[k->class], k->error);
  return (only[0] == '\0' || strcmp(only, name) == 0) && (group[0] == '\0' || strcmp(group, group_of(k)) == 0);
}

static void make_plan(const kind *k, uint64_t nth, char *out, size_t size) {
  snprintf(out, size, "%s:%s:%llu%s%s%s", CLASSES[k->class], k->error, (unsigned long long)nth, k->forever ? "+" : "",
           k->part[0] != '\0' ? "@" : "", k->part);
}

static void run(harness *h, const char *plan) {
  harness_spawn(h, plan, OPS);
  bool ended = harness_listen(h, RUN_US_MAX);
  if (!ended) harness_violation(h, "the child hangs");
  harness_end(h, !ended);
  if (strstr(plan, ":KILL:") != NULL && atomic_load(&h->report->fired) > 0) {
    if (!WIFSIGNALED(h->exit_status) || WTERMSIG(h->exit_status) != SIGKILL)
      harness_violation(h, "status %d instead of a SIGKILL", h->exit_status);
  } else if (ended && (h->exit_status != 0 || !h->closed)) {
    harness_violation(h, "the child crashed: status %d, closed %d", h->exit_status, h->closed);
  }
}

// A store that does not open says why, in the words of the system.
static void check_open_failure(harness *h) {
  const char *text = h->open_failure;
  if (text[0] == '\0' || strstr(text, "Input/output error") != NULL || strstr(text, "No space left") != NULL ||
      strstr(text, "Too many open files") != NULL)
    return;
  harness_violation(h, "the store did not open and does not name the cause: %s", text);
}

// A call that fails of a write or a sync leaves the store in ERROR: nobody can say what reached the disk.
static void check_error_state_reached(harness *h, const kind *k) {
  if ((k->class == FAULT_WRITE || k->class == FAULT_FSYNC || k->class == FAULT_FDATASYNC) && h->failed > 0)
    harness_violation(h, "a call failed and the store takes writes: %s", h->error_text);
}

// How many calls of each class a run makes on an empty folder, on files whose name has `part`.
typedef struct call_counts {
  const char *part;
  uint64_t of[FAULT_CLASS_COUNT];
} call_counts;

static uint64_t count_calls(harness *h, const kind *k) {
  static call_counts known[KIND_COUNT]; // each part is counted once
  char plan[128];
  size_t i = 0;
  while (known[i].part != NULL && strcmp(known[i].part, k->part) != 0) i++;
  if (known[i].part == NULL) {
    harness_fresh(h, THREADS);
    make_plan(k, UINT64_MAX / 2, plan, sizeof plan);
    run(h, plan);
    if (h->acknowledged != THREADS * OPS)
      harness_violation(h, "%u writes without a fault: %s", h->acknowledged, h->error_text);
    known[i].part = k->part;
    for (int class = 0; class < FAULT_CLASS_COUNT; class ++) known[i].of[class] = atomic_load(&h->report->calls[class]);
  }
  return known[i].of[k->class];
}

static void count_run(const harness *h, tally *t) {
  t->runs++;
  if (atomic_load(&h->report->fired) == 0) return;
  t->fired++;
  if (h->open_failure[0] != '\0') t->not_opened++;
  else if (h->errors > 0) t->error_state++;
  else if (h->failed > 0) t->one_call++;
  else t->unnoticed++;
}

// At least one run, and then until `end_ns`, also where the machine is slower than it was.
static void sweep_kind(harness *h, const kind *k, uint32_t runs, uint64_t end_ns, tally *total) {
  char plan[128];
  tally t = {0};
  uint64_t calls = count_calls(h, k), first = 1 + harness_random(h, RAG_MAX(UINT64_C(1), calls / RAG_MAX(1u, runs)));
  bool goes_on = false;
  if (runs > calls) runs = (uint32_t)calls, first = 1;
  for (uint32_t i = 0; i < runs && h->violations == 0 && (i == 0 || rag_clock_monotonic_ns() < end_ns); i++) {
    make_plan(k, first + calls * i / runs, plan, sizeof plan);
    // Reads that go on failing cannot show that reads go on.
    h->extra_count = k->class == FAULT_READ || (k->class == FAULT_OPEN && k->forever) ? 2 : 1;
    if (!goes_on || i % CHAIN == 0) harness_fresh(h, THREADS);
    run(h, plan);
    count_run(h, &t);
    check_open_failure(h);
    check_error_state_reached(h, k);
    goes_on = h->violations == 0 && harness_power_cut(h, harness_random(h, 2) ? REPLAY_PREFIX : REPLAY_STRICT, true);
    if (h->violations > 0)
      fprintf(stderr, "  with %s, at %s; %s %s\n", plan, h->report->first, h->open_failure, h->error_text);
  }
  h->extra_count = 1;
  printf("%-15s %-6s %-7s %-8s %6llu calls, %3u runs, %3u hit: %3u ERROR, %3u one call failed, %3u not opened, %3u "
         "unnoticed\n",
         CLASSES[k->class], k->error, k->forever ? "forever" : "once", k->part, (unsigned long long)calls, t.runs,
         t.fired, t.error_state, t.one_call, t.not_opened, t.unnoticed);
  fflush(stdout);
  total->runs += t.runs;
  total->fired += t.fired;
  total->error_state += t.error_state;
  total->one_call += t.one_call;
  total->not_opened += t.not_opened;
  total->unnoticed += t.unnoticed;
}

int main(int argc, char **argv) {
  static harness h;
  uint64_t seed, seconds = 40;
  const char *only = "", *group = "";
  tally total = {0};
  rag_os_random(&seed, sizeof seed);
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--seconds") == 0) seconds = strtoull(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--seed") == 0) seed = strtoull(argv[i + 1], NULL, 10);
    else if (strcmp(argv[i], "--only") == 0) only = argv[i + 1];
    else if (strcmp(argv[i], "--group") == 0) group = argv[i + 1];
  }
  printf("seed %llu\n", (unsigned long long)seed);
  harness_open(&h, argv[0], seed);
  h.sync_us = 200;
  snprintf(h.extra[0], sizeof h.extra[0], "%s", BUFFER_BYTES);
  snprintf(h.extra[1], sizeof h.extra[1], "no-read-check");
  h.extra_count = 1;
  h.jobs_may_fail = true;
  uint64_t start_ns = rag_clock_monotonic_ns(), limit_ns = seconds * UINT64_C(1000000000);
  uint64_t kinds_left = 0;
  for (size_t i = 0; i < KIND_COUNT; i++) kinds_left += is_wanted(&KINDS[i], only, group);
  for (size_t i = 0; i < KIND_COUNT && h.violations == 0; i++) {
    if (!is_wanted(&KINDS[i], only, group)) continue;
    // What a run takes is known after the first kinds; what is left is shared by the kinds that are left.
    uint64_t spent_ns = rag_clock_monotonic_ns() - start_ns;
    uint64_t one_ns = total.runs > 0 ? spent_ns / (total.runs + 1) : UINT64_C(400000000);
    uint64_t left_ns = limit_ns > spent_ns ? limit_ns - spent_ns : 0;
    uint64_t runs = left_ns / kinds_left / RAG_MAX(one_ns, UINT64_C(1));
    sweep_kind(&h, &KINDS[i], (uint32_t)RAG_MAX(UINT64_C(1), runs), rag_clock_monotonic_ns() + left_ns / kinds_left,
               &total);
    kinds_left--;
  }
  printf("%u runs, %u hit: %u ERROR, %u one call failed, %u not opened, %u unnoticed; %llu writes acknowledged, %llu "
         "looked up at their commits, %llu violations, %.1f s\n",
         total.runs, total.fired, total.error_state, total.one_call, total.not_opened, total.unnoticed,
         (unsigned long long)h.total_acknowledged, (unsigned long long)h.total_checked_at_commit,
         (unsigned long long)h.violations, (double)(rag_clock_monotonic_ns() - start_ns) / 1e9);
  harness_print_kinds(&h);
  // A sweep that met no ERROR has tested nothing; a file of the index that fails is no ERROR of the store.
  bool must_err = only[0] == '\0' && strcmp(group, "index") != 0;
  bool good = h.violations == 0 && total.fired > 0 && (!must_err || total.error_state > 0);
  harness_close(&h);
  return good ? 0 : 1;
}
