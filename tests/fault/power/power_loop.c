// Goal: what was acknowledged survives a power cut, whole and at its commit; what was not acknowledged is wholly there
// or not at all; what was deleted is not found.
// Method: a child writes under faultfs.so, which keeps what a disk would hold; it is killed at a random moment, and the
// store is opened on what the disk would hold. The next round goes on from there, for some rounds; then a new folder.
//
// Usage: fault_power_loop [--rounds N] [--seed S] [--threads N] [--mode strict|prefix|holes|mixed] [--sync-us US]
//                         [--buffer BYTES] [--entries with-file] [--mutant nosync|early]
// With --mutant the store breaks its promise, and success is that this was seen.
#include "tests/fault/power/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define ROUNDS_PER_FOLDER 5u
#define OPEN_WAIT_US UINT64_C(60000000)
#define OPS_MAX 1000000u
#define SEGMENTS_WAIT_US UINT64_C(3000000)

typedef struct options {
  uint32_t rounds, threads;
  uint64_t seed;
  int mode; // a replay_mode; -1: mixed
  bool mutant;
} options;

static int parse_mode(const char *text) {
  if (strcmp(text, "strict") == 0) return REPLAY_STRICT;
  if (strcmp(text, "prefix") == 0) return REPLAY_PREFIX;
  if (strcmp(text, "holes") == 0) return REPLAY_HOLES;
  if (strcmp(text, "mixed") == 0) return -1;
  fprintf(stderr, "unknown mode %s\n", text);
  exit(2);
}

static void parse(int argc, char **argv, options *o, harness *h) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *name = argv[i], *value = argv[i + 1];
    if (strcmp(name, "--rounds") == 0) o->rounds = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--seed") == 0) o->seed = strtoull(value, NULL, 10);
    else if (strcmp(name, "--threads") == 0) o->threads = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--mode") == 0) o->mode = parse_mode(value);
    else if (strcmp(name, "--sync-us") == 0) h->sync_us = strtol(value, NULL, 10);
    else if (strcmp(name, "--entries") == 0) h->entries_with_file = strcmp(value, "with-file") == 0;
    else if (strcmp(name, "--buffer") == 0) snprintf(h->extra[h->extra_count++], 64, "buffer=%.40s", value);
    else if (strcmp(name, "--mutant") == 0) o->mutant = true, snprintf(h->extra[h->extra_count++], 64, "%.40s", value);
    else argc = -1;
  }
  if (argc % 2 == 0 || o->threads == 0 || o->threads > THREADS_MAX || h->extra_count > 3) {
    fprintf(stderr, "usage: see the top of power_loop.c\n");
    exit(2);
  }
}

// A step in the making or removing of a file of the index, before which the child ends.
static void plan_for_segments(harness *h, char *out, size_t size) {
  static const struct {
    const char *class;
    uint32_t calls; // about as many as a child comes to
  } steps[] = {{"write", 24}, {"fsync", 8}, {"rename", 8}, {"unlink", 8}};
  size_t i = harness_random(h, RAG_COUNT_OF(steps));
  snprintf(out, size, "%s:KILL:%llu@.seg", steps[i].class, (unsigned long long)(1 + harness_random(h, steps[i].calls)));
}

// A quarter of the kills come while a segment of the index is made, a quarter of the others while the store opens, and
// the rest at any time.
static void run_child(harness *h) {
  char plan[64] = "";
  bool of_segments = harness_random(h, 4) == 0;
  if (of_segments) plan_for_segments(h, plan, sizeof plan);
  harness_spawn(h, plan, OPS_MAX);
  if (of_segments) {
    harness_listen(h, SEGMENTS_WAIT_US); // until it has killed itself
    h->killed_in_segments += atomic_load(&h->report->fired) > 0;
  } else if (harness_random(h, 4) == 0) {
    harness_listen(h, harness_random(h, 120000));
  } else {
    uint64_t until_ns = rag_clock_monotonic_ns() + OPEN_WAIT_US * 1000;
    while (!h->opened && !harness_listen(h, 1000) && rag_clock_monotonic_ns() < until_ns) {
    }
    if (h->opened) harness_listen(h, harness_random(h, 300000));
  }
  harness_end(h, true);
  if (h->open_failure[0] != '\0') harness_violation(h, "the child did not open: %s", h->open_failure);
  if (!WIFSIGNALED(h->exit_status) || WTERMSIG(h->exit_status) != SIGKILL)
    harness_violation(h, "the child ended by itself, status %d", h->exit_status);
}

// SIGTERM: the round that runs is finished, then the sums are printed.
static volatile sig_atomic_t stop;

static void on_stop(int signal_number) {
  RAG_UNUSED(signal_number);
  stop = 1;
}

int main(int argc, char **argv) {
  static harness h;
  options o = {.rounds = 10, .threads = 4, .mode = -1};
  rag_os_random(&o.seed, sizeof o.seed);
  parse(argc, argv, &o, &h);
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_stop, .sa_flags = SA_RESTART}, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("seed %llu\n", (unsigned long long)o.seed);
  harness_open(&h, argv[0], o.seed);
  uint64_t start_ns = rag_clock_monotonic_ns();
  uint32_t round = 0, while_opening = 0;
  bool goes_on = false;
  for (; round < o.rounds && h.violations == 0 && !stop; round++) {
    if (round % ROUNDS_PER_FOLDER == 0 || !goes_on) harness_fresh(&h, o.threads);
    run_child(&h);
    while_opening += !h.opened;
    replay_mode mode = o.mode >= 0 ? (replay_mode)o.mode : (replay_mode)harness_random(&h, 2);
    goes_on = h.violations == 0 && harness_power_cut(&h, mode, false);
    if ((round + 1) % 100 == 0) printf("round %u\n", round + 1);
    if (h.violations > 0)
      fprintf(stderr, "  in round %u, mode %d, seed %llu\n", round, mode, (unsigned long long)o.seed);
  }
  printf("%u power cuts, %u of them while the store opened, %llu writes acknowledged, %llu in flight that were there, "
         "%llu looked up at their commits, %llu refusals to open, %llu violations, %.1f s\n",
         round, while_opening, (unsigned long long)h.total_acknowledged, (unsigned long long)h.total_in_flight_kept,
         (unsigned long long)h.total_checked_at_commit, (unsigned long long)h.refused, (unsigned long long)h.violations,
         (double)(rag_clock_monotonic_ns() - start_ns) / 1e9);
  harness_print_kinds(&h);
  bool good = o.mutant ? h.violations > 0 : h.violations == 0;
  if (o.mutant) printf("mutant: %s\n", good ? "caught" : "NOT CAUGHT");
  harness_close(&h);
  return good ? 0 : 1;
}
