// A client of the harness: one connection, one request at a time, and a model of what was acknowledged.
//
// A client touches its own documents alone, so what MAIN says of them is known although all clients write there.
#include "tests/fault/kill_loop.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t random_next(random_source *r) { // splitmix64, public domain, Sebastiano Vigna 2015
  uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

uint32_t random_below(random_source *r, uint32_t bound) {
  return (uint32_t)((random_next(r) >> 32) * bound >> 32);
}

// ---------------------------------------------------------------------------------------------- names, texts

void id_of(uint32_t client, uint32_t slot, char out[32]) {
  snprintf(out, 32, "doc-%u-%u", client, slot);
}

const char *branch_of(const kill_client *c, kill_place place, char out[16]) {
  if (place == MAIN) return "main";
  snprintf(out, 16, "side-%u", c->number);
  return out;
}

void message_of(uint32_t client, uint64_t sequence, char out[32]) {
  snprintf(out, 32, "op %u %llu", client, (unsigned long long)sequence);
}

// Words that hardly share n-grams, so that a text is nearest to itself; 10 to 500 of them: one chunk or several.
void text_of(uint32_t client, uint32_t slot, uint32_t version, rag_buf *out) {
  random_source r = {((uint64_t)client << 56) ^ ((uint64_t)slot << 40) ^ version};
  uint32_t words = 10 + (random_below(&r, 8) == 0 ? random_below(&r, 490) : random_below(&r, 50));
  rag_buf_clear(out);
  rag_buf_printf(out, "Document %u of client %u, version %u.", slot, client, version);
  for (uint32_t i = 0; i < words; i++) {
    rag_buf_append_char(out, ' ');
    for (uint32_t letters = 4 + random_below(&r, 6); letters; letters--)
      rag_buf_append_char(out, (char)('a' + random_below(&r, 26)));
    if (random_below(&r, 12) == 0) rag_buf_append_char(out, '.');
  }
}

// ---------------------------------------------------------------------------------------------- operations

static uint32_t touch(kill_op *op, uint32_t slot) {
  for (uint32_t i = 0; i < op->touched_count; i++)
    if (op->touched[i] == slot) return i;
  op->touched[op->touched_count] = slot;
  return op->touched_count++;
}

static void plan_put(kill_client *c, kill_op *op) {
  uint32_t puts = 1 + random_below(&c->random, 4), deletes = random_below(&c->random, 3);
  op->kind = OP_PUT;
  op->after = c->now[op->place];
  for (uint32_t i = 0; i < puts; i++) {
    uint32_t slot = random_below(&c->random, SLOTS);
    (void)touch(op, slot);
    op->after.version[slot] = ++c->next_version;
  }
  for (uint32_t i = 0; i < deletes; i++) {
    uint32_t slot = random_below(&c->random, SLOTS), touched = op->touched_count;
    if (touch(op, slot) == touched) op->after.version[slot] = 0; // not one that this request puts
  }
}

// Three ways, theirs where both changed: what the server's merge is documented to do.
static void plan_merge(kill_client *c, kill_op *op) {
  op->kind = OP_MERGE;
  op->place = MAIN;
  op->after = c->now[MAIN];
  for (uint32_t i = 0; i < SLOTS; i++)
    if (c->now[SIDE].version[i] != c->base.version[i]) op->after.version[i] = c->now[SIDE].version[i];
}

static bool plan_ref(kill_client *c, kill_op *op, bool branch) {
  uint32_t at = c->ref_count;
  if (at == REFS) { // forget one: it stays on the server, unwatched
    at = random_below(&c->random, REFS);
    c->refs[at] = c->refs[--c->ref_count];
    at = c->ref_count;
  }
  kill_ref *ref = &c->refs[at];
  memset(ref, 0, sizeof(*ref));
  snprintf(ref->name, sizeof(ref->name), "%s-%u-%u", branch ? "branch" : "tag", c->number, c->ref_serial++);
  ref->branch = branch;
  op->kind = branch ? OP_BRANCH : OP_TAG;
  op->place = SIDE;
  op->ref = at;
  op->after = c->now[SIDE];
  return true;
}

static bool pick_ref(kill_client *c, bool branches_only, uint32_t *out) {
  if (c->ref_count == 0) return false;
  uint32_t at = random_below(&c->random, c->ref_count);
  if (c->refs[at].deleted || (branches_only && !c->refs[at].branch)) return false;
  *out = at;
  return true;
}

static void plan_delete_filter(kill_client *c, kill_op *op) {
  op->kind = OP_DELETE_FILTER;
  op->group = random_below(&c->random, GROUPS);
  op->after = c->now[op->place];
  for (uint32_t i = 0; i < SLOTS; i++)
    if (op->after.version[i] % GROUPS == op->group) op->after.version[i] = 0;
}

static bool plan_purge(kill_client *c, kill_op *op) {
  uint32_t first = random_below(&c->random, SLOTS);
  if (c->now[MAIN].version[first] == 0) return false;
  op->kind = OP_PURGE;
  op->place = MAIN;
  (void)touch(op, first);
  (void)touch(op, random_below(&c->random, SLOTS)); // alive or not: its older versions go
  op->after = c->now[MAIN];
  for (uint32_t i = 0; i < op->touched_count; i++) op->after.version[op->touched[i]] = 0;
  return true;
}

static void plan_gc(kill_client *c, kill_op *op) {
  op->kind = OP_GC;
  c->gc_asked = true;
  op->place = MAIN;
  op->after = c->now[MAIN];
}

static void plan(kill_client *c) {
  kill_op *op = &c->op;
  memset(op, 0, sizeof(*op));
  op->sequence = ++c->sequence;
  snprintf(op->key, sizeof(op->key), "key-%u-%llu", c->number, (unsigned long long)op->sequence);
  op->place = random_below(&c->random, 3) == 0 ? SIDE : MAIN;
  uint32_t dice = random_below(&c->random, 100);
  if (dice < 8) plan_merge(c, op);
  else if (dice < 14) (void)plan_ref(c, op, false);
  else if (dice < 19) (void)plan_ref(c, op, true);
  else if (dice < 23 && pick_ref(c, random_below(&c->random, 2), &op->ref)) op->kind = OP_REF_DELETE;
  else if (dice < 29 && pick_ref(c, false, &op->ref)) {
    op->kind = OP_ROLLBACK;
    op->place = SIDE;
    op->after = c->refs[op->ref].is;
  } else if (dice < 33) plan_delete_filter(c, op);
  else if (dice < 36 && c->job_count < JOBS_MAX && plan_purge(c, op)) return;
  else if (dice < 38 && c->job_count < JOBS_MAX && c->number == 0) plan_gc(c, op);
  else plan_put(c, op);
}

static void string_field(rag_buf *body, const char *name, const char *value) {
  rag_buf_printf(body, "%s\"%s\":", body->data[body->size - 1] == '{' ? "" : ",", name);
  rag_json_put_string(body, rag_slice_str(value));
}

static void put_body(const kill_client *c, const kill_op *op, rag_buf *body) {
  char id[32];
  rag_buf text = {0};
  bool first = true;
  rag_buf_append_str(body, ",\"documents\":[");
  for (uint32_t i = 0; i < op->touched_count; i++) {
    uint32_t slot = op->touched[i], version = op->after.version[slot];
    if (!version) continue;
    id_of(c->number, slot, id);
    text_of(c->number, slot, version, &text);
    rag_buf_printf(body, "%s{\"id\":\"%s\",\"metadata\":{\"client\":%u,\"group\":%u,\"version\":%u},\"text\":",
                   first ? "" : ",", id, c->number, version % GROUPS, version);
    rag_json_put_string(body, rag_buf_slice(&text));
    rag_buf_append_char(body, '}');
    first = false;
  }
  rag_buf_append_str(body, "],\"delete_ids\":[");
  first = true;
  for (uint32_t i = 0; i < op->touched_count; i++) {
    if (op->after.version[op->touched[i]]) continue;
    id_of(c->number, op->touched[i], id);
    rag_buf_printf(body, "%s\"%s\"", first ? "" : ",", id);
    first = false;
  }
  rag_buf_append_char(body, ']');
  rag_buf_free(&text);
}

static void purge_body(const kill_client *c, const kill_op *op, rag_buf *body) {
  char id[32];
  rag_buf_append_str(body, "\"document_ids\":[");
  for (uint32_t i = 0; i < op->touched_count; i++) {
    id_of(c->number, op->touched[i], id);
    rag_buf_printf(body, "%s\"%s\"", i ? "," : "", id);
  }
  rag_buf_append_char(body, ']');
}

static void commit_body(const kill_client *c, const kill_op *op, rag_buf *body) {
  char branch[16], side[16], message[32], author[16];
  message_of(c->number, op->sequence, message);
  snprintf(author, sizeof(author), "client-%u", c->number);
  string_field(body, "message", message);
  string_field(body, "author", author);
  if (op->kind == OP_MERGE) {
    string_field(body, "from", branch_of(c, SIDE, side));
    string_field(body, "into", "main");
    string_field(body, "strategy", "theirs");
  } else string_field(body, "branch", branch_of(c, op->place, branch));
  if (op->kind == OP_ROLLBACK) string_field(body, "to", c->refs[op->ref].name);
  if (op->kind == OP_PUT) put_body(c, op, body);
  if (op->kind == OP_DELETE_FILTER)
    rag_buf_printf(body,
                   ",\"filter\":{\"must\":[{\"key\":\"client\",\"match\":{\"value\":%u}},"
                   "{\"key\":\"group\",\"match\":{\"value\":%u}}]}",
                   c->number, op->group);
}

bool op_send(kill_client *c, http_connection *http, int *http_status, uint64_t *commit, bool *replayed) {
  static const char *const paths[] = {"documents", "merge", "rollback", "documents:delete", "tags", "branches",
                                      NULL,        "purge", "gc"};
  const kill_op *op = &c->op;
  char path[128], side[16];
  rag_buf body = {0};
  rag_json answer;
  bool removes = op->kind == OP_REF_DELETE;
  const char *method = removes ? "DELETE" : "POST";
  if (removes)
    snprintf(path, sizeof(path), "/v1/kbs/" KB "/%s/%s", c->refs[op->ref].branch ? "branches" : "tags",
             c->refs[op->ref].name);
  else snprintf(path, sizeof(path), "/v1/kbs/" KB "/%s", paths[op->kind]);
  rag_buf_append_char(&body, '{');
  if (op->kind == OP_TAG || op->kind == OP_BRANCH) {
    string_field(&body, "name", c->refs[op->ref].name);
    string_field(&body, "from", branch_of(c, SIDE, side));
  } else if (op->kind == OP_PURGE) purge_body(c, op, &body);
  else if (op->kind == OP_GC) rag_buf_printf(&body, "\"keep_commits\":%u", GC_KEEP_COMMITS);
  else if (op_commits(op->kind)) commit_body(c, op, &body);
  rag_buf_append_char(&body, '}');
  RAG_ASSERT(!body.failed);
  const char *key = op_commits(op->kind) || op->kind == OP_TAG || op->kind == OP_BRANCH ? op->key : NULL;
  bool answered = http_request(http, method, path, removes ? NULL : &body, key, http_status, &answer);
  if (answered) {
    rag_slice id = json_text(answer, "commit");
    *commit = id.size > 1 && json_bool(answer, "committed") ? strtoull(id.data + 1, NULL, 10) : 0;
    if (op->kind == OP_PURGE || op->kind == OP_GC) *commit = json_uint(answer, "job");
    *replayed = json_bool(answer, "replayed");
    if (*http_status != 200)
      fprintf(stderr, "client %u: HTTP %d: %.*s\n", c->number, *http_status, (int)json_text(answer, "message").size,
              json_text(answer, "message").data);
  }
  rag_buf_free(&body);
  return answered;
}

static void forget_slot(kill_client *c, uint32_t slot) { // no version has it any more
  c->now[MAIN].version[slot] = c->now[SIDE].version[slot] = c->base.version[slot] = 0;
  for (uint32_t i = 0; i < c->ref_count; i++) c->refs[i].is.version[slot] = 0;
  for (uint32_t i = 0; i < c->ack_count; i++) c->acks[i].is.version[slot] = 0;
  for (uint32_t i = 0; i < c->old_count; i++) c->old[i].is.version[slot] = 0;
}

void op_acknowledged(kill_client *c, uint64_t commit) {
  const kill_op *op = &c->op;
  c->pending = false;
  c->acknowledged++;
  switch (op->kind) {
  case OP_PUT:
  case OP_MERGE:
  case OP_ROLLBACK:
  case OP_DELETE_FILTER:
    if (random_below(&c->random, 8) == 0) c->before[op->place] = c->now[op->place];
    c->now[op->place] = op->after;
    if (op->kind == OP_MERGE && commit) c->base = c->now[SIDE];
    if (commit) c->acks[c->ack_count++] = (kill_ack){commit, op->place, op->sequence, op->after};
    break;
  case OP_TAG:
  case OP_BRANCH:
    c->refs[op->ref].is = op->after;
    c->ref_count = op->ref + 1;
    break;
  case OP_REF_DELETE:
    c->refs[op->ref].deleted = true;
    break;
  case OP_PURGE:
    c->before[MAIN] = c->now[MAIN]; // its texts must not be found any more
    for (uint32_t i = 0; i < op->touched_count; i++) forget_slot(c, op->touched[i]);
    if (commit) c->jobs[c->job_count++] = commit;
    break;
  case OP_GC:
    if (commit) c->jobs[c->job_count++] = commit;
    break;
  }
}

// ---------------------------------------------------------------------------------------------- a client's life

void client_begin(kill_client *c) {
  char side[16];
  int http_status = 0;
  rag_json answer;
  rag_buf body = {0};
  http_connection *http = http_open(c->url);
  rag_buf_printf(&body, "{\"name\":\"%s\"}", branch_of(c, SIDE, side));
  bool answered = http_request(http, "POST", "/v1/kbs/" KB "/branches", &body, NULL, &http_status, &answer);
  RAG_ASSERT(answered && http_status == 200);
  rag_buf_free(&body);
  http_close(http);
}

void *client_run(void *arg) {
  kill_client *c = arg;
  http_connection *http = http_open(c->url);
  while (c->ack_count < ACKS_MAX) {
    int http_status = 0;
    uint64_t commit = 0;
    bool replayed = false;
    plan(c);
    c->pending = true;
    bool answered = op_send(c, http, &http_status, &commit, &replayed);
    for (uint32_t i = 0; i < c->patience && answered && http_status != 200; i++) {
      sleep_us(5000);
      answered = op_send(c, http, &http_status, &commit, &replayed);
    }
    if (!answered) break; // killed: pending
    if (http_status != 200) {
      fprintf(stderr, "kill_loop: client %u: a valid request was refused\n", c->number);
      exit(1);
    }
    op_acknowledged(c, commit);
  }
  http_close(http);
  return NULL;
}
