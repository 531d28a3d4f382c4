// Operations: jobs, keys, status; and the routes without a message: health, metrics, the API's description.
#include "api/dispatch_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define JOB_WAIT_MS_MAX 600000u
#define JOB_WAIT_SLICE_MS 500u // a server that drains must not wait for a client that waits for a job

// ---------------------------------------------------------------------------------------------- jobs

static rag_status job_message(rag_call *call, const rag_job_info *info, Ragd__V1__Job **out, rag_error *err) {
  Ragd__V1__Job *job = API_NEW(call, job);
  if (!job) return rag_fail_no_memory(err, sizeof(*job));
  job->id = info->id;
  job->kind = rag_api__text_str(call, info->kind);
  job->subject = rag_api__text_str(call, info->subject);
  job->state = rag_api__text_str(call, rag_job_state_name(info->state));
  job->done = info->done;
  job->total = info->total;
  job->unit = rag_api__text_str(call, info->unit);
  if (info->state == RAG_JOB_SUCCEEDED) job->progress = 1;
  else if (info->total) job->progress = (double)RAG_MIN(info->done, info->total) / (double)info->total;
  if (info->eta_seconds >= 0) {
    job->eta_seconds_presence_case = RAGD__V1__JOB__ETA_SECONDS_PRESENCE_ETA_SECONDS;
    job->eta_seconds = info->eta_seconds;
  }
  job->created_at = info->created_us;
  job->started_at = info->started_us;
  job->updated_at = info->updated_us;
  job->finished_at = info->finished_us;
  job->result = rag_api__text_str(call, info->result);
  job->error = rag_api__text_str(call, info->error);
  *out = job;
  return RAG_OK;
}

// A job belongs to the kb that it works on. To a key without that kb it does not exist.
static bool may_see_job(const rag_call *call, const rag_job_info *info) {
  return rag_api__may_touch(&call->principal, rag_slice_str(info->subject));
}

static rag_status no_such_job(uint64_t id, rag_error *err) {
  return rag_fail_field(err, RAG_NOT_FOUND, "id", "job %llu does not exist; GET /v1/jobs lists those that do",
                        (unsigned long long)id);
}

static rag_status job_info(rag_call *call, uint64_t id, rag_job_info *out, rag_error *err) {
  rag_job_info info = {0};
  rag_status status = rag_jobs_get(call->api->jobs, id, &info, err);
  if (status == RAG_NOT_FOUND) return no_such_job(id, err);
  if (status != RAG_OK) return status;
  if (!may_see_job(call, &info)) {
    rag_job_info_free(&info);
    return no_such_job(id, err);
  }
  *out = info;
  return RAG_OK;
}

static rag_status answer_job(rag_call *call, uint64_t id, ProtobufCMessage **response, rag_error *err) {
  rag_job_info info = {0};
  Ragd__V1__Job *out = NULL;
  RAG_TRY(job_info(call, id, &info, err));
  rag_status status = job_message(call, &info, &out, err);
  if (status == RAG_OK) *response = &out->base;
  rag_job_info_free(&info);
  return status;
}

API_HANDLER(list_jobs) {
  const Ragd__V1__ListJobsRequest *in = (const void *)request;
  uint32_t limit, count = 0;
  rag_slice position;
  rag_status status = RAG_OK;
  RAG_TRY(rag_api__limit(in->limit_presence_case, in->limit, &limit, err));
  RAG_TRY(rag_api__page_position(call, "jobs", "", in->page_token, &position, err));
  rag_reader r = rag_reader_of(position);
  uint64_t before = rag_read_u64be(&r); // 0 without a token
  Ragd__V1__ListJobsResponse *out = API_NEW(call, list_jobs_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_api__new_array(call, limit, sizeof(*out->jobs), &out->jobs, err));
  do { // until the page is full of jobs that the caller may see
    rag_job_info *infos = NULL;
    RAG_TRY(rag_jobs_list(call->api->jobs, before, limit, &infos, &count, err));
    for (uint32_t i = 0; i < count; i++) {
      bool wanted = status == RAG_OK && out->n_jobs < limit;
      if (wanted) before = infos[i].id;
      if (wanted && may_see_job(call, &infos[i])) {
        status = job_message(call, &infos[i], &out->jobs[out->n_jobs], err);
        if (status == RAG_OK) out->n_jobs++;
      }
      rag_job_info_free(&infos[i]);
    }
    rag_free(infos);
    if (status != RAG_OK) return status;
  } while (out->n_jobs < limit && count == limit);
  if (count == limit) {
    unsigned char bytes[8];
    for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (unsigned char)(before >> (56 - 8 * i));
    out->next_page_token = rag_api__page_token(call, "jobs", "", rag_slice_of(bytes, sizeof(bytes)));
  }
  *response = &out->base;
  return RAG_OK;
}

static rag_status wait_for_job(rag_call *call, uint64_t id, uint32_t wait_ms, rag_error *err) {
  uint64_t end_ns = rag_clock_monotonic_ns() + (uint64_t)wait_ms * 1000000;
  if (call->deadline_ns) end_ns = RAG_MIN(end_ns, call->deadline_ns);
  for (;;) {
    uint64_t now_ns = rag_clock_monotonic_ns();
    if (now_ns >= end_ns || atomic_load_explicit(&call->api->draining, memory_order_relaxed)) return RAG_OK;
    uint64_t slice_ms = RAG_MIN((end_ns - now_ns) / 1000000 + 1, (uint64_t)JOB_WAIT_SLICE_MS);
    rag_job_info info = {0};
    rag_status status = rag_jobs_wait(call->api->jobs, id, slice_ms, &info, err);
    rag_job_info_free(&info);
    if (status != RAG_DEADLINE_EXCEEDED) return status;
  }
}

API_HANDLER(get_job) {
  const Ragd__V1__GetJobRequest *in = (const void *)request;
  if (in->wait_ms_presence_case && in->wait_ms) {
    rag_job_info info = {0};
    if (in->wait_ms > JOB_WAIT_MS_MAX)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "wait_ms", "wait_ms: at most %u; ask again", JOB_WAIT_MS_MAX);
    RAG_TRY(job_info(call, in->id, &info, err)); // only what one may see may be waited for
    rag_job_info_free(&info);
    RAG_TRY(wait_for_job(call, in->id, in->wait_ms, err));
  }
  return answer_job(call, in->id, response, err);
}

typedef rag_status (*control_fn)(rag_jobs *jobs, uint64_t id, rag_error *err);
static rag_status control_job(rag_call *call, control_fn control, const ProtobufCMessage *request,
                              ProtobufCMessage **response, rag_error *err) {
  const Ragd__V1__JobRequest *in = (const void *)request;
  rag_job_info info = {0};
  RAG_TRY(job_info(call, in->id, &info, err));
  rag_job_info_free(&info);
  RAG_TRY(control(call->api->jobs, in->id, err));
  return answer_job(call, in->id, response, err);
}

API_HANDLER(pause_job) {
  return control_job(call, rag_jobs_pause, request, response, err);
}

API_HANDLER(resume_job) {
  return control_job(call, rag_jobs_resume, request, response, err);
}

API_HANDLER(cancel_job) {
  return control_job(call, rag_jobs_cancel, request, response, err);
}

// ---------------------------------------------------------------------------------------------- keys

static rag_status names_message(rag_call *call, const rag_strings *names, size_t *out_count, char ***out,
                                rag_error *err) {
  RAG_TRY(rag_api__new_array(call, names->count, sizeof(char *), out, err));
  for (size_t i = 0; i < names->count; i++) (*out)[i] = rag_api__text_str(call, names->items[i]);
  *out_count = names->count;
  return RAG_OK;
}

static rag_status key_message(rag_call *call, const rag_api__key *key, Ragd__V1__ApiKey **out, rag_error *err) {
  Ragd__V1__ApiKey *message = API_NEW(call, api_key);
  if (!message) return rag_fail_no_memory(err, sizeof(*message));
  message->id = rag_api__text_str(call, key->id);
  message->name = rag_api__text_str(call, key->name);
  message->role = rag_api__text_str(call, rag_api__role_name(key->role));
  RAG_TRY(names_message(call, &key->kbs, &message->n_kbs, &message->kbs, err));
  RAG_TRY(names_message(call, &key->views, &message->n_feature_views, &message->feature_views, err));
  message->created_at = key->created_us;
  message->expires_at = key->expires_us;
  message->requests_per_second = key->limits.requests_per_s;
  message->burst = key->limits.burst;
  message->bytes_per_day = key->limits.bytes_per_day;
  message->last_used_at = key->usage ? rag_api__usage_last_us(key->usage) : 0;
  message->rotated_at = key->rotated_us;
  message->old_secret_until_at = key->old_until_us;
  *out = message;
  return RAG_OK;
}

// Fills *out, sorted; owned by the caller also on failure. The names need not exist yet: keys are often made before what
// they are for.
static rag_status key_names(const char *field, char *const *names, size_t count, uint32_t most, rag_strings *out,
                            rag_error *err) {
  if (count > most)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: %zu are more than the %u of one key", field, count,
                          most);
  for (size_t i = 0; i < count; i++) {
    rag_slice name = rag_slice_str(names[i]);
    char element[48];
    snprintf(element, sizeof(element), "%s[%zu]", field, i);
    if (!rag_name_valid(name))
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, element,
                            "%s: '%.64s' is no name; one is [a-z0-9][a-z0-9._-]{0,62}", element, names[i]);
    RAG_TRY(rag_strings_add(out, name, err));
  }
  rag_strings_sort(out);
  return RAG_OK;
}

static rag_status key_scope(const Ragd__V1__CreateKeyRequest *in, rag_api__key *key, rag_error *err) {
  bool admin = key->role == RAG_ROLE_ADMIN;
  if (admin && (in->n_kbs || in->n_feature_views)) {
    const char *field = in->n_kbs ? "kbs" : "feature_views";
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field,
                          "%s: an admin key is for everything; leave %s out, or give the key the role 'write'", field,
                          field);
  }
  RAG_TRY(key_names("kbs", in->kbs, in->n_kbs, API_KEY_KBS_MAX, &key->kbs, err));
  return key_names("feature_views", in->feature_views, in->n_feature_views, API_KEY_VIEWS_MAX, &key->views, err);
}

static rag_status key_limits(const Ragd__V1__CreateKeyRequest *in, rag_api__limits *out, rag_error *err) {
  if (in->requests_per_second > API_KEY_RATE_MAX || in->burst > API_KEY_RATE_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, in->burst > API_KEY_RATE_MAX ? "burst" : "requests_per_second",
                          "requests_per_second and burst: at most %u; leave them out for a key without a limit",
                          API_KEY_RATE_MAX);
  if (in->burst && !in->requests_per_second)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "burst", "burst: means nothing without requests_per_second");
  *out = (rag_api__limits){.requests_per_s = in->requests_per_second,
                           .burst = in->burst ? in->burst : in->requests_per_second,
                           .bytes_per_day = in->bytes_per_day};
  return RAG_OK;
}

static rag_status key_expiry(int64_t expires_us, rag_error *err) {
  if (expires_us == 0 || expires_us > rag_clock_now_us()) return RAG_OK;
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "expires_at",
                        "expires_at: lies in the past; leave it out for a key that does not expire");
}

static rag_status key_of(const Ragd__V1__CreateKeyRequest *in, rag_api__key *key, rag_error *err) {
  static const char *const names[] = {"read", "write", "admin"};
  rag_slice role = rag_slice_str(in->role);
  if (!rag_api__role_parse(role, &key->role))
    return rag_api__fail_choice(err, "role", role, names, RAG_COUNT_OF(names));
  if (strlen(in->name) > API_KEY_NAME_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "name", "name: at most %u bytes", API_KEY_NAME_BYTES_MAX);
  key->name = in->name; // borrowed
  RAG_TRY(key_expiry(in->expires_at, err));
  key->expires_us = in->expires_at;
  RAG_TRY(key_limits(in, &key->limits, err));
  return key_scope(in, key, err);
}

API_HANDLER(create_key) {
  const Ragd__V1__CreateKeyRequest *in = (const void *)request;
  rag_api__key key = {0};
  char secret[API_KEY_SECRET_BYTES + 1];
  rag_status status = RAG_OK;
  Ragd__V1__CreateKeyResponse *out = API_NEW(call, create_key_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY_OUT(key_of(in, &key, err));
  RAG_TRY_OUT(rag_api__key_create(call->api->keys, &key, secret, err));
  RAG_TRY_OUT(key_message(call, &key, &out->key, err));
  out->secret = rag_api__text_str(call, secret);
  rag_log(RAG_LOG_INFO, "key.created", "id=%s role=%s by=%s", key.id, rag_api__role_name(key.role),
          call->principal.key_id);
  *response = &out->base;
out:
  explicit_bzero(secret, sizeof(secret));
  rag_strings_free(&key.kbs);
  rag_strings_free(&key.views);
  return status;
}

API_HANDLER(rotate_key) {
  const Ragd__V1__RotateKeyRequest *in = (const void *)request;
  rag_api__key key = {0};
  char secret[API_KEY_SECRET_BYTES + 1];
  rag_status status = RAG_OK;
  Ragd__V1__CreateKeyResponse *out = API_NEW(call, create_key_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  if (in->grace_seconds > API_KEY_GRACE_S_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "grace_seconds", "grace_seconds: at most %u (30 days)",
                          API_KEY_GRACE_S_MAX);
  RAG_TRY(key_expiry(in->expires_at, err));
  RAG_TRY_OUT(rag_api__key_rotate(call->api->keys, rag_slice_str(in->id), in->grace_seconds, in->expires_at, &key,
                                  secret, err));
  RAG_TRY_OUT(key_message(call, &key, &out->key, err));
  out->secret = rag_api__text_str(call, secret);
  rag_log(RAG_LOG_INFO, "key.rotated", "id=%s grace_s=%u by=%s", key.id, in->grace_seconds, call->principal.key_id);
  *response = &out->base;
out:
  explicit_bzero(secret, sizeof(secret));
  rag_api__key_free(&key);
  return status;
}

static int by_creation(const void *a, const void *b) {
  const rag_api__key *x = *(const rag_api__key *const *)a, *y = *(const rag_api__key *const *)b;
  if (x->created_us != y->created_us) return x->created_us < y->created_us ? -1 : 1;
  return strcmp(x->id, y->id);
}

API_HANDLER(list_keys) {
  RAG_UNUSED(request); // without parameters: at most API_KEYS_MAX
  const rag_api__key **sorted;
  Ragd__V1__ListKeysResponse *out = API_NEW(call, list_keys_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  rag_api__key_table *table = rag_api__keys_table(call->api->keys);
  rag_status status = RAG_OK;
  RAG_TRY_OUT(rag_api__new_array(call, table->count, sizeof(*sorted), &sorted, err));
  RAG_TRY_OUT(rag_api__new_array(call, table->count, sizeof(*out->keys), &out->keys, err));
  for (uint32_t i = 0; i < table->count; i++) sorted[i] = &table->keys[i];
  qsort(sorted, table->count, sizeof(*sorted), by_creation);
  for (; out->n_keys < table->count; out->n_keys++)
    RAG_TRY_OUT(key_message(call, sorted[out->n_keys], &out->keys[out->n_keys], err));
  *response = &out->base;
out:
  rag_ref_drop(table);
  return status;
}

API_HANDLER(delete_key) {
  const Ragd__V1__DeleteKeyRequest *in = (const void *)request;
  bool in_process = call->principal.key_id[0] == '\0'; // where keys exist, only such a caller has none
  Ragd__V1__Empty *out = API_NEW(call, empty);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_api__key_delete(call->api->keys, rag_slice_str(in->id), in_process, err));
  rag_log(RAG_LOG_INFO, "key.deleted", "id=%s by=%s", in->id, call->principal.key_id);
  *response = &out->base;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- status

API_HANDLER(get_status) {
  RAG_UNUSED(request);
  rag_api *api = call->api;
  rag_store_stats store;
  rag_kbs_stats kbs;
  rag_error why = {0};
  Ragd__V1__Status *out = API_NEW(call, status);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  rag_store_stats_get(api->store, &store);
  rag_kbs_stats_get(api->kbs, &kbs);
  RAG_TRY(rag_os_disk_free(api->data_dir, &out->disk_free_bytes, err));
  out->version = rag_api__text_str(call, RAGD_VERSION);
  out->uptime_seconds = (rag_clock_monotonic_ns() - api->started_ns) / UINT64_C(1000000000);
  // Where the data lies is an operator's business.
  if (call->principal.role == RAG_ROLE_ADMIN) out->data_dir = rag_api__text_str(call, api->data_dir);
  out->writable = rag_store_writable(api->store, &why) == RAG_OK;
  if (out->writable && store.disk_low) {
    out->writable = false;
    (void)rag_fail(&why, RAG_RESOURCE_EXHAUSTED,
                   "the disk is nearly full: writes are refused until there is space (free-bytes-min)");
  }
  if (!out->writable) out->reason = rag_api__text_str(call, why.message);
  out->kbs = kbs.kbs;
  out->commits = store.commits;
  out->commit_groups = store.groups;
  out->disk_bytes = store.sst_bytes + store.blob_bytes + store.wal_bytes;
  out->vector_bytes = kbs.vector_bytes;
  out->word_bytes = kbs.word_bytes;
  out->field_bytes = kbs.field_bytes;
  out->kernels = rag_api__text_str(call, rag_kernels_best()->name);
  out->store_format = RAG_STORE_FORMAT_VERSION;
  out->auth = rag_api_has_keys(api);
  *response = &out->base;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- plain routes

rag_status rag_api__healthz(rag_call *call, rag_api_response *out, rag_error *err) {
  RAG_UNUSED(call);
  RAG_UNUSED(err);
  out->content_type = "application/json";
  out->body = rag_slice_str("{\"status\":\"ok\"}");
  return RAG_OK;
}

static rag_status answer_buf(rag_call *call, rag_buf *buf, rag_api_response *out, rag_error *err) {
  RAG_TRY(rag_buf_check(buf, err));
  char *copy = rag_arena_strndup(call->arena, buf->data, buf->size);
  if (!copy) return rag_fail_no_memory(err, buf->size);
  out->body = rag_slice_of(copy, buf->size);
  return RAG_OK;
}

rag_status rag_api__readyz(rag_call *call, rag_api_response *out, rag_error *err) {
  rag_error why = {0};
  const char *state = "ready";
  if (atomic_load_explicit(&call->api->draining, memory_order_relaxed)) {
    state = "draining";
    (void)rag_fail(&why, RAG_UNAVAILABLE, "the server is shutting down");
  } else if (rag_store_writable(call->api->store, &why) != RAG_OK) {
    state = "read_only";
  }
  rag_buf body = {0};
  rag_buf_printf(&body, "{\"status\":\"%s\"", state);
  if (why.message[0]) {
    rag_buf_append_str(&body, ",\"reason\":");
    rag_json_put_string(&body, rag_slice_str(why.message));
  }
  rag_buf_append_char(&body, '}');
  out->content_type = "application/json";
  if (why.message[0]) {
    out->http_status = 503;
    out->status = RAG_UNAVAILABLE;
  }
  rag_status status = answer_buf(call, &body, out, err);
  rag_buf_free(&body);
  return status;
}

rag_status rag_api__metrics(rag_call *call, rag_api_response *out, rag_error *err) {
  rag_buf text = {0};
  rag_status status = rag_api__metrics_text(call->api, &text, err);
  if (status == RAG_OK) status = answer_buf(call, &text, out, err);
  out->content_type = "text/plain; version=0.0.4; charset=utf-8";
  rag_buf_free(&text);
  return status;
}

rag_status rag_api__openapi_json(rag_call *call, rag_api_response *out, rag_error *err) {
  out->content_type = "application/json";
  return rag_api__openapi(call->arena, &out->body, err);
}
