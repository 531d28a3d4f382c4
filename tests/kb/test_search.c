// Goal: a search gives what a full scan of its version gives, whatever its options, however the kb came into memory and
// whatever was written since.
// Method: a naive oracle over the listed documents, their chunk spans and the embedder; versions of a small history, kbs
// opened lazily and eagerly; threads only where a wait is tested.
#include "kb_test.h"

#include <math.h>

#include <pthread.h>
#include <time.h>

typedef struct scored {
  char id[32];
  uint32_t chunk, start, end;
  float score;
} scored;

static int compare_scored(const void *a, const void *b) {
  const scored *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

static uint32_t oracle(rag_kb *kb, const char *at, const char *query, scored *out, uint32_t capacity) {
  rag_error err = {0};
  rag_embedder *embedder = NULL;
  float q[32], v[32];
  rag_slice text = S(query);
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0, total = 0;
  uint64_t commit = 0;
  OK(rag_embedder_open(S("hash-32"), &embedder, &err));
  OK(rag_embedder_embed(embedder, RAG_EMBED_QUERY, &text, 1, q, &err));
  OK(rag_kb_documents(kb, S(at), NULL, 0, RAG_LIST_LIMIT_MAX, &documents, &count, &next, &commit, &err));
  assert_int_equal(next, 0);
  for (uint32_t d = 0; d < count; d++) {
    rag_span *spans = NULL;
    uint32_t chunks = 0;
    OK(rag_kb_document_chunks(kb, &documents[d], &spans, &chunks, &err));
    assert_int_equal(chunks, documents[d].chunk_count);
    for (uint32_t c = 0; c < chunks; c++) {
      scored *s = &out[total++];
      assert_true(total <= capacity);
      snprintf(s->id, sizeof s->id, "%.*s", (int)documents[d].id.size, documents[d].id.data);
      s->chunk = documents[d].first_chunk + c;
      s->start = spans[c].start;
      s->end = spans[c].end;
      text = rag_slice_of(documents[d].text.data + s->start, s->end - s->start);
      OK(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, &text, 1, v, &err));
      s->score = rag_vector_score(q, v, 32, RAG_METRIC_COSINE);
    }
    rag_free(spans);
    rag_document_free(&documents[d]);
  }
  rag_free(documents);
  rag_ref_drop(embedder);
  qsort(out, total, sizeof *out, compare_scored);
  return total;
}

static rag_kb *create_history(kb_fixture *f, uint64_t *head) { // 30 commits of documents of several chunks
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb *kb = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "docs");
  snprintf(config.model, sizeof config.model, "hash-32");
  config.chunking = (rag_chunking){.method = RAG_CHUNK_FIXED, .max_tokens = 16};
  OK(rag_kbs_create(f->kbs, &config, &write, &kb, &err));
  for (unsigned i = 0; i < 30; i++) {
    char id[16], text[600] = "";
    unsigned words = 5 + i * 7 % 60;
    for (unsigned w = 0; w < words; w++)
      snprintf(text + strlen(text), sizeof text - strlen(text), "w%u ", (i * 3 + w * (i % 5 + 1)) % 40);
    snprintf(id, sizeof id, "d%u", i % 11);
    if (i % 7 == 6) *head = kb_test_delete_on(kb, NULL, id).commit;
    else *head = kb_test_put_on(kb, NULL, id, text, i % 2 ? "{\"odd\":true}" : NULL).commit;
  }
  // Equal texts: ties.
  kb_test_put(kb, "tie2", "w1 w2 w3");
  *head = kb_test_put(kb, "tie1", "w1 w2 w3").commit;
  return kb;
}

static void assert_searches(rag_kb *kb, uint64_t head) {
  static const char *const queries[] = {"w1 w2 w3", "w39", "nothing of all this", "w7 w8 w7"};
  rag_error err = {0};
  for (uint64_t commit = 1; commit <= head; commit++) {
    char at[16];
    scored want[200];
    snprintf(at, sizeof at, "c%u", (unsigned)commit);
    const char *query = queries[commit % RAG_COUNT_OF(queries)];
    uint32_t total = oracle(kb, at, query, want, RAG_COUNT_OF(want));
    for (uint32_t variant = 0; variant < 6; variant++) {
      static const uint32_t ks[] = {1, 3, 64, 10000, 63, 100}, offsets[] = {0, 2, 0, 0, 1, 30};
      rag_search search = {.mode = RAG_SEARCH_VECTOR,
                           .query = S(query),
                           .k = ks[variant],
                           .offset = offsets[variant],
                           .at = S(at),
                           .exact = variant % 2 == 0,
                           .want_text = true};
      uint32_t expected = total;
      if (variant == 4 && total > 3) { // at the score of the fourth: it is still in, and what ties with it
        search.has_min_score = true;
        search.min_score = want[3].score;
        expected = 4;
        while (expected < total && want[expected].score == want[3].score) expected++;
      }
      expected = expected > search.offset ? RAG_MIN(expected - search.offset, search.k) : 0;
      rag_search_result r = {0};
      OK(rag_kb_search(kb, &search, &r, &err));
      assert_int_equal(r.commit, commit);
      assert_int_equal(r.count, expected);
      assert_int_equal(r.pending_chunks, 0);
      for (uint32_t i = 0; i < r.count; i++) {
        const scored *w = &want[search.offset + i];
        assert_true(rag_slice_equal(r.hits[i].document_id, S(w->id)));
        assert_int_equal(r.hits[i].chunk, w->chunk);
        assert_true(r.hits[i].score == w->score);
        assert_int_equal(r.hits[i].start, w->start);
        assert_int_equal(r.hits[i].end, w->end);
      }
      rag_search_result_free(&r);
    }
  }
}

static void every_version_equals_the_oracle(void **state) {
  kb_fixture *f = *state;
  uint64_t head = 0;
  rag_kb *kb = create_history(f, &head);
  for (int round = 0; round < 3; round++) {
    assert_searches(kb, head);
    assert_string_equal(kb_test_search(kb, "", "w1 w2 w3", 2), "tie2 tie1"); // equal scores: the older chunk first
    rag_ref_drop(kb);
    f->kbs_options.load_at_open = round == 1;
    f->kbs_options.object_cache_bytes = round == 1 ? 0 : 4u << 20;
    f->kbs_options.version_cache = round == 1 ? 1 : 256;
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

// Writes before the load, and after it: old rows come from the loader, new ones from their commits.
static void lazy_loading_meets_writes(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  uint64_t head = 0;
  rag_kb *kb = create_history(f, &head);
  for (int round = 0; round < 4; round++) {
    rag_ref_drop(kb);
    f->kbs_options.load_at_open = false;
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
    char id[16], text[32];
    snprintf(id, sizeof id, "new%d", round);
    snprintf(text, sizeof text, "quite new %d", round);
    if (round != 3) head = kb_test_put(kb, id, text).commit;
    if (round == 1) head = kb_test_patch_on(kb, NULL, "tie1", "{\"patched\":1}").commit; // of a row not loaded yet
    if (round == 2) {
      OK(rag_kb_load(kb, &err));
      head = kb_test_put(kb, "after", "after the load").commit;
      OK(rag_kb_load(kb, &err)); // again: nothing
    }
    assert_searches(kb, head);
  }
  rag_ref_drop(kb);
}

typedef struct writer {
  rag_kb *kb;
  _Atomic bool stop;
  unsigned written;
} writer;

static void *write_on(void *arg) {
  writer *w = arg;
  rag_error err = {0};
  while (!atomic_load(&w->stop) && w->written < 300) {
    char id[16];
    rag_write_result r;
    snprintf(id, sizeof id, "x%u", w->written);
    rag_document_input in = {.id = S(id), .text = S("while it loads")};
    rag_put put = {.documents = &in, .document_count = 1};
    if (rag_kb_put(w->kb, &(rag_write){0}, &put, &r, NULL, &err) != RAG_OK) break;
    w->written++;
  }
  return NULL;
}

static void writes_during_the_load(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  uint64_t head = 0;
  rag_ref_drop(create_history(f, &head));
  f->kbs_options.load_at_open = false;
  kb_test_reopen(f);
  writer w = {.kb = kb_test_get(f, "docs")};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, write_on, &w), 0);
  OK(rag_kb_load(w.kb, &err));
  assert_searches(w.kb, head); // old versions, while it goes on
  atomic_store(&w.stop, true);
  pthread_join(thread, NULL);
  char newest[16];
  scored want[600];
  snprintf(newest, sizeof newest, "c%u", (unsigned)(head + w.written));
  uint32_t total = oracle(w.kb, newest, "while it loads", want, RAG_COUNT_OF(want));
  rag_search search = {.mode = RAG_SEARCH_VECTOR, .query = S("while it loads"), .k = 1000};
  rag_search_result r = {0};
  OK(rag_kb_search(w.kb, &search, &r, &err));
  assert_int_equal(r.count, total);
  for (uint32_t i = 0; i < total; i++) assert_int_equal(r.hits[i].chunk, want[i].chunk);
  rag_search_result_free(&r);
  rag_ref_drop(w.kb);
}

static void metadata_is_that_of_then(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put_on(kb, NULL, "a", "a text", "{\"v\":0}"); // c2
  for (int i = 1; i < 6; i++) {
    char metadata[16];
    snprintf(metadata, sizeof metadata, "{\"v\":%d}", i);
    kb_test_patch_on(kb, NULL, "a", metadata); // c3 to c7
  }
  kb_test_branch(kb, "old", "c4");
  kb_test_put_on(kb, "old", "b", "b text", NULL);
  kb_test_rollback(kb, NULL, "c3"); // the live revision is not the content's newest
  for (int round = 0; round < 3; round++) {
    static const struct {
      const char *at, *metadata;
    } cases[] = {
        {"c2", "{\"v\":0}"}, {"c7", "{\"v\":5}"}, {"old", "{\"v\":2}"}, {"main", "{\"v\":1}"}, {"c5", "{\"v\":3}"}};
    for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
      rag_search search = {
          .mode = RAG_SEARCH_VECTOR, .query = S("a text"), .k = 1, .at = S(cases[i].at), .want_metadata = true};
      rag_search_result r = {0};
      OK(rag_kb_search(kb, &search, &r, &err));
      assert_int_equal(r.count, 1);
      assert_true(rag_slice_equal(r.hits[0].metadata, S(cases[i].metadata)));
      assert_null(r.hits[0].text.data); // not wanted
      assert_null(r.hits[0].vector);
      rag_document document = {0};
      OK(rag_kb_document_get(kb, S(cases[i].at), S("a"), &document, &err));
      assert_int_equal(document.revision, r.hits[0].revision);
      rag_document_free(&document);
      rag_search_result_free(&r);
    }
    rag_ref_drop(kb);
    f->kbs_options.load_at_open = round == 0;
    f->kbs_options.object_cache_bytes = 0;
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

static void wants_and_refusals(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_document_input in = {
      .id = S("a"), .text = S("a text"), .title = S("T"), .metadata = S("{}"), .source_uri = S("u")};
  kb_test_put_input(kb, NULL, &in);
  float v[32] = {1};
  for (unsigned wants = 0; wants < 8; wants++) {
    rag_search search = {.mode = RAG_SEARCH_VECTOR,
                         .query = S("a text"),
                         .k = 5,
                         .want_text = wants & 1,
                         .want_metadata = (wants & 2) != 0,
                         .want_vector = (wants & 4) != 0};
    rag_search_result r = {0};
    OK(rag_kb_search(kb, &search, &r, &err));
    assert_int_equal(r.count, 1);
    assert_int_equal(r.hits[0].text.size, wants & 1 ? 6 : 0);
    assert_int_equal(r.hits[0].metadata.size, wants & 2 ? 2 : 0);
    assert_true((r.hits[0].vector != NULL) == ((wants & 4) != 0));
    assert_true(rag_slice_equal(r.hits[0].title, S("T")));
    assert_true(rag_slice_equal(r.hits[0].source_uri, S("u")));
    assert_int_equal(r.dimension, 32);
    assert_string_equal(r.index_build, "flat");
    assert_true(strncmp(r.space, "hash-32-", 8) == 0);
    if (wants & 4) { // the stored vector searches for itself
      memcpy(v, r.hits[0].vector, sizeof v);
      rag_search by_vector = {.vector = v, .vector_dimension = 32, .k = 1};
      rag_search_result self = {0};
      OK(rag_kb_search(kb, &by_vector, &self, &err));
      assert_true(self.count == 1 && self.hits[0].score > 0.9999f);
      rag_search_result_free(&self);
    }
    rag_search_result_free(&r);
  }
  float bad[32] = {0};
  const struct {
    rag_search search;
    rag_status status;
    const char *field;
  } refusals[] = {
      {{.k = 1}, RAG_INVALID_ARGUMENT, "query"},
      {{.k = 1, .mode = RAG_SEARCH_LEXICAL, .vector = v, .vector_dimension = 32}, RAG_INVALID_ARGUMENT, "query"},
      {{.k = 1, .mode = RAG_SEARCH_HYBRID, .vector = v, .vector_dimension = 32}, RAG_INVALID_ARGUMENT, "query"},
      {{.k = 1, .mode = (rag_search_mode)9, .query = S("x")}, RAG_INVALID_ARGUMENT, "mode"},
      {{.k = 1, .query = S("x"), .language = S("no tag!")}, RAG_INVALID_ARGUMENT, "language"},
      {{.k = 1, .query = S("x"), .has_min_score = true, .min_score = (float)NAN}, RAG_INVALID_ARGUMENT, "min_score"},
      {{.k = 1, .query = S("x"), .has_mmr = true, .mmr_lambda = 1.5f}, RAG_INVALID_ARGUMENT, "mmr.lambda"},
      {{.k = 9, .query = S("x"), .has_mmr = true, .mmr_candidates = 8}, RAG_INVALID_ARGUMENT, "mmr.candidates"},
      {{.k = 1001, .query = S("x"), .has_mmr = true}, RAG_INVALID_ARGUMENT, "mmr"},
      {{.k = 1, .query = S("x"), .fusion = {.has_weights = true}}, RAG_INVALID_ARGUMENT, "fusion.weights"},
      {{.k = 0, .query = S("x")}, RAG_INVALID_ARGUMENT, "k"},
      {{.k = 10001, .query = S("x")}, RAG_INVALID_ARGUMENT, "k"},
      {{.k = 10000, .offset = 1, .query = S("x")}, RAG_INVALID_ARGUMENT, "offset"},
      {{.k = 1, .offset = UINT32_MAX, .query = S("x")}, RAG_INVALID_ARGUMENT, "offset"},
      {{.k = 1, .query = S("\xff")}, RAG_INVALID_ARGUMENT, "query"},
      {{.k = 1, .vector = v, .vector_dimension = 31}, RAG_INVALID_ARGUMENT, "vector"},
      {{.k = 1, .vector = bad, .vector_dimension = 32}, RAG_INVALID_ARGUMENT, "vector"},
      {{.k = 1, .query = S("x"), .at = S("never")}, RAG_NOT_FOUND, ""},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(refusals); i++) {
    rag_search_result r = {.count = 77};
    FAILS_FIELD(rag_kb_search(kb, &refusals[i].search, &r, &err), refusals[i].status, refusals[i].field, NULL);
    assert_int_equal(r.count, 77);
  }
  rag_search deepest = {.k = 1, .offset = 9999, .query = S("x")};
  rag_search_result r = {0};
  OK(rag_kb_search(kb, &deepest, &r, &err));
  assert_int_equal(r.count, 0);
  rag_search_result_free(&r);
  rag_ref_drop(kb);
}

typedef struct later {
  rag_kb *kb;
  uint64_t commit;
} later;

static void *put_later(void *arg) {
  later *l = arg;
  nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
  l->commit = kb_test_put(l->kb, "b", "the awaited text").commit;
  return NULL;
}

static void min_commit_waits(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "a text"); // c2
  rag_search search = {.mode = RAG_SEARCH_VECTOR, .query = S("awaited"), .k = 1, .min_commit = 2};
  rag_search_result r = {0};
  OK(rag_kb_search(kb, &search, &r, &err)); // there already: no wait
  rag_search_result_free(&r);
  search.min_commit = 3;
  FAILS_FIELD(rag_kb_search(kb, &search, &r, &err), RAG_DEADLINE_EXCEEDED, "min_commit", "c2, not yet at c3");
  search.timeout_ms = 5;
  FAILS_FIELD(rag_kb_search(kb, &search, &r, &err), RAG_DEADLINE_EXCEEDED, "min_commit", "not yet at c3");
  search.timeout_ms = 600000; // the deadline ends it sooner
  search.deadline_ns = rag_clock_monotonic_ns() + 5000000;
  FAILS_FIELD(rag_kb_search(kb, &search, &r, &err), RAG_DEADLINE_EXCEEDED, "min_commit", NULL);
  search.deadline_ns = 0;
  later l = {.kb = kb};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, put_later, &l), 0);
  OK(rag_kb_search(kb, &search, &r, &err));
  assert_int_equal(r.commit, 3);
  assert_true(rag_slice_equal(r.hits[0].document_id, S("b")));
  rag_search_result_free(&r);
  pthread_join(thread, NULL);
  assert_int_equal(l.commit, 3);
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(every_version_equals_the_oracle), KB_TEST(lazy_loading_meets_writes), KB_TEST(writes_during_the_load),
      KB_TEST(metadata_is_that_of_then),        KB_TEST(wants_and_refusals),        KB_TEST(min_commit_waits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
