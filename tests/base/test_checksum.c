// Goal: CRC32C is the published one, on both code paths, however the data is cut; rag_hash64 spreads.
// Method: RFC 3720's vectors; the instruction against the table over every length to several lanes, every alignment,
// and random cuts; a bit-by-bit reference for the table.
#include "base/base_internal.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t random_state = 88172645463325252u;
static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static uint32_t crc_by_bits(const unsigned char *p, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
  }
  return ~crc;
}

static void crc_vectors(void **state) {
  RAG_UNUSED(state);
  unsigned char bytes[32];
  uint32_t (*const ways[])(uint32_t, const void *, size_t) = {rag_crc32c, rag_base__crc32c_table};
  for (size_t w = 0; w < RAG_COUNT_OF(ways); w++) {
    assert_int_equal(ways[w](0, "", 0), 0);
    assert_int_equal(ways[w](0, "123456789", 9), 0xE3069283u);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(ways[w](0, bytes, 32), 0x8A9136AAu);
    memset(bytes, 0xFF, sizeof(bytes));
    assert_int_equal(ways[w](0, bytes, 32), 0x62A8AB43u);
    for (int i = 0; i < 32; i++) bytes[i] = (unsigned char)i;
    assert_int_equal(ways[w](0, bytes, 32), 0x46DD794Eu);
    for (int i = 0; i < 32; i++) bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(ways[w](0, bytes, 32), 0x113FDB5Cu);
  }
}

static void crc_paths_agree(void **state) {
  RAG_UNUSED(state);
  enum { SIZE = 8192 };
  static unsigned char data[SIZE];
  print_message("crc32c by instruction: %s\n", rag_base__crc32c_is_hardware() ? "yes" : "no");
  for (size_t i = 0; i < SIZE; i++) data[i] = (unsigned char)next_random();
  for (size_t size = 0; size < 4000; size++) {
    size_t from = size % 17;
    assert_int_equal(rag_crc32c(0, data + from, size), rag_base__crc32c_table(0, data + from, size));
  }
  assert_int_equal(rag_crc32c(0, data, SIZE), crc_by_bits(data, SIZE));
  for (int round = 0; round < 500; round++) { // in pieces
    size_t a = next_random() % SIZE, b = a + next_random() % (SIZE - a);
    uint32_t crc = rag_crc32c(0, data, a);
    crc = rag_crc32c(crc, data + a, b - a);
    assert_int_equal(rag_crc32c(crc, data + b, SIZE - b), rag_crc32c(0, data, SIZE));
  }
}

static int compare_u64(const void *a, const void *b) {
  uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
  return (left > right) - (left < right);
}

static void hash_has_no_collisions_and_spreads(void **state) {
  RAG_UNUSED(state);
  enum { KEYS = 200000, BUCKETS = 1024 };
  static uint64_t hashes[KEYS];
  static unsigned low[BUCKETS], high[BUCKETS];
  for (unsigned i = 0; i < KEYS; i++) {
    char key[96];
    size_t size = (size_t)snprintf(key, sizeof(key), "%*u", (int)(6 + i % 80), i); // all size classes
    hashes[i] = rag_hash64(key, size);
    assert_true(hashes[i] == rag_hash64(key, size));
    low[hashes[i] % BUCKETS]++;
    high[hashes[i] >> 54]++;
  }
  for (size_t b = 0; b < BUCKETS; b++) { // mean 195, deviation 14: eight deviations
    assert_in_range(low[b], 195 - 112, 195 + 112);
    assert_in_range(high[b], 195 - 112, 195 + 112);
  }
  qsort(hashes, KEYS, sizeof(hashes[0]), compare_u64);
  for (size_t i = 1; i < KEYS; i++) assert_true(hashes[i] != hashes[i - 1]);
}

static void every_input_bit_moves_the_hash(void **state) {
  RAG_UNUSED(state);
  unsigned char data[130] = {0};
  for (size_t size = 0; size <= sizeof(data); size++) {
    uint64_t before = rag_hash64(data, size);
    if (size < sizeof(data)) assert_true(rag_hash64(data, size + 1) != before); // the size counts
    for (size_t bit = 0; bit < size * 8; bit++) {
      data[bit / 8] ^= (unsigned char)(1u << bit % 8);
      int moved = __builtin_popcountll(rag_hash64(data, size) ^ before);
      assert_in_range(moved, 6, 58); // 32 expected, deviation 4
      data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
  }
}

static void hex_and_constant_time_equality(void **state) {
  RAG_UNUSED(state);
  char text[9];
  rag_hex("\x00\x1f\xa0\xff", 4, text);
  assert_string_equal(text, "001fa0ff");
  rag_hex("", 0, text);
  assert_string_equal(text, "");
  assert_true(rag_equal_constant_time("abcd", "abcd", 4));
  assert_true(rag_equal_constant_time("a", "b", 0));
  for (size_t i = 0; i < 32; i++) {
    char other[4] = {'a', 'b', 'c', 'd'};
    other[i / 8] = (char)(other[i / 8] ^ (1 << i % 8));
    assert_false(rag_equal_constant_time("abcd", other, 4));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(crc_vectors),
      cmocka_unit_test(crc_paths_agree),
      cmocka_unit_test(hash_has_no_collisions_and_spreads),
      cmocka_unit_test(every_input_bit_moves_the_hash),
      cmocka_unit_test(hex_and_constant_time_equality),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
