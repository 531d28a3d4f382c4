// Goal: every field of a search, a batch, a facet request and a delete by filter takes what it should and refuses the
// rest by name, in JSON and in protobuf, over REST and RPC; and a batch's searches of one ref see one commit.
// Method: the whole service in process over a temporary data directory; tables of good and bad values. What the modes
// and filters find is in test_retrieval.c.
#include "dispatch_testing.h"

#include <pthread.h>

#define DOCS "/v1/kbs/docs"

static int start(void **state) {
  service *s = service_start();
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\",\"chunking\":{\"method\":\"whole\"}}");
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"other\"}");
  CALL(200, "POST", DOCS "/documents",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"apples and pears\"},{\"id\":\"b\",\"text\":\"boats\"}]}");
  *state = s;
  return 0;
}

static int stop(void **state) {
  service_stop(*state);
  return 0;
}

// ---------------------------------------------------------------------------------------------- one search

static const struct {
  const char *field, *message, *member;
} bad_searches[] = {
    {"mode", "'best' is none of hybrid, vector, lexical", "\"mode\":\"best\""},
    {"mode", "did you mean 'hybrid'?", "\"mode\":\"Hybrid\""},
    {"include", "none of text, metadata, vector, scores, highlights, plan", "\"include\":[\"text\",\"all\"]"},
    {"include", "did you mean 'highlights'?", "\"include\":[\"highlight\"]"},
    {"filter", "expected an object, got an array", "\"filter\":[]"},
    {"filter", "send the object itself, not its text", "\"filter\":\"{}\""},
    {"filter", "did you mean 'must'?", "\"filter\":{\"musst\":[]}"},
    {"filter.must[0]", "", "\"filter\":{\"must\":[{\"key\":\"a\"}]}"},
    {"filter.should[1].range", "", "\"filter\":{\"should\":[{\"has_id\":[\"a\"]},{\"key\":\"a\",\"range\":{}}]}"},
    {"group_by_document.per_document", "0 is outside 1 to 10000", "\"group_by_document\":{\"per_document\":0}"},
    {"group_by_document.per_document", "10001 is outside", "\"group_by_document\":{\"per_document\":10001}"},
    {"group_by_document", "expected an object", "\"group_by_document\":1"},
    {"group_by_document.per_doc", "did you mean 'per_document'?", "\"group_by_document\":{\"per_doc\":1}"},
    {"mmr.lambda", "1.5 is outside 0", "\"mmr\":{\"lambda\":1.5}"},
    {"mmr.lambda", "-0.1 is outside 0", "\"mmr\":{\"lambda\":-0.1}"},
    {"mmr.candidates", "0 is outside k + offset (10) to 1000", "\"mmr\":{\"candidates\":0}"},
    {"mmr.candidates", "9 is outside k + offset (10)", "\"mmr\":{\"candidates\":9}"},
    {"mmr.candidates", "13 is outside k + offset (14)", "\"mmr\":{\"candidates\":13},\"offset\":4"},
    {"mmr.candidates", "1001 is outside", "\"mmr\":{\"candidates\":1001}"},
    {"mmr", "k + offset (1001) is at most 1000", "\"mmr\":{},\"offset\":991"},
    {"fusion.method", "'sum' is none of rrf, weighted", "\"fusion\":{\"method\":\"sum\"}"},
    {"fusion.k", "0 is outside 1 to 100000", "\"fusion\":{\"k\":0}"},
    {"fusion.k", "100001 is outside", "\"fusion\":{\"k\":100001}"},
    {"fusion.weights.vector", "-1 is no weight", "\"fusion\":{\"weights\":{\"vector\":-1}}"},
    {"fusion.weights.lexical", "-0.5 is no weight", "\"fusion\":{\"weights\":{\"lexical\":-0.5}}"},
    {"fusion.weights", "not both may be 0", "\"fusion\":{\"weights\":{\"vector\":0,\"lexical\":0}}"},
    {"params.target_recall", "0 is outside (0, 1]", "\"params\":{\"target_recall\":0}"},
    {"params.target_recall", "1.01 is outside", "\"params\":{\"target_recall\":1.01}"},
    {"params.ef", "at least 1", "\"params\":{\"ef\":0}"},
    {"params.nprobe", "at least 1", "\"params\":{\"nprobe\":0}"},
    {"params.rerank", "at least 1", "\"params\":{\"rerank\":0}"},
    {"params.efs", "did you mean 'ef'?", "\"params\":{\"efs\":1}"},
    {"min_commit", "c42", "\"min_commit\":\"main\""},
    {"timeout_ms", "60000", "\"timeout_ms\":60001"},
};

static void test_bad_fields(void **state) {
  service *s = *state;
  char body[512];
  for (size_t i = 0; i < RAG_COUNT_OF(bad_searches); i++) {
    snprintf(body, sizeof(body), "{\"query\":\"x\",%s}", bad_searches[i].member);
    ERROR(400, "invalid_argument", bad_searches[i].field, bad_searches[i].message, "POST", DOCS "/search", body);
    // The same in a batch, behind a good one, with its place.
    char field[128];
    snprintf(body, sizeof(body), "{\"searches\":[{\"query\":\"x\"},{\"query\":\"x\",%s}]}", bad_searches[i].member);
    snprintf(field, sizeof(field), "searches[1].%s", bad_searches[i].field);
    ERROR(400, "invalid_argument", field, bad_searches[i].message, "POST", DOCS "/search:batch", body);
    // And over RPC, in Connect's shape.
    snprintf(body, sizeof(body), "{\"kb\":\"docs\",\"query\":\"x\",%s}", bad_searches[i].member);
    CALL(400, "POST", "/ragd.v1.Retrieval/Search", body);
    EXPECT("code", "invalid_argument");
    EXPECT("details.0.debug.field", bad_searches[i].field);
  }
}

static void test_good_fields(void **state) {
  service *s = *state;
  static const char *const members[] = {
      "\"mode\":\"vector\"",
      "\"filter\":{}",
      "\"filter\":null",
      "\"group_by_document\":{}",
      "\"group_by_document\":{\"per_document\":10000}",
      "\"mmr\":{}",
      "\"mmr\":{\"lambda\":0}",
      "\"mmr\":{\"lambda\":1,\"candidates\":10}",
      "\"mmr\":{\"candidates\":1000},\"offset\":990",
      "\"fusion\":{}",
      "\"fusion\":{\"method\":\"rrf\",\"k\":1}",
      "\"fusion\":{\"method\":\"weighted\",\"k\":100000,\"weights\":{}}",
      "\"fusion\":{\"weights\":{\"vector\":0}}",
      "\"fusion\":{\"weights\":{\"lexical\":0,\"vector\":3.5}}",
      "\"params\":{}",
      "\"params\":{\"target_recall\":1,\"ef\":1,\"nprobe\":4294967295,\"rerank\":1}",
      "\"include\":[\"text\",\"metadata\",\"vector\",\"scores\",\"highlights\",\"plan\"]",
      "\"language\":\"en\"",
      "\"language\":\"\"",
  };
  char body[512];
  for (size_t i = 0; i < RAG_COUNT_OF(members); i++) {
    snprintf(body, sizeof(body), "{\"query\":\"apples\",%s}", members[i]);
    CALL(200, "POST", DOCS "/search", body);
  }
  CALL(200, "POST", DOCS "/search", "{\"query\":\"apples\",\"mode\":\"vector\",\"include\":[\"plan\"]}");
  EXPECT("plan.mode", "vector");
  EXPECT("plan.engine", "flat");
  EXPECT("plan.segments", "1");
  EXPECT("plan.filter", "<absent>");
  EXPECT("plan.lexical", "<absent>");
}

// NaN and infinities have no JSON; in protobuf they are refused by the codec, with the path.
static void test_protobuf(void **state) {
  service *s = *state;
  static const struct {
    const char *bytes;
    size_t size;
    const char *field;
  } cases[] = {
#define WIRE(text) text, sizeof(text) - 1
      {WIRE("\x12\x01x\x82\x01\x05\x0d\x00\x00\xC0\x7F"), "mmr.lambda"},                    // NaN
      {WIRE("\x12\x01x\x8A\x01\x07\x1A\x05\x0d\x00\x00\x80\x7F"), "fusion.weights.vector"}, // infinity
      {WIRE("\x12\x01x\x6A\x02[]"), "filter"},                                              // JSON text of a list
      {WIRE("\x12\x01x\x6A\x01{"), "filter"},                                               // no JSON
      {WIRE("\x12\x01x\x6A\x0D{\"must\":[{}]x"), "filter"},                                 // text after it
      {WIRE("\x12\x01x\x6A\x16{\"must\":[{\"key\":\"a\"}]}"), "filter.must[0]"},            // a key without a test
      {WIRE("\x12\x01x\x42\x04"
            "best"),
       "mode"},
      {WIRE("\x12\x01x\x72\x02\x08\x00"), "group_by_document.per_document"},
#undef WIRE
  };
  s->content_type = "application/x-protobuf";
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    expect_error(s, send_bytes(s, "POST", DOCS "/search", cases[i].bytes, cases[i].size), 400, "invalid_argument",
                 cases[i].field, "", __FILE__, __LINE__);

  // A whole request and its answer.
  Ragd__V1__SearchRequest search = RAGD__V1__SEARCH_REQUEST__INIT;
  Ragd__V1__GroupByDocument group = RAGD__V1__GROUP_BY_DOCUMENT__INIT;
  Ragd__V1__Mmr mmr = RAGD__V1__MMR__INIT;
  char *include[] = {(char *)(uintptr_t) "vector", (char *)(uintptr_t) "scores", (char *)(uintptr_t) "plan"};
  uint8_t wire[512];
  search.kb = (char *)(uintptr_t) "docs";
  search.query = (char *)(uintptr_t) "boats";
  search.mode = (char *)(uintptr_t) "vector";
  search.group_by_document = &group;
  search.mmr = &mmr;
  search.include = include;
  search.n_include = RAG_COUNT_OF(include);
  size_t size = ragd__v1__search_request__pack(&search, wire);
  static const char *const doors[][2] = {{DOCS "/search", "application/x-protobuf"},
                                         {"/ragd.v1.Retrieval/Search", "application/proto"}};
  for (size_t i = 0; i < RAG_COUNT_OF(doors); i++) {
    s->content_type = doors[i][1];
    expect_status(s, send_bytes(s, "POST", doors[i][0], wire, size), 200, __FILE__, __LINE__);
    Ragd__V1__SearchResponse *response =
        ragd__v1__search_response__unpack(NULL, s->answer.body.size, (const uint8_t *)s->answer.body.data);
    assert_non_null(response);
    assert_int_equal(response->n_hits, 2);
    assert_string_equal(response->hits[0]->document_id, "b");
    assert_int_equal(response->hits[0]->vector.len, 384 * sizeof(float));
    assert_int_equal(response->hits[0]->text_presence_case, 0);
    assert_non_null(response->hits[0]->scores);
    assert_string_equal(response->plan->mode, "vector");
    ragd__v1__search_response__free_unpacked(response, NULL);
  }
}

// ---------------------------------------------------------------------------------------------- a batch

static void test_batch(void **state) {
  service *s = *state;
  CALL(200, "POST", DOCS "/search:batch",
       "{\"searches\":[{\"query\":\"boats\",\"mode\":\"vector\",\"k\":1},{\"kb\":\"docs\",\"query\":\"apples and "
       "pears\",\"mode\":\"vector\",\"include\":[\"plan\"]},{\"query\":\"boats\",\"at\":\"c1\",\"mode\":\"vector\"}]}");
  EXPECT("responses.0.hits.0.document_id", "b");
  EXPECT("responses.0.hits.0.text", "boats");
  EXPECT("responses.0.hits.1", "<absent>");
  EXPECT("responses.0.plan", "<absent>");
  EXPECT("responses.0.commit", "c2");
  EXPECT("responses.1.hits.0.document_id", "a");
  EXPECT("responses.1.hits.0.text", "<absent>");
  EXPECT("responses.1.plan.mode", "vector");
  EXPECT("responses.1.commit", "c2");
  EXPECT("responses.2.hits", "[]"); // before the first document
  EXPECT("responses.2.commit", "c1");
  EXPECT("responses.3", "<absent>");
  CALL(200, "POST", "/ragd.v1.Retrieval/SearchBatch", "{\"kb\":\"docs\",\"searches\":[{\"query\":\"boats\"}]}");
  EXPECT("responses.0.hits.0.document_id", "b");
}

static void test_batch_errors(void **state) {
  service *s = *state;
  static const struct {
    int status;
    const char *code, *field, *message, *body;
  } cases[] = {
      {400, "invalid_argument", "searches", "0 are outside 1 to 256", "{}"},
      {400, "invalid_argument", "searches", "0 are outside 1 to 256", "{\"searches\":[]}"},
      {400, "invalid_argument", "searches[1]", "null in a list", "{\"searches\":[{\"query\":\"x\"},null]}"},
      {400, "invalid_argument", "searches[1].kb", "is 'other'; every search of a batch is of the batch's own, 'docs'",
       "{\"searches\":[{\"query\":\"x\"},{\"kb\":\"other\",\"query\":\"x\"}]}"},
      {400, "invalid_argument", "searches[1].query", "searches[1]: ", "{\"searches\":[{\"query\":\"x\"},{}]}"},
      {400, "invalid_argument", "searches[0].k", "1 to 10000", "{\"searches\":[{\"query\":\"x\",\"k\":0}]}"},
      {400, "invalid_argument", "searches[0].vector", "dimension 384", "{\"searches\":[{\"vector\":[1,2]}]}"},
      {404, "not_found", "searches[1]",
       "searches[1]: ", "{\"searches\":[{\"query\":\"x\"},{\"query\":\"x\",\"at\":\"nowhere\"}]}"},
      {504, "deadline_exceeded", "searches[1].min_commit", "not yet at c99",
       "{\"searches\":[{\"query\":\"x\"},{\"query\":\"x\",\"min_commit\":\"c99\",\"timeout_ms\":1}]}"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    ERROR(cases[i].status, cases[i].code, cases[i].field, cases[i].message, "POST", DOCS "/search:batch",
          cases[i].body);
  ERROR(404, "not_found", "<absent>", "'none'", "POST", "/v1/kbs/none/search:batch",
        "{\"searches\":[{\"query\":\"x\"}]}");
}

static int send_batch(service *s, unsigned count, unsigned k) {
  rag_buf body = {0};
  rag_buf_append_str(&body, "{\"searches\":[");
  for (unsigned i = 0; i < count; i++)
    rag_buf_printf(&body, "%s{\"query\":\"boats\",\"k\":%u,\"mode\":\"vector\"}", i ? "," : "", k);
  rag_buf_append_str(&body, "]}");
  int status = send_bytes(s, "POST", DOCS "/search:batch", body.data, body.size);
  rag_buf_free(&body);
  return status;
}

static void test_batch_limits(void **state) {
  service *s = *state;
  expect_status(s, send_batch(s, 256, 1), 200, __FILE__, __LINE__);
  EXPECT("responses.255.hits.0.document_id", "b");
  expect_error(s, send_batch(s, 257, 1), 400, "invalid_argument", "searches", "257 are outside", __FILE__, __LINE__);
  expect_status(s, send_batch(s, 256, 1024), 200, __FILE__, __LINE__);
  expect_error(s, send_batch(s, 256, 1025), 400, "invalid_argument", "searches", "262400 hits together", __FILE__,
               __LINE__);
}

// What a writer does meanwhile, and a min_commit among the searches, never gives one ref two commits.
typedef struct writer {
  service s; // a copy: its answers are its own
  _Atomic bool stop;
  unsigned made;
} writer;

static void *write_on(void *arg) {
  writer *w = arg;
  service mine = w->s;
  mine.arena = rag_arena_create(0);
  mine.parser = rag_json_parser_create();
  for (; !w->stop; w->made++) {
    char body[128];
    snprintf(body, sizeof(body), "{\"documents\":[{\"id\":\"n\",\"text\":\"number %u\"}]}", w->made);
    if (send_text(&mine, "POST", DOCS "/documents", body) != 200) break;
  }
  rag_json_parser_destroy(mine.parser);
  rag_arena_destroy(mine.arena);
  return NULL;
}

// Long enough that a writer moves the branch while it runs.
#define LONG_BATCH 200u

static void long_batch(unsigned min_commit, rag_buf *out) {
  rag_buf_append_str(out, "{\"searches\":[{\"query\":\"n\",\"at\":\"still\",\"k\":1}");
  for (unsigned i = 1; i < LONG_BATCH; i++)
    rag_buf_append_str(out, i % 2 ? ",{\"query\":\"n\",\"k\":1}" : ",{\"query\":\"n\",\"k\":1,\"at\":\"main\"}");
  rag_buf_printf(out, ",{\"query\":\"n\",\"at\":\"main\",\"min_commit\":\"c%u\",\"timeout_ms\":20000}]}", min_commit);
}

static void test_batch_sees_one_commit(void **state) {
  service *s = *state;
  writer w = {.s = *s};
  pthread_t thread;
  char first[24] = "", path[48];
  unsigned moved = 0;
  CALL(200, "POST", DOCS "/branches", "{\"name\":\"still\"}");
  assert_int_equal(pthread_create(&thread, NULL, write_on, &w), 0);
  for (unsigned round = 0; round < 100000 && moved < 10; round++) {
    rag_buf body = {0};
    long_batch(3 + round % 5, &body);
    expect_status(s, send_bytes(s, "POST", DOCS "/search:batch", body.data, body.size), 200, __FILE__, __LINE__);
    rag_buf_free(&body);
    EXPECT("responses.0.commit", "c2");
    snprintf(path, sizeof(path), "%.20s", at(s, "responses.1.commit"));
    moved += strcmp(first, path) != 0;
    snprintf(first, sizeof(first), "%.20s", path);
    assert_true(strtoull(first + 1, NULL, 10) >= 3 + round % 5);
    for (unsigned i = 2; i <= LONG_BATCH; i++) {
      snprintf(path, sizeof(path), "responses.%u.commit", i);
      EXPECT(path, first);
    }
  }
  w.stop = true;
  pthread_join(thread, NULL);
  assert_true(moved >= 10); // else there was nothing to see
}

static void test_batch_deadline(void **state) {
  service *s = *state;
  s->timeout_ms = "0";
  CALL(504, "POST", DOCS "/search:batch", "{\"searches\":[{\"query\":\"x\"}]}");
  EXPECT("code", "deadline_exceeded");
  s->timeout_ms = NULL;
}

// ---------------------------------------------------------------------------------------------- the other requests

static void test_facet_errors(void **state) {
  service *s = *state;
  static const struct {
    int status;
    const char *code, *field, *message, *body;
  } cases[] = {
      {400, "invalid_argument", "fields", "0 are outside 1 to 32", "{}"},
      {400, "invalid_argument", "fields", "expected an array", "{\"fields\":\"lang\"}"},
      {400, "invalid_argument", "field", "did you mean 'fields'?", "{\"field\":[\"lang\"]}"},
      {400, "invalid_argument", "limit", "0 is outside 1 to 10000", "{\"fields\":[\"a\"],\"limit\":0}"},
      {400, "invalid_argument", "limit", "10001 is outside", "{\"fields\":[\"a\"],\"limit\":10001}"},
      {400, "invalid_argument", "filter", "send the object itself", "{\"fields\":[\"a\"],\"filter\":\"x\"}"},
      {400, "invalid_argument", "filter.must[0]", "", "{\"fields\":[\"a\"],\"filter\":{\"must\":[{\"key\":\"a\"}]}}"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    ERROR(cases[i].status, cases[i].code, cases[i].field, cases[i].message, "POST", DOCS "/facets", cases[i].body);
  rag_buf body = {0};
  rag_buf_append_str(&body, "{\"fields\":[\"a\"");
  for (unsigned i = 1; i < 33; i++) rag_buf_printf(&body, ",\"a%u\"", i);
  rag_buf_append_str(&body, "]}");
  expect_error(s, send_bytes(s, "POST", DOCS "/facets", body.data, body.size), 400, "invalid_argument", "fields",
               "33 are outside", __FILE__, __LINE__);
  rag_buf_free(&body);
  ERROR(404, "not_found", "<absent>", "'none'", "POST", "/v1/kbs/none/facets", "{\"fields\":[\"a\"]}");
}

// What would delete everything by a slip is refused, at whatever depth the conditions are missing.
static void test_delete_needs_a_condition(void **state) {
  service *s = *state;
  static const char *const empty[] = {
      "{}",
      "{\"filter\":null}",
      "{\"filter\":{}}",
      "{\"filter\":{\"must\":[]}}",
      "{\"filter\":{\"must\":null,\"should\":[],\"must_not\":[]}}",
      "{\"filter\":{\"must\":[{}]}}",
      "{\"filter\":{\"must\":[{\"should\":[{\"must_not\":[]}]}]}}",
      "{\"filter\":{\"must_not\":[{\"has_id\":[]}]}}",
  };
  for (size_t i = 0; i < RAG_COUNT_OF(empty); i++)
    ERROR(400, "invalid_argument", "filter", "\"prune\": \"all\"", "POST", DOCS "/documents:delete", empty[i]);
  static const struct {
    int status;
    const char *code, *field, *message, *body;
  } cases[] = {
      {400, "invalid_argument", "filter", "send the object itself", "{\"filter\":\"{}\"}"},
      {400, "invalid_argument", "filter", "did you mean 'must'?", "{\"filter\":{\"mus\":{\"has_id\":[\"a\"]}}}"},
      {400, "invalid_argument", "ids", "unknown field", "{\"ids\":[\"a\"]}"},
      {404, "not_found", "<absent>", "nowhere", "{\"branch\":\"nowhere\",\"filter\":{\"must\":{\"has_id\":[\"a\"]}}}"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    ERROR(cases[i].status, cases[i].code, cases[i].field, cases[i].message, "POST", DOCS "/documents:delete",
          cases[i].body);
  CALL(200, "GET", DOCS, NULL);
  EXPECT("documents", "2");
  EXPECT("commits", "2");
  // What the message names does it.
  CALL(200, "POST", DOCS "/documents", "{\"prune\":\"all\"}");
  EXPECT("removed", "2");
}

static void test_list_filter_errors(void **state) {
  service *s = *state;
  ERROR(400, "invalid_argument", "filter", "expected an object", "GET", DOCS "/documents?filter=%5B%5D", NULL);
  ERROR(400, "invalid_argument", "filter", "bad JSON", "GET", DOCS "/documents?filter=lang", NULL);
  ERROR(400, "invalid_argument", "filter", "did you mean 'must'", "GET",
        DOCS "/documents?filter=%7B%22mst%22:%5B%5D%7D", NULL);
  CALL(200, "GET", DOCS "/documents?filter=%7B%7D", NULL);
  EXPECT("documents.1.id", "b");
}

// ---------------------------------------------------------------------------------------------- lanes

static void test_lanes(void **state) {
  service *s = *state;
  static const struct {
    const char *body;
    bool worker;
  } cases[] = {
      {"{\"query\":\"boats\"}", false},
      {"{\"query\":\"boats \\\"apples and pears\\\"\",\"mode\":\"lexical\"}", false},
      {"{\"query\":\"boats\",\"filter\":{\"must\":{\"has_id\":[\"a\"]}}}", false}, // two documents
      {"{\"query\":\"boats\",\"include\":[\"highlights\"],\"k\":20}", false},
      {"{\"query\":\"boats\",\"include\":[\"highlights\"],\"k\":21}", true},
      {"{\"query\":\"boats\",\"mmr\":{}}", false},
      {"{\"query\":\"boats\",\"mmr\":{\"candidates\":1000}}", true},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    s->may_not_wait = true;
    (void)send_text(s, "POST", DOCS "/search", cases[i].body);
    if (s->answer.wants_worker != cases[i].worker) fail_msg("%s: worker %d", cases[i].body, s->answer.wants_worker);
    s->may_not_wait = false;
    CALL(200, "POST", DOCS "/search", cases[i].body);
  }
  // A long query, and filters over more documents than a network thread should look at.
  rag_buf body = {0};
  rag_buf_append_str(&body, "{\"query\":\"");
  for (unsigned i = 0; i < 2000; i++) rag_buf_append_str(&body, "boats ");
  rag_buf_append_str(&body, "\"}");
  s->may_not_wait = true;
  (void)send_bytes(s, "POST", DOCS "/search", body.data, body.size);
  assert_true(s->answer.wants_worker);
  rag_buf_clear(&body);
  rag_buf_append_str(&body, "{\"documents\":[");
  for (unsigned i = 0; i < 300; i++)
    rag_buf_printf(&body, "%s{\"id\":\"n%u\",\"text\":\"number %u\"}", i ? "," : "", i, i);
  rag_buf_append_str(&body, "]}");
  s->may_not_wait = false;
  expect_status(s, send_bytes(s, "POST", DOCS "/documents", body.data, body.size), 200, __FILE__, __LINE__);
  s->may_not_wait = true;
  CALL(200, "POST", DOCS "/search", "{\"query\":\"boats\"}");
  (void)send_text(s, "POST", DOCS "/search", cases[2].body);
  assert_true(s->answer.wants_worker);
  (void)send_text(s, "POST", DOCS "/search",
                  "{\"query\":\"boats\",\"at\":\"c2\",\"filter\":{\"must\":{\"has_id\":[\"a\"]}}}");
  assert_false(s->answer.wants_worker); // the version that is searched counts
  s->may_not_wait = false;
  // 300 vectors of 4,096 components: full-precision rows are too much to read inline, their codes are not.
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"wide\",\"model\":\"hash-4096\"}");
  expect_status(s, send_bytes(s, "POST", "/v1/kbs/wide/documents", body.data, body.size), 200, __FILE__, __LINE__);
  s->may_not_wait = true;
  CALL(200, "POST", "/v1/kbs/wide/search", "{\"query\":\"number\",\"mode\":\"vector\"}");
  (void)send_text(s, "POST", "/v1/kbs/wide/search", "{\"query\":\"number\",\"mode\":\"vector\",\"exact\":true}");
  assert_true(s->answer.wants_worker);
  s->may_not_wait = false;
  rag_buf_free(&body);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      TEST(test_bad_fields),
      TEST(test_good_fields),
      TEST(test_protobuf),
      TEST(test_batch),
      TEST(test_batch_errors),
      TEST(test_batch_limits),
      TEST(test_batch_sees_one_commit),
      TEST(test_batch_deadline),
      TEST(test_facet_errors),
      TEST(test_delete_needs_a_condition),
      TEST(test_list_filter_errors),
      TEST(test_lanes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
