// What the two halves of the loader share (load.c, load_words.c). Private to kb/.
#ifndef RAGD_KB_LOAD_INTERNAL_H
#define RAGD_KB_LOAD_INTERNAL_H

#include "kb/words_internal.h"

// Rows of a family that is keyed by ordinal, numbers [from, to).
RAG_NODISCARD rag_status rag_kb__load_scan(rag_kb *kb, rag_cf cf, uint32_t from, uint32_t to, rag_store_iter **out,
                                           rag_error *err);
// The number of the row that the iterator stands on; and a CHUNK row.
RAG_NODISCARD rag_status rag_kb__load_number(rag_store_iter *it, rag_cf cf, uint32_t *out, rag_error *err);
RAG_NODISCARD rag_status rag_kb__load_chunk(rag_store_iter *it, uint32_t *ordinal, rag_kb__chunk *out, rag_error *err);

// Chunks [kb->words_next, kb->load_limit) into the lexical index. Under load_lock.
RAG_NODISCARD rag_status rag_kb__load_words(rag_kb *kb, rag_error *err);

#endif
