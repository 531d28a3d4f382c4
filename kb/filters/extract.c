// A revision's metadata as values and marks at paths (see the head of filters_internal.h for what stands where).
//
// Paths are found by walking a tree of names next to the metadata: a node knows its number in the batch, so a member
// costs one look into a hash table, and texts of paths are made once. The tree is bounded, as names may be data: what
// comes after its limit makes its revision opaque.
//
// Threads: an extractor is one thread's.
#include "kb/filters/filters_internal.h"

#define NODES_MAX 65536u
#define NO_NODE UINT32_MAX

typedef struct node {
  uint32_t parent, next; // next: of the chain of its hash
  uint32_t path;         // in the batch
  bool each;             // the elements of its parent's array; else a member
  rag_slice name;
  rag_slice text;
} node;

struct rag_kb__extractor {
  rag_fields_batch *batch; // owned
  rag_json_parser *parser; // owned
  rag_arena *arena;        // of the tree
  node *nodes;             // 0: the metadata itself
  uint32_t node_count, node_capacity;
  uint32_t *buckets; // heads of chains; a power of two
  uint32_t bucket_count;
  uint32_t epoch; // of the batch's paths
  bool failed;    // out of memory
};

static void forget(rag_kb__extractor *x) {
  rag_arena_reset(x->arena);
  memset(x->buckets, 0xFF, x->bucket_count * sizeof *x->buckets);
  x->nodes[0] = (node){.parent = NO_NODE, .next = NO_NODE, .path = RAG_FIELDS_NO_PATH};
  x->node_count = 1;
  x->epoch = rag_fields_batch_epoch(x->batch);
}

rag_status rag_kb__extractor_create(const rag_fields *fields, rag_kb__extractor **out, rag_error *err) {
  rag_kb__extractor *x = rag_calloc(1, sizeof *x);
  if (x == NULL) return rag_fail_no_memory(err, sizeof *x);
  rag_status status = rag_fields_batch_create(fields, &x->batch, err);
  x->node_capacity = x->bucket_count = 64;
  x->nodes = rag_calloc(x->node_capacity, sizeof *x->nodes);
  x->buckets = rag_calloc(x->bucket_count, sizeof *x->buckets);
  x->arena = rag_arena_create(0);
  x->parser = rag_json_parser_acquire();
  if (status == RAG_OK && (x->nodes == NULL || x->buckets == NULL || x->arena == NULL || x->parser == NULL))
    status = rag_fail_no_memory(err, 0);
  if (status != RAG_OK) {
    rag_kb__extractor_destroy(x);
    return status;
  }
  forget(x);
  *out = x;
  return RAG_OK;
}

void rag_kb__extractor_destroy(rag_kb__extractor *x) {
  if (x == NULL) return;
  rag_fields_batch_destroy(x->batch);
  if (x->parser != NULL) rag_json_parser_release(x->parser);
  rag_arena_destroy(x->arena);
  rag_free(x->nodes);
  rag_free(x->buckets);
  rag_free(x);
}

rag_fields_batch *rag_kb__extract_batch(rag_kb__extractor *x) {
  return x->batch;
}

// ---------------------------------------------------------------------------------------------- the tree of names

// What a step from node `parent` adds to its text.
static bool step_text(rag_kb__extractor *x, uint32_t parent, bool each, rag_slice name, rag_slice *out) {
  rag_slice before = x->nodes[parent].text;
  bool quoted = !each && !rag_kb__filter_plain_name(name);
  size_t size = before.size + (each ? 2 : name.size + (before.size > 0) + 2u * quoted), at = before.size;
  char *text = rag_arena_alloc(x->arena, size);
  if (text == NULL) return false;
  if (before.size > 0) memcpy(text, before.data, before.size);
  if (each) {
    memcpy(text + at, "[]", 2);
  } else {
    if (before.size > 0) text[at++] = '.';
    if (quoted) text[at++] = '"';
    memcpy(text + at, name.data, name.size);
    if (quoted) text[at + name.size] = '"';
  }
  *out = rag_slice_of(text, size);
  return true;
}

static uint32_t *bucket_of(rag_kb__extractor *x, uint32_t parent, bool each, rag_slice name) {
  uint64_t hash = each ? 0x9e3779b97f4a7c15u : rag_hash64(name.data, name.size);
  hash ^= parent * UINT64_C(0xd6e8feb86659fd93);
  return &x->buckets[(hash ^ hash >> 32) & (x->bucket_count - 1)];
}

static bool grow(rag_kb__extractor *x) {
  uint32_t capacity = x->node_capacity * 2;
  node *nodes = rag_realloc_array(x->nodes, capacity, sizeof *nodes);
  if (nodes == NULL) return false;
  x->nodes = nodes;
  x->node_capacity = capacity;
  uint32_t *buckets = rag_calloc(capacity, sizeof *buckets);
  if (buckets == NULL) return false;
  rag_free(x->buckets);
  x->buckets = buckets;
  x->bucket_count = capacity;
  memset(buckets, 0xFF, capacity * sizeof *buckets);
  for (uint32_t i = 1; i < x->node_count; i++) {
    uint32_t *bucket = bucket_of(x, nodes[i].parent, nodes[i].each, nodes[i].name);
    nodes[i].next = *bucket;
    *bucket = i;
  }
  return true;
}

// The node of a member, or of the elements, of what `parent` stands for. NO_NODE: what is below cannot be indexed, and
// the revision was made opaque where a filter could ask for it.
static uint32_t child_of(rag_kb__extractor *x, uint32_t parent, bool each, rag_slice name) {
  if (!each && (name.size == 0 || memchr(name.data, '"', name.size) != NULL)) return NO_NODE;
  uint32_t i = *bucket_of(x, parent, each, name);
  for (; i != NO_NODE; i = x->nodes[i].next)
    if (x->nodes[i].parent == parent && x->nodes[i].each == each && rag_slice_equal(x->nodes[i].name, name)) return i;
  if (x->node_count >= NODES_MAX || x->nodes[parent].text.size + name.size + 3 > RAG_FIELDS_PATH_BYTES_MAX) {
    rag_fields_batch_opaque(x->batch);
    return NO_NODE;
  }
  node fresh = {.parent = parent, .each = each};
  char *copy = each ? NULL : rag_arena_strndup(x->arena, name.data, name.size);
  if ((!each && copy == NULL) || !step_text(x, parent, each, name, &fresh.text) ||
      (x->node_count == x->node_capacity && !grow(x))) {
    x->failed = true;
    return NO_NODE;
  }
  if (!each) fresh.name = rag_slice_of(copy, name.size);
  fresh.path = rag_fields_batch_path(x->batch, fresh.text);
  uint32_t *bucket = bucket_of(x, parent, each, name);
  fresh.next = *bucket;
  *bucket = x->node_count;
  x->nodes[x->node_count] = fresh;
  return x->node_count++;
}

// ---------------------------------------------------------------------------------------------- values

static void visit(rag_kb__extractor *x, uint32_t at, rag_json value);

static void add_string(rag_kb__extractor *x, uint32_t path, rag_slice text) {
  int64_t time_us;
  rag_fields_batch_string(x->batch, path, text);
  // Two hyphens where dates have them, before the longer look.
  if (text.size >= 10 && text.data[4] == '-' && text.data[7] == '-' && rag_kb__filter_time(text, &time_us))
    rag_fields_batch_time(x->batch, path, time_us);
}

// A value that tests see: marks of its type, and the value itself. Returns the marks.
static uint32_t add_value(rag_kb__extractor *x, uint32_t at, rag_json value) {
  uint32_t path = x->nodes[at].path;
  rag_kb__point point;
  switch (rag_json_type_of(value)) {
  case RAG_JSON_NULL:
    return 0;
  case RAG_JSON_BOOL:
    return rag_json_bool(value) ? RAG_KB__MARK_TRUE : RAG_KB__MARK_FALSE;
  case RAG_JSON_INT:
    rag_fields_batch_int(x->batch, path, rag_json_int(value));
    return RAG_KB__MARK_INT;
  case RAG_JSON_UINT:
  case RAG_JSON_DOUBLE:
    rag_fields_batch_double(x->batch, path, rag_json_double(value));
    return RAG_KB__MARK_DOUBLE;
  case RAG_JSON_STRING:
    add_string(x, path, rag_json_string(value));
    return RAG_KB__MARK_STRING;
  case RAG_JSON_ARRAY:
    return RAG_KB__MARK_NESTED;
  default:
    if (rag_kb__filter_read_point(value, &point)) rag_fields_batch_point(x->batch, path, point.lat, point.lon);
    return RAG_KB__MARK_OBJECT;
  }
}

static void visit_members(rag_kb__extractor *x, uint32_t at, rag_json object) {
  rag_json_iter it = rag_json_iter_of(object);
  while (rag_json_iter_next(&it)) {
    uint32_t child = child_of(x, at, false, it.name);
    if (child != NO_NODE) visit(x, child, it.value);
  }
}

static void visit_array(rag_kb__extractor *x, uint32_t at, rag_json array) {
  uint32_t marks = RAG_KB__MARK_ARRAY;
  rag_json_iter it = rag_json_iter_of(array);
  while (rag_json_iter_next(&it)) {
    rag_json_type type = rag_json_type_of(it.value);
    marks |= RAG_KB__MARK_FILLED | add_value(x, at, it.value);
    if (type == RAG_JSON_NULL) marks |= RAG_KB__MARK_NULL_ELEMENT;
    if (type != RAG_JSON_OBJECT) continue;
    uint32_t child = child_of(x, at, true, rag_slice_of("", 0));
    if (child != NO_NODE) visit_members(x, child, it.value);
  }
  rag_fields_batch_mark(x->batch, x->nodes[at].path, marks);
}

// Recursion is bounded by the depth of JSON.
static void visit(rag_kb__extractor *x, uint32_t at, rag_json value) {
  rag_json_type type = rag_json_type_of(value);
  if (type == RAG_JSON_ARRAY) {
    visit_array(x, at, value);
    return;
  }
  uint32_t marks = RAG_KB__MARK_DIRECT | add_value(x, at, value);
  marks |= type == RAG_JSON_NULL ? RAG_KB__MARK_NULL : RAG_KB__MARK_FILLED;
  rag_fields_batch_mark(x->batch, x->nodes[at].path, marks);
  if (type == RAG_JSON_OBJECT) visit_members(x, at, value);
}

rag_status rag_kb__extract(rag_kb__extractor *x, uint32_t revision, rag_slice metadata, rag_error *err) {
  rag_json root;
  if (x->epoch != rag_fields_batch_epoch(x->batch)) forget(x);
  // What the store holds was checked when it came in. Should it not be JSON all the same, a kb is not lost for it.
  rag_status status = metadata.size > 0 ? rag_json_parse(x->parser, metadata, &root, err) : RAG_OK;
  if (status != RAG_OK && status != RAG_INVALID_ARGUMENT) return status;
  rag_fields_batch_row(x->batch, revision);
  if (metadata.size > 0 && status == RAG_OK && rag_json_type_of(root) == RAG_JSON_OBJECT) visit_members(x, 0, root);
  if (!x->failed) return RAG_OK;
  return rag_fail_no_memory(err, 0);
}

rag_status rag_kb__fields_append(rag_fields *fields, uint32_t count, const rag_kb__fields_row *rows, rag_error *err) {
  rag_kb__extractor *x = NULL;
  RAG_TRY(rag_kb__extractor_create(fields, &x, err));
  rag_status status = RAG_OK;
  for (uint32_t i = 0; i < count && status == RAG_OK; i++)
    status = rag_kb__extract(x, rows[i].revision, rows[i].metadata, err);
  if (status == RAG_OK) status = rag_fields_append(fields, x->batch, err);
  rag_kb__extractor_destroy(x);
  return status;
}
