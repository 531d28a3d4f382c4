// A job's record: codec, copies.
//
// Format of a row in RAG_CF_JOB. Key: u8 1, u64be id. Value: "RJOB", u8 version (1), u8 state, u8 want, u8 zero, then
// varints done, total; u64le created, started, updated, finished; length-prefixed kind, subject, unit, params, cursor,
// result, error; then u32le CRC32C of all of it. State and want are pinned numbers.
//
// The CRC is there although RocksDB has its own: it covers the row from encode to decode, and makes a record of another
// shape an error and not a strange job.
#include "store/store_internal.h"

#define RECORD_VERSION 1u
#define KEY_TAG 1u
#define CRC_BYTES 4u
static const char RECORD_MAGIC[4] = {'R', 'J', 'O', 'B'};

const char *rag_job_state_name(rag_job_state state) {
  static const char *const NAMES[] = {"queued", "running", "paused", "succeeded", "failed", "cancelled"};
  return (unsigned)state < RAG_COUNT_OF(NAMES) ? NAMES[state] : "unknown";
}

void rag_job__key(rag_key *key, uint64_t id) {
  rag_key_init(key);
  rag_key_u8(key, KEY_TAG);
  rag_key_u64(key, id);
}

bool rag_job__key_id(rag_slice key, uint64_t *out_id) {
  rag_reader reader = rag_reader_of(key);
  bool tag = rag_read_u8(&reader) == KEY_TAG;
  uint64_t id = rag_read_u64be(&reader);
  if (!tag || reader.bad || rag_reader_left(&reader) != 0) return false;
  *out_id = id;
  return true;
}

void rag_job__encode(const rag_job__record *record, rag_buf *out) {
  const rag_slice texts[] = {record->kind,   record->subject, record->unit, record->params,
                             record->cursor, record->result,  record->error};
  size_t start = out->size;
  rag_buf_append(out, RECORD_MAGIC, sizeof RECORD_MAGIC);
  rag_buf_append_u8(out, RECORD_VERSION);
  rag_buf_append_u8(out, (uint8_t)record->state);
  rag_buf_append_u8(out, (uint8_t)record->want);
  rag_buf_append_u8(out, 0);
  rag_buf_append_varint(out, record->done);
  rag_buf_append_varint(out, record->total);
  rag_buf_append_u64le(out, (uint64_t)record->created_us);
  rag_buf_append_u64le(out, (uint64_t)record->started_us);
  rag_buf_append_u64le(out, (uint64_t)record->updated_us);
  rag_buf_append_u64le(out, (uint64_t)record->finished_us);
  for (size_t i = 0; i < RAG_COUNT_OF(texts); i++) rag_buf_append_bytes(out, texts[i]);
  if (!out->failed) rag_buf_append_u32le(out, rag_crc32c(0, out->data + start, out->size - start));
}

rag_status rag_job__decode(uint64_t id, rag_slice value, rag_job__record *out, rag_error *err) {
  if (value.size < CRC_BYTES)
    return rag_fail(err, RAG_DATA_LOSS, "the record of job %llu is cut short", (unsigned long long)id);
  rag_slice body = {value.data, value.size - CRC_BYTES};
  rag_reader tail = rag_reader_of((rag_slice){value.data + body.size, CRC_BYTES});
  rag_reader reader = rag_reader_of(body);
  rag_job__record record = {.id = id};
  rag_slice *texts[] = {&record.kind,   &record.subject, &record.unit, &record.params,
                        &record.cursor, &record.result,  &record.error};

  if (rag_read_u32le(&tail) != rag_crc32c(0, body.data, body.size))
    return rag_fail(err, RAG_DATA_LOSS, "the record of job %llu is damaged", (unsigned long long)id);
  bool magic =
      rag_slice_equal(rag_read_raw(&reader, sizeof RECORD_MAGIC), rag_slice_of(RECORD_MAGIC, sizeof RECORD_MAGIC));
  unsigned version = rag_read_u8(&reader);
  unsigned state = rag_read_u8(&reader);
  unsigned want = rag_read_u8(&reader);
  rag_read_u8(&reader);
  record.done = rag_read_varint(&reader);
  record.total = rag_read_varint(&reader);
  record.created_us = (int64_t)rag_read_u64le(&reader);
  record.started_us = (int64_t)rag_read_u64le(&reader);
  record.updated_us = (int64_t)rag_read_u64le(&reader);
  record.finished_us = (int64_t)rag_read_u64le(&reader);
  for (size_t i = 0; i < RAG_COUNT_OF(texts); i++) *texts[i] = rag_read_bytes(&reader);
  if (!magic || version != RECORD_VERSION || state > RAG_JOB_CANCELLED || want > RAG_JOB__WANT_CANCEL || reader.bad ||
      rag_reader_left(&reader) != 0)
    return rag_fail(err, RAG_DATA_LOSS, "the record of job %llu is not one (version %u)", (unsigned long long)id,
                    version);
  record.state = (rag_job_state)state;
  record.want = (rag_job__want)want;
  *out = record;
  return RAG_OK;
}

rag_status rag_job__info(const rag_job__record *record, rag_job_info *out, rag_error *err) {
  rag_job_info info = {
      .id = record->id,
      .kind = rag_strndup(record->kind.data, record->kind.size),
      .subject = rag_strndup(record->subject.data, record->subject.size),
      .state = record->state,
      .done = record->done,
      .total = record->total,
      .unit = rag_strndup(record->unit.data, record->unit.size),
      .created_us = record->created_us,
      .started_us = record->started_us,
      .updated_us = record->updated_us,
      .finished_us = record->finished_us,
      .eta_seconds = -1,
      .params = rag_strndup(record->params.data, record->params.size),
      .cursor = rag_strndup(record->cursor.data, record->cursor.size),
      .params_size = record->params.size,
      .cursor_size = record->cursor.size,
      .result = rag_strndup(record->result.data, record->result.size),
      .error = rag_strndup(record->error.data, record->error.size),
  };
  if (info.kind == NULL || info.subject == NULL || info.unit == NULL || info.params == NULL || info.cursor == NULL ||
      info.result == NULL || info.error == NULL) {
    rag_job_info_free(&info);
    return rag_fail_no_memory(err, record->params.size + record->cursor.size + record->result.size);
  }
  *out = info;
  return RAG_OK;
}

void rag_job_info_free(rag_job_info *info) {
  if (info == NULL) return;
  rag_free(info->kind);
  rag_free(info->subject);
  rag_free(info->unit);
  rag_free(info->params);
  rag_free(info->cursor);
  rag_free(info->result);
  rag_free(info->error);
  *info = (rag_job_info){0};
}
