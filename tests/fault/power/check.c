// Does an open knowledge base agree with the model? Every function stops at the first thing that does not, and says it.
// Used by the parent on what a disk would hold, and by the child, which must go on answering after a fault.
#include "tests/fault/power/model.h"

#include <stdio.h>

#define PAGE 100u
#define COMMITS_MAX 100000u

static bool differs(rag_error *err, const char *at, const char *id, const char *what) {
  (void)rag_fail(err, RAG_DATA_LOSS, "'%s' at '%s': %s", id, at[0] == '\0' ? "main" : at, what);
  return false;
}

// `any_text`: only the metadata is looked at.
static bool check_doc(rag_kb *kb, const model *m, uint32_t thread, bool side, uint32_t doc, const char *at,
                      doc_state want, bool any_text, rag_error *err) {
  char id[64], metadata[64], text[TEXT_BYTES_MAX], what[600];
  rag_document found = {0};
  model_id(thread, side, doc, id);
  rag_status status = rag_kb_document_get(kb, rag_slice_str(at), rag_slice_str(id), &found, err);
  if (want.version == 0 && want.metadata == 0) {
    if (status == RAG_NOT_FOUND) return true;
    if (status != RAG_OK) return false;
    snprintf(what, sizeof what, "is there and should not be: %.*s", (int)RAG_MIN(found.text.size, (size_t)50),
             found.text.data);
    rag_document_free(&found);
    return differs(err, at, id, what);
  }
  if (status != RAG_OK) {
    snprintf(what, sizeof what, "version %u should be there: %s", want.version, err->message);
    return differs(err, at, id, what);
  }
  size_t size = any_text ? 0 : model_text(m, thread, side, doc, want.version, text);
  model_metadata(thread, side, want.metadata, metadata);
  bool same_text = any_text || rag_slice_equal(found.text, rag_slice_of(text, size));
  bool same_metadata = rag_slice_equal(found.metadata, rag_slice_str(metadata));
  snprintf(what, sizeof what, "should have version %u and metadata %s, and has '%.*s' (%zu bytes) and %.*s",
           want.version, metadata, (int)RAG_MIN(found.text.size, (size_t)50), found.text.data, found.text.size,
           (int)RAG_MIN(found.metadata.size, (size_t)50), found.metadata.data);
  rag_document_free(&found);
  return (same_text && same_metadata) || differs(err, at, id, what);
}

static bool check_side(rag_kb *kb, const model *m, uint32_t thread, const char *at, const side_state *want,
                       rag_error *err) {
  for (uint32_t i = 0; i < SIDE_DOCS; i++)
    if (!check_doc(kb, m, thread, true, i, at, want->docs[i], false, err)) return false;
  return true;
}

static bool resolves(rag_kb *kb, const char *ref, uint64_t *out_commit, rag_error *err) {
  rag_version *version = NULL;
  if (rag_kb_resolve(kb, rag_slice_str(ref), &version, err) != RAG_OK) return false;
  *out_commit = rag_version_commit(version);
  rag_ref_drop(version);
  return true;
}

static bool check_tags(rag_kb *kb, const model *m, uint32_t thread, const thread_state *state, rag_error *err) {
  char name[64];
  uint64_t commit;
  for (uint32_t t = 0; t < state->tag_count; t++) {
    model_tag(thread, state->tags[t].seq, name);
    if (!resolves(kb, name, &commit, err)) return false;
    for (uint32_t i = 0; i < MAIN_DOCS; i++)
      if (!check_doc(kb, m, thread, false, i, name, state->tags[t].docs[i], false, err)) return false;
    if (!check_side(kb, m, thread, name, &state->tags[t].side, err)) return false;
  }
  return true;
}

bool check_thread(rag_kb *kb, const model *m, uint32_t thread, const thread_state *state, rag_error *err) {
  char branch[64], before[80];
  uint64_t commit;
  for (uint32_t i = 0; i < MAIN_DOCS; i++)
    if (!check_doc(kb, m, thread, false, i, "", state->main_docs[i], false, err)) return false;
  if (!check_side(kb, m, thread, "", &state->main_side, err)) return false;
  if (!check_tags(kb, m, thread, state, err)) return false;
  model_branch(thread, branch);
  if (!state->has_branch) {
    if (resolves(kb, branch, &commit, err)) return differs(err, branch, branch, "the branch should not be there");
    return err->status == RAG_NOT_FOUND;
  }
  if (!check_side(kb, m, thread, branch, &state->branch, err)) return false;
  if (state->branch_depth == 0) return true;
  snprintf(before, sizeof before, "%s~1", branch);
  return check_side(kb, m, thread, before, &state->branch_before, err);
}

// Whether gc may have taken the commit. It keeps the newest GC_KEEP_COMMITS of main as of when it ran, so it keeps
// every one that has fewer newer ones now.
static bool may_be_gone(const op *o, uint64_t commit, const history_facts *facts) {
  size_t low = 0, high = facts->main_log_count;
  if (!facts->gc_possible) return false;
  if (o->kind == OP_BRANCH || o->kind == OP_SIDE_PUT || o->kind == OP_ROLLBACK) return true; // or no commit of main
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (facts->main_log[middle] <= commit) low = middle + 1;
    else high = middle;
  }
  return facts->main_log_count - low + facts->main_unknown >= GC_KEEP_COMMITS;
}

static doc_state unless_purged(doc_state was, uint32_t seq, uint32_t purged) {
  return purged > seq ? (doc_state){0} : was;
}

static bool check_side_at_commit(rag_kb *kb, const model *m, const op *o, const char *at, const side_state *was,
                                 const thread_state *now, rag_error *err) {
  side_state want;
  for (uint32_t i = 0; i < SIDE_DOCS; i++) want.docs[i] = unless_purged(was->docs[i], o->seq, now->purged_side[i]);
  return check_side(kb, m, o->thread, at, &want, err);
}

static bool check_main_at_commit(rag_kb *kb, const model *m, const op *o, const char *at, const thread_state *after,
                                 const thread_state *now, rag_error *err) {
  for (uint32_t i = 0; i < MAIN_DOCS; i++) {
    doc_state want = unless_purged(after->main_docs[i], o->seq, now->purged[i]);
    if (!check_doc(kb, m, o->thread, false, i, at, want, false, err)) return false;
  }
  return true;
}

// A tag that is there today, or was deleted.
static bool check_tag_today(rag_kb *kb, const op *o, const thread_state *now, const char *at, uint64_t commit,
                            rag_error *err) {
  char tag[64];
  uint64_t found = 0;
  bool there = false;
  model_tag(o->thread, o->seq, tag);
  for (uint32_t t = 0; t < now->tag_count; t++) there |= now->tags[t].seq == o->seq;
  if (!resolves(kb, tag, &found, err)) return !there && err->status == RAG_NOT_FOUND;
  if (!there) return differs(err, tag, tag, "the tag was deleted and is there");
  return found == commit || differs(err, tag, at, "is not where the tag points");
}

bool check_at_commit(rag_kb *kb, const model *m, const op *o, const thread_state *after, const thread_state *now,
                     uint64_t commit, const history_facts *facts, rag_error *err) {
  char at[64];
  uint64_t found = 0;
  snprintf(at, sizeof at, "c%llu", (unsigned long long)commit);
  if (o->kind == OP_TAG) return check_tag_today(kb, o, now, at, commit, err);
  if (!resolves(kb, at, &found, err)) return err->status == RAG_NOT_FOUND && may_be_gone(o, commit, facts);
  if (o->kind == OP_BRANCH) return true;
  if (o->kind == OP_MERGE) return check_side_at_commit(kb, m, o, at, &after->main_side, now, err);
  if (o->kind == OP_ROLLBACK || o->kind == OP_SIDE_PUT)
    return check_side_at_commit(kb, m, o, at, &after->branch, now, err);
  return check_main_at_commit(kb, m, o, at, after, now, err);
}

static bool count_listed(rag_kb *kb, uint64_t *out, rag_error *err) {
  uint64_t count = 0;
  for (uint32_t after = 0;;) {
    rag_document *documents = NULL;
    uint32_t got = 0, next = 0;
    uint64_t commit = 0;
    if (rag_kb_documents(kb, rag_slice_str(""), NULL, after, PAGE, &documents, &got, &next, &commit, err) != RAG_OK)
      return false;
    for (uint32_t i = 0; i < got; i++) rag_document_free(&documents[i]);
    rag_free(documents);
    count += got;
    if (next == 0) break;
    after = next;
  }
  *out = count;
  return true;
}

static bool walk_log(rag_kb *kb, rag_error *err) {
  uint64_t below = 0, last = UINT64_MAX;
  for (uint32_t seen = 0; seen < COMMITS_MAX;) {
    rag_commit_info *commits = NULL;
    uint32_t got = 0;
    uint64_t next = 0;
    if (rag_kb_log(kb, rag_slice_str(""), below, PAGE, &commits, &got, &next, err) != RAG_OK) return false;
    bool down = true;
    for (uint32_t i = 0; i < got; i++) {
      down = down && commits[i].id < last;
      last = commits[i].id;
      rag_commit_info_free(&commits[i]);
    }
    rag_free(commits);
    if (!down) return differs(err, "", "log", "does not go down");
    if (next == 0) break;
    below = next;
    seen += got;
  }
  return true;
}

// `expected`: the document is found by its own text; else it is not among the hits.
static bool check_search(rag_kb *kb, const model *m, uint32_t thread, uint32_t doc, uint32_t version,
                         rag_search_mode mode, bool expected, rag_error *err) {
  char id[64], text[TEXT_BYTES_MAX];
  size_t size = model_text(m, thread, false, doc, version, text);
  rag_search search = {.mode = mode, .query = {text, size}, .k = 10, .exact = true};
  rag_search_result result = {0};
  model_id(thread, false, doc, id);
  if (rag_kb_search(kb, &search, &result, err) != RAG_OK) return false;
  bool found = false;
  for (uint32_t i = 0; i < result.count; i++) found |= rag_slice_equal(result.hits[i].document_id, rag_slice_str(id));
  rag_search_result_free(&result);
  if (found == expected) return true;
  return differs(err, "", id, expected ? "is not found by its own text" : "is deleted and found by a search");
}

static bool check_searches(rag_kb *kb, const model *m, uint32_t thread, rag_error *err) {
  const thread_state *state = &m->thread[thread];
  for (uint32_t i = 0; i < MAIN_DOCS; i++) {
    bool there = state->main_docs[i].version != 0;
    char text[TEXT_BYTES_MAX];
    if (state->last_version[i] == 0) continue;
    // A long text is several chunks, and none of them is as near as the whole.
    if (there && model_text(m, thread, false, i, state->last_version[i], text) > 600) continue;
    if (!check_search(kb, m, thread, i, state->last_version[i], RAG_SEARCH_VECTOR, there, err) ||
        !check_search(kb, m, thread, i, state->last_version[i], RAG_SEARCH_LEXICAL, there, err))
      return false;
  }
  return true;
}

bool check_whole(rag_kb *kb, const model *m, rag_error *err) {
  rag_kb_info info = {0};
  uint64_t expected = 0, listed = 0;
  char what[160];
  for (uint32_t t = 0; t < m->threads; t++) {
    for (uint32_t i = 0; i < MAIN_DOCS; i++) expected += m->thread[t].main_docs[i].version != 0;
    for (uint32_t i = 0; i < SIDE_DOCS; i++) expected += m->thread[t].main_side.docs[i].version != 0;
  }
  if (rag_kb_describe(kb, &info, err) != RAG_OK) return false;
  uint64_t described = info.documents;
  rag_kb_info_free(&info);
  if (!count_listed(kb, &listed, err)) return false;
  if (described != expected || listed != expected) {
    snprintf(what, sizeof what, "%llu documents expected, %llu described, %llu listed", (unsigned long long)expected,
             (unsigned long long)described, (unsigned long long)listed);
    return differs(err, "", "count", what);
  }
  if (!walk_log(kb, err)) return false;
  for (uint32_t t = 0; t < m->threads; t++)
    if (!check_searches(kb, m, t, err)) return false;
  return true;
}
