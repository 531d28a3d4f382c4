// Question: what do writes, sealing, merging and age cost a search by vector? (README.md beside this file)
//
// Usage: bench_sealing DIR BASE.fbin QUERIES.fbin [option value]... > results/NAME.json
//          --rows N (all)  --rate N (1000 documents a second)  --seconds N (60)  --commits N (1000)  --engine NAME (auto)
//          --datatype NAME (float32)  --readers N (1: threads that search while others write)
//
// A knowledge base of client vectors, one chunk a document, made anew in DIR:
//   load      commits of 1,000 documents; then until the index job has nothing left to do
//   idle      searches of all queries, one thread: latency, and recall@10 against `exact`
//   writing   the same while `rate` documents a second are put, 10 a commit; every commit is followed by a search with the
//             last document's own vector, which must find it
//   old       `commits` commits of one document that replaces an older one; then the version before them against the head
//   durable   single documents put, against an append of as many bytes to a file and fdatasync, in turn
#include "kb/kb.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DIE(...)                                                                                                       \
  do {                                                                                                                 \
    fprintf(stderr, __VA_ARGS__);                                                                                      \
    fputc('\n', stderr);                                                                                               \
    exit(1);                                                                                                           \
  } while (0)
#define MUST(expr)                                                                                                     \
  do {                                                                                                                 \
    rag_error must_err = {0};                                                                                          \
    rag_error *err = &must_err;                                                                                        \
    if ((expr) != RAG_OK) DIE("%s:%d: %s: %s", __FILE__, __LINE__, #expr, err->message);                               \
  } while (0)
#define K 10u
#define SAMPLES_MAX 2000000u
#define READERS_MAX 16u

typedef struct set { // a .fbin file: u32 rows, u32 dimension, floats
  uint32_t rows, dimension;
  float *data;
} set;

static set read_set(const char *path) {
  uint32_t head[2];
  FILE *file = fopen(path, "rb");
  if (!file || fread(head, sizeof head, 1, file) != 1) DIE("cannot read %s", path);
  set s = {head[0], head[1], malloc((size_t)head[0] * head[1] * sizeof(float))};
  if (!s.data || fread(s.data, sizeof(float) * s.dimension, s.rows, file) != s.rows) DIE("%s is cut off", path);
  fclose(file);
  return s;
}

static struct {
  const char *dir, *engine;
  rag_datatype datatype;
  uint32_t rows, rate, seconds, commits, readers;
  set base, queries;
  rag_store *store;
  rag_jobs *jobs;
  rag_kbs *kbs;
  rag_kb *kb;
  uint32_t next; // document to be put
} b = {.engine = "auto", .rate = 1000, .seconds = 60, .commits = 1000, .readers = 1};

static double us_since(uint64_t start_ns) {
  return (double)(rag_clock_monotonic_ns() - start_ns) / 1e3;
}

static int by_value(const void *x, const void *y) {
  double a = *(const double *)x, c = *(const double *)y;
  return (a > c) - (a < c);
}
static double at_part(double *sorted, uint32_t count, double part) {
  return count ? sorted[RAG_MIN((uint32_t)(part * count), count - 1)] : 0;
}
static void print_times(const char *name, double *us, uint32_t count) {
  qsort(us, count, sizeof *us, by_value);
  printf("\"%s\": {\"count\": %u, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": "
         "%.1f}",
         name, count, at_part(us, count, .5), at_part(us, count, .9), at_part(us, count, .99), at_part(us, count, .999),
         at_part(us, count, 1));
}

// ---------------------------------------------------------------------------------------------- the kb

static void open_kb(void) {
  rag_store_options store_options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  rag_kb_config config;
  rag_write write = {0};
  rag_log_setup(2, RAG_LOG_WARN, RAG_LOG_TEXT);
  MUST(rag_store_open(b.dir, &store_options, &b.store, err));
  MUST(rag_jobs_open(b.store, 2, &b.jobs, err));
  MUST(rag_kbs_open(b.store, b.jobs, &kbs_options, &b.kbs, err));
  MUST(rag_jobs_start(b.jobs, err));
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "b");
  snprintf(config.engine, sizeof config.engine, "%s", b.engine);
  config.model[0] = '\0';
  config.dimension = b.base.dimension;
  config.datatype = b.datatype;
  MUST(rag_kbs_create(b.kbs, &config, &write, &b.kb, err));
  MUST(rag_kb_load(b.kb, err));
}

// Documents [first, first + count), with the vectors of these rows of the base, in one commit.
static uint64_t put(uint32_t first, uint32_t count, uint32_t row) {
  static _Thread_local char ids[1000][16], texts[1000][32];
  static _Thread_local rag_document_input documents[1000];
  static _Thread_local rag_chunk_input chunks[1000];
  for (uint32_t i = 0; i < count; i++) {
    snprintf(ids[i], sizeof ids[i], "d%u", first + i);
    snprintf(texts[i], sizeof texts[i], "document %u of row %u", first + i, row + i);
    chunks[i] = (rag_chunk_input){.text = rag_slice_str(texts[i]),
                                  .vector = b.base.data + (size_t)((row + i) % b.base.rows) * b.base.dimension,
                                  .vector_dimension = b.base.dimension};
    documents[i] = (rag_document_input){.id = rag_slice_str(ids[i]), .chunks = &chunks[i], .chunk_count = 1};
  }
  rag_put request = {.documents = documents, .document_count = count};
  rag_write write = {0};
  rag_write_result result;
  MUST(rag_kb_put(b.kb, &write, &request, &result, NULL, err));
  return result.commit;
}

static rag_kb_index index_info(void) {
  rag_kb_index info;
  MUST(rag_kb_index_info(b.kb, &info, err));
  rag_free(info.segments);
  info.segments = NULL;
  return info;
}

static void wait_for_index(void) { // until nothing is building for a while
  for (int quiet = 0; quiet < 10; quiet = index_info().building ? 0 : quiet + 1)
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static void print_index(const char *name) {
  rag_kb_index info;
  MUST(rag_kb_index_info(b.kb, &info, err));
  printf("\"%s\": {\"rows\": %" PRIu64 ", \"tail_rows\": %" PRIu64 ", \"memory_bytes\": %" PRIu64 ", \"segments\": [",
         name, info.rows, info.tail_rows, info.memory_bytes);
  for (uint32_t i = 0; i < info.count; i++)
    printf("%s{\"engine\": \"%s\", \"history\": %s, \"rows\": %u, \"file_bytes\": %" PRIu64
           ", \"memory_bytes\": %" PRIu64 ", \"recall\": %.4f}",
           i ? ", " : "", info.segments[i].engine, info.segments[i].history ? "true" : "false", info.segments[i].rows,
           info.segments[i].file_bytes, info.segments[i].memory_bytes, (double)info.segments[i].recall);
  printf("]}");
  rag_kb_index_free(&info);
}

// ---------------------------------------------------------------------------------------------- searching

typedef struct answer {
  uint32_t count;
  float score[K];
  char first[16];
  double vector_us;
} answer;

static answer search(const float *vector, const char *at, bool exact) {
  rag_search_result result;
  answer a = {0};
  rag_search request = {.vector = vector,
                        .vector_dimension = b.base.dimension,
                        .mode = RAG_SEARCH_VECTOR,
                        .k = K,
                        .at = rag_slice_str(at),
                        .exact = exact};
  MUST(rag_kb_search(b.kb, &request, &result, err));
  a.count = result.count;
  for (uint32_t i = 0; i < result.count; i++) a.score[i] = result.hits[i].score;
  if (result.count > 0)
    snprintf(a.first, sizeof a.first, "%.*s", (int)result.hits[0].document_id.size, result.hits[0].document_id.data);
  a.vector_us = (double)result.plan.vector_ns / 1e3;
  rag_search_result_free(&result);
  return a;
}

static double recall_of(const answer *a, const answer *truth) {
  uint32_t right = 0;
  for (uint32_t i = 0; i < a->count; i++) right += truth->count > 0 && a->score[i] >= truth->score[truth->count - 1];
  return truth->count ? (double)right / truth->count : 1;
}

// Recall and latency of the first `count` queries at a ref.
static void measure(const char *name, const char *at, uint32_t count, uint32_t rounds) {
  double *us = malloc(count * sizeof *us), *vector_us = malloc(count * sizeof *us), recall = 0;
  for (uint32_t i = 0; i < count; i++) us[i] = vector_us[i] = 1e18;
  for (uint32_t round = 0; round < rounds; round++)
    for (uint32_t i = 0; i < count; i++) {
      uint64_t start = rag_clock_monotonic_ns();
      answer a = search(b.queries.data + (size_t)i * b.queries.dimension, at, false);
      us[i] = RAG_MIN(us[i], us_since(start));
      vector_us[i] = RAG_MIN(vector_us[i], a.vector_us);
      if (round > 0) continue;
      answer truth = search(b.queries.data + (size_t)i * b.queries.dimension, at, true);
      recall += recall_of(&a, &truth) / count;
    }
  printf("\"%s\": {\"at\": \"%s\", \"recall_10\": %.4f, \"rounds\": %u, ", name, at, recall, rounds);
  print_times("search", us, count);
  printf(", ");
  print_times("vector_side", vector_us, count);
  printf("}");
  free(us);
  free(vector_us);
}

// All searches of some seconds as they come, no best of anything.
typedef struct stream {
  double *us;
  uint32_t count, first; // query
  uint64_t end_ns;
  _Atomic bool *stop; // NULL: none
  pthread_t thread;
} stream;

static void *search_on(void *context) {
  stream *s = context;
  for (uint32_t i = s->first; s->count < SAMPLES_MAX && rag_clock_monotonic_ns() < s->end_ns && !(s->stop && *s->stop);
       i++) {
    uint64_t start = rag_clock_monotonic_ns();
    (void)search(b.queries.data + (size_t)(i % b.queries.rows) * b.queries.dimension, "", false);
    s->us[s->count++] = us_since(start);
  }
  return NULL;
}

// Of all readers together.
static stream search_for(double seconds, _Atomic bool *stop) {
  stream s[READERS_MAX] = {0}, all = {0};
  uint64_t end = rag_clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
  for (uint32_t r = 0; r < b.readers; r++) {
    s[r] = (stream){malloc(SAMPLES_MAX * sizeof(double)), 0, r * b.queries.rows / b.readers, end, stop, 0};
    if (!s[r].us || pthread_create(&s[r].thread, NULL, search_on, &s[r]) != 0) DIE("no thread");
  }
  for (uint32_t r = 0; r < b.readers; r++) {
    pthread_join(s[r].thread, NULL);
    all.us = realloc(all.us, (all.count + s[r].count + 1) * sizeof *all.us);
    if (!all.us) DIE("no memory");
    memcpy(all.us + all.count, s[r].us, s[r].count * sizeof *all.us);
    all.count += s[r].count;
    free(s[r].us);
  }
  return all;
}

// What a document scores at least under its own vector: bfloat16 moves a unit vector by less than 2^-8.
static float own_score(void) {
  return b.datatype == RAG_DATATYPE_BFLOAT16 ? 1 - 0x1p-8f : 0.999999f;
}

// ---------------------------------------------------------------------------------------------- writing meanwhile

static _Atomic bool written; // atomic: the writer has ended
static uint32_t probes, missed, put_documents, late;
static uint64_t tail_max, beside_max; // rows of the tail, and of all but the largest segment

static void look_at_index(void) {
  rag_kb_index info;
  uint64_t largest = 0;
  MUST(rag_kb_index_info(b.kb, &info, err));
  for (uint32_t i = 0; i < info.count; i++) largest = RAG_MAX(largest, (uint64_t)info.segments[i].rows);
  tail_max = RAG_MAX(tail_max, info.tail_rows);
  beside_max = RAG_MAX(beside_max, info.rows - RAG_MIN(info.rows, largest));
  rag_kb_index_free(&info);
}

static void *write_on(void *context) {
  RAG_UNUSED(context);
  uint64_t start = rag_clock_monotonic_ns(), step = UINT64_C(10000000000) / b.rate; // of a commit of 10
  for (uint64_t at = start, end = start + b.seconds * UINT64_C(1000000000); at < end; at += step) {
    uint64_t now = rag_clock_monotonic_ns();
    if (now < at)
      nanosleep(
          &(struct timespec){.tv_sec = (time_t)((at - now) / 1000000000), .tv_nsec = (long)((at - now) % 1000000000)},
          NULL);
    else if (now > at + step) late++;
    // A vector of its own: the row turned by a little.
    put(b.next, 10, b.next * 7 + 3);
    char id[16];
    snprintf(id, sizeof id, "d%u", b.next + 9);
    answer a = search(b.base.data + (size_t)((b.next * 7 + 3 + 9) % b.base.rows) * b.base.dimension, "", false);
    probes++;
    // The same vector may be an older document's too: then both have the best score.
    if (a.count == 0 || a.score[0] < own_score()) missed++;
    b.next += 10;
    put_documents += 10;
    if (put_documents % 500 == 0) look_at_index();
  }
  atomic_store(&written, true);
  return NULL;
}

static void measure_writing(void) {
  pthread_t thread;
  stream idle = search_for(10, NULL);
  if (pthread_create(&thread, NULL, write_on, NULL) != 0) DIE("no thread");
  stream busy = search_for(1e9, &written);
  pthread_join(thread, NULL);
  printf(
      "\"writing\": {\"readers\": %u, \"documents_a_second\": %.0f, \"commits_late\": %u, \"probes\": %u, \"missed\": "
      "%u, \"tail_rows_max\": %" PRIu64 ", \"rows_beside_the_largest_segment_max\": %" PRIu64 ", ",
      b.readers, (double)put_documents / b.seconds, late, probes, missed, tail_max, beside_max);
  print_times("idle", idle.us, idle.count);
  printf(", ");
  print_times("while_writing", busy.us, busy.count);
  printf(", \"p99_ratio\": %.2f, \"p50_ratio\": %.2f}",
         at_part(busy.us, busy.count, .99) / at_part(idle.us, idle.count, .99),
         at_part(busy.us, busy.count, .5) / at_part(idle.us, idle.count, .5));
  free(idle.us);
  free(busy.us);
}

// ---------------------------------------------------------------------------------------------- old versions

static void measure_old(void) {
  char old[16];
  rag_kb_info info;
  MUST(rag_kb_describe(b.kb, &info, err));
  snprintf(old, sizeof old, "%s", info.head);
  rag_kb_info_free(&info);
  for (uint32_t i = 0; i < b.commits; i++) put(i * 97 % b.rows, 1, i * 31 + 11);
  wait_for_index();
  uint32_t count = RAG_MIN(b.queries.rows, 500u);
  measure("head_after_commits", "", count, 5);
  printf(",\n ");
  measure("old_version", old, count, 5);
}

// ---------------------------------------------------------------------------------------------- durable

static void measure_durable(void) {
  enum { ROUNDS = 1000 };
  static double put_us[ROUNDS], sync_us[ROUNDS], searchable_us[ROUNDS];
  char path[4096];
  snprintf(path, sizeof path, "%s/raw", b.dir);
  int fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
  size_t size = b.base.dimension * sizeof(float) + 200; // a document's vector, and its rows
  char *bytes = calloc(1, size);
  uint32_t lost = 0;
  if (fd < 0 || !bytes) DIE("cannot write %s", path);
  for (uint32_t i = 0; i < ROUNDS; i++) {
    uint64_t start = rag_clock_monotonic_ns();
    if (write(fd, bytes, size) != (ssize_t)size || fdatasync(fd) != 0) DIE("cannot write %s", path);
    sync_us[i] = us_since(start);
    start = rag_clock_monotonic_ns();
    uint32_t row = b.next * 13 + 5;
    put(b.next++, 1, row);
    put_us[i] = us_since(start);
    answer a = search(b.base.data + (size_t)(row % b.base.rows) * b.base.dimension, "", false);
    searchable_us[i] = us_since(start);
    lost += a.count == 0 || a.score[0] < own_score();
  }
  close(fd);
  free(bytes);
  printf("\"durable\": {\"bytes\": %zu, \"not_found\": %u, ", size, lost);
  print_times("write_and_fdatasync", sync_us, ROUNDS);
  printf(", ");
  print_times("put", put_us, ROUNDS);
  printf(", ");
  print_times("put_and_found", searchable_us, ROUNDS);
  printf(", \"p50_ratio\": %.2f, \"p99_ratio\": %.2f}", at_part(put_us, ROUNDS, .5) / at_part(sync_us, ROUNDS, .5),
         at_part(put_us, ROUNDS, .99) / at_part(sync_us, ROUNDS, .99));
}

int main(int argc, char **argv) {
  if (argc < 4) DIE("usage: %s DIR BASE.fbin QUERIES.fbin [option value]...", argv[0]);
  b.dir = argv[1];
  b.base = read_set(argv[2]);
  b.queries = read_set(argv[3]);
  b.rows = b.base.rows;
  for (int i = 4; i + 1 < argc; i += 2) {
    uint32_t value = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    if (strcmp(argv[i], "--rows") == 0) b.rows = RAG_MIN(value, b.base.rows);
    else if (strcmp(argv[i], "--rate") == 0) b.rate = value;
    else if (strcmp(argv[i], "--seconds") == 0) b.seconds = value;
    else if (strcmp(argv[i], "--commits") == 0) b.commits = value;
    else if (strcmp(argv[i], "--readers") == 0) b.readers = RAG_MIN(RAG_MAX(value, 1u), READERS_MAX);
    else if (strcmp(argv[i], "--engine") == 0) b.engine = argv[i + 1];
    else if (strcmp(argv[i], "--datatype") != 0) DIE("there is no option %s", argv[i]);
    else if (!rag_datatype_parse(rag_slice_str(argv[i + 1]), &b.datatype)) DIE("there is no datatype %s", argv[i + 1]);
  }
  MUST(rag_os_remove_tree(b.dir, err));
  open_kb();
  uint64_t start = rag_clock_monotonic_ns();
  while (b.next < b.rows) {
    uint32_t count = RAG_MIN(b.rows - b.next, 1000u);
    put(b.next, count, b.next);
    b.next += count;
  }
  double load_s = us_since(start) / 1e6;
  wait_for_index();
  printf("{\"rows\": %u, \"dimension\": %u, \"engine\": \"%s\", \"datatype\": \"%s\", \"load_s\": %.2f, \"sealed_s\": "
         "%.2f,\n ",
         b.rows, b.base.dimension, b.engine, rag_datatype_name(b.datatype), load_s, us_since(start) / 1e6);
  print_index("index_after_load");
  printf(",\n ");
  fflush(stdout);
  measure("idle", "", RAG_MIN(b.queries.rows, 1000u), 5);
  printf(",\n ");
  fflush(stdout);
  measure_writing();
  printf(",\n ");
  fflush(stdout);
  wait_for_index();
  print_index("index_after_writing");
  printf(",\n ");
  measure_old();
  printf(",\n ");
  fflush(stdout);
  measure_durable();
  printf("}\n");
  rag_ref_drop(b.kb);
  rag_kbs_close(b.kbs);
  rag_jobs_close(b.jobs);
  rag_store_close(b.store);
  return 0;
}
