// Statuses and errors: the names of the codes, and the texts that go with them.
//
// Threads: no shared state. A rag_error belongs to its caller.
//
// Texts are cut and mended, never refused: an error path must not be able to fail. They leave the process as JSON, so a
// cut lands on a UTF-8 boundary, and what is no UTF-8 (a part of a request, of a damaged file, or what a caller's own cut
// by "%.*s" has left of a character) becomes '?'.
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const status_names[] = {
    [RAG_OK] = "ok",
    [RAG_CANCELLED] = "cancelled",
    [RAG_UNKNOWN] = "unknown",
    [RAG_INVALID_ARGUMENT] = "invalid_argument",
    [RAG_DEADLINE_EXCEEDED] = "deadline_exceeded",
    [RAG_NOT_FOUND] = "not_found",
    [RAG_ALREADY_EXISTS] = "already_exists",
    [RAG_PERMISSION_DENIED] = "permission_denied",
    [RAG_RESOURCE_EXHAUSTED] = "resource_exhausted",
    [RAG_FAILED_PRECONDITION] = "failed_precondition",
    [RAG_ABORTED] = "aborted",
    [RAG_OUT_OF_RANGE] = "out_of_range",
    [RAG_UNIMPLEMENTED] = "unimplemented",
    [RAG_INTERNAL] = "internal",
    [RAG_UNAVAILABLE] = "unavailable",
    [RAG_DATA_LOSS] = "data_loss",
    [RAG_UNAUTHENTICATED] = "unauthenticated",
};

const char *rag_status_name(rag_status status) {
  size_t index = (size_t)status; // a negative value becomes a huge one
  return index < RAG_COUNT_OF(status_names) ? status_names[index] : "unknown";
}

rag_status rag_status_from_name(const char *name) {
  for (size_t i = 0; name && i < RAG_COUNT_OF(status_names); i++)
    if (strcmp(name, status_names[i]) == 0) return (rag_status)i;
  return RAG_UNKNOWN;
}

// Terminates `text` (a buffer of `capacity` bytes holding a string that vsnprintf may have cut) at a UTF-8 boundary.
static void cut_clean(char *text, size_t capacity, size_t wanted) {
  if (wanted < capacity) return;
  // What followed the cut is gone: the last character is whole only if it decodes by itself.
  size_t size = capacity - 1;
  size_t start = size;
  while (start > 0 && size - start < 4) {
    start--;
    if (((unsigned char)text[start] & 0xC0) != 0x80) break;
  }
  if (!rag_utf8_valid(text + start, size - start)) text[start] = '\0';
}

static void mend(char *text) {
  for (size_t size = strlen(text), at = 0; (at += rag_utf8_bad_offset(text + at, size - at)) < size; at++)
    text[at] = '?';
}

static void copy_text(char *to, size_t capacity, const char *from) {
  int wanted = snprintf(to, capacity, "%s", from ? from : "");
  if (wanted > 0) cut_clean(to, capacity, (size_t)wanted);
  mend(to);
}

static void format_text(char *to, size_t capacity, const char *fmt, va_list args) {
  int wanted = vsnprintf(to, capacity, fmt, args);
  if (wanted < 0) to[0] = '\0';
  else cut_clean(to, capacity, (size_t)wanted);
  mend(to);
}

// Arguments may point into *err itself (wrapping an error's own text), so the text is made aside first.
static rag_status fail_with(rag_error *err, rag_status status, const char *field, const char *fmt, va_list args) {
  if (!err) return status;
  rag_error made = {.status = status};
  copy_text(made.field, sizeof(made.field), field);
  format_text(made.message, sizeof(made.message), fmt, args);
  *err = made;
  return status;
}

rag_status rag_fail(rag_error *err, rag_status status, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fail_with(err, status, NULL, fmt, args);
  va_end(args);
  return status;
}

rag_status rag_fail_field(rag_error *err, rag_status status, const char *field, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fail_with(err, status, field, fmt, args);
  va_end(args);
  return status;
}

rag_status rag_error_prefix(rag_error *err, const char *fmt, ...) {
  if (!err) return RAG_UNKNOWN; // nobody keeps the status for us: callers return the status that they hold
  char prefix[RAG_ERROR_MESSAGE_MAX];
  va_list args;
  va_start(args, fmt);
  format_text(prefix, sizeof(prefix), fmt, args);
  va_end(args);
  char joined[sizeof(prefix) + sizeof(err->message) + 2];
  snprintf(joined, sizeof(joined), "%s: %s", prefix, err->message);
  copy_text(err->message, sizeof(err->message), joined);
  return err->status;
}

rag_status rag_fail_no_memory(rag_error *err, size_t bytes) {
  return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "out of memory (%zu bytes wanted)", bytes);
}

_Noreturn void rag_assert_failed(const char *text, const char *file, int line) {
  fprintf(stderr, "ragd: assertion failed: %s (%s:%d)\n", text, file, line);
  abort();
}
