// One path of a segment, from a draft to its final form: one allocation that holds runs, points and marks.
//
// First everything is sorted and counted, then the size is known, then the parts are laid out one after the other, each
// on a multiple of eight bytes.
#include "index/fields/fields_internal.h"

#include <stdlib.h>

// ---------------------------------------------------------------------------------------------- drafts

bool rag_fields__grow(void *array, uint32_t count, uint32_t *capacity, size_t size) {
  void *old, *fresh;
  if (count < *capacity) return true;
  if (count > UINT32_MAX / 4) return false;
  uint32_t wanted = RAG_MAX(RAG_MAX(8u, *capacity * 2), count + 1);
  memcpy(&old, array, sizeof old);
  fresh = rag_realloc_array(old, wanted, size);
  if (!fresh) return false;
  memcpy(array, &fresh, sizeof fresh);
  *capacity = wanted;
  return true;
}

void rag_fields__draft_clear(fields_draft *draft) {
  for (uint32_t kind = 0; kind < FIELDS_KINDS; kind++) draft->runs[kind].count = 0;
  draft->points.count = 0;
  draft->marks.count = 0;
}

void rag_fields__draft_free(fields_draft *draft) {
  for (uint32_t kind = 0; kind < FIELDS_KINDS; kind++) rag_free(draft->runs[kind].items);
  rag_free(draft->points.items);
  rag_free(draft->marks.items);
  *draft = (fields_draft){0};
}

void rag_fields__scratch_free(fields_scratch *scratch) {
  rag_free(scratch->items.items);
  rag_free(scratch->sets);
  *scratch = (fields_scratch){0};
}

// ---------------------------------------------------------------------------------------------- groups of equal keys

static bool same_key(const fields_item *a, const fields_item *b, bool strings) {
  return a->order == b->order && (!strings || (a->size == b->size && memcmp(a->data, b->data, a->size) == 0));
}

// A row that has one value twice gives two items, one after the other.
static bool repeats(const fields_item *before, const fields_item *item) {
  return before->count == 1 && item->count == 1 && before->rows.one == item->rows.one;
}

// The end of the group of equal keys that begins at `first`; its rows, each once.
static uint32_t group_end(const fields_item *items, uint32_t first, uint32_t count, bool strings, uint32_t *out_rows) {
  uint32_t end = first + 1, rows = items[first].count;
  for (; end < count && same_key(&items[end], &items[first], strings); end++)
    if (!repeats(&items[end - 1], &items[end])) rows += items[end].count;
  *out_rows = rows;
  return end;
}

typedef struct counted_run {
  uint32_t items; // after which strings_max is reached: the rest is opaque
  uint32_t keys, postings;
  size_t string_bytes;
} counted_run;

static counted_run count_run(const fields_item *items, uint32_t count, bool strings, uint32_t keys_max) {
  counted_run run = {0};
  for (uint32_t rows, end; run.items < count && run.keys < keys_max; run.items = end) {
    end = group_end(items, run.items, count, strings, &rows);
    run.keys++;
    run.postings += rows;
    run.string_bytes += strings ? items[run.items].size : 0;
  }
  return run;
}

static void copy_rows(const fields_item *items, uint32_t count, uint16_t *out, uint32_t out_count) {
  uint32_t at = 0;
  for (uint32_t i = 0; i < count; i++) {
    const fields_item *item = &items[i];
    if (i > 0 && repeats(item - 1, item)) continue;
    const uint16_t *from = item->count == 1 ? &item->rows.one : item->rows.list;
    if (item->count == 1) out[at] = *from;
    else memcpy(out + at, from, item->count * sizeof *out);
    at += item->count;
  }
  RAG_ASSERT(at == out_count);
}

// ---------------------------------------------------------------------------------------------- layout

static size_t aligned(size_t bytes) {
  return (bytes + 7) / 8 * 8;
}

static size_t run_bytes(const counted_run *run, bool strings) {
  size_t bytes = aligned(sizeof(fields_run)) + aligned(run->postings * sizeof(uint16_t));
  bytes += run->postings / FIELDS_CHUNK * FIELDS_SET_BYTES;
  if (run->postings > run->keys) bytes += aligned(((size_t)run->keys + 1) * sizeof(uint32_t));
  if (!strings) return bytes + run->keys * sizeof(uint64_t);
  return bytes + aligned(((size_t)run->keys + 1) * sizeof(uint32_t)) + aligned(run->string_bytes);
}

static void *carve(char **at, size_t bytes) {
  void *p = *at;
  *at += aligned(bytes);
  return p;
}

static const fields_run *lay_run(char **at, const fields_item *items, const counted_run *counted, fields_kind kind) {
  bool strings = kind == FIELDS_STRINGS;
  fields_run *run = carve(at, sizeof *run);
  uint32_t chunks = counted->postings / FIELDS_CHUNK;
  uint64_t *unions = carve(at, chunks * FIELDS_SET_BYTES);
  uint64_t *numbers = strings ? NULL : carve(at, counted->keys * sizeof *numbers);
  uint32_t *offsets = strings ? carve(at, ((size_t)counted->keys + 1) * sizeof *offsets) : NULL;
  uint32_t *starts = NULL;
  if (counted->postings > counted->keys) starts = carve(at, ((size_t)counted->keys + 1) * sizeof *starts);
  uint16_t *rows = carve(at, counted->postings * sizeof *rows);
  char *bytes = strings ? carve(at, counted->string_bytes) : NULL;
  uint32_t posting = 0, offset = 0, key = 0;
  for (uint32_t i = 0, group, end; i < counted->items; i = end, key++) {
    end = group_end(items, i, counted->items, strings, &group);
    if (strings) {
      offsets[key] = offset;
      if (items[i].size > 0) memcpy(bytes + offset, items[i].data, items[i].size);
      offset += items[i].size;
    } else if (kind == FIELDS_DOUBLES) {
      double v = fields_double_of_order(items[i].order);
      memcpy(&numbers[key], &v, sizeof v);
    } else {
      int64_t v = fields_int_of_order(items[i].order);
      memcpy(&numbers[key], &v, sizeof v);
    }
    if (starts) starts[key] = posting;
    copy_rows(items + i, end - i, rows + posting, group);
    posting += group;
  }
  RAG_ASSERT(key == counted->keys && posting == counted->postings && offset == counted->string_bytes);
  if (starts) starts[key] = posting;
  if (strings) offsets[key] = offset;
  memset(unions, 0, chunks * FIELDS_SET_BYTES);
  for (uint32_t i = 0; i < chunks * FIELDS_CHUNK; i++)
    fields_words_add(unions + (size_t)(i / FIELDS_CHUNK) * FIELDS_WORDS, rows[i]);
  *run = (fields_run){.keys = key, .postings = posting, .starts = starts, .rows = rows, .unions = unions};
  if (strings) {
    run->as.strings.offsets = offsets;
    run->as.strings.bytes = bytes;
  } else {
    run->as.ints = (const int64_t *)(const void *)numbers; // doubles lie there alike
  }
  return run;
}

// ---------------------------------------------------------------------------------------------- marks

// The rows of strings past the limit become opaque. Their number has no bound but the block's.
static void mark_opaque(fields_draft *draft, uint32_t from) {
  const fields_item *items = draft->runs[FIELDS_STRINGS].items;
  for (uint32_t i = from; i < draft->runs[FIELDS_STRINGS].count; i++) {
    const uint16_t *rows = items[i].count == 1 ? &items[i].rows.one : items[i].rows.list;
    for (uint32_t j = 0; j < items[i].count; j++) {
      uint32_t low = 0, high = draft->marks.count; // every row with a value has an entry
      while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (draft->marks.items[middle] >> 16 <= rows[j]) low = middle;
        else high = middle;
      }
      RAG_ASSERT(draft->marks.items[low] >> 16 == rows[j]);
      draft->marks.items[low] |= RAG_FIELDS_MARK_OPAQUE;
    }
  }
}

// Sets of the marks that any row has, in scratch; which[m] is the place of mark m's, FIELDS_MARKS where it has none.
// Equal sets have one place: of a field that every document fills with one string, three marks do.
static bool make_sets(const fields_draft *draft, fields_scratch *scratch, uint32_t which[FIELDS_MARKS],
                      uint32_t *out_count) {
  uint32_t any = 0, count = 0;
  if (!scratch->sets) scratch->sets = rag_alloc(FIELDS_MARKS * FIELDS_SET_BYTES);
  if (!scratch->sets) return false;
  for (uint32_t i = 0; i < draft->marks.count; i++) any |= draft->marks.items[i];
  for (uint32_t m = 0; m < FIELDS_MARKS; m++) {
    uint64_t *words = scratch->sets + (size_t)count * FIELDS_WORDS;
    which[m] = FIELDS_MARKS;
    if (!(any >> m & 1)) continue;
    memset(words, 0, FIELDS_SET_BYTES);
    for (uint32_t i = 0; i < draft->marks.count; i++) {
      uint32_t entry = draft->marks.items[i];
      words[entry >> 22] |= (uint64_t)(entry >> m & 1) << (entry >> 16 & 63);
    }
    which[m] = 0;
    while (which[m] < count && memcmp(scratch->sets + (size_t)which[m] * FIELDS_WORDS, words, FIELDS_SET_BYTES) != 0)
      which[m]++;
    count += which[m] == count;
  }
  *out_count = count;
  return true;
}

static int compare_points(const void *a, const void *b) {
  const fields_point *x = a, *y = b;
  return (x->lat > y->lat) - (x->lat < y->lat);
}

rag_status rag_fields__path_create(const fields_shared *shared, rag_slice text, fields_draft *draft,
                                   fields_scratch *scratch, fields_path **out, rag_error *err) {
  counted_run runs[FIELDS_KINDS];
  uint32_t which[FIELDS_MARKS], set_count = 0;
  size_t bytes = aligned(sizeof(fields_path)) + aligned(text.size);
  for (fields_kind kind = 0; kind < FIELDS_KINDS; kind++) {
    bool strings = kind == FIELDS_STRINGS;
    if (!rag_fields__sort(draft->runs[kind].items, draft->runs[kind].count, strings, scratch))
      return rag_fail_no_memory(err, 0);
    runs[kind] = count_run(draft->runs[kind].items, draft->runs[kind].count, strings,
                           strings ? shared->strings_max : UINT32_MAX);
    if (runs[kind].string_bytes > UINT32_MAX)
      return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "the strings of '%.*s' are more than 4 GiB: leave the field out",
                      (int)RAG_MIN(text.size, (size_t)80), text.data);
    if (runs[kind].keys > 0) bytes += run_bytes(&runs[kind], strings);
  }
  mark_opaque(draft, runs[FIELDS_STRINGS].items);
  bool listed = draft->marks.count <= FIELDS_LIST_MAX;
  if (!listed && !make_sets(draft, scratch, which, &set_count)) return rag_fail_no_memory(err, 0);
  bytes += aligned(draft->points.count * sizeof(fields_point));
  bytes += listed ? aligned(draft->marks.count * sizeof(uint32_t))
                  : FIELDS_MARKS * sizeof(uint64_t *) + set_count * FIELDS_SET_BYTES;
  fields_path *path = rag_alloc(bytes);
  if (!path) return rag_fail_no_memory(err, bytes);
  char *at = (char *)path;
  carve(&at, sizeof *path);
  *path = (fields_path){.bytes = bytes, .rows = draft->marks.count, .point_count = draft->points.count};
  for (fields_kind kind = 0; kind < FIELDS_KINDS; kind++)
    if (runs[kind].keys > 0) path->runs[kind] = lay_run(&at, draft->runs[kind].items, &runs[kind], kind);
  if (draft->points.count > 0) {
    fields_point *points = carve(&at, draft->points.count * sizeof *points);
    memcpy(points, draft->points.items, draft->points.count * sizeof *points);
    qsort(points, draft->points.count, sizeof *points, compare_points);
    path->points = points;
  }
  if (listed) {
    uint32_t *marks = carve(&at, draft->marks.count * sizeof *marks);
    if (draft->marks.count > 0) memcpy(marks, draft->marks.items, draft->marks.count * sizeof *marks);
    path->marks = marks;
  } else {
    const uint64_t **sets = carve(&at, FIELDS_MARKS * sizeof *sets);
    uint64_t *words = carve(&at, set_count * FIELDS_SET_BYTES);
    memcpy(words, scratch->sets, set_count * FIELDS_SET_BYTES);
    for (uint32_t m = 0; m < FIELDS_MARKS; m++)
      sets[m] = which[m] == FIELDS_MARKS ? NULL : words + (size_t)which[m] * FIELDS_WORDS;
    path->sets = sets;
  }
  char *name = carve(&at, text.size);
  memcpy(name, text.data, text.size);
  path->text = rag_slice_of(name, text.size);
  RAG_ASSERT((size_t)(at - (char *)path) == bytes);
  *out = path;
  return RAG_OK;
}

void rag_fields__path_destroy(fields_path *path) {
  rag_free(path);
}
