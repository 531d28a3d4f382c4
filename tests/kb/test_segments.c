// Goal: sealing changes no answer, survives restarts, and is made good when its files are lost, damaged or left over;
// versions whose rows have moved to history are searched as before; what is deleted leaves no file.
// Method: a kb of some hundred documents whose jobs are run by hand; answers are taken before and after, exactly and not;
// files are removed, flipped and planted between restarts.
#include "kb/kb_internal.h"
#include "tests/kb/kb_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DOCUMENTS = 300 };

static const char *words[] = {"harbour", "violin", "granite", "meadow", "copper", "lantern", "orchard", "glacier",
                              "walnut",  "ribbon", "falcon",  "marble", "cinder", "willow",  "anchor",  "saddle"};

static void put_many(rag_kb *kb, uint32_t from, uint32_t count, uint32_t state) {
  rag_error err = {0};
  static char ids[DOCUMENTS][16], texts[DOCUMENTS][128];
  static rag_document_input inputs[DOCUMENTS];
  assert_true(count <= DOCUMENTS);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t n = from + i;
    snprintf(ids[i], sizeof ids[i], "d%u", n);
    snprintf(texts[i], sizeof texts[i], "%s %s number %u in state %u, %s", words[n % 16], words[n / 16 % 16], n, state,
             words[(n * 7 + state) % 16]);
    inputs[i] = (rag_document_input){.id = S(ids[i]), .text = S(texts[i])};
  }
  rag_put put = {.documents = inputs, .document_count = count};
  rag_write write = {0};
  rag_write_result result;
  OK(rag_kb_put(kb, &write, &put, &result, NULL, &err));
}

static void run_jobs(kb_fixture *f) {
  rag_error err = {0};
  OK(rag_jobs_run_foreground(f->jobs, NULL, NULL, &err));
}

static rag_kb_index index_of(rag_kb *kb) {
  rag_error err = {0};
  rag_kb_index info;
  OK(rag_kb_index_info(kb, &info, &err));
  rag_free(info.segments);
  info.segments = NULL;
  return info;
}

// Ids and scores of some searches, as one text.
static void answers(rag_kb *kb, const char *at, bool exact, rag_buf *out) {
  rag_error err = {0};
  for (uint32_t i = 0; i < 16; i++) {
    rag_search_result result;
    rag_search search = {.query = S(words[i]), .mode = RAG_SEARCH_VECTOR, .k = 12, .at = S(at), .exact = exact};
    OK(rag_kb_search(kb, &search, &result, &err));
    for (uint32_t h = 0; h < result.count; h++)
      rag_buf_printf(out, "%.*s %a\n", (int)result.hits[h].document_id.size, result.hits[h].document_id.data,
                     (double)result.hits[h].score);
    rag_search_result_free(&result);
  }
  rag_buf_append_char(out, '\0');
  assert_false(out->failed);
}

static void assert_same_answers(rag_kb *kb, const char *at, bool exact, const rag_buf *wanted) {
  rag_buf now = {0};
  answers(kb, at, exact, &now);
  assert_string_equal(now.data, wanted->data);
  rag_buf_free(&now);
}

static void folder(const kb_fixture *f, uint64_t kb, char out[256]) {
  snprintf(out, 256, "%.200s/index/%u/1", f->dir, (unsigned)kb);
}

// Names in a folder; the first one to out, where wanted.
static uint32_t names_in(const char *path, char out[300]) {
  DIR *dir = opendir(path);
  uint32_t count = 0;
  if (dir == NULL) return 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    if (out != NULL && count == 0) snprintf(out, 300, "%.200s/%.60s", path, entry->d_name);
    count++;
  }
  closedir(dir);
  return count;
}

static void sealing_changes_no_answer(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  rag_buf before = {0};
  put_many(kb, 0, 200, 0);
  answers(kb, "main", true, &before);
  assert_int_equal(index_of(kb).count, 0);
  run_jobs(f);
  rag_kb_index info = index_of(kb);
  assert_true(info.count == 1 && info.tail_rows == 0 && info.rows == 200 && !info.building);
  assert_same_answers(kb, "main", true, &before);
  assert_same_answers(kb, "main", false, &before); // of so few rows, that too
  kb_test_put(kb, "tail", "one more, and not enough to be sealed");
  run_jobs(f);
  info = index_of(kb);
  assert_true(info.count == 1 && info.tail_rows == 1);
  rag_ref_drop(kb);
  kb_test_reopen(f);
  kb = kb_test_get(f, "docs");
  rag_kb_index again = index_of(kb);
  assert_true(again.count == 1 && again.tail_rows == 1 && again.rows == 201);
  assert_string_equal(again.build, info.build);
  assert_string_equal(kb_test_search(kb, "main", "one more, and not enough to be sealed", 1), "tail");
  rag_buf_free(&before);
  rag_ref_drop(kb);
}

static uint32_t lines_with(const char *path, const char *event, const char *what) {
  char line[1024];
  uint32_t count = 0;
  FILE *file = fopen(path, "r");
  assert_non_null(file);
  while (fgets(line, sizeof line, file) != NULL) count += strstr(line, event) != NULL && strstr(line, what) != NULL;
  fclose(file);
  return count;
}

// Who builds does so at the lowest priority; only who has starved, and is behind, gets more.
static void builders_that_starved(void **state) {
  kb_fixture *f = *state;
  char path[300];
  snprintf(path, sizeof path, "%.255s/log", f->dir);
  int fd = open(path, O_CREAT | O_RDWR | O_APPEND, 0600);
  assert_true(fd >= 0);
  rag_log_setup(fd, RAG_LOG_DEBUG, RAG_LOG_TEXT);
  rag_kb *kb = kb_test_new(f);
  static const struct {
    uint32_t documents; // 24 make a segment
    bool starve;
    const char *nice;
  } steps[] = {{60, false, "nice=19 "},
               {60, true, "nice=0 "},
               {150, false, "nice=0 "},
               {24, false, "nice=19 "},
               {150, false, "nice=19 "}};
  for (uint32_t i = 0, from = 0; i < RAG_COUNT_OF(steps); from += steps[i++].documents) {
    uint32_t before = lines_with(path, "the tail is long", steps[i].nice);
    put_many(kb, from, steps[i].documents, 0);
    if (steps[i].starve) {
      pthread_mutex_lock(&kb->segments_lock);
      kb->segments_starve = 1; // a sealing
      pthread_mutex_unlock(&kb->segments_lock);
    }
    run_jobs(f);
    assert_int_equal(index_of(kb).tail_rows, 0);
    assert_true(lines_with(path, "the tail is long", steps[i].nice) > before);
  }
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  close(fd);
  rag_ref_drop(kb);
}

static void lost_and_damaged_files(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_buf before = {0};
  char dir[256], path[300], planted[300], stranger[300];
  rag_kb *kb = kb_test_new(f);
  uint64_t id = kb_test_describe(kb).id;
  put_many(kb, 0, DOCUMENTS, 0);
  run_jobs(f);
  answers(kb, "main", true, &before);
  folder(f, id, dir);
  for (int round = 0; round < 4; round++) {
    rag_ref_drop(kb);
    kb_test_close(f);
    assert_int_equal(names_in(dir, path), 1);
    if (round == 0) assert_int_equal(unlink(path), 0);
    if (round == 1) assert_int_equal(truncate(path, 5000), 0);
    if (round == 2) {
      FILE *file = fopen(path, "r+");
      assert_true(file && fseek(file, 9000, SEEK_SET) == 0);
      int byte = fgetc(file);
      assert_true(fseek(file, 9000, SEEK_SET) == 0 && fputc(byte ^ 4, file) != EOF);
      fclose(file);
    }
    snprintf(planted, sizeof planted, "%.255s/00112233445566778899aabbccddeeff.seg", dir);
    OK(rag_os_write_file(planted, "left over", 9, &err));
    snprintf(stranger, sizeof stranger, "%.200s/index/77/1", f->dir);
    OK(rag_os_make_dirs(stranger, &err));
    rag_log_setup(2, RAG_LOG_ERROR + 1, RAG_LOG_TEXT);
    kb_test_open(f);
    kb = kb_test_get(f, "docs");
    rag_kb_index info = index_of(kb);
    rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
    assert_int_equal(info.rows, DOCUMENTS);
    assert_int_equal(info.tail_rows, round < 3 ? DOCUMENTS : 0);
    assert_false(rag_os_exists(planted));
    snprintf(stranger, sizeof stranger, "%.200s/index/77", f->dir);
    assert_false(rag_os_exists(stranger));
    assert_int_equal(names_in(dir, NULL), round < 3 ? 0 : 1); // the damaged one is gone
    assert_same_answers(kb, "main", true, &before);
    if (round < 3) assert_same_answers(kb, "main", false, &before); // from the tail
    run_jobs(f);
    info = index_of(kb);
    assert_true(info.count == 1 && info.tail_rows == 0);
    assert_same_answers(kb, "main", true, &before);
  }
  rag_buf_free(&before);
  rag_ref_drop(kb);
}

static void old_versions(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_buf at_first = {0}, at_side = {0};
  rag_kb *kb = kb_test_new(f);
  put_many(kb, 0, 150, 0);
  kb_test_tag(kb, "first", "main");
  kb_test_branch(kb, "side", "main");
  kb_test_put_on(kb, "side", "aside", "a harbour on the side", NULL);
  answers(kb, "first", true, &at_first);
  answers(kb, "side", true, &at_side);
  put_many(kb, 0, 150, 1); // nothing of the first is alive on main, all of it on side
  run_jobs(f);
  uint64_t job = 0;
  OK(rag_kb_index_compact(kb, &job, &err));
  kb_test_job(f, job);
  assert_int_equal(index_of(kb).count, 1);
  OK(rag_kb_branch_delete(kb, S("side"), &err));
  OK(rag_kb_index_compact(kb, &job, &err));
  kb_test_job(f, job);
  assert_int_equal(index_of(kb).count, 2); // heads, and history
  for (int round = 0; round < 2; round++) {
    assert_same_answers(kb, "first", true, &at_first);
    assert_same_answers(kb, "first", false, &at_first);
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  OK(rag_kb_tag_delete(kb, S("first"), &err));
  rag_gc_options options = {.keep_commits = 1};
  OK(rag_kb_gc(kb, &options, &job, &err));
  kb_test_job(f, job);
  run_jobs(f);
  rag_kb_index info = index_of(kb);
  assert_true(info.count == 1 && info.rows == 150);
  char dir[256];
  folder(f, kb_test_describe(kb).id, dir);
  assert_int_equal(names_in(dir, NULL), 1);
  rag_buf_free(&at_first);
  rag_buf_free(&at_side);
  rag_ref_drop(kb);
}

static void deleted_and_flat(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f), *flat = NULL;
  char path[300];
  uint64_t job = 0, id = kb_test_describe(kb).id;
  put_many(kb, 0, 100, 0);
  run_jobs(f);
  snprintf(path, sizeof path, "%.200s/index/%u", f->dir, (unsigned)id);
  assert_true(rag_os_exists(path));
  rag_ref_drop(kb);
  OK(rag_kbs_delete(f->kbs, S("docs"), &job, &err));
  kb_test_job(f, job);
  assert_false(rag_os_exists(path));
  rag_kb_config config;
  rag_kb_config_init(&config);
  rag_write write = {0};
  snprintf(config.name, sizeof config.name, "flat");
  snprintf(config.model, sizeof config.model, "hash-32");
  snprintf(config.engine, sizeof config.engine, "flat");
  OK(rag_kbs_create(f->kbs, &config, &write, &flat, &err));
  put_many(flat, 0, 200, 0);
  run_jobs(f);
  rag_kb_index info = index_of(flat);
  assert_true(info.count == 0 && info.rows == 200 && info.tail_rows == 200);
  assert_string_equal(info.build, "flat");
  OK(rag_kb_index_compact(flat, &job, &err));
  kb_test_job(f, job);
  rag_ref_drop(flat);
}

static const char *engine_of_all(rag_kb *kb) { // NULL: they differ, or there is none
  rag_error err = {0};
  rag_kb_index info;
  OK(rag_kb_index_info(kb, &info, &err));
  const char *name = info.count > 0 ? info.segments[0].engine : NULL;
  for (uint32_t i = 1; i < info.count; i++)
    if (strcmp(info.segments[i].engine, name) != 0) name = NULL;
  rag_kb_index_free(&info);
  return name;
}

// The settings of an index that may change, do so without a restart; and what the next start could not use is refused.
static void changed_settings(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  uint64_t job = 0;
  for (uint32_t n = 0; n < 1200; n += DOCUMENTS) put_many(kb, n, DOCUMENTS, 0);
  run_jobs(f);
  OK(rag_kb_index_compact(kb, &job, &err));
  kb_test_job(f, job);
  rag_kb_info about = {0};
  OK(rag_kb_describe(kb, &about, &err));
  rag_kb_config *config = &about.config;
  assert_string_not_equal(engine_of_all(kb), "ivf");

  snprintf(config->engine, sizeof config->engine, "faiss");
  snprintf(config->factory, sizeof config->factory, "nonsense");
  assert_int_equal(rag_kbs_update(f->kbs, config, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "index.factory");
  config->factory[0] = '\0';
  snprintf(config->engine, sizeof config->engine, "flat");
  assert_int_equal(rag_kbs_update(f->kbs, config, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "index.engine");

  rag_buf answers_before = {0};
  answers(kb, "main", true, &answers_before);
  snprintf(config->engine, sizeof config->engine, "ivf");
  OK(rag_kbs_update(f->kbs, config, &err));
  for (int round = 0; round < 2; round++) {
    OK(rag_kb_index_compact(kb, &job, &err)); // the second time there is nothing to do
    kb_test_job(f, job);
    assert_int_equal(index_of(kb).count, 1);
    assert_string_equal(engine_of_all(kb), "ivf");
    assert_same_answers(kb, "main", true, &answers_before);
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_buf_free(&answers_before);
  rag_kb_info_free(&about);
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(sealing_changes_no_answer), KB_TEST(builders_that_starved),
      KB_TEST(lost_and_damaged_files),    KB_TEST(old_versions),
      KB_TEST(deleted_and_flat),          KB_TEST(changed_settings),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
