// Differences between versions, three-way merge, rollback: set algebra over revisions, then one row per revision that
// differs. Costs follow the difference: blocks that both versions share are skipped by pointer.
#include "kb/kb_internal.h"

#include <stdlib.h>

void rag_diff_free(rag_diff *diff) {
  if (diff == NULL) return;
  for (size_t i = 0; i < diff->count; i++) rag_free(diff->entries[i].id);
  rag_free(diff->entries);
  *diff = (rag_diff){0};
}

typedef struct side { // one differing revision
  char *id;
  uint32_t revision, content;
  bool to;
} side;

static int compare_sides(const void *a, const void *b) {
  const side *x = a, *y = b;
  int order = strcmp(x->id, y->id);
  return order != 0 ? order : (int)x->to - (int)y->to;
}

static rag_status gather(rag_kb *kb, rag_txn *txn, const rag_bitmap *revisions, bool to, side *sides, size_t *count,
                         rag_error *err) {
  uint32_t revision = 0;
  while (revision < UINT32_MAX && rag_bitmap_next(revisions, revision + 1, &revision)) {
    rag_kb__revision record;
    rag_value pin = {0};
    RAG_TRY(rag_kb__get_revision(kb, txn, revision, &record, &pin, err));
    char *id = rag_strndup(record.id.data, record.id.size);
    uint32_t content = record.content;
    rag_value_free(&pin);
    if (id == NULL) return rag_fail_no_memory(err, 0);
    sides[(*count)++] = (side){id, revision, content, to};
  }
  return RAG_OK;
}

rag_status rag_kb__diff_versions(rag_kb *kb, rag_txn *txn, const rag_version *from, const rag_version *to,
                                 rag_diff *out, rag_error *err) {
  rag_bitmap *gone = NULL, *come = NULL;
  side *sides = NULL;
  size_t count = 0;
  rag_diff diff = {.from_commit = from->commit, .to_commit = to->commit};
  rag_status status = RAG_OK;
  if (rag_bitmap_andnot(from->revisions, to->revisions, &gone) != RAG_OK ||
      rag_bitmap_andnot(to->revisions, from->revisions, &come) != RAG_OK) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  size_t total = (size_t)(rag_bitmap_count(gone) + rag_bitmap_count(come));
  sides = rag_calloc(total + 1, sizeof *sides);
  diff.entries = rag_calloc(total + 1, sizeof *diff.entries);
  if (sides == NULL || diff.entries == NULL) {
    status = rag_fail_no_memory(err, total * sizeof *sides);
    goto out;
  }
  RAG_TRY_OUT(gather(kb, txn, gone, false, sides, &count, err));
  RAG_TRY_OUT(gather(kb, txn, come, true, sides, &count, err));
  if (count > 1) qsort(sides, count, sizeof *sides, compare_sides);
  for (size_t i = 0; i < count; i++) {
    rag_diff_entry *entry = &diff.entries[diff.count++];
    entry->id = sides[i].id;
    sides[i].id = NULL;
    if (i + 1 < count && !sides[i].to && sides[i + 1].to && strcmp(entry->id, sides[i + 1].id) == 0) {
      entry->change = RAG_CHANGE_CHANGED;
      entry->from_revision = sides[i].revision;
      entry->to_revision = sides[i + 1].revision;
      entry->text_changed = sides[i].content != sides[i + 1].content;
      diff.changed++;
      i++;
    } else if (sides[i].to) {
      entry->change = RAG_CHANGE_ADDED;
      entry->to_revision = sides[i].revision;
      entry->text_changed = true;
      diff.added++;
    } else {
      entry->change = RAG_CHANGE_REMOVED;
      entry->from_revision = sides[i].revision;
      entry->text_changed = true;
      diff.removed++;
    }
  }
  *out = diff;
  diff = (rag_diff){0};
out:
  for (size_t i = 0; sides != NULL && i < count; i++) rag_free(sides[i].id);
  rag_free(sides);
  rag_diff_free(&diff);
  rag_ref_drop(gone);
  rag_ref_drop(come);
  return status;
}

rag_status rag_kb_diff(rag_kb *kb, rag_slice from, rag_slice to, rag_diff *out, rag_error *err) {
  rag_version *a = NULL, *b = NULL;
  rag_status status = RAG_OK;
  RAG_TRY_OUT(rag_kb_resolve(kb, from, &a, err));
  RAG_TRY_OUT(rag_kb_resolve(kb, to, &b, err));
  status = rag_kb__diff_versions(kb, NULL, a, b, out, err);
out:
  rag_ref_drop(a);
  rag_ref_drop(b);
  return status;
}
