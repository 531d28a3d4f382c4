// Goal: while commits, deletions by filter, gc and purges run, every search, facet and listing answers, and what it
// answers is what a scan of the commit that it names says, to the last bit; nothing is refused but versions that gc has
// dropped.
// Method: writers, a collector and a purger beside readers in every mode, over a kb that is loaded while they begin. A
// reader lists the commit of its answer afterwards and asks the oracle. A purge changes what commits say, so answers
// around one are compared only where none began or ended meanwhile. Made to be run under the thread sanitizer.
#include "hybrid_oracle.h"

#include <pthread.h>
#include <time.h>

enum { WRITERS = 2, READERS = 3, IDS = 40, PUTS = 60, COLLECTIONS = 12, PURGES = 3, QUERIES = 48, FILTERS = 24 };

typedef struct shared {
  kb_fixture *f;
  hy_world w;
  hy_query queries[QUERIES];
  float vectors[QUERIES][HY_DIMENSION];
  hy_filter filters[FILTERS];
  _Atomic unsigned busy;          // writers, collector, purger
  _Atomic unsigned purges;        // odd: one is being asked for
  _Atomic uint64_t newest;        // commit
  _Atomic uint64_t compared[3];   // searches, facets, listings
  _Atomic uint64_t removed_where; // by filter
} shared;

typedef struct worker {
  shared *s;
  unsigned number;
} worker;

static void begin(const worker *w) {
  hy_state = hy_seed * 31 + w->number;
}

// ---------------------------------------------------------------------------------------------- what disturbs

static void *write_on(void *arg) {
  worker *w = arg;
  shared *s = w->s;
  rag_error err = {0};
  begin(w);
  for (unsigned i = 0; i < PUTS; i++) {
    rag_document_input in[4];
    hy_input buffers[4];
    bool named[IDS] = {false};
    rag_put put = {.documents = in};
    rag_write write = {0};
    rag_write_result r = {0};
    for (uint32_t d = 0; d < 4; d++) {
      hy_doc doc = hy_random_doc(&s->w);
      if (named[doc.id]) continue;
      named[doc.id] = true;
      hy_fill_input(&s->w, &doc, &buffers[d], &in[put.document_count++]);
    }
    if (i % 8 == 7) put.delete_filter = s->filters[hy_draw(FILTERS)].filter;
    rag_status status = RAG_OK;
    if (i % 5 == 4) {
      char id[16];
      snprintf(id, sizeof id, "d%u", hy_draw(IDS));
      status = rag_kb_set_metadata(s->w.kb, &write, S(id), 0, S(hy->metas[hy_draw(HY_METAS)].json), &r, &err);
      if (status == RAG_NOT_FOUND) continue;
    } else {
      status = rag_kb_put(s->w.kb, &write, &put, &r, NULL, &err);
      if (status == RAG_ABORTED && put.delete_filter != NULL) continue; // the branch moved ten times
    }
    HY_DO(status);
    if (put.delete_filter != NULL) atomic_fetch_add(&s->removed_where, r.removed);
    for (uint64_t seen = atomic_load(&s->newest); seen < r.commit;)
      if (atomic_compare_exchange_weak(&s->newest, &seen, r.commit)) break;
  }
  atomic_fetch_sub(&s->busy, 1);
  return NULL;
}

static void wait_for_job(shared *s, uint64_t job) {
  rag_error err = {0};
  rag_job_info info = {0};
  HY_DO(rag_jobs_wait(s->f->jobs, job, 60000, &info, &err));
  HY_CHECK(info.state == RAG_JOB_SUCCEEDED, "job %s is %s: %s", info.kind, rag_job_state_name(info.state), info.error);
  rag_job_info_free(&info);
}

static void *collect_on(void *arg) {
  worker *w = arg;
  rag_error err = {0};
  begin(w);
  for (unsigned i = 0; i < COLLECTIONS; i++) {
    rag_gc_options options = {.keep_commits = 2 + hy_draw(6)};
    uint64_t job = 0;
    HY_DO(rag_kb_gc(w->s->w.kb, &options, &job, &err));
    wait_for_job(w->s, job);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
  }
  atomic_fetch_sub(&w->s->busy, 1);
  return NULL;
}

static void *purge_on(void *arg) {
  worker *w = arg;
  rag_error err = {0};
  begin(w);
  for (unsigned i = 0; i < PURGES; i++) {
    char id[16];
    uint64_t job = 0;
    snprintf(id, sizeof id, "d%u", hy_draw(IDS));
    rag_slice ids[1] = {S(id)};
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    atomic_fetch_add(&w->s->purges, 1);
    HY_DO(rag_kb_purge(w->s->w.kb, ids, 1, &job, &err));
    atomic_fetch_add(&w->s->purges, 1);
    wait_for_job(w->s, job);
  }
  atomic_fetch_sub(&w->s->busy, 1);
  return NULL;
}

// ---------------------------------------------------------------------------------------------- what reads

// The version that an answer names, where it can still be listed and nothing was purged since `purges` was read.
static bool version_of(shared *s, uint64_t commit, unsigned purges, hy_version *out) {
  char at[24];
  snprintf(at, sizeof at, "c%" PRIu64, commit);
  if (!hy_list(s->w.kb, at, out)) return false;
  if (purges % 2 == 0 && atomic_load(&s->purges) == purges) return true;
  hy_version_free(out);
  return false;
}

static bool allowed(rag_status status, const char *at) {
  return status == RAG_NOT_FOUND && at[0] != '\0';
}

static void read_search(shared *s, const char *at) {
  rag_error err = {0};
  uint32_t q = hy_draw(QUERIES);
  unsigned purges = atomic_load(&s->purges);
  rag_search search = {.query = S(s->queries[q].text),
                       .k = hy_draw(2) ? 10 : 1000,
                       .mode = (rag_search_mode)(1 + hy_draw(3)),
                       .at = S(at),
                       .filter = hy_draw(2) ? s->filters[hy_draw(FILTERS)].filter : NULL,
                       .per_document = hy_draw(4) == 0,
                       .has_mmr = false,
                       .want_text = true,
                       .want_metadata = true,
                       .want_highlights = hy_draw(2)};
  rag_search_result r = {0};
  if (hy_draw(6) == 0) {
    search.k = 10;
    search.has_mmr = true;
    search.mmr_lambda = 0.5f;
  }
  rag_status status = rag_kb_search(s->w.kb, &search, &r, &err);
  if (allowed(status, at)) return;
  HY_DO(status);
  hy_version v;
  if (version_of(s, r.commit, purges, &v)) {
    hy_hits want = hy_answer(&s->w, &v, &search, search.mode, &s->queries[q], s->vectors[q]);
    hy_same_plan(&v, &search, search.mode, &r);
    hy_same_hits(&s->w, &search, &s->queries[q], &want, &r);
    free(want.items);
    hy_version_free(&v);
    atomic_fetch_add(&s->compared[0], 1);
  }
  rag_search_result_free(&r);
}

static void read_facets(shared *s, const char *at) {
  rag_error err = {0};
  unsigned purges = atomic_load(&s->purges);
  const rag_filter *filter = s->filters[hy_draw(FILTERS)].filter;
  rag_slice fields[2] = {S("n"), S("lang")};
  rag_facet_query query = {.at = S(at), .filter = filter, .fields = fields, .field_count = 2, .limit = 100};
  rag_facet_result r = {0};
  rag_status status = rag_kb_facets(s->w.kb, &query, &r, &err);
  if (allowed(status, at)) return;
  HY_DO(status);
  hy_version v;
  if (version_of(s, r.commit, purges, &v)) {
    uint64_t counts[10] = {0}, passing = 0, with_lang = 0, with_n = 0;
    for (uint32_t d = 0; d < v.count; d++) {
      if (!hy_passes(filter, &v.docs[d])) continue;
      const hy_meta *m = &hy->metas[v.docs[d].meta];
      passing++;
      with_lang += m->lang >= 0;
      with_n += m->n >= 0;
      if (m->n >= 0) counts[m->n]++;
    }
    HY_CHECK(r.documents == passing && r.facets[0].documents == with_n && r.facets[1].documents == with_lang,
             "facets of c%" PRIu64, r.commit);
    for (uint32_t i = 0; i < r.facets[0].value_count; i++) {
      const rag_facet_value *value = &r.facets[0].values[i];
      HY_CHECK(value->kind == RAG_FACET_INT && value->count == counts[value->integer], "n = %" PRId64, value->integer);
    }
    hy_version_free(&v);
    atomic_fetch_add(&s->compared[1], 1);
  }
  rag_facet_result_free(&r);
}

static void read_listing(shared *s, const char *at) {
  rag_error err = {0};
  unsigned purges = atomic_load(&s->purges);
  const rag_filter *filter = s->filters[hy_draw(FILTERS)].filter;
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0, passing = 0;
  uint64_t commit = 0;
  rag_status status = rag_kb_documents(s->w.kb, S(at), filter, 0, 1000, &documents, &count, &next, &commit, &err);
  if (allowed(status, at)) return;
  HY_DO(status);
  hy_version v;
  if (version_of(s, commit, purges, &v)) {
    for (uint32_t d = 0; d < v.count; d++) {
      if (!hy_passes(filter, &v.docs[d])) continue;
      HY_CHECK(passing < count && documents[passing].revision == v.docs[d].revision, "document %u of c%" PRIu64,
               passing, commit);
      passing++;
    }
    HY_CHECK(passing == count, "%u documents of c%" PRIu64 " instead of %u", count, commit, passing);
    hy_version_free(&v);
    atomic_fetch_add(&s->compared[2], 1);
  }
  for (uint32_t i = 0; i < count; i++) rag_document_free(&documents[i]);
  rag_free(documents);
}

static void *read_on(void *arg) {
  worker *w = arg;
  shared *s = w->s;
  begin(w);
  for (unsigned i = 0; atomic_load(&s->busy) > 0 || i < 30; i++) {
    char at[24] = ""; // the head, or one of the last commits, or a parent
    if (hy_draw(3) == 0) {
      uint64_t newest = atomic_load(&s->newest);
      snprintf(at, sizeof at, "c%" PRIu64, newest - hy_draw((uint32_t)RAG_MIN(newest, UINT64_C(8))));
    } else if (hy_draw(4) == 0) {
      snprintf(at, sizeof at, "main~%u", hy_draw(4));
    }
    uint32_t kind = hy_draw(6);
    if (kind == 0) read_facets(s, at);
    else if (kind == 1) read_listing(s, at);
    else read_search(s, at);
  }
  return NULL;
}

// ---------------------------------------------------------------------------------------------- the test

static void readers_among_writers(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  static shared s;
  hy_start(hy_first_seed());
  hy_pool_make();
  s = (shared){.f = f, .w = {.name = "docs", .ids = IDS}, .busy = WRITERS + 2, .newest = 2};
  hy_create(f, &s.w);
  for (uint32_t q = 0; q < QUERIES; q++) {
    hy_make_query(&s.queries[q]);
    rag_slice text = S(s.queries[q].text);
    HY_DO(rag_embedder_embed(hy->embedder, RAG_EMBED_QUERY, &text, 1, s.vectors[q], &err));
  }
  for (uint32_t i = 0; i < FILTERS; i++) s.filters[i] = hy_random_filter(&s.w);
  for (uint32_t i = 0; i < IDS; i++) {
    hy_doc doc = hy_random_doc(&s.w);
    hy_input buffer;
    rag_document_input in;
    doc.id = i;
    hy_fill_input(&s.w, &doc, &buffer, &in);
    atomic_store(&s.newest, kb_test_put_input(s.w.kb, NULL, &in).commit);
  }
  rag_ref_drop(s.w.kb);
  f->job_threads = 1;
  f->kbs_options.load_at_open = false;
  f->kbs_options.version_cache = 4;
  kb_test_reopen(f);
  s.w.kb = kb_test_get(f, "docs");

  pthread_t threads[WRITERS + READERS + 2];
  worker workers[WRITERS + READERS + 2];
  for (unsigned i = 0; i < RAG_COUNT_OF(threads); i++) {
    workers[i] = (worker){.s = &s, .number = i + 1};
    void *(*run)(void *) = i < WRITERS ? write_on : i == WRITERS ? collect_on : i == WRITERS + 1 ? purge_on : read_on;
    assert_int_equal(pthread_create(&threads[i], NULL, run, &workers[i]), 0);
  }
  for (unsigned i = 0; i < RAG_COUNT_OF(threads); i++) pthread_join(threads[i], NULL);
  print_message("%u searches, %u facets, %u listings compared; %u removed by filter\n",
                (unsigned)atomic_load(&s.compared[0]), (unsigned)atomic_load(&s.compared[1]),
                (unsigned)atomic_load(&s.compared[2]), (unsigned)atomic_load(&s.removed_where));
  for (int i = 0; i < 3; i++) assert_true(atomic_load(&s.compared[i]) > 0);
  read_search(&s, ""); // and when all is quiet
  for (uint32_t i = 0; i < FILTERS; i++) hy_filter_free(&s.filters[i]);
  rag_ref_drop(s.w.kb);
  hy_pool_free();
}

int main(void) {
  const struct CMUnitTest tests[] = {KB_TEST(readers_among_writers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
