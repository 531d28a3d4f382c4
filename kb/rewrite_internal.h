// What gc and purge share: commits that rewrite a kb's history or remove its rows, and gc's plan. Private to kb/.
#ifndef RAGD_KB_REWRITE_INTERNAL_H
#define RAGD_KB_REWRITE_INTERNAL_H

#include "kb/kb_internal.h"

// ---------------------------------------------------------------------------------------------- rewrite.c

// One request to the group commit that removes or rewrites what is stored. It always publishes a new view, though no ref
// moves, so that puts that looked rows up before look again (put.c compares the views' addresses).
typedef struct rag_kb__rewrite rag_kb__rewrite;
struct rag_kb__rewrite {
  rag_kb *kb;
  rag_status (*plan)(rag_kb__rewrite *rewrite, rag_txn *txn, rag_error *err); // embed this struct as the first member
  bool versions;      // commits are dropped or change: nothing read before may stay in, or get into, the version cache
  bool objects;       // documents go while versions had them: the same for the object cache
  rag_kb__view *view; // in plan: the draft
};
RAG_NODISCARD rag_status rag_kb__rewrite_run(rag_kb__rewrite *rewrite, rag_error *err);

// Drops what memory has of these chunks and revisions (each may be NULL), after their deletion is durable.
RAG_NODISCARD rag_status rag_kb__forget_rows(rag_kb *kb, const rag_bitmap *chunks, const rag_bitmap *revisions,
                                             rag_error *err);

// The rows of one content as gc and purge delete them: found before or in apply, deleted in apply.
typedef struct rag_kb__content_rows {
  uint32_t content, first_chunk, chunk_count;
  uint64_t text_bytes, vector_bytes;
  rag_digest *digests; // of each chunk's text; owned; NULL: the kb's vectors are the client's and never cached
} rag_kb__content_rows;
// Reads what deleting needs to know. A content that has no row (any more) has no bytes and no digests. txn may be NULL.
RAG_NODISCARD rag_status rag_kb__content_rows_read(rag_kb *kb, rag_txn *txn, rag_kb__content_rows *rows,
                                                   rag_error *err);
// CONTENT, CHUNK, VECTOR, and the CACHE rows that still point at its chunks.
RAG_NODISCARD rag_status rag_kb__content_rows_delete(rag_kb *kb, rag_txn *txn, const rag_kb__content_rows *rows,
                                                     rag_error *err);
void rag_kb__content_rows_free(rag_kb__content_rows *rows);

// ---------------------------------------------------------------------------------------------- gc

// All pairs of branch heads have their merge base kept up to so many branches; with more, every branch with main and the
// branches of its group of this size, in order of last movement.
#define RAG_KB__GC_PAIR_BRANCHES 64u
// Kept ancestors that one commit can name behind dropped parents: the newest of them.
#define RAG_KB__GC_ANCESTORS_MAX 256u

typedef struct rag_kb__gc_set { // numbers in plan->pool, descending
  uint32_t at, count;
} rag_kb__gc_set;

typedef struct rag_kb__gc_commit {
  uint32_t number, parents[2], base, depth;
  int64_t time_us;
  rag_kb__gc_set ancestors; // as stored
  rag_kb__gc_set nearest;   // itself where kept, else the nearest kept ones behind it
  uint64_t heads;           // working space: which of a group of heads reach it
  uint32_t window;          // working space: the largest keep_commits budget that reached it
  bool in_days, kept;
} rag_kb__gc_commit;

typedef struct rag_kb__gc_plan {
  rag_kb__view *view;         // what was looked at
  uint32_t limit;             // commits from here on are newer than the plan
  rag_kb__gc_commit *commits; // every stored one below limit, by number
  size_t count, capacity, kept;
  uint32_t *pool;
  size_t pool_count, pool_capacity;
  uint32_t checked; // commits below were looked at for references into what is dropped; in apply only
} rag_kb__gc_plan;
RAG_NODISCARD rag_status rag_kb__gc_plan_make(rag_kb *kb, const rag_gc_options *options, rag_kb__gc_plan *out,
                                              rag_error *err);
void rag_kb__gc_plan_free(rag_kb__gc_plan *plan);
rag_kb__gc_commit *rag_kb__gc_find(const rag_kb__gc_plan *plan, uint32_t number); // NULL: not stored, or newer
// The kept ancestors that a kept commit must name, encoded; *out_changed: they are not what is stored.
RAG_NODISCARD rag_status rag_kb__gc_ancestors(rag_kb__gc_plan *plan, const rag_kb__gc_commit *commit, rag_buf *out,
                                              bool *out_changed, rag_error *err);

typedef enum rag_kb__gc_phase { // in the cursor: pinned
  RAG_KB__GC_COMMITS = 0,
  RAG_KB__GC_LOGS = 1,
  RAG_KB__GC_ROWS = 2,
  RAG_KB__GC_DONE = 3,
} rag_kb__gc_phase;

// One run. What is durable of it is the cursor: phase, limits, counts and the place in the scan of documents.
typedef struct rag_kb__gc_run_state {
  rag_kb *kb;
  rag_job *job;
  rag_gc_options options;
  rag_kb__gc_phase phase;
  uint32_t limit_revision;                                                 // rows from here on are newer than the gc
  uint64_t commits, revisions, contents, chunks, text_bytes, vector_bytes; // dropped, removed
  uint64_t done, total;                                                    // rows of documents
  rag_key at; // documents up to this key prefix are done; empty: none
} rag_kb__gc_run_state;
// Within an apply: progress moves with the work. After it: RAG_ABORTED when the job is to stop.
RAG_NODISCARD rag_status rag_kb__gc_save(rag_kb__gc_run_state *run, rag_txn *txn, rag_error *err);
RAG_NODISCARD rag_status rag_kb__gc_go_on(rag_kb__gc_run_state *run, rag_error *err);
RAG_NODISCARD rag_status rag_kb__gc_commits(rag_kb__gc_run_state *run, rag_error *err); // gc_commits.c
RAG_NODISCARD rag_status rag_kb__gc_logs(rag_kb__gc_run_state *run, rag_error *err);    // gc_commits.c
RAG_NODISCARD rag_status rag_kb__gc_rows(rag_kb__gc_run_state *run, rag_error *err);    // gc_rows.c

// Commits or rows of one batch; tests make it small, so that there are many batches to stop between.
extern uint32_t rag_kb__gc_batch;

#endif
