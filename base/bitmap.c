// Persistent bitmaps: sets of u32 as arrays of shared blocks.
//
// A bitmap is a spine of pointers to blocks of 65,536 bits. Blocks are immutable and reference-counted once a bitmap
// that others can see has them, so a successor of a bitmap shares all blocks but those it changed.
//
// Invariants of a bitmap
//  1. blocks[i] is NULL where the block has no bits, and &full_block where it has all of them: no other block has 0 or
//     65,536 bits. So equal blocks are found by pointer or by content, never by case.
//  2. blocks[block_count - 1] is not NULL.
//  3. `count` is the sum of the blocks' counts.
// Of an edit: 1 and 3 hold between calls. A block that only the edit owns (reference count 1) is changed in place; any
// other is copied first. An edit that failed for memory is still well-formed, and holds a part of the failed operation.
//
// Costs: an edit is one pointer and one atomic add per block of 65,536 ordinals, plus 8 KiB of copy per block touched.
// The spine of 4,294,967,296 ordinals is 512 KiB. A tree of spines would make an edit of so large a set cheaper, and
// every lookup dearer: at 10,000,000 ordinals (153 blocks) the spine is not what costs.
//
// Dense blocks, where roaring has three kinds of container: readers are scans that test a bit per candidate or AND
// whole words, and edits are small. Sparse sets pay 8 KiB per block; on disk they are small (base/bitmap_codec.c).
//
// Threads: a bitmap is immutable and may be read by any number; block references are atomic. An edit has one thread.
#include "base/base.h"

#define BLOCK_BITS RAG_BITMAP_BLOCK_BITS
#define BLOCK_WORDS RAG_BITMAP_BLOCK_WORDS
#define BLOCKS_MAX 65536u // 2^32 ordinals

typedef struct block {
  _Atomic uint64_t refs; // atomic: up relaxed, down acq_rel, as in base/cell.c; full_block's is never touched
  uint32_t count;        // of set bits
  uint64_t words[BLOCK_WORDS];
} block;

struct rag_bitmap {
  rag_ref ref;
  uint64_t count;
  uint32_t block_count;
  block *blocks[];
};

// The bitmap that an edit builds is the one that finish hands out, so finish allocates nothing.
struct rag_bitmap_edit {
  rag_bitmap *bitmap;
  uint32_t capacity; // of bitmap->blocks
};

static block full_block = {.refs = 1, .count = BLOCK_BITS, .words = {[0 ... BLOCK_WORDS - 1] = UINT64_MAX}};

// --------------------------------------------------------------------------------------------------- kernels on words

typedef enum set_op { SET_AND, SET_OR, SET_ANDNOT } set_op;

// One text, compiled twice: with the popcnt instruction, and without it for CPUs (and compilers) that have none, where
// the builtin becomes bit arithmetic.
#define DEFINE_KERNELS(suffix, attribute)                                                                              \
  attribute static uint32_t combine_words_##suffix(set_op op, const uint64_t *a, const uint64_t *b, uint64_t *out) {   \
    uint64_t count = 0;                                                                                                \
    switch (op) {                                                                                                      \
    case SET_AND:                                                                                                      \
      for (size_t i = 0; i < BLOCK_WORDS; i++) count += (uint64_t)__builtin_popcountll(out[i] = a[i] & b[i]);          \
      break;                                                                                                           \
    case SET_OR:                                                                                                       \
      for (size_t i = 0; i < BLOCK_WORDS; i++) count += (uint64_t)__builtin_popcountll(out[i] = a[i] | b[i]);          \
      break;                                                                                                           \
    case SET_ANDNOT:                                                                                                   \
      for (size_t i = 0; i < BLOCK_WORDS; i++) count += (uint64_t)__builtin_popcountll(out[i] = a[i] & ~b[i]);         \
      break;                                                                                                           \
    }                                                                                                                  \
    return (uint32_t)count;                                                                                            \
  }                                                                                                                    \
  attribute static uint32_t and_count_words_##suffix(const uint64_t *a, const uint64_t *b) {                           \
    uint64_t count = 0;                                                                                                \
    for (size_t i = 0; i < BLOCK_WORDS; i++) count += (uint64_t)__builtin_popcountll(a[i] & b[i]);                     \
    return (uint32_t)count;                                                                                            \
  }

DEFINE_KERNELS(portable, )

static uint32_t (*combine_words)(set_op op, const uint64_t *a, const uint64_t *b,
                                 uint64_t *out) = combine_words_portable; // immutable after the constructor
static uint32_t (*and_count_words)(const uint64_t *a, const uint64_t *b) = and_count_words_portable; // likewise

#if defined(__x86_64__)
DEFINE_KERNELS(popcnt, __attribute__((target("popcnt"))))

static __attribute__((constructor)) void choose_kernels(void) {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("popcnt")) return;
  combine_words = combine_words_popcnt;
  and_count_words = and_count_words_popcnt;
}
#endif

// Bits first..last of one word.
static uint64_t word_mask(uint32_t first, uint32_t last) {
  return (UINT64_MAX << first) & (UINT64_MAX >> (63 - last));
}

// Sets or clears bits first..last of a block's words; returns how many changed.
static uint32_t write_range(uint64_t *words, uint32_t first, uint32_t last, bool value) {
  uint64_t changed = 0;
  for (uint32_t w = first / 64; w <= last / 64; w++) {
    uint64_t mask = word_mask(w == first / 64 ? first % 64 : 0, w == last / 64 ? last % 64 : 63);
    uint64_t flips = mask & (value ? ~words[w] : words[w]);
    words[w] ^= flips;
    changed += (uint64_t)__builtin_popcountll(flips);
  }
  return (uint32_t)changed;
}

// ------------------------------------------------------------------------------------------------------------- blocks

static block *block_take(block *b) {
  // The shared constant is in every large bitmap: counting it would make all threads fight for its cache line.
  if (b && b != &full_block) atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
  return b;
}

static void block_drop(block *b) {
  if (!b || b == &full_block) return;
  if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) rag_free(b);
}

// May be changed in place. acquire: with the release of the owner that left, whose reads come before our writes.
static bool block_is_private(const block *b) {
  return b != &full_block && atomic_load_explicit(&b->refs, memory_order_acquire) == 1;
}

// A private block with these words (NULL: none set); NULL when out of memory.
static block *block_create(const uint64_t *words, uint32_t count) {
  block *b = rag_alloc(sizeof(*b));
  if (!b) return NULL;
  atomic_init(&b->refs, 1);
  b->count = count;
  if (words) memcpy(b->words, words, sizeof(b->words));
  else memset(b->words, 0, sizeof(b->words));
  return b;
}

// a op b as a reference in *out, sharing a, b or the constant wherever the result is one of them.
static rag_status block_combine(set_op op, block *a, block *b, block **out) {
  block *shared = NULL; // valid when `known`
  bool known = true;
  if (!a) shared = op == SET_OR ? b : NULL;
  else if (!b) shared = op == SET_AND ? NULL : a;
  else if (a == b) shared = op == SET_ANDNOT ? NULL : a;
  else if (op == SET_AND && (a == &full_block || b == &full_block)) shared = a == &full_block ? b : a;
  else if (op == SET_OR && (a == &full_block || b == &full_block)) shared = &full_block;
  else if (op == SET_ANDNOT && b == &full_block) shared = NULL;
  else known = false;
  if (!known) {
    uint64_t words[BLOCK_WORDS];
    uint32_t count = combine_words(op, a->words, b->words, words);
    if (count == 0) shared = NULL;
    else if (count == a->count) shared = a; // a subset or a superset of a, as large as a
    else if (count == b->count && op != SET_ANDNOT) shared = b;
    else if (count == BLOCK_BITS) shared = &full_block;
    else {
      block *made = block_create(words, count);
      if (!made) return RAG_RESOURCE_EXHAUSTED;
      *out = made;
      return RAG_OK;
    }
  }
  *out = block_take(shared);
  return RAG_OK;
}

// ------------------------------------------------------------------------------------------------------------ bitmaps

static void destroy_bitmap(rag_ref *self) {
  rag_bitmap *bitmap = (rag_bitmap *)(void *)self;
  for (uint32_t i = 0; i < bitmap->block_count; i++) block_drop(bitmap->blocks[i]);
  rag_free(bitmap);
}

static size_t bitmap_bytes(uint32_t capacity) {
  return sizeof(rag_bitmap) + (size_t)capacity * sizeof(block *);
}

static rag_bitmap *bitmap_create(uint32_t capacity) {
  rag_bitmap *bitmap = rag_alloc(bitmap_bytes(capacity));
  if (!bitmap) return NULL;
  rag_ref_init(&bitmap->ref, destroy_bitmap);
  bitmap->count = 0;
  bitmap->block_count = 0;
  return bitmap;
}

static void trim(rag_bitmap *bitmap) {
  while (bitmap->block_count > 0 && !bitmap->blocks[bitmap->block_count - 1]) bitmap->block_count--;
}

static block *block_at(const rag_bitmap *bitmap, uint32_t i) {
  return i < bitmap->block_count ? bitmap->blocks[i] : NULL;
}

rag_bitmap *rag_bitmap_empty(void) {
  return bitmap_create(0);
}

uint64_t rag_bitmap_count(const rag_bitmap *bitmap) {
  return bitmap->count;
}

bool rag_bitmap_has(const rag_bitmap *bitmap, uint32_t value) {
  const block *b = block_at(bitmap, value / BLOCK_BITS);
  return b && (b->words[value % BLOCK_BITS / 64] >> (value % 64) & 1);
}

uint32_t rag_bitmap_block_count(const rag_bitmap *bitmap) {
  return bitmap->block_count;
}

const uint64_t *rag_bitmap_block(const rag_bitmap *bitmap, uint32_t index, uint32_t *out_count) {
  const block *b = block_at(bitmap, index);
  if (out_count) *out_count = b ? b->count : 0;
  return b ? b->words : NULL;
}

bool rag_bitmap_next(const rag_bitmap *bitmap, uint32_t from, uint32_t *out) {
  uint32_t word = from % BLOCK_BITS / 64;
  uint64_t mask = UINT64_MAX << (from % 64); // of the first word alone
  for (uint32_t i = from / BLOCK_BITS; i < bitmap->block_count; i++) {
    const block *b = bitmap->blocks[i];
    for (; b && word < BLOCK_WORDS; word++, mask = UINT64_MAX) {
      uint64_t bits = b->words[word] & mask;
      if (!bits) continue;
      *out = i * BLOCK_BITS + word * 64 + (uint32_t)__builtin_ctzll(bits);
      return true;
    }
    word = 0;
    mask = UINT64_MAX;
  }
  return false;
}

bool rag_bitmap_equal(const rag_bitmap *a, const rag_bitmap *b) {
  if (a == b) return true;
  if (a->count != b->count || a->block_count != b->block_count) return false;
  for (uint32_t i = 0; i < a->block_count; i++) {
    const block *left = a->blocks[i], *right = b->blocks[i];
    if (left == right) continue;
    if (!left || !right || left->count != right->count) return false;
    if (memcmp(left->words, right->words, sizeof(left->words)) != 0) return false;
  }
  return true;
}

uint64_t rag_bitmap_and_count(const rag_bitmap *a, const rag_bitmap *b) {
  uint64_t count = 0;
  uint32_t blocks = RAG_MIN(a->block_count, b->block_count);
  for (uint32_t i = 0; i < blocks; i++) {
    const block *left = a->blocks[i], *right = b->blocks[i];
    if (!left || !right) continue;
    if (left == right || right == &full_block) count += left->count;
    else if (left == &full_block) count += right->count;
    else count += and_count_words(left->words, right->words);
  }
  return count;
}

static rag_status combine(set_op op, const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out) {
  uint32_t blocks = a->block_count;
  if (op == SET_AND) blocks = RAG_MIN(blocks, b->block_count);
  if (op == SET_OR) blocks = RAG_MAX(blocks, b->block_count);
  rag_bitmap *made = bitmap_create(blocks);
  if (!made) return RAG_RESOURCE_EXHAUSTED;
  for (uint32_t i = 0; i < blocks; i++) {
    rag_status status = block_combine(op, block_at(a, i), block_at(b, i), &made->blocks[i]);
    if (status != RAG_OK) {
      rag_ref_drop(made); // its block_count says how far it got
      return status;
    }
    made->block_count = i + 1;
    made->count += made->blocks[i] ? made->blocks[i]->count : 0;
  }
  trim(made);
  *out = made;
  return RAG_OK;
}

rag_status rag_bitmap_and(const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out) {
  return combine(SET_AND, a, b, out);
}

rag_status rag_bitmap_or(const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out) {
  return combine(SET_OR, a, b, out);
}

rag_status rag_bitmap_andnot(const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out) {
  return combine(SET_ANDNOT, a, b, out);
}

// -------------------------------------------------------------------------------------------------------------- edits

rag_bitmap_edit *rag_bitmap_edit_create(const rag_bitmap *base) {
  uint32_t blocks = base ? base->block_count : 0;
  rag_bitmap_edit *edit = rag_alloc(sizeof(*edit));
  if (!edit) return NULL;
  edit->capacity = blocks;
  edit->bitmap = bitmap_create(edit->capacity);
  if (!edit->bitmap) {
    rag_free(edit);
    return NULL;
  }
  for (uint32_t i = 0; i < blocks; i++) edit->bitmap->blocks[i] = block_take(base->blocks[i]);
  edit->bitmap->block_count = blocks;
  edit->bitmap->count = base ? base->count : 0;
  return edit;
}

// Makes blocks 0..blocks-1 slots of the spine.
static rag_status reach(rag_bitmap_edit *edit, uint32_t blocks) {
  rag_bitmap *bitmap = edit->bitmap;
  if (blocks > edit->capacity) {
    uint32_t capacity = RAG_MIN(RAG_MAX(blocks, edit->capacity * 2), BLOCKS_MAX);
    bitmap = rag_realloc(bitmap, bitmap_bytes(capacity)); // nobody else has seen it yet, so it may move
    if (!bitmap) return RAG_RESOURCE_EXHAUSTED;
    edit->bitmap = bitmap;
    edit->capacity = capacity;
  }
  while (bitmap->block_count < blocks) bitmap->blocks[bitmap->block_count++] = NULL;
  return RAG_OK;
}

// Puts `fresh` (its reference is taken over) into slot i and keeps the count.
static void replace(rag_bitmap *bitmap, uint32_t i, block *fresh) {
  block *old = bitmap->blocks[i];
  bitmap->count += fresh ? fresh->count : 0;
  bitmap->count -= old ? old->count : 0;
  bitmap->blocks[i] = fresh;
  block_drop(old);
}

// Block i, private to the edit: copied or made on the first touch.
static rag_status touch(rag_bitmap *bitmap, uint32_t i, block **out) {
  block *b = bitmap->blocks[i];
  if (!b || !block_is_private(b)) {
    b = block_create(b ? b->words : NULL, b ? b->count : 0);
    if (!b) return RAG_RESOURCE_EXHAUSTED;
    replace(bitmap, i, b);
  }
  *out = b;
  return RAG_OK;
}

// Bits first..last of block i become `value`.
static rag_status write_block(rag_bitmap_edit *edit, uint32_t i, uint32_t first, uint32_t last, bool value) {
  rag_bitmap *bitmap = edit->bitmap;
  block *b = block_at(bitmap, i);
  if (b == (value ? &full_block : NULL)) return RAG_OK;
  if (first == last && b && (b->words[first / 64] >> (first % 64) & 1) == value) return RAG_OK; // nothing to copy for
  if (value) RAG_TRY(reach(edit, i + 1));
  bitmap = edit->bitmap;
  if (first == 0 && last == BLOCK_BITS - 1) {
    replace(bitmap, i, value ? &full_block : NULL);
    return RAG_OK;
  }
  RAG_TRY(touch(bitmap, i, &b));
  uint32_t changed = write_range(b->words, first, last, value);
  b->count = value ? b->count + changed : b->count - changed;
  bitmap->count = value ? bitmap->count + changed : bitmap->count - changed;
  if (b->count == 0) replace(bitmap, i, NULL);
  else if (b->count == BLOCK_BITS) replace(bitmap, i, &full_block);
  return RAG_OK;
}

static rag_status write_ordinals(rag_bitmap_edit *edit, uint32_t first, uint32_t count, bool value) {
  if (count == 0) return RAG_OK;
  if (count - 1 > UINT32_MAX - first) return RAG_OUT_OF_RANGE;
  uint32_t last = first + (count - 1);
  for (uint32_t i = first / BLOCK_BITS; i <= last / BLOCK_BITS; i++) {
    uint32_t from = i == first / BLOCK_BITS ? first % BLOCK_BITS : 0;
    uint32_t to = i == last / BLOCK_BITS ? last % BLOCK_BITS : BLOCK_BITS - 1;
    RAG_TRY(write_block(edit, i, from, to, value));
  }
  return RAG_OK;
}

rag_status rag_bitmap_edit_add(rag_bitmap_edit *edit, uint32_t value) {
  return write_block(edit, value / BLOCK_BITS, value % BLOCK_BITS, value % BLOCK_BITS, true);
}

rag_status rag_bitmap_edit_add_range(rag_bitmap_edit *edit, uint32_t first, uint32_t count) {
  return write_ordinals(edit, first, count, true);
}

rag_status rag_bitmap_edit_remove(rag_bitmap_edit *edit, uint32_t value) {
  return write_block(edit, value / BLOCK_BITS, value % BLOCK_BITS, value % BLOCK_BITS, false);
}

rag_status rag_bitmap_edit_remove_range(rag_bitmap_edit *edit, uint32_t first, uint32_t count) {
  return write_ordinals(edit, first, count, false);
}

static rag_status edit_combine(rag_bitmap_edit *edit, set_op op, const rag_bitmap *other) {
  if (op == SET_OR) RAG_TRY(reach(edit, other->block_count));
  uint32_t blocks = RAG_MIN(edit->bitmap->block_count, other->block_count);
  for (uint32_t i = 0; i < blocks; i++) {
    block *combined;
    RAG_TRY(block_combine(op, edit->bitmap->blocks[i], other->blocks[i], &combined));
    replace(edit->bitmap, i, combined);
  }
  return RAG_OK;
}

rag_status rag_bitmap_edit_or(rag_bitmap_edit *edit, const rag_bitmap *other) {
  return edit_combine(edit, SET_OR, other);
}

rag_status rag_bitmap_edit_andnot(rag_bitmap_edit *edit, const rag_bitmap *other) {
  return edit_combine(edit, SET_ANDNOT, other);
}

rag_status rag_bitmap_edit_put_block(rag_bitmap_edit *edit, uint32_t index, const uint64_t *words) {
  uint32_t count = and_count_words(words, words);
  block *fresh = count == 0 ? NULL : count == BLOCK_BITS ? &full_block : block_create(words, count);
  if (count > 0 && !fresh) return RAG_RESOURCE_EXHAUSTED;
  rag_status status = reach(edit, index + 1);
  if (status == RAG_OK) replace(edit->bitmap, index, fresh);
  else block_drop(fresh);
  return status;
}

bool rag_bitmap_edit_has(const rag_bitmap_edit *edit, uint32_t value) {
  return rag_bitmap_has(edit->bitmap, value);
}

rag_status rag_bitmap_edit_finish(rag_bitmap_edit *edit, rag_bitmap **out) {
  trim(edit->bitmap);
  *out = edit->bitmap;
  edit->bitmap = NULL;
  rag_bitmap_edit_destroy(edit);
  return RAG_OK;
}

void rag_bitmap_edit_destroy(rag_bitmap_edit *edit) {
  if (!edit) return;
  rag_ref_drop(edit->bitmap);
  rag_free(edit);
}
