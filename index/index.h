// index: similarity search over vectors. Knows neither documents nor RocksDB: a row is a u32 ordinal (the caller's
// chunk number) and `dimension` floats. Builds alone with -DRAGD_ONLY_KERNELS=ON.
//
// Determinism: every score is computed by one fixed order of operations (16 virtual lanes, explicit fused multiply-add,
// one reduction tree; index/kernels/), so that every kernel on every CPU gives the same bits for the same input, and
// the same request gives the same answer. Ties are broken by the lower ordinal.
//
// Scores, higher is better: cosine = inner product of the normalised vectors; ip = inner product; l2 = minus the
// Euclidean distance. A score is always finite and never -0: what overflows is clamped to the largest float of its
// sign, and what is no number (infinities of both signs met in one sum) to the lowest.
#ifndef RAGD_INDEX_H
#define RAGD_INDEX_H

#include "base/base.h"

#define RAG_DIMENSION_MAX 8192u
#define RAG_INDEX_K_MAX 10000u // k + offset of one search

typedef enum rag_metric { RAG_METRIC_COSINE = 0, RAG_METRIC_IP = 1, RAG_METRIC_L2 = 2 } rag_metric; // on disk: pinned
const char *rag_metric_name(rag_metric metric); // "cosine", "ip", "l2"
bool rag_metric_parse(rag_slice text, rag_metric *out);

// What is kept of each component of a vector: the caller's rows, and an index's (below, rag_index_options).
typedef enum rag_datatype { RAG_DATATYPE_FLOAT32 = 0, RAG_DATATYPE_BFLOAT16 = 1 } rag_datatype; // on disk: pinned
const char *rag_datatype_name(rag_datatype datatype);                                           // "float32", "bfloat16"
bool rag_datatype_parse(rag_slice text, rag_datatype *out);

// ---------------------------------------------------------------------------------------------- vectors, kernels

// Refuses NaN and infinities, and a vector of zero (or not normalisable) length where the metric is cosine; the message
// names the component. `field` names the request field in the error.
RAG_NODISCARD rag_status rag_vector_check(const float *vector, uint32_t dimension, rag_metric metric, const char *field,
                                          rag_error *err);
// Scales to unit length (cosine spaces hold unit vectors). The input passed rag_vector_check. Computes the norm in
// double precision over the fixed order, so the result has the same bits everywhere; a subnormal or huge vector is
// scaled first and neither over- nor underflows.
void rag_vector_normalize(float *vector, uint32_t dimension);
// Rounds every component to the nearest bfloat16, which is a float whose lower sixteen bits are zero; ties to even. Finite
// components stay finite: what would become infinite is the largest bfloat16 of its sign. Below that a component of normal
// size moves by less than 2^-8 of itself, so a unit vector by less than 2^-8: its length, which is not made 1 again, and
// its inner product with any unit vector. Rounding what is rounded changes nothing.
void rag_vector_round_bf16(float *vector, uint32_t dimension);

// A set of kernels; all sets give equal bits. Rows are `stride` floats apart; no alignment is asked for.
typedef struct rag_kernels {
  const char *name; // "scalar", "avx2", "avx512"
  float (*dot)(const float *a, const float *b, uint32_t dimension);
  float (*l2_squared)(const float *a, const float *b, uint32_t dimension);
  // Scores of `rows` consecutive rows: out[i] = dot / l2_squared (query, rows + i * stride).
  void (*dot_rows)(const float *query, const float *base, size_t stride, uint32_t rows, uint32_t dimension, float *out);
  void (*l2_squared_rows)(const float *query, const float *base, size_t stride, uint32_t rows, uint32_t dimension,
                          float *out);
  // The same for rows that lie anywhere: out[i] = dot / l2_squared (query, rows[i]).
  void (*dot_gather)(const float *query, const float *const *rows, uint32_t count, uint32_t dimension, float *out);
  void (*l2_squared_gather)(const float *query, const float *const *rows, uint32_t count, uint32_t dimension,
                            float *out);
} rag_kernels;
const rag_kernels *rag_kernels_best(void); // chosen once by CPU feature; RAGD_KERNELS=name overrides
// By name, or "scalar_libm": the scalar set without the CPU's FMA. NULL: unknown, or this CPU cannot run it.
const rag_kernels *rag_kernels_named(const char *name);
float rag_vector_score(const float *a, const float *b, uint32_t dimension, rag_metric metric); // as searches score

// ---------------------------------------------------------------------------------------------- the index of a space

// One space of one knowledge base. Rows are appended by one writer at a time (the caller serialises); any number of
// readers pin a view meanwhile and never wait. Rows are never changed; the caller's filter says which are alive.
typedef struct rag_index rag_index;
typedef struct rag_index_view rag_index_view; // starts with a rag_ref: rag_ref_drop it

typedef struct rag_index_options {
  uint32_t dimension; // 1 to RAG_DIMENSION_MAX
  rag_metric metric;
  // Of full-precision rows, in memory and in segments. bfloat16: vectors are rounded when they are appended
  // (rag_vector_round_bf16), take half the bytes (rounded up to 32 components), and score as the rounded floats would, bit for bit. A query is floats.
  rag_datatype datatype;
  // "flat": all rows in memory, scanned exactly. Else what has gathered in memory is sealed into segments (below), of the
  // engine named ("graph", "ivf", "faiss"), or of what suits their rows and the memory allowed ("auto").
  const char *engine;
  const char *factory;       // of "faiss": FAISS's factory string
  uint64_t memory_bytes_max; // 0: no bound; an append beyond it is RAG_RESOURCE_EXHAUSTED
  double target_recall;      // of searches that name none; 0: RAG_INDEX_TARGET_RECALL
  uint32_t seal_rows;        // rows of the tail that are worth sealing; 0: RAG_INDEX_SEAL_ROWS
  uint32_t graph_rows;       // rows of a segment from which on it has a graph; 0: RAG_INDEX_GRAPH_ROWS
} rag_index_options;
#define RAG_INDEX_TARGET_RECALL 0.98
#define RAG_INDEX_SEAL_ROWS 2048u
#define RAG_INDEX_GRAPH_ROWS 20000u

bool rag_index_engine_known(const char *engine);
RAG_NODISCARD rag_status rag_index_create(const rag_index_options *options, rag_index **out, rag_error *err);
// What may change while the index stands: the engine, but from or to "flat", and its factory (of what is sealed from now on:
// compact builds all of it anew), target_recall and memory_bytes_max (of what is appended from now on). The check refuses
// what create would; dimension, metric and datatype are the index's. A change comes after its check, by the one writer.
RAG_NODISCARD rag_status rag_index_check_change(const rag_index *index, const rag_index_options *options,
                                                rag_error *err);
void rag_index_change(rag_index *index, const rag_index_options *options);
void rag_index_destroy(rag_index *index); // views that are still pinned stay valid until dropped

// Appends `count` rows: ordinals[i] (strictly ascending within the call, none of them present yet) has the vector
// vectors + i * dimension, already normalised where the metric is cosine. All or nothing. Searchable in every view
// taken after the return.
RAG_NODISCARD rag_status rag_index_append(rag_index *index, const uint32_t *ordinals, uint32_t count,
                                          const float *vectors, rag_error *err);
// Forgets rows for good (gc, purge). Views pinned earlier may still see them. Memory returns when whole blocks of rows
// are gone and no view needs them.
RAG_NODISCARD rag_status rag_index_remove(rag_index *index, const rag_bitmap *ordinals, rag_error *err);

rag_index_view *rag_index_pin(rag_index *index); // a new reference; lock-free
uint64_t rag_index_view_rows(const rag_index_view *view);
const rag_bitmap *rag_index_view_present(const rag_index_view *view); // borrowed: ordinals that have a row
const char *rag_index_view_build(const rag_index_view *view);         // borrowed: the index build id ("flat")
// The vector of an ordinal, or NULL when there is none: borrowed from the view while it is pinned, or where rows are
// bfloat16 decoded into `room`, which has `dimension` floats (and may be NULL where they are float32).
const float *rag_index_view_vector(const rag_index_view *view, uint32_t ordinal, float *room);

typedef struct rag_index_query {
  const float *vector;      // dimension floats; normalised by the caller where the metric is cosine
  uint32_t k;               // 1 to RAG_INDEX_K_MAX
  const rag_bitmap *filter; // only these ordinals; NULL: every row
  bool has_min_score;
  float min_score;      // hits below are dropped
  bool exact;           // exhaustive, whatever the engine
  double target_recall; // 0: the index's. Of calibration, so of queries that are like rows
  uint32_t recall_k;    // of so many best: those beyond come as they are found; 0: of all k
  uint32_t ef;          // of graphs: how wide to look; 0: as the target needs
  uint32_t nprobe;      // of lists: how many to look into; 0: as the target needs
  uint32_t rerank;      // of lists and faiss: rows kept by codes for exact scores; 0: as it needs
  uint64_t deadline_ns; // monotonic clock; 0: none. Checked every few thousand rows: RAG_DEADLINE_EXCEEDED
} rag_index_query;

typedef struct rag_index_hit {
  uint32_t ordinal;
  float score;
} rag_index_hit;

typedef struct rag_index_plan {
  const char *engine;     // static: of the piece with the most rows that pass: "flat", "graph", "ivf", "faiss"
  uint64_t candidates;    // rows that were scored, by codes or exactly
  uint64_t rescored;      // of them, by codes first and then exactly
  uint64_t tail_rows;     // rows of the tail that were scored
  uint32_t segments;      // pieces that were searched
  uint32_t walked;        // of them, by the way of a graph or of lists, which may miss rows
  uint32_t setting;       // how wide: the largest ef, nprobe or the like
  double expected_recall; // the lowest of those pieces, by their calibration; 0: not known; 1: exact
  uint64_t engine_rows;   // what `engine` was chosen by
} rag_index_plan;

// hits: room for query->k, used as working space (undefined on error); *out_count hits, best first, ties by ordinal.
// plan may be NULL. Allocates nothing.
RAG_NODISCARD rag_status rag_index_search(const rag_index_view *view, const rag_index_query *query, rag_index_hit *hits,
                                          uint32_t *out_count, rag_index_plan *plan, rag_error *err);
uint64_t rag_index_memory_bytes(const rag_index *index);

// ---------------------------------------------------------------------------------------------- sealed segments
//
// Rows are appended to the tail, in memory, and scanned exactly. What has gathered there is sealed in the background:
// written to a file, checksummed, with what an engine derives from it, and mapped from there. Segments of like size are
// merged; rows that no head has any more go to history segments, so that searches of heads do not pass them.
//
//   rag_index_task_seal, _merge  what is to be done next, if anything (any thread)
//   rag_index_task_run      does it: writes and verifies files (minutes at worst, no lock; one thread for each task)
//   (the caller makes the names of the new files durable, and forgets the old ones)
//   rag_index_task_install  publishes them (a writer, as append is)
//
// A file can always be made again from the vectors that the caller keeps. It is bound to the caller's record by a random
// id; files that no record names are garbage.
#define RAG_SEGMENT_NAME_MAX 40u // "0123...cdef.seg" and a NUL
typedef struct rag_segment_id {
  uint8_t bytes[16];
} rag_segment_id;
void rag_segment_name(const rag_segment_id *id, char out[RAG_SEGMENT_NAME_MAX]);
bool rag_segment_name_parse(rag_slice name, rag_segment_id *out); // of a file in a folder of segments

typedef struct rag_index_segment rag_index_segment; // starts with a rag_ref
typedef struct rag_index_segment_info {
  rag_segment_id id;
  const char *engine; // static
  bool history;
  uint32_t rows;         // when it was sealed
  uint64_t present;      // of them, not removed since
  uint32_t first, last;  // ordinals
  uint64_t file_bytes;   // on disk, mapped
  uint64_t memory_bytes; // of them, what searches walk: codes, graphs
  float recall;          // what calibration measured at the target; 0: not measured
} rag_index_segment_info;
uint32_t rag_index_view_segments(const rag_index_view *view);
void rag_index_view_segment(const rag_index_view *view, uint32_t at, rag_index_segment_info *out);
uint64_t rag_index_view_tail_rows(const rag_index_view *view);
// About how many bytes of rows and codes a search without a filter reads: to tell a short one from a long one.
uint64_t rag_index_view_search_bytes(const rag_index_view *view);

typedef struct rag_index_task {
  rag_index_view *view;   // owned: what it works on
  rag_segment_id *inputs; // owned: segments that go
  uint32_t input_count;
  rag_bitmap *rows[2];      // owned: of the new segments, heads' and history's; NULL: none
  rag_bitmap *erase;        // owned: the inputs are copied without what they know of these rows; then no rows[]
  rag_index_segment **made; // owned, by run
  uint32_t made_count;
  const char *why; // static
} rag_index_task;
// Sealing the tail takes a moment, merging segments may take long: one of each may be under way at once, and no more.
// *out: RAG_OK and NULL when there is nothing to do.
// Rows of the tail from `end` on stay there: those that may not be durable yet, whose numbers would be used again.
RAG_NODISCARD rag_status rag_index_task_seal(rag_index *index, uint32_t end, rag_index_task **out, rag_error *err);
// live: ordinals of every head's version; NULL: all.
RAG_NODISCARD rag_status rag_index_task_merge(rag_index *index, const rag_bitmap *live, rag_index_task **out,
                                              rag_error *err);
// Everything into one segment for heads and one for history.
RAG_NODISCARD rag_status rag_index_task_compact(rag_index *index, const rag_bitmap *live, uint32_t end,
                                                rag_index_task **out, rag_error *err);
// Segments that hold anything of these rows, or of rows that were removed before; NULL: none does.
RAG_NODISCARD rag_status rag_index_task_erase(rag_index *index, const rag_bitmap *erase, rag_index_task **out,
                                              rag_error *err);
bool rag_index_wants_task(const rag_index *index); // cheap: the tail has enough rows to be sealed
// How far sealing and merging are behind: the tail, and what lies beside the largest segment, over what makes a task of
// either. At 1 it is just due; some times that, and searches pay for it. Cheap.
typedef struct rag_index_backlog {
  double tail, beside;
} rag_index_backlog;
rag_index_backlog rag_index_backlog_of(const rag_index *index);

typedef struct rag_index_build_options {
  uint32_t threads;                                               // 0: 1
  bool (*progress)(void *context, uint64_t done, uint64_t total); // rows; false stops it: RAG_CANCELLED; may be NULL
  void *context;
} rag_index_build_options;
// Writes files into `dir`, which is there. What an error leaves is removed.
RAG_NODISCARD rag_status rag_index_task_run(rag_index *index, rag_index_task *task, const char *dir,
                                            const rag_index_build_options *options, rag_error *err);
// RAG_ABORTED: an input is no longer there; nothing was done.
RAG_NODISCARD rag_status rag_index_task_install(rag_index *index, const rag_index_task *task, rag_error *err);
// After the install: no view that readers may hold has an input any more. Then whoever destroys the task unmaps the inputs;
// of a file that is unlinked that frees all its pages, tens of milliseconds for some hundred MB.
bool rag_index_task_alone(const rag_index_task *task);
void rag_index_task_made(const rag_index_task *task, uint32_t at,
                         rag_index_segment_info *out);                         // a segment that run made
void rag_index_task_destroy(rag_index_task *task);                             // NULL is fine; removes no files
void rag_index_task_remove_files(const rag_index_task *task, const char *dir); // those that run made

// At opening, before any append: takes in a segment of an earlier run; of its rows those in `exist`. RAG_NOT_FOUND,
// RAG_DATA_LOSS, RAG_FAILED_PRECONDITION: append its rows instead, and let them be sealed again.
RAG_NODISCARD rag_status rag_index_restore(rag_index *index, const char *dir, const rag_segment_id *id,
                                           const rag_bitmap *exist, rag_error *err);

// ---------------------------------------------------------------------------------------------- words: analysis
//
// Text to terms, for documents and queries alike. An analyser reads a text and hands out its tokens in order.
//
// Positions. A text is a path of words at positions 0, 1, 2, ...: exactly one token on each, the path tokens. Length
// for BM25 is their count, and a phrase is path terms on adjacent positions. Tokens flagged RAG_TOKEN_EXTRA stand
// beside the path, for single-word matching only: phrases skip them, lengths do not count them. They come after the
// path token of their position, but a whole comes before it. So start offsets never descend.
//
// What is a word:
//  1. Letters and digits; case, accents, width and other compatibility forms folded; stemmed by the language, unless
//     a digit is in it. An apostrophe between letters belongs to it and is dropped ("don't" is "dont"); French,
//     Italian and Catalan articles before one are words of their own ("l'avion").
//  2. Numbers and versions keep points between digits ("3.14", "1.2.3", "v2.0" with the extra "2.0"); commas that group
//     thousands are dropped. "C++", "C#" are words, with the extra "c".
//  3. Words joined by _ - & . : @ / \ (no white space, a letter or digit on both sides) are a compound: its words stand
//     on the path, and each whole of it is an extra on its first word's position, joiners dropped but between two
//     digits. Joiners bind in the order _-& before . before :@ before /\, and each level gives its own whole:
//     "src/main_loop.rs" is src main loop rs, with mainloop, mainlooprs, srcmainlooprs. So snake_case, snake-case and
//     snakecase meet. A compound of more than 32 words has no wholes.
//  4. A camelCase word is one position; its parts of two letters or more are extras there ("readFile": readfil with
//     read, file), as people type such names in small letters too. Not in words of more than 64 bytes.
//  5. Han, kana, Hangul, and Thai, Lao, Burmese, Khmer (a letter with its marks): each character stands with the one
//     after it as one term, the last one of a run alone (RAG_TOKEN_TAIL). So each character begins one token.
//  6. Emoji are terms, skin tones and joiners dropped; two regional indicators are a flag.
//  7. A term has at most RAG_TERM_BYTES_MAX bytes: a longer word is found by its first so many (whole characters).
//
// The tables are our own and frozen; libstemmer's algorithms are not. Store the analyser's id beside terms and analyse
// anew when it changes.
#define RAG_TERM_BYTES_MAX 255u
#define RAG_LANGUAGE_TAG_MAX 35u
#define RAG_ANALYZER_ID_MAX 48u                // with the NUL
#define RAG_ANALYSIS_TEXT_BYTES_MAX (1u << 30) // of one text

typedef struct rag_analyzer rag_analyzer; // one thread at a time; about 470 KiB: keep one per thread and language
// language: a BCP 47 tag, of which the first part counts. "" is taken as English; "und", and languages that have no
// rules here, are split and folded only. RAG_INVALID_ARGUMENT: no language tag.
RAG_NODISCARD rag_status rag_analyzer_open(rag_slice language, rag_analyzer **out, rag_error *err);
void rag_analyzer_close(rag_analyzer *analyzer);
// Names the rules and the stemmer by its behaviour: terms made under one id are the same. Borrowed.
const char *rag_analyzer_id(const rag_analyzer *analyzer);

enum {
  RAG_TOKEN_EXTRA = 1,  // beside the path
  RAG_TOKEN_STOP = 2,   // a stop word of the language; indexed, left out of queries
  RAG_TOKEN_TAIL = 4,   // the last character of a run without spaces, alone
  RAG_TOKEN_LONE = 8,   // TAIL, and the first one too
  RAG_TOKEN_UPPER = 16, // written in two capitals or more
  RAG_TOKEN_WHOLE = 32, // EXTRA: a whole of a compound
};
typedef struct rag_token {
  rag_slice term;    // 1 to RAG_TERM_BYTES_MAX bytes of valid UTF-8; borrowed for the call
  uint32_t position; // never descends
  uint32_t start;    // bytes of the text: [start, end), for highlights; never inside a character
  uint32_t end;
  uint32_t flags; // RAG_TOKEN_*
} rag_token;
typedef bool (*rag_token_fn)(void *context, const rag_token *token); // false stops
// Hands every token of the text to fn; it must not use the analyser. Bytes that are no UTF-8 end a word. Linear time,
// no allocation. Errors: RAG_OUT_OF_RANGE (text too large), RAG_CANCELLED (fn stopped it).
RAG_NODISCARD rag_status rag_analyzer_run(rag_analyzer *analyzer, rag_slice text, rag_token_fn fn, void *context);

// A query, parsed. Its grammar: words; "quoted phrases"; +must and -not before a word or a phrase (after white space,
// and with no digit after the sign: "-5" is a number, "--flag" a word); prefix*. There are no other operators, and no
// query is an error:
//  - A quote that is not closed is not there. Signs and stars without a word neither.
//  - Stop words are dropped from plain words, unless nothing else is asked for (only_stop_words), or one is written in
//    capitals in a query that is not ("WHO guidelines"). In phrases and after + and - they count.
//  - A plain compound asks for its words and its wholes. After + or - it is the phrase of its words.
//  - Equal plain words are one clause that counts them.
//  - One Han (or kana, Hangul, Thai, ...) character alone is a prefix, as terms there have two; longer runs are words
//    of two, without the tail.
//  - prefix* is a word in small letters, not stemmed; but where stemming it takes an ending off, it is what both have
//    in common, as terms are stems ("connections*" asks for connect*). A prefix that cuts an ending in two can miss
//    ("connecti*").
//  - At most RAG_WORDS_TERMS_MAX terms; what comes after is ignored, and `truncated` says so. A longer phrase than
//    RAG_WORDS_PHRASE_MAX words is cut to its first so many, and `truncated` too.
//  - A query without a word (empty, punctuation) has no clauses; one of only -not has no positive ones. Both match
//    nothing.
#define RAG_WORDS_TERMS_MAX 1024u
#define RAG_WORDS_PHRASE_MAX 64u
typedef enum rag_words_kind { RAG_WORDS_TERM = 0, RAG_WORDS_PHRASE = 1, RAG_WORDS_PREFIX = 2 } rag_words_kind;
typedef enum rag_words_occur { RAG_WORDS_SHOULD = 0, RAG_WORDS_MUST = 1, RAG_WORDS_MUST_NOT = 2 } rag_words_occur;
typedef struct rag_words_clause {
  rag_words_kind kind;
  rag_words_occur occur;
  uint32_t count;         // times that a plain word is there; 1 for the rest
  uint32_t term_count;    // of a phrase 2 to RAG_WORDS_PHRASE_MAX, else 1
  const rag_slice *terms; // in the arena
} rag_words_clause;
typedef struct rag_words_query {
  const rag_words_clause *clauses; // in the order of the query; in the arena
  uint32_t clause_count;
  uint32_t positive_count; // those that are not MUST_NOT
  bool only_stop_words;
  bool truncated;
} rag_words_query;
// Everything in *out lies in the arena. RAG_OUT_OF_RANGE (text too large), RAG_RESOURCE_EXHAUSTED (arena).
RAG_NODISCARD rag_status rag_words_parse(rag_analyzer *analyzer, rag_slice text, rag_arena *arena, rag_words_query *out,
                                         rag_error *err);

// ---------------------------------------------------------------------------------------------- words: the lexical index
//
// The lexical index of a knowledge base: BM25 over chunks that an analyser has turned into terms. A term is an opaque
// string of 1 to RAG_LEXICAL_TERM_MAX bytes. Derived data in memory: the caller keeps each chunk's terms durable and
// appends them at load and in each commit.
//
// A version is a set of live chunks, here too. Rows are appended and never changed; a search names a version, and every
// number in its scores (chunks, their mean length, the chunks that hold a term) is exact for the live set of that
// version, whatever else the index holds and whatever the filter is.
//
// The score of a chunk: for each scored word or phrase i of the query that it holds, with
//   f  occurrences in the text + title_weight * those in the title     L  terms of the chunk, counted likewise
//      (extras are occurrences, of the text or of the title; L does not count them)
//   N  chunks of the version      L'  their mean L      n  those of them that hold the word
//   W  weight * ln(1 + (N - n + 0.5) / (n + 0.5)) * (k1 + 1)
// it gains q = 1 + floor(float(W * 2^s) * (f / (f + (A + B * L)))), an integer, where A = k1 * (1 - b) and
// B = k1 * b / L' (0 where L' is) are floats, the operations are those of floats, and s is chosen once for a query so
// that the sum of all W * 2^s is in [2^29, 2^30). The score is the sum of the q times 2^-s: integers, so that the order
// in which words are looked at cannot change a bit of it. A phrase has the sum of its words' idf; a prefix is one word
// whose occurrences are those of all its expansions. Ties are broken by the lower ordinal.
#define RAG_LEXICAL_TERM_MAX 255u
#define RAG_LEXICAL_CHUNK_TERMS_MAX (1u << 24) // terms of one chunk, extras included
#define RAG_LEXICAL_TITLE_WEIGHT_MAX 16u
#define RAG_LEXICAL_TERMS_MAX 10000u       // terms of one query, those of phrases included
#define RAG_LEXICAL_PHRASE_MAX 64u         // terms of one phrase
#define RAG_LEXICAL_PREFIX_TERMS_MAX 4096u // expansions: the first in byte order that a chunk of the version holds
#define RAG_LEXICAL_WEIGHT_MIN 1e-6f
#define RAG_LEXICAL_WEIGHT_MAX 1e6f
#define RAG_LEXICAL_K1_DEFAULT 1.2
#define RAG_LEXICAL_B_DEFAULT 0.75

typedef struct rag_lexical rag_lexical;
typedef struct rag_lexical_view rag_lexical_view;       // starts with a rag_ref: rag_ref_drop it
typedef struct rag_lexical_version rag_lexical_version; // starts with a rag_ref: rag_ref_drop it

typedef struct rag_lexical_options {
  uint32_t title_weight; // a word of the title counts as this many; 1 to RAG_LEXICAL_TITLE_WEIGHT_MAX
  // Keep each chunk's sequence of terms in memory (1 to 3 bytes a term), so that phrases are verified here. Without,
  // a query with phrases brings rag_lexical_query.phrase_count.
  bool keep_sequences;
  uint64_t memory_bytes_max; // 0: no bound; an append beyond it is RAG_RESOURCE_EXHAUSTED
} rag_lexical_options;

RAG_NODISCARD rag_status rag_lexical_create(const rag_lexical_options *options, rag_lexical **out, rag_error *err);
void rag_lexical_destroy(rag_lexical *lexical); // views that are still pinned stay valid until dropped

typedef struct rag_lexical_chunk {
  uint32_t ordinal;
  uint32_t title_count;
  uint32_t text_count;
  const rag_slice *title; // title_count terms in the order of the title; borrowed, as are the terms
  const rag_slice *text;
  // Terms beside the path (RAG_TOKEN_EXTRA), in any order: each is one more occurrence of its word, and nothing else.
  // Those of the title count title_weight times, as its words do.
  uint32_t extra_count;
  uint32_t title_extra_count;
  const rag_slice *extra;
  const rag_slice *title_extra;
} rag_lexical_chunk;

// Appends chunks: ordinals strictly ascending within the call, none of them present yet. One writer at a time (the
// caller serialises). Fast where ordinals are above all earlier ones; below, the lists of the call's terms are written
// anew from that point on. All or nothing; searchable in every view taken after the return. RAG_INVALID_ARGUMENT,
// RAG_ALREADY_EXISTS, RAG_RESOURCE_EXHAUSTED.
RAG_NODISCARD rag_status rag_lexical_append(rag_lexical *lexical, const rag_lexical_chunk *chunks, uint32_t count,
                                            rag_error *err);
// Forgets chunks for good (gc, purge): no version that is still searched may need them. Views pinned earlier see them
// still. The lists are written anew, and the memory returns, when a fifth of the rows is gone; the dictionary then
// forgets the words that no row has any more, and their memory goes with the last view pinned earlier.
RAG_NODISCARD rag_status rag_lexical_remove(rag_lexical *lexical, const rag_bitmap *ordinals, rag_error *err);

rag_lexical_view *rag_lexical_pin(rag_lexical *lexical);                          // a new reference; lock-free
const rag_bitmap *rag_lexical_view_present(const rag_lexical_view *view);         // borrowed: ordinals that have a row
uint32_t rag_lexical_view_length(const rag_lexical_view *view, uint32_t ordinal); // L of a present chunk, else 0

// A version: what BM25 needs to know of the live set `live` (what the view has of it: base set). Make one per version
// that is searched and keep it beside the version's bitmap: it caches document frequencies. `near` (may be NULL) is a
// version whose live set is similar, the parent's, say: the difference of the two sets, found block by block, is then
// counted instead of the whole, and its cached frequencies serve as a base. Any thread. *out is owned (rag_ref_drop).
// Searched with the view that it was made with or a later one.
RAG_NODISCARD rag_status rag_lexical_version_create(const rag_lexical_view *view, const rag_bitmap *live,
                                                    const rag_lexical_version *near, rag_lexical_version **out,
                                                    rag_error *err);
const rag_bitmap *rag_lexical_version_live(const rag_lexical_version *version); // borrowed: the base set
uint64_t rag_lexical_version_length(const rag_lexical_version *version);        // the sum of L over the base set
bool rag_lexical_version_derived(const rag_lexical_version *version);           // from `near`, not counted anew
// Chunks of the version that hold the term, exactly. Lock-free.
uint32_t rag_lexical_version_df(const rag_lexical_view *view, const rag_lexical_version *version, rag_slice term);

typedef enum rag_lexical_kind {
  RAG_LEXICAL_TERM = 0,   // one term
  RAG_LEXICAL_PHRASE = 1, // terms next to each other in this order, in the title or in the text; of one term: TERM
  RAG_LEXICAL_PREFIX = 2, // every term that starts with these bytes
} rag_lexical_kind;
typedef enum rag_lexical_occur {
  RAG_LEXICAL_SHOULD = 0,   // scored where it occurs
  RAG_LEXICAL_MUST = 1,     // scored; only chunks that hold it
  RAG_LEXICAL_MUST_NOT = 2, // only chunks that do not hold it
} rag_lexical_occur;

typedef struct rag_lexical_clause {
  rag_lexical_kind kind;
  rag_lexical_occur occur;
  float weight; // RAG_LEXICAL_WEIGHT_MIN to _MAX; equal terms with the same occur are one with the sum of their weights
  uint32_t term_count;    // of a phrase 1 to RAG_LEXICAL_PHRASE_MAX, of the other kinds 1
  const rag_slice *terms; // borrowed
} rag_lexical_clause;

typedef struct rag_lexical_bm25 {
  double k1; // 0 to 100
  double b;  // 0 to 1
} rag_lexical_bm25;

typedef struct rag_lexical_query {
  const rag_lexical_clause *clauses;
  uint32_t clause_count;
  uint32_t k;                   // 1 to RAG_INDEX_K_MAX
  const rag_bitmap *filter;     // only these chunks of the version; NULL: all of them
  const rag_lexical_bm25 *bm25; // NULL: RAG_LEXICAL_K1_DEFAULT, RAG_LEXICAL_B_DEFAULT
  bool exhaustive;              // score every match, without pruning: the same answer, for tests and measurements
  uint64_t deadline_ns;         // monotonic clock; 0: none. RAG_DEADLINE_EXCEEDED
  // How often the phrase occurs in a chunk that holds all its terms (text + title_weight * title), for an index that
  // keeps no sequences. Called on the searching thread, in ascending order of ordinals.
  rag_status (*phrase_count)(void *arg, uint32_t ordinal, const rag_slice *terms, uint32_t term_count,
                             uint32_t *out_count, rag_error *err);
  void *phrase_arg;
} rag_lexical_query;

typedef struct rag_lexical_hit {
  double score; // exact: an integer of less than 31 bits times a power of two
  uint32_t ordinal;
} rag_lexical_hit;

typedef struct rag_lexical_plan {
  uint32_t terms;           // scored lists, after equal terms were joined and unknown ones dropped
  uint64_t postings;        // of these lists
  uint64_t postings_scored; // of them, those whose contribution was computed
  uint64_t blocks_decoded;
  uint32_t windows;         // of 4,096 ordinals that were looked into
  uint32_t windows_skipped; // by the bounds of their blocks
  uint64_t offered;         // chunks that reached the top k list
  bool prefix_truncated;    // a prefix had more expansions than RAG_LEXICAL_PREFIX_TERMS_MAX
} rag_lexical_plan;

// A chunk matches when it holds every MUST, no MUST_NOT and, where there is no MUST, at least one SHOULD. (So a query
// of MUST_NOT alone has no hits.) hits: room for query->k; *out_count hits, best first. plan may be NULL. Lock-free;
// allocates its working space once, before it begins. RAG_INVALID_ARGUMENT, RAG_RESOURCE_EXHAUSTED,
// RAG_DEADLINE_EXCEEDED, RAG_FAILED_PRECONDITION (a phrase, no sequences and no phrase_count).
RAG_NODISCARD rag_status rag_lexical_search(const rag_lexical_view *view, const rag_lexical_version *version,
                                            const rag_lexical_query *query, rag_lexical_hit *hits, uint32_t *out_count,
                                            rag_lexical_plan *plan, rag_error *err);

typedef struct rag_lexical_stats {
  uint64_t chunks;         // rows of the newest view
  uint64_t terms;          // in the dictionary
  uint64_t postings;       // in the lists, those of removed rows that are still there included
  uint64_t bytes;          // all memory, what only older views still hold included
  uint64_t postings_bytes; // lists and blocks
  uint64_t dictionary_bytes;
  uint64_t sequence_bytes;
  uint64_t rebuilds; // times that the lists were written anew after removals
} rag_lexical_stats;
void rag_lexical_stats_get(rag_lexical *lexical, rag_lexical_stats *out); // any thread

// ---------------------------------------------------------------------------------------------- fields
//
// The field indexes of a knowledge base: which rows have which values at which path. Knows neither JSON nor documents: a
// row is a u32 ordinal (the caller's revision number), a path is text, a value is a string, an integer, a double, a
// time or a point on Earth, and marks are up to 15 yes-or-no facts whose meaning is the caller's. A row may have many
// values at one path. Derived data in memory: the caller appends at load and in each commit.
//
// Rows are kept by blocks of RAG_BITMAP_BLOCK_BITS ordinals, as bitmaps have them, and every question is asked of one
// block and answered into its words: a filter of many conditions is evaluated block by block in cache.
//
// What is past a limit is not lost but *not decided*: a string that is too long or one too many marks its row with
// RAG_FIELDS_MARK_OPAQUE at that path, a row whose paths or values are too many is opaque as a whole
// (rag_fields_block_opaque). A row that an answer's words lack is then not out: the caller looks at it itself.
#define RAG_FIELDS_PATH_BYTES_MAX 1024u     // a longer path makes its row opaque
#define RAG_FIELDS_ROW_VALUES_DEFAULT 4096u // values of one row; more make the row opaque
#define RAG_FIELDS_PATHS_DEFAULT 1024u      // paths in a block; those of the most rows are kept
#define RAG_FIELDS_PATHS_MAX 16384u
#define RAG_FIELDS_STRINGS_DEFAULT 65536u    // different strings of one path in a block: one per row fits
#define RAG_FIELDS_STRING_BYTES_DEFAULT 256u // of one string
#define RAG_FIELDS_STRING_BYTES_MAX (1u << 28)
#define RAG_FIELDS_LIST_MAX 1024u      // paths in options
#define RAG_FIELDS_MARK_OPAQUE 0x8000u // a string of the row at this path is not indexed; the other 15 are free

typedef struct rag_fields rag_fields;
typedef struct rag_fields_view rag_fields_view; // starts with a rag_ref: rag_ref_drop it

typedef struct rag_fields_options {
  // Paths to index (none: all) and to leave out. A listed path stands for itself and for those that go on below it,
  // with '.' or '['; a [] at its end says nothing. Copied.
  const rag_slice *only, *except;
  uint32_t only_count, except_count;
  uint32_t paths_max;        // of a block; 0: RAG_FIELDS_PATHS_DEFAULT
  uint32_t strings_max;      // of a path in a block; 0: RAG_FIELDS_STRINGS_DEFAULT
  uint32_t string_bytes_max; // 0: RAG_FIELDS_STRING_BYTES_DEFAULT
  uint32_t row_values_max;   // 0: RAG_FIELDS_ROW_VALUES_DEFAULT
  uint64_t memory_bytes_max; // of the newest view; 0: no bound; an append beyond it is RAG_RESOURCE_EXHAUSTED
} rag_fields_options;
// RAG_INVALID_ARGUMENT (a limit over its maximum, a list that is too long, an empty path).
RAG_NODISCARD rag_status rag_fields_create(const rag_fields_options *options, rag_fields **out, rag_error *err);
void rag_fields_destroy(rag_fields *fields); // views that are still pinned stay valid until dropped

// Rows to append, built by one thread, before the writer's turn if it likes; any number of batches at once. What is
// given is copied. A failure (memory, order) sticks and is told by rag_fields_append. Temporary memory, about 40 bytes a
// value of one block, is not counted.
typedef struct rag_fields_batch rag_fields_batch;
RAG_NODISCARD rag_status rag_fields_batch_create(const rag_fields *fields, rag_fields_batch **out, rag_error *err);
void rag_fields_batch_destroy(rag_fields_batch *batch);
#define RAG_FIELDS_NO_PATH UINT32_MAX           // left out by options: what is added there is ignored
#define RAG_FIELDS_OPAQUE_PATH (UINT32_MAX - 1) // too long, or one too many: what is added there makes the row opaque
// The number of a path within the batch, good until the epoch changes, which an append may do.
uint32_t rag_fields_batch_path(rag_fields_batch *batch, rag_slice path);
uint32_t rag_fields_batch_epoch(const rag_fields_batch *batch);
void rag_fields_batch_row(rag_fields_batch *batch, uint32_t ordinal); // begins a row; strictly ascending
void rag_fields_batch_opaque(rag_fields_batch *batch);                // the row has what was not told
void rag_fields_batch_mark(rag_fields_batch *batch, uint32_t path, uint32_t marks);
void rag_fields_batch_string(rag_fields_batch *batch, uint32_t path, rag_slice value);
void rag_fields_batch_int(rag_fields_batch *batch, uint32_t path, int64_t value);
void rag_fields_batch_double(rag_fields_batch *batch, uint32_t path, double value); // no NaN
void rag_fields_batch_time(rag_fields_batch *batch, uint32_t path, int64_t value_us);
void rag_fields_batch_point(rag_fields_batch *batch, uint32_t path, double lat, double lon);

// Appends the batch's rows, none of them present yet, and leaves the batch empty; on error it is empty too and nothing
// was appended. One writer at a time (the caller serialises append and remove). Seen by every view pinned after the
// return. A small append costs what it brings and now and then a merge: a block is kept as segments of rows, eight of
// about one size become one, and a block that is left behind becomes one segment. The longest merge is one block's.
// RAG_INVALID_ARGUMENT, RAG_ALREADY_EXISTS, RAG_RESOURCE_EXHAUSTED.
RAG_NODISCARD rag_status rag_fields_append(rag_fields *fields, rag_fields_batch *batch, rag_error *err);
// Forgets rows for good (gc, purge): the segments that have any are written anew without them, so a string that no other
// row has is gone from memory when the views pinned earlier are.
RAG_NODISCARD rag_status rag_fields_remove(rag_fields *fields, const rag_bitmap *ordinals, rag_error *err);

rag_fields_view *rag_fields_pin(rag_fields *fields);          // a new reference; lock-free
uint32_t rag_fields_view_blocks(const rag_fields_view *view); // blocks 0..n-1 may have rows
uint64_t rag_fields_view_rows(const rag_fields_view *view);
bool rag_fields_view_has_path(const rag_fields_view *view,
                              rag_slice path); // by options: unlisted paths are not indexed

// Questions. Each adds (ors) the rows of a block for which it is true to `words`, RAG_BITMAP_BLOCK_WORDS of them; a row
// with many values is there when any of them is. Any thread; no allocation; a block or path without rows adds none.
void rag_fields_block_present(const rag_fields_view *view, uint32_t block, uint64_t *words); // has a row
void rag_fields_block_opaque(const rag_fields_view *view, uint32_t block, uint64_t *words);
// Rows that have any of the marks.
void rag_fields_block_marked(const rag_fields_view *view, uint32_t block, rag_slice path, uint32_t marks,
                             uint64_t *words);
// Rows with a string that is among the sorted list (except: with one that is not).
void rag_fields_block_strings(const rag_fields_view *view, uint32_t block, rag_slice path, const rag_slice *sorted,
                              uint32_t count, bool except, uint64_t *words);
void rag_fields_block_ints(const rag_fields_view *view, uint32_t block, rag_slice path, const int64_t *sorted,
                           uint32_t count, bool except, uint64_t *words);
void rag_fields_block_prefix(const rag_fields_view *view, uint32_t block, rag_slice path, rag_slice prefix,
                             uint64_t *words);
// Rows with a string that contains any of the parts, byte for byte. Reads the block's strings: linear in their bytes.
// False: the deadline (0: none) passed, and words lacks rows.
bool rag_fields_block_containing(const rag_fields_view *view, uint32_t block, rag_slice path, const rag_slice *parts,
                                 uint32_t count, uint64_t deadline_ns, uint64_t *words);
typedef struct rag_fields_range { // an absent end is infinite; ends that cross hold nothing
  bool has_low, has_high, low_open, high_open;
  double low, high;        // of numbers: integers and doubles, compared as doubles
  int64_t low_us, high_us; // of times
} rag_fields_range;
void rag_fields_block_numbers(const rag_fields_view *view, uint32_t block, rag_slice path,
                              const rag_fields_range *range, uint64_t *words);
void rag_fields_block_times(const rag_fields_view *view, uint32_t block, rag_slice path, const rag_fields_range *range,
                            uint64_t *words);
// Rows with a point of a latitude in [lat_low, lat_high] of which `test` says true.
typedef bool (*rag_fields_point_fn)(const void *context, double lat, double lon);
void rag_fields_block_points(const rag_fields_view *view, uint32_t block, rag_slice path, double lat_low,
                             double lat_high, rag_fields_point_fn test, const void *context, uint64_t *words);

// How many of `rows` have each value: strings, integers and doubles that are there, most frequent first, then strings
// before integers before doubles, then by value.
typedef enum rag_fields_kind { RAG_FIELDS_STRING = 0, RAG_FIELDS_INT = 1, RAG_FIELDS_DOUBLE = 2 } rag_fields_kind;
typedef struct rag_fields_count {
  rag_fields_kind kind;
  rag_slice string; // borrowed from the views
  int64_t integer;
  double number;
  uint64_t rows;
} rag_fields_count;
typedef struct rag_fields_counts {
  uint32_t count; // of the list that was filled
  uint64_t distinct;
  bool has_range; // any number
  double min, max;
} rag_fields_counts;
// Several views (1 to RAG_FIELDS_VIEWS_MAX, of indexes whose rows differ), each with a path and rows of its own, are
// counted as one: a value that two of them have is one. counts: room for `limit` entries. Memory: one cursor for each
// segment. RAG_RESOURCE_EXHAUSTED, RAG_DEADLINE_EXCEEDED.
#define RAG_FIELDS_VIEWS_MAX 4u
typedef struct rag_fields_counted {
  const rag_fields_view *view;
  rag_slice path;
  const rag_bitmap *rows;
} rag_fields_counted;
RAG_NODISCARD rag_status rag_fields_count_values(const rag_fields_counted *counted, uint32_t counted_count,
                                                 uint32_t limit, uint64_t deadline_ns, rag_fields_count *counts,
                                                 rag_fields_counts *out, rag_error *err);

typedef struct rag_fields_stats {
  uint64_t rows;
  uint64_t paths;       // different ones of the newest view
  uint64_t values;      // of the newest view: (row, value) pairs; marks are none
  uint64_t strings;     // dictionary entries: a string counts in each segment that has it
  uint64_t opaque_rows; // as a whole
  uint64_t segments;
  uint64_t bytes;     // of the newest view
  uint64_t bytes_all; // what only older views still hold included
  uint64_t merges;    // segments written by merging others
} rag_fields_stats;
// Any thread; walks the segments. RAG_RESOURCE_EXHAUSTED.
RAG_NODISCARD rag_status rag_fields_stats_get(rag_fields *fields, rag_fields_stats *out, rag_error *err);

#endif
