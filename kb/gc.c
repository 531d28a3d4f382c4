// Retention: the job that drops commits which nothing keeps and rows which no stored commit needs.
//
//   COMMITS  make kept commits independent, drop the others     gc_plan.c, gc_commits.c
//   LOGS     remove log rows that point at dropped commits      gc_commits.c
//   ROWS     remove revisions, contents, chunks, vectors        gc_rows.c
//   DONE     sweep idempotency keys, write the result
//
// Every phase may be repeated: a job that stopped in COMMITS or LOGS begins that phase again with what is stored now, and
// ROWS goes on after the last document. Reads go on all the time and writers wait for one bounded batch at most.
//
// Cursor: version u8, phase u8, then varints: limit_revision, seven counts, done; then total and the document prefix.
// Params: kb, keep_commits, keep_days, u32le each. Result: JSON with what was dropped and removed.
#include <inttypes.h>
#include <time.h>

#include "kb/rewrite_internal.h"
#include "kb/segments_internal.h"

#define CURSOR_VERSION 1u
#define TURN_NS 5000000 // between two looks at whether the gc before has ended

static void encode_cursor(const rag_kb__gc_run_state *run, rag_buf *out) {
  rag_buf_append_u8(out, CURSOR_VERSION);
  rag_buf_append_u8(out, (uint8_t)run->phase);
  rag_buf_append_varint(out, run->limit_revision);
  rag_buf_append_varint(out, run->commits);
  rag_buf_append_varint(out, run->revisions);
  rag_buf_append_varint(out, run->contents);
  rag_buf_append_varint(out, run->chunks);
  rag_buf_append_varint(out, run->text_bytes);
  rag_buf_append_varint(out, run->vector_bytes);
  rag_buf_append_varint(out, run->done);
  rag_buf_append_varint(out, run->total);
  rag_buf_append_bytes(out, rag_key_slice(&run->at));
}

static rag_status decode_cursor(rag_slice cursor, rag_kb__gc_run_state *run, rag_error *err) {
  rag_reader r = rag_reader_of(cursor);
  uint8_t version = rag_read_u8(&r), phase = rag_read_u8(&r);
  run->limit_revision = (uint32_t)rag_read_varint(&r);
  run->commits = rag_read_varint(&r);
  run->revisions = rag_read_varint(&r);
  run->contents = rag_read_varint(&r);
  run->chunks = rag_read_varint(&r);
  run->text_bytes = rag_read_varint(&r);
  run->vector_bytes = rag_read_varint(&r);
  run->done = rag_read_varint(&r);
  run->total = rag_read_varint(&r);
  rag_slice at = rag_read_bytes(&r);
  if (r.bad || version != CURSOR_VERSION || phase > RAG_KB__GC_DONE || at.size > sizeof run->at.bytes)
    return rag_fail(err, RAG_DATA_LOSS, "the cursor of a gc cannot be decoded; run gc again");
  run->phase = (rag_kb__gc_phase)phase;
  rag_key_init(&run->at);
  rag_key_raw(&run->at, at.data, at.size);
  return RAG_OK;
}

rag_status rag_kb__gc_save(rag_kb__gc_run_state *run, rag_txn *txn, rag_error *err) {
  rag_buf cursor = {0};
  encode_cursor(run, &cursor);
  rag_status status = rag_buf_check(&cursor, err);
  if (status == RAG_OK) rag_job_checkpoint_txn(run->job, txn, rag_buf_slice(&cursor), run->done, run->total, "rows");
  rag_buf_free(&cursor);
  return status;
}

rag_status rag_kb__gc_go_on(rag_kb__gc_run_state *run, rag_error *err) {
  return rag_job_should_stop(run->job) ? rag_fail(err, RAG_ABORTED, "the job was asked to stop") : RAG_OK;
}

static rag_status enter(rag_kb__gc_run_state *run, rag_kb__gc_phase phase, rag_error *err) {
  rag_buf cursor = {0};
  run->phase = phase;
  encode_cursor(run, &cursor);
  rag_status status = rag_buf_check(&cursor, err);
  if (status == RAG_OK)
    status = rag_job_checkpoint(run->job, rag_buf_slice(&cursor), run->done, run->total, "rows", err);
  rag_buf_free(&cursor);
  return status;
}

static rag_status write_result(const rag_kb__gc_run_state *run, rag_error *err) {
  rag_buf json = {0};
  rag_buf_printf(&json,
                 "{\"commits_dropped\":%" PRIu64 ",\"revisions_removed\":%" PRIu64 ",\"contents_removed\":%" PRIu64
                 ",\"chunks_removed\":%" PRIu64 ",\"text_bytes_removed\":%" PRIu64 ",\"vector_bytes_removed\":%" PRIu64
                 "}",
                 run->commits, run->revisions, run->contents, run->chunks, run->text_bytes, run->vector_bytes);
  rag_buf_append_char(&json, '\0');
  rag_status status = rag_buf_check(&json, err);
  if (status == RAG_OK) status = rag_job_set_result(run->job, json.data, err);
  rag_buf_free(&json);
  return status;
}

static rag_status collect(rag_kb__gc_run_state *run, rag_error *err) {
  if (run->phase == RAG_KB__GC_COMMITS) {
    RAG_TRY(rag_kb__gc_commits(run, err));
    RAG_TRY(enter(run, RAG_KB__GC_LOGS, err));
  }
  if (run->phase == RAG_KB__GC_LOGS) {
    RAG_TRY(rag_kb__gc_logs(run, err));
    RAG_TRY(enter(run, RAG_KB__GC_ROWS, err));
  }
  if (run->phase == RAG_KB__GC_ROWS) {
    RAG_TRY(rag_kb__gc_rows(run, err));
    RAG_TRY(enter(run, RAG_KB__GC_DONE, err));
  }
  RAG_TRY(rag_kb__idempotency_sweep(run->kb->store, err));
  return write_result(run, err);
}

rag_status rag_kb__gc_run(void *ctx, rag_job *job, rag_error *err) {
  rag_kbs *kbs = ctx;
  rag_reader r = rag_reader_of(rag_job_params(job));
  rag_kb__gc_run_state run = {.job = job};
  uint32_t id = rag_read_u32le(&r);
  run.options.keep_commits = rag_read_u32le(&r);
  run.options.keep_days = rag_read_u32le(&r);
  if (r.bad) return rag_fail(err, RAG_DATA_LOSS, "the job's parameters cannot be decoded");
  run.kb = rag_kbs__find(kbs, id);
  if (run.kb == NULL) return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", rag_job_subject(job));
  rag_status status = RAG_OK;
  // One at a time: the second one of a kb, submitted again after a restart, say, waits for the first.
  while (atomic_exchange(&run.kb->collecting, true)) {
    if (rag_job_should_stop(job)) {
      rag_ref_drop(run.kb);
      return rag_fail(err, RAG_ABORTED, "the job was asked to stop");
    }
    nanosleep(&(struct timespec){.tv_nsec = TURN_NS}, NULL);
  }
  if (rag_job_cursor(job).size > 0) {
    status = decode_cursor(rag_job_cursor(job), &run, err);
  } else {
    rag_kb__view *view = rag_cell_get(&run.kb->view);
    run.limit_revision = view->state.next_revision;
    rag_ref_drop(view);
    status = enter(&run, RAG_KB__GC_COMMITS, err);
  }
  if (status == RAG_OK) status = collect(&run, err);
  atomic_store(&run.kb->collecting, false);
  if (status == RAG_OK) rag_kb__segments_wake(run.kb, true);
  rag_ref_drop(run.kb);
  return status;
}

rag_status rag_kb_gc(rag_kb *kb, const rag_gc_options *options, uint64_t *out_job, rag_error *err) {
  if (options->keep_commits == 0 && options->keep_days == 0)
    return rag_fail_field(
        err, RAG_INVALID_ARGUMENT, "keep_commits",
        "give keep_commits (of each branch, newest first) or keep_days, at least 1: whichever keeps more "
        "counts");
  if (atomic_load_explicit(&kb->deleted, memory_order_relaxed))
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", kb->name);
  rag_buf params = {0};
  rag_buf_append_u32le(&params, kb->id);
  rag_buf_append_u32le(&params, options->keep_commits);
  rag_buf_append_u32le(&params, options->keep_days);
  rag_status status = rag_buf_check(&params, err);
  if (status == RAG_OK) status = rag_jobs_submit(kb->kbs->jobs, "gc", kb->name, rag_buf_slice(&params), out_job, err);
  rag_buf_free(&params);
  return status;
}
