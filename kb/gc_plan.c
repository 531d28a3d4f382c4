// gc's plan: which commits are kept, and what kept commits must know of kept ones behind dropped ones. Reads every
// commit's record once (about 100 bytes of memory for each) and works on that; nothing is written here.
//
// Kept are: the head of every branch and every tag; of each branch, along its first parents, the keep_commits newest and
// whatever is younger than keep_days; the merge base of every pair of branch heads (RAG_KB__GC_PAIR_BRANCHES), so that
// what could be merged before a gc can be merged after it. That needs more than keeping the base: a merge finds it by
// walking parents, and those between are dropped. So a kept commit with dropped parents names the nearest kept commits
// behind them (record field `ancestors`), which merges follow and the log does not.
#include <stdlib.h>

#include "kb/rewrite_internal.h"

rag_kb__gc_commit *rag_kb__gc_find(const rag_kb__gc_plan *plan, uint32_t number) {
  size_t low = 0, high = plan->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (plan->commits[middle].number == number) return &plan->commits[middle];
    if (plan->commits[middle].number < number) low = middle + 1;
    else high = middle;
  }
  return NULL;
}

void rag_kb__gc_plan_free(rag_kb__gc_plan *plan) {
  rag_ref_drop(plan->view);
  rag_free(plan->commits);
  rag_free(plan->pool);
  *plan = (rag_kb__gc_plan){0};
}

// ---------------------------------------------------------------------------------------------- reading

static rag_status pool_reserve(rag_kb__gc_plan *plan, size_t extra, rag_error *err) {
  if (plan->pool_count + extra <= plan->pool_capacity) return RAG_OK;
  size_t capacity = RAG_MAX(plan->pool_capacity * 2, plan->pool_count + extra + 1024);
  uint32_t *pool = capacity > UINT32_MAX ? NULL : rag_realloc_array(plan->pool, capacity, sizeof *pool);
  if (pool == NULL) return rag_fail_no_memory(err, capacity * sizeof *pool);
  plan->pool = pool;
  plan->pool_capacity = capacity;
  return RAG_OK;
}

static rag_status add_record(rag_kb__gc_plan *plan, uint32_t number, const rag_kb__commit *record, rag_error *err) {
  if (plan->count == plan->capacity) {
    size_t capacity = plan->capacity ? plan->capacity * 2 : 1024;
    rag_kb__gc_commit *commits = rag_realloc_array(plan->commits, capacity, sizeof *commits);
    if (commits == NULL) return rag_fail_no_memory(err, capacity * sizeof *commits);
    plan->commits = commits;
    plan->capacity = capacity;
  }
  rag_kb__gc_commit *commit = &plan->commits[plan->count++];
  *commit = (rag_kb__gc_commit){
      .number = number, .parents = {record->parents[0], record->parents[1]}, .time_us = record->time_us};
  rag_reader r = rag_reader_of(record->ancestors);
  commit->ancestors.at = (uint32_t)plan->pool_count;
  while (rag_reader_left(&r) > 0) {
    RAG_TRY(pool_reserve(plan, 1, err));
    plan->pool[plan->pool_count++] = (uint32_t)rag_read_varint(&r);
    commit->ancestors.count++;
  }
  return RAG_OK;
}

static rag_status read_commits(rag_kb *kb, rag_kb__gc_plan *plan, rag_error *err) {
  rag_key lower, upper;
  rag_store_iter *it = NULL;
  rag_kb__key_u32(&lower, kb->id, 0);
  rag_kb__key_u32(&upper, kb->id, plan->limit);
  RAG_TRY(rag_store_iter_open(kb->store, NULL, RAG_CF_COMMIT, rag_key_slice(&lower), rag_key_slice(&upper), false, &it,
                              err));
  rag_status status = RAG_OK;
  while (rag_store_iter_next(it)) {
    rag_slice key = rag_store_iter_key(it), value = rag_store_iter_value(it);
    rag_reader r = rag_reader_of(key);
    rag_kb__commit record;
    (void)rag_read_u32be(&r);
    uint32_t number = rag_read_u32be(&r);
    uint8_t row = rag_read_u8(&r);
    rag_kb__gc_commit *last = plan->count > 0 ? &plan->commits[plan->count - 1] : NULL;
    bool good = !r.bad;
    if (good && row == 0 && (good = rag_kb__decode_commit(value, &record)))
      RAG_TRY_OUT(add_record(plan, number, &record, err));
    if (good && row == 1)
      good = last != NULL && last->number == number && rag_kb__decode_delta_head(value, &last->base, &last->depth);
    if (!good) {
      status = rag_kb__corrupt(err, RAG_CF_COMMIT, key);
      goto out;
    }
  }
  status = rag_store_iter_status(it, err);
out:
  rag_store_iter_close(it);
  return status;
}

// ---------------------------------------------------------------------------------------------- marking

static void keep(rag_kb__gc_plan *plan, uint32_t number) {
  rag_kb__gc_commit *commit = rag_kb__gc_find(plan, number);
  if (commit == NULL || commit->kept) return;
  commit->kept = true;
  plan->kept++;
}

// Down the first parents. Where an earlier walk came by with as much left to keep, its end is ours.
static void keep_window(rag_kb__gc_plan *plan, uint32_t head, uint32_t keep_commits, int64_t cutoff_us) {
  uint32_t left = keep_commits;
  for (rag_kb__gc_commit *at = rag_kb__gc_find(plan, head); at != NULL; at = rag_kb__gc_find(plan, at->parents[0])) {
    bool in_days = at->time_us >= cutoff_us; // times never grow towards the past
    if (left == 0 && !in_days) return;
    if (at->kept && at->window >= left && (at->in_days || !in_days) && (at->window > 0 || at->in_days)) return;
    keep(plan, at->number);
    at->window = RAG_MAX(at->window, left);
    at->in_days |= in_days;
    if (left > 0) left--;
  }
}

// The newest common ancestor of every two of at most 64 heads, in one pass from the newest commit to the oldest: a
// commit that both reach is the newest such one where it is met first.
static rag_status keep_bases(rag_kb__gc_plan *plan, const uint32_t *heads, uint32_t count, rag_error *err) {
  uint64_t *met = rag_calloc(count, sizeof *met); // for each head: those with which it has its base
  if (met == NULL) return rag_fail_no_memory(err, count * sizeof *met);
  for (size_t i = 0; i < plan->count; i++) plan->commits[i].heads = 0;
  for (uint32_t i = 0; i < count; i++) {
    rag_kb__gc_commit *head = rag_kb__gc_find(plan, heads[i]);
    if (head != NULL) head->heads |= UINT64_C(1) << i;
  }
  for (size_t i = plan->count; i-- > 0;) {
    rag_kb__gc_commit *commit = &plan->commits[i];
    uint64_t reach = commit->heads;
    if (reach == 0) continue;
    for (uint64_t rest = reach; rest != 0; rest &= rest - 1) {
      uint32_t head = (uint32_t)__builtin_ctzll(rest);
      uint64_t others = reach & ~(UINT64_C(1) << head) & ~met[head];
      if (others == 0) continue;
      met[head] |= others;
      keep(plan, commit->number);
    }
    for (int p = 0; p < 2; p++) {
      rag_kb__gc_commit *parent = commit->parents[p] != 0 ? rag_kb__gc_find(plan, commit->parents[p]) : NULL;
      if (parent != NULL) parent->heads |= reach;
    }
    for (uint32_t a = 0; a < commit->ancestors.count; a++) {
      rag_kb__gc_commit *ancestor = rag_kb__gc_find(plan, plan->pool[commit->ancestors.at + a]);
      if (ancestor != NULL) ancestor->heads |= reach;
    }
  }
  rag_free(met);
  return RAG_OK;
}

static int by_movement(const void *a, const void *b) {
  const rag_kb__branch *const *x = a, *const *y = b;
  if ((*x)->moved_us != (*y)->moved_us) return (*x)->moved_us > (*y)->moved_us ? -1 : 1;
  return strcmp((*x)->name, (*y)->name);
}

static rag_status keep_all_bases(rag_kb__gc_plan *plan, rag_error *err) {
  const rag_kb__view *view = plan->view;
  int main_at = rag_kb__view_find_branch(view, rag_slice_str("main"), NULL);
  const rag_kb__branch **order = rag_calloc((size_t)view->branch_count + 1, sizeof(rag_kb__branch *));
  if (order == NULL) return rag_fail_no_memory(err, view->branch_count * sizeof(rag_kb__branch *));
  uint32_t count = 0;
  for (uint32_t i = 0; i < view->branch_count; i++)
    if ((int)i != main_at) order[count++] = &view->branches[i];
  if (count > 1) qsort(order, count, sizeof *order, by_movement);
  rag_status status = RAG_OK;
  for (uint32_t at = 0; status == RAG_OK && at < count;) {
    uint32_t heads[RAG_KB__GC_PAIR_BRANCHES], in_group = 0;
    if (main_at >= 0) heads[in_group++] = view->branches[main_at].commit;
    while (at < count && in_group < RAG_KB__GC_PAIR_BRANCHES) heads[in_group++] = order[at++]->commit;
    status = keep_bases(plan, heads, in_group, err);
  }
  rag_free(order);
  return status;
}

// ---------------------------------------------------------------------------------------------- ancestors

// Merges the sets of `from` into one at the end of the pool: descending, each once, the newest RAG_KB__GC_ANCESTORS_MAX.
static rag_status merge_sets(rag_kb__gc_plan *plan, rag_kb__gc_set a, rag_kb__gc_set b, rag_kb__gc_set *out,
                             rag_error *err) {
  if (b.count == 0 || (a.at == b.at && a.count == b.count)) {
    *out = a;
    return RAG_OK;
  }
  if (a.count == 0) {
    *out = b;
    return RAG_OK;
  }
  RAG_TRY(pool_reserve(plan, RAG_KB__GC_ANCESTORS_MAX, err));
  rag_kb__gc_set set = {.at = (uint32_t)plan->pool_count};
  uint32_t i = 0, j = 0;
  while ((i < a.count || j < b.count) && set.count < RAG_KB__GC_ANCESTORS_MAX) {
    uint32_t x = i < a.count ? plan->pool[a.at + i] : 0, y = j < b.count ? plan->pool[b.at + j] : 0;
    plan->pool[plan->pool_count++] = RAG_MAX(x, y);
    set.count++;
    i += x >= y;
    j += y >= x;
  }
  *out = set;
  return RAG_OK;
}

// The nearest kept commits at or behind `number`.
static rag_status merge_nearest(rag_kb__gc_plan *plan, uint32_t number, rag_kb__gc_set *set, rag_error *err) {
  const rag_kb__gc_commit *commit = number != 0 ? rag_kb__gc_find(plan, number) : NULL;
  return commit != NULL ? merge_sets(plan, *set, commit->nearest, set, err) : RAG_OK;
}

static rag_status behind(rag_kb__gc_plan *plan, const rag_kb__gc_commit *commit, bool kept_parents, rag_kb__gc_set *set,
                         rag_error *err) {
  for (int p = 0; p < 2; p++) {
    const rag_kb__gc_commit *parent = commit->parents[p] != 0 ? rag_kb__gc_find(plan, commit->parents[p]) : NULL;
    if (parent != NULL && (kept_parents || !parent->kept)) RAG_TRY(merge_sets(plan, *set, parent->nearest, set, err));
  }
  for (uint32_t a = 0; a < commit->ancestors.count; a++)
    RAG_TRY(merge_nearest(plan, plan->pool[commit->ancestors.at + a], set, err));
  return RAG_OK;
}

static rag_status find_nearest(rag_kb__gc_plan *plan, rag_error *err) { // from the oldest: parents have lower numbers
  for (size_t i = 0; i < plan->count; i++) {
    rag_kb__gc_commit *commit = &plan->commits[i];
    if (commit->kept) {
      RAG_TRY(pool_reserve(plan, 1, err));
      commit->nearest = (rag_kb__gc_set){(uint32_t)plan->pool_count, 1};
      plan->pool[plan->pool_count++] = commit->number;
    } else {
      RAG_TRY(behind(plan, commit, true, &commit->nearest, err));
    }
  }
  return RAG_OK;
}

rag_status rag_kb__gc_ancestors(rag_kb__gc_plan *plan, const rag_kb__gc_commit *commit, rag_buf *out, bool *out_changed,
                                rag_error *err) {
  rag_kb__gc_set set = {0};
  RAG_TRY(behind(plan, commit, false, &set, err));
  *out_changed = set.count != commit->ancestors.count;
  for (uint32_t i = 0; i < set.count; i++) {
    uint32_t number = plan->pool[set.at + i];
    if (!*out_changed && number != plan->pool[commit->ancestors.at + i]) *out_changed = true;
    rag_buf_append_varint(out, number);
  }
  return rag_buf_check(out, err);
}

// ---------------------------------------------------------------------------------------------- all of it

rag_status rag_kb__gc_plan_make(rag_kb *kb, const rag_gc_options *options, rag_kb__gc_plan *out, rag_error *err) {
  rag_kb__gc_plan plan = {.view = rag_cell_get(&kb->view)};
  const rag_kb__view *view = plan.view;
  int64_t now = rag_clock_now_us(), cutoff_us = INT64_MAX;
  const int64_t day_us = INT64_C(24) * 3600 * 1000000;
  if (options->keep_days > 0)
    cutoff_us = options->keep_days > now / day_us ? INT64_MIN : now - options->keep_days * day_us;
  plan.limit = plan.checked = view->state.next_commit;
  rag_status status = RAG_OK;
  RAG_TRY_OUT(read_commits(kb, &plan, err));
  for (uint32_t i = 0; i < view->branch_count; i++) keep(&plan, view->branches[i].commit);
  for (uint32_t i = 0; i < view->tag_count; i++) keep(&plan, view->tags[i].commit);
  for (uint32_t i = 0; i < view->branch_count; i++)
    keep_window(&plan, view->branches[i].commit, options->keep_commits, cutoff_us);
  RAG_TRY_OUT(keep_all_bases(&plan, err));
  RAG_TRY_OUT(find_nearest(&plan, err));
  *out = plan;
  plan = (rag_kb__gc_plan){0};
out:
  rag_kb__gc_plan_free(&plan);
  return status;
}
