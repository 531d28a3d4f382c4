// What the files of kb/ share: record formats, the in-memory shape of a kb, and the plumbing of a write.
//
// On disk (column family: key -> value; kb is the kb's number; integers in keys big-endian)
//   META      'B' bytes(name)                     -> kb record: number, space, creation, configuration
//   META      's' kb                              -> state: the next revision, content, chunk, commit; the last commit time
//   META      'b' kb bytes(branch)                -> head commit, created, moved
//   META      't' kb bytes(tag)                   -> commit, created
//   META      'L' kb bytes(branch) time commit    -> "" : where the branch stood from then on
//   META      'I' kb bytes(idempotency key)       -> time, request digest, result        (kb 0: creation of kbs)
//   META      'S' bytes(fingerprint)              -> space number; of rounded vectors: fingerprint "+bfloat16"
//   META      'N'                                 -> the next kb number and space number
//   META      'P' kb                              -> "" : an import is writing this kb's rows (import.c)
//   META      'G' kb space id                     -> "" : a segment of the index, a file of its own (segments_files.c)
//   DOCUMENT  kb hash8(id) bytes(id) ~revision    -> content, chunk range, content digest, state digest
//   REVISION  kb revision                         -> document id, content, chunk range, metadata, source, commit
//   CONTENT   kb content                          -> document id, title, text
//   CHUNK     kb chunk                            -> content, span, metadata
//   VECTOR    kb space chunk                      -> dimension little-endian floats, or of a kb of bfloat16 their upper
//                                                    halves (u16): the lower ones are zero
//   CACHE     space digest(text)                  -> kb, chunk whose vector is that text's
//   COMMIT    kb commit 0                         -> commit record
//   COMMIT    kb commit 1                         -> delta: base, checkpoint flag, four bitmaps. Where the base was
//                                                    dropped, gc has written it anew against one that is kept
//   BITMAP    kb commit                           -> checkpoint: two bitmaps (every RAG_KB__CHECKPOINT_EVERY steps)
//
// In memory: a rag_kb__view is immutable and says where every branch and tag stands; readers take it from kb->view
// (rag_cell). Writers (apply, serialised by the store's group commit) derive the next view from kb->pending, and publish
// puts it into the cell once it is durable.
#ifndef RAGD_KB_INTERNAL_H
#define RAGD_KB_INTERNAL_H

#include <pthread.h>

#include "kb/kb.h"

// A version is materialised from the nearest checkpoint by at most so many deltas. 256 point reads cost about a
// millisecond; a checkpoint of 1,000,000 live ordinals in random order is 125 KB, so 0.5 KB a commit.
#define RAG_KB__CHECKPOINT_EVERY 256u
// How many of a document's newest revisions a write looks at to find an equal one to reuse.
#define RAG_KB__REUSE_SCAN_MAX 64u

// ---------------------------------------------------------------------------------------------- records (codec.c)

typedef struct rag_kb__document_entry { // DOCUMENT row
  uint32_t revision;                    // 0: none. Revisions are numbered from 1
  uint32_t content, first_chunk, chunk_count;
  rag_digest content_digest; // title, text, chunks, vectors, and how they were cut
  rag_digest state_digest;   // content_digest and metadata, source URI, effective time
} rag_kb__document_entry;
#define RAG_KB__DOCUMENT_VALUE_BYTES (12u + 2u * RAG_DIGEST_BYTES)

typedef struct rag_kb__revision { // REVISION row; slices borrowed from the value
  rag_slice id, metadata, source_uri;
  uint32_t content, first_chunk, chunk_count, commit;
  int64_t source_modified_us, effective_us, time_us;
} rag_kb__revision;

typedef struct rag_kb__content { // CONTENT row; slices borrowed from the value
  rag_slice id, title;
  rag_slice text;      // the document's text
  rag_slice body;      // text, then the texts of chunks that are not spans of it; chunk spans count in body
  bool chunk_metadata; // at least one chunk has metadata of its own
  rag_slice language;  // of its words; empty: the kb's. Last in the row, and left out when empty
} rag_kb__content;

typedef struct rag_kb__chunk {  // CHUNK row
  uint32_t content, start, end; // in body
  rag_slice metadata;
} rag_kb__chunk;

typedef struct rag_kb__commit { // COMMIT row 0
  uint32_t parents[2];
  uint32_t parent_count;
  int64_t time_us;
  rag_commit_kind kind;
  rag_slice author, message;
  uint64_t added, changed, removed, documents, chunks;
  bool counts_exact;
  uint32_t space;
  // Varints: the nearest kept ancestors behind parents that gc dropped, so that merge bases are still found. Borrowed;
  // empty: every parent is there, or was dropped with everything before it.
  rag_slice ancestors;
} rag_kb__commit;

typedef struct rag_kb__delta { // COMMIT row 1; owned bitmaps, NULL: empty
  uint32_t base;               // 0: the empty set
  uint32_t depth;              // deltas since the checkpoint, this one included; 0: this commit has a checkpoint
  rag_bitmap *revisions_added, *revisions_removed, *chunks_added, *chunks_removed;
} rag_kb__delta;
void rag_kb__delta_free(rag_kb__delta *delta);

typedef struct rag_kb__state {
  uint32_t next_revision, next_content, next_chunk, next_commit; // from 1
  int64_t last_time_us;
} rag_kb__state;

void rag_kb__key_document_prefix(rag_key *key, uint32_t kb, rag_slice id);
void rag_kb__key_document(rag_key *key, uint32_t kb, rag_slice id, uint32_t revision);
bool rag_kb__key_document_revision(rag_slice key, uint32_t *out_revision);
void rag_kb__key_u32(rag_key *key, uint32_t kb, uint32_t ordinal); // REVISION, CONTENT, CHUNK, BITMAP
void rag_kb__key_commit(rag_key *key, uint32_t kb, uint32_t commit, uint8_t row);
void rag_kb__key_vector(rag_key *key, uint32_t kb, uint32_t space, uint32_t chunk);
void rag_kb__key_cache(rag_key *key, uint32_t space, const rag_digest *digest);
void rag_kb__key_name(rag_key *key, uint8_t tag, uint32_t kb, rag_slice name); // 'b', 't', 'I'
void rag_kb__key_kb(rag_key *key, rag_slice name);
void rag_kb__key_state(rag_key *key, uint32_t kb);
void rag_kb__key_log(rag_key *key, uint32_t kb, rag_slice branch, int64_t time_us, uint32_t commit);

void rag_kb__encode_document(const rag_kb__document_entry *entry, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_document(rag_slice value, rag_kb__document_entry *out);
void rag_kb__encode_revision(const rag_kb__revision *revision, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_revision(rag_slice value, rag_kb__revision *out);
void rag_kb__encode_content(const rag_kb__content *content, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_content(rag_slice value, rag_kb__content *out);
void rag_kb__encode_chunk(const rag_kb__chunk *chunk, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_chunk(rag_slice value, rag_kb__chunk *out);
void rag_kb__encode_commit(const rag_kb__commit *commit, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_commit(rag_slice value, rag_kb__commit *out);
void rag_kb__encode_delta(const rag_kb__delta *delta, rag_buf *out);
RAG_NODISCARD rag_status rag_kb__decode_delta(rag_slice value, rag_kb__delta *out, rag_error *err);
RAG_NODISCARD bool rag_kb__decode_delta_head(rag_slice value, uint32_t *base, uint32_t *depth); // without the bitmaps
void rag_kb__encode_checkpoint(const rag_bitmap *revisions, const rag_bitmap *chunks, rag_buf *out);
RAG_NODISCARD rag_status rag_kb__decode_checkpoint(rag_slice value, rag_bitmap **revisions, rag_bitmap **chunks,
                                                   rag_error *err);
void rag_kb__encode_state(const rag_kb__state *state, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_state(rag_slice value, rag_kb__state *out);
void rag_kb__encode_ref(uint32_t commit, int64_t created_us, int64_t moved_us, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_ref(rag_slice value, rag_ref_info *out);
typedef struct rag_kb__record { // 'B'
  uint32_t id, space;
  int64_t created_us;
  char fingerprint[RAG_EMBED_FINGERPRINT_MAX];
  rag_kb_config config;
} rag_kb__record;
void rag_kb__encode_record(const rag_kb__record *record, rag_buf *out);
RAG_NODISCARD rag_status rag_kb__decode_record(rag_slice value, rag_kb__record *out, rag_error *err);
// VECTOR rows: the vector that is searched, bit for bit. Of bfloat16 it was rounded before (rag_vector_round_bf16).
size_t rag_kb__vector_bytes(rag_datatype datatype, uint32_t dimension);
void rag_kb__encode_vector(rag_datatype datatype, const float *vector, uint32_t dimension, rag_buf *out);
// False: the value has another size.
RAG_NODISCARD bool rag_kb__decode_vector(rag_datatype datatype, rag_slice value, uint32_t dimension, float *out);
void rag_kb__encode_result(const rag_write_result *result, rag_buf *out);
RAG_NODISCARD bool rag_kb__decode_result(rag_reader *reader, rag_write_result *out);
rag_status rag_kb__corrupt(rag_error *err, rag_cf cf, rag_slice key); // RAG_DATA_LOSS naming the row

// ---------------------------------------------------------------------------------------------- versions, views

struct rag_version {
  rag_ref ref;
  uint32_t kb, commit;
  uint32_t depth;        // of its delta chain
  rag_bitmap *revisions; // alive; one per document
  rag_bitmap *chunks;
  // What BM25 needs to know of it (words.c): made when first asked for, then never changed. atomic: release by the maker,
  // acquire by searches
  _Atomic(rag_lexical_version *) words;
  rag_lexical_version *words_near; // guarded by: the kb's words_lock: of a version like this one, until words are made
};
// Takes over both bitmaps (also on failure: NULL).
rag_version *rag_kb__version_create(uint32_t kb, uint32_t commit, uint32_t depth, rag_bitmap *revisions,
                                    rag_bitmap *chunks);

typedef struct rag_kb__branch {
  char name[RAG_NAME_MAX + 1];
  uint32_t commit;
  int64_t created_us, moved_us;
  rag_version *head; // a reference, or NULL: not materialised yet
} rag_kb__branch;
typedef struct rag_kb__tag {
  char name[RAG_NAME_MAX + 1];
  uint32_t commit;
  int64_t created_us;
} rag_kb__tag;

// Tags are many and change seldom: views share the array until one of them makes or deletes a tag.
typedef struct rag_kb__tags {
  rag_ref ref;
  rag_kb__tag items[];
} rag_kb__tags;

typedef struct rag_kb__view { // immutable once in kb->view or kb->pending
  rag_ref ref;
  rag_kb__state state;
  rag_kb__branch *branches; // by name
  uint32_t branch_count;
  rag_kb__tag *tags; // by name; tag_owner's items
  rag_kb__tags *tag_owner;
  uint32_t tag_count;
} rag_kb__view;
// What the store says: state, branches, tags (open.c). Owned by the caller.
RAG_NODISCARD rag_status rag_kb__view_read(rag_kbs *kbs, uint32_t kb, rag_kb__view **out, rag_error *err);
// A copy with room for one more branch, mutable but for its tags; owned until published.
RAG_NODISCARD rag_status rag_kb__view_copy(const rag_kb__view *from, rag_kb__view **out, rag_error *err);
// Gives the view tags of its own, mutable, with room for `room` more.
RAG_NODISCARD rag_status rag_kb__view_own_tags(rag_kb__view *view, uint32_t room, rag_error *err);
// The index of a name, or -1; *insert_at (may be NULL) is where it would go.
int rag_kb__view_find_branch(const rag_kb__view *view, rag_slice name, uint32_t *insert_at);
int rag_kb__view_find_tag(const rag_kb__view *view, rag_slice name, uint32_t *insert_at);

// ---------------------------------------------------------------------------------------------- ordinal tables

// Arrays indexed by ordinal that grow without moving, so that readers need no lock: blocks of 4,096 entries behind a
// directory. An entry is written before the version that makes it reachable is published. Numbers are never given again,
// so a block goes when gc or purge has forgotten every entry of it: readers pin the tables (below).
#define RAG_KB__TABLE_BLOCK 4096u
typedef struct rag_kb__chunk_row {
  uint32_t content, start, end;
} rag_kb__chunk_row;
typedef struct rag_kb__chunk_block {
  rag_kb__chunk_row rows[RAG_KB__TABLE_BLOCK];
  uint64_t live[RAG_KB__TABLE_BLOCK / 64]; // guarded by: index_lock: were set and not forgotten
} rag_kb__chunk_block;
typedef struct rag_kb__revision_row {
  uint32_t content, first_chunk, chunk_count;
} rag_kb__revision_row;
// 64 revisions at a time, for filters that turn many into chunks: mostly documents are numbered one after the other and
// their chunks with them, and a row of 12 bytes for each would be a wait for memory for each.
typedef struct rag_kb__revision_group {
  uint32_t first_chunk;  // of the first one
  _Atomic bool single;   // all that are regular have one chunk each. atomic: relaxed; false is never wrong
  _Atomic uint8_t count; // the first so many have their chunks one after the other, under 256 each; atomic: release by
                         // the writer, acquire by searches
  uint8_t chunks[64];    // of each of these
} rag_kb__revision_group;
typedef struct rag_kb__revision_block {
  rag_kb__revision_row rows[RAG_KB__TABLE_BLOCK];
  rag_kb__revision_group groups[RAG_KB__TABLE_BLOCK / 64];
  uint64_t live[RAG_KB__TABLE_BLOCK / 64]; // guarded by: index_lock: were set and not forgotten
} rag_kb__revision_block;
typedef struct rag_kb__newest_block {
  _Atomic uint32_t revisions[RAG_KB__TABLE_BLOCK]; // atomic: relaxed; liveness is checked after
  uint32_t count;                                  // guarded by: index_lock: of them that are not 0
} rag_kb__newest_block;
typedef struct rag_kb__tables {
  _Atomic(rag_kb__chunk_block *) *chunks;       // directory; atomic: release on store, acquire on load
  _Atomic(rag_kb__revision_block *) *revisions; // likewise
  _Atomic(rag_kb__newest_block *) *newest;      // likewise; by content: its newest revision
  rag_cell era;                                 // tables.c: what readers pin
  size_t ends[3];         // written under index_lock: entries of each directory that may be in use
  _Atomic uint64_t bytes; // of the blocks that the directories name
} rag_kb__tables;
RAG_NODISCARD rag_status rag_kb__tables_init(rag_kb__tables *tables, rag_error *err);
void rag_kb__tables_free(rag_kb__tables *tables);
// Held around look-ups outside index_lock, so that what they read is not freed; rag_ref_drop ends it. Once for a search,
// not once for a row: it costs a few atomic additions on lines that all readers share.
void *rag_kb__tables_pin(rag_kb__tables *tables);
// Under index_lock, when the rows are gone for good (either may be NULL). A block of which every entry was forgotten is
// freed once nobody has it pinned; look-ups in it find nothing from now on.
RAG_NODISCARD rag_status rag_kb__tables_forget(rag_kb__tables *tables, const rag_bitmap *chunks,
                                               const rag_bitmap *revisions, rag_error *err);
RAG_NODISCARD rag_status rag_kb__tables_set_chunk(rag_kb__tables *tables, uint32_t chunk, rag_kb__chunk_row row,
                                                  rag_error *err);
bool rag_kb__tables_chunk(const rag_kb__tables *tables, uint32_t chunk, rag_kb__chunk_row *out);
// What a revision consists of; raises the newest revision of its content.
RAG_NODISCARD rag_status rag_kb__tables_set_revision(rag_kb__tables *tables, uint32_t revision,
                                                     rag_kb__revision_row row, rag_error *err);
bool rag_kb__tables_revision(const rag_kb__tables *tables, uint32_t revision, rag_kb__revision_row *out);
uint32_t rag_kb__tables_newest(const rag_kb__tables *tables, uint32_t content); // its newest revision; 0: unknown
// The chunks of a set of revisions. Revisions that the table does not know have none. Pins the tables itself.
RAG_NODISCARD rag_status rag_kb__tables_chunks_of(rag_kb__tables *tables, const rag_bitmap *revisions, rag_bitmap **out,
                                                  rag_error *err);

// ---------------------------------------------------------------------------------------------- object cache

// Decoded revisions with their contents, ready to answer with. Sharded, least recently used out first.
typedef struct rag_kb__object {
  rag_ref ref;
  uint32_t kb, revision_number;
  rag_kb__revision revision;
  rag_kb__content content;
  rag_value pins[2]; // keep the slices alive
  size_t bytes;
  struct rag_kb__object *chain, *newer, *older; // guarded by: the shard's lock
} rag_kb__object;
typedef struct rag_kb__objects rag_kb__objects;
rag_kb__objects *rag_kb__objects_create(uint64_t bytes_max);
void rag_kb__objects_destroy(rag_kb__objects *objects);
void rag_kb__objects_stats(rag_kb__objects *objects, uint64_t *bytes, uint64_t *hits, uint64_t *misses);
void rag_kb__objects_forget_kb(rag_kb__objects *objects, uint32_t kb);
// The object of a revision, a reference. RAG_NOT_FOUND when there is no such row.
RAG_NODISCARD rag_status rag_kb__object_get(rag_kb *kb, uint32_t revision, rag_kb__object **out, rag_error *err);

// ---------------------------------------------------------------------------------------------- filters' answers

// Which documents pass a filter, kept (filters/survivors.c).
typedef struct rag_kb__survivors_cache rag_kb__survivors_cache;
rag_kb__survivors_cache *rag_kb__survivors_cache_create(void);
void rag_kb__survivors_cache_destroy(rag_kb__survivors_cache *cache);
void rag_kb__survivors_forget(rag_kbs *kbs, uint32_t kb);
size_t rag_kb__survivors_cache_bytes(rag_kbs *kbs);

// ---------------------------------------------------------------------------------------------- kbs, kb

#define RAG_KB__VERSION_CACHE_MAX 4096u
typedef struct rag_kb__version_cache {
  pthread_mutex_t lock;
  uint32_t capacity, count; // guarded by: lock, like all below
  uint64_t clock;
  uint64_t *keys; // kb << 32 | commit
  uint64_t *used;
  rag_version **versions;
} rag_kb__version_cache;

typedef struct rag_kb__registry { // immutable once in kbs->registry
  rag_ref ref;
  rag_kb **kbs; // by name; references
  uint32_t count;
} rag_kb__registry;

struct rag_kbs {
  rag_store *store;
  rag_jobs *jobs;
  rag_kbs_options options;
  rag_cell registry;            // of rag_kb__registry
  rag_kb__registry *pending;    // writers only (serialised by the store's commit)
  uint32_t next_kb, next_space; // writers only
  rag_kb__objects *objects;
  rag_kb__version_cache versions;
  rag_kb__survivors_cache *survivors; // filters/survivors.c
  pthread_mutex_t embedders_lock;
  rag_embedder **embedders; // guarded by: embedders_lock
  uint32_t embedder_count;
  _Atomic uint64_t embed_cache_hits, embed_cache_misses; // atomic: counters, relaxed
  pthread_mutex_t analyzers_lock;
  struct rag_kb__analyzer *analyzers; // guarded by: analyzers_lock: idle ones (words.c)
  uint32_t analyzers_idle;            // guarded by: analyzers_lock
};
typedef struct rag_kb__analyzer rag_kb__analyzer; // words.c

typedef struct rag_kb__config_ref { // immutable
  rag_ref ref;
  rag_kb_config config;
} rag_kb__config_ref;

struct rag_kb {
  rag_ref ref;
  rag_kbs *kbs;
  rag_store *store;
  uint32_t id, space;
  int64_t created_us;
  char name[RAG_NAME_MAX + 1];
  char fingerprint[RAG_EMBED_FINGERPRINT_MAX];
  uint32_t dimension;
  rag_metric metric;
  rag_datatype datatype;      // of VECTOR rows; every vector of the kb has been rounded to it
  rag_embedder *embedder;     // NULL: vectors come from the client
  rag_cell config;            // of rag_kb__config_ref
  uint64_t config_generation; // writers only: of the newest settings that an apply has taken
  _Atomic bool deleted;       // atomic: set once in publish, relaxed reads only refuse early

  rag_cell view;         // of rag_kb__view: what is durable
  rag_kb__view *pending; // what applied requests of the running group made of it; a reference; writers only
  // Closings under way, plus 2^16 for every one that ended: see rag_kb__history_close. atomic: sequentially consistent,
  // against the locks of the caches
  _Atomic uint64_t history;
  _Atomic bool collecting; // atomic: one gc of a kb runs at a time

  rag_index *index;           // rows >= load_limit are appended by commits, rows below by the loader
  rag_lexical *lexical;       // likewise
  rag_fields *fields;         // likewise, by revision
  pthread_mutex_t index_lock; // serialises writers of index, lexical, fields and tables
  pthread_mutex_t words_lock; // the making of versions' words (words.c)
  rag_kb__tables tables;
  uint32_t load_limit;       // immutable after open: the next chunk at open
  uint32_t load_revisions;   // likewise: the next revision
  pthread_mutex_t load_lock; // one loader at a time
  rag_bitmap_edit *chunks_seen; // guarded by: load_lock: chunks that have a row, while they are being read
  rag_bitmap *chunks_exist;     // guarded by: load_lock: when all are; until the vectors are loaded
  bool chunks_loaded;        // guarded by: load_lock
  bool segments_loaded;      // guarded by: load_lock
  uint32_t load_next;        // guarded by: load_lock: rows below are in the index
  uint32_t words_next;       // guarded by: load_lock: rows below are in the lexical index
  uint32_t revisions_next;   // guarded by: load_lock: revisions below are in the tables and field indexes
  pthread_mutex_t segments_lock;   // before index_lock (segments.c)
  pthread_cond_t segments_changed; // of segments_lock: a task has ended
  unsigned segments_slots;         // guarded by: segments_lock: tasks under way
  unsigned segments_starve;        // guarded by: segments_lock: tasks that got too little, and are still behind
  rag_index_task *segments_behind[2]; // guarded by: segments_lock: durable, and not public yet; owned
  _Atomic bool segments_job;          // atomic: one index job of a kb is under way
  _Atomic uint64_t segments_queued;   // atomic: it, where it may not have begun; 0: it has
  _Atomic uint64_t segments_later_ns; // atomic: after a failed one, the time before which none is submitted
  _Atomic uint32_t segments_interrupted; // atomic: erasures that wait for segments_lock
  _Atomic bool loaded;       // atomic: release by the loader, acquire by searches
};

static inline rag_kb__config_ref *rag_kb__config(rag_kb *kb) {
  return rag_cell_get(&kb->config);
}
RAG_NODISCARD rag_status rag_kb__open(rag_kbs *kbs, const rag_kb__record *record, rag_kb__view *view, rag_kb **out,
                                      rag_error *err); // takes over view
RAG_NODISCARD rag_status rag_kbs__embedder(rag_kbs *kbs, rag_slice model, rag_embedder **out, rag_error *err);
rag_status rag_kb__config_check(const rag_kb_config *config, rag_error *err);
// Rows of the registry, from apply: next kb and space number; the space of a model and datatype, given a number when it is
// new; a kb.
RAG_NODISCARD rag_status rag_kbs__counters_write(rag_kbs *kbs, rag_txn *txn, rag_error *err);
RAG_NODISCARD rag_status rag_kbs__space(rag_kbs *kbs, rag_txn *txn, const char *fingerprint, rag_datatype datatype,
                                        uint32_t *out, rag_error *err);
RAG_NODISCARD rag_status rag_kb__record_write(const rag_kb__record *record, rag_txn *txn, rag_error *err);
bool rag_kbs__registry_has(const rag_kb__registry *registry, rag_slice name);
void rag_kbs__registry_abandon(rag_kbs *kbs, rag_kb__registry *registry); // drops it; pending is what is public again
// Removes what imports that did not end have left; at open.
RAG_NODISCARD rag_status rag_kbs__import_sweep(rag_kbs *kbs, rag_error *err);
// A kb by number, a reference; NULL: it was deleted.
rag_kb *rag_kbs__find(rag_kbs *kbs, uint32_t id);
// Registry edits, from apply.
RAG_NODISCARD rag_status rag_kbs__registry_with(const rag_kb__registry *from, rag_kb *add, rag_slice remove,
                                                rag_kb__registry **out, rag_error *err);

// The version of a commit: from a view's heads, the cache, or the store. *out: a reference. txn may be NULL.
RAG_NODISCARD rag_status rag_kb__version(rag_kb *kb, rag_txn *txn, uint32_t commit, rag_version **out, rag_error *err);
// Keeps it, unless history was closed since `mark` was taken.
void rag_kb__version_cache_put(rag_kb *kb, rag_version *version, uint64_t mark);
void rag_kb__version_cache_forget(rag_kbs *kbs, uint32_t kb);
// Rewriting history (gc, purge). What was read of a kb's commits, and with purge of its documents, must not get into a
// cache once it is out of date, nor be found there by a later request of the same group. So the last step of an apply
// that drops or rewrites commits is close: the caches forget the kb and take in nothing of it until open, which publish
// and abandon call.
void rag_kb__history_close(rag_kb *kb, bool objects); // objects: also the object cache
void rag_kb__history_open(rag_kb *kb);
// Taken before reading; equal to a later one, and not closed, means that nothing was rewritten between.
static inline uint64_t rag_kb__history_mark(rag_kb *kb) {
  return atomic_load(&kb->history);
}
static inline bool rag_kb__history_unchanged(rag_kb *kb, uint64_t mark) {
  return (mark & 0xFFFF) == 0 && atomic_load(&kb->history) == mark;
}
// After a read of several steps that ended with `status`: true when it is to begin again. A version that was pinned before
// a purge names documents whose rows the purge has removed, so such a read waits for the version that the purge
// publishes. The same for a gc that dropped the version: the second look then says so. mark: taken before the read;
// *waited: 0 at first.
bool rag_kb__read_again(rag_kb *kb, uint64_t mark, rag_status status, unsigned *waited);
// Asked when a read of what is in memory has ended, before its answer is given: gc takes the rows of a version that it has
// dropped out of the indexes, and a reader that pinned the version before and the indexes after would miss them without a
// sign. RAG_NOT_FOUND: the version is gone, and the answer worth nothing.
RAG_NODISCARD rag_status rag_kb__still_kept(rag_kb *kb, uint64_t mark, const rag_version *version, rag_error *err);
// The head of a branch of a view: its pinned version, or materialised. *out: a reference.
RAG_NODISCARD rag_status rag_kb__head(rag_kb *kb, rag_txn *txn, const rag_kb__view *view, uint32_t branch,
                                      rag_version **out, rag_error *err);
// Resolves a ref to a commit number in a view.
// txn: read through the running group's writes (the view may name commits that are in none but its batch); or NULL.
RAG_NODISCARD rag_status rag_kb__resolve_commit(rag_kb *kb, rag_txn *txn, const rag_kb__view *view, rag_slice ref,
                                                uint32_t *out, rag_error *err);
// "main" for an empty one; checks that it is a branch: its index.
RAG_NODISCARD rag_status rag_kb__find_branch(rag_kb *kb, const rag_kb__view *view, rag_slice name, uint32_t *out,
                                             rag_error *err);

// Rows, read through a running group's writes where txn is not NULL.
RAG_NODISCARD rag_status rag_kb__get(rag_kb *kb, rag_txn *txn, rag_cf cf, rag_slice key, rag_value *out,
                                     rag_error *err);
RAG_NODISCARD rag_status rag_kb__get_revision(rag_kb *kb, rag_txn *txn, uint32_t revision, rag_kb__revision *out,
                                              rag_value *pin, rag_error *err);
RAG_NODISCARD rag_status rag_kb__get_commit(rag_kb *kb, rag_txn *txn, uint32_t commit, rag_kb__commit *out,
                                            rag_value *pin, rag_error *err);
// The DOCUMENT rows of an id, newest revision first; and the row that an iterator stands on.
RAG_NODISCARD rag_status rag_kb__document_rows(rag_kb *kb, rag_txn *txn, rag_slice id, rag_store_iter **out,
                                               rag_error *err);
RAG_NODISCARD rag_status rag_kb__document_row(rag_store_iter *it, rag_kb__document_entry *out, rag_error *err);
// The live revision of a document in a set, by scanning its rows newest first; out->revision 0: not there.
RAG_NODISCARD rag_status rag_kb__find_document(rag_kb *kb, rag_txn *txn, const rag_bitmap *revisions, rag_slice id,
                                               rag_kb__document_entry *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- writes (commit.c)

// One write to one kb. Embed as the first member; `plan` is the operation itself, run by the leader in apply.
typedef struct rag_kb__op rag_kb__op;
struct rag_kb__op {
  rag_kb *kb;
  const rag_write *write;
  rag_status (*plan)(rag_kb__op *op, rag_txn *txn, rag_error *err);
  rag_kb__view *view;      // in plan: the draft, a mutable copy of kb->pending. After: what publish makes visible
  rag_write_result result; // stored under the idempotency key
  bool unchanged;          // plan made nothing: the draft is dropped
  // The last step of apply that may fail, once the rows are known to be in the batch: state in memory. May be NULL.
  rag_status (*finish)(rag_kb__op *op, rag_error *err);
};
// Runs it through the store's group commit, with the idempotency check around it.
RAG_NODISCARD rag_status rag_kb__run(rag_kb__op *op, rag_error *err);

// A new commit on branch `branch` of the draft, being the branch's head (or `base`) with the given changes.
typedef struct rag_kb__change {
  rag_commit_kind kind;
  uint32_t branch;       // index in op->view
  rag_version *base;     // what the delta is against (borrowed); the set of the head, or of a rollback's target
  uint32_t other_parent; // second parent, 0: none
  rag_bitmap *revisions_added, *revisions_removed, *chunks_added, *chunks_removed; // borrowed; NULL: empty
  uint64_t added, changed, removed;
  bool counts_exact;
} rag_kb__change;
// Writes the commit, its delta (and checkpoint), the branch, its log and the state; moves the draft's branch.
// RAG_RESOURCE_EXHAUSTED when the kb is out of ordinals.
RAG_NODISCARD rag_status rag_kb__commit_write(rag_kb__op *op, rag_txn *txn, const rag_kb__change *change,
                                              rag_error *err);
RAG_NODISCARD rag_status rag_kb__state_write(rag_kb__op *op, rag_txn *txn, rag_error *err);
// Checks author and message lengths and UTF-8.
RAG_NODISCARD rag_status rag_kb__write_check(const rag_write *write, rag_error *err);
// Idempotency (idempotency.c). found: *result is the stored answer.
RAG_NODISCARD rag_status rag_kb__idempotency_find(rag_store *store, rag_txn *txn, uint32_t kb, const rag_write *write,
                                                  bool *found, rag_write_result *result, rag_error *err);
void rag_kb__idempotency_put(rag_txn *txn, uint32_t kb, const rag_write *write, const rag_write_result *result);
RAG_NODISCARD rag_status rag_kb__idempotency_sweep(rag_store *store, rag_error *err);

// Differences of two versions as revisions (diff.c).
RAG_NODISCARD rag_status rag_kb__diff_versions(rag_kb *kb, rag_txn *txn, const rag_version *from, const rag_version *to,
                                               rag_diff *out, rag_error *err);

// The merge base of two commits: the newest common ancestor; 0: none (dropped by retention).
RAG_NODISCARD rag_status rag_kb__merge_base(rag_kb *kb, rag_txn *txn, uint32_t a, uint32_t b, uint32_t *out,
                                            rag_error *err);

// Loading (load.c).
RAG_NODISCARD rag_status rag_kb__load(rag_kb *kb, rag_error *err);

// Job kinds of this folder: registered by rag_kbs_open. gc.c, purge.c, delete.c.
rag_status rag_kb__gc_run(void *ctx, rag_job *job, rag_error *err);
rag_status rag_kb__purge_run(void *ctx, rag_job *job, rag_error *err);
rag_status rag_kb__delete_run(void *ctx, rag_job *job, rag_error *err);

// RAG_INVALID_ARGUMENT (with the reason): neither empty nor a JSON object.
RAG_NODISCARD rag_status rag_kb__metadata_check(rag_slice metadata, const char *field, rag_error *err);

#endif
