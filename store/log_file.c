// Reading RocksDB's record files, to tell a torn tail from damage more sharply than RocksDB does.
//
// Why: RocksDB's recovery takes two kinds of damage for the end of the log, and says nothing. A record whose length runs
// past the end of the file is a torn tail to it: so is a flipped bit in the length of a record in the last block. And a
// record of a type that recycled logs use (5 to 8) is "old", which ends the log wherever it stands: one flipped bit makes
// a 1 into a 5, and every acknowledged record after it is gone. Both were seen here; neither passes this reader.
//
// Format (RocksDB's, of LevelDB): blocks of 32 KiB; a record's fragments are u32le masked CRC32C of type and payload,
// u16le length, u8 type (1 whole, 2 first, 3 middle, 4 last), payload. What is left of a block below 7 bytes is zero.
// Types beyond 4 belong to features that this program does not turn on.
//
// What a crash leaves: a file that ends within a fragment, or between the fragments of one record, or with zeros (space
// given to the file and never written). All else is damage. A fragment that runs past the end of the file could be
// either; it is damage where its checksum holds for a shorter length after which the file ends or another good
// fragment follows, as then the length is wrong and not the file short. A torn fragment passes for damage by chance once
// in 2^32.
#include "store/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 32768u
#define HEADER_BYTES 7u
enum { TYPE_ZERO = 0, TYPE_WHOLE = 1, TYPE_FIRST = 2, TYPE_MIDDLE = 3, TYPE_LAST = 4 };

typedef struct walk {
  const char *path;
  int fd;
  uint64_t size;  // of the file
  uint64_t start; // of the block in memory
  size_t filled;  // its bytes
  size_t at;      // in the block
  unsigned char block[BLOCK_BYTES];
} walk;

static uint32_t u32le(const unsigned char *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t unmask(uint32_t masked) { // as RocksDB stores CRCs, so that a CRC of CRCs is no fixed point
  uint32_t rotated = masked - UINT32_C(0xa282ead8);
  return rotated >> 17 | rotated << 15;
}

static rag_status load_block(walk *w, uint64_t start, rag_error *err) {
  size_t want = (size_t)RAG_MIN((uint64_t)BLOCK_BYTES, w->size - start);
  w->start = start;
  w->at = 0;
  for (w->filled = 0; w->filled < want;) {
    ssize_t got = pread(w->fd, w->block + w->filled, want - w->filled, (off_t)(start + w->filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return rag_os_fail(err, "read", w->path, errno);
    if (got == 0) return rag_fail(err, RAG_UNAVAILABLE, "%s became shorter while it was read", w->path);
    w->filled += (size_t)got;
  }
  return RAG_OK;
}

static bool ends_here(const walk *w) { // the file does, with this block
  return w->start + w->filled == w->size;
}

static bool zero_to_end_of_block(const walk *w) {
  for (size_t i = w->at; i < w->filled; i++)
    if (w->block[i] != 0) return false;
  return true;
}

// Nothing but zeros from here to the end of the file? Moves the walk there.
static rag_status zero_to_end(walk *w, bool *out, rag_error *err) {
  for (*out = zero_to_end_of_block(w); *out && !ends_here(w);) {
    RAG_TRY(load_block(w, w->start + w->filled, err));
    *out = zero_to_end_of_block(w);
  }
  return RAG_OK;
}

static bool fragment_is_good(const walk *w, size_t at) {
  if (w->filled - at < HEADER_BYTES) return false;
  const unsigned char *p = w->block + at;
  size_t length = (size_t)p[4] | (size_t)p[5] << 8;
  if (p[6] < TYPE_WHOLE || p[6] > TYPE_LAST || at + HEADER_BYTES + length > w->filled) return false;
  return rag_crc32c(0, p + 6, 1 + length) == unmask(u32le(p));
}

// A fragment stated to run past the end of the file: does its checksum hold for a shorter one?
static bool length_is_wrong(const walk *w) {
  const unsigned char *p = w->block + w->at;
  size_t left = w->filled - w->at - HEADER_BYTES;
  uint32_t expected = unmask(u32le(p)), crc = rag_crc32c(0, p + 6, 1);
  for (size_t length = 0;; length++) {
    size_t after = w->at + HEADER_BYTES + length;
    if (crc == expected && (after == w->filled || after + HEADER_BYTES > BLOCK_BYTES || fragment_is_good(w, after)))
      return true;
    if (length == left) return false;
    crc = rag_crc32c(crc, p + HEADER_BYTES + length, 1);
  }
}

static rag_status damaged(const walk *w, size_t at, const char *what, rag_error *err) {
  return rag_fail(err, RAG_DATA_LOSS, "%s is damaged at byte %llu: %s; restore the store from a backup", w->path,
                  (unsigned long long)(w->start + at), what);
}

typedef enum next_kind { NEXT_FRAGMENT, NEXT_END, NEXT_TORN } next_kind;

// Moves on to where a header is whole; false: the file ends before, at *out.
static rag_status find_header(walk *w, bool *found, next_kind *out, rag_error *err) {
  for (*found = false; !*found;) {
    if (w->filled - w->at >= HEADER_BYTES) {
      *found = true;
      return RAG_OK;
    }
    bool short_block = w->filled < BLOCK_BYTES;
    if (short_block) { // the file ends here, not the block
      *out = w->at == w->filled ? NEXT_END : NEXT_TORN;
      return RAG_OK;
    }
    if (!zero_to_end_of_block(w)) return damaged(w, w->at, "the end of a block is not empty", err);
    if (ends_here(w)) {
      *out = NEXT_END;
      return RAG_OK;
    }
    RAG_TRY(load_block(w, w->start + w->filled, err));
  }
  return RAG_OK;
}

// The next fragment, at *payload (in the block, until the next call).
static rag_status next_fragment(walk *w, uint64_t *offset, unsigned *type, rag_slice *payload, next_kind *out,
                                rag_error *err) {
  bool found = false;
  RAG_TRY(find_header(w, &found, out, err));
  *offset = w->start + w->at;
  if (!found) return RAG_OK;
  const unsigned char *p = w->block + w->at;
  size_t length = (size_t)p[4] | (size_t)p[5] << 8, at = w->at;
  if (p[6] == TYPE_ZERO && length == 0) {
    bool zero = false;
    RAG_TRY(zero_to_end(w, &zero, err));
    if (!zero) return damaged(w, w->at, "a record of no type", err);
    *out = NEXT_TORN;
    return RAG_OK;
  }
  if (at + HEADER_BYTES + length > BLOCK_BYTES) return damaged(w, at, "a record is longer than its block", err);
  if (at + HEADER_BYTES + length > w->filled) {
    if (length_is_wrong(w)) return damaged(w, at, "a record's length is wrong", err);
    *out = NEXT_TORN;
    return RAG_OK;
  }
  if (rag_crc32c(0, p + 6, 1 + length) != unmask(u32le(p))) return damaged(w, at, "a checksum does not match", err);
  if (p[6] < TYPE_WHOLE || p[6] > TYPE_LAST) return damaged(w, at, "a record has an unknown type", err);
  *type = p[6];
  *payload = rag_slice_of(p + HEADER_BYTES, length);
  w->at += HEADER_BYTES + length;
  *out = NEXT_FRAGMENT;
  return RAG_OK;
}

static rag_status walk_records(walk *w, log_file_record_fn each, void *ctx, log_file_end *out_end, rag_buf *record,
                               rag_error *err) {
  bool within = false;
  uint64_t start = 0;
  for (;;) {
    unsigned type = 0;
    rag_slice payload = {0};
    next_kind kind = NEXT_END;
    uint64_t offset = 0;
    RAG_TRY(next_fragment(w, &offset, &type, &payload, &kind, err));
    if (kind != NEXT_FRAGMENT) {
      *out_end = kind == NEXT_TORN || within ? LOG_FILE_TORN : LOG_FILE_WHOLE;
      return RAG_OK;
    }
    bool begins = type == TYPE_WHOLE || type == TYPE_FIRST;
    if (begins == within) return damaged(w, (size_t)(offset - w->start), "a part of a record is missing", err);
    if (begins) {
      start = offset;
      rag_buf_clear(record);
    }
    rag_buf_append(record, payload.data, payload.size);
    within = type == TYPE_FIRST || type == TYPE_MIDDLE;
    if (within) continue;
    RAG_TRY(rag_buf_check(record, err));
    RAG_TRY(each(ctx, start, rag_buf_slice(record), err));
  }
}

rag_status rag_store__log_file_walk(const char *path, log_file_record_fn each, void *ctx, log_file_end *out_end,
                                    rag_error *err) {
  rag_buf record = {0};
  struct stat info;
  rag_status status;
  walk *w = rag_alloc(sizeof *w);
  if (w == NULL) return rag_fail_no_memory(err, sizeof *w);
  w->path = path;
  w->fd = open(path, O_RDONLY | O_CLOEXEC);
  if (w->fd < 0 || fstat(w->fd, &info) != 0) status = rag_os_fail(err, "open", path, errno);
  else {
    w->size = (uint64_t)info.st_size;
    status = load_block(w, 0, err);
    if (status == RAG_OK) status = walk_records(w, each, ctx, out_end, &record, err);
  }
  if (w->fd >= 0) close(w->fd);
  rag_buf_free(&record);
  rag_free(w);
  return status;
}
