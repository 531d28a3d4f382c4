// Goal: whatever is appended, removed, sealed, merged, erased and read back from files, in whatever order, an index
// answers as one that keeps all rows in a list: exact searches to the bit, the others with exact scores and the recall
// stated here; what is damaged on disk is refused; what is erased is in no file.
// Method: seeded random histories against such a list; damage by flipped bytes all over a file; allocations that fail
// one after another; readers in threads while segments are exchanged.
#include "index/segment/segment_internal.h"
#include "index_testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS_MAX = 60000, K_MAX = 200, CLUSTERS = 60 };

typedef struct model {
  rag_index *index;
  rag_index_options options;
  char dir[64];
  uint64_t random;
  uint32_t dimension, rows; // numbered so far
  float *data;
  bool *present, *live;
  rag_segment_id ids[512]; // what a caller keeps
  uint32_t id_count;
  double recall;
  uint32_t asked;
  uint64_t written; // rows in files that were made
} model;

static rag_index_hit hits[RAG_INDEX_K_MAX], wanted[ROWS_MAX];

static rag_error err;
#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    err = (rag_error){0};                                                                                              \
    rag_status ok_status_ = (call);                                                                                    \
    if (ok_status_ != RAG_OK) fail_msg("%s: %s", #call, err.message);                                                  \
  } while (0)

static void open_index(model *m) {
  OK(rag_index_create(&m->options, &m->index, &err));
}

static model *model_of(const char *engine, rag_metric metric, rag_datatype datatype, uint32_t dimension, uint32_t seal,
                       uint32_t graph) {
  model *m = calloc(1, sizeof *m);
  assert_non_null(m);
  m->options = (rag_index_options){.dimension = dimension,
                                   .metric = metric,
                                   .datatype = datatype,
                                   .engine = engine,
                                   .seal_rows = seal,
                                   .graph_rows = graph};
  if (strcmp(engine, "faiss") == 0) m->options.factory = "IVF16,Flat";
  m->dimension = dimension;
  m->random = 11 + dimension + (uint64_t)metric;
  m->data = malloc((size_t)ROWS_MAX * dimension * sizeof *m->data);
  m->present = calloc(ROWS_MAX, 1);
  m->live = calloc(ROWS_MAX, 1);
  assert_true(m->data && m->present && m->live);
  const char *tmp = getenv("TMPDIR");
  snprintf(m->dir, sizeof m->dir, "%.40s/segments.XXXXXX", tmp ? tmp : "/tmp");
  assert_non_null(mkdtemp(m->dir));
  open_index(m);
  return m;
}

static model *model_create(const char *engine, rag_metric metric, uint32_t dimension, uint32_t seal, uint32_t graph) {
  return model_of(engine, metric, RAG_DATATYPE_FLOAT32, dimension, seal, graph);
}

static void model_free(model *m) {
  rag_index_destroy(m->index);
  OK(rag_os_remove_tree(m->dir, &err));
  free(m->data);
  free(m->present);
  free(m->live);
  free(m);
}

static void fill(model *m, float *out, uint32_t cluster) {
  uint64_t centre = cluster * 7919 + 3;
  for (uint32_t d = 0; d < m->dimension; d++)
    out[d] = random_unit(&centre) + random_unit(&centre) + 0.5f * (random_unit(&m->random) + random_unit(&m->random));
  if (m->options.metric == RAG_METRIC_COSINE) rag_vector_normalize(out, m->dimension);
}

static void append(model *m, uint32_t count) {
  uint32_t *ordinals = malloc((count + 1) * sizeof *ordinals), used = 0;
  assert_non_null(ordinals);
  uint32_t first = m->rows;
  for (uint32_t i = 0; i < count && m->rows < ROWS_MAX; i++) {
    if (random_below(&m->random, 50) == 0 && m->rows + 1 < ROWS_MAX) { // a number without a row
      memset(m->data + (size_t)m->rows * m->dimension, 0, m->dimension * sizeof(float));
      m->rows++;
    }
    fill(m, m->data + (size_t)m->rows * m->dimension, random_below(&m->random, CLUSTERS));
    m->present[m->rows] = m->live[m->rows] = true;
    ordinals[used++] = m->rows++;
  }
  float *vectors = malloc(((size_t)used + 1) * m->dimension * sizeof *vectors);
  assert_non_null(vectors);
  for (uint32_t i = 0; i < used; i++) {
    float *row = m->data + (size_t)ordinals[i] * m->dimension;
    memcpy(vectors + (size_t)i * m->dimension, row, m->dimension * sizeof *row);
    if (m->options.datatype == RAG_DATATYPE_BFLOAT16) rag_vector_round_bf16(row, m->dimension);
  }
  OK(rag_index_append(m->index, ordinals, used, vectors, &err));
  (void)first;
  free(vectors);
  free(ordinals);
}

static rag_bitmap *bitmap_of(const bool *members, uint32_t count) {
  rag_bitmap *out = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  for (uint32_t i = 0; i < count; i++)
    if (members[i]) assert_int_equal(rag_bitmap_edit_add(edit, i), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &out), RAG_OK);
  return out;
}

static void remove_some(model *m, uint32_t one_in) {
  bool *gone = calloc(ROWS_MAX, 1);
  assert_non_null(gone);
  uint32_t from = random_below(&m->random, m->rows + 1), to = from + random_below(&m->random, m->rows - from + 1);
  for (uint32_t i = from; i < to; i++) {
    if (!m->present[i] || random_below(&m->random, one_in) != 0) continue;
    gone[i] = true;
    m->present[i] = m->live[i] = false;
  }
  rag_bitmap *set = bitmap_of(gone, m->rows);
  OK(rag_index_remove(m->index, set, &err));
  rag_ref_drop(set);
  free(gone);
}

// ---------------------------------------------------------------------------------------------- what is right

typedef struct found {
  double recall;
  rag_index_plan plan;
} found;

static found ask(model *m, const float *query, uint32_t k, const rag_bitmap *filter, bool exact, double target) {
  rag_index_view *view = rag_index_pin(m->index);
  uint32_t count = 0, expected = 0;
  found f = {0};
  rag_index_query q = {.vector = query, .k = k, .filter = filter, .exact = exact, .target_recall = target};
  OK(rag_index_search(view, &q, hits, &count, &f.plan, &err));
  for (uint32_t i = 0; i < m->rows; i++) {
    if (!m->present[i] || (filter && !rag_bitmap_has(filter, i))) continue;
    wanted[expected++] =
        (rag_index_hit){i, oracle_score(query, m->data + (size_t)i * m->dimension, m->dimension, m->options.metric)};
  }
  qsort(wanted, expected, sizeof *wanted, oracle_compare);
  uint32_t want = RAG_MIN(k, expected), right = 0;
  assert_int_equal(count, want);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t o = hits[i].ordinal;
    assert_true(o < m->rows && m->present[o] && (!filter || rag_bitmap_has(filter, o)));
    float score = oracle_score(query, m->data + (size_t)o * m->dimension, m->dimension, m->options.metric);
    assert_int_equal(float_bits(score), float_bits(hits[i].score));
    if (i > 0) assert_true(oracle_compare(&hits[i - 1], &hits[i]) < 0);
    if (exact) assert_int_equal(o, wanted[i].ordinal);
    right += hits[i].score >= wanted[want - 1].score;
  }
  f.recall = want > 0 ? (double)right / want : 1;
  rag_ref_drop(view);
  return f;
}

static void check(model *m) {
  float *query = malloc(m->dimension * sizeof *query);
  bool *some = calloc(ROWS_MAX, 1);
  assert_true(query && some);
  rag_index_view *view = rag_index_pin(m->index);
  uint32_t present = 0;
  for (uint32_t i = 0; i < m->rows; i++) {
    present += m->present[i];
    const float *row = rag_index_view_vector(view, i, query);
    if (m->present[i] != (row != NULL)) fail_msg("row %u: %d", i, row != NULL);
    if (row) assert_memory_equal(row, m->data + (size_t)i * m->dimension, m->dimension * sizeof *row);
  }
  assert_int_equal(rag_index_view_rows(view), present);
  uint64_t placed = rag_index_view_tail_rows(view);
  for (uint32_t i = 0; i < rag_index_view_segments(view); i++) {
    rag_index_segment_info info;
    rag_index_view_segment(view, i, &info);
    assert_true(info.first <= info.last && info.present <= info.rows && info.file_bytes > info.memory_bytes);
    placed += info.present;
  }
  assert_int_equal(placed, present); // each in one place
  rag_ref_drop(view);
  for (int round = 0; round < 6; round++) {
    static const uint32_t parts[] = {1, 2, 10, 100, 1000, 3};
    fill(m, query, random_below(&m->random, CLUSTERS));
    for (uint32_t i = 0; i < m->rows; i++) some[i] = random_below(&m->random, parts[round]) == 0;
    rag_bitmap *filter = round > 0 ? bitmap_of(some, m->rows) : NULL;
    uint32_t k = 1 + random_below(&m->random, round == 5 ? K_MAX : 20);
    ask(m, query, k, filter, true, 0);
    m->recall += ask(m, query, k, filter, false, 0).recall;
    m->asked++;
    rag_ref_drop(filter);
  }
  free(some);
  free(query);
}

// ---------------------------------------------------------------------------------------------- steps

static uint32_t files_in(const char *dir) {
  DIR *folder = opendir(dir);
  uint32_t count = 0;
  assert_non_null(folder);
  for (struct dirent *e; (e = readdir(folder)) != NULL;) count += e->d_name[0] != '.';
  closedir(folder);
  return count;
}

static void path_of(const model *m, const rag_segment_id *id, char out[160]) {
  char name[RAG_SEGMENT_NAME_MAX];
  rag_segment_name(id, name);
  snprintf(out, 160, "%s/%s", m->dir, name);
}

// What a caller does around a task: keeps the new names, publishes, forgets the old files.
static void settle(model *m, rag_index_task *task) {
  for (uint32_t i = 0; i < task->input_count; i++)
    for (uint32_t j = 0; j < m->id_count; j++)
      if (memcmp(&m->ids[j], &task->inputs[i], sizeof m->ids[j]) == 0) m->ids[j--] = m->ids[--m->id_count];
  rag_index_view *before = rag_index_pin(m->index);
  OK(rag_index_task_install(m->index, task, &err));
  rag_ref_drop(before);
  rag_index_view *view = rag_index_pin(m->index);
  m->id_count = 0;
  for (uint32_t i = 0; i < rag_index_view_segments(view); i++) {
    rag_index_segment_info info;
    rag_index_view_segment(view, i, &info);
    m->ids[m->id_count++] = info.id;
  }
  rag_ref_drop(view);
  for (uint32_t i = 0; i < task->input_count; i++) {
    char path[160];
    path_of(m, &task->inputs[i], path);
    assert_int_equal(unlink(path), 0);
  }
  for (int i = 0; i < 2; i++)
    if (task->rows[i]) m->written += rag_bitmap_count(task->rows[i]);
  assert_int_equal(files_in(m->dir), m->id_count);
}

static rag_index_task *next_task(model *m, bool compact) {
  rag_bitmap *live = bitmap_of(m->live, m->rows);
  rag_index_task *task = NULL;
  if (compact) OK(rag_index_task_compact(m->index, live, UINT32_MAX, &task, &err));
  else OK(rag_index_task_seal(m->index, UINT32_MAX, &task, &err));
  if (!compact && task == NULL) OK(rag_index_task_merge(m->index, live, &task, &err));
  rag_ref_drop(live);
  return task;
}

static bool do_one(model *m, bool compact) {
  rag_index_task *task = next_task(m, compact);
  rag_index_build_options options = {.threads = 1};
  if (task == NULL) return false;
  OK(rag_index_task_run(m->index, task, m->dir, &options, &err));
  if (random_below(&m->random, 3) == 0) remove_some(m, 40); // while it ran
  if (random_below(&m->random, 3) == 0) append(m, random_below(&m->random, 90));
  settle(m, task);
  rag_index_task_destroy(task);
  return true;
}

static void restart(model *m) {
  rag_index_destroy(m->index);
  open_index(m);
  rag_bitmap *exist = bitmap_of(m->present, m->rows);
  for (uint32_t i = 0; i < m->id_count; i++) OK(rag_index_restore(m->index, m->dir, &m->ids[i], exist, &err));
  rag_ref_drop(exist);
  rag_index_view *view = rag_index_pin(m->index);
  for (uint32_t i = 0; i < m->rows; i++)
    if (m->present[i] && !rag_bitmap_has(rag_index_view_present(view), i))
      OK(rag_index_append(m->index, &i, 1, m->data + (size_t)i * m->dimension, &err));
  rag_ref_drop(view);
}

static bool file_has(const char *path, const void *bytes, size_t size) {
  rag_error ignored = {0};
  char *data = NULL;
  size_t length = 0;
  assert_int_equal(rag_os_read_file(path, (size_t)1 << 30, &data, &length, &ignored), RAG_OK);
  bool has = memmem(data, length, bytes, size) != NULL;
  rag_free(data);
  return has;
}

static void erase_some(model *m) {
  bool *gone = calloc(ROWS_MAX, 1);
  assert_non_null(gone);
  for (int i = 0; i < 5; i++) gone[random_below(&m->random, m->rows)] = true;
  for (uint32_t i = 0; i < m->rows; i++) {
    gone[i] = gone[i] && m->present[i];
    if (gone[i]) m->present[i] = m->live[i] = false;
  }
  rag_bitmap *set = bitmap_of(gone, m->rows);
  OK(rag_index_remove(m->index, set, &err));
  rag_index_task *task = NULL;
  rag_index_build_options options = {0};
  OK(rag_index_task_erase(m->index, set, &task, &err));
  if (task) {
    OK(rag_index_task_run(m->index, task, m->dir, &options, &err));
    settle(m, task);
    rag_index_task_destroy(task);
  }
  // Nor is anything there of rows that were removed before: some of them.
  for (uint32_t i = 0; i < m->rows; i++)
    gone[i] = gone[i] || (m->dimension > 1 && !m->present[i] && m->data[(size_t)i * m->dimension] != 0 &&
                          random_below(&m->random, 200) == 0);
  _Alignas(64) uint8_t row[SEGMENT_ALIGN];
  size_t row_bytes = rag_index__row_bytes(m->options.datatype, m->dimension);
  assert_true(row_bytes <= sizeof row);
  for (uint32_t i = 0; i < m->rows; i++) {
    if (!gone[i]) continue;
    rag_index__row_write(m->options.datatype, m->data + (size_t)i * m->dimension, m->dimension, row);
    for (uint32_t j = 0; j < m->id_count; j++) {
      char path[160];
      path_of(m, &m->ids[j], path);
      assert_false(file_has(path, row, row_bytes));
      if (m->dimension > 1) // as a kind may keep it
        assert_false(file_has(path, m->data + (size_t)i * m->dimension, m->dimension * sizeof(float)));
    }
  }
  rag_ref_drop(set);
  free(gone);
}

static void run_history(const char *engine, rag_metric metric, rag_datatype datatype, uint32_t dimension, uint32_t seal,
                        uint32_t graph, double floor) {
  model *m = model_of(engine, metric, datatype, dimension, seal, graph);
  for (int step = 0; step < 90; step++) {
    switch (random_below(&m->random, 10)) {
    default:
      append(m, random_below(&m->random, 500));
      break;
    case 4:
      remove_some(m, 2 + random_below(&m->random, 30));
      break;
    case 5: // dead at every head, and there for old versions
      for (uint32_t i = random_below(&m->random, m->rows + 1); i < m->rows; i++)
        if (random_below(&m->random, 3) == 0) m->live[i] = false;
      break;
    case 6:
    case 7:
      while (do_one(m, false)) continue;
      break;
    case 8:
      if (random_below(&m->random, 4) == 0) (void)do_one(m, true);
      else if (m->rows > 0) erase_some(m);
      break;
    case 9:
      restart(m);
      break;
    }
    if (step % 5 == 0) check(m);
  }
  while (do_one(m, false)) continue;
  check(m);
  if (getenv("RAGD_TEST_VERBOSE"))
    printf("%s %s %s %u: recall %.4f of %u, %u segments, %u rows, %.2f written\n", engine, rag_metric_name(metric),
           rag_datatype_name(datatype), dimension, m->recall / m->asked, m->asked, m->id_count, m->rows,
           (double)m->written / m->rows);
  if (m->recall / m->asked < floor) fail_msg("recall %.4f, below %.4f", m->recall / m->asked, floor);
  (void)do_one(m, true);
  check(m);
  model_free(m);
}

static void test_histories(void **state) {
  RAG_UNUSED(state);
  const rag_datatype full = RAG_DATATYPE_FLOAT32, half = RAG_DATATYPE_BFLOAT16;
  run_history("auto", RAG_METRIC_COSINE, full, 40, 400, 3000, 0.98);
  run_history("auto", RAG_METRIC_L2, full, 65, 300, 2000, 0.98);
  run_history("auto", RAG_METRIC_IP, full, 24, 700, 1000000, 0.98);
  run_history("graph", RAG_METRIC_COSINE, full, 24, 400, 0, 0.97);
  run_history("auto", RAG_METRIC_L2, full, 1, 256, 1024, 0.98);
  run_history("ivf", RAG_METRIC_COSINE, full, 40, 400, 1000, 0.97);
  run_history("ivf", RAG_METRIC_L2, full, 24, 400, 500, 0.97);
  run_history("faiss", RAG_METRIC_COSINE, full, 24, 400, 500, 0.97);
  run_history("auto", RAG_METRIC_COSINE, half, 40, 400, 3000, 0.98);
  run_history("auto", RAG_METRIC_L2, half, 9, 700, 1000000, 0.98);
  run_history("ivf", RAG_METRIC_IP, half, 33, 400, 1000, 0.97);
  run_history("faiss", RAG_METRIC_L2, half, 24, 400, 500, 0.97);
}

// ---------------------------------------------------------------------------------------------- single rules

static void test_few_segments(void **state) { // and few writes of each row
  RAG_UNUSED(state);
  model *m = model_create("auto", RAG_METRIC_COSINE, 8, 100, 1000000);
  uint32_t most = 0, open_files = files_in("/proc/self/fd");
  for (int i = 0; i < 200; i++) {
    append(m, 200);
    while (do_one(m, false)) continue;
    most = RAG_MAX(most, m->id_count);
  }
  if (getenv("RAGD_TEST_VERBOSE"))
    printf("%u segments at most, each row written %.2f times\n", most, (double)m->written / m->rows);
  assert_true(most <= 16);
  assert_int_equal(files_in("/proc/self/fd"), open_files); // none for a segment that is mapped
  assert_true(m->written <= 6 * (uint64_t)m->rows);
  model_free(m);
}

// Distances that no float holds are all the lowest score: rows are found by their number, and none twice.
static void test_overflow(void **state) {
  RAG_UNUSED(state);
  model *m = model_create("auto", RAG_METRIC_L2, 8, 100, 1000000);
  float query[8];
  for (uint32_t i = 0; i < 600; i++) {
    float *row = m->data + (size_t)i * 8;
    for (uint32_t d = 0; d < 8; d++) row[d] = 3e38f * random_unit(&m->random);
    m->present[i] = m->live[i] = true;
    OK(rag_index_append(m->index, &i, 1, row, &err));
  }
  m->rows = 600;
  assert_true(do_one(m, true));
  for (uint32_t round = 0; round < 20; round++) {
    for (uint32_t d = 0; d < 8; d++) query[d] = 3e38f * random_unit(&m->random);
    ask(m, query, 1 + round, NULL, true, 0);
    ask(m, query, 1 + round, NULL, false, 0);
  }
  model_free(m);
}

static void test_recall_targets(void **state) {
  RAG_UNUSED(state);
  model *m = model_create("auto", RAG_METRIC_COSINE, 64, 20000, 5000);
  append(m, 20400);
  while (do_one(m, false)) continue;
  float query[64];
  double low = 0, high = 0;
  uint64_t low_cost = 0, high_cost = 0;
  for (int i = 0; i < 60; i++) {
    fill(m, query, random_below(&m->random, CLUSTERS));
    found a = ask(m, query, 10, NULL, false, 0.8), b = ask(m, query, 10, NULL, false, 0.99);
    assert_string_equal(a.plan.engine, "graph");
    assert_true(a.plan.walked == 1 && a.plan.setting > 0 && a.plan.expected_recall > 0);
    low += a.recall / 60;
    high += b.recall / 60;
    low_cost += a.plan.candidates;
    high_cost += b.plan.candidates;
  }
  if (getenv("RAGD_TEST_VERBOSE"))
    printf("0.8: %.3f (%llu scored), 0.99: %.3f (%llu)\n", low, (unsigned long long)low_cost / 60, high,
           (unsigned long long)high_cost / 60);
  assert_true(high >= 0.98 && low >= 0.78 && high_cost > low_cost);
  model_free(m);
}

static void flip(const char *path, uint64_t offset, uint8_t mask) {
  uint8_t byte = 0;
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0 && pread(fd, &byte, 1, (off_t)offset) == 1);
  byte ^= mask;
  assert_true(pwrite(fd, &byte, 1, (off_t)offset) == 1);
  close(fd);
}

static void damage(rag_datatype datatype) {
  model *m = model_of("auto", RAG_METRIC_COSINE, datatype, 24, 400, 1500);
  for (int round = 0; round < 2; round++) { // 1-bit codes, then a graph
    append(m, round == 0 ? 500 : 2000);
    assert_true(do_one(m, true));
    assert_int_equal(m->id_count, 1);
    char path[160];
    struct stat info;
    path_of(m, &m->ids[0], path);
    assert_int_equal(stat(path, &info), 0);
    rag_bitmap *exist = bitmap_of(m->present, m->rows);
    rag_index_destroy(m->index);
    open_index(m);
    for (int i = 0; i < 400; i++) {
      uint64_t at = i < 100 ? (uint64_t)i : next_random(&m->random) % (uint64_t)info.st_size;
      uint8_t mask = (uint8_t)(1u << random_below(&m->random, 8));
      flip(path, at, mask);
      rag_status status = rag_index_restore(m->index, m->dir, &m->ids[0], exist, &err);
      // What no checksum covers: the zeros between the header's end and its page's are covered, so nothing is left.
      if (status != RAG_DATA_LOSS && status != RAG_FAILED_PRECONDITION)
        fail_msg("byte %llu: %s", (unsigned long long)at, rag_status_name(status));
      flip(path, at, mask);
    }
    static const off_t shorter[] = {1, 4, 4096, 100000};
    char copy[400];
    snprintf(copy, sizeof copy, "cp %s %s/whole", path, m->dir);
    assert_int_equal(system(copy), 0);
    for (size_t i = 0; i < RAG_COUNT_OF(shorter); i++) {
      assert_int_equal(truncate(path, RAG_MAX(info.st_size - shorter[i], 0)), 0);
      assert_int_equal(rag_index_restore(m->index, m->dir, &m->ids[0], exist, &err), RAG_DATA_LOSS);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rag_index_restore(m->index, m->dir, &m->ids[0], exist, &err), RAG_NOT_FOUND);
    snprintf(copy, sizeof copy, "mv %s/whole %s", m->dir, path);
    assert_int_equal(system(copy), 0);
    rag_segment_id other = m->ids[0]; // another record's file
    other.bytes[3] ^= 1;
    char renamed[160];
    path_of(m, &other, renamed);
    assert_int_equal(rename(path, renamed), 0);
    assert_int_equal(rag_index_restore(m->index, m->dir, &other, exist, &err), RAG_DATA_LOSS);
    assert_int_equal(rename(renamed, path), 0);
    OK(rag_index_restore(m->index, m->dir, &m->ids[0], exist, &err));
    assert_int_equal(rag_index_restore(m->index, m->dir, &m->ids[0], exist, &err), RAG_DATA_LOSS); // twice
    rag_ref_drop(exist);
    check(m);
  }
  model_free(m);
}

static void test_damage(void **state) {
  RAG_UNUSED(state);
  damage(RAG_DATATYPE_FLOAT32);
  damage(RAG_DATATYPE_BFLOAT16);
}

// A file with rows of another datatype is not this index's, and made anew like a damaged one.
static void test_another_datatype(void **state) {
  RAG_UNUSED(state);
  for (int datatype = RAG_DATATYPE_FLOAT32; datatype <= RAG_DATATYPE_BFLOAT16; datatype++) {
    model *m = model_of("auto", RAG_METRIC_COSINE, (rag_datatype)datatype, 32, 400, 1500);
    append(m, 500);
    assert_true(do_one(m, true));
    rag_bitmap *exist = bitmap_of(m->present, m->rows);
    rag_index_destroy(m->index);
    m->options.datatype = datatype == RAG_DATATYPE_FLOAT32 ? RAG_DATATYPE_BFLOAT16 : RAG_DATATYPE_FLOAT32;
    open_index(m);
    assert_int_equal(rag_index_restore(m->index, m->dir, &m->ids[0], exist, &err), RAG_DATA_LOSS);
    assert_non_null(strstr(err.message, "datatype"));
    rag_ref_drop(exist);
    model_free(m);
  }
}

static bool stop_at_once(void *context, uint64_t done, uint64_t total) {
  RAG_UNUSED(context);
  RAG_UNUSED(done);
  RAG_UNUSED(total);
  return false;
}

static void do_alone(model *m, bool compact) { // as do_one, and nothing comes between
  rag_index_task *task = next_task(m, compact);
  assert_non_null(task);
  OK(rag_index_task_run(m->index, task, m->dir, &(rag_index_build_options){.threads = 1}, &err));
  settle(m, task);
  rag_index_task_destroy(task);
}

// The tail over what is sealed; beside the largest, over what is merged: a sixth of it, and a graph's least.
static void test_backlog(void **state) {
  RAG_UNUSED(state);
  model *m = model_create("auto", RAG_METRIC_COSINE, 16, 300, 1000);
  rag_index_backlog b = rag_index_backlog_of(m->index);
  assert_true(b.tail == 0 && b.beside == 0);
  append(m, 150);
  assert_true(rag_index_backlog_of(m->index).tail == .5);
  append(m, 11850);
  b = rag_index_backlog_of(m->index);
  assert_true(b.tail == 40 && b.beside == 0);
  do_alone(m, true);
  append(m, 1000);
  b = rag_index_backlog_of(m->index);
  assert_true(fabs(b.tail - 1000 / 300.0) < 1e-9 && b.beside == 0);
  do_alone(m, false); // sealed beside 12,000
  b = rag_index_backlog_of(m->index);
  assert_true(b.tail == 0 && fabs(b.beside - .5) < 1e-9);
  append(m, 1000);
  do_alone(m, false);
  assert_true(fabs(rag_index_backlog_of(m->index).beside - 1) < 1e-9); // just due
  do_alone(m, false);
  assert_true(rag_index_backlog_of(m->index).beside == 0);
  model_free(m);
}

static void test_stop_and_abort(void **state) {
  RAG_UNUSED(state);
  model *m = model_create("auto", RAG_METRIC_COSINE, 16, 300, 1000);
  append(m, 1500);
  rag_index_task *first = NULL, *second = NULL;
  rag_index_build_options options = {.threads = 1, .progress = stop_at_once};
  OK(rag_index_task_seal(m->index, UINT32_MAX, &first, &err));
  assert_non_null(first);
  assert_true(rag_index_wants_task(m->index));
  assert_int_equal(rag_index_task_run(m->index, first, m->dir, &options, &err), RAG_CANCELLED);
  assert_int_equal(files_in(m->dir), 0);
  assert_int_equal(rag_index_task_run(m->index, first, "/nowhere/at/all", &(rag_index_build_options){0}, &err),
                   RAG_NOT_FOUND);
  options.progress = NULL;
  OK(rag_index_task_run(m->index, first, m->dir, &options, &err));
  settle(m, first);
  rag_index_task_destroy(first);
  assert_false(rag_index_wants_task(m->index));
  // Two tasks on one segment: the second finds it gone.
  append(m, 10);
  OK(rag_index_task_compact(m->index, NULL, UINT32_MAX, &first, &err));
  OK(rag_index_task_compact(m->index, NULL, UINT32_MAX, &second, &err));
  OK(rag_index_task_run(m->index, first, m->dir, &options, &err));
  OK(rag_index_task_run(m->index, second, m->dir, &options, &err));
  rag_index_task_remove_files(second, m->dir);
  settle(m, first);
  assert_int_equal(rag_index_task_install(m->index, second, &err), RAG_ABORTED);
  rag_index_task_destroy(first);
  rag_index_task_destroy(second);
  OK(rag_index_task_compact(m->index, NULL, UINT32_MAX, &first, &err));
  assert_null(first); // it is
  check(m);
  uint32_t sealed = 3;
  assert_int_equal(rag_index_append(m->index, &sealed, 1, m->data, &err), RAG_ALREADY_EXISTS);
  model_free(m);
}

// ---------------------------------------------------------------------------------------------- faults

static void test_no_memory(void **state) {
  RAG_UNUSED(state);
  model *m = model_create("auto", RAG_METRIC_COSINE, 16, 300, 1000);
  append(m, 1300);
  uint32_t tried = 0;
  for (bool done = false; !done; tried++) {
    rag_index_task *task = NULL;
    rag_index_build_options options = {.threads = 1};
    rag_alloc_fail_after(tried + 1);
    rag_status status = rag_index_task_seal(m->index, UINT32_MAX, &task, &err);
    if (status == RAG_OK) status = rag_index_task_run(m->index, task, m->dir, &options, &err);
    if (status == RAG_OK) status = rag_index_task_install(m->index, task, &err);
    rag_alloc_fail_after(0);
    if (status == RAG_OK) {
      done = true;
      rag_index_view *view = rag_index_pin(m->index);
      rag_index_segment_info info;
      assert_int_equal(rag_index_view_segments(view), 1);
      rag_index_view_segment(view, 0, &info);
      m->ids[m->id_count++] = info.id;
      rag_ref_drop(view);
    } else {
      assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
      if (task) rag_index_task_remove_files(task, m->dir);
      assert_int_equal(files_in(m->dir), 0);
    }
    rag_index_task_destroy(task);
  }
  assert_true(tried > 20);
  check(m);
  float query[16];
  fill(m, query, 1);
  rag_bitmap *exist = bitmap_of(m->present, m->rows);
  for (uint32_t nth = 1;; nth++) { // opening, and the first search
    rag_index_destroy(m->index);
    open_index(m);
    rag_index_view *view = NULL;
    uint32_t count = 0;
    rag_index_query q = {.vector = query, .k = 10};
    rag_alloc_fail_after(nth);
    rag_status status = rag_index_restore(m->index, m->dir, &m->ids[0], exist, &err);
    if (status == RAG_OK) {
      view = rag_index_pin(m->index);
      status = rag_index_search(view, &q, hits, &count, NULL, &err);
    }
    rag_alloc_fail_after(0);
    rag_ref_drop(view);
    if (status == RAG_OK) break;
    assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
  }
  rag_ref_drop(exist);
  check(m);
  model_free(m);
}

// ---------------------------------------------------------------------------------------------- threads

typedef struct reader {
  model *m;
  _Atomic bool stop; // atomic: set by the test
  uint64_t answers;
} reader;

static void *read_on(void *context) {
  reader *r = context;
  uint64_t random = 5 + (uint64_t)(uintptr_t)context;
  while (!atomic_load(&r->stop)) {
    rag_index_hit mine[20];
    float query[16];
    uint32_t count = 0;
    rag_error failed = {0};
    for (int d = 0; d < 16; d++) query[d] = random_unit(&random);
    rag_vector_normalize(query, 16);
    rag_index_view *view = rag_index_pin(r->m->index);
    rag_index_query q = {.vector = query, .k = 20};
    if (rag_index_search(view, &q, mine, &count, NULL, &failed) != RAG_OK) abort();
    uint64_t rows = rag_index_view_rows(view);
    if (count != RAG_MIN(rows, (uint64_t)20)) abort();
    for (uint32_t i = 0; i < count; i++) {
      const float *row = rag_index_view_vector(view, mine[i].ordinal, NULL);
      if (row == NULL || float_bits(rag_vector_score(query, row, 16, RAG_METRIC_COSINE)) != float_bits(mine[i].score))
        abort();
    }
    rag_ref_drop(view);
    r->answers++;
  }
  return NULL;
}

static void test_readers(void **state) {
  RAG_UNUSED(state);
  model *m = model_create("auto", RAG_METRIC_COSINE, 16, 200, 2000);
  append(m, 300);
  reader readers[2] = {{.m = m}, {.m = m}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
  for (int i = 0; i < 25; i++) {
    append(m, 250);
    while (do_one(m, false)) continue;
    if (i % 8 == 3) remove_some(m, 5);
    if (i % 8 == 5) erase_some(m);
  }
  for (int i = 0; i < 2; i++) {
    atomic_store(&readers[i].stop, true);
    pthread_join(threads[i], NULL);
    assert_true(readers[i].answers > 0);
  }
  check(m);
  model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_histories), cmocka_unit_test(test_few_segments),   cmocka_unit_test(test_recall_targets),
      cmocka_unit_test(test_damage),    cmocka_unit_test(test_stop_and_abort), cmocka_unit_test(test_backlog),
      cmocka_unit_test(test_no_memory), cmocka_unit_test(test_readers),        cmocka_unit_test(test_another_datatype),
      cmocka_unit_test(test_overflow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
