// Segments with a graph: index/graph over the int8 plane.
#include "index/graph/graph_internal.h"
#include "index/segment/segment_internal.h"
#include "index/segment/view_internal.h"

#define SEED UINT64_C(0x7261676467726170)
// Wider than k by so much at least: calibration asks rows, and of a small or an easy set it may find that next to nothing
// is enough; queries that are unlike the rows then miss many (benchmarks/graph has what a step costs).
#define RESERVE 32u
#define RESERVE_FROM 0.9 // of targets; who asks for less wants to be quick
#define GROWTH_MAX 4u    // times the rows that it had when it was built from nothing

typedef struct graph_state {
  rag_graph_codes codes; // borrowed from the file
  rag_graph *graph;
} graph_state;

// The segment whose graph the new one grows out of: that of the most rows, unless the graph has grown too far already, as
// new rows get no higher than the highest level there is. NULL: none.
static const rag_index_segment *base_of(const segment_build *b) {
  const segmented_view *view = (const segmented_view *)b->view;
  const rag_index_segment *best = NULL;
  uint64_t most = 0;
  for (uint32_t i = 0; i < view->segment_count; i++) {
    const rag_index_segment *s = view->segments[i].segment;
    if (s->kind != &rag_segment__graph) continue;
    const graph_state *g = s->state;
    uint64_t stay = rag_bitmap_and_count(s->set, b->row_set);
    bool suits =
        g->graph->meta.m == RAG_GRAPH_M_DEFAULT && (uint64_t)rag_graph_built_rows(g->graph) * GROWTH_MAX >= b->rows;
    if (!suits || stay <= most) continue;
    best = s;
    most = stay;
  }
  return best;
}

static rag_status map_rows(const segment_build *b, const rag_index_segment *s, uint32_t **out, rag_error *err) {
  uint32_t *new_of = rag_realloc_array(NULL, s->rows, sizeof *new_of), at = 0;
  if (new_of == NULL) return rag_fail_no_memory(err, s->rows * sizeof *new_of);
  for (uint32_t i = 0; i < s->rows; i++) { // ordinals ascend on both sides
    while (at < b->rows && b->ordinals[at] < s->ordinals[i]) at++;
    new_of[i] = at < b->rows && b->ordinals[at] == s->ordinals[i] ? at : RAG_GRAPH_NONE;
  }
  *out = new_of;
  return RAG_OK;
}

static rag_status graph_build(segment_build *b, rag_error *err) {
  const rag_index_segment *old = base_of(b);
  rag_graph_base base = {0};
  uint32_t *new_of = NULL;
  rag_graph *graph = NULL;
  rag_slice sections[RAG_GRAPH_SECTIONS];
  rag_status status = RAG_OK;
  RAG_TRY(rag_segment__encode(b, err));
  rag_graph_codes codes = {.base = b->codes,
                           .stride = rag_codes_int8_bytes(b->shared->dimension),
                           .factors = b->factors,
                           .rows = b->rows,
                           .dimension = b->shared->dimension,
                           .metric = b->shared->metric};
  rag_index_row_fetch fetch = rag_segment__build_fetch(b);
  rag_graph_options options = {.threads = b->threads,
                               .seed = SEED,
                               .sample = RAG_MIN(SEGMENT_CALIBRATION_ROWS, b->rows / 10),
                               .fetch = &fetch,
                               .progress = b->progress,
                               .progress_context = b->context};
  if (old != NULL) {
    RAG_TRY_OUT(map_rows(b, old, &new_of, err));
    base = (rag_graph_base){((const graph_state *)old->state)->graph, new_of};
    options.base = &base;
  }
  RAG_TRY_OUT(rag_graph_build(&codes, &options, &graph, err));
  RAG_TRY_OUT(rag_segment__write_int8(b, err));
  rag_graph_sections(graph, sections);
  for (uint32_t i = 0; i < RAG_GRAPH_SECTIONS; i++)
    RAG_TRY_OUT(rag_segment__write(b, SEGMENT_GRAPH + i, sections[i].data, sections[i].size, err));
out:
  rag_graph_destroy(graph);
  rag_free(new_of);
  return status;
}

static void graph_close(void *state) {
  graph_state *g = state;
  rag_graph_destroy(g->graph);
  rag_free(g);
}

static rag_status graph_open(rag_index_segment *s, rag_error *err) {
  rag_slice sections[RAG_GRAPH_SECTIONS];
  graph_state *g = rag_calloc(1, sizeof *g);
  if (g == NULL) return rag_fail_no_memory(err, sizeof *g);
  uint32_t dimension = s->shared->dimension;
  g->codes = (rag_graph_codes){
      .stride = rag_codes_int8_bytes(dimension), .rows = s->rows, .dimension = dimension, .metric = s->shared->metric};
  rag_status status = rag_segment__int8(s, &g->codes.base, &g->codes.factors, err);
  if (status == RAG_OK && g->codes.base == NULL)
    status = rag_segment__damaged(s, "it has not the codes that it says", err);
  rag_segment__sections(s, SEGMENT_GRAPH, RAG_GRAPH_SECTIONS, sections);
  if (status == RAG_OK) status = rag_graph_open(sections, s->rows, dimension, s->shared->metric, &g->graph, err);
  if (status == RAG_OK) s->state = g;
  else graph_close(g);
  return status;
}

static double recall_at(const rag_graph *graph, uint32_t k, uint32_t ef) {
  return rag_index__rungs_recall(graph->meta.rungs, graph->meta.rung_count, k, ef);
}

static rag_status graph_search(const rag_index_segment *s, segment_search *search, const uint64_t *words,
                               uint64_t survivors, rag_error *err) {
  const graph_state *g = s->state;
  const rag_index_query *q = search->query;
  void **scratch = rag_segment__scratch_of(search->scratch, &rag_segment__graph);
  bool reached;
  if (*scratch == NULL) RAG_TRY(rag_graph_scratch_create((rag_graph_scratch **)scratch, err));
  uint32_t recall_k = rag_segment__recall_k(q), ef = q->ef;
  if (ef == 0) {
    double target = rag_segment__target(s, q);
    ef = rag_graph_ef(g->graph, recall_k, (float)target, &reached);
    if (target >= RESERVE_FROM) ef = RAG_MAX(ef, recall_k + RESERVE);
  }
  ef = RAG_MIN(RAG_MAX(ef, q->k), RAG_GRAPH_EF_MAX);
  rag_graph_query query = {
      .vector = q->vector,
      .k = q->k,
      .ef = ef,
      .filter = survivors < s->rows ? words : NULL,
      .survivors = survivors,
      .ordinals = s->ordinals,
      .fetch = rag_segment__fetch(s),
      .deadline_ns = q->deadline_ns,
  };
  rag_graph_stats stats;
  RAG_TRY(rag_graph_search(g->graph, &g->codes, &query, *scratch, search->top, &stats, err));
  search->plan->candidates += stats.scored;
  search->plan->rescored += stats.rescored;
  if (stats.way == RAG_GRAPH_WALKED) rag_segment__plan_recall(search->plan, recall_at(g->graph, recall_k, ef), ef);
  return RAG_OK;
}

static rag_status graph_copy(const rag_index_segment *s, segment_writer *writer, const rag_bitmap *erase,
                             rag_error *err) {
  RAG_TRY(rag_segment__copy_int8(writer, s, erase, err));
  for (uint32_t i = 0; i < RAG_GRAPH_SECTIONS; i++)
    RAG_TRY(rag_segment__copy_section(writer, s, SEGMENT_GRAPH + i, err));
  return RAG_OK;
}

static float graph_recall(const rag_index_segment *s) {
  const graph_state *g = s->state;
  bool reached;
  return (float)recall_at(g->graph, 10, rag_graph_ef(g->graph, 10, (float)s->shared->target_recall, &reached));
}

static void graph_scratch_destroy(void *scratch) {
  rag_graph_scratch_destroy(scratch);
}

const segment_kind rag_segment__graph = {
    .name = "graph",
    .grows = true,
    .build = graph_build,
    .open = graph_open,
    .close = graph_close,
    .search = graph_search,
    .copy_without = graph_copy,
    .recall = graph_recall,
    .scratch_destroy = graph_scratch_destroy,
};
