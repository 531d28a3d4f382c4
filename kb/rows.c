// Reads of single rows, through a running group's writes where a txn is given; and documents as callers see them.
#include "kb/filters/survivors.h"

rag_status rag_kb__get_revision(rag_kb *kb, rag_txn *txn, uint32_t revision, rag_kb__revision *out, rag_value *pin,
                                rag_error *err) {
  rag_key key;
  rag_kb__key_u32(&key, kb->id, revision);
  rag_status status = rag_kb__get(kb, txn, RAG_CF_REVISION, rag_key_slice(&key), pin, err);
  if (status == RAG_NOT_FOUND)
    return rag_fail(err, RAG_NOT_FOUND, "revision %u of knowledge base '%s' is gone (gc or purge)", revision, kb->name);
  RAG_TRY(status);
  if (!rag_kb__decode_revision(pin->slice, out)) {
    rag_value_free(pin);
    return rag_kb__corrupt(err, RAG_CF_REVISION, rag_key_slice(&key));
  }
  return RAG_OK;
}

rag_status rag_kb__get_commit(rag_kb *kb, rag_txn *txn, uint32_t commit, rag_kb__commit *out, rag_value *pin,
                              rag_error *err) {
  rag_key key;
  rag_kb__key_commit(&key, kb->id, commit, 0);
  rag_status status = rag_kb__get(kb, txn, RAG_CF_COMMIT, rag_key_slice(&key), pin, err);
  if (status == RAG_NOT_FOUND)
    return rag_fail(err, RAG_NOT_FOUND, "commit c%u of knowledge base '%s' does not exist or was dropped by gc", commit,
                    kb->name);
  RAG_TRY(status);
  if (!rag_kb__decode_commit(pin->slice, out)) {
    rag_value_free(pin);
    return rag_kb__corrupt(err, RAG_CF_COMMIT, rag_key_slice(&key));
  }
  return RAG_OK;
}

rag_status rag_kb__document_rows(rag_kb *kb, rag_txn *txn, rag_slice id, rag_store_iter **out, rag_error *err) {
  rag_key lower, upper;
  rag_kb__key_document_prefix(&lower, kb->id, id);
  if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a document's rows");
  if (txn != NULL)
    return rag_txn_iter_open(txn, RAG_CF_DOCUMENT, rag_key_slice(&lower), rag_key_slice(&upper), out, err);
  return rag_store_iter_open(kb->store, NULL, RAG_CF_DOCUMENT, rag_key_slice(&lower), rag_key_slice(&upper), false, out,
                             err);
}

rag_status rag_kb__document_row(rag_store_iter *it, rag_kb__document_entry *out, rag_error *err) {
  rag_kb__document_entry entry;
  uint32_t revision;
  if (!rag_kb__key_document_revision(rag_store_iter_key(it), &revision) ||
      !rag_kb__decode_document(rag_store_iter_value(it), &entry))
    return rag_kb__corrupt(err, RAG_CF_DOCUMENT, rag_store_iter_key(it));
  entry.revision = revision;
  *out = entry;
  return RAG_OK;
}

rag_status rag_kb__find_document(rag_kb *kb, rag_txn *txn, const rag_bitmap *revisions, rag_slice id,
                                 rag_kb__document_entry *out, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_status status = RAG_OK;
  *out = (rag_kb__document_entry){0};
  RAG_TRY(rag_kb__document_rows(kb, txn, id, &it, err));
  while (rag_store_iter_next(it)) {
    rag_kb__document_entry entry;
    RAG_TRY_OUT(rag_kb__document_row(it, &entry, err));
    if (!rag_bitmap_has(revisions, entry.revision)) continue;
    *out = entry;
    break;
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

// ---------------------------------------------------------------------------------------------- documents for callers

void rag_document_free(rag_document *document) {
  if (document == NULL) return;
  rag_ref_drop(document->pins[0]);
  *document = (rag_document){0};
}

static void fill(rag_document *out, rag_kb__object *object) { // takes over the reference
  const rag_kb__revision *revision = &object->revision;
  *out = (rag_document){
      .id = revision->id,
      .text = object->content.text,
      .title = object->content.title,
      .language = object->content.language,
      .metadata = revision->metadata,
      .source_uri = revision->source_uri,
      .source_modified_us = revision->source_modified_us,
      .effective_us = revision->effective_us,
      .revision = object->revision_number,
      .content = revision->content,
      .first_chunk = revision->first_chunk,
      .chunk_count = revision->chunk_count,
      .commit = revision->commit,
      .time_us = revision->time_us,
      .pins = {object},
  };
}

rag_status rag_kb_revision_get(rag_kb *kb, uint32_t revision, rag_document *out, rag_error *err) {
  rag_kb__object *object = NULL;
  RAG_TRY(rag_kb__object_get(kb, revision, &object, err));
  fill(out, object);
  return RAG_OK;
}

static rag_status document_once(rag_kb *kb, rag_slice at, rag_slice id, rag_document *out, rag_error *err) {
  rag_version *version = NULL;
  rag_kb__document_entry entry;
  RAG_TRY(rag_kb_resolve(kb, at, &version, err));
  rag_status status = rag_kb__find_document(kb, NULL, version->revisions, id, &entry, err);
  if (status == RAG_OK && entry.revision == 0)
    status = rag_fail(err, RAG_NOT_FOUND, "document '%.*s' is not in knowledge base '%s' at c%u",
                      (int)RAG_MIN(id.size, (size_t)200), id.data, kb->name, version->commit);
  rag_ref_drop(version);
  RAG_TRY(status);
  return rag_kb_revision_get(kb, entry.revision, out, err);
}

rag_status rag_kb_document_get(rag_kb *kb, rag_slice at, rag_slice id, rag_document *out, rag_error *err) {
  rag_status status;
  uint64_t mark;
  unsigned waited = 0;
  if (id.size == 0 || id.size > RAG_DOCUMENT_ID_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "id", "a document id is 1 to %u bytes", RAG_DOCUMENT_ID_BYTES_MAX);
  do {
    mark = rag_kb__history_mark(kb);
    status = document_once(kb, at, id, out, err);
  } while (rag_kb__read_again(kb, mark, status, &waited));
  return status;
}

static rag_status documents_once(rag_kb *kb, rag_slice at, const rag_filter *filter, uint64_t mark, uint32_t after,
                                 uint32_t limit, rag_document **out, uint32_t *out_count, uint32_t *out_next,
                                 uint64_t *out_commit, rag_error *err) {
  rag_version *version = NULL;
  limit = RAG_MIN(limit, RAG_LIST_LIMIT_MAX);
  rag_kb__survivors *survivors = NULL;
  bool cached;
  RAG_TRY(rag_kb_resolve(kb, at, &version, err));
  rag_document *items = rag_calloc((size_t)limit + 1, sizeof *items);
  rag_status status = items == NULL ? rag_fail_no_memory(err, limit * sizeof *items) : RAG_OK;
  uint32_t count = 0, next = 0, revision = after;
  if (status == RAG_OK && filter != NULL)
    status = rag_kb__survivors_of(kb, version, filter, false, 0, &survivors, &cached, err);
  const rag_bitmap *set = survivors ? survivors->documents : version->revisions;
  while (status == RAG_OK && revision < UINT32_MAX && rag_bitmap_next(set, revision + 1, &revision)) {
    if (count == limit) {
      next = count > 0 ? items[count - 1].revision : after;
      break;
    }
    status = rag_kb_revision_get(kb, revision, &items[count], err);
    if (status == RAG_OK) count++;
  }
  if (status == RAG_OK) status = rag_kb__still_kept(kb, mark, version, err);
  if (status == RAG_OK) {
    *out = items;
    *out_count = count;
    *out_next = next;
    *out_commit = version->commit;
  } else {
    for (uint32_t i = 0; i < count; i++) rag_document_free(&items[i]);
    rag_free(items);
  }
  rag_ref_drop(survivors);
  rag_ref_drop(version);
  return status;
}

rag_status rag_kb_documents(rag_kb *kb, rag_slice at, const rag_filter *filter, uint32_t after, uint32_t limit,
                            rag_document **out, uint32_t *out_count, uint32_t *out_next, uint64_t *out_commit,
                            rag_error *err) {
  rag_status status;
  uint64_t mark;
  unsigned waited = 0;
  do {
    mark = rag_kb__history_mark(kb);
    status = documents_once(kb, at, filter, mark, after, limit, out, out_count, out_next, out_commit, err);
  } while (rag_kb__read_again(kb, mark, status, &waited));
  return status;
}

rag_status rag_kb_document_chunks(rag_kb *kb, const rag_document *document, rag_span **out, uint32_t *out_count,
                                  rag_error *err) {
  uint32_t count = document->chunk_count;
  rag_span *spans = rag_calloc((size_t)count + 1, sizeof *spans);
  if (spans == NULL) return rag_fail_no_memory(err, count * sizeof *spans);
  rag_status status = RAG_OK;
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_kb__key_u32(&lower, kb->id, document->first_chunk);
  rag_kb__key_u32(&upper, kb->id, document->first_chunk + count);
  RAG_TRY_OUT(rag_store_iter_open(kb->store, NULL, RAG_CF_CHUNK, rag_key_slice(&lower), rag_key_slice(&upper), false,
                                  &it, err));
  uint32_t found = 0;
  while (found < count && rag_store_iter_next(it)) {
    rag_kb__chunk chunk;
    if (!rag_kb__decode_chunk(rag_store_iter_value(it), &chunk)) {
      status = rag_kb__corrupt(err, RAG_CF_CHUNK, rag_store_iter_key(it));
      goto out;
    }
    bool own_text = chunk.start >= document->text.size && chunk.end > chunk.start;
    spans[found++] = own_text ? (rag_span){0, 0} : (rag_span){chunk.start, chunk.end};
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  *out = spans;
  *out_count = found;
  spans = NULL;
out:
  rag_store_iter_close(it);
  rag_free(spans);
  return status;
}
