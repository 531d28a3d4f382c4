// From boundaries to chunks: the second half of the structure method (chunk_structure.c is the first).
//
// The scanner names every place where the text may be cut and how good the place is. Text between two of them is a
// unit; units fill a chunk until the next does not fit; then the chunk ends at the best boundary inside it:
//  1. the strongest boundary that leaves at least min_tokens (a quarter of max_tokens), the last one of equals;
//  2. where that is only the place after an introduction or a heading: the strongest of all, so that an introduction
//     moves with what it introduces.
// When a section ends with a rest under min_tokens, the cut before it moves back to the strongest boundary (a
// sentence's end at least) that leaves both sides between min_tokens and max_tokens, if there is one. A unit over
// max_tokens is cut between words, at white space where that is in the second half, else between tokens.
//
// Overlap: a chunk that goes on with a section starts with the last whole sentences, rows or blocks of the chunk
// before, as many as overlap_tokens holds, and fewer where the next unit would not fit otherwise. None across a
// heading.
//
// Small sections. A heading opens a chunk. Then, boundaries of level 6 first and 1 last, from left to right, the chunk
// that a heading opens joins the one before it when both together hold at most max_tokens and
//  - it is deeper than the heading that the one before stands under, and one of the two is under min_tokens; or
//  - both are under min_tokens.
// A heading without a text of its own stays with the section after it whatever the levels, and at the end of the text
// joins the chunk before it where that fits.
//
// Invariants
//  1. Tokens of a chunk, heading and overlap included, are at most max_tokens: units start and end between tokens, so
//     their counts add up.
//  2. Every character that is not white space is in some unit, and every unit in some chunk; without overlap in one.
//  3. Memory: 2 * max_tokens + 2 units and PACK_WINDOW pieces, whatever the text. Sections are packed in windows of so
//     many pieces; nothing is packed over a window's edge.
//  4. Time is linear: a cut looks at one chunk's units and takes min_tokens away or leaves no second cheap cut behind.
//
// Threads: one at a time.
#include "kb/chunk_internal.h"

#define PACK_WINDOW RAG_DOCUMENT_CHUNKS_MAX
#define HEADING_LEVEL_MAX 6u
// Under a quarter of max_tokens a chunk says too little by itself to be found by its vector.
#define MIN_TOKENS_PART 4u

rag_status rag_chunk__packer_open(rag_chunk__packer *packer, const rag_chunking *chunking, rag_slice text,
                                  rag_chunk__spans *out, rag_error *err) {
  *packer = (rag_chunk__packer){
      .text = text,
      .max_tokens = chunking->max_tokens,
      .min_tokens = chunking->max_tokens / MIN_TOKENS_PART,
      .overlap_tokens = chunking->overlap_tokens,
      .out = out,
      .err = err,
      .unit_strength = RAG_CHUNK__BLOCK,
  };
  size_t units = 2u * (size_t)chunking->max_tokens + 2;
  // A piece holds at least a heading's `#` and a line end, or is cut from min_tokens of text: small texts need few.
  size_t pieces = RAG_MIN((size_t)PACK_WINDOW, text.size / 2 + 2);
  packer->piece_capacity = (uint32_t)pieces;
  packer->units = rag_realloc_array(NULL, units, sizeof(*packer->units));
  packer->pieces = rag_realloc_array(NULL, pieces, sizeof(*packer->pieces));
  if (packer->units && packer->pieces) return RAG_OK;
  rag_chunk__packer_close(packer);
  return rag_fail_no_memory(err, units * sizeof(*packer->units) + pieces * sizeof(*packer->pieces));
}

void rag_chunk__packer_close(rag_chunk__packer *packer) {
  rag_free(packer->units);
  rag_free(packer->pieces);
  packer->units = NULL;
  packer->pieces = NULL;
}

// ------------------------------------------------------------------------------------------------- packing of sections

static bool may_join(const rag_chunk__packer *packer, const rag_chunk__piece *left, const rag_chunk__piece *right) {
  if (left->tokens + right->tokens > packer->max_tokens) return false;
  bool left_small = left->tokens < packer->min_tokens;
  bool right_small = right->tokens < packer->min_tokens;
  return right->opened_by > left->level ? left_small || right_small : left_small && right_small;
}

static void join(rag_chunk__piece *left, const rag_chunk__piece *right) {
  left->end = right->end;
  left->tokens += right->tokens;
  left->heading_only = left->heading_only && right->heading_only;
}

static rag_status pack_window(rag_chunk__packer *packer) {
  rag_chunk__piece *pieces = packer->pieces;
  for (uint8_t level = HEADING_LEVEL_MAX; level >= 1 && packer->piece_count > 1; level--) {
    uint32_t kept = 1;
    for (uint32_t i = 1; i < packer->piece_count; i++) {
      if (pieces[i].opened_by == level && may_join(packer, &pieces[kept - 1], &pieces[i]))
        join(&pieces[kept - 1], &pieces[i]);
      else pieces[kept++] = pieces[i];
    }
    packer->piece_count = kept;
  }
  uint32_t count = packer->piece_count;
  if (count > 1 && pieces[count - 1].heading_only &&
      pieces[count - 2].tokens + pieces[count - 1].tokens <= packer->max_tokens) {
    join(&pieces[count - 2], &pieces[count - 1]);
    count--;
  }
  packer->piece_count = 0;
  for (uint32_t i = 0; i < count; i++)
    RAG_TRY(rag_chunk__spans_add(packer->out, pieces[i].start, pieces[i].end, packer->err));
  return RAG_OK;
}

// The chunk of units[first..end).
static rag_status add_piece(rag_chunk__packer *packer, uint32_t first, uint32_t end) {
  if (packer->piece_count == PACK_WINDOW) RAG_TRY(pack_window(packer));
  RAG_ASSERT(packer->piece_count < packer->piece_capacity);
  uint32_t tokens = 0;
  for (uint32_t i = first; i < end; i++) tokens += packer->units[i].tokens;
  packer->pieces[packer->piece_count++] = (rag_chunk__piece){
      .start = packer->units[first].start,
      .end = packer->units[end - 1].end,
      .tokens = tokens,
      .level = packer->level,
      .opened_by = packer->opened_by,
      .heading_only = packer->level > 0 && !packer->has_text,
  };
  packer->opened_by = 0;
  return RAG_OK;
}

// ----------------------------------------------------------------------------------------------------------- the cuts

// Drops units[0..n).
static void forget_units(rag_chunk__packer *packer, uint32_t n) {
  memmove(packer->units, packer->units + n, (packer->count + 1 - n) * sizeof(*packer->units)); // and the one to come
  packer->count -= n;
  packer->first -= n;
  packer->fresh -= n;
}

// Where the current chunk ends: an index in (fresh, count], where units[count] is the unit that does not fit.
static uint32_t best_cut(const rag_chunk__packer *packer) {
  const rag_chunk__unit *units = packer->units;
  uint32_t best = 0, any = packer->count, tokens = 0;
  for (uint32_t i = packer->fresh + 1; i <= packer->count; i++) {
    tokens += units[i - 1].tokens;
    if (tokens >= packer->min_tokens && (best == 0 || units[i].strength >= units[best].strength)) best = i;
    if (i == packer->fresh + 1 || units[i].strength >= units[any].strength) any = i;
  }
  if (best == 0 || units[best].strength == RAG_CHUNK__GLUE) return any;
  if (units[best].strength == RAG_CHUNK__INTRO && units[any].strength >= RAG_CHUNK__SENTENCE) return any;
  return best;
}

// The start of the overlap before units[cut], not reaching units[floor], with at most `tokens_max` tokens.
static uint32_t overlap_before(const rag_chunk__packer *packer, uint32_t cut, uint32_t floor, uint32_t tokens_max) {
  uint32_t start = cut, tokens = 0;
  for (uint32_t i = cut; i > floor + 1; i--) {
    const rag_chunk__unit *unit = &packer->units[i - 1];
    tokens += unit->tokens;
    if (tokens > tokens_max || unit->heading) break;
    if (unit->strength >= RAG_CHUNK__SENTENCE) start = i - 1;
  }
  return start;
}

static uint32_t tokens_between(const rag_chunk__packer *packer, uint32_t from, uint32_t to) {
  uint32_t tokens = 0;
  for (uint32_t i = from; i < to; i++) tokens += packer->units[i].tokens;
  return tokens;
}

// Ends the current chunk at its best boundary: it becomes the held one, and the one held so far is final.
static rag_status cut(rag_chunk__packer *packer) {
  uint32_t at = best_cut(packer);
  if (packer->held) {
    RAG_TRY(add_piece(packer, 0, packer->fresh));
    at -= packer->first;
    forget_units(packer, packer->first);
  }
  packer->held = true;
  packer->held_fresh = packer->fresh;
  packer->first = overlap_before(packer, at, packer->held_fresh, packer->overlap_tokens);
  packer->fresh = at;
  packer->tokens = tokens_between(packer, packer->first, packer->count);
  return RAG_OK;
}

// `unit` is at most max_tokens.
static rag_status add_unit(rag_chunk__packer *packer, const rag_chunk__unit *unit) {
  packer->units[packer->count] = *unit;
  while (packer->tokens + unit->tokens > packer->max_tokens) {
    if (packer->count > packer->fresh) {
      RAG_TRY(cut(packer));
    } else { // the overlap alone is in the way: its first sentence goes
      do {
        packer->tokens -= packer->units[packer->first].tokens;
        packer->first++;
      } while (packer->first < packer->fresh && packer->units[packer->first].strength < RAG_CHUNK__SENTENCE);
    }
  }
  packer->count++;
  packer->tokens += unit->tokens;
  if (!unit->heading) packer->has_text = true;
  return RAG_OK;
}

// Moves the cut before a rest that is too small.
static void rebalance(rag_chunk__packer *packer) {
  uint32_t rest = tokens_between(packer, packer->fresh, packer->count);
  if (rest >= packer->min_tokens) return;
  uint32_t left = tokens_between(packer, packer->held_fresh, packer->fresh); // fresh tokens of the held chunk
  uint32_t best = 0;
  for (uint32_t i = packer->fresh - 1; i > packer->held_fresh; i--) {
    rest += packer->units[i].tokens;
    left -= packer->units[i].tokens;
    if (rest > packer->max_tokens || left < packer->min_tokens) break;
    uint8_t strength = packer->units[i].strength;
    if (rest < packer->min_tokens || strength < RAG_CHUNK__SENTENCE) continue;
    if (best == 0 || strength > packer->units[best].strength) best = i;
  }
  if (best == 0) return;
  uint32_t room = packer->max_tokens - tokens_between(packer, best, packer->count);
  packer->first = overlap_before(packer, best, packer->held_fresh, RAG_MIN(packer->overlap_tokens, room));
  packer->fresh = best;
}

// Everything collected becomes final.
static rag_status end_section(rag_chunk__packer *packer) {
  if (packer->held) {
    rebalance(packer);
    RAG_TRY(add_piece(packer, 0, packer->fresh));
  }
  if (packer->count > packer->fresh) RAG_TRY(add_piece(packer, packer->first, packer->count));
  packer->count = packer->first = packer->fresh = packer->tokens = 0;
  packer->held = false;
  packer->has_text = false;
  packer->glue = 0;
  return RAG_OK;
}

// -------------------------------------------------------------------------------------------------------------- units

uint32_t rag_chunk__unit_limit(const rag_chunk__packer *packer) {
  return packer->max_tokens - packer->glue;
}

// Cuts units[start..end) of more than the limit between words.
static rag_status add_long_unit(rag_chunk__packer *packer, rag_chunk__unit unit) {
  rag_slice text = packer->text;
  size_t at = unit.start;
  while (at < unit.end) {
    uint32_t limit = rag_chunk__unit_limit(packer);
    rag_chunk__unit piece = {.start = (uint32_t)at, .strength = unit.strength, .heading = unit.heading};
    // The last white space in the second half of the piece: its end before, the next start and the tokens up to it.
    size_t space_end = 0, space_next = 0;
    uint32_t space_tokens = 0;
    size_t start, stop, last = at;
    while (rag_chunk__token(text, last, unit.end, &start, &stop)) {
      if (start > last && piece.tokens >= limit / 2 && piece.tokens > 0) {
        space_end = last;
        space_next = start;
        space_tokens = piece.tokens;
      }
      if (piece.tokens == limit) break;
      piece.tokens++;
      last = stop;
    }
    size_t next = last;
    if (last < unit.end && space_next > 0) {
      last = space_end;
      next = space_next;
      piece.tokens = space_tokens;
    }
    piece.end = (uint32_t)last;
    RAG_TRY(add_unit(packer, &piece));
    at = next;
    unit.strength = RAG_CHUNK__WORD;
    packer->glue = 0;
  }
  return RAG_OK;
}

// *out_added: there was a unit, not white space alone.
static rag_status end_unit(rag_chunk__packer *packer, size_t offset, bool *out_added) {
  size_t start, end;
  uint64_t tokens = rag_chunk__measure(packer->text, packer->unit_start, offset, &start, &end);
  packer->unit_start = offset;
  *out_added = tokens > 0;
  if (tokens == 0) return RAG_OK;
  rag_chunk__unit unit = {
      .start = (uint32_t)start,
      .end = (uint32_t)end,
      .strength = packer->unit_strength,
      .heading = packer->unit_heading,
  };
  packer->unit_strength = RAG_CHUNK__BLOCK;
  if (tokens > rag_chunk__unit_limit(packer)) {
    RAG_TRY(add_long_unit(packer, unit));
    unit.tokens = packer->units[packer->count - 1].tokens;
  } else {
    unit.tokens = (uint32_t)tokens;
    RAG_TRY(add_unit(packer, &unit));
  }
  packer->glue += unit.tokens; // taken back by the boundary when it is no glue
  return RAG_OK;
}

rag_status rag_chunk__boundary(rag_chunk__packer *packer, size_t offset, rag_chunk__strength strength) {
  bool added;
  RAG_TRY(end_unit(packer, offset, &added));
  packer->unit_heading = false;
  // Two boundaries with white space alone between them are one: glue sticks, else the later one counts.
  if (!added && packer->unit_strength == RAG_CHUNK__GLUE) return RAG_OK;
  // Glue that would leave the next unit less than half a chunk is none.
  if (strength == RAG_CHUNK__GLUE && packer->glue > packer->max_tokens / 2) strength = RAG_CHUNK__WORD;
  if (strength != RAG_CHUNK__GLUE) packer->glue = 0;
  packer->unit_strength = (uint8_t)strength;
  return RAG_OK;
}

rag_status rag_chunk__heading(rag_chunk__packer *packer, size_t offset, uint8_t level) {
  RAG_TRY(rag_chunk__boundary(packer, offset, RAG_CHUNK__GLUE));
  // Headings alone wait for their text; anything else is a section that ends here.
  if (packer->has_text) {
    RAG_TRY(end_section(packer));
    packer->unit_strength = RAG_CHUNK__BLOCK;
  }
  if (packer->count == 0) packer->opened_by = level;
  packer->level = level;
  packer->unit_heading = true;
  return RAG_OK;
}

rag_status rag_chunk__packer_finish(rag_chunk__packer *packer, size_t end) {
  bool added;
  RAG_TRY(end_unit(packer, end, &added));
  RAG_TRY(end_section(packer));
  return pack_window(packer);
}
