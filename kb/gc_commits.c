// gc, first part: commits. Kept commits are made independent of dropped ones, then the dropped go, then log rows that
// point at them.
//
// Invariants, after every batch, so also after a crash
//  1. Every commit that is stored materialises to what it was: a kept commit whose delta was against a dropped one is
//     written anew (against the nearest kept base of its chain, or as a checkpoint) before any commit goes; and the
//     dropped go from the newest to the oldest, so that what is still there has its bases.
//  2. A chain never gets longer: a rewritten commit's depth is at most what it was, so the limit of CHECKPOINT_EVERY
//     holds for it and for what is based on it.
//  3. Of every run of log rows that point at dropped commits the first stays (refs.c says why).
//
// Writers go on meanwhile. A commit or a ref that was made after the plan and needs a dropped commit that is still there
// is found in apply: then nothing is dropped by that batch, and the plan is made anew. A purge between reading a version
// and writing its new delta is found by the kb's history mark, likewise.
#include <time.h>

#include "kb/rewrite_internal.h"

#define BATCH_BYTES (4u << 20)
#define PLANS_MAX 64u // each is made anew only because somebody used a dropped commit at that moment

uint32_t rag_kb__gc_batch = 1024;

typedef struct batch {
  rag_kb__rewrite rewrite;
  rag_kb__gc_run_state *run;
  rag_kb__gc_plan *plan;
  rag_buf rows; // to put: column family u8, key bytes, value bytes; or log keys to delete
  uint32_t row_count;
  uint64_t mark;       // of history, before the versions were read
  size_t first, count; // of plan->commits: the range of a batch of drops
  bool stale;          // the plan must be made anew
} batch;

// ---------------------------------------------------------------------------------------------- kept commits

static void add_row(batch *b, rag_cf cf, const rag_key *key, const rag_buf *value) {
  if (value->failed) b->rows.failed = true;
  rag_buf_append_u8(&b->rows, (uint8_t)cf);
  rag_buf_append_bytes(&b->rows, rag_key_slice(key));
  rag_buf_append_bytes(&b->rows, rag_buf_slice(value));
  b->row_count++;
}

static rag_status write_plan(rag_kb__rewrite *rewrite, rag_txn *txn, rag_error *err) {
  batch *b = (batch *)rewrite;
  if (!rag_kb__history_unchanged(rewrite->kb, b->mark)) {
    b->stale = true;
    return rag_fail(err, RAG_ABORTED, "history was rewritten meanwhile");
  }
  rag_reader r = rag_reader_of(rag_buf_slice(&b->rows));
  while (rag_reader_left(&r) > 0) {
    rag_cf cf = (rag_cf)rag_read_u8(&r);
    rag_slice key = rag_read_bytes(&r), value = rag_read_bytes(&r);
    rag_txn_put(txn, cf, key, value);
  }
  return rag_kb__gc_save(b->run, txn, err);
}

static rag_status flush_rows(batch *b, rag_error *err) {
  if (b->row_count == 0) return RAG_OK;
  RAG_TRY(rag_buf_check(&b->rows, err));
  b->rewrite.plan = write_plan;
  rag_status status = rag_kb__rewrite_run(&b->rewrite, err);
  rag_buf_clear(&b->rows);
  b->row_count = 0;
  if (status == RAG_ABORTED && b->stale) return RAG_OK;
  RAG_TRY(status);
  return rag_kb__gc_go_on(b->run, err);
}

static void add_delta(batch *b, uint32_t commit, const rag_kb__delta *delta) {
  rag_key key;
  rag_buf value = {0};
  rag_kb__key_commit(&key, b->rewrite.kb->id, commit, 1);
  rag_kb__encode_delta(delta, &value);
  add_row(b, RAG_CF_COMMIT, &key, &value);
  rag_buf_free(&value);
}

static void add_checkpoint(batch *b, rag_kb__gc_commit *commit, const rag_version *version) {
  rag_key key;
  rag_buf value = {0};
  rag_kb__key_u32(&key, b->rewrite.kb->id, commit->number);
  rag_kb__encode_checkpoint(version->revisions, version->chunks, &value);
  add_row(b, RAG_CF_BITMAP, &key, &value);
  rag_buf_free(&value);
  add_delta(b, commit->number, &(rag_kb__delta){0});
  commit->base = commit->depth = 0;
}

// The nearest kept commit down the chain, before any dropped checkpoint; NULL: none.
static rag_kb__gc_commit *kept_base(const rag_kb__gc_plan *plan, const rag_kb__gc_commit *commit) {
  rag_kb__gc_commit *at = rag_kb__gc_find(plan, commit->base);
  while (at != NULL && !at->kept) at = at->depth == 0 ? NULL : rag_kb__gc_find(plan, at->base);
  return at;
}

static rag_status add_rebased(batch *b, rag_kb__gc_commit *commit, rag_error *err) {
  rag_kb *kb = b->rewrite.kb;
  rag_version *version = NULL, *base_version = NULL;
  rag_kb__gc_commit *base = kept_base(b->plan, commit);
  rag_kb__delta delta = {.base = base ? base->number : 0, .depth = base ? base->depth + 1 : 0};
  rag_status status = RAG_OK;
  if (commit->depth == 0) { // its checkpoint is all it needs
    add_delta(b, commit->number, &(rag_kb__delta){0});
    commit->base = 0;
    return RAG_OK;
  }
  RAG_TRY_OUT(rag_kb__version(kb, NULL, commit->number, &version, err));
  if (base == NULL) {
    add_checkpoint(b, commit, version);
    goto out;
  }
  RAG_TRY_OUT(rag_kb__version(kb, NULL, base->number, &base_version, err));
  if (rag_bitmap_andnot(version->revisions, base_version->revisions, &delta.revisions_added) != RAG_OK ||
      rag_bitmap_andnot(base_version->revisions, version->revisions, &delta.revisions_removed) != RAG_OK ||
      rag_bitmap_andnot(version->chunks, base_version->chunks, &delta.chunks_added) != RAG_OK ||
      rag_bitmap_andnot(base_version->chunks, version->chunks, &delta.chunks_removed) != RAG_OK) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  if (rag_bitmap_count(delta.revisions_added) + rag_bitmap_count(delta.revisions_removed) >
      rag_bitmap_count(version->revisions)) {
    add_checkpoint(b, commit, version); // smaller than the folded delta
    goto out;
  }
  add_delta(b, commit->number, &delta);
  commit->base = delta.base;
  commit->depth = delta.depth;
out:
  rag_kb__delta_free(&delta);
  rag_ref_drop(version);
  rag_ref_drop(base_version);
  return status;
}

static rag_status add_ancestors(batch *b, const rag_kb__gc_commit *commit, rag_error *err) {
  rag_kb *kb = b->rewrite.kb;
  rag_buf ancestors = {0}, value = {0};
  rag_kb__commit record;
  rag_value pin = {0};
  rag_key key;
  bool changed = false;
  rag_status status = rag_kb__gc_ancestors(b->plan, commit, &ancestors, &changed, err);
  if (status == RAG_OK && changed) {
    status = rag_kb__get_commit(kb, NULL, commit->number, &record, &pin, err);
    if (status == RAG_OK) {
      record.ancestors = rag_buf_slice(&ancestors);
      rag_kb__encode_commit(&record, &value);
      rag_kb__key_commit(&key, kb->id, commit->number, 0);
      add_row(b, RAG_CF_COMMIT, &key, &value);
    }
    rag_value_free(&pin);
  }
  rag_buf_free(&ancestors);
  rag_buf_free(&value);
  return status;
}

static rag_status write_kept(batch *b, rag_error *err) {
  rag_kb__gc_plan *plan = b->plan;
  b->mark = rag_kb__history_mark(b->rewrite.kb);
  for (size_t i = 0; i < plan->count && !b->stale; i++) { // bases before what is based on them
    rag_kb__gc_commit *commit = &plan->commits[i];
    if (!commit->kept) continue;
    const rag_kb__gc_commit *base = commit->base != 0 ? rag_kb__gc_find(plan, commit->base) : NULL;
    if (commit->base != 0 && (base == NULL || !base->kept)) RAG_TRY(add_rebased(b, commit, err));
    RAG_TRY(add_ancestors(b, commit, err));
    if (b->row_count >= rag_kb__gc_batch || b->rows.size >= BATCH_BYTES) RAG_TRY(flush_rows(b, err));
  }
  return b->stale ? RAG_OK : flush_rows(b, err);
}

// ---------------------------------------------------------------------------------------------- dropped commits

static bool is_dropped(const rag_kb__gc_plan *plan, uint32_t number) {
  const rag_kb__gc_commit *commit = number != 0 && number < plan->limit ? rag_kb__gc_find(plan, number) : NULL;
  return commit != NULL && !commit->kept;
}

// Whether a ref or a commit made since the plan needs a commit that the plan drops.
static rag_status find_references(const batch *b, rag_txn *txn, bool *out, rag_error *err) {
  const rag_kb__view *view = b->rewrite.view;
  rag_kb *kb = b->rewrite.kb;
  *out = false;
  for (uint32_t i = 0; i < view->branch_count; i++) *out |= is_dropped(b->plan, view->branches[i].commit);
  for (uint32_t i = 0; i < view->tag_count; i++) *out |= is_dropped(b->plan, view->tags[i].commit);
  for (uint32_t number = b->plan->checked; !*out && number < view->state.next_commit; number++) {
    rag_kb__commit record;
    rag_value pin = {0};
    rag_key key;
    uint32_t base = 0, depth = 0;
    RAG_TRY(rag_kb__get_commit(kb, txn, number, &record, &pin, err));
    *out |= is_dropped(b->plan, record.parents[0]) || is_dropped(b->plan, record.parents[1]);
    rag_value_free(&pin);
    rag_kb__key_commit(&key, kb->id, number, 1);
    RAG_TRY(rag_kb__get(kb, txn, RAG_CF_COMMIT, rag_key_slice(&key), &pin, err));
    bool good = rag_kb__decode_delta_head(pin.slice, &base, &depth);
    rag_value_free(&pin);
    if (!good) return rag_kb__corrupt(err, RAG_CF_COMMIT, rag_key_slice(&key));
    *out |= is_dropped(b->plan, base);
  }
  b->plan->checked = view->state.next_commit;
  return RAG_OK;
}

static rag_status drop_plan(rag_kb__rewrite *rewrite, rag_txn *txn, rag_error *err) {
  batch *b = (batch *)rewrite;
  RAG_TRY(find_references(b, txn, &b->stale, err));
  if (b->stale) return rag_fail(err, RAG_ABORTED, "a dropped commit was used meanwhile");
  uint64_t before = b->run->commits;
  for (size_t i = b->first; i < b->first + b->count; i++) {
    const rag_kb__gc_commit *commit = &b->plan->commits[i];
    rag_key key;
    if (commit->kept) continue;
    for (uint8_t row = 0; row < 2; row++) {
      rag_kb__key_commit(&key, rewrite->kb->id, commit->number, row);
      rag_txn_delete(txn, RAG_CF_COMMIT, rag_key_slice(&key));
    }
    if (commit->depth == 0) {
      rag_kb__key_u32(&key, rewrite->kb->id, commit->number);
      rag_txn_delete(txn, RAG_CF_BITMAP, rag_key_slice(&key));
    }
    b->run->commits++;
  }
  rag_status status = rag_kb__gc_save(b->run, txn, err);
  if (status != RAG_OK) b->run->commits = before;
  return status;
}

static rag_status drop(batch *b, rag_error *err) { // from the newest
  b->rewrite.plan = drop_plan;
  b->rewrite.versions = true;
  size_t end = b->plan->count;
  while (end > 0) {
    uint32_t dropped = 0;
    b->first = end;
    while (b->first > 0 && dropped < rag_kb__gc_batch) dropped += !b->plan->commits[--b->first].kept;
    b->count = end - b->first;
    end = b->first;
    if (dropped == 0) break;
    rag_status status = rag_kb__rewrite_run(&b->rewrite, err);
    if (status == RAG_ABORTED && b->stale) return RAG_OK;
    RAG_TRY(status);
    RAG_TRY(rag_kb__gc_go_on(b->run, err));
  }
  return RAG_OK;
}

rag_status rag_kb__gc_commits(rag_kb__gc_run_state *run, rag_error *err) {
  for (unsigned round = 0; round < PLANS_MAX; round++) {
    rag_kb__gc_plan plan = {0};
    batch b = {.rewrite = {.kb = run->kb}, .run = run, .plan = &plan};
    RAG_TRY(rag_kb__gc_plan_make(run->kb, &run->options, &plan, err));
    rag_status status = write_kept(&b, err);
    if (status == RAG_OK && !b.stale) status = drop(&b, err);
    rag_buf_free(&b.rows);
    rag_kb__gc_plan_free(&plan);
    if (status != RAG_OK || !b.stale) return status;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return rag_fail(err, RAG_UNAVAILABLE, "commits that gc drops were used again each of %u times; run gc again",
                  PLANS_MAX);
}

// ---------------------------------------------------------------------------------------------- logs

static rag_status delete_plan(rag_kb__rewrite *rewrite, rag_txn *txn, rag_error *err) {
  batch *b = (batch *)rewrite;
  rag_reader r = rag_reader_of(rag_buf_slice(&b->rows));
  while (rag_reader_left(&r) > 0) rag_txn_delete(txn, RAG_CF_META, rag_read_bytes(&r));
  return rag_kb__gc_save(b->run, txn, err);
}

static rag_status flush_logs(batch *b, rag_error *err) {
  if (b->row_count == 0) return RAG_OK;
  RAG_TRY(rag_buf_check(&b->rows, err));
  b->rewrite.plan = delete_plan;
  RAG_TRY(rag_kb__rewrite_run(&b->rewrite, err));
  rag_buf_clear(&b->rows);
  b->row_count = 0;
  return rag_kb__gc_go_on(b->run, err);
}

static rag_status stored_commits(rag_kb *kb, rag_bitmap_edit *out, rag_error *err) {
  rag_key lower, upper;
  rag_store_iter *it = NULL;
  rag_kb__key_u32(&lower, kb->id, 0);
  if (!rag_key_successor(
          &(rag_key){.size = 4, .bytes = {lower.bytes[0], lower.bytes[1], lower.bytes[2], lower.bytes[3]}}, &upper))
    return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's commits");
  RAG_TRY(rag_store_iter_open(kb->store, NULL, RAG_CF_COMMIT, rag_key_slice(&lower), rag_key_slice(&upper), false, &it,
                              err));
  rag_status status = RAG_OK;
  while (status == RAG_OK && rag_store_iter_next(it)) {
    rag_reader r = rag_reader_of(rag_store_iter_key(it));
    (void)rag_read_u32be(&r);
    if (rag_bitmap_edit_add(out, rag_read_u32be(&r)) != RAG_OK) status = rag_fail_no_memory(err, 0);
  }
  if (status == RAG_OK) status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  return status;
}

rag_status rag_kb__gc_logs(rag_kb__gc_run_state *run, rag_error *err) {
  rag_kb *kb = run->kb;
  batch b = {.rewrite = {.kb = kb}, .run = run};
  rag_store_iter *it = NULL;
  rag_buf branch = {0}; // the key prefix of the branch whose rows are being read
  bool after_dropped = false;
  rag_key lower, upper;
  rag_kb__view *view = rag_cell_get(&kb->view);
  uint32_t limit = view->state.next_commit; // newer commits are all there
  rag_ref_drop(view);
  rag_bitmap_edit *stored = rag_bitmap_edit_create(NULL);
  rag_status status = stored == NULL ? rag_fail_no_memory(err, 0) : stored_commits(kb, stored, err);
  if (status != RAG_OK) goto out;
  rag_key_init(&lower);
  rag_key_u8(&lower, 'L');
  rag_key_u32(&lower, kb->id);
  if (!rag_key_successor(&lower, &upper)) {
    status = rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's logs");
    goto out;
  }
  RAG_TRY_OUT(
      rag_store_iter_open(kb->store, NULL, RAG_CF_META, rag_key_slice(&lower), rag_key_slice(&upper), false, &it, err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it);
    if (key.size < 12) {
      status = rag_kb__corrupt(err, RAG_CF_META, key);
      goto out;
    }
    rag_slice name = rag_slice_of(key.data, key.size - 12);
    rag_reader r = rag_reader_of(rag_slice_of(key.data + key.size - 4, 4));
    uint32_t commit = rag_read_u32be(&r);
    bool dropped = commit < limit && !rag_bitmap_edit_has(stored, commit);
    if (!rag_slice_equal(name, rag_buf_slice(&branch))) {
      rag_buf_clear(&branch);
      rag_buf_append(&branch, name.data, name.size);
      RAG_TRY_OUT(rag_buf_check(&branch, err));
      after_dropped = false;
    }
    if (dropped && after_dropped) {
      rag_buf_append_bytes(&b.rows, key);
      b.row_count++;
    }
    after_dropped = dropped;
    if (b.row_count >= rag_kb__gc_batch) RAG_TRY_OUT(flush_logs(&b, err));
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  status = flush_logs(&b, err);
out:
  rag_store_iter_close(it);
  rag_bitmap_edit_destroy(stored);
  rag_buf_free(&branch);
  rag_buf_free(&b.rows);
  return status;
}
