// faultfs.so: loaded before the C library (LD_PRELOAD), it stands between a process and the files under one folder. It
// keeps what a disk would hold after a power cut, and it fails the calls that a plan names. See faultfs.h for the
// environment and for the layout of the durable image.
//
// The model is POSIX taken at its word, and nothing kinder:
//  1. Bytes and sizes are durable after fsync or fdatasync of their file. sync_file_range makes nothing durable.
//  2. A name (creation, rename, removal, of files and of folders) is durable after fsync of the folder that it is in.
//     The sync of a file does not make its name durable; a durable name of a file that was never synced is an empty
//     file.
//  3. A sync that fails makes nothing durable, and what it should have written is clean from then on: a second sync
//     answers OK and has nothing to write. Linux does that; so a program that tries again loses data here.
// The process works on its own folder in full; the image beside it only moves at syncs. So a SIGKILL at any moment
// leaves both, and the image is what the disk would hold: a sync that was cut short may have got a part of its bytes
// there, which is what a disk does too.
//
// Left out: a mapping that can be written (mmap shared and writable), copying inside the kernel, duplicated descriptors
// and opens relative to a watched folder: the process is aborted, for the model would be wrong. Streams opened by fopen
// are not seen (RocksDB writes its own text log so): their files exist and are empty after a cut. Of reads, those
// through read, pread and fread_unlocked are counted (RocksDB's logs and manifests come through the last).
//
// Threads and locks: `names` orders every change of a folder against the copying of its entries. Every file has `sync`,
// held while its bytes are copied, so that a second sync does not answer before the first has done the work, and
// `dirty` for the bounds of what is dirty. Order: names, sync, dirty. Descriptor slots are written by open and close
// alone.
#include "tests/fault/power/faultfs.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define FDS_MAX 4096
#define INODES_MAX 65536u // open addressing; at most half full
#define COPY_BYTES 65536

typedef struct inode {
  ino_t number; // 0: free; guarded by: names
  pthread_mutex_t sync, dirty;
  off_t low, high;   // guarded by: dirty; [low, high) was written since the last sync; low == high: nothing was
  bool size_changed; // guarded by: dirty
} inode;

typedef struct descriptor {
  inode *file;
  bool folder;
  char path[PATH_MAX];
} descriptor;

static char dir[PATH_MAX], durable[PATH_MAX]; // immutable after start
static size_t dir_size;                       // 0: nothing is watched
static bool power, entries_with_file;
static long sync_us;
static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;
static inode inodes[INODES_MAX];
static unsigned inode_count;
static _Atomic(descriptor *) fds[FDS_MAX];

static struct {
  bool on, forever;
  fault_class class;
  int error; // 0: SHORT; -1: KILL
  uint64_t nth;
  char part[64];
} plan;
static fault_report own_report, *report = &own_report;

// The calls themselves, past every wrapper.
#define SYS(name, ...) syscall(SYS_##name, __VA_ARGS__)

static _Noreturn void give_up(const char *what, const char *path) {
  char text[PATH_MAX + 128];
  int size = snprintf(text, sizeof text, "faultfs: %s: %s: %s\n", what, path, strerror(errno));
  (void)!SYS(write, 2, text, (size_t)size);
  abort();
}

static bool watched(const char *path) {
  return dir_size != 0 && strncmp(path, dir, dir_size) == 0 && (path[dir_size] == '/' || path[dir_size] == '\0');
}

static descriptor *of_fd(int fd) {
  return fd >= 0 && fd < FDS_MAX ? atomic_load_explicit(&fds[fd], memory_order_acquire) : NULL;
}

// ---------------------------------------------------------------------------------------------- faults

// Counts the call and says whether it is to fail: 0 no, 1 yes (errno is set), 2 short.
static int fault(fault_class class, const char *path) {
  if (plan.part[0] != '\0' && strstr(path, plan.part) == NULL) return 0;
  uint64_t n = atomic_fetch_add_explicit(&report->calls[class], 1, memory_order_relaxed) + 1;
  if (!plan.on || plan.class != class || (plan.forever ? n < plan.nth : n != plan.nth)) return 0;
  if (atomic_fetch_add_explicit(&report->fired, 1, memory_order_relaxed) == 0) {
    const char *slash = strrchr(path, '/');
    snprintf(report->first, sizeof report->first, "%s", slash != NULL ? slash + 1 : path);
  }
  if (plan.error < 0) SYS(kill, getpid(), SIGKILL);
  if (plan.error == 0) return 2;
  errno = plan.error;
  return 1;
}

static void read_plan(const char *text) {
  static const char *const classes[] = FAULT_CLASS_NAMES;
  static const struct {
    const char *name;
    int value;
  } errors[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EMFILE", EMFILE}, {"SHORT", 0}, {"KILL", -1}};
  char class[32], error[16], rest[80] = "";
  unsigned long long nth = 0;
  bool good = sscanf(text, "%31[^:]:%15[^:]:%llu%79s", class, error, &nth, rest) >= 3 && nth > 0, found = false;
  for (int i = 0; i < FAULT_CLASS_COUNT; i++)
    if (good && strcmp(class, classes[i]) == 0) plan.class = (fault_class)i, found = true;
  good = good && found;
  found = false;
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (good && strcmp(error, errors[i].name) == 0) plan.error = errors[i].value, found = true;
  if (!good || !found) give_up("bad RAGD_FAULT_PLAN", text);
  plan.nth = nth;
  plan.forever = rest[0] == '+';
  const char *at = strchr(rest, '@');
  if (at != NULL) snprintf(plan.part, sizeof plan.part, "%s", at + 1);
  plan.on = true;
}

// ---------------------------------------------------------------------------------------------- the durable image

static void image_path(char out[PATH_MAX], const char *kind, ino_t number) {
  if (snprintf(out, PATH_MAX, "%.3900s/%s-%llu", durable, kind, (unsigned long long)number) >= PATH_MAX) abort();
}

static inode *inode_find(ino_t number) { // guarded by: names
  for (size_t i = (size_t)number * 2654435761u % INODES_MAX;; i = (i + 1) % INODES_MAX) {
    if (inodes[i].number == number) return &inodes[i];
    if (inodes[i].number != 0) continue;
    if (++inode_count > INODES_MAX / 2) give_up("too many files", dir);
    inodes[i].number = number;
    pthread_mutex_init(&inodes[i].sync, NULL);
    pthread_mutex_init(&inodes[i].dirty, NULL);
    return &inodes[i];
  }
}

// The file at `path` gets its second link. Call with `names` held.
static void keep_live(const char *path, ino_t number) {
  char live[PATH_MAX];
  image_path(live, "live", number);
  if (SYS(linkat, AT_FDCWD, path, AT_FDCWD, live, 0) != 0 && errno != EEXIST) give_up("link", live);
}

static void write_fully(int fd, const char *data, size_t size, off_t at, const char *path) {
  while (size > 0) {
    ssize_t put = SYS(pwrite64, fd, data, size, at);
    if (put <= 0) give_up("write the image", path);
    data += put;
    at += put;
    size -= (size_t)put;
  }
}

static void copy_range(int from, int to, off_t low, off_t high, const char *path) {
  char block[COPY_BYTES];
  while (low < high) {
    size_t want = (size_t)(high - low < COPY_BYTES ? high - low : COPY_BYTES);
    ssize_t got = SYS(pread64, from, block, want, low);
    if (got < 0) give_up("read", path);
    if (got == 0) break; // the file has become shorter meanwhile
    write_fully(to, block, (size_t)got, low, path);
    low += got;
  }
}

// The bytes [low, high) and, where it was changed, the size.
static void make_bytes_durable(ino_t number, off_t low, off_t high, bool size_changed) {
  char live[PATH_MAX], image[PATH_MAX];
  struct stat found, kept;
  image_path(live, "live", number);
  image_path(image, "file", number);
  int from = (int)SYS(openat, AT_FDCWD, live, O_RDONLY | O_CLOEXEC, 0);
  int to = (int)SYS(openat, AT_FDCWD, image, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (from < 0 || to < 0 || fstat(from, &found) != 0 || fstat(to, &kept) != 0) give_up("open the image", image);
  copy_range(from, to, low, high, image);
  // A larger size that a write of this moment made is not in the bounds, and not in this sync.
  off_t size = high > kept.st_size ? high : kept.st_size;
  if (size_changed || size > found.st_size) size = found.st_size;
  if (SYS(ftruncate, to, size) != 0) give_up("truncate the image", image);
  SYS(close, from);
  SYS(close, to);
}

// The entries of a folder as they are. Call with `names` held.
static void make_names_durable(const char *path, ino_t number) {
  char image[PATH_MAX], temporary[PATH_MAX];
  struct stat found;
  image_path(image, "dir", number);
  image_path(temporary, "new", number);
  FILE *out = fopen(temporary, "we");
  DIR *folder = opendir(path);
  if (out == NULL || folder == NULL) give_up("list", path);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char name[PATH_MAX + 256];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
    if (lstat(name, &found) != 0) give_up("stat", name);
    fprintf(out, "%c %llu %s\n", S_ISDIR(found.st_mode) ? 'd' : 'f', (unsigned long long)found.st_ino, entry->d_name);
    if (!S_ISDIR(found.st_mode)) keep_live(name, found.st_ino);
  }
  closedir(folder);
  if (fclose(out) != 0 || SYS(renameat2, AT_FDCWD, temporary, AT_FDCWD, image, 0) != 0) give_up("list", image);
}

// What is there at the start is durable.
static void adopt(const char *path) {
  struct stat found;
  DIR *folder = opendir(path);
  if (folder == NULL || lstat(path, &found) != 0) give_up("open", path);
  make_names_durable(path, found.st_ino);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char name[PATH_MAX];
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (snprintf(name, sizeof name, "%s/%s", path, entry->d_name) >= PATH_MAX) abort();
    if (lstat(name, &found) != 0) give_up("stat", name);
    if (S_ISDIR(found.st_mode)) adopt(name);
    else make_bytes_durable(found.st_ino, 0, found.st_size, true);
  }
  closedir(folder);
}

__attribute__((constructor)) static void start(void) {
  const char *text = getenv("RAGD_FAULT_DIR");
  if (text == NULL) return;
  struct stat found;
  snprintf(dir, sizeof dir, "%s", text);
  text = getenv("RAGD_FAULT_DURABLE");
  if (text != NULL) snprintf(durable, sizeof durable, "%s", text);
  power = text != NULL;
  text = getenv("RAGD_FAULT_ENTRIES");
  entries_with_file = text != NULL && strcmp(text, "with-file") == 0;
  text = getenv("RAGD_FAULT_SYNC_US");
  sync_us = text != NULL ? strtol(text, NULL, 10) : 0;
  text = getenv("RAGD_FAULT_PLAN");
  if (text != NULL && text[0] != '\0') read_plan(text);
  text = getenv("RAGD_FAULT_REPORT");
  if (text != NULL) {
    int fd = (int)SYS(openat, AT_FDCWD, text, O_RDWR | O_CLOEXEC, 0);
    void *map = fd < 0 ? MAP_FAILED
                       : (void *)SYS(mmap, NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); // NOLINT
    if (map == MAP_FAILED) give_up("map the report", text);
    report = map;
    SYS(close, fd);
  }
  if (lstat(dir, &found) != 0 || !S_ISDIR(found.st_mode)) give_up("RAGD_FAULT_DIR", dir);
  if (power) {
    char path[PATH_MAX + 16], temporary[PATH_MAX + 16];
    adopt(dir);
    // Last, and at once: an image without it is none, and the process has done nothing yet.
    snprintf(path, sizeof path, "%s/root", durable);
    snprintf(temporary, sizeof temporary, "%s/new-root", durable);
    FILE *root = fopen(temporary, "we");
    if (root == NULL || fprintf(root, "%llu\n", (unsigned long long)found.st_ino) < 0 || fclose(root) != 0 ||
        SYS(renameat2, AT_FDCWD, temporary, AT_FDCWD, path, 0) != 0)
      give_up("RAGD_FAULT_DURABLE", path);
  }
  dir_size = strlen(dir);
}

static void mark(inode *file, off_t low, off_t high, bool size_changed) {
  pthread_mutex_lock(&file->dirty);
  if (file->low == file->high) file->low = low, file->high = high;
  if (low < file->low) file->low = low;
  if (high > file->high) file->high = high;
  file->size_changed |= size_changed;
  pthread_mutex_unlock(&file->dirty);
}

static void take_marks(inode *file, off_t *low, off_t *high, bool *size_changed) {
  pthread_mutex_lock(&file->dirty);
  *low = file->low;
  *high = file->high;
  *size_changed = file->size_changed;
  file->low = file->high = 0;
  file->size_changed = false;
  pthread_mutex_unlock(&file->dirty);
}

static void wait_us(long us) {
  struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
  if (us > 0) nanosleep(&pause, NULL);
}

static void sync_entry_of(const char *path) {
  char folder[PATH_MAX];
  struct stat found;
  snprintf(folder, sizeof folder, "%s", path);
  *strrchr(folder, '/') = '\0';
  if (lstat(folder, &found) != 0) give_up("stat", folder);
  make_names_durable(folder, found.st_ino);
}

// Half of the time before the bytes are durable and half after: a kill meets both.
static int sync_descriptor(descriptor *d, fault_class class) {
  off_t low, high;
  bool size_changed;
  int failed = fault(class, d->path);
  if (!power) return failed ? -1 : 0;
  wait_us(sync_us / 2);
  if (d->folder && !failed) {
    struct stat found;
    pthread_mutex_lock(&names);
    if (lstat(d->path, &found) != 0) give_up("stat", d->path);
    make_names_durable(d->path, found.st_ino);
    pthread_mutex_unlock(&names);
  } else if (!d->folder) {
    if (entries_with_file) pthread_mutex_lock(&names);
    pthread_mutex_lock(&d->file->sync);
    take_marks(d->file, &low, &high, &size_changed);
    if (!failed && (low < high || size_changed)) make_bytes_durable(d->file->number, low, high, size_changed);
    if (!failed && entries_with_file) sync_entry_of(d->path);
    pthread_mutex_unlock(&d->file->sync);
    if (entries_with_file) pthread_mutex_unlock(&names);
  }
  wait_us(sync_us / 2);
  if (failed) errno = plan.error;
  return failed ? -1 : 0;
}

// ---------------------------------------------------------------------------------------------- descriptors

static void remember(int fd, const char *path, const struct stat *found) {
  if (fd >= FDS_MAX) give_up("a descriptor is too large", path);
  descriptor *d = calloc(1, sizeof *d);
  if (d == NULL) give_up("memory", path);
  d->folder = S_ISDIR(found->st_mode);
  snprintf(d->path, sizeof d->path, "%s", path);
  d->file = inode_find(found->st_ino);
  free(atomic_exchange_explicit(&fds[fd], d, memory_order_acq_rel));
}

static void forget(int fd) {
  if (fd >= 0 && fd < FDS_MAX) free(atomic_exchange_explicit(&fds[fd], NULL, memory_order_acq_rel));
}

static int open_watched(const char *path, int flags, mode_t mode) {
  struct stat found;
  if ((flags & O_TMPFILE) == O_TMPFILE) give_up("not modelled: O_TMPFILE", path);
  if (fault(FAULT_OPEN, path)) return -1;
  pthread_mutex_lock(&names);
  int fd = (int)SYS(openat, AT_FDCWD, path, flags, mode);
  int why = errno;
  if (fd >= 0) {
    if (fstat(fd, &found) != 0) give_up("stat", path);
    remember(fd, path, &found);
    if (power && S_ISREG(found.st_mode)) {
      keep_live(path, found.st_ino);
      // What a truncation took away counts as changed.
      if ((flags & O_TRUNC) != 0) mark(of_fd(fd)->file, 0, 0, true);
    }
  }
  pthread_mutex_unlock(&names);
  errno = why;
  return fd;
}

static int open_any(int at, const char *path, int flags, mode_t mode) {
  if (path[0] == '/' && watched(path)) return open_watched(path, flags, mode);
  if (path[0] != '/' && of_fd(at) != NULL) give_up("not modelled: an open relative to a watched folder", path);
  int fd = (int)SYS(openat, at, path, flags, mode);
  return fd;
}

#define MODE_OF(flags)                                                                                                 \
  mode_t mode = 0;                                                                                                     \
  if (((flags) & (O_CREAT | O_TMPFILE)) != 0) {                                                                        \
    va_list args;                                                                                                      \
    va_start(args, flags);                                                                                             \
    mode = va_arg(args, mode_t);                                                                                       \
    va_end(args);                                                                                                      \
  }

API int open(const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_any(AT_FDCWD, path, flags, mode);
}
API int open64(const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_any(AT_FDCWD, path, flags, mode);
}
API int openat(int at, const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_any(at, path, flags, mode);
}
API int openat64(int at, const char *path, int flags, ...) {
  MODE_OF(flags)
  return open_any(at, path, flags, mode);
}
API int creat(const char *path, mode_t mode) {
  return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
API int creat64(const char *path, mode_t mode) {
  return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

// The descriptor is gone also where close fails.
API int close(int fd) {
  descriptor *d = of_fd(fd);
  int failed = d != NULL ? fault(FAULT_CLOSE, d->path) : 0, why = errno;
  if (d != NULL) forget(fd);
  int result = (int)SYS(close, fd);
  if (failed) errno = why;
  return failed ? -1 : result;
}

API int fclose(FILE *stream) {
  static int (*_Atomic real)(FILE *);
  if (real == NULL) real = (int (*)(FILE *))dlsym(RTLD_NEXT, "fclose");
  forget(fileno(stream));
  return real(stream);
}

// ---------------------------------------------------------------------------------------------- reads and writes

API ssize_t write(int fd, const void *data, size_t size) {
  descriptor *d = of_fd(fd);
  if (d == NULL) return SYS(write, fd, data, size);
  int failed = fault(FAULT_WRITE, d->path);
  if (failed == 1) return -1;
  ssize_t put = SYS(write, fd, data, failed == 2 ? (size + 1) / 2 : size);
  int why = errno;
  if (put > 0) {
    off_t end = (off_t)SYS(lseek, fd, 0, SEEK_CUR);
    mark(d->file, end - put, end, false);
  }
  errno = why;
  return put;
}

static ssize_t pwrite_any(int fd, const void *data, size_t size, off_t at) {
  descriptor *d = of_fd(fd);
  if (d == NULL) return SYS(pwrite64, fd, data, size, at);
  int failed = fault(FAULT_WRITE, d->path);
  if (failed == 1) return -1;
  ssize_t put = SYS(pwrite64, fd, data, failed == 2 ? (size + 1) / 2 : size, at);
  if (put > 0) mark(d->file, at, at + put, false);
  return put;
}
API ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  return pwrite_any(fd, data, size, at);
}
API ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  return pwrite_any(fd, data, size, at);
}

API ssize_t writev(int fd, const struct iovec *parts, int count) {
  descriptor *d = of_fd(fd);
  if (d == NULL) return SYS(writev, fd, parts, count);
  int failed = fault(FAULT_WRITE, d->path);
  if (failed == 1) return -1;
  ssize_t put = SYS(writev, fd, parts, failed == 2 ? (count + 1) / 2 : count);
  if (put > 0) {
    off_t end = (off_t)SYS(lseek, fd, 0, SEEK_CUR);
    mark(d->file, end - put, end, false);
  }
  return put;
}

API ssize_t read(int fd, void *data, size_t size) {
  descriptor *d = of_fd(fd);
  int failed = d != NULL ? fault(FAULT_READ, d->path) : 0;
  if (failed == 1) return -1;
  return SYS(read, fd, data, failed == 2 ? (size + 1) / 2 : size);
}

static ssize_t pread_any(int fd, void *data, size_t size, off_t at) {
  descriptor *d = of_fd(fd);
  int failed = d != NULL ? fault(FAULT_READ, d->path) : 0;
  if (failed == 1) return -1;
  return SYS(pread64, fd, data, failed == 2 ? (size + 1) / 2 : size, at);
}
API ssize_t pread(int fd, void *data, size_t size, off_t at) {
  return pread_any(fd, data, size, at);
}
API ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
  return pread_any(fd, data, size, at);
}

#undef fread_unlocked // a macro of some C libraries

// A failed read shows as a stream in error.
API size_t fread_unlocked(void *data, size_t size, size_t count, FILE *stream) {
  static size_t (*_Atomic real)(void *, size_t, size_t, FILE *);
  if (real == NULL) real = (size_t(*)(void *, size_t, size_t, FILE *))dlsym(RTLD_NEXT, "fread_unlocked");
  descriptor *d = of_fd(fileno(stream));
  if (d == NULL || fault(FAULT_READ, d->path) != 1) return real(data, size, count, stream);
  stream->_flags |= 0x20; // _IO_ERR_SEEN: what ferror asks for, and there is no call that sets it
  errno = plan.error;
  return 0;
}

// ---------------------------------------------------------------------------------------------- syncs and sizes

API int fsync(int fd) {
  descriptor *d = of_fd(fd);
  return d != NULL ? sync_descriptor(d, FAULT_FSYNC) : (int)SYS(fsync, fd);
}
API int fdatasync(int fd) {
  descriptor *d = of_fd(fd);
  return d != NULL ? sync_descriptor(d, FAULT_FDATASYNC) : (int)SYS(fdatasync, fd);
}
API int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags) {
  descriptor *d = of_fd(fd);
  if (d == NULL) return (int)SYS(sync_file_range, fd, offset, size, flags);
  // Without flags it does no I/O and cannot fail so: RocksDB asks that way whether the call exists.
  return flags != 0 && fault(FAULT_SYNC_RANGE, d->path) ? -1 : 0;
}

static int truncate_fd(int fd, off_t size) {
  descriptor *d = of_fd(fd);
  struct stat found;
  if (d == NULL) return (int)SYS(ftruncate, fd, size);
  if (fault(FAULT_TRUNCATE, d->path)) return -1;
  if (fstat(fd, &found) != 0 || SYS(ftruncate, fd, size) != 0) return -1;
  if (size != found.st_size) mark(d->file, size, size > found.st_size ? size : found.st_size, true);
  return 0;
}
API int ftruncate(int fd, off_t size) {
  return truncate_fd(fd, size);
}
API int ftruncate64(int fd, off64_t size) {
  return truncate_fd(fd, size);
}

static int allocate(int fd, int mode, off_t offset, off_t size) {
  descriptor *d = of_fd(fd);
  struct stat before, after;
  if (d == NULL) return (int)SYS(fallocate, fd, mode, offset, size);
  if (fault(FAULT_ALLOCATE, d->path)) return -1;
  if (fstat(fd, &before) != 0 || SYS(fallocate, fd, mode, offset, size) != 0 || fstat(fd, &after) != 0) return -1;
  if (after.st_size != before.st_size) mark(d->file, before.st_size, after.st_size, true);
  // Punched holes inside the file are bytes that changed.
  if ((mode & ~FALLOC_FL_KEEP_SIZE) != 0 && offset < after.st_size)
    mark(d->file, offset, offset + size < after.st_size ? offset + size : after.st_size, false);
  return 0;
}
API int fallocate(int fd, int mode, off_t offset, off_t size) {
  return allocate(fd, mode, offset, size);
}
API int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
  return allocate(fd, mode, offset, size);
}
API int posix_fallocate(int fd, off_t offset, off_t size) {
  int kept = errno, result = allocate(fd, 0, offset, size) == 0 ? 0 : errno;
  errno = kept;
  return result;
}
API int posix_fallocate64(int fd, off64_t offset, off64_t size) {
  return posix_fallocate(fd, offset, size);
}

// ---------------------------------------------------------------------------------------------- names

static int rename_any(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  if (!watched(from) && !watched(to)) return (int)SYS(renameat2, from_at, from, to_at, to, flags);
  if (!watched(from) || !watched(to)) give_up("not modelled: a rename across the border", to);
  if (fault(FAULT_RENAME, to)) return -1;
  pthread_mutex_lock(&names);
  int result = (int)SYS(renameat2, from_at, from, to_at, to, flags), why = errno;
  pthread_mutex_unlock(&names);
  errno = why;
  return result;
}
API int rename(const char *from, const char *to) {
  return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0);
}
API int renameat(int from_at, const char *from, int to_at, const char *to) {
  return rename_any(from_at, from, to_at, to, 0);
}
API int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  return rename_any(from_at, from, to_at, to, flags);
}

static int link_any(int from_at, const char *from, int to_at, const char *to, int flags) {
  bool ours = watched(to);
  if (ours && fault(FAULT_LINK, to)) return -1;
  if (ours) pthread_mutex_lock(&names);
  int result = (int)SYS(linkat, from_at, from, to_at, to, flags), why = errno;
  if (ours) pthread_mutex_unlock(&names);
  errno = why;
  return result;
}
API int link(const char *from, const char *to) {
  return link_any(AT_FDCWD, from, AT_FDCWD, to, 0);
}
API int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
  return link_any(from_at, from, to_at, to, flags);
}

static int unlink_any(int at, const char *path, int flags) {
  bool ours = watched(path);
  if (ours && fault(FAULT_UNLINK, path)) return -1;
  if (ours) pthread_mutex_lock(&names);
  int result = (int)SYS(unlinkat, at, path, flags), why = errno;
  if (ours) pthread_mutex_unlock(&names);
  errno = why;
  return result;
}
API int unlink(const char *path) {
  return unlink_any(AT_FDCWD, path, 0);
}
API int unlinkat(int at, const char *path, int flags) {
  return unlink_any(at, path, flags);
}
API int rmdir(const char *path) {
  return unlink_any(AT_FDCWD, path, AT_REMOVEDIR);
}

static int mkdir_any(int at, const char *path, mode_t mode) {
  struct stat found;
  if (!watched(path)) return (int)SYS(mkdirat, at, path, mode);
  if (fault(FAULT_MKDIR, path)) return -1;
  pthread_mutex_lock(&names);
  int result = (int)SYS(mkdirat, at, path, mode), why = errno;
  if (result == 0 && power && lstat(path, &found) == 0) {
    char image[PATH_MAX]; // of a folder that had this inode number before
    image_path(image, "dir", found.st_ino);
    SYS(unlinkat, AT_FDCWD, image, 0);
  }
  pthread_mutex_unlock(&names);
  errno = why;
  return result;
}
API int mkdir(const char *path, mode_t mode) {
  return mkdir_any(AT_FDCWD, path, mode);
}
API int mkdirat(int at, const char *path, mode_t mode) {
  return mkdir_any(at, path, mode);
}

// ---------------------------------------------------------------------------------------------- not modelled

static void refuse(int fd, const char *call) {
  descriptor *d = of_fd(fd);
  if (d != NULL) give_up(call, d->path);
}

static void *map_any(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
  if ((flags & MAP_ANONYMOUS) == 0 && (flags & MAP_TYPE) != MAP_PRIVATE && (protection & PROT_WRITE) != 0)
    refuse(fd, "not modelled: a mapping that can be written");
  return (void *)SYS(mmap, at, size, protection, flags, fd, offset); // NOLINT
}
API void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
  return map_any(at, size, protection, flags, fd, offset);
}
API void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
  return map_any(at, size, protection, flags, fd, offset);
}
API ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
  refuse(fd, "not modelled: pwritev");
  return SYS(pwritev, fd, parts, count, at, 0);
}
API ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags) {
  refuse(to, "not modelled: copy_file_range");
  return SYS(copy_file_range, from, from_at, to, to_at, size, flags);
}
API ssize_t sendfile(int to, int from, off_t *at, size_t size) {
  refuse(to, "not modelled: sendfile");
  return SYS(sendfile, to, from, at, size);
}
API int dup(int fd) {
  refuse(fd, "not modelled: dup");
  return (int)SYS(dup, fd);
}
API int dup2(int fd, int to) {
  refuse(fd, "not modelled: dup2");
  refuse(to, "not modelled: dup2");
  return (int)SYS(dup3, fd, to, 0);
}
API int truncate(const char *path, off_t size) {
  if (watched(path)) give_up("not modelled: truncate by name", path);
  return (int)SYS(truncate, path, size);
}
API int symlink(const char *text, const char *path) {
  if (watched(path)) give_up("not modelled: symlink", path);
  return (int)SYS(symlinkat, text, AT_FDCWD, path);
}
