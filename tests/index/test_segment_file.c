// Goal: a segment's file gives back what was put in, is there whole or not at all, and no damage of it gets through.
// Method: sections of every awkward size written and read back; one bit flipped in every block, page and header byte, and
// the file cut at many lengths: opening or verifying must say data loss; every allocation fails in turn; a full disk is
// made by RLIMIT_FSIZE; what an interrupted writer leaves is swept and nothing else is.
#include "index/segment/segment_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[256], path[300];
static rag_error err;
#define OK(call) assert_int_equal_status(call, RAG_OK, __LINE__)
static void assert_int_equal_status(rag_status got, rag_status wanted, int line) {
  if (got != wanted) fail_msg("line %d: status %d, not %d: %s", line, (int)got, (int)wanted, err.message);
}

static int setup(void **state) {
  RAG_UNUSED(state);
  const char *base = getenv("TMPDIR");
  snprintf(dir, sizeof dir, "%s/ragd-segment-XXXXXX", base ? base : "/tmp");
  if (!mkdtemp(dir)) return 1;
  snprintf(path, sizeof path, "%s/1.seg", dir);
  return 0;
}

static int teardown(void **state) {
  RAG_UNUSED(state);
  return rag_os_remove_tree(dir, NULL) != RAG_OK;
}

// ---------------------------------------------------------------------------------------------- what is written

static uint8_t byte_of(uint32_t kind, uint64_t at) {
  uint64_t x = (at + 1) * 0x9e3779b97f4a7c15u ^ kind * 0xbf58476d1ce4e5b9u;
  return (uint8_t)(x >> 32 ^ x >> 11);
}

typedef struct part {
  uint32_t kind;
  uint64_t size;
} part;
static const part parts[] = {{1, 0}, {2, 1}, {7, 4096}, {4, 4097}, {9, 65536}, {3, 3 * 65536 + 5}, {77, 2500000}};

static rag_status write_parts(const part *list, size_t count) {
  segment_writer *w = NULL;
  rag_status status = rag_segment__writer_create(path, &w, &err);
  uint8_t piece[1000];
  for (size_t i = 0; i < count && status == RAG_OK; i++) {
    status = rag_segment__writer_section(w, list[i].kind, &err);
    for (uint64_t at = 0; at < list[i].size && status == RAG_OK;) {
      size_t some = (size_t)RAG_MIN((uint64_t)(1 + at % sizeof piece), list[i].size - at);
      for (size_t k = 0; k < some; k++) piece[k] = byte_of(list[i].kind, at + k);
      status = rag_segment__writer_append(w, piece, some, &err);
      at += some;
    }
  }
  if (status == RAG_OK) return rag_segment__writer_finish(w, "what it is", 10, &err);
  rag_segment__writer_abandon(w);
  return status;
}

static rag_status read_all(void) {
  segment_file *f = NULL;
  rag_status status = rag_segment__file_open(path, &f, &err);
  if (status == RAG_OK) status = rag_segment__file_verify(f, 0, rag_segment__file_blocks(f), &err);
  rag_segment__file_close(f);
  return status;
}

static void check_parts(const part *list, size_t count) {
  segment_file *f = NULL;
  OK(rag_segment__file_open(path, &f, &err));
  OK(rag_segment__file_verify(f, 0, rag_segment__file_blocks(f), &err));
  assert_true(rag_slice_equal(rag_segment__file_meta(f), rag_slice_str("what it is")));
  for (size_t i = 0; i < count; i++) {
    rag_slice got = rag_segment__file_section(f, list[i].kind);
    assert_int_equal(got.size, list[i].size);
    assert_non_null(got.data);
    assert_int_equal((uintptr_t)got.data % SEGMENT_ALIGN, 0);
    for (uint64_t at = 0; at < list[i].size; at++) assert_int_equal((uint8_t)got.data[at], byte_of(list[i].kind, at));
    assert_ptr_equal(rag_segment__file_exactly(f, list[i].kind, list[i].size), got.data);
    assert_null(rag_segment__file_exactly(f, list[i].kind, list[i].size + 1));
  }
  assert_null(rag_segment__file_section(f, 1234).data);
  rag_segment__file_close(f);
}

static unsigned files_there(void) {
  char command[400], line[32] = "";
  snprintf(command, sizeof command, "ls -A '%s' | wc -l", dir);
  FILE *p = popen(command, "r");
  assert_non_null(p);
  assert_non_null(fgets(line, sizeof line, p));
  pclose(p);
  return (unsigned)strtoul(line, NULL, 10);
}

// ---------------------------------------------------------------------------------------------- tests

static void test_round_trip(void **state) {
  RAG_UNUSED(state);
  for (size_t count = 0; count <= RAG_COUNT_OF(parts); count++) {
    OK(write_parts(parts, count));
    check_parts(parts, count);
    assert_int_equal(files_there(), 1);
  }
  // Over what is there; in another order, with a section at the end that ends a block.
  static const part other[] = {{77, 65536 - 4096}, {5, 4096}};
  OK(write_parts(other, 2));
  check_parts(other, 2);
  OK(write_parts(&(part){3, 1u << 20}, 1)); // a whole buffer and nothing more
  check_parts(&(part){3, 1u << 20}, 1);
}

static void test_no_damage_gets_through(void **state) {
  RAG_UNUSED(state);
  static const part few[] = {{1, 10}, {2, 70000}, {3, 200000}};
  struct stat info;
  OK(write_parts(few, 3));
  assert_int_equal(stat(path, &info), 0);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  assert_true(fd >= 0);
  unsigned flips = 0;
  for (off_t at = 0; at < info.st_size; at += at < 4096 ? 1 : 509, flips++) {
    uint8_t byte, changed;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    changed = (uint8_t)(byte ^ 1u << at % 8);
    assert_int_equal(pwrite(fd, &changed, 1, at), 1);
    rag_status status = read_all();
    if (status != RAG_DATA_LOSS) fail_msg("a bit flipped at %lld: status %d", (long long)at, (int)status);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
  }
  assert_true(flips > 4000);
  OK(read_all());
  for (off_t size = info.st_size - 1; size >= 0; size -= size > 5000 ? 997 : 101) {
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(read_all(), RAG_DATA_LOSS);
  }
  close(fd);
  OK(write_parts(few, 3));
  fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  assert_int_equal(write(fd, "x", 1), 1); // longer
  close(fd);
  assert_int_equal(read_all(), RAG_DATA_LOSS);
}

static void test_what_is_no_segment(void **state) {
  RAG_UNUSED(state);
  (void)unlink(path);
  assert_int_equal(read_all(), RAG_NOT_FOUND);
  OK(rag_os_make_dirs(path, &err));
  assert_int_not_equal(read_all(), RAG_OK);
  OK(rag_os_remove_tree(path, &err));
  OK(rag_os_write_file(path, "", 0, &err));
  assert_int_equal(read_all(), RAG_DATA_LOSS);
  // A later version, with its checksum right, is not damage.
  OK(write_parts(parts, 2));
  uint8_t head[4096];
  int fd = open(path, O_RDWR | O_CLOEXEC);
  assert_int_equal(pread(fd, head, sizeof head, 0), sizeof head);
  head[8] = 2;
  uint32_t crc = rag_crc32c(0, head, sizeof head - 4);
  for (int i = 0; i < 4; i++) head[4092 + i] = (uint8_t)(crc >> 8 * i);
  assert_int_equal(pwrite(fd, head, sizeof head, 0), sizeof head);
  close(fd);
  assert_int_equal(read_all(), RAG_FAILED_PRECONDITION);
}

static void test_whole_or_not_at_all(void **state) {
  RAG_UNUSED(state);
  segment_writer *w = NULL;
  (void)unlink(path);
  OK(rag_segment__writer_create(path, &w, &err));
  OK(rag_segment__writer_section(w, 1, &err));
  OK(rag_segment__writer_append(w, "abc", 3, &err));
  assert_int_equal(read_all(), RAG_NOT_FOUND);
  rag_segment__writer_abandon(w);
  assert_int_equal(files_there(), 0);
  // What a kill leaves is swept; what is whole stays.
  OK(write_parts(parts, 3));
  char part_path[400];
  snprintf(part_path, sizeof part_path, "%s/2.seg.part", dir);
  OK(rag_os_write_file(part_path, "half", 4, &err));
  assert_int_equal(files_there(), 2);
  OK(rag_segment__sweep(dir, &err));
  assert_int_equal(files_there(), 1);
  check_parts(parts, 3);
  OK(rag_segment__sweep("/nonexistent/folder", &err));
  // A full disk: no new file, and the old one as it was.
  struct rlimit before, tight;
  getrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_IGN);
  for (rlim_t limit = 0; limit < 3000000; limit += 300000) {
    tight = (struct rlimit){limit, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &tight);
    rag_status status = write_parts(parts, RAG_COUNT_OF(parts));
    setrlimit(RLIMIT_FSIZE, &before);
    if (limit < 2700000) assert_int_not_equal(status, RAG_OK);
    check_parts(parts, status == RAG_OK ? RAG_COUNT_OF(parts) : 3);
    assert_int_equal(files_there(), 1);
  }
}

static void test_every_allocation_fails_once(void **state) {
  RAG_UNUSED(state);
  OK(write_parts(parts, 2));
  bool through = false;
  for (uint64_t n = 1; !through; n++) {
    rag_alloc_fail_after(n);
    rag_status status = write_parts(parts, RAG_COUNT_OF(parts));
    through = !rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, through ? RAG_OK : RAG_RESOURCE_EXHAUSTED);
    assert_int_equal(files_there(), 1);
    check_parts(parts, through ? RAG_COUNT_OF(parts) : 2);
  }
  through = false;
  for (uint64_t n = 1; !through; n++) {
    rag_alloc_fail_after(n);
    rag_status status = read_all();
    through = !rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, through ? RAG_OK : RAG_RESOURCE_EXHAUSTED);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(test_round_trip),          TEST(test_no_damage_gets_through),      TEST(test_what_is_no_segment),
      TEST(test_whole_or_not_at_all), TEST(test_every_allocation_fails_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
