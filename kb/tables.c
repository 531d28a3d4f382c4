// Arrays by ordinal that grow without moving (see kb_internal.h). The directories reserve address space for every u32
// ordinal once (8 MiB each) and the kernel gives pages only where blocks exist.
//
// Invariants
//  1. A block in a directory is never moved or freed; it leaves the directory first, when none of its entries is alive.
//  2. A block that left is freed when nobody has the era it left in pinned any more, nor one before: who pins a later one
//     cannot have found it. Each era holds a reference on the next, so eras end in their order.
// Threads: set_* and forget under the kb's index_lock; look-ups anywhere with the tables pinned. The chain of eras is as
// long as the longest search has seen calls of forget that emptied a block of 4,096.
#include "kb/kb_internal.h"

#include <sys/mman.h>

#define DIRECTORY_ENTRIES ((size_t)(UINT64_C(1) << 32) / RAG_KB__TABLE_BLOCK)
#define DIRECTORY_BYTES (DIRECTORY_ENTRIES * sizeof(void *))
#define BLOCK_WORDS (RAG_KB__TABLE_BLOCK / 64)

// ---------------------------------------------------------------------------------------------- eras

typedef struct era {
  rag_ref ref;
  struct era *next; // a reference; written once, when the era ends
  void **blocks;    // that left in it
  uint32_t block_count, block_capacity;
} era;

static void era_destroy(rag_ref *ref) {
  era *self = (era *)ref;
  for (uint32_t i = 0; i < self->block_count; i++) rag_free(self->blocks[i]);
  rag_free(self->blocks);
  rag_ref_drop(self->next);
  rag_free(self);
}

static era *era_create(void) {
  era *made = rag_calloc(1, sizeof *made);
  if (made != NULL) rag_ref_init(&made->ref, era_destroy);
  return made;
}

void *rag_kb__tables_pin(rag_kb__tables *tables) {
  return rag_cell_get(&tables->era);
}

// ---------------------------------------------------------------------------------------------- directories

static void *directory_create(void) {
  void *p = mmap(NULL, DIRECTORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

rag_status rag_kb__tables_init(rag_kb__tables *tables, rag_error *err) {
  era *first = era_create();
  if (first == NULL) return rag_fail_no_memory(err, sizeof *first);
  rag_cell_init(&tables->era, first);
  tables->chunks = directory_create();
  tables->revisions = directory_create();
  tables->newest = directory_create();
  memset(tables->ends, 0, sizeof tables->ends);
  tables->bytes = 0;
  if (tables->chunks == NULL || tables->revisions == NULL || tables->newest == NULL) {
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
  directory_free((_Atomic(void *) *)tables->newest, tables->ends[2]);
  rag_cell_set(&tables->era, NULL);
  tables->chunks = NULL;
  tables->revisions = NULL;
  tables->newest = NULL;
}

// The block at `at` of a directory, which `bytes` make where there is none. NULL: out of memory.
static void *block_at(rag_kb__tables *tables, _Atomic(void *) *directory, size_t *end, size_t at, size_t bytes) {
  void *block = atomic_load_explicit(&directory[at], memory_order_relaxed);
  if (block != NULL) return block;
  block = rag_calloc(1, bytes);
  if (block == NULL) return NULL;
  atomic_store_explicit(&directory[at], block, memory_order_release);
  *end = RAG_MAX(*end, at + 1);
  atomic_fetch_add_explicit(&tables->bytes, bytes, memory_order_relaxed);
  return block;
}

static void set_bit(uint64_t *words, uint32_t bit) {
  words[bit / 64] |= UINT64_C(1) << bit % 64;
}

// ---------------------------------------------------------------------------------------------- chunks

rag_status rag_kb__tables_set_chunk(rag_kb__tables *tables, uint32_t chunk, rag_kb__chunk_row row, rag_error *err) {
  rag_kb__chunk_block *block =
      block_at(tables, (_Atomic(void *) *)tables->chunks, &tables->ends[0], chunk / RAG_KB__TABLE_BLOCK, sizeof *block);
  if (block == NULL) return rag_fail_no_memory(err, sizeof *block);
  block->rows[chunk % RAG_KB__TABLE_BLOCK] = row;
  set_bit(block->live, chunk % RAG_KB__TABLE_BLOCK);
  return RAG_OK;
}

bool rag_kb__tables_chunk(const rag_kb__tables *tables, uint32_t chunk, rag_kb__chunk_row *out) {
  const rag_kb__chunk_block *block =
      atomic_load_explicit(&tables->chunks[chunk / RAG_KB__TABLE_BLOCK], memory_order_acquire);
  if (block == NULL) return false;
  *out = block->rows[chunk % RAG_KB__TABLE_BLOCK];
  return out->content != 0;
}

// ---------------------------------------------------------------------------------------------- revisions

static rag_status raise_newest(rag_kb__tables *tables, uint32_t content, uint32_t revision, rag_error *err) {
  rag_kb__newest_block *block = block_at(tables, (_Atomic(void *) *)tables->newest, &tables->ends[2],
                                         content / RAG_KB__TABLE_BLOCK, sizeof *block);
  if (block == NULL) return rag_fail_no_memory(err, sizeof *block);
  _Atomic uint32_t *slot = &block->revisions[content % RAG_KB__TABLE_BLOCK];
  uint32_t before = atomic_load_explicit(slot, memory_order_relaxed);
  if (before == 0) block->count++;
  if (before < revision) atomic_store_explicit(slot, revision, memory_order_relaxed);
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
  rag_kb__revision_block *block = block_at(tables, (_Atomic(void *) *)tables->revisions, &tables->ends[1],
                                           revision / RAG_KB__TABLE_BLOCK, sizeof *block);
  if (block == NULL) return rag_fail_no_memory(err, sizeof *block);
  set_bit(block->live, revision % RAG_KB__TABLE_BLOCK);
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
  rag_kb__newest_block *block =
      atomic_load_explicit(&tables->newest[content / RAG_KB__TABLE_BLOCK], memory_order_acquire);
  return block ? atomic_load_explicit(&block->revisions[content % RAG_KB__TABLE_BLOCK], memory_order_relaxed) : 0;
}

// ---------------------------------------------------------------------------------------------- forgetting

typedef struct forgetting {
  rag_kb__tables *tables;
  era garbage; // its blocks alone: what the era that ends gets
  bool failed;
} forgetting;

// Takes a block out of its directory. Without memory to remember it, it stays.
static void leave(forgetting *f, _Atomic(void *) *directory, size_t at, size_t bytes) {
  era *garbage = &f->garbage;
  if (garbage->block_count == garbage->block_capacity) {
    uint32_t capacity = RAG_MAX(16u, 2 * garbage->block_capacity);
    void **grown = rag_realloc_array(garbage->blocks, capacity, sizeof *grown);
    if (grown == NULL) {
      f->failed = true;
      return;
    }
    garbage->blocks = grown;
    garbage->block_capacity = capacity;
  }
  garbage->blocks[garbage->block_count++] = atomic_exchange_explicit(&directory[at], NULL, memory_order_relaxed);
  atomic_fetch_sub_explicit(&f->tables->bytes, bytes, memory_order_relaxed);
}

// Takes `gone` out of `live`: what was in both stays in gone. True: nothing is left.
static bool take_out(uint64_t *live, uint64_t gone[BLOCK_WORDS]) {
  uint64_t left = 0;
  for (uint32_t w = 0; w < BLOCK_WORDS; w++) {
    gone[w] &= live[w];
    live[w] &= ~gone[w];
    left |= live[w];
  }
  return left == 0;
}

static void forget_chunks(forgetting *f, size_t at, uint64_t *gone) {
  rag_kb__chunk_block *block = atomic_load_explicit(&f->tables->chunks[at], memory_order_relaxed);
  if (block != NULL && take_out(block->live, gone)) leave(f, (_Atomic(void *) *)f->tables->chunks, at, sizeof *block);
}

// The newest revision of a content goes last or with the others of the same gc, so a content that is gone has no entry.
static void forget_newest(forgetting *f, uint32_t content, uint32_t revision) {
  size_t at = content / RAG_KB__TABLE_BLOCK;
  rag_kb__newest_block *block = atomic_load_explicit(&f->tables->newest[at], memory_order_relaxed);
  _Atomic uint32_t *slot = block != NULL ? &block->revisions[content % RAG_KB__TABLE_BLOCK] : NULL;
  if (slot == NULL || atomic_load_explicit(slot, memory_order_relaxed) != revision) return;
  atomic_store_explicit(slot, 0, memory_order_relaxed);
  if (--block->count == 0) leave(f, (_Atomic(void *) *)f->tables->newest, at, sizeof *block);
}

static void forget_revisions(forgetting *f, size_t at, uint64_t *gone) {
  rag_kb__revision_block *block = atomic_load_explicit(&f->tables->revisions[at], memory_order_relaxed);
  if (block == NULL) return;
  bool empty = take_out(block->live, gone);
  for (uint32_t w = 0; w < BLOCK_WORDS; w++) {
    for (uint64_t bits = gone[w]; bits != 0; bits &= bits - 1) {
      uint32_t place = w * 64 + (uint32_t)__builtin_ctzll(bits);
      forget_newest(f, block->rows[place].content, (uint32_t)at * RAG_KB__TABLE_BLOCK + place);
    }
  }
  if (empty) leave(f, (_Atomic(void *) *)f->tables->revisions, at, sizeof *block);
}

static void forget_set(forgetting *f, const rag_bitmap *set, void (*forget)(forgetting *f, size_t at, uint64_t *gone)) {
  for (uint32_t block = 0; set != NULL && block < rag_bitmap_block_count(set); block++) {
    const uint64_t *words = rag_bitmap_block(set, block, NULL);
    for (uint32_t part = 0; words != NULL && part < RAG_BITMAP_BLOCK_WORDS / BLOCK_WORDS; part++) {
      uint64_t gone[BLOCK_WORDS];
      memcpy(gone, words + (size_t)part * BLOCK_WORDS, sizeof gone);
      forget(f, (size_t)block * (RAG_BITMAP_BLOCK_BITS / RAG_KB__TABLE_BLOCK) + part, gone);
    }
  }
}

rag_status rag_kb__tables_forget(rag_kb__tables *tables, const rag_bitmap *chunks, const rag_bitmap *revisions,
                                 rag_error *err) {
  forgetting f = {.tables = tables};
  era *next = era_create();
  if (next == NULL) return rag_fail_no_memory(err, sizeof *next);
  forget_set(&f, chunks, forget_chunks);
  forget_set(&f, revisions, forget_revisions);
  if (f.garbage.block_count == 0) {
    rag_ref_drop(next);
    rag_free(f.garbage.blocks);
  } else {
    era *last = rag_cell_get(&tables->era);
    last->blocks = f.garbage.blocks;
    last->block_count = f.garbage.block_count;
    last->next = rag_ref_take(next);
    rag_cell_set(&tables->era, next);
    rag_ref_drop(last);
  }
  return f.failed ? rag_fail_no_memory(err, sizeof(void *)) : RAG_OK;
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

rag_status rag_kb__tables_chunks_of(rag_kb__tables *tables, const rag_bitmap *revisions, rag_bitmap **out,
                                    rag_error *err) {
  chunk_blocks b = {0};
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_status status = edit == NULL ? RAG_RESOURCE_EXHAUSTED : RAG_OK;
  void *pin = rag_kb__tables_pin(tables);
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
  rag_ref_drop(pin);
  rag_bitmap_edit_destroy(edit);
  for (uint32_t block = 0; block < b.count; block++) rag_free(b.blocks[block]);
  rag_free(b.blocks);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}
