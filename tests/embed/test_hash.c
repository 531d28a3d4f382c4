// Goal: one text has one vector, of unit length, on every machine and for ever; like texts are near, unlike ones far;
// no failed allocation is more than an error. Method: golden digests of the vectors' bytes (little-endian) for texts of
// every kind up to the largest; the same from eight threads at once; real sentences compared; the Nth allocation failed
// for every N that there is.
#include "embed/embed_internal.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static rag_embedder *open_model(const char *name) {
  rag_embedder *embedder = NULL;
  assert_int_equal(rag_embedder_open(rag_slice_str(name), &embedder, NULL), RAG_OK);
  return embedder;
}

// FNV-1a over the floats' bits, least significant byte first, whatever the machine's order.
static uint64_t digest_of(const float *vector, uint32_t dimension, uint64_t hash) {
  for (uint32_t i = 0; i < dimension; i++) {
    uint32_t bits;
    memcpy(&bits, &vector[i], sizeof(bits));
    for (int byte = 0; byte < 4; byte++) hash = (hash ^ (bits >> (8 * byte) & 0xFF)) * 0x100000001b3ull;
  }
  return hash;
}

static double length_of(const float *vector, uint32_t dimension) {
  double square = 0;
  for (uint32_t i = 0; i < dimension; i++) square += (double)vector[i] * (double)vector[i];
  return sqrt(square);
}

// ---------------------------------------------------------------------------------------------- the texts

// "w0 w9e3779b1 ..." to exactly `size` bytes: in 8 MiB, more distinct words than are counted apart, each about four
// times.
#define DISTINCT_WORDS 200000u
static char *many_words(size_t size) {
  char *text = malloc(size + 16);
  size_t at = 0;
  for (unsigned i = 0; at < size; i++) at += (size_t)snprintf(text + at, 16, "w%x ", i % DISTINCT_WORDS * 2654435761u);
  return text;
}

static char *one_word(size_t size) {
  char *text = malloc(size);
  for (size_t i = 0; i < size; i++) text[i] = (char)('a' + i * i % 26);
  return text;
}

typedef struct golden_case {
  const char *name;
  const char *text; // NULL: made by setup_texts
  size_t size;
  uint64_t digest; // of the vectors of all golden_models, one after the other
} golden_case;

static const char *const golden_models[] = {"hash-16", "hash-384", "hash-1000", "hash-4096"};

static golden_case golden_cases[] = {
    {"empty", "", 0, 0x1de8d0fb6fbcdd25ull},
    {"punctuation only", "... --- !? \n\t", 0, 0x1de8d0fb6fbcdd25ull},
    {"one letter", "a", 0, 0xa44ad0fd731a20fdull},
    {"a sentence", "The quick brown fox jumps over the lazy dog.", 0, 0x4731d2ab24408fe9ull},
    {"repeats", "to be or not to be, that is the question: to be to be to be", 0, 0xfc94955517f7f6e2ull},
    {"accents", "Voilà l'été à Besançon; über die Straße — naïve façade, Łódź, señor, Ελλάδα, Москва", 0,
     0xa3b897985171c9e7ull},
    {"ideographs", "東京都の人口は約1400万人です。한국어 텍스트와 中文文本", 0, 0x7b22ed03dda129dfull},
    {"other scripts", "हिन्दी में पाठ، ภาษาไทย, العربية, עברית", 0, 0x9785dd764020c13bull},
    {"pictographs", "🎉👍🏽 🚀🚀", 0, 0x4ddc33c91b9b5283ull},
    {"code", "static rag_status readFile(const char *file_path, HTTPServer *s) { return s->x86_64 ? 0 : -1; }", 0,
     0x7e08beb8260465deull},
    {"a word of 1 MB", NULL, 1u << 20, 0x5263a646d12790d3ull},
    {"8 MiB of words", NULL, RAG_EMBED_TEXT_BYTES_MAX, 0xc8ae22ad472b4d77ull},
};
#define GOLDEN_WORD_1MB 10
#define GOLDEN_WORDS_8MIB 11

static int setup_texts(void **state) {
  RAG_UNUSED(state);
  golden_cases[GOLDEN_WORD_1MB].text = one_word(golden_cases[GOLDEN_WORD_1MB].size);
  golden_cases[GOLDEN_WORDS_8MIB].text = many_words(golden_cases[GOLDEN_WORDS_8MIB].size);
  for (size_t i = 0; i < GOLDEN_WORD_1MB; i++) golden_cases[i].size = strlen(golden_cases[i].text);
  return 0;
}

static int free_texts(void **state) {
  RAG_UNUSED(state);
  free((char *)(uintptr_t)golden_cases[GOLDEN_WORD_1MB].text);
  free((char *)(uintptr_t)golden_cases[GOLDEN_WORDS_8MIB].text);
  return 0;
}

// ---------------------------------------------------------------------------------------------- tests

static void vectors_are_golden_and_of_unit_length(void **state) {
  RAG_UNUSED(state);
  unsigned wrong = 0;
  for (size_t i = 0; i < RAG_COUNT_OF(golden_cases); i++) {
    const golden_case *golden = &golden_cases[i];
    uint64_t digest = 0xcbf29ce484222325ull;
    for (size_t m = 0; m < RAG_COUNT_OF(golden_models); m++) {
      rag_embedder *embedder = open_model(golden_models[m]);
      uint32_t dimension = rag_embedder_dimension(embedder);
      float vector[RAG_EMBED_HASH_DIMENSION_MAX], query[RAG_EMBED_HASH_DIMENSION_MAX];
      rag_slice text = rag_slice_of(golden->text, golden->size);
      assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, &text, 1, vector, NULL), RAG_OK);
      assert_true(fabs(length_of(vector, dimension) - 1) < 1e-6);
      digest = digest_of(vector, dimension, digest);
      assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_QUERY, &text, 1, query, NULL), RAG_OK);
      assert_memory_equal(vector, query, dimension * sizeof(float));
      rag_ref_drop(embedder);
    }
    if (digest == golden->digest) continue;
    print_message("%s: 0x%016llxull\n", golden->name, (unsigned long long)digest);
    wrong++;
  }
  assert_int_equal(wrong, 0);
}

static void rows_are_the_texts_in_order(void **state) {
  RAG_UNUSED(state);
  rag_embedder *embedder = open_model("hash-64");
  rag_slice texts[3] = {rag_slice_str("alpha"), rag_slice_str(""), rag_slice_str("beta gamma")};
  float together[4 * 64], alone[64];
  for (size_t i = 0; i < RAG_COUNT_OF(together); i++) together[i] = 7;
  assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, texts, 3, together, NULL), RAG_OK);
  for (uint32_t i = 0; i < 3; i++) {
    assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, &texts[i], 1, alone, NULL), RAG_OK);
    assert_memory_equal(alone, together + i * 64, sizeof(alone));
  }
  assert_memory_not_equal(together, together + 2 * 64, sizeof(alone));
  for (size_t i = 3 * 64; i < 4 * 64; i++) assert_true(together[i] == 7); // nothing past the rows
  assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, NULL, 0, NULL, NULL), RAG_OK);
  rag_ref_drop(embedder);
}

static void a_text_over_the_limit_is_refused_and_nothing_written(void **state) {
  RAG_UNUSED(state);
  rag_embedder *embedder = open_model("hash-16");
  char *text = many_words((size_t)RAG_EMBED_TEXT_BYTES_MAX + 1);
  rag_slice texts[2] = {rag_slice_str("fine"), rag_slice_of(text, (size_t)RAG_EMBED_TEXT_BYTES_MAX + 1)};
  float out[32];
  for (int i = 0; i < 32; i++) out[i] = 7;
  rag_error err = {0};
  assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, texts, 2, out, &err), RAG_INVALID_ARGUMENT);
  assert_string_equal(err.field, "texts[1]");
  assert_non_null(strstr(err.message, "8388609 bytes"));
  for (int i = 0; i < 32; i++) assert_true(out[i] == 7);
  assert_int_equal(rag_embedder_embed(embedder, (rag_embed_role)2, texts, 1, out, &err), RAG_INVALID_ARGUMENT);
  free(text);
  rag_ref_drop(embedder);
}

// ---------------------------------------------------------------------------------------------- likeness

static double cosine(const char *a, const char *b) {
  rag_embedder *embedder = open_model("hash-384");
  rag_slice texts[2] = {rag_slice_str(a), rag_slice_str(b)};
  float v[2 * 384];
  double sum = 0;
  assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, texts, 2, v, NULL), RAG_OK);
  for (int i = 0; i < 384; i++) sum += (double)v[i] * (double)v[384 + i];
  rag_ref_drop(embedder);
  return sum;
}

static void like_texts_are_nearer_than_unlike_ones(void **state) {
  RAG_UNUSED(state);
  static const struct {
    const char *query, *like, *unlike;
  } cases[] = {
      {"how do I restore a backup", "Backups are restored with the restore command while the server is stopped.",
       "The borrow checker compares scopes to determine whether all borrows are valid."},
      {"borrow checker lifetimes",
       "Lifetimes ensure that references are valid as long as we need them; the borrow "
       "checker compares scopes.",
       "Vectors allow you to store more than one value in a single data structure next to each other in memory."},
      {"default icon theme", "This package contains the default icon theme used by the GNOME desktop.",
       "This package includes the commands for creating and removing users."},
      {"adding new users", "This package includes the commands for creating new users and adding users to groups.",
       "This package contains audio configuration files for specific audio hardware."},
      {"read_file", "ReadFile opens the path and returns its bytes.", "The list is sorted by name, then by size."},
      {"databse replicaton", "Database replication copies every write to a second server.", // typing errors
       "Icons are drawn at several sizes and shipped as scalable vector graphics."},
      {"sécurité du réseau", "La securite des reseaux informatiques", "La cuisine de Provence et ses herbes"},
      {"東京の人口", "東京都の人口は増えています", "猫はソファで寝ています"},
      {"поиск документов", "Документы находят быстрым поиском", "Погода сегодня тёплая и ясная"},
      {"cell growth inhibited by kinase inhibitors", "An inhibitor of the kinase inhibits growth of tumour cells.",
       "The boundary layer of a flat plate in supersonic flow is computed."},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    double like = cosine(cases[i].query, cases[i].like), unlike = cosine(cases[i].query, cases[i].unlike);
    if (like < unlike + 0.1) print_message("%s: %.3f %.3f\n", cases[i].query, like, unlike);
    assert_true(like >= unlike + 0.1);
  }
}

static void spellings_of_one_text_are_one_vector(void **state) {
  RAG_UNUSED(state);
  assert_true(cosine("Café Noir", "CAFE\u0301   noir!") > 0.999999);
  assert_true(cosine("the end of it", "it: of the End") > 0.999999); // a bag: order does not count
  assert_true(cosine("readFile", "read_file") > 0.999999);
  assert_true(cosine("inhibitor", "inhibitors") > 0.6);
  assert_true(cosine("replication", "replicaton") > 0.3); // shared character n-grams alone
  assert_true(cosine("the of and", "kinase") < 0.3);
  // A rare word outweighs frequent ones.
  assert_true(cosine("the kinase of it", "kinase") > cosine("the kinase of it", "the of it"));
}

// ---------------------------------------------------------------------------------------------- threads, memory

#define THREADS 8

typedef struct thread_work {
  rag_embedder *embedder;
  bool wrong;
} thread_work;

static void *embed_all(void *arg) {
  thread_work *work = arg;
  float first[384], again[384];
  for (size_t i = 0; i < GOLDEN_WORDS_8MIB; i++) { // all but the slowest
    rag_slice text = rag_slice_of(golden_cases[i].text, golden_cases[i].size);
    for (int round = 0; round < 3; round++) {
      float *out = round == 0 ? first : again;
      work->wrong |= rag_embedder_embed(work->embedder, RAG_EMBED_DOCUMENT, &text, 1, out, NULL) != RAG_OK;
      if (round) work->wrong |= memcmp(first, again, sizeof(first)) != 0;
    }
    rag_embedder *other = rag_ref_take(work->embedder);
    work->wrong |= other != work->embedder;
    rag_ref_drop(other);
  }
  return NULL;
}

static void threads_get_the_same_bits(void **state) {
  RAG_UNUSED(state);
  rag_embedder *embedder = open_model("hash-384");
  thread_work work[THREADS];
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) {
    work[i] = (thread_work){embedder, false};
    assert_int_equal(pthread_create(&threads[i], NULL, embed_all, &work[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    assert_false(work[i].wrong);
  }
  rag_ref_drop(embedder);
}

static void every_allocation_may_fail(void **state) {
  RAG_UNUSED(state);
  char *text = many_words(60000); // over 4,096 distinct words: grows three times
  rag_slice slice = rag_slice_of(text, 60000);
  float whole[384], out[384];
  rag_embedder *embedder = open_model("hash-384");
  assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, &slice, 1, whole, NULL), RAG_OK);
  unsigned failures = 0;
  for (uint64_t n = 1;; n++) {
    rag_error err = {0};
    rag_embedder *opened = NULL;
    rag_alloc_fail_after(n);
    rag_status status = rag_embedder_open(rag_slice_str("hash-384"), &opened, &err);
    if (status == RAG_OK) status = rag_embedder_embed(opened, RAG_EMBED_DOCUMENT, &slice, 1, out, &err);
    else assert_null(opened);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    rag_ref_drop(opened);
    if (!failed) {
      assert_int_equal(status, RAG_OK);
      assert_memory_equal(whole, out, sizeof(out));
      break;
    }
    failures++;
    assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
    assert_int_equal(err.status, RAG_RESOURCE_EXHAUSTED);
    assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_DOCUMENT, &slice, 1, out, NULL), RAG_OK);
    assert_memory_equal(whole, out, sizeof(out));
  }
  assert_in_range(failures, 7, 100); // the embedder, and entries, slots and pool as they grow
  free(text);
  rag_ref_drop(embedder);
}

static void a_paragraph_needs_no_heap(void **state) {
  RAG_UNUSED(state);
  rag_embedder *embedder = open_model("hash-384");
  rag_slice text = rag_slice_str(golden_cases[5].text);
  float out[384];
  rag_alloc_fail_after(1);
  assert_int_equal(rag_embedder_embed(embedder, RAG_EMBED_QUERY, &text, 1, out, NULL), RAG_OK);
  assert_false(rag_alloc_has_failed());
  rag_alloc_fail_after(0);
  rag_ref_drop(embedder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(vectors_are_golden_and_of_unit_length),
      cmocka_unit_test(rows_are_the_texts_in_order),
      cmocka_unit_test(a_text_over_the_limit_is_refused_and_nothing_written),
      cmocka_unit_test(like_texts_are_nearer_than_unlike_ones),
      cmocka_unit_test(spellings_of_one_text_are_one_vector),
      cmocka_unit_test(threads_get_the_same_bits),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(a_paragraph_needs_no_heap),
  };
  return cmocka_run_group_tests(tests, setup_texts, free_texts);
}
