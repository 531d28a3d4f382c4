// What the fuzz targets share. A target is one file with LLVMFuzzerTestOneInput, which states properties by REQUIRE;
// libFuzzer drives it (tests/fuzz/run), and replay.c over its kept corpus in every build. Checksums stand between a
// mutated file and most of its reader, so targets of checked formats take a first byte of flags, one of which has them
// recompute the checksums ("seal") before they hand the bytes over.
#ifndef RAGD_FUZZ_H
#define RAGD_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
// Optional in a target: a mutation that knows the format. It asks LLVMFuzzerMutate for those of bytes.
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);

#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "failed: %s (%s:%d)\n", #condition, __FILE__, __LINE__);                                         \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)
// RAG_OK, or the text of the error; `err` must be in scope.
#define REQUIRE_OK(expr)                                                                                               \
  do {                                                                                                                 \
    rag_status require_status_ = (expr);                                                                               \
    if (require_status_ != RAG_OK) {                                                                                   \
      fprintf(stderr, "failed: %s: %s: %s (%s:%d)\n", #expr, rag_status_name(require_status_), err.message, __FILE__,  \
              __LINE__);                                                                                               \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

// Every error says something, in text that can be put into an answer or a log.
static inline void fuzz_require_said(const rag_error *err, rag_status status) {
  REQUIRE(status != RAG_OK && err->status == status);
  REQUIRE(err->message[0] != '\0' && rag_utf8_valid(err->message, strlen(err->message)));
  REQUIRE(rag_utf8_valid(err->field, strlen(err->field)));
}

// A copy of exactly its size on the heap, so that a read past its end is one past an allocation. free() it.
static inline char *fuzz_copy(const void *data, size_t size) {
  char *copy = malloc(size > 0 ? size : 1);
  REQUIRE(copy != NULL);
  if (size > 0) memcpy(copy, data, size);
  return copy;
}

static inline void fuzz_put_u32le(void *at, uint32_t v) {
  unsigned char bytes[4] = {(unsigned char)v, (unsigned char)(v >> 8), (unsigned char)(v >> 16),
                            (unsigned char)(v >> 24)};
  memcpy(at, bytes, sizeof bytes);
}

// The CRC32C of all before the last four bytes goes into them.
static inline void fuzz_seal_tail(void *data, size_t size) {
  if (size >= 4) fuzz_put_u32le((char *)data + size - 4, rag_crc32c(0, data, size - 4));
}

// A folder that is removed when the program ends; in memory where the machine has such a place.
static inline const char *fuzz_dir(void) {
  static char dir[256];
  if (dir[0] != '\0') return dir;
  const char *tmp = getenv("TMPDIR");
  if (tmp == NULL || tmp[0] == '\0') tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf(dir, sizeof dir, "%s/ragd-fuzz-XXXXXX", tmp);
  REQUIRE(mkdtemp(dir) != NULL);
  return dir;
}

static inline void fuzz_dir_remove(void) {
  rag_error err = {0};
  REQUIRE_OK(rag_os_remove_tree(fuzz_dir(), &err));
}

// A file in memory with these bytes; path: 32 bytes. close() the descriptor.
static inline int fuzz_file(const void *data, size_t size, char *path) {
  rag_error err = {0};
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE_OK(rag_os_write_all(fd, data, size, &err));
  snprintf(path, 32, "/proc/self/fd/%d", fd);
  return fd;
}

#endif
