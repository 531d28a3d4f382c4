// Record formats of kb/: keys and values of every row. Pure functions over bytes: no store, no kb.
//
// Each value starts with a format byte (RECORD_V1) where its shape may grow; a reader takes fields that are missing at
// the end as zero, so that newer programs read older rows. Fixed-size rows that are read in bulk (DOCUMENT) have none:
// their length says the version. Decoders check bounds and give false, never read past the end.
#include "kb/kb_internal.h"

#define RECORD_V1 1
// Of a kb's record alone: V1, and the datatype of its vectors. Written where that is not float32, so that a program that
// knows no other refuses the kb instead of reading, and writing, its vectors wrongly.
#define RECORD_V2 2

// ---------------------------------------------------------------------------------------------- keys

static uint64_t id_hash(rag_slice id) {
  // Stored: a stable hash. Ids that collide share a prefix and are told apart by the id that follows.
  rag_digest digest = rag_digest_of(id.data, id.size);
  uint64_t hash = 0;
  for (int i = 0; i < 8; i++) hash = hash << 8 | digest.bytes[i];
  return hash;
}

void rag_kb__key_document_prefix(rag_key *key, uint32_t kb, rag_slice id) {
  rag_key_init(key);
  rag_key_u32(key, kb);
  rag_key_u64(key, id_hash(id));
  rag_key_bytes(key, id);
}

void rag_kb__key_document(rag_key *key, uint32_t kb, rag_slice id, uint32_t revision) {
  rag_kb__key_document_prefix(key, kb, id);
  rag_key_u32(key, ~revision); // newest first
}

bool rag_kb__key_document_revision(rag_slice key, uint32_t *out_revision) {
  if (key.size < 4 + 8 + 2 + 4) return false;
  rag_reader r = rag_reader_of(rag_slice_of(key.data + key.size - 4, 4));
  *out_revision = ~rag_read_u32be(&r);
  return true;
}

void rag_kb__key_u32(rag_key *key, uint32_t kb, uint32_t ordinal) {
  rag_key_init(key);
  rag_key_u32(key, kb);
  rag_key_u32(key, ordinal);
}

void rag_kb__key_commit(rag_key *key, uint32_t kb, uint32_t commit, uint8_t row) {
  rag_kb__key_u32(key, kb, commit);
  rag_key_u8(key, row);
}

void rag_kb__key_vector(rag_key *key, uint32_t kb, uint32_t space, uint32_t chunk) {
  rag_kb__key_u32(key, kb, space);
  rag_key_u32(key, chunk);
}

void rag_kb__key_cache(rag_key *key, uint32_t space, const rag_digest *digest) {
  rag_key_init(key);
  rag_key_u32(key, space);
  rag_key_raw(key, digest->bytes, RAG_DIGEST_BYTES);
}

void rag_kb__key_name(rag_key *key, uint8_t tag, uint32_t kb, rag_slice name) {
  rag_key_init(key);
  rag_key_u8(key, tag);
  rag_key_u32(key, kb);
  rag_key_bytes(key, name);
}

void rag_kb__key_kb(rag_key *key, rag_slice name) {
  rag_key_init(key);
  rag_key_u8(key, 'B');
  rag_key_bytes(key, name);
}

void rag_kb__key_state(rag_key *key, uint32_t kb) {
  rag_key_init(key);
  rag_key_u8(key, 's');
  rag_key_u32(key, kb);
}

void rag_kb__key_log(rag_key *key, uint32_t kb, rag_slice branch, int64_t time_us, uint32_t commit) {
  rag_kb__key_name(key, 'L', kb, branch);
  rag_key_u64(key, (uint64_t)time_us);
  rag_key_u32(key, commit);
}

rag_status rag_kb__corrupt(rag_error *err, rag_cf cf, rag_slice key) {
  char hex[2 * 48 + 1];
  rag_hex(key.data, RAG_MIN(key.size, (size_t)48), hex);
  return rag_fail(err, RAG_DATA_LOSS, "a row of %s with key %s cannot be decoded; restore it from a backup",
                  rag_cf_name(cf), hex);
}

// ---------------------------------------------------------------------------------------------- documents

void rag_kb__encode_document(const rag_kb__document_entry *entry, rag_buf *out) {
  rag_buf_append_u32le(out, entry->content);
  rag_buf_append_u32le(out, entry->first_chunk);
  rag_buf_append_u32le(out, entry->chunk_count);
  rag_buf_append(out, entry->content_digest.bytes, RAG_DIGEST_BYTES);
  rag_buf_append(out, entry->state_digest.bytes, RAG_DIGEST_BYTES);
}

bool rag_kb__decode_document(rag_slice value, rag_kb__document_entry *out) {
  if (value.size != RAG_KB__DOCUMENT_VALUE_BYTES) return false;
  rag_reader r = rag_reader_of(value);
  out->content = rag_read_u32le(&r);
  out->first_chunk = rag_read_u32le(&r);
  out->chunk_count = rag_read_u32le(&r);
  memcpy(out->content_digest.bytes, rag_read_raw(&r, RAG_DIGEST_BYTES).data, RAG_DIGEST_BYTES);
  memcpy(out->state_digest.bytes, rag_read_raw(&r, RAG_DIGEST_BYTES).data, RAG_DIGEST_BYTES);
  return !r.bad;
}

static uint32_t read_u32(rag_reader *r) {
  uint64_t v = rag_read_varint(r);
  if (v > UINT32_MAX) r->bad = true;
  return (uint32_t)v;
}

static void append_i64(rag_buf *out, int64_t v) { // zigzag
  rag_buf_append_varint(out, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

static int64_t read_i64(rag_reader *r) {
  uint64_t v = rag_read_varint(r);
  return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

void rag_kb__encode_revision(const rag_kb__revision *revision, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  rag_buf_append_bytes(out, revision->id);
  rag_buf_append_varint(out, revision->content);
  rag_buf_append_varint(out, revision->first_chunk);
  rag_buf_append_varint(out, revision->chunk_count);
  rag_buf_append_varint(out, revision->commit);
  append_i64(out, revision->time_us);
  append_i64(out, revision->source_modified_us);
  append_i64(out, revision->effective_us);
  rag_buf_append_bytes(out, revision->source_uri);
  rag_buf_append_bytes(out, revision->metadata);
}

bool rag_kb__decode_revision(rag_slice value, rag_kb__revision *out) {
  rag_reader r = rag_reader_of(value);
  if (rag_read_u8(&r) != RECORD_V1) return false;
  out->id = rag_read_bytes(&r);
  out->content = read_u32(&r);
  out->first_chunk = read_u32(&r);
  out->chunk_count = read_u32(&r);
  out->commit = read_u32(&r);
  out->time_us = read_i64(&r);
  out->source_modified_us = read_i64(&r);
  out->effective_us = read_i64(&r);
  out->source_uri = rag_read_bytes(&r);
  out->metadata = rag_read_bytes(&r);
  return !r.bad;
}

void rag_kb__encode_content(const rag_kb__content *content, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  rag_buf_append_bytes(out, content->id);
  rag_buf_append_bytes(out, content->title);
  rag_buf_append_varint(out, content->chunk_metadata);
  rag_buf_append_varint(out, content->text.size);
  rag_buf_append_bytes(out, content->body);
  if (content->language.size > 0) rag_buf_append_bytes(out, content->language);
}

bool rag_kb__decode_content(rag_slice value, rag_kb__content *out) {
  rag_reader r = rag_reader_of(value);
  if (rag_read_u8(&r) != RECORD_V1) return false;
  out->id = rag_read_bytes(&r);
  out->title = rag_read_bytes(&r);
  out->chunk_metadata = rag_read_varint(&r) != 0;
  uint64_t text_size = rag_read_varint(&r);
  out->body = rag_read_bytes(&r);
  out->language = r.offset < r.size ? rag_read_bytes(&r) : rag_slice_of("", 0);
  if (r.bad || text_size > out->body.size) return false;
  out->text = rag_slice_of(out->body.data, (size_t)text_size);
  return true;
}

void rag_kb__encode_chunk(const rag_kb__chunk *chunk, rag_buf *out) {
  rag_buf_append_varint(out, chunk->content);
  rag_buf_append_varint(out, chunk->start);
  rag_buf_append_varint(out, chunk->end);
  if (chunk->metadata.size > 0) rag_buf_append_bytes(out, chunk->metadata);
}

bool rag_kb__decode_chunk(rag_slice value, rag_kb__chunk *out) {
  rag_reader r = rag_reader_of(value);
  out->content = read_u32(&r);
  out->start = read_u32(&r);
  out->end = read_u32(&r);
  out->metadata = rag_reader_left(&r) > 0 ? rag_read_bytes(&r) : rag_slice_of("", 0);
  return !r.bad && out->start <= out->end;
}

// ---------------------------------------------------------------------------------------------- commits

void rag_kb__encode_commit(const rag_kb__commit *commit, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  rag_buf_append_varint(out, commit->parent_count);
  for (uint32_t i = 0; i < commit->parent_count; i++) rag_buf_append_varint(out, commit->parents[i]);
  append_i64(out, commit->time_us);
  rag_buf_append_varint(out, (uint64_t)commit->kind);
  rag_buf_append_varint(out, commit->added);
  rag_buf_append_varint(out, commit->changed);
  rag_buf_append_varint(out, commit->removed);
  rag_buf_append_varint(out, commit->counts_exact);
  rag_buf_append_varint(out, commit->documents);
  rag_buf_append_varint(out, commit->chunks);
  rag_buf_append_varint(out, commit->space);
  rag_buf_append_bytes(out, commit->author);
  rag_buf_append_bytes(out, commit->message);
  if (commit->ancestors.size > 0) rag_buf_append_bytes(out, commit->ancestors);
}

bool rag_kb__decode_commit(rag_slice value, rag_kb__commit *out) {
  rag_reader r = rag_reader_of(value);
  if (rag_read_u8(&r) != RECORD_V1) return false;
  out->parent_count = read_u32(&r);
  if (out->parent_count > 2) return false;
  out->parents[0] = out->parents[1] = 0;
  for (uint32_t i = 0; i < out->parent_count; i++) out->parents[i] = read_u32(&r);
  out->time_us = read_i64(&r);
  out->kind = (rag_commit_kind)rag_read_varint(&r);
  out->added = rag_read_varint(&r);
  out->changed = rag_read_varint(&r);
  out->removed = rag_read_varint(&r);
  out->counts_exact = rag_read_varint(&r) != 0;
  out->documents = rag_read_varint(&r);
  out->chunks = rag_read_varint(&r);
  out->space = read_u32(&r);
  out->author = rag_read_bytes(&r);
  out->message = rag_read_bytes(&r);
  out->ancestors = rag_reader_left(&r) > 0 ? rag_read_bytes(&r) : rag_slice_of("", 0);
  return !r.bad;
}

void rag_kb__delta_free(rag_kb__delta *delta) {
  rag_ref_drop(delta->revisions_added);
  rag_ref_drop(delta->revisions_removed);
  rag_ref_drop(delta->chunks_added);
  rag_ref_drop(delta->chunks_removed);
  *delta = (rag_kb__delta){0};
}

static void append_bitmap(rag_buf *out, const rag_bitmap *bitmap) {
  if (bitmap == NULL || rag_bitmap_count(bitmap) == 0) {
    rag_buf_append_varint(out, 0);
    return;
  }
  rag_buf image = {0};
  rag_bitmap_encode(bitmap, &image);
  if (image.failed) out->failed = true;
  rag_buf_append_bytes(out, rag_buf_slice(&image));
  rag_buf_free(&image);
}

static rag_status read_bitmap(rag_reader *r, rag_bitmap **out, rag_error *err) {
  rag_slice image = rag_read_bytes(r);
  if (r->bad) return rag_fail(err, RAG_DATA_LOSS, "a commit's bitmap is cut short; restore it from a backup");
  if (image.size == 0) {
    *out = NULL;
    return RAG_OK;
  }
  return rag_bitmap_decode(image, out, err);
}

void rag_kb__encode_delta(const rag_kb__delta *delta, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  rag_buf_append_varint(out, delta->base);
  rag_buf_append_varint(out, delta->depth);
  append_bitmap(out, delta->revisions_added);
  append_bitmap(out, delta->revisions_removed);
  append_bitmap(out, delta->chunks_added);
  append_bitmap(out, delta->chunks_removed);
}

bool rag_kb__decode_delta_head(rag_slice value, uint32_t *base, uint32_t *depth) {
  rag_reader r = rag_reader_of(value);
  if (rag_read_u8(&r) != RECORD_V1) return false;
  *base = read_u32(&r);
  *depth = read_u32(&r);
  return !r.bad;
}

rag_status rag_kb__decode_delta(rag_slice value, rag_kb__delta *out, rag_error *err) {
  rag_reader r = rag_reader_of(value);
  rag_kb__delta delta = {0};
  if (rag_read_u8(&r) != RECORD_V1) return rag_fail(err, RAG_DATA_LOSS, "a commit's delta has an unknown format");
  delta.base = read_u32(&r);
  delta.depth = read_u32(&r);
  rag_status status = read_bitmap(&r, &delta.revisions_added, err);
  if (status == RAG_OK) status = read_bitmap(&r, &delta.revisions_removed, err);
  if (status == RAG_OK) status = read_bitmap(&r, &delta.chunks_added, err);
  if (status == RAG_OK) status = read_bitmap(&r, &delta.chunks_removed, err);
  if (status != RAG_OK) {
    rag_kb__delta_free(&delta);
    return status;
  }
  *out = delta;
  return RAG_OK;
}

void rag_kb__encode_checkpoint(const rag_bitmap *revisions, const rag_bitmap *chunks, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  append_bitmap(out, revisions);
  append_bitmap(out, chunks);
}

rag_status rag_kb__decode_checkpoint(rag_slice value, rag_bitmap **revisions, rag_bitmap **chunks, rag_error *err) {
  rag_reader r = rag_reader_of(value);
  if (rag_read_u8(&r) != RECORD_V1) return rag_fail(err, RAG_DATA_LOSS, "a checkpoint has an unknown format");
  rag_bitmap *a = NULL, *b = NULL;
  rag_status status = read_bitmap(&r, &a, err);
  if (status == RAG_OK) status = read_bitmap(&r, &b, err);
  if (status == RAG_OK && a == NULL && (a = rag_bitmap_empty()) == NULL) status = rag_fail_no_memory(err, 0);
  if (status == RAG_OK && b == NULL && (b = rag_bitmap_empty()) == NULL) status = rag_fail_no_memory(err, 0);
  if (status != RAG_OK) {
    rag_ref_drop(a);
    rag_ref_drop(b);
    return status;
  }
  *revisions = a;
  *chunks = b;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- kb, refs, results

void rag_kb__encode_state(const rag_kb__state *state, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  rag_buf_append_varint(out, state->next_revision);
  rag_buf_append_varint(out, state->next_content);
  rag_buf_append_varint(out, state->next_chunk);
  rag_buf_append_varint(out, state->next_commit);
  append_i64(out, state->last_time_us);
}

bool rag_kb__decode_state(rag_slice value, rag_kb__state *out) {
  rag_reader r = rag_reader_of(value);
  if (rag_read_u8(&r) != RECORD_V1) return false;
  out->next_revision = read_u32(&r);
  out->next_content = read_u32(&r);
  out->next_chunk = read_u32(&r);
  out->next_commit = read_u32(&r);
  out->last_time_us = read_i64(&r);
  return !r.bad;
}

void rag_kb__encode_ref(uint32_t commit, int64_t created_us, int64_t moved_us, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  rag_buf_append_varint(out, commit);
  append_i64(out, created_us);
  append_i64(out, moved_us);
}

bool rag_kb__decode_ref(rag_slice value, rag_ref_info *out) {
  rag_reader r = rag_reader_of(value);
  if (rag_read_u8(&r) != RECORD_V1) return false;
  out->commit = read_u32(&r);
  out->created_us = read_i64(&r);
  out->moved_us = read_i64(&r);
  return !r.bad;
}

static void append_text(rag_buf *out, const char *s) {
  rag_buf_append_bytes(out, rag_slice_str(s));
}

static void append_double(rag_buf *out, double v) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  rag_buf_append_u64le(out, bits);
}

static double read_double(rag_reader *r) {
  uint64_t bits = rag_read_u64le(r);
  double v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

static void read_text(rag_reader *r, char *out, size_t capacity) {
  rag_slice s = rag_read_bytes(r);
  if (r->bad || s.size >= capacity) {
    r->bad = true;
    return;
  }
  memcpy(out, s.data, s.size);
  out[s.size] = '\0';
}

size_t rag_kb__vector_bytes(rag_datatype datatype, uint32_t dimension) {
  return dimension * (datatype == RAG_DATATYPE_BFLOAT16 ? sizeof(uint16_t) : sizeof(float));
}

void rag_kb__encode_vector(rag_datatype datatype, const float *vector, uint32_t dimension, rag_buf *out) {
  if (datatype == RAG_DATATYPE_FLOAT32) {
    rag_buf_append(out, vector, dimension * sizeof *vector);
    return;
  }
  size_t bytes = rag_kb__vector_bytes(datatype, dimension);
  rag_buf_reserve(out, bytes);
  if (out->failed) return;
  uint32_t lost = 0; // of a vector that nobody has rounded
  for (uint32_t i = 0; i < dimension; i++) {
    uint32_t bits;
    memcpy(&bits, vector + i, sizeof bits);
    lost |= bits & 0xffff;
    out->data[out->size + 2 * i] = (char)(bits >> 16 & 0xff);
    out->data[out->size + 2 * i + 1] = (char)(bits >> 24);
  }
  RAG_ASSERT(lost == 0);
  out->size += bytes;
}

bool rag_kb__decode_vector(rag_datatype datatype, rag_slice value, uint32_t dimension, float *out) {
  if (value.size != rag_kb__vector_bytes(datatype, dimension)) return false;
  if (datatype == RAG_DATATYPE_FLOAT32) {
    memcpy(out, value.data, value.size);
    return true;
  }
  for (uint32_t i = 0; i < dimension; i++) {
    uint32_t bits = (uint32_t)(uint8_t)value.data[2 * i] << 16 | (uint32_t)(uint8_t)value.data[2 * i + 1] << 24;
    memcpy(out + i, &bits, sizeof bits);
  }
  return true;
}

void rag_kb__encode_record(const rag_kb__record *record, rag_buf *out) {
  const rag_kb_config *config = &record->config;
  bool plain = config->datatype == RAG_DATATYPE_FLOAT32;
  rag_buf_append_u8(out, plain ? RECORD_V1 : RECORD_V2);
  rag_buf_append_varint(out, record->id);
  rag_buf_append_varint(out, record->space);
  append_i64(out, record->created_us);
  append_text(out, record->fingerprint);
  append_text(out, config->name);
  append_text(out, config->description ? config->description : "");
  append_text(out, config->model);
  rag_buf_append_varint(out, config->dimension);
  rag_buf_append_varint(out, (uint64_t)config->metric);
  rag_buf_append_varint(out, (uint64_t)config->chunking.method);
  rag_buf_append_varint(out, config->chunking.max_tokens);
  rag_buf_append_varint(out, config->chunking.overlap_tokens);
  append_text(out, config->language);
  append_text(out, config->engine);
  append_text(out, config->factory);
  append_double(out, config->target_recall);
  rag_buf_append_varint(out, config->memory_bytes_max);
  rag_buf_append_varint(out, config->lag_slo_seconds);
  rag_buf_append_varint(out, config->max_age_seconds);
  append_text(out, config->fields_only ? config->fields_only : "");
  append_text(out, config->fields_except ? config->fields_except : "");
  rag_buf_append_varint(out, config->fields_values_max);
  if (!plain) rag_buf_append_varint(out, (uint64_t)config->datatype);
}

rag_status rag_kb__decode_record(rag_slice value, rag_kb__record *out, rag_error *err) {
  rag_reader r = rag_reader_of(value);
  rag_kb__record record = {0};
  rag_kb_config *config = &record.config;
  uint8_t format = rag_read_u8(&r);
  if (format != RECORD_V1 && format != RECORD_V2)
    return rag_fail(err, RAG_DATA_LOSS, "a knowledge base's record has an unknown format");
  record.id = read_u32(&r);
  record.space = read_u32(&r);
  record.created_us = read_i64(&r);
  read_text(&r, record.fingerprint, sizeof record.fingerprint);
  read_text(&r, config->name, sizeof config->name);
  rag_slice description = rag_read_bytes(&r);
  read_text(&r, config->model, sizeof config->model);
  config->dimension = read_u32(&r);
  config->metric = (rag_metric)rag_read_varint(&r);
  config->chunking.method = (rag_chunk_method)rag_read_varint(&r);
  config->chunking.max_tokens = read_u32(&r);
  config->chunking.overlap_tokens = read_u32(&r);
  read_text(&r, config->language, sizeof config->language);
  read_text(&r, config->engine, sizeof config->engine);
  read_text(&r, config->factory, sizeof config->factory);
  config->target_recall = read_double(&r);
  config->memory_bytes_max = rag_read_varint(&r);
  config->lag_slo_seconds = read_u32(&r);
  config->max_age_seconds = read_u32(&r);
  rag_slice only = {0}, except = {0}; // missing in rows that were written before they were
  if (rag_reader_left(&r) > 0) {
    only = rag_read_bytes(&r);
    except = rag_read_bytes(&r);
    config->fields_values_max = read_u32(&r);
  }
  if (format == RECORD_V2) {
    uint64_t datatype = rag_read_varint(&r);
    if (datatype != RAG_DATATYPE_BFLOAT16) r.bad = true;
    config->datatype = (rag_datatype)datatype;
  }
  if (r.bad) return rag_fail(err, RAG_DATA_LOSS, "a knowledge base's record cannot be decoded; restore from a backup");
  config->description = rag_strndup(description.data, description.size);
  config->fields_only = rag_strndup(only.data, only.size);
  config->fields_except = rag_strndup(except.data, except.size);
  if (config->description == NULL || config->fields_only == NULL || config->fields_except == NULL) {
    rag_kb_config_free(config);
    return rag_fail_no_memory(err, description.size);
  }
  *out = record;
  return RAG_OK;
}

void rag_kb__encode_result(const rag_write_result *result, rag_buf *out) {
  rag_buf_append_u8(out, RECORD_V1);
  rag_buf_append_varint(out, result->commit);
  rag_buf_append_varint(out, result->committed);
  rag_buf_append_varint(out, result->added);
  rag_buf_append_varint(out, result->changed);
  rag_buf_append_varint(out, result->unchanged);
  rag_buf_append_varint(out, result->removed);
  rag_buf_append_varint(out, result->missing);
  rag_buf_append_varint(out, result->chunks_added);
  rag_buf_append_varint(out, result->chunks_embedded);
  rag_buf_append_varint(out, result->chunks_reused);
}

bool rag_kb__decode_result(rag_reader *reader, rag_write_result *out) {
  *out = (rag_write_result){0};
  if (rag_read_u8(reader) != RECORD_V1) return false;
  out->commit = rag_read_varint(reader);
  out->committed = rag_read_varint(reader) != 0;
  out->added = rag_read_varint(reader);
  out->changed = rag_read_varint(reader);
  out->unchanged = rag_read_varint(reader);
  out->removed = rag_read_varint(reader);
  out->missing = rag_read_varint(reader);
  out->chunks_added = rag_read_varint(reader);
  out->chunks_embedded = rag_read_varint(reader);
  out->chunks_reused = rag_read_varint(reader);
  return !reader->bad;
}
