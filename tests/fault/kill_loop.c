// Goal: what ragd acknowledged is there after kill -9, whole; what it did not acknowledge is there whole or not at all.
//
// Method: rounds. Each starts the real daemon on one data directory, lets several clients write over HTTP (puts with
// deletions, deletions by filter, merges, rollbacks, tags and branches made and deleted, purges, gc; each client one request at a time, every acknowledgement kept in
// memory), kills the daemon with SIGKILL at a random moment, starts it again and checks the lot (kill_check.c says
// what). In a quarter of the rounds the restart is killed too, before it is ready. The random numbers follow from the
// seed, which is printed; the moments of the scheduler do not, so a seed narrows a failure down and does not replay it.
//
// In another quarter the kill waits for the moment at which a segment's file of the index is being written. Whatever the
// moment, no segment that a row names may be lost: its file was there, whole, before the row.
//
// kill -9 loses what is in the process and nothing that the kernel has: what a power cut would lose is another test's.
//
// --mutant runs the daemon with an old bug put back (acknowledge, then write) and passes when a check fails: it shows
// that the harness would notice.
#include "tests/fault/kill_loop.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILL_AFTER_MS_MAX 400u
#define READY_BYTES_MAX 512u
#define BUILDING_WAIT_MS 1000u

typedef struct options {
  const char *ragd;
  unsigned rounds;
  uint64_t seed;
  bool mutant;
} options;

typedef struct daemon {
  pid_t pid;
  int ready_fd;
  char url[128];
} daemon_process;

_Noreturn static void die(const char *what) {
  fprintf(stderr, "kill_loop: %s: %s\n", what, strerror(errno));
  exit(1);
}

void sleep_us(uint64_t us) {
  struct timespec left = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

// ---------------------------------------------------------------------------------------------- the daemon

static daemon_process daemon_spawn(const options *o, const char *dir, bool mutant, bool small_buffers) {
  int fds[2];
  daemon_process d = {0};
  char log_path[256], data[256];
  snprintf(log_path, sizeof(log_path), "%s/ragd.log", dir);
  snprintf(data, sizeof(data), "%s/data", dir);
  if (pipe2(fds, O_CLOEXEC) != 0) die("pipe");
  d.pid = fork();
  if (d.pid < 0) die("fork");
  if (d.pid == 0) {
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0 || dup2(fds[1], STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0) _exit(127);
    if (mutant) setenv("RAGD_TEST_MUTANT", "acknowledge-early", 1);
    else unsetenv("RAGD_TEST_MUTANT");
    // Small buffers and few rows: the kill then also comes while tables are flushed and compacted, and while segments
    // of the index are sealed and merged.
    execl(o->ragd, "ragd", "serve", "--data", data, "--listen", "127.0.0.1:0", "--access-log", "off", "--log-level",
          "info", "--write-buffer-bytes", small_buffers ? "1MiB" : "64MiB", "--index-seal-rows", "64",
          "--index-graph-rows", "400",
          // A busy machine must not shed what this test asks.
          "--queue-wait-ms-max", "600000", "--request-timeout-s", "600", mutant ? "--allow-test-mutants" : NULL,
          (char *)NULL);
    _exit(127);
  }
  close(fds[1]);
  d.ready_fd = fds[0];
  return d;
}

// Waits for the line "ragd 0.1.0 listening on URL, data in DIR".
static bool daemon_ready(daemon_process *d) {
  char line[READY_BYTES_MAX];
  size_t size = 0;
  while (size + 1 < sizeof(line)) {
    ssize_t got = read(d->ready_fd, line + size, sizeof(line) - 1 - size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    size += (size_t)got;
    if (memchr(line, '\n', size)) break;
  }
  line[size] = 0;
  const char *url = strstr(line, "http://"), *comma = url ? strchr(url, ',') : NULL;
  if (!comma || (size_t)(comma - url) >= sizeof(d->url)) return false;
  memcpy(d->url, url, (size_t)(comma - url));
  d->url[comma - url] = 0;
  return true;
}

static void daemon_end(daemon_process *d, int signal_number) {
  int status = 0;
  kill(d->pid, signal_number);
  while (waitpid(d->pid, &status, 0) < 0 && errno == EINTR) {
  }
  close(d->ready_fd);
  d->pid = 0;
}

// ---------------------------------------------------------------------------------------------- rounds

static void create_kb(const char *url) {
  int http_status = 0;
  rag_json answer;
  rag_buf body = {0};
  http_connection *http = http_open(url);
  rag_buf_append_str(&body, "{\"name\":\"" KB "\"}");
  bool answered = http_request(http, "POST", "/v1/kbs", &body, NULL, &http_status, &answer);
  RAG_ASSERT(answered && http_status == 200);
  rag_buf_free(&body);
  http_close(http);
}

static bool start(const options *o, const char *dir, bool mutant, random_source *random, daemon_process *out) {
  *out = daemon_spawn(o, dir, mutant, random_below(random, 2) == 0);
  if (daemon_ready(out)) return true;
  daemon_end(out, SIGKILL);
  printf("VIOLATION: the daemon does not start any more; see %s/ragd.log\n", dir);
  return false;
}

static bool is_building(const char *dir) {
  char pattern[300];
  glob_t found;
  snprintf(pattern, sizeof(pattern), "%s/data/index/*/*/*.part", dir);
  bool any = glob(pattern, GLOB_NOSORT, NULL, &found) == 0;
  globfree(&found);
  return any;
}

static unsigned kills_while_building;

static void write_until_killed(kill_client *clients, daemon_process *d, const char *dir, random_source *random) {
  pthread_t threads[CLIENTS];
  for (uint32_t i = 0; i < CLIENTS; i++) {
    clients[i].url = d->url;
    if (pthread_create(&threads[i], NULL, client_run, &clients[i]) != 0) die("pthread_create");
  }
  if (random_below(random, 4) == 0) {
    for (unsigned looks = 0; looks < 4 * BUILDING_WAIT_MS && !is_building(dir); looks++) sleep_us(250);
    sleep_us(random_below(random, 2000));
  } else {
    sleep_us(1000 * random_below(random, KILL_AFTER_MS_MAX) + random_below(random, 1000));
  }
  daemon_end(d, SIGKILL);
  kills_while_building += is_building(dir);
  for (uint32_t i = 0; i < CLIENTS; i++) pthread_join(threads[i], NULL);
}

// Returns the number of violations.
static unsigned run_round(const options *o, const char *dir, unsigned round, kill_client *clients,
                          random_source *random) {
  daemon_process d;
  if (!start(o, dir, o->mutant, random, &d)) return 1;
  if (round == 0) {
    create_kb(d.url);
    for (uint32_t i = 0; i < CLIENTS; i++) {
      clients[i].url = d.url;
      client_begin(&clients[i]);
    }
  }
  write_until_killed(clients, &d, dir, random);
  if (random_below(random, 4) == 0) { // a recovery is killed as well
    d = daemon_spawn(o, dir, false, false);
    sleep_us(random_below(random, 60000));
    daemon_end(&d, SIGKILL);
  }
  // What is asked has no bug of its own: what is missing then was lost by the kill.
  if (!start(o, dir, false, random, &d)) return 1;
  unsigned violations = check_all(clients, d.url, random);
  daemon_end(&d, random_below(random, 2) ? SIGTERM : SIGKILL); // idle: both are the same to the data
  return violations;
}

typedef struct log_counts {
  unsigned sealed, merged, erased, lost;
} log_counts;

static log_counts read_log(const char *dir) {
  char path[300], line[4096];
  log_counts c = {0};
  snprintf(path, sizeof(path), "%s/ragd.log", dir);
  FILE *log = fopen(path, "re");
  if (!log) die(path);
  while (fgets(line, sizeof(line), log)) {
    c.lost += strstr(line, "kb.segment_lost") != NULL;
    if (!strstr(line, "kb.sealed")) continue;
    if (strstr(line, "the tail is long")) c.sealed++;
    else if (strstr(line, "rows to be erased")) c.erased++;
    else c.merged++;
  }
  fclose(log);
  return c;
}

// SIGTERM: the round that runs is finished, then the sums are printed.
static volatile sig_atomic_t stop;

static void on_stop(int signal_number) {
  RAG_UNUSED(signal_number);
  stop = 1;
}

static int run(const options *o) {
  char dir[256];
  const char *tmp = getenv("TMPDIR");
  snprintf(dir, sizeof(dir), "%s/ragd-kill.XXXXXX", tmp && *tmp ? tmp : "/tmp");
  if (!mkdtemp(dir)) die("mkdtemp");
  random_source random = {o->seed};
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_stop, .sa_flags = SA_RESTART}, NULL);
  kill_client *clients = rag_calloc(CLIENTS, sizeof(*clients));
  RAG_ASSERT(clients);
  for (uint32_t i = 0; i < CLIENTS; i++) {
    clients[i].number = i;
    clients[i].patience = o->mutant ? 200 : 0;
    clients[i].random.state = random_next(&random);
  }
  unsigned violations = 0, round = 0;
  for (; round < o->rounds && violations == 0 && !stop; round++) {
    violations = run_round(o, dir, round, clients, &random);
    if ((round + 1) % 25 == 0) printf("round %u: %llu checks\n", round + 1, (unsigned long long)checks_made);
  }
  uint64_t acknowledged = 0;
  for (uint32_t i = 0; i < CLIENTS; i++) acknowledged += clients[i].acknowledged;
  rag_free(clients);
  printf("%u rounds, %llu acknowledged operations, %llu checks, in flight at a kill: %llu done, %llu not, %llu sent "
         "again; %llu jobs looked up, %llu of them went on after the kill; %llu versions that gc took; %u violations\n",
         round, (unsigned long long)acknowledged, (unsigned long long)checks_made, (unsigned long long)pending_kept,
         (unsigned long long)pending_lost, (unsigned long long)replays, (unsigned long long)jobs_seen,
         (unsigned long long)jobs_resumed, (unsigned long long)versions_gone, violations);
  log_counts log = read_log(dir);
  printf("of the index: %u segments sealed, %u merged, %u rewritten for a purge; %u kills while one was written\n",
         log.sealed, log.merged, log.erased, kills_while_building);
  if (log.lost > 0) printf("VIOLATION: %u segments of the index were lost; see %s/ragd.log\n", log.lost, dir);
  violations += log.lost;
  bool keep = violations && !o->mutant;
  if (keep) printf("the data is left in %s\n", dir);
  else if (rag_os_remove_tree(dir, NULL) != RAG_OK) die("removing the data");
  if (!o->mutant) return violations ? 1 : 0;
  if (violations) printf("mutant caught in round %u\n", round);
  else printf("the mutant got through\n");
  return violations ? 0 : 1;
}

int main(int argc, char **argv) {
  static const struct option longs[] = {{"ragd", required_argument, NULL, 'r'},
                                        {"rounds", required_argument, NULL, 'n'},
                                        {"seed", required_argument, NULL, 's'},
                                        {"mutant", no_argument, NULL, 'm'},
                                        {NULL, 0, NULL, 0}};
  options o = {.rounds = 15};
  rag_os_random(&o.seed, sizeof(o.seed));
  for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
    if (c == 'r') o.ragd = optarg;
    else if (c == 'n') o.rounds = (unsigned)strtoul(optarg, NULL, 10);
    else if (c == 's') o.seed = strtoull(optarg, NULL, 0);
    else if (c == 'm') o.mutant = true;
    else return 2;
  }
  if (!o.ragd || !o.rounds) {
    fputs("usage: kill_loop --ragd PATH [--rounds N] [--seed S] [--mutant]\n", stderr);
    return 2;
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  signal(SIGPIPE, SIG_IGN);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  printf("seed %#llx\n", (unsigned long long)o.seed);
  int exit_status = run(&o);
  curl_global_cleanup();
  return exit_status;
}
