// A search: ref -> version (a bitmap) -> filter (a smaller one) -> nearest vectors, best words, or both fused -> hits with
// their texts. Takes no lock that a writer holds for longer than a pointer swap; reads no row when the objects are cached.
//
// The order of pinning matters: the version first, the views of the indexes second. Rows are added before the version that
// reaches them is published, so a view pinned later has them all.
//
// Widening. Grouping by document drops chunks of a ranking, so where it leaves too few the sides are asked again twice as
// deep, until there are enough or they have no more.
#include "kb/filters/survivors.h"
#include "kb/retrieval/hits.h"

#include <sys/resource.h>
#include <time.h>

const char *rag_search_mode_name(rag_search_mode mode) {
  static const char *const names[] = {"auto", "vector", "lexical", "hybrid"};
  return (unsigned)mode < RAG_COUNT_OF(names) ? names[mode] : "?";
}

rag_fusion rag_fusion_for_model(rag_slice model) {
  bool hash = model.size > 5 && memcmp(model.data, "hash-", 5) == 0;
  if (!hash) return (rag_fusion){.method = RAG_FUSION_RRF};
  return (rag_fusion){
      .method = RAG_FUSION_WEIGHTED, .has_weights = true, .vector_weight = 0.2f, .lexical_weight = 0.8f};
}

static rag_fusion fusion_of(const rag_kb *kb, const rag_search *search) {
  bool model = search->vector == NULL && kb->embedder != NULL; // else the vector is the caller's, of whatever kind
  rag_fusion fusion = search->fusion;
  if (search->fusion_by_model)
    fusion = rag_fusion_for_model(model ? rag_slice_str(rag_embedder_name(kb->embedder)) : rag_slice_of("", 0));
  if (!fusion.has_weights) fusion.vector_weight = fusion.lexical_weight = 1;
  if (fusion.k == 0) fusion.k = RAG_FUSION_K_DEFAULT;
  fusion.has_weights = true;
  return fusion;
}

// One search, from the checked request to the ranking.
typedef struct run {
  rag_kb *kb;
  const rag_search *search;
  rag_arena *arena;
  rag_version *version;
  rag_kb__config_ref *config;
  void *tables; // a pin: chunk rows stay while it is held
  rag_index_view *vectors;
  rag_lexical_view *lexical;
  rag_kb__survivors *survivors; // NULL: no filter
  const rag_bitmap *chunks;     // that may be hits
  float *vector;                // NULL: not by vector
  rag_kb__analyzer *analyzer;   // NULL: not by words
  rag_words_query words;
  rag_lexical_clause *clauses;
  uint32_t clause_count;
  uint32_t wanted; // candidates that the ranking is for: k + offset, or more to choose from
  rag_kb__candidate *candidates;
  uint32_t count;
  float *room; // for candidates' vectors, where they are not kept as floats; NULL: they are
  rag_search_plan *plan;
} run;

// ---------------------------------------------------------------------------------------------- the request

static rag_status choose_mode(const rag_kb *kb, const rag_search *search, rag_search_plan *plan, rag_error *err) {
  bool words = search->query.size > 0;
  bool meaning = search->vector != NULL || (words && kb->embedder != NULL);
  switch (search->mode) {
  case RAG_SEARCH_AUTO:
    plan->mode = words && meaning ? RAG_SEARCH_HYBRID : words ? RAG_SEARCH_LEXICAL : RAG_SEARCH_VECTOR;
    plan->reason = plan->mode == RAG_SEARCH_HYBRID ? "words and a vector to search with"
                   : words                         ? "the knowledge base has no model: its texts are searched by words"
                                                   : "a vector and no words to search with";
    return RAG_OK;
  case RAG_SEARCH_VECTOR:
    if (!meaning)
      return rag_fail_field(
          err, RAG_INVALID_ARGUMENT, "query",
          "knowledge base '%s' has no model that could embed a text; search by vector (dimension %u), "
          "or with mode lexical by words",
          kb->name, kb->dimension);
    break;
  case RAG_SEARCH_LEXICAL:
  case RAG_SEARCH_HYBRID:
    if (!words)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "query", "mode %s looks for words; give query (text)",
                            rag_search_mode_name(search->mode));
    if (search->mode == RAG_SEARCH_HYBRID && !meaning)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "vector",
                            "knowledge base '%s' has no model that could embed the query; give a vector (dimension %u) "
                            "with it, or search with mode lexical",
                            kb->name, kb->dimension);
    break;
  default:
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mode", "there is no search mode number %d", (int)search->mode);
  }
  plan->mode = search->mode;
  plan->reason = "asked for";
  return RAG_OK;
}

static rag_status check_vector(const rag_kb *kb, const rag_search *search, rag_error *err) {
  if (search->vector == NULL) return RAG_OK;
  if (search->vector_dimension != kb->dimension)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "vector",
                          "the vector has %u components; knowledge base '%s' has dimension %u",
                          search->vector_dimension, kb->name, kb->dimension);
  return rag_vector_check(search->vector, search->vector_dimension, kb->metric, "vector", err);
}

static rag_status check_mmr(const rag_search *search, rag_error *err) {
  uint32_t wanted = search->k + search->offset;
  if (!search->has_mmr) return RAG_OK;
  if (!(search->mmr_lambda >= 0 && search->mmr_lambda <= 1))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mmr.lambda", "lambda is 0 (diversity) to 1 (relevance)");
  if (wanted > RAG_MMR_CANDIDATES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mmr", "with mmr k + offset is at most %u",
                          RAG_MMR_CANDIDATES_MAX);
  if (search->mmr_candidates > RAG_MMR_CANDIDATES_MAX ||
      (search->mmr_candidates != 0 && search->mmr_candidates < wanted))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mmr.candidates",
                          "the candidates to choose from are k + offset (%u) to %u", wanted, RAG_MMR_CANDIDATES_MAX);
  return RAG_OK;
}

static rag_status check(const rag_kb *kb, const rag_search *search, rag_error *err) {
  if (search->query.size == 0 && search->vector == NULL)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "query",
                          "give query (text) or vector: there is nothing to search for");
  if (search->k == 0 || search->k > RAG_INDEX_K_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "k", "k is 1 to %u", RAG_INDEX_K_MAX);
  if ((uint64_t)search->k + search->offset > RAG_INDEX_K_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "offset", "k + offset is at most %u", RAG_INDEX_K_MAX);
  if (search->query.size > RAG_SEARCH_QUERY_BYTES_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "query", "the query has %zu bytes; at most %u are allowed",
                          search->query.size, RAG_SEARCH_QUERY_BYTES_MAX);
  if (!rag_utf8_valid(search->query.data, search->query.size))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "query", "the query is not valid UTF-8");
  if (search->has_min_score && search->min_score != search->min_score)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "min_score", "min_score is NaN: send a number, or leave it out");
  RAG_TRY(rag_kb__fusion_check(&search->fusion, err));
  RAG_TRY(check_mmr(search, err));
  return check_vector(kb, search, err);
}

// min_commit: a commit is searchable when its own call returned, so a wait is only for a commit that another client was
// just told of by other means, or that is not made yet.
static rag_status wait_for_commit(rag_kb *kb, const rag_search *search, rag_version **version, rag_error *err) {
  uint64_t start_ns = rag_clock_monotonic_ns();
  while ((*version)->commit < search->min_commit) {
    uint64_t now_ns = rag_clock_monotonic_ns();
    if (now_ns - start_ns >= search->timeout_ms * UINT64_C(1000000) ||
        (search->deadline_ns != 0 && now_ns >= search->deadline_ns))
      return rag_fail_field(err, RAG_DEADLINE_EXCEEDED, "min_commit", "'%.*s' stands at c%u, not yet at c%llu",
                            search->at.size ? (int)search->at.size : 4, search->at.size ? search->at.data : "main",
                            (*version)->commit, (unsigned long long)search->min_commit);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    rag_ref_drop(*version);
    *version = NULL;
    RAG_TRY(rag_kb_resolve(kb, search->at, version, err));
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- preparing

static rag_status query_vector(run *r, rag_error *err) {
  rag_kb *kb = r->kb;
  const rag_search *search = r->search;
  float *out = r->vector = rag_arena_alloc(r->arena, kb->dimension * sizeof *out);
  if (out == NULL) return rag_fail_no_memory(err, kb->dimension * sizeof *out);
  if (search->vector == NULL) return rag_embedder_embed(kb->embedder, RAG_EMBED_QUERY, &search->query, 1, out, err);
  memcpy(out, search->vector, kb->dimension * sizeof *out);
  if (kb->metric == RAG_METRIC_COSINE) rag_vector_normalize(out, kb->dimension);
  return RAG_OK;
}

static rag_status query_words(run *r, rag_error *err) {
  rag_status status =
      rag_kb__analyzer_for(r->kb, r->search->language, rag_slice_str(r->config->config.language), &r->analyzer, err);
  if (status == RAG_INVALID_ARGUMENT)
    return rag_fail_field(err, status, "language", "'%.*s' is no language tag; give one such as en, de or pt-BR",
                          (int)RAG_MIN(r->search->language.size, (size_t)40), r->search->language.data);
  RAG_TRY(status);
  RAG_TRY(rag_words_parse(rag_kb__analyzer_rules(r->analyzer), r->search->query, r->arena, &r->words, err));
  r->plan->only_stop_words = r->words.only_stop_words;
  r->plan->query_truncated = r->words.truncated;
  r->plan->query_clauses = r->words.clause_count;
  return rag_kb__clauses(&r->words, r->arena, &r->clauses, &r->clause_count, err);
}

static uint64_t lap(uint64_t *since_ns) {
  uint64_t now_ns = rag_clock_monotonic_ns(), took_ns = now_ns - *since_ns;
  *since_ns = now_ns;
  return took_ns;
}

static rag_status prepare(run *r, rag_error *err) {
  const rag_search *search = r->search;
  rag_search_plan *plan = r->plan;
  uint64_t at_ns = rag_clock_monotonic_ns();
  plan->documents = plan->documents_matched = rag_version_documents(r->version);
  plan->chunks = plan->chunks_matched = rag_version_chunks(r->version);
  r->chunks = r->version->chunks;
  if (search->filter != NULL) {
    plan->filtered = true;
    RAG_TRY(rag_kb__survivors_of(r->kb, r->version, search->filter, true, search->deadline_ns, &r->survivors,
                                 &plan->filter_cached, err));
    r->chunks = r->survivors->chunks;
    plan->documents_matched = rag_bitmap_count(r->survivors->documents);
    plan->chunks_matched = rag_bitmap_count(r->chunks);
    plan->filter_verified = r->survivors->verified;
    plan->filter_conditions = r->survivors->conditions;
    plan->filter_indexed = r->survivors->indexed;
    plan->filter_ns = lap(&at_ns);
  }
  if (plan->mode != RAG_SEARCH_LEXICAL) {
    RAG_TRY(query_vector(r, err));
    plan->embed_ns = lap(&at_ns);
  }
  if (plan->mode != RAG_SEARCH_VECTOR || (search->want_highlights && search->query.size > 0))
    RAG_TRY(query_words(r, err));
  r->tables = rag_kb__tables_pin(&r->kb->tables);
  r->vectors = rag_index_pin(r->kb->index);
  r->lexical = rag_lexical_pin(r->kb->lexical);
  r->wanted = search->k + search->offset;
  if (search->has_mmr) {
    uint32_t pool = search->mmr_candidates ? search->mmr_candidates : RAG_MIN(4 * r->wanted, RAG_MMR_CANDIDATES_MAX);
    r->wanted = RAG_MAX(r->wanted, pool);
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- both sides

// Pages that this thread had to wait for. Files of segments are mapped: what memory has no room for is read again, and
// this is where that shows.
static uint64_t pages_read(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_majflt : 0;
}

static rag_status search_vectors(run *r, uint32_t depth, rag_index_hit **out, uint32_t *out_count, rag_error *err) {
  const rag_search *search = r->search;
  uint64_t at_ns = rag_clock_monotonic_ns();
  *out = rag_arena_alloc(r->arena, depth * sizeof **out);
  if (*out == NULL) return rag_fail_no_memory(err, depth * sizeof **out);
  rag_index_query query = {
      .vector = r->vector,
      .k = depth,
      .filter = r->chunks,
      .has_min_score = search->has_min_score && r->plan->mode == RAG_SEARCH_VECTOR,
      .min_score = search->min_score,
      .exact = search->exact,
      // What a fusion, or a choice, looks at beyond what is wanted is there to be outranked.
      .recall_k = r->wanted,
      .target_recall = search->target_recall > 0 ? search->target_recall : r->config->config.target_recall,
      .ef = search->ef,
      .nprobe = search->nprobe,
      .rerank = search->rerank,
      .deadline_ns = search->deadline_ns,
  };
  uint64_t pages = pages_read();
  RAG_TRY(rag_index_search(r->vectors, &query, *out, out_count, &r->plan->vector, err));
  r->plan->disk_reads += pages_read() - pages;
  r->plan->vector_ns += lap(&at_ns);
  return RAG_OK;
}

uint64_t rag_kb_vector_bytes(rag_kb *kb, const rag_version *version, bool filtered, bool exact) {
  uint64_t chunks = rag_version_chunks(version), of_codes = chunks * kb->dimension;
  if (exact) return chunks * rag_kb__vector_bytes(kb->datatype, kb->dimension);
  rag_index_view *view = rag_index_pin(kb->index);
  uint64_t bytes = rag_index_view_search_bytes(view);
  rag_ref_drop(view);
  return filtered ? RAG_MAX(of_codes, bytes) : bytes;
}

static rag_status search_words(run *r, uint32_t depth, rag_lexical_hit **out, uint32_t *out_count, rag_error *err) {
  uint64_t at_ns = rag_clock_monotonic_ns();
  const rag_lexical_version *version;
  *out = rag_arena_alloc(r->arena, depth * sizeof **out);
  if (*out == NULL) return rag_fail_no_memory(err, depth * sizeof **out);
  *out_count = 0;
  r->plan->lexical_searched = true;
  if (r->words.positive_count == 0) return RAG_OK; // nothing to find, be it nothing or -this alone
  RAG_TRY(rag_kb__version_words(r->kb, r->version, r->lexical, &version, err));
  rag_lexical_query query = {
      .clauses = r->clauses,
      .clause_count = r->clause_count,
      .k = depth,
      .filter = r->survivors ? r->chunks : NULL,
      .deadline_ns = r->search->deadline_ns,
  };
  RAG_TRY(rag_lexical_search(r->lexical, version, &query, *out, out_count, &r->plan->lexical, err));
  r->plan->lexical_ns += lap(&at_ns);
  return RAG_OK;
}

// A ranking from sides that were asked `depth` deep. *more: they may have more.
static rag_status rank(run *r, uint32_t depth, bool *more, rag_error *err) {
  rag_index_hit *vector = NULL;
  rag_lexical_hit *lexical = NULL;
  uint32_t vector_count = 0, lexical_count = 0;
  rag_search_mode mode = r->plan->mode;
  if (mode != RAG_SEARCH_LEXICAL) RAG_TRY(search_vectors(r, depth, &vector, &vector_count, err));
  if (mode != RAG_SEARCH_VECTOR) RAG_TRY(search_words(r, depth, &lexical, &lexical_count, err));
  uint64_t at_ns = rag_clock_monotonic_ns();
  size_t room = (size_t)vector_count + lexical_count + 1;
  r->candidates = rag_arena_alloc(r->arena, room * sizeof *r->candidates);
  if (r->candidates == NULL) return rag_fail_no_memory(err, room * sizeof *r->candidates);
  if (mode == RAG_SEARCH_HYBRID) {
    rag_kb__fuse(vector, vector_count, lexical, lexical_count, &r->plan->fusion, r->candidates, &r->count);
  } else if (mode == RAG_SEARCH_VECTOR) {
    rag_kb__rank_vector(vector, vector_count, r->candidates);
    r->count = vector_count;
  } else {
    rag_kb__rank_lexical(lexical, lexical_count, r->candidates);
    r->count = lexical_count;
  }
  *more = depth < RAG_INDEX_K_MAX && (vector_count == depth || lexical_count == depth);
  r->plan->depth = depth;
  r->plan->fused = r->count;
  r->plan->rank_ns += lap(&at_ns);
  return RAG_OK;
}

static uint32_t first_depth(const run *r) {
  uint32_t depth = r->wanted;
  if (r->plan->mode == RAG_SEARCH_HYBRID)
    for (depth = RAG_FUSION_DEPTH_MIN; depth < 2 * r->wanted; depth *= 2) continue;
  return RAG_MIN(depth, RAG_INDEX_K_MAX);
}

// Ranked, above min_score, at most per_document of one document: min_score first, as it is about single chunks.
static rag_status rank_all(run *r, rag_error *err) {
  const rag_search *search = r->search;
  uint32_t depth = first_depth(r);
  for (bool more = true;; depth = RAG_MIN(depth * 2, RAG_INDEX_K_MAX)) {
    RAG_TRY(rank(r, depth, &more, err));
    uint64_t at_ns = rag_clock_monotonic_ns();
    if (search->has_min_score) {
      // As it is told: whoever asks again with the score of a hit gets that hit.
      while (r->count > 0 && (float)r->candidates[r->count - 1].score < search->min_score) {
        r->count--;
        more = false; // what comes deeper is below, too
      }
    }
    if (search->per_document > 0) {
      for (uint32_t i = 0; i < r->count; i++) {
        rag_kb__chunk_row row = {0};
        if (!rag_kb__tables_chunk(&r->kb->tables, r->candidates[i].chunk, &row))
          return rag_fail(err, RAG_DATA_LOSS, "chunk %u of knowledge base '%s' has no row", r->candidates[i].chunk,
                          r->kb->name);
        r->candidates[i].group = row.content; // a document has one content in a version
      }
      RAG_TRY(rag_kb__group(r->candidates, &r->count, search->per_document, err));
    }
    r->plan->rank_ns += lap(&at_ns);
    if (r->count >= r->wanted || !more || search->per_document == 0) return RAG_OK;
  }
}

static const float *stored_vector(void *context, uint32_t chunk) {
  run *r = context;
  float *room = r->room;
  if (room != NULL) r->room += r->kb->dimension;
  return rag_index_view_vector(r->vectors, chunk, room);
}

static rag_status diversify(run *r, rag_error *err) {
  const rag_search *search = r->search;
  if (!search->has_mmr) return RAG_OK;
  uint64_t at_ns = rag_clock_monotonic_ns();
  rag_kb__mmr mmr = {.lambda = search->mmr_lambda,
                     .wanted = search->k + search->offset,
                     .metric = r->kb->metric,
                     .dimension = r->kb->dimension,
                     .vector = stored_vector,
                     .context = r,
                     .deadline_ns = search->deadline_ns};
  r->count = RAG_MIN(r->count, r->wanted);
  if (r->kb->datatype != RAG_DATATYPE_FLOAT32 && mmr.lambda < 1) {
    r->room = rag_arena_alloc(r->arena, (size_t)r->count * r->kb->dimension * sizeof *r->room);
    if (r->room == NULL) return rag_fail_no_memory(err, (size_t)r->count * r->kb->dimension * sizeof *r->room);
  }
  RAG_TRY(rag_kb__mmr_pick(&mmr, r->candidates, &r->count, err));
  r->plan->rank_ns += lap(&at_ns);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the answer

static rag_status fetch(run *r, rag_search_result *result, rag_error *err) {
  const rag_search *search = r->search;
  uint64_t at_ns = rag_clock_monotonic_ns();
  rag_kb__fill fill = {.kb = r->kb,
                       .search = search,
                       .version = r->version,
                       .language =
                           search->language.size > 0 ? search->language : rag_slice_str(r->config->config.language),
                       .analyzer = r->analyzer};
  if (search->want_highlights && r->analyzer != NULL)
    RAG_TRY(rag_kb__highlighter_create(&r->words, r->arena, &fill.highlighter, err));
  uint32_t first = RAG_MIN(search->offset, r->count), count = RAG_MIN(r->count - first, search->k);
  rag_kb__pins *pins = rag_kb__pins_create(r->kb, r->vectors, count);
  if (pins == NULL) return rag_fail_no_memory(err, count * sizeof(rag_hit));
  result->pins = pins;
  result->hits = rag_kb__pins_hits(pins);
  for (uint32_t i = 0; i < count; i++)
    RAG_TRY(rag_kb__hit_fill(&fill, pins, &r->candidates[first + i], &result->hits[i], err));
  result->count = count;
  r->plan->fetch_ns = lap(&at_ns);
  return RAG_OK;
}

static void run_free(run *r) {
  rag_kbs__analyzer_give(r->kb->kbs, r->analyzer);
  rag_ref_drop(r->survivors);
  rag_ref_drop(r->lexical);
  rag_ref_drop(r->vectors);
  rag_ref_drop(r->tables);
  rag_ref_drop(r->config);
  rag_ref_drop(r->version);
  rag_arena_destroy(r->arena);
}

static rag_status search_once(rag_kb *kb, const rag_search *search, uint64_t mark, rag_search_result *out,
                              rag_error *err) {
  uint64_t start_ns = rag_clock_monotonic_ns();
  rag_search_result result = {.space = kb->fingerprint, .dimension = kb->dimension};
  run r = {.kb = kb, .search = search, .plan = &result.plan};
  rag_status status = RAG_OK;
  RAG_TRY(check(kb, search, err));
  RAG_TRY(choose_mode(kb, search, &result.plan, err));
  if (result.plan.mode == RAG_SEARCH_HYBRID) result.plan.fusion = fusion_of(kb, search);
  RAG_TRY(rag_kb__load(kb, err));
  r.arena = rag_arena_create(0);
  if (r.arena == NULL) return rag_fail_no_memory(err, 0);
  r.config = rag_kb__config(kb);
  RAG_TRY_OUT(rag_kb_resolve(kb, search->at, &r.version, err));
  if (search->min_commit > r.version->commit) RAG_TRY_OUT(wait_for_commit(kb, search, &r.version, err));
  RAG_TRY_OUT(prepare(&r, err));
  RAG_TRY_OUT(rank_all(&r, err));
  RAG_TRY_OUT(diversify(&r, err));
  RAG_TRY_OUT(fetch(&r, &result, err));
  RAG_TRY_OUT(rag_kb__still_kept(kb, mark, r.version, err));
  uint64_t rows = rag_index_view_rows(r.vectors);
  result.commit = r.version->commit;
  result.index_build = rag_index_view_build(r.vectors);
  result.plan.selectivity = rows > 0 ? RAG_MIN(1.0, (double)result.plan.chunks_matched / (double)rows) : 0;
  result.took_ns = rag_clock_monotonic_ns() - start_ns;
  *out = result;
  result = (rag_search_result){0};
out:
  rag_search_result_free(&result);
  run_free(&r);
  return status;
}

rag_status rag_kb_search(rag_kb *kb, const rag_search *search, rag_search_result *out, rag_error *err) {
  rag_status status;
  uint64_t mark;
  unsigned waited = 0;
  do {
    mark = rag_kb__history_mark(kb);
    status = search_once(kb, search, mark, out, err);
  } while (rag_kb__read_again(kb, mark, status, &waited));
  return status;
}
