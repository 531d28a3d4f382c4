// Documents for bench_retrieval: see corpus.h.
#include "corpus.h"

#include <math.h>

#include "base/json.h"

#define VOCABULARY 250000u
#define WORDS_MIN 20u
#define WORDS_MAX 100u

struct corpus {
  FILE *file; // NULL: made up
  char *line;
  size_t line_capacity;
  rag_json_parser *parser;
  rag_arena *arena;
  double *cumulative; // of the made-up vocabulary
  uint32_t made, count;
};

static uint64_t random_state = 20261121;

static uint32_t next_u31(void) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(random_state >> 33);
}

uint32_t bench_random(uint32_t below) {
  return next_u31() % below;
}

corpus *corpus_open(const char *path, uint32_t count) {
  corpus *c = calloc(1, sizeof *c);
  if (c == NULL) DIE("out of memory");
  c->arena = rag_arena_create(0);
  c->parser = rag_json_parser_create();
  c->count = count;
  if (c->arena == NULL || c->parser == NULL) DIE("out of memory");
  if (path != NULL) {
    c->file = fopen(path, "r");
    if (c->file == NULL) DIE("%s cannot be read", path);
    return c;
  }
  double sum = 0;
  c->cumulative = malloc(VOCABULARY * sizeof *c->cumulative);
  if (c->cumulative == NULL) DIE("out of memory");
  for (uint32_t i = 0; i < VOCABULARY; i++) c->cumulative[i] = sum += 1.0 / pow(i + 2.7, 1.05);
  return c;
}

void corpus_close(corpus *c) {
  if (c->file != NULL) fclose(c->file);
  rag_json_parser_destroy(c->parser);
  rag_arena_destroy(c->arena);
  free(c->cumulative);
  free(c->line);
  free(c);
}

static rag_slice keep(corpus *c, const void *data, size_t size) {
  char *copy = rag_arena_alloc(c->arena, size + 1);
  if (copy == NULL) DIE("out of memory");
  if (size > 0) memcpy(copy, data, size);
  return rag_slice_of(copy, size);
}

static rag_slice member(corpus *c, rag_json object, const char *name) {
  rag_json value;
  if (!rag_json_find(object, rag_slice_str(name), &value)) return (rag_slice){0};
  if (rag_json_type_of(value) == RAG_JSON_STRING) {
    rag_slice s = rag_json_string(value);
    return keep(c, s.data, s.size);
  }
  rag_buf text = {0};
  rag_json_write(value, &text);
  rag_slice kept = keep(c, text.data, text.size);
  rag_buf_free(&text);
  return kept;
}

static bool read_one(corpus *c, rag_document_input *out) {
  ssize_t size = getline(&c->line, &c->line_capacity, c->file);
  if (size <= 0) return false;
  rag_json object;
  MUST(rag_json_parse(c->parser, rag_slice_of(c->line, (size_t)size), &object, err));
  *out = (rag_document_input){.id = member(c, object, "id"),
                              .title = member(c, object, "title"),
                              .text = member(c, object, "text"),
                              .metadata = member(c, object, "metadata")};
  return true;
}

// Words of letters alone, so that they are stemmed like words: syllables of a consonant and a vowel, the frequent ones
// short.
static void add_word(rag_buf *out, uint32_t number) {
  static const char consonants[] = "bdfgklmnprstvwzh", vowels[] = "aeiou";
  for (uint32_t n = number + 80;; n /= 80) {
    char syllable[2] = {consonants[n % 80 / 5], vowels[n % 5]};
    rag_buf_append(out, syllable, sizeof syllable);
    if (n < 80) return;
  }
}

static uint32_t draw_word(const corpus *c) {
  double at = ((double)next_u31() + (double)next_u31() / 2147483648.0) / 2147483648.0 * c->cumulative[VOCABULARY - 1];
  uint32_t low = 0, high = VOCABULARY - 1;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (c->cumulative[middle] < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void make_one(corpus *c, rag_document_input *out) {
  char id[24], metadata[128], category[24];
  rag_buf text = {0};
  uint32_t words = WORDS_MIN + next_u31() % (WORDS_MAX - WORDS_MIN + 1), share = next_u31() % 1000;
  for (uint32_t i = 0; i < words; i++) {
    if (i > 0) rag_buf_append(&text, " ", 1);
    add_word(&text, draw_word(c));
  }
  if (share >= 611) snprintf(category, sizeof category, "topic-%u", next_u31() % 1000);
  else
    snprintf(category, sizeof category, "%s", share < 500 ? "c500" : share < 600 ? "c100" : share < 610 ? "c10" : "c1");
  int id_size = snprintf(id, sizeof id, "d%u", c->made++);
  int metadata_size = snprintf(metadata, sizeof metadata, "{\"category\":\"%s\",\"views\":%u,\"public\":%s}", category,
                               next_u31() % 1000000, next_u31() % 2 ? "true" : "false");
  *out = (rag_document_input){.id = keep(c, id, (size_t)id_size),
                              .text = keep(c, text.data, text.size),
                              .metadata = keep(c, metadata, (size_t)metadata_size)};
  rag_buf_free(&text);
}

uint32_t corpus_next(corpus *c, uint32_t count, rag_document_input *out) {
  uint32_t n = 0;
  rag_arena_reset(c->arena);
  if (c->file != NULL)
    while (n < count && read_one(c, &out[n])) n++;
  else
    for (; n < count && c->made < c->count; n++) make_one(c, &out[n]);
  return n;
}
