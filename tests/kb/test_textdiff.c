// Goal: a diff is a shortest one, in the form of `diff -u`, and turns the one text into the other.
// Method: exact outputs; random texts checked by an applier written here (which trusts nothing but the format), against
// the length of the longest common subsequence, and, where the programs exist, by patch(1) and `diff -u`; the cut-offs;
// every allocation failing once.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "kb/kb.h"

static uint64_t seed;
static uint32_t draw(uint32_t below) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 33) % below);
}

static char *diff(rag_slice from, rag_slice to, unsigned context) {
  rag_buf out = {0};
  rag_error err = {0};
  assert_int_equal(rag_text_diff(from, to, "a", "b", context, &out, &err), RAG_OK);
  rag_buf_append_char(&out, '\0');
  assert_false(out.failed);
  return out.data;
}

static void expect(const char *from, const char *to, unsigned context, const char *wanted) {
  char *got = diff(rag_slice_str(from), rag_slice_str(to), context);
  assert_string_equal(got, wanted);
  rag_free(got);
}

static void test_format(void **state) {
  RAG_UNUSED(state);
  expect("a\nb\n", "a\nb\n", 3, "");
  expect("", "", 3, "");
  expect("", "x\ny\n", 3, "--- a\n+++ b\n@@ -0,0 +1,2 @@\n+x\n+y\n");
  expect("x\n", "", 3, "--- a\n+++ b\n@@ -1 +0,0 @@\n-x\n");
  expect("a\nb\nc\n", "a\nB\nc\n", 3, "--- a\n+++ b\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
  expect("a\nb\nc\n", "a\nB\nc\n", 0, "--- a\n+++ b\n@@ -2 +2 @@\n-b\n+B\n");
  expect("a\nb\nc\n", "a\nB\nc\n", UINT32_MAX, "--- a\n+++ b\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
  expect("a\nb\nc\n", "a\nc\n", 1, "--- a\n+++ b\n@@ -1,3 +1,2 @@\n a\n-b\n c\n");
  expect("a\nc\n", "a\nb\nc\n", 0, "--- a\n+++ b\n@@ -1,0 +2 @@\n+b\n");
}

static void test_missing_newline(void **state) {
  RAG_UNUSED(state);
  expect("a\nb", "a\nb\n", 3, "--- a\n+++ b\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n");
  expect("a\nb\n", "a\nb", 3, "--- a\n+++ b\n@@ -1,2 +1,2 @@\n a\n-b\n+b\n\\ No newline at end of file\n");
  expect("a\nb", "c\nb", 3, "--- a\n+++ b\n@@ -1,2 +1,2 @@\n-a\n+c\n b\n\\ No newline at end of file\n");
  expect("b", "ab", 3,
         "--- a\n+++ b\n@@ -1 +1 @@\n-b\n\\ No newline at end of file\n+ab\n\\ No newline at end of file\n");
}

static void test_hunks_join_where_contexts_touch(void **state) {
  RAG_UNUSED(state);
  // Two lines between the changes: one hunk with context 1, two with context 0.
  expect("1\na\nb\n2\n", "x\na\nb\ny\n", 1, "--- a\n+++ b\n@@ -1,4 +1,4 @@\n-1\n+x\n a\n b\n-2\n+y\n");
  expect("1\na\nb\nc\n2\n", "x\na\nb\nc\ny\n", 1,
         "--- a\n+++ b\n@@ -1,2 +1,2 @@\n-1\n+x\n a\n@@ -4,2 +4,2 @@\n c\n-2\n+y\n");
}

static void test_labels_cannot_forge(void **state) {
  RAG_UNUSED(state);
  rag_buf out = {0};
  assert_int_equal(rag_text_diff(rag_slice_str("a\n"), rag_slice_str(""), "x\n+++ y\t", "\x7Fz", 3, &out, NULL),
                   RAG_OK);
  rag_buf_append_char(&out, '\0');
  assert_string_equal(out.data, "--- x?+++ y?\n+++ ?z\n@@ -1 +0,0 @@\n-a\n");
  rag_buf_free(&out);
}

// --------------------------------------------------------------------------------------------------- a strict applier

typedef struct applied {
  rag_buf text;
  size_t removed, added;
} applied;

static size_t read_range(const char **at, char sign, size_t *out_count) {
  assert_int_equal(**at, sign);
  char *end;
  size_t start = strtoul(*at + 1, &end, 10);
  *out_count = 1;
  if (*end == ',') *out_count = strtoul(end + 1, &end, 10);
  *at = end;
  return *out_count == 0 ? start : start - 1;
}

static const char *line_end(const char *at, const char *end) {
  const char *lf = memchr(at, '\n', (size_t)(end - at));
  return lf ? lf + 1 : end;
}

static applied apply(rag_slice from, const char *patch) {
  applied result = {0};
  const char *at = from.data, *end = from.data + from.size;
  size_t line = 0, to_line = 0;
  const char *p = patch;
  if (*p) {
    p = strstr(p, "\n+++ ") + 1;
    p = strchr(p, '\n') + 1;
  }
  while (*p) {
    assert_memory_equal(p, "@@ ", 3);
    p += 3;
    size_t from_count, to_count;
    size_t from_start = read_range(&p, '-', &from_count);
    assert_int_equal(*p++, ' ');
    size_t to_start = read_range(&p, '+', &to_count);
    assert_memory_equal(p, " @@\n", 4);
    p += 4;
    assert_true(from_start >= line);
    for (; line < from_start; line++, to_line++) {
      const char *next = line_end(at, end);
      rag_buf_append(&result.text, at, (size_t)(next - at));
      at = next;
    }
    assert_int_equal(to_line, to_start);
    while (from_count + to_count > 0) {
      const char *next = strchr(p, '\n') + 1;
      size_t size = (size_t)(next - p) - 1;
      if (*next == '\\') { // the line has no LF of its own
        size--;
        next = strchr(next, '\n') + 1;
      }
      if (*p != '+') {
        const char *stop = line_end(at, end);
        assert_int_equal((size_t)(stop - at), size);
        assert_memory_equal(at, p + 1, size);
        at = stop;
        assert_true(from_count-- > 0);
        line++;
      }
      if (*p != '-') {
        rag_buf_append(&result.text, p + 1, size);
        assert_true(to_count-- > 0);
        to_line++;
      }
      result.added += *p == '+';
      result.removed += *p == '-';
      p = next;
    }
  }
  rag_buf_append(&result.text, at, (size_t)(end - at));
  return result;
}

static rag_buf random_text(uint32_t lines_max, uint32_t words) {
  rag_buf text = {0};
  rag_buf_reserve(&text, 1); // an empty text has an address too: the helpers below do arithmetic on it
  uint32_t lines = draw(lines_max + 1);
  for (uint32_t i = 0; i < lines; i++) {
    int spaces = (int)draw(2); // one draw a statement: C leaves the order of arguments open
    rag_buf_printf(&text, "%.*s%u", spaces, " ", draw(words));
    if (i + 1 < lines || draw(3) > 0) rag_buf_append_char(&text, '\n');
  }
  return text;
}

static rag_buf random_edit(const rag_buf *from) {
  rag_buf text = {0};
  rag_buf_reserve(&text, 1);
  const char *at = from->data, *end = from->data + from->size;
  while (at < end) {
    const char *next = line_end(at, end);
    if (draw(6) == 0) rag_buf_printf(&text, "new %u\n", draw(4));
    if (draw(6) > 0) rag_buf_append(&text, at, (size_t)(next - at));
    at = next;
  }
  return text;
}

static size_t split(rag_slice text, rag_slice *lines) {
  size_t count = 0;
  const char *at = text.data, *end = text.data + text.size;
  while (at < end) {
    const char *next = line_end(at, end);
    lines[count++] = rag_slice_of(at, (size_t)(next - at));
    at = next;
  }
  return count;
}

#define SMALL_LINES 40
static size_t shortest(rag_slice from, rag_slice to) {
  rag_slice a[2 * SMALL_LINES + 1], b[2 * SMALL_LINES + 1];
  static size_t common[2 * SMALL_LINES + 2][2 * SMALL_LINES + 2];
  size_t n = split(from, a), m = split(to, b);
  memset(common, 0, sizeof(common));
  for (size_t i = n; i-- > 0;)
    for (size_t j = m; j-- > 0;)
      common[i][j] =
          rag_slice_equal(a[i], b[j]) ? common[i + 1][j + 1] + 1 : RAG_MAX(common[i + 1][j], common[i][j + 1]);
  return n + m - 2 * common[0][0];
}

static void test_random_texts_apply_and_are_shortest(void **state) {
  RAG_UNUSED(state);
  for (unsigned round = 0; round < 4000; round++) {
    seed = round;
    rag_buf from = random_text(SMALL_LINES, 1 + draw(8));
    rag_buf to = draw(2) ? random_text(SMALL_LINES, 1 + draw(8)) : random_edit(&from);
    char *patch = diff(rag_buf_slice(&from), rag_buf_slice(&to), draw(5));
    applied result = apply(rag_buf_slice(&from), patch);
    assert_true(rag_slice_equal(rag_buf_slice(&result.text), rag_buf_slice(&to)));
    assert_int_equal(result.added + result.removed, shortest(rag_buf_slice(&from), rag_buf_slice(&to)));
    rag_buf_free(&result.text);
    rag_free(patch);
    rag_buf_free(&from);
    rag_buf_free(&to);
  }
}

// ------------------------------------------------------------------------------------------------------ other programs

static void write_file(const char *dir, const char *name, rag_slice data) {
  char path[256];
  rag_error err = {0};
  snprintf(path, sizeof(path), "%s/%s", dir, name);
  assert_int_equal(rag_os_write_file(path, data.data ? data.data : "", data.size, &err), RAG_OK);
}

static rag_slice read_back(const char *dir, const char *name) {
  char path[256], *data;
  size_t size;
  rag_error err = {0};
  snprintf(path, sizeof(path), "%s/%s", dir, name);
  assert_int_equal(rag_os_read_file(path, 1u << 24, &data, &size, &err), RAG_OK);
  return rag_slice_of(data, size);
}

static int run_in(const char *dir, const char *command) {
  char line[600];
  snprintf(line, sizeof(line), "cd '%s' && %s", dir, command);
  int rc = system(line);
  return rc < 0 ? rc : (rc >> 8) & 0xFF;
}

static size_t changed_lines(const char *patch) {
  size_t count = 0;
  for (const char *p = patch; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
    count += (*p == '+' || *p == '-') && strncmp(p, "+++ ", 4) != 0 && strncmp(p, "--- ", 4) != 0;
  return count;
}

static void test_against_diff_and_patch(void **state) {
  RAG_UNUSED(state);
  bool have_diff = system("diff --version >/dev/null 2>&1") == 0;
  bool have_patch = system("patch --version >/dev/null 2>&1") == 0;
  if (!have_diff && !have_patch) {
    print_message("skipped: neither diff nor patch is installed\n");
    skip();
  }
  const char *base = getenv("TMPDIR");
  char dir[200];
  snprintf(dir, sizeof(dir), "%.150s/ragd-textdiff-XXXXXX", base && *base ? base : "/tmp");
  assert_non_null(mkdtemp(dir));
  for (unsigned round = 0; round < 60; round++) {
    seed = 77777 + round;
    rag_buf from = random_text(SMALL_LINES, 12), to = random_edit(&from);
    char *patch = diff(rag_buf_slice(&from), rag_buf_slice(&to), 3);
    write_file(dir, "from", rag_buf_slice(&from));
    write_file(dir, "to", rag_buf_slice(&to));
    write_file(dir, "ours", rag_slice_str(patch));
    if (have_patch && *patch) {
      assert_int_equal(run_in(dir, "cp from got && patch -s -f got ours && { cmp -s got to || { [ ! -e got ] && "
                                   "[ ! -s to ]; }; }"),
                       0);
    }
    if (have_diff) {
      assert_in_range(run_in(dir, "diff -u -d from to > theirs"), 0, 1);
      rag_slice theirs = read_back(dir, "theirs");
      assert_int_equal(changed_lines(patch), changed_lines(theirs.data)); // both shortest: of one size
      rag_free((void *)(uintptr_t)theirs.data);
    }
    rag_free(patch);
    rag_buf_free(&from);
    rag_buf_free(&to);
  }
  // One change at a time, there is one shortest diff: ours is diff's, byte for byte below the labels.
  for (unsigned line = 0; have_diff && line < 12; line++) {
    rag_buf from = {0}, to = {0};
    for (unsigned i = 0; i < 12; i++) {
      rag_buf_printf(&from, "line %u\n", i);
      if (i != line || line % 3 != 0) rag_buf_printf(&to, "line %u%s\n", i, i == line ? " changed" : "");
    }
    char *patch = diff(rag_buf_slice(&from), rag_buf_slice(&to), 3);
    write_file(dir, "from", rag_buf_slice(&from));
    write_file(dir, "to", rag_buf_slice(&to));
    assert_int_equal(run_in(dir, "diff -u --label a --label b from to > theirs"), 1);
    rag_slice theirs = read_back(dir, "theirs");
    assert_string_equal(patch, theirs.data);
    rag_free((void *)(uintptr_t)theirs.data);
    rag_free(patch);
    rag_buf_free(&from);
    rag_buf_free(&to);
  }
  assert_int_equal(rag_os_remove_tree(dir, NULL), RAG_OK);
}

// ------------------------------------------------------------------------------------------------------------- bounds

static void expect_applies(const rag_buf *from, const rag_buf *to, size_t *out_changed) {
  char *patch = diff(rag_buf_slice(from), rag_buf_slice(to), 3);
  applied result = apply(rag_buf_slice(from), patch);
  assert_true(rag_slice_equal(rag_buf_slice(&result.text), rag_buf_slice(to)));
  *out_changed = result.added + result.removed;
  rag_buf_free(&result.text);
  rag_free(patch);
}

static void test_too_different_is_one_replacement(void **state) {
  RAG_UNUSED(state);
  // The same 30,000 lines in two unrelated orders: no line is one side's alone, so the search has all of the work.
  enum { LINES = 30000 };
  rag_buf from = {0}, to = {0};
  rag_buf_append_str(&from, "same start\n");
  rag_buf_append_str(&to, "same start\n");
  for (uint32_t i = 0; i < LINES; i++) {
    rag_buf_printf(&from, "%u\n", i);
    rag_buf_printf(&to, "%u\n", (uint32_t)((uint64_t)i * 17389 % LINES)); // 17389 and 30,000 have no common factor
  }
  rag_buf_append_str(&from, "same end");
  rag_buf_append_str(&to, "same end");
  size_t changed;
  expect_applies(&from, &to, &changed);
  assert_in_range(changed, 2 * LINES - 4, 2 * LINES);
  rag_buf_free(&from);
  rag_buf_free(&to);
}

static void test_large_texts(void **state) {
  RAG_UNUSED(state);
  // 32 MiB of line ends against one less: all is equal ends. And past the limit of lines between the equal ends.
  size_t size = 32u << 20, changed;
  rag_buf from = {0}, to = {0};
  rag_buf_reserve(&from, size);
  memset(from.data, '\n', size);
  from.size = size;
  to = from;
  to.size--;
  char *patch = diff(rag_buf_slice(&from), rag_buf_slice(&to), 0);
  assert_non_null(strstr(patch, " @@\n-\n"));
  assert_int_equal(changed_lines(patch), 1);
  rag_free(patch);
  from.size = 0;
  to = (rag_buf){0};
  for (uint32_t i = 0; i <= (1u << 20); i++) {
    rag_buf_append_str(&from, i % 2 ? "a\n" : "b\n");
    if (i < 10) rag_buf_append_str(&to, "a\n");
  }
  rag_buf_append_str(&from, "x\n");
  rag_buf_append_str(&to, "y\n");
  expect_applies(&from, &to, &changed);
  assert_int_equal(changed, (1u << 20) + 1 + 10 + 2); // one replacement, though "a" lines could have been kept
  rag_buf_free(&from);
  rag_buf_free(&to);
}

static void test_every_allocation_may_fail(void **state) {
  RAG_UNUSED(state);
  seed = 5;
  rag_buf from = random_text(SMALL_LINES, 5), to = random_edit(&from);
  for (uint64_t n = 1;; n++) {
    rag_buf out = {0};
    rag_error err = {0};
    rag_alloc_fail_after(n);
    rag_status status = rag_text_diff(rag_buf_slice(&from), rag_buf_slice(&to), "a", "b", 3, &out, &err);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    rag_buf_free(&out);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    if (!failed) break;
    assert_true(n < 100);
  }
  rag_buf_free(&from);
  rag_buf_free(&to);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_format),
      cmocka_unit_test(test_missing_newline),
      cmocka_unit_test(test_hunks_join_where_contexts_touch),
      cmocka_unit_test(test_labels_cannot_forge),
      cmocka_unit_test(test_random_texts_apply_and_are_shortest),
      cmocka_unit_test(test_against_diff_and_patch),
      cmocka_unit_test(test_too_different_is_one_replacement),
      cmocka_unit_test(test_large_texts),
      cmocka_unit_test(test_every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
