// Goal: models are opened by their one name, others are refused with a message that says what exists; a fingerprint
// names a model and its dimension and never changes.
// Method: names at and past every limit; golden fingerprints.
#include "embed/embed.h"

#include <setjmp.h>

#include <cmocka.h>

static void names_that_open(void **state) {
  RAG_UNUSED(state);
  static const struct {
    const char *name;
    uint32_t dimension;
    const char *fingerprint; // golden: vectors on disk are found by it
  } cases[] = {
      {"hash-16", 16, "hash-16-fa3cad54f30fd3fb"},
      {"hash-384", 384, "hash-384-af4445a16aff08ee"},
      {"hash-1024", 1024, "hash-1024-b3eb27036189a163"},
      {"hash-4096", 4096, "hash-4096-d9f9645e8a333b6b"},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    for (int again = 0; again < 2; again++) {
      rag_embedder *embedder = NULL;
      rag_error err = {0};
      assert_int_equal(rag_embedder_open(rag_slice_str(cases[i].name), &embedder, &err), RAG_OK);
      assert_int_equal(rag_embedder_dimension(embedder), cases[i].dimension);
      assert_string_equal(rag_embedder_name(embedder), cases[i].name);
      assert_string_equal(rag_embedder_fingerprint(embedder), cases[i].fingerprint);
      rag_ref_drop(embedder);
    }
  }
}

static void a_fingerprint_differs_by_dimension_beyond_its_name(void **state) {
  RAG_UNUSED(state);
  char seen[64][RAG_EMBED_FINGERPRINT_MAX];
  for (uint32_t i = 0; i < RAG_COUNT_OF(seen); i++) {
    char name[] = "hash-100";
    name[6] = (char)('0' + i / 10 % 10);
    name[7] = (char)('0' + i % 10);
    rag_embedder *embedder = NULL;
    assert_int_equal(rag_embedder_open(rag_slice_str(name), &embedder, NULL), RAG_OK);
    const char *digits = strrchr(rag_embedder_fingerprint(embedder), '-') + 1;
    assert_int_equal(strspn(digits, "0123456789abcdef"), 16);
    assert_int_equal(strlen(digits), 16);
    memcpy(seen[i], digits, 17);
    for (uint32_t j = 0; j < i; j++) assert_string_not_equal(seen[j], seen[i]);
    rag_ref_drop(embedder);
  }
}

static void names_that_do_not(void **state) {
  RAG_UNUSED(state);
  static const char *const names[] = {"",          "hash",      "hash-",      "hash-0",          "hash-15",
                                      "hash-4097", "hash-0384", "hash--16",   "hash-+384",       "hash-384 ",
                                      "hash-38x",  "HASH-384",  "hash-99999", "hash-4294967680", "bert",
                                      " hash-384", "hash-3.84"};
  for (size_t i = 0; i < RAG_COUNT_OF(names); i++) {
    rag_embedder *embedder = NULL;
    rag_error err = {0};
    assert_int_equal(rag_embedder_open(rag_slice_str(names[i]), &embedder, &err), RAG_NOT_FOUND);
    assert_null(embedder);
    assert_non_null(strstr(err.message, names[i]));
    assert_non_null(strstr(err.message, "hash-384"));
  }
  // A slice is not NUL-terminated: what follows it is not read.
  rag_embedder *embedder = NULL;
  assert_int_equal(rag_embedder_open(rag_slice_of("hash-3841", 8), &embedder, NULL), RAG_OK);
  assert_string_equal(rag_embedder_name(embedder), "hash-384");
  rag_ref_drop(embedder);
  assert_int_equal(rag_embedder_open(rag_slice_of(NULL, 0), &embedder, NULL), RAG_NOT_FOUND);
}

static void a_reference_keeps_it_alive(void **state) {
  RAG_UNUSED(state);
  rag_embedder *embedder = NULL;
  assert_int_equal(rag_embedder_open(rag_slice_str("hash-32"), &embedder, NULL), RAG_OK);
  rag_embedder *mine = rag_ref_take(embedder);
  rag_ref_drop(embedder);
  rag_slice text = rag_slice_str("still here");
  float out[32];
  assert_int_equal(rag_embedder_embed(mine, RAG_EMBED_QUERY, &text, 1, out, NULL), RAG_OK);
  rag_ref_drop(mine);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_that_open),
      cmocka_unit_test(a_fingerprint_differs_by_dimension_beyond_its_name),
      cmocka_unit_test(names_that_do_not),
      cmocka_unit_test(a_reference_keeps_it_alive),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
