// The whole service in process for the targets that send it requests: opened at the first input, and made anew once it
// has taken so many that rows of old inputs would slow it down. No job runs by itself.
#ifndef RAGD_FUZZ_SERVICE_H
#define RAGD_FUZZ_SERVICE_H

#include "api/api_internal.h"
#include "tests/fuzz/fuzz.h"

#define DEADLINE_NS (UINT64_C(200) * 1000 * 1000)
#define HTTP_TOO_LATE 504

typedef struct fuzz_service {
  rag_api *api;
  char dir[300];
  unsigned used;
} fuzz_service;
static fuzz_service service;

static void service_close(void) {
  rag_error err = {0};
  if (service.api == NULL) return;
  rag_api_close(service.api);
  service.api = NULL;
  REQUIRE_OK(rag_os_remove_tree(service.dir, &err));
}

static void service_end(void) {
  service_close();
  fuzz_dir_remove();
}

static int service_send(const char *method, const char *target, const char *type, rag_slice body, rag_arena *arena,
                        rag_api_response *out) {
  rag_api_request request = {.method = method, .target = target, .content_type = type, .body = body, .trusted = true};
  request.deadline_ns = rag_clock_monotonic_ns() + DEADLINE_NS; // some wait for what never comes
  rag_api_handle(service.api, &request, arena, out);
  return out->http_status;
}

// fill: puts into a new service what every input finds there.
static void service_ready(unsigned inputs, void (*fill)(rag_arena *arena)) {
  static bool begun;
  rag_error err = {0};
  if (service.api != NULL && service.used++ >= inputs) service_close();
  if (service.api != NULL) return;
  rag_api_options options = rag_api_options_default();
  snprintf(service.dir, sizeof service.dir, "%s/data", fuzz_dir());
  options.data_dir = service.dir;
  options.store.sync = false;
  options.store.cache_bytes = options.store.write_buffer_bytes = 8u << 20;
  options.kbs.object_cache_bytes = 1u << 20;
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  REQUIRE_OK(rag_api_open(&options, &service.api, &err));
  service.used = 0;
  if (!begun) begun = atexit(service_end) == 0; // now: before what RocksDB has begun is ended
  rag_arena *arena = rag_arena_create(0);
  REQUIRE(arena != NULL);
  fill(arena);
  rag_arena_destroy(arena);
}

// What any answer is: a status; where it says JSON, JSON; an error with its code and text, which is nobody's fault but
// the caller's.
static inline void service_require_answer(const rag_api_response *answer) {
  rag_json value, part;
  rag_error err = {0};
  if (answer->http_status == HTTP_TOO_LATE || answer->http_status == 501) return;
  REQUIRE(answer->http_status >= 200 && answer->http_status < 500);
  if (answer->content_type == NULL || strcmp(answer->content_type, "application/json") != 0) {
    REQUIRE(answer->http_status < 300 || answer->body.size == 0);
    return;
  }
  rag_json_parser *parser = rag_json_parser_acquire();
  REQUIRE_OK(rag_json_parse(parser, answer->body, &value, &err));
  if (answer->http_status >= 400) {
    REQUIRE(rag_json_find(value, rag_slice_str("code"), &part) && rag_json_string(part).size > 0);
    REQUIRE(rag_json_find(value, rag_slice_str("message"), &part) && rag_json_string(part).size > 0);
  }
  rag_json_parser_release(parser);
}

#endif
