// The top k of a query: block-max MaxScore over windows of 4,096 ordinals.
//
// For each window that has a posting and a chunk of the filter:
//   1. The bound of each list in it: the greatest of its blocks' there. Where their sum cannot pass the k-th best score
//      so far (`floor`), the search goes on behind the first of these blocks that ends.
//   2. Lists by falling weight; the last ones whose bounds together cannot pass the floor are not essential. The
//      essential ones are added up in an array of sums, one for each ordinal of the window; blocks that cannot lift any
//      chunk over the floor are not decoded. One essential list needs no sums.
//   3. Sums that can pass the floor with the bounds of the other lists, and that the filter has, are candidates. The
//      other lists are looked up for them, one after another, and candidates are dropped as soon as they cannot pass.
// Where a MUST is there, the one with the fewest postings gives the candidates, and the other lists are looked up.
// Where the filter leaves few chunks in a window, they are the candidates, and every list is looked up.
//
// Why windows and not block-max WAND: WAND moves one chunk at a time, with a sort of the lists and a few mispredicted
// branches for each; a window costs about a nanosecond a posting, and its bounds skip as well. Why the bounds stay
// valid: they are (tf, length) pairs, scored with this query's numbers (codec.c).
//
// Scores are integers (index.h), at least 1 for each list that has the chunk, so a sum of 0 means: no posting. Chunks
// are offered in ascending order of ordinals, so an equal score never displaces one that is there.
//
// Leaf code: no locks; all memory is allocated before the first window.
#include "index/lexical/lexical_internal.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define GROUP 16u // sums of one flag
#define GROUPS (LEX_PAGE / GROUP)
#define HEAP_K_MAX 128u      // to here a heap, whose floor is always exact; above, a buffer of 2 k that is cut to k
#define LOOK_UP_ALL_MIN 64u  // candidates from which on a whole list may be cheaper than looking each one up,
#define LOOK_UP_ALL_SHARE 4u // and is where each of its blocks serves more than this many
#define SEED_SHARE 8u        // times k: postings that a first floor is looked for in
#define LENGTHS_AHEAD_MIN 4u // blocks in a window from which on its lengths are fetched beforehand
#define DEADLINE_WINDOWS 16u // between two looks at the clock

typedef struct search {
  lex_context *context;
  lex_plan *plan;
  lex_cursor *should; // of plan->cursors
  uint32_t should_count;
  bool prune;
  bool sparse;             // the filter leaves few chunks in the mean window
  uint32_t floor;          // scores up to it are of no use; 0: all are of use
  const uint64_t *filter;  // the window's 64 words
  const uint32_t *length1; // the window's page
  uint32_t base;           // the window's first ordinal
  uint32_t candidate_count;
  uint64_t *keys; // 2 k: score << 32 | ~ordinal: the better hit is the greater key
  uint32_t key_count;
  uint32_t k;
  uint32_t *bound; // by cursor: in this window
  uint32_t *rest;  // rest[i]: the sum of the bounds of SHOULD i and after
  uint32_t scores[LEX_BLOCK];
  uint32_t offsets[LEX_PAGE];                   // candidates: offsets in the window, ascending
  uint32_t sums[LEX_PAGE];                      // and their scores
  _Alignas(16) uint32_t accumulators[LEX_PAGE]; // 0 between windows
  _Alignas(8) uint8_t flags[GROUPS];            // likewise: the group has a posting
} search;

rag_status rag_lexical__check_deadline(const lex_context *context, rag_error *err) {
  uint64_t deadline = context->query->deadline_ns;
  if (deadline == 0 || rag_clock_monotonic_ns() < deadline) return RAG_OK;
  return rag_fail(err, RAG_DEADLINE_EXCEEDED, "the search ran past its deadline: allow more time, or send fewer words");
}

// ---------------------------------------------------------------------------------------------- top k

static void sink(uint64_t *heap, uint32_t count, uint32_t at, uint64_t key) {
  for (;;) {
    uint32_t child = 2 * at + 1;
    if (child >= count) break;
    child += child + 1 < count && heap[child + 1] < heap[child];
    if (heap[child] >= key) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = key;
}

// Moves the greatest `want` of `count` keys to the front; the least of them is returned.
static uint64_t cut(uint64_t *keys, uint32_t count, uint32_t want) {
  uint32_t low = 0, high = count - 1, target = want - 1; // descending order
  while (low < high) {
    uint64_t a = keys[low], b = keys[low + (high - low) / 2], c = keys[high];
    uint64_t pivot = a > b ? (b > c ? b : RAG_MIN(a, c)) : (a > c ? a : RAG_MIN(b, c));
    uint32_t i = low, j = high;
    for (;;) { // Hoare's: all up to j are >= pivot, all after it <= pivot
      while (keys[i] > pivot) i++;
      while (keys[j] < pivot) j--;
      if (i >= j) break;
      uint64_t swap = keys[i];
      keys[i++] = keys[j];
      keys[j--] = swap;
    }
    if (target <= j) high = j;
    else low = j + 1;
  }
  return keys[target];
}

static void offer(search *s, uint32_t ordinal, uint32_t score) {
  uint64_t key = (uint64_t)score << 32 | (uint32_t)~ordinal;
  if (score <= s->floor) return;
  if (s->k <= HEAP_K_MAX) {
    if (s->key_count < s->k) {
      s->keys[s->key_count++] = key;
      if (s->key_count < s->k) return;
      for (uint32_t at = s->k / 2; at-- > 0;) sink(s->keys, s->k, at, s->keys[at]);
    } else {
      sink(s->keys, s->k, 0, key);
    }
    s->floor = (uint32_t)(s->keys[0] >> 32);
    return;
  }
  s->keys[s->key_count++] = key;
  if (s->key_count < 2 * s->k && s->key_count != s->k) return;
  s->floor = (uint32_t)(cut(s->keys, s->key_count, s->k) >> 32);
  s->key_count = s->k;
}

// Descending, by merging between the two halves of the keys' room.
static uint64_t *sort_keys(uint64_t *from, uint64_t *to, uint32_t count) {
  for (uint32_t width = 1; width < count; width *= 2) {
    for (uint32_t start = 0; start < count; start += 2 * width) {
      uint32_t i = start, middle = RAG_MIN(start + width, count), j = middle, end = RAG_MIN(middle + width, count);
      for (uint32_t at = start; at < end; at++) {
        bool first = j == end || (i < middle && from[i] > from[j]);
        to[at] = first ? from[i++] : from[j++];
      }
    }
    uint64_t *swap = from;
    from = to;
    to = swap;
  }
  return from;
}

static uint32_t finish(search *s, rag_lexical_hit *hits) {
  if (s->key_count > s->k) {
    cut(s->keys, s->key_count, s->k);
    s->key_count = s->k;
  }
  const uint64_t *sorted = sort_keys(s->keys, s->keys + s->k, s->key_count);
  for (uint32_t i = 0; i < s->key_count; i++) {
    hits[i] =
        (rag_lexical_hit){.score = ldexp((double)(sorted[i] >> 32), -s->plan->scale), .ordinal = ~(uint32_t)sorted[i]};
  }
  return s->key_count;
}

// ---------------------------------------------------------------------------------------------- candidates

// What a chunk must pass; 0 where nothing is to be left out.
static inline uint32_t floor_of(const search *s) {
  return s->prune ? s->floor : 0;
}

static inline bool in_filter(const search *s, uint32_t offset) {
  return s->filter[offset / 64] >> (offset % 64) & 1;
}

static inline void keep(search *s, uint32_t offset, uint32_t score) {
  s->offsets[s->candidate_count] = offset;
  s->sums[s->candidate_count++] = score;
}

// The postings of the loaded block in [start, end), scored.
static uint32_t score_block(search *s, lex_cursor *cursor, uint32_t start, uint32_t last, uint32_t *out_first) {
  rag_lexical__cursor_load(cursor);
  rag_lexical__cursor_load_tfs(cursor);
  const lex_block *header = lex_cursor_header(cursor, cursor->block);
  uint32_t from = header->first >= start ? 0 : rag_lexical__lower_bound(cursor->ordinals, 0, cursor->count, start);
  uint32_t to =
      header->last <= last ? cursor->count : rag_lexical__lower_bound(cursor->ordinals, from, cursor->count, last + 1);
  rag_lexical__score_run(&cursor->scorer, cursor->ordinals + from, cursor->tfs + from, to - from, s->length1,
                         s->scores);
  s->context->plan.postings_scored += to - from;
  *out_first = from;
  return to - from;
}

// Walks the blocks of a list in [start, last]; true: the next one is loaded, scored and not passed.
static bool next_block(search *s, lex_cursor *cursor, uint32_t *block, uint32_t start, uint32_t last, uint32_t others,
                       uint32_t *first, uint32_t *count) {
  uint32_t floor = floor_of(s);
  for (; *block < cursor->block_count && lex_cursor_header(cursor, *block)->first <= last; ++*block) {
    cursor->block = *block;
    if (floor > 0 && rag_lexical__cursor_bound(cursor, *block) + others <= floor) continue;
    *count = score_block(s, cursor, start, last, first);
    ++*block;
    return true;
  }
  return false;
}

static void accumulate(search *s, lex_cursor *cursor, uint32_t start, uint32_t last, uint32_t others) {
  uint32_t block = cursor->block, first = 0, count = 0;
  while (next_block(s, cursor, &block, start, last, others, &first, &count)) {
    const uint32_t *ordinals = cursor->ordinals + first;
    for (uint32_t i = 0; i < count; i++) {
      uint32_t offset = ordinals[i] & (LEX_PAGE - 1);
      s->accumulators[offset] += s->scores[i];
      s->flags[offset / GROUP] = 1;
    }
  }
}

// One list's postings as candidates.
static void candidates_of(search *s, lex_cursor *cursor, uint32_t start, uint32_t last, uint32_t others) {
  uint32_t block = cursor->block, first = 0, count = 0, floor = floor_of(s);
  uint32_t least = floor > others ? floor - others : 0;
  while (next_block(s, cursor, &block, start, last, others, &first, &count)) {
    const uint32_t *ordinals = cursor->ordinals + first;
    for (uint32_t i = 0; i < count; i++) {
      uint32_t offset = ordinals[i] & (LEX_PAGE - 1);
      if (s->scores[i] > least && in_filter(s, offset)) keep(s, offset, s->scores[i]);
    }
  }
}

// Bit i: sum i of the group is greater than `least` (below 2^31).
static inline uint32_t group_above(const uint32_t *sums, uint32_t least) {
  uint32_t mask = 0;
#if defined(__SSE2__)
  const __m128i limit = _mm_set1_epi32((int)least);
  for (uint32_t i = 0; i < GROUP / 4; i++) {
    __m128i v = _mm_load_si128((const __m128i *)(const void *)(sums + (size_t)i * 4));
    mask |= (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpgt_epi32(v, limit))) << (4 * i);
  }
#else
  for (uint32_t i = 0; i < GROUP; i++) mask |= (uint32_t)(sums[i] > least) << i;
#endif
  return mask;
}

static void candidates_of_sums(search *s, uint32_t others) {
  uint32_t floor = floor_of(s), least = floor > others ? floor - others : 0;
  for (uint32_t w = 0; w < GROUPS / 8; w++) {
    uint64_t flags;
    memcpy(&flags, s->flags + (size_t)w * 8, sizeof flags);
    if (flags == 0) continue;
    memset(s->flags + (size_t)w * 8, 0, sizeof flags);
    for (; flags; flags &= flags - 1) {
      uint32_t group = w * 8 + (uint32_t)__builtin_ctzll(flags) / 8;
      uint32_t *sums = s->accumulators + (size_t)group * GROUP;
      uint32_t mask = group_above(sums, least) & (uint32_t)(s->filter[group / 4] >> (group % 4 * GROUP) & 0xffff);
      for (; mask; mask &= mask - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(mask);
        keep(s, group * GROUP + i, sums[i]);
      }
      memset(sums, 0, GROUP * sizeof *sums);
    }
  }
}

// The same for many candidates: the list is added up in the sums, and each candidate reads its own.
static void look_up_all(search *s, lex_cursor *cursor, uint32_t start, uint32_t last, uint32_t after) {
  uint32_t kept = 0, floor = floor_of(s), block = cursor->block, first = 0, count = 0;
  bool must = cursor->occur == RAG_LEXICAL_MUST, scored = cursor->occur != RAG_LEXICAL_MUST_NOT;
  while (next_block(s, cursor, &block, start, last, UINT32_MAX / 2, &first, &count)) {
    const uint32_t *ordinals = cursor->ordinals + first;
    for (uint32_t i = 0; i < count; i++) s->accumulators[ordinals[i] & (LEX_PAGE - 1)] = s->scores[i];
  }
  for (uint32_t i = 0; i < s->candidate_count; i++) {
    uint32_t offset = s->offsets[i], score = s->accumulators[offset], sum = s->sums[i] + (scored ? score : 0);
    if (score > 0 ? !scored : must) continue;
    if (floor > 0 && sum + after <= floor) continue;
    s->offsets[kept] = offset;
    s->sums[kept++] = sum;
  }
  s->candidate_count = kept;
  memset(s->accumulators, 0, sizeof s->accumulators);
}

// Looks a list up for every candidate and drops those that fail: that lack a MUST, that have a MUST_NOT, or that
// cannot pass the floor with this list and `after`, the bounds of the lists that follow.
static void look_up(search *s, lex_cursor *cursor, uint32_t start, uint32_t last, uint32_t bound, uint32_t after) {
  uint32_t kept = 0, floor = floor_of(s), blocks = 0;
  if (s->candidate_count >= LOOK_UP_ALL_MIN) {
    for (uint32_t i = cursor->block; i < cursor->block_count && blocks * LOOK_UP_ALL_SHARE < s->candidate_count; i++) {
      if (lex_cursor_header(cursor, i)->first > last) break;
      blocks++;
    }
    if (blocks * LOOK_UP_ALL_SHARE < s->candidate_count) {
      look_up_all(s, cursor, start, last, after);
      return;
    }
  }
  bool must = cursor->occur == RAG_LEXICAL_MUST, scored = cursor->occur != RAG_LEXICAL_MUST_NOT;
  for (uint32_t i = 0; i < s->candidate_count; i++) {
    uint32_t offset = s->offsets[i], ordinal = s->base + offset, sum = s->sums[i];
    bool has = false;
    if (floor > 0 && sum + bound + after <= floor) continue;
    if (rag_lexical__cursor_block(cursor, ordinal) && lex_cursor_header(cursor, cursor->block)->first <= ordinal) {
      if (scored && floor > 0 && sum + rag_lexical__cursor_bound(cursor, cursor->block) + after <= floor) continue;
      rag_lexical__cursor_load(cursor);
      cursor->at = rag_lexical__lower_bound(cursor->ordinals, cursor->at, cursor->count, ordinal);
      has = cursor->ordinals[cursor->at] == ordinal;
    }
    if (has ? !scored : must) continue;
    if (has) {
      sum += lex_score(&cursor->scorer, lex_cursor_tf(cursor), s->length1[offset] - 1);
      s->context->plan.postings_scored++;
    }
    s->offsets[kept] = offset;
    s->sums[kept++] = sum;
  }
  s->candidate_count = kept;
}

// ---------------------------------------------------------------------------------------------- windows

// The bound of a list in [start, last]; *until is lowered to the last ordinal for which it holds, *blocks counts.
static uint32_t bound_in(search *s, lex_cursor *cursor, uint32_t start, uint32_t last, uint32_t *until,
                         uint32_t *blocks) {
  uint32_t most = 0;
  if (!rag_lexical__cursor_block(cursor, start)) return 0;
  uint32_t block = cursor->block;
  const lex_block *header = lex_cursor_header(cursor, block);
  if (header->first > last) {
    *until = RAG_MIN(*until, header->first - 1);
    return 0;
  }
  // A list that weighs little beside the floor is not worth the look at its blocks.
  bool coarse = cursor->bound_max <= floor_of(s) / 32;
  for (; block < cursor->block_count; block++) {
    header = lex_cursor_header(cursor, block);
    if (header->first > last) {
      *until = RAG_MIN(*until, header->first - 1);
      break;
    }
    ++*blocks;
    if (coarse) return cursor->bound_max;
    most = RAG_MAX(most, rag_lexical__cursor_bound(cursor, block));
    if (header->last >= last) {
      *until = RAG_MIN(*until, header->last);
      break;
    }
  }
  return most;
}

// The first ordinal from `from` on where the query can match at all. False: none.
static bool next_start(search *s, uint32_t from, uint32_t *out) {
  lex_plan *plan = s->plan;
  uint32_t at = from, best = UINT32_MAX;
  bool any = plan->musts > 0;
  for (uint32_t i = 0; i < plan->musts; i++) {
    if (!rag_lexical__cursor_block(&plan->cursors[i], at)) return false;
    at = RAG_MAX(at, lex_cursor_header(&plan->cursors[i], plan->cursors[i].block)->first);
  }
  // The last lists that cannot pass the floor together, wherever they are, lead nowhere.
  uint32_t leading = s->should_count, floor = floor_of(s);
  for (uint64_t sum = 0; leading > 0 && (sum += s->should[leading - 1].bound_max) <= floor;) leading--;
  for (uint32_t i = 0; plan->musts == 0 && i < leading; i++) {
    if (!rag_lexical__cursor_block(&s->should[i], from)) continue;
    best = RAG_MIN(best, RAG_MAX(from, lex_cursor_header(&s->should[i], s->should[i].block)->first));
    any = true;
  }
  if (!any) return false;
  return rag_bitmap_next(s->context->filter, plan->musts > 0 ? at : best, out);
}

static uint32_t filter_count(const search *s) {
  uint32_t count = 0;
  for (uint32_t w = 0; w < LEX_PAGE / 64; w++) count += (uint32_t)__builtin_popcountll(s->filter[w]);
  return count;
}

static void filter_candidates(search *s, uint32_t start) {
  for (uint32_t w = (start - s->base) / 64; w < LEX_PAGE / 64; w++) {
    for (uint64_t left = s->filter[w]; left; left &= left - 1) {
      uint32_t offset = w * 64 + (uint32_t)__builtin_ctzll(left);
      if (s->base + offset >= start) keep(s, offset, 0);
    }
  }
}

// The window's candidates from its SHOULD lists alone; *from: the first list that is still to be looked up.
static void gather_should(search *s, uint32_t start, uint32_t last, uint32_t blocks, uint32_t *from) {
  uint32_t essential = s->should_count, floor = floor_of(s), holding = 0, only = 0;
  while (essential > 0 && s->rest[essential - 1] <= floor) essential--;
  *from = 0;
  if (s->sparse && (uint64_t)filter_count(s) * s->should_count < (uint64_t)blocks * 8) {
    filter_candidates(s, start);
    return;
  }
  *from = essential;
  for (uint32_t i = 0; i < essential; i++) {
    if (s->bound[s->plan->musts + s->plan->nots + i] == 0) continue;
    holding++;
    only = i;
  }
  if (holding == 1) {
    candidates_of(s, &s->should[only], start, last, s->rest[essential]);
    return;
  }
  for (uint32_t i = 0; i < essential; i++) {
    uint32_t bound = s->bound[s->plan->musts + s->plan->nots + i];
    if (bound > 0) accumulate(s, &s->should[i], start, last, s->rest[0] - bound);
  }
  candidates_of_sums(s, s->rest[essential]);
}

// Searches one window from `start` on; returns the last ordinal that is dealt with.
static uint32_t search_window(search *s, uint32_t start) {
  lex_plan *plan = s->plan;
  uint32_t last = start | (LEX_PAGE - 1), until = UINT32_MAX, blocks = 0, lead = plan->musts + plan->nots;
  uint32_t must_sum = 0;
  s->base = start & ~(LEX_PAGE - 1);
  for (uint32_t i = 0; i < plan->musts; i++) {
    s->bound[i] = bound_in(s, &plan->cursors[i], start, last, &until, &blocks);
    if (s->bound[i] == 0) return last;
    must_sum += s->bound[i];
  }
  s->rest[s->should_count] = 0;
  for (uint32_t i = s->should_count; i-- > 0;) {
    s->bound[lead + i] = bound_in(s, &s->should[i], start, last, &until, &blocks);
    s->rest[i] = s->rest[i + 1] + s->bound[lead + i];
  }
  uint32_t floor = floor_of(s);
  if (must_sum + s->rest[0] <= floor && floor > 0) {
    s->context->plan.windows_skipped++;
    return RAG_MAX(last, until);
  }
  if (must_sum + s->rest[0] == 0) return last;
  const lex_page *page = lex_pages_at(s->context->pages, start);
  if (!page) return last; // the version has rows that were removed since: what is left of it is searched
  s->context->plan.windows++;
  s->length1 = page->length1;
  if (blocks >= LENGTHS_AHEAD_MIN) {
    for (uint32_t i = 0; i < LEX_PAGE; i += 16) __builtin_prefetch(&page->length1[i]);
  }
  s->filter =
      rag_bitmap_block(s->context->filter, start / RAG_BITMAP_BLOCK_BITS, NULL) + s->base % RAG_BITMAP_BLOCK_BITS / 64;
  s->candidate_count = 0;
  uint32_t from = 0;
  if (plan->musts > 0) {
    uint32_t after = must_sum - s->bound[0];
    candidates_of(s, &plan->cursors[0], start, last, after + s->rest[0]);
    for (uint32_t i = 1; i < plan->musts && s->candidate_count > 0; i++) {
      after -= s->bound[i];
      look_up(s, &plan->cursors[i], start, last, s->bound[i], after + s->rest[0]);
    }
  } else {
    gather_should(s, start, last, blocks, &from);
  }
  for (uint32_t i = from; i < s->should_count && s->candidate_count > 0; i++) {
    if (s->bound[lead + i] > 0) look_up(s, &s->should[i], start, last, s->bound[lead + i], s->rest[i + 1]);
  }
  for (uint32_t i = plan->musts; i < lead && s->candidate_count > 0; i++)
    look_up(s, &plan->cursors[i], start, last, 0, 0);
  for (uint32_t i = 0; i < s->candidate_count; i++) {
    if (s->sums[i] > 0) offer(s, s->base + s->offsets[i], s->sums[i]);
  }
  s->context->plan.offered += s->candidate_count;
  return last;
}

// A floor before the first window: k chunks score at least the k-th best that one list alone gives to some of its
// chunks. Without, the first windows are looked at in full until k good chunks are found.
static void seed_floor(search *s) {
  lex_cursor *cursor = NULL;
  uint32_t limit = SEED_SHARE * s->k, seen = 0;
  for (uint32_t i = 0; i < s->should_count && !cursor; i++) {
    if (s->should[i].postings >= s->k) cursor = &s->should[i];
  }
  // At k = 1,000 of 100,000 chunks the walk cost what it saved (measured: 0.48 ms either way); at k = 10 it saved 10%.
  if (s->k > HEAP_K_MAX) return;
  if (!s->prune || s->plan->musts + s->plan->nots > 0 || s->should_count < 2 || !cursor) return;
  for (; cursor->block < cursor->block_count && seen < limit; cursor->block++) {
    rag_lexical__cursor_load(cursor);
    rag_lexical__cursor_load_tfs(cursor);
    seen += cursor->count;
    for (uint32_t i = 0; i < cursor->count; i++) {
      uint32_t ordinal = cursor->ordinals[i], length1 = lex_length1(s->context->pages, ordinal);
      if (length1 == 0 || !rag_bitmap_has(s->context->filter, ordinal)) continue;
      offer(s, ordinal, lex_score(&cursor->scorer, cursor->tfs[i], length1 - 1));
    }
  }
  rag_lexical__cursor_rewind(cursor);
  s->floor -= s->floor > 0; // these chunks themselves are to be found again
  s->key_count = 0;
}

static rag_status run(search *s, rag_error *err) {
  uint32_t at = 0;
  seed_floor(s);
  for (uint32_t windows = 0; next_start(s, at, &at); windows++) {
    if (windows % DEADLINE_WINDOWS == 0) RAG_TRY(rag_lexical__check_deadline(s->context, err));
    // The filter may have led past where the lists end; then the bounds are 0, and the next start is found.
    uint32_t done = search_window(s, at);
    if (done == UINT32_MAX) break;
    at = done + 1;
  }
  return RAG_OK;
}

static rag_status top_k(lex_context *context, lex_plan *plan, rag_lexical_hit *hits, uint32_t *out_count,
                        rag_error *err) {
  const rag_lexical_query *query = context->query;
  size_t bytes = sizeof(search) + (size_t)2 * query->k * sizeof(uint64_t) + (2 * (size_t)plan->count + 1) * 4;
  search *s = rag_aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!s) return rag_fail_no_memory(err, bytes);
  memset(s, 0, offsetof(search, scores));
  memset(s->accumulators, 0, sizeof s->accumulators);
  memset(s->flags, 0, sizeof s->flags);
  s->context = context;
  s->plan = plan;
  s->should = plan->cursors + plan->musts + plan->nots;
  s->should_count = plan->count - plan->musts - plan->nots;
  s->prune = !query->exhaustive;
  s->k = query->k;
  s->keys = (uint64_t *)(void *)(s + 1);
  s->bound = (uint32_t *)(void *)(s->keys + (size_t)2 * query->k);
  s->rest = s->bound + plan->count;
  uint64_t span = (uint64_t)rag_bitmap_block_count(context->filter) * (RAG_BITMAP_BLOCK_BITS / LEX_PAGE);
  s->sparse = rag_bitmap_count(context->filter) < span * 256;
  rag_status status = run(s, err);
  if (status == RAG_OK) *out_count = finish(s, hits);
  rag_free(s);
  return status;
}

rag_status rag_lexical_search(const rag_lexical_view *view, const rag_lexical_version *version,
                              const rag_lexical_query *query, rag_lexical_hit *hits, uint32_t *out_count,
                              rag_lexical_plan *plan, rag_error *err) {
  rag_status status = RAG_OK;
  rag_bitmap *filter = NULL;
  lex_plan made = {0};
  lex_context context = {.view = view, .version = version, .query = query, .filter = version->live};
  if (query->k == 0 || query->k > RAG_INDEX_K_MAX) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "k", "k (with the offset) is %u: it must be 1 to %u", query->k,
                          RAG_INDEX_K_MAX);
  }
  context.pages = lex_core_pages(view->core);
  if (query->filter) {
    if (rag_bitmap_and(query->filter, version->live, &filter) != RAG_OK) return rag_fail_no_memory(err, 0);
    context.filter = filter;
  }
  RAG_TRY_OUT(rag_lexical__check_deadline(&context, err));
  RAG_TRY_OUT(rag_lexical__plan_make(&context, &made, err));
  uint32_t count = 0;
  if (!made.impossible) RAG_TRY_OUT(top_k(&context, &made, hits, &count, err));
  *out_count = count;
  if (plan) *plan = context.plan;
out:
  rag_lexical__plan_free(&made);
  rag_ref_drop(filter);
  return status;
}
