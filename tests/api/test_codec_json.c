// Goal: the JSON codec follows the rules at the top of api/proto/ragd.proto in both directions, refuses everything else
// with the path of the field, and neither leaks nor crashes on any input or failed allocation.
// Method: tables of bodies and their exact re-encoding; tables of bad bodies with the exact field and message; every
// allocation failed in turn; mutated bodies, whose accepted ones must survive a trip through protobuf unchanged.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/api_internal.h"

#define S(literal) rag_slice_of(literal, sizeof(literal) - 1)
#define MESSAGE(name) (&ragd__v1__##name##__descriptor)

typedef struct fixture {
  rag_json_parser *parser;
  rag_arena *arena;
  rag_buf out;
} fixture;

static int open_fixture(void **state) {
  fixture *f = rag_calloc(1, sizeof(*f));
  f->parser = rag_json_parser_create();
  f->arena = rag_arena_create(0);
  *state = f;
  return 0;
}

static int close_fixture(void **state) {
  fixture *f = *state;
  rag_json_parser_destroy(f->parser);
  rag_arena_destroy(f->arena);
  rag_buf_free(&f->out);
  rag_free(f);
  return 0;
}

static rag_status decode(fixture *f, const ProtobufCMessageDescriptor *descriptor, rag_slice text,
                         ProtobufCMessage **out, rag_error *err) {
  rag_json value;
  RAG_TRY(rag_json_parse(f->parser, text, &value, err));
  return rag_api__json_decode(descriptor, value, f->arena, out, err);
}

static ProtobufCMessage *decoded(fixture *f, const ProtobufCMessageDescriptor *descriptor, const char *text) {
  ProtobufCMessage *message = NULL;
  rag_error err = {0};
  if (decode(f, descriptor, rag_slice_str(text), &message, &err) != RAG_OK) fail_msg("%s: %s", text, err.message);
  return message;
}

static const char *encoded(fixture *f, const void *message) {
  rag_error err = {0};
  rag_buf_clear(&f->out);
  if (rag_api__json_encode(message, &f->out, &err) != RAG_OK) fail_msg("%s", err.message);
  rag_buf_append_char(&f->out, '\0');
  assert_false(f->out.failed);
  return f->out.data;
}

static void expect_refused(fixture *f, const ProtobufCMessageDescriptor *descriptor, const char *text,
                           const char *field, const char *want) {
  ProtobufCMessage *message = NULL;
  rag_error err = {0};
  rag_status status = decode(f, descriptor, rag_slice_str(text), &message, &err);
  if (status != RAG_INVALID_ARGUMENT) fail_msg("%s: status %d", text, (int)status);
  assert_null(message);
  assert_string_equal(err.field, field);
  assert_string_equal(err.message, want);
}

// ----------------------------------------------------------------------------------------------------------- encoding

static void answers_print_zeros_and_leave_out_the_unset(void **state) {
  fixture *f = *state;
  Ragd__V1__SearchResponse answer = RAGD__V1__SEARCH_RESPONSE__INIT;
  assert_string_equal(encoded(f, &answer), "{\"hits\":[],\"commit\":\"\",\"space\":\"\",\"index_build\":\"\","
                                           "\"pending_chunks\":0,\"took_us\":0}");
  Ragd__V1__Hit hit = RAGD__V1__HIT__INIT;
  Ragd__V1__Scores scores = RAGD__V1__SCORES__INIT;
  Ragd__V1__Hit *hits[] = {&hit};
  answer.hits = hits;
  answer.n_hits = 1;
  hit.scores = &scores;
  hit.score = 0.1f;
  assert_string_equal(
      encoded(f, &answer),
      "{\"hits\":[{\"document_id\":\"\",\"chunk\":0,\"start\":0,\"end\":0,\"title\":\"\",\"score\":0.1,"
      "\"scores\":{},\"source_uri\":\"\",\"highlights\":[]}],\"commit\":\"\",\"space\":\"\",\"index_build\":\"\","
      "\"pending_chunks\":0,\"took_us\":0}");
  hit.text_presence_case = RAGD__V1__HIT__TEXT_PRESENCE_TEXT;
  hit.text = (char *)"";
  hit.metadata_presence_case = RAGD__V1__HIT__METADATA_PRESENCE_METADATA;
  hit.metadata = (char *)"{\"lang\":\"en\"}";
  hit.chunk_metadata_presence_case = RAGD__V1__HIT__CHUNK_METADATA_PRESENCE_CHUNK_METADATA;
  hit.chunk_metadata = (char *)"";
  scores.vector_presence_case = RAGD__V1__SCORES__VECTOR_PRESENCE_VECTOR;
  scores.vector = NAN;
  float vector[] = {0.1f, -2.0f, 1e-9f};
  hit.vector = (ProtobufCBinaryData){sizeof(vector), (uint8_t *)vector};
  answer.took_us = UINT64_MAX;
  assert_string_equal(
      encoded(f, &answer),
      "{\"hits\":[{\"document_id\":\"\",\"chunk\":0,\"start\":0,\"end\":0,\"text\":\"\",\"title\":\"\","
      "\"score\":0.1,\"scores\":{\"vector\":null},\"metadata\":{\"lang\":\"en\"},\"source_uri\":\"\","
      "\"chunk_metadata\":null,\"vector\":[0.1,-2,1e-09],\"highlights\":[]}],\"commit\":\"\",\"space\":\"\","
      "\"index_build\":\"\",\"pending_chunks\":0,\"took_us\":18446744073709551615}");
}

static void times_are_rfc_3339_or_null(void **state) {
  fixture *f = *state;
  Ragd__V1__Ref ref = RAGD__V1__REF__INIT;
  ref.name = (char *)"a\"b\n";
  ref.moved_at = INT64_C(1769853600000001);
  assert_string_equal(encoded(f, &ref), "{\"name\":\"a\\\"b\\n\",\"commit\":\"\",\"created_at\":null,"
                                        "\"moved_at\":\"2026-01-31T10:00:00.000001Z\"}");
  Ragd__V1__Commit commit = RAGD__V1__COMMIT__INIT;
  commit.time = 1000000;
  assert_non_null(strstr(encoded(f, &commit), "\"time\":\"1970-01-01T00:00:01Z\""));
  Ragd__V1__Job job = RAGD__V1__JOB__INIT;
  job.result = (char *)"[1,{}]";
  job.progress = 1;
  assert_non_null(strstr(encoded(f, &job), "\"progress\":1.0,"));
  assert_non_null(strstr(encoded(f, &job), "\"result\":[1,{}],\"error\":\"\"}"));
  assert_null(strstr(encoded(f, &job), "eta_seconds"));
  Ragd__V1__Empty empty = RAGD__V1__EMPTY__INIT;
  assert_string_equal(encoded(f, &empty), "{}");
}

static void a_failed_encoding_leaves_the_buffer_as_it_was(void **state) {
  fixture *f = *state;
  ProtobufCMessage *message =
      decoded(f, MESSAGE(search_request), "{\"query\":\"a text of some length, so that it grows\"}");
  unsigned failures = 0;
  for (uint64_t n = 1;; n++) {
    rag_buf out = {0};
    rag_buf_append_str(&out, "before");
    rag_alloc_fail_after(n);
    rag_error err = {0};
    rag_status status = rag_api__json_encode(message, &out, &err);
    bool happened = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    if (happened) {
      assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
      assert_int_equal(out.size, 6);
    } else {
      assert_int_equal(status, RAG_OK);
    }
    rag_buf_free(&out);
    if (!happened) break;
    failures++;
  }
  assert_true(failures > 0);
}

// ----------------------------------------------------------------------------------------------------------- decoding

static void bodies_come_back_as_the_rules_say(void **state) {
  fixture *f = *state;
  static const struct {
    const ProtobufCMessageDescriptor *descriptor;
    const char *body, *again;
  } cases[] = {
      {MESSAGE(search_request), "{}",
       "{\"kb\":\"\",\"query\":\"\",\"offset\":0,\"at\":\"\",\"mode\":\"\",\"exact\":false,\"include\":[],"
       "\"min_commit\":\"\",\"filter\":null,\"language\":\"\"}"},
      // Presence: zero is given, null is not.
      {MESSAGE(search_request), "{\"k\":0,\"min_score\":null,\"timeout_ms\":null,\"query\":null,\"include\":null}",
       "{\"kb\":\"\",\"query\":\"\",\"k\":0,\"offset\":0,\"at\":\"\",\"mode\":\"\",\"exact\":false,\"include\":[],"
       "\"min_commit\":\"\",\"filter\":null,\"language\":\"\"}"},
      // Vectors: numbers, base64 of either alphabet, with padding or without; empty is none.
      {MESSAGE(chunk_input), "{\"vector\":[0.5,1,-3e-2]}", "{\"text\":\"\",\"vector\":[0.5,1,-0.03],\"metadata\":{}}"},
      {MESSAGE(chunk_input), "{\"vector\":\"AACAPwAAAMA=\"}", "{\"text\":\"\",\"vector\":[1,-2],\"metadata\":{}}"},
      {MESSAGE(chunk_input), "{\"vector\":\"AACAPwAAAMA\"}", "{\"text\":\"\",\"vector\":[1,-2],\"metadata\":{}}"},
      {MESSAGE(chunk_input), "{\"vector\":\"+/9/fw==\"}", "{\"text\":\"\",\"vector\":[3.4028227e+38],\"metadata\":{}}"},
      {MESSAGE(chunk_input), "{\"vector\":\"-_9_fw\"}", "{\"text\":\"\",\"vector\":[3.4028227e+38],\"metadata\":{}}"},
      {MESSAGE(chunk_input), "{\"vector\":[]}", "{\"text\":\"\",\"metadata\":{}}"},
      {MESSAGE(chunk_input), "{\"vector\":\"\"}", "{\"text\":\"\",\"metadata\":{}}"},
      // Inline JSON is compacted, in its order; null and absent are the same.
      {MESSAGE(chunk_input), "{\"metadata\": { \"b\" : [1.50, null], \"a\": \"\\u00e9\" } }",
       "{\"text\":\"\",\"metadata\":{\"b\":[1.5,null],\"a\":\"\xC3\xA9\"}}"},
      {MESSAGE(chunk_input), "{\"metadata\":null}", "{\"text\":\"\",\"metadata\":{}}"},
      // 64-bit integers: exact, and as decimal strings.
      {MESSAGE(job_request), "{\"id\":18446744073709551615}", "{\"id\":18446744073709551615}"},
      {MESSAGE(job_request), "{\"id\":\"18446744073709551615\"}", "{\"id\":18446744073709551615}"},
      {MESSAGE(job_request), "{\"id\":\"0\"}", "{\"id\":0}"},
      // Times.
      {MESSAGE(ref), "{\"created_at\":\"2026-01-31T10:00:00.5+02:00\",\"moved_at\":null}",
       "{\"name\":\"\",\"commit\":\"\",\"created_at\":\"2026-01-31T08:00:00.500000Z\",\"moved_at\":null}"},
      // Nested messages and lists of them; either spelling of a name.
      {MESSAGE(create_kb_request), "{\"name\":\"a\",\"chunking\":{\"maxTokens\":5},\"index\":{}}",
       "{\"name\":\"a\",\"description\":\"\",\"model\":\"\",\"metric\":\"\",\"embedding\":\"\","
       "\"chunking\":{\"method\":\"\",\"max_tokens\":5},\"language\":\"\","
       "\"index\":{\"engine\":\"\",\"factory\":\"\",\"target_recall\":0.0,\"memory_bytes_max\":0,"
       "\"datatype\":\"\"}}"},
      {MESSAGE(get_document_request), "{\"kb\":\"\\ud83d\\ude00\",\"id\":\"\\\"\"}",
       "{\"kb\":\"\xF0\x9F\x98\x80\",\"id\":\"\\\"\",\"at\":\"\"}"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    assert_string_equal(encoded(f, decoded(f, cases[i].descriptor, cases[i].body)), cases[i].again);

  const char *body = "{\"documents\":[{\"id\":\"1\",\"chunks\":[{},{\"text\":\"c\"}]},{\"id\":\"2\"}],"
                     "\"delete_ids\":[\"x\",\"\"],\"expectParent\":\"c42\"}";
  const Ragd__V1__PutDocumentsRequest *put =
      (const Ragd__V1__PutDocumentsRequest *)decoded(f, MESSAGE(put_documents_request), body);
  assert_int_equal(put->n_documents, 2);
  assert_int_equal(put->documents[0]->n_chunks, 2);
  assert_string_equal(put->documents[0]->chunks[1]->text, "c");
  assert_string_equal(put->documents[1]->id, "2");
  assert_int_equal(put->n_delete_ids, 2);
  assert_string_equal(put->delete_ids[0], "x");
  assert_string_equal(put->expect_parent, "c42");
}

static void vectors_are_read_in_place(void **state) {
  fixture *f = *state;
  for (unsigned pad = 0; pad < 20; pad++) {
    char body[200];
    snprintf(body, sizeof(body), "{\"at\":\"%.*s\",\"vector\":[0.1,0.25]}", (int)pad, "xxxxxxxxxxxxxxxxxxxx");
    const Ragd__V1__SearchRequest *request = (const Ragd__V1__SearchRequest *)decoded(f, MESSAGE(search_request), body);
    assert_int_equal(request->vector.len, 8);
    assert_int_equal((uintptr_t)request->vector.data % 16, 0);
    const float *v = (const float *)(const void *)request->vector.data;
    assert_true(v[0] == 0.1f && v[1] == 0.25f);
  }
}

static void bad_bodies_are_refused_with_the_path(void **state) {
  fixture *f = *state;
  static const struct {
    const char *body, *field, *message;
  } puts[] = {
      {"{\"documents\":[{},{},{},{\"vectr\":[]}]}", "documents[3].vectr",
       "unknown field 'vectr' in documents[3]; did you mean 'vector'?"},
      {"{\"documents\":[{},{\"text\":5}]}", "documents[1].text", "documents[1].text: expected a string, got a number"},
      {"{\"documents\":[{\"chunks\":[{\"text\":[]}]}]}", "documents[0].chunks[0].text",
       "documents[0].chunks[0].text: expected a string, got an array"},
      {"{\"documents\":{}}", "documents", "documents: expected an array, got an object"},
      {"{\"documents\":[[]]}", "documents[0]", "documents[0]: expected an object, got an array"},
      {"{\"documents\":[null]}", "documents[0]", "documents[0]: null in a list; leave it out"},
      {"{\"documents\":[{\"metadata\":[]}]}", "documents[0].metadata",
       "documents[0].metadata: expected an object, got an array"},
      {"{\"documents\":[{\"metadata\":\"{}\"}]}", "documents[0].metadata",
       "documents[0].metadata: expected an object, got a string; send the object itself, not its text"},
      {"{\"documents\":[{\"vector\":[1,\"x\"]}]}", "documents[0].vector[1]",
       "documents[0].vector[1]: expected a number, got a string"},
      {"{\"documents\":[{\"vector\":[1,null]}]}", "documents[0].vector[1]",
       "documents[0].vector[1]: expected a number, got null"},
      {"{\"documents\":[{\"vector\":[1e39]}]}", "documents[0].vector[0]",
       "documents[0].vector[0]: 1e+39 does not fit a 32-bit float (at most 3.40282e+38)"},
      {"{\"documents\":[{\"vector\":\"AAA=\"}]}", "documents[0].vector",
       "documents[0].vector: 2 bytes are no vector: little-endian 32-bit floats take 4 bytes each"},
      {"{\"documents\":[{\"vector\":\"AACAPwAAgH8=\"}]}", "documents[0].vector[1]",
       "documents[0].vector[1]: is NaN or infinite; send finite numbers"},
      {"{\"documents\":[{\"vector\":\"AA*A\"}]}", "documents[0].vector",
       "documents[0].vector: bad base64 at character 2"},
      {"{\"documents\":[{\"vector\":\"AAAAA\"}]}", "documents[0].vector",
       "documents[0].vector: bad base64: 5 characters are one too many"},
      {"{\"documents\":[{\"vector\":\"AAA==\"}]}", "documents[0].vector",
       "documents[0].vector: bad base64 at character 3"},
      {"{\"documents\":[{\"vector\":7}]}", "documents[0].vector",
       "documents[0].vector: expected an array of numbers or base64 text, got a number"},
      {"{\"documents\":[{\"effective_at\":1769853600}]}", "documents[0].effective_at",
       "documents[0].effective_at: expected a time such as \"2026-01-31T10:00:00Z\", got a number"},
      {"{\"documents\":[{\"effective_at\":\"2026-02-30\"}]}", "documents[0].effective_at",
       "documents[0].effective_at: bad time \"2026-02-30\": the month has no such day"},
      {"{\"message\":\"a\\u0000b\"}", "message", "message: holds a NUL character; remove it"},
      {"{\"expectParent\":\"a\",\"expect_parent\":\"b\"}", "expect_parent",
       "expect_parent: given twice, in two spellings"},
      {"{\"Documents\":[]}", "Documents", "unknown field 'Documents'; did you mean 'documents'?"},
      {"{\"\":1}", "", "unknown field ''; the nearest known one is 'kb'"},
      {"{\"zzzzzzzzzzzzzzz\":1}", "zzzzzzzzzzzzzzz", "unknown field 'zzzzzzzzzzzzzzz'; the nearest known one is 'kb'"},
      {"[]", "", "the request: expected an object, got an array"},
      {"null", "", "the request: expected an object, got null"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(puts); i++)
    expect_refused(f, MESSAGE(put_documents_request), puts[i].body, puts[i].field, puts[i].message);

  static const struct {
    const char *body, *field, *message;
  } searches[] = {
      {"{\"k\":1.0}", "k",
       "k: expected an integer, got a number with a fraction or an exponent; send 1, not 1.0 or 1e0"},
      {"{\"k\":1e1}", "k",
       "k: expected an integer, got a number with a fraction or an exponent; send 1, not 1.0 or 1e0"},
      {"{\"k\":-1}", "k", "k: -1 is outside 0 to 4294967295"},
      {"{\"k\":4294967296}", "k", "k: 4294967296 is outside 0 to 4294967295"},
      {"{\"k\":18446744073709551615}", "k", "k: 18446744073709551615 is outside 0 to 4294967295"},
      {"{\"k\":18446744073709551616}", "k",
       "bad JSON at byte 5 (in k): an integer outside 64 bits; send it as a string, or with a fraction if it may be "
       "rounded"},
      {"{\"k\":\"5\"}", "k", "k: expected an integer, got a string; send the number without quotes"},
      {"{\"k\":true}", "k", "k: expected an integer, got a boolean"},
      {"{\"exact\":1}", "exact", "exact: expected true or false, got a number"},
      {"{\"exact\":\"true\"}", "exact", "exact: expected true or false, got a string"},
      {"{\"min_score\":1e39}", "min_score", "min_score: 1e+39 does not fit a 32-bit float (at most 3.40282e+38)"},
      {"{\"min_score\":\"1\"}", "min_score", "min_score: expected a number, got a string"},
      {"{\"k\":1,\"k\":2}", "k", "bad JSON: member 'k' appears twice; send it once"},
      {"{\"include\":\"text\"}", "include", "include: expected an array, got a string"},
      {"{\"filter\":[]}", "filter", "filter: expected an object, got an array"},
      {"{\"filter\":\"{}\"}", "filter",
       "filter: expected an object, got a string; send the object itself, not its text"},
      {"{\"mmr\":true}", "mmr", "mmr: expected an object, got a boolean"},
      {"{\"mmr\":{\"lamda\":1}}", "mmr.lamda", "unknown field 'lamda' in mmr; did you mean 'lambda'?"},
      {"{\"fusion\":{\"weights\":[1,2]}}", "fusion.weights", "fusion.weights: expected an object, got an array"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(searches); i++)
    expect_refused(f, MESSAGE(search_request), searches[i].body, searches[i].field, searches[i].message);

  static const char *const ids[] = {"18446744073709551616", "-1 ", "", "0x1", "1.0", " 1", "-"};
  for (size_t i = 0; i < RAG_COUNT_OF(ids); i++) {
    char body[64];
    snprintf(body, sizeof(body), "{\"id\":\"%s\"}", ids[i]);
    expect_refused(f, MESSAGE(job_request), body, "id",
                   "id: expected an integer, got a string that is none of 64 bits; send only decimal digits");
  }
  expect_refused(f, MESSAGE(job_request), "{\"id\":\"-1\"}", "id", "id: -1 is outside 0 to 18446744073709551615");
  expect_refused(f, MESSAGE(empty), "{\"a\":1}", "a", "unknown field 'a'; no fields are taken here");
}

static void inline_json_keeps_to_the_depth(void **state) {
  fixture *f = *state;
  // The limit counts from the body's root: metadata is at depth 2 in a chunk.
  rag_buf body = {0};
  for (unsigned inner = RAG_JSON_DEPTH_MAX - 2; inner <= RAG_JSON_DEPTH_MAX - 1; inner++) {
    rag_buf_clear(&body);
    rag_buf_append_str(&body, "{\"metadata\":{\"a\":");
    for (unsigned i = 0; i < inner; i++) rag_buf_append_char(&body, '[');
    for (unsigned i = 0; i < inner; i++) rag_buf_append_char(&body, ']');
    rag_buf_append_str(&body, "}}");
    ProtobufCMessage *message;
    rag_error err;
    rag_status want = inner + 2 <= RAG_JSON_DEPTH_MAX ? RAG_OK : RAG_INVALID_ARGUMENT;
    assert_int_equal(decode(f, MESSAGE(chunk_input), rag_buf_slice(&body), &message, &err), want);
    if (want != RAG_OK) assert_non_null(strstr(err.message, "nested deeper than 64 levels"));
  }
  rag_buf_free(&body);
}

static void a_small_body_cannot_take_much_memory(void **state) {
  fixture *f = *state;
  // Empty documents: 3 bytes each here, over a hundred as messages.
  rag_buf body = {0};
  rag_buf_append_str(&body, "{\"documents\":[");
  size_t count = 100000;
  for (size_t i = 0; i < count; i++) rag_buf_append_str(&body, i ? ",{}" : "{}");
  rag_buf_append_str(&body, "]}");
  ProtobufCMessage *message;
  rag_error err;
  size_t before = rag_arena_used(f->arena);
  assert_int_equal(decode(f, MESSAGE(put_documents_request), rag_buf_slice(&body), &message, &err),
                   RAG_INVALID_ARGUMENT);
  assert_non_null(strstr(err.message, "takes too much memory for its size; send it in several requests"));
  assert_in_range(rag_arena_used(f->arena) - before, 1, rag_api__message_bytes_max(body.size) * 9 / 8);
  rag_buf_free(&body);
  assert_int_equal(rag_api__message_bytes_max(0), 1 << 20);
  assert_int_equal(rag_api__message_bytes_max(1000), 24000 + (1 << 20));
  assert_int_equal(rag_api__message_bytes_max(SIZE_MAX), 512 << 20);
  assert_int_equal(rag_api__message_bytes_max(100u << 20), 512 << 20);
}

// --------------------------------------------------------------------------------------------------------- parameters

static void parameters_set_fields(void **state) {
  fixture *f = *state;
  Ragd__V1__SearchRequest *request = (Ragd__V1__SearchRequest *)rag_api__message_new(MESSAGE(search_request), f->arena);
  static const char *const good[][2] = {
      {"kb", "d\xC3\xA9"},   {"k", "7"},          {"offset", "4294967295"}, {"exact", "1"},
      {"min_score", "-1.5"}, {"include", "text"}, {"include", "plan"},      {"filter", "{ \"must\": [] }"}};
  rag_error err = {0};
  for (size_t i = 0; i < RAG_COUNT_OF(good); i++)
    assert_int_equal(
        rag_api__field_from_text(&request->base, rag_slice_str(good[i][0]), rag_slice_str(good[i][1]), f->arena, &err),
        RAG_OK);
  assert_string_equal(
      encoded(f, request),
      "{\"kb\":\"d\xC3\xA9\",\"query\":\"\",\"k\":7,\"offset\":4294967295,\"min_score\":-1.5,\"at\":\"\","
      "\"mode\":\"\",\"exact\":true,\"include\":[\"text\",\"plan\"],\"min_commit\":\"\",\"filter\":{\"must\":[]},"
      "\"language\":\"\"}");
  static const char *const bad[][3] = {
      {"k", "", "k: expected an integer of decimal digits"},
      {"filter", "[]", "filter: expected an object, got an array"},
      {"filter", "\"{}\"", "filter: expected an object, got a string; send the object itself, not its text"},
      {"k", "1.0", "k: expected an integer of decimal digits"},
      {"k", "4294967296", "k: 4294967296 is outside 0 to 4294967295"},
      {"k", "-1", "k: -1 is outside 0 to 4294967295"},
      {"exact", "yes", "exact: expected true or false"},
      {"kb", "\xFF", "kb: not valid UTF-8"},
      {"vector", "AAAA", "vector: cannot be a parameter; send it in the body"},
      {"min_score", "\"1\"", "min_score: expected a number, got a string"},
      {"min_score", "nan",
       "min_score: bad JSON at byte 0: expected a value: a string in double quotes, a number, true, "
       "false, null, [ or {"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    assert_int_equal(
        rag_api__field_from_text(&request->base, rag_slice_str(bad[i][0]), rag_slice_str(bad[i][1]), f->arena, &err),
        RAG_INVALID_ARGUMENT);
    assert_string_equal(err.message, bad[i][2]);
    assert_string_equal(err.field, bad[i][0]);
  }
  assert_int_equal(rag_api__field_from_text(&request->base, S("kb"), S("a\0b"), f->arena, &err), RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_api__field_from_text(&request->base, S("nope"), S("1"), f->arena, &err), RAG_NOT_FOUND);
  assert_int_equal(rag_api__field_from_text(&request->base, S(""), S(""), f->arena, &err), RAG_NOT_FOUND);

  // At most 256 values of one name; two are there.
  for (unsigned i = 2; i < 256; i++)
    assert_int_equal(rag_api__field_from_text(&request->base, S("include"), S("x"), f->arena, &err), RAG_OK);
  assert_int_equal(rag_api__field_from_text(&request->base, S("include"), S("x"), f->arena, &err),
                   RAG_INVALID_ARGUMENT);
  assert_int_equal(request->n_include, 256);

  Ragd__V1__CreateKeyRequest *key =
      (Ragd__V1__CreateKeyRequest *)rag_api__message_new(MESSAGE(create_key_request), f->arena);
  assert_int_equal(rag_api__field_from_text(&key->base, S("expires_at"), S("1970-01-01T00:00:01Z"), f->arena, &err),
                   RAG_OK);
  assert_int_equal(key->expires_at, 1000000);
  assert_int_equal(rag_api__field_from_text(&key->base, S("expires_at"), S("1"), f->arena, &err), RAG_INVALID_ARGUMENT);
  Ragd__V1__PatchDocumentRequest *patch =
      (Ragd__V1__PatchDocumentRequest *)rag_api__message_new(MESSAGE(patch_document_request), f->arena);
  assert_int_equal(rag_api__field_from_text(&patch->base, S("metadata"), S("{ \"a\": 1 }"), f->arena, &err), RAG_OK);
  assert_string_equal(patch->metadata, "{\"a\":1}");
}

// --------------------------------------------------------------------------------------------------- failures and fuzz

static const char *const seeds[] = {
    "{\"vector\":[0.12,-3.4e-5,17,1E3],\"k\":10,\"at\":\"main~3\",\"exact\":true,\"min_score\":0.5,\"include\":["
    "\"text\"]}",
    "{\"documents\":[{\"id\":\"a\",\"text\":\"x "
    "\\u00e9\",\"metadata\":{\"n\":[1,{\"d\":-0.0}]},\"vector\":\"AACAPw==\","
    "\"source_modified_at\":\"2026-01-31T10:00:00Z\",\"chunks\":[{\"text\":\"c\",\"vector\":[1]}]}],\"delete_ids\":["
    "\"q\"]}",
    "{\"name\":\"a\",\"dimension\":3,\"chunking\":{\"method\":\"fixed\",\"max_tokens\":0},"
    "\"index\":{\"target_recall\":0.9,\"memory_bytes_max\":\"77\"},\"freshness\":{\"max_age_seconds\":1}}",
};
static const ProtobufCMessageDescriptor *const seed_types[] = {MESSAGE(search_request), MESSAGE(put_documents_request),
                                                               MESSAGE(create_kb_request)};

static void every_allocation_may_fail(void **state) {
  fixture *f = *state;
  for (size_t i = 0; i < RAG_COUNT_OF(seeds); i++) {
    rag_json value;
    assert_int_equal(rag_json_parse(f->parser, rag_slice_str(seeds[i]), &value, NULL), RAG_OK);
    unsigned failures = 0;
    for (uint64_t n = 1;; n++) {
      rag_arena *arena = rag_arena_create(0);
      ProtobufCMessage *message = NULL;
      rag_alloc_fail_after(n);
      rag_status status = rag_api__json_decode(seed_types[i], value, arena, &message, NULL);
      bool happened = rag_alloc_has_failed();
      rag_alloc_fail_after(0);
      assert_int_equal(status, happened ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
      assert_int_equal(message == NULL, happened);
      rag_arena_destroy(arena);
      if (!happened) break;
      failures++;
    }
    assert_true(failures > 0);
    // The same with an arena that is too small at every size: no allocation inside one chunk goes unchecked.
    for (size_t limit = 64;; limit += 16) {
      rag_arena *arena = rag_arena_create(limit);
      ProtobufCMessage *message = NULL;
      rag_status status = rag_api__json_decode(seed_types[i], value, arena, &message, NULL);
      if (status == RAG_OK) assert_non_null(message);
      else assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
      rag_arena_destroy(arena);
      if (status == RAG_OK) break;
      assert_true(limit < 65536);
    }
  }
}

static uint64_t random_state;
static uint64_t next_random(void) { // splitmix64
  uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
  return z ^ z >> 31;
}

static void mutate(rag_buf *text) {
  static const char meaningful[] = "{}[]\",:\\0123456789+-.eEutrfalsn_ \n\x80\xC3\xFF";
  for (unsigned changes = 1 + (unsigned)(next_random() % 3); changes && text->size; changes--) {
    size_t at = next_random() % text->size;
    switch (next_random() % 4) {
    case 0:
      text->data[at] ^= (char)(1 << next_random() % 8);
      break;
    case 1:
      text->data[at] = meaningful[next_random() % (sizeof(meaningful) - 1)];
      break;
    case 2:
      memmove(text->data + at, text->data + at + 1, text->size - at - 1);
      text->size--;
      break;
    default: // a digit put where it stays JSON more often than not
      for (size_t i = at; i < text->size; i++)
        if (text->data[i] >= '0' && text->data[i] <= '9') {
          text->data[i] = (char)('0' + next_random() % 10);
          break;
        }
    }
  }
}

static void mutated_bodies_survive_or_are_refused(void **state) {
  fixture *f = *state;
  const char *given = getenv("RAGD_TEST_SEED");
  random_state = given ? strtoull(given, NULL, 0) : 20260131;
  print_message("seed %llu (RAGD_TEST_SEED)\n", (unsigned long long)random_state);
  rag_buf body = {0}, first = {0}, second = {0};
  unsigned good = 0, refused_late = 0;
  for (unsigned round = 0; round < 60000; round++) {
    size_t which = round % RAG_COUNT_OF(seeds);
    rag_buf_clear(&body);
    rag_buf_append_str(&body, seeds[which]);
    mutate(&body);
    rag_arena_reset(f->arena);
    ProtobufCMessage *message = NULL, *again = NULL;
    rag_error err = {0};
    rag_json value;
    rag_status status = rag_json_parse(f->parser, rag_buf_slice(&body), &value, &err);
    if (status == RAG_OK) {
      status = rag_api__json_decode(seed_types[which], value, f->arena, &message, &err);
      refused_late += status != RAG_OK;
    }
    if (status != RAG_OK) {
      assert_int_equal(status, RAG_INVALID_ARGUMENT);
      assert_true(err.message[0] && rag_utf8_valid(err.message, strlen(err.message)));
      assert_true(rag_utf8_valid(err.field, strlen(err.field)));
      continue;
    }
    good++;
    // JSON -> message -> wire -> message -> JSON says the same as message -> JSON, and is read again.
    rag_slice wire;
    rag_buf_clear(&first);
    rag_buf_clear(&second);
    assert_int_equal(rag_api__json_encode(message, &first, &err), RAG_OK);
    assert_int_equal(rag_api__proto_encode(message, f->arena, &wire, &err), RAG_OK);
    assert_int_equal(rag_api__proto_decode(seed_types[which], wire, f->arena, &again, &err), RAG_OK);
    assert_int_equal(rag_api__json_encode(again, &second, &err), RAG_OK);
    assert_true(rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second)));
    assert_int_equal(rag_json_parse(f->parser, rag_buf_slice(&first), &value, &err), RAG_OK);
    assert_int_equal(rag_api__json_decode(seed_types[which], value, f->arena, &again, &err), RAG_OK);
    rag_buf_clear(&second);
    assert_int_equal(rag_api__json_encode(again, &second, &err), RAG_OK);
    assert_true(rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second)));
  }
  print_message("%u accepted, %u refused by the codec\n", good, refused_late);
  assert_true(good > 1000 && refused_late > 1000);
  rag_buf_free(&body);
  rag_buf_free(&first);
  rag_buf_free(&second);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(answers_print_zeros_and_leave_out_the_unset, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(times_are_rfc_3339_or_null, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(a_failed_encoding_leaves_the_buffer_as_it_was, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(bodies_come_back_as_the_rules_say, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(vectors_are_read_in_place, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(bad_bodies_are_refused_with_the_path, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(inline_json_keeps_to_the_depth, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(a_small_body_cannot_take_much_memory, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(parameters_set_fields, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(every_allocation_may_fail, open_fixture, close_fixture),
      cmocka_unit_test_setup_teardown(mutated_bodies_survive_or_are_refused, open_fixture, close_fixture),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
