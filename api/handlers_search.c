// Retrieval: search, and several searches at once. search_request.c and search_answer.c translate.
//
// A search on a small kb costs microseconds, so it runs where it arrived, on the network thread: handing it to a worker
// would cost more than the search. One that would hold up the thread's other connections asks for a worker instead
// (wants_worker): takes_long says which. A batch is always a worker's.
#include "api/dispatch_internal.h"

#include <stdio.h>

// What may run inline, each about 0.3 ms of one core at most: bytes of vectors and codes that a search reads, and
// components that are compared to choose diverse hits. A text query's dimension is not known here and taken for the default
// model's.
#define INLINE_VECTOR_BYTES_MAX (UINT64_C(4) << 20)
#define INLINE_COMPONENTS_MAX (UINT64_C(2) << 20)
#define INLINE_DIMENSION_GUESS 384u
#define INLINE_HITS_MAX 200u
#define INLINE_HIGHLIGHTED_MAX 20u // hits whose texts are analysed again, to find the words in them
// Words: a query of a few common ones scores a part of the chunks, at some nanoseconds each. A phrase costs more: the
// words' order is looked up in every chunk that has them all.
#define INLINE_WORDS_CHUNKS_MAX UINT64_C(32768)
#define INLINE_PHRASE_CHUNKS_MAX UINT64_C(2048)
#define INLINE_QUERY_BYTES_MAX ((size_t)8 << 10)
// A filter whose survivors are not known yet may look at every document's metadata, at about a microsecond each.
#define INLINE_FILTER_DOCUMENTS_MAX UINT64_C(256)

#define BATCH_SEARCHES_MAX 256u
#define BATCH_HITS_MAX 262144u // k of all searches together: bounds what one answer holds in memory

// ---------------------------------------------------------------------------------------------- search

static bool asks_for_much(const rag_search *search) {
  uint64_t hits = (uint64_t)search->k + search->offset;
  return search->min_commit || hits > INLINE_HITS_MAX || search->query.size > INLINE_QUERY_BYTES_MAX ||
         (search->want_highlights && search->k > INLINE_HIGHLIGHTED_MAX);
}

// Every candidate is compared with every hit that was chosen before.
static uint64_t mmr_components(const rag_search *search, uint64_t dimension) {
  uint64_t hits = (uint64_t)search->k + search->offset;
  uint64_t candidates = search->mmr_candidates ? search->mmr_candidates : RAG_MIN(4 * hits, RAG_MMR_CANDIDATES_MAX);
  return search->has_mmr ? candidates * hits * dimension : 0;
}

static bool takes_long(rag_kb *kb, const rag_search *search) {
  if (asks_for_much(search)) return true;
  rag_version *version = NULL;
  if (rag_kb_resolve(kb, search->at, &version, NULL) != RAG_OK) return false; // the search will say why
  uint64_t chunks = rag_version_chunks(version), documents = rag_version_documents(version);
  bool known = !search->filter || rag_kb_filter_known(kb, version, search->filter);
  bool by_vector = search->mode != RAG_SEARCH_LEXICAL;
  uint64_t bytes = by_vector ? rag_kb_vector_bytes(kb, version, search->filter != NULL, search->exact) : 0;
  rag_ref_drop(version);
  uint64_t dimension = search->vector ? search->vector_dimension : INLINE_DIMENSION_GUESS;
  if (!known && documents > INLINE_FILTER_DOCUMENTS_MAX) return true;
  if (mmr_components(search, dimension) > INLINE_COMPONENTS_MAX) return true;
  bool words = search->query.size && search->mode != RAG_SEARCH_VECTOR;
  bool phrase = words && memchr(search->query.data, '"', search->query.size);
  if (words && chunks > (phrase ? INLINE_PHRASE_CHUNKS_MAX : INLINE_WORDS_CHUNKS_MAX)) return true;
  return bytes > INLINE_VECTOR_BYTES_MAX;
}

API_HANDLER(search) {
  const Ragd__V1__SearchRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  rag_api__search_call search;
  Ragd__V1__SearchResponse *out = NULL;
  rag_status status = RAG_OK;
  RAG_TRY(rag_api__search_of(call, in, &search, err));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  if (call->may_not_wait && takes_long(kb, &search.search)) {
    call->wants_worker = true;
    RAG_TRY_OUT(rag_fail(err, RAG_UNAVAILABLE, "this search is for a worker"));
  }
  RAG_TRY_OUT(rag_api__search_run(call, kb, &search, &out, NULL, err));
  *response = &out->base;
out:
  rag_ref_drop(kb);
  return status;
}

// ---------------------------------------------------------------------------------------------- a batch

typedef struct batch {
  const char *kb; // its name
  uint32_t count;
  rag_api__search_call *searches;
  uint32_t *leaders; // of each: the search that finds the commit for all of its `at`
  uint64_t *commits; // of each leader, once it is known
} batch;

// "searches[3].k: ...", and the path in err->field.
static rag_status fail_in_batch(rag_error *err, rag_status status, uint32_t at) {
  if (!err) return status;
  char field[RAG_ERROR_FIELD_MAX];
  snprintf(field, sizeof(field), "searches[%u]%s%.*s", at, err->field[0] ? "." : "", (int)sizeof(field) - 24,
           err->field);
  memcpy(err->field, field, sizeof(field));
  (void)rag_error_prefix(err, "searches[%u]", at);
  return status;
}

static rag_status check_kb_name(const batch *b, const char *name, rag_error *err) {
  if (!name[0] || strcmp(name, b->kb) == 0) return RAG_OK;
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, "kb",
                        "kb: is '%.64s'; every search of a batch is of the batch's own, '%.64s'", name, b->kb);
}

// The leader of a ref is its search with the newest min_commit, as all others are content with what it has waited for.
static void choose_leaders(batch *b) {
  for (uint32_t i = 0; i < b->count; i++) {
    const rag_search *search = &b->searches[i].search;
    uint32_t leader = i;
    for (uint32_t k = 0; k < b->count; k++) {
      const rag_search *other = &b->searches[k].search;
      if (!rag_slice_equal(other->at, search->at)) continue;
      uint64_t least = b->searches[leader].search.min_commit;
      if (other->min_commit > least || (other->min_commit == least && k < leader)) leader = k;
    }
    b->leaders[i] = leader;
  }
}

static rag_status batch_of(rag_call *call, const Ragd__V1__SearchBatchRequest *in, batch *out, rag_error *err) {
  uint64_t hits = 0;
  if (in->n_searches == 0 || in->n_searches > BATCH_SEARCHES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "searches", "searches: %zu are outside 1 to %u", in->n_searches,
                          BATCH_SEARCHES_MAX);
  *out = (batch){.kb = in->kb, .count = (uint32_t)in->n_searches};
  RAG_TRY(rag_api__new_array(call, out->count, sizeof(*out->searches), &out->searches, err));
  RAG_TRY(rag_api__new_array(call, out->count, sizeof(*out->leaders), &out->leaders, err));
  RAG_TRY(rag_api__new_array(call, out->count, sizeof(*out->commits), &out->commits, err));
  for (uint32_t i = 0; i < out->count; i++) {
    rag_status status = check_kb_name(out, in->searches[i]->kb, err);
    if (status == RAG_OK) status = rag_api__search_of(call, in->searches[i], &out->searches[i], err);
    if (status != RAG_OK) return fail_in_batch(err, status, i);
    if (out->searches[i].search.at.size == 0) out->searches[i].search.at = rag_slice_str("main");
    hits += out->searches[i].search.k;
  }
  if (hits > BATCH_HITS_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "searches",
                          "searches: they ask for %llu hits together, over %u; send several batches",
                          (unsigned long long)hits, BATCH_HITS_MAX);
  choose_leaders(out);
  return RAG_OK;
}

static rag_status batch_run_one(rag_call *call, rag_kb *kb, batch *b, uint32_t at, Ragd__V1__SearchResponse **out,
                                rag_error *err) {
  rag_api__search_call search = b->searches[at];
  uint64_t *commit = &b->commits[b->leaders[at]];
  if (*commit) search.search.at = rag_slice_str(rag_api__commit_text(call, *commit));
  rag_status status = RAG_OK;
  if (call->deadline_ns && rag_clock_monotonic_ns() >= call->deadline_ns)
    status = rag_fail(err, RAG_DEADLINE_EXCEEDED, "the batch's time was over before its turn came");
  if (status == RAG_OK) status = rag_api__search_run(call, kb, &search, out, *commit ? NULL : commit, err);
  return status == RAG_OK ? RAG_OK : fail_in_batch(err, status, at);
}

API_HANDLER(search_batch) {
  const Ragd__V1__SearchBatchRequest *in = (const void *)request;
  rag_kb *kb = NULL;
  batch b;
  rag_status status = RAG_OK;
  Ragd__V1__SearchBatchResponse *out = API_NEW(call, search_batch_response);
  if (!out) return rag_fail_no_memory(err, sizeof(*out));
  RAG_TRY(batch_of(call, in, &b, err));
  RAG_TRY(rag_api__new_array(call, b.count, sizeof(*out->responses), &out->responses, err));
  RAG_TRY(rag_kbs_get(call->api->kbs, rag_slice_str(in->kb), &kb, err));
  for (int leaders = 1; leaders >= 0; leaders--) // they first: the others are searched at what they have found
    for (uint32_t i = 0; i < b.count; i++)
      if ((b.leaders[i] == i) == (leaders == 1)) RAG_TRY_OUT(batch_run_one(call, kb, &b, i, &out->responses[i], err));
  out->n_responses = b.count;
  *response = &out->base;
out:
  rag_ref_drop(kb);
  return status;
}
