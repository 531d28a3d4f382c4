// The client in process: the same dispatcher as the daemon's, over the data directory itself. The store's lock keeps
// two from holding one directory. Requests are trusted: who may read the files needs no key.
//
// Jobs run in the calling thread when they are waited for; one that is not waited for stays queued, and the next
// program that opens the directory runs it.
#include "tools/ragctl/ctl.h"

#include <stdio.h>

typedef struct local_client {
  ctl_client client; // first: it is cast back
  rag_api *api;
} local_client;

static rag_status copy_answer(const rag_api_response *response, int *out_status, rag_buf *answer, rag_error *err) {
  *out_status = response->http_status;
  rag_buf_append(answer, response->body.data, response->body.size);
  return rag_buf_check(answer, err);
}

static rag_status local_call(ctl_client *client, const char *rpc, rag_slice body, int *out_status, rag_buf *answer,
                             rag_error *err) {
  local_client *local = (local_client *)client;
  char target[128];
  rag_arena *arena = rag_arena_create(0);
  if (!arena) return rag_fail_no_memory(err, 1);
  snprintf(target, sizeof(target), "/ragd.v1.%s", rpc);
  rag_api_request request = {
      .method = "POST", .target = target, .content_type = "application/json", .body = body, .trusted = true};
  rag_api_response response;
  rag_api_handle(local->api, &request, arena, &response);
  rag_status status = copy_answer(&response, out_status, answer, err);
  rag_arena_destroy(arena);
  return status;
}

static rag_status read_nothing(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  RAG_UNUSED(ctx);
  RAG_UNUSED(data);
  RAG_UNUSED(size);
  RAG_UNUSED(err);
  *out_size = 0;
  return RAG_OK;
}

typedef struct sink {
  const ctl_stream *stream;
  const rag_api_response *response;
  rag_buf *answer;
} sink;

static rag_status sink_write(void *ctx, const void *data, size_t size, rag_error *err) {
  sink *s = ctx;
  if (s->response->http_status == 200 && s->stream->write)
    return s->stream->write(s->stream->write_ctx, data, size, err);
  rag_buf_append(s->answer, data, size);
  return rag_buf_check(s->answer, err);
}

static rag_status local_stream(ctl_client *client, const ctl_stream *stream, int *out_status, rag_buf *answer,
                               rag_error *err) {
  local_client *local = (local_client *)client;
  rag_arena *arena = rag_arena_create(0);
  if (!arena) return rag_fail_no_memory(err, 1);
  rag_api_request request = {
      .method = stream->method, .target = stream->target, .content_type = stream->content_type, .trusted = true};
  rag_api_response response = {0};
  sink s = {stream, &response, answer};
  rag_api_stream(local->api, &request, arena, stream->read ? stream->read : read_nothing, stream->read_ctx, sink_write,
                 &s, &response);
  // What was not streamed is in the response: an error before the first byte.
  rag_status status = copy_answer(&response, out_status, answer, err);
  if (status == RAG_OK && response.http_status == 200 && response.status != RAG_OK)
    status = rag_fail(err, response.status, "the answer broke off (%s)", rag_status_name(response.status));
  rag_arena_destroy(arena);
  return status;
}

static void show_job(void *ctx, const rag_job_info *info) {
  ctl_progress_show(ctx, info->done, info->total, info->unit ? info->unit : "", NULL);
}

static rag_status local_wait_job(ctl_client *client, uint64_t job, rag_error *err) {
  local_client *local = (local_client *)client;
  ctl_progress progress;
  rag_job_info info = {0};
  RAG_TRY(rag_jobs_get(rag_api_jobs(local->api), job, &info, err));
  bool waits = info.state == RAG_JOB_QUEUED;
  rag_job_info_free(&info);
  if (!waits) return RAG_OK;
  ctl_progress_begin(&progress, "job", false);
  rag_status status = rag_jobs_run_foreground(rag_api_jobs(local->api), show_job, &progress, err);
  ctl_progress_end(&progress);
  return status;
}

static void local_close(ctl_client *client) {
  local_client *local = (local_client *)client;
  rag_api_close(local->api);
  rag_free(local);
}

static const ctl_client_ops local_ops = {local_call, local_stream, local_wait_job, local_close};

rag_status ctl_client_local(const char *data_dir, const char *backup_dir, bool create, ctl_client **out,
                            rag_error *err) {
  if (!create && !rag_os_exists(data_dir))
    return rag_fail(err, RAG_NOT_FOUND, "there is no data directory %s; `ragctl --data %s kb create NAME` makes one",
                    data_dir, data_dir);
  local_client *local = rag_calloc(1, sizeof(*local));
  if (!local) return rag_fail_no_memory(err, sizeof(*local));
  local->client.ops = &local_ops;
  rag_api_options options = rag_api_options_default();
  options.data_dir = data_dir;
  options.backup_dir = backup_dir;
  options.job_threads = 0;
  options.kbs.load_at_open = false; // vectors are read when the first search needs them
  rag_status status = rag_api_open(&options, &local->api, err);
  if (status != RAG_OK) {
    local_close(&local->client);
    return status;
  }
  *out = &local->client;
  return RAG_OK;
}
