// Decoded revisions with their contents, ready to answer with: a search's hits must not cost three store reads each.
//
// Sharded by (kb, revision); each shard is a chained hash table with a list in order of use, under its own lock, which is
// held for a lookup or an insertion and never while reading the store. Objects are reference-counted: an answer keeps
// what it borrows from, whatever the cache drops.
#include "kb/kb_internal.h"

#define SHARDS 16u
#define BUCKETS 4096u // per shard

typedef struct shard {
  pthread_mutex_t lock;
  rag_kb__object **buckets; // guarded by: lock, like all below
  rag_kb__object newest;    // list head: newest.older is the most recently used
  uint64_t bytes, hits, misses;
  _Alignas(64) char padding[1];
} shard;

struct rag_kb__objects {
  shard shards[SHARDS];
  uint64_t shard_bytes_max;
};

static void object_destroy(rag_ref *ref) {
  rag_kb__object *object = (rag_kb__object *)ref;
  rag_value_free(&object->pins[0]);
  rag_value_free(&object->pins[1]);
  rag_free(object);
}

static uint64_t mix(uint32_t kb, uint32_t revision) {
  uint64_t h = ((uint64_t)kb << 32 | revision) * UINT64_C(0x9E3779B97F4A7C15);
  return h ^ h >> 29;
}

rag_kb__objects *rag_kb__objects_create(uint64_t bytes_max) {
  rag_kb__objects *objects = rag_aligned_alloc(64, sizeof *objects);
  if (objects == NULL) return NULL;
  memset(objects, 0, sizeof *objects);
  objects->shard_bytes_max = bytes_max / SHARDS;
  bool failed = false;
  for (unsigned i = 0; i < SHARDS; i++) {
    shard *s = &objects->shards[i];
    pthread_mutex_init(&s->lock, NULL);
    s->newest.newer = s->newest.older = &s->newest;
    s->buckets = rag_calloc(BUCKETS, sizeof(rag_kb__object *));
    failed |= s->buckets == NULL;
  }
  if (failed) {
    rag_kb__objects_destroy(objects);
    return NULL;
  }
  return objects;
}

static rag_kb__object **bucket_of(shard *s, uint64_t hash) {
  return &s->buckets[(hash >> 8) % BUCKETS];
}

static void unlink_object(shard *s, rag_kb__object *object) {
  rag_kb__object **at = bucket_of(s, mix(object->kb, object->revision_number));
  while (*at != object) at = &(*at)->chain;
  *at = object->chain;
  object->newer->older = object->older;
  object->older->newer = object->newer;
  s->bytes -= object->bytes;
}

static void push_newest(shard *s, rag_kb__object *object) {
  object->newer = &s->newest;
  object->older = s->newest.older;
  s->newest.older->newer = object;
  s->newest.older = object;
}

static void drop_where(rag_kb__objects *objects, bool all, uint32_t kb) {
  for (unsigned i = 0; i < SHARDS; i++) {
    shard *s = &objects->shards[i];
    if (s->buckets == NULL) continue;
    pthread_mutex_lock(&s->lock);
    for (rag_kb__object *object = s->newest.older, *next; object != &s->newest; object = next) {
      next = object->older;
      if (!all && object->kb != kb) continue;
      unlink_object(s, object);
      rag_ref_drop(object);
    }
    pthread_mutex_unlock(&s->lock);
  }
}

void rag_kb__objects_destroy(rag_kb__objects *objects) {
  if (objects == NULL) return;
  drop_where(objects, true, 0);
  for (unsigned i = 0; i < SHARDS; i++) {
    pthread_mutex_destroy(&objects->shards[i].lock);
    rag_free(objects->shards[i].buckets);
  }
  rag_free(objects);
}

void rag_kb__objects_forget_kb(rag_kb__objects *objects, uint32_t kb) {
  drop_where(objects, false, kb);
}

void rag_kb__objects_stats(rag_kb__objects *objects, uint64_t *bytes, uint64_t *hits, uint64_t *misses) {
  *bytes = *hits = *misses = 0;
  for (unsigned i = 0; i < SHARDS; i++) {
    shard *s = &objects->shards[i];
    pthread_mutex_lock(&s->lock);
    *bytes += s->bytes;
    *hits += s->hits;
    *misses += s->misses;
    pthread_mutex_unlock(&s->lock);
  }
}

static rag_kb__object *find_locked(shard *s, uint64_t hash, uint32_t kb, uint32_t revision) {
  rag_kb__object *object = *bucket_of(s, hash);
  while (object != NULL && (object->kb != kb || object->revision_number != revision)) object = object->chain;
  if (object == NULL) return NULL;
  object->newer->older = object->older;
  object->older->newer = object->newer;
  push_newest(s, object);
  return rag_ref_take(object);
}

static rag_status read_object(rag_kb *kb, uint32_t revision, rag_kb__object **out, rag_error *err) {
  rag_kb__object *object = rag_calloc(1, sizeof *object);
  if (object == NULL) return rag_fail_no_memory(err, sizeof *object);
  rag_ref_init(&object->ref, object_destroy);
  object->kb = kb->id;
  object->revision_number = revision;
  rag_key key;
  rag_status status = rag_kb__get_revision(kb, NULL, revision, &object->revision, &object->pins[0], err);
  if (status != RAG_OK) goto out;
  rag_kb__key_u32(&key, kb->id, object->revision.content);
  status = rag_store_get(kb->store, NULL, RAG_CF_CONTENT, rag_key_slice(&key), &object->pins[1], err);
  if (status == RAG_NOT_FOUND || (status == RAG_OK && !rag_kb__decode_content(object->pins[1].slice, &object->content)))
    status = rag_kb__corrupt(err, RAG_CF_CONTENT, rag_key_slice(&key));
  object->bytes = sizeof *object + object->pins[0].slice.size + object->pins[1].slice.size;
out:
  if (status != RAG_OK) {
    rag_ref_drop(object);
    return status;
  }
  *out = object;
  return RAG_OK;
}

rag_status rag_kb__object_get(rag_kb *kb, uint32_t revision, rag_kb__object **out, rag_error *err) {
  rag_kb__objects *objects = kb->kbs->objects;
  uint64_t hash = mix(kb->id, revision);
  shard *s = &objects->shards[hash % SHARDS];
  pthread_mutex_lock(&s->lock);
  rag_kb__object *object = find_locked(s, hash, kb->id, revision);
  if (object != NULL) s->hits++;
  else s->misses++;
  pthread_mutex_unlock(&s->lock);
  if (object == NULL) {
    uint64_t mark = rag_kb__history_mark(kb);
    RAG_TRY(read_object(kb, revision, &object, err));
    if (object->bytes <= objects->shard_bytes_max / 8) { // one huge document must not empty a shard
      rag_kb__object *evicted[8];
      unsigned evicted_count = 0;
      pthread_mutex_lock(&s->lock);
      rag_kb__object *other = find_locked(s, hash, kb->id, revision);
      if (other == NULL && rag_kb__history_unchanged(kb, mark)) { // purge must not find its way back in
        rag_kb__object **at = bucket_of(s, hash);
        object->chain = *at;
        *at = object;
        push_newest(s, object);
        s->bytes += object->bytes;
        rag_ref_take(object);
        while (s->bytes > objects->shard_bytes_max && evicted_count < RAG_COUNT_OF(evicted)) {
          rag_kb__object *oldest = s->newest.newer;
          unlink_object(s, oldest);
          evicted[evicted_count++] = oldest;
        }
      }
      pthread_mutex_unlock(&s->lock);
      rag_ref_drop(other);
      for (unsigned i = 0; i < evicted_count; i++) rag_ref_drop(evicted[i]);
    }
  }
  *out = object;
  return RAG_OK;
}
