// What the files of index/lexical/ share: the nodes of the structure, and who makes and reads them.
//
//   lexical.c     the index as callers see it: append, remove, views, and the memory that readers may still be on
//   dictionary.c  terms: bytes -> number, number -> bytes, prefixes
//   postings.c    lists of one term: building, sealing, splicing, rebuilding
//   codec.c       blocks of 128 postings, their bounds, the score of postings
//   version.c     live sets: chunks, lengths, document frequencies
//   cursor.c      walking one list by blocks
//   gather.c      phrases and prefixes as lists made for one query
//   query.c       a query's clauses as weighted cursors
//   search.c      the top k over windows of ordinals
//
// How readers and the writer share memory. A view is a bitmap of present ordinals, and what it names never changes; the
// lists themselves are shared by all views and grow in place, so a reader may meet postings of rows that its view does
// not have: the bitmap of the version, which is a part of the view's, takes them out. So a commit costs what it
// brings, and no view owns a copy of a list. Every pointer that readers follow is stored with release and loaded with
// acquire; a list's open tail is published by its count in the same way. What the writer replaces (an outgrown tail,
// an outgrown array of blocks, a table) is handed to the epoch of the newest view and freed when that view and all
// older ones are gone: whoever pins a view later cannot have loaded the old pointer.
#ifndef RAGD_LEXICAL_INTERNAL_H
#define RAGD_LEXICAL_INTERNAL_H

#include "index/index.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#define LEX_BLOCK 128u                  // postings of a sealed block: 32 vectors of 4 lanes
#define LEX_PAGE_SHIFT 12u              // chunks of a page, and ordinals of a search's window: 4,096, so that the
#define LEX_PAGE (1u << LEX_PAGE_SHIFT) // window's lengths and sums (16 KiB each) stay in the first-level cache
#define LEX_FRONT 4u                    // (tf, length) pairs that bound a block
#define LEX_SEGMENTS 22u                // of arrays by term: 1,024, 1,024, 2,048, ... so that no term ever moves
#define LEX_SEGMENT_FIRST_SHIFT 10u
#define LEX_TF_MAX 0x0fffffffu // RAG_LEXICAL_CHUNK_TERMS_MAX * RAG_LEXICAL_TITLE_WEIGHT_MAX: fits an int32
#define LEX_NO_TERM UINT32_MAX

// ---------------------------------------------------------------------------------------------- memory

typedef struct lex_garbage {
  void *p;
  size_t bytes;
  _Atomic uint64_t *sum;
} lex_garbage;
// The writer's list of what it will hand to an epoch. Room is made before anything is changed, so that putting cannot
// fail.
typedef struct lex_retired {
  lex_garbage *items;
  uint32_t count;
  uint32_t capacity;
  uint32_t reserved; // room that was promised and is not used yet
} lex_retired;
// What everything of one index shares, and what outlives it while views are pinned.
typedef struct lex_shared {
  rag_ref ref;
  uint32_t title_weight; // immutable, as are the next two
  bool keep_sequences;
  uint64_t bytes_max;
  bool unbounded;         // the writer's alone: a rebuild, which a full index needs to shrink, is under way
  _Atomic uint64_t bytes; // atomic, relaxed, as are the next ones: sums, changed from any thread
  _Atomic uint64_t postings_bytes;
  _Atomic uint64_t sequence_bytes;
  _Atomic uint64_t dictionary_bytes;
  _Atomic uint64_t postings;
  _Atomic uint64_t rebuilds;
  lex_retired leftover; // the writer's alone: what a failed append replaced, for the next epoch
} lex_shared;

// Allocation that counts: `sum` is one of the sums above, or NULL. RAG_RESOURCE_EXHAUSTED.
RAG_NODISCARD rag_status rag_lexical__alloc(lex_shared *shared, _Atomic uint64_t *sum, size_t bytes, void *out,
                                            rag_error *err);
void rag_lexical__free(lex_shared *shared, _Atomic uint64_t *sum, void *p, size_t bytes);

// Memory that readers of older views may be on, in the order of views. Freed when this epoch's views and all earlier
// ones are gone: each epoch holds a reference on the next.
typedef struct lex_epoch {
  _Atomic uint64_t refs;  // atomic: acq_rel on the way down, as rag_ref
  struct lex_epoch *next; // written once by the writer, who holds a reference then
  lex_shared *shared;     // owned reference
  lex_garbage *items;     // likewise; owned
  uint32_t count;
} lex_epoch;
RAG_NODISCARD rag_status rag_lexical__retire_room(lex_retired *retired, uint32_t extra, rag_error *err);
void rag_lexical__retire(lex_retired *retired, _Atomic uint64_t *sum, void *p, size_t bytes);

// Segment and offset of a term in the arrays by term.
static inline uint32_t lex_segment_of(uint32_t term, uint32_t *offset) {
  uint64_t at = (uint64_t)term + (1u << LEX_SEGMENT_FIRST_SHIFT);
  uint32_t top = 63u - (uint32_t)__builtin_clzll(at);
  *offset = (uint32_t)(at - (1ull << top));
  return top - LEX_SEGMENT_FIRST_SHIFT;
}
static inline uint32_t lex_segment_size(uint32_t segment) {
  return 1u << (segment + LEX_SEGMENT_FIRST_SHIFT);
}

// ---------------------------------------------------------------------------------------------- dictionary

typedef struct lex_term {
  const uint8_t *text; // immutable, as are hash and size; a number that stands for no term any more has size 0
  uint32_t hash;
  uint32_t size;
  uint32_t chunk_stamp; // the writer's alone, as are the next three: the last chunk that had the term
  uint32_t posting;     // and its posting in the batch
  uint32_t batch_stamp; // the last batch that had the term
  uint32_t run;         // and its run in the batch
} lex_term;

typedef struct lex_dictionary lex_dictionary;
RAG_NODISCARD rag_status rag_lexical__dictionary_create(lex_shared *shared, lex_dictionary **out, rag_error *err);
void rag_lexical__dictionary_destroy(lex_dictionary *dictionary);
// Another one with the terms for which keep() says so, under the same numbers; the others' numbers stay free for good.
RAG_NODISCARD rag_status rag_lexical__dictionary_copy(const lex_dictionary *from,
                                                      bool (*keep)(const void *arg, uint32_t term), const void *arg,
                                                      lex_dictionary **out, rag_error *err);
// Any thread; LEX_NO_TERM where there is none.
uint32_t rag_lexical__dictionary_find(const lex_dictionary *dictionary, rag_slice text);
uint32_t rag_lexical__dictionary_count(const lex_dictionary *dictionary); // numbers given so far
uint32_t rag_lexical__dictionary_terms(const lex_dictionary *dictionary); // terms that have one
// The writer's: the numbers of `count` texts, LEX_AHEAD at most; LEX_NO_TERM where there is none. What each needs of
// memory is asked for before any of it is looked at, so that their waits overlap.
#define LEX_AHEAD 32u
void rag_lexical__dictionary_find_some(const lex_dictionary *dictionary, const rag_slice *texts, uint32_t count,
                                       uint32_t out[LEX_AHEAD]);
// The writer's: finds or adds. Outgrown tables go to `retired`.
RAG_NODISCARD rag_status rag_lexical__dictionary_add(lex_dictionary *dictionary, rag_slice text, lex_retired *retired,
                                                     uint32_t *out, rag_error *err);
lex_term *rag_lexical__dictionary_term(const lex_dictionary *dictionary, uint32_t term);
// The writer's, after a batch: keeps the terms in sorted runs. A failure leaves prefix searches slower, nothing else.
void rag_lexical__dictionary_sort(lex_dictionary *dictionary, lex_retired *retired);
// Every term that starts with `prefix`, in byte order; *out is owned. Any thread.
RAG_NODISCARD rag_status rag_lexical__dictionary_prefix(const lex_dictionary *dictionary, rag_slice prefix,
                                                        uint32_t **out, uint32_t *out_count, rag_error *err);

// ---------------------------------------------------------------------------------------------- postings

typedef struct lex_entry {
  uint32_t ordinal;
  uint32_t tf;
} lex_entry;

typedef struct lex_block {
  uint32_t first; // ordinals
  uint32_t last;
  // For every posting of the block, some pair has tf >= its tf and length <= its length; tf descending. A bound of the
  // score of all of them, whatever the mean length and the document frequency are. tf 65,535: or more.
  uint16_t front_tf[LEX_FRONT];
  uint16_t front_length[LEX_FRONT];
  const uint8_t *data; // codec.c
} lex_block;
_Static_assert(sizeof(lex_block) == 32, "two to a cache line");

// The postings of a term: sealed blocks, then a tail of single entries. All that a list's fields say is immutable but
// for the tail, which grows in place up to its capacity. Lists that follow each other share the array of blocks while
// it has room: each sees its own block_count.
typedef struct lex_list {
  lex_block *blocks;
  uint32_t block_count;
  uint32_t block_capacity;
  uint32_t tail_capacity;
  _Atomic uint32_t tail_count; // release after the entries are written, acquire before they are read
  lex_entry tail[];
} lex_list;

typedef struct lex_page {
  uint32_t length1[LEX_PAGE]; // L + 1; 0: this row was never written. Written before the first posting of the row
  uint8_t **sequences;        // owned, and each of them; NULL without keep_sequences
} lex_page;
typedef struct lex_pages {
  uint32_t count;
  lex_page *page[]; // NULL: no row there
} lex_pages;

// One generation of lists, and the dictionary of their terms. Views share it until removals have it written anew.
typedef _Atomic(lex_list *) lex_list_slot;
typedef struct lex_core {
  rag_ref ref;
  lex_shared *shared;         // owned reference
  lex_dictionary *dictionary; // owned; of an older core: the terms of its own lists, as its views may still be searched
  uint64_t generation;
  uint64_t rows; // the writer's alone: rows that the lists have, the removed ones included
  _Atomic(lex_list_slot *) lists[LEX_SEGMENTS];
  _Atomic(lex_pages *) pages;
} lex_core;

RAG_NODISCARD rag_status rag_lexical__core_create(lex_shared *shared, uint64_t generation, lex_core **out,
                                                  rag_error *err); // without a dictionary
// The term's list, or NULL.
static inline lex_list *lex_core_list(const lex_core *core, uint32_t term) {
  uint32_t offset;
  uint32_t segment = lex_segment_of(term, &offset);
  lex_list_slot *slots = atomic_load_explicit(&core->lists[segment], memory_order_acquire);
  return slots ? atomic_load_explicit(&slots[offset], memory_order_acquire) : NULL;
}
static inline const lex_pages *lex_core_pages(const lex_core *core) {
  return atomic_load_explicit(&core->pages, memory_order_acquire);
}
static inline lex_page *lex_pages_at(const lex_pages *pages, uint32_t ordinal) {
  uint32_t page = ordinal >> LEX_PAGE_SHIFT;
  return pages && page < pages->count ? pages->page[page] : NULL;
}
// L + 1, or 0 for a row that is not there.
static inline uint32_t lex_length1(const lex_pages *pages, uint32_t ordinal) {
  const lex_page *page = lex_pages_at(pages, ordinal);
  return page ? page->length1[ordinal & (LEX_PAGE - 1)] : 0;
}

// Pages for these ordinals, and slots for `terms` terms. Changes nothing that can be seen.
RAG_NODISCARD rag_status rag_lexical__core_room(lex_core *core, uint32_t ordinal_last, lex_retired *retired,
                                                rag_error *err);
RAG_NODISCARD rag_status rag_lexical__core_page(lex_core *core, uint32_t ordinal, rag_error *err);
RAG_NODISCARD rag_status rag_lexical__core_slots(lex_core *core, uint32_t terms, rag_error *err);

// What an append will do to one list: made by prepare, then applied.
typedef struct lex_change {
  uint32_t term;
  uint32_t count;       // entries, ordinals ascending
  lex_entry *entries;   // borrowed
  lex_list *list;       // the new list; NULL: the entries fit the tail of the old one
  uint32_t shared_head; // blocks of `list` that the old list has too
} lex_change;
// May fail, and has changed nothing then: allocates all that apply needs, room in `retired` too. One change a term.
RAG_NODISCARD rag_status rag_lexical__changes_prepare(lex_core *core, lex_change *changes, uint32_t count,
                                                      lex_retired *retired, rag_error *err);
void rag_lexical__changes_apply(lex_core *core, lex_change *changes, uint32_t count, lex_retired *retired);

// A new core with the rows of `present` and the terms that they have, alone.
RAG_NODISCARD rag_status rag_lexical__core_rebuild(const lex_core *from, const rag_bitmap *present, lex_core **out,
                                                   rag_error *err);

// ---------------------------------------------------------------------------------------------- views, versions

struct rag_lexical_view {
  rag_ref ref;
  lex_core *core;      // owned reference
  rag_bitmap *present; // owned reference
  lex_epoch *epoch;    // owned reference
};

#define LEX_DF_SLOTS_ROOT 8192u
#define LEX_DF_SLOTS_DERIVED 1024u
#define LEX_DF_PROBES 16u
struct rag_lexical_version {
  rag_ref ref;
  rag_bitmap *live; // owned reference: the base set
  uint64_t length;  // of its chunks together
  uint64_t generation;
  // A root counts what it is asked for; a derived version takes the root's number and counts the difference.
  rag_lexical_version *root; // owned reference; NULL: this is a root
  rag_bitmap *added;         // live without root->live, and the other way round; owned references
  rag_bitmap *removed;
  uint32_t df_slots;     // a power of two
  _Atomic uint64_t df[]; // (term + 1) << 32 | df; 0: free. Written once each, relaxed: the word is all there is
};
uint32_t rag_lexical__df(const rag_lexical_view *view, const rag_lexical_version *version, uint32_t term);

// ---------------------------------------------------------------------------------------------- codec

// Bytes of a block of LEX_BLOCK entries, and its encoding. `lengths`: L of each entry.
#define LEX_BLOCK_BYTES_MAX (2u + 2u * LEX_BLOCK * 4u)
size_t rag_lexical__block_encode(const lex_entry *entries, uint8_t out[LEX_BLOCK_BYTES_MAX]);
void rag_lexical__block_front(const lex_entry *entries, const uint32_t *lengths, uint32_t count, lex_block *out);
size_t rag_lexical__block_bytes(const uint8_t *data);
void rag_lexical__block_ordinals(const lex_block *block, uint32_t out[LEX_BLOCK]);
void rag_lexical__block_tfs(const lex_block *block, uint32_t out[LEX_BLOCK]);
uint32_t rag_lexical__block_tf(const lex_block *block, uint32_t at);

// The score of one list in one query: q = 1 + floor(weight * (tf / (tf + (a + b * length)))).
typedef struct lex_scorer {
  float weight; // W * 2^s
  float a;
  float b;
} lex_scorer;
static inline uint32_t lex_score(const lex_scorer *scorer, uint32_t tf, uint32_t length) {
  float f = (float)(int32_t)tf;
  float norm = scorer->a + scorer->b * (float)(int32_t)length;
  return 1u + (uint32_t)(int32_t)(scorer->weight * (f / (f + norm)));
}
// No posting scores more, rounding included.
static inline uint32_t lex_bound_of(float value) {
  return 2u + (uint32_t)(int32_t)(value * 1.000001f);
}
uint32_t rag_lexical__block_bound(const lex_scorer *scorer, const lex_block *block);
// out[i] = the score of posting i; `length1` is the page of the ordinals (all of one page).
void rag_lexical__score_run(const lex_scorer *scorer, const uint32_t *ordinals, const uint32_t *tfs, uint32_t count,
                            const uint32_t *length1, uint32_t *out);

// ---------------------------------------------------------------------------------------------- cursors

// A walk over one list: sealed blocks, then the tail as one block more. Lists made for one query (gather.c) are arrays
// with block headers and no encoding.
typedef struct lex_cursor {
  const lex_block *blocks; // block_count of them, headers of the raw arrays included; the tail's is tail_block
  uint32_t block_count;    // with the tail
  uint32_t block;          // where the cursor stands; block_count: at the end
  uint32_t loaded;         // the block whose ordinals are at hand; UINT32_MAX: none
  uint32_t tfs_loaded;
  uint32_t count;       // postings of the loaded block
  uint32_t at;          // a position in it; all before it were passed
  uint32_t bound_block; // whose bound is `bound`; UINT32_MAX: none
  uint32_t bound;
  uint32_t bound_max;       // of the whole list
  const uint32_t *ordinals; // of the loaded block
  const uint32_t *tfs;
  lex_scorer scorer;
  rag_lexical_occur occur;
  uint64_t postings;
  const uint32_t *raw_ordinals; // NULL: an encoded list
  const uint32_t *raw_tfs;
  uint32_t sealed; // blocks before the tail
  uint32_t tail_count;
  uint32_t tail_bound;
  lex_block tail_block;
  uint32_t *buffer; // 4 * LEX_BLOCK: decoded ordinals and tfs, the tail's ordinals and tfs
} lex_cursor;
#define LEX_CURSOR_WORDS (4u * LEX_BLOCK)

void rag_lexical__cursor_open(lex_cursor *cursor, const lex_list *list, uint32_t *buffer);
void rag_lexical__cursor_rewind(lex_cursor *cursor);
static inline const lex_block *lex_cursor_header(const lex_cursor *cursor, uint32_t block) {
  return block < cursor->sealed ? &cursor->blocks[block] : &cursor->tail_block;
}
// To the first block whose last ordinal is >= ordinal. False: there is none.
bool rag_lexical__cursor_block(lex_cursor *cursor, uint32_t ordinal);
void rag_lexical__cursor_load(lex_cursor *cursor); // the ordinals of the block where it stands
void rag_lexical__cursor_load_tfs(lex_cursor *cursor);
uint32_t rag_lexical__cursor_bound(lex_cursor *cursor, uint32_t block); // with the scorer
// Stands at the first posting >= ordinal (block loaded) and gives it. False: the end.
bool rag_lexical__cursor_seek(lex_cursor *cursor, uint32_t ordinal, uint32_t *out);
static inline uint32_t lex_cursor_tf(const lex_cursor *cursor) {
  if (cursor->tfs_loaded == cursor->loaded) return cursor->tfs[cursor->at];
  return rag_lexical__block_tf(&cursor->blocks[cursor->block], cursor->at);
}
// The first index >= from of an ascending array that is not below `ordinal`.
uint32_t rag_lexical__lower_bound(const uint32_t *ordinals, uint32_t from, uint32_t count, uint32_t ordinal);
// Members of the set that the list has; sparse sets touch the blocks near their members only.
uint32_t rag_lexical__count_in(const lex_list *list, const rag_bitmap *set);

// ---------------------------------------------------------------------------------------------- queries

// Lists that a phrase or a prefix of one query comes to: raw arrays with headers.
typedef struct lex_gathered {
  uint32_t *ordinals; // owned; one allocation with tfs and headers
  uint32_t *tfs;
  lex_block *headers;
  uint32_t count;
} lex_gathered;
typedef struct lex_context {
  const rag_lexical_view *view;
  const rag_lexical_version *version;
  const rag_lexical_query *query;
  const rag_bitmap *filter; // of the live set
  const lex_pages *pages;
  rag_lexical_plan plan;
  uint32_t ticks;
} lex_context;
RAG_NODISCARD rag_status rag_lexical__check_deadline(const lex_context *context, rag_error *err);
// Chunks of the filter that hold the phrase, and how often.
RAG_NODISCARD rag_status rag_lexical__gather_phrase(lex_context *context, const rag_lexical_clause *clause,
                                                    const uint32_t *terms, lex_gathered *out, rag_error *err);
// Chunks of the version that hold any term with the prefix.
RAG_NODISCARD rag_status rag_lexical__gather_prefix(lex_context *context, rag_slice prefix, lex_gathered *out,
                                                    rag_error *err);
void rag_lexical__gathered_free(lex_gathered *gathered);

// A query as cursors: MUST first (fewest postings first), then MUST_NOT, then SHOULD by falling weight.
typedef struct lex_plan {
  lex_cursor *cursors; // owned; buffers in one allocation
  uint32_t *buffers;
  lex_gathered *gathered;
  uint32_t gathered_count;
  uint32_t count;
  uint32_t musts;
  uint32_t nots;
  int scale;       // s
  bool impossible; // a MUST has no posting, or nothing can score
} lex_plan;
RAG_NODISCARD rag_status rag_lexical__plan_make(lex_context *context, lex_plan *plan, rag_error *err);
void rag_lexical__plan_free(lex_plan *plan);

#endif
