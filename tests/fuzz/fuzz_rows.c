// Goal: no bytes in the place of a stored value make its decoder crash, read past them or give slices outside of them;
// what is decoded says itself again. Method: the first byte picks the kind of row, its highest bit has checksums inside
// of the value recomputed. What is decoded is encoded (1), decoded and encoded again (2): 1 and 2 are the same.
#include "kb/kb_internal.h"
#include "store/store_internal.h"
#include "tests/fuzz/fuzz.h"

static void require_within(rag_slice part, rag_slice whole) {
  if (part.size == 0) return;
  REQUIRE(part.data >= whole.data && part.size <= whole.size &&
          (size_t)(part.data - whole.data) <= whole.size - part.size);
}

static bool document(rag_slice value, rag_buf *out) {
  rag_kb__document_entry entry = {0};
  if (!rag_kb__decode_document(value, &entry)) return false;
  rag_kb__encode_document(&entry, out);
  REQUIRE(rag_slice_equal(value, rag_buf_slice(out))); // of a fixed size: every byte counts
  return true;
}

static bool revision(rag_slice value, rag_buf *out) {
  rag_kb__revision row = {0};
  if (!rag_kb__decode_revision(value, &row)) return false;
  require_within(row.id, value);
  require_within(row.metadata, value);
  require_within(row.source_uri, value);
  rag_kb__encode_revision(&row, out);
  return true;
}

static bool content(rag_slice value, rag_buf *out) {
  rag_kb__content row = {0};
  if (!rag_kb__decode_content(value, &row)) return false;
  require_within(row.id, value);
  require_within(row.title, value);
  require_within(row.body, value);
  require_within(row.text, row.body);
  require_within(row.language, value);
  rag_kb__encode_content(&row, out);
  return true;
}

static bool chunk(rag_slice value, rag_buf *out) {
  rag_kb__chunk row = {0};
  if (!rag_kb__decode_chunk(value, &row)) return false;
  REQUIRE(row.start <= row.end);
  require_within(row.metadata, value);
  rag_kb__encode_chunk(&row, out);
  return true;
}

static bool commit(rag_slice value, rag_buf *out) {
  rag_kb__commit row = {0};
  if (!rag_kb__decode_commit(value, &row)) return false;
  REQUIRE(row.parent_count <= 2 && rag_commit_kind_name(row.kind)[0] != '\0');
  require_within(row.author, value);
  require_within(row.message, value);
  require_within(row.ancestors, value);
  rag_kb__encode_commit(&row, out);
  return true;
}

static bool delta(rag_slice value, rag_buf *out) {
  rag_kb__delta row = {0};
  rag_error err = {0};
  uint32_t base = 0, depth = 0;
  bool head = rag_kb__decode_delta_head(value, &base, &depth);
  rag_status status = rag_kb__decode_delta(value, &row, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_DATA_LOSS);
    fuzz_require_said(&err, status);
    return false;
  }
  REQUIRE(head && base == row.base && depth == row.depth);
  rag_kb__encode_delta(&row, out);
  rag_kb__delta_free(&row);
  return true;
}

static bool checkpoint(rag_slice value, rag_buf *out) {
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_error err = {0};
  rag_status status = rag_kb__decode_checkpoint(value, &revisions, &chunks, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_DATA_LOSS);
    fuzz_require_said(&err, status);
    return false;
  }
  REQUIRE(revisions != NULL && chunks != NULL);
  rag_kb__encode_checkpoint(revisions, chunks, out);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  return true;
}

static bool counters(rag_slice value, rag_buf *out) {
  rag_kb__state row = {0};
  if (!rag_kb__decode_state(value, &row)) return false;
  rag_kb__encode_state(&row, out);
  return true;
}

static bool ref(rag_slice value, rag_buf *out) {
  rag_ref_info row = {0};
  if (!rag_kb__decode_ref(value, &row)) return false;
  REQUIRE(row.commit <= UINT32_MAX);
  rag_kb__encode_ref((uint32_t)row.commit, row.created_us, row.moved_us, out);
  return true;
}

static bool record(rag_slice value, rag_buf *out) {
  rag_kb__record row = {0};
  rag_error err = {0};
  rag_status status = rag_kb__decode_record(value, &row, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_DATA_LOSS);
    fuzz_require_said(&err, status);
    return false;
  }
  rag_kb__encode_record(&row, out);
  rag_kb_config_free(&row.config);
  return true;
}

static bool result(rag_slice value, rag_buf *out) {
  rag_write_result row;
  rag_reader reader = rag_reader_of(value);
  if (!rag_kb__decode_result(&reader, &row)) return false;
  rag_kb__encode_result(&row, out);
  return true;
}

static bool job(rag_slice value, rag_buf *out) {
  rag_job__record row;
  rag_job_info info;
  rag_error err = {0};
  rag_status status = rag_job__decode(7, value, &row, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_DATA_LOSS);
    fuzz_require_said(&err, status);
    return false;
  }
  require_within(row.params, value);
  require_within(row.error, value);
  REQUIRE(strcmp(rag_job_state_name(row.state), "unknown") != 0);
  REQUIRE_OK(rag_job__info(&row, &info, &err));
  rag_job_info_free(&info);
  rag_job__encode(&row, out);
  return true;
}

// Keys have no encoder from what is decoded of them: a part is read off.
static bool keys(rag_slice value, rag_buf *out) {
  uint32_t number = 0;
  uint64_t id = 0;
  rag_key key;
  RAG_UNUSED(out);
  if (rag_kb__key_document_revision(value, &number)) REQUIRE(value.size >= 18);
  if (!rag_job__key_id(value, &id)) return false;
  rag_job__key(&key, id);
  REQUIRE(rag_slice_equal(rag_key_slice(&key), value));
  return false;
}

typedef struct kind {
  bool (*round_trip)(rag_slice value, rag_buf *out); // false: not decoded
  void (*seal)(char *value, size_t size);            // or NULL
} kind;

// A delta's and a checkpoint's bitmaps have a checksum each, in their first bytes.
static void seal_bitmaps(char *value, size_t size, unsigned numbers) {
  rag_reader r = rag_reader_of(rag_slice_of(value, size));
  (void)rag_read_u8(&r);
  for (unsigned i = 0; i < numbers; i++) (void)rag_read_varint(&r);
  while (rag_reader_left(&r) > 0) {
    rag_slice image = rag_read_bytes(&r);
    if (image.size >= 4) fuzz_put_u32le(value + (image.data - value), rag_crc32c(0, image.data + 4, image.size - 4));
  }
}

static void seal_delta(char *value, size_t size) {
  seal_bitmaps(value, size, 2);
}

static void seal_checkpoint(char *value, size_t size) {
  seal_bitmaps(value, size, 0);
}

static void seal_job(char *value, size_t size) {
  fuzz_seal_tail(value, size);
}

static const kind kinds[] = {
    {document, NULL}, {revision, NULL}, {content, NULL},
    {chunk, NULL},    {commit, NULL},   {delta, seal_delta},
    {ref, NULL},      {counters, NULL}, {checkpoint, seal_checkpoint},
    {result, NULL},   {record, NULL},   {job, seal_job},
    {keys, NULL},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  const kind *k = &kinds[(data[0] & 0x7f) % RAG_COUNT_OF(kinds)];
  rag_buf first = {0}, second = {0};
  char *value = fuzz_copy(data + 1, size - 1);
  if (data[0] & 0x80 && k->seal != NULL) k->seal(value, size - 1);
  if (k->round_trip(rag_slice_of(value, size - 1), &first)) {
    REQUIRE(!first.failed && k->round_trip(rag_buf_slice(&first), &second));
    REQUIRE(!second.failed && rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second)));
  }
  rag_buf_free(&first);
  rag_buf_free(&second);
  free(value);
  return 0;
}
