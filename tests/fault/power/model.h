// The stream of operations that every writer thread runs, and what they must leave. An operation follows from (seed,
// thread, sequence number, state before it) alone, so the parent runs the same stream as the child and knows what every
// answer promised; an answer carries the operation's digest, so that the two cannot drift apart unseen.
//
// Every thread writes documents of its own in one shared knowledge base: "tT-dNN" on main, and "tT-xNN" on its own
// branch "bT", which it merges into main and rolls back. So the heads move under all threads while each one's part is a
// plain sequence.
#ifndef RAGD_TESTS_FAULT_POWER_MODEL_H
#define RAGD_TESTS_FAULT_POWER_MODEL_H

#include "kb/kb.h"

#define KB_NAME "docs"
#define THREADS_MAX 8u
#define MAIN_DOCS 24u
#define SIDE_DOCS 8u
#define TEXT_BYTES_MAX 8192u

typedef struct doc_state { // zero: not there
  uint32_t version;        // the sequence number that put the text
  uint32_t metadata;       // and the one that put the metadata
} doc_state;

typedef struct side_state {
  doc_state docs[SIDE_DOCS];
} side_state;

typedef struct thread_state { // plain bytes: handed to the child in a file
  uint32_t next;              // sequence number of the next operation, from 1
  bool has_branch;
  uint32_t branch_depth; // commits on the branch since it was made
  doc_state main_docs[MAIN_DOCS];
  uint32_t last_version[MAIN_DOCS]; // of the text that was there last, also of a deleted document
  side_state main_side;             // on main: as of the last merge
  side_state branch, branch_before; // at bT and at bT~1
} thread_state;

typedef struct model {
  uint64_t seed;
  uint32_t threads;
  thread_state thread[THREADS_MAX];
} model;

typedef enum op_kind { OP_PUT, OP_METADATA, OP_BRANCH, OP_SIDE_PUT, OP_MERGE, OP_ROLLBACK, OP_TAG } op_kind;
#define OP_DOCS_MAX 3u

typedef struct op {
  op_kind kind;
  uint32_t thread, seq;
  uint32_t put[OP_DOCS_MAX], put_count; // documents by number, distinct
  uint32_t remove[OP_DOCS_MAX], remove_count;
} op;

op model_next(const model *m, uint32_t thread);
// What the operation does. Uses up its number, also where it is not applied (it failed and left nothing).
void model_apply(thread_state *state, const op *o, bool applied);
// `text` takes TEXT_BYTES_MAX bytes, `id` and `metadata` 64; each is NUL-terminated.
void model_id(uint32_t thread, bool side, uint32_t doc, char *id);
size_t model_text(const model *m, uint32_t thread, bool side, uint32_t doc, uint32_t version, char *text);
void model_metadata(uint32_t version, char *metadata);
void model_branch(uint32_t thread, char *name);
void model_tag(uint32_t thread, uint32_t seq, char *name);
// Of everything that the operation says, texts included.
rag_digest model_digest(const model *m, const op *o);
RAG_NODISCARD bool model_save(const model *m, const char *path);
RAG_NODISCARD bool model_load(model *m, const char *path);

// ---- check.c: does an open knowledge base agree?

// True when everything of the thread at the heads is as `state` says; else *err says what is not.
bool check_thread(rag_kb *kb, const model *m, uint32_t thread, const thread_state *state, rag_error *err);
// An operation that was answered with `commit`: is what it did there, at that commit? `after`: the state it led to.
bool check_at_commit(rag_kb *kb, const model *m, const op *o, const thread_state *after, uint64_t commit,
                     rag_error *err);
// Counts, listing and log of main, and searches for what is there and what is deleted.
bool check_whole(rag_kb *kb, const model *m, rag_error *err);

#endif
