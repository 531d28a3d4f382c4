// Goal: below the watermark a write is refused in time, with what to free; what makes room goes on to a quarter of it,
// and what keeps the store going always; reads go on; writes come back by themselves; the store is never in ERROR by it.
// Method: the size of the disk is put in by hand, at each bound and one byte past it; jobs and reads run meanwhile. The
// real disk is asked once, with a watermark that no disk has.
#include "store_test.h"

#define MIB (UINT64_C(1) << 20)
#define DISK (100u * 1024u * MIB) // 2% of it is more than 256 MiB

typedef struct space_row {
  const char *key;
} space_row;

static rag_status put_space_row(void *ctx, rag_txn *txn, rag_error *err) {
  RAG_UNUSED(err);
  rag_txn_put(txn, RAG_CF_META, rag_slice_str(((space_row *)ctx)->key), rag_slice_str("value"));
  return RAG_OK;
}

static rag_status write_row(fixture *f, rag_store_room room, const char *key, rag_error *err) {
  space_row r = {key};
  return rag_store_commit(f->store, &(rag_commit_request){.apply = put_space_row, .ctx = &r, .room = room}, err);
}

static bool row_is_there(fixture *f, const char *key) {
  rag_error err = {0};
  rag_value value = {0};
  rag_status status = rag_store_get(f->store, NULL, RAG_CF_META, rag_slice_str(key), &value, &err);
  rag_value_free(&value);
  if (status != RAG_OK && status != RAG_NOT_FOUND) fail_msg("get: %s", err.message);
  return status == RAG_OK;
}

static void expect(fixture *f, rag_store_room room, const char *key, bool taken) {
  rag_error err = {0};
  rag_status status = write_row(f, room, key, &err);
  if (taken && status != RAG_OK) fail_msg("'%s': %s", key, err.message);
  if (!taken) assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
  assert_int_equal(row_is_there(f, key), taken);
}

static void each_bound(void **state) {
  fixture *f = *state;
  const uint64_t mark = 256u * MIB;
  rag_store_set_space_for_test(f->store, mark, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "at the mark", true);
  rag_store_set_space_for_test(f->store, mark - 1, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "below", false);
  expect(f, RAG_STORE_ROOM_MADE, "makes room", true);
  expect(f, RAG_STORE_ROOM_IGNORED, "needed", true);
  rag_store_set_space_for_test(f->store, mark / 4, DISK);
  expect(f, RAG_STORE_ROOM_MADE, "makes room at a quarter", true);
  rag_store_set_space_for_test(f->store, mark / 4 - 1, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "far below", false);
  expect(f, RAG_STORE_ROOM_MADE, "makes room far below", false);
  expect(f, RAG_STORE_ROOM_IGNORED, "needed far below", true);
  assert_true(row_is_there(f, "at the mark")); // reads go on
}

static void what_it_says(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  rag_store_set_space_for_test(f->store, 7 * MIB, DISK);
  assert_int_equal(write_row(f, RAG_STORE_ROOM_TAKEN, "a", &err), RAG_RESOURCE_EXHAUSTED);
  const char *parts[] = {f->dir, "7 MiB left", "below 256 MiB", "free_bytes_min", "gc", "reads go on"};
  for (size_t i = 0; i < RAG_COUNT_OF(parts); i++)
    if (strstr(err.message, parts[i]) == NULL) fail_msg("'%s' is not in: %s", parts[i], err.message);
  assert_int_equal(rag_store_writable(f->store, &err), RAG_OK); // no ERROR
  rag_store_stats stats;
  rag_store_stats_get(f->store, &stats);
  assert_true(stats.disk_low);
  assert_int_equal(stats.disk_free_bytes, 7 * MIB);
  assert_int_equal(stats.disk_free_bytes_min, 256 * MIB);
  assert_int_equal(stats.disk_low_refusals, 1);
}

// Without a hand on the clock: the store itself looks again.
static void writes_come_back(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  rag_store_set_space_for_test(f->store, 1, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "a", false);
  rag_store_set_space_for_test(f->store, DISK, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "a", true);
  rag_store_set_space_for_test(f->store, 1, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "b", false);
  rag_store_set_space_for_test(f->store, 0, 0); // the real disk
  uint64_t until_ns = rag_clock_monotonic_ns() + UINT64_C(20000000000);
  while (write_row(f, RAG_STORE_ROOM_TAKEN, "b", &err) != RAG_OK)
    if (rag_clock_monotonic_ns() > until_ns) fail_msg("writes do not come back: %s", err.message);
}

static void small_disks_keep_two_percent(void **state) {
  fixture *f = *state;
  rag_store_set_space_for_test(f->store, 20 * MIB, 1000 * MIB);
  expect(f, RAG_STORE_ROOM_TAKEN, "at 2%", true);
  rag_store_set_space_for_test(f->store, 20 * MIB - 1, 1000 * MIB);
  expect(f, RAG_STORE_ROOM_TAKEN, "below 2%", false);
}

static void as_the_operator_says(void **state) {
  fixture *f = *state;
  f->options.free_bytes_min = 0;
  fixture_reopen(f);
  rag_store_set_space_for_test(f->store, 0, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "never refused", true);
  f->options.free_bytes_min = 5 * MIB;
  fixture_reopen(f);
  rag_store_set_space_for_test(f->store, 5 * MIB, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "at five", true);
  rag_store_set_space_for_test(f->store, 5 * MIB - 1, DISK);
  expect(f, RAG_STORE_ROOM_TAKEN, "below five", false);
  f->options.free_bytes_min = UINT64_C(1) << 60; // more than there is: the real disk is asked
  fixture_reopen(f);
  expect(f, RAG_STORE_ROOM_TAKEN, "real", false);
  assert_true(row_is_there(f, "at five"));
}

static rag_status run_job(void *ctx, rag_job *job, rag_error *err) {
  unsigned *runs = ctx;
  (*runs)++;
  return rag_job_checkpoint(job, rag_slice_str("cursor"), 1, 2, "steps", err);
}

// A job that makes room is submitted, reports progress and ends below the mark; far below, a store opens and shows jobs.
static void jobs_below_the_mark(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  rag_jobs *jobs = NULL;
  rag_job_info info = {0};
  unsigned runs = 0;
  uint64_t id = 0;
  rag_store_set_space_for_test(f->store, 255 * MIB, DISK);
  assert_int_equal(rag_jobs_open(f->store, 0, &jobs, &err), RAG_OK);
  rag_jobs_register(jobs, "gc", run_job, &runs);
  assert_int_equal(rag_jobs_start(jobs, &err), RAG_OK);
  assert_int_equal(rag_jobs_submit(jobs, "gc", "kb", rag_slice_str(""), &id, &err), RAG_OK);
  assert_int_equal(rag_jobs_run_foreground(jobs, NULL, NULL, &err), RAG_OK);
  assert_int_equal(runs, 1);
  rag_jobs_close(jobs);
  rag_store_set_space_for_test(f->store, 0, DISK);
  assert_int_equal(rag_jobs_open(f->store, 0, &jobs, &err), RAG_OK);
  assert_int_equal(rag_jobs_get(jobs, id, &info, &err), RAG_OK);
  assert_int_equal(info.state, RAG_JOB_SUCCEEDED);
  rag_job_info_free(&info);
  assert_int_equal(rag_jobs_submit(jobs, "gc", "kb", rag_slice_str(""), &id, &err), RAG_RESOURCE_EXHAUSTED);
  rag_jobs_close(jobs);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      STORE_TEST(each_bound),           STORE_TEST(what_it_says),
      STORE_TEST(writes_come_back),     STORE_TEST(small_disks_keep_two_percent),
      STORE_TEST(as_the_operator_says), STORE_TEST(jobs_below_the_mark),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
