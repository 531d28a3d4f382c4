// Making a segment's file: the rows out of a view, the codes, and the graph over them.
//
// Threads: one builds; the graph takes more where it is told to. The view is pinned, so what is read stays as it is.
#include "index/segment/segment_internal.h"

#define PROGRESS_ROWS 4096u
#define CALIBRATION_ROWS 256u
#define GRAPH_SEED UINT64_C(0x7261676467726170)

typedef struct build {
  const segment_build *options;
  rag_index_shared *shared;
  uint32_t rows;
  uint32_t *ordinals;
  const float **vectors; // of each row, in the view
  uint8_t *codes;        // of a graph
  rag_codes_int8_factors *factors;
  rag_graph *graph;
  segment_writer *writer;
} build;

static void build_free(build *b) {
  rag_segment__writer_abandon(b->writer);
  rag_graph_destroy(b->graph);
  rag_free(b->ordinals);
  rag_free(b->vectors);
  rag_free(b->codes);
  rag_free(b->factors);
}

static rag_status go_on(const build *b, uint64_t done, rag_error *err) {
  const segment_build *o = b->options;
  if (o->progress == NULL || o->progress(o->context, done, b->rows)) return RAG_OK;
  return rag_fail(err, RAG_CANCELLED, "the building of a segment was stopped");
}

static rag_status gather(build *b, rag_error *err) {
  uint64_t count = rag_bitmap_count(b->options->rows);
  if (count == 0 || count > RAG_GRAPH_ROWS_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a segment of %llu rows cannot be made", (unsigned long long)count);
  b->rows = (uint32_t)count;
  b->ordinals = rag_realloc_array(NULL, b->rows, sizeof *b->ordinals);
  b->vectors = rag_realloc_array(NULL, b->rows, sizeof *b->vectors);
  if (b->ordinals == NULL || b->vectors == NULL) return rag_fail_no_memory(err, b->rows * sizeof *b->vectors);
  uint32_t at = 0;
  for (uint32_t ordinal = 0; at < b->rows && rag_bitmap_next(b->options->rows, ordinal, &ordinal); ordinal++) {
    b->ordinals[at] = ordinal;
    b->vectors[at] = rag_index_view_vector(b->options->view, ordinal);
    if (b->vectors[at] == NULL)
      return rag_fail(err, RAG_INTERNAL, "row %u is to be sealed, and is not there", ordinal);
    if (++at % PROGRESS_ROWS == 0) RAG_TRY(go_on(b, 0, err));
  }
  return RAG_OK;
}

static rag_status section(build *b, uint32_t kind, const void *data, size_t size, rag_error *err) {
  RAG_TRY(rag_segment__writer_section(b->writer, kind, err));
  return rag_segment__writer_append(b->writer, data, size, err);
}

static rag_status write_vectors(build *b, rag_error *err) {
  RAG_TRY(rag_segment__writer_section(b->writer, SEGMENT_VECTORS, err));
  for (uint32_t i = 0; i < b->rows; i++) {
    RAG_TRY(rag_segment__writer_append(b->writer, b->vectors[i], b->shared->dimension * sizeof(float), err));
    if (i % PROGRESS_ROWS == 0) RAG_TRY(go_on(b, 0, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- 1-bit codes

static rag_status write_bits(build *b, rag_error *err) {
  uint32_t dimension = b->shared->dimension, bytes = rag_codes_bits_bytes(dimension);
  float *rotated = rag_realloc_array(NULL, rag_codes_padded(dimension), sizeof *rotated);
  uint8_t *code = rag_alloc(bytes);
  rag_status status = RAG_OK;
  if (rotated == NULL || code == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, bytes));
  RAG_TRY_OUT(rag_segment__writer_section(b->writer, SEGMENT_BITS, err));
  for (uint32_t i = 0; i < b->rows; i++) {
    rag_codes_rotate(b->shared->rotation, b->vectors[i], rotated);
    rag_codes_bits_encode(rotated, NULL, dimension, b->shared->metric, code);
    RAG_TRY_OUT(rag_segment__writer_append(b->writer, code, bytes, err));
    if (i % PROGRESS_ROWS == 0) RAG_TRY_OUT(go_on(b, i, err));
  }
out:
  rag_free(rotated);
  rag_free(code);
  return status;
}

// ---------------------------------------------------------------------------------------------- a graph

static rag_status fetch_rows(void *context, const uint32_t *ids, uint32_t count, const float **out, rag_error *err) {
  const build *b = context;
  RAG_UNUSED(err);
  for (uint32_t i = 0; i < count; i++) out[i] = b->vectors[ids[i]];
  return RAG_OK;
}

static rag_status write_graph(build *b, rag_error *err) {
  const segment_build *o = b->options;
  uint32_t dimension = b->shared->dimension, code_bytes = rag_codes_int8_bytes(dimension);
  b->codes = rag_aligned_alloc(64, (size_t)b->rows * code_bytes);
  b->factors = rag_realloc_array(NULL, b->rows, sizeof *b->factors);
  if (b->codes == NULL || b->factors == NULL) return rag_fail_no_memory(err, (size_t)b->rows * code_bytes);
  for (uint32_t i = 0; i < b->rows; i++) {
    rag_codes_int8_encode(b->vectors[i], dimension, b->codes + (size_t)i * code_bytes, &b->factors[i]);
    if (i % PROGRESS_ROWS == 0) RAG_TRY(go_on(b, 0, err));
  }
  rag_graph_codes codes = {.base = b->codes,
                           .stride = code_bytes,
                           .factors = b->factors,
                           .rows = b->rows,
                           .dimension = dimension,
                           .metric = b->shared->metric};
  rag_graph_fetch fetch = {fetch_rows, b};
  rag_graph_options options = {.threads = o->threads,
                               .seed = GRAPH_SEED,
                               .sample = RAG_MIN(CALIBRATION_ROWS, b->rows / 10),
                               .fetch = &fetch,
                               .progress = o->progress,
                               .progress_context = o->context};
  RAG_TRY(rag_graph_build(&codes, &options, &b->graph, err));
  RAG_TRY(section(b, SEGMENT_INT8, b->codes, (size_t)b->rows * code_bytes, err));
  RAG_TRY(section(b, SEGMENT_INT8_FACTORS, b->factors, b->rows * sizeof *b->factors, err));
  rag_slice sections[RAG_GRAPH_SECTIONS];
  rag_graph_sections(b->graph, sections);
  for (uint32_t i = 0; i < RAG_GRAPH_SECTIONS; i++)
    RAG_TRY(section(b, SEGMENT_GRAPH + i, sections[i].data, sections[i].size, err));
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the file

static void append_meta(rag_buf *out, const rag_index_shared *shared, const rag_segment_id *id, segment_engine engine,
                        uint32_t rows, bool history) {
  rag_buf_append_u32le(out, SEGMENT_FORMAT);
  rag_buf_append(out, id->bytes, sizeof id->bytes);
  rag_buf_append_u32le(out, (uint32_t)engine);
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

rag_status rag_segment__build(const segment_build *options, rag_error *err) {
  build b = {.options = options, .shared = options->shared};
  rag_buf meta = {0};
  rag_status status = RAG_OK;
  RAG_TRY_OUT(gather(&b, err));
  RAG_TRY_OUT(rag_segment__writer_create(options->path, &b.writer, err));
  RAG_TRY_OUT(section(&b, SEGMENT_ORDINALS, b.ordinals, b.rows * sizeof *b.ordinals, err));
  RAG_TRY_OUT(write_vectors(&b, err));
  if (options->engine == SEGMENT_ENGINE_GRAPH) RAG_TRY_OUT(write_graph(&b, err));
  else RAG_TRY_OUT(write_bits(&b, err));
  append_meta(&meta, b.shared, &options->id, options->engine, b.rows, options->history);
  status = finish(&b.writer, &meta, err);
out:
  rag_buf_free(&meta);
  build_free(&b);
  return status;
}

// ---------------------------------------------------------------------------------------------- a copy

// A section of equal rows, those of `erase` as zeros (codes of 128 are zeros of int8: what a row of zeros has).
static rag_status copy_rows(segment_writer *writer, const rag_index_segment *s, uint32_t kind, const void *base,
                            size_t row_bytes, uint8_t blank, const rag_bitmap *erase, rag_error *err) {
  rag_status status = RAG_OK;
  uint8_t *gone = rag_alloc(row_bytes);
  if (gone == NULL) return rag_fail_no_memory(err, row_bytes);
  memset(gone, blank, row_bytes);
  RAG_TRY_OUT(rag_segment__writer_section(writer, kind, err));
  for (uint32_t i = 0; i < s->rows; i++) {
    const uint8_t *row = (const uint8_t *)base + (size_t)i * row_bytes;
    RAG_TRY_OUT(rag_segment__writer_append(writer, rag_bitmap_has(erase, s->ordinals[i]) ? gone : row, row_bytes, err));
  }
out:
  rag_free(gone);
  return status;
}

rag_status rag_segment__copy_without(const rag_index_segment *s, const rag_bitmap *erase, const char *path,
                                     const rag_segment_id *id, rag_error *err) {
  segment_writer *writer = NULL;
  rag_buf meta = {0};
  uint32_t dimension = s->shared->dimension;
  rag_status status = RAG_OK;
  RAG_TRY_OUT(rag_segment__writer_create(path, &writer, err));
  RAG_TRY_OUT(rag_segment__writer_section(writer, SEGMENT_ORDINALS, err));
  RAG_TRY_OUT(rag_segment__writer_append(writer, s->ordinals, s->rows * sizeof *s->ordinals, err));
  RAG_TRY_OUT(copy_rows(writer, s, SEGMENT_VECTORS, s->vectors, dimension * sizeof(float), 0, erase, err));
  if (s->engine == SEGMENT_ENGINE_FLAT) {
    RAG_TRY_OUT(copy_rows(writer, s, SEGMENT_BITS, s->bits, rag_codes_bits_bytes(dimension), 0, erase, err));
  } else {
    RAG_TRY_OUT(copy_rows(writer, s, SEGMENT_INT8, s->codes.base, s->codes.stride, 128, erase, err));
    RAG_TRY_OUT(copy_rows(writer, s, SEGMENT_INT8_FACTORS, s->codes.factors, sizeof *s->codes.factors, 0, erase, err));
    for (uint32_t i = 0; i < RAG_GRAPH_SECTIONS; i++) {
      rag_slice bytes = rag_segment__file_section(s->file, SEGMENT_GRAPH + i);
      RAG_TRY_OUT(rag_segment__writer_section(writer, SEGMENT_GRAPH + i, err));
      RAG_TRY_OUT(rag_segment__writer_append(writer, bytes.data, bytes.size, err));
    }
  }
  append_meta(&meta, s->shared, id, s->engine, s->rows, s->history);
  status = finish(&writer, &meta, err);
out:
  rag_segment__writer_abandon(writer);
  rag_buf_free(&meta);
  return status;
}
