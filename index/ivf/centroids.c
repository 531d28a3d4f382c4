// The centroids of a space: the object, its section, the check of what a file brings.
#include "index/ivf/ivf_internal.h"

#define CENTROIDS_MAGIC 0x43465649u // "IVFC"
#define CENTROIDS_FORMAT 1u
#define LISTS_FOR_ROOT 4.0
#define ROWS_OF_LIST_MIN 16u
// An error below this part of the rows' squared length is that of their int8 codes, and says nothing of a fit.
#define ERROR_OF_CODES 1e-4

uint32_t rag_ivf_default_lists(uint64_t rows) {
  double lists = RAG_MIN(LISTS_FOR_ROOT * sqrt((double)rows), (double)rows / ROWS_OF_LIST_MIN);
  return (uint32_t)RAG_MIN(RAG_MAX(lists, 1.0), (double)RAG_IVF_LISTS_MAX);
}

static uint64_t section_bytes(const rag_ivf_centroids_meta *meta) {
  return sizeof *meta + (uint64_t)meta->lists * (meta->dimension + 1) * sizeof(float);
}

// What is derived, upon a section that is sound.
static rag_status derive(rag_slice section, rag_ivf_centroids **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_ivf_centroids *c = rag_calloc(1, sizeof *c);
  if (!c) return rag_fail_no_memory(err, sizeof *c);
  memcpy(&c->meta, section.data, sizeof c->meta);
  uint32_t lists = c->meta.lists, dimension = c->meta.dimension, bytes = rag_codes_int8_bytes(dimension);
  c->section = section;
  c->checksum = rag_crc32c(0, section.data, section.size);
  rag_digest digest = rag_digest_of(section.data, section.size);
  memcpy(&c->identity, &digest, sizeof c->identity);
  c->identity |= 1; // not 0
  c->vectors = (const void *)(section.data + sizeof c->meta);
  c->radii = c->vectors + (size_t)lists * dimension;
  c->codes = rag_aligned_alloc(64, (size_t)lists * bytes);
  c->factors = rag_alloc(lists * sizeof *c->factors);
  if (!c->codes || !c->factors) {
    status = rag_fail_no_memory(err, (size_t)lists * bytes);
    goto out;
  }
  RAG_TRY_OUT(
      rag_codes_rotation_create(dimension, (uint64_t)c->meta.seed_high << 32 | c->meta.seed_low, &c->rotation, err));
  for (uint32_t i = 0; i < lists; i++) {
    rag_codes_int8_encode(c->vectors + (size_t)i * dimension, dimension, c->codes + (size_t)i * bytes, &c->factors[i]);
  }
  *out = c;
  c = NULL;
out:
  rag_ivf_centroids_destroy(c);
  return status;
}

rag_slice rag_ivf_centroids_section(const rag_ivf_centroids *centroids) {
  return centroids->section;
}

void rag_ivf_centroids_destroy(rag_ivf_centroids *c) {
  if (!c) return;
  rag_codes_rotation_destroy(c->rotation);
  rag_free(c->factors);
  rag_free(c->codes);
  rag_free(c->owned);
  rag_free(c);
}

// ---------------------------------------------------------------------------------------------- check

static bool all_finite(const float *values, uint64_t count) {
  bool finite = true;
  for (uint64_t i = 0; i < count; i++) finite &= fabsf(values[i]) <= FLT_MAX; // false for a NaN
  return finite;
}

static const char *check(rag_slice section, uint32_t dimension, rag_metric metric) {
  rag_ivf_centroids_meta meta;
  if (section.size < sizeof meta) return "there is no head";
  memcpy(&meta, section.data, sizeof meta);
  if (meta.magic != CENTROIDS_MAGIC) return "it is something else";
  if (meta.format != CENTROIDS_FORMAT) return "it has another format";
  if (meta.dimension != dimension || meta.metric != (uint32_t)metric) return "it is of another space";
  if (meta.lists == 0 || meta.lists > RAG_IVF_LISTS_MAX) return "its number of lists is out of range";
  if (section.size != section_bytes(&meta)) return "it has another size";
  if (!(meta.error > 0 && meta.error <= FLT_MAX)) return "its error makes no sense";
  const float *vectors = (const void *)(section.data + sizeof meta);
  uint64_t count = (uint64_t)meta.lists * dimension;
  if (!all_finite(vectors, count + meta.lists)) return "a component is no finite number";
  for (uint32_t i = 0; i < meta.lists; i++) {
    if (vectors[count + i] < 0) return "a radius is below zero";
  }
  return NULL;
}

rag_status rag_ivf_centroids_open(rag_slice section, uint32_t dimension, rag_metric metric, rag_ivf_centroids **out,
                                  rag_error *err) {
  if (((uintptr_t)section.data & 3) != 0) return rag_fail(err, RAG_INVALID_ARGUMENT, "centroids are not aligned");
  const char *wrong = check(section, dimension, metric);
  if (wrong) return rag_fail(err, RAG_DATA_LOSS, "the centroids of a space cannot be used: %s", wrong);
  return derive(section, out, err);
}

// ---------------------------------------------------------------------------------------------- creation

// Fills radii and error from where the sample's rows lie.
static rag_status measure(const rag_ivf_codes *sample, rag_ivf__team *team, rag_ivf_centroids_meta *meta,
                          const float *vectors, float *radii, rag_error *err) {
  rag_status status = RAG_OK;
  rag_ivf__assigner *assigner = NULL;
  uint32_t rows = sample->rows, lists = meta->lists;
  uint32_t *first = rag_alloc((rows + 1ull) * sizeof *first);
  float *distances = rag_alloc((rows + 1ull) * sizeof *distances);
  double *sums = rag_calloc(lists, sizeof *sums), sum = 0, norms = 0;
  uint32_t *counts = rag_calloc(lists, sizeof *counts);
  if (!first || !distances || !sums || !counts) {
    status = rag_fail_no_memory(err, rows * sizeof *first);
    goto out;
  }
  RAG_TRY_OUT(rag_ivf__assigner_create(lists, sample, team, &assigner, err));
  rag_ivf__assigner_use(assigner, vectors);
  RAG_TRY_OUT(rag_ivf__assign(assigner, 0, rows, first, NULL, distances, err));
  for (uint32_t i = 0; i < rows; i++) {
    sums[first[i]] += (double)distances[i];
    counts[first[i]]++;
    sum += (double)distances[i];
    norms += (double)sample->factors[i].norm_squared;
  }
  double count = RAG_MAX(rows, 1u), mean = RAG_MAX(RAG_MAX(sum, norms * ERROR_OF_CODES) / count, (double)FLT_MIN);
  meta->error = (float)RAG_MIN(mean, (double)FLT_MAX);
  for (uint32_t i = 0; i < lists; i++)
    radii[i] = (float)sqrt(counts[i] > 0 ? sums[i] / counts[i] : (double)meta->error);
out:
  rag_ivf__assigner_destroy(assigner);
  rag_free(first);
  rag_free(distances);
  rag_free(sums);
  rag_free(counts);
  return status;
}

rag_status rag_ivf__centroids_finish(const float *vectors, uint32_t lists, const rag_ivf_codes *sample,
                                     rag_ivf__team *team, uint64_t seed, uint32_t iterations, rag_ivf_centroids **out,
                                     rag_error *err) {
  rag_status status = RAG_OK;
  rag_ivf_centroids *c = NULL;
  rag_ivf_centroids_meta meta = {.magic = CENTROIDS_MAGIC,
                                 .format = CENTROIDS_FORMAT,
                                 .lists = lists,
                                 .dimension = sample->dimension,
                                 .metric = (uint32_t)sample->metric,
                                 .iterations = iterations,
                                 .sample = sample->rows,
                                 .seed_low = (uint32_t)seed,
                                 .seed_high = (uint32_t)(seed >> 32)};
  size_t size = section_bytes(&meta), count = (size_t)lists * meta.dimension;
  char *section = rag_aligned_alloc(64, (size + 63) / 64 * 64);
  if (!section) return rag_fail_no_memory(err, size);
  float *at = (void *)(section + sizeof meta);
  for (size_t i = 0; i < count; i++) { // means of huge rows may have overflowed
    float value = vectors[i] > -FLT_MAX ? vectors[i] : -FLT_MAX;
    at[i] = value < FLT_MAX ? value : FLT_MAX;
  }
  RAG_TRY_OUT(measure(sample, team, &meta, at, at + count, err));
  memcpy(section, &meta, sizeof meta);
  RAG_TRY_OUT(derive(rag_slice_of(section, size), &c, err));
  c->owned = section;
  section = NULL;
  *out = c;
out:
  rag_free(section);
  return status;
}

rag_status rag_ivf_centroids_create(const float *vectors, uint32_t lists, const rag_ivf_codes *sample, uint32_t threads,
                                    uint64_t seed, rag_ivf_centroids **out, rag_error *err) {
  if (lists == 0 || lists > RAG_IVF_LISTS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u lists; there can be 1 to %u", lists, RAG_IVF_LISTS_MAX);
  }
  rag_ivf__team *team;
  RAG_TRY(rag_ivf__team_create(threads, &team, err));
  rag_status status = rag_ivf__centroids_finish(vectors, lists, sample, team, seed, 0, out, err);
  rag_ivf__team_destroy(team);
  return status;
}
