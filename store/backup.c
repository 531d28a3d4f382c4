// Backups: making and removing them. backup_restore.c reads them; backup_manifest.c is the record of one.
//
// Layout of a backup directory
//   LOCK              flock: whoever changes the directory holds it
//   engine/           RocksDB's backup engine: meta/N, private/N/, shared_checksum/. Tables and blob files are named by
//                     the session that wrote them and shared between backups, so a backup copies what is new
//   files/N/FORMAT    our own files of the data directory (ENDPOINT is of the running server, and not kept)
//   manifests/N       our record of backup N: every file of it, with size and CRC32C, and where it goes
//
// Invariants
//  1. A backup exists when its manifest does. The manifest is written last, once everything it names is synced and has
//     been read back; it is removed first. So a kill, a power cut or a full disk at any moment leaves the backups that
//     were there, and no other; what it leaves of an unfinished one is removed by the next create or delete.
//  2. A backup is one point in time. RocksDB flushes the families one after the other while writes go on, so their files
//     may stand at different points; the write-ahead log goes along, and opening replays it to one point for all.
//  3. Only files that are new to the directory are read back: an old one was, when it came. A table that rotted on the
//     disk since is in every backup that shares it: verify finds it; deleting those backups and making a new one
//     copies it anew.
//  4. An engine folder whose own records are damaged is no harm to a reader: restore and verify go by the manifest.
//
// Threads: any; the directory's lock makes creators and deleters one at a time. Readers take no lock: a backup that is
// deleted under them is a missing file.
#include "store/backup_internal.h"
#include "store/rocks.h"
#include "store/rocks_backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define META_BYTES_MAX (UINT64_C(1) << 28)

// Files of the data directory, beside RocksDB's folder, that belong to a store.
static const char *const OWN_FILES[] = {"FORMAT"};

const char *rag_backup_state_name(rag_backup_state state) {
  switch (state) {
  case RAG_BACKUP_COMPLETE:
    return "complete";
  case RAG_BACKUP_INTERRUPTED:
    return "interrupted";
  case RAG_BACKUP_DAMAGED:
    return "damaged";
  }
  return "unknown";
}

// ---------------------------------------------------------------------------------------------- the directory

static rag_status make_part(const char *dir, const char *part, rag_error *err) {
  char *path = rag_backup__path(dir, part, NULL);
  rag_status status = path == NULL ? rag_fail_no_memory(err, BACKUP_PATH_MAX) : rag_os_make_dirs(path, err);
  rag_free(path);
  return status;
}

// *out: the descriptor that holds the lock.
static rag_status lock_directory(const char *dir, int *out, rag_error *err) {
  char *path = rag_backup__path(dir, "LOCK", NULL);
  rag_status status = RAG_OK;
  if (path == NULL) return rag_fail_no_memory(err, BACKUP_PATH_MAX);
  int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) status = rag_os_fail(err, "open", path, errno);
  else if (flock(fd, LOCK_EX | LOCK_NB) != 0)
    status = errno == EWOULDBLOCK ? rag_fail_field(err, RAG_FAILED_PRECONDITION, "locked",
                                                   "another backup, or a deletion, is under way in %s; try again once "
                                                   "it has ended",
                                                   dir)
                                  : rag_os_fail(err, "lock", path, errno);
  if (status == RAG_OK) *out = fd;
  else if (fd >= 0) close(fd);
  rag_free(path);
  return status;
}

// A backup inside the data directory goes with it, and one around it would be taken for a part of it.
static rag_status check_apart(const rag_store *store, const char *dir, rag_error *err) {
  char *data = realpath(store->dir, NULL), *backups = realpath(dir, NULL);
  rag_status status = RAG_OK;
  if (data == NULL || backups == NULL) status = rag_os_fail(err, "resolve", data ? dir : store->dir, errno);
  else if (strncmp(backups, data, strlen(data)) == 0 && (backups[strlen(data)] == '/' || backups[strlen(data)] == '\0'))
    status = rag_fail(err, RAG_INVALID_ARGUMENT,
                      "the backup directory %s lies in the data directory %s; a backup belongs on another disk", dir,
                      store->dir);
  free(data); // of libc
  free(backups);
  return status;
}

static rag_status open_engine(const char *dir, rag_rocks_backup **out, rag_error *err) {
  char *folder = rag_backup__path(dir, BACKUP_ENGINE, NULL);
  if (folder == NULL) return rag_fail_no_memory(err, BACKUP_PATH_MAX);
  char *message = rag_rocks_backup_open(folder, out);
  rag_free(folder);
  return message == NULL ? RAG_OK : rag_store__rocks_fail(err, "open the backup directory", message);
}

static bool has(const uint32_t *numbers, uint32_t count, uint32_t number) {
  for (uint32_t i = 0; i < count; i++)
    if (numbers[i] == number) return true;
  return false;
}

static rag_status numbers_in(const char *dir, const char *part, const char *leaf, uint32_t **out, uint32_t *out_count,
                             rag_error *err) {
  char *folder = rag_backup__path(dir, part, leaf);
  rag_status status =
      folder == NULL ? rag_fail_no_memory(err, BACKUP_PATH_MAX) : rag_backup__numbers(folder, out, out_count, err);
  rag_free(folder);
  return status;
}

// The manifest goes first, then what only this backup needs.
static rag_status remove_backup(const char *dir, rag_rocks_backup *engine, uint32_t id, rag_error *err) {
  char *manifest = rag_backup__numbered(dir, BACKUP_MANIFESTS, id),
       *files = rag_backup__numbered(dir, BACKUP_FILES, id);
  char *manifests = rag_backup__path(dir, BACKUP_MANIFESTS, NULL);
  rag_status status = RAG_OK;
  if (manifest == NULL || files == NULL || manifests == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, BACKUP_PATH_MAX));
  if (unlink(manifest) != 0 && errno != ENOENT) RAG_TRY_OUT(rag_os_fail(err, "remove", manifest, errno));
  RAG_TRY_OUT(rag_os_sync_dir(manifests, err));
  RAG_TRY_OUT(rag_os_remove_tree(files, err));
  char *message = rag_rocks_backup_delete(engine, id);
  if (message != NULL) status = rag_store__rocks_fail(err, "remove a backup", message);
out:
  rag_free(manifest);
  rag_free(manifests);
  rag_free(files);
  return status;
}

// Removes what unfinished backups and deletions have left.
static rag_status sweep(const char *dir, rag_rocks_backup *engine, rag_error *err) {
  uint32_t *manifests = NULL, *metas = NULL, *files = NULL;
  uint32_t manifest_count = 0, meta_count = 0, file_count = 0;
  rag_status status;
  RAG_TRY_OUT(numbers_in(dir, BACKUP_MANIFESTS, NULL, &manifests, &manifest_count, err));
  RAG_TRY_OUT(numbers_in(dir, BACKUP_ENGINE, "meta", &metas, &meta_count, err));
  RAG_TRY_OUT(numbers_in(dir, BACKUP_FILES, NULL, &files, &file_count, err));
  for (uint32_t i = 0; i < meta_count; i++)
    if (!has(manifests, manifest_count, metas[i])) RAG_TRY_OUT(remove_backup(dir, engine, metas[i], err));
  for (uint32_t i = 0; i < file_count; i++)
    if (!has(manifests, manifest_count, files[i])) RAG_TRY_OUT(remove_backup(dir, engine, files[i], err));
out:
  rag_free(manifests);
  rag_free(metas);
  rag_free(files);
  return status;
}

// ---------------------------------------------------------------------------------------------- what a backup holds

// Where a file of the engine goes: private/7/000012.log and shared_checksum/000012_s4KX2_1234.sst to db/000012.*.
static bool target_of(rag_slice path, char out[BACKUP_PATH_MAX]) {
  const char *name = memrchr(path.data, '/', path.size);
  if (name == NULL || path.size >= BACKUP_PATH_MAX / 2) return false;
  name++;
  size_t size = (size_t)(path.data + path.size - name);
  bool shared = strncmp(path.data, "shared", 6) == 0;
  const char *mark = shared ? memchr(name, '_', size) : NULL, *dot = memrchr(name, '.', size);
  if (mark != NULL && dot != NULL && dot > mark)
    snprintf(out, BACKUP_PATH_MAX, "db/%.*s%.*s", (int)(mark - name), name, (int)(name + size - dot), dot);
  else snprintf(out, BACKUP_PATH_MAX, "db/%.*s", (int)size, name);
  return size > 0;
}

static bool take_line(rag_slice *rest, rag_slice *line) {
  if (rest->size == 0) return false;
  const char *end = memchr(rest->data, '\n', rest->size);
  size_t size = end ? (size_t)(end - rest->data) : rest->size;
  *line = rag_slice_of(rest->data, size);
  rest->data += size + (end != NULL);
  rest->size -= size + (end != NULL);
  return true;
}

static rag_status size_of(const char *path, uint64_t *out, rag_error *err) {
  struct stat info;
  if (stat(path, &info) != 0) return rag_os_fail(err, "look at", path, errno);
  *out = (uint64_t)info.st_size;
  return RAG_OK;
}

// One line of meta/N: "private/7/MANIFEST-000009 crc32 123456".
static rag_status add_engine_file(const char *dir, rag_slice line, rag_backup__manifest *out, rag_error *err) {
  char path[BACKUP_PATH_MAX], to[BACKUP_PATH_MAX], *full, *end = NULL;
  const char *space = memchr(line.data, ' ', line.size);
  static const char word[] = " crc32 ";
  uint64_t size = 0;
  if (space == NULL || line.size >= BACKUP_PATH_MAX / 2 || (size_t)(line.data + line.size - space) <= sizeof word - 1 ||
      memcmp(space, word, sizeof word - 1) != 0)
    goto strange;
  snprintf(path, sizeof path, BACKUP_ENGINE "/%.*s", (int)(space - line.data), line.data);
  unsigned long long crc = strtoull(space + sizeof word - 1, &end, 10);
  if (end != line.data + line.size || crc > UINT32_MAX ||
      !target_of(rag_slice_of(line.data, (size_t)(space - line.data)), to))
    goto strange;
  full = rag_backup__path(dir, path, NULL);
  if (full == NULL) return rag_fail_no_memory(err, sizeof path);
  rag_status status = size_of(full, &size, err);
  rag_free(full);
  RAG_TRY(status);
  return rag_backup__manifest_add(out, rag_slice_str(path), rag_slice_str(to), size, (uint32_t)crc, err);
strange:
  return rag_fail(err, RAG_INTERNAL, "the backup engine's record has a line that this program does not know: '%.*s'",
                  (int)RAG_MIN(line.size, (size_t)100), line.data);
}

// meta/N: time, sequence number, "metadata ..." or not, the number of files, then a line for each.
static rag_status add_engine_files(const char *dir, rag_backup__manifest *out, rag_error *err) {
  char *path = rag_backup__numbered(dir, BACKUP_ENGINE "/meta", out->info.id), *text = NULL, name[64];
  size_t size = 0;
  rag_slice line, rest;
  unsigned long long count = 0;
  rag_status status = path == NULL ? rag_fail_no_memory(err, BACKUP_PATH_MAX) : RAG_OK;
  if (status == RAG_OK) status = rag_os_read_file(path, META_BYTES_MAX, &text, &size, err);
  if (status != RAG_OK) goto out;
  rest = rag_slice_of(text, size);
  for (int i = 0; i < 3; i++) {
    if (!take_line(&rest, &line)) break;
    if (i == 2 && line.size > 9 && memcmp(line.data, "metadata ", 9) == 0) (void)take_line(&rest, &line);
    if (i == 2) count = strtoull(line.data, NULL, 10);
  }
  for (unsigned long long i = 0; i < count; i++) {
    if (!take_line(&rest, &line)) {
      status = rag_fail(err, RAG_INTERNAL, "%s ends before its last file", path);
      goto out;
    }
    RAG_TRY_OUT(add_engine_file(dir, line, out, err));
  }
  if (count == 0) RAG_TRY_OUT(rag_fail(err, RAG_INTERNAL, "%s names no files", path));
  snprintf(name, sizeof name, BACKUP_ENGINE "/meta/%u", out->info.id);
  status = rag_backup__manifest_add(out, rag_slice_str(name), (rag_slice){0}, size, rag_crc32c(0, text, size), err);
out:
  rag_free(path);
  rag_free(text);
  return status;
}

static rag_status copy_own_files(const rag_store *store, const char *dir, rag_backup__manifest *out, rag_error *err) {
  char folder[64], to[128];
  snprintf(folder, sizeof folder, BACKUP_FILES "/%u", out->info.id);
  RAG_TRY(make_part(dir, folder, err));
  for (size_t i = 0; i < RAG_COUNT_OF(OWN_FILES); i++) {
    char *from = rag_backup__path(store->dir, OWN_FILES[i], NULL), *copy = rag_backup__path(dir, folder, OWN_FILES[i]);
    char *bytes = NULL;
    size_t size = 0;
    rag_status status = from == NULL || copy == NULL ? rag_fail_no_memory(err, BACKUP_PATH_MAX) : RAG_OK;
    if (status == RAG_OK) status = rag_os_read_file(from, META_BYTES_MAX, &bytes, &size, err);
    if (status == RAG_OK) status = rag_os_write_file(copy, bytes, size, err);
    snprintf(to, sizeof to, "%s/%s", folder, OWN_FILES[i]);
    if (status == RAG_OK)
      status = rag_backup__manifest_add(out, rag_slice_str(to), rag_slice_str(OWN_FILES[i]), size,
                                        rag_crc32c(0, bytes, size), err);
    rag_free(from);
    rag_free(copy);
    rag_free(bytes);
    RAG_TRY(status);
  }
  return RAG_OK;
}

static int by_path(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

// The shared files that complete backups of the directory have, sorted. Damaged manifests have none.
static rag_status known_files(const char *dir, rag_backup__manifest *out, char ***out_paths, rag_error *err) {
  uint32_t *ids = NULL, count = 0;
  rag_backup__manifest one = {0};
  char **paths = NULL;
  rag_status status;
  RAG_TRY_OUT(numbers_in(dir, BACKUP_MANIFESTS, NULL, &ids, &count, err));
  for (uint32_t i = 0; i < count; i++) {
    status = rag_backup__manifest_read(dir, ids[i], &one, err);
    if (status != RAG_OK && status != RAG_DATA_LOSS && status != RAG_FAILED_PRECONDITION) goto out;
    status = RAG_OK;
    for (uint32_t k = 0; k < one.file_count && status == RAG_OK; k++)
      if (strncmp(one.files[k].path, BACKUP_ENGINE "/shared", sizeof BACKUP_ENGINE "/shared" - 1) == 0)
        status = rag_backup__manifest_add(out, rag_slice_str(one.files[k].path), (rag_slice){0}, one.files[k].size,
                                          one.files[k].crc, err);
    rag_backup__manifest_free(&one);
    if (status != RAG_OK) goto out;
  }
  paths = rag_calloc(RAG_MAX(1u, out->file_count), sizeof *paths);
  if (paths == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, out->file_count * sizeof *paths));
  for (uint32_t i = 0; i < out->file_count; i++) paths[i] = out->files[i].path;
  qsort(paths, out->file_count, sizeof *paths, by_path);
  *out_paths = paths;
out:
  rag_free(ids);
  return status;
}

// Reads back what this backup has added to the directory, and counts it.
static rag_status verify_new(const char *dir, rag_backup__manifest *manifest, const rag_backup_watch *watch,
                             rag_error *err) {
  rag_backup__manifest known = {0};
  char **paths = NULL;
  rag_backup__meter meter = {watch, 0, 0};
  rag_status status = known_files(dir, &known, &paths, err);
  for (int pass = 0; pass < 2 && status == RAG_OK; pass++) // the first adds up
    for (uint32_t i = 0; i < manifest->file_count && status == RAG_OK; i++) {
      const rag_backup__file *file = &manifest->files[i];
      if (known.file_count > 0 && bsearch(&file->path, paths, known.file_count, sizeof *paths, by_path) != NULL)
        continue;
      if (pass == 0) meter.total += file->size;
      else status = rag_backup__read(dir, file, -1, rag_backup__meter_tick, &meter, err);
    }
  manifest->info.new_bytes = meter.total;
  rag_free(paths);
  rag_backup__manifest_free(&known);
  return status;
}

// ---------------------------------------------------------------------------------------------- create

typedef struct copying { // the tick of the engine's copying
  const rag_backup_watch *watch;
  uint64_t done, total;
  rag_status stopped; // by the watcher
  rag_error *err;
} copying;

static bool copying_tick(void *ctx) {
  copying *c = ctx;
  c->done = RAG_MIN(c->done + RAG_ROCKS_BACKUP_TICK_BYTES, c->total);
  if (c->stopped == RAG_OK && c->watch != NULL && c->watch->progress != NULL)
    c->stopped = c->watch->progress(c->watch->ctx, c->done, c->total, c->err);
  return c->stopped == RAG_OK;
}

static rag_status copy_database(rag_store *store, rag_rocks_backup *engine, const rag_backup_watch *watch,
                                uint32_t *out_id, rag_error *err) {
  rag_store_stats stats;
  // The engine flushes too, but with deletions off, so that the logs that its flush makes obsolete are copied whole.
  RAG_TRY(rag_store_flush(store, err));
  rag_store_stats_get(store, &stats);
  copying c = {.watch = watch, .total = stats.sst_bytes + stats.blob_bytes + stats.wal_bytes, .err = err};
  char *message = rag_rocks_backup_create(engine, store->db->db, copying_tick, &c, out_id);
  if (message == NULL) return RAG_OK;
  if (c.stopped == RAG_OK) return rag_store__rocks_fail(err, "back up", message);
  rocksdb_free(message);
  return c.stopped;
}

rag_status rag_store_identity(rag_store *store, char out[RAG_BACKUP_TEXT_MAX], rag_error *err) {
  char *message = rag_rocks_identity(store->db->db, out, RAG_BACKUP_TEXT_MAX);
  return message == NULL ? RAG_OK : rag_store__rocks_fail(err, "read the store's identity", message);
}

rag_status rag_store_backup(rag_store *store, const char *dir, const char *program, const rag_backup_watch *watch,
                            rag_backup_info *out, rag_error *err) {
  rag_backup__manifest manifest = {0};
  rag_rocks_backup *engine = NULL;
  int lock = -1;
  rag_status status;
  RAG_TRY(rag_store_writable(store, err)); // the flush would fail
  RAG_TRY(rag_os_make_dirs(dir, err));
  RAG_TRY_OUT(check_apart(store, dir, err));
  RAG_TRY_OUT(lock_directory(dir, &lock, err));
  RAG_TRY_OUT(rag_backup__check_plain(dir, err));
  RAG_TRY_OUT(make_part(dir, BACKUP_ENGINE, err));
  RAG_TRY_OUT(make_part(dir, BACKUP_MANIFESTS, err));
  RAG_TRY_OUT(make_part(dir, BACKUP_FILES, err));
  RAG_TRY_OUT(open_engine(dir, &engine, err));
  RAG_TRY_OUT(sweep(dir, engine, err));

  manifest.info.created_us = rag_clock_now_us();
  manifest.info.store_format = RAG_STORE_FORMAT_VERSION;
  snprintf(manifest.info.program, sizeof manifest.info.program, "%s", program);
  RAG_TRY_OUT(rag_store_identity(store, manifest.info.store, err));
  RAG_TRY_OUT(copy_database(store, engine, watch, &manifest.info.id, err));
  RAG_TRY_OUT(copy_own_files(store, dir, &manifest, err));
  RAG_TRY_OUT(add_engine_files(dir, &manifest, err));
  RAG_TRY_OUT(verify_new(dir, &manifest, watch, err));
  RAG_TRY_OUT(rag_backup__manifest_write(dir, &manifest, err));
  if (out != NULL) *out = manifest.info;
out:
  // A failed one is left as it is: the next change of the directory removes it, also where this process cannot.
  rag_rocks_backup_close(engine);
  if (lock >= 0) close(lock);
  rag_backup__manifest_free(&manifest);
  return status;
}

// ---------------------------------------------------------------------------------------------- list, delete, keep

rag_status rag_backup_list(const char *dir, rag_backup_info **out, uint32_t *out_count, rag_error *err) {
  uint32_t *manifests = NULL, *metas = NULL, manifest_count = 0, meta_count = 0, count = 0;
  rag_backup_info *infos = NULL;
  rag_status status;
  RAG_TRY_OUT(numbers_in(dir, BACKUP_ENGINE, "meta", &metas, &meta_count, err));
  RAG_TRY_OUT(numbers_in(dir, BACKUP_MANIFESTS, NULL, &manifests, &manifest_count, err));
  infos = rag_calloc((size_t)manifest_count + meta_count + 1, sizeof *infos);
  if (infos == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, (manifest_count + meta_count) * sizeof *infos));
  for (uint32_t m = 0, e = 0; m < manifest_count || e < meta_count;) {
    rag_backup_info *info = &infos[count];
    if (m == manifest_count || (e < meta_count && metas[e] < manifests[m])) {
      *info = (rag_backup_info){.id = metas[e++], .state = RAG_BACKUP_INTERRUPTED};
      count++;
      continue;
    }
    rag_backup__manifest manifest = {0};
    rag_error ignored = {0};
    if (e < meta_count && metas[e] == manifests[m]) e++;
    status = rag_backup__manifest_read(dir, manifests[m], &manifest, &ignored);
    *info = manifest.info;
    if (status == RAG_DATA_LOSS || status == RAG_FAILED_PRECONDITION)
      *info = (rag_backup_info){.id = manifests[m], .state = RAG_BACKUP_DAMAGED};
    else if (status != RAG_OK && status != RAG_NOT_FOUND) {
      if (err != NULL) *err = ignored;
      goto out;
    }
    if (status != RAG_NOT_FOUND) count++; // that: deleted meanwhile
    rag_backup__manifest_free(&manifest);
    m++;
  }
  status = RAG_OK;
  *out = infos;
  *out_count = count;
  infos = NULL;
out:
  rag_free(infos);
  rag_free(manifests);
  rag_free(metas);
  return status;
}

// Removes those of the list that are marked.
static rag_status remove_some(const char *dir, const uint32_t *ids, uint32_t count, rag_error *err) {
  rag_rocks_backup *engine = NULL;
  int lock = -1;
  rag_status status;
  RAG_TRY_OUT(lock_directory(dir, &lock, err));
  RAG_TRY_OUT(rag_backup__check_plain(dir, err));
  RAG_TRY_OUT(make_part(dir, BACKUP_ENGINE, err)); // what was lost of the directory must not keep one from removing it
  RAG_TRY_OUT(make_part(dir, BACKUP_MANIFESTS, err));
  RAG_TRY_OUT(open_engine(dir, &engine, err));
  for (uint32_t i = 0; i < count; i++) RAG_TRY_OUT(remove_backup(dir, engine, ids[i], err));
out:
  rag_rocks_backup_close(engine);
  if (lock >= 0) close(lock);
  return status;
}

rag_status rag_backup_delete(const char *dir, uint32_t id, rag_error *err) {
  rag_backup_info *infos = NULL;
  uint32_t count = 0;
  bool found = false;
  RAG_TRY(rag_backup_list(dir, &infos, &count, err));
  for (uint32_t i = 0; i < count; i++) found = found || infos[i].id == id;
  rag_free(infos);
  if (!found)
    return rag_fail(err, RAG_NOT_FOUND, "there is no backup %u in %s; `backup list` shows those that are", id, dir);
  return remove_some(dir, &id, 1, err);
}

rag_status rag_backup_keep(const char *dir, uint32_t keep, uint32_t *out_removed, rag_error *err) {
  rag_backup_info *infos = NULL;
  uint32_t *ids = NULL, count = 0, complete = 0, out_count = 0;
  rag_status status;
  if (keep == 0)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "keep", "keep: at least 1; delete the last backup by its number");
  RAG_TRY_OUT(rag_backup_list(dir, &infos, &count, err));
  ids = rag_calloc((size_t)count + 1, sizeof *ids);
  if (ids == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, count * sizeof *ids));
  for (uint32_t i = count; i-- > 0;)
    if (infos[i].state == RAG_BACKUP_COMPLETE && complete++ >= keep) ids[out_count++] = infos[i].id;
  if (out_count > 0) RAG_TRY_OUT(remove_some(dir, ids, out_count, err));
  if (out_removed != NULL) *out_removed = out_count;
out:
  rag_free(infos);
  rag_free(ids);
  return status;
}

rag_status rag_store_verify_tables(rag_store *store, rag_error *err) {
  char *message = rag_rocks_verify_tables(store->db->db);
  return message == NULL ? RAG_OK : rag_store__rocks_fail(err, "check the tables", message);
}
