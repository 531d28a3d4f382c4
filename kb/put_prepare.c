// The part of a put that needs no order: validation, identity, chunking, the embedding cache, embedding. Runs in the
// caller's thread, in parallel with other calls; what it looked up in the store is checked again in apply (put.c).
//
// Identity
//   content: title, text and how it was cut, or the caller's chunks and vectors. Equal content is stored once and keeps
//            its chunk numbers, so that text that comes back is not indexed again.
//   state:   content, metadata, source URI, effective time. Equal state is the same revision: an unchanged document.
//   The source's modification time is in neither: a touched but equal file is unchanged.
#include "kb/chunk_internal.h"
#include "kb/filters/survivors.h"
#include "kb/put_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define EMBED_BATCH 256u
// Bytes of a document's text that are searched for its own chunks. 65,536 chunks that are not in a text of 16 MiB would
// take 1 TB; chunks in the order of the text take its size once. Past it, a chunk keeps a text of its own.
#define CHUNK_SCAN_BYTES_MAX ((size_t)256 << 20)

// ---------------------------------------------------------------------------------------------- validation

static rag_status check_utf8(rag_slice s, size_t index, const char *what, rag_error *err) {
  size_t bad = rag_utf8_bad_offset(s.data, s.size);
  if (bad == s.size) return RAG_OK;
  char field[RAG_ERROR_FIELD_MAX];
  snprintf(field, sizeof field, "documents[%zu].%s", index, what);
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s is not valid UTF-8 at byte %zu; re-encode the text",
                        field, bad);
}

static rag_status check_size(size_t size, size_t max, size_t index, const char *what, rag_error *err) {
  if (size <= max) return RAG_OK;
  char field[RAG_ERROR_FIELD_MAX];
  snprintf(field, sizeof field, "documents[%zu].%s", index, what);
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s has %zu bytes; at most %zu are allowed", field, size,
                        max);
}

// Metadata is asked about by filters, so what cannot be asked is refused here and not found out by a search.
rag_status rag_kb__metadata_check(rag_slice metadata, const char *field, rag_error *err) {
  rag_json root;
  rag_error why = {0};
  if (metadata.size == 0) return RAG_OK;
  rag_json_parser *parser = rag_json_parser_acquire();
  if (parser == NULL) return rag_fail_no_memory(err, 0);
  rag_status status = rag_json_parse(parser, metadata, &root, &why);
  bool object = status == RAG_OK && rag_json_type_of(root) == RAG_JSON_OBJECT;
  rag_json_parser_release(parser);
  if (object) return RAG_OK;
  if (status == RAG_RESOURCE_EXHAUSTED) return rag_fail(err, status, "%s", why.message);
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s must be a JSON object%s%s", field,
                        status != RAG_OK ? ": " : "", why.message);
}

static rag_status check_vector(const rag_kb *kb, const float *vector, uint32_t dimension, const char *field,
                               rag_error *err) {
  if (kb->embedder != NULL)
    return rag_fail_field(
        err, RAG_INVALID_ARGUMENT, field,
        "%s: knowledge base '%s' embeds texts with %s; leave the vector out, or create a knowledge base "
        "with \"dimension\" for vectors of your own",
        field, kb->name, rag_embedder_name(kb->embedder));
  if (dimension != kb->dimension)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field,
                          "%s has %u components; knowledge base '%s' has dimension %u", field, dimension, kb->name,
                          kb->dimension);
  return rag_vector_check(vector, dimension, kb->metric, field, err);
}

// As the chunker sees it: a text of any white space alone gives no chunk, and nothing could ever find it.
static bool blank(rag_slice s) { // valid UTF-8
  for (size_t at = 0, size; at < s.size; at += size)
    if (!rag_chunk__is_space(rag_utf8_decode(s.data + at, s.size - at, &size))) return false;
  return true;
}

static rag_status check_chunks(const rag_kb *kb, const rag_document_input *in, size_t index, rag_error *err) {
  char field[RAG_ERROR_FIELD_MAX];
  if (in->chunk_count > RAG_DOCUMENT_CHUNKS_MAX) {
    snprintf(field, sizeof field, "documents[%zu].chunks", index);
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "a document has at most %u chunks; this one has %u",
                          RAG_DOCUMENT_CHUNKS_MAX, in->chunk_count);
  }
  for (uint32_t i = 0; i < in->chunk_count; i++) {
    const rag_chunk_input *chunk = &in->chunks[i];
    snprintf(field, sizeof field, "documents[%zu].chunks[%u].vector", index, i);
    if (chunk->vector != NULL) RAG_TRY(check_vector(kb, chunk->vector, chunk->vector_dimension, field, err));
    char what[40];
    snprintf(what, sizeof what, "chunks[%u].text", i);
    RAG_TRY(check_utf8(chunk->text, index, what, err));
    snprintf(what, sizeof what, "chunks[%u].metadata", i);
    RAG_TRY(check_size(chunk->metadata.size, RAG_DOCUMENT_METADATA_BYTES_MAX, index, what, err));
    RAG_TRY(check_utf8(chunk->metadata, index, what, err));
    snprintf(field, sizeof field, "documents[%zu].chunks[%u].metadata", index, i);
    RAG_TRY(rag_kb__metadata_check(chunk->metadata, field, err));
    snprintf(field, sizeof field, "documents[%zu].chunks[%u]", index, i);
    if (chunk->vector == NULL && blank(chunk->text))
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s has neither text nor vector; give one of them",
                            field);
  }
  return RAG_OK;
}

static rag_status check_language(const rag_kb *kb, const rag_document_input *in, size_t index, rag_error *err) {
  char field[RAG_ERROR_FIELD_MAX];
  rag_kb__analyzer *analyzer = NULL;
  if (in->language.size == 0) return RAG_OK;
  rag_status status = rag_kbs__analyzer_take(kb->kbs, in->language, &analyzer, err);
  rag_kbs__analyzer_give(kb->kbs, analyzer);
  if (status != RAG_INVALID_ARGUMENT || err == NULL) return status;
  snprintf(field, sizeof field, "documents[%zu].language", index);
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: %s", field, err->message);
}

static rag_status check_document(const rag_kb *kb, const rag_document_input *in, size_t index, rag_error *err) {
  char field[RAG_ERROR_FIELD_MAX];
  snprintf(field, sizeof field, "documents[%zu].id", index);
  if (in->id.size == 0)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s is empty; every document needs an id", field);
  RAG_TRY(check_size(in->id.size, RAG_DOCUMENT_ID_BYTES_MAX, index, "id", err));
  RAG_TRY(check_size(in->text.size, RAG_DOCUMENT_TEXT_BYTES_MAX, index, "text", err));
  RAG_TRY(check_size(in->title.size, RAG_DOCUMENT_TITLE_BYTES_MAX, index, "title", err));
  RAG_TRY(check_size(in->metadata.size, RAG_DOCUMENT_METADATA_BYTES_MAX, index, "metadata", err));
  RAG_TRY(check_size(in->source_uri.size, RAG_DOCUMENT_URI_BYTES_MAX, index, "source_uri", err));
  RAG_TRY(check_utf8(in->id, index, "id", err));
  if (memchr(in->id.data, '\0', in->id.size) != NULL)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s contains a NUL character", field);
  RAG_TRY(check_utf8(in->text, index, "text", err));
  RAG_TRY(check_utf8(in->title, index, "title", err));
  RAG_TRY(check_utf8(in->metadata, index, "metadata", err));
  RAG_TRY(check_utf8(in->source_uri, index, "source_uri", err));
  RAG_TRY(check_language(kb, in, index, err));
  snprintf(field, sizeof field, "documents[%zu].metadata", index);
  RAG_TRY(rag_kb__metadata_check(in->metadata, field, err));
  snprintf(field, sizeof field, "documents[%zu].vector", index);
  if (in->vector != NULL) {
    if (in->chunk_count > 0)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, field,
                            "documents[%zu] has both a vector and chunks; put the vectors into the chunks", index);
    RAG_TRY(check_vector(kb, in->vector, in->vector_dimension, field, err));
  }
  RAG_TRY(check_chunks(kb, in, index, err));
  if (in->vector == NULL && in->chunk_count == 0 && blank(in->text)) {
    snprintf(field, sizeof field, "documents[%zu]", index);
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field,
                          "%s ('%.*s') has nothing in it; give it text, chunks or a vector, or list it in delete_ids",
                          field, (int)RAG_MIN(in->id.size, (size_t)80), in->id.data);
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- ids of the call

static rag_slice id_at(const rag_kb__put_op *op, uint32_t entry) {
  return entry <= op->put->document_count ? op->put->documents[entry - 1].id
                                          : op->put->delete_ids[entry - 1 - op->put->document_count];
}

static rag_status index_ids(rag_kb__put_op *op, rag_error *err) {
  uint32_t total = op->put->document_count + op->put->delete_count;
  uint32_t capacity = 16;
  while (capacity < total * 2) capacity *= 2;
  op->ids = rag_arena_calloc(op->arena, capacity, sizeof *op->ids);
  if (op->ids == NULL) return rag_fail_no_memory(err, capacity * sizeof *op->ids);
  op->ids_capacity = capacity;
  for (uint32_t entry = 1; entry <= total; entry++) {
    rag_slice id = id_at(op, entry);
    uint32_t at = (uint32_t)rag_hash64(id.data, id.size) & (capacity - 1);
    while (op->ids[at] != 0) {
      if (rag_slice_equal(id_at(op, op->ids[at]), id)) {
        bool both = entry > op->put->document_count && op->ids[at] <= op->put->document_count;
        char field[RAG_ERROR_FIELD_MAX];
        if (entry <= op->put->document_count) snprintf(field, sizeof field, "documents[%u].id", entry - 1);
        else snprintf(field, sizeof field, "delete_ids[%u]", entry - 1 - op->put->document_count);
        return rag_fail_field(err, RAG_INVALID_ARGUMENT, field,
                              both ? "id '%.*s' is both put and deleted in this call; keep one of them"
                                   : "id '%.*s' stands twice in this call; keep one of them",
                              (int)RAG_MIN(id.size, (size_t)200), id.data);
      }
      at = (at + 1) & (capacity - 1);
    }
    op->ids[at] = entry;
  }
  return RAG_OK;
}

bool rag_kb__put_names(const rag_kb__put_op *op, rag_slice id) {
  uint32_t at = (uint32_t)rag_hash64(id.data, id.size) & (op->ids_capacity - 1);
  while (op->ids[at] != 0) {
    if (rag_slice_equal(id_at(op, op->ids[at]), id)) return true;
    at = (at + 1) & (op->ids_capacity - 1);
  }
  return false;
}

// ---------------------------------------------------------------------------------------------- identity

static void digest_u64(rag_digest_state *state, uint64_t v) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(v >> (8 * i));
  rag_digest_update(state, bytes, sizeof bytes);
}

static void digest_vector(rag_digest_state *state, const float *vector, uint32_t dimension) {
  rag_digest_update_bytes(state, rag_slice_of(vector, vector ? (size_t)dimension * sizeof *vector : 0));
}

rag_digest rag_kb__state_digest(const rag_digest *content, const rag_document_input *in) {
  rag_digest_state state;
  rag_digest_init(&state);
  rag_digest_update(&state, content->bytes, RAG_DIGEST_BYTES);
  rag_digest_update_bytes(&state, in->metadata);
  rag_digest_update_bytes(&state, in->source_uri);
  digest_u64(&state, (uint64_t)in->effective_us);
  return rag_digest_final(&state);
}

static void identify(const rag_kb__put_op *op, rag_kb__prepared *document) {
  const rag_document_input *in = document->input;
  const rag_chunking *chunking = &op->config->config.chunking;
  rag_digest_state state;
  rag_digest_init(&state);
  rag_digest_update_bytes(&state, in->title);
  rag_digest_update_bytes(&state, in->text);
  digest_vector(&state, in->vector, in->vector_dimension);
  digest_u64(&state, in->chunk_count);
  for (uint32_t i = 0; i < in->chunk_count; i++) {
    rag_digest_update_bytes(&state, in->chunks[i].text);
    rag_digest_update_bytes(&state, in->chunks[i].metadata);
    digest_vector(&state, in->chunks[i].vector, in->chunks[i].vector_dimension);
  }
  if (in->vector == NULL && in->chunk_count == 0) {
    digest_u64(&state, (uint64_t)chunking->method);
    digest_u64(&state, chunking->max_tokens);
    digest_u64(&state, chunking->overlap_tokens);
  }
  if (in->language.size > 0) rag_digest_update_bytes(&state, in->language); // not given: as it was before it could be
  document->content_digest = rag_digest_final(&state);
  document->state_digest = rag_kb__state_digest(&document->content_digest, in);
}

rag_status rag_kb__put_look_up(rag_kb__put_op *op, rag_txn *txn, const rag_bitmap *revisions,
                               rag_kb__prepared *document, rag_error *err) {
  rag_store_iter *it = NULL;
  document->live = document->equal = document->same_content = (rag_kb__document_entry){0};
  RAG_TRY(rag_kb__document_rows(op->op.kb, txn, document->input->id, &it, err));
  rag_status status = RAG_OK;
  for (uint32_t scanned = 0; rag_store_iter_next(it); scanned++) {
    if (scanned >= RAG_KB__REUSE_SCAN_MAX && document->live.revision != 0) break;
    rag_kb__document_entry entry;
    RAG_TRY_OUT(rag_kb__document_row(it, &entry, err));
    bool live = document->live.revision == 0 && rag_bitmap_has(revisions, entry.revision);
    if (live) document->live = entry;
    if (scanned >= RAG_KB__REUSE_SCAN_MAX && !live) continue;
    if (document->equal.revision == 0 && rag_digest_equal(&entry.state_digest, &document->state_digest))
      document->equal = entry;
    if (document->same_content.revision == 0 && rag_digest_equal(&entry.content_digest, &document->content_digest))
      document->same_content = entry;
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  document->looked_up = true;
out:
  rag_store_iter_close(it);
  return status;
}

// ---------------------------------------------------------------------------------------------- cutting

static rag_status cut_text(rag_kb__put_op *op, rag_kb__prepared *document, uint32_t index, rag_error *err) {
  rag_span *spans = NULL;
  uint32_t count = 0;
  rag_status status = rag_chunk_text(&op->config->config.chunking, document->text, &spans, &count, err);
  if (status != RAG_OK) {
    char field[RAG_ERROR_FIELD_MAX];
    snprintf(field, sizeof field, "documents[%u].text", index);
    if (status == RAG_INVALID_ARGUMENT && err != NULL)
      return rag_fail_field(err, status, field, "%s: %s", field, err->message);
    return status;
  }
  document->chunks = rag_arena_calloc(op->arena, (size_t)count + 1, sizeof *document->chunks);
  if (document->chunks != NULL)
    for (uint32_t i = 0; i < count; i++) document->chunks[i] = (rag_kb__prepared_chunk){.span = spans[i]};
  document->chunk_count = count;
  rag_free(spans);
  return document->chunks ? RAG_OK : rag_fail_no_memory(err, count * sizeof *document->chunks);
}

// What a vector is from here on: what is stored, searched and answered with.
static void take_vector(const rag_kb *kb, float *vector) {
  if (kb->datatype == RAG_DATATYPE_BFLOAT16) rag_vector_round_bf16(vector, kb->dimension);
}

static rag_status copy_vector(rag_kb__put_op *op, const float *vector, float **out, rag_error *err) {
  size_t bytes = op->op.kb->dimension * sizeof *vector;
  *out = rag_arena_alloc(op->arena, bytes);
  if (*out == NULL) return rag_fail_no_memory(err, bytes);
  memcpy(*out, vector, bytes);
  if (op->op.kb->metric == RAG_METRIC_COSINE) rag_vector_normalize(*out, op->op.kb->dimension);
  take_vector(op->op.kb, *out);
  return RAG_OK;
}

// The caller's own chunks: a chunk whose text is found in the document's text, in order, is a span of it; another's text
// is kept behind the document's text in the body.
static rag_status take_chunks(rag_kb__put_op *op, rag_kb__prepared *document, rag_error *err) {
  const rag_document_input *in = document->input;
  size_t body_max = in->text.size;
  bool join = in->text.size == 0; // no text: the document's text is its chunks' texts
  size_t scan_left = CHUNK_SCAN_BYTES_MAX;
  for (uint32_t i = 0; i < in->chunk_count; i++) body_max += in->chunks[i].text.size + 2;
  if (body_max > UINT32_MAX / 2)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "the chunks of document '%.*s' are too large together",
                    (int)RAG_MIN(in->id.size, (size_t)80), in->id.data);
  char *body = rag_arena_alloc(op->arena, body_max + 1);
  document->chunks = rag_arena_calloc(op->arena, in->chunk_count, sizeof *document->chunks);
  if (body == NULL || document->chunks == NULL) return rag_fail_no_memory(err, body_max);
  size_t size = in->text.size, from = 0;
  if (size > 0) memcpy(body, in->text.data, size);
  for (uint32_t i = 0; i < in->chunk_count; i++) {
    const rag_chunk_input *chunk = &in->chunks[i];
    rag_kb__prepared_chunk *out = &document->chunks[i];
    out->metadata = chunk->metadata;
    const char *found = NULL;
    if (chunk->text.size > 0 && !join && from < in->text.size && scan_left >= in->text.size - from) {
      found = memmem(in->text.data + from, in->text.size - from, chunk->text.data, chunk->text.size);
      scan_left -= found != NULL ? (size_t)(found - in->text.data) - from : in->text.size - from;
    }
    if (found != NULL) {
      out->span.start = (uint32_t)(found - in->text.data);
      from = out->span.start + 1; // chunks may overlap, but go forward
    } else if (chunk->text.size > 0) {
      if (join && size > 0) {
        memcpy(body + size, "\n\n", 2);
        size += 2;
      }
      out->span.start = (uint32_t)size;
      memcpy(body + size, chunk->text.data, chunk->text.size);
      size += chunk->text.size;
    }
    out->span.end = out->span.start + (uint32_t)chunk->text.size;
    if (chunk->vector != NULL) RAG_TRY(copy_vector(op, chunk->vector, &out->vector, err));
  }
  document->chunk_count = in->chunk_count;
  document->body = rag_slice_of(body, size);
  document->text = rag_slice_of(body, join ? size : in->text.size);
  return RAG_OK;
}

// The embedder's own refusal could not name the document.
static rag_status check_embeddable(const rag_kb__put_op *op, const rag_kb__prepared *document, uint32_t index,
                                   rag_error *err) {
  if (op->op.kb->embedder == NULL) return RAG_OK;
  for (uint32_t i = 0; i < document->chunk_count; i++) {
    size_t size = document->chunks[i].span.end - document->chunks[i].span.start;
    if (size <= RAG_EMBED_TEXT_BYTES_MAX) continue;
    char field[RAG_ERROR_FIELD_MAX];
    if (document->input->chunk_count > 0) snprintf(field, sizeof field, "documents[%u].chunks[%u].text", index, i);
    else snprintf(field, sizeof field, "documents[%u].text", index);
    return rag_fail_field(
        err, RAG_INVALID_ARGUMENT, field,
        "%s gives a chunk of %zu bytes; at most %u can be embedded at once: cut it into smaller chunks", field, size,
        RAG_EMBED_TEXT_BYTES_MAX);
  }
  return RAG_OK;
}

static rag_status cut_document(rag_kb__put_op *op, rag_kb__prepared *document, uint32_t index, rag_error *err) {
  const rag_document_input *in = document->input;
  document->text = document->body = in->text;
  document->cut = true;
  if (in->chunk_count > 0) return take_chunks(op, document, err);
  if (in->vector != NULL) { // the whole document is one chunk
    document->chunks = rag_arena_calloc(op->arena, 1, sizeof *document->chunks);
    if (document->chunks == NULL) return rag_fail_no_memory(err, sizeof *document->chunks);
    document->chunks[0].span.end = (uint32_t)in->text.size;
    document->chunk_count = 1;
    return copy_vector(op, in->vector, &document->chunks[0].vector, err);
  }
  return cut_text(op, document, index, err);
}

// The words of a document's chunks, for the lexical index.
static rag_status take_words(rag_kb__put_op *op, rag_kb__prepared *document, uint32_t index, rag_error *err) {
  const rag_document_input *in = document->input;
  rag_kb__analyzer *analyzer = NULL;
  document->words = rag_arena_calloc(op->arena, (size_t)document->chunk_count + 1, sizeof *document->words);
  if (document->words == NULL) return rag_fail_no_memory(err, document->chunk_count * sizeof *document->words);
  RAG_TRY(rag_kb__analyzer_for(op->op.kb, in->language, rag_slice_str(op->config->config.language), &analyzer, err));
  rag_status status =
      rag_kb__words_of(rag_kb__analyzer_rules(analyzer), in->title, document->body, &document->chunks->span,
                       document->chunk_count, sizeof *document->chunks, 0, op->arena, document->words, err);
  rag_kbs__analyzer_give(op->op.kb->kbs, analyzer);
  if (status == RAG_INVALID_ARGUMENT && err != NULL) {
    char field[RAG_ERROR_FIELD_MAX];
    snprintf(field, sizeof field, "documents[%u].text", index);
    return rag_fail_field(err, status, field, "%s: %s", field, err->message);
  }
  return status;
}

static rag_status cut(rag_kb__put_op *op, rag_kb__prepared *document, uint32_t index, rag_error *err) {
  RAG_TRY(cut_document(op, document, index, err));
  RAG_TRY(check_embeddable(op, document, index, err));
  return take_words(op, document, index, err);
}

// ---------------------------------------------------------------------------------------------- embedding

typedef struct pending_chunk {
  rag_kb__prepared_chunk *chunk;
  rag_slice text;
} pending_chunk;

// Looks a batch up in the cache: text digest -> a chunk that has the vector -> the vector. A row whose vector is gone
// (its kb was deleted) is a miss.
static rag_status from_cache(rag_kb__put_op *op, pending_chunk *items, uint32_t count, rag_error *err) {
  rag_kb *kb = op->op.kb;
  size_t vector_bytes = kb->dimension * sizeof(float);
  rag_key *keys = rag_calloc(count, sizeof *keys);
  rag_slice *slices = rag_calloc(count, sizeof *slices);
  rag_value *values = rag_calloc(count, sizeof *values);
  rag_status status = RAG_OK;
  uint64_t hits = 0;
  if (keys == NULL || slices == NULL || values == NULL) {
    status = rag_fail_no_memory(err, count * sizeof *keys);
    goto out;
  }
  for (uint32_t i = 0; i < count; i++) {
    items[i].chunk->text_digest = rag_digest_of(items[i].text.data, items[i].text.size);
    rag_kb__key_cache(&keys[i], kb->space, &items[i].chunk->text_digest);
    slices[i] = rag_key_slice(&keys[i]);
  }
  RAG_TRY_OUT(rag_store_multi_get(kb->store, NULL, RAG_CF_CACHE, count, slices, values, err));
  for (uint32_t i = 0; i < count; i++) {
    if (values[i].slice.data == NULL) continue;
    rag_reader r = rag_reader_of(values[i].slice);
    uint32_t owner = rag_read_u32le(&r), chunk = rag_read_u32le(&r);
    rag_value vector = {0};
    if (r.bad) {
      status = rag_kb__corrupt(err, RAG_CF_CACHE, slices[i]);
      goto out;
    }
    rag_kb__key_vector(&keys[i], owner, kb->space, chunk);
    status = rag_store_get(kb->store, NULL, RAG_CF_VECTOR, rag_key_slice(&keys[i]), &vector, err);
    if (status == RAG_OK) {
      float *taken = rag_arena_alloc(op->arena, vector_bytes);
      if (taken == NULL) status = rag_fail_no_memory(err, vector_bytes);
      else if (rag_kb__decode_vector(kb->datatype, vector.slice, kb->dimension, taken)) {
        items[i].chunk->vector = taken;
        hits++;
      }
    } else if (status == RAG_NOT_FOUND) {
      status = RAG_OK;
    }
    rag_value_free(&vector);
    if (status != RAG_OK) goto out;
  }
  atomic_fetch_add_explicit(&kb->kbs->embed_cache_hits, hits, memory_order_relaxed);
  atomic_fetch_add_explicit(&kb->kbs->embed_cache_misses, count - hits, memory_order_relaxed);
  op->reused += hits;
out:
  for (uint32_t i = 0; values != NULL && i < count; i++) rag_value_free(&values[i]);
  rag_free(keys);
  rag_free(slices);
  rag_free(values);
  return status;
}

static rag_status embed_batch(rag_kb__put_op *op, pending_chunk *items, uint32_t count, rag_error *err) {
  rag_kb *kb = op->op.kb;
  RAG_TRY(from_cache(op, items, count, err));
  rag_slice texts[EMBED_BATCH];
  rag_kb__prepared_chunk *chunks[EMBED_BATCH];
  uint32_t missing = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (items[i].chunk->vector != NULL) continue;
    texts[missing] = items[i].text;
    chunks[missing++] = items[i].chunk;
  }
  if (missing == 0) return RAG_OK;
  float *vectors = rag_arena_alloc(op->arena, (size_t)missing * kb->dimension * sizeof *vectors);
  if (vectors == NULL) return rag_fail_no_memory(err, (size_t)missing * kb->dimension * sizeof *vectors);
  RAG_TRY(rag_embedder_embed(kb->embedder, RAG_EMBED_DOCUMENT, texts, missing, vectors, err));
  for (uint32_t i = 0; i < missing; i++) {
    chunks[i]->vector = vectors + (size_t)i * kb->dimension;
    take_vector(kb, chunks[i]->vector);
    chunks[i]->embedded = true;
  }
  op->embedded += missing;
  return RAG_OK;
}

static rag_status embed(rag_kb__put_op *op, rag_error *err) {
  if (op->op.kb->embedder == NULL) return RAG_OK;
  pending_chunk items[EMBED_BATCH];
  uint32_t count = 0;
  for (uint32_t d = 0; d < op->put->document_count; d++) {
    rag_kb__prepared *document = &op->documents[d];
    for (uint32_t c = 0; document->cut && c < document->chunk_count; c++) {
      rag_kb__prepared_chunk *chunk = &document->chunks[c];
      if (chunk->vector != NULL) continue;
      items[count++] = (pending_chunk){
          chunk, rag_slice_of(document->body.data + chunk->span.start, chunk->span.end - chunk->span.start)};
      if (count < EMBED_BATCH) continue;
      RAG_TRY(embed_batch(op, items, count, err));
      count = 0;
    }
  }
  return count > 0 ? embed_batch(op, items, count, err) : RAG_OK;
}

// ---------------------------------------------------------------------------------------------- pruning by source

typedef struct source_set { // open addressing over the sources that the call's documents name
  rag_slice *slots;
  uint32_t capacity;
} source_set;

static rag_slice *source_slot(const source_set *set, rag_slice uri) { // its slot, or the empty one for it
  uint32_t at = (uint32_t)rag_hash64(uri.data, uri.size) & (set->capacity - 1);
  while (set->slots[at].size > 0 && !rag_slice_equal(set->slots[at], uri)) at = (at + 1) & (set->capacity - 1);
  return &set->slots[at];
}

static rag_status index_sources(rag_kb__put_op *op, source_set *out, rag_error *err) {
  out->capacity = 16;
  while (out->capacity < op->put->document_count * 2) out->capacity *= 2;
  out->slots = rag_arena_calloc(op->arena, out->capacity, sizeof *out->slots);
  if (out->slots == NULL) return rag_fail_no_memory(err, out->capacity * sizeof *out->slots);
  for (uint32_t d = 0; d < op->put->document_count; d++) {
    rag_slice uri = op->put->documents[d].source_uri;
    if (uri.size > 0) *source_slot(out, uri) = uri;
  }
  return RAG_OK;
}

static rag_status add_pruned(rag_kb__put_op *op, uint32_t revision, rag_error *err) {
  if (op->prune_count == op->prune_capacity) {
    uint32_t capacity = op->prune_capacity ? op->prune_capacity * 2 : 64;
    uint32_t *grown = rag_arena_calloc(op->arena, capacity, sizeof *grown);
    if (grown == NULL) return rag_fail_no_memory(err, capacity * sizeof *grown);
    if (op->prune_count > 0) memcpy(grown, op->prune_revisions, op->prune_count * sizeof *grown);
    op->prune_revisions = grown;
    op->prune_capacity = capacity;
  }
  op->prune_revisions[op->prune_count++] = revision;
  return RAG_OK;
}

static int compare_u32(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

// Live documents that name a source of this call and are not in it. Reads every live revision: the price of a prune by
// source is the size of the version.
static rag_status find_pruned(rag_kb__put_op *op, rag_error *err) {
  rag_kb *kb = op->op.kb;
  uint32_t revision = 0;
  source_set sources;
  RAG_TRY(index_sources(op, &sources, err));
  while (revision < UINT32_MAX && rag_bitmap_next(op->seen_head->revisions, revision + 1, &revision)) {
    rag_kb__revision record;
    rag_value pin = {0};
    RAG_TRY(rag_kb__get_revision(kb, NULL, revision, &record, &pin, err));
    bool gone = record.source_uri.size > 0 && source_slot(&sources, record.source_uri)->size > 0 &&
                !rag_kb__put_names(op, record.id);
    rag_value_free(&pin);
    if (!gone) continue;
    RAG_TRY(add_pruned(op, revision, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- deleting by filter

// What passes at the branch's head and is not put or deleted by this call anyway.
static rag_status find_filtered(rag_kb__put_op *op, rag_error *err) {
  rag_kb__survivors *survivors = NULL;
  bool cached;
  uint32_t revision = 0;
  RAG_TRY(rag_kb__survivors_of(op->op.kb, op->seen_head, op->put->delete_filter, false, 0, &survivors, &cached, err));
  rag_status status = RAG_OK;
  uint32_t pruned = op->prune_count; // ascending, and those that pass too are in it once
  for (uint32_t at = 0; revision < UINT32_MAX && rag_bitmap_next(survivors->documents, revision + 1, &revision);) {
    while (at < pruned && op->prune_revisions[at] < revision) at++;
    if (at < pruned && op->prune_revisions[at] == revision) continue;
    rag_kb__revision record;
    rag_value pin = {0};
    RAG_TRY_OUT(rag_kb__get_revision(op->op.kb, NULL, revision, &record, &pin, err));
    bool named = rag_kb__put_names(op, record.id);
    rag_value_free(&pin);
    if (!named) RAG_TRY_OUT(add_pruned(op, revision, err));
  }
  if (op->prune_count > pruned && pruned > 0)
    qsort(op->prune_revisions, op->prune_count, sizeof *op->prune_revisions, compare_u32);
out:
  rag_ref_drop(survivors);
  return status;
}

// ---------------------------------------------------------------------------------------------- all of it

static rag_status check_call(const rag_kb__put_op *op, rag_error *err) {
  const rag_put *put = op->put;
  if ((uint64_t)put->document_count + put->delete_count > RAG_PUT_DOCUMENTS_MAX)
    return rag_fail_field(
        err, RAG_INVALID_ARGUMENT, "documents",
        "one call takes at most %u documents and deletions; this one has %llu: send several calls, or "
        "import",
        RAG_PUT_DOCUMENTS_MAX, (unsigned long long)put->document_count + put->delete_count);
  for (uint32_t i = 0; i < put->document_count; i++) RAG_TRY(check_document(op->op.kb, &put->documents[i], i, err));
  for (uint32_t i = 0; i < put->delete_count; i++) {
    char field[RAG_ERROR_FIELD_MAX];
    snprintf(field, sizeof field, "delete_ids[%u]", i);
    if (put->delete_ids[i].size == 0 || put->delete_ids[i].size > RAG_DOCUMENT_ID_BYTES_MAX)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: a document id is 1 to %u bytes", field,
                            RAG_DOCUMENT_ID_BYTES_MAX);
  }
  return RAG_OK;
}

rag_status rag_kb__put_prepare(rag_kb__put_op *op, rag_error *err) {
  rag_kb *kb = op->op.kb;
  uint32_t branch;
  if (op->documents == NULL) { // the first try
    RAG_TRY(check_call(op, err));
    RAG_TRY(index_ids(op, err));
    op->documents = rag_arena_calloc(op->arena, (size_t)op->put->document_count + 1, sizeof *op->documents);
    if (op->documents == NULL) return rag_fail_no_memory(err, op->put->document_count * sizeof *op->documents);
    for (uint32_t i = 0; i < op->put->document_count; i++) {
      op->documents[i].input = &op->put->documents[i];
      identify(op, &op->documents[i]);
    }
  }
  rag_ref_drop(op->seen);
  rag_ref_drop(op->seen_head);
  op->seen_head = NULL;
  op->seen = rag_cell_get(&kb->view);
  RAG_TRY(rag_kb__find_branch(kb, op->seen, op->op.write->branch, &branch, err));
  RAG_TRY(rag_kb__head(kb, NULL, op->seen, branch, &op->seen_head, err));
  if (op->op.write->expect_parent.size > 0)
    RAG_TRY(rag_kb__resolve_commit(kb, NULL, op->seen, op->op.write->expect_parent, &op->expect_parent, err));
  for (uint32_t i = 0; i < op->put->document_count; i++) {
    rag_kb__prepared *document = &op->documents[i];
    RAG_TRY(rag_kb__put_look_up(op, NULL, op->seen_head->revisions, document, err));
    if (!document->cut && (op->cut_all || document->same_content.revision == 0)) RAG_TRY(cut(op, document, i, err));
  }
  RAG_TRY(embed(op, err));
  op->prune_count = 0;
  if (op->put->prune == RAG_PRUNE_SOURCE) RAG_TRY(find_pruned(op, err));
  if (op->put->delete_filter != NULL) RAG_TRY(find_filtered(op, err));
  return RAG_OK;
}
