// What power_loop and power_sweep share: the folders, the child under faultfs.so, its answers, and the judgement of
// what is left.
//
// The judgement is made twice: on what recovery leaves, with jobs as the cut left them, and after they have gone on to
// their ends. Both times all promises hold.
//
// Folders under `base`: scratch/ (the oracle of search), live/ (the child works in live/data), durable/ (the image), check/ (opened by the judgement),
// next/ (the same again and not opened: the next child starts from it), model (the child's orders), report, child.log.
#ifndef RAGD_TESTS_FAULT_POWER_HARNESS_H
#define RAGD_TESTS_FAULT_POWER_HARNESS_H

#include "tests/fault/power/faultfs.h"
#include "tests/fault/power/model.h"

#include <limits.h>
#include <sys/types.h>

typedef struct history_entry { // one operation, in the order of its thread
  uint32_t thread, seq;
  bool applied;
  uint64_t commit; // of a purge and a gc: the job. 0: nobody was told
} history_entry;

typedef struct harness {
  char writer[PATH_MAX], shim[PATH_MAX], base[PATH_MAX];
  uint64_t random; // the state of every choice
  long sync_us;
  bool entries_with_file;
  char extra[4][64]; // arguments of the writer
  uint32_t extra_count;

  // Of the folder that lives now.
  model first, now; // at its birth; as acknowledged so far
  bool kb_acknowledged;
  history_entry *history;
  size_t history_count, history_capacity;
  bool gc_possible; // one was asked for
  // A job may have met the fault: it may have failed, and then says so.
  bool jobs_may_fail;

  // Of the child that runs or ran last.
  pid_t pid;
  int answers; // its standard output
  char line[1200];
  size_t line_size;
  uint32_t acknowledged, failed, errors; // A, F, E lines
  bool opened, closed;                   // K, D
  char open_failure[600], error_text[600];
  int exit_status;
  fault_report *report;

  // Of all.
  uint64_t violations;
  uint64_t refused; // to open, where `may_refuse`
  bool may_refuse;
  uint64_t total_acknowledged, total_in_flight_kept, total_checked_at_commit;
  uint64_t total_gone, total_jobs, total_resumed, total_agreements;
  uint64_t acknowledged_of[OP_GC + 1]; // by kind
  uint64_t sealed, merged, erased;     // segments of the index that were made, by why; of all children
  uint64_t cut_while_building;         // children that left a segment's file in the middle of its making
  uint64_t killed_in_segments;         // children that were killed before a step on such a file, on purpose

  // The oracle of search (agree.c): opened at the first need.
  rag_store *scratch_store;
  rag_jobs *scratch_jobs;
  rag_kbs *scratch;
  uint32_t scratch_serial;
} harness;

// What was acknowledged by kind, and what was checked, on one line.
void harness_print_kinds(const harness *h);

// Fills the folders' names from TMPDIR; exits on failure of the machine. Ends with harness_close.
void harness_open(harness *h, const char *program, uint64_t seed);
void harness_close(harness *h);
// An empty live folder and a new stream of operations.
void harness_fresh(harness *h, uint32_t threads);
// plan: RAGD_FAULT_PLAN or "".
void harness_spawn(harness *h, const char *plan, uint32_t ops);
// Takes answers until the end of the child or until `us` have passed. True: the child's output has ended.
bool harness_listen(harness *h, uint64_t us);
// SIGKILL, the answers that are still in the pipe, waitpid. Also for a child that has ended.
void harness_end(harness *h, bool kill_it);
// Opens DIR/data and compares. `m` becomes what is there. False after saying what is wrong (a violation).
bool harness_judge(harness *h, const char *dir, model *m);
// The power cut: judges what the disk would hold, and makes it the live folder of the next child. With `crash_too` the
// folder as the process left it is judged as well: the process died and the machine did not. False: a violation, or, in
// mode REPLAY_HOLES, a refusal to open (counted, see `refused`); then only harness_fresh may follow.
bool harness_power_cut(harness *h, replay_mode mode, bool crash_too);
void harness_violation(harness *h, const char *fmt, ...) RAG_PRINTF(2, 3);
uint64_t harness_random(harness *h, uint64_t below);

#endif
