// Commits as callers see them: one commit, and the log (first parents from a ref down).
#include "kb/kb_internal.h"

void rag_commit_info_free(rag_commit_info *info) {
  if (info == NULL) return;
  rag_free(info->author);
  rag_free(info->message);
  rag_free(info->space);
  *info = (rag_commit_info){0};
}

static rag_status fill(rag_kb *kb, uint32_t commit, const rag_kb__commit *record, rag_commit_info *out,
                       rag_error *err) {
  rag_commit_info info = {
      .id = commit,
      .parents = {record->parents[0], record->parents[1]},
      .parent_count = record->parent_count,
      .time_us = record->time_us,
      .author = rag_strndup(record->author.data, record->author.size),
      .message = rag_strndup(record->message.data, record->message.size),
      .kind = record->kind,
      .added = record->added,
      .changed = record->changed,
      .removed = record->removed,
      .counts_exact = record->counts_exact,
      .documents = record->documents,
      .chunks = record->chunks,
      .space = rag_strdup(kb->fingerprint), // one space per kb; upgrades will name each commit's
  };
  if (info.author == NULL || info.message == NULL || info.space == NULL) {
    rag_commit_info_free(&info);
    return rag_fail_no_memory(err, 0);
  }
  *out = info;
  return RAG_OK;
}

static rag_status get_info(rag_kb *kb, uint32_t commit, rag_commit_info *out, rag_error *err) {
  rag_kb__commit record;
  rag_value pin = {0};
  RAG_TRY(rag_kb__get_commit(kb, NULL, commit, &record, &pin, err));
  rag_status status = fill(kb, commit, &record, out, err);
  rag_value_free(&pin);
  return status;
}

static rag_status resolve(rag_kb *kb, rag_slice ref, uint32_t *out, rag_error *err) {
  rag_kb__view *view = rag_cell_get(&kb->view);
  rag_status status = rag_kb__resolve_commit(kb, NULL, view, ref, out, err);
  rag_ref_drop(view);
  return status;
}

rag_status rag_kb_commit_get(rag_kb *kb, rag_slice ref, rag_commit_info *out, rag_error *err) {
  uint32_t commit;
  RAG_TRY(resolve(kb, ref, &commit, err));
  return get_info(kb, commit, out, err);
}

rag_status rag_kb_log(rag_kb *kb, rag_slice ref, uint64_t below, uint32_t limit, rag_commit_info **out,
                      uint32_t *out_count, uint64_t *out_next, rag_error *err) {
  uint32_t commit;
  limit = RAG_MIN(limit, RAG_LIST_LIMIT_MAX);
  RAG_TRY(resolve(kb, ref, &commit, err));
  if (below != 0) { // pages go on at the parent of the last one shown, which needs not be a number below
    rag_commit_info last;
    if (below > UINT32_MAX)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "page_token", "the page token is not one of ours");
    RAG_TRY(get_info(kb, (uint32_t)below, &last, err));
    commit = last.parent_count > 0 ? (uint32_t)last.parents[0] : 0;
    rag_commit_info_free(&last);
  }
  rag_commit_info *items = rag_calloc((size_t)limit + 1, sizeof *items);
  if (items == NULL) return rag_fail_no_memory(err, limit * sizeof *items);
  uint32_t count = 0;
  rag_status status = RAG_OK;
  while (commit != 0 && count < limit) {
    status = get_info(kb, commit, &items[count], count == 0 && below == 0 ? err : NULL);
    if (status == RAG_NOT_FOUND && (count > 0 || below != 0)) { // history before this was dropped by gc
      status = RAG_OK;
      commit = 0;
      break;
    }
    if (status != RAG_OK) break;
    commit = items[count].parent_count > 0 ? (uint32_t)items[count].parents[0] : 0;
    count++;
  }
  if (status != RAG_OK) {
    for (uint32_t i = 0; i < count; i++) rag_commit_info_free(&items[i]);
    rag_free(items);
    return status;
  }
  *out = items;
  *out_count = count;
  *out_next = commit != 0 && count > 0 ? items[count - 1].id : 0;
  return RAG_OK;
}
