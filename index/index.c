// The index of a space as its callers see it: checks what they ask, keeps the newest view in a cell, and leaves the
// rows to an engine.
//
// Invariants
//  1. A published view never changes. The cell holds the newest one.
//  2. A failed append or remove publishes nothing.
// Threads: append, remove and destroy are the one writer's; pin and memory_bytes are anyone's and lock-free; everything
// that takes a view is anyone's who pinned it.
#include "index/faiss/faiss_internal.h"
#include "index/segment/segment_internal.h"

#include <stdio.h>

bool rag_index__charge(rag_index_shared *shared, uint64_t bytes, bool bounded) {
  uint64_t before = atomic_fetch_add_explicit(&shared->bytes, bytes, memory_order_relaxed);
  uint64_t most = atomic_load_explicit(&shared->bytes_max, memory_order_relaxed);
  if (!bounded || most == 0 || before + bytes <= most) return true;
  rag_index__discharge(shared, bytes);
  return false;
}

void rag_index__discharge(rag_index_shared *shared, uint64_t bytes) {
  atomic_fetch_sub_explicit(&shared->bytes, bytes, memory_order_relaxed);
}

rag_status rag_index__with_rows(const rag_bitmap *present, const uint32_t *ordinals, uint32_t count, rag_bitmap **out,
                                rag_error *err) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(present);
  if (!edit) return rag_fail_no_memory(err, 0);
  rag_status status = RAG_OK;
  for (uint32_t i = 0, run; status == RAG_OK && i < count; i += run) {
    for (run = 1; i + run < count && ordinals[i + run] == ordinals[i] + run;) run++;
    status = rag_bitmap_edit_add_range(edit, ordinals[i], run);
  }
  if (status == RAG_OK) status = rag_bitmap_edit_finish(edit, out);
  else rag_bitmap_edit_destroy(edit);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

rag_status rag_index__check_deadline(const rag_index_query *query, rag_error *err) {
  if (query->deadline_ns == 0 || rag_clock_monotonic_ns() < query->deadline_ns) return RAG_OK;
  return rag_fail(err, RAG_DEADLINE_EXCEEDED,
                  "the search ran past its deadline: allow more time, or narrow the filter");
}

static void shared_destroy(rag_ref *self) {
  rag_index_shared *shared = (rag_index_shared *)self;
  while (shared->scratches != NULL) {
    segment_scratch *scratch = shared->scratches;
    shared->scratches = scratch->next;
    rag_segment__scratch_destroy(scratch);
  }
  rag_codes_rotation_destroy(shared->rotation);
  pthread_mutex_destroy(&shared->choice_lock);
  pthread_mutex_destroy(&shared->scratch_lock);
  pthread_mutex_destroy(&shared->gate.lock);
  rag_free(shared);
}

// Engines of segments, as the shared state counts them.
static const char *const sealed[] = {"auto", "graph", "ivf", "faiss"};

bool rag_index_engine_known(const char *engine) {
  for (size_t i = 0; i < RAG_COUNT_OF(sealed); i++)
    if (strcmp(engine, sealed[i]) == 0) return true;
  return strcmp(engine, "flat") == 0;
}

rag_index__choice rag_index__chosen(rag_index_shared *shared) {
  pthread_mutex_lock(&shared->choice_lock);
  rag_index__choice choice = shared->choice;
  pthread_mutex_unlock(&shared->choice_lock);
  return choice;
}

static const char *engine_of(const rag_index_options *options) {
  return options->engine ? options->engine : "auto";
}
static bool is_flat(const rag_index_options *options) {
  return strcmp(engine_of(options), "flat") == 0;
}

// Of checked options. An index that is flat seals nothing, so any engine will do.
static rag_index__choice choice_of(const rag_index_options *options) {
  rag_index__choice choice = {0};
  for (uint32_t i = 0; i < RAG_COUNT_OF(sealed); i++)
    if (strcmp(engine_of(options), sealed[i]) == 0) choice.engine = i;
  snprintf(choice.factory, sizeof choice.factory, "%s", options->factory ? options->factory : "");
  return choice;
}

static rag_status check_options(const rag_index_options *options, rag_error *err) {
  if (options->dimension == 0 || options->dimension > RAG_DIMENSION_MAX) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "dimension", "the dimension is %u: it must be 1 to %u",
                          options->dimension, RAG_DIMENSION_MAX);
  }
  if ((unsigned)options->metric > (unsigned)RAG_METRIC_L2) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "metric", "there is no metric number %d", (int)options->metric);
  }
  if ((unsigned)options->datatype > (unsigned)RAG_DATATYPE_BFLOAT16) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "datatype", "there is no datatype number %d",
                          (int)options->datatype);
  }
  if (!rag_index_engine_known(engine_of(options))) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "engine",
                          "there is no engine \"%s\": use \"auto\", \"flat\", \"graph\", \"ivf\" or \"faiss\"",
                          engine_of(options));
  }
  if (choice_of(options).engine != RAG_INDEX__FAISS) return RAG_OK;
  return rag_faiss_check(options->factory ? options->factory : "", options->dimension, options->metric, err);
}

static void use_settings(rag_index_shared *shared, const rag_index_options *options) {
  double target = options->target_recall > 0 ? options->target_recall : RAG_INDEX_TARGET_RECALL;
  atomic_store_explicit(&shared->bytes_max, options->memory_bytes_max, memory_order_relaxed);
  atomic_store_explicit(&shared->target_recall, target, memory_order_relaxed);
  pthread_mutex_lock(&shared->choice_lock);
  shared->choice = choice_of(options);
  pthread_mutex_unlock(&shared->choice_lock);
}

rag_status rag_index_check_change(const rag_index *index, const rag_index_options *options, rag_error *err) {
  RAG_TRY(check_options(options, err));
  if (is_flat(options) == (index->engine == &rag_index__flat)) return RAG_OK;
  return rag_fail_field(
      err, RAG_INVALID_ARGUMENT, "index.engine",
      "engine \"flat\" keeps all vectors in memory, the others seal them into files, and neither becomes the other: "
      "create another knowledge base and put the documents there");
}

void rag_index_change(rag_index *index, const rag_index_options *options) {
  use_settings(index->shared, options);
}

rag_status rag_index_create(const rag_index_options *options, rag_index **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_index *index = NULL;
  rag_index_view *empty = NULL;

  RAG_TRY(check_options(options, err));
  const rag_index_engine *engine = is_flat(options) ? &rag_index__flat : &rag_index__segmented;
  index = rag_calloc(1, sizeof *index);
  if (!index) return rag_fail_no_memory(err, sizeof *index);
  index->engine = engine;
  index->shared = rag_calloc(1, sizeof *index->shared);
  if (!index->shared) {
    status = rag_fail_no_memory(err, sizeof *index->shared);
    goto out;
  }
  rag_ref_init(&index->shared->ref, shared_destroy);
  index->shared->dimension = options->dimension;
  index->shared->metric = options->metric;
  index->shared->datatype = options->datatype;
  index->shared->seal_rows = options->seal_rows > 0 ? options->seal_rows : RAG_INDEX_SEAL_ROWS;
  index->shared->graph_rows = options->graph_rows > 0 ? options->graph_rows : RAG_INDEX_GRAPH_ROWS;
  pthread_mutex_init(&index->shared->choice_lock, NULL);
  use_settings(index->shared, options);
  pthread_mutex_init(&index->shared->scratch_lock, NULL);
  pthread_mutex_init(&index->shared->gate.lock, NULL);
  index->shared->gate.limit = rag_os_cpu_count();
  if (engine == &rag_index__segmented)
    RAG_TRY_OUT(rag_codes_rotation_create(options->dimension, SEGMENT_ROTATION_SEED, &index->shared->rotation, err));
  RAG_TRY_OUT(engine->create(index->shared, &empty, err));
  rag_cell_init(&index->newest, empty);
  *out = index;
  index = NULL;
out:
  if (index) {
    rag_ref_drop(index->shared);
    rag_free(index);
  }
  return status;
}

void rag_index_destroy(rag_index *index) {
  if (!index) return;
  rag_cell_set(&index->newest, NULL);
  rag_ref_drop(index->shared);
  rag_free(index);
}

uint64_t rag_index_memory_bytes(const rag_index *index) {
  return atomic_load_explicit(&index->shared->bytes, memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------- writing

rag_status rag_index_append(rag_index *index, const uint32_t *ordinals, uint32_t count, const float *vectors,
                            rag_error *err) {
  rag_status status = RAG_OK;
  rag_index_view *next = NULL;
  if (count == 0) return RAG_OK;
  rag_index_view *newest = rag_index_pin(index);
  for (uint32_t i = 0; i < count; i++) {
    if (i > 0 && ordinals[i] <= ordinals[i - 1]) {
      status = rag_fail(err, RAG_INVALID_ARGUMENT, "rows must be appended in ascending order: ordinal %u after %u",
                        ordinals[i], ordinals[i - 1]);
      goto out;
    }
    if (rag_bitmap_has(newest->present, ordinals[i])) {
      status = rag_fail(err, RAG_ALREADY_EXISTS, "ordinal %u has a row already, and rows do not change", ordinals[i]);
      goto out;
    }
  }
  RAG_TRY_OUT(index->engine->append(newest, ordinals, count, vectors, &next, err));
  rag_cell_set(&index->newest, next);
out:
  rag_ref_drop(newest);
  return status;
}

rag_status rag_index_remove(rag_index *index, const rag_bitmap *ordinals, rag_error *err) {
  rag_status status = RAG_OK;
  rag_index_view *next = NULL;
  rag_index_view *newest = rag_index_pin(index);
  if (rag_bitmap_and_count(newest->present, ordinals) > 0) {
    RAG_TRY_OUT(index->engine->remove(newest, ordinals, &next, err));
    rag_cell_set(&index->newest, next);
  }
out:
  rag_ref_drop(newest);
  return status;
}

// ---------------------------------------------------------------------------------------------- reading

rag_index_view *rag_index_pin(rag_index *index) {
  return rag_cell_get(&index->newest);
}

uint64_t rag_index_view_rows(const rag_index_view *view) {
  return rag_bitmap_count(view->present);
}

const rag_bitmap *rag_index_view_present(const rag_index_view *view) {
  return view->present;
}

const float *rag_index_view_vector(const rag_index_view *view, uint32_t ordinal, float *room) {
  const void *row = rag_index__view_row(view, ordinal);
  return row ? rag_index__row_read(view->shared->datatype, row, view->shared->dimension, room) : NULL;
}

rag_status rag_index_search(const rag_index_view *view, const rag_index_query *query, rag_index_hit *hits,
                            uint32_t *out_count, rag_index_plan *plan, rag_error *err) {
  if (query->k == 0 || query->k > RAG_INDEX_K_MAX) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "k", "k (with the offset) is %u: it must be 1 to %u", query->k,
                          RAG_INDEX_K_MAX);
  }
  if (query->has_min_score && query->min_score != query->min_score) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "min_score", "min_score is NaN: send a number, or leave it out");
  }
  RAG_TRY(rag_index__check_deadline(query, err));
  rag_index_topk top;
  rag_index_plan made = {.engine = view->engine->name, .expected_recall = 1};
  rag_index__topk_init(&top, hits, query->k, query->has_min_score ? query->min_score : -FLT_MAX);
  RAG_TRY(view->engine->search(view, query, &top, &made, err));
  rag_index__topk_finish(&top);
  *out_count = top.count;
  if (plan) *plan = made;
  return RAG_OK;
}
