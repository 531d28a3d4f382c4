// embed's own: what every kind of embedder implements, and the parts of the hash embedder that its files share.
#ifndef RAGD_EMBED_INTERNAL_H
#define RAGD_EMBED_INTERNAL_H

#include "embed/embed.h"

#define RAG_EMBED_NAME_MAX 64 // with the NUL

// One kind of embedder. Its functions may be called from any number of threads at once.
typedef struct rag_embedder_kind {
  // Sizes and roles are checked. Writes count * dimension floats; after an error the contents of `out` are undefined.
  rag_status (*embed)(rag_embedder *embedder, rag_embed_role role, const rag_slice *texts, uint32_t count, float *out,
                      rag_error *err);
  void (*destroy)(rag_embedder *embedder); // frees the whole object
} rag_embedder_kind;

// The head of every embedder; a kind's own struct begins with it. Immutable after its open.
struct rag_embedder {
  rag_ref ref; // first: rag_ref_take / rag_ref_drop
  const rag_embedder_kind *kind;
  uint32_t dimension;
  char name[RAG_EMBED_NAME_MAX];
  char fingerprint[RAG_EMBED_FINGERPRINT_MAX];
};
// Fills the head; `kind` is borrowed for ever (static).
void rag_embed__init(rag_embedder *embedder, const rag_embedder_kind *kind, uint32_t dimension);

// hash.c. *out owned. RAG_RESOURCE_EXHAUSTED only: the dimension is checked by the caller.
RAG_NODISCARD rag_status rag_embed__hash_open(uint32_t dimension, rag_embedder **out, rag_error *err);

// ------------------------------------------------------------- the frozen weights of the hash embedder (data only)

// hash_weights.c: stems (what rag_embed__stem gives) of one weight, separated by single spaces.
typedef struct rag_hash_weight_row {
  uint8_t weight; // -ln(share of documents that have the stem) * 16, at least 8
  const char *stems;
} rag_hash_weight_row;
extern const rag_hash_weight_row rag_embed__hash_weights[];
extern const uint32_t rag_embed__hash_weight_row_count;

// -------------------------------------------------------------------------------------- words (hash_words.c)

#define RAG_WORD_CHARS_MAX 64 // a longer run of letters is cut into words of this many
#define RAG_WORD_BYTES_MAX (RAG_WORD_CHARS_MAX * 4)

typedef enum rag_word_kind {
  RAG_WORD_LETTERS = 0, // letters and digits
  RAG_WORD_GLYPH = 1,   // one ideograph
  RAG_WORD_GLYPHS = 2,  // two adjacent ones
} rag_word_kind;
// Called once for each word in the order of the text; `word` is folded UTF-8, borrowed for the call. False stops.
typedef bool (*rag_word_fn)(void *context, rag_word_kind kind, const char *word, uint32_t size);
// False when the callback stopped it. Never reads past the text, also where it is no valid UTF-8 (a bad byte ends a
// word).
bool rag_embed__words(rag_slice text, rag_word_fn fn, void *context);
// A light English stem of a folded word, written to `out` (RAG_WORD_BYTES_MAX bytes): returns its size. Words with
// other than a-z, and short ones, come out as they are.
uint32_t rag_embed__stem(const char *word, uint32_t size, char *out);

#endif
