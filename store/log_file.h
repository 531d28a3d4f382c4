// Private to store/: reading RocksDB's record files (write-ahead logs, manifests) before RocksDB does. See log_file.c.
#ifndef RAGD_STORE_LOG_FILE_H
#define RAGD_STORE_LOG_FILE_H

#include "store/store_internal.h"

typedef enum log_file_end {
  LOG_FILE_WHOLE = 0, // ends after a record
  LOG_FILE_TORN = 1,  // the last record is cut short, as by a crash in mid-write
} log_file_end;

// Each whole record in order; `offset` is where it begins. Not RAG_OK stops the walk.
typedef rag_status (*log_file_record_fn)(void *ctx, uint64_t offset, rag_slice record, rag_error *err);

// Walks a file. RAG_DATA_LOSS names the file and the offset of damage that no crash explains.
RAG_NODISCARD rag_status rag_store__log_file_walk(const char *path, log_file_record_fn each, void *ctx,
                                                  log_file_end *out_end, rag_error *err);

#endif
