// The plumbing of a write: from a planned operation to a durable, visible commit.
//
//   rag_kb__run -> store's group commit -> (leader) apply: idempotency, draft view, plan, rows
//                                       -> one synced batch
//                                       -> publish: the draft becomes kb->view; readers see it from now on
//
// Invariants
//  1. kb->pending is what the running group has made of the kb; it equals kb->view when no group runs.
//  2. plan works on a private copy of kb->pending, so a failed plan leaves nothing behind; and state in memory is touched
//     only after the batch has taken every row (rag_txn_check), so a request that is rolled back leaves nothing either.
//  3. Nothing is visible before it is durable: only publish writes kb->view.
// Threads: apply, publish and abandon of all kbs of a store are serialised by rag_store_commit.
#include "kb/words_internal.h"

rag_status rag_kb__write_check(const rag_write *write, rag_error *err) {
  if (write->message.size > RAG_COMMIT_MESSAGE_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "message",
                          "a commit message is at most %u bytes; this one has %zu", RAG_COMMIT_MESSAGE_BYTES_MAX,
                          write->message.size);
  if (write->author.size > RAG_COMMIT_AUTHOR_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "author", "an author is at most %u bytes; this one has %zu",
                          RAG_COMMIT_AUTHOR_BYTES_MAX, write->author.size);
  if (!rag_utf8_valid(write->message.data, write->message.size))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "message", "the message is not valid UTF-8");
  if (!rag_utf8_valid(write->author.data, write->author.size))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "author", "the author is not valid UTF-8");
  if (write->idempotency_key.size > RAG_IDEMPOTENCY_KEY_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "idempotency_key", "an idempotency key is at most %u bytes",
                          RAG_IDEMPOTENCY_KEY_BYTES_MAX);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the three callbacks

static rag_status op_apply(void *ctx, rag_txn *txn, rag_error *err) {
  rag_kb__op *op = ctx;
  rag_kb *kb = op->kb;
  if (atomic_load_explicit(&kb->deleted, memory_order_relaxed))
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", kb->name);
  bool found = false;
  RAG_TRY(rag_kb__idempotency_find(kb->store, txn, kb->id, op->write, &found, &op->result, err));
  if (found) {
    op->result.replayed = true;
    return RAG_OK;
  }
  RAG_TRY(rag_kb__view_copy(kb->pending, &op->view, err));
  rag_status status = op->plan(op, txn, err);
  if (status == RAG_OK) {
    rag_kb__idempotency_put(txn, kb->id, op->write, &op->result);
    status = rag_txn_check(txn, err);
  }
  if (status == RAG_OK && op->finish != NULL && !op->unchanged) status = op->finish(op, err);
  if (status != RAG_OK || op->unchanged) {
    rag_ref_drop(op->view);
    op->view = NULL;
    RAG_TRY(status);
  }
  if (op->view != NULL) {
    rag_ref_drop(kb->pending);
    kb->pending = rag_ref_take(op->view);
  }
  return RAG_OK;
}

static void op_publish(void *ctx) {
  rag_kb__op *op = ctx;
  if (op->view != NULL) {
    rag_cell_set(&op->kb->view, op->view);
    op->view = NULL;
  }
}

static void op_abandon(void *ctx) {
  rag_kb__op *op = ctx;
  rag_ref_drop(op->view);
  op->view = NULL;
  rag_ref_drop(op->kb->pending);
  op->kb->pending = rag_cell_get(&op->kb->view);
}

rag_status rag_kb__run(rag_kb__op *op, rag_error *err) {
  RAG_TRY(rag_kb__write_check(op->write, err));
  rag_commit_request request = {.apply = op_apply, .publish = op_publish, .abandon = op_abandon, .ctx = op};
  return rag_store_commit(op->kb->store, &request, err);
}

// ---------------------------------------------------------------------------------------------- rows of a commit

static void put_row(rag_txn *txn, rag_cf cf, const rag_key *key, const rag_buf *value) {
  rag_txn_put(txn, cf, rag_key_slice(key), rag_buf_slice(value));
}

rag_status rag_kb__state_write(rag_kb__op *op, rag_txn *txn, rag_error *err) {
  rag_key key;
  rag_buf value = {0};
  rag_kb__key_state(&key, op->kb->id);
  rag_kb__encode_state(&op->view->state, &value);
  rag_status status = rag_buf_check(&value, err);
  if (status == RAG_OK) put_row(txn, RAG_CF_META, &key, &value);
  rag_buf_free(&value);
  return status;
}

static rag_status next_set(const rag_bitmap *base, const rag_bitmap *added, const rag_bitmap *removed, rag_bitmap **out,
                           rag_error *err) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(base);
  if (edit == NULL) return rag_fail_no_memory(err, 0);
  rag_status status = RAG_OK;
  if (removed != NULL) status = rag_bitmap_edit_andnot(edit, removed);
  if (status == RAG_OK && added != NULL) status = rag_bitmap_edit_or(edit, added);
  if (status != RAG_OK) rag_bitmap_edit_destroy(edit);
  else status = rag_bitmap_edit_finish(edit, out);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

rag_status rag_kb__commit_write(rag_kb__op *op, rag_txn *txn, const rag_kb__change *change, rag_error *err) {
  rag_kb *kb = op->kb;
  rag_kb__view *view = op->view;
  rag_kb__branch *branch = &view->branches[change->branch];
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_version *version = NULL;
  rag_buf value = {0};
  rag_key key;
  rag_status status = RAG_OK;
  if (view->state.next_commit == UINT32_MAX)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                    "knowledge base '%s' has used every commit number; export and import it", kb->name);

  RAG_TRY_OUT(next_set(change->base->revisions, change->revisions_added, change->revisions_removed, &revisions, err));
  RAG_TRY_OUT(next_set(change->base->chunks, change->chunks_added, change->chunks_removed, &chunks, err));
  uint32_t number = view->state.next_commit;
  uint32_t depth = change->base->depth + 1;
  if (depth >= RAG_KB__CHECKPOINT_EVERY) depth = 0;
  version = rag_kb__version_create(kb->id, number, depth, revisions, chunks);
  revisions = chunks = NULL;
  if (version == NULL) {
    status = rag_fail_no_memory(err, sizeof *version);
    goto out;
  }
  rag_kb__version_near(kb, version, change->base);
  int64_t now = RAG_MAX(rag_clock_now_us(), view->state.last_time_us); // commit times never go back

  rag_kb__commit record = {
      .parents = {branch->commit, change->other_parent},
      .parent_count = branch->commit == 0    ? 0
                      : change->other_parent ? 2
                                             : 1,
      .time_us = now,
      .kind = change->kind,
      .author = op->write->author,
      .message = op->write->message,
      .added = change->added,
      .changed = change->changed,
      .removed = change->removed,
      .counts_exact = change->counts_exact,
      .documents = rag_version_documents(version),
      .chunks = rag_version_chunks(version),
      .space = kb->space,
  };
  rag_kb__encode_commit(&record, &value);
  RAG_TRY_OUT(rag_buf_check(&value, err));
  rag_kb__key_commit(&key, kb->id, number, 0);
  put_row(txn, RAG_CF_COMMIT, &key, &value);

  rag_kb__delta delta = {change->base->commit,    depth,
                         change->revisions_added, change->revisions_removed,
                         change->chunks_added,    change->chunks_removed};
  rag_buf_clear(&value);
  rag_kb__encode_delta(&delta, &value);
  RAG_TRY_OUT(rag_buf_check(&value, err));
  rag_kb__key_commit(&key, kb->id, number, 1);
  put_row(txn, RAG_CF_COMMIT, &key, &value);

  if (depth == 0) {
    rag_buf_clear(&value);
    rag_kb__encode_checkpoint(version->revisions, version->chunks, &value);
    RAG_TRY_OUT(rag_buf_check(&value, err));
    rag_kb__key_u32(&key, kb->id, number);
    put_row(txn, RAG_CF_BITMAP, &key, &value);
  }

  view->state.next_commit = number + 1;
  view->state.last_time_us = now;
  branch->commit = number;
  branch->moved_us = now;
  rag_ref_drop(branch->head);
  branch->head = version;
  version = NULL;

  rag_slice name = rag_slice_str(branch->name);
  rag_buf_clear(&value);
  rag_kb__encode_ref(number, branch->created_us, now, &value);
  RAG_TRY_OUT(rag_buf_check(&value, err));
  rag_kb__key_name(&key, 'b', kb->id, name);
  put_row(txn, RAG_CF_META, &key, &value);
  rag_kb__key_log(&key, kb->id, name, now, number);
  rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_slice_of("", 0));
  RAG_TRY_OUT(rag_kb__state_write(op, txn, err));
  op->result.commit = number;
  op->result.committed = true;
out:
  rag_ref_drop(version);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  rag_buf_free(&value);
  return status;
}
