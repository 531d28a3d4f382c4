// How well does lexical search find things with this text analysis, and what is each part of it worth? (README.md says
// with which data, and holds the results.)
//
//   analysis_quality DIR SPLIT     DIR in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv
//
// BM25 in plain code over every document that holds a word of the query; one JSON object a line for each variant. A
// word counts once for each time in the text and `title_weight` times for each in the title; lengths likewise, of path
// tokens. idf is ln(1 + (N - n + 0.5) / (n + 0.5)); ties by place in the corpus.
#include "base/base.h"
#include "base/json.h"
#include "index/index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES_MAX (1u << 30)
#define DEPTH 100 // of recall
#define CUT 10    // of nDCG
#define QUERY_TERMS_MAX 4096u

typedef struct item {
  char *id, *title, *text;
} item;
typedef struct judgement {
  char *query, *document;
  double gain;
} judgement;
typedef struct posting {
  uint32_t document, in_text, in_title;
} posting;
typedef struct term {
  char *bytes;
  uint32_t size, posting_count, capacity;
  posting *postings;
} term;

typedef struct collection {
  item *documents, *queries;
  size_t document_count, query_count;
  judgement *judgements; // sorted by query, then document
  size_t judgement_count;
} collection;

// The corpus as one analyser sees it.
typedef struct corpus_index {
  term *slots; // by hash, open
  size_t slot_count, term_count;
  uint32_t *text_lengths, *title_lengths;
  bool extras; // tokens beside the path count
} corpus_index;

typedef struct variant {
  const char *name, *language;
  bool drop_stops, extras, parser;
  double title_weight, k1, b;
} variant;

static void *need(void *p) {
  if (p) return p;
  fprintf(stderr, "analysis_quality: out of memory\n");
  exit(1);
}

static void check(rag_status status, const rag_error *err) {
  if (status == RAG_OK) return;
  fprintf(stderr, "analysis_quality: %s\n", err->message);
  exit(1);
}

// ---------------------------------------------------------------------------------------------- data

static char *read_all(const char *dir, const char *name) {
  char path[4096], *text = NULL;
  size_t size;
  rag_error err = {0};
  snprintf(path, sizeof(path), "%s/%s", dir, name);
  check(rag_os_read_file(path, FILE_BYTES_MAX, &text, &size, &err), &err);
  return text;
}

static bool next_line(char **rest, char **line) {
  if (!**rest) return false;
  *line = *rest;
  char *end = strchr(*rest, '\n');
  *rest = end ? end + 1 : *rest + strlen(*rest);
  if (end) *end = '\0';
  return true;
}

static char *member(rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value) || rag_json_type_of(value) != RAG_JSON_STRING) {
    return need(rag_strdup(""));
  }
  rag_slice s = rag_json_string(value);
  return need(rag_strndup(s.data, s.size));
}

static item *read_items(const char *dir, const char *name, size_t *count) {
  char *text = read_all(dir, name), *rest = text, *line;
  rag_json_parser *parser = need(rag_json_parser_create());
  item *items = NULL;
  size_t capacity = 0;
  *count = 0;
  while (next_line(&rest, &line)) {
    rag_json object;
    rag_error err = {0};
    if (!*line) continue;
    check(rag_json_parse(parser, rag_slice_str(line), &object, &err), &err);
    if (*count == capacity) {
      capacity = capacity ? capacity * 2 : 1024;
      items = need(rag_realloc_array(items, capacity, sizeof(*items)));
    }
    items[(*count)++] = (item){member(object, "_id"), member(object, "title"), member(object, "text")};
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
  char name[256], *line;
  snprintf(name, sizeof(name), "qrels/%s.tsv", split);
  char *rest = read_all(dir, name); // kept: the judgements point into it
  size_t capacity = 0;
  next_line(&rest, &line); // the heading
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

// ---------------------------------------------------------------------------------------------- the index

static term *find_term(const corpus_index *index, rag_slice bytes) {
  size_t slot = rag_hash64(bytes.data, bytes.size) & (index->slot_count - 1);
  for (;; slot = (slot + 1) & (index->slot_count - 1)) {
    term *t = &index->slots[slot];
    if (!t->bytes || (t->size == bytes.size && memcmp(t->bytes, bytes.data, bytes.size) == 0)) return t;
  }
}

static void grow(corpus_index *index) {
  corpus_index larger = *index;
  larger.slot_count = index->slot_count ? index->slot_count * 2 : 1u << 16;
  larger.slots = need(rag_calloc(larger.slot_count, sizeof(term)));
  for (size_t i = 0; i < index->slot_count; i++) {
    term *t = &index->slots[i];
    if (t->bytes) *find_term(&larger, rag_slice_of(t->bytes, t->size)) = *t;
  }
  rag_free(index->slots);
  *index = larger;
}

typedef struct adding {
  corpus_index *index;
  uint32_t document, path;
  bool title;
} adding;

static bool add_token(void *context, const rag_token *token) {
  adding *a = context;
  a->path += !(token->flags & RAG_TOKEN_EXTRA);
  if (token->flags & RAG_TOKEN_EXTRA && !a->index->extras) return true;
  if (a->index->term_count * 2 >= a->index->slot_count) grow(a->index);
  term *t = find_term(a->index, token->term);
  if (!t->bytes) {
    t->bytes = need(rag_strndup(token->term.data, token->term.size));
    t->size = (uint32_t)token->term.size;
    a->index->term_count++;
  }
  if (t->posting_count == 0 || t->postings[t->posting_count - 1].document != a->document) {
    if (t->posting_count == t->capacity) {
      t->capacity = t->capacity ? t->capacity * 2 : 4;
      t->postings = need(rag_realloc_array(t->postings, t->capacity, sizeof(posting)));
    }
    t->postings[t->posting_count++] = (posting){a->document, 0, 0};
  }
  posting *p = &t->postings[t->posting_count - 1];
  if (a->title) p->in_title++;
  else p->in_text++;
  return true;
}

static uint32_t add_text(rag_analyzer *analyzer, corpus_index *index, uint32_t document, const char *text, bool title) {
  adding a = {index, document, 0, title};
  check(rag_analyzer_run(analyzer, rag_slice_str(text), add_token, &a), &(rag_error){0});
  return a.path;
}

static corpus_index build(const collection *data, rag_analyzer *analyzer, bool extras) {
  corpus_index index = {.extras = extras};
  grow(&index);
  index.text_lengths = need(rag_calloc(data->document_count, sizeof(uint32_t)));
  index.title_lengths = need(rag_calloc(data->document_count, sizeof(uint32_t)));
  for (uint32_t i = 0; i < data->document_count; i++) {
    index.title_lengths[i] = add_text(analyzer, &index, i, data->documents[i].title, true);
    index.text_lengths[i] = add_text(analyzer, &index, i, data->documents[i].text, false);
  }
  return index;
}

static void destroy(corpus_index *index) {
  for (size_t i = 0; i < index->slot_count; i++) {
    rag_free(index->slots[i].bytes);
    rag_free(index->slots[i].postings);
  }
  rag_free(index->slots);
  rag_free(index->text_lengths);
  rag_free(index->title_lengths);
}

// ---------------------------------------------------------------------------------------------- queries

typedef struct query_term {
  rag_slice bytes;
  uint32_t count;
  uint32_t start, end;
} query_term;
typedef struct query_terms {
  rag_arena *arena;
  query_term *terms;
  uint32_t count;
  bool extras;
} query_terms;

static bool take_query_token(void *context, const rag_token *token) {
  query_terms *q = context;
  if (token->flags & RAG_TOKEN_EXTRA && !q->extras) return true;
  char *copy = need(rag_arena_strndup(q->arena, token->term.data, token->term.size));
  q->terms[q->count++] = (query_term){rag_slice_of(copy, token->term.size), 1, token->start, token->end};
  return q->count < QUERY_TERMS_MAX;
}

static bool drop_stop(void *context, const rag_token *token) {
  query_terms *q = context;
  for (uint32_t i = 0; token->flags & RAG_TOKEN_STOP && i < q->count; i++) {
    if (q->terms[i].start == token->start && q->terms[i].end == token->end) q->terms[i].count = 0;
  }
  return true;
}

static query_terms read_query(const variant *v, rag_analyzer *analyzer, rag_analyzer *english, rag_arena *arena,
                              const char *text) {
  query_terms q = {arena, need(rag_arena_calloc(arena, QUERY_TERMS_MAX, sizeof(query_term))), 0, v->extras};
  rag_error err = {0};
  if (v->parser) {
    rag_words_query parsed;
    check(rag_words_parse(analyzer, rag_slice_str(text), arena, &parsed, &err), &err);
    for (uint32_t i = 0; i < parsed.clause_count; i++) {
      if (parsed.clauses[i].kind != RAG_WORDS_TERM) continue;
      q.terms[q.count++] = (query_term){parsed.clauses[i].terms[0], parsed.clauses[i].count, 0, 0};
    }
    return q;
  }
  check(rag_analyzer_run(analyzer, rag_slice_str(text), take_query_token, &q), &err);
  if (v->drop_stops) check(rag_analyzer_run(english, rag_slice_str(text), drop_stop, &q), &err);
  return q;
}

static void score(const corpus_index *index, const variant *v, size_t document_count, double mean, const query_terms *q,
                  double *scores) {
  memset(scores, 0, document_count * sizeof(*scores));
  for (uint32_t i = 0; i < q->count; i++) {
    const term *t = find_term(index, q->terms[i].bytes);
    double n = t->posting_count;
    double idf = log(1 + ((double)document_count - n + 0.5) / (n + 0.5));
    for (uint32_t p = 0; p < t->posting_count; p++) {
      const posting *at = &t->postings[p];
      double f = at->in_text + v->title_weight * at->in_title;
      double length = index->text_lengths[at->document] + v->title_weight * index->title_lengths[at->document];
      scores[at->document] +=
          q->terms[i].count * idf * f * (v->k1 + 1) / (f + v->k1 * (1 - v->b + v->b * length / mean));
    }
  }
}

// The DEPTH best of `scores` above zero into `best`, best first.
static size_t top(const double *scores, size_t count, size_t best[DEPTH]) {
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    if (scores[i] <= 0 || (kept == DEPTH && scores[i] <= scores[best[DEPTH - 1]])) continue;
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

static void measure(const collection *data, const char *dir, const char *split, const variant *v) {
  rag_error err = {0};
  rag_analyzer *analyzer, *english;
  check(rag_analyzer_open(rag_slice_str(v->language), &analyzer, &err), &err);
  check(rag_analyzer_open(rag_slice_str("en"), &english, &err), &err);
  corpus_index index = build(data, analyzer, v->extras);
  double *scores = need(rag_alloc(data->document_count * sizeof(double)));
  double *ideal = need(rag_alloc((data->judgement_count + 1) * sizeof(double)));
  double mean = 0, ndcg_sum = 0, recall_sum = 0;
  for (size_t i = 0; i < data->document_count; i++) {
    mean += index.text_lengths[i] + v->title_weight * index.title_lengths[i];
  }
  mean /= (double)data->document_count;
  size_t queries = 0;
  for (size_t query = 0; query < data->query_count; query++) {
    const char *id = data->queries[query].id;
    size_t first = 0, relevant = 0;
    while (first < data->judgement_count && strcmp(data->judgements[first].query, id) != 0) first++;
    size_t end = first;
    for (; end < data->judgement_count && strcmp(data->judgements[end].query, id) == 0; end++) {
      if (data->judgements[end].gain > 0) ideal[relevant++] = data->judgements[end].gain;
    }
    if (relevant == 0) continue;
    queries++;
    rag_arena *arena = need(rag_arena_create(0));
    query_terms q = read_query(v, analyzer, english, arena, data->queries[query].text);
    score(&index, v, data->document_count, mean, &q, scores);
    rag_arena_destroy(arena);
    size_t best[DEPTH], kept = top(scores, data->document_count, best), found = 0;
    double dcg = 0, ideal_dcg = 0;
    for (size_t rank = 0; rank < kept; rank++) {
      judgement key = {data->queries[query].id, data->documents[best[rank]].id, 0};
      const judgement *hit = bsearch(&key, data->judgements + first, end - first, sizeof(key), judgement_order);
      if (!hit || hit->gain <= 0) continue;
      found++;
      if (rank < CUT) dcg += hit->gain / log2((double)rank + 2);
    }
    qsort(ideal, relevant, sizeof(*ideal), gain_order);
    for (size_t rank = 0; rank < RAG_MIN(relevant, (size_t)CUT); rank++)
      ideal_dcg += ideal[rank] / log2((double)rank + 2);
    ndcg_sum += dcg / ideal_dcg;
    recall_sum += (double)found / (double)relevant;
  }
  const char *name = strrchr(dir, '/') ? strrchr(dir, '/') + 1 : dir;
  printf(
      "{\"data\": \"%s\", \"split\": \"%s\", \"variant\": \"%s\", \"analyzer\": \"%s\", \"title_weight\": %g, \"k1\": "
      "%g, \"b\": %g, \"documents\": %zu, \"queries\": %zu, \"terms\": %zu, \"mean_length\": %.1f, \"ndcg_at_10\": "
      "%.4f, \"recall_at_100\": %.4f}\n",
      name, split, v->name, rag_analyzer_id(analyzer), v->title_weight, v->k1, v->b, data->document_count, queries,
      index.term_count, mean, ndcg_sum / (double)queries, recall_sum / (double)queries);
  fflush(stdout);
  rag_free(ideal);
  rag_free(scores);
  destroy(&index);
  rag_analyzer_close(english);
  rag_analyzer_close(analyzer);
}

static const variant variants[] = {
    {"as it is", "en", true, true, true, 1, 1.2, 0.75},
    {"as it is, k1 0.9 b 0.4", "en", true, true, true, 1, 0.9, 0.4},
    {"title 2", "en", true, true, true, 2, 1.2, 0.75},
    {"title 2, k1 0.9 b 0.4", "en", true, true, true, 2, 0.9, 0.4},
    {"title 3", "en", true, true, true, 3, 1.2, 0.75},
    {"no title", "en", true, true, true, 0, 1.2, 0.75},
    {"stop words kept", "en", false, true, false, 1, 1.2, 0.75},
    {"stop words kept, k1 0.9 b 0.4", "en", false, true, false, 1, 0.9, 0.4},
    {"no stemming", "und", true, true, false, 1, 1.2, 0.75},
    {"no stemming, stop words kept", "und", false, true, false, 1, 1.2, 0.75},
    {"no wholes, no parts", "en", true, false, false, 1, 1.2, 0.75},
};

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: analysis_quality DIR SPLIT\n");
    return 2;
  }
  collection data = {0};
  data.documents = read_items(argv[1], "corpus.jsonl", &data.document_count);
  data.queries = read_items(argv[1], "queries.jsonl", &data.query_count);
  read_judgements(argv[1], argv[2], &data);
  for (size_t i = 0; i < RAG_COUNT_OF(variants); i++) measure(&data, argv[1], argv[2], &variants[i]);
  return 0; // the collection goes with the process
}
