// Goal: every question about a block gives exactly the rows that have such a value, whatever the order of keys, the
// sizes of segments and how they were merged; limits make rows opaque and never wrong; what is removed is forgotten;
// a failed append leaves nothing behind.
//
// Method: rows with random values, kept as plain arrays too, enough of them in one block that runs have unions and marks
// are sets; questions drawn at random and answered by both. Then each limit at it and one past it, every failing
// allocation, and the errors.
#include "fields_testing.h"

#include <math.h>

#define ROWS 62000u
#define PATHS 3u
#define VALUES 3u // of a row at a path, at most

typedef struct value {
  rag_fields_kind kind; // RAG_FIELDS_DOUBLE + 1: a time
  char string[12];
  int64_t integer;
  double number;
} value;
#define TIME ((rag_fields_kind)(RAG_FIELDS_DOUBLE + 1))
typedef struct model_row {
  bool present;
  uint32_t marks[PATHS];
  uint32_t counts[PATHS];
  value values[PATHS][VALUES];
} model_row;
static model_row model[ROWS];

static const char *const path_names[PATHS] = {"a", "b.c", "d[].e"};
static uint64_t seed = 7;

static uint32_t draw(uint32_t below) {
  return random_below(&seed, below);
}

static value draw_value(uint32_t path) {
  value v = {.kind = (rag_fields_kind)draw(4)};
  uint32_t spread = path == 0 ? 6 : path == 1 ? 300 : 1000000; // few keys of many rows, and many of few
  if (v.kind == RAG_FIELDS_STRING) snprintf(v.string, sizeof v.string, "%.*s%u", (int)draw(3), "zz", draw(spread));
  v.integer = (int64_t)draw(spread) - spread / 2;
  if (draw(50) == 0) v.integer = INT64_MAX - draw(3);
  if (draw(50) == 0) v.integer = INT64_MIN + draw(3);
  v.number = ((double)draw(spread) - spread / 2) / 4;
  if (draw(50) == 0) v.number = draw(2) ? -0.0 : 1e300;
  return v;
}

static void add_row(rag_fields_batch *batch, const uint32_t *paths, uint32_t ordinal, model_row *row) {
  *row = (model_row){.present = true};
  rag_fields_batch_row(batch, ordinal);
  for (uint32_t p = 0; p < PATHS; p++) {
    uint32_t count = draw(5) == 0 ? draw(VALUES + 1) : 1;
    for (uint32_t i = 0; i < count; i++) {
      value v = draw(4) == 0 && i > 0 ? row->values[p][i - 1] : draw_value(p); // also twice the same
      row->values[p][row->counts[p]++] = v;
      if (v.kind == RAG_FIELDS_STRING) rag_fields_batch_string(batch, paths[p], rag_slice_str(v.string));
      if (v.kind == RAG_FIELDS_INT) rag_fields_batch_int(batch, paths[p], v.integer);
      if (v.kind == RAG_FIELDS_DOUBLE) rag_fields_batch_double(batch, paths[p], v.number);
      if (v.kind == TIME) rag_fields_batch_time(batch, paths[p], v.integer);
    }
    if (draw(3) > 0) {
      row->marks[p] = 1u << draw(15) | 2;
      rag_fields_batch_mark(batch, paths[p], row->marks[p]);
    }
  }
}

// Rows [first, first + count) of the model, at these ordinals.
static rag_status append(rag_fields *fields, uint32_t first, uint32_t count) {
  rag_fields_batch *batch = NULL;
  rag_error err = {0};
  uint32_t paths[PATHS];
  assert_int_equal(rag_fields_batch_create(fields, &batch, NULL), RAG_OK);
  for (uint32_t p = 0; p < PATHS; p++) paths[p] = rag_fields_batch_path(batch, rag_slice_str(path_names[p]));
  for (uint32_t i = first; i < first + count; i++) add_row(batch, paths, i, &model[i]);
  rag_status status = rag_fields_append(fields, batch, &err);
  if (status != RAG_OK) fail_msg("%s", err.message);
  rag_fields_batch_destroy(batch);
  return status;
}

static rag_fields *make_fields(const rag_fields_options *options) {
  static const rag_fields_options none = {0};
  rag_fields *fields = NULL;
  assert_int_equal(rag_fields_create(options ? options : &none, &fields, NULL), RAG_OK);
  return fields;
}

// ---------------------------------------------------------------------------------------------- questions

typedef struct question {
  enum { ANY_STRING, ANY_INT, EXCEPT_STRING, EXCEPT_INT, PREFIX, CONTAINING, NUMBERS, TIMES, MARKED, KINDS } kind;
  rag_slice strings[8];
  char texts[8][12];
  int64_t ints[8];
  uint32_t count;
  rag_fields_range range;
  uint32_t marks;
} question;

static int compare_slices(const void *a, const void *b) {
  return rag_slice_compare(*(const rag_slice *)a, *(const rag_slice *)b);
}
static int compare_ints(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

// Filled in its place: its strings point into itself.
static void draw_question(uint32_t path, question *q) {
  *q = (question){.count = draw(9), .marks = 1u << draw(15)};
  q->kind = draw(KINDS);
  if (q->kind == PREFIX) q->count = 1;
  for (uint32_t i = 0; i < q->count; i++) {
    value v = draw_value(path);
    while (v.kind != RAG_FIELDS_STRING) v = draw_value(path);
    snprintf(q->texts[i], sizeof q->texts[i], "%s", v.string);
    q->ints[i] = v.integer;
  }
  for (uint32_t i = 0; i < q->count; i++) {
    q->strings[i] = rag_slice_str(q->texts[i]);
    if (q->kind == PREFIX) q->strings[i].size = draw((uint32_t)q->strings[i].size + 1);
  }
  qsort(q->strings, q->count, sizeof *q->strings, compare_slices);
  qsort(q->ints, q->count, sizeof *q->ints, compare_ints);
  value low = draw_value(path), high = draw_value(path);
  q->range = (rag_fields_range){.has_low = draw(5) > 0,
                                .has_high = draw(5) > 0,
                                .low_open = draw(2),
                                .high_open = draw(2),
                                .low = draw(2) ? low.number : (double)low.integer,
                                .high = draw(2) ? high.number : (double)high.integer,
                                .low_us = low.integer,
                                .high_us = high.integer};
  if (draw(4) > 0 && q->range.low > q->range.high) { // mostly ends that do not cross
    double swap = q->range.low;
    q->range.low = q->range.high;
    q->range.high = swap;
  }
}

static bool number_in(const rag_fields_range *r, double v) {
  return (!r->has_low || (r->low_open ? v > r->low : v >= r->low)) &&
         (!r->has_high || (r->high_open ? v < r->high : v <= r->high));
}
static bool time_in(const rag_fields_range *r, int64_t v) {
  return (!r->has_low || (r->low_open ? v > r->low_us : v >= r->low_us)) &&
         (!r->has_high || (r->high_open ? v < r->high_us : v <= r->high_us));
}

static bool value_holds(const question *q, const value *v) {
  bool among = false;
  switch (q->kind) {
  case ANY_STRING:
  case EXCEPT_STRING:
    for (uint32_t i = 0; i < q->count; i++) among |= rag_slice_equal(q->strings[i], rag_slice_str(v->string));
    return v->kind == RAG_FIELDS_STRING && among == (q->kind == ANY_STRING);
  case ANY_INT:
  case EXCEPT_INT:
    for (uint32_t i = 0; i < q->count; i++) among |= q->ints[i] == v->integer;
    return v->kind == RAG_FIELDS_INT && among == (q->kind == ANY_INT);
  case PREFIX:
    return v->kind == RAG_FIELDS_STRING && strncmp(v->string, q->strings[0].data, q->strings[0].size) == 0;
  case CONTAINING:
    for (uint32_t i = 0; i < q->count; i++) among |= strstr(v->string, q->texts[i]) != NULL;
    return v->kind == RAG_FIELDS_STRING && among;
  case NUMBERS:
    return (v->kind == RAG_FIELDS_INT && number_in(&q->range, (double)v->integer)) ||
           (v->kind == RAG_FIELDS_DOUBLE && number_in(&q->range, v->number));
  default:
    return v->kind == TIME && time_in(&q->range, v->integer);
  }
}

static bool row_holds(const question *q, uint32_t path, const model_row *row) {
  if (!row->present) return false;
  if (q->kind == MARKED) return (row->marks[path] & q->marks) != 0;
  for (uint32_t i = 0; i < row->counts[path]; i++)
    if (value_holds(q, &row->values[path][i])) return true;
  return false;
}

static void ask(const rag_fields_view *view, const question *q, uint32_t path_index, uint64_t *words) {
  rag_slice path = rag_slice_str(path_names[path_index]);
  memset(words, 0, WORDS * sizeof *words);
  switch (q->kind) {
  case ANY_STRING:
  case EXCEPT_STRING:
    rag_fields_block_strings(view, 0, path, q->strings, q->count, q->kind == EXCEPT_STRING, words);
    break;
  case ANY_INT:
  case EXCEPT_INT:
    rag_fields_block_ints(view, 0, path, q->ints, q->count, q->kind == EXCEPT_INT, words);
    break;
  case PREFIX:
    rag_fields_block_prefix(view, 0, path, q->strings[0], words);
    break;
  case CONTAINING:
    assert_true(rag_fields_block_containing(view, 0, path, q->strings, q->count, 0, words));
    break;
  case NUMBERS:
    rag_fields_block_numbers(view, 0, path, &q->range, words);
    break;
  case TIMES:
    rag_fields_block_times(view, 0, path, &q->range, words);
    break;
  default:
    rag_fields_block_marked(view, 0, path, q->marks, words);
  }
}

static void check_questions(rag_fields *fields, uint32_t count) {
  rag_fields_view *view = rag_fields_pin(fields);
  uint64_t words[WORDS];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t path = draw(PATHS);
    question q;
    draw_question(path, &q);
    ask(view, &q, path, words);
    for (uint32_t row = 0; row < ROWS; row++)
      if (words_have(words, row) != row_holds(&q, path, &model[row]))
        fail_msg("question of kind %d at %s: row %u", (int)q.kind, path_names[path], row);
    assert_false(words_have(words, ROWS)); // and none past the last
  }
  rag_ref_drop(view);
}

static void test_questions(void **state) {
  (void)state;
  rag_fields *fields = make_fields(NULL);
  rag_fields_stats stats;
  memset(model, 0, sizeof model);
  append(fields, 10, 45000); // a quarter of the values is of each kind: runs of more than 8,192 have unions
  check_questions(fields, 120);
  for (uint32_t at = 45010; at < 50000; at += 5) append(fields, at, 5); // merges of merges
  check_questions(fields, 120);
  append(fields, 55000, 7000);
  for (uint32_t at = 50000; at < 55000; at += 1000) append(fields, at, 1000); // below what is there: rows interleave
  check_questions(fields, 120);
  assert_int_equal(rag_fields_stats_get(fields, &stats, NULL), RAG_OK);
  assert_true(stats.rows == ROWS - 10 && stats.paths == PATHS && stats.merges > 100 && stats.segments < 42);
  // Every third row goes, one segment stays whole.
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *gone = NULL;
  for (uint32_t row = 0; row < 54000; row += 3) {
    assert_int_equal(rag_bitmap_edit_add(edit, row), RAG_OK);
    model[row].present = false;
  }
  assert_int_equal(rag_bitmap_edit_finish(edit, &gone), RAG_OK);
  assert_int_equal(rag_fields_remove(fields, gone, NULL), RAG_OK);
  check_questions(fields, 120);
  for (uint32_t row = 12; row < 3000; row += 3) append(fields, row, 1); // and comes back, otherwise
  check_questions(fields, 60);
  // The next block's first row makes this one a single segment.
  rag_fields_batch *batch = NULL;
  assert_int_equal(rag_fields_batch_create(fields, &batch, NULL), RAG_OK);
  rag_fields_batch_row(batch, 70000);
  assert_int_equal(rag_fields_append(fields, batch, NULL), RAG_OK);
  rag_fields_batch_destroy(batch);
  assert_int_equal(rag_fields_stats_get(fields, &stats, NULL), RAG_OK);
  assert_int_equal(stats.segments, 2);
  check_questions(fields, 120);
  rag_ref_drop(gone);
  rag_fields_destroy(fields);
}

// Counts per value against counting in the model, over a random part of the rows and two indexes at once.
static void test_counts(void **state) {
  (void)state;
  rag_fields *fields = make_fields(NULL), *other = make_fields(NULL);
  memset(model, 0, sizeof model);
  append(fields, 0, 9000);
  for (uint32_t at = 9000; at < 9100; at++) append(fields, at, 1);
  append(other, 9100, 900);
  rag_fields_view *views[2] = {rag_fields_pin(fields), rag_fields_pin(other)};
  for (uint32_t round = 0; round < 12; round++) {
    uint32_t path = round % PATHS, limit = 1 + draw(12), first = draw(9000), count = draw(1000);
    rag_bitmap *rows = bitmap_of_range(first, count + 1);
    rag_fields_counted counted[2] = {{views[0], rag_slice_str(path_names[path]), rows},
                                     {views[1], rag_slice_str(path_names[path]), rows}};
    rag_fields_count top[16];
    rag_fields_counts out;
    assert_int_equal(rag_fields_count_values(counted, 2, limit, 0, top, &out, NULL), RAG_OK);
    uint64_t last = UINT64_MAX, distinct = 0, above = 0;
    double min = INFINITY, max = -INFINITY;
    for (uint32_t row = first; row < RAG_MIN(first + count + 1, 10000u); row++) { // the first row that has each value
      for (uint32_t i = 0; i < model[row].counts[path]; i++) {
        value v = model[row].values[path][i];
        if (v.kind == TIME) continue;
        question q = {.kind = v.kind == RAG_FIELDS_STRING ? ANY_STRING
                              : v.kind == RAG_FIELDS_INT  ? ANY_INT
                                                          : NUMBERS,
                      .count = 1};
        q.strings[0] = rag_slice_str(v.string);
        q.ints[0] = v.integer;
        uint64_t holders = 0;
        bool earlier = false;
        for (uint32_t r = first; r < RAG_MIN(first + count + 1, 10000u); r++) {
          bool has = false;
          for (uint32_t j = 0; j < model[r].counts[path]; j++) {
            const value *w = &model[r].values[path][j];
            bool same = v.kind == w->kind && (v.kind == RAG_FIELDS_DOUBLE ? v.number == w->number : value_holds(&q, w));
            earlier |= same && (r < row || (r == row && j < i));
            has |= same;
          }
          holders += has;
        }
        if (v.kind != RAG_FIELDS_STRING) {
          double number = v.kind == RAG_FIELDS_INT ? (double)v.integer : v.number;
          min = fmin(min, number);
          max = fmax(max, number);
        }
        if (earlier) continue;
        distinct++;
        above += out.count > 0 && holders > top[out.count - 1].rows;
        for (uint32_t t = 0; t < out.count; t++) {
          bool same = top[t].kind == v.kind &&
                      (v.kind == RAG_FIELDS_STRING ? rag_slice_equal(top[t].string, rag_slice_str(v.string))
                       : v.kind == RAG_FIELDS_INT  ? top[t].integer == v.integer
                                                   : top[t].number == v.number);
          if (same) assert_int_equal(top[t].rows, holders);
        }
      }
    }
    assert_int_equal(out.distinct, distinct);
    assert_int_equal(out.count, RAG_MIN(distinct, limit));
    assert_true(above < out.count || out.count == 0); // nothing more frequent was left out
    for (uint32_t t = 0; t < out.count; t++) {
      assert_true(top[t].rows <= last && top[t].rows > 0);
      last = top[t].rows;
    }
    if (out.has_range) assert_true(out.min == min && out.max == max);
    else assert_true(min == INFINITY);
    rag_ref_drop(rows);
  }
  rag_ref_drop(views[0]);
  rag_ref_drop(views[1]);
  rag_fields_destroy(fields);
  rag_fields_destroy(other);
}

// ---------------------------------------------------------------------------------------------- limits

static uint64_t rows_opaque(rag_fields *fields) {
  uint64_t words[WORDS] = {0};
  rag_fields_view *view = rag_fields_pin(fields);
  rag_fields_block_opaque(view, 0, words);
  rag_ref_drop(view);
  return words_count(words);
}
static uint64_t strings_opaque(rag_fields *fields, const char *path) {
  uint64_t words[WORDS] = {0};
  rag_fields_view *view = rag_fields_pin(fields);
  rag_fields_block_marked(view, 0, rag_slice_str(path), RAG_FIELDS_MARK_OPAQUE, words);
  rag_ref_drop(view);
  return words_count(words);
}

// One row at `ordinal` with `count` strings "s<first>", ... at "p".
static rag_status append_strings(rag_fields *fields, uint32_t ordinal, uint32_t first, uint32_t count) {
  rag_fields_batch *batch = NULL;
  char text[32];
  assert_int_equal(rag_fields_batch_create(fields, &batch, NULL), RAG_OK);
  rag_fields_batch_row(batch, ordinal);
  uint32_t path = rag_fields_batch_path(batch, rag_slice_str("p"));
  for (uint32_t i = 0; i < count; i++) {
    snprintf(text, sizeof text, "s%03u", first + i);
    rag_fields_batch_string(batch, path, rag_slice_str(text));
  }
  rag_status status = rag_fields_append(fields, batch, NULL);
  rag_fields_batch_destroy(batch);
  return status;
}

static void test_limits(void **state) {
  (void)state;
  // Strings of a path: at the limit none is opaque, one past it the rows of the last one are; merging keeps the rule.
  rag_fields *fields = make_fields(&(rag_fields_options){.strings_max = 8});
  assert_int_equal(append_strings(fields, 1, 0, 8), RAG_OK);
  assert_int_equal(strings_opaque(fields, "p"), 0);
  assert_int_equal(append_strings(fields, 2, 0, 9), RAG_OK);
  assert_int_equal(strings_opaque(fields, "p"), 1);
  for (uint32_t i = 3; i < 9; i++) assert_int_equal(append_strings(fields, i, 90 + i, 1), RAG_OK); // merges at eight
  assert_int_equal(strings_opaque(fields, "p"), 7);
  assert_int_equal(rows_opaque(fields), 0);
  rag_fields_destroy(fields);
  // The same where the rows of the segments that are merged come in another order.
  fields = make_fields(&(rag_fields_options){.strings_max = 2});
  for (uint32_t i = 0; i < 8; i++) assert_int_equal(append_strings(fields, 80 - 10 * i, i, 1), RAG_OK);
  assert_int_equal(strings_opaque(fields, "p"), 6);
  rag_fields_destroy(fields);
  // Bytes of a string, values of a row.
  fields = make_fields(&(rag_fields_options){.string_bytes_max = 4, .row_values_max = 3});
  assert_int_equal(append_strings(fields, 1, 100, 3), RAG_OK);
  assert_int_equal(strings_opaque(fields, "p") + rows_opaque(fields), 0);
  assert_int_equal(append_strings(fields, 2, 1000, 1), RAG_OK);
  assert_int_equal(strings_opaque(fields, "p"), 1);
  assert_int_equal(append_strings(fields, 3, 0, 4), RAG_OK);
  assert_int_equal(rows_opaque(fields), 1);
  rag_fields_destroy(fields);
  // Paths of a block: those of the most rows stay.
  fields = make_fields(&(rag_fields_options){.paths_max = 2});
  rag_fields_batch *batch = NULL;
  assert_int_equal(rag_fields_batch_create(fields, &batch, NULL), RAG_OK);
  uint32_t often = rag_fields_batch_path(batch, rag_slice_str("often")), rare[2];
  rare[0] = rag_fields_batch_path(batch, rag_slice_str("rare"));
  rare[1] = rag_fields_batch_path(batch, rag_slice_str("rarest"));
  for (uint32_t row = 0; row < 10; row++) {
    rag_fields_batch_row(batch, row);
    if (row < 3) rag_fields_batch_int(batch, rare[row == 2], row);
    rag_fields_batch_int(batch, often, 5);
  }
  assert_int_equal(rag_fields_append(fields, batch, NULL), RAG_OK);
  assert_int_equal(rows_opaque(fields), 1);
  // A path past what a batch knows makes its row opaque as well, and so does one that is too long.
  static char long_path[RAG_FIELDS_PATH_BYTES_MAX + 1];
  memset(long_path, 'x', sizeof long_path);
  assert_int_not_equal(rag_fields_batch_path(batch, rag_slice_of(long_path, sizeof long_path - 1)),
                       RAG_FIELDS_OPAQUE_PATH);
  assert_int_equal(rag_fields_batch_path(batch, rag_slice_of(long_path, sizeof long_path)), RAG_FIELDS_OPAQUE_PATH);
  char name[16];
  uint32_t last = 0;
  for (uint32_t i = 0; i < 100; i++) {
    snprintf(name, sizeof name, "n%u", i);
    last = rag_fields_batch_path(batch, rag_slice_str(name));
  }
  assert_int_equal(last, RAG_FIELDS_OPAQUE_PATH);
  rag_fields_batch_row(batch, 20);
  rag_fields_batch_int(batch, last, 1);
  uint32_t epoch = rag_fields_batch_epoch(batch);
  assert_int_equal(rag_fields_append(fields, batch, NULL), RAG_OK);
  assert_int_equal(rows_opaque(fields), 2);
  assert_int_not_equal(rag_fields_batch_epoch(batch), epoch); // full of names that were seen once: forgotten
  rag_fields_batch_destroy(batch);
  rag_fields_destroy(fields);
  // Memory: all or nothing.
  fields = make_fields(&(rag_fields_options){.memory_bytes_max = 4000});
  uint32_t row = 0;
  while (append_strings(fields, row, row, 5) == RAG_OK) row++;
  assert_in_range(row, 2, 100);
  rag_fields_stats stats;
  assert_int_equal(rag_fields_stats_get(fields, &stats, NULL), RAG_OK);
  assert_true(stats.rows == row && stats.bytes <= 4000 && stats.bytes_all == stats.bytes);
  rag_bitmap *all = bitmap_of_range(0, row);
  assert_int_equal(rag_fields_remove(fields, all, NULL), RAG_OK);
  assert_int_equal(append_strings(fields, 0, 0, 5), RAG_OK);
  rag_ref_drop(all);
  rag_fields_destroy(fields);
}

static void test_lists_of_paths(void **state) {
  (void)state;
  rag_slice only[] = {rag_slice_str("a"), rag_slice_str("b.c"), rag_slice_str("t[]")};
  rag_slice except[] = {rag_slice_str("a.x")};
  rag_fields *fields =
      make_fields(&(rag_fields_options){.only = only, .only_count = 3, .except = except, .except_count = 1});
  rag_fields_view *view = rag_fields_pin(fields);
  static const struct {
    const char *path;
    bool has;
  } cases[] = {{"a", true},   {"a.b", true},   {"a[]", true},  {"ab", false},    {"b", false},
               {"b.c", true}, {"b.cd", false}, {"a.x", false}, {"a.x.y", false}, {"a.xy", true},
               {"t", true},   {"t[].k", true}, {"c", false}};
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++)
    if (rag_fields_view_has_path(view, rag_slice_str(cases[i].path)) != cases[i].has) fail_msg("%s", cases[i].path);
  rag_ref_drop(view);
  rag_fields_destroy(fields);
  rag_slice empty[] = {{"", 0}};
  rag_error err;
  assert_int_equal(rag_fields_create(&(rag_fields_options){.only = empty, .only_count = 1}, &fields, &err),
                   RAG_INVALID_ARGUMENT);
  assert_int_equal(rag_fields_create(&(rag_fields_options){.paths_max = RAG_FIELDS_PATHS_MAX + 1}, &fields, &err),
                   RAG_INVALID_ARGUMENT);
  assert_int_equal(
      rag_fields_create(&(rag_fields_options){.string_bytes_max = RAG_FIELDS_STRING_BYTES_MAX + 1}, &fields, &err),
      RAG_INVALID_ARGUMENT);
}

// ---------------------------------------------------------------------------------------------- errors, forgetting

static void test_errors(void **state) {
  (void)state;
  rag_fields *fields = make_fields(NULL);
  rag_fields_batch *batch = NULL;
  rag_error err;
  assert_int_equal(append_strings(fields, 5, 0, 1), RAG_OK);
  assert_int_equal(append_strings(fields, 5, 1, 1), RAG_ALREADY_EXISTS);
  assert_int_equal(rag_fields_batch_create(fields, &batch, NULL), RAG_OK);
  rag_fields_batch_row(batch, 9);
  rag_fields_batch_row(batch, 9);
  assert_int_equal(rag_fields_append(fields, batch, &err), RAG_INVALID_ARGUMENT);
  rag_fields_batch_row(batch, 9); // an error leaves the batch empty and good
  assert_int_equal(rag_fields_append(fields, batch, &err), RAG_OK);
  assert_int_equal(rag_fields_append(fields, batch, &err), RAG_OK); // nothing to append
  rag_fields_view *view = rag_fields_pin(fields);
  assert_int_equal(rag_fields_view_rows(view), 2);
  assert_int_equal(rag_fields_view_blocks(view), 1);
  rag_ref_drop(view);
  rag_fields_batch_destroy(batch);
  rag_fields_destroy(fields);
  rag_fields_destroy(NULL);
  rag_fields_batch_destroy(NULL);
}

static void test_removed_is_forgotten(void **state) {
  (void)state;
  rag_fields *fields = make_fields(NULL);
  rag_fields_stats before, after;
  assert_int_equal(append_strings(fields, 1, 0, 3), RAG_OK);
  assert_int_equal(append_strings(fields, 2, 2, 1), RAG_OK); // one string is the other row's, too
  assert_int_equal(append_strings(fields, 70000, 7, 1), RAG_OK);
  assert_int_equal(rag_fields_stats_get(fields, &before, NULL), RAG_OK);
  rag_fields_view *old = rag_fields_pin(fields);
  rag_bitmap *gone = bitmap_of_range(1, 1);
  assert_int_equal(rag_fields_remove(fields, gone, NULL), RAG_OK);
  assert_int_equal(rag_fields_stats_get(fields, &after, NULL), RAG_OK);
  assert_int_equal(before.strings, 4); // rows 1 and 2 were made one segment when the next block began
  assert_int_equal(after.strings, 2);
  assert_true(after.bytes < before.bytes && after.bytes_all > after.bytes); // the old view still has it
  uint64_t words[WORDS] = {0};
  rag_slice string = rag_slice_str("s001");
  rag_fields_block_strings(old, 0, rag_slice_str("p"), &string, 1, false, words);
  assert_int_equal(words_count(words), 1);
  rag_ref_drop(old);
  assert_int_equal(rag_fields_stats_get(fields, &after, NULL), RAG_OK);
  assert_int_equal(after.bytes_all, after.bytes);
  rag_ref_drop(gone);
  gone = bitmap_of_range(0, 100000);
  assert_int_equal(rag_fields_remove(fields, gone, NULL), RAG_OK);
  assert_int_equal(rag_fields_stats_get(fields, &after, NULL), RAG_OK);
  assert_true(after.rows == 0 && after.segments == 0 && after.bytes_all == 0);
  rag_ref_drop(gone);
  rag_fields_destroy(fields);
}

static bool any_point(const void *context, double lat, double lon) {
  (void)lat;
  return lon >= *(const double *)context;
}

static void test_points(void **state) {
  (void)state;
  rag_fields *fields = make_fields(NULL);
  rag_fields_batch *batch = NULL;
  assert_int_equal(rag_fields_batch_create(fields, &batch, NULL), RAG_OK);
  uint32_t path = rag_fields_batch_path(batch, rag_slice_str("g"));
  for (uint32_t row = 0; row < 181; row++) {
    rag_fields_batch_row(batch, row);
    rag_fields_batch_point(batch, path, 90.0 - row, row);
    if (row == 7) rag_fields_batch_point(batch, path, -80, 170);
  }
  assert_int_equal(rag_fields_append(fields, batch, NULL), RAG_OK);
  rag_fields_view *view = rag_fields_pin(fields);
  uint64_t words[WORDS] = {0};
  double east = 85;
  rag_fields_block_points(view, 0, rag_slice_str("g"), -10, 10, any_point, &east, words);
  assert_int_equal(words_count(words), 16); // 85 to 100
  assert_true(words_have(words, 85) && words_have(words, 100));
  rag_fields_block_points(view, 0, rag_slice_str("g"), -80, -80, any_point, &east, words);
  assert_int_equal(words_count(words), 18); // 170, and 7 by its second point
  rag_fields_block_points(view, 0, rag_slice_str("g"), 10, -10, any_point, &east, words);
  assert_int_equal(words_count(words), 18);
  rag_ref_drop(view);
  rag_fields_batch_destroy(batch);
  rag_fields_destroy(fields);
}

// Every allocation of appends (with merges), removals and counts fails once: nothing changes, nothing leaks.
static void test_failing_allocations(void **state) {
  (void)state;
  memset(model, 0, sizeof model);
  seed = 99;
  rag_fields *fields = make_fields(NULL);
  for (uint32_t i = 0; i < 7; i++) append(fields, i, 1);
  rag_status status = RAG_RESOURCE_EXHAUSTED;
  for (uint64_t n = 1; status != RAG_OK; n++) { // the eighth of its size: a merge
    rag_fields_batch *batch = NULL;
    rag_fields_view *before = rag_fields_pin(fields);
    uint64_t seed_before = seed;
    uint32_t paths[PATHS];
    rag_alloc_fail_after(n);
    status = rag_fields_batch_create(fields, &batch, NULL);
    if (status == RAG_OK) {
      for (uint32_t p = 0; p < PATHS; p++) paths[p] = rag_fields_batch_path(batch, rag_slice_str(path_names[p]));
      add_row(batch, paths, 7, &model[7]);
      status = rag_fields_append(fields, batch, NULL);
    }
    rag_alloc_fail_after(0);
    rag_fields_view *after = rag_fields_pin(fields);
    assert_true(status == RAG_OK || (status == RAG_RESOURCE_EXHAUSTED && after == before));
    rag_ref_drop(before);
    rag_ref_drop(after);
    rag_fields_batch_destroy(batch);
    if (status != RAG_OK) seed = seed_before;
    assert_true(n < 1000);
  }
  check_questions(fields, 40);
  append(fields, 100, 6000); // marks as sets, too
  rag_bitmap *gone = bitmap_of_range(3, 3000);
  status = RAG_RESOURCE_EXHAUSTED;
  for (uint64_t n = 1; status != RAG_OK; n++) {
    rag_fields_view *before = rag_fields_pin(fields);
    rag_alloc_fail_after(n);
    status = rag_fields_remove(fields, gone, NULL);
    rag_alloc_fail_after(0);
    rag_fields_view *after = rag_fields_pin(fields);
    assert_true(status == RAG_OK || (status == RAG_RESOURCE_EXHAUSTED && after == before));
    rag_ref_drop(before);
    rag_ref_drop(after);
    assert_true(n < 5000);
  }
  for (uint32_t row = 3; row < 3003; row++) model[row].present = false;
  check_questions(fields, 40);
  status = RAG_RESOURCE_EXHAUSTED;
  for (uint64_t n = 1; status != RAG_OK; n++) {
    rag_fields *another = NULL;
    rag_slice list[] = {rag_slice_str("a"), rag_slice_str("b")};
    rag_fields_stats stats;
    rag_alloc_fail_after(n);
    status = rag_fields_create(&(rag_fields_options){.only = list, .only_count = 2, .except = list, .except_count = 2},
                               &another, NULL);
    if (status == RAG_OK) status = rag_fields_stats_get(another, &stats, NULL);
    rag_alloc_fail_after(0);
    rag_fields_destroy(another);
    assert_true(n < 100);
  }
  rag_ref_drop(gone);
  rag_fields_destroy(fields);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_questions), cmocka_unit_test(test_counts),
      cmocka_unit_test(test_limits),    cmocka_unit_test(test_lists_of_paths),
      cmocka_unit_test(test_errors),    cmocka_unit_test(test_removed_is_forgotten),
      cmocka_unit_test(test_points),    cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
