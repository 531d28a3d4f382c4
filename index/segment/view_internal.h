// Private to index/segment/: the views of the engine of sealed segments (view.c), which task.c makes, too.
#ifndef RAGD_INDEX_SEGMENT_VIEW_INTERNAL_H
#define RAGD_INDEX_SEGMENT_VIEW_INTERNAL_H

#include "index/segment/segment_internal.h"

#include <stdio.h>

typedef struct segmented_entry {
  rag_index_segment *segment; // owned reference in a view
  uint32_t removed;           // rows that are not in the view's `present`
} segmented_entry;

typedef struct segmented_view {
  rag_index_view head;
  rag_index_view *tail; // owned reference; of the flat engine
  char build[32];
  uint32_t segment_count;
  segmented_entry segments[];
} segmented_view;

// Takes over `present` and `tail`, also on error; takes references to the entries' segments.
RAG_NODISCARD rag_status rag_segment__view_create(rag_index_shared *shared, rag_bitmap *present, rag_index_view *tail,
                                                  const segmented_entry *entries, uint32_t count, segmented_view **out,
                                                  rag_error *err);
RAG_NODISCARD rag_status rag_segment__tail_without(rag_index_view *tail, const rag_bitmap *rows, rag_index_view **out,
                                                   rag_error *err);

#endif
