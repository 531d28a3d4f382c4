// A graph that grows out of another: rows that were in it keep their links, and the others are inserted as they would be
// into any graph. Merging a third of new rows into a segment so costs a third of building all of it anew.
//
// Not carried over is a row that
//  - is gone, or a duplicate of another now: the best of where it led comes in the place of a link to it;
//  - has lost more than a quarter of its links that way: it is inserted again, which mends the place where it was.
// A row that is carried over stays on its levels. A new one gets no higher than the highest of those: the entry is a row
// that is there. So a graph should grow out of one that is not much smaller; meta.built_rows says how far it has come.
// What is left of a graph that has lost more than a quarter of its rows, or its upper levels, finds its way badly: then
// nothing is carried over.
#include "index/graph/build_internal.h"

#define LINKS_KEPT 3u / 4u // of a row's, for it to be carried over
#define ROWS_KEPT 3u / 4u  // of the base's, for any to be

uint32_t rag_graph__level_in_base(const graph_builder *b, uint32_t row) {
  const rag_graph_meta *old = &b->options->base->graph->meta;
  uint32_t position = b->old_position_of[b->old_of[row]], number = 0;
  while (number < old->levels && position < old->level_rows[number]) number++;
  return number;
}

static uint32_t carried_to(const graph_builder *b, uint32_t old) { // RAG_GRAPH_NONE: nowhere
  uint32_t row = b->options->base->new_of[old];
  return row != RAG_GRAPH_NONE && b->old_of[row] == old ? row : RAG_GRAPH_NONE;
}

static bool keeps_its_links(const graph_builder *b, uint32_t old) {
  const rag_graph *graph = b->options->base->graph;
  const uint32_t *links = graph->links + (size_t)old * graph->slots;
  uint32_t count = 0, kept = 0;
  for (; count < graph->slots && links[count] != RAG_GRAPH_NONE; count++)
    kept += carried_to(b, links[count]) != RAG_GRAPH_NONE;
  return kept > 0 && kept >= count * LINKS_KEPT;
}

// What is lost is told by who was there at first, so the order of rows says nothing.
static rag_status drop_the_weak(graph_builder *b, rag_error *err) {
  const rag_graph *graph = b->options->base->graph;
  uint32_t rows = graph->meta.rows;
  uint32_t *weak = rag_realloc_array(NULL, rows, sizeof *weak), count = 0;
  if (!weak) return rag_fail_no_memory(err, rows * sizeof *weak);
  for (uint32_t old = 0; old < rows; old++) {
    uint32_t row = carried_to(b, old);
    if (row != RAG_GRAPH_NONE && !keeps_its_links(b, old)) weak[count++] = row;
  }
  for (uint32_t i = 0; i < count; i++) b->old_of[weak[i]] = RAG_GRAPH_NONE;
  rag_free(weak);
  return RAG_OK;
}

rag_status rag_graph__grow_plan(graph_builder *b, const uint32_t *first_of, rag_error *err) {
  const rag_graph_base *base = b->options->base;
  const rag_graph_meta *old = &base->graph->meta;
  uint32_t rows = b->codes->rows;
  b->old_of = rag_realloc_array(NULL, rows, sizeof *b->old_of);
  b->position_of = rag_realloc_array(NULL, rows, sizeof *b->position_of);
  b->old_position_of = rag_realloc_array(NULL, old->rows, sizeof *b->old_position_of);
  if (!b->old_of || !b->position_of || !b->old_position_of) return rag_fail_no_memory(err, rows * sizeof *b->old_of);
  memset(b->old_of, 0xff, rows * sizeof *b->old_of);
  for (uint32_t i = 0; i < old->rows; i++) {
    uint32_t row = base->new_of[i];
    RAG_ASSERT(row == RAG_GRAPH_NONE || row < rows);
    if (row != RAG_GRAPH_NONE && first_of[row] == row) b->old_of[row] = i;
  }
  memset(b->old_position_of, 0xff, old->rows * sizeof *b->old_position_of);
  uint32_t above = old->levels > 0 ? old->level_rows[0] : 0;
  for (uint32_t position = 0; position < above; position++)
    b->old_position_of[base->graph->upper_rows[position]] = position;
  RAG_TRY(drop_the_weak(b, err));
  uint32_t carried = 0;
  b->highest = 0;
  for (uint32_t row = 0; row < rows; row++) {
    if (b->old_of[row] == RAG_GRAPH_NONE) continue;
    carried++;
    b->highest = RAG_MAX(b->highest, rag_graph__level_in_base(b, row));
  }
  if (carried > 0 && carried >= (uint64_t)old->rows * ROWS_KEPT && b->highest + 1 >= old->levels) return RAG_OK;
  rag_free(b->old_of);
  b->old_of = NULL;
  b->highest = RAG_GRAPH_LEVELS_MAX;
  return RAG_OK;
}

rag_status rag_graph__grow_place(graph_builder *b, rag_error *err) {
  uint32_t first = 0, same = 0;
  while (same < b->nodes && b->levels_of[same] == b->top) same++; // any of them may be the first
  while (first < same && b->old_of[b->order[first]] == RAG_GRAPH_NONE) first++;
  if (first == same)
    return rag_fail(err, RAG_INTERNAL, "no row of the old graph is on the highest level of the new one");
  uint32_t row = b->order[first];
  b->order[first] = b->order[0];
  b->order[0] = row;
  memset(b->position_of, 0xff, b->codes->rows * sizeof *b->position_of);
  for (uint32_t position = 0; position < b->nodes && b->levels_of[position] > 0; position++)
    b->position_of[b->order[position]] = position;
  return RAG_OK;
}

// Takes the node in, if it is carried over and was not met before.
static void consider(graph_worker *w, uint32_t number, uint32_t row, uint32_t old, uint32_t *count) {
  uint32_t to = carried_to(w->b, old);
  if (to == RAG_GRAPH_NONE || to == row || *count == RAG_GRAPH__BATCH) return;
  uint32_t node = number == 0 ? to : w->b->position_of[to];
  if (rag_graph__visit(&w->walker, node)) w->walker.nodes[(*count)++] = node;
}

// The links of a row on one level of the base; in place of one that is lost, the best of where it led. (So FreshDiskANN
// mends its lists, arXiv 2105.09613.)
static void carry_level(graph_worker *w, uint32_t number, uint32_t position) {
  graph_builder *b = w->b;
  graph_level *l = &b->levels[number];
  rag_graph__walker *walker = &w->walker;
  rag_graph__layer layer = rag_graph__building_layer(b, number);
  rag_graph__layer before = rag_graph__layer_of(b->options->base->graph, number);
  uint32_t row = b->order[position], old = b->old_of[row], count = 0, lost = 0;
  const uint32_t *links = before.links + (size_t)(number == 0 ? old : b->old_position_of[old]) * before.slots;
  rag_graph__walker_restart(walker, b->ef);
  for (uint32_t i = 0; i < before.slots && links[i] != RAG_GRAPH_NONE; i++) {
    uint32_t to = before.rows ? before.rows[links[i]] : links[i];
    lost += carried_to(b, to) == RAG_GRAPH_NONE;
    consider(w, number, row, to, &count);
  }
  for (uint32_t i = 0; lost > 0 && i < before.slots && links[i] != RAG_GRAPH_NONE; i++) {
    if (carried_to(b, before.rows ? before.rows[links[i]] : links[i]) != RAG_GRAPH_NONE) continue;
    const uint32_t *its = before.links + (size_t)links[i] * before.slots;
    for (uint32_t j = 0; j < before.slots && its[j] != RAG_GRAPH_NONE; j++)
      consider(w, number, row, before.rows ? before.rows[its[j]] : its[j], &count);
  }
  rag_graph__walker_ask_row(walker, row); // choosing asks for others
  rag_graph__score(walker, &layer, count);
  rag_graph__remember(walker, walker->nodes, count);
  for (uint32_t i = 0; i < count; i++)
    rag_graph__sort_in(w->candidates, i, (rag_graph__link){walker->scores[i], walker->nodes[i]});
  uint32_t node = number == 0 ? row : position;
  if (lost == 0) {
    rag_graph__write_list(l, node, w->candidates, count);
  } else {
    rag_graph__write_list(l, node, w->kept,
                          rag_graph__select(walker, &w->chooser, &layer, w->candidates, count, l->keep, w->kept));
  }
}

void rag_graph__carry(graph_worker *w, uint32_t position) {
  graph_builder *b = w->b;
  if (b->old_of[b->order[position]] == RAG_GRAPH_NONE) return;
  for (uint32_t number = 0; number <= b->levels_of[position]; number++) carry_level(w, number, position);
}
