// How good and how fast is the built-in hash embedder? (README.md says with which data, and holds the results.)
//
//   hash_quality quality DIR SPLIT MODEL...   DIR in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv
//   hash_quality speed MODEL...
//
// A MODEL is one that rag_embedder_open knows, or bow-N: plain hashed bag of words, the baseline (lower-case ASCII
// words, raw counts, one signed bucket each). One JSON object a line goes to standard output. nDCG@10 and recall@100
// are of an exact search by inner product over "title text", ties by place in the corpus.
#include "base/base.h"
#include "base/json.h"
#include "embed/embed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX (1u << 30)
#define DEPTH 100 // of recall
#define CUT 10    // of nDCG

typedef struct text_item {
  char *id, *text;
} text_item;

typedef struct judgement {
  char *query, *document;
  double gain;
} judgement;

typedef struct collection {
  text_item *documents, *queries;
  size_t document_count, query_count;
  judgement *judgements; // sorted by query, then document
  size_t judgement_count;
} collection;

static void fatal(const rag_error *err) {
  fprintf(stderr, "hash_quality: %s\n", err->message);
  exit(1);
}

static void *need(void *p) {
  if (!p) {
    fprintf(stderr, "hash_quality: out of memory\n");
    exit(1);
  }
  return p;
}

static char *read_all(const char *dir, const char *name, size_t *size) {
  char path[4096], *text = NULL;
  rag_error err = {0};
  snprintf(path, sizeof(path), "%s/%s", dir, name);
  if (rag_os_read_file(path, FILE_BYTES_MAX, &text, size, &err) != RAG_OK) fatal(&err);
  return text;
}

// The next line of *rest, without its end; false at the end of the text.
static bool next_line(char **rest, char **line) {
  if (!**rest) return false;
  *line = *rest;
  char *end = strchr(*rest, '\n');
  *rest = end ? end + 1 : *rest + strlen(*rest);
  if (end) *end = '\0';
  return true;
}

static rag_slice member(rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value) || rag_json_type_of(value) != RAG_JSON_STRING) {
    return rag_slice_of("", 0);
  }
  return rag_json_string(value);
}

static text_item *read_items(const char *dir, const char *name, size_t *count) {
  size_t size, capacity = 0;
  char *text = read_all(dir, name, &size), *rest = text, *line;
  rag_json_parser *parser = need(rag_json_parser_create());
  text_item *items = NULL;
  *count = 0;
  while (next_line(&rest, &line)) {
    if (!*line) continue;
    rag_json object;
    rag_error err = {0};
    if (rag_json_parse(parser, rag_slice_str(line), &object, &err) != RAG_OK) fatal(&err);
    if (*count == capacity) {
      capacity = capacity ? capacity * 2 : 1024;
      items = need(rag_realloc_array(items, capacity, sizeof(*items)));
    }
    rag_slice id = member(object, "_id"), title = member(object, "title"), body = member(object, "text");
    rag_buf joined = {0};
    rag_buf_append(&joined, title.data, title.size);
    if (title.size) rag_buf_append_char(&joined, ' ');
    rag_buf_append(&joined, body.data, body.size);
    rag_buf_append_char(&joined, '\0');
    if (rag_buf_check(&joined, &err) != RAG_OK) fatal(&err);
    items[(*count)++] = (text_item){need(rag_strndup(id.data, id.size)), joined.data};
  }
  rag_json_parser_destroy(parser);
  rag_free(text);
  return items;
}

static int judgement_order(const void *a, const void *b) {
  const judgement *x = a, *y = b;
  int order = strcmp(x->query, y->query);
  return order ? order : strcmp(x->document, y->document);
}

static void read_judgements(const char *dir, const char *split, collection *data) {
  char name[256];
  snprintf(name, sizeof(name), "qrels/%s.tsv", split);
  size_t size, capacity = 0;
  char *rest = read_all(dir, name, &size), *line; // kept: the judgements point into it
  next_line(&rest, &line);                        // the heading
  while (next_line(&rest, &line)) {
    char *document = strchr(line, '\t');
    char *gain = document ? strchr(document + 1, '\t') : NULL;
    if (!gain) continue;
    *document++ = *gain++ = '\0';
    if (data->judgement_count == capacity) {
      capacity = capacity ? capacity * 2 : 1024;
      data->judgements = need(rag_realloc_array(data->judgements, capacity, sizeof(judgement)));
    }
    data->judgements[data->judgement_count++] = (judgement){line, document, strtod(gain, NULL)};
  }
  qsort(data->judgements, data->judgement_count, sizeof(judgement), judgement_order);
}

// ---------------------------------------------------------------------------------------------- models

typedef struct model {
  rag_embedder *embedder; // NULL: the baseline
  uint32_t dimension;
} model;

static model model_open(const char *name) {
  if (strncmp(name, "bow-", 4) == 0) return (model){NULL, (uint32_t)strtoul(name + 4, NULL, 10)};
  model m = {0};
  rag_error err = {0};
  if (rag_embedder_open(rag_slice_str(name), &m.embedder, &err) != RAG_OK) fatal(&err);
  m.dimension = rag_embedder_dimension(m.embedder);
  return m;
}

static void bag_of_words(const char *text, uint32_t dimension, float *out) {
  memset(out, 0, dimension * sizeof(*out));
  for (const char *p = text; *p;) {
    uint64_t hash = 0xcbf29ce484222325ull; // FNV-1a
    size_t size = 0;
    for (;; p++, size++) {
      char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
      if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))) break;
      hash = (hash ^ (unsigned char)c) * 0x100000001b3ull;
    }
    if (size) {
      hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ull;
      out[(hash >> 32) * dimension >> 32] += hash >> 20 & 1 ? 1.0f : -1.0f;
    } else {
      p++;
    }
  }
  double square = 0;
  for (uint32_t i = 0; i < dimension; i++) square += (double)out[i] * (double)out[i];
  double scale = square > 0 ? 1 / sqrt(square) : 0;
  for (uint32_t i = 0; i < dimension; i++) out[i] = (float)((double)out[i] * scale);
}

static void embed(const model *m, rag_embed_role role, const char *text, float *out) {
  if (!m->embedder) {
    bag_of_words(text, m->dimension, out);
    return;
  }
  rag_slice slice = rag_slice_str(text);
  rag_error err = {0};
  if (rag_embedder_embed(m->embedder, role, &slice, 1, out, &err) != RAG_OK) fatal(&err);
}

// ---------------------------------------------------------------------------------------------- quality

static float inner_product(const float *a, const float *b, uint32_t dimension) {
  float lanes[16] = {0};
  uint32_t i = 0;
  for (; i + 16 <= dimension; i += 16) {
    for (uint32_t j = 0; j < 16; j++) lanes[j] += a[i + j] * b[i + j];
  }
  float sum = 0;
  for (; i < dimension; i++) sum += a[i] * b[i];
  for (uint32_t j = 0; j < 16; j++) sum += lanes[j];
  return sum;
}

// The DEPTH best of `scores` into `best`, best first.
static size_t top(const float *scores, size_t count, size_t best[DEPTH]) {
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    if (kept == DEPTH && scores[i] <= scores[best[DEPTH - 1]]) continue;
    size_t at = kept < DEPTH ? kept++ : DEPTH - 1;
    for (; at > 0 && scores[best[at - 1]] < scores[i]; at--) best[at] = best[at - 1];
    best[at] = i;
  }
  return kept;
}

static int gain_order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x < y) - (x > y);
}

static void measure_quality(const collection *data, const char *dir, const char *split, const char *name) {
  model m = model_open(name);
  float *rows = need(rag_alloc(data->document_count * m.dimension * sizeof(float)));
  float *query = need(rag_alloc(m.dimension * sizeof(float)));
  float *scores = need(rag_alloc(data->document_count * sizeof(float)));
  double *ideal = need(rag_alloc((data->judgement_count + 1) * sizeof(double)));
  for (size_t i = 0; i < data->document_count; i++) {
    embed(&m, RAG_EMBED_DOCUMENT, data->documents[i].text, rows + i * m.dimension);
  }
  double ndcg_sum = 0, recall_sum = 0;
  size_t queries = 0, first = 0;
  for (size_t q = 0; q < data->query_count; q++) {
    const char *id = data->queries[q].id;
    for (first = 0; first < data->judgement_count && strcmp(data->judgements[first].query, id) != 0;) first++;
    size_t relevant = 0, end = first;
    for (; end < data->judgement_count && strcmp(data->judgements[end].query, id) == 0; end++) {
      if (data->judgements[end].gain > 0) ideal[relevant++] = data->judgements[end].gain;
    }
    if (relevant == 0) continue;
    queries++;
    embed(&m, RAG_EMBED_QUERY, data->queries[q].text, query);
    for (size_t i = 0; i < data->document_count; i++) {
      scores[i] = inner_product(query, rows + i * m.dimension, m.dimension);
    }
    size_t best[DEPTH], kept = top(scores, data->document_count, best);
    double dcg = 0, ideal_dcg = 0;
    size_t found = 0;
    for (size_t rank = 0; rank < kept; rank++) {
      judgement key = {data->queries[q].id, data->documents[best[rank]].id, 0};
      const judgement *hit = bsearch(&key, data->judgements + first, end - first, sizeof(key), judgement_order);
      if (!hit || hit->gain <= 0) continue;
      found++;
      if (rank < CUT) dcg += hit->gain / log2((double)rank + 2);
    }
    qsort(ideal, relevant, sizeof(*ideal), gain_order);
    for (size_t rank = 0; rank < RAG_MIN(relevant, (size_t)CUT); rank++) {
      ideal_dcg += ideal[rank] / log2((double)rank + 2);
    }
    ndcg_sum += dcg / ideal_dcg;
    recall_sum += (double)found / (double)relevant;
  }
  const char *collection_name = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;
  printf("{\"data\": \"%s\", \"split\": \"%s\", \"model\": \"%s\", \"documents\": %zu, \"queries\": %zu, "
         "\"ndcg_at_10\": %.4f, \"recall_at_100\": %.4f}\n",
         collection_name, split, name, data->document_count, queries, ndcg_sum / (double)queries,
         recall_sum / (double)queries);
  fflush(stdout);
  rag_free(ideal);
  rag_free(scores);
  rag_free(query);
  rag_free(rows);
  rag_ref_drop(m.embedder);
}

// ---------------------------------------------------------------------------------------------- speed

#define SAMPLES 501
#define ROUNDS 200 // calls timed together

static const struct {
  const char *name, *text;
} speed_texts[] = {
    {"query of 5 words", "restore backup of damaged database"},
    {"paragraph of 62 words",
     "The store keeps every change in a log before it answers, so that a machine which loses power in the middle of a "
     "write comes back with all acknowledged commits and nothing else. Readers never wait for writers: each search "
     "pins one version, walks its index, checks the candidates against full vectors, and returns the nearest chunks "
     "with their scores and texts."},
    {"French, 59 words",
     "Le dépôt écrit chaque modification dans un journal avant de répondre, si bien qu'une machine privée de courant "
     "au milieu d'une écriture revient avec toutes les validations confirmées et rien d'autre. Les lecteurs "
     "n'attendent jamais: chaque requête épingle une version, parcourt son index, vérifie les candidats, puis "
     "renvoie les passages les plus proches avec leurs scores et leurs textes."},
    {"Russian, 34 words",
     "Хранилище записывает каждое изменение в журнал, прежде чем ответить, поэтому машина, потерявшая питание "
     "посреди записи, возвращается со всеми подтверждёнными изменениями. Читатели никогда не ждут: каждый запрос "
     "закрепляет версию и проверяет кандидатов по полным векторам."},
};

static int double_order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure_speed(const char *name) {
  model m = model_open(name);
  float *out = need(rag_alloc(m.dimension * sizeof(float)));
  for (size_t t = 0; t < RAG_COUNT_OF(speed_texts); t++) {
    double samples[SAMPLES];
    for (size_t s = 0; s < SAMPLES; s++) {
      uint64_t start = rag_clock_monotonic_ns();
      for (size_t r = 0; r < ROUNDS; r++) embed(&m, RAG_EMBED_DOCUMENT, speed_texts[t].text, out);
      samples[s] = (double)(rag_clock_monotonic_ns() - start) / ROUNDS / 1000;
    }
    qsort(samples, SAMPLES, sizeof(*samples), double_order);
    printf("{\"model\": \"%s\", \"text\": \"%s\", \"bytes\": %zu, \"median_us\": %.3f, \"p10_us\": %.3f, \"p90_us\": "
           "%.3f, \"samples\": %d, \"calls_per_sample\": %d}\n",
           name, speed_texts[t].name, strlen(speed_texts[t].text), samples[SAMPLES / 2], samples[SAMPLES / 10],
           samples[SAMPLES * 9 / 10], SAMPLES, ROUNDS);
  }
  rag_free(out);
  rag_ref_drop(m.embedder);
}

int main(int argc, char **argv) {
  if (argc >= 3 && strcmp(argv[1], "speed") == 0) {
    for (int i = 2; i < argc; i++) measure_speed(argv[i]);
    return 0;
  }
  if (argc < 5 || strcmp(argv[1], "quality") != 0) {
    fprintf(stderr, "usage: hash_quality quality DIR SPLIT MODEL...\n       hash_quality speed MODEL...\n");
    return 2;
  }
  collection data = {0};
  data.documents = read_items(argv[2], "corpus.jsonl", &data.document_count);
  data.queries = read_items(argv[2], "queries.jsonl", &data.query_count);
  read_judgements(argv[2], argv[3], &data);
  for (int i = 4; i < argc; i++) measure_quality(&data, argv[2], argv[3], argv[i]);
  return 0; // the collection goes with the process
}
