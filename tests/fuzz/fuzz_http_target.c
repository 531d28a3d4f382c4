// Goal: no request target makes the router, the escapes or the query reader crash or read past it, and none is two
// things at once; small texts of a request's head likewise (addresses, ids, numbers of commits).
// Method: the first byte picks the method, the rest is the target. A match's parameters lie in the path, in order, and
// hold no '/'; what an escape is decoded to is escaped and decoded again to itself; a path escaped byte by byte has the
// same meaning or none; every parameter of a route is put into its message.
#include "api/dispatch_internal.h"
#include "api/http_internal.h"
#include "tests/fuzz/fuzz.h"

static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "get", ""};

static void require_decodes(rag_slice raw, bool plus, rag_arena *arena) {
  static const char hex[] = "0123456789ABCDEF";
  rag_slice text = {0}, again = {0};
  rag_error err = {0};
  rag_status status = rag_api__percent_decode(raw, plus, rag_slice_str("q"), arena, &text, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_INVALID_ARGUMENT);
    fuzz_require_said(&err, status);
    return;
  }
  REQUIRE(text.size <= raw.size && text.data[text.size] == '\0' && strlen(text.data) == text.size);
  REQUIRE(rag_utf8_valid(text.data, text.size));
  char *escaped = rag_arena_alloc(arena, 3 * text.size + 1);
  REQUIRE(escaped != NULL);
  for (size_t i = 0; i < text.size; i++) {
    escaped[3 * i] = '%';
    escaped[3 * i + 1] = hex[(unsigned char)text.data[i] >> 4];
    escaped[3 * i + 2] = hex[text.data[i] & 15];
  }
  REQUIRE_OK(
      rag_api__percent_decode(rag_slice_of(escaped, 3 * text.size), plus, rag_slice_str("q"), arena, &again, &err));
  REQUIRE(rag_slice_equal(text, again));
}

static void require_fills(const rag_route *route, rag_slice name, rag_slice raw, rag_arena *arena) {
  rag_slice value = {0};
  rag_error err = {0};
  if (route->request == NULL || rag_api__percent_decode(raw, true, name, arena, &value, NULL) != RAG_OK) return;
  ProtobufCMessage *message = rag_api__message_new(route->request, arena);
  REQUIRE(message != NULL);
  rag_status status = rag_api__fill_field(message, name, value, "query", arena, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_INVALID_ARGUMENT || status == RAG_NOT_FOUND);
    fuzz_require_said(&err, status);
    return;
  }
  rag_buf json = {0};
  REQUIRE_OK(rag_api__json_encode(message, &json, &err));
  rag_buf_free(&json);
}

static void match(const char *method, const char *target, rag_arena *arena) {
  rag_api__match found = {0}, again = {0};
  rag_api__route_match(method, target, &found);
  const char *end = target + strcspn(target, "?#"), *at = target;
  REQUIRE(found.route == NULL || (found.allow != NULL && strstr(found.allow, method) != NULL));
  for (size_t i = 0; i < found.param_count; i++) {
    rag_slice raw = found.params[i].raw;
    REQUIRE(raw.size > 0 && raw.data >= at && raw.data + raw.size <= end && memchr(raw.data, '/', raw.size) == NULL);
    REQUIRE(raw.data[-1] == '/');
    at = raw.data + raw.size;
    require_decodes(raw, false, arena);
    if (found.route != NULL) require_fills(found.route, found.params[i].name, raw, arena);
  }
  rag_slice rest = found.query;
  rag_api__param param;
  REQUIRE(rest.size == 0 || (rest.data > end && rest.data[-1] == '?' && memchr(rest.data, '#', rest.size) == NULL));
  for (size_t left = rest.size + 1; rag_api__query_next(&rest, &param); left = rest.size) {
    REQUIRE(rest.size < left);
    require_decodes(param.name, true, arena);
    require_decodes(param.raw, true, arena);
    rag_slice name = {0};
    if (found.route != NULL &&
        rag_api__percent_decode(param.name, true, rag_slice_str("query"), arena, &name, NULL) == RAG_OK)
      require_fills(found.route, name, param.raw, arena);
  }
  // Without what follows the path it is the same route.
  char *path = rag_arena_strndup(arena, target, (size_t)(end - target));
  REQUIRE(path != NULL);
  rag_api__route_match(method, path, &again);
  REQUIRE(again.route == found.route && again.param_count == found.param_count && again.query.size == 0);
}

static void small_texts(const char *text) {
  rag_error err = {0};
  http_address address;
  uint64_t commit = 0;
  size_t size = strlen(text);
  if (http_address_parse(text, &address, &err) == RAG_OK) {
    char url[128];
    http_address_url(&address, false, url, sizeof url);
    http_address second;
    REQUIRE(strncmp(url, "http://", 7) == 0);
    REQUIRE_OK(http_address_parse(url + 7, &second, &err));
    REQUIRE(second.loopback == address.loopback || address.loopback == false);
  } else {
    fuzz_require_said(&err, RAG_INVALID_ARGUMENT);
  }
  if (rag_api__commit_parse(text, "at", &commit, &err) == RAG_OK) {
    char again[24];
    snprintf(again, sizeof again, "c%llu", (unsigned long long)commit);
    uint64_t second = 0;
    REQUIRE_OK(rag_api__commit_parse(again, "at", &second, &err));
    REQUIRE(second == commit);
  }
  if (http_request_id_sane(text)) REQUIRE(size > 0 && size <= HTTP_REQUEST_ID_MAX && strchr(text, ' ') == NULL);
  if (http_target_sane(text, false)) REQUIRE(text[0] == '/' && strpbrk(text, " \t\r\n") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  char *target = malloc(size);
  rag_arena *arena = rag_arena_create(0);
  REQUIRE(target != NULL && arena != NULL);
  memcpy(target, data + 1, size - 1);
  target[size - 1] = '\0';
  match(methods[data[0] % RAG_COUNT_OF(methods)], target, arena);
  require_decodes(rag_slice_of(data + 1, size - 1), data[0] & 0x80, arena);
  small_texts(target);
  rag_arena_destroy(arena);
  free(target);
  return 0;
}
