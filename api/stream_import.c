// Streams: documents:import, export, kbs:import. Bodies and answers of any length, in bounded memory.
//
// documents:import takes newline-delimited JSON documents (as in PutDocuments) and makes one commit of each `batch` of
// them. Each commit is answered with a line
//   {"commit":"c7","committed":true,"added":..,"changed":..,"unchanged":..,"chunks_added":..,"chunks_embedded":..,
//    "chunks_reused":..,"batch":1,"documents":1000,"lines":1000}           documents and lines: so far
// and the end with {"done":true,"commit":"c9",...totals...}. A mistake ends the import: the batches before it stay, the
// last line is {"error":{"code","message","details":{"line":..,"field":..}},"documents":<committed so far>}, and
// sending the same stream again is safe: what is there already is unchanged. When nothing has been written yet, the
// answer is a plain error with its own HTTP status.
//
// With an Idempotency-Key, batch n carries the key "<key>/<n>": a repeated import replays its batches.
//
// Memory: one batch (at most IMPORT_BATCH_BYTES_MAX of lines, which become at most RAG_API_MESSAGE_EXPANSION_MAX times
// that, usually twice), one line, one block.
#include "api/dispatch_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define IMPORT_BLOCK_BYTES (64u << 10)
#define IMPORT_LINE_BYTES_MAX (64u << 20) // a document's 32 MiB of text, escaped
#define IMPORT_BATCH_DEFAULT 1000u
#define IMPORT_BATCH_MAX 10000u
#define IMPORT_BATCH_BYTES_MAX ((size_t)16 << 20) // a batch ends early here
#define TYPE_NDJSON "application/x-ndjson"
#define TYPE_EXPORT "application/octet-stream"

// ---------------------------------------------------------------------------------------------- parameters

static const rag_api__stream_param import_params[] = {
    {"branch", "string", "the branch to commit to; main without it"},
    {"message", "string", "of each commit"},
    {"author", "string", "of each commit"},
    {"batch", "integer", "documents of one commit, 1 to 10000; 1000 without it"},
};
static const rag_api__stream_param kbs_import_params[] = {
    {"name", "string", "the new knowledge base's name; the exported one's without it"},
};

const rag_api__stream_param *rag_api__stream_params(rag_stream_fn stream, size_t *out_count) {
  *out_count = 0;
  if (stream == rag_api__stream_import) {
    *out_count = RAG_COUNT_OF(import_params);
    return import_params;
  }
  if (stream == rag_api__stream_kbs_import) {
    *out_count = RAG_COUNT_OF(kbs_import_params);
    return kbs_import_params;
  }
  return NULL;
}

// values[i] gets the text of params[i], or stays empty.
static rag_status read_params(const rag_api__stream *stream, const rag_api__stream_param *params, size_t count,
                              rag_slice *values, rag_error *err) {
  const char *names[8];
  rag_slice rest = stream->query;
  rag_api__param param;
  RAG_ASSERT(count <= RAG_COUNT_OF(names));
  for (size_t i = 0; i < count; i++) names[i] = params[i].name;
  while (rag_api__query_next(&rest, &param)) {
    rag_slice name, value;
    RAG_TRY(rag_api__percent_decode(param.name, true, rag_slice_str("query"), stream->call->arena, &name, err));
    RAG_TRY(rag_api__percent_decode(param.raw, true, name, stream->call->arena, &value, err));
    size_t at = 0;
    while (at < count && !rag_slice_equal(name, rag_slice_str(names[at]))) at++;
    if (at == count) {
      const char *nearest = rag_api__nearest(name, names, count);
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "query", "unknown query parameter '%.64s'%s%s%s", name.data,
                            nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    }
    if (values[at].size)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, names[at], "%s: given twice; give it once", names[at]);
    values[at] = value;
  }
  return RAG_OK;
}

static rag_status check_type(const rag_api__stream *stream, const char *const *types, size_t count, rag_error *err) {
  const char *type = stream->content_type ? stream->content_type : "";
  size_t size = strcspn(type, "; \t");
  for (size_t i = 0; i < count; i++)
    if (size == strlen(types[i]) && strncasecmp(type, types[i], size) == 0) return RAG_OK;
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "Content-Type", "Content-Type '%.64s' is not taken here; send %s",
                        type, types[0]);
}

// ---------------------------------------------------------------------------------------------- lines

typedef struct lines {
  rag_api__stream *stream;
  rag_buf buf; // read, not yet handed out from `start` on
  size_t start;
  size_t scanned; // no newline between start and here
  bool ended;
  uint64_t number; // of the line handed out last, from 1
} lines;

static rag_status lines_fill(lines *l, rag_error *err) {
  size_t got = 0;
  if (l->start == l->buf.size) {
    rag_buf_clear(&l->buf);
    l->start = l->scanned = 0;
  } else if (l->start > IMPORT_BLOCK_BYTES && l->start > l->buf.size / 2) { // amortised: at most one move a byte
    memmove(l->buf.data, l->buf.data + l->start, l->buf.size - l->start);
    l->buf.size -= l->start;
    l->scanned -= l->start;
    l->start = 0;
  }
  rag_buf_reserve(&l->buf, IMPORT_BLOCK_BYTES);
  RAG_TRY(rag_buf_check(&l->buf, err));
  RAG_TRY(l->stream->read(l->stream->read_ctx, l->buf.data + l->buf.size, IMPORT_BLOCK_BYTES, &got, err));
  l->buf.size += got;
  l->ended = got == 0;
  return RAG_OK;
}

// *out: the next line that is not blank, borrowed until the next call; data NULL at the end.
static rag_status lines_next(lines *l, rag_slice *out, rag_error *err) {
  for (;;) {
    const char *end =
        l->buf.size > l->scanned ? memchr(l->buf.data + l->scanned, '\n', l->buf.size - l->scanned) : NULL;
    if (!end && !l->ended) {
      l->scanned = l->buf.size;
      if (l->buf.size - l->start > IMPORT_LINE_BYTES_MAX)
        return rag_fail(err, RAG_INVALID_ARGUMENT, "line %llu is longer than %u bytes; one document takes one line",
                        (unsigned long long)l->number + 1, IMPORT_LINE_BYTES_MAX);
      RAG_TRY(lines_fill(l, err));
      continue;
    }
    if (l->start == l->buf.size) {
      *out = (rag_slice){0};
      return RAG_OK;
    }
    rag_slice line = {l->buf.data + l->start, (end ? (size_t)(end - l->buf.data) : l->buf.size) - l->start};
    l->start = l->scanned = l->start + line.size + (end ? 1 : 0);
    l->number++;
    while (line.size && strchr(" \t\r", line.data[line.size - 1])) line.size--;
    if (line.size == 0) continue;
    *out = line;
    return RAG_OK;
  }
}

// ---------------------------------------------------------------------------------------------- documents:import

typedef struct import {
  rag_api__stream *stream;
  rag_kb *kb;
  rag_slice branch, message, author;
  uint32_t batch_max;
  rag_arena *arena; // of the batch
  rag_call call;    // the stream's, over that arena
  rag_json_parser *parser;
  rag_document_input *documents; // batch_max
  uint64_t *line_numbers;
  uint32_t count;
  size_t bytes; // of the batch's lines
  uint64_t batches;
  uint64_t documents_committed;
  rag_write_result total;
  lines lines;
} import;

static rag_status import_params_of(import *im, rag_error *err) {
  rag_slice values[RAG_COUNT_OF(import_params)] = {0};
  RAG_TRY(read_params(im->stream, import_params, RAG_COUNT_OF(import_params), values, err));
  im->branch = values[0];
  im->message = values[1];
  im->author = values[2];
  im->batch_max = IMPORT_BATCH_DEFAULT;
  if (values[3].size == 0) return RAG_OK;
  char *end = NULL;
  unsigned long batch = strtoul(values[3].data, &end, 10);
  if (*end || values[3].data[0] < '0' || values[3].data[0] > '9' || batch == 0 || batch > IMPORT_BATCH_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "batch", "batch: '%.32s' is outside 1 to %u; without it, it is %u",
                          values[3].data, IMPORT_BATCH_MAX, IMPORT_BATCH_DEFAULT);
  im->batch_max = (uint32_t)batch;
  return RAG_OK;
}

static void put_result(rag_buf *out, const rag_write_result *result) {
  rag_buf_printf(out,
                 "\"commit\":\"c%llu\",\"committed\":%s,\"added\":%llu,\"changed\":%llu,\"unchanged\":%llu,"
                 "\"chunks_added\":%llu,\"chunks_embedded\":%llu,\"chunks_reused\":%llu",
                 (unsigned long long)result->commit, result->committed ? "true" : "false",
                 (unsigned long long)result->added, (unsigned long long)result->changed,
                 (unsigned long long)result->unchanged, (unsigned long long)result->chunks_added,
                 (unsigned long long)result->chunks_embedded, (unsigned long long)result->chunks_reused);
}

static rag_status write_line(import *im, rag_buf *line, rag_error *err) {
  rag_buf_append_char(line, '\n');
  RAG_TRY(rag_buf_check(line, err));
  return rag_api__stream_write(im->stream, TYPE_NDJSON, rag_buf_slice(line), err);
}

static rag_status write_progress(import *im, const rag_write_result *result, bool done, rag_error *err) {
  rag_buf line = {0};
  rag_buf_append_str(&line, done ? "{\"done\":true," : "{");
  put_result(&line, result);
  rag_buf_printf(&line, ",\"%s\":%llu,\"documents\":%llu,\"lines\":%llu}", done ? "batches" : "batch",
                 (unsigned long long)im->batches, (unsigned long long)im->documents_committed,
                 (unsigned long long)im->lines.number);
  rag_status status = write_line(im, &line, err);
  rag_buf_free(&line);
  return status;
}

static void add_result(rag_write_result *total, const rag_write_result *result) {
  total->commit = result->commit;
  total->committed |= result->committed;
  total->added += result->added;
  total->changed += result->changed;
  total->unchanged += result->unchanged;
  total->chunks_added += result->chunks_added;
  total->chunks_embedded += result->chunks_embedded;
  total->chunks_reused += result->chunks_reused;
}

static void line_details(import *im, uint64_t line) {
  rag_buf_printf(im->stream->call->details, "{\"line\":%llu}", (unsigned long long)line);
}

// The kb names documents by their place in the batch; people look for lines.
static void name_line(import *im, rag_error *err) {
  unsigned long at;
  if (sscanf(err->field, "documents[%lu]", &at) != 1 || at >= im->count) {
    (void)rag_error_prefix(err, "lines %llu to %llu", (unsigned long long)im->line_numbers[0],
                           (unsigned long long)im->line_numbers[im->count - 1]);
    return;
  }
  line_details(im, im->line_numbers[at]);
  (void)rag_error_prefix(err, "line %llu", (unsigned long long)im->line_numbers[at]);
}

static rag_status flush(import *im, rag_error *err) {
  rag_write_result result = {0};
  const rag_call *call = im->stream->call;
  rag_put what = {.documents = im->documents, .document_count = im->count};
  rag_write write = {.branch = im->branch, .message = im->message, .author = im->author};
  char key[RAG_IDEMPOTENCY_KEY_BYTES_MAX + 32];
  if (im->count == 0) return RAG_OK;
  if (call->idempotency_key.size) {
    int size = snprintf(key, sizeof(key), "%.*s/%llu", (int)call->idempotency_key.size, call->idempotency_key.data,
                        (unsigned long long)im->batches + 1);
    write.idempotency_key = rag_slice_of(key, (size_t)size);
    rag_digest_state state; // of the batch's documents: the stream's body is not kept
    rag_digest_init(&state);
    rag_digest_update(&state, &call->request_digest, sizeof(call->request_digest));
    for (uint32_t i = 0; i < im->count; i++) {
      rag_digest_update_bytes(&state, im->documents[i].id);
      rag_digest_update_bytes(&state, im->documents[i].text);
      rag_digest_update_bytes(&state, im->documents[i].metadata);
    }
    write.request_digest = rag_digest_final(&state);
  }
  rag_status status = rag_kb_put(im->kb, &write, &what, &result, NULL, err);
  if (status != RAG_OK) {
    name_line(im, err);
    return status;
  }
  im->batches++;
  im->documents_committed += im->count;
  add_result(&im->total, &result);
  im->count = 0;
  im->bytes = 0;
  rag_arena_reset(im->arena);
  return write_progress(im, &result, false, err);
}

static rag_status take_line(import *im, rag_slice line, rag_error *err) {
  rag_json value;
  ProtobufCMessage *message = NULL;
  rag_status status = rag_json_parse(im->parser, line, &value, err);
  if (status == RAG_OK)
    status = rag_api__json_decode(&ragd__v1__document_input__descriptor, value, im->arena, &message, err);
  if (status == RAG_OK)
    status = rag_api__document_input(&im->call, (const void *)message, &im->documents[im->count], err);
  if (status != RAG_OK) {
    line_details(im, im->lines.number);
    (void)rag_error_prefix(err, "line %llu", (unsigned long long)im->lines.number);
    return status;
  }
  im->line_numbers[im->count++] = im->lines.number;
  im->bytes += line.size;
  if (im->count < im->batch_max && im->bytes < IMPORT_BATCH_BYTES_MAX) return RAG_OK;
  return flush(im, err);
}

static rag_status import_open(import *im, rag_error *err) {
  static const char *const types[] = {TYPE_NDJSON, "application/ndjson", "application/jsonl"};
  rag_call *call = im->stream->call;
  RAG_TRY(check_type(im->stream, types, RAG_COUNT_OF(types), err));
  RAG_TRY(import_params_of(im, err));
  if (call->idempotency_key.size > RAG_IDEMPOTENCY_KEY_BYTES_MAX - 21)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "Idempotency-Key",
                          "Idempotency-Key: at most %u bytes here, as the batch's number is appended",
                          RAG_IDEMPOTENCY_KEY_BYTES_MAX - 21);
  RAG_TRY(rag_kbs_get(call->api->kbs, im->stream->kb, &im->kb, err));
  RAG_TRY(rag_api__new_array(call, im->batch_max, sizeof(*im->documents), &im->documents, err));
  RAG_TRY(rag_api__new_array(call, im->batch_max, sizeof(*im->line_numbers), &im->line_numbers, err));
  im->parser = rag_json_parser_acquire();
  im->arena = rag_arena_create(0); // bounded by the batch's bytes times the codec's bound
  if (!im->parser || !im->arena) return rag_fail_no_memory(err, sizeof(*im));
  im->call = (rag_call){.api = call->api, .arena = im->arena, .details = call->details};
  im->lines.stream = im->stream;
  return RAG_OK;
}

// The stream's last line, when its head is out already.
static void write_error(import *im, const rag_error *error) {
  rag_api_response answer = {0};
  rag_buf line = {0};
  rag_api__error_answer(error, rag_buf_slice(im->stream->call->details), false, im->stream->call->arena, &answer);
  rag_buf_append_str(&line, "{\"error\":");
  rag_buf_append(&line, answer.body.data, answer.body.size);
  rag_buf_printf(&line, ",\"documents\":%llu}", (unsigned long long)im->documents_committed);
  (void)write_line(im, &line, NULL); // the client may have left: nobody else is to be told
  rag_buf_free(&line);
}

rag_status rag_api__stream_import(rag_api__stream *stream, rag_error *err) {
import im = {.stream = stream };
  rag_status status = RAG_OK;
  RAG_TRY_OUT(import_open(&im, err));
  for (;;) {
    rag_slice line;
    RAG_TRY_OUT(lines_next(&im.lines, &line, err));
    if (!line.data) break;
    RAG_TRY_OUT(take_line(&im, line, err));
  }
  RAG_TRY_OUT(flush(&im, err));
  RAG_TRY_OUT(write_progress(&im, &im.total, true, err));
out:
  if (status != RAG_OK && stream->begun) {
    err->status = status;
    write_error(&im, err);
  }
  rag_buf_free(&im.lines.buf);
  rag_arena_destroy(im.arena);
  if (im.parser) rag_json_parser_release(im.parser);
  if (im.total.committed) stream->call->commit = rag_slice_str(rag_api__commit_text(stream->call, im.total.commit));
  rag_ref_drop(im.kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- export, kbs:import

static rag_status export_write(void *ctx, const void *data, size_t size, rag_error *err) {
  return rag_api__stream_write(ctx, TYPE_EXPORT, rag_slice_of(data, size), err);
}

// After a failure the stream ends early. Its format has an end mark, so no importer takes the part for the whole.
rag_status rag_api__stream_export(rag_api__stream *stream, rag_error *err) {
  rag_kb *kb = NULL;
  RAG_TRY(read_params(stream, NULL, 0, NULL, err));
  RAG_TRY(rag_kbs_get(stream->call->api->kbs, stream->kb, &kb, err));
  rag_status status = rag_kb_export(kb, export_write, stream, err);
  rag_ref_drop(kb);
  return status;
}

rag_status rag_api__stream_kbs_import(rag_api__stream *stream, rag_error *err) {
  static const char *const types[] = {TYPE_EXPORT};
  rag_call *call = stream->call;
  rag_slice name = {0};
  rag_kb *kb = NULL;
  Ragd__V1__Kb *message = NULL;
  rag_buf text = {0};
  rag_status status = RAG_OK;
  RAG_TRY(check_type(stream, types, RAG_COUNT_OF(types), err));
  RAG_TRY(read_params(stream, kbs_import_params, RAG_COUNT_OF(kbs_import_params), &name, err));
  call->kb = name;
  status = rag_kbs_import(call->api->kbs, name, stream->read, stream->read_ctx, &kb, err);
  // What is damaged is the caller's stream and not our store: no server error, and nothing for an operator's log.
  if (status == RAG_DATA_LOSS) status = err->status = RAG_INVALID_ARGUMENT;
  if (status != RAG_OK) goto out;
  RAG_TRY_OUT(rag_api__kb_message(call, kb, &message, err));
  RAG_TRY_OUT(rag_api__json_encode(&message->base, &text, err));
  RAG_TRY_OUT(rag_api__stream_write(stream, "application/json", rag_buf_slice(&text), err));
out:
  rag_buf_free(&text);
  rag_ref_drop(kb);
  return status;
}
