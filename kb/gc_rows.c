// gc, second part: rows that no stored commit needs.
//
// What is needed is the union of the live revisions of every stored commit: of a checkpoint its set, of a delta what it
// adds. A document's rows are adjacent and its contents are its own, so the scan goes document by document: revisions
// that are not needed go, and a content goes with its chunks, vectors and cache rows when no revision names it any more.
//
// Invariants
//  1. Rows numbered at or above the kb's counters at the gc's start are never touched.
//  2. What goes is decided and deleted in one apply: it first adds what commits made since the scan have revived, and
//     reads the document's rows through the running group. A put that found a row before and comes after finds another
//     view and looks again (rewrite.c). So no commit ever names a row that is gone.
//  3. The cursor moves in the batch that it describes.
//
// A document is never split: one with very many dead revisions makes one large batch.
#include <stdlib.h>

#include "kb/rewrite_internal.h"

#define BATCH_TEXT_BYTES (16u << 20) // of contents whose texts are read for their cache keys; one document at least
#define BATCH_CHUNKS 65536u

typedef struct candidate { // a document with revisions to remove
  rag_key prefix;
  uint32_t first, count; // of batch.contents
} candidate;

typedef struct batch {
  rag_kb__rewrite rewrite;
  rag_kb__gc_run_state *run;
  rag_bitmap_edit *needed;
  uint32_t checked; // commits below are in `needed`
  candidate *candidates;
  uint32_t candidate_count;
  rag_kb__content_rows *contents;
  uint32_t content_count, content_capacity;
  uint64_t text_bytes, chunks;
  rag_key next;          // the prefix of the last document that was looked at
  uint64_t rows;         // looked at in this batch
  rag_bitmap_edit *gone; // chunks, of this batch
  rag_bitmap_edit *gone_revisions;
} batch;

typedef struct entry {
  uint32_t revision, content, first_chunk, chunk_count;
  bool dead;
} entry;

// ---------------------------------------------------------------------------------------------- needed revisions

static rag_status add_needed(batch *b, rag_slice key, rag_slice delta_row, rag_error *err) {
  rag_kb__delta delta = {0};
  if (rag_kb__decode_delta(delta_row, &delta, NULL) != RAG_OK) return rag_kb__corrupt(err, RAG_CF_COMMIT, key);
  rag_status status = RAG_OK;
  if (delta.revisions_added != NULL && rag_bitmap_edit_or(b->needed, delta.revisions_added) != RAG_OK)
    status = rag_fail_no_memory(err, 0);
  rag_kb__delta_free(&delta);
  return status;
}

static rag_status scan(rag_kb *kb, rag_snapshot *snapshot, rag_cf cf, rag_store_iter **out, rag_error *err) {
  rag_key lower, upper;
  rag_key_init(&lower);
  rag_key_u32(&lower, kb->id);
  if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's rows");
  return rag_store_iter_open(kb->store, snapshot, cf, rag_key_slice(&lower), rag_key_slice(&upper), false, out, err);
}

static rag_status find_needed(batch *b, rag_error *err) {
  rag_kb *kb = b->rewrite.kb;
  rag_store_iter *it = NULL;
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_kb__view *view = rag_cell_get(&kb->view);
  b->checked = view->state.next_commit;
  rag_ref_drop(view);
  rag_status status = RAG_OK;
  rag_snapshot *snapshot = rag_snapshot_create(kb->store);
  if (snapshot == NULL) return rag_fail_no_memory(err, 0);
  RAG_TRY_OUT(scan(kb, snapshot, RAG_CF_COMMIT, &it, err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it);
    if (key.size == 9 && key.data[8] == 1) RAG_TRY_OUT(add_needed(b, key, rag_store_iter_value(it), err));
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  rag_store_iter_close(it);
  it = NULL;
  RAG_TRY_OUT(scan(kb, snapshot, RAG_CF_BITMAP, &it, err));
  while (rag_store_iter_next(it)) {
    RAG_TRY_OUT(rag_kb__decode_checkpoint(rag_store_iter_value(it), &revisions, &chunks, err));
    status = rag_bitmap_edit_or(b->needed, revisions);
    rag_ref_drop(revisions);
    rag_ref_drop(chunks);
    if (status != RAG_OK) {
      status = rag_fail_no_memory(err, 0);
      goto out;
    }
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  rag_snapshot_destroy(kb->store, snapshot);
  return status;
}

// In apply: what commits made since have revived. A commit of a new checkpoint names its additions in its delta, too.
static rag_status catch_up(batch *b, rag_txn *txn, rag_error *err) {
  rag_kb *kb = b->rewrite.kb;
  for (; b->checked < b->rewrite.view->state.next_commit; b->checked++) {
    rag_key key;
    rag_value value = {0};
    rag_kb__key_commit(&key, kb->id, b->checked, 1);
    RAG_TRY(rag_kb__get(kb, txn, RAG_CF_COMMIT, rag_key_slice(&key), &value, err));
    rag_status status = add_needed(b, rag_key_slice(&key), value.slice, err);
    rag_value_free(&value);
    RAG_TRY(status);
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- one document

typedef struct entries {
  entry *items;
  uint32_t count, capacity;
} entries;

static rag_status add_entry(const batch *b, entries *list, rag_slice key, rag_slice value, rag_error *err) {
  rag_kb__document_entry document;
  uint32_t revision;
  if (!rag_kb__key_document_revision(key, &revision) || !rag_kb__decode_document(value, &document))
    return rag_kb__corrupt(err, RAG_CF_DOCUMENT, key);
  if (list->count == list->capacity) {
    uint32_t capacity = list->capacity ? list->capacity * 2 : 64;
    entry *items = rag_realloc_array(list->items, capacity, sizeof *items);
    if (items == NULL) return rag_fail_no_memory(err, capacity * sizeof *items);
    list->items = items;
    list->capacity = capacity;
  }
  list->items[list->count++] =
      (entry){.revision = revision,
              .content = document.content,
              .first_chunk = document.first_chunk,
              .chunk_count = document.chunk_count,
              .dead = revision < b->run->limit_revision && !rag_bitmap_edit_has(b->needed, revision)};
  return RAG_OK;
}

static int by_content(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->content != y->content) return x->content < y->content ? -1 : 1;
  return x->revision < y->revision ? -1 : x->revision > y->revision;
}

// In a list by content: the end of the entries of the content at `at`; *out_dies: none of them is alive.
static uint32_t content_end(const entries *list, uint32_t at, bool *out_dies) {
  uint32_t end = at;
  *out_dies = true;
  for (; end < list->count && list->items[end].content == list->items[at].content; end++)
    *out_dies &= list->items[end].dead;
  return end;
}

static void sort_by_content(entries *list) {
  if (list->count > 1) qsort(list->items, list->count, sizeof *list->items, by_content);
}

static rag_status add_content(batch *b, const entry *from, rag_error *err) {
  if (b->content_count == b->content_capacity) {
    uint32_t capacity = b->content_capacity ? b->content_capacity * 2 : 64;
    rag_kb__content_rows *contents = rag_realloc_array(b->contents, capacity, sizeof *contents);
    if (contents == NULL) return rag_fail_no_memory(err, capacity * sizeof *contents);
    b->contents = contents;
    b->content_capacity = capacity;
  }
  rag_kb__content_rows *rows = &b->contents[b->content_count++];
  *rows = (rag_kb__content_rows){
      .content = from->content, .first_chunk = from->first_chunk, .chunk_count = from->chunk_count};
  RAG_TRY(rag_kb__content_rows_read(b->rewrite.kb, NULL, rows, err));
  b->text_bytes += rows->text_bytes;
  b->chunks += rows->chunk_count;
  return RAG_OK;
}

static rag_status add_document(batch *b, const rag_key *prefix, entries *list, rag_error *err) {
  candidate *document = &b->candidates[b->candidate_count];
  bool any = false;
  b->next = *prefix;
  b->rows += list->count;
  for (uint32_t i = 0; i < list->count; i++) any |= list->items[i].dead;
  if (!any) return RAG_OK;
  *document = (candidate){.prefix = *prefix, .first = b->content_count};
  b->candidate_count++;
  sort_by_content(list);
  for (uint32_t i = 0, end; i < list->count; i = end) {
    bool dies;
    end = content_end(list, i, &dies);
    if (!dies) continue;
    RAG_TRY(add_content(b, &list->items[i], err));
    document->count++;
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- one batch

static rag_status remove_content(batch *b, rag_txn *txn, const candidate *document, const entry *from, rag_error *err) {
  uint32_t low = document->first, high = document->first + document->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (b->contents[middle].content < from->content) low = middle + 1;
    else high = middle;
  }
  // Rows only ever come to be needed, so what dies now was seen to die before.
  RAG_ASSERT(low < document->first + document->count && b->contents[low].content == from->content);
  const rag_kb__content_rows *rows = &b->contents[low];
  RAG_TRY(rag_kb__content_rows_delete(b->rewrite.kb, txn, rows, err));
  if (rag_bitmap_edit_add_range(b->gone, rows->first_chunk, rows->chunk_count) != RAG_OK)
    return rag_fail_no_memory(err, 0);
  b->run->contents++;
  b->run->chunks += rows->chunk_count;
  b->run->text_bytes += rows->text_bytes;
  b->run->vector_bytes += rows->vector_bytes;
  return RAG_OK;
}

static rag_status remove_revision(batch *b, rag_txn *txn, const rag_key *prefix, uint32_t revision, rag_error *err) {
  rag_key key = *prefix;
  rag_key_u32(&key, ~revision);
  rag_txn_delete(txn, RAG_CF_DOCUMENT, rag_key_slice(&key));
  rag_kb__key_u32(&key, b->rewrite.kb->id, revision);
  rag_txn_delete(txn, RAG_CF_REVISION, rag_key_slice(&key));
  b->run->revisions++;
  return rag_bitmap_edit_add(b->gone_revisions, revision) == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

static rag_status remove_dead(batch *b, rag_txn *txn, const candidate *document, rag_error *err) {
  entries list = {0};
  rag_key upper;
  rag_store_iter *it = NULL;
  rag_status status = RAG_OK;
  if (!rag_key_successor(&document->prefix, &upper))
    return rag_fail(err, RAG_INTERNAL, "no upper bound for a document's rows");
  RAG_TRY(rag_txn_iter_open(txn, RAG_CF_DOCUMENT, rag_key_slice(&document->prefix), rag_key_slice(&upper), &it, err));
  while (rag_store_iter_next(it))
    RAG_TRY_OUT(add_entry(b, &list, rag_store_iter_key(it), rag_store_iter_value(it), err));
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  rag_store_iter_close(it); // a batch must not change under its own iterator
  it = NULL;
  sort_by_content(&list);
  for (uint32_t i = 0, end; i < list.count; i = end) {
    bool dies;
    end = content_end(&list, i, &dies);
    if (dies) RAG_TRY_OUT(remove_content(b, txn, document, &list.items[i], err));
    for (uint32_t e = i; e < end; e++)
      if (list.items[e].dead) RAG_TRY_OUT(remove_revision(b, txn, &document->prefix, list.items[e].revision, err));
  }
out:
  rag_store_iter_close(it);
  rag_free(list.items);
  return status;
}

static rag_status remove_plan(rag_kb__rewrite *rewrite, rag_txn *txn, rag_error *err) {
  batch *b = (batch *)rewrite;
  rag_kb__gc_run_state before = *b->run;
  rag_status status = catch_up(b, txn, err);
  for (uint32_t i = 0; status == RAG_OK && i < b->candidate_count; i++)
    status = remove_dead(b, txn, &b->candidates[i], err);
  b->run->at = b->next;
  b->run->done += b->rows;
  if (status == RAG_OK) status = rag_kb__gc_save(b->run, txn, err);
  if (status != RAG_OK) *b->run = before;
  return status;
}

static rag_status flush(batch *b, rag_error *err) {
  rag_bitmap *gone = NULL, *gone_revisions = NULL;
  rag_status status = RAG_OK;
  if (b->rows == 0) return RAG_OK;
  b->gone = rag_bitmap_edit_create(NULL);
  b->gone_revisions = rag_bitmap_edit_create(NULL);
  if (b->gone == NULL || b->gone_revisions == NULL) status = rag_fail_no_memory(err, 0);
  b->rewrite.plan = remove_plan;
  if (status == RAG_OK) status = rag_kb__rewrite_run(&b->rewrite, err);
  if (status == RAG_OK) {
    rag_status made = rag_bitmap_edit_finish(b->gone, &gone);
    rag_status also = rag_bitmap_edit_finish(b->gone_revisions, &gone_revisions);
    b->gone = b->gone_revisions = NULL;
    if (made != RAG_OK || also != RAG_OK) status = rag_fail_no_memory(err, 0);
  }
  // Where this fails the rows stay in memory until the kb is opened again; no version reaches them.
  if (status == RAG_OK) status = rag_kb__forget_rows(b->rewrite.kb, gone, gone_revisions, err);
  rag_bitmap_edit_destroy(b->gone);
  rag_bitmap_edit_destroy(b->gone_revisions);
  b->gone = b->gone_revisions = NULL;
  rag_ref_drop(gone);
  rag_ref_drop(gone_revisions);
  for (uint32_t i = 0; i < b->content_count; i++) rag_kb__content_rows_free(&b->contents[i]);
  b->content_count = b->candidate_count = 0;
  b->text_bytes = b->chunks = b->rows = 0;
  return status == RAG_OK ? rag_kb__gc_go_on(b->run, err) : status;
}

// ---------------------------------------------------------------------------------------------- the scan

static rag_status count_rows(rag_kb__gc_run_state *run, rag_error *err) {
  rag_store_iter *it = NULL;
  RAG_TRY(scan(run->kb, NULL, RAG_CF_DOCUMENT, &it, err));
  while (rag_store_iter_next(it)) run->total++;
  rag_status status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  return status;
}

static bool batch_is_full(const batch *b) {
  return b->candidate_count >= rag_kb__gc_batch || b->rows >= 64 * (uint64_t)rag_kb__gc_batch ||
         b->text_bytes >= BATCH_TEXT_BYTES || b->chunks >= BATCH_CHUNKS;
}

// Documents after run->at until the batch is full. *out_end: there are no more.
static rag_status fill(batch *b, entries *list, bool *out_end, rag_error *err) {
  rag_kb *kb = b->rewrite.kb;
  rag_store_iter *it = NULL;
  rag_key lower, upper, prefix = {0};
  rag_status status = RAG_OK;
  bool more = true;
  rag_key_init(&lower);
  rag_key_u32(&lower, kb->id);
  if (!rag_key_successor(&lower, &upper) || (b->run->at.size > 0 && !rag_key_successor(&b->run->at, &lower)))
    return rag_fail(err, RAG_INTERNAL, "no upper bound for a document's rows");
  RAG_TRY(rag_store_iter_open(kb->store, NULL, RAG_CF_DOCUMENT, rag_key_slice(&lower), rag_key_slice(&upper), false,
                              &it, err));
  list->count = 0;
  while (more && !batch_is_full(b)) {
    more = rag_store_iter_next(it);
    rag_slice key = more ? rag_store_iter_key(it) : (rag_slice){0};
    if (more && key.size < 4 + 8 + 2 + 4) {
      status = rag_kb__corrupt(err, RAG_CF_DOCUMENT, key);
      goto out;
    }
    bool same = more && rag_slice_equal(rag_key_slice(&prefix), rag_slice_of(key.data, key.size - 4));
    if (!same && list->count > 0) {
      RAG_TRY_OUT(add_document(b, &prefix, list, err));
      list->count = 0;
    }
    if (!more || batch_is_full(b)) break;
    if (!same) {
      rag_key_init(&prefix);
      rag_key_raw(&prefix, key.data, key.size - 4);
    }
    RAG_TRY_OUT(add_entry(b, list, key, rag_store_iter_value(it), err));
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  *out_end = !more;
out:
  rag_store_iter_close(it);
  return status;
}

rag_status rag_kb__gc_rows(rag_kb__gc_run_state *run, rag_error *err) {
  batch b = {.rewrite = {.kb = run->kb}, .run = run};
  entries list = {0};
  rag_status status = RAG_OK;
  bool end = false;
  b.needed = rag_bitmap_edit_create(NULL);
  b.candidates = rag_calloc(rag_kb__gc_batch, sizeof *b.candidates);
  if (b.needed == NULL || b.candidates == NULL) {
    status = rag_fail_no_memory(err, rag_kb__gc_batch * sizeof *b.candidates);
    goto out;
  }
  if (run->total == 0) RAG_TRY_OUT(count_rows(run, err));
  RAG_TRY_OUT(find_needed(&b, err));
  while (!end) {
    RAG_TRY_OUT(fill(&b, &list, &end, err));
    RAG_TRY_OUT(flush(&b, err));
  }
out:
  for (uint32_t i = 0; i < b.content_count; i++) rag_kb__content_rows_free(&b.contents[i]);
  rag_free(b.contents);
  rag_free(b.candidates);
  rag_free(list.items);
  rag_bitmap_edit_destroy(b.needed);
  return status;
}
