// Requests that rewrite history or remove rows (gc, purge), and the removal of one content's rows.
//
// Invariants
//  1. Which rows go is decided in apply, against what the group has made of the kb so far; what was read before apply
//     is used where it cannot change (a content's text) or is checked again.
//  2. Every such request publishes a new view, so that a put that looked rows up before looks again.
#include "kb/rewrite_internal.h"

static rag_status rewrite_apply(void *ctx, rag_txn *txn, rag_error *err) {
  rag_kb__rewrite *rewrite = ctx;
  rag_kb *kb = rewrite->kb;
  if (atomic_load_explicit(&kb->deleted, memory_order_relaxed))
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", kb->name);
  RAG_TRY(rag_kb__view_copy(kb->pending, &rewrite->view, err));
  rag_status status = rewrite->plan(rewrite, txn, err);
  // A write that failed is known only now, and then nobody calls publish or abandon: nothing below may have happened.
  if (status == RAG_OK) status = rag_txn_check(txn, err);
  if (status != RAG_OK) {
    rag_ref_drop(rewrite->view);
    rewrite->view = NULL;
    return status;
  }
  rag_ref_drop(kb->pending);
  kb->pending = rag_ref_take(rewrite->view);
  if (rewrite->versions) rag_kb__history_close(kb, rewrite->objects);
  return RAG_OK;
}

static void rewrite_publish(void *ctx) {
  rag_kb__rewrite *rewrite = ctx;
  rag_cell_set(&rewrite->kb->view, rewrite->view);
  rewrite->view = NULL;
  if (rewrite->versions) rag_kb__history_open(rewrite->kb);
}

static void rewrite_abandon(void *ctx) {
  rag_kb__rewrite *rewrite = ctx;
  rag_ref_drop(rewrite->view);
  rewrite->view = NULL;
  rag_ref_drop(rewrite->kb->pending);
  rewrite->kb->pending = rag_cell_get(&rewrite->kb->view);
  if (rewrite->versions) rag_kb__history_open(rewrite->kb);
}

rag_status rag_kb__rewrite_run(rag_kb__rewrite *rewrite, rag_error *err) {
  rag_commit_request request = {.apply = rewrite_apply,
                                .publish = rewrite_publish,
                                .abandon = rewrite_abandon,
                                .ctx = rewrite,
                                .room = RAG_STORE_ROOM_MADE}; // gc and purge
  return rag_store_commit(rewrite->kb->store, &request, err);
}

// The loader's lock keeps a loader out that opened its scan before the rows were deleted and would add them after.
rag_status rag_kb__forget_rows(rag_kb *kb, const rag_bitmap *chunks, const rag_bitmap *revisions, rag_error *err) {
  rag_status status = RAG_OK;
  pthread_mutex_lock(&kb->load_lock);
  pthread_mutex_lock(&kb->index_lock);
  if (chunks != NULL) status = rag_index_remove(kb->index, chunks, err);
  if (status == RAG_OK && chunks != NULL) status = rag_lexical_remove(kb->lexical, chunks, err);
  if (status == RAG_OK && revisions != NULL) status = rag_fields_remove(kb->fields, revisions, err);
  if (status == RAG_OK) status = rag_kb__tables_forget(&kb->tables, chunks, revisions, err);
  pthread_mutex_unlock(&kb->index_lock);
  pthread_mutex_unlock(&kb->load_lock);
  return status;
}

// ---------------------------------------------------------------------------------------------- one content

static rag_status read_digests(rag_kb *kb, rag_txn *txn, rag_kb__content_rows *rows, const rag_kb__content *content,
                               rag_error *err) {
  rows->digests = rag_calloc((size_t)rows->chunk_count + 1, sizeof *rows->digests);
  if (rows->digests == NULL) return rag_fail_no_memory(err, rows->chunk_count * sizeof *rows->digests);
  for (uint32_t i = 0; i < rows->chunk_count; i++) {
    rag_key key;
    rag_value value = {0};
    rag_kb__chunk chunk;
    rag_kb__key_u32(&key, kb->id, rows->first_chunk + i);
    rag_status status = rag_kb__get(kb, txn, RAG_CF_CHUNK, rag_key_slice(&key), &value, err);
    bool decoded = status == RAG_OK && rag_kb__decode_chunk(value.slice, &chunk) && chunk.end <= content->body.size;
    if (decoded) rows->digests[i] = rag_digest_of(content->body.data + chunk.start, chunk.end - chunk.start);
    rag_value_free(&value);
    if (status == RAG_NOT_FOUND || (status == RAG_OK && !decoded))
      return rag_kb__corrupt(err, RAG_CF_CHUNK, rag_key_slice(&key));
    RAG_TRY(status);
  }
  return RAG_OK;
}

rag_status rag_kb__content_rows_read(rag_kb *kb, rag_txn *txn, rag_kb__content_rows *rows, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_kb__content content;
  rag_kb__key_u32(&key, kb->id, rows->content);
  rag_status status = rag_kb__get(kb, txn, RAG_CF_CONTENT, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND) return RAG_OK;
  RAG_TRY(status);
  if (!rag_kb__decode_content(value.slice, &content)) {
    status = rag_kb__corrupt(err, RAG_CF_CONTENT, rag_key_slice(&key));
  } else {
    rows->text_bytes = content.body.size;
    // A chunk of a text alone has a vector; a client's chunk may have none, and is counted as if.
    rows->vector_bytes = rows->chunk_count * (uint64_t)rag_kb__vector_bytes(kb->datatype, kb->dimension);
    if (kb->embedder != NULL) status = read_digests(kb, txn, rows, &content, err);
  }
  rag_value_free(&value);
  return status;
}

static rag_status delete_cached(rag_kb *kb, rag_txn *txn, const rag_digest *digest, uint32_t chunk, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_kb__key_cache(&key, kb->space, digest);
  rag_status status = rag_txn_get(txn, RAG_CF_CACHE, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND) return RAG_OK;
  RAG_TRY(status);
  rag_reader r = rag_reader_of(value.slice);
  uint32_t owner = rag_read_u32le(&r), at = rag_read_u32le(&r);
  if (r.bad) status = rag_kb__corrupt(err, RAG_CF_CACHE, rag_key_slice(&key));
  else if (owner == kb->id && at == chunk) rag_txn_delete(txn, RAG_CF_CACHE, rag_key_slice(&key));
  rag_value_free(&value);
  return status;
}

rag_status rag_kb__content_rows_delete(rag_kb *kb, rag_txn *txn, const rag_kb__content_rows *rows, rag_error *err) {
  rag_key key;
  rag_kb__key_u32(&key, kb->id, rows->content);
  rag_txn_delete(txn, RAG_CF_CONTENT, rag_key_slice(&key));
  for (uint32_t i = 0; i < rows->chunk_count; i++) {
    uint32_t chunk = rows->first_chunk + i;
    rag_kb__key_u32(&key, kb->id, chunk);
    rag_txn_delete(txn, RAG_CF_CHUNK, rag_key_slice(&key));
    rag_kb__key_vector(&key, kb->id, kb->space, chunk);
    rag_txn_delete(txn, RAG_CF_VECTOR, rag_key_slice(&key));
    if (rows->digests != NULL) RAG_TRY(delete_cached(kb, txn, &rows->digests[i], chunk, err));
  }
  return RAG_OK;
}

void rag_kb__content_rows_free(rag_kb__content_rows *rows) {
  rag_free(rows->digests);
  *rows = (rag_kb__content_rows){0};
}
