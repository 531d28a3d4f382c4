// Documents: put, patch, delete (by id, by filter), get, list.
#include "api/dispatch_internal.h"

#include <stdio.h>

// A document's metadata is patched on what was read; when somebody was faster it is read and patched again.
#define PATCH_TRIES_MAX 8u
// A page of documents with their texts ends early when it holds so much.
#define LIST_TEXT_BYTES_MAX ((size_t)32 << 20)
#define LIST_STEP 256u                            // documents pinned at once
#define INLINE_TEXT_BYTES_MAX ((size_t)256 << 10) // copying and escaping more takes over a millisecond

// ---------------------------------------------------------------------------------------------- input

// Both codecs hand over compact object text and aligned vectors. No metadata and {} are the same thing to a client, so
// they are one form here: else a document would count as changed for it.
static rag_slice metadata_of(const char *text) {
  return strcmp(text, "{}") == 0 ? rag_slice_of("", 0) : rag_slice_str(text);
}

static const float *vector_of(const ProtobufCBinaryData *bytes, uint32_t *out_dimension) {
  *out_dimension = (uint32_t)(bytes->len / sizeof(float));
  return bytes->len ? (const float *)(const void *)bytes->data : NULL;
}

rag_status rag_api__document_input(rag_call *call, const Ragd__V1__DocumentInput *in, rag_document_input *out,
                                   rag_error *err) {
  *out = (rag_document_input){
      .id = rag_slice_str(in->id),
      .text = rag_slice_str(in->text),
      .title = rag_slice_str(in->title),
      .metadata = metadata_of(in->metadata),
      .source_uri = rag_slice_str(in->source_uri),
      .source_modified_us = in->source_modified_at,
      .effective_us = in->effective_at,
      .language = rag_slice_str(in->language),
  };
  out->vector = vector_of(&in->vector, &out->vector_dimension);
  if (in->n_chunks == 0) return RAG_OK;
  rag_chunk_input *chunks;
  RAG_TRY(rag_api__new_array(call, in->n_chunks, sizeof(*chunks), &chunks, err));
  for (size_t i = 0; i < in->n_chunks; i++) {
    const Ragd__V1__ChunkInput *from = in->chunks[i];
    chunks[i] = (rag_chunk_input){.text = rag_slice_str(from->text), .metadata = metadata_of(from->metadata)};
    chunks[i].vector = vector_of(&from->vector, &chunks[i].vector_dimension);
  }
  out->chunks = chunks;
  out->chunk_count = (uint32_t)in->n_chunks; // lists are bounded by the body's size
  return RAG_OK;
}

static rag_status prune_of(const char *text, rag_prune *out, rag_error *err) {
  static const char *const names[] = {"none", "source", "all"}; // in the order of rag_prune
  for (unsigned i = 0; i < RAG_COUNT_OF(names); i++) {
    if (strcmp(text[0] ? text : "none", names[i]) != 0) continue;
    *out = (rag_prune)i;
    return RAG_OK;
  }
  return rag_api__fail_choice(err, "prune", rag_slice_str(text), names, RAG_COUNT_OF(names));
}

static rag_status check_count(size_t count, const char *field, rag_error *err) {
  if (count <= RAG_PUT_DOCUMENTS_MAX) return RAG_OK;
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, field,
                        "%s: %zu are more than the %u of one call; send several, or use documents:import", field, count,
                        RAG_PUT_DOCUMENTS_MAX);
}

// ---------------------------------------------------------------------------------------------- writes

static rag_status put(rag_call *call, const char *kb_name, const rag_write *write, const rag_put *what,
                      ProtobufCMessage **response, rag_error *err) {
  rag_kb *kb = NULL;
  rag_strings conflicts = {0};
  rag_write_result result = {0};
  rag_status status = RAG_OK;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(kb_name), &kb, err));
  RAG_TRY_OUT(rag_kb_put(kb, write, what, &result, &conflicts, err));
  RAG_TRY_OUT(rag_api__commit_result(call, &result, response, err));
out:
  if (status == RAG_ABORTED) rag_api__conflict_details(call, &conflicts);
  rag_strings_free(&conflicts);
  rag_ref_drop(kb);
  return status;
}

API_HANDLER(put_documents) {
  const Ragd__V1__PutDocumentsRequest *in = (const void *)request;
  rag_document_input *documents;
  rag_slice *delete_ids;
  rag_put what = {0};
  RAG_TRY(check_count(in->n_documents, "documents", err));
  RAG_TRY(check_count(in->n_delete_ids, "delete_ids", err));
  RAG_TRY(prune_of(in->prune, &what.prune, err));
  RAG_TRY(rag_api__new_array(call, in->n_documents, sizeof(*documents), &documents, err));
  RAG_TRY(rag_api__new_array(call, in->n_delete_ids, sizeof(*delete_ids), &delete_ids, err));
  for (size_t i = 0; i < in->n_documents; i++)
    RAG_TRY(rag_api__document_input(call, in->documents[i], &documents[i], err));
  for (size_t i = 0; i < in->n_delete_ids; i++) delete_ids[i] = rag_slice_str(in->delete_ids[i]);
  what.documents = documents;
  what.document_count = (uint32_t)in->n_documents;
  what.delete_ids = delete_ids;
  what.delete_count = (uint32_t)in->n_delete_ids;
  rag_write write = rag_api__write_of(call, in->branch, in->message, in->author, in->expect_parent);
  return put(call, in->kb, &write, &what, response, err);
}

API_HANDLER(delete_document) {
  const Ragd__V1__DeleteDocumentRequest *in = (const void *)request;
  rag_slice id = rag_slice_str(in->id);
  rag_put what = {.delete_ids = &id, .delete_count = 1};
  rag_write write = rag_api__write_of(call, in->branch, in->message, in->author, in->expect_parent);
  return put(call, in->kb, &write, &what, response, err);
}

// Whether a filter has no condition at all, at any depth: {}, {"must": []}, {"should": [{}]}. Depth is bounded by the
// parser. (One that happens to match everything, such as a range from the smallest number, was meant.)
static bool says_nothing(rag_json value) {
  rag_json_type type = rag_json_type_of(value);
  if (type == RAG_JSON_NULL) return true;
  if (type != RAG_JSON_ARRAY && type != RAG_JSON_OBJECT) return false;
  rag_json_iter it = rag_json_iter_of(value);
  while (rag_json_iter_next(&it))
    if (!says_nothing(it.value)) return false;
  return true;
}

static rag_status check_says_something(const char *filter, rag_error *err) {
  rag_json value;
  bool empty = !filter[0];
  if (!empty) {
    rag_json_parser *parser = rag_json_parser_acquire();
    if (!parser) return rag_fail_no_memory(err, 1);
    rag_status status = rag_json_parse(parser, rag_slice_str(filter), &value, err);
    if (status == RAG_OK) empty = says_nothing(value);
    rag_json_parser_release(parser);
    RAG_TRY(status);
  }
  if (!empty) return RAG_OK;
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "filter",
                        "filter: has no condition, so it would delete every document of the branch; to do that on "
                        "purpose, put none with \"prune\": \"all\" (PutDocuments)");
}

API_HANDLER(delete_documents) {
  const Ragd__V1__DeleteDocumentsRequest *in = (const void *)request;
  rag_put what = {0};
  RAG_TRY(check_says_something(in->filter, err));
  RAG_TRY(rag_api__filter_of(call, in->filter, &what.delete_filter, err));
  rag_write write = rag_api__write_of(call, in->branch, in->message, in->author, in->expect_parent);
  return put(call, in->kb, &write, &what, response, err);
}

// One attempt. *moved: somebody changed the document between our read and our write.
static rag_status patch_once(rag_kb *kb, const rag_write *write, rag_slice id, rag_json patch, rag_write_result *result,
                             bool *moved, rag_error *err) {
  rag_document document = {0}, now = {0};
  rag_buf metadata = {0};
  rag_status status = RAG_OK;
  uint32_t revision = 0;
  *moved = false;
  RAG_TRY_OUT(rag_kb_document_get(kb, write->branch, id, &document, err));
  revision = document.revision;
  RAG_TRY_OUT(rag_json_merge_patch(document.metadata, patch, &metadata, err));
  RAG_TRY_OUT(rag_buf_check(&metadata, err));
  rag_slice patched = rag_buf_slice(&metadata);
  if (rag_slice_equal(patched, rag_slice_str("{}"))) patched = rag_slice_of("", 0);
  status = rag_kb_set_metadata(kb, write, id, revision, patched, result, err);
  // Aborted also means a conflict with expect_parent, which no retry mends.
  if (status == RAG_ABORTED && rag_kb_document_get(kb, write->branch, id, &now, NULL) == RAG_OK)
    *moved = now.revision != revision;
out:
  rag_document_free(&now);
  rag_document_free(&document);
  rag_buf_free(&metadata);
  return status;
}

API_HANDLER(patch_document) {
  const Ragd__V1__PatchDocumentRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_json patch;
  rag_write_result result = {0};
  rag_status status = RAG_OK;
  if (!in->metadata[0])
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "metadata",
                          "metadata: is missing; send {\"metadata\": {\"key\": value}}, null removes a key");
  rag_json_parser *parser = rag_json_parser_acquire();
  if (!parser) return rag_fail_no_memory(err, 1);
  RAG_TRY_OUT(rag_json_parse(parser, rag_slice_str(in->metadata), &patch, err));
  RAG_TRY_OUT(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  rag_write write = rag_api__write_of(call, in->branch, in->message, in->author, in->expect_parent);
  bool moved = true;
  for (unsigned i = 0; moved && i < PATCH_TRIES_MAX; i++)
    status = patch_once(kb, &write, rag_slice_str(in->id), patch, &result, &moved, err);
  if (status != RAG_OK) goto out;
  RAG_TRY_OUT(rag_api__commit_result(call, &result, response, err));
out:
  rag_json_parser_release(parser);
  rag_ref_drop(kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- reads

static rag_status document_message(rag_call *call, const rag_document *from, bool text, Ragd__V1__Document **out,
                                   rag_error *err) {
  Ragd__V1__Document *document = API_NEW(call, document);
  if (!document) return rag_fail_no_memory(err, sizeof(*document));
  document->id = rag_api__text(call, from->id);
  document->title = rag_api__text(call, from->title);
  if (text) document->text = rag_api__text(call, from->text);
  document->metadata = rag_api__text(call, from->metadata);
  document->source_uri = rag_api__text(call, from->source_uri);
  document->source_modified_at = from->source_modified_us;
  document->effective_at = from->effective_us;
  document->revision = from->revision;
  document->commit = rag_api__commit_text(call, from->commit);
  document->changed_at = from->time_us;
  document->language = rag_api__text(call, from->language);
  *out = document;
  return RAG_OK;
}

static rag_status add_spans(rag_call *call, rag_kb *kb, const rag_document *from, Ragd__V1__Document *out,
                            rag_error *err) {
  rag_span *spans = NULL;
  uint32_t count = 0;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb_document_chunks(kb, from, &spans, &count, err));
  Ragd__V1__Span *messages;
  RAG_TRY_OUT(rag_api__new_array(call, count, sizeof(*out->chunks), &out->chunks, err));
  RAG_TRY_OUT(rag_api__new_array(call, count, sizeof(*messages), &messages, err));
  for (uint32_t i = 0; i < count; i++) {
    ragd__v1__span__init(&messages[i]);
    messages[i].start = spans[i].start;
    messages[i].end = spans[i].end;
    out->chunks[i] = &messages[i];
  }
  out->n_chunks = count;
out:
  rag_free(spans);
  return status;
}

API_HANDLER(get_document) {
  const Ragd__V1__GetDocumentRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_document document = {0};
  Ragd__V1__Document *out = NULL;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_document_get(kb, rag_slice_str(in->at), rag_slice_str(in->id), &document, err));
  if (call->may_not_wait && document.text.size > INLINE_TEXT_BYTES_MAX) {
    call->wants_worker = true;
    RAG_TRY_OUT(rag_fail(err, RAG_UNAVAILABLE, "this document is for a worker"));
  }
  RAG_TRY_OUT(document_message(call, &document, true, &out, err));
  RAG_TRY_OUT(add_spans(call, kb, &document, out, err));
  *response = &out->base;
out:
  rag_document_free(&document);
  rag_ref_drop(kb);
  return status;
}

typedef struct listing { // of one call
  Ragd__V1__ListDocumentsResponse *out;
  rag_kb *kb;
  rag_slice at;
  const rag_filter *filter;
  uint32_t after;  // revision
  uint64_t commit; // 0: not known yet
  size_t text_bytes;
  bool text, more;
} listing;

// One step of at most LIST_STEP documents.
static rag_status list_step(rag_call *call, listing *l, uint32_t limit, rag_error *err) {
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb_documents(l->kb, l->at, l->filter, l->after, RAG_MIN(limit, LIST_STEP), &documents, &count, &next,
                           &l->commit, err));
  l->more = next != 0;
  for (uint32_t i = 0; i < count; i++) {
    if (l->text && l->text_bytes > 0 && l->text_bytes + documents[i].text.size > LIST_TEXT_BYTES_MAX) {
      l->more = true;
      l->text_bytes = LIST_TEXT_BYTES_MAX;
      break;
    }
    RAG_TRY_OUT(document_message(call, &documents[i], l->text, &l->out->documents[l->out->n_documents], err));
    l->out->n_documents++;
    l->text_bytes += documents[i].text.size;
    l->after = documents[i].revision;
  }
  if (l->more && l->text_bytes < LIST_TEXT_BYTES_MAX) l->after = next; // past what the filter left out, too
out:
  for (uint32_t i = 0; i < count; i++) rag_document_free(&documents[i]);
  rag_free(documents);
  return status;
}

// A page token goes on in the list of its own filter alone.
static const char *list_kind(rag_call *call, const char *filter) {
  char kind[32] = "documents";
  if (filter[0]) snprintf(kind, sizeof(kind), "documents:%08x", rag_crc32c(0, filter, strlen(filter)));
  return rag_api__text_str(call, kind);
}

API_HANDLER(list_documents) {
  const Ragd__V1__ListDocumentsRequest *in = (const void *)request;
  listing l = {.at = rag_slice_str(in->at), .text = in->text};
  rag_slice position;
  uint32_t limit;
  rag_status status = RAG_OK;
  const char *kind = list_kind(call, in->filter);
  RAG_TRY(rag_api__limit(in->limit_presence_case, in->limit, &limit, err));
  RAG_TRY(rag_api__filter_of(call, in->filter, &l.filter, err));
  RAG_TRY(rag_api__page_position(call, kind, in->kb, in->page_token, &position, err));
  if (position.size) { // pages after the first stay at the commit of the first, wherever the branch has gone
    rag_reader r = rag_reader_of(position);
    l.commit = rag_read_u64be(&r);
    l.after = rag_read_u32be(&r);
    l.at = rag_slice_str(rag_api__commit_text(call, l.commit));
  }
  l.out = API_NEW(call, list_documents_response);
  if (!l.out) return rag_fail_no_memory(err, sizeof(*l.out));
  RAG_TRY(rag_api__new_array(call, limit, sizeof(*l.out->documents), &l.out->documents, err));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &l.kb, err));
  do {
    RAG_TRY_OUT(list_step(call, &l, limit - (uint32_t)l.out->n_documents, err));
    l.at = rag_slice_str(rag_api__commit_text(call, l.commit));
  } while (l.more && l.out->n_documents < limit && l.text_bytes < LIST_TEXT_BYTES_MAX);
  l.out->commit = rag_api__commit_text(call, l.commit);
  if (l.more) {
    rag_buf next = {0};
    rag_buf_append_u64be(&next, l.commit);
    rag_buf_append_u32be(&next, l.after);
    status = rag_buf_check(&next, err);
    if (status == RAG_OK) l.out->next_page_token = rag_api__page_token(call, kind, in->kb, rag_buf_slice(&next));
    rag_buf_free(&next);
  }
  if (status == RAG_OK) *response = &l.out->base;
out:
  rag_ref_drop(l.kb);
  return status;
}
