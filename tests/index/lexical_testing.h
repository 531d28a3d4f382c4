// What the tests of the lexical index share: corpora of made-up words, and the oracle: the definitions of index.h
// written as plainly as they are there, over the chunks' own terms, with no list, bound or cache.
#ifndef RAGD_LEXICAL_TESTING_H
#define RAGD_LEXICAL_TESTING_H

#include "index_testing.h"

typedef struct corpus_chunk {
  uint32_t ordinal;
  uint32_t text_count, title_count;
  uint32_t extra_count, title_extra_count;
  uint32_t *words; // text, title, extras, the title's extras: numbers of words
} corpus_chunk;

typedef struct corpus {
  corpus_chunk *chunks;
  uint32_t count;
  uint32_t words; // of the vocabulary
  uint32_t title_weight;
  char (*names)[16];
  rag_slice *slices; // names as slices
} corpus;

static inline uint32_t corpus_chunk_words(const corpus_chunk *chunk) {
  return chunk->text_count + chunk->title_count + chunk->extra_count + chunk->title_extra_count;
}

// Zipf-like: word number 0 is in most texts, the last ones in hardly any.
static inline uint32_t random_word(uint64_t *random, uint32_t words) {
  double u = (double)(next_random(random) >> 11) / 9007199254740992.0;
  uint32_t word = (uint32_t)(pow((double)words + 1, u) - 1);
  return word < words ? word : words - 1;
}

static inline void corpus_create(corpus *c, uint32_t chunks, uint32_t words, uint32_t length, uint32_t title_weight,
                                 uint32_t gap, uint64_t *random) {
  *c = (corpus){.count = chunks, .words = words, .title_weight = title_weight};
  c->chunks = calloc(chunks, sizeof *c->chunks);
  c->names = calloc(words, sizeof *c->names);
  c->slices = calloc(words, sizeof *c->slices);
  for (uint32_t w = 0; w < words; w++) {
    snprintf(c->names[w], sizeof c->names[w], "%c%c%u", (char)('a' + w % 7), (char)('a' + w / 7 % 5), w);
    c->slices[w] = rag_slice_str(c->names[w]);
  }
  uint32_t ordinal = 0;
  for (uint32_t i = 0; i < chunks; i++) {
    corpus_chunk *chunk = &c->chunks[i];
    chunk->ordinal = ordinal;
    ordinal += 1 + (gap > 0 ? random_below(random, gap) : 0);
    uint32_t long_one = random_below(random, 40) == 0 ? 10 : 1;
    chunk->text_count = random_below(random, length * 2 * long_one);
    chunk->title_count = random_below(random, 5);
    if (random_below(random, 3) == 0) {
      chunk->extra_count = random_below(random, 4);
      chunk->title_extra_count = random_below(random, 3);
    }
    uint32_t all = corpus_chunk_words(chunk);
    chunk->words = calloc(all + 1, sizeof(uint32_t));
    for (uint32_t j = 0; j < all; j++) {
      bool repeat = j > 0 && random_below(random, 4) == 0;
      chunk->words[j] = repeat ? chunk->words[random_below(random, j)] : random_word(random, words);
    }
  }
}

static inline void corpus_free(corpus *c) {
  for (uint32_t i = 0; i < c->count; i++) free(c->chunks[i].words);
  free(c->chunks);
  free(c->names);
  free(c->slices);
}

static inline rag_status corpus_append_some(rag_lexical *lexical, const corpus *c, const uint32_t *which,
                                            uint32_t count, rag_error *err) {
  rag_lexical_chunk *chunks = calloc(count + 1, sizeof *chunks);
  rag_slice **terms = calloc(count + 1, sizeof *terms);
  for (uint32_t i = 0; i < count; i++) {
    const corpus_chunk *chunk = &c->chunks[which[i]];
    uint32_t all = corpus_chunk_words(chunk), path = chunk->text_count + chunk->title_count;
    terms[i] = calloc(all + 1, sizeof **terms);
    for (uint32_t j = 0; j < all; j++) terms[i][j] = c->slices[chunk->words[j]];
    chunks[i] = (rag_lexical_chunk){.ordinal = chunk->ordinal,
                                    .text = terms[i],
                                    .text_count = chunk->text_count,
                                    .title = terms[i] + chunk->text_count,
                                    .title_count = chunk->title_count,
                                    .extra = terms[i] + path,
                                    .extra_count = chunk->extra_count,
                                    .title_extra = terms[i] + path + chunk->extra_count,
                                    .title_extra_count = chunk->title_extra_count};
  }
  rag_status status = rag_lexical_append(lexical, chunks, count, err);
  for (uint32_t i = 0; i < count; i++) free(terms[i]);
  free(terms);
  free(chunks);
  return status;
}

static inline rag_status corpus_append(rag_lexical *lexical, const corpus *c, uint32_t first, uint32_t count,
                                       rag_error *err) {
  uint32_t *which = calloc(count + 1, sizeof *which);
  for (uint32_t i = 0; i < count; i++) which[i] = first + i;
  rag_status status = corpus_append_some(lexical, c, which, count, err);
  free(which);
  return status;
}

// ---------------------------------------------------------------------------------------------- the oracle

static inline uint32_t oracle_length(const corpus *c, const corpus_chunk *chunk) {
  return chunk->text_count + chunk->title_count * c->title_weight;
}

static inline bool same_bytes(const corpus *c, uint32_t word, rag_slice text, bool prefix) {
  rag_slice name = c->slices[word];
  if (prefix ? name.size < text.size : name.size != text.size) return false;
  return memcmp(name.data, text.data, text.size) == 0;
}

// f of the clause in the chunk.
static inline uint32_t oracle_tf(const corpus *c, const corpus_chunk *chunk, const rag_lexical_clause *clause) {
  uint32_t found = 0;
  for (uint32_t part = 0; part < 2; part++) {
    const uint32_t *words = chunk->words + (part ? chunk->text_count : 0);
    uint32_t count = part ? chunk->title_count : chunk->text_count;
    for (uint32_t i = 0; i + clause->term_count <= count; i++) {
      bool all = true;
      for (uint32_t j = 0; all && j < clause->term_count; j++) {
        all = same_bytes(c, words[i + j], clause->terms[j], clause->kind == RAG_LEXICAL_PREFIX);
      }
      found += all ? (part ? c->title_weight : 1) : 0;
    }
  }
  const uint32_t *extras = chunk->words + chunk->text_count + chunk->title_count;
  for (uint32_t i = 0; clause->term_count == 1 && i < chunk->extra_count + chunk->title_extra_count; i++) {
    bool same = same_bytes(c, extras[i], clause->terms[0], clause->kind == RAG_LEXICAL_PREFIX);
    found += same ? (i < chunk->extra_count ? 1 : c->title_weight) : 0;
  }
  return found;
}

static inline uint32_t oracle_df(const corpus *c, const rag_bitmap *live, const rag_lexical_clause *clause) {
  uint32_t df = 0;
  for (uint32_t i = 0; i < c->count; i++) {
    df += rag_bitmap_has(live, c->chunks[i].ordinal) && oracle_tf(c, &c->chunks[i], clause) > 0;
  }
  return df;
}

static inline int oracle_hit_compare(const void *a, const void *b) {
  const rag_lexical_hit *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

static inline uint64_t oracle_total_length(const corpus *c, const rag_bitmap *live) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < c->count; i++) {
    if (rag_bitmap_has(live, c->chunks[i].ordinal)) total += oracle_length(c, &c->chunks[i]);
  }
  return total;
}

// Every chunk scored; hits has room for all of them. `live` holds chunks that the index has.
static inline uint32_t oracle_search(const corpus *c, const rag_bitmap *live, const rag_lexical_query *query,
                                     rag_lexical_hit *hits) {
  double k1 = query->bm25 ? query->bm25->k1 : 1.2, b = query->bm25 ? query->bm25->b : 0.75;
  double n = (double)rag_bitmap_count(live), mean = (double)oracle_total_length(c, live) / n, total = 0;
  uint32_t clauses = query->clause_count, count = 0;
  double *weight = calloc(clauses + 1, sizeof *weight), *scaled = calloc(clauses + 1, sizeof *scaled);
  bool any_must = false;
  for (uint32_t i = 0; i < clauses; i++) { // equal terms are one, at the place of the first
    const rag_lexical_clause *x = &query->clauses[i];
    uint32_t at = i;
    any_must |= x->occur == RAG_LEXICAL_MUST;
    for (uint32_t j = 0; j < i && x->kind != RAG_LEXICAL_PREFIX && x->term_count == 1; j++) {
      const rag_lexical_clause *y = &query->clauses[j];
      bool term = y->kind != RAG_LEXICAL_PREFIX && y->term_count == 1;
      if (term && x->occur == y->occur && rag_slice_equal(x->terms[0], y->terms[0])) {
        at = j;
        break;
      }
    }
    weight[at] += (double)x->weight;
  }
  for (uint32_t i = 0; i < clauses; i++) {
    const rag_lexical_clause *x = &query->clauses[i];
    double idf = 0;
    bool known = true;
    for (uint32_t j = 0; j < x->term_count; j++) {
      rag_lexical_clause one = *x;
      one.terms = &x->terms[j];
      one.term_count = 1;
      double df = oracle_df(c, live, &one);
      known = known && df > 0;
      idf += log1p((n - df + 0.5) / (df + 0.5));
    }
    if (weight[i] > 0 && known && x->occur != RAG_LEXICAL_MUST_NOT) {
      scaled[i] = weight[i] * idf * (k1 + 1);
      total += scaled[i];
    }
  }
  int exponent = 0;
  frexp(total, &exponent);
  int scale = 30 - exponent;
  float fa = (float)(k1 * (1 - b)), fb = mean > 0 ? (float)(k1 * b / mean) : 0;
  for (uint32_t i = 0; i < c->count; i++) {
    const corpus_chunk *chunk = &c->chunks[i];
    if (!rag_bitmap_has(live, chunk->ordinal)) continue;
    if (query->filter && !rag_bitmap_has(query->filter, chunk->ordinal)) continue;
    uint64_t sum = 0;
    bool match = true, any = false;
    for (uint32_t j = 0; match && j < clauses; j++) {
      const rag_lexical_clause *x = &query->clauses[j];
      uint32_t tf = oracle_tf(c, chunk, x);
      if (x->occur == RAG_LEXICAL_MUST) match = tf > 0;
      if (x->occur == RAG_LEXICAL_MUST_NOT) match = tf == 0;
      if (tf == 0 || x->occur == RAG_LEXICAL_MUST_NOT) continue;
      any = true;
      if (weight[j] == 0) continue; // joined to an earlier one
      float f = (float)tf, length = (float)oracle_length(c, chunk);
      float part = (float)ldexp(scaled[j], scale) * (f / (f + (fa + fb * length)));
      sum += 1 + (uint64_t)part;
    }
    if (!match || (!any_must && !any)) continue;
    if (any_must && sum == 0) continue;
    hits[count++] = (rag_lexical_hit){.ordinal = chunk->ordinal, .score = ldexp((double)sum, -scale)};
  }
  qsort(hits, count, sizeof *hits, oracle_hit_compare);
  free(weight);
  free(scaled);
  return RAG_MIN(count, query->k);
}

// ---------------------------------------------------------------------------------------------- helpers

static inline rag_bitmap *random_set(const corpus *c, double share, uint64_t *random) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *set = NULL;
  assert_non_null(edit);
  for (uint32_t i = 0; i < c->count; i++) {
    if ((double)(next_random(random) >> 11) < share * 9007199254740992.0) {
      assert_int_equal(rag_bitmap_edit_add(edit, c->chunks[i].ordinal), RAG_OK);
    }
  }
  assert_int_equal(rag_bitmap_edit_finish(edit, &set), RAG_OK);
  return set;
}

#define QUERY_CLAUSES_MAX 12u
typedef struct random_query {
  rag_lexical_query query;
  rag_lexical_bm25 bm25;
  rag_lexical_clause clauses[QUERY_CLAUSES_MAX];
  rag_slice terms[QUERY_CLAUSES_MAX][3];
} random_query;

// Words, some of them twice, some unknown; phrases that occur and that do not; prefixes; of every role.
static inline void make_query(random_query *q, const corpus *c, bool plain, uint64_t *random) {
  static const uint32_t ks[] = {1, 2, 10, 100, 129, 1000, 10000};
  memset(q, 0, sizeof *q);
  q->query.clauses = q->clauses;
  q->query.clause_count = 1 + random_below(random, plain ? 8 : QUERY_CLAUSES_MAX);
  q->query.k = ks[random_below(random, RAG_COUNT_OF(ks))];
  if (random_below(random, 4) == 0) {
    q->bm25 = (rag_lexical_bm25){random_below(random, 30) / 10.0, random_below(random, 11) / 10.0};
    q->query.bm25 = &q->bm25;
  }
  for (uint32_t i = 0; i < q->query.clause_count; i++) {
    rag_lexical_clause *clause = &q->clauses[i];
    rag_slice *terms = q->terms[i];
    uint32_t dice = plain ? 0 : random_below(random, 100);
    clause->weight = random_below(random, 3) ? 1.0f : 0.1f + (float)random_below(random, 50) / 10.0f;
    clause->terms = terms;
    clause->term_count = 1;
    clause->occur = dice % 10 == 7 ? RAG_LEXICAL_MUST : dice % 10 == 8 ? RAG_LEXICAL_MUST_NOT : RAG_LEXICAL_SHOULD;
    terms[0] = c->slices[random_below(random, 2) ? random_word(random, c->words) : random_below(random, c->words)];
    if (clause->occur == RAG_LEXICAL_MUST) terms[0] = c->slices[random_below(random, RAG_MIN(c->words, 12u))];
    if (dice >= 70 && dice < 85) {
      const corpus_chunk *chunk = &c->chunks[random_below(random, c->count)];
      uint32_t count = 1 + random_below(random, 3), all = chunk->text_count + chunk->title_count;
      clause->kind = RAG_LEXICAL_PHRASE;
      clause->term_count = count;
      uint32_t at = all > count ? random_below(random, all - count) : 0;
      for (uint32_t j = 0; j < count; j++) {
        terms[j] = c->slices[all > count ? chunk->words[at + j] : random_word(random, c->words)];
      }
    } else if (dice >= 85 && dice < 95) {
      clause->kind = RAG_LEXICAL_PREFIX;
      terms[0].size = 2 + random_below(random, 2); // names have three bytes and more
    } else if (dice >= 98) {
      terms[0] = rag_slice_str("unknown");
    }
  }
}

#endif
