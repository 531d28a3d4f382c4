// Goal: whatever the order of puts, deletions, prunes, patches, branches, merges, rollbacks, tags, deletions of branches,
// tags and whole kbs, and restarts: every version of every kb reads as a naive model says it must.
// Method: random steps over few ids, few texts and three kbs with different chunkings. The model keeps each commit as a
// full copy of the documents, finds merge bases by marking all ancestors, and searches by scoring everything. After each
// step, random reads at random refs are compared: listing in pages, get, diff, log, commit, exact search with offset.
// The seed is printed; RAGD_TEST_SEED repeats one, RAGD_TEST_SECONDS goes on with new seeds for so long.
#include "kb_test.h"

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
  COMMITS_MAX = STEPS * 2
};
enum { CHUNKS_MAX = 16, DIMENSION_MAX = 64 };

typedef struct doc { // text 0: not there
  uint8_t text, meta, source;
} doc;

typedef struct commit {
  uint32_t parents[2];
  doc docs[IDS];
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
    at = 1 + pick(m->commits);
    snprintf(ref, 64, "c%u", at);
  } else {
    uint32_t b = branch_pick(m);
    snprintf(ref, 64, "%s", b == 0 && pick(2) ? "" : branch_names[b]);
    at = m->branch[b];
  }
  if (ref[0] != '\0' && pick(3) == 0) {
    uint32_t back = 0, want = pick(6);
    for (; back < want && m->commit[at].parents[0] != 0; back++) at = m->commit[at].parents[0];
    size_t used = strlen(ref);
    snprintf(ref + used, 64 - used, "~%u", back);
  }
  return at;
}

static commit *commit_new(model *m, uint32_t branch, uint32_t other_parent) {
  commit *next = &m->commit[++m->commits];
  CHECK(m->commits < COMMITS_MAX, "too many commits");
  *next = m->commit[m->branch[branch]];
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
  for (uint32_t c = m->commits; c > 0; c--) { // parents have smaller numbers
    if (marks[c] == 3) return c;
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

static uint32_t id_number(rag_slice id) {
  for (uint32_t i = 0; i < IDS; i++)
    if (rag_slice_equal(id, S(ids[i]))) return i;
  CHECK(false, "id '%.*s'", (int)id.size, id.data);
  return 0;
}

static void check_document(const rag_document *document, doc want) {
  CHECK(want.text != 0, "'%.*s' should not be there", (int)document->id.size, document->id.data);
  CHECK(rag_slice_equal(document->text, S(texts[want.text])), "text of '%.*s'", (int)document->id.size,
        document->id.data);
  CHECK(rag_slice_equal(document->metadata, S(metas[want.meta])), "metadata of '%.*s'", (int)document->id.size,
        document->id.data);
  CHECK(rag_slice_equal(document->source_uri, S(sources[want.source])), "source of '%.*s'", (int)document->id.size,
        document->id.data);
}

// first_chunk: by id, for the order of ties in a search.
static void check_listing(model *m, const char *ref, uint32_t at, uint32_t first_chunk[IDS]) {
  rag_error err = {0};
  const doc *want = m->commit[at].docs;
  uint32_t after = 0, seen = 0, expected = 0, page = 1 + pick(IDS + 1);
  do {
    rag_document *documents = NULL;
    uint32_t count = 0;
    uint64_t answered = 0;
    DO(rag_kb_documents(m->kb, S(ref), NULL, after, page, &documents, &count, &after, &answered, &err));
    CHECK(answered == at, "listing %s: c%u instead of c%u", ref, (unsigned)answered, at);
    for (uint32_t i = 0; i < count; i++, seen++) {
      uint32_t id = id_number(documents[i].id);
      check_document(&documents[i], want[id]);
      first_chunk[id] = documents[i].first_chunk;
      rag_document_free(&documents[i]);
    }
    rag_free(documents);
  } while (after != 0);
  for (uint32_t id = 0; id < IDS; id++) expected += want[id].text != 0;
  CHECK(seen == expected, "listing %s: %u documents instead of %u", ref, seen, expected);
}

static void check_get(model *m, const char *ref, uint32_t at) {
  rag_error err = {0};
  uint32_t id = pick(IDS);
  rag_document document = {0};
  rag_status status = rag_kb_document_get(m->kb, S(ref), S(ids[id]), &document, &err);
  if (m->commit[at].docs[id].text == 0) {
    CHECK(status == RAG_NOT_FOUND, "'%s' at %s", ids[id], ref);
    return;
  }
  DO(status);
  check_document(&document, m->commit[at].docs[id]);
  rag_document_free(&document);
}

static void check_diff(model *m, const char *ref, uint32_t at) {
  rag_error err = {0};
  char other[64];
  uint32_t to = ref_pick(m, other);
  rag_diff diff = {0};
  bool listed[IDS] = {false};
  DO(rag_kb_diff(m->kb, S(ref), S(other), &diff, &err));
  for (size_t i = 0; i < diff.count; i++) {
    const rag_diff_entry *e = &diff.entries[i];
    uint32_t id = id_number(S(e->id));
    doc a = m->commit[at].docs[id], b = m->commit[to].docs[id];
    CHECK(!listed[id], "'%s' twice", e->id);
    listed[id] = true;
    CHECK(e->change == (a.text == 0   ? RAG_CHANGE_ADDED
                        : b.text == 0 ? RAG_CHANGE_REMOVED
                                      : RAG_CHANGE_CHANGED) &&
              (a.text | b.text) != 0,
          "'%s' from %s to %s: change %d", e->id, ref, other, e->change);
    CHECK(e->text_changed || a.text == b.text, "'%s' from %s to %s: the text has changed", e->id, ref, other);
  }
  for (uint32_t id = 0; id < IDS; id++)
    CHECK(listed[id] || doc_equal(m->commit[at].docs[id], m->commit[to].docs[id]), "'%s' from %s to %s is not listed",
          ids[id], ref, other);
  rag_diff_free(&diff);
}

static void check_log(model *m, const char *ref, uint32_t at) {
  rag_error err = {0};
  uint64_t below = 0;
  uint32_t page = 1 + pick(50), next = at;
  do {
    rag_commit_info *items = NULL;
    uint32_t count = 0;
    DO(rag_kb_log(m->kb, S(ref), below, page, &items, &count, &below, &err));
    for (uint32_t i = 0; i < count; i++) {
      const commit *want = &m->commit[next];
      CHECK(items[i].id == next, "log of %s: c%u instead of c%u", ref, (unsigned)items[i].id, next);
      CHECK(items[i].parents[0] == want->parents[0] && items[i].parents[1] == want->parents[1], "parents of c%u", next);
      uint32_t documents = 0;
      for (uint32_t id = 0; id < IDS; id++) documents += want->docs[id].text != 0;
      CHECK(items[i].documents == documents, "documents of c%u", next);
      next = want->parents[0];
      rag_commit_info_free(&items[i]);
    }
    rag_free(items);
  } while (below != 0);
  CHECK(next == 0, "log of %s ends before c%u", ref, next);
}

typedef struct oracle_hit {
  uint32_t id, chunk, ordinal;
  float score;
} oracle_hit;

static int compare_hits(const void *a, const void *b) {
  const oracle_hit *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? -1 : 1;
  return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

static void check_search(model *m, const char *ref, uint32_t at, const uint32_t first_chunk[IDS]) {
  rag_error err = {0};
  size_t k = (size_t)(m - models);
  uint32_t dimension = rag_embedder_dimension(embedders[k]), count = 0;
  const char *query = texts[1 + pick(TEXTS - 1)];
  float vector[DIMENSION_MAX];
  oracle_hit want[IDS * CHUNKS_MAX];
  rag_slice query_slice = rag_slice_of(query, strlen(query) / (1 + pick(3)));
  if (query_slice.size == 0) return;
  DO(rag_embedder_embed(embedders[k], RAG_EMBED_QUERY, &query_slice, 1, vector, &err));
  for (uint32_t id = 0; id < IDS; id++) {
    const cut_text *cut = &cuts[k][m->commit[at].docs[id].text];
    for (uint32_t c = 0; m->commit[at].docs[id].text != 0 && c < cut->count; c++)
      want[count++] = (oracle_hit){id, c, first_chunk[id] + c,
                                   rag_vector_score(vector, cut->vectors[c], dimension, RAG_METRIC_COSINE)};
  }
  qsort(want, count, sizeof *want, compare_hits);
  rag_search search = {.mode = RAG_SEARCH_VECTOR,
                       .query = query_slice,
                       .k = 1 + pick(20),
                       .offset = pick(3) ? 0 : pick(10),
                       .at = S(ref),
                       .exact = true,
                       .want_text = true,
                       .want_metadata = true};
  rag_search_result result = {0};
  DO(rag_kb_search(m->kb, &search, &result, &err));
  uint32_t left = count > search.offset ? count - search.offset : 0;
  CHECK(result.commit == at, "search at %s: c%u", ref, (unsigned)result.commit);
  CHECK(result.count == RAG_MIN(left, search.k), "search at %s: %u hits instead of %u", ref, result.count,
        RAG_MIN(left, search.k));
  for (uint32_t i = 0; i < result.count; i++) {
    const rag_hit *hit = &result.hits[i];
    const oracle_hit *w = &want[search.offset + i];
    doc d = m->commit[at].docs[w->id];
    rag_span span = cuts[k][d.text].spans[w->chunk];
    CHECK(rag_slice_equal(hit->document_id, S(ids[w->id])) && hit->chunk == w->ordinal,
          "hit %u at %s: chunk %u of '%.*s'", i, ref, hit->chunk, (int)hit->document_id.size, hit->document_id.data);
    CHECK(hit->score == w->score && hit->start == span.start && hit->end == span.end, "hit %u at %s", i, ref);
    CHECK(rag_slice_equal(hit->text, rag_slice_of(texts[d.text] + span.start, span.end - span.start)), "hit text");
    CHECK(rag_slice_equal(hit->metadata, S(metas[d.meta])), "hit metadata at %s: %.*s", ref, (int)hit->metadata.size,
          hit->metadata.data);
    CHECK(rag_slice_equal(hit->source_uri, S(sources[d.source])), "hit source at %s", ref);
  }
  rag_search_result_free(&result);
}

static void check(model *m) {
  char ref[64];
  uint32_t first_chunk[IDS] = {0};
  uint32_t at = ref_pick(m, ref);
  check_listing(m, ref, at, first_chunk);
  check_get(m, ref, at);
  check_diff(m, ref, at);
  if (pick(4) == 0) check_log(m, ref, at);
  check_search(m, ref, at, first_chunk);
}

// ---------------------------------------------------------------------------------------------- runs

static void run_seed(kb_fixture *f) {
  print_message("RAGD_TEST_SEED=%llu\n", (unsigned long long)seed);
  random_state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
  for (uint32_t k = 0; k < KBS; k++) kb_make(f, &models[k]);
  for (step = 1; step <= STEPS; step++) {
    model *m = &models[pick(8) ? 0 : pick(KBS)];
    uint32_t dice = pick(100);
    if (dice < 45) put_step(m);
    else if (dice < 57) patch_step(m);
    else if (dice < 72) merge_step(m);
    else if (dice < 80) rollback_step(m);
    else if (dice < 96) ref_step(m);
    else if (dice < 99) reopen(f);
    else recreate_step(f, &models[1 + pick(KBS - 1)]);
    check(m);
    if (pick(4) == 0) check(&models[pick(KBS)]);
  }
  for (uint32_t k = 0; k < KBS; k++) rag_ref_drop(models[k].kb);
}

static void random_histories(void **state) {
  kb_fixture *f = *state;
  const char *given = getenv("RAGD_TEST_SEED"), *seconds = getenv("RAGD_TEST_SECONDS");
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
  uint64_t end_ns = rag_clock_monotonic_ns() + (seconds ? strtoull(seconds, NULL, 10) : 0) * UINT64_C(1000000000);
  static const rag_chunking chunkings[KBS] = {
      {RAG_CHUNK_STRUCTURE, 16, 0}, {RAG_CHUNK_FIXED, 16, 5}, {RAG_CHUNK_WHOLE, 16, 0}};
  for (uint32_t k = 0; k < KBS; k++) {
    models[k] = (model){.model = k == 2 ? "hash-64" : "hash-32", .chunking = chunkings[k]};
    snprintf(models[k].name, sizeof models[k].name, "kb%u", k);
    models[k].commit = calloc(COMMITS_MAX, sizeof *models[k].commit);
    assert_non_null(models[k].commit);
  }
  make_texts();
  for (seed = first; seed < first + 5 || rag_clock_monotonic_ns() < end_ns; seed++) {
    run_seed(f);
    if (given && !seconds) break;
    kb_test_close(f); // each seed starts from nothing
    rag_error err = {0};
    OK(rag_os_remove_tree(f->dir, &err));
    OK(rag_os_make_dirs(f->dir, &err));
    kb_test_open(f);
  }
  for (uint32_t k = 0; k < KBS; k++) {
    free(models[k].commit);
    rag_ref_drop(embedders[k]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {KB_TEST(random_histories)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
