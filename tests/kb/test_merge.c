// Goal: a three-way merge takes what one side changed, keeps what the other changed, and calls a conflict exactly what
// both changed differently; merges of merges find the right base.
// Method: a table of one document's fate on both sides under each strategy; then histories worked out by hand.
#include "kb_test.h"

static char *conflicts_of(rag_kb *kb, const char *from, const char *into) { // in a static buffer
  static char ids[512];
  rag_error err = {0};
  rag_strings conflicts = {0};
  rag_write write = {0};
  rag_write_result r = {.commit = 77};
  uint64_t commits = kb_test_describe(kb).commits;
  FAILS(rag_kb_merge(kb, &write, S(from), S(into), RAG_MERGE_FAIL, &r, &conflicts, &err), RAG_ABORTED, "both sides");
  assert_int_equal(r.commit, 77);
  assert_int_equal(kb_test_describe(kb).commits, commits);
  ids[0] = '\0';
  for (size_t i = 0; i < conflicts.count; i++) {
    if (i > 0) strcat(ids, " ");
    strcat(ids, conflicts.items[i]);
  }
  rag_strings_free(&conflicts);
  return ids;
}

// A document as text, metadata after a bar; "": not there.
static void put_state(rag_kb *kb, const char *branch, const char *id, const char *state) {
  char text[64];
  const char *bar = strchr(state, '|');
  if (state[0] == '\0') {
    kb_test_delete_on(kb, branch, id);
    return;
  }
  snprintf(text, sizeof text, "%.*s", bar ? (int)(bar - state) : (int)strlen(state), state);
  kb_test_put_on(kb, branch, id, text, bar ? bar + 1 : NULL);
}

static void assert_state(rag_kb *kb, const char *at, const char *id, const char *state) {
  rag_error err = {0};
  rag_document document = {0};
  char seen[128];
  rag_status status = rag_kb_document_get(kb, S(at), S(id), &document, &err);
  if (status == RAG_NOT_FOUND) {
    assert_string_equal("", state);
    return;
  }
  OK(status);
  snprintf(seen, sizeof seen, "%.*s%s%.*s", (int)document.text.size, document.text.data,
           document.metadata.size ? "|" : "", (int)document.metadata.size,
           document.metadata.size ? document.metadata.data : "");
  rag_document_free(&document);
  assert_string_equal(seen, state);
}

static void one_document_on_both_sides(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  static const struct {
    const char *base, *ours, *theirs;
    const char *merged; // NULL: a conflict
  } cases[] = {
      {"b", "b", "b", "b"},  // nobody
      {"b", "o", "b", "o"},  // we
      {"b", "b", "t", "t"},  // they
      {"b", "s", "s", "s"},  // both the same
      {"b", "o", "t", NULL}, // both differently
      {"b", "", "b", ""},    // we deleted
      {"b", "b", "", ""},    // they deleted
      {"b", "", "", ""},     // both deleted
      {"b", "", "t", NULL},  // deleted, changed
      {"b", "o", "", NULL},  // changed, deleted
      {"", "o", "", "o"},    // we added
      {"", "", "t", "t"},    // they added
      {"", "s", "s", "s"},   // both added the same
      {"", "o", "t", NULL},  // both added differently
      {"b", "b|{\"o\":1}", "b", "b|{\"o\":1}"},
      {"b", "b", "b|{\"t\":1}", "b|{\"t\":1}"},
      {"b", "b|{\"s\":1}", "b|{\"s\":1}", "b|{\"s\":1}"},
      {"b", "o", "b|{\"t\":1}", NULL}, // text and metadata are one document
      {"b|{\"m\":1}", "b|{\"m\":1}", "b", "b"},
  };
  enum { CASES = RAG_COUNT_OF(cases) };
  char expected_conflicts[256] = "", ids[CASES][8];
  for (size_t i = 0; i < CASES; i++) {
    snprintf(ids[i], sizeof ids[i], "d%02zu", i);
    if (cases[i].base[0] != '\0') put_state(kb, "main", ids[i], cases[i].base);
    if (cases[i].merged == NULL) {
      if (expected_conflicts[0] != '\0') strcat(expected_conflicts, " ");
      strcat(expected_conflicts, ids[i]);
    }
  }
  kb_test_branch(kb, "ours", "main");
  kb_test_branch(kb, "theirs", "main");
  for (size_t i = 0; i < CASES; i++) {
    put_state(kb, "ours", ids[i], cases[i].ours);
    put_state(kb, "theirs", ids[i], cases[i].theirs);
  }
  assert_string_equal(conflicts_of(kb, "theirs", "ours"), expected_conflicts);
  kb_test_branch(kb, "keep", "ours");
  kb_test_branch(kb, "take", "ours");
  kb_test_merge(kb, "theirs", "keep", RAG_MERGE_OURS);
  kb_test_merge(kb, "theirs", "take", RAG_MERGE_THEIRS);
  for (int round = 0; round < 2; round++) {
    uint64_t documents[2] = {0};
    for (size_t i = 0; i < CASES; i++) {
      const char *keep = cases[i].merged ? cases[i].merged : cases[i].ours;
      const char *take = cases[i].merged ? cases[i].merged : cases[i].theirs;
      assert_state(kb, "keep", ids[i], keep);
      assert_state(kb, "take", ids[i], take);
      documents[0] += keep[0] != '\0';
      documents[1] += take[0] != '\0';
    }
    for (int i = 0; i < 2; i++) { // and nothing more: one live revision and one chunk a document
      rag_error err = {0};
      rag_version *version = NULL;
      OK(rag_kb_resolve(kb, S(i ? "take" : "keep"), &version, &err));
      assert_int_equal(rag_version_documents(version), documents[i]);
      assert_int_equal(rag_version_chunks(version), documents[i]);
      rag_ref_drop(version);
    }
    rag_ref_drop(kb);
    if (round == 0) kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

static void fast_cases(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_write write = {0};
  rag_write_result r;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "1"); // c2
  kb_test_branch(kb, "side", "main");
  r = kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL); // the same commit
  assert_false(r.committed);
  assert_int_equal(r.commit, 2);
  kb_test_put(kb, "a", "2");                             // c3
  r = kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL); // an ancestor
  assert_false(r.committed);
  assert_int_equal(r.commit, 3);
  r = kb_test_merge(kb, "main", "side", RAG_MERGE_FAIL); // a descendant: still a commit that says so
  assert_true(r.committed);
  assert_int_equal(r.changed, 1);
  assert_state(kb, "side", "a", "2");
  kb_test_put_on(kb, "side", "b", "1", NULL);
  r = kb_test_merge(kb, "side", "", RAG_MERGE_FAIL); // into main
  assert_int_equal(r.added, 1);
  r = kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL); // twice
  assert_false(r.committed);
  kb_test_put_on(kb, "side", "b", "2", NULL); // and again after more work
  r = kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL);
  assert_int_equal(r.changed, 1);
  assert_state(kb, "main", "b", "2");
  r = kb_test_merge(kb, "c2", "main", RAG_MERGE_FAIL);
  assert_false(r.committed);
  FAILS(rag_kb_merge(kb, &write, S(""), S("main"), RAG_MERGE_FAIL, &r, NULL, &err), RAG_INVALID_ARGUMENT,
        "'from' is missing");
  FAILS(rag_kb_merge(kb, &write, S("none"), S("main"), RAG_MERGE_FAIL, &r, NULL, &err), RAG_NOT_FOUND, "none");
  FAILS(rag_kb_merge(kb, &write, S("main"), S("none"), RAG_MERGE_FAIL, &r, NULL, &err), RAG_NOT_FOUND, "none");
  rag_ref_drop(kb);
}

static void a_second_merge_starts_from_the_first(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "base");
  kb_test_branch(kb, "side", "main");
  kb_test_put(kb, "a", "ours");
  kb_test_put_on(kb, "side", "a", "theirs", NULL);
  kb_test_put_on(kb, "side", "b", "theirs", NULL);
  kb_test_merge(kb, "side", "main", RAG_MERGE_OURS); // a is settled: ours
  assert_state(kb, "main", "a", "ours");
  assert_state(kb, "main", "b", "theirs");
  kb_test_put_on(kb, "side", "c", "theirs", NULL);
  kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL); // a is no conflict any more
  assert_state(kb, "main", "a", "ours");
  assert_state(kb, "main", "c", "theirs");
  kb_test_merge(kb, "main", "side", RAG_MERGE_FAIL); // nor on the way back
  assert_state(kb, "side", "a", "ours");
  // Deleted on one side, then merged both ways: it stays deleted.
  kb_test_delete_on(kb, "main", "b");
  kb_test_put_on(kb, "side", "d", "d", NULL);
  kb_test_merge(kb, "main", "side", RAG_MERGE_FAIL);
  kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL);
  assert_state(kb, "main", "b", "");
  assert_state(kb, "side", "b", "");
  rag_ref_drop(kb);
}

//   c2 --- m --- X --- m2      X merges s into main, Y merges main's m into side: two bases, m and s.
//    \    \   /
//     \    \ /
//      s ---Y --- s2
static void criss_cross(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "base"); // c2
  kb_test_put(kb, "b", "base"); // c3
  kb_test_branch(kb, "side", "main");
  kb_test_put(kb, "a", "main");                  // c4: m
  kb_test_put_on(kb, "side", "b", "side", NULL); // c5: s
  kb_test_branch(kb, "m", "c4");
  kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL); // c6: X
  kb_test_merge(kb, "m", "side", RAG_MERGE_FAIL);    // c7: Y
  assert_state(kb, "side", "a", "main");
  assert_state(kb, "main", "b", "side");
  kb_test_put(kb, "c", "main");
  kb_test_put_on(kb, "side", "d", "side", NULL);
  rag_write_result r = kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL); // both changed a and b, to the same
  assert_int_equal(r.added, 1);
  assert_int_equal(r.changed + r.removed, 0);
  kb_test_merge(kb, "main", "side", RAG_MERGE_FAIL);
  for (int i = 0; i < 2; i++) {
    const char *at = i ? "side" : "main";
    assert_state(kb, at, "a", "main");
    assert_state(kb, at, "b", "side");
    assert_state(kb, at, "c", "main");
    assert_state(kb, at, "d", "side");
  }
  rag_ref_drop(kb);
}

// What was rolled back on main is a change of main's: a merge of the branch it came from does not bring it back, and
// one that changed it since is a conflict.
static void a_rollback_is_a_change(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "base"); // c2
  kb_test_branch(kb, "side", "main");
  kb_test_put_on(kb, "side", "a", "side", NULL);
  kb_test_put_on(kb, "side", "b", "side", NULL);
  kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL);
  kb_test_rollback(kb, "main", "c2");
  rag_write_result r = kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL);
  assert_false(r.committed);
  kb_test_put_on(kb, "side", "c", "side", NULL);
  kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL);
  assert_state(kb, "main", "a", "base");
  assert_state(kb, "main", "b", "");
  assert_state(kb, "main", "c", "side");
  kb_test_put_on(kb, "side", "a", "again", NULL);
  assert_string_equal(conflicts_of(kb, "side", "main"), "a");
  // The rollback itself, merged into side, undoes there what was rolled back, but for what was changed since.
  assert_string_equal(conflicts_of(kb, "main", "side"), "a");
  kb_test_merge(kb, "main", "side", RAG_MERGE_OURS);
  assert_state(kb, "side", "a", "again");
  assert_state(kb, "side", "b", "");
  rag_ref_drop(kb);
}

// A patch and its opposite make new revisions of one state: no change for a merge.
static void a_change_that_was_taken_back(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  put_state(kb, "main", "a", "a|{\"v\":1}");
  put_state(kb, "main", "b", "b|{\"v\":1}");
  kb_test_branch(kb, "side", "main");
  kb_test_patch_on(kb, "side", "a", "{\"v\":2}");
  kb_test_patch_on(kb, "side", "a", "{\"v\":1}");
  kb_test_patch_on(kb, "main", "b", "{\"v\":2}");
  kb_test_patch_on(kb, "main", "b", "{\"v\":1}");
  put_state(kb, "main", "a", "ours");
  put_state(kb, "side", "b", "theirs");
  kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL);
  assert_state(kb, "main", "a", "ours");
  assert_state(kb, "main", "b", "theirs");
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(one_document_on_both_sides),
      KB_TEST(fast_cases),
      KB_TEST(a_second_merge_starts_from_the_first),
      KB_TEST(criss_cross),
      KB_TEST(a_rollback_is_a_change),
      KB_TEST(a_change_that_was_taken_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
