// Backups: reading them. Verify and restore go by the manifest alone (backup_manifest.c) and use no RocksDB but for
// opening the restored store once.
//
// A restore is made under the name TO.restoring beside TO and renamed at the end. FORMAT comes last of the files, and a
// store without it does not open, so what a killed restore leaves is no store under any name; the next restore to the
// same place removes it. The folders of a restored store are synced before the rename, the one above after it.
#include "store/backup_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES ((size_t)1 << 20)

rag_status rag_backup__meter_tick(void *ctx, uint64_t bytes, rag_error *err) {
  rag_backup__meter *meter = ctx;
  meter->done += bytes;
  if (meter->watch == NULL || meter->watch->progress == NULL) return RAG_OK;
  return meter->watch->progress(meter->watch->ctx, meter->done, meter->total, err);
}

// To the end, or to the block with which it is more than `most` bytes.
static rag_status read_all(int fd, const char *path, uint64_t most, int out_fd, uint64_t *size, uint32_t *crc,
                           rag_backup__tick_fn tick, void *tick_ctx, rag_error *err) {
  char *block = rag_alloc(BLOCK_BYTES);
  rag_status status = RAG_OK;
  if (block == NULL) return rag_fail_no_memory(err, BLOCK_BYTES);
  while (*size <= most) {
    ssize_t got = read(fd, block, BLOCK_BYTES);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) status = rag_os_fail(err, "read", path, errno);
    if (got <= 0) break;
    *crc = rag_crc32c(*crc, block, (size_t)got);
    *size += (uint64_t)got;
    if (out_fd >= 0) RAG_TRY_OUT(rag_os_write_all(out_fd, block, (size_t)got, err));
    if (tick != NULL) RAG_TRY_OUT(tick(tick_ctx, (uint64_t)got, err));
  }
out:
  rag_free(block);
  return status;
}

rag_status rag_backup__read(const char *dir, const rag_backup__file *file, int out_fd, rag_backup__tick_fn tick,
                            void *tick_ctx, rag_error *err) {
  uint64_t size = 0;
  uint32_t crc = 0;
  char *path = rag_backup__path(dir, file->path, NULL);
  int fd = -1;
  if (path == NULL) return rag_fail_no_memory(err, BACKUP_PATH_MAX);
  rag_status status = rag_backup__open(dir, file->path, &fd, err);
  if (status == RAG_OK) status = read_all(fd, path, file->size, out_fd, &size, &crc, tick, tick_ctx, err);
  if (status == RAG_OK && size != file->size)
    status = rag_fail(err, RAG_DATA_LOSS, "%s is damaged: it has %llu bytes, not %llu", path, (unsigned long long)size,
                      (unsigned long long)file->size);
  if (status == RAG_OK && crc != file->crc)
    status = rag_fail(err, RAG_DATA_LOSS, "%s is damaged: its checksum does not match", path);
  if (fd >= 0) close(fd);
  rag_free(path);
  return status;
}

// The manifest of a backup, or of the newest.
static rag_status choose(const char *dir, uint32_t id, rag_backup__manifest *out, rag_error *err) {
  rag_backup_info *infos = NULL;
  uint32_t count = 0;
  const rag_backup_info *chosen = NULL;
  rag_status status;
  RAG_TRY(rag_backup_list(dir, &infos, &count, err));
  for (uint32_t i = 0; i < count; i++)
    if (id ? infos[i].id == id : infos[i].state != RAG_BACKUP_INTERRUPTED) chosen = &infos[i];
  if (chosen == NULL && id)
    status = rag_fail(err, RAG_NOT_FOUND, "there is no backup %u in %s; `backup list` shows those that are", id, dir);
  else if (chosen == NULL) status = rag_fail(err, RAG_NOT_FOUND, "there is no complete backup in %s", dir);
  else if (chosen->state == RAG_BACKUP_INTERRUPTED)
    status = rag_fail(err, RAG_DATA_LOSS, "backup %u in %s was interrupted, or its manifest %s/%u is lost", id, dir,
                      BACKUP_MANIFESTS, id);
  else status = rag_backup__manifest_read(dir, chosen->id, out, err); // says what is wrong with a damaged one
  if (status == RAG_DATA_LOSS && !id && chosen != NULL)
    (void)rag_error_prefix(err, "the newest backup is damaged; choose an older one by its number");
  rag_free(infos);
  return status;
}

static uint64_t bytes_of(const rag_backup__manifest *manifest) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < manifest->file_count; i++) bytes += manifest->files[i].size;
  return bytes;
}

rag_status rag_backup_verify(const char *dir, uint32_t id, const rag_backup_watch *watch, rag_backup_info *out,
                             rag_error *err) {
  rag_backup__manifest manifest = {0};
  uint32_t bad = 0;
  rag_error first = {0};
  RAG_TRY(choose(dir, id, &manifest, err));
  rag_backup__meter meter = {watch, 0, bytes_of(&manifest)};
  rag_status status = RAG_OK;
  for (uint32_t i = 0; i < manifest.file_count && status == RAG_OK; i++) {
    rag_error local = {0};
    status = rag_backup__read(dir, &manifest.files[i], -1, rag_backup__meter_tick, &meter, &local);
    if (status == RAG_OK) continue;
    if (bad == 0 || status != RAG_DATA_LOSS) first = local;
    if (status != RAG_DATA_LOSS) break; // stopped, or a disk that cannot be read
    bad++;
    if (watch != NULL && watch->report != NULL) watch->report(watch->ctx, manifest.files[i].path, local.message);
    status = RAG_OK;
  }
  if (status == RAG_OK && bad > 0) {
    status = RAG_DATA_LOSS;
    if (bad > 1) (void)rag_error_prefix(&first, "%u files of backup %u are damaged", bad, manifest.info.id);
  }
  if (status != RAG_OK && err != NULL) *err = first;
  if (status == RAG_OK && out != NULL) *out = manifest.info;
  rag_backup__manifest_free(&manifest);
  return status;
}

// ---------------------------------------------------------------------------------------------- restore

static rag_status check_target(const char *to, rag_error *err) {
  DIR *dir = opendir(to);
  bool empty = true;
  if (dir == NULL && errno == ENOENT) return RAG_OK;
  if (dir == NULL) return rag_os_fail(err, "open", to, errno);
  for (struct dirent *entry; empty && (entry = readdir(dir)) != NULL;)
    empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
  closedir(dir);
  if (empty) return RAG_OK;
  return rag_fail(err, RAG_FAILED_PRECONDITION,
                  "%s is not empty; a backup is restored to a new directory, which then takes the place of the old one",
                  to);
}

static rag_status restore_file(const char *dir, const rag_backup__file *file, const char *into,
                               rag_backup__meter *meter, rag_error *err) {
  char *path = rag_backup__path(into, file->to, NULL);
  if (path == NULL) return rag_fail_no_memory(err, BACKUP_PATH_MAX);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  rag_status status = fd < 0 ? rag_os_fail(err, "create", path, errno) : RAG_OK;
  if (status == RAG_OK) status = rag_backup__read(dir, file, fd, rag_backup__meter_tick, meter, err);
  if (status == RAG_OK && fsync(fd) != 0) status = rag_os_fail(err, "sync", path, errno);
  if (fd >= 0 && close(fd) != 0 && status == RAG_OK) status = rag_os_fail(err, "close", path, errno);
  rag_free(path);
  return status;
}

static rag_status restore_files(const char *dir, const rag_backup__manifest *manifest, const char *into,
                                const rag_backup_watch *watch, rag_error *err) {
  rag_backup__meter meter = {watch, 0, manifest->info.bytes};
  char *db = rag_backup__path(into, "db", NULL);
  rag_status status = db == NULL ? rag_fail_no_memory(err, BACKUP_PATH_MAX) : rag_os_make_dirs(db, err);
  if (status == RAG_OK)
    for (int own = 0; own < 2; own++) // ours come last, FORMAT with them
      for (uint32_t i = 0; i < manifest->file_count; i++) {
        const rag_backup__file *file = &manifest->files[i];
        bool is_own = strncmp(file->to, "db/", 3) != 0;
        if (*file->to && is_own == (own == 1)) RAG_TRY_OUT(restore_file(dir, file, into, &meter, err));
      }
  if (status == RAG_OK) RAG_TRY_OUT(rag_os_sync_dir(db, err));
  if (status == RAG_OK) status = rag_os_sync_dir(into, err);
out:
  rag_free(db);
  return status;
}

static rag_status rename_synced(const char *from, const char *to, rag_error *err) {
  rag_buf above = {0};
  if (rename(from, to) != 0) return rag_os_fail(err, "rename to", to, errno);
  rag_buf_printf(&above, "%s/..", to);
  rag_status status = rag_buf_check(&above, err);
  if (status == RAG_OK) status = rag_os_sync_dir(above.data, err);
  rag_buf_free(&above);
  return status;
}

// Sealed as if it had been closed: the backup's manifest vouches for every file, and a backup may have no log at all.
// Recovery reads every record of the log, so a store that opens here opens elsewhere.
static rag_status open_once(const char *dir, rag_error *err) {
  rag_store_options options = rag_store_options_default();
  rag_store *store = NULL;
  options.create_if_missing = false;
  RAG_TRY(rag_store__seal_write(dir, err));
  RAG_TRY(rag_store_open(dir, &options, &store, err));
  rag_store_close(store);
  return RAG_OK;
}

static char *temporary_name(const char *to) {
  rag_buf name = {0};
  size_t size = strlen(to);
  while (size > 1 && to[size - 1] == '/') size--;
  rag_buf_printf(&name, "%.*s.restoring", (int)size, to);
  if (!name.failed) return name.data;
  rag_buf_free(&name);
  return NULL;
}

rag_status rag_backup_restore(const char *dir, uint32_t id, const char *to, const rag_backup_watch *watch,
                              rag_backup_info *out, rag_error *err) {
  rag_backup__manifest manifest = {0};
  char *into = NULL;
  rag_status status;
  if (*to == '\0') return rag_fail(err, RAG_INVALID_ARGUMENT, "the directory to restore to has no name");
  RAG_TRY(check_target(to, err));
  RAG_TRY(choose(dir, id, &manifest, err));
  if (manifest.info.store_format > RAG_STORE_FORMAT_VERSION)
    RAG_TRY_OUT(rag_fail(err, RAG_FAILED_PRECONDITION,
                         "the backup has store format %u and this program reads up to %u: use a newer ragd",
                         manifest.info.store_format, RAG_STORE_FORMAT_VERSION));
  into = temporary_name(to);
  if (into == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, strlen(to)));
  RAG_TRY_OUT(rag_os_remove_tree(into, err));
  RAG_TRY_OUT(rag_os_make_dirs(into, err));
  RAG_TRY_OUT(restore_files(dir, &manifest, into, watch, err));
  status = open_once(into, err);
  if (status != RAG_OK) (void)rag_error_prefix(err, "the restored store does not open");
  if (status == RAG_OK) status = rename_synced(into, to, err);
  if (status == RAG_OK && out != NULL) *out = manifest.info;
out:
  if (status != RAG_OK && into != NULL) {
    rag_error ignored;
    if (rag_os_remove_tree(into, &ignored) != RAG_OK) rag_log(RAG_LOG_WARN, "backup.left", "path=%s", into);
  }
  rag_free(into);
  rag_backup__manifest_free(&manifest);
  return status;
}
