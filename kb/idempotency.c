// Idempotency keys: the answer of a write is stored in the write's own batch, so that a retry after a lost answer gets
// the first answer and writes nothing. Kept for RAG_IDEMPOTENCY_TTL_US; expired rows count as absent and are swept at open
// and by gc.
//
// Row: META 'I' kb bytes(key) -> time u64le, request digest, result (codec.c).
#include "kb/kb_internal.h"

static bool decode_head(rag_reader *r, int64_t *time_us, rag_digest *digest) {
  *time_us = (int64_t)rag_read_u64le(r);
  rag_slice raw = rag_read_raw(r, RAG_DIGEST_BYTES);
  if (r->bad) return false;
  memcpy(digest->bytes, raw.data, RAG_DIGEST_BYTES);
  return true;
}

rag_status rag_kb__idempotency_find(rag_store *store, rag_txn *txn, uint32_t kb, const rag_write *write, bool *found,
                                    rag_write_result *result, rag_error *err) {
  *found = false;
  if (write->idempotency_key.size == 0) return RAG_OK;
  rag_key key;
  rag_value value = {0};
  rag_kb__key_name(&key, 'I', kb, write->idempotency_key);
  rag_status status = txn ? rag_txn_get(txn, RAG_CF_META, rag_key_slice(&key), &value, err)
                          : rag_store_get(store, NULL, RAG_CF_META, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND) return RAG_OK;
  RAG_TRY(status);
  rag_reader r = rag_reader_of(value.slice);
  int64_t time_us;
  rag_digest digest;
  rag_write_result stored;
  if (!decode_head(&r, &time_us, &digest) || !rag_kb__decode_result(&r, &stored)) {
    status = rag_kb__corrupt(err, RAG_CF_META, rag_key_slice(&key));
  } else if (rag_clock_now_us() - time_us < RAG_IDEMPOTENCY_TTL_US) {
    if (rag_digest_equal(&digest, &write->request_digest)) {
      *found = true;
      *result = stored;
    } else {
      status = rag_fail_field(err, RAG_ALREADY_EXISTS, "idempotency_key",
                              "this Idempotency-Key was used with another request within 24 hours; use a new key for a "
                              "new request");
    }
  }
  rag_value_free(&value);
  return status;
}

void rag_kb__idempotency_put(rag_txn *txn, uint32_t kb, const rag_write *write, const rag_write_result *result) {
  if (write->idempotency_key.size == 0) return;
  rag_key key;
  rag_buf value = {0};
  rag_kb__key_name(&key, 'I', kb, write->idempotency_key);
  rag_buf_append_u64le(&value, (uint64_t)rag_clock_now_us());
  rag_buf_append(&value, write->request_digest.bytes, RAG_DIGEST_BYTES);
  rag_kb__encode_result(result, &value);
  // Out of memory here must not lose the key silently: an empty value fails to decode and is reported, not replayed.
  rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), value.failed ? rag_slice_of("", 0) : rag_buf_slice(&value));
  rag_buf_free(&value);
}

typedef struct sweep {
  rag_buf keys;
} sweep;

static rag_status sweep_apply(void *ctx, rag_txn *txn, rag_error *err) {
  RAG_UNUSED(err);
  sweep *s = ctx;
  rag_reader r = rag_reader_of(rag_buf_slice(&s->keys));
  while (rag_reader_left(&r) > 0) rag_txn_delete(txn, RAG_CF_META, rag_read_bytes(&r));
  return RAG_OK;
}

rag_status rag_kb__idempotency_sweep(rag_store *store, rag_error *err) {
  sweep s = {0};
  rag_store_iter *it = NULL;
  RAG_TRY(rag_store_iter_open(store, NULL, RAG_CF_META, rag_slice_of("I", 1), rag_slice_of("J", 1), false, &it, err));
  int64_t now = rag_clock_now_us();
  while (rag_store_iter_next(it)) {
    rag_reader r = rag_reader_of(rag_store_iter_value(it));
    int64_t time_us;
    rag_digest digest;
    if (decode_head(&r, &time_us, &digest) && now - time_us >= RAG_IDEMPOTENCY_TTL_US)
      rag_buf_append_bytes(&s.keys, rag_store_iter_key(it));
  }
  rag_status status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  if (status == RAG_OK) status = rag_buf_check(&s.keys, err);
  if (status == RAG_OK && s.keys.size > 0)
    status = rag_store_commit(store, &(rag_commit_request){.apply = sweep_apply, .ctx = &s}, err);
  rag_buf_free(&s.keys);
  return status;
}
