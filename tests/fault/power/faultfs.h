// What faultfs.so, the preloaded library, shares with the programs that start a process under it and look at what is
// left: the environment, the report, the durable image and its replay.
//
// Environment of the process
//   RAGD_FAULT_DIR      the folder that is watched, an absolute path; calls on other files pass
//   RAGD_FAULT_DURABLE  a folder outside of it, on the same file system, for the durable image; unset: no power cuts
//   RAGD_FAULT_REPORT   a file of sizeof(fault_report) bytes, mapped and counted into; may be unset
//   RAGD_FAULT_PLAN     CLASS:ERROR:N[+][@PART]: the Nth call of CLASS (from the start of the process, counting from 1)
//                       fails so, and with + every one after it; with @PART only calls on files whose name has PART
//                       count. ERROR: EIO, ENOSPC, EMFILE, SHORT (half is done; reads and writes), KILL (the process
//                       ends by SIGKILL before the call does anything)
//   RAGD_FAULT_SYNC_US  how long a sync takes at least
//   RAGD_FAULT_ENTRIES  "with-file": a file's sync makes its folder entry durable too. Kinder than POSIX
//
// The durable image: `root` has the watched folder's inode number as text; `dir-INODE` has the entries of a folder as
// of its last sync, a line each ("f INODE NAME" or "d INODE NAME"); `file-INODE` has the bytes of a file as of its last
// sync; `live-INODE` is a hard link to the working file, so that what was written and never synced can be found too,
// and so that no inode number comes twice.
#ifndef RAGD_TESTS_FAULT_POWER_FAULTFS_H
#define RAGD_TESTS_FAULT_POWER_FAULTFS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum fault_class {
  FAULT_OPEN,
  FAULT_READ,
  FAULT_WRITE,
  FAULT_FSYNC, // files and folders
  FAULT_FDATASYNC,
  FAULT_SYNC_RANGE,
  FAULT_RENAME,
  FAULT_UNLINK,
  FAULT_TRUNCATE,
  FAULT_ALLOCATE,
  FAULT_MKDIR,
  FAULT_LINK,
  FAULT_CLOSE,
  FAULT_CLASS_COUNT,
} fault_class;

#define FAULT_CLASS_NAMES                                                                                              \
  {                                                                                                                    \
    "open", "read", "write", "fsync", "fdatasync", "sync_file_range", "rename", "unlink", "truncate", "allocate",      \
        "mkdir", "link", "close"                                                                                       \
  }

#define FAULT_NAME_MAX 80
typedef struct fault_report { // atomic: counters, relaxed; `first` is written by the call that fails first
  _Atomic uint64_t calls[FAULT_CLASS_COUNT]; // that the plan's @PART lets count
  _Atomic uint64_t fired;
  char first[FAULT_NAME_MAX]; // the file that failed first
} fault_report;

// ---- replay.c: after the process is gone

typedef enum replay_mode {
  REPLAY_STRICT, // what was synced, nothing else
  // What was synced, and of the rest what the disk happened to have got to, in the order in which it was done: of every
  // file the first bytes up to a random sector boundary or byte, and of every folder all pending changes or none. What
  // file systems that journal their names leave.
  REPLAY_PREFIX,
  // The same without any order: every 512-byte sector and every name by a coin of its own. Legal under POSIX, and more
  // than RocksDB can take: it may refuse to open, and must not open with less than was acknowledged (README.md).
  REPLAY_HOLES,
} replay_mode;

// Makes the folder `out` (which must not exist) what a disk would hold. `live` is the watched folder as the process
// left it. *seed is the state of the coin. False after a message on stderr: the harness itself failed.
bool replay(const char *durable, const char *live, const char *out, replay_mode mode, uint64_t *seed);

static inline uint64_t fault_random(uint64_t *state) { // splitmix64
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

#endif
