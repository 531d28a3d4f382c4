// Goal: a graph finds what an exact search finds, to the recall stated here and with exactly its scores, on every shape
// of data, with every metric, under every filter; the same build gives the same bytes; no damage to its sections leads a
// walk astray.
// Method: brute force over all rows is the oracle. Seeds are fixed, and graphs do not depend on threads or CPU, so a
// recall is a number and not a chance: floors are a little below what was measured when they were written. Damage:
// every word of the head, and hundreds of random words of the links, written over; what is not refused is searched,
// under the address sanitizer where that is on.
#include "graph_testing.h"

#include "index/segment/segment_internal.h"

static const rag_metric metrics[] = {RAG_METRIC_COSINE, RAG_METRIC_IP, RAG_METRIC_L2};
static rag_graph_scratch *scratch;
static rag_index_hit hits[RAG_INDEX_K_MAX];

static int setup(void **state) {
  RAG_UNUSED(state);
  return rag_graph_scratch_create(&scratch, NULL) != RAG_OK;
}
static int teardown(void **state) {
  RAG_UNUSED(state);
  rag_graph_scratch_destroy(scratch);
  return 0;
}

// Mean recall of queries made like the rows.
static double mean_recall(const rag_graph *g, rows *r, const rows *queries, uint32_t k, uint32_t ef,
                          const uint64_t *filter, double *out_scanned) {
  double recall = 0, scanned = 0;
  for (uint32_t i = 0; i < queries->count; i++) {
    answer a = ask(g, r, scratch, queries->data + (size_t)i * r->dimension, k, ef, filter, hits);
    recall += a.recall / queries->count;
    scanned += (a.stats.way == RAG_GRAPH_SCANNED ? 1.0 : 0.0) / queries->count;
  }
  if (out_scanned) *out_scanned = scanned;
  return recall;
}

static void assert_recall(const char *what, double got, double floor) {
  got += 1e-9; // sums of parts
  if (getenv("RAGD_TEST_VERBOSE")) printf("%-40s recall %.4f, floor %.4f\n", what, got, floor);
  if (got < floor) fail_msg("%s: recall %.4f, below %.4f", what, got, floor);
}

// ---------------------------------------------------------------------------------------------- shapes of data

static void test_tiny(void **state) {
  RAG_UNUSED(state);
  static const uint32_t counts[] = {0, 1, 2, 3, 4, 5, 8, 9, 17, 64, 65};
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    rows queries = make_rows(RANDOM, 5, 24, metrics[m], 1, 99);
    for (size_t c = 0; c < RAG_COUNT_OF(counts); c++) {
      rows r = make_rows(RANDOM, counts[c], 24, metrics[m], 1, 3);
      rag_graph *g = build(&r, 4, 20);
      // As many as there are rows: with all of them in the pool, the answer is the exact one.
      for (uint32_t k = 1; k <= counts[c] + 2; k += k < 10 ? 1 : 13) {
        assert_recall("tiny", mean_recall(g, &r, &queries, k, counts[c] + 1, NULL, NULL), 1);
      }
      rag_graph_destroy(g);
      free_rows(&r);
    }
    free_rows(&queries);
  }
}

typedef struct shape {
  const char *what;
  rows_kind kind;
  uint32_t count, dimension, clusters;
  rag_metric metric;
  uint32_t ef;
  double floor;
} shape;

static void test_recall(void **state) {
  RAG_UNUSED(state);
  static const shape shapes[] = {
      {"random, cosine", RANDOM, 6000, 24, 1, RAG_METRIC_COSINE, 64, 0.98},
      {"random, l2", RANDOM, 6000, 24, 1, RAG_METRIC_L2, 64, 0.98},
      {"random, ip", RANDOM, 6000, 24, 1, RAG_METRIC_IP, 64, 0.95}, // no metric: some rows are near to nothing
      {"clustered, cosine", CLUSTERED, 8000, 96, 64, RAG_METRIC_COSINE, 64, 0.98},
      {"clustered, l2", CLUSTERED, 8000, 96, 64, RAG_METRIC_L2, 64, 0.98},
      {"clustered, ip", CLUSTERED, 8000, 96, 64, RAG_METRIC_IP, 64, 0.98},
      {"2 dimensions, l2", RANDOM, 6000, 2, 1, RAG_METRIC_L2, 32, 0.99},
      {"2 dimensions, cosine", RANDOM, 2000, 2, 1, RAG_METRIC_COSINE, 64, 0.60}, // 8 bits tell 500 directions apart
      {"1 dimension, l2", LINE, 3000, 1, 1, RAG_METRIC_L2, 64, 0.99},
      {"1 dimension, ip", LINE, 3000, 1, 1, RAG_METRIC_IP, 64, 0.99},
      {"1 dimension, cosine", LINE, 3000, 1, 1, RAG_METRIC_COSINE, 64, 1.0},
      {"few distinct, l2", FEW_DISTINCT, 5000, 48, 50, RAG_METRIC_L2, 64, 1.0},
      {"few distinct, cosine", FEW_DISTINCT, 5000, 48, 50, RAG_METRIC_COSINE, 64, 1.0},
      {"all equal, cosine", EQUAL, 4000, 48, 1, RAG_METRIC_COSINE, 64, 1.0},
      {"all equal, l2", EQUAL, 4000, 48, 1, RAG_METRIC_L2, 64, 1.0},
      {"all equal, ip", EQUAL, 4000, 48, 1, RAG_METRIC_IP, 64, 1.0},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(shapes); i++) {
    const shape *s = &shapes[i];
    rows r = make_rows(s->kind, s->count, s->dimension, s->metric, s->clusters, 1000 + i);
    rows queries = make_rows(s->kind, 60, s->dimension, s->metric, s->clusters, 77777 + i);
    rag_graph *g = build(&r, 16, 100);
    assert_recall(s->what, mean_recall(g, &r, &queries, 10, s->ef, NULL, NULL), s->floor);
    rag_graph_destroy(g);
    free_rows(&r);
    free_rows(&queries);
  }
}

// Everything there is comes back when everything is asked for: nothing is out of reach.
static void test_all_rows_are_found(void **state) {
  RAG_UNUSED(state);
  static const rows_kind kinds[] = {RANDOM, EQUAL, FEW_DISTINCT, LINE};
  for (size_t i = 0; i < RAG_COUNT_OF(kinds); i++) {
    rows r = make_rows(kinds[i], 3000, 20, RAG_METRIC_L2, 7, 5);
    for (uint32_t m = 2; m <= 64; m = m == 2 ? 5 : m == 5 ? 64 : 65) {
      rag_graph *g = build(&r, m, 16);
      if (kinds[i] == EQUAL) assert_int_equal(g->meta.duplicates, 2999);
      if (kinds[i] == FEW_DISTINCT) assert_int_equal(g->meta.duplicates, 2993);
      answer a = ask(g, &r, scratch, r.data, 3000, 3000, NULL, hits);
      assert_int_equal(a.count, 3000);
      rag_graph_destroy(g);
    }
    free_rows(&r);
  }
}

// ---------------------------------------------------------------------------------------------- filters

typedef enum filter_kind { ANYWHERE, NEAR, FAR, PIECES } filter_kind;
static const char *const filter_names[] = {"anywhere", "near", "far", "pieces"};

// NEAR, FAR: whole clusters at the one or the other end; queries come from the first ones. To a query, far clusters are
// all in nearly right angles: its nearest ten are strewn over all of them, which no links join; the hardest case there is. PIECES: some of every 8th.
static uint64_t *make_filter(const rows *r, filter_kind kind, double share, uint32_t clusters) {
  uint64_t *filter = calloc(r->count / 64 + 1, sizeof *filter), state = 17, done = 0;
  uint64_t wanted = RAG_MAX((uint64_t)(share * r->count), 1u);
  assert_non_null(filter);
  for (uint32_t turn = 0; done < wanted; turn++) {
    uint32_t row = kind == NEAR ? turn : kind == FAR ? r->count - 1 - turn : random_below(&state, r->count);
    if (kind == PIECES && cluster_of(r, clusters, row) % 8 != 3 && share < 0.12) continue;
    if (has_bit(filter, row)) continue;
    filter[row / 64] |= 1ull << row % 64;
    done++;
  }
  return filter;
}

static void test_filters(void **state) {
  RAG_UNUSED(state);
  static const double shares[] = {0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1};
  const uint32_t clusters = 100;
  rows r = make_rows(CLUSTERED, 40000, 32, RAG_METRIC_COSINE, clusters, 31);
  // Queries of the first tenth of the clusters.
  rows queries = make_rows(CLUSTERED, 400, 32, RAG_METRIC_COSINE, clusters, 32);
  queries.count = 40;
  rag_graph *g = build(&r, 16, 100);
  double scanned, walked_somewhere = 0;
  for (filter_kind kind = ANYWHERE; kind <= PIECES; kind++) {
    for (size_t i = 0; i < RAG_COUNT_OF(shares); i++) {
      uint64_t *filter = make_filter(&r, kind, shares[i], clusters);
      char what[64];
      snprintf(what, sizeof what, "filter %s %g", filter_names[kind], shares[i]);
      assert_recall(what, mean_recall(g, &r, &queries, 10, 96, filter, &scanned), kind == FAR ? 0.94 : 0.98);
      if (getenv("RAGD_TEST_VERBOSE")) printf("   scanned %.2f\n", scanned);
      if (shares[i] <= 0.01) assert_true(scanned > 0.999);
      if (shares[i] >= 0.9 && kind == ANYWHERE) assert_true(scanned < 0.001);
      walked_somewhere += 1 - scanned;
      free(filter);
    }
  }
  assert_true(walked_somewhere > 8); // the filtered walk was tested, and not the scan alone
  uint64_t none[40000 / 64 + 1] = {0};
  assert_int_equal(ask(g, &r, scratch, queries.data, 10, 64, none, hits).count, 0);
  rag_graph_destroy(g);
  free_rows(&r);
  free_rows(&queries);
}

// Duplicates that pass and those that do not, hanging in one tree.
static void test_filters_among_duplicates(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(FEW_DISTINCT, 6000, 32, RAG_METRIC_L2, 3, 8);
  rag_graph *g = build(&r, 8, 40);
  static const double shares[] = {0.0001, 0.01, 0.3, 0.7, 0.95};
  for (size_t i = 0; i < RAG_COUNT_OF(shares); i++) {
    uint64_t *filter = make_filter(&r, ANYWHERE, shares[i], 1);
    for (uint32_t k = 1; k <= 200; k += 66) {
      assert_recall("duplicates", mean_recall(g, &r, &(rows){.count = 9, .data = r.data}, k, 20, filter, NULL), 0.98);
    }
    free(filter);
  }
  rag_graph_destroy(g);
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- determinism, files

static void assert_same(const rag_graph *a, const rag_graph *b) {
  rag_slice x[RAG_GRAPH_SECTIONS], y[RAG_GRAPH_SECTIONS];
  rag_graph_sections(a, x);
  rag_graph_sections(b, y);
  for (int i = 0; i < RAG_GRAPH_SECTIONS; i++) assert_true(rag_slice_equal(x[i], y[i]));
}

static void test_same_bytes(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 5000, 48, RAG_METRIC_COSINE, 20, 4);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  rag_graph_options options = {.m = 8, .ef_construction = 50, .seed = 5, .sample = 50, .fetch = &fetch};
  rag_graph *one = build_with(&r, &options);
  for (uint32_t threads = 1; threads <= 5; threads++) {
    options.threads = threads;
    rag_graph *again = build_with(&r, &options);
    assert_same(one, again);
    rag_graph_destroy(again);
  }
  options.seed = 6;
  rag_graph *other = build_with(&r, &options);
  assert_int_not_equal(memcmp(one->links, other->links, 5000 * 16 * 4), 0);
  rag_graph_destroy(other);
  rag_graph_destroy(one);
  free_rows(&r);
}

static void test_through_a_file(void **state) {
  RAG_UNUSED(state);
  char dir[256], path[300];
  const char *tmp = getenv("TMPDIR");
  snprintf(dir, sizeof dir, "%s/ragd-graph-XXXXXX", tmp ? tmp : "/tmp");
  assert_non_null(mkdtemp(dir));
  snprintf(path, sizeof path, "%s/1.seg", dir);
  rows r = make_rows(CLUSTERED, 3000, 40, RAG_METRIC_L2, 20, 4);
  rag_graph *g = build(&r, 8, 50), *opened = NULL;
  rag_slice sections[RAG_GRAPH_SECTIONS];
  rag_graph_sections(g, sections);
  segment_writer *w = NULL;
  assert_int_equal(rag_segment__writer_create(path, &w, NULL), RAG_OK);
  for (uint32_t i = 0; i < RAG_GRAPH_SECTIONS; i++) {
    assert_int_equal(rag_segment__writer_section(w, i + 1, NULL), RAG_OK);
    assert_int_equal(rag_segment__writer_append(w, sections[i].data, sections[i].size, NULL), RAG_OK);
  }
  assert_int_equal(rag_segment__writer_finish(w, "x", 1, NULL), RAG_OK);
  segment_file *file = NULL;
  assert_int_equal(rag_segment__file_open(path, &file, NULL), RAG_OK);
  for (uint32_t i = 0; i < RAG_GRAPH_SECTIONS; i++) sections[i] = rag_segment__file_section(file, i + 1);
  assert_int_equal(rag_graph_open(sections, 3000, 40, RAG_METRIC_L2, &opened, NULL), RAG_OK);
  assert_same(g, opened);
  for (uint32_t i = 0; i < 3000; i += 300) {
    rag_index_hit first[10];
    answer a = ask(g, &r, scratch, r.data + (size_t)i * 40, 10, 50, NULL, first);
    answer b = ask(opened, &r, scratch, r.data + (size_t)i * 40, 10, 50, NULL, hits);
    assert_int_equal(a.stats.scored, b.stats.scored);
    assert_memory_equal(first, hits, sizeof first);
  }
  rag_graph_destroy(opened);
  rag_segment__file_close(file);
  rag_graph_destroy(g);
  free_rows(&r);
  assert_int_equal(rag_os_remove_tree(dir, NULL), RAG_OK);
}

// ---------------------------------------------------------------------------------------------- damage

typedef struct copies { // of a graph's sections, to be damaged
  uint32_t *data[RAG_GRAPH_SECTIONS];
  rag_slice sections[RAG_GRAPH_SECTIONS];
} copies;

static copies copy_sections(const rag_graph *g) {
  copies c;
  rag_graph_sections(g, c.sections);
  for (int i = 0; i < RAG_GRAPH_SECTIONS; i++) {
    c.data[i] = malloc(c.sections[i].size + 1);
    assert_non_null(c.data[i]);
    memcpy(c.data[i], c.sections[i].data, c.sections[i].size);
    c.sections[i].data = (const char *)c.data[i];
  }
  return c;
}

// Opens; what opens is walked whole, with every kind of search.
static rag_status open_and_walk(const copies *c, rows *r) {
  rag_graph *g = NULL;
  rag_status status = rag_graph_open(c->sections, r->count, r->dimension, r->metric, &g, NULL);
  if (status != RAG_OK) {
    assert_null(g);
    return status;
  }
  uint64_t *filter = make_filter(r, ANYWHERE, 0.6, 1);
  for (uint32_t i = 0; i < 2; i++) {
    rag_index_topk top;
    rag_index__topk_init(&top, hits, 10, -FLT_MAX);
    rag_graph_query q = {.vector = r->data,
                         .k = 10,
                         .ef = i ? 10 : r->count,
                         .filter = i ? filter : NULL,
                         .survivors = i ? count_bits(filter, r->count) : 0,
                         .fetch = {.rows = fetch_row, .context = r}};
    assert_int_equal(rag_graph_search(g, &r->codes, &q, scratch, &top, NULL, NULL), RAG_OK);
  }
  bool reached;
  uint32_t ef = rag_graph_ef(g, 10, 0.95f, &reached);
  assert_true(ef >= 10 && ef <= RAG_GRAPH_EF_MAX);
  free(filter);
  rag_graph_destroy(g);
  return RAG_OK;
}

static void test_damage(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 700, 16, RAG_METRIC_COSINE, 1, 4);
  rag_graph *g = build_with(&r, &(rag_graph_options){.m = 4, .ef_construction = 30, .sample = 40});
  assert_true(g->meta.levels >= 2);
  copies c = copy_sections(g);
  assert_int_equal(open_and_walk(&c, &r), RAG_OK);
  // The head, word by word: what counts is refused; what only informs (and the seed) may be anything.
  static const uint32_t values[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fc00000, 0xff800000, 699, 700, 4096};
  uint32_t refused = 0;
  for (size_t word = 0; word < sizeof(rag_graph_meta) / 4; word++) {
    for (size_t v = 0; v < RAG_COUNT_OF(values); v++) {
      uint32_t was = c.data[RAG_GRAPH_META][word];
      c.data[RAG_GRAPH_META][word] = values[v];
      refused += open_and_walk(&c, &r) == RAG_DATA_LOSS;
      c.data[RAG_GRAPH_META][word] = was;
    }
  }
  assert_true(refused > 150);
  // The links, a word at a time: a row that is none, and a hole in a list.
  uint64_t random = 3;
  for (int section = RAG_GRAPH_LINKS; section <= RAG_GRAPH_UPPER; section++) {
    size_t words = c.sections[section].size / 4;
    for (int turn = 0; turn < 300; turn++) {
      size_t word = random_below(&random, (uint32_t)words);
      uint32_t was = c.data[section][word];
      c.data[section][word] = 700 + random_below(&random, 1000000);
      assert_int_equal(open_and_walk(&c, &r), RAG_DATA_LOSS);
      c.data[section][word] = random_below(&random, 700); // a row, but another: harmless, or out of its level
      open_and_walk(&c, &r);
      c.data[section][word] = was;
    }
  }
  c.data[RAG_GRAPH_LINKS][0] = RAG_GRAPH_NONE; // and a link behind it
  assert_int_equal(open_and_walk(&c, &r), RAG_DATA_LOSS);
  c.data[RAG_GRAPH_LINKS][0] = g->links[0];
  for (int section = 0; section < RAG_GRAPH_SECTIONS; section++) {
    c.sections[section].size -= 4;
    assert_int_equal(open_and_walk(&c, &r), RAG_DATA_LOSS);
    c.sections[section].size += 4;
  }
  r.count--; // the graph of other rows
  assert_int_equal(open_and_walk(&c, &r), RAG_DATA_LOSS);
  r.count++;
  for (int i = 0; i < RAG_GRAPH_SECTIONS; i++) free(c.data[i]);
  rag_graph_destroy(g);
  free_rows(&r);
}

// Lists that lead nowhere are joined, also where every node has very little room.
static void test_mending(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(RANDOM, 500, 8, RAG_METRIC_L2, 1, 4);
  uint32_t first_of[500];
  for (uint32_t i = 0; i < 500; i++) first_of[i] = i;
  for (int kind = 0; kind < 3; kind++) {
    rag_graph *g = build(&r, 2, 10);
    uint32_t *links = g->owned;
    for (uint32_t i = 0; i < 500 * 4; i++) {
      uint32_t row = i / 4;
      // No links; links among groups of five; everybody to the same four.
      links[i] = kind == 0 ? RAG_GRAPH_NONE : kind == 1 ? row / 5 * 5 + (row + i % 4 + 1) % 5 : i % 4 + (row < 4);
      if (kind == 2 && row < 4) links[i] = (row + i % 4 + 1) % 5;
    }
    if (kind == 2)
      for (uint32_t i = 0; i < 500 * 4; i++)
        if (links[i] == i / 4) links[i] = 5;
    uint32_t before = g->meta.mended;
    assert_int_equal(rag_graph__mend(&r.codes, first_of, links, &g->meta, NULL), RAG_OK);
    assert_true(g->meta.mended - before >= 99);
    assert_sound(g);
    rag_graph_destroy(g);
  }
  free_rows(&r);
}

// ---------------------------------------------------------------------------------------------- calibration

static void test_calibration(void **state) {
  RAG_UNUSED(state);
  rows r = make_rows(CLUSTERED, 12000, 64, RAG_METRIC_COSINE, 30, 21);
  rows queries = make_rows(CLUSTERED, 150, 64, RAG_METRIC_COSINE, 30, 22);
  rag_index_row_fetch fetch = {.rows = fetch_row, .context = &r};
  for (int fetches = 0; fetches < 2; fetches++) {
    rag_graph *g = build_with(
        &r, &(rag_graph_options){.m = 8, .ef_construction = 40, .sample = 150, .fetch = fetches ? &fetch : NULL});
    assert_true(g->meta.rung_count >= 5 && g->meta.sample == 150);
    for (uint32_t i = 1; i < g->meta.rung_count; i++) {
      assert_true(g->meta.rungs[i].cost > g->meta.rungs[i - 1].cost);
      assert_true(g->meta.rungs[i].recall_10 > g->meta.rungs[i - 1].recall_10 - 0.01f);
    }
    static const float targets[] = {0.9f, 0.95f, 0.98f};
    uint32_t last = 0;
    for (size_t i = 0; i < RAG_COUNT_OF(targets); i++) {
      bool reached;
      uint32_t ef = rag_graph_ef(g, 10, targets[i], &reached);
      assert_true(reached && ef >= last);
      last = ef;
      double got = mean_recall(g, &r, &queries, 10, ef, NULL, NULL);
      assert_recall("calibrated", got, (double)targets[i] - 0.03);
      assert_true(rag_graph_ef(g, 100, targets[i], &reached) > ef);
      assert_true(rag_graph_ef(g, 5000, targets[i], &reached) >= 5000);
    }
    rag_graph_destroy(g);
  }
  rag_graph *g = build(&r, 8, 40);
  bool reached = true;
  assert_true(rag_graph_ef(g, 10, 0.9f, &reached) >= 10);
  assert_false(reached);
  rag_graph_destroy(g);
  free_rows(&r);
  free_rows(&queries);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tiny),
      cmocka_unit_test(test_recall),
      cmocka_unit_test(test_all_rows_are_found),
      cmocka_unit_test(test_filters),
      cmocka_unit_test(test_filters_among_duplicates),
      cmocka_unit_test(test_same_bytes),
      cmocka_unit_test(test_through_a_file),
      cmocka_unit_test(test_damage),
      cmocka_unit_test(test_mending),
      cmocka_unit_test(test_calibration),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
