// The C face of RocksDB's logger, which its C interface does not offer (rocks_log.cpp). Does not include base.h, which
// is C only.
#ifndef RAGD_STORE_ROCKS_LOG_H
#define RAGD_STORE_ROCKS_LOG_H

#include <rocksdb/c.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*rag_store_rocks_sink)(const char *line); // called by any thread
// Sets a logger that gives warnings and errors to `sink`, line by line, and opens no file. False: out of memory.
bool rag_store_rocks_log(rocksdb_options_t *options, rag_store_rocks_sink sink);

#ifdef __cplusplus
}
#endif
#endif
