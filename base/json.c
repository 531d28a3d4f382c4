// JSON values: parsing, access, writing, merge patch.
//
// simdjson checks the text and leaves a "tape" (its doc/tape.md), which the functions here walk in place: a rag_json is
// a tape index. A word of the tape has a letter in its top byte:
//   'r' root    '"' string: low 56 bits are an offset into `strings` (u32 size, bytes, NUL)
//   'n' 't' 'f' 'l' int64, 'u' uint64, 'd' double: the value is the next word
//   '{' '['     low 32 bits: index after the matching close; next 24: number of members, saturated
//   '}' ']'     low 32 bits: index of the matching open
// The first value is at index 1.
//
// Invariants
//  1. A parsed document has no duplicate names and no container deeper than RAG_JSON_DEPTH_MAX: simdjson allows the
//     former and does not count empty containers, so check_tape() walks the tape once.
//  2. A text is copied once, into `text`, which has the padding that simdjson reads beyond the end.
//
// Memory: about 14 bytes per byte of text in all, most of them touched only by texts made of one-letter values. The
// pool keeps parsers of texts up to RETAINED_TEXT_BYTES, so at most some 30 MB idle; others give their buffers back.
//
// Threads: a parser and its values belong to one thread at a time; the pool hands parsers over with release/acquire.
#include "base/json.h"
#include "base/json_internal.h"
#include "base/json_shim.h"

#include <math.h>

#define TEXT_BYTES_MAX ((size_t)1 << 30) // tape indices are 32 bits: 4 GiB of text would not fit either
#define TEXT_BYTES_FIRST ((size_t)4096)
#define RETAINED_TEXT_BYTES ((size_t)128 << 10)
#define POOL_SLOTS 16
#define COUNT_SATURATED 0xFFFFFFu
// simdjson refuses to go deeper than this by itself; a little more than ours, as ours is counted exactly.
#define SIMDJSON_DEPTH (RAG_JSON_DEPTH_MAX + 2)

typedef struct json_document {
  const uint64_t *tape;
  const uint8_t *strings;
  size_t text_size;
} json_document;

// Names of one object, by hash: open addressing over tape indices, 0 is free (index 0 is the root's, never a name's).
typedef struct name_table {
  uint32_t *slots;
  size_t capacity; // of slots
  size_t mask;     // the slots in use are 0..mask; mask + 1 is a power of two
} name_table;

struct rag_json_parser {
  json_document document; // first: rag_json.document points here
  rag_base_simdjson *simdjson;
  char *text;
  size_t text_capacity; // without the padding; what simdjson has room for, too
  name_table names;
};

// ------------------------------------------------------------------------------------------------------------- tape

static inline const json_document *document_of(rag_json v) {
  return v.document;
}

static inline char letter_at(const uint64_t *tape, size_t index) {
  return (char)(tape[index] >> 56);
}

static inline size_t low32_at(const uint64_t *tape, size_t index) {
  return (size_t)(tape[index] & 0xFFFFFFFFu);
}

static inline rag_slice string_at(const json_document *document, size_t index) {
  const uint8_t *p = document->strings + (document->tape[index] & UINT64_C(0xFFFFFFFFFFFFFF));
  uint32_t size;
  memcpy(&size, p, sizeof(size));
  return rag_slice_of(p + sizeof(size), size);
}

// The index after the value at `index`.
static inline size_t after(const uint64_t *tape, size_t index) {
  switch (letter_at(tape, index)) {
  case '{':
  case '[':
    return low32_at(tape, index);
  case 'l':
  case 'u':
  case 'd':
    return index + 2;
  default:
    return index + 1;
  }
}

// ------------------------------------------------------------------------------------------------------ names by hash

// Room for `members` names, all slots free.
static bool name_table_clear(name_table *table, size_t members) {
  size_t capacity = 64;
  while (capacity < members * 2) capacity *= 2;
  if (capacity > table->capacity) {
    uint32_t *slots = rag_realloc_array(table->slots, capacity, sizeof(*slots));
    if (!slots) return false;
    table->slots = slots;
    table->capacity = capacity;
  }
  // Only what this object needs is cleared and used: a large table must not make many small objects slow.
  table->mask = capacity - 1;
  memset(table->slots, 0, capacity * sizeof(*table->slots));
  return true;
}

// The slot that holds `name` or is free for it; at most half of the slots are taken.
static uint32_t *name_table_slot(const name_table *table, const json_document *document, rag_slice name) {
  size_t at = (size_t)rag_hash64(name.data, name.size) & table->mask;
  while (table->slots[at] && !rag_slice_equal(string_at(document, table->slots[at]), name)) at = (at + 1) & table->mask;
  return &table->slots[at];
}

// ------------------------------------------------------------------------------------------------------------ parsing

rag_json_parser *rag_json_parser_create(void) {
  rag_json_parser *parser = rag_calloc(1, sizeof(*parser));
  if (!parser) return NULL;
  parser->simdjson = rag_base_simdjson_create();
  if (parser->simdjson) return parser;
  rag_free(parser);
  return NULL;
}

void rag_json_parser_destroy(rag_json_parser *parser) {
  if (!parser) return;
  rag_base_simdjson_destroy(parser->simdjson);
  rag_free(parser->names.slots);
  rag_free(parser->text);
  rag_free(parser);
}

// Idle parsers. atomic: acquire and release hand the parser's memory from the last thread to the next.
static rag_json_parser *_Atomic pool[POOL_SLOTS];

rag_json_parser *rag_json_parser_acquire(void) {
  for (size_t i = 0; i < POOL_SLOTS; i++) {
    // Looks before it swaps: a swap of an empty slot would still take its cache line from everybody.
    if (!atomic_load_explicit(&pool[i], memory_order_relaxed)) continue;
    rag_json_parser *parser = atomic_exchange_explicit(&pool[i], NULL, memory_order_acquire);
    if (parser) return parser;
  }
  return rag_json_parser_create();
}

void rag_json_parser_release(rag_json_parser *parser) {
  if (!parser) return;
  bool oversized = parser->text_capacity > RETAINED_TEXT_BYTES ||
                   parser->names.capacity * sizeof(*parser->names.slots) > RETAINED_TEXT_BYTES;
  for (size_t i = 0; !oversized && i < POOL_SLOTS; i++) {
    rag_json_parser *empty = NULL;
    if (atomic_compare_exchange_strong_explicit(&pool[i], &empty, parser, memory_order_release, memory_order_relaxed))
      return;
  }
  rag_json_parser_destroy(parser);
}

static rag_status reserve(rag_json_parser *parser, size_t size, rag_error *err) {
  if (parser->text_capacity > 0 && size <= parser->text_capacity) return RAG_OK; // an empty text needs the padding too
  size_t capacity = TEXT_BYTES_FIRST;
  while (capacity < size) capacity *= 2;
  parser->text_capacity = 0; // until both buffers have it
  rag_free(parser->text);    // not realloc: what is in it is of no use
  parser->text = rag_alloc(capacity + RAG_BASE_SIMDJSON_PADDING);
  if (!parser->text) return rag_fail_no_memory(err, capacity);
  // simdjson allocates with C++'s operator new: this stands in for it, so that a test can fail the step.
  void *stand_in = rag_alloc(1);
  bool planned_failure = !stand_in;
  rag_free(stand_in);
  if (planned_failure || rag_base_simdjson_reserve(parser->simdjson, capacity, SIMDJSON_DEPTH) != RAG_BASE_SIMDJSON_OK)
    return rag_fail_no_memory(err, capacity * 14);
  parser->text_capacity = capacity;
  return RAG_OK;
}

// The path of the container at tape index `target`.
static rag_base__json_path path_of(const json_document *document, size_t target) {
  const uint64_t *tape = document->tape;
  rag_base__json_path path = {{0}};
  size_t container = 1;
  while (container != target) {
    bool object = letter_at(tape, container) == '{';
    size_t at = container + 1, index = 0;
    for (;; index++) {
      size_t value = object ? at + 1 : at;
      size_t next = after(tape, value);
      if (next > target) {
        if (object) rag_base__json_path_name(&path, string_at(document, at));
        else rag_base__json_path_index(&path, index);
        container = value;
        break;
      }
      at = next;
    }
  }
  return path;
}

static rag_status fail_duplicate(const json_document *document, size_t object, rag_slice name, rag_error *err) {
  rag_base__json_path where = path_of(document, object);
  rag_base__json_path path = where;
  rag_base__json_path_name(&path, name);
  int shown = (int)rag_utf8_floor(name.data, name.size, RAG_MIN(name.size, (size_t)64));
  return rag_fail_field(err, RAG_INVALID_ARGUMENT, path.text, "bad JSON: member '%.*s' appears twice%s%s; send it once",
                        shown, name.data, where.text[0] ? " in " : "", where.text);
}

// Pairwise up to here: quicker than hashing, and most objects are this small.
#define PAIRWISE_MEMBERS 12

static rag_status check_names(rag_json_parser *parser, size_t object, rag_error *err) {
  const json_document *document = &parser->document;
  const uint64_t *tape = document->tape;
  size_t end = low32_at(tape, object) - 1;
  rag_slice names[PAIRWISE_MEMBERS];
  size_t count = 0;
  for (size_t at = object + 1; at < end; at = after(tape, at + 1)) {
    rag_slice name = string_at(document, at);
    if (count < PAIRWISE_MEMBERS) {
      for (size_t i = 0; i < count; i++)
        if (rag_slice_equal(names[i], name)) return fail_duplicate(document, object, name, err);
      names[count] = name;
    }
    count++;
  }
  if (count <= PAIRWISE_MEMBERS) return RAG_OK;
  if (!name_table_clear(&parser->names, count)) return rag_fail_no_memory(err, count * 2 * sizeof(uint32_t));
  for (size_t at = object + 1; at < end; at = after(tape, at + 1)) {
    rag_slice name = string_at(document, at);
    uint32_t *slot = name_table_slot(&parser->names, document, name);
    if (*slot) return fail_duplicate(document, object, name, err);
    *slot = (uint32_t)at;
  }
  return RAG_OK;
}

// Invariant 1. *too_deep instead of an error, as the tape does not know byte offsets.
static rag_status check_tape(rag_json_parser *parser, bool *too_deep, rag_error *err) {
  const uint64_t *tape = parser->document.tape;
  size_t end = low32_at(tape, 0) - 1;
  unsigned depth = 0;
  for (size_t at = 1; at < end;) {
    switch (letter_at(tape, at)) {
    case 'l':
    case 'u':
    case 'd':
      at += 2;
      break;
    case '{':
    case '[':
      if (++depth > RAG_JSON_DEPTH_MAX) {
        *too_deep = true;
        return RAG_OK;
      }
      if (letter_at(tape, at) == '{') RAG_TRY(check_names(parser, at, err));
      at++;
      break;
    case '}':
    case ']':
      depth--;
      at++;
      break;
    default:
      at++;
    }
  }
  return RAG_OK;
}

rag_status rag_json_parse(rag_json_parser *parser, rag_slice text, rag_json *out, rag_error *err) {
  if (text.size > TEXT_BYTES_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "the JSON text has %zu bytes, over the limit of %zu", text.size,
                    TEXT_BYTES_MAX);
  RAG_TRY(reserve(parser, text.size, err));
  if (text.size) memcpy(parser->text, text.data, text.size);
  memset(parser->text + text.size, 0, RAG_BASE_SIMDJSON_PADDING);
  const char *reason = NULL;
  json_document document = {.text_size = text.size};
  bool refused = text.size >= 3 && memcmp(parser->text, "\xEF\xBB\xBF", 3) == 0; // newer simdjson would skip it
  if (!refused) {
    rag_base_simdjson_result result =
        rag_base_simdjson_parse(parser->simdjson, parser->text, text.size, &document.tape, &document.strings, &reason);
    if (result == RAG_BASE_SIMDJSON_NO_MEMORY) return rag_fail_no_memory(err, text.size * 14);
    refused = result != RAG_BASE_SIMDJSON_OK;
  }
  if (!refused) {
    parser->document = document;
    RAG_TRY(check_tape(parser, &refused, err));
  }
  if (refused) {
    RAG_TRY(rag_base__json_diagnose(text, err));
    return rag_fail(err, RAG_INVALID_ARGUMENT, "bad JSON: %s", reason ? reason : "not understood");
  }
  *out = (rag_json){&parser->document, 1};
  return RAG_OK;
}

// ------------------------------------------------------------------------------------------------------------- access

const char *rag_json_type_name(rag_json_type type) {
  switch (type) {
  case RAG_JSON_NULL:
    return "null";
  case RAG_JSON_BOOL:
    return "a boolean";
  case RAG_JSON_INT:
  case RAG_JSON_UINT:
  case RAG_JSON_DOUBLE:
    return "a number";
  case RAG_JSON_STRING:
    return "a string";
  case RAG_JSON_ARRAY:
    return "an array";
  case RAG_JSON_OBJECT:
    return "an object";
  }
  return "a value";
}

rag_json_type rag_json_type_of(rag_json value) {
  switch (letter_at(document_of(value)->tape, value.index)) {
  case 't':
  case 'f':
    return RAG_JSON_BOOL;
  case 'l':
    return RAG_JSON_INT;
  case 'u':
    return RAG_JSON_UINT;
  case 'd':
    return RAG_JSON_DOUBLE;
  case '"':
    return RAG_JSON_STRING;
  case '[':
    return RAG_JSON_ARRAY;
  case '{':
    return RAG_JSON_OBJECT;
  default:
    return RAG_JSON_NULL;
  }
}

size_t rag_json_text_size(rag_json value) {
  return document_of(value)->text_size;
}

bool rag_json_bool(rag_json value) {
  return letter_at(document_of(value)->tape, value.index) == 't';
}

static inline uint64_t number_word(rag_json value) {
  RAG_ASSERT(rag_json_type_of(value) >= RAG_JSON_INT && rag_json_type_of(value) <= RAG_JSON_DOUBLE);
  return document_of(value)->tape[value.index + 1];
}

int64_t rag_json_int(rag_json value) {
  return (int64_t)number_word(value);
}

uint64_t rag_json_uint(rag_json value) {
  return number_word(value);
}

static inline double double_of_word(uint64_t word) {
  double v;
  memcpy(&v, &word, sizeof(v));
  return v;
}

double rag_json_double(rag_json value) {
  uint64_t word = number_word(value);
  switch (rag_json_type_of(value)) {
  case RAG_JSON_INT:
    return (double)(int64_t)word;
  case RAG_JSON_UINT:
    return (double)word;
  default:
    return double_of_word(word);
  }
}

rag_slice rag_json_string(rag_json value) {
  RAG_ASSERT(rag_json_type_of(value) == RAG_JSON_STRING);
  return string_at(document_of(value), value.index);
}

size_t rag_json_size(rag_json value) {
  const uint64_t *tape = document_of(value)->tape;
  char letter = letter_at(tape, value.index);
  if (letter != '{' && letter != '[') return 0;
  size_t count = (size_t)(tape[value.index] >> 32 & 0xFFFFFFu);
  if (count < COUNT_SATURATED) return count;
  count = 0;
  for (rag_json_iter it = rag_json_iter_of(value); rag_json_iter_next(&it);) count++;
  return count;
}

rag_json_iter rag_json_iter_of(rag_json container) {
  char letter = letter_at(document_of(container)->tape, container.index);
  bool iterable = letter == '{' || letter == '[';
  return (rag_json_iter){.container = container, .at = iterable ? container.index + 1 : 0, .object = letter == '{'};
}

bool rag_json_iter_next(rag_json_iter *it) {
  if (it->at == 0) return false; // not a container
  const json_document *document = document_of(it->container);
  char letter = letter_at(document->tape, it->at);
  if (letter == '}' || letter == ']') return false;
  if (it->object) it->name = string_at(document, it->at++);
  it->value = (rag_json){document, it->at};
  it->at = after(document->tape, it->at);
  return true;
}

bool rag_json_find(rag_json object, rag_slice name, rag_json *out) {
  if (rag_json_type_of(object) != RAG_JSON_OBJECT) return false;
  for (rag_json_iter it = rag_json_iter_of(object); rag_json_iter_next(&it);) {
    if (!rag_slice_equal(it.name, name)) continue;
    *out = it.value;
    return true;
  }
  return false;
}

size_t rag_json_floats(rag_json array, float *out, size_t capacity, size_t *bad_index) {
  const uint64_t *tape = document_of(array)->tape;
  *bad_index = 0;
  if (letter_at(tape, array.index) != '[') return SIZE_MAX;
  size_t count = 0;
  for (size_t at = array.index + 1;; at += 2, count++) {
    float v;
    switch (letter_at(tape, at)) {
    case 'd':
      v = (float)double_of_word(tape[at + 1]);
      break;
    case 'l':
      v = (float)(int64_t)tape[at + 1];
      break;
    case 'u':
      v = (float)tape[at + 1];
      break;
    case ']':
      return count;
    default:
      *bad_index = count;
      return SIZE_MAX;
    }
    if (isinf(v)) {
      *bad_index = count;
      return SIZE_MAX;
    }
    if (count < capacity) out[count] = v;
  }
}

// ------------------------------------------------------------------------------------------------------------ writing

// Recursion is bounded by RAG_JSON_DEPTH_MAX.
void rag_json_write(rag_json value, rag_buf *out) {
  switch (rag_json_type_of(value)) {
  case RAG_JSON_NULL:
    rag_buf_append(out, "null", 4);
    return;
  case RAG_JSON_BOOL:
    rag_buf_append_str(out, rag_json_bool(value) ? "true" : "false");
    return;
  case RAG_JSON_INT:
    rag_json_put_int(out, rag_json_int(value));
    return;
  case RAG_JSON_UINT:
    rag_json_put_uint(out, rag_json_uint(value));
    return;
  case RAG_JSON_DOUBLE:
    rag_json_put_double(out, rag_json_double(value));
    return;
  case RAG_JSON_STRING:
    rag_json_put_string(out, rag_json_string(value));
    return;
  case RAG_JSON_ARRAY:
  case RAG_JSON_OBJECT:
    break;
  }
  rag_json_iter it = rag_json_iter_of(value);
  rag_buf_append_char(out, it.object ? '{' : '[');
  for (bool first = true; rag_json_iter_next(&it); first = false) {
    if (!first) rag_buf_append_char(out, ',');
    if (it.object) {
      rag_json_put_string(out, it.name);
      rag_buf_append_char(out, ':');
    }
    rag_json_write(it.value, out);
  }
  rag_buf_append_char(out, it.object ? '}' : ']');
}

// -------------------------------------------------------------------------------------------------------- merge patch

// An object with quick look-up by name: hashed where it is large, so that a patch of n members on n costs n.
typedef struct member_index {
  rag_json object;
  bool is_object;   // no object: nothing is found
  name_table names; // empty for small objects
} member_index;

static bool member_index_open(member_index *index, const rag_json *object) {
  *index = (member_index){0};
  if (!object || rag_json_type_of(*object) != RAG_JSON_OBJECT) return true;
  index->object = *object;
  index->is_object = true;
  size_t members = rag_json_size(*object);
  if (members <= PAIRWISE_MEMBERS) return true;
  if (!name_table_clear(&index->names, members)) return false;
  const json_document *document = document_of(*object);
  size_t end = low32_at(document->tape, object->index) - 1;
  for (size_t at = object->index + 1; at < end; at = after(document->tape, at + 1))
    *name_table_slot(&index->names, document, string_at(document, at)) = (uint32_t)at;
  return true;
}

static void member_index_close(member_index *index) {
  rag_free(index->names.slots);
}

static bool member_index_find(const member_index *index, rag_slice name, rag_json *out) {
  if (!index->is_object) return false;
  if (!index->names.slots) return rag_json_find(index->object, name, out);
  uint32_t at = *name_table_slot(&index->names, document_of(index->object), name);
  if (at) *out = (rag_json){index->object.document, at + 1u};
  return at != 0;
}

static void put_name(rag_buf *out, rag_slice name, bool *first) {
  if (!*first) rag_buf_append_char(out, ',');
  *first = false;
  rag_json_put_string(out, name);
  rag_buf_append_char(out, ':');
}

// target: NULL where there is none. Members of the target keep their order, new ones follow in the patch's. Recursion
// is bounded by the patch's depth. Running out of memory sticks in `out`.
static void write_merged(const rag_json *target, rag_json patch, rag_buf *out) {
  if (rag_json_type_of(patch) != RAG_JSON_OBJECT) {
    rag_json_write(patch, out);
    return;
  }
  member_index in_target, in_patch;
  bool opened = member_index_open(&in_target, target);
  opened = member_index_open(&in_patch, &patch) && opened;
  if (!opened) {
    out->failed = true;
    goto close;
  }
  bool first = true;
  rag_json found;
  rag_buf_append_char(out, '{');
  rag_json_iter it = in_target.is_object ? rag_json_iter_of(in_target.object) : (rag_json_iter){0};
  while (rag_json_iter_next(&it)) {
    bool patched = member_index_find(&in_patch, it.name, &found);
    if (patched && rag_json_type_of(found) == RAG_JSON_NULL) continue;
    put_name(out, it.name, &first);
    if (patched) write_merged(&it.value, found, out);
    else rag_json_write(it.value, out);
  }
  it = rag_json_iter_of(patch);
  while (rag_json_iter_next(&it)) {
    if (rag_json_type_of(it.value) == RAG_JSON_NULL || member_index_find(&in_target, it.name, &found)) continue;
    put_name(out, it.name, &first);
    write_merged(NULL, it.value, out);
  }
  rag_buf_append_char(out, '}');
close:
  member_index_close(&in_target);
  member_index_close(&in_patch);
}

rag_status rag_json_merge_patch(rag_slice target, rag_json patch, rag_buf *out, rag_error *err) {
  if (rag_json_type_of(patch) != RAG_JSON_OBJECT)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a merge patch is an object, and this is %s",
                    rag_json_type_name(rag_json_type_of(patch)));
  rag_status status = RAG_OK;
  rag_json_parser *parser = NULL;
  rag_json value;
  if (target.size) {
    parser = rag_json_parser_acquire();
    if (!parser) return rag_fail_no_memory(err, sizeof(*parser));
    RAG_TRY_OUT(rag_json_parse(parser, target, &value, err));
  }
  write_merged(target.size ? &value : NULL, patch, out);
  status = rag_buf_check(out, err);
out:
  rag_json_parser_release(parser);
  return status;
}
