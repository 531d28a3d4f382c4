// From ranked chunks to the hits of an answer: the chunk's row (in memory) names its content, the content's live revision
// and its texts come decoded from the object cache. What the slices borrow from is pinned until the answer is freed.
#include "kb/retrieval/hits.h"

// One block with the hits: an answer is made and freed by two calls of the allocator.
struct rag_kb__pins {
  rag_index_view *view;
  rag_kb *kb;
  uint32_t count; // pinned
  rag_hit *hits;
  struct pinned_hit {
    rag_kb__object *object;
    rag_value chunk_row; // for chunk metadata
  } * pinned;
  rag_arena *made; // what hits have that lies nowhere else: highlights, decoded vectors; NULL until there are any
};

rag_kb__pins *rag_kb__pins_create(rag_kb *kb, rag_index_view *view, uint32_t count) {
  size_t bytes = sizeof(rag_kb__pins) + count * (sizeof(rag_hit) + sizeof(struct pinned_hit));
  rag_kb__pins *pins = rag_calloc(1, bytes);
  if (pins == NULL) return NULL;
  pins->view = rag_ref_take(view);
  pins->kb = rag_ref_take(kb);
  pins->pinned = (struct pinned_hit *)(pins + 1); // both have pointers first: aligned
  pins->hits = (rag_hit *)(pins->pinned + count);
  return pins;
}

rag_hit *rag_kb__pins_hits(rag_kb__pins *pins) {
  return pins->hits;
}

void rag_search_result_free(rag_search_result *result) {
  if (result == NULL) return;
  rag_kb__pins *pins = result->pins;
  if (pins != NULL) {
    for (uint32_t i = 0; i < pins->count; i++) {
      rag_ref_drop(pins->pinned[i].object);
      rag_value_free(&pins->pinned[i].chunk_row);
    }
    rag_ref_drop(pins->view);
    rag_ref_drop(pins->kb);
    rag_arena_destroy(pins->made);
    rag_free(pins);
  }
  *result = (rag_search_result){0};
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
  uint32_t revision = rag_kb__tables_newest(&kb->tables, content);
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

static void *make(rag_kb__pins *pins, size_t bytes) {
  if (pins->made == NULL) pins->made = rag_arena_create(0);
  return pins->made != NULL ? rag_arena_alloc(pins->made, bytes) : NULL;
}

// A language that a document has of its own is that of its words; else the kb's.
static rag_status highlight(const rag_kb__fill *fill, rag_kb__pins *pins, const rag_kb__object *object, rag_slice text,
                            rag_hit *hit, rag_error *err) {
  rag_kb__highlights found;
  rag_slice language = object->content.language;
  rag_kb__analyzer *own = NULL;
  bool other = language.size > 0 && !rag_slice_equal(language, fill->language);
  if (other) RAG_TRY(rag_kbs__analyzer_take(fill->kb->kbs, language, &own, err));
  rag_kb__highlight(fill->highlighter, rag_kb__analyzer_rules(other ? own : fill->analyzer), text, &found);
  rag_kbs__analyzer_give(fill->kb->kbs, own);
  if (found.count == 0) return RAG_OK;
  size_t bytes = found.count * sizeof *found.spans;
  rag_span *spans = make(pins, bytes);
  if (spans == NULL) return rag_fail_no_memory(err, bytes);
  memcpy(spans, found.spans, bytes);
  hit->highlights = spans;
  hit->highlight_count = found.count;
  return RAG_OK;
}

rag_status rag_kb__hit_fill(const rag_kb__fill *fill, rag_kb__pins *pins, const rag_kb__candidate *from, rag_hit *hit,
                            rag_error *err) {
  rag_kb *kb = fill->kb;
  const rag_search *search = fill->search;
  rag_kb__chunk_row row;
  if (!rag_kb__tables_chunk(&kb->tables, from->chunk, &row))
    return rag_fail(err, RAG_DATA_LOSS, "chunk %u of knowledge base '%s' has no row", from->chunk, kb->name);
  rag_kb__object *object = NULL;
  RAG_TRY(live_object(kb, fill->version, row.content, &object, err));
  struct pinned_hit *pinned = &pins->pinned[pins->count++];
  pinned->object = object;
  const rag_slice body = object->content.body;
  if (row.end < row.start || row.end > body.size)
    return rag_fail(err, RAG_DATA_LOSS, "chunk %u of knowledge base '%s' reaches past its content", from->chunk,
                    kb->name);
  bool own_text = row.start >= object->content.text.size && row.end > row.start;
  *hit = (rag_hit){
      .document_id = object->revision.id,
      .title = object->content.title,
      .source_uri = object->revision.source_uri,
      .chunk = from->chunk,
      .revision = object->revision_number,
      .start = own_text ? 0 : row.start,
      .end = own_text ? 0 : row.end,
      .score = (float)from->score,
      .has_vector_score = from->has_vector,
      .has_lexical_score = from->has_lexical,
      .vector_score = from->vector,
      .lexical_score = from->lexical,
  };
  rag_slice text = rag_slice_of(body.data + row.start, row.end - row.start);
  if (search->want_text) hit->text = text;
  if (fill->highlighter != NULL) RAG_TRY(highlight(fill, pins, object, text, hit, err));
  if (search->want_metadata) {
    hit->metadata = object->revision.metadata;
    if (object->content.chunk_metadata) {
      rag_key key;
      rag_kb__chunk chunk;
      rag_kb__key_u32(&key, kb->id, from->chunk);
      RAG_TRY(rag_store_get(kb->store, NULL, RAG_CF_CHUNK, rag_key_slice(&key), &pinned->chunk_row, err));
      if (!rag_kb__decode_chunk(pinned->chunk_row.slice, &chunk))
        return rag_kb__corrupt(err, RAG_CF_CHUNK, rag_key_slice(&key));
      hit->chunk_metadata = chunk.metadata;
    }
  }
  if (search->want_vector) {
    bool decoded = kb->datatype != RAG_DATATYPE_FLOAT32;
    size_t bytes = kb->dimension * sizeof(float);
    float *room = decoded ? make(pins, bytes) : NULL;
    if (decoded && room == NULL) return rag_fail_no_memory(err, bytes);
    hit->vector = rag_index_view_vector(pins->view, from->chunk, room);
  }
  return RAG_OK;
}
