// kb: versioned knowledge bases. Documents, contents, revisions, chunks, commits, branches, tags, diff, merge, rollback,
// retention, export; and the planning of a search over them. Stands on store (durability), index (similarity) and
// embed (text to vectors). Knows neither HTTP nor protobuf nor JSON: metadata is opaque text here.
//
// Words: see docs/ARCHITECTURE.md. In short: revisions and chunks of a kb are append-only and numbered (u32); a commit is
// the *set* of revisions and chunks that are alive, kept as a delta on disk and as a persistent bitmap in memory. So a
// branch, a tag or a rollback costs nothing, a diff is a symmetric difference, and a search at an old version is the
// same search with another bitmap as its filter.
//
// Threads: rag_kbs and rag_kb are thread-safe. Reads never wait for writes: they pin an immutable view. Writes of all
// kbs of a store are ordered by the store's group commit.
#ifndef RAGD_KB_H
#define RAGD_KB_H

#include "base/base.h"
#include "embed/embed.h"
#include "index/index.h"
#include "store/store.h"

// Limits. Each has a test at it and one past it.
#define RAG_DOCUMENT_ID_BYTES_MAX 512u
#define RAG_DOCUMENT_TEXT_BYTES_MAX (32u << 20)
#define RAG_DOCUMENT_TITLE_BYTES_MAX 4096u
#define RAG_DOCUMENT_METADATA_BYTES_MAX (1u << 20)
#define RAG_DOCUMENT_URI_BYTES_MAX 4096u
#define RAG_DOCUMENT_CHUNKS_MAX 65536u
#define RAG_PUT_DOCUMENTS_MAX 100000u // of one call, deletions included
#define RAG_COMMIT_MESSAGE_BYTES_MAX 8192u
#define RAG_COMMIT_AUTHOR_BYTES_MAX 256u
#define RAG_KB_DESCRIPTION_BYTES_MAX 4096u
#define RAG_KB_BRANCHES_MAX 10000u
#define RAG_KB_TAGS_MAX 100000u
#define RAG_KBS_MAX 10000u
#define RAG_IDEMPOTENCY_KEY_BYTES_MAX 255u
#define RAG_IDEMPOTENCY_TTL_US (INT64_C(24) * 3600 * 1000000)
#define RAG_REF_BYTES_MAX 160u
#define RAG_LIST_LIMIT_MAX 10000u
#define RAG_PURGE_IDS_MAX 1000u             // of one purge
#define RAG_PURGE_ID_BYTES_MAX (128u << 10) // of all ids of one purge

typedef struct rag_kbs rag_kbs;         // every kb of a store
typedef struct rag_kb rag_kb;           // one kb; starts with a rag_ref: rag_ref_drop it
typedef struct rag_version rag_version; // one commit, pinned; starts with a rag_ref: rag_ref_drop it
typedef struct rag_filter rag_filter;   // conditions on ids and metadata: see "filters" below

// A list of owned strings.
typedef struct rag_strings {
  char **items;
  size_t count;
  size_t capacity;
} rag_strings;
RAG_NODISCARD rag_status rag_strings_add(rag_strings *list, rag_slice s, rag_error *err);
void rag_strings_sort(rag_strings *list);
void rag_strings_free(rag_strings *list);

// ---------------------------------------------------------------------------------------------- chunking

typedef enum rag_chunk_method { // on disk: pinned
  RAG_CHUNK_STRUCTURE = 0,      // Markdown headings, paragraphs, sentences, packed up to max_tokens
  RAG_CHUNK_WHOLE = 1,          // the whole text is one chunk
  RAG_CHUNK_FIXED = 2,          // max_tokens tokens, overlap_tokens shared with the one before
} rag_chunk_method;
const char *rag_chunk_method_name(rag_chunk_method method); // "structure", "whole", "fixed"
bool rag_chunk_method_parse(rag_slice text, rag_chunk_method *out);
typedef struct rag_chunking {
  rag_chunk_method method;
  uint32_t max_tokens;     // 16 to 8192; a token here is a word, a number, a CJK character or a punctuation mark
  uint32_t overlap_tokens; // fixed: less than half of max_tokens; structure: whole sentences up to so many tokens
} rag_chunking;
#define RAG_CHUNK_TOKENS_MIN 16u
#define RAG_CHUNK_TOKENS_MAX 8192u
rag_chunking rag_chunking_default(void); // structure, 256, 0
RAG_NODISCARD rag_status rag_chunking_check(const rag_chunking *chunking, rag_error *err);

typedef struct rag_span { // bytes [start, end) of the text
  uint32_t start;
  uint32_t end;
} rag_span;
// Cuts valid UTF-8 text into spans, ascending, never inside a character, none blank (white space only), together
// covering every non-blank character. Deterministic: the same text and chunking give the same spans for ever (the spans
// are part of stored data). *out owned (rag_free). A blank text gives none. RAG_INVALID_ARGUMENT: over
// RAG_DOCUMENT_CHUNKS_MAX spans; the message says which max_tokens would do.
RAG_NODISCARD rag_status rag_chunk_text(const rag_chunking *chunking, rag_slice text, rag_span **out,
                                        uint32_t *out_count, rag_error *err);
uint64_t rag_count_tokens(rag_slice text);

// A unified diff of two texts by lines (Myers), `context` lines around each change, appended to out. Bounded work: texts
// whose difference is too large are shown as one whole replacement.
RAG_NODISCARD rag_status rag_text_diff(rag_slice from, rag_slice to, const char *from_label, const char *to_label,
                                       unsigned context, rag_buf *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- knowledge bases

typedef struct rag_kb_config {
  char name[RAG_NAME_MAX + 1];
  char *description;            // owned, "" when none
  char model[RAG_NAME_MAX + 1]; // embedder name; "" when vectors come from the client
  uint32_t dimension;           // of the vectors
  rag_metric metric;
  rag_chunking chunking;
  char language[16];    // BCP 47 tag of the texts, or ""
  char engine[16];      // "auto", "flat", "graph", "ivf", "faiss"
  char factory[128];    // for engine "faiss"
  double target_recall; // 0: default
  uint64_t memory_bytes_max;
  // Of what is stored: bfloat16 takes half the room, and rounds each vector, once it is normalised, before anything else
  // is done with it (index.h: rag_vector_round_bf16). So every answer is of the rounded vectors. Fixed at creation.
  rag_datatype datatype;
  uint32_t lag_slo_seconds; // 0: none
  uint32_t max_age_seconds;
  // Which metadata fields are indexed for filters: paths, one a line; owned, "" or NULL: none named. Every path when only
  // is empty, but those of except. Filters on others give the same answers, by scan. Applies when the kb is loaded next.
  char *fields_only, *fields_except;
  uint32_t fields_values_max; // different strings of one field in 65,536 revisions; 0: RAG_FIELDS_STRINGS_DEFAULT
  uint64_t generation; // of the settings as described, in memory only: an update of another one is refused; 0: no check
} rag_kb_config;
void rag_kb_config_init(rag_kb_config *config); // the defaults: hash-384, cosine, structure chunks
void rag_kb_config_free(rag_kb_config *config);

typedef struct rag_kb_info { // rag_kb_info_free
  rag_kb_config config;
  uint64_t id;
  int64_t created_us;
  char *space;                // fingerprint of the active space
  uint64_t documents, chunks; // at the head of main
  uint64_t commits;           // made so far, dropped ones included
  uint64_t branches, tags;
  uint64_t revisions, contents; // allocated so far
  char head[16];                // head of main: "c42"
} rag_kb_info;
void rag_kb_info_free(rag_kb_info *info);

typedef struct rag_kbs_options {
  uint64_t object_cache_bytes; // decoded documents ready to answer with; default 256 MiB
  uint32_t version_cache;      // live sets of versions kept ready; default 256
  bool load_at_open;           // read vectors into memory at open (server) or at first search (command line)
  uint32_t seal_rows, graph_rows; // of indexes: see rag_index_options; 0: their defaults
} rag_kbs_options;
rag_kbs_options rag_kbs_options_default(void);

// jobs: gc, purge and deletion run there; kinds are registered here. Both borrowed for the lifetime.
RAG_NODISCARD rag_status rag_kbs_open(rag_store *store, rag_jobs *jobs, const rag_kbs_options *options, rag_kbs **out,
                                      rag_error *err);
void rag_kbs_close(rag_kbs *kbs); // every rag_kb and rag_version reference must have been dropped

// Every write takes one: who and why, and how a retry is recognised. Zero-initialised is valid.
typedef struct rag_write {
  rag_slice branch; // empty: main
  rag_slice message;
  rag_slice author;
  rag_slice expect_parent;   // ref; empty: none. Of puts and changes of metadata: the others have their own checks
  rag_slice idempotency_key; // empty: none
  rag_digest request_digest; // of the request body, compared when a key comes back
} rag_write;

// config is copied. RAG_ALREADY_EXISTS. With an idempotency key the first answer comes again.
RAG_NODISCARD rag_status rag_kbs_create(rag_kbs *kbs, const rag_kb_config *config, const rag_write *write, rag_kb **out,
                                        rag_error *err);
RAG_NODISCARD rag_status rag_kbs_get(rag_kbs *kbs, rag_slice name, rag_kb **out, rag_error *err); // *out: a reference
// By name, names > after, at most limit. *out: owned array of references.
RAG_NODISCARD rag_status rag_kbs_list(rag_kbs *kbs, rag_slice after, uint32_t limit, rag_kb ***out, uint32_t *out_count,
                                      rag_error *err);
// Replaces what may change: description, language, chunking (for texts put from now on), freshness, the index's engine and
// factory (of what is sealed from now on; rag_kb_index_compact builds all of it anew; not from or to "flat"), target_recall,
// memory_bytes_max. RAG_INVALID_ARGUMENT for a change of name, model, dimension, metric, datatype. RAG_ABORTED when the
// settings were changed since `config` was described (generation).
RAG_NODISCARD rag_status rag_kbs_update(rag_kbs *kbs, const rag_kb_config *config, rag_error *err);
// Gone from every answer at return; its rows are removed by a job (*out_job).
RAG_NODISCARD rag_status rag_kbs_delete(rag_kbs *kbs, rag_slice name, uint64_t *out_job, rag_error *err);

const char *rag_kb_name(const rag_kb *kb); // borrowed
RAG_NODISCARD rag_status rag_kb_describe(rag_kb *kb, rag_kb_info *out, rag_error *err);
// Reads vectors and tables into memory when they are not there yet (searches do it by themselves).
RAG_NODISCARD rag_status rag_kb_load(rag_kb *kb, rag_error *err);

// ---------------------------------------------------------------------------------------------- writes

typedef struct rag_chunk_input {
  rag_slice text;
  const float *vector;       // or NULL
  uint32_t vector_dimension; // components at `vector`
  rag_slice metadata;        // JSON object text or empty
} rag_chunk_input;

typedef struct rag_document_input { // everything borrowed for the call
  rag_slice id;
  rag_slice text;
  rag_slice title;
  rag_slice metadata; // JSON object text in compact form, or empty
  rag_slice source_uri;
  int64_t source_modified_us; // 0: unknown. Not part of a document's identity: a touched but equal file is unchanged
  int64_t effective_us;       // 0: unknown
  const float *vector;        // NULL: none; makes the document one chunk
  uint32_t vector_dimension;
  const rag_chunk_input *chunks; // the caller's own chunks, or NULL
  uint32_t chunk_count;
  rag_slice language; // BCP 47 tag of title and text, for their words; empty: the kb's
} rag_document_input;

typedef enum rag_prune { RAG_PRUNE_NONE = 0, RAG_PRUNE_SOURCE = 1, RAG_PRUNE_ALL = 2 } rag_prune;

typedef struct rag_put {
  const rag_document_input *documents;
  uint32_t document_count;
  const rag_slice *delete_ids;
  uint32_t delete_count;
  rag_prune prune;
  const rag_filter *delete_filter; // also delete what passes at the branch's head; NULL: nothing. Borrowed
} rag_put;

typedef struct rag_write_result {
  uint64_t commit; // the new head, or the old one when nothing changed
  bool committed;  // a commit was made
  bool replayed;   // an earlier answer to the same idempotency key
  uint64_t added, changed, unchanged, removed;
  uint64_t missing; // ids to delete that were not there
  uint64_t chunks_added, chunks_embedded, chunks_reused;
} rag_write_result;

// One call, one commit, all or nothing, durable at return. A call that changes nothing makes no commit.
// RAG_ABORTED on a conflict with expect_parent: *conflicts (may be NULL) gets the document ids.
RAG_NODISCARD rag_status rag_kb_put(rag_kb *kb, const rag_write *write, const rag_put *put, rag_write_result *out,
                                    rag_strings *conflicts, rag_error *err);
// New metadata for one document. expected_revision 0: any; else RAG_ABORTED when the document has moved on.
RAG_NODISCARD rag_status rag_kb_set_metadata(rag_kb *kb, const rag_write *write, rag_slice id,
                                             uint32_t expected_revision, rag_slice metadata, rag_write_result *out,
                                             rag_error *err);
typedef enum rag_merge_strategy { RAG_MERGE_FAIL = 0, RAG_MERGE_OURS = 1, RAG_MERGE_THEIRS = 2 } rag_merge_strategy;
// Three-way merge of `from` (ref) into branch `into`. Ours is `into`. RAG_ABORTED with the conflicting ids.
RAG_NODISCARD rag_status rag_kb_merge(rag_kb *kb, const rag_write *write, rag_slice from, rag_slice into,
                                      rag_merge_strategy strategy, rag_write_result *out, rag_strings *conflicts,
                                      rag_error *err);
// A new commit on the branch with the content of `to`.
RAG_NODISCARD rag_status rag_kb_rollback(rag_kb *kb, const rag_write *write, rag_slice to, rag_write_result *out,
                                         rag_error *err);

// ---------------------------------------------------------------------------------------------- versions, refs

// ref: branch, tag, c42, REF~n, BRANCH@time; empty: main. RAG_NOT_FOUND names what does not exist and what to do.
RAG_NODISCARD rag_status rag_kb_resolve(rag_kb *kb, rag_slice ref, rag_version **out, rag_error *err);
uint64_t rag_version_commit(const rag_version *version);
uint64_t rag_version_documents(const rag_version *version);
uint64_t rag_version_chunks(const rag_version *version);

typedef enum rag_commit_kind { // on disk: pinned
  RAG_COMMIT_INIT = 0,
  RAG_COMMIT_PUT = 1,
  RAG_COMMIT_METADATA = 2,
  RAG_COMMIT_MERGE = 3,
  RAG_COMMIT_ROLLBACK = 4,
  RAG_COMMIT_DELETE = 5,
  RAG_COMMIT_IMPORT = 6,
} rag_commit_kind;
const char *rag_commit_kind_name(rag_commit_kind kind);

typedef struct rag_commit_info { // owned strings: rag_commit_info_free
  uint64_t id;
  uint64_t parents[2];
  uint32_t parent_count;
  int64_t time_us;
  char *author, *message;
  rag_commit_kind kind;
  uint64_t added, changed, removed; // documents, against the first parent
  bool counts_exact;                // false: a rollback over a large difference; added and removed then count revisions
  uint64_t documents, chunks;
  char *space;
} rag_commit_info;
void rag_commit_info_free(rag_commit_info *info);
RAG_NODISCARD rag_status rag_kb_commit_get(rag_kb *kb, rag_slice ref, rag_commit_info *out, rag_error *err);
// First parents from `branch`'s head (or any ref) down; page_token: a commit id to go on below, 0 to start.
RAG_NODISCARD rag_status rag_kb_log(rag_kb *kb, rag_slice ref, uint64_t below, uint32_t limit, rag_commit_info **out,
                                    uint32_t *out_count, uint64_t *out_next, rag_error *err);

typedef struct rag_ref_info { // a branch or a tag
  char name[RAG_NAME_MAX + 1];
  uint64_t commit;
  int64_t created_us;
  int64_t moved_us;
} rag_ref_info;
// from: ref; empty: main. RAG_ALREADY_EXISTS for any name that a branch or a tag has.
RAG_NODISCARD rag_status rag_kb_branch_create(rag_kb *kb, const rag_write *write, rag_slice name, rag_slice from,
                                              rag_ref_info *out, rag_error *err);
RAG_NODISCARD rag_status rag_kb_branch_delete(rag_kb *kb, rag_slice name, rag_error *err); // main: FAILED_PRECONDITION
RAG_NODISCARD rag_status rag_kb_tag_create(rag_kb *kb, const rag_write *write, rag_slice name, rag_slice from,
                                           rag_ref_info *out, rag_error *err);
RAG_NODISCARD rag_status rag_kb_tag_delete(rag_kb *kb, rag_slice name, rag_error *err);
// By name, names > after. *out owned (rag_free).
RAG_NODISCARD rag_status rag_kb_branches(rag_kb *kb, rag_slice after, uint32_t limit, rag_ref_info **out,
                                         uint32_t *out_count, rag_error *err);
RAG_NODISCARD rag_status rag_kb_tags(rag_kb *kb, rag_slice after, uint32_t limit, rag_ref_info **out,
                                     uint32_t *out_count, rag_error *err);

typedef enum rag_change { RAG_CHANGE_ADDED = 0, RAG_CHANGE_CHANGED = 1, RAG_CHANGE_REMOVED = 2 } rag_change;
typedef struct rag_diff_entry {
  char *id;
  rag_change change;
  bool text_changed;                   // false: only metadata or source fields differ
  uint32_t from_revision, to_revision; // 0: not there
} rag_diff_entry;
typedef struct rag_diff { // rag_diff_free. Entries by document id
  rag_diff_entry *entries;
  size_t count;
  uint64_t from_commit, to_commit;
  uint64_t added, changed, removed;
} rag_diff;
void rag_diff_free(rag_diff *diff);
RAG_NODISCARD rag_status rag_kb_diff(rag_kb *kb, rag_slice from, rag_slice to, rag_diff *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- documents

typedef struct rag_document { // borrowed views into pinned records: rag_document_free
  rag_slice id, text, title, metadata, source_uri;
  rag_slice language; // as given; empty: the kb's
  int64_t source_modified_us, effective_us;
  uint32_t revision, content, first_chunk, chunk_count;
  uint64_t commit; // the commit that made this revision
  int64_t time_us; // when
  void *pins[2];
} rag_document;
void rag_document_free(rag_document *document);
RAG_NODISCARD rag_status rag_kb_document_get(rag_kb *kb, rag_slice at, rag_slice id, rag_document *out, rag_error *err);
// One revision, whatever version it lives in (for diffs).
RAG_NODISCARD rag_status rag_kb_revision_get(rag_kb *kb, uint32_t revision, rag_document *out, rag_error *err);
// Documents of a version in revision order, revisions > after; *out owned array (free each, then rag_free).
// *out_next: the revision to go on after, 0 at the end. *out_commit: page on with it, so that pages agree.
// filter: only documents that pass; NULL: all.
RAG_NODISCARD rag_status rag_kb_documents(rag_kb *kb, rag_slice at, const rag_filter *filter, uint32_t after,
                                          uint32_t limit, rag_document **out, uint32_t *out_count, uint32_t *out_next,
                                          uint64_t *out_commit, rag_error *err);
// Spans of a document's chunks, for display. *out owned.
RAG_NODISCARD rag_status rag_kb_document_chunks(rag_kb *kb, const rag_document *document, rag_span **out,
                                                uint32_t *out_count, rag_error *err);

// ---------------------------------------------------------------------------------------------- search

typedef enum rag_search_mode {
  RAG_SEARCH_AUTO = 0,    // hybrid where there are words and a vector to search with, else what there is
  RAG_SEARCH_VECTOR = 1,  // nearest vectors
  RAG_SEARCH_LEXICAL = 2, // BM25 over words (index.h: the query's grammar)
  RAG_SEARCH_HYBRID = 3,  // both, fused
} rag_search_mode;
const char *rag_search_mode_name(rag_search_mode mode); // "auto", "vector", ...

typedef enum rag_fusion_method {
  RAG_FUSION_RRF = 0,      // the sum of weight / (k + rank), ranks from 1
  RAG_FUSION_WEIGHTED = 1, // the weighted mean of both scores, each scaled to 0..1 (kb/retrieval/rank.c says how)
} rag_fusion_method;
typedef struct rag_fusion {
  rag_fusion_method method;
  uint32_t k;          // of rrf; 0: RAG_FUSION_K_DEFAULT
  bool has_weights;    // false: 1 and 1
  float vector_weight; // 0 or more, finite; not both 0
  float lexical_weight;
} rag_fusion;
#define RAG_FUSION_K_DEFAULT 60u
// Ranks of both sides weigh the same; but a hash model looks at words too, less sharply than BM25, so its side is given a
// fifth of the score. nDCG@10 on SciFact / Cranfield: .700 / .540; with ranks of equal weight .629 / .519; words alone
// .698 / .534 (benchmarks/retrieval).
rag_fusion rag_fusion_for_model(rag_slice model);
#define RAG_FUSION_K_MAX 100000u
// How deep each side is looked into for a fused answer of n hits: the first of 100, 200, 400, ... that is at least 2 n, at
// most RAG_INDEX_K_MAX. So pages within one of these steps are pages of one ranking.
#define RAG_FUSION_DEPTH_MIN 100u
#define RAG_MMR_CANDIDATES_MAX 1000u
#define RAG_SEARCH_QUERY_BYTES_MAX (1u << 20)
#define RAG_HIGHLIGHTS_MAX 256u // spans of one hit

typedef struct rag_search {
  rag_slice query;     // text: words to look for and, where the kb has a model, what is embedded; or
  const float *vector; // a vector; both: the text gives the words, the vector the meaning
  uint32_t vector_dimension;
  rag_search_mode mode;
  uint32_t k; // 1 to RAG_INDEX_K_MAX with offset
  uint32_t offset;
  bool has_min_score;
  float min_score; // of the score by which the answer is ordered
  rag_slice at;
  const rag_filter *filter; // only these documents; NULL: every one. Borrowed
  rag_fusion fusion;        // hybrid
  bool fusion_by_model;     // hybrid: not `fusion` but what suits the kb's model (rag_fusion_for_model)
  uint32_t per_document;    // at most so many chunks of one document; 0: any number
  bool has_mmr;             // order by maximal marginal relevance
  float mmr_lambda;         // 0 (diversity) to 1 (relevance)
  uint32_t mmr_candidates;  // to choose from: k + offset to RAG_MMR_CANDIDATES_MAX; 0: four times k + offset, bounded
  rag_slice language;       // of the query's words; empty: the kb's
  bool exact;
  double target_recall; // of the vector side; 0: the kb's
  uint32_t ef, nprobe, rerank; // of engines: see rag_index_query; 0: as the target needs
  bool want_text, want_metadata, want_vector, want_highlights;
  uint64_t min_commit;  // answer at least as new as this commit; 0: none
  uint64_t timeout_ms;  // how long to wait for min_commit
  uint64_t deadline_ns; // monotonic; 0: none
} rag_search;

typedef struct rag_hit { // borrowed from the result
  rag_slice document_id, text, title, metadata, source_uri, chunk_metadata;
  uint32_t chunk, revision;
  uint32_t start, end; // bytes of the document's text; 0, 0 for a chunk with a text of its own
  float score;         // what the answer is ordered by: of the mode; with mmr still the relevance
  bool has_vector_score, has_lexical_score;
  float vector_score, lexical_score;
  const float *vector;        // where wanted
  const rag_span *highlights; // bytes of the chunk's text, ascending, apart
  uint32_t highlight_count;
} rag_hit;

// How a search was answered, with numbers. Times in ns.
typedef struct rag_search_plan {
  rag_search_mode mode;  // never AUTO
  const char *reason;    // static: why this mode
  rag_index_plan vector; // engine NULL: not searched
  uint64_t disk_reads;   // pages of its files that were not in memory and came from the disk
  bool lexical_searched;
  rag_lexical_plan lexical;
  bool only_stop_words; // the query's words are stop words, so they were searched as they are
  bool query_truncated; // more words than RAG_WORDS_TERMS_MAX
  uint32_t query_clauses;
  uint64_t documents; // live documents of the version
  uint64_t chunks;    // and chunks
  bool filtered;
  uint64_t documents_matched, chunks_matched; // by the filter, exactly; without one: all
  bool filter_cached;                         // its survivors were known from an earlier request
  uint64_t filter_verified;                   // documents that were looked at one by one, as no index decided
  uint32_t filter_conditions, filter_indexed; // conditions; of them answered by indexes alone
  double selectivity;                         // chunks_matched / rows of the index
  rag_fusion fusion;                          // hybrid: as it was done, weights given
  uint32_t fused, depth;                      // candidates after fusion; how deep each side was asked
  uint64_t filter_ns, embed_ns, vector_ns, lexical_ns, rank_ns, fetch_ns;
} rag_search_plan;

typedef struct rag_search_result { // rag_search_result_free
  rag_hit *hits;
  uint32_t count;
  uint64_t commit;
  const char *space;       // borrowed from the kb
  const char *index_build; // borrowed from the pinned view
  uint64_t pending_chunks;
  uint32_t dimension;
  uint64_t took_ns;
  rag_search_plan plan;
  void *pins; // what keeps the slices alive
} rag_search_result;
void rag_search_result_free(rag_search_result *result);
RAG_NODISCARD rag_status rag_kb_search(rag_kb *kb, const rag_search *search, rag_search_result *out, rag_error *err);

// Whether the documents of a version that pass a filter are known from an earlier call, so that asking costs nothing.
bool rag_kb_filter_known(rag_kb *kb, const rag_version *version, const rag_filter *filter);
// About how many bytes of vectors and codes a search by vector reads that may find these chunks; a filter (or an exact
// search) may make it look at each of them.
uint64_t rag_kb_vector_bytes(rag_kb *kb, const rag_version *version, bool filtered, bool exact);

// ---------------------------------------------------------------------------------------------- facets

#define RAG_FACET_FIELDS_MAX 32u
#define RAG_FACET_VALUES_MAX 10000u
typedef struct rag_facet_query {
  rag_slice at;
  const rag_filter *filter; // NULL: every document
  const rag_slice *fields;  // paths as in filters: "lang", "a.b", "tags[]"
  uint32_t field_count;     // 1 to RAG_FACET_FIELDS_MAX
  uint32_t limit;           // values of a field, 1 to RAG_FACET_VALUES_MAX
  uint64_t deadline_ns;
} rag_facet_query;
typedef enum rag_facet_kind {
  RAG_FACET_STRING = 0,
  RAG_FACET_INT = 1,
  RAG_FACET_DOUBLE = 2,
  RAG_FACET_BOOL = 3
} rag_facet_kind;
typedef struct rag_facet_value {
  rag_facet_kind kind;
  rag_slice string; // in the result
  int64_t integer;  // also of a bool
  double number;
  uint64_t count; // documents that have the value
} rag_facet_value;
typedef struct rag_facet {
  rag_slice field;
  const rag_facet_value *values; // most frequent first, then by value
  uint32_t value_count;
  uint64_t distinct;  // values in all
  uint64_t documents; // matching documents that have a value
  bool has_range;
  double min, max; // of numbers
} rag_facet;
typedef struct rag_facet_result { // rag_facet_result_free
  rag_facet *facets;
  uint32_t facet_count;
  uint64_t commit, documents; // matching
  bool cached;
  uint64_t verified;
  uint64_t took_ns;
  rag_arena *arena;
} rag_facet_result;
void rag_facet_result_free(rag_facet_result *result);
RAG_NODISCARD rag_status rag_kb_facets(rag_kb *kb, const rag_facet_query *query, rag_facet_result *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- retention

typedef struct rag_gc_options {
  uint32_t keep_commits; // of each branch, newest first; 0 with keep_days 0: RAG_INVALID_ARGUMENT
  uint32_t keep_days;    // whichever keeps more
} rag_gc_options;
// Drops commits that no branch's retention, tag, head or merge base needs, then rows that no retained commit needs.
RAG_NODISCARD rag_status rag_kb_gc(rag_kb *kb, const rag_gc_options *options, uint64_t *out_job, rag_error *err);
// Erases documents from every version. At return nothing answers with them; the job (*out_job) erases their bytes from
// the files, and its result is the receipt. An id that never was is listed in the receipt as such.
RAG_NODISCARD rag_status rag_kb_purge(rag_kb *kb, const rag_slice *ids, uint32_t count, uint64_t *out_job,
                                      rag_error *err);
// The whole history as one checked stream (format: kb/export.c), through write(ctx, ...).
typedef rag_status (*rag_write_fn)(void *ctx, const void *data, size_t size, rag_error *err);
typedef rag_status (*rag_read_fn)(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err); // 0: the end
RAG_NODISCARD rag_status rag_kb_export(rag_kb *kb, rag_write_fn write, void *ctx, rag_error *err);
// A new kb from such a stream; name empty: the exported one's. Damage is RAG_DATA_LOSS and leaves no kb behind.
RAG_NODISCARD rag_status rag_kbs_import(rag_kbs *kbs, rag_slice name, rag_read_fn read, void *ctx, rag_kb **out,
                                        rag_error *err);

// ---------------------------------------------------------------------------------------------- the index

// Where the vectors of a kb are: in the tail, in memory, and in sealed segments (index.h).
typedef struct rag_kb_index {
  char build[40]; // as searches name it
  uint64_t rows, tail_rows;
  uint64_t memory_bytes;
  bool building; // a job is at it
  rag_index_segment_info *segments; // owned
  uint32_t count;
} rag_kb_index;
RAG_NODISCARD rag_status rag_kb_index_info(rag_kb *kb, rag_kb_index *out, rag_error *err);
void rag_kb_index_free(rag_kb_index *info);
// Submits a job that makes one segment of all rows of heads, and one of the others. The job "index" does what is needed
// without being asked.
RAG_NODISCARD rag_status rag_kb_index_compact(rag_kb *kb, uint64_t *out_job, rag_error *err);

// ---------------------------------------------------------------------------------------------- filters

// Conditions on ids and metadata, in Qdrant's grammar (kb/filters/parse.c says it whole):
//   {"must": [...], "should": [...], "must_not": [...], "min_should": {"conditions": [...], "min_count": n}}
// of {"key": "lang", "match": {"value": "en"}}, match any|except|text|text_any|phrase|prefix, range, geo_radius,
// geo_bounding_box, geo_polygon, values_count, is_empty, is_null, has_id, nested, and filters again.
#define RAG_FILTER_DEPTH_MAX 16u
#define RAG_FILTER_CONDITIONS_MAX 1024u
#define RAG_FILTER_VALUES_MAX 65536u // of all lists together
#define RAG_FILTER_KEY_BYTES_MAX 512u
// A rag_filter is immutable and lies in the arena it was parsed into: any number of threads may match.
// json: the filter's text, borrowed for the call. Empty or {}: matches everything. err->field is the path of the fault
// ("filter.must[0].range").
RAG_NODISCARD rag_status rag_filter_parse(rag_slice json, rag_arena *arena, const rag_filter **out, rag_error *err);
// Of the text that it was parsed from: equal texts are equal filters (spelled differently, equal filters may differ).
rag_digest rag_filter_digest(const rag_filter *filter);
// True when a document with this id and metadata passes. metadata: JSON object text or empty; parsed by `parser`.
struct rag_json_parser;
RAG_NODISCARD rag_status rag_filter_match(const rag_filter *filter, rag_slice id, rag_slice metadata,
                                          struct rag_json_parser *parser, bool *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- numbers

typedef struct rag_kbs_stats {
  uint64_t kbs, vector_bytes, table_bytes, word_bytes, field_bytes, filter_cache_bytes, object_cache_bytes,
      versions_cached;
  uint64_t object_cache_hits, object_cache_misses, embed_cache_hits, embed_cache_misses;
} rag_kbs_stats;
void rag_kbs_stats_get(rag_kbs *kbs, rag_kbs_stats *out);

// ---------------------------------------------------------------------------------------------- checking

// Reads every row of every kb and asks whether it can be decoded and whether what it refers to is there (kb/check.c has
// the list). An error is something that would be served wrongly or fail; a note is a row that nothing needs, or of a
// kind that this program does not know.
typedef enum rag_check_level { RAG_CHECK_NOTE = 0, RAG_CHECK_ERROR = 1 } rag_check_level;
typedef struct rag_check_options {
  // kb: its name, or "". Borrowed texts. At most RAG_CHECK_REPORTS_MAX of each level.
  void (*report)(void *ctx, rag_check_level level, const char *kb, const char *text);
  rag_status (*progress)(void *ctx, uint64_t rows, rag_error *err); // not RAG_OK stops
  void *ctx;
} rag_check_options;
#define RAG_CHECK_REPORTS_MAX 1000u
typedef struct rag_check_result {
  uint64_t rows, commits, kbs;
  uint64_t errors, notes; // also those that were not reported any more
} rag_check_result;
// RAG_OK: everything was looked at; out->errors says what came of it. While writes go on, a kb that gc or purge rewrites
// meanwhile may show errors that are none: check again.
RAG_NODISCARD rag_status rag_kbs_check(rag_kbs *kbs, const rag_check_options *options, rag_check_result *out,
                                       rag_error *err);

#endif
