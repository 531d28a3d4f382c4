// How fast is the exact scan? Searches a flat index with every kernel set that this CPU runs, at two dimensions, in
// cache and far beyond it, without a filter and with sparse ones, and prints medians as JSON. README.md has the
// question and the results.
//
// "codes" is the search as it is made without `exact`: int8 codes first, and exactly whoever they cannot rule out.
// "bfloat16" is an exact one of an index whose rows are bfloat16, "bfloat16_codes" one by codes there. "clients" are threads
// that ask by codes at the same time, more of them than cores: queries then share scans.
//
// One process per kernel set: the choice of kernels is made once per process (RAGD_KERNELS), as in the server. A sample
// is the mean over enough calls to last a millisecond; the figure is the median of the samples. "read" is the plain
// reading of the same amount of memory, the bound of any scan of it.
#include "index/index.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define K 10u
#define SAMPLES 31u
#define QUERIES 256u
#define SAMPLE_NS 1000000u
#define ROWS_DEFAULT 200000u
#define ROWS_IN_CACHE 100u
#define APPEND_ROWS 1000u
#define CLIENTS_MAX 16u
#define CLIENTS_NS UINT64_C(2000000000) // of one figure

static const char *const kernel_names[] = {"avx512", "avx2", "scalar", "codes", "bfloat16", "bfloat16_codes", "read"};
static const uint32_t dimensions[] = {384, 768};
static const double fractions[] = {1, 0.1, 0.001};

static void check(rag_status status, const rag_error *err) {
  if (status == RAG_OK) return;
  fprintf(stderr, "exact_scan: %s: %s\n", rag_status_name(status), err->message);
  exit(1);
}

static uint64_t next_random(uint64_t *state) { // splitmix64
  uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

static void fill_unit(float *v, uint32_t dimension, uint64_t *random) {
  for (uint32_t i = 0; i < dimension; i++) v[i] = (float)(next_random(random) >> 40) / 8388608.0f - 1.0f;
  rag_vector_normalize(v, dimension);
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static rag_bitmap *make_filter(uint32_t rows, double fraction, uint64_t *random) {
  rag_error err = {0};
  rag_bitmap *filter = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  if (!edit) check(RAG_RESOURCE_EXHAUSTED, &err);
  for (uint32_t i = 0; i < rows; i++) {
    if ((double)(next_random(random) >> 11) < fraction * 9007199254740992.0) {
      check(rag_bitmap_edit_add(edit, i), &err);
    }
  }
  check(rag_bitmap_edit_finish(edit, &filter), &err);
  return filter;
}

typedef struct timing {
  double median_us, p10_us, p90_us;
} timing;

// Every call has another query, as a repeated one teaches the branch predictor which rows get into the heap.
static timing time_search(const rag_index_view *view, const rag_bitmap *filter, bool exact, const float *queries,
                          uint32_t dimension, rag_index_plan *out_plan) {
  rag_index_hit hits[K];
  rag_index_plan plan = {0};
  rag_error err = {0};
  double samples[SAMPLES];
  uint32_t count = 0, calls = 1, next = 0;
  for (uint32_t s = 0; s < SAMPLES;) {
    rag_index_query query = {.k = K, .filter = filter, .exact = exact};
    uint64_t start = rag_clock_monotonic_ns();
    for (uint32_t i = 0; i < calls; i++) {
      query.vector = queries + (size_t)(next++ % QUERIES) * dimension;
      check(rag_index_search(view, &query, hits, &count, &plan, &err), &err);
    }
    uint64_t took = rag_clock_monotonic_ns() - start;
    if (s == 0 && took < SAMPLE_NS) { // not long enough to time, and a warm-up
      calls *= 2;
      continue;
    }
    samples[s++] = (double)took / 1000 / calls;
  }
  qsort(samples, SAMPLES, sizeof samples[0], compare_doubles);
  *out_plan = plan;
  return (timing){samples[SAMPLES / 2], samples[SAMPLES / 10], samples[SAMPLES - 1 - SAMPLES / 10]};
}

#if defined(__x86_64__)
#define READ_TARGET __attribute__((target("avx2")))
#else
#define READ_TARGET
#endif
typedef uint64_t word_group __attribute__((vector_size(32)));

// Sums a block of memory, as fast as one thread can read it.
READ_TARGET __attribute__((noinline)) static uint64_t read_all(const word_group *data, size_t groups) {
  word_group a = {0}, b = {0}, c = {0}, d = {0};
  for (size_t i = 0; i + 4 <= groups; i += 4) {
    a += data[i];
    b += data[i + 1];
    c += data[i + 2];
    d += data[i + 3];
    __builtin_prefetch(&data[i + 64]);
    __builtin_prefetch(&data[i + 66]);
  }
  a += b + c + d;
  return a[0] + a[1] + a[2] + a[3];
}

static void report_read(uint32_t rows, uint32_t dimension) {
  size_t bytes = (size_t)rows * dimension * sizeof(float);
  word_group *data = rag_aligned_alloc(64, bytes);
  rag_error err = {0};
  if (!data) check(rag_fail_no_memory(&err, bytes), &err);
  memset(data, 1, bytes);
  double samples[SAMPLES];
  volatile uint64_t sink = 0;
  uint32_t calls = bytes < 1u << 20 ? 1000 : 1;
  for (uint32_t s = 0; s < SAMPLES; s++) {
    uint64_t start = rag_clock_monotonic_ns();
    for (uint32_t i = 0; i < calls; i++) sink = sink + read_all(data, bytes / sizeof *data);
    samples[s] = (double)(rag_clock_monotonic_ns() - start) / 1000 / calls;
  }
  qsort(samples, SAMPLES, sizeof samples[0], compare_doubles);
  printf("    {\"kernel\": \"read\", \"dimension\": %u, \"rows\": %u, \"median_us\": %.3f, \"gb_per_s\": %.2f}",
         dimension, rows, samples[SAMPLES / 2], (double)bytes / samples[SAMPLES / 2] / 1000);
  rag_free(data);
}

static rag_index *make_index(uint32_t rows, uint32_t dimension, rag_datatype datatype, uint64_t *random) {
  rag_error err = {0};
  rag_index *index = NULL;
  rag_index_options options = {.dimension = dimension, .metric = RAG_METRIC_COSINE, .datatype = datatype};
  check(rag_index_create(&options, &index, &err), &err);
  float *vectors = rag_alloc(APPEND_ROWS * dimension * sizeof(float));
  uint32_t ordinals[APPEND_ROWS];
  if (!vectors) check(rag_fail_no_memory(&err, 0), &err);
  for (uint32_t first = 0; first < rows; first += APPEND_ROWS) {
    uint32_t count = RAG_MIN(APPEND_ROWS, rows - first);
    for (uint32_t i = 0; i < count; i++) {
      ordinals[i] = first + i;
      fill_unit(vectors + (size_t)i * dimension, dimension, random);
    }
    check(rag_index_append(index, ordinals, count, vectors, &err), &err);
  }
  rag_free(vectors);
  return index;
}

static bool first_line = true;

static void report(const char *kernel, uint32_t rows, uint32_t dimension, double fraction, timing t,
                   const rag_index_plan *plan) {
  printf("%s    {\"kernel\": \"%s\", \"dimension\": %u, \"rows\": %u, \"filter\": %g, \"candidates\": %llu, "
         "\"rescored\": %llu, \"k\": %u, \"median_us\": %.3f, \"p10_us\": %.3f, \"p90_us\": %.3f, "
         "\"rows_per_s\": %.0f}",
         first_line ? "" : ",\n", kernel, dimension, rows, fraction, (unsigned long long)plan->candidates,
         (unsigned long long)plan->rescored, K, t.median_us, t.p10_us, t.p90_us,
         (double)plan->candidates / t.median_us * 1e6);
  first_line = false;
}

typedef struct client {
  const rag_index_view *view;
  const float *queries;
  uint32_t dimension, first;
  uint64_t end_ns, answered;
} client;

static void *ask_until(void *arg) {
  client *c = arg;
  rag_index_hit hits[K];
  rag_error err = {0};
  for (uint32_t next = c->first, count = 0; rag_clock_monotonic_ns() < c->end_ns; next++, c->answered++) {
    rag_index_query query = {.vector = c->queries + (size_t)(next % QUERIES) * c->dimension, .k = K};
    check(rag_index_search(c->view, &query, hits, &count, NULL, &err), &err);
  }
  return NULL;
}

static void measure_clients(const rag_index_view *view, const float *queries, uint32_t rows, uint32_t dimension) {
  for (uint32_t count = 1; count <= CLIENTS_MAX; count *= 2) {
    client clients[CLIENTS_MAX];
    pthread_t threads[CLIENTS_MAX];
    uint64_t start = rag_clock_monotonic_ns(), answered = 0;
    for (uint32_t i = 0; i < count; i++) {
      clients[i] = (client){view, queries, dimension, i * QUERIES / count, start + CLIENTS_NS, 0};
      if (pthread_create(&threads[i], NULL, ask_until, &clients[i]) != 0) exit(1);
    }
    for (uint32_t i = 0; i < count; i++) {
      pthread_join(threads[i], NULL);
      answered += clients[i].answered;
    }
    double seconds = (double)(rag_clock_monotonic_ns() - start) / 1e9;
    printf(
        ",\n    {\"kernel\": \"clients\", \"dimension\": %u, \"rows\": %u, \"clients\": %u, \"searches_per_s\": %.1f}",
        dimension, rows, count, (double)answered / seconds);
  }
}

static void measure_size(const char *kernel, bool exact, rag_datatype datatype, uint32_t rows, uint32_t dimension) {
  uint64_t random = 1;
  rag_index *index = make_index(rows, dimension, datatype, &random);
  rag_index_view *view = rag_index_pin(index);
  float *queries = rag_alloc((size_t)QUERIES * dimension * sizeof(float));
  rag_error err = {0};
  if (!queries) check(rag_fail_no_memory(&err, 0), &err);
  for (uint32_t i = 0; i < QUERIES; i++) fill_unit(queries + (size_t)i * dimension, dimension, &random);
  for (size_t f = 0; f < RAG_COUNT_OF(fractions); f++) {
    rag_bitmap *filter = f == 0 ? NULL : make_filter(rows, fractions[f], &random);
    if (!filter || rag_bitmap_count(filter) > 0) {
      rag_index_plan plan = {0};
      timing t = time_search(view, filter, exact, queries, dimension, &plan);
      report(kernel, rows, dimension, fractions[f], t, &plan);
    }
    rag_ref_drop(filter);
  }
  if (strcmp(kernel, "codes") == 0 && rows > ROWS_IN_CACHE) measure_clients(view, queries, rows, dimension);
  rag_free(queries);
  rag_ref_drop(view);
  rag_index_destroy(index);
}

// Runs one piece of the work in a child, so that it chooses its kernels anew.
static void in_child(const char *kernel, uint32_t rows, uint32_t dimension) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    if (strcmp(kernel, "read") == 0) {
      report_read(rows, dimension);
    } else if (strncmp(kernel, "bfloat16", 8) == 0) {
      measure_size(kernel, kernel[8] == '\0', RAG_DATATYPE_BFLOAT16, rows, dimension);
    } else if (strcmp(kernel, "codes") == 0) {
      measure_size(kernel, false, RAG_DATATYPE_FLOAT32, rows, dimension);
    } else {
      setenv("RAGD_KERNELS", kernel, 1);
      measure_size(kernel, true, RAG_DATATYPE_FLOAT32, rows, dimension);
    }
    fflush(stdout);
    _exit(0);
  }
  int state = 0;
  if (child < 0 || waitpid(child, &state, 0) < 0 || state != 0) {
    fprintf(stderr, "exact_scan: measuring %s failed\n", kernel);
    exit(1);
  }
}

static void print_machine(void) {
  char line[256], model[128] = "unknown";
  FILE *file = fopen("/proc/cpuinfo", "re");
  while (file && fgets(line, sizeof line, file)) {
    if (sscanf(line, "model name : %127[^\n]", model) == 1) break;
  }
  if (file) fclose(file);
  printf("  \"machine\": {\"cpu\": \"%s\", \"cpus\": %u},\n  \"compiler\": \"%s\",\n", model, rag_os_cpu_count(),
         __VERSION__);
}

int main(int argc, char **argv) {
  uint32_t rows = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : ROWS_DEFAULT;
  if (argc > 2 || rows == 0) {
    fprintf(stderr, "usage: bench_exact_scan [ROWS]\n");
    return 2;
  }
  const uint32_t sizes[] = {ROWS_IN_CACHE, rows};
  printf("{\n");
  print_machine();
  printf("  \"samples\": %u,\n  \"results\": [\n", SAMPLES);
  bool first = true;
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
    for (size_t s = 0; s < RAG_COUNT_OF(sizes); s++) {
      for (size_t n = 0; n < RAG_COUNT_OF(kernel_names); n++) {
        const char *kernel = kernel_names[n];
        if (n < 3 && !rag_kernels_named(kernel)) continue;
        if (!first) printf(",\n");
        first = false;
        in_child(kernel, sizes[s], dimensions[d]);
      }
    }
  }
  printf("\n  ]\n}\n");
  return 0;
}
