// Putting, deleting and pruning documents: the ordered part of a put, run by the leader of the group commit; and new
// metadata for one document, which is a put that reuses the content.
//
// For each document: unchanged (its live revision has the same state) costs nothing; an equal older revision is revived;
// else a new revision is written, over the stored content when that is the same, else over new content, chunks and
// vectors. What prepare looked up holds while nothing was committed to the kb since; otherwise it is looked up again.
#include "kb/filters/filters_internal.h"
#include "kb/put_internal.h"
#include "kb/segments_internal.h"

#include <stdlib.h>

typedef struct edits {
  rag_bitmap_edit *revisions_added, *revisions_removed, *chunks_added, *chunks_removed;
  rag_bitmap *sets[4];
} edits;

static void edits_free(edits *e) {
  rag_bitmap_edit_destroy(e->revisions_added);
  rag_bitmap_edit_destroy(e->revisions_removed);
  rag_bitmap_edit_destroy(e->chunks_added);
  rag_bitmap_edit_destroy(e->chunks_removed);
  for (int i = 0; i < 4; i++) rag_ref_drop(e->sets[i]);
}

static rag_status edits_init(edits *e, rag_error *err) {
  *e = (edits){.revisions_added = rag_bitmap_edit_create(NULL),
               .revisions_removed = rag_bitmap_edit_create(NULL),
               .chunks_added = rag_bitmap_edit_create(NULL),
               .chunks_removed = rag_bitmap_edit_create(NULL)};
  if (e->revisions_added && e->revisions_removed && e->chunks_added && e->chunks_removed) return RAG_OK;
  return rag_fail_no_memory(err, 0); // what is there is freed by the caller's edits_free
}

static rag_status edits_finish(edits *e, rag_error *err) {
  rag_bitmap_edit **from[4] = {&e->revisions_added, &e->revisions_removed, &e->chunks_added, &e->chunks_removed};
  for (int i = 0; i < 4; i++) {
    rag_bitmap_edit *edit = *from[i];
    *from[i] = NULL;
    if (rag_bitmap_edit_finish(edit, &e->sets[i]) != RAG_OK) return rag_fail_no_memory(err, 0);
  }
  return RAG_OK;
}

static rag_status edits_add(edits *e, uint32_t revision, uint32_t first_chunk, uint32_t chunk_count, rag_error *err) {
  if (rag_bitmap_edit_add(e->revisions_added, revision) != RAG_OK ||
      rag_bitmap_edit_add_range(e->chunks_added, first_chunk, chunk_count) != RAG_OK)
    return rag_fail_no_memory(err, 0);
  return RAG_OK;
}

static rag_status edits_remove(edits *e, uint32_t revision, uint32_t first_chunk, uint32_t chunk_count,
                               rag_error *err) {
  if (rag_bitmap_edit_add(e->revisions_removed, revision) != RAG_OK ||
      rag_bitmap_edit_add_range(e->chunks_removed, first_chunk, chunk_count) != RAG_OK)
    return rag_fail_no_memory(err, 0);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- rows

static rag_status allocate(uint32_t *next, uint32_t count, const char *what, rag_kb *kb, uint32_t *out,
                           rag_error *err) {
  if (UINT32_MAX - *next < count)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                    "knowledge base '%s' has used every %s number; export it and import it under a new name", kb->name,
                    what);
  *out = *next;
  *next += count;
  return RAG_OK;
}

static rag_status put_row(rag_txn *txn, rag_cf cf, const rag_key *key, rag_buf *value, rag_error *err) {
  RAG_TRY(rag_buf_check(value, err));
  rag_txn_put(txn, cf, rag_key_slice(key), rag_buf_slice(value));
  return RAG_OK;
}

// New content: its text, chunks, vectors and cache rows.
static rag_status put_content(rag_kb__put_op *op, rag_txn *txn, rag_kb__prepared *document, rag_kb__document_entry *out,
                              rag_error *err) {
  rag_kb *kb = op->op.kb;
  rag_kb__state *state = &op->op.view->state;
  rag_buf value = {0};
  rag_key key;
  rag_status status = RAG_OK;
  RAG_TRY(allocate(&state->next_content, 1, "content", kb, &out->content, err));
  RAG_TRY(allocate(&state->next_chunk, document->chunk_count, "chunk", kb, &out->first_chunk, err));
  out->chunk_count = document->chunk_count;

  rag_kb__content content = {.id = document->input->id,
                             .title = document->input->title,
                             .text = document->text,
                             .body = document->body,
                             .language = document->input->language};
  for (uint32_t i = 0; i < document->chunk_count; i++) content.chunk_metadata |= document->chunks[i].metadata.size > 0;
  rag_kb__encode_content(&content, &value);
  rag_kb__key_u32(&key, kb->id, out->content);
  RAG_TRY_OUT(put_row(txn, RAG_CF_CONTENT, &key, &value, err));
  for (uint32_t i = 0; i < document->chunk_count; i++) {
    const rag_kb__prepared_chunk *chunk = &document->chunks[i];
    uint32_t ordinal = out->first_chunk + i;
    rag_buf_clear(&value);
    rag_kb__encode_chunk(&(rag_kb__chunk){out->content, chunk->span.start, chunk->span.end, chunk->metadata}, &value);
    rag_kb__key_u32(&key, kb->id, ordinal);
    RAG_TRY_OUT(put_row(txn, RAG_CF_CHUNK, &key, &value, err));
    if (chunk->vector == NULL) continue;
    rag_kb__key_vector(&key, kb->id, kb->space, ordinal);
    rag_buf_clear(&value);
    rag_kb__encode_vector(kb->datatype, chunk->vector, kb->dimension, &value);
    RAG_TRY_OUT(put_row(txn, RAG_CF_VECTOR, &key, &value, err));
    if (!chunk->embedded) continue;
    rag_buf_clear(&value);
    rag_buf_append_u32le(&value, kb->id);
    rag_buf_append_u32le(&value, ordinal);
    rag_kb__key_cache(&key, kb->space, &chunk->text_digest);
    RAG_TRY_OUT(put_row(txn, RAG_CF_CACHE, &key, &value, err));
  }
  document->new_content = out->content;
  document->new_first_chunk = out->first_chunk;
  op->op.result.chunks_added += document->chunk_count;
out:
  rag_buf_free(&value);
  return status;
}

// What searches will need of the call's new chunks and revisions, in memory: the last step that can fail. Rows are
// written before the version that reaches them is published. A call that fails half-way leaves rows that no version
// reaches, under numbers that will be given out again: so where a row is there already, it is such a one, and goes.
typedef struct new_rows {
  uint32_t *ordinals; // of vectors
  float *vectors;
  uint32_t vector_count;
  rag_lexical_chunk *words;
  uint32_t word_count;
  rag_kb__fields_row *fields;
  uint32_t field_count;
} new_rows;

static rag_status collect_rows(rag_kb__put_op *op, new_rows *out, rag_error *err) {
  rag_kb *kb = op->op.kb;
  size_t chunks = 0, documents = op->put->document_count;
  for (uint32_t d = 0; d < documents; d++)
    if (op->documents[d].new_content != 0) chunks += op->documents[d].chunk_count;
  *out = (new_rows){.ordinals = rag_arena_calloc(op->arena, chunks + 1, sizeof *out->ordinals),
                    .vectors = rag_arena_alloc(op->arena, (chunks + 1) * kb->dimension * sizeof *out->vectors),
                    .words = rag_arena_alloc(op->arena, (chunks + 1) * sizeof *out->words),
                    .fields = rag_arena_alloc(op->arena, (documents + 1) * sizeof *out->fields)};
  if (out->ordinals == NULL || out->vectors == NULL || out->words == NULL || out->fields == NULL)
    return rag_fail_no_memory(err, chunks * kb->dimension * sizeof *out->vectors);
  for (uint32_t d = 0; d < documents; d++) {
    const rag_kb__prepared *document = &op->documents[d];
    if (document->new_revision)
      out->fields[out->field_count++] = (rag_kb__fields_row){document->set.revision, document->input->metadata};
    for (uint32_t i = 0; document->new_content != 0 && i < document->chunk_count; i++) {
      uint32_t ordinal = document->new_first_chunk + i;
      rag_lexical_chunk *words = &out->words[out->word_count++];
      *words = document->words[i];
      words->ordinal = ordinal;
      if (document->chunks[i].vector == NULL) continue;
      memcpy(out->vectors + (size_t)out->vector_count * kb->dimension, document->chunks[i].vector,
             kb->dimension * sizeof *out->vectors);
      out->ordinals[out->vector_count++] = ordinal;
    }
  }
  return RAG_OK;
}

static rag_status set_tables(rag_kb__put_op *op, rag_error *err) {
  rag_kb__tables *tables = &op->op.kb->tables;
  for (uint32_t d = 0; d < op->put->document_count; d++) {
    const rag_kb__prepared *document = &op->documents[d];
    const rag_kb__document_entry *set = &document->set;
    if (set->revision == 0) continue;
    RAG_TRY(rag_kb__tables_set_revision(tables, set->revision,
                                        (rag_kb__revision_row){set->content, set->first_chunk, set->chunk_count}, err));
    for (uint32_t i = 0; document->new_content != 0 && i < document->chunk_count; i++) {
      rag_span span = document->chunks[i].span;
      RAG_TRY(rag_kb__tables_set_chunk(tables, document->new_first_chunk + i,
                                       (rag_kb__chunk_row){document->new_content, span.start, span.end}, err));
    }
  }
  return RAG_OK;
}

static rag_status range_of(uint32_t first, uint32_t last, rag_bitmap **out, rag_error *err) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  if (edit == NULL) return rag_fail_no_memory(err, 0);
  rag_status status = rag_bitmap_edit_add_range(edit, first, last - first + 1);
  if (status == RAG_OK) status = rag_bitmap_edit_finish(edit, out);
  else rag_bitmap_edit_destroy(edit);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// One index's append: again without what a failed call has left.
static rag_status append_rows(rag_kb *kb, int which, const new_rows *rows, rag_error *err) {
  uint32_t first = which == 0 ? rows->ordinals[0] : which == 1 ? rows->words[0].ordinal : rows->fields[0].revision;
  uint32_t last = which == 0   ? rows->ordinals[rows->vector_count - 1]
                  : which == 1 ? rows->words[rows->word_count - 1].ordinal
                               : rows->fields[rows->field_count - 1].revision;
  for (bool again = false;; again = true) {
    rag_bitmap *stale = NULL;
    rag_status status = which == 0 ? rag_index_append(kb->index, rows->ordinals, rows->vector_count, rows->vectors, err)
                        : which == 1 ? rag_lexical_append(kb->lexical, rows->words, rows->word_count, err)
                                     : rag_kb__fields_append(kb->fields, rows->field_count, rows->fields, err);
    if (status != RAG_ALREADY_EXISTS || again) return status;
    RAG_TRY(range_of(first, last, &stale, err));
    status = which == 0   ? rag_index_remove(kb->index, stale, err)
             : which == 1 ? rag_lexical_remove(kb->lexical, stale, err)
                          : rag_fields_remove(kb->fields, stale, err);
    rag_ref_drop(stale);
    RAG_TRY(status);
  }
}

static rag_status add_rows(rag_kb__op *base, rag_error *err) {
  rag_kb__put_op *op = (rag_kb__put_op *)base;
  rag_kb *kb = base->kb;
  new_rows rows;
  RAG_TRY(collect_rows(op, &rows, err));
  pthread_mutex_lock(&kb->index_lock);
  rag_status status = set_tables(op, err);
  if (status == RAG_OK && rows.vector_count > 0) status = append_rows(kb, 0, &rows, err);
  if (status == RAG_OK && rows.word_count > 0) status = append_rows(kb, 1, &rows, err);
  if (status == RAG_OK && rows.field_count > 0) status = append_rows(kb, 2, &rows, err);
  pthread_mutex_unlock(&kb->index_lock);
  return status;
}

static rag_status put_revision(rag_kb__op *op, rag_txn *txn, const rag_document_input *in,
                               rag_kb__document_entry *entry, rag_error *err) {
  rag_kb *kb = op->kb;
  rag_kb__state *state = &op->view->state;
  rag_buf value = {0};
  rag_key key;
  RAG_TRY(allocate(&state->next_revision, 1, "revision", kb, &entry->revision, err));
  rag_kb__revision revision = {
      .id = in->id,
      .metadata = in->metadata,
      .source_uri = in->source_uri,
      .content = entry->content,
      .first_chunk = entry->first_chunk,
      .chunk_count = entry->chunk_count,
      .commit = state->next_commit,
      .source_modified_us = in->source_modified_us,
      .effective_us = in->effective_us,
      .time_us = RAG_MAX(rag_clock_now_us(), state->last_time_us),
  };
  rag_kb__encode_revision(&revision, &value);
  rag_kb__key_u32(&key, kb->id, entry->revision);
  rag_status status = put_row(txn, RAG_CF_REVISION, &key, &value, err);
  if (status == RAG_OK) {
    rag_buf_clear(&value);
    rag_kb__encode_document(entry, &value);
    rag_kb__key_document(&key, kb->id, in->id, entry->revision);
    status = put_row(txn, RAG_CF_DOCUMENT, &key, &value, err);
  }
  rag_buf_free(&value);
  return status;
}

// ---------------------------------------------------------------------------------------------- one call

static rag_status put_one(rag_kb__put_op *op, rag_txn *txn, const rag_version *head, bool fresh,
                          rag_kb__prepared *document, edits *e, rag_error *err) {
  document->new_content = 0;
  document->set = (rag_kb__document_entry){0};
  document->new_revision = false;
  rag_write_result *result = &op->op.result;
  if (!fresh) RAG_TRY(rag_kb__put_look_up(op, txn, head->revisions, document, err));
  const rag_kb__document_entry *live = &document->live;
  if (live->revision != 0 && rag_digest_equal(&live->state_digest, &document->state_digest)) {
    result->unchanged++;
    return RAG_OK;
  }
  rag_kb__document_entry entry = {0};
  if (document->equal.revision != 0) {
    entry = document->equal; // the state was there before: revive it
  } else {
    if (document->same_content.revision != 0) {
      entry = document->same_content;
    } else if (!document->cut) { // was stored when prepared and is no longer (gc)
      op->retry = op->cut_all = true;
      return rag_fail(err, RAG_ABORTED, "a stored content went away meanwhile");
    } else {
      RAG_TRY(put_content(op, txn, document, &entry, err));
    }
    entry.content_digest = document->content_digest;
    entry.state_digest = document->state_digest;
    RAG_TRY(put_revision(&op->op, txn, document->input, &entry, err));
    document->new_revision = true;
  }
  document->set = entry;
  RAG_TRY(edits_add(e, entry.revision, entry.first_chunk, entry.chunk_count, err));
  if (live->revision != 0) {
    RAG_TRY(edits_remove(e, live->revision, live->first_chunk, live->chunk_count, err));
    result->changed++;
  } else {
    result->added++;
  }
  return RAG_OK;
}

static rag_status remove_revision(rag_kb__put_op *op, rag_txn *txn, uint32_t revision, edits *e, rag_error *err) {
  rag_kb__revision record;
  rag_value pin = {0};
  RAG_TRY(rag_kb__get_revision(op->op.kb, txn, revision, &record, &pin, err));
  rag_status status = edits_remove(e, revision, record.first_chunk, record.chunk_count, err);
  rag_value_free(&pin);
  if (status == RAG_OK) op->op.result.removed++;
  return status;
}

static rag_status delete_ids(rag_kb__put_op *op, rag_txn *txn, const rag_version *head, edits *e, rag_error *err) {
  for (uint32_t i = 0; i < op->put->delete_count; i++) {
    rag_kb__document_entry entry;
    RAG_TRY(rag_kb__find_document(op->op.kb, txn, head->revisions, op->put->delete_ids[i], &entry, err));
    if (entry.revision == 0) {
      op->op.result.missing++;
      continue;
    }
    RAG_TRY(edits_remove(e, entry.revision, entry.first_chunk, entry.chunk_count, err));
    op->op.result.removed++;
  }
  return RAG_OK;
}

// Prune all: what is alive and not of this call goes. By set algebra; only what goes is read.
static rag_status prune_all(rag_kb__put_op *op, rag_txn *txn, const rag_version *head, edits *e, rag_error *err) {
  rag_bitmap_edit *kept = rag_bitmap_edit_create(NULL);
  rag_bitmap *kept_set = NULL, *gone = NULL;
  rag_status status = kept == NULL ? RAG_RESOURCE_EXHAUSTED : RAG_OK;
  for (uint32_t i = 0; status == RAG_OK && i < op->put->document_count; i++)
    if (op->documents[i].live.revision != 0) status = rag_bitmap_edit_add(kept, op->documents[i].live.revision);
  if (status == RAG_OK) {
    status = rag_bitmap_edit_finish(kept, &kept_set);
    kept = NULL;
  }
  if (status == RAG_OK) status = rag_bitmap_andnot(head->revisions, kept_set, &gone);
  if (status != RAG_OK) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  uint32_t revision = 0;
  while (revision < UINT32_MAX && rag_bitmap_next(gone, revision + 1, &revision)) {
    if (rag_bitmap_edit_has(e->revisions_removed, revision)) continue; // deleted by id
    RAG_TRY_OUT(remove_revision(op, txn, revision, e, err));
  }
out:
  rag_bitmap_edit_destroy(kept);
  rag_ref_drop(kept_set);
  rag_ref_drop(gone);
  return status;
}

static int compare_u32(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

// What this call would do to a document that differs from the parent: name it, or prune it where it is still there.
static bool touches(const rag_kb__put_op *op, const rag_diff_entry *entry) {
  if (rag_kb__put_names(op, rag_slice_str(entry->id))) return true;
  if (entry->to_revision == 0) return false;
  return op->put->prune == RAG_PRUNE_ALL ||
         (op->prune_count > 0 && bsearch(&entry->to_revision, op->prune_revisions, op->prune_count,
                                         sizeof *op->prune_revisions, compare_u32) != NULL); // found in order
}

// The branch moved since the caller looked: a conflict where both sides touched a document.
static rag_status check_parent(rag_kb__put_op *op, rag_txn *txn, const rag_version *head, rag_error *err) {
  if (op->expect_parent == 0 || op->expect_parent == head->commit) return RAG_OK;
  rag_version *parent = NULL;
  rag_diff diff = {0};
  size_t conflicts = 0;
  RAG_TRY(rag_kb__version(op->op.kb, txn, op->expect_parent, &parent, err));
  rag_status status = rag_kb__diff_versions(op->op.kb, txn, parent, head, &diff, err);
  for (size_t i = 0; status == RAG_OK && i < diff.count; i++) {
    if (!touches(op, &diff.entries[i])) continue;
    conflicts++;
    if (op->conflicts != NULL) status = rag_strings_add(op->conflicts, rag_slice_str(diff.entries[i].id), err);
  }
  if (status == RAG_OK && conflicts > 0)
    status = rag_fail_field(err, RAG_ABORTED, "expect_parent",
                            "the branch moved from c%u to c%u and %zu of this call's documents changed meanwhile; read "
                            "them again, then retry with expect_parent c%u",
                            op->expect_parent, head->commit, conflicts, head->commit);
  rag_diff_free(&diff);
  rag_ref_drop(parent);
  return status;
}

static rag_status put_plan(rag_kb__op *base, rag_txn *txn, rag_error *err) {
  rag_kb__put_op *op = (rag_kb__put_op *)base;
  rag_kb *kb = base->kb;
  uint32_t branch;
  rag_version *head = NULL;
  edits e = {0};
  bool fresh = kb->pending == op->seen; // nothing was committed to the kb since prepare looked
  base->result = (rag_write_result){.chunks_embedded = op->embedded, .chunks_reused = op->reused};
  if (op->config->config.generation != kb->config_generation) { // cut and analysed by settings that are no more
    op->retry = op->other_settings = true;
    return rag_fail(err, RAG_ABORTED, "the settings of knowledge base '%s' keep changing; retry", kb->name);
  }
  RAG_TRY(rag_kb__find_branch(kb, base->view, base->write->branch, &branch, err));
  RAG_TRY(rag_kb__head(kb, txn, base->view, branch, &head, err));
  rag_status status = RAG_OK;
  bool gathered = op->put->prune == RAG_PRUNE_SOURCE || op->put->delete_filter != NULL;
  if (gathered && head->commit != op->seen_head->commit) {
    op->retry = true;
    status = rag_fail(err, RAG_ABORTED, "the branch kept moving while the documents to delete were gathered; retry");
    goto out;
  }
  RAG_TRY_OUT(check_parent(op, txn, head, err));
  RAG_TRY_OUT(edits_init(&e, err));
  for (uint32_t i = 0; i < op->put->document_count; i++)
    RAG_TRY_OUT(put_one(op, txn, head, fresh, &op->documents[i], &e, err));
  RAG_TRY_OUT(delete_ids(op, txn, head, &e, err));
  for (uint32_t i = 0; i < op->prune_count; i++) {
    if (rag_bitmap_edit_has(e.revisions_removed, op->prune_revisions[i])) continue;
    RAG_TRY_OUT(remove_revision(op, txn, op->prune_revisions[i], &e, err));
  }
  if (op->put->prune == RAG_PRUNE_ALL) RAG_TRY_OUT(prune_all(op, txn, head, &e, err));
  RAG_TRY_OUT(edits_finish(&e, err));

  base->result.commit = head->commit;
  if (rag_bitmap_count(e.sets[0]) == 0 && rag_bitmap_count(e.sets[1]) == 0) {
    base->unchanged = true;
    goto out;
  }
  bool only_removed = base->result.added == 0 && base->result.changed == 0;
  rag_kb__change change = {
      .kind = only_removed ? RAG_COMMIT_DELETE : RAG_COMMIT_PUT,
      .branch = branch,
      .base = head,
      .revisions_added = e.sets[0],
      .revisions_removed = e.sets[1],
      .chunks_added = e.sets[2],
      .chunks_removed = e.sets[3],
      .added = base->result.added,
      .changed = base->result.changed,
      .removed = base->result.removed,
      .counts_exact = true,
  };
  status = rag_kb__commit_write(base, txn, &change, err);
out:
  edits_free(&e);
  rag_ref_drop(head);
  return status;
}

rag_status rag_kb_put(rag_kb *kb, const rag_write *write, const rag_put *put, rag_write_result *out,
                      rag_strings *conflicts, rag_error *err) {
  rag_kb__put_op op = {
      .op = {.kb = kb, .write = write, .plan = put_plan, .finish = add_rows}, .put = put, .conflicts = conflicts};
  rag_status status;
  RAG_TRY(rag_kb__write_check(write, err));
  RAG_TRY(rag_store_writable(kb->store, err));
  if (!atomic_load_explicit(&kb->deleted, memory_order_relaxed)) {
    // Before anything is looked up: a replay embeds nothing, and needs not be possible again. Checked again in order.
    bool found = false;
    RAG_TRY(rag_kb__idempotency_find(kb->store, NULL, kb->id, write, &found, &op.op.result, err));
    if (found) {
      op.op.result.replayed = true;
      *out = op.op.result;
      return RAG_OK;
    }
  }
  op.arena = rag_arena_create(0);
  if (op.arena == NULL) return rag_fail_no_memory(err, 0);
  // A retry is needed only when gc or another writer crossed this call; each round looks at the newest state.
  for (int round = 0; round < 10; round++) {
    if (op.config == NULL || op.other_settings) {
      rag_ref_drop(op.config);
      op.config = rag_kb__config(kb);
      op.documents = NULL; // from the start
    }
    op.retry = op.other_settings = false;
    uint64_t mark;
    unsigned waited = 0;
    do {
      mark = rag_kb__history_mark(kb);
      status = rag_kb__put_prepare(&op, err);
    } while (rag_kb__read_again(kb, mark, status, &waited));
    if (status != RAG_OK) goto out;
    status = rag_kb__run(&op.op, err);
    if (status == RAG_OK) rag_kb__segments_wake(kb, false);
    if (status != RAG_ABORTED || !op.retry) break;
  }
  if (status == RAG_OK) *out = op.op.result;
out:
  rag_ref_drop(op.seen);
  rag_ref_drop(op.seen_head);
  rag_ref_drop(op.config);
  rag_arena_destroy(op.arena);
  return status;
}

// ---------------------------------------------------------------------------------------------- metadata

typedef struct metadata_op {
  rag_kb__op op;
  rag_slice id, metadata;
  uint32_t expected_revision;
  rag_kb__document_entry entry; // the new revision
} metadata_op;

static rag_status metadata_finish(rag_kb__op *base, rag_error *err) {
  metadata_op *op = (metadata_op *)base;
  rag_kb *kb = base->kb;
  const rag_kb__document_entry *entry = &op->entry;
  rag_kb__fields_row row = {entry->revision, op->metadata};
  pthread_mutex_lock(&kb->index_lock);
  rag_status status =
      rag_kb__tables_set_revision(&kb->tables, entry->revision,
                                  (rag_kb__revision_row){entry->content, entry->first_chunk, entry->chunk_count}, err);
  if (status == RAG_OK) status = append_rows(kb, 2, &(new_rows){.fields = &row, .field_count = 1}, err);
  pthread_mutex_unlock(&kb->index_lock);
  return status;
}

static rag_status metadata_check_parent(metadata_op *op, rag_txn *txn, const rag_version *head, uint32_t live,
                                        rag_error *err) {
  rag_kb *kb = op->op.kb;
  uint32_t commit;
  rag_version *parent = NULL;
  rag_kb__document_entry then;
  if (op->op.write->expect_parent.size == 0) return RAG_OK;
  RAG_TRY(rag_kb__resolve_commit(kb, txn, op->op.view, op->op.write->expect_parent, &commit, err));
  if (commit == head->commit) return RAG_OK;
  RAG_TRY(rag_kb__version(kb, txn, commit, &parent, err));
  rag_status status = rag_kb__find_document(kb, txn, parent->revisions, op->id, &then, err);
  rag_ref_drop(parent);
  RAG_TRY(status);
  if (then.revision == live) return RAG_OK;
  return rag_fail_field(
      err, RAG_ABORTED, "expect_parent",
      "the branch moved from c%u to c%u and document '%.*s' changed meanwhile; read it again, then retry "
      "with expect_parent c%u",
      commit, head->commit, (int)RAG_MIN(op->id.size, (size_t)200), op->id.data, head->commit);
}

static rag_status metadata_plan(rag_kb__op *base, rag_txn *txn, rag_error *err) {
  metadata_op *op = (metadata_op *)base;
  rag_kb *kb = base->kb;
  uint32_t branch;
  rag_version *head = NULL;
  rag_kb__document_entry live;
  rag_kb__revision record;
  rag_value pin = {0};
  edits e = {0};
  RAG_TRY(rag_kb__find_branch(kb, base->view, base->write->branch, &branch, err));
  RAG_TRY(rag_kb__head(kb, txn, base->view, branch, &head, err));
  rag_status status = RAG_OK;
  RAG_TRY_OUT(edits_init(&e, err));
  RAG_TRY_OUT(rag_kb__find_document(kb, txn, head->revisions, op->id, &live, err));
  if (live.revision == 0) {
    status = rag_fail(err, RAG_NOT_FOUND, "document '%.*s' is not in knowledge base '%s' at c%u",
                      (int)RAG_MIN(op->id.size, (size_t)200), op->id.data, kb->name, head->commit);
    goto out;
  }
  RAG_TRY_OUT(metadata_check_parent(op, txn, head, live.revision, err));
  if (op->expected_revision != 0 && op->expected_revision != live.revision) {
    status = rag_fail(err, RAG_ABORTED, "document '%.*s' was changed meanwhile; read it again and retry",
                      (int)RAG_MIN(op->id.size, (size_t)200), op->id.data);
    goto out;
  }
  RAG_TRY_OUT(rag_kb__get_revision(kb, txn, live.revision, &record, &pin, err));
  rag_document_input in = {.id = op->id,
                           .metadata = op->metadata,
                           .source_uri = record.source_uri,
                           .source_modified_us = record.source_modified_us,
                           .effective_us = record.effective_us};
  base->result = (rag_write_result){.commit = head->commit};
  if (rag_slice_equal(record.metadata, op->metadata)) {
    base->result.unchanged = 1;
    base->unchanged = true;
    goto out;
  }
  rag_kb__document_entry entry = live;
  entry.state_digest = rag_kb__state_digest(&live.content_digest, &in);
  RAG_TRY_OUT(put_revision(base, txn, &in, &entry, err));
  op->entry = entry;
  RAG_TRY_OUT(edits_add(&e, entry.revision, 0, 0, err));
  RAG_TRY_OUT(edits_remove(&e, live.revision, 0, 0, err));
  RAG_TRY_OUT(edits_finish(&e, err));
  base->result.changed = 1;
  rag_kb__change change = {.kind = RAG_COMMIT_METADATA,
                           .branch = branch,
                           .base = head,
                           .revisions_added = e.sets[0],
                           .revisions_removed = e.sets[1],
                           .changed = 1,
                           .counts_exact = true};
  status = rag_kb__commit_write(base, txn, &change, err);
out:
  rag_value_free(&pin);
  edits_free(&e);
  rag_ref_drop(head);
  return status;
}

rag_status rag_kb_set_metadata(rag_kb *kb, const rag_write *write, rag_slice id, uint32_t expected_revision,
                               rag_slice metadata, rag_write_result *out, rag_error *err) {
  if (id.size == 0 || id.size > RAG_DOCUMENT_ID_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "id", "a document id is 1 to %u bytes", RAG_DOCUMENT_ID_BYTES_MAX);
  if (metadata.size > RAG_DOCUMENT_METADATA_BYTES_MAX || !rag_utf8_valid(metadata.data, metadata.size))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "metadata", "metadata must be a JSON object of at most %u bytes",
                          RAG_DOCUMENT_METADATA_BYTES_MAX);
  RAG_TRY(rag_kb__metadata_check(metadata, "metadata", err));
  metadata_op op = {.op = {.kb = kb, .write = write, .plan = metadata_plan, .finish = metadata_finish},
                    .id = id,
                    .metadata = metadata,
                    .expected_revision = expected_revision};
  RAG_TRY(rag_kb__run(&op.op, err));
  *out = op.op.result;
  return RAG_OK;
}
