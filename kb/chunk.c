// Chunking: the entry, its checks and its limit. The methods are chunk_structure.c with chunk_pack.c and
// chunk_sentence.c, and chunk_fixed.c; the token rules that all count by are tokens.c.
//
// Spans are part of stored data: a change of any rule here, in those files or in token_classes.inc changes the chunks
// of texts that are stored already. tests/kb/test_chunker.c pins them.
//
// Threads: pure functions.
#include "kb/chunk_internal.h"

#define SPANS_CAPACITY_FIRST 16u

static const char *const method_names[] = {
    [RAG_CHUNK_STRUCTURE] = "structure",
    [RAG_CHUNK_WHOLE] = "whole",
    [RAG_CHUNK_FIXED] = "fixed",
};

const char *rag_chunk_method_name(rag_chunk_method method) {
  size_t index = (size_t)method;
  return index < RAG_COUNT_OF(method_names) ? method_names[index] : "unknown";
}

bool rag_chunk_method_parse(rag_slice text, rag_chunk_method *out) {
  for (size_t i = 0; i < RAG_COUNT_OF(method_names); i++) {
    if (!rag_slice_equal(text, rag_slice_str(method_names[i]))) continue;
    *out = (rag_chunk_method)i;
    return true;
  }
  return false;
}

rag_chunking rag_chunking_default(void) {
  return (rag_chunking){.method = RAG_CHUNK_STRUCTURE, .max_tokens = 256, .overlap_tokens = 0};
}

rag_status rag_chunking_check(const rag_chunking *chunking, rag_error *err) {
  if ((size_t)chunking->method >= RAG_COUNT_OF(method_names))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "chunking.method",
                          "unknown chunking method %d: it is structure, whole or fixed", (int)chunking->method);
  if (chunking->method == RAG_CHUNK_WHOLE) return RAG_OK; // the other two mean nothing to it
  if (chunking->max_tokens < RAG_CHUNK_TOKENS_MIN || chunking->max_tokens > RAG_CHUNK_TOKENS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "chunking.max_tokens", "max_tokens is %u: it must be %u to %u",
                          chunking->max_tokens, RAG_CHUNK_TOKENS_MIN, RAG_CHUNK_TOKENS_MAX);
  // With half or more, most of every chunk would be the one before it, and their number would have no bound.
  if (chunking->overlap_tokens >= (chunking->max_tokens + 1) / 2)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "chunking.overlap_tokens",
                          "overlap_tokens is %u: it must be less than half of max_tokens (%u)",
                          chunking->overlap_tokens, chunking->max_tokens);
  return RAG_OK;
}

rag_status rag_chunk__spans_add(rag_chunk__spans *spans, uint32_t start, uint32_t end, rag_error *err) {
  if (spans->count == RAG_DOCUMENT_CHUNKS_MAX) {
    spans->over = true;
    return RAG_OUT_OF_RANGE; // the text is the caller's: it knows which max_tokens would do
  }
  if (spans->count == spans->capacity) {
    uint32_t capacity = RAG_MAX(spans->capacity * 2, SPANS_CAPACITY_FIRST);
    rag_span *items = rag_realloc_array(spans->items, capacity, sizeof(*items));
    if (!items) return rag_fail_no_memory(err, capacity * sizeof(*items));
    spans->items = items;
    spans->capacity = capacity;
  }
  spans->items[spans->count++] = (rag_span){start, end};
  return RAG_OK;
}

static rag_status whole(rag_slice text, rag_chunk__spans *out, rag_error *err) {
  size_t start, end;
  if (rag_chunk__measure(text, 0, text.size, &start, &end) == 0) return RAG_OK;
  return rag_chunk__spans_add(out, (uint32_t)start, (uint32_t)end, err);
}

static rag_status chunk(const rag_chunking *chunking, rag_slice text, rag_chunk__spans *out, rag_error *err) {
  switch (chunking->method) {
  case RAG_CHUNK_WHOLE:
    return whole(text, out, err);
  case RAG_CHUNK_FIXED:
    return rag_chunk__fixed(chunking, text, out, err);
  case RAG_CHUNK_STRUCTURE:
    break;
  }
  return rag_chunk__structure(chunking, text, out, err);
}

// Tries larger chunks until they are few enough, so that the advice is one that works. Each try stops at the limit.
static rag_status too_many(const rag_chunking *chunking, rag_slice text, rag_chunk__spans *scratch, rag_error *err) {
  rag_chunking larger = *chunking;
  while (larger.max_tokens < RAG_CHUNK_TOKENS_MAX) {
    larger.max_tokens = RAG_MIN(larger.max_tokens * 2, RAG_CHUNK_TOKENS_MAX);
    scratch->count = 0;
    scratch->over = false;
    rag_status status = chunk(&larger, text, scratch, err);
    if (status == RAG_OK)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "text",
                            "the text gives more than %u chunks with max_tokens %u; with max_tokens %u it does not",
                            RAG_DOCUMENT_CHUNKS_MAX, chunking->max_tokens, larger.max_tokens);
    if (!scratch->over) return status;
  }
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "text",
                        "the text gives more than %u chunks with any max_tokens up to %u: split the document",
                        RAG_DOCUMENT_CHUNKS_MAX, RAG_CHUNK_TOKENS_MAX);
}

rag_status rag_chunk_text(const rag_chunking *chunking, rag_slice text, rag_span **out, uint32_t *out_count,
                          rag_error *err) {
  RAG_TRY(rag_chunking_check(chunking, err));
  if (text.size > RAG_DOCUMENT_TEXT_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "text", "the text has %zu bytes; at most %u are taken", text.size,
                          RAG_DOCUMENT_TEXT_BYTES_MAX);
  rag_chunk__spans spans = {0};
  rag_status status = chunk(chunking, text, &spans, err);
  if (spans.over) status = too_many(chunking, text, &spans, err);
  if (status != RAG_OK) {
    rag_free(spans.items);
    return status;
  }
  *out = spans.items;
  *out_count = spans.count;
  return RAG_OK;
}
