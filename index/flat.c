// The flat engine's rows: full-precision vectors in blocks, found by ordinal alone.
//
// Owns a tree of three levels, every node reference-counted and shared between views:
//   view  -> shards: one for each 65,536 ordinals (a block of rag_bitmap), NULL where none of them has a row
//   shard -> blocks of 2^block_shift rows (64 to 1,024, about half a MiB), NULL where none of them has a row
//   block -> the rows, in full precision (floats, or bfloat16) and as int8 codes; the row of ordinal o lies at o modulo
//            the block's rows
// so a reader goes from an ordinal to its row with three loads, and from a word of a bitmap to its 64 rows without a
// lookup. Ordinals are dense where it matters (chunks of a kb are numbered one after another); holes that gc leaves
// cost memory until the whole block is empty.
//
// Invariants
//  1. A row of a view's `present` lies in a block of that view and never changes while the view lives.
//  2. A slot that `present` does not name is not read: it may be raw memory, or the writer may be filling it.
//  3. A slot is written once in a block's life. An ordinal that was removed and is appended again while its old slot
//  still
//     exists gets a copy of the block, as an older view may be reading the slot.
//  4. Views and shards are immutable once published. Blocks are not: appends fill free slots in place, which no view
//  that
//     is pinned names (2); publishing the view (a release, in the cell) makes the new rows visible to who pins it.
// Threads: append and remove are the one writer's; search and row are anyone's. Destruction runs on whichever thread
// drops the last reference.
//
// Memory counted against the bound: blocks whole, shards, and 8 KiB of bitmap for each shard. The views' arrays of
// shards (8 bytes for each 65,536 ordinals) are not.
#include "index/index_internal.h"

#define BLOCK_BYTES_TARGET (512u * 1024u)
#define CACHE_LINE 64u

// ---------------------------------------------------------------------------------------------- nodes

static uint32_t shift_for(const rag_index_shared *shared) {
  uint32_t shift = FLAT_BLOCK_SHIFT_MAX;
  while (shift > FLAT_BLOCK_SHIFT_MIN && rag_index__shared_row_bytes(shared) << shift > BLOCK_BYTES_TARGET) shift--;
  return shift;
}

static size_t block_bytes(const rag_index_shared *shared) {
  size_t bytes = sizeof(flat_block) + (flat_row_bytes(shared) << shift_for(shared));
  return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static void block_destroy(rag_ref *self) {
  flat_block *block = (flat_block *)self;
  rag_index__discharge(block->shared, block_bytes(block->shared));
  rag_ref_drop(block->shared);
  rag_free(block);
}

static rag_status block_create(rag_index_shared *shared, flat_block **out, rag_error *err) {
  size_t bytes = block_bytes(shared);
  if (!rag_index__charge(shared, bytes, true)) {
    return rag_fail(
        err, RAG_RESOURCE_EXHAUSTED,
        "the index may use %llu bytes of memory and needs %llu more for new rows: raise the limit, or remove "
        "rows",
        (unsigned long long)shared->bytes_max, (unsigned long long)bytes);
  }
  flat_block *block = rag_aligned_alloc(CACHE_LINE, bytes);
  if (!block) {
    rag_index__discharge(shared, bytes);
    return rag_fail_no_memory(err, bytes);
  }
  memset(block, 0, sizeof *block);
  rag_ref_init(&block->ref, block_destroy);
  block->shared = rag_ref_take(shared);
  *out = block;
  return RAG_OK;
}

static size_t shard_bytes(const rag_index_shared *shared) {
  return sizeof(flat_shard) + (RAG_BITMAP_BLOCK_BITS >> shift_for(shared)) * sizeof(flat_block *);
}
static uint64_t shard_charge(const rag_index_shared *shared) {
  return shard_bytes(shared) + RAG_BITMAP_BLOCK_BITS / 8;
}

static void shard_destroy(rag_ref *self) {
  flat_shard *shard = (flat_shard *)self;
  for (uint32_t i = 0; i < shard->block_end; i++) rag_ref_drop(shard->blocks[i]);
  rag_index__discharge(shard->shared, shard_charge(shard->shared));
  rag_ref_drop(shard->shared);
  rag_free(shard);
}

// A shard with the blocks of `from` (NULL: none).
static rag_status shard_create(rag_index_shared *shared, const flat_shard *from, bool bounded, flat_shard **out,
                               rag_error *err) {
  size_t bytes = shard_bytes(shared);
  if (!rag_index__charge(shared, shard_charge(shared), bounded)) {
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                    "the index uses all of the %llu bytes of memory it may use: raise the limit, or remove rows",
                    (unsigned long long)shared->bytes_max);
  }
  flat_shard *shard = rag_calloc(1, bytes);
  if (!shard) {
    rag_index__discharge(shared, shard_charge(shared));
    return rag_fail_no_memory(err, bytes);
  }
  rag_ref_init(&shard->ref, shard_destroy);
  shard->shared = rag_ref_take(shared);
  shard->block_end = from ? from->block_end : 0;
  for (uint32_t i = 0; i < shard->block_end; i++) shard->blocks[i] = rag_ref_take(from->blocks[i]);
  *out = shard;
  return RAG_OK;
}

static void view_destroy(rag_ref *self) {
  flat_view *view = (flat_view *)self;
  for (uint32_t i = 0; i < view->shard_count; i++) rag_ref_drop(view->shards[i]);
  rag_ref_drop(view->head.present);
  rag_ref_drop(view->head.shared);
  rag_free(view);
}

// A view with the shards of `from` (NULL: none) and room for `shard_count`; takes over the reference `present`, also on
// failure.
static rag_status view_create(rag_index_shared *shared, const flat_view *from, uint32_t shard_count,
                              rag_bitmap *present, flat_view **out, rag_error *err) {
  size_t bytes = sizeof(flat_view) + shard_count * sizeof(flat_shard *);
  flat_view *view = rag_calloc(1, bytes);
  if (!view) {
    rag_ref_drop(present);
    return rag_fail_no_memory(err, bytes);
  }
  rag_ref_init(&view->head.ref, view_destroy);
  view->head.engine = &rag_index__flat;
  view->head.shared = rag_ref_take(shared);
  view->head.present = present;
  view->block_shift = shift_for(shared);
  view->shard_count = shard_count;
  for (uint32_t i = 0; from && i < RAG_MIN(from->shard_count, shard_count); i++) {
    view->shards[i] = rag_ref_take(from->shards[i]);
  }
  *out = view;
  return RAG_OK;
}

static rag_status flat_create(rag_index_shared *shared, rag_index_view **out, rag_error *err) {
  rag_bitmap *present = rag_bitmap_empty();
  if (!present) return rag_fail_no_memory(err, 0);
  flat_view *view = NULL;
  RAG_TRY(view_create(shared, NULL, 0, present, &view, err));
  *out = &view->head;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the next view

// The shard of `next` as one that nobody else sees yet, so that its blocks may be changed.
static rag_status own_shard(flat_view *next, const flat_view *newest, uint32_t number, bool bounded, flat_shard **out,
                            rag_error *err) {
  flat_shard *old = number < newest->shard_count ? newest->shards[number] : NULL;
  if (next->shards[number] == old) {
    flat_shard *copy = NULL;
    RAG_TRY(shard_create(next->head.shared, old, bounded, &copy, err));
    next->shards[number] = copy;
    rag_ref_drop(old); // the reference that next held; newest keeps its own
  }
  *out = next->shards[number];
  return RAG_OK;
}

static flat_block *block_of(const flat_view *view, uint32_t ordinal) {
  uint32_t number = ordinal / RAG_BITMAP_BLOCK_BITS;
  const flat_shard *shard = number < view->shard_count ? view->shards[number] : NULL;
  return shard ? shard->blocks[ordinal % RAG_BITMAP_BLOCK_BITS >> view->block_shift] : NULL;
}

static uint32_t slot_of(const flat_view *view, uint32_t ordinal) {
  return ordinal & ((1u << view->block_shift) - 1);
}

static void encode(const float *row, uint32_t dimension, const flat_codes *to, uint32_t slot) {
  rag_codes_int8_factors factors;
  uint8_t *code = to->base + slot * to->stride;
  rag_codes_int8_encode(row, dimension, code, &factors);
  double lanes[8] = {0}, sum = 0; // eight chains: one alone would wait for its own additions
  for (uint32_t i = 0; i < dimension; i++) {
    double wrong_by = (double)row[i] - ((int)code[i] - 128) * (double)factors.scale;
    lanes[i % 8] += wrong_by * wrong_by;
  }
  for (uint32_t i = 0; i < 8; i++) sum += lanes[i];
  to->scale[slot] = factors.scale;
  to->error[slot] = (float)(sqrt(sum) * (1 + 1e-6));
  to->norm[slot] = sqrtf(factors.norm_squared);
}

// Fills a fresh block with the rows of `old` that are still present, so that the other slots can be written again.
static void copy_live_rows(const flat_view *newest, uint32_t ordinal, const flat_block *old, flat_block *fresh) {
  size_t row_bytes = rag_index__shared_row_bytes(newest->head.shared);
  flat_codes from = flat_codes_of(old, newest->block_shift), to = flat_codes_of(fresh, newest->block_shift);
  uint32_t first = ordinal - slot_of(newest, ordinal);
  const uint64_t *words = rag_bitmap_block(newest->head.present, first / RAG_BITMAP_BLOCK_BITS, NULL);
  if (!words) return;
  words += first % RAG_BITMAP_BLOCK_BITS / 64;
  for (uint32_t word = 0; word < 1u << newest->block_shift >> 6; word++) {
    fresh->written[word] = words[word];
    for (uint64_t left = words[word]; left; left &= left - 1) {
      size_t at = (size_t)word * 64 + (size_t)__builtin_ctzll(left);
      memcpy(fresh->rows + at * row_bytes, old->rows + at * row_bytes, row_bytes);
      memcpy(to.base + at * to.stride, from.base + at * from.stride, to.stride);
      to.scale[at] = from.scale[at];
      to.error[at] = from.error[at];
      to.norm[at] = from.norm[at];
    }
  }
}

// Makes sure that every ordinal has a free slot in `next`. Changes nothing that `newest` sees.
static rag_status make_room(flat_view *next, const flat_view *newest, const uint32_t *ordinals, uint32_t count,
                            rag_error *err) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t slot = slot_of(next, ordinals[i]);
    flat_block *old = block_of(next, ordinals[i]);
    if (old && !(old->written[slot / 64] >> slot % 64 & 1)) continue;
    flat_shard *shard = NULL;
    flat_block *fresh = NULL;
    RAG_TRY(own_shard(next, newest, ordinals[i] / RAG_BITMAP_BLOCK_BITS, true, &shard, err));
    RAG_TRY(block_create(next->head.shared, &fresh, err));
    if (old) copy_live_rows(newest, ordinals[i], old, fresh);
    uint32_t number = ordinals[i] % RAG_BITMAP_BLOCK_BITS >> next->block_shift;
    shard->blocks[number] = fresh;
    shard->block_end = RAG_MAX(shard->block_end, number + 1);
    rag_ref_drop(old);
  }
  return RAG_OK;
}

static rag_status flat_append(const rag_index_view *head, const uint32_t *ordinals, uint32_t count,
                              const float *vectors, rag_index_view **out, rag_error *err) {
  const flat_view *newest = (const flat_view *)head;
  rag_datatype datatype = head->shared->datatype;
  uint32_t dimension = head->shared->dimension;
  float room[RAG_DIMENSION_MAX]; // codes are of what is kept
  rag_bitmap *present = NULL;
  flat_view *next = NULL;
  RAG_TRY(rag_index__with_rows(head->present, ordinals, count, &present, err));
  uint32_t shards = RAG_MAX(newest->shard_count, ordinals[count - 1] / RAG_BITMAP_BLOCK_BITS + 1);
  RAG_TRY(view_create(head->shared, newest, shards, present, &next, err));
  rag_status status = make_room(next, newest, ordinals, count, err);
  if (status != RAG_OK) {
    rag_ref_drop(next);
    return status;
  }
  // From here on nothing fails, so a slot is marked as written only when its row will be published.
  for (uint32_t i = 0; i < count; i++) {
    flat_block *block = block_of(next, ordinals[i]);
    uint32_t slot = slot_of(next, ordinals[i]);
    uint8_t *row = block->rows + slot * rag_index__row_bytes(datatype, dimension);
    flat_codes codes = flat_codes_of(block, next->block_shift);
    rag_index__row_write(datatype, vectors + (size_t)i * dimension, dimension, row);
    encode(rag_index__row_read(datatype, row, dimension, room), dimension, &codes, slot);
    block->written[slot / 64] |= 1ull << slot % 64;
  }
  *out = &next->head;
  return RAG_OK;
}

// Lets go of the blocks of a shard that have no row left. `words` are the shard's bits of the new `present`.
static rag_status drop_empty_blocks(flat_view *next, const flat_view *newest, uint32_t number, const uint64_t *words,
                                    rag_error *err) {
  uint32_t words_per_block = 1u << next->block_shift >> 6;
  for (uint32_t b = next->shards[number]->block_end; b-- > 0;) {
    if (!next->shards[number]->blocks[b]) continue;
    uint64_t any = 0;
    for (uint32_t w = 0; w < words_per_block; w++) any |= words[b * words_per_block + w];
    if (any) continue;
    flat_shard *shard = NULL;
    RAG_TRY(own_shard(next, newest, number, false, &shard, err));
    rag_ref_drop(shard->blocks[b]);
    shard->blocks[b] = NULL;
    if (shard->block_end == b + 1) shard->block_end = b;
  }
  return RAG_OK;
}

static rag_status flat_remove(const rag_index_view *head, const rag_bitmap *to_remove, rag_index_view **out,
                              rag_error *err) {
  const flat_view *newest = (const flat_view *)head;
  rag_status status = RAG_OK;
  rag_bitmap *present = NULL;
  flat_view *next = NULL;
  if (rag_bitmap_andnot(head->present, to_remove, &present) != RAG_OK) return rag_fail_no_memory(err, 0);
  RAG_TRY(view_create(head->shared, newest, newest->shard_count, present, &next, err));
  for (uint32_t s = 0; s < next->shard_count; s++) {
    const uint64_t *words = rag_bitmap_block(present, s, NULL);
    if (!next->shards[s] || words == rag_bitmap_block(head->present, s, NULL)) continue;
    if (!words) {
      rag_ref_drop(next->shards[s]);
      next->shards[s] = NULL;
    } else {
      RAG_TRY_OUT(drop_empty_blocks(next, newest, s, words, err));
    }
  }
  *out = &next->head;
  next = NULL;
out:
  rag_ref_drop(next);
  return status;
}

static const void *flat_row(const rag_index_view *head, uint32_t ordinal) {
  const flat_view *view = (const flat_view *)head;
  return block_of(view, ordinal)->rows + slot_of(view, ordinal) * rag_index__shared_row_bytes(head->shared);
}

const rag_index_engine rag_index__flat = {
    .name = "flat",
    .create = flat_create,
    .append = flat_append,
    .remove = flat_remove,
    .row = flat_row,
    .search = rag_index__flat_search,
};
