// The layout of a graph, the check of what a file brings, and the choice of ef.
#include "index/graph/graph_internal.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "sections are used as they are mapped: this needs a little-endian machine"
#endif

#define GRAPH_MAGIC 0x57534e48u // "HNSW"
#define GRAPH_FORMAT 1u

void rag_graph__meta_init(rag_graph_meta *meta, const rag_graph_codes *codes, uint32_t m, uint32_t ef_construction,
                          uint64_t seed) {
  *meta = (rag_graph_meta){.magic = GRAPH_MAGIC,
                           .format = GRAPH_FORMAT,
                           .rows = codes->rows,
                           .dimension = codes->dimension,
                           .metric = (uint32_t)codes->metric,
                           .m = m,
                           .ef_construction = ef_construction,
                           .entry = RAG_GRAPH_NONE,
                           .seed_low = (uint32_t)seed,
                           .seed_high = (uint32_t)(seed >> 32)};
}

static uint64_t ground_bytes(const rag_graph_meta *meta) {
  return (uint64_t)meta->rows * meta->m * 2 * sizeof(uint32_t);
}

static uint64_t upper_bytes(const rag_graph_meta *meta) {
  uint64_t words = meta->levels > 0 ? meta->level_rows[0] : 0;
  for (uint32_t i = 0; i < meta->levels; i++) words += (uint64_t)meta->level_rows[i] * meta->m;
  return words * sizeof(uint32_t);
}

void rag_graph_sections(const rag_graph *graph, rag_slice out[RAG_GRAPH_SECTIONS]) {
  out[RAG_GRAPH_META] = rag_slice_of(&graph->meta, sizeof graph->meta);
  out[RAG_GRAPH_LINKS] = rag_slice_of(graph->links, ground_bytes(&graph->meta));
  out[RAG_GRAPH_UPPER] = rag_slice_of(graph->upper_rows, upper_bytes(&graph->meta));
}

uint32_t rag_graph_built_rows(const rag_graph *graph) {
  return graph->meta.built_rows > 0 ? graph->meta.built_rows : graph->meta.rows;
}

uint64_t rag_graph_bytes(const rag_graph *graph) {
  return sizeof graph->meta + ground_bytes(&graph->meta) + upper_bytes(&graph->meta);
}

// ---------------------------------------------------------------------------------------------- check

// Lists whose entries are below `bound`, with nothing but RAG_GRAPH_NONE behind the first of that.
static bool lists_are_sound(const uint32_t *links, uint64_t lists, uint32_t slots, uint32_t bound) {
  for (uint64_t i = 0; i < lists; i++) {
    const uint32_t *list = links + i * slots;
    uint32_t bad = 0, ended = 0;
    for (uint32_t s = 0; s < slots; s++) { // no branch: this runs over every byte of a file
      uint32_t none = list[s] == RAG_GRAPH_NONE;
      bad |= (uint32_t)!none & ((uint32_t)(list[s] >= bound) | ended);
      ended |= none;
    }
    if (bad) return false;
  }
  return true;
}

static const char *check_meta(const rag_graph_meta *meta, uint32_t rows, uint32_t dimension, rag_metric metric) {
  if (meta->magic != GRAPH_MAGIC) return "it is no graph";
  if (meta->format != GRAPH_FORMAT) return "it has another format";
  if (meta->rows != rows || meta->dimension != dimension || meta->metric != (uint32_t)metric) {
    return "it is of other rows";
  }
  if (rows > RAG_GRAPH_ROWS_MAX || meta->m < RAG_GRAPH_M_MIN || meta->m > RAG_GRAPH_M_MAX) return "a limit is passed";
  if (meta->levels > RAG_GRAPH_LEVELS_MAX || meta->rung_count > RAG_GRAPH_RUNGS_MAX) return "a count is too large";
  if (rows == 0 ? meta->entry != RAG_GRAPH_NONE || meta->levels > 0 : meta->entry >= rows) return "its entry is no row";
  for (uint32_t i = 0; i < meta->levels; i++) {
    if (meta->level_rows[i] == 0 || meta->level_rows[i] > (i > 0 ? meta->level_rows[i - 1] : rows)) {
      return "a level has too many rows or none";
    }
  }
  bool sound = rag_index__rungs_sound(meta->rungs, meta->rung_count, RAG_GRAPH_EF_MAX);
  return sound ? NULL : "its calibration makes no sense";
}

rag_status rag_graph_open(const rag_slice sections[RAG_GRAPH_SECTIONS], uint32_t rows, uint32_t dimension,
                          rag_metric metric, rag_graph **out, rag_error *err) {
  rag_graph_meta meta;
  const char *wrong = NULL;
  if (sections[RAG_GRAPH_META].size != sizeof meta) {
    wrong = "its head has another size";
  } else {
    memcpy(&meta, sections[RAG_GRAPH_META].data, sizeof meta);
    wrong = check_meta(&meta, rows, dimension, metric);
  }
  if (!wrong &&
      (sections[RAG_GRAPH_LINKS].size != ground_bytes(&meta) || sections[RAG_GRAPH_UPPER].size != upper_bytes(&meta))) {
    wrong = "a section has another size";
  }
  const uint32_t *links = (const void *)sections[RAG_GRAPH_LINKS].data;
  const uint32_t *upper = (const void *)sections[RAG_GRAPH_UPPER].data;
  if (!wrong && (((uintptr_t)links | (uintptr_t)upper) & 3) != 0) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a graph's sections are not aligned");
  }
  if (!wrong && !lists_are_sound(links, rows, 2 * meta.m, rows)) wrong = "a link leads nowhere";
  rag_graph graph = {.links = links, .upper_rows = upper};
  if (!wrong && meta.levels > 0) {
    const uint32_t *at = upper + meta.level_rows[0];
    for (const uint32_t *row = upper; row < at; row++) {
      if (*row >= rows) wrong = "an upper level has a row that is none";
    }
    for (uint32_t i = 0; i < meta.levels && !wrong; i++) {
      graph.upper_links[i] = at;
      if (!lists_are_sound(at, meta.level_rows[i], meta.m, meta.level_rows[i])) wrong = "a link leads nowhere";
      at += (size_t)meta.level_rows[i] * meta.m;
    }
    if (!wrong && upper[0] != meta.entry) wrong = "its entry is not on its highest level";
  }
  if (wrong) return rag_fail(err, RAG_DATA_LOSS, "the graph of a segment cannot be used: %s", wrong);
  graph.meta = meta;
  graph.slots = 2 * meta.m;
  graph.upper_slots = meta.m;
  rag_graph *g = rag_alloc(sizeof *g);
  if (!g) return rag_fail_no_memory(err, sizeof *g);
  *g = graph;
  *out = g;
  return RAG_OK;
}

void rag_graph_destroy(rag_graph *graph) {
  if (!graph) return;
  rag_free(graph->owned);
  rag_free(graph);
}

// ---------------------------------------------------------------------------------------------- choice of ef

uint32_t rag_graph_ef(const rag_graph *graph, uint32_t k, float target_recall, bool *out_reached) {
  const rag_graph_meta *meta = &graph->meta;
  double ef_10 = rag_index__rungs_width(meta->rungs, meta->rung_count, target_recall, false);
  double ef_100 = rag_index__rungs_width(meta->rungs, meta->rung_count, target_recall, true), ef;
  *out_reached = ef_10 > 0;
  if (ef_10 <= 0) ef_10 = meta->rung_count > 0 ? meta->rungs[meta->rung_count - 1].width : 10.0 * 25;
  if (k <= 10) {
    ef = ef_10;
  } else {
    // Between 10 and 100 on the line between both; beyond, and where 100 was not measured, as many more as rows.
    if (ef_100 <= 0) {
      ef_100 = 10 * ef_10;
      *out_reached = false;
    }
    ef = k <= 100 ? ef_10 + (ef_100 - ef_10) * (k - 10) / 90 : ef_100 * k / 100;
  }
  double least = k, most = RAG_GRAPH_EF_MAX;
  return (uint32_t)ceil(RAG_MIN(RAG_MAX(ef, least), most));
}
