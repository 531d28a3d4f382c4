// Requests and answers: building bodies, calling rpcs, reading fields, printing errors, paging, waiting for jobs.
#include "tools/ragctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

#define CONFLICTS_PRINTED_MAX 50u
#define FILTER_FILE_BYTES_MAX (4u << 20)

// ---------------------------------------------------------------------------------------------- bodies

void ctl_body_begin(rag_buf *body) {
  rag_buf_clear(body);
  rag_buf_append_char(body, '{');
}

void ctl_body_name(rag_buf *body, const char *name) {
  if (body->size && body->data[body->size - 1] != '{') rag_buf_append_char(body, ',');
  rag_buf_printf(body, "\"%s\":", name);
}

void ctl_body_string(rag_buf *body, const char *name, const char *value) {
  if (!value) return;
  ctl_body_name(body, name);
  rag_json_put_string(body, rag_slice_str(value));
}

void ctl_body_uint(rag_buf *body, const char *name, uint64_t value) {
  ctl_body_name(body, name);
  rag_json_put_uint(body, value);
}

void ctl_body_bool(rag_buf *body, const char *name, bool value) {
  ctl_body_name(body, name);
  rag_buf_append_str(body, value ? "true" : "false");
}

void ctl_body_raw(rag_buf *body, const char *name, rag_slice json) {
  ctl_body_name(body, name);
  rag_buf_append(body, json.data, json.size);
}

void ctl_body_option(rag_buf *body, const ctl_session *ctl, const char *option, const char *field) {
  ctl_body_string(body, field, ctl_option_text(ctl, option));
}

int ctl_body_filter(rag_buf *body, ctl_session *ctl) {
  const char *given = ctl_option_text(ctl, "filter");
  char *text = NULL;
  rag_json filter;
  if (!given) return CTL_EXIT_OK;
  if (given[0] == '@') {
    size_t size = 0;
    if (rag_os_read_file(given + 1, FILTER_FILE_BYTES_MAX, &text, &size, &ctl->err) != RAG_OK) return ctl_fail(ctl);
    given = text;
  }
  int exit_status = CTL_EXIT_OK;
  if (rag_json_parse(ctl->parser, rag_slice_str(given), &filter, &ctl->err) != RAG_OK)
    exit_status = ctl_usage_error(ctl, "--filter: %s", ctl->err.message);
  else if (rag_json_type_of(filter) != RAG_JSON_OBJECT)
    exit_status = ctl_usage_error(ctl, "--filter: not a JSON object, as in '{\"must\": [{\"key\": \"lang\", "
                                       "\"match\": {\"value\": \"en\"}}]}'");
  else ctl_body_raw(body, "filter", rag_slice_str(given));
  rag_free(text);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- answers

rag_slice ctl_text(rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value) || rag_json_type_of(value) != RAG_JSON_STRING)
    return rag_slice_str("");
  return rag_json_string(value);
}

uint64_t ctl_uint(rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value)) return 0;
  rag_json_type type = rag_json_type_of(value);
  return type == RAG_JSON_UINT || (type == RAG_JSON_INT && rag_json_int(value) >= 0) ? rag_json_uint(value) : 0;
}

double ctl_double(rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value)) return 0;
  rag_json_type type = rag_json_type_of(value);
  return type == RAG_JSON_INT || type == RAG_JSON_UINT || type == RAG_JSON_DOUBLE ? rag_json_double(value) : 0;
}

bool ctl_bool(rag_json object, const char *name) {
  rag_json value;
  return rag_json_find(object, rag_slice_str(name), &value) && rag_json_type_of(value) == RAG_JSON_BOOL &&
         rag_json_bool(value);
}

bool ctl_array(rag_json object, const char *name, rag_json *out) {
  return rag_json_find(object, rag_slice_str(name), out) && rag_json_type_of(*out) == RAG_JSON_ARRAY;
}

// ---------------------------------------------------------------------------------------------- calls

bool ctl_try(ctl_session *ctl, const char *rpc, rag_buf *body, int *out_status, rag_json *out) {
  *out_status = 0;
  ctl_client *client = ctl_connect(ctl);
  if (!client) return false;
  rag_buf_append_char(body, '}');
  if (rag_buf_check(body, &ctl->err) != RAG_OK) return false;
  rag_buf_clear(&ctl->answer);
  int http_status = 0;
  if (client->ops->call(client, rpc, rag_buf_slice(body), &http_status, &ctl->answer, &ctl->err) != RAG_OK)
    return false;
  if (rag_json_parse(ctl->parser, rag_buf_slice(&ctl->answer), out, NULL) != RAG_OK ||
      rag_json_type_of(*out) != RAG_JSON_OBJECT) {
    (void)rag_fail(&ctl->err, RAG_UNKNOWN, "the answer (HTTP %d) is not JSON; is this a ragd? It begins: %.60s",
                   http_status, ctl->answer.size ? ctl->answer.data : "");
    return false;
  }
  *out_status = http_status;
  return true;
}

int ctl_call(ctl_session *ctl, const char *rpc, rag_buf *body, rag_json *out) {
  int http_status = 0;
  if (!ctl_try(ctl, rpc, body, &http_status, out)) return ctl_fail(ctl);
  return http_status == 200 ? CTL_EXIT_OK : ctl_fail_answer(ctl, http_status);
}

rag_status ctl_stream_call(ctl_session *ctl, const ctl_stream *stream, int *out_status) {
  ctl_client *client = ctl_connect(ctl);
  if (!client) return ctl->err.status;
  rag_buf_clear(&ctl->answer);
  return client->ops->stream(client, stream, out_status, &ctl->answer, &ctl->err);
}

int ctl_print_json(const ctl_session *ctl) {
  fwrite(ctl->answer.data, 1, ctl->answer.size, stdout);
  if (ctl->answer.size == 0 || ctl->answer.data[ctl->answer.size - 1] != '\n') putchar('\n');
  return CTL_EXIT_OK;
}

// REST's details are an object; an rpc's are a list whose element repeats the object as `debug`.
static bool details_of(rag_json answer, rag_json *out) {
  rag_json details;
  if (!rag_json_find(answer, rag_slice_str("details"), &details)) return false;
  if (rag_json_type_of(details) == RAG_JSON_ARRAY) {
    rag_json_iter it = rag_json_iter_of(details);
    if (!rag_json_iter_next(&it) || rag_json_type_of(it.value) != RAG_JSON_OBJECT) return false;
    if (!rag_json_find(it.value, rag_slice_str("debug"), &details)) return false;
  }
  *out = details;
  return rag_json_type_of(details) == RAG_JSON_OBJECT;
}

static void print_conflicts(rag_json details) {
  rag_json conflicts;
  if (!ctl_array(details, "conflicts", &conflicts)) return;
  uint64_t total = RAG_MAX(ctl_uint(details, "total"), (uint64_t)rag_json_size(conflicts)), printed = 0;
  rag_json_iter it = rag_json_iter_of(conflicts);
  while (printed < CONFLICTS_PRINTED_MAX && rag_json_iter_next(&it)) {
    rag_slice id = rag_json_type_of(it.value) == RAG_JSON_STRING ? rag_json_string(it.value) : rag_slice_str("?");
    fprintf(stderr, "  conflict: %.*s\n", (int)id.size, id.data);
    printed++;
  }
  if (printed < total) fprintf(stderr, "  and %llu more\n", (unsigned long long)(total - printed));
}

int ctl_fail_answer(ctl_session *ctl, int http_status) {
  rag_json answer, details;
  if (ctl->json) (void)ctl_print_json(ctl);
  if (rag_json_parse(ctl->parser, rag_buf_slice(&ctl->answer), &answer, NULL) != RAG_OK ||
      rag_json_type_of(answer) != RAG_JSON_OBJECT) {
    fprintf(stderr, "ragctl: HTTP %d: %.200s\n", http_status, ctl->answer.size ? ctl->answer.data : "");
    return CTL_EXIT_FAILED;
  }
  rag_slice code = ctl_text(answer, "code"), message = ctl_text(answer, "message");
  fprintf(stderr, "ragctl: %.*s (%.*s)\n", (int)message.size, message.data, (int)code.size, code.data);
  if (details_of(answer, &details)) print_conflicts(details);
  if (rag_slice_equal(code, rag_slice_str("unauthenticated")) && !ctl->api_key_file)
    fputs("  give the key's file: --api-key-file FILE, or RAGD_API_KEY_FILE\n", stderr);
  return CTL_EXIT_FAILED;
}

// ---------------------------------------------------------------------------------------------- lists

#define PAGE_LIMIT 1000u

int ctl_list(ctl_session *ctl, const char *rpc, rag_buf *fields, const char *plural, uint64_t limit,
             void (*each)(void *ctx, rag_json element), void *ctx) {
  rag_buf body = {0};
  char *token = NULL;
  int exit_status = CTL_EXIT_OK;
  uint64_t left = limit ? limit : UINT64_MAX;
  for (bool more = true; more && exit_status == CTL_EXIT_OK;) {
    rag_json answer, list;
    rag_buf_clear(&body);
    rag_buf_append(&body, fields->data, fields->size);
    ctl_body_uint(&body, "limit", RAG_MIN(left, (uint64_t)PAGE_LIMIT));
    ctl_body_string(&body, "page_token", token);
    exit_status = ctl_call(ctl, rpc, &body, &answer);
    if (exit_status != CTL_EXIT_OK) break;
    if (ctl->json) {
      exit_status = ctl_print_json(ctl);
      break;
    }
    if (ctl_array(answer, plural, &list)) {
      rag_json_iter it = rag_json_iter_of(list);
      while (rag_json_iter_next(&it)) {
        each(ctx, it.value);
        left -= left != UINT64_MAX;
      }
    }
    rag_slice next = ctl_text(answer, "next_page_token");
    rag_free(token);
    token = next.size ? rag_strndup(next.data, next.size) : NULL;
    more = token && left > 0;
  }
  rag_free(token);
  rag_buf_free(&body);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- jobs

int ctl_finish_job(ctl_session *ctl, uint64_t job, rag_json *out) {
  rag_buf body = {0};
  int exit_status = CTL_EXIT_OK;
  ctl_client *client = ctl_connect(ctl);
  if (!client) return ctl_fail(ctl);
  if (!ctl_option_given(ctl, "no-wait") && client->ops->wait_job(client, job, &ctl->err) != RAG_OK)
    return ctl_fail(ctl);
  ctl_body_begin(&body);
  ctl_body_uint(&body, "id", job);
  exit_status = ctl_call(ctl, "Operations/GetJob", &body, out);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  rag_slice state = ctl_text(*out, "state");
  if (!rag_slice_equal(state, rag_slice_str("failed"))) return CTL_EXIT_OK;
  rag_slice why = ctl_text(*out, "error");
  if (ctl->json) (void)ctl_print_json(ctl);
  fprintf(stderr, "ragctl: job %llu failed: %.*s\n", (unsigned long long)job, (int)why.size, why.data);
  return CTL_EXIT_FAILED;
}
