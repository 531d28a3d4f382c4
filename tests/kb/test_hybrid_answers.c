// Goal: what the random histories cannot say by themselves: the same request gives the same bits; modes are chosen as
// they are told; highlights mark what was found and nothing else; a document's own language decides about its words, and
// the kb's language stays once there are texts.
// Method: random requests over the pools of hybrid_test.h for what holds always; documents by hand for single rules, each
// asked before and after the kb is read from its rows.
#include "hybrid_oracle.h"

// The ids of the answer, best first, joined by spaces, in a static buffer.
static const char *found(rag_kb *kb, const char *query, const char *language, rag_search_mode mode) {
  static char ids[1024];
  rag_error err = {0};
  rag_search_result r = {0};
  rag_search search = {.query = S(query), .k = 20, .mode = mode, .language = S(language)};
  OK(rag_kb_search(kb, &search, &r, &err));
  ids[0] = '\0';
  for (uint32_t i = 0; i < r.count; i++)
    snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%s%.*s", i ? " " : "", (int)r.hits[i].document_id.size,
             r.hits[i].document_id.data);
  rag_search_result_free(&r);
  return ids;
}

static const char *words(rag_kb *kb, const char *query) {
  return found(kb, query, NULL, RAG_SEARCH_LEXICAL);
}

static rag_kb *reopened(kb_fixture *f, rag_kb *kb, bool eager) {
  rag_ref_drop(kb);
  f->kbs_options.load_at_open = eager;
  kb_test_reopen(f);
  return kb_test_get(f, "docs");
}

// ---------------------------------------------------------------------------------------------- the same bits

static void same_answers(const rag_search_result *a, const rag_search_result *b) {
  HY_CHECK(a->count == b->count && a->commit == b->commit, "%u and %u hits", a->count, b->count);
  for (uint32_t i = 0; i < a->count; i++)
    HY_CHECK(a->hits[i].chunk == b->hits[i].chunk && hy_same_bits(a->hits[i].score, b->hits[i].score) &&
                 hy_same_bits(a->hits[i].vector_score, b->hits[i].vector_score) &&
                 hy_same_bits(a->hits[i].lexical_score, b->hits[i].lexical_score),
             "hit %u", i);
}

static void put_many(const hy_world *w, uint32_t count) {
  rag_error err = {0};
  rag_document_input *in = calloc(count, sizeof *in);
  hy_input *buffers = calloc(count, sizeof *buffers);
  rag_write write = {0};
  rag_write_result r = {0};
  for (uint32_t i = 0; i < count; i++) {
    hy_doc doc = hy_random_doc(w);
    doc.id = i;
    hy_fill_input(w, &doc, &buffers[i], &in[i]);
  }
  rag_put put = {.documents = in, .document_count = count};
  HY_DO(rag_kb_put(w->kb, &write, &put, &r, NULL, &err));
  free(in);
  free(buffers);
}

static void same_request_same_bits(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  hy_start(hy_first_seed());
  hy_pool_make();
  hy_world w = {.name = "docs", .ids = 80};
  hy_create(f, &w);
  put_many(&w, w.ids);
  for (hy_step = 0; hy_step < 60; hy_step++) {
    hy_query q;
    hy_filter filter = {0};
    hy_make_query(&q);
    if (hy_draw(2)) filter = hy_random_filter(&w);
    rag_search s = {.query = S(q.text),
                    .k = 1 + hy_draw(30),
                    .mode = (rag_search_mode)hy_draw(4),
                    .filter = filter.filter,
                    .per_document = hy_draw(3),
                    .fusion.method = hy_draw(2) ? RAG_FUSION_RRF : RAG_FUSION_WEIGHTED};
    rag_search_result a = {0}, b = {0};
    HY_DO(rag_kb_search(w.kb, &s, &a, &err));
    HY_DO(rag_kb_search(w.kb, &s, &b, &err));
    same_answers(&a, &b);
    rag_search_result_free(&b);
    s.has_mmr = true; // relevance alone: as without
    s.mmr_lambda = 1;
    HY_DO(rag_kb_search(w.kb, &s, &b, &err));
    // In a fused answer the candidates are more, so the sides may be asked deeper.
    if (s.mode == RAG_SEARCH_VECTOR || s.mode == RAG_SEARCH_LEXICAL || a.plan.depth == b.plan.depth)
      same_answers(&a, &b);
    rag_search_result_free(&b);
    s.has_mmr = false;
    if (a.count > 1) { // at the score of the second: the first two are left, and what ties with the second
      s.has_min_score = true;
      s.min_score = a.hits[1].score;
      HY_DO(rag_kb_search(w.kb, &s, &b, &err));
      for (uint32_t i = 0; i < b.count; i++) HY_CHECK(b.hits[i].score >= s.min_score, "below min_score");
      HY_CHECK(b.count >= 2 && b.hits[0].chunk == a.hits[0].chunk && b.hits[1].chunk == a.hits[1].chunk, "%u hits",
               b.count);
      rag_search_result_free(&b);
      s.min_score = a.hits[0].score + 100;
      HY_DO(rag_kb_search(w.kb, &s, &b, &err));
      HY_CHECK(b.count == 0, "%u hits above the best score", b.count);
    }
    rag_search_result_free(&b);
    rag_search_result_free(&a);
    hy_filter_free(&filter);
  }
  rag_ref_drop(w.kb);
  hy_pool_free();
}

// ---------------------------------------------------------------------------------------------- highlights

typedef struct marks { // bytes of a text that belong to matched tokens, and where these begin and end
  const hy_query *q;
  bool *begins, *ends;
  rag_token path[512];
  uint32_t path_count;
  rag_token all[1024];
  uint32_t all_count;
} marks;

static bool take_mark(void *context, const rag_token *token) {
  marks *m = context;
  rag_token kept = *token;
  kept.term = hy_keep(token->term);
  assert_true(m->all_count < RAG_COUNT_OF(m->all) && m->path_count < RAG_COUNT_OF(m->path));
  m->all[m->all_count++] = kept;
  if (!(token->flags & RAG_TOKEN_EXTRA)) m->path[m->path_count++] = kept;
  return true;
}

static void match_marks(marks *m, bool *matched) { // matched: of all[]
  for (uint32_t c = 0; c < m->q->count; c++) {
    const rag_lexical_clause *clause = &m->q->clauses[c];
    if (clause->occur == RAG_LEXICAL_MUST_NOT) continue;
    for (uint32_t i = 0; i < m->all_count; i++) {
      rag_slice term = m->all[i].term, sought = clause->terms[0];
      if (clause->kind == RAG_LEXICAL_TERM) matched[i] |= rag_slice_equal(term, sought);
      if (clause->kind == RAG_LEXICAL_PREFIX)
        matched[i] |= term.size >= sought.size && memcmp(term.data, sought.data, sought.size) == 0;
    }
    for (uint32_t p = 0; clause->kind == RAG_LEXICAL_PHRASE && p + clause->term_count <= m->path_count; p++) {
      bool all = true;
      for (uint32_t j = 0; j < clause->term_count; j++)
        all = all && rag_slice_equal(m->path[p + j].term, clause->terms[j]);
      for (uint32_t i = 0; all && i < m->all_count; i++)
        for (uint32_t j = 0; j < clause->term_count; j++)
          matched[i] |= !(m->all[i].flags & RAG_TOKEN_EXTRA) && m->all[i].position == m->path[p + j].position;
    }
  }
}

static uint64_t check_highlights(const hy_query *q, const hy_doc *doc, const rag_hit *h) {
  marks m = {.q = q};
  bool *matched = calloc(RAG_COUNT_OF(m.all), sizeof *matched);
  rag_slice text = h->text;
  uint64_t total = 0;
  HY_CHECK(rag_analyzer_run(hy->analyzers[doc->language], text, take_mark, &m) == RAG_OK, "analysis");
  match_marks(&m, matched);
  for (uint32_t s = 0; s < h->highlight_count; s++) {
    rag_span span = h->highlights[s];
    bool begins = false, ends = false;
    HY_CHECK(span.start < span.end && span.end <= text.size, "span %u to %u of %zu", span.start, span.end, text.size);
    HY_CHECK(s == 0 || h->highlights[s - 1].end < span.start, "spans are not apart");
    HY_CHECK(rag_utf8_valid(text.data + span.start, span.end - span.start), "a span cuts a character");
    for (uint32_t i = 0; i < m.all_count; i++) {
      begins |= matched[i] && m.all[i].start == span.start;
      ends |= matched[i] && m.all[i].end == span.end;
    }
    HY_CHECK(begins && ends, "'%.*s' is marked for '%s'", (int)(span.end - span.start), text.data + span.start,
             q->text);
  }
  for (uint32_t i = 0; i < m.all_count; i++) {
    bool covered = false;
    for (uint32_t s = 0; s < h->highlight_count; s++)
      covered |= h->highlights[s].start <= m.all[i].start && m.all[i].end <= h->highlights[s].end;
    total += matched[i];
    if (matched[i])
      HY_CHECK(covered, "'%.*s' is not marked for '%s'", (int)m.all[i].term.size, m.all[i].term.data, q->text);
  }
  free(matched);
  return total;
}

static void highlights_mark_what_was_found(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  hy_start(hy_first_seed() + 17);
  hy_pool_make();
  hy_world w = {.name = "docs", .ids = 60};
  uint64_t marked = 0;
  hy_create(f, &w);
  put_many(&w, w.ids);
  hy_version v;
  assert_true(hy_list(w.kb, "", &v));
  for (hy_step = 0; hy_step < 120; hy_step++) {
    hy_query q;
    hy_make_query(&q);
    rag_search s = {.query = S(q.text),
                    .k = 20,
                    .mode = (rag_search_mode)(1 + hy_draw(3)),
                    .want_text = true,
                    .want_highlights = true};
    rag_search_result r = {0};
    HY_DO(rag_kb_search(w.kb, &s, &r, &err));
    for (uint32_t i = 0; i < r.count; i++) {
      const hy_doc *doc = NULL;
      for (uint32_t d = 0; d < v.count; d++)
        if (v.docs[d].revision == r.hits[i].revision) doc = &v.docs[d];
      HY_CHECK(doc != NULL, "revision %u", r.hits[i].revision);
      marked += check_highlights(&q, doc, &r.hits[i]);
    }
    rag_search_result_free(&r);
    s.want_highlights = false;
    HY_DO(rag_kb_search(w.kb, &s, &r, &err));
    for (uint32_t i = 0; i < r.count; i++) HY_CHECK(r.hits[i].highlight_count == 0, "highlights that nobody wanted");
    rag_search_result_free(&r);
  }
  HY_CHECK(marked > 1000, "%" PRIu64 " words marked: this test has no teeth", marked);
  hy_version_free(&v);
  rag_ref_drop(w.kb);
  hy_pool_free();
}

// ---------------------------------------------------------------------------------------------- words by hand

static void words_are_found(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  rag_document_input titled = {.id = S("title"), .text = S("nothing of it here"), .title = S("Reservoirs")};
  kb_test_put(kb, "code", "call readFile in main_loop.rs, then E_NOT_FOUND of v1.2.3");
  kb_test_put(kb, "cjk", "\xE5\x8C\x97\xE4\xBA\xAC\xE5\xA4\xA7\xE5\xAD\xA6\xE3\x81\xAE\xE6\xAD\xB4\xE5\x8F\xB2");
  kb_test_put(kb, "accents",
              "La cr\xC3\xA8me br\xC3\xBBl\xC3\xA9"
              "e, \xF0\x9F\x91\x8D");
  kb_test_put(kb, "text", "a reservoir of water, connected by running streams");
  kb_test_put_input(kb, NULL, &titled);
  static const struct {
    const char *query, *ids;
  } cases[] = {
      {"readfile", "code"},
      {"read file", "code"},
      {"mainloop", "code"},
      {"main-loop", "code"},
      {"e_not_found", "code"},
      {"\"not found\"", "code"},
      {"1.2.3", "code"},
      {"\xE5\x8C\x97\xE4\xBA\xAC", "cjk"},
      {"\xE6\xAD\xB4", "cjk"},
      {"\xE4\xBA\xAC\xE5\x8C\x97", ""},
      {"creme brulee", "accents"},
      {"\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD", "accents"},
      {"reservoir", "title text"}, // a word of the title counts twice
      {"+reservoir -water", "title"},
      {"connect*", "text"},
      {"\"running streams\"", "text"},
      {"\"streams running\"", ""},
      {"run", "text"},
      {"water -streams", ""},
      {"-water", ""},
      {"zzz", ""},
  };
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
      const char *ids = words(kb, cases[i].query);
      if (strcmp(ids, cases[i].ids) != 0) fail_msg("%s: '%s' instead of '%s'", cases[i].query, ids, cases[i].ids);
    }
    kb = reopened(f, kb, round == 0);
  }
  rag_ref_drop(kb);
}

static void modes_are_told(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_create(f, "given", "", 4);
  float v[4] = {1, 0, 0, 0}, other[4] = {0, 1, 0, 0};
  rag_chunk_input chunks[3] = {{.text = S("with a vector"), .vector = v, .vector_dimension = 4},
                               {.text = S("words alone"), .metadata = S("{\"part\":2}")},
                               {.vector = other, .vector_dimension = 4}};
  rag_document_input in = {.id = S("a"), .chunks = chunks, .chunk_count = 3};
  kb_test_put_input(kb, NULL, &in);
  for (int round = 0; round < 2; round++) {
    rag_search s = {.query = S("vector words"), .k = 10, .want_text = true, .want_metadata = true};
    rag_search_result r = {0};
    OK(rag_kb_search(kb, &s, &r, &err)); // no model, no vector: by words
    assert_int_equal(r.plan.mode, RAG_SEARCH_LEXICAL);
    assert_true(strstr(r.plan.reason, "no model") != NULL);
    assert_int_equal(r.count, 2);
    for (uint32_t i = 0; i < 2; i++) assert_true(r.hits[i].has_lexical_score && !r.hits[i].has_vector_score);
    rag_search_result_free(&r);
    s.vector = v;
    s.vector_dimension = 4;
    OK(rag_kb_search(kb, &s, &r, &err)); // both: fused; what has no vector and what has no words are in it
    assert_int_equal(r.plan.mode, RAG_SEARCH_HYBRID);
    assert_int_equal(r.count, 3);
    assert_true(rag_slice_equal(r.hits[0].text, S("with a vector"))); // on both sides
    assert_true(r.hits[0].has_lexical_score && r.hits[0].has_vector_score);
    for (uint32_t i = 0; i < 3; i++) {
      assert_true(r.hits[i].has_lexical_score || r.hits[i].has_vector_score);
      if (rag_slice_equal(r.hits[i].text, S("words alone")))
        assert_true(rag_slice_equal(r.hits[i].chunk_metadata, S("{\"part\":2}")));
    }
    rag_search_result_free(&r);
    s.query = (rag_slice){0};
    OK(rag_kb_search(kb, &s, &r, &err));
    assert_int_equal(r.plan.mode, RAG_SEARCH_VECTOR);
    assert_int_equal(r.count, 2);
    rag_search_result_free(&r);
    s = (rag_search){.query = S("words"), .k = 1, .mode = RAG_SEARCH_HYBRID};
    FAILS_FIELD(rag_kb_search(kb, &s, &r, &err), RAG_INVALID_ARGUMENT, "vector", "no model");
    s.mode = RAG_SEARCH_VECTOR;
    FAILS_FIELD(rag_kb_search(kb, &s, &r, &err), RAG_INVALID_ARGUMENT, "query", "no model");
    rag_ref_drop(kb);
    if (round == 0) kb_test_reopen(f);
    if (round == 0) kb = kb_test_get(f, "given");
  }
}

// ---------------------------------------------------------------------------------------------- languages

static void a_documents_own_language(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_document_input in = {.id = S("de"),
                           .text = S("Die Katzen liefen \xC3\xBC"
                                     "ber die H\xC3\xA4user."),
                           .language = S("de")};
  kb_test_put_input(kb, NULL, &in); // c2
  in.id = S("en");
  in.language = (rag_slice){0};
  kb_test_put_input(kb, NULL, &in); // c3: the same text by English rules
  for (int round = 0; round < 3; round++) {
    // The plural, asked for in the singular, by German rules: the umlaut and the ending go.
    assert_string_equal(found(kb, "Haus Katze", "de", RAG_SEARCH_LEXICAL), "de");
    rag_search s = {.query = S("Katze"),
                    .k = 10,
                    .mode = RAG_SEARCH_LEXICAL,
                    .language = S("de-AT"),
                    .want_text = true,
                    .want_highlights = true};
    rag_search_result r = {0};
    OK(rag_kb_search(kb, &s, &r, &err));
    assert_int_equal(r.count, 1);
    assert_int_equal(r.hits[0].highlight_count, 1);
    rag_span span = r.hits[0].highlights[0];
    assert_true(rag_slice_equal(rag_slice_of(r.hits[0].text.data + span.start, span.end - span.start), S("Katzen")));
    rag_search_result_free(&r);
    rag_document document = {0};
    OK(rag_kb_document_get(kb, S(""), S("de"), &document, &err));
    assert_true(rag_slice_equal(document.language, S("de")));
    rag_document_free(&document);
    kb = reopened(f, kb, round == 0);
  }
  // Another language is another content; the same one is unchanged.
  in.language = S("de");
  in.id = S("en");
  assert_int_equal(kb_test_put_input(kb, NULL, &in).changed, 1);
  assert_string_equal(found(kb, "Katze", "de", RAG_SEARCH_LEXICAL), "de en");
  assert_int_equal(kb_test_put_input(kb, NULL, &in).unchanged, 1);
  in.language = S("no tag!");
  rag_put put = {.documents = &in, .document_count = 1};
  rag_write_result result = {0};
  rag_write write = {0};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &result, NULL, &err), RAG_INVALID_ARGUMENT, "documents[0].language", NULL);
  in.language = S("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &result, NULL, &err), RAG_INVALID_ARGUMENT, "documents[0].language", NULL);
  rag_ref_drop(kb);
}

static void change_language(kb_fixture *f, rag_kb *kb, const char *language, rag_status expected) {
  rag_error err = {0};
  rag_kb_info info = {0};
  OK(rag_kb_describe(kb, &info, &err));
  snprintf(info.config.language, sizeof info.config.language, "%s", language);
  if (expected == RAG_OK) OK(rag_kbs_update(f->kbs, &info.config, &err));
  else FAILS_FIELD(rag_kbs_update(f->kbs, &info.config, &err), expected, "language", NULL);
  rag_kb_info_free(&info);
}

static void the_kbs_language_stays(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  change_language(f, kb, "no tag!", RAG_INVALID_ARGUMENT);
  change_language(f, kb, "en", RAG_OK);
  change_language(f, kb, "de", RAG_OK); // nothing is there yet
  kb_test_put(kb, "a", "Die Katzen und die H\xC3\xA4user");
  assert_string_equal(words(kb, "Katze"), "a");
  change_language(f, kb, "en", RAG_FAILED_PRECONDITION);
  change_language(f, kb, "", RAG_FAILED_PRECONDITION);
  change_language(f, kb, "de", RAG_OK); // no change
  kb_test_delete_on(kb, NULL, "a");     // older versions have it still
  change_language(f, kb, "en", RAG_FAILED_PRECONDITION);
  kb = reopened(f, kb, true);
  change_language(f, kb, "en", RAG_FAILED_PRECONDITION);
  kb_test_rollback(kb, NULL, "c2");
  assert_string_equal(words(kb, "Katze"), "a");
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(same_request_same_bits), KB_TEST(highlights_mark_what_was_found), KB_TEST(words_are_found),
      KB_TEST(modes_are_told),         KB_TEST(a_documents_own_language),       KB_TEST(the_kbs_language_stays),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
