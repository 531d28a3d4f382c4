// Retrieval: search.
//
// A search on a small kb costs microseconds, so it runs where it arrived, on the network thread: handing it to a worker
// would cost more than the search. One that would hold up the thread's other connections asks for a worker instead
// (wants_worker): a scan of many rows, many hits, or a wait for a commit.
#include "api/dispatch_internal.h"

#define K_DEFAULT 10u
#define WAIT_MS_DEFAULT 1000u // for min_commit, where timeout_ms is not given
#define WAIT_MS_MAX 60000u
// What may run inline: 2 M components are 8 MB of vectors, about 0.3 ms of one core. A text query's dimension is not
// known here and taken for the default model's.
#define INLINE_COMPONENTS_MAX (UINT64_C(2) << 20)
#define INLINE_DIMENSION_GUESS 384u
#define INLINE_HITS_MAX 200u

typedef struct included {
  bool text, metadata, vector, scores, plan;
} included;

static rag_status included_of(const Ragd__V1__SearchRequest *in, included *out, rag_error *err) {
  static const char *const names[] = {"text", "metadata", "vector", "scores", "plan"};
  *out = (included){0};
  if (in->n_include == 0) *out = (included){.text = true, .metadata = true, .scores = true};
  for (size_t i = 0; i < in->n_include; i++) {
    bool *flags[] = {&out->text, &out->metadata, &out->vector, &out->scores, &out->plan};
    size_t at = 0;
    while (at < RAG_COUNT_OF(names) && strcmp(in->include[i], names[at]) != 0) at++;
    if (at == RAG_COUNT_OF(names))
      return rag_api__fail_choice(err, "include", rag_slice_str(in->include[i]), names, RAG_COUNT_OF(names));
    *flags[at] = true;
  }
  return RAG_OK;
}

static rag_status check_mode(const char *mode, rag_error *err) {
  static const char *const names[] = {"vector", "lexical", "hybrid"};
  if (!mode[0] || strcmp(mode, "vector") == 0) return RAG_OK;
  if (strcmp(mode, "lexical") == 0 || strcmp(mode, "hybrid") == 0)
    return rag_fail_field(err, RAG_UNIMPLEMENTED, "mode",
                          "mode: this build ranks by vectors only and has no '%s'; leave mode out to get the best that "
                          "there is, or say 'vector'",
                          mode);
  return rag_api__fail_choice(err, "mode", rag_slice_str(mode), names, RAG_COUNT_OF(names));
}

static rag_status search_of(const rag_call *call, const Ragd__V1__SearchRequest *in, const included *include,
                            rag_search *out, rag_error *err) {
  *out = (rag_search){
      .query = rag_slice_str(in->query),
      .vector = in->vector.len ? (const float *)(const void *)in->vector.data : NULL, // aligned by the codecs
      .vector_dimension = (uint32_t)(in->vector.len / sizeof(float)),
      .k = in->k_presence_case ? in->k : K_DEFAULT,
      .offset = in->offset,
      .has_min_score = in->min_score_presence_case,
      .min_score = in->min_score,
      .at = rag_slice_str(in->at),
      .exact = in->exact,
      .want_text = include->text,
      .want_metadata = include->metadata,
      .want_vector = include->vector,
      .timeout_ms = in->timeout_ms_presence_case ? in->timeout_ms : WAIT_MS_DEFAULT,
      .deadline_ns = call->deadline_ns,
  };
  if (out->timeout_ms > WAIT_MS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "timeout_ms", "timeout_ms: at most %u", WAIT_MS_MAX);
  if (in->min_commit[0]) RAG_TRY(rag_api__commit_parse(in->min_commit, "min_commit", &out->min_commit, err));
  return RAG_OK;
}

static bool takes_long(rag_kb *kb, const rag_search *search) {
  if (search->min_commit || (uint64_t)search->k + search->offset > INLINE_HITS_MAX) return true;
  rag_version *version = NULL;
  if (rag_kb_resolve(kb, search->at, &version, NULL) != RAG_OK) return false; // the search will say why
  uint64_t dimension = search->vector ? search->vector_dimension : INLINE_DIMENSION_GUESS;
  uint64_t components = rag_version_chunks(version) * dimension;
  rag_ref_drop(version);
  return components > INLINE_COMPONENTS_MAX;
}

// ---------------------------------------------------------------------------------------------- the answer

typedef struct hit_room { // of one hit, so that an answer takes one piece of the arena and not two a hit
  Ragd__V1__Hit hit;
  Ragd__V1__Scores scores;
} hit_room;

static void fill_hit(rag_call *call, const rag_hit *from, const included *include, uint32_t dimension, hit_room *room) {
  Ragd__V1__Hit *hit = &room->hit;
  ragd__v1__hit__init(hit);
  hit->document_id = rag_api__text(call, from->document_id);
  hit->chunk = from->chunk;
  hit->start = from->start;
  hit->end = from->end;
  hit->title = rag_api__text(call, from->title);
  hit->score = from->score;
  hit->source_uri = rag_api__text(call, from->source_uri);
  if (include->text) {
    hit->text_presence_case = RAGD__V1__HIT__TEXT_PRESENCE_TEXT;
    hit->text = rag_api__text(call, from->text);
  }
  if (include->metadata) {
    hit->metadata_presence_case = RAGD__V1__HIT__METADATA_PRESENCE_METADATA;
    hit->metadata = rag_api__text(call, from->metadata);
    if (from->chunk_metadata.size) {
      hit->chunk_metadata_presence_case = RAGD__V1__HIT__CHUNK_METADATA_PRESENCE_CHUNK_METADATA;
      hit->chunk_metadata = rag_api__text(call, from->chunk_metadata);
    }
  }
  if (include->vector && from->vector) // borrowed until the answer is encoded
    hit->vector = (ProtobufCBinaryData){dimension * sizeof(float), (uint8_t *)(uintptr_t)from->vector};
  if (include->scores) {
    ragd__v1__scores__init(&room->scores);
    room->scores.vector_presence_case = RAGD__V1__SCORES__VECTOR_PRESENCE_VECTOR;
    room->scores.vector = from->score;
    hit->scores = &room->scores;
  }
}

static rag_status response_of(rag_call *call, const rag_search_result *result, const included *include,
                              Ragd__V1__SearchResponse **out, rag_error *err) {
  Ragd__V1__SearchResponse *response = API_NEW(call, search_response);
  hit_room *rooms;
  if (!response) return rag_fail_no_memory(err, sizeof(*response));
  RAG_TRY(rag_api__new_array(call, result->count, sizeof(*response->hits), &response->hits, err));
  RAG_TRY(rag_api__new_array(call, result->count, sizeof(*rooms), &rooms, err));
  for (uint32_t i = 0; i < result->count; i++) {
    fill_hit(call, &result->hits[i], include, result->dimension, &rooms[i]);
    response->hits[i] = &rooms[i].hit;
  }
  response->n_hits = result->count;
  response->commit = rag_api__commit_text(call, result->commit);
  response->space = rag_api__text_str(call, result->space);
  response->index_build = rag_api__text_str(call, result->index_build);
  response->pending_chunks = result->pending_chunks;
  response->took_us = result->took_ns / 1000;
  if (include->plan) {
    Ragd__V1__Plan *plan = API_NEW(call, plan);
    if (!plan) return rag_fail_no_memory(err, sizeof(*plan));
    plan->engine = rag_api__text_str(call, result->plan.vector.engine);
    plan->selectivity = result->plan.selectivity;
    plan->candidates = result->plan.vector.candidates;
    plan->segments = result->plan.vector.segments;
    response->plan = plan;
  }
  *out = response;
  return RAG_OK;
}

static void result_free(void *arg) {
  rag_search_result_free(arg);
}

API_HANDLER(search) {
  const Ragd__V1__SearchRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  included include;
  rag_search search;
  Ragd__V1__SearchResponse *out = NULL;
  rag_status status = RAG_OK;
  RAG_TRY(check_mode(in->mode, err));
  RAG_TRY(included_of(in, &include, err));
  RAG_TRY(search_of(call, in, &include, &search, err));
  rag_search_result *result = rag_arena_calloc(call->arena, 1, sizeof(*result));
  if (!result) return rag_fail_no_memory(err, sizeof(*result));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  rag_api__call_defer(call, rag_ref_drop, kb); // the result borrows from the kb
  if (call->may_not_wait && takes_long(kb, &search)) {
    call->wants_worker = true;
    return rag_fail(err, RAG_UNAVAILABLE, "this search is for a worker");
  }
  RAG_TRY(rag_kb_search(kb, &search, result, err));
  rag_api__call_defer(call, result_free, result);
  status = response_of(call, result, &include, &out, err);
  if (status == RAG_OK) *response = &out->base;
  return status;
}
