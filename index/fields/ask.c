// Questions about a block: every one ends in stretches of rows in the order of keys, or in sets of marks.
#include "index/fields/fields_internal.h"

#define DEADLINE_KEYS 2048u // strings that are read between two looks at the clock

// ---------------------------------------------------------------------------------------------- stretches

static void add_rows(const fields_run *run, uint32_t from, uint32_t to, uint64_t *words) {
  for (uint32_t i = from; i < to; i++) fields_words_add(words, run->rows[i]);
}

// Rows of the places [from, to) of the run.
static void add_stretch(const fields_run *run, uint32_t from, uint32_t to, uint64_t *words) {
  uint32_t first = (from + FIELDS_CHUNK - 1) / FIELDS_CHUNK, end = to / FIELDS_CHUNK;
  if (from >= to) return;
  if (first >= end) {
    add_rows(run, from, to, words);
    return;
  }
  add_rows(run, from, first * FIELDS_CHUNK, words);
  for (uint32_t i = first; i < end; i++) fields_words_or(words, run->unions + (size_t)i * FIELDS_WORDS);
  add_rows(run, end * FIELDS_CHUNK, to, words);
}

static void add_keys(const fields_run *run, uint32_t from, uint32_t to, uint64_t *words) {
  if (from < to) add_stretch(run, fields_run_start(run, from), fields_run_start(run, to), words);
}

// ---------------------------------------------------------------------------------------------- lists of keys

static int compare_string(const fields_run *run, uint32_t key, const void *list, uint32_t i) {
  return rag_slice_compare(fields_run_string(run, key), ((const rag_slice *)list)[i]);
}

static int compare_int(const fields_run *run, uint32_t key, const void *list, uint32_t i) {
  int64_t a = run->as.ints[key], b = ((const int64_t *)list)[i];
  return (a > b) - (a < b);
}

typedef int (*compare_fn)(const fields_run *run, uint32_t key, const void *list, uint32_t i);

// Rows of the keys that are in the list, or of those that are not. Both are sorted, so each search begins where the
// one before ended; it looks ahead in growing steps, so a list as long as the dictionary costs no more than walking it.
static void add_listed(const fields_run *run, const void *list, uint32_t count, compare_fn compare, bool except,
                       uint64_t *words) {
  uint32_t key = 0, after = 0; // after: the keys before were dealt with
  for (uint32_t i = 0; i < count && key < run->keys; i++) {
    uint32_t low = key, step = 1;
    while (low + step < run->keys && compare(run, low + step, list, i) < 0) {
      low += step;
      step *= 2;
    }
    uint32_t high = RAG_MIN(low + step, run->keys);
    while (low < high) {
      uint32_t middle = low + (high - low) / 2;
      if (compare(run, middle, list, i) < 0) low = middle + 1;
      else high = middle;
    }
    key = low;
    if (key == run->keys || compare(run, key, list, i) != 0) continue;
    if (except) add_keys(run, after, key, words);
    else if (key >= after) add_keys(run, key, key + 1, words);
    after = key + 1;
  }
  if (except) add_keys(run, after, run->keys, words);
}

// ---------------------------------------------------------------------------------------------- the segments of a block

typedef struct segments {
  fields_segment *const *at, *const *end;
} segments;

static segments segments_of(const rag_fields_view *view, uint32_t block) {
  uint32_t first, end;
  rag_fields__view_block(view, block, &first, &end);
  return (segments){view->segments + first, view->segments + end};
}

static const fields_run *run_of(const fields_segment *segment, rag_slice path, fields_kind kind) {
  const fields_path *found = rag_fields__path(segment, path);
  return found ? found->runs[kind] : NULL;
}

void rag_fields_block_present(const rag_fields_view *view, uint32_t block, uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) rag_fields__set_or(&(*s.at)->rows, words);
}

void rag_fields_block_opaque(const rag_fields_view *view, uint32_t block, uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) rag_fields__set_or(&(*s.at)->opaque, words);
}

void rag_fields_block_marked(const rag_fields_view *view, uint32_t block, rag_slice path, uint32_t marks,
                             uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) {
    const fields_path *found = rag_fields__path(*s.at, path);
    if (!found) continue;
    for (uint32_t i = 0; found->marks && i < found->rows; i++)
      if (found->marks[i] & marks) fields_words_add(words, found->marks[i] >> 16);
    for (uint32_t m = 0; found->sets && m < FIELDS_MARKS; m++)
      if (marks >> m & 1 && found->sets[m]) fields_words_or(words, found->sets[m]);
  }
}

void rag_fields_block_strings(const rag_fields_view *view, uint32_t block, rag_slice path, const rag_slice *sorted,
                              uint32_t count, bool except, uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) {
    const fields_run *run = run_of(*s.at, path, FIELDS_STRINGS);
    if (run) add_listed(run, sorted, count, compare_string, except, words);
  }
}

void rag_fields_block_ints(const rag_fields_view *view, uint32_t block, rag_slice path, const int64_t *sorted,
                           uint32_t count, bool except, uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) {
    const fields_run *run = run_of(*s.at, path, FIELDS_INTS);
    if (run) add_listed(run, sorted, count, compare_int, except, words);
  }
}

static int compare_head(const fields_run *run, uint32_t key, rag_slice prefix) { // of the key's first bytes
  rag_slice text = fields_run_string(run, key);
  return rag_slice_compare(rag_slice_of(text.data, RAG_MIN(text.size, prefix.size)), prefix);
}

void rag_fields_block_prefix(const rag_fields_view *view, uint32_t block, rag_slice path, rag_slice prefix,
                             uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) {
    const fields_run *run = run_of(*s.at, path, FIELDS_STRINGS);
    if (!run) continue;
    uint32_t low = 0, high = run->keys, first;
    while (low < high) {
      uint32_t middle = low + (high - low) / 2;
      if (compare_head(run, middle, prefix) < 0) low = middle + 1;
      else high = middle;
    }
    first = low;
    high = run->keys;
    while (low < high) {
      uint32_t middle = low + (high - low) / 2;
      if (compare_head(run, middle, prefix) <= 0) low = middle + 1;
      else high = middle;
    }
    add_keys(run, first, low, words);
  }
}

static bool contains_any(rag_slice text, const rag_slice *parts, uint32_t count) {
  for (uint32_t i = 0; i < count; i++)
    if (parts[i].size == 0 ||
        (parts[i].size <= text.size && memmem(text.data, text.size, parts[i].data, parts[i].size)))
      return true;
  return false;
}

bool rag_fields_block_containing(const rag_fields_view *view, uint32_t block, rag_slice path, const rag_slice *parts,
                                 uint32_t count, uint64_t deadline_ns, uint64_t *words) {
  uint64_t work = 0, next_look = DEADLINE_KEYS;
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) {
    const fields_run *run = run_of(*s.at, path, FIELDS_STRINGS);
    for (uint32_t key = 0; run && key < run->keys; key++) {
      work += count;
      if (deadline_ns > 0 && work >= next_look) {
        if (rag_clock_monotonic_ns() > deadline_ns) return false;
        next_look = work + DEADLINE_KEYS;
      }
      if (contains_any(fields_run_string(run, key), parts, count)) add_keys(run, key, key + 1, words);
    }
  }
  return true;
}

// ---------------------------------------------------------------------------------------------- ranges

// Whether a value is before the low end, or at or before the high end: both only change from true to false as values
// ascend, also through the rounding of an integer to a double.
static bool number_before(double v, const rag_fields_range *range) {
  return range->has_low && (range->low_open ? v <= range->low : v < range->low);
}
static bool number_within(double v, const rag_fields_range *range) {
  return !range->has_high || (range->high_open ? v < range->high : v <= range->high);
}
static bool time_before(int64_t v, const rag_fields_range *range) {
  return range->has_low && (range->low_open ? v <= range->low_us : v < range->low_us);
}
static bool time_within(int64_t v, const rag_fields_range *range) {
  return !range->has_high || (range->high_open ? v < range->high_us : v <= range->high_us);
}

static bool key_is(const fields_run *run, fields_kind kind, uint32_t key, const rag_fields_range *range, bool before) {
  if (kind == FIELDS_TIMES)
    return before ? time_before(run->as.ints[key], range) : time_within(run->as.ints[key], range);
  double v = kind == FIELDS_INTS ? (double)run->as.ints[key] : run->as.doubles[key];
  return before ? number_before(v, range) : number_within(v, range);
}

static uint32_t first_not(const fields_run *run, fields_kind kind, const rag_fields_range *range, bool before) {
  uint32_t low = 0, high = run->keys;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (key_is(run, kind, middle, range, before)) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void add_range(const fields_segment *segment, rag_slice path, fields_kind kind, const rag_fields_range *range,
                      uint64_t *words) {
  const fields_run *run = run_of(segment, path, kind);
  if (run) add_keys(run, first_not(run, kind, range, true), first_not(run, kind, range, false), words);
}

void rag_fields_block_numbers(const rag_fields_view *view, uint32_t block, rag_slice path,
                              const rag_fields_range *range, uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) {
    add_range(*s.at, path, FIELDS_INTS, range, words);
    add_range(*s.at, path, FIELDS_DOUBLES, range, words);
  }
}

void rag_fields_block_times(const rag_fields_view *view, uint32_t block, rag_slice path, const rag_fields_range *range,
                            uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) add_range(*s.at, path, FIELDS_TIMES, range, words);
}

void rag_fields_block_points(const rag_fields_view *view, uint32_t block, rag_slice path, double lat_low,
                             double lat_high, rag_fields_point_fn test, const void *context, uint64_t *words) {
  for (segments s = segments_of(view, block); s.at < s.end; s.at++) {
    const fields_path *found = rag_fields__path(*s.at, path);
    uint32_t low = 0, high = found ? found->point_count : 0;
    while (low < high) {
      uint32_t middle = low + (high - low) / 2;
      if (found->points[middle].lat < lat_low) low = middle + 1;
      else high = middle;
    }
    for (; found && low < found->point_count && found->points[low].lat <= lat_high; low++) {
      const fields_point *point = &found->points[low];
      if (!fields_words_have(words, point->row) && test(context, point->lat, point->lon))
        fields_words_add(words, point->row);
    }
  }
}
