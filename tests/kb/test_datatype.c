// Goal: in a kb of bfloat16 the rounded vector is the vector, wherever it is met: a row of 2 bytes a component, every hit,
// every exact score, before a sealing and after, after a restart, a gc, a purge, an export and an import; a kb of float32
// next to it is none the wiser. The setting is fixed, and a record from before there was one is of float32.
// Method: the oracle rounds in doubles, by trying both neighbours, and scores with the kernel; every comparison is of bits.
#include "tests/kb/kb_test.h"

#include "kb/kb_internal.h"

#include <float.h>
#include <math.h>

enum { DIMENSION = 37, DOCUMENTS = 60, SEALED = 53, QUERIES = 5 };

// ---------------------------------------------------------------------------------------------- the oracle

static float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static float nearest_bf16(float x) {
  uint32_t below = to_bits(x) & 0xffff0000u, above = below + 0x10000u; // by magnitude
  if (!isfinite(from_bits(above))) return from_bits(below);
  double down = fabs((double)x - (double)from_bits(below)), up = fabs((double)from_bits(above) - (double)x);
  bool even = (below >> 16) % 2 == 0;
  return from_bits(down < up || (down == up && even) ? below : above);
}

typedef struct oracle {
  rag_metric metric;
  rag_datatype datatype;
  float given[DOCUMENTS][DIMENSION];
  float kept[DOCUMENTS][DIMENSION];                             // what the kb must hold
  float asked[QUERIES][DIMENSION], queries[QUERIES][DIMENSION]; // as given, and as scored
} oracle;

static float next_component(uint64_t *random) { // -1 to 1
  *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (float)((double)(int64_t)*random / 9223372036854775808.0);
}

static void oracle_fill(oracle *o, rag_metric metric, rag_datatype datatype) {
  uint64_t random = 11 + (uint64_t)metric;
  unsigned moved = 0;
  *o = (oracle){.metric = metric, .datatype = datatype};
  for (uint32_t q = 0; q < QUERIES; q++)
    for (uint32_t i = 0; i < DIMENSION; i++) o->asked[q][i] = o->queries[q][i] = next_component(&random);
  for (uint32_t d = 0; d < DOCUMENTS; d++) {
    for (uint32_t i = 0; i < DIMENSION; i++) o->given[d][i] = next_component(&random);
    if (metric == RAG_METRIC_IP && d == 0) { // the ends of the range, both ways of a tie, what is too small to be kept
      static const float odd[] = {FLT_MAX, -FLT_MAX, 0x1.01p0f, 0x1.03p0f, -0x1.01p0f, 0x1p-149f, -0.0f, 0x1.fep-127f};
      memcpy(o->given[d], odd, sizeof odd);
    }
    memcpy(o->kept[d], o->given[d], sizeof o->kept[d]);
    if (metric == RAG_METRIC_COSINE) rag_vector_normalize(o->kept[d], DIMENSION);
    if (datatype == RAG_DATATYPE_FLOAT32) continue;
    double moved_squared = 0, length_squared = 0;
    for (uint32_t i = 0; i < DIMENSION; i++) {
      float rounded = nearest_bf16(o->kept[d][i]);
      double by = (double)rounded - (double)o->kept[d][i];
      moved += by != 0;
      moved_squared += by * by;
      length_squared += (double)rounded * (double)rounded;
      o->kept[d][i] = rounded;
    }
    if (metric == RAG_METRIC_COSINE) // what the documents promise of scores
      assert_true(sqrt(moved_squared) < 0x1p-8 && fabs(sqrt(length_squared) - 1) < 0x1p-8);
  }
  if (datatype == RAG_DATATYPE_BFLOAT16) assert_true(moved > DOCUMENTS * DIMENSION / 2);
  if (metric == RAG_METRIC_COSINE)
    for (uint32_t q = 0; q < QUERIES; q++) rag_vector_normalize(o->queries[q], DIMENSION);
}

static uint32_t document_of(rag_slice id) {
  uint32_t n = UINT32_MAX;
  char text[16];
  snprintf(text, sizeof text, "%.*s", (int)id.size, id.data);
  assert_int_equal(sscanf(text, "d%u", &n), 1);
  assert_true(n < DOCUMENTS);
  return n;
}

// Every document, by exact search: its vector and its score are the oracle's, and the order is theirs.
static void assert_exact(rag_kb *kb, const oracle *o, uint32_t documents) {
  rag_error err = {0};
  for (uint32_t q = 0; q < QUERIES; q++) {
    rag_search_result result = {0};
    rag_search search = {
        .vector = o->asked[q], .vector_dimension = DIMENSION, .k = DOCUMENTS, .exact = true, .want_vector = true};
    OK(rag_kb_search(kb, &search, &result, &err));
    assert_int_equal(result.count, documents);
    for (uint32_t h = 0; h < result.count; h++) {
      const rag_hit *hit = &result.hits[h];
      const float *kept = o->kept[document_of(hit->document_id)];
      assert_memory_equal(hit->vector, kept, sizeof o->kept[0]);
      float score = rag_vector_score(o->queries[q], kept, DIMENSION, o->metric);
      assert_int_equal(to_bits(hit->score), to_bits(score));
      if (h > 0) assert_true(hit->score <= result.hits[h - 1].score);
    }
    rag_search_result_free(&result);
  }
}

// ---------------------------------------------------------------------------------------------- rows

typedef struct vector_row {
  rag_key key;
  uint32_t kb, space, chunk;
  size_t size;
  unsigned char bytes[DIMENSION * sizeof(float)];
} vector_row;

static uint32_t rows_of(kb_fixture *f, rag_kb *kb, vector_row *out, uint32_t room) {
  rag_error err = {0};
  rag_key lower, upper;
  rag_store_iter *it = NULL;
  uint32_t count = 0;
  rag_kb__key_vector(&lower, kb->id, 0, 0);
  rag_kb__key_vector(&upper, kb->id, UINT32_MAX, UINT32_MAX);
  OK(rag_store_iter_open(f->store, NULL, RAG_CF_VECTOR, rag_key_slice(&lower), rag_key_slice(&upper), false, &it,
                         &err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
    rag_reader r = rag_reader_of(key);
    vector_row row = {.kb = rag_read_u32be(&r), .space = rag_read_u32be(&r), .chunk = rag_read_u32be(&r)};
    assert_true(count < room && value.size <= sizeof row.bytes);
    rag_key_init(&row.key);
    rag_key_raw(&row.key, key.data, key.size);
    row.size = value.size;
    memcpy(row.bytes, value.data, value.size);
    out[count++] = row;
  }
  OK(rag_store_iter_status(it, &err));
  rag_store_iter_close(it);
  return count;
}

// Document n is chunk n + 1.
static void assert_rows(kb_fixture *f, rag_kb *kb, const oracle *o, uint32_t documents) {
  static vector_row rows[DOCUMENTS];
  uint32_t count = rows_of(f, kb, rows, DOCUMENTS);
  assert_int_equal(count, documents);
  for (uint32_t i = 0; i < count; i++) {
    const float *kept = o->kept[rows[i].chunk - 1];
    if (o->datatype == RAG_DATATYPE_FLOAT32) {
      assert_int_equal(rows[i].size, 4 * DIMENSION);
      assert_memory_equal(rows[i].bytes, kept, 4 * DIMENSION);
      continue;
    }
    assert_int_equal(rows[i].size, 2 * DIMENSION);
    for (uint32_t c = 0; c < DIMENSION; c++) {
      uint32_t bits = (uint32_t)rows[i].bytes[2 * c] << 16 | (uint32_t)rows[i].bytes[2 * c + 1] << 24;
      assert_int_equal(bits, to_bits(kept[c]));
    }
  }
}

// ---------------------------------------------------------------------------------------------- a kb

static rag_kb *create(kb_fixture *f, const char *name, const char *model, rag_metric metric, rag_datatype datatype) {
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb *kb = NULL;
  rag_kb_config_init(&config);
  assert_int_equal(config.datatype, RAG_DATATYPE_FLOAT32); // by default
  snprintf(config.name, sizeof config.name, "%s", name);
  snprintf(config.model, sizeof config.model, "%s", model);
  config.dimension = DIMENSION;
  config.metric = metric;
  config.datatype = datatype;
  OK(rag_kbs_create(f->kbs, &config, &write, &kb, &err));
  return kb;
}

static void put_some(rag_kb *kb, const oracle *o, uint32_t from, uint32_t count, uint64_t unchanged) {
  rag_error err = {0};
  static char ids[DOCUMENTS][16];
  static rag_document_input inputs[DOCUMENTS];
  rag_write write = {0};
  rag_write_result result;
  for (uint32_t i = 0; i < count; i++) {
    snprintf(ids[i], sizeof ids[i], "d%u", from + i);
    inputs[i] = (rag_document_input){.id = S(ids[i]), .vector = o->given[from + i], .vector_dimension = DIMENSION};
  }
  rag_put put = {.documents = inputs, .document_count = count};
  OK(rag_kb_put(kb, &write, &put, &result, NULL, &err));
  assert_int_equal(result.added, count - unchanged);
  assert_int_equal(result.unchanged, unchanged);
}

static void seal(kb_fixture *f, rag_kb *kb) {
  rag_error err = {0};
  rag_kb_index info;
  OK(rag_jobs_run_foreground(f->jobs, NULL, NULL, &err));
  OK(rag_kb_index_info(kb, &info, &err));
  assert_int_equal(info.count, 1);
  assert_true(info.rows >= SEALED && info.tail_rows < DOCUMENTS - SEALED + 1);
  rag_kb_index_free(&info);
}

// A segment, and a tail that is too short for another.
static void put_all(kb_fixture *f, rag_kb *kb, const oracle *o) {
  put_some(kb, o, 0, SEALED, 0);
  seal(f, kb);
  put_some(kb, o, SEALED, DOCUMENTS - SEALED, 0);
}

static rag_datatype datatype_of(rag_kb *kb) {
  rag_error err = {0};
  rag_kb_info info = {0};
  OK(rag_kb_describe(kb, &info, &err));
  rag_datatype datatype = info.config.datatype;
  rag_kb_info_free(&info);
  return datatype;
}

// ---------------------------------------------------------------------------------------------- the vector is one

static void every_place_has_the_same_bits(void **state) {
  kb_fixture *f = *state;
  static const rag_metric metrics[] = {RAG_METRIC_COSINE, RAG_METRIC_IP, RAG_METRIC_L2};
  static const rag_datatype datatypes[] = {RAG_DATATYPE_FLOAT32, RAG_DATATYPE_BFLOAT16};
  rag_error err = {0};
  static oracle o;
  for (size_t m = 0; m < RAG_COUNT_OF(metrics); m++) {
    for (size_t t = 0; t < RAG_COUNT_OF(datatypes); t++) {
      char name[32];
      snprintf(name, sizeof name, "%s-%s", rag_metric_name(metrics[m]), rag_datatype_name(datatypes[t]));
      oracle_fill(&o, metrics[m], datatypes[t]);
      rag_kb *kb = create(f, name, "", metrics[m], datatypes[t]);
      put_some(kb, &o, 0, SEALED, 0);
      assert_exact(kb, &o, SEALED); // from the tail, as the commit appended it
      rag_ref_drop(kb);
      kb_test_reopen(f);
      kb = kb_test_get(f, name);
      assert_int_equal(datatype_of(kb), datatypes[t]);
      assert_exact(kb, &o, SEALED); // from the tail, as it is read from the rows
      seal(f, kb);
      assert_exact(kb, &o, SEALED);           // from a segment
      put_some(kb, &o, 0, DOCUMENTS, SEALED); // what is unchanged is known by what was given, not by what is kept
      assert_exact(kb, &o, DOCUMENTS);
      rag_ref_drop(kb);
      kb_test_reopen(f);
      kb = kb_test_get(f, name);
      assert_exact(kb, &o, DOCUMENTS);
      uint64_t job = 0;
      OK(rag_kb_index_compact(kb, &job, &err));
      (void)kb_test_job(f, job);
      assert_exact(kb, &o, DOCUMENTS);
      assert_rows(f, kb, &o, DOCUMENTS);
      rag_ref_drop(kb);
    }
  }
}

// One text in kbs of both datatypes: the cache of embeddings is shared among those of one.
static void models_vectors_are_rounded_and_cached_apart(void **state) {
  kb_fixture *f = *state;
  static const struct {
    const char *name;
    rag_datatype datatype;
    bool reused;
  } kbs[] = {{"full", RAG_DATATYPE_FLOAT32, false},
             {"half", RAG_DATATYPE_BFLOAT16, false},
             {"half-again", RAG_DATATYPE_BFLOAT16, true},
             {"full-again", RAG_DATATYPE_FLOAT32, true}};
  rag_error err = {0};
  rag_embedder *embedder = NULL;
  float model[32], rounded[32];
  rag_slice text = S("granite lantern orchard");
  OK(rag_embedder_open(S("hash-32"), &embedder, &err));
  OK(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, &text, 1, model, &err));
  rag_ref_drop(embedder);
  for (size_t i = 0; i < 32; i++) rounded[i] = nearest_bf16(model[i]);
  assert_memory_not_equal(model, rounded, sizeof model);
  for (size_t i = 0; i < RAG_COUNT_OF(kbs); i++) {
    rag_kb *kb = create(f, kbs[i].name, "hash-32", RAG_METRIC_COSINE, kbs[i].datatype);
    rag_document_input in = {.id = S("a"), .text = text};
    rag_write_result put = kb_test_put_input(kb, NULL, &in);
    assert_int_equal(put.chunks_reused, kbs[i].reused);
    assert_int_equal(put.chunks_embedded, !kbs[i].reused);
    for (int opened = 0; opened < 2; opened++) {
      rag_search_result result = {0};
      rag_search search = {.query = text, .mode = RAG_SEARCH_VECTOR, .k = 1, .exact = true, .want_vector = true};
      OK(rag_kb_search(kb, &search, &result, &err));
      assert_int_equal(result.count, 1);
      assert_memory_equal(result.hits[0].vector, kbs[i].datatype == RAG_DATATYPE_FLOAT32 ? model : rounded,
                          sizeof model);
      rag_search_result_free(&result);
      rag_ref_drop(kb);
      kb_test_reopen(f);
      kb = kb_test_get(f, kbs[i].name);
    }
    rag_ref_drop(kb);
  }
}

// What is picked for being unlike the others follows from the vectors that are kept, in whatever form: a kb of float32 that
// was given the rounded ones picks the same.
static void diversity_is_of_what_is_kept(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  static oracle halves, floats;
  oracle_fill(&halves, RAG_METRIC_L2, RAG_DATATYPE_BFLOAT16);
  floats = halves;
  floats.datatype = RAG_DATATYPE_FLOAT32;
  memcpy(floats.given, halves.kept, sizeof floats.given);
  rag_kb *kbs[2] = {create(f, "halves", "", RAG_METRIC_L2, RAG_DATATYPE_BFLOAT16),
                    create(f, "floats", "", RAG_METRIC_L2, RAG_DATATYPE_FLOAT32)};
  put_all(f, kbs[0], &halves);
  put_all(f, kbs[1], &floats);
  uint32_t moved = 0;
  for (uint32_t q = 0; q < QUERIES; q++) {
    rag_search_result found[2] = {0}, plain = {0};
    rag_search search = {.vector = halves.asked[q], .vector_dimension = DIMENSION, .k = 12};
    OK(rag_kb_search(kbs[0], &search, &plain, &err));
    search.has_mmr = true;
    search.mmr_lambda = 0.3f;
    for (int i = 0; i < 2; i++) OK(rag_kb_search(kbs[i], &search, &found[i], &err));
    assert_int_equal(found[0].count, 12);
    assert_int_equal(found[1].count, 12);
    for (uint32_t h = 0; h < 12; h++) {
      assert_int_equal(document_of(found[0].hits[h].document_id), document_of(found[1].hits[h].document_id));
      moved += document_of(found[0].hits[h].document_id) != document_of(plain.hits[h].document_id);
    }
    for (int i = 0; i < 2; i++) rag_search_result_free(&found[i]);
    rag_search_result_free(&plain);
  }
  assert_true(moved > QUERIES); // it does pick others
  for (int i = 0; i < 2; i++) rag_ref_drop(kbs[i]);
}

// ---------------------------------------------------------------------------------------------- rows that go

static void gc_and_purge_leave_the_others(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  static oracle o;
  uint64_t job = 0;
  char removed[64];
  oracle_fill(&o, RAG_METRIC_COSINE, RAG_DATATYPE_BFLOAT16);
  rag_kb *kb = create(f, "docs", "", o.metric, o.datatype);
  put_all(f, kb, &o);
  for (uint32_t d = DOCUMENTS - 10; d < DOCUMENTS; d++) {
    char id[16];
    snprintf(id, sizeof id, "d%u", d);
    kb_test_delete_on(kb, NULL, id);
  }
  rag_gc_options options = {.keep_commits = 1};
  OK(rag_kb_gc(kb, &options, &job, &err));
  snprintf(removed, sizeof removed, "\"vector_bytes_removed\":%d", 10 * 2 * DIMENSION);
  assert_non_null(strstr(kb_test_job(f, job), removed));
  assert_rows(f, kb, &o, DOCUMENTS - 10);
  assert_exact(kb, &o, DOCUMENTS - 10);
  rag_slice ids[2] = {S("d49"), S("d48")}; // sealed
  OK(rag_kb_purge(kb, ids, 2, &job, &err));
  (void)kb_test_job(f, job);
  for (int opened = 0; opened < 2; opened++) {
    assert_rows(f, kb, &o, DOCUMENTS - 12);
    assert_exact(kb, &o, DOCUMENTS - 12);
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "docs");
  }
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- export, import

typedef struct stream {
  rag_buf bytes;
  size_t at;
} stream;

static rag_status to_stream(void *ctx, const void *data, size_t size, rag_error *err) {
  stream *s = ctx;
  rag_buf_append(&s->bytes, data, size);
  return rag_buf_check(&s->bytes, err);
}

static rag_status from_stream(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  stream *s = ctx;
  RAG_UNUSED(err);
  *out_size = RAG_MIN(size, s->bytes.size - s->at);
  if (*out_size > 0) memcpy(data, s->bytes.data + s->at, *out_size);
  s->at += *out_size;
  return RAG_OK;
}

static void an_export_carries_the_setting(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  static oracle o;
  stream half = {0}, full = {0};
  rag_kb *copy = NULL;
  oracle_fill(&o, RAG_METRIC_L2, RAG_DATATYPE_FLOAT32);
  rag_kb *kb = create(f, "full", "", o.metric, o.datatype);
  put_all(f, kb, &o);
  OK(rag_kb_export(kb, to_stream, &full, &err));
  rag_ref_drop(kb);
  oracle_fill(&o, RAG_METRIC_L2, RAG_DATATYPE_BFLOAT16);
  kb = create(f, "half", "", o.metric, o.datatype);
  put_all(f, kb, &o);
  OK(rag_kb_export(kb, to_stream, &half, &err));
  rag_ref_drop(kb);
  assert_true(full.bytes.size - half.bytes.size >= 2 * DIMENSION * DOCUMENTS - 16);
  OK(rag_kbs_import(f->kbs, S("copy"), from_stream, &half, &copy, &err));
  for (int opened = 0; opened < 2; opened++) {
    assert_int_equal(datatype_of(copy), RAG_DATATYPE_BFLOAT16);
    assert_rows(f, copy, &o, DOCUMENTS);
    assert_exact(copy, &o, DOCUMENTS);
    rag_ref_drop(copy);
    kb_test_reopen(f);
    copy = kb_test_get(f, "copy");
  }
  seal(f, copy);
  assert_exact(copy, &o, DOCUMENTS);
  // And what is put into the copy is rounded as it was in the original.
  rag_document_input in = {.id = S("d0"), .vector = o.given[1], .vector_dimension = DIMENSION};
  (void)kb_test_put_input(copy, NULL, &in);
  memcpy(o.kept[0], o.kept[1], sizeof o.kept[0]);
  assert_exact(copy, &o, DOCUMENTS);
  rag_ref_drop(copy);
  rag_buf_free(&full.bytes);
  rag_buf_free(&half.bytes);
}

// ---------------------------------------------------------------------------------------------- the check

typedef struct change {
  rag_slice key, value;
} change;

static rag_status change_apply(void *ctx, rag_txn *txn, rag_error *err) {
  const change *c = ctx;
  RAG_UNUSED(err);
  rag_txn_put(txn, RAG_CF_VECTOR, c->key, c->value);
  return RAG_OK;
}

static void change_row(kb_fixture *f, const rag_key *key, const void *bytes, size_t size) {
  rag_error err = {0};
  change c = {rag_key_slice(key), rag_slice_of(bytes, size)};
  OK(rag_store_commit(f->store, &(rag_commit_request){.apply = change_apply, .ctx = &c}, &err));
}

static void on_finding(void *ctx, rag_check_level level, const char *kb, const char *text) {
  RAG_UNUSED(level);
  RAG_UNUSED(kb);
  snprintf(ctx, 500, "%s", text);
}

static void assert_check(kb_fixture *f, const char *says) { // NULL: finds nothing
  rag_error err = {0};
  rag_check_result result = {0};
  char text[500] = "";
  rag_check_options options = {.report = on_finding, .ctx = text};
  OK(rag_kbs_check(f->kbs, &options, &result, &err));
  if (says == NULL && result.errors + result.notes > 0) fail_msg("the check says: %s", text);
  if (says != NULL && (result.errors != 1 || strstr(text, says) == NULL))
    fail_msg("%u errors, the last: '%s'", (unsigned)result.errors, text);
}

static void the_check_knows_the_rows(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  static oracle o;
  static vector_row rows[DOCUMENTS];
  unsigned char wrong[4 * DIMENSION] = {0};
  char says[64];
  oracle_fill(&o, RAG_METRIC_COSINE, RAG_DATATYPE_BFLOAT16);
  rag_kb *kb = create(f, "docs", "", o.metric, o.datatype);
  rag_kb *cached = create(f, "cached", "hash-32", RAG_METRIC_COSINE, RAG_DATATYPE_BFLOAT16); // has a row in CACHE
  kb_test_put(cached, "a", "some words");
  rag_ref_drop(cached);
  put_all(f, kb, &o);
  assert_check(f, NULL);
  assert_int_equal(rows_of(f, kb, rows, DOCUMENTS), DOCUMENTS);
  const vector_row *row = &rows[9]; // sealed
  memcpy(wrong, row->bytes, row->size);
  change_row(f, &row->key, wrong, 4 * DIMENSION); // as long as one of float32
  snprintf(says, sizeof says, "chunk 10 has %d bytes, not %d", 4 * DIMENSION, 2 * DIMENSION);
  assert_check(f, says);
  wrong[6] ^= 1; // the lowest bit that is kept
  change_row(f, &row->key, wrong, row->size);
  assert_check(f, "chunk 10 is another one in the index's segment");
  wrong[6] ^= 1;
  change_row(f, &row->key, wrong, row->size);
  assert_check(f, NULL);
  row = &rows[DOCUMENTS - 1];
  memcpy(wrong, row->bytes, row->size);
  wrong[0] = 0x80; // infinite
  wrong[1] = 0x7f;
  change_row(f, &row->key, wrong, row->size);
  assert_check(f, "has a number that is not finite");
  change_row(f, &row->key, wrong, row->size - 1);
  rag_ref_drop(kb);
  kb_test_close(f); // a row of another size is never read as a vector
  f->kbs_options.load_at_open = false;
  kb_test_open(f);
  kb = kb_test_get(f, "docs");
  FAILS(rag_kb_load(kb, &err), RAG_DATA_LOSS, "vector");
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- the setting

static void the_setting_is_fixed(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  static const rag_datatype datatypes[] = {RAG_DATATYPE_FLOAT32, RAG_DATATYPE_BFLOAT16};
  for (size_t i = 0; i < 2; i++) {
    rag_kb *kb = create(f, i ? "half" : "full", "hash-32", RAG_METRIC_COSINE, datatypes[i]);
    rag_kb_info info = {0};
    OK(rag_kb_describe(kb, &info, &err));
    info.config.datatype = datatypes[1 - i];
    FAILS_FIELD(rag_kbs_update(f->kbs, &info.config, &err), RAG_INVALID_ARGUMENT, "index.datatype",
                "cannot be changed");
    assert_non_null(strstr(err.message, rag_datatype_name(datatypes[i])));
    assert_non_null(strstr(err.message, rag_datatype_name(datatypes[1 - i])));
    info.config.datatype = (rag_datatype)2;
    FAILS_FIELD(rag_kbs_update(f->kbs, &info.config, &err), RAG_INVALID_ARGUMENT, "index.datatype",
                "'float32' or 'bfloat16'");
    info.config.datatype = datatypes[i];
    info.config.target_recall = 0.9;
    OK(rag_kbs_update(f->kbs, &info.config, &err));
    rag_kb_info_free(&info);
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, i ? "half" : "full");
    OK(rag_kb_describe(kb, &info, &err));
    assert_int_equal(info.config.datatype, datatypes[i]);
    assert_true(info.config.target_recall == 0.9);
    rag_kb_info_free(&info);
    rag_ref_drop(kb);
  }
  rag_kb_config config;
  rag_write write = {0};
  rag_kb *kb = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "other");
  config.datatype = (rag_datatype)2;
  FAILS_FIELD(rag_kbs_create(f->kbs, &config, &write, &kb, &err), RAG_INVALID_ARGUMENT, "index.datatype",
              "'float32' or 'bfloat16'");
}

// The record of a kb "docs" of 3 client components, ip, as it was written before there were datatypes. What stands after
// MARK was itself not there at first.
static const unsigned char old_record[] = {
    1,   7,   4,   84,  13, 'c', 'l', 'i', 'e', 'n',  't',  '-', '7', '-', '3',          '-', 'i', 'p', 4,
    'd', 'o', 'c', 's', 1,  'x', 0,   3,   1,   0,    128,  2,   0,   2,   'e',          'n', 4,   'a', 'u',
    't', 'o', 0,   0,   0,  0,   0,   0,   0,   0xe0, 0x3f, 77,  5,   6,   /* MARK */ 0, 1,   'p', 9};
enum { OLDEST_BYTES = sizeof old_record - 4 };

static void records_from_before_are_of_float32(void **state) {
  RAG_UNUSED(state);
  rag_error err = {0};
  rag_kb__record record;
  rag_buf out = {0};
  for (size_t size = OLDEST_BYTES; size <= sizeof old_record; size += sizeof old_record - OLDEST_BYTES) {
    OK(rag_kb__decode_record(rag_slice_of(old_record, size), &record, &err));
    assert_int_equal(record.config.datatype, RAG_DATATYPE_FLOAT32);
    assert_string_equal(record.config.name, "docs");
    assert_int_equal(record.config.memory_bytes_max, 77);
    assert_int_equal(record.config.fields_values_max, size == sizeof old_record ? 9 : 0);
    if (size == sizeof old_record) break;
    rag_kb_config_free(&record.config);
  }
  rag_kb__encode_record(&record, &out); // and one of float32 is what it always was, which older programs read
  assert_int_equal(out.size, sizeof old_record);
  assert_memory_equal(out.data, old_record, sizeof old_record);

  rag_buf_clear(&out);
  record.config.datatype = RAG_DATATYPE_BFLOAT16;
  rag_kb__encode_record(&record, &out);
  rag_kb_config_free(&record.config);
  assert_int_equal(out.data[0], 2); // a format that older programs refuse, as they would take the rows for damaged
  OK(rag_kb__decode_record(rag_buf_slice(&out), &record, &err));
  assert_int_equal(record.config.datatype, RAG_DATATYPE_BFLOAT16);
  assert_int_equal(record.config.fields_values_max, 9);
  rag_kb_config_free(&record.config);
  FAILS(rag_kb__decode_record(rag_slice_of(out.data, out.size - 1), &record, &err), RAG_DATA_LOSS, "cannot be decoded");
  out.data[out.size - 1] = 2; // of a later program
  FAILS(rag_kb__decode_record(rag_buf_slice(&out), &record, &err), RAG_DATA_LOSS, "cannot be decoded");
  out.data[0] = 3;
  FAILS(rag_kb__decode_record(rag_buf_slice(&out), &record, &err), RAG_DATA_LOSS, "unknown format");
  rag_buf_free(&out);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(every_place_has_the_same_bits),
      KB_TEST(models_vectors_are_rounded_and_cached_apart),
      KB_TEST(diversity_is_of_what_is_kept),
      KB_TEST(gc_and_purge_leave_the_others),
      KB_TEST(an_export_carries_the_setting),
      KB_TEST(the_check_knows_the_rows),
      KB_TEST(the_setting_is_fixed),
      cmocka_unit_test(records_from_before_are_of_float32),
  };
  return cmocka_run_group_tests_name("kb_datatype", tests, NULL, NULL);
}
