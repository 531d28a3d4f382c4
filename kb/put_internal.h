// What put_prepare.c hands to put.c: a call's documents, checked, cut into chunks and embedded, before the write queues
// for the group commit. Private to kb/.
#ifndef RAGD_KB_PUT_INTERNAL_H
#define RAGD_KB_PUT_INTERNAL_H

#include "kb/words_internal.h"

typedef struct rag_kb__prepared_chunk {
  rag_span span; // in body
  rag_slice metadata;
  rag_digest text_digest;
  float *vector; // dimension floats in the op's arena, or NULL: this chunk has none
  bool embedded; // by this call, as the cache did not have it: goes into the cache
} rag_kb__prepared_chunk;

typedef struct rag_kb__prepared {
  const rag_document_input *input;
  rag_slice text, body;
  rag_digest content_digest, state_digest;
  rag_kb__prepared_chunk *chunks; // NULL while not cut (the content is thought to be stored already)
  uint32_t chunk_count;
  bool cut;
  rag_lexical_chunk *words;              // of each chunk, once cut; their ordinals are given out by this call's plan
  uint32_t new_content, new_first_chunk; // given out by this call's plan; 0: none
  rag_kb__document_entry set;            // alive after this call; revision 0: unchanged
  bool new_revision;                     // its revision is made by this call
  // What was found in the store when prepared; valid in apply while kb->pending is the view that was looked at.
  bool looked_up;
  rag_kb__document_entry live;  // revision 0: not there
  rag_kb__document_entry equal; // a revision with the same state, revision 0: none
  rag_kb__document_entry same_content;
} rag_kb__prepared;

typedef struct rag_kb__put_op {
  rag_kb__op op;
  const rag_put *put;
  rag_kb__config_ref *config;
  rag_arena *arena;
  rag_kb__prepared *documents;
  rag_kb__view *seen; // the view that was looked at; a reference
  uint32_t *ids;      // open-addressing table of ids: 1 + index of document, or ~index of a deletion
  uint32_t ids_capacity;
  uint32_t *prune_revisions; // for prune by source and deletion by filter: revisions to go, found in `seen`; ascending
  uint32_t prune_count, prune_capacity;
  rag_version *seen_head;
  uint32_t expect_parent; // 0: none
  rag_strings *conflicts;
  bool retry;          // apply found that more must be cut or looked up: prepare again
  bool cut_all;        // second try: do not rely on stored contents
  bool other_settings; // apply found other settings of the kb: prepare from the start
  uint64_t embedded, reused;
} rag_kb__put_op;

RAG_NODISCARD rag_status rag_kb__put_prepare(rag_kb__put_op *op, rag_error *err);
// The digest of a document's state over its content's (put_prepare.c says what it covers).
rag_digest rag_kb__state_digest(const rag_digest *content, const rag_document_input *in);
// True when the call names the id, as a document or as a deletion.
bool rag_kb__put_names(const rag_kb__put_op *op, rag_slice id);
// Scans a document's rows for the live, an equal and a same-content revision.
RAG_NODISCARD rag_status rag_kb__put_look_up(rag_kb__put_op *op, rag_txn *txn, const rag_bitmap *revisions,
                                             rag_kb__prepared *document, rag_error *err);

#endif
