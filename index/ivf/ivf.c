// The layout of an ivf, the check of what a file brings, the choice of nprobe, drift.
#include "index/ivf/ivf_internal.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "sections are used as they are mapped: this needs a little-endian machine"
#endif

#define IVF_MAGIC 0x20465649u // "IVF "
#define IVF_FORMAT 1u
#define ALIGN 64u

static size_t lists_bytes(const rag_ivf_meta *meta) {
  return ((size_t)meta->lists + 1) * sizeof(uint32_t);
}
static size_t rows_bytes(const rag_ivf_meta *meta) {
  return (size_t)meta->entries * sizeof(uint32_t);
}
static size_t codes_bytes(const rag_ivf_meta *meta) {
  return (size_t)meta->entries * rag_codes_bits_bytes(meta->dimension);
}
static size_t aligned(size_t size) {
  return (size + ALIGN - 1) / ALIGN * ALIGN;
}

rag_status rag_ivf__create(const rag_ivf_centroids *centroids, uint32_t rows, uint32_t entries, rag_ivf **out,
                           rag_error *err) {
  rag_ivf *ivf = rag_alloc(sizeof *ivf);
  if (!ivf) return rag_fail_no_memory(err, sizeof *ivf);
  *ivf = (rag_ivf){.centroids = centroids, .code_bytes = rag_codes_bits_bytes(centroids->meta.dimension)};
  ivf->meta = (rag_ivf_meta){.magic = IVF_MAGIC,
                             .format = IVF_FORMAT,
                             .rows = rows,
                             .dimension = centroids->meta.dimension,
                             .metric = centroids->meta.metric,
                             .lists = centroids->meta.lists,
                             .entries = entries,
                             .centroids = centroids->checksum};
  size_t lists = aligned(lists_bytes(&ivf->meta)), of_rows = aligned(rows_bytes(&ivf->meta));
  size_t size = lists + of_rows + aligned(codes_bytes(&ivf->meta));
  char *block = rag_aligned_alloc(ALIGN, size);
  if (!block) {
    rag_free(ivf);
    return rag_fail_no_memory(err, size);
  }
  ivf->owned = block;
  ivf->lists = (void *)block;
  ivf->rows = (void *)(block + lists);
  ivf->codes = (void *)(block + lists + of_rows);
  *out = ivf;
  return RAG_OK;
}

void rag_ivf_destroy(rag_ivf *ivf) {
  if (!ivf) return;
  rag_free(ivf->owned);
  rag_free(ivf);
}

void rag_ivf_sections(const rag_ivf *ivf, rag_slice out[RAG_IVF_SECTIONS]) {
  out[RAG_IVF_META] = rag_slice_of(&ivf->meta, sizeof ivf->meta);
  out[RAG_IVF_LISTS] = rag_slice_of(ivf->lists, lists_bytes(&ivf->meta));
  out[RAG_IVF_ROWS] = rag_slice_of(ivf->rows, rows_bytes(&ivf->meta));
  out[RAG_IVF_CODES] = rag_slice_of(ivf->codes, codes_bytes(&ivf->meta));
}

uint64_t rag_ivf_bytes(const rag_ivf *ivf) {
  return sizeof ivf->meta + lists_bytes(&ivf->meta) + rows_bytes(&ivf->meta) + codes_bytes(&ivf->meta);
}

// ---------------------------------------------------------------------------------------------- check

static const char *check_meta(const rag_ivf_meta *meta, const rag_ivf_centroids *centroids, uint32_t rows) {
  if (meta->magic != IVF_MAGIC) return "it is something else";
  if (meta->format != IVF_FORMAT) return "it has another format";
  const rag_ivf_centroids_meta *c = &centroids->meta;
  if (meta->rows != rows || meta->dimension != c->dimension || meta->metric != c->metric) return "it is of other rows";
  if (meta->lists != c->lists || meta->centroids != centroids->checksum) return "it has other centroids";
  if (rows > RAG_IVF_ROWS_MAX || meta->entries < rows || (uint64_t)meta->entries > 2ull * rows) {
    return "its number of entries is out of range";
  }
  if (meta->rung_count > RAG_IVF_RUNGS_MAX) return "a count is too large";
  if (!(meta->error >= 0 && meta->error <= FLT_MAX)) return "its error makes no sense";
  bool sound = rag_index__rungs_sound(meta->rungs, meta->rung_count, RAG_IVF_LISTS_MAX);
  return sound ? NULL : "its calibration makes no sense";
}

static const char *check_arrays(const rag_ivf_meta *meta, const uint32_t *lists, const uint32_t *rows) {
  bool sound = lists[0] == 0 && lists[meta->lists] == meta->entries;
  for (uint32_t i = 0; i < meta->lists; i++) sound &= lists[i] <= lists[i + 1];
  if (!sound) return "its lists do not follow each other";
  uint32_t bad = 0;
  for (uint32_t i = 0; i < meta->entries; i++) bad |= (uint32_t)((rows[i] & ~RAG_IVF_SECOND) >= meta->rows);
  return bad ? "an entry is of no row" : NULL;
}

rag_status rag_ivf_open(const rag_slice sections[RAG_IVF_SECTIONS], const rag_ivf_centroids *centroids, uint32_t rows,
                        rag_ivf **out, rag_error *err) {
  rag_ivf_meta meta;
  const char *wrong = NULL;
  const uint32_t *lists = (const void *)sections[RAG_IVF_LISTS].data;
  const uint32_t *row_of = (const void *)sections[RAG_IVF_ROWS].data;
  if ((((uintptr_t)lists | (uintptr_t)row_of) & 3) != 0) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "an ivf's sections are not aligned");
  }
  if (sections[RAG_IVF_META].size != sizeof meta) {
    wrong = "its head has another size";
  } else {
    memcpy(&meta, sections[RAG_IVF_META].data, sizeof meta);
    wrong = check_meta(&meta, centroids, rows);
  }
  if (!wrong &&
      (sections[RAG_IVF_LISTS].size != lists_bytes(&meta) || sections[RAG_IVF_ROWS].size != rows_bytes(&meta) ||
       sections[RAG_IVF_CODES].size != codes_bytes(&meta))) {
    wrong = "a section has another size";
  }
  if (!wrong) wrong = check_arrays(&meta, lists, row_of);
  if (wrong) return rag_fail(err, RAG_DATA_LOSS, "the lists of a segment cannot be used: %s", wrong);
  rag_ivf *ivf = rag_alloc(sizeof *ivf);
  if (!ivf) return rag_fail_no_memory(err, sizeof *ivf);
  *ivf = (rag_ivf){.meta = meta,
                   .centroids = centroids,
                   .lists = lists,
                   .rows = row_of,
                   .codes = (const void *)sections[RAG_IVF_CODES].data,
                   .code_bytes = rag_codes_bits_bytes(meta.dimension)};
  *out = ivf;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- choice of nprobe

uint32_t rag_ivf_nprobe(const rag_ivf *ivf, uint32_t k, float target_recall, bool *out_reached) {
  const rag_ivf_meta *meta = &ivf->meta;
  double of_10 = rag_index__rungs_width(meta->rungs, meta->rung_count, target_recall, false);
  double of_100 = rag_index__rungs_width(meta->rungs, meta->rung_count, target_recall, true);
  *out_reached = of_10 > 0;
  if (of_10 <= 0) of_10 = meta->rung_count > 0 ? meta->rungs[meta->rung_count - 1].width : meta->lists / 16.0;
  double nprobe = of_10;
  if (k > 10) {
    if (of_100 <= 0) {
      of_100 = 2 * of_10;
      *out_reached = false;
    }
    // Ten times the rows take a constant factor of lists, within what was measured and beyond.
    nprobe = of_10 * pow(RAG_MAX(of_100 / of_10, 1.0), log10(k / 10.0));
  }
  return (uint32_t)ceil(RAG_MIN(RAG_MAX(nprobe, 1.0), (double)RAG_MAX(meta->lists, 1u)));
}

// ---------------------------------------------------------------------------------------------- drift

// The squared distances are in the codes: f = |r|^2 / |r|_1, and the spread says how far |r|_1 is from |r| sqrt(P).
void rag_ivf__measure_error(rag_ivf *ivf) {
  double padded = rag_codes_padded(ivf->meta.dimension), sum = 0;
  bool l2 = ivf->meta.metric == RAG_METRIC_L2;
  for (uint32_t i = 0; i < ivf->meta.entries; i++) {
    if (ivf->rows[i] & RAG_IVF_SECOND) continue;
    rag_codes_bits_head head;
    memcpy(&head, ivf->codes + (size_t)i * ivf->code_bytes, sizeof head);
    double f = (double)head.rescale / (l2 ? 2 : 1), a_squared = 1 - (double)head.spread * (padded - 1) / padded;
    sum += f * f * padded * a_squared;
  }
  ivf->meta.error = (float)RAG_MIN(sum / RAG_MAX(ivf->meta.rows, 1u), (double)FLT_MAX);
}

float rag_ivf_drift(const rag_ivf *ivf) {
  float ratio = ivf->meta.error / ivf->centroids->meta.error; // which is above 0
  return ivf->meta.rows == 0 ? 1 : RAG_MIN(ratio, FLT_MAX);
}
