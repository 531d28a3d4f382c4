// Words: texts to terms for the lexical index, and what BM25 needs to know of a version.
//
// The lexical index is derived from the stored texts and lives in memory. A commit appends the terms of its new chunks
// before it is published (put.c); the loader analyses the texts that were there (load.c). So no terms are stored: what
// an erasure must reach is the text alone, and another version of the analyser needs no migration.
//
// Threads: analysers are single-threaded and lent from a pool; words_lock of a kb guards the making of versions.
#include "kb/words_internal.h"

#include <stdlib.h>

// Idle analysers kept, of all languages together: half a megabyte each.
#define IDLE_ANALYZERS_MAX 32u
#define TERM_BLOCK_BYTES 65536u
// Leaves room for the title's: 4,096 bytes have fewer than 16,384 terms.
#define CHUNK_WORDS_MAX (RAG_LEXICAL_CHUNK_TERMS_MAX - 16384u)

// ---------------------------------------------------------------------------------------------- analysers

struct rag_kb__analyzer {
  rag_kb__analyzer *next;
  char language[RAG_LANGUAGE_TAG_MAX + 1];
  rag_analyzer *rules;
};

rag_analyzer *rag_kb__analyzer_rules(rag_kb__analyzer *analyzer) {
  return analyzer->rules;
}

static void analyzer_free(rag_kb__analyzer *analyzer) {
  rag_analyzer_close(analyzer->rules);
  rag_free(analyzer);
}

rag_status rag_kbs__analyzer_take(rag_kbs *kbs, rag_slice language, rag_kb__analyzer **out, rag_error *err) {
  if (language.size > RAG_LANGUAGE_TAG_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a language tag has at most %u characters", RAG_LANGUAGE_TAG_MAX);
  pthread_mutex_lock(&kbs->analyzers_lock);
  for (rag_kb__analyzer **at = &kbs->analyzers; *at != NULL; at = &(*at)->next) {
    rag_kb__analyzer *found = *at;
    if (!rag_slice_equal(rag_slice_str(found->language), language)) continue;
    *at = found->next;
    kbs->analyzers_idle--;
    pthread_mutex_unlock(&kbs->analyzers_lock);
    *out = found;
    return RAG_OK;
  }
  pthread_mutex_unlock(&kbs->analyzers_lock);
  rag_kb__analyzer *made = rag_calloc(1, sizeof *made);
  if (made == NULL) return rag_fail_no_memory(err, sizeof *made);
  rag_status status = rag_analyzer_open(language, &made->rules, err);
  if (status != RAG_OK) {
    rag_free(made);
    return status;
  }
  if (language.size > 0) memcpy(made->language, language.data, language.size);
  *out = made;
  return RAG_OK;
}

void rag_kbs__analyzer_give(rag_kbs *kbs, rag_kb__analyzer *analyzer) {
  if (analyzer == NULL) return;
  rag_kb__analyzer *oldest = NULL;
  pthread_mutex_lock(&kbs->analyzers_lock);
  analyzer->next = kbs->analyzers; // the newest first: its tables are warm
  kbs->analyzers = analyzer;
  if (++kbs->analyzers_idle > IDLE_ANALYZERS_MAX) {
    rag_kb__analyzer **at = &kbs->analyzers;
    while ((*at)->next != NULL) at = &(*at)->next;
    oldest = *at;
    *at = NULL;
    kbs->analyzers_idle--;
  }
  pthread_mutex_unlock(&kbs->analyzers_lock);
  if (oldest != NULL) analyzer_free(oldest);
}

void rag_kbs__analyzers_close(rag_kbs *kbs) {
  while (kbs->analyzers != NULL) {
    rag_kb__analyzer *next = kbs->analyzers->next;
    analyzer_free(kbs->analyzers);
    kbs->analyzers = next;
  }
}

rag_status rag_kb__analyzer_for(rag_kb *kb, rag_slice given, rag_slice language, rag_kb__analyzer **out,
                                rag_error *err) {
  if (given.size > 0) return rag_kbs__analyzer_take(kb->kbs, given, out, err);
  rag_status status = rag_kbs__analyzer_take(kb->kbs, language, out, err);
  // Of a kb that was made before its language was checked.
  if (status == RAG_INVALID_ARGUMENT) status = rag_kbs__analyzer_take(kb->kbs, rag_slice_str("und"), out, err);
  return status;
}

rag_status rag_kbs__language_check(rag_kbs *kbs, const rag_kb_config *config, rag_error *err) {
  rag_kb__analyzer *analyzer = NULL;
  rag_status status = rag_kbs__analyzer_take(kbs, rag_slice_str(config->language), &analyzer, err);
  rag_kbs__analyzer_give(kbs, analyzer);
  if (status == RAG_INVALID_ARGUMENT)
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "language",
                          "'%s' is no language tag; give one such as en, de or pt-BR (BCP 47), und for none",
                          config->language);
  return status;
}

// ---------------------------------------------------------------------------------------------- texts to terms

typedef struct term_list {
  rag_slice *items;
  uint32_t count, capacity;
} term_list;

typedef struct collector {
  rag_arena *arena;
  char *block; // where the next terms' bytes go
  size_t block_left;
  term_list path, extra;
  bool too_many;
} collector;

static bool list_add(rag_arena *arena, term_list *list, rag_slice term) {
  if (list->count == list->capacity) {
    uint32_t capacity = list->capacity ? list->capacity * 2 : 64;
    rag_slice *items = rag_arena_alloc(arena, capacity * sizeof *items);
    if (items == NULL) return false;
    if (list->count > 0) memcpy(items, list->items, list->count * sizeof *items);
    list->items = items;
    list->capacity = capacity;
  }
  list->items[list->count++] = term;
  return true;
}

static bool collect(void *context, const rag_token *token) {
  collector *c = context;
  if (token->term.size > c->block_left) {
    c->block = rag_arena_alloc(c->arena, TERM_BLOCK_BYTES);
    if (c->block == NULL) return false;
    c->block_left = TERM_BLOCK_BYTES;
  }
  rag_slice term = rag_slice_of(memcpy(c->block, token->term.data, token->term.size), token->term.size);
  c->block += term.size;
  c->block_left -= term.size;
  c->too_many = c->path.count + c->extra.count >= CHUNK_WORDS_MAX;
  if (c->too_many) return false;
  return list_add(c->arena, (token->flags & RAG_TOKEN_EXTRA) ? &c->extra : &c->path, term);
}

static rag_status analyse(rag_analyzer *rules, rag_slice text, collector *c, rag_error *err) {
  c->path = c->extra = (term_list){0};
  c->too_many = false;
  if (text.size == 0) return RAG_OK;
  rag_status status = rag_analyzer_run(rules, text, collect, c);
  if (status == RAG_CANCELLED && c->too_many)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a chunk has more than %u words; cut it into smaller ones",
                    CHUNK_WORDS_MAX);
  if (status == RAG_CANCELLED) return rag_fail_no_memory(err, TERM_BLOCK_BYTES);
  if (status != RAG_OK) return rag_fail(err, status, "a text of %zu bytes cannot be taken apart into words", text.size);
  return RAG_OK;
}

rag_status rag_kb__words_of(rag_analyzer *rules, rag_slice title, rag_slice body, const rag_span *spans, uint32_t count,
                            uint32_t stride, uint32_t first_ordinal, rag_arena *arena, rag_lexical_chunk *out,
                            rag_error *err) {
  collector c = {.arena = arena};
  RAG_TRY(analyse(rules, title, &c, err));
  term_list title_path = c.path, title_extra = c.extra;
  for (uint32_t i = 0; i < count; i++) {
    const rag_span *span = (const rag_span *)(const void *)((const char *)spans + (size_t)i * stride);
    RAG_TRY(analyse(rules, rag_slice_of(body.data + span->start, span->end - span->start), &c, err));
    out[i] = (rag_lexical_chunk){.ordinal = first_ordinal + i,
                                 .title_count = title_path.count,
                                 .title = title_path.items,
                                 .text_count = c.path.count,
                                 .text = c.path.items,
                                 .title_extra_count = title_extra.count,
                                 .title_extra = title_extra.items,
                                 .extra_count = c.extra.count,
                                 .extra = c.extra.items};
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- versions

void rag_kb__version_near(rag_kb *kb, rag_version *version, const rag_version *like) {
  pthread_mutex_lock(&kb->words_lock);
  rag_lexical_version *words = atomic_load_explicit(&like->words, memory_order_acquire);
  if (words == NULL) words = like->words_near;
  if (version->words_near == NULL) version->words_near = rag_ref_take(words);
  pthread_mutex_unlock(&kb->words_lock);
}

// Made at a version's first search for words, not in its commit: most commits are superseded before anybody asks.
rag_status rag_kb__version_words(rag_kb *kb, rag_version *version, const rag_lexical_view *view,
                                 const rag_lexical_version **out, rag_error *err) {
  rag_lexical_version *words = atomic_load_explicit(&version->words, memory_order_acquire);
  rag_status status = RAG_OK;
  if (words == NULL) {
    rag_lexical_version *near = NULL;
    pthread_mutex_lock(&kb->words_lock);
    words = atomic_load_explicit(&version->words, memory_order_relaxed);
    if (words == NULL) {
      status = rag_lexical_version_create(view, version->chunks, version->words_near, &words, err);
      if (status == RAG_OK) {
        near = version->words_near;
        version->words_near = NULL;
        atomic_store_explicit(&version->words, words, memory_order_release);
      }
    }
    pthread_mutex_unlock(&kb->words_lock);
    rag_ref_drop(near);
  }
  *out = words;
  return status;
}
