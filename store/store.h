// store: everything durable. RocksDB behind one adapter (store/rocks.c and rocks_read.c); nothing above this floor sees
// it.
//
// The model: column families of ordered keys; point reads, multi-gets and range scans, at a snapshot or at the newest
// state; and **commits**: requests that a leader gathers into one atomic batch with one synced write-ahead-log write.
// A commit is visible to nobody before it is durable, and durable whole or not at all.
//
// Faults: after a failed write or sync the store is in ERROR: reads go on, every write is RAG_UNAVAILABLE, and
// reopening is the recovery. Corruption is RAG_DATA_LOSS, never served. The write-ahead log is recovered in the mode
// that refuses to open over a damaged middle and accepts a torn tail (see DESIGN of store/rocks.c).
#ifndef RAGD_STORE_H
#define RAGD_STORE_H

#include "base/base.h"

typedef struct rag_store rag_store;       // thread-safe
typedef struct rag_snapshot rag_snapshot; // a fixed state to read at
typedef struct rag_store_iter rag_store_iter;
typedef struct rag_txn rag_txn; // the writes of one commit request, read-your-writes

// Column families. Values are pinned (their names are on disk). Key layouts are the business of the folder that owns
// the rows; tuning (bloom, prefix, blobs, compression) is in store/rocks.c's table.
typedef enum rag_cf {
  RAG_CF_META = 0,     // small things by name: format, kb records, branches, tags, idempotency, API keys
  RAG_CF_DOCUMENT = 1, // document -> its revisions          prefix of 12 bytes: kb u32be, document hash u64be
  RAG_CF_REVISION = 2, // revision record                    point look-ups
  RAG_CF_CONTENT = 3,  // content record: the text           point look-ups, blob files, zstd
  RAG_CF_CHUNK = 4,    // chunk record                       scans by ordinal, small
  RAG_CF_VECTOR = 5,   // full-precision vectors             scans by ordinal, incompressible
  RAG_CF_COMMIT = 6,   // commit records with deltas         point look-ups and short scans
  RAG_CF_BITMAP = 7,   // checkpoints of live sets           rare reads, blob files
  RAG_CF_CACHE = 8,    // (space, text digest) -> chunk      point look-ups, bloom
  RAG_CF_JOB = 9,      // jobs
  RAG_CF_COUNT = 10,
} rag_cf;
const char *rag_cf_name(rag_cf cf);

#define RAG_STORE_FORMAT_VERSION 1u
#define RAG_STORE_KEY_MAX 1024u

typedef struct rag_store_options {
  bool create_if_missing;      // default true in rag_store_options_default
  uint64_t cache_bytes;        // block cache, default 256 MiB
  uint64_t write_buffer_bytes; // all memtables together, default 256 MiB
  // Writes are refused (RAG_RESOURCE_EXHAUSTED) while the disk has less free space; 0: never. See store/space.c.
  uint64_t free_bytes_min; // default RAG_STORE_FREE_AUTO
  bool sync;               // default true; false only for benchmarks and for the mutant of the fault harness
  // The mutant of the kill -9 harness: acknowledge before the write. Never set outside tests.
  bool mutant_acknowledge_early;
  // The mutant of the corruption harness: checks neither files nor checksums. Never set outside tests.
  bool mutant_unchecked;
} rag_store_options;
#define RAG_STORE_FREE_AUTO UINT64_MAX // the next, or 2% of the disk where that is less
#define RAG_STORE_FREE_AUTO_BYTES (UINT64_C(256) << 20)
rag_store_options rag_store_options_default(void);

// Opens (creates) DIR/db. RAG_FAILED_PRECONDITION when another process holds it (field "locked") or the format is newer
// than this program (the message names both versions); RAG_DATA_LOSS when recovery finds damage.
RAG_NODISCARD rag_status rag_store_open(const char *dir, const rag_store_options *options, rag_store **out,
                                        rag_error *err);
void rag_store_close(rag_store *store); // waits for running commits; iterators and snapshots must be gone
const char *rag_store_dir(const rag_store *store);
// RAG_OK, or why writes are refused (after an I/O error).
RAG_NODISCARD rag_status rag_store_writable(rag_store *store, rag_error *err);
void rag_store_set_error_for_test(rag_store *store, const char *why);
// As if the disk had so much; disk_bytes 0: asks the real one again. Looked at by the next write.
void rag_store_set_space_for_test(rag_store *store, uint64_t free_bytes, uint64_t disk_bytes);

// ---------------------------------------------------------------------------------------------- keys

// A key under construction, on the stack. Integers are big-endian, so keys sort in scan order. Overflow asserts:
// callers bound their parts (names, document ids) before.
typedef struct rag_key {
  size_t size;
  unsigned char bytes[RAG_STORE_KEY_MAX];
} rag_key;
static inline rag_slice rag_key_slice(const rag_key *key) {
  return (rag_slice){(const char *)key->bytes, key->size};
}
void rag_key_init(rag_key *key);
void rag_key_u8(rag_key *key, uint8_t v);
void rag_key_u32(rag_key *key, uint32_t v);
void rag_key_u64(rag_key *key, uint64_t v);
void rag_key_raw(rag_key *key, const void *data, size_t size); // fixed-size or last part
void rag_key_bytes(rag_key *key, rag_slice s);                 // u16be length, then the bytes
// The first key after every key that starts with `key` (for upper bounds); false when there is none (all 0xff).
bool rag_key_successor(const rag_key *key, rag_key *out);

// ---------------------------------------------------------------------------------------------- reads

rag_snapshot *rag_snapshot_create(rag_store *store); // NULL: out of memory
void rag_snapshot_destroy(rag_store *store, rag_snapshot *snapshot);

// A value held in place (no copy). Zero-initialise; rag_value_free after use.
typedef struct rag_value {
  rag_slice slice; // borrowed until rag_value_free
  void *pin;
} rag_value;
void rag_value_free(rag_value *value);

// RAG_NOT_FOUND (with no message) when the key is absent. snapshot NULL: the newest committed state.
RAG_NODISCARD rag_status rag_store_get(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, rag_slice key,
                                       rag_value *out, rag_error *err);
// values[i].slice.data is NULL where keys[i] is absent. Free each value.
RAG_NODISCARD rag_status rag_store_multi_get(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, size_t count,
                                             const rag_slice *keys, rag_value *values, rag_error *err);
// Scans [lower, upper) in key order; upper empty: to the end. `reverse`: from the end down.
// for (open; rag_store_iter_next(it); ) { key, value borrowed until the next call }; then check iter_status.
RAG_NODISCARD rag_status rag_store_iter_open(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, rag_slice lower,
                                             rag_slice upper, bool reverse, rag_store_iter **out, rag_error *err);
bool rag_store_iter_next(rag_store_iter *it);
rag_slice rag_store_iter_key(const rag_store_iter *it);
rag_slice rag_store_iter_value(const rag_store_iter *it);
RAG_NODISCARD rag_status rag_store_iter_status(rag_store_iter *it, rag_error *err); // RAG_DATA_LOSS on corruption
void rag_store_iter_close(rag_store_iter *it);

// ---------------------------------------------------------------------------------------------- commits

// One request. The calling thread either becomes the leader (applies every waiting request in order, writes once, syncs
// once, publishes in order) or waits for a leader. Calls on one store are serialised: no two `apply` or `publish` run
// at the same time, so they may touch state that only they touch without a lock of its own.
typedef enum rag_store_room { // what a request means to a disk that is getting full
  RAG_STORE_ROOM_TAKEN = 0,   // refused below the watermark
  RAG_STORE_ROOM_MADE = 1,    // its point is to free space (gc, purge, deletion): goes on to a quarter of that
  RAG_STORE_ROOM_IGNORED = 2, // a few bytes without which the store could not go on: never refused
} rag_store_room;
typedef struct rag_commit_request {
  // Adds this request's writes to txn; sees the writes of requests before it in the group. On error its own writes are
  // taken back and the request fails alone with that error. Must not block on other commits.
  rag_status (*apply)(void *ctx, rag_txn *txn, rag_error *err);
  // After the group is durable, before anybody is answered: make it visible. Must not fail. May be NULL.
  void (*publish)(void *ctx);
  // The group's write failed after a successful apply (or a later request's failure does not concern it: not called):
  // forget in-memory state that apply prepared. May be NULL.
  void (*abandon)(void *ctx);
  void *ctx;
  rag_store_room room;
} rag_commit_request;
RAG_NODISCARD rag_status rag_store_commit(rag_store *store, const rag_commit_request *request, rag_error *err);
#define RAG_STORE_GROUP_REQUESTS_MAX 256u     // requests in one group
#define RAG_STORE_GROUP_BYTES_MAX (64u << 20) // a group stops growing beyond this

// Within apply. Data is copied. Failures (out of memory, too much in one commit) stick in the txn and fail the request.
void rag_txn_put(rag_txn *txn, rag_cf cf, rag_slice key, rag_slice value);
void rag_txn_delete(rag_txn *txn, rag_cf cf, rag_slice key);
// Reads this group's writes over the newest committed state.
RAG_NODISCARD rag_status rag_txn_get(rag_txn *txn, rag_cf cf, rag_slice key, rag_value *out, rag_error *err);
RAG_NODISCARD rag_status rag_txn_iter_open(rag_txn *txn, rag_cf cf, rag_slice lower, rag_slice upper,
                                           rag_store_iter **out, rag_error *err);
rag_store *rag_txn_store(rag_txn *txn);
// RAG_OK, or the failure that sticks. An apply that changes state in memory asks after its last write and before that: a
// request whose writes failed is rolled back, and neither its publish nor its abandon is called.
RAG_NODISCARD rag_status rag_txn_check(const rag_txn *txn, rag_error *err);

// Bulk removal outside commits (gc of unreachable rows): deletes [lower, upper), not synced, idempotent.
RAG_NODISCARD rag_status rag_store_delete_range(rag_store *store, rag_cf cf, rag_slice lower, rag_slice upper,
                                                rag_error *err);
// Physical erasure: flushes memtables, drops the old write-ahead log, and compacts [lower, upper) of cf (empty bounds:
// all) to the bottom, blobs included, so that deleted bytes are gone from the files. Slow; for purge.
RAG_NODISCARD rag_status rag_store_erase_compact(rag_store *store, rag_cf cf, rag_slice lower, rag_slice upper,
                                                 rag_error *err);
RAG_NODISCARD rag_status rag_store_flush(rag_store *store, rag_error *err);

typedef struct rag_store_stats {
  uint64_t commits, groups, syncs, bytes_written; // since open; commits / groups is the mean group size
  uint64_t sst_bytes, blob_bytes, wal_bytes, memtable_bytes, cache_bytes;
  uint64_t estimated_keys[RAG_CF_COUNT];
  uint64_t live_bytes[RAG_CF_COUNT]; // bytes of the current SST and blob files by column family
  // As of the last look that a write took; 0 before.
  uint64_t disk_free_bytes, disk_free_bytes_min;
  bool disk_low;              // writes are refused
  uint64_t disk_low_refusals; // since open
} rag_store_stats;
void rag_store_stats_get(rag_store *store, rag_store_stats *out);

// ---------------------------------------------------------------------------------------------- jobs

// Background work with a durable cursor. A job's record is in RAG_CF_JOB; its runner is a function registered by kind.
//
//   queued --worker--> running --done--> succeeded
//     |  ^               | |  \--error--> failed
//   pause |resume   pause| |cancel
//     v  |               v v
//     paused <-----------+ cancelled        restart: running -> queued, from the cursor
typedef struct rag_jobs rag_jobs; // thread-safe
typedef enum rag_job_state {      // on disk: pinned
  RAG_JOB_QUEUED = 0,
  RAG_JOB_RUNNING = 1,
  RAG_JOB_PAUSED = 2,
  RAG_JOB_SUCCEEDED = 3,
  RAG_JOB_FAILED = 4,
  RAG_JOB_CANCELLED = 5,
} rag_job_state;
const char *rag_job_state_name(rag_job_state state); // "queued", ...
#define RAG_JOB_SUBJECT_MAX 255u
#define RAG_JOB_UNIT_MAX 31u
#define RAG_JOB_PARAMS_MAX (1u << 20)
#define RAG_JOB_CURSOR_MAX (64u << 10)
#define RAG_JOB_RESULT_MAX (1u << 20)
#define RAG_JOBS_LIVE_MAX 4096u      // queued, running and paused together: submitting more is RAG_RESOURCE_EXHAUSTED
#define RAG_JOBS_FINISHED_KEPT 1000u // the newest; older ones are removed as jobs finish
#define RAG_JOBS_KINDS_MAX 32u
#define RAG_JOBS_THREADS_MAX 64u

typedef struct rag_job_info { // owned strings: rag_job_info_free
  uint64_t id;                // from 1
  char *kind;                 // "gc"
  char *subject;              // what it works on: a kb's name, or ""
  rag_job_state state;
  uint64_t done, total;                                    // units of work; total 0: unknown
  char *unit;                                              // "documents"
  int64_t created_us, started_us, updated_us, finished_us; // 0: not yet
  double eta_seconds;                                      // < 0: unknown; from the rate since the job last started
  char *params, *cursor;                                   // opaque bytes of the kind
  size_t params_size, cursor_size;
  char *result; // JSON text, or ""
  char *error;  // message, or ""
} rag_job_info;
void rag_job_info_free(rag_job_info *info);

typedef struct rag_job rag_job; // a running job, as its runner sees it
typedef rag_status (*rag_job_run_fn)(void *ctx, rag_job *job, rag_error *err);

// threads 0: jobs run only by rag_jobs_run_foreground (ragctl in process). Interrupted jobs become queued again but do
// not start before rag_jobs_start, so that every kind is registered first.
RAG_NODISCARD rag_status rag_jobs_open(rag_store *store, unsigned threads, rag_jobs **out, rag_error *err);
void rag_jobs_register(rag_jobs *jobs, const char *kind, rag_job_run_fn run, void *ctx);
// Of the finished jobs of this kind only the newest of each subject stays: work that comes again and again, and whose
// records would drive those out that somebody asked for.
void rag_jobs_keep_newest(rag_jobs *jobs, const char *kind);
RAG_NODISCARD rag_status rag_jobs_start(rag_jobs *jobs, rag_error *err);
void rag_jobs_close(rag_jobs *jobs); // running jobs stop at their next checkpoint and stay resumable

RAG_NODISCARD rag_status rag_jobs_submit(rag_jobs *jobs, const char *kind, const char *subject, rag_slice params,
                                         uint64_t *out_id, rag_error *err);
// The same inside somebody's commit: the job exists if and only if the commit does. Call rag_jobs_wake from publish.
RAG_NODISCARD rag_status rag_jobs_submit_txn(rag_jobs *jobs, rag_txn *txn, const char *kind, const char *subject,
                                             rag_slice params, uint64_t *out_id, rag_error *err);
void rag_jobs_wake(rag_jobs *jobs);
RAG_NODISCARD rag_status rag_jobs_get(rag_jobs *jobs, uint64_t id, rag_job_info *out, rag_error *err);
// Newest first, ids below `before` (0: from the newest), at most limit; *out owned array, free each and the array.
RAG_NODISCARD rag_status rag_jobs_list(rag_jobs *jobs, uint64_t before, uint32_t limit, rag_job_info **out,
                                       uint32_t *out_count, rag_error *err);
RAG_NODISCARD rag_status rag_jobs_pause(rag_jobs *jobs, uint64_t id, rag_error *err);
RAG_NODISCARD rag_status rag_jobs_resume(rag_jobs *jobs, uint64_t id, rag_error *err);
RAG_NODISCARD rag_status rag_jobs_cancel(rag_jobs *jobs, uint64_t id, rag_error *err);
// Waits until the job is no longer queued or running. timeout_ms 0: for ever. RAG_DEADLINE_EXCEEDED.
RAG_NODISCARD rag_status rag_jobs_wait(rag_jobs *jobs, uint64_t id, uint64_t timeout_ms, rag_job_info *out,
                                       rag_error *err);
// Runs queued jobs in the calling thread until none is left; progress (may be NULL) is called at each checkpoint.
RAG_NODISCARD rag_status rag_jobs_run_foreground(rag_jobs *jobs, void (*progress)(void *ctx, const rag_job_info *info),
                                                 void *ctx, rag_error *err);

// For runners. params and cursor are borrowed for the run.
uint64_t rag_job_id(const rag_job *job);
rag_slice rag_job_params(const rag_job *job);
rag_slice rag_job_cursor(const rag_job *job); // empty on the first run
const char *rag_job_subject(const rag_job *job);
// Durable progress. Returns RAG_OK to go on; RAG_CANCELLED or RAG_ABORTED (paused, shutting down): return it at once.
RAG_NODISCARD rag_status rag_job_checkpoint(rag_job *job, rag_slice cursor, uint64_t done, uint64_t total,
                                            const char *unit, rag_error *err);
// Writes the cursor within the runner's own commit (called in apply), so that work and cursor move together.
void rag_job_checkpoint_txn(rag_job *job, rag_txn *txn, rag_slice cursor, uint64_t done, uint64_t total,
                            const char *unit);
bool rag_job_should_stop(rag_job *job); // a cheap poll between checkpoints
RAG_NODISCARD rag_status rag_job_set_result(rag_job *job, const char *json, rag_error *err);

// ---------------------------------------------------------------------------------------------- backups

// A backup directory holds any number of backups of a store, each complete by itself for the reader, and sharing the
// files that did not change on disk (backup.c has the layout). Readers (list, verify, restore) need no store, no lock
// and no RocksDB; what changes a directory (create, delete, keep) holds its lock: RAG_FAILED_PRECONDITION, field
// "locked", where another process does.
#define RAG_BACKUP_FILES_MAX 1000000u
#define RAG_BACKUP_TEXT_MAX 64u
typedef enum rag_backup_state {
  RAG_BACKUP_COMPLETE = 0,
  RAG_BACKUP_INTERRUPTED = 1, // files without a manifest: never finished, or the manifest is lost. Not restorable
  RAG_BACKUP_DAMAGED = 2,     // its manifest cannot be read
} rag_backup_state;
const char *rag_backup_state_name(rag_backup_state state); // "complete", ...
typedef struct rag_backup_info {
  uint32_t id; // from 1, ascending; the newest's is used again once that is deleted
  rag_backup_state state;
  // What follows is of complete ones.
  int64_t created_us;
  uint64_t bytes, files; // to restore
  uint64_t new_bytes;    // that this backup added to the directory
  uint32_t store_format;
  char program[RAG_BACKUP_TEXT_MAX]; // the version that made it
  char store[RAG_BACKUP_TEXT_MAX];   // identity of the store
} rag_backup_info;

// Called now and then with bytes done and in all (0: not known): not RAG_OK stops the work, which fails with that
// status. May be called by another thread, while the caller of the work waits, never by two at once.
typedef rag_status (*rag_backup_progress_fn)(void *ctx, uint64_t done, uint64_t total, rag_error *err);
// One damaged or missing file.
typedef void (*rag_backup_report_fn)(void *ctx, const char *path, const char *what);
typedef struct rag_backup_watch { // NULL anywhere: not wanted
  rag_backup_progress_fn progress;
  rag_backup_report_fn report; // verify alone
  void *ctx;
} rag_backup_watch;

// A backup of the store as it is at some point during the call, while writes go on. It is durable, and the files that it
// added have been read back and checked, when the call returns; before that it is not a backup. `program`: its version.
RAG_NODISCARD rag_status rag_store_backup(rag_store *store, const char *dir, const char *program,
                                          const rag_backup_watch *watch, rag_backup_info *out, rag_error *err);
// Identity of an open store, for comparison. A restored store has one of its own.
RAG_NODISCARD rag_status rag_store_identity(rag_store *store, char out[RAG_BACKUP_TEXT_MAX], rag_error *err);
// By id; *out owned (rag_free). A directory that is not there, or empty, has none.
RAG_NODISCARD rag_status rag_backup_list(const char *dir, rag_backup_info **out, uint32_t *out_count, rag_error *err);
// Reads every file of a backup (id 0: the newest) and checks size and CRC32C. RAG_DATA_LOSS names the first bad file;
// all of them go to watch->report. *out (may be NULL): which one it was.
RAG_NODISCARD rag_status rag_backup_verify(const char *dir, uint32_t id, const rag_backup_watch *watch,
                                           rag_backup_info *out, rag_error *err);
// Removes a backup, in any state, and what no other needs. RAG_NOT_FOUND.
RAG_NODISCARD rag_status rag_backup_delete(const char *dir, uint32_t id, rag_error *err);
// Removes all but the newest `keep` (> 0) complete ones; interrupted and damaged ones are left alone.
RAG_NODISCARD rag_status rag_backup_keep(const char *dir, uint32_t keep, uint32_t *out_removed, rag_error *err);
// Restores a backup (0: the newest, which must not be damaged) as the data directory `to`, which must not exist or be
// empty: under a temporary name beside it, every byte checked, synced, opened once, renamed. After any failure or kill
// `to` is as it was.
RAG_NODISCARD rag_status rag_backup_restore(const char *dir, uint32_t id, const char *to, const rag_backup_watch *watch,
                                            rag_backup_info *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- checking

// Reads every block of every table and checks its checksum. Blob values are checked as they are read, so a check of
// everything also scans every family. RAG_DATA_LOSS.
RAG_NODISCARD rag_status rag_store_verify_tables(rag_store *store, rag_error *err);

#endif
