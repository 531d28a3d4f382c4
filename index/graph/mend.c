// What pruning and the walk cannot promise: that every row can be reached.
//
// Duplicates, rows with the codes of an earlier row, are kept out of the build: a walk cannot tell them apart, so a
// thousand equal rows would take all links of their neighbourhood, link to each other alone, and fall out of reach
// together. They hang below their first row as a tree: the first of them takes one link of that row, each of them links
// back to it and on to as many more as it has room for. A walk that comes near meets the first row and then them, all
// with one score.
//
// Then everything is walked from the entry, and what was not met is linked from a row that was: from one of its own
// links' ends with room to spare, or in place of a link that the walk did not need.
#include "index/graph/graph_internal.h"

rag_status rag_graph__find_duplicates(const rag_graph_codes *codes, uint32_t *first_of, uint32_t *out_count,
                                      rag_error *err) {
  uint32_t bytes = rag_codes_int8_bytes(codes->dimension), found = 0;
  size_t size = 16;
  while (size < (size_t)codes->rows * 2) size *= 2;
  uint32_t *table = rag_alloc(size * sizeof *table); // open addressing; rows
  uint32_t *hashes = rag_alloc((size_t)codes->rows * sizeof *hashes);
  rag_status status = RAG_OK;
  if (!table || !hashes) {
    status = rag_fail_no_memory(err, size * sizeof *table);
    goto out;
  }
  memset(table, 0xff, size * sizeof *table);
  for (uint32_t row = 0; row < codes->rows; row++) {
    const uint8_t *code = codes->base + row * codes->stride;
    uint64_t hash = rag_hash64(code, bytes) ^ rag_hash64(&codes->factors[row], sizeof *codes->factors) << 1;
    hashes[row] = (uint32_t)(hash >> 32);
    first_of[row] = row;
    for (size_t at = (size_t)hash & (size - 1);; at = (at + 1) & (size - 1)) {
      uint32_t other = table[at];
      if (other == RAG_GRAPH_NONE) {
        table[at] = row;
        break;
      }
      if (hashes[other] == hashes[row] && memcmp(codes->base + other * codes->stride, code, bytes) == 0 &&
          memcmp(&codes->factors[other], &codes->factors[row], sizeof *codes->factors) == 0) {
        first_of[row] = other;
        found++;
        break;
      }
    }
  }
  *out_count = found;
out:
  rag_free(table);
  rag_free(hashes);
  return status;
}

static uint32_t count_of(const uint32_t *list, uint32_t slots) {
  uint32_t count = 0;
  while (count < slots && list[count] != RAG_GRAPH_NONE) count++;
  return count;
}

// Duplicates of one first row come in ascending order; each hangs below the earliest that has room. Of the first row:
// the duplicate that is being filled; of a duplicate: the next one of the same first row.
static void hang_duplicates(const uint32_t *first_of, uint32_t rows, uint32_t *links, uint32_t slots, uint32_t *filling,
                            uint32_t *next, uint32_t *last) {
  for (uint32_t row = 0; row < rows; row++) filling[row] = RAG_GRAPH_NONE;
  for (uint32_t row = 0; row < rows; row++) {
    uint32_t first = first_of[row];
    if (first == row) continue;
    uint32_t *own = links + (size_t)row * slots;
    own[0] = first;
    for (uint32_t i = 1; i < slots; i++) own[i] = RAG_GRAPH_NONE;
    next[row] = RAG_GRAPH_NONE;
    if (filling[first] == RAG_GRAPH_NONE) { // the last link, the farthest, goes where there is no room
      uint32_t *list = links + (size_t)first * slots;
      list[RAG_MIN(count_of(list, slots), slots - 1)] = row;
      filling[first] = row;
    } else {
      next[last[first]] = row;
      uint32_t *list = links + (size_t)filling[first] * slots;
      uint32_t count = count_of(list, slots);
      list[count] = row;
      if (count + 1 == slots) filling[first] = next[filling[first]];
    }
    last[first] = row;
  }
}

typedef struct mender {
  uint32_t *links;
  uint32_t slots, rows;
  uint32_t *parent; // by row: where the walk came from; RAG_GRAPH_NONE: not met
  uint32_t *queue;  // rows in the order in which they were met
  uint32_t met, done;
} mender;

static void meet(mender *m, uint32_t row, uint32_t from) {
  m->parent[row] = from;
  m->queue[m->met++] = row;
}

static void meet_all(mender *m) {
  for (; m->done < m->met; m->done++) {
    uint32_t row = m->queue[m->done];
    const uint32_t *list = m->links + (size_t)row * m->slots;
    for (uint32_t i = 0; i < m->slots && list[i] != RAG_GRAPH_NONE; i++) {
      if (m->parent[list[i]] == RAG_GRAPH_NONE) meet(m, list[i], row);
    }
  }
}

// Links `row` from `host` if that costs no other row its way: a free slot, or the farthest link not needed.
static bool link_from(mender *m, uint32_t host, uint32_t row) {
  uint32_t *list = m->links + (size_t)host * m->slots, count = count_of(list, m->slots), at = count;
  if (count == m->slots) {
    do {
      if (at == 0) return false;
      at--;
    } while (m->parent[list[at]] == host);
  }
  list[at] = row;
  meet(m, row, host);
  return true;
}

static void join(mender *m, uint32_t row) {
  const uint32_t *list = m->links + (size_t)row * m->slots;
  for (uint32_t i = 0; i < m->slots && list[i] != RAG_GRAPH_NONE; i++) {
    if (m->parent[list[i]] != RAG_GRAPH_NONE && link_from(m, list[i], row)) return;
  }
  // Far from its neighbours, but within reach. The rows met last have the most links that no walk needed, and a tree of
  // r rows with m children at most has many with fewer: this ends.
  uint32_t i = m->met;
  do {
    RAG_ASSERT(i > 0);
  } while (!link_from(m, m->queue[--i], row));
}

rag_status rag_graph__mend(const rag_graph_codes *codes, const uint32_t *first_of, uint32_t *links,
                           rag_graph_meta *meta, rag_error *err) {
  uint32_t rows = codes->rows, slots = 2 * meta->m;
  rag_status status = RAG_OK;
  uint32_t *room = rag_alloc((size_t)rows * 3 * sizeof *room);
  if (!room) return rag_fail_no_memory(err, (size_t)rows * 3 * sizeof *room);
  if (meta->duplicates > 0) hang_duplicates(first_of, rows, links, slots, room, room + rows, room + 2 * (size_t)rows);
  mender m = {.links = links, .slots = slots, .rows = rows, .parent = room, .queue = room + rows};
  for (uint32_t row = 0; row < rows; row++) m.parent[row] = RAG_GRAPH_NONE;
  meet(&m, meta->entry, meta->entry);
  meet_all(&m);
  for (uint32_t row = 0; row < rows; row++) {
    if (m.parent[row] != RAG_GRAPH_NONE) continue;
    join(&m, row);
    meta->mended++;
    meet_all(&m);
  }
  rag_free(room);
  return status;
}
