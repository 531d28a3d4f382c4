// Builds an engine: a factory, a sample to train upon, all rows in blocks, and in between the calibration.
#include "index/faiss/library_internal.h"

#include <stdlib.h>

#define BLOCK_BYTES (16u << 20) // of rows that are added at once
#define TRAINING_PER_LIST 64u   // FAISS asks for 39 at least, and takes 256 at most
#define SAMPLE_SHARE 20u        // of the rows, at most
#define MAGIC 0x53494146u       // "FAIS"
#define FORMAT 1u

typedef struct builder {
  const rag_index_row_fetch *fetch;
  const rag_faiss_options *options;
  uint32_t dimension;
  rag_faiss_meta meta;
  FaissIndex *index; // until the engine takes it over
  rag_faiss *engine;
  float *block;
  uint32_t block_rows;
} builder;

static rag_status report(const builder *b, uint64_t done, rag_error *err) {
  const rag_faiss_options *o = b->options;
  if (!o->progress || o->progress(o->progress_context, done, b->meta.rows)) return RAG_OK;
  return rag_fail(err, RAG_CANCELLED, "the build was stopped");
}

static rag_status train(builder *b, rag_error *err) {
  if (faiss_Index_is_trained(b->index)) return RAG_OK;
  uint32_t rows = b->meta.rows, row_bytes = b->dimension * (uint32_t)sizeof(float);
  uint32_t minimum = rag_faiss_rows_min(b->meta.factory);
  uint64_t count = b->options->training;
  if (count == 0) {
    count = RAG_MAX((uint64_t)TRAINING_PER_LIST * rag_faiss__lists(b->meta.factory), RAG_FAISS_TRAINING_DEFAULT);
  }
  count = RAG_MIN(RAG_MAX(count, minimum), RAG_FAISS_TRAINING_BYTES_MAX / row_bytes);
  count = RAG_MIN(count, rows);
  uint32_t *chosen = rag_alloc(count * sizeof *chosen);
  float *vectors = rag_alloc(count * row_bytes);
  rag_status status = RAG_OK;
  if (!chosen || !vectors) {
    status = rag_fail_no_memory(err, count * row_bytes);
    goto out;
  }
  for (uint32_t i = 0; i < count; i++) chosen[i] = rag_index__sample_row(b->options->seed, rows, (uint32_t)count, i);
  RAG_TRY_OUT(rag_index__fetch_copy(b->fetch, chosen, (uint32_t)count, b->dimension, vectors, err));
  if (faiss_Index_train(b->index, (faiss_idx_t)count, vectors) != 0) {
    status = rag_faiss__fail(err, RAG_FAILED_PRECONDITION, "FAISS could not be trained");
  }
out:
  rag_free(chosen);
  rag_free(vectors);
  return status;
}

// Adds FAISS's numbers [begin, end).
static rag_status add(builder *b, FaissIndex *index, uint32_t begin, uint32_t end, rag_error *err) {
  uint32_t *rows = rag_alloc((size_t)b->block_rows * sizeof *rows);
  if (!rows) return rag_fail_no_memory(err, (size_t)b->block_rows * sizeof *rows);
  rag_status status = RAG_OK;
  while (begin < end) {
    uint32_t count = RAG_MIN(b->block_rows, end - begin);
    RAG_TRY_OUT(report(b, begin, err));
    for (uint32_t i = 0; i < count; i++) rows[i] = rag_faiss__row(&b->meta, begin + i);
    RAG_TRY_OUT(rag_index__fetch_copy(b->fetch, rows, count, b->dimension, b->block, err));
    if (faiss_Index_add(index, count, b->block) != 0) {
      status = rag_faiss__fail(err, RAG_FAILED_PRECONDITION, "FAISS could not add rows");
      goto out;
    }
    begin += count;
  }
out:
  rag_free(rows);
  return status;
}

static rag_status fill(builder *b, rag_error *err) {
  uint32_t rows = b->meta.rows, held = RAG_MIN(RAG_MIN(b->options->sample, RAG_FAISS_SAMPLE_MAX), rows / SAMPLE_SHARE);
  b->block_rows = RAG_MAX(RAG_MIN(BLOCK_BYTES / (b->dimension * (uint32_t)sizeof(float)), rows), held);
  b->block = rag_alloc((size_t)b->block_rows * b->dimension * sizeof *b->block);
  if (!b->block) return rag_fail_no_memory(err, (size_t)b->block_rows * b->dimension * sizeof *b->block);
  b->meta.held_count = held;
  for (uint32_t i = 0; i < held; i++) b->meta.held[i] = rag_index__sample_row(~b->options->seed, rows - held, held, i);
  RAG_TRY(train(b, err));
  RAG_TRY(add(b, b->index, 0, rows - held, err));
  FaissIndex *index = b->index;
  b->index = NULL;
  RAG_TRY(rag_faiss__engine_create(index, &b->meta, &b->engine, err));
  if (held > 0) {
    rag_faiss__probe(b->engine);
    RAG_TRY(rag_index__fetch_copy(b->fetch, b->meta.held, held, b->dimension, b->block, err));
    RAG_TRY(rag_faiss__calibrate(b->engine, b->block, b->fetch, b->options, err));
    RAG_TRY(add(b, index, rows - held, rows, err));
  }
  if (faiss_Index_ntotal(index) != rows) return rag_fail(err, RAG_INTERNAL, "FAISS did not take every row");
  rag_faiss__probe(b->engine);
  return report(b, rows, err);
}

static rag_status check_options(uint32_t rows, const rag_faiss_options *o, const char *factory, rag_error *err) {
  if (o->threads > RAG_FAISS_THREADS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u threads; there can be %u at most", o->threads,
                    RAG_FAISS_THREADS_MAX);
  }
  if (rows > RAG_FAISS_ROWS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u rows; there can be %u at most", rows, RAG_FAISS_ROWS_MAX);
  }
  if (rows < rag_faiss_rows_min(factory)) {
    return rag_fail_field(err, RAG_FAILED_PRECONDITION, "index.factory",
                          "\"%s\" needs %u rows to be trained; there are %u", factory, rag_faiss_rows_min(factory),
                          rows);
  }
  return RAG_OK;
}

static rag_status measure(void *context, const void *data, size_t size, rag_error *err) {
  rag_faiss_meta *meta = context;
  RAG_UNUSED(err);
  meta->index_crc = rag_crc32c(meta->index_crc, data, size);
  meta->index_bytes += size;
  return RAG_OK;
}

rag_status rag_faiss_build(const rag_index_row_fetch *fetch, uint32_t rows, uint32_t dimension, rag_metric metric,
                           const char *factory, const rag_faiss_options *options, rag_faiss **out, rag_error *err) {
  builder b = {.fetch = fetch, .options = options, .dimension = dimension};
  RAG_TRY(rag_faiss__make(factory, dimension, metric, &b.index, err));
  rag_faiss__threads threads = rag_faiss__build_begin(RAG_MAX(options->threads, 1u));
  rag_faiss_meta *meta = &b.meta;
  *meta = (rag_faiss_meta){
      .magic = MAGIC, .format = FORMAT, .rows = rows, .dimension = dimension, .metric = (uint32_t)metric};
  strcpy(meta->factory, factory);
  strcpy(meta->library, rag_faiss_version());
  meta->knob = rag_faiss__find_knob(b.index);
  meta->knob_max = meta->knob == RAG_FAISS_NPROBE ? RAG_MAX(rag_faiss__lists(factory), 1u) : 0;
  rag_status status = check_options(rows, options, factory, err);
  if (status == RAG_OK) status = fill(&b, err);
  if (status == RAG_OK) {
    rag_faiss_sink sink = {measure, &b.engine->meta};
    status = rag_faiss_write(b.engine, &sink, err);
  }
  rag_faiss__build_end(threads);
  if (status == RAG_OK) {
    *out = b.engine;
    b.engine = NULL;
  }
  rag_faiss_destroy(b.engine);
  if (b.index) faiss_Index_free(b.index);
  rag_free(b.block);
  return status;
}

// ---------------------------------------------------------------------------------------------- sections

rag_slice rag_faiss_meta_section(const rag_faiss *engine) {
  return rag_slice_of(&engine->meta, sizeof engine->meta);
}

static rag_status check_meta(const rag_faiss_meta *m, uint32_t rows, uint32_t dimension, rag_metric metric,
                             rag_error *err) {
  if (m->magic != MAGIC || m->format != FORMAT)
    return rag_fail(err, RAG_DATA_LOSS, "not FAISS's section, or a newer one's");
  if (m->rows != rows || m->dimension != dimension || m->metric != (uint32_t)metric) {
    return rag_fail(err, RAG_DATA_LOSS, "the index is of %u rows of %u, and there are %u of %u", m->rows, m->dimension,
                    rows, dimension);
  }
  bool sound = m->knob <= RAG_FAISS_EF_SEARCH && m->rung_count <= RAG_FAISS_RUNGS_MAX &&
               m->held_count <= RAG_FAISS_SAMPLE_MAX && m->held_count <= rows / SAMPLE_SHARE &&
               m->factory[sizeof m->factory - 1] == 0 && m->library[sizeof m->library - 1] == 0;
  for (uint32_t i = 0; sound && i < m->held_count; i++) {
    sound = m->held[i] < rows - m->held_count && (i == 0 || m->held[i - 1] < m->held[i]);
  }
  for (uint32_t i = 0; sound && i < m->rung_count; i++) {
    const rag_faiss_rung *r = &m->rungs[i];
    sound = r->take_10 > 0 && r->take_100 > 0 && r->recall_10 >= 0 && r->recall_10 <= 1 && r->recall_100 >= -1 &&
            r->recall_100 <= 1 && (i == 0 || m->rungs[i - 1].value < r->value);
  }
  return sound ? RAG_OK : rag_fail(err, RAG_DATA_LOSS, "what the index says of itself cannot be");
}

rag_status rag_faiss_open(rag_slice meta, rag_slice index, uint32_t rows, uint32_t dimension, rag_metric metric,
                          rag_faiss **out, rag_error *err) {
  rag_faiss_meta m;
  if (meta.size != sizeof m) return rag_fail(err, RAG_DATA_LOSS, "FAISS's section has %zu bytes", meta.size);
  memcpy(&m, meta.data, sizeof m);
  RAG_TRY(check_meta(&m, rows, dimension, metric, err));
  if (index.size != m.index_bytes || rag_crc32c(0, index.data, index.size) != m.index_crc) {
    return rag_fail(err, RAG_DATA_LOSS, "FAISS's index is not what was written");
  }
  FaissIndex *read = NULL;
  RAG_TRY(rag_faiss__load(index, &read, err));
  FaissMetricType is = faiss_Index_metric_type(read);
  if (faiss_Index_d(read) != (int)dimension || faiss_Index_ntotal(read) != rows || !faiss_Index_is_trained(read) ||
      (metric != RAG_METRIC_COSINE && is != (metric == RAG_METRIC_L2 ? METRIC_L2 : METRIC_INNER_PRODUCT))) {
    faiss_Index_free(read);
    return rag_fail(err, RAG_DATA_LOSS, "FAISS's index is not of these rows");
  }
  RAG_TRY(rag_faiss__engine_create(read, &m, out, err));
  rag_faiss__probe(*out);
  return RAG_OK;
}

const rag_faiss_meta *rag_faiss_about(const rag_faiss *engine) {
  return &engine->meta;
}
uint64_t rag_faiss_bytes(const rag_faiss *engine) {
  return engine->meta.index_bytes + sizeof *engine;
}
bool rag_faiss_has_parameters(const rag_faiss *engine) {
  return engine->can_tell || engine->meta.knob == RAG_FAISS_NO_KNOB;
}
bool rag_faiss_has_filters(const rag_faiss *engine) {
  return engine->can_select;
}
