// A unified diff of two texts by lines, as `diff -u` prints it and patch(1) takes it.
//
// Method: equal lines at both ends are set aside; lines that only one side has are changes whatever the rest is, and
// are set aside too; what is left goes to Myers' O(ND) algorithm in its linear-space form (E. Myers, "An O(ND)
// Difference Algorithm and Its Variations", 1986): the middle of a shortest edit path, then both halves. So the diff is
// a shortest one.
//
// Bounds. Over LINES_MAX lines a side between the equal ends, or past STEPS_MAX steps of the search, the lines between
// the equal ends are shown as one replacement: correct, only not short. Memory: under 100 bytes a line. The cut-off
// counts steps, not time: the same texts give the same diff everywhere.
//
// Format: "--- from", "+++ to", hunks with `context` lines around; nothing for equal texts. Lines end at LF; a last
// line without one is followed by "\ No newline at end of file". Control characters of the labels (they are document
// ids) are printed as '?', so that no label can pass for a hunk.
//
// Threads: pure function.
#include "kb/kb.h"

#define LINES_MAX ((size_t)1 << 20)
// Well under a second. Two texts of the same 5,000 lines in unrelated orders need about half of it.
#define STEPS_MAX (UINT64_C(128) << 20)
// Halves of a difference that fits STEPS_MAX; each level halves it, so 64 could not be reached.
#define BOXES_MAX 64u

// One side: lines [0, count) between the equal ends.
typedef struct side {
  rag_slice text;     // between the equal ends
  const char **lines; // starts; lines[count] is the end of the text
  uint32_t count;
  uint32_t *class; // of each line: equal lines have equal classes
  bool *changed;
  uint32_t *kept;       // line numbers of those that the other side has too
  uint32_t *kept_class; // their classes
  uint32_t kept_count;
} side;

typedef struct box { // a rectangle of the edit graph, in kept lines
  uint32_t from_start, from_end, to_start, to_end;
} box;

typedef struct search {
  side *from, *to;
  int64_t *forward, *backward; // furthest from-line reached on each diagonal; see find_middle
  uint64_t steps;
} search;

// -------------------------------------------------------------------------------------------------------------- lines

static size_t line_size(const char *at, const char *end) {
  const char *lf = memchr(at, '\n', (size_t)(end - at));
  return lf ? (size_t)(lf + 1 - at) : (size_t)(end - at);
}

static size_t count_lines(const char *at, const char *end, size_t limit) {
  size_t count = 0;
  while (at < end && count < limit) {
    at += line_size(at, end);
    count++;
  }
  return count;
}

static void side_free(side *s) {
  rag_free(s->lines);
  rag_free(s->class);
  rag_free(s->changed);
  rag_free(s->kept);
  rag_free(s->kept_class);
}

static rag_status side_split(side *s, rag_error *err) {
  const char *at = s->text.data, *end = at + s->text.size;
  size_t count = count_lines(at, end, LINES_MAX);
  s->lines = rag_realloc_array(NULL, count + 1, sizeof(*s->lines));
  s->class = rag_realloc_array(NULL, count + 1, sizeof(*s->class));
  s->changed = rag_calloc(count + 1, sizeof(*s->changed));
  s->kept = rag_realloc_array(NULL, count + 1, sizeof(*s->kept));
  s->kept_class = rag_realloc_array(NULL, count + 1, sizeof(*s->kept_class));
  if (!s->lines || !s->class || !s->changed || !s->kept || !s->kept_class)
    return rag_fail_no_memory(err, (count + 1) * (sizeof(*s->lines) + 3 * sizeof(uint32_t) + 1));
  for (uint32_t i = 0; i < count; i++) {
    s->lines[i] = at;
    at += line_size(at, end);
  }
  s->lines[count] = end;
  s->count = (uint32_t)count;
  return RAG_OK;
}

// Numbers the distinct lines of both sides and keeps those that both have.
static rag_status classify(side *from, side *to, rag_error *err) {
  typedef struct entry {
    const char *line; // NULL: free
    uint32_t size, class;
    bool seen[2];
  } entry;
  size_t capacity = 16;
  while (capacity < ((size_t)from->count + to->count) * 2) capacity *= 2;
  entry *table = rag_calloc(capacity, sizeof(*table));
  bool *both = rag_calloc((size_t)from->count + to->count + 1, sizeof(*both));
  rag_status status = RAG_OK;
  if (!table || !both) {
    status = rag_fail_no_memory(err, capacity * sizeof(*table));
    goto out;
  }
  uint32_t classes = 0;
  side *const sides[2] = {from, to};
  for (unsigned which = 0; which < 2; which++) {
    side *s = sides[which];
    for (uint32_t i = 0; i < s->count; i++) {
      uint32_t size = (uint32_t)(s->lines[i + 1] - s->lines[i]);
      size_t slot = rag_hash64(s->lines[i], size) & (capacity - 1);
      while (table[slot].line && (table[slot].size != size || memcmp(table[slot].line, s->lines[i], size) != 0))
        slot = (slot + 1) & (capacity - 1);
      entry *e = &table[slot];
      if (!e->line) *e = (entry){.line = s->lines[i], .size = size, .class = classes++};
      e->seen[which] = true;
      both[e->class] = e->seen[0] && e->seen[1];
      s->class[i] = e->class;
    }
  }
  for (unsigned which = 0; which < 2; which++) {
    side *s = sides[which];
    for (uint32_t i = 0; i < s->count; i++) {
      s->changed[i] = !both[s->class[i]];
      if (s->changed[i]) continue;
      s->kept[s->kept_count] = i;
      s->kept_class[s->kept_count++] = s->class[i];
    }
  }
out:
  rag_free(table);
  rag_free(both);
  return status;
}

// -------------------------------------------------------------------------------------------------------------- Myers

// A point on a shortest path through the box, at its middle; false when the steps are used up. The box's sides are not
// empty and neither their first nor their last lines are equal, so the point is inside: both parts are smaller.
//
// Diagonal k holds the points with x - y = k. forward[k] is the largest x reached with d edits from the start,
// backward[k] the smallest x from the end; -1 and INT64_MAX: not reached. The paths meet where forward >= backward.
static bool find_middle(search *s, box b, uint32_t *out_x, uint32_t *out_y) {
  const uint32_t *from = s->from->kept_class + b.from_start, *to = s->to->kept_class + b.to_start;
  int64_t n = (int64_t)b.from_end - b.from_start, m = (int64_t)b.to_end - b.to_start, delta = n - m;
  bool odd = (delta & 1) != 0;
  int64_t *forward = s->forward + m + 1, *backward = s->backward + m + 1; // diagonals -m - 1 to n + 1
  forward[0] = 0;
  backward[delta] = n;
  for (int64_t x = 0; x < n && x < m && from[x] == to[x]; x++) forward[0]++;
  for (int64_t x = n, y = m; x > 0 && y > 0 && from[x - 1] == to[y - 1]; x--, y--) backward[delta]--;
  for (int64_t d = 1;; d++) {
    for (int64_t k = -d; k <= d; k += 2) {
      if (k < -m || k > n) continue;
      // One line of `to` more from the diagonal above, one of `from` more from the one below.
      int64_t down = k + 1 <= RAG_MIN(d - 1, n) ? forward[k + 1] : -1;
      int64_t right = k - 1 >= RAG_MAX(1 - d, -m) ? forward[k - 1] : -1;
      if (down >= 0 && down - k > m) down = -1;
      right = right >= 0 && right < n ? right + 1 : -1;
      int64_t x = RAG_MAX(down, right);
      int64_t start = x;
      if (x >= 0)
        while (x < n && x - k < m && from[x] == to[x - k]) x++;
      forward[k] = x;
      s->steps += (uint64_t)(x - start) + 1;
      if (odd && x >= 0 && k - delta >= 1 - d && k - delta <= d - 1 && x >= backward[k]) {
        *out_x = (uint32_t)x;
        *out_y = (uint32_t)(x - k);
        return true;
      }
    }
    for (int64_t k = delta - d; k <= delta + d; k += 2) {
      if (k < -m || k > n) continue;
      int64_t up = k - 1 >= RAG_MAX(delta - (d - 1), -m) ? backward[k - 1] : INT64_MAX;
      int64_t left = k + 1 <= RAG_MIN(delta + (d - 1), n) ? backward[k + 1] : INT64_MAX;
      if (up != INT64_MAX && up - k < 0) up = INT64_MAX;
      left = left != INT64_MAX && left > 0 ? left - 1 : INT64_MAX;
      int64_t x = RAG_MIN(up, left);
      int64_t start = x;
      if (x != INT64_MAX)
        while (x > 0 && x - k > 0 && from[x - 1] == to[x - k - 1]) x--;
      backward[k] = x;
      s->steps += (uint64_t)(start - x) + 1;
      if (!odd && x != INT64_MAX && k >= -d && k <= d && forward[k] >= x) {
        *out_x = (uint32_t)x;
        *out_y = (uint32_t)(x - k);
        return true;
      }
    }
    if (s->steps > STEPS_MAX) return false;
  }
}

// Marks the changed lines; *out_done false when the work was too much.
static rag_status compare(side *from, side *to, bool *out_done, rag_error *err) {
  rag_status status = RAG_OK;
  size_t diagonals = (size_t)from->kept_count + to->kept_count + 3;
  search s = {.from = from, .to = to};
  s.forward = rag_realloc_array(NULL, diagonals, sizeof(*s.forward));
  s.backward = rag_realloc_array(NULL, diagonals, sizeof(*s.backward));
  box stack[BOXES_MAX];
  uint32_t depth = 0;
  *out_done = true;
  if (!s.forward || !s.backward) {
    status = rag_fail_no_memory(err, 2 * diagonals * sizeof(*s.forward));
    goto out;
  }
  stack[depth++] = (box){0, from->kept_count, 0, to->kept_count};
  while (depth > 0) {
    box b = stack[--depth];
    while (b.from_start < b.from_end && b.to_start < b.to_end &&
           from->kept_class[b.from_start] == to->kept_class[b.to_start]) {
      b.from_start++;
      b.to_start++;
    }
    while (b.from_start < b.from_end && b.to_start < b.to_end &&
           from->kept_class[b.from_end - 1] == to->kept_class[b.to_end - 1]) {
      b.from_end--;
      b.to_end--;
    }
    if (b.from_start == b.from_end || b.to_start == b.to_end) {
      for (uint32_t i = b.from_start; i < b.from_end; i++) from->changed[from->kept[i]] = true;
      for (uint32_t i = b.to_start; i < b.to_end; i++) to->changed[to->kept[i]] = true;
      continue;
    }
    uint32_t x, y;
    if (!find_middle(&s, b, &x, &y)) {
      *out_done = false;
      break;
    }
    RAG_ASSERT(depth + 2 <= BOXES_MAX);
    stack[depth++] = (box){b.from_start + x, b.from_end, b.to_start + y, b.to_end};
    stack[depth++] = (box){b.from_start, b.from_start + x, b.to_start, b.to_start + y};
  }
out:
  rag_free(s.forward);
  rag_free(s.backward);
  return status;
}

// ------------------------------------------------------------------------------------------------------------- output

// Reads one text's lines in order.
typedef struct cursor {
  const char *at, *end;
  size_t number; // of the line at `at`
} cursor;

// n lines behind `prefix`; with no `out` they are only passed.
static void put_lines(cursor *c, size_t n, char prefix, rag_buf *out) {
  for (size_t i = 0; i < n && c->at < c->end; i++) {
    size_t size = line_size(c->at, c->end);
    if (out) {
      rag_buf_append_char(out, prefix);
      rag_buf_append(out, c->at, size);
      if (c->at[size - 1] != '\n') rag_buf_append_str(out, "\n\\ No newline at end of file\n");
    }
    c->at += size;
    c->number++;
  }
}

typedef struct change { // line numbers in the whole texts; an empty side is a place between two lines
  size_t from_start, from_end, to_start, to_end;
} change;

// Changes come from the marks, with the equal start added. False: no more.
static bool next_change(const side *from, const side *to, size_t skipped, bool done, uint32_t *i, uint32_t *j,
                        change *out, size_t from_lines, size_t to_lines) {
  if (!done) { // one replacement
    if (*i > 0) return false;
    *i = 1;
    *out = (change){skipped, skipped + from_lines, skipped, skipped + to_lines};
    return true;
  }
  while (*i < from->count && *j < to->count && !from->changed[*i] && !to->changed[*j]) {
    ++*i;
    ++*j;
  }
  if (*i == from->count && *j == to->count) return false;
  out->from_start = skipped + *i;
  out->to_start = skipped + *j;
  while (*i < from->count && from->changed[*i]) ++*i;
  while (*j < to->count && to->changed[*j]) ++*j;
  out->from_end = skipped + *i;
  out->to_end = skipped + *j;
  return true;
}

static void put_range(rag_buf *out, char sign, size_t start, size_t count) {
  // Lines count from 1; an empty range names the line before it.
  rag_buf_printf(out, "%c%zu", sign, count == 0 ? start : start + 1);
  if (count != 1) rag_buf_printf(out, ",%zu", count);
}

static void put_label(rag_buf *out, const char *sign, const char *label) {
  rag_buf_append_str(out, sign);
  for (const char *c = label; *c; c++) {
    bool control = (unsigned char)*c < 0x20 || *c == 0x7F;
    rag_buf_append_char(out, control ? '?' : *c);
  }
  rag_buf_append_char(out, '\n');
}

typedef struct hunks {
  cursor from, to;
  size_t from_total, to_total; // lines of the whole texts
  size_t context;
  rag_buf *out;
} hunks;

// The hunk of `changes`, which stand at most 2 * context lines apart.
static void put_hunk(hunks *h, const change *changes, size_t count) {
  const change *last = &changes[count - 1];
  size_t before = RAG_MIN(h->context, changes[0].from_start - h->from.number);
  size_t after = RAG_MIN(h->context, h->from_total - last->from_end);
  size_t from_start = changes[0].from_start - before, to_start = changes[0].to_start - before;
  put_lines(&h->from, from_start - h->from.number, ' ', NULL);
  put_lines(&h->to, to_start - h->to.number, ' ', NULL);
  rag_buf_append_str(h->out, "@@ ");
  put_range(h->out, '-', from_start, last->from_end + after - from_start);
  rag_buf_append_char(h->out, ' ');
  put_range(h->out, '+', to_start, last->to_end + after - to_start);
  rag_buf_append_str(h->out, " @@\n");
  for (size_t i = 0; i < count; i++) {
    size_t same = changes[i].from_start - h->from.number;
    put_lines(&h->from, same, ' ', h->out);
    put_lines(&h->to, same, ' ', NULL);
    put_lines(&h->from, changes[i].from_end - changes[i].from_start, '-', h->out);
    put_lines(&h->to, changes[i].to_end - changes[i].to_start, '+', h->out);
  }
  put_lines(&h->from, after, ' ', h->out);
  put_lines(&h->to, after, ' ', NULL);
}

static rag_status put_hunks(hunks *h, const side *from, const side *to, size_t skipped, bool done, size_t from_lines,
                            size_t to_lines, rag_error *err) {
  rag_status status = RAG_OK;
  change *group = NULL, next;
  size_t count = 0, capacity = 0;
  uint32_t i = 0, j = 0;
  while (next_change(from, to, skipped, done, &i, &j, &next, from_lines, to_lines)) {
    // Two changes share a hunk when their contexts touch.
    if (count > 0 && (next.from_start - group[count - 1].from_end + 1) / 2 > h->context) {
      put_hunk(h, group, count);
      count = 0;
    }
    if (count == capacity) {
      capacity = RAG_MAX(capacity * 2, (size_t)16);
      change *larger = rag_realloc_array(group, capacity, sizeof(*group));
      if (!larger) {
        status = rag_fail_no_memory(err, capacity * sizeof(*group));
        goto out;
      }
      group = larger;
    }
    group[count++] = next;
  }
  if (count > 0) put_hunk(h, group, count);
out:
  rag_free(group);
  return status;
}

// Bytes of the equal lines at the start, and at the end of what is left. A last line without its LF equals none with
// it.
static void trim(rag_slice from, rag_slice to, size_t *out_start, size_t *out_end) {
  size_t most = RAG_MIN(from.size, to.size), start = 0, line = 0, end = 0, end_line = 0;
  while (start < most && from.data[start] == to.data[start])
    if (from.data[start++] == '\n') line = start;
  most -= line;
  // From the end a line is known to be equal when the LF of the one before it is.
  while (end < most && from.data[from.size - 1 - end] == to.data[to.size - 1 - end]) {
    if (from.data[from.size - 1 - end] == '\n') end_line = end;
    end++;
  }
  bool from_begins = end == from.size - line, to_begins = end == to.size - line;
  // `line` follows an LF (or starts the text), so a side that is used up is at a line's start; the other must be too.
  if ((from_begins || from.data[from.size - 1 - end] == '\n') && (to_begins || to.data[to.size - 1 - end] == '\n'))
    end_line = end;
  *out_start = line;
  *out_end = end_line;
}

rag_status rag_text_diff(rag_slice from, rag_slice to, const char *from_label, const char *to_label, unsigned context,
                         rag_buf *out, rag_error *err) {
  if (rag_slice_equal(from, to)) return RAG_OK;
  rag_status status = RAG_OK;
  if (!from.data) from.data = "";
  if (!to.data) to.data = "";
  side a = {0}, b = {0};
  size_t start, end;
  trim(from, to, &start, &end);
  a.text = rag_slice_of(from.data + start, from.size - start - end);
  b.text = rag_slice_of(to.data + start, to.size - start - end);
  size_t skipped = count_lines(from.data, from.data + start, SIZE_MAX);
  size_t rest = count_lines(from.data + from.size - end, from.data + from.size, SIZE_MAX);
  size_t from_lines = count_lines(a.text.data, a.text.data + a.text.size, SIZE_MAX);
  size_t to_lines = count_lines(b.text.data, b.text.data + b.text.size, SIZE_MAX);
  bool done = from_lines <= LINES_MAX && to_lines <= LINES_MAX;
  if (done) {
    RAG_TRY_OUT(side_split(&a, err));
    RAG_TRY_OUT(side_split(&b, err));
    RAG_TRY_OUT(classify(&a, &b, err));
    RAG_TRY_OUT(compare(&a, &b, &done, err));
  }
  put_label(out, "--- ", from_label);
  put_label(out, "+++ ", to_label);
  hunks h = {
      .from = {from.data, from.data + from.size, 0},
      .to = {to.data, to.data + to.size, 0},
      .from_total = skipped + from_lines + rest,
      .to_total = skipped + to_lines + rest,
      .context = context,
      .out = out,
  };
  RAG_TRY_OUT(put_hunks(&h, &a, &b, skipped, done, from_lines, to_lines, err));
  status = rag_buf_check(out, err);
out:
  side_free(&a);
  side_free(&b);
  return status;
}
