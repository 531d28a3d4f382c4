// Goal: every call does what the API says, with the defaults, limits and errors it names.
// Method: the whole service in process over a temporary data directory with the real kb; a story per test.
#include "dispatch_testing.h"

static int start(void **state) {
  *state = service_start();
  return 0;
}

static int stop(void **state) {
  service_stop(*state);
  return 0;
}

#define DOCS "/v1/kbs/docs"

static void create_docs(service *s) {
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\",\"chunking\":{\"method\":\"whole\"}}");
}

// Puts "id=text" documents in one commit.
static void put(service *s, const char *branch, unsigned count, const char *const *documents) {
  rag_buf body = {0};
  rag_buf_printf(&body, "{\"branch\":\"%s\",\"documents\":[", branch);
  for (unsigned i = 0; i < count; i++) {
    size_t size = strcspn(documents[i], "=");
    rag_buf_append_str(&body, i ? ",{\"id\":" : "{\"id\":");
    rag_json_put_string(&body, rag_slice_of(documents[i], size));
    rag_buf_append_str(&body, ",\"text\":");
    rag_json_put_string(&body, rag_slice_str(documents[i] + size + 1));
    rag_buf_append_char(&body, '}');
  }
  rag_buf_append_str(&body, "]}");
  expect_status(s, send_bytes(s, "POST", DOCS "/documents", body.data, body.size), 200, __FILE__, __LINE__);
  rag_buf_free(&body);
}
#define PUT(branch, ...)                                                                                               \
  put(s, branch, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *), (const char *const[]){__VA_ARGS__})

static void test_kbs(void **state) {
  service *s = *state;
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\",\"description\":\"d\",\"language\":\"en\"}");
  EXPECT("name", "docs");
  EXPECT("model", "hash-384");
  EXPECT("dimension", "384");
  EXPECT("metric", "cosine");
  EXPECT("embedding", "sync");
  EXPECT("chunking.method", "structure");
  EXPECT("chunking.max_tokens", "256");
  EXPECT("index.engine", "auto");
  EXPECT("index.datatype", "float32");
  EXPECT("documents", "0");
  EXPECT("branches", "1");
  EXPECT("description", "d");
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"own\",\"dimension\":3,\"metric\":\"l2\"}");
  EXPECT("model", "");
  EXPECT("dimension", "3");
  EXPECT("metric", "l2");
  ERROR(409, "already_exists", "name", "'own' exists", "POST", "/v1/kbs", "{\"name\":\"own\"}");
  CALL(200, "GET", "/v1/kbs/docs", NULL);
  EXPECT("description", "d");
  CALL(200, "PATCH", "/v1/kbs/docs",
       "{\"description\":\"\",\"chunking\":{\"max_tokens\":64},\"freshness\":{\"lag_slo_seconds\":5}}");
  EXPECT("description", "");
  EXPECT("language", "en");
  EXPECT("chunking.method", "structure");
  EXPECT("chunking.max_tokens", "64");
  EXPECT("freshness.lag_slo_seconds", "5");
  CALL(200, "GET", "/v1/kbs", NULL);
  EXPECT("kbs.0.name", "docs");
  EXPECT("kbs.1.name", "own");
  EXPECT("next_page_token", "");
  CALL(200, "DELETE", "/v1/kbs/own", NULL);
  assert_string_not_equal(at(s, "job"), "0");
  ERROR(404, "not_found", "<absent>", "POST /v1/kbs", "GET", "/v1/kbs/own", NULL);
  ERROR(404, "not_found", "<absent>", "", "DELETE", "/v1/kbs/own", NULL);
}

// The rounded vector is what is answered with; the setting is fixed, and no other setting's change touches it.
static void test_datatype(void **state) {
  service *s = *state;
  CALL(200, "POST", "/v1/kbs",
       "{\"name\":\"half\",\"dimension\":2,\"metric\":\"ip\",\"index\":{\"datatype\":\"bfloat16\"}}");
  EXPECT("index.datatype", "bfloat16");
  EXPECT("index.engine", "auto");
  CALL(200, "PATCH", "/v1/kbs/half", "{\"index\":{\"memory_bytes_max\":1000}}");
  EXPECT("index.datatype", "bfloat16");
  EXPECT("index.memory_bytes_max", "1000");
  CALL(200, "PATCH", "/v1/kbs/half", "{\"index\":{\"datatype\":\"bfloat16\"}}");
  ERROR(400, "invalid_argument", "index.datatype", "kept as bfloat16, which cannot be changed", "PATCH", "/v1/kbs/half",
        "{\"index\":{\"datatype\":\"float32\"}}");
  ERROR(400, "invalid_argument", "index.datatype", "float32, bfloat16", "PATCH", "/v1/kbs/half",
        "{\"index\":{\"datatype\":\"int8\"}}");
  CALL(200, "GET", "/v1/kbs/half", NULL);
  EXPECT("index.datatype", "bfloat16");
  CALL(200, "POST", "/v1/kbs/half/documents", "{\"documents\":[{\"id\":\"a\",\"vector\":[1.005,-3]}]}");
  CALL(200, "POST", "/v1/kbs/half/search",
       "{\"vector\":[256,0],\"k\":1,\"exact\":true,\"include\":[\"vector\"]}");
  EXPECT("hits.0.vector.0", "1.0078125");
  EXPECT("hits.0.vector.1", "-3");
  EXPECT("hits.0.score", "258");
}

static void test_kb_errors(void **state) {
  service *s = *state;
  static const struct {
    int status;
    const char *code, *field, *message, *body;
  } cases[] = {
      {400, "invalid_argument", "name", "missing", "{}"},
      {400, "invalid_argument", "name", "is not a name", "{\"name\":\"Docs\"}"},
      {400, "invalid_argument", "name", "",
       "{\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"},
      {404, "not_found", "model", "hash", "{\"name\":\"x\",\"model\":\"bert\"}"},
      {400, "invalid_argument", "dimension", "'model', or 'dimension'",
       "{\"name\":\"x\",\"model\":\"hash-64\",\"dimension\":3}"},
      {400, "invalid_argument", "dimension", "1 to 8192", "{\"name\":\"x\",\"dimension\":0}"},
      {400, "invalid_argument", "dimension", "1 to 8192", "{\"name\":\"x\",\"dimension\":8193}"},
      {400, "invalid_argument", "metric", "cosine, ip, l2", "{\"name\":\"x\",\"dimension\":3,\"metric\":\"l1\"}"},
      {400, "invalid_argument", "embedding", "sync, async", "{\"name\":\"x\",\"embedding\":\"later\"}"},
      {501, "unimplemented", "embedding", "use 'sync'", "{\"name\":\"x\",\"embedding\":\"async\"}"},
      {400, "invalid_argument", "index.factory", "faiss", "{\"name\":\"x\",\"index\":{\"factory\":\"IVF16,Flat\"}}"},
      {400, "invalid_argument", "index.factory", "IVF",
       "{\"name\":\"x\",\"index\":{\"engine\":\"faiss\",\"factory\":\"IVF,Fast\"}}"},
      {400, "invalid_argument", "index.engine", "did you mean 'graph'",
       "{\"name\":\"x\",\"index\":{\"engine\":\"grpah\"}}"},
      {400, "invalid_argument", "index.datatype", "float32, bfloat16",
       "{\"name\":\"x\",\"index\":{\"datatype\":\"float16\"}}"},
      {400, "invalid_argument", "chunking.method", "structure, whole, fixed",
       "{\"name\":\"x\",\"chunking\":{\"method\":\"x\"}}"},
      {400, "invalid_argument", "chunking.max_tokens", "16", "{\"name\":\"x\",\"chunking\":{\"max_tokens\":0}}"},
      {400, "invalid_argument", "language", "at most 15", "{\"name\":\"x\",\"language\":\"sixteen-letters-\"}"},
      {400, "invalid_argument", "chunking.max_token", "did you mean 'max_tokens'",
       "{\"name\":\"x\",\"chunking\":{\"max_token\":1}}"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    ERROR(cases[i].status, cases[i].code, cases[i].field, cases[i].message, "POST", "/v1/kbs", cases[i].body);
  CALL(200, "GET", "/v1/kbs", NULL);
  EXPECT("kbs", "[]"); // none was made by halves
}

static void test_lists_page(void **state) {
  service *s = *state;
  char body[64], target[512];
  for (int i = 0; i < 7; i++) {
    snprintf(body, sizeof(body), "{\"name\":\"kb-%d\"}", i);
    CALL(200, "POST", "/v1/kbs", body);
  }
  int seen = 0;
  snprintf(target, sizeof(target), "/v1/kbs?limit=3");
  for (int pages = 0; pages < 4; pages++) {
    CALL(200, "GET", target, NULL);
    for (int i = 0; i < 3; i++) {
      char path[32], name[16];
      snprintf(path, sizeof(path), "kbs.%d.name", i);
      snprintf(name, sizeof(name), "kb-%d", seen);
      if (strcmp(at(s, path), "<absent>") == 0) break;
      EXPECT(path, name);
      seen++;
    }
    const char *token = at(s, "next_page_token");
    if (!token[0]) break;
    snprintf(target, sizeof(target), "/v1/kbs?limit=3&page_token=%s", token);
  }
  assert_int_equal(seen, 7);
  // A token belongs to its list and its kb.
  CALL(200, "GET", "/v1/kbs?limit=3", NULL);
  snprintf(target, sizeof(target), "/v1/kbs/kb-0/branches?page_token=%s", at(s, "next_page_token"));
  ERROR(400, "invalid_argument", "page_token", "not one that this list has given", "GET", target, NULL);
  CALL(200, "POST", "/v1/kbs/kb-0/branches", "{\"name\":\"b\"}");
  CALL(200, "GET", "/v1/kbs/kb-0/branches?limit=1", NULL);
  const char *token = at(s, "next_page_token");
  snprintf(target, sizeof(target), "/v1/kbs/kb-0/branches?page_token=%.200s", token);
  CALL(200, "GET", target, NULL);
  EXPECT("branches.0.name", "main");
  snprintf(target, sizeof(target), "/v1/kbs/kb-1/branches?page_token=%.200s", token);
  ERROR(400, "invalid_argument", "page_token", "not one that this list has given", "GET", target, NULL);
}

static void test_documents(void **state) {
  service *s = *state;
  create_docs(s);
  CALL(
      200, "POST", DOCS "/documents",
      "{\"documents\":[{\"id\":\"a\",\"text\":\"apple\",\"title\":\"A\",\"metadata\":{\"n\": 1, \"l\": [1, 2]},"
      "\"source_uri\":\"file:///a\",\"source_modified_at\":\"2026-01-31T10:00:00Z\"},{\"id\":\"b\",\"text\":\"boat\"}],"
      "\"message\":\"first\",\"author\":\"me\"}");
  EXPECT("committed", "true");
  EXPECT("added", "2");
  EXPECT("chunks_added", "2");
  CALL(200, "GET", DOCS "/documents/a", NULL);
  EXPECT("text", "apple");
  EXPECT("title", "A");
  EXPECT("metadata", "{\"n\":1,\"l\":[1,2]}");
  EXPECT("source_modified_at", "2026-01-31T10:00:00Z");
  EXPECT("effective_at", "null");
  EXPECT("chunks", "[{\"start\":0,\"end\":5}]");
  // The same again makes no commit; {} is no metadata.
  CALL(200, "POST", DOCS "/documents", "{\"documents\":[{\"id\":\"b\",\"text\":\"boat\",\"metadata\":{}}]}");
  EXPECT("committed", "false");
  EXPECT("unchanged", "1");
  CALL(200, "DELETE", DOCS "/documents/b?message=gone", NULL);
  EXPECT("removed", "1");
  CALL(200, "DELETE", DOCS "/documents/b", NULL);
  EXPECT("missing", "1");
  EXPECT("committed", "false");
  ERROR(404, "not_found", "<absent>", "'b'", "GET", DOCS "/documents/b", NULL);
  CALL(200, "GET", DOCS "/documents/b?at=main~1", NULL);
  EXPECT("text", "boat");
  CALL(200, "GET", DOCS "/commits/main", NULL);
  EXPECT("message", "gone");
  EXPECT("removed", "1");
  EXPECT("documents", "1");
  CALL(200, "GET", DOCS "/commits", NULL);
  EXPECT("commits.0.message", "gone");
  EXPECT("commits.1.message", "first");
  EXPECT("commits.1.author", "me");
  EXPECT("commits.2.kind", "init");
}

static void test_document_errors(void **state) {
  service *s = *state;
  create_docs(s);
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"own\",\"dimension\":2}");
  static const struct {
    int status;
    const char *code, *field, *message, *kb, *body;
  } cases[] = {
      {400, "invalid_argument", "documents[1].id", "empty", "docs",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"x\"},{\"text\":\"x\"}]}"},
      {400, "invalid_argument", "documents[0]", "nothing in it", "docs", "{\"documents\":[{\"id\":\"a\"}]}"},
      {400, "invalid_argument", "documents[1].id", "twice", "docs",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"x\"},{\"id\":\"a\",\"text\":\"y\"}]}"},
      {400, "invalid_argument", "delete_ids[0]", "both put and deleted", "docs",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"x\"}],\"delete_ids\":[\"a\"]}"},
      {400, "invalid_argument", "documents[0].metadata", "object", "docs",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"x\",\"metadata\":[1]}]}"},
      {400, "invalid_argument", "documents[0].txt", "did you mean 'text'", "docs",
       "{\"documents\":[{\"id\":\"a\",\"txt\":\"x\"}]}"},
      {400, "invalid_argument", "documents[0].vector", "dimension 2", "own",
       "{\"documents\":[{\"id\":\"a\",\"vector\":[1,2,3]}]}"},
      {400, "invalid_argument", "documents[0].vector", "", "own", "{\"documents\":[{\"id\":\"a\",\"vector\":[0,0]}]}"},
      {400, "invalid_argument", "documents[0].vector[1]", "", "own",
       "{\"documents\":[{\"id\":\"a\",\"vector\":[0,\"x\"]}]}"},
      {400, "invalid_argument", "prune", "none, source, all", "docs", "{\"prune\":\"every\"}"},
      {404, "not_found", "<absent>", "", "docs", "{\"branch\":\"none\",\"documents\":[{\"id\":\"a\",\"text\":\"x\"}]}"},
      {404, "not_found", "<absent>", "", "none", "{\"documents\":[{\"id\":\"a\",\"text\":\"x\"}]}"},
      {400, "invalid_argument", "metadata", "missing", "docs", NULL},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    char target[64];
    bool patch = cases[i].body == NULL;
    snprintf(target, sizeof(target), "/v1/kbs/%s/documents%s", cases[i].kb, patch ? "/a" : "");
    ERROR(cases[i].status, cases[i].code, cases[i].field, cases[i].message, patch ? "PATCH" : "POST", target,
          cases[i].body);
  }
  CALL(200, "GET", DOCS, NULL);
  EXPECT("commits", "1"); // nothing but the initial one
}

static void test_patch(void **state) {
  service *s = *state;
  create_docs(s);
  CALL(200, "POST", DOCS "/documents",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"x\",\"metadata\":{\"k\":1,\"o\":{\"p\":1,\"q\":2}}}]}");
  CALL(200, "PATCH", DOCS "/documents/a", "{\"metadata\":{\"k\":null,\"o\":{\"p\":3},\"n\":\"new\"}}");
  EXPECT("changed", "1");
  EXPECT("chunks_embedded", "0");
  CALL(200, "GET", DOCS "/documents/a", NULL);
  EXPECT("metadata", "{\"o\":{\"p\":3,\"q\":2},\"n\":\"new\"}");
  EXPECT("text", "x");
  CALL(200, "PATCH", DOCS "/documents/a", "{\"metadata\":{\"o\":null,\"n\":null}}");
  CALL(200, "GET", DOCS "/documents/a", NULL);
  EXPECT("metadata", "{}");
  CALL(200, "PATCH", DOCS "/documents/a", "{\"metadata\":{}}"); // changes nothing
  EXPECT("committed", "false");
  ERROR(404, "not_found", "<absent>", "'z'", "PATCH", DOCS "/documents/z", "{\"metadata\":{\"a\":1}}");
  ERROR(400, "invalid_argument", "metadata", "object", "PATCH", DOCS "/documents/a", "{\"metadata\":3}");
}

static void test_search(void **state) {
  service *s = *state;
  create_docs(s);
  PUT("main", "fruit=apples and pears and plums", "sea=boats and ships on the sea");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"ships on the sea\",\"mode\":\"vector\"}");
  EXPECT("hits.0.document_id", "sea");
  EXPECT("hits.0.text", "boats and ships on the sea");
  EXPECT("hits.0.metadata", "{}");
  EXPECT("hits.0.vector", "<absent>");
  EXPECT("hits.0.start", "0");
  assert_string_equal(at(s, "hits.0.scores.vector"), at(s, "hits.0.score"));
  EXPECT("hits.2", "<absent>");
  EXPECT("plan", "<absent>");
  EXPECT("pending_chunks", "0");
  EXPECT("index_build", "flat");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"sea\",\"include\":[\"plan\"],\"k\":1,\"mode\":\"vector\"}");
  EXPECT("hits.0.text", "<absent>");
  EXPECT("hits.0.scores", "<absent>");
  EXPECT("hits.1", "<absent>");
  EXPECT("plan.candidates", "2");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"sea\",\"min_score\":2,\"mode\":\"vector\"}");
  EXPECT("hits", "[]");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"ships on the sea\",\"offset\":1,\"mode\":\"vector\"}");
  EXPECT("hits.0.document_id", "fruit");
  // Time travel.
  PUT("main", "sea=mountains");
  CALL(200, "POST", DOCS "/search", "{\"query\":\"ships\",\"k\":1,\"at\":\"main~1\",\"mode\":\"vector\"}");
  EXPECT("hits.0.text", "boats and ships on the sea");
  static const struct {
    int status;
    const char *code, *field, *message, *body;
  } cases[] = {
      {400, "invalid_argument", "query", "query (text) or vector", "{}"},
      {400, "invalid_argument", "vector", "", "{\"query\":\"x\",\"vector\":[1]}"},
      {400, "invalid_argument", "k", "1 to 10000", "{\"query\":\"x\",\"k\":0}"},
      {400, "invalid_argument", "k", "10000", "{\"query\":\"x\",\"k\":10001}"},
      {400, "invalid_argument", "offset", "10000", "{\"query\":\"x\",\"offset\":9991}"},
      {400, "invalid_argument", "vector", "dimension 384", "{\"vector\":[1,2]}"},
      {400, "invalid_argument", "include", "did you mean 'text'", "{\"query\":\"x\",\"include\":[\"txt\"]}"},
      {400, "invalid_argument", "mode", "hybrid, vector, lexical", "{\"query\":\"x\",\"mode\":\"best\"}"},
      {400, "invalid_argument", "min_commit", "c42", "{\"query\":\"x\",\"min_commit\":\"main\"}"},
      {400, "invalid_argument", "min_commit", "c42", "{\"query\":\"x\",\"min_commit\":\"c99999999999999999999\"}"},
      {400, "invalid_argument", "timeout_ms", "60000", "{\"query\":\"x\",\"timeout_ms\":60001}"},
      {504, "deadline_exceeded", "min_commit", "not yet at c99",
       "{\"query\":\"x\",\"min_commit\":\"c99\",\"timeout_ms\":1}"},
      {404, "not_found", "<absent>", "no branch or tag", "{\"query\":\"x\",\"at\":\"nowhere\"}"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    ERROR(cases[i].status, cases[i].code, cases[i].field, cases[i].message, "POST", DOCS "/search", cases[i].body);
}

static void test_search_by_vector(void **state) {
  service *s = *state;
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"own\",\"dimension\":2,\"metric\":\"ip\"}");
  CALL(200, "POST", "/v1/kbs/own/documents",
       "{\"documents\":[{\"id\":\"x\",\"vector\":[1,0]},{\"id\":\"y\",\"vector\":[0,2]},{\"id\":\"c\",\"text\":\"t\","
       "\"chunks\":[{\"text\":\"t\",\"vector\":[-1,-1],\"metadata\":{\"p\":7}}]}]}");
  CALL(200, "POST", "/v1/kbs/own/search", "{\"vector\":[1,1],\"include\":[\"vector\",\"scores\",\"metadata\"]}");
  EXPECT("hits.0.document_id", "y");
  EXPECT("hits.0.score", "2");
  EXPECT("hits.0.vector", "[0,2]");
  EXPECT("hits.2.chunk_metadata", "{\"p\":7}");
  // Base64 of the floats 1 and 1.
  CALL(200, "POST", "/v1/kbs/own/search", "{\"vector\":\"AACAPwAAgD8=\",\"k\":1}");
  EXPECT("hits.0.document_id", "y");
  ERROR(400, "invalid_argument", "query", "search by vector", "POST", "/v1/kbs/own/search",
        "{\"query\":\"x\",\"mode\":\"vector\"}");
}

static void test_versions(void **state) {
  service *s = *state;
  create_docs(s);
  PUT("main", "a=one", "b=two", "c=three");
  CALL(200, "POST", DOCS "/tags", "{\"name\":\"v1\"}");
  EXPECT("name", "v1");
  CALL(200, "POST", DOCS "/branches", "{\"name\":\"work\",\"from\":\"v1\"}");
  PUT("work", "a=one work", "d=new");
  PUT("main", "a=one main");
  CALL(200, "DELETE", DOCS "/documents/c", NULL);

  CALL(200, "GET", DOCS "/diff?from=v1&text=true", NULL);
  EXPECT("added", "[]");
  EXPECT("changed", "[\"a\"]");
  EXPECT("removed", "[\"c\"]");
  EXPECT("removed_count", "1");
  EXPECT("texts.0.id", "a");
  const char *diff = at(s, "texts.0.diff");
  if (!strstr(diff, "-one\n") || !strstr(diff, "+one main\n")) fail_msg("diff: %s", diff);
  EXPECT("texts.1", "<absent>");
  CALL(200, "GET", DOCS "/diff?from=v1&to=work&limit=1", NULL);
  EXPECT("changed", "[\"a\"]");
  EXPECT("added", "[]");
  EXPECT("added_count", "1");
  char target[512];
  snprintf(target, sizeof(target), DOCS "/diff?from=v1&to=work&limit=1&page_token=%s", at(s, "next_page_token"));
  CALL(200, "GET", target, NULL);
  EXPECT("added", "[\"d\"]");
  EXPECT("changed", "[]");
  EXPECT("next_page_token", "");
  ERROR(400, "invalid_argument", "from", "missing", "GET", DOCS "/diff", NULL);

  CALL(409, "POST", DOCS "/merge", "{\"from\":\"work\"}");
  EXPECT("code", "aborted");
  EXPECT("details.conflicts", "[\"a\"]");
  EXPECT("details.total", "1");
  ERROR(400, "invalid_argument", "strategy", "fail, ours, theirs", "POST", DOCS "/merge",
        "{\"from\":\"work\",\"strategy\":\"mine\"}");
  ERROR(400, "invalid_argument", "from", "missing", "POST", DOCS "/merge", "{}");
  CALL(200, "POST", DOCS "/merge", "{\"from\":\"work\",\"strategy\":\"theirs\"}");
  CALL(200, "GET", DOCS "/documents/a", NULL);
  EXPECT("text", "one work");
  CALL(200, "GET", DOCS "/commits/main", NULL);
  EXPECT("kind", "merge");
  EXPECT("parents.2", "<absent>");
  assert_string_not_equal(at(s, "parents.1"), "<absent>");

  CALL(200, "POST", DOCS "/rollback", "{\"to\":\"v1\",\"message\":\"back\"}");
  EXPECT("committed", "true");
  CALL(200, "GET", DOCS "/diff?from=v1&to=main", NULL);
  EXPECT("added", "[]");
  EXPECT("changed", "[]");
  EXPECT("removed", "[]");
  ERROR(400, "invalid_argument", "to", "missing", "POST", DOCS "/rollback", "{}");

  CALL(200, "GET", DOCS "/branches", NULL);
  EXPECT("branches.0.name", "main");
  EXPECT("branches.1.name", "work");
  CALL(200, "GET", DOCS "/tags?limit=1", NULL);
  EXPECT("tags.0.name", "v1");
  ERROR(409, "already_exists", "name", "exists", "POST", DOCS "/branches", "{\"name\":\"v1\"}");
  ERROR(400, "failed_precondition", "<absent>", "main", "DELETE", DOCS "/branches/main", NULL);
  CALL(200, "DELETE", DOCS "/branches/work", NULL);
  assert_true(rag_slice_equal(s->answer.body, rag_slice_str("{}")));
  CALL(404, "DELETE", DOCS "/branches/work", NULL);
  CALL(200, "DELETE", DOCS "/tags/v1", NULL);
}

static void test_expect_parent(void **state) {
  service *s = *state;
  create_docs(s);
  PUT("main", "a=one", "b=two");
  char parent[32], body[256];
  snprintf(parent, sizeof(parent), "%s", at(s, "commit"));
  PUT("main", "a=other");
  snprintf(body, sizeof(body), "{\"expect_parent\":\"%s\",\"documents\":[{\"id\":\"a\",\"text\":\"mine\"}]}", parent);
  CALL(409, "POST", DOCS "/documents", body);
  EXPECT("code", "aborted");
  EXPECT("details.conflicts", "[\"a\"]");
  EXPECT("details.field", "expect_parent");
  // Another document is no conflict.
  snprintf(body, sizeof(body), "{\"expect_parent\":\"%s\",\"documents\":[{\"id\":\"b\",\"text\":\"mine\"}]}", parent);
  CALL(200, "POST", DOCS "/documents", body);
}

static void test_list_documents(void **state) {
  service *s = *state;
  create_docs(s);
  PUT("main", "a=1", "b=2", "c=3", "d=4", "e=5");
  char target[512] = DOCS "/documents?limit=2", seen[16] = "";
  for (int page = 0; page < 4; page++) {
    CALL(200, "GET", target, NULL);
    EXPECT("documents.0.text", "");
    for (int i = 0; i < 2; i++) {
      char path[32];
      snprintf(path, sizeof(path), "documents.%d.id", i);
      const char *id = at(s, path);
      if (strcmp(id, "<absent>") != 0) strcat(seen, id);
    }
    const char *token = at(s, "next_page_token");
    if (!token[0]) break;
    snprintf(target, sizeof(target), DOCS "/documents?limit=2&page_token=%s", token);
    if (page == 0) { // what happens meanwhile is not in the later pages
      CALL(200, "DELETE", DOCS "/documents/d", NULL);
      PUT("main", "f=6");
    }
  }
  assert_string_equal(seen, "abcde");
}

static void wait_job(service *s, const char *job, const char *expected_state) {
  char target[96];
  snprintf(target, sizeof(target), "/v1/jobs/%s?wait_ms=20000", job);
  CALL(200, "GET", target, NULL);
  EXPECT("state", expected_state);
}

static void test_jobs(void **state) {
  service *s = *state;
  create_docs(s);
  PUT("main", "a=secret words", "b=two");
  PUT("main", "a=other secret");
  CALL(200, "POST", DOCS "/purge", "{\"document_ids\":[\"a\",\"never\"]}");
  char job[32];
  snprintf(job, sizeof(job), "%s", at(s, "job"));
  wait_job(s, job, "succeeded");
  EXPECT("kind", "purge");
  EXPECT("subject", "docs");
  EXPECT("progress", "1.0");
  assert_string_not_equal(at(s, "result"), "null");
  ERROR(404, "not_found", "<absent>", "'a'", "GET", DOCS "/documents/a?at=main~1", NULL);
  CALL(200, "POST", DOCS "/gc", "{\"keep_commits\":1}");
  snprintf(job, sizeof(job), "%s", at(s, "job"));
  wait_job(s, job, "succeeded");
  CALL(200, "GET", "/v1/jobs", NULL);
  EXPECT("jobs.0.kind", "gc");
  EXPECT("jobs.1.kind", "purge");
  CALL(200, "GET", "/v1/jobs?limit=1", NULL);
  char target[256];
  snprintf(target, sizeof(target), "/v1/jobs?limit=1&page_token=%s", at(s, "next_page_token"));
  CALL(200, "GET", target, NULL);
  EXPECT("jobs.0.kind", "purge");
  ERROR(404, "not_found", "id", "job 999", "GET", "/v1/jobs/999", NULL);
  ERROR(404, "not_found", "id", "job 999", "POST", "/v1/jobs/999:pause", NULL);
  snprintf(target, sizeof(target), "/v1/jobs/%s:pause", job);
  CALL(400, "POST", target, NULL);
  EXPECT("code", "failed_precondition"); // it has ended
  ERROR(400, "invalid_argument", "document_ids", "1 to", "POST", DOCS "/purge", "{}");
  ERROR(400, "invalid_argument", "wait_ms", "at most", "GET", "/v1/jobs/1?wait_ms=600001", NULL);
  CALL(400, "POST", DOCS "/gc", "{}");
}

static void test_index(void **state) {
  service *s = *state;
  create_docs(s);
  PUT("main", "a=one word", "b=two words", "c=three of them");
  CALL(200, "GET", DOCS "/index", NULL);
  EXPECT("engine", "auto");
  EXPECT("build", "flat");
  EXPECT("rows", "3");
  EXPECT("tail_rows", "3");
  EXPECT("segments", "[]");
  CALL(200, "POST", DOCS "/index:compact", "{}");
  char job[32];
  snprintf(job, sizeof(job), "%s", at(s, "job"));
  wait_job(s, job, "succeeded");
  EXPECT("kind", "index-compact");
  CALL(200, "GET", DOCS "/index", NULL);
  EXPECT("rows", "3");
  EXPECT("tail_rows", "0");
  EXPECT("segments.0.engine", "flat"); // of so few
  EXPECT("segments.0.rows", "3");
  EXPECT("segments.0.present", "3");
  CALL(200, "POST", DOCS "/search",
       "{\"query\":\"two words\",\"mode\":\"vector\",\"k\":1,\"include\":[\"plan\"],\"params\":{\"target_recall\":0.5,"
       "\"ef\":64,\"nprobe\":3,\"rerank\":20}}");
  EXPECT("hits.0.document_id", "b");
  EXPECT("plan.engine", "flat");
  EXPECT("plan.tail_rows", "0");
  EXPECT("plan.segments", "1");
  EXPECT("plan.expected_recall", "1.0"); // so few are scored exactly
  ERROR(404, "not_found", "<absent>", "'none'", "GET", "/v1/kbs/none/index", NULL);
  ERROR(404, "not_found", "<absent>", "'none'", "POST", "/v1/kbs/none/index:compact", "{}");
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"lists\",\"index\":{\"engine\":\"faiss\",\"factory\":\"IVF4,Flat\"}}");
  EXPECT("index.factory", "IVF4,Flat");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_kbs),           TEST(test_kb_errors),        TEST(test_lists_page),
      TEST(test_documents),     TEST(test_document_errors),  TEST(test_patch),
      TEST(test_search),        TEST(test_search_by_vector), TEST(test_versions),
      TEST(test_expect_parent), TEST(test_list_documents),   TEST(test_jobs),
      TEST(test_index),         TEST(test_datatype),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
