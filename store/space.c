// The low-disk watermark. A disk that is full in the middle of a write costs the store: it enters ERROR and must be
// opened again. So writes are refused before that, each by itself and with a text that says what to free; reads go on,
// and writes come back by themselves once there is room.
//
//   free space          ordinary writes   what makes room (gc, purge, deletion)   what keeps the store going
//   from the mark up    go on             go on                                   go on
//   below               refused           go on                                   go on
//   below a quarter     refused           refused                                 goes on
//
// The mark (options.free_bytes_min) is RAG_STORE_FREE_AUTO_BYTES or 2% of the disk, whichever is smaller, unless the
// operator says otherwise. It is no reservation: another process can use up the rest, and a compaction writes its result
// before it drops its input. ERROR stays the answer to that.
//
// Cost: the disk is asked (statvfs, about a microsecond) when LOOK_NS have passed since the last look, or LOOK_BYTES were
// written, by one of the threads that come by; the others read two relaxed words. So between two looks a writer adds at
// most LOOK_BYTES and one group.
//
// Threads: any, without a lock. `free_bytes` and `mark` need not agree with each other: each look stores both, and a
// verdict from a mix of two looks is that of one moment between them.
#include "store/store_internal.h"

#include <errno.h>
#include <sys/statvfs.h>

#define LOOK_NS UINT64_C(200000000)
#define LOOK_BYTES (UINT64_C(16) << 20)
#define AUTO_FRACTION 50u      // of the disk: 2%
#define MAKES_ROOM_FRACTION 4u // of the mark
#define MIB (1u << 20)

static uint64_t mark_of(const rag_store *store, uint64_t disk_bytes) {
  uint64_t given = store->options.free_bytes_min;
  return given != RAG_STORE_FREE_AUTO ? given : RAG_MIN(RAG_STORE_FREE_AUTO_BYTES, disk_bytes / AUTO_FRACTION);
}

// A disk that does not answer is not low: the write itself will say what is wrong.
static void look(rag_store *store) {
  rag_store__space *space = &store->space;
  struct statvfs disk;
  uint64_t free_bytes = UINT64_MAX, disk_bytes = atomic_load_explicit(&space->test_disk_bytes, memory_order_relaxed);
  if (disk_bytes != 0) {
    free_bytes = atomic_load_explicit(&space->test_free_bytes, memory_order_relaxed);
  } else if (statvfs(store->dir, &disk) == 0) {
    free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize; // what is kept for root is not ours
    disk_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
  }
  uint64_t mark = mark_of(store, disk_bytes);
  bool low = free_bytes < mark, was_low = atomic_exchange_explicit(&space->low, low, memory_order_relaxed);
  atomic_store_explicit(&space->mark, mark, memory_order_relaxed);
  atomic_store_explicit(&space->free_bytes, free_bytes, memory_order_relaxed);
  if (low != was_low)
    rag_log(low ? RAG_LOG_ERROR : RAG_LOG_WARN, low ? "store.disk_low" : "store.disk_has_room",
            "dir=%s free_mib=%llu writes_stop_below_mib=%llu", store->dir, (unsigned long long)(free_bytes / MIB),
            (unsigned long long)(mark / MIB));
}

static void look_when_due(rag_store *store) {
  rag_store__space *space = &store->space;
  uint64_t now_ns = rag_clock_monotonic_ns(), due_ns = atomic_load_explicit(&space->due_ns, memory_order_relaxed);
  uint64_t written = atomic_load_explicit(&store->bytes_written, memory_order_relaxed);
  uint64_t looked_at = atomic_load_explicit(&space->looked_at_bytes, memory_order_relaxed);
  if (now_ns < due_ns && written - looked_at < LOOK_BYTES) return;
  // One of those that come now looks.
  if (!atomic_compare_exchange_strong_explicit(&space->due_ns, &due_ns, now_ns + LOOK_NS, memory_order_relaxed,
                                               memory_order_relaxed))
    return;
  atomic_store_explicit(&space->looked_at_bytes, written, memory_order_relaxed);
  look(store);
}

rag_status rag_store__space_check(rag_store *store, rag_store_room room, rag_error *err) {
  rag_store__space *space = &store->space;
  if (store->options.free_bytes_min == 0 || room == RAG_STORE_ROOM_IGNORED) return RAG_OK;
  look_when_due(store);
  uint64_t mark = atomic_load_explicit(&space->mark, memory_order_relaxed);
  uint64_t free_bytes = atomic_load_explicit(&space->free_bytes, memory_order_relaxed);
  if (free_bytes >= (room == RAG_STORE_ROOM_MADE ? mark / MAKES_ROOM_FRACTION : mark)) return RAG_OK;
  atomic_fetch_add_explicit(&space->refused, 1, memory_order_relaxed);
  return rag_fail(
      err, RAG_RESOURCE_EXHAUSTED,
      "the disk of '%.200s' has %llu MiB left, and writes stop below %llu MiB (free_bytes_min): remove other "
      "files or old backups, delete knowledge bases or run gc (both go on), or add space; reads go on, and "
      "writes come back by themselves",
      store->dir, (unsigned long long)(free_bytes / MIB), (unsigned long long)(mark / MIB));
}

void rag_store__space_stats(const rag_store *store, rag_store_stats *out) {
  out->disk_free_bytes = atomic_load_explicit(&store->space.free_bytes, memory_order_relaxed);
  out->disk_free_bytes_min = atomic_load_explicit(&store->space.mark, memory_order_relaxed);
  out->disk_low = atomic_load_explicit(&store->space.low, memory_order_relaxed);
  out->disk_low_refusals = atomic_load_explicit(&store->space.refused, memory_order_relaxed);
}

void rag_store_set_space_for_test(rag_store *store, uint64_t free_bytes, uint64_t disk_bytes) {
  atomic_store_explicit(&store->space.test_free_bytes, free_bytes, memory_order_relaxed);
  atomic_store_explicit(&store->space.test_disk_bytes, disk_bytes, memory_order_relaxed);
  atomic_store_explicit(&store->space.due_ns, 0, memory_order_relaxed);
}
