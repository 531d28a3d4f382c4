// Erasure of documents from every version: the commit that takes them out of history. purge_job.c erases their bytes.
//
// In one apply
//   every revision of each id, their contents, chunks, vectors and cache rows are deleted; every delta and checkpoint that
//   names them is written anew without, and the counts of the commits they were alive in are corrected; heads in memory
//   are made anew; the caches forget the kb (rewrite.c); the job is submitted.
// So the erasure is whole or not at all, no later request of the group can reach the documents, and a put of the same
// document that was prepared before and comes after finds another view, looks again, and stores everything anew.
//
// What a commit says it added, changed and removed stays: it is what happened, in numbers. So do commit messages, which
// are the writers' own words.
//
// Cost: one pass over the kb's commits with writers waiting, and a rewrite of the commits in which the documents were
// alive, in one batch: an erasure is rare and must not be seen in halves.
#include <stdio.h>

#include "kb/purge_internal.h"

typedef struct alive { // what of the purged was alive in a commit; NULL: nothing
  uint32_t commit;
  rag_bitmap *revisions, *chunks;
} alive;

typedef struct purge_op {
  rag_kb__rewrite rewrite;
  const rag_slice *ids;
  uint32_t id_count;
  rag_kb__purge_params params;
  rag_bitmap_edit *edits[3]; // revisions, contents, chunks
  rag_bitmap *sets[3];       // the same, frozen
  alive *history;
  size_t history_count, history_capacity;
  rag_buf rows; // to put: column family u8, key bytes, value bytes
  uint64_t job;
} purge_op;

// ---------------------------------------------------------------------------------------------- documents

static rag_status remove_content(purge_op *op, rag_txn *txn, const rag_kb__document_entry *entry, rag_error *err) {
  rag_kb *kb = op->rewrite.kb;
  rag_kb__content_rows rows = {
      .content = entry->content, .first_chunk = entry->first_chunk, .chunk_count = entry->chunk_count};
  if (rag_bitmap_edit_has(op->edits[1], entry->content)) return RAG_OK; // of another revision of the document
  rag_status status = rag_kb__content_rows_read(kb, txn, &rows, err);
  if (status == RAG_OK) status = rag_kb__content_rows_delete(kb, txn, &rows, err);
  if (status == RAG_OK && (rag_bitmap_edit_add(op->edits[1], entry->content) != RAG_OK ||
                           rag_bitmap_edit_add_range(op->edits[2], entry->first_chunk, entry->chunk_count) != RAG_OK))
    status = rag_fail_no_memory(err, 0);
  rag_kb__content_rows_free(&rows);
  return status;
}

static rag_status remove_document(purge_op *op, rag_txn *txn, rag_slice id, uint32_t *out_revisions, rag_error *err) {
  rag_kb *kb = op->rewrite.kb;
  rag_key lower, upper, key;
  rag_store_iter *it = NULL;
  rag_buf entries = {0}; // revision, content, first chunk, chunk count; gathered first: see remove_dead in gc_rows.c
  rag_status status = RAG_OK;
  *out_revisions = 0;
  rag_kb__key_document_prefix(&lower, kb->id, id);
  if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a document's rows");
  RAG_TRY(rag_txn_iter_open(txn, RAG_CF_DOCUMENT, rag_key_slice(&lower), rag_key_slice(&upper), &it, err));
  while (rag_store_iter_next(it)) {
    rag_kb__document_entry entry;
    uint32_t revision;
    if (!rag_kb__key_document_revision(rag_store_iter_key(it), &revision) ||
        !rag_kb__decode_document(rag_store_iter_value(it), &entry)) {
      status = rag_kb__corrupt(err, RAG_CF_DOCUMENT, rag_store_iter_key(it));
      goto out;
    }
    entry.revision = revision;
    rag_buf_append(&entries, &entry, sizeof entry);
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  RAG_TRY_OUT(rag_buf_check(&entries, err));
  rag_store_iter_close(it);
  it = NULL;
  for (size_t at = 0; at < entries.size; at += sizeof(rag_kb__document_entry)) {
    rag_kb__document_entry entry;
    memcpy(&entry, entries.data + at, sizeof entry);
    rag_kb__key_document(&key, kb->id, id, entry.revision);
    rag_txn_delete(txn, RAG_CF_DOCUMENT, rag_key_slice(&key));
    rag_kb__key_u32(&key, kb->id, entry.revision);
    rag_txn_delete(txn, RAG_CF_REVISION, rag_key_slice(&key));
    if (rag_bitmap_edit_add(op->edits[0], entry.revision) != RAG_OK) {
      status = rag_fail_no_memory(err, 0);
      goto out;
    }
    RAG_TRY_OUT(remove_content(op, txn, &entry, err));
    (*out_revisions)++;
  }
out:
  rag_store_iter_close(it);
  rag_buf_free(&entries);
  return status;
}

// ---------------------------------------------------------------------------------------------- history

static void add_row(purge_op *op, rag_cf cf, const rag_key *key, const rag_buf *value) {
  if (value->failed) op->rows.failed = true;
  rag_buf_append_u8(&op->rows, (uint8_t)cf);
  rag_buf_append_bytes(&op->rows, rag_key_slice(key));
  rag_buf_append_bytes(&op->rows, rag_buf_slice(value));
}

static const alive *find_alive(const purge_op *op, uint32_t commit) {
  size_t low = 0, high = op->history_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (op->history[middle].commit == commit) return &op->history[middle];
    if (op->history[middle].commit < commit) low = middle + 1;
    else high = middle;
  }
  return NULL;
}

static bool meets(const rag_bitmap *set, const rag_bitmap *gone) {
  return set != NULL && rag_bitmap_and_count(set, gone) > 0;
}

// (base without removed) with what is both added and gone; NULL in and out: empty.
static rag_status step(const rag_bitmap *base, const rag_bitmap *added, const rag_bitmap *removed,
                       const rag_bitmap *gone, rag_bitmap **out, rag_error *err) {
  rag_bitmap *come = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(base);
  rag_status status = edit == NULL ? RAG_RESOURCE_EXHAUSTED : RAG_OK;
  if (status == RAG_OK && removed != NULL) status = rag_bitmap_edit_andnot(edit, removed);
  if (status == RAG_OK && added != NULL) status = rag_bitmap_and(added, gone, &come);
  if (status == RAG_OK && come != NULL) status = rag_bitmap_edit_or(edit, come);
  rag_ref_drop(come);
  if (status != RAG_OK) rag_bitmap_edit_destroy(edit);
  else status = rag_bitmap_edit_finish(edit, out);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

static rag_status without(rag_bitmap **set, const rag_bitmap *gone, rag_error *err) {
  rag_bitmap *rest = NULL;
  if (*set == NULL) return RAG_OK;
  if (rag_bitmap_andnot(*set, gone, &rest) != RAG_OK) return rag_fail_no_memory(err, 0);
  rag_ref_drop(*set);
  *set = rest;
  return RAG_OK;
}

// A commit with a checkpoint: what of it goes is what was alive.
static rag_status purge_checkpoint(purge_op *op, rag_txn *txn, alive *now, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_buf image = {0};
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_kb__key_u32(&key, op->rewrite.kb->id, now->commit);
  rag_status status = rag_txn_get(txn, RAG_CF_BITMAP, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND) return rag_kb__corrupt(err, RAG_CF_BITMAP, rag_key_slice(&key));
  RAG_TRY(status);
  RAG_TRY_OUT(rag_kb__decode_checkpoint(value.slice, &revisions, &chunks, err));
  if (!meets(revisions, op->sets[0]) && !meets(chunks, op->sets[2])) goto out;
  if (rag_bitmap_and(revisions, op->sets[0], &now->revisions) != RAG_OK ||
      rag_bitmap_and(chunks, op->sets[2], &now->chunks) != RAG_OK) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  RAG_TRY_OUT(without(&revisions, op->sets[0], err));
  RAG_TRY_OUT(without(&chunks, op->sets[2], err));
  rag_kb__encode_checkpoint(revisions, chunks, &image);
  add_row(op, RAG_CF_BITMAP, &key, &image);
out:
  rag_value_free(&value);
  rag_buf_free(&image);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  return status;
}

static rag_status purge_delta(purge_op *op, rag_txn *txn, rag_kb__delta *delta, alive *now, bool *out_changed,
                              rag_error *err) {
  const alive *base = delta->base != 0 ? find_alive(op, delta->base) : NULL;
  bool touched = meets(delta->revisions_added, op->sets[0]) || meets(delta->revisions_removed, op->sets[0]) ||
                 meets(delta->chunks_added, op->sets[2]) || meets(delta->chunks_removed, op->sets[2]);
  *out_changed = touched;
  if (delta->depth == 0) {
    RAG_TRY(purge_checkpoint(op, txn, now, err));
    *out_changed |= now->revisions != NULL;
  } else if (!touched) {
    now->revisions = base ? rag_ref_take(base->revisions) : NULL;
    now->chunks = base ? rag_ref_take(base->chunks) : NULL;
  } else {
    RAG_TRY(step(base ? base->revisions : NULL, delta->revisions_added, delta->revisions_removed, op->sets[0],
                 &now->revisions, err));
    RAG_TRY(
        step(base ? base->chunks : NULL, delta->chunks_added, delta->chunks_removed, op->sets[2], &now->chunks, err));
  }
  if (!touched) return RAG_OK;
  rag_key key;
  rag_buf image = {0};
  RAG_TRY(without(&delta->revisions_added, op->sets[0], err));
  RAG_TRY(without(&delta->revisions_removed, op->sets[0], err));
  RAG_TRY(without(&delta->chunks_added, op->sets[2], err));
  RAG_TRY(without(&delta->chunks_removed, op->sets[2], err));
  rag_kb__key_commit(&key, op->rewrite.kb->id, now->commit, 1);
  rag_kb__encode_delta(delta, &image);
  add_row(op, RAG_CF_COMMIT, &key, &image);
  rag_buf_free(&image);
  return RAG_OK;
}

static rag_status purge_commit(purge_op *op, rag_txn *txn, uint32_t number, rag_slice record_row, rag_slice delta_row,
                               rag_error *err) {
  rag_kb__commit record;
  rag_kb__delta delta = {0};
  rag_buf image = {0};
  rag_key key;
  bool changed = false;
  if (op->history_count == op->history_capacity) {
    size_t capacity = op->history_capacity ? op->history_capacity * 2 : 1024;
    alive *history = rag_realloc_array(op->history, capacity, sizeof *history);
    if (history == NULL) return rag_fail_no_memory(err, capacity * sizeof *history);
    op->history = history;
    op->history_capacity = capacity;
  }
  alive *now = &op->history[op->history_count];
  *now = (alive){.commit = number};
  rag_status status = rag_kb__decode_delta(delta_row, &delta, err);
  if (status == RAG_OK) status = purge_delta(op, txn, &delta, now, &changed, err);
  op->history_count++; // what `now` owns is freed with the rest
  rag_kb__delta_free(&delta);
  RAG_TRY(status);
  rag_kb__key_commit(&key, op->rewrite.kb->id, number, 0);
  if (!rag_kb__decode_commit(record_row, &record)) return rag_kb__corrupt(err, RAG_CF_COMMIT, rag_key_slice(&key));
  uint64_t documents = now->revisions ? rag_bitmap_count(now->revisions) : 0;
  uint64_t chunks = now->chunks ? rag_bitmap_count(now->chunks) : 0;
  if (documents > record.documents || chunks > record.chunks)
    return rag_kb__corrupt(err, RAG_CF_COMMIT, rag_key_slice(&key));
  if (documents > 0 || chunks > 0) {
    record.documents -= documents;
    record.chunks -= chunks;
    rag_kb__encode_commit(&record, &image);
    add_row(op, RAG_CF_COMMIT, &key, &image);
    changed = true;
  }
  rag_buf_free(&image);
  op->params.commits += changed;
  return RAG_OK;
}

static rag_status purge_history(purge_op *op, rag_txn *txn, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_buf record = {0};
  rag_key lower, upper;
  uint32_t record_of = 0;
  rag_status status = RAG_OK;
  rag_key_init(&lower);
  rag_key_u32(&lower, op->rewrite.kb->id);
  if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's commits");
  RAG_TRY(rag_txn_iter_open(txn, RAG_CF_COMMIT, rag_key_slice(&lower), rag_key_slice(&upper), &it, err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
    rag_reader r = rag_reader_of(key);
    (void)rag_read_u32be(&r);
    uint32_t number = rag_read_u32be(&r);
    uint8_t row = rag_read_u8(&r);
    if (r.bad || row > 1 || (row == 1 && number != record_of)) {
      status = rag_kb__corrupt(err, RAG_CF_COMMIT, key);
      goto out;
    }
    if (row == 1) {
      RAG_TRY_OUT(purge_commit(op, txn, number, rag_buf_slice(&record), value, err));
      continue;
    }
    rag_buf_clear(&record);
    rag_buf_append(&record, value.data, value.size);
    RAG_TRY_OUT(rag_buf_check(&record, err));
    record_of = number;
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  rag_buf_free(&record);
  RAG_TRY(status);
  RAG_TRY(rag_buf_check(&op->rows, err));
  rag_reader r = rag_reader_of(rag_buf_slice(&op->rows));
  while (rag_reader_left(&r) > 0) {
    rag_cf cf = (rag_cf)rag_read_u8(&r);
    rag_slice key = rag_read_bytes(&r), value = rag_read_bytes(&r);
    rag_txn_put(txn, cf, key, value);
  }
  return RAG_OK;
}

static rag_status purge_heads(purge_op *op, rag_error *err) {
  rag_kb__view *view = op->rewrite.view;
  for (uint32_t i = 0; i < view->branch_count; i++) {
    rag_version *head = view->branches[i].head;
    if (head == NULL || !meets(head->revisions, op->sets[0])) continue;
    rag_bitmap *revisions = rag_ref_take(head->revisions), *chunks = rag_ref_take(head->chunks);
    rag_status status = without(&revisions, op->sets[0], err);
    if (status == RAG_OK) status = without(&chunks, op->sets[2], err);
    if (status != RAG_OK) {
      rag_ref_drop(revisions);
      rag_ref_drop(chunks);
      return status;
    }
    rag_version *next = rag_kb__version_create(head->kb, head->commit, head->depth, revisions, chunks);
    if (next == NULL) return rag_fail_no_memory(err, sizeof *next);
    rag_ref_drop(head);
    view->branches[i].head = next;
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the request

static rag_status purge_plan(rag_kb__rewrite *rewrite, rag_txn *txn, rag_error *err) {
  purge_op *op = (purge_op *)rewrite;
  rag_buf params = {0};
  rag_status status = RAG_OK;
  op->params.purged_us = rag_clock_now_us();
  op->params.limit_revision = rewrite->view->state.next_revision;
  for (int i = 0; i < 3; i++)
    if ((op->edits[i] = rag_bitmap_edit_create(NULL)) == NULL) return rag_fail_no_memory(err, 0);
  for (uint32_t i = 0; i < op->id_count; i++) {
    uint32_t revisions = 0;
    RAG_TRY(remove_document(op, txn, op->ids[i], &revisions, err));
    rag_buf_append_varint(&op->params.ids, revisions);
    rag_buf_append_bytes(&op->params.ids, op->ids[i]);
  }
  RAG_TRY(rag_buf_check(&op->params.ids, err));
  for (int i = 0; i < 3; i++) {
    rag_bitmap_edit *edit = op->edits[i];
    op->edits[i] = NULL;
    if (rag_bitmap_edit_finish(edit, &op->sets[i]) != RAG_OK) return rag_fail_no_memory(err, 0);
  }
  if (rag_bitmap_count(op->sets[0]) > 0) {
    RAG_TRY(purge_history(op, txn, err));
    RAG_TRY(purge_heads(op, err));
  }
  op->params.kb = rewrite->kb->id;
  op->params.space = rewrite->kb->space;
  op->params.revisions = op->sets[0];
  op->params.contents = op->sets[1];
  op->params.chunks = op->sets[2];
  rag_kb__purge_params_encode(&op->params, &params);
  status = rag_buf_check(&params, err);
  if (status == RAG_OK && params.size > RAG_JOB_PARAMS_MAX)
    status = rag_fail_field(err, RAG_INVALID_ARGUMENT, "document_ids",
                            "these documents have too many revisions and chunks for one purge; purge fewer at a time");
  if (status == RAG_OK)
    status = rag_jobs_submit_txn(rewrite->kb->kbs->jobs, txn, "purge", rewrite->kb->name, rag_buf_slice(&params),
                                 &op->job, err);
  rag_buf_free(&params);
  return status;
}

static rag_status check_ids(const rag_slice *ids, uint32_t count, rag_error *err) {
  size_t bytes = 0;
  char field[RAG_ERROR_FIELD_MAX];
  if (count == 0)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "document_ids", "document_ids is empty; name what to erase");
  if (count > RAG_PURGE_IDS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "document_ids",
                          "one purge takes at most %u documents; this one has %u: send several", RAG_PURGE_IDS_MAX,
                          count);
  for (uint32_t i = 0; i < count; i++) {
    snprintf(field, sizeof field, "document_ids[%u]", i);
    if (ids[i].size == 0 || ids[i].size > RAG_DOCUMENT_ID_BYTES_MAX || !rag_utf8_valid(ids[i].data, ids[i].size))
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: a document id is 1 to %u bytes of UTF-8", field,
                            RAG_DOCUMENT_ID_BYTES_MAX);
    for (uint32_t j = 0; j < i; j++)
      if (rag_slice_equal(ids[i], ids[j]))
        return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s stands twice in this call; keep one of them",
                              field);
    bytes += ids[i].size;
  }
  if (bytes > RAG_PURGE_ID_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "document_ids",
                          "the ids of one purge have at most %u bytes together; these have %zu: send several",
                          RAG_PURGE_ID_BYTES_MAX, bytes);
  return RAG_OK;
}

rag_status rag_kb_purge(rag_kb *kb, const rag_slice *ids, uint32_t count, uint64_t *out_job, rag_error *err) {
  purge_op op = {
      .rewrite = {.kb = kb, .plan = purge_plan, .versions = true, .objects = true}, .ids = ids, .id_count = count};
  RAG_TRY(check_ids(ids, count, err));
  rag_status status = rag_kb__rewrite_run(&op.rewrite, err);
  if (status == RAG_OK) {
    *out_job = op.job;
    rag_jobs_wake(kb->kbs->jobs);
    // No version reaches the rows any more; should this fail, the job tries again.
    rag_error ignored;
    if (rag_kb__forget_rows(kb, op.sets[2], op.sets[0], &ignored) != RAG_OK)
      rag_log(RAG_LOG_WARN, "purge.memory", "kb=%s why=%s", kb->name, ignored.message);
  }
  for (int i = 0; i < 3; i++) {
    rag_bitmap_edit_destroy(op.edits[i]);
    rag_ref_drop(op.sets[i]);
  }
  for (size_t i = 0; i < op.history_count; i++) {
    rag_ref_drop(op.history[i].revisions);
    rag_ref_drop(op.history[i].chunks);
  }
  rag_free(op.history);
  rag_buf_free(&op.rows);
  rag_buf_free(&op.params.ids);
  return status;
}
