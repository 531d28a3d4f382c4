// Goal: a knowledge base goes out as one stream and comes back under another name with its whole history; a damaged or
// unfit stream leaves nothing behind.
// Method: rag_api_stream over memory, both ways.
#include "dispatch_testing.h"

static int start(void **state) {
  service *s = service_start();
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\",\"chunking\":{\"method\":\"whole\"}}");
  *state = s;
  return 0;
}

static int stop(void **state) {
  service_stop(*state);
  return 0;
}

static void test_export_import(void **state) {
  service *s = *state;
  CALL(200, "POST", "/v1/kbs/docs/documents",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"one\"},{\"id\":\"b\",\"text\":\"two\"}]}");
  CALL(200, "POST", "/v1/kbs/docs/tags", "{\"name\":\"v1\"}");
  CALL(200, "POST", "/v1/kbs/docs/documents",
       "{\"documents\":[{\"id\":\"a\",\"text\":\"changed\"}],\"delete_ids\":[\"b\"]}");
  stream_ends out = {0};
  assert_int_equal(send_stream(s, "GET", "/v1/kbs/docs/export", NULL, &out), 200);
  assert_string_equal(s->answer.content_type, "application/octet-stream");
  assert_true(out.written.size > 0);

  stream_ends in = {.body = out.written.data, .size = out.written.size, .step = 100};
  assert_int_equal(send_stream(s, "POST", "/v1/kbs:import?name=copy", "application/octet-stream", &in), 200);
  assert_int_equal(rag_json_parse(s->parser, rag_buf_slice(&in.written), &s->json, NULL), RAG_OK);
  EXPECT("name", "copy");
  EXPECT("documents", "1");
  EXPECT("tags", "1");
  rag_buf_free(&in.written);
  CALL(200, "GET", "/v1/kbs/copy/documents/b?at=v1", NULL);
  EXPECT("text", "two");

  in = (stream_ends){.body = out.written.data, .size = out.written.size};
  assert_int_equal(send_stream(s, "POST", "/v1/kbs:import?name=copy", "application/octet-stream", &in), 409);
  out.written.data[out.written.size / 2] ^= 0x20; // damage leaves no kb behind
  in = (stream_ends){.body = out.written.data, .size = out.written.size};
  assert_int_equal(send_stream(s, "POST", "/v1/kbs:import?name=third", "application/octet-stream", &in), 400);
  EXPECT("code", "invalid_argument");
  CALL(404, "GET", "/v1/kbs/third", NULL);
  in = (stream_ends){.body = out.written.data, .size = out.written.size};
  assert_int_equal(send_stream(s, "POST", "/v1/kbs:import", "application/json", &in), 400);
  rag_buf_free(&out.written);
  stream_ends none = {0};
  assert_int_equal(send_stream(s, "GET", "/v1/kbs/none/export", NULL, &none), 404);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {TEST(test_export_import)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
