// Goal: every bad input of a put is refused with the field at fault and what to change, and leaves nothing behind; every
// limit takes what is at it and nothing past it; expect_parent names exactly the documents that both sides touched; an
// idempotency key gives the first answer again and no other.
// Method: tables of inputs; the footprint of the store before and after; the clock is set where time matters.
#include "kb_test.h"

#include <math.h>

#define NOW_US INT64_C(1700000000000000)

static char *text_of(size_t size, char fill) { // free() it
  char *text = malloc(size + 1);
  assert_non_null(text);
  memset(text, fill, size);
  text[size] = '\0';
  return text;
}

static rag_kb *create_with(kb_fixture *f, const char *name, const char *model, uint32_t dimension, rag_metric metric,
                           rag_chunking chunking) {
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb *kb = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "%s", name);
  snprintf(config.model, sizeof config.model, "%s", model);
  config.dimension = dimension;
  config.metric = metric;
  config.chunking = chunking;
  OK(rag_kbs_create(f->kbs, &config, &write, &kb, &err));
  return kb;
}

// ---------------------------------------------------------------------------------------------- bad inputs

typedef struct refusal {
  rag_document_input document;
  const char *field, *part; // after "documents[1]"
} refusal;

// Each among good documents: the call is refused as a whole.
static void assert_refused(kb_fixture *f, rag_kb *kb, const refusal *refusals, size_t count) {
  rag_error err = {0};
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  for (size_t i = 0; i < count; i++) {
    const float v[4] = {1, 2, 3, 4};
    bool vectors = kb_test_describe(kb).id != 1;
    rag_document_input documents[] = {
        {.id = S("good"), .text = S("good")},
        refusals[i].document,
        {.id = S("fine"), .text = S("fine"), .vector = vectors ? v : NULL, .vector_dimension = vectors ? 4 : 0}};
    rag_put put = {.documents = documents, .document_count = 3};
    rag_write write = {0};
    rag_write_result r = {.commit = 77};
    char field[RAG_ERROR_FIELD_MAX];
    snprintf(field, sizeof field, "documents[1]%s", refusals[i].field);
    FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, field, refusals[i].part);
    assert_int_equal(r.commit, 77); // the result stays untouched
  }
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
  assert_null(kb_test_text(kb, "", "good"));
}

static void bad_documents_are_refused(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  const float v32[32] = {1};
  const rag_slice bad = S("ok so far \xc3\x28");
  rag_chunk_input empty_chunk = {.text = S(" \n")}, bad_text = {.text = bad}, vector_chunk = {S("x"), v32, 32, {0}},
                  bad_metadata = {.text = S("x"), .metadata = S("{\"k\":\"\xff\"}")},
                  no_object = {.text = S("x"), .metadata = S("12")};
  const refusal refusals[] = {
      {{.text = S("x")}, ".id", "is empty"},
      {{.id = rag_slice_of("a\0b", 3), .text = S("x")}, ".id", "NUL"},
      {{.id = bad, .text = S("x")}, ".id", "UTF-8 at byte 10"},
      {{.id = S("x"), .text = bad}, ".text", "UTF-8 at byte 10"},
      {{.id = S("x"), .text = S("x"), .title = bad}, ".title", "UTF-8"},
      {{.id = S("x"), .text = S("x"), .source_uri = bad}, ".source_uri", "UTF-8"},
      {{.id = S("x"), .text = S("x"), .metadata = S("{\"\xed\xa0\x80\":1}")}, ".metadata", "UTF-8"},
      {{.id = S("x"), .text = S("x"), .metadata = S("[]")}, ".metadata", "JSON object"},
      {{.id = S("x")}, "", "nothing in it"},
      {{.id = S("x"), .text = S(" \t\r\n")}, "", "nothing in it"},
      {{.id = S("x"), .text = S("\u00a0\u3000\v\f")}, "", "nothing in it"}, // white space too
      {{.id = S("x"), .title = S("a title alone")}, "", "nothing in it"},
      {{.id = S("good"), .text = S("again")}, ".id", "twice"},
      {{.id = S("x"), .vector = v32, .vector_dimension = 32}, ".vector", "hash-32"},
      {{.id = S("x"), .chunks = &vector_chunk, .chunk_count = 1}, ".chunks[0].vector", "hash-32"},
      {{.id = S("x"), .chunks = &empty_chunk, .chunk_count = 1}, ".chunks[0]", "neither text nor vector"},
      {{.id = S("x"), .chunks = &bad_text, .chunk_count = 1}, ".chunks[0].text", "UTF-8"},
      {{.id = S("x"), .chunks = &bad_metadata, .chunk_count = 1}, ".chunks[0].metadata", "UTF-8"},
      {{.id = S("x"), .chunks = &no_object, .chunk_count = 1}, ".chunks[0].metadata", "JSON object"},
  };
  assert_refused(f, kb, refusals, RAG_COUNT_OF(refusals));
  rag_ref_drop(kb);
}

static void bad_vectors_are_refused(void **state) {
  kb_fixture *f = *state;
  rag_kb *first = kb_test_new(f); // takes number 1: see assert_refused
  rag_kb *kb = create_with(f, "vectors", "", 4, RAG_METRIC_COSINE, rag_chunking_default());
  const float good[5] = {1, 2, 3, 4, 5}, nan4[4] = {1, NAN, 3, 4}, inf4[4] = {1, 2, 3, -INFINITY}, zero[4] = {0};
  rag_chunk_input chunks[] = {{.text = S("ok")}, {.vector = nan4, .vector_dimension = 4}};
  rag_chunk_input short_one = {.vector = good, .vector_dimension = 3};
  const refusal refusals[] = {
      {{.id = S("x"), .vector = good, .vector_dimension = 5}, ".vector", "5 components"},
      {{.id = S("x"), .vector = good, .vector_dimension = 3}, ".vector", "dimension 4"},
      {{.id = S("x"), .vector = good, .vector_dimension = 0}, ".vector", "0 components"},
      {{.id = S("x"), .vector = nan4, .vector_dimension = 4}, ".vector", NULL},
      {{.id = S("x"), .vector = inf4, .vector_dimension = 4}, ".vector", NULL},
      {{.id = S("x"), .vector = zero, .vector_dimension = 4}, ".vector", "zero"},
      {{.id = S("x"), .chunks = chunks, .chunk_count = 2}, ".chunks[1].vector", NULL},
      {{.id = S("x"), .chunks = &short_one, .chunk_count = 1}, ".chunks[0].vector", "3 components"},
      {{.id = S("x"), .vector = good, .vector_dimension = 4, .chunks = chunks, .chunk_count = 1}, ".vector", "both"},
      {{.id = S("x")}, "", "nothing in it"},
  };
  assert_refused(f, kb, refusals, RAG_COUNT_OF(refusals));
  rag_ref_drop(kb);
  rag_ref_drop(first);
}

static void bad_calls_are_refused(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_write_result r = {0};
  rag_document_input one = {.id = S("a"), .text = S("a")};
  kb_test_tag(kb, "fixed", "main");
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  rag_write write = {0};
  rag_slice ids[] = {S("b"), S("a"), S("b")};
  rag_put put = {.documents = &one, .document_count = 1, .delete_ids = ids, .delete_count = 2};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "delete_ids[1]",
              "both put and deleted");
  put = (rag_put){.delete_ids = ids, .delete_count = 3};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "delete_ids[2]", "twice");
  ids[1] = S("");
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "delete_ids[1]", "1 to 512");
  put = (rag_put){.documents = &one, .document_count = 1};
  write.branch = S("nowhere");
  FAILS(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_NOT_FOUND, "nowhere");
  write.branch = S("fixed");
  FAILS(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_FAILED_PRECONDITION, "is a tag");
  write.branch = S("Not A Name");
  FAILS(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, NULL);
  write = (rag_write){.message = S("\xff")};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "message", "UTF-8");
  write = (rag_write){.author = S("\xff")};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "author", "UTF-8");
  write = (rag_write){.expect_parent = S("c9")};
  FAILS(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_NOT_FOUND, "c9");
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- limits

static void limits_of_a_document(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = create_with(f, "vectors", "", 4, RAG_METRIC_COSINE, (rag_chunking){.method = RAG_CHUNK_WHOLE});
  enum { ID, TEXT, TITLE, METADATA, URI, MESSAGE, AUTHOR, KEY, CHUNK_METADATA, FIELDS };
  static const struct {
    size_t max;
    const char *field;
  } limits[FIELDS] = {
      {RAG_DOCUMENT_ID_BYTES_MAX, "documents[0].id"},
      {RAG_DOCUMENT_TEXT_BYTES_MAX, "documents[0].text"},
      {RAG_DOCUMENT_TITLE_BYTES_MAX, "documents[0].title"},
      {RAG_DOCUMENT_METADATA_BYTES_MAX, "documents[0].metadata"},
      {RAG_DOCUMENT_URI_BYTES_MAX, "documents[0].source_uri"},
      {RAG_COMMIT_MESSAGE_BYTES_MAX, "message"},
      {RAG_COMMIT_AUTHOR_BYTES_MAX, "author"},
      {RAG_IDEMPOTENCY_KEY_BYTES_MAX, "idempotency_key"},
      {RAG_DOCUMENT_METADATA_BYTES_MAX, "documents[0].chunks[0].metadata"},
  };
  for (int i = 0; i < FIELDS; i++) {
    char *text = text_of(limits[i].max + 1, 'x');
    memcpy(text, "{\"", 2); // metadata must be JSON: {"xxx...":1}
    for (size_t over = 0; over < 2; over++) {
      rag_slice value = rag_slice_of(text, limits[i].max + over);
      rag_document_input in = {.id = S("small"), .text = S("small")};
      rag_chunk_input chunk = {.text = S("small")};
      rag_write write = {0};
      memcpy(text + limits[i].max - 4, "xxxx", 4);
      memcpy(text + limits[i].max + over - 4, "\":1}", 4);
      if (i == ID) in.id = value;
      if (i == TEXT) in.text = value;
      if (i == TITLE) in.title = value;
      if (i == METADATA) in.metadata = value;
      if (i == URI) in.source_uri = value;
      if (i == MESSAGE) write.message = value;
      if (i == AUTHOR) write.author = value;
      if (i == KEY) write.idempotency_key = value;
      if (i == CHUNK_METADATA) {
        chunk.metadata = value;
        in.chunks = &chunk;
        in.chunk_count = 1;
      }
      kb_test_footprint before = kb_test_footprint_of(f, kb);
      rag_put put = {.documents = &in, .document_count = 1};
      rag_write_result r = {0};
      if (over == 0) {
        OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
        rag_document document = {0};
        OK(rag_kb_document_get(kb, S(""), in.id, &document, &err));
        assert_true(rag_slice_equal(document.text, in.text));
        assert_true(rag_slice_equal(document.title, in.title));
        assert_true(rag_slice_equal(document.metadata, in.metadata));
        assert_true(rag_slice_equal(document.source_uri, in.source_uri));
        rag_document_free(&document);
      } else {
        FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, limits[i].field, "at most");
        kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
      }
      text[limits[i].max + over - 1] = 'x';
    }
    free(text);
  }
  rag_ref_drop(kb);
}

static void limits_of_chunks(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_kb *vectors = create_with(f, "vectors", "", 1, RAG_METRIC_IP, rag_chunking_default());
  uint32_t max = RAG_DOCUMENT_CHUNKS_MAX;
  const float v = 1;
  rag_chunk_input *chunks = calloc(max + 1, sizeof *chunks);
  assert_non_null(chunks);
  for (uint32_t i = 0; i <= max; i++) chunks[i] = (rag_chunk_input){.vector = &v, .vector_dimension = 1};
  rag_document_input in = {.id = S("a"), .chunks = chunks, .chunk_count = max};
  rag_put put = {.documents = &in, .document_count = 1};
  rag_write write = {0};
  rag_write_result r = {0};
  OK(rag_kb_put(vectors, &write, &put, &r, NULL, &err));
  assert_int_equal(r.chunks_added, max);
  in.chunk_count++;
  FAILS_FIELD(rag_kb_put(vectors, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "documents[0].chunks", "65536");
  free(chunks);

  // A text that the chunker cuts into too many, and one that is too large to embed whole.
  rag_kb_info info = {0};
  OK(rag_kb_describe(kb, &info, &err));
  info.config.chunking = (rag_chunking){.method = RAG_CHUNK_FIXED, .max_tokens = 16};
  OK(rag_kbs_update(f->kbs, &info.config, &err));
  size_t size = (size_t)max * 16 * 2 + 2;
  char *text = text_of(size, 'x');
  for (size_t i = 1; i < size; i += 2) text[i] = ' ';
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  rag_document_input two[] = {{.id = S("ok"), .text = S("ok")}, {.id = S("b"), .text = rag_slice_of(text, size)}};
  put = (rag_put){.documents = two, .document_count = 2};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "documents[1].text", "max_tokens");
  free(text);
  info.config.chunking = (rag_chunking){.method = RAG_CHUNK_WHOLE};
  FAILS(rag_kbs_update(f->kbs, &info.config, &err), RAG_ABORTED, "changed meanwhile"); // described before the update above
  info.config.generation = 0;
  OK(rag_kbs_update(f->kbs, &info.config, &err));
  rag_kb_info_free(&info);
  before.bytes = kb_test_footprint_of(f, kb).bytes;
  before.groups = kb_test_footprint_of(f, kb).groups;
  text = text_of(RAG_EMBED_TEXT_BYTES_MAX + 1, ' ');
  text[0] = text[RAG_EMBED_TEXT_BYTES_MAX] = 'x';
  two[1].text = rag_slice_of(text, RAG_EMBED_TEXT_BYTES_MAX + 1);
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "documents[1].text", "bytes");
  rag_chunk_input large[] = {{.text = S("small")}, {.text = two[1].text}};
  two[1] = (rag_document_input){.id = S("b"), .chunks = large, .chunk_count = 2};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "documents[1].chunks[1].text",
              "bytes");
  free(text);
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
  rag_ref_drop(vectors);
  rag_ref_drop(kb);
}

static void limits_of_a_call(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  uint32_t max = RAG_PUT_DOCUMENTS_MAX;
  rag_slice *ids = calloc(max, sizeof *ids);
  char *names = malloc((size_t)max * 12);
  assert_true(ids != NULL && names != NULL);
  for (uint32_t i = 0; i < max; i++) {
    snprintf(names + (size_t)i * 12, 12, "id%u", i);
    ids[i] = S(names + (size_t)i * 12);
  }
  rag_document_input two[] = {{.id = S("a"), .text = S("a")}, {.id = S("b"), .text = S("b")}};
  rag_put put = {.documents = two, .document_count = 1, .delete_ids = ids, .delete_count = max - 1};
  rag_write write = {0};
  rag_write_result r = {0};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_int_equal(r.missing, max - 1);
  assert_int_equal(r.added, 1);
  put.document_count = 2;
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "documents", "100000");
  char *id = text_of(RAG_DOCUMENT_ID_BYTES_MAX + 1, 'i');
  ids[1] = rag_slice_of(id, RAG_DOCUMENT_ID_BYTES_MAX + 1);
  put = (rag_put){.delete_ids = ids, .delete_count = 2};
  FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_INVALID_ARGUMENT, "delete_ids[1]", "512");
  ids[1].size--;
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_int_equal(r.missing, 2);
  free(id);
  free(ids);
  free(names);
  rag_ref_drop(kb);
}

// An index that is full refuses the call as a whole: also its metadata changes, and the numbers it would have used.
static void memory_limit(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb *kb = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "small");
  snprintf(config.model, sizeof config.model, "hash-384");
  config.memory_bytes_max = 4u << 20;
  OK(rag_kbs_create(f->kbs, &config, &write, &kb, &err));
  kb_test_put_on(kb, NULL, "first", "the first document", "{\"v\":1}");
  rag_write_result r = {0};
  rag_status status = RAG_OK;
  for (int i = 0; status == RAG_OK && i < 100; i++) {
    rag_document_input in[201] = {{.id = S("first"), .text = S("the first document"), .metadata = S("{\"v\":2}")}};
    char ids[200][16], texts[200][32];
    for (int d = 0; d < 200; d++) {
      snprintf(ids[d], sizeof ids[d], "d%d-%d", i, d);
      snprintf(texts[d], sizeof texts[d], "text %d of %d", d, i);
      in[1 + d] = (rag_document_input){.id = S(ids[d]), .text = S(texts[d])};
    }
    in[0].metadata = i % 2 ? S("{\"v\":2}") : S("{\"v\":3}");
    rag_put put = {.documents = in, .document_count = 201};
    kb_test_footprint before = kb_test_footprint_of(f, kb);
    status = rag_kb_put(kb, &write, &put, &r, NULL, &err);
    if (status != RAG_OK) kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
  }
  assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
  // What was refused has left no trace that a later write under the same numbers would uncover.
  kb_test_patch_on(kb, NULL, "d0-0", "{\"patched\":true}");
  assert_string_equal(kb_test_search(kb, "", "the first document", 1), "first");
  assert_string_equal(kb_test_search(kb, "", "text 0 of 0", 1), "d0-0");
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- expect_parent

static rag_status put_expecting(rag_kb *kb, const char *parent, const rag_put *put, rag_strings *conflicts,
                                rag_error *err) {
  rag_write write = {.expect_parent = S(parent)};
  rag_write_result r = {0};
  return rag_kb_put(kb, &write, put, &r, conflicts, err);
}

static void assert_conflicts(rag_kb *kb, const char *parent, const rag_put *put, const char *expected) {
  rag_error err = {0};
  rag_strings conflicts = {0};
  char ids[256] = "";
  FAILS_FIELD(put_expecting(kb, parent, put, &conflicts, &err), RAG_ABORTED, "expect_parent", "branch moved");
  for (size_t i = 0; i < conflicts.count; i++) {
    if (i > 0) strcat(ids, " ");
    strcat(ids, conflicts.items[i]);
  }
  assert_string_equal(ids, expected);
  rag_strings_free(&conflicts);
}

static void expect_parent_names_what_both_touched(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_document_input start[] = {{.id = S("a"), .text = S("a"), .source_uri = S("s")},
                                {.id = S("b"), .text = S("b"), .source_uri = S("s")},
                                {.id = S("c"), .text = S("c"), .source_uri = S("s")},
                                {.id = S("d"), .text = S("d"), .source_uri = S("s")},
                                {.id = S("e"), .text = S("e")}};
  rag_put put = {.documents = start, .document_count = 5};
  OK(put_expecting(kb, "c1", &put, NULL, &err)); // c2
  rag_document_input theirs[] = {{.id = S("a"), .text = S("theirs"), .source_uri = S("s")},
                                 {.id = S("new"), .text = S("theirs"), .source_uri = S("s")}};
  rag_slice removed[] = {S("b")};
  put = (rag_put){.documents = theirs, .document_count = 2, .delete_ids = removed, .delete_count = 1};
  OK(put_expecting(kb, "main", &put, NULL, &err)); // c3
  kb_test_footprint before = kb_test_footprint_of(f, kb);

  rag_document_input ours[] = {{.id = S("new"), .text = S("ours")},
                               {.id = S("c"), .text = S("ours"), .source_uri = S("s")}};
  rag_slice delete_a[] = {S("a")}, delete_b[] = {S("b")};
  put = (rag_put){.documents = ours, .document_count = 2, .delete_ids = delete_a, .delete_count = 1};
  assert_conflicts(kb, "c2", &put, "a new");
  put = (rag_put){.documents = ours + 1, .document_count = 1, .delete_ids = delete_b, .delete_count = 1};
  assert_conflicts(kb, "c2", &put, "b");
  // A prune touches what it would remove: what came or changed meanwhile, not what has gone already.
  put = (rag_put){.documents = ours + 1, .document_count = 1, .prune = RAG_PRUNE_ALL};
  assert_conflicts(kb, "c2", &put, "a new");
  put.prune = RAG_PRUNE_SOURCE;
  assert_conflicts(kb, "c2", &put, "a new");
  FAILS(put_expecting(kb, "c2", &put, NULL, &err), RAG_ABORTED, "c2 to c3"); // conflicts may be NULL
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));

  put = (rag_put){.documents = ours + 1, .document_count = 1}; // touched on one side only
  OK(put_expecting(kb, "c2", &put, NULL, &err));
  assert_string_equal(kb_test_text(kb, "", "a"), "theirs");
  assert_string_equal(kb_test_text(kb, "", "c"), "ours");

  // A patch of metadata is a write like any other.
  rag_write write = {.expect_parent = S("c2")};
  rag_write_result r = {0};
  FAILS_FIELD(rag_kb_set_metadata(kb, &write, S("a"), 0, S("{\"x\":1}"), &r, &err), RAG_ABORTED, "expect_parent",
              "'a'");
  OK(rag_kb_set_metadata(kb, &write, S("d"), 0, S("{\"x\":1}"), &r, &err));
  write.expect_parent = S("c77");
  FAILS(rag_kb_set_metadata(kb, &write, S("d"), 0, S("{\"x\":2}"), &r, &err), RAG_NOT_FOUND, "c77");
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- idempotency

static void idempotency_keys(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_clock_set_for_test(NOW_US);
  rag_kb *kb = kb_test_new(f);
  kb_test_branch(kb, "side", "main");
  rag_document_input in = {.id = S("a"), .text = S("first")};
  rag_put put = {.documents = &in, .document_count = 1};
  rag_write write = {.branch = S("side"), .idempotency_key = S("key"), .request_digest = rag_digest_of("1", 1)};
  rag_write_result first = {0}, r = {0};
  OK(rag_kb_put(kb, &write, &put, &first, NULL, &err));
  assert_false(first.replayed);
  kb_test_delete_on(kb, "side", "a");
  for (int round = 0; round < 2; round++) {
    kb_test_footprint before = kb_test_footprint_of(f, kb);
    r = (rag_write_result){0};
    OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
    assert_true(r.replayed);
    assert_int_equal(r.commit, first.commit);
    assert_int_equal(r.added, 1);
    assert_int_equal(r.chunks_embedded, 1);
    assert_null(kb_test_text(kb, "side", "a"));
    kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
    write.request_digest = rag_digest_of("2", 1);
    FAILS_FIELD(rag_kb_put(kb, &write, &put, &r, NULL, &err), RAG_ALREADY_EXISTS, "idempotency_key", "another request");
    write.request_digest = rag_digest_of("1", 1);
    kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
    rag_ref_drop(kb);
    kb_test_reopen(f); // kept across a restart
    kb = kb_test_get(f, "docs");
  }
  // The first answer comes even where the same call could not be made any more.
  OK(rag_kb_branch_delete(kb, S("side"), &err));
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_true(r.replayed);
  assert_int_equal(r.commit, first.commit);
  kb_test_branch(kb, "side", "main");

  // A refused call is no answer: the key is free.
  rag_write other = {.branch = S("nowhere"), .idempotency_key = S("other"), .request_digest = rag_digest_of("3", 1)};
  FAILS(rag_kb_put(kb, &other, &put, &r, NULL, &err), RAG_NOT_FOUND, NULL);
  other.branch = S("side");
  OK(rag_kb_put(kb, &other, &put, &r, NULL, &err));
  assert_false(r.replayed);
  // A call that changed nothing is an answer too.
  other.idempotency_key = S("unchanged");
  OK(rag_kb_put(kb, &other, &put, &r, NULL, &err));
  assert_int_equal(r.unchanged, 1);
  kb_test_delete_on(kb, "side", "a");
  OK(rag_kb_put(kb, &other, &put, &r, NULL, &err));
  assert_true(r.replayed);
  assert_int_equal(r.unchanged, 1);

  rag_clock_set_for_test(NOW_US + RAG_IDEMPOTENCY_TTL_US - 1);
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_true(r.replayed);
  rag_clock_set_for_test(NOW_US + RAG_IDEMPOTENCY_TTL_US);
  write.request_digest = rag_digest_of("new body", 8);
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_false(r.replayed);
  assert_int_equal(r.added, 1);
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_true(r.replayed);
  rag_ref_drop(kb);
  rag_clock_set_for_test(NOW_US + 3 * RAG_IDEMPOTENCY_TTL_US);
  kb_test_reopen(f); // swept at open
  rag_store_iter *it = NULL;
  OK(rag_store_iter_open(f->store, NULL, RAG_CF_META, S("I"), S("J"), false, &it, &err));
  assert_false(rag_store_iter_next(it));
  rag_store_iter_close(it);
  rag_clock_set_for_test(0);
}

static void idempotency_of_the_other_writes(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb_config config;
  rag_kb *kb = NULL, *again = NULL;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "docs");
  rag_write create = {.idempotency_key = S("create"), .request_digest = rag_digest_of("1", 1)};
  OK(rag_kbs_create(f->kbs, &config, &create, &kb, &err));
  OK(rag_kbs_create(f->kbs, &config, &create, &again, &err));
  assert_ptr_equal(kb, again);
  rag_ref_drop(again);
  rag_write fresh = {0};
  FAILS_FIELD(rag_kbs_create(f->kbs, &config, &fresh, &again, &err), RAG_ALREADY_EXISTS, "name", "exists already");

  kb_test_put_on(kb, NULL, "a", "a", "{\"v\":1}");
  rag_ref_info ref = {0};
  rag_write branch = {.idempotency_key = S("branch")};
  OK(rag_kb_branch_create(kb, &branch, S("side"), S("main"), &ref, &err));
  kb_test_put_on(kb, "side", "b", "b", NULL);
  rag_ref_info ref_again = {0};
  OK(rag_kb_branch_create(kb, &branch, S("side"), S("main"), &ref_again, &err));
  assert_int_equal(ref_again.commit, ref.commit);
  assert_string_equal(ref_again.name, "side");

  rag_write_result first = {0}, r = {0};
  rag_write patch = {.idempotency_key = S("patch")};
  OK(rag_kb_set_metadata(kb, &patch, S("a"), 0, S("{\"v\":2}"), &first, &err));
  kb_test_patch_on(kb, NULL, "a", "{\"v\":3}");
  OK(rag_kb_set_metadata(kb, &patch, S("a"), 0, S("{\"v\":2}"), &r, &err));
  assert_true(r.replayed);
  assert_int_equal(r.commit, first.commit);
  rag_write merge = {.idempotency_key = S("merge")};
  OK(rag_kb_merge(kb, &merge, S("side"), S("main"), RAG_MERGE_FAIL, &first, NULL, &err));
  assert_true(first.committed);
  OK(rag_kb_merge(kb, &merge, S("side"), S("main"), RAG_MERGE_FAIL, &r, NULL, &err));
  assert_true(r.replayed);
  assert_int_equal(r.commit, first.commit);
  rag_write rollback = {.idempotency_key = S("rollback")};
  OK(rag_kb_rollback(kb, &rollback, S("main~1"), &first, &err));
  uint64_t commits = kb_test_describe(kb).commits;
  OK(rag_kb_rollback(kb, &rollback, S("main~1"), &r, &err));
  assert_true(r.replayed);
  assert_int_equal(r.commit, first.commit);
  assert_int_equal(kb_test_describe(kb).commits, commits);
  rag_ref_drop(kb);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(bad_documents_are_refused),
      KB_TEST(bad_vectors_are_refused),
      KB_TEST(bad_calls_are_refused),
      KB_TEST(limits_of_a_document),
      KB_TEST(limits_of_chunks),
      KB_TEST(limits_of_a_call),
      KB_TEST(memory_limit),
      KB_TEST(expect_parent_names_what_both_touched),
      KB_TEST(idempotency_keys),
      KB_TEST(idempotency_of_the_other_writes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
