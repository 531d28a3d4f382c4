// Helpers of tests/store: a store in a fresh directory, one-row commits, reads that say what they found.
#ifndef RAGD_TESTS_STORE_TEST_H
#define RAGD_TESTS_STORE_TEST_H

#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct fixture {
  char dir[256];
  rag_store *store;
  rag_store_options options;
} fixture;

static inline void fixture_open(fixture *f) {
  rag_error err = {0};
  if (rag_store_open(f->dir, &f->options, &f->store, &err) != RAG_OK) fail_msg("open: %s", err.message);
}

static inline void fixture_close(fixture *f) {
  rag_store_close(f->store);
  f->store = NULL;
}

static inline void fixture_reopen(fixture *f) {
  fixture_close(f);
  fixture_open(f);
}

static inline rag_store_options test_options(void) {
  rag_store_options options = rag_store_options_default();
  options.cache_bytes = 8u << 20;
  options.write_buffer_bytes = 8u << 20;
  options.sync = false;
  return options;
}

// Small buffers, and no syncs: the tests do not cut the power. Tests of syncing set `sync` themselves.
static inline int fixture_setup(void **state) {
  fixture *f = calloc(1, sizeof *f);
  const char *base = getenv("TMPDIR");
  assert_non_null(f);
  snprintf(f->dir, sizeof f->dir, "%s/ragd-store-XXXXXX", base != NULL ? base : "/tmp");
  assert_non_null(mkdtemp(f->dir));
  f->options = test_options();
  fixture_open(f);
  *state = f;
  return 0;
}

static inline int fixture_teardown(void **state) {
  fixture *f = *state;
  rag_store_close(f->store);
  rag_status status = rag_os_remove_tree(f->dir, NULL);
  free(f);
  return status == RAG_OK ? 0 : -1;
}

typedef struct row {
  rag_cf cf;
  rag_slice key, value; // value.data NULL: delete
} row;

static inline rag_status row_apply(void *ctx, rag_txn *txn, rag_error *err) {
  const row *r = ctx;
  RAG_UNUSED(err);
  if (r->value.data != NULL) rag_txn_put(txn, r->cf, r->key, r->value);
  else rag_txn_delete(txn, r->cf, r->key);
  return RAG_OK;
}

static inline rag_status commit_row(rag_store *store, rag_cf cf, rag_slice key, rag_slice value, rag_error *err) {
  row r = {cf, key, value};
  rag_commit_request request = {.apply = row_apply, .ctx = &r};
  return rag_store_commit(store, &request, err);
}

static inline void put(rag_store *store, rag_cf cf, const char *key, const char *value) {
  rag_error err = {0};
  if (commit_row(store, cf, rag_slice_str(key), rag_slice_str(value), &err) != RAG_OK) fail_msg("put: %s", err.message);
}

static inline void put_text(rag_store *store, const char *key, const char *value) {
  put(store, RAG_CF_META, key, value);
}

static inline bool holds(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, const char *key,
                         const char *expected) {
  rag_value value = {0};
  rag_status status = rag_store_get(store, snapshot, cf, rag_slice_str(key), &value, NULL);
  bool same = status == RAG_OK && rag_slice_equal(value.slice, rag_slice_str(expected));
  rag_value_free(&value);
  return same;
}

static inline bool absent(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, const char *key) {
  rag_value value = {0};
  rag_status status = rag_store_get(store, snapshot, cf, rag_slice_str(key), &value, NULL);
  rag_value_free(&value);
  return status == RAG_NOT_FOUND;
}

// Runs this program again as `program VERB DIR`, with `out_fd` as its descriptor 3 and `in_fd` as 4 (-1: none). Not a
// bare fork: RocksDB's threads would be missing in the child. main() hands the verbs to the test's own functions.
static inline pid_t spawn_child(const char *verb, const char *dir, int out_fd, int in_fd) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child > 0) return child;
  if (out_fd >= 0) dup2(out_fd, 3);
  if (in_fd >= 0) dup2(in_fd, 4);
  execl("/proc/self/exe", "/proc/self/exe", verb, dir, (char *)NULL);
  _exit(99);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
