// The knowledge bases of a store: opening, creating, finding, updating, deleting, describing.
//
// Invariants
//  1. kbs->registry is immutable and by name; publish swaps it. A deleted kb leaves the registry at once, its rows later
//     (delete.c), and its number is never used again, so that nothing of it can be found under another name.
//  2. A kb's number, space, dimension, metric, datatype and embedder never change after creation.
#include "kb/words_internal.h"

#include <stdio.h>
#include <stdlib.h>

// ---------------------------------------------------------------------------------------------- configuration

void rag_kb_config_init(rag_kb_config *config) {
  *config = (rag_kb_config){.dimension = 384, .metric = RAG_METRIC_COSINE, .chunking = rag_chunking_default()};
  memcpy(config->model, "hash-384", sizeof "hash-384");
  memcpy(config->engine, "auto", sizeof "auto");
}

void rag_kb_config_free(rag_kb_config *config) {
  if (config == NULL) return;
  rag_free(config->description);
  rag_free(config->fields_only);
  rag_free(config->fields_except);
  config->description = config->fields_only = config->fields_except = NULL;
}

static rag_status config_copy(const rag_kb_config *from, rag_kb_config *out, rag_error *err) {
  *out = *from;
  out->description = rag_strdup(from->description ? from->description : "");
  out->fields_only = rag_strdup(from->fields_only ? from->fields_only : "");
  out->fields_except = rag_strdup(from->fields_except ? from->fields_except : "");
  if (out->description != NULL && out->fields_only != NULL && out->fields_except != NULL) return RAG_OK;
  rag_kb_config_free(out);
  return rag_fail_no_memory(err, 0);
}

static void config_ref_destroy(rag_ref *ref) {
  rag_kb__config_ref *config = (rag_kb__config_ref *)ref;
  rag_kb_config_free(&config->config);
  rag_free(config);
}

static rag_status config_ref_create(const rag_kb_config *from, rag_kb__config_ref **out, rag_error *err) {
  rag_kb__config_ref *ref = rag_calloc(1, sizeof *ref);
  if (ref == NULL) return rag_fail_no_memory(err, sizeof *ref);
  rag_status status = config_copy(from, &ref->config, err);
  if (status != RAG_OK) {
    rag_free(ref);
    return status;
  }
  rag_ref_init(&ref->ref, config_ref_destroy);
  *out = ref;
  return RAG_OK;
}

static rag_status check_paths(const char *list, const char *field, rag_error *err) {
  uint32_t count = 0;
  if (list == NULL) return RAG_OK;
  if (!rag_utf8_valid(list, strlen(list)))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s is not valid UTF-8", field);
  for (const char *at = list; *at != '\0'; count++) {
    size_t size = strcspn(at, "\n");
    if (size > RAG_FIELDS_PATH_BYTES_MAX)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: a path has at most %u bytes", field,
                            RAG_FIELDS_PATH_BYTES_MAX);
    at += size + (at[size] == '\n');
  }
  if (count > RAG_FIELDS_LIST_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s names at most %u paths", field, RAG_FIELDS_LIST_MAX);
  return RAG_OK;
}

rag_status rag_kb__config_check(const rag_kb_config *config, rag_error *err) {
  if (!rag_name_valid(rag_slice_str(config->name)))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "name", "'%s' is not a name; a name is [a-z0-9][a-z0-9._-]{0,62}",
                          config->name);
  const char *description = config->description ? config->description : "";
  if (strlen(description) > RAG_KB_DESCRIPTION_BYTES_MAX || !rag_utf8_valid(description, strlen(description)))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "description", "a description is at most %u bytes of UTF-8",
                          RAG_KB_DESCRIPTION_BYTES_MAX);
  if (config->model[0] == '\0' && (config->dimension == 0 || config->dimension > RAG_DIMENSION_MAX))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "dimension", "dimension is 1 to %u", RAG_DIMENSION_MAX);
  if (config->model[0] != '\0' && config->metric != RAG_METRIC_COSINE)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "metric",
                          "model %s gives unit vectors that are compared by cosine; leave metric out", config->model);
  if (!rag_index_engine_known(config->engine))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "index.engine",
                          "'%s' is not an engine of this build; use 'auto', 'flat', 'graph', 'ivf' or 'faiss'",
                          config->engine);
  if (strcmp(config->engine, "faiss") != 0 && config->factory[0] != '\0')
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "index.factory",
                          "index.factory is of the engine 'faiss' alone: leave it out, or name that engine");
  if ((unsigned)config->datatype > RAG_DATATYPE_BFLOAT16)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "index.datatype", "index.datatype is 'float32' or 'bfloat16'");
  if (!(config->target_recall >= 0 && config->target_recall <= 1))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "index.target_recall", "target_recall is 0 to 1");
  RAG_TRY(check_paths(config->fields_only, "fields.only", err));
  RAG_TRY(check_paths(config->fields_except, "fields.except", err));
  return rag_chunking_check(&config->chunking, err);
}

// The lines of a list of paths, as slices into it; at most RAG_FIELDS_LIST_MAX, as was checked.
static uint32_t split_paths(const char *list, rag_slice *out) {
  uint32_t count = 0;
  for (const char *at = list; at != NULL && *at != '\0' && count < RAG_FIELDS_LIST_MAX;) {
    size_t size = strcspn(at, "\n");
    if (size > 0) out[count++] = rag_slice_of(at, size);
    at += size + (at[size] == '\n');
  }
  return count;
}

static rag_status create_fields(rag_kb *kb, const rag_kb_config *config, rag_error *err) {
  rag_slice *paths = rag_calloc(2 * RAG_FIELDS_LIST_MAX, sizeof *paths);
  if (paths == NULL) return rag_fail_no_memory(err, 2 * RAG_FIELDS_LIST_MAX * sizeof *paths);
  rag_fields_options options = {.only = paths,
                                .only_count = split_paths(config->fields_only, paths),
                                .except = paths + RAG_FIELDS_LIST_MAX,
                                .except_count = split_paths(config->fields_except, paths + RAG_FIELDS_LIST_MAX),
                                .strings_max = config->fields_values_max};
  rag_status status = rag_fields_create(&options, &kb->fields, err);
  rag_free(paths);
  return status;
}

// ---------------------------------------------------------------------------------------------- one kb in memory

static void kb_destroy(rag_ref *ref) {
  rag_kb *kb = (rag_kb *)ref;
  rag_cell_set(&kb->view, NULL);
  rag_cell_set(&kb->config, NULL);
  rag_ref_drop(kb->pending);
  rag_ref_drop(kb->embedder);
  for (size_t i = 0; i < RAG_COUNT_OF(kb->segments_behind); i++) rag_index_task_destroy(kb->segments_behind[i]);
  rag_index_destroy(kb->index);
  rag_lexical_destroy(kb->lexical);
  rag_fields_destroy(kb->fields);
  rag_kb__tables_free(&kb->tables);
  pthread_mutex_destroy(&kb->index_lock);
  pthread_mutex_destroy(&kb->words_lock);
  pthread_mutex_destroy(&kb->load_lock);
  pthread_mutex_destroy(&kb->segments_lock);
  pthread_cond_destroy(&kb->segments_changed);
  rag_bitmap_edit_destroy(kb->chunks_seen);
  rag_ref_drop(kb->chunks_exist);
  rag_free(kb);
}

rag_status rag_kbs__embedder(rag_kbs *kbs, rag_slice model, rag_embedder **out, rag_error *err) {
  rag_status status = RAG_OK;
  *out = NULL;
  pthread_mutex_lock(&kbs->embedders_lock);
  for (uint32_t i = 0; i < kbs->embedder_count && *out == NULL; i++)
    if (rag_slice_equal(rag_slice_str(rag_embedder_name(kbs->embedders[i])), model))
      *out = rag_ref_take(kbs->embedders[i]);
  pthread_mutex_unlock(&kbs->embedders_lock);
  if (*out != NULL) return RAG_OK;
  rag_embedder *embedder = NULL;
  RAG_TRY(rag_embedder_open(model, &embedder, err));
  pthread_mutex_lock(&kbs->embedders_lock);
  rag_embedder **grown = rag_realloc_array(kbs->embedders, (size_t)kbs->embedder_count + 1, sizeof *kbs->embedders);
  if (grown != NULL) {
    kbs->embedders = grown;
    kbs->embedders[kbs->embedder_count++] = rag_ref_take(embedder);
  }
  pthread_mutex_unlock(&kbs->embedders_lock);
  *out = embedder; // not kept when out of memory: made again next time
  return status;
}

static rag_index_options index_options(const rag_kb *kb, const rag_kb_config *config) {
  return (rag_index_options){.dimension = kb->dimension,
                             .metric = kb->metric,
                             .datatype = kb->datatype,
                             .engine = config->engine,
                             .factory = config->factory,
                             .memory_bytes_max = config->memory_bytes_max,
                             .target_recall = config->target_recall,
                             .seal_rows = kb->kbs->options.seal_rows,
                             .graph_rows = kb->kbs->options.graph_rows};
}

rag_status rag_kb__open(rag_kbs *kbs, const rag_kb__record *record, rag_kb__view *view, rag_kb **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_kb__config_ref *config = NULL;
  rag_kb *kb = rag_calloc(1, sizeof *kb);
  if (kb == NULL) {
    rag_ref_drop(view);
    return rag_fail_no_memory(err, sizeof *kb);
  }
  rag_ref_init(&kb->ref, kb_destroy);
  pthread_mutex_init(&kb->index_lock, NULL);
  pthread_mutex_init(&kb->words_lock, NULL);
  pthread_mutex_init(&kb->load_lock, NULL);
  pthread_mutex_init(&kb->segments_lock, NULL);
  pthread_cond_init(&kb->segments_changed, NULL);
  kb->kbs = kbs;
  kb->store = kbs->store;
  kb->id = record->id;
  kb->space = record->space;
  kb->created_us = record->created_us;
  memcpy(kb->name, record->config.name, sizeof kb->name);
  memcpy(kb->fingerprint, record->fingerprint, sizeof kb->fingerprint);
  kb->dimension = record->config.dimension;
  kb->metric = record->config.metric;
  kb->datatype = record->config.datatype;
  kb->load_limit = view->state.next_chunk;
  kb->load_revisions = view->state.next_revision;
  kb->load_next = 0;
  rag_cell_init(&kb->view, rag_ref_take(view));
  kb->pending = view;
  rag_cell_init(&kb->config, NULL);
  RAG_TRY_OUT(config_ref_create(&record->config, &config, err));
  kb->config_generation = config->config.generation = 1;
  rag_cell_set(&kb->config, config);
  RAG_TRY_OUT(rag_kb__tables_init(&kb->tables, err));
  rag_index_options options = index_options(kb, &record->config);
  RAG_TRY_OUT(rag_index_create(&options, &kb->index, err));
  rag_lexical_options words = {.title_weight = RAG_KB__TITLE_WEIGHT, .keep_sequences = true};
  RAG_TRY_OUT(rag_lexical_create(&words, &kb->lexical, err));
  RAG_TRY_OUT(create_fields(kb, &record->config, err));
  if (record->config.model[0] != '\0') {
    RAG_TRY_OUT(rag_kbs__embedder(kbs, rag_slice_str(record->config.model), &kb->embedder, err));
    if (strcmp(rag_embedder_fingerprint(kb->embedder), kb->fingerprint) != 0) {
      status =
          rag_fail(err, RAG_FAILED_PRECONDITION,
                   "knowledge base '%s' was embedded with %s, but this program's %s is %s; vectors of two models are "
                   "never mixed: run the program that made it, or export and import",
                   kb->name, kb->fingerprint, record->config.model, rag_embedder_fingerprint(kb->embedder));
      goto out;
    }
  }
  *out = kb;
  kb = NULL;
out:
  rag_ref_drop(kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- registry

static void registry_destroy(rag_ref *ref) {
  rag_kb__registry *registry = (rag_kb__registry *)ref;
  for (uint32_t i = 0; i < registry->count; i++) rag_ref_drop(registry->kbs[i]);
  rag_free(registry->kbs);
  rag_free(registry);
}

static int registry_find(const rag_kb__registry *registry, rag_slice name, uint32_t *insert_at) {
  uint32_t low = 0, high = registry->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    int order = rag_slice_compare(rag_slice_str(registry->kbs[middle]->name), name);
    if (order == 0) {
      if (insert_at) *insert_at = middle;
      return (int)middle;
    }
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  if (insert_at) *insert_at = low;
  return -1;
}

rag_status rag_kbs__registry_with(const rag_kb__registry *from, rag_kb *add, rag_slice remove, rag_kb__registry **out,
                                  rag_error *err) {
  uint32_t count = from ? from->count : 0;
  rag_kb__registry *registry = rag_calloc(1, sizeof *registry);
  if (registry == NULL) return rag_fail_no_memory(err, sizeof *registry);
  rag_ref_init(&registry->ref, registry_destroy);
  registry->kbs = rag_calloc((size_t)count + 1, sizeof(rag_kb *));
  if (registry->kbs == NULL) {
    rag_ref_drop(registry);
    return rag_fail_no_memory(err, count * sizeof(rag_kb *));
  }
  for (uint32_t i = 0; i < count; i++) {
    if (remove.size > 0 && rag_slice_equal(rag_slice_str(from->kbs[i]->name), remove)) continue;
    registry->kbs[registry->count++] = rag_ref_take(from->kbs[i]);
  }
  if (add != NULL) {
    uint32_t at;
    (void)registry_find(registry, rag_slice_str(add->name), &at);
    memmove(&registry->kbs[at + 1], &registry->kbs[at], (registry->count - at) * sizeof(rag_kb *));
    registry->kbs[at] = rag_ref_take(add);
    registry->count++;
  }
  *out = registry;
  return RAG_OK;
}

bool rag_kbs__registry_has(const rag_kb__registry *registry, rag_slice name) {
  return registry_find(registry, name, NULL) >= 0;
}

rag_kb *rag_kbs__find(rag_kbs *kbs, uint32_t id) {
  rag_kb__registry *registry = rag_cell_get(&kbs->registry);
  rag_kb *found = NULL;
  for (uint32_t i = 0; i < registry->count && found == NULL; i++)
    if (registry->kbs[i]->id == id) found = rag_ref_take(registry->kbs[i]);
  rag_ref_drop(registry);
  return found;
}

rag_status rag_kbs_get(rag_kbs *kbs, rag_slice name, rag_kb **out, rag_error *err) {
  rag_kb__registry *registry = rag_cell_get(&kbs->registry);
  int at = registry_find(registry, name, NULL);
  rag_status status = RAG_OK;
  if (at >= 0) *out = rag_ref_take(registry->kbs[at]);
  else if (!rag_name_valid(name))
    status = rag_fail_field(err, RAG_INVALID_ARGUMENT, "kb",
                            "'%.*s' is not a knowledge base's name; a name is [a-z0-9][a-z0-9._-]{0,62}",
                            (int)RAG_MIN(name.size, (size_t)80), name.data ? name.data : "");
  else
    status = rag_fail(err, RAG_NOT_FOUND, "knowledge base '%.*s' does not exist; create it with POST /v1/kbs",
                      (int)name.size, name.data);
  rag_ref_drop(registry);
  return status;
}

rag_status rag_kbs_list(rag_kbs *kbs, rag_slice after, uint32_t limit, rag_kb ***out, uint32_t *out_count,
                        rag_error *err) {
  rag_kb__registry *registry = rag_cell_get(&kbs->registry);
  uint32_t at = 0;
  if (after.size > 0 && registry_find(registry, after, &at) >= 0) at++;
  uint32_t count = RAG_MIN(registry->count - at, RAG_MIN(limit, RAG_LIST_LIMIT_MAX));
  rag_kb **items = rag_calloc((size_t)count + 1, sizeof(rag_kb *));
  if (items == NULL) {
    rag_ref_drop(registry);
    return rag_fail_no_memory(err, count * sizeof(rag_kb *));
  }
  for (uint32_t i = 0; i < count; i++) items[i] = rag_ref_take(registry->kbs[at + i]);
  rag_ref_drop(registry);
  *out = items;
  *out_count = count;
  return RAG_OK;
}

const char *rag_kb_name(const rag_kb *kb) {
  return kb->name;
}

rag_status rag_kb_describe(rag_kb *kb, rag_kb_info *out, rag_error *err) {
  rag_version *version = NULL;
  RAG_TRY(rag_kb_resolve(kb, rag_slice_of("", 0), &version, err));
  rag_kb__config_ref *config = rag_kb__config(kb);
  rag_kb__view *view = rag_cell_get(&kb->view);
  rag_kb_info info = {
      .id = kb->id,
      .created_us = kb->created_us,
      .space = rag_strdup(kb->fingerprint),
      .documents = rag_version_documents(version),
      .chunks = rag_version_chunks(version),
      .commits = view->state.next_commit - 1,
      .branches = view->branch_count,
      .tags = view->tag_count,
      .revisions = view->state.next_revision - 1,
      .contents = view->state.next_content - 1,
  };
  snprintf(info.head, sizeof info.head, "c%u", version->commit);
  rag_status status = info.space == NULL ? rag_fail_no_memory(err, 0) : config_copy(&config->config, &info.config, err);
  if (status == RAG_OK) *out = info;
  else rag_free(info.space);
  rag_ref_drop(view);
  rag_ref_drop(config);
  rag_ref_drop(version);
  return status;
}

void rag_kb_info_free(rag_kb_info *info) {
  if (info == NULL) return;
  rag_kb_config_free(&info->config);
  rag_free(info->space);
  info->space = NULL;
}

// ---------------------------------------------------------------------------------------------- creation

typedef struct create_op {
  rag_kbs *kbs;
  rag_kb__record record;
  const rag_write *write;
  rag_kb *kb;
  rag_kb__registry *registry;
  rag_write_result result;
  uint32_t next_kb, next_space; // before, for abandon
} create_op;

rag_status rag_kbs__counters_write(rag_kbs *kbs, rag_txn *txn, rag_error *err) {
  rag_buf value = {0};
  rag_buf_append_u32le(&value, kbs->next_kb);
  rag_buf_append_u32le(&value, kbs->next_space);
  rag_status status = rag_buf_check(&value, err);
  if (status == RAG_OK) rag_txn_put(txn, RAG_CF_META, rag_slice_of("N", 1), rag_buf_slice(&value));
  rag_buf_free(&value);
  return status;
}

// The number of a fingerprint's space, shared by every kb that embeds with it and keeps vectors alike: their embeddings
// are one cache. A rounded vector is none that a kb of float32 could take.
rag_status rag_kbs__space(rag_kbs *kbs, rag_txn *txn, const char *fingerprint, rag_datatype datatype, uint32_t *out,
                          rag_error *err) {
  rag_key key;
  char name[RAG_EMBED_FINGERPRINT_MAX + 32];
  rag_value value = {0};
  bool plain = datatype == RAG_DATATYPE_FLOAT32;
  snprintf(name, sizeof name, "%s%s%s", fingerprint, plain ? "" : "+", plain ? "" : rag_datatype_name(datatype));
  rag_key_init(&key);
  rag_key_u8(&key, 'S');
  rag_key_bytes(&key, rag_slice_str(name));
  rag_status status = rag_txn_get(txn, RAG_CF_META, rag_key_slice(&key), &value, err);
  if (status == RAG_OK) {
    rag_reader r = rag_reader_of(value.slice);
    uint32_t space = rag_read_u32le(&r);
    rag_value_free(&value);
    if (r.bad) return rag_kb__corrupt(err, RAG_CF_META, rag_key_slice(&key));
    *out = space;
    return RAG_OK;
  }
  if (status != RAG_NOT_FOUND) return status;
  *out = kbs->next_space++;
  unsigned char bytes[4];
  for (int i = 0; i < 4; i++) bytes[i] = (unsigned char)(*out >> (8 * i));
  rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_slice_of(bytes, sizeof bytes));
  return RAG_OK;
}

rag_status rag_kb__record_write(const rag_kb__record *record, rag_txn *txn, rag_error *err) {
  rag_key key;
  rag_buf value = {0};
  rag_kb__key_kb(&key, rag_slice_str(record->config.name));
  rag_kb__encode_record(record, &value);
  rag_status status = rag_buf_check(&value, err);
  if (status == RAG_OK) rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_buf_slice(&value));
  rag_buf_free(&value);
  return status;
}

static rag_status empty_head(uint32_t kb, rag_version **out, rag_error *err) {
  rag_bitmap *revisions = rag_bitmap_empty(), *chunks = rag_bitmap_empty();
  if (revisions == NULL || chunks == NULL) {
    rag_ref_drop(revisions);
    rag_ref_drop(chunks);
    return rag_fail_no_memory(err, 0);
  }
  *out = rag_kb__version_create(kb, 0, 0, revisions, chunks);
  return *out ? RAG_OK : rag_fail_no_memory(err, sizeof **out);
}

// The first commit (c1, empty) is written like any other: on a branch that has none yet.
static rag_status create_rows(create_op *op, rag_txn *txn, rag_error *err) {
  rag_kb__view *view = NULL, *draft = NULL;
  rag_version *empty = NULL;
  int64_t now = rag_clock_now_us();
  op->record.created_us = now;
  RAG_TRY(rag_kb__record_write(&op->record, txn, err));
  RAG_TRY(rag_kbs__counters_write(op->kbs, txn, err));
  RAG_TRY(rag_kb__view_copy(NULL, &view, err));
  view->state = (rag_kb__state){1, 1, 1, 1, now};
  view->branches[0] = (rag_kb__branch){.name = "main", .created_us = now, .moved_us = now};
  view->branch_count = 1;
  RAG_TRY(rag_kb__open(op->kbs, &op->record, view, &op->kb, err)); // takes over view
  op->kb->load_limit = op->kb->load_revisions = 0;
  op->kb->loaded = true; // every row will be added by its own commit
  rag_status status = RAG_OK;
  RAG_TRY_OUT(empty_head(op->record.id, &empty, err));
  RAG_TRY_OUT(rag_kb__view_copy(op->kb->pending, &draft, err));
  rag_kb__op write = {.kb = op->kb, .write = op->write, .view = draft};
  rag_kb__change change = {.kind = RAG_COMMIT_INIT, .branch = 0, .base = empty, .counts_exact = true};
  RAG_TRY_OUT(rag_kb__commit_write(&write, txn, &change, err));
  op->result = write.result;
  rag_ref_drop(op->kb->pending);
  op->kb->pending = rag_ref_take(draft);
  rag_cell_set(&op->kb->view, draft); // nobody sees the kb yet
  draft = NULL;
out:
  rag_ref_drop(draft);
  rag_ref_drop(empty);
  return status;
}

static rag_status create_apply(void *ctx, rag_txn *txn, rag_error *err) {
  create_op *op = ctx;
  rag_kbs *kbs = op->kbs;
  bool found = false;
  rag_slice name = rag_slice_str(op->record.config.name);
  RAG_TRY(rag_kb__idempotency_find(kbs->store, txn, 0, op->write, &found, &op->result, err));
  if (found) {
    op->result.replayed = true;
    return RAG_OK;
  }
  if (registry_find(kbs->pending, name, NULL) >= 0)
    return rag_fail_field(err, RAG_ALREADY_EXISTS, "name", "knowledge base '%s' exists already; choose another name",
                          op->record.config.name);
  if (kbs->pending->count >= RAG_KBS_MAX)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "there are %u knowledge bases, the most allowed; delete some",
                    RAG_KBS_MAX);
  op->next_kb = kbs->next_kb;
  op->next_space = kbs->next_space;
  op->record.id = kbs->next_kb++;
  if (op->record.config.model[0] == '\0') // client vectors are comparable within their own kb only
    snprintf(op->record.fingerprint, sizeof op->record.fingerprint, "client-%u-%u-%s", op->record.id,
             op->record.config.dimension, rag_metric_name(op->record.config.metric));
  rag_status status =
      rag_kbs__space(kbs, txn, op->record.fingerprint, op->record.config.datatype, &op->record.space, err);
  if (status == RAG_OK) status = create_rows(op, txn, err);
  if (status == RAG_OK) status = rag_kbs__registry_with(kbs->pending, op->kb, rag_slice_of("", 0), &op->registry, err);
  if (status == RAG_OK) {
    rag_kb__idempotency_put(txn, 0, op->write, &op->result);
    status = rag_txn_check(txn, err);
  }
  if (status != RAG_OK) {
    rag_ref_drop(op->registry);
    op->registry = NULL;
    kbs->next_kb = op->next_kb;
    kbs->next_space = op->next_space;
    rag_ref_drop(op->kb);
    op->kb = NULL;
    return status;
  }
  rag_ref_drop(kbs->pending);
  kbs->pending = rag_ref_take(op->registry);
  return RAG_OK;
}

static void create_publish(void *ctx) {
  create_op *op = ctx;
  if (op->registry == NULL) return; // replayed
  rag_cell_set(&op->kbs->registry, op->registry);
  op->registry = NULL;
}

void rag_kbs__registry_abandon(rag_kbs *kbs, rag_kb__registry *registry) {
  rag_ref_drop(registry);
  rag_ref_drop(kbs->pending);
  kbs->pending = rag_cell_get(&kbs->registry);
}

static void create_abandon(void *ctx) {
  create_op *op = ctx;
  rag_kbs__registry_abandon(op->kbs, op->registry);
  op->registry = NULL;
}

rag_status rag_kbs_create(rag_kbs *kbs, const rag_kb_config *config, const rag_write *write, rag_kb **out,
                          rag_error *err) {
  rag_embedder *embedder = NULL;
  create_op op = {.kbs = kbs, .write = write};
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb__write_check(write, err));
  RAG_TRY(config_copy(config, &op.record.config, err));
  if (config->model[0] != '\0') {
    RAG_TRY_OUT(rag_kbs__embedder(kbs, rag_slice_str(config->model), &embedder, err));
    op.record.config.dimension = rag_embedder_dimension(embedder);
    snprintf(op.record.fingerprint, sizeof op.record.fingerprint, "%s", rag_embedder_fingerprint(embedder));
  }
  RAG_TRY_OUT(rag_kb__config_check(&op.record.config, err));
  RAG_TRY_OUT(rag_kbs__language_check(kbs, &op.record.config, err));
  rag_commit_request request = {
      .apply = create_apply, .publish = create_publish, .abandon = create_abandon, .ctx = &op};
  RAG_TRY_OUT(rag_store_commit(kbs->store, &request, err));
  if (op.result.replayed) {
    RAG_TRY_OUT(rag_kbs_get(kbs, rag_slice_str(config->name), out, err));
  } else {
    *out = op.kb;
    op.kb = NULL;
  }
out:
  rag_ref_drop(op.kb);
  rag_ref_drop(embedder);
  rag_kb_config_free(&op.record.config);
  return status;
}

// ---------------------------------------------------------------------------------------------- update, delete

typedef struct update_op {
  rag_kb *kb;
  const rag_kb_config *config;
  rag_kb__config_ref *next;
  bool other_language;
} update_op;

static rag_status update_apply(void *ctx, rag_txn *txn, rag_error *err) {
  update_op *op = ctx;
  rag_kb *kb = op->kb;
  // The registry, not kb->deleted: a deletion in this very group has taken the record out of the batch already.
  int at = registry_find(kb->kbs->pending, rag_slice_str(kb->name), NULL);
  if (at < 0 || kb->kbs->pending->kbs[at] != kb)
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", kb->name);
  if (op->config->generation != 0 && op->config->generation != kb->config_generation)
    return rag_fail(err, RAG_ABORTED,
                    "the settings of knowledge base '%s' were changed meanwhile; read them again and retry", kb->name);
  if (op->other_language && kb->pending->state.next_content > 1)
    return rag_fail_field(
        err, RAG_FAILED_PRECONDITION, "language",
        "knowledge base '%s' has texts already, and their words were taken apart by its language; give "
        "documents of another language a \"language\" of their own, or put them into a new knowledge "
        "base",
        kb->name);
  rag_kb__record record = {.id = kb->id, .space = kb->space, .created_us = kb->created_us, .config = op->next->config};
  memcpy(record.fingerprint, kb->fingerprint, sizeof record.fingerprint);
  RAG_TRY(rag_kb__record_write(&record, txn, err));
  RAG_TRY(rag_txn_check(txn, err));
  op->next->config.generation = ++kb->config_generation;
  return RAG_OK;
}

static void update_publish(void *ctx) {
  update_op *op = ctx;
  rag_index_options options = index_options(op->kb, &op->next->config);
  rag_index_change(op->kb->index, &options);
  rag_cell_set(&op->kb->config, op->next);
  op->next = NULL;
}

rag_status rag_kbs_update(rag_kbs *kbs, const rag_kb_config *config, rag_error *err) {
  update_op op = {.config = config};
  rag_status status = RAG_OK;
  RAG_TRY(rag_kbs_get(kbs, rag_slice_str(config->name), &op.kb, err));
  rag_kb__config_ref *now = rag_kb__config(op.kb);
  if (strcmp(config->model, now->config.model) != 0 || config->dimension != now->config.dimension ||
      config->metric != now->config.metric) {
    status = rag_fail(err, RAG_INVALID_ARGUMENT, "model, dimension and metric of a knowledge base cannot be changed");
    goto out;
  }
  RAG_TRY_OUT(rag_kb__config_check(config, err));
  if (config->datatype != now->config.datatype) {
    status =
        rag_fail_field(err, RAG_INVALID_ARGUMENT, "index.datatype",
                       "the vectors of knowledge base '%s' are kept as %s, which cannot be changed; create another "
                       "one with \"index\": {\"datatype\": \"%s\"} and put the documents there",
                       config->name, rag_datatype_name(now->config.datatype), rag_datatype_name(config->datatype));
    goto out;
  }
  rag_index_options options = index_options(op.kb, config);
  RAG_TRY_OUT(rag_index_check_change(op.kb->index, &options, err));
  RAG_TRY_OUT(rag_kbs__language_check(kbs, config, err));
  op.other_language = strcmp(config->language, now->config.language) != 0;
  RAG_TRY_OUT(config_ref_create(config, &op.next, err));
  status = rag_store_commit(kbs->store,
                            &(rag_commit_request){.apply = update_apply, .publish = update_publish, .ctx = &op}, err);
out:
  rag_ref_drop(op.next);
  rag_ref_drop(now);
  rag_ref_drop(op.kb);
  return status;
}

typedef struct delete_op {
  rag_kbs *kbs;
  rag_kb *kb;
  rag_kb__registry *registry;
  uint64_t job;
} delete_op;

static rag_status delete_apply(void *ctx, rag_txn *txn, rag_error *err) {
  delete_op *op = ctx;
  rag_kb *kb = op->kb;
  rag_key key;
  unsigned char params[8];
  if (registry_find(op->kbs->pending, rag_slice_str(kb->name), NULL) < 0 ||
      atomic_load_explicit(&kb->deleted, memory_order_relaxed))
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' does not exist", kb->name);
  rag_kb__key_kb(&key, rag_slice_str(kb->name));
  rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&key));
  for (int i = 0; i < 4; i++) {
    params[i] = (unsigned char)(kb->id >> (8 * i));
    params[4 + i] = (unsigned char)(kb->space >> (8 * i));
  }
  RAG_TRY(rag_jobs_submit_txn(op->kbs->jobs, txn, "kb-delete", kb->name, rag_slice_of(params, sizeof params), &op->job,
                              err));
  RAG_TRY(rag_txn_check(txn, err));
  RAG_TRY(rag_kbs__registry_with(op->kbs->pending, NULL, rag_slice_str(kb->name), &op->registry, err));
  rag_ref_drop(op->kbs->pending);
  op->kbs->pending = rag_ref_take(op->registry);
  return RAG_OK;
}

static void delete_publish(void *ctx) {
  delete_op *op = ctx;
  atomic_store_explicit(&op->kb->deleted, true, memory_order_relaxed);
  rag_cell_set(&op->kbs->registry, op->registry);
  op->registry = NULL;
  rag_jobs_wake(op->kbs->jobs);
}

static void delete_abandon(void *ctx) {
  delete_op *op = ctx;
  rag_kbs__registry_abandon(op->kbs, op->registry);
  op->registry = NULL;
}

rag_status rag_kbs_delete(rag_kbs *kbs, rag_slice name, uint64_t *out_job, rag_error *err) {
  delete_op op = {.kbs = kbs};
  RAG_TRY(rag_kbs_get(kbs, name, &op.kb, err));
  rag_status status = rag_store_commit(kbs->store,
                                       &(rag_commit_request){.apply = delete_apply,
                                                             .publish = delete_publish,
                                                             .abandon = delete_abandon,
                                                             .ctx = &op,
                                                             .room = RAG_STORE_ROOM_MADE},
                                       err);
  if (status == RAG_OK) {
    rag_kb__version_cache_forget(kbs, op.kb->id);
    rag_kb__survivors_forget(kbs, op.kb->id);
    rag_kb__objects_forget_kb(kbs->objects, op.kb->id);
    *out_job = op.job;
  }
  rag_ref_drop(op.kb);
  return status;
}
