// Goal: gc drops what nothing keeps and nothing else. Every version that is kept answers as before, merges that were
// possible stay possible, what was dropped says so, and a gc may stop or crash after any batch.
// Method: the property test makes random histories (put, delete, patch, branch, merge, rollback, tag) with a model in
// plain arrays, collects at random moments, stopping and reopening at random batches, and compares every stored version
// with the model by full listing, by exact search and by its counts; then the rows of the store are held against what
// the stored versions need. The rest are single rules.
#include "tests/kb/kb_test.h"

#include <pthread.h>

#include "kb/rewrite_internal.h"

static uint64_t seed;
static uint32_t draw(uint32_t below) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 33) % below);
}

static uint64_t submit(rag_kb *kb, uint32_t keep_commits, uint32_t keep_days) {
  rag_error err = {0};
  rag_gc_options options = {.keep_commits = keep_commits, .keep_days = keep_days};
  uint64_t job = 0;
  OK(rag_kb_gc(kb, &options, &job, &err));
  return job;
}

static const char *collect(kb_fixture *f, rag_kb *kb, uint32_t keep_commits) {
  return kb_test_job(f, submit(kb, keep_commits, 0));
}

static uint64_t number_of(const char *json, const char *field) {
  char name[64];
  snprintf(name, sizeof name, "\"%s\":", field);
  const char *at = strstr(json, name);
  assert_non_null(at);
  return strtoull(at + strlen(name), NULL, 10);
}

static uint64_t rows_of(kb_fixture *f, rag_kb *kb, rag_cf cf) {
  rag_error err = {0};
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  uint64_t count = 0;
  rag_key_init(&lower);
  rag_key_u32(&lower, cf == RAG_CF_CACHE ? kb->space : kb->id);
  assert_true(rag_key_successor(&lower, &upper));
  OK(rag_store_iter_open(f->store, NULL, cf, rag_key_slice(&lower), rag_key_slice(&upper), false, &it, &err));
  while (rag_store_iter_next(it)) {
    rag_reader r = rag_reader_of(rag_store_iter_value(it)); // cache rows are shared by kbs: of this one
    count += cf != RAG_CF_CACHE || rag_read_u32le(&r) == kb->id;
  }
  OK(rag_store_iter_status(it, &err));
  rag_store_iter_close(it);
  return count;
}

// ---------------------------------------------------------------------------------------------- the model

#define IDS 12
#define COMMITS 512
#define BRANCHES 6
#define TAGS 6

typedef struct model_version {
  bool made;
  uint16_t text[IDS];     // 0: not there
  uint16_t metadata[IDS]; // 0: none
} model_version;

typedef struct model {
  model_version versions[COMMITS];
  uint32_t parents[COMMITS][2];
  uint32_t head[BRANCHES]; // 0: no such branch; 0 is main
  uint32_t tag[TAGS];
  uint32_t next_tag;
} model;

static const char *branch_name(uint32_t branch) {
  static const char *const names[BRANCHES] = {"main", "b1", "b2", "b3", "b4", "b5"};
  return names[branch];
}

static const char *id_name(uint32_t id) {
  static char name[8];
  snprintf(name, sizeof name, "id%02u", id);
  return name;
}

static const char *text_of(uint32_t id, uint32_t text) {
  static char out[128];
  snprintf(out, sizeof out, "document %u speaks of subject s%u and of topic t%u", id, text, (text * 7 + id) % 50);
  return out;
}

static const char *metadata_of(uint32_t metadata) {
  static char out[32];
  if (metadata == 0) return "";
  snprintf(out, sizeof out, "{\"m\":%u}", metadata);
  return out;
}

static uint32_t any_branch(const model *m) {
  uint32_t branch;
  do branch = draw(BRANCHES);
  while (m->head[branch] == 0);
  return branch;
}

static void made(model *m, uint32_t branch, const rag_write_result *result, const model_version *now,
                 uint32_t other_parent) {
  if (!result->committed) {
    assert_int_equal(result->commit, m->head[branch]);
    return;
  }
  assert_true(result->commit < COMMITS);
  m->versions[result->commit] = *now;
  m->versions[result->commit].made = true;
  m->parents[result->commit][0] = m->head[branch];
  m->parents[result->commit][1] = other_parent;
  m->head[branch] = (uint32_t)result->commit;
}

static bool stored(rag_kb *kb, uint32_t commit) {
  rag_error err = {0};
  rag_version *version = NULL;
  char ref[16];
  snprintf(ref, sizeof ref, "c%u", commit);
  rag_status status = rag_kb_resolve(kb, S(ref), &version, &err);
  rag_ref_drop(version);
  if (status == RAG_OK) return true;
  assert_int_equal(status, RAG_NOT_FOUND);
  assert_non_null(strstr(err.message, "dropped by gc"));
  return false;
}

// A stored commit, now and then any, to branch from or to roll back to.
static uint32_t any_commit(rag_kb *kb, const model *m) {
  rag_kb__view *view = rag_cell_get(&kb->view);
  uint32_t newest = view->state.next_commit - 1;
  rag_ref_drop(view);
  for (int tries = 0; tries < 20; tries++) {
    uint32_t commit = 1 + draw(newest);
    if (stored(kb, commit)) return commit;
  }
  return m->head[0];
}

static void act(rag_kb *kb, model *m) {
  rag_error err = {0};
  rag_write write = {0};
  rag_write_result result = {0};
  uint32_t branch = any_branch(m), id = draw(IDS), kind = draw(100), other = 0;
  model_version now = m->versions[m->head[branch]];
  char ref[16];
  if (kind < 50) {
    now.text[id] = (uint16_t)(1 + draw(6)); // few texts: they come back
    now.metadata[id] = (uint16_t)draw(3);
    result =
        kb_test_put_on(kb, branch_name(branch), id_name(id), text_of(id, now.text[id]), metadata_of(now.metadata[id]));
  } else if (kind < 62) {
    now.text[id] = now.metadata[id] = 0;
    result = kb_test_delete_on(kb, branch_name(branch), id_name(id));
  } else if (kind < 74) {
    if (now.text[id] == 0) return;
    now.metadata[id] = (uint16_t)draw(4);
    result = kb_test_patch_on(kb, branch_name(branch), id_name(id), metadata_of(now.metadata[id]));
  } else if (kind < 80) {
    uint32_t free_branch = 0;
    while (free_branch < BRANCHES && m->head[free_branch] != 0) free_branch++;
    if (free_branch == BRANCHES) { // then one goes instead
      uint32_t gone = 1 + draw(BRANCHES - 1);
      OK(rag_kb_branch_delete(kb, S(branch_name(gone)), &err));
      m->head[gone] = 0;
      return;
    }
    uint32_t from = any_commit(kb, m);
    snprintf(ref, sizeof ref, "c%u", from);
    kb_test_branch(kb, branch_name(free_branch), ref);
    m->head[free_branch] = from;
    return;
  } else if (kind < 88) {
    // Theirs wins: the model's own three-way merge, with its own search for the newest common ancestor that is stored.
    uint32_t from_branch = any_branch(m);
    if (from_branch == branch) return;
    rag_status status = rag_kb_merge(kb, &write, S(branch_name(from_branch)), S(branch_name(branch)), RAG_MERGE_THEIRS,
                                     &result, NULL, &err);
    uint32_t from = m->head[from_branch], into = m->head[branch], base = 0;
    bool reach[2][COMMITS] = {{0}};
    reach[0][from] = reach[1][into] = true;
    for (uint32_t c = COMMITS - 1; c > 0 && base == 0; c--) {
      if (reach[0][c] && reach[1][c] && stored(kb, c)) base = c;
      for (int s = 0; s < 2; s++)
        for (int p = 0; p < 2; p++)
          if (reach[s][c]) reach[s][m->parents[c][p]] = true;
    }
    if (base == 0) {
      assert_int_equal(status, RAG_FAILED_PRECONDITION);
      return;
    }
    if (status != RAG_OK) fail_msg("merge of heads c%u, c%u (base c%u): %s", from, into, base, err.message);
    for (uint32_t i = 0; i < IDS; i++) {
      const model_version *b = &m->versions[base], *t = &m->versions[from];
      if (t->text[i] == b->text[i] && t->metadata[i] == b->metadata[i]) continue;
      now.text[i] = t->text[i];
      now.metadata[i] = t->metadata[i];
    }
    other = from;
  } else if (kind < 94) {
    uint32_t to = any_commit(kb, m);
    snprintf(ref, sizeof ref, "c%u", to);
    now = m->versions[to];
    result = kb_test_rollback(kb, branch_name(branch), ref);
  } else {
    uint32_t slot = draw(TAGS);
    char name[16];
    snprintf(name, sizeof name, "tag%u", slot);
    if (m->tag[slot] != 0) OK(rag_kb_tag_delete(kb, S(name), &err));
    m->tag[slot] = any_commit(kb, m);
    snprintf(ref, sizeof ref, "c%u", m->tag[slot]);
    kb_test_tag(kb, name, ref);
    return;
  }
  made(m, branch, &result, &now, other);
}

static void check_listing(rag_kb *kb, const char *ref, const model_version *v) {
  rag_error err = {0};
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0, expected = 0;
  uint64_t commit = 0;
  OK(rag_kb_documents(kb, S(ref), NULL, 0, 1000, &documents, &count, &next, &commit, &err));
  for (uint32_t id = 0; id < IDS; id++) expected += v->text[id] != 0;
  assert_int_equal(count, expected);
  for (uint32_t i = 0; i < count; i++) {
    char name[8];
    unsigned id = IDS;
    assert_true(documents[i].id.size == 4);
    memcpy(name, documents[i].id.data, 4);
    name[4] = '\0';
    assert_int_equal(sscanf(name, "id%u", &id), 1);
    assert_true(id < IDS && v->text[id] != 0);
    assert_true(rag_slice_equal(documents[i].text, S(text_of(id, v->text[id]))));
    assert_true(rag_slice_equal(documents[i].metadata, S(metadata_of(v->metadata[id]))));
    rag_document_free(&documents[i]);
  }
  rag_free(documents);
}

// Every live document once (each is one chunk), with its text and metadata, and the best hit is the query's own.
static void check_search(rag_kb *kb, const char *ref, const model_version *v) {
  rag_error err = {0};
  rag_search_result result = {0};
  uint32_t wanted = draw(IDS), expected = 0;
  char query[128];
  snprintf(query, sizeof query, "%s", text_of(wanted, v->text[wanted] ? v->text[wanted] : 1u));
  rag_search search = {
      .query = S(query), .k = 100, .at = S(ref), .exact = true, .want_text = true, .want_metadata = true};
  OK(rag_kb_search(kb, &search, &result, &err));
  for (uint32_t id = 0; id < IDS; id++) expected += v->text[id] != 0;
  assert_int_equal(result.count, expected);
  for (uint32_t i = 0; i < result.count; i++) {
    const rag_hit *hit = &result.hits[i];
    unsigned id = (unsigned)(hit->document_id.data[2] - '0') * 10 + (unsigned)(hit->document_id.data[3] - '0');
    assert_true(id < IDS && v->text[id] != 0);
    assert_true(rag_slice_equal(hit->text, S(text_of(id, v->text[id]))));
    assert_true(rag_slice_equal(hit->metadata, S(metadata_of(v->metadata[id]))));
    if (i == 0 && v->text[wanted] != 0) assert_true(rag_slice_equal(hit->text, S(query)));
  }
  rag_search_result_free(&result);
}

static uint32_t check_versions(rag_kb *kb, const model *m) {
  rag_error err = {0};
  uint32_t count = 0;
  for (uint32_t commit = 1; commit < COMMITS; commit++) {
    char ref[16];
    if (!m->versions[commit].made || !stored(kb, commit)) continue;
    snprintf(ref, sizeof ref, "c%u", commit);
    check_listing(kb, ref, &m->versions[commit]);
    check_search(kb, ref, &m->versions[commit]);
    rag_commit_info info = {0};
    rag_version *version = NULL;
    OK(rag_kb_commit_get(kb, S(ref), &info, &err));
    OK(rag_kb_resolve(kb, S(ref), &version, &err));
    assert_int_equal(info.documents, rag_version_documents(version));
    assert_int_equal(info.chunks, rag_version_chunks(version));
    rag_ref_drop(version);
    rag_commit_info_free(&info);
    count++;
  }
  return count;
}

// What must be kept: heads, tags, the newest `keep` of each branch, and the base of each two heads; of what was stored
// before.
static void check_kept(rag_kb *kb, const model *m, uint32_t keep, const bool *before) {
  bool reach[BRANCHES][COMMITS] = {{0}};
  for (uint32_t b = 0; b < BRANCHES; b++) {
    uint32_t at = m->head[b];
    for (uint32_t i = 0; i < keep && before[at]; i++, at = m->parents[at][0]) assert_true(stored(kb, at));
    reach[b][m->head[b]] = true;
    for (uint32_t c = COMMITS - 1; c > 0; c--)
      if (reach[b][c]) reach[b][m->parents[c][0]] = reach[b][m->parents[c][1]] = true;
  }
  for (uint32_t t = 0; t < TAGS; t++)
    if (m->tag[t] != 0) assert_true(stored(kb, m->tag[t]));
  for (uint32_t a = 0; a < BRANCHES; a++)
    for (uint32_t b = 0; b < a; b++) {
      if (m->head[a] == 0 || m->head[b] == 0) continue;
      uint32_t c = COMMITS - 1;
      while (c > 0 && !(reach[a][c] && reach[b][c] && before[c])) c--;
      assert_true(c == 0 || stored(kb, c));
    }
}

// No row is left that no stored version needs: the revisions of the store are the union of what the versions have.
static void check_rows(kb_fixture *f, rag_kb *kb, const model *m) {
  rag_error err = {0};
  rag_bitmap_edit *union_of = rag_bitmap_edit_create(NULL);
  rag_bitmap *needed = NULL;
  uint64_t contents = 0;
  for (uint32_t commit = 1; commit < COMMITS; commit++) {
    if (!m->versions[commit].made || !stored(kb, commit)) continue;
    rag_version *version = NULL;
    OK(rag_kb__version(kb, NULL, commit, &version, &err));
    assert_int_equal(rag_bitmap_edit_or(union_of, version->revisions), RAG_OK);
    rag_ref_drop(version);
  }
  assert_int_equal(rag_bitmap_edit_finish(union_of, &needed), RAG_OK);
  assert_int_equal(rows_of(f, kb, RAG_CF_REVISION), rag_bitmap_count(needed));
  assert_int_equal(rows_of(f, kb, RAG_CF_DOCUMENT), rag_bitmap_count(needed));
  rag_bitmap_edit *seen = rag_bitmap_edit_create(NULL);
  for (uint32_t r = 0; rag_bitmap_next(needed, r + 1, &r);) {
    rag_document document = {0};
    OK(rag_kb_revision_get(kb, r, &document, &err));
    contents += !rag_bitmap_edit_has(seen, document.content);
    assert_int_equal(rag_bitmap_edit_add(seen, document.content), RAG_OK);
    rag_document_free(&document);
  }
  rag_bitmap_edit_destroy(seen);
  rag_ref_drop(needed);
  assert_int_equal(rows_of(f, kb, RAG_CF_CONTENT), contents);
  assert_int_equal(rows_of(f, kb, RAG_CF_CHUNK), contents);
  assert_int_equal(rows_of(f, kb, RAG_CF_VECTOR), contents);
  assert_true(rows_of(f, kb, RAG_CF_CACHE) <= contents);
  rag_index_view *view = rag_index_pin(kb->index);
  assert_int_equal(rag_index_view_rows(view), contents);
  rag_ref_drop(view);
}

typedef struct stopper {
  kb_fixture *f;
  uint32_t checkpoints_left;
} stopper;

static void stop_after(void *ctx, const rag_job_info *info) {
  stopper *s = ctx;
  rag_error err = {0};
  if (s->checkpoints_left > 0 && --s->checkpoints_left == 0) OK(rag_jobs_pause(s->f->jobs, info->id, &err));
}

// Runs a gc that is stopped after a few batches, each time with everything closed and opened again and every version
// compared, until it is done.
static void collect_in_steps(kb_fixture *f, rag_kb **kb, const model *m, uint32_t keep) {
  rag_error err = {0};
  uint64_t job = submit(*kb, keep, 0);
  for (;;) {
    rag_job_info info = {0};
    stopper s = {f, 1 + draw(4)};
    OK(rag_jobs_run_foreground(f->jobs, stop_after, &s, &err));
    OK(rag_jobs_get(f->jobs, job, &info, &err));
    rag_job_state state = info.state;
    if (state == RAG_JOB_FAILED) fail_msg("gc: %s", info.error);
    rag_job_info_free(&info);
    if (draw(2) == 0 || state == RAG_JOB_SUCCEEDED) {
      rag_ref_drop(*kb);
      kb_test_reopen(f);
      *kb = kb_test_get(f, "docs");
    }
    check_versions(*kb, m);
    if (state == RAG_JOB_SUCCEEDED) return;
    assert_int_equal(state, RAG_JOB_PAUSED);
    OK(rag_jobs_resume(f->jobs, job, &err));
  }
}

static void histories_keep_their_versions(void **state) {
  kb_fixture *f = *state;
  const char *rounds = getenv("RAGD_TEST_GC_ROUNDS");
  for (int round = 0; round < (rounds ? atoi(rounds) : 6); round++) {
    seed = (uint64_t)round * 977 + 5;
    model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    rag_kb *kb = kb_test_new(f);
    m->head[0] = 1;
    m->versions[1].made = true;
    for (int collections = 0; collections < 4; collections++) {
      for (uint32_t i = 20 + draw(60); i > 0; i--) act(kb, m);
      uint32_t keep = 1 + draw(6);
      rag_kb__gc_batch = 1 + draw(5);
      bool before[COMMITS] = {false};
      for (uint32_t c = 1; c < COMMITS; c++) before[c] = m->versions[c].made && stored(kb, c);
      if (draw(2) == 0) collect_in_steps(f, &kb, m, keep);
      else collect(f, kb, keep);
      check_versions(kb, m);
      check_kept(kb, m, keep, before);
      check_rows(f, kb, m);
    }
    uint64_t job = 0;
    rag_error err = {0};
    rag_ref_drop(kb);
    OK(rag_kbs_delete(f->kbs, S("docs"), &job, &err));
    kb_test_job(f, job);
    free(m);
  }
  rag_kb__gc_batch = 1024;
}

// ---------------------------------------------------------------------------------------------- single rules

static void merges_survive(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_commit_info *log = NULL;
  uint32_t count = 0;
  uint64_t next = 0;
  kb_test_put(kb, "both", "as it was at the base");
  kb_test_put(kb, "main", "on main");
  kb_test_branch(kb, "side", "main");
  for (int i = 0; i < 30; i++) {
    char text[32];
    snprintf(text, sizeof text, "state %d", i);
    kb_test_put(kb, "main", text);
    kb_test_put_on(kb, "side", "side", text, NULL);
  }
  const char *result = collect(f, kb, 1);
  // 63 commits; of c1..c3 the base (c3) stays, of main and side the heads.
  assert_int_equal(number_of(result, "commits_dropped"), 60);
  assert_int_equal(number_of(result, "revisions_removed"), 58); // of 62; "on main" is alive at the base
  assert_int_equal(number_of(result, "contents_removed"), 58);
  assert_true(number_of(result, "text_bytes_removed") > 58 * 6);
  assert_int_equal(number_of(result, "vector_bytes_removed"), 58 * 32 * 4);
  OK(rag_kb_log(kb, S("main"), 0, 100, &log, &count, &next, &err));
  assert_int_equal(count, 1); // history before is cut
  assert_int_equal(next, 0);
  rag_commit_info_free(&log[0]);
  rag_free(log);
  rag_write_result merged = kb_test_merge(kb, "side", "main", RAG_MERGE_FAIL);
  assert_int_equal(merged.added, 1);
  assert_string_equal(kb_test_text(kb, "main", "main"), "state 29");
  assert_string_equal(kb_test_text(kb, "main", "side"), "state 29");
  rag_ref_drop(kb);
}

// A tag is no head, so its merge base with main may go; then the next kept one behind it is theirs.
static void a_merge_finds_the_base_behind_a_dropped_one(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "both", "as it was at the base"); // c2
  kb_test_tag(kb, "old", "main");
  kb_test_put(kb, "main", "on main"); // c3
  kb_test_branch(kb, "side", "main");
  kb_test_put_on(kb, "side", "side", "aside", NULL); // c4
  kb_test_tag(kb, "kept", "side");
  OK(rag_kb_branch_delete(kb, S("side"), &err));
  kb_test_put(kb, "more", "on main too"); // c5
  const char *result = collect(f, kb, 1);
  assert_int_equal(number_of(result, "commits_dropped"), 2); // c1 and c3
  rag_write_result merged = kb_test_merge(kb, "kept", "main", RAG_MERGE_FAIL);
  assert_int_equal(merged.added, 1);
  assert_int_equal(merged.changed + merged.removed, 0);
  assert_string_equal(kb_test_text(kb, "main", "side"), "aside");
  assert_string_equal(kb_test_text(kb, "main", "more"), "on main too");
  rag_ref_drop(kb);
}

static void dropped_refs_say_so(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_write write = {0};
  rag_version *version = NULL;
  char at[64], time[RAG_TIME_TEXT_MAX];
  rag_clock_set_for_test(INT64_C(1700000000000000));
  rag_kb *kb = kb_test_new(f);
  for (int i = 1; i <= 20; i++) { // c2 at +1 s, c3 at +2 s ...
    char text[32];
    snprintf(text, sizeof text, "state %d", i);
    rag_clock_set_for_test(INT64_C(1700000000000000) + i * INT64_C(1000000));
    kb_test_put(kb, "d", text);
  }
  kb_test_tag(kb, "kept", "c6");
  collect(f, kb, 3);
  for (int second = 0; second <= 20; second++) {
    rag_time_format(INT64_C(1700000000000000) + second * INT64_C(1000000) + 1, time);
    snprintf(at, sizeof at, "main@%s", time);
    if (second == 5 || second >= 18) { // c6 and the newest three
      OK(rag_kb_resolve(kb, S(at), &version, &err));
      assert_int_equal(rag_version_commit(version), second + 1);
      rag_ref_drop(version);
    } else {
      FAILS(rag_kb_resolve(kb, S(at), &version, &err), RAG_NOT_FOUND, "dropped by gc");
    }
  }
  rag_time_format(INT64_C(1699999999000000), time);
  snprintf(at, sizeof at, "main@%s", time);
  FAILS(rag_kb_resolve(kb, S(at), &version, &err), RAG_NOT_FOUND, "did not exist");
  FAILS(rag_kb_resolve(kb, S("c9"), &version, &err), RAG_NOT_FOUND, "dropped by gc");
  FAILS(rag_kb_resolve(kb, S("main~3"), &version, &err), RAG_NOT_FOUND, "dropped by gc");
  FAILS(rag_kb_branch_create(kb, &write, S("b"), S("c9"), NULL, &err), RAG_NOT_FOUND, "dropped by gc");
  rag_write_result result;
  FAILS(rag_kb_rollback(kb, &write, S("c9"), &result, &err), RAG_NOT_FOUND, "dropped by gc");
  assert_string_equal(kb_test_text(kb, "kept", "d"), "state 5");
  // Days: everything is younger than one, then older.
  kb_test_job(f, submit(kb, 1, 1));
  OK(rag_kb_resolve(kb, S("main~2"), &version, &err));
  rag_ref_drop(version);
  rag_clock_set_for_test(INT64_C(1700000000000000) + INT64_C(2) * 24 * 3600 * 1000000);
  kb_test_job(f, submit(kb, 0, 1));
  FAILS(rag_kb_resolve(kb, S("main~1"), &version, &err), RAG_NOT_FOUND, "dropped by gc");
  assert_string_equal(kb_test_text(kb, "main", "d"), "state 20");
  kb_test_job(f, submit(kb, UINT32_MAX, UINT32_MAX)); // no overflow
  rag_clock_set_for_test(0);
  rag_gc_options none = {0};
  uint64_t job = 0;
  FAILS(rag_kb_gc(kb, &none, &job, &err), RAG_INVALID_ARGUMENT, "keep_commits");
  rag_ref_drop(kb);
}

#define REVIVED 20

typedef struct reviver {
  rag_kb *kb;
  int state[REVIVED], steps;
} reviver;

static const char *revived_text(int document, int state) {
  static char text[64];
  snprintf(text, sizeof text, "paper p%d is in state s%d", document, state); // no two with the same words
  return text;
}

static void revive(void *ctx, const rag_job_info *info) {
  reviver *r = ctx;
  char id[8];
  int document = (int)draw(REVIVED);
  if (info->done == 0) return; // commits are still being dropped
  r->steps++;
  r->state[document] = (int)draw(2);
  snprintf(id, sizeof id, "d%d", document);
  kb_test_put(r->kb, id, revived_text(document, r->state[document]));
}

// After every batch a write takes back an older state of some document: where gc has not come by yet its rows are there,
// are named by a new commit, and must stay.
static void revived_rows_stay(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  reviver r = {.kb = kb_test_new(f)};
  char id[8];
  rag_kb__gc_batch = 1;
  seed = 4711;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 2 * REVIVED; i++) {
      snprintf(id, sizeof id, "d%d", i / 2);
      r.state[i / 2] = i % 2;
      kb_test_put(r.kb, id, revived_text(i / 2, i % 2));
    }
    uint64_t job = submit(r.kb, 1, 0);
    OK(rag_jobs_run_foreground(f->jobs, revive, &r, &err));
    kb_test_job(f, job);
    for (int opened = 0; opened < 2; opened++) {
      for (int i = 0; i < REVIVED; i++) {
        snprintf(id, sizeof id, "d%d", i);
        const char *text = kb_test_text(r.kb, "main", id);
        assert_non_null(text);
        assert_string_equal(text, revived_text(i, r.state[i]));
        assert_string_equal(kb_test_search(r.kb, "main", revived_text(i, r.state[i]), 1), id);
      }
      rag_ref_drop(r.kb);
      kb_test_reopen(f);
      r.kb = kb_test_get(f, "docs");
    }
  }
  assert_true(r.steps > REVIVED); // it came in between
  rag_kb__gc_batch = 1024;
  rag_ref_drop(r.kb);
}

// ---------------------------------------------------------------------------------------------- memory

#define RENEWED 800

static void renew_all(rag_kb *kb, int round) {
  static char ids[RENEWED][8], texts[RENEWED][48];
  static rag_document_input inputs[RENEWED];
  rag_error err = {0};
  rag_write_result result = {0};
  rag_write write = {0};
  rag_put put = {.documents = inputs, .document_count = RENEWED};
  for (int i = 0; i < RENEWED; i++) {
    snprintf(ids[i], sizeof ids[i], "d%d", i);
    snprintf(texts[i], sizeof texts[i], "paper %d in state %d", i, round);
    inputs[i] = (rag_document_input){.id = S(ids[i]), .text = S(texts[i]), .metadata = S("{\"kind\":1}")};
  }
  OK(rag_kb_put(kb, &write, &put, &result, NULL, &err));
}

// Numbers are never given again, so what is indexed by number must go with what it stood for: the memory of a kb is that
// of what is stored, whatever came and went.
static void memory_goes_with_the_rows(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  rag_kbs_stats stats, first = {0};
  const uint64_t block = sizeof(rag_kb__chunk_block) + sizeof(rag_kb__revision_block) + sizeof(rag_kb__newest_block);
  for (int round = 0; round < 24; round++) {
    renew_all(kb, round);
    assert_string_equal(kb_test_search(kb, "main", "paper 7", 1), "d7"); // loads
    collect(f, kb, 1);
    rag_kbs_stats_get(f->kbs, &stats);
    if (round == 3) first = stats;
    if (round < 4) continue;
    assert_true(stats.table_bytes <= 2 * block); // 800 rows lie in two blocks at most, 19,200 in five
    assert_true(stats.vector_bytes <= 2 * first.vector_bytes);
    assert_true(stats.word_bytes <= 2 * first.word_bytes);
    assert_true(stats.field_bytes <= 2 * first.field_bytes);
  }
  assert_int_equal(rows_of(f, kb, RAG_CF_REVISION), RENEWED);
  rag_ref_drop(kb);
}

// What keeps a search from missing, without a sign, the rows of a version that gc drops while it runs.
static void a_dropped_version_is_noticed(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  rag_error err = {0};
  rag_version *old = NULL, *head = NULL;
  renew_all(kb, 0);
  renew_all(kb, 1);
  uint64_t mark = rag_kb__history_mark(kb);
  OK(rag_kb_resolve(kb, S("main~1"), &old, &err));
  OK(rag_kb_resolve(kb, S("main"), &head, &err));
  OK(rag_kb__still_kept(kb, mark, old, &err));
  collect(f, kb, 1);
  OK(rag_kb__still_kept(kb, mark, head, &err));
  assert_int_equal(rag_kb__still_kept(kb, mark, old, &err), RAG_NOT_FOUND);
  rag_ref_drop(old);
  rag_ref_drop(head);
  rag_ref_drop(kb);
}

typedef struct writer {
  rag_kb *kb;
  int number;
  _Atomic bool *stop;
} writer;

// Three states of one document that come back all the time: each put finds rows that gc is about to remove.
static void *write_main(void *arg) {
  writer *w = arg;
  char id[8], branch[8], text[64];
  snprintf(id, sizeof id, "w%d", w->number);
  snprintf(branch, sizeof branch, "b%d", w->number);
  for (int i = 0; i < 200; i++) {
    snprintf(text, sizeof text, "writer %d in state %d", w->number, i % 3);
    kb_test_put_on(w->kb, NULL, id, text, i % 2 ? "{\"a\":1}" : NULL);
    if (i % 10 == 0) kb_test_branch(w->kb, branch, "main~");
    if (i % 10 == 5) kb_test_rollback(w->kb, branch, "main");
    if (i % 10 == 9) {
      rag_error err = {0};
      OK(rag_kb_branch_delete(w->kb, S(branch), &err));
    }
    const char *seen = kb_test_search(w->kb, "main", text, 1);
    assert_true(seen[0] == 'w');
  }
  return NULL;
}

static void *collect_main(void *arg) {
  writer *w = arg;
  rag_error err = {0};
  while (!atomic_load(w->stop)) {
    rag_job_info info = {0};
    OK(rag_jobs_wait(w->kb->kbs->jobs, submit(w->kb, 2, 0), 60000, &info, &err));
    if (info.state != RAG_JOB_SUCCEEDED) fail_msg("gc: %s", info.error);
    rag_job_info_free(&info);
  }
  return NULL;
}

// One writer, whose main~ the window of two keeps, and gc after gc.
static void writers_and_gc_cross(void **state) {
  kb_fixture *f = *state;
  pthread_t threads[2];
  _Atomic bool stop = false;
  kb_test_close(f);
  f->job_threads = 1;
  kb_test_open(f);
  rag_kb__gc_batch = 2;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "w9", "a first document");
  kb_test_put(kb, "w9", "and its second state");
  writer w[2] = {{kb, 0, &stop}, {kb, 1, &stop}};
  pthread_create(&threads[0], NULL, write_main, &w[0]);
  pthread_create(&threads[1], NULL, collect_main, &w[1]);
  pthread_join(threads[0], NULL);
  atomic_store(&stop, true);
  pthread_join(threads[1], NULL);
  rag_kb__gc_batch = 1024;
  assert_string_equal(kb_test_text(kb, "main", "w0"), "writer 0 in state 1");
  rag_ref_drop(kb);
  kb_test_reopen(f);
  kb = kb_test_get(f, "docs");
  assert_string_equal(kb_test_text(kb, "main", "w0"), "writer 0 in state 1");
  assert_string_equal(kb_test_search(kb, "main", "writer 0 in state 1", 1), "w0");
  rag_ref_drop(kb);
}

// Two of one kb, as when one is asked for again that a restart takes up: neither fails for it.
static void one_waits_for_the_other(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  kb_test_close(f);
  f->job_threads = 2;
  kb_test_open(f);
  rag_kb *kb = kb_test_new(f);
  for (uint32_t i = 0; i < 20; i++) kb_test_put(kb, "a", i % 2 ? "one state" : "another state");
  atomic_store(&kb->collecting, true); // as if one were at it
  uint64_t jobs[2] = {submit(kb, 2, 0), submit(kb, 1, 0)};
  rag_job_info info = {0};
  assert_int_equal(rag_jobs_wait(f->jobs, jobs[0], 50, &info, &err), RAG_DEADLINE_EXCEEDED);
  atomic_store(&kb->collecting, false);
  (void)kb_test_job(f, jobs[0]);
  (void)kb_test_job(f, jobs[1]);
  assert_string_equal(kb_test_text(kb, "main", "a"), "one state");
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(histories_keep_their_versions), KB_TEST(merges_survive),
      KB_TEST(dropped_refs_say_so),           KB_TEST(revived_rows_stay),
      KB_TEST(memory_goes_with_the_rows),     KB_TEST(writers_and_gc_cross),
      KB_TEST(a_dropped_version_is_noticed),  KB_TEST(a_merge_finds_the_base_behind_a_dropped_one),
      KB_TEST(one_waits_for_the_other),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
