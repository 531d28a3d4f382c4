// Ours in the benchmark of peers: bench_ann KIND FOLDER speaks JSON lines with run.py (README.md has the protocol).
#include "engines.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 50u
#define BATCH_THREADS 2u
#define BATCH_CLAIM 8u
#define COLUMNS_MAX 32u

typedef struct bench {
  const char *folder;
  matrix base, queries, fields, query_values;
  char columns[COLUMNS_MAX][64];
  uint32_t column_count;
  engine *engine;
  searcher *searchers[BATCH_THREADS];
} bench;

static matrix map_matrix(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat about;
  if (fd < 0 || fstat(fd, &about) != 0 || about.st_size < 8) fail(path);
  const uint32_t *head = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (head == MAP_FAILED) fail(path);
  matrix m = {.rows = head[0], .columns = head[1], .floats = (const float *)(const void *)(head + 2)};
  if ((uint64_t)about.st_size < 8 + (uint64_t)m.rows * m.columns * 4) fail("a set is cut off");
  return m;
}

static void read_columns(bench *b, rag_json_parser *parser) {
  char path[4096], *text;
  size_t size;
  rag_error err;
  rag_json about, columns, name;
  snprintf(path, sizeof path, "%s/set.json", b->folder);
  check(rag_os_read_file(path, 1u << 20, &text, &size, &err), &err);
  check(rag_json_parse(parser, rag_slice_of(text, size), &about, &err), &err);
  if (!rag_json_find(about, rag_slice_str("columns"), &columns)) fail("set.json names no columns");
  for (rag_json_iter it = rag_json_iter_of(columns); rag_json_iter_next(&it) && b->column_count < COLUMNS_MAX;) {
    if (!rag_json_find(it.value, rag_slice_str("name"), &name)) fail("a column has no name");
    rag_slice s = rag_json_string(name);
    snprintf(b->columns[b->column_count++], sizeof b->columns[0], "%.*s", (int)s.size, s.data);
  }
  rag_free(text);
}

static double wall(void) {
  return (double)rag_clock_monotonic_ns() / 1e9;
}
static double cpu(void) { // of all threads
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t private_bytes(void) {
  malloc_trim(0);
  FILE *file = fopen("/proc/self/status", "r");
  unsigned long long kib = 0;
  char line[256];
  while (file && fgets(line, sizeof line, file)) {
    if (sscanf(line, "RssAnon: %llu", &kib) == 1) break;
  }
  if (file) fclose(file);
  return kib << 10;
}

// ---------------------------------------------------------------------------------------------- requests

static void do_build(bench *b, rag_json message, rag_buf *out) {
  rag_json build;
  if (b->searchers[0] || !rag_json_find(message, rag_slice_str("build"), &build)) fail("one build a process");
  double sum = 0; // from the disk before the clock runs
  for (size_t i = 0; i < (size_t)b->base.rows * b->base.columns; i += 1024) sum += (double)b->base.floats[i];
  uint64_t before = private_bytes();
  double start = wall(), start_cpu = cpu();
  engine_build(b->engine, build, number_of(message, "threads", 1));
  double took = wall() - start, took_cpu = cpu() - start_cpu;
  for (uint32_t t = 0; t < BATCH_THREADS; t++) b->searchers[t] = searcher_create(b->engine);
  rag_buf_printf(out,
                 "{\"build_s\": %.4f, \"build_cpu_s\": %.4f, \"heap_bytes\": %lld, \"stored_bytes\": %llu, "
                 "\"sum\": %.3f}",
                 took, took_cpu, (long long)(private_bytes() - before),
                 (unsigned long long)engine_stored_bytes(b->engine), sum);
}

// One filter for each value that the first `count` queries ask of the column; of_query points at each one's.
typedef struct filters {
  row_filter *all;
  uint32_t count;
  const row_filter **of_query;
} filters;

static void make_filter(const bench *b, uint32_t column, int32_t value, row_filter *out) {
  rag_bitmap *empty = rag_bitmap_empty();
  rag_bitmap_edit *edit = empty ? rag_bitmap_edit_create(empty) : NULL;
  rag_error err = {0};
  *out = (row_filter){.words = rag_calloc(b->base.rows / 64 + 1, sizeof *out->words)};
  if (!edit || !out->words) fail("out of memory");
  for (uint32_t row = 0; row < b->base.rows; row++) {
    if (b->fields.integers[(size_t)row * b->fields.columns + column] != value) continue;
    out->words[row / 64] |= 1ull << row % 64;
    out->survivors++;
    check(rag_bitmap_edit_add(edit, row), &err);
  }
  check(rag_bitmap_edit_finish(edit, &out->bitmap), &err);
  rag_ref_drop(empty);
}

static filters make_filters(const bench *b, uint32_t column, uint32_t queries) {
  filters f = {rag_calloc(queries, sizeof *f.all), 0, rag_calloc(queries, sizeof *f.of_query)};
  int32_t *values = rag_alloc(queries * sizeof *values);
  if (!f.all || !f.of_query || !values) fail("out of memory");
  for (uint32_t q = 0; q < queries; q++) {
    int32_t value = b->query_values.integers[(size_t)q * b->query_values.columns + column];
    uint32_t i = 0;
    while (i < f.count && values[i] != value) i++;
    if (i == f.count) {
      values[f.count++] = value;
      make_filter(b, column, value, &f.all[i]);
    }
    f.of_query[q] = &f.all[i];
  }
  rag_free(values);
  return f;
}

static void free_filters(filters *f) {
  for (uint32_t i = 0; i < f->count; i++) {
    rag_free(f->all[i].words);
    rag_ref_drop(f->all[i].bitmap);
  }
  rag_free(f->all);
  rag_free(f->of_query);
}

static const float *query_at(const bench *b, uint32_t q) {
  return b->queries.floats + (size_t)q * b->queries.columns;
}

// The queries one after the other, and what they found into a file.
static void ask_singly(bench *b, uint32_t queries, uint32_t k, const filters *f, const char *path, rag_buf *out) {
  int32_t *ids = rag_alloc((size_t)queries * k * sizeof *ids);
  double *us = rag_alloc(queries * sizeof *us);
  if (!ids || !us) fail("out of memory");
  for (uint32_t q = 0; q < RAG_MIN(WARM_UP, queries); q++) {
    searcher_search(b->searchers[0], query_at(b, q), k, f ? f->of_query[q] : NULL, ids);
  }
  double start_cpu = cpu();
  for (uint32_t q = 0; q < queries; q++) {
    uint64_t start = rag_clock_monotonic_ns();
    searcher_search(b->searchers[0], query_at(b, q), k, f ? f->of_query[q] : NULL, ids + (size_t)q * k);
    us[q] = (double)(rag_clock_monotonic_ns() - start) / 1e3;
  }
  double cpu_us = (cpu() - start_cpu) / queries * 1e6;
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(ids, sizeof *ids, (size_t)queries * k, file) != (size_t)queries * k || fclose(file) != 0)
    fail(path);
  rag_buf_append_str(out, "{\"us\": [");
  for (uint32_t q = 0; q < queries; q++) rag_buf_printf(out, "%s%.2f", q ? ", " : "", us[q]);
  rag_buf_printf(out, "], \"cpu_us\": %.3f", cpu_us);
  rag_free(ids);
  rag_free(us);
}

typedef struct batch {
  const bench *b;
  uint32_t queries, k;
  _Atomic uint32_t claimed; // atomic, relaxed: only the numbers matter
} batch;
typedef struct batch_thread {
  batch *all;
  searcher *searcher;
} batch_thread;

static void *answer_batch(void *arg) {
  batch_thread *t = arg;
  batch *all = t->all;
  int32_t ids[100];
  for (;;) {
    uint32_t first = atomic_fetch_add_explicit(&all->claimed, BATCH_CLAIM, memory_order_relaxed);
    if (first >= all->queries) return NULL;
    for (uint32_t q = first; q < RAG_MIN(first + BATCH_CLAIM, all->queries); q++) {
      searcher_search(t->searcher, query_at(all->b, q), all->k, NULL, ids);
    }
  }
}

static double ask_in_a_batch(bench *b, uint32_t queries, uint32_t k) {
  batch all = {.b = b, .queries = queries, .k = k};
  batch_thread threads[BATCH_THREADS];
  pthread_t others[BATCH_THREADS];
  double start = wall();
  for (uint32_t t = 0; t < BATCH_THREADS; t++) {
    threads[t] = (batch_thread){&all, b->searchers[t]};
    if (t > 0 && pthread_create(&others[t], NULL, answer_batch, &threads[t]) != 0) fail("no thread");
  }
  answer_batch(&threads[0]);
  for (uint32_t t = 1; t < BATCH_THREADS; t++) pthread_join(others[t], NULL);
  return wall() - start;
}

static void do_search(bench *b, rag_json message, bool filtered, rag_buf *out) {
  uint32_t k = number_of(message, "k", 10), queries = RAG_MIN(number_of(message, "queries", 0), b->queries.rows);
  rag_json search, path, column;
  if (!b->searchers[0] || queries == 0 || k == 0 || k > 100 ||
      !rag_json_find(message, rag_slice_str("search"), &search) ||
      !rag_json_find(message, rag_slice_str("ids"), &path)) {
    fail("a search before a build, or without queries, k (1 to 100), search and ids");
  }
  for (uint32_t t = 0; t < BATCH_THREADS; t++) searcher_set(b->searchers[t], search);
  rag_slice s = rag_json_string(path);
  char *file = rag_strndup(s.data, s.size);
  if (!file) fail("out of memory");
  if (filtered) {
    uint32_t c = 0;
    if (!rag_json_find(message, rag_slice_str("column"), &column)) fail("a filter without a column");
    while (c < b->column_count && !rag_slice_equal(rag_slice_str(b->columns[c]), rag_json_string(column))) c++;
    if (c == b->column_count) fail("no such column");
    filters f = make_filters(b, c, queries);
    ask_singly(b, queries, k, &f, file, out);
    free_filters(&f);
  } else {
    ask_singly(b, queries, k, NULL, file, out);
    rag_buf_printf(out, ", \"batch_s\": %.6f", ask_in_a_batch(b, queries, k));
  }
  rag_buf_append_str(out, "}");
  rag_free(file);
}

int main(int argc, char **argv) {
  static const char *const kinds[] = {"graph", "ivf", "flat"};
  size_t k = 0;
  while (argc == 3 && k < RAG_COUNT_OF(kinds) && strcmp(argv[1], kinds[k]) != 0) k++;
  if (argc != 3 || k == RAG_COUNT_OF(kinds)) fail("usage: bench_ann graph|ivf|flat FOLDER");
  bench b = {.folder = argv[2]};
  b.base = map_matrix(b.folder, "base.fbin");
  b.queries = map_matrix(b.folder, "queries.fbin");
  b.fields = map_matrix(b.folder, "fields.ibin");
  b.query_values = map_matrix(b.folder, "query_values.ibin");
  rag_json_parser *parser = rag_json_parser_create();
  if (!parser) fail("out of memory");
  read_columns(&b, parser);
  if (b.queries.columns != b.base.columns || b.fields.rows != b.base.rows || b.fields.columns != b.column_count) {
    fail("the files of the set do not fit each other");
  }
  b.engine = engine_create((engine_kind)k, &b.base);
  rag_buf out = {0};
  rag_buf_printf(&out, "{\"version\": \"%s, %s\", \"builds\": ", RAGD_VERSION, rag_kernels_best()->name);
  engine_sweep((engine_kind)k, b.base.rows, &out);
  rag_buf_append_str(&out, "}");
  char *line = NULL;
  size_t room = 0;
  for (ssize_t size;;) {
    rag_error err;
    check(rag_buf_check(&out, &err), &err);
    printf("%.*s\n", (int)out.size, out.data);
    fflush(stdout);
    rag_buf_clear(&out);
    size = getline(&line, &room, stdin);
    if (size <= 0) break;
    rag_json message, what;
    check(rag_json_parse(parser, rag_slice_of(line, (size_t)size), &message, &err), &err);
    if (!rag_json_find(message, rag_slice_str("do"), &what)) fail("a message without \"do\"");
    if (rag_slice_equal(rag_json_string(what), rag_slice_str("build"))) do_build(&b, message, &out);
    else if (rag_slice_equal(rag_json_string(what), rag_slice_str("search"))) do_search(&b, message, false, &out);
    else if (rag_slice_equal(rag_json_string(what), rag_slice_str("filter"))) do_search(&b, message, true, &out);
    else break;
  }
  free(line);
  rag_buf_free(&out);
  return 0;
}
