// Goal: SHA-256 is SHA-256, an identity is its first 160 bits, and length prefixes keep fields apart.
// Method: the vectors of FIPS 180-4, cut at every place.
#include "base/base.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static const struct {
  const char *text;
  const char *hex;
} vectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void known_vectors(void **state) {
  RAG_UNUSED(state);
  for (size_t i = 0; i < RAG_COUNT_OF(vectors); i++) {
    uint8_t full[32];
    char hex[65], cut[41];
    size_t size = strlen(vectors[i].text);
    rag_sha256(vectors[i].text, size, full);
    rag_hex(full, sizeof(full), hex);
    assert_string_equal(hex, vectors[i].hex);
    rag_digest digest = rag_digest_of(vectors[i].text, size);
    rag_hex(digest.bytes, sizeof(digest.bytes), cut);
    assert_memory_equal(cut, vectors[i].hex, 40);
  }
}

static void a_million_times_a_in_pieces(void **state) {
  RAG_UNUSED(state);
  char piece[1000];
  memset(piece, 'a', sizeof(piece));
  rag_digest_state digest_state;
  rag_digest_init(&digest_state);
  for (int i = 0; i < 1000; i++) rag_digest_update(&digest_state, piece, sizeof(piece));
  rag_digest digest = rag_digest_final(&digest_state);
  char hex[41];
  rag_hex(digest.bytes, sizeof(digest.bytes), hex);
  assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48");
}

static void pieces_do_not_matter_but_fields_do(void **state) {
  RAG_UNUSED(state);
  char text[200];
  for (size_t i = 0; i < sizeof(text); i++) text[i] = (char)i;
  rag_digest whole = rag_digest_of(text, sizeof(text));
  for (size_t cut = 0; cut <= sizeof(text); cut++) {
    rag_digest_state s;
    rag_digest_init(&s);
    rag_digest_update(&s, text, cut);
    rag_digest_update(&s, text + cut, sizeof(text) - cut);
    rag_digest pieces = rag_digest_final(&s);
    assert_true(rag_digest_equal(&whole, &pieces));
  }
  static const char *const splits[][2] = {{"a", "bc"}, {"ab", "c"}, {"", "abc"}, {"abc", ""}};
  rag_digest seen[RAG_COUNT_OF(splits)];
  for (size_t i = 0; i < RAG_COUNT_OF(splits); i++) {
    rag_digest_state s;
    rag_digest_init(&s);
    rag_digest_update_bytes(&s, rag_slice_str(splits[i][0]));
    rag_digest_update_bytes(&s, rag_slice_str(splits[i][1]));
    seen[i] = rag_digest_final(&s);
    for (size_t j = 0; j < i; j++) assert_false(rag_digest_equal(&seen[i], &seen[j]));
  }
  rag_digest_state s; // stored on disk, so the prefix is pinned: u64, little-endian
  rag_digest_init(&s);
  rag_digest_update_bytes(&s, rag_slice_str("ab"));
  rag_digest prefixed = rag_digest_final(&s), by_hand = rag_digest_of("\2\0\0\0\0\0\0\0ab", 10);
  assert_true(rag_digest_equal(&prefixed, &by_hand));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_vectors),
      cmocka_unit_test(a_million_times_a_in_pieces),
      cmocka_unit_test(pieces_do_not_matter_but_fields_do),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
