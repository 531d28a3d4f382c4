// What the tests of the dispatcher share: the whole service in process over a fresh data directory, one call a line,
// and answers looked into by path ("hits.0.document_id").
#ifndef RAGD_DISPATCH_TESTING_H
#define RAGD_DISPATCH_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/dispatch_internal.h"

typedef struct service {
  char dir[256];
  rag_api *api;
  rag_arena *arena; // of the newest answer
  rag_json_parser *parser;
  rag_json json; // of the newest answer, where it is JSON
  rag_api_response answer;
  // Sent with every call.
  const char *authorization, *content_type, *accept, *idempotency_key, *timeout_ms;
  bool trusted, may_not_wait;
} service;

static inline void service_open(service *s) {
  rag_error err = {0};
  rag_api_options options = rag_api_options_default();
  options.data_dir = s->dir;
  options.store.cache_bytes = 8 << 20;
  options.store.write_buffer_bytes = 8 << 20;
  options.kbs.object_cache_bytes = 8 << 20;
  if (rag_api_open(&options, &s->api, &err) != RAG_OK) fail_msg("open: %s", err.message);
}

static inline service *service_start(void) {
  service *s = calloc(1, sizeof(*s));
  const char *tmp = getenv("TMPDIR");
  snprintf(s->dir, sizeof(s->dir), "%s/ragd-api-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
  assert_non_null(mkdtemp(s->dir));
  s->arena = rag_arena_create(0);
  s->parser = rag_json_parser_create();
  s->content_type = "application/json";
  service_open(s);
  return s;
}

static inline void service_stop(service *s) {
  rag_api_close(s->api);
  rag_arena_destroy(s->arena);
  rag_json_parser_destroy(s->parser);
  assert_int_equal(rag_os_remove_tree(s->dir, NULL), RAG_OK);
  free(s);
}

static inline void service_reopen(service *s) {
  rag_api_close(s->api);
  service_open(s);
}

static inline rag_api_request request_of(service *s, const char *method, const char *target, const void *body,
                                         size_t size) {
  return (rag_api_request){.method = method,
                           .target = target,
                           .content_type = size ? s->content_type : NULL,
                           .accept = s->accept,
                           .authorization = s->authorization,
                           .idempotency_key = s->idempotency_key,
                           .timeout_ms = s->timeout_ms,
                           .body = rag_slice_of(body, size),
                           .trusted = s->trusted,
                           .may_not_wait = s->may_not_wait};
}

// Parses the answer where it says that it is JSON: what is not valid JSON fails the test.
static inline void look(service *s) {
  rag_error err = {0};
  s->json = (rag_json){0};
  if (!s->answer.content_type || strcmp(s->answer.content_type, "application/json") != 0) return;
  if (rag_json_parse(s->parser, s->answer.body, &s->json, &err) != RAG_OK)
    fail_msg("the answer is not JSON: %s: %.*s", err.message, (int)s->answer.body.size, s->answer.body.data);
}

static inline int send_bytes(service *s, const char *method, const char *target, const void *body, size_t size) {
  rag_arena_reset(s->arena);
  rag_api_request request = request_of(s, method, target, body, size);
  rag_api_handle(s->api, &request, s->arena, &s->answer);
  look(s);
  return s->answer.http_status;
}

static inline int send_text(service *s, const char *method, const char *target, const char *body) {
  return send_bytes(s, method, target, body, body ? strlen(body) : 0);
}

// The value at a path, strings without quotes, others as compact JSON; "<absent>" where there is none. Static storage.
static inline const char *at(service *s, const char *path) {
  static char texts[8][65536];
  static unsigned next;
  char *text = texts[next++ % 8];
  rag_json value = s->json;
  if (!value.document) return "<no json>";
  for (const char *step = path; *step;) {
    size_t size = strcspn(step, ".");
    bool found = false;
    if (rag_json_type_of(value) == RAG_JSON_OBJECT) {
      found = rag_json_find(value, rag_slice_of(step, size), &value);
    } else if (rag_json_type_of(value) == RAG_JSON_ARRAY) {
      rag_json_iter it = rag_json_iter_of(value);
      long left = strtol(step, NULL, 10);
      while (rag_json_iter_next(&it))
        if (left-- == 0) {
          value = it.value;
          found = true;
          break;
        }
    }
    if (!found) return "<absent>";
    step += size + (step[size] == '.');
  }
  rag_buf out = {0};
  if (rag_json_type_of(value) == RAG_JSON_STRING) {
    rag_slice string = rag_json_string(value);
    rag_buf_append(&out, string.data, string.size);
  } else {
    rag_json_write(value, &out);
  }
  assert_true(out.size < sizeof(texts[0]));
  if (out.size) memcpy(text, out.data, out.size);
  text[out.size] = '\0';
  rag_buf_free(&out);
  return text;
}

static inline void expect_at(service *s, const char *path, const char *value, const char *file, int line) {
  const char *got = at(s, path);
  if (strcmp(got, value) == 0) return;
  print_error("%s: is %s, expected %s; the answer is %.*s\n", path, got, value,
              (int)RAG_MIN(s->answer.body.size, 2000u), s->answer.body.data);
  _fail(file, line);
}
#define EXPECT(path, value) expect_at(s, path, value, __FILE__, __LINE__)

static inline void expect_status(service *s, int got, int expected, const char *file, int line) {
  if (got == expected) return;
  print_error("status %d, expected %d: %.*s\n", got, expected, (int)RAG_MIN(s->answer.body.size, 2000u),
              s->answer.body.data);
  _fail(file, line);
}
#define CALL(expected, method, target, body)                                                                           \
  expect_status(s, send_text(s, method, target, body), expected, __FILE__, __LINE__)

// An error: its status, code, field ("<absent>": none) and a part of its message.
static inline void expect_error(service *s, int got, int status, const char *code, const char *field,
                                const char *message, const char *file, int line) {
  expect_status(s, got, status, file, line);
  expect_at(s, "code", code, file, line);
  expect_at(s, "details.field", field, file, line);
  if (strstr(at(s, "message"), message)) return;
  print_error("the message is '%s', expected '%s' in it\n", at(s, "message"), message);
  _fail(file, line);
}
#define ERROR(status, code, field, message, method, target, body)                                                      \
  expect_error(s, send_text(s, method, target, body), status, code, field, message, __FILE__, __LINE__)

// ---------------------------------------------------------------------------------------------- streams

typedef struct stream_ends { // a body in memory, an answer into memory
  const char *body;
  size_t size, offset;
  size_t step; // bytes of one read at most
  rag_buf written;
  size_t write_fails_at; // 0: never
} stream_ends;

static inline rag_status ends_read(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  stream_ends *e = ctx;
  RAG_UNUSED(err);
  size = RAG_MIN(RAG_MIN(size, e->step ? e->step : size), e->size - e->offset);
  if (size) memcpy(data, e->body + e->offset, size);
  e->offset += size;
  *out_size = size;
  return RAG_OK;
}

static inline rag_status ends_write(void *ctx, const void *data, size_t size, rag_error *err) {
  stream_ends *e = ctx;
  if (e->write_fails_at && e->written.size + size > e->write_fails_at)
    return rag_fail(err, RAG_CANCELLED, "the client has left");
  rag_buf_append(&e->written, data, size);
  return RAG_OK;
}

static inline int send_stream(service *s, const char *method, const char *target, const char *type, stream_ends *ends) {
  rag_arena_reset(s->arena);
  rag_api_request request = request_of(s, method, target, "", 0);
  request.content_type = type;
  rag_api_stream(s->api, &request, s->arena, ends_read, ends, ends_write, ends, &s->answer);
  if (s->answer.body.size) look(s);
  return s->answer.http_status;
}

#endif
