// /openapi.json: an OpenAPI 3.1 document made from the route table and the message descriptors, so that it cannot say
// anything else than the server does. Schemas follow the JSON rules at the top of api/proto/ragd.proto.
//
// Made once and kept for the life of the process: the table and the descriptors are constants.
//
// Threads: two first callers may both make it; one copy wins by compare-and-swap.
#include "api/dispatch_internal.h"

#include <stdio.h>

#define SCHEMAS_MAX 128u
#define REF(name) "{\"$ref\":\"#/components/" name "\"}"

typedef struct document {
  rag_buf out;
  const ProtobufCMessageDescriptor *schemas[SCHEMAS_MAX]; // reachable ones, each once
  size_t schema_count;
} document;

static void put(document *d, const char *text) {
  rag_buf_append_str(&d->out, text);
}

static void put_quoted(document *d, const char *text) {
  rag_json_put_string(&d->out, rag_slice_str(text));
}

static void put_key(document *d, const char *name) {
  put_quoted(d, name);
  put(d, ":");
}

// Between members and elements: nothing after an opening bracket.
static void separate(document *d) {
  char last = d->out.size ? d->out.data[d->out.size - 1] : '{';
  if (last != '{' && last != '[') put(d, ",");
}

// ---------------------------------------------------------------------------------------------- schemas

static void reach(document *d, const ProtobufCMessageDescriptor *message) {
  for (size_t i = 0; i < d->schema_count; i++)
    if (d->schemas[i] == message) return;
  RAG_ASSERT(d->schema_count < SCHEMAS_MAX);
  d->schemas[d->schema_count++] = message;
  for (unsigned i = 0; i < message->n_fields; i++)
    if (message->fields[i].type == PROTOBUF_C_TYPE_MESSAGE) reach(d, message->fields[i].descriptor);
}

static const char *scalar_schema(const ProtobufCFieldDescriptor *field) {
  switch (field->type) {
  case PROTOBUF_C_TYPE_INT32:
  case PROTOBUF_C_TYPE_SINT32:
  case PROTOBUF_C_TYPE_SFIXED32:
    return "\"type\":\"integer\",\"format\":\"int32\"";
  case PROTOBUF_C_TYPE_INT64:
  case PROTOBUF_C_TYPE_SINT64:
  case PROTOBUF_C_TYPE_SFIXED64:
    if (rag_api__field_is_time(field)) return "\"type\":[\"string\",\"null\"],\"format\":\"date-time\"";
    return "\"type\":\"integer\",\"format\":\"int64\"";
  case PROTOBUF_C_TYPE_UINT32:
  case PROTOBUF_C_TYPE_FIXED32:
    return "\"type\":\"integer\",\"minimum\":0,\"maximum\":4294967295";
  case PROTOBUF_C_TYPE_UINT64:
  case PROTOBUF_C_TYPE_FIXED64:
    return "\"type\":\"integer\",\"minimum\":0";
  case PROTOBUF_C_TYPE_FLOAT:
    return "\"type\":\"number\",\"format\":\"float\"";
  case PROTOBUF_C_TYPE_DOUBLE:
    return "\"type\":\"number\",\"format\":\"double\"";
  case PROTOBUF_C_TYPE_BOOL:
    return "\"type\":\"boolean\"";
  case PROTOBUF_C_TYPE_STRING:
    if (!rag_api__field_is_json(field)) return "\"type\":\"string\"";
    if (strcmp(field->name, "metadata") == 0 || strcmp(field->name, "chunk_metadata") == 0)
      return "\"type\":[\"object\",\"null\"],\"additionalProperties\":true";
    if (strcmp(field->name, "filter") == 0)
      return "\"type\":[\"object\",\"null\"],\"additionalProperties\":true,\"description\":\"conditions on ids and "
             "metadata: must, should, must_not, min_should\"";
    return "\"description\":\"any JSON\"";
  case PROTOBUF_C_TYPE_BYTES:
    if (rag_api__field_is_vector(field))
      return "\"oneOf\":[{\"type\":\"array\",\"items\":{\"type\":\"number\",\"format\":\"float\"}},{\"type\":"
             "\"string\","
             "\"contentEncoding\":\"base64\",\"description\":\"little-endian 32-bit floats\"}]";
    return "\"type\":\"string\",\"contentEncoding\":\"base64\"";
  case PROTOBUF_C_TYPE_MESSAGE:
  case PROTOBUF_C_TYPE_ENUM:
    break;
  }
  RAG_ASSERT(field->type == PROTOBUF_C_TYPE_MESSAGE); // anything else has no schema here
  return "";
}

static void put_value_schema(document *d, const ProtobufCFieldDescriptor *field) {
  if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
    const ProtobufCMessageDescriptor *message = field->descriptor;
    rag_buf_printf(&d->out, REF("schemas/%s"), message->short_name);
    return;
  }
  put(d, "{");
  put(d, scalar_schema(field));
  put(d, "}");
}

static void put_field_schema(document *d, const ProtobufCFieldDescriptor *field) {
  if (field->label != PROTOBUF_C_LABEL_REPEATED) {
    put_value_schema(d, field);
    return;
  }
  put(d, "{\"type\":\"array\",\"items\":");
  put_value_schema(d, field);
  put(d, "}");
}

static void put_schemas(document *d) {
  for (size_t i = 0; i < d->schema_count; i++) {
    const ProtobufCMessageDescriptor *message = d->schemas[i];
    separate(d);
    put_key(d, message->short_name);
    put(d, "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{");
    for (unsigned f = 0; f < message->n_fields; f++) {
      separate(d);
      put_key(d, message->fields[f].name);
      put_field_schema(d, &message->fields[f]);
    }
    put(d, "}}");
  }
}

// ---------------------------------------------------------------------------------------------- operations

static bool in_path(const rag_route *route, const char *name) {
  char braced[80];
  snprintf(braced, sizeof(braced), "{%s}", name);
  return strstr(route->path, braced) != NULL;
}

static void put_parameter(document *d, const char *name, const char *where, const char *summary,
                          const ProtobufCFieldDescriptor *field, const char *type) {
  bool list = field && field->label == PROTOBUF_C_LABEL_REPEATED;
  separate(d);
  put(d, "{\"name\":");
  put_quoted(d, name);
  rag_buf_printf(&d->out, ",\"in\":\"%s\"", where);
  if (strcmp(where, "path") == 0) put(d, ",\"required\":true");
  if (summary) {
    put(d, ",\"description\":");
    put_quoted(d, summary);
  }
  if (list) put(d, ",\"style\":\"form\",\"explode\":false"); // include=text,plan
  put(d, ",\"schema\":");
  if (field) put_field_schema(d, field);
  else rag_buf_printf(&d->out, "{\"type\":\"%s\"}", type);
  put(d, "}");
}

static void put_path_parameters(document *d, const rag_route *route) {
  for (const char *at = strchr(route->path, '{'); at; at = strchr(at + 1, '{')) {
    size_t size = strcspn(at + 1, "}");
    rag_slice name = {at + 1, size};
    char text[64];
    snprintf(text, sizeof(text), "%.*s", (int)size, name.data);
    const ProtobufCFieldDescriptor *field = route->request ? rag_api__field_find(route->request, name) : NULL;
    RAG_ASSERT(field || !route->request); // a parameter without a field
    put_parameter(d, text, "path", NULL, field, "string");
  }
}

static bool has_body(const rag_route *route) {
  return strcmp(route->method, "GET") != 0 && strcmp(route->method, "DELETE") != 0;
}

static void put_query_parameters(document *d, const rag_route *route) {
  size_t count = 0;
  const rag_api__stream_param *params = route->stream ? rag_api__stream_params(route->stream, &count) : NULL;
  for (size_t i = 0; i < count; i++) put_parameter(d, params[i].name, "query", params[i].summary, NULL, params[i].type);
  if (!route->request || has_body(route)) return;
  for (unsigned i = 0; i < route->request->n_fields; i++) {
    const ProtobufCFieldDescriptor *field = &route->request->fields[i];
    if (field->type == PROTOBUF_C_TYPE_MESSAGE || in_path(route, field->name)) continue;
    put_parameter(d, field->name, "query", NULL, field, NULL);
  }
}

static void put_message_content(document *d, const ProtobufCMessageDescriptor *message) {
  rag_buf_printf(
      &d->out,
      "\"content\":{\"application/json\":{\"schema\":" REF(
          "schemas/%s") "},\"application/"
                        "x-protobuf\":{\"schema\":{\"type\":\"string\",\"format\":\"binary\",\"description\":"
                        "\"%s\"}}}",
      message->short_name, message->name);
}

static void put_request(document *d, const rag_route *route) {
  if (!has_body(route)) return;
  if (route->stream) {
    bool lines = route->stream == rag_api__stream_import;
    rag_buf_printf(&d->out,
                   ",\"requestBody\":{\"required\":true,\"content\":{\"%s\":{\"schema\":{\"type\":\"string\"%s}}}}",
                   lines ? "application/x-ndjson" : "application/octet-stream",
                   lines ? ",\"description\":\"one DocumentInput a line\"" : ",\"format\":\"binary\"");
    return;
  }
  if (!route->request) return;
  put(d, ",\"requestBody\":{");
  put_message_content(d, route->request);
  put(d, "}");
}

static void put_plain_content(document *d, const rag_route *route) {
  if (route->stream == rag_api__stream_kbs_import) put_message_content(d, &ragd__v1__kb__descriptor);
  else if (route->stream == rag_api__stream_import)
    put(d, "\"content\":{\"application/x-ndjson\":{\"schema\":{\"type\":\"string\",\"description\":\"a line for each "
           "commit, then one with the totals or the error\"}}}");
  else if (route->stream)
    put(d, "\"content\":{\"application/octet-stream\":{\"schema\":{\"type\":\"string\",\"format\":"
           "\"binary\"}}}");
  else if (route->plain == rag_api__metrics) put(d, "\"content\":{\"text/plain\":{\"schema\":{\"type\":\"string\"}}}");
  else put(d, "\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\"}}}");
}

static void put_responses(document *d, const rag_route *route) {
  static const int always[] = {400, 429, 500, 503};
  put(d, ",\"responses\":{\"200\":{\"description\":\"done\",");
  if (route->response) put_message_content(d, route->response);
  else put_plain_content(d, route);
  put(d, "}");
  for (size_t i = 0; i < RAG_COUNT_OF(always); i++)
    rag_buf_printf(&d->out, ",\"%d\":" REF("responses/Error"), always[i]);
  if (route->role != RAG_ROLE_NONE) put(d, ",\"401\":" REF("responses/Error") ",\"403\":" REF("responses/Error"));
  if (strchr(route->path, '{')) put(d, ",\"404\":" REF("responses/Error"));
  if (route->role >= RAG_ROLE_WRITE) put(d, ",\"409\":" REF("responses/Error"));
  put(d, ",\"default\":" REF("responses/Error") "}");
}

static void put_operation(document *d, const rag_route *route) {
  char method[8] = "", id[128];
  for (size_t i = 0; route->method[i] && i + 1 < sizeof(method); i++) method[i] = (char)(route->method[i] | 0x20);
  snprintf(id, sizeof(id), "%s", route->name);
  for (char *at = id; *at; at++)
    if (*at == '/' || *at == '.') *at = '_';
  separate(d);
  put_key(d, method);
  put(d, "{\"operationId\":");
  put_quoted(d, id);
  put(d, ",\"summary\":");
  put_quoted(d, route->summary);
  put(d, ",\"tags\":[");
  put_quoted(d, route->service[0] ? route->service : route->stream ? "Streams" : "Service");
  put(d, "]");
  if (route->role == RAG_ROLE_NONE) put(d, ",\"security\":[]");
  else rag_buf_printf(&d->out, ",\"x-ragd-role\":\"%s\"", rag_api__role_name(route->role));
  if (route->rpc[0]) rag_buf_printf(&d->out, ",\"x-ragd-rpc\":\"" API_RPC_PREFIX "%s/%s\"", route->service, route->rpc);
  put(d, ",\"parameters\":[");
  put_path_parameters(d, route);
  put_query_parameters(d, route);
  if (route->role >= RAG_ROLE_WRITE && route->request) {
    separate(d);
    put(d, REF("parameters/IdempotencyKey"));
  }
  put(d, "]");
  put_request(d, route);
  put_responses(d, route);
  put(d, "}");
}

// Routes of one path come together, wherever they stand in the table.
static void put_paths(document *d) {
  for (size_t i = 0; i < rag_api__route_count; i++) {
    const char *path = rag_api__routes[i].path;
    size_t first = 0;
    while (strcmp(rag_api__routes[first].path, path) != 0) first++;
    if (first != i) continue;
    separate(d);
    put_key(d, path);
    put(d, "{");
    for (size_t k = i; k < rag_api__route_count; k++)
      if (strcmp(rag_api__routes[k].path, path) == 0) put_operation(d, &rag_api__routes[k]);
    put(d, "}");
  }
}

static const char head[] =
    "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"ragd\",\"version\":\"" RAGD_VERSION
    "\",\"summary\":\"Versioned knowledge bases, served\",\"description\":\"Every operation with an x-ragd-rpc is also "
    "there as a POST to that path by the unary Connect protocol (application/json or application/proto). Errors are "
    "JSON, whatever the request's type.\"},\"servers\":[{\"url\":\"/\"}],\"security\":[{\"key\":[]},{}],\"paths\":{";
static const char components[] =
    "},\"components\":{\"securitySchemes\":{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\",\"description\":\"an API "
    "key; asked for once the first key exists\"}},\"parameters\":{\"IdempotencyKey\":{\"name\":\"Idempotency-Key\","
    "\"in\":\"header\",\"description\":\"the same key and request within 24 hours get the first answer again\","
    "\"schema\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":255}}},\"responses\":{\"Error\":{\"description\":"
    "\"an error\",\"content\":{\"application/json\":{\"schema\":" REF(
        "schemas/Error") "}}}},\"schemas\":{\"Error\":{"
                         "\"type\":\"object\",\"required\":[\"code\",\"message\"],\"properties\":{\"code\":{\"type\":"
                         "\"string\",\"enum\":[";
static const char error_tail[] =
    "]},\"message\":{\"type\":\"string\"},\"details\":{\"type\":\"object\",\"properties\":{\"field\":{\"type\":"
    "\"string\",\"description\":\"the request field at fault\"}},\"additionalProperties\":true}}}";

static void make(document *d) {
  for (size_t i = 0; i < rag_api__route_count; i++) {
    if (rag_api__routes[i].request) reach(d, rag_api__routes[i].request);
    if (rag_api__routes[i].response) reach(d, rag_api__routes[i].response);
  }
  reach(d, &ragd__v1__document_input__descriptor);
  put(d, head);
  put_paths(d);
  put(d, components);
  for (int status = RAG_CANCELLED; status <= RAG_UNAUTHENTICATED; status++) {
    separate(d);
    put_quoted(d, rag_api__code_name((rag_status)status));
  }
  put(d, error_tail);
  put_schemas(d);
  put(d, "}}}");
}

static _Atomic(rag_buf *) made; // atomic: release when it is set, acquire by readers; immutable after

rag_status rag_api__openapi(rag_arena *arena, rag_slice *out, rag_error *err) {
  RAG_UNUSED(arena);
  rag_buf *text = atomic_load_explicit(&made, memory_order_acquire);
  if (!text) {
    document d = {0};
    make(&d);
    rag_status status = rag_buf_check(&d.out, err);
    rag_buf *mine = status == RAG_OK ? rag_alloc(sizeof(*mine)) : NULL;
    if (!mine) {
      rag_buf_free(&d.out);
      return status != RAG_OK ? status : rag_fail_no_memory(err, sizeof(*mine));
    }
    *mine = d.out;
    if (atomic_compare_exchange_strong_explicit(&made, &text, mine, memory_order_acq_rel, memory_order_acquire)) {
      text = mine;
    } else {
      rag_buf_free(mine);
      rag_free(mine);
    }
  }
  *out = rag_buf_slice(text);
  return RAG_OK;
}
