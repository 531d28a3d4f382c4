// Goal: whatever goes wrong while the index is sealed, merged, erased or loaded, nothing is lost, searches stay right, and
// sealing goes on by itself: a job that is cancelled before it began, a load that fails half way, a want of memory at any
// allocation, a full disk, little memory, a purge in the middle of a build, a deletion in the middle of one.
// Method: each of these is brought about on purpose, and what is left (answers, segments, files, jobs) is looked at.
#include "tests/kb/kb_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "kb/kb_internal.h"

enum { DIMENSION = 64, BATCH_MAX = 400 };

// Client vectors that follow from the number, far from each other.
static void fill(uint32_t number, uint32_t dimension, float *out) {
  uint64_t x = (uint64_t)number * 2654435761u + 17;
  for (uint32_t d = 0; d < dimension; d++) {
    x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    out[d] = (float)(int32_t)(x >> 32) / 2147483648.0f;
  }
}

static rag_status try_put(rag_kb *kb, uint32_t from, uint32_t count, uint32_t salt, rag_error *err) {
  static rag_document_input inputs[BATCH_MAX];
  static char ids[BATCH_MAX][16];
  assert_true(count <= BATCH_MAX);
  float *vectors = malloc(((size_t)count + 1) * kb->dimension * sizeof *vectors);
  assert_non_null(vectors);
  for (uint32_t i = 0; i < count; i++) {
    float *vector = vectors + (size_t)i * kb->dimension;
    fill(from + i + salt * 1000003, kb->dimension, vector);
    snprintf(ids[i], sizeof ids[i], "d%u", from + i);
    inputs[i] =
        (rag_document_input){.id = S(ids[i]), .text = S(ids[i]), .vector = vector, .vector_dimension = kb->dimension};
  }
  rag_put put = {.documents = inputs, .document_count = count};
  rag_write write = {0};
  rag_write_result result;
  rag_status status = rag_kb_put(kb, &write, &put, &result, NULL, err);
  free(vectors);
  return status;
}

static void put_some(rag_kb *kb, uint32_t from, uint32_t count, uint32_t salt) {
  rag_error err = {0};
  for (uint32_t done = 0; done < count; done += BATCH_MAX)
    OK(try_put(kb, from + done, RAG_MIN(count - done, (uint32_t)BATCH_MAX), salt, &err));
}

// Each of these documents is the nearest to its own vector.
static void assert_found(rag_kb *kb, uint32_t from, uint32_t count, uint32_t salt, uint32_t every) {
  rag_error err = {0};
  float *vector = malloc(kb->dimension * sizeof *vector);
  assert_non_null(vector);
  for (uint32_t i = 0; i < count; i += every) {
    char id[16];
    rag_search_result result;
    fill(from + i + salt * 1000003, kb->dimension, vector);
    rag_search search = {
        .vector = vector, .vector_dimension = kb->dimension, .mode = RAG_SEARCH_VECTOR, .k = 3, .exact = true};
    OK(rag_kb_search(kb, &search, &result, &err));
    snprintf(id, sizeof id, "d%u", from + i);
    if (result.count == 0 || !rag_slice_equal(result.hits[0].document_id, S(id)))
      fail_msg("document %s is not found by its vector", id);
    rag_search_result_free(&result);
  }
  free(vector);
}

static rag_kb_index index_of(rag_kb *kb) {
  rag_error err = {0};
  rag_kb_index info;
  OK(rag_kb_index_info(kb, &info, &err));
  rag_free(info.segments);
  info.segments = NULL;
  return info;
}

static void folder(const kb_fixture *f, const rag_kb *kb, char out[256]) {
  snprintf(out, 256, "%.200s/index/%u/%u", f->dir, kb->id, kb->space);
}

static uint32_t files_of(const kb_fixture *f, const rag_kb *kb) {
  char path[256];
  uint32_t count = 0;
  folder(f, kb, path);
  DIR *dir = opendir(path);
  if (dir == NULL) return 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
  closedir(dir);
  return count;
}

static uint32_t files_with(const kb_fixture *f, const rag_kb *kb, const void *bytes, size_t size) {
  char path[256], file[600];
  uint32_t count = 0;
  folder(f, kb, path);
  DIR *dir = opendir(path);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char *data = NULL;
    size_t length = 0;
    if (entry->d_name[0] == '.') continue;
    snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
    if (rag_os_read_file(file, (size_t)1 << 30, &data, &length, NULL) != RAG_OK) continue;
    count += memmem(data, length, bytes, size) != NULL;
    rag_free(data);
  }
  closedir(dir);
  return count;
}

static void run_jobs(kb_fixture *f) {
  rag_error err = {0};
  OK(rag_jobs_run_foreground(f->jobs, NULL, NULL, &err));
}

// Index jobs in a state; the newest one's id and error.
static uint32_t index_jobs(kb_fixture *f, rag_job_state state, uint64_t *out_id, char error[256]) {
  rag_error err = {0};
  rag_job_info *jobs = NULL;
  uint32_t count = 0, found = 0;
  OK(rag_jobs_list(f->jobs, 0, 1000, &jobs, &count, &err));
  for (uint32_t i = 0; i < count; i++) {
    if (strcmp(jobs[i].kind, "index") == 0 && jobs[i].state == state) {
      if (found == 0 && out_id != NULL) *out_id = jobs[i].id;
      if (found == 0 && error != NULL) snprintf(error, 256, "%.255s", jobs[i].error);
      found++;
    }
    rag_job_info_free(&jobs[i]);
  }
  rag_free(jobs);
  return found;
}

static void let_it_try_again(rag_kb *kb) {
  atomic_store(&kb->segments_later_ns, 0);
}

static void pause_ms(long ms) {
  nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

// ---------------------------------------------------------------------------------------------- jobs

static void cancelled_before_it_began(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  uint64_t job = 0;
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  put_some(kb, 0, 100, 0);
  assert_int_equal(index_jobs(f, RAG_JOB_QUEUED, &job, NULL), 1);
  put_some(kb, 100, 5, 0);
  assert_int_equal(index_jobs(f, RAG_JOB_QUEUED, NULL, NULL), 1); // one is enough
  OK(rag_jobs_cancel(f->jobs, job, &err));
  put_some(kb, 105, 5, 0);
  assert_int_equal(index_jobs(f, RAG_JOB_QUEUED, NULL, NULL), 1);
  run_jobs(f);
  rag_kb_index info = index_of(kb);
  assert_true(info.count == 1 && info.tail_rows == 0 && !info.building);
  rag_ref_drop(kb);
}

static void one_job_of_many_processes(void **state) { // a command line that runs none
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  put_some(kb, 0, 100, 0);
  for (int i = 0; i < 5; i++) {
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
    put_some(kb, 100 + (uint32_t)i, 1, 0);
  }
  assert_int_equal(index_jobs(f, RAG_JOB_QUEUED, NULL, NULL), 1);
  run_jobs(f);
  assert_int_equal(index_of(kb).tail_rows, 0);
  rag_ref_drop(kb);
}

enum { FED_MAX = 60 };
typedef struct feeding {
  kb_fixture *f;
  rag_kb *kb;
  uint64_t gc;
  uint32_t fed;
} feeding;

// After each task of an index job there is enough for another, until the gc has run.
static void feed(void *context, const rag_job_info *job) {
  feeding *feeder = context;
  rag_error err = {0};
  rag_job_info info = {0};
  if (strcmp(job->kind, "index") != 0 || feeder->fed == FED_MAX) return;
  OK(rag_jobs_get(feeder->f->jobs, feeder->gc, &info, &err));
  if (info.state == RAG_JOB_QUEUED) put_some(feeder->kb, 1000 + 30 * feeder->fed++, 30, 0);
  rag_job_info_free(&info);
}

static void other_jobs_have_their_turn(void **state) { // where one thread runs all jobs
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  feeding feeder = {.f = f, .kb = kb};
  rag_job_info info = {0};
  put_some(kb, 0, 30, 0);
  rag_gc_options options = {.keep_commits = 1000000};
  OK(rag_kb_gc(kb, &options, &feeder.gc, &err));
  OK(rag_jobs_run_foreground(f->jobs, feed, &feeder, &err));
  OK(rag_jobs_get(f->jobs, feeder.gc, &info, &err));
  assert_int_equal(info.state, RAG_JOB_SUCCEEDED);
  rag_job_info_free(&info);
  assert_true(feeder.fed > 3 && feeder.fed < FED_MAX);
  rag_kb_index index = index_of(kb);
  assert_true(index.rows == 30 + 30 * feeder.fed && index.tail_rows == 0 && !index.building); // and it goes on after
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- memory

static void a_load_that_fails_half_way(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  for (uint32_t i = 0; i < 3; i++) {
    put_some(kb, i * 40, 40, 0);
    run_jobs(f);
  }
  put_some(kb, 120, 5, 0);
  rag_kb_index before = index_of(kb);
  assert_true(before.count >= 2 && before.tail_rows == 5);
  f->kbs_options.load_at_open = false;
  uint32_t failed = 0;
  for (uint64_t nth = 1;; nth += 7) {
    rag_error err = {0};
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
    rag_alloc_fail_after(nth);
    rag_status status = rag_kb_load(kb, &err);
    rag_alloc_fail_after(0);
    if (status != RAG_OK) {
      assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
      failed++;
    }
    OK(rag_kb_load(kb, &err)); // goes on
    rag_kb_index info = index_of(kb);
    if (info.count != before.count || info.tail_rows != 5 || files_of(f, kb) != before.count)
      fail_msg("after allocation %u: %u segments, %u files, %u rows in the tail", (unsigned)nth, info.count,
               files_of(f, kb), (unsigned)info.tail_rows);
    assert_string_equal(info.build, before.build);
    if (status == RAG_OK) break;
  }
  assert_true(failed > 10);
  rag_ref_drop(kb);
  kb_test_reopen(f); // and the rows are there
  kb = kb_test_get(f, "docs");
  assert_string_equal(index_of(kb).build, before.build);
  assert_found(kb, 0, 125, 0, 10);
  rag_ref_drop(kb);
}

static void a_task_that_fails_anywhere(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  uint32_t rows = 0, unharmed = 0, nth = 1;
  rag_log_setup(2, RAG_LOG_ERROR + 1, RAG_LOG_TEXT);
  for (; unharmed < 3; nth += 2) {
    rag_error err = {0};
    put_some(kb, rows, 30, 0);
    rows += 30;
    rag_alloc_fail_after(nth);
    rag_status status = rag_jobs_run_foreground(f->jobs, NULL, NULL, &err);
    rag_alloc_fail_after(0);
    uint32_t failed = index_jobs(f, RAG_JOB_FAILED, NULL, NULL);
    unharmed = status == RAG_OK && failed == 0 ? unharmed + 1 : 0;
    let_it_try_again(kb);
    put_some(kb, rows++, 1, 0);
    put_some(kb, rows, 30, 0);
    rows += 30;
    run_jobs(f);
    rag_kb_index info = index_of(kb);
    if (info.tail_rows > 0 || files_of(f, kb) != info.count || info.rows != rows)
      fail_msg("after allocation %u: %u rows of %u, %u in the tail, %u segments in %u files", nth, (unsigned)info.rows,
               rows, (unsigned)info.tail_rows, info.count, files_of(f, kb));
  }
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  assert_true(nth > 40);
  rag_kb_index info = index_of(kb);
  rag_ref_drop(kb);
  kb_test_reopen(f); // what is durable is what was in memory
  kb = kb_test_get(f, "docs");
  assert_string_equal(index_of(kb).build, info.build);
  assert_found(kb, 0, rows, 0, 17);
  rag_ref_drop(kb);
}

static void little_memory(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb *kb = NULL;
  kb_test_close(f);
  f->kbs_options.seal_rows = 100000; // more than the memory takes
  kb_test_open(f);
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "docs");
  config.model[0] = '\0';
  config.dimension = 256;
  config.memory_bytes_max = 2646016; // 2,048 rows and their codes
  OK(rag_kbs_create(f->kbs, &config, &write, &kb, &err));
  for (uint32_t n = 0; n < 4000; n += 400) {
    rag_status status = try_put(kb, n, 400, 0, &err);
    if (status != RAG_OK) fail_msg("after %u rows: %s", n, err.message);
    run_jobs(f);
  }
  rag_kb_index info = index_of(kb);
  assert_true(info.rows == 4000 && info.count > 0 && info.tail_rows < 2048 &&
              info.memory_bytes < config.memory_bytes_max);
  assert_found(kb, 0, 4000, 0, 497);
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- disk

static void no_room_above_the_mark(void **state) {
  kb_fixture *f = *state;
  char why[256] = "";
  kb_test_close(f);
  f->store_options.free_bytes_min = 10u << 20;
  kb_test_open(f);
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  rag_store_set_space_for_test(f->store, (10u << 20) + (50u << 10), UINT64_C(1) << 40);
  put_some(kb, 0, 300, 0);
  run_jobs(f);
  assert_int_equal(index_jobs(f, RAG_JOB_FAILED, NULL, why), 1);
  assert_non_null(strstr(why, "make room"));
  rag_kb_index info = index_of(kb);
  assert_true(info.count == 0 && info.tail_rows == 300 && !info.building && files_of(f, kb) == 0);
  assert_found(kb, 0, 300, 0, 30);
  rag_store_set_space_for_test(f->store, 100u << 20, UINT64_C(1) << 40);
  put_some(kb, 300, 1, 0);
  assert_int_equal(index_jobs(f, RAG_JOB_QUEUED, NULL, NULL), 0); // not yet
  let_it_try_again(kb);
  put_some(kb, 301, 1, 0);
  run_jobs(f);
  info = index_of(kb);
  assert_true(info.count == 1 && info.tail_rows == 0);
  rag_ref_drop(kb);
}

static void a_write_that_fails(void **state) { // in the middle of a file
  kb_fixture *f = *state;
  rag_error err = {0};
  struct rlimit before, limit;
  char why[256] = "";
  rag_kb *kb = kb_test_create(f, "docs", "", 2048);
  put_some(kb, 0, 300, 0); // 2.4 MB
  OK(rag_store_flush(f->store, &err));
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  limit = before;
  limit.rlim_cur = 1u << 20;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  rag_status status = rag_jobs_run_foreground(f->jobs, NULL, NULL, &err);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, handler);
  assert_int_equal(status, RAG_OK);
  assert_int_equal(index_jobs(f, RAG_JOB_FAILED, NULL, why), 1);
  if (strstr(why, "File too large") == NULL || strstr(why, ".seg") == NULL) fail_msg("the job says: %s", why);
  rag_kb_index info = index_of(kb);
  assert_true(info.count == 0 && info.tail_rows == 300 && !info.building);
  assert_int_equal(files_of(f, kb), 0);
  assert_found(kb, 0, 300, 0, 30);
  let_it_try_again(kb);
  put_some(kb, 300, 1, 0);
  run_jobs(f);
  info = index_of(kb);
  assert_true(info.count == 1 && info.tail_rows == 0 && files_of(f, kb) == 1);
  assert_found(kb, 0, 301, 0, 30);
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- purge, deletion

// A version that gc took before has left its vector in a segment's file: it is a revision of the document, too.
static void what_gc_took_is_erased(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  float first[DIMENSION], second[DIMENSION];
  rag_slice ids[1] = {S("d7")};
  uint64_t job = 0;
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  put_some(kb, 0, 100, 0);
  run_jobs(f);
  put_some(kb, 7, 1, 1);
  put_some(kb, 100, 30, 0);
  run_jobs(f);
  rag_gc_options options = {.keep_commits = 1};
  OK(rag_kb_gc(kb, &options, &job, &err));
  kb_test_job(f, job);
  run_jobs(f);
  fill(7, DIMENSION, first);
  fill(7 + 1000003, DIMENSION, second);
  rag_vector_normalize(first, DIMENSION);
  rag_vector_normalize(second, DIMENSION);
  assert_int_equal(files_with(f, kb, first, sizeof first), 1); // gc leaves a row among a hundred
  assert_int_equal(files_with(f, kb, second, sizeof second), 1);
  OK(rag_kb_purge(kb, ids, 1, &job, &err));
  kb_test_job(f, job);
  assert_int_equal(files_with(f, kb, first, sizeof first), 0);
  assert_int_equal(files_with(f, kb, second, sizeof second), 0);
  rag_kb_index erased = index_of(kb);
  assert_int_equal(erased.count, files_of(f, kb));
  ids[0] = S("no such document");
  OK(rag_kb_purge(kb, ids, 1, &job, &err));
  kb_test_job(f, job);
  assert_string_equal(index_of(kb).build, erased.build); // what is erased is not copied again
  assert_found(kb, 8, 122, 0, 9);
  rag_ref_drop(kb);
}

static void a_file_that_stays_is_said(void **state) { // by the purge that was to remove it
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_slice ids[1] = {S("d7")};
  uint64_t job = 0;
  char dir[256], stuck[320];
  rag_job_info info = {0};
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  put_some(kb, 0, 100, 0);
  run_jobs(f);
  folder(f, kb, dir);
  snprintf(stuck, sizeof stuck, "%s/00112233445566778899aabbccddeeff.seg", dir);
  assert_int_equal(mkdir(stuck, 0700), 0); // cannot be unlinked
  OK(rag_kb_purge(kb, ids, 1, &job, &err));
  run_jobs(f);
  OK(rag_jobs_get(f->jobs, job, &info, &err));
  assert_int_equal(info.state, RAG_JOB_FAILED);
  assert_non_null(strstr(info.error, "00112233445566778899aabbccddeeff.seg"));
  rag_job_info_free(&info);
  assert_int_equal(rmdir(stuck), 0);
  OK(rag_kb_purge(kb, ids, 1, &job, &err));
  kb_test_job(f, job);
  rag_ref_drop(kb);
}

static void a_purge_interrupts(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  uint64_t jobs[4] = {0};
  float gone[4][DIMENSION];
  kb_test_close(f);
  f->job_threads = 3;
  f->kbs_options.seal_rows = 1500;
  f->kbs_options.graph_rows = 1000;
  kb_test_open(f);
  rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
  for (uint32_t i = 0; i < 4; i++) {
    char id[16];
    rag_slice ids[1];
    put_some(kb, i * 1600, 1600, 0);
    for (int looks = 0; looks < 200 && !index_of(kb).building; looks++) pause_ms(1);
    pause_ms(20 + (long)i * 15);
    snprintf(id, sizeof id, "d%u", i * 1600 + 3);
    ids[0] = S(id);
    OK(rag_kb_purge(kb, ids, 1, &jobs[i], &err));
    fill(i * 1600 + 3, DIMENSION, gone[i]);
    rag_vector_normalize(gone[i], DIMENSION);
  }
  for (uint32_t i = 0; i < 4; i++) {
    kb_test_job(f, jobs[i]);
    assert_int_equal(files_with(f, kb, gone[i], sizeof gone[i]), 0);
  }
  for (int looks = 0; looks < 6000 && index_of(kb).building; looks++) pause_ms(10);
  rag_kb_index info = index_of(kb);
  assert_false(info.building);
  assert_true(info.count > 0 && info.tail_rows < 1500 && info.rows == 4 * 1600 - 4);
  for (uint32_t i = 0; i < 4; i++) assert_int_equal(files_with(f, kb, gone[i], sizeof gone[i]), 0);
  assert_found(kb, 4, 1500, 0, 111);
  rag_ref_drop(kb);
}

typedef struct scribbler {
  char dir[256];
  _Atomic bool stop; // atomic: set by the test
} scribbler;

static void *scribble(void *context) { // as a builder does that has not yet looked whether to go on
  scribbler *s = context;
  for (uint32_t n = 0; n < 4000 && !atomic_load(&s->stop); n++) {
    char path[300];
    snprintf(path, sizeof path, "%s/%032x.seg.part", s->dir, n);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
  }
  return NULL;
}

static void deleted_while_it_is_built(void **state) {
  kb_fixture *f = *state;
  for (int round = 0; round < 8; round++) {
    rag_error err = {0};
    scribbler s = {.dir = ""};
    pthread_t thread;
    uint64_t job = 0;
    char path[256];
    rag_kb *kb = kb_test_create(f, "docs", "", DIMENSION);
    put_some(kb, 0, 100, 0);
    run_jobs(f);
    folder(f, kb, s.dir);
    snprintf(path, sizeof path, "%.200s/index/%u", f->dir, kb->id);
    rag_ref_drop(kb);
    OK(rag_kbs_delete(f->kbs, S("docs"), &job, &err));
    assert_int_equal(pthread_create(&thread, NULL, scribble, &s), 0);
    kb_test_job(f, job);
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
    assert_false(rag_os_exists(path));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(cancelled_before_it_began),  KB_TEST(one_job_of_many_processes),  KB_TEST(other_jobs_have_their_turn),
      KB_TEST(a_load_that_fails_half_way), KB_TEST(a_task_that_fails_anywhere), KB_TEST(little_memory),
      KB_TEST(no_room_above_the_mark),     KB_TEST(a_write_that_fails),         KB_TEST(what_gc_took_is_erased),
      KB_TEST(a_file_that_stays_is_said),  KB_TEST(a_purge_interrupts),         KB_TEST(deleted_while_it_is_built),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
