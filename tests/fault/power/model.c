// The operations and their effect (model.h).
#include "tests/fault/power/model.h"

#include "tests/fault/power/faultfs.h"

#include <stdio.h>

static uint64_t stream_of(const model *m, uint32_t thread, uint32_t seq, uint32_t what) {
  uint64_t state = m->seed ^ ((uint64_t)thread << 56) ^ ((uint64_t)what << 40) ^ seq;
  fault_random(&state);
  return state;
}

static uint32_t pick(uint64_t *state, uint32_t below) {
  return (uint32_t)(fault_random(state) % below);
}

// `count` numbers below `below` that differ from each other and from those in `taken`.
static void pick_distinct(uint64_t *state, uint32_t below, uint32_t count, uint32_t *out, const uint32_t *taken,
                          uint32_t taken_count) {
  for (uint32_t i = 0; i < count;) {
    bool again = false;
    out[i] = pick(state, below);
    for (uint32_t j = 0; j < i; j++) again |= out[j] == out[i];
    for (uint32_t j = 0; j < taken_count; j++) again |= taken[j] == out[i];
    if (!again) i++;
  }
}

// At least one main document that is alive, and whatever else: its older versions go too.
static bool pick_purge(const thread_state *state, uint64_t *random, op *o) {
  uint32_t first = pick(random, MAIN_DOCS);
  if (state->main_docs[first].version == 0) return false;
  o->kind = OP_PURGE;
  o->put[0] = first;
  o->put_count = 1 + pick(random, 2);
  pick_distinct(random, MAIN_DOCS, o->put_count - 1, o->put + 1, o->put, 1);
  o->remove_count = pick(random, 2);
  pick_distinct(random, SIDE_DOCS, o->remove_count, o->remove, NULL, 0);
  return true;
}

static void pick_side_put(uint64_t *random, op *o) {
  o->kind = OP_SIDE_PUT;
  o->put_count = 1 + pick(random, 2);
  o->remove_count = pick(random, 2);
  pick_distinct(random, SIDE_DOCS, o->put_count, o->put, NULL, 0);
  pick_distinct(random, SIDE_DOCS, o->remove_count, o->remove, o->put, o->put_count);
}

static void pick_tag(const thread_state *state, uint64_t *random, bool prefer_delete, op *o) {
  if (state->tag_count == TAGS_MAX || (prefer_delete && state->tag_count > 0)) {
    o->kind = OP_TAG_DELETE;
    o->tag = state->tags[pick(random, state->tag_count)].seq;
  } else {
    o->kind = OP_TAG;
  }
}

op model_next(const model *m, uint32_t thread) {
  const thread_state *state = &m->thread[thread];
  uint64_t random = stream_of(m, thread, state->next, 1);
  op o = {.kind = OP_PUT, .thread = thread, .seq = state->next};
  uint32_t what = pick(&random, 100);
  if (what >= 40 && what < 53) {
    uint32_t doc = pick(&random, MAIN_DOCS);
    if (state->main_docs[doc].version != 0) {
      o.kind = OP_METADATA;
      o.put[0] = doc;
      o.put_count = 1;
      return o;
    }
  } else if (what >= 53 && what < 57) {
    o.kind = OP_DELETE_FILTER;
    o.group = pick(&random, GROUPS);
    return o;
  } else if (what == 58) {
    if (pick_purge(state, &random, &o)) return o;
  } else if (what == 59) {
    o.kind = OP_GC;
    return o;
  } else if (what >= 60) {
    if (!state->has_branch) o.kind = OP_BRANCH;
    else if (what < 73) pick_side_put(&random, &o);
    else if (what < 82) o.kind = OP_MERGE;
    else if (what < 89) o.kind = state->branch_depth > 0 ? OP_ROLLBACK : OP_MERGE;
    else if (what < 92) o.kind = OP_BRANCH_DELETE;
    else pick_tag(state, &random, what >= 96, &o);
    return o;
  }
  o.put_count = 1 + pick(&random, OP_DOCS_MAX);
  o.remove_count = pick(&random, 3);
  pick_distinct(&random, MAIN_DOCS, o.put_count, o.put, NULL, 0);
  pick_distinct(&random, MAIN_DOCS, o.remove_count, o.remove, o.put, o.put_count);
  return o;
}

static void apply_purge(thread_state *state, const op *o) {
  for (uint32_t i = 0; i < o->put_count; i++) {
    uint32_t doc = o->put[i];
    state->purged[doc] = o->seq;
    state->main_docs[doc] = (doc_state){0};
    for (uint32_t t = 0; t < state->tag_count; t++) state->tags[t].docs[doc] = (doc_state){0};
  }
  for (uint32_t i = 0; i < o->remove_count; i++) {
    uint32_t doc = o->remove[i];
    state->purged_side[doc] = o->seq;
    state->main_side.docs[doc] = state->branch.docs[doc] = state->branch_before.docs[doc] = (doc_state){0};
    for (uint32_t t = 0; t < state->tag_count; t++) state->tags[t].side.docs[doc] = (doc_state){0};
  }
}

static void apply_tag(thread_state *state, const op *o) {
  tag_state *tag = &state->tags[state->tag_count++];
  RAG_ASSERT(state->tag_count <= TAGS_MAX);
  tag->seq = o->seq;
  memcpy(tag->docs, state->main_docs, sizeof tag->docs);
  tag->side = state->main_side;
}

static void apply_tag_delete(thread_state *state, const op *o) {
  for (uint32_t t = 0; t < state->tag_count; t++) {
    if (state->tags[t].seq != o->tag) continue;
    state->tags[t] = state->tags[--state->tag_count];
    return;
  }
}

void model_apply(thread_state *state, const op *o, bool applied) {
  state->next = o->seq + 1;
  if (!applied) return;
  switch (o->kind) {
  case OP_PUT:
    for (uint32_t i = 0; i < o->put_count; i++) {
      state->main_docs[o->put[i]] = (doc_state){o->seq, o->seq};
      state->last_version[o->put[i]] = o->seq;
    }
    for (uint32_t i = 0; i < o->remove_count; i++) state->main_docs[o->remove[i]] = (doc_state){0};
    break;
  case OP_METADATA:
    state->main_docs[o->put[0]].metadata = o->seq;
    break;
  case OP_BRANCH:
    state->has_branch = true;
    state->branch = state->branch_before = state->main_side;
    break;
  case OP_SIDE_PUT:
    state->branch_before = state->branch;
    state->branch_depth++;
    for (uint32_t i = 0; i < o->put_count; i++) state->branch.docs[o->put[i]] = (doc_state){o->seq, o->seq};
    for (uint32_t i = 0; i < o->remove_count; i++) state->branch.docs[o->remove[i]] = (doc_state){0};
    break;
  case OP_MERGE:
    state->main_side = state->branch;
    break;
  case OP_ROLLBACK: { // to bT~1: the two change places
    side_state now = state->branch;
    state->branch = state->branch_before;
    state->branch_before = now;
    state->branch_depth++;
    break;
  }
  case OP_TAG:
    apply_tag(state, o);
    break;
  case OP_TAG_DELETE:
    apply_tag_delete(state, o);
    break;
  case OP_BRANCH_DELETE:
    state->has_branch = false;
    state->branch_depth = 0;
    break;
  case OP_DELETE_FILTER:
    for (uint32_t i = 0; i < MAIN_DOCS; i++)
      if (state->main_docs[i].metadata % GROUPS == o->group) state->main_docs[i] = (doc_state){0};
    break;
  case OP_PURGE:
    apply_purge(state, o);
    break;
  case OP_GC:
    break;
  }
}

void model_id(uint32_t thread, bool side, uint32_t doc, char *id) {
  snprintf(id, 64, "t%u-%c%02u", thread, side ? 'x' : 'd', doc);
}

void model_branch(uint32_t thread, char *name) {
  snprintf(name, 64, "b%u", thread);
}

void model_tag(uint32_t thread, uint32_t seq, char *name) {
  snprintf(name, 64, "t%u-%u", thread, seq);
}

void model_metadata(uint32_t thread, bool side, uint32_t version, char *metadata) {
  snprintf(metadata, 64, "{\"group\":%u,\"owner\":\"t%u-%c\",\"version\":%u}", version % GROUPS, thread,
           side ? 'x' : 'd', version);
}

void model_filter(uint32_t thread, uint32_t group, char *filter) {
  snprintf(filter, 128,
           "{\"must\":[{\"key\":\"owner\",\"match\":{\"value\":\"t%u-d\"}},"
           "{\"key\":\"group\",\"match\":{\"value\":%u}}]}",
           thread, group);
}

// Mostly a few hundred bytes; one in eight over the size from which texts go to blob files.
size_t model_text(const model *m, uint32_t thread, bool side, uint32_t doc, uint32_t version, char *text) {
  uint64_t random = stream_of(m, thread, version, side ? 100 + doc : 200 + doc);
  size_t want = pick(&random, 8) == 0 ? 1024 + pick(&random, 5000) : 40 + pick(&random, 500);
  size_t size = (size_t)snprintf(text, TEXT_BYTES_MAX, "thread %u %s %u version %u.", thread,
                                 side ? "side document" : "document", doc, version);
  while (size < want) {
    uint64_t word = fault_random(&random);
    text[size++] = ' ';
    for (uint32_t letters = 2 + (uint32_t)(word % 7); letters > 0; letters--, word >>= 5)
      text[size++] = (char)('a' + (word >> 8) % 26);
  }
  text[size] = '\0';
  return size;
}

rag_digest model_digest(const model *m, const op *o) {
  rag_digest_state digest;
  char id[64], text[TEXT_BYTES_MAX];
  bool side = o->kind == OP_SIDE_PUT;
  uint32_t head[5] = {(uint32_t)o->kind, o->thread, o->seq, o->group, o->tag};
  rag_digest_init(&digest);
  rag_digest_update(&digest, head, sizeof head);
  for (uint32_t i = 0; i < o->put_count; i++) {
    model_id(o->thread, side, o->put[i], id);
    rag_digest_update_bytes(&digest, rag_slice_str(id));
    if (o->kind == OP_METADATA || o->kind == OP_PURGE) continue;
    size_t size = model_text(m, o->thread, side, o->put[i], o->seq, text);
    rag_digest_update_bytes(&digest, rag_slice_of(text, size));
  }
  for (uint32_t i = 0; i < o->remove_count; i++) {
    model_id(o->thread, side, o->remove[i], id);
    rag_digest_update_bytes(&digest, rag_slice_str(id));
  }
  return rag_digest_final(&digest);
}

bool model_save(const model *m, const char *path) {
  FILE *out = fopen(path, "we");
  bool good = out != NULL && fwrite(m, sizeof *m, 1, out) == 1;
  if (out != NULL && fclose(out) != 0) good = false;
  return good;
}

bool model_load(model *m, const char *path) {
  FILE *in = fopen(path, "re");
  bool good = in != NULL && fread(m, sizeof *m, 1, in) == 1;
  if (in != NULL) fclose(in);
  return good;
}
