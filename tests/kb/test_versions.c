// Goal: every ref means what it says, also after a restart and with a clock that goes back; a log, a diff, a merge and a
// rollback give what a person would work out by hand; every version of a long history can be read again.
// Method: small histories worked out in the comments; 600 random commits compared with copies kept aside; the limits of
// branches and tags by rows written directly up to one below them.
#include "kb_test.h"

#include "kb/kb_internal.h"

#define SECOND INT64_C(1000000)
#define T0 (INT64_C(1700000000) * SECOND) // 2023-11-14T22:13:20Z

static uint64_t commit_of(rag_kb *kb, const char *ref) {
  rag_error err = {0};
  rag_version *version = NULL;
  OK(rag_kb_resolve(kb, S(ref), &version, &err));
  uint64_t commit = rag_version_commit(version);
  rag_commit_info info = {0};
  OK(rag_kb_commit_get(kb, S(ref), &info, &err)); // both ways agree
  assert_int_equal(info.id, commit);
  assert_int_equal(info.documents, rag_version_documents(version));
  assert_int_equal(info.chunks, rag_version_chunks(version));
  rag_commit_info_free(&info);
  rag_ref_drop(version);
  return commit;
}

#define NO_REF(kb, ref, status, part)                                                                                  \
  do {                                                                                                                 \
    rag_version *no_version_ = NULL;                                                                                   \
    FAILS(rag_kb_resolve(kb, S(ref), &no_version_, &err), status, part);                                               \
    assert_null(no_version_);                                                                                          \
  } while (0)

// ---------------------------------------------------------------------------------------------- refs

static void refs_of_every_form(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "1");       // c2
  kb_test_put(kb, "a", "2");       // c3
  kb_test_tag(kb, "v1.0", "main"); // c3
  kb_test_branch(kb, "side", "c2");
  kb_test_put_on(kb, "side", "b", "s", NULL); // c4
  kb_test_put(kb, "a", "3");                  // c5
  static const struct {
    const char *ref;
    uint64_t commit;
  } good[] = {{"", 5},       {"main", 5},   {"main~", 3}, {"main~0", 5}, {"main~1", 3}, {"main~2", 2},
              {"main~3", 1}, {"c1", 1},     {"c4", 4},    {"c4~1", 2},   {"v1.0", 3},   {"v1.0~1", 2},
              {"side", 4},   {"side~1", 2}, {"c5~3", 1},  {"side~2", 1}, {"c3~00", 3},  {"side~01", 2}};
  static const struct {
    const char *ref;
    rag_status status;
    const char *part;
  } bad[] = {
      {"nain", RAG_NOT_FOUND, "did you mean 'main'"},
      {"elsewhere", RAG_NOT_FOUND, "elsewhere"},
      {"c0", RAG_NOT_FOUND, "c0"},
      {"c6", RAG_NOT_FOUND, "newest is c5"},
      {"main~4", RAG_NOT_FOUND, "first parents"},
      {"main~4294967295", RAG_NOT_FOUND, "first parents"},
      {"main~4294967296", RAG_INVALID_ARGUMENT, "not a ref"},
      {"main~99999999999999999999", RAG_INVALID_ARGUMENT, "not a ref"},
      {"main~x", RAG_INVALID_ARGUMENT, "not a ref"},
      {"main~1~1", RAG_INVALID_ARGUMENT, "not a ref"},
      {"main~-1", RAG_INVALID_ARGUMENT, "not a ref"},
      {"~1", RAG_INVALID_ARGUMENT, "not a ref"},
      {"Main", RAG_INVALID_ARGUMENT, "not a ref"},
      {"-x", RAG_INVALID_ARGUMENT, "not a ref"},
      {" main", RAG_INVALID_ARGUMENT, "not a ref"},
      {"main ", RAG_INVALID_ARGUMENT, "not a ref"},
      {"\xff", RAG_INVALID_ARGUMENT, NULL},
      {"main@", RAG_INVALID_ARGUMENT, "not a ref"},
      {"@2026-01-01", RAG_INVALID_ARGUMENT, "not a ref"},
      {"main@yesterday", RAG_INVALID_ARGUMENT, NULL},
      {"main@2026-13-01", RAG_INVALID_ARGUMENT, NULL},
      {"c2@2026-01-01", RAG_INVALID_ARGUMENT, "not a ref"},
      {"v1.0@2026-01-01", RAG_INVALID_ARGUMENT, "is a tag"},
      {"nowhere@2026-01-01", RAG_NOT_FOUND, "nowhere"},
      {"main~1@2026-01-01", RAG_INVALID_ARGUMENT, "not a ref"},
  };
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < RAG_COUNT_OF(good); i++) assert_int_equal(commit_of(kb, good[i].ref), good[i].commit);
    for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
      NO_REF(kb, bad[i].ref, bad[i].status, bad[i].part);
      rag_commit_info info;
      FAILS(rag_kb_commit_get(kb, S(bad[i].ref), &info, &err), bad[i].status, bad[i].part);
    }
    char ref[RAG_REF_BYTES_MAX + 2] = "main~0";
    memset(ref + 6, '0', sizeof ref - 7);
    ref[RAG_REF_BYTES_MAX + 1] = '\0';
    NO_REF(kb, ref, RAG_INVALID_ARGUMENT, "at most 160");
    rag_ref_drop(kb);
    if (round == 0) kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

static void time_refs(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_clock_set_for_test(T0);
  rag_kb *kb = kb_test_new(f); // c1
  rag_clock_set_for_test(T0 + 10 * SECOND);
  kb_test_put(kb, "a", "1");               // c2
  kb_test_put(kb, "a", "2");               // c3, the same instant
  rag_clock_set_for_test(T0 + 5 * SECOND); // the clock goes back: the commit's time does not
  kb_test_put(kb, "a", "3");               // c4 at +10
  kb_test_branch(kb, "side", "c2");        // at +10
  rag_clock_set_for_test(T0 + 20 * SECOND);
  kb_test_put(kb, "a", "4");                  // c5
  kb_test_put_on(kb, "side", "a", "5", NULL); // c6
  rag_clock_set_for_test(T0 + 30 * SECOND);
  kb_test_rollback(kb, NULL, "c2"); // c7
  rag_commit_info info = {0};
  OK(rag_kb_commit_get(kb, S("c4"), &info, &err));
  assert_int_equal(info.time_us, T0 + 10 * SECOND);
  rag_commit_info_free(&info);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:20Z"), 1);
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:29.999999Z"), 1);
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:30Z"), 4);
    assert_int_equal(commit_of(kb, "main@2023-11-14T23:13:30+01:00"), 4);
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:39Z"), 4);
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:40Z"), 5);
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:40Z~1"), 4);
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:49Z"), 5);
    assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:50Z"), 7);
    assert_int_equal(commit_of(kb, "main@9999-12-31"), 7);
    assert_int_equal(commit_of(kb, "side@2023-11-14T22:13:30Z"), 2);
    assert_int_equal(commit_of(kb, "side@2023-11-14T22:13:40Z"), 6);
    NO_REF(kb, "main@2023-11-14T22:13:19Z", RAG_NOT_FOUND, "did not exist");
    NO_REF(kb, "main@1969-12-31T23:59:59Z", RAG_NOT_FOUND, "did not exist");
    NO_REF(kb, "main@0001-01-01", RAG_NOT_FOUND, "did not exist");
    NO_REF(kb, "side@2023-11-14T22:13:29Z", RAG_NOT_FOUND, "did not exist");
    rag_ref_drop(kb);
    if (round == 0) kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  // The clock goes back across the restart too; a branch made anew under a name has a log of its own.
  rag_clock_set_for_test(T0);
  kb_test_put(kb, "a", "6"); // c8 at +30
  assert_int_equal(commit_of(kb, "main@2023-11-14T22:13:50Z"), 8);
  OK(rag_kb_branch_delete(kb, S("side"), &err));
  NO_REF(kb, "side@2023-11-14T22:13:40Z", RAG_NOT_FOUND, "side");
  kb_test_branch(kb, "side", "main");
  NO_REF(kb, "side@2023-11-14T22:13:40Z", RAG_NOT_FOUND, "did not exist");
  assert_int_equal(commit_of(kb, "side@2023-11-14T22:13:50Z"), 8);
  assert_int_equal(commit_of(kb, "c6"), 6); // its commits stay
  kb_test_branch(kb, "then", "main@2023-11-14T22:13:40Z");
  assert_int_equal(commit_of(kb, "then"), 5);
  rag_clock_set_for_test(0);
  rag_ref_drop(kb);
}

static void names(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_write write = {0};
  rag_ref_info info = {0};
  rag_kb *kb = kb_test_new(f);
  char longest[RAG_NAME_MAX + 2];
  memset(longest, 'n', sizeof longest);
  longest[RAG_NAME_MAX] = '\0';
  OK(rag_kb_branch_create(kb, &write, S(longest), S(""), &info, &err));
  assert_string_equal(info.name, longest);
  assert_int_equal(info.commit, 1);
  longest[RAG_NAME_MAX] = 'n';
  longest[RAG_NAME_MAX + 1] = '\0';
  static const char *const wrong[] = {"", "A", "-a", ".a", "a b", "a~1", "a@b", "a/b", "\xc3\xa4"};
  for (size_t i = 0; i <= RAG_COUNT_OF(wrong); i++) {
    const char *name = i < RAG_COUNT_OF(wrong) ? wrong[i] : longest;
    FAILS_FIELD(rag_kb_branch_create(kb, &write, S(name), S(""), &info, &err), RAG_INVALID_ARGUMENT, "name",
                "a name is");
    FAILS_FIELD(rag_kb_tag_create(kb, &write, S(name), S(""), &info, &err), RAG_INVALID_ARGUMENT, "name", "a name is");
  }
  static const char *const commits[] = {"c1", "c0", "c99", "c007", "c12345678901234567890"};
  for (size_t i = 0; i < RAG_COUNT_OF(commits); i++) {
    FAILS_FIELD(rag_kb_branch_create(kb, &write, S(commits[i]), S(""), &info, &err), RAG_INVALID_ARGUMENT, "name",
                "looks like a commit");
    FAILS_FIELD(rag_kb_tag_create(kb, &write, S(commits[i]), S(""), &info, &err), RAG_INVALID_ARGUMENT, "name",
                "looks like a commit");
  }
  static const char *const fine[] = {"c", "c1a", "c1.0", "0", "cc1", "c-1"};
  for (size_t i = 0; i < RAG_COUNT_OF(fine); i++) {
    kb_test_branch(kb, fine[i], "");
    assert_int_equal(commit_of(kb, fine[i]), 1);
  }
  kb_test_tag(kb, "tag", "");
  // One namespace.
  FAILS(rag_kb_branch_create(kb, &write, S("tag"), S(""), &info, &err), RAG_ALREADY_EXISTS, "a tag 'tag'");
  FAILS(rag_kb_tag_create(kb, &write, S("tag"), S(""), &info, &err), RAG_ALREADY_EXISTS, "a tag 'tag'");
  FAILS(rag_kb_tag_create(kb, &write, S("c"), S(""), &info, &err), RAG_ALREADY_EXISTS, "a branch 'c'");
  FAILS(rag_kb_branch_create(kb, &write, S("main"), S(""), &info, &err), RAG_ALREADY_EXISTS, "a branch 'main'");
  FAILS(rag_kb_branch_create(kb, &write, S("x"), S("nowhere"), &info, &err), RAG_NOT_FOUND, "nowhere");
  FAILS(rag_kb_branch_delete(kb, S("main"), &err), RAG_FAILED_PRECONDITION, "main");
  FAILS(rag_kb_branch_delete(kb, S("tag"), &err), RAG_NOT_FOUND, "no branch 'tag'");
  FAILS(rag_kb_tag_delete(kb, S("main"), &err), RAG_NOT_FOUND, "no tag 'main'");
  FAILS(rag_kb_tag_delete(kb, S("gone"), &err), RAG_NOT_FOUND, "gone");
  rag_write_result r;
  FAILS(rag_kb_rollback(kb, &(rag_write){.branch = S("tag")}, S("c1"), &r, &err), RAG_FAILED_PRECONDITION, "is a tag");
  FAILS(rag_kb_merge(kb, &write, S("main"), S("tag"), RAG_MERGE_FAIL, &r, NULL, &err), RAG_FAILED_PRECONDITION,
        "is a tag");
  OK(rag_kb_tag_delete(kb, S("tag"), &err));
  kb_test_branch(kb, "tag", "");

  // Lists are by name, in pages, the same after a restart.
  kb_test_tag(kb, "t2", "");
  kb_test_tag(kb, "t10", "");
  for (int round = 0; round < 2; round++) {
    static const char *const expected[] = {"0", "c", "c-1", "c1.0", "c1a", "cc1", "main", NULL, "tag"};
    char after[RAG_NAME_MAX + 1] = "";
    size_t at = 0;
    for (;;) {
      rag_ref_info *refs = NULL;
      uint32_t count = 0;
      OK(rag_kb_branches(kb, S(after), 2, &refs, &count, &err));
      for (uint32_t i = 0; i < count; i++, at++) {
        assert_true(at < RAG_COUNT_OF(expected));
        if (expected[at] != NULL) assert_string_equal(refs[i].name, expected[at]);
        memcpy(after, refs[i].name, sizeof after);
      }
      rag_free(refs);
      if (count == 0) break;
    }
    assert_int_equal(at, RAG_COUNT_OF(expected));
    rag_ref_info *tags = NULL;
    uint32_t count = 0;
    OK(rag_kb_tags(kb, S(""), 100, &tags, &count, &err));
    assert_int_equal(count, 2);
    assert_string_equal(tags[0].name, "t10");
    assert_string_equal(tags[1].name, "t2");
    rag_free(tags);
    OK(rag_kb_tags(kb, S("t1"), 1, &tags, &count, &err)); // after a name that is none
    assert_int_equal(count, 1);
    assert_string_equal(tags[0].name, "t10");
    rag_free(tags);
    rag_ref_drop(kb);
    if (round == 0) kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

typedef struct many_refs {
  uint32_t kb, count;
  uint8_t tag;
} many_refs;

static rag_status put_many_refs(void *ctx, rag_txn *txn, rag_error *err) {
  const many_refs *m = ctx;
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < m->count; i++) {
    char name[16];
    rag_key key;
    rag_buf value = {0};
    snprintf(name, sizeof name, "n%06u", i);
    rag_kb__key_name(&key, m->tag, m->kb, S(name));
    rag_kb__encode_ref(1, T0, T0, &value);
    rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_buf_slice(&value));
    rag_buf_free(&value);
  }
  return RAG_OK;
}

static void limits_of_branches_and_tags(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_write write = {0};
  rag_kb *kinds[2] = {kb_test_create(f, "branches", "hash-32", 0), kb_test_create(f, "tags", "hash-32", 0)};
  many_refs branches = {(uint32_t)kb_test_describe(kinds[0]).id, RAG_KB_BRANCHES_MAX - 2, 'b'}; // main is one
  many_refs tags = {(uint32_t)kb_test_describe(kinds[1]).id, RAG_KB_TAGS_MAX - 1, 't'};
  OK(rag_store_commit(f->store, &(rag_commit_request){.apply = put_many_refs, .ctx = &branches}, &err));
  OK(rag_store_commit(f->store, &(rag_commit_request){.apply = put_many_refs, .ctx = &tags}, &err));
  rag_ref_drop(kinds[0]);
  rag_ref_drop(kinds[1]);
  kb_test_reopen(f);
  kinds[0] = kb_test_get(f, "branches");
  kinds[1] = kb_test_get(f, "tags");
  OK(rag_kb_branch_create(kinds[0], &write, S("last"), S(""), NULL, &err));
  FAILS(rag_kb_branch_create(kinds[0], &write, S("over"), S(""), NULL, &err), RAG_RESOURCE_EXHAUSTED, "10000");
  OK(rag_kb_tag_create(kinds[0], &write, S("over"), S(""), NULL, &err));
  OK(rag_kb_tag_create(kinds[1], &write, S("last"), S(""), NULL, &err));
  FAILS(rag_kb_tag_create(kinds[1], &write, S("over"), S(""), NULL, &err), RAG_RESOURCE_EXHAUSTED, "100000");
  NO_REF(kinds[1], "over", RAG_NOT_FOUND, NULL);
  OK(rag_kb_tag_delete(kinds[1], S("n000007"), &err));
  OK(rag_kb_tag_create(kinds[1], &write, S("over"), S("n000008"), NULL, &err));
  assert_int_equal(kb_test_describe(kinds[0]).branches, RAG_KB_BRANCHES_MAX);
  assert_int_equal(kb_test_describe(kinds[1]).tags, RAG_KB_TAGS_MAX);
  rag_ref_drop(kinds[0]);
  rag_ref_drop(kinds[1]);
}

// ---------------------------------------------------------------------------------------------- log, diff

static void assert_log(rag_kb *kb, const char *ref, uint32_t page, const char *expected) {
  rag_error err = {0};
  char ids[512] = "";
  uint64_t below = 0;
  do {
    rag_commit_info *items = NULL;
    uint32_t count = 0;
    OK(rag_kb_log(kb, S(ref), below, page, &items, &count, &below, &err));
    assert_true(count <= page);
    for (uint32_t i = 0; i < count; i++) {
      snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%s%u", ids[0] ? " " : "", (unsigned)items[i].id);
      rag_commit_info_free(&items[i]);
    }
    rag_free(items);
  } while (below != 0);
  assert_string_equal(ids, expected);
}

static void logs_page_over_merges(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "1"); // c2
  kb_test_branch(kb, "side", "main");
  kb_test_put_on(kb, "side", "b", "1", NULL); // c3
  kb_test_put(kb, "a", "2");                  // c4
  kb_test_put_on(kb, "side", "b", "2", NULL); // c5
  assert_int_equal(kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL).commit, 6);
  kb_test_put_on(kb, "side", "c", "1", NULL); // c7
  assert_int_equal(kb_test_merge(kb, "main", "side", RAG_MERGE_FAIL).commit, 8);
  kb_test_put(kb, "a", "3"); // c9
  for (uint32_t page = 1; page < 8; page++) {
    assert_log(kb, "main", page, "9 6 4 2 1");
    assert_log(kb, "side", page, "8 7 5 3 2 1");
    assert_log(kb, "c6", page, "6 4 2 1");
    assert_log(kb, "side~2", page, "5 3 2 1");
    assert_log(kb, "c1", page, "1");
  }
  rag_commit_info info = {0};
  OK(rag_kb_commit_get(kb, S("c6"), &info, &err));
  assert_int_equal(info.kind, RAG_COMMIT_MERGE);
  assert_int_equal(info.parent_count, 2);
  assert_int_equal(info.parents[0], 4);
  assert_int_equal(info.parents[1], 5);
  assert_int_equal(info.added, 1);
  assert_int_equal(info.changed + info.removed, 0);
  rag_commit_info_free(&info);
  rag_commit_info *items = NULL;
  uint32_t count = 0;
  uint64_t next = 0;
  FAILS(rag_kb_log(kb, S("main"), 77, 5, &items, &count, &next, &err), RAG_NOT_FOUND, "c77");
  FAILS(rag_kb_log(kb, S("main"), UINT64_C(1) << 32, 5, &items, &count, &next, &err), RAG_INVALID_ARGUMENT,
        "page token");
  rag_ref_drop(kb);
}

// "+id" added, "-id" removed, "~id" text changed, "*id" only the rest changed.
static void assert_diff(rag_kb *kb, const char *from, const char *to, const char *expected) {
  rag_error err = {0};
  rag_diff diff = {0};
  char text[1024] = "";
  uint64_t counts[3] = {0};
  OK(rag_kb_diff(kb, S(from), S(to), &diff, &err));
  for (size_t i = 0; i < diff.count; i++) {
    const rag_diff_entry *e = &diff.entries[i];
    char mark = e->change == RAG_CHANGE_ADDED     ? '+'
                : e->change == RAG_CHANGE_REMOVED ? '-'
                : e->text_changed                 ? '~'
                                                  : '*';
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s%c%s", i ? " " : "", mark, e->id);
    counts[e->change]++;
    assert_true((e->from_revision == 0) == (e->change == RAG_CHANGE_ADDED));
    assert_true((e->to_revision == 0) == (e->change == RAG_CHANGE_REMOVED));
  }
  assert_string_equal(text, expected);
  assert_int_equal(diff.added, counts[RAG_CHANGE_ADDED]);
  assert_int_equal(diff.changed, counts[RAG_CHANGE_CHANGED]);
  assert_int_equal(diff.removed, counts[RAG_CHANGE_REMOVED]);
  assert_int_equal(diff.from_commit, commit_of(kb, from));
  assert_int_equal(diff.to_commit, commit_of(kb, to));
  rag_diff_free(&diff);
}

static void diffs(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  static const char *const ids[] = {"stays", "changes", "goes", "meta", "back"};
  for (size_t i = 0; i < RAG_COUNT_OF(ids); i++) kb_test_put(kb, ids[i], ids[i]);
  kb_test_tag(kb, "before", "");
  kb_test_put(kb, "changes", "another");
  kb_test_delete_on(kb, NULL, "goes");
  kb_test_put(kb, "new", "new");
  kb_test_patch_on(kb, NULL, "meta", "{\"a\":1}");
  kb_test_put(kb, "back", "elsewhere");
  kb_test_put(kb, "back", "back");
  assert_diff(kb, "before", "main", "~changes -goes *meta +new");
  assert_diff(kb, "main", "before", "~changes +goes *meta -new");
  assert_diff(kb, "before", "before", "");
  assert_diff(kb, "c1", "before", "+back +changes +goes +meta +stays");
  assert_diff(kb, "main~2", "main", ""); // back and forth is nothing
  assert_diff(kb, "main~3", "main", "*meta");
  rag_diff diff = {0};
  FAILS(rag_kb_diff(kb, S("before"), S("never"), &diff, &err), RAG_NOT_FOUND, "never");
  FAILS(rag_kb_diff(kb, S("c99"), S("before"), &diff, &err), RAG_NOT_FOUND, "c99");
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- rollback, history

static void rollbacks(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  char id[16];
  kb_test_put(kb, "a", "one"); // c2
  kb_test_put(kb, "a", "two"); // c3
  kb_test_put(kb, "b", "b");   // c4
  rag_write_result r = kb_test_rollback(kb, NULL, "main~1");
  assert_int_equal(r.commit, 5);
  assert_int_equal(r.removed, 1);
  assert_int_equal(r.added + r.changed, 0);
  assert_diff(kb, "c3", "main", "");
  assert_log(kb, "main", 10, "5 4 3 2 1"); // history is kept
  r = kb_test_rollback(kb, NULL, "c4");    // of the rollback
  assert_int_equal(r.added, 1);
  assert_diff(kb, "c4", "main", "");
  assert_string_equal(kb_test_search(kb, "", "b", 1), "b");
  r = kb_test_rollback(kb, NULL, "c4"); // it is there already
  assert_false(r.committed);
  assert_int_equal(r.commit, 6);
  r = kb_test_rollback(kb, NULL, "c1"); // to nothing
  assert_int_equal(r.removed, 2);
  assert_string_equal(kb_test_search(kb, "", "b", 5), "");
  rag_commit_info info = {0};
  OK(rag_kb_commit_get(kb, S(""), &info, &err));
  assert_int_equal(info.kind, RAG_COMMIT_ROLLBACK);
  assert_int_equal(info.parents[0], 6);
  assert_int_equal(info.documents, 0);
  assert_true(info.counts_exact);
  rag_commit_info_free(&info);

  // Far: 256 revisions apart are counted exactly, more are counted as revisions.
  kb_test_rollback(kb, NULL, "c4"); // c8: a, b
  rag_document_input many[256];
  char ids[256][16];
  for (int i = 0; i < 256; i++) {
    snprintf(ids[i], sizeof ids[i], "m%d", i);
    many[i] = (rag_document_input){.id = S(ids[i]), .text = S(ids[i])};
  }
  rag_write write = {0};
  rag_put put = {.documents = many, .document_count = 256};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err)); // c9
  r = kb_test_rollback(kb, NULL, "c8");
  assert_int_equal(r.removed, 256);
  OK(rag_kb_commit_get(kb, S(""), &info, &err));
  assert_true(info.counts_exact);
  rag_commit_info_free(&info);
  kb_test_rollback(kb, NULL, "c9");
  kb_test_put(kb, "a", "three");        // c12
  r = kb_test_rollback(kb, NULL, "c8"); // 257 gone, 1 come
  OK(rag_kb_commit_get(kb, S(""), &info, &err));
  assert_false(info.counts_exact);
  assert_int_equal(info.removed, 257);
  assert_int_equal(info.added, 1);
  assert_int_equal(info.documents, 2);
  rag_commit_info_free(&info);
  assert_string_equal(kb_test_text(kb, "", "a"), "two");
  // A branch of its own, to a version of another branch; refusals.
  kb_test_branch(kb, "side", "c1");
  kb_test_rollback(kb, "side", "main");
  assert_diff(kb, "main", "side", "");
  FAILS(rag_kb_rollback(kb, &write, S(""), &r, &err), RAG_INVALID_ARGUMENT, "'to' is missing");
  FAILS(rag_kb_rollback(kb, &write, S("c99"), &r, &err), RAG_NOT_FOUND, "c99");
  write.branch = S("none");
  FAILS(rag_kb_rollback(kb, &write, S("c1"), &r, &err), RAG_NOT_FOUND, "none");
  snprintf(id, sizeof id, "c%u", (unsigned)commit_of(kb, "main"));
  rag_ref_drop(kb);
  kb_test_reopen(f);
  kb = kb_test_get(f, "docs");
  assert_diff(kb, id, "c8", "");
  assert_diff(kb, "side", "c8", "");
  rag_ref_drop(kb);
}

enum { HISTORY = 600, IDS = 40 };

// Deltas, checkpoints and bases: each version equals the copy that was kept when it was made.
static void every_version_of_a_long_history(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  static uint16_t model[HISTORY + 2][IDS]; // by commit: the number of the document's text, 0: not there
  unsigned random = 12345;
  uint64_t head = 1;
  memset(model, 0, sizeof model);
  while (head < HISTORY) {
    random = random * 1103515245u + 12345u;
    unsigned dice = random >> 16;
    uint16_t next[IDS];
    rag_write_result r;
    memcpy(next, model[head], sizeof next);
    if (random / 7 % 150 == 0) { // bases far back, and chains of rollbacks
      char to[16];
      uint64_t target = 1 + (dice / 50) % head;
      snprintf(to, sizeof to, "c%u", (unsigned)target);
      memcpy(next, model[target], sizeof next);
      r = kb_test_rollback(kb, NULL, to);
    } else {
      unsigned i = (dice / 50) % IDS;
      char id[8], text[16];
      snprintf(id, sizeof id, "%u", i);
      if (dice % 50 < 10) {
        next[i] = 0;
        r = kb_test_delete_on(kb, NULL, id);
      } else {
        next[i] = (uint16_t)(1 + dice % 20);
        snprintf(text, sizeof text, "t%u", next[i]);
        r = kb_test_put(kb, id, text);
      }
    }
    assert_true(r.commit == head + r.committed);
    assert_true(r.committed || memcmp(next, model[head], sizeof next) == 0);
    head = r.commit;
    memcpy(model[head], next, sizeof next);
  }
  rag_ref_drop(kb);
  for (int round = 0; round < 3; round++) {
    f->kbs_options.version_cache = round == 0 ? 1 : round == 1 ? 7 : 256;
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
    for (uint64_t k = 1; k <= head; k++) {
      uint64_t commit = round == 2 ? k : 1 + k * 379 % head; // 379 is prime: each once, in no order
      char ref[16];
      uint16_t seen[IDS] = {0};
      rag_document *documents = NULL;
      uint32_t count = 0, next = 0;
      uint64_t at = 0;
      snprintf(ref, sizeof ref, "c%u", (unsigned)commit);
      OK(rag_kb_documents(kb, S(ref), NULL, 0, 1000, &documents, &count, &next, &at, &err));
      assert_int_equal(at, commit);
      assert_int_equal(next, 0);
      for (uint32_t i = 0; i < count; i++) {
        char text[16];
        snprintf(text, sizeof text, "%.*s", (int)documents[i].id.size, documents[i].id.data);
        uint16_t *slot = &seen[atoi(text)];
        assert_int_equal(*slot, 0);
        snprintf(text, sizeof text, "%.*s", (int)documents[i].text.size, documents[i].text.data);
        *slot = (uint16_t)atoi(text + 1);
        rag_document_free(&documents[i]);
      }
      rag_free(documents);
      assert_memory_equal(seen, model[commit], sizeof seen);
      rag_version *version = NULL; // one chunk a document: the chunk set has followed
      OK(rag_kb_resolve(kb, S(ref), &version, &err));
      assert_int_equal(rag_version_chunks(version), rag_version_documents(version));
      rag_ref_drop(version);
    }
    rag_ref_drop(kb);
  }
  // Chains stay short: at most 256 deltas down to a checkpoint or to nothing, and each row knows how many.
  uint32_t checkpoints = 0, depths[HISTORY + 2] = {0};
  for (uint32_t commit = 1; commit <= head; commit++) {
    rag_key key;
    rag_value value = {0};
    uint32_t base, depth;
    rag_kb__key_commit(&key, 1, commit, 1);
    OK(rag_store_get(f->store, NULL, RAG_CF_COMMIT, rag_key_slice(&key), &value, &err));
    assert_true(rag_kb__decode_delta_head(value.slice, &base, &depth));
    rag_value_free(&value);
    assert_true(base < commit);
    assert_int_equal(depth, (depths[base] + 1) % RAG_KB__CHECKPOINT_EVERY);
    depths[commit] = depth;
    checkpoints += depth == 0;
    rag_kb__key_u32(&key, 1, commit);
    rag_status status = rag_store_get(f->store, NULL, RAG_CF_BITMAP, rag_key_slice(&key), &value, &err);
    rag_value_free(&value);
    assert_int_equal(status, depth == 0 ? RAG_OK : RAG_NOT_FOUND);
  }
  assert_true(checkpoints >= 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(refs_of_every_form),    KB_TEST(time_refs), KB_TEST(names),     KB_TEST(limits_of_branches_and_tags),
      KB_TEST(logs_page_over_merges), KB_TEST(diffs),     KB_TEST(rollbacks), KB_TEST(every_version_of_a_long_history),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
