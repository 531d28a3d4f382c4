// index/analysis' own: what the files of the text analyser share.
#ifndef RAGD_INDEX_ANALYSIS_INTERNAL_H
#define RAGD_INDEX_ANALYSIS_INTERNAL_H

#include "index/index.h"

// ---------------------------------------------------------------------------------------------- languages.c

typedef struct rag_analysis_language {
  const char *tag;     // BCP 47 primary language subtag
  const char *stemmer; // the Snowball algorithm, or NULL
  const char *stops;   // lower case, accents kept, separated by single spaces; or NULL
  const char *kept;    // letters that are not folded after stemming, as one string; or NULL
  const char *elided;  // what may stand before an apostrophe as a word of its own, as in `stops`; or NULL
  uint32_t flags;      // RAG_LANGUAGE_*
} rag_analysis_language;
enum {
  RAG_LANGUAGE_GERMAN = 1,  // ae, oe, ue spell umlauts
  RAG_LANGUAGE_TURKIC = 2,  // I is the capital of a dotless i
  RAG_LANGUAGE_FOREIGN = 4, // of another script than Latin: words of ASCII letters are stemmed as English
};
// Never NULL: "" is English, a language without a row (or "und") is plain. NULL only for what is no language tag.
const rag_analysis_language *rag_analysis__language(rag_slice tag);

// ---------------------------------------------------------------------------------------------- letters.c

typedef enum rag_letter {
  RAG_LETTER_BREAK = 0, // ends a word
  RAG_LETTER_SKIP,      // is dropped, and ends nothing: a mark, a soft hyphen, a joiner
  RAG_LETTER_WORD,      // of a word: a letter, a digit, a mark that carries meaning
  RAG_LETTER_CJK,       // of a script without spaces: Han, kana, Hangul and their like
  RAG_LETTER_DENSE,     // Thai, Lao, Burmese, Khmer
  RAG_LETTER_EMOJI,
  RAG_LETTER_FLAG,       // a regional indicator: two are a flag
  RAG_LETTER_APOSTROPHE, // as '
  RAG_LETTER_HYPHEN,     // as -
} rag_letter;
// The kind of a character above ASCII. Of WORD, CJK, DENSE and EMOJI, `out` has what stands for it in a term before
// stemming: small letters, accents of Latin, Greek and Cyrillic kept, compatibility forms resolved.
rag_letter rag_analysis__letter(uint32_t c, uint32_t out[RAG_UNICODE_FOLD_MAX], uint32_t *out_count);
uint32_t rag_analysis__compose(uint32_t base, uint32_t mark); // the one character that the two spell; 0: none
bool rag_analysis__is_dense_mark(uint32_t c);                 // a mark of Thai, Lao, Burmese, Khmer
// Folds a lower-case term in place of stemming's output: accents off but for the letters of `kept`, apostrophes
// dropped. Writes at most `capacity` bytes, whole characters; returns the bytes written.
uint32_t rag_analysis__fold(const char *kept, const char *word, uint32_t size, char *out, uint32_t capacity);

// ---------------------------------------------------------------------------------------------- stemmers

// stem_snowball.c, or stem_none.c where libstemmer is not: then nothing is stemmed, and the analyser's id says so.
typedef struct rag_analysis_stemmer rag_analysis_stemmer; // not thread-safe
#define RAG_STEM_BYTES_MAX 64u                            // longer words are not stemmed
RAG_NODISCARD rag_status rag_analysis__stemmer_open(const char *algorithm, rag_analysis_stemmer **out, rag_error *err);
void rag_analysis__stemmer_close(rag_analysis_stemmer *stemmer);
// Borrowed until the next call. The word itself where there is nothing to take off, or no memory to do it in.
rag_slice rag_analysis__stem(rag_analysis_stemmer *stemmer, const char *word, uint32_t size);
const char *rag_analysis__stemmer_kind(void); // "snowball" or "none"

// ---------------------------------------------------------------------------------------------- analyzer.c

#define WORD_BYTES_MAX RAG_TERM_BYTES_MAX
#define RUN_ATOMS_MAX 32u    // words of one compound; a longer one has parts and no whole
#define CAMEL_BYTES_MAX 64u  // a longer word is no identifier: it has no camelCase parts
#define CACHE_WORD_BYTES 24u // of a cached word, of its term; a multiple of 8
#define CACHE_ENTRIES 8192u  // 448 KiB; on abstracts 4,096 gave 73 MB/s, this 83, 16,384 gave 85
#define STOP_SLOTS 512u      // a power of two, more than twice the longest list

typedef struct cache_entry {
  uint64_t word[CACHE_WORD_BYTES / 8]; // padded with zeros; all zero: empty
  char term[CACHE_WORD_BYTES];
  uint8_t term_size;
  uint8_t stop;
} cache_entry;

// A word of a run: letters and digits without a joiner.
typedef struct run_atom {
  uint32_t start, end;  // in the text
  uint16_t at, size;    // in the run's lower-case bytes
  uint16_t suffix_size; // "++" or "#" after it
  uint8_t joiner;       // what joins it to the next: 0 none, else the level (run.c)
  bool has_digit, has_dot, wide, capitals, cut;
} run_atom;

struct rag_analyzer {
  const rag_analysis_language *language;
  rag_analysis_stemmer *stemmer;         // NULL: none
  rag_analysis_stemmer *foreign_stemmer; // for words of ASCII letters; NULL: `stemmer` takes them too
  bool plain;                            // no stemming for now (prefixes of queries)
  uint16_t stop_slots[STOP_SLOTS];       // offsets + 1 in language->stops, by hash; 0: empty
  cache_entry *cache;                    // CACHE_ENTRIES
  char id[RAG_ANALYZER_ID_MAX];

  // Of the text being analysed.
  rag_token_fn fn;
  void *context;
  const unsigned char *text;
  uint32_t text_size;
  uint32_t position;
  bool stopped; // by the callback

  // The run being read: its words' lower-case bytes, and room to make a term.
  run_atom atoms[RUN_ATOMS_MAX];
  uint32_t atom_count;
  uint32_t lower_size;
  char lower[RUN_ATOMS_MAX * (WORD_BYTES_MAX + 1)];
  char whole[WORD_BYTES_MAX + 1];
  char term[WORD_BYTES_MAX + 1];
};

typedef struct rag_analysis_term {
  const char *data; // borrowed until the next call, or as long as the word where it is the word itself
  uint32_t size;
  bool stop;
} rag_analysis_term;
// The term of a lower-case word of letters (stemmed, folded) or with digits (folded).
rag_analysis_term rag_analysis__term(rag_analyzer *analyzer, const char *word, uint32_t size, bool has_digit);
// The same of a word without digits of at most CACHE_WORD_BYTES bytes, padded with zeros.
rag_analysis_term rag_analysis__cached(rag_analyzer *analyzer, const uint64_t word[CACHE_WORD_BYTES / 8],
                                       uint32_t size);
bool rag_analysis__in_list(const char *list, const char *word, uint32_t size); // of single-spaced words

// emit.c: hands the run's words on, and clears it. `wholes`: compounds of several words as one, too.
void rag_analysis__emit(rag_analyzer *analyzer, const char *term, uint32_t size, uint32_t start, uint32_t end,
                        uint32_t flags);
void rag_analysis__emit_run(rag_analyzer *analyzer, bool wholes);

#endif
