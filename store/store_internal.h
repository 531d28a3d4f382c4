// Private to store/. Three parts meet here: the RocksDB adapter (rocks.c, rocks_read.c; their own rocks.h holds the
// foreign types), group commit (commit.c), and the jobs table (jobs.c, jobs_run.c, jobs_record.c), which uses only
// store.h and the codec below.
#ifndef RAGD_STORE_INTERNAL_H
#define RAGD_STORE_INTERNAL_H

#include "store/store.h"

#include <pthread.h>

typedef struct rag_store__db rag_store__db;           // RocksDB's handles; rocks.h
typedef struct rag_store__batch rag_store__batch;     // an indexed write batch; one thread at a time
typedef struct rag_store__commits rag_store__commits; // the queue of requests; commit.c

typedef struct rag_store__space {                    // space.c; all relaxed: each word stands by itself
  _Atomic uint64_t due_ns, looked_at_bytes;          // when the next look is due
  _Atomic uint64_t free_bytes, mark;                 // of the last look
  _Atomic uint64_t test_free_bytes, test_disk_bytes; // disk 0: none
  _Atomic uint64_t refused;
  _Atomic bool low;
} rag_store__space;

struct rag_store {
  char *dir;                   // immutable after open
  rag_store_options options;   // immutable after open
  rag_store__db *db;           // immutable after open
  rag_store__commits *commits; // immutable after open
  int lock_fd;                 // immutable after open: holds DIR/LOCK
  _Atomic int64_t handles;     // open snapshots and iterators; atomic: a count for the assert in close, relaxed

  // ERROR state. error_text is written once, under error_lock, before `failed` is set with release; a reader that has
  // seen `failed` with acquire may read it without the lock. Never cleared: recovery is reopening.
  pthread_mutex_t error_lock;
  _Atomic bool failed;
  char error_text[RAG_ERROR_MESSAGE_MAX];

  rag_store__space space;

  // Counters, relaxed: nothing is ordered by them.
  _Atomic uint64_t commit_count, group_count, sync_count, bytes_written;
};

// One request may not put more than this into its transaction: RocksDB counts a batch's bytes in 32 bits.
#define RAG_STORE__REQUEST_BYTES_MAX ((size_t)1 << 30)

// ---- the ERROR state (commit.c)

// Enters ERROR (the first reason stays) and logs it.
void rag_store__set_error(rag_store *store, const char *why);

// ---- space.c

// RAG_RESOURCE_EXHAUSTED while the disk has too little room for a request of this kind.
RAG_NODISCARD rag_status rag_store__space_check(rag_store *store, rag_store_room room, rag_error *err);
void rag_store__space_stats(const rag_store *store, rag_store_stats *out);

// ---- format.c

// Checks DIR/FORMAT against this program, or writes it where there is no store yet. `db_exists`: RocksDB's files are
// there, so that a missing record means damage. RAG_FAILED_PRECONDITION: newer. RAG_DATA_LOSS: not readable as a
// record.
RAG_NODISCARD rag_status rag_store__format_check(const char *dir, bool db_exists, rag_error *err);

// ---- seal.c: what the files must be

// Before anything of the store is opened. RAG_DATA_LOSS names the file. format_exists: FORMAT is there.
RAG_NODISCARD rag_status rag_store__files_check(const char *dir, bool format_exists, rag_error *err);
// Before the first change of a file; durable at return.
RAG_NODISCARD rag_status rag_store__seal_break(const char *dir, rag_error *err);
// After RocksDB has closed its files in good order.
RAG_NODISCARD rag_status rag_store__seal_write(const char *dir, rag_error *err);

// ---- rocks.c: open, flush, erase

RAG_NODISCARD rag_status rag_store__db_open(rag_store *store, rag_error *err); // sets store->db
void rag_store__db_close(rag_store *store);
bool rag_store__db_exists(const char *dir);

// ---- rocks_read.c: batches

RAG_NODISCARD rag_status rag_store__batch_create(rag_store *store, rag_store__batch **out, rag_error *err);
void rag_store__batch_destroy(rag_store__batch *batch);
void rag_store__batch_clear(rag_store__batch *batch); // gives memory beyond a bound back
size_t rag_store__batch_bytes(const rag_store__batch *batch);
bool rag_store__batch_is_empty(const rag_store__batch *batch);
void rag_store__batch_put(rag_store__batch *batch, rag_cf cf, rag_slice key, rag_slice value);
void rag_store__batch_delete(rag_store__batch *batch, rag_cf cf, rag_slice key);
void rag_store__batch_mark(rag_store__batch *batch);     // a save point
void rag_store__batch_rollback(rag_store__batch *batch); // to the newest save point, which goes
RAG_NODISCARD rag_status rag_store__batch_get(rag_store__batch *batch, rag_cf cf, rag_slice key, rag_value *out,
                                              rag_error *err);
RAG_NODISCARD rag_status rag_store__batch_iter(rag_store__batch *batch, rag_cf cf, rag_slice lower, rag_slice upper,
                                               rag_store_iter **out, rag_error *err);
// Writes the batch to the write-ahead log, syncs it (options.sync), applies it to the memtables. No retry.
RAG_NODISCARD rag_status rag_store__batch_write(rag_store__batch *batch, rag_error *err);

// ---- commit.c

RAG_NODISCARD rag_status rag_store__commits_open(rag_store *store, rag_error *err); // sets store->commits
void rag_store__commits_close(rag_store *store);                                    // waits for the requests that run
// Makes the request fail after apply, whatever apply returns; the first failure stays.
void rag_store__txn_fail(rag_txn *txn, rag_status status, const rag_error *error);

// ---- jobs_record.c: a job as it lies in RAG_CF_JOB

// What was asked of a running job and not obeyed yet; on disk: pinned.
typedef enum rag_job__want {
  RAG_JOB__WANT_NOTHING = 0,
  RAG_JOB__WANT_PAUSE = 1,
  RAG_JOB__WANT_CANCEL = 2,
} rag_job__want;

// Borrowed strings: into the value that was decoded, or the caller's.
typedef struct rag_job__record {
  uint64_t id;
  rag_job_state state;
  rag_job__want want;
  uint64_t done, total;
  int64_t created_us, started_us, updated_us, finished_us;
  rag_slice kind, subject, unit, params, cursor, result, error;
} rag_job__record;

void rag_job__key(rag_key *key, uint64_t id);
bool rag_job__key_id(rag_slice key, uint64_t *out_id);
void rag_job__encode(const rag_job__record *record, rag_buf *out); // failure sticks in out
RAG_NODISCARD rag_status rag_job__decode(uint64_t id, rag_slice value, rag_job__record *out, rag_error *err);
// An owned copy for the caller; eta_seconds is left at -1.
RAG_NODISCARD rag_status rag_job__info(const rag_job__record *record, rag_job_info *out, rag_error *err);

#endif
