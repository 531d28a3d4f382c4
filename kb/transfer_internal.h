// The export stream, version 1: what export.c writes and import.c reads. Private to kb/. A golden file in tests/golden
// must import for ever.
//
//   stream   "RAGKB", version u8, CRC32C u32le of these six bytes; then frames up to and with the trailer, and no more
//   frame    type u8, size u32le, payload of size bytes, CRC32C u32le of type, size and payload
//   payload  header:  bytes kb record (codec.c; its number and space are 0, its fingerprint empty where vectors are the
//                     client's), bytes state
//            others:  rows, each: row type u8, then as below. Types of frames and the numbers of rows ascend
//            trailer: varint number of rows of each row type 1 to 8, then a digest of every byte before this frame
//   rows     1 content     varint content, bytes value
//            2 chunk       varint chunk, bytes value          } directly after the content they belong to, each vector
//            3 vector      varint chunk, bytes value          } after its chunk
//            4 revision    varint revision, bytes value, bytes document row's value
//            5 commit      varint commit, bytes record (its space is 0), bytes delta
//            6 checkpoint  varint commit, bytes value         directly after its commit
//            7 ref         'b' or 't', bytes name, bytes value; branches before tags, by length of name, then name
//            8 log         bytes branch, varint time, varint commit; in the order of refs, then time
//   Values are those of the store's rows (kb_internal.h). Caches and idempotency keys are not exported.
#ifndef RAGD_KB_TRANSFER_INTERNAL_H
#define RAGD_KB_TRANSFER_INTERNAL_H

#include "kb/kb_internal.h"

#define RAG_KB__EXPORT_MAGIC "RAGKB"
#define RAG_KB__EXPORT_MAGIC_BYTES 5u
#define RAG_KB__EXPORT_VERSION 1u
#define RAG_KB__EXPORT_FRAME_BYTES (1u << 20) // a frame ends with the row that passes this

typedef enum rag_kb__frame { // pinned
  RAG_KB__FRAME_HEADER = 1,
  RAG_KB__FRAME_CONTENTS = 2,
  RAG_KB__FRAME_REVISIONS = 3,
  RAG_KB__FRAME_COMMITS = 4,
  RAG_KB__FRAME_REFS = 5,
  RAG_KB__FRAME_TRAILER = 6,
} rag_kb__frame;

typedef enum rag_kb__row { // pinned
  RAG_KB__ROW_CONTENT = 1,
  RAG_KB__ROW_CHUNK = 2,
  RAG_KB__ROW_VECTOR = 3,
  RAG_KB__ROW_REVISION = 4,
  RAG_KB__ROW_COMMIT = 5,
  RAG_KB__ROW_CHECKPOINT = 6,
  RAG_KB__ROW_REF = 7,
  RAG_KB__ROW_LOG = 8,
  RAG_KB__ROW_TYPES = 9,
} rag_kb__row;

// What import.c collects to check one row by another, and the batch that it writes (import_check.c reads it).
typedef struct rag_kb__import_content {
  uint32_t content, first_chunk, chunk_count;
  uint64_t id_hash; // of its document's id, seeded by the process
} rag_kb__import_content;
typedef struct rag_kb__import_commit {
  uint32_t commit, depth;
  uint64_t documents, chunks;
} rag_kb__import_commit;

typedef struct rag_kb__import {
  rag_kbs *kbs;
  rag_read_fn read;
  void *ctx;
  rag_digest_state digest;
  rag_kb__record record; // under its new number, space and name
  rag_kb__state state;
  rag_kb__frame frame; // the last one's type
  uint64_t rows[RAG_KB__ROW_TYPES];
  bool begun; // its number is given out
  bool wrote; // rows may be there

  rag_kb__import_content *contents; // by number
  size_t content_count, content_capacity;
  rag_buf body;     // of the last content: chunks are cut out of it
  size_t text_size; // of the body, before the chunks' own texts
  uint32_t last_chunk, last_vector, last_revision;
  rag_kb__import_commit *commits; // by number
  size_t commit_count, commit_capacity;
  bool checkpoint_due; // the last commit has a checkpoint, which must come next
  rag_bitmap_edit *revisions, *chunks, *used_contents;
  rag_buf last_ref;                   // kind and name
  char (*branches)[RAG_NAME_MAX + 1]; // in the order of refs
  size_t branch_count, branch_capacity;
  uint32_t tag_count;
  rag_buf last_log; // key of the last log row
  float *vector;

  rag_buf batch; // column family u8, key bytes, value bytes
} rag_kb__import;

// import_rows.c: checks one payload and puts its rows into the batch.
RAG_NODISCARD rag_status rag_kb__import_rows(rag_kb__import *im, rag_slice payload, rag_error *err);
RAG_NODISCARD rag_status rag_kb__import_complete(rag_kb__import *im, rag_error *err); // what must be there at the end
// Checks every commit of the imported, not yet visible kb.
RAG_NODISCARD rag_status rag_kb__import_verify(rag_kb__import *im, rag_kb *kb, rag_error *err);
rag_status rag_kb__import_damaged(rag_error *err, const char *fmt, ...) RAG_PRINTF(2, 3); // RAG_DATA_LOSS
// Removes every row of a kb's number, at once (delete.c).
RAG_NODISCARD rag_status rag_kb__delete_rows(rag_store *store, uint32_t kb, rag_error *err);

#endif
