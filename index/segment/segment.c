// A sealed segment: what its file holds, checked, as arrays.
//
// meta: u32le format, 16 bytes id, u32le kind, dimension, metric, rows, history. The sections' sizes follow from it,
// and a section of another size is damage. The datatype of rows is told by the number of their section. The contents are verified whole before anything of them is used; then what
// checksums cannot say is checked too: ordinals ascend, vectors are finite where they were when they were written (they
// came from searches' own rows), a kind's sections lead nowhere outside (its engine's open).
//
// Threads: immutable after open.
#include "index/segment/segment_internal.h"

#define VERIFY_BLOCKS 256u // of a call: 16 MiB

void rag_segment_name(const rag_segment_id *id, char out[RAG_SEGMENT_NAME_MAX]) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < sizeof id->bytes; i++) {
    out[2 * i] = digits[id->bytes[i] >> 4];
    out[2 * i + 1] = digits[id->bytes[i] & 15];
  }
  memcpy(out + 2 * sizeof id->bytes, ".seg", 5);
}

bool rag_segment_name_parse(rag_slice name, rag_segment_id *out) {
  if (name.size != 2 * sizeof out->bytes + 4 || memcmp(name.data + 2 * sizeof out->bytes, ".seg", 4) != 0) return false;
  for (size_t i = 0; i < 2 * sizeof out->bytes; i++) {
    char c = name.data[i];
    bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return false;
    unsigned value = (unsigned)(digit ? c - '0' : c - 'a' + 10);
    out->bytes[i / 2] = (uint8_t)(i % 2 == 0 ? value << 4 : out->bytes[i / 2] | value);
  }
  return true;
}

// ---------------------------------------------------------------------------------------------- opening

static void segment_destroy(rag_ref *ref) {
  rag_index_segment *s = (rag_index_segment *)ref;
  if (s->state != NULL) s->kind->close(s->state);
  rag_ref_drop(s->set);
  rag_segment__file_close(s->file);
  rag_index__discharge(s->shared, s->charged);
  rag_ref_drop(s->shared);
  rag_free(s);
}

rag_status rag_segment__damaged(const rag_index_segment *s, const char *what, rag_error *err) {
  return rag_fail(err, RAG_DATA_LOSS, "%s is damaged: %s", rag_segment__file_path(s->file), what);
}

static rag_status read_meta(rag_index_segment *s, const rag_segment_id *id, rag_error *err) {
  rag_reader r = rag_reader_of(rag_segment__file_meta(s->file));
  uint32_t format = rag_read_u32le(&r);
  if (!r.bad && format != SEGMENT_FORMAT)
    return rag_fail(err, RAG_FAILED_PRECONDITION, "%s is of format %u, and this program reads %u",
                    rag_segment__file_path(s->file), format, SEGMENT_FORMAT);
  rag_slice stored = rag_read_raw(&r, sizeof s->id.bytes);
  uint32_t kind = rag_read_u32le(&r), dimension = rag_read_u32le(&r), metric = rag_read_u32le(&r);
  s->rows = rag_read_u32le(&r);
  uint32_t history = rag_read_u32le(&r);
  if (r.bad || rag_reader_left(&r) > 0 || kind >= SEGMENT_KINDS || history > 1 || s->rows == 0 || s->rows > INT32_MAX)
    return rag_segment__damaged(s, "it does not say what it is", err);
  if (memcmp(stored.data, id->bytes, sizeof id->bytes) != 0)
    return rag_segment__damaged(s, "it is another segment's file", err);
  if (dimension != s->shared->dimension || metric != (uint32_t)s->shared->metric)
    return rag_segment__damaged(s, "its rows are of another dimension or metric", err);
  s->id = *id;
  s->kind = rag_segment__kinds[kind];
  s->history = history == 1;
  return RAG_OK;
}

static rag_status make_set(rag_index_segment *s, rag_error *err) {
  for (uint32_t i = 1; i < s->rows; i++)
    if (s->ordinals[i] <= s->ordinals[i - 1]) return rag_segment__damaged(s, "its rows do not ascend", err);
  return rag_index__with_rows(NULL, s->ordinals, s->rows, &s->set, err);
}

// ---------------------------------------------------------------------------------------------- for kinds

const void *rag_segment__section(const rag_index_segment *s, uint32_t section, uint64_t bytes) {
  return rag_segment__file_exactly(s->file, section, bytes);
}

void rag_segment__sections(const rag_index_segment *s, uint32_t first, uint32_t count, rag_slice *out) {
  for (uint32_t i = 0; i < count; i++) out[i] = rag_segment__file_section(s->file, first + i);
}

rag_status rag_segment__int8(const rag_index_segment *s, const uint8_t **out_base,
                             const rag_codes_int8_factors **out_factors, rag_error *err) {
  uint64_t bytes = (uint64_t)s->rows * rag_codes_int8_bytes(s->shared->dimension);
  *out_base = rag_segment__section(s, SEGMENT_INT8, bytes);
  *out_factors = rag_segment__section(s, SEGMENT_INT8_FACTORS, s->rows * sizeof **out_factors);
  bool none = rag_segment__file_section(s->file, SEGMENT_INT8).data == NULL &&
              rag_segment__file_section(s->file, SEGMENT_INT8_FACTORS).data == NULL;
  if (none || (*out_base != NULL && *out_factors != NULL)) return RAG_OK;
  return rag_segment__damaged(s, "it has not the codes that it says", err);
}

// ---------------------------------------------------------------------------------------------- the whole

static rag_status map_rows(rag_index_segment *s, rag_error *err) {
  s->ordinals = rag_segment__section(s, SEGMENT_ORDINALS, s->rows * sizeof *s->ordinals);
  s->vectors = rag_segment__section(s, rag_segment__vectors_section(s->shared),
                                    (uint64_t)s->rows * rag_index__shared_row_bytes(s->shared));
  uint32_t other = SEGMENT_VECTORS + SEGMENT_VECTORS_BF16 - rag_segment__vectors_section(s->shared);
  if (rag_segment__file_section(s->file, other).data != NULL)
    return rag_segment__damaged(s, "its rows are of another datatype", err);
  if (s->ordinals == NULL || s->vectors == NULL)
    return rag_segment__damaged(s, "it has not the rows that it says", err);
  return make_set(s, err);
}

rag_status rag_segment__open(rag_index_shared *shared, const char *path, const rag_segment_id *id,
                             rag_index_segment **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_index_segment *s = rag_calloc(1, sizeof *s);
  if (s == NULL) return rag_fail_no_memory(err, sizeof *s);
  rag_ref_init(&s->ref, segment_destroy);
  s->shared = rag_ref_take(shared);
  RAG_TRY_OUT(rag_segment__file_open(path, &s->file, err));
  RAG_TRY_OUT(read_meta(s, id, err));
  uint64_t blocks = rag_segment__file_blocks(s->file);
  for (uint64_t at = 0; at < blocks; at += VERIFY_BLOCKS)
    RAG_TRY_OUT(rag_segment__file_verify(s->file, at, RAG_MIN(blocks - at, (uint64_t)VERIFY_BLOCKS), err));
  rag_segment__file_settle(s->file);
  RAG_TRY_OUT(map_rows(s, err));
  RAG_TRY_OUT(s->kind->open(s, err));
  uint64_t plain = (uint64_t)s->rows * (sizeof *s->ordinals + rag_index__shared_row_bytes(shared));
  uint64_t bytes = rag_segment__file_bytes(s->file);
  uint64_t charge = bytes > plain ? bytes - plain : 0;
  if (rag_index__charge(shared, charge, false)) s->charged = charge; // not bounded: always true
  *out = s;
  s = NULL;
out:
  rag_ref_drop(s);
  return status;
}

const void *rag_segment__row(const rag_index_segment *s, uint32_t ordinal) {
  uint32_t low = 0, high = s->rows;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (s->ordinals[middle] == ordinal) return s->vectors + middle * rag_index__shared_row_bytes(s->shared);
    if (s->ordinals[middle] < ordinal) low = middle + 1;
    else high = middle;
  }
  return NULL;
}
