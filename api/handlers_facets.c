// Retrieval: facets, the values of metadata fields with the number of documents that have each.
#include "api/dispatch_internal.h"

#define FACET_LIMIT_DEFAULT 10u

// A value as JSON text.
static char *value_text(rag_call *call, const rag_facet_value *value) {
  rag_buf text = {0};
  switch (value->kind) {
  case RAG_FACET_STRING:
    rag_json_put_string(&text, value->string);
    break;
  case RAG_FACET_INT:
    rag_json_put_int(&text, value->integer);
    break;
  case RAG_FACET_DOUBLE:
    rag_json_put_double(&text, value->number);
    break;
  case RAG_FACET_BOOL:
    rag_buf_append_str(&text, value->integer ? "true" : "false");
    break;
  }
  if (text.failed) call->out_of_memory = true;
  char *copy = rag_api__text(call, rag_buf_slice(&text));
  rag_buf_free(&text);
  return copy;
}

static rag_status facet_message(rag_call *call, const rag_facet *from, Ragd__V1__Facet **out, rag_error *err) {
  Ragd__V1__Facet *facet = API_NEW(call, facet);
  Ragd__V1__FacetValue *values;
  if (!facet) return rag_fail_no_memory(err, sizeof(*facet));
  RAG_TRY(rag_api__new_array(call, from->value_count, sizeof(*values), &values, err));
  RAG_TRY(rag_api__new_array(call, from->value_count, sizeof(*facet->values), &facet->values, err));
  for (uint32_t i = 0; i < from->value_count; i++) {
    ragd__v1__facet_value__init(&values[i]);
    values[i].value = value_text(call, &from->values[i]);
    values[i].count = from->values[i].count;
    facet->values[i] = &values[i];
  }
  facet->n_values = from->value_count;
  facet->field = rag_api__text(call, from->field);
  facet->distinct = from->distinct;
  facet->documents = from->documents;
  if (from->has_range) {
    facet->min_presence_case = RAGD__V1__FACET__MIN_PRESENCE_MIN;
    facet->min = from->min;
    facet->max_presence_case = RAGD__V1__FACET__MAX_PRESENCE_MAX;
    facet->max = from->max;
  }
  *out = facet;
  return RAG_OK;
}

static rag_status response_of(rag_call *call, const rag_facet_result *result, ProtobufCMessage **out, rag_error *err) {
  Ragd__V1__FacetsResponse *response = API_NEW(call, facets_response);
  if (!response) return rag_fail_no_memory(err, sizeof(*response));
  RAG_TRY(rag_api__new_array(call, result->facet_count, sizeof(*response->facets), &response->facets, err));
  for (uint32_t i = 0; i < result->facet_count; i++)
    RAG_TRY(facet_message(call, &result->facets[i], &response->facets[i], err));
  response->n_facets = result->facet_count;
  response->commit = rag_api__commit_text(call, result->commit);
  response->documents = result->documents;
  response->took_us = result->took_ns / 1000;
  response->verified = result->verified;
  response->cached = result->cached;
  *out = &response->base;
  return RAG_OK;
}

static rag_status query_of(rag_call *call, const Ragd__V1__FacetsRequest *in, rag_facet_query *out, rag_error *err) {
  rag_slice *fields;
  if (in->n_fields == 0 || in->n_fields > RAG_FACET_FIELDS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fields",
                          "fields: %zu are outside 1 to %u; name fields of the metadata, as in [\"lang\", \"a.b\"]",
                          in->n_fields, RAG_FACET_FIELDS_MAX);
  *out = (rag_facet_query){
      .at = rag_slice_str(in->at),
      .field_count = (uint32_t)in->n_fields,
      .limit = in->limit_presence_case ? in->limit : FACET_LIMIT_DEFAULT,
      .deadline_ns = call->deadline_ns,
  };
  if (out->limit == 0 || out->limit > RAG_FACET_VALUES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "limit", "limit: %u is outside 1 to %u; without it, it is %u",
                          out->limit, RAG_FACET_VALUES_MAX, FACET_LIMIT_DEFAULT);
  RAG_TRY(rag_api__new_array(call, in->n_fields, sizeof(*fields), &fields, err));
  for (size_t i = 0; i < in->n_fields; i++) fields[i] = rag_slice_str(in->fields[i]);
  out->fields = fields;
  return rag_api__filter_of(call, in->filter, &out->filter, err);
}

API_HANDLER(facets) {
  const Ragd__V1__FacetsRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_facet_query query;
  rag_facet_result result = {0};
  rag_status status = RAG_OK;
  RAG_TRY(query_of(call, in, &query, err));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_facets(kb, &query, &result, err));
  status = response_of(call, &result, response, err);
  rag_facet_result_free(&result);
out:
  rag_ref_drop(kb);
  return status;
}
