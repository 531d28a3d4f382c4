// Bitmaps on disk: a CRC32C and a CRoaring image.
//
// Format: u32le CRC32C of all that follows, then the portable roaring format
// (https://github.com/RoaringBitmap/RoaringFormatSpec), little-endian throughout:
//   cookie     u32: 12346, then u32 the number of containers; or 12347 in the low half and that number less 1 in the
//              high half, then one bit per container that says "runs"
//   key table  per container: u16 high half of its ordinals, u16 its cardinality less 1
//   offsets    per container: u32 its distance from the cookie. Left out after 12347 with fewer than 4 containers
//   containers runs:  u16 how many, then per run u16 first, u16 length less 1
//              array: u16 each, ascending, where the cardinality is at most 4,096
//              bits:  8,192 bytes, otherwise
//
// The format is CRoaring's, the code is ours; the library is the oracle of the tests (byte for byte, both ways). Why:
// its 0.2.66 safe deserialiser keeps within the buffer but believes what it finds there (arrays out of order,
// cardinalities that lie), so that a forged image in an import would reach its iterators; its allocations cannot be
// failed or reported; and our blocks are words already: writing them by way of a roaring bitmap took 5.0 ms for
// 1,000,000 ordinals in random order (129 KB), and a checkpoint is written inside a commit.
//
// Invariants: decode reads nothing before the CRC fits; it gives back the bitmap or RAG_DATA_LOSS, never a part.
//
// Threads: pure functions.
#include "base/base.h"

#define COOKIE_PLAIN 12346u
#define COOKIE_RUNS 12347u
#define CONTAINERS_MAX 65536u
#define OFFSETS_FROM_CONTAINERS 4u // after COOKIE_RUNS
#define ARRAY_CARDINALITY_MAX 4096u
#define CRC_BYTES 4u

// ----------------------------------------------------------------------------------------------------------- encoding

typedef enum container_kind { CONTAINER_ARRAY, CONTAINER_BITS, CONTAINER_RUNS } container_kind;

static uint32_t count_runs(const uint64_t *words) {
  uint32_t runs = 0;
  uint64_t before = 0; // the last bit of the word before
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) {
    runs += (uint32_t)__builtin_popcountll(words[w] & ~(words[w] << 1 | before));
    before = words[w] >> 63;
  }
  return runs;
}

// The smallest kind. Of an array and runs of equal size, runs, as CRoaring's run_optimize decides.
static container_kind choose(uint32_t count, uint32_t runs, uint32_t *out_bytes) {
  bool array = count <= ARRAY_CARDINALITY_MAX;
  uint32_t plain = array ? 2 * count : RAG_BITMAP_BLOCK_BITS / 8, as_runs = 2 + 4 * runs;
  *out_bytes = RAG_MIN(plain, as_runs);
  if (as_runs < plain || (array && as_runs == plain)) return CONTAINER_RUNS;
  return array ? CONTAINER_ARRAY : CONTAINER_BITS;
}

static char *put_u16(char *at, uint32_t v) {
  at[0] = (char)(v & 0xFF);
  at[1] = (char)(v >> 8 & 0xFF);
  return at + 2;
}

static char *put_u32(char *at, uint32_t v) {
  return put_u16(put_u16(at, v & 0xFFFF), v >> 16);
}

static char *put_array(char *at, const uint64_t *words) {
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++)
    for (uint64_t bits = words[w]; bits; bits &= bits - 1) at = put_u16(at, w * 64 + (uint32_t)__builtin_ctzll(bits));
  return at;
}

static char *put_bits(char *at, const uint64_t *words) {
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) {
    at = put_u32(at, (uint32_t)words[w]);
    at = put_u32(at, (uint32_t)(words[w] >> 32));
  }
  return at;
}

static char *put_runs(char *at, const uint64_t *words, uint32_t runs) {
  at = put_u16(at, runs);
  uint32_t start = 0;
  bool inside = false;
  for (uint32_t w = 0; w < RAG_BITMAP_BLOCK_WORDS; w++) {
    uint64_t edges = words[w] ^ (words[w] << 1 | (uint64_t)inside); // where a run starts or has just ended
    for (; edges; edges &= edges - 1) {
      uint32_t bit = w * 64 + (uint32_t)__builtin_ctzll(edges);
      if (inside) at = put_u16(put_u16(at, start), bit - 1 - start);
      else start = bit;
      inside = !inside;
    }
  }
  if (inside) at = put_u16(put_u16(at, start), RAG_BITMAP_BLOCK_BITS - 1 - start);
  return at;
}

typedef struct container {
  const uint64_t *words;
  uint32_t block, count, runs, bytes;
  container_kind kind;
} container;

static void encode_containers(const container *containers, uint32_t count, uint32_t runs_flagged, size_t body,
                              rag_buf *out) {
  bool offsets = runs_flagged == 0 || count >= OFFSETS_FROM_CONTAINERS;
  size_t head = runs_flagged ? 4 + (count + 7) / 8 : 8;
  size_t size = head + 4u * count + (offsets ? 4u * count : 0) + body;
  rag_buf_reserve(out, CRC_BYTES + size);
  if (out->failed) return;
  char *image = out->data + out->size + CRC_BYTES, *at = image;
  if (runs_flagged) {
    at = put_u32(at, COOKIE_RUNS | (count - 1) << 16);
    memset(at, 0, (count + 7) / 8);
    for (uint32_t i = 0; i < count; i++)
      if (containers[i].kind == CONTAINER_RUNS) at[i / 8] = (char)(at[i / 8] | 1 << (i % 8));
    at += (count + 7) / 8;
  } else {
    at = put_u32(put_u32(at, COOKIE_PLAIN), count);
  }
  for (uint32_t i = 0; i < count; i++) at = put_u16(put_u16(at, containers[i].block), containers[i].count - 1);
  uint32_t offset = (uint32_t)(size - body);
  for (uint32_t i = 0; offsets && i < count; i++) {
    at = put_u32(at, offset);
    offset += containers[i].bytes;
  }
  for (uint32_t i = 0; i < count; i++) {
    if (containers[i].kind == CONTAINER_ARRAY) at = put_array(at, containers[i].words);
    else if (containers[i].kind == CONTAINER_BITS) at = put_bits(at, containers[i].words);
    else at = put_runs(at, containers[i].words, containers[i].runs);
  }
  RAG_ASSERT((size_t)(at - image) == size);
  rag_buf_append_u32le(out, rag_crc32c(0, image, size)); // the room is reserved: image does not move
  out->size += size;
}

void rag_bitmap_encode(const rag_bitmap *bitmap, rag_buf *out) {
  uint32_t blocks = rag_bitmap_block_count(bitmap), count = 0, runs_flagged = 0;
  size_t body = 0;
  if (out->failed) return;
  container *containers = rag_calloc((size_t)blocks + 1, sizeof *containers);
  if (!containers) {
    out->failed = true;
    return;
  }
  for (uint32_t i = 0; i < blocks; i++) {
    container c = {.block = i};
    c.words = rag_bitmap_block(bitmap, i, &c.count);
    if (!c.words || c.count == 0) continue;
    c.runs = count_runs(c.words);
    c.kind = choose(c.count, c.runs, &c.bytes);
    runs_flagged += c.kind == CONTAINER_RUNS;
    body += c.bytes;
    containers[count++] = c;
  }
  encode_containers(containers, count, runs_flagged, body, out);
  rag_free(containers);
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
    if (rag_bitmap_edit_put_block(edit, key, words) != RAG_OK) return rag_fail_no_memory(err, sizeof(words));
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
