// Facets: how many of the matching documents of a version have each value of a field, from the same indexes as filters.
#include "kb/filters/survivors.h"

#include <stdio.h>

void rag_facet_result_free(rag_facet_result *result) {
  if (result == NULL) return;
  rag_arena_destroy(result->arena);
  *result = (rag_facet_result){0};
}

static rag_status check(const rag_facet_query *query, rag_error *err) {
  if (query->field_count == 0 || query->field_count > RAG_FACET_FIELDS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fields", "fields names 1 to %u fields", RAG_FACET_FIELDS_MAX);
  if (query->limit == 0 || query->limit > RAG_FACET_VALUES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "limit", "limit is 1 to %u", RAG_FACET_VALUES_MAX);
  return RAG_OK;
}

static rag_status count_fields(rag_kb *kb, const rag_facet_query *query, const rag_version *version,
                               const rag_bitmap *survivors, rag_facet_result *out, rag_error *err) {
  rag_kb__filter_reader reader;
  RAG_TRY(rag_kb__filter_reader_open(&reader, kb, version, query->deadline_ns, err));
  rag_status status = RAG_OK;
  for (uint32_t i = 0; status == RAG_OK && i < query->field_count; i++) {
    uint64_t verified = 0;
    status = rag_kb__facet(&reader.source, query->fields[i], survivors, query->limit, out->arena, &out->facets[i],
                           &verified, err);
    if (status == RAG_INVALID_ARGUMENT && err != NULL) snprintf(err->field, sizeof err->field, "fields[%u]", i);
    out->facets[i].field = query->fields[i];
    out->verified += verified;
  }
  rag_kb__filter_reader_close(&reader);
  return status;
}

static rag_status facets_once(rag_kb *kb, const rag_facet_query *query, uint64_t mark, rag_facet_result *out,
                              rag_error *err) {
  uint64_t start_ns = rag_clock_monotonic_ns();
  rag_facet_result result = {.facet_count = query->field_count};
  rag_version *version = NULL;
  rag_kb__survivors *survivors = NULL;
  rag_status status = RAG_OK;
  RAG_TRY(check(query, err));
  RAG_TRY(rag_kb_resolve(kb, query->at, &version, err));
  if ((result.arena = rag_arena_create(0)) == NULL ||
      (result.facets = rag_arena_calloc(result.arena, query->field_count, sizeof *result.facets)) == NULL) {
    status = rag_fail_no_memory(err, query->field_count * sizeof *result.facets);
    goto out;
  }
  const rag_bitmap *set = version->revisions;
  if (query->filter != NULL) {
    RAG_TRY_OUT(
        rag_kb__survivors_of(kb, version, query->filter, false, query->deadline_ns, &survivors, &result.cached, err));
    set = survivors->documents;
    result.verified = survivors->verified;
  }
  RAG_TRY_OUT(count_fields(kb, query, version, set, &result, err));
  RAG_TRY_OUT(rag_kb__still_kept(kb, mark, version, err));
  result.commit = version->commit;
  result.documents = rag_bitmap_count(set);
  result.took_ns = rag_clock_monotonic_ns() - start_ns;
  *out = result;
  result = (rag_facet_result){0};
out:
  rag_facet_result_free(&result);
  rag_ref_drop(survivors);
  rag_ref_drop(version);
  return status;
}

rag_status rag_kb_facets(rag_kb *kb, const rag_facet_query *query, rag_facet_result *out, rag_error *err) {
  rag_status status;
  uint64_t mark;
  unsigned waited = 0;
  do {
    mark = rag_kb__history_mark(kb);
    status = facets_once(kb, query, mark, out, err);
  } while (rag_kb__read_again(kb, mark, status, &waited));
  return status;
}
