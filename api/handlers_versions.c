// Versions: commits, branches, tags, diff, merge, rollback, gc, purge.
#include "api/dispatch_internal.h"

// What the unified diffs of one answer may hold; a document whose diff does not fit gets a note instead.
#define DIFF_TEXT_BYTES_MAX ((size_t)4 << 20)
#define DIFF_CONTEXT_LINES 3u

// ---------------------------------------------------------------------------------------------- commits

static rag_status commit_message(rag_call *call, const rag_commit_info *info, Ragd__V1__Commit **out, rag_error *err) {
  Ragd__V1__Commit *commit = API_NEW(call, commit);
  if (!commit) return rag_fail_no_memory(err, sizeof(*commit));
  commit->id = rag_api__commit_text(call, info->id);
  RAG_TRY(rag_api__new_array(call, info->parent_count, sizeof(*commit->parents), &commit->parents, err));
  for (uint32_t i = 0; i < info->parent_count; i++) commit->parents[i] = rag_api__commit_text(call, info->parents[i]);
  commit->n_parents = info->parent_count;
  commit->time = info->time_us;
  commit->author = rag_api__text_str(call, info->author);
  commit->message = rag_api__text_str(call, info->message);
  commit->kind = rag_api__text_str(call, rag_commit_kind_name(info->kind));
  commit->added = info->added;
  commit->changed = info->changed;
  commit->removed = info->removed;
  commit->counts_exact = info->counts_exact;
  commit->documents = info->documents;
  commit->chunks = info->chunks;
  commit->space = rag_api__text_str(call, info->space);
  *out = commit;
  return RAG_OK;
}

API_HANDLER(get_commit) {
  const Ragd__V1__GetCommitRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_commit_info info = {0};
  Ragd__V1__Commit *out = NULL;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_commit_get(kb, rag_slice_str(in->ref), &info, err));
  RAG_TRY_OUT(commit_message(call, &info, &out, err));
  *response = &out->base;
out:
  rag_commit_info_free(&info);
  rag_ref_drop(kb);
  return status;
}

// Positions in lists are numbers, big-endian as in keys.
static char *number_token(rag_call *call, const char *kind, const char *kb, uint64_t number) {
  unsigned char bytes[8];
  for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (unsigned char)(number >> (56 - 8 * i));
  return rag_api__page_token(call, kind, kb, rag_slice_of(bytes, sizeof(bytes)));
}

API_HANDLER(list_commits) {
  const Ragd__V1__ListCommitsRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_commit_info *infos = NULL;
  uint32_t limit, count = 0;
  uint64_t next = 0;
  rag_slice position;
  rag_status status = RAG_OK;
  RAG_TRY(rag_api__limit(in->limit_presence_case, in->limit, &limit, err));
  RAG_TRY(rag_api__page_position(call, "commits", in->kb, in->page_token, &position, err));
  rag_reader r = rag_reader_of(position);
  uint64_t below = rag_read_u64be(&r); // 0 without a token
  Ragd__V1__ListCommitsResponse *out = API_NEW(call, list_commits_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_log(kb, rag_slice_str(in->branch), below, limit, &infos, &count, &next, err));
  RAG_TRY_OUT(rag_api__new_array(call, count, sizeof(*out->commits), &out->commits, err));
  for (; out->n_commits < count; out->n_commits++)
    RAG_TRY_OUT(commit_message(call, &infos[out->n_commits], &out->commits[out->n_commits], err));
  if (next) out->next_page_token = number_token(call, "commits", in->kb, next);
  *response = &out->base;
out:
  for (uint32_t i = 0; i < count; i++) rag_commit_info_free(&infos[i]);
  rag_free(infos);
  rag_ref_drop(kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- branches and tags

static rag_status ref_message(rag_call *call, const rag_ref_info *info, Ragd__V1__Ref **out, rag_error *err) {
  Ragd__V1__Ref *ref = API_NEW(call, ref);
  if (!ref) return rag_fail_no_memory(err, sizeof(*ref));
  ref->name = rag_api__text_str(call, info->name);
  ref->commit = rag_api__commit_text(call, info->commit);
  ref->created_at = info->created_us;
  ref->moved_at = info->moved_us;
  *out = ref;
  return RAG_OK;
}

typedef rag_status (*list_refs_fn)(rag_kb *kb, rag_slice after, uint32_t limit, rag_ref_info **out, uint32_t *out_count,
                                   rag_error *err);
typedef struct ref_page {
  Ragd__V1__Ref **refs;
  size_t count;
  char *next;
} ref_page;

static rag_status list_refs(rag_call *call, list_refs_fn list, const char *kind, const char *kb_name, bool limited,
                            uint32_t limit_given, const char *token, ref_page *out, rag_error *err) {
  rag_kb *kb = NULL;
  rag_ref_info *infos = NULL;
  uint32_t limit, count = 0;
  rag_slice after;
  rag_status status = RAG_OK;
  RAG_TRY(rag_api__limit(limited, limit_given, &limit, err));
  RAG_TRY(rag_api__page_position(call, kind, kb_name, token, &after, err));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(kb_name), &kb, err));
  RAG_TRY_OUT(list(kb, after, limit, &infos, &count, err));
  RAG_TRY_OUT(rag_api__new_array(call, count, sizeof(*out->refs), &out->refs, err));
  for (; out->count < count; out->count++)
    RAG_TRY_OUT(ref_message(call, &infos[out->count], &out->refs[out->count], err));
  out->next = count == limit ? rag_api__page_token(call, kind, kb_name, rag_slice_str(infos[count - 1].name))
                             : rag_api__text_str(call, "");
out:
  rag_free(infos);
  rag_ref_drop(kb);
  return status;
}

API_HANDLER(list_branches) {
  const Ragd__V1__ListBranchesRequest *in = (const void *)request;
  ref_page page = {0};
  Ragd__V1__ListBranchesResponse *out = API_NEW(call, list_branches_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(list_refs(call, rag_kb_branches, "branches", in->kb, in->limit_presence_case, in->limit, in->page_token,
                    &page, err));
  out->branches = page.refs;
  out->n_branches = page.count;
  out->next_page_token = page.next;
  *response = &out->base;
  return RAG_OK;
}

API_HANDLER(list_tags) {
  const Ragd__V1__ListTagsRequest *in = (const void *)request;
  ref_page page = {0};
  Ragd__V1__ListTagsResponse *out = API_NEW(call, list_tags_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(list_refs(call, rag_kb_tags, "tags", in->kb, in->limit_presence_case, in->limit, in->page_token, &page, err));
  out->tags = page.refs;
  out->n_tags = page.count;
  out->next_page_token = page.next;
  *response = &out->base;
  return RAG_OK;
}

typedef rag_status (*create_ref_fn)(rag_kb *kb, const rag_write *write, rag_slice name, rag_slice from,
                                    rag_ref_info *out, rag_error *err);
typedef rag_status (*delete_ref_fn)(rag_kb *kb, rag_slice name, rag_error *err);

static rag_status create_ref(rag_call *call, create_ref_fn create, const char *kb_name, const char *name,
                             const char *from, ProtobufCMessage **response, rag_error *err) {
  rag_kb *kb = NULL;
  rag_ref_info info = {0};
  Ragd__V1__Ref *out = NULL;
  rag_status status = RAG_OK;
  rag_write write = rag_api__write_of(call, "", "", "", "");
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(kb_name), &kb, err));
  RAG_TRY_OUT(create(kb, &write, rag_slice_str(name), rag_slice_str(from), &info, err));
  RAG_TRY_OUT(ref_message(call, &info, &out, err));
  *response = &out->base;
out:
  rag_ref_drop(kb);
  return status;
}

static rag_status delete_ref(rag_call *call, delete_ref_fn remove, const char *kb_name, const char *name,
                             ProtobufCMessage **response, rag_error *err) {
  rag_kb *kb = NULL;
  Ragd__V1__Empty *out = API_NEW(call, empty);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(kb_name), &kb, err));
  rag_status status = remove(kb, rag_slice_str(name), err);
  if (status == RAG_OK) *response = &out->base;
  rag_ref_drop(kb);
  return status;
}

API_HANDLER(create_branch) {
  const Ragd__V1__CreateBranchRequest *in = (const void *)request;
  return create_ref(call, rag_kb_branch_create, in->kb, in->name, in->from, response, err);
}

API_HANDLER(delete_branch) {
  const Ragd__V1__DeleteBranchRequest *in = (const void *)request;
  return delete_ref(call, rag_kb_branch_delete, in->kb, in->name, response, err);
}

API_HANDLER(create_tag) {
  const Ragd__V1__CreateTagRequest *in = (const void *)request;
  return create_ref(call, rag_kb_tag_create, in->kb, in->name, in->from, response, err);
}

API_HANDLER(delete_tag) {
  const Ragd__V1__DeleteTagRequest *in = (const void *)request;
  return delete_ref(call, rag_kb_tag_delete, in->kb, in->name, response, err);
}

// ---------------------------------------------------------------------------------------------- diff

typedef struct diff_texts { // the unified diffs of one answer
  Ragd__V1__DiffResponse *out;
  rag_buf buf;
  size_t bytes; // so far
} diff_texts;

// A missing side (revision 0) is empty.
static rag_status text_diff(rag_kb *kb, const rag_diff_entry *entry, const char *from_label, const char *to_label,
                            rag_buf *out, rag_error *err) {
  rag_document from = {0}, to = {0};
  rag_status status = RAG_OK;
  if (entry->from_revision) RAG_TRY_OUT(rag_kb_revision_get(kb, entry->from_revision, &from, err));
  if (entry->to_revision) RAG_TRY_OUT(rag_kb_revision_get(kb, entry->to_revision, &to, err));
  RAG_TRY_OUT(rag_text_diff(from.text, to.text, from_label, to_label, DIFF_CONTEXT_LINES, out, err));
  RAG_TRY_OUT(rag_buf_check(out, err));
out:
  rag_document_free(&from);
  rag_document_free(&to);
  return status;
}

static rag_status add_text_diff(rag_call *call, diff_texts *texts, rag_kb *kb, const rag_diff_entry *entry,
                                rag_error *err) {
  Ragd__V1__TextDiff *message = API_NEW(call, text_diff);
  if (!message) return rag_fail_no_memory(err, sizeof(*message));
  message->id = rag_api__text_str(call, entry->id);
  rag_buf_clear(&texts->buf);
  if (texts->bytes < DIFF_TEXT_BYTES_MAX) {
    char *from = rag_arena_printf(call->arena, "%s@%s", entry->id, texts->out->from_commit);
    char *to = rag_arena_printf(call->arena, "%s@%s", entry->id, texts->out->to_commit);
    if (!from || !to) return rag_fail_no_memory(err, strlen(entry->id));
    RAG_TRY(text_diff(kb, entry, from, to, &texts->buf, err));
  }
  if (texts->bytes >= DIFF_TEXT_BYTES_MAX || texts->buf.size > DIFF_TEXT_BYTES_MAX - texts->bytes) {
    texts->bytes = DIFF_TEXT_BYTES_MAX; // everything after it gets the note too: what is shown has no holes
    message->diff = rag_api__text_str(call, "(not shown: the diffs of one answer are at most 4 MiB; ask with a smaller "
                                            "limit, or get both versions of the document)\n");
  } else {
    texts->bytes += texts->buf.size;
    message->diff = rag_api__text(call, rag_buf_slice(&texts->buf));
  }
  texts->out->texts[texts->out->n_texts++] = message;
  return RAG_OK;
}

// The page [first, first + count) of the entries.
static rag_status diff_page(rag_call *call, rag_kb *kb, const rag_diff *diff, size_t first, size_t count, bool text,
                            Ragd__V1__DiffResponse *out, rag_error *err) {
  diff_texts texts = {.out = out};
  rag_status status = RAG_OK;
  RAG_TRY(rag_api__new_array(call, count, sizeof(char *), &out->added, err));
  RAG_TRY(rag_api__new_array(call, count, sizeof(char *), &out->changed, err));
  RAG_TRY(rag_api__new_array(call, count, sizeof(char *), &out->removed, err));
  RAG_TRY(rag_api__new_array(call, count, sizeof(*out->texts), &out->texts, err));
  for (size_t i = first; i < first + count; i++) {
    const rag_diff_entry *entry = &diff->entries[i];
    char *id = rag_api__text_str(call, entry->id);
    switch (entry->change) {
    case RAG_CHANGE_ADDED:
      out->added[out->n_added++] = id;
      break;
    case RAG_CHANGE_CHANGED:
      out->changed[out->n_changed++] = id;
      break;
    case RAG_CHANGE_REMOVED:
      out->removed[out->n_removed++] = id;
      break;
    }
    if (text && entry->change == RAG_CHANGE_CHANGED && entry->text_changed)
      RAG_TRY_OUT(add_text_diff(call, &texts, kb, entry, err));
  }
out:
  rag_buf_free(&texts.buf);
  return status;
}

typedef struct diff_position { // of a page token
  uint64_t from, to, first;
} diff_position;

static rag_status diff_token(rag_call *call, const char *kb, diff_position at, char **out, rag_error *err) {
  rag_buf buf = {0};
  rag_buf_append_u64be(&buf, at.from);
  rag_buf_append_u64be(&buf, at.to);
  rag_buf_append_u64be(&buf, at.first);
  rag_status status = rag_buf_check(&buf, err);
  if (status == RAG_OK) *out = rag_api__page_token(call, "diff", kb, rag_buf_slice(&buf));
  rag_buf_free(&buf);
  return status;
}

API_HANDLER(diff) {
  const Ragd__V1__DiffRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_diff diff = {0};
  uint32_t limit;
  size_t first = 0;
  rag_slice position, from = rag_slice_str(in->from), to = rag_slice_str(in->to);
  rag_status status = RAG_OK;
  if (!in->from[0])
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "from",
                          "from: is missing; name the version to compare with, such as main~1, a tag or c42");
  RAG_TRY(rag_api__limit(in->limit_presence_case, in->limit, &limit, err));
  RAG_TRY(rag_api__page_position(call, "diff", in->kb, in->page_token, &position, err));
  if (position.size) { // later pages compare the commits that the first one did
    rag_reader r = rag_reader_of(position);
    from = rag_slice_str(rag_api__commit_text(call, rag_read_u64be(&r)));
    to = rag_slice_str(rag_api__commit_text(call, rag_read_u64be(&r)));
    first = (size_t)rag_read_u64be(&r);
  }
  Ragd__V1__DiffResponse *out = API_NEW(call, diff_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_diff(kb, from, to, &diff, err));
  first = RAG_MIN(first, diff.count);
  size_t count = RAG_MIN(diff.count - first, (size_t)limit);
  out->from_commit = rag_api__commit_text(call, diff.from_commit);
  out->to_commit = rag_api__commit_text(call, diff.to_commit);
  out->added_count = diff.added;
  out->changed_count = diff.changed;
  out->removed_count = diff.removed;
  RAG_TRY_OUT(diff_page(call, kb, &diff, first, count, in->text, out, err));
  if (first + count < diff.count) {
    diff_position next = {diff.from_commit, diff.to_commit, first + count};
    RAG_TRY_OUT(diff_token(call, in->kb, next, &out->next_page_token, err));
  }
  *response = &out->base;
out:
  rag_diff_free(&diff);
  rag_ref_drop(kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- merge, rollback

API_HANDLER(merge) {
  static const char *const names[] = {"fail", "ours", "theirs"}; // in the order of rag_merge_strategy
  const Ragd__V1__MergeRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_strings conflicts = {0};
  rag_write_result result = {0};
  unsigned strategy = 0;
  rag_status status = RAG_OK;
  if (!in->from[0])
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "from", "from: is missing; name the branch or version to merge");
  while (in->strategy[0] && strategy < RAG_COUNT_OF(names) && strcmp(in->strategy, names[strategy]) != 0) strategy++;
  if (strategy == RAG_COUNT_OF(names))
    return rag_api__fail_choice(err, "strategy", rag_slice_str(in->strategy), names, RAG_COUNT_OF(names));
  rag_write write = rag_api__write_of(call, in->into, in->message, in->author, "");
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_merge(kb, &write, rag_slice_str(in->from), rag_slice_str(in->into), (rag_merge_strategy)strategy,
                           &result, &conflicts, err));
  RAG_TRY_OUT(rag_api__commit_result(call, &result, response, err));
out:
  if (status == RAG_ABORTED) rag_api__conflict_details(call, &conflicts);
  rag_strings_free(&conflicts);
  rag_ref_drop(kb);
  return status;
}

API_HANDLER(rollback) {
  const Ragd__V1__RollbackRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_write_result result = {0};
  rag_status status = RAG_OK;
  if (!in->to[0])
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "to",
                          "to: is missing; name the version whose content the branch shall have again");
  rag_write write = rag_api__write_of(call, in->branch, in->message, in->author, "");
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_rollback(kb, &write, rag_slice_str(in->to), &result, err));
  RAG_TRY_OUT(rag_api__commit_result(call, &result, response, err));
out:
  rag_ref_drop(kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- retention

rag_status rag_api__answer_job(rag_call *call, uint64_t job, ProtobufCMessage **response, rag_error *err) {
  Ragd__V1__JobStarted *out = API_NEW(call, job_started);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  out->job = job;
  *response = &out->base;
  return RAG_OK;
}

API_HANDLER(gc) {
  const Ragd__V1__GcRequest *in = (const void *)request;
  rag_gc_options options = {.keep_commits = in->keep_commits, .keep_days = in->keep_days};
  rag_kb *kb = NULL;
  uint64_t job = 0;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_gc(kb, &options, &job, err));
  RAG_TRY_OUT(rag_api__answer_job(call, job, response, err));
out:
  rag_ref_drop(kb);
  return status;
}

API_HANDLER(purge) {
  const Ragd__V1__PurgeRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_slice *ids;
  uint64_t job = 0;
  rag_status status = RAG_OK;
  if (in->n_document_ids == 0 || in->n_document_ids > RAG_PUT_DOCUMENTS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "document_ids", "document_ids: needs 1 to %u ids, has %zu",
                          RAG_PUT_DOCUMENTS_MAX, in->n_document_ids);
  RAG_TRY(rag_api__new_array(call, in->n_document_ids, sizeof(*ids), &ids, err));
  for (size_t i = 0; i < in->n_document_ids; i++) ids[i] = rag_slice_str(in->document_ids[i]);
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_purge(kb, ids, (uint32_t)in->n_document_ids, &job, err));
  RAG_TRY_OUT(rag_api__answer_job(call, job, response, err));
out:
  rag_ref_drop(kb);
  return status;
}
