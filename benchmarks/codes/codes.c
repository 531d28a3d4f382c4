// What does a row cost, in each code? Scans and gathers rows of fp32, bf16, int8 and 1 bit with every kernel set that
// this CPU runs, and prints medians as JSON; or, with "recall", what the codes' rankings are worth (recall.c).
// README.md has the questions and the results.
//
// A sample is one pass over some thousand rows, in CPU time of the thread; the figure is the median of the samples.
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SAMPLES 61u
#define CACHE_BYTES (512u << 10)  // half of the second-level cache of the machines we have
#define MEMORY_BYTES (256u << 20) // of each code, far beyond any cache
#define SAMPLE_BYTES (8u << 20)   // of a pass over memory
#define CHUNK 1024u               // rows of a call
#define GATHER_ROWS 4096u         // of a sample
#define NEIGHBOURS 32u            // of a graph's node

typedef enum code { CODE_FP32, CODE_BF16, CODE_BF16_INSTRUCTION, CODE_INT8, CODE_BITS, CODE_BITS_ERROR, CODES } code;
static const char *const code_names[] = {"fp32", "bf16", "bf16, vdpbf16ps", "int8", "1 bit", "1 bit with errors"};
static const uint32_t dimensions[] = {384, 768};

void *bench_alloc(size_t size) {
  void *p = rag_aligned_alloc(64, (size + 63) / 64 * 64);
  if (!p) {
    fprintf(stderr, "codes: no memory for %zu bytes\n", size);
    exit(1);
  }
  return p;
}

uint64_t bench_random(uint64_t *state) { // splitmix64
  uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

double bench_cpu_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

// A query in every form, and rows in one.
typedef struct subject {
  code code;
  uint32_t dimension;
  size_t stride; // bytes of a row
  uint32_t rows;
  uint8_t *base;
  float *query;
  uint16_t *query_bf16;
  int8_t *query_codes;
  uint64_t *planes;
  rag_codes_int8_query int8;
  rag_codes_bits_query bits;
  const rag_codes_kernels *kernels;
  const rag_kernels *floats;
} subject;

static size_t stride_of(code c, uint32_t dimension) {
  if (c == CODE_FP32) return dimension * sizeof(float);
  if (c == CODE_BF16 || c == CODE_BF16_INSTRUCTION) return rag_codes_bf16_padded(dimension) * sizeof(uint16_t);
  return c == CODE_INT8 ? rag_codes_int8_bytes(dimension) : rag_codes_bits_bytes(dimension);
}

// Rows of random bytes that are valid in their code: the time of a kernel does not depend on what they say.
static void fill_rows(subject *s) {
  uint64_t random = 1;
  size_t words = (size_t)s->rows * s->stride / 8;
  for (size_t i = 0; i < words; i++) {
    uint64_t draw = bench_random(&random);
    if (s->code == CODE_FP32) draw = (draw & 0x807fffff807fffffull) | 0x3d0000003d000000ull; // +-0.03 to 0.06
    if (s->code == CODE_BF16 || s->code == CODE_BF16_INSTRUCTION)
      draw = (draw & 0x807f807f807f807full) | 0x3d003d003d003d00ull;
    memcpy(s->base + i * 8, &draw, 8);
  }
  rag_codes_bits_head head = {.add = 0.5f, .rescale = 0.01f, .spread = 0.36f, .balance = 2};
  for (uint32_t r = 0; s->code >= CODE_BITS && r < s->rows; r++) memcpy(s->base + r * s->stride, &head, sizeof head);
}

static subject make_subject(code c, uint32_t dimension, uint32_t rows) {
  subject s = {.code = c, .dimension = dimension, .stride = stride_of(c, dimension), .rows = rows};
  uint64_t random = 2;
  s.base = bench_alloc(rows * s.stride);
  s.query = bench_alloc(dimension * sizeof(float));
  s.query_bf16 = bench_alloc(rag_codes_bf16_padded(dimension) * sizeof(uint16_t));
  s.query_codes = bench_alloc(rag_codes_int8_bytes(dimension));
  s.planes = bench_alloc(rag_codes_bits_query_words(dimension) * sizeof(uint64_t));
  for (uint32_t i = 0; i < dimension; i++) s.query[i] = (float)(bench_random(&random) >> 40) / 8388608.0f - 1.0f;
  rag_codes_bf16_encode(s.query, dimension, s.query_bf16);
  rag_codes_int8_query_init(s.query, dimension, s.query_codes, &s.int8);
  rag_codes_bits_query_init(s.query, dimension, RAG_CODES_BITS_CERTAINTY, s.planes,
                            &s.bits); // both are multiples of 64
  rag_codes_bits_query_list(&s.bits, RAG_METRIC_IP, 0, 1);
  fill_rows(&s);
  return s;
}

static void drop_subject(subject *s) {
  rag_free(s->base);
  rag_free(s->query);
  rag_free(s->query_bf16);
  rag_free(s->query_codes);
  rag_free(s->planes);
}

// What bf16 would cost with its own instruction, of both sides in bf16 and with its own rounding: eight rows at a time,
// as the kernels do it. For deciding whether that is worth unequal bits.
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static void
instruction_rows(const uint16_t *query, const uint16_t *base, size_t stride, uint32_t rows, uint32_t dimension,
                 float *out) {
  for (uint32_t i = 0; i + 8 <= rows; i += 8) {
    __m512 sum[8];
#pragma GCC unroll 8
    for (unsigned r = 0; r < 8; r++) sum[r] = _mm512_setzero_ps();
    for (uint32_t at = 0; at < dimension; at += 32) {
      __m512bh q = (__m512bh)_mm512_loadu_si512(query + at);
#pragma GCC unroll 8
      for (unsigned r = 0; r < 8; r++) {
        sum[r] = _mm512_dpbf16_ps(sum[r], q, (__m512bh)_mm512_loadu_si512(base + (i + r) * stride + at));
      }
    }
#pragma GCC unroll 8
    for (unsigned r = 0; r < 8; r++) out[i + r] = _mm512_reduce_add_ps(sum[r]);
  }
}
static bool has_instruction(void) {
  return __builtin_cpu_supports("avx512bf16");
}
#else
static void instruction_rows(const uint16_t *query, const uint16_t *base, size_t stride, uint32_t rows,
                             uint32_t dimension, float *out) {
  RAG_UNUSED(query), RAG_UNUSED(base), RAG_UNUSED(stride), RAG_UNUSED(rows), RAG_UNUSED(dimension), RAG_UNUSED(out);
}
static bool has_instruction(void) {
  return false;
}
#endif

static void scan(const subject *s, uint32_t first, uint32_t rows, float *out) {
  const uint8_t *base = s->base + first * s->stride;
  size_t halves = s->stride / 2;
  switch (s->code) {
  case CODE_FP32:
    s->floats->dot_rows(s->query, (const float *)(const void *)base, s->dimension, rows, s->dimension, out);
    break;
  case CODE_BF16:
    s->kernels->bf16_dot_rows(s->query, (const uint16_t *)(const void *)base, halves, rows, s->dimension, out);
    break;
  case CODE_BF16_INSTRUCTION:
    instruction_rows(s->query_bf16, (const uint16_t *)(const void *)base, halves, rows, s->dimension, out);
    break;
  case CODE_INT8:
    s->kernels->int8_rows(&s->int8, base, s->stride, rows, (int32_t *)(void *)out);
    break;
  default:
    s->kernels->bits_rows(&s->bits, base, s->stride, rows, out, s->code == CODE_BITS_ERROR ? out + CHUNK : NULL);
  }
}

static void gather(const subject *s, const uint32_t *ids, uint32_t count, float *out) {
  const float *rows[GATHER_ROWS];
  const uint16_t *halves[GATHER_ROWS];
  switch (s->code) {
  case CODE_FP32:
    for (uint32_t i = 0; i < count; i++) rows[i] = (const float *)(const void *)(s->base + ids[i] * s->stride);
    s->floats->dot_gather(s->query, rows, count, s->dimension, out);
    break;
  case CODE_BF16:
    for (uint32_t i = 0; i < count; i++) halves[i] = (const uint16_t *)(const void *)(s->base + ids[i] * s->stride);
    s->kernels->bf16_dot_gather(s->query, halves, count, s->dimension, out);
    break;
  case CODE_INT8:
    s->kernels->int8_gather(&s->int8, s->base, s->stride, ids, count, (int32_t *)(void *)out);
    break;
  default:
    s->kernels->bits_gather(&s->bits, s->base, s->stride, ids, count, out,
                            s->code == CODE_BITS_ERROR ? out + GATHER_ROWS : NULL);
  }
}

static void print_result(const subject *s, const char *kernels, const char *access, const char *where, double us,
                         uint32_t rows) {
  static bool printed;
  double ns = us * 1000 / rows;
  printf("%s    {\"code\": \"%s\", \"kernels\": \"%s\", \"dimension\": %u, \"access\": \"%s\", \"where\": \"%s\", "
         "\"row_bytes\": %zu, \"ns_per_row\": %.2f, \"gb_per_s\": %.2f}",
         printed ? ",\n" : "", code_names[s->code], kernels, s->dimension, access, where, s->stride, ns,
         (double)s->stride / ns);
  printed = true;
}

static double median(double samples[SAMPLES]) {
  qsort(samples, SAMPLES, sizeof samples[0], compare_doubles);
  return samples[SAMPLES / 2];
}

static void time_scan(const subject *s, uint32_t rows, const char *kernels, const char *where) {
  float out[2 * CHUNK];
  double samples[SAMPLES];
  uint32_t pass = RAG_MIN((uint32_t)(SAMPLE_BYTES / s->stride) / CHUNK * CHUNK, rows / 8 * 8), first = 0;
  uint32_t repeats = (uint32_t)(SAMPLE_BYTES / s->stride) / pass;
  for (uint32_t i = 0; i <= SAMPLES; i++) {
    double start = bench_cpu_us();
    for (uint32_t n = 0; n < repeats; n++) {
      if (first + pass > rows) first = 0;
      for (uint32_t at = 0; at < pass; at += CHUNK) scan(s, first + at, RAG_MIN(CHUNK, pass - at), out);
      first += pass;
    }
    if (i > 0) samples[i - 1] = (bench_cpu_us() - start) / repeats; // the first warms up
  }
  print_result(s, kernels, "sequential", where, median(samples), pass);
}

typedef struct gathering {
  const char *name;
  uint32_t batch;
  bool ahead; // the caller asks for the next batch's lines before it scores this one
} gathering;
static const gathering gatherings[] = {
    {"gathered, 8 a call: no prefetch", 8, false},
    {"gathered, 32 a call", NEIGHBOURS, false},
    {"gathered, 32 a call, asked for one call ahead", NEIGHBOURS, true},
    {"gathered, 4096 a call", GATHER_ROWS, false},
};

static void time_gather(const subject *s, const gathering *g, const char *kernels) {
  static uint32_t ids[GATHER_ROWS];
  static float out[2 * GATHER_ROWS];
  double samples[SAMPLES];
  uint64_t random = 3;
  for (uint32_t i = 0; i < SAMPLES; i++) {
    for (uint32_t j = 0; j < GATHER_ROWS; j++) ids[j] = (uint32_t)(bench_random(&random) % s->rows);
    double start = bench_cpu_us();
    for (uint32_t at = 0; at < GATHER_ROWS; at += g->batch) {
      for (uint32_t j = at + g->batch; g->ahead && j < RAG_MIN(at + 2 * g->batch, GATHER_ROWS); j++) {
        rag_codes_prefetch(s->base + ids[j] * s->stride, s->stride);
      }
      gather(s, ids + at, g->batch, out);
    }
    samples[i] = bench_cpu_us() - start;
  }
  print_result(s, kernels, g->name, "memory", median(samples), GATHER_ROWS);
}

// 16 queries at once with the rows of a cache, and with rows of memory.
static void time_tile(const subject *s, const char *kernels, const char *where, uint32_t rows) {
  enum { QUERIES = 16, TILE_ROWS = 64 };
  rag_codes_int8_query queries[QUERIES];
  static int32_t out[QUERIES * TILE_ROWS];
  for (uint32_t q = 0; q < QUERIES; q++) queries[q] = s->int8;
  double samples[SAMPLES];
  uint32_t first = 0, pass = 4096;
  for (uint32_t i = 0; i < SAMPLES; i++) {
    double start = bench_cpu_us();
    for (uint32_t at = 0; at < pass; at += TILE_ROWS, first += TILE_ROWS) {
      if (first + TILE_ROWS > rows) first = 0;
      s->kernels->int8_tile(queries, QUERIES, s->base + first * s->stride, s->stride, TILE_ROWS, out);
    }
    samples[i] = bench_cpu_us() - start;
  }
  print_result(s, kernels, "sequential, 16 queries (figures for all of them)", where, median(samples), pass);
}

static void measure_code(code c, uint32_t dimension) {
  static const char *const names[] = {"avx512", "avx2", "scalar"};
  if (c == CODE_BF16_INSTRUCTION && !has_instruction()) return;
  size_t stride = stride_of(c, dimension);
  uint32_t rows = (uint32_t)(MEMORY_BYTES / stride), cached = (uint32_t)(CACHE_BYTES / stride);
  subject s = make_subject(c, dimension, rows);
  for (size_t n = 0; n < RAG_COUNT_OF(names); n++) {
    s.kernels = rag_codes_kernels_named(names[n]);
    s.floats = rag_kernels_named(names[n]);
    if (!s.kernels || !s.floats) continue;
    if (c == CODE_BF16_INSTRUCTION && n > 0) break;
    time_scan(&s, cached, names[n], "cache");
    if (n == 2) break; // the scalar set is slower than any memory
    time_scan(&s, rows, names[n], "memory");
    if (c == CODE_INT8) {
      time_tile(&s, names[n], "cache", cached);
      time_tile(&s, names[n], "memory", rows);
    }
    for (size_t g = 0; n == 0 && c != CODE_BF16_INSTRUCTION && g < RAG_COUNT_OF(gatherings); g++) {
      time_gather(&s, &gatherings[g], names[n]);
    }
  }
  drop_subject(&s);
}

static void time_preparation(uint32_t dimension) {
  float *vector = bench_alloc(dimension * sizeof(float)), *rotated = bench_alloc(dimension * sizeof(float));
  uint8_t *out = bench_alloc(rag_codes_int8_bytes(dimension));
  uint64_t *planes = bench_alloc(rag_codes_bits_query_words(dimension) * sizeof(uint64_t)), random = 4;
  rag_codes_rotation *rotation = NULL;
  rag_codes_int8_factors factors;
  rag_codes_int8_query int8;
  rag_codes_bits_query bits;
  if (rag_codes_rotation_create(dimension, 1, &rotation, NULL) != RAG_OK) exit(1);
  for (uint32_t i = 0; i < dimension; i++) vector[i] = (float)(bench_random(&random) >> 40) / 8388608.0f - 1.0f;
  double took[5][SAMPLES];
  for (uint32_t i = 0; i < SAMPLES; i++) {
    for (unsigned what = 0; what < 5; what++) {
      double start = bench_cpu_us();
      for (unsigned n = 0; n < 200; n++) {
        vector[n % dimension] += 1e-3f;
        if (what == 0) rag_codes_int8_encode(vector, dimension, out, &factors);
        if (what == 1) rag_codes_int8_query_init(vector, dimension, (int8_t *)out, &int8);
        if (what == 2) rag_codes_rotate(rotation, vector, rotated);
        if (what == 3) rag_codes_bits_encode(rotated, NULL, dimension, RAG_METRIC_IP, out);
        if (what == 4) rag_codes_bits_query_init(rotated, dimension, 1.9f, planes, &bits);
      }
      took[what][i] = (bench_cpu_us() - start) / 200;
    }
  }
  static const char *const names[] = {"int8_encode", "int8_query", "rotate", "bits_encode", "bits_query"};
  printf("    {\"dimension\": %u", dimension);
  for (unsigned what = 0; what < 5; what++) printf(", \"%s_us\": %.3f", names[what], median(took[what]));
  printf("}");
  rag_codes_rotation_destroy(rotation);
  rag_free(vector);
  rag_free(rotated);
  rag_free(out);
  rag_free(planes);
}

static void print_machine(void) {
  char line[256], model[128] = "unknown";
  double load = 0;
  FILE *file = fopen("/proc/cpuinfo", "re");
  while (file && fgets(line, sizeof line, file)) {
    if (sscanf(line, "model name : %127[^\n]", model) == 1) break;
  }
  if (file) fclose(file);
  if (getloadavg(&load, 1) != 1) load = -1;
  printf("  \"machine\": {\"cpu\": \"%s\", \"cpus\": %u, \"load_average_before\": %.1f},\n  \"compiler\": \"%s\",\n",
         model, rag_os_cpu_count(), load, __VERSION__);
}

int main(int argc, char **argv) {
  if (argc > 3 && strcmp(argv[1], "recall") == 0) return bench_recall(argc - 2, argv + 2);
  if (argc > 1) {
    fprintf(stderr, "usage: bench_codes\n       bench_codes recall BASE.npy... QUERIES.npy\n");
    return 2;
  }
  printf("{\n");
  print_machine();
  printf("  \"preparation\": [\n");
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++) {
    time_preparation(dimensions[d]);
    printf(d + 1 < RAG_COUNT_OF(dimensions) ? ",\n" : "\n  ],\n  \"rows\": [\n");
  }
  for (size_t d = 0; d < RAG_COUNT_OF(dimensions); d++)
    for (int c = 0; c < CODES; c++) measure_code((code)c, dimensions[d]);
  printf("\n  ]\n}\n");
  return 0;
}
