// The index of a knowledge base: what it is made of, and making it compact.
#include "api/dispatch_internal.h"

static rag_status segment_of(rag_call *call, const rag_index_segment_info *from, Ragd__V1__IndexSegment **out,
                             rag_error *err) {
  char name[RAG_SEGMENT_NAME_MAX];
  Ragd__V1__IndexSegment *segment = API_NEW(call, index_segment);
  if (!segment) return rag_fail_no_memory(err, sizeof(*segment));
  rag_segment_name(&from->id, name);
  *strchr(name, '.') = '\0';
  segment->id = rag_api__text_str(call, name);
  segment->engine = rag_api__text_str(call, from->engine);
  segment->history = from->history;
  segment->rows = from->rows;
  segment->present = from->present;
  segment->file_bytes = from->file_bytes;
  segment->memory_bytes = from->memory_bytes;
  segment->recall = from->recall;
  *out = segment;
  return RAG_OK;
}

static rag_status index_of(rag_call *call, rag_kb *kb, const rag_kb_index *info, ProtobufCMessage **response,
                           rag_error *err) {
  Ragd__V1__Index *out = API_NEW(call, index);
  rag_kb_info described;
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(rag_kb_describe(kb, &described, err));
  out->engine = rag_api__text_str(call, described.config.engine);
  rag_kb_info_free(&described);
  out->build = rag_api__text_str(call, info->build);
  out->rows = info->rows;
  out->tail_rows = info->tail_rows;
  out->memory_bytes = info->memory_bytes;
  out->building = info->building;
  RAG_TRY(rag_api__new_array(call, info->count, sizeof(*out->segments), &out->segments, err));
  for (uint32_t i = 0; i < info->count; i++) {
    RAG_TRY(segment_of(call, &info->segments[i], &out->segments[i], err));
    out->n_segments++;
  }
  *response = &out->base;
  return RAG_OK;
}

API_HANDLER(get_index) {
  const Ragd__V1__GetIndexRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_kb_index info = {0};
  rag_status status = RAG_OK;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_index_info(kb, &info, err));
  RAG_TRY_OUT(index_of(call, kb, &info, response, err));
out:
  rag_kb_index_free(&info);
  rag_ref_drop(kb);
  return status;
}

API_HANDLER(compact_index) {
  const Ragd__V1__CompactIndexRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  uint64_t job = 0;
  rag_status status = RAG_OK;
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  RAG_TRY_OUT(rag_kb_index_compact(kb, &job, err));
  RAG_TRY_OUT(rag_api__answer_job(call, job, response, err));
out:
  rag_ref_drop(kb);
  return status;
}
