// What is to be sealed and merged, the doing of it, and its publication.
//
// The rule. In order:
//  1. A tail of seal_rows is sealed, whole; or one that has half of the memory which segments leave to it, as appends
//     would soon be refused. A graph is worth building from graph_rows on; below it 1-bit codes are
//     scanned.
//  2. A segment of which a quarter is dead is made anew: what no head has any more goes to a history segment, what was
//     removed goes nowhere. (A history segment, when a quarter was removed.)
//  3. Of heads' segments the largest takes in all others when they have a sixth of its rows: searches then look into one
//     graph and a little beside it, and in the long run each row is written some seven times, which costs a graph or lists
//     little more than a copy. Of a kind that is built anew for it they must have a third: four times.
//  4. Segments of one kind, in the order of size, from one of them up: as long as the next is not larger than half as
//     much again as those before it together, it joins them; four and more of them are merged, and whatever is smaller.
//     So a row is merged about once for every fourfold growth of the index, and there are a few segments of each size.
//
// Threads: seal, merge, run: any, on pinned views; install: the one writer's, as append is. Two tasks that share an input
// must not run at the same time: the second one's install is RAG_ABORTED. A sealing has no inputs, so it may run beside a
// merge.
#include "index/segment/view_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define DEAD_PART 4u // one in so many
#define MERGE_COUNT 4u
#define BESIDE 6u          // segments with one row for so many of the largest join it, where it grows
#define BESIDE_ANEW 3u     // and where it is built anew
#define SEGMENTS_MAX 4096u // considered at once
#define TAIL_MIN 64u       // rows: fewer are not sealed for want of memory, however little there is

typedef struct piece {
  uint32_t at; // in the view
  uint64_t rows, present, live;
} piece;

void rag_index_task_destroy(rag_index_task *task) {
  if (task == NULL) return;
  for (uint32_t i = 0; i < task->made_count; i++) rag_ref_drop(task->made[i]);
  rag_free(task->made);
  rag_free(task->inputs);
  rag_ref_drop(task->rows[0]);
  rag_ref_drop(task->rows[1]);
  rag_ref_drop(task->erase);
  rag_ref_drop(task->view);
  rag_free(task);
}

static bool tail_is_long(const rag_index *index, const rag_index_view *view) {
  const rag_index_shared *shared = index->shared;
  uint64_t rows = rag_index_view_tail_rows(view), used = rag_index_memory_bytes(index);
  uint64_t tail = RAG_MIN(rows * flat_row_bytes(shared), used);
  if (rows >= shared->seal_rows) return true;
  if (shared->bytes_max == 0 || rows < TAIL_MIN) return false;
  uint64_t left = shared->bytes_max > used - tail ? shared->bytes_max - (used - tail) : 0;
  return tail >= left / 2;
}

bool rag_index_wants_task(const rag_index *index) {
  if (index->engine != &rag_index__segmented) return false;
  rag_index_view *view = rag_index_pin((rag_index *)index);
  bool wants = tail_is_long(index, view);
  rag_ref_drop(view);
  return wants;
}

// ---------------------------------------------------------------------------------------------- choosing

// So many rows beside the largest segment are to join it.
static uint64_t beside_due(const rag_index_segment *largest, uint64_t rows) {
  uint32_t share = largest->kind->grows ? BESIDE : BESIDE_ANEW;
  return RAG_MAX((rows + share - 1) / share, (uint64_t)largest->shared->graph_rows);
}

rag_index_backlog rag_index_backlog_of(const rag_index *index) {
  rag_index_backlog backlog = {0, 0};
  if (index->engine != &rag_index__segmented) return backlog;
  rag_index_view *head = rag_index_pin((rag_index *)index);
  const segmented_view *view = (const segmented_view *)head;
  const rag_index_segment *largest = NULL;
  uint64_t rows = 0, most = 0;
  for (uint32_t i = 0; i < view->segment_count; i++) {
    const rag_index_segment *s = view->segments[i].segment;
    uint64_t present = s->rows - view->segments[i].removed;
    if (s->history) continue;
    rows += present;
    if (largest != NULL && present <= most) continue;
    largest = s;
    most = present;
  }
  backlog.tail = (double)rag_index_view_tail_rows(head) / index->shared->seal_rows;
  if (largest != NULL) backlog.beside = (double)(rows - most) / (double)beside_due(largest, most);
  rag_ref_drop(head);
  return backlog;
}

static int by_rows(const void *a, const void *b) {
  const piece *x = a, *y = b;
  if (x->present != y->present) return x->present < y->present ? -1 : 1;
  return x->at < y->at ? -1 : 1;
}

static const segmented_view *view_of(const rag_index_task *task) {
  return (const segmented_view *)task->view;
}

static rag_status task_create(rag_index_view *view, uint32_t inputs, rag_index_task **out, rag_error *err) {
  rag_index_task *task = rag_calloc(1, sizeof *task);
  if (task != NULL) {
    task->inputs = rag_calloc((size_t)inputs + 1, sizeof *task->inputs);
    task->made = rag_calloc((size_t)RAG_MAX(inputs, 2u), sizeof *task->made);
  }
  if (task == NULL || task->inputs == NULL || task->made == NULL) {
    rag_index_task_destroy(task);
    return rag_fail_no_memory(err, sizeof *task);
  }
  task->view = rag_ref_take(view);
  *out = task;
  return RAG_OK;
}

// The rows of the inputs (and of the tail) that are present, those of heads and the others apart. A task without a row
// left has none: its inputs just go.
static rag_status choose_rows(rag_index_task *task, uint32_t tail_end, const rag_bitmap *live, rag_error *err) {
  const segmented_view *view = view_of(task);
  rag_bitmap *all = NULL, *kept = NULL, *sets[2] = {NULL, NULL};
  rag_status status = RAG_OK;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(tail_end > 0 ? view->tail->present : NULL);
  if (edit == NULL) return rag_fail_no_memory(err, 0);
  if (tail_end > 0) status = rag_bitmap_edit_remove_range(edit, tail_end, UINT32_MAX - tail_end);
  for (uint32_t i = 0; status == RAG_OK && i < task->input_count; i++)
    for (uint32_t j = 0; status == RAG_OK && j < view->segment_count; j++)
      if (memcmp(&view->segments[j].segment->id, &task->inputs[i], sizeof task->inputs[i]) == 0)
        status = rag_bitmap_edit_or(edit, view->segments[j].segment->set);
  if (status == RAG_OK) status = rag_bitmap_edit_finish(edit, &all);
  else rag_bitmap_edit_destroy(edit);
  if (status == RAG_OK) status = rag_bitmap_and(all, view->head.present, &kept);
  if (status == RAG_OK && live != NULL) {
    status = rag_bitmap_and(kept, live, &sets[0]);
    if (status == RAG_OK) status = rag_bitmap_andnot(kept, live, &sets[1]);
  } else if (status == RAG_OK) {
    sets[0] = rag_ref_take(kept);
  }
  for (int i = 0; i < 2; i++) {
    if (status == RAG_OK && sets[i] != NULL && rag_bitmap_count(sets[i]) > 0) task->rows[i] = sets[i];
    else rag_ref_drop(sets[i]);
  }
  rag_ref_drop(kept);
  rag_ref_drop(all);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// tail_end: rows of the tail below it belong to the task.
static rag_status make_task(rag_index_view *view, const piece *pieces, uint32_t count, uint32_t tail_end,
                            const rag_bitmap *live, const char *why, rag_index_task **out, rag_error *err) {
  rag_index_task *task = NULL;
  RAG_TRY(task_create(view, count, &task, err));
  task->why = why;
  for (uint32_t i = 0; i < count; i++)
    task->inputs[task->input_count++] = ((const segmented_view *)view)->segments[pieces[i].at].segment->id;
  rag_status status = choose_rows(task, tail_end, live, err);
  if (status == RAG_OK) *out = task;
  else rag_index_task_destroy(task);
  return status;
}

static rag_status list_pieces(const segmented_view *view, const rag_bitmap *live, bool history, piece **out,
                              uint32_t *out_count, rag_error *err) {
  piece *pieces = rag_calloc((size_t)view->segment_count + 1, sizeof *pieces);
  if (pieces == NULL) return rag_fail_no_memory(err, view->segment_count * sizeof *pieces);
  uint32_t count = 0;
  for (uint32_t i = 0; i < view->segment_count && count < SEGMENTS_MAX; i++) {
    const rag_index_segment *s = view->segments[i].segment;
    if (s->history != history) continue;
    piece p = {.at = i, .rows = s->rows, .present = s->rows - view->segments[i].removed};
    // Rows that are alive are present, but for a version that is being dropped: what counts is an estimate here.
    p.live = live != NULL && !history ? RAG_MIN(rag_bitmap_and_count(s->set, live), p.present) : p.present;
    pieces[count++] = p;
  }
  if (count > 1) qsort(pieces, count, sizeof *pieces, by_rows);
  *out = pieces;
  *out_count = count;
  return RAG_OK;
}

static rag_status next_of(rag_index_view *head, const rag_bitmap *live, bool history, rag_index_task **out,
                          rag_error *err) {
  piece *pieces = NULL;
  uint32_t count = 0;
  rag_status status = RAG_OK;
  RAG_TRY(list_pieces((const segmented_view *)head, live, history, &pieces, &count, err));
  for (uint32_t i = 0; i < count; i++) {
    if ((pieces[i].rows - pieces[i].live) * DEAD_PART <= pieces[i].rows) continue;
    status = make_task(head, &pieces[i], 1, 0, history ? NULL : live, "a quarter of its rows are dead", out, err);
    if (status == RAG_OK && history && (*out)->rows[0] != NULL) {
      (*out)->rows[1] = (*out)->rows[0];
      (*out)->rows[0] = NULL;
    }
    goto out;
  }
  if (!history && count > 1) {
    uint64_t beside = 0;
    for (uint32_t i = 0; i + 1 < count; i++) beside += pieces[i].present;
    const piece *largest = &pieces[count - 1];
    if (beside >= beside_due(((const segmented_view *)head)->segments[largest->at].segment, largest->present)) {
      status = make_task(head, pieces, count, 0, live, "much lies beside the largest", out, err);
      goto out;
    }
  }
  // From each piece up, until enough of a size are found; those smaller than they are come along.
  uint32_t group = 0, first = 0;
  for (; first + MERGE_COUNT <= count; first++) {
    uint64_t sum = pieces[first].present;
    for (group = first + 1; group < count && pieces[group].present <= sum + sum / 2; group++)
      sum += pieces[group].present;
    if (group - first >= MERGE_COUNT) break;
  }
  if (first + MERGE_COUNT <= count) {
    status = make_task(head, pieces, group, 0, history ? NULL : live, "segments of like size", out, err);
    if (status == RAG_OK && history) {
      (*out)->rows[1] = (*out)->rows[0];
      (*out)->rows[0] = NULL;
    }
  }
out:
  rag_free(pieces);
  return status;
}

rag_status rag_index_task_seal(rag_index *index, uint32_t end, rag_index_task **out, rag_error *err) {
  rag_status status = RAG_OK;
  *out = NULL;
  if (index->engine != &rag_index__segmented) return RAG_OK;
  rag_index_view *view = rag_index_pin(index);
  if (tail_is_long(index, view)) status = make_task(view, NULL, 0, end, NULL, "the tail is long", out, err);
  rag_ref_drop(view);
  if (status == RAG_OK && *out != NULL && (*out)->rows[0] == NULL) { // all of it from `end` on
    rag_index_task_destroy(*out);
    *out = NULL;
  }
  return status;
}

rag_status rag_index_task_merge(rag_index *index, const rag_bitmap *live, rag_index_task **out, rag_error *err) {
  *out = NULL;
  if (index->engine != &rag_index__segmented) return RAG_OK;
  rag_index_view *view = rag_index_pin(index);
  rag_status status = next_of(view, live, false, out, err);
  if (status == RAG_OK && *out == NULL) status = next_of(view, live, true, out, err);
  rag_ref_drop(view);
  return status;
}

rag_status rag_index_task_compact(rag_index *index, const rag_bitmap *live, uint32_t end, rag_index_task **out,
                                  rag_error *err) {
  *out = NULL;
  if (index->engine != &rag_index__segmented) return RAG_OK;
  rag_index_view *head = rag_index_pin(index);
  const segmented_view *view = (const segmented_view *)head;
  uint32_t kinds[2] = {0, 0}, whole = 0, count = view->segment_count;
  rag_status status = RAG_OK;
  piece *pieces = rag_calloc((size_t)count + 1, sizeof *pieces);
  if (pieces == NULL) {
    status = rag_fail_no_memory(err, count * sizeof *pieces);
    goto out;
  }
  for (uint32_t i = 0; i < count; i++) {
    const rag_index_segment *s = view->segments[i].segment;
    pieces[i].at = i;
    kinds[s->history]++;
    uint64_t alive = live == NULL ? s->rows : rag_bitmap_and_count(s->set, live);
    bool all = view->segments[i].removed == 0 && (s->history ? alive == 0 : alive == s->rows);
    whole += all && rag_segment__is_as_chosen(s);
  }
  bool done = rag_bitmap_count(view->tail->present) == 0 && kinds[0] <= 1 && kinds[1] <= 1 && whole == count;
  if (!done && rag_bitmap_count(head->present) > 0)
    status = make_task(head, pieces, count, end, live, "to be compact", out, err);
out:
  rag_free(pieces);
  rag_ref_drop(head);
  return status;
}

// Whether the file still has anything of these rows. What was erased before are zeros, and is not copied again.
static bool knows_any(const rag_index_segment *segment, const rag_bitmap *rows) {
  size_t row_bytes = rag_index__shared_row_bytes(segment->shared);
  for (uint32_t i = 0; i < segment->rows; i++) {
    if (!rag_bitmap_has(rows, segment->ordinals[i])) continue;
    const uint8_t *row = segment->vectors + i * row_bytes;
    for (size_t at = 0; at < row_bytes; at++)
      if (row[at] != 0) return true;
  }
  return false;
}

rag_status rag_index_task_erase(rag_index *index, const rag_bitmap *erase, rag_index_task **out, rag_error *err) {
  *out = NULL;
  if (index->engine != &rag_index__segmented) return RAG_OK;
  rag_index_view *head = rag_index_pin(index);
  const segmented_view *view = (const segmented_view *)head;
  rag_index_task *task = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(erase);
  rag_status status = edit != NULL ? task_create(head, view->segment_count, &task, err) : rag_fail_no_memory(err, 0);
  if (status != RAG_OK) goto out;
  task->why = "rows to be erased";
  for (uint32_t i = 0; i < view->segment_count; i++) {
    rag_bitmap *removed = NULL;
    if (view->segments[i].removed == 0) continue;
    status = rag_bitmap_andnot(view->segments[i].segment->set, head->present, &removed);
    if (status == RAG_OK) status = rag_bitmap_edit_or(edit, removed);
    rag_ref_drop(removed);
    if (status != RAG_OK) RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  }
  rag_bitmap_edit *whole = edit;
  edit = NULL;
  if (rag_bitmap_edit_finish(whole, &task->erase) != RAG_OK) RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  for (uint32_t i = 0; i < view->segment_count; i++)
    if (knows_any(view->segments[i].segment, task->erase))
      task->inputs[task->input_count++] = view->segments[i].segment->id;
  if (task->input_count > 0) {
    *out = task;
    task = NULL;
  }
out:
  rag_bitmap_edit_destroy(edit);
  rag_index_task_destroy(task);
  rag_ref_drop(head);
  return status;
}

// ---------------------------------------------------------------------------------------------- doing

static rag_status path_of(const char *dir, const rag_segment_id *id, char **out, rag_error *err) {
  size_t size = strlen(dir);
  char *path = rag_alloc(size + 1 + RAG_SEGMENT_NAME_MAX);
  if (path == NULL) return rag_fail_no_memory(err, size);
  memcpy(path, dir, size);
  path[size] = '/';
  rag_segment_name(id, path + size + 1);
  *out = path;
  return RAG_OK;
}

static void remove_file(const char *dir, const rag_segment_id *id) {
  rag_error ignored = {0};
  char *path = NULL;
  if (path_of(dir, id, &path, &ignored) != RAG_OK) return;
  if (unlink(path) != 0 && errno != ENOENT)
    rag_log(RAG_LOG_WARN, "index.segment_left", "path=%s error=\"%s\"", path, strerror(errno));
  rag_free(path);
}

void rag_index_task_remove_files(const rag_index_task *task, const char *dir) {
  for (uint32_t i = 0; i < task->made_count; i++) remove_file(dir, &task->made[i]->id);
}

static const rag_index_segment *input_of(const rag_index_task *task, uint32_t input) {
  const segmented_view *view = view_of(task);
  for (uint32_t i = 0; i < view->segment_count; i++)
    if (memcmp(&view->segments[i].segment->id, &task->inputs[input], sizeof task->inputs[input]) == 0)
      return view->segments[i].segment;
  return NULL;
}

// An input's rows that are present and not to be erased.
static rag_status still_there(const rag_index_task *task, const rag_index_segment *input, rag_bitmap **out,
                              rag_error *err) {
  rag_bitmap *present = NULL;
  rag_status status = rag_bitmap_and(input->set, task->view->present, &present);
  if (status == RAG_OK) status = rag_bitmap_andnot(present, task->erase, out);
  rag_ref_drop(present);
  return status == RAG_OK ? RAG_OK : rag_fail_no_memory(err, 0);
}

// Writes one file and opens it again, as a restart would.
static rag_status make_one(rag_index *index, rag_index_task *task, uint32_t which, const char *dir,
                           const rag_index_build_options *options, rag_error *err) {
  rag_segment_id id;
  char *path = NULL;
  rag_os_random(id.bytes, sizeof id.bytes);
  RAG_TRY(path_of(dir, &id, &path, err));
  rag_status status = RAG_OK;
  const rag_bitmap *rows = task->erase == NULL ? task->rows[which] : NULL;
  rag_bitmap *kept = NULL;
  bool history = which == 1;
  if (task->erase != NULL) {
    const rag_index_segment *input = input_of(task, which);
    status = rag_segment__copy_without(input, task->erase, path, &id, err);
    history = input->history;
    if (status == RAG_UNIMPLEMENTED) status = still_there(task, input, &kept, err);
    rows = kept;
  }
  if (status == RAG_OK && rows != NULL && rag_bitmap_count(rows) > 0) {
    segment_build build = {.shared = index->shared,
                           .view = task->view,
                           .row_set = rows,
                           .kind = rag_segment__kind_for(index->shared, rag_bitmap_count(rows)),
                           .history = history,
                           .path = path,
                           .id = id,
                           .threads = options->threads,
                           .progress = options->progress,
                           .context = options->context};
    status = rag_segment__build(&build, err);
  }
  bool none = kept != NULL && rag_bitmap_count(kept) == 0;
  rag_ref_drop(kept);
  if (none) {
    rag_free(path);
    return RAG_OK;
  }
  if (status == RAG_OK) {
    status = rag_segment__open(index->shared, path, &id, &task->made[task->made_count], err);
    if (status == RAG_OK) task->made_count++;
    else remove_file(dir, &id);
  }
  rag_free(path);
  return status;
}

rag_status rag_index_task_run(rag_index *index, rag_index_task *task, const char *dir,
                              const rag_index_build_options *options, rag_error *err) {
  rag_status status = RAG_OK;
  uint32_t count = task->erase != NULL ? task->input_count : 2;
  for (uint32_t i = 0; status == RAG_OK && i < count; i++)
    if (task->erase != NULL || task->rows[i] != NULL) status = make_one(index, task, i, dir, options, err);
  if (status == RAG_OK) return RAG_OK;
  rag_index_task_remove_files(task, dir);
  while (task->made_count > 0) rag_ref_drop(task->made[--task->made_count]);
  return status;
}

// ---------------------------------------------------------------------------------------------- publishing

static bool is_input(const rag_index_task *task, const rag_segment_id *id) {
  for (uint32_t i = 0; i < task->input_count; i++)
    if (memcmp(&task->inputs[i], id, sizeof *id) == 0) return true;
  return false;
}

// The view in which `gone` are not and `come` are, whose rows leave the tail.
static rag_status exchange(rag_index *index, const segmented_view *newest, const rag_index_task *task,
                           rag_index_segment *const *come, uint32_t come_count, rag_bitmap *present, rag_error *err) {
  segmented_entry *entries = rag_calloc((size_t)newest->segment_count + come_count + 1, sizeof *entries);
  rag_index_view *tail = rag_ref_take(newest->tail);
  segmented_view *next = NULL;
  rag_status status = RAG_OK;
  uint32_t count = 0, found = 0;
  if (entries == NULL) RAG_TRY_OUT(rag_fail_no_memory(err, newest->segment_count * sizeof *entries));
  for (uint32_t i = 0; i < newest->segment_count; i++) {
    if (task != NULL && is_input(task, &newest->segments[i].segment->id)) found++;
    else entries[count++] = newest->segments[i];
  }
  if (task != NULL && found != task->input_count)
    RAG_TRY_OUT(rag_fail(err, RAG_ABORTED, "a segment was replaced while it was being merged"));
  for (uint32_t i = 0; i < come_count; i++) {
    rag_index_view *without = NULL;
    RAG_TRY_OUT(rag_segment__tail_without(tail, come[i]->set, &without, err));
    rag_ref_drop(tail);
    tail = without;
    entries[count].segment = come[i];
    entries[count++].removed = come[i]->rows - (uint32_t)rag_bitmap_and_count(come[i]->set, present);
  }
  rag_index_view *given = tail;
  tail = NULL;
  RAG_TRY_OUT(rag_segment__view_create(index->shared, rag_ref_take(present), given, entries, count, &next, err));
  rag_cell_set(&index->newest, next);
out:
  rag_ref_drop(tail);
  rag_free(entries);
  return status;
}

rag_status rag_index_task_install(rag_index *index, const rag_index_task *task, rag_error *err) {
  rag_index_view *newest = rag_index_pin(index);
  rag_status status =
      exchange(index, (const segmented_view *)newest, task, task->made, task->made_count, newest->present, err);
  rag_ref_drop(newest);
  return status;
}

bool rag_index_task_alone(const rag_index_task *task) {
  bool alone = atomic_load_explicit(&task->view->ref.count, memory_order_relaxed) == 1;
  for (uint32_t i = 0; alone && i < task->input_count; i++)
    alone = atomic_load_explicit(&((rag_index_segment *)(uintptr_t)input_of(task, i))->ref.count,
                                 memory_order_relaxed) == 1;
  return alone;
}

rag_status rag_index_restore(rag_index *index, const char *dir, const rag_segment_id *id, const rag_bitmap *exist,
                             rag_error *err) {
  rag_index_segment *segment = NULL;
  rag_bitmap *of_it = NULL, *present = NULL;
  char *path = NULL;
  if (index->engine != &rag_index__segmented)
    return rag_fail(err, RAG_FAILED_PRECONDITION, "this index keeps all rows in memory and has no segments");
  rag_index_view *newest = rag_index_pin(index);
  rag_status status = RAG_OK;
  RAG_TRY_OUT(path_of(dir, id, &path, err));
  RAG_TRY_OUT(rag_segment__open(index->shared, path, id, &segment, err));
  const segmented_view *view = (const segmented_view *)newest;
  for (uint32_t i = 0; i < view->segment_count; i++)
    if (rag_bitmap_and_count(view->segments[i].segment->set, segment->set) > 0)
      RAG_TRY_OUT(rag_fail(err, RAG_DATA_LOSS, "%s has rows that another segment has", path));
  if (rag_bitmap_and_count(newest->present, segment->set) > 0)
    RAG_TRY_OUT(rag_fail(err, RAG_DATA_LOSS, "%s has rows that were there before", path));
  if (rag_bitmap_and(segment->set, exist, &of_it) != RAG_OK ||
      rag_bitmap_or(newest->present, of_it, &present) != RAG_OK)
    RAG_TRY_OUT(rag_fail_no_memory(err, 0));
  status = exchange(index, view, NULL, &segment, 1, present, err);
out:
  rag_ref_drop(present);
  rag_ref_drop(of_it);
  rag_ref_drop(segment);
  rag_ref_drop(newest);
  rag_free(path);
  return status;
}
