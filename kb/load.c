// Reading a kb's vectors and tables into memory, once: at open (server) or at the first search (command line).
//
// Rows numbered from load_limit on are added by the commits that make them; the loader adds those below. So the two never
// meet, and a search waits only for the loader.
#include "kb/kb_internal.h"

#define LOAD_BATCH 4096u

static rag_status load_tables(rag_kb *kb, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_status status = RAG_OK;
  rag_kb__key_u32(&lower, kb->id, 0);
  rag_kb__key_u32(&upper, kb->id, kb->load_limit);
  RAG_TRY(rag_store_iter_open(kb->store, NULL, RAG_CF_CHUNK, rag_key_slice(&lower), rag_key_slice(&upper), false, &it,
                              err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it);
    rag_kb__chunk chunk;
    if (key.size != 8 || !rag_kb__decode_chunk(rag_store_iter_value(it), &chunk)) {
      status = rag_kb__corrupt(err, RAG_CF_CHUNK, key);
      goto out;
    }
    rag_reader r = rag_reader_of(rag_slice_of(key.data + 4, 4));
    uint32_t ordinal = rag_read_u32be(&r);
    pthread_mutex_lock(&kb->index_lock);
    status =
        rag_kb__tables_set_chunk(&kb->tables, ordinal, (rag_kb__chunk_row){chunk.content, chunk.start, chunk.end}, err);
    pthread_mutex_unlock(&kb->index_lock);
    if (status != RAG_OK) goto out;
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

static rag_status load_revisions(rag_kb *kb, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_status status = RAG_OK;
  rag_key_init(&lower);
  rag_key_u32(&lower, kb->id);
  rag_key_init(&upper);
  rag_key_u32(&upper, kb->id + 1);
  RAG_TRY(rag_store_iter_open(kb->store, NULL, RAG_CF_DOCUMENT, rag_key_slice(&lower), rag_key_slice(&upper), false,
                              &it, err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it);
    rag_kb__document_entry entry;
    uint32_t revision;
    if (!rag_kb__key_document_revision(key, &revision) || !rag_kb__decode_document(rag_store_iter_value(it), &entry)) {
      status = rag_kb__corrupt(err, RAG_CF_DOCUMENT, key);
      goto out;
    }
    pthread_mutex_lock(&kb->index_lock);
    status = rag_kb__tables_set_revision(&kb->tables, entry.content, revision, err);
    pthread_mutex_unlock(&kb->index_lock);
    if (status != RAG_OK) goto out;
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

static rag_status load_vectors(rag_kb *kb, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  size_t row_bytes = kb->dimension * sizeof(float);
  uint32_t count = 0;
  uint32_t *ordinals = rag_calloc(LOAD_BATCH, sizeof *ordinals);
  float *rows = rag_realloc_array(NULL, LOAD_BATCH, row_bytes);
  rag_status status = RAG_OK;
  if (ordinals == NULL || rows == NULL) {
    status = rag_fail_no_memory(err, LOAD_BATCH * row_bytes);
    goto out;
  }
  rag_kb__key_vector(&lower, kb->id, kb->space, kb->load_next); // after a failure, not from the start
  rag_kb__key_vector(&upper, kb->id, kb->space, kb->load_limit);
  RAG_TRY_OUT(rag_store_iter_open(kb->store, NULL, RAG_CF_VECTOR, rag_key_slice(&lower), rag_key_slice(&upper), false,
                                  &it, err));
  for (bool more = true; more;) {
    more = rag_store_iter_next(it);
    if (more) {
      rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
      if (key.size != 12 || value.size != row_bytes) {
        status = rag_kb__corrupt(err, RAG_CF_VECTOR, key);
        goto out;
      }
      rag_reader r = rag_reader_of(rag_slice_of(key.data + 8, 4));
      ordinals[count] = rag_read_u32be(&r);
      memcpy(rows + (size_t)count * kb->dimension, value.data, row_bytes);
      count++;
    }
    if (count == LOAD_BATCH || (!more && count > 0)) {
      pthread_mutex_lock(&kb->index_lock);
      status = rag_index_append(kb->index, ordinals, count, rows, err);
      pthread_mutex_unlock(&kb->index_lock);
      if (status != RAG_OK) goto out;
      kb->load_next = ordinals[count - 1] + 1;
      count = 0;
    }
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  rag_free(ordinals);
  rag_free(rows);
  return status;
}

rag_status rag_kb__load(rag_kb *kb, rag_error *err) {
  if (atomic_load_explicit(&kb->loaded, memory_order_acquire)) return RAG_OK;
  rag_status status = RAG_OK;
  pthread_mutex_lock(&kb->load_lock); // held over store reads on purpose: whoever searches needs them all done
  if (!atomic_load_explicit(&kb->loaded, memory_order_acquire)) {
    uint64_t start_ns = rag_clock_monotonic_ns();
    if (status == RAG_OK && !kb->tables_loaded) status = load_tables(kb, err);
    if (status == RAG_OK && !kb->tables_loaded) status = load_revisions(kb, err);
    if (status == RAG_OK) kb->tables_loaded = true;
    if (status == RAG_OK) status = load_vectors(kb, err);
    if (status == RAG_OK) {
      atomic_store_explicit(&kb->loaded, true, memory_order_release);
      rag_index_view *view = rag_index_pin(kb->index);
      uint64_t rows = view ? rag_index_view_rows(view) : 0;
      rag_ref_drop(view);
      if (rows > 0)
        rag_log(RAG_LOG_INFO, "kb.loaded", "kb=%s rows=%llu ms=%llu", kb->name, (unsigned long long)rows,
                (unsigned long long)((rag_clock_monotonic_ns() - start_ns) / 1000000));
    }
  }
  pthread_mutex_unlock(&kb->load_lock);
  return status;
}

rag_status rag_kb_load(rag_kb *kb, rag_error *err) {
  return rag_kb__load(kb, err);
}
