// The OS seam: files, randomness, what the machine has. No other file of the program calls these system functions, so
// what happens on a full disk or a failed fsync is decided here and in the store alone.
//
// Invariants
//  1. rag_os_write_file leaves the old content or the new one, never a mix, and says OK only when the new one survives
//  a
//     power cut. A crash may leave "<path>.tmp-<16 hex digits>" behind; such a file is never read.
//  2. A failed fsync is reported and never tried again: the kernel has dropped the dirty pages by then, and a second
//  call
//     would say that all is well.
//  3. Every descriptor is opened close-on-exec.
//
// Threads: no shared state.
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define READ_STEP_BYTES ((size_t)64 << 10)

static rag_status status_of_errno(int error_number) {
  switch (error_number) {
  case ENOENT:
    return RAG_NOT_FOUND;
  case EEXIST:
    return RAG_ALREADY_EXISTS;
  case EACCES:
  case EPERM:
  case EROFS:
    return RAG_PERMISSION_DENIED;
  case ENOSPC:
  case EDQUOT:
  case ENOMEM:
  case EMFILE:
  case ENFILE:
  case EFBIG:
    return RAG_RESOURCE_EXHAUSTED;
  case EINVAL:
  case ENAMETOOLONG:
  case ENOTDIR:
  case EISDIR:
  case ELOOP:
    return RAG_INVALID_ARGUMENT;
  case ENOTEMPTY:
  case EBUSY:
  case EXDEV:
    return RAG_FAILED_PRECONDITION;
  case EIO:
  case EAGAIN:
  case EPIPE:
  case ECONNRESET:
    return RAG_UNAVAILABLE;
  default:
    return RAG_INTERNAL;
  }
}

rag_status rag_os_fail(rag_error *err, const char *call, const char *path, int error_number) {
  char scratch[128];
  const char *text = strerror_r(error_number, scratch, sizeof(scratch)); // the GNU one: returns the text
  return rag_fail(err, status_of_errno(error_number), "%s%s%s: %s", call, path ? " " : "", path ? path : "", text);
}

// ------------------------------------------------------------------------------------------------------------ folders

// The folder of `path`, "." where it names none. Owned.
static char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (!slash) return rag_strdup(".");
  if (slash == path) return rag_strdup("/");
  return rag_strndup(path, (size_t)(slash - path));
}

// A name is durable when the folder that it is in is synced; without that a power cut takes a new folder with all that
// was synced below it.
static rag_status sync_parent(const char *path, rag_error *err) {
  char *folder = folder_of(path);
  if (!folder) return rag_fail_no_memory(err, strlen(path) + 1);
  rag_status status = rag_os_sync_dir(folder, err);
  rag_free(folder);
  return status;
}

static rag_status make_dir(const char *path, rag_error *err) {
  struct stat found;
  if (mkdir(path, 0700) == 0) return sync_parent(path, err);
  int why = errno;
  // Whatever mkdir says of a folder that is there (EEXIST, but also EROFS or EACCES higher up), it is there.
  if (stat(path, &found) == 0) {
    if (S_ISDIR(found.st_mode)) return RAG_OK;
    return rag_fail(err, RAG_FAILED_PRECONDITION, "mkdir %s: there is a file of that name", path);
  }
  return rag_os_fail(err, "mkdir", path, why);
}

rag_status rag_os_make_dirs(const char *path, rag_error *err) {
  size_t size = strlen(path);
  if (size == 0) return rag_fail(err, RAG_INVALID_ARGUMENT, "mkdir: the path is empty");
  char *copy = rag_strdup(path);
  if (!copy) return rag_fail_no_memory(err, size + 1);
  rag_status status = RAG_OK;
  for (size_t i = 1; i < size && status == RAG_OK; i++) {
    if (copy[i] != '/' || copy[i - 1] == '/') continue;
    copy[i] = '\0';
    status = make_dir(copy, err);
    copy[i] = '/';
  }
  if (status == RAG_OK) status = make_dir(copy, err);
  rag_free(copy);
  return status;
}

rag_status rag_os_remove_tree(const char *path, rag_error *err) {
  struct stat found;
  if (lstat(path, &found) != 0) return errno == ENOENT ? RAG_OK : rag_os_fail(err, "lstat", path, errno);
  size_t size = strlen(path);
  char *copy = rag_strdup(path); // fts wants it writable
  if (!copy) return rag_fail_no_memory(err, size + 1);
  char *roots[] = {copy, NULL};
  rag_status status = RAG_OK;
  // Physical: a link is removed, never followed. fts keeps its own stack, so depth is bounded by the heap alone.
  FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_NOSTAT, NULL);
  if (!walk) {
    status = rag_os_fail(err, "fts_open", path, errno);
    goto out;
  }
  for (;;) {
    errno = 0;
    FTSENT *entry = fts_read(walk);
    if (!entry) {
      if (errno != 0) status = rag_os_fail(err, "fts_read", path, errno);
      break;
    }
    if (entry->fts_info == FTS_D) continue; // on the way down
    if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
      status = rag_os_fail(err, "read", entry->fts_path, entry->fts_errno);
      break;
    }
    int gone = entry->fts_info == FTS_DP ? rmdir(entry->fts_path) : unlink(entry->fts_path);
    if (gone != 0 && errno != ENOENT) {
      status = rag_os_fail(err, "remove", entry->fts_path, errno);
      break;
    }
  }
  fts_close(walk);
out:
  rag_free(copy);
  return status;
}

bool rag_os_exists(const char *path) {
  struct stat found;
  return lstat(path, &found) == 0;
}

rag_status rag_os_sync_dir(const char *path, rag_error *err) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return rag_os_fail(err, "open", path, errno);
  rag_status status = fsync(fd) == 0 ? RAG_OK : rag_os_fail(err, "fsync", path, errno);
  close(fd);
  return status;
}

// -------------------------------------------------------------------------------------------------------------- files

// Reads to the end of the file into *io (of *io_capacity bytes), growing it. The size that fstat gave is a hint alone:
// the file may grow meanwhile, and files of /proc say 0.
static rag_status read_to_end(int fd, const char *path, size_t size_max, char **io, size_t *io_capacity,
                              size_t *out_size, rag_error *err) {
  size_t size = 0;
  for (;;) {
    if (size + 1 >= *io_capacity) { // one byte stays for the NUL
      size_t wanted = *io_capacity + RAG_MAX(READ_STEP_BYTES, *io_capacity / 2);
      char *larger = rag_realloc(*io, wanted);
      if (!larger) return rag_fail_no_memory(err, wanted);
      *io = larger;
      *io_capacity = wanted;
    }
    ssize_t got = read(fd, *io + size, *io_capacity - size - 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return rag_os_fail(err, "read", path, errno);
    if (got == 0) break;
    size += (size_t)got;
    if (size > size_max) return rag_fail(err, RAG_OUT_OF_RANGE, "read %s: more than %zu bytes", path, size_max);
  }
  (*io)[size] = '\0';
  *out_size = size;
  return RAG_OK;
}

rag_status rag_os_read_file(const char *path, size_t size_max, char **out, size_t *out_size, rag_error *err) {
  rag_status status = RAG_OK;
  char *data = NULL;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return rag_os_fail(err, "open", path, errno);
  struct stat found;
  if (fstat(fd, &found) != 0) {
    status = rag_os_fail(err, "fstat", path, errno);
    goto out;
  }
  if (S_ISREG(found.st_mode) && found.st_size > 0 && (uintmax_t)found.st_size > size_max) {
    status =
        rag_fail(err, RAG_OUT_OF_RANGE, "read %s: %jd bytes, more than %zu", path, (intmax_t)found.st_size, size_max);
    goto out;
  }
  // Two over the size: the NUL, and one that lets the end of the file be seen without growing.
  size_t capacity = (S_ISREG(found.st_mode) && found.st_size > 0 ? (size_t)found.st_size : (size_t)4096) + 2;
  data = rag_alloc(capacity);
  if (!data) {
    status = rag_fail_no_memory(err, capacity);
    goto out;
  }
  size_t size = 0;
  RAG_TRY_OUT(read_to_end(fd, path, size_max, &data, &capacity, &size, err));
  *out = data;
  if (out_size) *out_size = size;
  data = NULL;
out:
  rag_free(data);
  close(fd);
  return status;
}

rag_status rag_os_write_all(int fd, const void *data, size_t size, rag_error *err) {
  const char *at = data;
  while (size > 0) {
    ssize_t put = write(fd, at, size);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return rag_os_fail(err, "write", NULL, errno);
    at += put;
    size -= (size_t)put;
  }
  return RAG_OK;
}

static rag_status write_and_sync(int fd, const char *path, const void *data, size_t size, rag_error *err) {
  if (rag_os_write_all(fd, data, size, err) != RAG_OK) return rag_error_prefix(err, "%s", path);
  if (fsync(fd) != 0) return rag_os_fail(err, "fsync", path, errno);
  return RAG_OK;
}

rag_status rag_os_write_file(const char *path, const void *data, size_t size, rag_error *err) {
  rag_error own; // so that a prefix has a status to return when the caller wants no text
  if (!err) err = &own;
  rag_status status = RAG_OK;
  int fd = -1;
  bool made = false;
  char temporary[PATH_MAX];
  uint64_t random;
  rag_os_random(&random, sizeof(random));
  char *folder = folder_of(path);
  if (!folder) return rag_fail_no_memory(err, strlen(path));
  int wanted = snprintf(temporary, sizeof(temporary), "%s.tmp-%016llx", path, (unsigned long long)random);
  if (wanted < 0 || (size_t)wanted >= sizeof(temporary)) {
    status = rag_os_fail(err, "open", path, ENAMETOOLONG);
    goto out;
  }
  fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) {
    status = rag_os_fail(err, "open", temporary, errno);
    goto out;
  }
  made = true;
  RAG_TRY_OUT(write_and_sync(fd, temporary, data, size, err));
  int closed = close(fd);
  fd = -1;
  if (closed != 0) {
    status = rag_os_fail(err, "close", temporary, errno);
    goto out;
  }
  if (rename(temporary, path) != 0) {
    status = rag_os_fail(err, "rename", path, errno);
    goto out;
  }
  made = false;
  RAG_TRY_OUT(rag_os_sync_dir(folder, err));
out:
  if (fd >= 0) close(fd);
  if (made) unlink(temporary);
  rag_free(folder);
  return status;
}

// ------------------------------------------------------------------------------------------------------------ machine

void rag_os_random(void *out, size_t size) {
  unsigned char *at = out;
  while (size > 0) {
    ssize_t got = getrandom(at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    RAG_ASSERT(got > 0); // a guessable key or id is worse than no process
    at += got;
    size -= (size_t)got;
  }
}

rag_status rag_os_disk_free(const char *path, uint64_t *out_bytes, rag_error *err) {
  struct statvfs found;
  if (statvfs(path, &found) != 0) return rag_os_fail(err, "statvfs", path, errno);
  *out_bytes = (uint64_t)found.f_bavail * found.f_frsize;
  return RAG_OK;
}

unsigned rag_os_cpu_count(void) {
  cpu_set_t set;
  // What this process may run on, not what the machine has: containers pin.
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return (unsigned)CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN); // more CPUs than cpu_set_t holds
  return online > 0 ? (unsigned)online : 1;
}
