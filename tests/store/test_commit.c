// Goal: a commit is whole or not at all, sees what came before it, is published in the order in which it was applied,
// and is durable when it is answered; after a failed write nothing is written any more and reads go on.
// Method: single commits by hand; 16 threads whose applies and publishes are logged; a child process that is killed as
// soon as it is answered, with and without the mutant, which shows that the check would notice.
#include "tests/store/store_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

// ---- one commit

typedef struct script {
  int step, published, abandoned;
  rag_status result;
} script;

static bool txn_holds(rag_txn *txn, const char *key, const char *expected) {
  rag_value value = {0};
  rag_status status = rag_txn_get(txn, RAG_CF_META, rag_slice_str(key), &value, NULL);
  bool same = expected == NULL ? status == RAG_NOT_FOUND
                               : status == RAG_OK && rag_slice_equal(value.slice, rag_slice_str(expected));
  rag_value_free(&value);
  return same;
}

static void txn_put_text(rag_txn *txn, const char *key, const char *value) {
  rag_txn_put(txn, RAG_CF_META, rag_slice_str(key), rag_slice_str(value));
}

static void txn_keys(rag_txn *txn, const char *lower, const char *upper, char *out) {
  rag_store_iter *it = NULL;
  out[0] = '\0';
  assert_int_equal(rag_txn_iter_open(txn, RAG_CF_META, rag_slice_str(lower), rag_slice_str(upper), &it, NULL), RAG_OK);
  while (rag_store_iter_next(it)) {
    strncat(out, rag_store_iter_key(it).data, rag_store_iter_key(it).size);
    strcat(out, "=");
    strncat(out, rag_store_iter_value(it).data, rag_store_iter_value(it).size);
    strcat(out, " ");
  }
  assert_int_equal(rag_store_iter_status(it, NULL), RAG_OK);
  rag_store_iter_close(it);
}

static rag_status reads_its_writes(void *ctx, rag_txn *txn, rag_error *err) {
  script *s = ctx;
  char rows[256];
  RAG_UNUSED(err);
  assert_true(txn_holds(txn, "b", "old"));
  txn_put_text(txn, "b", "new");
  txn_put_text(txn, "d", "1");
  txn_put_text(txn, "d", "2");
  rag_txn_delete(txn, RAG_CF_META, rag_slice_str("c"));
  rag_txn_put(txn, RAG_CF_CHUNK, rag_slice_str("bb"), rag_slice_str("another family"));
  assert_true(txn_holds(txn, "a", "old"));
  assert_true(txn_holds(txn, "b", "new"));
  assert_true(txn_holds(txn, "c", NULL));
  assert_true(txn_holds(txn, "d", "2"));
  txn_keys(txn, "a", "", rows);
  assert_string_equal(rows, "a=old b=new d=2 e=old ");
  txn_keys(txn, "b", "d", rows);
  assert_string_equal(rows, "b=new ");
  txn_keys(txn, "b", "dd", rows);
  assert_string_equal(rows, "b=new d=2 ");
  s->step = 1;
  return s->result;
}

static void count_publish(void *ctx) {
  ((script *)ctx)->published++;
}

static void count_abandon(void *ctx) {
  ((script *)ctx)->abandoned++;
}

static rag_commit_request request_of(script *s, rag_status (*apply)(void *, rag_txn *, rag_error *)) {
  return (rag_commit_request){.apply = apply, .publish = count_publish, .abandon = count_abandon, .ctx = s};
}

static void a_request_reads_its_own_writes(void **state) {
  fixture *f = *state;
  script s = {.result = RAG_OK};
  rag_commit_request request = request_of(&s, reads_its_writes);
  put_text(f->store, "a", "old");
  put_text(f->store, "b", "old");
  put_text(f->store, "c", "old");
  put_text(f->store, "e", "old");
  assert_int_equal(rag_store_commit(f->store, &request, NULL), RAG_OK);
  assert_int_equal(s.published, 1);
  assert_int_equal(s.abandoned, 0);
  for (int reopened = 0; reopened < 2; reopened++) {
    assert_true(holds(f->store, NULL, RAG_CF_META, "b", "new"));
    assert_true(holds(f->store, NULL, RAG_CF_META, "d", "2"));
    assert_true(absent(f->store, NULL, RAG_CF_META, "c"));
    assert_true(holds(f->store, NULL, RAG_CF_CHUNK, "bb", "another family"));
    fixture_reopen(f);
  }
}

static void a_failed_request_leaves_nothing(void **state) {
  fixture *f = *state;
  script s = {.result = RAG_ABORTED};
  rag_commit_request request = request_of(&s, reads_its_writes);
  put_text(f->store, "a", "old");
  put_text(f->store, "b", "old");
  put_text(f->store, "c", "old");
  put_text(f->store, "e", "old");
  assert_int_equal(rag_store_commit(f->store, &request, NULL), RAG_ABORTED);
  assert_int_equal(s.step, 1);
  assert_int_equal(s.published + s.abandoned, 0);
  assert_true(holds(f->store, NULL, RAG_CF_META, "b", "old"));
  assert_true(holds(f->store, NULL, RAG_CF_META, "c", "old"));
  assert_true(absent(f->store, NULL, RAG_CF_META, "d"));
  assert_true(absent(f->store, NULL, RAG_CF_CHUNK, "bb"));
  s.result = RAG_OK; // and nothing of it shows in the next one
  assert_int_equal(rag_store_commit(f->store, &request, NULL), RAG_OK);
}

static rag_status puts_too_much(void *ctx, rag_txn *txn, rag_error *err) {
  RAG_UNUSED(err);
  // The text is never read: the size alone is refused.
  rag_txn_put(txn, RAG_CF_META, rag_slice_str("big"), (rag_slice){ctx, ((size_t)1 << 30) + 1});
  txn_put_text(txn, "small", "1");
  return RAG_OK;
}

static void a_failure_sticks_in_the_transaction(void **state) {
  fixture *f = *state;
  rag_error err = {0};
  rag_commit_request request = {.apply = puts_too_much, .ctx = f};
  assert_int_equal(rag_store_commit(f->store, &request, &err), RAG_RESOURCE_EXHAUSTED);
  assert_non_null(strstr(err.message, "split"));
  assert_true(absent(f->store, NULL, RAG_CF_META, "small"));
  put_text(f->store, "next", "1");
}

// ---- many threads

#define THREADS 16
#define COMMITS_EACH 200
#define FAIL_EVERY 10

typedef struct group_log { // touched by apply and publish alone, on purpose without a lock
  uint32_t applied[THREADS * COMMITS_EACH], published[THREADS * COMMITS_EACH];
  uint32_t applied_count, published_count;
  uint64_t counter; // what the row "counter" must say
} group_log;

typedef struct member {
  rag_store *store;
  group_log *log;
  uint32_t id;
  bool fails;
} member;

static rag_status member_apply(void *ctx, rag_txn *txn, rag_error *err) {
  member *m = ctx;
  rag_value value = {0};
  uint64_t counter = 0;
  char key[32];
  // Reads what the requests before it in the group wrote: a lost one would show as a number given twice.
  rag_status status = rag_txn_get(txn, RAG_CF_META, rag_slice_str("counter"), &value, err);
  if (status == RAG_OK) memcpy(&counter, value.slice.data, sizeof counter);
  rag_value_free(&value);
  if (counter != m->log->counter) return rag_fail(err, RAG_INTERNAL, "a write of this group was not seen");
  counter++;
  rag_txn_put(txn, RAG_CF_META, rag_slice_str("counter"), rag_slice_of(&counter, sizeof counter));
  snprintf(key, sizeof key, "id%06u", m->id);
  rag_txn_put(txn, RAG_CF_CHUNK, rag_slice_str(key), rag_slice_of(&counter, sizeof counter));
  if (m->fails) return RAG_ABORTED;
  m->log->counter = counter;
  m->log->applied[m->log->applied_count++] = m->id;
  return RAG_OK;
}

static void member_publish(void *ctx) {
  member *m = ctx;
  m->log->published[m->log->published_count++] = m->id;
}

static void *member_main(void *arg) {
  member m = *(member *)arg;
  uint32_t base = m.id * COMMITS_EACH;
  for (uint32_t i = 0; i < COMMITS_EACH; i++) {
    rag_error err = {0};
    m.id = base + i;
    m.fails = i % FAIL_EVERY == 0;
    rag_commit_request request = {.apply = member_apply, .publish = member_publish, .ctx = &m};
    rag_status status = rag_store_commit(m.store, &request, &err);
    if (status != (m.fails ? RAG_ABORTED : RAG_OK)) return "wrong status";
    rag_value value = {0};
    char key[32];
    snprintf(key, sizeof key, "id%06u", m.id); // visible when answered
    status = rag_store_get(m.store, NULL, RAG_CF_CHUNK, rag_slice_str(key), &value, &err);
    rag_value_free(&value);
    if (status != (m.fails ? RAG_NOT_FOUND : RAG_OK)) return "not visible";
  }
  return NULL;
}

static void groups_keep_order_and_lose_nothing(void **state) {
  fixture *f = *state;
  pthread_t threads[THREADS];
  member members[THREADS];
  group_log *log = calloc(1, sizeof *log);
  const uint32_t good = THREADS * COMMITS_EACH / FAIL_EVERY * (FAIL_EVERY - 1);
  f->options.sync = true; // so that there is something to wait for together
  fixture_reopen(f);
  for (uint32_t i = 0; i < THREADS; i++) {
    members[i] = (member){f->store, log, i, false};
    assert_int_equal(pthread_create(&threads[i], NULL, member_main, &members[i]), 0);
  }
  for (uint32_t i = 0; i < THREADS; i++) {
    void *failure = NULL;
    pthread_join(threads[i], &failure);
    if (failure != NULL) fail_msg("%s", (const char *)failure);
  }
  assert_int_equal(log->applied_count, good);
  assert_int_equal(log->published_count, good);
  assert_memory_equal(log->applied, log->published, good * sizeof log->applied[0]);
  rag_store_stats stats;
  rag_store_stats_get(f->store, &stats);
  assert_int_equal(stats.commits, good);
  assert_int_equal(stats.syncs, stats.groups);
  assert_true(stats.groups < stats.commits);

  fixture_reopen(f);
  for (uint32_t i = 0; i < good; i++) {
    rag_value value = {0};
    char key[32];
    uint64_t counter = 0;
    snprintf(key, sizeof key, "id%06u", log->applied[i]);
    assert_int_equal(rag_store_get(f->store, NULL, RAG_CF_CHUNK, rag_slice_str(key), &value, NULL), RAG_OK);
    memcpy(&counter, value.slice.data, sizeof counter);
    assert_int_equal(counter, i + 1);
    rag_value_free(&value);
  }
  free(log);
}

// ---- errors

static void in_error_reads_go_on_and_writes_do_not(void **state) {
  fixture *f = *state;
  script s = {.result = RAG_OK};
  rag_error err = {0};
  rag_commit_request request = request_of(&s, reads_its_writes);
  put_text(f->store, "a", "1");
  rag_store_set_error_for_test(f->store, "the disk said no");
  rag_store_set_error_for_test(f->store, "a later reason");
  assert_int_equal(rag_store_writable(f->store, &err), RAG_UNAVAILABLE);
  assert_non_null(strstr(err.message, "the disk said no"));
  memset(&err, 0, sizeof err);
  assert_int_equal(rag_store_commit(f->store, &request, &err), RAG_UNAVAILABLE);
  assert_non_null(strstr(err.message, "the disk said no"));
  assert_int_equal(s.step + s.published + s.abandoned, 0);
  assert_int_equal(rag_store_delete_range(f->store, RAG_CF_META, (rag_slice){0}, (rag_slice){0}, &err),
                   RAG_UNAVAILABLE);
  assert_int_equal(rag_store_erase_compact(f->store, RAG_CF_META, (rag_slice){0}, (rag_slice){0}, &err),
                   RAG_UNAVAILABLE);
  assert_true(holds(f->store, NULL, RAG_CF_META, "a", "1"));
  fixture_reopen(f);
  put_text(f->store, "b", "2");
  assert_true(holds(f->store, NULL, RAG_CF_META, "a", "1"));
}

static rag_status puts_a_megabyte(void *ctx, rag_txn *txn, rag_error *err) {
  static char bytes[1 << 20];
  script *s = ctx;
  RAG_UNUSED(err);
  memset(bytes, 'x', sizeof bytes);
  char key[16];
  snprintf(key, sizeof key, "m%d", s->step++);
  rag_txn_put(txn, RAG_CF_META, rag_slice_str(key), rag_slice_of(bytes, sizeof bytes));
  return RAG_OK;
}

// A file-size limit makes the write of the log fail as a full disk would: the real path, in a child so that the limit
// and its signal stay there.
static int child_fills_the_disk(const char *dir) {
  rag_store_options options = test_options();
  options.write_buffer_bytes = 64u << 20; // so that one log grows up to the limit
  script s = {0};
  rag_error err = {0};
  rag_commit_request request = request_of(&s, puts_a_megabyte);
  rag_store *store = NULL;
  struct rlimit limit = {.rlim_cur = 3 << 20, .rlim_max = 3 << 20};
  signal(SIGXFSZ, SIG_IGN);
  if (rag_store_open(dir, &options, &store, NULL) != RAG_OK) return 10;
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 11;
  rag_status status = RAG_OK;
  for (int i = 0; i < 8 && status == RAG_OK; i++) status = rag_store_commit(store, &request, &err);
  if (status != RAG_UNAVAILABLE || s.abandoned != 1 || s.published != s.step - 1 || s.published < 1) return 12;
  if (rag_store_writable(store, NULL) != RAG_UNAVAILABLE) return 13;
  if (rag_store_commit(store, &request, NULL) != RAG_UNAVAILABLE || s.abandoned != 1) return 14;
  char last[16];
  snprintf(last, sizeof last, "m%d", s.step - 1);
  rag_value value = {0};
  if (rag_store_get(store, NULL, RAG_CF_META, rag_slice_str("m0"), &value, NULL) != RAG_OK) return 15;
  rag_value_free(&value);
  if (!absent(store, NULL, RAG_CF_META, last)) return 16;
  rag_store_close(store);
  return s.published; // how many were acknowledged
}

static void a_failed_write_is_final(void **state) {
  fixture *f = *state;
  int status = 0;
  fixture_close(f);
  pid_t child = spawn_child("fill", f->dir, -1, -1);
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_in_range(WEXITSTATUS(status), 1, 8);
  fixture_open(f); // reopening is the recovery, and what was acknowledged is there
  for (int i = 0; i < WEXITSTATUS(status); i++) {
    char key[16];
    snprintf(key, sizeof key, "m%d", i);
    assert_false(absent(f->store, NULL, RAG_CF_META, key));
  }
  put_text(f->store, "after", "1");
}

// ---- acknowledged is durable, as far as a kill can tell

static int child_acknowledges(const char *dir, bool mutant) {
  rag_store_options options = test_options();
  rag_store *store = NULL;
  char key[16];
  options.mutant_acknowledge_early = mutant;
  if (rag_store_open(dir, &options, &store, NULL) != RAG_OK) return 10;
  for (int i = 0; i < 1000000; i++) {
    snprintf(key, sizeof key, "ack%d", i);
    put_text(store, key, "1");
    if (write(3, &i, sizeof i) != sizeof i) return 11;
  }
  return 0;
}

// Acknowledged commits that are gone after a kill -9 as soon as `count` were acknowledged.
static int lost_after_kill(fixture *f, int count, bool mutant) {
  int pipes[2], last = -1, next, lost = 0;
  fixture_close(f);
  assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
  int out = fcntl(pipes[1], F_DUPFD_CLOEXEC, 10);
  pid_t child = spawn_child(mutant ? "mutant" : "acknowledge", f->dir, out, -1);
  close(out);
  close(pipes[1]);
  while (last < count - 1 && read(pipes[0], &next, sizeof next) == sizeof next) last = next;
  kill(child, SIGKILL);
  while (read(pipes[0], &next, sizeof next) == sizeof next) last = next;
  waitpid(child, NULL, 0);
  close(pipes[0]);
  assert_true(last >= count - 1);
  fixture_open(f);
  for (int i = 0; i <= last; i++) {
    char key[16];
    snprintf(key, sizeof key, "ack%d", i);
    lost += absent(f->store, NULL, RAG_CF_META, key);
  }
  return lost;
}

static void a_kill_loses_nothing_acknowledged(void **state) {
  for (int count = 1; count < 40; count += 13) assert_int_equal(lost_after_kill(*state, count, false), 0);
}

static void the_mutant_is_caught(void **state) {
  fixture *f = *state;
  int lost = 0;
  for (int count = 1; count < 40 && lost == 0; count++) lost = lost_after_kill(f, count, true);
  assert_true(lost > 0);
}

static void the_mutant_writes_in_the_end(void **state) {
  fixture *f = *state;
  f->options.mutant_acknowledge_early = true;
  fixture_reopen(f);
  put_text(f->store, "a", "1");
  put_text(f->store, "b", "2");
  fixture_reopen(f);
  assert_true(holds(f->store, NULL, RAG_CF_META, "a", "1"));
  assert_true(holds(f->store, NULL, RAG_CF_META, "b", "2"));
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "fill") == 0) return child_fills_the_disk(argv[2]);
  if (argc == 3 && strcmp(argv[1], "acknowledge") == 0) return child_acknowledges(argv[2], false);
  if (argc == 3 && strcmp(argv[1], "mutant") == 0) return child_acknowledges(argv[2], true);
  const struct CMUnitTest tests[] = {
      STORE_TEST(a_request_reads_its_own_writes),         STORE_TEST(a_failed_request_leaves_nothing),
      STORE_TEST(a_failure_sticks_in_the_transaction),    STORE_TEST(groups_keep_order_and_lose_nothing),
      STORE_TEST(in_error_reads_go_on_and_writes_do_not), STORE_TEST(a_failed_write_is_final),
      STORE_TEST(a_kill_loses_nothing_acknowledged),      STORE_TEST(the_mutant_is_caught),
      STORE_TEST(the_mutant_writes_in_the_end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
