// One HTTP connection of the harness: libcurl, JSON in and out.
#include "tests/fault/kill_loop.h"

#include <curl/curl.h>
#include <stdlib.h>

struct http {
  CURL *curl;
  char url[128];
  rag_buf answer;
  rag_json_parser *parser;
};

http_connection *http_open(const char *url) {
  http_connection *http = rag_calloc(1, sizeof(*http));
  RAG_ASSERT(http && strlen(url) < sizeof(http->url));
  memcpy(http->url, url, strlen(url) + 1);
  http->curl = curl_easy_init();
  http->parser = rag_json_parser_create();
  RAG_ASSERT(http->curl && http->parser);
  return http;
}

void http_close(http_connection *http) {
  curl_easy_cleanup(http->curl);
  rag_json_parser_destroy(http->parser);
  rag_buf_free(&http->answer);
  rag_free(http);
}

static size_t on_body(char *data, size_t one, size_t size, void *arg) {
  rag_buf_append(arg, data, one * size);
  return size;
}

bool http_request(http_connection *http, const char *method, const char *path, const rag_buf *body,
                  const char *idempotency_key, int *out_status, rag_json *answer) {
  rag_buf url = {0}, key = {0};
  struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
  rag_buf_printf(&url, "%s%s", http->url, path);
  rag_buf_append_char(&url, 0);
  if (idempotency_key) {
    rag_buf_printf(&key, "Idempotency-Key: %s", idempotency_key);
    rag_buf_append_char(&key, 0);
    headers = curl_slist_append(headers, key.data);
  }
  headers = curl_slist_append(headers, "Expect:");
  RAG_ASSERT(headers && !url.failed && !key.failed);
  rag_buf_clear(&http->answer);
  CURL *curl = http->curl;
  curl_easy_reset(curl);
  curl_easy_setopt(curl, CURLOPT_URL, url.data);
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, 120L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &http->answer);
  if (body) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body->size);
  }
  CURLcode code = curl_easy_perform(curl);
  long http_status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
  curl_slist_free_all(headers);
  rag_buf_free(&url);
  rag_buf_free(&key);
  if (code != CURLE_OK) return false;
  *out_status = (int)http_status;
  return rag_json_parse(http->parser, rag_buf_slice(&http->answer), answer, NULL) == RAG_OK &&
         rag_json_type_of(*answer) == RAG_JSON_OBJECT;
}

rag_slice json_text(rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value) || rag_json_type_of(value) != RAG_JSON_STRING)
    return rag_slice_str("");
  return rag_json_string(value);
}

uint64_t json_uint(rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value) || rag_json_type_of(value) != RAG_JSON_INT) return 0;
  return rag_json_uint(value);
}

bool json_bool(rag_json object, const char *name) {
  rag_json value;
  return rag_json_find(object, rag_slice_str(name), &value) && rag_json_type_of(value) == RAG_JSON_BOOL &&
         rag_json_bool(value);
}
