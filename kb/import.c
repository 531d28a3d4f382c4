// A knowledge base from an export (format: transfer_internal.h), all of it or nothing.
//
//   1. begin    one commit gives out the kb's number and space, durably, and marks the number as being imported (META 'P')
//   2. rows     checked (import_rows.c) and written under the new number in batches; no name leads to them
//   3. verify   every commit is materialised by the code that will serve it, and compared with its record
//   4. finish   one commit writes the kb's record ('B'), removes the mark and publishes the kb
//
// A failed import removes its rows and its mark. After a crash the mark is still there: rag_kbs_open removes the rows of
// every marked number. A number is given out once, so nothing of an import that failed is ever found under another name.
#include "kb/transfer_internal.h"

#include <stdio.h>

#define BATCH_BYTES (4u << 20)
#define READ_STEP_BYTES (1u << 20) // how far a frame's claimed size is believed before its bytes are there
#define damaged rag_kb__import_damaged

// ---------------------------------------------------------------------------------------------- reading

static rag_status read_exactly(rag_kb__import *im, void *out, size_t size, rag_error *err) {
  size_t done = 0;
  while (done < size) {
    size_t got = 0;
    RAG_TRY(im->read(im->ctx, (char *)out + done, size - done, &got, err));
    if (got == 0) return damaged(err, "it ends early");
    done += got;
  }
  return RAG_OK;
}

static uint32_t u32_at(const unsigned char *bytes) {
  return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static rag_status read_start(rag_kb__import *im, rag_error *err) {
  unsigned char start[RAG_KB__EXPORT_MAGIC_BYTES + 1 + 4];
  RAG_TRY(read_exactly(im, start, sizeof start, err));
  if (memcmp(start, RAG_KB__EXPORT_MAGIC, RAG_KB__EXPORT_MAGIC_BYTES) != 0)
    return damaged(err, "it does not begin like one");
  if (rag_crc32c(0, start, RAG_KB__EXPORT_MAGIC_BYTES + 1) != u32_at(start + RAG_KB__EXPORT_MAGIC_BYTES + 1))
    return damaged(err, "its first bytes do not fit their checksum");
  unsigned version = start[RAG_KB__EXPORT_MAGIC_BYTES];
  if (version != RAG_KB__EXPORT_VERSION)
    return rag_fail(err, RAG_FAILED_PRECONDITION,
                    "the export has format version %u; this program reads up to %u: use a newer one", version,
                    RAG_KB__EXPORT_VERSION);
  rag_digest_update(&im->digest, start, sizeof start);
  return RAG_OK;
}

// One frame; *payload is cleared and filled. The digest takes it in unless it is the trailer.
static rag_status read_frame(rag_kb__import *im, rag_kb__frame *out_type, rag_buf *payload, rag_error *err) {
  unsigned char head[5], tail[4];
  RAG_TRY(read_exactly(im, head, sizeof head, err));
  size_t left = u32_at(head + 1);
  rag_buf_clear(payload);
  while (left > 0) {
    size_t piece = RAG_MIN(left, (size_t)READ_STEP_BYTES);
    rag_buf_reserve(payload, piece);
    RAG_TRY(rag_buf_check(payload, err));
    RAG_TRY(read_exactly(im, payload->data + payload->size, piece, err));
    payload->size += piece;
    left -= piece;
  }
  RAG_TRY(read_exactly(im, tail, sizeof tail, err));
  if (rag_crc32c(rag_crc32c(0, head, sizeof head), payload->data, payload->size) != u32_at(tail))
    return damaged(err, "a frame does not fit its checksum");
  if (head[0] != RAG_KB__FRAME_TRAILER) {
    rag_digest_update(&im->digest, head, sizeof head);
    rag_digest_update(&im->digest, payload->data, payload->size);
    rag_digest_update(&im->digest, tail, sizeof tail);
  }
  *out_type = (rag_kb__frame)head[0];
  return RAG_OK;
}

static rag_status read_trailer(rag_kb__import *im, rag_slice payload, rag_error *err) {
  rag_reader r = rag_reader_of(payload);
  for (int type = 1; type < RAG_KB__ROW_TYPES; type++)
    if (rag_read_varint(&r) != im->rows[type]) return damaged(err, "rows are missing");
  rag_digest digest = rag_digest_final(&im->digest), stored;
  rag_slice raw = rag_read_raw(&r, RAG_DIGEST_BYTES);
  if (r.bad || rag_reader_left(&r) > 0) return damaged(err, "its end is not one");
  memcpy(stored.bytes, raw.data, RAG_DIGEST_BYTES);
  if (!rag_digest_equal(&digest, &stored)) return damaged(err, "it does not fit its digest");
  char more;
  size_t got = 0;
  RAG_TRY(im->read(im->ctx, &more, 1, &got, err));
  return got > 0 ? damaged(err, "something follows its end") : RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the header

static rag_status name_is_free(rag_kbs *kbs, rag_slice name, rag_error *err) {
  rag_kb__registry *registry = rag_cell_get(&kbs->registry);
  bool taken = rag_kbs__registry_has(registry, name);
  rag_ref_drop(registry);
  if (!taken) return RAG_OK;
  return rag_fail_field(err, RAG_ALREADY_EXISTS, "name",
                        "knowledge base '%.*s' exists already; import under another name", (int)name.size, name.data);
}

static rag_status check_space(rag_kb__import *im, rag_error *err) {
  rag_kb_config *config = &im->record.config;
  rag_embedder *embedder = NULL;
  if (config->model[0] == '\0')
    return im->record.fingerprint[0] == '\0' ? RAG_OK : damaged(err, "its space has no model");
  rag_status status = rag_kbs__embedder(im->kbs, rag_slice_str(config->model), &embedder, err);
  if (status == RAG_OK && (strcmp(rag_embedder_fingerprint(embedder), im->record.fingerprint) != 0 ||
                           rag_embedder_dimension(embedder) != config->dimension))
    status =
        rag_fail(err, RAG_FAILED_PRECONDITION,
                 "the export was embedded with %s, but this program's %s is %s; vectors of two models are never mixed: "
                 "import it with the program that made it",
                 im->record.fingerprint, config->model, rag_embedder_fingerprint(embedder));
  rag_ref_drop(embedder);
  return status;
}

static rag_status read_header(rag_kb__import *im, rag_slice name, rag_buf *payload, rag_error *err) {
  RAG_TRY(read_frame(im, &im->frame, payload, err));
  rag_reader r = rag_reader_of(rag_buf_slice(payload));
  rag_slice record = rag_read_bytes(&r), state = rag_read_bytes(&r);
  if (im->frame != RAG_KB__FRAME_HEADER || r.bad || rag_reader_left(&r) > 0 ||
      rag_kb__decode_record(record, &im->record, NULL) != RAG_OK)
    return damaged(err, "its header is none");
  rag_kb__state *counters = &im->state;
  if (!rag_kb__decode_state(state, counters) || counters->next_revision == 0 || counters->next_content == 0 ||
      counters->next_chunk == 0 || counters->next_commit == 0)
    return damaged(err, "its counters are none");
  if ((unsigned)im->record.config.metric > RAG_METRIC_L2) return damaged(err, "its metric is none");
  if (name.size > 0) snprintf(im->record.config.name, sizeof im->record.config.name, "%.*s", (int)name.size, name.data);
  rag_error why = {0};
  rag_status status = rag_kb__config_check(&im->record.config, &why);
  if (status == RAG_INVALID_ARGUMENT) return damaged(err, "its configuration is not valid: %.200s", why.message);
  RAG_TRY(status);
  RAG_TRY(name_is_free(im->kbs, rag_slice_str(im->record.config.name), err));
  return check_space(im, err);
}

// ---------------------------------------------------------------------------------------------- writing

static void key_mark(rag_key *key, uint32_t kb) {
  rag_key_init(key);
  rag_key_u8(key, 'P');
  rag_key_u32(key, kb);
}

static rag_status begin_apply(void *ctx, rag_txn *txn, rag_error *err) {
  rag_kb__import *im = ctx;
  rag_kbs *kbs = im->kbs;
  rag_kb__record *record = &im->record;
  rag_key key;
  if (kbs->pending->count >= RAG_KBS_MAX)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "there are %u knowledge bases, the most allowed; delete some",
                    RAG_KBS_MAX);
  record->id = kbs->next_kb++;
  if (record->config.model[0] == '\0')
    snprintf(record->fingerprint, sizeof record->fingerprint, "client-%u-%u-%s", record->id, record->config.dimension,
             rag_metric_name(record->config.metric));
  // Numbers are given out even where this fails: they are never used again.
  RAG_TRY(rag_kbs__space(kbs, txn, record->fingerprint, record->config.datatype, &record->space, err));
  RAG_TRY(rag_kbs__counters_write(kbs, txn, err));
  key_mark(&key, record->id);
  rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_slice_of("", 0));
  return RAG_OK;
}

static rag_status batch_apply(void *ctx, rag_txn *txn, rag_error *err) {
  rag_kb__import *im = ctx;
  RAG_UNUSED(err);
  rag_reader r = rag_reader_of(rag_buf_slice(&im->batch));
  while (rag_reader_left(&r) > 0) {
    rag_cf cf = (rag_cf)rag_read_u8(&r);
    rag_slice key = rag_read_bytes(&r), value = rag_read_bytes(&r);
    rag_txn_put(txn, cf, key, value);
  }
  return RAG_OK;
}

static rag_status flush(rag_kb__import *im, rag_error *err) {
  if (im->batch.size == 0) return RAG_OK;
  RAG_TRY(rag_buf_check(&im->batch, err));
  rag_commit_request request = {.apply = batch_apply, .ctx = im};
  im->wrote = true;
  rag_status status = rag_store_commit(im->kbs->store, &request, err);
  rag_buf_clear(&im->batch);
  return status;
}

static rag_status write_state(rag_kb__import *im, rag_error *err) {
  rag_key key;
  rag_buf value = {0};
  rag_kb__key_state(&key, im->record.id);
  rag_kb__encode_state(&im->state, &value);
  if (value.failed) im->batch.failed = true;
  rag_buf_append_u8(&im->batch, RAG_CF_META);
  rag_buf_append_bytes(&im->batch, rag_key_slice(&key));
  rag_buf_append_bytes(&im->batch, rag_buf_slice(&value));
  rag_buf_free(&value);
  return flush(im, err);
}

static rag_status read_rows(rag_kb__import *im, rag_buf *payload, rag_error *err) {
  for (;;) {
    rag_kb__frame type;
    RAG_TRY(read_frame(im, &type, payload, err));
    if (type < im->frame || type <= RAG_KB__FRAME_HEADER || type > RAG_KB__FRAME_TRAILER)
      return damaged(err, "a frame of type %d follows one of type %d", (int)type, (int)im->frame);
    im->frame = type;
    if (type == RAG_KB__FRAME_TRAILER) break;
    RAG_TRY(rag_kb__import_rows(im, rag_buf_slice(payload), err));
    if (im->batch.size >= BATCH_BYTES) RAG_TRY(flush(im, err));
  }
  RAG_TRY(read_trailer(im, rag_buf_slice(payload), err));
  RAG_TRY(rag_kb__import_complete(im, err));
  return write_state(im, err);
}

// ---------------------------------------------------------------------------------------------- making it visible

typedef struct finish_op {
  rag_kb__import *im;
  rag_kb *kb;
  rag_kb__registry *registry;
} finish_op;

static rag_status finish_apply(void *ctx, rag_txn *txn, rag_error *err) {
  finish_op *op = ctx;
  rag_kbs *kbs = op->im->kbs;
  rag_key key;
  if (rag_kbs__registry_has(kbs->pending, rag_slice_str(op->kb->name)))
    return rag_fail_field(err, RAG_ALREADY_EXISTS, "name",
                          "knowledge base '%s' was created meanwhile; import under another name", op->kb->name);
  if (kbs->pending->count >= RAG_KBS_MAX)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "there are %u knowledge bases, the most allowed; delete some",
                    RAG_KBS_MAX);
  RAG_TRY(rag_kb__record_write(&op->im->record, txn, err));
  key_mark(&key, op->kb->id);
  rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&key));
  RAG_TRY(rag_kbs__registry_with(kbs->pending, op->kb, rag_slice_of("", 0), &op->registry, err));
  rag_ref_drop(kbs->pending);
  kbs->pending = rag_ref_take(op->registry);
  return RAG_OK;
}

static void finish_publish(void *ctx) {
  finish_op *op = ctx;
  rag_cell_set(&op->im->kbs->registry, op->registry);
  op->registry = NULL;
}

static void finish_abandon(void *ctx) {
  finish_op *op = ctx;
  rag_kbs__registry_abandon(op->im->kbs, op->registry);
  op->registry = NULL;
}

static rag_status finish(rag_kb__import *im, rag_kb **out, rag_error *err) {
  finish_op op = {.im = im};
  rag_kb__view *view = NULL;
  RAG_TRY(rag_kb__view_read(im->kbs, im->record.id, &view, err));
  RAG_TRY(rag_kb__open(im->kbs, &im->record, view, &op.kb, err)); // takes over view
  rag_status status = rag_kb__import_verify(im, op.kb, err);
  if (status == RAG_OK && im->kbs->options.load_at_open) status = rag_kb__load(op.kb, err);
  rag_commit_request request = {
      .apply = finish_apply, .publish = finish_publish, .abandon = finish_abandon, .ctx = &op};
  if (status == RAG_OK) status = rag_store_commit(im->kbs->store, &request, err);
  if (status == RAG_OK) {
    *out = op.kb;
    op.kb = NULL;
  } else {
    rag_kb__version_cache_forget(im->kbs, im->record.id);
  }
  rag_ref_drop(op.kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- failure, crash

typedef struct unmark_op {
  uint32_t kb;
} unmark_op;

static rag_status unmark_apply(void *ctx, rag_txn *txn, rag_error *err) {
  unmark_op *op = ctx;
  rag_key key;
  RAG_UNUSED(err);
  key_mark(&key, op->kb);
  rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&key));
  return RAG_OK;
}

static rag_status remove_rows(rag_store *store, uint32_t kb, bool wrote, rag_error *err) {
  unmark_op op = {kb};
  if (wrote) RAG_TRY(rag_kb__delete_rows(store, kb, err));
  return rag_store_commit(store, &(rag_commit_request){.apply = unmark_apply, .ctx = &op}, err);
}

rag_status rag_kbs__import_sweep(rag_kbs *kbs, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_buf numbers = {0};
  RAG_TRY(
      rag_store_iter_open(kbs->store, NULL, RAG_CF_META, rag_slice_of("P", 1), rag_slice_of("Q", 1), false, &it, err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it);
    if (key.size == 5) rag_buf_append(&numbers, key.data + 1, 4);
  }
  rag_status status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  if (status == RAG_OK) status = rag_buf_check(&numbers, err);
  rag_reader r = rag_reader_of(rag_buf_slice(&numbers));
  while (status == RAG_OK && rag_reader_left(&r) > 0) {
    uint32_t kb = rag_read_u32be(&r);
    rag_log(RAG_LOG_INFO, "import.removed", "number=%u why=it did not end", kb);
    status = remove_rows(kbs->store, kb, true, err);
  }
  rag_buf_free(&numbers);
  return status;
}

static void import_free(rag_kb__import *im) {
  rag_kb_config_free(&im->record.config);
  rag_free(im->contents);
  rag_free(im->commits);
  rag_bitmap_edit_destroy(im->revisions);
  rag_bitmap_edit_destroy(im->chunks);
  rag_bitmap_edit_destroy(im->used_contents);
  rag_buf_free(&im->last_ref);
  rag_free(im->branches);
  rag_buf_free(&im->last_log);
  rag_buf_free(&im->batch);
  rag_buf_free(&im->body);
  rag_free(im->vector);
}

rag_status rag_kbs_import(rag_kbs *kbs, rag_slice name, rag_read_fn read, void *ctx, rag_kb **out, rag_error *err) {
  rag_kb__import im = {.kbs = kbs, .read = read, .ctx = ctx};
  rag_buf payload = {0};
  rag_status status = RAG_OK;
  if (name.size > 0 && !rag_name_valid(name))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "name",
                          "'%.*s' is not a name; a name is [a-z0-9][a-z0-9._-]{0,62}",
                          (int)RAG_MIN(name.size, (size_t)80), name.data);
  if (name.size > 0) RAG_TRY(name_is_free(kbs, name, err));
  rag_digest_init(&im.digest);
  RAG_TRY_OUT(read_start(&im, err));
  RAG_TRY_OUT(read_header(&im, name, &payload, err));
  im.revisions = rag_bitmap_edit_create(NULL);
  im.chunks = rag_bitmap_edit_create(NULL);
  im.used_contents = rag_bitmap_edit_create(NULL);
  im.vector = rag_calloc(im.record.config.dimension, sizeof *im.vector);
  if (im.revisions == NULL || im.chunks == NULL || im.used_contents == NULL || im.vector == NULL) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  RAG_TRY_OUT(rag_store_commit(kbs->store, &(rag_commit_request){.apply = begin_apply, .ctx = &im}, err));
  im.begun = true;
  RAG_TRY_OUT(read_rows(&im, &payload, err));
  status = finish(&im, out, err);
out:
  if (status != RAG_OK && im.begun) {
    rag_error ignored; // the mark stays, and the next open removes the rows
    if (remove_rows(kbs->store, im.record.id, im.wrote, &ignored) != RAG_OK)
      rag_log(RAG_LOG_WARN, "import.not_removed", "number=%u why=%s", im.record.id, ignored.message);
  }
  rag_buf_free(&payload);
  import_free(&im);
  return status;
}
