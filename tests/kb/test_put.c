// Goal: a put does exactly what its counts say, stores and embeds nothing twice, takes every input at its limit and none
// past it, and leaves nothing behind when it refuses.
// Method: calls on small knowledge bases; counts, commit heads, numbers given out and bytes written are compared before
// and after. Refusals are a table of inputs with the field and the words of the message that each must give.
#include "kb_test.h"

// ---------------------------------------------------------------------------------------------- helpers

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

static rag_kb *create_vectors(kb_fixture *f, const char *name, rag_metric metric) { // client vectors of dimension 4
  return create_with(f, name, "", 4, metric, rag_chunking_default());
}

static rag_write_result put_many(rag_kb *kb, const rag_document_input *documents, uint32_t count, rag_prune prune) {
  rag_error err = {0};
  rag_write_result result = {0};
  rag_write write = {0};
  rag_put put = {.documents = documents, .document_count = count, .prune = prune};
  OK(rag_kb_put(kb, &write, &put, &result, NULL, &err));
  return result;
}

static void assert_counts(rag_write_result r, uint64_t added, uint64_t changed, uint64_t unchanged, uint64_t removed,
                          uint64_t missing) {
  assert_int_equal(r.added, added);
  assert_int_equal(r.changed, changed);
  assert_int_equal(r.unchanged, unchanged);
  assert_int_equal(r.removed, removed);
  assert_int_equal(r.missing, missing);
}

static rag_document get(rag_kb *kb, const char *at, const char *id) {
  rag_error err = {0};
  rag_document document = {0};
  OK(rag_kb_document_get(kb, S(at), S(id), &document, &err));
  return document;
}

static bool slice_is(rag_slice s, const char *text) {
  return rag_slice_equal(s, S(text));
}

// ---------------------------------------------------------------------------------------------- counts, reuse

static void counts_say_what_happened(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_document_input first[] = {{.id = S("a"), .text = S("alpha text")},
                                {.id = S("b"), .text = S("beta text")},
                                {.id = S("c"), .text = S("c c")}};
  rag_write_result r = put_many(kb, first, 3, RAG_PRUNE_NONE);
  assert_counts(r, 3, 0, 0, 0, 0);
  assert_true(r.committed);
  assert_false(r.replayed);
  assert_int_equal(r.commit, 2); // c1 is the empty one
  assert_int_equal(r.chunks_added, 3);
  assert_int_equal(r.chunks_embedded, 3);
  assert_int_equal(r.chunks_reused, 0);

  rag_document_input second[] = {{.id = S("a"), .text = S("alpha text")},
                                 {.id = S("b"), .text = S("beta, changed")},
                                 {.id = S("d"), .text = S("d")}};
  rag_slice gone[] = {S("c"), S("never"), S("nor this")};
  rag_write write = {.message = S("why"), .author = S("who")};
  rag_put put = {.documents = second, .document_count = 3, .delete_ids = gone, .delete_count = 3};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_counts(r, 1, 1, 1, 1, 2);
  assert_int_equal(r.chunks_added, 2);
  assert_int_equal(r.chunks_embedded, 2);

  rag_commit_info info = {0};
  OK(rag_kb_commit_get(kb, S("main"), &info, &err));
  assert_int_equal(info.id, r.commit);
  assert_int_equal(info.kind, RAG_COMMIT_PUT);
  assert_int_equal(info.parent_count, 1);
  assert_int_equal(info.parents[0], 2);
  assert_int_equal(info.added, 1);
  assert_int_equal(info.changed, 1);
  assert_int_equal(info.removed, 1);
  assert_true(info.counts_exact);
  assert_int_equal(info.documents, 3);
  assert_int_equal(info.chunks, 3);
  assert_string_equal(info.message, "why");
  assert_string_equal(info.author, "who");
  rag_commit_info_free(&info);

  assert_string_equal(kb_test_text(kb, "", "b"), "beta, changed");
  assert_null(kb_test_text(kb, "", "c"));
  assert_string_equal(kb_test_text(kb, "c2", "c"), "c c");
  assert_string_equal(kb_test_text(kb, "c2", "b"), "beta text");

  r = kb_test_delete_on(kb, NULL, "d");
  assert_counts(r, 0, 0, 0, 1, 0);
  OK(rag_kb_commit_get(kb, S("main"), &info, &err));
  assert_int_equal(info.kind, RAG_COMMIT_DELETE);
  rag_commit_info_free(&info);
  rag_ref_drop(kb);
}

static void an_unchanged_document_writes_nothing(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_document_input in = {.id = S("a"),
                           .text = S("the text"),
                           .title = S("title"),
                           .metadata = S("{\"k\":1}"),
                           .source_uri = S("file:///a"),
                           .source_modified_us = 5,
                           .effective_us = 7};
  rag_write_result first = put_many(kb, &in, 1, RAG_PRUNE_NONE);
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  rag_write_result r = put_many(kb, &in, 1, RAG_PRUNE_NONE);
  assert_counts(r, 0, 0, 1, 0, 0);
  assert_false(r.committed);
  assert_int_equal(r.commit, first.commit);
  assert_int_equal(r.chunks_added + r.chunks_embedded, 0);
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));

  in.source_modified_us = 99; // touched, but equal
  r = put_many(kb, &in, 1, RAG_PRUNE_ALL);
  assert_counts(r, 0, 0, 1, 0, 0);
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));
  rag_slice none[] = {S("nobody")};
  rag_put nothing = {.delete_ids = none, .delete_count = 1};
  rag_write write = {0};
  OK(rag_kb_put(kb, &write, &nothing, &r, NULL, &err));
  assert_counts(r, 0, 0, 0, 0, 1);
  assert_false(r.committed);
  kb_test_same_footprint(before, kb_test_footprint_of(f, kb));

  kb_test_tag(kb, "before", "main");
  // Everything else is part of the document's state: one change each.
  rag_document_input changes[5] = {in, in, in, in, in};
  changes[0].text = S("another text");
  changes[1].title = S("another title");
  changes[2].metadata = S("{\"k\":2}");
  changes[3].source_uri = S("file:///b");
  changes[4].effective_us = 8;
  for (int i = 0; i < 5; i++) {
    r = put_many(kb, &changes[i], 1, RAG_PRUNE_NONE);
    assert_counts(r, 0, 1, 0, 0, 0);
    rag_document document = get(kb, "", "a");
    assert_true(rag_slice_equal(document.text, changes[i].text));
    assert_true(rag_slice_equal(document.title, changes[i].title));
    assert_true(rag_slice_equal(document.metadata, changes[i].metadata));
    assert_true(rag_slice_equal(document.source_uri, changes[i].source_uri));
    assert_int_equal(document.effective_us, changes[i].effective_us);
    assert_int_equal(document.source_modified_us, 99);
    assert_int_equal(document.commit, r.commit);
    rag_document_free(&document);
  }
  rag_document document = get(kb, "before", "a");
  assert_int_equal(document.source_modified_us, 5);
  rag_document_free(&document);
  rag_ref_drop(kb);
}

static void text_that_comes_back_is_not_stored_again(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "the first text");
  rag_document first = get(kb, "", "a");
  kb_test_put(kb, "a", "the second text");
  rag_kb_info before = kb_test_describe(kb);

  rag_write_result r = kb_test_put(kb, "a", "the first text"); // the same state: the very revision
  assert_counts(r, 0, 1, 0, 0, 0);
  assert_int_equal(r.chunks_added + r.chunks_embedded, 0);
  rag_document again = get(kb, "", "a");
  assert_int_equal(again.revision, first.revision);
  assert_int_equal(again.content, first.content);
  assert_int_equal(again.first_chunk, first.first_chunk);
  rag_document_free(&again);
  assert_int_equal(kb_test_describe(kb).revisions, before.revisions);

  r = kb_test_put_on(kb, NULL, "a", "the second text", "{\"new\":true}"); // the same content in another state
  assert_counts(r, 0, 1, 0, 0, 0);
  assert_int_equal(r.chunks_added + r.chunks_embedded, 0);
  assert_int_equal(kb_test_describe(kb).revisions, before.revisions + 1);
  assert_int_equal(kb_test_describe(kb).contents, before.contents);

  kb_test_delete_on(kb, NULL, "a");
  r = kb_test_put(kb, "a", "the first text"); // after a deletion too
  assert_counts(r, 1, 0, 0, 0, 0);
  assert_int_equal(r.chunks_added, 0);
  assert_string_equal(kb_test_search(kb, "", "first", 5), "a");
  assert_int_equal(kb_test_describe(kb).contents, before.contents);
  rag_document_free(&first);
  rag_ref_drop(kb);
}

// A document with more revisions than a write looks at: what is alive is still known, and its content is still reused.
static void a_live_revision_behind_many_others(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  char text[64];
  uint64_t first = kb_test_put(kb, "a", "the text that stays").commit;
  kb_test_branch(kb, "old", "main");
  for (int i = 0; i < 80; i++) {
    snprintf(text, sizeof text, "revision number %d", i);
    kb_test_put(kb, "a", text);
  }
  kb_test_footprint before = kb_test_footprint_of(f, kb);
  rag_write_result r = kb_test_put_on(kb, "old", "a", "the text that stays", NULL);
  assert_counts(r, 0, 0, 1, 0, 0);
  assert_int_equal(r.commit, first);
  assert_int_equal(kb_test_footprint_of(f, kb).commits, before.commits);
  r = kb_test_put_on(kb, "old", "a", "the text that stays", "{\"x\":1}");
  assert_counts(r, 0, 1, 0, 0, 0);
  assert_int_equal(r.chunks_added + r.chunks_embedded + r.chunks_reused, 0);
  assert_int_equal(kb_test_describe(kb).contents, before.contents);
  r = kb_test_delete_on(kb, "old", "a");
  assert_counts(r, 0, 0, 0, 1, 0);
  rag_ref_drop(kb);
}

static void equal_texts_share_their_embedding(void **state) {
  kb_fixture *f = *state;
  rag_kb *kb = kb_test_new(f);
  rag_write_result r = kb_test_put(kb, "a", "one and the same");
  assert_int_equal(r.chunks_embedded, 1);
  r = kb_test_put(kb, "b", "one and the same");
  assert_int_equal(r.chunks_added, 1);
  assert_int_equal(r.chunks_embedded, 0);
  assert_int_equal(r.chunks_reused, 1);
  assert_string_equal(kb_test_search(kb, "", "the same", 5), "a b"); // equal scores: by chunk number
  // Two kbs of one model share too, also across a restart.
  rag_kb *other = kb_test_create(f, "other", "hash-32", 0);
  r = kb_test_put(other, "x", "one and the same");
  assert_int_equal(r.chunks_reused, 1);
  rag_ref_drop(other);
  rag_ref_drop(kb);
  kb_test_reopen(f);
  rag_kb *third = kb_test_create(f, "third", "hash-32", 0);
  r = kb_test_put(third, "y", "one and the same");
  assert_int_equal(r.chunks_reused, 1);
  assert_string_equal(kb_test_search(third, "", "the same", 5), "y");
  rag_ref_drop(third);
  // A kb of another model shares nothing; the owner of a cached vector may go.
  rag_kb *apart = kb_test_create(f, "apart", "hash-64", 0);
  assert_int_equal(kb_test_put(apart, "y", "one and the same").chunks_reused, 0);
  kb = kb_test_get(f, "docs"); // nor does it take away
  assert_int_equal(kb_test_put(kb, "c", "one and the same").chunks_reused, 1);
  rag_ref_drop(kb);
  rag_ref_drop(apart);
  rag_error err = {0};
  uint64_t job;
  OK(rag_kbs_delete(f->kbs, S("docs"), &job, &err));
  kb_test_job(f, job);
  rag_kb *last = kb_test_create(f, "last", "hash-32", 0);
  r = kb_test_put(last, "y", "one and the same");
  assert_int_equal(r.chunks_embedded + r.chunks_reused, 1);
  assert_string_equal(kb_test_search(last, "", "the same", 5), "y");
  assert_int_equal(kb_test_put(last, "z", "one and the same").chunks_reused, 1);
  rag_ref_drop(last);
}

static void metadata_alone_embeds_nothing(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  kb_test_put_on(kb, NULL, "a", "a text", "{\"v\":1}");
  rag_document before = get(kb, "", "a");
  rag_write_result r = kb_test_put_on(kb, NULL, "a", "a text", "{\"v\":2}");
  assert_counts(r, 0, 1, 0, 0, 0);
  assert_int_equal(r.chunks_added + r.chunks_embedded + r.chunks_reused, 0);
  r = kb_test_patch_on(kb, NULL, "a", "{\"v\":3}");
  assert_counts(r, 0, 1, 0, 0, 0);
  assert_int_equal(r.chunks_added + r.chunks_embedded + r.chunks_reused, 0);
  rag_document after = get(kb, "", "a");
  assert_int_equal(after.content, before.content);
  assert_int_equal(after.first_chunk, before.first_chunk);
  assert_true(slice_is(after.metadata, "{\"v\":3}"));
  assert_true(slice_is(before.metadata, "{\"v\":1}")); // pinned
  rag_commit_info info = {0};
  OK(rag_kb_commit_get(kb, S(""), &info, &err));
  assert_int_equal(info.kind, RAG_COMMIT_METADATA);
  rag_commit_info_free(&info);

  kb_test_footprint footprint_before = kb_test_footprint_of(f, kb);
  r = kb_test_patch_on(kb, NULL, "a", "{\"v\":3}");
  assert_counts(r, 0, 0, 1, 0, 0);
  assert_false(r.committed);
  kb_test_same_footprint(footprint_before, kb_test_footprint_of(f, kb));

  rag_write write = {0};
  FAILS(rag_kb_set_metadata(kb, &write, S("a"), before.revision, S("{}"), &r, &err), RAG_ABORTED, "changed meanwhile");
  FAILS(rag_kb_set_metadata(kb, &write, S("b"), 0, S("{}"), &r, &err), RAG_NOT_FOUND, "'b'");
  FAILS(rag_kb_set_metadata(kb, &write, S(""), 0, S("{}"), &r, &err), RAG_INVALID_ARGUMENT, "1 to 512");
  FAILS(rag_kb_set_metadata(kb, &write, S("a"), 0, S("[1]"), &r, &err), RAG_INVALID_ARGUMENT, "JSON object");
  assert_string_equal(err.field, "metadata");
  FAILS(rag_kb_set_metadata(kb, &write, S("a"), 0, S("{\"\xff\":1}"), &r, &err), RAG_INVALID_ARGUMENT, NULL);
  assert_string_equal(err.field, "metadata");
  kb_test_same_footprint(footprint_before, kb_test_footprint_of(f, kb));
  OK(rag_kb_set_metadata(kb, &write, S("a"), after.revision, S(""), &r, &err));
  // A put of what the patch made is unchanged: both write one state.
  assert_counts(kb_test_put_on(kb, NULL, "a", "a text", ""), 0, 0, 1, 0, 0);
  rag_document_free(&before);
  rag_document_free(&after);
  rag_ref_drop(kb);
}

static void prune_removes_what_it_says(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_document_input all[] = {{.id = S("a1"), .text = S("a1"), .source_uri = S("a")},
                              {.id = S("a2"), .text = S("a2"), .source_uri = S("a")},
                              {.id = S("b1"), .text = S("b1"), .source_uri = S("b")},
                              {.id = S("b2"), .text = S("b2"), .source_uri = S("b")},
                              {.id = S("n1"), .text = S("n1")},
                              {.id = S("n2"), .text = S("n2")}};
  put_many(kb, all, 6, RAG_PRUNE_NONE);
  kb_test_branch(kb, "source", "main");
  kb_test_branch(kb, "deleted", "main");
  kb_test_branch(kb, "everything", "main");

  rag_write_result r = put_many(kb, all, 1, RAG_PRUNE_NONE);
  assert_counts(r, 0, 0, 1, 0, 0);
  // source: a2 goes; b is not named, and documents without a source belong to none.
  rag_document_input with_none[] = {all[0], all[4]};
  rag_put put = {.documents = with_none, .document_count = 2, .prune = RAG_PRUNE_SOURCE};
  rag_write write = {.branch = S("source")};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_counts(r, 0, 0, 2, 1, 0);
  assert_null(kb_test_text(kb, "source", "a2"));
  assert_non_null(kb_test_text(kb, "source", "b1"));
  assert_non_null(kb_test_text(kb, "source", "n2"));
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_counts(r, 0, 0, 2, 0, 0);
  assert_false(r.committed);
  // Deleted by id and pruned: removed once.
  rag_slice gone[] = {S("a2"), S("b2")};
  put = (rag_put){
      .documents = all, .document_count = 1, .delete_ids = gone, .delete_count = 2, .prune = RAG_PRUNE_SOURCE};
  write.branch = S("deleted");
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_counts(r, 0, 0, 1, 2, 0);
  // all: changed and unchanged ones of the call stay, added ones come.
  rag_document_input three[] = {all[0], {.id = S("b1"), .text = S("b1, changed")}, {.id = S("new"), .text = S("new")}};
  put =
      (rag_put){.documents = three, .document_count = 3, .delete_ids = gone, .delete_count = 1, .prune = RAG_PRUNE_ALL};
  write.branch = S("everything");
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_counts(r, 1, 1, 1, 4, 0);
  assert_string_equal(kb_test_search(kb, "everything", "b1 changed", 1), "b1");
  rag_version *version = NULL;
  OK(rag_kb_resolve(kb, S("everything"), &version, &err));
  assert_int_equal(rag_version_documents(version), 3);
  assert_int_equal(rag_version_chunks(version), 3);
  rag_ref_drop(version);
  put = (rag_put){.prune = RAG_PRUNE_ALL};
  OK(rag_kb_put(kb, &write, &put, &r, NULL, &err));
  assert_counts(r, 0, 0, 0, 3, 0);
  assert_string_equal(kb_test_search(kb, "everything", "b1", 5), "");
  assert_int_equal(kb_test_describe(kb).documents, 6); // main: untouched by it all
  rag_ref_drop(kb);
}

static void another_chunking_cuts_again(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = create_with(f, "docs", "hash-32", 32, RAG_METRIC_COSINE,
                           (rag_chunking){.method = RAG_CHUNK_FIXED, .max_tokens = 16});
  const char *text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
                     "seventeen eighteen nineteen twenty";
  assert_int_equal(kb_test_put(kb, "a", text).chunks_added, 2);
  rag_kb_info info = {0};
  OK(rag_kb_describe(kb, &info, &err));
  info.config.chunking = (rag_chunking){.method = RAG_CHUNK_WHOLE};
  OK(rag_kbs_update(f->kbs, &info.config, &err));
  rag_kb_info_free(&info);
  rag_write_result r = kb_test_put(kb, "a", text);
  assert_counts(r, 0, 1, 0, 0, 0);
  assert_int_equal(r.chunks_added, 1);
  rag_document document = get(kb, "", "a");
  rag_span *spans = NULL;
  uint32_t count = 0;
  OK(rag_kb_document_chunks(kb, &document, &spans, &count, &err));
  assert_int_equal(count, 1);
  assert_int_equal(spans[0].start, 0);
  assert_int_equal(spans[0].end, strlen(text));
  rag_free(spans);
  rag_document_free(&document);
  rag_ref_drop(kb);
}

// ---------------------------------------------------------------------------------------------- own chunks and vectors

static rag_search_result search_vector(rag_kb *kb, const float *vector, uint32_t dimension, uint32_t k) {
  rag_error err = {0};
  rag_search_result result = {0};
  rag_search search = {.vector = vector,
                       .vector_dimension = dimension,
                       .k = k,
                       .want_text = true,
                       .want_metadata = true,
                       .want_vector = true};
  OK(rag_kb_search(kb, &search, &result, &err));
  return result;
}

static void own_chunks_with_a_model(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  rag_chunk_input chunks[] = {{.text = S("red apples"), .metadata = S("{\"n\":1}")},
                              {.text = S("a summary of it all")}, // not in the text: its own
                              {.text = S("blue plums")},
                              {.text = S("red apples")}}; // only before: its own
  rag_document_input in = {
      .id = S("a"), .text = S("Here red apples, then blue plums."), .chunks = chunks, .chunk_count = 4};
  rag_write_result r = put_many(kb, &in, 1, RAG_PRUNE_NONE);
  assert_int_equal(r.chunks_added, 4);
  assert_int_equal(r.chunks_embedded, 4);
  rag_document document = get(kb, "", "a");
  assert_true(slice_is(document.text, "Here red apples, then blue plums."));
  rag_span *spans = NULL;
  uint32_t count = 0;
  OK(rag_kb_document_chunks(kb, &document, &spans, &count, &err));
  assert_int_equal(count, 4);
  const rag_span expected[] = {{5, 15}, {0, 0}, {22, 32}, {0, 0}};
  assert_memory_equal(spans, expected, sizeof expected);
  rag_free(spans);
  rag_document_free(&document);

  struct {
    const char *query;
    uint32_t chunk; // its place in the document
  } cases[] = {{"red apples", 0}, {"a summary of it all", 1}, {"blue plums", 2}};
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    rag_search_result result = {0};
    rag_search search = {
        .mode = RAG_SEARCH_VECTOR, .query = S(cases[i].query), .k = 4, .want_text = true, .want_metadata = true};
    OK(rag_kb_search(kb, &search, &result, &err));
    assert_int_equal(result.count, 4);
    rag_hit *hit = &result.hits[0];
    assert_int_equal(hit->chunk, 1 + cases[i].chunk);
    assert_true(slice_is(hit->document_id, "a"));
    assert_true(slice_is(hit->text, cases[i].query));
    assert_int_equal(hit->start, expected[cases[i].chunk].start);
    assert_int_equal(hit->end, expected[cases[i].chunk].end);
    assert_true(slice_is(hit->chunk_metadata, cases[i].chunk == 0 ? "{\"n\":1}" : ""));
    rag_search_result_free(&result);
  }
  r = put_many(kb, &in, 1, RAG_PRUNE_NONE);
  assert_counts(r, 0, 0, 1, 0, 0);
  chunks[2].metadata = S("{\"n\":3}"); // chunk metadata is content
  r = put_many(kb, &in, 1, RAG_PRUNE_NONE);
  assert_counts(r, 0, 1, 0, 0, 0);
  assert_int_equal(r.chunks_added, 4);
  assert_int_equal(r.chunks_reused, 4);

  // No text: the document's text is its chunks'.
  rag_chunk_input two[] = {{.text = S("first part")}, {.text = S("second part")}};
  rag_document_input joined = {.id = S("j"), .chunks = two, .chunk_count = 2};
  put_many(kb, &joined, 1, RAG_PRUNE_NONE);
  assert_string_equal(kb_test_text(kb, "", "j"), "first part\n\nsecond part");
  rag_ref_drop(kb);
}

static void client_vectors(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = create_vectors(f, "vectors", RAG_METRIC_COSINE);
  const float x[4] = {2, 0, 0, 0}, y[4] = {0, 3, 0, 0}, xy[4] = {1, 1, 0, 0}, unit_x[4] = {1, 0, 0, 0};
  rag_chunk_input chunks[] = {{.text = S("with"), .vector = y, .vector_dimension = 4, .metadata = S("{\"c\":0}")},
                              {.text = S("without")},
                              {.vector = xy, .vector_dimension = 4}};
  rag_document_input in[] = {{.id = S("empty"), .vector = x, .vector_dimension = 4},
                             {.id = S("text"), .text = S("no vector: stored, and found by no vector")},
                             {.id = S("chunks"), .text = S("with or without"), .chunks = chunks, .chunk_count = 3}};
  rag_write_result r = put_many(kb, in, 3, RAG_PRUNE_NONE);
  assert_counts(r, 3, 0, 0, 0, 0);
  assert_int_equal(r.chunks_added, 5);
  assert_int_equal(r.chunks_embedded + r.chunks_reused, 0);
  assert_string_equal(kb_test_text(kb, "", "text"), "no vector: stored, and found by no vector");
  assert_string_equal(kb_test_text(kb, "", "empty"), "");
  for (int round = 0; round < 2; round++) {
    rag_search_result result = search_vector(kb, x, 4, 10);
    assert_int_equal(result.count, 3);
    assert_true(slice_is(result.hits[0].document_id, "empty"));
    assert_memory_equal(result.hits[0].vector, unit_x, sizeof unit_x); // cosine: kept as unit vectors
    assert_true(result.hits[0].score == 1.0f);
    assert_int_equal(result.hits[0].text.size, 0);
    assert_true(slice_is(result.hits[1].document_id, "chunks"));
    assert_int_equal(result.hits[1].text.size, 0);
    assert_true(slice_is(result.hits[2].text, "with"));
    assert_true(slice_is(result.hits[2].chunk_metadata, "{\"c\":0}"));
    assert_int_equal(result.hits[2].end, 4);
    rag_search_result_free(&result);
    if (round > 0) break;
    rag_ref_drop(kb);
    kb_test_reopen(f);
    kb = kb_test_get(f, "vectors");
  }
  rag_search search = {.mode = RAG_SEARCH_VECTOR, .query = S("text"), .k = 1};
  rag_search_result none = {0};
  FAILS(rag_kb_search(kb, &search, &none, &err), RAG_INVALID_ARGUMENT, "search by vector");
  assert_string_equal(err.field, "query");
  // Another vector under the same text is another content; the same vectors are unchanged.
  assert_counts(put_many(kb, in, 3, RAG_PRUNE_NONE), 0, 0, 3, 0, 0);
  in[0].vector = y;
  assert_counts(put_many(kb, in, 3, RAG_PRUNE_NONE), 0, 1, 2, 0, 0);
  chunks[2].vector = x;
  assert_counts(put_many(kb, in, 3, RAG_PRUNE_NONE), 0, 1, 2, 0, 0);
  rag_ref_drop(kb);

  rag_kb *l2 = create_vectors(f, "l2", RAG_METRIC_L2);
  const float zero[4] = {0, 0, 0, 0};
  rag_document_input z = {.id = S("z"), .vector = zero, .vector_dimension = 4};
  put_many(l2, &z, 1, RAG_PRUNE_NONE);
  rag_search_result result = search_vector(l2, y, 4, 1);
  assert_true(result.hits[0].score == -3.0f);
  assert_memory_equal(result.hits[0].vector, zero, sizeof zero);
  rag_search_result_free(&result);
  rag_ref_drop(l2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(counts_say_what_happened),
      KB_TEST(an_unchanged_document_writes_nothing),
      KB_TEST(text_that_comes_back_is_not_stored_again),
      KB_TEST(a_live_revision_behind_many_others),
      KB_TEST(equal_texts_share_their_embedding),
      KB_TEST(metadata_alone_embeds_nothing),
      KB_TEST(prune_removes_what_it_says),
      KB_TEST(another_chunking_cuts_again),
      KB_TEST(own_chunks_with_a_model),
      KB_TEST(client_vectors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
