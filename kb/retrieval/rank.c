// From hits to a ranking: one side as it is, both sides fused, at most so many candidates of a group.
//
// RRF (Cormack, Clarke and Buettcher, SIGIR 2009). A chunk has the sum of weight / (k + rank) over the sides that have
// it, with ranks from 1. It looks at no score, so there is nothing to tune.
//
// Weighted. A chunk has (wv * v + wl * l) / (wv + wl), where v and l are the sides' scores scaled to 0..1, the best of
// a side always 1, and 0 on a side that does not have the chunk:
//   l = score / best                       BM25 has a true zero: what holds none of the words
//   v = 1 - (best - score) / span          span = max(best - worst, RAG_KB__SPREAD_MIN * max(|best|, |worst|))
// The usual ways were looked at and not taken:
//   min-max of both sides (Weaviate's relative score fusion, Elasticsearch's minmax): the worst of a side becomes 0
//     whatever it is, so that one of two good matches counts as none; scores that are nearly equal are torn apart to 0
//     and 1; one alone is 0 / 0. For words it also throws the true zero away (Bruch, Gai and Ingber, "An Analysis of
//     Fusion Functions for Hybrid Retrieval", 2022, find the theoretical minimum the better one).
//   mean and three standard deviations (Qdrant's DBSF): outliers no longer set the scale, but scores that are nearly
//     equal are torn apart all the same, one alone is 1/2, and the best of a side is anything from 1/2 to 1.
//   a fixed floor for vectors as well (-1 of a cosine): there is none for inner products and distances, and models put
//     most cosines into a tenth of the range, so that words alone would decide.
// So vectors are scaled by min-max, as deep as the side was asked: what lies deeper is absent and counts 0, which is
// where the worst candidate is, and there is no step between them. The least span keeps nearly equal scores near to
// each other, and one alone or all equal are 1.
//
// Invariants
//  1. Ranks are those of the order (score down, chunk up), sorted anew where the hits are not in it. So equal hits in
//     another order give the same bits.
//  2. The two terms of a chunk are added in one order, and there are no more than two.
//
// Leaves to others: which scores are good enough (min_score), and what a group is.
#include "kb/retrieval/retrieval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---------------------------------------------------------------------------------------------- order

// & and |: nobody can guess which of two candidates is first, so there is no branch to guess at.
static bool is_before(const rag_kb__candidate *a, const rag_kb__candidate *b) {
  return (a->score > b->score) | ((a->score == b->score) & (a->chunk < b->chunk));
}

static int by_score(const void *x, const void *y) {
  return is_before(x, y) ? -1 : is_before(y, x);
}

// Hits mostly come in this order, or in it but for a few equal scores: both are O(n) here. What takes more than
// ORDER_MOVES moves a candidate is left to qsort.
#define ORDER_MOVES 8u

static void order(rag_kb__candidate *candidates, uint32_t count) {
  size_t moves = (size_t)count * ORDER_MOVES;
  for (uint32_t i = 1; i < count; i++) {
    if (!is_before(&candidates[i], &candidates[i - 1])) continue;
    rag_kb__candidate moved = candidates[i];
    uint32_t at = i;
    for (; at > 0 && moves > 0 && is_before(&moved, &candidates[at - 1]); at--, moves--) {
      candidates[at] = candidates[at - 1];
    }
    candidates[at] = moved;
    if (moves > 0) continue;
    qsort(candidates, count, sizeof *candidates, by_score);
    return;
  }
}

// Two rankings as one. `b` may be the end of the room at `to`.
static void merge(const rag_kb__candidate *a, uint32_t a_count, const rag_kb__candidate *b, uint32_t b_count,
                  rag_kb__candidate *to) {
  const rag_kb__candidate *a_end = a + a_count, *b_end = b + b_count;
  while (a < a_end && b < b_end) {
    bool second = is_before(b, a);
    *to++ = *(second ? b : a);
    b += second;
    a += !second;
  }
  while (a < a_end) *to++ = *a++;
  if (to == b) return;
  while (b < b_end) *to++ = *b++;
}

// Candidates in no order as a ranking, by a merge sort of runs that are made by insertion. Returns where it is:
// `candidates` or `spare`, which has as much room.
#define RUN 8u // no run takes more than the moves that order() makes itself

static rag_kb__candidate *merge_sort(rag_kb__candidate *candidates, uint32_t count, rag_kb__candidate *spare) {
  for (uint32_t at = 0; at < count; at += RUN) order(candidates + at, RAG_MIN(RUN, count - at));
  for (size_t width = RUN; width < count; width *= 2) {
    for (size_t at = 0; at < count; at += 2 * width) {
      size_t a = RAG_MIN(width, count - at), b = RAG_MIN(width, count - at - a);
      merge(candidates + at, (uint32_t)a, candidates + at + a, (uint32_t)b, spare + at);
    }
    rag_kb__candidate *sorted = spare;
    spare = candidates;
    candidates = sorted;
  }
  return candidates;
}

void rag_kb__rank_vector(const rag_index_hit *hits, uint32_t count, rag_kb__candidate *out) {
  for (uint32_t i = 0; i < count; i++) {
    out[i] = (rag_kb__candidate){
        .chunk = hits[i].ordinal, .has_vector = true, .vector = hits[i].score, .score = (double)hits[i].score};
  }
  order(out, count);
}

void rag_kb__rank_lexical(const rag_lexical_hit *hits, uint32_t count, rag_kb__candidate *out) {
  for (uint32_t i = 0; i < count; i++) {
    out[i] = (rag_kb__candidate){
        .chunk = hits[i].ordinal, .has_lexical = true, .lexical = (float)hits[i].score, .score = hits[i].score};
  }
  order(out, count);
}

// ---------------------------------------------------------------------------------------------- fusion

rag_status rag_kb__fusion_check(const rag_fusion *fusion, rag_error *err) {
  if (fusion->method != RAG_FUSION_RRF && fusion->method != RAG_FUSION_WEIGHTED) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fusion.method", "the method is rrf or weighted");
  }
  if (fusion->k > RAG_FUSION_K_MAX) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fusion.k", "k is 1 to %u; %u is the default", RAG_FUSION_K_MAX,
                          RAG_FUSION_K_DEFAULT);
  }
  if (!fusion->has_weights) return RAG_OK;
  float vector = fusion->vector_weight, lexical = fusion->lexical_weight;
  if (!isfinite(vector) || !isfinite(lexical) || vector < 0 || lexical < 0 || (vector == 0 && lexical == 0)) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "fusion.weights",
                          "weights are finite numbers of 0 or more, and not both 0");
  }
  return RAG_OK;
}

// Scores become weight / (k + rank); the ranking is sorted.
static void score_by_rank(rag_kb__candidate *ranking, uint32_t count, double weight, uint32_t k) {
  for (uint32_t i = 0; i < count; i++) ranking[i].score = weight / ((double)k + i + 1);
}

double rag_kb__scaled(double score, double best, double worst) {
  double span = fmax(best - worst, RAG_KB__SPREAD_MIN * fmax(fabs(best), fabs(worst)));
  return span > 0 ? 1 - (best - score) / span : 1;
}

// Scores become weight * 0..1; the ranking is sorted. The difference of two finite floats is finite in a double.
static void score_by_vector(rag_kb__candidate *ranking, uint32_t count, double weight) {
  if (count == 0) return;
  double best = ranking[0].score, worst = ranking[count - 1].score;
  for (uint32_t i = 0; i < count; i++) ranking[i].score = weight * rag_kb__scaled(ranking[i].score, best, worst);
}

// The same of BM25's scores, which are above 0.
static void score_by_words(rag_kb__candidate *ranking, uint32_t count, double weight) {
  double best = count > 0 ? ranking[0].score : 0;
  for (uint32_t i = 0; i < count; i++) ranking[i].score = weight * (best > 0 ? ranking[i].score / best : 1);
}

// The place of a chunk among `count`: multiply-shift (Dietzfelbinger et al., 1997), by a random odd number, so that
// nobody can choose chunks that meet.
static uint32_t place(uint32_t chunk, uint64_t multiplier, uint32_t count) {
  uint64_t hash = (chunk * multiplier) >> 32;
  return (uint32_t)((hash * count) >> 32);
}

// What both sides have moves to the words: there has_vector is set then, and in `vector` it is no longer. A chained
// hash table over the smaller side finds it. The groups, which are not in use yet, are the table: the larger side's
// are the heads of the chains, the smaller side's are the links; both are one more than a position, 0 is the end.
static void join(rag_kb__candidate *vector, uint32_t vector_count, rag_kb__candidate *words, uint32_t words_count) {
  bool swapped = vector_count > words_count;
  rag_kb__candidate *small = swapped ? words : vector, *large = swapped ? vector : words;
  uint32_t small_count = RAG_MIN(vector_count, words_count), large_count = RAG_MAX(vector_count, words_count);
  uint64_t multiplier = rag_hash64(&large_count, sizeof large_count) | 1; // seeded
  for (uint32_t i = 0; i < small_count; i++) {
    uint32_t *head = &large[place(small[i].chunk, multiplier, large_count)].group;
    small[i].group = *head;
    *head = i + 1;
  }
  for (uint32_t i = 0; i < large_count; i++) {
    uint32_t at = large[place(large[i].chunk, multiplier, large_count)].group;
    while (at > 0 && small[at - 1].chunk != large[i].chunk) at = small[at - 1].group;
    if (at == 0) continue;
    rag_kb__candidate *v = swapped ? &large[i] : &small[at - 1], *w = swapped ? &small[at - 1] : &large[i];
    if (!v->has_vector || w->has_vector) continue; // twice in a side: not to happen, and no reason to lose the count
    v->has_vector = false;
    w->has_vector = true;
    w->vector = v->vector;
    w->score = v->score + w->score; // invariant 2
  }
}

// Two adjacent rankings become one in place: the groups say what comes from where, then each cycle of moves is gone
// through. Leaves the groups 0.
static void merge_in_place(rag_kb__candidate *candidates, uint32_t first, uint32_t count) {
  for (uint32_t i = 0, a = 0, b = first; i < count; i++) {
    bool second = b < count && (a == first || is_before(&candidates[b], &candidates[a]));
    candidates[i].group = second ? b : a;
    b += second;
    a += !second;
  }
  for (uint32_t i = 0; i < count; i++) {
    rag_kb__candidate moved = candidates[i];
    uint32_t to = i;
    for (uint32_t from = moved.group, next; from != i; to = from, from = next) {
      next = candidates[from].group;
      candidates[to] = candidates[from];
      candidates[to].group = to; // done
    }
    candidates[to] = moved;
    candidates[to].group = to;
    candidates[i].group = 0; // no cycle comes back to it
  }
}

// Sorted sides that were joined become one ranking. What one side alone has is still sorted, or nearly so: a formula
// makes no score less than one after it, but may make them equal. Only what both have is to be sorted, and the room
// that it had twice is the room to sort it in. (Sorting everything twice, by chunk to join and by score to rank, takes
// three times as long and more.)
//   vector                     | words                                 as they come
//   vector alone, both         | words alone, room for both
//   vector alone, both and words alone        , room for both
static uint32_t rank_joined(rag_kb__candidate *out, uint32_t vector_count, uint32_t words_count) {
  rag_kb__candidate *words = out + vector_count;
  uint32_t vector_alone = 0, both = 0, words_alone = 0;
  for (uint32_t i = 0; i < vector_count; i++) {
    if (out[i].has_vector) out[vector_alone++] = out[i];
  }
  rag_kb__candidate *middle = out + vector_alone;
  for (uint32_t i = 0; i < words_count; i++) {
    if (words[i].has_vector) middle[both++] = words[i];
    else words[words_alone++] = words[i];
  }
  order(out, vector_alone);
  order(words, words_alone);
  rag_kb__candidate *room = words + words_alone;
  if (merge_sort(middle, both, room) == middle) memcpy(room, middle, both * sizeof *room);
  merge(room, both, words, words_alone, middle);
  merge_in_place(out, vector_alone, vector_alone + both + words_alone);
  return vector_alone + both + words_alone;
}

void rag_kb__fuse(const rag_index_hit *vector, uint32_t vector_count, const rag_lexical_hit *lexical,
                  uint32_t lexical_count, const rag_fusion *fusion, rag_kb__candidate *out, uint32_t *out_count) {
  // + 0: a weight of -0 is one of 0, and must not show in a score.
  double vector_weight = fusion->has_weights ? (double)fusion->vector_weight + 0.0 : 1;
  double lexical_weight = fusion->has_weights ? (double)fusion->lexical_weight + 0.0 : 1;
  rag_kb__candidate *words = out + vector_count;
  rag_kb__rank_vector(vector, vector_count, out);
  rag_kb__rank_lexical(lexical, lexical_count, words);
  if (fusion->method == RAG_FUSION_RRF) {
    uint32_t k = fusion->k > 0 ? fusion->k : RAG_FUSION_K_DEFAULT;
    score_by_rank(out, vector_count, vector_weight, k);
    score_by_rank(words, lexical_count, lexical_weight, k);
  } else {
    double sum = vector_weight + lexical_weight;
    score_by_vector(out, vector_count, vector_weight / sum);
    score_by_words(words, lexical_count, lexical_weight / sum);
  }
  join(out, vector_count, words, lexical_count);
  *out_count = rank_joined(out, vector_count, lexical_count);
}

// ---------------------------------------------------------------------------------------------- groups

typedef struct group_count {
  uint32_t group;
  uint32_t count; // 0: an empty slot
} group_count;

static group_count *find_group(group_count *slots, size_t mask, uint32_t group) {
  size_t at = rag_hash64(&group, sizeof group) & mask; // seeded: nobody can choose groups that meet
  while (slots[at].count > 0 && slots[at].group != group) at = (at + 1) & mask;
  slots[at].group = group;
  return &slots[at];
}

rag_status rag_kb__group(rag_kb__candidate *candidates, uint32_t *count, uint32_t per_document, rag_error *err) {
  if (per_document == 0 || per_document >= *count) return RAG_OK;
  size_t capacity = 16;
  while (capacity < 2 * (size_t)*count) capacity *= 2;
  group_count *slots = rag_calloc(capacity, sizeof *slots);
  if (!slots) return rag_fail_no_memory(err, capacity * sizeof *slots);
  uint32_t kept = 0;
  for (uint32_t i = 0; i < *count; i++) {
    group_count *slot = find_group(slots, capacity - 1, candidates[i].group);
    if (slot->count == per_document) continue;
    slot->count++;
    candidates[kept++] = candidates[i];
  }
  *count = kept;
  rag_free(slots);
  return RAG_OK;
}
