// What the store's files must be, asked before RocksDB opens them.
//
// DIR/SEAL is written when a store is closed in good order, and removed before the next opening changes a file. It
// states the size of every file of RocksDB's and the CRC32C of the small ones that say which others count (CURRENT, the
// manifest, the write-ahead logs). RocksDB guards the contents of tables and blob files, and of records in logs; it does
// not notice a manifest or a log that is cut off between two records, a deleted log, or (where CURRENT is gone) that
// there was a database at all: it makes a new one and removes the old files. With the seal all of these are named.
//
// Without a seal (the process was killed, or the power went) a log may rightly end in the middle of a record, so less can
// be said. Then: CURRENT names a manifest that is there; manifests are whole; logs have no damage but a torn tail, and
// their sequence numbers have no gap, within a log and from one to the next; there is a log. What no one can tell from a
// power cut is the newest log ending sooner than it did: a log cut off by somebody else between a crash and the next
// opening loses the commits behind the cut. Everything that was there when the store was last closed is beyond its reach,
// as closing and opening leave nothing in the logs.
//
// Files that are there and not in the seal are no matter: an unlink may not have reached the disk. OPTIONS and IDENTITY
// are not read by anything and not sealed.
//
// Format of SEAL: "RAGDSEAL", u32le version, varint count, of each file: bytes name, varint size, u8 whether there is a
// checksum, u32le CRC32C; u32le CRC32C of all before. A seal that is damaged itself says nothing, and the log says so.
//
// Threads: open and close alone.
#include "store/log_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEAL_VERSION 1u
#define SEAL_BYTES_MAX (UINT64_C(1) << 28)
#define NAME_BYTES_MAX 64u
#define CHECKED_BYTES_MAX (UINT64_C(1) << 32) // a file of which the seal has a checksum
static const char SEAL_MAGIC[8] = {'R', 'A', 'G', 'D', 'S', 'E', 'A', 'L'};

typedef enum file_kind { OTHER, CURRENT, MANIFEST, LOG, TABLE, BLOB, OPTIONS } file_kind;

static bool ends_with(const char *name, const char *end) {
  size_t size = strlen(name), end_size = strlen(end);
  return size > end_size && strcmp(name + size - end_size, end) == 0;
}

static file_kind kind_of(const char *name) {
  if (strcmp(name, "CURRENT") == 0) return CURRENT;
  if (strncmp(name, "MANIFEST-", 9) == 0) return MANIFEST;
  if (strncmp(name, "OPTIONS-", 8) == 0) return OPTIONS;
  if (name[0] < '0' || name[0] > '9' || strlen(name) >= NAME_BYTES_MAX) return OTHER;
  return ends_with(name, ".log") ? LOG : ends_with(name, ".sst") ? TABLE : ends_with(name, ".blob") ? BLOB : OTHER;
}

static char *path_in(const char *dir, const char *name) {
  rag_buf buf = {0};
  rag_buf_printf(&buf, "%s/%s", dir, name);
  if (!buf.failed) return buf.data;
  rag_buf_free(&buf);
  return NULL;
}

// Calls `each` for every file of DIR/db that is of a known kind. A folder that is not there has none.
typedef rag_status (*each_file_fn)(void *ctx, const char *path, const char *name, rag_error *err);
static rag_status each_file(const char *dir, each_file_fn each, void *ctx, rag_error *err) {
  char *folder = path_in(dir, "db");
  rag_status status = folder == NULL ? rag_fail_no_memory(err, NAME_BYTES_MAX) : RAG_OK;
  DIR *listing = status == RAG_OK ? opendir(folder) : NULL;
  if (status == RAG_OK && listing == NULL && errno != ENOENT) status = rag_os_fail(err, "open", folder, errno);
  while (listing != NULL && status == RAG_OK) {
    errno = 0;
    struct dirent *entry = readdir(listing);
    if (entry == NULL && errno != 0) status = rag_os_fail(err, "read", folder, errno);
    if (entry == NULL) break;
    if (kind_of(entry->d_name) == OTHER) continue;
    char path[PATH_MAX]; // no allocation for each of what may be many
    if (snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) >= (int)sizeof path)
      status = rag_os_fail(err, "open", folder, ENAMETOOLONG);
    else status = each(ctx, path, entry->d_name, err);
  }
  if (listing != NULL) closedir(listing);
  rag_free(folder);
  return status;
}

// ---------------------------------------------------------------------------------------------- the seal

static bool is_checked(file_kind kind) { // by a checksum of the whole; the others have their own inside
  return kind == CURRENT || kind == MANIFEST || kind == LOG;
}

static rag_status crc_of(const char *path, bool sync, uint32_t *out, rag_error *err) {
  char *bytes = NULL;
  size_t size = 0;
  rag_status status = RAG_OK;
  if (sync) { // what the seal states must outlive a power cut
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return rag_os_fail(err, "open", path, errno);
    if (fsync(fd) != 0) status = rag_os_fail(err, "sync", path, errno);
    close(fd);
    RAG_TRY(status);
  }
  RAG_TRY(rag_os_read_file(path, CHECKED_BYTES_MAX, &bytes, &size, err));
  *out = rag_crc32c(0, bytes, size);
  rag_free(bytes);
  return RAG_OK;
}

typedef struct sealing {
  rag_buf files;
  uint64_t count;
} sealing;

static rag_status seal_file(void *ctx, const char *path, const char *name, rag_error *err) {
  sealing *s = ctx;
  struct stat info;
  uint32_t crc = 0;
  file_kind kind = kind_of(name);
  if (kind == OPTIONS) return RAG_OK;
  if (stat(path, &info) != 0) return rag_os_fail(err, "look at", path, errno);
  if (kind == LOG && info.st_size == 0) return RAG_OK; // may go with a power cut, and nothing with it
  if (is_checked(kind)) RAG_TRY(crc_of(path, true, &crc, err));
  rag_buf_append_bytes(&s->files, rag_slice_str(name));
  rag_buf_append_varint(&s->files, (uint64_t)info.st_size);
  rag_buf_append_u8(&s->files, is_checked(kind));
  rag_buf_append_u32le(&s->files, crc);
  s->count++;
  return RAG_OK;
}

rag_status rag_store__seal_write(const char *dir, rag_error *err) {
  sealing s = {0};
  rag_buf record = {0};
  char *path = path_in(dir, "SEAL"), *db = path_in(dir, "db");
  rag_status status;
  if (path == NULL || db == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, NAME_BYTES_MAX));
  RAG_TRY_OUT(each_file(dir, seal_file, &s, err));
  RAG_TRY_OUT(rag_os_sync_dir(db, err));
  rag_buf_append(&record, SEAL_MAGIC, sizeof SEAL_MAGIC);
  rag_buf_append_u32le(&record, SEAL_VERSION);
  rag_buf_append_varint(&record, s.count);
  rag_buf_append(&record, s.files.data, s.files.size);
  RAG_TRY_OUT(rag_buf_check(&s.files, err));
  RAG_TRY_OUT(rag_buf_check(&record, err));
  rag_buf_append_u32le(&record, rag_crc32c(0, record.data, record.size));
  RAG_TRY_OUT(rag_buf_check(&record, err));
  status = rag_os_write_file(path, record.data, record.size, err);
out:
  rag_buf_free(&s.files);
  rag_buf_free(&record);
  rag_free(path);
  rag_free(db);
  return status;
}

static rag_status check_sealed(const char *dir, rag_slice name, uint64_t size, bool has_crc, uint32_t crc,
                               rag_error *err) {
  char leaf[NAME_BYTES_MAX + 4];
  struct stat info;
  uint32_t now = 0;
  snprintf(leaf, sizeof leaf, "db/%.*s", (int)name.size, name.data);
  char *path = path_in(dir, leaf);
  if (path == NULL) return rag_fail_no_memory(err, sizeof leaf);
  rag_status status = RAG_OK;
  if (stat(path, &info) != 0)
    status = errno == ENOENT ? rag_fail(err, RAG_DATA_LOSS, "%s is missing; restore the store from a backup", path)
                             : rag_os_fail(err, "look at", path, errno);
  else if ((uint64_t)info.st_size != size)
    status =
        rag_fail(err, RAG_DATA_LOSS,
                 "%s is damaged: it has %lld bytes, and had %llu when the store was closed; restore the store from "
                 "a backup",
                 path, (long long)info.st_size, (unsigned long long)size);
  else if (has_crc) {
    status = crc_of(path, false, &now, err);
    if (status == RAG_OK && now != crc)
      status = rag_fail(err, RAG_DATA_LOSS,
                        "%s is damaged: its checksum does not match; restore the store from a backup", path);
  }
  rag_free(path);
  return status;
}

// RAG_NOT_FOUND: the record cannot be read as one.
static rag_status check_record(const char *dir, rag_slice bytes, rag_error *err) {
  size_t body = bytes.size >= 4 ? bytes.size - 4 : 0;
  rag_reader tail = {(const unsigned char *)bytes.data, bytes.size, body, false};
  rag_reader r = rag_reader_of(rag_slice_of(bytes.data, body));
  rag_slice magic = rag_read_raw(&r, sizeof SEAL_MAGIC);
  uint32_t version = rag_read_u32le(&r);
  if (r.bad || !rag_slice_equal(magic, rag_slice_of(SEAL_MAGIC, sizeof SEAL_MAGIC)) || version != SEAL_VERSION ||
      rag_read_u32le(&tail) != rag_crc32c(0, bytes.data, body))
    return RAG_NOT_FOUND;
  uint64_t count = rag_read_varint(&r);
  for (uint64_t i = 0; i < count; i++) {
    rag_slice name = rag_read_bytes(&r);
    uint64_t size = rag_read_varint(&r);
    bool has_crc = rag_read_u8(&r) != 0;
    uint32_t crc = rag_read_u32le(&r);
    if (r.bad || name.size >= NAME_BYTES_MAX) return RAG_NOT_FOUND;
    RAG_TRY(check_sealed(dir, name, size, has_crc, crc, err));
  }
  return RAG_OK;
}

// *out: there was a seal that could be read, and all is as it says.
static rag_status check_seal(const char *dir, bool *out, rag_error *err) {
  char *path = path_in(dir, "SEAL"), *bytes = NULL;
  size_t size = 0;
  rag_status status = path == NULL ? rag_fail_no_memory(err, NAME_BYTES_MAX) : RAG_OK;
  *out = false;
  if (status != RAG_OK || !rag_os_exists(path)) goto out;
  RAG_TRY_OUT(rag_os_read_file(path, SEAL_BYTES_MAX, &bytes, &size, err));
  status = check_record(dir, rag_slice_of(bytes, size), err);
  *out = status == RAG_OK;
  if (status == RAG_NOT_FOUND) {
    rag_log(RAG_LOG_WARN, "store.seal_damaged", "path=%s", path);
    status = RAG_OK;
  }
out:
  rag_free(bytes);
  rag_free(path);
  return status;
}

// ---------------------------------------------------------------------------------------------- without a seal

typedef struct found {
  char (*logs)[NAME_BYTES_MAX]; // owned
  uint32_t log_count, log_capacity;
  bool current, data, options; // CURRENT; a table, a blob file or a log; OPTIONS
  bool has_log;                // also an empty one, which is not among `logs`
} found;

static rag_status find_file(void *ctx, const char *path, const char *name, rag_error *err) {
  found *f = ctx;
  file_kind kind = kind_of(name);
  struct stat info;
  f->current = f->current || kind == CURRENT;
  f->options = f->options || kind == OPTIONS;
  f->data = f->data || kind == TABLE || kind == BLOB || kind == LOG;
  f->has_log = f->has_log || kind == LOG;
  if (kind != LOG || (stat(path, &info) == 0 && info.st_size == 0)) return RAG_OK; // openings that failed leave many
  if (f->log_count == f->log_capacity) {
    uint32_t capacity = RAG_MAX(16u, 2 * f->log_capacity);
    char(*logs)[NAME_BYTES_MAX] = rag_realloc_array(f->logs, capacity, sizeof *logs);
    if (logs == NULL) return rag_fail_no_memory(err, capacity * sizeof *logs);
    f->logs = logs;
    f->log_capacity = capacity;
  }
  snprintf(f->logs[f->log_count++], NAME_BYTES_MAX, "%s", name);
  return RAG_OK;
}

static int by_number(const void *a, const void *b) {
  unsigned long long x = strtoull(a, NULL, 10), y = strtoull(b, NULL, 10);
  return (x > y) - (x < y);
}

typedef struct manifest {
  uint64_t records;
  uint64_t first_log; // that is still needed
} manifest;

// A record of a manifest is a version edit: fields, each a varint tag and its value. Of interest is the number of the
// first log that is still needed, which comes before the fields of other shapes.
static rag_status take_edit(void *ctx, uint64_t offset, rag_slice record, rag_error *err) {
  enum {
    EDIT_COMPARATOR = 1,
    EDIT_LOG = 2,
    EDIT_NEXT_FILE = 3,
    EDIT_LAST_SEQUENCE = 4,
    EDIT_PREVIOUS_LOG = 9,
    EDIT_FIRST_LOG = 10,
    EDIT_FAMILY = 200,
    EDIT_FAMILY_ADD = 201,
    EDIT_FAMILY_MAX = 203,
    EDIT_DB_ID = 300
  };
  manifest *m = ctx;
  rag_reader r = rag_reader_of(record);
  RAG_UNUSED(offset);
  RAG_UNUSED(err);
  m->records++;
  while (rag_reader_left(&r) > 0) {
    uint64_t tag = rag_read_varint(&r), value = 0;
    if (tag == EDIT_COMPARATOR || tag == EDIT_FAMILY_ADD || tag == EDIT_DB_ID) (void)rag_read_bytes(&r);
    else if (tag == EDIT_LOG || tag == EDIT_NEXT_FILE || tag == EDIT_LAST_SEQUENCE || tag == EDIT_PREVIOUS_LOG ||
             tag == EDIT_FIRST_LOG || tag == EDIT_FAMILY || tag == EDIT_FAMILY_MAX)
      value = rag_read_varint(&r);
    else break;
    if (tag == EDIT_FIRST_LOG && !r.bad) m->first_log = RAG_MAX(m->first_log, value);
  }
  return RAG_OK;
}

// A manifest is written anew at every change (max_manifest_file_size, rocks.c), synced, and only then named by CURRENT.
static rag_status check_manifest(const char *dir, uint64_t *out_first_log, rag_error *err) {
  char *current = path_in(dir, "db/CURRENT"), *text = NULL, *path = NULL, leaf[NAME_BYTES_MAX + 4];
  size_t size = 0;
  manifest m = {0};
  log_file_end end = LOG_FILE_WHOLE;
  rag_status status = current == NULL ? rag_fail_no_memory(err, NAME_BYTES_MAX) : RAG_OK;
  if (status == RAG_OK) status = rag_os_read_file(current, NAME_BYTES_MAX, &text, &size, err);
  if (status == RAG_OUT_OF_RANGE ||
      (status == RAG_OK && (size < 11 || text[size - 1] != '\n' || strncmp(text, "MANIFEST-", 9) != 0 ||
                            strspn(text + 9, "0123456789") != size - 10)))
    status =
        rag_fail(err, RAG_DATA_LOSS, "%s is damaged: it names no manifest; restore the store from a backup", current);
  if (status != RAG_OK) goto out;
  snprintf(leaf, sizeof leaf, "db/%.*s", (int)(size - 1), text);
  path = path_in(dir, leaf);
  if (path == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, sizeof leaf));
  if (!rag_os_exists(path))
    RAG_TRY_OUT(rag_fail(err, RAG_DATA_LOSS, "%s is missing, or %s is damaged; restore the store from a backup", path,
                         current));
  RAG_TRY_OUT(rag_store__log_file_walk(path, take_edit, &m, &end, err));
  if (end != LOG_FILE_WHOLE || m.records == 0)
    status = rag_fail(err, RAG_DATA_LOSS, "%s is damaged: it is cut short; restore the store from a backup", path);
  if (status == RAG_OK) *out_first_log = m.first_log;
out:
  rag_free(current);
  rag_free(text);
  rag_free(path);
  return status;
}

typedef struct sequence {
  const char *path;
  bool begun;
  uint64_t next; // that the next batch must have
} sequence;

// A record of a log is a write batch: u64le sequence number, u32le count, the writes.
static rag_status follow(void *ctx, uint64_t offset, rag_slice record, rag_error *err) {
  sequence *s = ctx;
  rag_reader r = rag_reader_of(record);
  uint64_t number = rag_read_u64le(&r);
  uint32_t count = rag_read_u32le(&r);
  if (r.bad)
    return rag_fail(err, RAG_DATA_LOSS,
                    "%s is damaged at byte %llu: a record is too short; restore the store from a backup", s->path,
                    (unsigned long long)offset);
  if (s->begun && number != s->next)
    return rag_fail(
        err, RAG_DATA_LOSS,
        "%s is damaged at byte %llu, or a log before it: writes %llu to %llu are missing; restore the store "
        "from a backup",
        s->path, (unsigned long long)offset, (unsigned long long)s->next, (unsigned long long)number - 1);
  s->begun = true;
  s->next = number + count;
  return RAG_OK;
}

// Logs before first_log are not needed any more and read by nobody; a kill may have come when some of them were removed,
// in any order, so they may have gaps.
static rag_status check_logs(const char *dir, found *f, uint64_t first_log, rag_error *err) {
  sequence s = {0};
  if (f->log_count > 0) qsort(f->logs, f->log_count, sizeof *f->logs, by_number);
  for (uint32_t i = 0; i < f->log_count; i++) {
    char leaf[NAME_BYTES_MAX + 4];
    log_file_end end = LOG_FILE_WHOLE;
    if (strtoull(f->logs[i], NULL, 10) < first_log) continue;
    snprintf(leaf, sizeof leaf, "db/%s", f->logs[i]);
    char *path = path_in(dir, leaf);
    if (path == NULL) return rag_fail_no_memory(err, sizeof leaf);
    s.path = path;
    rag_status status = rag_store__log_file_walk(path, follow, &s, &end, err);
    if (status == RAG_OK && end == LOG_FILE_TORN) rag_log(RAG_LOG_WARN, "store.log_torn", "path=%s", path);
    rag_free(path);
    RAG_TRY(status);
  }
  return RAG_OK;
}

rag_status rag_store__files_check(const char *dir, bool format_exists, rag_error *err) {
  found f = {0};
  bool sealed = false;
  uint64_t first_log = 0;
  rag_status status;
  RAG_TRY_OUT(check_seal(dir, &sealed, err));
  if (sealed) goto out;
  RAG_TRY_OUT(each_file(dir, find_file, &f, err));
  // A creation that was cut short has a manifest at most.
  if (!f.current && (f.data || f.options))
    RAG_TRY_OUT(rag_fail(err, RAG_DATA_LOSS, "%s/db/CURRENT is missing; restore the store from a backup", dir));
  if (!f.current) goto out;
  if (!format_exists) goto out; // says so itself
  RAG_TRY_OUT(check_manifest(dir, &first_log, err));
  // Opening ends with OPTIONS, and a log is there before.
  if (f.options && !f.has_log)
    RAG_TRY_OUT(rag_fail(err, RAG_DATA_LOSS, "%s/db has no write-ahead log; restore the store from a backup", dir));
  status = check_logs(dir, &f, first_log, err);
out:
  rag_free(f.logs);
  return status;
}

rag_status rag_store__seal_break(const char *dir, rag_error *err) {
  char *path = path_in(dir, "SEAL");
  rag_status status = path == NULL ? rag_fail_no_memory(err, NAME_BYTES_MAX) : RAG_OK;
  if (status == RAG_OK && rag_os_exists(path)) {
    if (unlink(path) != 0) status = rag_os_fail(err, "remove", path, errno);
    else status = rag_os_sync_dir(dir, err);
  }
  rag_free(path);
  return status;
}
