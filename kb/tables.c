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
  tables->revisions = directory_create();
  tables->last_revision = directory_create();
  memset(tables->ends, 0, sizeof tables->ends);
  tables->bytes = 0;
  if (tables->chunks == NULL || tables->revisions == NULL || tables->last_revision == NULL) {
    rag_kb__tables_free(tables);
    return rag_fail_no_memory(err, DIRECTORY_BYTES);
  }
  return RAG_OK;
}

static void directory_free(_Atomic(void *) *directory, size_t end) {
  if (directory == NULL) return;
  for (size_t i = 0; i < end; i++) rag_free(atomic_load(&directory[i]));
  munmap((void *)directory, DIRECTORY_BYTES);
}

void rag_kb__tables_free(rag_kb__tables *tables) {
  directory_free((_Atomic(void *) *)tables->chunks, tables->ends[0]);
  directory_free((_Atomic(void *) *)tables->revisions, tables->ends[1]);
  directory_free((_Atomic(void *) *)tables->last_revision, tables->ends[2]);
  tables->chunks = NULL;
  tables->revisions = NULL;
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
    tables->ends[0] = RAG_MAX(tables->ends[0], at + 1);
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

static rag_status raise_newest(rag_kb__tables *tables, uint32_t content, uint32_t revision, rag_error *err) {
  size_t at = content / RAG_KB__TABLE_BLOCK;
  _Atomic uint32_t *block = atomic_load_explicit(&tables->last_revision[at], memory_order_acquire);
  if (block == NULL) {
    size_t bytes = RAG_KB__TABLE_BLOCK * sizeof *block;
    block = rag_calloc(1, bytes);
    if (block == NULL) return rag_fail_no_memory(err, bytes);
    atomic_store_explicit(&tables->last_revision[at], block, memory_order_release);
    tables->ends[2] = RAG_MAX(tables->ends[2], at + 1);
    atomic_fetch_add_explicit(&tables->bytes, bytes, memory_order_relaxed);
  }
  _Atomic uint32_t *slot = &block[content % RAG_KB__TABLE_BLOCK];
  if (atomic_load_explicit(slot, memory_order_relaxed) < revision)
    atomic_store_explicit(slot, revision, memory_order_relaxed);
  return RAG_OK;
}

// A row that was written. Where it goes on from the one before, the group has one more.
static void group_set(rag_kb__revision_block *block, uint32_t at, rag_kb__revision_row row) {
  rag_kb__revision_group *group = &block->groups[at / 64];
  uint32_t place = at % 64, count = atomic_load_explicit(&group->count, memory_order_relaxed);
  if (place < count) // a number that is given again: what follows it was never reached either
    atomic_store_explicit(&group->count, (uint8_t)(count = place), memory_order_release);
  // Revision 0 is none: the first group of all begins at 1 with nothing before.
  if (at == 1 && count <= 1 && block->rows[0].content == 0) {
    group->first_chunk = row.first_chunk;
    group->chunks[0] = 0;
    atomic_store_explicit(&group->single, false, memory_order_relaxed);
    atomic_store_explicit(&group->count, (uint8_t)(count = 1), memory_order_release);
  }
  if (place != count || row.chunk_count > UINT8_MAX) return;
  const rag_kb__revision_row *before = place > 0 ? &block->rows[at - 1] : NULL;
  if (place == 0) group->first_chunk = row.first_chunk;
  else if (before->content != 0 && before->first_chunk + before->chunk_count != row.first_chunk) return;
  bool single = place == 0 || atomic_load_explicit(&group->single, memory_order_relaxed);
  atomic_store_explicit(&group->single, single && row.chunk_count == 1, memory_order_relaxed);
  group->chunks[place] = (uint8_t)row.chunk_count;
  atomic_store_explicit(&group->count, (uint8_t)(place + 1), memory_order_release);
}

rag_status rag_kb__tables_set_revision(rag_kb__tables *tables, uint32_t revision, rag_kb__revision_row row,
                                       rag_error *err) {
  size_t at = revision / RAG_KB__TABLE_BLOCK;
  rag_kb__revision_block *block = atomic_load_explicit(&tables->revisions[at], memory_order_acquire);
  if (block == NULL) {
    size_t bytes = sizeof *block;
    block = rag_calloc(1, bytes);
    if (block == NULL) return rag_fail_no_memory(err, bytes);
    atomic_store_explicit(&tables->revisions[at], block, memory_order_release);
    tables->ends[1] = RAG_MAX(tables->ends[1], at + 1);
    atomic_fetch_add_explicit(&tables->bytes, bytes, memory_order_relaxed);
  }
  rag_kb__revision_row *slot = &block->rows[revision % RAG_KB__TABLE_BLOCK];
  // A revision that comes back to life is told again while searches read it: it says what it said. What a write left that
  // failed is not reachable, and replaced when its number is given again.
  if (slot->content != row.content || slot->first_chunk != row.first_chunk || slot->chunk_count != row.chunk_count) {
    *slot = row;
    group_set(block, revision % RAG_KB__TABLE_BLOCK, row);
  }
  return raise_newest(tables, row.content, revision, err);
}

bool rag_kb__tables_revision(const rag_kb__tables *tables, uint32_t revision, rag_kb__revision_row *out) {
  const rag_kb__revision_block *block =
      atomic_load_explicit(&tables->revisions[revision / RAG_KB__TABLE_BLOCK], memory_order_acquire);
  if (block == NULL) return false;
  *out = block->rows[revision % RAG_KB__TABLE_BLOCK];
  return out->content != 0;
}

uint32_t rag_kb__tables_newest(const rag_kb__tables *tables, uint32_t content) {
  _Atomic uint32_t *block =
      atomic_load_explicit(&tables->last_revision[content / RAG_KB__TABLE_BLOCK], memory_order_acquire);
  return block ? atomic_load_explicit(&block[content % RAG_KB__TABLE_BLOCK], memory_order_relaxed) : 0;
}

// ---------------------------------------------------------------------------------------------- revisions to chunks

// Chunks of one document stand together but documents in any order, so bits are set in blocks of words and the blocks
// become the bitmap.
typedef struct chunk_blocks {
  uint64_t **blocks;
  uint32_t count;
} chunk_blocks;

static uint64_t *block_of(chunk_blocks *b, uint32_t block) {
  if (block >= b->count) {
    uint32_t count = RAG_MAX(block + 1, b->count * 2);
    uint64_t **grown = rag_realloc_array(b->blocks, count, sizeof *grown);
    if (grown == NULL) return NULL;
    memset(grown + b->count, 0, (count - b->count) * sizeof *grown);
    b->blocks = grown;
    b->count = count;
  }
  if (b->blocks[block] == NULL) b->blocks[block] = rag_calloc(RAG_BITMAP_BLOCK_WORDS, sizeof(uint64_t));
  return b->blocks[block];
}

static bool set_chunks(chunk_blocks *b, uint32_t first, uint32_t count) {
  while (count > 0) {
    uint32_t block = first / RAG_BITMAP_BLOCK_BITS, bit = first % RAG_BITMAP_BLOCK_BITS;
    uint64_t *words = block < b->count && b->blocks[block] ? b->blocks[block] : block_of(b, block);
    if (words == NULL) return false;
    uint32_t here = RAG_MIN(count, 64 - bit % 64);
    words[bit / 64] |= (here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << here) - 1) << (bit % 64);
    first += here;
    count -= here;
  }
  return true;
}

static bool or_word(chunk_blocks *b, uint32_t word, uint64_t bits) {
  uint32_t block = word / RAG_BITMAP_BLOCK_WORDS;
  uint64_t *words = block < b->count && b->blocks[block] ? b->blocks[block] : block_of(b, block);
  if (words != NULL) words[word % RAG_BITMAP_BLOCK_WORDS] |= bits;
  return words != NULL;
}

// The chunks of those of 64 revisions, from `revision` on, whose bit is set.
static bool set_group(chunk_blocks *b, const rag_kb__revision_block *block, uint32_t revision, uint64_t bits) {
  uint32_t at = revision % RAG_KB__TABLE_BLOCK;
  const rag_kb__revision_group *group = &block->groups[at / 64];
  uint32_t count = atomic_load_explicit(&group->count, memory_order_acquire);
  uint64_t regular = count == 64 ? bits : bits & ((UINT64_C(1) << count) - 1);
  bits &= ~regular;
  if (regular != 0 &&
      atomic_load_explicit(&group->single, memory_order_relaxed)) { // one chunk each: the word moves as it is
    uint32_t shift = group->first_chunk % 64, word = group->first_chunk / 64;
    if (!or_word(b, word, regular << shift)) return false;
    if (shift > 0 && regular >> (64 - shift) != 0 && !or_word(b, word + 1, regular >> (64 - shift))) return false;
    regular = 0;
  }
  for (uint32_t i = 0, chunk = group->first_chunk; regular != 0; i++, regular >>= 1) {
    if ((regular & 1) && !set_chunks(b, chunk, group->chunks[i])) return false;
    chunk += group->chunks[i];
  }
  for (; bits != 0; bits &= bits - 1) {
    const rag_kb__revision_row *row = &block->rows[at + (uint32_t)__builtin_ctzll(bits)];
    if (row->content != 0 && !set_chunks(b, row->first_chunk, row->chunk_count)) return false;
  }
  return true;
}

rag_status rag_kb__tables_chunks_of(const rag_kb__tables *tables, const rag_bitmap *revisions, rag_bitmap **out,
                                    rag_error *err) {
  chunk_blocks b = {0};
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_status status = edit == NULL ? RAG_RESOURCE_EXHAUSTED : RAG_OK;
  for (uint32_t block = 0; status == RAG_OK && block < rag_bitmap_block_count(revisions); block++) {
    uint32_t set;
    const uint64_t *words = rag_bitmap_block(revisions, block, &set);
    for (uint32_t w = 0; words != NULL && set > 0 && w < RAG_BITMAP_BLOCK_WORDS; w++) {
      uint32_t revision = block * RAG_BITMAP_BLOCK_BITS + w * 64;
      if (words[w] == 0) continue;
      const rag_kb__revision_block *rows =
          atomic_load_explicit(&tables->revisions[revision / RAG_KB__TABLE_BLOCK], memory_order_acquire);
      if (rows != NULL && !set_group(&b, rows, revision, words[w])) {
        status = RAG_RESOURCE_EXHAUSTED;
        goto out;
      }
    }
  }
  for (uint32_t block = 0; status == RAG_OK && block < b.count; block++)
    if (b.blocks[block] != NULL) status = rag_bitmap_edit_put_block(edit, block, b.blocks[block]);
  if (status == RAG_OK) {
    status = rag_bitmap_edit_finish(edit, out);
    edit = NULL;
  }
out:
  rag_bitmap_edit_destroy(edit);
  for (uint32_t block = 0; block < b.count; block++) rag_free(b.blocks[block]);
  rag_free(b.blocks);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}
