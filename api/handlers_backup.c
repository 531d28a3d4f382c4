// Backups and the check of everything: what starts them, and the jobs that do them.
//
// Paths: the backup directory is an option of the process (rag_api_options.backup_dir), and a backup is named by a
// number, so nothing that a request says becomes a path.
//
// A backup job is a row of the store that it backs up, so the store that is restored from the backup finds the job
// running and would go on with it. Its parameters name the store by its identity, which a restored store does not
// share; there the job fails and says why.
#include "api/dispatch_internal.h"

#include <stdio.h>

#define CHECKPOINT_EVERY_NS UINT64_C(1000000000) // a checkpoint is a synced write
#define FINDINGS_MAX 100u                        // in a job's result; the log has all that are reported

// ---------------------------------------------------------------------------------------------- jobs

typedef struct working {
  rag_job *job;
  uint64_t next_ns; // of the next checkpoint
  const char *unit;
  rag_buf findings; // JSON array, without the brackets
  uint32_t finding_count;
} working;

// From whatever thread copies; the job's own waits for it meanwhile.
static rag_status on_progress(void *ctx, uint64_t done, uint64_t total, rag_error *err) {
  working *w = ctx;
  uint64_t now_ns = rag_clock_monotonic_ns();
  if (now_ns < w->next_ns && !rag_job_should_stop(w->job)) return RAG_OK;
  w->next_ns = now_ns + CHECKPOINT_EVERY_NS;
  return rag_job_checkpoint(w->job, rag_slice_of("", 0), done, total, w->unit, err);
}

static rag_status on_rows(void *ctx, uint64_t rows, rag_error *err) {
  return on_progress(ctx, rows, 0, err);
}

static void add_finding(working *w, const char *level, const char *where, const char *text) {
  if (w->finding_count++ >= FINDINGS_MAX) return;
  rag_buf_append_str(&w->findings, w->finding_count > 1 ? ",{\"level\":\"" : "{\"level\":\"");
  rag_buf_append_str(&w->findings, level);
  rag_buf_append_str(&w->findings, "\",\"where\":");
  rag_json_put_string(&w->findings, rag_slice_str(where));
  rag_buf_append_str(&w->findings, ",\"text\":");
  rag_json_put_string(&w->findings, rag_slice_str(text));
  rag_buf_append_char(&w->findings, '}');
}

static void on_damage(void *ctx, const char *path, const char *what) {
  rag_log(RAG_LOG_ERROR, "backup.damaged", "path=%s why=%s", path, what);
  add_finding(ctx, "error", path, what);
}

static void on_finding(void *ctx, rag_check_level level, const char *kb, const char *text) {
  bool is_error = level == RAG_CHECK_ERROR;
  if (is_error) rag_log(RAG_LOG_ERROR, "check.error", "kb=%s text=%s", kb, text);
  add_finding(ctx, is_error ? "error" : "note", kb, text);
}

static rag_status set_result(rag_job *job, rag_buf *json, rag_error *err) {
  rag_status status = rag_buf_check(json, err);
  rag_buf_append_char(json, 0);
  if (status == RAG_OK) status = rag_buf_check(json, err);
  if (status == RAG_OK) status = rag_job_set_result(job, json->data, err);
  rag_buf_free(json);
  return status;
}

static rag_status no_directory(rag_error *err) {
  return rag_fail(err, RAG_FAILED_PRECONDITION,
                  "there is no backup directory: start the server with --backup-dir DIR (in process: --to DIR)");
}

static rag_status backup_run(void *ctx, rag_job *job, rag_error *err) {
  rag_api *api = ctx;
  working w = {.job = job, .unit = "bytes"};
  rag_backup_watch watch = {.progress = on_progress, .ctx = &w};
  rag_backup_info info = {0};
  rag_reader r = rag_reader_of(rag_job_params(job));
  uint32_t keep = rag_read_u32le(&r), removed = 0;
  rag_slice store = rag_read_bytes(&r);
  char identity[RAG_BACKUP_TEXT_MAX];
  rag_buf json = {0};
  if (r.bad) return rag_fail(err, RAG_DATA_LOSS, "the job's parameters cannot be decoded");
  RAG_TRY(rag_store_identity(api->store, identity, err));
  if (!rag_slice_equal(store, rag_slice_str(identity)))
    return rag_fail(err, RAG_ABORTED, "the store was restored from the backup that this job made");
  if (!api->backup_dir) return no_directory(err);
  RAG_TRY(rag_store_backup(api->store, api->backup_dir, RAGD_VERSION, &watch, &info, err));
  rag_log(RAG_LOG_INFO, "backup.made", "id=%u bytes=%llu new_bytes=%llu", info.id, (unsigned long long)info.bytes,
          (unsigned long long)info.new_bytes);
  if (keep) RAG_TRY(rag_backup_keep(api->backup_dir, keep, &removed, err));
  rag_buf_printf(&json, "{\"id\":%u,\"bytes\":%llu,\"new_bytes\":%llu,\"files\":%llu,\"removed\":%u}", info.id,
                 (unsigned long long)info.bytes, (unsigned long long)info.new_bytes, (unsigned long long)info.files,
                 removed);
  return set_result(job, &json, err);
}

static rag_status verify_run(void *ctx, rag_job *job, rag_error *err) {
  rag_api *api = ctx;
  working w = {.job = job, .unit = "bytes"};
  rag_backup_watch watch = {.progress = on_progress, .report = on_damage, .ctx = &w};
  rag_backup_info info = {0};
  rag_reader r = rag_reader_of(rag_job_params(job));
  uint32_t id = rag_read_u32le(&r);
  rag_buf json = {0};
  if (r.bad) return rag_fail(err, RAG_DATA_LOSS, "the job's parameters cannot be decoded");
  if (!api->backup_dir) return no_directory(err);
  rag_status status = rag_backup_verify(api->backup_dir, id, &watch, &info, err);
  if (status == RAG_OK || status == RAG_DATA_LOSS) {
    rag_error ignored = {0};
    rag_buf_printf(&json, "{\"id\":%u,\"bytes\":%llu,\"files\":%llu,\"damaged\":%u,\"findings\":[", id,
                   (unsigned long long)info.bytes, (unsigned long long)info.files, w.finding_count);
    rag_buf_append(&json, w.findings.data, w.findings.size);
    rag_buf_append_str(&json, "]}");
    rag_status written = set_result(job, &json, status == RAG_OK ? err : &ignored);
    if (status == RAG_OK) status = written;
  }
  rag_buf_free(&w.findings);
  return status;
}

static rag_status check_run(void *ctx, rag_job *job, rag_error *err) {
  rag_api *api = ctx;
  working w = {.job = job, .unit = "rows"};
  rag_check_options options = {.report = on_finding, .progress = on_rows, .ctx = &w};
  rag_check_result result = {0};
  rag_buf json = {0};
  rag_status status = rag_kbs_check(api->kbs, &options, &result, err);
  if (status == RAG_OK) {
    rag_buf_printf(&json, "{\"rows\":%llu,\"commits\":%llu,\"kbs\":%llu,\"errors\":%llu,\"notes\":%llu,\"findings\":[",
                   (unsigned long long)result.rows, (unsigned long long)result.commits, (unsigned long long)result.kbs,
                   (unsigned long long)result.errors, (unsigned long long)result.notes);
    rag_buf_append(&json, w.findings.data, w.findings.size);
    rag_buf_append_str(&json, "]}");
    status = set_result(job, &json, err);
  }
  rag_buf_free(&w.findings);
  if (status == RAG_OK && result.errors > 0)
    status = rag_fail(err, RAG_DATA_LOSS, "%llu errors; the job's result and the server's log say where",
                      (unsigned long long)result.errors);
  return status;
}

void rag_api__backup_jobs(rag_api *api) {
  rag_jobs_register(api->jobs, "backup", backup_run, api);
  rag_jobs_register(api->jobs, "backup-verify", verify_run, api);
  rag_jobs_register(api->jobs, "check", check_run, api);
}

// ---------------------------------------------------------------------------------------------- rpcs

static rag_status start(rag_call *call, const char *kind, const rag_buf *params, ProtobufCMessage **response,
                        rag_error *err) {
  Ragd__V1__JobStarted *out = API_NEW(call, job_started);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_buf_check(params, err));
  RAG_TRY(rag_jobs_submit(call->api->jobs, kind, "", rag_buf_slice(params), &out->job, err));
  *response = &out->base;
  return RAG_OK;
}

API_HANDLER(create_backup) {
  const Ragd__V1__CreateBackupRequest *in = (const void *)request;
  rag_buf params = {0};
  char identity[RAG_BACKUP_TEXT_MAX];
  if (!call->api->backup_dir) return no_directory(err);
  RAG_TRY(rag_store_identity(call->api->store, identity, err));
  rag_buf_append_u32le(&params, in->keep);
  rag_buf_append_bytes(&params, rag_slice_str(identity));
  rag_status status = start(call, "backup", &params, response, err);
  rag_buf_free(&params);
  return status;
}

API_HANDLER(verify_backup) {
  const Ragd__V1__BackupRequest *in = (const void *)request;
  rag_buf params = {0};
  rag_backup_info *infos = NULL;
  uint32_t count = 0;
  bool found = false;
  if (!call->api->backup_dir) return no_directory(err);
  RAG_TRY(rag_backup_list(call->api->backup_dir, &infos, &count, err));
  for (uint32_t i = 0; i < count; i++) found = found || infos[i].id == in->id;
  rag_free(infos);
  if (!found)
    return rag_fail_field(err, RAG_NOT_FOUND, "id", "backup %u does not exist; GET /v1/backups lists those that do",
                          in->id);
  rag_buf_append_u32le(&params, in->id);
  rag_status status = start(call, "backup-verify", &params, response, err);
  rag_buf_free(&params);
  return status;
}

API_HANDLER(delete_backup) {
  const Ragd__V1__BackupRequest *in = (const void *)request;
  Ragd__V1__Empty *out = API_NEW(call, empty);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  if (!call->api->backup_dir) return no_directory(err);
  RAG_TRY(rag_backup_delete(call->api->backup_dir, in->id, err));
  rag_log(RAG_LOG_INFO, "backup.deleted", "id=%u by=%s", in->id, call->principal.key_id);
  *response = &out->base;
  return RAG_OK;
}

static rag_status backup_message(rag_call *call, const rag_backup_info *info, Ragd__V1__Backup **out, rag_error *err) {
  Ragd__V1__Backup *message = API_NEW(call, backup);
  if (!message) return rag_fail_no_memory(err, sizeof(*message));
  message->id = info->id;
  message->state = rag_api__text_str(call, rag_backup_state_name(info->state));
  message->created_at = info->created_us;
  message->bytes = info->bytes;
  message->new_bytes = info->new_bytes;
  message->files = info->files;
  message->store_format = info->store_format;
  message->program = rag_api__text_str(call, info->program);
  message->store = rag_api__text_str(call, info->store);
  *out = message;
  return RAG_OK;
}

API_HANDLER(list_backups) {
  RAG_UNUSED(request);
  rag_backup_info *infos = NULL;
  uint32_t count = 0;
  rag_status status;
  Ragd__V1__ListBackupsResponse *out = API_NEW(call, list_backups_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  if (!call->api->backup_dir) return no_directory(err);
  RAG_TRY(rag_backup_list(call->api->backup_dir, &infos, &count, err));
  RAG_TRY_OUT(rag_api__new_array(call, count, sizeof(*out->backups), &out->backups, err));
  for (uint32_t i = count; i-- > 0; out->n_backups++)
    RAG_TRY_OUT(backup_message(call, &infos[i], &out->backups[out->n_backups], err));
  *response = &out->base;
out:
  rag_free(infos);
  return status;
}

API_HANDLER(check) {
  RAG_UNUSED(request);
  rag_buf params = {0};
  return start(call, "check", &params, response, err);
}
