// Goal: after erase_compact the deleted bytes are in no file of the store: tables, blob files, logs, manifest, LOG.
// Method: rows whose key and value hold a secret are written in every family, in tables and in the log; the search that
// is to find nothing at the end must find it before.
#include "tests/store/store_test.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#define SECRET "sEcReT-7f3a9c51-of-one-document"

// How many files under path hold the secret.
static int files_with_secret(const char *path) {
  int found = 0;
  DIR *dir = opendir(path);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char child[600];
    struct stat info;
    if (entry->d_name[0] == '.') continue;
    assert_true(snprintf(child, sizeof child, "%s/%s", path, entry->d_name) < (int)sizeof child);
    if (stat(child, &info) != 0) continue; // RocksDB removes files as we look
    if (S_ISDIR(info.st_mode)) {
      found += files_with_secret(child);
      continue;
    }
    char *bytes = NULL;
    size_t size = 0;
    if (rag_os_read_file(child, (size_t)1 << 30, &bytes, &size, NULL) != RAG_OK) continue;
    if (memmem(bytes, size, SECRET, strlen(SECRET)) != NULL) {
      if (getenv("RAGD_TEST_VERBOSE") != NULL) print_message("secret in %s\n", child);
      found++;
    }
    rag_free(bytes);
  }
  closedir(dir);
  return found;
}

static void fill(char *out, size_t size, const char *text, unsigned seed) {
  // Not compressible, so that nothing hides the secret from the search.
  for (size_t i = 0; i < size - 1; i++) {
    seed = seed * 1103515245u + 12345u;
    out[i] = (char)('!' + (seed >> 16) % 90);
  }
  memcpy(out, text, strlen(text));
  out[size - 1] = '\0';
}

static void put_round(rag_store *store, rag_cf cf, const char *key_format, const char *text, int count, size_t size) {
  char key[64], *value = malloc(size);
  for (int i = 0; i < count; i++) {
    snprintf(key, sizeof key, key_format, i);
    fill(value, size, text, (unsigned)i);
    put(store, cf, key, value);
  }
  free(value);
}

static void delete_round(rag_store *store, rag_cf cf, const char *key_format, int count) {
  char key[64];
  for (int i = 0; i < count; i++) {
    snprintf(key, sizeof key, key_format, i);
    assert_int_equal(commit_row(store, cf, rag_slice_str(key), (rag_slice){0}, NULL), RAG_OK);
  }
}

static void check_erased(fixture *f, rag_cf cf, size_t size) {
  rag_error err = {0};
  // Neighbours before and after; the secret rows twice, in older and newer tables and in the log.
  put_round(f->store, cf, "a%04d", "public", 20, size);
  put_round(f->store, cf, "m" SECRET "%04d", SECRET, 5, size);
  put_round(f->store, cf, "z%04d", "public", 20, size);
  assert_int_equal(rag_store_flush(f->store, &err), RAG_OK);
  put_round(f->store, cf, "m" SECRET "%04d", SECRET " again", 5, size);
  assert_int_equal(rag_store_flush(f->store, &err), RAG_OK);
  put_round(f->store, cf, "m" SECRET "%04d", SECRET " a third time", 5, size);
  delete_round(f->store, cf, "m" SECRET "%04d", 5);
  assert_true(files_with_secret(f->dir) >= 2); // the search finds what is there
  if (rag_store_erase_compact(f->store, cf, rag_slice_str("m"), rag_slice_str("n"), &err) != RAG_OK)
    fail_msg("%s", err.message);
  assert_int_equal(files_with_secret(f->dir), 0);
  fixture_reopen(f);
  assert_int_equal(files_with_secret(f->dir), 0);
  char key[16];
  for (int i = 0; i < 20; i++) {
    snprintf(key, sizeof key, i % 2 ? "a%04d" : "z%04d", i);
    assert_false(absent(f->store, NULL, cf, key));
  }
}

static void small_values_are_erased(void **state) {
  for (rag_cf cf = 0; cf < RAG_CF_COUNT; cf++)
    if (cf != RAG_CF_JOB) check_erased(*state, cf, 200);
}

static void large_values_are_erased(void **state) {
  check_erased(*state, RAG_CF_CONTENT, 20000);
  check_erased(*state, RAG_CF_BITMAP, 20000);
  check_erased(*state, RAG_CF_VECTOR, 20000);
}

static void a_whole_family_is_erased(void **state) {
  fixture *f = *state;
  put_round(f->store, RAG_CF_CONTENT, SECRET "%d", SECRET, 10, 5000);
  assert_int_equal(rag_store_delete_range(f->store, RAG_CF_CONTENT, (rag_slice){0}, (rag_slice){0}, NULL), RAG_OK);
  assert_true(files_with_secret(f->dir) > 0);
  assert_int_equal(rag_store_erase_compact(f->store, RAG_CF_CONTENT, (rag_slice){0}, (rag_slice){0}, NULL), RAG_OK);
  assert_int_equal(files_with_secret(f->dir), 0);
}

typedef struct reader {
  rag_store *store;
  rag_snapshot *snapshot;
} reader;

static void *lets_go(void *arg) {
  reader *r = arg;
  struct timespec pause = {.tv_nsec = 50000000};
  nanosleep(&pause, NULL);
  rag_snapshot_destroy(r->store, r->snapshot);
  return NULL;
}

// A snapshot from before the deletion keeps the rows: erasure waits until it is gone and then does its work.
static void erasure_waits_for_older_readers(void **state) {
  fixture *f = *state;
  pthread_t thread;
  put_round(f->store, RAG_CF_META, "m%d", SECRET, 3, 200);
  reader r = {f->store, rag_snapshot_create(f->store)};
  delete_round(f->store, RAG_CF_META, "m%d", 3);
  assert_int_equal(pthread_create(&thread, NULL, lets_go, &r), 0);
  assert_int_equal(rag_store_erase_compact(f->store, RAG_CF_META, (rag_slice){0}, (rag_slice){0}, NULL), RAG_OK);
  assert_int_equal(files_with_secret(f->dir), 0);
  pthread_join(thread, NULL);
  // A newer one does not hold it up.
  r.snapshot = rag_snapshot_create(f->store);
  assert_int_equal(rag_store_erase_compact(f->store, RAG_CF_META, (rag_slice){0}, (rag_slice){0}, NULL), RAG_OK);
  rag_snapshot_destroy(f->store, r.snapshot);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      STORE_TEST(small_values_are_erased),
      STORE_TEST(large_values_are_erased),
      STORE_TEST(a_whole_family_is_erased),
      STORE_TEST(erasure_waits_for_older_readers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
