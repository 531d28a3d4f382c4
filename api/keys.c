// API keys: who may call, and what.
//
// A secret is "ragd_" and 43 base64url characters of 32 random bytes. Only its SHA-256 is stored: with 256 bits of
// randomness there is nothing to guess, so a slow hash would protect nothing and cost every request.
//
// On disk (META):  'K' id  ->  u8 1 (version), u8 role, u64le created, u64le expires, 32 bytes hash, bytes(name),
//                              varint count, bytes(kb)...
//
// Invariants
//  1. The table in `current` is what is durable: it is swapped in publish.
//  2. Rules over all keys (the first is an admin, the last admin stays) are checked in apply, on the rows as the
//  running
//     group leaves them, so two requests at once cannot break them together. Reading all rows again for each change
//     costs a millisecond for thousands of keys, and leaves no state beside the store's to keep in step with it.
//
// Threads: readers take `current` through its cell and never wait. Writers are ordered by the store's group commit.
//
// What time tells: a secret is looked up by its hash, so an attacker who times us learns about hashes of strings of his
// own choice; the last step compares all 32 bytes in constant time.
#include "api/dispatch_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define KEY_ROW_TAG 'K'
#define KEY_ROW_VERSION 1u
#define ID_RANDOM_BYTES 8u

struct rag_api__keys {
  rag_store *store;
  rag_cell current; // rag_api__key_table, never NULL
};

static const char *const role_names[] = {"none", "read", "write", "admin"};

const char *rag_api__role_name(rag_role role) {
  return (unsigned)role < RAG_COUNT_OF(role_names) ? role_names[role] : "none";
}

bool rag_api__role_parse(rag_slice text, rag_role *out) {
  for (unsigned i = RAG_ROLE_READ; i < RAG_COUNT_OF(role_names); i++) {
    if (!rag_slice_equal(text, rag_slice_str(role_names[i]))) continue;
    *out = (rag_role)i;
    return true;
  }
  return false;
}

// ---------------------------------------------------------------------------------------------- tables

static void key_free(rag_api__key *key) {
  rag_free(key->name);
  rag_strings_free(&key->kbs);
  *key = (rag_api__key){0};
}

static rag_status key_copy(const rag_api__key *from, rag_api__key *out, rag_error *err) {
  rag_api__key copy = *from;
  copy.kbs = (rag_strings){0};
  copy.name = rag_strdup(from->name);
  rag_status status = copy.name ? RAG_OK : rag_fail_no_memory(err, 1);
  for (size_t i = 0; status == RAG_OK && i < from->kbs.count; i++)
    status = rag_strings_add(&copy.kbs, rag_slice_str(from->kbs.items[i]), err);
  if (status == RAG_OK) *out = copy;
  else key_free(&copy);
  return status;
}

static void table_destroy(rag_ref *ref) {
  rag_api__key_table *table = (rag_api__key_table *)ref;
  for (uint32_t i = 0; i < table->count; i++) key_free(&table->keys[i]);
  rag_free(table->keys);
  rag_free(table);
}

static int by_hash(const void *a, const void *b) {
  return memcmp(((const rag_api__key *)a)->hash, ((const rag_api__key *)b)->hash, 32);
}

// A copy of `from` (may be NULL) without the key at `without` (UINT32_MAX: none) and with `with` (may be NULL).
static rag_status table_derive(const rag_api__key_table *from, uint32_t without, const rag_api__key *with,
                               rag_api__key_table **out, rag_error *err) {
  rag_status status = RAG_OK;
  uint32_t count = from ? from->count : 0;
  rag_api__key_table *table = rag_calloc(1, sizeof(*table));
  if (!table) return rag_fail_no_memory(err, sizeof(*table));
  rag_ref_init(&table->ref, table_destroy);
  table->keys = rag_calloc((size_t)count + 1, sizeof(*table->keys));
  if (!table->keys) RAG_TRY_OUT(rag_fail_no_memory(err, sizeof(*table->keys)));
  for (uint32_t i = 0; i < count; i++) {
    if (i == without) continue;
    RAG_TRY_OUT(key_copy(&from->keys[i], &table->keys[table->count], err));
    table->count++;
  }
  if (with) {
    RAG_TRY_OUT(key_copy(with, &table->keys[table->count], err));
    table->count++;
  }
  if (table->count) qsort(table->keys, table->count, sizeof(*table->keys), by_hash);
  *out = table;
  table = NULL;
out:
  rag_ref_drop(table);
  return status;
}

static const rag_api__key *table_find(const rag_api__key_table *table, const uint8_t hash[32]) {
  uint32_t low = 0, high = table->count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (memcmp(table->keys[middle].hash, hash, 32) < 0) low = middle + 1;
    else high = middle;
  }
  if (low == table->count || !rag_equal_constant_time(table->keys[low].hash, hash, 32)) return NULL;
  return &table->keys[low];
}

static uint32_t table_find_id(const rag_api__key_table *table, rag_slice id) {
  for (uint32_t i = 0; i < table->count; i++)
    if (rag_slice_equal(id, rag_slice_str(table->keys[i].id))) return i;
  return UINT32_MAX;
}

static bool is_live_admin(const rag_api__key *key, int64_t now_us) {
  return key->role == RAG_ROLE_ADMIN && (key->expires_us == 0 || key->expires_us > now_us);
}

// ---------------------------------------------------------------------------------------------- rows

static void row_key(rag_key *out, rag_slice id) {
  rag_key_init(out);
  rag_key_u8(out, KEY_ROW_TAG);
  rag_key_raw(out, id.data, id.size);
}

static void row_encode(const rag_api__key *key, rag_buf *out) {
  rag_buf_append_u8(out, KEY_ROW_VERSION);
  rag_buf_append_u8(out, (uint8_t)key->role);
  rag_buf_append_u64le(out, (uint64_t)key->created_us);
  rag_buf_append_u64le(out, (uint64_t)key->expires_us);
  rag_buf_append(out, key->hash, sizeof(key->hash));
  rag_buf_append_bytes(out, rag_slice_str(key->name));
  rag_buf_append_varint(out, key->kbs.count);
  for (size_t i = 0; i < key->kbs.count; i++) rag_buf_append_bytes(out, rag_slice_str(key->kbs.items[i]));
}

static rag_status row_decode(rag_slice row, rag_slice value, rag_api__key *out, rag_error *err) {
  rag_api__key key = {0};
  rag_status status = RAG_OK;
  rag_reader r = rag_reader_of(value);
  uint8_t version = rag_read_u8(&r);
  uint8_t role = rag_read_u8(&r);
  key.created_us = (int64_t)rag_read_u64le(&r);
  key.expires_us = (int64_t)rag_read_u64le(&r);
  rag_slice hash = rag_read_raw(&r, sizeof(key.hash));
  rag_slice name = rag_read_bytes(&r);
  uint64_t count = rag_read_varint(&r);
  rag_slice id = {row.data + 1, row.size - 1};
  if (r.bad || version != KEY_ROW_VERSION || role < RAG_ROLE_READ || role > RAG_ROLE_ADMIN || count > API_KEY_KBS_MAX ||
      id.size == 0 || id.size >= sizeof(key.id))
    goto corrupt;
  key.role = (rag_role)role;
  memcpy(key.hash, hash.data, sizeof(key.hash));
  memcpy(key.id, id.data, id.size);
  key.name = rag_strndup(name.data, name.size);
  if (!key.name) RAG_TRY_OUT(rag_fail_no_memory(err, name.size));
  for (uint64_t i = 0; i < count; i++) {
    rag_slice kb = rag_read_bytes(&r);
    if (r.bad) goto corrupt;
    RAG_TRY_OUT(rag_strings_add(&key.kbs, kb, err));
  }
  if (rag_reader_left(&r) != 0) goto corrupt;
  *out = key;
  return RAG_OK;
corrupt:
  // A key that cannot be read must not be dropped: with it gone the rest might be open to everybody.
  status = rag_fail(err, RAG_DATA_LOSS, "the API key '%.*s' cannot be read; restore the store from a backup",
                    (int)RAG_MIN(id.size, (size_t)64), id.data);
out:
  key_free(&key);
  return status;
}

// The rows of the newest committed state, or (txn) with what the running group has written over it.
static rag_status load(rag_store *store, rag_txn *txn, rag_api__key_table **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_store_iter *it = NULL;
  rag_api__key_table *table = rag_calloc(1, sizeof(*table));
  uint32_t capacity = 0;
  rag_key lower, upper;
  if (!table) return rag_fail_no_memory(err, sizeof(*table));
  rag_ref_init(&table->ref, table_destroy);
  row_key(&lower, rag_slice_of("", 0));
  RAG_ASSERT(rag_key_successor(&lower, &upper));
  rag_slice from = rag_key_slice(&lower), to = rag_key_slice(&upper);
  if (txn) RAG_TRY_OUT(rag_txn_iter_open(txn, RAG_CF_META, from, to, &it, err));
  else RAG_TRY_OUT(rag_store_iter_open(store, NULL, RAG_CF_META, from, to, false, &it, err));
  while (rag_store_iter_next(it)) {
    if (table->count == capacity) {
      uint32_t grown = capacity ? capacity * 2 : 16;
      rag_api__key *keys = rag_realloc_array(table->keys, grown, sizeof(*keys));
      if (!keys) RAG_TRY_OUT(rag_fail_no_memory(err, grown * sizeof(*keys)));
      table->keys = keys;
      capacity = grown;
    }
    RAG_TRY_OUT(row_decode(rag_store_iter_key(it), rag_store_iter_value(it), &table->keys[table->count], err));
    table->count++;
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  if (table->count) qsort(table->keys, table->count, sizeof(*table->keys), by_hash);
  *out = table;
  table = NULL;
out:
  rag_store_iter_close(it);
  rag_ref_drop(table);
  return status;
}

rag_status rag_api__keys_open(rag_store *store, rag_api__keys **out, rag_error *err) {
  rag_api__keys *keys = rag_calloc(1, sizeof(*keys));
  if (!keys) return rag_fail_no_memory(err, sizeof(*keys));
  rag_api__key_table *table = NULL;
  rag_status status = load(store, NULL, &table, err);
  if (status != RAG_OK) {
    rag_free(keys);
    return status;
  }
  keys->store = store;
  rag_cell_init(&keys->current, table);
  *out = keys;
  return RAG_OK;
}

void rag_api__keys_close(rag_api__keys *keys) {
  if (!keys) return;
  rag_cell_set(&keys->current, NULL);
  rag_free(keys);
}

rag_api__key_table *rag_api__keys_table(rag_api__keys *keys) {
  return rag_cell_get(&keys->current);
}

bool rag_api__keys_any(rag_api__keys *keys) {
  rag_api__key_table *table = rag_api__keys_table(keys);
  bool any = table->count > 0;
  rag_ref_drop(table);
  return any;
}

// ---------------------------------------------------------------------------------------------- who is asking

static bool bearer(const char *authorization, rag_slice *out) {
  static const char scheme[] = "bearer ";
  for (size_t i = 0; i < sizeof(scheme) - 1; i++) {
    char c = authorization[i];
    if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
    if (c != scheme[i]) return false;
  }
  const char *at = authorization + sizeof(scheme) - 1;
  at += strspn(at, " ");
  size_t size = strlen(at);
  while (size && at[size - 1] == ' ') size--;
  *out = rag_slice_of(at, size);
  return true;
}

static rag_status find_key(const rag_api__key_table *table, const char *authorization, const rag_api__key **out,
                           rag_error *err) {
  if (!authorization || !authorization[0])
    return rag_fail(err, RAG_UNAUTHENTICATED,
                    "this server asks for an API key: send the header 'Authorization: Bearer ragd_...'");
  rag_slice secret;
  if (!bearer(authorization, &secret))
    return rag_fail(err, RAG_UNAUTHENTICATED, "the Authorization header must be 'Bearer' and an API key");
  uint8_t hash[32];
  const rag_api__key *key = NULL;
  if (secret.size == API_KEY_SECRET_BYTES) {
    rag_sha256(secret.data, secret.size, hash);
    key = table_find(table, hash);
  }
  if (!key)
    return rag_fail(
        err, RAG_UNAUTHENTICATED,
        "this API key is not known: it is mistyped or has been deleted; ask an administrator for a new one");
  if (key->expires_us != 0 && key->expires_us <= rag_clock_now_us()) {
    char when[RAG_TIME_TEXT_MAX];
    rag_time_format(key->expires_us, when);
    return rag_fail(err, RAG_UNAUTHENTICATED, "the API key '%s' has expired at %s; ask an administrator for a new one",
                    key->id, when);
  }
  *out = key;
  return RAG_OK;
}

rag_status rag_api__authenticate(rag_api__keys *keys, const char *authorization, bool trusted, rag_api__principal *out,
                                 rag_error *err) {
  *out = (rag_api__principal){.role = RAG_ROLE_ADMIN};
  if (trusted) return RAG_OK;
  rag_api__key_table *table = rag_api__keys_table(keys);
  if (table->count == 0) { // open: the server has refused to listen on anything but loopback
    rag_ref_drop(table);
    return RAG_OK;
  }
  const rag_api__key *key = NULL;
  rag_status status = find_key(table, authorization, &key, err);
  if (status != RAG_OK) {
    *out = (rag_api__principal){.role = RAG_ROLE_NONE};
    rag_ref_drop(table);
    return status;
  }
  out->role = key->role;
  memcpy(out->key_id, key->id, sizeof(out->key_id));
  out->scope = key->kbs.count ? &key->kbs : NULL;
  out->pin = table;
  return RAG_OK;
}

bool rag_api__may_touch(const rag_api__principal *principal, rag_slice kb) {
  if (!principal->scope) return true;
  size_t low = 0, high = principal->scope->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = rag_slice_compare(kb, rag_slice_str(principal->scope->items[middle]));
    if (order == 0) return true;
    if (order < 0) high = middle;
    else low = middle + 1;
  }
  return false;
}

// The same answer whether the kb exists or not: a key must not find out about kbs of others.
rag_status rag_api__check_kb(const rag_api__principal *principal, rag_slice kb, rag_error *err) {
  if (rag_api__may_touch(principal, kb)) return RAG_OK;
  return rag_fail(err, RAG_PERMISSION_DENIED,
                  "the API key '%s' is not for knowledge base '%.*s'; its kbs are listed when the key is listed",
                  principal->key_id, (int)RAG_MIN(kb.size, (size_t)RAG_NAME_MAX), kb.data);
}

// ---------------------------------------------------------------------------------------------- changes

typedef struct change { // of one commit
  rag_api__keys *keys;
  const rag_api__key *create; // or
  rag_slice delete_id;
  bool may_be_last;
  rag_api__key_table *table; // a reference: what apply made
} change;

static rag_status apply_create(change *c, const rag_api__key_table *table, rag_txn *txn, rag_error *err) {
  if (table->count >= API_KEYS_MAX)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "there are %u API keys already, the most that can be; delete some",
                    table->count);
  if (table->count == 0 && c->create->role != RAG_ROLE_ADMIN)
    return rag_fail_field(err, RAG_FAILED_PRECONDITION, "role",
                          "role: the first API key must be an admin key: from then on every call needs a key, and "
                          "without an admin nobody could make another");
  RAG_TRY(table_derive(table, UINT32_MAX, c->create, &c->table, err));
  rag_key row;
  rag_buf value = {0};
  row_key(&row, rag_slice_str(c->create->id));
  row_encode(c->create, &value);
  rag_status status = rag_buf_check(&value, err);
  if (status == RAG_OK) rag_txn_put(txn, RAG_CF_META, rag_key_slice(&row), rag_buf_slice(&value));
  rag_buf_free(&value);
  return status;
}

static rag_status check_delete(const rag_api__key_table *table, uint32_t index, bool may_be_last, rag_error *err) {
  if (table->count == 1) {
    if (may_be_last) return RAG_OK;
    // Somebody may be listening on a public address by virtue of this key.
    return rag_fail(err, RAG_FAILED_PRECONDITION,
                    "this is the last API key, and without any the server is open to everybody who reaches it; to open "
                    "it, stop the server and delete the key in process: ragctl --data DIR key delete");
  }
  int64_t now_us = rag_clock_now_us();
  if (!is_live_admin(&table->keys[index], now_us)) return RAG_OK;
  for (uint32_t i = 0; i < table->count; i++)
    if (i != index && is_live_admin(&table->keys[i], now_us)) return RAG_OK;
  return rag_fail(err, RAG_FAILED_PRECONDITION,
                  "this is the last admin key while %u other keys exist; create another admin key first, or delete the "
                  "others",
                  table->count - 1);
}

static rag_status apply_delete(change *c, const rag_api__key_table *table, rag_txn *txn, rag_error *err) {
  uint32_t index = table_find_id(table, c->delete_id);
  if (index == UINT32_MAX)
    return rag_fail_field(err, RAG_NOT_FOUND, "id", "API key '%.*s' does not exist; GET /v1/keys lists those that do",
                          (int)RAG_MIN(c->delete_id.size, (size_t)64), c->delete_id.data);
  RAG_TRY(check_delete(table, index, c->may_be_last, err));
  RAG_TRY(table_derive(table, index, NULL, &c->table, err));
  rag_key row;
  row_key(&row, rag_slice_str(table->keys[index].id));
  rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&row));
  return RAG_OK;
}

static rag_status change_apply(void *ctx, rag_txn *txn, rag_error *err) {
  change *c = ctx;
  rag_api__key_table *table = NULL;
  RAG_TRY(load(c->keys->store, txn, &table, err));
  rag_status status = c->create ? apply_create(c, table, txn, err) : apply_delete(c, table, txn, err);
  rag_ref_drop(table);
  return status;
}

static void change_publish(void *ctx) {
  change *c = ctx;
  rag_cell_set(&c->keys->current, rag_ref_take(c->table));
}

static rag_status commit(change *c, rag_error *err) {
  rag_commit_request request = {.apply = change_apply, .publish = change_publish, .ctx = c};
  rag_status status = rag_store_commit(c->keys->store, &request, err);
  rag_ref_drop(c->table);
  return status;
}

static void secret_make(char *out) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  uint8_t random[API_KEY_RANDOM_BYTES + 1]; // padded to whole groups of 3
  rag_os_random(random, API_KEY_RANDOM_BYTES);
  random[API_KEY_RANDOM_BYTES] = 0;
  memcpy(out, API_KEY_PREFIX, sizeof(API_KEY_PREFIX) - 1);
  char *at = out + sizeof(API_KEY_PREFIX) - 1;
  for (size_t i = 0; i < 43; i++) {
    size_t bit = i * 6;
    uint32_t pair = (uint32_t)random[bit / 8] << 8 | (bit / 8 + 1 < sizeof(random) ? random[bit / 8 + 1] : 0u);
    *at++ = letters[pair >> (10 - bit % 8) & 63];
  }
  *at = '\0';
  explicit_bzero(random, sizeof(random));
}

rag_status rag_api__key_create(rag_api__keys *keys, rag_api__key *key, char *secret, rag_error *err) {
  uint8_t random[ID_RANDOM_BYTES];
  rag_os_random(random, sizeof(random));
  memcpy(key->id, "key_", 4);
  rag_hex(random, sizeof(random), key->id + 4);
  secret_make(secret);
  rag_sha256(secret, API_KEY_SECRET_BYTES, key->hash);
  key->created_us = rag_clock_now_us();
  return commit(&(change){.keys = keys, .create = key}, err);
}

rag_status rag_api__key_delete(rag_api__keys *keys, rag_slice id, bool may_be_last, rag_error *err) {
  return commit(&(change){.keys = keys, .delete_id = id, .may_be_last = may_be_last}, err);
}
