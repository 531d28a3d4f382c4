// Builds a graph.
//
// Rows go in by batches (as in ParlayANN, arXiv 2305.04359): every row of a batch is searched for in the graph as it was
// before the batch, in parallel and without a lock, and chooses its links; then the links back are added, each node by
// the one thread that owns it, in the batch's order. So no list is ever written by two threads or read while it is
// written, and the graph does not depend on the number of threads or on their luck. A batch is a sixteenth of what is
// there, so that few rows miss a near one that came beside them.
//
// The order is by level, the highest first, and random within: the upper levels are complete early, positions are
// nested, and rows of one document, which lie side by side and are each other's nearest, seldom share a batch.
//
// A graph may grow out of another (grow.c): then some rows have their links beforehand, and only the others have a turn.
//
// A list may grow to 3/2 of what it may keep before it is pruned, and is pruned to size at the end: pruning costs the
// square of the list, and this way it comes once for m links and not with every one. Links keep their scores, so pruning
// scores only candidates with each other.
#include "index/graph/build_internal.h"

#include <stdlib.h>

#define BATCH_SHARE 16u // of the rows that are there
#define BATCH_MAX 4096u // rows: two looks at `progress` are at most so many apart
#define CLAIM 8u        // rows that a thread takes at once
#define FINISH_CLAIM 256u
#define SAMPLE_SHARE 10u // of the rows, at most
#define SAMPLE_LEAST 4u  // part of what was asked for, at least

// ---------------------------------------------------------------------------------------------- lists

void rag_graph__write_list(graph_level *l, uint32_t node, const rag_graph__link *kept, uint32_t count) {
  uint32_t *links = rag_graph__list_of(l, node);
  float *scores = rag_graph__scores_of(l, node);
  for (uint32_t i = 0; i < count; i++) {
    links[i] = kept[i].node;
    scores[i] = kept[i].score;
  }
  for (uint32_t i = count; i < l->slots; i++) links[i] = RAG_GRAPH_NONE;
  l->counts[node] = (uint8_t)count;
}

// The node's list and perhaps one more, best first.
static uint32_t read_list(const graph_level *l, uint32_t node, const rag_graph__link *more, rag_graph__link *out) {
  const uint32_t *links = rag_graph__list_of(l, node);
  const float *scores = rag_graph__scores_of(l, node);
  uint32_t count = l->counts[node];
  for (uint32_t i = 0; i < count; i++) rag_graph__sort_in(out, i, (rag_graph__link){scores[i], links[i]});
  if (more) rag_graph__sort_in(out, count, *more);
  return count + (more ? 1 : 0);
}

rag_graph__layer rag_graph__building_layer(const graph_builder *b, uint32_t number) {
  const graph_level *l = &b->levels[number];
  return (rag_graph__layer){l->links, l->slots, number == 0 ? NULL : b->order};
}

static uint32_t node_of(const graph_builder *b, uint32_t number, uint32_t position) {
  return number == 0 ? b->order[position] : position;
}

// ---------------------------------------------------------------------------------------------- phases

// The links of one new row, on all its levels, from the graph as it is before the batch.
static rag_status choose_links(graph_worker *w, uint32_t position) {
  graph_builder *b = w->b;
  rag_graph__walker *walker = &w->walker;
  uint32_t row = b->order[position], own = b->levels_of[position];
  uint32_t top = b->graph.meta.levels, from = RAG_MIN(own, top);
  rag_graph__walker_ask_row(walker, row);
  uint32_t node = rag_graph__descend(walker, &b->graph, from);
  for (uint32_t number = from;; number--) {
    graph_level *l = &b->levels[number];
    rag_graph__layer layer = rag_graph__building_layer(b, number);
    if (number != from) rag_graph__walker_ask_row(walker, row); // choosing asked for others
    rag_graph__walker_restart(walker, b->ef);
    walker->nodes[0] = node;
    rag_graph__visit(walker, node);
    rag_graph__take(walker, &layer, 1);
    RAG_TRY(rag_graph__walk(walker, &layer, 0, NULL));
    uint32_t count = walker->count;
    for (uint32_t i = 0; i < count; i++) {
      w->candidates[i] = (rag_graph__link){rag_graph__key_score(walker->pool[i]), rag_graph__key_node(walker->pool[i])};
    }
    uint32_t kept = rag_graph__select(walker, &w->chooser, &layer, w->candidates, count, l->keep, w->kept);
    rag_graph__write_list(l, node_of(b, number, position), w->kept, kept);
    if (number == 0) return RAG_OK;
    node = number == 1 ? b->order[w->candidates[0].node] : w->candidates[0].node;
  }
}

static void link_back(graph_worker *w, uint32_t number, uint32_t to, rag_graph__link link) {
  graph_level *l = &w->b->levels[number];
  uint32_t count = l->counts[to];
  if (count < l->slots) {
    rag_graph__list_of(l, to)[count] = link.node;
    rag_graph__scores_of(l, to)[count] = link.score;
    l->counts[to] = (uint8_t)(count + 1);
    return;
  }
  rag_graph__layer layer = rag_graph__building_layer(w->b, number);
  count = read_list(l, to, &link, w->candidates);
  uint32_t kept = rag_graph__select(&w->walker, &w->chooser, &layer, w->candidates, count, l->keep, w->kept);
  rag_graph__write_list(l, to, w->kept, kept);
}

// The links back to the batch's rows, of the nodes that this thread owns. The lists of the batch's own rows are read by
// all threads and written by none: no row of the batch could see another.
static void link_all_back(graph_worker *w) {
  graph_builder *b = w->b;
  for (uint32_t turn = b->begin; turn < b->end; turn++) {
    uint32_t position = b->turns[turn];
    for (uint32_t number = RAG_MIN((uint32_t)b->levels_of[position], b->graph.meta.levels) + 1; number-- > 0;) {
      graph_level *l = &b->levels[number];
      uint32_t node = node_of(b, number, position), count = l->counts[node];
      for (uint32_t i = 0; i < count; i++) {
        uint32_t to = rag_graph__list_of(l, node)[i];
        if (to % b->threads == w->number)
          link_back(w, number, to, (rag_graph__link){rag_graph__scores_of(l, node)[i], node});
      }
    }
  }
}

static void finish_list(graph_worker *w, uint32_t number, uint32_t node) {
  graph_level *l = &w->b->levels[number];
  if (l->counts[node] == 0) return;
  rag_graph__layer layer = rag_graph__building_layer(w->b, number);
  uint32_t count = read_list(l, node, NULL, w->candidates);
  if (count <= l->keep) {
    rag_graph__write_list(l, node, w->candidates, count);
  } else {
    rag_graph__write_list(l, node, w->kept,
                          rag_graph__select(&w->walker, &w->chooser, &layer, w->candidates, count, l->keep, w->kept));
  }
}

static void run_phase(void *arg) {
  graph_worker *w = arg;
  graph_builder *b = w->b;
  if (b->phase == PHASE_LINK_BACK) {
    link_all_back(w);
    return;
  }
  uint32_t claim = b->phase == PHASE_CHOOSE ? CLAIM : FINISH_CLAIM;
  for (;;) {
    uint32_t at = atomic_fetch_add_explicit(&b->claimed, claim, memory_order_relaxed);
    if (at >= b->end - b->begin) return;
    uint32_t begin = b->begin + at, end = begin + RAG_MIN(claim, b->end - begin);
    for (uint32_t i = begin; i < end; i++) {
      if (b->phase == PHASE_FINISH) finish_list(w, b->finishing, i);
      else if (b->phase == PHASE_CARRY) rag_graph__carry(w, i);
      else if (w->status == RAG_OK) w->status = choose_links(w, b->turns[i]);
    }
  }
}

static rag_status run(graph_builder *b, build_phase phase, uint32_t begin, uint32_t end) {
  b->phase = phase;
  b->begin = begin;
  b->end = end;
  atomic_store_explicit(&b->claimed, 0, memory_order_relaxed);
  rag_status status = RAG_OK;
  for (uint32_t t = 1; t < b->threads && status == RAG_OK; t++) {
    status = rag_pool_submit(b->pool, run_phase, b->workers[t]);
  }
  if (status == RAG_OK) run_phase(b->workers[0]);
  if (b->pool) rag_pool_drain(b->pool);
  for (uint32_t t = 0; t < b->threads && status == RAG_OK; t++) status = b->workers[t]->status;
  return status;
}

static rag_status finish(graph_builder *b) {
  for (uint32_t number = 0; number <= b->top; number++) {
    b->finishing = number;
    RAG_TRY(run(b, PHASE_FINISH, 0, b->levels[number].nodes));
  }
  return RAG_OK;
}

// Inserts the positions of the turns [begin, end), behind those that are there without one.
static rag_status insert(graph_builder *b, uint32_t begin, uint32_t end, rag_error *err) {
  const rag_graph_options *o = b->options;
  uint32_t carried = b->nodes - b->turn_count;
  for (uint32_t at = begin; at < end;) {
    if (o->progress && !o->progress(o->progress_context, carried + at, b->nodes)) {
      return rag_fail(err, RAG_CANCELLED, "the build was stopped");
    }
    if (carried + at == 0) { // the entry: there is nobody to be linked with
      at = 1;
      continue;
    }
    uint32_t size = RAG_MIN(RAG_MIN(RAG_MAX((carried + at) / BATCH_SHARE, 1u), BATCH_MAX), end - at);
    rag_status status = run(b, PHASE_CHOOSE, at, at + size);
    if (status == RAG_OK) status = run(b, PHASE_LINK_BACK, at, at + size);
    if (status != RAG_OK) return rag_fail(err, status, "a thread of the build could not go on");
    at += size;
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- order, memory

// A row is on level l and above with the chance m^-l: by the row's number and the seed, in integers.
static uint32_t level_of_row(const graph_builder *b, uint32_t row) {
  uint64_t chance = rag_index__mix(b->options->seed ^ rag_index__mix(row)), bound = UINT64_MAX / b->m;
  uint32_t number = 0;
  for (; number < RAG_GRAPH_LEVELS_MAX && chance < bound; number++) bound /= b->m;
  return number;
}

typedef struct place {
  uint64_t key; // level, then chance
  uint32_t row;
} place;
static int compare_places(const void *a, const void *b) {
  const place *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->row < y->row ? -1 : x->row > y->row;
}

static rag_status make_order(graph_builder *b, const uint32_t *first_of, rag_error *err) {
  uint32_t rows = b->codes->rows;
  place *places = rag_alloc((size_t)b->nodes * sizeof *places);
  b->order = rag_alloc((size_t)b->nodes * sizeof *b->order);
  b->levels_of = rag_alloc(b->nodes);
  if (!places || !b->order || !b->levels_of) {
    rag_free(places);
    return rag_fail_no_memory(err, (size_t)b->nodes * sizeof *places);
  }
  uint32_t count = 0;
  for (uint32_t row = 0; row < rows; row++) {
    if (first_of[row] != row) continue;
    uint32_t own =
        rag_graph__is_carried(b, row) ? rag_graph__level_in_base(b, row) : RAG_MIN(level_of_row(b, row), b->highest);
    uint64_t below_top = RAG_GRAPH_LEVELS_MAX - own;
    places[count++] = (place){below_top << 60 | rag_index__mix(rag_index__mix(row) + b->options->seed) >> 4, row};
  }
  qsort(places, count, sizeof *places, compare_places);
  for (uint32_t i = 0; i < count; i++) {
    b->order[i] = places[i].row;
    uint32_t number = RAG_GRAPH_LEVELS_MAX - (uint32_t)(places[i].key >> 60);
    b->levels_of[i] = (uint8_t)number;
    for (; number > 0; number--) b->levels[number].nodes++;
  }
  b->top = b->levels_of[0];
  b->levels[0].nodes = rows;
  rag_free(places);
  return RAG_OK;
}

static rag_status make_turns(graph_builder *b, rag_error *err) {
  b->turns = rag_realloc_array(NULL, b->nodes, sizeof *b->turns);
  if (!b->turns) return rag_fail_no_memory(err, b->nodes * sizeof *b->turns);
  for (uint32_t position = 0; position < b->nodes; position++)
    if (!rag_graph__is_carried(b, b->order[position])) b->turns[b->turn_count++] = position;
  return RAG_OK;
}

static rag_status make_levels(graph_builder *b, rag_error *err) {
  for (uint32_t number = 0; number <= b->top; number++) {
    graph_level *l = &b->levels[number];
    l->keep = number == 0 ? 2 * b->m : b->m;
    l->slots = number == 0 ? 3 * b->m : b->m + b->m / 2;
    size_t size = (size_t)l->nodes * l->slots * sizeof *l->links;
    l->links = rag_aligned_alloc(64, size);
    l->scores = rag_alloc(size);
    l->counts = rag_calloc(l->nodes, 1);
    if (!l->links || !l->scores || !l->counts) return rag_fail_no_memory(err, 2 * size);
    memset(l->links, 0xff, size);
  }
  rag_graph *g = &b->graph;
  g->links = b->levels[0].links;
  g->slots = b->levels[0].slots;
  g->upper_slots = b->m + b->m / 2;
  g->upper_rows = b->order;
  for (uint32_t number = 1; number <= b->top; number++) g->upper_links[number - 1] = b->levels[number].links;
  return RAG_OK;
}

static rag_status make_workers(graph_builder *b, rag_error *err) {
  for (uint32_t t = 0; t < b->threads; t++) {
    graph_worker *w = rag_alloc(sizeof *w);
    if (!w) return rag_fail_no_memory(err, sizeof *w);
    b->workers[t] = w;
    w->b = b;
    w->number = t;
    w->status = RAG_OK;
    rag_graph__walker_init(&w->walker);
    RAG_TRY(rag_graph__walker_reserve(&w->walker, b->codes, b->ef, err));
  }
  return b->threads > 1 ? rag_pool_create("graph", b->threads - 1, b->threads, &b->pool, err) : RAG_OK;
}

static void builder_free(graph_builder *b) {
  rag_pool_destroy(b->pool);
  for (uint32_t t = 0; t < RAG_GRAPH_THREADS_MAX && b->workers[t]; t++) {
    rag_graph__walker_free(&b->workers[t]->walker);
    rag_free(b->workers[t]);
  }
  for (uint32_t number = 0; number <= RAG_GRAPH_LEVELS_MAX; number++) {
    rag_free(b->levels[number].links);
    rag_free(b->levels[number].scores);
    rag_free(b->levels[number].counts);
  }
  rag_free(b->order);
  rag_free(b->levels_of);
  rag_free(b->turns);
  rag_free(b->old_of);
  rag_free(b->old_position_of);
  rag_free(b->position_of);
  rag_free(b);
}

// ---------------------------------------------------------------------------------------------- the whole

// The rows of the last turns are asked for before they are inserted: rows that were ever there would find each other too
// easily, as links were made for them.
static rag_status calibrate(graph_builder *b, uint32_t sample, rag_error *err) {
  RAG_TRY(finish(b));
  size_t words = b->codes->rows / 64 + 1;
  uint64_t *inside = rag_calloc(words, sizeof *inside);
  uint32_t *asked = rag_realloc_array(NULL, sample, sizeof *asked);
  rag_status status = RAG_OK;
  if (!inside || !asked) RAG_TRY_OUT(rag_fail_no_memory(err, words * sizeof *inside));
  for (uint32_t i = 0; i < b->nodes; i++) inside[b->order[i] / 64] |= 1ull << b->order[i] % 64;
  for (uint32_t i = 0; i < sample; i++) {
    asked[i] = b->order[b->turns[b->turn_count - sample + i]];
    inside[asked[i] / 64] &= ~(1ull << asked[i] % 64);
  }
  status = rag_graph__calibrate(&b->graph, b->codes, inside, asked, sample, b->options->fetch, b->pool, b->threads,
                                &b->graph.meta, err);
out:
  rag_free(inside);
  rag_free(asked);
  return status;
}

// What the graph was measured to be that this one grew out of, where too few rows are new to ask for them.
static void inherit_calibration(graph_builder *b) {
  const rag_graph_meta *old = &b->options->base->graph->meta;
  b->graph.meta.sample = old->sample;
  b->graph.meta.rung_count = old->rung_count;
  memcpy(b->graph.meta.rungs, old->rungs, sizeof old->rungs);
}

static void copy_lists(const graph_level *l, uint32_t *out) {
  for (uint32_t node = 0; node < l->nodes; node++) {
    memcpy(out + (size_t)node * l->keep, rag_graph__list_of(l, node), l->keep * sizeof *out);
  }
}

// The result: one block of memory for all arrays.
static rag_status pack(graph_builder *b, rag_graph **out, rag_error *err) {
  rag_graph *g = rag_alloc(sizeof *g);
  if (!g) return rag_fail_no_memory(err, sizeof *g);
  size_t ground = (size_t)b->codes->rows * b->m * 2, upper = 0;
  if (b->top > 0) upper = b->levels[1].nodes;
  for (uint32_t number = 1; number <= b->top; number++) upper += (size_t)b->levels[number].nodes * b->m;
  uint32_t *block = rag_aligned_alloc(64, (ground + upper + 1) * sizeof *block);
  if (!block) {
    rag_free(g);
    return rag_fail_no_memory(err, (ground + upper) * sizeof *block);
  }
  *g = (rag_graph){.meta = b->graph.meta, .links = block, .slots = 2 * b->m, .upper_slots = b->m, .owned = block};
  copy_lists(&b->levels[0], block);
  uint32_t *at = block + ground;
  g->upper_rows = at;
  if (b->top > 0) {
    memcpy(at, b->order, b->levels[1].nodes * sizeof *at);
    at += b->levels[1].nodes;
  }
  for (uint32_t number = 1; number <= b->top; number++) {
    g->meta.level_rows[number - 1] = b->levels[number].nodes;
    g->upper_links[number - 1] = at;
    copy_lists(&b->levels[number], at);
    at += (size_t)b->levels[number].nodes * b->m;
  }
  *out = g;
  return RAG_OK;
}

static rag_status check_options(const rag_graph_codes *codes, const rag_graph_options *o, rag_error *err) {
  if (o->m != 0 && (o->m < RAG_GRAPH_M_MIN || o->m > RAG_GRAPH_M_MAX)) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "m is %u; it must be %u to %u", o->m, RAG_GRAPH_M_MIN, RAG_GRAPH_M_MAX);
  }
  if (o->ef_construction > RAG_GRAPH_EF_CONSTRUCTION_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "ef_construction is %u; it can be %u at most", o->ef_construction,
                    RAG_GRAPH_EF_CONSTRUCTION_MAX);
  }
  if (o->threads > RAG_GRAPH_THREADS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u threads; there can be %u at most", o->threads,
                    RAG_GRAPH_THREADS_MAX);
  }
  const rag_graph_meta *base = o->base ? &o->base->graph->meta : NULL;
  if (base && (base->m != (o->m ? o->m : RAG_GRAPH_M_DEFAULT) || base->dimension != codes->dimension ||
               base->metric != (uint32_t)codes->metric)) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "the graph to grow out of has another m, dimension or metric");
  }
  if (codes->rows > RAG_GRAPH_ROWS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "%u rows; a graph has %u at most", codes->rows, RAG_GRAPH_ROWS_MAX);
  }
  return RAG_OK;
}

static rag_status build_rows(graph_builder *b, const uint32_t *first_of, rag_error *err) {
  b->highest = RAG_GRAPH_LEVELS_MAX;
  if (b->options->base) RAG_TRY(rag_graph__grow_plan(b, first_of, err));
  RAG_TRY(make_order(b, first_of, err));
  if (b->old_of) RAG_TRY(rag_graph__grow_place(b, err));
  RAG_TRY(make_turns(b, err));
  uint32_t sample = RAG_MIN(b->options->sample, b->turn_count / SAMPLE_SHARE);
  bool inherits =
      b->old_of && sample < b->options->sample / SAMPLE_LEAST && b->options->base->graph->meta.rung_count > 0;
  if (inherits) sample = 0;
  RAG_TRY(make_levels(b, err));
  RAG_TRY(make_workers(b, err));
  b->graph.meta.levels = b->top;
  b->graph.meta.entry = b->order[0];
  b->graph.meta.built_rows = b->old_of ? rag_graph_built_rows(b->options->base->graph) : b->codes->rows;
  if (b->old_of) {
    rag_status status = run(b, PHASE_CARRY, 0, b->nodes);
    if (status != RAG_OK) return rag_fail(err, status, "a thread of the build could not go on");
  }
  RAG_TRY(insert(b, 0, b->turn_count - sample, err));
  if (sample > 0) {
    RAG_TRY(calibrate(b, sample, err));
    RAG_TRY(insert(b, b->turn_count - sample, b->turn_count, err));
  }
  if (inherits) inherit_calibration(b);
  return finish(b);
}

rag_status rag_graph_build(const rag_graph_codes *codes, const rag_graph_options *options, rag_graph **out,
                           rag_error *err) {
  RAG_TRY(check_options(codes, options, err));
  rag_status status = RAG_OK;
  rag_graph *graph = NULL;
  uint32_t *first_of = NULL, rows = codes->rows;
  graph_builder *b = rag_calloc(1, sizeof *b);
  if (!b) return rag_fail_no_memory(err, sizeof *b);
  b->codes = codes;
  b->options = options;
  b->m = options->m ? options->m : RAG_GRAPH_M_DEFAULT;
  b->ef = options->ef_construction ? options->ef_construction : RAG_GRAPH_EF_CONSTRUCTION_DEFAULT;
  b->threads = RAG_MAX(options->threads, 1u);
  rag_graph_meta *meta = &b->graph.meta;
  rag_graph__meta_init(meta, codes, b->m, b->ef, options->seed);
  if (rows > 0) {
    first_of = rag_alloc((size_t)rows * sizeof *first_of);
    if (!first_of) {
      status = rag_fail_no_memory(err, (size_t)rows * sizeof *first_of);
      goto out;
    }
    RAG_TRY_OUT(rag_graph__find_duplicates(codes, first_of, &meta->duplicates, err));
    b->nodes = rows - meta->duplicates;
    RAG_TRY_OUT(build_rows(b, first_of, err));
  }
  RAG_TRY_OUT(pack(b, &graph, err));
  if (rows > 0) RAG_TRY_OUT(rag_graph__mend(codes, first_of, graph->owned, &graph->meta, err));
  *out = graph;
  graph = NULL;
out:
  rag_graph_destroy(graph);
  rag_free(first_of);
  builder_free(b);
  return status;
}
