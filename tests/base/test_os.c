// Goal: files are written whole or not at all, read within their bound, and removed without following links.
// Method: a folder of our own; failures forced by permissions-free means (names that are folders, limits on file size,
// planned allocation failures), each followed by a look at what is left on disk.
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[256];

static int set_up(void **state) {
  RAG_UNUSED(state);
  const char *base = getenv("TMPDIR");
  snprintf(folder, sizeof(folder), "%s/ragd-os-XXXXXX", base ? base : "/tmp");
  return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state) {
  RAG_UNUSED(state);
  rag_alloc_fail_after(0);
  return rag_os_remove_tree(folder, NULL) == RAG_OK && !rag_os_exists(folder) ? 0 : -1;
}

static const char *in_folder(const char *name) {
  static char paths[4][512];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
  return path;
}

static size_t entries_in(const char *path) {
  size_t count = 0;
  DIR *dir = opendir(path);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir));) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

static void assert_content(const char *path, const char *want) {
  char *data = NULL;
  size_t size = 0;
  assert_int_equal(rag_os_read_file(path, 1 << 20, &data, &size, NULL), RAG_OK);
  assert_int_equal(size, strlen(want));
  assert_string_equal(data, want);
  rag_free(data);
}

static void make_dirs(void **state) {
  RAG_UNUSED(state);
  struct stat found;
  rag_error err;
  assert_int_equal(rag_os_make_dirs(in_folder("a/b//c/"), &err), RAG_OK);
  assert_int_equal(rag_os_make_dirs(in_folder("a/b/c"), &err), RAG_OK); // again is fine
  assert_int_equal(stat(in_folder("a/b/c"), &found), 0);
  assert_int_equal(found.st_mode & 07777, 0700);
  assert_int_equal(rag_os_write_file(in_folder("file"), "x", 1, &err), RAG_OK);
  assert_int_equal(rag_os_make_dirs(in_folder("file"), &err), RAG_FAILED_PRECONDITION);
  assert_int_not_equal(rag_os_make_dirs(in_folder("file/below"), &err), RAG_OK);
  assert_int_equal(rag_os_make_dirs("", &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_os_make_dirs("/", &err), RAG_OK);
}

static void write_replaces_whole_files(void **state) {
  RAG_UNUSED(state);
  const char *path = in_folder("f");
  assert_int_equal(rag_os_write_file(path, "old content, long", 17, NULL), RAG_OK);
  assert_content(path, "old content, long");
  assert_int_equal(rag_os_write_file(path, "new", 3, NULL), RAG_OK);
  assert_content(path, "new");
  assert_int_equal(rag_os_write_file(path, NULL, 0, NULL), RAG_OK);
  assert_content(path, "");
  assert_int_equal(entries_in(folder), 1); // no temporary file stays
}

static void a_failed_write_leaves_the_old_content(void **state) {
  RAG_UNUSED(state);
  rag_error err;
  static char big[1 << 16];
  const char *path = in_folder("f");
  assert_int_equal(rag_os_write_file(path, "old", 3, NULL), RAG_OK);

  struct rlimit before, small = {.rlim_cur = 4096};
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  small.rlim_max = before.rlim_max;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0); // the disk is full after 4 KiB
  rag_status status = rag_os_write_file(path, big, sizeof(big), &err);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
  assert_content(path, "old");
  assert_int_equal(entries_in(folder), 1);

  rag_alloc_fail_after(1);
  assert_int_equal(rag_os_write_file(path, "new", 3, &err), RAG_RESOURCE_EXHAUSTED);
  assert_content(path, "old");

  assert_int_equal(rag_os_make_dirs(in_folder("dir/full"), NULL), RAG_OK);
  assert_int_not_equal(rag_os_write_file(in_folder("dir"), "x", 1, &err), RAG_OK); // rename over a folder
  assert_int_equal(entries_in(folder), 2);
  assert_int_equal(rag_os_write_file(in_folder("none/f"), "x", 1, &err), RAG_NOT_FOUND);
  assert_non_null(strstr(err.message, "No such file"));
  assert_int_equal(rag_os_write_file(in_folder("none/f"), "x", 1, NULL), RAG_NOT_FOUND);
}

static void *rewrite(void *arg) {
  static char content[2][20000];
  memset(content[0], 'a', sizeof(content[0]));
  memset(content[1], 'b', sizeof(content[1]) / 2);
  for (int i = 0; i < 60; i++) {
    size_t which = (size_t)i % 2;
    if (rag_os_write_file(arg, content[which], which ? 10000 : 20000, NULL) != RAG_OK) return arg;
  }
  return NULL;
}

static void a_reader_sees_one_of_the_contents(void **state) {
  RAG_UNUSED(state);
  char path[512];
  snprintf(path, sizeof(path), "%s/f", folder);
  assert_int_equal(rag_os_write_file(path, "", 0, NULL), RAG_OK);
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, rewrite, path), 0);
  for (int i = 0; i < 500; i++) {
    char *data;
    size_t size;
    assert_int_equal(rag_os_read_file(path, 1 << 20, &data, &size, NULL), RAG_OK);
    assert_true(size == 0 || size == 10000 || size == 20000);
    for (size_t k = 0; k < size; k++) assert_int_equal(data[k], size == 20000 ? 'a' : 'b');
    rag_free(data);
  }
  void *failed;
  pthread_join(thread, &failed);
  assert_null(failed);
}

static void reads_keep_their_bound(void **state) {
  RAG_UNUSED(state);
  rag_error err;
  char *data = (char *)(uintptr_t)1;
  size_t size = 77;
  const char *path = in_folder("f");
  assert_int_equal(rag_os_write_file(path, "0123456789", 10, NULL), RAG_OK);
  assert_int_equal(rag_os_read_file(path, 9, &data, &size, &err), RAG_OUT_OF_RANGE);
  assert_int_equal(rag_os_read_file(in_folder("none"), 9, &data, &size, &err), RAG_NOT_FOUND);
  assert_int_equal(rag_os_read_file(folder, 9, &data, &size, &err), RAG_INVALID_ARGUMENT);       // a folder
  assert_int_equal(rag_os_read_file("/dev/zero", 100000, &data, &size, &err), RAG_OUT_OF_RANGE); // endless
  rag_alloc_fail_after(1);
  assert_int_equal(rag_os_read_file(path, 10, &data, &size, &err), RAG_RESOURCE_EXHAUSTED);
  assert_true(data == (char *)(uintptr_t)1 && size == 77); // untouched by all these
  assert_int_equal(rag_os_read_file(path, 10, &data, &size, &err), RAG_OK);
  assert_string_equal(data, "0123456789");
  rag_free(data);
  assert_int_equal(rag_os_read_file("/proc/self/status", 1 << 20, &data, NULL, &err),
                   RAG_OK); // says that it has 0 bytes
  assert_non_null(strstr(data, "Pid:"));
  rag_free(data);
}

static void remove_tree_stays_inside(void **state) {
  RAG_UNUSED(state);
  assert_int_equal(rag_os_make_dirs(in_folder("outside"), NULL), RAG_OK);
  assert_int_equal(rag_os_write_file(in_folder("outside/kept"), "x", 1, NULL), RAG_OK);
  assert_int_equal(rag_os_make_dirs(in_folder("tree/a/b/c/d"), NULL), RAG_OK);
  assert_int_equal(rag_os_write_file(in_folder("tree/a/f"), "x", 1, NULL), RAG_OK);
  assert_int_equal(symlink(in_folder("outside"), in_folder("tree/link")), 0);
  assert_int_equal(symlink("nowhere", in_folder("tree/a/dangling")), 0);
  assert_true(rag_os_exists(in_folder("tree/a/dangling")));
  assert_int_equal(rag_os_remove_tree(in_folder("tree"), NULL), RAG_OK);
  assert_false(rag_os_exists(in_folder("tree")));
  assert_content(in_folder("outside/kept"), "x");
  assert_int_equal(rag_os_remove_tree(in_folder("tree"), NULL), RAG_OK); // missing is fine
  assert_int_equal(rag_os_remove_tree(in_folder("outside/kept"), NULL), RAG_OK);
  assert_int_equal(entries_in(in_folder("outside")), 0);
}

static void errno_becomes_status(void **state) {
  RAG_UNUSED(state);
  rag_error err;
  assert_int_equal(rag_os_fail(&err, "open", "/x/y", ENOENT), RAG_NOT_FOUND);
  assert_string_equal(err.message, "open /x/y: No such file or directory");
  assert_int_equal(rag_os_fail(&err, "write", NULL, ENOSPC), RAG_RESOURCE_EXHAUSTED);
  assert_string_equal(err.message, "write: No space left on device");
  assert_int_equal(rag_os_fail(NULL, "fsync", NULL, EIO), RAG_UNAVAILABLE);
  assert_int_equal(rag_os_fail(NULL, "x", NULL, EACCES), RAG_PERMISSION_DENIED);
  assert_int_equal(rag_os_fail(NULL, "x", NULL, 9999), RAG_INTERNAL);
  assert_int_equal(rag_os_write_all(-1, "x", 1, &err), RAG_INTERNAL);
  assert_int_equal(rag_os_sync_dir(in_folder("none"), &err), RAG_NOT_FOUND);
}

static void machine(void **state) {
  RAG_UNUSED(state);
  uint64_t bytes = 0;
  assert_int_equal(rag_os_disk_free(folder, &bytes, NULL), RAG_OK);
  assert_true(bytes > 0);
  assert_int_equal(rag_os_disk_free(in_folder("none"), &bytes, NULL), RAG_NOT_FOUND);
  assert_in_range(rag_os_cpu_count(), 1, 1 << 16);
  unsigned char a[1000] = {0}, b[1000] = {0};
  rag_os_random(a, sizeof(a));
  rag_os_random(b, sizeof(b));
  assert_memory_not_equal(a, b, sizeof(a));
  unsigned seen[256] = {0}, distinct = 0;
  for (size_t i = 0; i < sizeof(a); i++) distinct += seen[a[i]]++ == 0;
  assert_true(distinct > 200); // 251 expected
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(make_dirs, set_up, tear_down),
      cmocka_unit_test_setup_teardown(write_replaces_whole_files, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_failed_write_leaves_the_old_content, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_reader_sees_one_of_the_contents, set_up, tear_down),
      cmocka_unit_test_setup_teardown(reads_keep_their_bound, set_up, tear_down),
      cmocka_unit_test_setup_teardown(remove_tree_stays_inside, set_up, tear_down),
      cmocka_unit_test_setup_teardown(errno_becomes_status, set_up, tear_down),
      cmocka_unit_test_setup_teardown(machine, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
