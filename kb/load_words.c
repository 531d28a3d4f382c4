// The loader's half for words: stored texts are read and taken apart by one thread and appended to the lexical index by
// another, as each takes about as long as the other. Batches go back and forth between them; there are two, so neither
// waits while the other works.
//
// Threads: the reader has the iterators, the analyser and whichever batch is free; the caller (under load_lock) has the
// full ones. `lock` guards the hand-over alone.
#include "kb/load_internal.h"

#include <pthread.h>

#define BATCH_CHUNKS 4096u
#define BATCH_BYTES ((size_t)8 << 20) // of terms, about
#define BATCHES 2

typedef struct batch {
  rag_arena *arena;
  rag_lexical_chunk *chunks;
  uint32_t count;
  bool full; // guarded by: lock
} batch;

typedef struct loader {
  rag_kb *kb;
  rag_kb__config_ref *config;
  rag_store_iter *chunks, *contents;
  uint32_t number; // of the content that `contents` stands on; 0: none
  rag_kb__content content;
  rag_kb__analyzer *analyzer;
  bool analyzer_own; // of a content's own language
  batch batches[BATCHES];
  pthread_mutex_t lock;
  pthread_cond_t changed;
  bool ended, stop;  // guarded by: lock: the reader has no more; the caller wants no more
  rag_status status; // of the reader; written before `ended`
  rag_error err;
} loader;

// ---------------------------------------------------------------------------------------------- the reader

// Contents and chunks are numbered together, so both scans go forward.
static rag_status go_to_content(loader *l, uint32_t wanted, rag_error *err) {
  if (l->number == wanted) return RAG_OK;
  while (l->number < wanted) {
    if (!rag_store_iter_next(l->contents)) {
      RAG_TRY(rag_store_iter_status(l->contents, err));
      break;
    }
    RAG_TRY(rag_kb__load_number(l->contents, RAG_CF_CONTENT, &l->number, err));
  }
  if (l->number != wanted)
    return rag_fail(err, RAG_DATA_LOSS, "content %u of knowledge base '%s' has chunks but is not there", wanted,
                    l->kb->name);
  if (!rag_kb__decode_content(rag_store_iter_value(l->contents), &l->content))
    return rag_kb__corrupt(err, RAG_CF_CONTENT, rag_store_iter_key(l->contents));
  bool own = l->content.language.size > 0;
  if (l->analyzer != NULL && !own && !l->analyzer_own) return RAG_OK; // the kb's, as before
  rag_kbs__analyzer_give(l->kb->kbs, l->analyzer);
  l->analyzer = NULL;
  l->analyzer_own = own;
  return rag_kb__analyzer_for(l->kb, l->content.language, rag_slice_str(l->config->config.language), &l->analyzer, err);
}

static rag_status fill(loader *l, batch *b, bool *more, rag_error *err) {
  while (b->count < BATCH_CHUNKS && rag_arena_used(b->arena) < BATCH_BYTES) {
    rag_kb__chunk chunk;
    uint32_t ordinal;
    *more = rag_store_iter_next(l->chunks);
    if (!*more) return rag_store_iter_status(l->chunks, err);
    RAG_TRY(rag_kb__load_chunk(l->chunks, &ordinal, &chunk, err));
    if (l->contents == NULL)
      RAG_TRY(rag_kb__load_scan(l->kb, RAG_CF_CONTENT, chunk.content, UINT32_MAX, &l->contents, err));
    RAG_TRY(go_to_content(l, chunk.content, err));
    if (chunk.end < chunk.start || chunk.end > l->content.body.size)
      return rag_kb__corrupt(err, RAG_CF_CHUNK, rag_store_iter_key(l->chunks));
    rag_span span = {chunk.start, chunk.end};
    RAG_TRY(rag_kb__words_of(rag_kb__analyzer_rules(l->analyzer), l->content.title, l->content.body, &span, 1,
                             sizeof span, ordinal, b->arena, &b->chunks[b->count], err));
    b->count++;
  }
  return RAG_OK;
}

static void *reader_run(void *arg) {
  loader *l = arg;
  bool more = true, stop = false;
  rag_status status = RAG_OK;
  for (unsigned i = 0; more && !stop && status == RAG_OK; i = (i + 1) % BATCHES) {
    batch *b = &l->batches[i];
    pthread_mutex_lock(&l->lock);
    while (b->full && !l->stop) pthread_cond_wait(&l->changed, &l->lock);
    stop = l->stop;
    pthread_mutex_unlock(&l->lock);
    if (stop) break;
    status = fill(l, b, &more, &l->err);
    pthread_mutex_lock(&l->lock);
    b->full = status == RAG_OK && b->count > 0;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
  }
  pthread_mutex_lock(&l->lock);
  l->status = status;
  l->ended = true;
  pthread_cond_signal(&l->changed);
  pthread_mutex_unlock(&l->lock);
  return NULL;
}

// ---------------------------------------------------------------------------------------------- the caller

static rag_status append(loader *l, batch *b, rag_error *err) {
  rag_kb *kb = l->kb;
  pthread_mutex_lock(&kb->index_lock);
  rag_status status = rag_lexical_append(kb->lexical, b->chunks, b->count, err);
  pthread_mutex_unlock(&kb->index_lock);
  if (status == RAG_OK) kb->words_next = b->chunks[b->count - 1].ordinal + 1;
  b->count = 0;
  rag_arena_reset(b->arena);
  return status;
}

// Batches in the order in which the reader fills them, until it has ended.
static rag_status append_all(loader *l, rag_error *err) {
  rag_status status = RAG_OK;
  for (unsigned i = 0;; i = (i + 1) % BATCHES) {
    batch *b = &l->batches[i];
    pthread_mutex_lock(&l->lock);
    while (!b->full && !l->ended) pthread_cond_wait(&l->changed, &l->lock);
    bool full = b->full;
    pthread_mutex_unlock(&l->lock);
    if (!full) return RAG_OK; // the end: what was full came before
    status = append(l, b, err);
    pthread_mutex_lock(&l->lock);
    b->full = false;
    l->stop = status != RAG_OK;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (status != RAG_OK) return status;
  }
}

static rag_status run(loader *l, rag_error *err) {
  pthread_t reader;
  int failed = pthread_create(&reader, NULL, reader_run, l);
  if (failed != 0)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "no thread can be had to load texts: %s", strerror(failed));
  rag_status status = append_all(l, err);
  pthread_join(reader, NULL);
  if (status == RAG_OK && l->status != RAG_OK) {
    status = l->status;
    if (err != NULL) *err = l->err;
  }
  return status;
}

rag_status rag_kb__load_words(rag_kb *kb, rag_error *err) {
  if (kb->words_next >= kb->load_limit) return RAG_OK;
  loader l = {.kb = kb, .config = rag_kb__config(kb)};
  rag_status status = RAG_OK;
  pthread_mutex_init(&l.lock, NULL);
  pthread_cond_init(&l.changed, NULL);
  for (int i = 0; i < BATCHES; i++) {
    l.batches[i].arena = rag_arena_create(0);
    l.batches[i].chunks = rag_calloc(BATCH_CHUNKS, sizeof *l.batches[i].chunks);
    if (l.batches[i].arena == NULL || l.batches[i].chunks == NULL) {
      status = rag_fail_no_memory(err, BATCH_CHUNKS * sizeof *l.batches[i].chunks);
      goto out;
    }
  }
  RAG_TRY_OUT(rag_kb__load_scan(kb, RAG_CF_CHUNK, kb->words_next, kb->load_limit, &l.chunks, err));
  status = run(&l, err);
out:
  rag_store_iter_close(l.chunks);
  rag_store_iter_close(l.contents);
  rag_kbs__analyzer_give(kb->kbs, l.analyzer);
  for (int i = 0; i < BATCHES; i++) {
    rag_free(l.batches[i].chunks);
    rag_arena_destroy(l.batches[i].arena);
  }
  pthread_cond_destroy(&l.changed);
  pthread_mutex_destroy(&l.lock);
  rag_ref_drop(l.config);
  return status;
}
