// Refs: a branch, a tag, a commit id (c42), REF~n (first parents), BRANCH@time. Branch and tag creation and deletion.
//
// A branch is a name for a commit and a log of where it stood; creating one writes two small rows whatever the size of
// the kb. Branches and tags share one namespace, and no name looks like a commit id.
#include "kb/kb_internal.h"

// c followed by digits only: reserved for commits.
static bool looks_like_commit(rag_slice name) {
  if (name.size < 2 || name.data[0] != 'c') return false;
  for (size_t i = 1; i < name.size; i++)
    if (name.data[i] < '0' || name.data[i] > '9') return false;
  return true;
}

static bool parse_u32(rag_slice digits, uint32_t *out) {
  uint64_t v = 0;
  if (digits.size == 0 || digits.size > 10) return false;
  for (size_t i = 0; i < digits.size; i++) {
    if (digits.data[i] < '0' || digits.data[i] > '9') return false;
    v = v * 10 + (uint64_t)(digits.data[i] - '0');
  }
  if (v > UINT32_MAX) return false;
  *out = (uint32_t)v;
  return true;
}

static rag_status bad_ref(rag_error *err, rag_slice ref) {
  return rag_fail(err, RAG_INVALID_ARGUMENT,
                  "'%.*s' is not a ref; a ref is a branch, a tag, a commit id (c42), REF~n or BRANCH@time",
                  (int)ref.size, ref.data);
}

static bool nearest_name(const rag_kb__view *view, rag_slice name, const char **out) {
  unsigned best = 3;
  *out = NULL;
  for (uint32_t i = 0; i < view->branch_count; i++) {
    unsigned distance = rag_edit_distance(name, rag_slice_str(view->branches[i].name));
    if (distance < best) best = distance, *out = view->branches[i].name;
  }
  for (uint32_t i = 0; i < view->tag_count && i < 1000; i++) {
    unsigned distance = rag_edit_distance(name, rag_slice_str(view->tags[i].name));
    if (distance < best) best = distance, *out = view->tags[i].name;
  }
  return *out != NULL;
}

static rag_status unknown_name(rag_kb *kb, const rag_kb__view *view, rag_slice name, rag_error *err) {
  const char *nearest;
  if (nearest_name(view, name, &nearest))
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' has no branch or tag '%.*s'; did you mean '%s'?", kb->name,
                    (int)name.size, name.data, nearest);
  return rag_fail(err, RAG_NOT_FOUND,
                  "knowledge base '%s' has no branch or tag '%.*s'; list them with GET /v1/kbs/%s/branches", kb->name,
                  (int)name.size, name.data, kb->name);
}

rag_status rag_kb__find_branch(rag_kb *kb, const rag_kb__view *view, rag_slice name, uint32_t *out, rag_error *err) {
  if (name.size == 0) name = rag_slice_str("main");
  int at = rag_kb__view_find_branch(view, name, NULL);
  if (at < 0) {
    if (rag_kb__view_find_tag(view, name, NULL) >= 0)
      return rag_fail(err, RAG_FAILED_PRECONDITION, "'%.*s' is a tag and cannot be written to; create a branch from it",
                      (int)name.size, name.data);
    if (!rag_name_valid(name)) return bad_ref(err, name);
    return unknown_name(kb, view, name, err);
  }
  *out = (uint32_t)at;
  return RAG_OK;
}

// The newest log row in [lower, upper): its key in *out; size 0: none. A batch is scanned forwards only, so within a
// running group the newest durable row is found first, and what follows it in the batch is few.
static rag_status newest_log_row(rag_kb *kb, rag_txn *txn, const rag_key *lower, const rag_key *upper, rag_key *out,
                                 rag_error *err) {
  rag_store_iter *it = NULL;
  rag_key from = *lower;
  rag_key_init(out);
  RAG_TRY(
      rag_store_iter_open(kb->store, NULL, RAG_CF_META, rag_key_slice(lower), rag_key_slice(upper), true, &it, err));
  if (rag_store_iter_next(it)) rag_key_raw(out, rag_store_iter_key(it).data, rag_store_iter_key(it).size);
  rag_status status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  if (status != RAG_OK || txn == NULL) return status;
  if (out->size > 0) from = *out;
  rag_key_init(out);
  RAG_TRY(rag_txn_iter_open(txn, RAG_CF_META, rag_key_slice(&from), rag_key_slice(upper), &it, err));
  while (rag_store_iter_next(it)) {
    rag_key_init(out);
    rag_key_raw(out, rag_store_iter_key(it).data, rag_store_iter_key(it).size);
  }
  status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  return status;
}

// Where a branch stood at a time: the newest log row at or before it.
static rag_status branch_at(rag_kb *kb, rag_txn *txn, const rag_kb__view *view, rag_slice name, rag_slice time,
                            uint32_t *out, rag_error *err) {
  int64_t time_us;
  RAG_TRY(rag_time_parse(time, &time_us, err));
  if (rag_kb__view_find_branch(view, name, NULL) < 0) {
    if (rag_kb__view_find_tag(view, name, NULL) >= 0)
      return rag_fail(err, RAG_INVALID_ARGUMENT, "'%.*s' is a tag, which never moves; leave out '@...'", (int)name.size,
                      name.data);
    return unknown_name(kb, view, name, err);
  }
  rag_key lower, upper, row;
  rag_kb__key_name(&lower, 'L', kb->id, name);
  rag_key_init(&row);
  if (time_us >= 0) {
    rag_kb__key_log(&upper, kb->id, name, time_us < INT64_MAX ? time_us + 1 : time_us, 0);
    RAG_TRY(newest_log_row(kb, txn, &lower, &upper, &row, err));
  }
  if (row.size == 0)
    return rag_fail(err, RAG_NOT_FOUND, "branch '%.*s' of knowledge base '%s' did not exist at %.*s", (int)name.size,
                    name.data, kb->name, (int)time.size, time.data);
  rag_reader r = rag_reader_of(rag_slice_of(row.bytes + row.size - 4, 4));
  uint32_t commit = rag_read_u32be(&r);
  // gc drops commits and leaves of each run of log rows that point at them the first, so that a time within the run is
  // not answered with what stood before it.
  rag_kb__commit record;
  rag_value pin = {0};
  rag_status status = rag_kb__get_commit(kb, txn, commit, &record, &pin, err);
  rag_value_free(&pin);
  if (status == RAG_NOT_FOUND)
    return rag_fail(err, RAG_NOT_FOUND, "where branch '%.*s' of knowledge base '%s' stood at %.*s was dropped by gc",
                    (int)name.size, name.data, kb->name, (int)time.size, time.data);
  RAG_TRY(status);
  *out = commit;
  return RAG_OK;
}

static rag_status first_parents(rag_kb *kb, rag_txn *txn, uint32_t commit, uint32_t steps, uint32_t *out,
                                rag_error *err) {
  for (uint32_t i = 0; i < steps; i++) {
    rag_kb__commit record;
    rag_value pin = {0};
    RAG_TRY(rag_kb__get_commit(kb, txn, commit, &record, &pin, err));
    uint32_t parent = record.parent_count > 0 ? record.parents[0] : 0;
    rag_value_free(&pin);
    if (parent == 0) return rag_fail(err, RAG_NOT_FOUND, "c%u has only %u first parents, not %u", commit, i, steps);
    commit = parent;
  }
  *out = commit;
  return RAG_OK;
}

rag_status rag_kb__resolve_commit(rag_kb *kb, rag_txn *txn, const rag_kb__view *view, rag_slice ref, uint32_t *out,
                                  rag_error *err) {
  if (ref.size == 0) ref = rag_slice_str("main");
  if (ref.size > RAG_REF_BYTES_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a ref is at most %u bytes", RAG_REF_BYTES_MAX);
  size_t name_end = 0;
  while (name_end < ref.size && ref.data[name_end] != '~' && ref.data[name_end] != '@') name_end++;
  rag_slice name = rag_slice_of(ref.data, name_end);
  rag_slice rest = rag_slice_of(ref.data + name_end, ref.size - name_end);
  rag_slice time = {0};
  if (rest.size > 0 && rest.data[0] == '@') {
    size_t end = 1;
    while (end < rest.size && rest.data[end] != '~') end++;
    time = rag_slice_of(rest.data + 1, end - 1);
    rest = rag_slice_of(rest.data + end, rest.size - end);
    if (time.size == 0) return bad_ref(err, ref);
  }
  uint32_t steps = 0;
  if (rest.size > 0) {
    rag_slice digits = rag_slice_of(rest.data + 1, rest.size - 1);
    if (digits.size == 0) steps = 1; // main~ is main~1
    else if (!parse_u32(digits, &steps)) return bad_ref(err, ref);
  }

  uint32_t commit = 0;
  if (looks_like_commit(name)) {
    if (time.size > 0 || !parse_u32(rag_slice_of(name.data + 1, name.size - 1), &commit)) return bad_ref(err, ref);
    if (commit == 0 || commit >= view->state.next_commit)
      return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' has no commit c%u; the newest is c%u", kb->name, commit,
                      view->state.next_commit - 1);
  } else if (!rag_name_valid(name)) {
    return bad_ref(err, ref);
  } else if (time.size > 0) {
    RAG_TRY(branch_at(kb, txn, view, name, time, &commit, err));
  } else {
    int branch = rag_kb__view_find_branch(view, name, NULL);
    int tag = branch < 0 ? rag_kb__view_find_tag(view, name, NULL) : -1;
    if (branch >= 0) commit = view->branches[branch].commit;
    else if (tag >= 0) commit = view->tags[tag].commit;
    else return unknown_name(kb, view, name, err);
  }
  if (steps > 0) RAG_TRY(first_parents(kb, txn, commit, steps, &commit, err));
  *out = commit;
  return RAG_OK;
}

rag_status rag_kb_resolve(rag_kb *kb, rag_slice ref, rag_version **out, rag_error *err) {
  rag_kb__view *view = rag_cell_get(&kb->view);
  uint32_t commit;
  rag_status status = RAG_OK;
  int branch = rag_kb__view_find_branch(view, ref.size > 0 ? ref : rag_slice_str("main"), NULL);
  if (branch >= 0) { // the common case, without parsing
    status = rag_kb__head(kb, NULL, view, (uint32_t)branch, out, err);
  } else {
    status = rag_kb__resolve_commit(kb, NULL, view, ref, &commit, err);
    if (status == RAG_OK) status = rag_kb__version(kb, NULL, commit, out, err);
  }
  rag_ref_drop(view);
  return status;
}

// ---------------------------------------------------------------------------------------------- creation, deletion

typedef struct ref_op {
  rag_kb__op op;
  rag_slice name, from;
  bool tag;
  rag_ref_info info;
} ref_op;

static rag_status check_new_name(const rag_kb__view *view, rag_slice name, rag_error *err) {
  if (!rag_name_valid(name))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "name",
                          "'%.*s' is not a name; a name is [a-z0-9][a-z0-9._-]{0,62}",
                          (int)RAG_MIN(name.size, (size_t)80), name.data);
  if (looks_like_commit(name))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "name", "'%.*s' looks like a commit id; choose another name",
                          (int)name.size, name.data);
  if (rag_kb__view_find_branch(view, name, NULL) >= 0)
    return rag_fail_field(err, RAG_ALREADY_EXISTS, "name", "a branch '%.*s' exists already", (int)name.size, name.data);
  if (rag_kb__view_find_tag(view, name, NULL) >= 0)
    return rag_fail_field(err, RAG_ALREADY_EXISTS, "name", "a tag '%.*s' exists already", (int)name.size, name.data);
  return RAG_OK;
}

static rag_status put_ref_row(rag_txn *txn, uint8_t kind, uint32_t kb, rag_slice name, uint32_t commit,
                              int64_t created_us, int64_t moved_us, rag_error *err) {
  rag_key key;
  rag_buf value = {0};
  rag_kb__key_name(&key, kind, kb, name);
  rag_kb__encode_ref(commit, created_us, moved_us, &value);
  rag_status status = rag_buf_check(&value, err);
  if (status == RAG_OK) rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_buf_slice(&value));
  rag_buf_free(&value);
  return status;
}

static rag_status ref_create_plan(rag_kb__op *base, rag_txn *txn, rag_error *err) {
  ref_op *op = (ref_op *)base;
  rag_kb__view *view = base->view;
  rag_kb *kb = base->kb;
  uint32_t at, commit;
  RAG_TRY(check_new_name(view, op->name, err));
  RAG_TRY(rag_kb__resolve_commit(kb, txn, view, op->from, &commit, err));
  // The commit row must be there: a log row or a number may name one that retention dropped.
  rag_kb__commit record;
  rag_value pin = {0};
  RAG_TRY(rag_kb__get_commit(kb, txn, commit, &record, &pin, err));
  rag_value_free(&pin);
  int64_t now = RAG_MAX(rag_clock_now_us(), view->state.last_time_us);
  view->state.last_time_us = now;
  if (op->tag) {
    if (view->tag_count >= RAG_KB_TAGS_MAX)
      return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "a knowledge base has at most %u tags; delete some",
                      RAG_KB_TAGS_MAX);
    RAG_TRY(rag_kb__view_own_tags(view, 1, err));
    (void)rag_kb__view_find_tag(view, op->name, &at);
    memmove(&view->tags[at + 1], &view->tags[at], (view->tag_count - at) * sizeof *view->tags);
    rag_kb__tag *tag = &view->tags[at];
    *tag = (rag_kb__tag){.commit = commit, .created_us = now};
    memcpy(tag->name, op->name.data, op->name.size);
    view->tag_count++;
    RAG_TRY(put_ref_row(txn, 't', kb->id, op->name, commit, now, now, err));
  } else {
    if (view->branch_count >= RAG_KB_BRANCHES_MAX)
      return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "a knowledge base has at most %u branches; delete some",
                      RAG_KB_BRANCHES_MAX);
    (void)rag_kb__view_find_branch(view, op->name, &at);
    rag_version *head = NULL; // shared with a branch that stands there
    for (uint32_t i = 0; i < view->branch_count && head == NULL; i++)
      if (view->branches[i].commit == commit) head = view->branches[i].head;
    memmove(&view->branches[at + 1], &view->branches[at], (view->branch_count - at) * sizeof *view->branches);
    rag_kb__branch *branch = &view->branches[at];
    *branch = (rag_kb__branch){.commit = commit, .created_us = now, .moved_us = now, .head = rag_ref_take(head)};
    memcpy(branch->name, op->name.data, op->name.size);
    view->branch_count++;
    RAG_TRY(put_ref_row(txn, 'b', kb->id, op->name, commit, now, now, err));
    rag_key key;
    rag_kb__key_log(&key, kb->id, op->name, now, commit);
    rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_slice_of("", 0));
  }
  op->info = (rag_ref_info){.commit = commit, .created_us = now, .moved_us = now};
  memcpy(op->info.name, op->name.data, op->name.size);
  base->result.commit = commit;
  return rag_kb__state_write(base, txn, err);
}

static rag_status ref_create(rag_kb *kb, const rag_write *write, rag_slice name, rag_slice from, bool tag,
                             rag_ref_info *out, rag_error *err) {
  ref_op op = {.op = {.kb = kb, .write = write, .plan = ref_create_plan}, .name = name, .from = from, .tag = tag};
  RAG_TRY(rag_kb__run(&op.op, err));
  if (op.op.result.replayed) { // the row as it stands now
    rag_kb__view *view = rag_cell_get(&kb->view);
    int at = tag ? rag_kb__view_find_tag(view, name, NULL) : rag_kb__view_find_branch(view, name, NULL);
    op.info = (rag_ref_info){.commit = op.op.result.commit};
    memcpy(op.info.name, name.data, RAG_MIN(name.size, (size_t)RAG_NAME_MAX));
    if (at >= 0) {
      op.info.created_us = tag ? view->tags[at].created_us : view->branches[at].created_us;
      op.info.moved_us = tag ? view->tags[at].created_us : view->branches[at].moved_us;
    }
    rag_ref_drop(view);
  }
  if (out != NULL) *out = op.info;
  return RAG_OK;
}

rag_status rag_kb_branch_create(rag_kb *kb, const rag_write *write, rag_slice name, rag_slice from, rag_ref_info *out,
                                rag_error *err) {
  return ref_create(kb, write, name, from, false, out, err);
}

rag_status rag_kb_tag_create(rag_kb *kb, const rag_write *write, rag_slice name, rag_slice from, rag_ref_info *out,
                             rag_error *err) {
  return ref_create(kb, write, name, from, true, out, err);
}

static rag_status ref_delete_plan(rag_kb__op *base, rag_txn *txn, rag_error *err) {
  ref_op *op = (ref_op *)base;
  rag_kb__view *view = base->view;
  rag_kb *kb = base->kb;
  rag_key key, upper;
  if (op->tag) {
    int at = rag_kb__view_find_tag(view, op->name, NULL);
    if (at < 0)
      return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' has no tag '%.*s'", kb->name, (int)op->name.size,
                      op->name.data);
    RAG_TRY(rag_kb__view_own_tags(view, 0, err));
    view->tag_count--;
    memmove(&view->tags[at], &view->tags[at + 1], (view->tag_count - (uint32_t)at) * sizeof *view->tags);
    rag_kb__key_name(&key, 't', kb->id, op->name);
    rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&key));
    return RAG_OK;
  }
  if (rag_slice_equal(op->name, rag_slice_str("main")))
    return rag_fail(err, RAG_FAILED_PRECONDITION, "branch 'main' cannot be deleted");
  int at = rag_kb__view_find_branch(view, op->name, NULL);
  if (at < 0)
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' has no branch '%.*s'", kb->name, (int)op->name.size,
                    op->name.data);
  rag_ref_drop(view->branches[at].head);
  view->branch_count--;
  memmove(&view->branches[at], &view->branches[at + 1], (view->branch_count - (uint32_t)at) * sizeof *view->branches);
  rag_kb__key_name(&key, 'b', kb->id, op->name);
  rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&key));
  // Its log goes with it: a branch made later under the name starts a log of its own.
  rag_kb__key_name(&key, 'L', kb->id, op->name);
  rag_store_iter *it = NULL;
  if (!rag_key_successor(&key, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a branch's log");
  RAG_TRY(rag_txn_iter_open(txn, RAG_CF_META, rag_key_slice(&key), rag_key_slice(&upper), &it, err));
  rag_buf rows = {0}; // gathered first: a batch must not change under its own iterator
  while (rag_store_iter_next(it)) rag_buf_append_bytes(&rows, rag_store_iter_key(it));
  rag_status status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  if (status == RAG_OK) status = rag_buf_check(&rows, err);
  rag_reader r = rag_reader_of(rag_buf_slice(&rows));
  while (status == RAG_OK && rag_reader_left(&r) > 0) rag_txn_delete(txn, RAG_CF_META, rag_read_bytes(&r));
  rag_buf_free(&rows);
  return status;
}

rag_status rag_kb_branch_delete(rag_kb *kb, rag_slice name, rag_error *err) {
  rag_write write = {0};
  ref_op op = {.op = {.kb = kb, .write = &write, .plan = ref_delete_plan}, .name = name};
  return rag_kb__run(&op.op, err);
}

rag_status rag_kb_tag_delete(rag_kb *kb, rag_slice name, rag_error *err) {
  rag_write write = {0};
  ref_op op = {.op = {.kb = kb, .write = &write, .plan = ref_delete_plan}, .name = name, .tag = true};
  return rag_kb__run(&op.op, err);
}

// ---------------------------------------------------------------------------------------------- listing

static rag_status list_refs(rag_kb *kb, rag_slice after, uint32_t limit, bool tags, rag_ref_info **out,
                            uint32_t *out_count, rag_error *err) {
  rag_kb__view *view = rag_cell_get(&kb->view);
  uint32_t at = 0, total = tags ? view->tag_count : view->branch_count;
  if (after.size > 0) {
    int found = tags ? rag_kb__view_find_tag(view, after, &at) : rag_kb__view_find_branch(view, after, &at);
    if (found >= 0) at++;
  }
  uint32_t count = RAG_MIN(total - at, RAG_MIN(limit, RAG_LIST_LIMIT_MAX));
  rag_ref_info *items = rag_calloc((size_t)count + 1, sizeof *items);
  rag_status status = items == NULL ? rag_fail_no_memory(err, count * sizeof *items) : RAG_OK;
  for (uint32_t i = 0; status == RAG_OK && i < count; i++) {
    if (tags) {
      const rag_kb__tag *tag = &view->tags[at + i];
      items[i] = (rag_ref_info){.commit = tag->commit, .created_us = tag->created_us, .moved_us = tag->created_us};
      memcpy(items[i].name, tag->name, sizeof tag->name);
    } else {
      const rag_kb__branch *branch = &view->branches[at + i];
      items[i] =
          (rag_ref_info){.commit = branch->commit, .created_us = branch->created_us, .moved_us = branch->moved_us};
      memcpy(items[i].name, branch->name, sizeof branch->name);
    }
  }
  rag_ref_drop(view);
  if (status != RAG_OK) return status;
  *out = items;
  *out_count = count;
  return RAG_OK;
}

rag_status rag_kb_branches(rag_kb *kb, rag_slice after, uint32_t limit, rag_ref_info **out, uint32_t *out_count,
                           rag_error *err) {
  return list_refs(kb, after, limit, false, out, out_count, err);
}

rag_status rag_kb_tags(rag_kb *kb, rag_slice after, uint32_t limit, rag_ref_info **out, uint32_t *out_count,
                       rag_error *err) {
  return list_refs(kb, after, limit, true, out, out_count, err);
}
