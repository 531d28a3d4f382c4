// Goal: a graph that grows out of another answers as one built from nothing: every row is found, at the recall of a new
// one, whichever rows are gone, new, or equal to others; the same bytes with any number of threads; and it is cheap where
// little is new.
// Method: graphs of a part of the rows, and of rows that are gone by then, whose numbers move; compared with a new graph
// by recall over all rows in turn, and by what the walk of a build scores.
#include "graph_testing.h"

static rag_index_hit hits[RAG_INDEX_K_MAX];
static rag_graph_scratch *scratch;

// What another graph knew: rows of `now` for which has() says so, and `gone` others between them.
typedef struct before {
  rows rows;
  uint32_t *new_of;
  rag_graph *graph;
  rag_graph_base base;
} before;

typedef bool (*has_row)(uint32_t row, uint32_t count);
static bool three_of_four(uint32_t row, uint32_t count) {
  RAG_UNUSED(count);
  return row % 4 != 2;
}
static bool all_of_them(uint32_t row, uint32_t count) {
  RAG_UNUSED(row), RAG_UNUSED(count);
  return true;
}
static bool the_first_half(uint32_t row, uint32_t count) {
  return row < count / 2;
}

static before make_before(const rows *now, has_row has, uint32_t gone, rows_kind kind, uint32_t clusters, uint32_t m) {
  uint32_t kept = 0, at = 0, bytes = rag_codes_int8_bytes(now->dimension);
  for (uint32_t i = 0; i < now->count; i++) kept += has(i, now->count);
  before b = {.rows = make_rows(kind, kept + gone, now->dimension, now->metric, clusters, 4321)};
  b.new_of = malloc((kept + gone + 1) * sizeof *b.new_of);
  assert_non_null(b.new_of);
  uint32_t every = gone > 0 ? (kept + gone) / gone : UINT32_MAX, left = gone;
  for (uint32_t i = 0; i < kept + gone; i++) { // of rows that are gone one comes now and then
    b.new_of[i] = RAG_GRAPH_NONE;
    if (left > 0 && (i % every == 0 || left == kept + gone - i)) {
      left--;
      continue;
    }
    while (!has(at, now->count)) at++;
    memcpy(b.rows.data + (size_t)i * now->dimension, now->data + (size_t)at * now->dimension,
           now->dimension * sizeof *now->data);
    memcpy(b.rows.code + (size_t)i * bytes, now->code + (size_t)at * bytes, bytes);
    b.rows.factors[i] = now->factors[at];
    b.new_of[i] = at++;
  }
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &b.rows};
  rag_graph_options options = {.m = m, .ef_construction = 80, .seed = 11, .sample = 60, .fetch = &fetch};
  b.graph = build_with(&b.rows, &options);
  b.base = (rag_graph_base){b.graph, b.new_of};
  return b;
}

static void free_before(before *b) {
  rag_graph_destroy(b->graph);
  free(b->new_of);
  free_rows(&b->rows);
}

static double mean_recall(const rag_graph *g, rows *r, const rows *queries, uint32_t ef) {
  double sum = 0;
  for (uint32_t i = 0; i < queries->count; i++)
    sum += ask(g, r, scratch, queries->data + (size_t)i * r->dimension, 10, ef, NULL, hits).recall / queries->count;
  return sum;
}

static uint32_t built; // rows that a build reported when it began

static bool note_begin(void *context, uint64_t done, uint64_t total) {
  bool *first = context;
  RAG_UNUSED(total);
  if (*first) built = (uint32_t)done;
  *first = false;
  return true;
}

static rag_graph *grow(rows *r, const before *b, uint32_t m, uint32_t threads) {
  bool first = true;
  built = r->count; // where nothing is inserted
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = r};
  rag_graph *g = build_with(r, &(rag_graph_options){.m = m,
                                                    .ef_construction = 80,
                                                    .seed = 11,
                                                    .threads = threads,
                                                    .sample = 60,
                                                    .fetch = &fetch,
                                                    .progress = note_begin,
                                                    .progress_context = &first,
                                                    .base = b ? &b->base : NULL});
  answer a = ask(g, r, scratch, r->data, r->count, r->count, NULL, hits); // nothing is out of reach
  assert_int_equal(a.count, r->count);
  return g;
}

typedef struct shape {
  const char *what;
  rows_kind kind;
  has_row has;
  uint32_t count, gone, dimension, clusters;
  rag_metric metric;
  double carried; // of all rows, at least
} shape;

static void test_as_one_built_from_nothing(void **state) {
  RAG_UNUSED(state);
  static const shape shapes[] = {
      {"a quarter is new", CLUSTERED, three_of_four, 6000, 0, 48, 40, RAG_METRIC_COSINE, 0.7},
      {"a quarter is new, some are gone", CLUSTERED, three_of_four, 6000, 300, 48, 40, RAG_METRIC_L2, 0.6},
      {"a quarter is new, many are gone", CLUSTERED, three_of_four, 6000, 4000, 48, 40, RAG_METRIC_COSINE, 0},
      {"other clusters are new", CLUSTERED, the_first_half, 6000, 0, 48, 40, RAG_METRIC_COSINE, 0.4},
      {"nothing is new", CLUSTERED, all_of_them, 6000, 0, 48, 40, RAG_METRIC_IP, 0.95},
      {"nothing is new, some are gone", RANDOM, all_of_them, 6000, 500, 24, 1, RAG_METRIC_COSINE, 0.5},
      {"few distinct", FEW_DISTINCT, three_of_four, 4000, 200, 24, 300, RAG_METRIC_COSINE, 0},
      {"all equal", EQUAL, three_of_four, 3000, 100, 24, 1, RAG_METRIC_L2, 0},
      {"a line", LINE, three_of_four, 3000, 100, 1, 1, RAG_METRIC_L2, 0},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(shapes); i++) {
    const shape *s = &shapes[i];
    rows r = make_rows(s->kind, s->count, s->dimension, s->metric, s->clusters, 99 + i);
    rows queries = make_rows(s->kind, 400, s->dimension, s->metric, s->clusters, 77777 + i);
    before b = make_before(&r, s->has, s->gone, s->kind, s->clusters, 12);
    rag_graph *new = grow(&r, NULL, 12, 1);
    assert_int_equal(built, 0);
    rag_graph *grown = grow(&r, &b, 12, 1);
    double carried = (double)built / s->count, recall = mean_recall(grown, &r, &queries, 32),
           recall_new = mean_recall(new, &r, &queries, 32);
    if (getenv("RAGD_TEST_VERBOSE"))
      printf("%s: %.2f carried, recall %.4f and of a new one %.4f\n", s->what, carried, recall, recall_new);
    if (recall < recall_new - 0.005) fail_msg("%s: recall %.4f, of a new graph %.4f", s->what, recall, recall_new);
    if (carried < s->carried) fail_msg("%s: %.2f carried over", s->what, carried);
    assert_int_equal(grown->meta.rung_count > 0, new->meta.rung_count > 0);
    bool reached;
    uint32_t ef = rag_graph_ef(grown, 10, 0.95f, &reached);
    if (reached && (recall = mean_recall(grown, &r, &queries, ef)) < 0.93)
      fail_msg("%s: %.4f at %u", s->what, recall, ef);
    assert_int_equal(rag_graph_built_rows(grown), built > 0 ? b.rows.count : r.count);
    assert_int_equal(rag_graph_built_rows(new), r.count);
    assert_true(grown->meta.levels <= b.graph->meta.levels || built == 0);
    rag_graph_destroy(new);
    rag_graph_destroy(grown);
    free_before(&b);
    free_rows(&r);
    free_rows(&queries);
  }
}

static void test_same_bytes(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 4000, 32, RAG_METRIC_COSINE, 20, 4);
  before b = make_before(&r, three_of_four, 150, CLUSTERED, 20, 8);
  rag_graph *one = grow(&r, &b, 8, 1);
  for (uint32_t threads = 2; threads <= 5; threads++) {
    rag_graph *again = grow(&r, &b, 8, threads);
    rag_slice x[RAG_GRAPH_SECTIONS], y[RAG_GRAPH_SECTIONS];
    rag_graph_sections(one, x);
    rag_graph_sections(again, y);
    for (int i = 0; i < RAG_GRAPH_SECTIONS; i++) assert_true(rag_slice_equal(x[i], y[i]));
    rag_graph_destroy(again);
  }
  rag_graph_destroy(one);
  free_before(&b);
  free_rows(&r);
}

// The base's own entry, all of its upper levels, and all of its rows are gone.
static void test_without_an_entry(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 4000, 32, RAG_METRIC_COSINE, 20, 4);
  rows queries = make_rows(CLUSTERED, 60, 32, RAG_METRIC_COSINE, 20, 5);
  for (int what = 0; what < 3; what++) {
    before b = make_before(&r, three_of_four, 0, CLUSTERED, 20, 8);
    assert_true(b.graph->meta.levels > 0);
    if (what == 0) b.new_of[b.graph->meta.entry] = RAG_GRAPH_NONE;
    for (uint32_t i = 0; what == 1 && i < b.graph->meta.level_rows[0]; i++)
      b.new_of[b.graph->upper_rows[i]] = RAG_GRAPH_NONE;
    for (uint32_t i = 0; what == 2 && i < b.rows.count; i++) b.new_of[i] = RAG_GRAPH_NONE;
    rag_graph *g = grow(&r, &b, 8, 2);
    assert_true((built == 0) == (what > 0));
    double recall = mean_recall(g, &r, &queries, 32);
    if (recall < 0.97) fail_msg("%d: recall %.4f", what, recall);
    rag_graph_destroy(g);
    free_before(&b);
  }
  free_rows(&r);
  free_rows(&queries);
}

// Step by step, each grown out of the one before: no worse at the end than one that was built from nothing.
static void test_again_and_again(void **state) {
  RAG_UNUSED(state);
  enum { STEPS = 6, LAST = 6000 };
  rows all = make_rows(CLUSTERED, LAST, 48, RAG_METRIC_COSINE, 40, 8);
  rows queries = make_rows(CLUSTERED, 100, 48, RAG_METRIC_COSINE, 40, 9);
  rag_graph *g = NULL;
  uint32_t *same = malloc(LAST * sizeof *same);
  assert_non_null(same);
  for (uint32_t i = 0; i < LAST; i++) same[i] = i;
  for (uint32_t step = 1; step <= STEPS; step++) {
    rows part = all; // the first ones: clusters lie one after another, so each step brings others
    part.count = part.codes.rows = LAST * step / STEPS;
    before b = {.base = {g, same}};
    rag_graph *next = grow(&part, g ? &b : NULL, 12, 1);
    assert_true(g == NULL || built > 0);
    rag_graph_destroy(g);
    g = next;
  }
  assert_int_equal(rag_graph_built_rows(g), LAST / STEPS);
  rag_graph *new = grow(&all, NULL, 12, 1);
  double recall = mean_recall(g, &all, &queries, 32), recall_new = mean_recall(new, &all, &queries, 32);
  if (getenv("RAGD_TEST_VERBOSE")) printf("in %d steps: recall %.4f, at once %.4f\n", STEPS, recall, recall_new);
  if (recall < recall_new - 0.005) fail_msg("recall %.4f, of a new graph %.4f", recall, recall_new);
  rag_graph_destroy(new);
  rag_graph_destroy(g);
  free(same);
  free_rows(&all);
  free_rows(&queries);
}

static void test_refused(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 500, 32, RAG_METRIC_COSINE, 5, 4);
  before b = make_before(&r, three_of_four, 0, CLUSTERED, 5, 8);
  rag_graph *g = NULL;
  rag_error err = {0};
  rag_graph_options options = {.m = 9, .base = &b.base};
  assert_int_equal(rag_graph_build(&r.codes, &options, &g, &err), RAG_INVALID_ARGUMENT);
  options.m = 8;
  rag_graph_codes other = r.codes;
  other.metric = RAG_METRIC_L2;
  assert_int_equal(rag_graph_build(&other, &options, &g, &err), RAG_INVALID_ARGUMENT);
  free_before(&b);
  free_rows(&r);
}

static void test_no_memory(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 300, 16, RAG_METRIC_COSINE, 5, 4);
  before b = make_before(&r, three_of_four, 10, CLUSTERED, 5, 4);
  bool failed = true;
  uint32_t turns = 0;
  for (uint64_t n = 1; failed; n++, turns++) {
    rag_graph *g = NULL;
    rag_error err = {0};
    rag_graph_options options = {.m = 4, .ef_construction = 20, .threads = 2, .sample = 10, .base = &b.base};
    rag_alloc_fail_after(n);
    rag_status status = rag_graph_build(&r.codes, &options, &g, &err);
    failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    rag_graph_destroy(g);
  }
  assert_true(turns > 25);
  free_before(&b);
  free_rows(&r);
}

static int setup(void **state) {
  RAG_UNUSED(state);
  return rag_graph_scratch_create(&scratch, NULL) == RAG_OK ? 0 : -1;
}

static int teardown(void **state) {
  RAG_UNUSED(state);
  rag_graph_scratch_destroy(scratch);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_as_one_built_from_nothing),
      cmocka_unit_test(test_same_bytes),
      cmocka_unit_test(test_without_an_entry),
      cmocka_unit_test(test_again_and_again),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
