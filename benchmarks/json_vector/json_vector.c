// How long does a search request by vector spend in the codecs, and its answer?
//
// Measures, on one thread, with everything warm: a body {"vector": [384 floats], "k": 10} to the protobuf message
// (parse and decode, arena and parser reused as the server does), by each of the texts that clients write; the same
// request in protobuf; an answer of ten hits to JSON and to protobuf. Beside it jansson, parsing alone, where it was
// found.
//
// Method: one timed batch is long enough for the clock (about 200 us); the figure is per call, the median of the
// batches, with the least and the 99th percentile beside it. Prints one JSON object.
#include <stdio.h>
#include <stdlib.h>

#include "api/api_internal.h"
#ifdef HAVE_JANSSON
#include <jansson.h>
#endif

#define DIMENSION 384
#define BATCHES 2001
#define BATCH_NS 200000u

static uint64_t random_state = 1;
static uint64_t next_random(void) { // splitmix64: the same data on every run
  uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

static void die(const char *what, const rag_error *err) {
  fprintf(stderr, "%s: %s\n", what, err ? err->message : "failed");
  exit(1);
}

typedef struct subject {
  rag_slice body;
  const ProtobufCMessage *message;
  rag_arena *arena;
  rag_buf out;
  float floats[DIMENSION]; // where a peer leaves what it has read
} subject;
typedef void (*measured_fn)(subject *s);

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static bool first_result = true;

static void measure(const char *name, measured_fn run, subject *s, size_t bytes) {
  static double per_call[BATCHES];
  uint64_t calls = 1;
  for (;;) { // how many calls make a batch
    uint64_t start = rag_clock_monotonic_ns();
    for (uint64_t i = 0; i < calls; i++) run(s);
    if (rag_clock_monotonic_ns() - start >= BATCH_NS) break;
    calls *= 2;
  }
  for (size_t batch = 0; batch < BATCHES; batch++) {
    uint64_t start = rag_clock_monotonic_ns();
    for (uint64_t i = 0; i < calls; i++) run(s);
    per_call[batch] = (double)(rag_clock_monotonic_ns() - start) / (double)calls / 1000;
  }
  qsort(per_call, BATCHES, sizeof(per_call[0]), by_value);
  printf("%s\n    {\"name\": \"%s\", \"bytes\": %zu, \"median_us\": %.3f, \"min_us\": %.3f, \"p99_us\": %.3f}",
         first_result ? "" : ",", name, bytes, per_call[BATCHES / 2], per_call[0], per_call[BATCHES * 99 / 100]);
  first_result = false;
}

// ------------------------------------------------------------------------------------------------------------ subjects

static void decode_json(subject *s) {
  rag_arena_reset(s->arena);
  rag_json_parser *parser = rag_json_parser_acquire();
  rag_json value;
  ProtobufCMessage *message;
  rag_error err;
  if (!parser || rag_json_parse(parser, s->body, &value, &err) != RAG_OK ||
      rag_api__json_decode(&ragd__v1__search_request__descriptor, value, s->arena, &message, &err) != RAG_OK)
    die("decode", &err);
  if (((const Ragd__V1__SearchRequest *)message)->vector.len != DIMENSION * sizeof(float)) die("vector", NULL);
  rag_json_parser_release(parser);
}

static void decode_proto(subject *s) {
  rag_arena_reset(s->arena);
  ProtobufCMessage *message;
  rag_error err;
  if (rag_api__proto_decode(&ragd__v1__search_request__descriptor, s->body, s->arena, &message, &err) != RAG_OK)
    die("decode", &err);
}

static void encode_json(subject *s) {
  rag_buf_clear(&s->out);
  rag_error err;
  if (rag_api__json_encode(s->message, &s->out, &err) != RAG_OK) die("encode", &err);
}

static void encode_proto(subject *s) {
  rag_arena_reset(s->arena);
  rag_error err;
  if (rag_api__proto_encode(s->message, s->arena, &s->body, &err) != RAG_OK) die("encode", &err);
}

#ifdef HAVE_JANSSON
static void parse_jansson(subject *s) {
  json_error_t err;
  json_t *root = json_loadb(s->body.data, s->body.size, JSON_REJECT_DUPLICATES, &err);
  if (!root) die(err.text, NULL);
  // The floats leave the tree, as they must for a search.
  json_t *vector = json_object_get(root, "vector");
  for (size_t i = 0; i < DIMENSION; i++) s->floats[i] = (float)json_number_value(json_array_get(vector, i));
  json_decref(root);
}
#endif

// ---------------------------------------------------------------------------------------------------------------- data

static float vector[DIMENSION]; // of unit length, as embeddings are

static void make_vector(void) {
  double norm = 0;
  for (size_t i = 0; i < DIMENSION; i++) {
    vector[i] = (float)(next_random() >> 40) / (float)(1 << 23) - 1.0f;
    norm += (double)vector[i] * (double)vector[i];
  }
  double scale = 1;
  for (unsigned i = 0; i < 60; i++) scale = (scale + norm / scale) / 2; // Newton's square root
  for (size_t i = 0; i < DIMENSION; i++) vector[i] = (float)((double)vector[i] / scale);
}

static void put_body(rag_buf *out, const char *format) {
  rag_buf_clear(out);
  rag_buf_append_str(out, "{\"vector\":[");
  for (size_t i = 0; i < DIMENSION; i++) {
    if (i) rag_buf_append_char(out, ',');
    if (format) rag_buf_printf(out, format, (double)vector[i]);
    else rag_json_put_float(out, vector[i]);
  }
  rag_buf_append_str(out, "],\"k\":10}");
}

static void write_file(const char *path, rag_slice text) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(text.data, 1, text.size, file) != text.size || fclose(file) != 0) die(path, NULL);
}

static void measure_requests(subject *s, const char *body_path) {
  static const struct {
    const char *name, *format;
  } texts[] = {
      {"request, JSON, shortest floats", NULL},
      {"request, JSON, 17 digits (Python floats of float32)", "%.17g"},
      {"request, JSON, 6 decimals", "%.6f"},
  };
  rag_buf body = {0};
  for (size_t i = 0; i < RAG_COUNT_OF(texts); i++) {
    put_body(&body, texts[i].format);
    s->body = rag_buf_slice(&body);
    measure(texts[i].name, decode_json, s, body.size);
#ifdef HAVE_JANSSON
    char name[128];
    snprintf(name, sizeof(name), "jansson: %s", texts[i].name);
    measure(name, parse_jansson, s, body.size);
#endif
    if (i == 1 && body_path) write_file(body_path, s->body);
  }
  rag_buf_free(&body);

  Ragd__V1__SearchRequest request = RAGD__V1__SEARCH_REQUEST__INIT;
  request.kb = (char *)(uintptr_t) "docs";
  request.vector = (ProtobufCBinaryData){sizeof(vector), (uint8_t *)vector};
  request.k_presence_case = RAGD__V1__SEARCH_REQUEST__K_PRESENCE_K;
  request.k = 10;
  rag_arena *keep = rag_arena_create(0);
  rag_error err;
  if (rag_api__proto_encode(&request.base, keep, &s->body, &err) != RAG_OK) die("encode", &err);
  measure("request, protobuf", decode_proto, s, s->body.size);
  rag_arena_destroy(keep);
}

#define HITS 10
static void measure_answers(subject *s) {
  static const char text[] =
      "Ownership is a set of rules that govern how a program manages memory. All programs have to manage the way they "
      "use "
      "a computer's memory while running. Some languages have garbage collection that regularly looks for "
      "no-longer-used "
      "memory as the program runs; in other languages, the programmer must explicitly allocate and free the memory.\n";
  Ragd__V1__SearchResponse answer = RAGD__V1__SEARCH_RESPONSE__INIT;
  Ragd__V1__Hit hits[HITS], *pointers[HITS];
  Ragd__V1__Scores scores[HITS];
  for (size_t i = 0; i < HITS; i++) {
    ragd__v1__hit__init(&hits[i]);
    ragd__v1__scores__init(&scores[i]);
    hits[i].document_id = (char *)(uintptr_t) "src/ch04-01-what-is-ownership.md";
    hits[i].chunk = (uint32_t)(1000 + i);
    hits[i].end = sizeof(text) - 1;
    hits[i].text_presence_case = RAGD__V1__HIT__TEXT_PRESENCE_TEXT;
    hits[i].text = (char *)(uintptr_t)text;
    hits[i].title = (char *)(uintptr_t) "What is ownership?";
    hits[i].score = vector[i];
    scores[i].vector_presence_case = RAGD__V1__SCORES__VECTOR_PRESENCE_VECTOR;
    scores[i].vector = vector[i];
    hits[i].scores = &scores[i];
    hits[i].metadata_presence_case = RAGD__V1__HIT__METADATA_PRESENCE_METADATA;
    hits[i].metadata = (char *)(uintptr_t) "{\"lang\":\"en\",\"chapter\":4}";
    pointers[i] = &hits[i];
  }
  answer.hits = pointers;
  answer.n_hits = HITS;
  answer.commit = (char *)(uintptr_t) "c42";
  answer.space = (char *)(uintptr_t) "hash-384";
  answer.took_us = 123;
  s->message = &answer.base;
  encode_json(s);
  measure("answer of 10 hits, JSON", encode_json, s, s->out.size);
  encode_proto(s);
  measure("answer of 10 hits, protobuf", encode_proto, s, s->body.size);
  for (size_t i = 0; i < HITS; i++) hits[i].text_presence_case = RAGD__V1__HIT__TEXT_PRESENCE__NOT_SET;
  encode_json(s);
  measure("answer of 10 hits without texts, JSON", encode_json, s, s->out.size);
}

int main(int argc, char **argv) {
  if (argc > 2) {
    fprintf(stderr, "usage: bench_json_vector [FILE for the 17-digit body]\n");
    return 2;
  }
  make_vector();
  subject s = {.arena = rag_arena_create(0)};
  if (!s.arena) die("arena", NULL);
  printf("{\"dimension\": %d, \"batches\": %d, \"results\": [", DIMENSION, BATCHES);
  measure_requests(&s, argc > 1 ? argv[1] : NULL);
  measure_answers(&s);
  printf("\n]}\n");
  rag_buf_free(&s.out);
  rag_arena_destroy(s.arena);
  return 0;
}
