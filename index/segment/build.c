// Making a segment's file: the rows out of a view, and what its kind derives from them.
//
// Threads: one builds; a kind's engine takes more where it is told to. The view is pinned, so what is read stays as it
// is.
#include "index/segment/segment_internal.h"

#define PROGRESS_ROWS 4096u

rag_status rag_segment__go_on(const segment_build *b, uint64_t done, rag_error *err) {
  if (b->progress == NULL || b->progress(b->context, done, b->rows)) return RAG_OK;
  return rag_fail(err, RAG_CANCELLED, "the building of a segment was stopped");
}

static rag_status gather(segment_build *b, rag_error *err) {
  uint64_t count = rag_bitmap_count(b->row_set);
  if (count == 0 || count > INT32_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a segment of %llu rows cannot be made", (unsigned long long)count);
  b->rows = (uint32_t)count;
  b->ordinals = rag_realloc_array(NULL, b->rows, sizeof *b->ordinals);
  b->vectors = rag_realloc_array(NULL, b->rows, sizeof *b->vectors);
  if (b->ordinals == NULL || b->vectors == NULL) return rag_fail_no_memory(err, b->rows * sizeof *b->vectors);
  uint32_t at = 0;
  for (uint32_t ordinal = 0; at < b->rows && rag_bitmap_next(b->row_set, ordinal, &ordinal); ordinal++) {
    b->ordinals[at] = ordinal;
    b->vectors[at] = rag_index__view_row(b->view, ordinal);
    if (b->vectors[at] == NULL) return rag_fail(err, RAG_INTERNAL, "row %u is to be sealed, and is not there", ordinal);
    if (++at % PROGRESS_ROWS == 0) RAG_TRY(rag_segment__go_on(b, 0, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- for kinds

rag_status rag_segment__write(segment_build *b, uint32_t section, const void *data, size_t size, rag_error *err) {
  RAG_TRY(rag_segment__writer_section(b->writer, section, err));
  return rag_segment__writer_append(b->writer, data, size, err);
}

rag_status rag_segment__encode(segment_build *b, rag_error *err) {
  uint32_t dimension = b->shared->dimension, code_bytes = rag_codes_int8_bytes(dimension);
  float room[RAG_DIMENSION_MAX];
  if (b->codes != NULL) return RAG_OK;
  b->codes = rag_aligned_alloc(64, (size_t)b->rows * code_bytes);
  b->factors = rag_realloc_array(NULL, b->rows, sizeof *b->factors);
  if (b->codes == NULL || b->factors == NULL) return rag_fail_no_memory(err, (size_t)b->rows * code_bytes);
  for (uint32_t i = 0; i < b->rows; i++) {
    rag_codes_int8_encode(rag_segment__build_vector(b, i, room), dimension, b->codes + (size_t)i * code_bytes,
                          &b->factors[i]);
    if (i % PROGRESS_ROWS == 0) RAG_TRY(rag_segment__go_on(b, 0, err));
  }
  return RAG_OK;
}

rag_status rag_segment__write_int8(segment_build *b, rag_error *err) {
  RAG_TRY(
      rag_segment__write(b, SEGMENT_INT8, b->codes, (size_t)b->rows * rag_codes_int8_bytes(b->shared->dimension), err));
  return rag_segment__write(b, SEGMENT_INT8_FACTORS, b->factors, b->rows * sizeof *b->factors, err);
}

static rag_status fetch_rows(void *context, const uint32_t *ids, uint32_t count, const void **out, rag_error *err) {
  const segment_build *b = context;
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < count; i++) out[i] = b->vectors[ids[i]];
  return RAG_OK;
}

rag_index_row_fetch rag_segment__build_fetch(const segment_build *b) {
  return (rag_index_row_fetch){.rows = fetch_rows, .context = (void *)(uintptr_t)b, .datatype = b->shared->datatype};
}

const float *rag_segment__build_vector(const segment_build *b, uint32_t row, float *room) {
  return rag_index__row_read(b->shared->datatype, b->vectors[row], b->shared->dimension, room);
}

// ---------------------------------------------------------------------------------------------- the file

static rag_status write_vectors(segment_build *b, rag_error *err) {
  size_t row_bytes = rag_index__shared_row_bytes(b->shared);
  RAG_TRY(rag_segment__writer_section(b->writer, rag_segment__vectors_section(b->shared), err));
  for (uint32_t i = 0; i < b->rows; i++) {
    RAG_TRY(rag_segment__writer_append(b->writer, b->vectors[i], row_bytes, err));
    if (i % PROGRESS_ROWS == 0) RAG_TRY(rag_segment__go_on(b, 0, err));
  }
  return RAG_OK;
}

static void append_meta(rag_buf *out, const rag_index_shared *shared, const rag_segment_id *id,
                        const segment_kind *kind, uint32_t rows, bool history) {
  uint32_t number = 0;
  while (rag_segment__kinds[number] != kind) number++;
  rag_buf_append_u32le(out, SEGMENT_FORMAT);
  rag_buf_append(out, id->bytes, sizeof id->bytes);
  rag_buf_append_u32le(out, number);
  rag_buf_append_u32le(out, shared->dimension);
  rag_buf_append_u32le(out, (uint32_t)shared->metric);
  rag_buf_append_u32le(out, rows);
  rag_buf_append_u32le(out, history);
}

static rag_status finish(segment_writer **writer, const rag_buf *meta, rag_error *err) {
  rag_status status = rag_buf_check(meta, err);
  segment_writer *ended = *writer;
  if (status != RAG_OK) return status;
  *writer = NULL;
  return rag_segment__writer_finish(ended, meta->data, meta->size, err);
}

rag_status rag_segment__build(segment_build *b, rag_error *err) {
  rag_buf meta = {0};
  rag_status status = RAG_OK;
  RAG_TRY_OUT(gather(b, err));
  RAG_TRY_OUT(rag_segment__writer_create(b->path, &b->writer, err));
  RAG_TRY_OUT(rag_segment__write(b, SEGMENT_ORDINALS, b->ordinals, b->rows * sizeof *b->ordinals, err));
  RAG_TRY_OUT(write_vectors(b, err));
  RAG_TRY_OUT(b->kind->build(b, err));
  append_meta(&meta, b->shared, &b->id, b->kind, b->rows, b->history);
  status = finish(&b->writer, &meta, err);
out:
  rag_segment__writer_abandon(b->writer);
  b->writer = NULL;
  rag_free(b->ordinals);
  rag_free(b->vectors);
  rag_free(b->codes);
  rag_free(b->factors);
  rag_buf_free(&meta);
  return status;
}

// ---------------------------------------------------------------------------------------------- a copy

rag_status rag_segment__copy_rows(segment_writer *writer, const rag_index_segment *s, uint32_t section,
                                  const void *base, size_t row_bytes, uint8_t blank, const rag_bitmap *erase,
                                  rag_error *err) {
  rag_status status = RAG_OK;
  uint8_t *gone = rag_alloc(row_bytes);
  if (gone == NULL) return rag_fail_no_memory(err, row_bytes);
  memset(gone, blank, row_bytes);
  RAG_TRY_OUT(rag_segment__writer_section(writer, section, err));
  for (uint32_t i = 0; i < s->rows; i++) {
    const uint8_t *row = (const uint8_t *)base + (size_t)i * row_bytes;
    RAG_TRY_OUT(rag_segment__writer_append(writer, rag_bitmap_has(erase, s->ordinals[i]) ? gone : row, row_bytes, err));
  }
out:
  rag_free(gone);
  return status;
}

rag_status rag_segment__copy_int8(segment_writer *writer, const rag_index_segment *s, const rag_bitmap *erase,
                                  rag_error *err) {
  const uint8_t *base;
  const rag_codes_int8_factors *factors;
  RAG_TRY(rag_segment__int8(s, &base, &factors, err));
  if (base == NULL) return RAG_OK;
  // A row of zeros has codes of 128.
  RAG_TRY(rag_segment__copy_rows(writer, s, SEGMENT_INT8, base, rag_codes_int8_bytes(s->shared->dimension), 128, erase,
                                 err));
  return rag_segment__copy_rows(writer, s, SEGMENT_INT8_FACTORS, factors, sizeof *factors, 0, erase, err);
}

rag_status rag_segment__copy_section(segment_writer *writer, const rag_index_segment *s, uint32_t section,
                                     rag_error *err) {
  rag_slice bytes = rag_segment__file_section(s->file, section);
  RAG_TRY(rag_segment__writer_section(writer, section, err));
  return rag_segment__writer_append(writer, bytes.data, bytes.size, err);
}

rag_status rag_segment__copy_without(const rag_index_segment *s, const rag_bitmap *erase, const char *path,
                                     const rag_segment_id *id, rag_error *err) {
  segment_writer *writer = NULL;
  rag_buf meta = {0};
  rag_status status = RAG_OK;
  if (s->kind->copy_without == NULL)
    return rag_fail(err, RAG_UNIMPLEMENTED, "a segment of kind %s is not copied but built anew", s->kind->name);
  RAG_TRY_OUT(rag_segment__writer_create(path, &writer, err));
  RAG_TRY_OUT(rag_segment__copy_section(writer, s, SEGMENT_ORDINALS, err));
  RAG_TRY_OUT(rag_segment__copy_rows(writer, s, rag_segment__vectors_section(s->shared), s->vectors,
                                     rag_index__shared_row_bytes(s->shared), 0, erase, err));
  RAG_TRY_OUT(s->kind->copy_without(s, writer, erase, err));
  append_meta(&meta, s->shared, id, s->kind, s->rows, s->history);
  status = finish(&writer, &meta, err);
out:
  rag_segment__writer_abandon(writer);
  rag_buf_free(&meta);
  return status;
}
