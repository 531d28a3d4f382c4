// The store's format record: one small file, DIR/FORMAT, beside RocksDB's folder and not a row in it, because a newer
// program may have added column families, and then RocksDB would refuse to open before a row could be read.
//
// Format (20 bytes): "RAGDSTOR", u32le version, u32le zero, u32le CRC32C of the 16 bytes before it.
//
// Invariant: the record is durable before RocksDB's first file exists. So RocksDB's files without a record are damage
// (or somebody else's database), never an interrupted creation.
#include "store/store_internal.h"

#include <stdio.h>

#define FORMAT_FILE "FORMAT"
#define FORMAT_BYTES 20u
static const char FORMAT_MAGIC[8] = {'R', 'A', 'G', 'D', 'S', 'T', 'O', 'R'};

static rag_status write_record(const char *path, rag_error *err) {
  rag_buf buf = {0};
  rag_buf_append(&buf, FORMAT_MAGIC, sizeof FORMAT_MAGIC);
  rag_buf_append_u32le(&buf, RAG_STORE_FORMAT_VERSION);
  rag_buf_append_u32le(&buf, 0);
  if (!buf.failed) rag_buf_append_u32le(&buf, rag_crc32c(0, buf.data, buf.size));
  rag_status status = rag_buf_check(&buf, err);
  if (status == RAG_OK) status = rag_os_write_file(path, buf.data, buf.size, err);
  rag_buf_free(&buf);
  return status;
}

static rag_status check_record(const char *path, rag_slice bytes, rag_error *err) {
  rag_reader reader = rag_reader_of(bytes);
  rag_slice magic = rag_read_raw(&reader, sizeof FORMAT_MAGIC);
  uint32_t version = rag_read_u32le(&reader);
  rag_read_u32le(&reader);
  uint32_t crc = rag_read_u32le(&reader);
  if (reader.bad || !rag_slice_equal(magic, rag_slice_of(FORMAT_MAGIC, sizeof FORMAT_MAGIC)))
    return rag_fail(err, RAG_DATA_LOSS, "%s is not a ragd store's format record; restore it from a backup", path);
  if (crc != rag_crc32c(0, bytes.data, FORMAT_BYTES - 4))
    return rag_fail(err, RAG_DATA_LOSS, "%s is damaged: its checksum does not match; restore it from a backup", path);
  if (version > RAG_STORE_FORMAT_VERSION)
    return rag_fail(err, RAG_FAILED_PRECONDITION,
                    "the store has format version %u and this program reads up to version %u: use a newer ragd",
                    version, RAG_STORE_FORMAT_VERSION);
  return RAG_OK;
}

rag_status rag_store__format_check(const char *dir, bool db_exists, rag_error *err) {
  rag_buf path = {0};
  char *bytes = NULL;
  size_t size = 0;
  rag_status status;

  rag_buf_printf(&path, "%s/%s", dir, FORMAT_FILE);
  RAG_TRY_OUT(rag_buf_check(&path, err));
  if (!rag_os_exists(path.data)) {
    status = db_exists ? rag_fail(err, RAG_DATA_LOSS, "%s is missing; restore it from a backup", path.data)
                       : write_record(path.data, err);
    goto out;
  }
  // Later versions may append to the record; a page is more than any will need.
  RAG_TRY_OUT(rag_os_read_file(path.data, 4096, &bytes, &size, err));
  status = check_record(path.data, rag_slice_of(bytes, size), err);
out:
  rag_free(bytes);
  rag_buf_free(&path);
  return status;
}
