// The rows of an import: each is checked by itself and against the rows before it, then put under the kb's new number.
// So what gets into the store is what a kb of ours could have written: nothing later trusts a stream.
#include <stdio.h>

#include "kb/transfer_internal.h"

rag_status rag_kb__import_damaged(rag_error *err, const char *fmt, ...) {
  char text[256];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  return rag_fail(err, RAG_DATA_LOSS, "the export is damaged: %s; nothing was imported", text);
}
#define damaged rag_kb__import_damaged

static void put(rag_kb__import *im, rag_cf cf, const rag_key *key, rag_slice value) {
  rag_buf_append_u8(&im->batch, (uint8_t)cf);
  rag_buf_append_bytes(&im->batch, rag_key_slice(key));
  rag_buf_append_bytes(&im->batch, value);
}

static uint32_t read_number(rag_reader *r) {
  uint64_t number = rag_read_varint(r);
  if (number > UINT32_MAX) r->bad = true;
  return (uint32_t)number;
}

static bool utf8(rag_slice s) {
  return rag_utf8_valid(s.data, s.size);
}

static rag_status grow(void **items, size_t *capacity, size_t count, size_t size, rag_error *err) {
  if (count < *capacity) return RAG_OK;
  size_t wanted = *capacity ? *capacity * 2 : 256;
  void *grown = rag_realloc_array(*items, wanted, size);
  if (grown == NULL) return rag_fail_no_memory(err, wanted * size);
  *items = grown;
  *capacity = wanted;
  return RAG_OK;
}

static rag_status add_to(rag_bitmap_edit *set, uint32_t number, rag_error *err) {
  return rag_bitmap_edit_add(set, number) == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// ---------------------------------------------------------------------------------------------- contents

static rag_status content_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_kb__content content;
  rag_key key;
  uint32_t number = read_number(r);
  rag_slice value = rag_read_bytes(r);
  uint32_t last = im->content_count > 0 ? im->contents[im->content_count - 1].content : 0;
  if (r->bad || number <= last || number >= im->state.next_content || !rag_kb__decode_content(value, &content) ||
      content.id.size == 0 || content.id.size > RAG_DOCUMENT_ID_BYTES_MAX || !utf8(content.id) ||
      !utf8(content.title) || !utf8(content.body) || !utf8(content.text) || content.body.size > UINT32_MAX)
    return damaged(err, "content %u is none", number);
  RAG_TRY(grow((void **)&im->contents, &im->content_capacity, im->content_count, sizeof *im->contents, err));
  im->contents[im->content_count++] =
      (rag_kb__import_content){.content = number, .id_hash = rag_hash64(content.id.data, content.id.size)};
  im->text_size = content.text.size;
  rag_buf_clear(&im->body);
  rag_buf_append(&im->body, content.body.data, content.body.size);
  RAG_TRY(rag_buf_check(&im->body, err));
  rag_kb__key_u32(&key, im->record.id, number);
  put(im, RAG_CF_CONTENT, &key, value);
  return RAG_OK;
}

// A kb that embeds its texts has a vector for every chunk; where clients bring the vectors a chunk may have none.
static bool vector_missing(const rag_kb__import *im) {
  return im->record.config.model[0] != '\0' && im->last_vector != im->last_chunk;
}

// Within the text, or something behind it; and through no character.
static bool cut_good(const rag_kb__import *im, const rag_kb__chunk *chunk) {
  const rag_buf *body = &im->body;
  bool own_text = chunk->start >= im->text_size && chunk->end > chunk->start;
  return chunk->end <= (own_text ? body->size : im->text_size) &&
         rag_utf8_floor(body->data, body->size, chunk->start) == chunk->start &&
         rag_utf8_floor(body->data, body->size, chunk->end) == chunk->end;
}

static rag_status chunk_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_kb__chunk chunk;
  rag_key key;
  uint32_t number = read_number(r);
  rag_slice value = rag_read_bytes(r);
  rag_kb__import_content *content = im->content_count > 0 ? &im->contents[im->content_count - 1] : NULL;
  if (r->bad || content == NULL || number <= im->last_chunk || number >= im->state.next_chunk ||
      !rag_kb__decode_chunk(value, &chunk) || chunk.content != content->content || !cut_good(im, &chunk) ||
      !utf8(chunk.metadata) || rag_kb__metadata_check(chunk.metadata, "", NULL) != RAG_OK ||
      content->chunk_count >= RAG_DOCUMENT_CHUNKS_MAX ||
      (content->chunk_count > 0 && number != content->first_chunk + content->chunk_count))
    return damaged(err, "chunk %u is none", number);
  if (vector_missing(im)) return damaged(err, "the vector of chunk %u is missing", im->last_chunk);
  if (content->chunk_count++ == 0) content->first_chunk = number;
  im->last_chunk = number;
  RAG_TRY(add_to(im->chunks, number, err));
  rag_kb__key_u32(&key, im->record.id, number);
  put(im, RAG_CF_CHUNK, &key, value);
  return RAG_OK;
}

static rag_status vector_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_key key;
  uint32_t number = read_number(r), dimension = im->record.config.dimension;
  rag_slice value = rag_read_bytes(r);
  if (r->bad || number != im->last_chunk || number <= im->last_vector ||
      !rag_kb__decode_vector(im->record.config.datatype, value, dimension, im->vector))
    return damaged(err, "the vector of chunk %u is none", number);
  if (rag_vector_check(im->vector, dimension, im->record.config.metric, "", NULL) != RAG_OK)
    return damaged(err, "the vector of chunk %u cannot be searched", number);
  im->last_vector = number;
  rag_kb__key_vector(&key, im->record.id, im->record.space, number);
  put(im, RAG_CF_VECTOR, &key, value);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- revisions

static const rag_kb__import_content *find_content(const rag_kb__import *im, uint32_t number) {
  size_t low = 0, high = im->content_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (im->contents[middle].content == number) return &im->contents[middle];
    if (im->contents[middle].content < number) low = middle + 1;
    else high = middle;
  }
  return NULL;
}

static bool revision_good(const rag_kb__import *im, const rag_kb__revision *revision,
                          const rag_kb__document_entry *document) {
  const rag_kb__import_content *content = find_content(im, revision->content);
  return content != NULL && rag_hash64(revision->id.data, revision->id.size) == content->id_hash &&
         revision->chunk_count == content->chunk_count &&
         (content->chunk_count == 0 || revision->first_chunk == content->first_chunk) &&
         document->content == revision->content && document->first_chunk == revision->first_chunk &&
         document->chunk_count == revision->chunk_count && revision->id.size > 0 &&
         revision->id.size <= RAG_DOCUMENT_ID_BYTES_MAX && utf8(revision->id) &&
         memchr(revision->id.data, '\0', revision->id.size) == NULL && utf8(revision->metadata) &&
         rag_kb__metadata_check(revision->metadata, "", NULL) == RAG_OK &&
         revision->metadata.size <= RAG_DOCUMENT_METADATA_BYTES_MAX && utf8(revision->source_uri) &&
         revision->source_uri.size <= RAG_DOCUMENT_URI_BYTES_MAX && revision->commit < im->state.next_commit;
}

static rag_status revision_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_kb__revision revision;
  rag_kb__document_entry document;
  rag_key key;
  uint32_t number = read_number(r);
  rag_slice value = rag_read_bytes(r), document_value = rag_read_bytes(r);
  if (r->bad || number <= im->last_revision || number >= im->state.next_revision ||
      !rag_kb__decode_revision(value, &revision) || !rag_kb__decode_document(document_value, &document) ||
      !revision_good(im, &revision, &document))
    return damaged(err, "revision %u is none", number);
  im->last_revision = number;
  RAG_TRY(add_to(im->revisions, number, err));
  RAG_TRY(add_to(im->used_contents, revision.content, err));
  rag_kb__key_u32(&key, im->record.id, number);
  put(im, RAG_CF_REVISION, &key, value);
  rag_kb__key_document(&key, im->record.id, revision.id, number);
  put(im, RAG_CF_DOCUMENT, &key, document_value);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- commits

static const rag_kb__import_commit *find_commit(const rag_kb__import *im, uint32_t number) {
  size_t low = 0, high = im->commit_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (im->commits[middle].commit == number) return &im->commits[middle];
    if (im->commits[middle].commit < number) low = middle + 1;
    else high = middle;
  }
  return NULL;
}

static bool record_good(uint32_t number, const rag_kb__commit *record) {
  if ((unsigned)record->kind > RAG_COMMIT_IMPORT) return false;
  for (uint32_t i = 0; i < record->parent_count; i++)
    if (record->parents[i] == 0 || record->parents[i] >= number) return false;
  rag_reader r = rag_reader_of(record->ancestors);
  while (rag_reader_left(&r) > 0) {
    uint64_t ancestor = rag_read_varint(&r);
    if (ancestor == 0 || ancestor >= number) return false;
  }
  return !r.bad && utf8(record->author) && record->author.size <= RAG_COMMIT_AUTHOR_BYTES_MAX &&
         utf8(record->message) && record->message.size <= RAG_COMMIT_MESSAGE_BYTES_MAX;
}

// Chains end: a delta is deeper than its base, and no depth reaches the distance of checkpoints.
static bool delta_good(const rag_kb__import *im, uint32_t number, const rag_kb__delta *delta) {
  if (delta->depth >= RAG_KB__CHECKPOINT_EVERY) return false;
  if (delta->base == 0) return true;
  const rag_kb__import_commit *base = find_commit(im, delta->base);
  return base != NULL && delta->base < number && (delta->depth == 0 || delta->depth > base->depth);
}

static rag_status commit_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_kb__commit record;
  rag_kb__delta delta = {0};
  rag_key key;
  uint32_t number = read_number(r);
  rag_slice value = rag_read_bytes(r), delta_value = rag_read_bytes(r);
  uint32_t last = im->commit_count > 0 ? im->commits[im->commit_count - 1].commit : 0;
  if (r->bad || im->checkpoint_due || number <= last || number >= im->state.next_commit ||
      !rag_kb__decode_commit(value, &record) || !record_good(number, &record) ||
      rag_kb__decode_delta(delta_value, &delta, NULL) != RAG_OK)
    return damaged(err, "commit c%u is none", number);
  bool good = delta_good(im, number, &delta);
  uint32_t depth = delta.depth;
  rag_kb__delta_free(&delta);
  if (!good) return damaged(err, "the delta of commit c%u is none", number);
  RAG_TRY(grow((void **)&im->commits, &im->commit_capacity, im->commit_count, sizeof *im->commits, err));
  im->commits[im->commit_count++] = (rag_kb__import_commit){number, depth, record.documents, record.chunks};
  im->checkpoint_due = depth == 0;
  record.space = im->record.space;
  rag_buf bytes = {0};
  rag_kb__encode_commit(&record, &bytes);
  rag_status status = rag_buf_check(&bytes, err);
  rag_kb__key_commit(&key, im->record.id, number, 0);
  put(im, RAG_CF_COMMIT, &key, rag_buf_slice(&bytes));
  rag_kb__key_commit(&key, im->record.id, number, 1);
  put(im, RAG_CF_COMMIT, &key, delta_value);
  rag_buf_free(&bytes);
  return status;
}

static rag_status checkpoint_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_key key;
  uint32_t number = read_number(r);
  rag_slice value = rag_read_bytes(r);
  if (r->bad || !im->checkpoint_due || number != im->commits[im->commit_count - 1].commit ||
      rag_kb__decode_checkpoint(value, &revisions, &chunks, NULL) != RAG_OK)
    return damaged(err, "the checkpoint of commit c%u is none", number);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  im->checkpoint_due = false;
  rag_kb__key_u32(&key, im->record.id, number);
  put(im, RAG_CF_BITMAP, &key, value);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- refs

static int compare_names(rag_slice a, rag_slice b) { // as keys sort: by length first
  if (a.size != b.size) return a.size < b.size ? -1 : 1;
  return rag_slice_compare(a, b);
}

static bool looks_like_commit(rag_slice name) {
  bool digits = name.size > 1 && name.data[0] == 'c';
  for (size_t i = 1; digits && i < name.size; i++) digits = name.data[i] >= '0' && name.data[i] <= '9';
  return digits;
}

static bool is_branch(const rag_kb__import *im, rag_slice name) {
  size_t low = 0, high = im->branch_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = compare_names(rag_slice_str(im->branches[middle]), name);
    if (order == 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return false;
}

static rag_status ref_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_ref_info info;
  rag_key key;
  uint8_t kind = rag_read_u8(r);
  rag_slice name = rag_read_bytes(r), value = rag_read_bytes(r);
  rag_slice last = rag_buf_slice(&im->last_ref);
  bool later = last.size == 0 || (uint8_t)last.data[0] < kind ||
               ((uint8_t)last.data[0] == kind && compare_names(rag_slice_of(last.data + 1, last.size - 1), name) < 0);
  if (r->bad || (kind != 'b' && kind != 't') || !later || !rag_name_valid(name) || looks_like_commit(name) ||
      !rag_kb__decode_ref(value, &info) || info.commit > UINT32_MAX || find_commit(im, (uint32_t)info.commit) == NULL)
    return damaged(err, "a branch or tag is none");
  if (kind == 'b') {
    if (im->branch_count >= RAG_KB_BRANCHES_MAX) return damaged(err, "it has over %u branches", RAG_KB_BRANCHES_MAX);
    RAG_TRY(grow((void **)&im->branches, &im->branch_capacity, im->branch_count, sizeof *im->branches, err));
    char *copy = im->branches[im->branch_count++];
    memcpy(copy, name.data, name.size);
    copy[name.size] = '\0';
  } else if (++im->tag_count > RAG_KB_TAGS_MAX || is_branch(im, name)) {
    return damaged(err, "a tag has a branch's name, or there are over %u tags", RAG_KB_TAGS_MAX);
  }
  rag_buf_clear(&im->last_ref);
  rag_buf_append_u8(&im->last_ref, kind);
  rag_buf_append(&im->last_ref, name.data, name.size);
  rag_kb__key_name(&key, kind, im->record.id, name);
  put(im, RAG_CF_META, &key, value);
  return rag_buf_check(&im->last_ref, err);
}

static rag_status log_row(rag_kb__import *im, rag_reader *r, rag_error *err) {
  rag_key key;
  rag_slice name = rag_read_bytes(r);
  uint64_t time_us = rag_read_varint(r);
  uint32_t commit = read_number(r);
  // A log row may point at a commit that gc has dropped.
  if (r->bad || !is_branch(im, name) || time_us > INT64_MAX || commit == 0 || commit >= im->state.next_commit)
    return damaged(err, "a log row is none");
  rag_kb__key_log(&key, im->record.id, name, (int64_t)time_us, commit);
  if (im->last_log.size > 0 && rag_slice_compare(rag_buf_slice(&im->last_log), rag_key_slice(&key)) >= 0)
    return damaged(err, "log rows are out of order");
  rag_buf_clear(&im->last_log);
  rag_buf_append(&im->last_log, key.bytes, key.size);
  put(im, RAG_CF_META, &key, rag_slice_of("", 0));
  return rag_buf_check(&im->last_log, err);
}

// ---------------------------------------------------------------------------------------------- frames

static rag_status one_row(rag_kb__import *im, rag_kb__row type, rag_reader *r, rag_error *err) {
  static const rag_kb__frame frame_of[RAG_KB__ROW_TYPES] = {
      [RAG_KB__ROW_CONTENT] = RAG_KB__FRAME_CONTENTS, [RAG_KB__ROW_CHUNK] = RAG_KB__FRAME_CONTENTS,
      [RAG_KB__ROW_VECTOR] = RAG_KB__FRAME_CONTENTS,  [RAG_KB__ROW_REVISION] = RAG_KB__FRAME_REVISIONS,
      [RAG_KB__ROW_COMMIT] = RAG_KB__FRAME_COMMITS,   [RAG_KB__ROW_CHECKPOINT] = RAG_KB__FRAME_COMMITS,
      [RAG_KB__ROW_REF] = RAG_KB__FRAME_REFS,         [RAG_KB__ROW_LOG] = RAG_KB__FRAME_REFS};
  if (type == 0 || type >= RAG_KB__ROW_TYPES || frame_of[type] != im->frame)
    return damaged(err, "a row of type %d stands in a frame of type %d", (int)type, (int)im->frame);
  im->rows[type]++;
  switch (type) {
  case RAG_KB__ROW_CONTENT:
    return content_row(im, r, err);
  case RAG_KB__ROW_CHUNK:
    return chunk_row(im, r, err);
  case RAG_KB__ROW_VECTOR:
    return vector_row(im, r, err);
  case RAG_KB__ROW_REVISION:
    return revision_row(im, r, err);
  case RAG_KB__ROW_COMMIT:
    return commit_row(im, r, err);
  case RAG_KB__ROW_CHECKPOINT:
    return checkpoint_row(im, r, err);
  case RAG_KB__ROW_REF:
    return ref_row(im, r, err);
  case RAG_KB__ROW_LOG:
    return log_row(im, r, err);
  case RAG_KB__ROW_TYPES:
    break;
  }
  return damaged(err, "a row has an unknown type");
}

rag_status rag_kb__import_rows(rag_kb__import *im, rag_slice payload, rag_error *err) {
  rag_reader r = rag_reader_of(payload);
  while (rag_reader_left(&r) > 0) {
    rag_kb__row type = (rag_kb__row)rag_read_u8(&r);
    RAG_TRY(one_row(im, type, &r, err));
  }
  return rag_buf_check(&im->batch, err);
}

static rag_status count_used(rag_kb__import *im, uint64_t *out, rag_error *err) {
  rag_bitmap *used = NULL;
  rag_bitmap_edit *edit = im->used_contents;
  im->used_contents = NULL;
  if (rag_bitmap_edit_finish(edit, &used) != RAG_OK) return rag_fail_no_memory(err, 0);
  *out = rag_bitmap_count(used);
  rag_ref_drop(used);
  return RAG_OK;
}

rag_status rag_kb__import_complete(rag_kb__import *im, rag_error *err) {
  uint64_t used = 0;
  RAG_TRY(count_used(im, &used, err));
  if (vector_missing(im)) return damaged(err, "the vector of chunk %u is missing", im->last_chunk);
  if (used != im->content_count) return damaged(err, "a content belongs to no revision");
  if (im->checkpoint_due) return damaged(err, "a checkpoint is missing");
  if (!is_branch(im, rag_slice_str("main"))) return damaged(err, "there is no branch 'main'");
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- versions

// The chunks of a head are those of its revisions: what every later commit builds on.
static rag_status verify_head(rag_kb *kb, const rag_version *version, rag_error *err) {
  rag_bitmap *chunks = NULL;
  uint32_t revision = 0;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_status status = edit == NULL ? rag_fail_no_memory(err, 0) : RAG_OK;
  while (status == RAG_OK && revision < UINT32_MAX && rag_bitmap_next(version->revisions, revision + 1, &revision)) {
    rag_kb__revision record;
    rag_value pin = {0};
    status = rag_kb__get_revision(kb, NULL, revision, &record, &pin, err);
    if (status == RAG_OK && rag_bitmap_edit_add_range(edit, record.first_chunk, record.chunk_count) != RAG_OK)
      status = rag_fail_no_memory(err, 0);
    rag_value_free(&pin);
  }
  if (status != RAG_OK) {
    rag_bitmap_edit_destroy(edit);
    return status;
  }
  if (rag_bitmap_edit_finish(edit, &chunks) != RAG_OK) return rag_fail_no_memory(err, 0);
  if (!rag_bitmap_equal(chunks, version->chunks))
    status = damaged(err, "the chunks of commit c%u are not its documents'", version->commit);
  rag_ref_drop(chunks);
  return status;
}

#define HEADS_VERIFIED_MAX 64u

rag_status rag_kb__import_verify(rag_kb__import *im, rag_kb *kb, rag_error *err) {
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_bitmap_edit *edits[2] = {im->revisions, im->chunks};
  rag_version *version = NULL;
  rag_status status = RAG_OK;
  im->revisions = im->chunks = NULL;
  rag_status first = rag_bitmap_edit_finish(edits[0], &revisions);
  rag_status second = rag_bitmap_edit_finish(edits[1], &chunks);
  if (first != RAG_OK || second != RAG_OK) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  for (size_t i = 0; i < im->commit_count; i++) { // ascending: each finds its base in the version cache
    const rag_kb__import_commit *commit = &im->commits[i];
    RAG_TRY_OUT(rag_kb__version(kb, NULL, commit->commit, &version, err));
    uint64_t documents = rag_bitmap_count(version->revisions), live = rag_bitmap_count(version->chunks);
    if (documents != commit->documents || live != commit->chunks ||
        rag_bitmap_and_count(version->revisions, revisions) != documents ||
        rag_bitmap_and_count(version->chunks, chunks) != live) {
      status = damaged(err, "the documents of commit c%u are not those of its record", commit->commit);
      goto out;
    }
    rag_ref_drop(version);
    version = NULL;
  }
  for (uint32_t i = 0; i < kb->pending->branch_count && i < HEADS_VERIFIED_MAX; i++) {
    RAG_TRY_OUT(rag_kb__version(kb, NULL, kb->pending->branches[i].commit, &version, err));
    RAG_TRY_OUT(verify_head(kb, version, err));
    rag_ref_drop(version);
    version = NULL;
  }
out:
  rag_ref_drop(version);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  return status;
}
