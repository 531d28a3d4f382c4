// Private to backup.c (making and removing), backup_manifest.c (the record of a backup) and backup_restore.c (reading).
// backup_files.c opens what is in a backup directory. See backup.c for the layout and the invariants.
#ifndef RAGD_STORE_BACKUP_INTERNAL_H
#define RAGD_STORE_BACKUP_INTERNAL_H

#include "store/store_internal.h"

#define BACKUP_PATH_MAX 1024u
#define BACKUP_MANIFEST_BYTES_MAX (UINT64_C(1) << 28)
#define BACKUP_IDS_MAX 100000u

// The parts of a backup directory.
#define BACKUP_ENGINE "engine"       // RocksDB's
#define BACKUP_MANIFESTS "manifests" // ours: one file for each backup, named by its id
#define BACKUP_FILES "files"         // files/ID/FORMAT: our files of the data directory

typedef struct rag_backup__file { // owned strings
  char *path;                     // in the backup directory
  char *to;                       // in the data directory; "": only the backup engine needs it
  uint64_t size;
  uint32_t crc; // CRC32C
} rag_backup__file;

typedef struct rag_backup__manifest {
  rag_backup_info info;
  rag_backup__file *files; // owned
  uint32_t file_count, file_capacity;
} rag_backup__manifest;

void rag_backup__manifest_free(rag_backup__manifest *manifest);
// Copies the texts.
RAG_NODISCARD rag_status rag_backup__manifest_add(rag_backup__manifest *manifest, rag_slice path, rag_slice to,
                                                  uint64_t size, uint32_t crc, rag_error *err);
RAG_NODISCARD rag_status rag_backup__manifest_write(const char *dir, const rag_backup__manifest *manifest,
                                                    rag_error *err);
// RAG_NOT_FOUND: no such manifest. RAG_DATA_LOSS: damaged.
RAG_NODISCARD rag_status rag_backup__manifest_read(const char *dir, uint32_t id, rag_backup__manifest *out,
                                                   rag_error *err);
// "DIR/a/b" into a fresh block; `parts` are joined with '/'. NULL: out of memory.
char *rag_backup__path(const char *dir, const char *part, const char *leaf); // leaf NULL: none
char *rag_backup__numbered(const char *dir, const char *part, uint32_t id);
// The numbers that are names in a folder, ascending, owned. A folder that is not there has none.
RAG_NODISCARD rag_status rag_backup__numbers(const char *folder, uint32_t **out, uint32_t *out_count, rag_error *err);

// Reads a file to its end: its size and CRC32C must be the manifest's. out_fd not negative: the bytes are written there.
// `tick` is called after each block with its size.
typedef rag_status (*rag_backup__tick_fn)(void *ctx, uint64_t bytes, rag_error *err);
RAG_NODISCARD rag_status rag_backup__read(const char *dir, const rag_backup__file *file, int out_fd,
                                          rag_backup__tick_fn tick, void *tick_ctx, rag_error *err);

// A regular file of the directory, found without following a link; nothing else is opened. RAG_DATA_LOSS: it is missing, or
// is or lies behind something else. *out: to be closed.
RAG_NODISCARD rag_status rag_backup__open(const char *dir, const char *path, int *out, rag_error *err);
// Its bytes, owned; RAG_DATA_LOSS when there are more than bytes_max.
RAG_NODISCARD rag_status rag_backup__load(const char *dir, const char *path, uint64_t bytes_max, char **out,
                                          size_t *out_size, rag_error *err);
// RAG_FAILED_PRECONDITION: something in the directory is neither a folder nor a regular file.
RAG_NODISCARD rag_status rag_backup__check_plain(const char *dir, rag_error *err);

// Progress over many files.
typedef struct rag_backup__meter {
  const rag_backup_watch *watch; // may be NULL
  uint64_t done, total;
} rag_backup__meter;
rag_status rag_backup__meter_tick(void *meter, uint64_t bytes, rag_error *err); // a rag_backup__tick_fn

#endif
