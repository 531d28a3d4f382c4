// Goal: no text makes a chunker crash, read past it, or break what kb.h promises of spans; counting tokens agrees.
// Method: three bytes choose method, max_tokens and overlap_tokens; the rest is the text, which must be UTF-8 and is
// cut down to where it is. Spans ascend, lie between characters, none is blank, together they cover all that is not,
// none has more tokens than asked for, and a second run gives the same.
#include "kb/chunk_internal.h"
#include "tests/fuzz/fuzz.h"

// Characters of white space are skipped by rag_chunk__measure: a range without tokens is blank.
static bool blank(rag_slice text, size_t start, size_t end) {
  for (size_t at = start, size; at < end; at += size)
    if (!rag_chunk__is_space(rag_utf8_decode(text.data + at, text.size - at, &size))) return false;
  return true;
}

static void require_spans(const rag_chunking *chunking, rag_slice text, const rag_span *spans, uint32_t count) {
  size_t covered = 0;
  for (uint32_t i = 0; i < count; i++) {
    rag_span span = spans[i];
    REQUIRE(span.start < span.end && span.end <= text.size);
    REQUIRE(i == 0 || (span.start > spans[i - 1].start && span.end > spans[i - 1].end));
    REQUIRE(rag_utf8_floor(text.data, text.size, span.start) == span.start);
    REQUIRE(rag_utf8_floor(text.data, text.size, span.end) == span.end);
    REQUIRE(!blank(text, span.start, span.end));
    REQUIRE(span.start <= covered || blank(text, covered, span.start));
    if (chunking->method == RAG_CHUNK_FIXED)
      REQUIRE(rag_count_tokens(rag_slice_of(text.data + span.start, span.end - span.start)) <= chunking->max_tokens);
    covered = span.end;
  }
  REQUIRE(blank(text, covered, text.size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3) return 0;
  rag_chunking chunking = {.method = (rag_chunk_method)(data[0] % 4), .max_tokens = data[1], .overlap_tokens = data[2]};
  char *text = fuzz_copy(data + 3, size - 3);
  rag_slice whole = {text, rag_utf8_bad_offset(text, size - 3)};
  rag_span *spans = NULL, *again = NULL;
  uint32_t count = 0, again_count = 0;
  rag_error err = {0};
  rag_status good = rag_chunking_check(&chunking, &err);
  rag_status status = rag_chunk_text(&chunking, whole, &spans, &count, &err);
  REQUIRE(status == good); // these texts are short
  if (status == RAG_OK) {
    require_spans(&chunking, whole, spans, count);
    REQUIRE(rag_count_tokens(whole) >= count || chunking.overlap_tokens > 0);
    REQUIRE_OK(rag_chunk_text(&chunking, whole, &again, &again_count, &err));
    REQUIRE(count == again_count && (count == 0 || memcmp(spans, again, count * sizeof *spans) == 0));
  } else {
    REQUIRE(status == RAG_INVALID_ARGUMENT);
    fuzz_require_said(&err, status);
  }
  rag_free(spans);
  rag_free(again);
  free(text);
  return 0;
}
