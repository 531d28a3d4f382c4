// The process that is killed. It opens the store and the knowledge base in a folder, runs writer threads over the
// operations of the model and says on standard output, one line in one write each, what was answered:
//
//   K                                       the knowledge base is there
//   A <thread> <number> <commit> <digest>   the operation was answered with success; of a purge and a gc: the job
//   F <thread> <number> <status> <text>     it failed, and the store goes on taking writes
//   E <thread> <number> <status> <text>     it failed, and the store is in ERROR
//   O <status> <text>                       the store or the knowledge base did not open
//   V <text>                                a promise was broken: what the parent cannot see from outside
//   D                                       every thread has stopped, everything is closed
//
// In ERROR it checks: the failed call named the cause, no write that starts afterwards is answered with success, and
// reads go on and show what was acknowledged.
//
// Usage: fault_power_writer DIR MODEL_FILE OPS [nosync] [early] [buffer=BYTES] [no-read-check]
// OPS: of each thread. Threads and seed are the model's.
#include "tests/fault/power/model.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FAILURES_MAX 100u // in a row of one thread, with the store taking writes

static model the_model; // each thread has its own thread_state; the rest is immutable after start
static rag_store *store;
static rag_kb *kb;
static uint32_t ops_max;
static bool read_check = true;
static _Atomic bool error_seen; // release after ERROR was seen; a call that starts after it must fail

static void say(const char *fmt, ...) RAG_PRINTF(1, 2);
static void say(const char *fmt, ...) {
  char line[1024];
  va_list args;
  va_start(args, fmt);
  int size = vsnprintf(line, sizeof line - 1, fmt, args);
  va_end(args);
  size = RAG_MIN(size, (int)sizeof line - 2);
  for (int i = 0; i < size; i++)
    if (line[i] == '\n') line[i] = ' ';
  line[size] = '\n';
  // Under PIPE_BUF: whole or not at all.
  if (write(1, line, (size_t)size + 1) != size + 1) abort();
}

static rag_status run_put(const op *o, rag_write_result *result, rag_error *err) {
  static _Thread_local char texts[OP_DOCS_MAX][TEXT_BYTES_MAX];
  char ids[2 * OP_DOCS_MAX][64], metadata[64], branch[64] = "";
  rag_document_input documents[OP_DOCS_MAX];
  memset(documents, 0, sizeof documents);
  rag_slice removed[OP_DOCS_MAX];
  bool side = o->kind == OP_SIDE_PUT;
  if (side) model_branch(o->thread, branch);
  model_metadata(o->thread, side, o->seq, metadata);
  for (uint32_t i = 0; i < o->put_count; i++) {
    model_id(o->thread, side, o->put[i], ids[i]);
    size_t size = model_text(&the_model, o->thread, side, o->put[i], o->seq, texts[i]);
    documents[i] = (rag_document_input){
        .id = rag_slice_str(ids[i]), .text = {texts[i], size}, .metadata = rag_slice_str(metadata)};
  }
  for (uint32_t i = 0; i < o->remove_count; i++) {
    model_id(o->thread, side, o->remove[i], ids[OP_DOCS_MAX + i]);
    removed[i] = rag_slice_str(ids[OP_DOCS_MAX + i]);
  }
  rag_write write = {.branch = rag_slice_str(branch)};
  rag_put put = {
      .documents = documents, .document_count = o->put_count, .delete_ids = removed, .delete_count = o->remove_count};
  return rag_kb_put(kb, &write, &put, result, NULL, err);
}

static rag_status run_delete_filter(const op *o, rag_write_result *result, rag_error *err) {
  char text[128];
  rag_write write = {.branch = {NULL, 0}};
  const rag_filter *filter = NULL;
  rag_arena *arena = rag_arena_create(0);
  if (arena == NULL) abort();
  model_filter(o->thread, o->group, text);
  rag_status status = rag_filter_parse(rag_slice_str(text), arena, &filter, err);
  rag_put put = {.delete_filter = filter};
  if (status == RAG_OK) status = rag_kb_put(kb, &write, &put, result, NULL, err);
  rag_arena_destroy(arena);
  return status;
}

static rag_status run_purge(const op *o, uint64_t *out_job, rag_error *err) {
  char ids[2 * OP_DOCS_MAX][64];
  rag_slice slices[2 * OP_DOCS_MAX];
  uint32_t count = 0;
  for (uint32_t i = 0; i < o->put_count; i++) model_id(o->thread, false, o->put[i], ids[count++]);
  for (uint32_t i = 0; i < o->remove_count; i++) model_id(o->thread, true, o->remove[i], ids[count++]);
  for (uint32_t i = 0; i < count; i++) slices[i] = rag_slice_str(ids[i]);
  return rag_kb_purge(kb, slices, count, out_job, err);
}

static rag_status run(const op *o, uint64_t *out_commit, rag_error *err) {
  char name[64], other[80], metadata[64];
  rag_write_result result = {0};
  rag_ref_info info = {.commit = 0};
  rag_write write = {.branch = {NULL, 0}};
  rag_status status = RAG_INTERNAL;
  switch (o->kind) {
  case OP_PUT:
  case OP_SIDE_PUT:
    status = run_put(o, &result, err);
    break;
  case OP_METADATA:
    model_id(o->thread, false, o->put[0], name);
    model_metadata(o->thread, false, o->seq, metadata);
    status = rag_kb_set_metadata(kb, &write, rag_slice_str(name), 0, rag_slice_str(metadata), &result, err);
    break;
  case OP_BRANCH:
    model_branch(o->thread, name);
    status = rag_kb_branch_create(kb, &write, rag_slice_str(name), rag_slice_str("main"), &info, err);
    result.commit = info.commit;
    break;
  case OP_MERGE:
    model_branch(o->thread, name);
    status = rag_kb_merge(kb, &write, rag_slice_str(name), rag_slice_str("main"), RAG_MERGE_FAIL, &result, NULL, err);
    break;
  case OP_ROLLBACK:
    model_branch(o->thread, name);
    snprintf(other, sizeof other, "%s~1", name);
    write.branch = rag_slice_str(name);
    status = rag_kb_rollback(kb, &write, rag_slice_str(other), &result, err);
    break;
  case OP_TAG:
    model_tag(o->thread, o->seq, name);
    status = rag_kb_tag_create(kb, &write, rag_slice_str(name), rag_slice_str("main"), &info, err);
    result.commit = info.commit;
    break;
  case OP_DELETE_FILTER:
    status = run_delete_filter(o, &result, err);
    break;
  case OP_BRANCH_DELETE:
    model_branch(o->thread, name);
    status = rag_kb_branch_delete(kb, rag_slice_str(name), err);
    break;
  case OP_TAG_DELETE:
    model_tag(o->thread, o->tag, name);
    status = rag_kb_tag_delete(kb, rag_slice_str(name), err);
    break;
  case OP_PURGE:
    status = run_purge(o, &result.commit, err);
    break;
  case OP_GC:
    status = rag_kb_gc(kb, &(rag_gc_options){.keep_commits = GC_KEEP_COMMITS}, &result.commit, err);
    break;
  }
  *out_commit = result.commit;
  return status;
}

// The store is in ERROR and this call has seen it.
static void check_error_state(const op *o, const thread_state *state, const rag_error *why) {
  rag_error err = {0};
  uint64_t commit;
  atomic_store_explicit(&error_seen, true, memory_order_release);
  if (why->status != RAG_UNAVAILABLE) say("V in ERROR, status %s: %s", rag_status_name(why->status), why->message);
  if (strstr(why->message, "Input/output error") == NULL && strstr(why->message, "No space left") == NULL &&
      strstr(why->message, "Too many open files") == NULL)
    say("V in ERROR, the message does not name the cause: %s", why->message);
  if (run(o, &commit, &err) != RAG_UNAVAILABLE) say("V a write in ERROR was answered %s", rag_status_name(err.status));
  err = (rag_error){0};
  if (read_check && !check_thread(kb, &the_model, o->thread, state, &err)) say("V reads in ERROR: %s", err.message);
}

static void *writer(void *arg) {
  uint32_t thread = (uint32_t)(uintptr_t)arg, failures = 0;
  thread_state *state = &the_model.thread[thread];
  for (uint32_t i = 0; i < ops_max && failures < FAILURES_MAX; i++) {
    rag_error err = {0}, ignored = {0};
    char digest[2 * RAG_DIGEST_BYTES + 1];
    uint64_t commit = 0;
    op o = model_next(&the_model, thread);
    rag_digest sum = model_digest(&the_model, &o);
    bool too_late = atomic_load_explicit(&error_seen, memory_order_acquire);
    rag_status status = run(&o, &commit, &err);
    if (status == RAG_OK) {
      rag_hex(sum.bytes, RAG_DIGEST_BYTES, digest);
      say("A %u %u %llu %s", thread, o.seq, (unsigned long long)commit, digest);
      if (too_late) say("V a write that started in ERROR was acknowledged");
      model_apply(state, &o, true);
      failures = 0;
      continue;
    }
    if (rag_store_writable(store, &ignored) != RAG_OK) {
      // The call may have failed of something else, just before: what counts is what the next one says.
      if (err.status != RAG_UNAVAILABLE || strstr(err.message, "takes no writes") == NULL) err = ignored;
      check_error_state(&o, state, &err);
      say("E %u %u %s %s", thread, o.seq, rag_status_name(status), err.message);
      break;
    }
    say("F %u %u %s %s", thread, o.seq, rag_status_name(status), err.message);
    model_apply(state, &o, false);
    failures++;
  }
  return NULL;
}

static rag_status open_kb(rag_kbs *kbs, rag_error *err) {
  rag_kb_config config;
  rag_write write = {.branch = {NULL, 0}};
  rag_status status = rag_kbs_get(kbs, rag_slice_str(KB_NAME), &kb, err);
  if (status != RAG_NOT_FOUND) return status;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "%s", KB_NAME);
  snprintf(config.model, sizeof config.model, "hash-32");
  status = rag_kbs_create(kbs, &config, &write, &kb, err);
  rag_kb_config_free(&config);
  return status;
}

static void run_threads(void) {
  pthread_t threads[THREADS_MAX];
  for (uint32_t i = 0; i < the_model.threads; i++)
    if (pthread_create(&threads[i], NULL, writer, (void *)(uintptr_t)i) != 0) abort();
  for (uint32_t i = 0; i < the_model.threads; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
  rag_error err = {0};
  rag_store_options options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  rag_jobs *jobs = NULL;
  rag_kbs *kbs = NULL;
  rag_status status;

  if (argc < 4 || !model_load(&the_model, argv[2])) {
    fprintf(stderr, "usage: %s DIR MODEL_FILE OPS [nosync] [early] [buffer=BYTES] [no-read-check]\n", argv[0]);
    return 2;
  }
  ops_max = (uint32_t)strtoul(argv[3], NULL, 10);
  options.cache_bytes = 8u << 20;
  options.write_buffer_bytes = 8u << 20;
  kbs_options.object_cache_bytes = 1u << 20;
  kbs_options.seal_rows = 24; // files of the index are made, merged and removed all the time
  kbs_options.graph_rows = 200;
  for (int i = 4; i < argc; i++) {
    if (strcmp(argv[i], "nosync") == 0) options.sync = false;
    else if (strcmp(argv[i], "early") == 0) options.mutant_acknowledge_early = true;
    else if (strcmp(argv[i], "no-read-check") == 0) read_check = false;
    else if (strncmp(argv[i], "buffer=", 7) == 0) options.write_buffer_bytes = strtoull(argv[i] + 7, NULL, 10);
  }
  rag_log_setup(2, RAG_LOG_INFO, RAG_LOG_TEXT); // the parent counts what is sealed

  RAG_TRY_OUT(rag_store_open(argv[1], &options, &store, &err));
  RAG_TRY_OUT(rag_jobs_open(store, 1, &jobs, &err));
  RAG_TRY_OUT(rag_kbs_open(store, jobs, &kbs_options, &kbs, &err));
  RAG_TRY_OUT(rag_jobs_start(jobs, &err));
  RAG_TRY_OUT(open_kb(kbs, &err));
  say("K");
  run_threads();
out:
  if (status != RAG_OK) say("O %s %s", rag_status_name(status), err.message);
  rag_ref_drop(kb);
  if (jobs != NULL) rag_jobs_close(jobs);
  if (kbs != NULL) rag_kbs_close(kbs);
  rag_store_close(store);
  say("D");
  return 0;
}
