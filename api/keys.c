// API keys: who may call, and what.
//
// A secret is "ragd_" and 43 base64url characters of 32 random bytes. Only its SHA-256 is stored: with 256 bits of
// randomness there is nothing to guess, so a slow hash would protect nothing and cost every request.
//
// On disk (META):  'K' id  ->  u8 2 (version), u8 role, u64le created, u64le expires, 32 bytes hash, bytes(name),
//                              varint count, bytes(kb)..., varint count, bytes(feature view)..., u64le rotated,
//                              32 bytes old hash, u64le old until, varint requests_per_s, varint burst,
//                              varint bytes_per_day
// Version 1 ends after the kbs; it is written for a key that has nothing of the rest, as older programs can read it.
//
// Rotation gives a key a new secret and keeps the one before for a time, so that its users can change over one by one. The
// hash of the old one stays in the row after that, so that who still comes with it is told what happened.
//
// Invariants
//  1. The table in `current` is what is durable: it is swapped in publish.
//  2. Rules over all keys (the first is an admin, the last admin stays) are checked in apply, on the rows as the
//     running group leaves them, so two requests at once cannot break them together. Reading all rows again for each change
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
#define KEY_ROW_VERSION 2u
#define ID_RANDOM_BYTES 8u

struct rag_api__keys {
  rag_store *store;
  rag_api__usages *usages;
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

void rag_api__key_free(rag_api__key *key) {
  rag_free(key->name);
  rag_strings_free(&key->kbs);
  rag_strings_free(&key->views);
  rag_ref_drop(key->usage);
  *key = (rag_api__key){0};
}

static rag_status strings_copy(const rag_strings *from, rag_strings *to, rag_error *err) {
  for (size_t i = 0; i < from->count; i++) RAG_TRY(rag_strings_add(to, rag_slice_str(from->items[i]), err));
  return RAG_OK;
}

static rag_status key_copy(const rag_api__key *from, rag_api__key *out, rag_error *err) {
  rag_api__key copy = *from;
  copy.kbs = copy.views = (rag_strings){0};
  copy.usage = rag_ref_take(from->usage);
  copy.name = rag_strdup(from->name);
  rag_status status = copy.name ? RAG_OK : rag_fail_no_memory(err, 1);
  if (status == RAG_OK) status = strings_copy(&from->kbs, &copy.kbs, err);
  if (status == RAG_OK) status = strings_copy(&from->views, &copy.views, err);
  if (status == RAG_OK) *out = copy;
  else rag_api__key_free(&copy);
  return status;
}

static void table_destroy(rag_ref *ref) {
  rag_api__key_table *table = (rag_api__key_table *)ref;
  for (uint32_t i = 0; i < table->count; i++) rag_api__key_free(&table->keys[i]);
  rag_free(table->keys);
  rag_free(table->secrets);
  rag_free(table);
}

static int by_id(const void *a, const void *b) {
  return strcmp(((const rag_api__key *)a)->id, ((const rag_api__key *)b)->id);
}

static int by_hash(const void *a, const void *b) {
  return memcmp(((const rag_api__secret *)a)->hash, ((const rag_api__secret *)b)->hash, 32);
}

// The orders in which a table is searched, from its keys; each gets its use.
static rag_status table_finish(rag_api__keys *keys, rag_api__key_table *table, rag_error *err) {
  size_t most = (size_t)table->count * 2;
  if (table->count == 0) return RAG_OK;
  qsort(table->keys, table->count, sizeof(*table->keys), by_id);
  table->secrets = rag_calloc(most, sizeof(*table->secrets));
  if (!table->secrets) return rag_fail_no_memory(err, most * sizeof(*table->secrets));
  for (uint32_t i = 0; i < table->count; i++) {
    rag_api__key *key = &table->keys[i];
    rag_api__secret *secret = &table->secrets[table->secret_count++];
    secret->key = i;
    memcpy(secret->hash, key->hash, sizeof(secret->hash));
    if (key->old_until_us) {
      secret = &table->secrets[table->secret_count++];
      *secret = (rag_api__secret){.key = i, .old = true};
      memcpy(secret->hash, key->old_hash, sizeof(secret->hash));
    }
    if (!key->usage) key->usage = rag_api__usage_get(keys->usages, key->id);
    if (!key->usage) return rag_fail_no_memory(err, 1);
  }
  qsort(table->secrets, table->secret_count, sizeof(*table->secrets), by_hash);
  return RAG_OK;
}

// A copy of `from` without the key at `without` (UINT32_MAX: none) and with `with` (may be NULL).
static rag_status table_derive(rag_api__keys *keys, const rag_api__key_table *from, uint32_t without,
                               const rag_api__key *with, rag_api__key_table **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_api__key_table *table = rag_calloc(1, sizeof(*table));
  if (!table) return rag_fail_no_memory(err, sizeof(*table));
  rag_ref_init(&table->ref, table_destroy);
  table->keys = rag_calloc((size_t)from->count + 1, sizeof(*table->keys));
  if (!table->keys) RAG_TRY_OUT(rag_fail_no_memory(err, sizeof(*table->keys)));
  for (uint32_t i = 0; i < from->count; i++) {
    if (i == without) continue;
    RAG_TRY_OUT(key_copy(&from->keys[i], &table->keys[table->count], err));
    table->count++;
  }
  if (with) {
    RAG_TRY_OUT(key_copy(with, &table->keys[table->count], err));
    table->count++;
  }
  RAG_TRY_OUT(table_finish(keys, table, err));
  *out = table;
  table = NULL;
out:
  rag_ref_drop(table);
  return status;
}

static const rag_api__secret *table_find(const rag_api__key_table *table, const uint8_t hash[32]) {
  uint32_t low = 0, high = table->secret_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (memcmp(table->secrets[middle].hash, hash, 32) < 0) low = middle + 1;
    else high = middle;
  }
  if (low == table->secret_count || !rag_equal_constant_time(table->secrets[low].hash, hash, 32)) return NULL;
  return &table->secrets[low];
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

void rag_api__key_row_key(rag_key *out, rag_slice id) {
  rag_key_init(out);
  rag_key_u8(out, KEY_ROW_TAG);
  rag_key_raw(out, id.data, id.size);
}

static void strings_encode(const rag_strings *strings, rag_buf *out) {
  rag_buf_append_varint(out, strings->count);
  for (size_t i = 0; i < strings->count; i++) rag_buf_append_bytes(out, rag_slice_str(strings->items[i]));
}

static void row_encode(const rag_api__key *key, rag_buf *out) {
  const rag_api__limits *limits = &key->limits;
  bool more = key->views.count || key->rotated_us || limits->requests_per_s || limits->burst || limits->bytes_per_day;
  rag_buf_append_u8(out, more ? KEY_ROW_VERSION : 1);
  rag_buf_append_u8(out, (uint8_t)key->role);
  rag_buf_append_u64le(out, (uint64_t)key->created_us);
  rag_buf_append_u64le(out, (uint64_t)key->expires_us);
  rag_buf_append(out, key->hash, sizeof(key->hash));
  rag_buf_append_bytes(out, rag_slice_str(key->name));
  strings_encode(&key->kbs, out);
  if (!more) return;
  strings_encode(&key->views, out);
  rag_buf_append_u64le(out, (uint64_t)key->rotated_us);
  rag_buf_append(out, key->old_hash, sizeof(key->old_hash));
  rag_buf_append_u64le(out, (uint64_t)key->old_until_us);
  rag_buf_append_varint(out, key->limits.requests_per_s);
  rag_buf_append_varint(out, key->limits.burst);
  rag_buf_append_varint(out, key->limits.bytes_per_day);
}

// RAG_DATA_LOSS without a message: the caller says which key.
static rag_status strings_decode(rag_reader *r, uint64_t most, rag_strings *out, rag_error *err) {
  uint64_t count = rag_read_varint(r);
  if (r->bad || count > most) return RAG_DATA_LOSS;
  for (uint64_t i = 0; i < count; i++) {
    rag_slice item = rag_read_bytes(r);
    if (r->bad) return RAG_DATA_LOSS;
    RAG_TRY(rag_strings_add(out, item, err));
  }
  return RAG_OK;
}

static rag_status row_decode_rest(rag_reader *r, rag_api__key *key, rag_error *err) {
  RAG_TRY(strings_decode(r, API_KEY_VIEWS_MAX, &key->views, err));
  key->rotated_us = (int64_t)rag_read_u64le(r);
  rag_slice old_hash = rag_read_raw(r, sizeof(key->old_hash));
  key->old_until_us = (int64_t)rag_read_u64le(r);
  uint64_t rate = rag_read_varint(r), burst = rag_read_varint(r);
  key->limits.bytes_per_day = rag_read_varint(r);
  if (r->bad || rate > API_KEY_RATE_MAX || burst > API_KEY_RATE_MAX) return RAG_DATA_LOSS;
  memcpy(key->old_hash, old_hash.data, sizeof(key->old_hash));
  key->limits.requests_per_s = (uint32_t)rate;
  key->limits.burst = (uint32_t)burst;
  return RAG_OK;
}

static rag_status row_decode_value(rag_slice value, rag_api__key *key, rag_error *err) {
  rag_reader r = rag_reader_of(value);
  uint8_t version = rag_read_u8(&r);
  uint8_t role = rag_read_u8(&r);
  key->created_us = (int64_t)rag_read_u64le(&r);
  key->expires_us = (int64_t)rag_read_u64le(&r);
  rag_slice hash = rag_read_raw(&r, sizeof(key->hash));
  rag_slice name = rag_read_bytes(&r);
  if (r.bad || version < 1 || version > KEY_ROW_VERSION || role < RAG_ROLE_READ || role > RAG_ROLE_ADMIN)
    return RAG_DATA_LOSS;
  key->role = (rag_role)role;
  memcpy(key->hash, hash.data, sizeof(key->hash));
  key->name = rag_strndup(name.data, name.size);
  if (!key->name) return rag_fail_no_memory(err, name.size);
  RAG_TRY(strings_decode(&r, API_KEY_KBS_MAX, &key->kbs, err));
  if (version > 1) RAG_TRY(row_decode_rest(&r, key, err));
  return rag_reader_left(&r) == 0 ? RAG_OK : RAG_DATA_LOSS;
}

static rag_status row_decode(rag_slice row, rag_slice value, rag_api__key *out, rag_error *err) {
  rag_api__key key = {0};
  rag_slice id = {row.data + 1, row.size - 1};
  rag_status status = id.size == 0 || id.size >= sizeof(key.id) ? RAG_DATA_LOSS : row_decode_value(value, &key, err);
  if (status == RAG_OK) {
    memcpy(key.id, id.data, id.size);
    *out = key;
    return RAG_OK;
  }
  rag_api__key_free(&key);
  if (status != RAG_DATA_LOSS) return status;
  // A key that cannot be read must not be dropped: with it gone the rest might be open to everybody.
  return rag_fail(err, RAG_DATA_LOSS, "the API key '%.*s' cannot be read; restore the store from a backup",
                  (int)RAG_MIN(id.size, (size_t)64), id.data);
}

// The rows of the newest committed state, or (txn) with what the running group has written over it.
static rag_status load(rag_api__keys *keys, rag_txn *txn, rag_api__key_table **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_store_iter *it = NULL;
  rag_api__key_table *table = rag_calloc(1, sizeof(*table));
  uint32_t capacity = 0;
  rag_key lower, upper;
  if (!table) return rag_fail_no_memory(err, sizeof(*table));
  rag_ref_init(&table->ref, table_destroy);
  rag_api__key_row_key(&lower, rag_slice_of("", 0));
  RAG_ASSERT(rag_key_successor(&lower, &upper));
  rag_slice from = rag_key_slice(&lower), to = rag_key_slice(&upper);
  if (txn) RAG_TRY_OUT(rag_txn_iter_open(txn, RAG_CF_META, from, to, &it, err));
  else RAG_TRY_OUT(rag_store_iter_open(keys->store, NULL, RAG_CF_META, from, to, false, &it, err));
  while (rag_store_iter_next(it)) {
    if (table->count == capacity) {
      uint32_t grown = capacity ? capacity * 2 : 16;
      rag_api__key *larger = rag_realloc_array(table->keys, grown, sizeof(*larger));
      if (!larger) RAG_TRY_OUT(rag_fail_no_memory(err, grown * sizeof(*larger)));
      table->keys = larger;
      capacity = grown;
    }
    RAG_TRY_OUT(row_decode(rag_store_iter_key(it), rag_store_iter_value(it), &table->keys[table->count], err));
    table->count++;
  }
  RAG_TRY_OUT(rag_store_iter_status(it, err));
  RAG_TRY_OUT(table_finish(keys, table, err));
  *out = table;
  table = NULL;
out:
  rag_store_iter_close(it);
  rag_ref_drop(table);
  return status;
}

rag_status rag_api__keys_open(rag_store *store, bool writes_lazily, rag_api__keys **out, rag_error *err) {
  rag_api__keys *keys = rag_calloc(1, sizeof(*keys));
  if (!keys) return rag_fail_no_memory(err, sizeof(*keys));
  rag_api__key_table *table = NULL;
  keys->store = store;
  rag_status status = rag_api__usages_open(store, writes_lazily, &keys->usages, err);
  if (status == RAG_OK) status = load(keys, NULL, &table, err);
  if (status != RAG_OK) {
    rag_api__usages_close(keys->usages);
    rag_free(keys);
    return status;
  }
  rag_cell_init(&keys->current, table);
  *out = keys;
  return RAG_OK;
}

void rag_api__keys_close(rag_api__keys *keys) {
  if (!keys) return;
  rag_cell_set(&keys->current, NULL);
  rag_api__usages_close(keys->usages);
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

static rag_status check_live(const rag_api__key *key, bool old, int64_t now_us, rag_error *err) {
  char when[RAG_TIME_TEXT_MAX];
  if (old && key->old_until_us <= now_us) {
    rag_time_format(key->old_until_us, when);
    return rag_fail(err, RAG_UNAUTHENTICATED,
                    "the API key '%s' has been rotated and its old secret has ended at %s; use the new one", key->id,
                    when);
  }
  if (key->expires_us == 0 || key->expires_us > now_us) return RAG_OK;
  rag_time_format(key->expires_us, when);
  return rag_fail(err, RAG_UNAUTHENTICATED, "the API key '%s' has expired at %s; ask an administrator for a new one",
                  key->id, when);
}

// *who: the key's id as soon as it is known, for the audit log, also where it is refused.
static rag_status find_key(const rag_api__key_table *table, const char *authorization, char who[API_KEY_ID_SIZE],
                           const rag_api__key **out, rag_error *err) {
  if (!authorization || !authorization[0])
    return rag_fail(err, RAG_UNAUTHENTICATED,
                    "this server asks for an API key: send the header 'Authorization: Bearer ragd_...'");
  rag_slice text;
  if (!bearer(authorization, &text))
    return rag_fail(err, RAG_UNAUTHENTICATED, "the Authorization header must be 'Bearer' and an API key");
  uint8_t hash[32];
  const rag_api__secret *secret = NULL;
  if (text.size == API_KEY_SECRET_BYTES) {
    rag_sha256(text.data, text.size, hash);
    secret = table_find(table, hash);
  }
  if (!secret)
    return rag_fail(
        err, RAG_UNAUTHENTICATED,
        "this API key is not known: it is mistyped or has been deleted; ask an administrator for a new one");
  const rag_api__key *key = &table->keys[secret->key];
  int64_t now_us = rag_clock_now_us();
  memcpy(who, key->id, API_KEY_ID_SIZE);
  RAG_TRY(check_live(key, secret->old, now_us, err));
  rag_api__usage_touch(key->usage, now_us);
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
  rag_status status = find_key(table, authorization, out->key_id, &key, err);
  if (status != RAG_OK) {
    out->role = RAG_ROLE_NONE;
    rag_ref_drop(table);
    return status;
  }
  out->role = key->role;
  // One list named is a key for what is named: the other is then empty, and nothing of its kind is in reach.
  if (key->kbs.count || key->views.count) {
    out->scope = &key->kbs;
    out->views = &key->views;
  }
  out->key = key;
  out->pin = table;
  return RAG_OK;
}

static bool is_among(const rag_strings *names, rag_slice name) {
  if (!names) return true;
  size_t low = 0, high = names->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = rag_slice_compare(name, rag_slice_str(names->items[middle]));
    if (order == 0) return true;
    if (order < 0) high = middle;
    else low = middle + 1;
  }
  return false;
}

bool rag_api__may_touch(const rag_api__principal *principal, rag_slice kb) {
  return is_among(principal->scope, kb);
}

bool rag_api__may_use_view(const rag_api__principal *principal, rag_slice view) {
  return is_among(principal->views, view);
}

// The same answer whether the kb exists or not: a key must not find out about kbs of others.
rag_status rag_api__check_kb(const rag_api__principal *principal, rag_slice kb, rag_error *err) {
  if (rag_api__may_touch(principal, kb)) return RAG_OK;
  return rag_fail(err, RAG_PERMISSION_DENIED,
                  "the API key '%s' is not for knowledge base '%.*s'; its kbs are listed when the key is listed",
                  principal->key_id, (int)RAG_MIN(kb.size, (size_t)RAG_NAME_MAX), kb.data);
}

rag_status rag_api__check_view(const rag_api__principal *principal, rag_slice view, rag_error *err) {
  if (rag_api__may_use_view(principal, view)) return RAG_OK;
  return rag_fail(err, RAG_PERMISSION_DENIED,
                  "the API key '%s' is not for feature view '%.*s'; its views are listed when the key is listed",
                  principal->key_id, (int)RAG_MIN(view.size, (size_t)RAG_NAME_MAX), view.data);
}

// ---------------------------------------------------------------------------------------------- changes

typedef struct change change;
struct change { // of one commit
  rag_api__keys *keys;
  rag_status (*apply)(change *c, const rag_api__key_table *table, rag_txn *txn, rag_error *err);
  const rag_api__key *create;
  rag_slice id; // of the key that is changed
  rag_api__key *rotated;
  const uint8_t *hash; // the new secret's
  uint32_t grace_s;
  int64_t expires_us;
  bool may_be_last;
  char gone[API_KEY_ID_SIZE];
  rag_api__key_table *table; // a reference: what apply made
};

static rag_status write_row(const rag_api__key *key, rag_txn *txn, rag_error *err) {
  rag_key row;
  rag_buf value = {0};
  rag_api__key_row_key(&row, rag_slice_str(key->id));
  row_encode(key, &value);
  rag_status status = rag_buf_check(&value, err);
  if (status == RAG_OK) rag_txn_put(txn, RAG_CF_META, rag_key_slice(&row), rag_buf_slice(&value));
  rag_buf_free(&value);
  return status;
}

static rag_status apply_create(change *c, const rag_api__key_table *table, rag_txn *txn, rag_error *err) {
  if (table->count >= API_KEYS_MAX)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "there are %u API keys already, the most that can be; delete some",
                    table->count);
  if (table->count == 0 && c->create->role != RAG_ROLE_ADMIN)
    return rag_fail_field(err, RAG_FAILED_PRECONDITION, "role",
                          "role: the first API key must be an admin key: from then on every call needs a key, and "
                          "without an admin nobody could make another");
  RAG_TRY(table_derive(c->keys, table, UINT32_MAX, c->create, &c->table, err));
  return write_row(c->create, txn, err);
}

static rag_status find_id(const rag_api__key_table *table, rag_slice id, uint32_t *out, rag_error *err) {
  *out = table_find_id(table, id);
  if (*out != UINT32_MAX) return RAG_OK;
  return rag_fail_field(err, RAG_NOT_FOUND, "id", "API key '%.*s' does not exist; GET /v1/keys lists those that do",
                        (int)RAG_MIN(id.size, (size_t)64), id.data);
}

static rag_status apply_rotate(change *c, const rag_api__key_table *table, rag_txn *txn, rag_error *err) {
  uint32_t index;
  rag_api__key key = {0};
  RAG_TRY(find_id(table, c->id, &index, err));
  RAG_TRY(key_copy(&table->keys[index], &key, err));
  int64_t now_us = rag_clock_now_us();
  memcpy(key.old_hash, key.hash, sizeof(key.old_hash));
  memcpy(key.hash, c->hash, sizeof(key.hash));
  key.old_until_us = now_us + (int64_t)c->grace_s * 1000000;
  key.rotated_us = now_us;
  if (c->expires_us) key.expires_us = c->expires_us;
  rag_status status = table_derive(c->keys, table, index, &key, &c->table, err);
  if (status == RAG_OK) status = write_row(&key, txn, err);
  if (status == RAG_OK) *c->rotated = key;
  else rag_api__key_free(&key);
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
  uint32_t index;
  RAG_TRY(find_id(table, c->id, &index, err));
  RAG_TRY(check_delete(table, index, c->may_be_last, err));
  RAG_TRY(table_derive(c->keys, table, index, NULL, &c->table, err));
  memcpy(c->gone, table->keys[index].id, sizeof(c->gone));
  rag_key row;
  rag_api__key_row_key(&row, rag_slice_str(c->gone));
  rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&row));
  rag_api__usage_row_key(&row, rag_slice_str(c->gone));
  rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&row));
  return RAG_OK;
}

static rag_status change_apply(void *ctx, rag_txn *txn, rag_error *err) {
  change *c = ctx;
  rag_api__key_table *table = NULL;
  RAG_TRY(load(c->keys, txn, &table, err));
  rag_status status = c->apply(c, table, txn, err);
  rag_ref_drop(table);
  return status;
}

static void change_publish(void *ctx) {
  change *c = ctx;
  rag_cell_set(&c->keys->current, rag_ref_take(c->table));
  if (c->gone[0]) rag_api__usage_forget(c->keys->usages, c->gone);
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
  return commit(&(change){.keys = keys, .apply = apply_create, .create = key}, err);
}

rag_status rag_api__key_rotate(rag_api__keys *keys, rag_slice id, uint32_t grace_s, int64_t expires_us,
                               rag_api__key *out, char *secret, rag_error *err) {
  uint8_t hash[32];
  rag_api__key rotated = {0};
  secret_make(secret);
  rag_sha256(secret, API_KEY_SECRET_BYTES, hash);
  rag_status status = commit(&(change){.keys = keys,
                                       .apply = apply_rotate,
                                       .id = id,
                                       .rotated = &rotated,
                                       .hash = hash,
                                       .grace_s = grace_s,
                                       .expires_us = expires_us},
                             err);
  if (status == RAG_OK) *out = rotated;
  else rag_api__key_free(&rotated); // applied, and then the write failed
  return status;
}

rag_status rag_api__key_delete(rag_api__keys *keys, rag_slice id, bool may_be_last, rag_error *err) {
  return commit(&(change){.keys = keys, .apply = apply_delete, .id = id, .may_be_last = may_be_last}, err);
}
