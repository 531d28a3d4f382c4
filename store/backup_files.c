// Backups: opening what a backup directory holds. It may come from anywhere, a USB stick say, so nothing in it leads out
// of it: below the directory itself, which the operator named, there are folders and regular files and nothing else. A
// link is refused wherever it points, as is what would block (a pipe) or never end (a device).
//
// rag_backup__open resolves part by part without following, so that no moment lies between a look and the opening. The
// backup engine opens by paths of its own; before it is let in, rag_backup__check_plain looks at every entry.
#include "store/backup_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <sys/stat.h>
#include <unistd.h>

static rag_status strange(const char *dir, const char *path, rag_error *err) {
  return rag_fail(err, RAG_DATA_LOSS, "%s/%s is a link or no regular file, and a backup holds neither", dir, path);
}

static rag_status open_failed(const char *dir, const char *path, int error_number, rag_error *err) {
  if (error_number == ENOENT) return rag_fail(err, RAG_DATA_LOSS, "%s/%s is missing", dir, path);
  if (error_number == ELOOP || error_number == ENOTDIR) return strange(dir, path, err);
  return rag_os_fail(err, "open", path, error_number);
}

rag_status rag_backup__open(const char *dir, const char *path, int *out, rag_error *err) {
  struct stat info;
  rag_status status = RAG_OK;
  char part[BACKUP_PATH_MAX];
  int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) return rag_os_fail(err, "open", dir, errno);
  for (const char *rest = path; *rest != '\0';) {
    size_t size = strcspn(rest, "/");
    bool last = rest[size] == '\0';
    if (size == 0 || size >= sizeof part || (rest[0] == '.' && (size == 1 || (size == 2 && rest[1] == '.')))) {
      status = strange(dir, path, err);
      goto out;
    }
    memcpy(part, rest, size);
    part[size] = '\0';
    int next = openat(at, part, O_NOFOLLOW | O_CLOEXEC | (last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY));
    if (next < 0) {
      status = open_failed(dir, path, errno, err);
      goto out;
    }
    close(at);
    at = next;
    rest += size + (last ? 0 : 1);
  }
  if (fstat(at, &info) != 0) status = rag_os_fail(err, "look at", path, errno);
  else if (!S_ISREG(info.st_mode)) status = strange(dir, path, err);
  if (status == RAG_OK) {
    *out = at;
    at = -1;
  }
out:
  if (at >= 0) close(at);
  return status;
}

rag_status rag_backup__load(const char *dir, const char *path, uint64_t bytes_max, char **out, size_t *out_size,
                            rag_error *err) {
  struct stat info;
  char *bytes = NULL;
  size_t size = 0;
  int fd = -1;
  rag_status status;
  RAG_TRY(rag_backup__open(dir, path, &fd, err));
  if (fstat(fd, &info) != 0) RAG_TRY_OUT(rag_os_fail(err, "look at", path, errno));
  if ((uint64_t)info.st_size > bytes_max)
    RAG_TRY_OUT(rag_fail(err, RAG_DATA_LOSS, "%s/%s has %lld bytes, over %llu", dir, path, (long long)info.st_size,
                         (unsigned long long)bytes_max));
  bytes = rag_alloc((size_t)info.st_size + 1);
  if (bytes == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, (size_t)info.st_size));
  while (size < (size_t)info.st_size) {
    ssize_t got = read(fd, bytes + size, (size_t)info.st_size - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) RAG_TRY_OUT(rag_os_fail(err, "read", path, errno));
    if (got == 0) break; // it was cut meanwhile: the checksum says so
    size += (size_t)got;
  }
  bytes[size] = '\0';
  *out = bytes;
  *out_size = size;
  bytes = NULL;
  status = RAG_OK;
out:
  close(fd);
  rag_free(bytes);
  return status;
}

rag_status rag_backup__check_plain(const char *dir, rag_error *err) {
  char *folder = rag_backup__path(dir, ".", NULL); // the directory itself may be a link, its name says where to
  rag_status status = RAG_OK;
  if (folder == NULL) return rag_fail_no_memory(err, BACKUP_PATH_MAX);
  char *roots[] = {folder, NULL};
  FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
  if (walk == NULL) status = rag_os_fail(err, "read", dir, errno);
  while (walk != NULL && status == RAG_OK) {
    errno = 0;
    FTSENT *entry = fts_read(walk);
    if (entry == NULL) {
      if (errno != 0) status = rag_os_fail(err, "read", dir, errno);
      break;
    }
    switch (entry->fts_info) {
    case FTS_D:
    case FTS_DP:
    case FTS_F:
      break;
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
      if (entry->fts_errno != ENOENT) status = rag_os_fail(err, "read", entry->fts_path, entry->fts_errno);
      break;
    default:
      status = rag_fail(err, RAG_FAILED_PRECONDITION,
                        "%s is a link or no regular file; a backup directory holds neither, so that nothing outside of "
                        "it is written or removed",
                        entry->fts_path);
    }
  }
  if (walk != NULL) fts_close(walk);
  rag_free(folder);
  return status;
}
