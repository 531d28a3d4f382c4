// The documents and chunks of a version that pass a filter (survivors.c). Private to kb/.
#ifndef RAGD_KB_FILTERS_SURVIVORS_H
#define RAGD_KB_FILTERS_SURVIVORS_H

#include "kb/filters/filters_internal.h"
#include "kb/kb_internal.h"

#define RAG_KB__SURVIVORS_ENTRIES_MAX 256u
#define RAG_KB__SURVIVORS_BYTES_MAX ((size_t)64 << 20)

typedef struct rag_kb__survivors { // immutable
  rag_ref ref;
  rag_bitmap *documents;        // live revisions that pass
  rag_bitmap *chunks;           // theirs, or NULL where nobody has asked yet
  uint64_t verified;            // revisions that were looked at one by one
  uint32_t conditions, indexed; // of the filter; of them answered by indexes alone
} rag_kb__survivors;

// *out: a reference. The kb is loaded where it was not. Errors of the evaluation (filters_internal.h).
RAG_NODISCARD rag_status rag_kb__survivors_of(rag_kb *kb, const rag_version *version, const rag_filter *filter,
                                              bool want_chunks, uint64_t deadline_ns, rag_kb__survivors **out,
                                              bool *out_cached, rag_error *err);

// What an evaluation reads of a version; source.context is the reader, so it must not move.
typedef struct rag_kb__filter_reader {
  rag_kb *kb;
  const rag_version *version;
  rag_fields_view *fields;
  rag_value pin;
  rag_kb__filter_source source;
} rag_kb__filter_reader;
RAG_NODISCARD rag_status rag_kb__filter_reader_open(rag_kb__filter_reader *reader, rag_kb *kb,
                                                    const rag_version *version, uint64_t deadline_ns, rag_error *err);
void rag_kb__filter_reader_close(rag_kb__filter_reader *reader);

#endif
