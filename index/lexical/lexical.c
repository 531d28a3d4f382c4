// The lexical index as its callers see it: options, append, remove, views, and the memory that old views hold.
//
// Invariants
//   1. A published view never changes. The cell holds the newest one.
//   2. A failed append or remove publishes nothing, and no list, length or sequence that a view names has changed.
//      (Terms that it brought stay in the dictionary, without postings, until the lists are written anew.)
//   3. A row's length and sequence are written before the first posting of the row can be met.
//   4. Garbage is freed when the views that could have met it are gone: see lexical_internal.h.
// Threads: create, append, remove and destroy are the one writer's; pin and stats are anyone's and lock-free; what
// takes a view is anyone's who pinned it.
#include "index/lexical/lexical_internal.h"

#define REBUILD_SHARE 5u // removed rows may be a fifth of all that the lists hold, and REBUILD_ROWS_MIN
#define REBUILD_ROWS_MIN 16u

struct rag_lexical {
  lex_shared *shared; // owned reference
  rag_cell newest;    // written by the one writer; readers take references
  uint32_t stamp;     // of chunks and batches: lex_term
};

// ---------------------------------------------------------------------------------------------- memory

rag_status rag_lexical__alloc(lex_shared *shared, _Atomic uint64_t *sum, size_t bytes, void *out, rag_error *err) {
  uint64_t before = atomic_fetch_add_explicit(&shared->bytes, bytes, memory_order_relaxed);
  void *p = NULL;
  if (shared->bytes_max > 0 && before + bytes > shared->bytes_max && !shared->unbounded) {
    atomic_fetch_sub_explicit(&shared->bytes, bytes, memory_order_relaxed);
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED,
                    "the lexical index uses all of the %llu bytes of memory it may use: raise the limit, or remove "
                    "chunks",
                    (unsigned long long)shared->bytes_max);
  }
  p = rag_alloc(bytes);
  if (!p) {
    atomic_fetch_sub_explicit(&shared->bytes, bytes, memory_order_relaxed);
    return rag_fail_no_memory(err, bytes);
  }
  if (sum) atomic_fetch_add_explicit(sum, bytes, memory_order_relaxed);
  memcpy(out, &p, sizeof p);
  return RAG_OK;
}

void rag_lexical__free(lex_shared *shared, _Atomic uint64_t *sum, void *p, size_t bytes) {
  if (!p) return;
  atomic_fetch_sub_explicit(&shared->bytes, bytes, memory_order_relaxed);
  if (sum) atomic_fetch_sub_explicit(sum, bytes, memory_order_relaxed);
  rag_free(p);
}

rag_status rag_lexical__retire_room(lex_retired *retired, uint32_t extra, rag_error *err) {
  // Rooms add up: each caller's is kept until it is used, as count does not move before apply.
  if (retired->capacity - retired->count >= extra + retired->reserved) {
    retired->reserved += extra;
    return RAG_OK;
  }
  uint32_t capacity = RAG_MAX(64u, 2 * (retired->count + retired->reserved + extra));
  lex_garbage *grown = rag_realloc_array(retired->items, capacity, sizeof *grown);
  if (!grown) return rag_fail_no_memory(err, capacity * sizeof *grown);
  retired->items = grown;
  retired->capacity = capacity;
  retired->reserved += extra;
  return RAG_OK;
}

void rag_lexical__retire(lex_retired *retired, _Atomic uint64_t *sum, void *p, size_t bytes) {
  if (!p) return;
  RAG_ASSERT(retired->count < retired->capacity);
  retired->items[retired->count++] = (lex_garbage){p, bytes, sum};
  if (retired->reserved > 0) retired->reserved--;
}

static lex_epoch *epoch_create(lex_shared *shared) {
  lex_epoch *epoch = rag_calloc(1, sizeof *epoch);
  if (!epoch) return NULL;
  atomic_init(&epoch->refs, 1);
  epoch->shared = rag_ref_take(shared);
  return epoch;
}

// A loop and not a recursion: a view that was pinned for long may be the last holder of thousands of epochs.
static void epoch_drop(lex_epoch *epoch) {
  while (epoch && atomic_fetch_sub_explicit(&epoch->refs, 1, memory_order_acq_rel) == 1) {
    lex_epoch *next = epoch->next;
    for (uint32_t i = 0; i < epoch->count; i++) {
      rag_lexical__free(epoch->shared, epoch->items[i].sum, epoch->items[i].p, epoch->items[i].bytes);
    }
    rag_free(epoch->items);
    rag_ref_drop(epoch->shared);
    rag_free(epoch);
    epoch = next;
  }
}

static void shared_destroy(rag_ref *self) {
  lex_shared *shared = (lex_shared *)self;
  for (uint32_t i = 0; i < shared->leftover.count; i++) {
    lex_garbage *item = &shared->leftover.items[i];
    rag_lexical__free(shared, item->sum, item->p, item->bytes);
  }
  rag_free(shared->leftover.items);
  rag_free(shared);
}

// ---------------------------------------------------------------------------------------------- views

static void view_destroy(rag_ref *self) {
  rag_lexical_view *view = (rag_lexical_view *)self;
  rag_ref_drop(view->core);
  rag_ref_drop(view->present);
  epoch_drop(view->epoch);
  rag_free(view);
}

// Takes over the references `core` and `present`, also on failure.
static rag_status view_create(lex_shared *shared, lex_core *core, rag_bitmap *present, rag_lexical_view **out,
                              rag_error *err) {
  rag_lexical_view *view = rag_calloc(1, sizeof *view);
  lex_epoch *epoch = view ? epoch_create(shared) : NULL;
  if (!epoch) {
    rag_free(view);
    rag_ref_drop(core);
    rag_ref_drop(present);
    return rag_fail_no_memory(err, sizeof *view);
  }
  rag_ref_init(&view->ref, view_destroy);
  view->core = core;
  view->present = present;
  view->epoch = epoch;
  *out = view;
  return RAG_OK;
}

// Hands what `next` replaces to the epoch of `newest`, and shows `next` to readers. Drops the caller's `newest`.
static void publish(rag_lexical *lexical, rag_lexical_view *newest, rag_lexical_view *next, lex_retired *retired) {
  newest->epoch->items = retired->items;
  newest->epoch->count = retired->count;
  atomic_fetch_add_explicit(&next->epoch->refs, 1, memory_order_relaxed);
  newest->epoch->next = next->epoch;
  *retired = (lex_retired){0};
  rag_cell_set(&lexical->newest, next);
  rag_ref_drop(newest);
}

rag_status rag_lexical_create(const rag_lexical_options *options, rag_lexical **out, rag_error *err) {
  rag_status status = RAG_OK;
  lex_core *core = NULL;
  rag_bitmap *present = NULL;
  rag_lexical_view *empty = NULL;
  if (options->title_weight == 0 || options->title_weight > RAG_LEXICAL_TITLE_WEIGHT_MAX) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "title_weight", "the title's weight is %u: it must be 1 to %u",
                          options->title_weight, RAG_LEXICAL_TITLE_WEIGHT_MAX);
  }
  rag_lexical *lexical = rag_calloc(1, sizeof *lexical);
  lex_shared *shared = lexical ? rag_calloc(1, sizeof *shared) : NULL;
  if (!shared) {
    rag_free(lexical);
    return rag_fail_no_memory(err, sizeof *lexical + sizeof *shared);
  }
  rag_ref_init(&shared->ref, shared_destroy);
  shared->title_weight = options->title_weight;
  shared->keep_sequences = options->keep_sequences;
  shared->bytes_max = options->memory_bytes_max;
  lexical->shared = shared;
  RAG_TRY_OUT(rag_lexical__core_create(shared, 1, &core, err));
  RAG_TRY_OUT(rag_lexical__dictionary_create(shared, &core->dictionary, err));
  present = rag_bitmap_empty();
  if (!present) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  RAG_TRY_OUT(view_create(shared, rag_ref_take(core), present, &empty, err));
  rag_cell_init(&lexical->newest, empty);
  *out = lexical;
  lexical = NULL;
out:
  rag_ref_drop(core);
  if (lexical) {
    rag_ref_drop(shared);
    rag_free(lexical);
  }
  return status;
}

void rag_lexical_destroy(rag_lexical *lexical) {
  if (!lexical) return;
  rag_cell_set(&lexical->newest, NULL);
  rag_ref_drop(lexical->shared);
  rag_free(lexical);
}

rag_lexical_view *rag_lexical_pin(rag_lexical *lexical) {
  return rag_cell_get(&lexical->newest);
}

const rag_bitmap *rag_lexical_view_present(const rag_lexical_view *view) {
  return view->present;
}

uint32_t rag_lexical_view_length(const rag_lexical_view *view, uint32_t ordinal) {
  return rag_bitmap_has(view->present, ordinal) ? lex_length1(lex_core_pages(view->core), ordinal) - 1 : 0;
}

void rag_lexical_stats_get(rag_lexical *lexical, rag_lexical_stats *out) {
  lex_shared *shared = lexical->shared;
  rag_lexical_view *view = rag_lexical_pin(lexical);
  *out = (rag_lexical_stats){
      .chunks = rag_bitmap_count(view->present),
      .terms = rag_lexical__dictionary_terms(view->core->dictionary),
      .postings = atomic_load_explicit(&shared->postings, memory_order_relaxed),
      .bytes = atomic_load_explicit(&shared->bytes, memory_order_relaxed),
      .postings_bytes = atomic_load_explicit(&shared->postings_bytes, memory_order_relaxed),
      .dictionary_bytes = atomic_load_explicit(&shared->dictionary_bytes, memory_order_relaxed),
      .sequence_bytes = atomic_load_explicit(&shared->sequence_bytes, memory_order_relaxed),
      .rebuilds = atomic_load_explicit(&shared->rebuilds, memory_order_relaxed),
  };
  rag_ref_drop(view);
}

// ---------------------------------------------------------------------------------------------- append

// The postings of one call: first by chunk, then by term.
typedef struct posting {
  uint32_t run; // of its term
  uint32_t ordinal;
  uint32_t tf;
} posting;
typedef struct batch {
  rag_lexical *lexical;
  lex_core *core;
  lex_retired retired;
  posting *postings;
  uint32_t posting_count;
  uint32_t posting_capacity;
  lex_change *changes; // one for each run, which is one for each term of the call
  uint32_t change_count;
  uint32_t change_capacity;
  lex_entry *entries;
  rag_buf sequence;
  uint32_t batch_stamp;
  uint32_t chunk_stamp; // of the chunk at hand, as is the next one
  uint32_t ordinal;
  uint32_t chunks_kept; // whose length (and sequence) stand in their page
} batch;

static uint32_t next_stamp(rag_lexical *lexical, const lex_dictionary *dictionary) {
  if (++lexical->stamp > 0) return lexical->stamp;
  // Once in four thousand million chunks: the old stamps could be met again.
  for (uint32_t term = 0; term < rag_lexical__dictionary_count(dictionary); term++) {
    lex_term *entry = rag_lexical__dictionary_term(dictionary, term);
    entry->chunk_stamp = entry->batch_stamp = 0;
  }
  return lexical->stamp = 1;
}

static rag_status grow(void *array, uint32_t *capacity, uint32_t count, size_t size, rag_error *err) {
  void *old, *fresh;
  if (count < *capacity) return RAG_OK;
  if (count > UINT32_MAX / 4)
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "too many postings: append fewer chunks at once");
  uint32_t wanted = RAG_MAX(256u, count * 2);
  memcpy(&old, array, sizeof old);
  fresh = rag_realloc_array(old, wanted, size);
  if (!fresh) return rag_fail_no_memory(err, wanted * size);
  memcpy(array, &fresh, sizeof fresh);
  *capacity = wanted;
  return RAG_OK;
}

// `term`: the text's number where it was found. Terms on a path go into the sequence, and those beside it do not.
static rag_status add_term(batch *b, rag_slice text, uint32_t term, uint32_t weight, bool path, rag_error *err) {
  lex_shared *shared = b->lexical->shared;
  if (text.size == 0 || text.size > RAG_LEXICAL_TERM_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a term of chunk %u has %zu bytes: it must have 1 to %u", b->ordinal,
                    text.size, RAG_LEXICAL_TERM_MAX);
  }
  if (term == LEX_NO_TERM) {
    RAG_TRY(rag_lexical__dictionary_add(b->core->dictionary, text, &b->retired, &term, err));
  }
  lex_term *entry = rag_lexical__dictionary_term(b->core->dictionary, term);
  if (entry->batch_stamp != b->batch_stamp) {
    RAG_TRY(grow(&b->changes, &b->change_capacity, b->change_count, sizeof *b->changes, err));
    entry->batch_stamp = b->batch_stamp;
    entry->run = b->change_count;
    b->changes[b->change_count++] = (lex_change){.term = term};
  }
  if (entry->chunk_stamp != b->chunk_stamp) {
    RAG_TRY(grow(&b->postings, &b->posting_capacity, b->posting_count, sizeof *b->postings, err));
    entry->chunk_stamp = b->chunk_stamp;
    entry->posting = b->posting_count;
    b->postings[b->posting_count++] = (posting){entry->run, b->ordinal, 0};
    b->changes[entry->run].count++;
  }
  b->postings[entry->posting].tf += weight;
  if (path && shared->keep_sequences) rag_buf_append_varint(&b->sequence, (uint64_t)term + 1);
  return RAG_OK;
}

static rag_status add_terms(batch *b, const rag_slice *terms, uint32_t count, uint32_t weight, bool path,
                            rag_error *err) {
  uint32_t numbers[LEX_AHEAD];
  for (uint32_t at = 0, some; at < count; at += some) {
    some = RAG_MIN(count - at, LEX_AHEAD);
    rag_lexical__dictionary_find_some(b->core->dictionary, terms + at, some, numbers);
    for (uint32_t i = 0; i < some; i++) RAG_TRY(add_term(b, terms[at + i], numbers[i], weight, path, err));
  }
  return RAG_OK;
}

// A sequence: u32 size of the rest; the text's terms as varints of number + 1; where there is a title, 0 and its terms.
static rag_status add_chunk(batch *b, const rag_lexical_chunk *chunk, rag_error *err) {
  lex_shared *shared = b->lexical->shared;
  uint32_t at = chunk->ordinal & (LEX_PAGE - 1), heavy = shared->title_weight;
  uint64_t all = (uint64_t)chunk->title_count + chunk->text_count + chunk->extra_count + chunk->title_extra_count;
  if (all > RAG_LEXICAL_CHUNK_TERMS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "chunk %u has %llu terms: at most %u", chunk->ordinal,
                    (unsigned long long)all, RAG_LEXICAL_CHUNK_TERMS_MAX);
  }
  b->ordinal = chunk->ordinal;
  b->chunk_stamp = next_stamp(b->lexical, b->core->dictionary);
  rag_buf_clear(&b->sequence);
  RAG_TRY(add_terms(b, chunk->text, chunk->text_count, 1, true, err));
  if (shared->keep_sequences && chunk->title_count > 0) rag_buf_append_varint(&b->sequence, 0);
  RAG_TRY(add_terms(b, chunk->title, chunk->title_count, heavy, true, err));
  RAG_TRY(add_terms(b, chunk->extra, chunk->extra_count, 1, false, err));
  RAG_TRY(add_terms(b, chunk->title_extra, chunk->title_extra_count, heavy, false, err));
  RAG_TRY(rag_lexical__core_page(b->core, chunk->ordinal, err));
  lex_page *page = lex_pages_at(lex_core_pages(b->core), chunk->ordinal);
  if (shared->keep_sequences) {
    uint32_t size = (uint32_t)b->sequence.size;
    RAG_TRY(rag_buf_check(&b->sequence, err));
    RAG_TRY(rag_lexical__alloc(shared, &shared->sequence_bytes, sizeof size + size, &page->sequences[at], err));
    memcpy(page->sequences[at], &size, sizeof size);
    if (size > 0) memcpy(page->sequences[at] + sizeof size, b->sequence.data, size);
  }
  page->length1[at] = 1 + chunk->text_count + chunk->title_count * heavy;
  b->chunks_kept++;
  return RAG_OK;
}

// Takes lengths and sequences back out of the pages. Nobody has read them: no posting led there.
static void forget_chunks(batch *b, const rag_lexical_chunk *chunks) {
  lex_shared *shared = b->lexical->shared;
  for (uint32_t i = 0; i < b->chunks_kept; i++) {
    lex_page *page = lex_pages_at(lex_core_pages(b->core), chunks[i].ordinal);
    uint32_t at = chunks[i].ordinal & (LEX_PAGE - 1), size;
    if (page->sequences) {
      memcpy(&size, page->sequences[at], sizeof size);
      rag_lexical__free(shared, &shared->sequence_bytes, page->sequences[at], sizeof size + size);
      page->sequences[at] = NULL;
    }
    page->length1[at] = 0;
  }
}

// Entries by term, each term's in the order of the chunks.
static rag_status group(batch *b, rag_error *err) {
  b->entries = rag_alloc(RAG_MAX(1u, b->posting_count) * sizeof(lex_entry));
  if (!b->entries) return rag_fail_no_memory(err, b->posting_count * sizeof(lex_entry));
  lex_entry *at = b->entries;
  for (uint32_t i = 0; i < b->change_count; i++) {
    b->changes[i].entries = at;
    at += b->changes[i].count;
    b->changes[i].count = 0;
  }
  for (uint32_t i = 0; i < b->posting_count; i++) {
    lex_change *change = &b->changes[b->postings[i].run];
    change->entries[change->count++] = (lex_entry){b->postings[i].ordinal, b->postings[i].tf};
  }
  return RAG_OK;
}

static rag_status present_after(const rag_bitmap *present, const rag_lexical_chunk *chunks, uint32_t count,
                                rag_bitmap **out, rag_error *err) {
  rag_bitmap_edit *edit = rag_bitmap_edit_create(present);
  if (!edit) return rag_fail_no_memory(err, 0);
  rag_status status = RAG_OK;
  for (uint32_t i = 0, run; status == RAG_OK && i < count; i += run) {
    for (run = 1; i + run < count && chunks[i + run].ordinal == chunks[i].ordinal + run;) run++;
    status = rag_bitmap_edit_add_range(edit, chunks[i].ordinal, run);
  }
  if (status == RAG_OK) {
    status = rag_bitmap_edit_finish(edit, out);
  } else {
    rag_bitmap_edit_destroy(edit);
  }
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// A view of lists that have the present rows alone, published.
static rag_status rebuild(rag_lexical *lexical, rag_lexical_view *newest, const rag_bitmap *present, rag_error *err) {
  lex_core *core = NULL;
  rag_lexical_view *next = NULL;
  lex_retired none = {0};
  lexical->shared->unbounded = true;
  rag_status status = rag_lexical__core_rebuild(newest->core, present, &core, err);
  lexical->shared->unbounded = false;
  RAG_TRY(status);
  RAG_TRY(view_create(lexical->shared, core, rag_ref_take((void *)(uintptr_t)present), &next, err));
  publish(lexical, rag_ref_take(newest), next, &none);
  return RAG_OK;
}

// Order and novelty; *stale: an ordinal whose old row is still in the lists.
static rag_status check_ordinals(const rag_lexical_view *newest, const rag_lexical_chunk *chunks, uint32_t count,
                                 bool *stale, rag_error *err) {
  const lex_pages *pages = lex_core_pages(newest->core);
  *stale = false;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t ordinal = chunks[i].ordinal;
    if (i > 0 && ordinal <= chunks[i - 1].ordinal) {
      return rag_fail(err, RAG_INVALID_ARGUMENT, "chunks must be appended in ascending order: ordinal %u after %u",
                      ordinal, chunks[i - 1].ordinal);
    }
    if (rag_bitmap_has(newest->present, ordinal)) {
      return rag_fail(err, RAG_ALREADY_EXISTS, "ordinal %u has a row already, and rows do not change", ordinal);
    }
    *stale |= lex_length1(pages, ordinal) != 0;
  }
  return RAG_OK;
}

static void batch_free(batch *b) {
  rag_free(b->postings);
  rag_free(b->changes);
  rag_free(b->entries);
  rag_buf_free(&b->sequence);
  rag_free(b->retired.items);
}

rag_status rag_lexical_append(rag_lexical *lexical, const rag_lexical_chunk *chunks, uint32_t count, rag_error *err) {
  rag_status status = RAG_OK;
  rag_bitmap *present = NULL;
  rag_lexical_view *next = NULL;
  lex_shared *shared = lexical->shared;
  batch b = {.lexical = lexical};
  bool stale;
  if (count == 0) return RAG_OK;
  b.retired = shared->leftover;
  shared->leftover = (lex_retired){0};
  rag_lexical_view *newest = rag_lexical_pin(lexical);
  RAG_TRY_OUT(check_ordinals(newest, chunks, count, &stale, err));
  if (stale) {
    RAG_TRY_OUT(rebuild(lexical, newest, newest->present, err));
    rag_ref_drop(newest);
    newest = rag_lexical_pin(lexical);
  }
  b.core = newest->core;
  b.batch_stamp = next_stamp(lexical, b.core->dictionary);
  RAG_TRY_OUT(rag_lexical__core_room(b.core, chunks[count - 1].ordinal, &b.retired, err));
  for (uint32_t i = 0; i < count; i++) RAG_TRY_OUT(add_chunk(&b, &chunks[i], err));
  RAG_TRY_OUT(rag_lexical__core_slots(b.core, rag_lexical__dictionary_count(b.core->dictionary), err));
  RAG_TRY_OUT(group(&b, err));
  RAG_TRY_OUT(present_after(newest->present, chunks, count, &present, err));
  RAG_TRY_OUT(view_create(shared, rag_ref_take(b.core), present, &next, err));
  RAG_TRY_OUT(rag_lexical__changes_prepare(b.core, b.changes, b.change_count, &b.retired, err));
  // From here on nothing fails.
  rag_lexical__changes_apply(b.core, b.changes, b.change_count, &b.retired);
  b.core->rows += count;
  b.chunks_kept = 0;
  rag_lexical__dictionary_sort(b.core->dictionary, &b.retired);
  publish(lexical, newest, next, &b.retired);
  newest = NULL;
out:
  if (status != RAG_OK) {
    forget_chunks(&b, chunks);
    rag_ref_drop(next);
    // What it replaced in earnest (an outgrown table of terms or pages) may have readers: the next append hands it on.
    b.retired.reserved = 0;
    shared->leftover = b.retired;
    b.retired = (lex_retired){0};
  }
  batch_free(&b);
  rag_ref_drop(newest);
  return status;
}

// ---------------------------------------------------------------------------------------------- remove

rag_status rag_lexical_remove(rag_lexical *lexical, const rag_bitmap *ordinals, rag_error *err) {
  rag_status status = RAG_OK;
  rag_bitmap *present = NULL;
  rag_lexical_view *next = NULL;
  lex_retired none = {0};
  rag_lexical_view *newest = rag_lexical_pin(lexical);
  if (rag_bitmap_and_count(newest->present, ordinals) == 0) goto out;
  if (rag_bitmap_andnot(newest->present, ordinals, &present) != RAG_OK) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  uint64_t left = rag_bitmap_count(present), gone = newest->core->rows - left;
  if ((left == 0 || gone >= REBUILD_ROWS_MIN) && gone * REBUILD_SHARE >= newest->core->rows) {
    // Without memory for it the rows are taken out of the bitmap alone, and the lists at a later removal.
    if (rebuild(lexical, newest, present, NULL) == RAG_OK) goto out;
  }
  RAG_TRY_OUT(view_create(lexical->shared, rag_ref_take(newest->core), rag_ref_take(present), &next, err));
  publish(lexical, newest, next, &none);
  newest = NULL;
out:
  rag_ref_drop(present);
  rag_ref_drop(newest);
  return status;
}
