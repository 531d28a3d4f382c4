// The analyser: opening it, its id, and the term of a word: stop list, stemmer, folding, and the cache of frequent
// words.
//
// Invariants
//  1. A term depends on the word, the language and the id's versions alone, never on what was analysed before: the
//  cache
//     holds what the slow way would give.
//  2. A term is 1 to RAG_TERM_BYTES_MAX bytes of valid UTF-8.
//
// Threads: one at a time. Memory: all of it is taken in open.
#include "index/analysis/analysis_internal.h"

#include <stdio.h>

#define RULES_VERSION 1 // of index/analysis; part of the id

bool rag_analysis__in_list(const char *list, const char *word, uint32_t size) {
  for (const char *at = list; at && *at;) {
    size_t length = strcspn(at, " ");
    if (length == size && memcmp(at, word, size) == 0) return true;
    at += length + (at[length] == ' ');
  }
  return false;
}

// ---------------------------------------------------------------------------------------------- stop words

static uint32_t stop_hash(const char *word, uint32_t size) {
  uint32_t hash = 2166136261u; // FNV-1a
  for (uint32_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)word[i]) * 16777619u;
  return (hash ^ hash >> 15) & (STOP_SLOTS - 1);
}

static void stops_build(rag_analyzer *analyzer) {
  const char *stops = analyzer->language->stops;
  for (const char *at = stops; at && *at;) {
    uint32_t length = (uint32_t)strcspn(at, " "), slot = stop_hash(at, length);
    while (analyzer->stop_slots[slot]) slot = (slot + 1) & (STOP_SLOTS - 1);
    analyzer->stop_slots[slot] = (uint16_t)(at - stops + 1);
    at += length + (at[length] == ' ');
  }
}

static bool is_stop(const rag_analyzer *analyzer, const char *word, uint32_t size) {
  const char *stops = analyzer->language->stops;
  for (uint32_t slot = stop_hash(word, size); analyzer->stop_slots[slot]; slot = (slot + 1) & (STOP_SLOTS - 1)) {
    const char *stop = stops + analyzer->stop_slots[slot] - 1;
    if (strncmp(stop, word, size) == 0 && (stop[size] == ' ' || stop[size] == '\0')) return true;
  }
  return false;
}

// ---------------------------------------------------------------------------------------------- terms

static bool is_vowel_or_q(char c) {
  return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u' || c == 'y' || c == 'q';
}

// German "ae", "oe", "ue" as the umlaut that they spell where none can be typed, unless a vowel or q is before them
// ("neue", "Quelle"). The same length, as an umlaut has two bytes.
static void german_umlauts(char *word, uint32_t size) {
  for (uint32_t i = 0; i + 1 < size; i++) {
    if (word[i + 1] != 'e' || (i > 0 && is_vowel_or_q(word[i - 1]))) continue;
    const char *umlaut = word[i] == 'a' ? "ä" : word[i] == 'o' ? "ö" : word[i] == 'u' ? "ü" : NULL;
    if (umlaut) memcpy(word + i, umlaut, 2);
  }
}

static bool is_ascii(const char *word, uint32_t size) {
  unsigned char bits = 0;
  for (uint32_t i = 0; i < size; i++) bits |= (unsigned char)word[i];
  return bits < 0x80;
}

// The stem of a word without digits; `spelled` is room for RAG_STEM_BYTES_MAX bytes.
static rag_slice stem_of(rag_analyzer *analyzer, const char *word, uint32_t size, char *spelled) {
  bool foreign = analyzer->foreign_stemmer && is_ascii(word, size);
  rag_analysis_stemmer *stemmer = foreign ? analyzer->foreign_stemmer : analyzer->stemmer;
  if (analyzer->language->flags & RAG_LANGUAGE_GERMAN) {
    memcpy(spelled, word, size);
    german_umlauts(spelled, size);
    word = spelled;
  }
  return stemmer ? rag_analysis__stem(stemmer, word, size) : rag_slice_of(word, size);
}

static __attribute__((noinline)) rag_analysis_term make_term(rag_analyzer *analyzer, const char *word, uint32_t size,
                                                             bool has_digit) {
  char spelled[RAG_STEM_BYTES_MAX];
  bool stop = is_stop(analyzer, word, size);
  rag_slice stem = rag_slice_of(word, size);
  if (!has_digit && !analyzer->plain && size <= RAG_STEM_BYTES_MAX) stem = stem_of(analyzer, word, size, spelled);
  size =
      rag_analysis__fold(analyzer->language->kept, stem.data, (uint32_t)stem.size, analyzer->term, RAG_TERM_BYTES_MAX);
  return (rag_analysis_term){analyzer->term, size, stop};
}

rag_analysis_term rag_analysis__cached(rag_analyzer *analyzer, const uint64_t word[CACHE_WORD_BYTES / 8],
                                       uint32_t size) {
  uint64_t hash = (word[0] ^ word[1] * 0x9e3779b97f4a7c15u ^ word[2] * 0xc2b2ae3d27d4eb4fu) * 0x9fb21c651e98df25u;
  cache_entry *entry = &analyzer->cache[hash >> 40 & (CACHE_ENTRIES - 1)];
  bool there = entry->word[0] == word[0] && entry->word[1] == word[1] && entry->word[2] == word[2];
  if (there && !analyzer->plain) return (rag_analysis_term){entry->term, entry->term_size, entry->stop != 0};
  rag_analysis_term term = make_term(analyzer, (const char *)word, size, false);
  if (term.size > CACHE_WORD_BYTES || analyzer->plain) return term;
  memcpy(entry->word, word, CACHE_WORD_BYTES);
  memcpy(entry->term, term.data, term.size);
  entry->term_size = (uint8_t)term.size;
  entry->stop = term.stop;
  return term;
}

rag_analysis_term rag_analysis__term(rag_analyzer *analyzer, const char *word, uint32_t size, bool has_digit) {
  if (has_digit || size > CACHE_WORD_BYTES) return make_term(analyzer, word, size, has_digit);
  uint64_t padded[CACHE_WORD_BYTES / 8] = {0};
  memcpy(padded, word, size);
  return rag_analysis__cached(analyzer, padded, size);
}

// ---------------------------------------------------------------------------------------------- open, close

// Words whose stems differ between Snowball's versions, and the most usual endings; with each language's stop words, so
// that most changes of an algorithm change the id. libstemmer does not tell its version.
static const char probe_words[] =
    "abilities added agreed analysis arguing atlas babies being bugs cement children classes connection consigned "
    "corpus dying early evening exceedingly generically geology happily hopping ideally inning lying national news "
    "organization over paste relational running skies skis tying universal university usefulness yes "
    "aktivität häuser lieblich continuellement majestueusement chevaux cheville acabarlo abandonado amadísimo boataria "
    "bôbo abbandonata propagare lichaamsziek olika jakt undersøgelse havnedistriktene edeltäjistään adókból abruptă "
    "içeriklerini geldiler важнейший вечернего κατασκευή լինելու كتابها लड़कियों";

static uint32_t stem_digest(rag_analyzer *analyzer, uint32_t crc, const char *list) {
  for (const char *at = list; at && *at;) {
    uint32_t length = (uint32_t)strcspn(at, " ");
    rag_analysis_term term = rag_analysis__term(analyzer, at, length, false);
    crc = rag_crc32c(crc, term.data, term.size);
    crc = rag_crc32c(crc, " ", 1);
    at += length + (at[length] == ' ');
  }
  return crc;
}

rag_status rag_analyzer_open(rag_slice language, rag_analyzer **out, rag_error *err) {
  const rag_analysis_language *row = rag_analysis__language(language);
  if (!row) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "language",
                          "'%.*s' is no language tag; give one such as \"en\" or \"pt-BR\", or \"und\" for none",
                          (int)RAG_MIN(language.size, (size_t)RAG_LANGUAGE_TAG_MAX), language.data);
  }
  rag_status status = RAG_OK;
  rag_analyzer *analyzer = rag_calloc(1, sizeof(*analyzer));
  if (!analyzer) return rag_fail_no_memory(err, sizeof(*analyzer));
  analyzer->language = row;
  analyzer->cache = rag_calloc(CACHE_ENTRIES, sizeof(*analyzer->cache));
  if (!analyzer->cache) {
    status = rag_fail_no_memory(err, CACHE_ENTRIES * sizeof(*analyzer->cache));
    goto out;
  }
  if (row->stemmer) RAG_TRY_OUT(rag_analysis__stemmer_open(row->stemmer, &analyzer->stemmer, err));
  if (row->flags & RAG_LANGUAGE_FOREIGN) {
    RAG_TRY_OUT(rag_analysis__stemmer_open("english", &analyzer->foreign_stemmer, err));
  }
  stops_build(analyzer);
  uint32_t digest = stem_digest(analyzer, stem_digest(analyzer, 0, row->stops), probe_words);
  snprintf(analyzer->id, sizeof(analyzer->id), "words-%d/%s/%s-%08x", RULES_VERSION, row->tag,
           rag_analysis__stemmer_kind(), (unsigned)digest);
  *out = analyzer;
  analyzer = NULL;
out:
  rag_analyzer_close(analyzer);
  return status;
}

void rag_analyzer_close(rag_analyzer *analyzer) {
  if (!analyzer) return;
  rag_analysis__stemmer_close(analyzer->foreign_stemmer);
  rag_analysis__stemmer_close(analyzer->stemmer);
  rag_free(analyzer->cache);
  rag_free(analyzer);
}

const char *rag_analyzer_id(const rag_analyzer *analyzer) {
  return analyzer->id;
}
