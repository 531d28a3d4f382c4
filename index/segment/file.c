// The file of a segment: sections that are mapped, each byte under a checksum.
//
//   page 0     header (below), the last four bytes its CRC32C
//   page 1...  sections, each at the start of a page, zeros between them
//   the end    checksums: u32le CRC32C of each block of 64 KiB from page 1 on, the last one shorter
//
// header: "RAGSEGM1", u32le version, u32le section count, u64le file size, u64le offset of the checksums, u32le CRC32C of
// the checksums, u32le meta size, of each section u32le kind, u32le zero, u64le offset, u64le size; then meta; then zeros.
//
// Invariants
//  1. Under its name there is the whole file or none: it is written beside, synced, renamed, and the folder synced.
//  2. Nothing of a file is believed before its checksum: the header's own, the checksums' by the header, the contents' by
//     them. Offsets and sizes are checked against the file's length even so.
//  3. A file never changes. So mapped bytes stay what was verified, as long as the disk gives back what it gave; where it
//     can no longer read a page, the process is ended by SIGBUS, with the promises of a kill -9.
//
// Threads: a writer is one thread's; a file is any thread's.
#include "index/segment/segment_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION 1u
#define BLOCK_BYTES ((size_t)64 << 10)
#define BUFFER_BYTES ((size_t)1 << 20) // a multiple of BLOCK_BYTES
#define WRITE_BACK_BYTES (8u << 20)
#define HEADER_BYTES ((size_t)SEGMENT_ALIGN)
#define HEADER_FIXED 40u
#define HEADER_SECTION 24u
#define PART_SUFFIX ".part"
static const char MAGIC[8] = {'R', 'A', 'G', 'S', 'E', 'G', 'M', '1'};

_Static_assert(HEADER_FIXED + SEGMENT_SECTIONS_MAX * HEADER_SECTION + SEGMENT_META_BYTES_MAX + 4 <= HEADER_BYTES,
               "the header fits its page");

typedef struct section {
  uint32_t kind;
  uint64_t offset, size;
} section;

static uint64_t aligned(uint64_t offset) {
  return (offset + SEGMENT_ALIGN - 1) & ~(uint64_t)(SEGMENT_ALIGN - 1);
}

static uint64_t blocks_in(uint64_t bytes) { // of everything between the header and the checksums
  return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
}

// ---------------------------------------------------------------------------------------------- writing

struct segment_writer {
  char *path, *part, *dir;
  int fd;
  uint64_t offset; // of the next byte, those in the buffer counted
  size_t filled;
  rag_buf sums;   // u32le of each whole block so far
  uint64_t asked; // bytes that the disk was asked to take
  section sections[SEGMENT_SECTIONS_MAX];
  uint32_t section_count;
  uint8_t buffer[BUFFER_BYTES];
};

static void writer_free(segment_writer *w) {
  if (w->fd >= 0) close(w->fd);
  rag_buf_free(&w->sums);
  rag_free(w->path);
  rag_free(w->part);
  rag_free(w->dir);
  rag_free(w);
}

static char *folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return rag_strdup(".");
  return rag_strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

rag_status rag_segment__writer_create(const char *path, segment_writer **out, rag_error *err) {
  segment_writer *w = rag_alloc(sizeof *w);
  rag_status status = RAG_OK;
  if (w == NULL) return rag_fail_no_memory(err, sizeof *w);
  memset(w, 0, offsetof(segment_writer, buffer));
  w->fd = -1;
  size_t size = strlen(path);
  w->path = rag_strdup(path);
  w->dir = folder_of(path);
  w->part = rag_alloc(size + sizeof PART_SUFFIX);
  if (w->path == NULL || w->dir == NULL || w->part == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, size));
  memcpy(w->part, path, size);
  memcpy(w->part + size, PART_SUFFIX, sizeof PART_SUFFIX);
  w->fd = open(w->part, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (w->fd < 0) RAG_TRY_OUT(rag_os_fail(err, "open", w->part, errno));
  // The header's page is written last; until then it is a hole, which no reader takes for a header.
  if (lseek(w->fd, (off_t)HEADER_BYTES, SEEK_SET) < 0) {
    status = rag_os_fail(err, "seek", w->part, errno);
    (void)unlink(w->part);
    goto out;
  }
  w->offset = HEADER_BYTES;
  *out = w;
  return RAG_OK;
out:
  writer_free(w);
  return status;
}

static rag_status write_all(segment_writer *w, const void *data, size_t size, rag_error *err) {
  rag_status status = rag_os_write_all(w->fd, data, size, err);
  if (status != RAG_OK) rag_error_prefix(err, "%s", w->part);
  return status;
}

// The disk is kept busy with a little at a time: hundreds of megabytes at once, when the file is synced, would hold up the
// log of the store, whose commits wait for the same disk.
static rag_status write_back(segment_writer *w, rag_error *err) {
  const unsigned begin = SYNC_FILE_RANGE_WRITE, end = SYNC_FILE_RANGE_WAIT_BEFORE | begin | SYNC_FILE_RANGE_WAIT_AFTER;
  for (; w->offset - w->asked >= WRITE_BACK_BYTES; w->asked += WRITE_BACK_BYTES) {
    int status = sync_file_range(w->fd, (off_t)w->asked, WRITE_BACK_BYTES, begin);
    if (status == 0 && w->asked > 0)
      status = sync_file_range(w->fd, (off_t)(w->asked - WRITE_BACK_BYTES), WRITE_BACK_BYTES, end);
    if (status != 0 && (errno == EIO || errno == ENOSPC)) return rag_os_fail(err, "sync_file_range", w->part, errno);
  }
  return RAG_OK;
}

// Whole blocks, or, at the end, what there is.
static rag_status flush(segment_writer *w, rag_error *err) {
  for (size_t at = 0; at < w->filled; at += BLOCK_BYTES)
    rag_buf_append_u32le(&w->sums, rag_crc32c(0, w->buffer + at, RAG_MIN(BLOCK_BYTES, w->filled - at)));
  if (w->sums.failed) return rag_fail_no_memory(err, w->sums.size);
  RAG_TRY(write_all(w, w->buffer, w->filled, err));
  w->filled = 0;
  return write_back(w, err);
}

rag_status rag_segment__writer_append(segment_writer *w, const void *data, size_t size, rag_error *err) {
  const uint8_t *from = data;
  while (size > 0) {
    size_t some = RAG_MIN(size, BUFFER_BYTES - w->filled);
    memcpy(w->buffer + w->filled, from, some);
    w->filled += some;
    w->offset += some;
    from += some;
    size -= some;
    if (w->filled == BUFFER_BYTES) RAG_TRY(flush(w, err));
  }
  return RAG_OK;
}

static rag_status fill_page(segment_writer *w, rag_error *err) {
  static const uint8_t zeros[SEGMENT_ALIGN];
  return rag_segment__writer_append(w, zeros, (size_t)(aligned(w->offset) - w->offset), err);
}

static void end_section(segment_writer *w) {
  if (w->section_count == 0) return;
  section *last = &w->sections[w->section_count - 1];
  last->size = w->offset - last->offset;
}

rag_status rag_segment__writer_section(segment_writer *w, uint32_t kind, rag_error *err) {
  RAG_ASSERT(kind != 0 && w->section_count < SEGMENT_SECTIONS_MAX);
  for (uint32_t i = 0; i < w->section_count; i++) RAG_ASSERT(w->sections[i].kind != kind);
  end_section(w);
  RAG_TRY(fill_page(w, err));
  w->sections[w->section_count++] = (section){.kind = kind, .offset = w->offset};
  return RAG_OK;
}

static rag_status write_header(segment_writer *w, uint64_t sums_at, const void *meta, size_t meta_size,
                               rag_error *err) {
  rag_buf head = {0};
  rag_buf_append(&head, MAGIC, sizeof MAGIC);
  rag_buf_append_u32le(&head, VERSION);
  rag_buf_append_u32le(&head, w->section_count);
  rag_buf_append_u64le(&head, sums_at + w->sums.size);
  rag_buf_append_u64le(&head, sums_at);
  rag_buf_append_u32le(&head, rag_crc32c(0, w->sums.data, w->sums.size));
  rag_buf_append_u32le(&head, (uint32_t)meta_size);
  for (uint32_t i = 0; i < w->section_count; i++) {
    rag_buf_append_u32le(&head, w->sections[i].kind);
    rag_buf_append_u32le(&head, 0);
    rag_buf_append_u64le(&head, w->sections[i].offset);
    rag_buf_append_u64le(&head, w->sections[i].size);
  }
  rag_buf_append(&head, meta, meta_size);
  while (!head.failed && head.size < HEADER_BYTES - 4) rag_buf_append_u8(&head, 0);
  if (!head.failed) rag_buf_append_u32le(&head, rag_crc32c(0, head.data, head.size));
  rag_status status = head.failed ? rag_fail_no_memory(err, HEADER_BYTES) : RAG_OK;
  if (status == RAG_OK && lseek(w->fd, 0, SEEK_SET) != 0) status = rag_os_fail(err, "seek", w->part, errno);
  if (status == RAG_OK) status = write_all(w, head.data, head.size, err);
  rag_buf_free(&head);
  return status;
}

rag_status rag_segment__writer_finish(segment_writer *w, const void *meta, size_t meta_size, rag_error *err) {
  rag_status status = RAG_OK;
  RAG_ASSERT(meta_size <= SEGMENT_META_BYTES_MAX);
  end_section(w);
  RAG_TRY_OUT(flush(w, err));
  uint64_t sums_at = w->offset;
  RAG_TRY_OUT(write_all(w, w->sums.data, w->sums.size, err));
  RAG_TRY_OUT(write_header(w, sums_at, meta, meta_size, err));
  if (fsync(w->fd) != 0) RAG_TRY_OUT(rag_os_fail(err, "fsync", w->part, errno));
  if (rename(w->part, w->path) != 0) RAG_TRY_OUT(rag_os_fail(err, "rename", w->part, errno));
  status = rag_os_sync_dir(w->dir, err);
  if (status != RAG_OK) (void)unlink(w->path); // what may not survive is not there
  writer_free(w);
  return status;
out:
  rag_segment__writer_abandon(w);
  return status;
}

void rag_segment__writer_abandon(segment_writer *w) {
  if (w == NULL) return;
  (void)unlink(w->part);
  writer_free(w);
}

rag_status rag_segment__sweep(const char *dir, rag_error *err) {
  rag_status status = RAG_OK;
  DIR *folder = opendir(dir);
  if (folder == NULL) return errno == ENOENT ? RAG_OK : rag_os_fail(err, "read", dir, errno);
  for (;;) {
    errno = 0;
    struct dirent *entry = readdir(folder);
    if (entry == NULL) {
      if (errno != 0) status = rag_os_fail(err, "read", dir, errno);
      break;
    }
    size_t size = strlen(entry->d_name), end = sizeof PART_SUFFIX - 1;
    if (size <= end || strcmp(entry->d_name + size - end, PART_SUFFIX) != 0) continue;
    if (unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT)
      RAG_TRY_OUT(rag_os_fail(err, "remove", entry->d_name, errno));
  }
out:
  closedir(folder);
  return status;
}

// ---------------------------------------------------------------------------------------------- reading

struct segment_file {
  char *path;
  int fd;
  uint64_t bytes, sums_at;
  uint8_t *map;   // the whole file, for reading
  uint32_t *sums; // checked, in the machine's order
  section sections[SEGMENT_SECTIONS_MAX];
  uint32_t section_count;
  rag_slice meta; // of `head`
  uint8_t head[HEADER_BYTES];
};

static rag_status damaged(const segment_file *f, const char *what, rag_error *err) {
  return rag_fail(err, RAG_DATA_LOSS, "%s is damaged: %s", f->path, what);
}

static rag_status read_at(const segment_file *f, uint64_t offset, void *out, size_t size, rag_error *err) {
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(f->fd, (uint8_t *)out + done, size - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return rag_os_fail(err, "read", f->path, errno);
    if (got == 0) return damaged(f, "it is shorter than it was", err);
    done += (size_t)got;
  }
  return RAG_OK;
}

// Sections lie in their order, each in whole pages of its own, before the checksums.
static rag_status decode_sections(segment_file *f, rag_reader *r, rag_error *err) {
  uint64_t free_from = HEADER_BYTES;
  for (uint32_t i = 0; i < f->section_count; i++) {
    section *s = &f->sections[i];
    s->kind = rag_read_u32le(r);
    uint32_t zero = rag_read_u32le(r);
    s->offset = rag_read_u64le(r);
    s->size = rag_read_u64le(r);
    if (r->bad || s->kind == 0 || zero != 0 || s->offset % SEGMENT_ALIGN != 0 || s->offset < free_from ||
        s->offset > f->sums_at || s->size > f->sums_at - s->offset)
      return damaged(f, "its header names a section that it cannot have", err);
    free_from = s->offset + s->size;
  }
  return RAG_OK;
}

static rag_status read_header(segment_file *f, uint32_t *sums_crc, rag_error *err) {
  if (f->bytes < HEADER_BYTES) return damaged(f, "it is shorter than its header", err);
  RAG_TRY(read_at(f, 0, f->head, HEADER_BYTES, err));
  rag_reader tail = rag_reader_of(rag_slice_of(f->head + HEADER_BYTES - 4, 4));
  rag_reader r = rag_reader_of(rag_slice_of(f->head, HEADER_BYTES - 4));
  if (rag_read_u32le(&tail) != rag_crc32c(0, f->head, HEADER_BYTES - 4))
    return damaged(f, "the checksum of its header does not match", err);
  rag_slice magic = rag_read_raw(&r, sizeof MAGIC);
  if (memcmp(magic.data, MAGIC, sizeof MAGIC) != 0) return damaged(f, "it is no segment", err);
  uint32_t version = rag_read_u32le(&r);
  if (version != VERSION)
    return rag_fail(err, RAG_FAILED_PRECONDITION, "%s has version %u of its format, and this program reads %u", f->path,
                    version, VERSION);
  f->section_count = rag_read_u32le(&r);
  uint64_t bytes = rag_read_u64le(&r);
  f->sums_at = rag_read_u64le(&r);
  *sums_crc = rag_read_u32le(&r);
  uint32_t meta_size = rag_read_u32le(&r);
  if (bytes != f->bytes) return damaged(f, "it has not the length that its header says", err);
  if (f->section_count > SEGMENT_SECTIONS_MAX || meta_size > SEGMENT_META_BYTES_MAX || f->sums_at < HEADER_BYTES ||
      f->sums_at > bytes || bytes - f->sums_at != 4 * blocks_in(f->sums_at - HEADER_BYTES))
    return damaged(f, "its header does not fit its length", err);
  RAG_TRY(decode_sections(f, &r, err));
  f->meta = rag_read_raw(&r, meta_size);
  return r.bad ? damaged(f, "its header ends too soon", err) : RAG_OK;
}

static rag_status read_sums(segment_file *f, uint32_t crc, rag_error *err) {
  uint64_t count = rag_segment__file_blocks(f);
  f->sums = rag_alloc((size_t)count * 4 + 1);
  if (f->sums == NULL) return rag_fail_no_memory(err, (size_t)count * 4);
  RAG_TRY(read_at(f, f->sums_at, f->sums, (size_t)count * 4, err));
  if (rag_crc32c(0, f->sums, (size_t)count * 4) != crc)
    return damaged(f, "the checksum of its checksums does not match", err);
  rag_reader r = rag_reader_of(rag_slice_of(f->sums, (size_t)count * 4));
  for (uint64_t i = 0; i < count; i++) f->sums[i] = rag_read_u32le(&r);
  return RAG_OK;
}

rag_status rag_segment__file_open(const char *path, segment_file **out, rag_error *err) {
  struct stat info;
  uint32_t sums_crc = 0;
  segment_file *f = rag_calloc(1, sizeof *f);
  rag_status status = RAG_OK;
  if (f == NULL) return rag_fail_no_memory(err, sizeof *f);
  f->fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (f->fd < 0) RAG_TRY_OUT(rag_os_fail(err, "open", path, errno));
  f->path = rag_strdup(path);
  if (f->path == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, strlen(path)));
  if (fstat(f->fd, &info) != 0) RAG_TRY_OUT(rag_os_fail(err, "look at", path, errno));
  if (!S_ISREG(info.st_mode)) RAG_TRY_OUT(damaged(f, "it is no regular file", err));
  f->bytes = (uint64_t)info.st_size;
  RAG_TRY_OUT(read_header(f, &sums_crc, err));
  RAG_TRY_OUT(read_sums(f, sums_crc, err));
  void *map = mmap(NULL, (size_t)f->bytes, PROT_READ, MAP_SHARED, f->fd, 0);
  if (map == MAP_FAILED) RAG_TRY_OUT(rag_os_fail(err, "mmap", path, errno));
  f->map = map;
  *out = f;
  return RAG_OK;
out:
  rag_segment__file_close(f);
  return status;
}

void rag_segment__file_close(segment_file *f) {
  if (f == NULL) return;
  if (f->map != NULL) munmap(f->map, (size_t)f->bytes);
  if (f->fd >= 0) close(f->fd);
  rag_free(f->sums);
  rag_free(f->path);
  rag_free(f);
}

rag_status rag_segment__file_verify(const segment_file *f, uint64_t first, uint64_t count, rag_error *err) {
  uint64_t end = first + count;
  rag_status status = RAG_OK;
  RAG_ASSERT(f->fd >= 0 && first <= end && end <= rag_segment__file_blocks(f));
  uint8_t *block = rag_alloc(BLOCK_BYTES);
  if (block == NULL) return rag_fail_no_memory(err, BLOCK_BYTES);
  for (uint64_t i = first; i < end; i++) {
    uint64_t offset = HEADER_BYTES + i * BLOCK_BYTES;
    size_t size = (size_t)RAG_MIN((uint64_t)BLOCK_BYTES, f->sums_at - offset);
    RAG_TRY_OUT(read_at(f, offset, block, size, err));
    if (rag_crc32c(0, block, size) != f->sums[i])
      RAG_TRY_OUT(rag_fail(err, RAG_DATA_LOSS, "%s is damaged: the checksum of block %llu does not match", f->path,
                           (unsigned long long)i));
  }
out:
  rag_free(block);
  return status;
}

void rag_segment__file_settle(segment_file *f) {
  close(f->fd);
  f->fd = -1;
  rag_free(f->sums);
  f->sums = NULL;
}

uint64_t rag_segment__file_blocks(const segment_file *f) {
  return blocks_in(f->sums_at - HEADER_BYTES);
}

const char *rag_segment__file_path(const segment_file *f) {
  return f->path;
}

uint64_t rag_segment__file_bytes(const segment_file *f) {
  return f->bytes;
}

rag_slice rag_segment__file_meta(const segment_file *f) {
  return f->meta;
}

rag_slice rag_segment__file_section(const segment_file *f, uint32_t kind) {
  for (uint32_t i = 0; i < f->section_count; i++)
    if (f->sections[i].kind == kind) return rag_slice_of(f->map + f->sections[i].offset, (size_t)f->sections[i].size);
  return (rag_slice){0};
}

const void *rag_segment__file_exactly(const segment_file *f, uint32_t kind, uint64_t size) {
  rag_slice bytes = rag_segment__file_section(f, kind);
  return bytes.data != NULL && bytes.size == size ? bytes.data : NULL;
}
