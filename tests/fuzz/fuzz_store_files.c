// Goal: no bytes in the place of one of a store's own files (SEAL, FORMAT) or of those of RocksDB's that we read
// (CURRENT, a manifest, logs) make the check before opening crash, hang or read past them; whatever it refuses it says
// why.
// Method: a folder with a small good set of files, of which one has the input's bytes; the first byte picks which, its
// highest bit has checksums recomputed, and another leaves out the seal, so that the files behind it are asked.
#include <fcntl.h>
#include <sys/stat.h>

#include "store/store_internal.h"
#include "tests/fuzz/fuzz.h"

static const char *const names[] = {"SEAL",          "FORMAT",       "db/CURRENT", "db/MANIFEST-000005",
                                    "db/000004.log", "db/000007.log"};
enum { SEAL = 0, FORMAT = 1, MANIFEST = 3, FIRST_LOG = 4, LAST_LOG = 5, NAMES = 6 };
#define NO_SEAL 0x40
#define RESEAL 0x80

static rag_buf good[NAMES]; // SEAL stays empty: it is made from the others by the code under test
static char dir[300];

static void put_fragment(rag_buf *log, const void *part, size_t size) { // one whole record
  unsigned char head[7] = {[4] = (unsigned char)size, [5] = (unsigned char)(size >> 8), [6] = 1};
  uint32_t crc = rag_crc32c(rag_crc32c(0, head + 6, 1), part, size);
  fuzz_put_u32le(head, (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8));
  rag_buf_append(log, head, sizeof head);
  rag_buf_append(log, part, size);
}

static void put_batch(rag_buf *log, uint64_t sequence, uint32_t count) {
  rag_buf batch = {0};
  rag_buf_append_u64le(&batch, sequence);
  rag_buf_append_u32le(&batch, count);
  rag_buf_append_str(&batch, "writes");
  put_fragment(log, batch.data, batch.size);
  rag_buf_free(&batch);
}

static void put_file(unsigned which, rag_slice bytes) {
  char path[400];
  rag_error err = {0};
  snprintf(path, sizeof path, "%s/%s", dir, names[which]);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  REQUIRE_OK(rag_os_write_all(fd, bytes.data, bytes.size, &err));
  close(fd);
}

static void begin(void) {
  static const unsigned char edits[] = {1, 3, 'c', 'm', 'p', 2, 4, 3, 9, 4, 5, 10, 4, 200, 1, 0};
  rag_error err = {0};
  char path[340];
  snprintf(dir, sizeof dir, "%s/store", fuzz_dir());
  snprintf(path, sizeof path, "%s/db", dir);
  REQUIRE_OK(rag_os_make_dirs(path, &err));
  rag_log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), RAG_LOG_ERROR, RAG_LOG_TEXT);
  atexit(fuzz_dir_remove);
  rag_buf_append_str(&good[FORMAT], "RAGDSTOR");
  rag_buf_append_u32le(&good[FORMAT], RAG_STORE_FORMAT_VERSION);
  rag_buf_append_u32le(&good[FORMAT], 0);
  rag_buf_append_u32le(&good[FORMAT], rag_crc32c(0, good[FORMAT].data, good[FORMAT].size));
  rag_buf_append_str(&good[2], "MANIFEST-000005\n");
  put_fragment(&good[MANIFEST], edits, sizeof edits);
  put_batch(&good[FIRST_LOG], 7, 2);
  put_batch(&good[FIRST_LOG], 9, 1);
  put_batch(&good[LAST_LOG], 10, 1);
  for (unsigned i = 1; i < NAMES; i++) put_file(i, rag_buf_slice(&good[i]));
  REQUIRE_OK(rag_store__format_check(dir, true, &err));
  REQUIRE_OK(rag_store__files_check(dir, true, &err));
}

// The masked checksums of fragments, as far as their lengths can be followed; of the first block, which is enough here.
static void seal_log(char *bytes, size_t size) {
  for (size_t at = 0; at + 7 <= size;) {
    size_t length = (size_t)(unsigned char)bytes[at + 4] | (size_t)(unsigned char)bytes[at + 5] << 8;
    if (length > size - at - 7) return;
    uint32_t crc = rag_crc32c(0, bytes + at + 6, 1 + length);
    fuzz_put_u32le(bytes + at, (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8));
    at += 7 + length;
  }
}

static void check(rag_status status, const rag_error *err) {
  if (status == RAG_OK) return;
  fuzz_require_said(err, status);
  REQUIRE(strstr(err->message, dir) != NULL || status == RAG_FAILED_PRECONDITION); // of a newer program
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  if (dir[0] == '\0') begin();
  unsigned which = (data[0] & 0x3f) % NAMES;
  char *bytes = fuzz_copy(data + 1, size - 1);
  rag_error err = {0};
  if (data[0] & RESEAL && which == FORMAT && size > 20) // later versions may append: of the first 20 bytes
    fuzz_seal_tail(bytes, 20);
  else if (data[0] & RESEAL && which >= MANIFEST) seal_log(bytes, size - 1);
  else if (data[0] & RESEAL) fuzz_seal_tail(bytes, size - 1);
  if (which != SEAL && !(data[0] & NO_SEAL)) REQUIRE_OK(rag_store__seal_write(dir, &err)); // of the good files
  put_file(which, rag_slice_of(bytes, size - 1));
  check(rag_store__format_check(dir, true, &err), &err);
  rag_status status = rag_store__files_check(dir, true, &err);
  check(status, &err);
  bool changed = !rag_slice_equal(rag_slice_of(bytes, size - 1), rag_buf_slice(&good[which]));
  if (which > FORMAT && !(data[0] & NO_SEAL)) REQUIRE((status == RAG_OK) == !changed); // a seal finds any change
  if (which == SEAL || data[0] & NO_SEAL) {
    rag_error again = {0};
    REQUIRE(rag_store__files_check(dir, true, &again) == status);
  }
  REQUIRE_OK(rag_store__seal_break(dir, &err));
  if (which != SEAL) put_file(which, rag_buf_slice(&good[which]));
  free(bytes);
  return 0;
}
