// Goal: a purged document is in no version, no answer, no cache, no index and no file; everything else is as it was; and
// a document under the same id can come again.
// Method: documents with texts, metadata and vectors that cannot be overlooked, in several revisions on two branches,
// under a tag, before and after checkpoints and flushes; the files of the store are searched for their bytes before (they
// must be found) and after. A put that was prepared before the purge and is applied after it is made by holding the group
// commit while both queue up.
#include "tests/kb/kb_test.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <time.h>

#include "kb/kb_internal.h"

#define SECRET "zqxjkv-the-secret-sentence-of-one-person"
#define SECRET_TITLE "wvutsr-the-secret-title"
#define SECRET_METADATA "{\"note\":\"qjzkxw-secret-of-the-metadata\"}"
#define SECRET_URI "file:///jqzwvx/secret-path"

static int files_with(const char *path, const void *needle, size_t size) {
  int found = 0;
  DIR *dir = opendir(path);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char child[600];
    struct stat info;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    assert_true(snprintf(child, sizeof child, "%s/%s", path, entry->d_name) < (int)sizeof child);
    if (stat(child, &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) {
      found += files_with(child, needle, size);
      continue;
    }
    char *bytes = NULL;
    size_t file_size = 0;
    if (rag_os_read_file(child, (size_t)1 << 30, &bytes, &file_size, NULL) != RAG_OK) continue;
    if (memmem(bytes, file_size, needle, size) != NULL) {
      if (getenv("RAGD_TEST_VERBOSE") != NULL) print_message("found in %s\n", child);
      found++;
    }
    rag_free(bytes);
  }
  closedir(dir);
  return found;
}

static uint64_t purge(rag_kb *kb, const char *id) {
  rag_error err = {0};
  rag_slice ids[1] = {S(id)};
  uint64_t job = 0;
  OK(rag_kb_purge(kb, ids, 1, &job, &err));
  return job;
}

// Everything a version says, but for one id: ids, texts, metadata in revision order.
static void describe(rag_kb *kb, const char *ref, const char *but_id, rag_buf *out) {
  rag_error err = {0};
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0;
  uint64_t commit = 0;
  OK(rag_kb_documents(kb, S(ref), NULL, 0, 1000, &documents, &count, &next, &commit, &err));
  for (uint32_t i = 0; i < count; i++) {
    if (!rag_slice_equal(documents[i].id, S(but_id))) {
      rag_buf_append_bytes(out, documents[i].id);
      rag_buf_append_bytes(out, documents[i].text);
      rag_buf_append_bytes(out, documents[i].metadata);
      rag_buf_append_varint(out, documents[i].revision);
    }
    rag_document_free(&documents[i]);
  }
  rag_free(documents);
}

static void check_counts(rag_kb *kb, uint32_t newest) {
  rag_error err = {0};
  for (uint32_t c = 1; c <= newest; c++) {
    char ref[16];
    rag_commit_info info = {0};
    rag_version *version = NULL;
    snprintf(ref, sizeof ref, "c%u", c);
    OK(rag_kb_commit_get(kb, S(ref), &info, &err));
    OK(rag_kb_resolve(kb, S(ref), &version, &err));
    assert_int_equal(info.documents, rag_version_documents(version));
    assert_int_equal(info.chunks, rag_version_chunks(version));
    rag_ref_drop(version);
    rag_commit_info_free(&info);
  }
}

static void put_secret(rag_kb *kb, const char *branch, const char *more) {
  char text[256];
  snprintf(text, sizeof text, SECRET " %s", more);
  rag_document_input in = {.id = S("person"),
                           .text = S(text),
                           .title = S(SECRET_TITLE),
                           .metadata = S(SECRET_METADATA),
                           .source_uri = S(SECRET_URI)};
  (void)kb_test_put_input(kb, branch, &in);
}

static const char *const secrets[] = {"zqxjkv-the-secret", SECRET_TITLE, "qjzkxw-secret-of", "jqzwvx/secret"};

static void nothing_is_left(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_search_result result = {0};
  char name[16], text[64], ref[16];
  float vector[32];
  put_secret(kb, NULL, "first");
  for (int i = 0; i < 300; i++) { // past a checkpoint with it in, and one after a change
    snprintf(name, sizeof name, "d%d", i % 40);
    snprintf(text, sizeof text, "public document %d in state %d", i % 40, i);
    kb_test_put(kb, name, text);
    if (i == 150) put_secret(kb, NULL, "second");
    if (i == 160) kb_test_branch(kb, "side", "main");
    if (i == 170) put_secret(kb, "side", "third, on a branch");
    if (i == 180) kb_test_tag(kb, "v1", "side");
    if (i == 200) kb_test_patch_on(kb, NULL, "person", "{\"note\":\"qjzkxw-secret-of-a-patch\"}");
    if (i == 280) kb_test_delete_on(kb, "side", "person");
  }
  rag_search search = {.query = S(SECRET " second"), .k = 1, .exact = true, .want_vector = true};
  OK(rag_kb_search(kb, &search, &result, &err));
  assert_true(rag_slice_equal(result.hits[0].document_id, S("person")));
  memcpy(vector, result.hits[0].vector, sizeof vector);
  rag_search_result_free(&result);
  // In the log they are plain; tables compress texts, but not vectors.
  for (size_t i = 0; i < RAG_COUNT_OF(secrets); i++)
    assert_true(files_with(f->dir, secrets[i], strlen(secrets[i])) > 0);
  OK(rag_store_flush(f->store, &err));
  assert_true(files_with(f->dir, vector, sizeof vector) > 0);
  put_secret(kb, NULL, "and in the newest log");

  rag_kb__view *view = rag_cell_get(&kb->view);
  uint32_t newest = view->state.next_commit - 1;
  rag_ref_drop(view);
  rag_buf before = {0}, after = {0};
  for (uint32_t c = 1; c <= newest; c++) {
    snprintf(ref, sizeof ref, "c%u", c);
    describe(kb, ref, "person", &before);
  }
  rag_slice ids[2] = {S("person"), S("nobody \"ever\"")};
  uint64_t job = 0;
  OK(rag_kb_purge(kb, ids, 2, &job, &err));
  // At once, before the job: from no version, by no search, by no number.
  for (int opened = 0; opened < 2; opened++) {
    rag_buf_clear(&after);
    for (uint32_t c = 1; c <= newest; c++) {
      snprintf(ref, sizeof ref, "c%u", c);
      assert_null(kb_test_text(kb, ref, "person"));
      describe(kb, ref, "person", &after);
    }
    assert_true(rag_slice_equal(rag_buf_slice(&before), rag_buf_slice(&after)));
    assert_null(strstr(kb_test_search(kb, "v1", SECRET, 100), "person"));
    assert_null(strstr(kb_test_search(kb, "main", SECRET, 100), "person"));
    rag_document document;
    FAILS(rag_kb_revision_get(kb, 1, &document, &err), RAG_NOT_FOUND, "gone");
    check_counts(kb, newest);
    if (opened == 0) {
      const char *receipt = kb_test_job(f, job);
      assert_non_null(strstr(receipt, "\"requested\":2,\"found\":1,\"unknown\":1"));
      assert_non_null(strstr(receipt, "{\"id\":\"person\",\"found\":true,\"revisions\":5}"));
      assert_non_null(strstr(receipt, "{\"id\":\"nobody \\\"ever\\\"\",\"found\":false,\"revisions\":0}"));
      assert_non_null(strstr(receipt, "\"contents_erased\":4"));
      assert_non_null(strstr(receipt, "\"verified\":true"));
    }
    for (size_t i = 0; i < RAG_COUNT_OF(secrets); i++)
      assert_int_equal(files_with(f->dir, secrets[i], strlen(secrets[i])), 0);
    assert_int_equal(files_with(f->dir, vector, sizeof vector), 0);
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_buf_free(&before);
  rag_buf_free(&after);
  // The id is free again, also for the very same text.
  put_secret(kb, NULL, "first");
  assert_string_equal(kb_test_text(kb, "main", "person"), SECRET " first");
  assert_string_equal(kb_test_search(kb, "main", SECRET " first", 1), "person");
  assert_null(kb_test_text(kb, "c2", "person"));
  rag_ref_drop(kb);
}

// Two documents of one text share the embedding; erasing one leaves the other its own.
static void equal_texts_stay(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "the same words for both");
  kb_test_put(kb, "b", "the same words for both");
  kb_test_job(f, purge(kb, "a"));
  assert_string_equal(kb_test_search(kb, "main", "the same words for both", 5), "b");
  kb_test_put(kb, "c", "the same words for both"); // the cache row pointed at the vector of "a"
  assert_string_equal(kb_test_search(kb, "main", "the same words for both", 5), "b c");
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- in flight

typedef struct holder { // holds the group commit until it is let go
  rag_store *store;
  sem_t held, go;
} holder;

static rag_status hold(void *ctx, rag_txn *txn, rag_error *err) {
  holder *h = ctx;
  RAG_UNUSED(txn), RAG_UNUSED(err);
  sem_post(&h->held);
  sem_wait(&h->go);
  return RAG_OK;
}

static void *hold_main(void *arg) {
  holder *h = arg;
  rag_commit_request request = {.apply = hold, .ctx = h};
  assert_int_equal(rag_store_commit(h->store, &request, NULL), RAG_OK);
  return NULL;
}

static void *purge_main(void *arg) {
  (void)purge(arg, "person");
  return NULL;
}

static void *put_main(void *arg) {
  kb_test_put(arg, "person", "words that come back");
  return NULL;
}

static void a_put_in_flight_stores_anew(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  bool seen = false;
  for (int round = 0; round < 20 && !seen; round++) {
    holder h = {.store = f->store};
    pthread_t threads[3];
    struct timespec pause = {.tv_nsec = 100000000};
    sem_init(&h.held, 0, 0);
    sem_init(&h.go, 0, 0);
    kb_test_put(kb, "person", "words that come back"); // revision, content: to be reused by the put below
    kb_test_put(kb, "person", "other words meanwhile");
    pthread_create(&threads[0], NULL, hold_main, &h);
    sem_wait(&h.held);
    pthread_create(&threads[1], NULL, purge_main, kb);
    nanosleep(&pause, NULL); // queued, we may hope; whichever comes first, all must be well
    pthread_create(&threads[2], NULL, put_main, kb);
    nanosleep(&pause, NULL);
    sem_post(&h.go);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    sem_destroy(&h.held);
    sem_destroy(&h.go);
    const char *text = kb_test_text(kb, "main", "person");
    seen = text != NULL;
    if (seen) assert_string_equal(text, "words that come back");
    assert_string_equal(kb_test_search(kb, "main", "words that come back", 5), seen ? "person" : "");
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
    assert_string_equal(kb_test_search(kb, "main", "words that come back", 5), seen ? "person" : "");
  }
  assert_true(seen); // the put came after the purge at least once
  rag_ref_drop(kb);
}

static void bad_requests_are_refused(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  uint64_t job = 0;
  static char long_id[RAG_DOCUMENT_ID_BYTES_MAX + 2];
  static rag_slice many[RAG_PURGE_IDS_MAX + 1];
  static char names[RAG_PURGE_IDS_MAX + 1][RAG_DOCUMENT_ID_BYTES_MAX + 1];
  rag_slice twice[2] = {S("a"), S("a")};
  memset(long_id, 'x', sizeof long_id - 1);
  rag_slice ids[1] = {S(long_id)};
  FAILS(rag_kb_purge(kb, NULL, 0, &job, &err), RAG_INVALID_ARGUMENT, "document_ids");
  FAILS(rag_kb_purge(kb, ids, 1, &job, &err), RAG_INVALID_ARGUMENT, "document_ids[0]");
  ids[0].size = 0;
  FAILS(rag_kb_purge(kb, ids, 1, &job, &err), RAG_INVALID_ARGUMENT, "document_ids[0]");
  ids[0] = S("\xff");
  FAILS(rag_kb_purge(kb, ids, 1, &job, &err), RAG_INVALID_ARGUMENT, "document_ids[0]");
  FAILS(rag_kb_purge(kb, twice, 2, &job, &err), RAG_INVALID_ARGUMENT, "document_ids[1]");
  for (uint32_t i = 0; i <= RAG_PURGE_IDS_MAX; i++) {
    snprintf(names[i], sizeof names[i], "id-%u", i);
    many[i] = S(names[i]);
  }
  FAILS(rag_kb_purge(kb, many, RAG_PURGE_IDS_MAX + 1, &job, &err), RAG_INVALID_ARGUMENT, "at most 1000");
  OK(rag_kb_purge(kb, many, RAG_PURGE_IDS_MAX, &job, &err));
  for (uint32_t i = 0; i < RAG_PURGE_IDS_MAX; i++) { // 132 bytes each: over the limit together
    memset(names[i] + strlen(names[i]), '-', 132 - strlen(names[i]));
    many[i] = rag_slice_of(names[i], 132);
  }
  FAILS(rag_kb_purge(kb, many, RAG_PURGE_IDS_MAX, &job, &err), RAG_INVALID_ARGUMENT, "together");
  for (uint32_t i = 0; i < RAG_PURGE_IDS_MAX; i++) many[i].size = 131;
  OK(rag_kb_purge(kb, many, RAG_PURGE_IDS_MAX, &job, &err));
  kb_test_job(f, job);
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(nothing_is_left),
      KB_TEST(equal_texts_stay),
      KB_TEST(a_put_in_flight_stores_anew),
      KB_TEST(bad_requests_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
