// A query's clauses as weighted cursors: what is unknown to the version is dropped, equal terms are joined, phrases and
// prefixes are gathered, and the scale of the scores is chosen.
//
// All decisions depend on the version alone, not on what the index holds besides it or on the filter: a list without a
// chunk of the version is dropped as if it did not exist, and a phrase counts in the scale where each of its terms has
// a chunk of the version, whether or not it occurs under the filter.
#include "index/lexical/lexical_internal.h"

typedef struct item {
  rag_lexical_kind kind;
  rag_lexical_occur occur;
  uint32_t clause; // the first one it came from
  uint32_t term;
  uint32_t gathered;
  double weight;
  double scaled; // W
} item;

static rag_status check_clause(const rag_lexical_clause *clause, const lex_context *context, uint32_t *terms,
                               rag_error *err) {
  bool phrase = clause->kind == RAG_LEXICAL_PHRASE;
  if ((unsigned)clause->kind > (unsigned)RAG_LEXICAL_PREFIX ||
      (unsigned)clause->occur > (unsigned)RAG_LEXICAL_MUST_NOT) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "there is no clause of kind %d that occurs as %d", (int)clause->kind,
                    (int)clause->occur);
  }
  if (!(clause->weight >= RAG_LEXICAL_WEIGHT_MIN && clause->weight <= RAG_LEXICAL_WEIGHT_MAX)) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a weight is %g: it must be %g to %g", (double)clause->weight,
                    (double)RAG_LEXICAL_WEIGHT_MIN, (double)RAG_LEXICAL_WEIGHT_MAX);
  }
  if (clause->term_count == 0 || clause->term_count > (phrase ? RAG_LEXICAL_PHRASE_MAX : 1)) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a clause has %u terms: a phrase has 1 to %u, other clauses have one",
                    clause->term_count, RAG_LEXICAL_PHRASE_MAX);
  }
  for (uint32_t i = 0; i < clause->term_count; i++) {
    if (clause->terms[i].size > 0 && clause->terms[i].size <= RAG_LEXICAL_TERM_MAX) continue;
    return rag_fail(err, RAG_INVALID_ARGUMENT, "a term of the query has %zu bytes: it must have 1 to %u",
                    clause->terms[i].size, RAG_LEXICAL_TERM_MAX);
  }
  *terms += clause->term_count;
  if (*terms > RAG_LEXICAL_TERMS_MAX) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "the query has more than %u terms: send fewer", RAG_LEXICAL_TERMS_MAX);
  }
  if (phrase && clause->term_count > 1 && !context->view->core->shared->keep_sequences &&
      !context->query->phrase_count) {
    return rag_fail(err, RAG_FAILED_PRECONDITION, "this index keeps no sequences of terms, and the query brings none");
  }
  return RAG_OK;
}

static double idf_of(const lex_context *context, uint64_t df) {
  double n = (double)rag_bitmap_count(context->version->live);
  return log1p((n - (double)df + 0.5) / ((double)df + 0.5));
}

// The item's W from its document frequency; 0: the version knows nothing of it.
static rag_status weigh(lex_context *context, lex_plan *plan, item *it, double k1, rag_error *err) {
  const rag_lexical_clause *clause = &context->query->clauses[it->clause];
  const lex_dictionary *dictionary = context->view->core->dictionary;
  uint32_t terms[RAG_LEXICAL_PHRASE_MAX];
  double idf = 0;
  RAG_TRY(rag_lexical__check_deadline(context, err));
  if (it->kind == RAG_LEXICAL_PREFIX) {
    lex_gathered *gathered = &plan->gathered[plan->gathered_count];
    RAG_TRY(rag_lexical__gather_prefix(context, clause->terms[0], gathered, err));
    it->gathered = plan->gathered_count++;
    if (gathered->count == 0) return RAG_OK;
    idf = idf_of(context, gathered->count);
  } else {
    for (uint32_t i = 0; i < clause->term_count; i++) {
      terms[i] = rag_lexical__dictionary_find(dictionary, clause->terms[i]);
      uint32_t df = terms[i] == LEX_NO_TERM ? 0 : rag_lexical__df(context->view, context->version, terms[i]);
      if (df == 0) return RAG_OK;
      idf += idf_of(context, df);
    }
  }
  if (it->kind == RAG_LEXICAL_PHRASE) {
    RAG_TRY(rag_lexical__gather_phrase(context, clause, terms, &plan->gathered[plan->gathered_count], err));
    it->gathered = plan->gathered_count++;
  }
  it->scaled = it->weight * idf * (k1 + 1);
  return RAG_OK;
}

static int by_term(const void *a, const void *b) {
  const item *x = a, *y = b;
  if (x->occur != y->occur) return x->occur < y->occur ? -1 : 1;
  if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
  if (x->kind == RAG_LEXICAL_TERM && x->term != y->term) return x->term < y->term ? -1 : 1;
  return x->clause < y->clause ? -1 : x->clause > y->clause;
}

static int by_clause(const void *a, const void *b) {
  const item *x = a, *y = b;
  return x->clause < y->clause ? -1 : x->clause > y->clause;
}

// Equal terms become one, with the sum of their weights in the order of the query.
static uint32_t join_equal(item *items, uint32_t count) {
  uint32_t kept = 0;
  if (count == 0) return 0;
  qsort(items, count, sizeof *items, by_term);
  for (uint32_t i = 1; i < count; i++) {
    item *last = &items[kept];
    if (items[i].kind == RAG_LEXICAL_TERM && last->kind == RAG_LEXICAL_TERM && items[i].occur == last->occur &&
        items[i].term == last->term) {
      last->weight += items[i].weight;
    } else {
      items[++kept] = items[i];
    }
  }
  qsort(items, kept + 1, sizeof *items, by_clause);
  return kept + 1;
}

// MUST by rising number of postings, MUST_NOT, SHOULD by falling weight; the rest of the order is fixed by where the
// lists are, and changes nothing but the time.
static int by_role(const void *a, const void *b) {
  static const int rank[] = {[RAG_LEXICAL_SHOULD] = 2, [RAG_LEXICAL_MUST] = 0, [RAG_LEXICAL_MUST_NOT] = 1};
  const lex_cursor *x = a, *y = b;
  if (x->occur != y->occur) return rank[x->occur] < rank[y->occur] ? -1 : 1;
  if (x->occur != RAG_LEXICAL_SHOULD) return x->postings < y->postings ? -1 : x->postings > y->postings;
  return x->scorer.weight > y->scorer.weight ? -1 : x->scorer.weight < y->scorer.weight;
}

static void open_cursor(lex_context *context, lex_plan *plan, const item *it, lex_cursor *cursor, uint32_t *buffer) {
  cursor->occur = it->occur;
  if (it->kind == RAG_LEXICAL_TERM) {
    rag_lexical__cursor_open(cursor, lex_core_list(context->view->core, it->term), buffer);
    uint32_t most = 0;
    for (uint32_t i = 0; i < cursor->tail_count; i++) {
      uint32_t length1 = lex_length1(context->pages, buffer[2 * LEX_BLOCK + i]);
      if (length1 == 0) continue; // newer than the pages that this search sees, and so than its version
      most = RAG_MAX(most, lex_score(&cursor->scorer, buffer[3 * LEX_BLOCK + i], length1 - 1));
    }
    cursor->tail_bound = most;
    return;
  }
  const lex_gathered *gathered = &plan->gathered[it->gathered];
  cursor->raw_ordinals = gathered->ordinals;
  cursor->raw_tfs = gathered->tfs;
  cursor->blocks = gathered->headers;
  cursor->block_count = cursor->sealed = (gathered->count + LEX_BLOCK - 1) / LEX_BLOCK;
  cursor->postings = gathered->count;
  rag_lexical__cursor_rewind(cursor);
}

static rag_status open_cursors(lex_context *context, lex_plan *plan, item *items, uint32_t count, double k1, double b,
                               rag_error *err) {
  double total = 0, live = (double)rag_bitmap_count(context->version->live);
  double mean = (double)context->version->length / live;
  int exponent = 0;
  for (uint32_t i = 0; i < count; i++) total += items[i].occur == RAG_LEXICAL_MUST_NOT ? 0 : items[i].scaled;
  frexp(total, &exponent);
  plan->scale = 30 - exponent;
  size_t words = (size_t)RAG_MAX(1u, count) * LEX_CURSOR_WORDS;
  plan->cursors = rag_calloc(RAG_MAX(1u, count), sizeof *plan->cursors);
  plan->buffers = rag_alloc(words * sizeof(uint32_t));
  if (!plan->cursors || !plan->buffers) return rag_fail_no_memory(err, words * sizeof(uint32_t));
  for (uint32_t i = 0; i < count; i++) {
    lex_cursor *cursor = &plan->cursors[plan->count];
    bool scored = items[i].occur != RAG_LEXICAL_MUST_NOT;
    cursor->scorer = (lex_scorer){.weight = scored ? (float)ldexp(items[i].scaled, plan->scale) : 0,
                                  .a = (float)(k1 * (1 - b)),
                                  .b = mean > 0 ? (float)(k1 * b / mean) : 0};
    open_cursor(context, plan, &items[i], cursor, plan->buffers + (size_t)plan->count * LEX_CURSOR_WORDS);
    cursor->bound_max = lex_bound_of(cursor->scorer.weight);
    if (cursor->occur == RAG_LEXICAL_MUST && cursor->postings == 0) plan->impossible = true;
    if (cursor->postings == 0) continue;
    plan->count++;
    plan->musts += cursor->occur == RAG_LEXICAL_MUST;
    plan->nots += cursor->occur == RAG_LEXICAL_MUST_NOT;
    context->plan.postings += cursor->postings;
    context->plan.terms += cursor->occur != RAG_LEXICAL_MUST_NOT;
  }
  if (plan->count == plan->nots) plan->impossible = true;
  qsort(plan->cursors, plan->count, sizeof *plan->cursors, by_role);
  return RAG_OK;
}

rag_status rag_lexical__plan_make(lex_context *context, lex_plan *plan, rag_error *err) {
  rag_status status = RAG_OK;
  const rag_lexical_query *query = context->query;
  double k1 = query->bm25 ? query->bm25->k1 : RAG_LEXICAL_K1_DEFAULT;
  double b = query->bm25 ? query->bm25->b : RAG_LEXICAL_B_DEFAULT;
  uint32_t terms = 0, gathered = 0, count = 0, kept = 0;
  if (!(k1 >= 0 && k1 <= 100 && b >= 0 && b <= 1)) {
    return rag_fail(err, RAG_INVALID_ARGUMENT, "k1 is %g and b is %g: they must be 0 to 100 and 0 to 1", k1, b);
  }
  for (uint32_t i = 0; i < query->clause_count; i++) {
    RAG_TRY(check_clause(&query->clauses[i], context, &terms, err));
    gathered += query->clauses[i].kind != RAG_LEXICAL_TERM;
  }
  item *items = rag_calloc(RAG_MAX(1u, query->clause_count), sizeof *items);
  plan->gathered = rag_calloc(RAG_MAX(1u, gathered), sizeof *plan->gathered);
  if (!items || !plan->gathered) {
    status = rag_fail_no_memory(err, query->clause_count * sizeof *items);
    goto out;
  }
  for (uint32_t i = 0; i < query->clause_count; i++) {
    const rag_lexical_clause *clause = &query->clauses[i];
    item it = {.kind = clause->kind, .occur = clause->occur, .clause = i, .weight = (double)clause->weight};
    if (it.kind == RAG_LEXICAL_PHRASE && clause->term_count == 1) it.kind = RAG_LEXICAL_TERM;
    if (it.kind == RAG_LEXICAL_TERM) {
      it.term = rag_lexical__dictionary_find(context->view->core->dictionary, clause->terms[0]);
      // A list may be missing where the term came with an append that failed, or whose chunks are gone.
      if (it.term == LEX_NO_TERM || !lex_core_list(context->view->core, it.term)) {
        plan->impossible |= it.occur == RAG_LEXICAL_MUST;
        continue;
      }
    }
    items[count++] = it;
  }
  if (plan->impossible) goto out;
  count = join_equal(items, count);
  for (uint32_t i = 0; i < count; i++) {
    RAG_TRY_OUT(weigh(context, plan, &items[i], k1, err));
    if (items[i].scaled > 0) items[kept++] = items[i];
    else plan->impossible |= items[i].occur == RAG_LEXICAL_MUST;
  }
  if (!plan->impossible) RAG_TRY_OUT(open_cursors(context, plan, items, kept, k1, b, err));
out:
  rag_free(items);
  return status;
}

void rag_lexical__plan_free(lex_plan *plan) {
  for (uint32_t i = 0; i < plan->gathered_count; i++) rag_lexical__gathered_free(&plan->gathered[i]);
  rag_free(plan->gathered);
  rag_free(plan->cursors);
  rag_free(plan->buffers);
}
