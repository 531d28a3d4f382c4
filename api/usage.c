// What API keys have used: requests (a token bucket), bytes written today, and when they were last used.
//
// On disk (META):  'k' id  ->  u8 1 (version), u64le last used (us), u64le UTC day, u64le bytes of that day
//
// Invariants
//  1. One object a key for as long as the key is there: every table of keys (keys.c) that has the key refers to it, so a
//     change of any key loses no count of another.
//  2. Rows are written lazily: once a minute what has changed, in one commit, and on close. So a crash forgets at most a
//     minute of use: a quota may be passed by what one minute writes. The bucket is not stored; it is full after a start.
//  3. A row is written only beside its key's, so that the row of a deleted key does not come back.
//
// Threads: any. `lock` of an object guards its bucket and its day; last_us and changed are atomic, as every request looks
// at them and a minute's exactness is all that they promise. `lock` of the registry guards the chains.
#include "api/dispatch_internal.h"

#include <pthread.h>
#include <time.h>

#define USE_ROW_TAG 'k'
#define USE_ROW_VERSION 1u
#define CHAINS 1024u // a power of two
#define WRITE_EVERY_S 60
#define LAST_USED_STEP_US INT64_C(60000000)
#define DAY_US (INT64_C(86400) * 1000000)
#define NS_PER_S UINT64_C(1000000000)

struct rag_api__usage {
  rag_ref ref;
  struct rag_api__usage *next; // of the chain; guarded by the registry's lock
  char id[API_KEY_ID_SIZE];    // immutable
  _Atomic int64_t last_us;     // atomic, relaxed: a number of its own
  _Atomic bool changed;        // atomic, relaxed: since it was written
  pthread_mutex_t lock;
  uint64_t tokens_ns; // guarded by: lock; a request costs 1 s / rate of them
  uint64_t filled_ns; // guarded by: lock; 0: the bucket is full
  int64_t day;        // guarded by: lock
  uint64_t bytes;     // guarded by: lock; of that day
};

struct rag_api__usages {
  rag_store *store;
  pthread_mutex_t lock;
  rag_api__usage *chains[CHAINS]; // guarded by: lock; each with a reference
  pthread_cond_t wake;
  bool stopping; // guarded by: lock
  bool started;
  pthread_t thread;
};

static void usage_destroy(rag_ref *ref) {
  rag_api__usage *usage = (rag_api__usage *)ref;
  pthread_mutex_destroy(&usage->lock);
  rag_free(usage);
}

static rag_api__usage **chain_of(rag_api__usages *usages, const char *id) {
  return &usages->chains[rag_hash64(id, strlen(id)) % CHAINS];
}

rag_api__usage *rag_api__usage_get(rag_api__usages *usages, const char *id) {
  pthread_mutex_lock(&usages->lock);
  rag_api__usage **chain = chain_of(usages, id), *usage = *chain;
  while (usage && strcmp(usage->id, id) != 0) usage = usage->next;
  if (!usage && (usage = rag_calloc(1, sizeof(*usage))) != NULL) {
    rag_ref_init(&usage->ref, usage_destroy);
    memcpy(usage->id, id, RAG_MIN(strlen(id), sizeof(usage->id) - 1));
    pthread_mutex_init(&usage->lock, NULL);
    usage->next = *chain;
    *chain = usage;
  }
  rag_ref_take(usage);
  pthread_mutex_unlock(&usages->lock);
  return usage;
}

void rag_api__usage_forget(rag_api__usages *usages, const char *id) {
  pthread_mutex_lock(&usages->lock);
  rag_api__usage **at = chain_of(usages, id), *usage = NULL;
  while (*at && strcmp((*at)->id, id) != 0) at = &(*at)->next;
  if (*at) {
    usage = *at;
    *at = usage->next;
  }
  pthread_mutex_unlock(&usages->lock);
  rag_ref_drop(usage);
}

// ---------------------------------------------------------------------------------------------- rows

void rag_api__usage_row_key(rag_key *out, rag_slice id) {
  rag_key_init(out);
  rag_key_u8(out, USE_ROW_TAG);
  rag_key_raw(out, id.data, id.size);
}

static rag_status row_load(rag_api__usages *usages, rag_slice row, rag_slice value, rag_error *err) {
  char id[API_KEY_ID_SIZE] = "";
  rag_reader r = rag_reader_of(value);
  uint8_t version = rag_read_u8(&r);
  int64_t last_us = (int64_t)rag_read_u64le(&r);
  int64_t day = (int64_t)rag_read_u64le(&r);
  uint64_t bytes = rag_read_u64le(&r);
  if (r.bad || version != USE_ROW_VERSION || rag_reader_left(&r) || row.size < 2 || row.size > sizeof(id))
    return rag_fail(err, RAG_DATA_LOSS, "what an API key has used cannot be read; restore the store from a backup");
  memcpy(id, row.data + 1, row.size - 1);
  rag_api__usage *usage = rag_api__usage_get(usages, id);
  if (!usage) return rag_fail_no_memory(err, sizeof(*usage));
  atomic_store_explicit(&usage->last_us, last_us, memory_order_relaxed);
  usage->day = day; // nobody else has it yet
  usage->bytes = bytes;
  rag_ref_drop(usage);
  return RAG_OK;
}

static rag_status load(rag_api__usages *usages, rag_error *err) {
  rag_status status = RAG_OK;
  rag_store_iter *it = NULL;
  rag_key lower, upper;
  rag_api__usage_row_key(&lower, rag_slice_of("", 0));
  RAG_ASSERT(rag_key_successor(&lower, &upper));
  RAG_TRY(rag_store_iter_open(usages->store, NULL, RAG_CF_META, rag_key_slice(&lower), rag_key_slice(&upper), false,
                              &it, err));
  while (rag_store_iter_next(it)) RAG_TRY_OUT(row_load(usages, rag_store_iter_key(it), rag_store_iter_value(it), err));
  RAG_TRY_OUT(rag_store_iter_status(it, err));
out:
  rag_store_iter_close(it);
  return status;
}

static rag_status row_write(rag_api__usage *usage, rag_txn *txn, rag_error *err) {
  rag_key row, key_row;
  rag_value there = {0};
  rag_slice id = rag_slice_str(usage->id);
  rag_api__key_row_key(&key_row, id);
  rag_status status = rag_txn_get(txn, RAG_CF_META, rag_key_slice(&key_row), &there, err);
  rag_value_free(&there);
  if (status == RAG_NOT_FOUND) return RAG_OK; // the key has been deleted meanwhile
  if (status != RAG_OK) return status;
  rag_buf value = {0};
  rag_api__usage_row_key(&row, id);
  rag_buf_append_u8(&value, USE_ROW_VERSION);
  rag_buf_append_u64le(&value, (uint64_t)atomic_load_explicit(&usage->last_us, memory_order_relaxed));
  pthread_mutex_lock(&usage->lock);
  rag_buf_append_u64le(&value, (uint64_t)usage->day);
  rag_buf_append_u64le(&value, usage->bytes);
  pthread_mutex_unlock(&usage->lock);
  status = rag_buf_check(&value, err);
  if (status == RAG_OK) rag_txn_put(txn, RAG_CF_META, rag_key_slice(&row), rag_buf_slice(&value));
  rag_buf_free(&value);
  return status;
}

typedef struct changes {
  rag_api__usage **items; // references
  size_t count;
} changes;

static rag_status changes_apply(void *ctx, rag_txn *txn, rag_error *err) {
  changes *c = ctx;
  for (size_t i = 0; i < c->count; i++) RAG_TRY(row_write(c->items[i], txn, err));
  return RAG_OK;
}

// With the flags taken back: what changes from here on is for the next time.
static rag_status changes_take(rag_api__usages *usages, changes *out, rag_error *err) {
  rag_status status = RAG_OK;
  size_t capacity = 0;
  pthread_mutex_lock(&usages->lock);
  for (size_t i = 0; i < CHAINS && status == RAG_OK; i++)
    for (rag_api__usage *usage = usages->chains[i]; usage && status == RAG_OK; usage = usage->next) {
      if (!atomic_load_explicit(&usage->changed, memory_order_relaxed)) continue;
      if (out->count == capacity) {
        size_t grown = capacity ? capacity * 2 : 64;
        rag_api__usage **items = rag_realloc_array(out->items, grown, sizeof(*items));
        if (!items) {
          status = rag_fail_no_memory(err, grown * sizeof(*items));
          break;
        }
        out->items = items;
        capacity = grown;
      }
      atomic_store_explicit(&usage->changed, false, memory_order_relaxed);
      out->items[out->count++] = rag_ref_take(usage);
    }
  pthread_mutex_unlock(&usages->lock);
  return status;
}

rag_status rag_api__usages_write(rag_api__usages *usages, rag_error *err) {
  changes c = {0};
  rag_commit_request request = {.apply = changes_apply, .ctx = &c};
  rag_status status = changes_take(usages, &c, err);
  if (status == RAG_OK && c.count) status = rag_store_commit(usages->store, &request, err);
  for (size_t i = 0; i < c.count; i++) {
    if (status != RAG_OK) atomic_store_explicit(&c.items[i]->changed, true, memory_order_relaxed);
    rag_ref_drop(c.items[i]);
  }
  rag_free(c.items);
  return status;
}

// ---------------------------------------------------------------------------------------------- life

static void *writer(void *arg) {
  rag_api__usages *usages = arg;
  pthread_setname_np(pthread_self(), "ragd-keys");
  pthread_mutex_lock(&usages->lock);
  while (!usages->stopping) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WRITE_EVERY_S;
    int waited = 0;
    while (!usages->stopping && waited == 0) waited = pthread_cond_timedwait(&usages->wake, &usages->lock, &until);
    if (usages->stopping) break; // close writes
    pthread_mutex_unlock(&usages->lock);
    // A store that takes no writes says so elsewhere, and loudly; the use stays marked for the next time.
    rag_error err = {0};
    if (rag_api__usages_write(usages, &err) != RAG_OK)
      rag_log(RAG_LOG_DEBUG, "keys.use_not_written", "message=%s", err.message);
    pthread_mutex_lock(&usages->lock);
  }
  pthread_mutex_unlock(&usages->lock);
  return NULL;
}

rag_status rag_api__usages_open(rag_store *store, bool writes_lazily, rag_api__usages **out, rag_error *err) {
  rag_api__usages *usages = rag_calloc(1, sizeof(*usages));
  if (!usages) return rag_fail_no_memory(err, sizeof(*usages));
  usages->store = store;
  pthread_mutex_init(&usages->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&usages->wake, &attr);
  pthread_condattr_destroy(&attr);
  rag_status status = load(usages, err);
  if (status == RAG_OK && writes_lazily) {
    int failed = pthread_create(&usages->thread, NULL, writer, usages);
    if (failed) status = rag_os_fail(err, "pthread_create", "ragd-keys", failed);
    else usages->started = true;
  }
  if (status == RAG_OK) *out = usages;
  else rag_api__usages_close(usages);
  return status;
}

void rag_api__usages_close(rag_api__usages *usages) {
  if (!usages) return;
  pthread_mutex_lock(&usages->lock);
  usages->stopping = true;
  pthread_cond_broadcast(&usages->wake);
  pthread_mutex_unlock(&usages->lock);
  if (usages->started) pthread_join(usages->thread, NULL);
  rag_error err = {0};
  if (rag_api__usages_write(usages, &err) != RAG_OK)
    rag_log(RAG_LOG_WARN, "keys.use_not_written", "message=%s", err.message);
  for (size_t i = 0; i < CHAINS; i++)
    while (usages->chains[i]) {
      rag_api__usage *usage = usages->chains[i];
      usages->chains[i] = usage->next;
      rag_ref_drop(usage);
    }
  pthread_cond_destroy(&usages->wake);
  pthread_mutex_destroy(&usages->lock);
  rag_free(usages);
}

// ---------------------------------------------------------------------------------------------- use

void rag_api__usage_touch(rag_api__usage *usage, int64_t now_us) {
  int64_t last_us = atomic_load_explicit(&usage->last_us, memory_order_relaxed);
  if (now_us - last_us < LAST_USED_STEP_US) return; // to the minute: every request would else write to a shared line
  atomic_store_explicit(&usage->last_us, now_us, memory_order_relaxed);
  atomic_store_explicit(&usage->changed, true, memory_order_relaxed);
}

int64_t rag_api__usage_last_us(const rag_api__usage *usage) {
  return atomic_load_explicit(&usage->last_us, memory_order_relaxed);
}

// The bucket is counted in time: a request costs 1 s / rate, and time fills it up to burst requests' worth. So nothing is
// rounded away at any rate, and the wait for the next token is what is missing.
static bool take_token(rag_api__usage *usage, const rag_api__limits *limits, uint64_t now_ns, uint64_t *out_wait_ns) {
  uint64_t cost = NS_PER_S / limits->requests_per_s;
  uint64_t most = cost * RAG_MAX(limits->burst, 1u);
  if (usage->filled_ns == 0) usage->tokens_ns = most;
  else usage->tokens_ns = RAG_MIN(most, usage->tokens_ns + (now_ns > usage->filled_ns ? now_ns - usage->filled_ns : 0));
  usage->filled_ns = RAG_MAX(now_ns, usage->filled_ns);
  if (usage->tokens_ns >= cost) {
    usage->tokens_ns -= cost;
    return true;
  }
  *out_wait_ns = cost - usage->tokens_ns;
  return false;
}

// The bytes that are used of the day of now_us. With the lock held.
static uint64_t bytes_today(rag_api__usage *usage, int64_t now_us) {
  int64_t day = now_us / DAY_US;
  if (usage->day != day) {
    usage->day = day;
    usage->bytes = 0;
  }
  return usage->bytes;
}

static rag_status quota_used(const rag_api__key *key, int64_t now_us, unsigned *retry_after_s, rag_error *err) {
  *retry_after_s = (unsigned)((DAY_US - now_us % DAY_US) / 1000000 + 1);
  return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                  "the API key '%s' has written its %llu bytes of this day (UTC); it may write again tomorrow", key->id,
                  (unsigned long long)key->limits.bytes_per_day);
}

rag_status rag_api__usage_admit(const rag_api__key *key, bool write, uint64_t now_ns, int64_t now_us,
                                unsigned *retry_after_s, rag_error *err) {
  const rag_api__limits *limits = &key->limits;
  rag_api__usage *usage = key->usage;
  bool limited = limits->requests_per_s > 0, counted = write && limits->bytes_per_day > 0;
  if (!limited && !counted) return RAG_OK;
  uint64_t wait_ns = 0;
  pthread_mutex_lock(&usage->lock);
  bool admitted = !limited || take_token(usage, limits, now_ns, &wait_ns);
  bool has_bytes = !counted || bytes_today(usage, now_us) < limits->bytes_per_day;
  pthread_mutex_unlock(&usage->lock);
  if (!admitted) {
    *retry_after_s = (unsigned)((wait_ns + NS_PER_S - 1) / NS_PER_S);
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                    "the API key '%s' may make %u requests a second (%u at once); slow down, or ask an administrator "
                    "for a key with a higher limit",
                    key->id, limits->requests_per_s, RAG_MAX(limits->burst, 1u));
  }
  return has_bytes ? RAG_OK : quota_used(key, now_us, retry_after_s, err);
}

rag_status rag_api__usage_charge(const rag_api__key *key, uint64_t bytes, int64_t now_us, unsigned *retry_after_s,
                                 rag_error *err) {
  if (key->limits.bytes_per_day == 0) return RAG_OK;
  pthread_mutex_lock(&key->usage->lock);
  bool had_bytes = bytes_today(key->usage, now_us) < key->limits.bytes_per_day;
  if (had_bytes) key->usage->bytes += bytes;
  pthread_mutex_unlock(&key->usage->lock);
  atomic_store_explicit(&key->usage->changed, true, memory_order_relaxed);
  return had_bytes ? RAG_OK : quota_used(key, now_us, retry_after_s, err);
}
