// hash-N: the built-in embedder. Words and character n-grams, weighted by a frozen table and hashed to N dimensions.
//
// Features of a word that occurs n times (words: hash_words.c):
//   the word                 WORD_SCALE * weight * tf(n)    into WORD_BUCKETS buckets
//   its stem                 STEM_SCALE * weight * tf(n)    into WORD_BUCKETS buckets
//   each 3- and 4-gram       weight * tf(n) / sqrt(grams)   into one bucket; of the word between '^' and '$'
// or, of an ideograph or a pair of them, one feature of GLYPH_SCALE. A bucket is a dimension and a sign, both from the
// feature's hash. `weight` is that of the stem (hash_weights.c), or WEIGHT_UNKNOWN. tf(n) is n to the 0.7.
//
// Why so: chosen on the training queries of SciFact with Cranfield as a check (benchmarks/hash_quality). At 384
// dimensions the loss against an unhashed vector is noise of collisions, so what pays is what puts a text's length into
// its few telling words: the weights, and a tf that grows (n^0.7 beat BM25's saturation at k1 = 1.2 by .04). Tried
// and left out: word pairs (-.04: many features, few matches), a longer list of suffixes, 5-grams, weights that differ
// between query and document, more weight for the first words (each within .01, the spread of the hash seed).
//
// Invariants
//  1. The same text gives the same bits on every machine, in every build, for ever. Sums are of integers, so no order
//     matters; the length is one fixed order of double additions, a square root and a product, all correctly rounded by
//     IEEE 754; nothing comes from libm but sqrt, and nothing is contracted (-ffp-contract=off).
//  2. Everything that decides a vector is in the fingerprint: the constants and tables by value, the code by VERSION,
//     which goes up with any change that moves a bit. tests/embed holds golden vectors.
//  3. Memory for one text is bounded: at most DISTINCT_MAX distinct words are counted; those after count one by one.
//
// Threads: immutable after open; an embed call works on its own stack and heap.
#include "embed/embed_internal.h"

#include <math.h>
#include <stdio.h>

#define VERSION 1

#define WORD_BUCKETS 4
#define WORD_SCALE 205  // .4 * 1024 / sqrt(WORD_BUCKETS)
#define STEM_SCALE 410  // .8 * 1024 / sqrt(WORD_BUCKETS)
#define GLYPH_SCALE 458 // sqrt(.4 * .4 + .8 * .8) * 1024 / sqrt(WORD_BUCKETS): as much as a word and its stem
#define GRAM_SHORT 3
#define GRAM_LONG 4
#define WEIGHT_UNKNOWN 136 // 8.5 * 16: a little above the rarest stem of the table
#define WEIGHT_GLYPH 72    // one ideograph tells less than a word
#define TF_MAX 64
#define GRAMS_MAX (2 * RAG_WORD_CHARS_MAX - 1) // (chars + 2 - 2) of three and (chars + 2 - 3) of four

#define SEED_WORD 0x8f3a1c5d7be02497ull
#define SEED_STEM 0x2d61f0b9e84c7a35ull
#define SEED_GRAM 0xc47e92a3150bd86full
#define SEED_GLYPH 0x5b08d7ce63f1942aull
#define SEED_FINGERPRINT 0xe91b46d20f7ac853ull
#define SEED_NEXT 0x9e6c63d0876a9a4bull // from one bucket of a feature to the next

#define WEIGHT_SLOTS 16384u // a power of two, over twice the table's stems

#define DISTINCT_MAX 65536u
#define DISTINCT_INLINE 256u // what a paragraph needs lives on the stack
#define POOL_INLINE 2048u

// 64 * n^0.7, rounded; the last holds for every larger n. A table, as no two libms need agree on pow.
static const uint16_t tf_table[TF_MAX + 1] = {
    0,    64,   104,  138,  169,  197,  224,  250,  274,  298,  321,  343,  364,  385, 406, 426, 446,
    465,  484,  503,  521,  539,  557,  575,  592,  609,  626,  643,  659,  676,  692, 708, 724, 740,
    755,  771,  786,  802,  817,  832,  846,  861,  876,  890,  905,  919,  933,  948, 962, 976, 990,
    1003, 1017, 1031, 1044, 1058, 1071, 1085, 1098, 1111, 1124, 1137, 1150, 1163, 1176};
// 1024 / sqrt(n), rounded: n grams of one word weigh together what one feature does.
static const uint16_t gram_table[GRAMS_MAX + 1] = {
    0,   1024, 724, 591, 512, 458, 418, 387, 362, 341, 324, 309, 296, 284, 274, 264, 256, 248, 241, 235, 229, 223,
    218, 214,  209, 205, 201, 197, 194, 190, 187, 184, 181, 178, 176, 173, 171, 168, 166, 164, 162, 160, 158, 156,
    154, 153,  151, 149, 148, 146, 145, 143, 142, 141, 139, 138, 137, 136, 134, 133, 132, 131, 130, 129, 128, 127,
    126, 125,  124, 123, 122, 122, 121, 120, 119, 118, 117, 117, 116, 115, 114, 114, 113, 112, 112, 111, 110, 110,
    109, 109,  108, 107, 107, 106, 106, 105, 105, 104, 103, 103, 102, 102, 101, 101, 100, 100, 99,  99,  99,  98,
    98,  97,   97,  96,  96,  95,  95,  95,  94,  94,  93,  93,  93,  92,  92,  92,  91,  91};

typedef struct hash_embedder {
  rag_embedder head; // first
  // Stem to weight, open addressing: the upper 24 bits are a piece of the stem's hash, the lower 8 its weight; 0 empty.
  uint32_t weights[WEIGHT_SLOTS];
} hash_embedder;

// ---------------------------------------------------------------------------------------------- the frozen hash

static inline uint64_t mix(uint64_t h) {
  h ^= h >> 32;
  h *= 0xd6a3b17c5e94f02dull;
  h ^= h >> 29;
  h *= 0x94c8e5f36b1d7a4bull;
  h ^= h >> 32;
  return h;
}

// `size` (at most 8) bytes as a little-endian number, on any machine.
static inline uint64_t load_le(const char *data, uint32_t size) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < size; i++) v |= (uint64_t)(unsigned char)data[i] << (8 * i);
  return v;
}

// Words of 8 bytes; gcc and clang make this one load where the machine is little-endian.
static inline uint64_t load_le8(const char *data) {
  const unsigned char *p = (const unsigned char *)data;
  return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
         (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static inline uint64_t hash_start(uint64_t seed, uint64_t size) {
  return seed ^ size * 0xb5297a4d3f84d5a7ull;
}

static uint64_t hash_bytes(const char *data, size_t size, uint64_t seed) {
  uint64_t h = hash_start(seed, size);
  for (; size > 8; data += 8, size -= 8) h = mix(h ^ load_le8(data));
  return mix(h ^ load_le(data, (uint32_t)size));
}

// ---------------------------------------------------------------------------------------------- weights

static uint32_t weight_of(const hash_embedder *embedder, uint64_t stem_hash) {
  uint32_t tag = (uint32_t)(stem_hash >> 40);
  for (uint32_t slot = (uint32_t)stem_hash % WEIGHT_SLOTS;; slot = (slot + 1) % WEIGHT_SLOTS) {
    uint32_t entry = embedder->weights[slot];
    if (entry == 0) return WEIGHT_UNKNOWN;
    if (entry >> 8 == tag) return entry & 0xFF;
  }
}

static void weights_fill(hash_embedder *embedder) {
  uint32_t stems = 0;
  for (uint32_t row = 0; row < rag_embed__hash_weight_row_count; row++) {
    uint8_t weight = rag_embed__hash_weights[row].weight;
    RAG_ASSERT(weight != 0);
    for (const char *stem = rag_embed__hash_weights[row].stems; *stem;) {
      size_t size = strcspn(stem, " ");
      uint64_t hash = hash_bytes(stem, size, SEED_STEM);
      uint32_t slot = (uint32_t)hash % WEIGHT_SLOTS;
      while (embedder->weights[slot] != 0) slot = (slot + 1) % WEIGHT_SLOTS;
      embedder->weights[slot] = (uint32_t)(hash >> 40) << 8 | weight;
      RAG_ASSERT(++stems <= WEIGHT_SLOTS / 2);
      stem += size;
      stem += *stem == ' ';
    }
  }
}

// ---------------------------------------------------------------------------------------------- counting words

typedef struct word_entry {
  uint64_t hash;
  uint32_t count;
  uint32_t offset; // in the pool
  uint16_t size;
  uint8_t kind;
} word_entry;

// The distinct words of one text, in the order of their first occurrence. Begins on the stack, moves to the heap.
typedef struct word_table {
  const hash_embedder *embedder;
  int64_t *sums;
  word_entry *entries;
  uint32_t *slots; // entry number + 1, open addressing, 4 * capacity of them; 0 empty
  char *pool;
  uint32_t count, capacity;
  uint32_t pool_size, pool_capacity;
  void *heap_entries, *heap_slots, *heap_pool; // what is to be freed
  size_t failed_bytes;                         // of the allocation that failed, or 0
  word_entry inline_entries[DISTINCT_INLINE];
  uint32_t inline_slots[4 * DISTINCT_INLINE];
  char inline_pool[POOL_INLINE];
} word_table;

static void table_init(word_table *table, const hash_embedder *embedder, int64_t *sums) {
  table->embedder = embedder;
  table->sums = sums;
  table->entries = table->inline_entries;
  table->slots = table->inline_slots;
  table->pool = table->inline_pool;
  table->count = table->pool_size = 0;
  table->capacity = DISTINCT_INLINE;
  table->pool_capacity = POOL_INLINE;
  table->heap_entries = table->heap_slots = table->heap_pool = NULL;
  table->failed_bytes = 0;
  memset(table->inline_slots, 0, sizeof(table->inline_slots));
}

static void table_free(word_table *table) {
  rag_free(table->heap_entries);
  rag_free(table->heap_slots);
  rag_free(table->heap_pool);
}

static bool table_grow(word_table *table) {
  uint32_t capacity = table->capacity * 4;
  word_entry *entries = rag_realloc_array(table->heap_entries, capacity, sizeof(*entries));
  if (!entries) {
    table->failed_bytes = capacity * sizeof(*entries);
    return false;
  }
  if (!table->heap_entries) memcpy(entries, table->inline_entries, sizeof(table->inline_entries));
  table->entries = table->heap_entries = entries;

  uint32_t slot_count = 4 * capacity;
  uint32_t *slots = rag_calloc(slot_count, sizeof(*slots));
  if (!slots) {
    table->failed_bytes = slot_count * sizeof(*slots);
    return false;
  }
  for (uint32_t i = 0; i < table->count; i++) {
    uint32_t slot = (uint32_t)entries[i].hash % slot_count;
    while (slots[slot] != 0) slot = (slot + 1) % slot_count;
    slots[slot] = i + 1;
  }
  rag_free(table->heap_slots);
  table->slots = table->heap_slots = slots;
  table->capacity = capacity;
  return true;
}

// Returns the offset of a copy of the word, or UINT32_MAX.
static uint32_t pool_put(word_table *table, const char *word, uint32_t size) {
  if (table->pool_capacity - table->pool_size < size) {
    uint32_t capacity = table->pool_capacity * 4; // DISTINCT_MAX words of RAG_WORD_BYTES_MAX are 16 MiB: no overflow
    char *pool = rag_realloc(table->heap_pool, capacity);
    if (!pool) {
      table->failed_bytes = capacity;
      return UINT32_MAX;
    }
    if (!table->heap_pool) memcpy(pool, table->inline_pool, table->pool_size);
    table->pool = table->heap_pool = pool;
    table->pool_capacity = capacity;
  }
  memcpy(table->pool + table->pool_size, word, size);
  table->pool_size += size;
  return table->pool_size - size;
}

// ---------------------------------------------------------------------------------------------- features

static inline void add_bucket(int64_t *sums, uint32_t dimension, uint64_t hash, int64_t value) {
  uint32_t bucket = (uint32_t)((hash >> 32) * dimension >> 32);
  int64_t sign = -(int64_t)(hash & 1); // 0 or all ones: negates without a branch
  sums[bucket] += (value ^ sign) - sign;
}

static inline void add_feature(int64_t *sums, uint32_t dimension, uint64_t hash, int64_t value) {
  for (int i = 0; i < WORD_BUCKETS; i++) {
    add_bucket(sums, dimension, hash, value);
    hash = mix(hash + SEED_NEXT);
  }
}

// The grams of a framed word: `framed` of `size` bytes, with 8 readable bytes after it.
static void add_grams_ascii(int64_t *sums, uint32_t dimension, const char *framed, uint32_t size, int64_t value) {
  const uint64_t start_short = hash_start(SEED_GRAM, GRAM_SHORT), start_long = hash_start(SEED_GRAM, GRAM_LONG);
  for (uint32_t i = 0; i + GRAM_SHORT <= size; i++) {
    uint64_t bytes = load_le8(framed + i);
    add_bucket(sums, dimension, mix(start_short ^ (bytes & 0xFFFFFF)), value);
    if (i + GRAM_LONG <= size) add_bucket(sums, dimension, mix(start_long ^ (bytes & 0xFFFFFFFF)), value);
  }
}

// The same where characters are of several bytes; `starts` has the offset of each character and of the end.
static void add_grams_wide(int64_t *sums, uint32_t dimension, const char *framed, const uint16_t *starts,
                           uint32_t chars, int64_t value) {
  for (uint32_t n = GRAM_SHORT; n <= GRAM_LONG; n++) {
    for (uint32_t i = 0; i + n <= chars; i++) {
      size_t size = (size_t)(starts[i + n] - starts[i]);
      add_bucket(sums, dimension, hash_bytes(framed + starts[i], size, SEED_GRAM), value);
    }
  }
}

static void add_grams(int64_t *sums, uint32_t dimension, const char *word, uint32_t size, int64_t value) {
  char framed[RAG_WORD_BYTES_MAX + 2 + 8];
  uint16_t starts[RAG_WORD_CHARS_MAX + 3];
  framed[0] = '^';
  memcpy(framed + 1, word, size);
  framed[size + 1] = '$';
  memset(framed + size + 2, 0, 8);
  uint32_t framed_size = size + 2, chars = 0;
  for (uint32_t i = 0; i < framed_size; i++) {
    if (((unsigned char)framed[i] & 0xC0) != 0x80) starts[chars++] = (uint16_t)i;
  }
  starts[chars] = (uint16_t)framed_size;
  if (chars < 4) return; // one character: its word says it all
  int64_t each = value * gram_table[2 * chars - 5];
  if (chars == framed_size) add_grams_ascii(sums, dimension, framed, framed_size, each);
  else add_grams_wide(sums, dimension, framed, starts, chars, each);
}

static void add_word(const hash_embedder *embedder, int64_t *sums, rag_word_kind kind, uint64_t hash, const char *word,
                     uint32_t size, uint32_t count) {
  uint32_t dimension = embedder->head.dimension;
  int64_t tf = tf_table[RAG_MIN(count, (uint32_t)TF_MAX)];
  if (kind != RAG_WORD_LETTERS) {
    int64_t weight = kind == RAG_WORD_GLYPH ? WEIGHT_GLYPH : WEIGHT_UNKNOWN;
    add_feature(sums, dimension, hash, tf * weight * GLYPH_SCALE);
    return;
  }
  char stem[RAG_WORD_BYTES_MAX];
  uint32_t stem_size = rag_embed__stem(word, size, stem);
  uint64_t stem_hash = hash_bytes(stem, stem_size, SEED_STEM);
  int64_t value = tf * weight_of(embedder, stem_hash);
  add_feature(sums, dimension, hash, value * WORD_SCALE);
  add_feature(sums, dimension, stem_hash, value * STEM_SCALE);
  add_grams(sums, dimension, word, size, value);
}

static bool on_word(void *context, rag_word_kind kind, const char *word, uint32_t size) {
  word_table *table = context;
  uint64_t hash = hash_bytes(word, size, kind == RAG_WORD_LETTERS ? SEED_WORD : SEED_GLYPH);
  uint32_t slot_count = 4 * table->capacity;
  uint32_t slot = (uint32_t)hash % slot_count;
  for (; table->slots[slot] != 0; slot = (slot + 1) % slot_count) {
    word_entry *entry = &table->entries[table->slots[slot] - 1];
    if (entry->hash == hash) {
      if (entry->count < TF_MAX) entry->count++;
      return true;
    }
  }
  if (table->count == DISTINCT_MAX) {
    add_word(table->embedder, table->sums, kind, hash, word, size, 1);
    return true;
  }
  if (table->count == table->capacity) {
    if (!table_grow(table)) return false;
    slot_count = 4 * table->capacity;
    slot = (uint32_t)hash % slot_count;
    while (table->slots[slot] != 0) slot = (slot + 1) % slot_count;
  }
  uint32_t offset = pool_put(table, word, size);
  if (offset == UINT32_MAX) return false;
  table->entries[table->count] = (word_entry){hash, 1, offset, (uint16_t)size, (uint8_t)kind};
  table->slots[slot] = ++table->count;
  return true;
}

// ---------------------------------------------------------------------------------------------- vectors

// Four lanes, then their sum from the left: one fixed order. The sums are exact as doubles, being under 2^53:
// DISTINCT_MAX counted words add under 2^32 each, the others, at most one for each byte of the text, under 2^27.
static void normalise(const int64_t *sums, uint32_t dimension, float *out) {
  double lanes[4] = {0, 0, 0, 0};
  for (uint32_t i = 0; i < dimension; i++) {
    double x = (double)sums[i];
    lanes[i % 4] += x * x;
  }
  double square = ((lanes[0] + lanes[1]) + lanes[2]) + lanes[3];
  if (square == 0) { // no word, or features that cancel: the first axis, so that every text can be stored
    memset(out, 0, dimension * sizeof(*out));
    out[0] = 1;
    return;
  }
  double scale = 1.0 / sqrt(square);
  for (uint32_t i = 0; i < dimension; i++) out[i] = (float)((double)sums[i] * scale);
}

static rag_status embed_one(const hash_embedder *embedder, rag_slice text, float *out, rag_error *err) {
  uint32_t dimension = embedder->head.dimension;
  int64_t sums[RAG_EMBED_HASH_DIMENSION_MAX];
  memset(sums, 0, dimension * sizeof(*sums));
  word_table table;
  table_init(&table, embedder, sums);
  rag_status status = RAG_OK;
  if (!rag_embed__words(text, on_word, &table)) {
    status = rag_fail_no_memory(err, table.failed_bytes);
    goto out;
  }
  for (uint32_t i = 0; i < table.count; i++) {
    const word_entry *entry = &table.entries[i];
    add_word(embedder, sums, (rag_word_kind)entry->kind, entry->hash, table.pool + entry->offset, entry->size,
             entry->count);
  }
  normalise(sums, dimension, out);
out:
  table_free(&table);
  return status;
}

// The role makes no difference: one weighting for both was as good as two (see the top).
static rag_status hash_embed(rag_embedder *base, rag_embed_role role, const rag_slice *texts, uint32_t count,
                             float *out, rag_error *err) {
  RAG_UNUSED(role);
  const hash_embedder *embedder = (const hash_embedder *)base;
  for (uint32_t i = 0; i < count; i++) {
    RAG_TRY(embed_one(embedder, texts[i], out + (size_t)i * base->dimension, err));
  }
  return RAG_OK;
}

static void hash_destroy(rag_embedder *base) {
  rag_free(base);
}

// ---------------------------------------------------------------------------------------------- fingerprint

static uint64_t fingerprint_u64(uint64_t h, uint64_t value) {
  return mix((h ^ value) + SEED_NEXT);
}

static uint64_t fingerprint_of(uint32_t dimension) {
  const uint64_t constants[] = {VERSION,
                                dimension,
                                WORD_BUCKETS,
                                WORD_SCALE,
                                STEM_SCALE,
                                GLYPH_SCALE,
                                GRAM_SHORT,
                                GRAM_LONG,
                                TF_MAX,
                                GRAMS_MAX,
                                WEIGHT_UNKNOWN,
                                WEIGHT_GLYPH,
                                RAG_WORD_CHARS_MAX,
                                DISTINCT_MAX,
                                SEED_WORD,
                                SEED_STEM,
                                SEED_GRAM,
                                SEED_GLYPH,
                                SEED_NEXT,
                                mix(1),
                                mix(UINT64_MAX),
                                hash_bytes("123456789", 9, SEED_WORD)};
  uint64_t h = SEED_FINGERPRINT;
  for (size_t i = 0; i < RAG_COUNT_OF(constants); i++) h = fingerprint_u64(h, constants[i]);
  for (size_t i = 0; i < RAG_COUNT_OF(tf_table); i++) h = fingerprint_u64(h, tf_table[i]);
  for (size_t i = 0; i < RAG_COUNT_OF(gram_table); i++) h = fingerprint_u64(h, gram_table[i]);
  for (uint32_t i = 0; i < rag_embed__hash_weight_row_count; i++) {
    const rag_hash_weight_row *row = &rag_embed__hash_weights[i];
    h = fingerprint_u64(h, row->weight);
    h = fingerprint_u64(h, hash_bytes(row->stems, strlen(row->stems), SEED_FINGERPRINT));
  }
  for (uint32_t i = 0; i < rag_unicode_fold_row_count; i++) {
    const rag_fold_row *row = &rag_unicode_fold_rows[i];
    h = fingerprint_u64(h, (uint64_t)row->first << 32 | (uint64_t)row->count << 16 | row->operation);
    h = fingerprint_u64(h, (uint64_t)(int64_t)row->argument);
  }
  for (uint32_t i = 0; i < rag_unicode_fold_list_count; i++) h = fingerprint_u64(h, rag_unicode_fold_lists[i]);
  return h;
}

static const rag_embedder_kind hash_kind = {hash_embed, hash_destroy};

rag_status rag_embed__hash_open(uint32_t dimension, rag_embedder **out, rag_error *err) {
  hash_embedder *embedder = rag_calloc(1, sizeof(*embedder));
  if (!embedder) return rag_fail_no_memory(err, sizeof(*embedder));
  rag_embed__init(&embedder->head, &hash_kind, dimension);
  snprintf(embedder->head.name, sizeof(embedder->head.name), "hash-%u", dimension);
  snprintf(embedder->head.fingerprint, sizeof(embedder->head.fingerprint), "hash-%u-%016llx", dimension,
           (unsigned long long)fingerprint_of(dimension));
  weights_fill(embedder);
  *out = &embedder->head;
  return RAG_OK;
}
