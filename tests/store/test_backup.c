// Goal: a backup is one consistent point of a store that goes on being written, costs what is new, is checked to its
// last byte, and comes back whole; what is interrupted is no backup, and no half store opens.
// Method: rows whose values say what they must be; writers beside the backup; every file of a backup damaged in turn;
// processes killed in the middle of a backup and of a restore.
#include "tests/store/store_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

typedef struct backup_fixture {
  fixture *store;
  char dir[300]; // the backup directory
  char to[300];  // restored to
} backup_fixture;

static int setup(void **state) {
  backup_fixture *f = calloc(1, sizeof *f);
  void *store = NULL;
  assert_non_null(f);
  fixture_setup(&store);
  f->store = store;
  snprintf(f->dir, sizeof f->dir, "%s-backups", f->store->dir);
  snprintf(f->to, sizeof f->to, "%s-restored", f->store->dir);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  backup_fixture *f = *state;
  void *store = f->store;
  rag_status status = rag_os_remove_tree(f->dir, NULL);
  if (status == RAG_OK) status = rag_os_remove_tree(f->to, NULL);
  free(f);
  return fixture_teardown(&store) == 0 && status == RAG_OK ? 0 : -1;
}

static void text_of(char *out, size_t size, const char *what, unsigned i) {
  snprintf(out, size, "%s %u", what, i);
}

// Row i of two families, in one commit: a restored store has both or none.
typedef struct pair {
  unsigned i;
} pair;

#define VALUE_BYTES 2048u // of content: rows of this size go to blob files
// Bytes that no compression makes smaller, and that say which row they are of.
static void value_of(unsigned i, unsigned char out[VALUE_BYTES]) {
  uint64_t x = i + 1;
  for (size_t k = 0; k < VALUE_BYTES; k++) {
    x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    out[k] = (unsigned char)(x >> 56);
  }
}

static rag_status pair_apply(void *ctx, rag_txn *txn, rag_error *err) {
  const pair *p = ctx;
  char key[32];
  unsigned char value[VALUE_BYTES];
  RAG_UNUSED(err);
  text_of(key, sizeof key, "row", p->i);
  value_of(p->i, value);
  rag_txn_put(txn, RAG_CF_META, rag_slice_str(key), rag_slice_str(key));
  rag_txn_put(txn, RAG_CF_CONTENT, rag_slice_str(key), rag_slice_of(value, sizeof value));
  return RAG_OK;
}

static void put_pairs(rag_store *store, unsigned from, unsigned to) {
  for (unsigned i = from; i < to; i++) {
    rag_error err = {0};
    pair p = {i};
    rag_commit_request request = {.apply = pair_apply, .ctx = &p};
    if (rag_store_commit(store, &request, &err) != RAG_OK) fail_msg("commit: %s", err.message);
  }
}

// The number of pairs, which must be 0..n-1, each whole.
static unsigned count_pairs(rag_store *store) {
  unsigned count = 0;
  for (;; count++) {
    char key[32];
    unsigned char value[VALUE_BYTES];
    rag_value a = {0}, b = {0};
    rag_error err = {0};
    text_of(key, sizeof key, "row", count);
    rag_status meta = rag_store_get(store, NULL, RAG_CF_META, rag_slice_str(key), &a, &err);
    rag_status content = rag_store_get(store, NULL, RAG_CF_CONTENT, rag_slice_str(key), &b, &err);
    assert_int_equal(meta, content);
    if (meta == RAG_NOT_FOUND) return count;
    assert_int_equal(meta, RAG_OK);
    value_of(count, value);
    assert_true(rag_slice_equal(b.slice, rag_slice_of(value, sizeof value)));
    rag_value_free(&a);
    rag_value_free(&b);
  }
}

static rag_backup_info back_up(backup_fixture *f) {
  rag_error err = {0};
  rag_backup_info info = {0};
  if (rag_store_backup(f->store->store, f->dir, "test", NULL, &info, &err) != RAG_OK)
    fail_msg("backup: %s", err.message);
  return info;
}

static unsigned restore_and_count(backup_fixture *f, uint32_t id) {
  rag_error err = {0};
  rag_store *store = NULL;
  rag_store_options options = test_options();
  assert_int_equal(rag_os_remove_tree(f->to, NULL), RAG_OK);
  if (rag_backup_restore(f->dir, id, f->to, NULL, NULL, &err) != RAG_OK) fail_msg("restore: %s", err.message);
  options.create_if_missing = false;
  if (rag_store_open(f->to, &options, &store, &err) != RAG_OK) fail_msg("open: %s", err.message);
  unsigned count = count_pairs(store);
  rag_store_close(store);
  return count;
}

static uint32_t count_backups(backup_fixture *f, rag_backup_state state) {
  rag_backup_info *infos = NULL;
  uint32_t count = 0, found = 0;
  assert_int_equal(rag_backup_list(f->dir, &infos, &count, NULL), RAG_OK);
  for (uint32_t i = 0; i < count; i++) found += infos[i].state == state;
  rag_free(infos);
  return found;
}

// ---------------------------------------------------------------------------------------------- what a backup is

static void test_each_backup_is_its_point(void **state) {
  backup_fixture *f = *state;
  assert_int_equal(count_backups(f, RAG_BACKUP_COMPLETE), 0); // of a directory that is not there
  put_pairs(f->store->store, 0, 500);
  rag_backup_info first = back_up(f);
  put_pairs(f->store->store, 500, 520);
  rag_backup_info second = back_up(f);
  put_pairs(f->store->store, 520, 600);
  assert_int_equal(first.id, 1);
  assert_int_equal(second.id, 2);
  assert_int_equal(first.store_format, RAG_STORE_FORMAT_VERSION);
  assert_string_equal(first.program, "test");
  assert_true(strlen(first.store) > 10);
  // 500 rows of 2 KiB before, 20 after: the second has not copied the first again.
  assert_true(second.bytes > first.bytes);
  assert_true(second.new_bytes < first.new_bytes / 2);
  assert_int_equal(restore_and_count(f, 1), 500);
  assert_int_equal(restore_and_count(f, 2), 520);
  assert_int_equal(restore_and_count(f, 0), 520);
  assert_int_equal(count_pairs(f->store->store), 600);
}

typedef struct writer {
  rag_store *store;
  _Atomic bool stop;
  _Atomic unsigned acknowledged;
} writer;

static void *write_on(void *ctx) {
  writer *w = ctx;
  for (unsigned i = 0; !atomic_load(&w->stop); i++) {
    put_pairs(w->store, i, i + 1);
    atomic_store(&w->acknowledged, i + 1);
    usleep(500); // on a busy machine the backups would otherwise grow faster than they are made
  }
  return NULL;
}

static void test_a_backup_beside_writes(void **state) {
  backup_fixture *f = *state;
  writer w = {.store = f->store->store};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, write_on, &w), 0);
  for (int i = 0; i < 6; i++) {
    while (atomic_load(&w.acknowledged) < 100u * (unsigned)i) usleep(1000);
    unsigned before = atomic_load(&w.acknowledged);
    rag_backup_info info = back_up(f);
    unsigned after = atomic_load(&w.acknowledged);
    unsigned restored = restore_and_count(f, info.id);
    assert_true(restored >= before); // what was acknowledged before it is in it,
    assert_true(restored <= after + 1);
  }
  atomic_store(&w.stop, true);
  assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_a_restored_store_goes_on(void **state) {
  backup_fixture *f = *state;
  char identity[2][RAG_BACKUP_TEXT_MAX];
  put_pairs(f->store->store, 0, 50);
  back_up(f);
  assert_int_equal(rag_backup_restore(f->dir, 1, f->to, NULL, NULL, NULL), RAG_OK);
  fixture restored = {.options = test_options()};
  snprintf(restored.dir, sizeof restored.dir, "%.250s", f->to);
  fixture_open(&restored);
  put_pairs(restored.store, 50, 70);
  put_pairs(f->store->store, 50, 60);
  assert_int_equal(rag_store_identity(restored.store, identity[0], NULL), RAG_OK);
  assert_int_equal(rag_store_identity(f->store->store, identity[1], NULL), RAG_OK);
  assert_string_not_equal(identity[0], identity[1]);
  // Two histories in one directory do not mix.
  rag_backup_info info;
  assert_int_equal(rag_store_backup(restored.store, f->dir, "test", NULL, &info, NULL), RAG_OK);
  rag_backup_info third = back_up(f);
  fixture_close(&restored);
  assert_int_equal(restore_and_count(f, info.id), 70);
  assert_int_equal(restore_and_count(f, third.id), 60);
  assert_int_equal(restore_and_count(f, 1), 50);
}

// ---------------------------------------------------------------------------------------------- removing

static void test_delete_and_keep(void **state) {
  backup_fixture *f = *state;
  uint32_t removed = 0;
  for (unsigned i = 0; i < 5; i++) {
    put_pairs(f->store->store, 20 * i, 20 * (i + 1));
    back_up(f);
  }
  assert_int_equal(rag_backup_delete(f->dir, 3, NULL), RAG_OK);
  assert_int_equal(rag_backup_delete(f->dir, 3, NULL), RAG_NOT_FOUND);
  assert_int_equal(rag_backup_delete(f->dir, 99, NULL), RAG_NOT_FOUND);
  assert_int_equal(restore_and_count(f, 2), 40);
  assert_int_equal(restore_and_count(f, 4), 80);
  assert_int_equal(rag_backup_keep(f->dir, 0, &removed, NULL), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_backup_keep(f->dir, 2, &removed, NULL), RAG_OK);
  assert_int_equal(removed, 2);
  assert_int_equal(count_backups(f, RAG_BACKUP_COMPLETE), 2);
  assert_int_equal(rag_backup_verify(f->dir, 4, NULL, NULL, NULL), RAG_OK);
  assert_int_equal(restore_and_count(f, 4), 80);
  assert_int_equal(restore_and_count(f, 5), 100);
  assert_int_equal(rag_os_remove_tree(f->to, NULL), RAG_OK);
  assert_int_equal(rag_backup_restore(f->dir, 1, f->to, NULL, NULL, NULL), RAG_NOT_FOUND);
}

// ---------------------------------------------------------------------------------------------- damage

#define FILES_MAX 256
static char *found[FILES_MAX];
static int found_count;

static int find_one(const char *path, const struct stat *info, int type, struct FTW *at) {
  RAG_UNUSED(at);
  if (type == FTW_F && info->st_size > 0 && found_count < FILES_MAX) found[found_count++] = strdup(path);
  return 0;
}

static void flip(const char *path, off_t at, unsigned char bit) {
  unsigned char byte = 0;
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0);
  assert_int_equal(pread(fd, &byte, 1, at), 1);
  byte = (unsigned char)(byte ^ bit);
  assert_int_equal(pwrite(fd, &byte, 1, at), 1);
  close(fd);
}

typedef struct reports {
  unsigned count;
  char path[512];
} reports;

static void on_report(void *ctx, const char *path, const char *what) {
  reports *r = ctx;
  assert_non_null(strstr(what, path));
  r->count++;
  snprintf(r->path, sizeof r->path, "%s", path);
}

// Whatever file of a backup is damaged, verify names it and restore refuses.
static void test_every_damaged_file_is_named(void **state) {
  backup_fixture *f = *state;
  put_pairs(f->store->store, 0, 300);
  back_up(f);
  found_count = 0;
  assert_int_equal(nftw(f->dir, find_one, 16, FTW_PHYS), 0);
  assert_true(found_count >= 7);
  for (int i = 0; i < found_count; i++) {
    struct stat info;
    rag_error err = {0};
    reports seen = {0};
    rag_backup_watch watch = {.report = on_report, .ctx = &seen};
    bool manifest = strstr(found[i], "/manifests/") != NULL;
    bool restored = strstr(found[i], "/meta/") == NULL; // that is the engine's alone
    assert_int_equal(stat(found[i], &info), 0);
    for (int place = 0; place < 3; place++) {
      off_t at = place == 0 ? 0 : place == 1 ? info.st_size / 2 : info.st_size - 1;
      seen = (reports){0};
      flip(found[i], at, 0x10);
      assert_int_equal(rag_backup_verify(f->dir, 1, &watch, NULL, &err), RAG_DATA_LOSS);
      if (strstr(err.message, manifest ? found[i] : strstr(found[i], "-backups/") + 9) == NULL)
        fail_msg("%s is not named: %s", found[i], err.message);
      assert_int_equal(seen.count, manifest ? 0 : 1);
      if (restored) {
        assert_int_equal(rag_backup_restore(f->dir, 1, f->to, NULL, NULL, &err), RAG_DATA_LOSS);
        assert_false(rag_os_exists(f->to));
      }
      flip(found[i], at, 0x10);
    }
    assert_int_equal(truncate(found[i], info.st_size - 1), 0);
    assert_int_equal(rag_backup_verify(f->dir, 1, NULL, NULL, &err), RAG_DATA_LOSS);
    assert_int_equal(unlink(found[i]), 0);
    assert_int_equal(rag_backup_verify(f->dir, 1, NULL, NULL, &err), RAG_DATA_LOSS);
    assert_int_equal(count_backups(f, RAG_BACKUP_COMPLETE), manifest ? 0 : 1);
    // Start again.
    assert_int_equal(rag_os_remove_tree(f->dir, NULL), RAG_OK);
    rag_backup_info info_again = back_up(f);
    assert_int_equal(info_again.id, 1);
    for (int k = 0; k < found_count; k++) free(found[k]);
    int before = found_count;
    found_count = 0;
    assert_int_equal(nftw(f->dir, find_one, 16, FTW_PHYS), 0);
    if (before != found_count) i = RAG_MIN(i, found_count - 1);
  }
  for (int k = 0; k < found_count; k++) free(found[k]);
}

// A manifest that is valid by its checksum and names files elsewhere.
static void test_a_manifest_does_not_leave_its_directory(void **state) {
  backup_fixture *f = *state;
  static const char *const targets[] = {"../stolen", "/etc/passwd", "db/../../x", "db//x", "./x", "db/.hidden", "db/"};
  rag_error err = {0};
  put_pairs(f->store->store, 0, 5);
  back_up(f);
  for (size_t t = 0; t < 2 * RAG_COUNT_OF(targets); t++) {
    rag_buf buf = {0}, path = {0};
    const char *bad = targets[t / 2];
    rag_buf_append_str(&buf, "RAGDBACK");
    rag_buf_append_u32le(&buf, 1);
    rag_buf_append_u32le(&buf, 1);
    rag_buf_append_u32le(&buf, 9);
    rag_buf_append_u64le(&buf, 0);
    rag_buf_append_u64le(&buf, 0);
    rag_buf_append_bytes(&buf, rag_slice_str("test"));
    rag_buf_append_bytes(&buf, rag_slice_str("x"));
    rag_buf_append_varint(&buf, 1);
    rag_buf_append_bytes(&buf, rag_slice_str(t % 2 ? bad : "files/1/FORMAT"));
    rag_buf_append_bytes(&buf, rag_slice_str(t % 2 ? "FORMAT" : bad));
    rag_buf_append_varint(&buf, 20);
    rag_buf_append_u32le(&buf, 0);
    rag_buf_append_u32le(&buf, rag_crc32c(0, buf.data, buf.size));
    rag_buf_printf(&path, "%s/manifests/9", f->dir);
    assert_int_equal(rag_os_write_file(path.data, buf.data, buf.size, NULL), RAG_OK);
    assert_int_equal(rag_backup_restore(f->dir, 9, f->to, NULL, NULL, &err), RAG_DATA_LOSS);
    assert_non_null(strstr(err.message, bad));
    assert_false(rag_os_exists(f->to));
    rag_buf_free(&buf);
    rag_buf_free(&path);
  }
}

// ---------------------------------------------------------------------------------------------- refusals

static void test_refusals(void **state) {
  backup_fixture *f = *state;
  rag_error err = {0};
  char inside[400];
  put_pairs(f->store->store, 0, 5);
  snprintf(inside, sizeof inside, "%s/backups", f->store->dir);
  assert_int_equal(rag_store_backup(f->store->store, inside, "t", NULL, NULL, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_store_backup(f->store->store, f->store->dir, "t", NULL, NULL, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_os_remove_tree(inside, NULL), RAG_OK);
  back_up(f);
  // To a directory with something in it, and to one that is a store.
  assert_int_equal(rag_os_make_dirs(f->to, NULL), RAG_OK);
  snprintf(inside, sizeof inside, "%s/file", f->to);
  assert_int_equal(rag_os_write_file(inside, "x", 1, NULL), RAG_OK);
  assert_int_equal(rag_backup_restore(f->dir, 1, f->to, NULL, NULL, &err), RAG_FAILED_PRECONDITION);
  assert_true(rag_os_exists(inside));
  assert_int_equal(rag_backup_restore(f->dir, 1, f->store->dir, NULL, NULL, &err), RAG_FAILED_PRECONDITION);
  assert_int_equal(unlink(inside), 0);
  assert_int_equal(rag_backup_restore(f->dir, 1, f->to, NULL, NULL, &err), RAG_OK); // an empty one will do
  assert_int_equal(rag_backup_restore(f->dir, 7, inside, NULL, NULL, &err), RAG_NOT_FOUND);
  assert_int_equal(rag_backup_verify(inside, 0, NULL, NULL, &err), RAG_NOT_FOUND);
  // While the store takes no writes a flush would fail.
  rag_store_set_error_for_test(f->store->store, "test");
  assert_int_equal(rag_store_backup(f->store->store, f->dir, "t", NULL, NULL, &err), RAG_UNAVAILABLE);
  assert_int_equal(restore_and_count(f, 1), 5);
}

typedef struct other {
  backup_fixture *f;
  rag_status backup, removal;
  uint64_t stop_at;
} other;

static rag_status try_second(void *ctx, uint64_t done, uint64_t total, rag_error *err) {
  other *o = ctx;
  assert_true(done <= total);
  o->backup = rag_store_backup(o->f->store->store, o->f->dir, "t", NULL, NULL, err);
  o->removal = rag_backup_delete(o->f->dir, 1, err);
  return RAG_OK;
}

static rag_status stop(void *ctx, uint64_t done, uint64_t total, rag_error *err) {
  other *o = ctx;
  RAG_UNUSED(total);
  return done >= o->stop_at ? rag_fail(err, RAG_CANCELLED, "told to stop") : RAG_OK;
}

static void test_one_at_a_time_and_stopped(void **state) {
  backup_fixture *f = *state;
  other o = {.f = f};
  rag_error err = {0};
  put_pairs(f->store->store, 0, 100);
  back_up(f);
  put_pairs(f->store->store, 100, 200);
  rag_backup_watch watch = {.progress = try_second, .ctx = &o};
  assert_int_equal(rag_store_backup(f->store->store, f->dir, "t", &watch, NULL, &err), RAG_OK);
  assert_int_equal(o.backup, RAG_FAILED_PRECONDITION);
  assert_int_equal(o.removal, RAG_FAILED_PRECONDITION);
  put_pairs(f->store->store, 200, 300);
  watch.progress = stop;
  assert_int_equal(rag_store_backup(f->store->store, f->dir, "t", &watch, NULL, &err), RAG_CANCELLED);
  assert_string_equal(err.message, "told to stop");
  assert_int_equal(count_backups(f, RAG_BACKUP_COMPLETE), 2);
  assert_int_equal(rag_backup_verify(f->dir, 2, &watch, NULL, &err), RAG_CANCELLED);
  assert_int_equal(rag_backup_restore(f->dir, 2, f->to, &watch, NULL, &err), RAG_CANCELLED);
  assert_false(rag_os_exists(f->to));
  rag_backup_info third = back_up(f);
  assert_true(third.id > 2);
  assert_int_equal(count_backups(f, RAG_BACKUP_INTERRUPTED), 0);
  assert_int_equal(restore_and_count(f, third.id), 300);
  assert_int_equal(restore_and_count(f, 2), 200);
}

// ---------------------------------------------------------------------------------------------- kill -9

static void wait_for(pid_t child) {
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
}

// The child of the next test: "backup DIR-of-store". Adds rows and backs up until it is killed.
static int backup_child(const char *dir) {
  rag_store_options options = test_options();
  rag_store *store = NULL;
  char to[300];
  snprintf(to, sizeof to, "%s-backups", dir);
  if (rag_store_open(dir, &options, &store, NULL) != RAG_OK || write(3, "", 1) != 1) return 1;
  for (unsigned i = count_pairs(store);; i += 20) {
    put_pairs(store, i, i + 20);
    if (rag_store_backup(store, to, "test", NULL, NULL, NULL) != RAG_OK) return 2;
  }
}

static int restore_child(const char *dir) {
  char from[300], to[300];
  snprintf(from, sizeof from, "%s-backups", dir);
  snprintf(to, sizeof to, "%s-restored", dir);
  return rag_backup_restore(from, 0, to, NULL, NULL, NULL) == RAG_OK ? 0 : 1;
}

static void test_a_killed_backup_is_none(void **state) {
  backup_fixture *f = *state;
  unsigned complete = 1, interrupted = 0;
  put_pairs(f->store->store, 0, 2000);
  uint64_t start_ns = rag_clock_monotonic_ns();
  back_up(f);
  uint64_t usual_us = (rag_clock_monotonic_ns() - start_ns) / 1000; // kills fall before, within and after one
  fixture_close(f->store);
  for (unsigned round = 0; round < 12; round++) {
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = spawn_child("backup", f->store->dir, ready[1], -1);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1); // it is open, and goes on to back up
    close(ready[0]);
    usleep((useconds_t)(usual_us * (round + 1) / 6));
    kill(child, SIGKILL);
    wait_for(child);
    unsigned now = count_backups(f, RAG_BACKUP_COMPLETE);
    assert_true(now >= complete);
    complete = now;
    interrupted += count_backups(f, RAG_BACKUP_INTERRUPTED);
    rag_error err = {0};
    rag_backup_info info;
    if (rag_backup_verify(f->dir, 0, NULL, &info, &err) != RAG_OK) fail_msg("round %u: %s", round, err.message);
    if (rag_backup_verify(f->dir, 1, NULL, NULL, &err) != RAG_OK) fail_msg("round %u: %s", round, err.message);
    assert_true(restore_and_count(f, 0) >= 2000);
  }
  print_message("%u complete, %u times an unfinished one was seen\n", complete, interrupted);
  fixture_open(f->store);
  back_up(f); // sweeps
  assert_int_equal(count_backups(f, RAG_BACKUP_INTERRUPTED), 0);
  assert_int_equal(restore_and_count(f, 1), 2000);
}

static void test_a_killed_restore_leaves_no_store(void **state) {
  backup_fixture *f = *state;
  char temporary[400];
  unsigned whole = 0, none = 0, half = 0;
  put_pairs(f->store->store, 0, 1000);
  back_up(f);
  snprintf(temporary, sizeof temporary, "%s.restoring", f->to);
  uint64_t start_ns = rag_clock_monotonic_ns();
  wait_for(spawn_child("restore", f->store->dir, -1, -1));
  uint64_t usual_us = (rag_clock_monotonic_ns() - start_ns) / 1000;
  for (unsigned round = 0; round < 40; round++) {
    assert_int_equal(rag_os_remove_tree(f->to, NULL), RAG_OK);
    pid_t child = spawn_child("restore", f->store->dir, -1, -1);
    usleep((useconds_t)(usual_us * (round + 1) / 32));
    kill(child, SIGKILL);
    wait_for(child);
    rag_store_options options = test_options();
    rag_store *store = NULL;
    options.create_if_missing = false;
    if (rag_os_exists(f->to)) {
      assert_int_equal(rag_store_open(f->to, &options, &store, NULL), RAG_OK);
      assert_int_equal(count_pairs(store), 1000);
      rag_store_close(store);
      whole++;
      continue;
    }
    none++;
    // Under its temporary name it opens once every file is there, or not at all.
    if (rag_store_open(temporary, &options, &store, NULL) != RAG_OK) {
      half++;
      continue;
    }
    assert_int_equal(count_pairs(store), 1000);
    rag_store_close(store);
  }
  print_message("%u whole, %u none, of these %u with files that do not open\n", whole, none, half);
  assert_int_equal(restore_and_count(f, 0), 1000);
  assert_false(rag_os_exists(temporary));
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "backup") == 0) return backup_child(argv[2]);
  if (argc == 3 && strcmp(argv[1], "restore") == 0) return restore_child(argv[2]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_each_backup_is_its_point, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_backup_beside_writes, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_restored_store_goes_on, setup, teardown),
      cmocka_unit_test_setup_teardown(test_delete_and_keep, setup, teardown),
      cmocka_unit_test_setup_teardown(test_every_damaged_file_is_named, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_manifest_does_not_leave_its_directory, setup, teardown),
      cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
      cmocka_unit_test_setup_teardown(test_one_at_a_time_and_stopped, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_killed_backup_is_none, setup, teardown),
      cmocka_unit_test_setup_teardown(test_a_killed_restore_leaves_no_store, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
