// CRC32C (Castagnoli, polynomial 0x1EDC6F41, reflected 0x82F63B78), as in iSCSI (RFC 3720), ext4 and RocksDB.
//
// Two ways, chosen at start by CPU feature:
//  - SSE4.2's crc32 instruction. It has a latency of three cycles and a throughput of one, so one chain reaches a third
//  of
//    what the CPU can do: blocks of 3 x LANE_BYTES run as three chains, joined by moving a CRC over LANE_BYTES zeros
//    (a linear map over GF(2), kept as four tables of 256 entries).
//  - slicing by 8 with eight tables, anywhere else.
//
// Threads: the tables and the choice are written by a constructor, before main, and are immutable from then on.
#include "base/base_internal.h"

#define POLYNOMIAL 0x82F63B78u
// Joining two lanes costs eight table reads, about 20 ns: at 512 bytes (64 instructions, 64 cycles) it is small, and
// the 4 KiB blocks that stores checksum still contain two rounds.
#define LANE_BYTES 512u

static uint32_t slicing[8][256]; // slicing[k][b]: byte b followed by k zero bytes
static bool hardware;            // immutable after the constructor

static inline uint64_t load64le(const unsigned char *p) {
  uint64_t v;
  memcpy(&v, p, sizeof(v));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  v = __builtin_bswap64(v);
#endif
  return v;
}

static void build_slicing(void) {
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
    slicing[0][b] = crc;
  }
  for (uint32_t b = 0; b < 256; b++)
    for (int k = 1; k < 8; k++) slicing[k][b] = (slicing[k - 1][b] >> 8) ^ slicing[0][slicing[k - 1][b] & 0xFF];
}

uint32_t rag_base__crc32c_table(uint32_t crc, const void *data, size_t size) {
  const unsigned char *p = data;
  crc = ~crc;
  for (; size >= 8; size -= 8, p += 8) {
    uint64_t v = load64le(p) ^ crc;
    crc = slicing[7][v & 0xFF] ^ slicing[6][v >> 8 & 0xFF] ^ slicing[5][v >> 16 & 0xFF] ^ slicing[4][v >> 24 & 0xFF] ^
          slicing[3][v >> 32 & 0xFF] ^ slicing[2][v >> 40 & 0xFF] ^ slicing[1][v >> 48 & 0xFF] ^ slicing[0][v >> 56];
  }
  for (; size > 0; size--, p++) crc = (crc >> 8) ^ slicing[0][(crc ^ *p) & 0xFF];
  return ~crc;
}

bool rag_base__crc32c_is_hardware(void) {
  return hardware;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

static uint32_t lane_shift[4][256]; // lane_shift[k][b]: register b << 8k moved over LANE_BYTES zero bytes

static void build_lane_shift(void) {
  // The map is linear: the images of the 32 single bits give all the others by XOR.
  for (int bit = 0; bit < 32; bit++) {
    uint32_t crc = 1u << bit;
    for (unsigned i = 0; i < LANE_BYTES; i++) crc = (crc >> 8) ^ slicing[0][crc & 0xFF];
    lane_shift[bit / 8][1u << bit % 8] = crc;
  }
  for (int k = 0; k < 4; k++)
    for (uint32_t b = 1; b < 256; b++) lane_shift[k][b] = lane_shift[k][b & (b - 1)] ^ lane_shift[k][b & (~b + 1)];
}

static inline uint32_t over_lane(uint32_t crc) {
  return lane_shift[0][crc & 0xFF] ^ lane_shift[1][crc >> 8 & 0xFF] ^ lane_shift[2][crc >> 16 & 0xFF] ^
         lane_shift[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t size) {
  const unsigned char *p = data;
  crc = ~crc;
  for (; size >= 3 * LANE_BYTES; size -= 3 * LANE_BYTES, p += 3 * LANE_BYTES) {
    uint64_t a = crc, b = 0, c = 0;
    for (unsigned i = 0; i < LANE_BYTES; i += 8) {
      a = _mm_crc32_u64(a, load64le(p + i));
      b = _mm_crc32_u64(b, load64le(p + LANE_BYTES + i));
      c = _mm_crc32_u64(c, load64le(p + 2 * LANE_BYTES + i));
    }
    crc = over_lane(over_lane((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
  }
  uint64_t wide = crc;
  for (; size >= 8; size -= 8, p += 8) wide = _mm_crc32_u64(wide, load64le(p));
  crc = (uint32_t)wide;
  for (; size > 0; size--, p++) crc = _mm_crc32_u8(crc, *p);
  return ~crc;
}

static void choose(void) {
  __builtin_cpu_init();
  hardware = __builtin_cpu_supports("sse4.2");
  if (hardware) build_lane_shift();
}

uint32_t rag_crc32c(uint32_t crc, const void *data, size_t size) {
  return hardware ? crc32c_sse42(crc, data, size) : rag_base__crc32c_table(crc, data, size);
}

#else

static void choose(void) {}

uint32_t rag_crc32c(uint32_t crc, const void *data, size_t size) {
  return rag_base__crc32c_table(crc, data, size);
}

#endif

static __attribute__((constructor)) void start(void) {
  build_slicing();
  choose();
}
