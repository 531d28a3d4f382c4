// Goal: a deletion by filter takes exactly what passes at the head that it is applied to, whatever else its call does and
// whoever writes meanwhile; filters and facets are of the version that is asked; what cannot be asked says so.
// Method: small corpora with known members; writers that race with deletions, judged by what the commits say afterwards.
#include "hybrid_oracle.h"

#include <pthread.h>

static rag_write_result delete_where(rag_kb *kb, const char *branch, const char *filter) {
  rag_error err = {0};
  rag_write_result r = {0};
  hy_filter f = hy_filter_of(filter);
  rag_write write = {.branch = S(branch)};
  rag_put put = {.delete_filter = f.filter};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  hy_filter_free(&f);
  return r;
}

// The ids of a version that pass a filter (NULL: all), in order of revision, joined by spaces, in a static buffer.
static const char *listed(rag_kb *kb, const char *at, const char *filter) {
  static char ids[4096];
  rag_error err = {0};
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0;
  uint64_t commit = 0;
  size_t used = 0;
  hy_filter f = {0};
  if (filter != NULL) f = hy_filter_of(filter);
  OK(rag_kb_documents(kb, S(at), f.filter, 0, 1000, &documents, &count, &next, &commit, &err));
  ids[0] = '\0';
  for (uint32_t i = 0; i < count; i++) {
    used += (size_t)snprintf(ids + used, sizeof ids - used, "%s%.*s", i ? " " : "", (int)documents[i].id.size,
                             documents[i].id.data);
    assert_true(used < sizeof ids);
    rag_document_free(&documents[i]);
  }
  rag_free(documents);
  hy_filter_free(&f);
  return ids;
}

static void put_numbered(rag_kb *kb, const char *branch, unsigned from, unsigned to) { // n0.. {"n": its number, "odd"}
  for (unsigned i = from; i < to; i++) {
    char id[16], text[48], metadata[64];
    snprintf(id, sizeof id, "n%u", i);
    snprintf(text, sizeof text, "number %u of many words", i);
    snprintf(metadata, sizeof metadata, "{\"n\":%u,\"odd\":%s}", i, i % 2 ? "true" : "false");
    kb_test_put_on(kb, branch, id, text, metadata);
  }
}
#define ODD "{\"must\":[{\"key\":\"odd\",\"match\":{\"value\":true}}]}"
#define BELOW(n) "{\"must\":[{\"key\":\"n\",\"range\":{\"lt\":" #n "}}]}"

static void deletion_takes_what_passes(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  put_numbered(kb, NULL, 0, 6); // c2 to c7
  kb_test_branch(kb, "side", "c5");
  rag_write_result r = delete_where(kb, NULL, ODD);
  assert_true(r.committed && r.removed == 3 && r.added == 0 && r.changed == 0 && r.missing == 0);
  assert_string_equal(listed(kb, "", NULL), "n0 n2 n4");
  assert_string_equal(listed(kb, "c7", ODD), "n1 n3 n5"); // of then
  assert_string_equal(listed(kb, "side", ODD), "n1 n3");  // another branch
  r = delete_where(kb, NULL, ODD);                        // again: nothing, and no commit
  assert_true(!r.committed && r.removed == 0 && r.commit == 8);
  r = delete_where(kb, "side", "{\"must\":[{\"has_id\":[\"n2\",\"nobody\"]}]}");
  assert_int_equal(r.removed, 1);
  assert_string_equal(listed(kb, "side", NULL), "n0 n1 n3");
  r = delete_where(kb, "side", "{}"); // everything passes
  assert_int_equal(r.removed, 3);
  assert_string_equal(listed(kb, "side", NULL), "");
  assert_string_equal(listed(kb, "", NULL), "n0 n2 n4");
  // A change of metadata decides, and a rollback brings back what passes then.
  kb_test_patch_on(kb, NULL, "n0", "{\"odd\":true}");
  assert_int_equal(delete_where(kb, NULL, ODD).removed, 1);
  kb_test_rollback(kb, NULL, "c7");
  assert_string_equal(listed(kb, "", ODD), "n1 n3 n5");
  rag_ref_drop(kb);
}

static void deletion_beside_puts_and_prunes(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  put_numbered(kb, NULL, 0, 8);
  // What the call itself puts stays, also where it passes; what it deletes by id is counted once.
  rag_document_input in[2] = {{.id = S("n1"), .text = S("put again"), .metadata = S("{\"n\":1,\"odd\":true}")},
                              {.id = S("n9"), .text = S("new and odd"), .metadata = S("{\"n\":9,\"odd\":true}")}};
  rag_slice gone[2] = {S("n3"), S("nobody")};
  hy_filter odd = hy_filter_of(ODD);
  rag_put put = {
      .documents = in, .document_count = 2, .delete_ids = gone, .delete_count = 2, .delete_filter = odd.filter};
  rag_write_result r = {0};
  rag_write write = {0};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_true(r.added == 1 && r.changed == 1 && r.removed == 3 && r.missing == 1); // n3, n5, n7
  assert_string_equal(listed(kb, "", NULL), "n0 n2 n4 n6 n1 n9");
  // An unchanged document of the call stays as well.
  put = (rag_put){.documents = &in[1], .document_count = 1, .delete_filter = odd.filter};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_true(r.unchanged == 1 && r.removed == 1); // n1
  assert_string_equal(listed(kb, "", NULL), "n0 n2 n4 n6 n9");
  // With a prune by source: each goes once.
  static const char *const names[] = {"s1", "s2", "s3"};
  for (int i = 0; i < 3; i++) {
    rag_document_input doc = {.id = S(names[i]),
                              .text = S(names[i]),
                              .source_uri = S("a source"),
                              .metadata = S(i == 1 ? "{\"odd\":true}" : "{}")};
    kb_test_put_input(kb, NULL, &doc);
  }
  rag_document_input keep = {.id = S("s1"), .text = S("s1 anew"), .source_uri = S("a source")};
  put = (rag_put){.documents = &keep, .document_count = 1, .prune = RAG_PRUNE_SOURCE, .delete_filter = odd.filter};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_true(r.changed == 1 && r.removed == 3); // s2 (both ways), s3, n9
  assert_string_equal(listed(kb, "", NULL), "n0 n2 n4 n6 s1");
  put = (rag_put){.documents = &keep, .document_count = 1, .prune = RAG_PRUNE_ALL, .delete_filter = odd.filter};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_true(r.unchanged == 1 && r.removed == 4);
  hy_filter_free(&odd);
  rag_ref_drop(kb);
}

static void deletion_and_expect_parent(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  put_numbered(kb, NULL, 0, 4);                                // c5
  kb_test_put_on(kb, NULL, "n3", "changed", "{\"odd\":true}"); // c6: n3 is touched, and passes still
  hy_filter odd = hy_filter_of(ODD);
  rag_put put = {.delete_filter = odd.filter};
  rag_write write = {.expect_parent = S("c5")};
  rag_write_result r = {0};
  rag_strings conflicts = {0};
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, &conflicts, &err), RAG_ABORTED, "expect_parent", "c5 to c6");
  assert_int_equal(conflicts.count, 1);
  assert_string_equal(conflicts.items[0], "n3");
  rag_strings_free(&conflicts);
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
  // What changed meanwhile and does not pass is no conflict.
  kb_test_put_on(kb, NULL, "n0", "changed", "{\"odd\":false}"); // c7
  write.expect_parent = S("c6");
  OK(rag_kb_put(kb, &write, &put, &r, &conflicts, &err));
  assert_int_equal(r.removed, 2);
  assert_string_equal(listed(kb, "", NULL), "n2 n0");
  hy_filter_free(&odd);
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- races

enum { RACE_WRITERS = 3, RACE_PUTS = 40, RACE_DELETIONS = 15 };

typedef struct racer {
  rag_kb *kb;
  unsigned number;
  uint64_t added, removed;
} racer;

static void *race_put(void *arg) {
  racer *r = arg;
  for (unsigned i = 0; i < RACE_PUTS; i++) {
    char id[24];
    snprintf(id, sizeof id, "w%u-%u", r->number, i);
    rag_write_result result = kb_test_put_on(r->kb, NULL, id, "a text", i % 2 ? "{\"odd\":true}" : "{\"odd\":false}");
    r->added += result.added;
  }
  return NULL;
}

// A deletion whose branch moves under it looks again; a branch that keeps moving is an error that says so.
static void *race_delete(void *arg) {
  racer *r = arg;
  rag_error err = {0};
  hy_filter odd = hy_filter_of(ODD);
  for (unsigned i = 0; i < RACE_DELETIONS;) {
    rag_put put = {.delete_filter = odd.filter};
    rag_write_result result = {0};
    rag_status status = rag_kb_put(r->kb, &(rag_write){0}, &put, &result, NULL, &err);
    if (status == RAG_ABORTED) continue;
    OK(status);
    i++;
    r->removed += result.removed;
    if (!result.committed) continue;
    char at[24]; // the commit of a deletion has none that passes, and its parent exactly those that went
    snprintf(at, sizeof at, "c%u", (unsigned)result.commit);
    assert_string_equal(listed(r->kb, at, ODD), "");
    rag_commit_info info = {0};
    OK(rag_kb_commit_get(r->kb, S(at), &info, &err));
    assert_int_equal(info.removed, result.removed);
    assert_int_equal(info.kind, RAG_COMMIT_DELETE);
    snprintf(at, sizeof at, "c%u", (unsigned)info.parents[0]);
    rag_commit_info_free(&info);
    rag_document *documents = NULL;
    uint32_t count = 0, next = 0;
    uint64_t commit = 0;
    OK(rag_kb_documents(r->kb, S(at), odd.filter, 0, 1000, &documents, &count, &next, &commit, &err));
    assert_int_equal(count, result.removed);
    for (uint32_t d = 0; d < count; d++) rag_document_free(&documents[d]);
    rag_free(documents);
  }
  hy_filter_free(&odd);
  return NULL;
}

static void deletions_and_puts_at_once(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  pthread_t threads[RACE_WRITERS + 2];
  racer racers[RACE_WRITERS + 2];
  for (unsigned i = 0; i < RACE_WRITERS + 2; i++) {
    racers[i] = (racer){.kb = kb, .number = i};
    assert_int_equal(pthread_create(&threads[i], NULL, i < RACE_WRITERS ? race_put : race_delete, &racers[i]), 0);
  }
  uint64_t added = 0, removed = 0;
  for (unsigned i = 0; i < RACE_WRITERS + 2; i++) {
    pthread_join(threads[i], NULL);
    added += racers[i].added;
    removed += racers[i].removed;
  }
  removed += delete_where(kb, NULL, ODD).removed;
  assert_int_equal(added, RACE_WRITERS * RACE_PUTS);
  assert_int_equal(removed, added / 2);
  rag_version *version = NULL;
  OK(rag_kb_resolve(kb, S(""), &version, &err));
  assert_int_equal(rag_version_documents(version), added / 2);
  rag_ref_drop(version);
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- filters of requests

static void a_filter_is_known_the_second_time(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  put_numbered(kb, NULL, 0, 9);
  hy_filter below = hy_filter_of(BELOW(3)), same = hy_filter_of(BELOW(3));
  rag_search search = {.query = S("number words"), .k = 10, .filter = below.filter, .mode = RAG_SEARCH_LEXICAL};
  for (int round = 0; round < 3; round++) {
    rag_search_result r = {0};
    search.filter = round == 1 ? same.filter : below.filter; // equal texts are equal filters
    OK(rag_kb_search(kb, &search, &r, &err));
    assert_int_equal(r.count, 3);
    assert_int_equal(r.plan.filter_cached, round == 1);
    assert_int_equal(r.plan.filter_conditions, 1);
    assert_int_equal(r.plan.filter_indexed, 1);
    assert_int_equal(r.plan.filter_verified, 0);
    assert_int_equal(r.plan.documents_matched, 3);
    rag_search_result_free(&r);
    if (round == 1) kb_test_put_on(kb, NULL, "n1", "number one", "{\"n\":1}"); // a new version: not known
  }
  // A document is a filter's business by its version, not by its newest state.
  kb_test_patch_on(kb, NULL, "n0", "{\"n\":100}");
  assert_string_equal(listed(kb, "", BELOW(3)), "n2 n1");
  assert_string_equal(listed(kb, "main~1", BELOW(3)), "n0 n2 n1");
  hy_filter_free(&below);
  hy_filter_free(&same);
  rag_ref_drop(kb);
}

// Filters that nothing passes, of unknown fields, of mixed types, of ranges whose ends cross: answers, not errors.
static void odd_filters(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put_on(kb, NULL, "a", "some words", "{\"v\":1}");
  kb_test_put_on(kb, NULL, "b", "some words", "{\"v\":\"1\"}");
  kb_test_put_on(kb, NULL, "c", "some words", "{\"v\":true}");
  kb_test_put_on(kb, NULL, "d", "some words", "{\"v\":[1,\"1\",null,2.5]}");
  kb_test_put_on(kb, NULL, "e", "some words", "{\"v\":{\"w\":1}}");
  kb_test_put_on(kb, NULL, "f", "some words", NULL);
  static const struct {
    const char *filter, *ids;
  } cases[] = {
      {"{\"must\":[{\"key\":\"v\",\"match\":{\"value\":1}}]}", "a d"},
      {"{\"must\":[{\"key\":\"v\",\"match\":{\"value\":\"1\"}}]}", "b d"},
      {"{\"must\":[{\"key\":\"v\",\"match\":{\"value\":true}}]}", "c"},
      {"{\"must\":[{\"key\":\"v\",\"range\":{\"gte\":1,\"lte\":2.5}}]}", "a d"},
      {"{\"must\":[{\"key\":\"v\",\"range\":{\"gt\":5,\"lt\":1}}]}", ""},
      {"{\"must\":[{\"key\":\"unknown\",\"match\":{\"value\":1}}]}", ""},
      {"{\"must_not\":[{\"key\":\"unknown\",\"match\":{\"value\":1}}]}", "a b c d e f"},
      {"{\"must\":[{\"is_empty\":{\"key\":\"v\"}}]}", "f"},
      {"{\"must\":[{\"key\":\"v.w\",\"match\":{\"value\":1}}]}", "e"},
      {"{\"should\":[]}", ""},
      {"{\"must\":[{\"has_id\":[]}]}", ""},
      {"{}", "a b c d e f"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    const char *ids = listed(kb, "", cases[i].filter);
    if (strcmp(ids, cases[i].ids) != 0) fail_msg("%s: '%s' instead of '%s'", cases[i].filter, ids, cases[i].ids);
    size_t count = cases[i].ids[0] ? (strlen(cases[i].ids) + 1) / 2 : 0;
    hy_filter filter = hy_filter_of(cases[i].filter);
    for (rag_search_mode mode = RAG_SEARCH_VECTOR; mode <= RAG_SEARCH_HYBRID; mode++) {
      rag_search search = {.query = S("words"), .k = 10, .filter = filter.filter, .mode = mode};
      rag_search_result r = {0};
      OK(rag_kb_search(kb, &search, &r, &err));
      assert_int_equal(r.count, count);
      rag_search_result_free(&r);
    }
    hy_filter_free(&filter);
  }
  rag_ref_drop(kb);
}

// At the limit of nesting a filter works, one past it the message names the place.
static void nested_to_the_limit(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  put_numbered(kb, NULL, 0, 4);
  rag_buf text = {0};
  for (uint32_t depth = RAG_FILTER_DEPTH_MAX; depth <= RAG_FILTER_DEPTH_MAX + 1; depth++) {
    rag_buf_clear(&text);
    for (uint32_t i = 1; i < depth; i++) rag_buf_append_str(&text, "{\"must\":[");
    rag_buf_append_str(&text, ODD);
    for (uint32_t i = 1; i < depth; i++) rag_buf_append_str(&text, "]}");
    rag_buf_append_char(&text, '\0');
    if (depth == RAG_FILTER_DEPTH_MAX) {
      assert_string_equal(listed(kb, "", text.data), "n1 n3");
      continue;
    }
    rag_arena *arena = rag_arena_create(0);
    const rag_filter *none = NULL;
    FAILS(rag_filter_parse(S(text.data), arena, &none, &err), RAG_INVALID_ARGUMENT, "16");
    assert_memory_equal(err.field, "filter.must[0]", 14);
    rag_arena_destroy(arena);
  }
  rag_buf_free(&text);
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- facets

static void facets_of_then(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put_on(kb, NULL, "a", "a", "{\"lang\":\"en\",\"n\":1}"); // c2
  kb_test_put_on(kb, NULL, "b", "b", "{\"lang\":\"en\",\"n\":2}");
  kb_test_put_on(kb, NULL, "c", "c", "{\"lang\":[\"de\",\"en\",\"de\"]}"); // c4: de counts once
  kb_test_patch_on(kb, NULL, "a", "{\"lang\":\"fr\"}");                    // c5
  kb_test_delete_on(kb, NULL, "b");                                        // c6
  static const struct {
    const char *at, *values;
  } cases[] = {{"c2", "en:1"},           {"c3", "en:2"},         {"c4", "en:3 de:1"},
               {"c5", "en:2 de:1 fr:1"}, {"", "de:1 en:1 fr:1"}, {"c1", ""}};
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
      rag_slice field = S("lang");
      rag_facet_query query = {.at = S(cases[i].at), .fields = &field, .field_count = 1, .limit = 10};
      rag_facet_result r = {0};
      char values[64] = "";
      OK(rag_kb_facets(kb, &query, &r, &err));
      for (uint32_t v = 0; v < r.facets[0].value_count; v++)
        snprintf(values + strlen(values), sizeof values - strlen(values), "%s%.*s:%u", v ? " " : "",
                 (int)r.facets[0].values[v].string.size, r.facets[0].values[v].string.data,
                 (unsigned)r.facets[0].values[v].count);
      assert_string_equal(values, cases[i].values);
      rag_facet_result_free(&r);
    }
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

static void facets_that_cannot_be(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  put_numbered(kb, NULL, 0, 2);
  rag_slice fields[RAG_FACET_FIELDS_MAX + 1];
  for (uint32_t i = 0; i <= RAG_FACET_FIELDS_MAX; i++) fields[i] = S("n");
  rag_facet_query query = {.fields = fields, .field_count = RAG_FACET_FIELDS_MAX, .limit = RAG_FACET_VALUES_MAX};
  rag_facet_result r = {.facet_count = 77};
  OK(rag_kb_facets(kb, &query, &r, &err));
  assert_int_equal(r.facet_count, RAG_FACET_FIELDS_MAX);
  rag_facet_result_free(&r);
  r.facet_count = 77;
  query.field_count++;
  FAILS_FIELD(rag_kb_facets(kb, &query, &r, &err), RAG_INVALID_ARGUMENT, "fields", "32");
  query.field_count = 0;
  FAILS_FIELD(rag_kb_facets(kb, &query, &r, &err), RAG_INVALID_ARGUMENT, "fields", NULL);
  query.field_count = 1;
  query.limit++;
  FAILS_FIELD(rag_kb_facets(kb, &query, &r, &err), RAG_INVALID_ARGUMENT, "limit", "10000");
  query.limit = 0;
  FAILS_FIELD(rag_kb_facets(kb, &query, &r, &err), RAG_INVALID_ARGUMENT, "limit", NULL);
  query.limit = 1;
  fields[0] = S("a..b");
  FAILS(rag_kb_facets(kb, &query, &r, &err), RAG_INVALID_ARGUMENT, NULL);
  assert_true(err.field[0] != '\0');
  fields[0] = S("n");
  query.at = S("never");
  FAILS(rag_kb_facets(kb, &query, &r, &err), RAG_NOT_FOUND, "never");
  assert_int_equal(r.facet_count, 77);
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(deletion_takes_what_passes),
      KB_TEST(deletion_beside_puts_and_prunes),
      KB_TEST(deletion_and_expect_parent),
      KB_TEST(deletions_and_puts_at_once),
      KB_TEST(a_filter_is_known_the_second_time),
      KB_TEST(odd_filters),
      KB_TEST(nested_to_the_limit),
      KB_TEST(facets_of_then),
      KB_TEST(facets_that_cannot_be),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
