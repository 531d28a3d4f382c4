// Full-precision rows as an index keeps them: floats, or bfloat16, each of which stands for one float exactly. Scores
// have the same bits as those of the floats that a row stands for, so no build and no search asks which it is.
#include "index/index_internal.h"

#define PART 256u // pointers of one call to a kernel

size_t rag_index__row_bytes(rag_datatype datatype, uint32_t dimension) {
  if (datatype == RAG_DATATYPE_BFLOAT16) return rag_codes_bf16_padded(dimension) * sizeof(uint16_t);
  return dimension * sizeof(float);
}

void rag_index__row_write(rag_datatype datatype, const float *vector, uint32_t dimension, void *row) {
  if (datatype == RAG_DATATYPE_BFLOAT16) rag_codes_bf16_encode(vector, dimension, row);
  else memcpy(row, vector, dimension * sizeof *vector);
}

const float *rag_index__row_read(rag_datatype datatype, const void *row, uint32_t dimension, float *room) {
  if (datatype == RAG_DATATYPE_FLOAT32) return row;
  rag_codes_bf16_decode(row, dimension, room);
  return room;
}

static void gather_floats(bool l2, const float *query, const void *const *rows, uint32_t count, uint32_t dimension,
                          float *raw) {
  const rag_kernels *kernels = rag_kernels_best();
  const float *typed[PART];
  for (uint32_t i = 0; i < count; i++) typed[i] = rows[i];
  (l2 ? kernels->l2_squared_gather : kernels->dot_gather)(query, typed, count, dimension, raw);
}

static void gather_halves(bool l2, const float *query, const void *const *rows, uint32_t count, uint32_t dimension,
                          float *raw) {
  const rag_codes_kernels *kernels = rag_codes_kernels_best();
  const uint16_t *typed[PART];
  for (uint32_t i = 0; i < count; i++) typed[i] = rows[i];
  (l2 ? kernels->bf16_l2_squared_gather : kernels->bf16_dot_gather)(query, typed, count, dimension, raw);
}

void rag_index__rows_gather(rag_datatype datatype, rag_metric metric, const float *query, const void *const *rows,
                            uint32_t count, uint32_t dimension, float *raw) {
  bool l2 = metric == RAG_METRIC_L2;
  for (uint32_t done = 0, part; done < count; done += part) {
    part = RAG_MIN(count - done, PART);
    if (datatype == RAG_DATATYPE_BFLOAT16) gather_halves(l2, query, rows + done, part, dimension, raw + done);
    else gather_floats(l2, query, rows + done, part, dimension, raw + done);
  }
}

void rag_index__rows_run(rag_datatype datatype, rag_metric metric, const float *query, const void *base, uint32_t count,
                         uint32_t dimension, float *raw) {
  bool l2 = metric == RAG_METRIC_L2;
  if (datatype == RAG_DATATYPE_BFLOAT16) {
    const rag_codes_kernels *halves = rag_codes_kernels_best();
    size_t stride = rag_codes_bf16_padded(dimension);
    (l2 ? halves->bf16_l2_squared_rows : halves->bf16_dot_rows)(query, base, stride, count, dimension, raw);
  } else {
    const rag_kernels *floats = rag_kernels_best();
    (l2 ? floats->l2_squared_rows : floats->dot_rows)(query, base, dimension, count, dimension, raw);
  }
}

rag_status rag_index__fetch_score(const rag_index_row_fetch *fetch, rag_metric metric, const float *query,
                                  const uint32_t *ids, uint32_t count, uint32_t dimension, float *raw, rag_error *err) {
  const void *rows[RAG_INDEX_ROW_FETCH_MAX];
  RAG_ASSERT(count <= RAG_INDEX_ROW_FETCH_MAX);
  RAG_TRY(fetch->rows(fetch->context, ids, count, rows, err));
  rag_index__rows_gather(fetch->datatype, metric, query, rows, count, dimension, raw);
  return RAG_OK;
}

rag_status rag_index__fetch_copy(const rag_index_row_fetch *fetch, const uint32_t *ids, uint32_t count,
                                 uint32_t dimension, float *out, rag_error *err) {
  const void *rows[RAG_INDEX_ROW_FETCH_MAX];
  for (uint32_t done = 0, some; done < count; done += some) {
    some = RAG_MIN(count - done, RAG_INDEX_ROW_FETCH_MAX);
    RAG_TRY(fetch->rows(fetch->context, ids + done, some, rows, err));
    for (uint32_t i = 0; i < some; i++) {
      float *to = out + (size_t)(done + i) * dimension;
      const float *from = rag_index__row_read(fetch->datatype, rows[i], dimension, to);
      if (from != to) memcpy(to, from, dimension * sizeof *to);
    }
  }
  return RAG_OK;
}
