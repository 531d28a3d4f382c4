// The RocksDB adapter, part one: opening with a tuning table, errors, physical erasure, statistics. Part two, reads and
// batches, is rocks_read.c. No other file includes RocksDB's header.
//
// Invariants
//  1. Recovery never loses an acknowledged write in silence. The write-ahead log is recovered in the mode
//     tolerate-corrupted-tail (0): a record cut short at the end of the log, which is what a crash in mid-write leaves
//     and what nobody was told is durable, is dropped; damage before the end refuses to open (RAG_DATA_LOSS). RocksDB's
//     default, point-in-time (2), stops at the first bad record and calls what is left a success: one flipped bit lost
//     500 of 1,000 acknowledged keys, and nothing said so. Mode 0 needs paranoid_checks; without them it only logs.
//     Two kinds of damage still read as a torn tail to it, so seal.c looks at the files first. recycle_log_file_num stays 0: recycled logs end in old records, which this mode takes for damage, and they
//     would keep erased bytes.
//  2. Every column family writes through the one log. So atomic_flush is off: it exists to keep families level when
//  they
//     are written *without* a log. With it, a family that was flushed late is replayed from the log up to the same
//     record as the others, and a flush first syncs every closed log, so no family's files can run ahead of the log.
//     Turned on, one full memtable would flush all ten families, most of them nearly empty.
//  3. Every read checks block checksums (verify_checksums); damage is RAG_DATA_LOSS and never data.
//  4. RocksDB's own log goes into ours, warnings and errors alone (rocks_log.cpp says why it may not be a file of its
//     own): no key ranges of compactions, which its level INFO prints.
//  5. The manifest is rewritten at every change of the file set (max_manifest_file_size 1). Otherwise it would keep the
//     smallest and largest *keys* of files that are long gone, and erasure would not be. It costs two more syncs per
//     flush or compaction, off the commit path.
//
// Memory: RocksDB allocates with new and ends the process where that throws. What it uses is bounded by the block cache
// (index and filter blocks are charged to it) and by db_write_buffer_size.
//
// Threads: everything is immutable after open; RocksDB's handles are thread-safe. erase_lock: one erasure at a time.
//
// Format: DIR/db is RocksDB's. The names of the column families are pinned.
#include "store/rocks.h"

#include "store/rocks_backup.h"
#include "store/rocks_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
  COMPRESS_NONE = rocksdb_no_compression,
  COMPRESS_LZ4 = rocksdb_lz4_compression,
  COMPRESS_ZSTD = rocksdb_zstd_compression
};

#define RECOVERY_MODE rocksdb_tolerate_corrupted_tail_records_recovery
#define OPEN_FILES_MAX 512                    // the usual soft limit of a process is 1,024 descriptors
#define MEMTABLE_BYTES_MAX ((size_t)64 << 20) // of one column family; all together: options.write_buffer_bytes
#define MEMTABLE_BYTES_MIN ((size_t)1 << 20)
#define BYTES_PER_SYNC ((uint64_t)1 << 20) // background writes reach the disk in pieces, not as one burst
#define SST_BYTES ((uint64_t)64 << 20)
#define METADATA_BLOCK_BYTES 4096u // a piece of an index or a filter
#define BLOB_FILE_BYTES ((uint64_t)256 << 20)
#define BLOB_GC_AGE_CUTOFF "0.25" // of the blob files, the oldest quarter is collected by compaction
#define BLOB_GC_FORCE 0.5         // and sooner where half of their bytes are garbage
#define BACKGROUND_JOBS_MAX 8u
#define ERASE_WAIT_MS 30000u // for older snapshots and running compactions

typedef enum { FILTER_NONE, FILTER_WHOLE_KEY, FILTER_PREFIX } filter_kind;

// How each family is stored. Blob files keep large values out of compaction: a value is written once and moved only by
// their garbage collection. A filter answers "not here" for a key that is absent; where absent keys are not asked for
// it is memory for nothing.
typedef struct cf_tuning {
  const char *name; // on disk
  int compression;
  filter_kind filter;
  uint64_t blob_bytes_min; // values from here on go to blob files; 0: none do
  int blob_compression;
  size_t block_bytes;
} cf_tuning;

static const cf_tuning TUNING[RAG_CF_COUNT] = {
    // Names and idempotency keys are mostly asked for before they exist.
    [RAG_CF_META] = {"meta", COMPRESS_LZ4, FILTER_WHOLE_KEY, 0, 0, 4096},
    // "Has this document a revision?" is a scan of one prefix, and for a new document the answer is no.
    [RAG_CF_DOCUMENT] = {"document", COMPRESS_LZ4, FILTER_PREFIX, 0, 0, 4096},
    // Metadata is JSON text: zstd.
    [RAG_CF_REVISION] = {"revision", COMPRESS_ZSTD, FILTER_WHOLE_KEY, 0, 0, 8192},
    // Texts. Small ones stay in the table, where zstd sees neighbours; a blob is compressed alone.
    [RAG_CF_CONTENT] = {"content", COMPRESS_ZSTD, FILTER_WHOLE_KEY, 1024, COMPRESS_ZSTD, 16384},
    [RAG_CF_CHUNK] = {"chunk", COMPRESS_LZ4, FILTER_NONE, 0, 0, 8192},
    // Not in blob files, whatever their size: rows come in the order of their ordinals and are hardly ever rewritten,
    // so
    // there is no compaction to save (200,000 rows of 1,536 bytes: load and flush 3.3 to 3.7 s in tables, 3.9 to 4.5 s
    // in
    // blob files; space the same within 3%), and the scans that build segments pay for it: 0.3 s against 1.2 s, and 0.4
    // s
    // against 1.0 s for 100,000 rows of 4,096 bytes.
    [RAG_CF_VECTOR] = {"vector", COMPRESS_NONE, FILTER_NONE, 0, 0, 16384},
    [RAG_CF_COMMIT] = {"commit", COMPRESS_LZ4, FILTER_NONE, 0, 0, 8192},
    // CRoaring images are compact already.
    [RAG_CF_BITMAP] = {"bitmap", COMPRESS_NONE, FILTER_NONE, 1024, COMPRESS_NONE, 8192},
    // Every chunk of a new text is looked for here, and most are not there.
    [RAG_CF_CACHE] = {"cache", COMPRESS_LZ4, FILTER_WHOLE_KEY, 0, 0, 4096},
    [RAG_CF_JOB] = {"job", COMPRESS_LZ4, FILTER_NONE, 0, 0, 4096},
};

const char *rag_cf_name(rag_cf cf) {
  return (unsigned)cf < RAG_CF_COUNT ? TUNING[cf].name : "unknown";
}

rag_store_options rag_store_options_default(void) {
  return (rag_store_options){.create_if_missing = true,
                             .cache_bytes = 256u << 20,
                             .write_buffer_bytes = 256u << 20,
                             .free_bytes_min = RAG_STORE_FREE_AUTO,
                             .sync = true};
}

// ---------------------------------------------------------------------------------------------- errors

static bool starts_with(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

// RocksDB's C interface hands out text alone, so the status is read from its first words, which are the names of its
// codes (Status::ToString).
rag_status rag_store__rocks_fail(rag_error *err, const char *what, char *message) {
  rag_status status;
  // Two forms: another process has the lock file; this process has it already.
  bool locked = strstr(message, "While lock file") != NULL || strstr(message, "lock hold by current process") != NULL;
  if (locked)
    status = rag_fail_field(err, RAG_FAILED_PRECONDITION, "locked",
                            "the store is open in another process; stop that one, or talk to it (%s)", message);
  else if (starts_with(message, "Corruption")) status = rag_fail(err, RAG_DATA_LOSS, "%s: %s", what, message);
  else if (starts_with(message, "NotFound")) status = rag_fail(err, RAG_NOT_FOUND, "%s: %s", what, message);
  else if (strstr(message, "No space left on device") != NULL || strstr(message, "NoSpace") != NULL)
    status =
        rag_fail(err, RAG_UNAVAILABLE, "%s: the disk is full; free space and reopen the store (%s)", what, message);
  else if (starts_with(message, "IO error: No such file"))
    status = rag_fail(err, RAG_DATA_LOSS, "%s: a file of the store is missing (%s)", what, message);
  else if (starts_with(message, "IO error")) status = rag_fail(err, RAG_UNAVAILABLE, "%s: %s", what, message);
  else status = rag_fail(err, RAG_INTERNAL, "%s: %s", what, message);
  rocksdb_free(message);
  return status;
}

rocksdb_readoptions_t *rag_store__read_options(const rag_store *store) {
  rocksdb_readoptions_t *options = rocksdb_readoptions_create();
  rocksdb_readoptions_set_verify_checksums(options, !store->options.mutant_unchecked);
  return options;
}

// ---------------------------------------------------------------------------------------------- open, close

static rag_status db_path(const char *dir, char **out, rag_error *err) {
  rag_buf buf = {0};
  rag_buf_printf(&buf, "%s/db", dir);
  rag_status status = rag_buf_check(&buf, err);
  if (status == RAG_OK) *out = buf.data;
  else rag_buf_free(&buf);
  return status;
}

bool rag_store__db_exists(const char *dir) {
  rag_buf buf = {0};
  rag_buf_printf(&buf, "%s/db/CURRENT", dir);
  bool exists = !buf.failed && rag_os_exists(buf.data);
  rag_buf_free(&buf);
  return exists;
}

static void log_line(const char *line) {
  // No warnings: every backup counts deletions up and down twice, and checking a table opens it beside its record.
  if (strstr(line, "File Deletions") != NULL || strstr(line, "without unique ID to verify") != NULL) return;
  rag_log(RAG_LOG_WARN, "store.rocksdb", "text=%s", line);
}

static rocksdb_options_t *make_db_options(const rag_store_options *options) {
  unsigned cpus = rag_os_cpu_count();
  rocksdb_options_t *o = rocksdb_options_create();
  rocksdb_options_set_create_if_missing(o, options->create_if_missing);
  // Always: a creation that was cut short has made some of the families.
  rocksdb_options_set_create_missing_column_families(o, 1);
  rocksdb_options_set_paranoid_checks(o, 1);
  rocksdb_options_set_wal_recovery_mode(o, RECOVERY_MODE);
  rocksdb_options_set_recycle_log_file_num(o, 0);
  rocksdb_options_set_atomic_flush(o, 0);
  // A family that is rarely written pins the log; beyond this it is flushed, so that reopening replays no more than
  // this.
  rocksdb_options_set_max_total_wal_size(o, 2 * options->write_buffer_bytes);
  rocksdb_options_set_db_write_buffer_size(o, options->write_buffer_bytes);
  rocksdb_options_set_bytes_per_sync(o, BYTES_PER_SYNC);
  rocksdb_options_set_wal_bytes_per_sync(o, BYTES_PER_SYNC);
  rocksdb_options_set_max_background_jobs(o, (int)RAG_MAX(2u, RAG_MIN(cpus, BACKGROUND_JOBS_MAX)));
  rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
  rocksdb_options_set_max_manifest_file_size(o, 1);
  rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
  rocksdb_options_set_stats_dump_period_sec(o, 0);
  return o;
}

static rocksdb_block_based_table_options_t *make_table_options(const cf_tuning *tuning, rocksdb_cache_t *cache) {
  rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
  rocksdb_block_based_options_set_block_cache(table, cache);
  rocksdb_block_based_options_set_block_size(table, tuning->block_bytes);
  rocksdb_block_based_options_set_format_version(table, 5);
  rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
  rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
  rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
  // Indexes and filters in pieces, of which the first floor is pinned: a table of small rows has a filter of megabytes,
  // which a shard of the cache may not hold at all, and which was then read whole at every look-up (2 ms a commit).
  rocksdb_block_based_options_set_index_type(table, rocksdb_block_based_table_index_type_two_level_index_search);
  rocksdb_block_based_options_set_metadata_block_size(table, METADATA_BLOCK_BYTES);
  rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
  if (tuning->filter != FILTER_NONE) {
    // 10 bits a key: about 1% of absent keys get through.
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_block_based_options_set_partition_filters(table, 1);
    rocksdb_block_based_options_set_whole_key_filtering(table, tuning->filter == FILTER_WHOLE_KEY);
  }
  return table;
}

static rocksdb_options_t *make_cf_options(const cf_tuning *tuning, const rag_store_options *options,
                                          rocksdb_cache_t *cache) {
  size_t memtable = RAG_MAX(MEMTABLE_BYTES_MIN, RAG_MIN(MEMTABLE_BYTES_MAX, options->write_buffer_bytes / 4));
  rocksdb_options_t *o = rocksdb_options_create();
  rocksdb_block_based_table_options_t *table = make_table_options(tuning, cache);
  rocksdb_options_set_block_based_table_factory(o, table);
  rocksdb_block_based_options_destroy(table);
  rocksdb_options_set_write_buffer_size(o, memtable);
  rocksdb_options_set_compression(o, tuning->compression);
  rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
  rocksdb_options_set_target_file_size_base(o, SST_BYTES);
  if (tuning->filter == FILTER_PREFIX) {
    rocksdb_options_set_prefix_extractor(o, rocksdb_slicetransform_create_fixed_prefix(DOCUMENT_PREFIX_BYTES));
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0.05);
  } else if (tuning->filter == FILTER_WHOLE_KEY) {
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0.05);
    rocksdb_options_set_memtable_whole_key_filtering(o, 1);
  }
  if (tuning->blob_bytes_min > 0) {
    rocksdb_options_set_enable_blob_files(o, 1);
    rocksdb_options_set_min_blob_size(o, tuning->blob_bytes_min);
    rocksdb_options_set_blob_file_size(o, BLOB_FILE_BYTES);
    rocksdb_options_set_blob_compression_type(o, tuning->blob_compression);
    rocksdb_options_set_enable_blob_gc(o, 1);
    rocksdb_options_set_blob_gc_age_cutoff(o, strtod(BLOB_GC_AGE_CUTOFF, NULL));
    rocksdb_options_set_blob_gc_force_threshold(o, BLOB_GC_FORCE);
    rocksdb_options_set_blob_compaction_readahead_size(o, 2 << 20);
  }
  return o;
}

static rag_status open_families(rag_store__db *db, rag_error *err) {
  const char *names[RAG_CF_COUNT + 1] = {"default"};
  const rocksdb_options_t *options[RAG_CF_COUNT + 1] = {db->options};
  rocksdb_column_family_handle_t *handles[RAG_CF_COUNT + 1] = {NULL};
  char *message = NULL;
  for (int i = 0; i < RAG_CF_COUNT; i++) {
    names[i + 1] = TUNING[i].name;
    options[i + 1] = db->cf_options[i];
  }
  db->db = rocksdb_open_column_families(db->options, db->path, RAG_CF_COUNT + 1, names, options, handles, &message);
  if (message != NULL) {
    db->db = NULL;
    return rag_store__rocks_fail(err, "open the store", message);
  }
  db->default_cf = handles[0];
  memcpy(db->cf, handles + 1, sizeof db->cf);
  return RAG_OK;
}

rag_status rag_store__db_open(rag_store *store, rag_error *err) {
  rag_store__db *db = rag_calloc(1, sizeof *db);
  if (db == NULL) return rag_fail_no_memory(err, sizeof *db);
  pthread_mutex_init(&db->erase_lock, NULL);
  store->db = db;
  rag_status status = db_path(store->dir, &db->path, err);
  if (status == RAG_OK) {
    db->cache = rocksdb_cache_create_lru(store->options.cache_bytes);
    db->options = make_db_options(&store->options);
    rag_rocks_identity_apart(db->options);
    if (!rag_store_rocks_log(db->options, log_line)) status = rag_fail_no_memory(err, 0);
    for (int i = 0; i < RAG_CF_COUNT; i++) db->cf_options[i] = make_cf_options(&TUNING[i], &store->options, db->cache);
    db->read_newest = rag_store__read_options(store);
    db->write_commit = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(db->write_commit, store->options.sync);
    db->write_bulk = rocksdb_writeoptions_create();
    if (status == RAG_OK) status = open_families(db, err);
  }
  if (status != RAG_OK) rag_store__db_close(store);
  return status;
}

void rag_store__db_close(rag_store *store) {
  rag_store__db *db = store->db;
  if (db == NULL) return;
  for (int i = 0; i < RAG_CF_COUNT; i++)
    if (db->cf[i] != NULL) rocksdb_column_family_handle_destroy(db->cf[i]);
  if (db->default_cf != NULL) rocksdb_column_family_handle_destroy(db->default_cf);
  if (db->db != NULL) rocksdb_close(db->db);
  if (db->write_bulk != NULL) rocksdb_writeoptions_destroy(db->write_bulk);
  if (db->write_commit != NULL) rocksdb_writeoptions_destroy(db->write_commit);
  if (db->read_newest != NULL) rocksdb_readoptions_destroy(db->read_newest);
  for (int i = 0; i < RAG_CF_COUNT; i++)
    if (db->cf_options[i] != NULL) rocksdb_options_destroy(db->cf_options[i]);
  if (db->options != NULL) rocksdb_options_destroy(db->options);
  if (db->cache != NULL) rocksdb_cache_destroy(db->cache);
  pthread_mutex_destroy(&db->erase_lock);
  rag_free(db->path);
  rag_free(db);
  store->db = NULL;
}

// The folders of a new store, durable before anything in them is: RocksDB makes DIR/db itself where it is missing and
// does not sync DIR, so a power cut could take the whole store with every acknowledged commit. The folder above is synced
// also where DIR is there already, as an earlier start may have died just after making it; one that may not be read was
// not made by this program.
static rag_status make_folders(const char *dir, rag_error *err) {
  rag_buf path = {0};
  rag_status status;
  rag_buf_printf(&path, "%s/db", dir);
  RAG_TRY_OUT(rag_buf_check(&path, err));
  RAG_TRY_OUT(rag_os_make_dirs(path.data, err));
  RAG_TRY_OUT(rag_os_sync_dir(dir, err));
  rag_buf_clear(&path);
  rag_buf_printf(&path, "%s/..", dir);
  RAG_TRY_OUT(rag_buf_check(&path, err));
  status = rag_os_sync_dir(path.data, err);
  if (status == RAG_PERMISSION_DENIED) status = RAG_OK;
out:
  rag_buf_free(&path);
  return status;
}

static bool file_exists(const char *dir, const char *name) {
  rag_buf path = {0};
  rag_buf_printf(&path, "%s/%s", dir, name);
  bool exists = !path.failed && rag_os_exists(path.data);
  rag_buf_free(&path);
  return exists;
}

// RocksDB has a lock too, but takes it too late: the files are looked at before it is called.
static rag_status lock_store(const char *dir, int *out, rag_error *err) {
  rag_buf path = {0};
  rag_status status;
  int fd = -1;
  rag_buf_printf(&path, "%s/LOCK", dir);
  RAG_TRY_OUT(rag_buf_check(&path, err));
  fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) status = rag_os_fail(err, "open", path.data, errno);
  else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
    status = errno == EWOULDBLOCK
                 ? rag_fail_field(err, RAG_FAILED_PRECONDITION, "locked",
                                  "the store in %s is open in another process; stop that one, or talk to it", dir)
                 : rag_os_fail(err, "lock", path.data, errno);
  if (status == RAG_OK) *out = fd;
  else if (fd >= 0) close(fd);
out:
  rag_buf_free(&path);
  return status;
}

// Everything that is said of the files before RocksDB opens them. *fresh: there is no store yet.
static rag_status look_before_opening(const char *dir, const rag_store_options *options, bool *fresh, rag_error *err) {
  bool exists = rag_store__db_exists(dir), format = file_exists(dir, "FORMAT");
  if (exists && !options->mutant_unchecked) RAG_TRY(rag_store__format_check(dir, exists, err)); // a newer one's files?
  if (format && !file_exists(dir, "db"))
    return rag_fail(err, RAG_DATA_LOSS, "%s/db is missing; restore the store from a backup", dir);
  if (!options->mutant_unchecked) RAG_TRY(rag_store__files_check(dir, format, err));
  if (!exists && !options->create_if_missing) return rag_fail(err, RAG_NOT_FOUND, "there is no store in %s", dir);
  *fresh = !exists;
  return RAG_OK;
}

rag_status rag_store_open(const char *dir, const rag_store_options *options, rag_store **out, rag_error *err) {
  rag_store_options defaults = rag_store_options_default();
  rag_store *store = NULL;
  bool fresh = false;
  int lock_fd = -1;
  rag_status status;

  if (options == NULL) options = &defaults;
  if (!rag_os_exists(dir)) {
    if (!options->create_if_missing) return rag_fail(err, RAG_NOT_FOUND, "there is no store in %s", dir);
    RAG_TRY(rag_os_make_dirs(dir, err));
  }
  RAG_TRY(lock_store(dir, &lock_fd, err));
  RAG_TRY_OUT(look_before_opening(dir, options, &fresh, err));
  if (fresh) RAG_TRY_OUT(make_folders(dir, err));
  if (fresh) RAG_TRY_OUT(rag_store__format_check(dir, false, err));
  RAG_TRY_OUT(rag_store__seal_break(dir, err));

  store = rag_calloc(1, sizeof *store);
  if (store == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, sizeof *store));
  store->lock_fd = lock_fd;
  lock_fd = -1;
  pthread_mutex_init(&store->error_lock, NULL);
  store->options = *options;
  store->dir = rag_strdup(dir);
  if (store->dir == NULL) {
    status = rag_fail_no_memory(err, strlen(dir) + 1);
    goto out;
  }
  RAG_TRY_OUT(rag_store__db_open(store, err));
  RAG_TRY_OUT(rag_store__commits_open(store, err));
  *out = store;
  store = NULL;
out:
  rag_store_close(store);
  if (lock_fd >= 0) close(lock_fd);
  return status;
}

// What is in the logs goes to tables, where nothing that is cut off can pass for a crash; then the files are sealed.
static bool flush_before_closing(rag_store *store) {
  rag_error err = {0};
  if (rag_store_writable(store, &err) != RAG_OK) return false;
  return rag_store_flush(store, &err) == RAG_OK;
}

void rag_store_close(rag_store *store) {
  rag_error err = {0};
  if (store == NULL) return;
  bool was_open = store->commits != NULL;
  rag_store__commits_close(store);
  bool in_order = was_open && flush_before_closing(store);
  RAG_ASSERT(atomic_load_explicit(&store->handles, memory_order_relaxed) == 0);
  rag_store__db_close(store);
  if (in_order && rag_store__seal_write(store->dir, &err) != RAG_OK)
    rag_log(RAG_LOG_WARN, "store.not_sealed", "dir=%s why=%s", store->dir, err.message); // as after a crash: no harm
  close(store->lock_fd);
  pthread_mutex_destroy(&store->error_lock);
  rag_free(store->dir);
  rag_free(store);
}

const char *rag_store_dir(const rag_store *store) {
  return store->dir;
}

// ---------------------------------------------------------------------------------------------- bulk removal, flush

// Greater than every key: keys have at most RAG_STORE_KEY_MAX bytes.
static rag_slice end_of_keys(unsigned char bytes[RAG_STORE_KEY_MAX + 1]) {
  memset(bytes, 0xff, RAG_STORE_KEY_MAX + 1);
  return rag_slice_of(bytes, RAG_STORE_KEY_MAX + 1);
}

rag_status rag_store_delete_range(rag_store *store, rag_cf cf, rag_slice lower, rag_slice upper, rag_error *err) {
  unsigned char end[RAG_STORE_KEY_MAX + 1];
  char *message = NULL;
  RAG_TRY(rag_store_writable(store, err));
  if (upper.size == 0) upper = end_of_keys(end);
  if (rag_slice_compare(lower, upper) >= 0) return RAG_OK;
  rocksdb_delete_range_cf(store->db->db, store->db->write_bulk, store->db->cf[cf], lower.data, lower.size, upper.data,
                          upper.size, &message);
  if (message == NULL) return RAG_OK;
  rag_error local = {0};
  rag_store__rocks_fail(&local, "delete a range", message);
  rag_store__set_error(store, local.message);
  return rag_store_writable(store, err);
}

rag_status rag_store_flush(rag_store *store, rag_error *err) {
  rag_store__db *db = store->db;
  rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
  char *message = NULL;
  rocksdb_flushoptions_set_wait(options, 1);
  for (int i = 0; i < RAG_CF_COUNT && message == NULL; i++) rocksdb_flush_cf(db->db, options, db->cf[i], &message);
  rocksdb_flushoptions_destroy(options);
  if (message == NULL) return RAG_OK;
  // RocksDB refuses writes after a failed flush; say so now and not at the next commit.
  rag_error local = {0};
  rag_store__rocks_fail(&local, "flush", message);
  rag_store__set_error(store, local.message);
  return rag_store_writable(store, err);
}

// ---------------------------------------------------------------------------------------------- statistics

static uint64_t cf_property(rag_store__db *db, int cf, const char *name) {
  uint64_t value = 0;
  return rocksdb_property_int_cf(db->db, db->cf[cf], name, &value) == 0 ? value : 0;
}

// Bytes of the write-ahead logs: the files named *.log. RocksDB has no property for it.
static uint64_t wal_bytes(const char *path) {
  uint64_t bytes = 0;
  DIR *dir = opendir(path);
  if (dir == NULL) return 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    size_t size = strlen(entry->d_name);
    struct stat info;
    if (size > 4 && strcmp(entry->d_name + size - 4, ".log") == 0 &&
        fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 && info.st_size > 0)
      bytes += (uint64_t)info.st_size;
  }
  closedir(dir);
  return bytes;
}

void rag_store_stats_get(rag_store *store, rag_store_stats *out) {
  rag_store__db *db = store->db;
  *out = (rag_store_stats){
      .commits = atomic_load_explicit(&store->commit_count, memory_order_relaxed),
      .groups = atomic_load_explicit(&store->group_count, memory_order_relaxed),
      .syncs = atomic_load_explicit(&store->sync_count, memory_order_relaxed),
      .bytes_written = atomic_load_explicit(&store->bytes_written, memory_order_relaxed),
      .wal_bytes = wal_bytes(db->path),
      .cache_bytes = rocksdb_cache_get_usage(db->cache),
  };
  for (int i = 0; i < RAG_CF_COUNT; i++) {
    out->sst_bytes += cf_property(db, i, "rocksdb.total-sst-files-size");
    out->blob_bytes += cf_property(db, i, "rocksdb.total-blob-file-size");
    out->memtable_bytes += cf_property(db, i, "rocksdb.size-all-mem-tables");
    out->estimated_keys[i] = cf_property(db, i, "rocksdb.estimate-num-keys");
    out->live_bytes[i] =
        cf_property(db, i, "rocksdb.live-sst-files-size") + cf_property(db, i, "rocksdb.live-blob-file-size");
  }
  rag_store__space_stats(store, out);
}

// ---------------------------------------------------------------------------------------------- physical erasure

static void sleep_ms(unsigned ms) {
  struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
  nanosleep(&pause, NULL);
}

// A snapshot from before the deletions keeps the deleted rows alive through any compaction. Searches hold snapshots for
// milliseconds, so wait for them; a reader that stays longer is named in the error.
static rag_status wait_for_older_snapshots(rag_store__db *db, rag_error *err) {
  uint64_t now = rocksdb_get_latest_sequence_number(db->db);
  for (unsigned waited = 0;; waited += 5) {
    uint64_t oldest = 0;
    // 0: no snapshot at all.
    if (rocksdb_property_int(db->db, "rocksdb.oldest-snapshot-sequence", &oldest) != 0 || oldest == 0 || oldest >= now)
      return RAG_OK;
    if (waited >= ERASE_WAIT_MS)
      return rag_fail(err, RAG_ABORTED,
                      "a reader has held a snapshot from before the deletion for %u s and keeps the deleted rows; end "
                      "it and erase again",
                      ERASE_WAIT_MS / 1000);
    sleep_ms(5);
  }
}

// RocksDB unlinks files that a flush or compaction has made obsolete after it has answered. A job counts as running
// until it has unlinked its own.
static void wait_for_unlinks(rag_store__db *db) {
  for (unsigned waited = 0; waited < ERASE_WAIT_MS; waited += 2) {
    uint64_t flushes = 0, compactions = 0;
    rocksdb_property_int(db->db, "rocksdb.num-running-flushes", &flushes);
    rocksdb_property_int(db->db, "rocksdb.num-running-compactions", &compactions);
    if (flushes + compactions == 0) return;
    sleep_ms(2);
  }
}

static rag_status set_option(rag_store__db *db, rag_cf cf, const char *name, const char *value, rag_error *err) {
  char *message = NULL;
  rocksdb_set_options_cf(db->db, db->cf[cf], 1, &name, &value, &message);
  return message == NULL ? RAG_OK : rag_store__rocks_fail(err, "set an option", message);
}

static uint64_t background_errors(rag_store__db *db) {
  uint64_t errors = 0;
  rocksdb_property_int(db->db, "rocksdb.background-errors", &errors);
  return errors;
}

// Compacts the range to the bottom. RocksDB's C interface drops the result of a compaction, so its counter of
// background errors stands in for it.
static rag_status compact(rag_store *store, rag_cf cf, rag_slice lower, rag_slice upper, rag_error *err) {
  rag_store__db *db = store->db;
  uint64_t errors = background_errors(db);
  rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
  rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0);
  // 2, "force": the bottom level is rewritten too, also where nothing above it overlaps.
  rocksdb_compactoptions_set_bottommost_level_compaction(options, 2);
  rocksdb_compact_range_cf_opt(db->db, db->cf[cf], options, lower.size ? lower.data : NULL, lower.size,
                               upper.size ? upper.data : NULL, upper.size);
  rocksdb_compactoptions_destroy(options);
  if (background_errors(db) == errors) return RAG_OK;
  return rag_fail(err, RAG_UNAVAILABLE, "compaction of '%s' failed (see the server's log); deleted bytes may remain",
                  TUNING[cf].name);
}

rag_status rag_store_erase_compact(rag_store *store, rag_cf cf, rag_slice lower, rag_slice upper, rag_error *err) {
  rag_store__db *db = store->db;
  bool blobs = TUNING[cf].blob_bytes_min > 0;
  char *message = NULL;
  rag_status status;

  RAG_TRY(rag_store_writable(store, err));
  pthread_mutex_lock(&db->erase_lock);
  RAG_TRY_OUT(wait_for_older_snapshots(db, err));
  // Flushing every family makes every log up to here obsolete: its bytes go with the files.
  RAG_TRY_OUT(rag_store_flush(store, err));
  if (blobs) {
    // A blob file goes when no table refers to it, so all of the family moves to new files, whatever the range is.
    lower = upper = (rag_slice){0};
    RAG_TRY_OUT(set_option(db, cf, "blob_garbage_collection_age_cutoff", "1.0", err));
  }
  status = compact(store, cf, lower, upper, err);
  // Also without blobs: a change of options is a change of the manifest, which is then written anew without the keys of
  // the files that the compaction removed.
  rag_status restored = set_option(db, cf, "blob_garbage_collection_age_cutoff", BLOB_GC_AGE_CUTOFF, err);
  if (status == RAG_OK) status = restored;
  if (status != RAG_OK) goto out;
  wait_for_unlinks(db);
  // This pair unlinks in this thread whatever is obsolete by now.
  rocksdb_disable_file_deletions(db->db, &message);
#ifdef RAGD_ROCKSDB_ENABLE_FILE_DELETIONS_UNFORCED
  if (message == NULL) rocksdb_enable_file_deletions(db->db, &message);
#else
  if (message == NULL) rocksdb_enable_file_deletions(db->db, 0, &message);
#endif
  if (message != NULL) status = rag_store__rocks_fail(err, "remove obsolete files", message);
out:
  pthread_mutex_unlock(&db->erase_lock);
  return status;
}
