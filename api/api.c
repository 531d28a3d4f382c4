// Opening and closing: the store, its jobs, its knowledge bases, its keys, its audit log; in this order, and back.
#include "api/dispatch_internal.h"

#define JOB_THREADS_DEFAULT 2u // jobs are disk-bound deletions and compactions; more would take from searches

rag_api_options rag_api_options_default(void) {
  return (rag_api_options){
      .store = rag_store_options_default(),
      .kbs = rag_kbs_options_default(),
      .job_threads = JOB_THREADS_DEFAULT,
      .audit = {.bytes_max = 64u << 20, .files_max = 10, .queue_bytes_max = 1u << 20}, // room for thousands of writes
  };
}

rag_status rag_api_open(const rag_api_options *options, rag_api **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_api *api = rag_calloc(1, sizeof(*api));
  if (!api) return rag_fail_no_memory(err, sizeof(*api));
  api->started_ns = rag_clock_monotonic_ns();
  api->slow_query_ns = (uint64_t)options->slow_query_ms * 1000000;
  api->data_dir = rag_strdup(options->data_dir);
  if (!api->data_dir) RAG_TRY_OUT(rag_fail_no_memory(err, strlen(options->data_dir)));
  if (options->backup_dir) api->backup_dir = rag_strdup(options->backup_dir);
  if (options->backup_dir && !api->backup_dir) RAG_TRY_OUT(rag_fail_no_memory(err, strlen(options->backup_dir)));
  RAG_TRY_OUT(rag_store_open(options->data_dir, &options->store, &api->store, err));
  RAG_TRY_OUT(rag_jobs_open(api->store, options->job_threads, &api->jobs, err));
  RAG_TRY_OUT(rag_kbs_open(api->store, api->jobs, &options->kbs, &api->kbs, err));
  RAG_TRY_OUT(rag_api__keys_open(api->store, options->job_threads > 0, &api->keys, err));
  if (options->audit.path) RAG_TRY_OUT(rag_api__audit_open(&options->audit, &api->audit, err));
  rag_api__backup_jobs(api);
  RAG_TRY_OUT(rag_jobs_start(api->jobs, err)); // every kind is registered
  *out = api;
  api = NULL;
out:
  rag_api_close(api);
  return status;
}

void rag_api_close(rag_api *api) {
  if (!api) return;
  // Runners use the kbs: no job may run while they go. Jobs that were running go on at the next start.
  rag_jobs_close(api->jobs);
  rag_api__audit_close(api->audit);
  rag_api__keys_close(api->keys);
  rag_kbs_close(api->kbs);
  rag_store_close(api->store);
  rag_free(api->data_dir);
  rag_free(api->backup_dir);
  rag_free(api);
}

rag_kbs *rag_api_kbs(rag_api *api) {
  return api->kbs;
}

rag_jobs *rag_api_jobs(rag_api *api) {
  return api->jobs;
}

rag_store *rag_api_store(rag_api *api) {
  return api->store;
}

bool rag_api_has_keys(rag_api *api) {
  return rag_api__keys_any(api->keys);
}
