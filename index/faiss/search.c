// Searches: FAISS's candidates, or a scan, then exact scores.
//
// Without a filter FAISS is asked for as many candidates as the calibration says; where its lists hold too few, for more.
//
// With a filter:
//  1. Few survivors are scanned, and whenever a scan costs little more than FAISS would.
//  2. Else a filter that lets one row in s pass, and has nothing to do with the query, has its best k among the best k s
//     of all rows: FAISS is asked for half as many more, by the calibration of so many, and what does not pass is
//     dropped. Where the k-th one that passes stands within them, that is the answer: what passes and was not among the
//     candidates is behind them.
//  3. Else the filter's rows are few where the query is, and what the calibration says of near rows says nothing of far
//     ones: neither how far to look nor how many candidates codes need. Where FAISS can be told of filters it is, for
//     twice as many, with values and candidates that double; where it cannot, it is asked for more and more of all rows;
//     in both cases until the answer does not change any more.
//  4. What has cost as much as a scan becomes the scan.
#include "index/faiss/library_internal.h"

#define SCAN_ALWAYS 2048u // rows: not worth asking FAISS
#define TAKE_DEFAULT 20u  // candidates for each of k, where nothing was measured
#define PROBES_DEFAULT 8u // part of the lists looked into, where nothing was measured
#define EF_DEFAULT 128u
#define RESERVE 1.5 // times k s: the k-th survivor's place varies about it

#define FURTHER 3.0 // times, where it stands behind them

// Costs in full-precision rows scored, roughly: what passes is FAISS's for an IVF with codes and an HNSW with floats.
#define COST_CODE 0.2      // a row of a list, or of all
#define COST_LIST 0.3      // a centroid
#define COST_STEP 16.0     // rows scored for each of ef
#define SCAN_PREFERRED 2.0 // times FAISS's cost, and a scan is still the better way: it is exact

#define DEADLINE_ROWS 4096u

struct rag_faiss_scratch {
  float *distances;
  faiss_idx_t *labels;
  uint32_t *ids;    // rows that pass, best first
  uint32_t room;    // of each of these
  uint32_t *before; // the best ones of the time before
  uint32_t before_room;
  uint64_t *selector;
  uint32_t selector_words;
};

rag_status rag_faiss_scratch_create(rag_faiss_scratch **out, rag_error *err) {
  rag_faiss_scratch *scratch = rag_calloc(1, sizeof *scratch);
  if (!scratch) return rag_fail_no_memory(err, sizeof *scratch);
  *out = scratch;
  return RAG_OK;
}

static void drop_room(rag_faiss_scratch *s) {
  rag_free(s->distances);
  rag_free(s->labels);
  rag_free(s->ids);
  s->distances = NULL;
  s->labels = NULL;
  s->ids = NULL;
  s->room = 0;
}

void rag_faiss_scratch_destroy(rag_faiss_scratch *scratch) {
  if (!scratch) return;
  drop_room(scratch);
  rag_free(scratch->before);
  rag_free(scratch->selector);
  rag_free(scratch);
}

static rag_status reserve(rag_faiss_scratch *s, uint32_t take, rag_error *err) {
  if (s->room >= take) return RAG_OK;
  drop_room(s);
  s->distances = rag_alloc(take * sizeof *s->distances);
  s->labels = rag_alloc(take * sizeof *s->labels);
  s->ids = rag_alloc(take * sizeof *s->ids);
  if (!s->distances || !s->labels || !s->ids) {
    drop_room(s);
    return rag_fail_no_memory(err, take * sizeof *s->labels);
  }
  s->room = take;
  return RAG_OK;
}

static rag_status reserve_before(rag_faiss_scratch *s, uint32_t wanted, rag_error *err) {
  if (s->before_room >= wanted) return RAG_OK;
  rag_free(s->before);
  s->before_room = 0;
  s->before = rag_alloc(wanted * sizeof *s->before);
  if (!s->before) return rag_fail_no_memory(err, wanted * sizeof *s->before);
  s->before_room = wanted;
  return RAG_OK;
}

rag_status rag_faiss__deadline(uint64_t deadline_ns, rag_error *err) {
  if (deadline_ns == 0 || rag_clock_monotonic_ns() < deadline_ns) return RAG_OK;
  return rag_fail(err, RAG_DEADLINE_EXCEEDED, "the search's time ran out");
}

typedef struct search {
  const rag_faiss *engine;
  const rag_faiss_query *query;
  rag_faiss_scratch *scratch;
  rag_index_topk *top;
  rag_faiss_stats *stats;
  uint32_t wanted; // rows to answer
} search;

static bool passes(const uint64_t *filter, uint32_t row) {
  return !filter || (filter[row >> 6] >> (row & 63) & 1);
}

// ---------------------------------------------------------------------------------------------- exact scores

static rag_status score(const search *s, const uint32_t *ids, uint32_t count, rag_error *err) {
  const rag_faiss_query *q = s->query;
  const rag_faiss_meta *m = &s->engine->meta;
  rag_metric metric = (rag_metric)m->metric;
  float raw[RAG_INDEX_ROW_FETCH_MAX];
  for (uint32_t done = 0, some; done < count; done += some) {
    some = RAG_MIN(RAG_INDEX_ROW_FETCH_MAX, count - done);
    RAG_TRY(rag_index__fetch_score(&q->fetch, metric, q->vector, ids + done, some, m->dimension, raw, err));
    for (uint32_t i = 0; i < some; i++) {
      uint32_t row = ids[done + i];
      rag_index__topk_offer(s->top, q->ordinals ? q->ordinals[row] : row, rag_index__score(metric, raw[i]));
    }
    s->stats->rescored += some;
  }
  return RAG_OK;
}

static rag_status scan(const search *s, rag_error *err) {
  const uint64_t *filter = s->query->filter;
  uint32_t rows = s->engine->meta.rows, ids[RAG_INDEX_ROW_FETCH_MAX], count = 0;
  uint64_t look = s->stats->rescored + DEADLINE_ROWS;
  s->stats->way = RAG_FAISS_SCANNED;
  for (uint32_t first = 0; first < rows; first += 64) {
    uint64_t word = filter ? filter[first / 64] : UINT64_MAX;
    if (rows - first < 64) word &= (1ull << (rows - first)) - 1;
    for (; word; word &= word - 1) {
      ids[count++] = first + (uint32_t)__builtin_ctzll(word);
      if (count < RAG_INDEX_ROW_FETCH_MAX) continue;
      RAG_TRY(score(s, ids, count, err));
      count = 0;
    }
    if (s->stats->rescored < look) continue;
    look = s->stats->rescored + DEADLINE_ROWS;
    RAG_TRY(rag_faiss__deadline(s->query->deadline_ns, err));
  }
  return score(s, ids, count, err);
}

// ---------------------------------------------------------------------------------------------- settings

// Between 10 and 100 by a straight line; what lies outside is as good as at the nearer end.
static float between(uint32_t k, float at_10, float at_100) {
  float part = k <= 10 ? 0 : k >= 100 ? 1 : (float)(k - 10) / 90;
  return at_10 + (at_100 - at_10) * part;
}

bool rag_faiss_setting(const rag_faiss *engine, uint32_t k, float target_recall, uint32_t *out_value,
                       uint32_t *out_take) {
  const rag_faiss_meta *m = &engine->meta;
  const rag_faiss_rung *chosen = NULL;
  bool reached = false;
  for (uint32_t i = 0; i < m->rung_count && !reached; i++) {
    const rag_faiss_rung *rung = &m->rungs[i];
    if (rung->recall_100 < 0 && k > 10 && chosen) continue; // too narrow to say
    chosen = rung;
    reached = between(k, rung->recall_10, RAG_MAX(rung->recall_100, 0.0f)) >= target_recall;
  }
  double value, take;
  if (chosen) {
    double deeper = RAG_MAX((double)k / 100, 1.0); // what was measured ends at 100
    value = chosen->value;
    take = k <= 10 ? (double)chosen->take_10
                   : (double)between(k, (float)chosen->take_10, (float)chosen->take_100) * deeper;
    if (m->knob == RAG_FAISS_NPROBE) value *= deeper;
    if (m->knob == RAG_FAISS_EF_SEARCH) take = value *= deeper;
  } else {
    value = m->knob == RAG_FAISS_NPROBE ? m->knob_max / PROBES_DEFAULT + 1 : EF_DEFAULT;
    take = (double)k * TAKE_DEFAULT;
  }
  take = RAG_MIN(RAG_MAX(take, (double)k), (double)m->rows);
  if (m->knob == RAG_FAISS_NPROBE) value = RAG_MIN(value, (double)m->knob_max);
  if (m->knob == RAG_FAISS_EF_SEARCH) value = RAG_MIN(RAG_MAX(value, take), (double)m->rows);
  *out_value = m->knob == RAG_FAISS_NO_KNOB ? 0 : RAG_MAX((uint32_t)value, 1u);
  *out_take = (uint32_t)take;
  return reached;
}

static double cost_of(const rag_faiss_meta *m, uint32_t value, uint32_t take) {
  if (m->knob == RAG_FAISS_NPROBE) {
    return COST_LIST * m->knob_max + COST_CODE * m->rows * value / m->knob_max + take;
  }
  return m->knob == RAG_FAISS_EF_SEARCH ? RAG_MIN(COST_STEP * value, m->rows) : COST_CODE * m->rows + take;
}

// What is asked so that of the best `depth` of all rows the calibration's part is found.
static void set(const search *s, uint32_t depth, uint32_t *out_value, uint32_t *out_take) {
  const rag_faiss_query *q = s->query;
  const rag_faiss_meta *m = &s->engine->meta;
  float target = q->target_recall > 0 ? q->target_recall : RAG_FAISS_RECALL_DEFAULT;
  rag_faiss_setting(s->engine, depth, target, out_value, out_take);
  // What the caller names holds for k, and grows with what is asked beyond it.
  double deeper = (double)depth / q->k;
  if (q->take) *out_take = (uint32_t)RAG_MIN(RAG_MAX((double)q->take * deeper, (double)depth), (double)m->rows);
  if (q->value && m->knob == RAG_FAISS_NPROBE) {
    *out_value = (uint32_t)RAG_MIN(RAG_MAX(q->value * deeper, 1.0), (double)m->knob_max);
  } else if (q->value && m->knob == RAG_FAISS_EF_SEARCH) {
    *out_value = (uint32_t)RAG_MIN(RAG_MAX(q->value * deeper, (double)*out_take), (double)m->rows);
  }
}

// ---------------------------------------------------------------------------------------------- asking

// FAISS's candidates that pass, in scratch->ids; *out_count of them, and the place of the last wanted one, counted
// from 1. *out_all: FAISS gave every row there is.
static rag_status ask(const search *s, uint32_t value, uint32_t take, const uint64_t *selector, uint32_t *out_count,
                      uint32_t *out_place, bool *out_all, rag_error *err) {
  rag_faiss_scratch *scratch = s->scratch;
  const rag_faiss_meta *m = &s->engine->meta;
  RAG_TRY(rag_faiss__deadline(s->query->deadline_ns, err));
  RAG_TRY(reserve(scratch, take, err));
  RAG_TRY(rag_faiss__ask(s->engine, s->query->vector, value, take, selector, scratch->distances, scratch->labels, err));
  uint32_t count = 0, given = 0, place = 0;
  for (uint32_t i = 0; i < take; i++) {
    faiss_idx_t label = scratch->labels[i];
    if (label < 0 || label >= (faiss_idx_t)m->rows) continue;
    given++;
    uint32_t row = rag_faiss__row(m, (uint32_t)label);
    if (!passes(s->query->filter, row)) continue;
    scratch->ids[count++] = row;
    if (count == s->wanted) place = i + 1;
  }
  s->stats->asked++;
  s->stats->value = value;
  s->stats->take = take;
  s->stats->candidates += given;
  *out_count = count;
  *out_place = place;
  *out_all = given == m->rows;
  return RAG_OK;
}

// The filter over FAISS's numbers: rows that changed places for the calibration, and their bits.
static rag_status make_selector(const search *s, rag_error *err) {
  rag_faiss_scratch *scratch = s->scratch;
  const rag_faiss_meta *m = &s->engine->meta;
  uint32_t words = m->rows / 64 + 1;
  if (scratch->selector_words < words) {
    rag_free(scratch->selector);
    scratch->selector_words = 0;
    scratch->selector = rag_alloc(words * sizeof *scratch->selector);
    if (!scratch->selector) return rag_fail_no_memory(err, words * sizeof *scratch->selector);
    scratch->selector_words = words;
  }
  uint64_t *bits = scratch->selector;
  bits[words - 1] = 0;
  memcpy(bits, s->query->filter, (m->rows + 63) / 64 * sizeof *bits);
  for (uint32_t i = 0; i < m->held_count; i++) {
    uint32_t a = m->held[i], b = m->rows - m->held_count + i;
    if (passes(bits, a) == passes(bits, b)) continue;
    bits[a >> 6] ^= 1ull << (a & 63);
    bits[b >> 6] ^= 1ull << (b & 63);
  }
  return RAG_OK;
}

// Whether the best wanted ones are those of the time before; remembers them for the next.
static bool stays(const search *s, uint32_t count, uint32_t *before) {
  rag_faiss_scratch *scratch = s->scratch;
  size_t size = s->wanted * sizeof *scratch->ids;
  bool same = *before == s->wanted && count >= s->wanted && memcmp(scratch->before, scratch->ids, size) == 0;
  *before = RAG_MIN(count, s->wanted);
  memcpy(scratch->before, scratch->ids, *before * sizeof *scratch->ids);
  return same;
}

// Values that double until the answer stays. *out_done is false when a scan is the better way to go on.
static rag_status ask_selected(const search *s, double budget, uint32_t *out_count, bool *out_done, rag_error *err) {
  const rag_faiss_meta *m = &s->engine->meta;
  uint32_t value, take, before = 0, place;
  bool all;
  set(s, s->wanted, &value, &take);
  RAG_TRY(make_selector(s, err));
  s->stats->way = RAG_FAISS_SELECTED;
  for (;;) {
    take = (uint32_t)RAG_MIN(2 * (uint64_t)take, (uint64_t)m->rows);
    budget -= cost_of(m, value, take);
    if (budget < 0) return RAG_OK;
    RAG_TRY(ask(s, value, take, s->scratch->selector, out_count, &place, &all, err));
    bool enough = *out_count >= s->wanted;
    bool last = m->knob == RAG_FAISS_NO_KNOB || (m->knob == RAG_FAISS_NPROBE && value == m->knob_max);
    *out_done = (enough && last) || stays(s, *out_count, &before);
    if (*out_done || last) return RAG_OK;
    value = m->knob == RAG_FAISS_NPROBE ? RAG_MIN(value * 2, m->knob_max) : value * 2;
  }
}

// More and more of all rows. *out_done is false when a scan is the better way to go on.
static rag_status ask_deeper(const search *s, uint32_t *out_count, bool *out_done, rag_error *err) {
  const rag_faiss_meta *m = &s->engine->meta;
  const rag_faiss_query *q = s->query;
  double survivors = q->filter ? (double)q->survivors : m->rows, budget = survivors;
  double depth = q->filter ? ceil(RESERVE * s->wanted * m->rows / survivors) : s->wanted;
  for (uint32_t turn = 0, before = 0;; turn++) {
    uint32_t value, take, place;
    bool all, filtered = q->filter != NULL;
    set(s, (uint32_t)RAG_MIN(depth, (double)m->rows), &value, &take);
    double cost = cost_of(m, value, take);
    // Without a filter the first search is what was asked for, whatever it costs.
    if ((filtered || turn > 0) && cost * SCAN_PREFERRED > budget) return RAG_OK;
    budget -= cost;
    RAG_TRY(ask(s, value, take, NULL, out_count, &place, &all, err));
    bool enough = *out_count >= s->wanted;
    bool within = enough && (!filtered || (double)place <= depth);
    *out_done = all || (within && (turn == 0 || !filtered || stays(s, *out_count, &before)));
    if (*out_done) return RAG_OK;
    if (filtered && s->engine->can_select) return ask_selected(s, budget, out_count, out_done, err);
    depth = RAG_MAX(FURTHER * depth, enough ? RESERVE * place : FURTHER * (double)take);
  }
}

rag_status rag_faiss_search(const rag_faiss *engine, const rag_faiss_query *query, rag_faiss_scratch *scratch,
                            rag_index_topk *top, rag_faiss_stats *stats, rag_error *err) {
  rag_faiss_stats ignored;
  if (!stats) stats = &ignored;
  *stats = (rag_faiss_stats){0};
  uint64_t passing = query->filter ? query->survivors : engine->meta.rows;
  search s = {engine, query, scratch, top, stats, (uint32_t)RAG_MIN((uint64_t)RAG_MAX(query->k, 1u), passing)};
  if (passing == 0) return RAG_OK;
  RAG_TRY(rag_faiss__deadline(query->deadline_ns, err));
  bool done = false;
  uint32_t count = 0;
  RAG_TRY(reserve_before(scratch, s.wanted, err));
  if (passing > RAG_MAX(SCAN_ALWAYS, s.wanted)) RAG_TRY(ask_deeper(&s, &count, &done, err));
  return done ? score(&s, scratch->ids, count, err) : scan(&s, err);
}
