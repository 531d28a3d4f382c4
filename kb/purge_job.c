// The job of a purge: erases the deleted bytes from the files, looks that nothing is left, and writes the receipt.
//
// Whole families of the kb are compacted, not the range of the purged rows: revisions of a purged document that gc
// removed earlier, or that a newer row replaced, may lie anywhere in them, deleted but not yet overwritten. COMMIT and
// BITMAP rows hold numbers of revisions and chunks and nothing of a document; they are rewritten, not compacted.
//
// The receipt names the documents by id, as its reader must match them with the request; ids therefore stay in the job's
// record until RAG_JOBS_FINISHED_KEPT newer jobs have finished. It holds nothing else of a document.
//
// Params: version u8, then varints and bytes as encoded below. Cursor: the next step u8.
#include <inttypes.h>

#include "kb/purge_internal.h"
#include "kb/segments_internal.h"

#define PARAMS_VERSION 1u

static const rag_cf families[] = {RAG_CF_DOCUMENT, RAG_CF_REVISION, RAG_CF_CONTENT,
                                  RAG_CF_CHUNK,    RAG_CF_VECTOR,   RAG_CF_CACHE};

// ---------------------------------------------------------------------------------------------- parameters

static void append_set(rag_buf *out, const rag_bitmap *set) {
  rag_buf image = {0};
  rag_bitmap_encode(set, &image);
  if (image.failed) out->failed = true;
  rag_buf_append_bytes(out, rag_buf_slice(&image));
  rag_buf_free(&image);
}

void rag_kb__purge_params_encode(const rag_kb__purge_params *params, rag_buf *out) {
  rag_buf_append_u8(out, PARAMS_VERSION);
  rag_buf_append_varint(out, params->kb);
  rag_buf_append_varint(out, params->space);
  rag_buf_append_varint(out, (uint64_t)params->purged_us);
  rag_buf_append_varint(out, params->limit_revision);
  rag_buf_append_varint(out, params->commits);
  rag_buf_append_bytes(out, rag_buf_slice(&params->ids));
  append_set(out, params->revisions);
  append_set(out, params->contents);
  append_set(out, params->chunks);
}

rag_status rag_kb__purge_params_decode(rag_slice bytes, rag_kb__purge_params *out, rag_error *err) {
  rag_reader r = rag_reader_of(bytes);
  rag_kb__purge_params params = {0};
  uint8_t version = rag_read_u8(&r);
  params.kb = (uint32_t)rag_read_varint(&r);
  params.space = (uint32_t)rag_read_varint(&r);
  params.purged_us = (int64_t)rag_read_varint(&r);
  params.limit_revision = (uint32_t)rag_read_varint(&r);
  params.commits = rag_read_varint(&r);
  rag_slice ids = rag_read_bytes(&r);
  rag_slice images[3] = {rag_read_bytes(&r), rag_read_bytes(&r), rag_read_bytes(&r)};
  rag_bitmap **sets[3] = {&params.revisions, &params.contents, &params.chunks};
  if (r.bad || version != PARAMS_VERSION) return rag_fail(err, RAG_DATA_LOSS, "the job's parameters cannot be decoded");
  rag_buf_append(&params.ids, ids.data, ids.size);
  rag_status status = rag_buf_check(&params.ids, err);
  for (int i = 0; status == RAG_OK && i < 3; i++) status = rag_bitmap_decode(images[i], sets[i], err);
  if (status == RAG_OK) *out = params;
  else rag_kb__purge_params_free(&params);
  return status;
}

void rag_kb__purge_params_free(rag_kb__purge_params *params) {
  rag_buf_free(&params->ids);
  rag_ref_drop(params->revisions);
  rag_ref_drop(params->contents);
  rag_ref_drop(params->chunks);
  *params = (rag_kb__purge_params){0};
}

// ---------------------------------------------------------------------------------------------- erasing

static rag_status erase(rag_store *store, const rag_kb__purge_params *params, rag_cf cf, rag_error *err) {
  rag_key lower, upper;
  rag_key_init(&lower);
  rag_key_u32(&lower, cf == RAG_CF_CACHE ? params->space : params->kb);
  if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's rows");
  return rag_store_erase_compact(store, cf, rag_key_slice(&lower), rag_key_slice(&upper), err);
}

// ---------------------------------------------------------------------------------------------- looking

static rag_status left(rag_error *err, rag_cf cf, const char *what, uint64_t number) {
  return rag_fail(err, RAG_DATA_LOSS, "after the purge a row of %s is still there (%s %" PRIu64 "); purge again",
                  rag_cf_name(cf), what, number);
}

static rag_status look_range(rag_store *store, rag_cf cf, rag_slice lower, rag_slice upper, const char *what,
                             uint64_t number, rag_error *err) {
  rag_store_iter *it = NULL;
  RAG_TRY(rag_store_iter_open(store, NULL, cf, lower, upper, false, &it, err));
  bool found = rag_store_iter_next(it);
  rag_status status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  return status == RAG_OK && found ? left(err, cf, what, number) : status;
}

// No row of any member, run of members by run. space 0: the key is (kb, member), else (kb, space, member).
static rag_status look_set(rag_store *store, rag_cf cf, uint32_t kb, uint32_t space, const rag_bitmap *set,
                           const char *what, rag_error *err) {
  uint32_t first = 0, last;
  bool more = rag_bitmap_next(set, 0, &first);
  while (more) {
    uint32_t next = first;
    do {
      last = next;
      more = last < UINT32_MAX && rag_bitmap_next(set, last + 1, &next);
    } while (more && next == last + 1);
    rag_key lower, upper;
    if (space == 0) {
      rag_kb__key_u32(&lower, kb, first);
      rag_kb__key_u32(&upper, kb, last);
    } else {
      rag_kb__key_vector(&lower, kb, space, first);
      rag_kb__key_vector(&upper, kb, space, last);
    }
    rag_key_u8(&upper, 0); // after the last member's key, before the next
    RAG_TRY(look_range(store, cf, rag_key_slice(&lower), rag_key_slice(&upper), what, first, err));
    first = next;
  }
  return RAG_OK;
}

static rag_status look_documents(rag_store *store, const rag_kb__purge_params *params, rag_error *err) {
  rag_reader r = rag_reader_of(rag_buf_slice(&params->ids));
  while (rag_reader_left(&r) > 0) {
    (void)rag_read_varint(&r);
    rag_slice id = rag_read_bytes(&r);
    rag_key lower, upper;
    // Newest first: from the newest revision that the purge saw. Newer ones are documents put under the id since.
    rag_kb__key_document(&lower, params->kb, id, params->limit_revision - 1);
    rag_kb__key_document(&upper, params->kb, id, 0);
    RAG_TRY(look_range(store, RAG_CF_DOCUMENT, rag_key_slice(&lower), rag_key_slice(&upper), "a revision below",
                       params->limit_revision, err));
  }
  return RAG_OK;
}

static bool names(const rag_bitmap *set, const rag_bitmap *gone) {
  return set != NULL && rag_bitmap_and_count(set, gone) > 0;
}

static rag_status look_delta(const rag_kb__purge_params *params, rag_slice key, rag_slice value, rag_error *err) {
  rag_kb__delta delta;
  if (key.size != 9 || key.data[8] != 1) return RAG_OK;
  if (rag_kb__decode_delta(value, &delta, NULL) != RAG_OK) return rag_kb__corrupt(err, RAG_CF_COMMIT, key);
  bool found = names(delta.revisions_added, params->revisions) || names(delta.revisions_removed, params->revisions) ||
               names(delta.chunks_added, params->chunks) || names(delta.chunks_removed, params->chunks);
  rag_kb__delta_free(&delta);
  rag_reader r = rag_reader_of(rag_slice_of(key.data + 4, 4));
  return found ? left(err, RAG_CF_COMMIT, "commit", rag_read_u32be(&r)) : RAG_OK;
}

static rag_status look_checkpoint(const rag_kb__purge_params *params, rag_slice key, rag_slice value, rag_error *err) {
  rag_bitmap *revisions = NULL, *chunks = NULL;
  RAG_TRY(rag_kb__decode_checkpoint(value, &revisions, &chunks, err));
  bool found = names(revisions, params->revisions) || names(chunks, params->chunks);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  rag_reader r = rag_reader_of(rag_slice_of(key.data + 4, 4));
  return found ? left(err, RAG_CF_BITMAP, "commit", rag_read_u32be(&r)) : RAG_OK;
}

static rag_status look_history(rag_store *store, const rag_kb__purge_params *params, rag_error *err) {
  static const rag_cf history[] = {RAG_CF_COMMIT, RAG_CF_BITMAP};
  rag_status status = RAG_OK;
  for (size_t i = 0; status == RAG_OK && i < RAG_COUNT_OF(history); i++) {
    rag_store_iter *it = NULL;
    rag_key lower, upper;
    rag_key_init(&lower);
    rag_key_u32(&lower, params->kb);
    if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's rows");
    RAG_TRY(
        rag_store_iter_open(store, NULL, history[i], rag_key_slice(&lower), rag_key_slice(&upper), false, &it, err));
    while (status == RAG_OK && rag_store_iter_next(it)) {
      rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
      status =
          history[i] == RAG_CF_COMMIT ? look_delta(params, key, value, err) : look_checkpoint(params, key, value, err);
    }
    if (status == RAG_OK) status = rag_store_iter_status(it, err);
    rag_store_iter_close(it);
  }
  return status;
}

// Keys of the cache are digests of texts that are gone, so all of the space's rows are looked at.
static rag_status look_cache(rag_store *store, const rag_kb__purge_params *params, rag_error *err) {
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_status status = RAG_OK;
  rag_key_init(&lower);
  rag_key_u32(&lower, params->space);
  if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a space's rows");
  RAG_TRY(
      rag_store_iter_open(store, NULL, RAG_CF_CACHE, rag_key_slice(&lower), rag_key_slice(&upper), false, &it, err));
  while (status == RAG_OK && rag_store_iter_next(it)) {
    rag_reader r = rag_reader_of(rag_store_iter_value(it));
    uint32_t owner = rag_read_u32le(&r), chunk = rag_read_u32le(&r);
    if (!r.bad && owner == params->kb && rag_bitmap_has(params->chunks, chunk))
      status = left(err, RAG_CF_CACHE, "chunk", chunk);
  }
  if (status == RAG_OK) status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  return status;
}

static rag_status look(rag_store *store, const rag_kb__purge_params *params, rag_error *err) {
  uint32_t kb = params->kb;
  RAG_TRY(look_documents(store, params, err));
  RAG_TRY(look_set(store, RAG_CF_REVISION, kb, 0, params->revisions, "revision", err));
  RAG_TRY(look_set(store, RAG_CF_CONTENT, kb, 0, params->contents, "content", err));
  RAG_TRY(look_set(store, RAG_CF_CHUNK, kb, 0, params->chunks, "chunk", err));
  RAG_TRY(look_set(store, RAG_CF_VECTOR, kb, params->space, params->chunks, "chunk", err));
  RAG_TRY(look_cache(store, params, err));
  return look_history(store, params, err);
}

// ---------------------------------------------------------------------------------------------- the receipt

static void append_json_string(rag_buf *out, rag_slice s) {
  rag_buf_append_char(out, '"');
  for (size_t i = 0; i < s.size; i++) {
    unsigned char c = (unsigned char)s.data[i];
    if (c == '"' || c == '\\') rag_buf_append_char(out, '\\');
    if (c < 0x20) rag_buf_printf(out, "\\u%04x", c);
    else rag_buf_append_char(out, (char)c);
  }
  rag_buf_append_char(out, '"');
}

static rag_status write_receipt(rag_job *job, const rag_kb__purge_params *params, rag_error *err) {
  rag_buf json = {0}, documents = {0};
  char purged[RAG_TIME_TEXT_MAX], erased[RAG_TIME_TEXT_MAX];
  uint32_t requested = 0, found = 0;
  rag_reader r = rag_reader_of(rag_buf_slice(&params->ids));
  rag_time_format(params->purged_us, purged);
  rag_time_format(rag_clock_now_us(), erased);
  while (rag_reader_left(&r) > 0) {
    uint64_t revisions = rag_read_varint(&r);
    rag_buf_append_str(&documents, requested > 0 ? ",{\"id\":" : "{\"id\":");
    append_json_string(&documents, rag_read_bytes(&r));
    rag_buf_printf(&documents, ",\"found\":%s,\"revisions\":%" PRIu64 "}", revisions > 0 ? "true" : "false", revisions);
    requested++;
    found += revisions > 0;
  }
  rag_buf_append_str(&json, "{\"kb\":");
  append_json_string(&json, rag_slice_str(rag_job_subject(job)));
  rag_buf_printf(&json,
                 ",\"purged_at\":\"%s\",\"erased_at\":\"%s\",\"requested\":%u,\"found\":%u,\"unknown\":%u,"
                 "\"revisions_erased\":%" PRIu64 ",\"contents_erased\":%" PRIu64 ",\"chunks_erased\":%" PRIu64
                 ",\"commits_rewritten\":%" PRIu64 ",\"verified\":true,\"statement\":",
                 purged, erased, requested, found, requested - found, rag_bitmap_count(params->revisions),
                 rag_bitmap_count(params->contents), rag_bitmap_count(params->chunks), params->commits);
  append_json_string(
      &json, rag_slice_str(
                 "Every revision of these documents, with its text, title, metadata, source, chunks, vectors and "
                 "embedding-cache entries, was removed from every version, from the indexes and from memory; the files "
                 "that held them and the write-ahead log were rewritten without them. Then each row was looked up and "
                 "was absent, and no commit names them. Not touched: commit messages, backups and exports made before, "
                 "and documents put under these ids since. The ids stay in this receipt until the job's record goes."));
  rag_buf_append_str(&json, ",\"documents\":[");
  if (documents.failed) json.failed = true;
  rag_buf_append(&json, documents.data, documents.size);
  rag_buf_append(&json, "]}", 3); // with the NUL
  rag_status status = rag_buf_check(&json, err);
  if (status == RAG_OK) status = rag_job_set_result(job, json.data, err);
  rag_buf_free(&json);
  rag_buf_free(&documents);
  return status;
}

// ---------------------------------------------------------------------------------------------- the job

rag_status rag_kb__purge_run(void *ctx, rag_job *job, rag_error *err) {
  rag_kbs *kbs = ctx;
  rag_kb__purge_params params = {0};
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb__purge_params_decode(rag_job_params(job), &params, err));
  rag_kb *kb = rag_kbs__find(kbs, params.kb); // NULL: deleted since; its files are erased all the same
  rag_reader cursor = rag_reader_of(rag_job_cursor(job));
  uint8_t step = rag_reader_left(&cursor) > 0 ? rag_read_u8(&cursor) : 0;
  const uint8_t steps = RAG_COUNT_OF(families) + 1;
  if (kb != NULL) RAG_TRY_OUT(rag_kb__forget_rows(kb, params.chunks, params.revisions, err));
  if (kb != NULL) RAG_TRY_OUT(rag_kb__segments_erase(kb, params.chunks, err));
  for (; step < RAG_COUNT_OF(families); step++) {
    RAG_TRY_OUT(erase(kbs->store, &params, families[step], err));
    uint8_t next = (uint8_t)(step + 1);
    RAG_TRY_OUT(rag_job_checkpoint(job, rag_slice_of(&next, 1), next, steps, "steps",
                                   err)); // one a column family, one to verify
  }
  RAG_TRY_OUT(look(kbs->store, &params, err));
  RAG_TRY_OUT(rag_job_checkpoint(job, rag_slice_of(&steps, 1), steps, steps, "steps", err));
  status = write_receipt(job, &params, err);
out:
  rag_kb__purge_params_free(&params);
  rag_ref_drop(kb);
  return status;
}
