// Goal: no documents make an import crash, hang, be taken in part or be stored as something else, whatever door they
// come through; what is taken reads back, and sent again changes nothing.
// Method: the first byte picks a kb (its chunking, or vectors of the client), the door (NDJSON stream, a JSON body, a
// protobuf body) and how many bytes a read of the stream gives; the rest is the body, unchanged. After a success the
// same body is sent again in other pieces, every document is read, its chunks lie in its text, and all are removed.
#include "tests/fuzz/fuzz_service.h"

#define RENEW_AFTER 400u

static const char *const kbs[] = {
    "{\"name\":\"k0\",\"model\":\"hash-32\",\"language\":\"en\"}",
    "{\"name\":\"k1\",\"model\":\"hash-32\",\"chunking\":{\"max_tokens\":16,\"overlap_tokens\":7}}",
    "{\"name\":\"k2\",\"chunking\":{\"method\":\"fixed\",\"max_tokens\":16,\"overlap_tokens\":5}}",
    "{\"name\":\"k3\",\"dimension\":2,\"chunking\":{\"method\":\"whole\"}}",
};

static void fill(rag_arena *arena) {
  rag_api_response answer;
  for (size_t i = 0; i < RAG_COUNT_OF(kbs); i++)
    REQUIRE(service_send("POST", "/v1/kbs", "application/json", rag_slice_str(kbs[i]), arena, &answer) < 300);
}

// ---------------------------------------------------------------------------------------------- the doors

typedef struct pipe_ends {
  rag_slice rest;
  size_t step;
  rag_buf written;
} pipe_ends;

static rag_status give(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  pipe_ends *p = ctx;
  RAG_UNUSED(err);
  size = RAG_MIN(RAG_MIN(size, p->step), p->rest.size);
  if (size > 0) memcpy(data, p->rest.data, size);
  p->rest = rag_slice_of(p->rest.data + size, p->rest.size - size);
  *out_size = size;
  return RAG_OK;
}

static rag_status collect(void *ctx, const void *data, size_t size, rag_error *err) {
  pipe_ends *p = ctx;
  RAG_UNUSED(err);
  rag_buf_append(&p->written, data, size);
  return RAG_OK;
}

typedef struct outcome {
  bool done;
  int64_t added, changed, unchanged, documents, batches;
} outcome;

static int64_t number_at(rag_json value, const char *name) {
  rag_json part;
  char digits[24];
  if (!rag_json_find(value, rag_slice_str(name), &part)) return 0;
  if (rag_json_type_of(part) == RAG_JSON_INT) return rag_json_int(part);
  rag_slice text = rag_json_string(part); // 64-bit fields of messages
  snprintf(digits, sizeof digits, "%.*s", (int)RAG_MIN(text.size, sizeof digits - 1), text.data);
  return strtoll(digits, NULL, 10);
}

// Every line is JSON; only the last says that it is done, or why it is not.
static outcome read_lines(rag_slice text) {
  outcome o = {0};
  rag_json value, part;
  rag_error err = {0};
  rag_json_parser *parser = rag_json_parser_acquire();
  while (text.size > 0) {
    const char *end = memchr(text.data, '\n', text.size);
    REQUIRE(end != NULL && !o.done);
    rag_slice line = {text.data, (size_t)(end - text.data)};
    REQUIRE_OK(rag_json_parse(parser, line, &value, &err));
    text = rag_slice_of(end + 1, text.size - line.size - 1);
    if (rag_json_find(value, rag_slice_str("error"), &part)) REQUIRE(text.size == 0);
    if (!rag_json_find(value, rag_slice_str("done"), &part)) continue;
    o = (outcome){true,
                  number_at(value, "added"),
                  number_at(value, "changed"),
                  number_at(value, "unchanged"),
                  number_at(value, "documents"),
                  number_at(value, "batches")};
  }
  rag_json_parser_release(parser);
  return o;
}

static outcome stream(const char *kb, rag_slice body, size_t step, rag_arena *arena) {
  char target[64];
  rag_api_response answer = {0};
  pipe_ends ends = {.rest = body, .step = step};
  snprintf(target, sizeof target, "/v1/kbs/%s/documents:import", kb);
  rag_api_request request = {
      .method = "POST", .target = target, .content_type = "application/x-ndjson", .trusted = true};
  rag_api_stream(service.api, &request, arena, give, &ends, collect, &ends, &answer);
  REQUIRE(answer.http_status >= 200 && answer.http_status < 500);
  if (answer.http_status >= 300) service_require_answer(&answer);
  outcome o = read_lines(rag_buf_slice(&ends.written));
  rag_buf_free(&ends.written);
  return o;
}

static outcome post(const char *kb, rag_slice body, bool protobuf, rag_arena *arena) {
  char target[64];
  rag_api_response answer = {0};
  outcome o = {0};
  rag_json value;
  rag_error err = {0};
  snprintf(target, sizeof target, "/v1/kbs/%s/documents", kb);
  const char *type = protobuf ? "application/x-protobuf" : "application/json";
  rag_api_request request = {
      .method = "POST", .target = target, .content_type = type, .accept = "application/json", .trusted = true};
  request.body = body;
  rag_api_handle(service.api, &request, arena, &answer);
  service_require_answer(&answer);
  if (answer.http_status >= 300 || strcmp(answer.content_type, "application/json") != 0) return o;
  rag_json_parser *parser = rag_json_parser_acquire();
  REQUIRE_OK(rag_json_parse(parser, answer.body, &value, &err));
  o = (outcome){true, number_at(value, "added"), number_at(value, "changed"), number_at(value, "unchanged"), -1, 0};
  rag_json_parser_release(parser);
  return o;
}

// ---------------------------------------------------------------------------------------------- what is stored

static bool good(rag_slice s) {
  return s.size == 0 || rag_utf8_valid(s.data, s.size);
}

static uint32_t read_all(rag_kb *kb) {
  rag_error err = {0};
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0;
  uint64_t commit;
  REQUIRE_OK(rag_kb_documents(kb, rag_slice_str(""), NULL, 0, 1000, &documents, &count, &next, &commit, &err));
  for (uint32_t i = 0; i < count; i++) {
    rag_document *d = &documents[i];
    rag_span *spans = NULL;
    uint32_t span_count = 0;
    REQUIRE(d->id.size > 0 && good(d->id) && good(d->text) && good(d->title) && good(d->metadata));
    REQUIRE(good(d->source_uri) && good(d->language));
    REQUIRE_OK(rag_kb_document_chunks(kb, d, &spans, &span_count, &err));
    REQUIRE(span_count == d->chunk_count);
    for (uint32_t s = 0; s < span_count; s++) {
      REQUIRE(spans[s].start <= spans[s].end && spans[s].end <= d->text.size);
      REQUIRE(good(rag_slice_of(d->text.data + spans[s].start, spans[s].end - spans[s].start)));
    }
    rag_free(spans);
    rag_document_free(d);
  }
  rag_free(documents);
  return count;
}

static void remove_all(rag_kb *kb) {
  rag_error err = {0};
  rag_write_result result;
  REQUIRE_OK(rag_kb_put(kb, &(rag_write){0}, &(rag_put){.prune = RAG_PRUNE_ALL}, &result, NULL, &err));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const size_t steps[] = {SIZE_MAX, 1, 5, 100};
  if (size == 0) return 0;
  service_ready(RENEW_AFTER, fill);
  char name[8], *copy = fuzz_copy(data + 1, size - 1);
  rag_slice body = {copy, size - 1};
  rag_arena *arena = rag_arena_create(0);
  rag_kb *kb = NULL;
  rag_error err = {0};
  unsigned door = data[0] >> 4 & 3;
  bool by_stream = door < 2, protobuf = door == 3;
  snprintf(name, sizeof name, "k%u", data[0] & 3u);
  REQUIRE_OK(rag_kbs_get(rag_api_kbs(service.api), rag_slice_str(name), &kb, &err));
  outcome first = by_stream ? stream(name, body, steps[data[0] >> 2 & 3], arena) : post(name, body, protobuf, arena);
  uint32_t stored = read_all(kb);
  if (first.done) {
    outcome second = by_stream ? stream(name, body, 3, arena) : post(name, body, protobuf, arena);
    bool again = first.batches <= 1; // batches may change one document twice
    REQUIRE(second.done && (!again || (second.added == 0 && second.changed == 0)));
    if (by_stream && again) REQUIRE(stored == first.documents && second.unchanged == first.documents);
    REQUIRE(read_all(kb) == stored);
  } else if (!by_stream) {
    REQUIRE(stored == 0); // all or nothing
  }
  if (stored > 0) remove_all(kb);
  rag_ref_drop(kb);
  rag_arena_destroy(arena);
  free(copy);
  return 0;
}
