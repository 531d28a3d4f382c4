// A search: ref -> version (a bitmap) -> query vector -> index, with the version's chunks as filter -> hits with their
// texts. Takes no lock that a writer holds for longer than a pointer swap; reads no row when the objects are cached.
//
// The order of pinning matters: the version first, the index view second. Rows are added before the version that reaches
// them is published, so a view pinned later has them all.
#include "kb/kb_internal.h"

#include <time.h>

// One block with the hits: an answer is made and freed by two calls of the allocator.
typedef struct search_pins {
  rag_index_view *view;
  rag_kb *kb;
  uint32_t count; // pinned
  rag_hit *hits;
  struct pinned_hit {
    rag_kb__object *object;
    rag_value chunk_row; // for chunk metadata
  } * pinned;
} search_pins;

static search_pins *pins_create(rag_kb *kb, rag_index_view *view, uint32_t count) {
  size_t bytes = sizeof(search_pins) + count * (sizeof(rag_hit) + sizeof(struct pinned_hit));
  search_pins *pins = rag_calloc(1, bytes);
  if (pins == NULL) return NULL;
  pins->view = rag_ref_take(view);
  pins->kb = rag_ref_take(kb);
  pins->pinned = (struct pinned_hit *)(pins + 1); // both have pointers first: aligned
  pins->hits = (rag_hit *)(pins->pinned + count);
  return pins;
}

void rag_search_result_free(rag_search_result *result) {
  if (result == NULL) return;
  search_pins *pins = result->pins;
  if (pins != NULL) {
    for (uint32_t i = 0; i < pins->count; i++) {
      rag_ref_drop(pins->pinned[i].object);
      rag_value_free(&pins->pinned[i].chunk_row);
    }
    rag_ref_drop(pins->view);
    rag_ref_drop(pins->kb);
    rag_free(pins);
  }
  *result = (rag_search_result){0};
}

static rag_status check(const rag_kb *kb, const rag_search *search, rag_error *err) {
  bool has_query = search->query.size > 0, has_vector = search->vector != NULL;
  if (has_query == has_vector)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, has_query ? "vector" : "query",
                          has_query ? "give either query (text) or vector, not both"
                                    : "give query (text) or vector: there is nothing to search for");
  if (search->k == 0 || search->k > RAG_INDEX_K_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "k", "k is 1 to %u", RAG_INDEX_K_MAX);
  if ((uint64_t)search->k + search->offset > RAG_INDEX_K_MAX)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "offset", "k + offset is at most %u", RAG_INDEX_K_MAX);
  if (has_query) {
    if (kb->embedder == NULL)
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "query",
                            "knowledge base '%s' has no model that could embed a text; search by vector (dimension %u)",
                            kb->name, kb->dimension);
    if (!rag_utf8_valid(search->query.data, search->query.size))
      return rag_fail_field(err, RAG_INVALID_ARGUMENT, "query", "the query is not valid UTF-8");
    return RAG_OK;
  }
  if (search->vector_dimension != kb->dimension)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "vector",
                          "the vector has %u components; knowledge base '%s' has dimension %u",
                          search->vector_dimension, kb->name, kb->dimension);
  return rag_vector_check(search->vector, search->vector_dimension, kb->metric, "vector", err);
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

static rag_status query_vector(rag_kb *kb, const rag_search *search, float *out, rag_error *err) {
  if (search->vector == NULL) return rag_embedder_embed(kb->embedder, RAG_EMBED_QUERY, &search->query, 1, out, err);
  memcpy(out, search->vector, kb->dimension * sizeof *out);
  if (kb->metric == RAG_METRIC_COSINE) rag_vector_normalize(out, kb->dimension);
  return RAG_OK;
}

// The document that a content belongs to: the name under which its revisions are found.
static rag_status find_by_content(rag_kb *kb, const rag_version *version, uint32_t content, rag_kb__document_entry *out,
                                  rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_kb__content record;
  rag_kb__key_u32(&key, kb->id, content);
  rag_status status = rag_store_get(kb->store, NULL, RAG_CF_CONTENT, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND)
    return rag_fail(err, RAG_NOT_FOUND, "content %u of knowledge base '%s' is gone (gc or purge)", content, kb->name);
  RAG_TRY(status);
  if (rag_kb__decode_content(value.slice, &record))
    status = rag_kb__find_document(kb, NULL, version->revisions, record.id, out, err);
  else status = rag_kb__corrupt(err, RAG_CF_CONTENT, rag_key_slice(&key));
  rag_value_free(&value);
  return status;
}

// The revision of a content that is alive in a version: nearly always the content's newest, which the table knows. The
// table is a hint: the newest may belong to another version (a change of metadata), may be gone (gc), may never have
// been made (a write that failed, its number given to another document since). Then the document's rows decide.
static rag_status live_object(rag_kb *kb, const rag_version *version, uint32_t content, rag_kb__object **out,
                              rag_error *err) {
  uint32_t revision = rag_kb__tables_revision(&kb->tables, content);
  if (revision != 0 && rag_bitmap_has(version->revisions, revision)) {
    RAG_TRY(rag_kb__object_get(kb, revision, out, err));
    if ((*out)->revision.content == content) return RAG_OK;
    rag_ref_drop(*out);
    *out = NULL;
  }
  rag_kb__document_entry entry;
  RAG_TRY(find_by_content(kb, version, content, &entry, err));
  if (entry.revision == 0 || entry.content != content)
    return rag_fail(err, RAG_DATA_LOSS, "content %u of knowledge base '%s' is alive in c%u without a live revision",
                    content, kb->name, version->commit);
  return rag_kb__object_get(kb, entry.revision, out, err);
}

static rag_status fill_hit(rag_kb *kb, const rag_search *search, const rag_version *version, search_pins *pins,
                           const rag_index_hit *from, rag_hit *hit, rag_error *err) {
  rag_kb__chunk_row row;
  if (!rag_kb__tables_chunk(&kb->tables, from->ordinal, &row))
    return rag_fail(err, RAG_DATA_LOSS, "chunk %u of knowledge base '%s' has no row", from->ordinal, kb->name);
  rag_kb__object *object = NULL;
  RAG_TRY(live_object(kb, version, row.content, &object, err));
  struct pinned_hit *pinned = &pins->pinned[pins->count++];
  pinned->object = object;
  const rag_slice body = object->content.body;
  if (row.end < row.start || row.end > body.size)
    return rag_fail(err, RAG_DATA_LOSS, "chunk %u of knowledge base '%s' reaches past its content", from->ordinal,
                    kb->name);
  bool own_text = row.start >= object->content.text.size && row.end > row.start;
  *hit = (rag_hit){
      .document_id = object->revision.id,
      .title = object->content.title,
      .source_uri = object->revision.source_uri,
      .chunk = from->ordinal,
      .revision = object->revision_number,
      .start = own_text ? 0 : row.start,
      .end = own_text ? 0 : row.end,
      .score = from->score,
  };
  if (search->want_text) hit->text = rag_slice_of(body.data + row.start, row.end - row.start);
  if (search->want_metadata) {
    hit->metadata = object->revision.metadata;
    if (object->content.chunk_metadata) {
      rag_key key;
      rag_kb__chunk chunk;
      rag_kb__key_u32(&key, kb->id, from->ordinal);
      RAG_TRY(rag_store_get(kb->store, NULL, RAG_CF_CHUNK, rag_key_slice(&key), &pinned->chunk_row, err));
      if (!rag_kb__decode_chunk(pinned->chunk_row.slice, &chunk))
        return rag_kb__corrupt(err, RAG_CF_CHUNK, rag_key_slice(&key));
      hit->chunk_metadata = chunk.metadata;
    }
  }
  if (search->want_vector) hit->vector = rag_index_view_vector(pins->view, from->ordinal);
  return RAG_OK;
}

static rag_status search_once(rag_kb *kb, const rag_search *search, rag_search_result *out, rag_error *err) {
  uint64_t start_ns = rag_clock_monotonic_ns();
  rag_version *version = NULL;
  rag_index_view *view = NULL;
  rag_search_result result = {.space = kb->fingerprint, .dimension = kb->dimension};
  rag_index_hit few[64], *found = few;
  float small[1024], *vector = small;
  rag_status status = RAG_OK;
  RAG_TRY(check(kb, search, err));
  RAG_TRY(rag_kb__load(kb, err));
  RAG_TRY(rag_kb_resolve(kb, search->at, &version, err));
  if (search->min_commit > version->commit) RAG_TRY_OUT(wait_for_commit(kb, search, &version, err));

  uint32_t wanted = search->k + search->offset, count = 0;
  if (wanted > RAG_COUNT_OF(few) && (found = rag_calloc(wanted, sizeof *found)) == NULL) {
    status = rag_fail_no_memory(err, wanted * sizeof *found);
    goto out;
  }
  if (kb->dimension > RAG_COUNT_OF(small) && (vector = rag_calloc(kb->dimension, sizeof *vector)) == NULL) {
    status = rag_fail_no_memory(err, kb->dimension * sizeof *vector);
    goto out;
  }
  RAG_TRY_OUT(query_vector(kb, search, vector, err));
  view = rag_index_pin(kb->index);
  rag_index_query query = {
      .vector = vector,
      .k = wanted,
      .filter = version->chunks,
      .has_min_score = search->has_min_score,
      .min_score = search->min_score,
      .exact = search->exact,
      .deadline_ns = search->deadline_ns,
  };
  RAG_TRY_OUT(rag_index_search(view, &query, found, &count, &result.plan.vector, err));

  uint32_t first = RAG_MIN(search->offset, count);
  result.count = count - first;
  search_pins *pins = pins_create(kb, view, result.count);
  if (pins == NULL) {
    status = rag_fail_no_memory(err, result.count * sizeof(rag_hit));
    goto out;
  }
  result.pins = pins;
  result.hits = pins->hits;
  for (uint32_t i = 0; i < result.count; i++)
    RAG_TRY_OUT(fill_hit(kb, search, version, pins, &found[first + i], &result.hits[i], err));
  uint64_t rows = rag_index_view_rows(view);
  result.commit = version->commit;
  result.index_build = rag_index_view_build(view);
  result.plan.selectivity = rows > 0 ? (double)rag_version_chunks(version) / (double)rows : 0;
  result.took_ns = rag_clock_monotonic_ns() - start_ns;
  *out = result;
  result = (rag_search_result){0};
out:
  rag_search_result_free(&result);
  rag_ref_drop(view);
  if (found != few) rag_free(found);
  if (vector != small) rag_free(vector);
  rag_ref_drop(version);
  return status;
}

// A version that was pinned before a purge names documents whose rows the purge has removed: such a search begins again,
// at the version that the purge publishes, which it waits for. The same for a gc that dropped the version: the second
// look then says so.
#define RETRY_MS_MAX 2000u

rag_status rag_kb_search(rag_kb *kb, const rag_search *search, rag_search_result *out, rag_error *err) {
  for (unsigned waited = 0;; waited++) {
    uint64_t mark = rag_kb__history_mark(kb);
    rag_status status = search_once(kb, search, out, err);
    if (status != RAG_NOT_FOUND && status != RAG_DATA_LOSS) return status;
    if (rag_kb__history_unchanged(kb, mark) || waited >= RETRY_MS_MAX) return status;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
}
