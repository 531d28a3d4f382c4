// Counts per value: the segments' keys are walked in ascending order, all at once, so equal keys meet and nothing is
// kept but a cursor for each segment and the list that was asked for.
#include "index/fields/fields_internal.h"

#define DEADLINE_KEYS 1024u

typedef struct cursor { // at a key that some of the rows have
  const fields_run *run;
  const uint64_t *rows; // of the segment's block; never NULL
  uint32_t key;
  uint32_t count; // rows that have it
} cursor;

typedef struct counting {
  fields_kind kind;
  cursor *heap; // by key, the least first
  uint32_t heap_count;
  rag_fields_count *top; // a heap, the last of them first
  uint32_t limit;
  rag_fields_counts result;
} counting;

static uint32_t count_rows(const cursor *c) {
  uint32_t from = fields_run_start(c->run, c->key), to = fields_run_start(c->run, c->key + 1), count = 0;
  for (uint32_t i = from; i < to; i++) count += fields_words_have(c->rows, c->run->rows[i]);
  return count;
}

// To the next key that some row has, from `key` on. False: there is none.
static bool cursor_seek(cursor *c, uint32_t key) {
  for (c->key = key; c->key < c->run->keys; c->key++) {
    c->count = count_rows(c);
    if (c->count > 0) return true;
  }
  return false;
}

static int compare_keys(fields_kind kind, const cursor *a, const cursor *b) {
  if (kind == FIELDS_STRINGS)
    return rag_slice_compare(fields_run_string(a->run, a->key), fields_run_string(b->run, b->key));
  if (kind == FIELDS_DOUBLES) {
    double x = a->run->as.doubles[a->key], y = b->run->as.doubles[b->key];
    return (x > y) - (x < y);
  }
  int64_t x = a->run->as.ints[a->key], y = b->run->as.ints[b->key];
  return (x > y) - (x < y);
}

static void sift_cursor(counting *c) { // the first one grew
  cursor item = c->heap[0];
  uint32_t at = 0, child;
  while ((child = 2 * at + 1) < c->heap_count) {
    if (child + 1 < c->heap_count && compare_keys(c->kind, &c->heap[child + 1], &c->heap[child]) < 0) child++;
    if (compare_keys(c->kind, &item, &c->heap[child]) <= 0) break;
    c->heap[at] = c->heap[child];
    at = child;
  }
  c->heap[at] = item;
}

static void push_cursor(counting *c, cursor item) {
  uint32_t at = c->heap_count++;
  for (; at > 0 && compare_keys(c->kind, &item, &c->heap[(at - 1) / 2]) < 0; at = (at - 1) / 2)
    c->heap[at] = c->heap[(at - 1) / 2];
  c->heap[at] = item;
}

// ---------------------------------------------------------------------------------------------- the most frequent

static int compare_counts(const rag_fields_count *a, const rag_fields_count *b) { // < 0: a comes first
  if (a->rows != b->rows) return a->rows > b->rows ? -1 : 1;
  if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
  if (a->kind == RAG_FIELDS_STRING) return rag_slice_compare(a->string, b->string);
  if (a->kind == RAG_FIELDS_INT) return (a->integer > b->integer) - (a->integer < b->integer);
  return (a->number > b->number) - (a->number < b->number);
}

static void sift_top(rag_fields_count *top, uint32_t count, uint32_t at) {
  rag_fields_count item = top[at];
  for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && compare_counts(&top[child + 1], &top[child]) > 0) child++;
    if (compare_counts(&item, &top[child]) >= 0) break;
    top[at] = top[child];
  }
  top[at] = item;
}

static void offer(counting *c, const rag_fields_count *item) {
  if (c->limit == 0) return;
  if (c->result.count < c->limit) {
    uint32_t at = c->result.count++;
    for (; at > 0 && compare_counts(item, &c->top[(at - 1) / 2]) > 0; at = (at - 1) / 2)
      c->top[at] = c->top[(at - 1) / 2];
    c->top[at] = *item;
  } else if (compare_counts(item, &c->top[0]) < 0) {
    c->top[0] = *item;
    sift_top(c->top, c->limit, 0);
  }
}

static void sort_top(counting *c) {
  for (uint32_t left = c->result.count; left > 1; left--) {
    rag_fields_count last = c->top[0];
    c->top[0] = c->top[left - 1];
    c->top[left - 1] = last;
    sift_top(c->top, left - 1, 0);
  }
}

// ---------------------------------------------------------------------------------------------- walking

static rag_fields_count value_at(const counting *c, const cursor *at) {
  rag_fields_count value = {.kind = RAG_FIELDS_STRING};
  if (c->kind == FIELDS_STRINGS) {
    value.string = fields_run_string(at->run, at->key);
  } else if (c->kind == FIELDS_INTS) {
    value.kind = RAG_FIELDS_INT;
    value.integer = at->run->as.ints[at->key];
  } else {
    value.kind = RAG_FIELDS_DOUBLE;
    value.number = at->run->as.doubles[at->key];
  }
  return value;
}

static void note_range(counting *c, const rag_fields_count *value) {
  if (value->kind == RAG_FIELDS_STRING) return;
  double v = value->kind == RAG_FIELDS_INT ? (double)value->integer : value->number;
  if (!c->result.has_range || v < c->result.min) c->result.min = v;
  if (!c->result.has_range || v > c->result.max) c->result.max = v;
  c->result.has_range = true;
}

static bool walk_kind(counting *c, uint64_t deadline_ns) {
  uint32_t keys = 0;
  while (c->heap_count > 0) {
    cursor first = c->heap[0];
    rag_fields_count value = value_at(c, &first);
    if (deadline_ns > 0 && ++keys % DEADLINE_KEYS == 0 && rag_clock_monotonic_ns() > deadline_ns) return false;
    do {
      value.rows += c->heap[0].count;
      if (!cursor_seek(&c->heap[0], c->heap[0].key + 1)) c->heap[0] = c->heap[--c->heap_count];
      if (c->heap_count > 0) sift_cursor(c);
    } while (c->heap_count > 0 && compare_keys(c->kind, &c->heap[0], &first) == 0);
    c->result.distinct++;
    note_range(c, &value);
    offer(c, &value);
  }
  return true;
}

static void open_cursors(counting *c, const rag_fields_counted *counted) {
  for (uint32_t i = 0; i < counted->view->segment_count; i++) {
    const fields_segment *segment = counted->view->segments[i];
    const fields_path *path = rag_fields__path(segment, counted->path);
    cursor at = {.run = path ? path->runs[c->kind] : NULL};
    at.rows = rag_bitmap_block(counted->rows, segment->block, NULL);
    if (at.run && at.rows && cursor_seek(&at, 0)) push_cursor(c, at);
  }
}

rag_status rag_fields_count_values(const rag_fields_counted *counted, uint32_t counted_count, uint32_t limit,
                                   uint64_t deadline_ns, rag_fields_count *counts, rag_fields_counts *out,
                                   rag_error *err) {
  static const fields_kind kinds[] = {FIELDS_STRINGS, FIELDS_INTS, FIELDS_DOUBLES};
  counting c = {.top = counts, .limit = limit};
  uint32_t segments = 0;
  RAG_ASSERT(counted_count <= RAG_FIELDS_VIEWS_MAX);
  for (uint32_t i = 0; i < counted_count; i++) segments += counted[i].view->segment_count;
  c.heap = rag_calloc(RAG_MAX(segments, 1u), sizeof *c.heap);
  if (!c.heap) return rag_fail_no_memory(err, segments * sizeof *c.heap);
  for (uint32_t k = 0; k < RAG_COUNT_OF(kinds); k++) {
    c.kind = kinds[k];
    c.heap_count = 0;
    for (uint32_t i = 0; i < counted_count; i++) open_cursors(&c, &counted[i]);
    if (walk_kind(&c, deadline_ns)) continue;
    rag_free(c.heap);
    return rag_fail(err, RAG_DEADLINE_EXCEEDED, "counting values took longer than the deadline allows");
  }
  sort_top(&c);
  rag_free(c.heap);
  *out = c.result;
  return RAG_OK;
}
