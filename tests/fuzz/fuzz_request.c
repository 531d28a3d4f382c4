// Goal: no request makes the service crash, hang, blame itself (a status of 500 and over) or answer what is not of the
// format that it says; a request that only reads changes nothing.
// Method: the input is "METHOD target", a line; a content type, a line (may be empty); the body. It goes to the
// dispatcher as from a trusted caller, over a service with one small kb. A GET is sent twice and answers the same, but
// for routes that tell of the moment.
#include "tests/fuzz/fuzz_service.h"

#define RENEW_AFTER 200u

static const char documents[] = "{\"documents\":[{\"id\":\"a\",\"text\":\"red wine\",\"metadata\":{\"a\":1}},"
                                "{\"id\":\"b\",\"text\":\"# b\\n\\nwhite wine\",\"metadata\":{\"b\":[true,\"x\"]}}]}";

static void fill(rag_arena *arena) {
  static const char *const requests[][2] = {
      {"/v1/kbs", "{\"name\":\"docs\",\"model\":\"hash-32\"}"},
      {"/v1/kbs/docs/documents", documents},
      {"/v1/kbs/docs/branches", "{\"name\":\"dev\"}"},
      {"/v1/kbs/docs/documents", "{\"branch\":\"dev\",\"documents\":[{\"id\":\"a\",\"text\":\"green tea\"}]}"},
      {"/v1/kbs/docs/tags", "{\"name\":\"v1\"}"},
  };
  rag_api_response answer;
  for (size_t i = 0; i < RAG_COUNT_OF(requests); i++)
    REQUIRE(service_send("POST", requests[i][0], "application/json", rag_slice_str(requests[i][1]), arena, &answer) <
            300);
}

static char *take_line(rag_slice *rest, char end) {
  const char *at = rest->size > 0 ? memchr(rest->data, end, rest->size) : NULL;
  size_t size = at != NULL ? (size_t)(at - rest->data) : rest->size;
  char *line = malloc(size + 1);
  REQUIRE(line != NULL);
  if (size > 0) memcpy(line, rest->data, size);
  line[size] = '\0';
  size_t step = at != NULL ? size + 1 : size;
  *rest = rag_slice_of(rest->data + step, rest->size - step);
  return line;
}

static bool tells_the_moment(const char *route) {
  static const char *const parts[] = {"Search", "Status", "metrics", "Job", "ready", "health", "Facets"};
  for (size_t i = 0; route != NULL && i < RAG_COUNT_OF(parts); i++)
    if (strstr(route, parts[i]) != NULL) return true;
  return route == NULL;
}

static bool is_stream(const char *method, const char *target, rag_arena *arena) {
  rag_api_request request = {.method = method, .target = target, .trusted = true};
  rag_api_lane lane = RAG_LANE_INLINE;
  rag_api_response answer = {0};
  return rag_api_admit(service.api, &request, arena, &lane, &answer) == RAG_OK && lane == RAG_LANE_STREAM;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  service_ready(RENEW_AFTER, fill);
  rag_slice rest = {(const char *)data, size};
  char *method = take_line(&rest, ' '), *target = take_line(&rest, '\n'), *type = take_line(&rest, '\n');
  char *body = fuzz_copy(rest.data, rest.size);
  rag_arena *arena = rag_arena_create(0);
  rag_api_response first = {0}, second = {0};
  if (is_stream(method, target, arena)) goto out; // fuzz_documents, fuzz_kb_import
  service_send(method, target, type[0] != '\0' ? type : NULL, rag_slice_of(body, rest.size), arena, &first);
  service_require_answer(&first);
  if (strcmp(method, "GET") == 0 && !tells_the_moment(first.route)) {
    service_send(method, target, type[0] != '\0' ? type : NULL, rag_slice_of(body, rest.size), arena, &second);
    if (second.http_status == HTTP_TOO_LATE || first.http_status == HTTP_TOO_LATE) goto out;
    REQUIRE(first.http_status == second.http_status && rag_slice_equal(first.body, second.body));
  }
out:
  rag_arena_destroy(arena);
  free(method);
  free(target);
  free(type);
  free(body);
  return 0;
}
