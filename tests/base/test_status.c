// Goal: names and values of statuses are pinned, and error texts are cut cleanly and never overflow.
// Method: every code by its number; messages at, below and over the limit, cut inside a character of several bytes.
#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static void names_are_pinned(void **state) {
  RAG_UNUSED(state);
  static const char *const names[] = {
      "ok",        "cancelled",       "unknown",           "invalid_argument",   "deadline_exceeded",
      "not_found", "already_exists",  "permission_denied", "resource_exhausted", "failed_precondition",
      "aborted",   "out_of_range",    "unimplemented",     "internal",           "unavailable",
      "data_loss", "unauthenticated",
  };
  for (int i = 0; i < (int)RAG_COUNT_OF(names); i++) {
    assert_string_equal(rag_status_name((rag_status)i), names[i]);
    assert_int_equal(rag_status_from_name(names[i]), i);
  }
  assert_string_equal(rag_status_name((rag_status)17), "unknown");
  assert_string_equal(rag_status_name((rag_status)-1), "unknown");
  assert_int_equal(rag_status_from_name("Ok"), RAG_UNKNOWN);
  assert_int_equal(rag_status_from_name(""), RAG_UNKNOWN);
  assert_int_equal(rag_status_from_name(NULL), RAG_UNKNOWN);
}

static void fail_fills_and_returns(void **state) {
  RAG_UNUSED(state);
  rag_error err;
  assert_int_equal(rag_fail_field(&err, RAG_INVALID_ARGUMENT, "k", "k is %d; want 1 to %d", 0, 10),
                   RAG_INVALID_ARGUMENT);
  assert_int_equal(err.status, RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "k");
  assert_string_equal(err.message, "k is 0; want 1 to 10");
  assert_int_equal(rag_fail(&err, RAG_NOT_FOUND, "none"), RAG_NOT_FOUND);
  assert_string_equal(err.field, ""); // nothing of the former error stays
  assert_int_equal(rag_fail(NULL, RAG_ABORTED, "dropped %s", "text"), RAG_ABORTED);
  assert_int_equal(rag_fail_no_memory(&err, 123), RAG_RESOURCE_EXHAUSTED);
  assert_non_null(strstr(err.message, "123"));
}

static void an_error_can_be_built_from_itself(void **state) {
  RAG_UNUSED(state);
  rag_error err;
  rag_fail_field(&err, RAG_NOT_FOUND, "at", "no branch \"x\"");
  rag_fail_field(&err, RAG_INVALID_ARGUMENT, err.field, "search: %s", err.message);
  assert_string_equal(err.field, "at");
  assert_string_equal(err.message, "search: no branch \"x\"");
}

static void prefix_keeps_status_and_field(void **state) {
  RAG_UNUSED(state);
  rag_error err;
  rag_fail_field(&err, RAG_DATA_LOSS, "f", "bad block");
  assert_int_equal(rag_error_prefix(&err, "segment %d", 7), RAG_DATA_LOSS);
  assert_string_equal(err.message, "segment 7: bad block");
  assert_string_equal(err.field, "f");
  assert_int_equal(rag_error_prefix(NULL, "x"), RAG_UNKNOWN);
  for (int i = 0; i < 100; i++) rag_error_prefix(&err, "a long prefix that soon fills the message");
  assert_int_equal(strlen(err.message), RAG_ERROR_MESSAGE_MAX - 1);
}

// `lead` ASCII bytes and then characters of `unit`: the result must be valid, as long as can be, and a prefix.
static void check_cut(size_t lead, const char *unit) {
  char text[2 * RAG_ERROR_MESSAGE_MAX] = "";
  memset(text, 'a', lead);
  size_t size = lead;
  while (size + strlen(unit) < sizeof(text) - 1) {
    memcpy(text + size, unit, strlen(unit) + 1);
    size += strlen(unit);
  }
  rag_error err;
  rag_fail_field(&err, RAG_INTERNAL, text, "%s", text);
  assert_true(rag_utf8_valid(err.message, strlen(err.message)));
  assert_true(rag_utf8_valid(err.field, strlen(err.field)));
  assert_memory_equal(err.message, text, strlen(err.message));
  assert_true(strlen(err.message) > RAG_ERROR_MESSAGE_MAX - 1 - strlen(unit));
  assert_true(strlen(err.field) > RAG_ERROR_FIELD_MAX - 1 - strlen(unit));
}

static void long_texts_are_cut_at_characters(void **state) {
  RAG_UNUSED(state);
  static const char *const units[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
  for (size_t u = 0; u < RAG_COUNT_OF(units); u++)
    for (size_t lead = 0; lead < 8; lead++) check_cut(lead, units[u]);
}

static void texts_are_mended(void **state) {
  RAG_UNUSED(state);
  rag_error err = {0};
  rag_fail_field(&err, RAG_INVALID_ARGUMENT, "a\xFF", "'%.*s' is not \xC3\xA9", 4, "x\xE2\x82\xAC\xE2"); // whole
  assert_string_equal(err.field, "a?");
  assert_string_equal(err.message, "'x\xE2\x82\xAC' is not \xC3\xA9");
  rag_fail(&err, RAG_INVALID_ARGUMENT, "'%.*s' is cut", 3, "x\xE2\x82\xAC");
  assert_string_equal(err.message, "'x\?\?' is cut");
  rag_fail(&err, RAG_DATA_LOSS, "\xFE%s\xC3", "\x80\xED\xA0\x80z");
  assert_true(rag_utf8_valid(err.message, strlen(err.message)));
  assert_string_equal(err.message, "\?\?\?\?\?z\?");
  rag_error_prefix(&err, "%.*s", 1, "\xC3\xA9");
  assert_string_equal(err.message, "\?: \?\?\?\?\?z\?");
}

static rag_status two_steps(rag_status first, rag_status second, int *io_reached) {
  RAG_TRY(first);
  rag_status status = RAG_OK;
  RAG_TRY_OUT(second);
  *io_reached += 1;
out:
  *io_reached += 10;
  return status;
}

static void try_macros(void **state) {
  RAG_UNUSED(state);
  int reached = 0;
  assert_int_equal(two_steps(RAG_ABORTED, RAG_OK, &reached), RAG_ABORTED);
  assert_int_equal(reached, 0);
  assert_int_equal(two_steps(RAG_OK, RAG_NOT_FOUND, &reached), RAG_NOT_FOUND);
  assert_int_equal(reached, 10);
  assert_int_equal(two_steps(RAG_OK, RAG_OK, &reached), RAG_OK);
  assert_int_equal(reached, 21);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_are_pinned),
      cmocka_unit_test(fail_fills_and_returns),
      cmocka_unit_test(an_error_can_be_built_from_itself),
      cmocka_unit_test(prefix_keeps_status_and_field),
      cmocka_unit_test(long_texts_are_cut_at_characters),
      cmocka_unit_test(texts_are_mended),
      cmocka_unit_test(try_macros),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
