// base: what every other folder stands on: status and errors, allocation, arenas, buffers, checksums, clock,
// text, log, files, threads, shared pointers, persistent bitmaps. Knows no RocksDB, no documents, no HTTP.
//
// Conventions of the whole program, stated once:
//  - A fallible function returns rag_status and is RAG_NODISCARD; results leave through out-pointers, which stay
//    untouched on error; text for people goes into the caller's rag_error (NULL is allowed: the text is dropped).
//  - "borrowed": valid while the owner lives, not to be freed. "owned": the receiver frees it with the named call.
//  - destroy/close/free functions accept NULL.
//  - Unless a function says otherwise, one object is used by one thread at a time.
//  - Times are microseconds since 1970-01-01 UTC (int64_t, suffix _us); durations carry their unit in their name.
#ifndef RAGD_BASE_H
#define RAGD_BASE_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
#error "base.h is C; a C++ shim has a C header of its own that does not include base.h"
#endif

#define RAG_NODISCARD __attribute__((warn_unused_result))
#define RAG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define RAG_UNUSED(x) ((void)(x))
#define RAG_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define RAG_MIN(a, b) ((a) < (b) ? (a) : (b))
#define RAG_MAX(a, b) ((a) > (b) ? (a) : (b))

// ---------------------------------------------------------------------------------------------- status, errors

// Values are the canonical RPC codes and pinned for ever: they are written to disk and to the wire.
typedef enum rag_status {
  RAG_OK = 0,
  RAG_CANCELLED = 1,
  RAG_UNKNOWN = 2,
  RAG_INVALID_ARGUMENT = 3,
  RAG_DEADLINE_EXCEEDED = 4,
  RAG_NOT_FOUND = 5,
  RAG_ALREADY_EXISTS = 6,
  RAG_PERMISSION_DENIED = 7,
  RAG_RESOURCE_EXHAUSTED = 8, // also: out of memory
  RAG_FAILED_PRECONDITION = 9,
  RAG_ABORTED = 10, // conflict: the caller may read again and retry
  RAG_OUT_OF_RANGE = 11,
  RAG_UNIMPLEMENTED = 12,
  RAG_INTERNAL = 13,
  RAG_UNAVAILABLE = 14, // also: the store is read-only after an I/O error
  RAG_DATA_LOSS = 15,   // corruption was found; nothing corrupt was returned
  RAG_UNAUTHENTICATED = 16,
} rag_status;

// "not_found" and so on; "unknown" for a value outside the enum. Static storage.
const char *rag_status_name(rag_status status);
// The inverse; RAG_UNKNOWN for a name that is none.
rag_status rag_status_from_name(const char *name);

#define RAG_ERROR_MESSAGE_MAX 480
#define RAG_ERROR_FIELD_MAX 96
typedef struct rag_error {
  rag_status status;
  char field[RAG_ERROR_FIELD_MAX]; // the request field at fault ("documents[3].vector"), or ""
  char message[RAG_ERROR_MESSAGE_MAX];
} rag_error;

// Fills *err (when not NULL) and returns `status`, so that `return rag_fail(...)` is one line. A message says what is
// wrong and what to change. Long texts are cut at a UTF-8 boundary; what is no UTF-8 becomes '?'.
rag_status rag_fail(rag_error *err, rag_status status, const char *fmt, ...) RAG_PRINTF(3, 4);
// The same, naming the request field.
rag_status rag_fail_field(rag_error *err, rag_status status, const char *field, const char *fmt, ...) RAG_PRINTF(4, 5);
// Puts "prefix: " before the message that is there (to add context on the way up). Returns err->status; RAG_UNKNOWN
// where err is NULL, so where NULL can come in, return the status that you hold.
rag_status rag_error_prefix(rag_error *err, const char *fmt, ...) RAG_PRINTF(2, 3);
rag_status rag_fail_no_memory(rag_error *err, size_t bytes);

#define RAG_TRY(expr)                                                                                                  \
  do {                                                                                                                 \
    rag_status rag_try_status_ = (expr);                                                                               \
    if (rag_try_status_ != RAG_OK) return rag_try_status_;                                                             \
  } while (0)
// For functions with one exit: sets `status` and jumps to `out`.
#define RAG_TRY_OUT(expr)                                                                                              \
  do {                                                                                                                 \
    status = (expr);                                                                                                   \
    if (status != RAG_OK) goto out;                                                                                    \
  } while (0)

// A programmer's error: prints and aborts, in every build type.
#define RAG_ASSERT(cond)                                                                                               \
  do {                                                                                                                 \
    if (__builtin_expect(!(cond), 0)) rag_assert_failed(#cond, __FILE__, __LINE__);                                    \
  } while (0)
_Noreturn void rag_assert_failed(const char *text, const char *file, int line);

// ---------------------------------------------------------------------------------------------- memory

// malloc and friends behind one door, so that a test can fail the Nth call. NULL on failure, never abort.
void *rag_alloc(size_t size) __attribute__((malloc, alloc_size(1)));
void *rag_calloc(size_t count, size_t size) __attribute__((malloc)); // overflow-checked
void *rag_realloc(void *p, size_t size);
// count * size, overflow-checked; p may be NULL. NULL on failure, and p stays valid.
void *rag_realloc_array(void *p, size_t count, size_t size);
void *rag_aligned_alloc(size_t alignment, size_t size); // freed with rag_free
void rag_free(void *p);
char *rag_strdup(const char *s);
char *rag_strndup(const char *s, size_t size); // NUL-terminated copy of `size` bytes
bool rag_mul_overflows(size_t a, size_t b, size_t *out);
// The heap of the whole process, the allocations of libraries included (heap.c). Limits how many separate parts the C
// library divides it into, before threads are started; the number, or 0 where the environment or the library decides.
unsigned rag_heap_limit_arenas(void);
typedef struct rag_heap_stats {
  uint64_t used_bytes; // handed out, with the pieces that threads keep at hand
  uint64_t free_bytes; // given back by the program and not, or not yet, to the system
} rag_heap_stats;
void rag_heap_stats_get(rag_heap_stats *out); // zeros where the C library does not tell. Takes about a millisecond
// Tests: the Nth allocation from now (1 = the next) of this thread fails once; 0 turns it off.
void rag_alloc_fail_after(uint64_t n);
// True when the planned failure has happened since rag_alloc_fail_after.
bool rag_alloc_has_failed(void);

// A borrowed run of bytes; not NUL-terminated.
typedef struct rag_slice {
  const char *data;
  size_t size;
} rag_slice;
static inline rag_slice rag_slice_of(const void *data, size_t size) {
  return (rag_slice){(const char *)data, size};
}
static inline rag_slice rag_slice_str(const char *s) {
  return (rag_slice){s, s ? strlen(s) : 0};
}
static inline bool rag_slice_equal(rag_slice a, rag_slice b) {
  return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
int rag_slice_compare(rag_slice a, rag_slice b); // memcmp order, shorter first

// Arena: bump allocation, freed whole. `limit_bytes` bounds all chunks together (0: no bound).
typedef struct rag_arena rag_arena;
rag_arena *rag_arena_create(size_t limit_bytes); // NULL when out of memory
void rag_arena_destroy(rag_arena *arena);
void rag_arena_reset(rag_arena *arena);               // frees all but the first chunk: cheap to reuse
void *rag_arena_alloc(rag_arena *arena, size_t size); // 16-byte aligned; NULL: out of memory or over the limit
void *rag_arena_calloc(rag_arena *arena, size_t count, size_t size);
char *rag_arena_strndup(rag_arena *arena, const char *s, size_t size); // NUL-terminated copy
char *rag_arena_printf(rag_arena *arena, const char *fmt, ...) RAG_PRINTF(2, 3);
size_t rag_arena_used(const rag_arena *arena);

// A growable byte buffer. Zero-initialised is empty and valid. Appends after a failed one are no-ops and the failure
// sticks: check `failed` (or rag_buf_check) once at the end.
typedef struct rag_buf {
  char *data;
  size_t size;
  size_t capacity;
  bool failed;
} rag_buf;
void rag_buf_free(rag_buf *buf);
void rag_buf_clear(rag_buf *buf); // keeps the capacity, clears `failed`
void rag_buf_reserve(rag_buf *buf, size_t extra);
void rag_buf_append(rag_buf *buf, const void *data, size_t size);
void rag_buf_append_str(rag_buf *buf, const char *s);
void rag_buf_append_char(rag_buf *buf, char c);
void rag_buf_printf(rag_buf *buf, const char *fmt, ...) RAG_PRINTF(2, 3);
void rag_buf_append_u8(rag_buf *buf, uint8_t v);
void rag_buf_append_u32be(rag_buf *buf, uint32_t v); // big-endian: for keys
void rag_buf_append_u64be(rag_buf *buf, uint64_t v);
void rag_buf_append_u32le(rag_buf *buf, uint32_t v); // little-endian: for values
void rag_buf_append_u64le(rag_buf *buf, uint64_t v);
void rag_buf_append_varint(rag_buf *buf, uint64_t v);                       // LEB128
void rag_buf_append_bytes(rag_buf *buf, rag_slice s);                       // varint length, then the bytes
RAG_NODISCARD rag_status rag_buf_check(const rag_buf *buf, rag_error *err); // RAG_RESOURCE_EXHAUSTED after a failure
static inline rag_slice rag_buf_slice(const rag_buf *buf) {
  return (rag_slice){buf->data, buf->size};
}

// A bounds-checked reader over borrowed bytes; after the first short read `bad` is set and every read gives 0 / empty.
typedef struct rag_reader {
  const unsigned char *data;
  size_t size;
  size_t offset;
  bool bad;
} rag_reader;
static inline rag_reader rag_reader_of(rag_slice s) {
  return (rag_reader){(const unsigned char *)s.data, s.size, 0, false};
}
uint8_t rag_read_u8(rag_reader *r);
uint32_t rag_read_u32be(rag_reader *r);
uint64_t rag_read_u64be(rag_reader *r);
uint32_t rag_read_u32le(rag_reader *r);
uint64_t rag_read_u64le(rag_reader *r);
uint64_t rag_read_varint(rag_reader *r);
rag_slice rag_read_bytes(rag_reader *r);            // varint length, then the bytes (borrowed)
rag_slice rag_read_raw(rag_reader *r, size_t size); // exactly `size` bytes (borrowed)
static inline size_t rag_reader_left(const rag_reader *r) {
  return r->bad ? 0 : r->size - r->offset;
}

// ---------------------------------------------------------------------------------------------- checksums, digests

// CRC32C (Castagnoli), hardware where there is, continuing from `crc` (0 to start).
uint32_t rag_crc32c(uint32_t crc, const void *data, size_t size);

// Identity of texts: SHA-256 cut to 160 bits. A fast non-cryptographic hash would let an author of a document make
// another text with the same identity and so hide a change; 160 bits keep collisions out of reach.
#define RAG_DIGEST_BYTES 20
typedef struct rag_digest {
  uint8_t bytes[RAG_DIGEST_BYTES];
} rag_digest;
typedef struct rag_digest_state { // opaque; on the caller's stack
  _Alignas(16) unsigned char opaque[256];
} rag_digest_state;
void rag_digest_init(rag_digest_state *state);
void rag_digest_update(rag_digest_state *state, const void *data, size_t size);
void rag_digest_update_bytes(rag_digest_state *state, rag_slice s); // length-prefixed: ("a","bc") is not ("ab","c")
rag_digest rag_digest_final(rag_digest_state *state);
rag_digest rag_digest_of(const void *data, size_t size);
static inline bool rag_digest_equal(const rag_digest *a, const rag_digest *b) {
  return memcmp(a->bytes, b->bytes, RAG_DIGEST_BYTES) == 0;
}
void rag_sha256(const void *data, size_t size, uint8_t out[32]);
bool rag_equal_constant_time(const void *a, const void *b, size_t size);
void rag_hex(const void *data, size_t size, char *out); // out: 2 * size + 1 bytes
// A fast 64-bit hash for in-memory tables only: seeded per process, never stored.
uint64_t rag_hash64(const void *data, size_t size);

// ---------------------------------------------------------------------------------------------- clock, text

int64_t rag_clock_now_us(void); // wall clock; tests may set it
uint64_t rag_clock_monotonic_ns(void);
void rag_clock_set_for_test(int64_t now_us); // 0: back to the real clock
// RFC 3339, "2026-01-31T10:00:00Z" with 0 to 6 digits of fraction, any offset; also a bare date. RAG_INVALID_ARGUMENT.
RAG_NODISCARD rag_status rag_time_parse(rag_slice text, int64_t *out_us, rag_error *err);
#define RAG_TIME_TEXT_MAX 32
// "2026-01-31T10:00:00.000001Z", the fraction cut where it is zero. Years 0001 to 9999; others are clamped.
void rag_time_format(int64_t time_us, char out[RAG_TIME_TEXT_MAX]);

bool rag_utf8_valid(const char *data, size_t size);        // also refuses surrogates, overlong forms; NUL is allowed
size_t rag_utf8_bad_offset(const char *data, size_t size); // the offset of the first bad byte, or size
// The largest boundary <= offset (size of the text at most): never inside a character of valid UTF-8.
size_t rag_utf8_floor(const char *data, size_t size, size_t offset);
// Decodes the character at data (size > 0, valid UTF-8); *out_size is its length in bytes.
uint32_t rag_utf8_decode(const char *data, size_t size, size_t *out_size);
// Names of kbs, branches, tags: [a-z0-9][a-z0-9._-]{0,62}.
#define RAG_NAME_MAX 63
bool rag_name_valid(rag_slice name);
// Levenshtein distance, for "did you mean"; texts over 64 bytes are cut.
unsigned rag_edit_distance(rag_slice a, rag_slice b);

// ---------------------------------------------------------------------------------------------- Unicode

// The UTF-8 of a code point; returns its bytes, 1 to 4.
uint32_t rag_utf8_encode(uint32_t c, char out[4]);
// Reads one character above ASCII at p (left > 0, p[0] >= 0x80), of any bytes: 0, and *out_size 1, where they are no
// UTF-8. Conjoining Hangul comes as the syllable it spells; *out_size covers all that was taken, and never goes past
// `left`.
uint32_t rag_unicode_next(const unsigned char *p, size_t left, size_t *out_size);

// Folding for words: full case folding and compatibility decomposition, without accents, by a frozen table of Unicode
// 14.0 (base/unicode_fold_table.c says which characters keep what). Rows are ascending and do not overlap.
enum {
  RAG_FOLD_ADD = 0, // the character + argument
  RAG_FOLD_ALTERNATE =
      1,             // the same for the 1st, 3rd, ... of the row; the others stay (a capital, its small letter, ...)
  RAG_FOLD_SAME = 2, // all become `argument`
  RAG_FOLD_LIST = 3, // all become the list at rag_unicode_fold_lists[argument]: a count, then the code points
  RAG_FOLD_SKIP = 4, // dropped, as if it were not in the text
  RAG_FOLD_OPERATION = 7,
  RAG_FOLD_IDEOGRAPH = 8, // a flag: of a script written without spaces, or a pictograph
};
#define RAG_UNICODE_FOLD_MAX 4 // code points that one becomes
typedef struct rag_fold_row {
  uint32_t first;
  uint16_t count;
  uint16_t operation;
  int32_t argument;
} rag_fold_row;
extern const rag_fold_row rag_unicode_fold_rows[];
extern const uint32_t rag_unicode_fold_row_count;
extern const uint32_t rag_unicode_fold_lists[];
extern const uint32_t rag_unicode_fold_list_count;
// The row of a character above ASCII; NULL: it ends a word.
const rag_fold_row *rag_unicode_fold_row(uint32_t c);
// What `c` of that row becomes; returns how many code points (0: the row drops it).
uint32_t rag_unicode_fold(const rag_fold_row *row, uint32_t c, uint32_t out[RAG_UNICODE_FOLD_MAX]);

// ---------------------------------------------------------------------------------------------- log

typedef enum rag_log_level { RAG_LOG_DEBUG = 0, RAG_LOG_INFO = 1, RAG_LOG_WARN = 2, RAG_LOG_ERROR = 3 } rag_log_level;
typedef enum rag_log_format { RAG_LOG_TEXT = 0, RAG_LOG_JSON = 1 } rag_log_format;
// Lines go to `fd` (default 2) in one write(2) each. Thread-safe. Call once at start.
void rag_log_setup(int fd, rag_log_level level, rag_log_format format);
bool rag_log_enabled(rag_log_level level);
// One structured line: time, level, event, then key=value pairs: rag_log(RAG_LOG_INFO, "kb.created", "name=%s docs=%u",
// ...). The format is "key=%x key=%x"; a value with spaces is quoted (or JSON-escaped). At most 4 KiB a line.
void rag_log(rag_log_level level, const char *event, const char *fmt, ...) RAG_PRINTF(3, 4);

// ---------------------------------------------------------------------------------------------- files (the OS seam)

RAG_NODISCARD rag_status rag_os_make_dirs(const char *path, rag_error *err);   // mkdir -p, mode 0700, durable at return
RAG_NODISCARD rag_status rag_os_remove_tree(const char *path, rag_error *err); // a missing path is fine
bool rag_os_exists(const char *path);
// Whole file into an owned, NUL-terminated block (*out freed with rag_free). Over size_max: RAG_OUT_OF_RANGE.
RAG_NODISCARD rag_status rag_os_read_file(const char *path, size_t size_max, char **out, size_t *out_size,
                                          rag_error *err);
// Temporary file, fsync, rename, fsync of the folder: the old or the new content survives a power cut, never a mix.
RAG_NODISCARD rag_status rag_os_write_file(const char *path, const void *data, size_t size, rag_error *err);
RAG_NODISCARD rag_status rag_os_sync_dir(const char *path, rag_error *err);
RAG_NODISCARD rag_status rag_os_write_all(int fd, const void *data, size_t size, rag_error *err);
void rag_os_random(void *out, size_t size); // cryptographic; aborts when the kernel has none
RAG_NODISCARD rag_status rag_os_disk_free(const char *path, uint64_t *out_bytes, rag_error *err);
// errno of a failed call as a status and text: "open /x/y: No such file or directory".
rag_status rag_os_fail(rag_error *err, const char *call, const char *path, int error_number);
unsigned rag_os_cpu_count(void);

// ---------------------------------------------------------------------------------------------- threads

// A pool of threads over one bounded queue. Submitting when the queue is full is RAG_RESOURCE_EXHAUSTED at once: load is
// shed at the door. Thread-safe.
typedef struct rag_pool rag_pool;
typedef void (*rag_task_fn)(void *arg);
RAG_NODISCARD rag_status rag_pool_create(const char *name, unsigned threads, unsigned queue_max, rag_pool **out,
                                         rag_error *err);
RAG_NODISCARD rag_status rag_pool_submit(rag_pool *pool, rag_task_fn fn, void *arg);
unsigned rag_pool_queued(rag_pool *pool); // tasks waiting, not running
void rag_pool_drain(rag_pool *pool);      // waits until the queue is empty and no task runs
void rag_pool_destroy(rag_pool *pool);    // runs what is queued, then joins

// Reference-counted objects that readers reach through a cell that writers swap. Taking a reference never waits for a
// writer: it is one atomic add on the cell and one on the object (a split reference count; see base/cell.c).
// Embed rag_ref as the first member. `destroy` runs in whichever thread drops last.
typedef struct rag_ref {
  _Atomic int64_t count; // atomic: acq_rel on the way down, so that the last owner sees every write
  void (*destroy)(struct rag_ref *self);
} rag_ref;
void rag_ref_init(rag_ref *ref, void (*destroy)(rag_ref *self)); // count 1, owned by the caller
void *rag_ref_take(void *ref);                                   // NULL stays NULL; returns ref
void rag_ref_drop(void *ref);                                    // NULL is fine; the last one destroys
typedef struct rag_cell {
  _Atomic uint64_t word; // 48 bits of pointer, 16 of references in flight
} rag_cell;
void rag_cell_init(rag_cell *cell, void *ref); // takes over the caller's reference; NULL allowed
void *rag_cell_get(rag_cell *cell);            // a new reference (rag_ref_drop it), or NULL
void rag_cell_set(rag_cell *cell, void *ref);  // takes over the caller's reference, drops the old one

// ---------------------------------------------------------------------------------------------- persistent bitmaps

// An immutable set of u32 ordinals, shared by versions. Kept as blocks of 65,536 bits; an edit copies the blocks that it
// touches and shares the rest, so a new version costs what it changes, and comparing two versions skips the blocks that
// they share. This is what makes "a version is a bitmap" cheap in memory; on disk a bitmap is a CRoaring image
// (base/bitmap_codec.c). Immutable after creation, so any number of threads may read one.
#define RAG_BITMAP_BLOCK_BITS 65536u
#define RAG_BITMAP_BLOCK_WORDS (RAG_BITMAP_BLOCK_BITS / 64)
typedef struct rag_bitmap rag_bitmap; // starts with a rag_ref: rag_ref_take / rag_ref_drop
rag_bitmap *rag_bitmap_empty(void);   // a new reference; NULL when out of memory
uint64_t rag_bitmap_count(const rag_bitmap *bitmap);
bool rag_bitmap_has(const rag_bitmap *bitmap, uint32_t value);
uint32_t rag_bitmap_block_count(const rag_bitmap *bitmap); // blocks 0..n-1 may hold bits
// The words of a block (RAG_BITMAP_BLOCK_WORDS of them, borrowed), or NULL where the block is empty or past the end;
// *out_count (may be NULL) is the number of set bits.
const uint64_t *rag_bitmap_block(const rag_bitmap *bitmap, uint32_t block, uint32_t *out_count);
// The smallest member >= from. False when there is none.
bool rag_bitmap_next(const rag_bitmap *bitmap, uint32_t from, uint32_t *out);
bool rag_bitmap_equal(const rag_bitmap *a, const rag_bitmap *b);
uint64_t rag_bitmap_and_count(const rag_bitmap *a, const rag_bitmap *b);
// Set algebra; new bitmaps, owned. RAG_RESOURCE_EXHAUSTED only. Blocks that both share are skipped or shared.
RAG_NODISCARD rag_status rag_bitmap_and(const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out);
RAG_NODISCARD rag_status rag_bitmap_or(const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out);
RAG_NODISCARD rag_status rag_bitmap_andnot(const rag_bitmap *a, const rag_bitmap *b, rag_bitmap **out);

// An edit: a mutable copy-on-write successor of `base` (NULL: of the empty set). One thread. Its operations fail with
// RAG_RESOURCE_EXHAUSTED, and ranges that go past the last u32 with RAG_OUT_OF_RANGE (nothing was done). After the first
// an edit may hold a part of the operation: destroy it.
typedef struct rag_bitmap_edit rag_bitmap_edit;
rag_bitmap_edit *rag_bitmap_edit_create(const rag_bitmap *base); // keeps its own reference; NULL: out of memory
RAG_NODISCARD rag_status rag_bitmap_edit_add(rag_bitmap_edit *edit, uint32_t value);
RAG_NODISCARD rag_status rag_bitmap_edit_add_range(rag_bitmap_edit *edit, uint32_t first, uint32_t count);
RAG_NODISCARD rag_status rag_bitmap_edit_remove(rag_bitmap_edit *edit, uint32_t value);
RAG_NODISCARD rag_status rag_bitmap_edit_remove_range(rag_bitmap_edit *edit, uint32_t first, uint32_t count);
// Adds / removes every member of `other`.
RAG_NODISCARD rag_status rag_bitmap_edit_or(rag_bitmap_edit *edit, const rag_bitmap *other);
RAG_NODISCARD rag_status rag_bitmap_edit_andnot(rag_bitmap_edit *edit, const rag_bitmap *other);
// Block `block` of the edit becomes a copy of these RAG_BITMAP_BLOCK_WORDS words.
RAG_NODISCARD rag_status rag_bitmap_edit_put_block(rag_bitmap_edit *edit, uint32_t block, const uint64_t *words);
bool rag_bitmap_edit_has(const rag_bitmap_edit *edit, uint32_t value);
// Freezes the edit into *out (owned) and destroys it, also on error.
RAG_NODISCARD rag_status rag_bitmap_edit_finish(rag_bitmap_edit *edit, rag_bitmap **out);
void rag_bitmap_edit_destroy(rag_bitmap_edit *edit);

// On disk: u32le CRC32C of what follows, then the portable CRoaring image (run containers where smaller). The CRC is
// checked first, as CRoaring accepts flipped payloads. RAG_DATA_LOSS on any mismatch.
void rag_bitmap_encode(const rag_bitmap *bitmap, rag_buf *out); // appends; failure sticks in out
RAG_NODISCARD rag_status rag_bitmap_decode(rag_slice image, rag_bitmap **out, rag_error *err);

#endif
