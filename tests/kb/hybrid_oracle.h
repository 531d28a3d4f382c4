// What a search of a version must answer, found by looking at every live document: words are scored by the oracle of the
// lexical index (lexical_testing.h), vectors by rag_vector_score; filters are rag_filter_match; fusion, groups and
// diversity are written out here once more, as plainly as kb.h and the files of kb/retrieval state them.
#ifndef RAGD_TESTS_HYBRID_ORACLE_H
#define RAGD_TESTS_HYBRID_ORACLE_H

#include "hybrid_test.h"

typedef struct hy_hit {
  const hy_doc *doc;
  uint32_t chunk, index; // its number, and which of the document's it is
  bool has_vector, has_lexical;
  float vector, lexical;
  double score;
} hy_hit;

typedef struct hy_hits {
  hy_hit *items;
  uint32_t count;
} hy_hits;

static inline int hy_by_score(const void *a, const void *b) {
  const hy_hit *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

static inline const float *hy_vector_of(const hy_world *w, const hy_hit *hit, float room[HY_DIMENSION]) {
  const hy_text *t = &hy->texts[hit->doc->text];
  if (!w->given) return t->vectors[hit->index];
  if (!t->has_given[hit->index]) return NULL;
  memcpy(room, t->given[hit->index], HY_DIMENSION * sizeof *room);
  if (w->metric == RAG_METRIC_COSINE) rag_vector_normalize(room, HY_DIMENSION);
  return room;
}

// Every chunk of a document that passes and has a vector, best first.
static inline hy_hits hy_nearest(const hy_world *w, const hy_version *v, const rag_filter *filter, const float *query) {
  hy_hits out = {.items = calloc(v->chunks + 1, sizeof *out.items)};
  for (uint32_t d = 0; d < v->count; d++) {
    if (!hy_passes(filter, &v->docs[d])) continue;
    for (uint32_t c = 0; c < v->docs[d].chunks; c++) {
      float room[HY_DIMENSION];
      hy_hit hit = {.doc = &v->docs[d], .chunk = v->docs[d].first_chunk + c, .index = c, .has_vector = true};
      const float *vector = hy_vector_of(w, &hit, room);
      if (vector == NULL) continue;
      hit.vector = rag_vector_score(query, vector, HY_DIMENSION, w->metric);
      hit.score = (double)hit.vector;
      out.items[out.count++] = hit;
    }
  }
  qsort(out.items, out.count, sizeof *out.items, hy_by_score);
  return out;
}

// Every chunk that matches, best first: document frequencies and lengths are of the whole version.
static inline hy_hits hy_matching(const hy_version *v, const rag_filter *filter, const hy_query *q) {
  hy_hits out = {.items = calloc(v->chunks + 1, sizeof *out.items)};
  corpus c = {.chunks = calloc(v->chunks + 1, sizeof(corpus_chunk)),
              .words = hy->term_count,
              .title_weight = 2,
              .slices = hy->terms};
  hy_hit *all = calloc(v->chunks + 1, sizeof *all);
  rag_lexical_hit *hits = calloc(v->chunks + 1, sizeof *hits);
  rag_bitmap_edit *live = rag_bitmap_edit_create(NULL), *passing = rag_bitmap_edit_create(NULL);
  rag_bitmap *live_set = NULL, *passing_set = NULL;
  uint32_t *words = NULL;
  size_t room = 0, used = 0;
  for (int measure = 1; measure >= 0; measure--) {
    if (!measure) assert_non_null(words = calloc(room + 1, sizeof *words));
    for (uint32_t d = 0; d < v->count; d++) {
      const hy_doc *doc = &v->docs[d];
      const hy_terms *title = &hy->title_terms[doc->language][doc->title];
      bool pass = !measure && hy_passes(filter, doc);
      for (uint32_t i = 0; i < doc->chunks; i++) {
        const hy_terms *text = &hy->texts[doc->text].terms[doc->language][i];
        uint32_t total = text->path_count + title->path_count + text->extra_count + title->extra_count;
        if (measure) {
          room += total;
          continue;
        }
        corpus_chunk *to = &c.chunks[c.count];
        *to = (corpus_chunk){.ordinal = doc->first_chunk + i,
                             .text_count = text->path_count,
                             .title_count = title->path_count,
                             .extra_count = text->extra_count,
                             .title_extra_count = title->extra_count,
                             .words = words + used};
        uint32_t *at = to->words;
        for (uint32_t t = 0; t < text->path_count; t++) *at++ = text->path[t];
        for (uint32_t t = 0; t < title->path_count; t++) *at++ = title->path[t];
        for (uint32_t t = 0; t < text->extra_count; t++) *at++ = text->extra[t];
        for (uint32_t t = 0; t < title->extra_count; t++) *at++ = title->extra[t];
        used += total;
        all[c.count++] = (hy_hit){.doc = doc, .chunk = to->ordinal, .index = i, .has_lexical = true};
        assert_int_equal(rag_bitmap_edit_add(live, to->ordinal), RAG_OK);
        if (pass) assert_int_equal(rag_bitmap_edit_add(passing, to->ordinal), RAG_OK);
      }
    }
  }
  assert_int_equal(rag_bitmap_edit_finish(live, &live_set), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(passing, &passing_set), RAG_OK);
  rag_lexical_query query = {.clauses = q->clauses, .clause_count = q->count, .k = UINT32_MAX, .filter = passing_set};
  if (c.count > 0) out.count = oracle_search(&c, live_set, &query, hits);
  for (uint32_t i = 0; i < out.count; i++) {
    uint32_t at = 0;
    while (all[at].chunk != hits[i].ordinal) at++;
    out.items[i] = all[at];
    out.items[i].score = hits[i].score;
    out.items[i].lexical = (float)hits[i].score;
  }
  rag_ref_drop(live_set);
  rag_ref_drop(passing_set);
  free(c.chunks);
  free(words);
  free(all);
  free(hits);
  return out;
}

// 1 for the best, less for the others: the span is at least a tenth of the larger score.
static inline double hy_scaled(double score, double best, double worst) {
  double span = fmax(best - worst, 0.1 * fmax(fabs(best), fabs(worst)));
  return span > 0 ? 1 - (best - score) / span : 1;
}

static inline hy_hits hy_fused(const hy_hits *vector, const hy_hits *lexical, uint32_t depth,
                               const rag_fusion *fusion) {
  uint32_t nv = RAG_MIN(vector->count, depth), nl = RAG_MIN(lexical->count, depth);
  hy_hits out = {.items = calloc((size_t)nv + nl + 1, sizeof *out.items)};
  double wv = fusion->has_weights ? (double)fusion->vector_weight : 1;
  double wl = fusion->has_weights ? (double)fusion->lexical_weight : 1;
  double k = fusion->k > 0 ? fusion->k : 60;
  bool rrf = fusion->method == RAG_FUSION_RRF;
  for (uint32_t i = 0; i < nv; i++) {
    hy_hit hit = vector->items[i];
    double best = vector->items[0].score, worst = vector->items[nv - 1].score;
    hit.score = rrf ? wv / (k + i + 1) : wv / (wv + wl) * hy_scaled(hit.score, best, worst);
    out.items[out.count++] = hit;
  }
  for (uint32_t i = 0; i < nl; i++) {
    const hy_hit *hit = &lexical->items[i];
    double score = rrf ? wl / (k + i + 1) : wl / (wv + wl) * (hit->score / lexical->items[0].score);
    uint32_t at = 0;
    while (at < nv && out.items[at].chunk != hit->chunk) at++;
    if (at == nv) {
      at = out.count++;
      out.items[at] = *hit;
      out.items[at].score = 0;
    }
    out.items[at].has_lexical = true;
    out.items[at].lexical = hit->lexical;
    out.items[at].score += score;
  }
  qsort(out.items, out.count, sizeof *out.items, hy_by_score);
  return out;
}

static inline void hy_group(hy_hits *hits, uint32_t per_document) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < hits->count; i++) {
    uint32_t before = 0;
    for (uint32_t j = 0; j < kept; j++) before += hits->items[j].doc == hits->items[i].doc;
    if (before < per_document) hits->items[kept++] = hits->items[i];
  }
  hits->count = kept;
}

static inline double hy_likeness(const hy_world *w, const hy_hit *a, const hy_hit *b) {
  float x[HY_DIMENSION], y[HY_DIMENSION];
  const float *va = hy_vector_of(w, a, x), *vb = hy_vector_of(w, b, y);
  if (va == NULL || vb == NULL) return 0;
  double score = (double)rag_vector_score(va, vb, HY_DIMENSION, w->metric);
  if (w->metric == RAG_METRIC_L2) return 1 / (1 - score);
  if (w->metric == RAG_METRIC_IP) {
    double na = sqrt((double)rag_vector_score(va, va, HY_DIMENSION, RAG_METRIC_IP));
    double nb = sqrt((double)rag_vector_score(vb, vb, HY_DIMENSION, RAG_METRIC_IP));
    score = na > 0 && nb > 0 ? score / (na * nb) : 0;
  }
  return fmin(fmax(score, 0), 1);
}

static inline void hy_diversify(const hy_world *w, hy_hits *hits, double lambda, uint32_t wanted) {
  hy_hit *picked = calloc(hits->count + 1, sizeof *picked);
  bool *gone = calloc(hits->count + 1, sizeof *gone);
  uint32_t count = 0;
  for (wanted = RAG_MIN(wanted, hits->count); count < wanted; count++) {
    double best = -HUGE_VAL;
    uint32_t which = 0;
    for (uint32_t i = 0; i < hits->count; i++) {
      if (gone[i]) continue;
      double like = 0;
      for (uint32_t j = 0; j < count; j++) like = fmax(like, hy_likeness(w, &hits->items[i], &picked[j]));
      double relevance = hy_scaled(hits->items[i].score, hits->items[0].score, hits->items[hits->count - 1].score);
      double value = lambda * relevance - (1 - lambda) * like;
      if (value <= best) continue;
      best = value;
      which = i;
    }
    gone[which] = true;
    picked[count] = hits->items[which];
  }
  memcpy(hits->items, picked, count * sizeof *picked);
  hits->count = count;
  free(picked);
  free(gone);
}

static inline void hy_cut(hy_hits *hits, const rag_search *s) { // what is below min_score
  while (s->has_min_score && hits->count > 0 && (float)hits->items[hits->count - 1].score < s->min_score) hits->count--;
}

// The whole answer, offset hits included. mode: not AUTO. query_vector: of the query, normalised where it must be.
static inline hy_hits hy_answer(const hy_world *w, const hy_version *v, const rag_search *s, rag_search_mode mode,
                                const hy_query *q, const float *query_vector) {
  uint32_t asked = s->k + s->offset, wanted = asked;
  hy_hits vector = {0}, lexical = {0}, out = {0};
  if (s->has_mmr) wanted = RAG_MAX(asked, s->mmr_candidates ? s->mmr_candidates : RAG_MIN(4 * asked, 1000u));
  if (mode != RAG_SEARCH_LEXICAL) vector = hy_nearest(w, v, s->filter, query_vector);
  if (mode != RAG_SEARCH_VECTOR) lexical = hy_matching(v, s->filter, q);
  if (mode != RAG_SEARCH_HYBRID) {
    out = mode == RAG_SEARCH_VECTOR ? vector : lexical;
    hy_cut(&out, s);
    if (s->per_document > 0) hy_group(&out, s->per_document);
  } else {
    uint32_t depth = 100;
    while (depth < 2 * wanted) depth *= 2;
    for (depth = RAG_MIN(depth, 10000u);; depth = RAG_MIN(depth * 2, 10000u)) {
      free(out.items);
      out = hy_fused(&vector, &lexical, depth, &s->fusion);
      uint32_t all = out.count;
      hy_cut(&out, s);
      bool more = depth < 10000 && out.count == all && (vector.count >= depth || lexical.count >= depth);
      if (s->per_document > 0) hy_group(&out, s->per_document);
      if (s->per_document == 0 || out.count >= wanted || !more) break;
    }
    free(vector.items);
    free(lexical.items);
  }
  out.count = RAG_MIN(out.count, wanted);
  if (s->has_mmr && s->mmr_lambda < 1) hy_diversify(w, &out, (double)s->mmr_lambda, asked);
  out.count = RAG_MIN(out.count, asked);
  return out;
}

// ---------------------------------------------------------------------------------------------- comparing

static inline void hy_describe(const rag_search *s, const hy_query *q) {
  print_error("mode %d k %u offset %u min_score %d %g per_document %u mmr %d %g/%u fusion %d %u %d %g:%g exact %d at "
              "'%.*s'\n  query: %s\n",
              (int)s->mode, s->k, s->offset, s->has_min_score, (double)s->min_score, s->per_document, s->has_mmr,
              (double)s->mmr_lambda, s->mmr_candidates, (int)s->fusion.method, s->fusion.k, s->fusion.has_weights,
              (double)s->fusion.vector_weight, (double)s->fusion.lexical_weight, s->exact, (int)s->at.size,
              s->at.size ? s->at.data : "", q->text);
}

static inline bool hy_same_bits(float a, float b) {
  return float_bits(a) == float_bits(b);
}

// The hits of an answer are those of the oracle, to the last bit.
static inline void hy_same_hits(const hy_world *w, const rag_search *s, const hy_query *q, const hy_hits *want,
                                const rag_search_result *r) {
  uint32_t count = want->count > s->offset ? want->count - s->offset : 0;
  bool same = r->count == count;
  for (uint32_t i = 0; same && i < count; i++) {
    const hy_hit *x = &want->items[s->offset + i];
    const rag_hit *h = &r->hits[i];
    same = h->chunk == x->chunk && hy_same_bits(h->score, (float)x->score) && h->has_vector_score == x->has_vector &&
           h->has_lexical_score == x->has_lexical && hy_same_bits(h->vector_score, x->vector) &&
           hy_same_bits(h->lexical_score, x->lexical) && h->revision == x->doc->revision;
    if (same) continue;
    print_error("hit %u: chunk %u score %.9g (vector %.9g words %.9g) revision %u; wanted: chunk %u score %.9g (vector "
                "%.9g words %.9g) revision %u\n",
                i, h->chunk, (double)h->score, (double)h->vector_score, (double)h->lexical_score, h->revision, x->chunk,
                x->score, (double)x->vector, (double)x->lexical, x->doc->revision);
  }
  if (!same) hy_describe(s, q);
  HY_CHECK(same, "%u hits, wanted %u, of c%" PRIu64, r->count, count, r->commit);
  for (uint32_t i = 0; i < count; i++) { // what is told of them
    const hy_hit *x = &want->items[s->offset + i];
    const rag_hit *h = &r->hits[i];
    const hy_text *t = &hy->texts[x->doc->text];
    rag_span span = t->spans[x->index];
    char id[16];
    snprintf(id, sizeof id, "d%u", x->doc->id);
    HY_CHECK(rag_slice_equal(h->document_id, S(id)), "document of hit %u", i);
    HY_CHECK(rag_slice_equal(h->title, hy->titles[x->doc->title]), "title of hit %u", i);
    if (s->want_metadata) HY_CHECK(rag_slice_equal(h->metadata, S(hy->metas[x->doc->meta].json)), "metadata of %s", id);
    if (s->want_text)
      HY_CHECK(rag_slice_equal(h->text, rag_slice_of(t->text.data + span.start, span.end - span.start)), "text of %s",
               id);
    if (!w->given) HY_CHECK(h->start == span.start && h->end == span.end, "span of %s", id);
    if (w->given && h->end > h->start)
      HY_CHECK(h->end - h->start == span.end - span.start &&
                   memcmp(t->text.data + h->start, t->text.data + span.start, span.end - span.start) == 0,
               "span of %s", id);
  }
}

// Numbers of the plan that are known exactly.
static inline void hy_same_plan(const hy_version *v, const rag_search *s, rag_search_mode mode,
                                const rag_search_result *r) {
  uint64_t documents = 0, chunks = 0;
  for (uint32_t d = 0; d < v->count; d++) {
    if (!hy_passes(s->filter, &v->docs[d])) continue;
    documents++;
    chunks += v->docs[d].chunks;
  }
  const rag_search_plan *p = &r->plan;
  HY_CHECK(r->commit == v->commit, "c%" PRIu64 " instead of c%" PRIu64, r->commit, v->commit);
  HY_CHECK(p->mode == mode && p->reason != NULL && p->filtered == (s->filter != NULL), "plan");
  HY_CHECK(p->documents == v->count && p->chunks == v->chunks, "plan: of %" PRIu64 " documents", p->documents);
  HY_CHECK(p->documents_matched == documents && p->chunks_matched == chunks,
           "%" PRIu64 " documents, %" PRIu64 " chunks matched instead of %" PRIu64 ", %" PRIu64, p->documents_matched,
           p->chunks_matched, documents, chunks);
  HY_CHECK(p->lexical_searched == (mode != RAG_SEARCH_VECTOR), "plan: lexical");
  HY_CHECK((p->vector.engine != NULL) == (mode != RAG_SEARCH_LEXICAL), "plan: vector");
  HY_CHECK(p->selectivity >= 0 && p->selectivity <= 1, "selectivity %g", p->selectivity);
}

// Searches and compares with the oracle. query_vector: as hy_answer has it.
static inline void hy_check_search(const hy_world *w, const hy_version *v, const rag_search *s, rag_search_mode mode,
                                   const hy_query *q, const float *query_vector) {
  rag_error err = {0};
  rag_search_result r = {0};
  hy_hits want = hy_answer(w, v, s, mode, q, query_vector);
  rag_status status = rag_kb_search(w->kb, s, &r, &err);
  if (status != RAG_OK) hy_describe(s, q);
  HY_DO(status);
  hy_same_plan(v, s, mode, &r);
  hy_same_hits(w, s, q, &want, &r);
  rag_search_result_free(&r);
  free(want.items);
}

#endif
