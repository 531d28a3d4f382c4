// KnowledgeBases: create, get, list, update, delete.
#include "api/dispatch_internal.h"

#include <stdio.h>
#include <stdlib.h>

// The later kinds of what a kb may ask for. Known names get an answer that says so; others are mistakes.
static const char *const engine_names[] = {"auto", "flat", "graph", "ivf", "faiss"};
static const char *const embedding_names[] = {"sync", "async"};
static const char *const chunking_names[] = {"structure", "whole", "fixed"};
static const char *const metric_names[] = {"cosine", "ip", "l2"};
static const char *const datatype_names[] = {"float32", "bfloat16"};

static bool is_one_of(const char *text, const char *const *names, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(text, names[i]) == 0) return true;
  return false;
}

static Ragd__V1__Chunking *chunking_message(rag_call *call, const rag_chunking *chunking) {
  Ragd__V1__Chunking *out = API_NEW(call, chunking);
  if (!out) return NULL;
  out->method = rag_api__text_str(call, rag_chunk_method_name(chunking->method));
  out->max_tokens_presence_case = RAGD__V1__CHUNKING__MAX_TOKENS_PRESENCE_MAX_TOKENS;
  out->max_tokens = chunking->max_tokens;
  out->overlap_tokens_presence_case = RAGD__V1__CHUNKING__OVERLAP_TOKENS_PRESENCE_OVERLAP_TOKENS;
  out->overlap_tokens = chunking->overlap_tokens;
  return out;
}

static rag_status paths_message(rag_call *call, const char *lines, char ***out, size_t *out_count, rag_error *err) {
  size_t count = 0, at = 0;
  for (const char *c = lines ? lines : ""; *c; c++) count += *c == '\n';
  RAG_TRY(rag_api__new_array(call, (uint32_t)count, sizeof(**out), out, err));
  for (const char *c = lines ? lines : ""; *c && at < count; at++) {
    size_t size = strcspn(c, "\n");
    (*out)[at] = rag_api__text(call, rag_slice_of(c, size));
    c += size + 1;
  }
  *out_count = count;
  return RAG_OK;
}

static rag_status fields_message(rag_call *call, const rag_kb_config *config, Ragd__V1__FieldsConfig **out,
                                 rag_error *err) {
  Ragd__V1__FieldsConfig *fields = API_NEW(call, fields_config);
  if (!fields) return rag_fail_no_memory(err, sizeof(*fields));
  RAG_TRY(paths_message(call, config->fields_only, &fields->only, &fields->n_only, err));
  RAG_TRY(paths_message(call, config->fields_except, &fields->except, &fields->n_except, err));
  fields->values_max_presence_case = RAGD__V1__FIELDS_CONFIG__VALUES_MAX_PRESENCE_VALUES_MAX;
  fields->values_max = config->fields_values_max ? config->fields_values_max : RAG_FIELDS_STRINGS_DEFAULT;
  *out = fields;
  return RAG_OK;
}

static rag_status info_message(rag_call *call, const rag_kb_info *info, Ragd__V1__Kb **out, rag_error *err) {
  const rag_kb_config *config = &info->config;
  Ragd__V1__Kb *kb = API_NEW(call, kb);
  Ragd__V1__IndexConfig *index = API_NEW(call, index_config);
  Ragd__V1__FreshnessConfig *freshness = API_NEW(call, freshness_config);
  Ragd__V1__Chunking *chunking = chunking_message(call, &config->chunking);
  if (!kb || !index || !freshness || !chunking) return rag_fail_no_memory(err, sizeof(*kb));
  kb->name = rag_api__text_str(call, config->name);
  kb->description = rag_api__text_str(call, config->description);
  kb->model = rag_api__text_str(call, config->model);
  kb->dimension = config->dimension;
  kb->metric = rag_api__text_str(call, rag_metric_name(config->metric));
  kb->embedding = rag_api__text_str(call, "sync");
  kb->chunking = chunking;
  kb->language = rag_api__text_str(call, config->language);
  index->engine = rag_api__text_str(call, config->engine);
  index->factory = rag_api__text_str(call, config->factory);
  index->target_recall = config->target_recall;
  index->memory_bytes_max = config->memory_bytes_max;
  index->datatype = rag_api__text_str(call, rag_datatype_name(config->datatype));
  kb->index = index;
  RAG_TRY(fields_message(call, config, &kb->fields, err));
  freshness->lag_slo_seconds = config->lag_slo_seconds;
  freshness->max_age_seconds = config->max_age_seconds;
  kb->freshness = freshness;
  kb->created_at = info->created_us;
  kb->space = rag_api__text_str(call, info->space);
  kb->head = rag_api__text_str(call, info->head);
  kb->documents = info->documents;
  kb->chunks = info->chunks;
  kb->commits = info->commits;
  kb->branches = info->branches;
  kb->tags = info->tags;
  *out = kb;
  return RAG_OK;
}

rag_status rag_api__kb_message(rag_call *call, rag_kb *kb, Ragd__V1__Kb **out, rag_error *err) {
  rag_kb_info info = {0};
  RAG_TRY(rag_kb_describe(kb, &info, err));
  rag_status status = info_message(call, &info, out, err);
  rag_kb_info_free(&info);
  return status;
}

static rag_status answer_kb(rag_call *call, rag_kb *kb, ProtobufCMessage **response, rag_error *err) {
  Ragd__V1__Kb *message = NULL;
  RAG_TRY(rag_api__kb_message(call, kb, &message, err));
  *response = &message->base;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- settings

static rag_status set_text(char *out, size_t size, const char *text, const char *field, rag_error *err) {
  if (strlen(text) >= size)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: has %zu bytes; at most %zu are allowed", field,
                          strlen(text), size - 1);
  memcpy(out, text, strlen(text) + 1);
  return RAG_OK;
}

static rag_status set_description(rag_kb_config *config, const char *text, rag_error *err) {
  char *copy = rag_strdup(text);
  if (!copy) return rag_fail_no_memory(err, strlen(text));
  rag_free(config->description);
  config->description = copy;
  return RAG_OK;
}

// What is not given keeps its value.
static rag_status set_chunking(rag_kb_config *config, const Ragd__V1__Chunking *in, rag_error *err) {
  if (!in) return RAG_OK;
  rag_slice method = rag_slice_str(in->method);
  if (method.size && !rag_chunk_method_parse(method, &config->chunking.method))
    return rag_api__fail_choice(err, "chunking.method", method, chunking_names, RAG_COUNT_OF(chunking_names));
  if (in->max_tokens_presence_case) config->chunking.max_tokens = in->max_tokens;
  if (in->overlap_tokens_presence_case) config->chunking.overlap_tokens = in->overlap_tokens;
  return RAG_OK;
}

// A part that is given replaces the whole part.
// A list of paths is kept as lines.
static rag_status set_paths(char **out, char *const *paths, size_t count, const char *field, rag_error *err) {
  rag_buf lines = {0};
  for (size_t i = 0; i < count; i++) {
    if (!paths[i][0] || strchr(paths[i], '\n')) {
      rag_buf_free(&lines);
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s[%zu]: a path is not empty and has no line break",
                            field, i);
    }
    rag_buf_append(&lines, paths[i], strlen(paths[i]));
    rag_buf_append(&lines, "\n", 1);
  }
  rag_status status = rag_buf_check(&lines, err);
  char *made = status == RAG_OK ? rag_strndup((const char *)lines.data, lines.size) : NULL;
  rag_buf_free(&lines);
  if (status != RAG_OK) return status;
  if (!made) return rag_fail_no_memory(err, 0);
  rag_free(*out);
  *out = made;
  return RAG_OK;
}

static rag_status set_fields(rag_kb_config *config, const Ragd__V1__FieldsConfig *in, rag_error *err) {
  if (!in) return RAG_OK;
  RAG_TRY(set_paths(&config->fields_only, in->only, in->n_only, "fields.only", err));
  RAG_TRY(set_paths(&config->fields_except, in->except, in->n_except, "fields.except", err));
  if (in->values_max_presence_case && in->values_max == 0)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fields.values_max",
                          "fields.values_max: at least 1; to index nothing, name fields in except");
  config->fields_values_max = in->values_max_presence_case ? in->values_max : 0;
  return RAG_OK;
}

static rag_status set_index(rag_kb_config *config, const Ragd__V1__IndexConfig *in, rag_error *err) {
  if (!in) return RAG_OK;
  if (in->engine[0] && !is_one_of(in->engine, engine_names, RAG_COUNT_OF(engine_names)))
    return rag_api__fail_choice(err, "index.engine", rag_slice_str(in->engine), engine_names,
                                RAG_COUNT_OF(engine_names));
  if (in->engine[0]) RAG_TRY(set_text(config->engine, sizeof(config->engine), in->engine, "index.engine", err));
  RAG_TRY(set_text(config->factory, sizeof(config->factory), in->factory, "index.factory", err));
  config->target_recall = in->target_recall;
  config->memory_bytes_max = in->memory_bytes_max;
  rag_slice datatype = rag_slice_str(in->datatype); // not given: as it is, since it cannot be changed
  if (datatype.size && !rag_datatype_parse(datatype, &config->datatype))
    return rag_api__fail_choice(err, "index.datatype", datatype, datatype_names, RAG_COUNT_OF(datatype_names));
  return RAG_OK;
}

static void set_freshness(rag_kb_config *config, const Ragd__V1__FreshnessConfig *in) {
  if (!in) return;
  config->lag_slo_seconds = in->lag_slo_seconds;
  config->max_age_seconds = in->max_age_seconds;
}

static rag_status set_embedding(const char *embedding, rag_error *err) {
  if (!embedding[0] || strcmp(embedding, "sync") == 0) return RAG_OK;
  if (strcmp(embedding, "async") != 0)
    return rag_api__fail_choice(err, "embedding", rag_slice_str(embedding), embedding_names,
                                RAG_COUNT_OF(embedding_names));
  return rag_fail_field(err, RAG_UNIMPLEMENTED, "embedding",
                        "embedding: this build embeds before a commit returns; use 'sync' or leave it out");
}

// Vectors come from the model or from the client, never both.
static rag_status set_space(rag_kb_config *config, const Ragd__V1__CreateKbRequest *in, rag_error *err) {
  if (in->dimension_presence_case) {
    if (in->model[0])
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "dimension",
                            "dimension: a model's vectors have the model's dimension; give 'model', or 'dimension' "
                            "when the vectors come from you");
    config->model[0] = '\0';
    config->dimension = in->dimension;
  } else if (in->model[0]) {
    RAG_TRY(set_text(config->model, sizeof(config->model), in->model, "model", err));
  }
  rag_slice metric = rag_slice_str(in->metric);
  if (metric.size && !rag_metric_parse(metric, &config->metric))
    return rag_api__fail_choice(err, "metric", metric, metric_names, RAG_COUNT_OF(metric_names));
  return RAG_OK;
}

static rag_status config_of(const Ragd__V1__CreateKbRequest *in, rag_kb_config *config, rag_error *err) {
  if (!in->name[0])
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "name", "name: is missing; a name is [a-z0-9][a-z0-9._-]{0,62}");
  RAG_TRY(set_text(config->name, sizeof(config->name), in->name, "name", err));
  RAG_TRY(set_description(config, in->description, err));
  RAG_TRY(set_space(config, in, err));
  RAG_TRY(set_embedding(in->embedding, err));
  RAG_TRY(set_chunking(config, in->chunking, err));
  RAG_TRY(set_text(config->language, sizeof(config->language), in->language, "language", err));
  RAG_TRY(set_index(config, in->index, err));
  RAG_TRY(set_fields(config, in->fields, err));
  set_freshness(config, in->freshness);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- calls

API_HANDLER(create_kb) {
  const Ragd__V1__CreateKbRequest *in = (const void *)request;
  rag_kb_config config;
  rag_kb *kb = NULL;
  rag_status status = RAG_OK;
  RAG_TRY(rag_api__check_kb(&call->principal, rag_slice_str(in->name), err)); // here `name` is the kb
  rag_kb_config_init(&config);
  rag_write write = rag_api__write_of(call, "", "", "", "");
  RAG_TRY_OUT(config_of(in, &config, err));
  status = rag_kbs_create(call->api->kbs, &config, &write, &kb, err);
  // Nothing but the model can be missing; embed/ does not know the request's fields.
  if (status == RAG_NOT_FOUND && !err->field[0]) snprintf(err->field, sizeof(err->field), "model");
  if (status != RAG_OK) goto out;
  RAG_TRY_OUT(answer_kb(call, kb, response, err));
out:
  rag_ref_drop(kb);
  rag_kb_config_free(&config);
  return status;
}

API_HANDLER(get_kb) {
  const Ragd__V1__GetKbRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  rag_status status = answer_kb(call, kb, response, err);
  rag_ref_drop(kb);
  return status;
}

// The kbs after `after` that the caller may see, at most limit. A key's list of kbs is short and sorted: walking it
// leaves nothing to filter away.
static rag_status visible_kbs(rag_call *call, rag_slice after, uint32_t limit, rag_kb ***out, uint32_t *out_count,
                              rag_error *err) {
  const rag_strings *scope = call->principal.scope;
  if (!scope) return rag_kbs_list(call->api->kbs, after, limit, out, out_count, err);
  uint32_t count = 0;
  rag_kb **kbs = rag_calloc(limit, sizeof(rag_kb *));
  if (!kbs) return rag_fail_no_memory(err, limit * sizeof(rag_kb *));
  for (size_t i = 0; i < scope->count && count < limit; i++) {
    rag_slice name = rag_slice_str(scope->items[i]);
    if (rag_slice_compare(name, after) <= 0) continue;
    rag_status status = rag_kbs_get(call->api->kbs, name, &kbs[count], err);
    if (status == RAG_OK) count++;
    else if (status != RAG_NOT_FOUND) {
      while (count) rag_ref_drop(kbs[--count]);
      rag_free(kbs);
      return status;
    }
  }
  *out = kbs;
  *out_count = count;
  return RAG_OK;
}

API_HANDLER(list_kbs) {
  const Ragd__V1__ListKbsRequest *in = (const void *)request;
  rag_status status = RAG_OK;
  uint32_t limit, count = 0;
  rag_slice after;
  rag_kb **kbs = NULL;
  RAG_TRY(rag_api__limit(in->limit_presence_case, in->limit, &limit, err));
  RAG_TRY(rag_api__page_position(call, "kbs", "", in->page_token, &after, err));
  Ragd__V1__ListKbsResponse *out = API_NEW(call, list_kbs_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(visible_kbs(call, after, limit, &kbs, &count, err));
  RAG_TRY_OUT(rag_api__new_array(call, count, sizeof(*out->kbs), &out->kbs, err));
  for (uint32_t i = 0; i < count; i++) {
    status = rag_api__kb_message(call, kbs[i], &out->kbs[out->n_kbs], err);
    if (status == RAG_NOT_FOUND) status = RAG_OK; // deleted since it was listed
    else if (status == RAG_OK) out->n_kbs++;
    else goto out;
  }
  if (count == limit)
    out->next_page_token = rag_api__page_token(call, "kbs", "", rag_slice_str(rag_kb_name(kbs[count - 1])));
  *response = &out->base;
out:
  for (uint32_t i = 0; i < count; i++) rag_ref_drop(kbs[i]);
  rag_free(kbs);
  return status;
}

// Settings are read, changed and written back; where somebody else wrote between, again.
#define UPDATE_TRIES_MAX 5u

static rag_status update_once(rag_call *call, const Ragd__V1__UpdateKbRequest *in, rag_kb *kb, rag_error *err) {
  rag_kb_info info = {0};
  rag_status status = RAG_OK;
  RAG_TRY(rag_kb_describe(kb, &info, err));
  if (in->description_presence_case) RAG_TRY_OUT(set_description(&info.config, in->description, err));
  if (in->language_presence_case)
    RAG_TRY_OUT(set_text(info.config.language, sizeof(info.config.language), in->language, "language", err));
  RAG_TRY_OUT(set_chunking(&info.config, in->chunking, err));
  RAG_TRY_OUT(set_index(&info.config, in->index, err));
  RAG_TRY_OUT(set_fields(&info.config, in->fields, err));
  set_freshness(&info.config, in->freshness);
  status = rag_kbs_update(call->api->kbs, &info.config, err);
out:
  rag_kb_info_free(&info);
  return status;
}

API_HANDLER(update_kb) {
  const Ragd__V1__UpdateKbRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  rag_status status = RAG_ABORTED;
  for (unsigned i = 0; i < UPDATE_TRIES_MAX && status == RAG_ABORTED; i++) status = update_once(call, in, kb, err);
  if (status == RAG_OK) status = answer_kb(call, kb, response, err);
  rag_ref_drop(kb);
  return status;
}

API_HANDLER(delete_kb) {
  const Ragd__V1__DeleteKbRequest *in = (const void *)request;
  Ragd__V1__DeleteKbResponse *out = API_NEW(call, delete_kb_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_kbs_delete(call->api->kbs, rag_slice_str(in->kb), &out->job, err));
  *response = &out->base;
  return RAG_OK;
}
