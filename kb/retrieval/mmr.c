// Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): a ranking in which near copies do not follow each
// other.
//
// Relevance is the candidate's score on the scale of all candidates' (rag_kb__scaled): where scores are nearly equal,
// likeness decides.
//
// Likeness of two chunks is 0 (nothing in common, or one has no vector) to 1 (the same), by rag_vector_score:
//   cosine  the score            l2  1 / (1 + distance)
//   ip      the cosine of the two, as a product without a bound would drown the relevance
// Less than 0 counts as 0: what points the other way is not more different than what has nothing in common.
//
// Work. A candidate's value only falls while more are picked, so the value that it had when it was last looked at is a
// bound, and it is brought up to date only where that bound beats the best of the round. The picks are those of the
// plain method, bit for bit, and the likenesses computed at most wanted * count.
//
// Memory: one block of 40 bytes a candidate and of one candidate for each pick; vectors are the caller's.
#include "kb/retrieval/retrieval_internal.h"

#include <math.h>

#define DEADLINE_PERIOD 1024u // likenesses between two looks at the clock: at 8,192 dimensions about a millisecond

typedef struct mmr_item {
  const float *vector; // NULL: none
  double relevance;
  double norm; // of metric ip
  double like; // to the most alike of the first `seen` picks
  uint32_t seen;
  bool picked;
} mmr_item;

typedef struct mmr_run {
  const rag_kb__mmr *mmr;
  mmr_item *items;
  uint32_t count;
  uint32_t *picks; // indexes of items
  uint32_t pick_count;
  uint32_t until_clock;
} mmr_run;

static double likeness(const rag_kb__mmr *mmr, const mmr_item *a, const mmr_item *b) {
  if (!a->vector || !b->vector) return 0;
  double score = (double)rag_vector_score(a->vector, b->vector, mmr->dimension, mmr->metric);
  if (mmr->metric == RAG_METRIC_L2) return 1 / (1 - score);
  if (mmr->metric == RAG_METRIC_IP) score = a->norm > 0 && b->norm > 0 ? score / (a->norm * b->norm) : 0;
  return fmin(fmax(score, 0), 1);
}

static rag_status check_clock(mmr_run *run, rag_error *err) {
  if (run->mmr->deadline_ns == 0 || --run->until_clock > 0) return RAG_OK;
  run->until_clock = DEADLINE_PERIOD;
  if (rag_clock_monotonic_ns() < run->mmr->deadline_ns) return RAG_OK;
  return rag_fail(err, RAG_DEADLINE_EXCEEDED, "the time for this search was over while its hits were made diverse");
}

static double value_of(const mmr_run *run, const mmr_item *item) {
  double lambda = (double)run->mmr->lambda;
  return lambda * item->relevance - (1 - lambda) * item->like;
}

// The next pick into *out: the highest value, of equal ones the first.
static rag_status pick_next(mmr_run *run, uint32_t *out, rag_error *err) {
  double best = -HUGE_VAL;
  for (uint32_t i = 0; i < run->count; i++) {
    mmr_item *item = &run->items[i];
    if (item->picked) continue;
    double value = value_of(run, item);
    while (value > best && item->seen < run->pick_count) {
      RAG_TRY(check_clock(run, err));
      item->like = fmax(item->like, likeness(run->mmr, item, &run->items[run->picks[item->seen++]]));
      value = value_of(run, item);
    }
    if (value <= best) continue;
    best = value;
    *out = i;
  }
  return RAG_OK;
}

static void prepare(mmr_run *run, const rag_kb__candidate *candidates) {
  const rag_kb__mmr *mmr = run->mmr;
  double best = candidates[0].score, worst = candidates[run->count - 1].score;
  for (uint32_t i = 0; i < run->count; i++) {
    mmr_item *item = &run->items[i];
    item->relevance = rag_kb__scaled(candidates[i].score, best, worst);
    item->vector = mmr->vector(mmr->context, candidates[i].chunk);
    if (item->vector && mmr->metric == RAG_METRIC_IP) {
      item->norm = sqrt((double)rag_vector_score(item->vector, item->vector, mmr->dimension, RAG_METRIC_IP));
    }
  }
}

rag_status rag_kb__mmr_pick(const rag_kb__mmr *mmr, rag_kb__candidate *candidates, uint32_t *count, rag_error *err) {
  if (!(mmr->lambda >= 0 && mmr->lambda <= 1)) {
    return rag_fail_field(err, RAG_INVALID_ARGUMENT, "mmr.lambda",
                          "lambda is 0 to 1: 1 is relevance alone, 0 difference alone");
  }
  RAG_ASSERT(*count <= RAG_MMR_CANDIDATES_MAX);
  uint32_t wanted = RAG_MIN(mmr->wanted, *count);
  if (wanted == 0 || mmr->lambda == 1) {
    *count = wanted;
    return RAG_OK;
  }
  rag_status status = RAG_OK;
  size_t bytes = *count * sizeof(mmr_item) + wanted * (sizeof(rag_kb__candidate) + sizeof(uint32_t));
  mmr_item *items = rag_calloc(1, bytes);
  if (!items) return rag_fail_no_memory(err, bytes);
  rag_kb__candidate *chosen = (rag_kb__candidate *)(items + *count);
  mmr_run run = {.mmr = mmr, .items = items, .count = *count, .picks = (uint32_t *)(chosen + wanted), .until_clock = 1};
  prepare(&run, candidates);
  while (run.pick_count < wanted) {
    uint32_t next = 0;
    RAG_TRY_OUT(pick_next(&run, &next, err));
    items[next].picked = true;
    chosen[run.pick_count] = candidates[next];
    run.picks[run.pick_count++] = next;
  }
  memcpy(candidates, chosen, wanted * sizeof *chosen);
  *count = wanted;
out:
  rag_free(items);
  return status;
}
