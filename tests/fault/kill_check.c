// What must hold after a restart, asked of the daemon over HTTP.
//
//  1. An acknowledged commit is there with its author and message, and its client's documents at it are those that the
//     model had then; it is in the log of its branch.
//  2. A branch's head holds what the last acknowledged write left: present documents with their text, found by a search
//     for it; absent ones not at all, neither by id nor by any search; no older text of a changed one is found.
//  3. A request that was in flight is there whole or not at all: one of the two states, nothing between; the log
//  agrees;
//     and sent again with its key it is done exactly once.
//  4. An acknowledged tag or branch is there with its content; an acknowledged deletion of a branch holds.
//  5. MAIN has no document beside these.
#include "tests/fault/kill_loop.h"

#include <stdio.h>
#include <stdlib.h>

#define HEAD_SEARCHES 4u // of a client and a branch
#define LOG_PAGE 10000u
#define JOB_WAIT_MS 30000u
#define ACKS_CHECKED_MAX 60u // of a client and a round, with documents; the rest by the log alone

uint64_t checks_made, pending_kept, pending_lost, replays, jobs_seen, jobs_resumed, versions_gone;

typedef struct check {
  http_connection *http;
  kill_client *client;
  random_source *random;
  unsigned violations;
} check;

static void violation(check *k, const char *fmt, ...) RAG_PRINTF(2, 3);
static void violation(check *k, const char *fmt, ...) {
  va_list args;
  k->violations++;
  if (k->violations > 20) return;
  printf("VIOLATION: client %u: ", k->client->number);
  va_start(args, fmt);
  vprintf(fmt, args);
  va_end(args);
  putchar('\n');
}

static int get(check *k, rag_json *answer, const char *fmt, ...) RAG_PRINTF(3, 4);
static int get(check *k, rag_json *answer, const char *fmt, ...) {
  char path[256];
  int http_status = 0;
  va_list args;
  va_start(args, fmt);
  vsnprintf(path, sizeof(path), fmt, args);
  va_end(args);
  checks_made++;
  if (!http_request(k->http, "GET", path, NULL, NULL, &http_status, answer)) {
    fprintf(stderr, "kill_loop: the daemon does not answer GET %s\n", path);
    exit(1);
  }
  return http_status;
}

// ---------------------------------------------------------------------------------------------- documents

// The version that the document has at a ref; 0: none. UINT32_MAX: something that was never written.
static uint32_t version_at(check *k, uint32_t slot, const char *at) {
  char id[32];
  rag_json document, metadata;
  rag_buf text = {0};
  id_of(k->client->number, slot, id);
  int http_status = get(k, &document, "/v1/kbs/" KB "/documents/%s?at=%s", id, at);
  if (http_status == 404 && rag_slice_equal(json_text(document, "code"), rag_slice_str("not_found"))) return 0;
  if (http_status != 200) {
    violation(k, "GET %s at %s: HTTP %d", id, at, http_status);
    return UINT32_MAX;
  }
  uint32_t version = UINT32_MAX;
  if (rag_json_find(document, rag_slice_str("metadata"), &metadata) && rag_json_type_of(metadata) == RAG_JSON_OBJECT)
    version = (uint32_t)json_uint(metadata, "version");
  text_of(k->client->number, slot, version, &text);
  if (!rag_slice_equal(json_text(document, "text"), rag_buf_slice(&text))) {
    violation(k, "%s at %s: the text is not that of its version %u", id, at, version);
    version = UINT32_MAX;
  }
  rag_buf_free(&text);
  return version;
}

// Whether the slots have the versions of `want` at the ref; silent. NULL slots: all.
static bool state_holds(check *k, const char *at, const kill_state *want, const uint32_t *slots, uint32_t count,
                        uint32_t *bad_slot, uint32_t *bad_version) {
  for (uint32_t i = 0; i < (slots ? count : SLOTS); i++) {
    uint32_t slot = slots ? slots[i] : i, version = version_at(k, slot, at);
    if (version == want->version[slot]) continue;
    *bad_slot = slot;
    *bad_version = version;
    return false;
  }
  return true;
}

static void expect_state(check *k, const char *at, const kill_state *want, const uint32_t *slots, uint32_t count,
                         const char *what) {
  uint32_t slot = 0, version = 0;
  if (!state_holds(k, at, want, slots, count, &slot, &version))
    violation(k, "%s (%s): document %u has version %u, acknowledged was %u", what, at, slot, version,
              want->version[slot]);
}

// ---------------------------------------------------------------------------------------------- search

// A search for the text of a version at a ref. Present: the document must be among the hits with a part of that text.
// Otherwise no hit may hold a part of it under that id.
static void search_for(check *k, const char *at, const char *how, uint32_t slot, uint32_t version, bool present) {
  char id[32];
  int http_status = 0;
  rag_buf text = {0}, body = {0};
  rag_json answer, hits;
  bool found = false;
  id_of(k->client->number, slot, id);
  text_of(k->client->number, slot, version, &text);
  text.size = RAG_MIN(text.size, (size_t)400); // about its first chunk
  rag_buf_append_str(&body, "{\"query\":");
  rag_json_put_string(&body, rag_buf_slice(&text));
  rag_buf_printf(&body, ",\"k\":10,\"at\":\"%s\",%s}", at, how);
  checks_made++;
  text_of(k->client->number, slot, version, &text);
  rag_buf_append_char(&text, 0);
  if (!http_request(k->http, "POST", "/v1/kbs/" KB "/search", &body, NULL, &http_status, &answer) ||
      http_status != 200 || !rag_json_find(answer, rag_slice_str("hits"), &hits)) {
    violation(k, "search (%s) at %s: HTTP %d", how, at, http_status);
  } else {
    rag_json_iter it = rag_json_iter_of(hits);
    while (rag_json_iter_next(&it)) {
      rag_slice hit = json_text(it.value, "text");
      if (!rag_slice_equal(json_text(it.value, "document_id"), rag_slice_str(id))) continue;
      found |= hit.size && memmem(text.data, text.size - 1, hit.data, hit.size) != NULL;
    }
    if (present && !found) violation(k, "search (%s) at %s does not find %s, version %u", how, at, id, version);
    if (!present && found)
      violation(k, "search (%s) at %s finds %s, version %u, which is not there any more", how, at, id, version);
  }
  rag_buf_free(&text);
  rag_buf_free(&body);
}

static void check_searches(check *k, const char *at, const kill_state *now, const kill_state *before) {
  static const char *const ways[] = {"\"mode\":\"vector\",\"exact\":true", "\"mode\":\"vector\"",
                                     "\"mode\":\"lexical\"", "\"mode\":\"hybrid\""};
  for (uint32_t i = 0; i < HEAD_SEARCHES * RAG_COUNT_OF(ways); i++) {
    const char *how = ways[i % RAG_COUNT_OF(ways)];
    uint32_t slot = random_below(k->random, SLOTS);
    if (now->version[slot]) search_for(k, at, how, slot, now->version[slot], true);
    slot = random_below(k->random, SLOTS);
    if (before->version[slot] && before->version[slot] != now->version[slot])
      search_for(k, at, how, slot, before->version[slot], false);
  }
}

// ---------------------------------------------------------------------------------------------- the log

typedef struct log_entry {
  uint64_t commit;
  uint32_t client;
  uint64_t sequence;
} log_entry;
typedef struct branch_log {
  log_entry *entries;
  size_t count, capacity;
} branch_log;

static void log_load(check *k, const char *branch, branch_log *out) {
  char token[256] = "";
  do {
    rag_json answer, commits;
    int http_status =
        get(k, &answer, "/v1/kbs/" KB "/commits?branch=%s&limit=%u&page_token=%s", branch, LOG_PAGE, token);
    if (http_status != 200 || !rag_json_find(answer, rag_slice_str("commits"), &commits)) {
      violation(k, "log of %s: HTTP %d", branch, http_status);
      return;
    }
    rag_json_iter it = rag_json_iter_of(commits);
    while (rag_json_iter_next(&it)) {
      char message[64];
      unsigned number = UINT32_MAX;
      unsigned long long sequence = 0;
      rag_slice text = json_text(it.value, "message");
      snprintf(message, sizeof(message), "%.*s", (int)text.size, text.data);
      if (sscanf(message, "op %u %llu", &number, &sequence) != 2) continue; // the first commit
      if (out->count == out->capacity) {
        out->capacity = out->capacity ? out->capacity * 2 : 1024;
        out->entries = rag_realloc_array(out->entries, out->capacity, sizeof(*out->entries));
        RAG_ASSERT(out->entries);
      }
      out->entries[out->count++] =
          (log_entry){strtoull(json_text(it.value, "id").data + 1, NULL, 10), number, sequence};
    }
    rag_slice next = json_text(answer, "next_page_token");
    snprintf(token, sizeof(token), "%.*s", (int)next.size, next.data);
  } while (token[0]);
}

// The commit of an operation in the log; 0: none. Twice is a violation.
static uint64_t log_find(check *k, const branch_log *log, uint64_t sequence) {
  uint64_t commit = 0;
  for (size_t i = 0; i < log->count; i++) {
    if (log->entries[i].client != k->client->number || log->entries[i].sequence != sequence) continue;
    if (commit) violation(k, "operation %llu was done twice", (unsigned long long)sequence);
    commit = log->entries[i].commit;
  }
  return commit;
}

// ---------------------------------------------------------------------------------------------- commits

// gc keeps the newest of a branch as of when it ran, so all that have fewer newer ones now.
static bool may_be_gone(const check *k, const kill_ack *a, const branch_log logs[2]) {
  const branch_log *log = &logs[a->place];
  size_t newer = 0;
  for (size_t i = 0; i < log->count; i++) newer += log->entries[i].commit > a->commit;
  return k->client->gc_asked && newer >= GC_KEEP_COMMITS;
}

static void check_ack(check *k, const kill_ack *a, const branch_log logs[2]) {
  char at[32], message[32], author[16];
  rag_json commit;
  snprintf(at, sizeof(at), "c%llu", (unsigned long long)a->commit);
  message_of(k->client->number, a->sequence, message);
  snprintf(author, sizeof(author), "client-%u", k->client->number);
  int http_status = get(k, &commit, "/v1/kbs/" KB "/commits/%s", at);
  if (http_status == 404 && may_be_gone(k, a, logs)) {
    versions_gone++;
    return;
  }
  if (http_status != 200) {
    violation(k, "the acknowledged commit %s is not there: HTTP %d", at, http_status);
    return;
  }
  if (!rag_slice_equal(json_text(commit, "message"), rag_slice_str(message)) ||
      !rag_slice_equal(json_text(commit, "author"), rag_slice_str(author))) {
    violation(k, "the acknowledged commit %s is another one: '%.*s'", at, (int)json_text(commit, "message").size,
              json_text(commit, "message").data);
    return;
  }
  uint32_t slots[4];
  for (size_t i = 0; i < RAG_COUNT_OF(slots); i++) slots[i] = random_below(k->random, SLOTS);
  uint32_t slot = 0, version = 0;
  if (state_holds(k, at, &a->is, slots, RAG_COUNT_OF(slots), &slot, &version)) return;
  // A gc that was under way at the kill goes on while we ask, and may have taken the commit between two questions.
  if (may_be_gone(k, a, logs) && get(k, &commit, "/v1/kbs/" KB "/commits/%s", at) == 404) {
    versions_gone++;
    return;
  }
  expect_state(k, at, &a->is, slots, RAG_COUNT_OF(slots), "an acknowledged commit");
}

static void check_acks(check *k, const branch_log logs[2]) {
  kill_client *c = k->client;
  for (uint32_t i = 0; i < c->ack_count; i++) {
    const kill_ack *a = &c->acks[i];
    uint64_t commit = log_find(k, &logs[a->place], a->sequence);
    if (commit != a->commit && !(commit == 0 && may_be_gone(k, a, logs)))
      violation(k, "the acknowledged commit c%llu is not in the log of its branch", (unsigned long long)a->commit);
    // The newest are the ones that a lost write would lose.
    if (i + ACKS_CHECKED_MAX >= c->ack_count) check_ack(k, a, logs);
  }
  for (uint32_t i = 0; i < c->old_count; i++) check_ack(k, &c->old[i], logs);
  for (uint32_t i = 0; i < c->ack_count; i++) { // a sample of this round goes to the old ones
    if (c->old_count < OLD_ACKS_MAX) c->old[c->old_count++] = c->acks[i];
    else if (random_below(k->random, 8) == 0) c->old[random_below(k->random, OLD_ACKS_MAX)] = c->acks[i];
  }
  c->ack_count = 0;
}

// ---------------------------------------------------------------------------------------------- what was in flight

static bool ref_exists(check *k, const kill_ref *ref) {
  rag_json commit;
  return get(k, &commit, "/v1/kbs/" KB "/commits/%s", ref->name) == 200;
}

// Whether the operation in flight was done, judged by what can be seen of it.
static bool pending_was_done(check *k, const branch_log logs[2]) {
  kill_client *c = k->client;
  char side[16];
  const char *branch = branch_of(c, c->op.place, side);
  uint32_t slot = 0, version = 0;
  if (c->op.kind == OP_TAG || c->op.kind == OP_BRANCH) return ref_exists(k, &c->refs[c->op.ref]);
  if (c->op.kind == OP_GC) return true; // nobody was told its job, and what it takes may be there
  if (c->op.kind == OP_REF_DELETE) return !ref_exists(k, &c->refs[c->op.ref]);
  bool logged = c->op.kind == OP_PURGE ? version_at(k, c->op.touched[0], "main") == 0
                                       : log_find(k, &logs[c->op.place], c->op.sequence) != 0;
  const kill_state *want = logged ? &c->op.after : &c->now[c->op.place];
  if (!state_holds(k, branch, want, NULL, 0, &slot, &version))
    violation(k, "a write in flight is %s, but document %u of %s has version %u instead of %u",
              logged ? "done" : "not done", slot, branch, version, want->version[slot]);
  return logged;
}

static void check_pending(check *k, const branch_log logs[2]) {
  kill_client *c = k->client;
  if (!c->pending) return;
  bool done = pending_was_done(k, logs);
  uint64_t logged = done && op_commits(c->op.kind) ? log_find(k, &logs[c->op.place], c->op.sequence) : 0;
  done ? pending_kept++ : pending_lost++;
  bool again = op_commits(c->op.kind) && random_below(k->random, 2) == 0;
  if (again) {
    int http_status = 0;
    uint64_t commit = 0;
    bool replayed = false;
    replays++;
    if (!op_send(c, k->http, &http_status, &commit, &replayed) || http_status != 200)
      violation(k, "the request in flight, sent again with its key: HTTP %d", http_status);
    else if (replayed && !done && commit == 0 && memcmp(&c->op.after, &c->now[c->op.place], sizeof(kill_state)) == 0)
      done = true; // it changed nothing, so it made no commit that the log could show
    else if (replayed != done)
      violation(k, "the request in flight was %s, but sent again it is %s", done ? "done" : "not done",
                replayed ? "answered from memory" : "done anew");
    else if (done && logged != commit)
      violation(k, "sent again, the answer names c%llu instead of c%llu", (unsigned long long)commit,
                (unsigned long long)logged);
    logged = commit;
    done = true;
  }
  if (done) op_acknowledged(c, logged);
  c->pending = false;
}

// ---------------------------------------------------------------------------------------------- all

static void check_refs(check *k) {
  for (uint32_t i = 0; i < k->client->ref_count; i++) {
    const kill_ref *r = &k->client->refs[i];
    bool there = ref_exists(k, r);
    if (there == r->deleted)
      violation(k, "%s %s, which was acknowledged as %s, is %s", r->branch ? "branch" : "tag", r->name,
                r->deleted ? "deleted" : "made", there ? "there" : "gone");
    uint32_t slots[4];
    for (size_t s = 0; s < RAG_COUNT_OF(slots); s++) slots[s] = random_below(k->random, SLOTS);
    if (there && !r->deleted) expect_state(k, r->name, &r->is, slots, RAG_COUNT_OF(slots), "a tag or branch");
  }
}

// Acknowledged jobs are there, and go on to their ends.
static void check_jobs(check *k) {
  kill_client *c = k->client;
  for (uint32_t i = 0; i < c->job_count; i++) {
    rag_json job;
    unsigned long long id = c->jobs[i];
    int http_status = get(k, &job, "/v1/jobs/%llu", id);
    jobs_seen++;
    if (http_status == 200 && !rag_slice_equal(json_text(job, "state"), rag_slice_str("succeeded"))) {
      jobs_resumed++;
      http_status = get(k, &job, "/v1/jobs/%llu?wait_ms=%u", id, JOB_WAIT_MS);
    }
    rag_slice state = json_text(job, "state"), error = json_text(job, "error");
    if (http_status != 200) violation(k, "the acknowledged job %llu is not there: HTTP %d", id, http_status);
    else if (!rag_slice_equal(state, rag_slice_str("succeeded")))
      violation(k, "job %llu is %.*s: %.*s", id, (int)state.size, state.data, (int)error.size, error.data);
  }
  c->job_count = 0;
}

// Every row of the store, by the server itself.
static void check_rows(check *k) {
  rag_json answer;
  int http_status = 0;
  rag_buf body = {0};
  rag_buf_append_str(&body, "{}");
  if (!http_request(k->http, "POST", "/v1/check", &body, NULL, &http_status, &answer) || http_status != 200)
    violation(k, "POST /v1/check: HTTP %d", http_status);
  else {
    k->client->jobs[0] = json_uint(answer, "job");
    k->client->job_count = 1;
    check_jobs(k);
  }
  rag_buf_free(&body);
}

static void check_client(check *k) {
  kill_client *c = k->client;
  char side[16];
  branch_log logs[2] = {{0}, {0}};
  log_load(k, "main", &logs[MAIN]);
  log_load(k, branch_of(c, SIDE, side), &logs[SIDE]);
  check_pending(k, logs);
  if (c->ack_count && k->violations == 0) { // what was sent again is in a newer log
    for (size_t i = 0; i < 2; i++) logs[i].count = 0;
    log_load(k, "main", &logs[MAIN]);
    log_load(k, side, &logs[SIDE]);
  }
  check_acks(k, logs);
  expect_state(k, "main", &c->now[MAIN], NULL, 0, "the head of main");
  expect_state(k, side, &c->now[SIDE], NULL, 0, "the head of the client's branch");
  check_refs(k);
  check_searches(k, "main", &c->now[MAIN], &c->before[MAIN]);
  check_searches(k, side, &c->now[SIDE], &c->before[SIDE]);
  for (size_t i = 0; i < 2; i++) rag_free(logs[i].entries);
}

static void check_heads_and_refs(check *k) {
  kill_client *c = k->client;
  char side[16];
  expect_state(k, "main", &c->now[MAIN], NULL, 0, "the head of main");
  expect_state(k, branch_of(c, SIDE, side), &c->now[SIDE], NULL, 0, "the head of the client's branch");
  check_refs(k);
}

unsigned check_all(kill_client *clients, const char *url, random_source *random) {
  unsigned violations = 0;
  uint64_t present = 0;
  rag_json commit;
  http_connection *http = http_open(url);
  for (uint32_t i = 0; i < CLIENTS; i++) clients[i].gc_asked = clients[0].gc_asked;
  for (uint32_t i = 0; i < CLIENTS; i++) {
    check k = {http, &clients[i], random, 0};
    check_client(&k);
    violations += k.violations;
    for (uint32_t slot = 0; slot < SLOTS; slot++) present += clients[i].now[MAIN].version[slot] != 0;
  }
  for (uint32_t i = 0; i < CLIENTS; i++) { // once more when the jobs have gone on
    check k = {http, &clients[i], random, 0};
    check_jobs(&k);
    if (k.violations == 0) check_heads_and_refs(&k);
    violations += k.violations;
  }
  check k = {http, &clients[0], random, 0};
  if (random_below(random, 4) == 0) check_rows(&k);
  if (get(&k, &commit, "/v1/kbs/" KB "/commits/main") != 200 || json_uint(commit, "documents") != present)
    violation(&k, "main has %llu documents instead of %llu", (unsigned long long)json_uint(commit, "documents"),
              (unsigned long long)present);
  http_close(http);
  return violations + k.violations;
}
