// Goal: whatever was put, changed, deleted, patched, merged, rolled back, collected, purged or carried elsewhere, and
// however the kb came into memory: every version answers every search, filter and facet as a scan of its documents does,
// bit for bit; and it goes on to answer as it did when it was made.
// Method: random histories of a kb that embeds and of one whose vectors are given, over the pools of hybrid_test.h. After
// each step random requests at random refs are compared with the oracle; an answer of each new commit is remembered and
// asked for again later. RAGD_TEST_SEED repeats a seed, RAGD_TEST_SECONDS goes on with new ones.
#include "hybrid_oracle.h"

enum { WORLDS = 2, STEPS = 80, BRANCHES = 4, TAGS = 3, COMMITS_MAX = 4000 };

static const char *const branch_names[BRANCHES] = {"main", "b1", "b-two", "c3.x"};
static const char *const tag_names[TAGS] = {"t0", "v1.0", "tag-3"};

typedef struct remembered { // an answer that may not change
  bool is_there;
  hy_query query;
  rag_search search;
  hy_filter filter;
  uint64_t digest;
} remembered;

typedef struct history {
  hy_world w;
  bool branch[BRANCHES], tag[TAGS]; // is there
  uint64_t newest;                  // commit
  remembered *answers;              // [COMMITS_MAX], by commit
} history;
static history histories[WORLDS];

// ---------------------------------------------------------------------------------------------- requests

static void random_ref(const history *h, char ref[64]) {
  uint32_t kind = hy_draw(5), b = hy_draw(BRANCHES), t = hy_draw(TAGS);
  ref[0] = '\0';
  if (kind < 2) snprintf(ref, 64, "c%u", 1 + hy_draw((uint32_t)h->newest));
  else if (kind == 2 && h->tag[t]) snprintf(ref, 64, "%s", tag_names[t]);
  else if (h->branch[b]) snprintf(ref, 64, "%s", branch_names[b]);
  if (ref[0] != '\0' && hy_draw(4) == 0) snprintf(ref + strlen(ref), 64 - strlen(ref), "~%u", hy_draw(4));
}

static void query_vector(const hy_world *w, rag_search *s, const hy_query *q, float given[HY_DIMENSION],
                         float out[HY_DIMENSION]) {
  rag_error err = {0};
  if (w->given || hy_draw(4) == 0) {
    for (uint32_t i = 0; i < HY_DIMENSION; i++) given[i] = (float)((int)hy_draw(9) - 4);
    given[1] += 0.25f;
    s->vector = given;
    s->vector_dimension = HY_DIMENSION;
    memcpy(out, given, HY_DIMENSION * sizeof *out);
    if (w->metric == RAG_METRIC_COSINE) rag_vector_normalize(out, HY_DIMENSION);
  } else {
    HY_DO(rag_embedder_embed(hy->embedder, RAG_EMBED_QUERY, &s->query, 1, out, &err));
  }
  RAG_UNUSED(q);
}

static rag_search_mode random_mode(rag_search *s) {
  rag_search_mode mode = (rag_search_mode)(1 + hy_draw(3));
  s->mode = mode == RAG_SEARCH_HYBRID && hy_draw(2) ? RAG_SEARCH_AUTO : mode;
  return mode;
}

static void random_search(const hy_world *w, rag_search *s, hy_query *q) {
  static const uint32_t ks[] = {1, 2, 3, 10, 10, 10, 40, 100, 1000, 9000};
  hy_make_query(q);
  *s = (rag_search){.query = S(q->text),
                    .k = HY_PICK(ks),
                    .offset = hy_draw(3) ? 0 : hy_draw(12),
                    .exact = hy_draw(2),
                    .want_text = hy_draw(2),
                    .want_metadata = hy_draw(2),
                    .per_document = hy_draw(4) ? 0 : 1 + hy_draw(2)};
  if (hy_draw(30) == 0) s->k = 10000 - s->offset;
  if (hy_draw(4) == 0) {
    s->fusion = (rag_fusion){.method = hy_draw(2) ? RAG_FUSION_WEIGHTED : RAG_FUSION_RRF,
                             .k = hy_draw(2) ? 0 : 1 + hy_draw(200),
                             .has_weights = hy_draw(2),
                             .vector_weight = (float)hy_draw(4),
                             .lexical_weight = 0.5f + (float)hy_draw(3)};
  }
  if (hy_draw(6) == 0 && s->k + s->offset <= 40) {
    s->has_mmr = true;
    s->mmr_lambda = (float)hy_draw(5) / 4;
    s->mmr_candidates = hy_draw(2) ? 0 : s->k + s->offset + hy_draw(30);
  }
  if (hy_draw(5) == 0) {
    s->has_min_score = true;
    s->min_score = hy_draw(2) ? 0.02f : (float)hy_draw(40) / 10;
    if (w->metric == RAG_METRIC_L2 && hy_draw(2)) s->min_score = -12;
  }
}

static void check_search(const hy_world *w, const char *ref, const hy_version *v) {
  hy_query q;
  rag_search s;
  float given[HY_DIMENSION], vector[HY_DIMENSION];
  hy_filter filter = {0};
  random_search(w, &s, &q);
  rag_search_mode mode = random_mode(&s);
  if (mode != RAG_SEARCH_LEXICAL || (!w->given && hy_draw(4) == 0)) query_vector(w, &s, &q, given, vector);
  if (mode == RAG_SEARCH_VECTOR && s.vector != NULL && hy_draw(2)) s.query = (rag_slice){0};
  if (mode == RAG_SEARCH_LEXICAL && s.mode == RAG_SEARCH_LEXICAL && hy_draw(8) == 0 && w->given)
    s.mode = RAG_SEARCH_AUTO;
  if (s.mode == RAG_SEARCH_AUTO && mode == RAG_SEARCH_LEXICAL) s.vector = NULL;
  if (hy_draw(2)) {
    filter = hy_random_filter(w);
    s.filter = filter.filter;
  }
  s.at = S(ref);
  hy_check_search(w, v, &s, mode, &q, vector);
  hy_filter_free(&filter);
}

// Pages of one ranking, put together, are the ranking.
static void check_pages(const hy_world *w, const char *ref, const hy_version *v) {
  rag_error err = {0};
  hy_query q;
  hy_make_query(&q);
  rag_search all = {.query = S(q.text), .mode = RAG_SEARCH_LEXICAL, .k = 50, .at = S(ref)};
  if (!w->given && hy_draw(2)) all.mode = RAG_SEARCH_HYBRID; // 50: both sides are asked 100 deep
  rag_search page = all;
  rag_search_result whole = {0}, part = {0};
  HY_DO(rag_kb_search(w->kb, &all, &whole, &err));
  page.k = 1 + hy_draw(20);
  for (page.offset = 0; page.offset + page.k <= 50; page.offset += page.k) {
    HY_DO(rag_kb_search(w->kb, &page, &part, &err));
    uint32_t left = whole.count > page.offset ? whole.count - page.offset : 0;
    HY_CHECK(part.count == RAG_MIN(left, page.k), "a page of %u hits at %u", part.count, page.offset);
    for (uint32_t i = 0; i < part.count; i++)
      HY_CHECK(part.hits[i].chunk == whole.hits[page.offset + i].chunk &&
                   hy_same_bits(part.hits[i].score, whole.hits[page.offset + i].score),
               "hit %u of a page at %u", i, page.offset);
    rag_search_result_free(&part);
  }
  rag_search_result_free(&whole);
  RAG_UNUSED(v);
}

static void check_documents(const hy_world *w, const char *ref, const hy_version *v) {
  rag_error err = {0};
  hy_filter filter = hy_random_filter(w);
  uint32_t after = 0, at = 0, page = 1 + hy_draw(v->count + 2);
  do {
    rag_document *documents = NULL;
    uint32_t count = 0;
    uint64_t commit = 0;
    HY_DO(rag_kb_documents(w->kb, S(ref), filter.filter, after, page, &documents, &count, &after, &commit, &err));
    HY_CHECK(commit == v->commit, "c%" PRIu64, commit);
    HY_CHECK(after == 0 || count == page, "a page of %u and not the last", count);
    for (uint32_t i = 0; i < count; i++) {
      while (at < v->count && !hy_passes(filter.filter, &v->docs[at])) at++;
      HY_CHECK(at < v->count && documents[i].revision == v->docs[at].revision, "%.*s is listed by %s",
               (int)documents[i].id.size, documents[i].id.data, filter.text.data);
      at++;
      rag_document_free(&documents[i]);
    }
    rag_free(documents);
  } while (after != 0);
  while (at < v->count && !hy_passes(filter.filter, &v->docs[at])) at++;
  HY_CHECK(at == v->count, "d%u is not listed by %.*s", v->docs[at].id, (int)filter.text.size, filter.text.data);
  hy_filter_free(&filter);
}

// ---------------------------------------------------------------------------------------------- facets

typedef struct facet_want {
  rag_facet_value values[32];
  uint32_t count;
  uint64_t documents;
} facet_want;

static void count_value(facet_want *f, rag_facet_value value) {
  for (uint32_t i = 0; i < f->count; i++) {
    rag_facet_value *there = &f->values[i];
    if (there->integer != value.integer || there->number != value.number ||
        !rag_slice_equal(there->string, value.string))
      continue;
    there->count++;
    return;
  }
  assert_true(f->count < 32);
  value.count = 1;
  f->values[f->count++] = value;
}

static void count_values(facet_want *f, const char *field, const hy_meta *m) {
  static const char *const langs[] = {"en", "de", "fr"};
  static const char *const tags[] = {"red", "green", "blue"};
  bool any = true;
  if (strcmp(field, "lang") == 0 && m->lang >= 0)
    count_value(f, (rag_facet_value){.kind = RAG_FACET_STRING, .string = S(langs[m->lang])});
  else if (strcmp(field, "n") == 0 && m->n >= 0)
    count_value(f, (rag_facet_value){.kind = RAG_FACET_INT, .integer = m->n});
  else if (strcmp(field, "a.b") == 0 && m->b >= 0)
    count_value(f, (rag_facet_value){.kind = RAG_FACET_INT, .integer = m->b});
  else if (strcmp(field, "price") == 0 && m->price >= 0)
    count_value(f, (rag_facet_value){.kind = RAG_FACET_DOUBLE, .number = m->price / 4.0});
  else if (strcmp(field, "on") == 0 && m->on >= 0)
    count_value(f, (rag_facet_value){.kind = RAG_FACET_BOOL, .integer = m->on});
  else if (strncmp(field, "tags", 4) == 0 && m->tags > 0) {
    for (int t = 0; t < 3; t++)
      if (m->tags >> t & 1) count_value(f, (rag_facet_value){.kind = RAG_FACET_STRING, .string = S(tags[t])});
  } else any = false;
  f->documents += any;
}

static int by_count(const void *a, const void *b) {
  const rag_facet_value *x = a, *y = b;
  if (x->count != y->count) return x->count > y->count ? -1 : 1;
  if (x->kind == RAG_FACET_STRING) return rag_slice_compare(x->string, y->string);
  double p = x->kind == RAG_FACET_DOUBLE ? x->number : (double)x->integer;
  double r = y->kind == RAG_FACET_DOUBLE ? y->number : (double)y->integer;
  return (p > r) - (p < r);
}

static void check_facets(const hy_world *w, const char *ref, const hy_version *v) {
  static const char *const fields[] = {"lang", "n", "price", "on", "tags", "tags[]", "a.b", "nothing"};
  rag_error err = {0};
  hy_filter filter = {0};
  if (hy_draw(2)) filter = hy_random_filter(w);
  rag_slice asked[4];
  uint32_t first = hy_draw(RAG_COUNT_OF(fields)), count = 1 + hy_draw(4), limit = hy_draw(3) ? 100 : 1 + hy_draw(4);
  for (uint32_t i = 0; i < count; i++) asked[i] = S(fields[(first + i) % RAG_COUNT_OF(fields)]);
  rag_facet_query query = {
      .at = S(ref), .filter = filter.filter, .fields = asked, .field_count = count, .limit = limit};
  rag_facet_result r = {0};
  HY_DO(rag_kb_facets(w->kb, &query, &r, &err));
  uint64_t passing = 0;
  for (uint32_t d = 0; d < v->count; d++) passing += hy_passes(filter.filter, &v->docs[d]);
  HY_CHECK(r.commit == v->commit && r.documents == passing && r.facet_count == count,
           "%" PRIu64 " documents instead of %" PRIu64, r.documents, passing);
  for (uint32_t i = 0; i < count; i++) {
    facet_want want = {0};
    const rag_facet *f = &r.facets[i];
    const char *name = fields[(first + i) % RAG_COUNT_OF(fields)];
    for (uint32_t d = 0; d < v->count; d++)
      if (hy_passes(filter.filter, &v->docs[d])) count_values(&want, name, &hy->metas[v->docs[d].meta]);
    qsort(want.values, want.count, sizeof *want.values, by_count);
    HY_CHECK(rag_slice_equal(f->field, S(name)) && f->distinct == want.count && f->documents == want.documents &&
                 f->value_count == RAG_MIN(want.count, limit),
             "%s: %u of %" PRIu64 " values in %" PRIu64 " documents instead of %u in %" PRIu64, name, f->value_count,
             f->distinct, f->documents, want.count, want.documents);
    for (uint32_t x = 0; x < f->value_count; x++) {
      const rag_facet_value *a = &f->values[x], *b = &want.values[x];
      bool same = a->kind == b->kind && a->count == b->count;
      if (same && a->kind == RAG_FACET_STRING) same = rag_slice_equal(a->string, b->string);
      else if (same && a->kind == RAG_FACET_DOUBLE) same = a->number == b->number;
      else if (same) same = a->integer == b->integer;
      HY_CHECK(same, "value %u of %s: '%.*s' %" PRId64 " %g, %" PRIu64 " times", x, name, (int)a->string.size,
               a->string.data, a->integer, a->number, a->count);
    }
    bool numbers = want.count > 0 && (want.values[0].kind == RAG_FACET_INT || want.values[0].kind == RAG_FACET_DOUBLE);
    HY_CHECK(f->has_range == numbers, "%s has %sa range", name, f->has_range ? "" : "not ");
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (uint32_t x = 0; numbers && x < want.count; x++) {
      const rag_facet_value *b = &want.values[x];
      double number = b->kind == RAG_FACET_DOUBLE ? b->number : (double)b->integer;
      low = fmin(low, number);
      high = fmax(high, number);
    }
    if (numbers) HY_CHECK(f->min == low && f->max == high, "%s: %g to %g", name, f->min, f->max);
  }
  rag_facet_result_free(&r);
  hy_filter_free(&filter);
}

// ---------------------------------------------------------------------------------------------- answers of then

static uint64_t digest_of(const rag_search_result *r) {
  rag_buf out = {0};
  for (uint32_t i = 0; i < r->count; i++) {
    const rag_hit *h = &r->hits[i];
    rag_buf_append_bytes(&out, h->document_id);
    rag_buf_append_bytes(&out, h->text);
    rag_buf_append_bytes(&out, h->metadata);
    rag_buf_append(&out, &h->chunk, sizeof h->chunk);
    rag_buf_append(&out, &h->revision, sizeof h->revision);
    rag_buf_append(&out, &h->score, sizeof h->score);
    rag_buf_append(&out, &h->vector_score, sizeof h->vector_score);
    rag_buf_append(&out, &h->lexical_score, sizeof h->lexical_score);
    rag_buf_append(&out, h->highlights, h->highlight_count * sizeof *h->highlights);
  }
  uint64_t digest = rag_hash64(out.data, out.size);
  rag_buf_free(&out);
  return digest;
}

static void remember(history *h, uint64_t commit) {
  rag_error err = {0};
  HY_CHECK(commit < COMMITS_MAX, "too many commits");
  remembered *a = &h->answers[commit];
  char ref[24];
  rag_search_result r = {0};
  if (a->is_there) return;
  memset(a, 0, sizeof *a);
  hy_make_query(&a->query);
  a->search = (rag_search){.query = S(a->query.text),
                           .mode = h->w.given ? RAG_SEARCH_LEXICAL : RAG_SEARCH_HYBRID,
                           .k = 20,
                           .want_text = true,
                           .want_metadata = true,
                           .want_highlights = true};
  if (hy_draw(2)) a->filter = hy_random_filter(&h->w);
  a->search.filter = a->filter.filter;
  snprintf(ref, sizeof ref, "c%" PRIu64, commit);
  a->search.at = S(ref);
  HY_DO(rag_kb_search(h->w.kb, &a->search, &r, &err));
  a->digest = digest_of(&r);
  a->is_there = true;
  rag_search_result_free(&r);
}

static void check_remembered(history *h, rag_kb *kb, uint64_t commit) {
  rag_error err = {0};
  remembered *a = &h->answers[commit];
  char ref[24];
  rag_search_result r = {0};
  if (!a->is_there) return;
  snprintf(ref, sizeof ref, "c%" PRIu64, commit);
  a->search.at = S(ref);
  rag_status status = rag_kb_search(kb, &a->search, &r, &err);
  if (status == RAG_NOT_FOUND) return; // collected
  HY_DO(status);
  HY_CHECK(digest_of(&r) == a->digest, "c%" PRIu64 " answers '%s' otherwise than when it was made", commit,
           a->query.text);
  rag_search_result_free(&r);
}

static void forget(history *h) { // a purge changes what every version says
  for (uint32_t c = 0; c < COMMITS_MAX; c++) {
    hy_filter_free(&h->answers[c].filter);
    h->answers[c].is_there = false;
  }
}

// ---------------------------------------------------------------------------------------------- checks

static void check(history *h) {
  char ref[64];
  hy_version v;
  random_ref(h, ref);
  if (!hy_list(h->w.kb, ref, &v)) return;
  check_search(&h->w, ref, &v);
  check_search(&h->w, ref, &v);
  if (hy_draw(3) == 0) check_pages(&h->w, ref, &v);
  if (hy_draw(2) == 0) check_documents(&h->w, ref, &v);
  if (hy_draw(2) == 0) check_facets(&h->w, ref, &v);
  check_remembered(h, h->w.kb, 1 + hy_draw((uint32_t)h->newest));
  hy_version_free(&v);
}

static void check_everything(history *h, rag_kb *kb) { // each version that is there once
  hy_world w = h->w;
  w.kb = kb;
  for (uint64_t c = 1; c <= h->newest; c++) {
    char ref[24];
    hy_version v;
    snprintf(ref, sizeof ref, "c%" PRIu64, c);
    if (!hy_list(kb, ref, &v)) continue;
    check_search(&w, ref, &v);
    if (hy_draw(3) == 0) check_documents(&w, ref, &v);
    if (hy_draw(3) == 0) check_facets(&w, ref, &v);
    check_remembered(h, kb, c);
    hy_version_free(&v);
  }
}

// ---------------------------------------------------------------------------------------------- steps

static const char *random_branch(const history *h) {
  uint32_t b = hy_draw(BRANCHES);
  return branch_names[h->branch[b] ? b : 0];
}

static void moved(history *h, const rag_write_result *r) {
  if (!r->committed) return;
  h->newest = RAG_MAX(h->newest, r->commit);
  remember(h, r->commit);
}

static void put_step(history *h, uint32_t most) {
  rag_error err = {0};
  uint32_t many = 1 + hy_draw(most), count = 0, gone_count = 0;
  rag_document_input *in = calloc(many, sizeof *in);
  hy_input *buffers = calloc(many, sizeof *buffers);
  rag_slice *gone = calloc(many, sizeof *gone);
  bool *named = calloc(h->w.ids, sizeof *named);
  hy_filter filter = {0};
  for (uint32_t i = 0; i < many; i++) {
    hy_doc doc = hy_random_doc(&h->w);
    if (named[doc.id]) continue;
    named[doc.id] = true;
    hy_fill_input(&h->w, &doc, &buffers[i], &in[count]);
    if (hy_draw(5) == 0) gone[gone_count++] = in[count].id;
    else count++;
  }
  rag_put put = {.documents = in, .document_count = count, .delete_ids = gone, .delete_count = gone_count};
  if (hy_draw(30) == 0) put.prune = RAG_PRUNE_ALL;
  if (hy_draw(6) == 0) {
    filter = hy_random_filter(&h->w);
    put.delete_filter = filter.filter;
  }
  const char *branch = random_branch(h);
  rag_write write = {.branch = S(branch)};
  rag_write_result r = {0};
  hy_version before, after;
  assert_true(hy_list(h->w.kb, branch, &before));
  HY_DO(rag_kb_put(h->w.kb, &write, &put, &r, NULL, &err));
  assert_true(hy_list(h->w.kb, branch, &after));
  uint32_t stay = 0, removed = 0; // of those that this call did not name
  for (uint32_t d = 0; d < before.count; d++) {
    const hy_doc *doc = &before.docs[d];
    bool goes = put.prune == RAG_PRUNE_ALL || (put.delete_filter != NULL && hy_passes(filter.filter, doc));
    bool deleted = false;
    for (uint32_t i = 0; i < gone_count; i++) deleted |= hy_id_of(gone[i]) == doc->id;
    removed += deleted || (goes && !named[doc->id]);
    stay += !goes && !named[doc->id];
  }
  HY_CHECK(after.count == stay + count, "%u documents are left, not %u", after.count, stay + count);
  HY_CHECK(r.removed == removed, "%" PRIu64 " removed instead of %u", r.removed, removed);
  for (uint32_t d = 0; put.delete_filter != NULL && d < after.count; d++)
    HY_CHECK(named[after.docs[d].id] || !hy_passes(filter.filter, &after.docs[d]), "d%u is still there",
             after.docs[d].id);
  hy_version_free(&before);
  hy_version_free(&after);
  hy_filter_free(&filter);
  moved(h, &r);
  free(in);
  free(buffers);
  free(gone);
  free(named);
}

static void patch_step(history *h) {
  rag_error err = {0};
  char id[16];
  rag_write write = {.branch = S(random_branch(h))};
  rag_write_result r = {0};
  snprintf(id, sizeof id, "d%u", hy_draw(h->w.ids));
  rag_status status = rag_kb_set_metadata(h->w.kb, &write, S(id), 0, S(hy->metas[hy_draw(HY_METAS)].json), &r, &err);
  if (status == RAG_NOT_FOUND) return;
  HY_DO(status);
  moved(h, &r);
}

static void merge_step(history *h) {
  rag_error err = {0};
  rag_write write = {0};
  rag_write_result r = {0};
  char from[64];
  random_ref(h, from);
  rag_status status = rag_kb_merge(h->w.kb, &write, S(from[0] ? from : "main"), S(random_branch(h)),
                                   (rag_merge_strategy)hy_draw(3), &r, NULL, &err);
  if (status == RAG_ABORTED || status == RAG_NOT_FOUND || status == RAG_FAILED_PRECONDITION) return;
  HY_DO(status);
  moved(h, &r);
}

static void rollback_step(history *h) {
  rag_error err = {0};
  rag_write write = {.branch = S(random_branch(h))};
  rag_write_result r = {0};
  char to[64];
  random_ref(h, to);
  rag_status status = rag_kb_rollback(h->w.kb, &write, S(to[0] ? to : "main"), &r, &err);
  if (status == RAG_NOT_FOUND) return;
  HY_DO(status);
  moved(h, &r);
}

static void ref_step(history *h) {
  rag_error err = {0};
  rag_write write = {0};
  char from[64];
  random_ref(h, from);
  uint32_t b = 1 + hy_draw(BRANCHES - 1), t = hy_draw(TAGS);
  bool on_branch = hy_draw(2);
  bool *there = on_branch ? &h->branch[b] : &h->tag[t];
  rag_slice name = S(on_branch ? branch_names[b] : tag_names[t]);
  rag_status status;
  if (*there) status = on_branch ? rag_kb_branch_delete(h->w.kb, name, &err) : rag_kb_tag_delete(h->w.kb, name, &err);
  else if (on_branch) status = rag_kb_branch_create(h->w.kb, &write, name, S(from), NULL, &err);
  else status = rag_kb_tag_create(h->w.kb, &write, name, S(from), NULL, &err);
  if (status == RAG_NOT_FOUND && !*there) return;
  HY_DO(status);
  *there = !*there;
}

static void gc_step(kb_fixture *f, history *h) {
  rag_error err = {0};
  uint64_t job = 0;
  rag_gc_options options = {.keep_commits = 1 + hy_draw(12)};
  HY_DO(rag_kb_gc(h->w.kb, &options, &job, &err));
  kb_test_job(f, job);
}

static void purge_step(kb_fixture *f, history *h) {
  rag_error err = {0};
  char id[16];
  uint64_t job = 0;
  snprintf(id, sizeof id, "d%u", hy_draw(h->w.ids));
  rag_slice ids[1] = {S(id)};
  forget(h);
  HY_DO(rag_kb_purge(h->w.kb, ids, 1, &job, &err));
  if (hy_draw(2)) check(h); // before the job
  kb_test_job(f, job);
}

static void reopen_step(kb_fixture *f) {
  for (uint32_t k = 0; k < WORLDS; k++) rag_ref_drop(histories[k].w.kb);
  f->kbs_options.load_at_open = hy_draw(2);
  f->kbs_options.version_cache = hy_draw(2) ? 1 : 256;
  f->kbs_options.object_cache_bytes = hy_draw(2) ? 0 : 4u << 20;
  kb_test_reopen(f);
  for (uint32_t k = 0; k < WORLDS; k++) histories[k].w.kb = kb_test_get(f, histories[k].w.name);
  // Where it is not loaded, a write comes first: the loader and the commit meet.
  for (uint32_t k = 0; k < WORLDS; k++) {
    if (hy_draw(2)) continue;
    rag_error err = {0};
    hy_doc doc = hy_random_doc(&histories[k].w);
    hy_input buffer;
    rag_document_input in;
    hy_fill_input(&histories[k].w, &doc, &buffer, &in);
    rag_write_result r = kb_test_put_input(histories[k].w.kb, NULL, &in);
    if (hy_draw(2)) HY_DO(rag_kb_load(histories[k].w.kb, &err));
    moved(&histories[k], &r);
  }
}

typedef struct stream {
  rag_buf bytes;
  size_t at;
} stream;
static rag_status stream_write(void *ctx, const void *data, size_t size, rag_error *err) {
  stream *s = ctx;
  RAG_UNUSED(err);
  rag_buf_append(&s->bytes, data, size);
  return RAG_OK;
}
static rag_status stream_read(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  stream *s = ctx;
  RAG_UNUSED(err);
  *out_size = RAG_MIN(size, s->bytes.size - s->at);
  memcpy(data, s->bytes.data + s->at, *out_size);
  s->at += *out_size;
  return RAG_OK;
}

// What was carried elsewhere answers like the original: numbers of chunks and revisions too.
static void carry(kb_fixture *f, history *h) {
  rag_error err = {0};
  stream s = {0};
  rag_kb *copy = NULL;
  uint64_t job = 0;
  HY_DO(rag_kb_export(h->w.kb, stream_write, &s, &err));
  HY_DO(rag_kbs_import(f->kbs, S("carried"), stream_read, &s, &copy, &err));
  check_everything(h, copy);
  rag_ref_drop(copy);
  if (hy_draw(2)) { // and read from its rows
    reopen_step(f);
    copy = kb_test_get(f, "carried");
    check_everything(h, copy);
    rag_ref_drop(copy);
  }
  HY_DO(rag_kbs_delete(f->kbs, S("carried"), &job, &err));
  kb_test_job(f, job);
  rag_buf_free(&s.bytes);
}

// ---------------------------------------------------------------------------------------------- runs

static void histories_open(kb_fixture *f, uint32_t ids) {
  for (uint32_t k = 0; k < WORLDS; k++) {
    history *h = &histories[k];
    remembered *answers = h->answers ? h->answers : calloc(COMMITS_MAX, sizeof *answers);
    assert_non_null(answers);
    *h = (history){.answers = answers, .newest = 1, .branch = {true}};
    h->w = (hy_world){.given = k == 1, .metric = k == 1 ? (rag_metric)hy_draw(3) : RAG_METRIC_COSINE, .ids = ids};
    snprintf(h->w.name, sizeof h->w.name, "kb%u", k);
    hy_create(f, &h->w);
  }
}

static void histories_close(kb_fixture *f) {
  for (uint32_t k = 0; k < WORLDS; k++) {
    forget(&histories[k]);
    free(histories[k].answers);
    rag_ref_drop(histories[k].w.kb);
    histories[k] = (history){0};
  }
  kb_test_close(f); // each seed starts from nothing
  rag_error err = {0};
  OK(rag_os_remove_tree(f->dir, &err));
  OK(rag_os_make_dirs(f->dir, &err));
  kb_test_open(f);
}

static void run_seed(kb_fixture *f) {
  hy_pool_make();
  histories_open(f, 40);
  for (hy_step = 1; hy_step <= STEPS; hy_step++) {
    history *h = &histories[hy_draw(3) ? 0 : 1];
    uint32_t dice = hy_draw(100);
    if (dice < 45) put_step(h, hy_draw(4) ? 3 : 20);
    else if (dice < 58) patch_step(h);
    else if (dice < 68) merge_step(h);
    else if (dice < 76) rollback_step(h);
    else if (dice < 88) ref_step(h);
    else if (dice < 92) gc_step(f, h);
    else if (dice < 95) purge_step(f, h);
    else reopen_step(f);
    check(h);
  }
  for (uint32_t k = 0; k < WORLDS; k++) check_everything(&histories[k], histories[k].w.kb);
  carry(f, &histories[hy_draw(WORLDS)]);
  histories_close(f);
  hy_pool_free();
}

static void random_histories(void **state) {
  uint64_t first = hy_first_seed(), start_ns = rag_clock_monotonic_ns();
  for (uint64_t seed = first; hy_goes_on(seed, first, 2, start_ns); seed++) {
    hy_start(seed);
    run_seed(*state);
  }
}

// Thousands of chunks: several windows of postings, answers of 10,000, depths that double.
static void a_larger_one(void **state) {
  kb_fixture *f = *state;
  hy_start(hy_first_seed() + 1000003);
  hy_pool_make();
  f->kbs_options.seal_rows = 1000000; // never: the oracle knows no recall: what is sealed is searched exactly in small histories alone
  kb_test_reopen(f);
  histories_open(f, 1200);
  for (hy_step = 1; hy_step <= 12; hy_step++) {
    for (uint32_t k = 0; k < WORLDS; k++) put_step(&histories[k], 500);
    if (hy_step % 4 == 0) {
      gc_step(f, &histories[0]);
      reopen_step(f);
    }
    check(&histories[hy_step % WORLDS]);
  }
  for (uint32_t i = 0; i < 24; i++) check(&histories[i % WORLDS]);
  histories_close(f);
  hy_pool_free();
}

int main(void) {
  const struct CMUnitTest tests[] = {KB_TEST(random_histories), KB_TEST(a_larger_one)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
