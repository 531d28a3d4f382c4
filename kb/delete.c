// The job that removes the rows of a deleted kb. Its name and record went with the commit that deleted it, so nothing
// can find these rows; they are removed by ranges, one column family a step, and every step may be repeated.
//
// Embedding-cache rows stay: they are shared between kbs by text, and one whose owner is gone reads as a miss until it
// is overwritten (put_prepare.c).
#include "kb/segments_internal.h"
#include "kb/transfer_internal.h"

static rag_status delete_prefix(rag_store *store, rag_cf cf, const rag_key *prefix, rag_error *err) {
  rag_key upper;
  if (!rag_key_successor(prefix, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's rows");
  return rag_store_delete_range(store, cf, rag_key_slice(prefix), rag_key_slice(&upper), err);
}

static const rag_cf families[] = {RAG_CF_DOCUMENT, RAG_CF_REVISION, RAG_CF_CONTENT, RAG_CF_CHUNK,
                                  RAG_CF_VECTOR,   RAG_CF_COMMIT,   RAG_CF_BITMAP};
#define STEPS (RAG_COUNT_OF(families) + 1u)

static rag_status delete_step(rag_store *store, uint32_t kb, unsigned step, rag_error *err) {
  static const char meta_tags[] = "sbtLIG";
  rag_key prefix;
  rag_key_init(&prefix);
  if (step < RAG_COUNT_OF(families)) {
    rag_key_u32(&prefix, kb);
    return delete_prefix(store, families[step], &prefix, err);
  }
  for (const char *tag = meta_tags; *tag != '\0'; tag++) {
    rag_key_init(&prefix);
    rag_key_u8(&prefix, (uint8_t)*tag);
    rag_key_u32(&prefix, kb);
    RAG_TRY(delete_prefix(store, RAG_CF_META, &prefix, err));
  }
  return rag_kb__segments_delete(store, kb, err);
}

rag_status rag_kb__delete_rows(rag_store *store, uint32_t kb, rag_error *err) {
  for (unsigned step = 0; step < STEPS; step++) RAG_TRY(delete_step(store, kb, step, err));
  return RAG_OK;
}

rag_status rag_kb__delete_run(void *ctx, rag_job *job, rag_error *err) {
  rag_kbs *kbs = ctx;
  rag_reader r = rag_reader_of(rag_job_params(job));
  uint32_t kb = rag_read_u32le(&r);
  if (r.bad || kb == 0) return rag_fail(err, RAG_DATA_LOSS, "the job's parameters cannot be decoded");
  rag_reader cursor = rag_reader_of(rag_job_cursor(job));
  uint8_t step = rag_reader_left(&cursor) > 0 ? rag_read_u8(&cursor) : 0;
  for (; step < STEPS; step++) {
    RAG_TRY(delete_step(kbs->store, kb, step, err));
    uint8_t next = (uint8_t)(step + 1);
    RAG_TRY(rag_job_checkpoint(job, rag_slice_of(&next, 1), next, STEPS, "column families", err));
  }
  return RAG_OK;
}
