// Goal: faultfs.so and the replay keep the model that they claim, so that what the other tests say means something.
// Method: this program runs itself under the library with a script of file calls, is killed, and looks at what a disk
// would hold.
#include "tests/fault/power/faultfs.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char self[PATH_MAX], shim[PATH_MAX], base[PATH_MAX];

// ---------------------------------------------------------------------------------------------- the child

#define DO(call)                                                                                                       \
  do {                                                                                                                 \
    if (!(call)) _exit(__LINE__ % 200 + 1);                                                                            \
  } while (0)

static int put(const char *name, const char *text) { // appends; in the current folder's absolute path
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%.3000s/live/%s", base, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  DO(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  return fd;
}

static void sync_folder(const char *name) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%.3000s/live%s", base, name);
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DO(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
}

static const char *live(const char *name) {
  static char paths[2][PATH_MAX];
  static int turn;
  turn = !turn;
  snprintf(paths[turn], PATH_MAX, "%.3000s/live/%s", base, name);
  return paths[turn];
}

static void script_syncs(void) {
  int fd = put("bytes-not-synced", "gone");
  DO(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE) == 0);
  DO(fsync(put("synced", "old")) == 0);
  DO(fdatasync(put("cut", "0123456789")) == 0);
  DO(fsync(put("renamed", "one")) == 0);
  DO(fsync(put("removed", "stays")) == 0);
  DO(mkdir(live("folder"), 0700) == 0);
  DO(fsync(put("folder/in", "folder")) == 0);
  sync_folder("/folder");
  sync_folder("");
  // From here on no folder is synced.
  DO(fsync(put("name-not-synced", "gone")) == 0);
  put("synced", "new");
  fd = open(live("cut"), O_WRONLY | O_CLOEXEC);
  DO(fd >= 0 && ftruncate(fd, 4) == 0 && fsync(fd) == 0 && ftruncate(fd, 1) == 0);
  DO(rename(live("renamed"), live("renamed-to")) == 0);
  DO(unlink(live("removed")) == 0);
  DO(mkdir(live("folder-not-synced"), 0700) == 0);
  DO(fsync(put("folder-not-synced/in", "gone")) == 0);
}

static void script_failed_sync(void) { // RAGD_FAULT_PLAN=fsync:EIO:1@failed
  int fd = put("failed", "gone");
  errno = 0;
  DO(fsync(fd) == -1 && errno == EIO);
  DO(fsync(fd) == 0); // says OK and has nothing to write
  sync_folder("");
}

static void script_short_write(void) { // RAGD_FAULT_PLAN=write:SHORT:2
  int fd = put("short", "12");
  DO(write(fd, "345678", 6) == 3);
  DO(write(fd, "678", 3) == 3);
  DO(fsync(fd) == 0);
  sync_folder("");
}

// ---------------------------------------------------------------------------------------------- the parent

static void run(const char *script, const char *plan) {
  char path[PATH_MAX];
  int status = 0;
  for (const char *const *name = (const char *const[]){"live", "durable", "out", NULL}; *name != NULL; name++) {
    snprintf(path, sizeof path, "%.3000s/%s", base, *name);
    assert_int_equal(rag_os_remove_tree(path, NULL), RAG_OK);
    if (strcmp(*name, "out") != 0) assert_int_equal(mkdir(path, 0700), 0);
  }
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    snprintf(path, sizeof path, "%.3000s/live", base);
    setenv("RAGD_FAULT_DIR", path, 1);
    snprintf(path, sizeof path, "%.3000s/durable", base);
    setenv("RAGD_FAULT_DURABLE", path, 1);
    setenv("RAGD_FAULT_PLAN", plan, 1);
    setenv("LD_PRELOAD", shim, 1);
    execl(self, self, script, base, (char *)NULL);
    _exit(255);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (!WIFSIGNALED(status)) fail_msg("script %s: status %d", script, WEXITSTATUS(status));
  assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void cut(replay_mode mode, uint64_t seed) {
  char durable[PATH_MAX], left[PATH_MAX], out[PATH_MAX];
  snprintf(durable, sizeof durable, "%.3000s/durable", base);
  snprintf(left, sizeof left, "%.3000s/live", base);
  snprintf(out, sizeof out, "%.3000s/out", base);
  assert_int_equal(rag_os_remove_tree(out, NULL), RAG_OK);
  assert_true(replay(durable, left, out, mode, &seed));
}

// The file's text on the disk, NULL: it is not there.
static const char *disk(const char *name) {
  static char text[256];
  char path[PATH_MAX], *data = NULL;
  size_t size = 0;
  snprintf(path, sizeof path, "%.3000s/out/%s", base, name);
  if (!rag_os_exists(path)) return NULL;
  assert_int_equal(rag_os_read_file(path, sizeof text - 1, &data, &size, NULL), RAG_OK);
  memcpy(text, data, size + 1);
  rag_free(data);
  return text;
}

static void only_what_was_synced_is_there(void **state) {
  RAG_UNUSED(state);
  run("syncs", "");
  cut(REPLAY_STRICT, 1);
  assert_string_equal(disk("bytes-not-synced"), "");
  assert_string_equal(disk("synced"), "old");
  assert_string_equal(disk("cut"), "0123");
  assert_string_equal(disk("renamed"), "one");
  assert_null(disk("renamed-to"));
  assert_string_equal(disk("removed"), "stays");
  assert_string_equal(disk("folder/in"), "folder");
  assert_null(disk("name-not-synced"));
  assert_null(disk("folder-not-synced"));
}

static void of_the_rest_a_prefix_may_be_there(void **state) {
  RAG_UNUSED(state);
  bool seen_old = false, seen_new = false, seen_part = false, seen_name = false, seen_no_name = false;
  run("syncs", "");
  for (uint64_t seed = 0; seed < 200; seed++) {
    cut(REPLAY_PREFIX, seed);
    const char *text = disk("synced");
    size_t size = strlen(text);
    assert_true(size >= 3 && strncmp(text, "oldnew", size) == 0);
    seen_old |= size == 3;
    seen_part |= size == 4 || size == 5;
    seen_new |= size == 6;
    bool name = disk("name-not-synced") != NULL;
    seen_name |= name;
    seen_no_name |= !name;
    // The pending changes of one folder come together.
    assert_true((disk("renamed-to") != NULL) == name && (disk("renamed") == NULL) == name);
  }
  assert_true(seen_old && seen_part && seen_new && seen_name && seen_no_name);
}

static void a_failed_sync_loses_what_it_should_have_written(void **state) {
  RAG_UNUSED(state);
  run("failed-sync", "fsync:EIO:1@failed");
  cut(REPLAY_STRICT, 1);
  assert_string_equal(disk("failed"), "");
}

static void a_short_write_does_half(void **state) {
  RAG_UNUSED(state);
  run("short-write", "write:SHORT:2");
  cut(REPLAY_STRICT, 1);
  assert_string_equal(disk("short"), "12345678");
}

int main(int argc, char **argv) {
  if (argc == 3) {
    snprintf(base, sizeof base, "%.4000s", argv[2]);
    if (strcmp(argv[1], "syncs") == 0) script_syncs();
    else if (strcmp(argv[1], "failed-sync") == 0) script_failed_sync();
    else if (strcmp(argv[1], "short-write") == 0) script_short_write();
    kill(getpid(), SIGKILL);
  }
  const char *tmp = getenv("TMPDIR");
  if (realpath(argv[0], self) == NULL) return 2;
  snprintf(shim, sizeof shim, "%.3900s", self);
  strcpy(strrchr(shim, '/'), "/fault_power_faultfs.so");
  snprintf(base, sizeof base, "%.3000s/ragd-faultfs-XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp(base) == NULL) return 2;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_what_was_synced_is_there),
      cmocka_unit_test(of_the_rest_a_prefix_may_be_there),
      cmocka_unit_test(a_failed_sync_loses_what_it_should_have_written),
      cmocka_unit_test(a_short_write_does_half),
  };
  int failures = cmocka_run_group_tests(tests, NULL, NULL);
  return rag_os_remove_tree(base, NULL) == RAG_OK ? failures : 2;
}
