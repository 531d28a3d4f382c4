// Goal: keys sort in scan order, and the successor bounds exactly the keys with a prefix.
// Method: pseudo-random integers and byte strings, compared as numbers and as encoded keys; the limits by hand.
#include "tests/store/store_test.h"

static uint64_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> ((*state >> 58) & 31); // of all magnitudes
}

static int compare_keys(const rag_key *a, const rag_key *b) {
  return rag_slice_compare(rag_key_slice(a), rag_key_slice(b));
}

static int sign(int x) {
  return (x > 0) - (x < 0);
}

static void integers_sort_as_numbers(void **state) {
  RAG_UNUSED(state);
  uint64_t seed = 7;
  for (int i = 0; i < 20000; i++) {
    uint64_t a[2] = {next_random(&seed), next_random(&seed)}, b[2] = {next_random(&seed), next_random(&seed)};
    if (i % 3 == 0) b[0] = a[0] = (uint32_t)a[0];
    rag_key ka, kb;
    rag_key_init(&ka);
    rag_key_init(&kb);
    rag_key_u32(&ka, (uint32_t)a[0]);
    rag_key_u64(&ka, a[1]);
    rag_key_u32(&kb, (uint32_t)b[0]);
    rag_key_u64(&kb, b[1]);
    int expected =
        (uint32_t)a[0] != (uint32_t)b[0] ? ((uint32_t)a[0] > (uint32_t)b[0] ? 1 : -1) : (a[1] > b[1]) - (a[1] < b[1]);
    assert_int_equal(sign(compare_keys(&ka, &kb)), expected);
  }
}

static void parts_do_not_run_together(void **state) {
  RAG_UNUSED(state);
  rag_key a, b;
  rag_key_init(&a);
  rag_key_init(&b);
  rag_key_bytes(&a, rag_slice_str("a"));
  rag_key_bytes(&a, rag_slice_str("bc"));
  rag_key_bytes(&b, rag_slice_str("ab"));
  rag_key_bytes(&b, rag_slice_str("c"));
  assert_int_not_equal(compare_keys(&a, &b), 0);
  assert_memory_equal(a.bytes, "\0\1a\0\2bc", 7);
  assert_int_equal(a.size, 7);
}

static void successor_bounds_a_prefix(void **state) {
  RAG_UNUSED(state);
  uint64_t seed = 11;
  for (int i = 0; i < 20000; i++) {
    rag_key prefix, next, other;
    rag_key_init(&prefix);
    rag_key_init(&other);
    size_t size = 1 + next_random(&seed) % 4;
    for (size_t j = 0; j < size; j++)
      rag_key_u8(&prefix, (uint8_t)(next_random(&seed) % 3 == 0 ? 0xff : (seed >> 40) & 0xff));
    for (size_t j = 0; j < size + 2; j++)
      rag_key_u8(&other, (uint8_t)(j < size && i % 2 ? prefix.bytes[j] : (seed >> j) & 0xff));
    bool starts = memcmp(other.bytes, prefix.bytes, size) == 0;
    bool has = rag_key_successor(&prefix, &next);
    bool inside = compare_keys(&other, &prefix) >= 0 && (!has || compare_keys(&other, &next) < 0);
    assert_int_equal(starts, inside);
  }
  rag_key all_ff, next = {0};
  rag_key_init(&all_ff);
  rag_key_u32(&all_ff, UINT32_MAX);
  assert_false(rag_key_successor(&all_ff, &next));
  rag_key_init(&all_ff);
  assert_false(rag_key_successor(&all_ff, &next));
}

static void a_key_fills_up_to_its_limit(void **state) {
  RAG_UNUSED(state);
  static const unsigned char zeros[RAG_STORE_KEY_MAX];
  rag_key key;
  rag_key_init(&key);
  rag_key_raw(&key, zeros, RAG_STORE_KEY_MAX - 1);
  rag_key_u8(&key, 1);
  assert_int_equal(key.size, RAG_STORE_KEY_MAX);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(integers_sort_as_numbers),
      cmocka_unit_test(parts_do_not_run_together),
      cmocka_unit_test(successor_bounds_a_prefix),
      cmocka_unit_test(a_key_fills_up_to_its_limit),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
