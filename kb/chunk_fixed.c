// The fixed method: windows of max_tokens tokens, each starting overlap_tokens before the end of the one before. Blind
// to structure on purpose: the baseline, and the choice for text that has none.
//
// Invariants: every window but the last has exactly max_tokens tokens; none lies inside another. Linear; memory is
// overlap_tokens offsets.
// Threads: pure function.
#include "kb/chunk_internal.h"

rag_status rag_chunk__fixed(const rag_chunking *chunking, rag_slice text, rag_chunk__spans *out, rag_error *err) {
  rag_status status = RAG_OK;
  uint32_t overlap = chunking->overlap_tokens;
  // Starts of the last `overlap` tokens, as a ring.
  uint32_t *starts = rag_realloc_array(NULL, overlap + 1u, sizeof(*starts));
  if (!starts) return rag_fail_no_memory(err, (overlap + 1u) * sizeof(*starts));
  uint64_t number = 0; // of tokens so far
  uint32_t in_window = 0;
  size_t at = 0, window_start = 0, window_end = 0, start, end;
  while (rag_chunk__token(text, at, text.size, &start, &end)) {
    if (in_window == chunking->max_tokens) {
      RAG_TRY_OUT(rag_chunk__spans_add(out, (uint32_t)window_start, (uint32_t)window_end, err));
      in_window = overlap;
      window_start = overlap > 0 ? starts[(number - overlap) % overlap] : start;
    }
    if (number == 0) window_start = start;
    if (overlap > 0) starts[number % overlap] = (uint32_t)start;
    number++;
    in_window++;
    window_end = at = end;
  }
  if (number > 0) status = rag_chunk__spans_add(out, (uint32_t)window_start, (uint32_t)window_end, err);
out:
  rag_free(starts);
  return status;
}
