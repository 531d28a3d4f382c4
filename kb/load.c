// Reading a kb into memory, once: at open (server) or at the first search (command line). Vectors, tables, the field
// indexes of the metadata; and the texts, taken apart into the words of the lexical index.
//
// Rows numbered from load_limit (revisions: load_revisions) on are added by the commits that make them; the loader adds
// those below. So the two never meet, and a search waits only for the loader. Each part remembers how far it came, so
// that a load that failed goes on there.
#include "kb/filters/filters_internal.h"
#include "kb/load_internal.h"
#include "kb/segments_internal.h"

#define LOAD_BATCH 4096u

rag_status rag_kb__load_scan(rag_kb *kb, rag_cf cf, uint32_t from, uint32_t to, rag_store_iter **out, rag_error *err) {
  rag_key lower, upper;
  rag_kb__key_u32(&lower, kb->id, from);
  rag_kb__key_u32(&upper, kb->id, to);
  return rag_store_iter_open(kb->store, NULL, cf, rag_key_slice(&lower), rag_key_slice(&upper), false, out, err);
}

rag_status rag_kb__load_number(rag_store_iter *it, rag_cf cf, uint32_t *out, rag_error *err) {
  rag_slice key = rag_store_iter_key(it);
  if (key.size != 8) return rag_kb__corrupt(err, cf, key);
  rag_reader r = rag_reader_of(rag_slice_of(key.data + 4, 4));
  *out = rag_read_u32be(&r);
  return RAG_OK;
}

rag_status rag_kb__load_chunk(rag_store_iter *it, uint32_t *ordinal, rag_kb__chunk *out, rag_error *err) {
  RAG_TRY(rag_kb__load_number(it, RAG_CF_CHUNK, ordinal, err));
  if (!rag_kb__decode_chunk(rag_store_iter_value(it), out))
    return rag_kb__corrupt(err, RAG_CF_CHUNK, rag_store_iter_key(it));
  return RAG_OK;
}

static rag_status load_chunks(rag_kb *kb, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_status status = RAG_OK;
  rag_bitmap_edit_destroy(kb->chunks_seen);
  kb->chunks_seen = rag_bitmap_edit_create(NULL);
  if (kb->chunks_seen == NULL) return rag_fail_no_memory(err, 0);
  RAG_TRY(rag_kb__load_scan(kb, RAG_CF_CHUNK, 0, kb->load_limit, &it, err));
  while (rag_store_iter_next(it)) {
    rag_kb__chunk chunk;
    uint32_t ordinal;
    RAG_TRY_OUT(rag_kb__load_chunk(it, &ordinal, &chunk, err));
    pthread_mutex_lock(&kb->index_lock);
    status =
        rag_kb__tables_set_chunk(&kb->tables, ordinal, (rag_kb__chunk_row){chunk.content, chunk.start, chunk.end}, err);
    pthread_mutex_unlock(&kb->index_lock);
    if (status != RAG_OK) goto out;
    if (rag_bitmap_edit_add(kb->chunks_seen, ordinal) != RAG_OK) RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  rag_bitmap_edit *seen = kb->chunks_seen;
  kb->chunks_seen = NULL;
  if (rag_bitmap_edit_finish(seen, &kb->chunks_exist) != RAG_OK) status = rag_fail_no_memory(err, 0);
out:
  rag_store_iter_close(it);
  return status;
}

// ---------------------------------------------------------------------------------------------- revisions, fields

static rag_status load_revisions(rag_kb *kb, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_kb__extractor *extractor = NULL;
  rag_status status = RAG_OK;
  uint32_t count = 0, revision = 0;
  RAG_TRY_OUT(rag_kb__extractor_create(kb->fields, &extractor, err));
  RAG_TRY_OUT(rag_kb__load_scan(kb, RAG_CF_REVISION, kb->revisions_next, kb->load_revisions, &it, err));
  for (bool more = true; more;) {
    more = rag_store_iter_next(it);
    if (more) {
      rag_kb__revision record;
      RAG_TRY_OUT(rag_kb__load_number(it, RAG_CF_REVISION, &revision, err));
      if (!rag_kb__decode_revision(rag_store_iter_value(it), &record)) {
        status = rag_kb__corrupt(err, RAG_CF_REVISION, rag_store_iter_key(it));
        goto out;
      }
      RAG_TRY_OUT(rag_kb__extract(extractor, revision, record.metadata, err));
      pthread_mutex_lock(&kb->index_lock);
      status = rag_kb__tables_set_revision(
          &kb->tables, revision, (rag_kb__revision_row){record.content, record.first_chunk, record.chunk_count}, err);
      pthread_mutex_unlock(&kb->index_lock);
      if (status != RAG_OK) goto out;
      count++;
    }
    // Whole blocks, so that each is written once; a kb's last one in pieces is rare.
    bool block_ends = more && revision % RAG_BITMAP_BLOCK_BITS == RAG_BITMAP_BLOCK_BITS - 1;
    if (block_ends || (!more && count > 0)) {
      pthread_mutex_lock(&kb->index_lock);
      status = rag_fields_append(kb->fields, rag_kb__extract_batch(extractor), err);
      pthread_mutex_unlock(&kb->index_lock);
      if (status != RAG_OK) goto out;
      kb->revisions_next = revision + 1;
      count = 0;
    }
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  rag_kb__extractor_destroy(extractor);
  return status;
}

// ---------------------------------------------------------------------------------------------- vectors

#define SKIP_ROWS 64u // rows to be skipped that are worth another seek

// The first row from kb->load_next on that no segment has; kb->load_limit: none.
static uint32_t first_missing(rag_kb *kb, const rag_bitmap *missing) {
  uint32_t first;
  return rag_bitmap_next(missing, kb->load_next, &first) ? RAG_MIN(first, kb->load_limit) : kb->load_limit;
}

static rag_status open_vectors(rag_kb *kb, rag_store_iter **it, rag_error *err) {
  rag_key lower, upper;
  rag_store_iter_close(*it);
  *it = NULL;
  rag_kb__key_vector(&lower, kb->id, kb->space, kb->load_next);
  rag_kb__key_vector(&upper, kb->id, kb->space, kb->load_limit);
  return rag_store_iter_open(kb->store, NULL, RAG_CF_VECTOR, rag_key_slice(&lower), rag_key_slice(&upper), false, it,
                             err);
}

static rag_status load_vectors(rag_kb *kb, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_bitmap *missing = NULL;
  size_t row_bytes = kb->dimension * sizeof(float);
  uint32_t count = 0;
  uint32_t *ordinals = rag_calloc(LOAD_BATCH, sizeof *ordinals);
  float *rows = rag_realloc_array(NULL, LOAD_BATCH, row_bytes);
  rag_status status = RAG_OK;
  if (ordinals == NULL || rows == NULL) {
    status = rag_fail_no_memory(err, LOAD_BATCH * row_bytes);
    goto out;
  }
  rag_index_view *sealed = rag_index_pin(kb->index);
  status = rag_bitmap_andnot(kb->chunks_exist, rag_index_view_present(sealed), &missing);
  rag_ref_drop(sealed);
  if (status != RAG_OK) RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  kb->load_next = first_missing(kb, missing);
  RAG_TRY_OUT(open_vectors(kb, &it, err));
  for (bool more = true; more;) {
    more = rag_store_iter_next(it);
    if (more) {
      rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
      float *row = rows + (size_t)count * kb->dimension;
      if (key.size != 12 || !rag_kb__decode_vector(kb->datatype, value, kb->dimension, row)) {
        status = rag_kb__corrupt(err, RAG_CF_VECTOR, key);
        goto out;
      }
      rag_reader r = rag_reader_of(rag_slice_of(key.data + 8, 4));
      ordinals[count] = rag_read_u32be(&r);
      if (!rag_bitmap_has(missing, ordinals[count])) { // sealed
        uint32_t at = ordinals[count], load_next = kb->load_next;
        kb->load_next = at;
        kb->load_next = first_missing(kb, missing);
        if (kb->load_next > at + SKIP_ROWS) RAG_TRY_OUT(open_vectors(kb, &it, err));
        kb->load_next = load_next;
        continue;
      }
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
  rag_ref_drop(missing);
  rag_free(ordinals);
  rag_free(rows);
  return status;
}

// ---------------------------------------------------------------------------------------------- all of it

static uint64_t ms_since(uint64_t start_ns) {
  return (rag_clock_monotonic_ns() - start_ns) / 1000000;
}

static rag_status load(rag_kb *kb, rag_error *err) {
  uint64_t start_ns = rag_clock_monotonic_ns(), vectors_ms, words_ms, rows_ms;
  if (!kb->chunks_loaded) RAG_TRY(load_chunks(kb, err));
  kb->chunks_loaded = true;
  RAG_TRY(load_revisions(kb, err));
  rows_ms = ms_since(start_ns);
  RAG_TRY(rag_kb__segments_load(kb, kb->chunks_exist, err));
  RAG_TRY(load_vectors(kb, err));
  vectors_ms = ms_since(start_ns) - rows_ms;
  RAG_TRY(rag_kb__load_words(kb, err));
  words_ms = ms_since(start_ns) - rows_ms - vectors_ms;
  rag_ref_drop(kb->chunks_exist);
  kb->chunks_exist = NULL;
  atomic_store_explicit(&kb->loaded, true, memory_order_release);
  if (kb->words_next > 0)
    rag_log(RAG_LOG_INFO, "kb.loaded",
            "kb=%s chunks=%u ms=%llu tables_and_fields_ms=%llu vectors_ms=%llu words_ms=%llu", kb->name,
            kb->words_next - 1, (unsigned long long)ms_since(start_ns), (unsigned long long)rows_ms,
            (unsigned long long)vectors_ms, (unsigned long long)words_ms);
  return RAG_OK;
}

rag_status rag_kb__load(rag_kb *kb, rag_error *err) {
  if (atomic_load_explicit(&kb->loaded, memory_order_acquire)) return RAG_OK;
  rag_status status = RAG_OK;
  pthread_mutex_lock(&kb->load_lock); // held over store reads on purpose: whoever searches needs them all done
  if (!atomic_load_explicit(&kb->loaded, memory_order_acquire)) status = load(kb, err);
  pthread_mutex_unlock(&kb->load_lock);
  if (status == RAG_OK) rag_kb__segments_wake(kb, false);
  return status;
}

rag_status rag_kb_load(rag_kb *kb, rag_error *err) {
  return rag_kb__load(kb, err);
}
