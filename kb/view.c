// Views (where every branch and tag stands) and versions (the live sets of one commit).
//
// Invariants
//  1. A view or version that others can reach is never changed.
//  2. A version's sets are what its commit's delta chain gives; a version in the cache equals a fresh materialisation.
// Threads: views are built by writers only, who are serialised; the version cache has its own lock, held for a scan of a
// few hundred keys and never while reading the store.
#include "kb/words_internal.h"

#include <stdlib.h>
#include <time.h>

// ---------------------------------------------------------------------------------------------- views

static void view_destroy(rag_ref *ref) {
  rag_kb__view *view = (rag_kb__view *)ref;
  for (uint32_t i = 0; i < view->branch_count; i++) rag_ref_drop(view->branches[i].head);
  rag_free(view->branches);
  rag_ref_drop(view->tag_owner);
  rag_free(view);
}

rag_status rag_kb__view_copy(const rag_kb__view *from, rag_kb__view **out, rag_error *err) {
  uint32_t branch_count = from ? from->branch_count : 0;
  rag_kb__view *view = rag_calloc(1, sizeof *view);
  if (view == NULL) return rag_fail_no_memory(err, sizeof *view);
  rag_ref_init(&view->ref, view_destroy);
  view->branches = rag_calloc((size_t)branch_count + 1, sizeof *view->branches);
  if (view->branches == NULL) {
    rag_ref_drop(view);
    return rag_fail_no_memory(err, branch_count * sizeof *view->branches);
  }
  if (from != NULL) {
    view->state = from->state;
    memcpy(view->branches, from->branches, branch_count * sizeof *view->branches);
    for (uint32_t i = 0; i < branch_count; i++) rag_ref_take(view->branches[i].head);
    view->branch_count = branch_count;
    view->tag_owner = rag_ref_take(from->tag_owner);
    view->tags = from->tags;
    view->tag_count = from->tag_count;
  }
  *out = view;
  return RAG_OK;
}

static void tags_destroy(rag_ref *ref) {
  rag_free(ref); // the reference is the block's first member
}

rag_status rag_kb__view_own_tags(rag_kb__view *view, uint32_t room, rag_error *err) {
  size_t bytes = sizeof(rag_kb__tags) + ((size_t)view->tag_count + room) * sizeof(rag_kb__tag);
  rag_kb__tags *owner = rag_calloc(1, bytes);
  if (owner == NULL) return rag_fail_no_memory(err, bytes);
  rag_ref_init(&owner->ref, tags_destroy);
  if (view->tag_count > 0) memcpy(owner->items, view->tags, view->tag_count * sizeof *view->tags);
  rag_ref_drop(view->tag_owner);
  view->tag_owner = owner;
  view->tags = owner->items;
  return RAG_OK;
}

// Both arrays start with the name, so one search serves both.
static int find_name(const void *items, size_t stride, uint32_t count, rag_slice name, uint32_t *insert_at) {
  uint32_t low = 0, high = count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    const char *at = (const char *)items + middle * stride;
    int order = rag_slice_compare(rag_slice_str(at), name);
    if (order == 0) {
      if (insert_at) *insert_at = middle;
      return (int)middle;
    }
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  if (insert_at) *insert_at = low;
  return -1;
}

int rag_kb__view_find_branch(const rag_kb__view *view, rag_slice name, uint32_t *insert_at) {
  return find_name(view->branches, sizeof *view->branches, view->branch_count, name, insert_at);
}

int rag_kb__view_find_tag(const rag_kb__view *view, rag_slice name, uint32_t *insert_at) {
  return find_name(view->tags, sizeof *view->tags, view->tag_count, name, insert_at);
}

// ---------------------------------------------------------------------------------------------- versions

static void version_destroy(rag_ref *ref) {
  rag_version *version = (rag_version *)ref;
  rag_ref_drop(version->revisions);
  rag_ref_drop(version->chunks);
  rag_ref_drop(atomic_load_explicit(&version->words, memory_order_relaxed));
  rag_ref_drop(version->words_near);
  rag_free(version);
}

rag_version *rag_kb__version_create(uint32_t kb, uint32_t commit, uint32_t depth, rag_bitmap *revisions,
                                    rag_bitmap *chunks) {
  rag_version *version = rag_calloc(1, sizeof *version);
  if (version == NULL) {
    rag_ref_drop(revisions);
    rag_ref_drop(chunks);
    return NULL;
  }
  rag_ref_init(&version->ref, version_destroy);
  version->kb = kb;
  version->commit = commit;
  version->depth = depth;
  version->revisions = revisions;
  version->chunks = chunks;
  return version;
}

uint64_t rag_version_commit(const rag_version *version) {
  return version->commit;
}

uint64_t rag_version_documents(const rag_version *version) {
  return rag_bitmap_count(version->revisions);
}

uint64_t rag_version_chunks(const rag_version *version) {
  return rag_bitmap_count(version->chunks);
}

static uint64_t version_key(uint32_t kb, uint32_t commit) {
  return (uint64_t)kb << 32 | commit;
}

static rag_version *cache_get(rag_kb__version_cache *cache, uint64_t key) {
  rag_version *found = NULL;
  pthread_mutex_lock(&cache->lock);
  for (uint32_t i = 0; i < cache->count; i++) {
    if (cache->keys[i] != key) continue;
    cache->used[i] = ++cache->clock;
    found = rag_ref_take(cache->versions[i]);
    break;
  }
  pthread_mutex_unlock(&cache->lock);
  return found;
}

void rag_kb__version_cache_put(rag_kb *kb, rag_version *version, uint64_t mark) {
  rag_kb__version_cache *cache = &kb->kbs->versions;
  uint64_t key = version_key(version->kb, version->commit);
  rag_version *evicted = NULL;
  pthread_mutex_lock(&cache->lock);
  if (!rag_kb__history_unchanged(kb, mark)) { // under the lock: who closes counts first and then forgets
    pthread_mutex_unlock(&cache->lock);
    return;
  }
  uint32_t slot = cache->count;
  for (uint32_t i = 0; i < cache->count; i++) {
    if (cache->keys[i] == key) {
      slot = i;
      break;
    }
  }
  if (slot == cache->capacity) {
    slot = 0;
    for (uint32_t i = 1; i < cache->count; i++)
      if (cache->used[i] < cache->used[slot]) slot = i;
  }
  if (slot == cache->count) cache->count++;
  else evicted = cache->versions[slot];
  cache->keys[slot] = key;
  cache->used[slot] = ++cache->clock;
  cache->versions[slot] = rag_ref_take(version);
  pthread_mutex_unlock(&cache->lock);
  rag_ref_drop(evicted);
}

void rag_kb__version_cache_forget(rag_kbs *kbs, uint32_t kb) {
  rag_kb__version_cache *cache = &kbs->versions;
  pthread_mutex_lock(&cache->lock);
  for (uint32_t i = 0; i < cache->count;) {
    if (cache->keys[i] >> 32 != kb) {
      i++;
      continue;
    }
    rag_ref_drop(cache->versions[i]); // frees bitmaps at most: no call out of this folder waits on us
    uint32_t last = --cache->count;
    cache->keys[i] = cache->keys[last];
    cache->used[i] = cache->used[last];
    cache->versions[i] = cache->versions[last];
  }
  pthread_mutex_unlock(&cache->lock);
}

void rag_kb__history_close(rag_kb *kb, bool objects) {
  atomic_fetch_add(&kb->history, 1);
  rag_kb__version_cache_forget(kb->kbs, kb->id);
  rag_kb__survivors_forget(kb->kbs, kb->id);
  if (objects) rag_kb__objects_forget_kb(kb->kbs->objects, kb->id);
}

void rag_kb__history_open(rag_kb *kb) {
  atomic_fetch_add(&kb->history, UINT64_C(0xFFFF)); // one closing fewer, one ending more
}

rag_status rag_kb__still_kept(rag_kb *kb, uint64_t mark, const rag_version *version, rag_error *err) {
  rag_kb__commit record;
  rag_value pin = {0};
  if (version->commit == 0 || rag_kb__history_unchanged(kb, mark)) return RAG_OK;
  RAG_TRY(rag_kb__get_commit(kb, NULL, version->commit, &record, &pin, err));
  rag_value_free(&pin);
  return RAG_OK;
}

#define READ_AGAIN_MS_MAX 2000u

bool rag_kb__read_again(rag_kb *kb, uint64_t mark, rag_status status, unsigned *waited) {
  if (status != RAG_NOT_FOUND && status != RAG_DATA_LOSS) return false;
  if (rag_kb__history_unchanged(kb, mark) || *waited >= READ_AGAIN_MS_MAX) return false;
  nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  ++*waited;
  return true;
}

// ---------------------------------------------------------------------------------------------- materialising

rag_status rag_kb__get(rag_kb *kb, rag_txn *txn, rag_cf cf, rag_slice key, rag_value *out, rag_error *err) {
  if (txn != NULL) return rag_txn_get(txn, cf, key, out, err);
  return rag_store_get(kb->store, NULL, cf, key, out, err);
}

// Where a version is read from: a running group's writes, or a fixed state, as gc may write a chain of deltas anew while
// it is walked.
typedef struct version_source {
  rag_txn *txn;
  rag_snapshot *snapshot;
} version_source;

static rag_status source_get(rag_kb *kb, version_source from, rag_cf cf, rag_slice key, rag_value *out,
                             rag_error *err) {
  if (from.txn != NULL) return rag_txn_get(from.txn, cf, key, out, err);
  return rag_store_get(kb->store, from.snapshot, cf, key, out, err);
}

static rag_status get_delta(rag_kb *kb, version_source from, uint32_t commit, rag_kb__delta *out, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_kb__key_commit(&key, kb->id, commit, 1);
  rag_status status = source_get(kb, from, RAG_CF_COMMIT, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND)
    return rag_fail(err, RAG_NOT_FOUND, "commit c%u of knowledge base '%s' does not exist or was dropped by gc", commit,
                    kb->name);
  RAG_TRY(status);
  status = rag_kb__decode_delta(value.slice, out, err);
  rag_value_free(&value);
  return status;
}

static rag_status get_checkpoint(rag_kb *kb, version_source from, uint32_t commit, rag_bitmap **revisions,
                                 rag_bitmap **chunks, rag_error *err) {
  rag_key key;
  rag_value value = {0};
  rag_kb__key_u32(&key, kb->id, commit);
  rag_status status = source_get(kb, from, RAG_CF_BITMAP, rag_key_slice(&key), &value, err);
  if (status == RAG_NOT_FOUND) return rag_kb__corrupt(err, RAG_CF_BITMAP, rag_key_slice(&key));
  RAG_TRY(status);
  status = rag_kb__decode_checkpoint(value.slice, revisions, chunks, err);
  rag_value_free(&value);
  return status;
}

static rag_status apply_delta(rag_bitmap **set, const rag_bitmap *added, const rag_bitmap *removed, rag_error *err) {
  if (added == NULL && removed == NULL) return RAG_OK;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(*set);
  if (edit == NULL) return rag_fail_no_memory(err, 0);
  rag_status status = RAG_OK;
  if (removed != NULL) status = rag_bitmap_edit_andnot(edit, removed);
  if (status == RAG_OK && added != NULL) status = rag_bitmap_edit_or(edit, added);
  if (status != RAG_OK) {
    rag_bitmap_edit_destroy(edit);
    return rag_fail_no_memory(err, 0);
  }
  rag_bitmap *next = NULL;
  if (rag_bitmap_edit_finish(edit, &next) != RAG_OK) return rag_fail_no_memory(err, 0);
  rag_ref_drop(*set);
  *set = next;
  return RAG_OK;
}

// Walks bases down to a cached version, a checkpoint or the empty set, then applies the deltas on the way back.
static rag_status materialise(rag_kb *kb, version_source from, uint32_t commit, rag_version **out, rag_error *err) {
  rag_kb__delta *chain = NULL;
  size_t length = 0, capacity = 0;
  rag_bitmap *revisions = NULL, *chunks = NULL;
  rag_status status = RAG_OK;
  uint32_t at = commit, depth = 0;
  while (at != 0) {
    rag_version *known = cache_get(&kb->kbs->versions, version_key(kb->id, at));
    if (known != NULL) {
      revisions = rag_ref_take(known->revisions);
      chunks = rag_ref_take(known->chunks);
      if (at == commit) depth = known->depth; // another thread was faster
      rag_ref_drop(known);
      break;
    }
    if (length == capacity) {
      capacity = capacity ? capacity * 2 : 64;
      rag_kb__delta *grown = rag_realloc_array(chain, capacity, sizeof *chain);
      if (grown == NULL) {
        status = rag_fail_no_memory(err, capacity * sizeof *chain);
        goto out;
      }
      chain = grown;
    }
    RAG_TRY_OUT(get_delta(kb, from, at, &chain[length], err));
    if (at == commit) depth = chain[length].depth;
    length++;
    if (chain[length - 1].depth == 0) { // has a checkpoint: its delta is not needed
      rag_kb__delta_free(&chain[--length]);
      RAG_TRY_OUT(get_checkpoint(kb, from, at, &revisions, &chunks, err));
      break;
    }
    if (chain[length - 1].base >= at) {
      status = rag_fail(err, RAG_DATA_LOSS, "commit c%u of knowledge base '%s' is based on a later one", at, kb->name);
      goto out;
    }
    at = chain[length - 1].base;
  }
  if (revisions == NULL && ((revisions = rag_bitmap_empty()) == NULL || (chunks = rag_bitmap_empty()) == NULL)) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  while (length > 0) {
    rag_kb__delta *delta = &chain[length - 1];
    RAG_TRY_OUT(apply_delta(&revisions, delta->revisions_added, delta->revisions_removed, err));
    RAG_TRY_OUT(apply_delta(&chunks, delta->chunks_added, delta->chunks_removed, err));
    rag_kb__delta_free(delta);
    length--;
  }
  rag_version *version = rag_kb__version_create(kb->id, commit, depth, revisions, chunks);
  revisions = chunks = NULL;
  if (version == NULL) {
    status = rag_fail_no_memory(err, sizeof *version);
    goto out;
  }
  *out = version;
out:
  while (length > 0) rag_kb__delta_free(&chain[--length]);
  rag_free(chain);
  rag_ref_drop(revisions);
  rag_ref_drop(chunks);
  return status;
}

static rag_version *view_version(const rag_kb__view *view, uint32_t commit) {
  for (uint32_t i = 0; i < view->branch_count; i++)
    if (view->branches[i].commit == commit && view->branches[i].head != NULL)
      return rag_ref_take(view->branches[i].head);
  return NULL;
}

// An old version is more like a head than like nothing: its words need then count only the difference.
static void near_a_head(rag_kb *kb, rag_version *version) {
  rag_kb__view *view = rag_cell_get(&kb->view);
  int at = rag_kb__view_find_branch(view, rag_slice_str("main"), NULL);
  if (at >= 0 && view->branches[at].head != NULL) rag_kb__version_near(kb, version, view->branches[at].head);
  rag_ref_drop(view);
}

rag_status rag_kb__version(rag_kb *kb, rag_txn *txn, uint32_t commit, rag_version **out, rag_error *err) {
  rag_version *version = NULL;
  if (txn != NULL) { // a running group: heads that are not durable yet stand in the pending view
    version = view_version(kb->pending, commit);
  } else {
    rag_kb__view *view = rag_cell_get(&kb->view);
    version = view_version(view, commit);
    rag_ref_drop(view);
  }
  if (version == NULL) version = cache_get(&kb->kbs->versions, version_key(kb->id, commit));
  if (version == NULL) {
    version_source from = {.txn = txn};
    uint64_t mark = rag_kb__history_mark(kb); // before the snapshot
    if (txn == NULL && (from.snapshot = rag_snapshot_create(kb->store)) == NULL) return rag_fail_no_memory(err, 0);
    rag_status status = materialise(kb, from, commit, &version, err);
    if (from.snapshot != NULL) rag_snapshot_destroy(kb->store, from.snapshot);
    RAG_TRY(status);
    near_a_head(kb, version);
    // A version made from rows that are not durable yet must not be seen by others, should the group fail.
    if (txn == NULL) rag_kb__version_cache_put(kb, version, mark);
  }
  *out = version;
  return RAG_OK;
}

rag_status rag_kb__head(rag_kb *kb, rag_txn *txn, const rag_kb__view *view, uint32_t branch, rag_version **out,
                        rag_error *err) {
  const rag_kb__branch *at = &view->branches[branch];
  if (at->head != NULL) {
    *out = rag_ref_take(at->head);
    return RAG_OK;
  }
  return rag_kb__version(kb, txn, at->commit, out, err);
}
