// Arrays by ordinal that grow without moving (see kb_internal.h). The directories reserve address space for every u32
// ordinal once (8 MiB each) and the kernel gives pages only where blocks exist.
#include "kb/kb_internal.h"

#include <sys/mman.h>

#define DIRECTORY_ENTRIES ((size_t)(UINT64_C(1) << 32) / RAG_KB__TABLE_BLOCK)
#define DIRECTORY_BYTES (DIRECTORY_ENTRIES * sizeof(void *))

static void *directory_create(void) {
  void *p = mmap(NULL, DIRECTORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

rag_status rag_kb__tables_init(rag_kb__tables *tables, rag_error *err) {
  tables->chunks = directory_create();
  tables->last_revision = directory_create();
  tables->bytes = 0;
  if (tables->chunks == NULL || tables->last_revision == NULL) {
    rag_kb__tables_free(tables);
    return rag_fail_no_memory(err, DIRECTORY_BYTES);
  }
  return RAG_OK;
}

void rag_kb__tables_free(rag_kb__tables *tables) {
  // Blocks are made from the bottom up, but gc leaves none out and loading may: look through whole pages only where the
  // directory was touched would need mincore; a scan of 1M pointers is a millisecond and happens once per kb.
  if (tables->chunks != NULL) {
    if (tables->bytes > 0)
      for (size_t i = 0; i < DIRECTORY_ENTRIES; i++) rag_free(atomic_load(&tables->chunks[i]));
    munmap(tables->chunks, DIRECTORY_BYTES);
  }
  if (tables->last_revision != NULL) {
    if (tables->bytes > 0)
      for (size_t i = 0; i < DIRECTORY_ENTRIES; i++) rag_free((void *)atomic_load(&tables->last_revision[i]));
    munmap(tables->last_revision, DIRECTORY_BYTES);
  }
  tables->chunks = NULL;
  tables->last_revision = NULL;
}

rag_status rag_kb__tables_set_chunk(rag_kb__tables *tables, uint32_t chunk, rag_kb__chunk_row row, rag_error *err) {
  size_t at = chunk / RAG_KB__TABLE_BLOCK;
  rag_kb__chunk_row *block = atomic_load_explicit(&tables->chunks[at], memory_order_acquire);
  if (block == NULL) {
    size_t bytes = RAG_KB__TABLE_BLOCK * sizeof *block;
    block = rag_calloc(1, bytes);
    if (block == NULL) return rag_fail_no_memory(err, bytes);
    atomic_store_explicit(&tables->chunks[at], block, memory_order_release);
    atomic_fetch_add_explicit(&tables->bytes, bytes, memory_order_relaxed);
  }
  block[chunk % RAG_KB__TABLE_BLOCK] = row;
  return RAG_OK;
}

bool rag_kb__tables_chunk(const rag_kb__tables *tables, uint32_t chunk, rag_kb__chunk_row *out) {
  const rag_kb__chunk_row *block =
      atomic_load_explicit(&tables->chunks[chunk / RAG_KB__TABLE_BLOCK], memory_order_acquire);
  if (block == NULL) return false;
  *out = block[chunk % RAG_KB__TABLE_BLOCK];
  return out->content != 0;
}

rag_status rag_kb__tables_set_revision(rag_kb__tables *tables, uint32_t content, uint32_t revision, rag_error *err) {
  size_t at = content / RAG_KB__TABLE_BLOCK;
  _Atomic uint32_t *block = atomic_load_explicit(&tables->last_revision[at], memory_order_acquire);
  if (block == NULL) {
    size_t bytes = RAG_KB__TABLE_BLOCK * sizeof *block;
    block = rag_calloc(1, bytes);
    if (block == NULL) return rag_fail_no_memory(err, bytes);
    atomic_store_explicit(&tables->last_revision[at], block, memory_order_release);
    atomic_fetch_add_explicit(&tables->bytes, bytes, memory_order_relaxed);
  }
  _Atomic uint32_t *slot = &block[content % RAG_KB__TABLE_BLOCK];
  if (atomic_load_explicit(slot, memory_order_relaxed) < revision)
    atomic_store_explicit(slot, revision, memory_order_relaxed);
  return RAG_OK;
}

uint32_t rag_kb__tables_revision(const rag_kb__tables *tables, uint32_t content) {
  _Atomic uint32_t *block =
      atomic_load_explicit(&tables->last_revision[content / RAG_KB__TABLE_BLOCK], memory_order_acquire);
  return block ? atomic_load_explicit(&block[content % RAG_KB__TABLE_BLOCK], memory_order_relaxed) : 0;
}
