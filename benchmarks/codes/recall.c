// What are the codes' rankings worth? On given embeddings (.npy, float32, unit rows): the recall@10 that is left when the
// C rows which score best by code are re-scored exactly; how often a 1-bit score is within its error; and how many rows
// a scan re-scores, and what it misses, when the error decides instead of a fixed C.
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

#define K 10u
#define QUERIES_MAX 500u
#define DEPTH_MAX 1000u
#define BLOCK 1024u
#define SEED 1u
static const uint32_t depths[] = {10, 12, 15, 20, 30, 50, 100, 200, 500, 1000};

typedef struct matrix {
  float *values;
  uint32_t rows, columns;
} matrix;

static void refuse(const char *path, const char *why) {
  fprintf(stderr, "codes: %s: %s\n", path, why);
  exit(1);
}

static void append_npy(matrix *m, const char *path) {
  char *data = NULL;
  size_t size = 0;
  rag_error err = {0};
  if (rag_os_read_file(path, SIZE_MAX / 2, &data, &size, &err) != RAG_OK) refuse(path, err.message);
  if (size < 10 || memcmp(data, "\x93NUMPY\x01", 7) != 0) refuse(path, "not a .npy file of version 1");
  size_t header = 10 + (size_t)(uint8_t)data[8] + 256 * (size_t)(uint8_t)data[9];
  char text[512] = {0};
  memcpy(text, data + 10, RAG_MIN(RAG_MIN(header, size) - 10, sizeof text - 1));
  unsigned rows = 0, columns = 0;
  const char *shape = strstr(text, "'shape': (");
  if (!strstr(text, "'<f4'") || !strstr(text, "False") || !shape ||
      sscanf(shape, "'shape': (%u, %u)", &rows, &columns) != 2 || columns == 0 || columns > RAG_DIMENSION_MAX) {
    refuse(path, "not a float32 matrix by rows");
  }
  if (size != header + (size_t)rows * columns * sizeof(float)) refuse(path, "cut short");
  if (m->rows && m->columns != columns) refuse(path, "of another dimension");
  float *grown = rag_realloc_array(m->values, ((size_t)m->rows + rows) * columns, sizeof(float));
  if (!grown) refuse(path, "no memory");
  memcpy(grown + (size_t)m->rows * columns, data + header, (size_t)rows * columns * sizeof(float));
  *m = (matrix){grown, m->rows + rows, columns};
  rag_free(data);
}

// ---------------------------------------------------------------------------------------------- rankings

typedef struct ranked {
  float score;
  uint32_t row;
} ranked;

static int compare_ranked(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->row < y->row ? -1 : x->row > y->row;
}

// The best DEPTH_MAX of all, best first: sort what passes the last kept one, in batches.
typedef struct ranking {
  ranked *list; // room for 2 * DEPTH_MAX
  uint32_t count;
  float floor;
} ranking;

static void cut(ranking *r) {
  qsort(r->list, r->count, sizeof *r->list, compare_ranked);
  r->count = RAG_MIN(r->count, DEPTH_MAX);
  if (r->count == DEPTH_MAX) r->floor = r->list[DEPTH_MAX - 1].score;
}
static void offer(ranking *r, uint32_t row, float score) {
  if (score < r->floor) return;
  r->list[r->count++] = (ranked){score, row};
  if (r->count == 2 * DEPTH_MAX) cut(r);
}

// ---------------------------------------------------------------------------------------------- codes

typedef struct codes {
  const rag_codes_kernels *kernels;
  uint8_t *int8;
  rag_codes_int8_factors *factors;
  uint8_t *bits[2]; // of the rows, and of the rows less their mean
  rag_codes_rotation *rotation;
  float *mean, *mean_rotated;
  uint32_t int8_bytes, bits_bytes;
} codes;

static codes encode(const matrix *base) {
  uint32_t n = base->columns;
  codes c = {.kernels = rag_codes_kernels_best(),
             .int8_bytes = rag_codes_int8_bytes(n),
             .bits_bytes = rag_codes_bits_bytes(n)};
  float *row = bench_alloc(rag_codes_padded(n) * sizeof(float));
  double *sums = bench_alloc(n * sizeof(double));
  c.int8 = bench_alloc((size_t)base->rows * c.int8_bytes);
  c.factors = bench_alloc(base->rows * sizeof *c.factors);
  for (unsigned i = 0; i < 2; i++) c.bits[i] = bench_alloc((size_t)base->rows * c.bits_bytes);
  c.mean = bench_alloc(n * sizeof(float));
  c.mean_rotated = bench_alloc(rag_codes_padded(n) * sizeof(float));
  if (rag_codes_rotation_create(n, SEED, &c.rotation, NULL) != RAG_OK) exit(1);
  memset(sums, 0, n * sizeof *sums);
  for (uint32_t r = 0; r < base->rows; r++)
    for (uint32_t i = 0; i < n; i++) sums[i] += (double)base->values[(size_t)r * n + i];
  for (uint32_t i = 0; i < n; i++) c.mean[i] = (float)(sums[i] / base->rows);
  rag_codes_rotate(c.rotation, c.mean, c.mean_rotated);
  for (uint32_t r = 0; r < base->rows; r++) {
    const float *vector = base->values + (size_t)r * n;
    rag_codes_int8_encode(vector, n, c.int8 + (size_t)r * c.int8_bytes, &c.factors[r]);
    rag_codes_rotate(c.rotation, vector, row);
    rag_codes_bits_encode(row, NULL, n, RAG_METRIC_COSINE, c.bits[0] + (size_t)r * c.bits_bytes);
    rag_codes_bits_encode(row, c.mean_rotated, n, RAG_METRIC_COSINE, c.bits[1] + (size_t)r * c.bits_bytes);
  }
  rag_free(row);
  rag_free(sums);
  return c;
}

typedef enum way { WAY_INT8, WAY_BITS, WAY_BITS_MEAN, WAYS } way;
static const char *const way_names[] = {"int8", "1 bit", "1 bit, less the mean"};

typedef struct tally {
  uint64_t hits[RAG_COUNT_OF(depths)];
  double within, rows;          // 1-bit scores within their error
  uint64_t scored, pruned_hits; // of the scan that the error decides
} tally;

// The ten best so far of a scan that re-scores where the upper bound reaches the tenth.
static void prune(const float *exact, const float *score, const float *error, uint32_t rows, const ranked *best,
                  tally *t) {
  ranked kept[K + 1];
  uint32_t count = 0;
  for (uint32_t r = 0; r < rows; r++) {
    if (count == K && score[r] + error[r] < kept[K - 1].score) continue;
    t->scored++;
    uint32_t at = count;
    kept[count++] = (ranked){exact[r], r};
    for (; at > 0 && compare_ranked(&kept[at], &kept[at - 1]) < 0; at--) {
      ranked moved = kept[at];
      kept[at] = kept[at - 1];
      kept[at - 1] = moved;
    }
    count = RAG_MIN(count, K);
  }
  for (uint32_t i = 0; i < K; i++)
    for (uint32_t j = 0; j < count; j++) t->pruned_hits += best[i].row == kept[j].row;
}

static double dot(const float *a, const float *b, uint32_t n) {
  double sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
  return sum;
}

static void ask(const matrix *base, const codes *c, const float *query, tally tallies[WAYS]) {
  uint32_t n = base->columns, rows = base->rows;
  float *exact = bench_alloc(rows * sizeof(float)), *score = bench_alloc(rows * sizeof(float));
  float *error = bench_alloc(rows * sizeof(float)), *rotated = bench_alloc(rag_codes_padded(n) * sizeof(float));
  int8_t *query_codes = bench_alloc(c->int8_bytes);
  uint64_t *planes = bench_alloc(rag_codes_bits_query_words(n) * sizeof(uint64_t));
  ranked *list = bench_alloc(2 * DEPTH_MAX * sizeof *list), best[K];
  rag_kernels_best()->dot_rows(query, base->values, n, rows, n, exact);
  ranking top = {list, 0, -2};
  for (uint32_t r = 0; r < rows; r++) offer(&top, r, exact[r]);
  cut(&top);
  memcpy(best, list, sizeof best);

  rag_codes_int8_query int8;
  rag_codes_bits_query bits;
  rag_codes_int8_query_init(query, n, query_codes, &int8);
  rag_codes_rotate(c->rotation, query, rotated);
  rag_codes_bits_query_init(rotated, n, RAG_CODES_BITS_CERTAINTY, planes, &bits);
  double inner = dot(query, c->mean, n), norm = dot(query, query, n);
  double distance = norm - 2 * inner + dot(c->mean, c->mean, n);
  for (unsigned w = 0; w < WAYS; w++) {
    if (w == WAY_INT8) {
      int32_t sums[BLOCK];
      for (uint32_t at = 0; at < rows; at += BLOCK) {
        uint32_t count = RAG_MIN(BLOCK, rows - at);
        c->kernels->int8_rows(&int8, c->int8 + (size_t)at * c->int8_bytes, c->int8_bytes, count, sums);
        rag_codes_int8_scores(&int8, RAG_METRIC_COSINE, c->factors + at, NULL, sums, count, score + at);
      }
    } else {
      bool mean = w == WAY_BITS_MEAN;
      rag_codes_bits_query_list(&bits, RAG_METRIC_COSINE, mean ? (float)inner : 0,
                                (float)__builtin_sqrt(mean ? distance : norm));
      c->kernels->bits_rows(&bits, c->bits[mean], c->bits_bytes, rows, score, error);
      for (uint32_t r = 0; r < rows; r++) tallies[w].within += __builtin_fabsf(score[r] - exact[r]) <= error[r];
      tallies[w].rows += rows;
      prune(exact, score, error, rows, best, &tallies[w]);
    }
    top = (ranking){list, 0, -__builtin_inff()};
    for (uint32_t r = 0; r < rows; r++) offer(&top, r, score[r]);
    cut(&top);
    for (uint32_t i = 0; i < K; i++) {
      uint32_t place = 0;
      while (place < top.count && list[place].row != best[i].row) place++;
      for (size_t d = 0; d < RAG_COUNT_OF(depths); d++) tallies[w].hits[d] += place < RAG_MIN(depths[d], top.count);
    }
  }
  rag_free(exact);
  rag_free(score);
  rag_free(error);
  rag_free(rotated);
  rag_free(query_codes);
  rag_free(planes);
  rag_free(list);
}

int bench_recall(int path_count, char **paths) {
  matrix base = {0}, queries = {0};
  for (int i = 0; i + 1 < path_count; i++) append_npy(&base, paths[i]);
  append_npy(&queries, paths[path_count - 1]);
  if (queries.columns != base.columns || base.rows < DEPTH_MAX)
    refuse(paths[0], "too few rows, or of another dimension");
  codes c = encode(&base);
  tally tallies[WAYS] = {0};
  uint32_t count = RAG_MIN(queries.rows, QUERIES_MAX);
  for (uint32_t q = 0; q < count; q++) ask(&base, &c, queries.values + (size_t)q * queries.columns, tallies);
  double hits = (double)count * K;
  printf("{\n  \"rows\": %u, \"dimension\": %u, \"queries\": %u, \"k\": %u, \"certainty\": %.1f,\n  \"codes\": [\n",
         base.rows, base.columns, count, K, (double)RAG_CODES_BITS_CERTAINTY);
  for (unsigned w = 0; w < WAYS; w++) {
    printf("    {\"code\": \"%s\", \"recall\": {", way_names[w]);
    for (size_t d = 0; d < RAG_COUNT_OF(depths); d++) {
      printf("%s\"%u\": %.4f", d ? ", " : "", depths[d], (double)tallies[w].hits[d] / hits);
    }
    printf("}");
    if (w != WAY_INT8) {
      printf(", \"within_error\": %.4f, \"pruned\": {\"rescored\": %.1f, \"recall\": %.4f}",
             tallies[w].within / tallies[w].rows, (double)tallies[w].scored / count,
             (double)tallies[w].pruned_hits / hits);
    }
    printf(w + 1 < WAYS ? "},\n" : "}\n");
  }
  printf("  ]\n}\n");
  rag_codes_rotation_destroy(c.rotation);
  rag_free(c.int8);
  rag_free(c.factors);
  rag_free(c.bits[0]);
  rag_free(c.bits[1]);
  rag_free(c.mean);
  rag_free(c.mean_rotated);
  rag_free(base.values);
  rag_free(queries.values);
  return 0;
}
