// Goal: what is encoded comes back; what is damaged never does; what is forged with a right checksum is refused or is a
// well-formed set; and the images are CRoaring's own.
// Method: random bitmaps round-trip and are compared with CRoaring's reader; every bit of images of each container kind
// is flipped, every length is cut; payload bits are flipped *and* the checksum mended, so that the strict reader is
// what stands between; allocation failures are swept over decode.
#include "bitmap_model.h"

#include <setjmp.h>

#include <cmocka.h>
#include <roaring/roaring.h>

static model models[2];

static rag_buf encode(const rag_bitmap *bitmap) {
  rag_buf image = {0};
  rag_bitmap_encode(bitmap, &image);
  assert_int_equal(rag_buf_check(&image, NULL), RAG_OK);
  return image;
}

static void mend_checksum(rag_buf *image) {
  uint32_t crc = rag_crc32c(0, image->data + 4, image->size - 4);
  for (int i = 0; i < 4; i++) image->data[i] = (char)(crc >> (8 * i) & 0xFF);
}

// An exact copy in a block of its own, so that a sanitizer sees a read past the end.
static rag_status decode_exact(const char *data, size_t size, rag_bitmap **out, rag_error *err) {
  char *exact = rag_alloc(size);
  memcpy(exact, data, size);
  rag_status status = rag_bitmap_decode(rag_slice_of(exact, size), out, err);
  rag_free(exact);
  return status;
}

static void round_trips_and_croaring_agrees(void **state) {
  RAG_UNUSED(state);
  for (int round = 0; round < 40; round++) {
    rag_bitmap *bitmap = random_bitmap(&models[0], random_below(12)), *back = NULL;
    rag_buf image = {0};
    rag_buf_append_str(&image, "before"); // encode appends
    rag_bitmap_encode(bitmap, &image);
    assert_int_equal(rag_buf_check(&image, NULL), RAG_OK);
    assert_memory_equal(image.data, "before", 6);
    assert_int_equal(decode_exact(image.data + 6, image.size - 6, &back, NULL), RAG_OK);
    assert_is_model(back, &models[0]);
    assert_true(rag_bitmap_equal(bitmap, back));
    rag_buf again = encode(back);
    assert_true(rag_slice_equal(rag_buf_slice(&again), rag_slice_of(image.data + 6, image.size - 6)));

    roaring_bitmap_t *theirs = roaring_bitmap_portable_deserialize_safe(image.data + 10, image.size - 10);
    assert_non_null(theirs);
    assert_int_equal(roaring_bitmap_get_cardinality(theirs), rag_bitmap_count(bitmap));
    for (uint32_t i = 0; i < UNIVERSE; i++) assert_int_equal(roaring_bitmap_contains(theirs, i), models[0].has[i]);
    roaring_bitmap_run_optimize(theirs);
    size_t their_size = roaring_bitmap_portable_size_in_bytes(theirs);
    assert_int_equal(their_size, image.size - 10);
    char *their_image = malloc(their_size);
    roaring_bitmap_portable_serialize(theirs, their_image);
    assert_memory_equal(their_image, image.data + 10, their_size);
    free(their_image);
    roaring_bitmap_free(theirs);
    rag_buf_free(&again);
    rag_buf_free(&image);
    rag_ref_drop(back);
    rag_ref_drop(bitmap);
  }
}

// A bitmap with the container kinds that `kinds` names, one per block: 'a'rray, 'b'its, 'r'uns, 'f'ull, '-' none.
static rag_bitmap *bitmap_of_kinds(const char *kinds) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *bitmap = NULL;
  for (uint32_t b = 0; kinds[b]; b++) {
    uint32_t first = b * RAG_BITMAP_BLOCK_BITS;
    if (kinds[b] == 'a')
      for (uint32_t i = 0; i < 40; i++) RAG_ASSERT(rag_bitmap_edit_add(edit, first + i * 1601) == RAG_OK);
    if (kinds[b] == 'b')
      for (uint32_t i = 0; i < 20000; i++) RAG_ASSERT(rag_bitmap_edit_add(edit, first + i * 3) == RAG_OK);
    if (kinds[b] == 'r')
      for (uint32_t i = 0; i < 9; i++) RAG_ASSERT(rag_bitmap_edit_add_range(edit, first + i * 7000, 3000) == RAG_OK);
    if (kinds[b] == 'f') RAG_ASSERT(rag_bitmap_edit_add_range(edit, first, RAG_BITMAP_BLOCK_BITS) == RAG_OK);
  }
  RAG_ASSERT(rag_bitmap_edit_finish(edit, &bitmap) == RAG_OK);
  return bitmap;
}

static const char *const kinds[] = {"", "a", "r", "b", "aa", "ar-f", "rfar", "-a--rr-aaf", "abr"};

static void every_flipped_bit_is_detected(void **state) {
  RAG_UNUSED(state);
  for (size_t k = 0; k < RAG_COUNT_OF(kinds); k++) {
    rag_bitmap *bitmap = bitmap_of_kinds(kinds[k]), *none = NULL;
    rag_buf image = encode(bitmap);
    for (size_t bit = 0; bit < image.size * 8; bit++) {
      image.data[bit / 8] = (char)(image.data[bit / 8] ^ (1 << bit % 8));
      if (rag_bitmap_decode(rag_buf_slice(&image), &none, NULL) != RAG_DATA_LOSS)
        fail_msg("%s: bit %zu", kinds[k], bit);
      image.data[bit / 8] = (char)(image.data[bit / 8] ^ (1 << bit % 8));
    }
    for (size_t size = 0; size < image.size; size++)
      assert_int_equal(rag_bitmap_decode(rag_slice_of(image.data, size), &none, NULL), RAG_DATA_LOSS);
    assert_null(none);
    rag_bitmap *back = NULL;
    assert_int_equal(decode_exact(image.data, image.size, &back, NULL), RAG_OK);
    assert_true(rag_bitmap_equal(bitmap, back));
    rag_ref_drop(back);
    rag_buf_free(&image);
    rag_ref_drop(bitmap);
  }
}

// With a mended checksum the strict reader decides. A flip inside a payload may make another good set; a flip that
// changes a cardinality, a key's order, an offset, an order of values must be refused. Whatever comes back must be
// well-formed.
static void forged_images_are_refused_or_well_formed(void **state) {
  RAG_UNUSED(state);
  unsigned refused = 0, accepted = 0;
  for (size_t k = 0; k < RAG_COUNT_OF(kinds); k++) {
    rag_bitmap *bitmap = bitmap_of_kinds(kinds[k]);
    rag_buf image = encode(bitmap);
    for (size_t bit = 32; bit<image.size * 8; bit += image.size> 4000 ? 37 : 1) {
      rag_bitmap *made = NULL;
      image.data[bit / 8] = (char)(image.data[bit / 8] ^ (1 << bit % 8));
      mend_checksum(&image);
      rag_status status = decode_exact(image.data, image.size, &made, NULL);
      if (status == RAG_OK) {
        uint64_t count = 0;
        for (uint32_t b = 0, in_block; b < rag_bitmap_block_count(made); b++, count += in_block) {
          const uint64_t *words = rag_bitmap_block(made, b, &in_block);
          uint32_t bits = 0;
          for (uint32_t w = 0; words && w < RAG_BITMAP_BLOCK_WORDS; w++)
            bits += (uint32_t)__builtin_popcountll(words[w]);
          assert_int_equal(bits, in_block);
        }
        assert_int_equal(count, rag_bitmap_count(made));
        assert_false(rag_bitmap_equal(made, bitmap)); // a flip that means nothing would be a second image of one set
        accepted++;
      } else {
        assert_int_equal(status, RAG_DATA_LOSS);
        refused++;
      }
      rag_ref_drop(made);
      image.data[bit / 8] = (char)(image.data[bit / 8] ^ (1 << bit % 8));
    }
    mend_checksum(&image);
    for (size_t size = 4; size<image.size; size += image.size> 4000 ? 41 : 1) {
      rag_buf cut = {0};
      rag_bitmap *made = NULL;
      rag_buf_append(&cut, image.data, size);
      mend_checksum(&cut);
      assert_int_equal(decode_exact(cut.data, cut.size, &made, NULL), RAG_DATA_LOSS);
      rag_buf_free(&cut);
    }
    rag_buf_append_char(&image, 0); // one byte too many
    mend_checksum(&image);
    rag_bitmap *made = NULL;
    assert_int_equal(decode_exact(image.data, image.size, &made, NULL), RAG_DATA_LOSS);
    rag_buf_free(&image);
    rag_ref_drop(bitmap);
  }
  assert_true(refused > 1000 && accepted > 100);
}

static void random_bytes_are_refused(void **state) {
  RAG_UNUSED(state);
  for (int round = 0; round < 20000; round++) {
    rag_buf image = {0};
    rag_bitmap *made = NULL;
    rag_buf_append_u32le(&image, 0);
    rag_buf_append_u32le(&image, random_below(2) ? 12346 : 12347 | random_below(6) << 16);
    for (uint32_t i = random_below(64); i > 0; i--)
      rag_buf_append_u8(&image, (uint8_t)(random_below(2) * random_below(256)));
    mend_checksum(&image);
    rag_status status = decode_exact(image.data, image.size, &made, NULL);
    assert_true(status == RAG_DATA_LOSS || (status == RAG_OK && made));
    rag_ref_drop(made);
    rag_buf_free(&image);
  }
}

static void failed_allocations(void **state) {
  RAG_UNUSED(state);
  rag_bitmap *bitmap = bitmap_of_kinds("-a--rr-aafb");
  rag_buf image = encode(bitmap);
  unsigned failures = 0;
  for (uint64_t n = 1;; n++, failures++) {
    rag_bitmap *back = NULL;
    rag_error err;
    rag_alloc_fail_after(n);
    rag_status status = rag_bitmap_decode(rag_buf_slice(&image), &back, &err);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    assert_int_equal(status, failed ? RAG_RESOURCE_EXHAUSTED : RAG_OK);
    assert_int_equal(back == NULL, failed);
    rag_ref_drop(back);
    if (!failed) break;
  }
  assert_true(failures >= 8); // an edit, its spine, a block each
  rag_buf out = {0};
  rag_alloc_fail_after(1);
  rag_bitmap_encode(bitmap, &out);
  rag_alloc_fail_after(0);
  assert_int_equal(rag_buf_check(&out, NULL), RAG_RESOURCE_EXHAUSTED);
  assert_int_equal(out.size, 0);
  rag_bitmap_encode(bitmap, &out); // sticks
  assert_true(out.failed && out.size == 0);
  rag_buf_free(&out);
  rag_buf_free(&image);
  rag_ref_drop(bitmap);
}

// Pins the format: this image is on disks.
static void the_image_is_pinned(void **state) {
  RAG_UNUSED(state);
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_bitmap *bitmap = NULL;
  assert_int_equal(rag_bitmap_edit_add(edit, 1), RAG_OK);
  assert_int_equal(rag_bitmap_edit_add(edit, 5), RAG_OK);
  assert_int_equal(rag_bitmap_edit_add_range(edit, 65536 + 256, 512), RAG_OK);
  assert_int_equal(rag_bitmap_edit_finish(edit, &bitmap), RAG_OK);
  rag_buf image = encode(bitmap);
  static const unsigned char body[] = {
      0x3B, 0x30, 1,    0,          // runs, two containers
      2,                            // the second one has runs
      0,    0,    1,    0,          // key 0, two values
      1,    0,    0xFF, 1,          // key 1, 512 values
      1,    0,    5,    0,          // 1, 5
      1,    0,    0,    1, 0xFF, 1, // one run: from 256, 511 more
  };
  assert_int_equal(image.size, 4 + sizeof(body));
  assert_memory_equal(image.data + 4, body, sizeof(body));
  rag_reader r = rag_reader_of(rag_buf_slice(&image));
  assert_int_equal(rag_read_u32le(&r), rag_crc32c(0, body, sizeof(body)));
  rag_buf_free(&image);
  rag_ref_drop(bitmap);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(round_trips_and_croaring_agrees),
      cmocka_unit_test(every_flipped_bit_is_detected),
      cmocka_unit_test(forged_images_are_refused_or_well_formed),
      cmocka_unit_test(random_bytes_are_refused),
      cmocka_unit_test(failed_allocations),
      cmocka_unit_test(the_image_is_pinned),
  };
  seed_random();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
