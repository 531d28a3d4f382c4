// Goal: whatever the order of puts, deletions, prunes, deletions by filter, patches, branches, merges, rollbacks, tags,
// deletions of branches, tags and whole kbs, gc, purges, and restarts: every version of every kb that is kept reads as a
// naive model says it must, and the others are gone.
// Method: random steps over few ids, few texts and three kbs with different chunkings. The model keeps each commit as a
// full copy of the documents, finds merge bases by marking all ancestors, and searches by scoring everything. After each
// step, random reads at random refs are compared: listing in pages and under filters (rag_filter_match is the oracle),
// get, diff, log, commit, exact search with offset and filter, search for a word. (test_hybrid.c has the rest of search.)
// A step's choices follow from (seed, its number, the state before it), so steps can be left out: a seed that fails is
// shrunk by leaving out more and more of them (delta debugging), each try in a process of its own.
// The seed is printed; RAGD_TEST_SEED repeats one, with RAGD_TEST_STEPS=3,17 those steps alone; RAGD_TEST_SECONDS goes on
// with new seeds for so long.
#include "kb_test.h"

#include "base/json.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

enum {
  IDS = 9,
  TEXTS = 25,
  METAS = 4,
  SOURCES = 3,
  KBS = 3,
  BRANCHES = 4,
  TAGS = 3,
  STEPS = 250,
  COMMITS_MAX = STEPS * 2,
  FILTERS = 5,
  SHRINK_TRIES_MAX = 400
};
enum { CHUNKS_MAX = 16, DIMENSION_MAX = 64 };

typedef struct doc { // text 0: not there
  uint8_t text, meta, source;
} doc;

typedef struct commit {
  uint32_t parents[2];
  doc docs[IDS];
  bool dropped; // by gc
} commit;

typedef struct model {
  char name[16];
  const char *model;
  rag_chunking chunking;
  rag_kb *kb;
  uint32_t commits;                     // numbered from 1
  commit *commit;                       // [COMMITS_MAX]
  uint32_t branch[BRANCHES], tag[TAGS]; // 0: not there
} model;

typedef struct cut_text { // a text as a kb chunks and embeds it
  rag_span spans[CHUNKS_MAX];
  float vectors[CHUNKS_MAX][DIMENSION_MAX];
  uint32_t count;
} cut_text;

static bool alone;         // in a process of its own: a failure ends it
static bool verbose;       // names each step
static bool forgets_purge; // the model has a defect, for the test of the shrinking
static rag_arena *filter_arena;
static const rag_filter *filters[FILTERS]; // 0: none
static rag_json_parser *parser;
static uint64_t seed, random_state;
static unsigned step;
static char texts[TEXTS][512]; // 0: not used
static cut_text cuts[KBS][TEXTS];
static rag_embedder *embedders[KBS];
static model models[KBS];

#define CHECK(cond, ...)                                                                                               \
  do {                                                                                                                 \
    if (!(cond)) {                                                                                                     \
      print_error("RAGD_TEST_SEED=%llu step %u: %s: ", (unsigned long long)seed, step, #cond);                         \
      if (alone) {                                                                                                     \
        print_error(__VA_ARGS__);                                                                                      \
        print_error("\n");                                                                                             \
        _exit(1);                                                                                                      \
      }                                                                                                                \
      fail_msg(__VA_ARGS__);                                                                                           \
    }                                                                                                                  \
  } while (0)
#define DO(expr)                                                                                                       \
  do {                                                                                                                 \
    rag_status do_status_ = (expr);                                                                                    \
    CHECK(do_status_ == RAG_OK, "%s: %s: %s", #expr, rag_status_name(do_status_), err.message);                        \
  } while (0)

static uint32_t pick(uint32_t n) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)((random_state >> 11) % n);
}

static const char *const metas[METAS] = {"", "{\"m\":1}", "{\"m\":2}", "{\"m\":{\"n\":3}}"};
static const char *const sources[SOURCES] = {"", "source:one", "source:two"};
static const char *const branch_names[BRANCHES] = {"main", "b1", "b-two", "c3.x"};
static const char *const tag_names[TAGS] = {"t0", "v1.0", "tag-3"};
static const char *const ids[IDS] = {"a", "b", "document/three", "d d", "\xc3\xa9", "f", "aa", "a\nb", "9"};

static const char *const filter_texts[FILTERS] = {
    NULL, "{\"must\":[{\"key\":\"m\",\"match\":{\"value\":1}}]}",
    "{\"must_not\":[{\"key\":\"m\",\"match\":{\"value\":1}}]}",
    "{\"should\":[{\"has_id\":[\"a\",\"aa\",\"f\"]},{\"key\":\"m.n\",\"range\":{\"gte\":3}}]}",
    "{\"must\":[{\"is_empty\":{\"key\":\"m\"}}]}"};

static bool passes(const rag_filter *filter, uint32_t id, doc d) {
  rag_error err = {0};
  bool pass = true;
  if (d.text == 0) return false;
  if (filter != NULL) DO(rag_filter_match(filter, S(ids[id]), S(metas[d.meta]), parser, &pass, &err));
  return pass;
}

static doc doc_pick(void) {
  return (doc){(uint8_t)(1 + pick(TEXTS - 1)), (uint8_t)pick(METAS), (uint8_t)pick(SOURCES)};
}

static bool doc_equal(doc a, doc b) {
  return a.text == b.text && (a.text == 0 || (a.meta == b.meta && a.source == b.source));
}

static rag_document_input input_of(uint32_t id, doc d) {
  return (rag_document_input){
      .id = S(ids[id]), .text = S(texts[d.text]), .metadata = S(metas[d.meta]), .source_uri = S(sources[d.source])};
}

// ---------------------------------------------------------------------------------------------- fixed material

static void make_texts(void) {
  static const char *const words[] = {"river", "stone", "light", "engine", "green",  "paper",  "cloud", "north",
                                      "seven", "music", "salt",  "glass",  "copper", "winter", "field", "ocean"};
  rag_error err = {0};
  for (uint32_t t = 1; t < TEXTS; t++) {
    size_t used = 0;
    uint32_t count = 2 + t % 5 * 11;                                  // one chunk to several
    used = (size_t)snprintf(texts[t], sizeof texts[t], "text%u ", t); // no two are equal
    for (uint32_t w = 0; w < count; w++)
      used += (size_t)snprintf(texts[t] + used, sizeof texts[t] - used, "%s%s", words[(t * 7 + w * (t % 3 + 1)) % 16],
                               w + 1 == count ? ""
                               : w % 13 == 12 ? ".\n\n"
                                              : " ");
  }
  for (uint32_t k = 0; k < KBS; k++) {
    OK(rag_embedder_open(S(models[k].model), &embedders[k], &err));
    for (uint32_t t = 1; t < TEXTS; t++) {
      rag_span *spans = NULL;
      cut_text *cut = &cuts[k][t];
      OK(rag_chunk_text(&models[k].chunking, S(texts[t]), &spans, &cut->count, &err));
      assert_true(cut->count >= 1 && cut->count <= CHUNKS_MAX);
      for (uint32_t i = 0; i < cut->count; i++) {
        rag_slice text = rag_slice_of(texts[t] + spans[i].start, spans[i].end - spans[i].start);
        cut->spans[i] = spans[i];
        OK(rag_embedder_embed(embedders[k], RAG_EMBED_DOCUMENT, &text, 1, cut->vectors[i], &err));
      }
      rag_free(spans);
    }
  }
}

static void kb_make(kb_fixture *f, model *m) {
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb_config_init(&config);
  memcpy(config.name, m->name, sizeof m->name);
  snprintf(config.model, sizeof config.model, "%s", m->model);
  config.chunking = m->chunking;
  DO(rag_kbs_create(f->kbs, &config, &write, &m->kb, &err));
  memset(m->branch, 0, sizeof m->branch);
  memset(m->tag, 0, sizeof m->tag);
  m->commits = m->branch[0] = 1;
  m->commit[1] = (commit){0};
}

static void reopen(kb_fixture *f) {
  for (uint32_t k = 0; k < KBS; k++) rag_ref_drop(models[k].kb);
  f->kbs_options.load_at_open = pick(2);
  f->kbs_options.seal_rows = (uint32_t[]){24, 100, 0, 0}[pick(4)];
  f->kbs_options.version_cache = pick(2) ? 1 : 256;
  f->kbs_options.object_cache_bytes = pick(2) ? 0 : 4u << 20;
  kb_test_reopen(f);
  for (uint32_t k = 0; k < KBS; k++) models[k].kb = kb_test_get(f, models[k].name);
}

// ---------------------------------------------------------------------------------------------- refs

static uint32_t branch_pick(const model *m) {
  for (;;) {
    uint32_t b = pick(BRANCHES);
    if (m->branch[b] != 0) return b;
  }
}

static uint32_t ref_pick(const model *m, char ref[64]) { // its commit
  uint32_t at = 0, t = pick(TAGS), kind = pick(4);
  if (kind == 0 && m->tag[t] != 0) {
    snprintf(ref, 64, "%s", tag_names[t]);
    at = m->tag[t];
  } else if (kind == 1) {
    do at = 1 + pick(m->commits);
    while (m->commit[at].dropped);
    snprintf(ref, 64, "c%u", at);
  } else {
    uint32_t b = branch_pick(m);
    snprintf(ref, 64, "%s", b == 0 && pick(2) ? "" : branch_names[b]);
    at = m->branch[b];
  }
  if (ref[0] != '\0' && pick(3) == 0) {
    uint32_t back = 0, want = pick(6);
    for (; back < want && m->commit[at].parents[0] != 0 && !m->commit[m->commit[at].parents[0]].dropped; back++)
      at = m->commit[at].parents[0];
    size_t used = strlen(ref);
    snprintf(ref + used, 64 - used, "~%u", back);
  }
  return at;
}

static commit *commit_new(model *m, uint32_t branch, uint32_t other_parent) {
  commit *next = &m->commit[++m->commits];
  CHECK(m->commits < COMMITS_MAX, "too many commits");
  *next = m->commit[m->branch[branch]]; // a head is never dropped
  next->parents[0] = m->branch[branch];
  next->parents[1] = other_parent;
  m->branch[branch] = m->commits;
  return next;
}

// ---------------------------------------------------------------------------------------------- steps

static void put_step(model *m) {
  rag_error err = {0};
  rag_document_input documents[IDS];
  rag_slice gone[IDS];
  rag_put put = {.documents = documents, .delete_ids = gone, .prune = pick(6) ? RAG_PRUNE_NONE : (rag_prune)pick(3)};
  rag_write_result r = {0}, want = {0};
  uint32_t b = branch_pick(m), many = pick(3) ? 1 : 1 + pick(IDS);
  bool named[IDS] = {false}, source_named[SOURCES] = {false};
  doc next[IDS];
  const doc *now = m->commit[m->branch[b]].docs;
  memcpy(next, now, sizeof next);
  for (uint32_t i = 0; i < many; i++) {
    uint32_t id = pick(IDS);
    if (named[id]) continue;
    named[id] = true;
    if (pick(4) == 0) {
      gone[put.delete_count++] = S(ids[id]);
      if (now[id].text) want.removed++;
      else want.missing++;
      next[id] = (doc){0};
      continue;
    }
    doc d = now[id].text && pick(4) == 0 ? now[id] : doc_pick();
    if (now[id].text && pick(4) == 0) d.text = now[id].text;
    documents[put.document_count++] = input_of(id, d);
    if (doc_equal(d, now[id])) want.unchanged++;
    else if (now[id].text) want.changed++;
    else want.added++;
    next[id] = d;
    source_named[d.source] = true;
  }
  for (uint32_t id = 0; id < IDS; id++) {
    bool pruned =
        put.prune == RAG_PRUNE_ALL || (put.prune == RAG_PRUNE_SOURCE && now[id].source && source_named[now[id].source]);
    if (named[id] || !now[id].text || !pruned) continue;
    next[id] = (doc){0};
    want.removed++;
  }
  rag_write write = {.branch = S(branch_names[b])};
  if (put.document_count > 0 && pick(20) == 0) { // a call that is refused changes nothing
    documents[put.document_count - 1].title = S("\xff");
    CHECK(rag_kb_put(m->kb, &write, &put, &r, NULL, &err) == RAG_INVALID_ARGUMENT, "a bad put was taken");
    return;
  }
  DO(rag_kb_put(m->kb, &write, &put, &r, NULL, &err));
  CHECK(r.added == want.added && r.changed == want.changed && r.unchanged == want.unchanged &&
            r.removed == want.removed && r.missing == want.missing,
        "+%u ~%u =%u -%u ?%u instead of +%u ~%u =%u -%u ?%u", (unsigned)r.added, (unsigned)r.changed,
        (unsigned)r.unchanged, (unsigned)r.removed, (unsigned)r.missing, (unsigned)want.added, (unsigned)want.changed,
        (unsigned)want.unchanged, (unsigned)want.removed, (unsigned)want.missing);
  CHECK(r.committed == (want.added + want.changed + want.removed > 0), "committed");
  if (r.committed) memcpy(commit_new(m, b, 0)->docs, next, sizeof next);
  CHECK(r.commit == m->branch[b], "c%u instead of c%u", (unsigned)r.commit, m->branch[b]);
}

static void patch_step(model *m) {
  rag_error err = {0};
  uint32_t b = branch_pick(m), id = pick(IDS), meta = pick(METAS);
  doc now = m->commit[m->branch[b]].docs[id];
  rag_write write = {.branch = S(branch_names[b])};
  rag_write_result r = {0};
  rag_status status = rag_kb_set_metadata(m->kb, &write, S(ids[id]), 0, S(metas[meta]), &r, &err);
  if (now.text == 0) {
    CHECK(status == RAG_NOT_FOUND, "patched what is not there");
    return;
  }
  DO(status);
  CHECK(r.committed == (now.meta != meta), "committed");
  if (r.committed) commit_new(m, b, 0)->docs[id].meta = (uint8_t)meta;
  CHECK(r.commit == m->branch[b], "c%u instead of c%u", (unsigned)r.commit, m->branch[b]);
}

static uint32_t base_of(const model *m, uint32_t a, uint32_t b) {
  static uint8_t marks[COMMITS_MAX];
  memset(marks, 0, sizeof marks);
  marks[a] |= 1;
  marks[b] |= 2;
  for (uint32_t c = m->commits; c > 0; c--) {             // parents have smaller numbers
    if (marks[c] == 3 && !m->commit[c].dropped) return c; // gc keeps who descends from whom
    for (int p = 0; p < 2; p++) marks[m->commit[c].parents[p]] |= marks[c];
  }
  return 0;
}

static void merge_step(model *m) {
  rag_error err = {0};
  char ref[64];
  uint32_t b = branch_pick(m), from = ref_pick(m, ref), into = m->branch[b];
  rag_merge_strategy strategy = (rag_merge_strategy)pick(3);
  if (ref[0] == '\0') snprintf(ref, sizeof ref, "main");
  uint32_t base = base_of(m, from, into);
  rag_write_result want = {0}, r = {0};
  doc next[IDS];
  bool conflict[IDS] = {false};
  uint32_t conflicts = 0;
  for (uint32_t id = 0; id < IDS; id++) {
    doc B = m->commit[base].docs[id], O = m->commit[into].docs[id], T = m->commit[from].docs[id];
    next[id] = O;
    if (doc_equal(T, B) || doc_equal(T, O)) continue;
    if (!doc_equal(O, B)) {
      conflict[id] = strategy == RAG_MERGE_FAIL;
      conflicts += conflict[id];
      if (strategy != RAG_MERGE_THEIRS) continue;
    }
    next[id] = T;
    if (O.text == 0) want.added++;
    else if (T.text == 0) want.removed++;
    else want.changed++;
  }
  rag_write write = {0};
  rag_strings named = {0};
  rag_status status = rag_kb_merge(m->kb, &write, S(ref), S(branch_names[b]), strategy, &r, &named, &err);
  if (base == 0) { // gc has dropped what they had in common
    CHECK(status == RAG_FAILED_PRECONDITION || status == RAG_NOT_FOUND, "a merge without a base: %s", err.message);
    rag_strings_free(&named);
    return;
  }
  if (base != from && conflicts > 0) {
    CHECK(status == RAG_ABORTED, "%u conflicts, but: %s %s", conflicts, rag_status_name(status), err.message);
    CHECK(named.count == conflicts, "%zu conflicts instead of %u", named.count, conflicts);
    for (uint32_t id = 0; id < IDS; id++)
      for (size_t i = 0; i < named.count; i++)
        if (strcmp(named.items[i], ids[id]) == 0) CHECK(conflict[id], "'%s' is no conflict", ids[id]);
    rag_strings_free(&named);
    return;
  }
  rag_strings_free(&named);
  DO(status);
  CHECK(r.committed == (base != from), "committed");
  if (r.committed) {
    memcpy(commit_new(m, b, from)->docs, next, sizeof next);
    CHECK(r.added == want.added && r.changed == want.changed && r.removed == want.removed, "counts of a merge of %s",
          ref);
  }
  CHECK(r.commit == m->branch[b], "c%u instead of c%u", (unsigned)r.commit, m->branch[b]);
}

static void rollback_step(model *m) {
  rag_error err = {0};
  char ref[64];
  uint32_t b = branch_pick(m), to = ref_pick(m, ref);
  rag_write write = {.branch = S(branch_names[b])};
  rag_write_result r = {0};
  if (ref[0] == '\0') snprintf(ref, sizeof ref, "main");
  bool differs = false;
  for (uint32_t id = 0; id < IDS; id++) differs |= !doc_equal(m->commit[to].docs[id], m->commit[m->branch[b]].docs[id]);
  DO(rag_kb_rollback(m->kb, &write, S(ref), &r, &err));
  CHECK(r.committed || !differs, "a rollback to %s did nothing", ref); // equal states may be other revisions
  if (r.committed) {
    doc docs[IDS];
    memcpy(docs, m->commit[to].docs, sizeof docs);
    memcpy(commit_new(m, b, 0)->docs, docs, sizeof docs);
  }
  CHECK(r.commit == m->branch[b], "c%u instead of c%u", (unsigned)r.commit, m->branch[b]);
}

static void filter_step(model *m) {
  rag_error err = {0};
  uint32_t b = branch_pick(m);
  const rag_filter *filter = filters[1 + pick(FILTERS - 1)];
  rag_put put = {.delete_filter = filter};
  rag_write write = {.branch = S(branch_names[b])};
  rag_write_result r = {0};
  doc next[IDS];
  uint64_t removed = 0;
  memcpy(next, m->commit[m->branch[b]].docs, sizeof next);
  for (uint32_t id = 0; id < IDS; id++) {
    if (!passes(filter, id, next[id])) continue;
    next[id] = (doc){0};
    removed++;
  }
  DO(rag_kb_put(m->kb, &write, &put, &r, NULL, &err));
  CHECK(r.removed == removed && r.committed == (removed > 0), "a deletion by filter took %u instead of %u",
        (unsigned)r.removed, (unsigned)removed);
  if (r.committed) memcpy(commit_new(m, b, 0)->docs, next, sizeof next);
}

// Of all that is stored: heads, tags, the newest of each branch, and what two branches have in common.
static void model_gc(model *m, uint32_t keep_commits) {
  static bool kept[COMMITS_MAX];
  memset(kept, 0, sizeof kept);
  for (uint32_t t = 0; t < TAGS; t++) kept[m->tag[t]] = true;
  for (uint32_t b = 0; b < BRANCHES; b++) {
    uint32_t at = m->branch[b];
    for (uint32_t left = keep_commits; at != 0 && left > 0 && !m->commit[at].dropped; left--) {
      kept[at] = true;
      at = m->commit[at].parents[0];
    }
    for (uint32_t c = 0; m->branch[b] != 0 && c < b; c++)
      if (m->branch[c] != 0) kept[base_of(m, m->branch[b], m->branch[c])] = true;
  }
  for (uint32_t c = 1; c <= m->commits; c++) m->commit[c].dropped |= !kept[c];
}

static void reopen(kb_fixture *f);

static void gc_step(kb_fixture *f, model *m) {
  rag_error err = {0};
  rag_gc_options options = {.keep_commits = 1 + pick(12)};
  uint64_t job;
  DO(rag_kb_gc(m->kb, &options, &job, &err));
  if (pick(2)) reopen(f);
  (void)kb_test_job(f, job);
  model_gc(m, options.keep_commits);
  for (uint32_t c = 1; c <= m->commits; c++) {
    char ref[16];
    rag_version *version = NULL;
    snprintf(ref, sizeof ref, "c%u", c);
    rag_status status = rag_kb_resolve(m->kb, S(ref), &version, &err);
    rag_ref_drop(version);
    CHECK(status == (m->commit[c].dropped ? RAG_NOT_FOUND : RAG_OK), "c%u after a gc that keeps %u: %s", c,
          options.keep_commits, rag_status_name(status));
  }
}

static void purge_step(kb_fixture *f, model *m) {
  rag_error err = {0};
  uint32_t which[2] = {pick(IDS), pick(IDS)}, count = which[0] != which[1] ? 1 + pick(2) : 1;
  rag_slice purged[2] = {S(ids[which[0]]), S(ids[which[1]])};
  uint64_t job;
  DO(rag_kb_purge(m->kb, purged, count, &job, &err));
  for (uint32_t i = 0; i < count && !forgets_purge; i++)
    for (uint32_t c = 1; c <= m->commits; c++) m->commit[c].docs[which[i]] = (doc){0};
  if (pick(3) == 0) reopen(f); // or later, with another job
  if (pick(2)) (void)kb_test_job(f, job);
}

static void ref_step(model *m) {
  rag_error err = {0};
  char ref[64];
  rag_write write = {0};
  rag_ref_info info = {0};
  uint32_t from = ref_pick(m, ref), n = pick(BRANCHES), t = pick(TAGS);
  rag_status status;
  switch (pick(4)) {
  case 0:
    status = rag_kb_branch_create(m->kb, &write, S(branch_names[n]), S(ref), &info, &err);
    CHECK(status == (m->branch[n] ? RAG_ALREADY_EXISTS : RAG_OK), "branch: %s", err.message);
    if (status == RAG_OK) m->branch[n] = from;
    break;
  case 1:
    status = rag_kb_tag_create(m->kb, &write, S(tag_names[t]), S(ref), &info, &err);
    CHECK(status == (m->tag[t] ? RAG_ALREADY_EXISTS : RAG_OK), "tag: %s", err.message);
    if (status == RAG_OK) m->tag[t] = from;
    break;
  case 2:
    status = rag_kb_branch_delete(m->kb, S(branch_names[n]), &err);
    CHECK(status == (n == 0 ? RAG_FAILED_PRECONDITION : m->branch[n] ? RAG_OK : RAG_NOT_FOUND), "%s", err.message);
    if (status == RAG_OK) m->branch[n] = 0;
    break;
  default:
    status = rag_kb_tag_delete(m->kb, S(tag_names[t]), &err);
    CHECK(status == (m->tag[t] ? RAG_OK : RAG_NOT_FOUND), "%s", err.message);
    if (status == RAG_OK) m->tag[t] = 0;
  }
}

static void recreate_step(kb_fixture *f, model *m) {
  rag_error err = {0};
  uint64_t job;
  DO(rag_kbs_delete(f->kbs, S(m->name), &job, &err));
  rag_ref_drop(m->kb);
  m->kb = NULL;
  if (pick(2)) kb_test_job(f, job); // or later, at the side of the new one
  kb_make(f, m);
}

// ---------------------------------------------------------------------------------------------- reads

#include "model_reads.h"

// ---------------------------------------------------------------------------------------------- one history

static void one_step(kb_fixture *f) {
  static const char *const names[] = {"put",   "delete by filter", "patch",   "merge", "rollback", "ref", "gc",
                                      "purge", "reopen",           "recreate"};
  // In parts of a hundred, in the order of the names.
  static const uint8_t below[] = {42, 45, 56, 69, 77, 91, 94, 97, 99, 100};
  uint32_t k = pick(8) ? 0 : pick(KBS), dice = pick(100), kind = 0;
  model *m = &models[k];
  while (dice >= below[kind]) kind++;
  if (verbose) print_message("  step %u: kb%u %s\n", step, k, names[kind]);
  switch (kind) {
  case 0:
    put_step(m);
    break;
  case 1:
    filter_step(m);
    break;
  case 2:
    patch_step(m);
    break;
  case 3:
    merge_step(m);
    break;
  case 4:
    rollback_step(m);
    break;
  case 5:
    ref_step(m);
    break;
  case 6:
    gc_step(f, m);
    break;
  case 7:
    purge_step(f, m);
    break;
  case 8:
    reopen(f);
    break;
  default:
    recreate_step(f, &models[1 + pick(KBS - 1)]);
  }
  check(m);
  if (pick(4) == 0) check(&models[pick(KBS)]);
}

// In a process and a directory of its own, so that nothing of one history is in another. True: all was as the model says.
static bool run_steps(const uint16_t *steps, uint32_t count, bool quiet) {
  kb_fixture *f = NULL;
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child != 0) {
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  alone = true;
  int nowhere = quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;
  if (nowhere >= 0 && (dup2(nowhere, 1) < 0 || dup2(nowhere, 2) < 0)) _exit(2);
  random_state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
  if (kb_test_setup((void **)&f) != 0) _exit(2);
  for (uint32_t k = 0; k < KBS; k++) kb_make(f, &models[k]);
  for (uint32_t i = 0; i < count; i++) {
    step = steps[i];
    random_state = (seed ^ (uint64_t)step << 40) * UINT64_C(0x9E3779B97F4A7C15) | 1;
    for (int warm = 0; warm < 4; warm++) (void)pick(2); // neighbours' first numbers are alike
    one_step(f);
  }
  for (uint32_t k = 0; k < KBS; k++) rag_ref_drop(models[k].kb);
  if (kb_test_teardown((void **)&f) != 0) _exit(2);
  exit(0); // not _exit: leaks are looked for there
}

// ---------------------------------------------------------------------------------------------- shrinking

// Leaves steps out while it still fails: halves, quarters, ... single ones, until none can go (Zeller's ddmin, without
// its tests of the parts alone). Returns how many are left.
static uint32_t shrink(uint16_t *steps, uint32_t count) {
  uint32_t tries = 0;
  for (uint32_t size = RAG_MAX(count / 2, 1u);;) {
    bool removed = false;
    for (uint32_t at = 0; at < count && tries < SHRINK_TRIES_MAX;) {
      uint16_t rest[STEPS];
      uint32_t cut = RAG_MIN(size, count - at), left = count - cut;
      memcpy(rest, steps, at * sizeof *steps);
      memcpy(rest + at, steps + at + cut, (left - at) * sizeof *steps);
      tries++;
      if (run_steps(rest, left, true)) {
        at += cut;
        continue;
      }
      memcpy(steps, rest, left * sizeof *steps);
      count = left;
      removed = true;
    }
    if (tries >= SHRINK_TRIES_MAX || (size == 1 && !removed)) return count;
    size = RAG_MAX(size / 2, 1u);
  }
}

static void print_script(const uint16_t *steps, uint32_t count) {
  print_message("%u steps are enough: RAGD_TEST_SEED=%llu RAGD_TEST_STEPS=", count, (unsigned long long)seed);
  for (uint32_t i = 0; i < count; i++) print_message("%s%u", i ? "," : "", steps[i]);
  print_message("\n");
}

static uint32_t all_steps(uint16_t steps[STEPS]) {
  const char *given = getenv("RAGD_TEST_STEPS");
  uint32_t count = 0;
  if (given == NULL || given[0] == '\0') {
    for (; count < STEPS; count++) steps[count] = (uint16_t)(count + 1);
    return count;
  }
  for (char *at = NULL; count < STEPS && *given != '\0'; given = *at == ',' ? at + 1 : at) {
    steps[count++] = (uint16_t)strtoul(given, &at, 10);
    if (at == given) fail_msg("RAGD_TEST_STEPS is no list of numbers");
  }
  verbose = true;
  return count;
}

// ---------------------------------------------------------------------------------------------- tests

static int setup(void **state) {
  rag_error err = {0};
  RAG_UNUSED(state);
  static const rag_chunking chunkings[KBS] = {
      {RAG_CHUNK_STRUCTURE, 16, 0}, {RAG_CHUNK_FIXED, 16, 5}, {RAG_CHUNK_WHOLE, 16, 0}};
  for (uint32_t k = 0; k < KBS; k++) {
    models[k] = (model){.model = k == 2 ? "hash-64" : "hash-32", .chunking = chunkings[k]};
    snprintf(models[k].name, sizeof models[k].name, "kb%u", k);
    models[k].commit = calloc(COMMITS_MAX, sizeof *models[k].commit);
    assert_non_null(models[k].commit);
  }
  filter_arena = rag_arena_create(0);
  parser = rag_json_parser_create();
  assert_true(filter_arena != NULL && parser != NULL);
  for (uint32_t i = 1; i < FILTERS; i++) OK(rag_filter_parse(S(filter_texts[i]), filter_arena, &filters[i], &err));
  make_texts();
  return 0;
}

static int teardown(void **state) {
  RAG_UNUSED(state);
  for (uint32_t k = 0; k < KBS; k++) {
    free(models[k].commit);
    rag_ref_drop(embedders[k]);
  }
  rag_json_parser_destroy(parser);
  rag_arena_destroy(filter_arena);
  return 0;
}

static void random_histories(void **state) {
  RAG_UNUSED(state);
  const char *given = getenv("RAGD_TEST_SEED"), *seconds = getenv("RAGD_TEST_SECONDS");
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  uint64_t end_ns = rag_clock_monotonic_ns() + (seconds ? strtoull(seconds, NULL, 10) : 0) * UINT64_C(1000000000);
  for (seed = first; seed < first + 5 || rag_clock_monotonic_ns() < end_ns; seed++) {
    uint16_t steps[STEPS];
    uint32_t count = all_steps(steps);
    print_message("RAGD_TEST_SEED=%llu\n", (unsigned long long)seed);
    if (!run_steps(steps, count, false)) {
      count = shrink(steps, count);
      verbose = true;
      (void)run_steps(steps, count, false);
      print_script(steps, count);
      fail_msg("a history differs from the model's");
    }
    if (given && !seconds) break;
  }
}

// A model that forgets purges must be caught, by a script of a few steps.
static void a_failure_shrinks(void **state) {
  RAG_UNUSED(state);
  uint16_t steps[STEPS];
  uint32_t count = STEPS;
  for (uint32_t i = 0; i < STEPS; i++) steps[i] = (uint16_t)(i + 1);
  seed = 4711;
  forgets_purge = true;
  assert_false(run_steps(steps, count, true));
  count = shrink(steps, count);
  verbose = true;
  assert_false(run_steps(steps, count, false));
  print_script(steps, count);
  assert_true(count <= 5);
  verbose = false;
  forgets_purge = false;
  assert_true(run_steps(steps, count, true)); // nothing else is wrong with them
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_histories), cmocka_unit_test(a_failure_shrinks)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
