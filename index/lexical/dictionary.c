// Terms: bytes to number and back, and the terms that start with given bytes.
//
// Owns
//   terms   in segments that never move; a number is given once and for the life of the index, and stands for one term
//   table   open addressing, (hash << 32 | number + 1) in each slot, at most half full; a larger copy replaces it
//   texts   the terms' bytes in chunks
//   runs    the numbers in byte order, as runs of falling size: the newest SORT_MIN terms are in none, and a run is
//           merged with the ones after it that are not twice as large, so that each term is merged log(n) times
//
// Invariants
//   1. A number in the table, below `count` or in a run has its term written before (release, acquire).
//   2. Only the writer writes; readers of find, term and prefix take no lock.
// Nothing is taken out of a dictionary. When the lists are written anew, so is it (copy): what has no postings then, the
// terms of chunks that are gone and of appends that failed, is not in the new one, and its bytes are freed with the
// last view of the old lists. Numbers stay, as sequences of terms and cached document frequencies hold them; one that
// stands for no term any more costs its 40 bytes here and in the lists.
#include "index/lexical/lexical_internal.h"

#define TABLE_SLOTS_MIN 1024u
#define TEXT_CHUNK_BYTES 65536u
#define SORT_MIN 4096u
#define RUNS_MAX 32u
#define TERMS_MAX ((1u << 31) - (1u << LEX_SEGMENT_FIRST_SHIFT))

typedef struct table {
  uint64_t mask;
  _Atomic uint64_t slots[];
} table;

typedef struct text_chunk {
  struct text_chunk *next;
  uint8_t bytes[];
} text_chunk;

typedef struct runs {
  uint32_t count;
  uint32_t sorted; // terms in runs: 0 to sorted - 1
  struct {
    uint32_t *terms; // shared by successive `runs`
    uint32_t count;
  } run[RUNS_MAX];
} runs;

struct lex_dictionary {
  lex_shared *shared; // borrowed from the core
  _Atomic(table *) table;
  _Atomic(lex_term *) segments[LEX_SEGMENTS];
  _Atomic uint32_t count;
  _Atomic(runs *) runs;
  uint32_t free_count; // numbers that stand for no term any more; immutable after copy
  text_chunk *texts;   // the writer's alone, as are the next two
  uint8_t *text_at;
  size_t text_left;
};

static size_t table_bytes(uint64_t slots) {
  return sizeof(table) + slots * sizeof(uint64_t);
}

static rag_status table_create(lex_shared *shared, uint64_t slots, table **out, rag_error *err) {
  table *made = NULL;
  RAG_TRY(rag_lexical__alloc(shared, &shared->dictionary_bytes, table_bytes(slots), &made, err));
  memset(made, 0, table_bytes(slots));
  made->mask = slots - 1;
  *out = made;
  return RAG_OK;
}

static rag_status create(lex_shared *shared, uint64_t slots, lex_dictionary **out, rag_error *err) {
  lex_dictionary *dictionary = rag_calloc(1, sizeof *dictionary);
  if (!dictionary) return rag_fail_no_memory(err, sizeof *dictionary);
  table *first = NULL;
  rag_status status = table_create(shared, slots, &first, err);
  if (status != RAG_OK) {
    rag_free(dictionary);
    return status;
  }
  atomic_init(&dictionary->table, first);
  dictionary->shared = shared;
  *out = dictionary;
  return RAG_OK;
}

rag_status rag_lexical__dictionary_create(lex_shared *shared, lex_dictionary **out, rag_error *err) {
  return create(shared, TABLE_SLOTS_MIN, out, err);
}

static size_t runs_bytes(uint32_t count) {
  return (size_t)count * sizeof(uint32_t);
}

void rag_lexical__dictionary_destroy(lex_dictionary *dictionary) {
  if (!dictionary) return;
  lex_shared *shared = dictionary->shared;
  _Atomic uint64_t *sum = &shared->dictionary_bytes;
  table *last = atomic_load(&dictionary->table);
  rag_lexical__free(shared, sum, last, table_bytes(last->mask + 1));
  for (uint32_t i = 0; i < LEX_SEGMENTS; i++) {
    rag_lexical__free(shared, sum, atomic_load(&dictionary->segments[i]), lex_segment_size(i) * sizeof(lex_term));
  }
  runs *sorted = atomic_load(&dictionary->runs);
  for (uint32_t i = 0; sorted && i < sorted->count; i++) {
    rag_lexical__free(shared, sum, sorted->run[i].terms, runs_bytes(sorted->run[i].count));
  }
  rag_lexical__free(shared, sum, sorted, sizeof *sorted);
  for (text_chunk *chunk = dictionary->texts, *next; chunk; chunk = next) {
    next = chunk->next;
    rag_lexical__free(shared, sum, chunk, sizeof *chunk + TEXT_CHUNK_BYTES);
  }
  rag_free(dictionary);
}

uint32_t rag_lexical__dictionary_count(const lex_dictionary *dictionary) {
  return atomic_load_explicit(&dictionary->count, memory_order_acquire);
}

uint32_t rag_lexical__dictionary_terms(const lex_dictionary *dictionary) {
  return rag_lexical__dictionary_count(dictionary) - dictionary->free_count;
}

lex_term *rag_lexical__dictionary_term(const lex_dictionary *dictionary, uint32_t term) {
  uint32_t offset;
  uint32_t segment = lex_segment_of(term, &offset);
  return atomic_load_explicit(&dictionary->segments[segment], memory_order_acquire) + offset;
}

// The number of the text, or LEX_NO_TERM and the free slot in *slot.
static uint32_t look_up(const lex_dictionary *dictionary, table *in, rag_slice text, uint32_t hash, uint64_t *slot) {
  for (uint64_t at = hash;; at++) {
    uint64_t word = atomic_load_explicit(&in->slots[at & in->mask], memory_order_acquire);
    if (word == 0) {
      *slot = at & in->mask;
      return LEX_NO_TERM;
    }
    if (word >> 32 != hash) continue;
    uint32_t term = (uint32_t)word - 1;
    const lex_term *entry = rag_lexical__dictionary_term(dictionary, term);
    if (entry->size == text.size && memcmp(entry->text, text.data, text.size) == 0) return term;
  }
}

static uint32_t hash_of(rag_slice text) {
  return (uint32_t)(rag_hash64(text.data, text.size) >> 32);
}

uint32_t rag_lexical__dictionary_find(const lex_dictionary *dictionary, rag_slice text) {
  uint64_t slot;
  table *in = atomic_load_explicit(&dictionary->table, memory_order_acquire);
  return look_up(dictionary, in, text, hash_of(text), &slot);
}

// The first number in the table with this hash, which is nearly always the text's own; or LEX_NO_TERM.
static uint32_t first_with(const table *in, uint32_t hash) {
  for (uint64_t at = hash;; at++) {
    uint64_t word = atomic_load_explicit(&in->slots[at & in->mask], memory_order_acquire);
    if (word == 0) return LEX_NO_TERM;
    if (word >> 32 == hash) return (uint32_t)word - 1;
  }
}

void rag_lexical__dictionary_find_some(const lex_dictionary *dictionary, const rag_slice *texts, uint32_t count,
                                       uint32_t out[LEX_AHEAD]) {
  table *in = atomic_load_explicit(&dictionary->table, memory_order_acquire);
  uint32_t hashes[LEX_AHEAD];
  RAG_ASSERT(count <= LEX_AHEAD);
  for (uint32_t i = 0; i < count; i++) {
    hashes[i] = hash_of(texts[i]);
    __builtin_prefetch(&in->slots[hashes[i] & in->mask]);
  }
  for (uint32_t i = 0; i < count; i++) {
    out[i] = first_with(in, hashes[i]);
    if (out[i] == LEX_NO_TERM) continue;
    const lex_term *entry = rag_lexical__dictionary_term(dictionary, out[i]);
    __builtin_prefetch(entry, 1); // to write: the caller stamps it
    __builtin_prefetch((const uint8_t *)(entry + 1) - 1, 1);
  }
  for (uint32_t i = 0; i < count; i++) {
    if (out[i] != LEX_NO_TERM) __builtin_prefetch(rag_lexical__dictionary_term(dictionary, out[i])->text);
  }
  for (uint32_t i = 0; i < count; i++) {
    if (out[i] == LEX_NO_TERM) continue;
    const lex_term *entry = rag_lexical__dictionary_term(dictionary, out[i]);
    if (entry->size == texts[i].size && memcmp(entry->text, texts[i].data, texts[i].size) == 0) continue;
    uint64_t slot;
    out[i] = look_up(dictionary, in, texts[i], hashes[i], &slot);
  }
}

static rag_status grow_table(lex_dictionary *dictionary, lex_retired *retired, rag_error *err) {
  lex_shared *shared = dictionary->shared;
  table *old = atomic_load_explicit(&dictionary->table, memory_order_relaxed), *fresh = NULL;
  RAG_TRY(rag_lexical__retire_room(retired, 1, err));
  RAG_TRY(table_create(shared, (old->mask + 1) * 2, &fresh, err));
  for (uint64_t i = 0; i <= old->mask; i++) {
    uint64_t word = atomic_load_explicit(&old->slots[i], memory_order_relaxed);
    if (word == 0) continue;
    uint64_t at = word >> 32;
    while (atomic_load_explicit(&fresh->slots[at & fresh->mask], memory_order_relaxed)) at++;
    atomic_store_explicit(&fresh->slots[at & fresh->mask], word, memory_order_relaxed);
  }
  atomic_store_explicit(&dictionary->table, fresh, memory_order_release);
  rag_lexical__retire(retired, &shared->dictionary_bytes, old, table_bytes(old->mask + 1));
  return RAG_OK;
}

static rag_status keep_text(lex_dictionary *dictionary, rag_slice text, const uint8_t **out, rag_error *err) {
  lex_shared *shared = dictionary->shared;
  if (dictionary->text_left < text.size) {
    text_chunk *chunk = NULL;
    RAG_TRY(rag_lexical__alloc(shared, &shared->dictionary_bytes, sizeof *chunk + TEXT_CHUNK_BYTES, &chunk, err));
    chunk->next = dictionary->texts;
    dictionary->texts = chunk;
    dictionary->text_at = chunk->bytes;
    dictionary->text_left = TEXT_CHUNK_BYTES;
  }
  memcpy(dictionary->text_at, text.data, text.size);
  *out = dictionary->text_at;
  dictionary->text_at += text.size;
  dictionary->text_left -= text.size;
  return RAG_OK;
}

// The entries of the segment of this number, all zeros where it is new.
static rag_status reach_segment(lex_dictionary *dictionary, uint32_t segment, lex_term **out, rag_error *err) {
  lex_shared *shared = dictionary->shared;
  lex_term *entries = atomic_load_explicit(&dictionary->segments[segment], memory_order_relaxed);
  if (!entries) {
    size_t bytes = lex_segment_size(segment) * sizeof(lex_term);
    RAG_TRY(rag_lexical__alloc(shared, &shared->dictionary_bytes, bytes, &entries, err));
    memset(entries, 0, bytes);
    atomic_store_explicit(&dictionary->segments[segment], entries, memory_order_release);
  }
  *out = entries;
  return RAG_OK;
}

rag_status rag_lexical__dictionary_add(lex_dictionary *dictionary, rag_slice text, lex_retired *retired, uint32_t *out,
                                       rag_error *err) {
  uint32_t hash = hash_of(text);
  uint64_t slot;
  table *in = atomic_load_explicit(&dictionary->table, memory_order_relaxed);
  uint32_t term = look_up(dictionary, in, text, hash, &slot);
  if (term != LEX_NO_TERM) {
    *out = term;
    return RAG_OK;
  }
  term = atomic_load_explicit(&dictionary->count, memory_order_relaxed);
  if (term >= TERMS_MAX) {
    return rag_fail(err, RAG_RESOURCE_EXHAUSTED, "the dictionary is full at %u terms: make the index anew", TERMS_MAX);
  }
  if ((uint64_t)rag_lexical__dictionary_terms(dictionary) * 2 >= in->mask) {
    RAG_TRY(grow_table(dictionary, retired, err));
    in = atomic_load_explicit(&dictionary->table, memory_order_relaxed);
    look_up(dictionary, in, text, hash, &slot);
  }
  uint32_t offset, segment = lex_segment_of(term, &offset);
  lex_term *entries = NULL;
  RAG_TRY(reach_segment(dictionary, segment, &entries, err));
  const uint8_t *kept = NULL;
  RAG_TRY(keep_text(dictionary, text, &kept, err));
  entries[offset] = (lex_term){.text = kept, .hash = hash, .size = (uint32_t)text.size};
  atomic_store_explicit(&dictionary->count, term + 1, memory_order_release);
  atomic_store_explicit(&in->slots[slot], (uint64_t)hash << 32 | (term + 1), memory_order_release);
  *out = term;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- order

static rag_slice text_of(const lex_dictionary *dictionary, uint32_t term) {
  const lex_term *entry = rag_lexical__dictionary_term(dictionary, term);
  return rag_slice_of(entry->text, entry->size);
}

static int compare_terms(const void *a, const void *b, void *arg) {
  return rag_slice_compare(text_of(arg, *(const uint32_t *)a), text_of(arg, *(const uint32_t *)b));
}

// Merges the runs from `from` on, the last of which is `fresh`, into out.
static void merge(const lex_dictionary *dictionary, const uint32_t *a, uint32_t a_count, const uint32_t *b,
                  uint32_t b_count, uint32_t *out) {
  for (uint32_t i = 0, j = 0; i < a_count || j < b_count;) {
    bool take_a =
        j == b_count || (i < a_count && rag_slice_compare(text_of(dictionary, a[i]), text_of(dictionary, b[j])) < 0);
    *out++ = take_a ? a[i++] : b[j++];
  }
}

// One step: the unsorted terms become a run, which takes in the last runs while they are not twice as large.
void rag_lexical__dictionary_sort(lex_dictionary *dictionary, lex_retired *retired) {
  lex_shared *shared = dictionary->shared;
  _Atomic uint64_t *sum = &shared->dictionary_bytes;
  runs *old = atomic_load_explicit(&dictionary->runs, memory_order_relaxed), *next = NULL;
  uint32_t sorted = old ? old->sorted : 0, count = atomic_load_explicit(&dictionary->count, memory_order_relaxed);
  uint32_t fresh_count = count - sorted, *fresh = NULL;
  if (fresh_count < SORT_MIN) return;
  if (rag_lexical__retire_room(retired, RUNS_MAX + 1, NULL) != RAG_OK) return;
  if (rag_lexical__alloc(shared, sum, sizeof *next, &next, NULL) != RAG_OK) return;
  if (rag_lexical__alloc(shared, sum, runs_bytes(fresh_count), &fresh, NULL) != RAG_OK) goto out;
  for (uint32_t i = 0; i < fresh_count; i++) fresh[i] = sorted + i;
  qsort_r(fresh, fresh_count, sizeof *fresh, compare_terms, dictionary);
  uint32_t kept = old ? old->count : 0;
  while (kept > 0 && (old->run[kept - 1].count < 2 * fresh_count || kept == RUNS_MAX)) {
    uint32_t *merged = NULL, both = old->run[kept - 1].count + fresh_count;
    if (rag_lexical__alloc(shared, sum, runs_bytes(both), &merged, NULL) != RAG_OK) goto out;
    merge(dictionary, old->run[kept - 1].terms, old->run[kept - 1].count, fresh, fresh_count, merged);
    rag_lexical__free(shared, sum, fresh, runs_bytes(fresh_count));
    fresh = merged;
    fresh_count = both;
    kept--;
  }
  memset(next, 0, sizeof *next);
  if (kept > 0) memcpy(next->run, old->run, kept * sizeof next->run[0]);
  next->run[kept].terms = fresh;
  next->run[kept].count = fresh_count;
  next->count = kept + 1;
  next->sorted = count;
  atomic_store_explicit(&dictionary->runs, next, memory_order_release);
  for (uint32_t i = kept; old && i < old->count; i++) {
    rag_lexical__retire(retired, sum, old->run[i].terms, runs_bytes(old->run[i].count));
  }
  rag_lexical__retire(retired, sum, old, sizeof *old);
  return;
out:
  rag_lexical__free(shared, sum, fresh, runs_bytes(fresh_count));
  rag_lexical__free(shared, sum, next, sizeof *next);
}

// ---------------------------------------------------------------------------------------------- forgetting

typedef struct filter {
  bool (*keep)(const void *arg, uint32_t term);
  const void *arg;
} filter;

static bool kept(const filter *f, const lex_dictionary *from, uint32_t term) {
  return rag_lexical__dictionary_term(from, term)->size > 0 && f->keep(f->arg, term);
}

static rag_status copy_terms(const lex_dictionary *from, const filter *f, lex_dictionary *to, rag_error *err) {
  uint32_t count = rag_lexical__dictionary_count(from);
  table *in = atomic_load_explicit(&to->table, memory_order_relaxed);
  for (uint32_t term = 0; term < count; term++) {
    uint32_t offset, segment = lex_segment_of(term, &offset);
    const lex_term *old = rag_lexical__dictionary_term(from, term);
    lex_term *entries = NULL;
    uint64_t at = old->hash;
    RAG_TRY(reach_segment(to, segment, &entries, err));
    if (!kept(f, from, term)) {
      to->free_count++;
      continue;
    }
    entries[offset] = *old;
    RAG_TRY(keep_text(to, rag_slice_of(old->text, old->size), &entries[offset].text, err));
    while (atomic_load_explicit(&in->slots[at & in->mask], memory_order_relaxed)) at++;
    atomic_store_explicit(&in->slots[at & in->mask], (uint64_t)old->hash << 32 | (term + 1), memory_order_relaxed);
  }
  atomic_store_explicit(&to->count, count, memory_order_relaxed);
  return RAG_OK;
}

// One run of all kept terms: those that were in no run are sorted, and the runs merged into them, the small ones first.
static rag_status copy_runs(const lex_dictionary *from, const filter *f, lex_dictionary *to, rag_error *err) {
  rag_status status = RAG_OK;
  lex_shared *shared = to->shared;
  _Atomic uint64_t *sum = &shared->dictionary_bytes;
  const runs *old = atomic_load_explicit(&from->runs, memory_order_relaxed);
  uint32_t numbers = rag_lexical__dictionary_count(from), all = rag_lexical__dictionary_terms(to), count = 0;
  uint32_t *terms = NULL, *other = NULL, *picked = NULL;
  size_t bytes = runs_bytes(RAG_MAX(1u, all));
  runs *made = NULL;
  RAG_TRY_OUT(rag_lexical__alloc(shared, sum, bytes, &terms, err));
  RAG_TRY_OUT(rag_lexical__alloc(shared, sum, bytes, &other, err));
  RAG_TRY_OUT(rag_lexical__alloc(shared, sum, bytes, &picked, err));
  RAG_TRY_OUT(rag_lexical__alloc(shared, sum, sizeof *made, &made, err));
  for (uint32_t term = old ? old->sorted : 0; term < numbers; term++) {
    if (kept(f, from, term)) terms[count++] = term;
  }
  qsort_r(terms, count, sizeof *terms, compare_terms, to);
  for (uint32_t r = old ? old->count : 0; r-- > 0;) {
    uint32_t some = 0;
    for (uint32_t i = 0; i < old->run[r].count; i++) {
      if (kept(f, from, old->run[r].terms[i])) picked[some++] = old->run[r].terms[i];
    }
    merge(to, picked, some, terms, count, other);
    uint32_t *swap = terms;
    terms = other;
    other = swap;
    count += some;
  }
  RAG_ASSERT(count == all);
  *made = (runs){.count = count > 0, .sorted = numbers}; // also without a run: free numbers are never sorted
  if (count > 0) {
    made->run[0].terms = terms;
    made->run[0].count = count;
    terms = NULL;
  }
  atomic_store_explicit(&to->runs, made, memory_order_relaxed);
  made = NULL;
out:
  rag_lexical__free(shared, sum, made, sizeof *made);
  rag_lexical__free(shared, sum, picked, bytes);
  rag_lexical__free(shared, sum, other, bytes);
  rag_lexical__free(shared, sum, terms, bytes);
  return status;
}

rag_status rag_lexical__dictionary_copy(const lex_dictionary *from, bool (*keep)(const void *arg, uint32_t term),
                                        const void *arg, lex_dictionary **out, rag_error *err) {
  rag_status status = RAG_OK;
  lex_dictionary *to = NULL;
  const filter f = {keep, arg};
  uint64_t terms = 0, slots = TABLE_SLOTS_MIN;
  for (uint32_t term = 0; term < rag_lexical__dictionary_count(from); term++) terms += kept(&f, from, term);
  while (terms * 2 >= slots - 1) slots *= 2;
  RAG_TRY(create(from->shared, slots, &to, err));
  RAG_TRY_OUT(copy_terms(from, &f, to, err));
  RAG_TRY_OUT(copy_runs(from, &f, to, err));
  *out = to;
  to = NULL;
out:
  rag_lexical__dictionary_destroy(to);
  return status;
}

// ---------------------------------------------------------------------------------------------- prefixes

static bool starts_with(rag_slice text, rag_slice prefix) {
  return text.size >= prefix.size && memcmp(text.data, prefix.data, prefix.size) == 0;
}

// The first place of a run whose term is not below the prefix.
static uint32_t run_begin(const lex_dictionary *dictionary, const uint32_t *terms, uint32_t count, rag_slice prefix) {
  uint32_t low = 0, high = count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (rag_slice_compare(text_of(dictionary, terms[middle]), prefix) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

typedef struct found {
  uint32_t *terms;
  uint32_t count;
  uint32_t capacity;
} found;

static rag_status found_add(found *list, uint32_t term, rag_error *err) {
  if (list->count == list->capacity) {
    uint32_t capacity = RAG_MAX(64u, list->capacity * 2);
    uint32_t *grown = rag_realloc_array(list->terms, capacity, sizeof *grown);
    if (!grown) return rag_fail_no_memory(err, capacity * sizeof *grown);
    list->terms = grown;
    list->capacity = capacity;
  }
  list->terms[list->count++] = term;
  return RAG_OK;
}

rag_status rag_lexical__dictionary_prefix(const lex_dictionary *dictionary, rag_slice prefix, uint32_t **out,
                                          uint32_t *out_count, rag_error *err) {
  rag_status status = RAG_OK;
  found list = {0};
  // The runs before the count: terms that come between the two loads are in neither, and no version of this search
  // has them.
  const runs *sorted = atomic_load_explicit(&dictionary->runs, memory_order_acquire);
  uint32_t count = rag_lexical__dictionary_count(dictionary);
  for (uint32_t r = 0; sorted && r < sorted->count; r++) {
    const uint32_t *terms = sorted->run[r].terms;
    uint32_t end = sorted->run[r].count;
    for (uint32_t i = run_begin(dictionary, terms, end, prefix); i < end; i++) {
      if (!starts_with(text_of(dictionary, terms[i]), prefix)) break;
      RAG_TRY_OUT(found_add(&list, terms[i], err));
    }
  }
  for (uint32_t term = sorted ? sorted->sorted : 0; term < count; term++) {
    if (starts_with(text_of(dictionary, term), prefix)) RAG_TRY_OUT(found_add(&list, term, err));
  }
  if (list.count > 1) {
    qsort_r(list.terms, list.count, sizeof *list.terms, compare_terms, (void *)(uintptr_t)dictionary);
  }
  *out = list.terms;
  *out_count = list.count;
  list.terms = NULL;
out:
  rag_free(list.terms);
  return status;
}
