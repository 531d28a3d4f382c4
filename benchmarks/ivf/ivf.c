// How fast are lists of 1-bit codes at a recall, what do they cost to train, build and keep, what does a filter do, and
// when do centroids no longer fit? One JSON line for each figure. README.md has the question, the data, the commands.
#include "index/ivf/ivf_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define K 10u
#define SCAN_ROWS 256u

typedef struct set { // a .fbin file: u32 rows, u32 dimension, floats
  uint32_t rows, dimension;
  float *data;
} set;

static void fail(const char *what) {
  fprintf(stderr, "bench_ivf: %s\n", what);
  exit(1);
}

static void *room(size_t size) {
  void *p = rag_aligned_alloc(64, (size + 127) / 64 * 64);
  if (!p) fail("out of memory");
  return p;
}

static set read_set(const char *path, uint32_t rows_max) {
  FILE *file = fopen(path, "rb");
  uint32_t head[2];
  if (!file || fread(head, sizeof head, 1, file) != 1) fail("cannot read a set");
  set s = {RAG_MIN(head[0], rows_max), head[1], NULL};
  size_t count = (size_t)s.rows * s.dimension;
  s.data = room(count * sizeof *s.data);
  if (fread(s.data, sizeof *s.data, count, file) != count) fail("a set is cut off");
  fclose(file);
  return s;
}

static rag_status fetch_rows(void *context, const uint32_t *ids, uint32_t count, const void **out, rag_error *err) {
  const set *s = context;
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < count; i++) out[i] = s->data + (size_t)ids[i] * s->dimension;
  return RAG_OK;
}

static double now(void) {
  return (double)rag_clock_monotonic_ns() / 1e9;
}

static double cpu(void) { // of all threads
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double load_average(void) {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : -1;
}

// ---------------------------------------------------------------------------------------------- truth

// Scores of the K-th best among the rows that pass: a hit counts when it reaches it.
static void find_truth(const set *base, const set *queries, rag_metric metric, const uint64_t *filter, float *out) {
  const rag_kernels *kernels = rag_kernels_best();
  float scores[SCAN_ROWS];
  rag_index_hit hits[K];
  for (uint32_t q = 0; q < queries->rows; q++) {
    const float *query = queries->data + (size_t)q * base->dimension;
    rag_index_topk top;
    rag_index__topk_init(&top, hits, K, -FLT_MAX);
    for (uint32_t first = 0; first < base->rows; first += SCAN_ROWS) {
      uint32_t count = RAG_MIN(SCAN_ROWS, base->rows - first);
      (metric == RAG_METRIC_L2 ? kernels->l2_squared_rows : kernels->dot_rows)(
          query, base->data + (size_t)first * base->dimension, base->dimension, count, base->dimension, scores);
      for (uint32_t i = 0; i < count; i++) {
        uint32_t row = first + i;
        if (filter && !(filter[row >> 6] >> (row & 63) & 1)) continue;
        rag_index__topk_offer(&top, row, rag_index__score(metric, scores[i]));
      }
    }
    rag_index__topk_finish(&top);
    out[q] = top.count > 0 ? hits[top.count - 1].score : FLT_MAX;
  }
}

// ---------------------------------------------------------------------------------------------- searches

typedef struct figures {
  double recall, mean_us, p50_us, p99_us, lists, scanned, scored, rescored, by_scan;
} figures;

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static figures measure(const rag_ivf *ivf, const rag_ivf_codes *codes, const set *base, const set *queries,
                       const float *truth, const uint64_t *filter, uint64_t survivors, uint32_t nprobe,
                       uint32_t rounds) {
  rag_ivf_scratch *scratch;
  rag_error err;
  if (rag_ivf_scratch_create(&scratch, &err) != RAG_OK) fail(err.message);
  double *best = room(queries->rows * sizeof *best);
  figures f = {0};
  uint32_t wanted = (uint32_t)RAG_MIN((uint64_t)K, survivors);
  for (uint32_t round = 0; round <= rounds; round++) { // the first one warms up
    for (uint32_t q = 0; q < queries->rows; q++) {
      rag_index_hit hits[K];
      rag_index_topk top;
      rag_index__topk_init(&top, hits, K, -FLT_MAX);
      rag_ivf_query query = {.vector = queries->data + (size_t)q * queries->dimension,
                             .k = K,
                             .nprobe = nprobe,
                             .filter = filter,
                             .survivors = survivors,
                             .fetch = {.rows = fetch_rows, .context = (void *)(uintptr_t)base}};
      rag_ivf_stats stats;
      uint64_t start = rag_clock_monotonic_ns();
      if (rag_ivf_search(ivf, codes, &query, scratch, &top, &stats, &err) != RAG_OK) fail(err.message);
      rag_index__topk_finish(&top);
      double took = (double)(rag_clock_monotonic_ns() - start) / 1e3;
      if (round == 0) {
        best[q] = 1e18;
        f.lists += (double)stats.lists / queries->rows;
        f.scanned += (double)stats.scanned / queries->rows;
        f.scored += (double)stats.scored / queries->rows;
        f.rescored += (double)stats.rescored / queries->rows;
        f.by_scan += (stats.way == RAG_IVF_SCANNED ? 1.0 : 0.0) / queries->rows;
        for (uint32_t i = 0; i < top.count; i++) f.recall += hits[i].score >= truth[q] ? 1.0 / wanted : 0;
      } else {
        best[q] = RAG_MIN(best[q], took);
      }
    }
  }
  f.recall /= queries->rows;
  for (uint32_t q = 0; q < queries->rows; q++) f.mean_us += best[q] / queries->rows;
  qsort(best, queries->rows, sizeof *best, compare_doubles);
  f.p50_us = best[queries->rows / 2];
  f.p99_us = best[queries->rows * 99ull / 100];
  rag_free(best);
  rag_ivf_scratch_destroy(scratch);
  return f;
}

static void print_figures(uint32_t nprobe, const figures *f) {
  printf("\"nprobe\": %u, \"recall\": %.4f, \"mean_us\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"lists\": %.0f, "
         "\"scanned\": %.0f, \"scored\": %.0f, \"rescored\": %.1f, \"load\": %.1f}\n",
         nprobe, f->recall, f->mean_us, f->p50_us, f->p99_us, f->lists, f->scanned, f->scored, f->rescored,
         load_average());
  fflush(stdout);
}

// ---------------------------------------------------------------------------------------------- filters

static uint64_t next_random(uint64_t *state) { // splitmix64
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

typedef struct ranked {
  float score;
  uint32_t row;
} ranked;
static int compare_ranked(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  return x->score > y->score ? -1 : x->score < y->score;
}

// The share of rows that pass: at random, or those that one row is nearest to (a region: for most queries far away).
static uint64_t make_filter(const set *base, bool region, double share, uint64_t *filter) {
  uint64_t state = 7, survivors = 0;
  memset(filter, 0, (base->rows / 64 + 1) * sizeof *filter);
  ranked *order = room(base->rows * sizeof *order);
  const float *centre = base->data + (size_t)(base->rows / 3) * base->dimension;
  for (uint32_t row = 0; row < base->rows; row++) {
    float score = region ? rag_vector_score(centre, base->data + (size_t)row * base->dimension, base->dimension,
                                            RAG_METRIC_COSINE)
                         : (float)(next_random(&state) >> 40);
    order[row] = (ranked){score, row};
  }
  qsort(order, base->rows, sizeof *order, compare_ranked);
  for (; (double)survivors < share * base->rows; survivors++) {
    filter[order[survivors].row >> 6] |= 1ull << (order[survivors].row & 63);
  }
  rag_free(order);
  return survivors;
}

static void sweep_filters(const rag_ivf *ivf, const rag_ivf_codes *codes, const set *base, const set *queries,
                          const uint32_t *nprobes, uint32_t count, uint32_t rounds) {
  static const double shares[] = {0.9, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.001};
  uint64_t *filter = room((base->rows / 64 + 1) * sizeof *filter);
  float *truth = room(queries->rows * sizeof *truth);
  for (int region = 0; region < 2; region++) {
    for (uint32_t i = 0; i < RAG_COUNT_OF(shares); i++) {
      uint64_t survivors = make_filter(base, region, shares[i], filter);
      find_truth(base, queries, codes->metric, filter, truth);
      for (uint32_t n = 0; n < count; n++) {
        figures f = measure(ivf, codes, base, queries, truth, filter, survivors, nprobes[n], rounds);
        printf("{\"what\": \"filtered\", \"kind\": \"%s\", \"share\": %g, \"by_scan\": %.3f, ",
               region ? "region" : "random", shares[i], f.by_scan);
        print_figures(nprobes[n], &f);
      }
    }
  }
  rag_free(filter);
  rag_free(truth);
}

// ---------------------------------------------------------------------------------------------- main

typedef struct arguments {
  rag_ivf_train_options train;
  rag_ivf_options build;
  uint32_t rounds, rows_max, queries_max;
  const char *trained_on; // another set; NULL: the one that is built
  bool filters, without_int8;
  rag_metric metric;
} arguments;

static rag_ivf_codes encode(const set *base, rag_metric metric) {
  uint32_t bytes = rag_codes_int8_bytes(base->dimension);
  uint8_t *code = room((size_t)base->rows * bytes);
  rag_codes_int8_factors *factors = room(base->rows * sizeof *factors);
  for (uint32_t row = 0; row < base->rows; row++) {
    rag_codes_int8_encode(base->data + (size_t)row * base->dimension, base->dimension, code + (size_t)row * bytes,
                          &factors[row]);
  }
  return (rag_ivf_codes){code, bytes, factors, base->rows, base->dimension, metric};
}

static const char usage[] =
    "bench_ivf BASE.fbin QUERIES.fbin [-l LISTS] [-i ITERATIONS] [-1: one list a row] [-t THREADS] [-r ROUNDS]\n"
    "          [-n ROWS] [-q QUERIES] [-s SAMPLE] [-C SET.fbin: trained on it] [-p NPROBE] [-f: filters]\n"
    "          [-8: search without int8] [-M cosine|ip|l2]";

int main(int argc, char **argv) {
  static const uint32_t ladder[] = {8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384};
  const uint32_t *nprobes = ladder;
  uint32_t count = RAG_COUNT_OF(ladder), one;
  arguments a = {.train = {.seed = 1, .threads = 1},
                 .build = {.seed = 1, .threads = 1, .sample = 200},
                 .rounds = 3,
                 .rows_max = UINT32_MAX,
                 .queries_max = UINT32_MAX};
  for (int c; (c = getopt(argc, argv, "l:i:1t:r:n:q:s:C:p:f8M:")) != -1;) {
    uint32_t value = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
    if (c == 'l') a.train.lists = value;
    else if (c == 'i') a.train.iterations = value;
    else if (c == '1') a.build.single = true;
    else if (c == 't') a.train.threads = a.build.threads = value;
    else if (c == 'r') a.rounds = value;
    else if (c == 'n') a.rows_max = value;
    else if (c == 'q') a.queries_max = value;
    else if (c == 's') a.build.sample = value;
    else if (c == 'C') a.trained_on = optarg;
    else if (c == 'f') a.filters = true;
    else if (c == '8') a.without_int8 = true;
    else if (c == 'p') one = value, nprobes = &one, count = 1;
    else if (c == 'M' && rag_metric_parse(rag_slice_str(optarg), &a.metric)) continue;
    else fail(usage);
  }
  if (argc - optind != 2) fail(usage);
  set base = read_set(argv[optind], a.rows_max), queries = read_set(argv[optind + 1], a.queries_max);
  if (base.dimension != queries.dimension) fail("the sets differ in dimension");
  double start = now();
  rag_ivf_codes codes = encode(&base, a.metric), sample = codes;
  double encoded = now() - start;
  if (a.trained_on) {
    set other = read_set(a.trained_on, UINT32_MAX);
    if (other.dimension != base.dimension) fail("the sets differ in dimension");
    sample = encode(&other, a.metric);
    rag_free(other.data);
  }
  if (!a.train.lists) a.train.lists = rag_ivf_default_lists(codes.rows);
  rag_index_row_fetch fetch = {.rows = fetch_rows, .context = &base};
  a.build.fetch = &fetch;
  rag_error err;
  rag_ivf_centroids *centroids;
  rag_ivf *ivf;
  start = now();
  double start_cpu = cpu();
  if (rag_ivf_train(&sample, &a.train, &centroids, &err) != RAG_OK) fail(err.message);
  double trained = now() - start, trained_cpu = cpu() - start_cpu;
  start = now();
  start_cpu = cpu();
  if (rag_ivf_build(centroids, &codes, &a.build, &ivf, &err) != RAG_OK) fail(err.message);
  double built = now() - start, built_cpu = cpu() - start_cpu;
  rag_slice sections[RAG_IVF_SECTIONS];
  rag_ivf_sections(ivf, sections);
  double rows = base.rows;
  printf("{\"what\": \"build\", \"rows\": %u, \"dimension\": %u, \"lists\": %u, \"entries\": %u, \"threads\": %u, "
         "\"encode_s\": %.3f, \"train_s\": %.3f, \"train_cpu_s\": %.3f, \"build_s\": %.3f, \"build_cpu_s\": %.3f, "
         "\"bytes_a_row\": %.1f, \"centroid_bytes_a_row\": %.1f, \"int8_bytes_a_row\": %zu, \"error\": %.4f, "
         "\"drift\": %.4f, \"crc\": \"%08x\", \"kernels\": \"%s\", \"load\": %.1f}\n",
         base.rows, base.dimension, ivf->meta.lists, ivf->meta.entries, a.build.threads, encoded, trained, trained_cpu,
         built, built_cpu, (double)rag_ivf_bytes(ivf) / rows, (double)rag_ivf_centroids_section(centroids).size / rows,
         codes.stride + sizeof *codes.factors, (double)ivf->meta.error, (double)rag_ivf_drift(ivf),
         rag_crc32c(0, sections[RAG_IVF_CODES].data, sections[RAG_IVF_CODES].size), rag_codes_kernels_best()->name,
         load_average());
  for (uint32_t i = 0; i < ivf->meta.rung_count; i++) {
    const rag_index_rung *rung = &ivf->meta.rungs[i];
    printf(
        "{\"what\": \"calibration\", \"nprobe\": %u, \"recall_10\": %.4f, \"recall_100\": %.4f, \"scanned\": %.0f}\n",
        rung->width, (double)rung->recall_10, (double)rung->recall_100, (double)rung->cost);
  }
  fflush(stdout);
  if (a.without_int8) codes.base = NULL;
  float *truth = room(queries.rows * sizeof *truth);
  find_truth(&base, &queries, a.metric, NULL, truth);
  for (uint32_t n = 0; n < count; n++) {
    figures f = measure(ivf, &codes, &base, &queries, truth, NULL, base.rows, nprobes[n], a.rounds);
    printf("{\"what\": \"search\", ");
    print_figures(nprobes[n], &f);
  }
  if (a.filters) sweep_filters(ivf, &codes, &base, &queries, nprobes, count, a.rounds);
  rag_ivf_destroy(ivf);
  rag_ivf_centroids_destroy(centroids);
  return 0;
}
