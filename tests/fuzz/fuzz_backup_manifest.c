// Goal: no bytes in the place of a backup's manifest make its readers crash, read past them, or name a file outside of
// the backup or of the place it is restored to; what is read is written again and read the same.
// Method: the first byte's lowest bit has the checksum recomputed. A manifest that is taken goes through list and
// verify, whose files are not there.
#include <fcntl.h>
#include <sys/stat.h>

#include "store/backup_internal.h"
#include "tests/fuzz/fuzz.h"

#define ID 1u

static char in_dir[300], out_dir[300];

static void begin(void) {
  rag_error err = {0};
  char path[340];
  snprintf(in_dir, sizeof in_dir, "%s/in", fuzz_dir());
  snprintf(out_dir, sizeof out_dir, "%s/out", fuzz_dir());
  snprintf(path, sizeof path, "%s/" BACKUP_MANIFESTS, in_dir);
  REQUIRE_OK(rag_os_make_dirs(path, &err));
  snprintf(path, sizeof path, "%s/" BACKUP_MANIFESTS, out_dir);
  REQUIRE_OK(rag_os_make_dirs(path, &err));
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  atexit(fuzz_dir_remove);
}

static void put_file(const void *data, size_t size) {
  char path[400];
  rag_error err = {0};
  snprintf(path, sizeof path, "%s/" BACKUP_MANIFESTS "/%u", in_dir, ID);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  REQUIRE_OK(rag_os_write_all(fd, data, size, &err));
  close(fd);
}

static void require_inside(const char *path) {
  REQUIRE(path[0] != '/' && path[0] != '\0');
  for (const char *part = path; part != NULL; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
    REQUIRE(part[0] != '\0' && part[0] != '.' && part[0] != '/');
}

static void require_same(const rag_backup__manifest *a, const rag_backup__manifest *b) {
  REQUIRE(a->file_count == b->file_count && a->info.id == b->info.id && a->info.created_us == b->info.created_us);
  REQUIRE(a->info.bytes == b->info.bytes && a->info.files == b->info.files && a->info.new_bytes == b->info.new_bytes);
  REQUIRE(strcmp(a->info.program, b->info.program) == 0 && strcmp(a->info.store, b->info.store) == 0);
  for (uint32_t i = 0; i < a->file_count; i++) {
    REQUIRE(strcmp(a->files[i].path, b->files[i].path) == 0 && strcmp(a->files[i].to, b->files[i].to) == 0);
    REQUIRE(a->files[i].size == b->files[i].size && a->files[i].crc == b->files[i].crc);
  }
}

static void look_at(const rag_backup__manifest *manifest) {
  rag_error err = {0};
  rag_backup__manifest again = {0};
  rag_backup_info *list = NULL, verified;
  uint32_t count = 0;
  for (uint32_t i = 0; i < manifest->file_count; i++) {
    require_inside(manifest->files[i].path);
    const char *to = manifest->files[i].to;
    if (to[0] == '\0') continue;
    require_inside(to);
    REQUIRE(strcmp(to, "FORMAT") == 0 || (strncmp(to, "db/", 3) == 0 && strchr(to + 3, '/') == NULL));
  }
  REQUIRE_OK(rag_backup__manifest_write(out_dir, manifest, &err));
  REQUIRE_OK(rag_backup__manifest_read(out_dir, ID, &again, &err));
  require_same(manifest, &again);
  rag_backup__manifest_free(&again);
  REQUIRE_OK(rag_backup_list(in_dir, &list, &count, &err));
  REQUIRE(count == 1 && list[0].id == ID && list[0].state == RAG_BACKUP_COMPLETE);
  rag_free(list);
  rag_status status = rag_backup_verify(in_dir, ID, NULL, &verified, &err);
  REQUIRE(manifest->file_count == 0 || status == RAG_DATA_LOSS);
  if (status != RAG_OK) fuzz_require_said(&err, status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  if (in_dir[0] == '\0') begin();
  char *bytes = fuzz_copy(data + 1, size - 1);
  if (data[0] & 1) fuzz_seal_tail(bytes, size - 1);
  put_file(bytes, size - 1);
  free(bytes);
  rag_backup__manifest manifest = {0};
  rag_error err = {0};
  rag_status status = rag_backup__manifest_read(in_dir, ID, &manifest, &err);
  if (status == RAG_OK) {
    look_at(&manifest);
  } else {
    REQUIRE(status == RAG_DATA_LOSS || status == RAG_FAILED_PRECONDITION);
    REQUIRE(manifest.files == NULL);
    fuzz_require_said(&err, status);
    rag_backup_info *list = NULL;
    uint32_t count = 0;
    rag_error list_err = {0};
    if (rag_backup_list(in_dir, &list, &count, &list_err) == RAG_OK)
      REQUIRE(count == 1 && list[0].state == RAG_BACKUP_DAMAGED);
    else fuzz_require_said(&list_err, list_err.status);
    rag_free(list);
  }
  rag_backup__manifest_free(&manifest);
  return 0;
}
