// Phrases and prefixes: turned into plain lists before the search begins, which then treats them as any list.
//
// A phrase is the intersection of its terms' lists, the shortest leading, under the filter; each candidate is verified
// against its sequence of terms, kept here or asked for from the caller. A prefix is the union of its expansions over
// the version's live set (its document frequency is a number of the version, not of the filter), added up term by term
// in pages of sums, so that its memory is bounded by the ordinals and not by the postings.
#include "index/lexical/lexical_internal.h"

#define GATHER_CHECK 64u // verifications, or lists, between two looks at the clock

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

// Occurrences in a stored sequence, in text and title_weight times in the title. The last terms stand in a ring.
static uint32_t count_in_sequence(const uint8_t *sequence, const uint32_t *terms, uint32_t count,
                                  uint32_t title_weight) {
  uint64_t ring[RAG_LEXICAL_PHRASE_MAX] = {0};
  uint32_t size, filled = 0, at = 0, weight = 1, found = 0;
  memcpy(&size, sequence, sizeof size);
  const uint8_t *p = sequence + sizeof size, *end = p + size;
  while (p < end) {
    uint64_t value = *p++;
    if (value >= 0x80) {
      value &= 0x7f;
      for (uint32_t shift = 7;; shift += 7) {
        uint8_t byte = *p++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) break;
      }
    }
    if (value == 0) { // the title begins: no phrase crosses
      filled = 0;
      weight = title_weight;
      continue;
    }
    ring[at] = value;
    at = at + 1 == count ? 0 : at + 1;
    filled += filled < count;
    if (filled < count || value != (uint64_t)terms[count - 1] + 1) continue;
    bool same = true;
    for (uint32_t i = 0, r = at; same && i < count; i++, r = r + 1 == count ? 0 : r + 1) {
      same = ring[r] == (uint64_t)terms[i] + 1;
    }
    found += same ? weight : 0;
  }
  return found;
}

static rag_status verify(lex_context *context, const rag_lexical_clause *clause, const uint32_t *terms,
                         uint32_t ordinal, uint32_t *found, rag_error *err) {
  const lex_shared *shared = context->view->core->shared;
  if (shared->keep_sequences) {
    const lex_page *page = lex_pages_at(context->pages, ordinal);
    const uint8_t *sequence = page->sequences[ordinal & (LEX_PAGE - 1)];
    *found = count_in_sequence(sequence, terms, clause->term_count, shared->title_weight);
    return RAG_OK;
  }
  const rag_lexical_query *query = context->query;
  return query->phrase_count(query->phrase_arg, ordinal, clause->terms, clause->term_count, found, err);
}

rag_status rag_lexical__gather_phrase(lex_context *context, const rag_lexical_clause *clause, const uint32_t *terms,
                                      lex_gathered *out, rag_error *err) {
  rag_status status = RAG_OK;
  growing list = {0};
  uint32_t count = clause->term_count, lead = 0;
  size_t bytes = count * (sizeof(lex_cursor) + LEX_CURSOR_WORDS * sizeof(uint32_t));
  lex_cursor *cursors = rag_calloc(1, bytes);
  if (!cursors) return rag_fail_no_memory(err, bytes);
  uint32_t *buffers = (uint32_t *)(void *)(cursors + count);
  for (uint32_t i = 0; i < count; i++) {
    const lex_list *postings = lex_core_list(context->view->core, terms[i]);
    if (!postings) goto empty;
    rag_lexical__cursor_open(&cursors[i], postings, buffers + (size_t)i * LEX_CURSOR_WORDS);
    if (cursors[i].postings < cursors[lead].postings) lead = i;
  }
  for (uint32_t ordinal = 0, steps = 0;; ordinal++) {
    bool all = true;
    if (++steps % GATHER_CHECK == 0) RAG_TRY_OUT(rag_lexical__check_deadline(context, err));
    if (!rag_lexical__cursor_seek(&cursors[lead], ordinal, &ordinal)) break;
    if (rag_bitmap_has(context->filter, ordinal)) {
      for (uint32_t i = 0; all && i < count; i++) {
        uint32_t at = ordinal;
        if (i == lead) continue;
        if (!rag_lexical__cursor_seek(&cursors[i], ordinal, &at)) goto empty;
        all = at == ordinal;
      }
      uint32_t found = 0;
      if (all) RAG_TRY_OUT(verify(context, clause, terms, ordinal, &found, err));
      if (found > 0) RAG_TRY_OUT(add(&list, ordinal, found, err));
    } else if (!rag_bitmap_next(context->filter, ordinal, &ordinal) || ordinal-- == 0) {
      break;
    }
    if (ordinal == UINT32_MAX) break;
  }
empty:
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
  RAG_TRY_OUT(rag_lexical__dictionary_prefix(core->shared->dictionary, prefix, &terms, &term_count, err));
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
