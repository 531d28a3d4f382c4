// Goal: a facet counts, for any path, limits and live set, exactly the documents that have each value, and lists the
// most frequent ones in the stated order.
//
// Method: random worlds as in test_filter_eval.c; the truth walks every surviving document with rag_kb__filter_walk and
// counts into a plain list. Then bad paths and the deadline.
#include "filter_eval_test.h"

#include <math.h>

typedef struct tally {
  rag_facet_value *values;
  uint32_t count, capacity;
  uint64_t documents;
  uint32_t before; // values of the documents before this one
  bool any;        // value in this document
  uint64_t *last;  // the document that counted it last
  uint64_t document;
  double min, max;
} tally;

static bool same_value(const rag_facet_value *a, const rag_facet_value *b) {
  if (a->kind != b->kind) return false;
  if (a->kind == RAG_FACET_STRING) return rag_slice_equal(a->string, b->string);
  return a->kind == RAG_FACET_DOUBLE ? a->number == b->number : a->integer == b->integer;
}

static bool count_value(void *context, rag_json value) {
  tally *t = context;
  rag_facet_value v = {.count = 1};
  switch (rag_json_type_of(value)) {
  case RAG_JSON_STRING: {
    rag_slice text = rag_json_string(value);
    v.kind = RAG_FACET_STRING;
    v.string = rag_slice_of(rag_arena_strndup(arena, text.data, text.size), text.size);
    break;
  }
  case RAG_JSON_INT:
    v.kind = RAG_FACET_INT;
    v.integer = rag_json_int(value);
    break;
  case RAG_JSON_UINT:
  case RAG_JSON_DOUBLE:
    v.kind = RAG_FACET_DOUBLE;
    v.number = rag_json_double(value);
    break;
  case RAG_JSON_BOOL:
    v.kind = RAG_FACET_BOOL;
    v.integer = rag_json_bool(value);
    break;
  default:
    return false;
  }
  if (v.kind == RAG_FACET_INT || v.kind == RAG_FACET_DOUBLE) {
    double number = v.kind == RAG_FACET_INT ? (double)v.integer : v.number;
    t->min = fmin(t->min, number);
    t->max = fmax(t->max, number);
  }
  t->any = true;
  uint32_t i = 0;
  while (i < t->count && !same_value(&t->values[i], &v)) i++;
  if (i == t->count) {
    assert_true(t->count < t->capacity);
    t->values[t->count++] = v;
  } else if (t->last[i] != t->document) {
    t->values[i].count++;
  }
  t->last[i] = t->document;
  return false;
}

static bool comes_before(const rag_facet_value *a, const rag_facet_value *b) {
  if (a->count != b->count) return a->count > b->count;
  if (a->kind != b->kind) return a->kind < b->kind;
  if (a->kind == RAG_FACET_STRING) return rag_slice_compare(a->string, b->string) < 0;
  return a->kind == RAG_FACET_DOUBLE ? a->number < b->number : a->integer < b->integer;
}

static void check_facet(world *w, const rag_fields_view *view, const rag_bitmap *live, const char *key,
                        uint32_t limit) {
  rag_facet_value values[256];
  uint64_t last[256], verified = 0;
  tally t = {.values = values, .capacity = 256, .last = last, .min = INFINITY, .max = -INFINITY};
  rag_kb__path path;
  rag_error err = {0};
  rag_facet facet;
  rag_kb__filter_source source = {.fields = view, .live = live, .get_document = get_document, .context = w};
  w->fetched = 0;
  if (rag_kb__facet(&source, rag_slice_str(key), live, limit, arena, &facet, &verified, &err) != RAG_OK)
    fail_msg("%s: %s", key, err.message);
  assert_int_equal(verified, w->fetched);
  assert_int_equal(rag_kb__filter_path(rag_slice_str(key), arena, &path, NULL), RAG_OK);
  for (uint32_t i = 0; i < w->count; i++) {
    rag_json root;
    if (!rag_bitmap_has(live, w->docs[i].revision) || w->docs[i].metadata.size == 0) continue;
    assert_int_equal(rag_json_parse(reader, rag_buf_slice(&w->docs[i].metadata), &root, NULL), RAG_OK);
    t.document = i + 1;
    t.any = false;
    (void)rag_kb__filter_walk(&path, root, false, count_value, &t);
    t.documents += t.any;
  }
  assert_int_equal(facet.distinct, t.count);
  assert_int_equal(facet.documents, t.documents);
  assert_int_equal(facet.value_count, RAG_MIN(t.count, limit));
  assert_int_equal(facet.has_range, t.min <= t.max);
  if (facet.has_range) assert_true(facet.min == t.min && facet.max == t.max);
  assert_true(rag_slice_equal(facet.field, rag_slice_str(key)));
  for (uint32_t i = 0; i < facet.value_count; i++) { // selection: the i-th of the truth, in order
    for (uint32_t j = i + 1; j < t.count; j++) {
      if (!comes_before(&values[j], &values[i])) continue;
      rag_facet_value swap = values[i];
      values[i] = values[j];
      values[j] = swap;
    }
    if (!same_value(&facet.values[i], &values[i]) || facet.values[i].count != values[i].count)
      fail_msg("facet of %s: value %u differs (kind %d, count %llu against %llu)", key, i, (int)facet.values[i].kind,
               (unsigned long long)facet.values[i].count, (unsigned long long)values[i].count);
  }
}

static void test_random_worlds(void **state) {
  RAG_UNUSED(state);
  uint64_t first = from_environment("RAGD_TEST_SEED", 1), rounds = from_environment("RAGD_TEST_ROUNDS", 16);
  static const rag_slice except[] = {{"b", 1}};
  for (uint64_t round = 0; round < rounds; round++) {
    seed = (first + round) * 104729;
    rag_fields_options options = {0};
    if (round % 4 == 1) options.strings_max = 2, options.string_bytes_max = 8;
    if (round % 4 == 2) options.except = except, options.except_count = 1;
    if (round % 4 == 3) options.paths_max = 4, options.row_values_max = 5;
    world *w = calloc(1, sizeof *w);
    assert_int_equal(rag_fields_create(&options, &w->fields, NULL), RAG_OK);
    for (uint32_t i = 0, revision = 1; i < 200; i++, revision += draw(40) == 0 ? 40000 : 1) {
      doc *d = &w->docs[w->count++];
      d->revision = revision;
      if (draw(20) > 0) put_object(&d->metadata, 0);
    }
    for (uint32_t at = 0; at < w->count; at += 25)
      if (draw(10) > 0) world_append(w, at, 25);
    rag_fields_view *view = rag_fields_pin(w->fields);
    for (uint32_t i = 0; i < 60; i++) {
      rag_bitmap *live = bitmap_of(w, 1 + draw(4), 4);
      rag_buf quoted = {0};
      char key[128];
      put_key(&quoted);
      rag_json value;
      assert_int_equal(rag_json_parse(reader, rag_buf_slice(&quoted), &value, NULL), RAG_OK);
      rag_slice text = rag_json_string(value);
      snprintf(key, sizeof key, "%.*s", (int)text.size, text.data);
      check_facet(w, draw(20) == 0 ? NULL : view, live, key, 1 + draw(10));
      rag_buf_free(&quoted);
      rag_ref_drop(live);
    }
    rag_arena_reset(arena);
    rag_ref_drop(view);
    world_free(w);
  }
}

static void test_bad_input(void **state) {
  RAG_UNUSED(state);
  world *w = calloc(1, sizeof *w);
  rag_fields_options none = {0};
  assert_int_equal(rag_fields_create(&none, &w->fields, NULL), RAG_OK);
  w->docs[w->count++].revision = 3;
  rag_buf_append_str(&w->docs[0].metadata, "{\"a\":[\"x\",\"x\",1,true,null,[2],{}]}");
  rag_bitmap *live = bitmap_of(w, 1, 1);
  rag_kb__filter_source source = {.live = live, .get_document = get_document, .context = w};
  rag_facet facet;
  uint64_t verified;
  rag_error err = {0};
  static const char *const bad[] = {"", "a..b", "[]", "a[", "a b", "\"a"};
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++)
    if (rag_kb__facet(&source, rag_slice_str(bad[i]), live, 5, arena, &facet, &verified, &err) != RAG_INVALID_ARGUMENT)
      fail_msg("'%s' was taken", bad[i]);
  check_facet(w, NULL, live, "a", 5);
  check_facet(w, NULL, live, "a[]", 5);
  check_facet(w, NULL, live, "nowhere", 5);
  source.deadline_ns = 1;
  assert_int_equal(rag_kb__facet(&source, rag_slice_str("a"), live, 5, arena, &facet, &verified, &err),
                   RAG_DEADLINE_EXCEEDED);
  rag_ref_drop(live);
  world_free(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_worlds), cmocka_unit_test(test_bad_input)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
