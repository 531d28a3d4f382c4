// Which segments a kb's index has: files, and the rows of META that make them a part of it.
//
// A segment is a file under DIR/index/KB/SPACE/, and a row of META, 'G' kb space id. The row makes the file a part of the
// index: it is written when the file is durable, and removed, in the same commit that names its successors, before the
// file is. A file without a row is garbage; a row without a file, or with a damaged one, is dropped with a line in the
// log, and its rows, whose vectors are in VECTOR, are read into the tail and sealed again. So no step needs to be undone
// after a crash, and search is right after each.
#include "kb/segments_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DELETE_ATTEMPTS 50u // ATTEMPT_MS apart: a builder of a deleted kb's stops at its next look
#define ATTEMPT_MS 20u

static rag_status folder_of(const char *store_dir, uint32_t kb, const uint32_t *space, char **out, rag_error *err) {
  size_t size = strlen(store_dir) + 64;
  char *path = rag_alloc(size);
  if (path == NULL) return rag_fail_no_memory(err, size);
  if (space != NULL) snprintf(path, size, "%s/index/%u/%u", store_dir, kb, *space);
  else snprintf(path, size, "%s/index/%u", store_dir, kb);
  *out = path;
  return RAG_OK;
}

rag_status rag_kb__segments_dir(const rag_kb *kb, char **out, rag_error *err) {
  return folder_of(rag_store_dir(kb->store), kb->id, &kb->space, out, err);
}

static void key_segment(rag_key *key, const rag_kb *kb, const rag_segment_id *id) { // id NULL: of all
  rag_key_init(key);
  rag_key_u8(key, 'G');
  rag_key_u32(key, kb->id);
  rag_key_u32(key, kb->space);
  if (id != NULL) rag_key_raw(key, id->bytes, sizeof id->bytes);
}

#define KEY_BYTES (1u + 4 + 4 + sizeof(rag_segment_id))

typedef struct ids {
  rag_segment_id *items;
  uint32_t count, capacity;
} ids;

static rag_status ids_add(ids *list, const rag_segment_id *id, rag_error *err) {
  if (list->count == list->capacity) {
    uint32_t capacity = list->capacity > 0 ? list->capacity * 2 : 16;
    rag_segment_id *items = rag_realloc_array(list->items, capacity, sizeof *items);
    if (items == NULL) return rag_fail_no_memory(err, capacity * sizeof *items);
    list->items = items;
    list->capacity = capacity;
  }
  list->items[list->count++] = *id;
  return RAG_OK;
}

static bool ids_have(const ids *list, const rag_segment_id *id) {
  for (uint32_t i = 0; i < list->count; i++)
    if (memcmp(&list->items[i], id, sizeof *id) == 0) return true;
  return false;
}

static rag_status read_rows(rag_kb *kb, ids *out, rag_error *err) {
  rag_key lower, upper;
  rag_store_iter *it = NULL;
  rag_status status = RAG_OK;
  key_segment(&lower, kb, NULL);
  if (!rag_key_successor(&lower, &upper)) return rag_fail(err, RAG_INTERNAL, "no upper bound for a kb's segments");
  RAG_TRY(
      rag_store_iter_open(kb->store, NULL, RAG_CF_META, rag_key_slice(&lower), rag_key_slice(&upper), false, &it, err));
  while (status == RAG_OK && rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it);
    rag_segment_id id;
    if (key.size != KEY_BYTES) {
      status = rag_kb__corrupt(err, RAG_CF_META, key);
      break;
    }
    memcpy(id.bytes, key.data + key.size - sizeof id.bytes, sizeof id.bytes);
    status = ids_add(out, &id, err);
  }
  if (status == RAG_OK) status = rag_store_iter_status(it, err);
  rag_store_iter_close(it);
  return status;
}

// Files that no row names. Goes on after one that cannot be removed; that is the error then.
static rag_status sweep(const char *dir, const ids *named, rag_error *err) {
  rag_status status = RAG_OK;
  DIR *folder = opendir(dir);
  if (folder == NULL) return errno == ENOENT ? RAG_OK : rag_os_fail(err, "read", dir, errno);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    rag_segment_id id;
    size_t size = strlen(entry->d_name);
    bool segment = rag_segment_name_parse(rag_slice_of(entry->d_name, size), &id);
    bool part = size > 5 && strcmp(entry->d_name + size - 5, ".part") == 0;
    if (!part && (!segment || ids_have(named, &id))) continue;
    if (unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT)
      status = rag_os_fail(err, "remove", entry->d_name, errno);
  }
  closedir(folder);
  return status;
}

void rag_kb__segments_remove(const char *dir, const rag_segment_id *list, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    char name[RAG_SEGMENT_NAME_MAX];
    rag_buf path = {0};
    rag_segment_name(&list[i], name);
    rag_buf_printf(&path, "%s/%s", dir, name);
    rag_buf_append_char(&path, '\0');
    if (!path.failed && unlink(path.data) != 0 && errno != ENOENT)
      rag_log(RAG_LOG_WARN, "kb.segment_left", "path=%s error=\"%s\"", path.data, strerror(errno));
    rag_buf_free(&path);
  }
}

typedef struct exchange {
  rag_kb *kb;
  const rag_segment_id *gone;
  uint32_t gone_count;
  const rag_index_segment_info *come;
  uint32_t come_count;
} exchange;

static rag_status exchange_apply(void *ctx, rag_txn *txn, rag_error *err) {
  exchange *e = ctx;
  rag_key key;
  if (atomic_load_explicit(&e->kb->deleted, memory_order_relaxed))
    return rag_fail(err, RAG_NOT_FOUND, "knowledge base '%s' was deleted", e->kb->name);
  for (uint32_t i = 0; i < e->gone_count; i++) {
    key_segment(&key, e->kb, &e->gone[i]);
    rag_txn_delete(txn, RAG_CF_META, rag_key_slice(&key));
  }
  for (uint32_t i = 0; i < e->come_count; i++) {
    key_segment(&key, e->kb, &e->come[i].id);
    rag_txn_put(txn, RAG_CF_META, rag_key_slice(&key), rag_slice_of("", 0));
  }
  return rag_txn_check(txn, err);
}

rag_status rag_kb__segments_exchange(rag_kb *kb, const rag_segment_id *gone, uint32_t gone_count,
                                     const rag_index_segment_info *come, uint32_t come_count, rag_error *err) {
  exchange e = {kb, gone, gone_count, come, come_count};
  rag_commit_request request = {.apply = exchange_apply, .ctx = &e, .room = RAG_STORE_ROOM_MADE};
  return rag_store_commit(kb->store, &request, err);
}

rag_status rag_kb__segments_sweep(rag_kb *kb, const char *dir, rag_error *err) {
  ids rows = {0};
  rag_status status = read_rows(kb, &rows, err);
  if (status == RAG_OK) status = sweep(dir, &rows, err);
  if (status == RAG_OK && rag_os_exists(dir)) status = rag_os_sync_dir(dir, err);
  rag_free(rows.items);
  return status;
}

// ---------------------------------------------------------------------------------------------- opening

static bool is_open(rag_kb *kb, const rag_segment_id *id) {
  rag_index_view *view = rag_index_pin(kb->index);
  bool found = false;
  for (uint32_t i = 0; !found && i < rag_index_view_segments(view); i++) {
    rag_index_segment_info info;
    rag_index_view_segment(view, i, &info);
    found = memcmp(&info.id, id, sizeof *id) == 0;
  }
  rag_ref_drop(view);
  return found;
}

rag_status rag_kb__segments_load(rag_kb *kb, const rag_bitmap *exist, rag_error *err) {
  ids rows = {0}, lost = {0};
  char *dir = NULL;
  rag_error ignored = {0};
  rag_status status = RAG_OK;
  if (kb->segments_loaded) return RAG_OK;
  pthread_mutex_lock(&kb->segments_lock);
  RAG_TRY_OUT(rag_kb__segments_dir(kb, &dir, err));
  RAG_TRY_OUT(read_rows(kb, &rows, err));
  if (sweep(dir, &rows, &ignored) != RAG_OK)
    rag_log(RAG_LOG_WARN, "kb.segment_left", "kb=%s error=\"%s\"", kb->name, ignored.message);
  for (uint32_t i = 0; i < rows.count; i++) {
    rag_error why = {0};
    if (is_open(kb, &rows.items[i])) continue; // by a load that failed later
    pthread_mutex_lock(&kb->index_lock);
    status = rag_index_restore(kb->index, dir, &rows.items[i], exist, &why);
    pthread_mutex_unlock(&kb->index_lock);
    if (status == RAG_RESOURCE_EXHAUSTED) {
      if (err != NULL) *err = why;
      goto out;
    }
    if (status == RAG_OK) continue;
    rag_log(status == RAG_NOT_FOUND ? RAG_LOG_INFO : RAG_LOG_ERROR, "kb.segment_lost",
            "kb=%s action=\"read from the stored vectors and sealed again\" error=\"%s\"", kb->name,
            status == RAG_NOT_FOUND ? "the file is not there" : why.message);
    RAG_TRY_OUT(ids_add(&lost, &rows.items[i], err));
    status = RAG_OK;
  }
  if (lost.count > 0) {
    // A store that cannot be written keeps the rows, and says it again next time.
    if (rag_kb__segments_exchange(kb, lost.items, lost.count, NULL, 0, &ignored) == RAG_OK)
      rag_kb__segments_remove(dir, lost.items, lost.count);
  }
  kb->segments_loaded = true;
out:
  pthread_mutex_unlock(&kb->segments_lock);
  rag_free(rows.items);
  rag_free(lost.items);
  rag_free(dir);
  return status;
}

rag_status rag_kb__segments_delete(rag_store *store, uint32_t kb, rag_error *err) {
  char *dir = NULL;
  RAG_TRY(folder_of(rag_store_dir(store), kb, NULL, &dir, err));
  rag_status status;
  for (uint32_t attempt = 1;; attempt++) {
    status = rag_os_remove_tree(dir, err);
    // A task that is just being stopped writes into the folder, or takes its file away.
    bool met = status == RAG_FAILED_PRECONDITION || status == RAG_NOT_FOUND;
    if (!met || attempt == DELETE_ATTEMPTS) break;
    nanosleep(&(struct timespec){.tv_nsec = ATTEMPT_MS * 1000000L}, NULL);
  }
  rag_free(dir);
  return status;
}

void rag_kbs__segments_sweep(rag_kbs *kbs) {
  rag_buf path = {0};
  rag_buf_printf(&path, "%s/index", rag_store_dir(kbs->store));
  rag_buf_append_char(&path, '\0');
  DIR *folder = path.failed ? NULL : opendir(path.data);
  for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
    rag_error ignored = {0};
    char *end = NULL;
    unsigned long id = strtoul(entry->d_name, &end, 10);
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || *end != '\0' || id > UINT32_MAX) continue;
    bool known = false;
    for (uint32_t i = 0; i < kbs->pending->count; i++) known |= kbs->pending->kbs[i]->id == id;
    if (!known && rag_kb__segments_delete(kbs->store, (uint32_t)id, &ignored) != RAG_OK)
      rag_log(RAG_LOG_WARN, "kb.segments_left", "kb=%lu error=\"%s\"", id, ignored.message);
  }
  if (folder != NULL) closedir(folder);
  rag_buf_free(&path);
}
