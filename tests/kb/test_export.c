// Goal: an imported kb is the exported one: every version, ref, log and search. A damaged stream imports nothing and
// leaves nothing; so does an import that stops anywhere. Exports of format version 1 import for ever.
// Method: a kb with everything in it (branches, tags, merge, rollback, metadata, own chunks, checkpoints, a gc) goes out
// and in again and both are asked the same; every byte of a small export is flipped, and the export is cut at every byte;
// fields are forged under right checksums; the golden file is tests/golden/kb_export_v1.ragkb.
#include "tests/kb/kb_test.h"

#include "kb/transfer_internal.h"

typedef struct stream {
  rag_buf bytes;
  size_t at;
  size_t step;       // the most that one read gives; 0: all
  size_t fail_after; // writes fail from so many bytes on; 0: never
} stream;

static rag_status to_stream(void *ctx, const void *data, size_t size, rag_error *err) {
  stream *s = ctx;
  if (s->fail_after != 0 && s->bytes.size + size > s->fail_after)
    return rag_fail(err, RAG_CANCELLED, "the receiver went away");
  rag_buf_append(&s->bytes, data, size);
  return rag_buf_check(&s->bytes, err);
}

static rag_status from_stream(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  stream *s = ctx;
  RAG_UNUSED(err);
  size = RAG_MIN(size, s->bytes.size - s->at);
  if (s->step != 0) size = RAG_MIN(size, s->step);
  if (size > 0) memcpy(data, s->bytes.data + s->at, size);
  s->at += size;
  *out_size = size;
  return RAG_OK;
}

static void export_to(rag_kb *kb, stream *s) {
  rag_error err = {0};
  OK(rag_kb_export(kb, to_stream, s, &err));
}

static rag_kb *import_from(kb_fixture *f, const char *name, stream *s) {
  rag_error err = {0};
  rag_kb *kb = NULL;
  s->at = 0;
  OK(rag_kbs_import(f->kbs, S(name), from_stream, s, &kb, &err));
  return kb;
}

// Rows of every family under kb numbers from `first` on, and marks of imports.
static uint64_t rows_from(kb_fixture *f, uint32_t first) {
  static const rag_cf families[] = {RAG_CF_DOCUMENT, RAG_CF_REVISION, RAG_CF_CONTENT, RAG_CF_CHUNK,
                                    RAG_CF_VECTOR,   RAG_CF_COMMIT,   RAG_CF_BITMAP};
  rag_error err = {0};
  uint64_t rows = 0;
  for (size_t i = 0; i <= RAG_COUNT_OF(families) + 5; i++) {
    rag_key lower;
    rag_store_iter *it = NULL;
    bool meta = i >= RAG_COUNT_OF(families);
    rag_key upper;
    rag_key_init(&lower);
    rag_key_init(&upper);
    if (meta) {
      rag_key_u8(&lower, (uint8_t) "sbtLIP"[i - RAG_COUNT_OF(families)]);
      rag_key_u8(&upper, (uint8_t) "sbtLIP"[i - RAG_COUNT_OF(families)]);
    }
    rag_key_u32(&lower, first);
    rag_key_u32(&upper, UINT32_MAX);
    OK(rag_store_iter_open(f->store, NULL, meta ? RAG_CF_META : families[i], rag_key_slice(&lower),
                           rag_key_slice(&upper), false, &it, &err));
    while (rag_store_iter_next(it)) rows++;
    OK(rag_store_iter_status(it, &err));
    rag_store_iter_close(it);
  }
  return rows;
}

// ---------------------------------------------------------------------------------------------- the same

static void describe_version(rag_kb *kb, const char *ref, rag_buf *out) {
  rag_error err = {0};
  rag_document *documents = NULL;
  rag_commit_info info = {0};
  uint32_t count = 0, next = 0;
  uint64_t commit = 0;
  rag_status status = rag_kb_documents(kb, S(ref), NULL, 0, 10000, &documents, &count, &next, &commit, &err);
  rag_buf_append_varint(out, status);
  if (status != RAG_OK) return;
  for (uint32_t i = 0; i < count; i++) {
    const rag_document *d = &documents[i];
    rag_slice slices[5] = {d->id, d->text, d->title, d->metadata, d->source_uri};
    for (int s = 0; s < 5; s++) rag_buf_append_bytes(out, slices[s]);
    uint64_t numbers[8] = {(uint64_t)d->source_modified_us,
                           (uint64_t)d->effective_us,
                           d->revision,
                           d->content,
                           d->first_chunk,
                           d->chunk_count,
                           d->commit,
                           (uint64_t)d->time_us};
    for (int n = 0; n < 8; n++) rag_buf_append_varint(out, numbers[n]);
    rag_document_free(&documents[i]);
  }
  rag_free(documents);
  OK(rag_kb_commit_get(kb, S(ref), &info, &err));
  uint64_t numbers[11] = {info.id,    info.parents[0], info.parents[1], info.parent_count, (uint64_t)info.time_us,
                          info.kind,  info.added,      info.changed,    info.removed,      info.documents,
                          info.chunks};
  for (int n = 0; n < 11; n++) rag_buf_append_varint(out, numbers[n]);
  rag_buf_append_bytes(out, S(info.author));
  rag_buf_append_bytes(out, S(info.message));
  rag_commit_info_free(&info);
}

static void describe_search(rag_kb *kb, rag_search *search, const char *ref, rag_buf *out) {
  rag_error err = {0};
  rag_search_result result = {0};
  search->at = S(ref);
  rag_status status = rag_kb_search(kb, search, &result, &err);
  rag_buf_append_varint(out, status);
  if (status != RAG_OK) return;
  rag_buf_append_varint(out, result.commit);
  for (uint32_t i = 0; i < result.count; i++) {
    const rag_hit *h = &result.hits[i];
    rag_slice slices[6] = {h->document_id, h->text, h->title, h->metadata, h->source_uri, h->chunk_metadata};
    for (int s = 0; s < 6; s++) rag_buf_append_bytes(out, slices[s]);
    rag_buf_append(out, &h->score, sizeof h->score);
    rag_buf_append_varint(out, h->chunk);
    rag_buf_append_varint(out, h->revision);
    rag_buf_append_varint(out, h->start);
    rag_buf_append_varint(out, h->end);
    rag_buf_append(out, h->vector, h->vector ? result.dimension * sizeof(float) : 0);
  }
  rag_search_result_free(&result);
}

static void describe_refs(rag_kb *kb, rag_buf *out) {
  rag_error err = {0};
  for (int tags = 0; tags < 2; tags++) {
    rag_ref_info *refs = NULL;
    uint32_t count = 0;
    OK(tags ? rag_kb_tags(kb, S(""), 1000, &refs, &count, &err)
            : rag_kb_branches(kb, S(""), 1000, &refs, &count, &err));
    for (uint32_t i = 0; i < count; i++) {
      rag_buf_append_bytes(out, S(refs[i].name));
      rag_buf_append_varint(out, refs[i].commit);
      rag_buf_append_varint(out, (uint64_t)refs[i].created_us);
      rag_buf_append_varint(out, (uint64_t)refs[i].moved_us);
      char at[128], time[RAG_TIME_TEXT_MAX];
      rag_time_format(refs[i].moved_us, time);
      snprintf(at, sizeof at, "%s@%s", refs[i].name, time);
      if (!tags) describe_version(kb, at, out);
    }
    rag_free(refs);
  }
}

static void describe(rag_kb *kb, rag_search *search, rag_buf *out) {
  rag_kb__view *view = rag_cell_get(&kb->view);
  uint32_t next = view->state.next_commit;
  rag_buf_append_varint(out, next);
  rag_buf_append_varint(out, view->state.next_revision);
  rag_buf_append_varint(out, view->state.next_content);
  rag_buf_append_varint(out, view->state.next_chunk);
  rag_ref_drop(view);
  describe_refs(kb, out);
  for (uint32_t c = 1; c < next; c++) {
    char ref[16];
    snprintf(ref, sizeof ref, "c%u", c);
    describe_version(kb, ref, out);
    describe_search(kb, search, ref, out);
  }
}

static void assert_same(rag_kb *a, rag_kb *b, rag_search *search) {
  rag_buf x = {0}, y = {0};
  describe(a, search, &x);
  describe(b, search, &y);
  assert_false(x.failed || y.failed);
  assert_true(x.size > 1000);
  assert_int_equal(x.size, y.size);
  assert_memory_equal(x.data, y.data, x.size);
  rag_buf_free(&x);
  rag_buf_free(&y);
}

// ---------------------------------------------------------------------------------------------- kbs with all in them

static void fill_texts(rag_kb *kb) {
  char name[16], text[400];
  for (int i = 0; i < 300; i++) { // past a checkpoint
    snprintf(name, sizeof name, "d%d", i % 37);
    snprintf(
        text, sizeof text,
        "# Part %d\n\nA first paragraph about subject s%d, long enough to be a chunk of its own when chunks are "
        "small.\n\n"
        "Another one, about topic t%d and the state %d of the document, with some more words to fill the chunk up.",
        i % 5, i % 11, i % 7, i);
    rag_document_input in = {.id = S(name),
                             .text = S(text),
                             .title = S(i % 3 ? "A title" : ""),
                             .metadata = S(i % 2 ? "{\"lang\":\"en\"}" : ""),
                             .source_uri = S("file:///x"),
                             .source_modified_us = i,
                             .effective_us = -i};
    (void)kb_test_put_input(kb, NULL, &in);
  }
  kb_test_branch(kb, "side", "main~20");
  kb_test_tag(kb, "v1", "main~10");
  kb_test_put_on(kb, "side", "only-there", "a document of the branch alone", "{\"a\":[1,2]}");
  kb_test_patch_on(kb, "side", "only-there", "{\"a\":[3]}");
  kb_test_delete_on(kb, NULL, "d5");
  kb_test_merge(kb, "side", "main", RAG_MERGE_OURS);
  kb_test_rollback(kb, "side", "v1");
}

static void put_vectors(rag_kb *kb) {
  float a[4] = {1, 2, 3, 4}, b[4] = {-1, 0.5f, 0, 2}, c[4] = {0, 0, 1, 0};
  rag_chunk_input chunks[3] = {
      {.text = S("first words"), .vector = a, .vector_dimension = 4, .metadata = S("{\"page\":1}")},
      {.text = S("a text of its own"), .vector = b, .vector_dimension = 4},
      {.text = S("without a vector")},
  };
  rag_document_input in[3] = {
      {.id = S("one"), .text = S("one vector"), .vector = a, .vector_dimension = 4, .metadata = S("{\"k\":\"v\"}")},
      {.id = S("three"),
       .text = S("first words and other words"),
       .title = S("Three"),
       .chunks = chunks,
       .chunk_count = 3},
      {.id = S("bare"), .vector = c, .vector_dimension = 4, .source_uri = S("s3://b/k"), .effective_us = 5},
  };
  for (int i = 0; i < 3; i++) (void)kb_test_put_input(kb, NULL, &in[i]);
  kb_test_branch(kb, "dev", "main");
  kb_test_tag(kb, "v1", "c2");
  kb_test_delete_on(kb, "dev", "one");
  kb_test_patch_on(kb, NULL, "three", "{\"k\":2}");
  kb_test_merge(kb, "dev", "main", RAG_MERGE_FAIL);
}

static void texts_come_back(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  stream s = {.step = 777}, again = {0};
  rag_gc_options options = {.keep_commits = 150};
  uint64_t job = 0;
  rag_search search = {.mode = RAG_SEARCH_VECTOR,
                       .query = S("a paragraph about subject s3 and topic t4"),
                       .k = 50,
                       .exact = true,
                       .want_text = true,
                       .want_metadata = true,
                       .want_vector = true};
  fill_texts(kb);
  OK(rag_kb_gc(kb, &options, &job, &err)); // dropped commits, rebased deltas, log rows that point nowhere
  kb_test_job(f, job);
  export_to(kb, &s);
  rag_kb *copy = import_from(f, "copy", &s);
  assert_string_equal(rag_kb_name(copy), "copy");
  assert_same(kb, copy, &search);
  rag_ref_drop(kb);
  rag_ref_drop(copy);
  kb_test_reopen(f);
  kb = kb_test_get(f, "docs");
  copy = kb_test_get(f, "copy");
  assert_same(kb, copy, &search);
  // The copy's own export is the same but for the name, and it goes on like any kb.
  export_to(copy, &again);
  assert_int_equal(again.bytes.size, s.bytes.size);
  rag_write_result result = kb_test_put(copy, "new", "a new document in the copy alone");
  assert_int_equal(result.added, 1);
  assert_string_equal(kb_test_search(copy, "main", "a new document in the copy alone", 1), "new");
  assert_null(kb_test_text(kb, "main", "new"));
  result = kb_test_put(copy, "new", "a new document in the copy alone");
  assert_int_equal(result.unchanged, 1);
  rag_ref_drop(kb);
  rag_ref_drop(copy);
  rag_buf_free(&s.bytes);
  rag_buf_free(&again.bytes);
}

static float query_vector[4] = {0.5f, 1, -1, 0.25f};
static rag_search by_vector(void) {
  return (rag_search){.vector = query_vector,
                      .vector_dimension = 4,
                      .k = 50,
                      .exact = true,
                      .want_text = true,
                      .want_metadata = true,
                      .want_vector = true};
}

static void vectors_come_back_under_their_name(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  stream s = {0};
  rag_search search = by_vector();
  rag_kb *kb = kb_test_create(f, "vectors", "", 4), *copy = NULL;
  put_vectors(kb);
  export_to(kb, &s);
  FAILS(rag_kbs_import(f->kbs, S(""), from_stream, &s, &copy, &err), RAG_ALREADY_EXISTS, "vectors");
  assert_true(s.at < s.bytes.size); // before reading everything
  s.at = 0;
  FAILS(rag_kbs_import(f->kbs, S("vectors"), from_stream, &s, &copy, &err), RAG_ALREADY_EXISTS, "vectors");
  assert_int_equal(s.at, 0);
  FAILS(rag_kbs_import(f->kbs, S("No Name"), from_stream, &s, &copy, &err), RAG_INVALID_ARGUMENT, "name");
  copy = import_from(f, "other", &s);
  assert_same(kb, copy, &search);
  assert_string_not_equal(kb->fingerprint, copy->fingerprint); // a client's space is its kb's own
  rag_ref_drop(copy);
  rag_ref_drop(kb);
  rag_buf_free(&s.bytes);
}

// ---------------------------------------------------------------------------------------------- damage

static void refused(kb_fixture *f, stream *s, const char *what, size_t at) {
  rag_error err = {0};
  rag_kb *kb = NULL;
  s->at = 0;
  rag_status status = rag_kbs_import(f->kbs, S("copy"), from_stream, s, &kb, &err);
  if (status != RAG_DATA_LOSS) fail_msg("%s at byte %zu: %s: %s", what, at, rag_status_name(status), err.message);
  FAILS(rag_kbs_get(f->kbs, S("copy"), &kb, &err), RAG_NOT_FOUND, "copy");
}

static void every_flipped_byte_is_found(void **state) {
  kb_fixture *f = *state;
  stream s = {0};
  rag_kb *kb = kb_test_create(f, "vectors", "", 4);
  put_vectors(kb);
  export_to(kb, &s);
  for (size_t i = 0; i < s.bytes.size; i++) {
    char was = s.bytes.data[i];
    s.bytes.data[i] = (char)(was ^ (1 << i % 8));
    refused(f, &s, "flip", i);
    s.bytes.data[i] = (char)~was;
    if (i % 7 == 0) refused(f, &s, "inversion", i);
    s.bytes.data[i] = was;
  }
  size_t size = s.bytes.size;
  for (s.bytes.size = 0; s.bytes.size < size; s.bytes.size++) refused(f, &s, "cut", s.bytes.size);
  rag_buf_append_char(&s.bytes, 'x');
  refused(f, &s, "more", size);
  assert_int_equal(rows_from(f, kb->id + 1), 0); // nothing is left of any of them
  s.bytes.size = size;
  rag_ref_drop(import_from(f, "copy", &s)); // and whole, it is fine
  rag_ref_drop(kb);
  rag_buf_free(&s.bytes);
}

// Walks the frames of a stream; forges one frame's payload under right checksums and a right digest.
static void forge(const stream *from, uint8_t type, void (*change)(char *payload, size_t size, int what), int what,
                  stream *to) {
  const unsigned char *bytes = (const unsigned char *)from->bytes.data;
  rag_digest_state digest;
  rag_buf_clear(&to->bytes);
  rag_buf_append(&to->bytes, bytes, 10);
  for (size_t at = 10; at < from->bytes.size;) {
    size_t size = bytes[at + 1] | (size_t)bytes[at + 2] << 8 | (size_t)bytes[at + 3] << 16;
    size_t start = to->bytes.size;
    rag_buf_append(&to->bytes, bytes + at, 5 + size);
    if (bytes[at] == type) change(to->bytes.data + start + 5, size, what);
    if (bytes[at] == RAG_KB__FRAME_TRAILER) {
      rag_digest_init(&digest);
      rag_digest_update(&digest, to->bytes.data, start);
      rag_digest sum = rag_digest_final(&digest);
      memcpy(to->bytes.data + to->bytes.size - RAG_DIGEST_BYTES, sum.bytes, RAG_DIGEST_BYTES);
    }
    rag_buf_append_u32le(&to->bytes, rag_crc32c(0, to->bytes.data + start, 5 + size));
    at += 5 + size + 4;
  }
}

static void change_byte(char *payload, size_t size, int what) {
  size_t at = (size_t)what * 13 % size;
  payload[at] = (char)(payload[at] ^ (1 << (what / 7) % 8));
}

// A stream whose checksums are right but whose rows are not must be refused, or be a kb that works: never a crash, never
// one that answers with an error.
static void forged_rows_do_no_harm(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  stream s = {0}, forged = {0};
  rag_kb *kb = kb_test_create(f, "vectors", "", 4);
  rag_search search = by_vector();
  uint32_t accepted = 0, refused_count = 0;
  put_vectors(kb);
  export_to(kb, &s);
  forge(&s, 0, change_byte, 0, &forged);
  assert_int_equal(forged.bytes.size, s.bytes.size);
  assert_memory_equal(forged.bytes.data, s.bytes.data, s.bytes.size); // the forger forges well
  for (uint8_t type = RAG_KB__FRAME_HEADER; type <= RAG_KB__FRAME_REFS; type++) {
    for (int what = 0; what < 200; what++) {
      rag_kb *copy = NULL;
      rag_buf out = {0};
      forge(&s, type, change_byte, what, &forged);
      forged.at = 0;
      rag_status status = rag_kbs_import(f->kbs, S("copy"), from_stream, &forged, &copy, &err);
      if (status != RAG_OK) {
        // Not found: a model's name; exhausted: a bound of memory. A forger may set them like any configuration.
        if (status != RAG_DATA_LOSS && status != RAG_NOT_FOUND && status != RAG_RESOURCE_EXHAUSTED)
          fail_msg("frame %u, change %d: %s: %s", type, what, rag_status_name(status), err.message);
        refused_count++;
        continue;
      }
      accepted++;
      search.vector_dimension = copy->dimension;
      describe_refs(copy, &out);
      rag_kb__view *view = rag_cell_get(&copy->view);
      uint32_t newest = view->state.next_commit - 1;
      rag_ref_drop(view);
      for (uint32_t c = 1; c <= newest && c <= 20; c++) {
        rag_search_result result = {0};
        char ref[16];
        snprintf(ref, sizeof ref, "c%u", c);
        search.at = S(ref);
        status = rag_kb_search(copy, &search, &result, &err);
        if (status == RAG_OK) rag_search_result_free(&result);
        else if (status != RAG_NOT_FOUND) fail_msg("frame %u, change %d, %s: %s", type, what, ref, err.message);
      }
      rag_buf_free(&out);
      uint64_t job = 0;
      OK(rag_kbs_delete(f->kbs, S("copy"), &job, &err));
      rag_ref_drop(copy);
      kb_test_job(f, job);
    }
  }
  assert_true(accepted > 0 && refused_count > 400); // texts and messages may change, numbers may not
  rag_ref_drop(kb);
  rag_buf_free(&s.bytes);
  rag_buf_free(&forged.bytes);
}

// ---------------------------------------------------------------------------------------------- crash, snapshot

typedef struct crasher {
  stream *s;
  kb_fixture *f;
  size_t at;
} crasher;

// The rows as a crash leaves them: the import fails at byte `at`, with its removal refused.
static rag_status crash_read(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  crasher *c = ctx;
  if (c->s->at >= c->at) {
    rag_store_set_error_for_test(c->f->store, "crash");
    return rag_fail(err, RAG_UNAVAILABLE, "crash");
  }
  return from_stream(c->s, data, RAG_MIN(size, c->at - c->s->at), out_size, err);
}

static void a_crashed_import_is_swept(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  stream s = {0};
  rag_kb *kb = kb_test_create(f, "vectors", "", 4), *copy = NULL;
  uint32_t first = kb->id + 1;
  char *text = malloc(6u << 20);
  memset(text, 'x', (6u << 20) - 1);
  text[(6u << 20) - 1] = '\0';
  put_vectors(kb);
  float v[4] = {1, 1, 1, 1};
  rag_document_input big = {.id = S("big"), .text = S(text), .vector = v, .vector_dimension = 4}; // a batch of its own
  (void)kb_test_put_input(kb, NULL, &big);
  free(text);
  export_to(kb, &s);
  rag_ref_drop(kb);
  crasher c = {&s, f, s.bytes.size - 200};
  FAILS(rag_kbs_import(f->kbs, S("copy"), crash_read, &c, &copy, &err), RAG_UNAVAILABLE, "crash");
  assert_true(rows_from(f, first) > 2); // rows of a batch, and the mark
  kb_test_reopen(f);
  assert_int_equal(rows_from(f, first), 0);
  FAILS(rag_kbs_get(f->kbs, S("copy"), &copy, &err), RAG_NOT_FOUND, "copy");
  copy = import_from(f, "copy", &s);
  assert_true(copy->id > first); // the crashed one's number is not used again
  rag_ref_drop(copy);
  rag_buf_free(&s.bytes);
}

typedef struct busy { // changes the kb whenever the export writes
  stream s;
  rag_kb *kb;
  int count;
} busy;

static rag_status busy_write(void *ctx, const void *data, size_t size, rag_error *err) {
  busy *b = ctx;
  char text[64];
  snprintf(text, sizeof text, "written while the export runs %d", b->count++);
  kb_test_put(b->kb, "d1", text);
  return to_stream(&b->s, data, size, err);
}

static void an_export_is_one_state(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  rag_kb *kb = kb_test_new(f);
  stream before = {0};
  busy b = {.kb = kb};
  kb_test_put(kb, "d1", "one document");
  kb_test_put(kb, "d2", "another document");
  export_to(kb, &before);
  OK(rag_kb_export(kb, busy_write, &b, &err));
  assert_true(b.count > 5);
  assert_int_equal(before.bytes.size, b.s.bytes.size);
  assert_memory_equal(before.bytes.data, b.s.bytes.data, before.bytes.size);
  stream short_one = {.fail_after = 100};
  FAILS(rag_kb_export(kb, to_stream, &short_one, &err), RAG_CANCELLED, "went away");
  rag_ref_drop(kb);
  rag_buf_free(&before.bytes);
  rag_buf_free(&b.s.bytes);
  rag_buf_free(&short_one.bytes);
}

// ---------------------------------------------------------------------------------------------- golden

static void golden_path(char out[600]) { // beside this file's folder
  snprintf(out, 600, "%s", __FILE__);
  char *end = strrchr(out, '/');
  assert_non_null(end);
  snprintf(end, (size_t)(out + 600 - end), "/../golden/kb_export_v1.ragkb");
}

// RAGD_TEST_WRITE_GOLDEN=1 writes the file: once for each format version, never again.
static void version_1_imports_for_ever(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  char path[600];
  stream s = {0};
  size_t size = 0;
  golden_path(path);
  if (getenv("RAGD_TEST_WRITE_GOLDEN") != NULL) {
    rag_kb *kb = kb_test_create(f, "golden", "", 4);
    put_vectors(kb);
    export_to(kb, &s);
    OK(rag_os_write_file(path, s.bytes.data, s.bytes.size, &err));
    rag_buf_free(&s.bytes);
    rag_ref_drop(kb);
    return;
  }
  OK(rag_os_read_file(path, 1u << 20, &s.bytes.data, &size, &err));
  s.bytes.size = size;
  rag_kb *kb = import_from(f, "", &s);
  assert_string_equal(rag_kb_name(kb), "golden");
  rag_search search = by_vector();
  rag_search_result result = {0};
  OK(rag_kb_search(kb, &search, &result, &err));
  assert_int_equal(result.commit, 7);
  assert_int_equal(result.count,
                   3); // "three": two vectors, "bare": one; "one" was deleted on the branch that was merged
  assert_true(rag_slice_equal(result.hits[2].document_id, S("bare")));
  assert_true(rag_slice_equal(result.hits[0].chunk_metadata, S("{\"page\":1}")) ||
              rag_slice_equal(result.hits[1].chunk_metadata, S("{\"page\":1}")));
  rag_search_result_free(&result);
  assert_string_equal(kb_test_text(kb, "v1", "one"), "one vector");
  assert_null(kb_test_text(kb, "main", "one"));
  assert_null(kb_test_text(kb, "v1", "bare"));
  rag_document document = {0};
  OK(rag_kb_document_get(kb, S("main"), S("three"), &document, &err));
  assert_true(rag_slice_equal(document.metadata, S("{\"k\":2}")));
  assert_true(rag_slice_equal(document.title, S("Three")));
  assert_int_equal(document.chunk_count, 3);
  rag_document_free(&document);
  rag_ref_drop(kb);
  rag_free(s.bytes.data);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      KB_TEST(texts_come_back),
      KB_TEST(vectors_come_back_under_their_name),
      KB_TEST(every_flipped_byte_is_found),
      KB_TEST(forged_rows_do_no_harm),
      KB_TEST(a_crashed_import_is_swept),
      KB_TEST(an_export_is_one_state),
      KB_TEST(version_1_imports_for_ever),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
