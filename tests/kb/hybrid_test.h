// What the tests of hybrid retrieval share: pools of texts, titles, metadata and languages over a small vocabulary, kbs of
// documents that are made of them, and random queries and filters with what they ask for.
#ifndef RAGD_TESTS_HYBRID_TEST_H
#define RAGD_TESTS_HYBRID_TEST_H

#include "tests/kb/kb_test.h"

#include "base/json.h"
#include "tests/index/lexical_testing.h"

#include <inttypes.h>

enum {
  HY_TEXTS = 48,
  HY_TITLES = 7,
  HY_METAS = 40,
  HY_LANGUAGES = 3,
  HY_DIMENSION = 32,
  HY_CHUNKS_MAX = 48, // of a text
  HY_TERMS_MAX = 4096,
  HY_ITEMS_MAX = 6, // of a query
};

// ---------------------------------------------------------------------------------------------- chance

static uint64_t hy_seed;
static _Thread_local uint64_t hy_state;
static unsigned hy_step;

static inline uint32_t hy_draw(uint32_t below) {
  return (uint32_t)((next_random(&hy_state) >> 16) % below);
}
#define HY_PICK(list) (list)[hy_draw((uint32_t)RAG_COUNT_OF(list))]

#define HY_CHECK(cond, ...)                                                                                            \
  do {                                                                                                                 \
    if (!(cond)) {                                                                                                     \
      print_error("RAGD_TEST_SEED=%" PRIu64 " step %u: %s:%d: %s: ", hy_seed, hy_step, __FILE__, __LINE__, #cond);     \
      fail_msg(__VA_ARGS__);                                                                                           \
    }                                                                                                                  \
  } while (0)
#define HY_DO(expr)                                                                                                    \
  do {                                                                                                                 \
    rag_status hy_status_ = (expr);                                                                                    \
    HY_CHECK(hy_status_ == RAG_OK, "%s: %s: %s", #expr, rag_status_name(hy_status_), err.message);                     \
  } while (0)

// Seeds one after the other: RAGD_TEST_SEED repeats one, RAGD_TEST_SECONDS goes on for so long.
static inline void hy_start(uint64_t seed) {
  hy_seed = seed;
  hy_state = seed;
  hy_step = 0;
  print_message("RAGD_TEST_SEED=%" PRIu64 "\n", seed);
}
static inline uint64_t hy_first_seed(void) {
  const char *given = getenv("RAGD_TEST_SEED");
  return given != NULL ? strtoull(given, NULL, 10) : (uint64_t)rag_clock_now_us() / 1000;
}
static inline bool hy_goes_on(uint64_t seed, uint64_t first, uint32_t seeds, uint64_t start_ns) {
  const char *seconds = getenv("RAGD_TEST_SECONDS");
  if (getenv("RAGD_TEST_SEED") != NULL) seeds = 1;
  if (seconds == NULL) return seed < first + seeds;
  return seed == first || rag_clock_monotonic_ns() - start_ns < strtoull(seconds, NULL, 10) * UINT64_C(1000000000);
}

// ---------------------------------------------------------------------------------------------- texts

// Words that stand alone: each is one token, here and in a query. The last ones are stop words of English.
static const char *const hy_words[] = {"river",  "rivers", "stone",         "running", "runs", "light", "green",
                                       "engine", "paper",  "cloudy",        "music",   "salt", "glass", "copper",
                                       "winter", "field",  "H\xC3\xA4user", "42",      "Haus", "the",   "of"};
// What is noise in texts: compounds, camelCase, versions, scripts without spaces, emoji, accents.
static const char *const hy_noise[] = {
    "readFile",         "main_loop.rs", "v1.2.3", "\xE5\x8C\x97\xE4\xBA\xAC\xE5\xA4\xA7\xE5\xAD\xA6",
    "\xF0\x9F\x98\x80", "caf\xC3\xA9",  "don't",  "-",
    "a@b.example"};
static const char *const hy_languages[HY_LANGUAGES] = {"", "de", "und"}; // of a document; the kb's is English

typedef struct hy_terms { // numbers of terms
  uint32_t *path, *extra;
  uint32_t path_count, extra_count;
} hy_terms;

typedef struct hy_text {
  rag_slice text;
  rag_span *spans;
  uint32_t chunks;
  float vectors[HY_CHUNKS_MAX][HY_DIMENSION]; // of the model
  float given[HY_CHUNKS_MAX][HY_DIMENSION];   // where the caller gives them
  bool has_given[HY_CHUNKS_MAX];
  hy_terms terms[HY_LANGUAGES][HY_CHUNKS_MAX];
} hy_text;

typedef struct hy_meta { // what `json` says, for the facets; -1: not there
  char json[256];
  int lang, n, price, on, tags, b;
} hy_meta;

typedef struct hy_pool {
  hy_text texts[HY_TEXTS];
  rag_slice titles[HY_TITLES];
  hy_terms title_terms[HY_LANGUAGES][HY_TITLES];
  hy_meta metas[HY_METAS];
  rag_slice terms[HY_TERMS_MAX];
  uint32_t term_count;
  rag_analyzer *analyzers[HY_LANGUAGES]; // as documents are analysed
  rag_embedder *embedder;
  rag_arena *arena; // all of the above
} hy_pool;
static hy_pool *hy;
static const rag_chunking hy_chunking = {RAG_CHUNK_FIXED, 16, 4};

static inline rag_slice hy_keep(rag_slice s) {
  char *copy = rag_arena_strndup(hy->arena, s.data, s.size);
  assert_non_null(copy);
  return rag_slice_of(copy, s.size);
}

static inline uint32_t hy_term(rag_slice term) {
  for (uint32_t i = 0; i < hy->term_count; i++)
    if (rag_slice_equal(hy->terms[i], term)) return i;
  assert_true(hy->term_count < HY_TERMS_MAX);
  hy->terms[hy->term_count] = hy_keep(term);
  return hy->term_count++;
}

static inline bool hy_take_term(void *context, const rag_token *token) {
  hy_terms *to = context;
  uint32_t term = hy_term(token->term);
  if (token->flags & RAG_TOKEN_EXTRA) to->extra[to->extra_count++] = term;
  else to->path[to->path_count++] = term;
  return true;
}

static inline hy_terms hy_analyse(uint32_t language, rag_slice text) {
  hy_terms out = {.path = rag_arena_calloc(hy->arena, text.size + 1, sizeof(uint32_t)),
                  .extra = rag_arena_calloc(hy->arena, 4 * text.size + 4, sizeof(uint32_t))};
  assert_true(out.path != NULL && out.extra != NULL);
  assert_int_equal(rag_analyzer_run(hy->analyzers[language], text, hy_take_term, &out), RAG_OK);
  return out;
}

static inline rag_slice hy_random_text(uint32_t words) {
  rag_buf out = {0};
  uint32_t kinds = 3 + hy_draw(RAG_COUNT_OF(hy_words) - 3); // few words in some texts: many of each
  for (uint32_t w = 0; w < words; w++) {
    const char *word = hy_draw(9) == 0 ? HY_PICK(hy_noise) : hy_words[(hy_draw(kinds) * hy_draw(kinds + 1)) % kinds];
    if (hy_draw(20) == 0) word = HY_PICK(hy_words);
    rag_buf_printf(&out, "%s%s", w == 0 ? "" : hy_draw(12) ? " " : hy_draw(2) ? ", " : ".\n\n", word);
  }
  rag_slice kept = hy_keep(rag_buf_slice(&out));
  rag_buf_free(&out);
  return kept;
}

static inline void hy_make_meta(hy_meta *m) {
  static const char *const langs[] = {"en", "de", "fr"};
  static const char *const tags[] = {"red", "green", "blue"};
  rag_buf out = {0};
  const char *comma = "";
  *m = (hy_meta){.lang = (int)hy_draw(4) - 1,
                 .n = hy_draw(5) ? (int)hy_draw(10) : -1,
                 .price = hy_draw(4) ? (int)hy_draw(12) : -1,
                 .on = (int)hy_draw(3) - 1,
                 .tags = hy_draw(4) ? (int)hy_draw(8) : -1,
                 .b = hy_draw(2) ? (int)hy_draw(4) : -1};
#define HY_FIELD(cond, ...)                                                                                            \
  if (cond) {                                                                                                          \
    rag_buf_append_str(&out, comma);                                                                                   \
    rag_buf_printf(&out, __VA_ARGS__);                                                                                 \
    comma = ",";                                                                                                       \
  }
  rag_buf_append_char(&out, '{');
  HY_FIELD(m->lang >= 0, "\"lang\":\"%s\"", langs[m->lang])
  HY_FIELD(m->lang < 0 && hy_draw(2), "\"lang\":null")
  HY_FIELD(m->n >= 0, "\"n\":%d", m->n)
  HY_FIELD(m->price >= 0, "\"price\":%.2f", m->price / 4.0)
  HY_FIELD(m->on >= 0, "\"on\":%s", m->on ? "true" : "false")
  if (m->tags >= 0) {
    HY_FIELD(true, "\"tags\":[")
    const char *between = "";
    for (int t = 0; t < 3; t++) {
      if (!(m->tags >> t & 1)) continue;
      rag_buf_printf(&out, "%s\"%s\"", between, tags[t]);
      between = ",";
    }
    rag_buf_append_char(&out, ']');
  }
  HY_FIELD(m->b >= 0, "\"a\":{\"b\":%d}", m->b)
  HY_FIELD(hy_draw(2), "\"at\":\"2024-0%u-01T10:00:00Z\"", 1 + hy_draw(9))
  HY_FIELD(hy_draw(3) == 0, "\"place\":{\"lat\":%u,\"lon\":%u}", hy_draw(60), hy_draw(60))
  HY_FIELD(hy_draw(3) == 0, "\"parts\":[{\"x\":%u,\"y\":1},{\"x\":%u,\"y\":2}]", hy_draw(3), hy_draw(3))
#undef HY_FIELD
  rag_buf_append_char(&out, '}');
  assert_true(out.size < sizeof m->json);
  snprintf(m->json, sizeof m->json, "%.*s", (int)out.size, out.data);
  rag_buf_free(&out);
}

static inline void hy_make_text(hy_text *t, uint32_t words) {
  rag_error err = {0};
  for (bool twice = true; twice;) { // none is there twice: a text tells its vectors
    t->text = hy_random_text(words++);
    twice = false;
    for (uint32_t i = 0; i < RAG_COUNT_OF(hy->texts); i++)
      twice |= &hy->texts[i] != t && rag_slice_equal(hy->texts[i].text, t->text);
  }
  rag_span *spans = NULL;
  HY_DO(rag_chunk_text(&hy_chunking, t->text, &spans, &t->chunks, &err));
  assert_true(t->chunks >= 1 && t->chunks <= HY_CHUNKS_MAX);
  t->spans = rag_arena_calloc(hy->arena, t->chunks, sizeof *spans);
  memcpy(t->spans, spans, t->chunks * sizeof *spans);
  rag_free(spans);
  for (uint32_t c = 0; c < t->chunks; c++) {
    rag_slice text = rag_slice_of(t->text.data + t->spans[c].start, t->spans[c].end - t->spans[c].start);
    HY_DO(rag_embedder_embed(hy->embedder, RAG_EMBED_DOCUMENT, &text, 1, t->vectors[c], &err));
    for (uint32_t i = 0; i < HY_DIMENSION; i++) t->given[c][i] = (float)((int)hy_draw(7) - 3);
    t->given[c][0] += 0.5f; // not of length 0
    t->has_given[c] = hy_draw(4) > 0;
    for (uint32_t l = 0; l < HY_LANGUAGES; l++) t->terms[l][c] = hy_analyse(l, text);
  }
}

// Of hy_seed. Texts 0..: one word to many, one chunk to many.
static inline void hy_pool_make(void) {
  rag_error err = {0};
  hy = calloc(1, sizeof *hy);
  assert_non_null(hy);
  assert_non_null(hy->arena = rag_arena_create(0));
  HY_DO(rag_embedder_open(S("hash-32"), &hy->embedder, &err));
  for (uint32_t l = 0; l < HY_LANGUAGES; l++) {
    HY_DO(rag_analyzer_open(S(l == 0 ? "en" : hy_languages[l]), &hy->analyzers[l], &err));
    for (uint32_t t = 0; t < HY_TITLES; t++) {
      if (l == 0 && t > 0) hy->titles[t] = hy_random_text(1 + t);
      hy->title_terms[l][t] = hy_analyse(l, hy->titles[t]);
    }
  }
  for (uint32_t t = 0; t < HY_TEXTS; t++) hy_make_text(&hy->texts[t], 1 + t % 7 * (1 + hy_draw(12)) + hy_draw(5));
  for (uint32_t m = 1; m < HY_METAS; m++) hy_make_meta(&hy->metas[m]);
  hy->metas[0] = (hy_meta){"", -1, -1, -1, -1, -1, -1};
}

static inline void hy_pool_free(void) {
  for (uint32_t l = 0; l < HY_LANGUAGES; l++) rag_analyzer_close(hy->analyzers[l]);
  rag_ref_drop(hy->embedder);
  rag_arena_destroy(hy->arena);
  free(hy);
  hy = NULL;
}

// ---------------------------------------------------------------------------------------------- a kb, its documents

typedef struct hy_world {
  char name[16];
  rag_kb *kb;
  bool given; // vectors come with the chunks, and some chunks have none
  rag_metric metric;
  uint32_t ids;
} hy_world;

static inline void hy_create(kb_fixture *f, hy_world *w) {
  rag_error err = {0};
  rag_kb_config config;
  rag_write write = {0};
  rag_kb_config_init(&config);
  memcpy(config.name, w->name, sizeof w->name);
  snprintf(config.model, sizeof config.model, "%s", w->given ? "" : "hash-32");
  snprintf(config.language, sizeof config.language, "en");
  config.dimension = HY_DIMENSION;
  config.metric = w->metric;
  config.chunking = hy_chunking;
  HY_DO(rag_kbs_create(f->kbs, &config, &write, &w->kb, &err));
}

typedef struct hy_doc { // a document by its parts in the pool
  uint32_t id, text, title, meta, language;
  uint32_t revision, first_chunk, chunks; // of a listed one
} hy_doc;

static inline hy_doc hy_random_doc(const hy_world *w) {
  return (hy_doc){.id = hy_draw(w->ids),
                  .text = hy_draw(HY_TEXTS),
                  .title = hy_draw(3) ? hy_draw(HY_TITLES) : 0,
                  .meta = hy_draw(HY_METAS),
                  .language = hy_draw(6) ? 0 : hy_draw(HY_LANGUAGES)};
}

typedef struct hy_input { // what a rag_document_input borrows
  char id[16];
  rag_chunk_input chunks[HY_CHUNKS_MAX];
} hy_input;

static inline void hy_fill_input(const hy_world *w, const hy_doc *doc, hy_input *buffer, rag_document_input *out) {
  const hy_text *t = &hy->texts[doc->text];
  snprintf(buffer->id, sizeof buffer->id, "d%u", doc->id);
  *out = (rag_document_input){.id = S(buffer->id),
                              .text = t->text,
                              .title = hy->titles[doc->title],
                              .metadata = S(hy->metas[doc->meta].json),
                              .language = S(hy_languages[doc->language])};
  if (!w->given) return;
  for (uint32_t c = 0; c < t->chunks; c++) {
    buffer->chunks[c] =
        (rag_chunk_input){.text = rag_slice_of(t->text.data + t->spans[c].start, t->spans[c].end - t->spans[c].start),
                          .vector = t->has_given[c] ? t->given[c] : NULL,
                          .vector_dimension = t->has_given[c] ? HY_DIMENSION : 0};
  }
  out->chunks = buffer->chunks;
  out->chunk_count = t->chunks;
}

// A version as it is listed.
typedef struct hy_version {
  uint64_t commit;
  hy_doc *docs; // in revision order
  uint32_t count, chunks;
} hy_version;

static inline uint32_t hy_find_text(rag_slice text) {
  for (uint32_t t = 0; t < HY_TEXTS; t++)
    if (rag_slice_equal(hy->texts[t].text, text)) return t;
  fail_msg("a text that nobody put: %.*s", (int)text.size, text.data);
  return 0;
}

static inline uint32_t hy_id_of(rag_slice id) { // "d12"
  uint32_t number = 0;
  for (size_t i = 1; i < id.size; i++) number = number * 10 + (uint32_t)(id.data[i] - '0');
  return number;
}

static inline hy_doc hy_doc_of(const rag_document *d) {
  hy_doc out = {.id = hy_id_of(d->id),
                .text = hy_find_text(d->text),
                .revision = d->revision,
                .first_chunk = d->first_chunk,
                .chunks = d->chunk_count};
  while (out.title < HY_TITLES && !rag_slice_equal(hy->titles[out.title], d->title)) out.title++;
  while (out.meta < HY_METAS && !rag_slice_equal(S(hy->metas[out.meta].json), d->metadata)) out.meta++;
  while (out.language < HY_LANGUAGES && !rag_slice_equal(S(hy_languages[out.language]), d->language)) out.language++;
  HY_CHECK(out.title < HY_TITLES && out.meta < HY_METAS && out.language < HY_LANGUAGES, "a document that nobody put");
  HY_CHECK(out.chunks == hy->texts[out.text].chunks, "%u chunks", out.chunks);
  return out;
}

// False: the ref is gone (gc, deleted).
static inline bool hy_list(rag_kb *kb, const char *ref, hy_version *out) {
  rag_error err = {0};
  rag_document *documents = NULL;
  uint32_t count = 0, next = 0;
  *out = (hy_version){0};
  rag_status status =
      rag_kb_documents(kb, S(ref), NULL, 0, RAG_LIST_LIMIT_MAX, &documents, &count, &next, &out->commit, &err);
  if (status == RAG_NOT_FOUND) return false;
  HY_DO(status);
  assert_int_equal(next, 0);
  out->docs = calloc(count + 1, sizeof *out->docs);
  out->count = count;
  for (uint32_t i = 0; i < count; i++) {
    out->docs[i] = hy_doc_of(&documents[i]);
    out->chunks += out->docs[i].chunks;
    rag_document_free(&documents[i]);
  }
  rag_free(documents);
  return true;
}

static inline void hy_version_free(hy_version *v) {
  free(v->docs);
  *v = (hy_version){0};
}

// ---------------------------------------------------------------------------------------------- queries

typedef struct hy_query {
  char text[512];
  rag_lexical_clause clauses[HY_ITEMS_MAX]; // what the text asks for
  rag_slice terms[HY_ITEMS_MAX][3];
  uint32_t count;
} hy_query;

static inline bool hy_take_one(void *context, const rag_token *token) {
  rag_token *out = context;
  *out = *token;
  out->term = hy_keep(token->term);
  return true;
}

// The one token of a word, as English has it.
static inline rag_token hy_token_of(rag_slice word) {
  rag_token token = {0};
  assert_int_equal(rag_analyzer_run(hy->analyzers[0], word, hy_take_one, &token), RAG_OK);
  return token;
}

// Words, +must, -not, "phrases", prefixes*, stop words, words that no text has.
static inline void hy_make_query(hy_query *q) {
  bool stop[HY_ITEMS_MAX] = {false};
  uint32_t items = 1 + hy_draw(HY_ITEMS_MAX), kept = 0;
  size_t used = 0;
  bool plain = hy_draw(3) == 0;
  memset(q, 0, sizeof *q);
  for (uint32_t i = 0; i < items; i++) {
    rag_lexical_clause *c = &q->clauses[i];
    uint32_t dice = plain ? 0 : hy_draw(20), words = dice >= 10 && dice < 15 ? 2 + hy_draw(2) : 1;
    char sign = plain || hy_draw(4) ? ' ' : hy_draw(2) ? '+' : '-';
    const char *phrase_of = NULL;
    *c = (rag_lexical_clause){.weight = 1, .term_count = words, .terms = q->terms[i]};
    c->occur = sign == '+' ? RAG_LEXICAL_MUST : sign == '-' ? RAG_LEXICAL_MUST_NOT : RAG_LEXICAL_SHOULD;
    if (words > 1) c->kind = RAG_LEXICAL_PHRASE;
    if (dice >= 15) c->kind = RAG_LEXICAL_PREFIX;
    if (sign == ' ') sign = '\0';
    if (i > 0) q->text[used++] = ' ';
    if (sign) q->text[used++] = sign;
    if (words > 1) q->text[used++] = '"';
    for (uint32_t j = 0; j < words; j++) {
      const char *word = hy_draw(25) == 0 ? "zebra" : HY_PICK(hy_words);
      if (sign && word[0] == '4') word = "river"; // no sign before a digit
      if (c->kind == RAG_LEXICAL_PREFIX) word = hy_words[hy_draw(16)];
      if (phrase_of == NULL) phrase_of = word;
      size_t size = strlen(word);
      if (c->kind == RAG_LEXICAL_PREFIX) size = 2 + hy_draw((uint32_t)size - 1);
      used += (size_t)snprintf(q->text + used, sizeof q->text - used, "%s%.*s", j > 0 ? " " : "", (int)size, word);
      rag_token token = hy_token_of(rag_slice_of(word, size));
      q->terms[i][j] = token.term;
      stop[i] = words == 1 && sign == '\0' && c->kind == RAG_LEXICAL_TERM && token.flags & RAG_TOKEN_STOP;
      if (c->kind != RAG_LEXICAL_PREFIX) continue;
      size_t shared = 0; // what the word and its stem have in common
      while (shared < size && shared < token.term.size && word[shared] == token.term.data[shared]) shared++;
      q->terms[i][j] = rag_slice_of(word, shared > 0 ? shared : size);
    }
    if (words > 1) q->text[used++] = '"';
    if (c->kind == RAG_LEXICAL_PREFIX) q->text[used++] = '*';
    kept += !stop[i] && c->occur != RAG_LEXICAL_MUST_NOT;
  }
  for (uint32_t i = 0; i < items; i++) { // stop words count where there is nothing else to look for
    if (stop[i] && kept > 0) continue;
    q->clauses[q->count++] = q->clauses[i]; // terms stay where they are
  }
}

// ---------------------------------------------------------------------------------------------- filters

static inline void hy_put_conditions(rag_buf *out, uint32_t depth);

static inline void hy_put_condition(rag_buf *out, uint32_t depth, uint32_t ids) {
  switch (hy_draw(depth < 2 ? 18 : 16)) {
  case 0:
  case 1:
    rag_buf_printf(out, "{\"key\":\"lang\",\"match\":{\"value\":\"%s\"}}", hy_draw(2) ? "en" : "de");
    return;
  case 2:
    rag_buf_append_str(out, "{\"key\":\"lang\",\"match\":{\"any\":[\"fr\",\"de\",\"xx\"]}}");
    return;
  case 3:
    rag_buf_append_str(out, "{\"key\":\"tags\",\"match\":{\"except\":[\"red\"]}}");
    return;
  case 4:
    rag_buf_printf(out, "{\"key\":\"n\",\"range\":{\"gte\":%u,\"lt\":%u}}", hy_draw(10), hy_draw(12));
    return;
  case 5:
    rag_buf_printf(out, "{\"key\":\"price\",\"range\":{\"%s\":%u.5}}", hy_draw(2) ? "gt" : "lte", hy_draw(3));
    return;
  case 6:
    rag_buf_printf(out, "{\"key\":\"on\",\"match\":{\"value\":%s}}", hy_draw(2) ? "true" : "false");
    return;
  case 7:
    rag_buf_printf(out, "{\"key\":\"tags%s\",\"match\":{\"value\":\"%s\"}}", hy_draw(2) ? "[]" : "",
                   hy_draw(2) ? "green" : "blue");
    return;
  case 8:
    rag_buf_printf(out, "{\"key\":\"at\",\"range\":{\"gt\":\"2024-0%u-01\"}}", 1 + hy_draw(9));
    return;
  case 9:
    rag_buf_printf(out, "{\"key\":\"a.b\",\"match\":{\"value\":%u}}", hy_draw(4));
    return;
  case 10:
    rag_buf_printf(out, "{\"%s\":{\"key\":\"%s\"}}", hy_draw(2) ? "is_empty" : "is_null", hy_draw(2) ? "lang" : "tags");
    return;
  case 11:
    rag_buf_printf(out, "{\"has_id\":[\"d%u\",\"d%u\",\"nobody\",\"d%u\"]}", hy_draw(ids), hy_draw(ids), hy_draw(ids));
    return;
  case 12:
    rag_buf_append_str(out,
                       "{\"key\":\"place\",\"geo_radius\":{\"center\":{\"lat\":20,\"lon\":20},\"radius\":2000000}}");
    return;
  case 13:
    rag_buf_printf(out,
                   "{\"nested\":{\"key\":\"parts[]\",\"filter\":{\"must\":[{\"key\":\"x\",\"match\":{\"value\":%u}},"
                   "{\"key\":\"y\",\"match\":{\"value\":%u}}]}}}",
                   hy_draw(3), 1 + hy_draw(2));
    return;
  case 14:
    rag_buf_printf(out, "{\"key\":\"lang\",\"match\":{\"text\":\"%s\"}}", hy_draw(2) ? "e" : "r");
    return;
  case 15:
    rag_buf_printf(out, "{\"key\":\"tags\",\"values_count\":{\"gte\":%u}}", hy_draw(4));
    return;
  default:
    hy_put_conditions(out, depth + 1);
  }
}

static uint32_t hy_filter_ids = 64; // documents that has_id draws from

static inline void hy_put_conditions(rag_buf *out, uint32_t depth) {
  static const char *const parts[] = {"must", "should", "must_not"};
  uint32_t part = hy_draw(3), count = 1 + hy_draw(3);
  rag_buf_printf(out, "{\"%s\":[", parts[part]);
  for (uint32_t i = 0; i < count; i++) {
    if (i > 0) rag_buf_append_char(out, ',');
    hy_put_condition(out, depth, hy_filter_ids);
  }
  rag_buf_append_char(out, ']');
  if (hy_draw(4) == 0) {
    rag_buf_printf(out, ",\"%s\":[", parts[(part + 1) % 3]);
    hy_put_condition(out, depth, hy_filter_ids);
    rag_buf_append_char(out, ']');
  }
  rag_buf_append_char(out, '}');
}

typedef struct hy_filter {
  rag_buf text;
  rag_arena *arena;
  const rag_filter *filter;
} hy_filter;

static inline void hy_filter_parse(hy_filter *out) {
  rag_error err = {0};
  assert_non_null(out->arena = rag_arena_create(0));
  HY_DO(rag_filter_parse(rag_buf_slice(&out->text), out->arena, &out->filter, &err));
}
static inline hy_filter hy_filter_of(const char *text) {
  hy_filter out = {0};
  rag_buf_append_str(&out.text, text);
  hy_filter_parse(&out);
  return out;
}
static inline hy_filter hy_random_filter(const hy_world *w) {
  hy_filter out = {0};
  hy_filter_ids = w->ids;
  hy_put_conditions(&out.text, 0);
  hy_filter_parse(&out);
  return out;
}
static inline void hy_filter_free(hy_filter *filter) {
  rag_buf_free(&filter->text);
  rag_arena_destroy(filter->arena);
  *filter = (hy_filter){0};
}

static inline bool hy_passes(const rag_filter *filter, const hy_doc *doc) {
  rag_error err = {0};
  char id[16];
  bool pass = true;
  snprintf(id, sizeof id, "d%u", doc->id);
  if (filter == NULL) return true;
  rag_json_parser *parser = rag_json_parser_acquire();
  assert_non_null(parser);
  HY_DO(rag_filter_match(filter, S(id), S(hy->metas[doc->meta].json), parser, &pass, &err));
  rag_json_parser_release(parser);
  return pass;
}

#endif
