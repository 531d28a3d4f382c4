// Goal: /openapi.json describes the service that there is: every route, every parameter, every message.
// Method: the document against the route table and the descriptors; every $ref is followed; and real answers of the
// running service are checked against the schemas that the document gives for them.
#include "dispatch_testing.h"

static rag_json document;
static rag_json_parser *document_parser;
static char *document_text;

static int start(void **state) {
  service *s = service_start();
  CALL(200, "GET", "/openapi.json", NULL);
  document_text = strndup(s->answer.body.data, s->answer.body.size);
  document_parser = rag_json_parser_create();
  assert_int_equal(rag_json_parse(document_parser, rag_slice_str(document_text), &document, NULL), RAG_OK);
  *state = s;
  return 0;
}

static int stop(void **state) {
  rag_json_parser_destroy(document_parser);
  free(document_text);
  service_stop(*state);
  return 0;
}

// "/a/b": a member of each object in turn; '/' within a name is written "~1", as in JSON pointers.
static bool find(rag_json from, const char *pointer, rag_json *out) {
  while (*pointer == '/') {
    char name[256];
    size_t size = strcspn(++pointer, "/"), used = 0;
    assert_true(size < sizeof(name));
    for (size_t i = 0; i < size; i++) {
      if (pointer[i] == '~' && pointer[i + 1] == '1') name[used++] = '/', i++;
      else name[used++] = pointer[i];
    }
    if (!rag_json_find(from, rag_slice_of(name, used), &from)) return false;
    pointer += size;
  }
  *out = from;
  return true;
}

static bool resolve(rag_json ref, rag_json *out) {
  rag_slice text = rag_json_string(ref);
  char pointer[256];
  assert_true(text.size > 1 && text.size < sizeof(pointer) && text.data[0] == '#');
  memcpy(pointer, text.data + 1, text.size - 1);
  pointer[text.size - 1] = '\0';
  return find(document, pointer, out);
}

static unsigned refs;
static void check_refs(rag_json value) {
  rag_json_type type = rag_json_type_of(value);
  if (type != RAG_JSON_OBJECT && type != RAG_JSON_ARRAY) return;
  rag_json_iter it = rag_json_iter_of(value);
  while (rag_json_iter_next(&it)) {
    if (type == RAG_JSON_OBJECT && rag_slice_equal(it.name, rag_slice_str("$ref"))) {
      rag_json target;
      if (!resolve(it.value, &target)) fail_msg("dangling %.*s", 80, rag_json_string(it.value).data);
      refs++;
    }
    check_refs(it.value);
  }
}

static void test_refs(void **state) {
  (void)state;
  refs = 0;
  check_refs(document);
  assert_true(refs > 200);
}

static bool operation_of(const rag_route *route, rag_json *out) {
  char pointer[256] = "/paths/";
  for (const char *c = route->path; *c; c++)
    if (*c == '/') strcat(pointer, "~1");
    else strncat(pointer, c, 1);
  size_t used = strlen(pointer);
  pointer[used++] = '/';
  for (const char *c = route->method; *c; c++) pointer[used++] = (char)(*c | 0x20);
  pointer[used] = '\0';
  return find(document, pointer, out);
}

static bool has_parameter(rag_json operation, const char *name, const char *where) {
  rag_json parameters, value;
  if (!find(operation, "/parameters", &parameters)) return false;
  rag_json_iter it = rag_json_iter_of(parameters);
  while (rag_json_iter_next(&it)) {
    rag_json parameter = it.value;
    if (find(parameter, "/$ref", &value) && !resolve(value, &parameter)) continue;
    if (find(parameter, "/name", &value) && rag_slice_equal(rag_json_string(value), rag_slice_str(name)) &&
        find(parameter, "/in", &value) && rag_slice_equal(rag_json_string(value), rag_slice_str(where)))
      return strcmp(where, "path") != 0 || (find(parameter, "/required", &value) && rag_json_bool(value));
  }
  return false;
}

static void test_routes(void **state) {
  (void)state;
  unsigned operations = 0;
  rag_json paths, ids[256];
  for (size_t i = 0; i < rag_api__route_count; i++) {
    const rag_route *route = &rag_api__routes[i];
    rag_json operation, value;
    if (!operation_of(route, &operation)) fail_msg("%s is missing", route->name);
    assert_true(find(operation, "/operationId", &ids[i]));
    for (size_t k = 0; k < i; k++) assert_false(rag_slice_equal(rag_json_string(ids[i]), rag_json_string(ids[k])));
    assert_true(find(operation, "/responses/200", &value));
    assert_true(find(operation, "/responses/default", &value));
    assert_int_equal(find(operation, "/responses/401", &value), route->role != RAG_ROLE_NONE);
    assert_int_equal(find(operation, "/security", &value), route->role == RAG_ROLE_NONE);
    bool get = strcmp(route->method, "GET") == 0, body = !get && strcmp(route->method, "DELETE") != 0;
    assert_int_equal(find(operation, "/requestBody", &value), body);
    for (const char *c = strchr(route->path, '{'); c; c = strchr(c + 1, '{')) {
      char name[64];
      snprintf(name, sizeof(name), "%.*s", (int)strcspn(c + 1, "}"), c + 1);
      if (!has_parameter(operation, name, "path")) fail_msg("%s: no path parameter %s", route->name, name);
    }
    for (unsigned f = 0; route->request && !body && f < route->request->n_fields; f++) {
      char braced[80];
      const char *name = route->request->fields[f].name;
      snprintf(braced, sizeof(braced), "{%s}", name);
      if (!has_parameter(operation, name, strstr(route->path, braced) ? "path" : "query"))
        fail_msg("%s: no parameter %s", route->name, name);
    }
  }
  // And nothing that is no route.
  assert_true(find(document, "/paths", &paths));
  for (rag_json_iter it = rag_json_iter_of(paths); rag_json_iter_next(&it);)
    operations += (unsigned)rag_json_size(it.value);
  assert_int_equal(operations, rag_api__route_count);
}

static void check_schema(const ProtobufCMessageDescriptor *message) {
  char pointer[256];
  rag_json value;
  for (unsigned f = 0; f < message->n_fields; f++) {
    snprintf(pointer, sizeof(pointer), "/components/schemas/%s/properties/%s", message->short_name,
             message->fields[f].name);
    if (!find(document, pointer, &value)) fail_msg("%s is missing", pointer);
    if (message->fields[f].type == PROTOBUF_C_TYPE_MESSAGE) check_schema(message->fields[f].descriptor);
  }
  snprintf(pointer, sizeof(pointer), "/components/schemas/%s/type", message->short_name);
  assert_true(find(document, pointer, &value)); // also of messages without fields
}

static void test_schemas(void **state) {
  (void)state;
  for (size_t i = 0; i < rag_api__route_count; i++)
    if (rag_api__routes[i].request) {
      check_schema(rag_api__routes[i].request);
      check_schema(rag_api__routes[i].response);
    }
}

// ---------------------------------------------------------------------------------------------- real answers

static bool quiet; // while trying alternatives
static bool conforms(rag_json schema, rag_json value, const char *where);

static bool type_allows(rag_slice name, rag_json_type type) {
  switch (type) {
  case RAG_JSON_NULL:
    return rag_slice_equal(name, rag_slice_str("null"));
  case RAG_JSON_BOOL:
    return rag_slice_equal(name, rag_slice_str("boolean"));
  case RAG_JSON_INT:
  case RAG_JSON_UINT:
    return rag_slice_equal(name, rag_slice_str("integer")) || rag_slice_equal(name, rag_slice_str("number"));
  case RAG_JSON_DOUBLE:
    return rag_slice_equal(name, rag_slice_str("number"));
  case RAG_JSON_STRING:
    return rag_slice_equal(name, rag_slice_str("string"));
  case RAG_JSON_ARRAY:
    return rag_slice_equal(name, rag_slice_str("array"));
  case RAG_JSON_OBJECT:
    return rag_slice_equal(name, rag_slice_str("object"));
  }
  return false;
}

static bool type_conforms(rag_json type, rag_json value) {
  if (rag_json_type_of(type) == RAG_JSON_STRING) return type_allows(rag_json_string(type), rag_json_type_of(value));
  rag_json_iter it = rag_json_iter_of(type);
  while (rag_json_iter_next(&it))
    if (type_allows(rag_json_string(it.value), rag_json_type_of(value))) return true;
  return false;
}

static bool object_conforms(rag_json schema, rag_json value, const char *where) {
  rag_json properties, additional, property;
  bool open = !find(schema, "/additionalProperties", &additional) || rag_json_bool(additional);
  bool has = find(schema, "/properties", &properties);
  rag_json_iter it = rag_json_iter_of(value);
  while (rag_json_iter_next(&it)) {
    char path[512];
    snprintf(path, sizeof(path), "%s.%.*s", where, (int)it.name.size, it.name.data);
    if (has && rag_json_find(properties, it.name, &property)) {
      if (!conforms(property, it.value, path)) return false;
    } else if (!open) {
      if (!quiet) print_error("%s is not in the schema\n", path);
      return false;
    }
  }
  return true;
}

static bool conforms(rag_json schema, rag_json value, const char *where) {
  rag_json part;
  if (find(schema, "/$ref", &part)) return resolve(part, &schema) && conforms(schema, value, where);
  if (find(schema, "/oneOf", &part)) {
    unsigned matching = 0;
    quiet = true;
    for (rag_json_iter it = rag_json_iter_of(part); rag_json_iter_next(&it);)
      matching += conforms(it.value, value, where);
    quiet = false;
    return matching == 1;
  }
  if (find(schema, "/type", &part) && !type_conforms(part, value)) {
    if (!quiet) print_error("%s has another type\n", where);
    return false;
  }
  if (rag_json_type_of(value) == RAG_JSON_OBJECT) return object_conforms(schema, value, where);
  if (rag_json_type_of(value) == RAG_JSON_ARRAY && find(schema, "/items", &part))
    for (rag_json_iter it = rag_json_iter_of(value); rag_json_iter_next(&it);)
      if (!conforms(part, it.value, where)) return false;
  return true;
}

static void call_conforms(service *s, const char *method, const char *target, const char *body) {
  rag_api__match match;
  rag_json operation, schema;
  int status = send_text(s, method, target, body);
  rag_api__route_match(method, target, &match);
  assert_true(operation_of(match.route, &operation));
  const char *pointer = status == 200 ? "/responses/200/content/application~1json/schema" : "/components/schemas/Error";
  assert_true(find(status == 200 ? operation : document, pointer, &schema));
  if (!conforms(schema, s->json, match.route->name))
    fail_msg("%s %s: %.*s", method, target, (int)RAG_MIN(s->answer.body.size, 1000u), s->answer.body.data);
}

static void test_answers(void **state) {
  service *s = *state;
  static const char *const calls[][3] = {
      {"POST", "/v1/kbs", "{\"name\":\"docs\"}"},
      {"POST", "/v1/kbs", "{\"name\":\"docs\"}"}, // an error
      {"POST", "/v1/kbs/docs/documents",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"apple\",\"metadata\":{\"x\":[1]},"
       "\"source_modified_at\":\"2026-01-31T10:00:00Z\"}]}"},
      {"GET", "/v1/kbs", NULL},
      {"PATCH", "/v1/kbs/docs", "{\"description\":\"d\"}"},
      {"GET", "/v1/kbs/docs/documents/a", NULL},
      {"GET", "/v1/kbs/docs/documents?text=true", NULL},
      {"POST", "/v1/kbs/docs/search",
       "{\"query\":\"apple\",\"include\":[\"text\",\"metadata\",\"vector\",\"scores\",\"plan\"]}"},
      {"POST", "/v1/kbs/docs/search", "{\"query\":\"apple\"}"},
      {"POST", "/v1/kbs/docs/search", "{\"query\":\"apple\",\"k\":0}"}, // an error
      {"POST", "/v1/kbs/docs/search",
       "{\"query\":\"apple\",\"include\":[\"highlights\",\"text\",\"plan\",\"scores\"],\"mmr\":{},\"fusion\":{"
       "\"weights\":{}},"
       "\"filter\":{\"must\":{\"key\":\"x[]\",\"match\":{\"value\":1}}}}"},
      {"POST", "/v1/kbs/docs/search:batch",
       "{\"searches\":[{\"query\":\"apple\",\"include\":[\"plan\"]},{\"query\":\"x\"}]}"},
      {"POST", "/v1/kbs/docs/search:batch", "{\"searches\":[{\"query\":\"apple\",\"mode\":\"x\"}]}"}, // an error
      {"POST", "/v1/kbs/docs/facets", "{\"fields\":[\"x[]\",\"y\"]}"},
      {"GET", "/v1/kbs/docs/documents?filter=%7B%22must%22:%7B%22has_id%22:%5B%22a%22%5D%7D%7D", NULL},
      {"POST", "/v1/kbs/docs/documents:delete", "{\"filter\":{\"must\":{\"has_id\":[\"none\"]}}}"},
      {"POST", "/v1/kbs/docs/tags", "{\"name\":\"v1\"}"},
      {"GET", "/v1/kbs/docs/tags", NULL},
      {"GET", "/v1/kbs/docs/branches", NULL},
      {"GET", "/v1/kbs/docs/commits", NULL},
      {"GET", "/v1/kbs/docs/commits/main", NULL},
      {"PATCH", "/v1/kbs/docs/documents/a", "{\"metadata\":{\"y\":true}}"},
      {"GET", "/v1/kbs/docs/diff?from=c1&text=true", NULL},
      {"POST", "/v1/kbs/docs/rollback", "{\"to\":\"v1\"}"},
      {"POST", "/v1/kbs/docs/gc", "{\"keep_commits\":1}"},
      {"GET", "/v1/jobs/1?wait_ms=20000", NULL},
      {"GET", "/v1/jobs", NULL},
      {"GET", "/v1/status", NULL},
      {"DELETE", "/v1/kbs/docs/tags/v1", NULL},
      {"GET", "/healthz", NULL},
      {"GET", "/readyz", NULL},
      {"POST", "/v1/keys", "{\"role\":\"admin\",\"name\":\"k\"}"},
      {"GET", "/v1/kbs", NULL}, // an error: no key
  };
  for (size_t i = 0; i < RAG_COUNT_OF(calls); i++) call_conforms(s, calls[i][0], calls[i][1], calls[i][2]);
  CALL(200, "GET", "/openapi.json", NULL); // open to all, and the same every time
  assert_true(rag_slice_equal(s->answer.body, rag_slice_str(document_text)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_refs, start, stop),
      cmocka_unit_test_setup_teardown(test_routes, start, stop),
      cmocka_unit_test_setup_teardown(test_schemas, start, stop),
      cmocka_unit_test_setup_teardown(test_answers, start, stop),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
