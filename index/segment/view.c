// The engine of sealed segments: a tail of rows in memory, which is a view of the flat engine, and any number of
// segments, each from a file.
//
// Invariants
//  1. A row of a view's `present` is in its tail or in exactly one of its segments. A segment may hold rows that are not
//     present any more; `removed` counts them.
//  2. Where a row lies changes no score of it, and no answer of an exact search.
// Threads: as index_internal.h says of engines; sealing and merging prepare segments without a lock and publish them as
// an append does (task.c).
#include "index/segment/view_internal.h"

static void view_destroy(rag_ref *ref) {
  segmented_view *view = (segmented_view *)ref;
  for (uint32_t i = 0; i < view->segment_count; i++) rag_ref_drop(view->segments[i].segment);
  rag_ref_drop(view->tail);
  rag_ref_drop(view->head.present);
  rag_ref_drop(view->head.shared);
  rag_free(view);
}

// One number of what answers depend on beside the rows: the segments, in whatever order.
static void name_build(segmented_view *view) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < view->segment_count; i++) {
    uint64_t word;
    memcpy(&word, view->segments[i].segment->id.bytes, sizeof word);
    sum += word * UINT64_C(0x9e3779b97f4a7c15);
  }
  if (view->segment_count == 0) memcpy(view->build, "flat", 5);
  else snprintf(view->build, sizeof view->build, "s%u-%016llx", view->segment_count, (unsigned long long)sum);
}

rag_status rag_segment__view_create(rag_index_shared *shared, rag_bitmap *present, rag_index_view *tail,
                                    const segmented_entry *entries, uint32_t count, segmented_view **out,
                                    rag_error *err) {
  segmented_view *view = rag_calloc(1, sizeof *view + count * sizeof *entries);
  if (view == NULL) {
    rag_ref_drop(present);
    rag_ref_drop(tail);
    return rag_fail_no_memory(err, sizeof *view);
  }
  rag_ref_init(&view->head.ref, view_destroy);
  view->head.engine = &rag_index__segmented;
  view->head.shared = rag_ref_take(shared);
  view->head.present = present;
  view->tail = tail;
  view->segment_count = count;
  for (uint32_t i = 0; i < count; i++) { // the largest first: what it finds spares the others work
    uint32_t at = i;
    for (; at > 0 && view->segments[at - 1].segment->rows < entries[i].segment->rows; at--)
      view->segments[at] = view->segments[at - 1];
    view->segments[at] = entries[i];
    (void)rag_ref_take(entries[i].segment);
  }
  name_build(view);
  *out = view;
  return RAG_OK;
}

static rag_status segmented_create(rag_index_shared *shared, rag_index_view **out, rag_error *err) {
  rag_index_view *tail = NULL;
  segmented_view *view = NULL;
  rag_bitmap *present = rag_bitmap_empty();
  if (present == NULL) return rag_fail_no_memory(err, 0);
  rag_status status = rag_index__flat.create(shared, &tail, err);
  if (status != RAG_OK) {
    rag_ref_drop(present);
    return status;
  }
  RAG_TRY(rag_segment__view_create(shared, present, tail, NULL, 0, &view, err));
  *out = &view->head;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- writing

// A removed row of a segment lies there still; appended again it would be in two places, so callers never do
// (chunks are numbered once); it is refused here rather than believed.
static rag_status check_not_sealed(const segmented_view *view, const uint32_t *ordinals, uint32_t count,
                                   rag_error *err) {
  for (uint32_t i = 0; i < view->segment_count; i++) {
    const rag_index_segment *segment = view->segments[i].segment;
    if (ordinals[0] > segment->ordinals[segment->rows - 1] || ordinals[count - 1] < segment->ordinals[0]) continue;
    for (uint32_t j = 0; j < count; j++)
      if (rag_bitmap_has(segment->set, ordinals[j]))
        return rag_fail(err, RAG_ALREADY_EXISTS, "ordinal %u had a row that was sealed, and is not used again",
                        ordinals[j]);
  }
  return RAG_OK;
}

static rag_status segmented_append(const rag_index_view *head, const uint32_t *ordinals, uint32_t count,
                                   const float *vectors, rag_index_view **out, rag_error *err) {
  const segmented_view *newest = (const segmented_view *)head;
  segmented_view *next = NULL;
  rag_bitmap *present = NULL;
  rag_index_view *tail = NULL;
  RAG_TRY(check_not_sealed(newest, ordinals, count, err));
  RAG_TRY(rag_index__with_rows(head->present, ordinals, count, &present, err));
  rag_status status = rag_index__flat.append(newest->tail, ordinals, count, vectors, &tail, err);
  if (status != RAG_OK) {
    rag_ref_drop(present);
    return status;
  }
  RAG_TRY(rag_segment__view_create(head->shared, present, tail, newest->segments, newest->segment_count, &next, err));
  *out = &next->head;
  return RAG_OK;
}

rag_status rag_segment__tail_without(rag_index_view *tail, const rag_bitmap *rows, rag_index_view **out,
                                     rag_error *err) {
  if (rag_bitmap_and_count(tail->present, rows) > 0) return rag_index__flat.remove(tail, rows, out, err);
  *out = rag_ref_take(tail);
  return RAG_OK;
}

static rag_status segmented_remove(const rag_index_view *head, const rag_bitmap *to_remove, rag_index_view **out,
                                   rag_error *err) {
  const segmented_view *newest = (const segmented_view *)head;
  segmented_view *next = NULL;
  rag_bitmap *present = NULL;
  rag_index_view *tail = NULL;
  if (rag_bitmap_andnot(head->present, to_remove, &present) != RAG_OK) return rag_fail_no_memory(err, 0);
  rag_status status = rag_segment__tail_without(newest->tail, to_remove, &tail, err);
  if (status != RAG_OK) {
    rag_ref_drop(present);
    return status;
  }
  RAG_TRY(rag_segment__view_create(head->shared, present, tail, newest->segments, newest->segment_count, &next, err));
  for (uint32_t i = 0; i < next->segment_count; i++) {
    segmented_entry *entry = &next->segments[i];
    entry->removed = entry->segment->rows - (uint32_t)rag_bitmap_and_count(entry->segment->set, next->head.present);
  }
  *out = &next->head;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- reading

static const void *segmented_row(const rag_index_view *head, uint32_t ordinal) {
  const segmented_view *view = (const segmented_view *)head;
  if (rag_bitmap_has(view->tail->present, ordinal)) return rag_index__flat.row(view->tail, ordinal);
  for (uint32_t i = 0; i < view->segment_count; i++) {
    const void *row = rag_bitmap_has(view->segments[i].segment->set, ordinal)
                          ? rag_segment__row(view->segments[i].segment, ordinal)
                          : NULL;
    if (row != NULL) return row;
  }
  return NULL;
}

static rag_status segmented_search(const rag_index_view *head, const rag_index_query *query, rag_index_topk *top,
                                   rag_index_plan *plan, rag_error *err) {
  const segmented_view *view = (const segmented_view *)head;
  rag_status status = RAG_OK;
  plan->engine = rag_index__flat.name;
  plan->expected_recall = 1;
  segment_scratch *scratch = view->segment_count > 0 ? rag_segment__scratch_take(head->shared, err) : NULL;
  if (view->segment_count > 0 && scratch == NULL) return RAG_RESOURCE_EXHAUSTED;
  for (uint32_t i = 0; status == RAG_OK && i < view->segment_count; i++) {
    segment_search search = {.query = query,
                             .present = head->present,
                             .removed = view->segments[i].removed > 0,
                             .scratch = scratch,
                             .top = top,
                             .plan = plan};
    status = rag_segment__search(view->segments[i].segment, &search, err);
  }
  rag_segment__scratch_give(head->shared, scratch);
  if (status != RAG_OK) return status;
  rag_index_plan tail = {0};
  RAG_TRY(rag_index__flat.search(view->tail, query, top, &tail, err));
  plan->tail_rows = tail.candidates;
  plan->candidates += tail.candidates;
  plan->rescored += tail.rescored;
  plan->segments += tail.segments;
  if (tail.candidates >= plan->engine_rows) plan->engine = rag_index__flat.name;
  return RAG_OK;
}

const rag_index_engine rag_index__segmented = {
    .name = "auto",
    .create = segmented_create,
    .append = segmented_append,
    .remove = segmented_remove,
    .row = segmented_row,
    .search = segmented_search,
};

// ---------------------------------------------------------------------------------------------- what callers see

static const segmented_view *segmented(const rag_index_view *view) {
  return view->engine == &rag_index__segmented ? (const segmented_view *)view : NULL;
}

const char *rag_index_view_build(const rag_index_view *view) {
  return segmented(view) != NULL ? segmented(view)->build : "flat"; // that has no build: answers follow from the rows
}

uint32_t rag_index_view_segments(const rag_index_view *view) {
  return segmented(view) != NULL ? segmented(view)->segment_count : 0;
}

static void describe(const rag_index_segment *s, uint32_t removed, rag_index_segment_info *out) {
  *out = (rag_index_segment_info){.id = s->id,
                                  .engine = s->kind->name,
                                  .history = s->history,
                                  .rows = s->rows,
                                  .present = s->rows - removed,
                                  .first = s->ordinals[0],
                                  .last = s->ordinals[s->rows - 1],
                                  .file_bytes = rag_segment__file_bytes(s->file),
                                  .memory_bytes = s->charged,
                                  .recall = s->kind->recall(s)};
}

void rag_index_view_segment(const rag_index_view *view, uint32_t at, rag_index_segment_info *out) {
  const segmented_entry *entry = &segmented(view)->segments[at];
  describe(entry->segment, entry->removed, out);
}

void rag_index_task_made(const rag_index_task *task, uint32_t at, rag_index_segment_info *out) {
  describe(task->made[at], 0, out);
}

// A graph's and lists' rows come one by one from all over memory, at the price of two or three that lie in a row; some
// hundreds to two thousand of them at the recalls that are asked for.
#define WALKED_ROWS UINT64_C(4096)

static uint64_t search_bytes(const rag_index_segment *s) {
  uint64_t dimension = s->shared->dimension;
  if (s->kind == &rag_segment__flat) return s->rows * (rag_codes_padded(s->shared->dimension) / 4 + UINT64_C(16));
  if (s->kind == &rag_segment__faiss) return s->rows * dimension; // its index may be a scan
  return RAG_MIN(s->rows, WALKED_ROWS) * dimension;
}

uint64_t rag_index_view_search_bytes(const rag_index_view *view) {
  const segmented_view *s = segmented(view);
  uint64_t dimension = view->shared->dimension;
  uint64_t bytes = rag_index_view_tail_rows(view) * dimension;
  for (uint32_t i = 0; s != NULL && i < s->segment_count; i++) bytes += search_bytes(s->segments[i].segment);
  return bytes;
}

uint64_t rag_index_view_tail_rows(const rag_index_view *view) {
  const segmented_view *s = segmented(view);
  return rag_bitmap_count(s != NULL ? s->tail->present : view->present);
}
