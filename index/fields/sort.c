// The order of keys: items by their 64-bit order, strings then by their bytes.
//
// A radix sort from the last byte to the first, over the bytes that differ at all; numbers of a field mostly differ in
// three or four. Strings give the eight bytes after what all of them begin with (URLs, ids), and what is still equal
// there is merge-sorted by comparing.
#include "index/fields/fields_internal.h"

#define RADIX_MIN 192u // below, comparing is faster than eight histograms

static void merge_sort(fields_item *items, fields_item *room, uint32_t count, bool strings);

static bool in_order(const fields_item *a, const fields_item *b, bool strings) {
  if (!strings) return a->order <= b->order;
  return rag_slice_compare(rag_slice_of(a->data, a->size), rag_slice_of(b->data, b->size)) <= 0;
}

static void insertion_sort(fields_item *items, uint32_t count, bool strings) {
  for (uint32_t i = 1; i < count; i++) {
    fields_item item = items[i];
    uint32_t at = i;
    for (; at > 0 && !in_order(&items[at - 1], &item, strings); at--) items[at] = items[at - 1];
    items[at] = item;
  }
}

static void merge_sort(fields_item *items, fields_item *room, uint32_t count, bool strings) {
  if (count <= 12) {
    insertion_sort(items, count, strings);
    return;
  }
  uint32_t half = count / 2, a = 0, b = half, at = 0;
  merge_sort(items, room, half, strings);
  merge_sort(items + half, room + half, count - half, strings);
  if (in_order(&items[half - 1], &items[half], strings)) return;
  memcpy(room, items, half * sizeof *items);
  while (a < half && b < count) {
    if (in_order(&room[a], &items[b], strings)) items[at++] = room[a++];
    else items[at++] = items[b++];
  }
  memcpy(items + at, room + a, (half - a) * sizeof *items);
}

static void radix_sort(fields_item *items, fields_item *room, uint32_t count) {
  static const uint32_t bytes = sizeof(uint64_t);
  uint32_t histogram[sizeof(uint64_t)][256];
  fields_item *from = items, *to = room;
  memset(histogram, 0, sizeof histogram);
  for (uint32_t i = 0; i < count; i++) {
    uint64_t order = items[i].order;
    for (uint32_t b = 0; b < bytes; b++, order >>= 8) histogram[b][order & 255]++;
  }
  for (uint32_t b = 0; b < bytes; b++) {
    uint32_t *places = histogram[b], sum = 0;
    if (places[items[0].order >> (8 * b) & 255] == count) continue; // all have the same
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t here = places[i];
      places[i] = sum;
      sum += here;
    }
    for (uint32_t i = 0; i < count; i++) to[places[from[i].order >> (8 * b) & 255]++] = from[i];
    fields_item *swap = from;
    from = to;
    to = swap;
  }
  if (from != items) memcpy(items, from, count * sizeof *items);
}

static void sort_by_order(fields_item *items, fields_item *room, uint32_t count) {
  bool sorted = true;
  for (uint32_t i = 1; i < count && sorted; i++) sorted = items[i - 1].order <= items[i].order;
  if (sorted) return;
  if (count < RADIX_MIN) merge_sort(items, room, count, false);
  else radix_sort(items, room, count);
}

// What all strings begin with.
static uint32_t common_prefix(const fields_item *items, uint32_t count) {
  uint32_t common = items[0].size;
  for (uint32_t i = 1; i < count && common > 0; i++) {
    uint32_t size = RAG_MIN(common, items[i].size), at = 0;
    if (size == common && memcmp(items[0].data, items[i].data, size) == 0) continue;
    while (at < size && items[0].data[at] == items[i].data[at]) at++;
    common = at;
  }
  return common;
}

static uint64_t eight_bytes(const char *data, uint32_t size) {
  uint64_t v = 0;
  memcpy(&v, data, RAG_MIN(size, 8u));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  v = __builtin_bswap64(v);
#endif
  return v;
}

static bool all_equal(const fields_item *items, uint32_t count) {
  for (uint32_t i = 1; i < count; i++)
    if (items[i].size != items[0].size || memcmp(items[i].data, items[0].data, items[0].size) != 0) return false;
  return true;
}

static void sort_strings(fields_item *items, fields_item *room, uint32_t count) {
  uint32_t skip = common_prefix(items, count);
  for (uint32_t i = 0; i < count; i++) items[i].order = eight_bytes(items[i].data + skip, items[i].size - skip);
  sort_by_order(items, room, count);
  for (uint32_t i = 0, end; i < count; i = end) {
    for (end = i + 1; end < count && items[end].order == items[i].order; end++) {
    }
    if (end - i > 1 && !all_equal(items + i, end - i)) merge_sort(items + i, room, end - i, true);
  }
}

bool rag_fields__sort(fields_item *items, uint32_t count, bool strings, fields_scratch *scratch) {
  if (count < 2) return true;
  if (scratch->items.capacity < count) {
    uint32_t capacity = scratch->items.capacity;
    if (!rag_fields__grow(&scratch->items.items, count - 1, &capacity, sizeof *items)) return false;
    scratch->items.capacity = capacity;
  }
  if (strings) sort_strings(items, scratch->items.items, count);
  else sort_by_order(items, scratch->items.items, count);
  return true;
}
