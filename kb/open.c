// Opening and closing every kb of a store; their numbers.
#include "kb/segments_internal.h"
#include "kb/words_internal.h"

#include <stdlib.h>

// Heads materialised at open when everything is loaded ahead; further branches are when first used.
#define HEADS_AT_OPEN 16u

rag_kbs_options rag_kbs_options_default(void) {
  return (rag_kbs_options){.object_cache_bytes = 256u << 20,
                           .version_cache = 256,
                           .load_at_open = true,
                           .seal_rows = RAG_INDEX_SEAL_ROWS,
                           .graph_rows = RAG_INDEX_GRAPH_ROWS};
}

// Rows of one tag byte and kb: key 'x' kb u16 name -> a ref row, appended through add.
static rag_status each_ref(rag_kbs *kbs, uint8_t tag, uint32_t kb, rag_status (*add)(void *, const rag_ref_info *),
                           void *ctx, rag_error *err) {
  rag_key lower, upper;
  rag_store_iter *it = NULL;
  rag_status status = RAG_OK;
  rag_key_init(&lower);
  rag_key_u8(&lower, tag);
  rag_key_u32(&lower, kb);
  rag_key_init(&upper);
  rag_key_u8(&upper, tag);
  rag_key_u32(&upper, kb + 1);
  RAG_TRY(rag_store_iter_open(kbs->store, NULL, RAG_CF_META, rag_key_slice(&lower), rag_key_slice(&upper), false, &it,
                              err));
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it);
    rag_ref_info info = {0};
    if (key.size < 8 || key.size - 7 > RAG_NAME_MAX || !rag_kb__decode_ref(rag_store_iter_value(it), &info)) {
      status = rag_kb__corrupt(err, RAG_CF_META, key);
      goto out;
    }
    memcpy(info.name, key.data + 7, key.size - 7);
    status = add(ctx, &info);
    if (status != RAG_OK) {
      status = rag_fail_no_memory(err, 0);
      goto out;
    }
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

typedef struct view_builder {
  rag_kb__view *view;
  uint32_t branch_capacity, tag_capacity;
} view_builder;

// Rows come by length, then name; views are sorted by name, so they are sorted at the end.
static rag_status add_branch(void *ctx, const rag_ref_info *info) {
  view_builder *b = ctx;
  if (b->view->branch_count + 1 >= b->branch_capacity) {
    uint32_t capacity = b->branch_capacity ? b->branch_capacity * 2 : 8;
    rag_kb__branch *grown = rag_realloc_array(b->view->branches, capacity, sizeof *grown);
    if (grown == NULL) return RAG_RESOURCE_EXHAUSTED;
    b->view->branches = grown;
    b->branch_capacity = capacity;
  }
  rag_kb__branch *branch = &b->view->branches[b->view->branch_count++];
  *branch =
      (rag_kb__branch){.commit = (uint32_t)info->commit, .created_us = info->created_us, .moved_us = info->moved_us};
  memcpy(branch->name, info->name, sizeof branch->name);
  return RAG_OK;
}

static rag_status add_tag(void *ctx, const rag_ref_info *info) {
  view_builder *b = ctx;
  if (b->view->tag_count == b->tag_capacity) {
    uint32_t capacity = b->tag_capacity ? b->tag_capacity * 2 : 8;
    if (rag_kb__view_own_tags(b->view, capacity - b->tag_capacity, NULL) != RAG_OK) return RAG_RESOURCE_EXHAUSTED;
    b->tag_capacity = capacity;
  }
  rag_kb__tag *tag = &b->view->tags[b->view->tag_count++];
  *tag = (rag_kb__tag){.commit = (uint32_t)info->commit, .created_us = info->created_us};
  memcpy(tag->name, info->name, sizeof tag->name);
  return RAG_OK;
}

static int compare_names(const void *a, const void *b) {
  return strcmp((const char *)a, (const char *)b); // both kinds start with the name
}

rag_status rag_kb__view_read(rag_kbs *kbs, uint32_t kb, rag_kb__view **out, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  view_builder builder = {0};
  RAG_TRY(rag_kb__view_copy(NULL, &builder.view, err));
  rag_kb__view *view = builder.view;
  rag_kb__key_state(&key, kb);
  rag_status status = rag_store_get(kbs->store, NULL, RAG_CF_META, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND || (status == RAG_OK && !rag_kb__decode_state(value.slice, &view->state)))
    status = rag_kb__corrupt(err, RAG_CF_META, rag_key_slice(&key));
  rag_value_free(&value);
  if (status == RAG_OK) status = each_ref(kbs, 'b', kb, add_branch, &builder, err);
  if (status == RAG_OK) status = each_ref(kbs, 't', kb, add_tag, &builder, err);
  if (status != RAG_OK) {
    rag_ref_drop(view);
    return status;
  }
  if (view->branch_count > 1) qsort(view->branches, view->branch_count, sizeof *view->branches, compare_names);
  if (view->tag_count > 1) qsort(view->tags, view->tag_count, sizeof *view->tags, compare_names);
  *out = view;
  return RAG_OK;
}

static rag_status open_one(rag_kbs *kbs, rag_slice value, rag_error *err) {
  rag_kb__record record;
  rag_kb__view *view = NULL;
  rag_kb *kb = NULL;
  rag_kb__registry *next = NULL;
  RAG_TRY(rag_kb__decode_record(value, &record, err));
  rag_status status = rag_kb__view_read(kbs, record.id, &view, err);
  if (status == RAG_OK) status = rag_kb__open(kbs, &record, view, &kb, err);
  if (status == RAG_OK) status = rag_kbs__registry_with(kbs->pending, kb, rag_slice_of("", 0), &next, err);
  if (status == RAG_OK) {
    rag_ref_drop(kbs->pending);
    kbs->pending = next;
  }
  rag_ref_drop(kb);
  rag_kb_config_free(&record.config);
  return status;
}

static rag_status open_all(rag_kbs *kbs, rag_error *err) {
  rag_value counters = {0};
  rag_store_iter *it = NULL;
  rag_status status = rag_store_get(kbs->store, NULL, RAG_CF_META, rag_slice_of("N", 1), &counters, err);
  if (status == RAG_OK) {
    rag_reader r = rag_reader_of(counters.slice);
    kbs->next_kb = rag_read_u32le(&r);
    kbs->next_space = rag_read_u32le(&r);
    if (r.bad) status = rag_kb__corrupt(err, RAG_CF_META, rag_slice_of("N", 1));
    rag_value_free(&counters);
  } else if (status == RAG_NOT_FOUND) {
    status = RAG_OK;
  }
  RAG_TRY(status);
  RAG_TRY(
      rag_store_iter_open(kbs->store, NULL, RAG_CF_META, rag_slice_of("B", 1), rag_slice_of("C", 1), false, &it, err));
  while (status == RAG_OK && rag_store_iter_next(it)) status = open_one(kbs, rag_store_iter_value(it), err);
  if (status == RAG_OK) status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  return status;
}

// Vectors into memory and the first heads materialised, so that the first search is as fast as the next.
static rag_status load_ahead(rag_kb *kb, rag_error *err) {
  RAG_TRY(rag_kb__load(kb, err));
  rag_kb__view *view = NULL;
  RAG_TRY(rag_kb__view_copy(kb->pending, &view, err));
  rag_status status = RAG_OK;
  for (uint32_t i = 0; status == RAG_OK && i < view->branch_count && i < HEADS_AT_OPEN; i++)
    if (view->branches[i].head == NULL)
      status = rag_kb__version(kb, NULL, view->branches[i].commit, &view->branches[i].head, err);
  if (status != RAG_OK) {
    rag_ref_drop(view);
    return status;
  }
  rag_ref_drop(kb->pending);
  kb->pending = rag_ref_take(view);
  rag_cell_set(&kb->view, view);
  return RAG_OK;
}

rag_status rag_kbs_open(rag_store *store, rag_jobs *jobs, const rag_kbs_options *options, rag_kbs **out,
                        rag_error *err) {
  rag_status status = RAG_OK;
  rag_kbs *kbs = rag_calloc(1, sizeof *kbs);
  if (kbs == NULL) return rag_fail_no_memory(err, sizeof *kbs);
  kbs->store = store;
  kbs->jobs = jobs;
  kbs->options = *options;
  kbs->next_kb = kbs->next_space = 1;
  rag_cell_init(&kbs->registry, NULL);
  pthread_mutex_init(&kbs->embedders_lock, NULL);
  pthread_mutex_init(&kbs->analyzers_lock, NULL);
  pthread_mutex_init(&kbs->versions.lock, NULL);
  uint32_t capacity = RAG_MIN(RAG_MAX(options->version_cache, 1u), RAG_KB__VERSION_CACHE_MAX);
  kbs->versions.capacity = capacity;
  kbs->versions.keys = rag_calloc(capacity, sizeof *kbs->versions.keys);
  kbs->versions.used = rag_calloc(capacity, sizeof *kbs->versions.used);
  kbs->versions.versions = rag_calloc(capacity, sizeof(rag_version *));
  kbs->objects = rag_kb__objects_create(options->object_cache_bytes);
  kbs->survivors = rag_kb__survivors_cache_create();
  if (kbs->survivors == NULL || kbs->versions.keys == NULL || kbs->versions.used == NULL ||
      kbs->versions.versions == NULL || kbs->objects == NULL) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  RAG_TRY_OUT(rag_kbs__registry_with(NULL, NULL, rag_slice_of("", 0), &kbs->pending, err));
  RAG_TRY_OUT(open_all(kbs, err));
  rag_cell_set(&kbs->registry, rag_ref_take(kbs->pending));
  // Before a load, which may submit a job.
  rag_jobs_register(jobs, "kb-delete", rag_kb__delete_run, kbs);
  rag_jobs_register(jobs, "gc", rag_kb__gc_run, kbs);
  rag_jobs_register(jobs, "purge", rag_kb__purge_run, kbs);
  rag_jobs_register(jobs, "index", rag_kb__segments_run, kbs);
  rag_jobs_register(jobs, "index-compact", rag_kb__segments_run, kbs);
  rag_jobs_keep_newest(jobs, "index");
  for (uint32_t i = 0; options->load_at_open && i < kbs->pending->count; i++) {
    status = load_ahead(kbs->pending->kbs[i], err);
    if (status != RAG_OK) {
      rag_error_prefix(err, "knowledge base '%s'", kbs->pending->kbs[i]->name);
      goto out;
    }
  }
  RAG_TRY_OUT(rag_kb__idempotency_sweep(store, err));
  RAG_TRY_OUT(rag_kbs__import_sweep(kbs, err));
  rag_kbs__segments_sweep(kbs);
  *out = kbs;
  kbs = NULL;
out:
  rag_kbs_close(kbs);
  return status;
}

void rag_kbs_close(rag_kbs *kbs) {
  if (kbs == NULL) return;
  rag_cell_set(&kbs->registry, NULL);
  rag_ref_drop(kbs->pending);
  for (uint32_t i = 0; i < kbs->versions.count; i++) rag_ref_drop(kbs->versions.versions[i]);
  rag_free(kbs->versions.keys);
  rag_free(kbs->versions.used);
  rag_free(kbs->versions.versions);
  pthread_mutex_destroy(&kbs->versions.lock);
  rag_kb__objects_destroy(kbs->objects);
  rag_kb__survivors_cache_destroy(kbs->survivors);
  for (uint32_t i = 0; i < kbs->embedder_count; i++) rag_ref_drop(kbs->embedders[i]);
  rag_free(kbs->embedders);
  pthread_mutex_destroy(&kbs->embedders_lock);
  rag_kbs__analyzers_close(kbs);
  pthread_mutex_destroy(&kbs->analyzers_lock);
  rag_free(kbs);
}

void rag_kbs_stats_get(rag_kbs *kbs, rag_kbs_stats *out) {
  rag_kbs_stats stats = {0};
  rag_kb__registry *registry = rag_cell_get(&kbs->registry);
  stats.kbs = registry->count;
  for (uint32_t i = 0; i < registry->count; i++) {
    stats.vector_bytes += rag_index_memory_bytes(registry->kbs[i]->index);
    rag_lexical_stats words;
    rag_fields_stats fields;
    rag_lexical_stats_get(registry->kbs[i]->lexical, &words);
    stats.word_bytes += words.bytes;
    if (rag_fields_stats_get(registry->kbs[i]->fields, &fields, NULL) == RAG_OK) stats.field_bytes += fields.bytes_all;
    stats.table_bytes += atomic_load_explicit(&registry->kbs[i]->tables.bytes, memory_order_relaxed);
  }
  rag_ref_drop(registry);
  stats.filter_cache_bytes = rag_kb__survivors_cache_bytes(kbs);
  rag_kb__objects_stats(kbs->objects, &stats.object_cache_bytes, &stats.object_cache_hits, &stats.object_cache_misses);
  pthread_mutex_lock(&kbs->versions.lock);
  stats.versions_cached = kbs->versions.count;
  pthread_mutex_unlock(&kbs->versions.lock);
  stats.embed_cache_hits = atomic_load_explicit(&kbs->embed_cache_hits, memory_order_relaxed);
  stats.embed_cache_misses = atomic_load_explicit(&kbs->embed_cache_misses, memory_order_relaxed);
  *out = stats;
}
