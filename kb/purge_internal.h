// What purge.c tells purge_job.c, in the job's parameters: ids and numbers, no texts. Private to kb/.
#ifndef RAGD_KB_PURGE_INTERNAL_H
#define RAGD_KB_PURGE_INTERNAL_H

#include "kb/rewrite_internal.h"

typedef struct rag_kb__purge_params {
  uint32_t kb, space;
  int64_t purged_us;
  uint32_t limit_revision; // revisions from here on were put after the purge
  uint64_t commits;        // rewritten
  rag_buf ids;             // revisions varint, id bytes; for each requested document. Owned by whoever filled it
  rag_bitmap *revisions, *contents, *chunks; // erased
} rag_kb__purge_params;
void rag_kb__purge_params_encode(const rag_kb__purge_params *params, rag_buf *out);
// *out owned: rag_kb__purge_params_free.
RAG_NODISCARD rag_status rag_kb__purge_params_decode(rag_slice bytes, rag_kb__purge_params *out, rag_error *err);
void rag_kb__purge_params_free(rag_kb__purge_params *params);

#endif
