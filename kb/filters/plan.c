// A filter's conditions as a tree of questions to field indexes.
//
// A filter is ALL of its `must`, and ANY of its `should`, NONE of its `must_not`, AT_LEAST n of its `min_should`.
//
// What an index cannot know of `nested` is which values lie in one element. But an element that passes is an object in
// the array, and for each `must` of the inner filter some element holds it: so the tree has what is needed at least,
// with the inner paths appended to the outer one, and what passes that is verified. With one `must` and nothing else
// this is not only needed but enough.
//
// The recursion follows the filter, whose depth is limited by the parser.
#include "kb/filters/plan_internal.h"

#include <stdlib.h>

#define IDS_PER_LOOK 64u // between two looks at the clock

typedef struct planner {
  const rag_kb__filter_source *source;
  rag_arena *arena;
  rag_error *err;
} planner;

static rag_status no_memory(const planner *p) {
  return rag_fail_no_memory(p->err, 0);
}

// ---------------------------------------------------------------------------------------------- paths

static const rag_kb__step *step_at(const rag_kb__path *prefix, const rag_kb__path *path, uint32_t i) {
  return i < prefix->count ? &prefix->steps[i] : &path->steps[i - prefix->count];
}

rag_status rag_kb__path_indexed(const rag_kb__path *prefix, const rag_kb__path *path, const rag_fields_view *view,
                                rag_arena *arena, rag_kb__indexed_path *out, rag_error *err) {
  rag_kb__indexed_path found = {.covered = false};
  rag_buf text = {0};
  uint32_t count = prefix->count + path->count;
  for (uint32_t i = 0; i < count; i++) found.numbered |= step_at(prefix, path, i)->kind == RAG_KB__STEP_INDEX;
  for (uint32_t i = 0; i < count && !found.doubled; i++) {
    const rag_kb__step *step = step_at(prefix, path, i);
    if (step->kind != RAG_KB__STEP_NAME) {
      found.doubled = i + 1 < count && step_at(prefix, path, i + 1)->kind != RAG_KB__STEP_NAME;
      found.trailing = i + 1 == count;
      if (!found.doubled && !found.trailing) rag_buf_append_str(&text, "[]");
      continue;
    }
    bool quoted = !rag_kb__filter_plain_name(step->name);
    if (i > 0) rag_buf_append_char(&text, '.');
    if (quoted) rag_buf_append_char(&text, '"');
    rag_buf_append(&text, step->name.data, step->name.size);
    if (quoted) rag_buf_append_char(&text, '"');
  }
  rag_status status = rag_buf_check(&text, err);
  char *copy = status == RAG_OK ? rag_arena_strndup(arena, text.data, text.size) : NULL;
  if (status == RAG_OK && copy == NULL) status = rag_fail_no_memory(err, text.size);
  found.text = rag_slice_of(copy, text.size);
  rag_buf_free(&text);
  if (status != RAG_OK) return status;
  found.covered = view != NULL && rag_fields_view_has_path(view, found.text);
  *out = found;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- has_id

static int compare_ordinals(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static rag_status plan_ids(planner *p, rag_kb__node *node) {
  const rag_kb__condition *c = node->condition;
  node->scan = p->source->find_id == NULL;
  if (node->scan) return RAG_OK;
  node->ordinals = rag_arena_calloc(p->arena, RAG_MAX(c->as.strings.count, 1u), sizeof *node->ordinals);
  if (node->ordinals == NULL) return no_memory(p);
  for (uint32_t i = 0; i < c->as.strings.count; i++) {
    bool found = false;
    uint32_t revision = 0;
    if (i % IDS_PER_LOOK == IDS_PER_LOOK - 1 && p->source->deadline_ns > 0 &&
        rag_clock_monotonic_ns() > p->source->deadline_ns)
      return rag_fail(p->err, RAG_DEADLINE_EXCEEDED, "the filter took longer than the deadline allows");
    RAG_TRY(p->source->find_id(p->source->context, c->as.strings.items[i], &found, &revision, p->err));
    if (found) node->ordinals[node->ordinal_count++] = revision;
  }
  if (node->ordinal_count > 1) qsort(node->ordinals, node->ordinal_count, sizeof *node->ordinals, compare_ordinals);
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- filters

static rag_status plan_filter(planner *p, const rag_filter *filter, rag_kb__node *out);

static rag_status add_children(planner *p, rag_kb__node *node, uint32_t count) {
  node->children = rag_arena_calloc(p->arena, RAG_MAX(count, 1u), sizeof *node->children);
  return node->children != NULL ? RAG_OK : no_memory(p);
}

// Whether the test is of single values: it holds of a path where it holds of any value there.
static bool of_values(const rag_kb__condition *c) {
  return c->kind <= RAG_KB__GEO_POLYGON;
}

static rag_status need_filter(planner *p, const rag_filter *filter, const rag_kb__path *prefix, rag_kb__node *out);

static rag_status join_paths(planner *p, const rag_kb__path *a, const rag_kb__path *b, rag_kb__path *out) {
  rag_kb__step *steps = rag_arena_calloc(p->arena, (size_t)a->count + b->count + 1, sizeof *steps);
  if (steps == NULL) return no_memory(p);
  if (a->count > 0) memcpy(steps, a->steps, a->count * sizeof *steps);
  if (b->count > 0) memcpy(steps + a->count, b->steps, b->count * sizeof *steps);
  *out = (rag_kb__path){.steps = steps, .count = a->count + b->count};
  return RAG_OK;
}

static rag_status plan_nested(planner *p, const rag_kb__condition *c, const rag_kb__path *prefix, rag_kb__node *out) {
  const rag_filter *inner = c->as.filter;
  rag_kb__path whole = {NULL, 0, {NULL, 0}};
  out->kind = RAG_KB__NODE_NESTED;
  out->condition = c;
  RAG_TRY(rag_kb__path_indexed(prefix, &c->path, p->source->fields, p->arena, &out->path, p->err));
  RAG_TRY(join_paths(p, prefix, &c->path, &whole));
  RAG_TRY(add_children(p, out, 1));
  out->child_count = 1;
  out->exact = inner->must.count == 1 && of_values(&inner->must.items[0]) && inner->must_not.count == 0 &&
               !inner->has_should && !inner->has_min_should;
  return need_filter(p, inner, &whole, &out->children[0]);
}

// What a condition needs at least of the elements of `prefix`.
static rag_status need_condition(planner *p, const rag_kb__condition *c, const rag_kb__path *prefix,
                                 rag_kb__node *out) {
  if (c->kind == RAG_KB__FILTER) return need_filter(p, c->as.filter, prefix, out);
  if (c->kind == RAG_KB__NESTED) return plan_nested(p, c, prefix, out);
  if (!of_values(c)) { // what holds of an element without the value may hold of any
    *out = (rag_kb__node){.kind = RAG_KB__NODE_LEAF, .condition = c, .scan = true};
    return RAG_OK;
  }
  *out = (rag_kb__node){.kind = RAG_KB__NODE_LEAF, .condition = c};
  RAG_TRY(rag_kb__path_indexed(prefix, &c->path, p->source->fields, p->arena, &out->path, p->err));
  out->scan = !out->path.covered;
  return RAG_OK;
}

static rag_status need_filter(planner *p, const rag_filter *filter, const rag_kb__path *prefix, rag_kb__node *out) {
  *out = (rag_kb__node){.kind = RAG_KB__NODE_ALL};
  RAG_TRY(add_children(p, out, filter->must.count + 1));
  for (uint32_t i = 0; i < filter->must.count; i++)
    RAG_TRY(need_condition(p, &filter->must.items[i], prefix, &out->children[out->child_count++]));
  if (!filter->has_should) return RAG_OK;
  rag_kb__node *any = &out->children[out->child_count++];
  *any = (rag_kb__node){.kind = RAG_KB__NODE_ANY};
  RAG_TRY(add_children(p, any, filter->should.count));
  for (uint32_t i = 0; i < filter->should.count; i++)
    RAG_TRY(need_condition(p, &filter->should.items[i], prefix, &any->children[any->child_count++]));
  return RAG_OK;
}

static rag_status plan_condition(planner *p, const rag_kb__condition *c, rag_kb__node *out) {
  static const rag_kb__path none = {NULL, 0, {NULL, 0}};
  if (c->kind == RAG_KB__FILTER) return plan_filter(p, c->as.filter, out);
  *out = (rag_kb__node){.kind = RAG_KB__NODE_LEAF, .condition = c};
  rag_status status = RAG_OK;
  if (c->kind == RAG_KB__NESTED) {
    status = plan_nested(p, c, &none, out);
  } else if (c->kind == RAG_KB__HAS_ID) {
    status = plan_ids(p, out);
  } else {
    status = rag_kb__path_indexed(&none, &c->path, p->source->fields, p->arena, &out->path, p->err);
    out->scan = !out->path.covered;
  }
  out->reported = true;
  return status;
}

static rag_status plan_conditions(planner *p, const rag_kb__conditions *conditions, rag_kb__node_kind kind,
                                  rag_kb__node *out) {
  *out = (rag_kb__node){.kind = kind};
  RAG_TRY(add_children(p, out, conditions->count));
  for (uint32_t i = 0; i < conditions->count; i++)
    RAG_TRY(plan_condition(p, &conditions->items[i], &out->children[out->child_count++]));
  return RAG_OK;
}

static rag_status plan_filter(planner *p, const rag_filter *filter, rag_kb__node *out) {
  *out = (rag_kb__node){.kind = RAG_KB__NODE_ALL};
  RAG_TRY(add_children(p, out, filter->must.count + 3));
  for (uint32_t i = 0; i < filter->must.count; i++)
    RAG_TRY(plan_condition(p, &filter->must.items[i], &out->children[out->child_count++]));
  if (filter->has_should)
    RAG_TRY(plan_conditions(p, &filter->should, RAG_KB__NODE_ANY, &out->children[out->child_count++]));
  if (filter->must_not.count > 0)
    RAG_TRY(plan_conditions(p, &filter->must_not, RAG_KB__NODE_NONE, &out->children[out->child_count++]));
  if (filter->has_min_should) {
    rag_kb__node *at_least = &out->children[out->child_count++];
    RAG_TRY(plan_conditions(p, &filter->min_should, RAG_KB__NODE_AT_LEAST, at_least));
    at_least->min_count = filter->min_count;
  }
  return RAG_OK;
}

// Sets in use while a node is evaluated (eval.c), those of its answer not counted.
static uint32_t sets_of(const rag_kb__node *node) {
  uint32_t most = 0;
  for (uint32_t i = 0; i < node->child_count; i++) {
    uint32_t needed = sets_of(&node->children[i]); // once: RAG_MAX evaluates what it is given twice
    most = RAG_MAX(most, needed);
  }
  if (node->kind == RAG_KB__NODE_LEAF || node->kind == RAG_KB__NODE_NESTED) return most;
  return most + 2 + (node->kind == RAG_KB__NODE_AT_LEAST ? 2 * rag_kb__count_bits(node) : 0);
}

rag_status rag_kb__plan_create(const rag_filter *filter, const rag_kb__filter_source *source, rag_arena *arena,
                               rag_kb__plan *out, rag_error *err) {
  planner p = {source, arena, err};
  RAG_TRY(plan_filter(&p, filter, &out->root));
  out->sets = sets_of(&out->root);
  return RAG_OK;
}
