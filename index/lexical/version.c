// Live sets: their chunks, the sum of their lengths, and how many of their chunks hold a term.
//
// A version that is derived has a root: the version that it was derived from, or that one's root, so that no chain
// grows. A document frequency that a derived version lacks is the root's (counted once, cached there for every version
// of that root) and the count over the two differences; both are exact. Once the differences are larger than a share of
// the set, counting them would cost as much as counting anew: the version is a root itself.
//
// Deriving is valid within one generation of lists, as the rows that it takes away must still be there to be counted.
//
// Cache: a fixed table of words, term and count in each, written once with compare-and-swap and never changed; where a
// term finds no free word within LEX_DF_PROBES its count is not kept. So it is bounded, and readers share it.
#include "index/lexical/lexical_internal.h"

#define DERIVE_SHARE 16u // root: the differences hold more than a 16th of the set
#define DERIVE_ALWAYS 1024u

static void version_destroy(rag_ref *self) {
  rag_lexical_version *version = (rag_lexical_version *)self;
  rag_ref_drop(version->live);
  rag_ref_drop(version->added);
  rag_ref_drop(version->removed);
  rag_ref_drop(version->root);
  rag_free(version);
}

// Of a window's members; a row that was never written counts nothing.
static uint64_t window_length(const uint32_t *length1, const uint64_t *words) {
  uint64_t total = 0;
  for (uint32_t w = 0; w < LEX_PAGE / 64; w++) {
    for (uint64_t left = words[w]; left; left &= left - 1) {
      uint32_t at = length1[w * 64 + (uint32_t)__builtin_ctzll(left)];
      total += at - (at > 0);
    }
  }
  return total;
}

static uint64_t total_length(const lex_pages *pages, const rag_bitmap *set) {
  uint64_t total = 0;
  for (uint32_t b = 0; b < rag_bitmap_block_count(set); b++) {
    const uint64_t *words = rag_bitmap_block(set, b, NULL);
    for (uint32_t at = 0; words && at < RAG_BITMAP_BLOCK_BITS; at += LEX_PAGE) {
      const lex_page *page = lex_pages_at(pages, b * RAG_BITMAP_BLOCK_BITS + at);
      if (page) total += window_length(page->length1, words + at / 64);
    }
  }
  return total;
}

// *derived: the differences to `root` are small and are now in *added and *removed (owned).
static rag_status difference(const rag_bitmap *live, const rag_lexical_version *root, rag_bitmap **added,
                             rag_bitmap **removed, bool *derived) {
  *derived = false;
  RAG_TRY(rag_bitmap_andnot(live, root->live, added));
  RAG_TRY(rag_bitmap_andnot(root->live, live, removed));
  uint64_t changed = rag_bitmap_count(*added) + rag_bitmap_count(*removed);
  *derived = changed <= DERIVE_ALWAYS || changed <= rag_bitmap_count(live) / DERIVE_SHARE;
  return RAG_OK;
}

rag_status rag_lexical_version_create(const rag_lexical_view *view, const rag_bitmap *live,
                                      const rag_lexical_version *near, rag_lexical_version **out, rag_error *err) {
  rag_status status = RAG_OK;
  rag_bitmap *base = NULL, *added = NULL, *removed = NULL;
  const rag_lexical_version *root = near && near->root ? near->root : near;
  bool derived = false;
  RAG_TRY_OUT(rag_bitmap_and(live, view->present, &base));
  if (root && root->generation == view->core->generation) {
    RAG_TRY_OUT(difference(base, root, &added, &removed, &derived));
  }
  uint32_t slots = derived ? LEX_DF_SLOTS_DERIVED : LEX_DF_SLOTS_ROOT;
  rag_lexical_version *version = rag_calloc(1, sizeof *version + slots * sizeof(uint64_t));
  if (!version) {
    status = RAG_RESOURCE_EXHAUSTED;
    goto out;
  }
  rag_ref_init(&version->ref, version_destroy);
  version->live = base;
  version->generation = view->core->generation;
  version->df_slots = slots;
  base = NULL;
  const lex_pages *pages = lex_core_pages(view->core);
  if (derived) {
    version->root = rag_ref_take((void *)(uintptr_t)root);
    version->added = added;
    version->removed = removed;
    version->length = root->length + total_length(pages, added) - total_length(pages, removed);
    added = removed = NULL;
  } else {
    version->length = total_length(pages, version->live);
  }
  *out = version;
out:
  rag_ref_drop(base);
  rag_ref_drop(added);
  rag_ref_drop(removed);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

const rag_bitmap *rag_lexical_version_live(const rag_lexical_version *version) {
  return version->live;
}
uint64_t rag_lexical_version_length(const rag_lexical_version *version) {
  return version->length;
}
bool rag_lexical_version_derived(const rag_lexical_version *version) {
  return version->root != NULL;
}

// ---------------------------------------------------------------------------------------------- document frequencies

// The term's word, or a free one for it, or NULL. The cache is what may change in a version.
static _Atomic uint64_t *df_slot(const rag_lexical_version *version, uint32_t term, uint64_t *word) {
  _Atomic uint64_t *slots = ((rag_lexical_version *)(uintptr_t)version)->df;
  uint32_t at = term * 0x9e3779b1u;
  for (uint32_t i = 0; i < LEX_DF_PROBES; i++) {
    _Atomic uint64_t *slot = &slots[(at + i) & (version->df_slots - 1)];
    *word = atomic_load_explicit(slot, memory_order_relaxed);
    if (*word == 0 || *word >> 32 == (uint64_t)term + 1) return slot;
  }
  return NULL;
}

static uint32_t df_within(const lex_list *list, const rag_lexical_view *view, const rag_lexical_version *version,
                          uint32_t term) {
  uint64_t word = 0;
  _Atomic uint64_t *slot = df_slot(version, term, &word);
  if (slot && word) return (uint32_t)word;
  uint32_t df;
  if (version->root && version->generation == view->core->generation) {
    df = df_within(list, view, version->root, term) + rag_lexical__count_in(list, version->added) -
         rag_lexical__count_in(list, version->removed);
  } else {
    df = rag_lexical__count_in(list, version->live);
  }
  // Another thread may have filled the word, with this count or with another term's: this one is not kept then.
  uint64_t expected = 0;
  if (slot) {
    atomic_compare_exchange_strong_explicit(slot, &expected, ((uint64_t)term + 1) << 32 | df, memory_order_relaxed,
                                            memory_order_relaxed);
  }
  return df;
}

uint32_t rag_lexical__df(const rag_lexical_view *view, const rag_lexical_version *version, uint32_t term) {
  const lex_list *list = lex_core_list(view->core, term);
  return list ? df_within(list, view, version, term) : 0;
}

uint32_t rag_lexical_version_df(const rag_lexical_view *view, const rag_lexical_version *version, rag_slice text) {
  const lex_dictionary *dictionary = view->core->dictionary;
  uint32_t term = rag_lexical__dictionary_find(dictionary, text);
  return term == LEX_NO_TERM ? 0 : rag_lexical__df(view, version, term);
}
