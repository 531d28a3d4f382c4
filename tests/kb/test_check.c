// Goal: the check finds nothing in a sound store, and names what is wrong in one whose rows do not fit each other.
// Method: a kb with versions; every single row of every family removed in turn, then cut short in turn, through the
// store itself (so all checksums are right), the check asked, the row put back. Rows whose loss is no error are listed.
#include "kb_test.h"

typedef struct change {
  rag_cf cf;
  rag_slice key, value; // value.data NULL: delete
} change;

static rag_status change_apply(void *ctx, rag_txn *txn, rag_error *err) {
  const change *c = ctx;
  RAG_UNUSED(err);
  if (c->value.data != NULL) rag_txn_put(txn, c->cf, c->key, c->value);
  else rag_txn_delete(txn, c->cf, c->key);
  return RAG_OK;
}

static void change_row(kb_fixture *f, rag_cf cf, rag_slice key, rag_slice value) {
  rag_error err = {0};
  change c = {cf, key, value};
  rag_commit_request request = {.apply = change_apply, .ctx = &c};
  OK(rag_store_commit(f->store, &request, &err));
}

typedef struct findings {
  unsigned errors, notes;
  char first[500];
} findings;

static void on_finding(void *ctx, rag_check_level level, const char *kb, const char *text) {
  findings *found = ctx;
  if (level == RAG_CHECK_ERROR && found->errors++ == 0) snprintf(found->first, sizeof found->first, "%s: %s", kb, text);
  found->notes += level == RAG_CHECK_NOTE;
}

// A store that does not open says what is wrong as well.
static findings check(kb_fixture *f) {
  findings found = {0};
  rag_error err = {0};
  rag_kbs *kbs = NULL;
  rag_kbs_options options = rag_kbs_options_default();
  rag_check_options how = {.report = on_finding, .ctx = &found};
  rag_check_result result = {0};
  rag_jobs *jobs = NULL; // of its own, as nothing of a running kb may answer from memory
  options.load_at_open = false;
  OK(rag_jobs_open(f->store, 0, &jobs, &err));
  if (rag_kbs_open(f->store, jobs, &options, &kbs, &err) != RAG_OK) {
    found.errors++;
    snprintf(found.first, sizeof found.first, "open: %.400s", err.message);
  } else {
    OK(rag_kbs_check(kbs, &how, &result, &err));
    assert_int_equal(result.errors, found.errors);
    assert_int_equal(result.notes, found.notes);
  }
  rag_kbs_close(kbs);
  rag_jobs_close(jobs);
  return found;
}

static void build(kb_fixture *f) {
  rag_kb *kb = kb_test_new(f);
  kb_test_put(kb, "a", "the first text");
  kb_test_put(kb, "b", "another text of some length");
  kb_test_tag(kb, "v1", "main");
  kb_test_branch(kb, "side", "main");
  kb_test_put_on(kb, "side", "c", "on a branch", NULL);
  kb_test_put(kb, "a", "the first text, changed");
  kb_test_patch_on(kb, "main", "b", "{\"n\":1}");
  kb_test_delete_on(kb, "main", "a");
  rag_ref_drop(kb);
}

static void a_sound_store_has_no_findings(void **state) {
  kb_fixture *f = *state;
  findings found = check(f);
  assert_int_equal(found.errors + found.notes, 0); // of an empty one
  build(f);
  found = check(f);
  if (found.errors + found.notes > 0) fail_msg("%u errors, %u notes: %s", found.errors, found.notes, found.first);
}

typedef struct saved {
  rag_buf key, value;
} saved;

static void a_client_may_leave_vectors_out(void **state) {
  kb_fixture *f = *state;
  float vector[2] = {1, 0};
  rag_kb *kb = kb_test_create(f, "vectors", "", 2);
  rag_chunk_input chunks[] = {{.text = S("with"), .vector = vector, .vector_dimension = 2}, {.text = S("without")}};
  rag_document_input in = {.id = S("a"), .chunks = chunks, .chunk_count = 2};
  assert_int_equal(kb_test_put_input(kb, NULL, &in).chunks_added, 2);
  rag_ref_drop(kb);
  findings found = check(f);
  if (found.errors + found.notes > 0) fail_msg("%s", found.first);
}

static uint32_t save_rows(kb_fixture *f, rag_cf cf, saved rows[], uint32_t room) {
  rag_store_iter *it = NULL;
  rag_error err = {0};
  uint32_t count = 0;
  OK(rag_store_iter_open(f->store, NULL, cf, (rag_slice){0}, (rag_slice){0}, false, &it, &err));
  while (rag_store_iter_next(it)) {
    assert_true(count < room);
    rows[count] = (saved){0};
    rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
    rag_buf_append(&rows[count].key, key.data, key.size);
    rag_buf_append(&rows[count].value, value.data, value.size);
    count++;
  }
  rag_store_iter_close(it);
  return count;
}

// Whose loss changes no answer: embeddings that can be made again, what a name stood for earlier, keys of requests.
static bool may_go(rag_cf cf, rag_slice key) {
  return cf == RAG_CF_CACHE || (cf == RAG_CF_META && strchr("LISBtbN", key.data[0]) != NULL);
}

static void every_lost_row_is_named(void **state) {
  static const rag_cf families[] = {RAG_CF_META,  RAG_CF_DOCUMENT, RAG_CF_REVISION, RAG_CF_CONTENT,
                                    RAG_CF_CHUNK, RAG_CF_VECTOR,   RAG_CF_COMMIT,   RAG_CF_BITMAP};
  kb_fixture *f = *state;
  unsigned tried = 0;
  build(f);
  for (size_t i = 0; i < RAG_COUNT_OF(families); i++) {
    static saved rows[256];
    uint32_t count = save_rows(f, families[i], rows, RAG_COUNT_OF(rows));
    for (uint32_t r = 0; r < count; r++) {
      rag_slice key = rag_buf_slice(&rows[r].key), value = rag_buf_slice(&rows[r].value);
      if (!may_go(families[i], key)) {
        char hex[200];
        rag_hex(key.data, RAG_MIN(key.size, (size_t)90), hex);
        change_row(f, families[i], key, (rag_slice){0});
        findings found = check(f);
        if (found.errors == 0) fail_msg("the loss of row %s of %s is not found", hex, rag_cf_name(families[i]));
        // The last byte: of a text, a number or a bitmap. What still decodes as another record is not asked for.
        if (families[i] != RAG_CF_CONTENT && families[i] != RAG_CF_REVISION && value.size > 0) {
          change_row(f, families[i], key, rag_slice_of(value.data, value.size - 1));
          found = check(f);
          if (found.errors == 0) fail_msg("row %s of %s, cut short, is not found", hex, rag_cf_name(families[i]));
        }
        change_row(f, families[i], key, value);
        tried++;
      }
      rag_buf_free(&rows[r].key);
      rag_buf_free(&rows[r].value);
    }
  }
  assert_true(tried > 30);
  findings found = check(f);
  if (found.errors > 0) fail_msg("%s", found.first); // all are back
}

static void segment_path(const kb_fixture *f, rag_kb *kb, char out[512]) {
  rag_error err = {0};
  rag_kb_index info;
  char name[RAG_SEGMENT_NAME_MAX];
  OK(rag_kb_index_info(kb, &info, &err));
  assert_int_equal(info.count, 1);
  rag_segment_name(&info.segments[0].id, name);
  rag_kb_index_free(&info);
  snprintf(out, 512, "%.256s/index/%u/1/%s", f->dir, (unsigned)kb_test_describe(kb).id, name);
}

static void flip(const char *path, long offset) {
  FILE *file = fopen(path, "r+");
  assert_true(file && fseek(file, offset, SEEK_SET) == 0);
  int byte = fgetc(file);
  assert_true(byte != EOF && fseek(file, offset, SEEK_SET) == 0 && fputc(byte ^ 16, file) != EOF);
  fclose(file);
}

static void segments_are_looked_at(void **state) {
  kb_fixture *f = *state;
  rag_error err = {0};
  char path[512], aside[600];
  rag_kb *kb = kb_test_new(f);
  for (int i = 0; i < 30; i++) {
    char id[16], text[64];
    snprintf(id, sizeof id, "d%d", i);
    snprintf(text, sizeof text, "text number %d of many", i);
    kb_test_put(kb, id, text);
  }
  OK(rag_jobs_run_foreground(f->jobs, NULL, NULL, &err));
  findings found = check(f);
  if (found.errors + found.notes > 0) fail_msg("%s", found.first);
  segment_path(f, kb, path);
  static const long places[] = {3, 60, 4099, 9000};
  for (size_t i = 0; i < RAG_COUNT_OF(places); i++) {
    flip(path, places[i]);
    found = check(f);
    assert_int_equal(found.errors, 1);
    assert_non_null(strstr(found.first, strrchr(path, '/') + 1));
    flip(path, places[i]);
  }
  snprintf(aside, sizeof aside, "%s.aside", path);
  assert_int_equal(rename(path, aside), 0);
  found = check(f);
  assert_true(found.errors == 0 && found.notes == 1); // as after a restore
  assert_int_equal(rename(aside, path), 0);

  static saved rows[64]; // a vector that is not the one which was sealed
  uint32_t count = save_rows(f, RAG_CF_VECTOR, rows, RAG_COUNT_OF(rows));
  assert_int_equal(count, 30);
  rows[11].value.data[5] ^= 1;
  change_row(f, RAG_CF_VECTOR, rag_buf_slice(&rows[11].key), rag_buf_slice(&rows[11].value));
  found = check(f);
  assert_true(found.errors == 1 && strstr(found.first, "is another one in the index's segment") != NULL);
  rows[11].value.data[5] ^= 1;
  change_row(f, RAG_CF_VECTOR, rag_buf_slice(&rows[11].key), rag_buf_slice(&rows[11].value));
  found = check(f);
  assert_int_equal(found.errors + found.notes, 0);
  for (uint32_t i = 0; i < count; i++) {
    rag_buf_free(&rows[i].key);
    rag_buf_free(&rows[i].value);
  }
  rag_ref_drop(kb);
}

static void strays_are_notes(void **state) {
  kb_fixture *f = *state;
  rag_key key;
  build(f);
  rag_key_init(&key);
  rag_key_u32(&key, 4242); // no kb
  rag_key_u32(&key, 1);
  change_row(f, RAG_CF_CHUNK, rag_key_slice(&key), S("x"));
  change_row(f, RAG_CF_META, S("~later"), S("of a newer program"));
  findings found = check(f);
  assert_int_equal(found.errors, 0);
  assert_int_equal(found.notes, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_sound_store_has_no_findings, kb_test_setup, kb_test_teardown),
      cmocka_unit_test_setup_teardown(a_client_may_leave_vectors_out, kb_test_setup, kb_test_teardown),
      cmocka_unit_test_setup_teardown(every_lost_row_is_named, kb_test_setup, kb_test_teardown),
      cmocka_unit_test_setup_teardown(segments_are_looked_at, kb_test_setup, kb_test_teardown),
      cmocka_unit_test_setup_teardown(strays_are_notes, kb_test_setup, kb_test_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
