// A search as the API takes it -> a search as kb/ takes it: defaults, and the checks of what only the API knows (names
// of modes, fields that are given or not). What kb/ checks by itself (k, offset, vectors, refs) is left to it.
#include "api/dispatch_internal.h"

#include <float.h>

#define K_DEFAULT 10u
#define WAIT_MS_DEFAULT 1000u // for min_commit, where timeout_ms is not given
#define WAIT_MS_MAX 60000u
#define MMR_LAMBDA_DEFAULT 0.5f

static rag_status mode_of(const char *text, rag_search_mode *out, rag_error *err) {
  static const char *const names[] = {"hybrid", "vector", "lexical"};
  static const rag_search_mode modes[] = {RAG_SEARCH_HYBRID, RAG_SEARCH_VECTOR, RAG_SEARCH_LEXICAL};
  *out = RAG_SEARCH_AUTO;
  if (!text[0]) return RAG_OK;
  for (size_t i = 0; i < RAG_COUNT_OF(names); i++) {
    if (strcmp(text, names[i]) != 0) continue;
    *out = modes[i];
    return RAG_OK;
  }
  return rag_api__fail_choice(err, "mode", rag_slice_str(text), names, RAG_COUNT_OF(names));
}

static rag_status include_of(const Ragd__V1__SearchRequest *in, rag_api__search_call *out, rag_error *err) {
  static const char *const names[] = {"text", "metadata", "vector", "scores", "highlights", "plan"};
  rag_search *search = &out->search;
  if (in->n_include == 0) search->want_text = search->want_metadata = out->scores = true;
  for (size_t i = 0; i < in->n_include; i++) {
    bool *flags[] = {&search->want_text, &search->want_metadata,   &search->want_vector,
                     &out->scores,       &search->want_highlights, &out->plan};
    size_t at = 0;
    while (at < RAG_COUNT_OF(names) && strcmp(in->include[i], names[at]) != 0) at++;
    if (at == RAG_COUNT_OF(names))
      return rag_api__fail_choice(err, "include", rag_slice_str(in->include[i]), names, RAG_COUNT_OF(names));
    *flags[at] = true;
  }
  return RAG_OK;
}

static rag_status group_of(const Ragd__V1__GroupByDocument *in, uint32_t *out, rag_error *err) {
  if (!in) return RAG_OK;
  *out = in->per_document_presence_case ? in->per_document : 1;
  if (*out >= 1 && *out <= RAG_INDEX_K_MAX) return RAG_OK;
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "group_by_document.per_document",
                        "group_by_document.per_document: %u is outside 1 to %u; without it, it is 1", *out,
                        RAG_INDEX_K_MAX);
}

static rag_status mmr_of(const Ragd__V1__Mmr *in, rag_search *out, rag_error *err) {
  if (!in) return RAG_OK;
  out->has_mmr = true;
  out->mmr_lambda = in->lambda_presence_case ? in->lambda : MMR_LAMBDA_DEFAULT;
  out->mmr_candidates = in->candidates;                // 0: not given
  if (!(out->mmr_lambda >= 0 && out->mmr_lambda <= 1)) // NaN too
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mmr.lambda",
                          "mmr.lambda: %g is outside 0 (diversity) to 1 (relevance)", (double)out->mmr_lambda);
  uint64_t least = (uint64_t)out->k + out->offset;
  if (in->candidates_presence_case && (in->candidates < least || in->candidates > RAG_MMR_CANDIDATES_MAX))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mmr.candidates",
                          "mmr.candidates: %u is outside k + offset (%llu) to %u: it is how many hits to choose from",
                          in->candidates, (unsigned long long)least, RAG_MMR_CANDIDATES_MAX);
  if (least > RAG_MMR_CANDIDATES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mmr", "mmr: k + offset (%llu) is at most %u with it",
                          (unsigned long long)least, RAG_MMR_CANDIDATES_MAX);
  return RAG_OK;
}

static bool is_weight(float weight) {
  return weight >= 0 && weight <= FLT_MAX; // no NaN
}

static rag_status weights_of(const Ragd__V1__FusionWeights *in, rag_fusion *out, rag_error *err) {
  if (!in) return RAG_OK;
  out->has_weights = true;
  out->vector_weight = in->vector_presence_case ? in->vector : 1;
  out->lexical_weight = in->lexical_presence_case ? in->lexical : 1;
  bool vector_fine = is_weight(out->vector_weight), lexical_fine = is_weight(out->lexical_weight);
  if (!vector_fine || !lexical_fine) {
    const char *field = vector_fine ? "fusion.weights.lexical" : "fusion.weights.vector";
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: %g is no weight: 0 or more, finite", field,
                          (double)(vector_fine ? out->lexical_weight : out->vector_weight));
  }
  if (out->vector_weight == 0 && out->lexical_weight == 0)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fusion.weights", "fusion.weights: not both may be 0");
  return RAG_OK;
}

static rag_status fusion_of(const Ragd__V1__Fusion *in, rag_fusion *out, rag_error *err) {
  static const char *const names[] = {"rrf", "weighted"}; // in the order of rag_fusion_method
  size_t at = 0;
  while (at < RAG_COUNT_OF(names) && strcmp(in->method[0] ? in->method : "rrf", names[at]) != 0) at++;
  if (at == RAG_COUNT_OF(names))
    return rag_api__fail_choice(err, "fusion.method", rag_slice_str(in->method), names, RAG_COUNT_OF(names));
  out->method = (rag_fusion_method)at;
  out->k = in->k_presence_case ? in->k : RAG_FUSION_K_DEFAULT;
  if (out->k == 0 || out->k > RAG_FUSION_K_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fusion.k",
                          "fusion.k: %u is outside 1 to %u; without it, it is %u", out->k, RAG_FUSION_K_MAX,
                          RAG_FUSION_K_DEFAULT);
  return weights_of(in->weights, out, err);
}

static rag_status params_of(const Ragd__V1__SearchParams *in, rag_search *out, rag_error *err) {
  if (!in) return RAG_OK;
  if (in->target_recall_presence_case && !(in->target_recall > 0 && in->target_recall <= 1))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "params.target_recall",
                          "params.target_recall: %g is outside (0, 1]", in->target_recall);
  const struct {
    bool given;
    uint32_t value;
    const char *field;
  } counts[] = {{in->ef_presence_case != 0, in->ef, "params.ef"},
                {in->nprobe_presence_case != 0, in->nprobe, "params.nprobe"},
                {in->rerank_presence_case != 0, in->rerank, "params.rerank"}};
  for (size_t i = 0; i < RAG_COUNT_OF(counts); i++)
    if (counts[i].given && counts[i].value == 0)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, counts[i].field, "%s: is at least 1", counts[i].field);
  if (in->target_recall_presence_case) out->target_recall = in->target_recall;
  if (in->ef_presence_case) out->ef = in->ef;
  if (in->nprobe_presence_case) out->nprobe = in->nprobe;
  if (in->rerank_presence_case) out->rerank = in->rerank;
  return RAG_OK;
}

rag_status rag_api__filter_of(rag_call *call, const char *text, const rag_filter **out, rag_error *err) {
  *out = NULL;
  return text[0] ? rag_filter_parse(rag_slice_str(text), call->arena, out, err) : RAG_OK;
}

rag_status rag_api__search_of(rag_call *call, const Ragd__V1__SearchRequest *in, rag_api__search_call *out,
                              rag_error *err) {
  *out = (rag_api__search_call){0};
  rag_search *search = &out->search;
  *search = (rag_search){
      .query = rag_slice_str(in->query),
      .vector = in->vector.len ? (const float *)(const void *)in->vector.data : NULL, // aligned by the codecs
      .vector_dimension = (uint32_t)(in->vector.len / sizeof(float)),
      .k = in->k_presence_case ? in->k : K_DEFAULT,
      .offset = in->offset,
      .has_min_score = in->min_score_presence_case,
      .min_score = in->min_score,
      .at = rag_slice_str(in->at),
      .language = rag_slice_str(in->language),
      .exact = in->exact,
      .timeout_ms = in->timeout_ms_presence_case ? in->timeout_ms : WAIT_MS_DEFAULT,
      .deadline_ns = call->deadline_ns,
  };
  RAG_TRY(mode_of(in->mode, &search->mode, err));
  RAG_TRY(include_of(in, out, err));
  RAG_TRY(group_of(in->group_by_document, &search->per_document, err));
  RAG_TRY(mmr_of(in->mmr, search, err));
  search->fusion_by_model = in->fusion == NULL;
  if (in->fusion) RAG_TRY(fusion_of(in->fusion, &search->fusion, err));
  RAG_TRY(params_of(in->params, search, err));
  if (search->timeout_ms > WAIT_MS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "timeout_ms", "timeout_ms: at most %u", WAIT_MS_MAX);
  if (in->min_commit[0]) RAG_TRY(rag_api__commit_parse(in->min_commit, "min_commit", &search->min_commit, err));
  return rag_api__filter_of(call, in->filter, &search->filter, err);
}
