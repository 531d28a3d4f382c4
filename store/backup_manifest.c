// The record of one backup, DIR/manifests/ID: what it consists of and where each file goes. It is all that a restore
// needs, so that a backup can be read by a program whose RocksDB has another backup format, or by a person with patience.
//
// Format: "RAGDBACK", u32le version, u32le store format, u32le id, u64le created_us, u64le new bytes, bytes program,
// bytes store identity, varint count, then of each file: bytes path, bytes to, varint size, u32le CRC32C; at last u32le
// CRC32C of everything before it. bytes: varint length, then the bytes. Later versions append before the checksum.
//
// Invariants: paths are relative and never leave their directory (checked at both ends), and what is restored is what a
// data directory has: db/NAME, FORMAT; the record is complete or not there (rag_os_write_file).
#include "store/backup_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MANIFEST_VERSION 1u
#define FILE_BYTES_MIN 8u // in the record: bounds the count before anything is allocated for it
static const char MANIFEST_MAGIC[8] = {'R', 'A', 'G', 'D', 'B', 'A', 'C', 'K'};

void rag_backup__manifest_free(rag_backup__manifest *manifest) {
  for (uint32_t i = 0; i < manifest->file_count; i++) {
    rag_free(manifest->files[i].path);
    rag_free(manifest->files[i].to);
  }
  rag_free(manifest->files);
  *manifest = (rag_backup__manifest){0};
}

// "a/b/c" of plain names: no empty part, none that starts with a dot, nothing but letters, digits, '.', '_', '-'.
static bool path_is_plain(rag_slice path) {
  char last = '/';
  if (path.size == 0 || path.size >= BACKUP_PATH_MAX / 2) return false;
  for (size_t i = 0; i < path.size; i++) {
    char c = path.data[i];
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    if (!plain && !(c == '.' && last != '/') && !(c == '/' && last != '/')) return false;
    last = c;
  }
  return last != '/';
}

// No other file: ENDPOINT, say, would tell ragctl where to send its key.
static bool target_is_plain(rag_slice to) {
  if (rag_slice_equal(to, rag_slice_str("FORMAT"))) return true;
  return to.size > 3 && memcmp(to.data, "db/", 3) == 0 && memchr(to.data + 3, '/', to.size - 3) == NULL &&
         path_is_plain(to);
}

rag_status rag_backup__manifest_add(rag_backup__manifest *manifest, rag_slice path, rag_slice to, uint64_t size,
                                    uint32_t crc, rag_error *err) {
  rag_slice bad = path_is_plain(path) ? to : path;
  if (bad.data != to.data || (to.size > 0 && !target_is_plain(to)))
    return rag_fail(err, RAG_DATA_LOSS, "a backup's manifest names the file '%.*s', which no backup has",
                    (int)RAG_MIN(bad.size, (size_t)100), bad.data);
  if (manifest->file_count == RAG_BACKUP_FILES_MAX)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "a backup has at most %u files", RAG_BACKUP_FILES_MAX);
  if (manifest->file_count == manifest->file_capacity) {
    uint32_t capacity = RAG_MAX(64u, 2 * manifest->file_capacity);
    rag_backup__file *files = rag_realloc_array(manifest->files, capacity, sizeof *files);
    if (files == NULL) return rag_fail_no_memory(err, capacity * sizeof *files);
    manifest->files = files;
    manifest->file_capacity = capacity;
  }
  rag_backup__file file = {rag_strndup(path.data, path.size), rag_strndup(to.size ? to.data : "", to.size), size, crc};
  if (file.path == NULL || file.to == NULL) {
    rag_free(file.path);
    rag_free(file.to);
    return rag_fail_no_memory(err, path.size + to.size);
  }
  manifest->files[manifest->file_count++] = file;
  if (to.size > 0) {
    manifest->info.bytes += size;
    manifest->info.files++;
  }
  return RAG_OK;
}

rag_status rag_backup__manifest_write(const char *dir, const rag_backup__manifest *manifest, rag_error *err) {
  const rag_backup_info *info = &manifest->info;
  rag_buf buf = {0};
  char *path = rag_backup__numbered(dir, BACKUP_MANIFESTS, info->id);
  rag_buf_append(&buf, MANIFEST_MAGIC, sizeof MANIFEST_MAGIC);
  rag_buf_append_u32le(&buf, MANIFEST_VERSION);
  rag_buf_append_u32le(&buf, info->store_format);
  rag_buf_append_u32le(&buf, info->id);
  rag_buf_append_u64le(&buf, (uint64_t)info->created_us);
  rag_buf_append_u64le(&buf, info->new_bytes);
  rag_buf_append_bytes(&buf, rag_slice_str(info->program));
  rag_buf_append_bytes(&buf, rag_slice_str(info->store));
  rag_buf_append_varint(&buf, manifest->file_count);
  for (uint32_t i = 0; i < manifest->file_count; i++) {
    rag_buf_append_bytes(&buf, rag_slice_str(manifest->files[i].path));
    rag_buf_append_bytes(&buf, rag_slice_str(manifest->files[i].to));
    rag_buf_append_varint(&buf, manifest->files[i].size);
    rag_buf_append_u32le(&buf, manifest->files[i].crc);
  }
  if (!buf.failed) rag_buf_append_u32le(&buf, rag_crc32c(0, buf.data, buf.size));
  rag_status status = path == NULL ? rag_fail_no_memory(err, BACKUP_PATH_MAX) : rag_buf_check(&buf, err);
  if (status == RAG_OK) status = rag_os_write_file(path, buf.data, buf.size, err);
  rag_buf_free(&buf);
  rag_free(path);
  return status;
}

static void read_text(rag_reader *r, char out[RAG_BACKUP_TEXT_MAX]) {
  rag_slice text = rag_read_bytes(r);
  size_t size = RAG_MIN(text.size, (size_t)RAG_BACKUP_TEXT_MAX - 1);
  if (size > 0) memcpy(out, text.data, size);
  out[size] = '\0';
}

static rag_status decode(const char *path, uint32_t id, rag_slice bytes, rag_backup__manifest *out, rag_error *err) {
  size_t body = bytes.size >= 4 ? bytes.size - 4 : 0;
  rag_reader r = rag_reader_of(bytes), tail = rag_reader_of(bytes);
  rag_slice magic = rag_read_raw(&r, sizeof MANIFEST_MAGIC);
  tail.offset = body;
  if (r.bad || !rag_slice_equal(magic, rag_slice_of(MANIFEST_MAGIC, sizeof MANIFEST_MAGIC)))
    return rag_fail(err, RAG_DATA_LOSS, "%s is damaged: it is no record of a backup", path);
  if (rag_read_u32le(&tail) != rag_crc32c(0, bytes.data, body))
    return rag_fail(err, RAG_DATA_LOSS, "%s is damaged: its checksum does not match", path);
  r.size = body;
  uint32_t version = rag_read_u32le(&r);
  if (version > MANIFEST_VERSION)
    return rag_fail(err, RAG_FAILED_PRECONDITION,
                    "%s has version %u of the backup format and this program reads up to %u: use a newer ragd", path,
                    version, MANIFEST_VERSION);
  out->info.store_format = rag_read_u32le(&r);
  out->info.id = rag_read_u32le(&r);
  out->info.created_us = (int64_t)rag_read_u64le(&r);
  out->info.new_bytes = rag_read_u64le(&r);
  read_text(&r, out->info.program);
  read_text(&r, out->info.store);
  uint64_t count = rag_read_varint(&r);
  if (r.bad || out->info.id != id || count > RAG_BACKUP_FILES_MAX || count > rag_reader_left(&r) / FILE_BYTES_MIN)
    return rag_fail(err, RAG_DATA_LOSS, "%s is damaged: it cannot be decoded", path);
  for (uint64_t i = 0; i < count; i++) {
    rag_slice from = rag_read_bytes(&r), to = rag_read_bytes(&r);
    uint64_t size = rag_read_varint(&r);
    uint32_t crc = rag_read_u32le(&r);
    if (r.bad) return rag_fail(err, RAG_DATA_LOSS, "%s is damaged: it cannot be decoded", path);
    RAG_TRY(rag_backup__manifest_add(out, from, to, size, crc, err));
  }
  return RAG_OK;
}

rag_status rag_backup__manifest_read(const char *dir, uint32_t id, rag_backup__manifest *out, rag_error *err) {
  rag_backup__manifest manifest = {0};
  char *bytes = NULL, *path = rag_backup__numbered(dir, BACKUP_MANIFESTS, id), inside[64];
  size_t size = 0;
  rag_status status = path == NULL ? rag_fail_no_memory(err, BACKUP_PATH_MAX) : RAG_OK;
  snprintf(inside, sizeof inside, BACKUP_MANIFESTS "/%u", id);
  if (status == RAG_OK) status = rag_backup__load(dir, inside, BACKUP_MANIFEST_BYTES_MAX, &bytes, &size, err);
  if (status == RAG_DATA_LOSS && !rag_os_exists(path))
    status = rag_fail(err, RAG_NOT_FOUND, "there is no backup %u in %s; `backup list` shows those that are", id, dir);
  if (status == RAG_OK) status = decode(path, id, rag_slice_of(bytes, size), &manifest, err);
  if (status == RAG_OK) *out = manifest;
  else rag_backup__manifest_free(&manifest);
  rag_free(bytes);
  rag_free(path);
  return status;
}

// ---------------------------------------------------------------------------------------------- names

char *rag_backup__path(const char *dir, const char *part, const char *leaf) {
  rag_buf buf = {0};
  rag_buf_printf(&buf, "%s/%s%s%s", dir, part, leaf ? "/" : "", leaf ? leaf : "");
  if (!buf.failed) return buf.data;
  rag_buf_free(&buf);
  return NULL;
}

char *rag_backup__numbered(const char *dir, const char *part, uint32_t id) {
  rag_buf leaf = {0};
  rag_buf_printf(&leaf, "%u", id);
  char *path = leaf.failed ? NULL : rag_backup__path(dir, part, leaf.data);
  rag_buf_free(&leaf);
  return path;
}

static int by_number(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

// A name is a number as we print it: digits without a leading zero, that fit.
static bool number_of(const char *name, uint32_t *out) {
  char *end = NULL;
  if (*name < '1' || *name > '9' || strlen(name) > 10) return false;
  unsigned long long number = strtoull(name, &end, 10);
  if (*end != '\0' || number > UINT32_MAX) return false;
  *out = (uint32_t)number;
  return true;
}

rag_status rag_backup__numbers(const char *folder, uint32_t **out, uint32_t *out_count, rag_error *err) {
  uint32_t *numbers = NULL, count = 0, capacity = 0, number;
  rag_status status = RAG_OK;
  DIR *dir = opendir(folder);
  if (dir == NULL && errno != ENOENT) return rag_os_fail(err, "open", folder, errno);
  while (dir != NULL && status == RAG_OK) {
    errno = 0;
    struct dirent *entry = readdir(dir);
    if (entry == NULL && errno != 0) status = rag_os_fail(err, "read", folder, errno);
    if (entry == NULL) break;
    if (!number_of(entry->d_name, &number)) continue;
    if (count == BACKUP_IDS_MAX)
      status = rag_fail(err, RAG_RESOURCE_EXHAUSTED, "%s holds more than %u backups", folder, BACKUP_IDS_MAX);
    if (status == RAG_OK && count == capacity) {
      uint32_t room = RAG_MAX(16u, 2 * capacity);
      uint32_t *more = rag_realloc_array(numbers, room, sizeof *numbers);
      if (more == NULL) status = rag_fail_no_memory(err, room * sizeof *numbers);
      else numbers = more, capacity = room;
    }
    if (status == RAG_OK) numbers[count++] = number;
  }
  if (dir != NULL) closedir(dir);
  if (status != RAG_OK) {
    rag_free(numbers);
    return status;
  }
  if (count > 0) qsort(numbers, count, sizeof *numbers, by_number);
  *out = numbers;
  *out_count = count;
  return RAG_OK;
}
