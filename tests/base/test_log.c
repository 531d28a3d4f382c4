// Goal: one write per line, fields that no value can forge, lines that stay well-formed when they are cut.
// Method: log into a pipe in packet mode, where each read gives exactly one write; compare whole lines.
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW_US INT64_C(1769853600000001)
#define STAMP "2026-01-31T10:00:00.000001Z"

static int pipe_fds[2];
static char line[8192];

static int set_up(void **state) {
  RAG_UNUSED(state);
  rag_clock_set_for_test(NOW_US);
  return pipe2(pipe_fds, O_DIRECT | O_NONBLOCK | O_CLOEXEC);
}

static int tear_down(void **state) {
  RAG_UNUSED(state);
  rag_log_setup(2, RAG_LOG_INFO, RAG_LOG_TEXT);
  rag_clock_set_for_test(0);
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  return 0;
}

// The next packet as a string, or "" when there is none.
static const char *next_line(void) {
  ssize_t got = read(pipe_fds[0], line, sizeof(line) - 1);
  if (got < 0) assert_int_equal(errno, EAGAIN);
  line[got > 0 ? got : 0] = '\0';
  return line;
}

static void text_lines(void **state) {
  RAG_UNUSED(state);
  rag_log_setup(pipe_fds[1], RAG_LOG_INFO, RAG_LOG_TEXT);
  rag_log(RAG_LOG_INFO, "kb.created", "name=%s docs=%u", "rust", 3u);
  assert_string_equal(next_line(), STAMP " info kb.created name=rust docs=3\n");
  rag_log(RAG_LOG_ERROR, "x", "empty=%s two=%s quote=%s eq=%s", "", "a b", "a\"b\\", "k=v");
  assert_string_equal(next_line(), STAMP " error x empty=\"\" two=\"a b\" quote=\"a\\\"b\\\\\" eq=\"k=v\"\n");
  rag_log(RAG_LOG_WARN, "x", "v=%s", "one\ntwo\t\x01\x7f");
  assert_string_equal(next_line(), STAMP " warn x v=\"one\\ntwo\\t\\u0001\\u007f\"\n");
  rag_log(RAG_LOG_INFO, "x", "v=%s", "\xC3\xA9\xFF\xE2\x82");
  assert_string_equal(next_line(), STAMP " info x v=\"\xC3\xA9\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"\n");
  rag_log(RAG_LOG_INFO, "bare", NULL);
  assert_string_equal(next_line(), STAMP " info bare\n");
}

static void json_lines(void **state) {
  RAG_UNUSED(state);
  rag_log_setup(pipe_fds[1], RAG_LOG_DEBUG, RAG_LOG_JSON);
  rag_log(RAG_LOG_DEBUG, "http.request", "path=%s status=%d ms=%.2f ratio=%d/%d nan=%f", "/v1/kbs?x=\"1\"", 200, 1.5, 1,
          2, __builtin_nan(""));
  const char *got = next_line();
  const char *want =
      "{\"time\":\"" STAMP "\",\"level\":\"debug\",\"event\":\"http.request\",\"path\":\"/v1/kbs?x=\\\"1\\\"\","
      "\"status\":200,\"ms\":1.50,\"ratio\":\"1/2\",\"nan\":\"";
  assert_memory_equal(got, want, strlen(want)); // then nan or -nan
  assert_string_equal(got + strlen(got) - 5, "an\"}\n");
}

static void every_conversion(void **state) {
  RAG_UNUSED(state);
  rag_log_setup(pipe_fds[1], RAG_LOG_INFO, RAG_LOG_TEXT);
  rag_log(RAG_LOG_INFO, "x", "a=%d b=%ld c=%lld d=%zu e=%hhu f=%hd g=%jd h=%td", -1, -2L, -3LL, (size_t)4,
          (unsigned char)5, (short)-6, (intmax_t)-7, (ptrdiff_t)-8);
  assert_string_equal(next_line(), STAMP " info x a=-1 b=-2 c=-3 d=4 e=5 f=-6 g=-7 h=-8\n");
  rag_log(RAG_LOG_INFO, "x", "a=%x b=%#lx c=%08llX d=%c e=%.*s f=%*d g=%g h=%e i=100%% j=%s", 255u, 255UL, 255ULL, 'z',
          3, "abcdef", 3, 7, 0.5, 1.0, "end");
  assert_string_equal(next_line(),
                      STAMP " info x a=ff b=0xff c=000000FF d=z e=abc f=\"  7\" g=0.5 h=1.000000e+00 i=100% j=end\n");
  rag_log(RAG_LOG_INFO, "x", "max=%llu min=%lld", UINT64_MAX + 0ULL, (long long)INT64_MIN);
  assert_string_equal(next_line(), STAMP " info x max=18446744073709551615 min=-9223372036854775808\n");
}

static void values_cannot_forge_fields(void **state) {
  RAG_UNUSED(state);
  rag_log_setup(pipe_fds[1], RAG_LOG_INFO, RAG_LOG_TEXT);
  rag_log(RAG_LOG_INFO, "login", "user=%s admin=%d", "eve admin=1\n" STAMP " info login user=root", 0);
  assert_string_equal(next_line(), STAMP " info login user=\"eve admin=1\\n" STAMP " info login user=root\" admin=0\n");
  rag_log_setup(pipe_fds[1], RAG_LOG_INFO, RAG_LOG_JSON);
  rag_log(RAG_LOG_INFO, "login", "user=%s admin=%d", "eve\",\"admin\":1,\"x\":\"", 0);
  assert_string_equal(next_line(), "{\"time\":\"" STAMP "\",\"level\":\"info\",\"event\":\"login\",\"user\":"
                                   "\"eve\\\",\\\"admin\\\":1,\\\"x\\\":\\\"\",\"admin\":0}\n");
}

static void long_lines_are_cut_and_stay_whole(void **state) {
  RAG_UNUSED(state);
  static char value[6000];
  for (int json = 0; json < 2; json++) {
    rag_log_setup(pipe_fds[1], RAG_LOG_INFO, json ? RAG_LOG_JSON : RAG_LOG_TEXT);
    for (size_t size = 3900; size < 4200; size++) {
      for (size_t i = 0; i < size; i++) value[i] = i % 7 == 3 ? '"' : 'v'; // escapes fall on every place
      rag_log(RAG_LOG_INFO, "x", "v=%.*s n=%d", (int)size, value, 7);
      size_t length = strlen(next_line());
      assert_in_range(length, 3800, 4096);
      bool cut = strstr(line, "truncated") != NULL;
      const char *end =
          json ? (cut ? "\",\"truncated\":true}\n" : "\"n\":7}\n") : (cut ? "\" truncated=true\n" : " n=7\n");
      assert_string_equal(line + length - strlen(end), end);
      // Outside of escapes, quotes come in pairs.
      size_t quotes = 0;
      for (size_t i = 0; i < length; i++) {
        if (line[i] == '\\') i++;
        else quotes += line[i] == '"';
      }
      assert_int_equal(quotes % 2, 0);
      assert_string_equal(next_line(), ""); // one write
    }
  }
}

static void levels(void **state) {
  RAG_UNUSED(state);
  for (int min = RAG_LOG_DEBUG; min <= RAG_LOG_ERROR; min++) {
    rag_log_setup(pipe_fds[1], (rag_log_level)min, RAG_LOG_TEXT);
    for (int level = RAG_LOG_DEBUG; level <= RAG_LOG_ERROR; level++) {
      rag_log((rag_log_level)level, "x", "k=%d", 1);
      assert_int_equal(next_line()[0] != '\0', level >= min);
      assert_int_equal(rag_log_enabled((rag_log_level)level), level >= min);
    }
  }
}

static void *log_many(void *arg) {
  for (int i = 0; i < 50; i++) rag_log(RAG_LOG_INFO, "thread", "id=%s i=%d", (const char *)arg, i);
  return NULL;
}

static void lines_of_threads_do_not_mix(void **state) {
  RAG_UNUSED(state);
  static const char *const ids[] = {"aaaaaaaa", "bbbbbbbb", "cccccccc"};
  pthread_t threads[RAG_COUNT_OF(ids)];
  int flags = fcntl(pipe_fds[1], F_GETFL);
  assert_int_equal(fcntl(pipe_fds[1], F_SETFL, flags & ~O_NONBLOCK), 0); // the writers wait; reads still do not
  rag_log_setup(pipe_fds[1], RAG_LOG_INFO, RAG_LOG_TEXT);
  for (size_t i = 0; i < RAG_COUNT_OF(ids); i++)
    assert_int_equal(pthread_create(&threads[i], NULL, log_many, (void *)(uintptr_t)ids[i]), 0);
  int next[RAG_COUNT_OF(ids)] = {0};
  for (int seen = 0; seen < 150;) {
    if (!*next_line()) continue;
    size_t t = (size_t)(line[strlen(STAMP " info thread id=")] - 'a');
    char want[128];
    snprintf(want, sizeof(want), STAMP " info thread id=%s i=%d\n", ids[t], next[t]++);
    assert_string_equal(line, want);
    seen++;
  }
  for (size_t i = 0; i < RAG_COUNT_OF(ids); i++) pthread_join(threads[i], NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(text_lines, set_up, tear_down),
      cmocka_unit_test_setup_teardown(json_lines, set_up, tear_down),
      cmocka_unit_test_setup_teardown(every_conversion, set_up, tear_down),
      cmocka_unit_test_setup_teardown(values_cannot_forge_fields, set_up, tear_down),
      cmocka_unit_test_setup_teardown(long_lines_are_cut_and_stay_whole, set_up, tear_down),
      cmocka_unit_test_setup_teardown(levels, set_up, tear_down),
      cmocka_unit_test_setup_teardown(lines_of_threads_do_not_mix, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
