// Rows before they are appended: values are gathered by path for one block at a time, and a block that is complete
// becomes a segment at once, so that the memory of a batch beyond its segments is that of one block's values.
//
// Threads: one. A failure sticks (`status`, `error`), what is added after it is dropped.
#include "index/fields/fields_internal.h"

typedef struct batch_path {
  rag_slice text; // in `texts`
  fields_draft draft;
  uint32_t next; // of the chain of its hash, plus one
} batch_path;

struct rag_fields_batch {
  fields_shared *shared; // owned reference
  FIELDS_VECTOR(batch_path) paths;
  uint32_t *buckets; // the first path of each hash, plus one; a power of two
  uint32_t bucket_count;
  rag_arena *texts;   // of paths
  rag_arena *strings; // of the block at hand
  fields_scratch scratch;
  fields_segments segments;
  uint64_t rows[FIELDS_WORDS], opaque[FIELDS_WORDS]; // of the block at hand
  bool open;                                         // a row was begun
  uint32_t row_count;                                // of the block at hand
  uint32_t ordinal;                                  // the last one
  uint32_t values;                                   // of this row
  uint32_t epoch;
  rag_status status;
  rag_error error;
};

#define BUCKETS_FIRST 64u
#define PATHS_FACTOR 8u // a batch knows so many times the paths of a block, as it cannot know yet which are frequent

static void fail_memory(rag_fields_batch *batch) {
  if (batch->status == RAG_OK) batch->status = rag_fail_no_memory(&batch->error, 0);
}

rag_status rag_fields_batch_create(const rag_fields *fields, rag_fields_batch **out, rag_error *err) {
  rag_fields_batch *batch = rag_calloc(1, sizeof *batch);
  if (!batch) return rag_fail_no_memory(err, sizeof *batch);
  batch->shared = rag_ref_take(rag_fields__shared(fields));
  batch->texts = rag_arena_create(0);
  batch->strings = rag_arena_create(0);
  batch->buckets = rag_calloc(BUCKETS_FIRST, sizeof *batch->buckets);
  batch->bucket_count = BUCKETS_FIRST;
  if (!batch->texts || !batch->strings || !batch->buckets) {
    rag_fields_batch_destroy(batch);
    return rag_fail_no_memory(err, BUCKETS_FIRST * sizeof *batch->buckets);
  }
  *out = batch;
  return RAG_OK;
}

static void forget_paths(rag_fields_batch *batch) {
  for (uint32_t i = 0; i < batch->paths.count; i++) rag_fields__draft_free(&batch->paths.items[i].draft);
  batch->paths.count = 0;
  if (batch->buckets) memset(batch->buckets, 0, batch->bucket_count * sizeof *batch->buckets);
  if (batch->texts) rag_arena_reset(batch->texts);
}

void rag_fields__batch_clear(rag_fields_batch *batch) {
  for (uint32_t i = 0; i < batch->segments.count; i++) rag_ref_drop(batch->segments.items[i]);
  batch->segments.count = 0;
  for (uint32_t i = 0; i < batch->paths.count; i++) rag_fields__draft_clear(&batch->paths.items[i].draft);
  memset(batch->rows, 0, sizeof batch->rows);
  memset(batch->opaque, 0, sizeof batch->opaque);
  rag_arena_reset(batch->strings);
  batch->open = false;
  batch->row_count = batch->values = 0;
  batch->status = RAG_OK;
  // Paths that were seen once (ids as names) must not keep out those that come later.
  if (batch->paths.count >= batch->shared->paths_max * PATHS_FACTOR / 2) {
    forget_paths(batch);
    batch->epoch++;
  }
}

uint32_t rag_fields_batch_epoch(const rag_fields_batch *batch) {
  return batch->epoch;
}

void rag_fields_batch_destroy(rag_fields_batch *batch) {
  if (!batch) return;
  for (uint32_t i = 0; i < batch->segments.count; i++) rag_ref_drop(batch->segments.items[i]);
  rag_free(batch->segments.items);
  forget_paths(batch);
  rag_free(batch->paths.items);
  rag_free(batch->buckets);
  rag_arena_destroy(batch->texts);
  rag_arena_destroy(batch->strings);
  rag_fields__scratch_free(&batch->scratch);
  rag_ref_drop(batch->shared);
  rag_free(batch);
}

fields_segments *rag_fields__batch_segments(rag_fields_batch *batch) {
  return &batch->segments;
}

const fields_shared *rag_fields__batch_shared(const rag_fields_batch *batch) {
  return batch->shared;
}

// ---------------------------------------------------------------------------------------------- blocks

// The rows at hand become a segment.
static rag_status finish_block(rag_fields_batch *batch, rag_error *err) {
  rag_status status = RAG_OK;
  fields_segment *segment = NULL;
  fields_draft_path *paths = NULL;
  uint32_t count = 0;
  if (batch->row_count == 0) return RAG_OK;
  paths = rag_calloc(RAG_MAX(batch->paths.count, 1u), sizeof *paths);
  if (!paths) return rag_fail_no_memory(err, batch->paths.count * sizeof *paths);
  for (uint32_t i = 0; i < batch->paths.count; i++) {
    batch_path *path = &batch->paths.items[i];
    if (path->draft.marks.count > 0) paths[count++] = (fields_draft_path){path->text, &path->draft};
  }
  RAG_TRY_OUT(rag_fields__segment_create(batch->shared, batch->ordinal / RAG_BITMAP_BLOCK_BITS, batch->rows,
                                         batch->opaque, paths, count, &batch->scratch, &segment, err));
  if (!FIELDS_PUSH(batch->segments, segment)) {
    rag_ref_drop(segment);
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  for (uint32_t i = 0; i < batch->paths.count; i++) rag_fields__draft_clear(&batch->paths.items[i].draft);
  memset(batch->rows, 0, sizeof batch->rows);
  memset(batch->opaque, 0, sizeof batch->opaque);
  rag_arena_reset(batch->strings);
  batch->row_count = 0;
out:
  rag_free(paths);
  return status;
}

rag_status rag_fields__batch_finish(rag_fields_batch *batch, rag_error *err) {
  if (batch->status == RAG_OK) batch->status = finish_block(batch, &batch->error);
  if (batch->status != RAG_OK) {
    if (err) *err = batch->error;
    return batch->status;
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- paths and rows

static bool grow_buckets(rag_fields_batch *batch) {
  uint32_t count = batch->bucket_count * 2;
  uint32_t *buckets = rag_calloc(count, sizeof *buckets);
  if (!buckets) return false;
  for (uint32_t i = 0; i < batch->paths.count; i++) {
    batch_path *path = &batch->paths.items[i];
    uint32_t *bucket = &buckets[rag_hash64(path->text.data, path->text.size) & (count - 1)];
    path->next = *bucket;
    *bucket = i + 1;
  }
  rag_free(batch->buckets);
  batch->buckets = buckets;
  batch->bucket_count = count;
  return true;
}

uint32_t rag_fields_batch_path(rag_fields_batch *batch, rag_slice text) {
  if (text.size == 0 || batch->status != RAG_OK) return RAG_FIELDS_NO_PATH;
  uint64_t hash = rag_hash64(text.data, text.size);
  for (uint32_t i = batch->buckets[hash & (batch->bucket_count - 1)]; i > 0; i = batch->paths.items[i - 1].next)
    if (rag_slice_equal(batch->paths.items[i - 1].text, text)) return i - 1;
  if (!rag_fields__has_path(batch->shared, text)) return RAG_FIELDS_NO_PATH;
  if (text.size > RAG_FIELDS_PATH_BYTES_MAX || batch->paths.count >= batch->shared->paths_max * PATHS_FACTOR)
    return RAG_FIELDS_OPAQUE_PATH;
  char *copy = rag_arena_strndup(batch->texts, text.data, text.size);
  if (!copy || (batch->paths.count >= batch->bucket_count && !grow_buckets(batch))) {
    fail_memory(batch);
    return RAG_FIELDS_NO_PATH;
  }
  uint32_t *bucket = &batch->buckets[hash & (batch->bucket_count - 1)];
  batch_path path = {.text = rag_slice_of(copy, text.size), .next = *bucket};
  if (!FIELDS_PUSH(batch->paths, path)) {
    fail_memory(batch);
    return RAG_FIELDS_NO_PATH;
  }
  *bucket = batch->paths.count;
  return batch->paths.count - 1;
}

void rag_fields_batch_row(rag_fields_batch *batch, uint32_t ordinal) {
  if (batch->status != RAG_OK) return;
  if (batch->open && ordinal <= batch->ordinal) {
    batch->status = rag_fail(&batch->error, RAG_INVALID_ARGUMENT, "row %u comes after row %u: rows must ascend",
                             ordinal, batch->ordinal);
    return;
  }
  if (batch->open && ordinal / RAG_BITMAP_BLOCK_BITS != batch->ordinal / RAG_BITMAP_BLOCK_BITS) {
    batch->status = finish_block(batch, &batch->error);
    if (batch->status != RAG_OK) return;
  }
  batch->open = true;
  batch->ordinal = ordinal;
  batch->row_count++;
  batch->values = 0;
  fields_words_add(batch->rows, ordinal % RAG_BITMAP_BLOCK_BITS);
}

void rag_fields_batch_opaque(rag_fields_batch *batch) {
  if (batch->status != RAG_OK) return;
  RAG_ASSERT(batch->open);
  fields_words_add(batch->opaque, batch->ordinal % RAG_BITMAP_BLOCK_BITS);
}

// The row's entry at the path, with these marks added. NULL: nothing may be added there.
static fields_draft *draft_of(rag_fields_batch *batch, uint32_t path, uint32_t marks) {
  if (path == RAG_FIELDS_NO_PATH || batch->status != RAG_OK) return NULL;
  if (path == RAG_FIELDS_OPAQUE_PATH) {
    rag_fields_batch_opaque(batch);
    return NULL;
  }
  RAG_ASSERT(batch->open && path < batch->paths.count && marks < 1u << FIELDS_MARKS);
  fields_draft *draft = &batch->paths.items[path].draft;
  uint32_t row = batch->ordinal % RAG_BITMAP_BLOCK_BITS, count = draft->marks.count;
  if (count > 0 && draft->marks.items[count - 1] >> 16 == row) {
    draft->marks.items[count - 1] |= marks;
  } else if (!FIELDS_PUSH(draft->marks, row << 16 | marks)) {
    fail_memory(batch);
    return NULL;
  }
  return draft;
}

// The same for one more value: past the limit of a row, the row is opaque.
static fields_draft *draft_of_value(rag_fields_batch *batch, uint32_t path) {
  fields_draft *draft = draft_of(batch, path, 0);
  if (!draft || batch->values++ < batch->shared->row_values_max) return draft;
  rag_fields_batch_opaque(batch);
  return NULL;
}

static void push_item(rag_fields_batch *batch, fields_draft *draft, fields_kind kind, fields_item item) {
  item.count = 1;
  item.rows.one = (uint16_t)(batch->ordinal % RAG_BITMAP_BLOCK_BITS);
  if (!FIELDS_PUSH(draft->runs[kind], item)) fail_memory(batch);
}

void rag_fields_batch_mark(rag_fields_batch *batch, uint32_t path, uint32_t marks) {
  (void)draft_of(batch, path, marks);
}

void rag_fields_batch_string(rag_fields_batch *batch, uint32_t path, rag_slice value) {
  fields_draft *draft = draft_of_value(batch, path);
  if (!draft) return;
  if (value.size > batch->shared->string_bytes_max) {
    (void)draft_of(batch, path, RAG_FIELDS_MARK_OPAQUE);
    return;
  }
  char *copy = rag_arena_alloc(batch->strings, RAG_MAX(value.size, (size_t)1));
  if (!copy) {
    fail_memory(batch);
    return;
  }
  if (value.size > 0) memcpy(copy, value.data, value.size);
  push_item(batch, draft, FIELDS_STRINGS, (fields_item){.data = copy, .size = (uint32_t)value.size});
}

void rag_fields_batch_int(rag_fields_batch *batch, uint32_t path, int64_t value) {
  fields_draft *draft = draft_of_value(batch, path);
  if (draft) push_item(batch, draft, FIELDS_INTS, (fields_item){.order = fields_order_of_int(value)});
}

void rag_fields_batch_double(rag_fields_batch *batch, uint32_t path, double value) {
  RAG_ASSERT(value == value);
  fields_draft *draft = draft_of_value(batch, path);
  if (draft) push_item(batch, draft, FIELDS_DOUBLES, (fields_item){.order = fields_order_of_double(value)});
}

void rag_fields_batch_time(rag_fields_batch *batch, uint32_t path, int64_t value_us) {
  fields_draft *draft = draft_of_value(batch, path);
  if (draft) push_item(batch, draft, FIELDS_TIMES, (fields_item){.order = fields_order_of_int(value_us)});
}

void rag_fields_batch_point(rag_fields_batch *batch, uint32_t path, double lat, double lon) {
  fields_draft *draft = draft_of_value(batch, path);
  fields_point point = {lat, lon, batch->ordinal % RAG_BITMAP_BLOCK_BITS};
  if (draft && !FIELDS_PUSH(draft->points, point)) fail_memory(batch);
}
