// The lists of one generation: making room for an append, sealing, splicing, and writing all of them anew.
//
// An append changes a list in one of three ways, decided by prepare, which does all that can fail:
//   in place  the entries fit the open tail: apply writes them and then the count
//   extended  tail and entries together make sealed blocks and a new tail: a new list, which shares the array of blocks
//             while it has room (slots past the old list's count are not read by who has the old list)
//   spliced   the entries begin below the list's last ordinal: a new list and array, the same up to the block where
//             they begin and written anew from there
// Every version of a list holds all postings that earlier ones had, so it is the same to a reader which one it meets.
//
// Costs: a list is 24 bytes, 8 for each entry of the tail's capacity (2, 6, 14, 30, 62, 128: what malloc rounds to
// anyway), and for each 128 sealed postings a header of 32 bytes and their packed bits.
#include "index/lexical/lexical_internal.h"

static const uint32_t tail_capacities[] = {2, 6, 14, 30, 62, 128};

static size_t list_bytes(uint32_t tail_capacity) {
  return sizeof(lex_list) + tail_capacity * sizeof(lex_entry);
}
static size_t slots_bytes(uint32_t segment) {
  return lex_segment_size(segment) * sizeof(lex_list_slot);
}
static size_t pages_bytes(uint32_t count) {
  return sizeof(lex_pages) + (size_t)count * sizeof(lex_page *);
}
static size_t sequence_bytes(const uint8_t *sequence) {
  uint32_t size;
  memcpy(&size, sequence, sizeof size);
  return sizeof size + size;
}

// ---------------------------------------------------------------------------------------------- cores

static void list_destroy(lex_core *core, lex_list *list) {
  _Atomic uint64_t *sum = &core->shared->postings_bytes;
  for (uint32_t i = 0; i < list->block_count; i++) {
    const uint8_t *data = list->blocks[i].data;
    rag_lexical__free(core->shared, sum, (void *)(uintptr_t)data, rag_lexical__block_bytes(data));
  }
  rag_lexical__free(core->shared, sum, list->blocks, list->block_capacity * sizeof(lex_block));
  rag_lexical__free(core->shared, sum, list, list_bytes(list->tail_capacity));
}

static void core_destroy(rag_ref *self) {
  lex_core *core = (lex_core *)self;
  lex_shared *shared = core->shared;
  for (uint32_t s = 0; s < LEX_SEGMENTS; s++) {
    lex_list_slot *slots = atomic_load_explicit(&core->lists[s], memory_order_relaxed);
    for (uint32_t i = 0; slots && i < lex_segment_size(s); i++) {
      lex_list *list = atomic_load_explicit(&slots[i], memory_order_relaxed);
      if (list) list_destroy(core, list);
    }
    rag_lexical__free(shared, &shared->postings_bytes, slots, slots_bytes(s));
  }
  lex_pages *pages = atomic_load_explicit(&core->pages, memory_order_relaxed);
  for (uint32_t i = 0; pages && i < pages->count; i++) {
    lex_page *page = pages->page[i];
    if (!page) continue;
    for (uint32_t j = 0; page->sequences && j < LEX_PAGE; j++) {
      if (!page->sequences[j]) continue;
      rag_lexical__free(shared, &shared->sequence_bytes, page->sequences[j], sequence_bytes(page->sequences[j]));
    }
    rag_lexical__free(shared, &shared->sequence_bytes, page->sequences, LEX_PAGE * sizeof(uint8_t *));
    rag_lexical__free(shared, NULL, page, sizeof *page);
  }
  if (pages) rag_lexical__free(shared, NULL, pages, pages_bytes(pages->count));
  rag_lexical__dictionary_destroy(core->dictionary);
  rag_ref_drop(shared);
  rag_free(core);
}

rag_status rag_lexical__core_create(lex_shared *shared, uint64_t generation, lex_core **out, rag_error *err) {
  lex_core *core = rag_calloc(1, sizeof *core);
  if (!core) return rag_fail_no_memory(err, sizeof *core);
  rag_ref_init(&core->ref, core_destroy);
  core->shared = rag_ref_take(shared);
  core->generation = generation;
  *out = core;
  return RAG_OK;
}

rag_status rag_lexical__core_room(lex_core *core, uint32_t ordinal_last, lex_retired *retired, rag_error *err) {
  lex_pages *old = atomic_load_explicit(&core->pages, memory_order_relaxed), *fresh = NULL;
  uint32_t needed = (ordinal_last >> LEX_PAGE_SHIFT) + 1, had = old ? old->count : 0;
  if (needed <= had) return RAG_OK;
  uint32_t count = RAG_MAX(needed, RAG_MIN(had + had / 2, 1u << (32 - LEX_PAGE_SHIFT)));
  RAG_TRY(rag_lexical__retire_room(retired, 1, err));
  RAG_TRY(rag_lexical__alloc(core->shared, NULL, pages_bytes(count), &fresh, err));
  memset(fresh, 0, pages_bytes(count));
  fresh->count = count;
  if (had > 0) memcpy(fresh->page, old->page, had * sizeof(lex_page *));
  atomic_store_explicit(&core->pages, fresh, memory_order_release);
  if (old) rag_lexical__retire(retired, NULL, old, pages_bytes(had));
  return RAG_OK;
}

// A page that has no rows yet is not read by anybody: readers come to it through postings.
rag_status rag_lexical__core_page(lex_core *core, uint32_t ordinal, rag_error *err) {
  lex_shared *shared = core->shared;
  lex_pages *pages = atomic_load_explicit(&core->pages, memory_order_relaxed);
  lex_page **slot = &pages->page[ordinal >> LEX_PAGE_SHIFT], *page = NULL;
  if (*slot) return RAG_OK;
  RAG_TRY(rag_lexical__alloc(shared, NULL, sizeof *page, &page, err));
  memset(page, 0, sizeof *page);
  if (shared->keep_sequences) {
    size_t bytes = LEX_PAGE * sizeof(uint8_t *);
    rag_status status = rag_lexical__alloc(shared, &shared->sequence_bytes, bytes, &page->sequences, err);
    if (status != RAG_OK) {
      rag_lexical__free(shared, NULL, page, sizeof *page);
      return status;
    }
    memset(page->sequences, 0, bytes);
  }
  *slot = page;
  return RAG_OK;
}

rag_status rag_lexical__core_slots(lex_core *core, uint32_t terms, rag_error *err) {
  lex_shared *shared = core->shared;
  uint32_t offset, last = terms == 0 ? 0 : lex_segment_of(terms - 1, &offset);
  for (uint32_t s = 0; terms > 0 && s <= last; s++) {
    if (atomic_load_explicit(&core->lists[s], memory_order_relaxed)) continue;
    lex_list_slot *slots = NULL;
    RAG_TRY(rag_lexical__alloc(shared, &shared->postings_bytes, slots_bytes(s), &slots, err));
    memset(slots, 0, slots_bytes(s));
    atomic_store_explicit(&core->lists[s], slots, memory_order_release);
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- building a list

// A list in the making: `head` blocks of an older list, then sealed ones, then what is open.
typedef struct builder {
  lex_core *core;
  const lex_pages *pages;
  lex_block *blocks;
  uint32_t block_count;
  uint32_t block_capacity;
  bool blocks_owned; // not an older list's array
  uint32_t head;     // blocks that belong to an older list
  lex_entry open[LEX_BLOCK];
  uint32_t open_count;
} builder;

static void builder_cancel(builder *b) {
  lex_shared *shared = b->core->shared;
  for (uint32_t i = b->head; i < b->block_count; i++) {
    const uint8_t *data = b->blocks[i].data;
    rag_lexical__free(shared, &shared->postings_bytes, (void *)(uintptr_t)data, rag_lexical__block_bytes(data));
  }
  if (b->blocks_owned) {
    rag_lexical__free(shared, &shared->postings_bytes, b->blocks, b->block_capacity * sizeof(lex_block));
  }
}

// Room for `extra` blocks more, in an array of our own where the older list's has none.
static rag_status builder_room(builder *b, uint32_t extra, rag_error *err) {
  lex_shared *shared = b->core->shared;
  if (b->block_count + extra <= b->block_capacity) return RAG_OK;
  uint32_t capacity = RAG_MAX(b->block_count + extra, b->block_count + b->block_count / 2);
  lex_block *fresh = NULL;
  RAG_TRY(rag_lexical__alloc(shared, &shared->postings_bytes, capacity * sizeof(lex_block), &fresh, err));
  if (b->block_count > 0) memcpy(fresh, b->blocks, b->block_count * sizeof(lex_block));
  if (b->blocks_owned) {
    rag_lexical__free(shared, &shared->postings_bytes, b->blocks, b->block_capacity * sizeof(lex_block));
  }
  b->blocks = fresh;
  b->block_capacity = capacity;
  b->blocks_owned = true;
  return RAG_OK;
}

static rag_status seal(builder *b, rag_error *err) {
  lex_shared *shared = b->core->shared;
  uint8_t encoded[LEX_BLOCK_BYTES_MAX], *data = NULL;
  uint32_t lengths[LEX_BLOCK];
  RAG_TRY(builder_room(b, 1, err));
  size_t bytes = rag_lexical__block_encode(b->open, encoded);
  RAG_TRY(rag_lexical__alloc(shared, &shared->postings_bytes, bytes, &data, err));
  memcpy(data, encoded, bytes);
  for (uint32_t i = 0; i < LEX_BLOCK; i++) lengths[i] = lex_length1(b->pages, b->open[i].ordinal) - 1;
  lex_block *block = &b->blocks[b->block_count++];
  *block = (lex_block){.first = b->open[0].ordinal, .last = b->open[LEX_BLOCK - 1].ordinal, .data = data};
  rag_lexical__block_front(b->open, lengths, LEX_BLOCK, block);
  b->open_count = 0;
  return RAG_OK;
}

static rag_status builder_add(builder *b, lex_entry entry, rag_error *err) {
  b->open[b->open_count++] = entry;
  return b->open_count == LEX_BLOCK ? seal(b, err) : RAG_OK;
}

static rag_status builder_finish(builder *b, lex_list **out, rag_error *err) {
  lex_shared *shared = b->core->shared;
  lex_list *list = NULL;
  uint32_t capacity = 0;
  for (uint32_t i = 0; i < RAG_COUNT_OF(tail_capacities) && capacity < RAG_MAX(1u, b->open_count); i++) {
    capacity = tail_capacities[i];
  }
  RAG_TRY(rag_lexical__alloc(shared, &shared->postings_bytes, list_bytes(capacity), &list, err));
  list->blocks = b->blocks;
  list->block_count = b->block_count;
  list->block_capacity = b->block_capacity;
  list->tail_capacity = capacity;
  atomic_init(&list->tail_count, b->open_count);
  if (b->open_count > 0) memcpy(list->tail, b->open, b->open_count * sizeof(lex_entry));
  *out = list;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- appending

// The first block that the new entries may touch: those before it stay as they are.
static uint32_t blocks_below(const lex_list *list, uint32_t ordinal) {
  uint32_t low = 0, high = list->block_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (list->blocks[middle].last < ordinal) low = middle + 1;
    else high = middle;
  }
  return low;
}

static uint32_t tail_count(const lex_list *list) {
  return atomic_load_explicit(&list->tail_count, memory_order_relaxed);
}

static uint32_t list_last(const lex_list *list) {
  uint32_t open = tail_count(list);
  return open > 0 ? list->tail[open - 1].ordinal : list->blocks[list->block_count - 1].last;
}

// Adds the old list's postings from block `from` on and the new entries, in order.
static rag_status merge(builder *b, const lex_list *old, uint32_t from, const lex_change *change, rag_error *err) {
  uint32_t next = 0;
  for (uint32_t block = from; old && block <= old->block_count; block++) {
    lex_entry entries[LEX_BLOCK];
    uint32_t count = block < old->block_count ? LEX_BLOCK : tail_count(old);
    if (block < old->block_count) {
      uint32_t ordinals[LEX_BLOCK], tfs[LEX_BLOCK];
      rag_lexical__block_ordinals(&old->blocks[block], ordinals);
      rag_lexical__block_tfs(&old->blocks[block], tfs);
      for (uint32_t i = 0; i < LEX_BLOCK; i++) entries[i] = (lex_entry){ordinals[i], tfs[i]};
    } else if (count > 0) {
      memcpy(entries, old->tail, count * sizeof(lex_entry));
    }
    for (uint32_t i = 0; i < count; i++) {
      for (; next < change->count && change->entries[next].ordinal < entries[i].ordinal; next++) {
        RAG_TRY(builder_add(b, change->entries[next], err));
      }
      RAG_TRY(builder_add(b, entries[i], err));
    }
  }
  for (; next < change->count; next++) RAG_TRY(builder_add(b, change->entries[next], err));
  return RAG_OK;
}

static rag_status prepare(lex_core *core, lex_change *change, lex_retired *retired, rag_error *err) {
  const lex_list *old = lex_core_list(core, change->term);
  change->list = NULL;
  bool behind = old && change->entries[0].ordinal < list_last(old);
  if (old && !behind && tail_count(old) + change->count <= RAG_MIN(old->tail_capacity, LEX_BLOCK - 1)) return RAG_OK;

  uint32_t from = !old ? 0 : behind ? blocks_below(old, change->entries[0].ordinal) : old->block_count;
  // The old list, its array, and the blocks that are written anew.
  if (old) RAG_TRY(rag_lexical__retire_room(retired, 2 + old->block_count - from, err));
  builder b = {.core = core, .pages = lex_core_pages(core)};
  if (old) {
    b.blocks = old->blocks;
    b.block_count = b.head = from;
    // A splice overwrites headers that readers of the old list look at: an array of its own then.
    b.block_capacity = behind ? from : old->block_capacity;
  }
  rag_status status = merge(&b, old, from, change, err);
  if (status == RAG_OK && behind && !b.blocks_owned) status = builder_room(&b, 1, err);
  if (status == RAG_OK) status = builder_finish(&b, &change->list, err);
  if (status != RAG_OK) {
    builder_cancel(&b);
    return status;
  }
  change->shared_head = from;
  return RAG_OK;
}

static void apply(lex_core *core, lex_change *change, lex_retired *retired) {
  lex_shared *shared = core->shared;
  uint32_t offset, segment = lex_segment_of(change->term, &offset);
  lex_list_slot *slot = &atomic_load_explicit(&core->lists[segment], memory_order_relaxed)[offset];
  lex_list *old = atomic_load_explicit(slot, memory_order_relaxed);
  atomic_fetch_add_explicit(&shared->postings, change->count, memory_order_relaxed);
  if (!change->list) {
    uint32_t open = tail_count(old);
    memcpy(old->tail + open, change->entries, change->count * sizeof(lex_entry));
    atomic_store_explicit(&old->tail_count, open + change->count, memory_order_release);
    return;
  }
  atomic_store_explicit(slot, change->list, memory_order_release);
  if (!old) return;
  _Atomic uint64_t *sum = &shared->postings_bytes;
  for (uint32_t i = change->shared_head; i < old->block_count; i++) {
    const uint8_t *data = old->blocks[i].data;
    rag_lexical__retire(retired, sum, (void *)(uintptr_t)data, rag_lexical__block_bytes(data));
  }
  if (change->list->blocks != old->blocks && old->blocks) {
    rag_lexical__retire(retired, sum, old->blocks, old->block_capacity * sizeof(lex_block));
  }
  rag_lexical__retire(retired, sum, old, list_bytes(old->tail_capacity));
}

static void cancel(lex_core *core, lex_change *change) {
  if (!change->list) return;
  const lex_list *old = lex_core_list(core, change->term);
  builder b = {.core = core,
               .blocks = change->list->blocks,
               .block_count = change->list->block_count,
               .block_capacity = change->list->block_capacity,
               .blocks_owned = !old || old->blocks != change->list->blocks,
               .head = change->shared_head};
  builder_cancel(&b);
  rag_lexical__free(core->shared, &core->shared->postings_bytes, change->list, list_bytes(change->list->tail_capacity));
  change->list = NULL;
}

// A list is three loads that wait for each other: slot, head, end of the tail. As the lists of a batch are known, each is
// asked for AHEAD changes before the next one needs it: change `at` stands at its first load here, and is worked on
// AHEAD_STEPS * AHEAD calls later.
#define AHEAD 16u
#define AHEAD_STEPS 3u
static void ask_ahead(const lex_core *core, const lex_change *changes, uint32_t count, uint32_t at) {
  if (at < count) {
    uint32_t offset, segment = lex_segment_of(changes[at].term, &offset);
    __builtin_prefetch(atomic_load_explicit(&core->lists[segment], memory_order_relaxed) + offset);
  }
  if (at >= AHEAD && at - AHEAD < count) {
    __builtin_prefetch(lex_core_list(core, changes[at - AHEAD].term), 1); // NULL does no harm
  }
  if (at >= 2 * AHEAD && at - 2 * AHEAD < count) {
    const lex_list *list = lex_core_list(core, changes[at - 2 * AHEAD].term);
    if (list) __builtin_prefetch(&list->tail[tail_count(list)], 1);
  }
}

rag_status rag_lexical__changes_prepare(lex_core *core, lex_change *changes, uint32_t count, lex_retired *retired,
                                        rag_error *err) {
  for (uint32_t at = 0; at < count + AHEAD_STEPS * AHEAD; at++) {
    ask_ahead(core, changes, count, at);
    if (at < AHEAD_STEPS * AHEAD) continue;
    uint32_t i = at - AHEAD_STEPS * AHEAD;
    rag_status status = prepare(core, &changes[i], retired, err);
    if (status != RAG_OK) {
      while (i-- > 0) cancel(core, &changes[i]);
      return status;
    }
  }
  return RAG_OK;
}

void rag_lexical__changes_apply(lex_core *core, lex_change *changes, uint32_t count, lex_retired *retired) {
  for (uint32_t at = 0; at < count + AHEAD_STEPS * AHEAD; at++) {
    ask_ahead(core, changes, count, at);
    if (at >= AHEAD_STEPS * AHEAD) apply(core, &changes[at - AHEAD_STEPS * AHEAD], retired);
  }
}

// ---------------------------------------------------------------------------------------------- writing all anew

static rag_status copy_rows(const lex_core *from, const rag_bitmap *present, lex_core *to, lex_retired *retired,
                            rag_error *err) {
  const lex_pages *old = lex_core_pages(from);
  lex_shared *shared = to->shared;
  uint32_t last = 0;
  if (rag_bitmap_count(present) == 0) return RAG_OK;
  for (uint32_t o = 0; rag_bitmap_next(present, o, &o); o++) {
    last = o;
    if (o == UINT32_MAX) break;
  }
  RAG_TRY(rag_lexical__core_room(to, last, retired, err));
  for (uint32_t o = 0; rag_bitmap_next(present, o, &o); o++) {
    RAG_TRY(rag_lexical__core_page(to, o, err));
    const lex_page *source = lex_pages_at(old, o);
    lex_page *target = lex_pages_at(lex_core_pages(to), o);
    uint32_t at = o & (LEX_PAGE - 1);
    if (source->sequences) {
      size_t bytes = sequence_bytes(source->sequences[at]);
      RAG_TRY(rag_lexical__alloc(shared, &shared->sequence_bytes, bytes, &target->sequences[at], err));
      memcpy(target->sequences[at], source->sequences[at], bytes);
    }
    target->length1[at] = source->length1[at];
    to->rows++;
    if (o == UINT32_MAX) break;
  }
  return RAG_OK;
}

static rag_status copy_list(const lex_list *old, const rag_bitmap *present, lex_core *to, lex_list_slot *slot,
                            uint64_t *kept, rag_error *err) {
  builder b = {.core = to, .pages = lex_core_pages(to)};
  rag_status status = RAG_OK;
  lex_list *list = NULL;
  for (uint32_t block = 0; block <= old->block_count; block++) {
    uint32_t ordinals[LEX_BLOCK], tfs[LEX_BLOCK], count = block < old->block_count ? LEX_BLOCK : tail_count(old);
    if (block < old->block_count) {
      rag_lexical__block_ordinals(&old->blocks[block], ordinals);
      rag_lexical__block_tfs(&old->blocks[block], tfs);
    }
    for (uint32_t i = 0; i < count; i++) {
      lex_entry entry = block < old->block_count ? (lex_entry){ordinals[i], tfs[i]} : old->tail[i];
      if (!rag_bitmap_has(present, entry.ordinal)) continue;
      RAG_TRY_OUT(builder_add(&b, entry, err));
    }
  }
  if (b.block_count + b.open_count == 0) return RAG_OK;
  RAG_TRY_OUT(builder_finish(&b, &list, err));
  *kept += (uint64_t)b.block_count * LEX_BLOCK + b.open_count;
  atomic_store_explicit(slot, list, memory_order_release);
out:
  if (status != RAG_OK) builder_cancel(&b);
  return status;
}

static bool has_list(const void *core, uint32_t term) {
  return lex_core_list(core, term) != NULL;
}

rag_status rag_lexical__core_rebuild(const lex_core *from, const rag_bitmap *present, lex_core **out, rag_error *err) {
  rag_status status = RAG_OK;
  lex_core *core = NULL;
  lex_retired none = {0}; // nobody else sees the new core: what it outgrows is freed at once
  uint64_t kept = 0;
  uint32_t terms = rag_lexical__dictionary_count(from->dictionary);
  RAG_TRY(rag_lexical__core_create(from->shared, from->generation + 1, &core, err));
  RAG_TRY_OUT(rag_lexical__core_slots(core, terms, err));
  RAG_TRY_OUT(copy_rows(from, present, core, &none, err));
  for (uint32_t term = 0; term < terms; term++) {
    const lex_list *list = lex_core_list(from, term);
    uint32_t offset, segment = lex_segment_of(term, &offset);
    if (list) RAG_TRY_OUT(copy_list(list, present, core, &core->lists[segment][offset], &kept, err));
  }
  RAG_TRY_OUT(rag_lexical__dictionary_copy(from->dictionary, has_list, core, &core->dictionary, err));
  atomic_store_explicit(&from->shared->postings, kept, memory_order_relaxed);
  atomic_fetch_add_explicit(&from->shared->rebuilds, 1, memory_order_relaxed);
  *out = core;
  core = NULL;
out:
  RAG_ASSERT(none.count == 0);
  rag_free(none.items);
  rag_ref_drop(core);
  return status;
}
