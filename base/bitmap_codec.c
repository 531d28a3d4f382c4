// Bitmaps on disk: a CRC32C and a CRoaring image.
//
// Format: u32le CRC32C of all that follows, then the portable roaring format
// (https://github.com/RoaringBitmap/RoaringFormatSpec), little-endian throughout:
//   cookie     u32: 12346, then u32 the number of containers; or 12347 in the low half and that number less 1 in the
//   high
//              half, then one bit per container that says "runs"
//   key table  per container: u16 high half of its ordinals, u16 its cardinality less 1
//   offsets    per container: u32 its distance from the cookie. Left out after 12347 with fewer than 4 containers
//   containers runs:  u16 how many, then per run u16 first, u16 length less 1
//              array: u16 each, ascending, where the cardinality is at most 4,096
//              bits:  8,192 bytes, otherwise
//
// CRoaring writes: it chooses the containers. We read by ourselves, strictly, for three reasons. 0.2.66's safe
// deserialiser keeps within the buffer but believes what it finds there (arrays out of order, cardinalities that lie),
// so that a forged image in an import would reach its iterators; its allocations cannot be failed or reported; and our
// blocks are filled from containers without a roaring bitmap in between. Images made elsewhere by the specification are
// read too.
//
// Invariants: decode reads nothing before the CRC fits; it gives back the bitmap or RAG_DATA_LOSS, never a part.
//
// Threads: pure functions.
//
// What is left: encode runs in memory that CRoaring takes from malloc and does not check; it is at most the image and a
// few KiB.
#include "base/base_internal.h"

#include <roaring/roaring.h>

#define COOKIE_PLAIN 12346u
#define COOKIE_RUNS 12347u
#define CONTAINERS_MAX 65536u
#define OFFSETS_FROM_CONTAINERS 4u // after COOKIE_RUNS
#define ARRAY_CARDINALITY_MAX 4096u
#define CRC_BYTES 4u

// ----------------------------------------------------------------------------------------------------------- encoding

#define ADD_BATCH 1024u

static void add_block(roaring_bitmap_t *roaring, uint32_t block, const uint64_t *words, uint32_t count) {
  uint32_t first = block * RAG_BITMAP_BLOCK_BITS;
  if (count == RAG_BITMAP_BLOCK_BITS) {
    roaring_bitmap_add_range_closed(roaring, first, first + (RAG_BITMAP_BLOCK_BITS - 1));
    return;
  }
  uint32_t batch[ADD_BATCH];
  size_t size = 0;
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) {
    if (size > ADD_BATCH - 64) {
      roaring_bitmap_add_many(roaring, size, batch);
      size = 0;
    }
    for (uint64_t bits = words[w]; bits; bits &= bits - 1)
      batch[size++] = first + w * 64 + (uint32_t)__builtin_ctzll(bits);
  }
  if (size) roaring_bitmap_add_many(roaring, size, batch);
}

void rag_bitmap_encode(const rag_bitmap *bitmap, rag_buf *out) {
  if (out->failed) return;
  roaring_bitmap_t *roaring = roaring_bitmap_create();
  if (!roaring) {
    out->failed = true;
    return;
  }
  for (uint32_t i = 0; i < rag_bitmap_block_count(bitmap); i++) {
    uint32_t count;
    const uint64_t *words = rag_bitmap_block(bitmap, i, &count);
    if (words) add_block(roaring, i, words, count);
  }
  roaring_bitmap_run_optimize(roaring);
  size_t size = roaring_bitmap_portable_size_in_bytes(roaring);
  rag_buf_reserve(out, CRC_BYTES + size);
  if (!out->failed) {
    char *image = out->data + out->size + CRC_BYTES;
    roaring_bitmap_portable_serialize(roaring, image);
    rag_buf_append_u32le(out, rag_crc32c(0, image, size)); // the room is reserved: image does not move
    out->size += size;
  }
  roaring_bitmap_free(roaring);
}

// ----------------------------------------------------------------------------------------------------------- decoding

// The tables at the start of an image. Slices are borrowed from it.
typedef struct tables {
  uint32_t containers;
  rag_slice run_flags; // empty: no container has runs
  rag_slice keys;
  rag_slice offsets; // empty where the format leaves them out
} tables;

static uint32_t u16_at(rag_slice s, size_t index) {
  const unsigned char *p = (const unsigned char *)s.data + 2 * index;
  return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32_at(rag_slice s, size_t index) {
  return u16_at(s, 2 * index) | u16_at(s, 2 * index + 1) << 16;
}

static uint32_t read_u16(rag_reader *r) {
  uint32_t low = rag_read_u8(r);
  return low | (uint32_t)rag_read_u8(r) << 8;
}

static bool read_tables(rag_reader *r, tables *t) {
  uint32_t cookie = rag_read_u32le(r);
  bool runs = (cookie & 0xFFFF) == COOKIE_RUNS;
  *t = (tables){0};
  if (runs) {
    t->containers = (cookie >> 16) + 1;
    t->run_flags = rag_read_raw(r, (t->containers + 7) / 8);
    uint32_t used_bits = t->containers % 8; // bits after the last container's are zero
    if (r->bad || (used_bits && (unsigned char)t->run_flags.data[t->run_flags.size - 1] >> used_bits)) return false;
  } else {
    if (cookie != COOKIE_PLAIN) return false;
    t->containers = rag_read_u32le(r);
  }
  if (t->containers > CONTAINERS_MAX) return false;
  t->keys = rag_read_raw(r, (size_t)t->containers * 4);
  if (!runs || t->containers >= OFFSETS_FROM_CONTAINERS) t->offsets = rag_read_raw(r, (size_t)t->containers * 4);
  return !r->bad;
}

static bool read_runs(rag_reader *r, uint64_t *words, uint32_t *out_count) {
  uint32_t runs = read_u16(r);
  uint32_t count = 0;
  uint32_t free_from = 0; // a run starts at or after it
  for (uint32_t i = 0; i < runs && !r->bad; i++) {
    uint32_t first = read_u16(r);
    uint32_t last = first + read_u16(r);
    if (first < free_from || last >= RAG_BITMAP_BLOCK_BITS) return false;
    for (uint32_t w = first / 64; w <= last / 64; w++) {
      uint64_t mask = UINT64_MAX;
      if (w == first / 64) mask &= UINT64_MAX << (first % 64);
      if (w == last / 64) mask &= UINT64_MAX >> (63 - last % 64);
      words[w] |= mask;
    }
    count += last - first + 1;
    free_from = last + 1;
  }
  *out_count = count;
  return !r->bad;
}

static bool read_array(rag_reader *r, uint32_t cardinality, uint64_t *words) {
  rag_slice values = rag_read_raw(r, (size_t)cardinality * 2);
  if (r->bad) return false;
  for (uint32_t i = 0, free_from = 0; i < cardinality; i++) {
    uint32_t value = u16_at(values, i);
    if (value < free_from) return false; // out of order, or twice
    free_from = value + 1;
    words[value / 64] |= UINT64_C(1) << (value % 64);
  }
  return true;
}

static bool read_bits(rag_reader *r, uint64_t *words, uint32_t *out_count) {
  uint64_t count = 0;
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) {
    words[w] = rag_read_u64le(r);
    count += (uint64_t)__builtin_popcountll(words[w]);
  }
  *out_count = (uint32_t)count;
  return !r->bad;
}

// Container i into `words` (all zero before).
static bool read_container(rag_reader *r, const tables *t, uint32_t i, uint64_t *words) {
  uint32_t cardinality = u16_at(t->keys, 2 * (size_t)i + 1) + 1;
  uint32_t count = cardinality;
  bool has_runs = t->run_flags.size > 0 && ((unsigned char)t->run_flags.data[i / 8] >> (i % 8) & 1);
  bool good;
  if (has_runs) good = read_runs(r, words, &count);
  else if (cardinality <= ARRAY_CARDINALITY_MAX) good = read_array(r, cardinality, words);
  else good = read_bits(r, words, &count);
  return good && count == cardinality;
}

static rag_status fail_image(rag_error *err, const char *what) {
  return rag_fail(err, RAG_DATA_LOSS, "bitmap image: %s", what);
}

static rag_status read_containers(rag_reader *r, const tables *t, rag_bitmap_edit *edit, rag_error *err) {
  uint32_t free_from = 0;
  for (uint32_t i = 0; i < t->containers; i++) {
    uint64_t words[RAG_BITMAP_BLOCK_WORDS] = {0};
    uint32_t key = u16_at(t->keys, 2 * (size_t)i);
    if (key < free_from) return fail_image(err, "the keys are out of order");
    free_from = key + 1;
    if (t->offsets.size > 0 && u32_at(t->offsets, i) != r->offset) return fail_image(err, "a container is elsewhere");
    if (!read_container(r, t, i, words)) return fail_image(err, "a container is malformed");
    if (rag_base__bitmap_edit_put_block(edit, key, words) != RAG_OK) return rag_fail_no_memory(err, sizeof(words));
  }
  return rag_reader_left(r) == 0 ? RAG_OK : fail_image(err, "there are bytes after its end");
}

rag_status rag_bitmap_decode(rag_slice image, rag_bitmap **out, rag_error *err) {
  rag_reader head = rag_reader_of(image);
  uint32_t crc = rag_read_u32le(&head);
  rag_slice body = rag_read_raw(&head, rag_reader_left(&head));
  if (head.bad) return fail_image(err, "it is shorter than its checksum");
  if (rag_crc32c(0, body.data, body.size) != crc) return fail_image(err, "the checksum does not fit");

  rag_reader r = rag_reader_of(body);
  tables t;
  if (!read_tables(&r, &t)) return fail_image(err, "the tables are malformed");
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  if (!edit) return rag_fail_no_memory(err, sizeof(edit));
  rag_status status = read_containers(&r, &t, edit, err);
  if (status != RAG_OK) {
    rag_bitmap_edit_destroy(edit);
    return status;
  }
  return rag_bitmap_edit_finish(edit, out);
}
