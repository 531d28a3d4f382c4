// From a method and a raw target to a route.
//
// The table's paths, REST and RPC, become one tree of segments, built once. A target is walked as it came, still
// percent-encoded, so that %2F stays inside its segment: decoding first would let a document named "a/b" reach another
// route. At each level a literal is tried first, then a parameter with a verb ("{id}:pause"), then a plain parameter;
// the first that fits is taken for good. That needs no way back as long as no node has both a literal and a parameter
// that could hold it, which the builder asserts.
//
// A literal that came with escapes ("documents%3Aimport") is compared decoded, as some clients escape every colon. A
// verb after a parameter is not: there an escaped colon belongs to the parameter's value.
//
// Threads: the tree is immutable after pthread_once; matching allocates nothing and takes no lock.
#include "api/dispatch_internal.h"

#include <pthread.h>
#include <stdio.h>

#define NODES_MAX 256u
#define LITERAL_BYTES_MAX 64u
#define METHODS 5u
static const char *const method_names[METHODS] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

typedef enum node_kind { NODE_LITERAL = 0, NODE_PARAM_VERB = 1, NODE_PARAM = 2 } node_kind; // in the order of trying

typedef struct node {
  node_kind kind;
  rag_slice text;       // the literal, or ":verb"
  rag_slice name;       // of the parameter
  uint16_t child, next; // indices; 0: none
  const rag_route *routes[METHODS];
  bool rpc;
  char allow[32]; // "GET, POST"; "": no path ends here
} node;

static node nodes[NODES_MAX]; // nodes[0] is the root; immutable after `once`
static uint16_t node_count = 1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// ---------------------------------------------------------------------------------------------- the tree

static node node_of_segment(rag_slice segment) {
  if (segment.size == 0 || segment.data[0] != '{') return (node){.kind = NODE_LITERAL, .text = segment};
  const char *end = memchr(segment.data, '}', segment.size);
  RAG_ASSERT(end);
  size_t name_size = (size_t)(end - segment.data) - 1;
  rag_slice verb = {end + 1, segment.size - name_size - 2};
  return (node){.kind = verb.size ? NODE_PARAM_VERB : NODE_PARAM, .text = verb, .name = {segment.data + 1, name_size}};
}

static uint16_t child_for(uint16_t parent, rag_slice segment) {
  node wanted = node_of_segment(segment);
  uint16_t *link = &nodes[parent].child;
  while (*link && nodes[*link].kind <= wanted.kind) {
    const node *at = &nodes[*link];
    if (at->kind == wanted.kind && rag_slice_equal(at->text, wanted.text)) {
      RAG_ASSERT(rag_slice_equal(at->name, wanted.name)); // two names for one parameter
      return *link;
    }
    link = &nodes[*link].next;
  }
  RAG_ASSERT(node_count < NODES_MAX);
  uint16_t index = node_count++;
  wanted.next = *link;
  nodes[index] = wanted;
  *link = index;
  return index;
}

static bool segment_next(const char **at, const char *end, rag_slice *out) {
  if (*at >= end) return false;
  const char *start = *at + 1; // after the '/'
  const char *slash = start < end ? memchr(start, '/', (size_t)(end - start)) : NULL;
  *at = slash ? slash : end;
  *out = (rag_slice){start, (size_t)(*at - start)};
  return true;
}

static unsigned method_index(const char *method) {
  unsigned i = 0;
  while (i < METHODS && strcmp(method, method_names[i]) != 0) i++;
  return i;
}

static void add_path(const char *method, const char *path, const rag_route *route, bool rpc) {
  const char *at = path, *end = path + strlen(path);
  RAG_ASSERT(path[0] == '/');
  uint16_t index = 0;
  for (rag_slice segment; segment_next(&at, end, &segment);) index = child_for(index, segment);
  unsigned m = method_index(method);
  RAG_ASSERT(m < METHODS && !nodes[index].routes[m]); // an unknown method, or two routes for one
  nodes[index].routes[m] = route;
  nodes[index].rpc = rpc;
}

static void build(void) {
  static char rpc_paths[NODES_MAX][96];
  for (size_t i = 0; i < rag_api__route_count; i++) {
    const rag_route *route = &rag_api__routes[i];
    add_path(route->method, route->path, route, false);
    if (!route->rpc[0]) continue;
    RAG_ASSERT(i < NODES_MAX);
    int size = snprintf(rpc_paths[i], sizeof(rpc_paths[i]), API_RPC_PREFIX "%s/%s", route->service, route->rpc);
    RAG_ASSERT(size > 0 && (size_t)size < sizeof(rpc_paths[i]));
    add_path("POST", rpc_paths[i], route, true);
  }
  for (uint16_t i = 0; i < node_count; i++) {
    node *n = &nodes[i];
    bool literal = false, param = false;
    for (uint16_t c = n->child; c; c = nodes[c].next) {
      if (nodes[c].kind == NODE_LITERAL) literal = true;
      else param = true;
      RAG_ASSERT(nodes[c].text.size <= LITERAL_BYTES_MAX);
    }
    RAG_ASSERT(!(literal && param)); // would need a way back
    for (unsigned m = 0; m < METHODS; m++) {
      if (!n->routes[m]) continue;
      size_t used = strlen(n->allow);
      snprintf(n->allow + used, sizeof(n->allow) - used, "%s%s", used ? ", " : "", method_names[m]);
    }
  }
}

// ---------------------------------------------------------------------------------------------- escapes

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Decodes into out (room for raw.size). Returns the size, or SIZE_MAX for a broken escape.
static size_t decode(rag_slice raw, bool plus, char *out) {
  size_t size = 0;
  for (size_t i = 0; i < raw.size; i++) {
    char c = raw.data[i];
    if (c == '%') {
      if (raw.size - i < 3) return SIZE_MAX;
      int high = hex_digit(raw.data[i + 1]), low = hex_digit(raw.data[i + 2]);
      if (high < 0 || low < 0) return SIZE_MAX;
      c = (char)(high << 4 | low);
      i += 2;
    } else if (c == '+' && plus) {
      c = ' ';
    }
    out[size++] = c;
  }
  return size;
}

rag_status rag_api__percent_decode(rag_slice raw, bool plus, rag_slice name, rag_arena *arena, rag_slice *out,
                                   rag_error *err) {
  char field[RAG_ERROR_FIELD_MAX];
  snprintf(field, sizeof(field), "%.*s", (int)RAG_MIN(name.size, sizeof(field) - 1), name.data ? name.data : "");
  char *text = rag_arena_alloc(arena, raw.size + 1);
  if (!text) return rag_fail_no_memory(err, raw.size + 1);
  size_t size = decode(raw, plus, text);
  if (size == SIZE_MAX)
    return rag_fail_field(
        err, RAG_INVALID_ARGUMENT, field,
        "%s: a '%%' in the URL must be followed by two hexadecimal digits; write a '%%' itself as %%25", field);
  if (memchr(text, '\0', size))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: holds a NUL character (%%00); remove it", field);
  if (!rag_utf8_valid(text, size))
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, field, "%s: is not valid UTF-8 after decoding its escapes", field);
  text[size] = '\0';
  *out = rag_slice_of(text, size);
  return RAG_OK;
}

bool rag_api__query_next(rag_slice *rest, rag_api__param *out) {
  while (rest->size) {
    const char *end = memchr(rest->data, '&', rest->size);
    rag_slice piece = {rest->data, end ? (size_t)(end - rest->data) : rest->size};
    size_t step = end ? piece.size + 1 : piece.size;
    *rest = (rag_slice){rest->data + step, rest->size - step};
    if (piece.size == 0) continue;
    const char *equals = memchr(piece.data, '=', piece.size);
    size_t name_size = equals ? (size_t)(equals - piece.data) : piece.size;
    out->name = rag_slice_of(piece.data, name_size);
    out->raw = equals ? rag_slice_of(equals + 1, piece.size - name_size - 1) : rag_slice_of("", 0);
    return true;
  }
  return false;
}

// ---------------------------------------------------------------------------------------------- matching

static bool literal_equal(rag_slice literal, rag_slice segment) {
  if (rag_slice_equal(literal, segment)) return true;
  if (segment.size <= literal.size || segment.size > 3 * LITERAL_BYTES_MAX || !memchr(segment.data, '%', segment.size))
    return false;
  char text[3 * LITERAL_BYTES_MAX];
  size_t size = decode(segment, false, text);
  return size == literal.size && memcmp(text, literal.data, size) == 0;
}

// A parameter is never empty.
static bool fits(const node *n, rag_slice segment, rag_slice *param) {
  switch (n->kind) {
  case NODE_LITERAL:
    return literal_equal(n->text, segment);
  case NODE_PARAM_VERB:
    if (segment.size <= n->text.size) return false;
    *param = rag_slice_of(segment.data, segment.size - n->text.size);
    return memcmp(segment.data + param->size, n->text.data, n->text.size) == 0;
  case NODE_PARAM:
    *param = segment;
    return segment.size > 0;
  }
  return false;
}

static const node *child_of(const node *parent, rag_slice segment, rag_slice *param) {
  for (uint16_t c = parent->child; c; c = nodes[c].next)
    if (fits(&nodes[c], segment, param)) return &nodes[c];
  return NULL;
}

void rag_api__route_match(const char *method, const char *target, rag_api__match *out) {
  pthread_once(&once, build);
  *out = (rag_api__match){.rpc = strncmp(target, API_RPC_PREFIX, sizeof(API_RPC_PREFIX) - 1) == 0};
  const char *end = target + strcspn(target, "?#");
  if (*end == '?') out->query = rag_slice_of(end + 1, strcspn(end + 1, "#"));
  if (target[0] != '/') return;

  const node *at = &nodes[0];
  const char *cursor = target;
  for (rag_slice segment; segment_next(&cursor, end, &segment);) {
    rag_slice param = {0};
    at = child_of(at, segment, &param);
    if (!at) return;
    if (at->kind == NODE_LITERAL) continue;
    RAG_ASSERT(out->param_count < API_PATH_PARAMS_MAX); // of the table's paths
    out->params[out->param_count++] = (rag_api__param){at->name, param};
  }
  if (!at->allow[0]) return;
  out->allow = at->allow;
  unsigned m = method_index(method);
  if (m < METHODS) out->route = at->routes[m];
}
