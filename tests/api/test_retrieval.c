// Goal: words, meaning, both, filters, facets, lists and deletions by filter do through the doors of the service what
// they say, at every version, with the numbers that a plan promises.
// Method: the whole service in process over a temporary data directory and a small corpus whose answers are plain to see.
// Which values each field takes is in test_search_requests.c; the rankings themselves have their oracle in tests/kb.
#include "dispatch_testing.h"

#define DOCS "/v1/kbs/docs"
#define ENGLISH "{\"must\":[{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}]}"

static int start(void **state) {
  service *s = service_start();
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\",\"language\":\"en\",\"chunking\":{\"method\":\"whole\"}}");
  CALL(200, "POST", DOCS "/documents",
       "{\"documents\":["
       "{\"id\":\"guide\",\"title\":\"Installing\",\"text\":\"Install the package manager first. Then run it.\","
       "\"metadata\":{\"lang\":\"en\",\"year\":2020,\"tags\":[\"setup\",\"linux\"],\"draft\":false}},"
       "{\"id\":\"boats\",\"text\":\"Boats and ships sail on the sea.\","
       "\"metadata\":{\"lang\":\"en\",\"year\":2021,\"tags\":[\"sea\",\"linux\"],\"draft\":true}},"
       "{\"id\":\"schiff\",\"text\":\"Die Schiffe fahren auf dem Meer.\",\"language\":\"de\","
       "\"metadata\":{\"lang\":\"de\",\"year\":2021.5,\"tags\":[],\"draft\":true}},"
       "{\"id\":\"bare\",\"text\":\"Apples and pears.\"}]}");
  *state = s;
  return 0;
}

static int stop(void **state) {
  service_stop(*state);
  return 0;
}

// The ids of the hits or documents of the answer, "boats guide".
static const char *ids(service *s, const char *list, const char *member) {
  static char out[1024];
  char path[64];
  out[0] = '\0';
  for (unsigned i = 0; i < 32; i++) {
    snprintf(path, sizeof(path), "%s.%u.%s", list, i, member);
    const char *id = at(s, path);
    if (strcmp(id, "<absent>") == 0) break;
    snprintf(out + strlen(out), sizeof(out) - strlen(out), "%s%s", i ? " " : "", id);
  }
  return out;
}
#define HITS(expected) assert_string_equal(ids(s, "hits", "document_id"), expected)

// ---------------------------------------------------------------------------------------------- modes

static void test_words(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/search",
       "{\"query\":\"ship\",\"mode\":\"lexical\",\"include\":[\"text\",\"scores\",\"highlights\",\"plan\"]}");
  HITS("boats");
  EXPECT("hits.0.highlights", "[{\"start\":10,\"end\":15}]"); // "ships", by its stem
  EXPECT("hits.0.scores.vector", "<absent>");
  EXPECT("hits.0.scores.lexical", at(s, "hits.0.score"));
  EXPECT("plan.mode", "lexical");
  EXPECT("plan.engine", "");
  EXPECT("plan.candidates", "0");
  EXPECT("plan.documents", "4");
  EXPECT("plan.chunks", "4");
  EXPECT("plan.documents_matched", "4");
  EXPECT("plan.filter", "<absent>");
  EXPECT("plan.lexical.clauses", "1");
  EXPECT("plan.lexical.terms", "1");
  EXPECT("plan.lexical.postings", "1");
  EXPECT("plan.lexical.only_stop_words", "false");
  static const char *const cases[][2] = {
      {"\\\"package manager\\\"", "guide"},
      {"\\\"manager package\\\"", ""},
      {"+boats +sea", "boats"},
      {"+boats +manager", ""},
      {"boats -sea", ""},
      {"pack*", "guide"},
      {"installing", "guide"}, // the title
      {"zebra", ""},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    char body[128];
    snprintf(body, sizeof(body), "{\"query\":\"%s\",\"mode\":\"lexical\"}", cases[i][0]);
    CALL(200, "POST", DOCS "/search", body);
    if (strcmp(ids(s, "hits", "document_id"), cases[i][1]) != 0)
      fail_msg("%s: %s", cases[i][0], ids(s, "hits", "document_id"));
  }
  CALL(200, "POST", DOCS "/search", "{\"query\":\"the\",\"mode\":\"lexical\",\"include\":[\"plan\"]}");
  EXPECT("plan.lexical.only_stop_words", "true");
  ERROR(400, "invalid_argument", "language", "no language tag", "POST", DOCS "/search",
        "{\"query\":\"x\",\"mode\":\"lexical\",\"language\":\"no such\"}");
}

static void test_hybrid_is_the_default(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/search", "{\"query\":\"ships\",\"include\":[\"scores\",\"plan\"]}");
  EXPECT("plan.mode", "hybrid");
  EXPECT("plan.engine", "flat");
  EXPECT("hits.0.document_id", "boats");
  assert_string_not_equal(at(s, "hits.0.scores.vector"), "<absent>");
  assert_string_not_equal(at(s, "hits.0.scores.lexical"), "<absent>");
  // Found by meaning alone.
  assert_string_not_equal(at(s, "hits.1.scores.vector"), "<absent>");
  EXPECT("hits.1.scores.lexical", "<absent>");
  EXPECT("plan.fused", "4");
  EXPECT("plan.depth", "100");
  // What suits the model of this kb, a hash model; and what was asked for.
  EXPECT("plan.fusion.method", "weighted");
  EXPECT("plan.fusion.weights.vector", "0.2");
  EXPECT("plan.fusion.weights.lexical", "0.8");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"ships\",\"fusion\":{\"method\":\"rrf\"},\"include\":[\"plan\"]}");
  EXPECT("plan.fusion.method", "rrf");
  EXPECT("plan.fusion.k", "60");
  EXPECT("plan.fusion.weights.vector", "1");
  EXPECT("plan.fusion.weights.lexical", "1");
  // Without the side of the vectors the order is the words'.
  CALL(200, "POST", DOCS "/search",
       "{\"query\":\"ships manager\",\"fusion\":{\"weights\":{\"vector\":0,\"lexical\":2},\"k\":9},\"k\":1}");
  assert_string_equal(at(s, "hits.0.score"), "0.2"); // 2 / (9 + 1)
  CALL(200, "POST", DOCS "/search", "{\"query\":\"ships\",\"fusion\":{\"method\":\"weighted\"},\"k\":1}");
  EXPECT("hits.0.document_id", "boats");
  EXPECT("hits.0.score", "1"); // the best of both sides
}

static void test_own_vectors_and_words(void **state) {
  service *s = *state;
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"own\",\"dimension\":2,\"language\":\"en\"}");
  CALL(200, "POST", "/v1/kbs/own/documents",
       "{\"documents\":[{\"id\":\"x\",\"text\":\"boats\",\"vector\":[1,0]},{\"id\":\"y\",\"text\":\"pears\","
       "\"vector\":[0,1]}]}");
  CALL(200, "POST", "/v1/kbs/own/search", "{\"query\":\"pear\",\"include\":[\"plan\",\"scores\"]}");
  HITS("y");
  EXPECT("plan.mode", "lexical");
  CALL(200, "POST", "/v1/kbs/own/search",
       "{\"query\":\"pear\",\"vector\":[1,0],\"include\":[\"plan\",\"scores\",\"highlights\",\"text\"]}");
  EXPECT("plan.mode", "hybrid");
  EXPECT("hits.1.document_id", "x"); // second of one side, not of the other
  EXPECT("hits.0.highlights", "[{\"start\":0,\"end\":5}]");
  EXPECT("hits.1.highlights", "[]");
  ERROR(400, "invalid_argument", "query", "mode lexical looks for words", "POST", "/v1/kbs/own/search",
        "{\"vector\":[1,0],\"mode\":\"lexical\"}");
  ERROR(400, "invalid_argument", "vector", "no model", "POST", "/v1/kbs/own/search",
        "{\"query\":\"pear\",\"mode\":\"hybrid\"}");
}

static void test_grouping_and_diversity(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/documents",
       "{\"documents\":[{\"id\":\"many\",\"text\":\"zebra\",\"chunks\":[{\"text\":\"zebra one\"},{\"text\":\"zebra "
       "two\"},{\"text\":\"zebra three\"}]},{\"id\":\"one\",\"text\":\"zebra here and some more words\"}]}");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"zebra\",\"mode\":\"lexical\"}");
  HITS("many many many one");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"zebra\",\"mode\":\"lexical\",\"group_by_document\":{}}");
  HITS("many one");
  CALL(200, "POST", DOCS "/search",
       "{\"query\":\"zebra\",\"mode\":\"lexical\",\"group_by_document\":{\"per_document\":2},\"k\":3}");
  HITS("many many one");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"zebra\",\"mode\":\"lexical\",\"group_by_document\":{},\"offset\":1}");
  HITS("one");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"zebra one\",\"mode\":\"vector\",\"mmr\":{\"lambda\":0},\"k\":2}");
  EXPECT("hits.0.text", "zebra one"); // the most relevant comes first at any lambda
  assert_string_not_equal(at(s, "hits.1.text"), "zebra two");
}

// ---------------------------------------------------------------------------------------------- filters

static void test_filter(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/search",
       "{\"query\":\"boats\",\"mode\":\"vector\",\"filter\":" ENGLISH ",\"include\":[\"plan\"]}");
  HITS("boats guide");
  EXPECT("plan.documents", "4");
  EXPECT("plan.documents_matched", "2");
  EXPECT("plan.chunks_matched", "2");
  EXPECT("plan.candidates", "2");
  EXPECT("plan.selectivity", "0.5");
  EXPECT("plan.filter.conditions", "1");
  static const char *const cases[][2] = {
      {"{\"must_not\":[{\"key\":\"lang\",\"match\":{\"value\":\"en\"}}]}", "bare schiff"},
      {"{\"must\":[{\"key\":\"year\",\"range\":{\"gt\":2020}}]}", "boats schiff"},
      {"{\"must\":[{\"key\":\"tags[]\",\"match\":{\"value\":\"linux\"}},{\"key\":\"draft\",\"match\":{\"value\":true}}]"
       "}",
       "boats"},
      {"{\"must\":[{\"has_id\":[\"bare\",\"guide\",\"never\"]}]}", "bare guide"},
      {"{\"must\":[{\"is_empty\":{\"key\":\"lang\"}}]}", "bare"},
      {"{\"must\":[{\"key\":\"nothing\",\"match\":{\"value\":1}}]}", ""},
      {"{}", "bare boats guide schiff"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    // Every mode keeps to it; sorted here, as the order is not the question.
    static const char *const modes[] = {"vector", "hybrid"};
    for (size_t m = 0; m < RAG_COUNT_OF(modes); m++) {
      char body[512];
      rag_strings found = {0};
      snprintf(body, sizeof(body), "{\"query\":\"boats\",\"mode\":\"%s\",\"filter\":%s}", modes[m], cases[i][0]);
      CALL(200, "POST", DOCS "/search", body);
      for (char *id = strtok((char *)(uintptr_t)ids(s, "hits", "document_id"), " "); id; id = strtok(NULL, " "))
        assert_int_equal(rag_strings_add(&found, rag_slice_str(id), NULL), RAG_OK);
      rag_strings_sort(&found);
      char sorted[256] = "";
      for (size_t k = 0; k < found.count; k++)
        snprintf(sorted + strlen(sorted), sizeof(sorted) - strlen(sorted), "%s%s", k ? " " : "", found.items[k]);
      rag_strings_free(&found);
      if (strcmp(sorted, cases[i][1]) != 0) fail_msg("%s by %s: %s", cases[i][0], modes[m], sorted);
    }
  }
  // In a batch, each search has its own.
  CALL(200, "POST", DOCS "/search:batch",
       "{\"searches\":[{\"query\":\"boats\",\"filter\":" ENGLISH ",\"mode\":\"vector\"},{\"query\":\"boats\","
       "\"mode\":\"vector\"}]}");
  assert_string_equal(ids(s, "responses.0.hits", "document_id"), "boats guide");
  assert_string_not_equal(at(s, "responses.1.hits.3"), "<absent>");
}

// In protobuf a filter is its JSON text.
static void test_filter_in_protobuf(void **state) {
  service *s = *state;
  Ragd__V1__SearchRequest search = RAGD__V1__SEARCH_REQUEST__INIT;
  uint8_t wire[512];
  search.kb = (char *)(uintptr_t) "docs";
  search.query = (char *)(uintptr_t) "boats";
  search.mode = (char *)(uintptr_t) "lexical";
  search.filter = (char *)(uintptr_t) " " ENGLISH " ";
  size_t size = ragd__v1__search_request__pack(&search, wire);
  s->content_type = "application/proto";
  expect_status(s, send_bytes(s, "POST", "/ragd.v1.Retrieval/Search", wire, size), 200, __FILE__, __LINE__);
  Ragd__V1__SearchResponse *response =
      ragd__v1__search_response__unpack(NULL, s->answer.body.size, (const uint8_t *)s->answer.body.data);
  assert_non_null(response);
  assert_int_equal(response->n_hits, 1);
  assert_int_equal(response->hits[0]->scores->lexical_presence_case, RAGD__V1__SCORES__LEXICAL_PRESENCE_LEXICAL);
  assert_int_equal(response->hits[0]->scores->vector_presence_case, 0);
  ragd__v1__search_response__free_unpacked(response, NULL);

  Ragd__V1__FacetsRequest facets = RAGD__V1__FACETS_REQUEST__INIT;
  char *fields[] = {(char *)(uintptr_t) "lang"};
  facets.kb = search.kb;
  facets.fields = fields;
  facets.n_fields = 1;
  facets.filter = search.filter;
  size = ragd__v1__facets_request__pack(&facets, wire);
  expect_status(s, send_bytes(s, "POST", "/ragd.v1.Retrieval/Facets", wire, size), 200, __FILE__, __LINE__);
  Ragd__V1__FacetsResponse *counted =
      ragd__v1__facets_response__unpack(NULL, s->answer.body.size, (const uint8_t *)s->answer.body.data);
  assert_non_null(counted);
  assert_int_equal(counted->n_facets, 1);
  assert_int_equal(counted->facets[0]->n_values, 1);
  assert_string_equal(counted->facets[0]->values[0]->value, "\"en\""); // JSON text
  assert_int_equal(counted->facets[0]->values[0]->count, 2);
  assert_int_equal(counted->facets[0]->min_presence_case, 0);
  ragd__v1__facets_response__free_unpacked(counted, NULL);
}

// A filter, words and facets at a ref give what they gave then.
static void test_versions(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/tags", "{\"name\":\"v1\"}");
  CALL(200, "PATCH", DOCS "/documents/boats", "{\"metadata\":{\"lang\":\"fr\"}}");
  CALL(200, "POST", DOCS "/documents", "{\"documents\":[{\"id\":\"guide\",\"text\":\"Nothing to install.\"}]}");
  for (int round = 0; round < 2; round++) { // the second from what the first has cached
    CALL(200, "POST", DOCS "/search", "{\"query\":\"boats\",\"mode\":\"vector\",\"filter\":" ENGLISH "}");
    HITS("");
    CALL(200, "POST", DOCS "/search", "{\"query\":\"boats\",\"mode\":\"vector\",\"filter\":" ENGLISH ",\"at\":\"v1\"}");
    HITS("boats guide");
    CALL(200, "POST", DOCS "/search", "{\"query\":\"manager\",\"mode\":\"lexical\"}");
    HITS("");
    CALL(200, "POST", DOCS "/search", "{\"query\":\"manager\",\"mode\":\"lexical\",\"at\":\"v1\"}");
    HITS("guide");
    CALL(200, "POST", DOCS "/facets", "{\"fields\":[\"lang\"]}");
    EXPECT("facets.0.values", "[{\"value\":\"de\",\"count\":1},{\"value\":\"fr\",\"count\":1}]");
    CALL(200, "POST", DOCS "/facets", "{\"fields\":[\"lang\"],\"at\":\"v1\"}");
    EXPECT("facets.0.values", "[{\"value\":\"en\",\"count\":2},{\"value\":\"de\",\"count\":1}]");
    EXPECT("commit", "c2");
  }
}

// ---------------------------------------------------------------------------------------------- facets

static void test_facets(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/facets", "{\"fields\":[\"lang\",\"year\",\"tags[]\",\"draft\",\"nothing\"]}");
  EXPECT("commit", "c2");
  EXPECT("documents", "4");
  EXPECT("facets.0.field", "lang");
  EXPECT("facets.0.values", "[{\"value\":\"en\",\"count\":2},{\"value\":\"de\",\"count\":1}]");
  EXPECT("facets.0.distinct", "2");
  EXPECT("facets.0.documents", "3");
  EXPECT("facets.0.min", "<absent>");
  EXPECT("facets.1.field", "year");
  EXPECT("facets.1.values",
         "[{\"value\":2020,\"count\":1},{\"value\":2021,\"count\":1},{\"value\":2021.5,\"count\":1}]");
  EXPECT("facets.1.min", "2020.0");
  EXPECT("facets.1.max", "2021.5");
  EXPECT("facets.2.values",
         "[{\"value\":\"linux\",\"count\":2},{\"value\":\"sea\",\"count\":1},{\"value\":\"setup\",\"count\":1}]");
  EXPECT("facets.2.documents", "2");
  EXPECT("facets.3.values", "[{\"value\":true,\"count\":2},{\"value\":false,\"count\":1}]");
  EXPECT("facets.4.field", "nothing");
  EXPECT("facets.4.values", "[]");
  EXPECT("facets.4.distinct", "0");
  EXPECT("facets.5", "<absent>");
  CALL(200, "POST", "/ragd.v1.Retrieval/Facets",
       "{\"kb\":\"docs\",\"fields\":[\"tags[]\"],\"limit\":1,\"filter\":" ENGLISH "}");
  EXPECT("documents", "2");
  EXPECT("facets.0.values", "[{\"value\":\"linux\",\"count\":2}]");
  EXPECT("facets.0.distinct", "3");
  ERROR(404, "not_found", "<absent>", "nowhere", "POST", DOCS "/facets", "{\"fields\":[\"a\"],\"at\":\"nowhere\"}");
  CALL(400, "POST", DOCS "/facets", "{\"fields\":[\"a\",\"a..b\"]}");
  EXPECT("code", "invalid_argument");
  assert_non_null(strstr(at(s, "message"), "'a..b'"));
}

// Values that JSON must escape, and the limits of numbers.
static void test_facet_values(void **state) {
  service *s = *state;
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"odd\"}");
  CALL(200, "POST", "/v1/kbs/odd/documents",
       "{\"documents\":[{\"id\":\"1\",\"text\":\"a\",\"metadata\":{\"v\":\"say \\\"\\u00e9\\\"\\n\"}},"
       "{\"id\":\"2\",\"text\":\"b\",\"metadata\":{\"v\":-9223372036854775808}},"
       "{\"id\":\"3\",\"text\":\"c\",\"metadata\":{\"v\":1e300}},{\"id\":\"4\",\"text\":\"d\",\"metadata\":{\"v\":\"\"}"
       "},"
       "{\"id\":\"5\",\"text\":\"e\",\"metadata\":{\"v\":null}},{\"id\":\"6\",\"text\":\"f\",\"metadata\":{\"v\":{}}}]"
       "}");
  CALL(200, "POST", "/v1/kbs/odd/facets", "{\"fields\":[\"v\"]}");
  EXPECT("facets.0.distinct", "4");
  EXPECT("facets.0.documents", "4");
  EXPECT("facets.0.max", "1e+300");
  char all[512];
  snprintf(all, sizeof(all), "%s", at(s, "facets.0.values"));
  static const char *const values[] = {"{\"value\":\"say \\\"\xC3\xA9\\\"\\n\",\"count\":1}",
                                       "{\"value\":-9223372036854775808,\"count\":1}", "{\"value\":1e+300,\"count\":1}",
                                       "{\"value\":\"\",\"count\":1}"};
  for (size_t i = 0; i < RAG_COUNT_OF(values); i++)
    if (!strstr(all, values[i])) fail_msg("no %s in %s", values[i], all);
}

// ---------------------------------------------------------------------------------------------- documents

static void test_list_by_filter(void **state) {
  service *s = *state;
  rag_buf body = {0};
  char target[512] =
      DOCS "/documents?limit=2&filter=%7B%22must%22:%5B%7B%22key%22:%22even%22,%22match%22:%7B%22value%22:"
           "true%7D%7D%5D%7D",
       seen[256] = "";
  rag_buf_append_str(&body, "{\"documents\":[");
  for (unsigned i = 0; i < 9; i++)
    rag_buf_printf(&body, "%s{\"id\":\"%u\",\"text\":\"t%u\",\"metadata\":{\"even\":%s}}", i ? "," : "", i, i,
                   i % 2 ? "false" : "true");
  rag_buf_append_str(&body, "]}");
  expect_status(s, send_bytes(s, "POST", DOCS "/documents", body.data, body.size), 200, __FILE__, __LINE__);
  rag_buf_free(&body);
  unsigned pages = 0;
  for (bool more = true; more && pages < 6; pages++) {
    CALL(200, "GET", target, NULL);
    EXPECT("commit", "c3");
    snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s|", ids(s, "documents", "id"));
    const char *token = at(s, "next_page_token");
    more = token[0] != '\0';
    if (pages == 0) {
      // Of this filter alone.
      char other[512];
      snprintf(other, sizeof(other), DOCS "/documents?limit=2&page_token=%s", token);
      snprintf(target, sizeof(target),
               DOCS
               "/documents?limit=2&page_token=%s&filter=%%7B%%22must%%22:%%5B%%7B%%22key%%22:%%22even%%22,%%22match"
               "%%22:%%7B%%22value%%22:true%%7D%%7D%%5D%%7D",
               token);
      ERROR(400, "invalid_argument", "page_token", "not one that this list has given", "GET", other, NULL);
      // What is deleted meanwhile is in the later pages all the same.
      CALL(200, "DELETE", DOCS "/documents/4", NULL);
    } else if (more) {
      snprintf(target, sizeof(target),
               DOCS
               "/documents?limit=2&page_token=%s&filter=%%7B%%22must%%22:%%5B%%7B%%22key%%22:%%22even%%22,%%22match"
               "%%22:%%7B%%22value%%22:true%%7D%%7D%%5D%%7D",
               token);
    }
  }
  assert_string_equal(seen, "0 2|4 6|8|");
  CALL(200, "POST", "/ragd.v1.Documents/ListDocuments", "{\"kb\":\"docs\",\"filter\":" ENGLISH ",\"text\":true}");
  assert_string_equal(ids(s, "documents", "id"), "guide boats");
  EXPECT("documents.1.text", "Boats and ships sail on the sea.");
}

static void test_delete_by_filter(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/branches", "{\"name\":\"work\"}");
  s->idempotency_key = "delete-1";
  for (int again = 0; again < 2; again++) {
    CALL(200, "POST", DOCS "/documents:delete",
         "{\"branch\":\"work\",\"filter\":" ENGLISH ",\"message\":\"no English\",\"author\":\"me\"}");
    EXPECT("committed", "true");
    EXPECT("removed", "2");
    EXPECT("added", "0");
    EXPECT("missing", "0");
    EXPECT("replayed", again ? "true" : "false");
  }
  s->idempotency_key = NULL;
  CALL(200, "GET", DOCS "/commits/work", NULL);
  EXPECT("removed", "2");
  EXPECT("documents", "2");
  EXPECT("message", "no English");
  EXPECT("author", "me");
  CALL(200, "GET", DOCS "/documents?at=work", NULL);
  assert_string_equal(ids(s, "documents", "id"), "schiff bare");
  CALL(200, "GET", DOCS "/documents/guide", NULL); // main keeps it
  CALL(200, "GET", DOCS "/documents/guide?at=work~1", NULL);
  // Nothing passes: no commit.
  CALL(200, "POST", "/ragd.v1.Documents/DeleteDocuments",
       "{\"kb\":\"docs\",\"branch\":\"work\",\"filter\":" ENGLISH "}");
  EXPECT("committed", "false");
  EXPECT("removed", "0");
  // On purpose, everything: what is not deleted already.
  CALL(200, "POST", DOCS "/documents:delete", "{\"filter\":{\"must_not\":[{\"has_id\":[\"-\"]}]}}");
  EXPECT("removed", "4");
}

static void test_delete_conflict(void **state) {
  service *s = *state;
  CALL(200, "PATCH", DOCS "/documents/boats", "{\"metadata\":{\"year\":2022}}");
  CALL(409, "POST", DOCS "/documents:delete", "{\"filter\":" ENGLISH ",\"expect_parent\":\"c2\"}");
  EXPECT("code", "aborted");
  EXPECT("details.conflicts", "[\"boats\"]");
  CALL(200, "POST", DOCS "/documents:delete", "{\"filter\":" ENGLISH ",\"expect_parent\":\"main\"}");
  EXPECT("removed", "2");
}

static void test_language(void **state) {
  service *s = *state;
  CALL(200, "GET", DOCS "/documents/schiff", NULL);
  EXPECT("language", "de");
  CALL(200, "GET", DOCS "/documents/boats", NULL);
  EXPECT("language", "");
  CALL(200, "GET", DOCS "/documents", NULL);
  EXPECT("documents.2.language", "de");
  // Its words are German ones, and a German query finds them.
  CALL(200, "POST", DOCS "/search", "{\"query\":\"Schiff\",\"mode\":\"lexical\",\"language\":\"de\"}");
  HITS("schiff");
  CALL(200, "POST", DOCS "/documents",
       "{\"documents\":[{\"id\":\"schiff\",\"text\":\"Die Schiffe fahren auf dem Meer.\",\"language\":\"en\","
       "\"metadata\":{\"lang\":\"de\",\"year\":2021.5,\"tags\":[],\"draft\":true}}]}");
  EXPECT("changed", "1");
  ERROR(400, "invalid_argument", "documents[0].language", "", "POST", DOCS "/documents",
        "{\"documents\":[{\"id\":\"x\",\"text\":\"x\",\"language\":\"not a tag\"}]}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      TEST(test_words),
      TEST(test_hybrid_is_the_default),
      TEST(test_own_vectors_and_words),
      TEST(test_grouping_and_diversity),
      TEST(test_filter),
      TEST(test_filter_in_protobuf),
      TEST(test_versions),
      TEST(test_facets),
      TEST(test_facet_values),
      TEST(test_list_by_filter),
      TEST(test_delete_by_filter),
      TEST(test_delete_conflict),
      TEST(test_language),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
