// Builds the lists of one segment: which lists each row is in, where its entries lie, then its codes, each step in
// threads. An entry's place depends on rows and lists alone, so the bytes do not depend on the threads.
//
// Rows come as their int8 codes: what the 1-bit codes lose is a hundred times what those do, and no full-precision row
// needs to be read.
#include "index/ivf/ivf_internal.h"

#define SLICE 8192u // rows between two looks at `progress`
#define ENCODE_CLAIM 64u

typedef struct builder {
  const rag_ivf_centroids *centroids;
  const rag_ivf_codes *codes;
  const rag_ivf_options *options;
  rag_ivf__team *team;
  rag_ivf__assigner *assigner;
  uint32_t *first, *second; // lists of each row
  uint32_t *first_at, *second_at;
  float *rotated_centroids;
  float *room; // for each thread a row and a rotated row
  rag_ivf *ivf;
} builder;

static rag_status report(const builder *b, uint64_t done) {
  const rag_ivf_options *o = b->options;
  if (!o->progress || o->progress(o->progress_context, done, 2ull * b->codes->rows)) return RAG_OK;
  return RAG_CANCELLED;
}

static rag_status assign_all(builder *b, rag_error *err) {
  uint32_t rows = b->codes->rows;
  for (uint32_t at = 0; at < rows;) {
    if (report(b, at) != RAG_OK) return rag_fail(err, RAG_CANCELLED, "the build was stopped");
    uint32_t end = at + RAG_MIN(SLICE, rows - at);
    RAG_TRY(
        rag_ivf__assign(b->assigner, at, end, b->first + at, b->options->single ? NULL : b->second + at, NULL, err));
    at = end;
  }
  return RAG_OK;
}

// Where each list begins, and each entry is: lists in order, rows ascending in each.
static rag_status place_all(builder *b, rag_error *err) {
  uint32_t rows = b->codes->rows, lists = b->centroids->meta.lists, entries = rows;
  uint32_t *at = rag_calloc(lists + 1ull, sizeof *at);
  if (!at) return rag_fail_no_memory(err, (lists + 1ull) * sizeof *at);
  for (uint32_t i = 0; i < rows; i++) {
    at[b->first[i] + 1]++;
    if (b->second[i] == RAG_IVF_NONE) continue;
    at[b->second[i] + 1]++;
    entries++;
  }
  rag_status status = rag_ivf__create(b->centroids, rows, entries, &b->ivf, err);
  if (status == RAG_OK) {
    for (uint32_t i = 0; i < lists; i++) at[i + 1] += at[i];
    memcpy(rag_ivf__own_lists(b->ivf), at, (lists + 1ull) * sizeof *at);
    uint32_t *row_of = rag_ivf__own_rows(b->ivf);
    for (uint32_t i = 0; i < rows; i++) {
      b->first_at[i] = at[b->first[i]]++;
      row_of[b->first_at[i]] = i;
      if (b->second[i] == RAG_IVF_NONE) continue;
      b->second_at[i] = at[b->second[i]]++;
      row_of[b->second_at[i]] = i | RAG_IVF_SECOND;
    }
  }
  rag_free(at);
  return status;
}

static void encode_rows(void *context, uint32_t thread, uint32_t begin, uint32_t end) {
  const builder *b = context;
  const rag_ivf_codes *codes = b->codes;
  uint32_t dimension = codes->dimension, padded = rag_codes_padded(dimension);
  float *row = b->room + (size_t)thread * 2 * padded, *rotated = row + padded;
  uint8_t *out = rag_ivf__own_codes(b->ivf);
  for (uint32_t i = begin; i < end; i++) {
    rag_codes_int8_decode(codes->base + i * codes->stride, &codes->factors[i], dimension, row);
    rag_codes_rotate(b->centroids->rotation, row, rotated);
    rag_codes_bits_encode(rotated, b->rotated_centroids + (size_t)b->first[i] * padded, dimension, codes->metric,
                          out + (size_t)b->first_at[i] * b->ivf->code_bytes);
    if (b->second[i] == RAG_IVF_NONE) continue;
    rag_codes_bits_encode(rotated, b->rotated_centroids + (size_t)b->second[i] * padded, dimension, codes->metric,
                          out + (size_t)b->second_at[i] * b->ivf->code_bytes);
  }
}

static rag_status encode_all(builder *b, rag_error *err) {
  uint32_t rows = b->codes->rows, padded = rag_codes_padded(b->codes->dimension), lists = b->centroids->meta.lists;
  for (uint32_t i = 0; i < lists; i++) {
    rag_codes_rotate(b->centroids->rotation, b->centroids->vectors + (size_t)i * b->codes->dimension,
                     b->rotated_centroids + (size_t)i * padded);
  }
  for (uint32_t at = 0; at < rows;) {
    if (report(b, (uint64_t)rows + at) != RAG_OK) return rag_fail(err, RAG_CANCELLED, "the build was stopped");
    uint32_t end = at + RAG_MIN(SLICE, rows - at);
    RAG_TRY(rag_ivf__team_run(b->team, encode_rows, b, at, end, ENCODE_CLAIM, err));
    at = end;
  }
  return RAG_OK;
}

static rag_status make_room(builder *b, rag_error *err) {
  size_t rows = b->codes->rows + 1ull, padded = rag_codes_padded(b->codes->dimension);
  RAG_TRY(rag_ivf__team_create(b->options->threads, &b->team, err));
  RAG_TRY(rag_ivf__assigner_create(b->centroids->meta.lists, b->codes, b->team, &b->assigner, err));
  rag_ivf__assigner_use(b->assigner, b->centroids->vectors);
  size_t centroids_size = b->centroids->meta.lists * padded * sizeof(float);
  size_t room_size = rag_ivf__team_threads(b->team) * 2 * padded * sizeof(float);
  b->first = rag_alloc(rows * sizeof *b->first);
  b->second = rag_alloc(rows * sizeof *b->second);
  b->first_at = rag_alloc(rows * sizeof *b->first_at);
  b->second_at = rag_alloc(rows * sizeof *b->second_at);
  b->rotated_centroids = rag_aligned_alloc(64, centroids_size);
  b->room = rag_aligned_alloc(64, room_size);
  if (!b->first || !b->second || !b->first_at || !b->second_at || !b->rotated_centroids || !b->room) {
    return rag_fail_no_memory(err, 4 * rows * sizeof *b->first + centroids_size + room_size);
  }
  memset(b->second, 0xff, rows * sizeof *b->second);
  return RAG_OK;
}

static rag_status check(const rag_ivf_centroids *centroids, const rag_ivf_codes *codes, rag_error *err) {
  const rag_ivf_centroids_meta *c = &centroids->meta;
  if (codes->rows > RAG_IVF_ROWS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u rows; an ivf has %u at most", codes->rows, RAG_IVF_ROWS_MAX);
  }
  if (codes->dimension != c->dimension || (uint32_t)codes->metric != c->metric) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "rows of %u dimensions (%s) around centroids of %u (%s)",
                    codes->dimension, rag_metric_name(codes->metric), c->dimension,
                    rag_metric_name((rag_metric)c->metric));
  }
  return RAG_OK;
}

rag_status rag_ivf_build(const rag_ivf_centroids *centroids, const rag_ivf_codes *codes, const rag_ivf_options *options,
                         rag_ivf **out, rag_error *err) {
  RAG_TRY(check(centroids, codes, err));
  rag_status status = RAG_OK;
  builder b = {.centroids = centroids, .codes = codes, .options = options};
  RAG_TRY_OUT(make_room(&b, err));
  RAG_TRY_OUT(assign_all(&b, err));
  RAG_TRY_OUT(place_all(&b, err));
  RAG_TRY_OUT(encode_all(&b, err));
  rag_ivf__measure_error(b.ivf);
  RAG_TRY_OUT(rag_ivf__calibrate(b.ivf, codes, options, err));
  *out = b.ivf;
  b.ivf = NULL;
out:
  rag_ivf_destroy(b.ivf);
  rag_free(b.room);
  rag_free(b.rotated_centroids);
  rag_free(b.second_at);
  rag_free(b.first_at);
  rag_free(b.second);
  rag_free(b.first);
  rag_ivf__assigner_destroy(b.assigner);
  rag_ivf__team_destroy(b.team);
  return status;
}
