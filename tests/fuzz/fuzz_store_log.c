// Goal: no bytes in the place of a write-ahead log make its reader crash, read past a block or deliver a record that
// was never written; a cut is a torn tail and never damage, a changed byte is damage and never a shorter log.
// Method: the first byte picks. Raw: the rest is the file; with its highest bit the checksums of its fragments are
// recomputed where lengths allow. Written: the rest says which records a log of ours has and how it is hurt; the
// reader's records must be a beginning of them.
#include "store/log_file.h"
#include "tests/fuzz/fuzz.h"

#define BLOCK_BYTES 32768u
#define HEADER_BYTES 7u
#define RECORDS_MAX 64u

// ---------------------------------------------------------------------------------------------- writing a log

static uint32_t mask(uint32_t crc) {
  return (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8);
}

static void put_fragment(rag_buf *log, unsigned type, rag_slice part) {
  unsigned char head[HEADER_BYTES] = {
      [4] = (unsigned char)part.size, [5] = (unsigned char)(part.size >> 8), [6] = (unsigned char)type};
  fuzz_put_u32le(head, mask(rag_crc32c(rag_crc32c(0, head + 6, 1), part.data, part.size)));
  rag_buf_append(log, head, sizeof head);
  rag_buf_append(log, part.data, part.size);
}

static void put_record(rag_buf *log, rag_slice record) {
  for (bool first = true;; first = false) {
    size_t left = BLOCK_BYTES - log->size % BLOCK_BYTES;
    static const char zeros[HEADER_BYTES];
    if (left < HEADER_BYTES) {
      rag_buf_append(log, zeros, left);
      left = BLOCK_BYTES;
    }
    rag_slice part = {record.data, RAG_MIN(record.size, left - HEADER_BYTES)};
    bool last = part.size == record.size;
    put_fragment(log, first && last ? 1 : first ? 2 : last ? 4 : 3, part);
    if (last) return;
    record = rag_slice_of(record.data + part.size, record.size - part.size);
  }
}

// ---------------------------------------------------------------------------------------------- reading it

typedef struct reading {
  const rag_slice *written; // NULL: not known
  uint32_t count, got;
  uint64_t last_offset;
} reading;

static rag_status take(void *ctx, uint64_t offset, rag_slice record, rag_error *err) {
  reading *r = ctx;
  RAG_UNUSED(err);
  REQUIRE(r->got == 0 || offset > r->last_offset);
  r->last_offset = offset;
  if (r->written != NULL) REQUIRE(r->got < r->count && rag_slice_equal(record, r->written[r->got]));
  r->got++;
  return RAG_OK;
}

static rag_status read_log(rag_slice bytes, reading *r, log_file_end *end) {
  char path[32];
  rag_error err = {0};
  int fd = fuzz_file(bytes.data, bytes.size, path);
  rag_status status = rag_store__log_file_walk(path, take, r, end, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_DATA_LOSS && strstr(err.message, path) != NULL);
    fuzz_require_said(&err, status);
  }
  close(fd);
  return status;
}

static void raw(const uint8_t *data, size_t size, bool seal) {
  char *bytes = fuzz_copy(data, size);
  log_file_end end = LOG_FILE_WHOLE;
  for (size_t at = 0; seal && at + HEADER_BYTES <= size;) {
    size_t block_left = BLOCK_BYTES - at % BLOCK_BYTES;
    if (block_left < HEADER_BYTES) {
      at += block_left;
      continue;
    }
    size_t length = (size_t)(unsigned char)bytes[at + 4] | (size_t)(unsigned char)bytes[at + 5] << 8;
    if (HEADER_BYTES + length > RAG_MIN(block_left, size - at)) break;
    fuzz_put_u32le(bytes + at, mask(rag_crc32c(0, bytes + at + 6, 1 + length)));
    at += HEADER_BYTES + length;
  }
  (void)read_log(rag_slice_of(bytes, size), &(reading){0}, &end);
  free(bytes);
}

// Records of sizes that the input names, of bytes that differ; then a cut, or a byte that is changed.
static void written(rag_reader *r) {
  static char pattern[1 << 17];
  if (pattern[0] == 0)
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char)(1 + (i * 2654435761u >> 13) % 255);
  uint8_t how = rag_read_u8(r), flip = rag_read_u8(r);
  uint32_t where = rag_read_u32le(r);
  rag_slice records[RECORDS_MAX];
  uint64_t ends[RECORDS_MAX];
  uint32_t count = 0;
  rag_buf log = {0};
  while (rag_reader_left(r) >= 2 && count < RECORDS_MAX && log.size < 8 * BLOCK_BYTES) {
    uint32_t size = (uint32_t)rag_read_u8(r) | (uint32_t)rag_read_u8(r) << 8;
    if (size >= 0xff00) size = (size & 0xff) * 300; // some over several blocks
    records[count] = rag_slice_of(pattern + count, size);
    put_record(&log, records[count]);
    ends[count++] = log.size;
  }
  REQUIRE(!log.failed);
  reading all = {records, count, 0, 0};
  log_file_end end = LOG_FILE_TORN;
  if (how % 3 == 0 || log.size == 0) { // as it is
    REQUIRE(read_log(rag_buf_slice(&log), &all, &end) == RAG_OK && all.got == count && end == LOG_FILE_WHOLE);
  } else if (how % 3 == 1) { // cut
    size_t left = where % log.size;
    uint32_t whole = 0;
    while (whole < count && ends[whole] <= left) whole++;
    REQUIRE(read_log(rag_slice_of(log.data, left), &all, &end) == RAG_OK && all.got == whole);
    if (end == LOG_FILE_WHOLE) { // at a record's end, or in the zeros after it
      size_t from = whole > 0 ? (size_t)ends[whole - 1] : 0;
      REQUIRE(left == from || (left - from < HEADER_BYTES && left % BLOCK_BYTES == 0));
    }
  } else if (flip != 0) { // a byte changed
    char *bytes = fuzz_copy(log.data, log.size);
    bytes[where % log.size] = (char)(bytes[where % log.size] ^ flip);
    REQUIRE(read_log(rag_slice_of(bytes, log.size), &all, &end) == RAG_DATA_LOSS);
    free(bytes);
  }
  rag_buf_free(&log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  rag_reader r = rag_reader_of(rag_slice_of(data + 1, size - 1));
  if (data[0] & 1) written(&r);
  else raw(data + 1, size - 1, data[0] & 0x80);
  return 0;
}
