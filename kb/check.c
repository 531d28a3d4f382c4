// Checking: every row of every kb is read, decoded, and asked for what it refers to.
//
// What is checked, in this order
//   tables        every block of every table file has its checksum (store)
//   META          branches and tags name commits that are there; names and values decode
//   REVISION      decodes; content and chunks lie below the kb's next numbers
//   CONTENT       decodes
//   CHUNK         decodes; its content is there and its span lies in the content's body
//   segments      the file of each, whole, as at opening (checksums, and what they cannot say); no two have a row in common.
//                 One that is damaged is an error; one that is not there is a note, as backups have none: both are made
//                 again when the kb is loaded, and a kb that was loaded since has none of them any more
//   VECTOR        the kb's dimension, finite numbers; what the segments have of it
//   DOCUMENT      decodes; says the same as its revision's row
//   COMMIT        record and delta decode; the delta's base, or the checkpoint, is there; parents are older; the version
//                 materialises; its numbers of documents and chunks are the record's
//   live sets     every revision that a commit holds has its rows: itself, its document entry, its content, its chunks,
//                 their vectors where the kb makes them; at branch heads and tags the chunks alive are those of the
//                 revisions alive
//   CACHE         decodes; of what is there it names a vector of the same space
//   jobs          decode
// Rows that no commit needs, rows of no kb, and rows of kinds that this program does not know are notes: gc, a deletion
// or an import that was cut short leaves such rows, and a newer program may add some.
//
// Memory: per kb, 20 bytes a revision, 8 a content, one bit a chunk. Threads: any; see rag_kbs_check.
#include "kb/segments_internal.h"

#include <math.h>
#include <stdio.h>

#define PROGRESS_EVERY 4096u // rows

typedef struct revision_seen {
  uint32_t content, first_chunk, chunk_count;
  bool there, document; // its row; its document's entry
} revision_seen;

typedef struct ordinal_table { // grows with the largest ordinal met, so that a wrong `next` costs nothing
  void *items;
  size_t item_bytes, count;
} ordinal_table;

typedef struct checker {
  rag_kbs *kbs;
  rag_store *store;
  const rag_check_options *options;
  rag_check_result result;
  uint64_t reported[2];
  uint64_t next_progress;

  // Of the kb that is being checked.
  rag_kb *kb;
  uint32_t id;
  rag_kb__state state;
  bool unread[RAG_CF_COUNT]; // rows of a family could not be read: what refers to them cannot be judged
  ordinal_table revisions;   // revision_seen
  ordinal_table contents;    // uint64_t: 1 + bytes of the body; 0: not there
  rag_bitmap_edit *chunks, *vectors, *commits;
  float *vector;                                 // a row's
  rag_bitmap_edit *live_revisions, *live_chunks; // of any commit
  rag_index *sealed;                             // of the segments that are sound
  rag_bitmap *numbers;                           // every one that a chunk can have
  char *segments_dir;
} checker;

// ---------------------------------------------------------------------------------------------- reporting

static void report(checker *c, rag_check_level level, const char *fmt, ...) RAG_PRINTF(3, 4);
static void report(checker *c, rag_check_level level, const char *fmt, ...) {
  char text[RAG_ERROR_MESSAGE_MAX];
  va_list args;
  if (level == RAG_CHECK_ERROR) c->result.errors++;
  else c->result.notes++;
  if (c->options->report == NULL || c->reported[level]++ >= RAG_CHECK_REPORTS_MAX) return;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  c->options->report(c->options->ctx, level, c->kb ? c->kb->name : "", text);
}

// A row by its family and its key in hex.
static void report_row(checker *c, rag_check_level level, rag_cf cf, rag_slice key, const char *what) {
  char hex[2 * 48 + 1];
  rag_hex(key.data, RAG_MIN(key.size, (size_t)48), hex);
  report(c, level, "row %s of %s %s", hex, rag_cf_name(cf), what);
}

static rag_status step(checker *c, rag_error *err) {
  if (++c->result.rows < c->next_progress) return RAG_OK;
  c->next_progress = c->result.rows + PROGRESS_EVERY;
  return c->options->progress ? c->options->progress(c->options->ctx, c->result.rows, err) : RAG_OK;
}

// ---------------------------------------------------------------------------------------------- tables by ordinal

static rag_status table_at(ordinal_table *table, uint32_t ordinal, void *out, rag_error *err) {
  if (ordinal >= table->count) {
    size_t count = RAG_MAX((size_t)ordinal + 1, RAG_MIN(2 * table->count, (size_t)UINT32_MAX + 1));
    char *items = rag_realloc_array(table->items, count, table->item_bytes);
    if (items == NULL) return rag_fail_no_memory(err, count * table->item_bytes);
    memset(items + table->count * table->item_bytes, 0, (count - table->count) * table->item_bytes);
    table->items = items;
    table->count = count;
  }
  char *item = (char *)table->items + (size_t)ordinal * table->item_bytes;
  memcpy(out, &item, sizeof item);
  return RAG_OK;
}

// The item, or NULL where none was met.
static void *table_find(const ordinal_table *table, uint32_t ordinal) {
  return ordinal < table->count ? (char *)table->items + (size_t)ordinal * table->item_bytes : NULL;
}

// ---------------------------------------------------------------------------------------------- walking

typedef rag_status (*row_fn)(checker *c, rag_slice key, rag_slice value, rag_error *err);

// Every row of a family below a prefix. Damage that the store finds is an error of the check and ends this walk alone.
static rag_status walk(checker *c, rag_cf cf, const rag_key *prefix, row_fn each, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_key upper;
  rag_error local = {0};
  rag_slice end = {0};
  if (rag_key_successor(prefix, &upper)) end = rag_key_slice(&upper);
  RAG_TRY(rag_store_iter_open(c->store, NULL, cf, rag_key_slice(prefix), end, false, &it, err));
  rag_status status = RAG_OK;
  while (status == RAG_OK && rag_store_iter_next(it)) {
    status = step(c, err);
    if (status == RAG_OK) status = each(c, rag_store_iter_key(it), rag_store_iter_value(it), err);
  }
  rag_status damage = rag_store_iter_status(it, &local);
  rag_store_iter_close(it);
  if (status != RAG_OK || damage == RAG_OK) return status;
  if (damage == RAG_DATA_LOSS) {
    c->unread[cf] = true;
    report(c, RAG_CHECK_ERROR, "rows of %s cannot be read, nor be looked for by what refers to them: %s",
           rag_cf_name(cf), local.message);
    return RAG_OK;
  }
  if (err != NULL) *err = local;
  return damage;
}

static rag_status walk_kb(checker *c, rag_cf cf, row_fn each, rag_error *err) {
  rag_key prefix;
  rag_key_init(&prefix);
  rag_key_u32(&prefix, c->id);
  return walk(c, cf, &prefix, each, err);
}

static rag_status walk_meta(checker *c, uint8_t tag, row_fn each, rag_error *err) {
  rag_key prefix;
  rag_key_init(&prefix);
  rag_key_u8(&prefix, tag);
  rag_key_u32(&prefix, c->id);
  return walk(c, RAG_CF_META, &prefix, each, err);
}

static uint32_t u32_at(rag_slice key, size_t offset) {
  rag_reader r = rag_reader_of(rag_slice_of(key.data + offset, 4));
  return rag_read_u32be(&r);
}

// ---------------------------------------------------------------------------------------------- rows of a kb

// A row with another key than the family's, in a kb's range, is of a kind that this program does not know.
static bool known_key(checker *c, rag_cf cf, rag_slice key, size_t size) {
  if (key.size == size) return true;
  report_row(c, RAG_CHECK_NOTE, cf, key, "is of a kind that this program does not know");
  return false;
}

static rag_status on_revision(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_kb__revision revision;
  revision_seen *seen = NULL;
  if (!known_key(c, RAG_CF_REVISION, key, 8)) return RAG_OK;
  uint32_t number = u32_at(key, 4);
  if (!rag_kb__decode_revision(value, &revision)) {
    report_row(c, RAG_CHECK_ERROR, RAG_CF_REVISION, key, "cannot be decoded");
    return RAG_OK;
  }
  RAG_TRY(table_at(&c->revisions, number, &seen, err));
  *seen = (revision_seen){revision.content, revision.first_chunk, revision.chunk_count, true, false};
  if (number >= c->state.next_revision)
    report(c, RAG_CHECK_ERROR, "revision %u is not below the next number, %u", number, c->state.next_revision);
  if (revision.content == 0 || revision.content >= c->state.next_content)
    report(c, RAG_CHECK_ERROR, "revision %u names content %u; the next is %u", number, revision.content,
           c->state.next_content);
  if (revision.chunk_count > 0 && (uint64_t)revision.first_chunk + revision.chunk_count > c->state.next_chunk)
    report(c, RAG_CHECK_ERROR, "revision %u names chunks up to %llu; the next is %u", number,
           (unsigned long long)revision.first_chunk + revision.chunk_count, c->state.next_chunk);
  return RAG_OK;
}

static rag_status on_content(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_kb__content content;
  uint64_t *seen = NULL;
  if (!known_key(c, RAG_CF_CONTENT, key, 8)) return RAG_OK;
  if (!rag_kb__decode_content(value, &content)) {
    report_row(c, RAG_CHECK_ERROR, RAG_CF_CONTENT, key, "cannot be decoded");
    return RAG_OK;
  }
  if (!rag_utf8_valid(content.body.data, content.body.size))
    report(c, RAG_CHECK_ERROR, "content %u is no UTF-8", u32_at(key, 4));
  RAG_TRY(table_at(&c->contents, u32_at(key, 4), &seen, err));
  *seen = 1 + (uint64_t)content.body.size;
  return RAG_OK;
}

static rag_status on_chunk(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_kb__chunk chunk;
  if (!known_key(c, RAG_CF_CHUNK, key, 8)) return RAG_OK;
  uint32_t number = u32_at(key, 4);
  if (!rag_kb__decode_chunk(value, &chunk)) {
    report_row(c, RAG_CHECK_ERROR, RAG_CF_CHUNK, key, "cannot be decoded");
    return RAG_OK;
  }
  const uint64_t *content = table_find(&c->contents, chunk.content);
  if ((content == NULL || *content == 0) && c->unread[RAG_CF_CONTENT]) content = NULL;
  else if (content == NULL || *content == 0)
    report(c, RAG_CHECK_ERROR, "chunk %u is of content %u, which is not there", number, chunk.content);
  else if (chunk.start > chunk.end || chunk.end > *content - 1)
    report(c, RAG_CHECK_ERROR, "chunk %u spans %u to %u of content %u, which has %llu bytes", number, chunk.start,
           chunk.end, chunk.content, (unsigned long long)(*content - 1));
  rag_status status = rag_bitmap_edit_add(c->chunks, number);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// Whether the row is there still: of a running kb, merges and purges exchange files all the time.
static bool is_there_still(checker *c, rag_slice key) {
  rag_value value = {0};
  rag_status status = rag_store_get(c->store, NULL, RAG_CF_META, key, &value, NULL);
  rag_value_free(&value);
  return status != RAG_NOT_FOUND;
}

static rag_status on_segment(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_segment_id id;
  rag_error why = {0};
  char name[RAG_SEGMENT_NAME_MAX];
  RAG_UNUSED(value);
  if (!known_key(c, RAG_CF_META, key, 9 + sizeof id.bytes) || u32_at(key, 5) != c->kb->space) return RAG_OK;
  memcpy(id.bytes, key.data + 9, sizeof id.bytes);
  rag_segment_name(&id, name);
  rag_status status = rag_index_restore(c->sealed, c->segments_dir, &id, c->numbers, &why);
  if (status == RAG_RESOURCE_EXHAUSTED) {
    if (err != NULL) *err = why;
    return status;
  }
  if (status == RAG_OK || !is_there_still(c, key)) return RAG_OK;
  if (status == RAG_NOT_FOUND) report(c, RAG_CHECK_NOTE, "segment %s of the index is not there", name);
  else report(c, RAG_CHECK_ERROR, "a segment of the index: %s", why.message);
  return RAG_OK;
}

static rag_status check_segments(checker *c, rag_error *err) {
  rag_kb__config_ref *ref = rag_kb__config(c->kb);
  const rag_kb_config *config = &ref->config;
  rag_index_options options = {.dimension = c->kb->dimension,
                               .metric = c->kb->metric,
                               .datatype = c->kb->datatype,
                               .engine = config->engine[0] != '\0' ? config->engine : NULL,
                               .factory = config->factory};
  rag_status status = RAG_OK;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  if (edit == NULL || rag_bitmap_edit_add_range(edit, 0, c->state.next_chunk) != RAG_OK) {
    rag_bitmap_edit_destroy(edit);
    RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  }
  if (rag_bitmap_edit_finish(edit, &c->numbers) != RAG_OK) RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  RAG_TRY_OUT(rag_kb__segments_dir(c->kb, &c->segments_dir, err));
  RAG_TRY_OUT(rag_index_create(&options, &c->sealed, err));
  status = walk_meta(c, 'G', on_segment, err);
out:
  rag_ref_drop(ref);
  return status;
}

static rag_status on_vector(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  if (!known_key(c, RAG_CF_VECTOR, key, 12) || u32_at(key, 4) != c->kb->space) return RAG_OK; // other spaces: not ours
  uint32_t number = u32_at(key, 8);
  if (!rag_kb__decode_vector(c->kb->datatype, value, c->kb->dimension, c->vector)) {
    report(c, RAG_CHECK_ERROR, "the vector of chunk %u has %zu bytes, not %zu", number, value.size,
           rag_kb__vector_bytes(c->kb->datatype, c->kb->dimension));
    return RAG_OK;
  }
  for (uint32_t i = 0; i < c->kb->dimension; i++) {
    if (isfinite(c->vector[i])) continue;
    report(c, RAG_CHECK_ERROR, "the vector of chunk %u has a number that is not finite", number);
    break;
  }
  rag_index_view *view = rag_index_pin(c->sealed);
  float room[RAG_DIMENSION_MAX];
  const float *sealed = rag_index_view_vector(view, number, room);
  if (sealed != NULL && memcmp(sealed, c->vector, c->kb->dimension * sizeof *sealed) != 0)
    report(c, RAG_CHECK_ERROR, "the vector of chunk %u is another one in the index's segment", number);
  rag_ref_drop(view);
  rag_status status = rag_bitmap_edit_add(c->vectors, number);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

static rag_status on_document(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_kb__document_entry entry;
  uint32_t number = 0;
  RAG_UNUSED(err);
  if (!rag_kb__key_document_revision(key, &number) || !rag_kb__decode_document(value, &entry)) {
    report_row(c, RAG_CHECK_ERROR, RAG_CF_DOCUMENT, key, "cannot be decoded");
    return RAG_OK;
  }
  revision_seen *seen = table_find(&c->revisions, number);
  if (seen == NULL || !seen->there) {
    if (c->unread[RAG_CF_REVISION]) return RAG_OK;
    report(c, RAG_CHECK_NOTE, "a document names revision %u, which is not there", number);
    return RAG_OK; // an error where a commit needs it: see check_live
  }
  seen->document = true;
  if (seen->content != entry.content || seen->first_chunk != entry.first_chunk ||
      seen->chunk_count != entry.chunk_count)
    report(c, RAG_CHECK_ERROR, "revision %u and its document's entry name different contents or chunks", number);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- commits

static rag_status on_commit(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  if (!known_key(c, RAG_CF_COMMIT, key, 9)) return RAG_OK;
  uint32_t number = u32_at(key, 4);
  rag_kb__commit commit;
  rag_kb__delta delta = {0};
  rag_error local = {0};
  rag_status status;
  switch (key.data[8]) {
  case 0:
    if (!rag_kb__decode_commit(value, &commit)) {
      report_row(c, RAG_CHECK_ERROR, RAG_CF_COMMIT, key, "cannot be decoded");
      return RAG_OK;
    }
    for (uint32_t i = 0; i < commit.parent_count; i++)
      if (commit.parents[i] >= number)
        report(c, RAG_CHECK_ERROR, "commit c%u has the younger parent c%u", number, commit.parents[i]);
    if (number >= c->state.next_commit)
      report(c, RAG_CHECK_ERROR, "commit c%u is not below the next number, c%u", number, c->state.next_commit);
    status = rag_bitmap_edit_add(c->commits, number);
    return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
  case 1:
    if (!rag_bitmap_edit_has(c->commits, number)) // its record has the key just before
      report(c, RAG_CHECK_ERROR, "commit c%u has a delta and no record", number);
    status = rag_kb__decode_delta(value, &delta, &local);
    if (status == RAG_DATA_LOSS) report(c, RAG_CHECK_ERROR, "the delta of commit c%u: %s", number, local.message);
    else if (status != RAG_OK && err != NULL) *err = local;
    rag_kb__delta_free(&delta);
    return status == RAG_DATA_LOSS ? RAG_OK : status;
  default:
    report_row(c, RAG_CHECK_NOTE, RAG_CF_COMMIT, key, "is of a kind that this program does not know");
    return RAG_OK;
  }
}

static rag_status on_bitmap(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_error local = {0};
  if (!known_key(c, RAG_CF_BITMAP, key, 8)) return RAG_OK;
  rag_status status = rag_kb__decode_checkpoint(value, &revisions, &chunks, &local);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  if (status == RAG_DATA_LOSS) {
    report(c, RAG_CHECK_ERROR, "the checkpoint of commit c%u: %s", u32_at(key, 4), local.message);
    return RAG_OK;
  }
  if (status != RAG_OK && err != NULL) *err = local;
  return status;
}

// Is it a commit that is gone by now?
static bool commit_is_gone(checker *c, uint32_t number) {
  rag_kb__commit commit;
  rag_value pin = {0};
  rag_status status = rag_kb__get_commit(c->kb, NULL, number, &commit, &pin, NULL);
  rag_value_free(&pin);
  return status == RAG_NOT_FOUND;
}

// The version of one commit: materialises, has the numbers that its record states, and joins the live sets.
static rag_status check_version(checker *c, uint32_t number, rag_error *err) {
  rag_version *version = NULL;
  rag_kb__commit commit;
  rag_value pin = {0};
  rag_error local = {0};
  rag_status status = rag_kb__get_commit(c->kb, NULL, number, &commit, &pin, &local);
  if (status == RAG_OK) status = rag_kb__version(c->kb, NULL, number, &version, &local);
  if (status != RAG_OK) {
    bool gone = commit_is_gone(c, number);
    rag_value_free(&pin);
    if (gone) return RAG_OK; // gc
    if (status != RAG_DATA_LOSS && status != RAG_NOT_FOUND && status != RAG_INTERNAL) {
      if (err != NULL) *err = local;
      return status;
    }
    report(c, RAG_CHECK_ERROR, "commit c%u has no version: %s", number, local.message);
    return RAG_OK;
  }
  uint64_t documents = rag_bitmap_count(version->revisions), chunks = rag_bitmap_count(version->chunks);
  if (documents != commit.documents || chunks != commit.chunks)
    report(c, RAG_CHECK_ERROR, "commit c%u states %llu documents and %llu chunks and holds %llu and %llu", number,
           (unsigned long long)commit.documents, (unsigned long long)commit.chunks, (unsigned long long)documents,
           (unsigned long long)chunks);
  status = rag_bitmap_edit_or(c->live_revisions, version->revisions);
  if (status == RAG_OK) status = rag_bitmap_edit_or(c->live_chunks, version->chunks);
  if (status != RAG_OK) status = rag_fail_no_memory(err, 0);
  c->result.commits++;
  rag_value_free(&pin);
  rag_ref_drop(version);
  return status;
}

static rag_status check_versions(checker *c, rag_bitmap *commits, rag_error *err) {
  for (uint32_t number = 0; rag_bitmap_next(commits, number, &number); number++) {
    RAG_TRY(check_version(c, number, err));
    RAG_TRY(step(c, err));
    if (number == UINT32_MAX) break;
  }
  return RAG_OK;
}

// The chunks alive in a version are those of its revisions, neither more nor fewer.
static rag_status check_chunks(checker *c, const char *what, const char *name, uint32_t commit, rag_error *err) {
  rag_version *version = NULL;
  rag_error local = {0};
  rag_bitmap *expected = NULL;
  rag_bitmap_edit *edit = NULL;
  rag_status status = rag_kb__version(c->kb, NULL, commit, &version, &local);
  if (status != RAG_OK) {
    report(c, RAG_CHECK_ERROR, "%s %s stands at c%u: %s", what, name, commit, local.message);
    return RAG_OK;
  }
  edit = rag_bitmap_edit_create(NULL);
  status = edit == NULL ? RAG_RESOURCE_EXHAUSTED : RAG_OK;
  for (uint32_t n = 0; status == RAG_OK && rag_bitmap_next(version->revisions, n, &n); n++) {
    const revision_seen *seen = table_find(&c->revisions, n);
    if (seen != NULL && seen->there && seen->chunk_count > 0)
      status = rag_bitmap_edit_add_range(edit, seen->first_chunk, seen->chunk_count);
    if (n == UINT32_MAX) break;
  }
  if (status == RAG_OUT_OF_RANGE) status = RAG_OK; // reported with the revision
  if (status == RAG_OK) {
    status = rag_bitmap_edit_finish(edit, &expected);
    edit = NULL;
  }
  if (status == RAG_OK && !c->unread[RAG_CF_REVISION] && !rag_bitmap_equal(expected, version->chunks))
    report(c, RAG_CHECK_ERROR, "at %s %s (c%u) %llu chunks are alive, and its documents have %llu", what, name, commit,
           (unsigned long long)rag_bitmap_count(version->chunks), (unsigned long long)rag_bitmap_count(expected));
  if (status != RAG_OK) status = rag_fail_no_memory(err, 0);
  rag_bitmap_edit_destroy(edit);
  rag_ref_drop(expected);
  rag_ref_drop(version);
  return status;
}

static rag_status check_refs(checker *c, rag_bitmap *commits, rag_error *err) {
  rag_kb__view *view = rag_cell_get(&c->kb->view);
  rag_status status = RAG_OK;
  for (uint32_t i = 0; i < view->branch_count && status == RAG_OK; i++) {
    const rag_kb__branch *branch = &view->branches[i];
    if (!rag_bitmap_has(commits, branch->commit) && commit_is_gone(c, branch->commit))
      report(c, RAG_CHECK_ERROR, "branch %s stands at c%u, which is not there", branch->name, branch->commit);
    else status = check_chunks(c, "branch", branch->name, branch->commit, err);
  }
  for (uint32_t i = 0; i < view->tag_count && status == RAG_OK; i++) {
    const rag_kb__tag *tag = &view->tags[i];
    if (!rag_bitmap_has(commits, tag->commit) && commit_is_gone(c, tag->commit))
      report(c, RAG_CHECK_ERROR, "tag %s names c%u, which is not there", tag->name, tag->commit);
    else status = check_chunks(c, "tag", tag->name, tag->commit, err);
  }
  rag_ref_drop(view);
  return status;
}

// ---------------------------------------------------------------------------------------------- live sets

static rag_status check_live(checker *c, rag_error *err) {
  rag_bitmap *revisions = NULL, *chunks = NULL, *have_chunks = NULL, *have_vectors = NULL;
  rag_status status = rag_bitmap_edit_finish(c->live_revisions, &revisions);
  c->live_revisions = NULL;
  if (status == RAG_OK) status = rag_bitmap_edit_finish(c->live_chunks, &chunks);
  if (status == RAG_OK) c->live_chunks = NULL;
  if (status == RAG_OK) status = rag_bitmap_edit_finish(c->chunks, &have_chunks);
  if (status == RAG_OK) c->chunks = NULL;
  if (status == RAG_OK) status = rag_bitmap_edit_finish(c->vectors, &have_vectors);
  if (status == RAG_OK) c->vectors = NULL;
  if (status != RAG_OK) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  for (uint32_t n = 0; rag_bitmap_next(revisions, n, &n); n++) {
    const revision_seen *seen = table_find(&c->revisions, n);
    if (seen == NULL || !seen->there) {
      if (!c->unread[RAG_CF_REVISION]) report(c, RAG_CHECK_ERROR, "revision %u is alive and its row is not there", n);
    } else {
      const uint64_t *content = table_find(&c->contents, seen->content);
      if (!seen->document && !c->unread[RAG_CF_DOCUMENT])
        report(c, RAG_CHECK_ERROR, "revision %u is alive and no document names it", n);
      if ((content == NULL || *content == 0) && !c->unread[RAG_CF_CONTENT])
        report(c, RAG_CHECK_ERROR, "revision %u is alive and its content %u is not there", n, seen->content);
    }
    if (n == UINT32_MAX) break;
  }
  for (uint32_t n = 0; rag_bitmap_next(chunks, n, &n); n++) {
    if (!rag_bitmap_has(have_chunks, n) && !c->unread[RAG_CF_CHUNK])
      report(c, RAG_CHECK_ERROR, "chunk %u is alive and its row is not there", n);
    // Where vectors come from clients a chunk may have its text alone; it is found by its words.
    if (c->kb->embedder != NULL && !rag_bitmap_has(have_vectors, n) && !c->unread[RAG_CF_VECTOR])
      report(c, RAG_CHECK_ERROR, "chunk %u is alive and has no vector", n);
    if (n == UINT32_MAX) break;
  }
  uint64_t idle = 0;
  for (size_t n = 0; n < c->revisions.count && n <= UINT32_MAX; n++)
    idle += ((const revision_seen *)c->revisions.items)[n].there && !rag_bitmap_has(revisions, (uint32_t)n);
  if (idle > 0) report(c, RAG_CHECK_NOTE, "%llu revisions are in no commit", (unsigned long long)idle);
  uint64_t spare = rag_bitmap_count(have_chunks) - rag_bitmap_and_count(have_chunks, chunks);
  if (spare > 0) report(c, RAG_CHECK_NOTE, "%llu chunks are in no commit", (unsigned long long)spare);
out:
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  rag_ref_drop(have_chunks);
  rag_ref_drop(have_vectors);
  return status;
}

// ---------------------------------------------------------------------------------------------- one kb

static rag_status on_log(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_reader r = rag_reader_of(key);
  RAG_UNUSED(value);
  RAG_UNUSED(err);
  rag_read_raw(&r, 5);
  uint32_t size = (uint32_t)rag_read_u8(&r) << 8;
  size |= rag_read_u8(&r);
  rag_read_raw(&r, size);
  rag_read_u64be(&r);
  rag_read_u32be(&r);
  if (r.bad || rag_reader_left(&r) > 0) report_row(c, RAG_CHECK_ERROR, RAG_CF_META, key, "cannot be decoded");
  return RAG_OK;
}

static rag_status on_idempotency(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_reader r = rag_reader_of(value);
  rag_write_result result;
  RAG_UNUSED(err);
  rag_read_u64le(&r);
  rag_read_raw(&r, RAG_DIGEST_BYTES);
  if (r.bad || !rag_kb__decode_result(&r, &result))
    report_row(c, RAG_CHECK_ERROR, RAG_CF_META, key, "cannot be decoded");
  return RAG_OK;
}

static void forget_kb(checker *c) {
  rag_free(c->revisions.items);
  rag_free(c->contents.items);
  rag_bitmap_edit_destroy(c->chunks);
  rag_bitmap_edit_destroy(c->vectors);
  rag_bitmap_edit_destroy(c->commits);
  rag_bitmap_edit_destroy(c->live_revisions);
  rag_bitmap_edit_destroy(c->live_chunks);
  rag_index_destroy(c->sealed);
  rag_ref_drop(c->numbers);
  rag_free(c->segments_dir);
  rag_free(c->vector);
  c->sealed = NULL;
  c->vector = NULL;
  c->numbers = NULL;
  c->segments_dir = NULL;
  c->revisions = (ordinal_table){.item_bytes = sizeof(revision_seen)};
  c->contents = (ordinal_table){.item_bytes = sizeof(uint64_t)};
  c->chunks = c->vectors = c->commits = c->live_revisions = c->live_chunks = NULL;
  memset(c->unread, 0, sizeof c->unread);
  c->kb = NULL;
  c->id = 0;
}

static rag_status check_kb(checker *c, rag_kb *kb, rag_error *err) {
  rag_bitmap_edit **const edits[] = {&c->chunks, &c->vectors, &c->commits, &c->live_revisions, &c->live_chunks};
  rag_bitmap *commits = NULL;
  rag_status status = RAG_OK;
  forget_kb(c);
  c->kb = kb;
  c->id = kb->id;
  c->result.kbs++;
  rag_kb__view *view = rag_cell_get(&kb->view);
  c->state = view->state;
  rag_ref_drop(view);
  for (size_t i = 0; i < RAG_COUNT_OF(edits); i++)
    if ((*edits[i] = rag_bitmap_edit_create(NULL)) == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, 0));

  if ((c->vector = rag_calloc(kb->dimension, sizeof *c->vector)) == NULL)
    RAG_TRY_OUT(rag_fail_no_memory(err, kb->dimension * sizeof *c->vector));

  // What a commit's rows refer to was written before it or with it: so commits come first of all, and the rows that
  // writes add meanwhile are simply more than is asked for.
  RAG_TRY_OUT(walk_kb(c, RAG_CF_COMMIT, on_commit, err));
  status = rag_bitmap_edit_finish(c->commits, &commits);
  c->commits = NULL;
  if (status != RAG_OK) RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  RAG_TRY_OUT(check_versions(c, commits, err));
  view = rag_cell_get(&kb->view);
  c->state = view->state;
  rag_ref_drop(view);
  RAG_TRY_OUT(walk_kb(c, RAG_CF_BITMAP, on_bitmap, err));
  RAG_TRY_OUT(walk_kb(c, RAG_CF_REVISION, on_revision, err));
  RAG_TRY_OUT(walk_kb(c, RAG_CF_CONTENT, on_content, err));
  RAG_TRY_OUT(walk_kb(c, RAG_CF_CHUNK, on_chunk, err));
  RAG_TRY_OUT(check_segments(c, err));
  RAG_TRY_OUT(walk_kb(c, RAG_CF_VECTOR, on_vector, err));
  RAG_TRY_OUT(walk_kb(c, RAG_CF_DOCUMENT, on_document, err));
  RAG_TRY_OUT(walk_meta(c, 'L', on_log, err));
  RAG_TRY_OUT(walk_meta(c, 'I', on_idempotency, err));
  RAG_TRY_OUT(check_refs(c, commits, err));
  status = check_live(c, err);
out:
  rag_ref_drop(commits);
  forget_kb(c);
  return status;
}

// ---------------------------------------------------------------------------------------------- rows of no kb

static bool kb_is_there(checker *c, uint32_t id) {
  rag_kb *kb = rag_kbs__find(c->kbs, id);
  rag_ref_drop(kb);
  return kb != NULL;
}

// Families whose keys begin with a kb's number: how many rows are of none. Jumps from kb to kb.
static rag_status check_strays(checker *c, rag_cf cf, rag_error *err) {
  rag_key lower;
  uint64_t next = 0;
  while (next <= UINT32_MAX) {
    rag_store_iter *it = NULL;
    rag_key_init(&lower);
    rag_key_u32(&lower, (uint32_t)next);
    RAG_TRY(rag_store_iter_open(c->store, NULL, cf, rag_key_slice(&lower), (rag_slice){0}, false, &it, err));
    bool any = rag_store_iter_next(it);
    rag_slice key = any ? rag_store_iter_key(it) : (rag_slice){0};
    if (any && key.size < 4) {
      report_row(c, RAG_CHECK_NOTE, cf, key, "is of a kind that this program does not know");
      next++;
    } else if (any) {
      uint32_t id = u32_at(key, 0);
      if (!kb_is_there(c, id))
        report(c, RAG_CHECK_NOTE,
               "%s has rows of knowledge base number %u, which is not there (a deletion or an import "
               "is under way)",
               rag_cf_name(cf), id);
      next = (uint64_t)id + 1;
    }
    rag_error local = {0};
    rag_status status = rag_store_iter_status(it, &local); // damage was reported by the walk
    rag_store_iter_close(it);
    if (!any || status != RAG_OK) return RAG_OK;
  }
  return RAG_OK;
}

static rag_status on_cache(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  rag_reader r = rag_reader_of(value);
  rag_key vector;
  rag_value row = {0};
  if (!known_key(c, RAG_CF_CACHE, key, 4 + RAG_DIGEST_BYTES)) return RAG_OK;
  uint32_t space = u32_at(key, 0), id = rag_read_u32le(&r), chunk = rag_read_u32le(&r);
  if (r.bad) {
    report_row(c, RAG_CHECK_ERROR, RAG_CF_CACHE, key, "cannot be decoded");
    return RAG_OK;
  }
  rag_kb *kb = rag_kbs__find(c->kbs, id);
  if (kb == NULL) return RAG_OK; // reads as a miss
  rag_kb__key_vector(&vector, id, space, chunk);
  rag_status status = rag_store_get(c->store, NULL, RAG_CF_VECTOR, rag_key_slice(&vector), &row, err);
  if (status == RAG_OK && kb->space == space && row.slice.size != rag_kb__vector_bytes(kb->datatype, kb->dimension))
    report_row(c, RAG_CHECK_ERROR, RAG_CF_CACHE, key, "names a vector of another dimension");
  rag_value_free(&row);
  rag_ref_drop(kb);
  return status == RAG_NOT_FOUND || status == RAG_DATA_LOSS ? RAG_OK : status; // a miss; reported with the vectors
}

static rag_status on_meta(checker *c, rag_slice key, rag_slice value, rag_error *err) {
  static const char tags[] = "BsbtLISNPKG"; // K: the service's API keys
  RAG_UNUSED(value);
  RAG_UNUSED(err);
  if (key.size == 0 || strchr(tags, key.data[0]) == NULL || key.data[0] == '\0')
    report_row(c, RAG_CHECK_NOTE, RAG_CF_META, key, "is of a kind that this program does not know");
  else if (key.size >= 5 && strchr("sbtLIG", key.data[0]) != NULL) {
    uint32_t id = u32_at(key, 1);
    if (id != 0 && !kb_is_there(c, id)) // 0: of creations
      report_row(c, RAG_CHECK_NOTE, RAG_CF_META, key, "is of a knowledge base that is not there");
  }
  return RAG_OK;
}

static rag_status check_jobs(checker *c, rag_error *err) {
  uint64_t before = 0;
  uint32_t count = 100;
  while (count == 100) {
    rag_job_info *infos = NULL;
    rag_error local = {0};
    rag_status status = rag_jobs_list(c->kbs->jobs, before, 100, &infos, &count, &local);
    if (status == RAG_DATA_LOSS) {
      report(c, RAG_CHECK_ERROR, "jobs: %s", local.message);
      return RAG_OK;
    }
    if (status != RAG_OK) {
      if (err != NULL) *err = local;
      return status;
    }
    for (uint32_t i = 0; i < count; i++) {
      before = infos[i].id;
      rag_job_info_free(&infos[i]);
      c->result.rows++;
    }
    rag_free(infos);
  }
  return RAG_OK;
}

rag_status rag_kbs_check(rag_kbs *kbs, const rag_check_options *options, rag_check_result *out, rag_error *err) {
  static const rag_check_options none = {0};
  static const rag_cf by_kb[] = {RAG_CF_DOCUMENT, RAG_CF_REVISION, RAG_CF_CONTENT, RAG_CF_CHUNK,
                                 RAG_CF_VECTOR,   RAG_CF_COMMIT,   RAG_CF_BITMAP};
  checker c = {.kbs = kbs, .store = kbs->store, .options = options ? options : &none};
  rag_error local = {0};
  rag_key everything;
  forget_kb(&c);
  rag_kb__registry *registry = rag_cell_get(&kbs->registry);
  rag_status status = rag_store_verify_tables(kbs->store, &local);
  if (status == RAG_DATA_LOSS) report(&c, RAG_CHECK_ERROR, "%s", local.message);
  else if (status != RAG_OK) {
    if (err != NULL) *err = local;
    goto out;
  }
  rag_key_init(&everything);
  RAG_TRY_OUT(walk(&c, RAG_CF_META, &everything, on_meta, err));
  for (uint32_t i = 0; registry != NULL && i < registry->count; i++) RAG_TRY_OUT(check_kb(&c, registry->kbs[i], err));
  RAG_TRY_OUT(walk(&c, RAG_CF_CACHE, &everything, on_cache, err));
  for (size_t i = 0; i < RAG_COUNT_OF(by_kb); i++) RAG_TRY_OUT(check_strays(&c, by_kb[i], err));
  RAG_TRY_OUT(check_jobs(&c, err));
  *out = c.result;
out:
  forget_kb(&c);
  rag_ref_drop(registry);
  return status;
}
