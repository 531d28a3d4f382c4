// Goal: fused rankings, groups and diverse picks are what their formulas say, bit for bit and whatever the order of
// equal hits, at the edges too.
// Method: second implementations that do it the plain way (ranks by counting, MMR by computing every likeness anew in
// every round) beside random input with many equal scores; and cases with known answers. The seed is printed;
// RAGD_TEST_SEED repeats a run.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>

#include "kb/retrieval/retrieval_internal.h"

#define SIDE_MAX 512u
#define SIDE_USUAL 64u
#define DIMENSION 8u

static uint64_t random_state;

static uint32_t random_below(uint32_t bound) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((random_state >> 33) % bound);
}

// ---------------------------------------------------------------------------------------------- fusion

static const rag_fusion rrf = {.method = RAG_FUSION_RRF};
static const rag_fusion weighted = {.method = RAG_FUSION_WEIGHTED};

static const rag_kb__candidate *find(const rag_kb__candidate *list, uint32_t count, uint32_t chunk) {
  for (uint32_t i = 0; i < count; i++) {
    if (list[i].chunk == chunk) return &list[i];
  }
  return NULL;
}

static void assert_ranking(const rag_kb__candidate *list, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    assert_true(isfinite(list[i].score) && !signbit(list[i].score));
    if (i == 0) continue;
    bool in_order =
        list[i - 1].score > list[i].score || (list[i - 1].score == list[i].score && list[i - 1].chunk < list[i].chunk);
    assert_true(in_order);
  }
}

static void assert_same(const rag_kb__candidate *a, const rag_kb__candidate *b) {
  assert_int_equal(a->chunk, b->chunk);
  assert_int_equal(a->has_vector, b->has_vector);
  assert_int_equal(a->has_lexical, b->has_lexical);
  assert_memory_equal(&a->vector, &b->vector, sizeof a->vector);
  assert_memory_equal(&a->lexical, &b->lexical, sizeof a->lexical);
  assert_memory_equal(&a->score, &b->score, sizeof a->score);
}

// A hit's rank: one more than the hits before it.
static uint32_t naive_rank(const double *scores, const uint32_t *chunks, uint32_t count, uint32_t of) {
  uint32_t rank = 1;
  for (uint32_t i = 0; i < count; i++) {
    rank += scores[i] > scores[of] || (scores[i] == scores[of] && chunks[i] < chunks[of]);
  }
  return rank;
}

static double naive_scaled(const double *scores, uint32_t count, uint32_t of) {
  double best = -DBL_MAX, worst = DBL_MAX;
  for (uint32_t i = 0; i < count; i++) {
    best = fmax(best, scores[i]);
    worst = fmin(worst, scores[i]);
  }
  double span = best - worst, least = 0.1 * fmax(fabs(best), fabs(worst));
  if (span < least) span = least;
  return span == 0 ? 1 : 1 - (best - scores[of]) / span;
}

typedef struct sides {
  rag_index_hit vector[SIDE_MAX];
  rag_lexical_hit lexical[SIDE_MAX];
  uint32_t vector_count, lexical_count;
} sides;

// At most `max` chunks, in any order.
static uint32_t random_chunks(uint32_t *out, uint32_t max) {
  uint32_t count = random_below(5) == 0 ? random_below(3) : random_below(max + 1), kept = 0;
  for (uint32_t chunk = 0; chunk < 2 * max && kept < count; chunk++) {
    if (random_below(2)) out[kept++] = chunk * (UINT32_MAX / (2 * max)); // up to near the last u32
  }
  for (uint32_t i = kept; i > 1; i--) {
    uint32_t with = random_below(i), moved = out[i - 1];
    out[i - 1] = out[with];
    out[with] = moved;
  }
  return kept;
}

static void random_sides(sides *out, uint32_t max) {
  uint32_t chunks[SIDE_MAX];
  uint32_t levels = 1 + random_below(20); // few: many equal scores
  out->vector_count = random_chunks(chunks, max);
  for (uint32_t i = 0; i < out->vector_count; i++) {
    out->vector[i] = (rag_index_hit){chunks[i], (float)random_below(levels) / 7.0f - 1.0f};
  }
  out->lexical_count = random_chunks(chunks, max);
  for (uint32_t i = 0; i < out->lexical_count; i++) {
    out->lexical[i] = (rag_lexical_hit){(1 + random_below(levels)) * 0.3, chunks[i]};
  }
}

static rag_fusion random_fusion(void) {
  rag_fusion fusion = {.method = random_below(2) ? RAG_FUSION_RRF : RAG_FUSION_WEIGHTED, .k = random_below(3) * 40};
  if (random_below(2)) {
    fusion.has_weights = true;
    fusion.vector_weight = (float)random_below(4) / 3.0f;
    fusion.lexical_weight = fusion.vector_weight == 0 ? 0.5f : (float)random_below(4);
  }
  return fusion;
}

static double naive_score(const sides *from, const rag_fusion *fusion, uint32_t chunk, bool *has_vector,
                          bool *has_lexical) {
  double scores[SIDE_MAX], sum[2] = {0, 0};
  uint32_t chunks[SIDE_MAX];
  double weights[2] = {fusion->has_weights ? (double)fusion->vector_weight : 1,
                       fusion->has_weights ? (double)fusion->lexical_weight : 1};
  *has_vector = *has_lexical = false;
  for (int side = 0; side < 2; side++) {
    uint32_t count = side == 0 ? from->vector_count : from->lexical_count, of = UINT32_MAX;
    double best = 0;
    for (uint32_t i = 0; i < count; i++) {
      scores[i] = side == 0 ? (double)from->vector[i].score : from->lexical[i].score;
      chunks[i] = side == 0 ? from->vector[i].ordinal : from->lexical[i].ordinal;
      if (chunks[i] == chunk) of = i;
      best = fmax(best, scores[i]);
    }
    if (of == UINT32_MAX) continue;
    *(side == 0 ? has_vector : has_lexical) = true;
    if (fusion->method == RAG_FUSION_RRF) {
      sum[side] = weights[side] / (double)((fusion->k ? fusion->k : 60) + naive_rank(scores, chunks, count, of));
    } else {
      double scaled = side == 0 ? naive_scaled(scores, count, of) : scores[of] / best;
      sum[side] = weights[side] / (weights[0] + weights[1]) * scaled;
    }
  }
  return sum[0] + sum[1];
}

static void assert_fused(const sides *from, const rag_fusion *fusion) {
  rag_kb__candidate out[2 * SIDE_MAX];
  uint32_t count = UINT32_MAX, members = from->vector_count;
  rag_kb__fuse(from->vector, from->vector_count, from->lexical, from->lexical_count, fusion, out, &count);
  for (uint32_t i = 0; i < from->lexical_count; i++) {
    bool both = false;
    for (uint32_t j = 0; j < from->vector_count; j++) both |= from->vector[j].ordinal == from->lexical[i].ordinal;
    members += !both;
    const rag_kb__candidate *found = find(out, count, from->lexical[i].ordinal);
    assert_non_null(found);
    assert_true(found->lexical == (float)from->lexical[i].score);
  }
  for (uint32_t i = 0; i < from->vector_count; i++) {
    const rag_kb__candidate *found = find(out, count, from->vector[i].ordinal);
    assert_non_null(found);
    assert_true(found->vector == from->vector[i].score);
  }
  assert_int_equal(count, members);
  assert_ranking(out, count);
  for (uint32_t i = 0; i < count; i++) {
    bool has_vector, has_lexical;
    double score = naive_score(from, fusion, out[i].chunk, &has_vector, &has_lexical);
    assert_memory_equal(&out[i].score, &score, sizeof score);
    assert_int_equal(out[i].has_vector, has_vector);
    assert_int_equal(out[i].has_lexical, has_lexical);
    assert_int_equal(out[i].group, 0);
    if (!has_vector) assert_true(out[i].vector == 0);
    if (!has_lexical) assert_true(out[i].lexical == 0);
  }
}

static void test_fuse_random(void **state) {
  RAG_UNUSED(state);
  for (uint32_t round = 0; round < 3000; round++) {
    sides from;
    random_sides(&from, SIDE_USUAL);
    rag_fusion fusion = random_fusion();
    assert_fused(&from, &fusion);
  }
}

static int vector_down(const void *a, const void *b) {
  float x = ((const rag_index_hit *)a)->score, y = ((const rag_index_hit *)b)->score;
  return x < y ? 1 : -(x > y);
}

static int lexical_down(const void *a, const void *b) {
  double x = ((const rag_lexical_hit *)a)->score, y = ((const rag_lexical_hit *)b)->score;
  return x < y ? 1 : -(x > y);
}

// Deep sides, as the indexes give them: best first. Equal hits are in any order, those of a few levels in long runs.
static void test_fuse_ties(void **state) {
  RAG_UNUSED(state);
  for (uint32_t round = 0; round < 100; round++) {
    sides from;
    random_sides(&from, SIDE_MAX);
    bool distinct = round % 3 == 0; // but for the one or other pair
    for (uint32_t i = 0; distinct && i < from.vector_count; i++) {
      from.vector[i].score = (float)random_below(1u << 16) / 65536.0f;
    }
    for (uint32_t i = 0; distinct && i < from.lexical_count; i++) {
      from.lexical[i].score = (1 + random_below(1u << 16)) * 0x1p-12;
    }
    qsort(from.vector, from.vector_count, sizeof from.vector[0], vector_down);
    qsort(from.lexical, from.lexical_count, sizeof from.lexical[0], lexical_down);
    rag_fusion fusion = random_fusion();
    assert_fused(&from, &fusion);
  }
}

// The same hits in any order, equal ones too: the same bits.
static void test_fuse_order(void **state) {
  RAG_UNUSED(state);
  for (uint32_t round = 0; round < 500; round++) {
    sides from;
    rag_kb__candidate first[2 * SIDE_MAX], second[2 * SIDE_MAX];
    uint32_t first_count, second_count;
    const rag_fusion *fusion = round % 2 ? &rrf : &weighted;
    random_sides(&from, SIDE_USUAL);
    rag_kb__fuse(from.vector, from.vector_count, from.lexical, from.lexical_count, fusion, first, &first_count);
    for (uint32_t i = from.vector_count; i > 1; i--) {
      uint32_t with = random_below(i);
      rag_index_hit moved = from.vector[i - 1];
      from.vector[i - 1] = from.vector[with];
      from.vector[with] = moved;
    }
    for (uint32_t i = from.lexical_count; i > 1; i--) {
      uint32_t with = random_below(i);
      rag_lexical_hit moved = from.lexical[i - 1];
      from.lexical[i - 1] = from.lexical[with];
      from.lexical[with] = moved;
    }
    rag_kb__fuse(from.vector, from.vector_count, from.lexical, from.lexical_count, fusion, second, &second_count);
    assert_int_equal(first_count, second_count);
    for (uint32_t i = 0; i < first_count; i++) assert_same(&first[i], &second[i]);
  }
}

static void test_fuse_known(void **state) {
  RAG_UNUSED(state);
  const rag_index_hit vector[] = {{7, 0.9f}, {3, 0.5f}, {9, 0.1f}};
  const rag_lexical_hit lexical[] = {{8.0, 9}, {2.0, 5}};
  rag_kb__candidate out[5];
  uint32_t count;
  rag_kb__fuse(vector, 3, lexical, 2, &rrf, out, &count);
  assert_int_equal(count, 4);
  assert_int_equal(out[0].chunk, 9);
  assert_true(fabs(out[0].score - (1.0 / 63 + 1.0 / 61)) < 1e-15);
  assert_int_equal(out[1].chunk, 7);
  assert_int_equal(out[2].chunk, 3); // rank 2 of its side, as chunk 5: the lower number
  assert_int_equal(out[3].chunk, 5);
  assert_true(out[2].score == out[3].score);

  rag_kb__fuse(vector, 3, lexical, 2, &weighted, out, &count);
  assert_int_equal(out[0].chunk, 7); // 0.5 of the one, as chunk 9 of the other
  assert_int_equal(out[1].chunk, 9);
  assert_true(out[0].score == 0.5 && out[1].score == 0.5);
  assert_int_equal(out[2].chunk, 3);
  assert_true(fabs(out[2].score - 0.25) < 1e-7);
  assert_int_equal(out[3].chunk, 5);
  assert_true(out[3].score == 0.125);

  const rag_fusion words = {.method = RAG_FUSION_WEIGHTED, .has_weights = true, .lexical_weight = 2.0f};
  rag_kb__fuse(vector, 3, lexical, 2, &words, out, &count);
  assert_true(out[0].chunk == 9 && out[0].score == 1 && out[1].chunk == 5 && out[1].score == 0.25);
  assert_true(out[2].chunk == 3 && out[2].score == 0 && out[3].chunk == 7 && out[3].score == 0);
}

static void test_fuse_edges(void **state) {
  RAG_UNUSED(state);
  rag_kb__candidate out[4];
  uint32_t count = 9;
  const rag_fusion *fusions[] = {&rrf, &weighted};
  for (int f = 0; f < 2; f++) {
    count = 9;
    rag_kb__fuse(NULL, 0, NULL, 0, fusions[f], out, &count);
    assert_int_equal(count, 0);
  }
  // One hit is the best of its side, whatever its score; so are all that are equal.
  const rag_index_hit negative[] = {{4, -3.0f}, {2, -3.0f}};
  rag_kb__fuse(negative, 1, NULL, 0, &weighted, out, &count);
  assert_true(count == 1 && out[0].score == 0.5);
  rag_kb__fuse(negative, 2, NULL, 0, &weighted, out, &count);
  assert_true(count == 2 && out[0].chunk == 2 && out[0].score == 0.5 && out[1].score == 0.5);
  const rag_index_hit zero[] = {{1, 0.0f}, {2, 0.0f}};
  rag_kb__fuse(zero, 2, NULL, 0, &weighted, out, &count);
  assert_true(out[0].score == 0.5 && out[1].score == 0.5);
  const rag_lexical_hit word = {0.001, 4};
  rag_kb__fuse(NULL, 0, &word, 1, &weighted, out, &count);
  assert_true(count == 1 && out[0].score == 0.5 && !out[0].has_vector && out[0].has_lexical);
  // Nearly equal ones stay so: a hundredth apart is a tenth of the scale.
  const rag_index_hit near[] = {{1, 0.80f}, {2, 0.792f}};
  rag_kb__fuse(near, 2, NULL, 0, &weighted, out, &count);
  assert_true(out[0].score == 0.5 && fabs(out[1].score - 0.45) < 1e-5);
  // The largest scores that there are.
  const rag_index_hit large[] = {{1, FLT_MAX}, {2, 0.0f}, {3, -FLT_MAX}};
  rag_kb__fuse(large, 3, &word, 1, &weighted, out, &count);
  assert_int_equal(count, 4);
  assert_ranking(out, count);
  assert_true(find(out, 4, 1)->score == 0.5 && find(out, 4, 2)->score == 0.25 && find(out, 4, 3)->score == 0);
  // A weight of -0 is one of 0.
  const rag_fusion minus = {.method = RAG_FUSION_RRF, .has_weights = true, .vector_weight = -0.0f, .lexical_weight = 1};
  rag_kb__fuse(negative, 2, NULL, 0, &minus, out, &count);
  assert_ranking(out, count);
}

static void test_fuse_many(void **state) {
  RAG_UNUSED(state);
  const uint32_t n = RAG_INDEX_K_MAX;
  rag_index_hit *vector = rag_alloc(n * sizeof *vector);
  rag_lexical_hit *lexical = rag_alloc(n * sizeof *lexical);
  rag_kb__candidate *out = rag_alloc(2 * n * sizeof *out);
  for (uint32_t i = 0; i < n; i++) {
    vector[i] = (rag_index_hit){i * 3, (float)random_below(1u << 20) / (1u << 20)};
    lexical[i] = (rag_lexical_hit){n - i, i * 2};
  }
  qsort(vector, n, sizeof *vector, vector_down);
  uint32_t count;
  rag_kb__fuse(vector, n, lexical, n, &rrf, out, &count);
  assert_int_equal(count, 2 * n - (2 * n - 1) / 6 - 1); // multiples of 6 below 2 n are on both sides
  assert_ranking(out, count);
  double sum = 0, expected = 0;
  for (uint32_t i = 0; i < count; i++) sum += out[i].score;
  for (uint32_t i = 0; i < n; i++) expected += 2.0 / (61 + i);
  assert_true(fabs(sum - expected) < 1e-9);
  rag_free(vector);
  rag_free(lexical);
  rag_free(out);
}

static void test_one_side(void **state) {
  RAG_UNUSED(state);
  const rag_index_hit vector[] = {{9, 0.5f}, {3, 0.5f}, {1, -2.0f}, {8, 0.75f}};
  const rag_lexical_hit lexical[] = {{3.5, 2}, {1.25, 1}};
  rag_kb__candidate out[4];
  rag_kb__rank_vector(vector, 4, out);
  const uint32_t expected[] = {8, 3, 9, 1};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(out[i].chunk, expected[i]);
    assert_true(out[i].has_vector && !out[i].has_lexical && out[i].score == (double)out[i].vector);
  }
  rag_kb__rank_lexical(lexical, 2, out);
  assert_true(out[0].chunk == 2 && out[0].score == 3.5 && out[0].lexical == 3.5f && !out[0].has_vector);
  assert_true(out[1].chunk == 1 && out[1].has_lexical);
}

static void test_fusion_check(void **state) {
  RAG_UNUSED(state);
  const struct {
    rag_fusion fusion;
    const char *field; // NULL: fine
  } cases[] = {
      {{.method = RAG_FUSION_RRF}, NULL},
      {{.method = RAG_FUSION_WEIGHTED, .k = RAG_FUSION_K_MAX}, NULL},
      {{.k = RAG_FUSION_K_MAX + 1}, "fusion.k"},
      {{.method = (rag_fusion_method)2}, "fusion.method"},
      {{.has_weights = true}, "fusion.weights"},
      {{.has_weights = true, .vector_weight = -0.0f}, "fusion.weights"},
      {{.has_weights = true, .vector_weight = 1}, NULL},
      {{.has_weights = true, .lexical_weight = FLT_MAX}, NULL},
      {{.has_weights = true, .vector_weight = 2, .lexical_weight = -1e-30f}, "fusion.weights"},
      {{.has_weights = true, .vector_weight = NAN, .lexical_weight = 1}, "fusion.weights"},
      {{.has_weights = true, .vector_weight = 1, .lexical_weight = INFINITY}, "fusion.weights"},
      {{.has_weights = false, .vector_weight = NAN}, NULL},
  };
  for (size_t i = 0; i < RAG_COUNT_OF(cases); i++) {
    rag_error err = {0};
    rag_status status = rag_kb__fusion_check(&cases[i].fusion, &err);
    assert_int_equal(status, cases[i].field ? RAG_INVALID_ARGUMENT : RAG_OK);
    if (cases[i].field) assert_string_equal(err.field, cases[i].field);
  }
}

// ---------------------------------------------------------------------------------------------- groups

static void test_group(void **state) {
  RAG_UNUSED(state);
  for (uint32_t round = 0; round < 1000; round++) {
    rag_kb__candidate list[100], expected[100];
    uint32_t count = random_below(101), per = random_below(round % 3 ? 4 : 200), kept = 0,
             groups = 1 + random_below(40);
    for (uint32_t i = 0; i < count; i++) {
      list[i] = (rag_kb__candidate){.chunk = i, .group = UINT32_MAX - random_below(groups) * 7, .score = count - i};
      if (random_below(9) == 0) list[i].group = 0;
      uint32_t before = 0;
      for (uint32_t j = 0; j < i; j++) before += list[j].group == list[i].group;
      if (per == 0 || before < per) expected[kept++] = list[i];
    }
    assert_int_equal(rag_kb__group(list, &count, per, NULL), RAG_OK);
    assert_int_equal(count, kept);
    for (uint32_t i = 0; i < kept; i++) assert_int_equal(list[i].chunk, expected[i].chunk);
  }
}

static void test_group_no_memory(void **state) {
  RAG_UNUSED(state);
  rag_kb__candidate list[3] = {{.chunk = 1}, {.chunk = 2}, {.chunk = 3}};
  uint32_t count = 3;
  rag_alloc_fail_after(1);
  rag_status status = rag_kb__group(list, &count, 1, NULL);
  rag_alloc_fail_after(0);
  assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
  assert_true(count == 3 && list[1].chunk == 2);
  assert_int_equal(rag_kb__group(list, &count, 1, NULL), RAG_OK);
  assert_true(count == 1 && list[0].chunk == 1);
}

// ---------------------------------------------------------------------------------------------- diversity

typedef struct vectors {
  float rows[128][DIMENSION];
  bool missing[128];
  uint32_t asked[128];
} vectors;

static const float *vector_of(void *context, uint32_t chunk) {
  vectors *from = context;
  assert_true(chunk < 128);
  from->asked[chunk]++;
  return from->missing[chunk] ? NULL : from->rows[chunk];
}

static void random_vectors(vectors *out, rag_metric metric) {
  memset(out, 0, sizeof *out);
  uint32_t kinds = 1 + random_below(40);
  for (uint32_t i = 0; i < 128; i++) {
    if (i >= kinds) memcpy(out->rows[i], out->rows[random_below(kinds)], sizeof out->rows[i]); // copies
    else
      for (uint32_t d = 0; d < DIMENSION; d++) out->rows[i][d] = (float)random_below(21) - 10.0f;
    if (i < kinds) out->rows[i][0] += 0.5f; // never zero
    if (i < kinds && metric == RAG_METRIC_COSINE) rag_vector_normalize(out->rows[i], DIMENSION);
    out->missing[i] = random_below(10) == 0;
  }
}

static double naive_likeness(const vectors *from, rag_metric metric, uint32_t a, uint32_t b) {
  if (from->missing[a] || from->missing[b]) return 0;
  const float *x = from->rows[a], *y = from->rows[b];
  double score = (double)rag_vector_score(x, y, DIMENSION, metric);
  if (metric == RAG_METRIC_L2) return 1 / (1 - score);
  if (metric == RAG_METRIC_IP) {
    double norms = sqrt((double)rag_vector_score(x, x, DIMENSION, metric)) *
                   sqrt((double)rag_vector_score(y, y, DIMENSION, metric));
    score /= norms;
  }
  return score < 0 ? 0 : score > 1 ? 1 : score;
}

static uint32_t naive_mmr(const rag_kb__mmr *mmr, const rag_kb__candidate *list, uint32_t count, uint32_t *picks) {
  double scores[128], lambda = (double)mmr->lambda;
  bool picked[128] = {false};
  uint32_t pick_count = 0;
  for (uint32_t i = 0; i < count; i++) scores[i] = list[i].score;
  for (; pick_count < mmr->wanted && pick_count < count; pick_count++) {
    double best = -HUGE_VAL;
    for (uint32_t i = 0; i < count; i++) {
      double most = 0;
      for (uint32_t p = 0; p < pick_count; p++) {
        most = fmax(most, naive_likeness(mmr->context, mmr->metric, list[i].chunk, list[picks[p]].chunk));
      }
      double value = lambda * naive_scaled(scores, count, i) - (1 - lambda) * most;
      if (picked[i] || value <= best) continue;
      best = value;
      picks[pick_count] = i;
    }
    picked[picks[pick_count]] = true;
  }
  return pick_count;
}

static void test_mmr_random(void **state) {
  RAG_UNUSED(state);
  vectors *from = rag_alloc(sizeof *from);
  for (uint32_t round = 0; round < 600; round++) {
    rag_metric metric = (rag_metric)(round % 3);
    random_vectors(from, metric);
    rag_kb__candidate list[128], before[128];
    uint32_t count = random_below(round % 10 ? 40 : 129), levels = 1 + random_below(50), picks[128];
    double score = 2;
    for (uint32_t i = 0; i < count; i++) {
      if (random_below(3)) score -= random_below(levels) * 0.01;
      list[i] = before[i] = (rag_kb__candidate){.chunk = i * 37 % 128, .group = i, .score = score};
    }
    rag_kb__mmr mmr = {.lambda = (float)random_below(11) / 10.0f,
                       .wanted = random_below(count + 3),
                       .metric = metric,
                       .dimension = DIMENSION,
                       .vector = vector_of,
                       .context = from};
    uint32_t expected = naive_mmr(&mmr, list, count, picks);
    memset(from->asked, 0, sizeof from->asked);
    assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_OK);
    assert_int_equal(count, expected);
    for (uint32_t i = 0; i < count; i++) {
      assert_int_equal(list[i].group, picks[i]);
      assert_same(&list[i], &before[picks[i]]);
    }
    for (uint32_t i = 0; i < 128; i++) assert_true(from->asked[i] <= 1);
  }
  rag_free(from);
}

// Three copies of the best and one other: the other comes second, the copies in their order.
static void test_mmr_known(void **state) {
  RAG_UNUSED(state);
  vectors *from = rag_calloc(1, sizeof *from);
  for (uint32_t i = 0; i < 4; i++) from->rows[i][i == 3] = 1;
  const rag_kb__candidate ranking[4] = {
      {.chunk = 0, .score = 1.0}, {.chunk = 1, .score = 0.9}, {.chunk = 2, .score = 0.8}, {.chunk = 3, .score = 0.5}};
  rag_kb__mmr mmr = {.wanted = 4, .dimension = DIMENSION, .vector = vector_of, .context = from};
  const struct {
    float lambda;
    uint32_t order[4];
  } cases[] = {{1.0f, {0, 1, 2, 3}}, {0.5f, {0, 3, 1, 2}}, {0.0f, {0, 3, 1, 2}}, {0.9f, {0, 1, 2, 3}}};
  for (size_t c = 0; c < RAG_COUNT_OF(cases); c++) {
    rag_kb__candidate list[4];
    memcpy(list, ranking, sizeof list);
    uint32_t count = 4;
    mmr.lambda = cases[c].lambda;
    assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_OK);
    assert_int_equal(count, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(list[i].chunk, cases[c].order[i]);
    assert_true(list[0].score == 1.0); // still the relevance
  }
  // The best one is first even where relevance counts nothing; opposite is not more different than unrelated.
  from->rows[1][0] = -1;
  rag_kb__candidate list[4];
  memcpy(list, ranking, sizeof list);
  uint32_t count = 4;
  mmr.lambda = 0;
  mmr.wanted = 2;
  assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_OK);
  assert_true(count == 2 && list[0].chunk == 0 && list[1].chunk == 1);
  rag_free(from);
}

static void test_mmr_edges(void **state) {
  RAG_UNUSED(state);
  vectors *from = rag_calloc(1, sizeof *from);
  rag_kb__candidate list[3] = {{.chunk = 5, .score = 1}, {.chunk = 6, .score = 1}, {.chunk = 7, .score = 1}};
  rag_kb__mmr mmr = {.lambda = 0.5f, .wanted = 3, .dimension = DIMENSION, .vector = vector_of, .context = from};
  uint32_t count = 0;
  assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_OK);
  assert_int_equal(count, 0);
  count = 3; // vectors of zero, equal scores: the ranking stays
  for (uint32_t m = 0; m < 3; m++) {
    mmr.metric = (rag_metric)m;
    assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_OK);
    assert_true(count == 3 && list[0].chunk == 5 && list[1].chunk == 6 && list[2].chunk == 7);
  }
  mmr.metric = RAG_METRIC_IP; // products over the largest float
  for (uint32_t i = 5; i < 8; i++) from->rows[i][0] = i == 6 ? -FLT_MAX : FLT_MAX;
  assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_OK);
  assert_true(list[0].chunk == 5 && list[1].chunk == 6 && list[2].chunk == 7);
  const float bad[] = {-0.1f, 1.1f, NAN, INFINITY};
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    rag_error err = {0};
    mmr.lambda = bad[i];
    assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, &err), RAG_INVALID_ARGUMENT);
    assert_string_equal(err.field, "mmr.lambda");
  }
  mmr.lambda = 0.5f;
  mmr.deadline_ns = 1; // long ago
  assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_DEADLINE_EXCEEDED);
  mmr.deadline_ns = 0;
  rag_alloc_fail_after(1);
  assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_RESOURCE_EXHAUSTED);
  rag_alloc_fail_after(0);
  assert_true(count == 3 && list[0].chunk == 5 && list[1].chunk == 6 && list[2].chunk == 7);
  mmr.wanted = 0;
  assert_int_equal(rag_kb__mmr_pick(&mmr, list, &count, NULL), RAG_OK);
  assert_int_equal(count, 0);
  rag_free(from);
}

int main(void) {
  const char *seed = getenv("RAGD_TEST_SEED");
  random_state = seed ? strtoull(seed, NULL, 10) : rag_clock_monotonic_ns();
  printf("RAGD_TEST_SEED=%llu\n", (unsigned long long)random_state);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fuse_random),     cmocka_unit_test(test_fuse_ties),    cmocka_unit_test(test_fuse_order),
      cmocka_unit_test(test_fuse_known),      cmocka_unit_test(test_fuse_edges),   cmocka_unit_test(test_fuse_many),
      cmocka_unit_test(test_one_side),        cmocka_unit_test(test_fusion_check), cmocka_unit_test(test_group),
      cmocka_unit_test(test_group_no_memory), cmocka_unit_test(test_mmr_random),   cmocka_unit_test(test_mmr_known),
      cmocka_unit_test(test_mmr_edges),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
