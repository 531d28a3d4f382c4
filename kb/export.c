// A knowledge base with its whole history as one stream (format: transfer_internal.h).
//
// Everything is read at one snapshot, so the stream is one state of the kb, whatever is written, collected or purged
// meanwhile. Memory: one frame. The snapshot keeps a purge from erasing bytes from the files while the export runs, so a
// receiver that stalls must be cut off by whoever writes to it.
#include "kb/transfer_internal.h"

typedef struct exporter {
  rag_kb *kb;
  rag_snapshot *snapshot;
  rag_write_fn write;
  void *ctx;
  rag_digest_state digest;
  rag_kb__frame frame;
  rag_buf payload;
  uint64_t rows[RAG_KB__ROW_TYPES];
} exporter;

// ---------------------------------------------------------------------------------------------- frames

static rag_status write_bytes(exporter *e, const void *data, size_t size, rag_error *err) {
  rag_digest_update(&e->digest, data, size);
  return e->write(e->ctx, data, size, err);
}

static rag_status flush(exporter *e, rag_error *err) {
  if (e->payload.size == 0) return RAG_OK;
  RAG_TRY(rag_buf_check(&e->payload, err));
  if (e->payload.size > UINT32_MAX)
    return rag_fail(err, RAG_OUT_OF_RANGE, "a document of over 4 GiB cannot be exported");
  rag_buf edge = {0};
  rag_buf_append_u8(&edge, (uint8_t)e->frame);
  rag_buf_append_u32le(&edge, (uint32_t)e->payload.size);
  rag_status status = rag_buf_check(&edge, err);
  if (status == RAG_OK) status = write_bytes(e, edge.data, edge.size, err);
  if (status == RAG_OK) status = write_bytes(e, e->payload.data, e->payload.size, err);
  if (status == RAG_OK) {
    uint32_t crc = rag_crc32c(rag_crc32c(0, edge.data, edge.size), e->payload.data, e->payload.size);
    rag_buf_clear(&edge);
    rag_buf_append_u32le(&edge, crc);
    status = rag_buf_check(&edge, err);
  }
  if (status == RAG_OK) status = write_bytes(e, edge.data, edge.size, err);
  rag_buf_free(&edge);
  rag_buf_clear(&e->payload);
  return status;
}

static rag_status enter(exporter *e, rag_kb__frame frame, rag_error *err) {
  RAG_TRY(flush(e, err));
  e->frame = frame;
  return RAG_OK;
}

static void begin_row(exporter *e, rag_kb__row type) {
  rag_buf_append_u8(&e->payload, (uint8_t)type);
  e->rows[type]++;
}

static void add_row(exporter *e, rag_kb__row type, uint32_t number, rag_slice value) {
  begin_row(e, type);
  rag_buf_append_varint(&e->payload, number);
  rag_buf_append_bytes(&e->payload, value);
}

static rag_status end_row(exporter *e, rag_error *err) {
  return e->payload.size >= RAG_KB__EXPORT_FRAME_BYTES ? flush(e, err) : RAG_OK;
}

// ---------------------------------------------------------------------------------------------- sections

static rag_status get(exporter *e, rag_cf cf, const rag_key *key, rag_value *out, rag_error *err) {
  rag_status status = rag_store_get(e->kb->store, e->snapshot, cf, rag_key_slice(key), out, err);
  return status == RAG_NOT_FOUND ? rag_kb__corrupt(err, cf, rag_key_slice(key)) : status;
}

static rag_status write_header(exporter *e, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_kb__record record = {0};
  rag_buf bytes = {0};
  rag_kb__key_kb(&key, rag_slice_str(e->kb->name));
  rag_status status = rag_store_get(e->kb->store, e->snapshot, RAG_CF_META, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND) return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", e->kb->name);
  RAG_TRY(status);
  status = rag_kb__decode_record(value.slice, &record, err);
  rag_value_free(&value);
  RAG_TRY(status);
  if (record.id != e->kb->id) {
    status = rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", e->kb->name);
    goto out;
  }
  record.id = record.space = 0;
  if (record.config.model[0] == '\0') record.fingerprint[0] = '\0';
  rag_kb__encode_record(&record, &bytes);
  RAG_TRY_OUT(rag_buf_check(&bytes, err));
  RAG_TRY_OUT(enter(e, RAG_KB__FRAME_HEADER, err));
  rag_buf_append_bytes(&e->payload, rag_buf_slice(&bytes));
  rag_kb__key_state(&key, e->kb->id);
  RAG_TRY_OUT(get(e, RAG_CF_META, &key, &value, err));
  rag_buf_append_bytes(&e->payload, value.slice);
out:
  rag_value_free(&value);
  rag_buf_free(&bytes);
  rag_kb_config_free(&record.config);
  return status;
}

static rag_status scan(exporter *e, rag_cf cf, const rag_key *prefix, rag_store_iter **out, rag_error *err) {
  rag_key upper;
  if (!rag_key_successor(prefix, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's rows");
  return rag_store_iter_open(e->kb->store, e->snapshot, cf, rag_key_slice(prefix), rag_key_slice(&upper), false, out,
                             err);
}

// A scan that is one row ahead, of rows numbered by the last four bytes of their keys.
typedef struct cursor {
  rag_store_iter *it;
  bool more;
  uint32_t number;
} cursor;

static void cursor_next(cursor *c) {
  c->more = rag_store_iter_next(c->it);
  if (!c->more) return;
  rag_slice key = rag_store_iter_key(c->it);
  rag_reader r = rag_reader_of(rag_slice_of(key.data + key.size - 4, 4));
  c->number = rag_read_u32be(&r);
}

static rag_status cursor_open(exporter *e, rag_cf cf, const rag_key *prefix, cursor *c, rag_error *err) {
  RAG_TRY(scan(e, cf, prefix, &c->it, err));
  cursor_next(c);
  return RAG_OK;
}

static rag_status write_chunks(exporter *e, uint32_t content, cursor *chunks, cursor *vectors, rag_error *err) {
  while (chunks->more) {
    rag_kb__chunk chunk;
    if (!rag_kb__decode_chunk(rag_store_iter_value(chunks->it), &chunk) || chunk.content < content)
      return rag_kb__corrupt(err, RAG_CF_CHUNK, rag_store_iter_key(chunks->it));
    if (chunk.content > content) return RAG_OK;
    add_row(e, RAG_KB__ROW_CHUNK, chunks->number, rag_store_iter_value(chunks->it));
    RAG_TRY(end_row(e, err));
    if (vectors->more && vectors->number < chunks->number)
      return rag_kb__corrupt(err, RAG_CF_VECTOR, rag_store_iter_key(vectors->it));
    if (vectors->more && vectors->number == chunks->number) {
      add_row(e, RAG_KB__ROW_VECTOR, vectors->number, rag_store_iter_value(vectors->it));
      RAG_TRY(end_row(e, err));
      cursor_next(vectors);
    }
    cursor_next(chunks);
  }
  return RAG_OK;
}

// Contents and chunks are numbered in one order, so three scans side by side meet.
static rag_status write_contents(exporter *e, rag_error *err) {
  rag_kb *kb = e->kb;
  rag_key prefix;
  cursor contents = {0}, chunks = {0}, vectors = {0};
  rag_status status = RAG_OK;
  RAG_TRY(enter(e, RAG_KB__FRAME_CONTENTS, err));
  rag_key_init(&prefix);
  rag_key_u32(&prefix, kb->id);
  RAG_TRY_OUT(cursor_open(e, RAG_CF_CONTENT, &prefix, &contents, err));
  RAG_TRY_OUT(cursor_open(e, RAG_CF_CHUNK, &prefix, &chunks, err));
  rag_key_u32(&prefix, kb->space);
  RAG_TRY_OUT(cursor_open(e, RAG_CF_VECTOR, &prefix, &vectors, err));
  for (; contents.more; cursor_next(&contents)) {
    add_row(e, RAG_KB__ROW_CONTENT, contents.number, rag_store_iter_value(contents.it));
    RAG_TRY_OUT(end_row(e, err));
    RAG_TRY_OUT(write_chunks(e, contents.number, &chunks, &vectors, err));
  }
  RAG_TRY_OUT(rag_store_iter_status(contents.it, err));
  RAG_TRY_OUT(rag_store_iter_status(chunks.it, err));
  RAG_TRY_OUT(rag_store_iter_status(vectors.it, err));
  if (chunks.more) status = rag_kb__corrupt(err, RAG_CF_CHUNK, rag_store_iter_key(chunks.it));
  else if (vectors.more) status = rag_kb__corrupt(err, RAG_CF_VECTOR, rag_store_iter_key(vectors.it));
out:
  rag_store_iter_close(contents.it);
  rag_store_iter_close(chunks.it);
  rag_store_iter_close(vectors.it);
  return status;
}

static rag_status write_revisions(exporter *e, rag_error *err) {
  rag_key prefix, key;
  cursor revisions = {0};
  rag_status status = RAG_OK;
  RAG_TRY(enter(e, RAG_KB__FRAME_REVISIONS, err));
  rag_key_init(&prefix);
  rag_key_u32(&prefix, e->kb->id);
  RAG_TRY_OUT(cursor_open(e, RAG_CF_REVISION, &prefix, &revisions, err));
  for (; revisions.more; cursor_next(&revisions)) {
    rag_kb__revision revision;
    rag_value document = {0};
    rag_slice value = rag_store_iter_value(revisions.it);
    if (!rag_kb__decode_revision(value, &revision)) {
      status = rag_kb__corrupt(err, RAG_CF_REVISION, rag_store_iter_key(revisions.it));
      goto out;
    }
    rag_kb__key_document(&key, e->kb->id, revision.id, revisions.number);
    RAG_TRY_OUT(get(e, RAG_CF_DOCUMENT, &key, &document, err));
    add_row(e, RAG_KB__ROW_REVISION, revisions.number, value);
    rag_buf_append_bytes(&e->payload, document.slice);
    rag_value_free(&document);
    RAG_TRY_OUT(end_row(e, err));
  }
  status = rag_store_iter_status(revisions.it, err);
out:
  rag_store_iter_close(revisions.it);
  return status;
}

static rag_status write_record(exporter *e, uint32_t number, rag_slice row, rag_error *err) {
  rag_kb__commit record;
  rag_buf value = {0};
  rag_key key;
  rag_kb__key_commit(&key, e->kb->id, number, 0);
  if (!rag_kb__decode_commit(row, &record)) return rag_kb__corrupt(err, RAG_CF_COMMIT, rag_key_slice(&key));
  record.space = 0;
  rag_kb__encode_commit(&record, &value);
  rag_status status = rag_buf_check(&value, err);
  add_row(e, RAG_KB__ROW_COMMIT, number, rag_buf_slice(&value));
  rag_buf_free(&value);
  return status;
}

static rag_status write_delta(exporter *e, uint32_t number, rag_slice row, rag_error *err) {
  rag_key key;
  rag_value checkpoint = {0};
  uint32_t base, depth;
  rag_kb__key_commit(&key, e->kb->id, number, 1);
  if (!rag_kb__decode_delta_head(row, &base, &depth)) return rag_kb__corrupt(err, RAG_CF_COMMIT, rag_key_slice(&key));
  rag_buf_append_bytes(&e->payload, row);
  if (depth == 0) {
    rag_kb__key_u32(&key, e->kb->id, number);
    RAG_TRY(get(e, RAG_CF_BITMAP, &key, &checkpoint, err));
    add_row(e, RAG_KB__ROW_CHECKPOINT, number, checkpoint.slice);
    rag_value_free(&checkpoint);
  }
  return end_row(e, err);
}

static rag_status write_commits(exporter *e, rag_error *err) {
  rag_key prefix;
  rag_store_iter *it = NULL;
  rag_status status = RAG_OK;
  uint32_t open = 0; // the commit whose delta must come next
  RAG_TRY(enter(e, RAG_KB__FRAME_COMMITS, err));
  rag_key_init(&prefix);
  rag_key_u32(&prefix, e->kb->id);
  RAG_TRY(scan(e, RAG_CF_COMMIT, &prefix, &it, err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
    rag_reader r = rag_reader_of(key);
    (void)rag_read_u32be(&r);
    uint32_t number = rag_read_u32be(&r);
    uint8_t row = rag_read_u8(&r);
    if (r.bad || row > 1 || (row == 0 && open != 0) || (row == 1 && open != number)) {
      status = rag_kb__corrupt(err, RAG_CF_COMMIT, key);
      goto out;
    }
    status = row == 0 ? write_record(e, number, value, err) : write_delta(e, number, value, err);
    if (status != RAG_OK) goto out;
    open = row == 0 ? number : 0;
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

static rag_status write_refs(exporter *e, uint8_t tag, rag_error *err) {
  rag_key prefix;
  rag_store_iter *it = NULL;
  rag_status status = RAG_OK;
  rag_key_init(&prefix);
  rag_key_u8(&prefix, tag);
  rag_key_u32(&prefix, e->kb->id);
  RAG_TRY(scan(e, RAG_CF_META, &prefix, &it, err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it); // tag, kb, u16 length, name; for logs then time and commit
    size_t tail = tag == 'L' ? 12 : 0;
    if (key.size < 7 + tail) {
      status = rag_kb__corrupt(err, RAG_CF_META, key);
      goto out;
    }
    rag_slice name = rag_slice_of(key.data + 7, key.size - 7 - tail);
    if (tag == 'L') {
      rag_reader r = rag_reader_of(rag_slice_of(key.data + key.size - tail, tail));
      begin_row(e, RAG_KB__ROW_LOG);
      rag_buf_append_bytes(&e->payload, name);
      rag_buf_append_varint(&e->payload, rag_read_u64be(&r));
      rag_buf_append_varint(&e->payload, rag_read_u32be(&r));
    } else {
      begin_row(e, RAG_KB__ROW_REF);
      rag_buf_append_u8(&e->payload, tag);
      rag_buf_append_bytes(&e->payload, name);
      rag_buf_append_bytes(&e->payload, rag_store_iter_value(it));
    }
    RAG_TRY_OUT(end_row(e, err));
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

static rag_status write_trailer(exporter *e, rag_error *err) {
  RAG_TRY(enter(e, RAG_KB__FRAME_TRAILER, err));
  rag_digest digest = rag_digest_final(&e->digest);
  rag_digest_init(&e->digest); // takes the trailer's own bytes, which nobody asks for
  for (int type = 1; type < RAG_KB__ROW_TYPES; type++) rag_buf_append_varint(&e->payload, e->rows[type]);
  rag_buf_append(&e->payload, digest.bytes, sizeof digest.bytes);
  return flush(e, err);
}

static rag_status write_start(exporter *e, rag_error *err) {
  unsigned char start[RAG_KB__EXPORT_MAGIC_BYTES + 1 + 4] = RAG_KB__EXPORT_MAGIC;
  start[RAG_KB__EXPORT_MAGIC_BYTES] = RAG_KB__EXPORT_VERSION;
  uint32_t crc = rag_crc32c(0, start, RAG_KB__EXPORT_MAGIC_BYTES + 1);
  for (unsigned i = 0; i < 4; i++) start[RAG_KB__EXPORT_MAGIC_BYTES + 1 + i] = (unsigned char)(crc >> (8 * i));
  return write_bytes(e, start, sizeof start, err);
}

rag_status rag_kb_export(rag_kb *kb, rag_write_fn write, void *ctx, rag_error *err) {
  exporter e = {.kb = kb, .write = write, .ctx = ctx};
  rag_status status = RAG_OK;
  rag_digest_init(&e.digest);
  e.snapshot = rag_snapshot_create(kb->store);
  if (e.snapshot == NULL) return rag_fail_no_memory(err, 0);
  RAG_TRY_OUT(write_start(&e, err));
  RAG_TRY_OUT(write_header(&e, err));
  RAG_TRY_OUT(write_contents(&e, err));
  RAG_TRY_OUT(write_revisions(&e, err));
  RAG_TRY_OUT(write_commits(&e, err));
  RAG_TRY_OUT(enter(&e, RAG_KB__FRAME_REFS, err));
  RAG_TRY_OUT(write_refs(&e, 'b', err));
  RAG_TRY_OUT(write_refs(&e, 't', err));
  RAG_TRY_OUT(write_refs(&e, 'L', err));
  status = write_trailer(&e, err);
out:
  rag_snapshot_destroy(kb->store, e.snapshot);
  rag_buf_free(&e.payload);
  return status;
}
