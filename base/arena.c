// Arena: bump allocation out of a chain of chunks, freed whole.
//
// Invariants
//  1. `chunk` is the newest chunk; the first is last in the chain and survives a reset.
//  2. reserved_bytes is the sum of the chunks' sizes with headers, and never passes limit_bytes (when that is not 0):
//  the
//     limit bounds what the process pays, not only what the callers asked for.
//  3. Every pointer handed out is 16-byte aligned: chunk headers are a multiple of 16 and so is every step.
//
// Threads: one at a time.
#include "base/base.h"

#include <stdio.h>

#define ARENA_ALIGN 16u
// The first chunk fits a small request; chunks double up to the maximum, so a large request costs few mallocs and a
// small one wastes little.
#define ARENA_CHUNK_FIRST ((size_t)4096)
#define ARENA_CHUNK_MAX ((size_t)1 << 20)

typedef struct arena_chunk {
  struct arena_chunk *older;
  size_t size;     // of the payload
  size_t used;     // of the payload
  size_t reserved; // pads the header to a multiple of ARENA_ALIGN
  unsigned char payload[];
} arena_chunk;
_Static_assert(sizeof(arena_chunk) % ARENA_ALIGN == 0, "the payload must start aligned");

struct rag_arena {
  arena_chunk *chunk; // newest; NULL before the first allocation
  size_t limit_bytes;
  size_t reserved_bytes;
  size_t used_bytes; // handed out, with alignment
};

rag_arena *rag_arena_create(size_t limit_bytes) {
  rag_arena *arena = rag_calloc(1, sizeof(*arena));
  if (arena) arena->limit_bytes = limit_bytes;
  return arena;
}

static void free_newer_than(rag_arena *arena, const arena_chunk *keep) {
  while (arena->chunk != keep) {
    arena_chunk *older = arena->chunk->older;
    arena->reserved_bytes -= sizeof(arena_chunk) + arena->chunk->size;
    rag_free(arena->chunk);
    arena->chunk = older;
  }
}

void rag_arena_destroy(rag_arena *arena) {
  if (!arena) return;
  free_newer_than(arena, NULL);
  rag_free(arena);
}

void rag_arena_reset(rag_arena *arena) {
  arena_chunk *first = arena->chunk;
  while (first && first->older) first = first->older;
  free_newer_than(arena, first);
  if (first) first->used = 0;
  arena->used_bytes = 0;
}

// The payload size of a new chunk that holds `size` bytes, or 0 when the limit or the address space forbids it. Near
// the limit a chunk shrinks to what is left rather than fail a request that fits.
static size_t chunk_size_for(const rag_arena *arena, size_t size) {
  size_t payload = ARENA_CHUNK_FIRST - sizeof(arena_chunk);
  if (arena->chunk)
    payload = RAG_MIN((arena->chunk->size + sizeof(arena_chunk)) * 2, ARENA_CHUNK_MAX) - sizeof(arena_chunk);
  payload = RAG_MAX(payload, size);
  if (payload > SIZE_MAX - sizeof(arena_chunk)) return 0;
  if (!arena->limit_bytes) return payload;
  size_t left = arena->limit_bytes > arena->reserved_bytes ? arena->limit_bytes - arena->reserved_bytes : 0;
  if (left < sizeof(arena_chunk) || left - sizeof(arena_chunk) < size) return 0;
  return RAG_MIN(payload, left - sizeof(arena_chunk));
}

static bool add_chunk(rag_arena *arena, size_t size) {
  size_t payload = chunk_size_for(arena, size);
  if (!payload) return false;
  arena_chunk *chunk = rag_alloc(sizeof(*chunk) + payload);
  if (!chunk) return false;
  *chunk = (arena_chunk){.older = arena->chunk, .size = payload};
  arena->chunk = chunk;
  arena->reserved_bytes += sizeof(*chunk) + payload;
  return true;
}

void *rag_arena_alloc(rag_arena *arena, size_t size) {
  if (size > SIZE_MAX - ARENA_ALIGN) return NULL;
  size_t step = (RAG_MAX(size, 1) + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
  // The last piece of a shrunken chunk may be shorter than `step`: only `size` bytes must fit.
  size_t need = RAG_MAX(size, 1);
  arena_chunk *chunk = arena->chunk;
  if (!chunk || chunk->size - chunk->used < need) {
    if (!add_chunk(arena, need)) return NULL;
    chunk = arena->chunk;
  }
  void *p = chunk->payload + chunk->used;
  step = RAG_MIN(step, chunk->size - chunk->used);
  chunk->used += step;
  arena->used_bytes += step;
  return p;
}

void *rag_arena_calloc(rag_arena *arena, size_t count, size_t size) {
  size_t bytes;
  if (rag_mul_overflows(count, size, &bytes)) return NULL;
  void *p = rag_arena_alloc(arena, bytes);
  if (p) memset(p, 0, bytes);
  return p;
}

char *rag_arena_strndup(rag_arena *arena, const char *s, size_t size) {
  if (size == SIZE_MAX) return NULL;
  char *copy = rag_arena_alloc(arena, size + 1);
  if (!copy) return NULL;
  if (size) memcpy(copy, s, size);
  copy[size] = '\0';
  return copy;
}

char *rag_arena_printf(rag_arena *arena, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int size = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  char *text = size < 0 ? NULL : rag_arena_alloc(arena, (size_t)size + 1);
  if (text) vsnprintf(text, (size_t)size + 1, fmt, again);
  va_end(again);
  return text;
}

size_t rag_arena_used(const rag_arena *arena) {
  return arena->used_bytes;
}
