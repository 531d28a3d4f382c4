// Goal: a directory is opened by one process, by a program that knows its format, and damage is refused, not repaired:
// a torn tail of the write-ahead log is dropped, a flipped bit before it refuses to open, as does a damaged table.
// Method: stores made here, their files edited by hand; a child process for the lock.
#include "tests/store/store_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define WAL_ROWS 1000

static void path_in(const fixture *f, const char *name, char *out, size_t size) {
  assert_true(snprintf(out, size, "%s/%s", f->dir, name) < (int)size);
}

// The largest file in DIR/db whose name ends so.
static void largest_file(const fixture *f, const char *suffix, char *out, size_t out_size) {
  char folder[300];
  off_t best = -1;
  path_in(f, "db", folder, sizeof folder);
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    size_t size = strlen(entry->d_name), tail = strlen(suffix);
    struct stat info;
    if (size < tail || strcmp(entry->d_name + size - tail, suffix) != 0) continue;
    assert_int_equal(fstatat(dirfd(dir), entry->d_name, &info, 0), 0);
    if (info.st_size <= best) continue;
    best = info.st_size;
    snprintf(out, out_size, "%s/%s", folder, entry->d_name);
  }
  closedir(dir);
  assert_true(best > 0);
}

static off_t file_size(const char *path) {
  struct stat info;
  assert_int_equal(stat(path, &info), 0);
  return info.st_size;
}

static void flip_bits(const char *path, off_t offset, unsigned char bits) {
  unsigned char byte = 0;
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0);
  assert_int_equal(pread(fd, &byte, 1, offset), 1);
  byte = (unsigned char)(byte ^ bits);
  assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
  close(fd);
}

static void flip_bit(const char *path, off_t offset) {
  flip_bits(path, offset, 0x10);
}

static void rows_are_there_after_reopening(void **state) {
  fixture *f = *state;
  put_text(f->store, "a", "1");
  put(f->store, RAG_CF_CONTENT, "a", "2");
  fixture_reopen(f);
  assert_true(holds(f->store, NULL, RAG_CF_META, "a", "1"));
  assert_true(holds(f->store, NULL, RAG_CF_CONTENT, "a", "2"));
  assert_true(absent(f->store, NULL, RAG_CF_CHUNK, "a"));
  assert_string_equal(rag_store_dir(f->store), f->dir);
}

static void nothing_is_created_unasked(void **state) {
  fixture *f = *state;
  char path[300];
  rag_store *store = NULL;
  rag_error err = {0};
  path_in(f, "other", path, sizeof path);
  f->options.create_if_missing = false;
  assert_int_equal(rag_store_open(path, &f->options, &store, &err), RAG_NOT_FOUND);
  assert_null(store);
  assert_false(rag_os_exists(path));
  fixture_reopen(f); // one that is there opens
}

static void a_newer_format_is_refused(void **state) {
  fixture *f = *state;
  char path[300];
  unsigned char record[20] = "RAGDSTOR\x02";
  rag_error err = {0};
  fixture_close(f);
  path_in(f, "FORMAT", path, sizeof path);
  uint32_t crc = rag_crc32c(0, record, 16);
  for (int i = 0; i < 4; i++) record[16 + i] = (unsigned char)(crc >> (8 * i));
  assert_int_equal(rag_os_write_file(path, record, sizeof record, &err), RAG_OK);
  assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_FAILED_PRECONDITION);
  assert_non_null(strstr(err.message, "version 2"));
  assert_non_null(strstr(err.message, "version 1"));
}

static void a_damaged_format_record_is_refused(void **state) {
  fixture *f = *state;
  char path[300];
  rag_error err = {0};
  fixture_close(f);
  path_in(f, "FORMAT", path, sizeof path);
  for (off_t offset = 0; offset < file_size(path); offset++) {
    flip_bit(path, offset);
    assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_DATA_LOSS);
    flip_bit(path, offset);
  }
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_DATA_LOSS);
}

static void the_format_record_is_pinned(void **state) {
  fixture *f = *state;
  char path[300], *bytes = NULL;
  size_t size = 0;
  path_in(f, "FORMAT", path, sizeof path);
  assert_int_equal(rag_os_read_file(path, 100, &bytes, &size, NULL), RAG_OK);
  assert_int_equal(size, 20);
  assert_memory_equal(bytes, "RAGDSTOR\x01\0\0\0\0\0\0\0", 16);
  rag_free(bytes);
}

// The other process: holds the store until the pipe at 4 is closed.
static int child_holds(const char *dir) {
  rag_store_options options = test_options();
  rag_store *store = NULL;
  char byte = 0;
  bool opened = rag_store_open(dir, &options, &store, NULL) == RAG_OK;
  if (write(3, opened ? "y" : "n", 1) != 1 || read(4, &byte, 1) < 0) return 2;
  rag_store_close(store);
  return 0;
}

static void a_second_opener_is_refused(void **state) {
  fixture *f = *state;
  rag_store *second = NULL;
  rag_error err = {0};
  assert_int_equal(rag_store_open(f->dir, &f->options, &second, &err), RAG_FAILED_PRECONDITION);
  assert_string_equal(err.field, "locked");

  int ready[2], done[2];
  char byte = 0;
  fixture_close(f);
  assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
  assert_int_equal(pipe2(done, O_CLOEXEC), 0);
  // Out of the way of the numbers that the child uses.
  int out = fcntl(ready[1], F_DUPFD_CLOEXEC, 10), in = fcntl(done[0], F_DUPFD_CLOEXEC, 10);
  pid_t child = spawn_child("hold", f->dir, out, in);
  close(out);
  close(in);
  close(ready[1]);
  close(done[0]);
  assert_int_equal(read(ready[0], &byte, 1), 1);
  assert_int_equal(byte, 'y');
  memset(&err, 0, sizeof err);
  assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_FAILED_PRECONDITION);
  assert_string_equal(err.field, "locked");
  close(done[1]);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  close(ready[0]);
  fixture_open(f);
}

// Leaves WAL_ROWS commits in the write-ahead log of a closed store and gives its path.
// Leaves the directory as a kill would: closing flushes the log and seals the files.
static void close_as_killed(fixture *f) {
  char command[800];
  snprintf(command, sizeof command, "cp -a %s %s.killed", f->dir, f->dir);
  assert_int_equal(system(command), 0);
  fixture_close(f);
  assert_int_equal(rag_os_remove_tree(f->dir, NULL), RAG_OK);
  snprintf(command, sizeof command, "%s.killed", f->dir);
  assert_int_equal(rename(command, f->dir), 0);
}

static void fill_wal(fixture *f, char *path, size_t size) {
  char key[32];
  for (int i = 0; i < WAL_ROWS; i++) {
    snprintf(key, sizeof key, "row%04d", i);
    put_text(f->store, key,
             "a value of some length, so that the log has several of its blocks of thirty-two kilobytes");
  }
  close_as_killed(f);
  largest_file(f, ".log", path, size);
  assert_true(file_size(path) > 3 * 32768);
}

static void a_torn_tail_loses_the_last_commit_alone(void **state) {
  fixture *f = *state;
  char path[400], key[32];
  fill_wal(f, path, sizeof path);
  assert_int_equal(truncate(path, file_size(path) - 3), 0);
  fixture_open(f);
  for (int i = 0; i < WAL_ROWS; i++) {
    rag_value value = {0};
    snprintf(key, sizeof key, "row%04d", i);
    rag_status status = rag_store_get(f->store, NULL, RAG_CF_META, rag_slice_str(key), &value, NULL);
    assert_int_equal(status, i < WAL_ROWS - 1 ? RAG_OK : RAG_NOT_FOUND);
    rag_value_free(&value);
  }
}

static void a_flipped_bit_in_the_log_refuses_to_open(void **state) {
  fixture *f = *state;
  char path[400];
  rag_error err = {0};
  fill_wal(f, path, sizeof path);
  off_t size = file_size(path);
  // In the first block, in the middle, and in the last block: in payloads and in headers, wherever they fall.
  const off_t offsets[] = {100, 101, 102, 103, 104, 105, size / 2, size / 2 + 1, size / 2 + 50, size - 1000};
  for (size_t i = 0; i < RAG_COUNT_OF(offsets); i++) {
    flip_bit(path, offsets[i]);
    assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_DATA_LOSS);
    assert_null(f->store);
    flip_bit(path, offsets[i]);
  }
  // Every bit of the first and the last records, headers with lengths and types among them.
  for (off_t i = 0; i < 240; i++)
    for (unsigned bit = 0; bit < 8; bit++) {
      off_t offset = i < 120 ? i : size - 240 + i;
      flip_bits(path, offset, (unsigned char)(1u << bit));
      if (rag_store_open(f->dir, &f->options, &f->store, &err) != RAG_DATA_LOSS)
        fail_msg("bit %u of byte %lld of %lld: not refused", bit, (long long)offset, (long long)size);
      assert_non_null(strstr(err.message, path));
      flip_bits(path, offset, (unsigned char)(1u << bit));
    }
  fixture_open(f); // the refusals changed nothing: repaired from a backup, all is there
  assert_true(rag_store_writable(f->store, NULL) == RAG_OK);
  assert_false(absent(f->store, NULL, RAG_CF_META, "row0999"));
}

// What RocksDB by itself does not notice.
static void a_closed_store_misses_nothing(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  char folder[300], path[600], command[1600];
  for (int i = 0; i < 3; i++) {
    put_text(f->store, "a", "1");
    put(f->store, RAG_CF_BITMAP, i == 0 ? "x" : "y", "2");
    fixture_reopen(f);
  }
  fixture_close(f);
  path_in(f, "db", folder, sizeof folder);
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  unsigned files = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    struct stat info;
    const char *name = entry->d_name;
    if (name[0] == '.' || strcmp(name, "LOCK") == 0 || strncmp(name, "OPTIONS", 7) == 0 ||
        strcmp(name, "IDENTITY") == 0)
      continue;
    assert_true(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path);
    assert_int_equal(stat(path, &info), 0);
    if (info.st_size == 0) continue; // an empty log
    files++;
    snprintf(command, sizeof command, "cp -a %s %s/kept", path, f->dir);
    assert_int_equal(system(command), 0);
    for (int way = 0; way < 3; way++) {
      if (way == 0) assert_int_equal(truncate(path, info.st_size / 2), 0);
      else if (way == 1) assert_int_equal(truncate(path, info.st_size - 1), 0);
      else assert_int_equal(unlink(path), 0);
      assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_DATA_LOSS);
      assert_non_null(strstr(err.message, name));
      snprintf(command, sizeof command, "cp -a %s/kept %s", f->dir, path);
      assert_int_equal(system(command), 0);
    }
  }
  closedir(dir);
  assert_true(files >= 4);
  fixture_open(f);
  assert_true(holds(f->store, NULL, RAG_CF_META, "a", "1"));
  assert_true(holds(f->store, NULL, RAG_CF_BITMAP, "x", "2"));
}

static void a_killed_store_misses_what_must_be_there(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  char path[400], kept[400];
  put_text(f->store, "a", "1");
  assert_int_equal(rag_store_flush(f->store, &err), RAG_OK);
  fill_wal(f, path, sizeof path);
  snprintf(kept, sizeof kept, "%s/kept", f->dir);
  assert_int_equal(rename(path, kept), 0); // the only log
  assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_DATA_LOSS);
  assert_int_equal(rename(kept, path), 0);
  path_in(f, "db/CURRENT", path, sizeof path); // RocksDB would make a new database of it
  assert_int_equal(rename(path, kept), 0);
  assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_DATA_LOSS);
  assert_non_null(strstr(err.message, "CURRENT"));
  assert_int_equal(rename(kept, path), 0);
  largest_file(f, ".sst", path, sizeof path);
  assert_int_equal(rename(path, kept), 0);
  assert_int_equal(rag_store_open(f->dir, &f->options, &f->store, &err), RAG_DATA_LOSS);
  assert_int_equal(rename(kept, path), 0);
  fixture_open(f);
  assert_true(holds(f->store, NULL, RAG_CF_META, "a", "1"));
  assert_false(absent(f->store, NULL, RAG_CF_META, "row0999"));
}

static void a_damaged_table_is_never_served(void **state) {
  fixture *f = *state;
  char path[400], key[32];
  rag_error err = {0};
  rag_store_iter *it = NULL;
  for (int i = 0; i < 2000; i++) {
    snprintf(key, sizeof key, "row%04d", i);
    put(f->store, RAG_CF_VECTOR, key, "0123456789012345678901234567890123456789");
  }
  assert_int_equal(rag_store_flush(f->store, &err), RAG_OK);
  fixture_close(f);
  largest_file(f, ".sst", path, sizeof path);
  flip_bit(path, 5000);
  fixture_open(f);
  assert_int_equal(rag_store_iter_open(f->store, NULL, RAG_CF_VECTOR, (rag_slice){0}, (rag_slice){0}, false, &it, &err),
                   RAG_OK);
  int seen = 0;
  while (rag_store_iter_next(it)) {
    assert_true(rag_slice_equal(rag_store_iter_value(it), rag_slice_str("0123456789012345678901234567890123456789")));
    seen++;
  }
  assert_int_equal(rag_store_iter_status(it, &err), RAG_DATA_LOSS);
  assert_in_range(seen, 0, 1999);
  rag_store_iter_close(it);
  int lost = 0;
  for (int i = 0; i < 2000; i++) {
    rag_value value = {0};
    snprintf(key, sizeof key, "row%04d", i);
    rag_status status = rag_store_get(f->store, NULL, RAG_CF_VECTOR, rag_slice_str(key), &value, &err);
    assert_true(status == RAG_OK || status == RAG_DATA_LOSS);
    lost += status == RAG_DATA_LOSS;
    rag_value_free(&value);
  }
  assert_in_range(lost, 1, 1999);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  fixture *f = *state;
  fixture_close(f);
  for (uint64_t n = 1;; n++) {
    rag_error err = {0};
    rag_alloc_fail_after(n);
    rag_status status = rag_store_open(f->dir, &f->options, &f->store, &err);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    if (!failed) {
      assert_int_equal(status, RAG_OK);
      assert_true(n > 3);
      break;
    }
    // An open that got by without what it could not have is fine; half a store is not.
    if (status == RAG_OK) fixture_close(f);
    else assert_null(f->store);
  }
}

static void statistics_follow_what_is_written(void **state) {
  fixture *f = *state;
  rag_store_stats before, after;
  rag_store_stats_get(f->store, &before);
  char text[4096];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  for (int i = 0; i < 100; i++) {
    char key[16];
    snprintf(key, sizeof key, "%d", i);
    for (size_t j = 0; j < sizeof text - 1; j++) text[j] = (char)('a' + (i * 31 + (int)j * (int)j) % 26);
    put(f->store, RAG_CF_BITMAP, key, text);
  }
  rag_store_stats_get(f->store, &after);
  assert_int_equal(after.commits - before.commits, 100);
  assert_int_equal(after.syncs, 0); // sync is off here
  assert_in_range(after.bytes_written - before.bytes_written, 100 * 4095, 100 * 4300);
  assert_true(after.wal_bytes > 100 * 4095);
  assert_int_equal(after.estimated_keys[RAG_CF_BITMAP], 100);
  assert_int_equal(rag_store_flush(f->store, NULL), RAG_OK);
  rag_store_stats_get(f->store, &after);
  assert_in_range(after.blob_bytes, 100 * 4095, 100 * 4300); // values of 4 KiB lie in blob files
  assert_true(after.sst_bytes > 0 && after.live_bytes[RAG_CF_BITMAP] >= 100 * 4095);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "hold") == 0) return child_holds(argv[2]);
  const struct CMUnitTest tests[] = {
      STORE_TEST(rows_are_there_after_reopening),
      STORE_TEST(nothing_is_created_unasked),
      STORE_TEST(a_newer_format_is_refused),
      STORE_TEST(a_damaged_format_record_is_refused),
      STORE_TEST(the_format_record_is_pinned),
      STORE_TEST(a_second_opener_is_refused),
      STORE_TEST(a_torn_tail_loses_the_last_commit_alone),
      STORE_TEST(a_flipped_bit_in_the_log_refuses_to_open),
      STORE_TEST(a_closed_store_misses_nothing),
      STORE_TEST(a_killed_store_misses_what_must_be_there),
      STORE_TEST(a_damaged_table_is_never_served),
      STORE_TEST(failed_allocations_leave_nothing_behind),
      STORE_TEST(statistics_follow_what_is_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
