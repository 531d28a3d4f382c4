// Goal: every RFC 3339 time of the years 0001 to 9999 round-trips, and nothing else is accepted.
// Method: known instants; a day-by-day walk through 10,000 years against a counting calendar; a list of bad texts;
// every prefix of a good text.
#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static void check_good(const char *text, int64_t want_us) {
  int64_t us = -1;
  rag_error err;
  if (rag_time_parse(rag_slice_str(text), &us, &err) != RAG_OK) fail_msg("%s: %s", text, err.message);
  if (us != want_us) fail_msg("%s: %lld, want %lld", text, (long long)us, (long long)want_us);
}

static void good_times(void **state) {
  RAG_UNUSED(state);
  check_good("1970-01-01T00:00:00Z", 0);
  check_good("1970-01-01", 0);
  check_good("1970-01-01t00:00:00z", 0);
  check_good("1969-12-31T23:59:59.999999Z", -1);
  check_good("1970-01-01T00:00:00.1Z", 100000);
  check_good("1970-01-01T00:00:00.000001Z", 1);
  check_good("1970-01-01T00:00:00.123456Z", 123456);
  check_good("2026-01-31T10:00:00Z", INT64_C(1769853600000000));
  check_good("2026-01-31T12:00:00+02:00", INT64_C(1769853600000000));
  check_good("2026-01-31T04:30:00-05:30", INT64_C(1769853600000000));
  check_good("2026-01-31T10:00:00-00:00", INT64_C(1769853600000000));
  check_good("2000-02-29", INT64_C(951782400000000));
  check_good("2024-02-29T23:59:59+23:59", INT64_C(1709164859000000));
  check_good("0001-01-01T00:00:00Z", INT64_C(-62135596800000000));
  check_good("0001-01-01T00:00:00-00:01", INT64_C(-62135596740000000));
  check_good("9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999));
  check_good("1990-12-31T23:59:60Z", INT64_C(662688000000000)); // leap seconds, the second one as in RFC 3339
  check_good("1990-12-31T15:59:60-08:00", INT64_C(662688000000000));
}

static void bad_times(void **state) {
  RAG_UNUSED(state);
  static const char *const bad[] = {
      "",
      "x",
      "2026",
      "2026-01",
      "2026-1-1",
      "2026-01-31T",
      "2026-01-31T10:00Z",
      "2026-01-31T10:00:00",
      "2026-01-31 10:00:00Z",
      "2026-01-31T10:00:00.Z",
      "2026-01-31T10:00:00.1234567Z",
      "2026-01-31T10:00:00+0200",
      "2026-01-31T10:00:00+02",
      "2026-01-31T10:00:00+24:00",
      "2026-01-31T10:00:00+02:60",
      "2026-01-31T10:00:00Zx",
      "2026-01-31x",
      "2026-01-31Z",
      " 2026-01-31",
      "2026-01-31 ",
      "2026-00-01",
      "2026-13-01",
      "2026-01-00",
      "2026-01-32",
      "2026-04-31",
      "2026-02-29",
      "1900-02-29",
      "2100-02-29",
      "2000-02-30",
      "2026-01-31T24:00:00Z",
      "2026-01-31T10:60:00Z",
      "2026-01-31T10:00:61Z",
      "2026-01-31T10:00:60Z",
      "2026-01-31T23:59:60+01:00",
      "0000-12-31",
      "0000-12-31T23:59:59-01:00",
      "0001-01-01T00:00:00+00:01",
      "9999-12-31T23:59:59-00:01",
      "9999-12-31T23:59:60Z",
      "12026-01-01",
      "-001-01-01",
      "+026-01-01",
      "2026-01-31T1a:00:00Z",
      "2026-01-31T10:00:00,5Z",
      "2026-01-31T10:00:00*02:00",
      "2026/01/31",
  };
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    int64_t us = 42;
    rag_error err = {0};
    if (rag_time_parse(rag_slice_str(bad[i]), &us, &err) != RAG_INVALID_ARGUMENT) fail_msg("accepted: %s", bad[i]);
    assert_int_equal(us, 42);
    assert_true(strlen(err.message) > 0);
  }
  int64_t us;
  assert_int_equal(rag_time_parse((rag_slice){0}, &us, NULL), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_time_parse(rag_slice_of("2026-01-31\0", 11), &us, NULL), RAG_INVALID_ARGUMENT);
}

static void only_two_prefixes_are_times(void **state) {
  RAG_UNUSED(state);
  const char *text = "2026-01-31T10:00:00.5+02:00";
  for (size_t size = 0; size <= strlen(text); size++) {
    int64_t us;
    char *exact = rag_strndup(text, size);
    exact[size] = '9'; // what a read past the end would find
    bool good = rag_time_parse(rag_slice_of(exact, size), &us, NULL) == RAG_OK;
    assert_int_equal(good, size == 10 || size == strlen(text));
    rag_free(exact);
  }
}

static void every_day_of_10000_years(void **state) {
  RAG_UNUSED(state);
  static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  int64_t day_us = INT64_C(-62135596800000000);
  for (int year = 1; year <= 9999; year++) {
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    for (int month = 1; month <= 12; month++) {
      int days = month_days[month - 1] + (month == 2 && leap);
      for (int day = 1; day <= days; day++) {
        char want[32], got[RAG_TIME_TEXT_MAX];
        snprintf(want, sizeof(want), "%04d-%02d-%02dT00:00:00Z", year, month, day);
        rag_time_format(day_us, got);
        if (strcmp(want, got) != 0) fail_msg("%s, want %s", got, want);
        int64_t back;
        if (rag_time_parse(rag_slice_of(want, 10), &back, NULL) != RAG_OK || back != day_us) fail_msg("parse %s", want);
        day_us += INT64_C(86400000000);
      }
    }
  }
  assert_true(day_us == INT64_C(253402300800000000));
}

static void format_edges(void **state) {
  RAG_UNUSED(state);
  static const struct {
    int64_t us;
    const char *text;
  } cases[] = {
      {0, "1970-01-01T00:00:00Z"},
      {1, "1970-01-01T00:00:00.000001Z"},
      {100000, "1970-01-01T00:00:00.100000Z"},
      {-1, "1969-12-31T23:59:59.999999Z"},
      {-1000000, "1969-12-31T23:59:59Z"},
      {INT64_MIN, "0001-01-01T00:00:00Z"},
      {INT64_MAX, "9999-12-31T23:59:59.999999Z"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    char text[RAG_TIME_TEXT_MAX];
    rag_time_format(cases[i].us, text);
    assert_string_equal(text, cases[i].text);
  }
}

static void random_times_round_trip(void **state) {
  RAG_UNUSED(state);
  uint64_t seed = 12345;
  for (int i = 0; i < 100000; i++) {
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    int64_t us = (int64_t)((seed >> 1) % UINT64_C(315537897600000000)) - INT64_C(62135596800000000), back;
    char text[RAG_TIME_TEXT_MAX];
    rag_time_format(us, text);
    assert_int_equal(rag_time_parse(rag_slice_str(text), &back, NULL), RAG_OK);
    assert_true(us == back);
  }
}

static void clocks(void **state) {
  RAG_UNUSED(state);
  rag_clock_set_for_test(1234);
  assert_int_equal(rag_clock_now_us(), 1234);
  rag_clock_set_for_test(0);
  assert_true(rag_clock_now_us() > INT64_C(1700000000000000));
  uint64_t before = rag_clock_monotonic_ns();
  assert_true(rag_clock_monotonic_ns() >= before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(good_times),
      cmocka_unit_test(bad_times),
      cmocka_unit_test(only_two_prefixes_are_times),
      cmocka_unit_test(every_day_of_10000_years),
      cmocka_unit_test(format_edges),
      cmocka_unit_test(random_times_round_trip),
      cmocka_unit_test(clocks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
