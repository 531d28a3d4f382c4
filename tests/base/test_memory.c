// Goal: the failing allocator fails exactly the planned call; arenas keep alignment and their limit; buffers and
// readers round-trip, fail sticky, and never read past the end. Method: every constructor under a planned failure;
// arenas filled to the limit and one past it; every prefix of an encoded record is read and must turn bad.
#include "base/base.h"

#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static void the_nth_allocation_fails_once(void **state) {
  RAG_UNUSED(state);
  rag_alloc_fail_after(3);
  void *a = rag_alloc(1), *b = rag_alloc(1);
  assert_non_null(a);
  assert_non_null(b);
  assert_false(rag_alloc_has_failed());
  assert_null(rag_alloc(1));
  assert_true(rag_alloc_has_failed());
  void *c = rag_alloc(1);
  assert_non_null(c);
  rag_free(a);
  rag_free(b);
  rag_free(c);
  rag_alloc_fail_after(0);
  assert_false(rag_alloc_has_failed());
}

static void *allocate_elsewhere(void *arg) {
  void *p = rag_alloc(8);
  *(bool *)arg = p != NULL;
  rag_free(p);
  return NULL;
}

static void a_plan_is_of_one_thread(void **state) {
  RAG_UNUSED(state);
  pthread_t thread;
  bool worked = false;
  rag_alloc_fail_after(1);
  assert_int_equal(pthread_create(&thread, NULL, allocate_elsewhere, &worked), 0);
  pthread_join(thread, NULL);
  assert_true(worked);
  assert_false(rag_alloc_has_failed());
  rag_alloc_fail_after(0);
}

static void every_door_can_fail(void **state) {
  RAG_UNUSED(state);
  void *kept = rag_alloc(16);
  memset(kept, 7, 16);
  for (int door = 0; door < 8; door++) {
    rag_alloc_fail_after(1);
    void *p = NULL;
    switch (door) {
    case 0:
      p = rag_alloc(1);
      break;
    case 1:
      p = rag_calloc(1, 1);
      break;
    case 2:
      p = rag_realloc(kept, 64);
      break;
    case 3:
      p = rag_realloc_array(kept, 4, 64);
      break;
    case 4:
      p = rag_aligned_alloc(64, 64);
      break;
    case 5:
      p = rag_strdup("x");
      break;
    case 6:
      p = rag_strndup("x", 1);
      break;
    default:
      p = rag_arena_create(0);
      break;
    }
    assert_null(p);
    assert_true(rag_alloc_has_failed());
  }
  for (int i = 0; i < 16; i++) assert_int_equal(((char *)kept)[i], 7); // a failed realloc leaves the block
  rag_alloc_fail_after(0);
  rag_free(kept);
}

static void sizes_are_checked(void **state) {
  RAG_UNUSED(state);
  size_t product;
  assert_true(rag_mul_overflows(SIZE_MAX, 2, &product));
  assert_false(rag_mul_overflows(1 << 20, 1 << 20, &product));
  assert_int_equal(product, (size_t)1 << 40);
  assert_null(rag_calloc(SIZE_MAX / 2, 3));
  assert_null(rag_realloc_array(NULL, SIZE_MAX / 2, 3));
  assert_null(rag_strndup("", SIZE_MAX));
  void *zero[] = {rag_alloc(0), rag_calloc(0, 8), rag_realloc(NULL, 0), rag_aligned_alloc(16, 0)};
  for (size_t i = 0; i < RAG_COUNT_OF(zero); i++) {
    assert_non_null(zero[i]); // NULL means out of memory and nothing else
    rag_free(zero[i]);
  }
  for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
    void *p = rag_aligned_alloc(alignment, 3);
    assert_int_equal((uintptr_t)p % alignment, 0);
    rag_free(p);
  }
  char *cut = rag_strndup("a\0bc", 3);
  assert_memory_equal(cut, "a\0b", 4);
  rag_free(cut);
  rag_free(NULL);
}

static void arena_blocks_are_aligned_and_apart(void **state) {
  RAG_UNUSED(state);
  enum { BLOCKS = 3000 };
  static unsigned char *blocks[BLOCKS];
  rag_arena *arena = rag_arena_create(0);
  size_t asked = 0;
  for (size_t i = 0; i < BLOCKS; i++) {
    blocks[i] = rag_arena_alloc(arena, i % 257);
    assert_non_null(blocks[i]);
    assert_int_equal((uintptr_t)blocks[i] % 16, 0);
    memset(blocks[i], (int)(i & 0xFF), i % 257);
    asked += i % 257;
  }
  for (size_t i = 0; i < BLOCKS; i++)
    for (size_t k = 0; k < i % 257; k++) assert_int_equal(blocks[i][k], i & 0xFF);
  assert_true(rag_arena_used(arena) >= asked);
  rag_arena_reset(arena);
  assert_int_equal(rag_arena_used(arena), 0);
  unsigned char *zeros = rag_arena_calloc(arena, 500, 4); // over bytes that were written before the reset
  for (size_t i = 0; i < 2000; i++) assert_int_equal(zeros[i], 0);
  assert_string_equal(rag_arena_strndup(arena, "abcdef", 3), "abc");
  assert_string_equal(rag_arena_printf(arena, "%d-%s", 42, "x"), "42-x");
  assert_null(rag_arena_alloc(arena, SIZE_MAX));
  assert_null(rag_arena_calloc(arena, SIZE_MAX / 2, 3));
  assert_null(rag_arena_strndup(arena, "", SIZE_MAX));
  rag_arena_destroy(arena);
  rag_arena_destroy(NULL);
}

static void an_arena_keeps_its_limit(void **state) {
  RAG_UNUSED(state);
  for (size_t limit = 64; limit <= 40000; limit = limit * 3 / 2) {
    rag_arena *arena = rag_arena_create(limit);
    assert_null(rag_arena_alloc(arena, limit)); // the header counts, too
    size_t got = 0;
    while (rag_arena_alloc(arena, 16)) got += 16;
    assert_true(got <= limit);
    // Chunk headers and the doubling may cost little: the last chunk shrinks to fit.
    assert_true(got + 32 * 16 >= limit || got * 10 >= limit * 8);
    assert_null(rag_arena_alloc(arena, 16));
    rag_arena_reset(arena);
    if (got) assert_non_null(rag_arena_alloc(arena, 16));
    rag_arena_destroy(arena);
  }
  rag_arena *arena = rag_arena_create(1 << 20); // one allocation of all but a header
  assert_null(rag_arena_alloc(arena, (1 << 20) - 31));
  assert_non_null(rag_arena_alloc(arena, (1 << 20) - 32));
  assert_null(rag_arena_alloc(arena, 1));
  rag_arena_destroy(arena);
}

static void an_arena_survives_a_failed_chunk(void **state) {
  RAG_UNUSED(state);
  rag_arena *arena = rag_arena_create(0);
  char *first = rag_arena_strndup(arena, "first", 5);
  rag_alloc_fail_after(1);
  assert_null(rag_arena_alloc(arena, 100000));
  assert_true(rag_alloc_has_failed());
  assert_non_null(rag_arena_alloc(arena, 100000));
  assert_string_equal(first, "first");
  rag_arena_destroy(arena);
  rag_alloc_fail_after(0);
}

static void write_record(rag_buf *buf) {
  rag_buf_append_u8(buf, 0xAB);
  rag_buf_append_u32be(buf, 0x01020304);
  rag_buf_append_u64be(buf, UINT64_C(0x0102030405060708));
  rag_buf_append_u32le(buf, 0x01020304);
  rag_buf_append_u64le(buf, UINT64_C(0x0102030405060708));
  rag_buf_append_varint(buf, 300);
  rag_buf_append_bytes(buf, rag_slice_str("hello"));
  rag_buf_append(buf, "raw", 3);
}

// Reads a record; true when all of it was there and right.
static bool read_record(rag_slice s) {
  rag_reader r = rag_reader_of(s);
  bool right = rag_read_u8(&r) == 0xAB;
  right &= rag_read_u32be(&r) == 0x01020304;
  right &= rag_read_u64be(&r) == UINT64_C(0x0102030405060708);
  right &= rag_read_u32le(&r) == 0x01020304;
  right &= rag_read_u64le(&r) == UINT64_C(0x0102030405060708);
  right &= rag_read_varint(&r) == 300;
  right &= rag_slice_equal(rag_read_bytes(&r), rag_slice_str("hello"));
  right &= rag_slice_equal(rag_read_raw(&r, 3), rag_slice_str("raw"));
  assert_int_equal(rag_reader_left(&r), 0);
  assert_int_equal(right, !r.bad);
  if (r.bad) assert_int_equal(rag_read_u8(&r) + rag_read_varint(&r) + rag_read_raw(&r, 0).size, 0);
  return right;
}

static void records_round_trip_and_prefixes_are_bad(void **state) {
  RAG_UNUSED(state);
  rag_buf buf = {0};
  write_record(&buf);
  assert_int_equal(rag_buf_check(&buf, NULL), RAG_OK);
  const unsigned char start[] = {0xAB, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 4, 3, 2, 1, 8, 7};
  assert_memory_equal(buf.data, start, sizeof(start));
  assert_true(read_record(rag_buf_slice(&buf)));
  for (size_t size = 0; size < buf.size; size++) {
    char *exact = rag_strndup(buf.data, size); // a block of its own, so that a sanitizer sees a read past it
    assert_false(read_record(rag_slice_of(exact, size)));
    rag_free(exact);
  }
  rag_buf_free(&buf);
  rag_buf_free(NULL);
}

static void varints_at_their_edges(void **state) {
  RAG_UNUSED(state);
  for (unsigned bit = 0; bit <= 64; bit++) {
    for (int delta = -1; delta <= 1; delta++) {
      uint64_t v = (bit < 64 ? UINT64_C(1) << bit : 0) + (uint64_t)(int64_t)delta;
      rag_buf buf = {0};
      rag_buf_append_varint(&buf, v);
      rag_reader r = rag_reader_of(rag_buf_slice(&buf));
      assert_true(rag_read_varint(&r) == v && !r.bad && rag_reader_left(&r) == 0);
      rag_buf_free(&buf);
    }
  }
  static const struct {
    const char *bytes;
    size_t size;
  } bad[] = {
      {"\x80\x00", 2},                                      // not the shortest
      {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02", 10},     // 65 bits
      {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11}, // 11 bytes
      {"\xFF", 1},
      {"", 0},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    rag_reader r = rag_reader_of(rag_slice_of(bad[i].bytes, bad[i].size));
    assert_true(rag_read_varint(&r) == 0 && r.bad);
  }
  rag_reader lying = rag_reader_of(rag_slice_of("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01zz", 12));
  assert_int_equal(rag_read_bytes(&lying).size, 0); // a length of 2^64 - 1
  assert_true(lying.bad);
}

static void printf_grows(void **state) {
  RAG_UNUSED(state);
  for (int width = 0; width < 300; width++) {
    rag_buf buf = {0};
    rag_buf_append_str(&buf, "ab");
    rag_buf_printf(&buf, "%*d", width, 7);
    rag_buf_append_char(&buf, '!');
    size_t number = width > 1 ? (size_t)width : 1;
    assert_int_equal(buf.size, 2 + number + 1);
    assert_int_equal(buf.data[1 + number], '7');
    assert_int_equal(buf.data[2 + number], '!');
    rag_buf_free(&buf);
  }
}

static void a_failed_buffer_stays_failed_until_cleared(void **state) {
  RAG_UNUSED(state);
  rag_buf buf = {0};
  rag_error err;
  rag_buf_append_str(&buf, "kept");
  rag_alloc_fail_after(1);
  rag_buf_reserve(&buf, 1000);
  rag_buf_append_str(&buf, "x");
  rag_buf_printf(&buf, "%d", 1);
  rag_buf_append_varint(&buf, 1);
  assert_true(buf.failed);
  assert_int_equal(buf.size, 4);
  assert_int_equal(rag_buf_check(&buf, &err), RAG_RESOURCE_EXHAUSTED);
  rag_alloc_fail_after(0);
  rag_buf_clear(&buf);
  rag_buf_append_str(&buf, "again");
  assert_int_equal(rag_buf_check(&buf, &err), RAG_OK);
  assert_true(rag_slice_equal(rag_buf_slice(&buf), rag_slice_str("again")));
  rag_buf_reserve(&buf, SIZE_MAX);
  assert_true(buf.failed);
  rag_buf_free(&buf);
}

static void slices_compare_as_bytes(void **state) {
  RAG_UNUSED(state);
  static const char *const ordered[] = {"", "A", "a", "a\x01", "aa", "ab", "b", "\x80", "\xFF"};
  for (int i = 0; i < (int)RAG_COUNT_OF(ordered); i++) {
    for (int j = 0; j < (int)RAG_COUNT_OF(ordered); j++) {
      int order = rag_slice_compare(rag_slice_str(ordered[i]), rag_slice_str(ordered[j]));
      assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
      assert_int_equal(rag_slice_equal(rag_slice_str(ordered[i]), rag_slice_str(ordered[j])), i == j);
    }
  }
  assert_int_equal(rag_slice_str(NULL).size, 0);
}

// ---------------------------------------------------------------------------------------------- the heap

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEAP_IS_REPLACED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HEAP_IS_REPLACED true
#endif
#endif
#ifndef HEAP_IS_REPLACED
#define HEAP_IS_REPLACED false
#endif

#define HEAP_THREADS 32

static void *take_and_wait(void *arg) {
  pthread_barrier_t *barriers = arg;
  void *blocks[64];
  for (size_t i = 0; i < RAG_COUNT_OF(blocks); i++) blocks[i] = rag_alloc(8192); // too large for a thread's own store
  pthread_barrier_wait(&barriers[0]);
  pthread_barrier_wait(&barriers[1]);
  for (size_t i = 0; i < RAG_COUNT_OF(blocks); i++) rag_free(blocks[i]);
  return NULL;
}

static void threads_share_arenas(void **state) {
  RAG_UNUSED(state);
  unsigned limit = rag_heap_limit_arenas(), arenas = 0;
  if (limit == 0 || HEAP_IS_REPLACED) skip();
  pthread_barrier_t barriers[2];
  pthread_t threads[HEAP_THREADS];
  for (int i = 0; i < 2; i++) assert_int_equal(pthread_barrier_init(&barriers[i], NULL, HEAP_THREADS + 1), 0);
  for (int i = 0; i < HEAP_THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, take_and_wait, barriers), 0);
  pthread_barrier_wait(&barriers[0]);
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  assert_non_null(stream);
  assert_int_equal(malloc_info(0, stream), 0);
  fclose(stream);
  for (const char *at = text; (at = strstr(at, "<heap nr=")) != NULL; at++) arenas++;
  free(text);
  pthread_barrier_wait(&barriers[1]);
  for (int i = 0; i < HEAP_THREADS; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 2; i++) pthread_barrier_destroy(&barriers[i]);
  assert_in_range(arenas, 1, limit);
}

static void the_heap_says_what_it_holds(void **state) {
  RAG_UNUSED(state);
  if (HEAP_IS_REPLACED) skip();
  rag_heap_stats before, taken, after;
  void *small[64], *large = NULL;
  rag_heap_stats_get(&before);
  for (size_t i = 0; i < RAG_COUNT_OF(small); i++) small[i] = rag_alloc(64 << 10);
  large = rag_alloc(64 << 20); // mapped on its own
  rag_heap_stats_get(&taken);
  for (size_t i = 0; i < RAG_COUNT_OF(small); i++) rag_free(small[i]);
  rag_free(large);
  rag_heap_stats_get(&after);
  assert_true(taken.used_bytes >= before.used_bytes + ((64 + 4) << 20));
  assert_true(after.used_bytes < before.used_bytes + (1 << 20));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_nth_allocation_fails_once),
      cmocka_unit_test(a_plan_is_of_one_thread),
      cmocka_unit_test(every_door_can_fail),
      cmocka_unit_test(sizes_are_checked),
      cmocka_unit_test(arena_blocks_are_aligned_and_apart),
      cmocka_unit_test(an_arena_keeps_its_limit),
      cmocka_unit_test(an_arena_survives_a_failed_chunk),
      cmocka_unit_test(records_round_trip_and_prefixes_are_bad),
      cmocka_unit_test(varints_at_their_edges),
      cmocka_unit_test(printf_grows),
      cmocka_unit_test(a_failed_buffer_stays_failed_until_cleared),
      cmocka_unit_test(slices_compare_as_bytes),
      cmocka_unit_test(threads_share_arenas),
      cmocka_unit_test(the_heap_says_what_it_holds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
