// The documents of a version that pass a filter, and their chunks: evaluated once, kept for those who ask again.
//
// The cache belongs to all kbs of a store. An entry is of one commit of one kb and of one filter's text, so it is never
// out of date; only what rewrites history (gc, purge) makes a kb's entries go, by the rules of the version cache
// (rag_kb__history_close). Bounded by bytes, least recently used out first.
#include "kb/filters/survivors.h"

typedef struct entry {
  uint32_t kb, commit;
  rag_digest filter;
  uint64_t used;
  size_t bytes;
  rag_kb__survivors *item; // a reference
} entry;

struct rag_kb__survivors_cache {
  pthread_mutex_t lock;
  entry entries[RAG_KB__SURVIVORS_ENTRIES_MAX]; // guarded by: lock, like all below
  uint32_t count;
  uint64_t clock;
  size_t bytes;
};

rag_kb__survivors_cache *rag_kb__survivors_cache_create(void) {
  rag_kb__survivors_cache *cache = rag_calloc(1, sizeof *cache);
  if (cache != NULL) pthread_mutex_init(&cache->lock, NULL);
  return cache;
}

static void remove_at(rag_kb__survivors_cache *cache, uint32_t at) {
  cache->bytes -= cache->entries[at].bytes;
  rag_ref_drop(cache->entries[at].item); // frees bitmaps at most
  cache->entries[at] = cache->entries[--cache->count];
}

void rag_kb__survivors_cache_destroy(rag_kb__survivors_cache *cache) {
  if (cache == NULL) return;
  while (cache->count > 0) remove_at(cache, cache->count - 1);
  pthread_mutex_destroy(&cache->lock);
  rag_free(cache);
}

void rag_kb__survivors_forget(rag_kbs *kbs, uint32_t kb) {
  rag_kb__survivors_cache *cache = kbs->survivors;
  pthread_mutex_lock(&cache->lock);
  for (uint32_t i = 0; i < cache->count;) {
    if (cache->entries[i].kb == kb) remove_at(cache, i);
    else i++;
  }
  pthread_mutex_unlock(&cache->lock);
}

size_t rag_kb__survivors_cache_bytes(rag_kbs *kbs) {
  pthread_mutex_lock(&kbs->survivors->lock);
  size_t bytes = kbs->survivors->bytes;
  pthread_mutex_unlock(&kbs->survivors->lock);
  return bytes;
}

static bool is_entry(const entry *e, const rag_version *version, const rag_digest *filter) {
  return e->kb == version->kb && e->commit == version->commit && rag_digest_equal(&e->filter, filter);
}

static rag_kb__survivors *cache_get(rag_kb__survivors_cache *cache, const rag_version *version,
                                    const rag_digest *filter) {
  rag_kb__survivors *found = NULL;
  pthread_mutex_lock(&cache->lock);
  for (uint32_t i = 0; i < cache->count && found == NULL; i++) {
    if (!is_entry(&cache->entries[i], version, filter)) continue;
    cache->entries[i].used = ++cache->clock;
    found = rag_ref_take(cache->entries[i].item);
  }
  pthread_mutex_unlock(&cache->lock);
  return found;
}

static void cache_put(rag_kb *kb, const rag_version *version, const rag_digest *filter, rag_kb__survivors *item,
                      uint64_t mark) {
  rag_kb__survivors_cache *cache = kb->kbs->survivors;
  size_t blocks = rag_bitmap_block_count(item->documents) + (item->chunks ? rag_bitmap_block_count(item->chunks) : 0);
  size_t bytes = sizeof *item + blocks * (RAG_BITMAP_BLOCK_BITS / 8);
  if (bytes > RAG_KB__SURVIVORS_BYTES_MAX / 4) return;
  pthread_mutex_lock(&cache->lock);
  if (!rag_kb__history_unchanged(kb, mark)) { // under the lock: who closes counts first and then forgets
    pthread_mutex_unlock(&cache->lock);
    return;
  }
  for (uint32_t i = 0; i < cache->count; i++) {
    if (!is_entry(&cache->entries[i], version, filter)) continue;
    remove_at(cache, i);
    break;
  }
  while (cache->count == RAG_KB__SURVIVORS_ENTRIES_MAX ||
         (cache->count > 0 && cache->bytes + bytes > RAG_KB__SURVIVORS_BYTES_MAX)) {
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < cache->count; i++)
      if (cache->entries[i].used < cache->entries[oldest].used) oldest = i;
    remove_at(cache, oldest);
  }
  cache->entries[cache->count++] =
      (entry){version->kb, version->commit, *filter, ++cache->clock, bytes, rag_ref_take(item)};
  cache->bytes += bytes;
  pthread_mutex_unlock(&cache->lock);
}

// ---------------------------------------------------------------------------------------------- evaluation

static rag_status get_document(void *context, uint32_t revision, rag_slice *out_id, rag_slice *out_metadata,
                               rag_error *err) {
  rag_kb__filter_reader *reader = context;
  rag_kb__revision record;
  rag_value_free(&reader->pin);
  RAG_TRY(rag_kb__get_revision(reader->kb, NULL, revision, &record, &reader->pin, err));
  *out_id = record.id;
  *out_metadata = record.metadata;
  return RAG_OK;
}

static rag_status find_id(void *context, rag_slice id, bool *out_found, uint32_t *out_revision, rag_error *err) {
  rag_kb__filter_reader *reader = context;
  rag_kb__document_entry found;
  *out_found = false;
  if (id.size == 0 || id.size > RAG_DOCUMENT_ID_BYTES_MAX) return RAG_OK; // no document has it
  RAG_TRY(rag_kb__find_document(reader->kb, NULL, reader->version->revisions, id, &found, err));
  *out_found = found.revision != 0;
  *out_revision = found.revision;
  return RAG_OK;
}

rag_status rag_kb__filter_reader_open(rag_kb__filter_reader *reader, rag_kb *kb, const rag_version *version,
                                      uint64_t deadline_ns, rag_error *err) {
  *reader = (rag_kb__filter_reader){.kb = kb, .version = version};
  RAG_TRY(rag_kb__load(kb, err));
  reader->fields = rag_fields_pin(kb->fields); // after the version: it has all of its revisions
  reader->source = (rag_kb__filter_source){.fields = reader->fields,
                                           .live = version->revisions,
                                           .get_document = get_document,
                                           .find_id = find_id,
                                           .context = reader,
                                           .deadline_ns = deadline_ns};
  return RAG_OK;
}

void rag_kb__filter_reader_close(rag_kb__filter_reader *reader) {
  rag_value_free(&reader->pin);
  rag_ref_drop(reader->fields);
  reader->fields = NULL;
}

static void survivors_destroy(rag_ref *ref) {
  rag_kb__survivors *survivors = (rag_kb__survivors *)ref;
  rag_ref_drop(survivors->documents);
  rag_ref_drop(survivors->chunks);
  rag_free(survivors);
}

static rag_status evaluate(rag_kb *kb, const rag_version *version, const rag_filter *filter, uint64_t deadline_ns,
                           rag_kb__survivors *out, rag_error *err) {
  rag_kb__filter_reader reader;
  rag_kb__filter_report report;
  RAG_TRY(rag_kb__filter_reader_open(&reader, kb, version, deadline_ns, err));
  rag_status status = rag_kb__filter_eval(filter, &reader.source, &out->documents, &report, err);
  rag_kb__filter_reader_close(&reader);
  RAG_TRY(status);
  out->verified = report.verified;
  out->conditions = report.conditions;
  out->indexed = report.indexed;
  return RAG_OK;
}

bool rag_kb_filter_known(rag_kb *kb, const rag_version *version, const rag_filter *filter) {
  rag_digest digest = rag_filter_digest(filter);
  rag_kb__survivors *known = cache_get(kb->kbs->survivors, version, &digest);
  rag_ref_drop(known);
  return known != NULL;
}

rag_status rag_kb__survivors_of(rag_kb *kb, const rag_version *version, const rag_filter *filter, bool want_chunks,
                                uint64_t deadline_ns, rag_kb__survivors **out, bool *out_cached, rag_error *err) {
  rag_digest digest = rag_filter_digest(filter);
  rag_kb__survivors *known = cache_get(kb->kbs->survivors, version, &digest);
  *out_cached = known != NULL;
  if (known != NULL && (known->chunks != NULL || !want_chunks)) {
    *out = known;
    return RAG_OK;
  }
  uint64_t mark = rag_kb__history_mark(kb);
  rag_kb__survivors *made = rag_calloc(1, sizeof *made);
  rag_status status = made == NULL ? rag_fail_no_memory(err, sizeof *made) : RAG_OK;
  if (status == RAG_OK) {
    rag_ref_init(&made->ref, survivors_destroy);
    if (known != NULL) {
      made->documents = rag_ref_take(known->documents);
      made->verified = known->verified;
      made->conditions = known->conditions;
      made->indexed = known->indexed;
    } else {
      status = evaluate(kb, version, filter, deadline_ns, made, err);
    }
  }
  if (status == RAG_OK && want_chunks)
    status = rag_kb__tables_chunks_of(&kb->tables, made->documents, &made->chunks, err);
  rag_ref_drop(known);
  if (status != RAG_OK) {
    rag_ref_drop(made);
    return status;
  }
  cache_put(kb, version, &digest, made, mark);
  *out = made;
  return RAG_OK;
}
