// Goal: no image makes the reader of bitmaps crash, read past it, or take what is none; what it takes it writes again,
// and CRoaring reads the same members from it. Method: the first byte's lowest bit has the checksum recomputed, so that
// mutations get behind it. Every set that is read is written and read again: equal, and its image is a fixed point.
#include <roaring/roaring.h>

#include "tests/fuzz/fuzz.h"

#define CRC_BYTES 4u

static void require_same_as_roaring(const rag_bitmap *bitmap, rag_slice payload) {
  roaring_bitmap_t *oracle = roaring_bitmap_portable_deserialize_safe(payload.data, payload.size);
  REQUIRE(oracle != NULL);
  REQUIRE(roaring_bitmap_get_cardinality(oracle) == rag_bitmap_count(bitmap));
  roaring_uint32_iterator_t it;
  roaring_init_iterator(oracle, &it);
  // Sets of millions are a run in few bytes: their beginning and their size will do.
  uint32_t member = 0;
  bool more = rag_bitmap_next(bitmap, 0, &member);
  for (size_t i = 0; it.has_value && i < 100000; i++) {
    REQUIRE(more && member == it.current_value && rag_bitmap_has(bitmap, member));
    more = member < UINT32_MAX && rag_bitmap_next(bitmap, member + 1, &member);
    roaring_advance_uint32_iterator(&it);
  }
  roaring_bitmap_free(oracle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1 + CRC_BYTES) return 0;
  size_t image_size = size - 1;
  char *image = fuzz_copy(data + 1, image_size);
  if (data[0] & 1) fuzz_put_u32le(image, rag_crc32c(0, image + CRC_BYTES, image_size - CRC_BYTES));
  rag_error err = {0};
  rag_bitmap *bitmap = NULL, *again = NULL;
  rag_status status = rag_bitmap_decode(rag_slice_of(image, image_size), &bitmap, &err);
  if (status == RAG_OK) {
    rag_buf first = {0}, second = {0};
    rag_bitmap_encode(bitmap, &first);
    REQUIRE(!first.failed);
    REQUIRE_OK(rag_bitmap_decode(rag_buf_slice(&first), &again, &err));
    REQUIRE(rag_bitmap_equal(bitmap, again));
    rag_bitmap_encode(again, &second);
    REQUIRE(!second.failed && rag_slice_equal(rag_buf_slice(&first), rag_buf_slice(&second)));
    require_same_as_roaring(bitmap, rag_slice_of(image + CRC_BYTES, image_size - CRC_BYTES));
    require_same_as_roaring(bitmap, rag_slice_of(first.data + CRC_BYTES, first.size - CRC_BYTES));
    rag_buf_free(&first);
    rag_buf_free(&second);
  } else {
    REQUIRE(status == RAG_DATA_LOSS && bitmap == NULL);
    fuzz_require_said(&err, status);
  }
  rag_ref_drop(bitmap);
  rag_ref_drop(again);
  free(image);
  return 0;
}
