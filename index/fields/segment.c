// Segments: from drafts, and from other segments of the same block.
//
// Invariants
//   1. `rows` are all rows of the segment; every row of a path or of `opaque` is one of them.
//   2. paths ascend by text, and none is empty of rows.
//   3. Within a block, the segments of a view have no row in common.
#include "index/fields/fields_internal.h"

#include <stdlib.h>

// ---------------------------------------------------------------------------------------------- sets of rows

void rag_fields__set_or(const fields_set *set, uint64_t *words) {
  if (set->words) fields_words_or(words, set->words);
  else
    for (uint32_t i = 0; i < set->count; i++) fields_words_add(words, set->list[i]);
}

static bool set_create(const uint64_t *words, fields_set *out, size_t *bytes) {
  uint32_t count = 0, at = 0;
  for (size_t i = 0; i < FIELDS_WORDS; i++) count += (uint32_t)__builtin_popcountll(words[i]);
  out->count = count;
  if (count == 0) return true;
  if (count > FIELDS_LIST_MAX) {
    out->words = rag_alloc(FIELDS_SET_BYTES);
    if (!out->words) return false;
    memcpy(out->words, words, FIELDS_SET_BYTES);
    *bytes += FIELDS_SET_BYTES;
    return true;
  }
  out->list = rag_alloc(count * sizeof *out->list);
  if (!out->list) return false;
  *bytes += count * sizeof *out->list;
  for (uint32_t w = 0; w < FIELDS_WORDS; w++)
    for (uint64_t bits = words[w]; bits; bits &= bits - 1)
      out->list[at++] = (uint16_t)(w * 64 + (uint32_t)__builtin_ctzll(bits));
  return true;
}

static void set_free(fields_set *set) {
  rag_free(set->list);
  rag_free(set->words);
}

// ---------------------------------------------------------------------------------------------- making

static void segment_destroy(rag_ref *self) {
  fields_segment *segment = (fields_segment *)self;
  atomic_fetch_sub_explicit(&segment->shared->bytes, segment->bytes, memory_order_relaxed);
  for (uint32_t i = 0; i < segment->path_count; i++) rag_fields__path_destroy(segment->paths[i]);
  set_free(&segment->rows);
  set_free(&segment->opaque);
  rag_ref_drop(segment->shared);
  rag_free(segment);
}

static fields_segment *segment_new(fields_shared *shared, uint32_t block, uint32_t path_max) {
  size_t bytes = sizeof(fields_segment) + path_max * sizeof(fields_path *);
  fields_segment *segment = rag_calloc(1, bytes);
  if (!segment) return NULL;
  rag_ref_init(&segment->ref, segment_destroy);
  segment->shared = rag_ref_take(shared);
  segment->block = block;
  segment->bytes = bytes;
  atomic_fetch_add_explicit(&shared->bytes, bytes, memory_order_relaxed);
  return segment;
}

static void segment_count_bytes(fields_segment *segment, size_t bytes) {
  segment->bytes += bytes;
  atomic_fetch_add_explicit(&segment->shared->bytes, bytes, memory_order_relaxed);
}

static rag_status segment_seal(fields_segment *segment, const uint64_t *rows, const uint64_t *opaque, rag_error *err) {
  size_t bytes = 0;
  bool good = set_create(rows, &segment->rows, &bytes) && set_create(opaque, &segment->opaque, &bytes);
  segment_count_bytes(segment, bytes);
  return good ? RAG_OK : rag_fail_no_memory(err, FIELDS_SET_BYTES);
}

static rag_status segment_add(fields_segment *segment, rag_slice text, fields_draft *draft, fields_scratch *scratch,
                              rag_error *err) {
  fields_path *path = NULL;
  RAG_TRY(rag_fields__path_create(segment->shared, text, draft, scratch, &path, err));
  segment->paths[segment->path_count++] = path;
  segment_count_bytes(segment, path->bytes);
  return RAG_OK;
}

static int compare_texts(const void *a, const void *b) {
  return rag_slice_compare(((const fields_draft_path *)a)->text, ((const fields_draft_path *)b)->text);
}

static int compare_rows(const void *a, const void *b) { // most rows first
  const fields_draft_path *x = a, *y = b;
  if (x->draft->marks.count != y->draft->marks.count) return x->draft->marks.count > y->draft->marks.count ? -1 : 1;
  return rag_slice_compare(x->text, y->text);
}

rag_status rag_fields__segment_create(fields_shared *shared, uint32_t block, const uint64_t *rows, uint64_t *opaque,
                                      fields_draft_path *paths, uint32_t path_count, fields_scratch *scratch,
                                      fields_segment **out, rag_error *err) {
  rag_status status = RAG_OK;
  uint32_t kept = RAG_MIN(path_count, shared->paths_max);
  if (path_count > kept) {
    qsort(paths, path_count, sizeof *paths, compare_rows);
    for (uint32_t i = kept; i < path_count; i++)
      for (uint32_t j = 0; j < paths[i].draft->marks.count; j++)
        fields_words_add(opaque, paths[i].draft->marks.items[j] >> 16);
  }
  if (kept > 1) qsort(paths, kept, sizeof *paths, compare_texts);
  fields_segment *segment = segment_new(shared, block, kept);
  if (!segment) return rag_fail_no_memory(err, sizeof *segment);
  for (uint32_t i = 0; i < kept; i++) RAG_TRY_OUT(segment_add(segment, paths[i].text, paths[i].draft, scratch, err));
  RAG_TRY_OUT(segment_seal(segment, rows, opaque, err));
  *out = segment;
  segment = NULL;
out:
  rag_ref_drop(segment);
  return status;
}

// ---------------------------------------------------------------------------------------------- from segments

// What merging needs beside the draft.
typedef struct merge {
  const uint64_t *without;
  fields_draft draft;
  fields_scratch scratch;
  rag_arena *lists; // rows of keys that lost some; of the path at hand
  uint16_t *by_row; // marks of 65,536 rows, for those that come as sets
} merge;

static bool is_out(const merge *m, uint32_t row) {
  return m->without && fields_words_have(m->without, row);
}

static bool take_item(merge *m, fields_kind kind, fields_item item, const uint16_t *rows, uint32_t count) {
  uint32_t left = count;
  if (m->without) {
    left = 0;
    for (uint32_t i = 0; i < count; i++) left += !is_out(m, rows[i]);
  }
  if (left == 0) return true;
  item.count = left;
  if (left == count && count > 1) {
    item.rows.list = rows;
  } else {
    uint16_t *list = left > 1 ? rag_arena_alloc(m->lists, left * sizeof *list) : &item.rows.one;
    uint32_t at = 0;
    if (!list) return false;
    for (uint32_t i = 0; i < count; i++)
      if (!is_out(m, rows[i])) list[at++] = rows[i];
    if (left > 1) item.rows.list = list;
  }
  return FIELDS_PUSH(m->draft.runs[kind], item);
}

static bool take_run(merge *m, fields_kind kind, const fields_run *run) {
  for (uint32_t key = 0; key < run->keys; key++) {
    fields_item item = {0};
    uint32_t start = fields_run_start(run, key), end = fields_run_start(run, key + 1);
    if (kind == FIELDS_STRINGS) {
      rag_slice text = fields_run_string(run, key);
      item.data = text.data;
      item.size = (uint32_t)text.size;
    } else {
      item.order = kind == FIELDS_DOUBLES ? fields_order_of_double(run->as.doubles[key])
                                          : fields_order_of_int(run->as.ints[key]);
    }
    if (!take_item(m, kind, item, run->rows + start, end - start)) return false;
  }
  return true;
}

// Sets as entries of rows.
static bool take_sets(merge *m, const fields_path *path) {
  uint64_t any[FIELDS_WORDS] = {0}, all[FIELDS_WORDS] = {0};
  if (!m->by_row) m->by_row = rag_alloc(RAG_BITMAP_BLOCK_BITS * sizeof *m->by_row);
  if (!m->by_row) return false;
  memset(m->by_row, 0, RAG_BITMAP_BLOCK_BITS * sizeof *m->by_row);
  for (uint32_t mark = 0; mark < FIELDS_MARKS; mark++) {
    if (!path->sets[mark]) continue;
    fields_words_or(any, path->sets[mark]);
    for (uint32_t w = 0; w < FIELDS_WORDS; w++)
      for (uint64_t bits = path->sets[mark][w]; bits; bits &= bits - 1)
        m->by_row[w * 64 + (uint32_t)__builtin_ctzll(bits)] |= (uint16_t)(1u << mark);
  }
  // Rows that have values and no mark: callers may do without marks.
  for (uint32_t kind = 0; kind < FIELDS_KINDS; kind++)
    for (uint32_t i = 0; path->runs[kind] && i < path->runs[kind]->postings; i++)
      fields_words_add(all, path->runs[kind]->rows[i]);
  for (uint32_t i = 0; i < path->point_count; i++) fields_words_add(all, path->points[i].row);
  fields_words_or(any, all);
  for (uint32_t w = 0; w < FIELDS_WORDS; w++) {
    for (uint64_t bits = any[w]; bits; bits &= bits - 1) {
      uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(bits);
      if (!is_out(m, row) && !FIELDS_PUSH(m->draft.marks, row << 16 | m->by_row[row])) return false;
    }
  }
  return true;
}

static bool take_path(merge *m, const fields_path *path) {
  for (fields_kind kind = 0; kind < FIELDS_KINDS; kind++)
    if (path->runs[kind] && !take_run(m, kind, path->runs[kind])) return false;
  for (uint32_t i = 0; i < path->point_count; i++)
    if (!is_out(m, path->points[i].row) && !FIELDS_PUSH(m->draft.points, path->points[i])) return false;
  if (!path->marks) return take_sets(m, path);
  for (uint32_t i = 0; i < path->rows; i++)
    if (!is_out(m, path->marks[i] >> 16) && !FIELDS_PUSH(m->draft.marks, path->marks[i])) return false;
  return true;
}

static int compare_marks(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void sort_marks(fields_draft *draft) { // of segments whose rows interleave
  bool sorted = true;
  for (uint32_t i = 1; i < draft->marks.count && sorted; i++)
    sorted = draft->marks.items[i - 1] < draft->marks.items[i];
  if (!sorted) qsort(draft->marks.items, draft->marks.count, sizeof(uint32_t), compare_marks);
}

// A path of one of the sources.
typedef struct source_path {
  const fields_path *path;
  uint32_t source;
} source_path;

static int compare_source_paths(const void *a, const void *b) {
  const source_path *x = a, *y = b;
  int order = rag_slice_compare(x->path->text, y->path->text);
  return order != 0 ? order : (x->source > y->source) - (x->source < y->source);
}

// Equal texts that follow each other, and the rows that have them.
typedef struct group {
  uint32_t first, end;
  uint64_t rows;
} group;

static int compare_groups_by_rows(const void *a, const void *b) {
  const group *x = a, *y = b;
  if (x->rows != y->rows) return x->rows > y->rows ? -1 : 1;
  return (x->first > y->first) - (x->first < y->first);
}

static int compare_groups(const void *a, const void *b) {
  const group *x = a, *y = b;
  return (x->first > y->first) - (x->first < y->first);
}

static rag_status merge_groups(merge *m, fields_segment *segment, const source_path *paths, const group *groups,
                               uint32_t count, rag_error *err) {
  for (uint32_t g = 0; g < count; g++) {
    rag_fields__draft_clear(&m->draft);
    rag_arena_reset(m->lists);
    for (uint32_t i = groups[g].first; i < groups[g].end; i++)
      if (!take_path(m, paths[i].path)) return rag_fail_no_memory(err, 0);
    if (m->draft.marks.count == 0) continue;
    sort_marks(&m->draft);
    RAG_TRY(segment_add(segment, paths[groups[g].first].path->text, &m->draft, &m->scratch, err));
  }
  return RAG_OK;
}

rag_status rag_fields__segment_merge(fields_shared *shared, fields_segment *const *segments, uint32_t count,
                                     const uint64_t *without, fields_segment **out, rag_error *err) {
  rag_status status = RAG_OK;
  uint64_t rows[FIELDS_WORDS] = {0}, opaque[FIELDS_WORDS] = {0}, any = 0;
  uint32_t path_count = 0, group_count = 0;
  merge m = {.without = without};
  fields_segment *segment = NULL;
  source_path *paths = NULL;
  group *groups = NULL;
  for (uint32_t i = 0; i < count; i++) {
    rag_fields__set_or(&segments[i]->rows, rows);
    rag_fields__set_or(&segments[i]->opaque, opaque);
    path_count += segments[i]->path_count;
  }
  for (size_t w = 0; w < FIELDS_WORDS; w++) {
    if (without) {
      rows[w] &= ~without[w];
      opaque[w] &= ~without[w];
    }
    any |= rows[w];
  }
  if (any == 0) {
    *out = NULL;
    return RAG_OK;
  }
  paths = rag_calloc(RAG_MAX(path_count, 1u), sizeof *paths);
  groups = rag_calloc(RAG_MAX(path_count, 1u), sizeof *groups);
  m.lists = rag_arena_create(0);
  if (!paths || !groups || !m.lists) {
    status = rag_fail_no_memory(err, path_count * sizeof *paths);
    goto out;
  }
  for (uint32_t i = 0, at = 0; i < count; i++)
    for (uint32_t j = 0; j < segments[i]->path_count; j++) paths[at++] = (source_path){segments[i]->paths[j], i};
  if (count > 1 && path_count > 1) qsort(paths, path_count, sizeof *paths, compare_source_paths);
  for (uint32_t i = 0; i < path_count; i++) {
    if (i == 0 || !rag_slice_equal(paths[i].path->text, paths[i - 1].path->text))
      groups[group_count++] = (group){.first = i};
    groups[group_count - 1].end = i + 1;
    groups[group_count - 1].rows += paths[i].path->rows;
  }
  uint32_t kept = RAG_MIN(group_count, shared->paths_max);
  if (group_count > kept) { // the rows of the rest are not decided any more
    qsort(groups, group_count, sizeof *groups, compare_groups_by_rows);
    for (uint32_t g = kept; g < group_count; g++) {
      rag_fields__draft_clear(&m.draft);
      rag_arena_reset(m.lists);
      for (uint32_t i = groups[g].first; i < groups[g].end; i++) {
        if (!take_path(&m, paths[i].path)) {
          status = rag_fail_no_memory(err, 0);
          goto out;
        }
      }
      for (uint32_t i = 0; i < m.draft.marks.count; i++) fields_words_add(opaque, m.draft.marks.items[i] >> 16);
    }
    qsort(groups, kept, sizeof *groups, compare_groups);
  }
  segment = segment_new(shared, segments[0]->block, kept);
  if (!segment) {
    status = rag_fail_no_memory(err, sizeof *segment);
    goto out;
  }
  RAG_TRY_OUT(merge_groups(&m, segment, paths, groups, kept, err));
  RAG_TRY_OUT(segment_seal(segment, rows, opaque, err));
  atomic_fetch_add_explicit(&shared->merges, 1, memory_order_relaxed);
  *out = segment;
  segment = NULL;
out:
  rag_ref_drop(segment);
  rag_fields__draft_free(&m.draft);
  rag_fields__scratch_free(&m.scratch);
  rag_arena_destroy(m.lists);
  rag_free(m.by_row);
  rag_free(groups);
  rag_free(paths);
  return status;
}

// ---------------------------------------------------------------------------------------------- reading

const fields_path *rag_fields__path(const fields_segment *segment, rag_slice text) {
  uint32_t low = 0, high = segment->path_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    int order = rag_slice_compare(segment->paths[middle]->text, text);
    if (order == 0) return segment->paths[middle];
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return NULL;
}

uint64_t rag_fields__segment_values(const fields_segment *segment) {
  uint64_t values = 0;
  for (uint32_t i = 0; i < segment->path_count; i++) {
    for (uint32_t kind = 0; kind < FIELDS_KINDS; kind++)
      if (segment->paths[i]->runs[kind]) values += segment->paths[i]->runs[kind]->postings;
    values += segment->paths[i]->point_count;
  }
  return values;
}
