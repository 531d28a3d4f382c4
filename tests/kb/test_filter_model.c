// Goal: parsing and matching agree with the semantics as written, on filters and metadata that nobody chose.
// Method: a second implementation, over trees of its own and without a parsing step: it reads the filter's tree each
// time, splits keys as text, collects all values of a key into a list, compares times as spelled-out numbers, measures
// distance with vectors and tells inside from outside by the winding angle. Random filters and metadata from a small
// vocabulary, so that most tests have something to bite on, are printed as JSON and given to both. RAGD_TEST_SEED and
// RAGD_TEST_ROUNDS choose others.
#include "filter_test.h"

#include <math.h>

// ---------------------------------------------------------------------------------------------- trees

typedef enum kind { NIL, FLAG, WHOLE, FRACTION, TEXT, LIST, MAP } kind;
typedef struct tree {
  kind kind;
  int64_t whole; // also FLAG
  double fraction;
  const char *text;
  const char *names[8]; // MAP
  struct tree *kids[8];
  int count;
} tree;

static tree pool[20000];
static int pool_used;
static uint64_t seed;

static uint32_t draw(uint32_t below) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 33) % below);
}

static tree *make(kind k) {
  assert_true(pool_used < (int)RAG_COUNT_OF(pool));
  pool[pool_used] = (tree){.kind = k};
  return &pool[pool_used++];
}
static tree *make_text(const char *text) {
  tree *t = make(TEXT);
  t->text = text;
  return t;
}
static tree *make_whole(int64_t v) {
  tree *t = make(WHOLE);
  t->whole = v;
  return t;
}
static tree *make_flag(bool v) {
  tree *t = make(FLAG);
  t->whole = v;
  return t;
}
static tree *make_fraction(double v) {
  tree *t = make(FRACTION);
  t->fraction = v;
  return t;
}
static void add(tree *to, const char *name, tree *kid) {
  assert_true(to->count < 8);
  to->names[to->count] = name;
  to->kids[to->count++] = kid;
}
static const tree *get(const tree *map, const char *name) {
  if (map->kind != MAP) return NULL;
  for (int i = 0; i < map->count; i++)
    if (strcmp(map->names[i], name) == 0) return map->kids[i];
  return NULL;
}

static void print(const tree *t, rag_buf *out) {
  switch (t->kind) {
  case NIL:
    rag_buf_append_str(out, "null");
    break;
  case FLAG:
    rag_buf_append_str(out, t->whole ? "true" : "false");
    break;
  case WHOLE:
    rag_buf_printf(out, "%lld", (long long)t->whole);
    break;
  case FRACTION:
    rag_json_put_double(out, t->fraction);
    break;
  case TEXT:
    rag_json_put_string(out, rag_slice_str(t->text));
    break;
  case LIST:
  case MAP:
    rag_buf_append_char(out, t->kind == LIST ? '[' : '{');
    for (int i = 0; i < t->count; i++) {
      if (i > 0) rag_buf_append_str(out, draw(2) ? ", " : ",");
      if (t->kind == MAP) {
        rag_json_put_string(out, rag_slice_str(t->names[i]));
        rag_buf_append_char(out, ':');
      }
      print(t->kids[i], out);
    }
    rag_buf_append_char(out, t->kind == LIST ? ']' : '}');
  }
}

// ---------------------------------------------------------------------------------------------- what a filter means

typedef struct values {
  const tree *items[4096];
  int count;
} values;

static void resolve(const char *key, const tree *at, values *out) {
  char name[64];
  size_t size = 0;
  if (*key == '\0') {
    assert_true(out->count < (int)RAG_COUNT_OF(out->items));
    out->items[out->count++] = at;
  } else if (strncmp(key, "[]", 2) == 0) {
    if (at->kind == LIST)
      for (int i = 0; i < at->count; i++) resolve(key + 2, at->kids[i], out);
  } else if (*key == '[') {
    char *end;
    long index = strtol(key + 1, &end, 10);
    if (at->kind == LIST && index < at->count) resolve(end + 1, at->kids[index], out);
  } else if (*key == '.') {
    resolve(key + 1, at, out);
  } else {
    bool quoted = *key == '"';
    key += quoted;
    while (*key != '\0' && (quoted ? *key != '"' : *key != '.' && *key != '[')) name[size++] = *key++;
    name[size] = '\0';
    const tree *member = get(at, name);
    if (member != NULL) resolve(key + quoted, member, out);
  }
}

// Times as numbers YYYYMMDDhhmmss.ffffff; all texts of the vocabulary, with what they mean in UTC.
static const struct {
  const char *text;
  double moment;
} moments[] = {
    {"2024-01-01", 20240101000000.0},
    {"2024-01-01T10:00:00Z", 20240101100000.0},
    {"2024-01-01 12:00+0200", 20240101100000.0},
    {"2024-01-01T10:00", 20240101100000.0},
    {"2023-12-31T23:30:00-01:00", 20240101003000.0},
    {"2024-01-01T10:00:00.5", 20240101100000.5},
    {"1969-12-31 23:59:59", 19691231235959.0},
};
static bool moment_of(const tree *t, double *out) {
  for (size_t i = 0; t->kind == TEXT && i < RAG_COUNT_OF(moments); i++)
    if (strcmp(t->text, moments[i].text) == 0) return *out = moments[i].moment, true;
  return false;
}

static bool number_of(const tree *t, double *out) {
  if (t == NULL || (t->kind != WHOLE && t->kind != FRACTION)) return false;
  *out = t->kind == WHOLE ? (double)t->whole : t->fraction;
  return true;
}

static bool between(const tree *range, double v) {
  for (int i = 0; i < range->count; i++) {
    double end = 0;
    if (range->kids[i]->kind == NIL) continue;
    if (!moment_of(range->kids[i], &end)) assert_true(number_of(range->kids[i], &end));
    const char *name = range->names[i];
    bool good = strcmp(name, "gt") == 0    ? v > end
                : strcmp(name, "gte") == 0 ? v >= end
                : strcmp(name, "lt") == 0  ? v < end
                                           : v <= end;
    if (!good) return false;
  }
  return true;
}

static bool same(const tree *a, const tree *b) {
  return a->kind == b->kind && (a->kind == TEXT ? strcmp(a->text, b->text) == 0 : a->whole == b->whole);
}

static bool among(const tree *list, const tree *v) {
  bool found = false;
  for (int i = 0; i < list->count; i++) found |= same(list->kids[i], v);
  return found;
}

static bool any_word_in(const char *words, const char *text) {
  char copy[64], *rest = copy;
  snprintf(copy, sizeof copy, "%s", words);
  for (char *word; (word = strsep(&rest, " ")) != NULL;)
    if (*word != '\0' && strstr(text, word) != NULL) return true;
  return false;
}

static bool place_of(const tree *t, double *lat, double *lon) {
  return t->kind == MAP && number_of(get(t, "lat"), lat) && number_of(get(t, "lon"), lon);
}

static double metres(double lat, double lon, double lat_2, double lon_2) {
  double r = acos(-1) / 180, a = lat * r, b = lon * r, c = lat_2 * r, d = lon_2 * r;
  double u[3] = {cos(a) * cos(b), cos(a) * sin(b), sin(a)}, v[3] = {cos(c) * cos(d), cos(c) * sin(d), sin(c)};
  double cross[3] = {u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
  double dot = u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
  return 6371008.8 * atan2(sqrt(cross[0] * cross[0] + cross[1] * cross[1] + cross[2] * cross[2]), dot);
}

static bool winds_around(const tree *ring, double lat, double lon) {
  const tree *points = get(ring, "points");
  double turned = 0, a = 0, b = 0;
  for (int i = 0; i < points->count; i++) {
    assert_true(place_of(points->kids[i], &a, &b));
    double angle = atan2(a - lat, b - lon), before = 0;
    if (i > 0) {
      assert_true(place_of(points->kids[i - 1], &a, &b));
      before = atan2(a - lat, b - lon);
      turned += remainder(angle - before, 2 * acos(-1));
    }
  }
  return fabs(turned) > 3;
}

static bool test_holds(const char *name, const tree *test, const tree *v) {
  double a = 0, b = 0, c = 0, d = 0;
  if (strcmp(name, "match") == 0) {
    const char *how = test->names[0];
    const tree *what = test->kids[0];
    if (strcmp(how, "value") == 0) return same(what, v);
    if (strcmp(how, "any") == 0) return among(what, v);
    if (strcmp(how, "except") == 0) return v->kind != NIL && !among(what, v);
    if (v->kind != TEXT) return false;
    if (strcmp(how, "text_any") == 0) return any_word_in(what->text, v->text);
    if (strcmp(how, "prefix") == 0) return strstr(v->text, what->text) == v->text;
    return strstr(v->text, what->text) != NULL;
  }
  if (strcmp(name, "range") == 0) {
    bool times = false;
    for (int i = 0; i < test->count; i++) times |= test->kids[i]->kind == TEXT;
    return (times ? moment_of(v, &a) : number_of(v, &a)) && between(test, a);
  }
  if (!place_of(v, &a, &b)) return false;
  if (strcmp(name, "geo_radius") == 0) {
    double radius = 0;
    assert_true(place_of(get(test, "center"), &c, &d) && number_of(get(test, "radius"), &radius));
    return metres(a, b, c, d) <= radius;
  }
  if (strcmp(name, "geo_bounding_box") == 0) {
    double east = 0, south = 0;
    assert_true(place_of(get(test, "top_left"), &c, &d) && place_of(get(test, "bottom_right"), &south, &east));
    if (east < d) east += 360, b += b < d ? 360 : 0; // walk east from the western edge
    return a <= c && a >= south && b >= d && b <= east;
  }
  bool inside = winds_around(get(test, "exterior"), a, b);
  const tree *holes = get(test, "interiors");
  for (int i = 0; holes != NULL && i < holes->count; i++) inside &= !winds_around(holes->kids[i], a, b);
  return inside;
}

static bool is_nothing(const tree *v) {
  return v->kind == NIL || (v->kind == LIST && v->count == 0);
}

static bool filter_holds(const tree *filter, const tree *metadata, const char *id);

static bool condition_holds(const tree *c, const tree *metadata, const char *id) {
  values v = {.count = 0};
  const char *name = c->count > 0 ? c->names[0] : "";
  const tree *key = get(c, "key");
  if (key == NULL && strcmp(name, "has_id") == 0) {
    for (int i = 0; i < c->kids[0]->count; i++) {
      char text[32];
      const tree *one = c->kids[0]->kids[i];
      snprintf(text, sizeof text, "%lld", (long long)one->whole);
      if (strcmp(one->kind == TEXT ? one->text : text, id) == 0) return true;
    }
    return false;
  }
  if (key == NULL && strcmp(name, "nested") == 0) {
    char path[64];
    const char *given = get(c->kids[0], "key")->text;
    size_t size = strlen(given);
    bool each = size > 2 && strcmp(given + size - 2, "[]") == 0;
    snprintf(path, sizeof path, "%s%s", given, each ? "" : "[]");
    resolve(path, metadata, &v);
    for (int i = 0; i < v.count; i++)
      if (v.items[i]->kind == MAP && filter_holds(get(c->kids[0], "filter"), v.items[i], id)) return true;
    return false;
  }
  bool alone = key == NULL && (strcmp(name, "is_empty") == 0 || strcmp(name, "is_null") == 0);
  if (key == NULL && !alone) return filter_holds(c, metadata, id);
  if (alone) key = get(c->kids[0], "key");
  int which = alone || strcmp(c->names[0], "key") != 0 ? 0 : 1;
  const tree *test = c->kids[which];
  name = c->names[which];
  resolve(key->text, metadata, &v);
  bool holds = false;
  if (strcmp(name, "is_empty") == 0) {
    for (int i = 0; i < v.count; i++) holds |= !is_nothing(v.items[i]);
    return alone || test->whole ? !holds : holds;
  }
  if (strcmp(name, "is_null") == 0) {
    for (int i = 0; i < v.count; i++) {
      holds |= v.items[i]->kind == NIL;
      for (int j = 0; !alone && v.items[i]->kind == LIST && j < v.items[i]->count; j++)
        holds |= v.items[i]->kids[j]->kind == NIL;
    }
    return alone || test->whole ? holds : !holds;
  }
  if (strcmp(name, "values_count") == 0) {
    if (v.count == 0) return between(test, 0);
    for (int i = 0; i < v.count; i++)
      holds |= between(test, v.items[i]->kind == LIST ? v.items[i]->count : v.items[i]->kind != NIL);
    return holds;
  }
  for (int i = 0; i < v.count; i++) {
    if (v.items[i]->kind != LIST) holds |= test_holds(name, test, v.items[i]);
    else
      for (int j = 0; j < v.items[i]->count; j++) holds |= test_holds(name, test, v.items[i]->kids[j]);
  }
  return holds;
}

static int count_holding(const tree *part, const tree *metadata, const char *id) {
  int count = 0;
  if (part->kind == MAP) return condition_holds(part, metadata, id);
  for (int i = 0; i < part->count; i++) count += condition_holds(part->kids[i], metadata, id);
  return count;
}

static bool filter_holds(const tree *filter, const tree *metadata, const char *id) {
  bool good = true;
  for (int i = 0; i < filter->count; i++) {
    const tree *part = filter->kids[i];
    const char *name = filter->names[i];
    if (part->kind == NIL) continue;
    if (strcmp(name, "min_should") == 0) {
      good &= count_holding(get(part, "conditions"), metadata, id) >= get(part, "min_count")->whole;
      continue;
    }
    int holding = count_holding(part, metadata, id), all = part->kind == MAP ? 1 : part->count;
    good &= strcmp(name, "must") == 0 ? holding == all : strcmp(name, "should") == 0 ? holding > 0 : holding == 0;
  }
  return good;
}

// ---------------------------------------------------------------------------------------------- drawing

#define PICK(list) (list)[draw((uint32_t)RAG_COUNT_OF(list))]
static const char *const names[] = {"a", "b", "c", "\xC3\xBC", "x.y"};
static const char *const keys[] = {"a",     "b",       "c",      "\xC3\xBC",    "\"x.y\"",      "a.b",
                                   "a.b.c", "a[]",     "a[].b",  "a[0]",        "a[1].b",       "b.\"x.y\"",
                                   "a[][]", "b[].c[]", "c[0][]", "\"a\".\"b\"", "\"x.y\"[1].a", "missing"};
static const char *const texts[] = {"", "red", "red wine", "wine", "Red", "\xC3\xBC-ber", "w", "1", "doc"};
static const double coordinates[] = {-25.25, -4.75, 0.25, 1.25, 3.25, 4.75, 25.25}; // never on an edge below

static tree *draw_place(void) {
  tree *t = make(MAP);
  add(t, "lat", make_fraction(PICK(coordinates)));
  add(t, "lon", make_fraction(draw(4) ? PICK(coordinates) : draw(2) ? 179.75 : -179.75));
  return t;
}

static const char *draw_text(void) {
  return draw(3) ? PICK(texts) : moments[draw(RAG_COUNT_OF(moments))].text;
}

static tree *draw_value(unsigned depth) {
  switch (draw(depth > 0 ? 14 : 8)) {
  case 0:
    return make(NIL);
  case 1:
    return make_flag(draw(2));
  case 2:
  case 3:
    return make_whole((int64_t)draw(6) - 2);
  case 4:
    return make_fraction(((double)draw(9) - 4) / 2);
  case 5:
    return draw_place();
  case 6:
  case 7:
    return make_text(draw_text());
  case 8:
  case 9:
  case 10: {
    tree *t = make(LIST);
    for (uint32_t n = draw(4); n > 0; n--) add(t, NULL, draw_value(depth - 1));
    return t;
  }
  default: {
    tree *t = make(MAP);
    for (size_t i = 0; i < RAG_COUNT_OF(names); i++)
      if (draw(2)) add(t, names[i], draw_value(depth - 1));
    return t;
  }
  }
}

static tree *draw_range(bool times) {
  tree *t = make(MAP);
  uint32_t low = draw(4), high = draw(4);
  if (low < 2 || high >= 2)
    add(t, low % 2 ? "gt" : "gte",
        times ? make_text(moments[draw(RAG_COUNT_OF(moments))].text) : make_fraction(((double)draw(9) - 5) / 2));
  if (high < 2)
    add(t, high ? "lt" : "lte",
        times ? make_text(moments[draw(RAG_COUNT_OF(moments))].text) : make_whole((int64_t)draw(6) - 1));
  else if (draw(2)) add(t, "lt", make(NIL));
  return t;
}

static tree *draw_match(void) {
  static const char *const ways[] = {"text", "text_any", "phrase", "prefix"};
  tree *t = make(MAP), *list = make(LIST);
  uint32_t way = draw(8);
  if (way < 2) {
    uint32_t type = draw(3);
    add(t, "value",
        type == 0   ? make_text(draw_text())
        : type == 1 ? make_whole((int64_t)draw(6) - 2)
                    : make_flag(draw(2)));
  } else if (way < 5) {
    bool text = draw(2);
    for (uint32_t n = draw(5); n > 0; n--)
      add(list, NULL, text ? make_text(draw_text()) : make_whole((int64_t)draw(6) - 2));
    add(t, draw(2) ? "any" : "except", list);
  } else {
    add(t, PICK(ways), make_text(PICK(texts)));
  }
  return t;
}

static tree *draw_ring(double size) { // a square around the origin, or with one corner pushed in
  static const double corners[5][2] = {{1, -1}, {1, 1}, {-1, 1}, {-1, -1}, {1, -1}};
  tree *t = make(MAP), *list = make(LIST);
  bool pushed = draw(2), backwards = draw(2);
  for (int i = 0; i < 5; i++) {
    const double *corner = corners[backwards ? 4 - i : i];
    bool middle = pushed && i == 2;
    tree *p = make(MAP);
    add(p, "lat", make_fraction(middle ? 0.125 : corner[0] * size));
    add(p, "lon", make_fraction(middle ? -0.0625 : corner[1] * size));
    add(list, NULL, p);
  }
  add(t, "points", list);
  return t;
}

static tree *draw_filter(unsigned depth, bool nested);

static tree *draw_condition(unsigned depth, bool nested) {
  tree *t = make(MAP), *inner = make(MAP);
  tree *key = make_text(PICK(keys));
  uint32_t what = draw(depth > 0 ? 17 : 13);
  if (what == 13 || what == 14) return draw_filter(depth - 1, nested);
  if (what > 14) {
    add(inner, "key", key);
    add(inner, "filter", draw_filter(depth - 1, true));
    add(t, "nested", inner);
    return t;
  }
  if (what == 12 && !nested) {
    tree *list = make(LIST);
    for (uint32_t n = draw(3); n > 0; n--) add(list, NULL, draw(2) ? make_text(PICK(texts)) : make_whole(draw(3)));
    add(t, "has_id", list);
    return t;
  }
  if (what == 10 || what == 11) {
    add(inner, "key", key);
    add(t, what == 10 ? "is_empty" : "is_null", inner);
    return t;
  }
  bool last = draw(2);
  if (!last) add(t, "key", key);
  switch (what) {
  case 0:
  case 1:
    add(t, "range", draw_range(draw(2)));
    break;
  case 2:
    add(t, "values_count", draw_range(false));
    break;
  case 3:
    add(t, "is_empty", make_flag(draw(2)));
    break;
  case 4:
    add(t, "is_null", make_flag(draw(2)));
    break;
  case 5:
    if (draw(2)) {
      add(inner, "center", draw_place());
      add(inner, "radius", make_whole((int64_t[]){1000, 300000, 3000000, 12000000}[draw(4)]));
      add(t, "geo_radius", inner);
    } else if (draw(2)) {
      add(inner, "top_left", draw_place());
      add(inner, "bottom_right", draw_place());
      add(t, "geo_bounding_box", inner);
    } else {
      add(inner, "exterior", draw_ring(draw(2) ? 4 : 30));
      if (draw(2)) {
        tree *holes = make(LIST);
        if (draw(3)) add(holes, NULL, draw_ring(2));
        add(inner, "interiors", holes);
      }
      add(t, "geo_polygon", inner);
    }
    break;
  default:
    add(t, "match", draw_match());
  }
  if (last) add(t, "key", key);
  return t;
}

static tree *draw_conditions(unsigned depth, bool nested, bool list_only) {
  if (!list_only && draw(4) == 0) return draw_condition(depth, nested);
  tree *t = make(LIST);
  for (uint32_t n = draw(4); n > 0; n--) add(t, NULL, draw_condition(depth, nested));
  return t;
}

static tree *draw_filter(unsigned depth, bool nested) {
  tree *t = make(MAP);
  if (draw(2)) add(t, "must", draw(9) ? draw_conditions(depth, nested, false) : make(NIL));
  if (draw(3) == 0) add(t, "should", draw(9) ? draw_conditions(depth, nested, false) : make(NIL));
  if (draw(3) == 0) add(t, "must_not", draw(9) ? draw_conditions(depth, nested, false) : make(NIL));
  if (draw(5) == 0) {
    tree *inner = make(MAP);
    add(inner, "conditions", draw_conditions(depth, nested, true));
    add(inner, "min_count", make_whole(1 + draw(3)));
    add(t, "min_should", inner);
  }
  return t;
}

static void test_against_a_second_implementation(void **state) {
  RAG_UNUSED(state);
  const char *given = getenv("RAGD_TEST_SEED"), *wanted = getenv("RAGD_TEST_ROUNDS");
  uint64_t start = given != NULL ? strtoull(given, NULL, 0) : 20240131, passed = 0, asked = 0;
  unsigned long rounds = wanted != NULL ? strtoul(wanted, NULL, 0) : 4000;
  rag_buf text = {0}, metadata = {0};
  seed = start;
  print_message("seed %llu, %lu filters\n", (unsigned long long)start, rounds);
  for (unsigned long i = 0; i < rounds; i++) {
    pool_used = 0;
    rag_arena_reset(arena);
    // Every second one a single condition, which says more of the condition than a filter of many.
    tree *filter = draw_filter(2, false), *single = make(MAP);
    if (i % 2) filter = single, add(single, "must", draw_condition(1, false));
    int mark = pool_used;
    rag_buf_clear(&text);
    print(filter, &text);
    rag_buf_append_char(&text, '\0');
    const rag_filter *parsed_filter = parsed(text.data);
    for (int j = 0; j < 20; j++) {
      pool_used = mark;
      tree *document = make(MAP);
      for (size_t n = 0; n < RAG_COUNT_OF(names); n++)
        if (draw(4)) add(document, names[n], draw_value(3));
      const char *id = PICK(texts);
      rag_buf_clear(&metadata);
      print(document, &metadata);
      bool pass = false, expected = filter_holds(filter, document, id);
      rag_error err = {0};
      if (rag_filter_match(parsed_filter, rag_slice_str(id), rag_buf_slice(&metadata), reader, &pass, &err) != RAG_OK)
        fail_msg("seed %llu round %lu: %s", (unsigned long long)start, i, err.message);
      if (pass != expected)
        fail_msg("seed %llu round %lu: id '%s' %.*s %s %s", (unsigned long long)start, i, id, (int)metadata.size,
                 metadata.data, expected ? "should pass" : "should not pass", text.data);
      passed += pass;
      asked++;
    }
  }
  print_message("%llu of %llu pass\n", (unsigned long long)passed, (unsigned long long)asked);
  assert_true(passed * 10 > asked && passed * 10 < asked * 9); // both answers are tested
  rag_buf_free(&text);
  rag_buf_free(&metadata);
}

int main(void) {
  static const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_a_second_implementation)};
  return cmocka_run_group_tests_name("kb_filter_model", tests, setup, teardown);
}
