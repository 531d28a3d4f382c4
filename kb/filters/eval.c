// A filter over all live revisions.
//
// Every node of the filter is answered with two sets: *certain*, which pass, and *possible*, which may; certain is a
// part of possible. Revisions that are possible and not certain at the root are fetched and matched one by one, so the
// answer is exact whatever the indexes leave open.
//
//   ALL    certain: and    possible: and        ANY       certain: or            possible: or
//   NONE   certain: not possible of any child   possible: not certain of any    AT_LEAST  counted, each for itself
//
// A test of values is true of a revision as soon as one value passes, so what an index finds is certain whatever else
// the revision has; what it does not find is impossible unless the revision is *open*: not in the index at all, or with
// values that were past a limit.
//
// Evaluation goes block by block of 65,536 revisions: all sets of one block stay in the second-level cache, and a block
// without live revisions costs nothing. `mask` is what is still of interest: answers are parts of it.
#include "kb/filters/plan_internal.h"

#include <math.h>

#define WORDS RAG_BITMAP_BLOCK_WORDS
#define SET_BYTES (WORDS * sizeof(uint64_t))
#define VERIFY_PER_LOOK 64u // documents between two looks at the clock
// Functions with sets on their stack stay out of those that call themselves, which keep theirs in `sets`.
#define NOINLINE __attribute__((noinline))

typedef struct evaluation {
  const rag_filter *filter;
  const rag_kb__filter_source *source;
  uint32_t block;
  uint64_t open[WORDS]; // live revisions of the block that the index does not know, or not whole
  uint64_t *sets;       // the plan's; a stack
  bool late;            // the deadline passed within a question
  uint64_t verified;
  rag_json_parser *parser;
} evaluation;

// ---------------------------------------------------------------------------------------------- sets

static void set_clear(uint64_t *set) {
  memset(set, 0, SET_BYTES);
}
static void set_and(uint64_t *set, const uint64_t *other) {
  for (size_t i = 0; i < WORDS; i++) set[i] &= other[i];
}
static void set_or(uint64_t *set, const uint64_t *other) {
  for (size_t i = 0; i < WORDS; i++) set[i] |= other[i];
}
static void set_andnot(uint64_t *set, const uint64_t *other) {
  for (size_t i = 0; i < WORDS; i++) set[i] &= ~other[i];
}
static void set_not(uint64_t *set, const uint64_t *mask) {
  for (size_t i = 0; i < WORDS; i++) set[i] = mask[i] & ~set[i];
}
static bool set_is_empty(const uint64_t *set) {
  uint64_t any = 0;
  for (size_t i = 0; i < WORDS; i++) any |= set[i];
  return any == 0;
}
static bool set_equal(const uint64_t *a, const uint64_t *b) {
  return memcmp(a, b, SET_BYTES) == 0;
}

// ---------------------------------------------------------------------------------------------- tests of values

static rag_fields_range range_of(const rag_kb__bounds *b) {
  return (rag_fields_range){.has_low = b->has_low,
                            .has_high = b->has_high,
                            .low_open = b->low_open,
                            .high_open = b->high_open,
                            .low = b->low,
                            .high = b->high,
                            .low_us = b->low_us,
                            .high_us = b->high_us};
}

static bool point_holds(const void *context, double lat, double lon) {
  return rag_kb__filter_point_holds(context, (rag_kb__point){lat, lon});
}

// Latitudes between which every place lies that can pass. Of a circle a little more, as distances are rounded.
static void latitudes_of(const rag_kb__condition *c, double *low, double *high) {
  if (c->kind == RAG_KB__GEO_BOX) {
    *low = c->as.box.bottom_right.lat;
    *high = c->as.box.top_left.lat;
  } else if (c->kind == RAG_KB__GEO_RADIUS) {
    double reach = c->as.circle.radius_m / RAG_KB__EARTH_RADIUS_M * (180.0 / 3.14159265358979323846);
    reach += reach * 1e-6 + 1e-4;
    *low = c->as.circle.center.lat - reach;
    *high = c->as.circle.center.lat + reach;
  } else {
    const rag_kb__ring *ring = &c->as.polygon.exterior;
    *low = *high = ring->points[0].lat;
    for (uint32_t i = 1; i < ring->count; i++) {
      *low = fmin(*low, ring->points[i].lat);
      *high = fmax(*high, ring->points[i].lat);
    }
  }
}

#define ALL_TYPES                                                                                                      \
  (RAG_KB__MARK_TRUE | RAG_KB__MARK_FALSE | RAG_KB__MARK_STRING | RAG_KB__MARK_INT | RAG_KB__MARK_DOUBLE |             \
   RAG_KB__MARK_OBJECT | RAG_KB__MARK_NESTED)

// Adds the revisions of which the index knows a value at the path that passes.
static void ask_values(evaluation *e, const rag_kb__condition *c, rag_slice path, uint64_t *out) {
  const rag_fields_view *view = e->source->fields;
  rag_fields_range range;
  double low, high;
  switch (c->kind) {
  case RAG_KB__MATCH_STRINGS:
    rag_fields_block_strings(view, e->block, path, c->as.strings.items, c->as.strings.count, false, out);
    break;
  case RAG_KB__MATCH_INTS:
    rag_fields_block_ints(view, e->block, path, c->as.ints.items, c->as.ints.count, false, out);
    break;
  case RAG_KB__MATCH_BOOL:
    rag_fields_block_marked(view, e->block, path, c->as.flag ? RAG_KB__MARK_TRUE : RAG_KB__MARK_FALSE, out);
    break;
  case RAG_KB__EXCEPT_STRINGS:
    rag_fields_block_strings(view, e->block, path, c->as.strings.items, c->as.strings.count, true, out);
    rag_fields_block_marked(view, e->block, path, ALL_TYPES & ~(uint32_t)RAG_KB__MARK_STRING, out);
    break;
  case RAG_KB__EXCEPT_INTS:
    rag_fields_block_ints(view, e->block, path, c->as.ints.items, c->as.ints.count, true, out);
    rag_fields_block_marked(view, e->block, path, ALL_TYPES & ~(uint32_t)RAG_KB__MARK_INT, out);
    break;
  case RAG_KB__MATCH_TEXT:
    e->late |= !rag_fields_block_containing(view, e->block, path, &c->as.text, 1, e->source->deadline_ns, out);
    break;
  case RAG_KB__MATCH_TEXT_ANY:
    e->late |= !rag_fields_block_containing(view, e->block, path, c->as.strings.items, c->as.strings.count,
                                            e->source->deadline_ns, out);
    break;
  case RAG_KB__MATCH_PREFIX:
    rag_fields_block_prefix(view, e->block, path, c->as.text, out);
    break;
  case RAG_KB__RANGE_NUMBER:
    range = range_of(&c->as.bounds);
    rag_fields_block_numbers(view, e->block, path, &range, out);
    break;
  case RAG_KB__RANGE_TIME:
    range = range_of(&c->as.bounds);
    rag_fields_block_times(view, e->block, path, &range, out);
    break;
  default:
    latitudes_of(c, &low, &high);
    rag_fields_block_points(view, e->block, path, low, high, point_holds, c, out);
  }
}

// Whether strings that are not in the dictionary can pass.
static bool of_strings(const rag_kb__condition *c) {
  return c->kind == RAG_KB__MATCH_STRINGS || c->kind == RAG_KB__EXCEPT_STRINGS || c->kind == RAG_KB__MATCH_TEXT ||
         c->kind == RAG_KB__MATCH_TEXT_ANY || c->kind == RAG_KB__MATCH_PREFIX;
}

static void add_marked(const evaluation *e, rag_slice path, uint32_t marks, uint64_t *set) {
  rag_fields_block_marked(e->source->fields, e->block, path, marks, set);
}

static void answer_values(evaluation *e, const rag_kb__node *node, uint64_t *certain, uint64_t *possible) {
  const rag_kb__indexed_path *path = &node->path;
  uint64_t marked[WORDS];
  set_clear(certain);
  set_clear(possible);
  if (path->doubled) { // arrays within arrays are not opened
    add_marked(e, path->text, RAG_KB__MARK_NESTED, possible);
    set_or(possible, e->open);
    return;
  }
  ask_values(e, node->condition, path->text, certain);
  if (path->trailing) { // of what stands at the path, elements of arrays alone
    set_clear(marked);
    add_marked(e, path->text, RAG_KB__MARK_ARRAY, marked);
    set_and(certain, marked);
    memcpy(possible, certain, SET_BYTES);
    set_clear(marked);
    add_marked(e, path->text, RAG_KB__MARK_DIRECT | RAG_KB__MARK_NESTED, marked);
    set_andnot(certain, marked);
    add_marked(e, path->text, RAG_KB__MARK_NESTED, possible); // opened by the path's last step
  } else {
    memcpy(possible, certain, SET_BYTES);
  }
  if (path->numbered) set_clear(certain);
  if (of_strings(node->condition)) add_marked(e, path->text, RAG_FIELDS_MARK_OPAQUE, possible);
  set_or(possible, e->open);
}

// ---------------------------------------------------------------------------------------------- tests of presence

// Revisions that have any of the marks at the path, where `certain` is what must hold of the values themselves.
static void answer_marks(evaluation *e, const rag_kb__indexed_path *path, uint32_t marks, uint64_t *certain,
                         uint64_t *possible) {
  set_clear(certain);
  memcpy(possible, e->open, SET_BYTES);
  if (path->doubled) {
    add_marked(e, path->text, RAG_KB__MARK_NESTED, possible);
  } else if (path->trailing) { // elements have no marks of their own
    add_marked(e, path->text, RAG_KB__MARK_ARRAY, possible);
  } else {
    add_marked(e, path->text, marks, certain);
    set_or(possible, certain);
    if (path->numbered) set_clear(certain);
  }
}

static void complement(uint64_t *certain, uint64_t *possible, const uint64_t *mask) {
  set_not(certain, mask);
  set_not(possible, mask);
  for (size_t i = 0; i < WORDS; i++) {
    uint64_t swapped = certain[i];
    certain[i] = possible[i];
    possible[i] = swapped;
  }
}

static void answer_presence(evaluation *e, const rag_kb__node *node, const uint64_t *mask, uint64_t *certain,
                            uint64_t *possible) {
  const rag_kb__condition *c = node->condition;
  uint32_t null = RAG_KB__MARK_NULL | (c->as.elements ? RAG_KB__MARK_NULL_ELEMENT : 0u);
  bool negated = c->kind == RAG_KB__IS_EMPTY ? c->expected : !c->expected;
  answer_marks(e, &node->path, c->kind == RAG_KB__IS_EMPTY ? RAG_KB__MARK_FILLED : null, certain, possible);
  set_and(certain, mask);
  set_and(possible, mask);
  if (negated) complement(certain, possible, mask);
}

// A value that is no array counts 1, null counts 0, as does a key that is not there; arrays are counted by verifying.
static void answer_count(evaluation *e, const rag_kb__node *node, const uint64_t *mask, uint64_t *certain,
                         uint64_t *possible) {
  const rag_kb__indexed_path *path = &node->path;
  bool of_none = rag_kb__filter_in_bounds(&node->condition->as.bounds, 0);
  bool of_one = rag_kb__filter_in_bounds(&node->condition->as.bounds, 1);
  bool plain = !path->doubled && !path->trailing && !path->numbered;
  uint64_t arrays[WORDS], absent[WORDS];
  set_clear(certain);
  set_clear(arrays);
  add_marked(e, path->text, path->doubled ? RAG_KB__MARK_NESTED : RAG_KB__MARK_ARRAY, arrays);
  if (path->numbered) add_marked(e, path->text, RAG_KB__MARK_DIRECT, arrays); // which of them is not known
  memcpy(absent, arrays, SET_BYTES);
  set_or(absent, e->open);
  memcpy(possible, absent, SET_BYTES);
  if (plain) {
    if (of_one) add_marked(e, path->text, RAG_KB__MARK_FILLED, certain);
    set_andnot(certain, arrays);
    uint64_t nulls[WORDS];
    set_clear(nulls);
    if (of_none) add_marked(e, path->text, RAG_KB__MARK_NULL, nulls);
    set_or(certain, nulls); // null counts 0 whatever else is there
    add_marked(e, path->text, RAG_KB__MARK_DIRECT, absent);
  }
  set_not(absent, mask);
  if (of_none) set_or(certain, absent);
  set_or(possible, certain);
}

// ---------------------------------------------------------------------------------------------- nodes

static void evaluate(evaluation *e, rag_kb__node *node, const uint64_t *mask, uint64_t *certain, uint64_t *possible);

static void answer_ids(const evaluation *e, const rag_kb__node *node, uint64_t *certain) {
  uint32_t low = 0, high = node->ordinal_count;
  set_clear(certain);
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (node->ordinals[middle] / RAG_BITMAP_BLOCK_BITS < e->block) low = middle + 1;
    else high = middle;
  }
  for (; low < node->ordinal_count && node->ordinals[low] / RAG_BITMAP_BLOCK_BITS == e->block; low++) {
    uint32_t bit = node->ordinals[low] % RAG_BITMAP_BLOCK_BITS;
    certain[bit / 64] |= UINT64_C(1) << (bit % 64);
  }
}

NOINLINE static void answer_leaf(evaluation *e, rag_kb__node *node, const uint64_t *mask, uint64_t *certain,
                                 uint64_t *possible) {
  rag_kb__condition_kind kind = node->condition->kind;
  if (node->scan) {
    set_clear(certain);
    memcpy(possible, mask, SET_BYTES);
    return;
  }
  if (kind == RAG_KB__HAS_ID) {
    answer_ids(e, node, certain);
    memcpy(possible, certain, SET_BYTES);
  } else if (kind == RAG_KB__IS_EMPTY || kind == RAG_KB__IS_NULL) {
    answer_presence(e, node, mask, certain, possible);
  } else if (kind == RAG_KB__VALUES_COUNT) {
    answer_count(e, node, mask, certain, possible);
  } else {
    answer_values(e, node, certain, possible);
  }
  set_and(certain, mask);
  set_and(possible, mask);
}

// Only revisions with objects in the array can pass.
NOINLINE static void keep_objects(evaluation *e, const rag_kb__indexed_path *path, uint64_t *possible) {
  uint64_t objects[WORDS], arrays[WORDS];
  set_clear(objects);
  add_marked(e, path->text, path->doubled ? RAG_KB__MARK_NESTED : RAG_KB__MARK_OBJECT, objects);
  if (!path->doubled) {
    set_clear(arrays);
    add_marked(e, path->text, RAG_KB__MARK_ARRAY, arrays);
    set_and(objects, arrays);
  }
  set_or(objects, e->open);
  set_and(possible, objects);
}

// Counters of one bit for each revision in each of `bits` sets: counts those of `set` in.
static void count_in(uint64_t *counters, uint32_t bits, const uint64_t *set) {
  for (size_t i = 0; i < WORDS; i++) {
    uint64_t carry = set[i];
    for (uint32_t b = 0; b < bits && carry; b++) {
      uint64_t *word = &counters[(size_t)b * WORDS + i], both = *word & carry;
      *word ^= carry;
      carry = both;
    }
  }
}

static void at_least(const uint64_t *counters, uint32_t bits, uint32_t count, uint64_t *out) {
  for (size_t i = 0; i < WORDS; i++) {
    uint64_t more = 0, equal = UINT64_MAX;
    for (uint32_t b = bits; b-- > 0;) {
      uint64_t word = counters[(size_t)b * WORDS + i];
      if (count >> b & 1) {
        equal &= word;
      } else {
        more |= equal & word;
        equal &= ~word;
      }
    }
    out[i] = more | equal;
  }
}

static void evaluate_at_least(evaluation *e, rag_kb__node *node, const uint64_t *mask, uint64_t *certain,
                              uint64_t *possible) {
  uint32_t bits = rag_kb__count_bits(node);
  uint64_t *child_certain = e->sets, *child_possible = child_certain + WORDS, *counters = child_possible + WORDS;
  uint64_t *more_counters = counters + (size_t)bits * WORDS, *before = e->sets;
  e->sets = more_counters + (size_t)bits * WORDS;
  memset(counters, 0, 2 * bits * SET_BYTES);
  for (uint32_t i = 0; i < node->child_count; i++) {
    evaluate(e, &node->children[i], mask, child_certain, child_possible);
    count_in(counters, bits, child_certain);
    count_in(more_counters, bits, child_possible);
  }
  at_least(counters, bits, node->min_count, certain);
  at_least(more_counters, bits, node->min_count, possible);
  e->sets = before;
}

// ALL, ANY, NONE.
static void evaluate_children(evaluation *e, rag_kb__node *node, const uint64_t *mask, uint64_t *certain,
                              uint64_t *possible) {
  bool all = node->kind == RAG_KB__NODE_ALL;
  uint64_t *child_certain = e->sets, *child_possible = child_certain + WORDS;
  e->sets += 2 * (size_t)WORDS;
  if (all) memcpy(certain, mask, SET_BYTES);
  else set_clear(certain);
  memcpy(possible, certain, SET_BYTES);
  for (uint32_t i = 0; i < node->child_count; i++) {
    if (all && set_is_empty(possible)) break;
    evaluate(e, &node->children[i], all ? possible : mask, child_certain, child_possible);
    if (all) {
      set_and(certain, child_certain);
      set_and(possible, child_possible);
    } else {
      set_or(certain, child_certain);
      set_or(possible, child_possible);
    }
  }
  if (node->kind == RAG_KB__NODE_NONE) complement(certain, possible, mask);
  e->sets -= 2 * (size_t)WORDS;
}

static void evaluate(evaluation *e, rag_kb__node *node, const uint64_t *mask, uint64_t *certain, uint64_t *possible) {
  switch (node->kind) {
  case RAG_KB__NODE_LEAF:
    answer_leaf(e, node, mask, certain, possible);
    break;
  case RAG_KB__NODE_NESTED:
    evaluate(e, &node->children[0], mask, certain, possible);
    if (node->path.covered) keep_objects(e, &node->path, possible);
    if (!node->exact) set_clear(certain);
    break;
  case RAG_KB__NODE_AT_LEAST:
    evaluate_at_least(e, node, mask, certain, possible);
    set_and(certain, mask);
    set_and(possible, mask);
    break;
  default:
    evaluate_children(e, node, mask, certain, possible);
  }
  if (node->reported && !node->undecided) node->undecided = !set_equal(certain, possible);
}

// ---------------------------------------------------------------------------------------------- blocks

static rag_status check_deadline(const evaluation *e, rag_error *err) {
  if (!e->late && (e->source->deadline_ns == 0 || rag_clock_monotonic_ns() <= e->source->deadline_ns)) return RAG_OK;
  return rag_fail(err, RAG_DEADLINE_EXCEEDED, "the filter took longer than the deadline allows");
}

static rag_status verify(evaluation *e, uint32_t revision, bool *out, rag_error *err) {
  rag_slice id, metadata;
  if (e->verified++ % VERIFY_PER_LOOK == 0) RAG_TRY(check_deadline(e, err));
  RAG_TRY(e->source->get_document(e->source->context, revision, &id, &metadata, err));
  return rag_filter_match(e->filter, id, metadata, e->parser, out, err);
}

// What is possible and not certain is verified; certain becomes the answer.
static rag_status verify_block(evaluation *e, uint64_t *certain, const uint64_t *possible, rag_error *err) {
  for (uint32_t w = 0; w < WORDS; w++) {
    for (uint64_t bits = possible[w] & ~certain[w]; bits; bits &= bits - 1) {
      uint32_t bit = (uint32_t)__builtin_ctzll(bits);
      bool pass = false;
      RAG_TRY(verify(e, e->block * RAG_BITMAP_BLOCK_BITS + w * 64 + bit, &pass, err));
      certain[w] |= (uint64_t)pass << bit;
    }
  }
  return RAG_OK;
}

static void find_open(evaluation *e, const uint64_t *live) {
  const rag_fields_view *view = e->source->fields;
  set_clear(e->open);
  if (view != NULL) rag_fields_block_present(view, e->block, e->open);
  set_not(e->open, live);
  if (view != NULL) rag_fields_block_opaque(view, e->block, e->open);
}

static rag_status evaluate_blocks(evaluation *e, rag_kb__plan *plan, rag_bitmap_edit *edit, rag_error *err) {
  uint64_t certain[WORDS], possible[WORDS];
  for (e->block = 0; e->block < rag_bitmap_block_count(e->source->live); e->block++) {
    const uint64_t *live = rag_bitmap_block(e->source->live, e->block, NULL);
    if (live == NULL) continue;
    RAG_TRY(check_deadline(e, err));
    find_open(e, live);
    evaluate(e, &plan->root, live, certain, possible);
    if (e->late) return check_deadline(e, err);
    RAG_TRY(verify_block(e, certain, possible, err));
    if (!set_is_empty(certain) && rag_bitmap_edit_put_block(edit, e->block, certain) != RAG_OK)
      return rag_fail_no_memory(err, SET_BYTES);
  }
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- the report

static void report_node(const rag_kb__node *node, rag_kb__filter_report *report) {
  if (!node->reported) {
    for (uint32_t i = 0; i < node->child_count; i++) report_node(&node->children[i], report);
    return;
  }
  bool scan = node->scan || (node->kind == RAG_KB__NODE_NESTED && !node->path.covered);
  rag_kb__filter_answer answer = scan              ? RAG_KB__ANSWER_SCAN
                                 : node->undecided ? RAG_KB__ANSWER_VERIFIED
                                                   : RAG_KB__ANSWER_INDEXED;
  report->conditions++;
  report->scans += answer == RAG_KB__ANSWER_SCAN;
  report->verified_some += answer == RAG_KB__ANSWER_VERIFIED;
  report->indexed += answer == RAG_KB__ANSWER_INDEXED;
  if (report->path_count == RAG_KB__FILTER_PATHS_MAX) return;
  bool ids = node->condition->kind == RAG_KB__HAS_ID;
  report->paths[report->path_count++] =
      (rag_kb__filter_path_report){ids ? rag_slice_str("has_id") : node->condition->path.text, answer};
}

static void fill_report(const evaluation *e, const rag_kb__plan *plan, uint64_t survivors, uint64_t started_ns,
                        rag_kb__filter_report *report) {
  memset(report, 0, sizeof *report);
  report->live = rag_bitmap_count(e->source->live);
  report->survivors = survivors;
  report->verified = e->verified;
  report_node(&plan->root, report);
  report->took_ns = rag_clock_monotonic_ns() - started_ns;
}

rag_status rag_kb__filter_eval(const rag_filter *filter, const rag_kb__filter_source *source, rag_bitmap **out,
                               rag_kb__filter_report *report, rag_error *err) {
  rag_status status = RAG_OK;
  uint64_t started_ns = rag_clock_monotonic_ns();
  evaluation e = {.filter = filter, .source = source};
  rag_kb__plan plan;
  rag_bitmap *survivors = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  rag_arena *arena = rag_arena_create(0);
  uint64_t *sets = NULL;
  e.parser = rag_json_parser_acquire();
  if (edit == NULL || arena == NULL || e.parser == NULL) {
    status = rag_fail_no_memory(err, 0);
    goto out;
  }
  RAG_TRY_OUT(rag_kb__plan_create(filter, source, arena, &plan, err));
  e.sets = sets = rag_alloc(RAG_MAX(plan.sets, 1u) * SET_BYTES);
  if (sets == NULL) {
    status = rag_fail_no_memory(err, plan.sets * SET_BYTES);
    goto out;
  }
  RAG_TRY_OUT(evaluate_blocks(&e, &plan, edit, err));
  status = rag_bitmap_edit_finish(edit, &survivors);
  edit = NULL;
  if (status != RAG_OK) goto out;
  if (report != NULL) fill_report(&e, &plan, rag_bitmap_count(survivors), started_ns, report);
  *out = survivors;
out:
  rag_bitmap_edit_destroy(edit);
  if (e.parser != NULL) rag_json_parser_release(e.parser);
  rag_arena_destroy(arena);
  rag_free(sets);
  return status;
}
