// The RocksDB adapter's own header: foreign types, included by rocks.c and rocks_read.c and nothing else.
#ifndef RAGD_STORE_ROCKS_H
#define RAGD_STORE_ROCKS_H

#include "store/store_internal.h"

#include <rocksdb/c.h>

#define DOCUMENT_PREFIX_BYTES 12u

// Everything here is immutable after open; RocksDB's handles are thread-safe.
struct rag_store__db {
  rocksdb_t *db;
  char *path;
  rocksdb_cache_t *cache;
  rocksdb_column_family_handle_t *default_cf; // RocksDB insists on one; ours stays empty
  rocksdb_column_family_handle_t *cf[RAG_CF_COUNT];
  rocksdb_options_t *options;
  rocksdb_options_t *cf_options[RAG_CF_COUNT];
  rocksdb_readoptions_t *read_newest; // point reads of the newest state
  rocksdb_writeoptions_t *write_commit;
  rocksdb_writeoptions_t *write_bulk; // never synced
  pthread_mutex_t erase_lock;         // one erasure at a time: it changes options for its duration
};

// Turns a RocksDB message into a status and frees it. `what` says what was being done.
rag_status rag_store__rocks_fail(rag_error *err, const char *what, char *message);
rocksdb_readoptions_t *rag_store__read_options(const rag_store *store);

#endif
