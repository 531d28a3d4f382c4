// What a search found -> the answer: hits, and the plan with its numbers. Everything is copied into the call's arena, so
// that a batch holds one result's records at a time.
#include "api/dispatch_internal.h"

// ---------------------------------------------------------------------------------------------- hits

typedef struct hit_room { // of one hit, so that an answer takes one piece of the arena and not two a hit
  Ragd__V1__Hit hit;
  Ragd__V1__Scores scores;
} hit_room;

static void fill_scores(const rag_hit *from, Ragd__V1__Scores *scores) {
  ragd__v1__scores__init(scores);
  if (from->has_vector_score) {
    scores->vector_presence_case = RAGD__V1__SCORES__VECTOR_PRESENCE_VECTOR;
    scores->vector = from->vector_score;
  }
  if (from->has_lexical_score) {
    scores->lexical_presence_case = RAGD__V1__SCORES__LEXICAL_PRESENCE_LEXICAL;
    scores->lexical = from->lexical_score;
  }
}

static rag_status fill_spans(rag_call *call, const rag_hit *from, Ragd__V1__Hit *hit, rag_error *err) {
  Ragd__V1__Span *spans;
  RAG_TRY(rag_api__new_array(call, from->highlight_count, sizeof(*spans), &spans, err));
  RAG_TRY(rag_api__new_array(call, from->highlight_count, sizeof(*hit->highlights), &hit->highlights, err));
  for (uint32_t i = 0; i < from->highlight_count; i++) {
    ragd__v1__span__init(&spans[i]);
    spans[i].start = from->highlights[i].start;
    spans[i].end = from->highlights[i].end;
    hit->highlights[i] = &spans[i];
  }
  hit->n_highlights = from->highlight_count;
  return RAG_OK;
}

static rag_status fill_vector(rag_call *call, const float *vector, uint32_t dimension, ProtobufCBinaryData *out,
                              rag_error *err) {
  float *copy;
  RAG_TRY(rag_api__new_array(call, dimension, sizeof(*copy), &copy, err));
  memcpy(copy, vector, dimension * sizeof(*copy));
  *out = (ProtobufCBinaryData){dimension * sizeof(*copy), (uint8_t *)copy};
  return RAG_OK;
}

static rag_status fill_hit(rag_call *call, const rag_api__search_call *search, const rag_hit *from, uint32_t dimension,
                           hit_room *room, rag_error *err) {
  Ragd__V1__Hit *hit = &room->hit;
  ragd__v1__hit__init(hit);
  hit->document_id = rag_api__text(call, from->document_id);
  hit->chunk = from->chunk;
  hit->start = from->start;
  hit->end = from->end;
  hit->title = rag_api__text(call, from->title);
  hit->score = from->score;
  hit->source_uri = rag_api__text(call, from->source_uri);
  if (search->search.want_text) {
    hit->text_presence_case = RAGD__V1__HIT__TEXT_PRESENCE_TEXT;
    hit->text = rag_api__text(call, from->text);
  }
  if (search->search.want_metadata) {
    hit->metadata_presence_case = RAGD__V1__HIT__METADATA_PRESENCE_METADATA;
    hit->metadata = rag_api__text(call, from->metadata);
    if (from->chunk_metadata.size) {
      hit->chunk_metadata_presence_case = RAGD__V1__HIT__CHUNK_METADATA_PRESENCE_CHUNK_METADATA;
      hit->chunk_metadata = rag_api__text(call, from->chunk_metadata);
    }
  }
  if (search->scores) {
    fill_scores(from, &room->scores);
    hit->scores = &room->scores;
  }
  if (search->search.want_vector && from->vector)
    RAG_TRY(fill_vector(call, from->vector, dimension, &hit->vector, err));
  return from->highlight_count ? fill_spans(call, from, hit, err) : RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the plan

static uint64_t us_of(uint64_t ns) {
  return ns / 1000;
}

static rag_status fusion_plan(rag_call *call, const rag_fusion *from, Ragd__V1__Fusion **out, rag_error *err) {
  Ragd__V1__Fusion *fusion = API_NEW(call, fusion);
  Ragd__V1__FusionWeights *weights = API_NEW(call, fusion_weights);
  if (!fusion || !weights) return rag_fail_no_memory(err, sizeof(*fusion));
  fusion->method = rag_api__text_str(call, from->method == RAG_FUSION_WEIGHTED ? "weighted" : "rrf");
  if (from->method == RAG_FUSION_RRF) {
    fusion->k_presence_case = RAGD__V1__FUSION__K_PRESENCE_K;
    fusion->k = from->k;
  }
  weights->vector_presence_case = RAGD__V1__FUSION_WEIGHTS__VECTOR_PRESENCE_VECTOR;
  weights->vector = from->vector_weight;
  weights->lexical_presence_case = RAGD__V1__FUSION_WEIGHTS__LEXICAL_PRESENCE_LEXICAL;
  weights->lexical = from->lexical_weight;
  fusion->weights = weights;
  *out = fusion;
  return RAG_OK;
}

static rag_status lexical_plan(rag_call *call, const rag_search_plan *from, Ragd__V1__LexicalPlan **out,
                               rag_error *err) {
  Ragd__V1__LexicalPlan *plan = API_NEW(call, lexical_plan);
  if (!plan) return rag_fail_no_memory(err, sizeof(*plan));
  plan->clauses = from->query_clauses;
  plan->terms = from->lexical.terms;
  plan->postings = from->lexical.postings;
  plan->postings_scored = from->lexical.postings_scored;
  plan->blocks_decoded = from->lexical.blocks_decoded;
  plan->windows = from->lexical.windows;
  plan->windows_skipped = from->lexical.windows_skipped;
  plan->offered = from->lexical.offered;
  plan->only_stop_words = from->only_stop_words;
  plan->query_truncated = from->query_truncated;
  plan->prefix_truncated = from->lexical.prefix_truncated;
  *out = plan;
  return RAG_OK;
}

static rag_status filter_plan(rag_call *call, const rag_search_plan *from, Ragd__V1__FilterPlan **out, rag_error *err) {
  Ragd__V1__FilterPlan *plan = API_NEW(call, filter_plan);
  if (!plan) return rag_fail_no_memory(err, sizeof(*plan));
  plan->conditions = from->filter_conditions;
  plan->indexed = from->filter_indexed;
  plan->verified = from->filter_verified;
  plan->cached = from->filter_cached;
  *out = plan;
  return RAG_OK;
}

static rag_status plan_of(rag_call *call, const rag_search_plan *from, Ragd__V1__Plan **out, rag_error *err) {
  Ragd__V1__Plan *plan = API_NEW(call, plan);
  if (!plan) return rag_fail_no_memory(err, sizeof(*plan));
  plan->engine = rag_api__text_str(call, from->vector.engine);
  plan->selectivity = from->selectivity;
  plan->candidates = from->vector.candidates;
  plan->segments = from->vector.segments;
  if (from->vector.engine) {
    plan->rescored = from->vector.rescored;
    plan->tail_rows = from->vector.tail_rows;
    plan->walked = from->vector.walked;
    plan->setting = from->vector.setting;
    plan->expected_recall = from->vector.expected_recall;
    plan->disk_reads = from->disk_reads;
  }
  plan->mode = rag_api__text_str(call, rag_search_mode_name(from->mode));
  plan->reason = rag_api__text_str(call, from->reason);
  plan->documents = from->documents;
  plan->chunks = from->chunks;
  plan->documents_matched = from->documents_matched;
  plan->chunks_matched = from->chunks_matched;
  plan->fused = from->fused;
  plan->depth = from->depth;
  if (from->mode == RAG_SEARCH_HYBRID) RAG_TRY(fusion_plan(call, &from->fusion, &plan->fusion, err));
  plan->filter_us = us_of(from->filter_ns);
  plan->embed_us = us_of(from->embed_ns);
  plan->vector_us = us_of(from->vector_ns);
  plan->lexical_us = us_of(from->lexical_ns);
  plan->rank_us = us_of(from->rank_ns);
  plan->fetch_us = us_of(from->fetch_ns);
  if (from->filtered) RAG_TRY(filter_plan(call, from, &plan->filter, err));
  if (from->lexical_searched) RAG_TRY(lexical_plan(call, from, &plan->lexical, err));
  *out = plan;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the answer

static rag_status response_of(rag_call *call, const rag_api__search_call *search, const rag_search_result *result,
                              Ragd__V1__SearchResponse **out, rag_error *err) {
  Ragd__V1__SearchResponse *response = API_NEW(call, search_response);
  hit_room *rooms;
  if (!response) return rag_fail_no_memory(err, sizeof(*response));
  RAG_TRY(rag_api__new_array(call, result->count, sizeof(*response->hits), &response->hits, err));
  RAG_TRY(rag_api__new_array(call, result->count, sizeof(*rooms), &rooms, err));
  for (uint32_t i = 0; i < result->count; i++) {
    RAG_TRY(fill_hit(call, search, &result->hits[i], result->dimension, &rooms[i], err));
    response->hits[i] = &rooms[i].hit;
  }
  response->n_hits = result->count;
  response->commit = rag_api__commit_text(call, result->commit);
  response->space = rag_api__text_str(call, result->space);
  response->index_build = rag_api__text_str(call, result->index_build);
  response->pending_chunks = result->pending_chunks;
  response->took_us = us_of(result->took_ns);
  if (search->plan) RAG_TRY(plan_of(call, &result->plan, &response->plan, err));
  *out = response;
  return RAG_OK;
}

rag_status rag_api__search_run(rag_call *call, rag_kb *kb, const rag_api__search_call *search,
                               Ragd__V1__SearchResponse **out, uint64_t *out_commit, rag_error *err) {
  rag_search_result result = {0};
  RAG_TRY(rag_kb_search(kb, &search->search, &result, err));
  rag_api__call_plan(call, &result.plan);
  rag_status status = response_of(call, search, &result, out, err);
  if (out_commit) *out_commit = result.commit;
  rag_search_result_free(&result);
  return status;
}
