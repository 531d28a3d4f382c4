// From texts to terms (words.c): what put, load and search share. Private to kb/.
#ifndef RAGD_KB_WORDS_INTERNAL_H
#define RAGD_KB_WORDS_INTERNAL_H

#include "kb/kb_internal.h"

// A word of the title counts as two of the text: on SciFact nDCG@10 .698 instead of .689 (benchmarks/analysis).
#define RAG_KB__TITLE_WEIGHT 2u

// An analyser from the pool, for one thread until it is given back. RAG_INVALID_ARGUMENT: no language tag.
RAG_NODISCARD rag_status rag_kbs__analyzer_take(rag_kbs *kbs, rag_slice language, rag_kb__analyzer **out,
                                                rag_error *err);
// For a text of a kb: by the language given, else by `language`, the kb's.
RAG_NODISCARD rag_status rag_kb__analyzer_for(rag_kb *kb, rag_slice given, rag_slice language, rag_kb__analyzer **out,
                                              rag_error *err);
// A kb's language is a tag: RAG_INVALID_ARGUMENT names the field.
RAG_NODISCARD rag_status rag_kbs__language_check(rag_kbs *kbs, const rag_kb_config *config, rag_error *err);
void rag_kbs__analyzer_give(rag_kbs *kbs, rag_kb__analyzer *analyzer); // NULL: nothing
void rag_kbs__analyzers_close(rag_kbs *kbs);
rag_analyzer *rag_kb__analyzer_rules(rag_kb__analyzer *analyzer); // borrowed

// The terms of a content's chunks: `count` spans of body, `stride` bytes apart (structures that begin with a rag_span).
// Everything in out[] lies in the arena.
RAG_NODISCARD rag_status rag_kb__words_of(rag_analyzer *rules, rag_slice title, rag_slice body, const rag_span *spans,
                                          uint32_t count, uint32_t stride, uint32_t first_ordinal, rag_arena *arena,
                                          rag_lexical_chunk *out, rag_error *err);

// What BM25 needs to know of a version, made when first asked for. Borrowed from the version. view: pinned after it.
RAG_NODISCARD rag_status rag_kb__version_words(rag_kb *kb, rag_version *version, const rag_lexical_view *view,
                                               const rag_lexical_version **out, rag_error *err);
// Says that the version's live set is like another's, so that its words need only count the difference.
void rag_kb__version_near(rag_kb *kb, rag_version *version, const rag_version *like);

#endif
