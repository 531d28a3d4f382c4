// Joins segments list by list: codes are those of a row and its centroid, whatever segment it is in, so they are copied.
#include "index/ivf/ivf_internal.h"

#include <stdlib.h>

typedef struct entry {
  uint32_t row; // in the result, without the flag
  uint32_t flag;
  const uint8_t *code;
} entry;

static int compare_entries(const void *a, const void *b) {
  const entry *x = a, *y = b;
  return x->row < y->row ? -1 : x->row > y->row;
}

// Every row of the result comes from one row of one input. Counts the entries.
static rag_status check(const rag_ivf_centroids *centroids, const rag_ivf_input *inputs, uint32_t count, uint32_t rows,
                        uint64_t *seen, uint32_t *out_entries, rag_error *err) {
  uint64_t taken = 0, entries = 0;
  for (uint32_t n = 0; n < count; n++) {
    const rag_ivf *ivf = inputs[n].ivf;
    if (ivf->meta.centroids != centroids->checksum || ivf->meta.lists != centroids->meta.lists) {
      return rag_fail(err, RAG_FAILED_PRECONDITION, "segments with different centroids do not merge: build anew");
    }
    for (uint32_t i = 0; i < ivf->meta.rows; i++) {
      uint32_t row = inputs[n].map[i];
      if (row == RAG_IVF_NONE) continue;
      if (row >= rows || (seen[row / 64] >> row % 64 & 1)) {
        return rag_fail(err, RAG_INVALID_ARGUMENT, "row %u of the result %s", row,
                        row >= rows ? "is past its end" : "is made twice");
      }
      seen[row / 64] |= 1ull << row % 64;
      taken++;
    }
    for (uint32_t i = 0; i < ivf->meta.entries; i++) {
      entries += inputs[n].map[ivf->rows[i] & ~RAG_IVF_SECOND] != RAG_IVF_NONE;
    }
  }
  if (taken != rows) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%llu rows come from the inputs, where the result has %u",
                    (unsigned long long)taken, rows);
  }
  if (entries > 2ull * rows) return rag_fail(err, RAG_DATA_LOSS, "an input has a row more than twice");
  *out_entries = (uint32_t)entries;
  return RAG_OK;
}

static void join(const rag_ivf_input *inputs, uint32_t count, entry *room, rag_ivf *out) {
  uint32_t *lists = rag_ivf__own_lists(out), *row_of = rag_ivf__own_rows(out), at = 0;
  uint8_t *codes = rag_ivf__own_codes(out);
  for (uint32_t list = 0; list < out->meta.lists; list++) {
    lists[list] = at;
    uint32_t found = 0;
    bool ascending = true;
    for (uint32_t n = 0; n < count; n++) {
      const rag_ivf *ivf = inputs[n].ivf;
      for (uint32_t i = ivf->lists[list]; i < ivf->lists[list + 1]; i++) {
        uint32_t row = inputs[n].map[ivf->rows[i] & ~RAG_IVF_SECOND];
        if (row == RAG_IVF_NONE) continue;
        if (found > 0 && room[found - 1].row > row) ascending = false;
        room[found++] = (entry){row, ivf->rows[i] & RAG_IVF_SECOND, ivf->codes + (size_t)i * ivf->code_bytes};
      }
    }
    if (!ascending) qsort(room, found, sizeof *room, compare_entries);
    for (uint32_t i = 0; i < found; i++, at++) {
      row_of[at] = room[i].row | room[i].flag;
      memcpy(codes + (size_t)at * out->code_bytes, room[i].code, out->code_bytes);
    }
  }
  lists[out->meta.lists] = at;
}

// The longest list that could come out.
static uint32_t longest(const rag_ivf_centroids *centroids, const rag_ivf_input *inputs, uint32_t count) {
  uint64_t most = 1;
  for (uint32_t list = 0; list < centroids->meta.lists; list++) {
    uint64_t length = 0;
    for (uint32_t n = 0; n < count; n++) length += inputs[n].ivf->lists[list + 1] - inputs[n].ivf->lists[list];
    most = RAG_MAX(most, length);
  }
  return (uint32_t)RAG_MIN(most, (uint64_t)UINT32_MAX);
}

static void inherit_calibration(const rag_ivf_input *inputs, uint32_t count, rag_ivf_meta *meta) {
  const rag_ivf_meta *largest = NULL;
  for (uint32_t n = 0; n < count; n++) {
    if (!largest || inputs[n].ivf->meta.rows > largest->rows) largest = &inputs[n].ivf->meta;
  }
  if (!largest) return;
  meta->sample = largest->sample;
  meta->rung_count = largest->rung_count;
  memcpy(meta->rungs, largest->rungs, sizeof meta->rungs);
}

rag_status rag_ivf_merge(const rag_ivf_centroids *centroids, const rag_ivf_input *inputs, uint32_t count, uint32_t rows,
                         const rag_ivf_codes *codes, const rag_ivf_options *options, rag_ivf **out, rag_error *err) {
  if (count > RAG_IVF_INPUTS_MAX || rows > RAG_IVF_ROWS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a merge of %u segments to %u rows; %u and %u at most", count, rows,
                    RAG_IVF_INPUTS_MAX, RAG_IVF_ROWS_MAX);
  }
  rag_status status = RAG_OK;
  rag_ivf *ivf = NULL;
  entry *room = NULL;
  uint32_t entries = 0;
  uint64_t *seen = rag_calloc(rows / 64 + 1, sizeof *seen);
  if (!seen) return rag_fail_no_memory(err, rows / 8);
  RAG_TRY_OUT(check(centroids, inputs, count, rows, seen, &entries, err));
  size_t most = longest(centroids, inputs, count);
  room = rag_alloc(most * sizeof *room);
  if (!room) {
    status = rag_fail_no_memory(err, most * sizeof *room);
    goto out;
  }
  RAG_TRY_OUT(rag_ivf__create(centroids, rows, entries, &ivf, err));
  join(inputs, count, room, ivf);
  rag_ivf__measure_error(ivf);
  if (codes) RAG_TRY_OUT(rag_ivf__calibrate(ivf, codes, options, err));
  else inherit_calibration(inputs, count, &ivf->meta);
  *out = ivf;
  ivf = NULL;
out:
  rag_ivf_destroy(ivf);
  rag_free(room);
  rag_free(seen);
  return status;
}
