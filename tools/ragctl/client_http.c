// The client over HTTP: libcurl behind ctl_client. One connection, kept between calls. No foreign type leaves this
// file.
//
// Errors that have an answer are the caller's to read; only the lack of one is an error here.
#include "tools/ragctl/ctl.h"

#include <curl/curl.h>
#include <stdio.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000L
#define PROBE_TIMEOUT_MS 1500L
#define JOB_POLL_MS 1000u
#define JOB_POLL_FIRST_MS 100u
#define ANSWER_BYTES_MAX (1u << 30) // of a unary call, so that a wrong server cannot fill our memory

typedef struct http_client {
  ctl_client client; // first: it is cast back
  CURL *curl;
  char *url, *ca_file;
  struct curl_slist *headers; // of every call: the key
  char message[CURL_ERROR_SIZE];
} http_client;

typedef struct transfer {
  http_client *http;
  rag_buf *answer;
  const ctl_stream *stream; // NULL: unary
  rag_error *err;
  rag_status status; // of the caller's read and write
} transfer;

static size_t on_body(char *data, size_t one, size_t size, void *arg) {
  transfer *t = arg;
  long http_status = 0;
  RAG_UNUSED(one);
  curl_easy_getinfo(t->http->curl, CURLINFO_RESPONSE_CODE, &http_status);
  if (t->stream && t->stream->write && http_status == 200) {
    t->status = t->stream->write(t->stream->write_ctx, data, size, t->err);
    return t->status == RAG_OK ? size : 0;
  }
  if (size > ANSWER_BYTES_MAX - t->answer->size) return 0;
  rag_buf_append(t->answer, data, size);
  return t->answer->failed ? 0 : size;
}

static size_t on_read(char *data, size_t one, size_t count, void *arg) {
  transfer *t = arg;
  size_t size = 0;
  t->status = t->stream->read(t->stream->read_ctx, data, one * count, &size, t->err);
  return t->status == RAG_OK ? size : CURL_READFUNC_ABORT;
}

static rag_status perform(transfer *t, const char *url, struct curl_slist *headers, int *out_status, rag_error *err) {
  http_client *http = t->http;
  CURL *curl = http->curl;
  http->message[0] = 0;
  curl_easy_setopt(curl, CURLOPT_URL, url);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->message);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  if (http->ca_file) curl_easy_setopt(curl, CURLOPT_CAINFO, http->ca_file);
  CURLcode code = curl_easy_perform(curl);
  if (t->status != RAG_OK) return t->status;
  if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
    return rag_fail(err, RAG_UNAVAILABLE,
                    "no server answers at %s; start one with `ragd serve --data DIR`, name another with --url, or work "
                    "without one: --data DIR",
                    http->url);
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
    return rag_fail(
        err, RAG_UNAVAILABLE,
        "%s: the server's certificate is not trusted (%s); name the authority's file with --ca-file, and the "
        "server as its certificate does",
        http->url, http->message[0] ? http->message : curl_easy_strerror(code));
  if (code != CURLE_OK)
    return rag_fail(err, RAG_UNAVAILABLE, "%s: %s", http->url,
                    http->message[0] ? http->message : curl_easy_strerror(code));
  long http_status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
  *out_status = (int)http_status;
  return RAG_OK;
}

// The key's header and, where not NULL, one more. NULL: out of memory.
static struct curl_slist *headers_with(const http_client *http, const char *one) {
  struct curl_slist *list = NULL;
  // No "Expect: 100-continue": it costs a round trip, and an answer that comes early is read anyway.
  const char *own[] = {"Expect:", one};
  for (const struct curl_slist *h = http->headers; h; h = h->next) {
    struct curl_slist *longer = curl_slist_append(list, h->data);
    if (!longer) goto fail;
    list = longer;
  }
  for (size_t i = 0; i < RAG_COUNT_OF(own); i++) {
    if (!own[i]) continue;
    struct curl_slist *longer = curl_slist_append(list, own[i]);
    if (!longer) goto fail;
    list = longer;
  }
  return list;
fail:
  curl_slist_free_all(list);
  return NULL;
}

static rag_status http_call(ctl_client *client, const char *rpc, rag_slice body, int *out_status, rag_buf *answer,
                            rag_error *err) {
  http_client *http = (http_client *)client;
  rag_buf url = {0};
  struct curl_slist *headers = headers_with(http, "Content-Type: application/json");
  transfer t = {.http = http, .answer = answer, .err = err};
  rag_buf_printf(&url, "%s/ragd.v1.%s", http->url, rpc);
  rag_buf_append_char(&url, 0);
  rag_status status = rag_buf_check(&url, err);
  if (status == RAG_OK && !headers) status = rag_fail_no_memory(err, 1);
  if (status == RAG_OK) {
    curl_easy_reset(http->curl);
    curl_easy_setopt(http->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, body.data);
    curl_easy_setopt(http->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.size);
    status = perform(&t, url.data, headers, out_status, err);
  }
  curl_slist_free_all(headers);
  rag_buf_free(&url);
  return status;
}

static rag_status http_stream(ctl_client *client, const ctl_stream *stream, int *out_status, rag_buf *answer,
                              rag_error *err) {
  http_client *http = (http_client *)client;
  rag_buf text = {0};
  if (stream->content_type) rag_buf_printf(&text, "Content-Type: %s", stream->content_type);
  rag_buf_append_char(&text, 0);
  size_t url_at = text.size;
  rag_buf_printf(&text, "%s%s", http->url, stream->target);
  rag_buf_append_char(&text, 0);
  rag_status status = rag_buf_check(&text, err);
  struct curl_slist *headers = NULL;
  transfer t = {.http = http, .answer = answer, .stream = stream, .err = err};
  if (status == RAG_OK) {
    headers = headers_with(http, stream->content_type ? text.data : NULL);
    if (!headers) status = rag_fail_no_memory(err, 1);
  }
  if (status == RAG_OK) {
    curl_easy_reset(http->curl);
    if (stream->read) { // of unknown length: chunked
      curl_easy_setopt(http->curl, CURLOPT_POST, 1L);
      curl_easy_setopt(http->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)-1);
      curl_easy_setopt(http->curl, CURLOPT_READFUNCTION, on_read);
      curl_easy_setopt(http->curl, CURLOPT_READDATA, &t);
    }
    status = perform(&t, text.data + url_at, headers, out_status, err);
  }
  curl_slist_free_all(headers);
  rag_buf_free(&text);
  return status;
}

// Asks with a wait that the server does, so an ended job is seen at once and a long one costs a request a second.
static rag_status http_wait_job(ctl_client *client, uint64_t job, rag_error *err) {
  rag_json_parser *parser = rag_json_parser_create();
  rag_buf body = {0}, answer = {0};
  ctl_progress progress;
  rag_status status = RAG_OK;
  if (!parser) return rag_fail_no_memory(err, 1);
  ctl_progress_begin(&progress, "job", false);
  for (unsigned wait_ms = JOB_POLL_FIRST_MS; status == RAG_OK; wait_ms = JOB_POLL_MS) {
    rag_json record;
    int http_status = 0;
    ctl_body_begin(&body);
    ctl_body_uint(&body, "id", job);
    ctl_body_uint(&body, "wait_ms", wait_ms);
    rag_buf_append_char(&body, '}');
    rag_buf_clear(&answer);
    status = http_call(client, "Operations/GetJob", rag_buf_slice(&body), &http_status, &answer, err);
    if (status != RAG_OK) break;
    if (http_status != 200 || rag_json_parse(parser, rag_buf_slice(&answer), &record, NULL) != RAG_OK) {
      status = rag_fail(err, RAG_UNKNOWN, "asking for job %llu: HTTP %d: %.*s", (unsigned long long)job, http_status,
                        (int)RAG_MIN(answer.size, (size_t)200), answer.size ? answer.data : "");
      break;
    }
    rag_slice state = ctl_text(record, "state"), unit = ctl_text(record, "unit");
    if (!rag_slice_equal(state, rag_slice_str("queued")) && !rag_slice_equal(state, rag_slice_str("running"))) break;
    char unit_text[RAG_JOB_UNIT_MAX + 1];
    snprintf(unit_text, sizeof(unit_text), "%.*s", (int)unit.size, unit.data);
    ctl_progress_show(&progress, ctl_uint(record, "done"), ctl_uint(record, "total"), unit_text, NULL);
  }
  ctl_progress_end(&progress);
  rag_json_parser_destroy(parser);
  rag_buf_free(&body);
  rag_buf_free(&answer);
  return status;
}

static void http_close(ctl_client *client) {
  http_client *http = (http_client *)client;
  if (http->curl) curl_easy_cleanup(http->curl);
  curl_slist_free_all(http->headers);
  rag_free(http->url);
  rag_free(http->ca_file);
  rag_free(http);
}

static const ctl_client_ops http_ops = {http_call, http_stream, http_wait_job, http_close};

static rag_status add_key(http_client *http, const char *api_key, rag_error *err) {
  rag_buf header = {0};
  rag_buf_printf(&header, "Authorization: Bearer %s", api_key);
  rag_buf_append_char(&header, 0);
  rag_status status = rag_buf_check(&header, err);
  if (status == RAG_OK) {
    http->headers = curl_slist_append(NULL, header.data);
    if (!http->headers) status = rag_fail_no_memory(err, header.size);
  }
  rag_buf_free(&header);
  return status;
}

rag_status ctl_client_http(const char *url, const char *api_key, const char *ca_file, ctl_client **out,
                           rag_error *err) {
  if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "'%.100s' is no URL; write http://HOST:PORT", url);
  size_t size = strlen(url);
  while (size && url[size - 1] == '/') size--;
  http_client *http = rag_calloc(1, sizeof(*http));
  if (!http) return rag_fail_no_memory(err, sizeof(*http));
  http->client.ops = &http_ops;
  http->url = rag_strndup(url, size);
  http->ca_file = ca_file ? rag_strdup(ca_file) : NULL;
  http->curl = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
  rag_status status = http->url && http->curl && !http->ca_file == !ca_file ? RAG_OK : rag_fail_no_memory(err, size);
  if (status == RAG_OK && api_key) status = add_key(http, api_key, err);
  if (status != RAG_OK) {
    http_close(&http->client);
    return status;
  }
  *out = &http->client;
  return RAG_OK;
}

static size_t drop_body(char *data, size_t one, size_t size, void *arg) {
  RAG_UNUSED(data);
  RAG_UNUSED(arg);
  return one * size;
}

bool ctl_http_answers(const char *url) {
  rag_buf target = {0};
  long http_status = 0;
  rag_buf_printf(&target, "%s/healthz", url);
  rag_buf_append_char(&target, 0);
  CURL *curl = !target.failed && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
  if (curl) {
    curl_easy_setopt(curl, CURLOPT_URL, target.data);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, PROBE_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop_body);
    // Whether somebody answers, on this machine, and nothing is sent: the call that follows looks at the certificate.
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    if (curl_easy_perform(curl) == CURLE_OK) curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
    curl_easy_cleanup(curl);
  }
  rag_buf_free(&target);
  return http_status == 200;
}
