// Goal: a store in ERROR refuses writes, shows nothing of them and goes on answering; a write that the disk refuses is
// shown to nobody; wherever memory runs out, the call fails with nothing behind it, and works when made again.
// Method: the store is set to ERROR; a file-size limit makes the write-ahead log fail under a group; the Nth allocation
// fails, for N = 1, 2, ..., and the call is compared before, after and once more. Beyond N = DENSE only every STRIDEth
// is tried, as most of a call's allocations are alike; RAGD_TEST_FULL_SWEEP=1 tries every one. Reads are swept over a
// store of their own: each round opens it anew, and the many knowledge bases that the sweep of writes leaves behind
// would be opened every time (that took four minutes of the five that this test once did).
#include "kb_test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const rag_write no_write = {0};

// ---------------------------------------------------------------------------------------------- ERROR

static void assert_refuses_writes(kb_fixture *f, rag_kb *kb) {
  rag_error err = {0};
  rag_write_result r;
  rag_kb *other = NULL;
  uint64_t job;
  rag_kb_config config;
  rag_kb_info info = {0};
  rag_document_input in = {.id = S("a"), .text = S("after the error")};
  rag_slice id = S("a");
  rag_put put = {.documents = &in, .document_count = 1}, deletion = {.delete_ids = &id, .delete_count = 1};
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "other");
  OK(rag_kb_describe(kb, &info, &err));
  FAILS(rag_kb_put(kb, &no_write, &put, &r, NULL, &err), RAG_UNAVAILABLE, "takes no writes");
  FAILS(rag_kb_put(kb, &no_write, &deletion, &r, NULL, &err), RAG_UNAVAILABLE, "takes no writes");
  FAILS(rag_kb_set_metadata(kb, &no_write, id, 0, S("{\"x\":1}"), &r, &err), RAG_UNAVAILABLE, "takes no writes");
  FAILS(rag_kb_rollback(kb, &no_write, S("c1"), &r, &err), RAG_UNAVAILABLE, "takes no writes");
  FAILS(rag_kb_merge(kb, &no_write, S("side"), S("main"), RAG_MERGE_OURS, &r, NULL, &err), RAG_UNAVAILABLE, NULL);
  FAILS(rag_kb_branch_create(kb, &no_write, S("new"), S(""), NULL, &err), RAG_UNAVAILABLE, NULL);
  FAILS(rag_kb_tag_create(kb, &no_write, S("new"), S(""), NULL, &err), RAG_UNAVAILABLE, NULL);
  FAILS(rag_kb_branch_delete(kb, S("side"), &err), RAG_UNAVAILABLE, NULL);
  FAILS(rag_kbs_create(f->kbs, &config, &no_write, &other, &err), RAG_UNAVAILABLE, NULL);
  FAILS(rag_kbs_delete(f->kbs, S("docs"), &job, &err), RAG_UNAVAILABLE, NULL);
  FAILS(rag_kbs_update(f->kbs, &info.config, &err), RAG_UNAVAILABLE, NULL);
  rag_kb_info_free(&info);
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
}

static void assert_reads(rag_kb *kb) {
  rag_error err = {0};
  assert_string_equal(kb_test_text(kb, "", "a"), "before the error");
  assert_string_equal(kb_test_text(kb, "c2", "a"), "the first text");
  assert_string_equal(kb_test_text(kb, "side", "b"), "on the side");
  assert_string_equal(kb_test_search(kb, "", "before the error", 1), "a");
  assert_string_equal(kb_test_search(kb, "side", "on the side", 1), "b");
  rag_diff diff = {0};
  OK(rag_kb_diff(kb, S("main"), S("side"), &diff, &err));
  assert_int_equal(diff.count, 2);
  rag_diff_free(&diff);
  rag_version *none = NULL;
  FAILS(rag_kb_resolve(kb, S("new"), &none, &err), RAG_NOT_FOUND, "new");
}

static rag_kb *make_before(kb_fixture *f) {
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "the first text"); // c2
  kb_test_branch(kb, "side", "main");
  kb_test_put_on(kb, "side", "b", "on the side", NULL); // c3
  kb_test_put(kb, "a", "before the error");             // c4
  return kb;
}

static void a_store_in_error(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = make_before(f);
  rag_log_setup(2, RAG_LOG_ERROR + 1, RAG_LOG_TEXT);
  rag_store_set_error_for_test(f->store, "a test");
  assert_refuses_writes(f, kb);
  assert_reads(kb);
  rag_ref_drop(kb);
  kb_test_reopen(f); // which is the recovery
  kb = kb_test_get(f, "docs");
  assert_reads(kb);
  kb_test_put(kb, "a", "works again");
  assert_string_equal(kb_test_text(kb, "", "a"), "works again");
  rag_ref_drop(kb);
}

static void write_to_a_full_disk(kb_fixture *f, int act) {
  rag_error err = {0};
  rag_kb *kb = kb_test_get(f, "docs"), *other = NULL;
  rag_write_result r = {.commit = 77};
  rag_kb_config config;
  rag_document_input in[] = {{.id = S("a"), .text = S("never seen")}, {.id = S("new"), .text = S("never seen")}};
  rag_put put = {.documents = in, .document_count = 2};
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "other");
  rag_log_setup(2, RAG_LOG_ERROR + 1, RAG_LOG_TEXT);
  assert_reads(kb);
  struct rlimit was;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
  struct rlimit none = {.rlim_cur = 1, .rlim_max = was.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
  rag_status status = act == 0   ? rag_kb_put(kb, &no_write, &put, &r, NULL, &err)
                      : act == 1 ? rag_kb_set_metadata(kb, &no_write, S("a"), 0, S("{\"x\":1}"), &r, &err)
                      : act == 2 ? rag_kb_branch_create(kb, &no_write, S("new"), S(""), NULL, &err)
                                 : rag_kbs_create(f->kbs, &config, &no_write, &other, &err);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
  assert_int_equal(status, RAG_UNAVAILABLE);
  assert_int_equal(r.commit, 77);
  assert_null(other);
  FAILS(rag_kbs_get(f->kbs, S("other"), &other, &err), RAG_NOT_FOUND, "other");
  assert_null(kb_test_text(kb, "", "new"));
  assert_reads(kb);
  assert_refuses_writes(f, kb);
  assert_reads(kb);
}

// The write of the group itself fails: everything was applied, nothing may be seen. In a child that ends without closing:
// a RocksDB that is built with assertions aborts when a file that failed is closed.
static void a_disk_that_refuses(void **state) {
#ifdef __SANITIZE_THREAD__
  skip(); // its run-time takes no threads of a child that a process with threads has forked
#endif
  kb_fixture *f = *state;
  rag_ref_drop(make_before(f));
  for (int act = 0; act < 4; act++) {
    kb_test_close(f);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      kb_test_open(f);
      write_to_a_full_disk(f, act);
      _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    kb_test_open(f);
    rag_kb *kb = kb_test_get(f, "docs");
    assert_reads(kb);
    kb_test_put(kb, "extra", "works again");
    assert_string_equal(kb_test_search(kb, "", "works again", 1), "extra");
    kb_test_delete_on(kb, NULL, "extra");
    rag_ref_drop(kb);
  }
}

// ---------------------------------------------------------------------------------------------- no memory

#define DENSE 64u
#define STRIDE 11u // prime, so that it does not fall in step with a loop's allocations

#define JOB_STRIDE 47u // each of its rounds flushes and compacts, and waits for the disk

static uint64_t next_allocation(uint64_t n, uint64_t stride) {
  const char *full = getenv("RAGD_TEST_FULL_SWEEP");
  return n < DENSE * STRIDE / stride || (full != NULL && full[0] == '1') ? n + 1 : n + stride;
}

typedef struct sweep {
  kb_fixture *f;
  rag_kb *kb;
  unsigned round; // grows: each round works on something new
  char id[16];
  rag_search_mode mode;
  bool collected; // versions may be gone
} sweep;

typedef rag_status (*attempt)(sweep *s, rag_error *err);

static rag_status try_create(sweep *s, rag_error *err) {
  rag_kb_config config;
  rag_kb *kb = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "%s", s->id);
  snprintf(config.model, sizeof config.model, "hash-%u", 16 + s->round % 4000);
  rag_status status = rag_kbs_create(s->f->kbs, &config, &no_write, &kb, err);
  if (status == RAG_OK) {
    assert_string_equal(rag_kb_name(kb), s->id);
    rag_ref_drop(kb);
  } else {
    assert_null(kb);
  }
  return status;
}

static rag_status try_put(sweep *s, rag_error *err) {
  char text[64];
  rag_slice gone = S("victim");
  rag_write write = {.idempotency_key = S(s->id), .message = S("m"), .author = S("a")};
  snprintf(text, sizeof text, "a text of round %u.\n\nAnd more.", s->round);
  rag_chunk_input chunks[] = {{.text = S(text), .metadata = S("{\"c\":1}")}, {.text = S("elsewhere")}};
  rag_document_input in[] = {{.id = S(s->id), .text = S(text), .source_uri = S("s")},
                             {.id = S("changes"), .text = S(text)},
                             {.id = S("own"), .text = S(text), .chunks = chunks, .chunk_count = 2},
                             {.id = S("stays"), .text = S("stays"), .metadata = S(text[0] ? "{}" : "")}};
  rag_put put = {
      .documents = in, .document_count = 4, .delete_ids = &gone, .delete_count = 1, .prune = (rag_prune)(s->round % 3)};
  rag_write_result r;
  return rag_kb_put(s->kb, &write, &put, &r, NULL, err);
}

static rag_status try_metadata(sweep *s, rag_error *err) {
  char metadata[32];
  rag_write_result r;
  rag_write write = {.expect_parent = S("main")};
  snprintf(metadata, sizeof metadata, "{\"round\":%u}", s->round);
  return rag_kb_set_metadata(s->kb, &write, S("stays"), 0, S(metadata), &r, err);
}

static rag_status try_branch(sweep *s, rag_error *err) {
  return rag_kb_branch_create(s->kb, &no_write, S(s->id), S("main"), NULL, err);
}

static rag_status try_tag(sweep *s, rag_error *err) {
  return rag_kb_tag_create(s->kb, &no_write, S(s->id), S("main"), NULL, err);
}

static rag_status try_branch_delete(sweep *s, rag_error *err) {
  return rag_kb_branch_delete(s->kb, S(s->id), err);
}

static rag_status try_merge(sweep *s, rag_error *err) {
  rag_write_result r;
  return rag_kb_merge(s->kb, &no_write, S("side"), S("main"), RAG_MERGE_THEIRS, &r, NULL, err);
}

static rag_status try_rollback(sweep *s, rag_error *err) {
  rag_write_result r;
  return rag_kb_rollback(s->kb, &no_write, S("main~1"), &r, err);
}

static rag_status try_search(sweep *s, rag_error *err) {
  rag_search search = {.mode = s->mode,
                       .query = S("a text of"),
                       .k = 100,
                       .want_text = true,
                       .want_metadata = true,
                       .want_vector = true,
                       .want_highlights = true};
  rag_search_result r = {0};
  rag_arena *arena = rag_arena_create(0);
  rag_status status = arena == NULL ? rag_fail_no_memory(err, 0) : RAG_OK;
  if (status == RAG_OK)
    status =
        rag_filter_parse(S("{\"must\":[{\"key\":\"odd\",\"match\":{\"value\":true}}]}"), arena, &search.filter, err);
  if (status == RAG_OK) status = rag_kb_search(s->kb, &search, &r, err);
  if (status == RAG_OK) assert_true(r.count > 0);
  rag_search_result_free(&r);
  rag_arena_destroy(arena);
  return status;
}

static rag_status try_reads(sweep *s, rag_error *err) {
  rag_status status = RAG_OK;
  rag_diff diff = {0};
  rag_document *documents = NULL;
  rag_commit_info *commits = NULL;
  uint32_t count = 0, next = 0, commit_count = 0;
  uint64_t commit = 0, below = 0;
  RAG_TRY_OUT(rag_kb_diff(s->kb, S("main"), S("main~2"), &diff, err));
  RAG_TRY_OUT(rag_kb_documents(s->kb, S("main~1"), NULL, 0, 100, &documents, &count, &next, &commit, err));
  RAG_TRY_OUT(rag_kb_log(s->kb, S("main"), 0, 20, &commits, &commit_count, &below, err));
out:
  rag_diff_free(&diff);
  for (uint32_t i = 0; i < count; i++) rag_document_free(&documents[i]);
  rag_free(documents);
  for (uint32_t i = 0; i < commit_count; i++) rag_commit_info_free(&commits[i]);
  rag_free(commits);
  return status;
}

// Every allocation that the call makes fails once. prepare makes what a round needs; writes: the call changes the store.
static void sweep_call(sweep *s, const char *name, void (*prepare)(sweep *s), attempt call, bool writes) {
  rag_error err = {0};
  unsigned failures = 0;
  for (uint64_t n = 1;; n = next_allocation(n, STRIDE)) {
    assert_true(n < 5000);
    s->round++;
    snprintf(s->id, sizeof s->id, "r%u", s->round);
    if (prepare != NULL) prepare(s);
    kb_test_footprint before = kb_test_footprint_of(s->f, s->kb);
    rag_alloc_fail_after(n);
    rag_status status = call(s, &err);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    if (status != RAG_OK) {
      failures++;
      if (!failed || status != RAG_RESOURCE_EXHAUSTED)
        fail_msg("%s, allocation %u: %s: %s", name, (unsigned)n, rag_status_name(status), err.message);
      kb_test_footprint after = kb_test_footprint_of(s->f, s->kb);
      if (!writes) after.vectors = before.vectors; // what a search has loaded stays loaded
      kb_test_same_footprint(before, after);
      status = call(s, &err);
      if (status != RAG_OK) fail_msg("%s again, allocation %u: %s", name, (unsigned)n, err.message);
    }
    if (writes) assert_true(kb_test_footprint_of(s->f, s->kb).bytes > before.bytes);
    if (!failed) break;
  }
  assert_true(failures > 0);
}

static void prepare_put(sweep *s) {
  kb_test_put(s->kb, "victim", "to be deleted");
}

static void prepare_branch(sweep *s) {
  kb_test_branch(s->kb, s->id, "main");
}

static void prepare_merge(sweep *s) {
  char text[32];
  snprintf(text, sizeof text, "text %u", s->round);
  kb_test_put_on(s->kb, "side", "merged", text, NULL);
  kb_test_put_on(s->kb, "main", "ours", text, NULL);
}

// Over the same store: opening that one anew would sync a dozen files and allocate nothing of ours that reads use.
static void close_kbs(kb_fixture *f) {
  rag_jobs_close(f->jobs);
  rag_kbs_close(f->kbs);
  f->jobs = NULL;
  f->kbs = NULL;
}

static void prepare_cold(sweep *s) { // nothing is cached or loaded
  rag_error err = {0};
  rag_ref_drop(s->kb);
  close_kbs(s->f);
  OK(rag_jobs_open(s->f->store, 0, &s->f->jobs, &err));
  OK(rag_kbs_open(s->f->store, s->f->jobs, &s->f->kbs_options, &s->f->kbs, &err));
  OK(rag_jobs_start(s->f->jobs, &err));
  s->kb = kb_test_get(s->f, "docs");
}

// What came of it all is whole: every row is in order, and each version can be listed.
static void assert_whole(sweep *s) {
  rag_error err = {0};
  rag_check_result result = {0};
  rag_ref_drop(s->kb);
  kb_test_reopen(s->f);
  s->kb = kb_test_get(s->f, "docs");
  OK(rag_kbs_check(s->f->kbs, NULL, &result, &err));
  assert_int_equal(result.errors, 0);
  uint64_t commits = kb_test_describe(s->kb).commits;
  for (uint64_t commit = 1; commit <= commits; commit++) {
    char at[16];
    rag_document *documents = NULL;
    uint32_t count = 0, next = 0;
    uint64_t seen = 0;
    snprintf(at, sizeof at, "c%u", (unsigned)commit);
    rag_status status = rag_kb_documents(s->kb, S(at), NULL, 0, 100, &documents, &count, &next, &seen, &err);
    if (status == RAG_NOT_FOUND && s->collected) continue;
    OK(status);
    for (uint32_t i = 0; i < count; i++) rag_document_free(&documents[i]);
    rag_free(documents);
  }
}

static void memory_runs_out(void **state) {
  kb_fixture *f = *state;
  sweep s = {.f = f, .kb = kb_test_new(f)};
  kb_test_put(s.kb, "stays", "stays");
  kb_test_branch(s.kb, "side", "main");
  sweep_call(&s, "create", NULL, try_create, true);
  sweep_call(&s, "put", prepare_put, try_put, true);
  sweep_call(&s, "metadata", NULL, try_metadata, true);
  sweep_call(&s, "branch", NULL, try_branch, true);
  sweep_call(&s, "tag", NULL, try_tag, true);
  sweep_call(&s, "branch delete", prepare_branch, try_branch_delete, true);
  sweep_call(&s, "merge", prepare_merge, try_merge, true);
  sweep_call(&s, "rollback", prepare_merge, try_rollback, true);
  assert_whole(&s);
  rag_ref_drop(s.kb);
}

static void memory_runs_out_while_reading(void **state) {
  kb_fixture *f = *state;
  sweep s = {.f = f, .kb = kb_test_new(f)};
  for (unsigned i = 0; i < 12; i++) {
    char id[16], text[64];
    snprintf(id, sizeof id, "d%u", i);
    snprintf(text, sizeof text, "a text of document %u.\n\nAnd more.", i);
    kb_test_put_on(s.kb, NULL, id, text, i % 2 ? "{\"odd\":true}" : "{\"odd\":false}");
  }
  f->kbs_options.load_at_open = false;
  f->kbs_options.object_cache_bytes = 0;
  for (int mode = RAG_SEARCH_VECTOR; mode <= RAG_SEARCH_HYBRID; mode++) {
    s.mode = (rag_search_mode)mode;
    sweep_call(&s, rag_search_mode_name(s.mode), prepare_cold, try_search, false);
  }
  sweep_call(&s, "reads", prepare_cold, try_reads, false);
  assert_whole(&s);
  rag_ref_drop(s.kb);
}

// A job that runs out of memory fails and says so, or goes on; whatever it left is whole, and the next one succeeds.
static void jobs_run_out_of_memory(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  sweep s = {.f = f, .kb = kb_test_new(f), .collected = true};
  unsigned failures = 0;
  kb_test_put(s.kb, "stays", "stays");
  kb_test_tag(s.kb, "kept", "main");
  for (uint64_t n = 1;; n = next_allocation(n, JOB_STRIDE)) {
    rag_job_info info = {0};
    rag_gc_options options = {.keep_commits = 2};
    uint64_t job[2] = {0};
    rag_slice id = S("victim");
    char text[32];
    assert_true(n < 20000);
    snprintf(text, sizeof text, "text %u", (unsigned)n);
    kb_test_put(s.kb, "victim", text);
    kb_test_put(s.kb, "changes", text);
    OK(rag_kb_purge(s.kb, &id, 1, &job[0], &err));
    OK(rag_kb_gc(s.kb, &options, &job[1], &err));
    rag_alloc_fail_after(n);
    rag_status status = rag_jobs_run_foreground(f->jobs, NULL, NULL, &err);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    if (status != RAG_OK) assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
    OK(rag_jobs_run_foreground(f->jobs, NULL, NULL, &err)); // one that the runner itself could not begin
    for (int i = 0; i < 2; i++) {
      OK(rag_jobs_get(f->jobs, job[i], &info, &err));
      if (info.state != RAG_JOB_SUCCEEDED && !(info.state == RAG_JOB_FAILED && failed))
        fail_msg("allocation %u: the %s is %s: %s", (unsigned)n, info.kind, rag_job_state_name(info.state), info.error);
      failures += info.state == RAG_JOB_FAILED;
      rag_job_info_free(&info);
    }
    assert_null(kb_test_text(s.kb, "", "victim"));
    assert_string_equal(kb_test_text(s.kb, "", "changes"), text);
    assert_string_equal(kb_test_text(s.kb, "kept", "stays"), "stays");
    if (!failed) break;
  }
  assert_true(failures > 0);
  assert_whole(&s);
  rag_ref_drop(s.kb);
}

static void memory_runs_out_at_open(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = make_before(f);
  kb_test_tag(kb, "tag", "main");
  rag_ref_drop(kb);
  rag_ref_drop(kb_test_create(f, "vectors", "", 4));
  for (int eager = 0; eager < 2; eager++) {
    f->kbs_options.load_at_open = eager;
    for (uint64_t n = 1;; n = next_allocation(n, STRIDE)) {
      assert_true(n < 5000);
      close_kbs(f);
      OK(rag_jobs_open(f->store, 0, &f->jobs, &err));
      rag_alloc_fail_after(n);
      rag_status status = rag_kbs_open(f->store, f->jobs, &f->kbs_options, &f->kbs, &err);
      bool failed = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      if (status != RAG_OK) {
        assert_true(failed);
        assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
        assert_null(f->kbs);
        rag_jobs_close(f->jobs);
        OK(rag_jobs_open(f->store, 0, &f->jobs, &err));
        OK(rag_kbs_open(f->store, f->jobs, &f->kbs_options, &f->kbs, &err)); // the same store, once more
      }
      OK(rag_jobs_start(f->jobs, &err));
      kb = kb_test_get(f, "docs");
      assert_reads(kb);
      rag_ref_drop(kb);
      if (!failed) break;
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(a_store_in_error),       KB_TEST(a_disk_that_refuses),
      KB_TEST(memory_runs_out),        KB_TEST(memory_runs_out_while_reading),
      KB_TEST(jobs_run_out_of_memory), KB_TEST(memory_runs_out_at_open),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
