// The field indexes as their callers see them: options, append, remove, views, and when segments are merged.
//
// Invariants
//   1. A published view never changes. The cell holds the newest one.
//   2. A failed append or remove publishes nothing.
//   3. A block has less than FIELDS_FAN segments of each size class, classes being powers of FIELDS_FAN; a block that
//      stopped being the last one was made one segment then.
// So a value is written once for each class that its segment grows through, at most six times, and a question about a
// block looks into at most 42 segments, of which most are tiny.
//
// Threads: create, append, remove and destroy are the one writer's; pin is anyone's and lock-free.
#include "index/fields/fields_internal.h"

#include <stdlib.h>

#define CLASSES 6u // FIELDS_FAN ^ CLASSES > RAG_BITMAP_BLOCK_BITS

struct rag_fields {
  fields_shared *shared; // owned reference
  rag_cell newest;       // written by the one writer; readers take references
};

// ---------------------------------------------------------------------------------------------- options

static void list_free(fields_list *list) {
  for (uint32_t i = 0; list->items && i < list->count; i++) rag_free((void *)list->items[i].data);
  rag_free(list->items);
}

static int compare_slices(const void *a, const void *b) {
  return rag_slice_compare(*(const rag_slice *)a, *(const rag_slice *)b);
}

static rag_status list_copy(const char *field, const rag_slice *from, uint32_t count, fields_list *out,
                            rag_error *err) {
  if (count == 0) return RAG_OK;
  if (count > RAG_FIELDS_LIST_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: %u paths are too many, at most %u", field, count,
                          RAG_FIELDS_LIST_MAX);
  out->items = rag_calloc(count, sizeof *out->items);
  if (!out->items) return rag_fail_no_memory(err, count * sizeof *out->items);
  out->count = count;
  for (uint32_t i = 0; i < count; i++) {
    if (from[i].size == 0 || from[i].size > RAG_FIELDS_PATH_BYTES_MAX)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s[%u]: a path is 1 to %u bytes", field, i,
                            RAG_FIELDS_PATH_BYTES_MAX);
    size_t size = from[i].size;
    while (size > 2 && memcmp(from[i].data + size - 2, "[]", 2) == 0) size -= 2;
    char *copy = rag_strndup(from[i].data, size);
    if (!copy) return rag_fail_no_memory(err, size);
    out->items[i] = rag_slice_of(copy, size);
  }
  qsort(out->items, count, sizeof *out->items, compare_slices);
  return RAG_OK;
}

// Whether the list has the path or one that it goes on from.
static bool list_covers(const fields_list *list, rag_slice path) {
  for (size_t size = 1; size <= path.size; size++) {
    if (size < path.size && path.data[size] != '.' && path.data[size] != '[') continue;
    rag_slice head = rag_slice_of(path.data, size);
    if (bsearch(&head, list->items, list->count, sizeof head, compare_slices)) return true;
  }
  return false;
}

bool rag_fields__has_path(const fields_shared *shared, rag_slice path) {
  return (shared->only.count == 0 || list_covers(&shared->only, path)) &&
         (shared->except.count == 0 || !list_covers(&shared->except, path));
}

static rag_status take_limit(const char *field, uint32_t given, uint32_t normal, uint32_t max, uint32_t *out,
                             rag_error *err) {
  if (given > max)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s is %u: it must be at most %u", field, given, max);
  *out = given > 0 ? given : normal;
  return RAG_OK;
}

static void shared_destroy(rag_ref *self) {
  fields_shared *shared = (fields_shared *)self;
  list_free(&shared->only);
  list_free(&shared->except);
  rag_free(shared);
}

// ---------------------------------------------------------------------------------------------- views

static void view_destroy(rag_ref *self) {
  rag_fields_view *view = (rag_fields_view *)self;
  for (uint32_t i = 0; i < view->segment_count; i++) rag_ref_drop(view->segments[i]);
  rag_ref_drop(view->shared);
  rag_free(view);
}

static rag_fields_view *view_new(fields_shared *shared, uint32_t segments_max) {
  rag_fields_view *view = rag_calloc(1, sizeof *view + segments_max * sizeof(fields_segment *));
  if (!view) return NULL;
  rag_ref_init(&view->ref, view_destroy);
  view->shared = rag_ref_take(shared);
  return view;
}

static void view_add(rag_fields_view *view, fields_segment *segment) { // takes the reference over
  view->segments[view->segment_count++] = segment;
  view->rows += segment->rows.count;
  view->bytes += segment->bytes;
}

void rag_fields__view_block(const rag_fields_view *view, uint32_t block, uint32_t *first, uint32_t *end) {
  uint32_t low = 0, high = view->segment_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (view->segments[middle]->block < block) low = middle + 1;
    else high = middle;
  }
  *first = low;
  while (low < view->segment_count && view->segments[low]->block == block) low++;
  *end = low;
}

rag_fields_view *rag_fields_pin(rag_fields *fields) {
  return rag_cell_get(&fields->newest);
}

uint32_t rag_fields_view_blocks(const rag_fields_view *view) {
  return view->segment_count > 0 ? view->segments[view->segment_count - 1]->block + 1 : 0;
}

uint64_t rag_fields_view_rows(const rag_fields_view *view) {
  return view->rows;
}

bool rag_fields_view_has_path(const rag_fields_view *view, rag_slice path) {
  return rag_fields__has_path(view->shared, path);
}

// ---------------------------------------------------------------------------------------------- create, destroy

rag_status rag_fields_create(const rag_fields_options *options, rag_fields **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_fields_view *empty = NULL;
  rag_fields *fields = rag_calloc(1, sizeof *fields);
  fields_shared *shared = fields ? rag_calloc(1, sizeof *shared) : NULL;
  if (!shared) {
    rag_free(fields);
    return rag_fail_no_memory(err, sizeof *fields + sizeof *shared);
  }
  rag_ref_init(&shared->ref, shared_destroy);
  fields->shared = shared;
  shared->bytes_max = options->memory_bytes_max;
  RAG_TRY_OUT(take_limit("paths_max", options->paths_max, RAG_FIELDS_PATHS_DEFAULT, RAG_FIELDS_PATHS_MAX,
                         &shared->paths_max, err));
  RAG_TRY_OUT(take_limit("string_bytes_max", options->string_bytes_max, RAG_FIELDS_STRING_BYTES_DEFAULT,
                         RAG_FIELDS_STRING_BYTES_MAX, &shared->string_bytes_max, err));
  shared->strings_max = options->strings_max > 0 ? options->strings_max : RAG_FIELDS_STRINGS_DEFAULT;
  shared->row_values_max = options->row_values_max > 0 ? options->row_values_max : RAG_FIELDS_ROW_VALUES_DEFAULT;
  RAG_TRY_OUT(list_copy("only", options->only, options->only_count, &shared->only, err));
  RAG_TRY_OUT(list_copy("except", options->except, options->except_count, &shared->except, err));
  empty = view_new(shared, 0);
  if (!empty) {
    status = rag_fail_no_memory(err, sizeof *empty);
    goto out;
  }
  rag_cell_init(&fields->newest, empty);
  *out = fields;
  fields = NULL;
out:
  if (fields) {
    rag_ref_drop(shared);
    rag_free(fields);
  }
  return status;
}

void rag_fields_destroy(rag_fields *fields) {
  if (!fields) return;
  rag_cell_set(&fields->newest, NULL);
  rag_ref_drop(fields->shared);
  rag_free(fields);
}

fields_shared *rag_fields__shared(const rag_fields *fields) {
  return fields->shared;
}

// ---------------------------------------------------------------------------------------------- append

static uint32_t class_of(uint64_t rows) {
  uint32_t class = 0;
  for (uint64_t size = FIELDS_FAN; size <= rows && class < CLASSES - 1; size *= FIELDS_FAN) class ++;
  return class;
}

// Which of a block's segments become one: 1 in `chosen`. With `all`, every one, where there are several.
static uint32_t choose(fields_segment *const *segments, uint32_t count, bool all, uint8_t *chosen) {
  uint32_t chosen_count = 0;
  uint64_t merged_rows = 0; // of what is chosen so far
  memset(chosen, all, count);
  if (all) return count;
  for (uint32_t class = 0; class < CLASSES; class ++) {
    uint32_t here = merged_rows > 0 && class_of(merged_rows) == class;
    for (uint32_t i = 0; i < count; i++) here += !chosen[i] && class_of(segments[i]->rows.count) == class;
    if (here < FIELDS_FAN) continue;
    for (uint32_t i = 0; i < count; i++) {
      if (chosen[i] || class_of(segments[i]->rows.count) != class) continue;
      chosen[i] = 1;
      chosen_count++;
      merged_rows += segments[i]->rows.count;
    }
  }
  return chosen_count;
}

// The segments of one block, as they are to be in `view`. Takes over the reference `added`, also on failure.
static rag_status add_block(fields_shared *shared, rag_fields_view *view, fields_segment *const *old,
                            uint32_t old_count, fields_segment *added, bool seal, rag_error *err) {
  rag_status status = RAG_OK;
  uint32_t count = old_count + (added != NULL);
  fields_segment *merged = NULL, **segments = rag_calloc(count, sizeof *segments), **inputs = NULL;
  uint8_t *chosen = rag_alloc(count);
  inputs = rag_calloc(count, sizeof *inputs);
  if (!segments || !chosen || !inputs) {
    status = rag_fail_no_memory(err, count * sizeof *segments);
    goto out;
  }
  for (uint32_t i = 0; i < old_count; i++) segments[i] = old[i];
  if (added) segments[old_count] = added;
  uint32_t chosen_count = choose(segments, count, seal, chosen), at = 0;
  for (uint32_t i = 0; i < count; i++)
    if (chosen[i]) inputs[at++] = segments[i];
  if (chosen_count < 2) memset(chosen, 0, count);
  else RAG_TRY_OUT(rag_fields__segment_merge(shared, inputs, chosen_count, NULL, &merged, err));
  if (merged) view_add(view, merged);
  for (uint32_t i = 0; i < count; i++)
    if (!chosen[i]) view_add(view, rag_ref_take(segments[i]));
out:
  rag_ref_drop(added);
  rag_free(inputs);
  rag_free(chosen);
  rag_free(segments);
  return status;
}

static rag_status check_absent(const rag_fields_view *newest, const fields_segment *added, rag_error *err) {
  uint32_t first, end;
  uint64_t rows[FIELDS_WORDS] = {0}, more[FIELDS_WORDS] = {0};
  rag_fields__view_block(newest, added->block, &first, &end);
  if (first == end) return RAG_OK;
  rag_fields__set_or(&added->rows, more);
  for (uint32_t i = first; i < end; i++) rag_fields__set_or(&newest->segments[i]->rows, rows);
  for (uint32_t w = 0; w < FIELDS_WORDS; w++) {
    if ((rows[w] & more[w]) == 0) continue;
    uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(rows[w] & more[w]);
    return rag_fail(err, RAG_ALREADY_EXISTS, "row %u is in the index already",
                    added->block * RAG_BITMAP_BLOCK_BITS + row);
  }
  return RAG_OK;
}

static rag_status build_view(rag_fields *fields, const rag_fields_view *newest, fields_segments *added,
                             rag_fields_view *view, rag_error *err) {
  uint32_t last = 0, before_last = 0;
  if (newest->segment_count > 0) last = before_last = newest->segments[newest->segment_count - 1]->block;
  last = RAG_MAX(last, added->items[added->count - 1]->block);
  for (uint32_t i = 0, a = 0; i < newest->segment_count || a < added->count;) {
    uint32_t old = i < newest->segment_count ? newest->segments[i]->block : UINT32_MAX;
    uint32_t fresh = a < added->count ? added->items[a]->block : UINT32_MAX;
    uint32_t block = RAG_MIN(old, fresh), first = i, end = i;
    if (old == block) rag_fields__view_block(newest, block, &first, &end);
    fields_segment *one = NULL;
    if (fresh == block) {
      one = added->items[a];
      added->items[a++] = NULL;
    }
    bool seal = block < last && block >= before_last && end - first + (one != NULL) > 1;
    if (one || seal) {
      RAG_TRY(add_block(fields->shared, view, newest->segments + first, end - first, one, seal, err));
    } else {
      for (uint32_t s = first; s < end; s++) view_add(view, rag_ref_take(newest->segments[s]));
    }
    i = end;
  }
  return RAG_OK;
}

rag_status rag_fields_append(rag_fields *fields, rag_fields_batch *batch, rag_error *err) {
  rag_status status = RAG_OK;
  rag_fields_view *newest = rag_fields_pin(fields), *view = NULL;
  fields_segments *added = rag_fields__batch_segments(batch);
  RAG_ASSERT(rag_fields__batch_shared(batch) == fields->shared);
  RAG_TRY_OUT(rag_fields__batch_finish(batch, err));
  if (added->count == 0) goto out;
  for (uint32_t i = 0; i < added->count; i++) RAG_TRY_OUT(check_absent(newest, added->items[i], err));
  view = view_new(fields->shared, newest->segment_count + added->count);
  if (!view) {
    status = rag_fail_no_memory(err, sizeof *view);
    goto out;
  }
  RAG_TRY_OUT(build_view(fields, newest, added, view, err));
  if (fields->shared->bytes_max > 0 && view->bytes > fields->shared->bytes_max) {
    status = rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                      "the field indexes would use %llu of the %llu bytes of memory they may use: raise the limit, or "
                      "index fewer fields",
                      (unsigned long long)view->bytes, (unsigned long long)fields->shared->bytes_max);
    goto out;
  }
  rag_cell_set(&fields->newest, view);
  view = NULL;
out:
  rag_fields__batch_clear(batch);
  rag_ref_drop(view);
  rag_ref_drop(newest);
  return status;
}

// ---------------------------------------------------------------------------------------------- remove

static bool touches(const fields_segment *segment, const uint64_t *without) {
  uint64_t any = 0;
  if (!segment->rows.words) {
    for (uint32_t i = 0; i < segment->rows.count; i++)
      if (fields_words_have(without, segment->rows.list[i])) return true;
    return false;
  }
  for (size_t w = 0; w < FIELDS_WORDS; w++) any |= segment->rows.words[w] & without[w];
  return any != 0;
}

rag_status rag_fields_remove(rag_fields *fields, const rag_bitmap *ordinals, rag_error *err) {
  rag_status status = RAG_OK;
  rag_fields_view *newest = rag_fields_pin(fields), *view = view_new(fields->shared, newest->segment_count);
  if (!view) {
    status = rag_fail_no_memory(err, sizeof *view);
    goto out;
  }
  bool changed = false;
  for (uint32_t i = 0; i < newest->segment_count; i++) {
    fields_segment *segment = newest->segments[i], *left = NULL;
    const uint64_t *without = rag_bitmap_block(ordinals, segment->block, NULL);
    if (!without || !touches(segment, without)) {
      view_add(view, rag_ref_take(segment));
      continue;
    }
    changed = true;
    RAG_TRY_OUT(rag_fields__segment_merge(fields->shared, &segment, 1, without, &left, err));
    if (left) view_add(view, left);
  }
  if (!changed) goto out;
  rag_cell_set(&fields->newest, view);
  view = NULL;
out:
  rag_ref_drop(view);
  rag_ref_drop(newest);
  return status;
}

// ---------------------------------------------------------------------------------------------- numbers

rag_status rag_fields_stats_get(rag_fields *fields, rag_fields_stats *out, rag_error *err) {
  rag_fields_view *view = rag_fields_pin(fields);
  rag_fields_stats stats = {.rows = view->rows, .bytes = view->bytes, .segments = view->segment_count};
  uint32_t count = 0;
  for (uint32_t i = 0; i < view->segment_count; i++) count += view->segments[i]->path_count;
  rag_slice *paths = rag_calloc(RAG_MAX(count, 1u), sizeof *paths);
  if (!paths) {
    rag_ref_drop(view);
    return rag_fail_no_memory(err, count * sizeof *paths);
  }
  count = 0;
  for (uint32_t i = 0; i < view->segment_count; i++) {
    const fields_segment *segment = view->segments[i];
    stats.values += rag_fields__segment_values(segment);
    stats.opaque_rows += segment->opaque.count;
    for (uint32_t j = 0; j < segment->path_count; j++) {
      const fields_run *strings = segment->paths[j]->runs[FIELDS_STRINGS];
      paths[count++] = segment->paths[j]->text;
      stats.strings += strings ? strings->keys : 0;
    }
  }
  if (count > 1) qsort(paths, count, sizeof *paths, compare_slices);
  for (uint32_t i = 0; i < count; i++) stats.paths += i == 0 || !rag_slice_equal(paths[i], paths[i - 1]);
  stats.bytes_all = atomic_load_explicit(&fields->shared->bytes, memory_order_relaxed);
  stats.merges = atomic_load_explicit(&fields->shared->merges, memory_order_relaxed);
  rag_free(paths);
  rag_ref_drop(view);
  *out = stats;
  return RAG_OK;
}
