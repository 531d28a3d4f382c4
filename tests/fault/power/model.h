// The stream of operations that every writer thread runs, and what they must leave. An operation follows from (seed,
// thread, sequence number, state before it) alone, so the parent runs the same stream as the child and knows what every
// answer promised; an answer carries the operation's digest, so that the two cannot drift apart unseen.
//
// Every thread writes documents of its own in one shared knowledge base: "tT-dNN" on main, and "tT-xNN" on its own
// branch "bT", which it merges into main and rolls back. So the heads move under all threads while each one's part is a
// plain sequence. What reaches into every version is modelled too: a purge takes documents out of all that the thread
// remembers, and a gc may take the versions that nothing keeps.
#ifndef RAGD_TESTS_FAULT_POWER_MODEL_H
#define RAGD_TESTS_FAULT_POWER_MODEL_H

#include "kb/kb.h"

#define KB_NAME "docs"
#define THREADS_MAX 8u
#define MAIN_DOCS 24u
#define SIDE_DOCS 8u
#define TAGS_MAX 3u         // of a thread at a time
#define GROUPS 6u           // of documents, by their metadata: what is deleted by a filter
#define GC_KEEP_COMMITS 40u // of each branch
#define TEXT_BYTES_MAX 8192u

typedef struct doc_state { // zero: not there
  uint32_t version;        // the sequence number that put the text
  uint32_t metadata;       // and the one that put the metadata
} doc_state;

typedef struct side_state {
  doc_state docs[SIDE_DOCS];
} side_state;

typedef struct tag_state { // of main, as it was
  uint32_t seq;            // of the operation that made it
  doc_state docs[MAIN_DOCS];
  side_state side;
} tag_state;

typedef struct thread_state { // plain bytes: handed to the child in a file
  uint32_t next;              // sequence number of the next operation, from 1
  bool has_branch;
  uint32_t branch_depth; // commits on the branch since it was made
  doc_state main_docs[MAIN_DOCS];
  uint32_t last_version[MAIN_DOCS]; // of the text that was there last, also of a deleted document
  side_state main_side;             // on main: as of the last merge
  side_state branch, branch_before; // at bT and at bT~1
  tag_state tags[TAGS_MAX];
  uint32_t tag_count;
  uint32_t purged[MAIN_DOCS], purged_side[SIDE_DOCS]; // the newest purge: nothing older is in any version
} thread_state;

typedef struct model {
  uint64_t seed;
  uint32_t threads;
  thread_state thread[THREADS_MAX];
} model;

typedef enum op_kind {
  OP_PUT,
  OP_METADATA,
  OP_BRANCH,
  OP_SIDE_PUT,
  OP_MERGE,
  OP_ROLLBACK,
  OP_TAG,
  OP_DELETE_FILTER,
  OP_BRANCH_DELETE,
  OP_TAG_DELETE,
  OP_PURGE, // the first of `put` is alive on main, so that its doing can be seen there
  OP_GC,
} op_kind;
#define OP_DOCS_MAX 3u

typedef struct op {
  op_kind kind;
  uint32_t thread, seq;
  uint32_t put[OP_DOCS_MAX], put_count;       // documents by number, distinct
  uint32_t remove[OP_DOCS_MAX], remove_count; // OP_PURGE: side documents
  uint32_t group;                             // OP_DELETE_FILTER
  uint32_t tag;                               // OP_TAG_DELETE: the number of the operation that made it
} op;

op model_next(const model *m, uint32_t thread);
// What the operation does. Uses up its number, also where it is not applied (it failed and left nothing).
void model_apply(thread_state *state, const op *o, bool applied);
// `text` takes TEXT_BYTES_MAX bytes, `id` and `metadata` 64; each is NUL-terminated.
void model_id(uint32_t thread, bool side, uint32_t doc, char *id);
size_t model_text(const model *m, uint32_t thread, bool side, uint32_t doc, uint32_t version, char *text);
void model_metadata(uint32_t thread, bool side, uint32_t version, char *metadata);
void model_filter(uint32_t thread, uint32_t group, char *filter); // 128 bytes
void model_branch(uint32_t thread, char *name);
void model_tag(uint32_t thread, uint32_t seq, char *name);
// Of everything that the operation says, texts included.
rag_digest model_digest(const model *m, const op *o);
RAG_NODISCARD bool model_save(const model *m, const char *path);
RAG_NODISCARD bool model_load(model *m, const char *path);

// ---- check.c: does an open knowledge base agree?

// What is known of the folder besides the threads' states.
typedef struct history_facts {
  bool gc_possible;         // one was asked for, answered or not: what nothing keeps may be gone
  const uint64_t *main_log; // acknowledged commits of main, ascending
  size_t main_log_count;
  size_t main_unknown; // commits of main that may be there and whose numbers nobody was told
} history_facts;

// True when everything of the thread at the heads, branches and tags is as `state` says; else *err says what is not.
bool check_thread(rag_kb *kb, const model *m, uint32_t thread, const thread_state *state, rag_error *err);
// An operation that was answered with `commit`: is what it did there, at that commit, less what was purged since?
// `after`: the state it led to; `now`: the thread's state today.
bool check_at_commit(rag_kb *kb, const model *m, const op *o, const thread_state *after, const thread_state *now,
                     uint64_t commit, const history_facts *facts, rag_error *err);
// Counts, listing and log of main, and searches for what is there and what is deleted.
bool check_whole(rag_kb *kb, const model *m, rag_error *err);

// ---- agree.c: does search agree with the rows?

// Puts the documents of `at`, as the store lists them, into a fresh knowledge base of `scratch`, and asks both the same
// questions: by meaning (exact and planned), by words, by both, with filters; hits and scores must be the same to the
// bit. *serial names the scratch's knowledge bases and is counted up.
bool check_agreement(rag_kb *kb, const char *at, rag_kbs *scratch, uint32_t *serial, rag_error *err);

#endif
