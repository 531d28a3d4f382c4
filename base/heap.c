// How the C library's heap is set up, and what it holds: for the daemon's start and for its metrics.
//
// Arenas. A free piece of memory can be used again only by threads of its arena, and glibc makes up to eight arenas a
// CPU: every worker thread ends up with one of its own, and each keeps what its largest answer once needed. The soak
// (tests/fault/soak.md) on 2 CPUs: 16 arenas held 66 MB in use and 117 MB free; with one arena a CPU it is the same 66 MB
// and 30 to 50 MB free, and no fewer answers a second. Small blocks do not get there: threads keep those for themselves
// (tcache).
//
// Left alone: the size from which a block is mapped on its own (mallopt M_MMAP_THRESHOLD). Holding it at 256 KiB or 1 MiB
// gave a little less free memory, and the kernel pages to clear for every large answer.
//
// Threads: rag_heap_limit_arenas before other threads start; stats from any.
#include "base/base.h"

#include <malloc.h>
#include <stdlib.h>

#define ARENAS_MIN 2u

unsigned rag_heap_limit_arenas(void) {
#ifdef M_ARENA_MAX
  unsigned arenas = RAG_MAX(ARENAS_MIN, rag_os_cpu_count());
  if (getenv("MALLOC_ARENA_MAX") != NULL || getenv("GLIBC_TUNABLES") != NULL) return 0; // somebody knows better
  if (mallopt(M_ARENA_MAX, (int)arenas) == 1) return arenas;
#endif
  return 0;
}

void rag_heap_stats_get(rag_heap_stats *out) {
  *out = (rag_heap_stats){0};
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 33))
  struct mallinfo2 info = mallinfo2();
  out->used_bytes = info.uordblks + info.hblkhd;
  out->free_bytes = info.fordblks;
#endif
}
