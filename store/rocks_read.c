// The RocksDB adapter, part two: reads, iterators, write batches. See rocks.c for the invariants.
//
// Bounds: an iterator keeps copies of its bounds, as RocksDB keeps only pointers to them.
//
// Prefixes: in the family with a prefix extractor, a forward scan that stays within one 12-byte prefix asks the prefix
// filter; every other scan must say total_order_seek, or RocksDB would skip tables whose filter does not know the seek
// key's prefix and rows would be missing. A backward scan starts at its upper bound, which usually has another prefix,
// so it is total-order too.
//
// A pinned value is either RocksDB's pinnable slice or, read through a batch, a heap copy; the low bit of rag_value.pin
// tells (both are aligned).
//
// Threads: reads from any thread. A batch belongs to one thread at a time (the leader's).
#include "store/rocks.h"

#include <stdio.h>

#define MULTI_GET_PIECE 64u                // keys given to RocksDB at a time: its own batches are of 32
#define BATCH_KEEP_BYTES ((size_t)8 << 20) // a batch that grew beyond this is made anew
#define PIN_HEAP ((uintptr_t)1)

// ---------------------------------------------------------------------------------------------- snapshots

struct rag_snapshot {
  const rocksdb_snapshot_t *snapshot;
  rocksdb_readoptions_t *read;
};

static void count_handle(rag_store *store, int64_t change) {
  atomic_fetch_add_explicit(&store->handles, change, memory_order_relaxed);
}

rag_snapshot *rag_snapshot_create(rag_store *store) {
  rag_snapshot *snapshot = rag_alloc(sizeof *snapshot);
  if (snapshot == NULL) return NULL;
  snapshot->snapshot = rocksdb_create_snapshot(store->db->db);
  snapshot->read = rag_store__read_options(store);
  rocksdb_readoptions_set_snapshot(snapshot->read, snapshot->snapshot);
  count_handle(store, 1);
  return snapshot;
}

void rag_snapshot_destroy(rag_store *store, rag_snapshot *snapshot) {
  if (snapshot == NULL) return;
  rocksdb_readoptions_destroy(snapshot->read);
  rocksdb_release_snapshot(store->db->db, snapshot->snapshot);
  count_handle(store, -1);
  rag_free(snapshot);
}

static const rocksdb_readoptions_t *point_options(const rag_store *store, const rag_snapshot *snapshot) {
  return snapshot != NULL ? snapshot->read : store->db->read_newest;
}

// ---------------------------------------------------------------------------------------------- point reads

void rag_value_free(rag_value *value) {
  if (value == NULL) return;
  uintptr_t pin = (uintptr_t)value->pin;
  if (pin & PIN_HEAP) rocksdb_free((void *)(pin & ~PIN_HEAP));
  else if (pin != 0) rocksdb_pinnableslice_destroy(value->pin);
  *value = (rag_value){0};
}

static rag_value value_of_pin(rocksdb_pinnableslice_t *pin) {
  size_t size = 0;
  const char *data = rocksdb_pinnableslice_value(pin, &size);
  // An empty value is not an absent one: data is never NULL.
  return (rag_value){{data != NULL ? data : "", size}, pin};
}

rag_status rag_store_get(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, rag_slice key, rag_value *out,
                         rag_error *err) {
  char *message = NULL;
  rocksdb_pinnableslice_t *pin = rocksdb_get_pinned_cf(store->db->db, point_options(store, snapshot), store->db->cf[cf],
                                                       key.data, key.size, &message);
  if (message != NULL) return rag_store__rocks_fail(err, "read", message);
  if (pin == NULL) return RAG_NOT_FOUND;
  *out = value_of_pin(pin);
  return RAG_OK;
}

// Every message is freed; the first one is the error.
static rag_status multi_get_piece(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, size_t count,
                                  const rag_slice *keys, rag_value *values, rag_error *err) {
  const char *data[MULTI_GET_PIECE];
  size_t sizes[MULTI_GET_PIECE];
  rocksdb_pinnableslice_t *pins[MULTI_GET_PIECE] = {NULL};
  char *messages[MULTI_GET_PIECE] = {NULL};
  rag_status status = RAG_OK;
  for (size_t i = 0; i < count; i++) {
    data[i] = keys[i].data;
    sizes[i] = keys[i].size;
  }
  rocksdb_batched_multi_get_cf(store->db->db, point_options(store, snapshot), store->db->cf[cf], count, data, sizes,
                               pins, messages, false);
  for (size_t i = 0; i < count; i++) {
    if (pins[i] != NULL) values[i] = value_of_pin(pins[i]);
    if (messages[i] == NULL) continue;
    if (status == RAG_OK) status = rag_store__rocks_fail(err, "read", messages[i]);
    else rocksdb_free(messages[i]);
  }
  return status;
}

rag_status rag_store_multi_get(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, size_t count,
                               const rag_slice *keys, rag_value *values, rag_error *err) {
  rag_status status = RAG_OK;
  for (size_t i = 0; i < count; i++) values[i] = (rag_value){0};
  for (size_t i = 0; i < count && status == RAG_OK; i += MULTI_GET_PIECE)
    status = multi_get_piece(store, snapshot, cf, RAG_MIN(count - i, MULTI_GET_PIECE), keys + i, values + i, err);
  if (status != RAG_OK)
    for (size_t i = 0; i < count; i++) rag_value_free(&values[i]);
  return status;
}

// ---------------------------------------------------------------------------------------------- iterators

struct rag_store_iter {
  rag_store *store;
  rocksdb_iterator_t *it;
  rocksdb_readoptions_t *read;
  bool reverse;
  bool started;
  bool check_upper;       // over a batch: RocksDB bounds only the rows that are in the database already
  rag_slice lower, upper; // into `bounds`
  char bounds[];
};

// Are all keys of [lower, upper) of one prefix?
static bool within_prefix(rag_slice lower, rag_slice upper) {
  if (lower.size < DOCUMENT_PREFIX_BYTES || upper.size == 0) return false;
  if (upper.size >= DOCUMENT_PREFIX_BYTES && memcmp(lower.data, upper.data, DOCUMENT_PREFIX_BYTES) == 0) return true;
  rag_key prefix, next;
  rag_key_init(&prefix);
  rag_key_raw(&prefix, lower.data, DOCUMENT_PREFIX_BYTES);
  return rag_key_successor(&prefix, &next) && rag_slice_equal(rag_key_slice(&next), upper);
}

static rag_store_iter *iter_create(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, rag_slice lower,
                                   rag_slice upper, bool reverse) {
  rag_store_iter *iter = rag_calloc(1, sizeof *iter + lower.size + upper.size);
  if (iter == NULL) return NULL;
  if (lower.size > 0) memcpy(iter->bounds, lower.data, lower.size);
  if (upper.size > 0) memcpy(iter->bounds + lower.size, upper.data, upper.size);
  iter->store = store;
  iter->lower = (rag_slice){iter->bounds, lower.size};
  iter->upper = (rag_slice){iter->bounds + lower.size, upper.size};
  iter->reverse = reverse;
  iter->read = rag_store__read_options(store);
  if (snapshot != NULL) rocksdb_readoptions_set_snapshot(iter->read, snapshot->snapshot);
  if (lower.size > 0) rocksdb_readoptions_set_iterate_lower_bound(iter->read, iter->lower.data, lower.size);
  if (upper.size > 0) rocksdb_readoptions_set_iterate_upper_bound(iter->read, iter->upper.data, upper.size);
  if (cf == RAG_CF_DOCUMENT && !reverse && within_prefix(lower, upper))
    rocksdb_readoptions_set_prefix_same_as_start(iter->read, 1);
  else rocksdb_readoptions_set_total_order_seek(iter->read, 1);
  iter->it = rocksdb_create_iterator_cf(store->db->db, iter->read, store->db->cf[cf]);
  count_handle(store, 1);
  return iter;
}

rag_status rag_store_iter_open(rag_store *store, const rag_snapshot *snapshot, rag_cf cf, rag_slice lower,
                               rag_slice upper, bool reverse, rag_store_iter **out, rag_error *err) {
  rag_store_iter *iter = iter_create(store, snapshot, cf, lower, upper, reverse);
  if (iter == NULL) return rag_fail_no_memory(err, sizeof *iter + lower.size + upper.size);
  *out = iter;
  return RAG_OK;
}

static void iter_first(rag_store_iter *iter) {
  iter->started = true;
  if (iter->reverse) rocksdb_iter_seek_to_last(iter->it); // starts below the upper bound
  else if (iter->lower.size > 0) rocksdb_iter_seek(iter->it, iter->lower.data, iter->lower.size);
  else rocksdb_iter_seek_to_first(iter->it);
}

bool rag_store_iter_next(rag_store_iter *iter) {
  if (!iter->started) iter_first(iter);
  else if (!rocksdb_iter_valid(iter->it)) return false;
  else if (iter->reverse) rocksdb_iter_prev(iter->it);
  else rocksdb_iter_next(iter->it);
  if (!rocksdb_iter_valid(iter->it)) return false;
  return !iter->check_upper || rag_slice_compare(rag_store_iter_key(iter), iter->upper) < 0;
}

rag_slice rag_store_iter_key(const rag_store_iter *iter) {
  size_t size = 0;
  const char *data = rocksdb_iter_key(iter->it, &size);
  return (rag_slice){data, size};
}

rag_slice rag_store_iter_value(const rag_store_iter *iter) {
  size_t size = 0;
  const char *data = rocksdb_iter_value(iter->it, &size);
  return (rag_slice){data, size};
}

rag_status rag_store_iter_status(rag_store_iter *iter, rag_error *err) {
  char *message = NULL;
  rocksdb_iter_get_error(iter->it, &message);
  return message == NULL ? RAG_OK : rag_store__rocks_fail(err, "scan", message);
}

void rag_store_iter_close(rag_store_iter *iter) {
  if (iter == NULL) return;
  rocksdb_iter_destroy(iter->it);
  rocksdb_readoptions_destroy(iter->read);
  count_handle(iter->store, -1);
  rag_free(iter);
}

// ---------------------------------------------------------------------------------------------- batches

// An indexed batch: what was put can be read back, and the newest write of a key wins (overwrite_keys).
struct rag_store__batch {
  rag_store *store;
  rocksdb_writebatch_wi_t *rows;
};

rag_status rag_store__batch_create(rag_store *store, rag_store__batch **out, rag_error *err) {
  rag_store__batch *batch = rag_alloc(sizeof *batch);
  if (batch == NULL) return rag_fail_no_memory(err, sizeof *batch);
  *batch = (rag_store__batch){store, rocksdb_writebatch_wi_create(0, 1)};
  *out = batch;
  return RAG_OK;
}

void rag_store__batch_destroy(rag_store__batch *batch) {
  if (batch == NULL) return;
  rocksdb_writebatch_wi_destroy(batch->rows);
  rag_free(batch);
}

void rag_store__batch_clear(rag_store__batch *batch) {
  if (rag_store__batch_bytes(batch) <= BATCH_KEEP_BYTES) {
    rocksdb_writebatch_wi_clear(batch->rows);
    return;
  }
  rocksdb_writebatch_wi_destroy(batch->rows);
  batch->rows = rocksdb_writebatch_wi_create(0, 1);
}

size_t rag_store__batch_bytes(const rag_store__batch *batch) {
  size_t size = 0;
  (void)rocksdb_writebatch_wi_data(batch->rows, &size);
  return size;
}

bool rag_store__batch_is_empty(const rag_store__batch *batch) {
  return rocksdb_writebatch_wi_count(batch->rows) == 0;
}

void rag_store__batch_put(rag_store__batch *batch, rag_cf cf, rag_slice key, rag_slice value) {
  rocksdb_writebatch_wi_put_cf(batch->rows, batch->store->db->cf[cf], key.data, key.size, value.data, value.size);
}

void rag_store__batch_delete(rag_store__batch *batch, rag_cf cf, rag_slice key) {
  rocksdb_writebatch_wi_delete_cf(batch->rows, batch->store->db->cf[cf], key.data, key.size);
}

void rag_store__batch_mark(rag_store__batch *batch) {
  rocksdb_writebatch_wi_set_save_point(batch->rows);
}

void rag_store__batch_rollback(rag_store__batch *batch) {
  char *message = NULL;
  rocksdb_writebatch_wi_rollback_to_save_point(batch->rows, &message);
  RAG_ASSERT(message == NULL); // only when there is no save point
}

rag_status rag_store__batch_get(rag_store__batch *batch, rag_cf cf, rag_slice key, rag_value *out, rag_error *err) {
  // The first request of a group mostly reads before it writes: then no copy.
  if (rag_store__batch_is_empty(batch)) return rag_store_get(batch->store, NULL, cf, key, out, err);
  rag_store__db *db = batch->store->db;
  char *message = NULL;
  size_t size = 0;
  char *data = rocksdb_writebatch_wi_get_from_batch_and_db_cf(batch->rows, db->db, db->read_newest, db->cf[cf],
                                                              key.data, key.size, &size, &message);
  if (message != NULL) return rag_store__rocks_fail(err, "read", message);
  if (data == NULL) return RAG_NOT_FOUND;
  RAG_ASSERT(((uintptr_t)data & PIN_HEAP) == 0);
  *out = (rag_value){{data, size}, (void *)((uintptr_t)data | PIN_HEAP)};
  return RAG_OK;
}

rag_status rag_store__batch_iter(rag_store__batch *batch, rag_cf cf, rag_slice lower, rag_slice upper,
                                 rag_store_iter **out, rag_error *err) {
  RAG_TRY(rag_store_iter_open(batch->store, NULL, cf, lower, upper, false, out, err));
  (*out)->check_upper = upper.size > 0;
  // Takes the iterator over the database into the merged one.
  (*out)->it = rocksdb_writebatch_wi_create_iterator_with_base_cf(batch->rows, (*out)->it, batch->store->db->cf[cf]);
  return RAG_OK;
}

rag_status rag_store__batch_write(rag_store__batch *batch, rag_error *err) {
  char *message = NULL;
  rocksdb_write_writebatch_wi(batch->store->db->db, batch->store->db->write_commit, batch->rows, &message);
  return message == NULL ? RAG_OK : rag_store__rocks_fail(err, "write", message);
}
