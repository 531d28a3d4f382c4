// Walking one list: by blocks, within a block, and counting its members of a set.
//
// A cursor only moves forward until it is rewound. Moving between blocks reads headers alone; a block is decoded when a
// posting of it is asked for, and its tfs when a score is.
#include "index/lexical/lexical_internal.h"

void rag_lexical__cursor_rewind(lex_cursor *cursor) {
  cursor->block = 0;
  cursor->loaded = cursor->tfs_loaded = cursor->bound_block = UINT32_MAX;
  cursor->at = cursor->count = 0;
}

void rag_lexical__cursor_open(lex_cursor *cursor, const lex_list *list, uint32_t *buffer) {
  uint32_t *ordinals = buffer + 2 * LEX_BLOCK, *tfs = buffer + 3 * LEX_BLOCK;
  cursor->buffer = buffer;
  cursor->blocks = list->blocks;
  cursor->sealed = list->block_count;
  cursor->tail_count = atomic_load_explicit(&list->tail_count, memory_order_acquire);
  for (uint32_t i = 0; i < cursor->tail_count; i++) {
    ordinals[i] = list->tail[i].ordinal;
    tfs[i] = list->tail[i].tf;
  }
  if (cursor->tail_count > 0) {
    cursor->tail_block = (lex_block){.first = ordinals[0], .last = ordinals[cursor->tail_count - 1]};
  }
  cursor->block_count = cursor->sealed + (cursor->tail_count > 0);
  cursor->postings = (uint64_t)cursor->sealed * LEX_BLOCK + cursor->tail_count;
  rag_lexical__cursor_rewind(cursor);
}

bool rag_lexical__cursor_block(lex_cursor *cursor, uint32_t ordinal) {
  uint32_t low = cursor->block, end = cursor->block_count;
  if (low < end && lex_cursor_header(cursor, low)->last >= ordinal) return true;
  // Galloping: most steps are short.
  uint32_t step = 1;
  while (low + step < end && lex_cursor_header(cursor, low + step)->last < ordinal) low += step, step *= 2;
  uint32_t high = RAG_MIN(low + step, end); // low is below, high is not or is the end
  while (low + 1 < high) {
    uint32_t middle = low + (high - low) / 2;
    if (lex_cursor_header(cursor, middle)->last < ordinal) low = middle;
    else high = middle;
  }
  cursor->block = high;
  cursor->at = 0;
  return high < end;
}

// Each block's data is an allocation of its own, so no CPU guesses where the next one lies: without this, waiting for
// the first line was four fifths of the time of decoding, a quarter of a search's of a million chunks.
static inline void fetch(const uint8_t *data) {
  __builtin_prefetch(data);
  __builtin_prefetch(data + 64);
  __builtin_prefetch(data + 128);
}

void rag_lexical__cursor_load(lex_cursor *cursor) {
  uint32_t block = cursor->block;
  if (cursor->loaded == block) return;
  cursor->loaded = block;
  cursor->at = 0;
  if (cursor->raw_ordinals) {
    cursor->ordinals = cursor->raw_ordinals + (size_t)block * LEX_BLOCK;
    cursor->tfs = cursor->raw_tfs + (size_t)block * LEX_BLOCK;
    cursor->tfs_loaded = block;
    cursor->count = (uint32_t)RAG_MIN((uint64_t)LEX_BLOCK, cursor->postings - (uint64_t)block * LEX_BLOCK);
  } else if (block == cursor->sealed) {
    cursor->ordinals = cursor->buffer + 2 * LEX_BLOCK;
    cursor->tfs = cursor->buffer + 3 * LEX_BLOCK;
    cursor->tfs_loaded = block;
    cursor->count = cursor->tail_count;
  } else {
    if (block + 1 < cursor->sealed) fetch(cursor->blocks[block + 1].data);
    rag_lexical__block_ordinals(&cursor->blocks[block], cursor->buffer);
    cursor->ordinals = cursor->buffer;
    cursor->count = LEX_BLOCK;
  }
}

void rag_lexical__cursor_load_tfs(lex_cursor *cursor) {
  if (cursor->tfs_loaded == cursor->loaded) return;
  rag_lexical__block_tfs(&cursor->blocks[cursor->block], cursor->buffer + LEX_BLOCK);
  cursor->tfs = cursor->buffer + LEX_BLOCK;
  cursor->tfs_loaded = cursor->loaded;
}

uint32_t rag_lexical__cursor_bound(lex_cursor *cursor, uint32_t block) {
  if (block == cursor->sealed) return cursor->tail_bound;
  if (cursor->bound_block != block) {
    cursor->bound = rag_lexical__block_bound(&cursor->scorer, lex_cursor_header(cursor, block));
    cursor->bound_block = block;
  }
  return cursor->bound;
}

uint32_t rag_lexical__lower_bound(const uint32_t *ordinals, uint32_t from, uint32_t count, uint32_t ordinal) {
  uint32_t left = count - from;
  const uint32_t *base = ordinals + from;
  while (left > 0) { // without branches: the outcome of each comparison is a coin toss
    uint32_t half = left / 2;
    const uint32_t *middle = base + half;
    bool below = *middle < ordinal;
    base = below ? middle + 1 : base;
    left = below ? left - half - 1 : half;
  }
  return (uint32_t)(base - ordinals);
}

bool rag_lexical__cursor_seek(lex_cursor *cursor, uint32_t ordinal, uint32_t *out) {
  if (!rag_lexical__cursor_block(cursor, ordinal)) return false;
  rag_lexical__cursor_load(cursor);
  cursor->at = rag_lexical__lower_bound(cursor->ordinals, cursor->at, cursor->count, ordinal);
  *out = cursor->ordinals[cursor->at];
  return true;
}

// ---------------------------------------------------------------------------------------------- counting

static uint32_t count_run(const uint32_t *ordinals, uint32_t count, const rag_bitmap *set) {
  // Postings of a block are near each other: one block of the bitmap serves most of a run.
  const uint64_t *words = NULL;
  uint32_t number = UINT32_MAX;
  uint32_t total = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t of = ordinals[i] / RAG_BITMAP_BLOCK_BITS, at = ordinals[i] % RAG_BITMAP_BLOCK_BITS;
    if (of != number) words = rag_bitmap_block(set, number = of, NULL);
    if (words) total += (uint32_t)(words[at / 64] >> (at % 64) & 1);
  }
  return total;
}

uint32_t rag_lexical__count_in(const lex_list *list, const rag_bitmap *set) {
  uint32_t buffer[LEX_CURSOR_WORDS], next = 0, total = 0;
  lex_cursor cursor = {0};
  rag_lexical__cursor_open(&cursor, list, buffer);
  while (rag_bitmap_next(set, next, &next) && rag_lexical__cursor_block(&cursor, next)) {
    const lex_block *header = lex_cursor_header(&cursor, cursor.block);
    // `next` is a member at or below the block's last ordinal; where it is below the first, another one may follow.
    if (next < header->first && !rag_bitmap_next(set, header->first, &next)) break;
    if (next <= header->last) {
      rag_lexical__cursor_load(&cursor);
      total += count_run(cursor.ordinals, cursor.count, set);
    }
    if (header->last == UINT32_MAX) break;
    next = header->last + 1;
  }
  return total;
}
