// Counts per value of one path.
//
// Revisions that the index knows whole at the path are counted from it. The others (not indexed, past a limit, values
// that only walking the path tells apart) are fetched, their values go into an index of their own that has no limits,
// and both are counted as one.
#include "kb/filters/plan_internal.h"

#define WORDS RAG_BITMAP_BLOCK_WORDS
#define VERIFY_PER_LOOK 64u
#define BOOLS (RAG_KB__MARK_TRUE | RAG_KB__MARK_FALSE)
#define VALUES (BOOLS | RAG_KB__MARK_STRING | RAG_KB__MARK_INT | RAG_KB__MARK_DOUBLE)

typedef struct facet {
  const rag_kb__filter_source *source;
  rag_kb__path path;
  rag_kb__indexed_path indexed;
  rag_bitmap *counted, *fetched; // parts of the survivors; owned
  rag_fields *values;            // of what is fetched, at FETCHED_PATH; owned
  rag_fields_view *view;         // of values; owned
} facet;

static const char FETCHED_PATH[] = "v";

// ---------------------------------------------------------------------------------------------- who is counted how

static void marked(const facet *f, uint32_t block, uint32_t marks, uint64_t *words) {
  memset(words, 0, WORDS * sizeof *words);
  rag_fields_block_marked(f->source->fields, block, f->indexed.text, marks, words);
}

// Splits a block of survivors: those to count from the index, and those to fetch.
static void split_block(const facet *f, uint32_t block, const uint64_t *survivors, uint64_t *counted,
                        uint64_t *fetched) {
  const rag_fields_view *view = f->source->fields;
  memset(counted, 0, WORDS * sizeof *counted);
  if (f->indexed.covered && !f->indexed.doubled && !f->indexed.numbered) {
    uint64_t opaque[WORDS], direct[WORDS], arrays[WORDS], nested[WORDS];
    rag_fields_block_present(view, block, counted);
    marked(f, block, RAG_FIELDS_MARK_OPAQUE, opaque);
    rag_fields_block_opaque(view, block, opaque);
    for (size_t i = 0; i < WORDS; i++) counted[i] &= survivors[i] & ~opaque[i];
    if (f->indexed.trailing) { // see answer_values in eval.c
      marked(f, block, RAG_KB__MARK_DIRECT, direct);
      marked(f, block, RAG_KB__MARK_ARRAY, arrays);
      marked(f, block, RAG_KB__MARK_NESTED, nested);
      for (size_t i = 0; i < WORDS; i++) {
        fetched[i] = survivors[i] & ~counted[i];
        fetched[i] |= counted[i] & ((direct[i] & arrays[i]) | nested[i]);
        counted[i] &= arrays[i] & ~direct[i] & ~nested[i];
      }
      return;
    }
  }
  for (size_t i = 0; i < WORDS; i++) fetched[i] = survivors[i] & ~counted[i];
}

static rag_status split(facet *f, const rag_bitmap *survivors, rag_error *err) {
  rag_status status = RAG_OK;
  uint64_t counted[WORDS], fetched[WORDS];
  rag_bitmap_edit *a = rag_bitmap_edit_create(NULL), *b = rag_bitmap_edit_create(NULL);
  if (a == NULL || b == NULL) status = RAG_RESOURCE_EXHAUSTED;
  for (uint32_t block = 0; status == RAG_OK && block < rag_bitmap_block_count(survivors); block++) {
    const uint64_t *words = rag_bitmap_block(survivors, block, NULL);
    if (words == NULL) continue;
    split_block(f, block, words, counted, fetched);
    status = rag_bitmap_edit_put_block(a, block, counted);
    if (status == RAG_OK) status = rag_bitmap_edit_put_block(b, block, fetched);
  }
  if (status == RAG_OK) {
    status = rag_bitmap_edit_finish(a, &f->counted);
    a = NULL;
  }
  if (status == RAG_OK) {
    status = rag_bitmap_edit_finish(b, &f->fetched);
    b = NULL;
  }
  rag_bitmap_edit_destroy(a);
  rag_bitmap_edit_destroy(b);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// ---------------------------------------------------------------------------------------------- fetching

typedef struct adding {
  rag_fields_batch *batch;
  uint32_t path;
} adding;

static bool add_value(void *context, rag_json value) {
  const adding *a = context;
  switch (rag_json_type_of(value)) {
  case RAG_JSON_STRING:
    rag_fields_batch_string(a->batch, a->path, rag_json_string(value));
    rag_fields_batch_mark(a->batch, a->path, RAG_KB__MARK_STRING);
    break;
  case RAG_JSON_INT:
    rag_fields_batch_int(a->batch, a->path, rag_json_int(value));
    rag_fields_batch_mark(a->batch, a->path, RAG_KB__MARK_INT);
    break;
  case RAG_JSON_UINT:
  case RAG_JSON_DOUBLE:
    rag_fields_batch_double(a->batch, a->path, rag_json_double(value));
    rag_fields_batch_mark(a->batch, a->path, RAG_KB__MARK_DOUBLE);
    break;
  case RAG_JSON_BOOL:
    rag_fields_batch_mark(a->batch, a->path, rag_json_bool(value) ? RAG_KB__MARK_TRUE : RAG_KB__MARK_FALSE);
    break;
  default:
    break;
  }
  return false;
}

static rag_status fetch_one(const facet *f, uint32_t revision, rag_json_parser *parser, adding *a, rag_error *err) {
  rag_slice id, metadata;
  rag_json root;
  RAG_TRY(f->source->get_document(f->source->context, revision, &id, &metadata, err));
  rag_fields_batch_row(a->batch, revision);
  if (metadata.size == 0) return RAG_OK;
  RAG_TRY(rag_json_parse(parser, metadata, &root, err));
  if (rag_json_type_of(root) == RAG_JSON_OBJECT) (void)rag_kb__filter_walk(&f->path, root, false, add_value, a);
  return RAG_OK;
}

static rag_status fetch(facet *f, rag_error *err) {
  static const rag_fields_options no_limits = {
      .strings_max = UINT32_MAX, .string_bytes_max = RAG_FIELDS_STRING_BYTES_MAX, .row_values_max = UINT32_MAX};
  rag_status status = RAG_OK;
  adding a = {.batch = NULL};
  rag_json_parser *parser = rag_json_parser_acquire();
  uint32_t done = 0;
  if (parser == NULL) return rag_fail_no_memory(err, 0);
  RAG_TRY_OUT(rag_fields_create(&no_limits, &f->values, err));
  RAG_TRY_OUT(rag_fields_batch_create(f->values, &a.batch, err));
  a.path = rag_fields_batch_path(a.batch, rag_slice_str(FETCHED_PATH));
  for (uint32_t revision = 0; rag_bitmap_next(f->fetched, revision, &revision); revision++) {
    if (done++ % VERIFY_PER_LOOK == 0 && f->source->deadline_ns > 0 &&
        rag_clock_monotonic_ns() > f->source->deadline_ns) {
      status = rag_fail(err, RAG_DEADLINE_EXCEEDED, "counting values took longer than the deadline allows");
      goto out;
    }
    RAG_TRY_OUT(fetch_one(f, revision, parser, &a, err));
    if (revision == UINT32_MAX) break;
  }
  RAG_TRY_OUT(rag_fields_append(f->values, a.batch, err));
  f->view = rag_fields_pin(f->values);
out:
  rag_fields_batch_destroy(a.batch);
  rag_json_parser_release(parser);
  return status;
}

// ---------------------------------------------------------------------------------------------- the answer

static uint64_t count_marked(const rag_fields_counted *counted, uint32_t marks) {
  uint64_t count = 0, words[WORDS];
  for (uint32_t block = 0; block < rag_bitmap_block_count(counted->rows); block++) {
    const uint64_t *rows = rag_bitmap_block(counted->rows, block, NULL);
    if (rows == NULL) continue;
    memset(words, 0, sizeof words);
    rag_fields_block_marked(counted->view, block, counted->path, marks, words);
    for (size_t i = 0; i < WORDS; i++) count += (uint64_t)__builtin_popcountll(words[i] & rows[i]);
  }
  return count;
}

static rag_status fill_value(const rag_fields_count *from, rag_arena *arena, rag_facet_value *out, rag_error *err) {
  *out = (rag_facet_value){.count = from->rows, .integer = from->integer, .number = from->number};
  if (from->kind == RAG_FIELDS_INT) out->kind = RAG_FACET_INT;
  if (from->kind == RAG_FIELDS_DOUBLE) out->kind = RAG_FACET_DOUBLE;
  if (from->kind != RAG_FIELDS_STRING) return RAG_OK;
  char *copy = rag_arena_strndup(arena, from->string.data, from->string.size);
  if (copy == NULL) return rag_fail_no_memory(err, from->string.size);
  out->kind = RAG_FACET_STRING;
  out->string = rag_slice_of(copy, from->string.size);
  return RAG_OK;
}

// Puts a bool among the values, which are in order; of equal counts it comes after the other kinds.
static void place_bool(rag_facet_value *values, uint32_t *count, uint32_t limit, bool flag, uint64_t rows) {
  uint32_t at = *count;
  while (at > 0 && values[at - 1].count < rows) at--;
  if (at == limit) return;
  if (*count < limit) (*count)++;
  memmove(values + at + 1, values + at, (*count - at - 1) * sizeof *values);
  values[at] = (rag_facet_value){.kind = RAG_FACET_BOOL, .integer = flag, .count = rows};
}

static rag_status answer(const rag_fields_counted *counted, uint32_t counted_count, uint32_t limit,
                         uint64_t deadline_ns, rag_arena *arena, rag_facet *out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_fields_counts counts = {0};
  rag_facet_value *values = rag_arena_calloc(arena, RAG_MAX(limit, 1u), sizeof *values);
  rag_fields_count *top = rag_calloc(RAG_MAX(limit, 1u), sizeof *top);
  if (values == NULL || top == NULL) {
    status = rag_fail_no_memory(err, limit * sizeof *top);
    goto out;
  }
  RAG_TRY_OUT(rag_fields_count_values(counted, counted_count, limit, deadline_ns, top, &counts, err));
  for (uint32_t i = 0; i < counts.count; i++) RAG_TRY_OUT(fill_value(&top[i], arena, &values[i], err));
  uint64_t bools[2] = {0, 0}, documents = 0;
  for (uint32_t i = 0; i < counted_count; i++) {
    bools[0] += count_marked(&counted[i], RAG_KB__MARK_FALSE);
    bools[1] += count_marked(&counted[i], RAG_KB__MARK_TRUE);
    documents += count_marked(&counted[i], VALUES);
  }
  uint32_t value_count = counts.count;
  for (uint32_t flag = 0; flag < 2; flag++)
    if (bools[flag] > 0) place_bool(values, &value_count, limit, flag == 1, bools[flag]);
  out->values = values;
  out->value_count = value_count;
  out->distinct = counts.distinct + (bools[0] > 0) + (bools[1] > 0);
  out->documents = documents;
  out->has_range = counts.has_range;
  out->min = counts.min;
  out->max = counts.max;
out:
  rag_free(top);
  return status;
}

rag_status rag_kb__facet(const rag_kb__filter_source *source, rag_slice path, const rag_bitmap *survivors,
                         uint32_t limit, rag_arena *arena, rag_facet *out, uint64_t *out_verified, rag_error *err) {
  static const rag_kb__path none = {NULL, 0, {NULL, 0}};
  rag_status status = RAG_OK;
  facet f = {.source = source};
  rag_facet found = {0};
  rag_fields_counted counted[2];
  uint32_t counted_count = 0;
  RAG_TRY(rag_kb__filter_path(path, arena, &f.path, err));
  RAG_TRY(rag_kb__path_indexed(&none, &f.path, source->fields, arena, &f.indexed, err));
  found.field = f.path.text;
  RAG_TRY_OUT(split(&f, survivors, err));
  if (rag_bitmap_count(f.fetched) > 0) {
    RAG_TRY_OUT(fetch(&f, err));
    counted[counted_count++] = (rag_fields_counted){f.view, rag_slice_str(FETCHED_PATH), f.fetched};
  }
  if (rag_bitmap_count(f.counted) > 0)
    counted[counted_count++] = (rag_fields_counted){source->fields, f.indexed.text, f.counted};
  RAG_TRY_OUT(answer(counted, counted_count, limit, source->deadline_ns, arena, &found, err));
  *out_verified = rag_bitmap_count(f.fetched);
  *out = found;
out:
  rag_ref_drop(f.counted);
  rag_ref_drop(f.fetched);
  rag_ref_drop(f.view);
  rag_fields_destroy(f.values);
  return status;
}
