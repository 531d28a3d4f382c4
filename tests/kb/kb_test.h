// Helpers of tests/kb: a store, its jobs (run in the foreground) and its knowledge bases in a fresh directory; one-line
// puts, deletions and look-ups that fail the test with the message when they fail.
#ifndef RAGD_TESTS_KB_TEST_H
#define RAGD_TESTS_KB_TEST_H

#include "kb/kb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

// RAG_OK, or the test fails with the message. `err` must be in scope.
#define OK(expr)                                                                                                       \
  do {                                                                                                                 \
    rag_status ok_status_ = (expr);                                                                                    \
    if (ok_status_ != RAG_OK)                                                                                          \
      fail_msg("%s:%d: %s: %s: %s", __FILE__, __LINE__, #expr, rag_status_name(ok_status_), err.message);              \
  } while (0)
// A status that is not RAG_OK, and a message that contains `part` (NULL: any, but not empty).
#define FAILS(expr, expected, part)                                                                                    \
  do {                                                                                                                 \
    err = (rag_error){0};                                                                                              \
    rag_status fails_status_ = (expr);                                                                                 \
    const char *fails_part_ = (part);                                                                                  \
    if (fails_status_ != (expected))                                                                                   \
      fail_msg("%s:%d: %s: %s instead of %s: %s", __FILE__, __LINE__, #expr, rag_status_name(fails_status_),           \
               rag_status_name(expected), err.message);                                                                \
    if (err.message[0] == '\0' || (fails_part_ != NULL && strstr(err.message, fails_part_) == NULL))                   \
      fail_msg("%s:%d: %s: the message does not say '%s': %s", __FILE__, __LINE__, #expr,                              \
               fails_part_ ? fails_part_ : "", err.message);                                                           \
  } while (0)
#define S(text) rag_slice_str(text)

typedef struct kb_fixture {
  char dir[256];
  rag_store_options store_options;
  rag_kbs_options kbs_options;
  unsigned job_threads; // 0: jobs run in kb_test_jobs
  rag_store *store;
  rag_jobs *jobs;
  rag_kbs *kbs;
} kb_fixture;

static inline void kb_test_open(kb_fixture *f) {
  rag_error err = {0};
  OK(rag_store_open(f->dir, &f->store_options, &f->store, &err));
  OK(rag_jobs_open(f->store, f->job_threads, &f->jobs, &err));
  OK(rag_kbs_open(f->store, f->jobs, &f->kbs_options, &f->kbs, &err));
  OK(rag_jobs_start(f->jobs, &err));
}

// Every rag_kb and rag_version must have been dropped.
static inline void kb_test_close(kb_fixture *f) {
  rag_jobs_close(f->jobs);
  rag_kbs_close(f->kbs);
  rag_store_close(f->store);
  f->jobs = NULL;
  f->kbs = NULL;
  f->store = NULL;
}

static inline void kb_test_reopen(kb_fixture *f) {
  kb_test_close(f);
  kb_test_open(f);
}

// Small buffers, and no syncs: these tests do not cut the power.
static inline int kb_test_setup(void **state) {
  kb_fixture *f = calloc(1, sizeof *f);
  const char *base = getenv("TMPDIR");
  assert_non_null(f);
  snprintf(f->dir, sizeof f->dir, "%s/ragd-kb-XXXXXX", base != NULL ? base : "/tmp");
  assert_non_null(mkdtemp(f->dir));
  f->store_options = rag_store_options_default();
  f->store_options.cache_bytes = 8u << 20;
  f->store_options.write_buffer_bytes = 8u << 20;
  f->store_options.sync = false;
  f->kbs_options = rag_kbs_options_default();
  f->kbs_options.seal_rows = 24; // so that there are segments in every test
  f->kbs_options.graph_rows = 200;
  f->kbs_options.object_cache_bytes = 4u << 20;
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  kb_test_open(f);
  *state = f;
  return 0;
}

static inline int kb_test_teardown(void **state) {
  kb_fixture *f = *state;
  if (f->store != NULL) kb_test_close(f);
  rag_status status = rag_os_remove_tree(f->dir, NULL);
  free(f);
  return status == RAG_OK ? 0 : -1;
}
#define KB_TEST(name) cmocka_unit_test_setup_teardown(name, kb_test_setup, kb_test_teardown)

// ---------------------------------------------------------------------------------------------- knowledge bases

// model "hash-32", or "" for client vectors of `dimension`. *out: a reference.
static inline rag_kb *kb_test_create(kb_fixture *f, const char *name, const char *model, uint32_t dimension) {
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb *kb = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "%s", name);
  snprintf(config.model, sizeof config.model, "%s", model);
  if (dimension != 0) config.dimension = dimension;
  OK(rag_kbs_create(f->kbs, &config, &write, &kb, &err));
  return kb;
}

static inline rag_kb *kb_test_get(kb_fixture *f, const char *name) {
  rag_error err = {0};
  rag_kb *kb = NULL;
  OK(rag_kbs_get(f->kbs, S(name), &kb, &err));
  return kb;
}

static inline rag_kb *kb_test_new(kb_fixture *f) { // a kb "docs" that embeds with hash-32
  return kb_test_create(f, "docs", "hash-32", 0);
}

// ---------------------------------------------------------------------------------------------- writes

static inline rag_write_result kb_test_put_input(rag_kb *kb, const char *branch, const rag_document_input *in) {
  rag_error err = {0};
  rag_write_result result = {0};
  rag_write write = {.branch = S(branch)};
  rag_put put = {.documents = in, .document_count = 1};
  OK(rag_kb_put(kb, &write, &put, &result, NULL, &err));
  return result;
}

// One document on a branch ("" or NULL: main); the result's commit is the head after it.
static inline rag_write_result kb_test_put_on(rag_kb *kb, const char *branch, const char *id, const char *text,
                                              const char *metadata) {
  rag_document_input in = {.id = S(id), .text = S(text), .metadata = S(metadata)};
  return kb_test_put_input(kb, branch, &in);
}

static inline rag_write_result kb_test_put(rag_kb *kb, const char *id, const char *text) {
  return kb_test_put_on(kb, NULL, id, text, NULL);
}

static inline rag_write_result kb_test_delete_on(rag_kb *kb, const char *branch, const char *id) {
  rag_error err = {0};
  rag_write_result result = {0};
  rag_slice ids[1] = {S(id)};
  rag_write write = {.branch = S(branch)};
  rag_put put = {.delete_ids = ids, .delete_count = 1};
  OK(rag_kb_put(kb, &write, &put, &result, NULL, &err));
  return result;
}

static inline rag_write_result kb_test_patch_on(rag_kb *kb, const char *branch, const char *id, const char *metadata) {
  rag_error err = {0};
  rag_write_result result = {0};
  rag_write write = {.branch = S(branch)};
  OK(rag_kb_set_metadata(kb, &write, S(id), 0, S(metadata), &result, &err));
  return result;
}

static inline void kb_test_branch(rag_kb *kb, const char *name, const char *from) {
  rag_error err = {0};
  rag_write write = {0};
  OK(rag_kb_branch_create(kb, &write, S(name), S(from), NULL, &err));
}

static inline void kb_test_tag(rag_kb *kb, const char *name, const char *from) {
  rag_error err = {0};
  rag_write write = {0};
  OK(rag_kb_tag_create(kb, &write, S(name), S(from), NULL, &err));
}

static inline rag_write_result kb_test_merge(rag_kb *kb, const char *from, const char *into,
                                             rag_merge_strategy strategy) {
  rag_error err = {0};
  rag_write_result result = {0};
  rag_write write = {0};
  OK(rag_kb_merge(kb, &write, S(from), S(into), strategy, &result, NULL, &err));
  return result;
}

static inline rag_write_result kb_test_rollback(rag_kb *kb, const char *branch, const char *to) {
  rag_error err = {0};
  rag_write_result result = {0};
  rag_write write = {.branch = S(branch)};
  OK(rag_kb_rollback(kb, &write, S(to), &result, &err));
  return result;
}

// ---------------------------------------------------------------------------------------------- reads

// The document's text at a ref, in a static buffer; NULL: it is not there.
static inline const char *kb_test_text(rag_kb *kb, const char *at, const char *id) {
  static char text[4096];
  rag_error err = {0};
  rag_document document = {0};
  rag_status status = rag_kb_document_get(kb, S(at), S(id), &document, &err);
  if (status == RAG_NOT_FOUND && strstr(err.message, "is not in knowledge base") != NULL) return NULL;
  OK(status);
  assert_true(document.text.size < sizeof text);
  memcpy(text, document.text.data, document.text.size);
  text[document.text.size] = '\0';
  rag_document_free(&document);
  return text;
}

// The ids of an exact search by text at a ref, best first, joined by spaces, in a static buffer.
static inline const char *kb_test_search(rag_kb *kb, const char *at, const char *query, uint32_t k) {
  static char ids[4096];
  rag_error err = {0};
  rag_search_result result = {0};
  rag_search search = {.query = S(query), .k = k, .at = S(at), .exact = true};
  size_t used = 0;
  OK(rag_kb_search(kb, &search, &result, &err));
  ids[0] = '\0';
  for (uint32_t i = 0; i < result.count; i++) {
    assert_true(used + result.hits[i].document_id.size + 2 < sizeof ids);
    used += (size_t)snprintf(ids + used, sizeof ids - used, "%s%.*s", i ? " " : "",
                             (int)result.hits[i].document_id.size, result.hits[i].document_id.data);
  }
  rag_search_result_free(&result);
  return ids;
}

// ---------------------------------------------------------------------------------------------- jobs

// Runs what is queued in this thread; the job must then have succeeded. Its result in a static buffer.
static inline const char *kb_test_job(kb_fixture *f, uint64_t id) {
  static char result[8192];
  rag_error err = {0};
  rag_job_info info = {0};
  if (f->job_threads == 0) OK(rag_jobs_run_foreground(f->jobs, NULL, NULL, &err));
  OK(rag_jobs_wait(f->jobs, id, 60000, &info, &err));
  if (info.state != RAG_JOB_SUCCEEDED)
    fail_msg("job %llu (%s) is %s: %s", (unsigned long long)id, info.kind, rag_job_state_name(info.state), info.error);
  snprintf(result, sizeof result, "%s", info.result);
  rag_job_info_free(&info);
  return result;
}

// ---------------------------------------------------------------------------------------------- what a call leaves behind

// As FAILS, and the error names the request field.
#define FAILS_FIELD(expr, expected, at, part)                                                                          \
  do {                                                                                                                 \
    FAILS(expr, expected, part);                                                                                       \
    if (strcmp(err.field, (at)) != 0)                                                                                  \
      fail_msg("%s:%d: %s: field '%s' instead of '%s': %s", __FILE__, __LINE__, #expr, err.field, (at), err.message);  \
  } while (0)

static inline rag_kb_info kb_test_describe(rag_kb *kb) { // the numbers alone
  rag_error err = {0};
  rag_kb_info info = {0};
  OK(rag_kb_describe(kb, &info, &err));
  rag_kb_info_free(&info);
  return info;
}

// Everything that a call could leave behind: numbers given out, the head, bytes written, rows in memory.
typedef struct kb_test_footprint {
  uint64_t commits, revisions, contents, documents, chunks, bytes, groups, vectors;
  char head[16];
} kb_test_footprint;

static inline kb_test_footprint kb_test_footprint_of(kb_fixture *f, rag_kb *kb) {
  rag_kb_info info = kb_test_describe(kb);
  rag_store_stats store;
  rag_kbs_stats kbs;
  rag_store_stats_get(f->store, &store);
  rag_kbs_stats_get(f->kbs, &kbs);
  kb_test_footprint p = {info.commits,   info.revisions,   info.contents,
                         info.documents, info.chunks,      store.bytes_written,
                         store.groups,   kbs.vector_bytes, {0}};
  memcpy(p.head, info.head, sizeof p.head);
  return p;
}

static inline void kb_test_same_footprint(kb_test_footprint a, kb_test_footprint b) {
  assert_string_equal(a.head, b.head);
  assert_int_equal(a.commits, b.commits);
  assert_int_equal(a.revisions, b.revisions);
  assert_int_equal(a.contents, b.contents);
  assert_int_equal(a.documents, b.documents);
  assert_int_equal(a.chunks, b.chunks);
  assert_int_equal(a.bytes, b.bytes);
  assert_int_equal(a.groups, b.groups);
  assert_int_equal(a.vectors, b.vectors);
}

#endif
