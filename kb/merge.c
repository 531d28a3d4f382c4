// Three-way merge and rollback.
//
// Merge takes, for every document that `from` changed since the merge base, from's revision, unless `into` changed it
// too, to something else: a conflict, decided by the strategy or reported by id. Equal changes on both sides are no
// conflict. The merge base is the newest common ancestor; commit numbers only grow from parent to child, so it is found
// by always expanding the greatest number of either side.
#include "kb/kb_internal.h"

#include <stdlib.h>

// ---------------------------------------------------------------------------------------------- merge base

typedef struct frontier { // a max-heap of commits, each marked by the sides that reached it
  struct item {
    uint32_t commit;
    uint8_t sides;
  } * items;
  size_t count, capacity;
} frontier;

static rag_status frontier_push(frontier *f, uint32_t commit, uint8_t sides, rag_error *err) {
  if (f->count == f->capacity) {
    size_t capacity = f->capacity ? f->capacity * 2 : 64;
    struct item *items = rag_realloc_array(f->items, capacity, sizeof *items);
    if (items == NULL) return rag_fail_no_memory(err, capacity * sizeof *items);
    f->items = items;
    f->capacity = capacity;
  }
  size_t at = f->count++;
  while (at > 0 && f->items[(at - 1) / 2].commit < commit) {
    f->items[at] = f->items[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  f->items[at] = (struct item){commit, sides};
  return RAG_OK;
}

static struct item frontier_pop(frontier *f) {
  struct item top = f->items[0], last = f->items[--f->count];
  size_t at = 0;
  while (2 * at + 1 < f->count) {
    size_t child = 2 * at + 1;
    if (child + 1 < f->count && f->items[child + 1].commit > f->items[child].commit) child++;
    if (f->items[child].commit <= last.commit) break;
    f->items[at] = f->items[child];
    at = child;
  }
  if (f->count > 0) f->items[at] = last;
  return top;
}

rag_status rag_kb__merge_base(rag_kb *kb, rag_txn *txn, uint32_t a, uint32_t b, uint32_t *out, rag_error *err) {
  frontier f = {0};
  rag_status status = RAG_OK;
  *out = 0;
  RAG_TRY_OUT(frontier_push(&f, a, 1, err));
  RAG_TRY_OUT(frontier_push(&f, b, 2, err));
  while (f.count > 0) {
    struct item top = frontier_pop(&f);
    while (f.count > 0 && f.items[0].commit == top.commit) top.sides |= frontier_pop(&f).sides;
    rag_kb__commit record;
    rag_value pin = {0};
    status = rag_kb__get_commit(kb, txn, top.commit, &record, &pin, NULL);
    if (status == RAG_NOT_FOUND) { // dropped by retention, be it where both met: who comes here names kept ones behind
      status = RAG_OK;
      continue;
    }
    if (status != RAG_OK) {
      status = rag_fail(err, status, "commit c%u of knowledge base '%s' cannot be read", top.commit, kb->name);
      goto out;
    }
    if (top.sides == 3) {
      rag_value_free(&pin);
      *out = top.commit;
      break;
    }
    for (uint32_t i = 0; status == RAG_OK && i < record.parent_count; i++)
      status = frontier_push(&f, record.parents[i], top.sides, err);
    rag_reader behind = rag_reader_of(record.ancestors); // of parents that retention dropped
    while (status == RAG_OK && rag_reader_left(&behind) > 0)
      status = frontier_push(&f, (uint32_t)rag_read_varint(&behind), top.sides, err);
    rag_value_free(&pin);
    if (status != RAG_OK) goto out;
  }
out:
  rag_free(f.items);
  return status;
}

// ---------------------------------------------------------------------------------------------- merge

typedef struct merge_op {
  rag_kb__op op;
  rag_slice from, into;
  rag_merge_strategy strategy;
  rag_strings *conflicts;
} merge_op;

typedef struct merge_sets {
  rag_bitmap_edit *edits[4]; // revisions added, removed, chunks added, removed
  rag_bitmap *sets[4];
} merge_sets;

static rag_status add_record(rag_kb *kb, rag_txn *txn, uint32_t revision, rag_bitmap_edit *revisions,
                             rag_bitmap_edit *chunks, rag_error *err) {
  rag_kb__revision record;
  rag_value pin = {0};
  if (revision == 0) return RAG_OK;
  RAG_TRY(rag_kb__get_revision(kb, txn, revision, &record, &pin, err));
  rag_status status = rag_bitmap_edit_add(revisions, revision);
  if (status == RAG_OK) status = rag_bitmap_edit_add_range(chunks, record.first_chunk, record.chunk_count);
  rag_value_free(&pin);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// Revisions numbered apart may hold the same state (made on two branches).
static rag_status same_state(rag_kb *kb, rag_txn *txn, rag_slice id, uint32_t a, uint32_t b, bool *out,
                             rag_error *err) {
  *out = a == b;
  if (a == b || a == 0 || b == 0) return RAG_OK;
  rag_digest digests[2];
  uint32_t revisions[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    rag_key key;
    rag_value value = {0};
    rag_kb__document_entry entry;
    rag_kb__key_document(&key, kb->id, id, revisions[i]);
    rag_status status = rag_kb__get(kb, txn, RAG_CF_DOCUMENT, rag_key_slice(&key), &value, err);
    bool decoded = status == RAG_OK && rag_kb__decode_document(value.slice, &entry);
    rag_value_free(&value);
    if (status == RAG_NOT_FOUND || (status == RAG_OK && !decoded))
      return rag_kb__corrupt(err, RAG_CF_DOCUMENT, rag_key_slice(&key));
    RAG_TRY(status);
    digests[i] = entry.state_digest;
  }
  *out = rag_digest_equal(&digests[0], &digests[1]);
  return RAG_OK;
}

static const rag_diff_entry *find_entry(const rag_diff *diff, const char *id) {
  size_t low = 0, high = diff->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = strcmp(diff->entries[middle].id, id);
    if (order == 0) return &diff->entries[middle];
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return NULL;
}

static rag_status merge_documents(merge_op *op, rag_txn *txn, const rag_diff *theirs, const rag_diff *ours,
                                  merge_sets *m, rag_kb__change *change, size_t *conflicts, rag_error *err) {
  rag_kb *kb = op->op.kb;
  for (size_t i = 0; i < theirs->count; i++) {
    const rag_diff_entry *entry = &theirs->entries[i];
    const rag_diff_entry *other = find_entry(ours, entry->id);
    uint32_t ours_revision = other ? other->to_revision : entry->from_revision; // what `into` has now; 0: nothing
    bool same;
    // A change that was taken back by another change is none, though the revision is another.
    if (entry->from_revision != 0 && entry->to_revision != 0) {
      RAG_TRY(same_state(kb, txn, rag_slice_str(entry->id), entry->from_revision, entry->to_revision, &same, err));
      if (same) continue;
    }
    if (other != NULL && other->from_revision != 0 && other->to_revision != 0) {
      RAG_TRY(same_state(kb, txn, rag_slice_str(entry->id), other->from_revision, other->to_revision, &same, err));
      if (same) other = NULL;
    }
    if (other != NULL) {
      RAG_TRY(same_state(kb, txn, rag_slice_str(entry->id), entry->to_revision, other->to_revision, &same, err));
      if (same) continue;
      if (op->strategy == RAG_MERGE_OURS) continue;
      if (op->strategy == RAG_MERGE_FAIL) {
        (*conflicts)++;
        if (op->conflicts != NULL) RAG_TRY(rag_strings_add(op->conflicts, rag_slice_str(entry->id), err));
        continue;
      }
    }
    RAG_TRY(add_record(kb, txn, ours_revision, m->edits[1], m->edits[3], err));
    RAG_TRY(add_record(kb, txn, entry->to_revision, m->edits[0], m->edits[2], err));
    if (ours_revision == 0) change->added += entry->to_revision != 0;
    else if (entry->to_revision == 0) change->removed++;
    else change->changed++;
  }
  return RAG_OK;
}

static rag_status merge_plan(rag_kb__op *base, rag_txn *txn, rag_error *err) {
  merge_op *op = (merge_op *)base;
  rag_kb *kb = base->kb;
  uint32_t into, from_commit, base_commit;
  rag_version *head = NULL, *from = NULL, *ancestor = NULL;
  rag_diff theirs = {0}, ours = {0};
  merge_sets m = {{0}, {0}};
  size_t conflicts = 0;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb__find_branch(kb, base->view, op->into, &into, err));
  RAG_TRY(rag_kb__resolve_commit(kb, txn, base->view, op->from, &from_commit, err));
  RAG_TRY(rag_kb__head(kb, txn, base->view, into, &head, err));
  RAG_TRY_OUT(rag_kb__merge_base(kb, txn, from_commit, head->commit, &base_commit, err));
  base->result = (rag_write_result){.commit = head->commit};
  if (base_commit == from_commit) { // `into` has all of `from`
    base->unchanged = true;
    goto out;
  }
  if (base_commit == 0) {
    status = rag_fail(err, RAG_FAILED_PRECONDITION,
                      "c%u and c%u have no common ancestor any more (dropped by gc); they cannot be merged",
                      from_commit, head->commit);
    goto out;
  }
  RAG_TRY_OUT(rag_kb__version(kb, txn, from_commit, &from, err));
  RAG_TRY_OUT(rag_kb__version(kb, txn, base_commit, &ancestor, err));
  RAG_TRY_OUT(rag_kb__diff_versions(kb, txn, ancestor, from, &theirs, err));
  RAG_TRY_OUT(rag_kb__diff_versions(kb, txn, ancestor, head, &ours, err));
  for (int i = 0; i < 4; i++) {
    if ((m.edits[i] = rag_bitmap_edit_create(NULL)) != NULL) continue;
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  rag_kb__change change = {
      .kind = RAG_COMMIT_MERGE, .branch = into, .base = head, .other_parent = from_commit, .counts_exact = true};
  RAG_TRY_OUT(merge_documents(op, txn, &theirs, &ours, &m, &change, &conflicts, err));
  if (conflicts > 0) {
    status = rag_fail(err, RAG_ABORTED,
                      "%zu document%s changed on both sides since c%u; merge with strategy 'ours' (keep %.*s) or "
                      "'theirs' (take %.*s), or put the resolved documents first",
                      conflicts, conflicts == 1 ? "" : "s", base_commit, (int)op->into.size, op->into.data,
                      (int)op->from.size, op->from.data);
    goto out;
  }
  for (int i = 0; i < 4; i++) {
    rag_bitmap_edit *edit = m.edits[i];
    m.edits[i] = NULL;
    if (rag_bitmap_edit_finish(edit, &m.sets[i]) == RAG_OK) continue;
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  change.revisions_added = m.sets[0];
  change.revisions_removed = m.sets[1];
  change.chunks_added = m.sets[2];
  change.chunks_removed = m.sets[3];
  base->result.added = change.added;
  base->result.changed = change.changed;
  base->result.removed = change.removed;
  status = rag_kb__commit_write(base, txn, &change, err);
out:
  for (int i = 0; i < 4; i++) {
    rag_bitmap_edit_destroy(m.edits[i]);
    rag_ref_drop(m.sets[i]);
  }
  rag_diff_free(&theirs);
  rag_diff_free(&ours);
  rag_ref_drop(head);
  rag_ref_drop(from);
  rag_ref_drop(ancestor);
  return status;
}

rag_status rag_kb_merge(rag_kb *kb, const rag_write *write, rag_slice from, rag_slice into, rag_merge_strategy strategy,
                        rag_write_result *out, rag_strings *conflicts, rag_error *err) {
  if (from.size == 0)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "from",
                          "'from' is missing; name the branch, tag or commit to merge");
  if (into.size == 0) into = rag_slice_str("main");
  merge_op op = {.op = {.kb = kb, .write = write, .plan = merge_plan},
                 .from = from,
                 .into = into,
                 .strategy = strategy,
                 .conflicts = conflicts};
  RAG_TRY(rag_kb__run(&op.op, err));
  *out = op.op.result;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- rollback

typedef struct rollback_op {
  rag_kb__op op;
  rag_slice to;
} rollback_op;

// Rolling back costs nothing however far: the new commit's base is the target. Its counts are exact up to so many
// differing revisions, beyond which telling an addition from a change would read rows in proportion.
#define ROLLBACK_COUNT_MAX 256u

static rag_status rollback_plan(rag_kb__op *base, rag_txn *txn, rag_error *err) {
  rollback_op *op = (rollback_op *)base;
  rag_kb *kb = base->kb;
  uint32_t branch, to_commit;
  rag_version *head = NULL, *to = NULL;
  rag_diff diff = {0};
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb__find_branch(kb, base->view, base->write->branch, &branch, err));
  RAG_TRY(rag_kb__resolve_commit(kb, txn, base->view, op->to, &to_commit, err));
  RAG_TRY(rag_kb__head(kb, txn, base->view, branch, &head, err));
  RAG_TRY_OUT(rag_kb__version(kb, txn, to_commit, &to, err));
  base->result = (rag_write_result){.commit = head->commit};
  if (rag_bitmap_equal(head->revisions, to->revisions)) {
    base->unchanged = true;
    goto out;
  }
  uint64_t shared = rag_bitmap_and_count(head->revisions, to->revisions);
  rag_kb__change change = {.kind = RAG_COMMIT_ROLLBACK,
                           .branch = branch,
                           .base = to,
                           .added = rag_bitmap_count(to->revisions) - shared,
                           .removed = rag_bitmap_count(head->revisions) - shared};
  if (change.added + change.removed <= ROLLBACK_COUNT_MAX) {
    RAG_TRY_OUT(rag_kb__diff_versions(kb, txn, head, to, &diff, err));
    change.added = diff.added;
    change.changed = diff.changed;
    change.removed = diff.removed;
    change.counts_exact = true;
  }
  base->result.added = change.added;
  base->result.changed = change.changed;
  base->result.removed = change.removed;
  status = rag_kb__commit_write(base, txn, &change, err);
out:
  rag_diff_free(&diff);
  rag_ref_drop(head);
  rag_ref_drop(to);
  return status;
}

rag_status rag_kb_rollback(rag_kb *kb, const rag_write *write, rag_slice to, rag_write_result *out, rag_error *err) {
  if (to.size == 0)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "to",
                          "'to' is missing; name the commit, tag or branch to go back to");
  rollback_op op = {.op = {.kb = kb, .write = write, .plan = rollback_plan}, .to = to};
  RAG_TRY(rag_kb__run(&op.op, err));
  *out = op.op.result;
  return RAG_OK;
}
