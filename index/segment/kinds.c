// Which kind a segment is of.
//
// "auto" by rows: few are scanned, many are walked; unless walking would need more than half of the memory that the index
// may have, then lists, which need the least. The other half is for the tail and for segments that are not merged yet. A named engine is taken as soon as it can be.
#include "index/faiss/faiss_internal.h"
#include "index/graph/graph_internal.h"
#include "index/segment/segment_internal.h"

#define NAMED_ROWS_MIN 1000u // below, a graph or lists tell nothing that a scan would not sooner

const segment_kind *const rag_segment__kinds[SEGMENT_KINDS] = {&rag_segment__flat, &rag_segment__graph,
                                                               &rag_segment__ivf, &rag_segment__faiss};

// The ground level's links, and about a fifteenth of that above; codes and their factors.
static uint64_t graph_bytes(const rag_index_shared *shared, uint64_t rows) {
  uint64_t links = 2 * RAG_GRAPH_M_DEFAULT * sizeof(uint32_t);
  return rows * (rag_codes_int8_bytes(shared->dimension) + sizeof(rag_codes_int8_factors) + links + links / 15);
}

const segment_kind *rag_segment__kind_for(rag_index_shared *shared, uint64_t rows) {
  rag_index__choice choice = rag_index__chosen(shared);
  uint64_t named_min = RAG_MIN(NAMED_ROWS_MIN, shared->graph_rows);
  switch (choice.engine) {
  case RAG_INDEX__GRAPH:
    return rows >= named_min ? &rag_segment__graph : &rag_segment__flat;
  case RAG_INDEX__IVF:
    return rows >= named_min ? &rag_segment__ivf : &rag_segment__flat;
  case RAG_INDEX__FAISS:
    return rows >= RAG_MAX(named_min, (uint64_t)rag_faiss_rows_min(choice.factory)) ? &rag_segment__faiss
                                                                                    : &rag_segment__flat;
  case RAG_INDEX__AUTO:
    break;
  }
  if (rows < shared->graph_rows) return &rag_segment__flat;
  return shared->bytes_max > 0 && graph_bytes(shared, rows) > shared->bytes_max / 2 ? &rag_segment__ivf
                                                                                    : &rag_segment__graph;
}

bool rag_segment__is_as_chosen(const rag_index_segment *segment) {
  if (segment->kind != rag_segment__kind_for(segment->shared, segment->rows)) return false;
  if (segment->kind != &rag_segment__faiss) return true;
  return strcmp(rag_faiss_about(segment->state)->factory, rag_index__chosen(segment->shared).factory) == 0;
}
