// The C face of RocksDB's backup engine where its C interface falls short: it knows neither progress, nor stopping, nor
// deleting one backup, and does not give the new backup's number. Does not include base.h, which is C only.
#ifndef RAGD_STORE_ROCKS_BACKUP_H
#define RAGD_STORE_ROCKS_BACKUP_H

#include <rocksdb/c.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Each returns NULL, or RocksDB's message (freed with rocksdb_free). One engine per folder at a time.
typedef struct rag_rocks_backup rag_rocks_backup;
#define RAG_ROCKS_BACKUP_TICK_BYTES (UINT64_C(4) << 20)
// Opening for writing removes nothing; it reads the engine's records of the backups that are there.
char *rag_rocks_backup_open(const char *folder, rag_rocks_backup **out);
void rag_rocks_backup_close(rag_rocks_backup *engine);
// Flushes, then copies what the folder does not have. tick: called about every RAG_ROCKS_BACKUP_TICK_BYTES copied, by
// a thread of the engine while this one waits, never by two at once; false stops the backup ("Incomplete: ...").
char *rag_rocks_backup_create(rag_rocks_backup *engine, rocksdb_t *db, bool (*tick)(void *ctx), void *ctx,
                              uint32_t *out_id);
// Removes a backup, complete or not, and whatever no other backup needs.
char *rag_rocks_backup_delete(rag_rocks_backup *engine, uint32_t id);
// Asked before a database is opened: its identity stays in a file of its own, as it was before RocksDB 9 wrote it into the
// manifest too, which a backup has.
void rag_rocks_identity_apart(rocksdb_options_t *options);
// The database's identity: random, made when the database was; not a part of backups, so a restored store has another.
char *rag_rocks_identity(rocksdb_t *db, char *out, size_t out_size);
// Reads every block of every table file and checks its checksum.
char *rag_rocks_verify_tables(rocksdb_t *db);

#ifdef __cplusplus
}
#endif
#endif
