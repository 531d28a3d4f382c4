// Phrases and prefixes: turned into plain lists before the search begins, which then treats them as any list.
//
// A phrase is the intersection of its terms' lists, the shortest leading, under the filter; each candidate is verified
// against its sequence of terms, kept here or asked for from the caller. A prefix is the union of its expansions over
// the version's live set (its document frequency is a number of the version, not of the filter), added up term by term
// in pages of sums, so that its memory is bounded by the ordinals and not by the postings.
#include "index/lexical/lexical_internal.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define GATHER_CHECK 64u // steps, or lists, between two looks at the clock
#define GATHER_BATCH 32u // sequences fetched together: 4 KiB of first lines

typedef struct growing {
  uint32_t *ordinals;
  uint32_t *tfs;
  uint32_t count;
  uint32_t capacity;
} growing;

static rag_status add(growing *list, uint32_t ordinal, uint32_t tf, rag_error *err) {
  if (list->count == list->capacity) {
    uint32_t capacity = RAG_MAX(256u, list->capacity * 2);
    uint32_t *ordinals = rag_realloc_array(list->ordinals, capacity, sizeof *ordinals);
    if (!ordinals) return rag_fail_no_memory(err, capacity * sizeof *ordinals);
    list->ordinals = ordinals;
    uint32_t *tfs = rag_realloc_array(list->tfs, capacity, sizeof *tfs);
    if (!tfs) return rag_fail_no_memory(err, capacity * sizeof *tfs);
    list->tfs = tfs;
    list->capacity = capacity;
  }
  list->ordinals[list->count] = ordinal;
  list->tfs[list->count++] = RAG_MIN(tf, LEX_TF_MAX);
  return RAG_OK;
}

void rag_lexical__gathered_free(lex_gathered *gathered) {
  rag_free(gathered->ordinals);
  rag_free(gathered->tfs);
  rag_free(gathered->headers);
}

// Takes over the list's arrays where it succeeds.
static rag_status finish(lex_context *context, growing *list, lex_gathered *out, rag_error *err) {
  uint32_t blocks = (list->count + LEX_BLOCK - 1) / LEX_BLOCK;
  lex_block *headers = rag_alloc(RAG_MAX(1u, blocks) * sizeof(lex_block));
  if (!headers) return rag_fail_no_memory(err, blocks * sizeof(lex_block));
  *out = (lex_gathered){.ordinals = list->ordinals, .tfs = list->tfs, .headers = headers, .count = list->count};
  *list = (growing){0};
  for (uint32_t b = 0; b < blocks; b++) {
    lex_entry entries[LEX_BLOCK];
    uint32_t lengths[LEX_BLOCK], count = RAG_MIN(LEX_BLOCK, out->count - b * LEX_BLOCK);
    for (uint32_t i = 0; i < count; i++) {
      entries[i] = (lex_entry){out->ordinals[b * LEX_BLOCK + i], out->tfs[b * LEX_BLOCK + i]};
      lengths[i] = lex_length1(context->pages, entries[i].ordinal) - 1;
    }
    out->headers[b] = (lex_block){.first = entries[0].ordinal, .last = entries[count - 1].ordinal};
    rag_lexical__block_front(entries, lengths, count, &out->headers[b]);
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- phrases

// A phrase as the bytes that it has in a sequence (lexical.c): the varints of its terms' numbers + 1.
typedef struct needle {
  uint8_t bytes[RAG_LEXICAL_PHRASE_MAX * 5];
  size_t size;
} needle;

static void needle_make(const uint32_t *terms, uint32_t count, needle *out) {
  out->size = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t value = (uint64_t)terms[i] + 1;
    for (; value >= 0x80; value >>= 7) out->bytes[out->size++] = (uint8_t)(value | 0x80);
    out->bytes[out->size++] = (uint8_t)value;
  }
}

static inline bool matches_at(const needle *n, const uint8_t *p, const uint8_t *begin) {
  return (p == begin || p[-1] < 0x80) && memcmp(p, n->bytes, n->size) == 0;
}

// Occurrences in [begin, end), those that overlap included. The needle ends a varint, so it need only begin one: the
// byte before it, if any, ends one too. Places are first sieved 16 at a time by the needle's first and last bytes:
// reading varint by varint took six times as long where both words are frequent.
static uint32_t count_bytes(const needle *n, const uint8_t *begin, const uint8_t *end) {
  uint32_t found = 0;
  if ((size_t)(end - begin) < n->size) return 0;
  const uint8_t *p = begin, *stop = end - n->size + 1; // places are [begin, stop)
#if defined(__SSE2__)
  const __m128i first = _mm_set1_epi8((char)n->bytes[0]), last = _mm_set1_epi8((char)n->bytes[n->size - 1]);
  for (; stop - p >= 16; p += 16) {
    __m128i heads = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i tails = _mm_loadu_si128((const __m128i *)(const void *)(p + n->size - 1));
    __m128i both = _mm_and_si128(_mm_cmpeq_epi8(heads, first), _mm_cmpeq_epi8(tails, last));
    for (uint32_t mask = (uint32_t)_mm_movemask_epi8(both); mask; mask &= mask - 1) {
      found += matches_at(n, p + __builtin_ctz(mask), begin);
    }
  }
#endif
  for (; p < stop; p++) found += *p == n->bytes[0] && matches_at(n, p, begin);
  return found;
}

// Occurrences in a stored sequence, in text and title_weight times in the title, which begins after the one byte of 0
// there may be: no varint of a number + 1 has one. No phrase crosses it.
static uint32_t count_in_sequence(const uint8_t *sequence, const needle *n, uint32_t title_weight) {
  uint32_t size;
  memcpy(&size, sequence, sizeof size);
  const uint8_t *begin = sequence + sizeof size, *end = begin + size, *title;
  uint32_t found = count_bytes(n, begin, end);
  if (found == 0 || title_weight == 1 || !(title = memchr(begin, 0, size))) return found;
  uint32_t titled = count_bytes(n, title + 1, end);
  return found - titled + title_weight * titled;
}

// Chunks that hold all terms of a phrase and wait for verification: their sequences lie anywhere in memory, and are on
// their way into the cache meanwhile (the first loads were nine tenths of the time).
typedef struct candidates {
  uint32_t ordinals[GATHER_BATCH];
  uint32_t count;
} candidates;

static const uint8_t *sequence_of(const lex_context *context, uint32_t ordinal) {
  return lex_pages_at(context->pages, ordinal)->sequences[ordinal & (LEX_PAGE - 1)];
}

static void candidates_add(candidates *c, const lex_context *context, uint32_t ordinal) {
  c->ordinals[c->count++] = ordinal;
  if (!context->view->core->shared->keep_sequences) return;
  const uint8_t *sequence = sequence_of(context, ordinal);
  __builtin_prefetch(sequence);
  __builtin_prefetch(sequence + 64);
}

// In ascending order of ordinals; empties `c`.
static rag_status verify(lex_context *context, const rag_lexical_clause *clause, const needle *n, candidates *c,
                         growing *list, rag_error *err) {
  const lex_shared *shared = context->view->core->shared;
  const rag_lexical_query *query = context->query;
  for (uint32_t i = 0; i < c->count; i++) {
    uint32_t ordinal = c->ordinals[i], found = 0;
    if (shared->keep_sequences) {
      found = count_in_sequence(sequence_of(context, ordinal), n, shared->title_weight);
    } else {
      RAG_TRY(query->phrase_count(query->phrase_arg, ordinal, clause->terms, clause->term_count, &found, err));
    }
    if (found > 0) RAG_TRY(add(list, ordinal, found, err));
  }
  c->count = 0;
  return RAG_OK;
}

static int by_postings(const void *a, const void *b) {
  const lex_cursor *x = a, *y = b;
  return x->postings < y->postings ? -1 : x->postings > y->postings;
}

rag_status rag_lexical__gather_phrase(lex_context *context, const rag_lexical_clause *clause, const uint32_t *terms,
                                      lex_gathered *out, rag_error *err) {
  rag_status status = RAG_OK;
  growing list = {0};
  candidates waiting = {.count = 0};
  uint32_t count = clause->term_count;
  size_t bytes = count * (sizeof(lex_cursor) + LEX_CURSOR_WORDS * sizeof(uint32_t));
  lex_cursor *cursors = rag_calloc(1, bytes);
  if (!cursors) return rag_fail_no_memory(err, bytes);
  uint32_t *buffers = (uint32_t *)(void *)(cursors + count);
  needle sought;
  needle_make(terms, count, &sought);
  for (uint32_t i = 0; i < count; i++) {
    const lex_list *postings = lex_core_list(context->view->core, terms[i]);
    if (!postings) goto done;
    rag_lexical__cursor_open(&cursors[i], postings, buffers + (size_t)i * LEX_CURSOR_WORDS);
  }
  qsort(cursors, count, sizeof *cursors, by_postings); // the first one leads
  for (uint32_t ordinal = 0, steps = 0;; ordinal++) {
    bool all = true;
    if (++steps % GATHER_CHECK == 0) RAG_TRY_OUT(rag_lexical__check_deadline(context, err));
    if (!rag_lexical__cursor_seek(&cursors[0], ordinal, &ordinal)) break;
    if (rag_bitmap_has(context->filter, ordinal)) {
      for (uint32_t i = 1; all && i < count; i++) {
        uint32_t at = ordinal;
        if (!rag_lexical__cursor_seek(&cursors[i], ordinal, &at)) goto done;
        all = at == ordinal;
      }
      if (all) candidates_add(&waiting, context, ordinal);
      if (waiting.count == GATHER_BATCH) RAG_TRY_OUT(verify(context, clause, &sought, &waiting, &list, err));
    } else if (!rag_bitmap_next(context->filter, ordinal, &ordinal) || ordinal-- == 0) {
      break;
    }
    if (ordinal == UINT32_MAX) break;
  }
done:
  RAG_TRY_OUT(verify(context, clause, &sought, &waiting, &list, err));
  RAG_TRY_OUT(finish(context, &list, out, err));
out:
  rag_free(list.ordinals);
  rag_free(list.tfs);
  rag_free(cursors);
  return status;
}

// ---------------------------------------------------------------------------------------------- prefixes

typedef struct sums {
  uint32_t **pages; // of LEX_PAGE sums; NULL: none there
  uint32_t count;
} sums;

// Adds the list's tfs of live chunks; *any: there was one.
static rag_status add_list(lex_context *context, const lex_list *postings, sums *s, bool *any, rag_error *err) {
  uint32_t buffer[LEX_CURSOR_WORDS];
  lex_cursor cursor = {0};
  rag_lexical__cursor_open(&cursor, postings, buffer);
  *any = false;
  for (; cursor.block < cursor.block_count; cursor.block++) {
    rag_lexical__cursor_load(&cursor);
    rag_lexical__cursor_load_tfs(&cursor);
    for (uint32_t i = 0; i < cursor.count; i++) {
      uint32_t ordinal = cursor.ordinals[i];
      if (!rag_bitmap_has(context->version->live, ordinal)) continue;
      uint32_t **page = &s->pages[ordinal >> LEX_PAGE_SHIFT];
      if (!*page && !(*page = rag_calloc(LEX_PAGE, sizeof(uint32_t)))) {
        return rag_fail_no_memory(err, LEX_PAGE * sizeof(uint32_t));
      }
      uint32_t *sum = &(*page)[ordinal & (LEX_PAGE - 1)];
      *sum = RAG_MIN(*sum + RAG_MIN(cursor.tfs[i], LEX_TF_MAX), LEX_TF_MAX);
      *any = true;
    }
  }
  return RAG_OK;
}

rag_status rag_lexical__gather_prefix(lex_context *context, rag_slice prefix, lex_gathered *out, rag_error *err) {
  rag_status status = RAG_OK;
  const lex_core *core = context->view->core;
  growing list = {0};
  uint32_t *terms = NULL, term_count = 0, used = 0;
  sums s = {.count = context->pages ? context->pages->count : 0};
  s.pages = rag_calloc(RAG_MAX(1u, s.count), sizeof *s.pages);
  if (!s.pages) return rag_fail_no_memory(err, s.count * sizeof *s.pages);
  RAG_TRY_OUT(rag_lexical__dictionary_prefix(core->dictionary, prefix, &terms, &term_count, err));
  for (uint32_t i = 0; i < term_count; i++) {
    const lex_list *postings = lex_core_list(core, terms[i]);
    bool any = false;
    if (i % GATHER_CHECK == 0) RAG_TRY_OUT(rag_lexical__check_deadline(context, err));
    if (!postings) continue;
    if (used == RAG_LEXICAL_PREFIX_TERMS_MAX) { // full: is there one more?
      if (rag_lexical__df(context->view, context->version, terms[i]) == 0) continue;
      context->plan.prefix_truncated = true;
      break;
    }
    RAG_TRY_OUT(add_list(context, postings, &s, &any, err));
    used += any;
  }
  for (uint32_t page = 0; page < s.count; page++) {
    for (uint32_t i = 0; s.pages[page] && i < LEX_PAGE; i++) {
      if (s.pages[page][i] > 0) RAG_TRY_OUT(add(&list, (page << LEX_PAGE_SHIFT) + i, s.pages[page][i], err));
    }
  }
  RAG_TRY_OUT(finish(context, &list, out, err));
out:
  rag_free(list.ordinals);
  rag_free(list.tfs);
  for (uint32_t page = 0; page < s.count; page++) rag_free(s.pages[page]);
  rag_free(s.pages);
  rag_free(terms);
  return status;
}
