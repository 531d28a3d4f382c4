// Goal: concurrent writers lose nothing and conflict only where they must; a reader's answer is that of one commit; and
// requests that share a group see each other.
// Method: writers count what they were told and the counts are added up at the end; each search is checked against the
// documents of the commit that it names. Groups are made on purpose: a request that waits in its apply holds the leader
// until others stand behind it.
#include "kb_test.h"

#include <pthread.h>
#include <semaphore.h>
#include <time.h>

enum { WRITERS = 4, READERS = 4, PUTS = 60 };

typedef struct shared {
  rag_kb *kb[2];
  _Atomic unsigned writing;
  _Atomic uint64_t commits[2];
} shared;

typedef struct worker {
  shared *s;
  unsigned number;
  uint64_t added, changed, removed, conflicts, searches;
} worker;

// Each writer has ids of its own, and all of them fight for one: "turn", moved with expect_parent.
static void *write_worker(void *arg) {
  worker *w = arg;
  rag_error err = {0};
  for (unsigned i = 0; i < PUTS; i++) {
    uint32_t which = (i + w->number) % 2;
    rag_kb *kb = w->s->kb[which];
    char id[24], text[48];
    rag_write_result r = {0};
    rag_write write = {0};
    snprintf(id, sizeof id, "w%u-%u", w->number, i / 2 % 7);
    snprintf(text, sizeof text, "writer %u wrote number %u", w->number, i);
    rag_document_input in = {.id = S(id), .text = S(text)};
    rag_put put = {.documents = &in, .document_count = 1};
    rag_slice gone = S(id);
    if (i % 9 == 8) put = (rag_put){.delete_ids = &gone, .delete_count = 1};
    OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
    w->added += r.added;
    w->changed += r.changed;
    w->removed += r.removed;
    if (r.committed) atomic_fetch_add(&w->s->commits[which], 1);
    for (;;) { // an increment that must not be lost
      rag_document document = {0};
      rag_version *version = NULL;
      rag_strings conflicts = {0};
      char at[16], metadata[40];
      OK(rag_kb_resolve(kb, S(""), &version, &err));
      snprintf(at, sizeof at, "c%u", (unsigned)rag_version_commit(version));
      rag_ref_drop(version);
      OK(rag_kb_document_get(kb, S(at), S("turn"), &document, &err));
      unsigned value = 0;
      assert_int_equal(sscanf(document.metadata.data, "{\"n\":%u}", &value), 1);
      uint32_t revision = document.revision;
      rag_document_free(&document);
      snprintf(metadata, sizeof metadata, "{\"n\":%u}", value + 1);
      rag_document_input turn = {.id = S("turn"), .text = S("whose turn"), .metadata = S(metadata)};
      put = (rag_put){.documents = &turn, .document_count = 1};
      write = (rag_write){.expect_parent = S(at)};
      rag_status status = i % 2 ? rag_kb_put(kb, &write, &put, &r, &conflicts, &err)
                                : rag_kb_set_metadata(kb, &(rag_write){0}, S("turn"), revision, S(metadata), &r, &err);
      if (status == RAG_ABORTED) { // somebody else was faster, at this document and no other
        w->conflicts++;
        if (i % 2) {
          assert_int_equal(conflicts.count, 1);
          assert_string_equal(conflicts.items[0], "turn");
        }
        rag_strings_free(&conflicts);
        continue;
      }
      OK(status);
      assert_true(r.committed);
      atomic_fetch_add(&w->s->commits[which], 1);
      break;
    }
  }
  atomic_fetch_sub(&w->s->writing, 1);
  return NULL;
}

static void *read_worker(void *arg) {
  worker *w = arg;
  rag_error err = {0};
  while (atomic_load(&w->s->writing) > 0 || w->searches < 20) {
    rag_kb *kb = w->s->kb[w->searches % 2];
    rag_search search = {.query = S("writer wrote number"), .k = 100, .want_text = true, .want_metadata = true};
    rag_search_result r = {0};
    OK(rag_kb_search(kb, &search, &r, &err));
    char at[16];
    rag_document *documents = NULL;
    uint32_t count = 0, next = 0;
    uint64_t commit = 0;
    snprintf(at, sizeof at, "c%u", (unsigned)r.commit);
    OK(rag_kb_documents(kb, S(at), NULL, 0, 1000, &documents, &count, &next, &commit, &err));
    assert_int_equal(commit, r.commit);
    assert_int_equal(count, r.count); // one chunk each, and k is larger
    for (uint32_t i = 0; i < count; i++) {
      bool found = false;
      for (uint32_t h = 0; h < r.count && !found; h++)
        found =
            r.hits[h].revision == documents[i].revision && rag_slice_equal(r.hits[h].document_id, documents[i].id) &&
            rag_slice_equal(r.hits[h].text, documents[i].text) &&
            rag_slice_equal(r.hits[h].metadata, documents[i].metadata) && r.hits[h].chunk == documents[i].first_chunk;
      assert_true(found);
      rag_document_free(&documents[i]);
    }
    rag_free(documents);
    rag_search_result_free(&r);
    w->searches++;
  }
  return NULL;
}

static void writers_and_readers(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  shared s = {.kb = {kb_test_create(f, "one", "hash-32", 0), kb_test_create(f, "two", "hash-32", 0)},
              .writing = WRITERS};
  pthread_t threads[WRITERS + READERS];
  worker workers[WRITERS + READERS];
  for (int k = 0; k < 2; k++) kb_test_put_on(s.kb[k], NULL, "turn", "whose turn", "{\"n\":0}");
  f->kbs_options.version_cache = 2;
  for (unsigned i = 0; i < WRITERS + READERS; i++) {
    workers[i] = (worker){.s = &s, .number = i};
    assert_int_equal(pthread_create(&threads[i], NULL, i < WRITERS ? write_worker : read_worker, &workers[i]), 0);
  }
  uint64_t added = 0, removed = 0;
  for (unsigned i = 0; i < WRITERS + READERS; i++) {
    pthread_join(threads[i], NULL);
    added += workers[i].added;
    removed += workers[i].removed;
  }
  for (int round = 0; round < 2; round++) {
    uint64_t documents = 0, turns = 0;
    for (int k = 0; k < 2; k++) {
      rag_kb_info info = kb_test_describe(s.kb[k]);
      assert_int_equal(info.commits, 2 + atomic_load(&s.commits[k])); // every one was acknowledged once
      documents += info.documents;
      rag_document turn = {0};
      OK(rag_kb_document_get(s.kb[k], S(""), S("turn"), &turn, &err));
      unsigned value = 0;
      assert_int_equal(sscanf(turn.metadata.data, "{\"n\":%u}", &value), 1);
      turns += value;
      rag_document_free(&turn);
      rag_ref_drop(s.kb[k]);
    }
    assert_int_equal(documents, 2 + added - removed);
    assert_int_equal(turns, WRITERS * PUTS); // no update was lost
    if (round > 0) break;
    kb_test_reopen(f);
    s.kb[0] = kb_test_get(f, "one");
    s.kb[1] = kb_test_get(f, "two");
  }
}

// ---------------------------------------------------------------------------------------------- one group

typedef struct gate {
  sem_t entered, go;
  rag_store *store;
} gate;

static rag_status gate_apply(void *ctx, rag_txn *txn, rag_error *err) {
  gate *g = ctx;
  RAG_UNUSED(txn), RAG_UNUSED(err);
  sem_post(&g->entered);
  while (sem_wait(&g->go) != 0) {
  }
  return RAG_OK;
}

static void *gate_main(void *arg) {
  gate *g = arg;
  rag_error err = {0};
  OK(rag_store_commit(g->store, &(rag_commit_request){.apply = gate_apply, .ctx = g}, &err));
  return NULL;
}

typedef struct act {
  _Atomic int thread_id;
  kb_fixture *f;
  rag_kb *kb;
  void (*run)(struct act *self);
  rag_status status;
  rag_error err;
  rag_write_result result;
  uint64_t job;
} act;

static void *act_main(void *arg) {
  act *a = arg;
  atomic_store(&a->thread_id, (int)gettid());
  a->run(a);
  return NULL;
}

static bool sleeps(int thread_id) {
  char path[64], line[256] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread_id);
  FILE *file = fopen(path, "r");
  if (file == NULL) return true; // refused before it queued, and gone
  char *read = fgets(line, sizeof line, file);
  fclose(file);
  const char *after_name = read ? strrchr(line, ')') : NULL;
  return after_name != NULL && after_name[2] == 'S';
}

// While the gate is shut, a thread that sleeps stands in the queue: seen asleep several times in a row, so that a short
// sleep before that is not taken for it.
static void wait_until_queued(act *a) {
  for (int asleep = 0; asleep < 10;) {
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    int thread_id = atomic_load(&a->thread_id);
    asleep = thread_id != 0 && sleeps(thread_id) ? asleep + 1 : 0;
  }
}

// Runs the acts in one group, in order.
static void in_one_group(kb_fixture *f, act *acts, unsigned count) {
  gate g = {.store = f->store};
  pthread_t leader, threads[8];
  assert_true(count <= 8);
  sem_init(&g.entered, 0, 0);
  sem_init(&g.go, 0, 0);
  assert_int_equal(pthread_create(&leader, NULL, gate_main, &g), 0);
  while (sem_wait(&g.entered) != 0) {
  }
  for (unsigned i = 0; i < count; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, act_main, &acts[i]), 0);
    wait_until_queued(&acts[i]);
  }
  sem_post(&g.go);
  pthread_join(leader, NULL);
  for (unsigned i = 0; i < count; i++) pthread_join(threads[i], NULL);
  sem_destroy(&g.entered);
  sem_destroy(&g.go);
}

static void put_text(act *a, const char *id, const char *text) {
  rag_document_input in = {.id = S(id), .text = S(text)};
  rag_put put = {.documents = &in, .document_count = 1};
  a->status = rag_kb_put(a->kb, &(rag_write){0}, &put, &a->result, NULL, &a->err);
}
static void act_put_a(act *a) {
  put_text(a, "a", "changed in the group");
}
static void act_put_b(act *a) {
  put_text(a, "b", "added in the group");
}
static void act_rollback(act *a) {
  a->status = rag_kb_rollback(a->kb, &(rag_write){0}, S("main~1"), &a->result, &a->err);
}
static void act_branch(act *a) {
  a->status = rag_kb_branch_create(a->kb, &(rag_write){0}, S("now"), S("main@9999-01-01"), NULL, &a->err);
}
static void act_branch_back(act *a) {
  a->status = rag_kb_branch_create(a->kb, &(rag_write){0}, S("back"), S("main~2"), NULL, &a->err);
}
static void act_merge(act *a) {
  a->status = rag_kb_merge(a->kb, &(rag_write){0}, S("main"), S("back"), RAG_MERGE_FAIL, &a->result, NULL, &a->err);
}
static void act_delete(act *a) {
  a->status = rag_kbs_delete(a->f->kbs, S("docs"), &a->job, &a->err);
}
static void act_update(act *a) {
  rag_kb_config config;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "docs");
  snprintf(config.model, sizeof config.model, "hash-32");
  config.dimension = 32;
  a->status = rag_kbs_update(a->f->kbs, &config, &a->err);
}

// What is in the batch and not yet in the store is seen by the requests behind it.
static void a_group_reads_its_own_writes(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "before"); // c2
  act acts[] = {{.kb = kb, .run = act_put_a},    {.kb = kb, .run = act_put_b},  {.kb = kb, .run = act_branch_back},
                {.kb = kb, .run = act_rollback}, {.kb = kb, .run = act_branch}, {.kb = kb, .run = act_merge}};
  in_one_group(f, acts, RAG_COUNT_OF(acts));
  for (size_t i = 0; i < RAG_COUNT_OF(acts); i++)
    if (acts[i].status != RAG_OK) fail_msg("act %zu: %s", i, acts[i].err.message);
  for (int round = 0; round < 2; round++) {
    assert_string_equal(kb_test_text(kb, "c3", "a"), "changed in the group");
    assert_string_equal(kb_test_text(kb, "c4", "b"), "added in the group");
    assert_null(kb_test_text(kb, "main", "b")); // c5: back at c3
    assert_string_equal(kb_test_text(kb, "now", "a"), "changed in the group");
    assert_string_equal(kb_test_text(kb, "back", "a"), "changed in the group"); // merged from main
    assert_string_equal(kb_test_search(kb, "c4", "added in the group", 1), "b");
    rag_ref_drop(kb);
    if (round == 0) kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

static void act_put_a_again(act *a) {
  put_text(a, "a", "changed a second time");
}
static void act_put_new(act *a) {
  put_text(a, "new", "added twice");
}
static void act_delete_b(act *a) {
  rag_slice id = S("b");
  rag_put put = {.delete_ids = &id, .delete_count = 1};
  a->status = rag_kb_put(a->kb, &(rag_write){0}, &put, &a->result, NULL, &a->err);
}

// Each was prepared before any was applied: what it found then is not believed.
static void puts_of_one_document_in_one_group(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "before");
  kb_test_put(kb, "b", "before");
  act acts[] = {{.kb = kb, .run = act_put_a},   {.kb = kb, .run = act_put_a_again}, {.kb = kb, .run = act_put_new},
                {.kb = kb, .run = act_put_new}, {.kb = kb, .run = act_delete_b},    {.kb = kb, .run = act_put_b}};
  in_one_group(f, acts, RAG_COUNT_OF(acts));
  for (size_t i = 0; i < RAG_COUNT_OF(acts); i++)
    if (acts[i].status != RAG_OK) fail_msg("act %zu: %s", i, acts[i].err.message);
  assert_int_equal(acts[1].result.changed, 1);
  assert_int_equal(acts[2].result.added + acts[3].result.added, 1);
  assert_int_equal(acts[2].result.unchanged + acts[3].result.unchanged, 1);
  assert_int_equal(acts[5].result.added, 1);
  rag_version *version = NULL;
  OK(rag_kb_resolve(kb, S(""), &version, &err));
  assert_int_equal(rag_version_documents(version), 3);
  assert_int_equal(rag_version_chunks(version), 3);
  rag_ref_drop(version);
  assert_string_equal(kb_test_text(kb, "", "a"), "changed a second time");
  assert_string_equal(kb_test_text(kb, "", "b"), "added in the group");
  rag_ref_drop(kb);
}

// An update behind a deletion must not write the record back.
static void an_update_behind_a_deletion(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f), *none = NULL;
  kb_test_put(kb, "a", "a");
  act acts[] = {{.f = f, .run = act_delete}, {.f = f, .kb = kb, .run = act_update}};
  in_one_group(f, acts, RAG_COUNT_OF(acts));
  assert_int_equal(acts[0].status, RAG_OK);
  assert_int_equal(acts[1].status, RAG_NOT_FOUND);
  kb_test_job(f, acts[0].job);
  rag_ref_drop(kb);
  kb_test_reopen(f);
  FAILS(rag_kbs_get(f->kbs, S("docs"), &none, &err), RAG_NOT_FOUND, "docs");
  kb = kb_test_new(f);
  assert_int_equal(kb_test_describe(kb).documents, 0);
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(writers_and_readers),
      KB_TEST(a_group_reads_its_own_writes),
      KB_TEST(puts_of_one_document_in_one_group),
      KB_TEST(an_update_behind_a_deletion),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
