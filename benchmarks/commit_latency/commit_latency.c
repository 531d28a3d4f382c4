// Question: what does a durable commit cost beside the sync that it cannot do without, and what do writers gain by
// sharing syncs? See README.md.
//
// Method: (1) one thread alternates a rag_store_commit of one 1 KiB value and an append + fdatasync of as many bytes as
// RocksDB wrote for it to a bare file in the same directory; alternating, so that both see the same disk. (2) Threads
// that commit in a loop, one and eight by turns. Rounds of both; medians over rounds. Prints JSON.
//
// Threads: main, and the writers of (2), which share nothing but the store.
#include "store/store.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#define VALUE_BYTES 1024u
#define ROUNDS_MAX 99u
#define WRITERS_MANY 8u
#define WAL_HEADER_BYTES 7u // of one record in the write-ahead log

static void die(const char *what, const char *why) {
  fprintf(stderr, "commit_latency: %s: %s\n", what, why);
  exit(1);
}

// ---- one commit

typedef struct put_one {
  uint64_t writer, number;
  const char *value;
} put_one;

static rag_status put_apply(void *ctx, rag_txn *txn, rag_error *err) {
  const put_one *put = ctx;
  rag_key key;
  RAG_UNUSED(err);
  rag_key_init(&key);
  rag_key_u64(&key, put->writer);
  rag_key_u64(&key, put->number);
  rag_txn_put(txn, RAG_CF_CHUNK, rag_key_slice(&key), rag_slice_of(put->value, VALUE_BYTES));
  return RAG_OK;
}

static void commit_one(rag_store *store, put_one *put) {
  rag_error err = {0};
  rag_commit_request request = {.apply = put_apply, .ctx = put};
  if (rag_store_commit(store, &request, &err) != RAG_OK) die("commit", err.message);
  put->number++;
}

static void fill(char *value, uint64_t seed) {
  for (size_t i = 0; i < VALUE_BYTES; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    value[i] = (char)(seed >> 56);
  }
}

// ---- figures

static int compare_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static int compare_double(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double percentile_us(const uint64_t *sorted_ns, size_t count, double share) {
  size_t at = (size_t)(share * (double)(count - 1) + 0.5);
  return (double)sorted_ns[at] / 1e3;
}

static double median(const double *values, unsigned count) {
  double sorted[ROUNDS_MAX];
  memcpy(sorted, values, count * sizeof *values);
  qsort(sorted, count, sizeof *sorted, compare_double);
  return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

static void print_list(const char *name, const double *values, unsigned count, const char *end) {
  printf("  \"%s\": {\"median\": %.3f, \"rounds\": [", name, median(values, count));
  for (unsigned i = 0; i < count; i++) printf("%s%.3f", i ? ", " : "", values[i]);
  printf("]}%s\n", end);
}

// ---- (1) latency

typedef struct latency_round {
  double commit_p50, commit_p99, bare_p50, bare_p99;
} latency_round;

static void bare_append(int fd, const char *bytes, size_t size) {
  if (write(fd, bytes, size) != (ssize_t)size || fdatasync(fd) != 0) die("bare append", "failed");
}

static latency_round measure_latency(rag_store *store, int fd, put_one *put, size_t samples, const char *bytes,
                                     size_t size) {
  uint64_t *commit_ns = rag_calloc(samples, sizeof *commit_ns), *bare_ns = rag_calloc(samples, sizeof *bare_ns);
  if (commit_ns == NULL || bare_ns == NULL) die("memory", "none");
  for (size_t i = 0; i < samples; i++) {
    uint64_t t0 = rag_clock_monotonic_ns();
    commit_one(store, put);
    uint64_t t1 = rag_clock_monotonic_ns();
    bare_append(fd, bytes, size);
    uint64_t t2 = rag_clock_monotonic_ns();
    commit_ns[i] = t1 - t0;
    bare_ns[i] = t2 - t1;
  }
  qsort(commit_ns, samples, sizeof *commit_ns, compare_u64);
  qsort(bare_ns, samples, sizeof *bare_ns, compare_u64);
  latency_round round = {percentile_us(commit_ns, samples, 0.50), percentile_us(commit_ns, samples, 0.99),
                         percentile_us(bare_ns, samples, 0.50), percentile_us(bare_ns, samples, 0.99)};
  rag_free(commit_ns);
  rag_free(bare_ns);
  return round;
}

// ---- (2) writers

typedef struct writer {
  rag_store *store;
  put_one put;
  char value[VALUE_BYTES];
  uint64_t end_ns;
  uint64_t commits;
} writer;

static void *writer_main(void *arg) {
  writer *w = arg;
  while (rag_clock_monotonic_ns() < w->end_ns) {
    commit_one(w->store, &w->put);
    w->commits++;
  }
  return NULL;
}

static double measure_rate(rag_store *store, writer *writers, unsigned count, double seconds) {
  pthread_t threads[WRITERS_MANY];
  uint64_t start_ns = rag_clock_monotonic_ns(), commits = 0;
  for (unsigned i = 0; i < count; i++) {
    writers[i].store = store;
    writers[i].commits = 0;
    writers[i].end_ns = start_ns + (uint64_t)(seconds * 1e9);
    if (pthread_create(&threads[i], NULL, writer_main, &writers[i]) != 0) die("pthread_create", "failed");
  }
  for (unsigned i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
    commits += writers[i].commits;
  }
  return (double)commits / ((double)(rag_clock_monotonic_ns() - start_ns) / 1e9);
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: commit_latency DIR [ROUNDS=7] [SAMPLES=1000] [SECONDS=2]\n"
                    "DIR is created, and removed at the end; it says which disk is measured.\n");
    return 2;
  }
  unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 7;
  size_t samples = argc > 3 ? (size_t)atoi(argv[3]) : 1000;
  double seconds = argc > 4 ? atof(argv[4]) : 2;
  rag_store *store = NULL;
  rag_error err = {0};
  char path[4096], value[VALUE_BYTES], bytes[2 * VALUE_BYTES];
  rag_store_stats before, after;
  double commit_p50[ROUNDS_MAX], commit_p99[ROUNDS_MAX], bare_p50[ROUNDS_MAX], bare_p99[ROUNDS_MAX];
  double ratio_p50[ROUNDS_MAX], ratio_p99[ROUNDS_MAX], one[ROUNDS_MAX], many[ROUNDS_MAX], gain[ROUNDS_MAX];
  double group[ROUNDS_MAX];
  struct utsname system;

  if (rounds < 1 || rounds > ROUNDS_MAX || samples < 100) die("arguments", "ROUNDS 1 to 99, SAMPLES from 100");
  if (rag_os_exists(argv[1])) die(argv[1], "exists already");
  if (rag_store_open(argv[1], NULL, &store, &err) != RAG_OK) die("open", err.message);
  snprintf(path, sizeof path, "%s/bare", argv[1]);
  int fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) die(path, "cannot be created");
  fill(value, 1);
  fill(bytes, 2);
  fill(bytes + VALUE_BYTES, 3);
  put_one put = {0, 0, value};
  rag_store_stats_get(store, &before);
  for (int i = 0; i < 100; i++) commit_one(store, &put); // warm
  rag_store_stats_get(store, &after);
  size_t record = (size_t)(after.bytes_written - before.bytes_written) / 100 + WAL_HEADER_BYTES;
  for (int i = 0; i < 100; i++) bare_append(fd, bytes, record);

  for (unsigned i = 0; i < rounds; i++) {
    latency_round r = measure_latency(store, fd, &put, samples, bytes, record);
    commit_p50[i] = r.commit_p50;
    commit_p99[i] = r.commit_p99;
    bare_p50[i] = r.bare_p50;
    bare_p99[i] = r.bare_p99;
    ratio_p50[i] = r.commit_p50 / r.bare_p50;
    ratio_p99[i] = r.commit_p99 / r.bare_p99;
  }
  static writer writers[WRITERS_MANY];
  for (unsigned i = 0; i < WRITERS_MANY; i++) {
    fill(writers[i].value, i + 10);
    writers[i].put = (put_one){i + 1, 0, writers[i].value};
  }
  for (unsigned i = 0; i < rounds; i++) {
    one[i] = measure_rate(store, writers, 1, seconds);
    rag_store_stats_get(store, &before);
    many[i] = measure_rate(store, writers, WRITERS_MANY, seconds);
    rag_store_stats_get(store, &after);
    gain[i] = many[i] / one[i];
    group[i] = (double)(after.commits - before.commits) / (double)(after.groups - before.groups);
  }
  close(fd);
  rag_store_close(store);
  if (rag_os_remove_tree(argv[1], &err) != RAG_OK) fprintf(stderr, "%s\n", err.message);

  if (uname(&system) != 0) die("uname", "failed");
  printf("{\n  \"question\": \"commit_latency\", \"machine\": {\"cpus\": %u, \"kernel\": \"%s %s\"},\n",
         rag_os_cpu_count(), system.sysname, system.release);
  printf("  \"value_bytes\": %u, \"record_bytes\": %zu, \"rounds\": %u, \"samples_per_round\": %zu, "
         "\"seconds_per_rate\": %.1f,\n",
         VALUE_BYTES, record, rounds, samples, seconds);
  print_list("commit_p50_us", commit_p50, rounds, ",");
  print_list("commit_p99_us", commit_p99, rounds, ",");
  print_list("bare_p50_us", bare_p50, rounds, ",");
  print_list("bare_p99_us", bare_p99, rounds, ",");
  print_list("ratio_p50", ratio_p50, rounds, ",");
  print_list("ratio_p99", ratio_p99, rounds, ",");
  print_list("one_writer_per_second", one, rounds, ",");
  print_list("eight_writers_per_second", many, rounds, ",");
  print_list("eight_over_one", gain, rounds, ",");
  print_list("mean_group_of_eight", group, rounds, "");
  printf("}\n");
  return 0;
}
