// Clock, and times as text (RFC 3339).
//
// Format: "YYYY-MM-DDThh:mm:ss[.f{1,6}](Z|+hh:mm|-hh:mm)", T and Z in either case, or a bare "YYYY-MM-DD" (midnight
// UTC). Instants lie in the years 0001 to 9999 UTC: the range in which the text form has four digits of year.
//
// A seventh digit of fraction is refused, not rounded: a time that comes back other than it went in would break "the
// newest row wins" in a way that nobody finds.
//
// Leap seconds: 23:59:60 UTC is read as the second after it, as POSIX time has no name for it.
//
// Threads: the test clock is atomic: relaxed, as it orders nothing but itself.
#include "base/base.h"

#include <stdio.h>
#include <time.h>

#define US_PER_SECOND INT64_C(1000000)
#define SECONDS_PER_DAY INT64_C(86400)
#define TIME_MIN_US (INT64_C(-62135596800) * US_PER_SECOND)                       // 0001-01-01T00:00:00Z
#define TIME_MAX_US (INT64_C(253402300799) * US_PER_SECOND + (US_PER_SECOND - 1)) // 9999-12-31T23:59:59.999999Z

static _Atomic int64_t test_now_us; // 0: the real clock

int64_t rag_clock_now_us(void) {
  int64_t planned = atomic_load_explicit(&test_now_us, memory_order_relaxed);
  if (planned) return planned;
  struct timespec now;
  RAG_ASSERT(clock_gettime(CLOCK_REALTIME, &now) == 0);
  return (int64_t)now.tv_sec * US_PER_SECOND + now.tv_nsec / 1000;
}

uint64_t rag_clock_monotonic_ns(void) {
  struct timespec now;
  RAG_ASSERT(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void rag_clock_set_for_test(int64_t now_us) {
  atomic_store_explicit(&test_now_us, now_us, memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------------- calendar

// The proleptic Gregorian calendar, with years that start in March so that the leap day is a year's last and month
// lengths follow one line: the days before month m (0 = March) are (153 m + 2) / 5. 400 years are 146,097 days, and
// 0000-03-01 is 719,468 days before 1970-01-01.
#define DAYS_PER_ERA INT64_C(146097)
#define DAYS_FROM_MARCH_0_TO_1970 INT64_C(719468)

static int64_t days_of_date(int64_t year, int64_t month, int64_t day) {
  int64_t march_year = month <= 2 ? year - 1 : year; // >= 0 as year >= 1
  int64_t march_month = month <= 2 ? month + 9 : month - 3;
  int64_t era = march_year / 400;
  int64_t year_of_era = march_year % 400;
  int64_t day_of_year = (153 * march_month + 2) / 5 + day - 1;
  int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * DAYS_PER_ERA + day_of_era - DAYS_FROM_MARCH_0_TO_1970;
}

static void date_of_days(int64_t days, int64_t *year, int64_t *month, int64_t *day) {
  int64_t since_march_0 = days + DAYS_FROM_MARCH_0_TO_1970; // >= 0 from year 0001 on
  int64_t era = since_march_0 / DAYS_PER_ERA;
  int64_t day_of_era = since_march_0 % DAYS_PER_ERA;
  // Takes out the leap days passed so far: one per 4 years (1,460 days in), but one per 100 and again one per 400.
  int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t march_month = (5 * day_of_year + 2) / 153;
  *day = day_of_year - (153 * march_month + 2) / 5 + 1;
  *month = march_month < 10 ? march_month + 3 : march_month - 9;
  *year = era * 400 + year_of_era + (*month <= 2 ? 1 : 0);
}

static int64_t days_in_month(int64_t year, int64_t month) {
  static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

// ------------------------------------------------------------------------------------------------------------ parsing

typedef struct cursor {
  const char *at;
  const char *end;
} cursor;

// Exactly `digits` decimal digits.
static bool take_number(cursor *c, int digits, int64_t *out) {
  int64_t v = 0;
  if (c->end - c->at < digits) return false;
  for (int i = 0; i < digits; i++) {
    char digit = c->at[i];
    if (digit < '0' || digit > '9') return false;
    v = v * 10 + (digit - '0');
  }
  c->at += digits;
  *out = v;
  return true;
}

// One character that is `a` or `b`.
static bool take_char(cursor *c, char a, char b) {
  if (c->at == c->end || (*c->at != a && *c->at != b)) return false;
  c->at++;
  return true;
}

// The digits after the point, as microseconds.
static bool take_fraction(cursor *c, int64_t *out_us) {
  int digits = 0;
  int64_t us = 0;
  for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
    if (++digits > 6) return false;
    us = us * 10 + (*c->at - '0');
  }
  if (digits == 0) return false;
  for (; digits < 6; digits++) us *= 10;
  *out_us = us;
  return true;
}

// "Z" or "+hh:mm", as seconds east of UTC.
static bool take_offset(cursor *c, int64_t *out_seconds) {
  *out_seconds = 0;
  if (take_char(c, 'Z', 'z')) return true;
  bool west = c->at < c->end && *c->at == '-';
  int64_t hours, minutes;
  if (!take_char(c, '+', '-') || !take_number(c, 2, &hours) || !take_char(c, ':', ':') || !take_number(c, 2, &minutes))
    return false;
  if (hours > 23 || minutes > 59) return false;
  *out_seconds = (hours * 60 + minutes) * 60 * (west ? -1 : 1);
  return true;
}

static rag_status fail_time(rag_error *err, rag_slice text, const char *why) {
  int shown = (int)rag_utf8_floor(text.data, text.size, RAG_MIN(text.size, (size_t)64));
  return rag_fail(err, RAG_INVALID_ARGUMENT, "bad time \"%.*s\": %s", shown, text.size ? text.data : "", why);
}

rag_status rag_time_parse(rag_slice text, int64_t *out_us, rag_error *err) {
  const char *shape = "want RFC 3339, as 2026-01-31T10:00:00Z or 2026-01-31T10:00:00.5+02:00 (at most 6 digits of "
                      "fraction), or a date, as 2026-01-31";
  if (text.size == 0) return fail_time(err, text, shape);
  cursor c = {text.data, text.data + text.size};
  int64_t year, month, day, hour = 0, minute = 0, second = 0, fraction_us = 0, offset = 0;
  if (!take_number(&c, 4, &year) || !take_char(&c, '-', '-') || !take_number(&c, 2, &month) ||
      !take_char(&c, '-', '-') || !take_number(&c, 2, &day))
    return fail_time(err, text, shape);
  if (c.at < c.end) {
    if (!take_char(&c, 'T', 't') || !take_number(&c, 2, &hour) || !take_char(&c, ':', ':') ||
        !take_number(&c, 2, &minute) || !take_char(&c, ':', ':') || !take_number(&c, 2, &second))
      return fail_time(err, text, shape);
    if (take_char(&c, '.', '.') && !take_fraction(&c, &fraction_us)) return fail_time(err, text, shape);
    if (c.at == c.end) return fail_time(err, text, "the offset is missing: end it with Z for UTC, or with +hh:mm");
    if (!take_offset(&c, &offset) || c.at != c.end) return fail_time(err, text, shape);
  }
  if (year < 1) return fail_time(err, text, "years go from 0001 to 9999");
  if (month < 1 || month > 12) return fail_time(err, text, "there is no such month");
  if (day < 1 || day > days_in_month(year, month)) return fail_time(err, text, "the month has no such day");
  if (hour > 23 || minute > 59 || second > 60) return fail_time(err, text, "there is no such time of day");

  int64_t seconds = days_of_date(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second - offset;
  if (second == 60 && seconds % SECONDS_PER_DAY != 0)
    return fail_time(err, text, "a leap second can only be 23:59:60 UTC");
  int64_t us = seconds * US_PER_SECOND + fraction_us;
  if (us < TIME_MIN_US || us > TIME_MAX_US) return fail_time(err, text, "in UTC it is outside the years 0001 to 9999");
  *out_us = us;
  return RAG_OK;
}

void rag_time_format(int64_t time_us, char out[RAG_TIME_TEXT_MAX]) {
  time_us = RAG_MAX(RAG_MIN(time_us, TIME_MAX_US), TIME_MIN_US);
  // Division rounds towards zero; before 1970 the fraction and the time of day still count upwards.
  int64_t fraction_us = time_us % US_PER_SECOND;
  int64_t seconds = time_us / US_PER_SECOND;
  if (fraction_us < 0) fraction_us += US_PER_SECOND, seconds--;
  int64_t of_day = seconds % SECONDS_PER_DAY;
  int64_t days = seconds / SECONDS_PER_DAY;
  if (of_day < 0) of_day += SECONDS_PER_DAY, days--;

  int64_t year, month, day;
  date_of_days(days, &year, &month, &day);
  char fraction[8] = "";
  if (fraction_us) snprintf(fraction, sizeof(fraction), ".%06u", (unsigned)(fraction_us % 1000000));
  snprintf(out, RAG_TIME_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u%sZ", (unsigned)(year % 10000),
           (unsigned)(month % 100), (unsigned)(day % 100), (unsigned)(of_day / 3600 % 100),
           (unsigned)(of_day / 60 % 60), (unsigned)(of_day % 60), fraction);
}
