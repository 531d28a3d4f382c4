// A query's scan of the flat engine: flat_search.c scans, flat_share.c lets queries scan together.
#ifndef RAGD_INDEX_FLAT_SCAN_H
#define RAGD_INDEX_FLAT_SCAN_H

#include "index/index_internal.h"

#define FLAT_SCAN_BATCH 256u // rows of one kernel call: their scores stay in the first-level cache
#define FLAT_SCAN_QUERIES 8u // that scan together

typedef struct flat_scan {
  const rag_index_query *query; // borrowed
  const rag_codes_kernels *codes_kernels;
  rag_metric metric;
  uint32_t dimension;
  rag_datatype datatype;
  size_t row_bytes;
  rag_index_topk *top;
  rag_error *err;
  rag_status status; // RAG_DEADLINE_EXCEEDED: the hits are not all
  uint64_t scored, rescored;
  uint32_t shards; // looked at
  bool by_codes;
  bool asked; // what follows is made
  rag_codes_int8_query coded;
  float of_error, of_norm, of_norm_squared; // what a row's error, norm and its square move its bound by
  float norm_squared;                       // of the query
  float rounding;
  uint32_t pending; // rows collected and not scored
  uint32_t ordinals[FLAT_SCAN_BATCH];
  const void *rows[FLAT_SCAN_BATCH];
  float scores[FLAT_SCAN_BATCH];
  _Alignas(64) int8_t codes[RAG_CODES_DIMENSION_PADDED_MAX]; // of the query
} flat_scan;

void rag_index__flat_scan_init(flat_scan *scan, const rag_index_view *view, const rag_index_query *query,
                               rag_index_topk *top, rag_error *err);
// count: 1 to FLAT_SCAN_QUERIES, all by codes where there are more than one. Fills each one's list and status.
void rag_index__flat_scan(const flat_view *view, flat_scan *const *scans, uint32_t count);

#endif
