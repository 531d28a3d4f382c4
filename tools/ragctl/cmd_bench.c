// ragctl bench: recall and latency of vector search on a knowledge base, against exact search, over the settings that
// its index has.
//
// Three passes over the same queries, all of one commit:
//   1. exact   each query once with "exact": the truth is the score of its k-th hit. What scores no lower counts as
//              found, so that of equal documents it does not matter which one is.
//   2. scout   each setting once: its recall. The ladder of a knob ends where wider finds nothing more.
//   3. rounds  latency: every setting query by query, beginning with another one each time, so that what disturbs the
//              machine, and what one search leaves in the caches for the next, hits all alike. Of each query the best
//              of the rounds counts.
// Latency is what the server says that a search took (plan.vector_us, took_us), so the way there is not in it.
//
// SIGINT ends the pass at hand after the search at hand; rounds that are complete are reported.
#include "tools/ragctl/bench.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_INTERRUPTED 130 // as a shell says it of SIGINT
#define LADDER_RUNGS_MAX 14u
#define LADDER_FIRST 8u    // a walk is never narrower than k; for smaller ones the rungs would be too close
#define LADDER_GAIN 0.0005 // what two rungs must find more for the ladder to go on
#define LADDER_IDLE 0.005  // a rung whose candidates differ by less does nothing

// ---------------------------------------------------------------------------------------------- stopping

static volatile sig_atomic_t stop_asked;

static void on_interrupt(int number) {
  RAG_UNUSED(number);
  stop_asked = 1;
}

bool bench_stopped(void) {
  return stop_asked != 0;
}

static void catch_interrupts(void) { // the first; a second one ends the program at once
  struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
  struct sigaction before;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler == SIG_IGN) return; // as of a shell's background jobs
  sigaction(SIGINT, &action, NULL);
}

// ---------------------------------------------------------------------------------------------- what is measured

static int get(ctl_session *ctl, const char *rpc, const char *name, const char *value, rag_json *out) {
  rag_buf body = {0};
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  if (name) ctl_body_string(&body, name, value);
  int exit_status = ctl_call(ctl, rpc, &body, out);
  rag_buf_free(&body);
  return exit_status;
}

static void copy(char *out, size_t room, rag_slice text) {
  snprintf(out, room, "%.*s", (int)RAG_MIN(text.size, room - 1), text.data);
}

static int read_settings(ctl_session *ctl, bench *b) {
  rag_json kb, index;
  int exit_status = get(ctl, "KnowledgeBases/GetKb", NULL, NULL, &kb);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  b->target.has_model = ctl_text(kb, "model").size > 0;
  b->target.dimension = (uint32_t)ctl_uint(kb, "dimension");
  copy(b->metric, sizeof(b->metric), ctl_text(kb, "metric"));
  b->promised_recall = RAG_INDEX_TARGET_RECALL;
  if (!rag_json_find(kb, rag_slice_str("index"), &index)) return CTL_EXIT_OK;
  copy(b->configured, sizeof(b->configured), ctl_text(index, "engine"));
  if (ctl_double(index, "target_recall") > 0) b->promised_recall = ctl_double(index, "target_recall");
  rag_slice factory = ctl_text(index, "factory");
  if (factory.size) {
    rag_buf_append_str(&b->index_patch, ",\"factory\":");
    rag_json_put_string(&b->index_patch, factory);
    bool lists = memmem(factory.data, factory.size, "IVF", 3) != NULL;
    bool graph = memmem(factory.data, factory.size, "HNSW", 4) || memmem(factory.data, factory.size, "NSG", 3);
    strcpy(b->knob, lists ? "nprobe" : graph ? "ef" : "rerank"); // where the engine turns out to be faiss
  } else strcpy(b->knob, "rerank");
  if (ctl_uint(index, "memory_bytes_max"))
    rag_buf_printf(&b->index_patch, ",\"memory_bytes_max\":%llu",
                   (unsigned long long)ctl_uint(index, "memory_bytes_max"));
  return CTL_EXIT_OK;
}

static int read_version(ctl_session *ctl, bench *b) {
  rag_json commit, index, segments;
  const char *at = ctl_option_text(ctl, "at");
  int exit_status = get(ctl, "Versions/GetCommit", "ref", at ? at : "main", &commit);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  copy(b->target.commit, sizeof(b->target.commit), ctl_text(commit, "id"));
  b->target.documents = ctl_uint(commit, "documents");
  b->target.chunks = ctl_uint(commit, "chunks");
  if (b->target.chunks == 0) {
    (void)rag_fail(&ctl->err, RAG_FAILED_PRECONDITION,
                   "'%s' is empty at %s: put documents, or name a version with --at", b->kb, b->target.commit);
    return ctl_fail(ctl);
  }
  if (b->k > b->target.chunks) {
    (void)rag_fail(&ctl->err, RAG_FAILED_PRECONDITION,
                   "%u hits of each query cannot be: '%s' has %llu chunks at %s; give --k %llu or less", b->k, b->kb,
                   (unsigned long long)b->target.chunks, b->target.commit, (unsigned long long)b->target.chunks);
    return ctl_fail(ctl);
  }
  exit_status = get(ctl, "KnowledgeBases/GetIndex", NULL, NULL, &index);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  b->index_rows = ctl_uint(index, "rows");
  b->tail_rows = ctl_uint(index, "tail_rows");
  b->building = ctl_bool(index, "building");
  if (ctl_array(index, "segments", &segments)) b->segments = (uint32_t)rag_json_size(segments);
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- searching

typedef struct run {
  ctl_session *ctl;
  bench *b;
  rag_buf common, body; // what all requests share; the one at hand
  const char *path;     // of the queries, or NULL
} run;

static int prepare(run *r) {
  ctl_body_begin(&r->common);
  ctl_body_string(&r->common, "kb", r->b->kb);
  ctl_body_string(&r->common, "at", r->b->target.commit);
  ctl_body_string(&r->common, "mode", "vector");
  ctl_body_uint(&r->common, "k", r->b->k);
  ctl_body_raw(&r->common, "include", rag_slice_str("[\"plan\"]"));
  int exit_status = ctl_body_filter(&r->common, r->ctl);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  return rag_buf_check(&r->common, &r->ctl->err) == RAG_OK ? CTL_EXIT_OK : ctl_fail(r->ctl);
}

static int search(run *r, size_t at, const bench_setting *setting, rag_json *out) {
  rag_slice query = bench_query(&r->b->queries, at);
  rag_buf_clear(&r->body);
  rag_buf_append(&r->body, r->common.data, r->common.size);
  rag_buf_append_char(&r->body, ',');
  rag_buf_append(&r->body, query.data, query.size);
  if (setting->series == BENCH_EXACT) ctl_body_bool(&r->body, "exact", true);
  if (setting->params[0]) ctl_body_raw(&r->body, "params", rag_slice_str(setting->params));
  int exit_status = ctl_call(r->ctl, "Retrieval/Search", &r->body, out);
  if (exit_status == CTL_EXIT_OK) return exit_status;
  if (r->path)
    fprintf(stderr, "  the query is of %s:%u\n", strcmp(r->path, "-") ? r->path : "standard input",
            r->b->queries.lines[at]);
  return exit_status;
}

static uint32_t us_of(rag_json object, const char *name) {
  return (uint32_t)RAG_MIN(ctl_uint(object, name), (uint64_t)UINT32_MAX - 1);
}

static void take_times(bench_setting *setting, size_t at, rag_json answer, rag_json plan) {
  setting->vector_us[at] = RAG_MIN(setting->vector_us[at], us_of(plan, "vector_us"));
  setting->took_us[at] = RAG_MIN(setting->took_us[at], us_of(answer, "took_us"));
}

static void take_plan(bench_setting *setting, rag_json plan) {
  setting->candidates += ctl_uint(plan, "candidates");
  setting->rescored += ctl_uint(plan, "rescored");
  setting->wide = RAG_MAX(setting->wide, us_of(plan, "setting"));
  if (ctl_uint(plan, "walked") == 0) return;
  setting->walked++;
  double expected = ctl_double(plan, "expected_recall");
  if (expected <= 0) return;
  setting->expected += expected;
  setting->expected_count++;
}

// The part of the true hits that are there: as many as score no lower than the last of them.
static double found_of(const bench *b, size_t at, rag_json answer) {
  rag_json hits;
  uint32_t found = 0;
  if (b->wanted[at] == 0) return 1;
  if (!ctl_array(answer, "hits", &hits)) return 0;
  for (rag_json_iter it = rag_json_iter_of(hits); rag_json_iter_next(&it);)
    found += ctl_double(it.value, "score") >= b->floors[at];
  return (double)RAG_MIN(found, b->wanted[at]) / (double)b->wanted[at];
}

static void note_build(bench *b, rag_json answer) {
  rag_slice build = ctl_text(answer, "index_build");
  if (!b->index_build[0]) copy(b->index_build, sizeof(b->index_build), build);
  else if (!rag_slice_equal(build, rag_slice_str(b->index_build))) b->build_changed = true;
}

// ---------------------------------------------------------------------------------------------- settings

static bench_setting *add_setting(bench *b, bench_series series, double value, rag_error *err) {
  RAG_ASSERT(b->count < BENCH_SETTINGS_MAX);
  bench_setting *s = &b->settings[b->count];
  size_t count = b->queries.count;
  *s = (bench_setting){.series = series, .value = value};
  if (series == BENCH_KNOB) {
    snprintf(s->name, sizeof(s->name), "%s %u", b->knob, (unsigned)value);
    snprintf(s->params, sizeof(s->params), "{\"%s\":%u}", b->knob, (unsigned)value);
  } else if (series == BENCH_RECALL) {
    snprintf(s->name, sizeof(s->name), "target %g", value);
    snprintf(s->params, sizeof(s->params), "{\"target_recall\":%g}", value);
  } else strcpy(s->name, series == BENCH_EXACT ? "exact" : "default");
  s->vector_us = rag_realloc_array(NULL, count, sizeof(*s->vector_us));
  s->took_us = rag_realloc_array(NULL, count, sizeof(*s->took_us));
  s->found = rag_calloc(count, sizeof(*s->found));
  b->count++; // so that what there is of it is freed
  if (!s->vector_us || !s->took_us || !s->found) {
    (void)rag_fail_no_memory(err, count * sizeof(*s->found));
    return NULL;
  }
  memset(s->vector_us, 0xff, count * sizeof(*s->vector_us));
  memset(s->took_us, 0xff, count * sizeof(*s->took_us));
  return s;
}

static void drop_setting(bench *b, uint32_t at) {
  bench_setting *s = &b->settings[at];
  rag_free(s->vector_us);
  rag_free(s->took_us);
  rag_free(s->found);
  memmove(s, s + 1, (b->count - at - 1) * sizeof(*s));
  b->count--;
}

static void bench_free(bench *b) {
  while (b->count) drop_setting(b, b->count - 1);
  bench_queries_free(&b->queries);
  rag_buf_free(&b->index_patch);
  rag_free(b->floors);
  rag_free(b->wanted);
}

// ---------------------------------------------------------------------------------------------- the truth

static int find_truth(run *r) {
  bench *b = r->b;
  rag_json answer, hits, plan;
  size_t count = b->queries.count;
  ctl_progress progress;
  b->floors = rag_calloc(count, sizeof(*b->floors));
  b->wanted = rag_calloc(count, sizeof(*b->wanted));
  bench_setting *exact = add_setting(b, BENCH_EXACT, 0, &r->ctl->err);
  if (!b->floors || !b->wanted || !exact) {
    (void)rag_fail_no_memory(&r->ctl->err, count * sizeof(*b->floors));
    return ctl_fail(r->ctl);
  }
  ctl_progress_begin(&progress, "searching exactly", false);
  int exit_status = search(r, 0, exact, &answer); // warms up, and is not measured
  for (size_t i = 0; exit_status == CTL_EXIT_OK && i < count && !bench_stopped(); i++) {
    exit_status = search(r, i, exact, &answer);
    if (exit_status != CTL_EXIT_OK) break;
    note_build(b, answer);
    if (ctl_array(answer, "hits", &hits))
      for (rag_json_iter it = rag_json_iter_of(hits); rag_json_iter_next(&it); b->wanted[i]++)
        b->floors[i] = ctl_double(it.value, "score");
    exact->found[i] = found_of(b, i, answer);
    if (rag_json_find(answer, rag_slice_str("plan"), &plan)) {
      take_times(exact, i, answer, plan);
      take_plan(exact, plan);
      b->chunks_matched = ctl_uint(plan, "chunks_matched");
    }
    ctl_progress_show(&progress, i + 1, count, "queries", NULL);
  }
  ctl_progress_end(&progress);
  if (exit_status != CTL_EXIT_OK || bench_stopped() || b->chunks_matched >= b->k) return exit_status;
  unsigned long long left = b->chunks_matched;
  if (left == 0)
    (void)rag_fail(&r->ctl->err, RAG_FAILED_PRECONDITION, "no chunk of '%s' at %s passes the filter: change --filter",
                   b->kb, b->target.commit);
  else
    (void)rag_fail(&r->ctl->err, RAG_FAILED_PRECONDITION,
                   "the filter leaves %llu chunks, fewer than the %u hits of each query: give --k %llu or less, or "
                   "another filter",
                   left, b->k, left);
  return ctl_fail(r->ctl);
}

// ---------------------------------------------------------------------------------------------- scouting

// Of the default's plans: the engine that most of them name. Counted in `votes`, in the order of the names.
static const char *const engines[] = {"flat", "graph", "ivf", "faiss"};

static void vote(rag_json plan, uint32_t votes[RAG_COUNT_OF(engines)]) {
  rag_slice engine = ctl_text(plan, "engine");
  for (uint32_t i = 0; i < RAG_COUNT_OF(engines); i++) votes[i] += rag_slice_equal(engine, rag_slice_str(engines[i]));
}

static int scout(run *r, bench_setting *setting, ctl_progress *progress) {
  bench *b = r->b;
  rag_json answer, plan;
  uint32_t votes[RAG_COUNT_OF(engines)] = {0}, most = 0;
  double sum = 0;
  int exit_status = CTL_EXIT_OK;
  for (size_t i = 0; exit_status == CTL_EXIT_OK && i < b->queries.count && !bench_stopped(); i++) {
    exit_status = search(r, i, setting, &answer);
    if (exit_status != CTL_EXIT_OK) break;
    note_build(b, answer);
    sum += setting->found[i] = found_of(b, i, answer);
    if (!rag_json_find(answer, rag_slice_str("plan"), &plan)) continue;
    take_plan(setting, plan);
    vote(plan, votes);
    ctl_progress_show(progress, (b->count - 2) * b->queries.count + i + 1, 0, "searches", NULL);
  }
  setting->recall = sum / (double)b->queries.count;
  if (setting->series != BENCH_DEFAULT) return exit_status;
  for (uint32_t i = 1; i < RAG_COUNT_OF(engines); i++) most = votes[i] > votes[most] ? i : most;
  strcpy(b->engine, engines[most]);
  return exit_status;
}

// Whether a setting does the same as another, so that it is another name for it.
static bool same_work(const bench_setting *a, const bench_setting *b) {
  return a->candidates == b->candidates && a->rescored == b->rescored && a->wide == b->wide && a->recall == b->recall;
}

// What a user asks for without knowing the engine: from low to high; what comes to the same as the next is left out.
static int scout_recalls(run *r, ctl_progress *progress) {
  static const double ladder[] = {0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999};
  bench *b = r->b;
  int exit_status = CTL_EXIT_OK;
  for (size_t i = 0; exit_status == CTL_EXIT_OK && i < RAG_COUNT_OF(ladder) && !bench_stopped(); i++) {
    bench_setting *setting = add_setting(b, BENCH_RECALL, ladder[i], &r->ctl->err);
    if (!setting) return ctl_fail(r->ctl);
    exit_status = scout(r, setting, progress);
    if (exit_status != CTL_EXIT_OK) break;
    for (uint32_t other = b->count - 1; other-- > 0;) {
      if (!same_work(&b->settings[other], setting) || b->settings[other].series == BENCH_EXACT) continue;
      bool usual = b->settings[other].series == BENCH_DEFAULT;
      drop_setting(b, usual ? b->count - 1 : other);
      break;
    }
  }
  return exit_status;
}

static bool ladder_ends(const bench_setting *s, uint32_t rung, double target) { // s: the newest rung, after the others
  if (s->recall >= 1) return true;
  if (rung < 2) return false;
  double idle = LADDER_IDLE * (double)s->candidates;
  if (s->recall == s[-2].recall && fabs((double)s->candidates - (double)s[-2].candidates) <= idle) return true;
  return s->recall >= target && s->recall - s[-2].recall < LADDER_GAIN;
}

// 1, 1.5, 2, 3, 4, 6, 8, ... times the first.
static uint32_t rung_value(uint32_t first, uint32_t rung) {
  uint32_t power = 1u << (rung / 2);
  return rung % 2 ? first * power + (first * power + 1) / 2 : first * power;
}

static int scout_knob(run *r, ctl_progress *progress) {
  bench *b = r->b;
  bool lists = strcmp(b->knob, "nprobe") == 0;
  uint32_t first = lists ? 1 : RAG_MAX(b->k, LADDER_FIRST), last = 0;
  int exit_status = CTL_EXIT_OK;
  for (uint32_t rung = 0; exit_status == CTL_EXIT_OK && rung < LADDER_RUNGS_MAX && !bench_stopped(); rung++) {
    uint32_t value = rung_value(first, rung);
    if (value == last) continue;
    bench_setting *setting = add_setting(b, BENCH_KNOB, last = value, &r->ctl->err);
    if (!setting) return ctl_fail(r->ctl);
    exit_status = scout(r, setting, progress);
    if (exit_status == CTL_EXIT_OK && ladder_ends(setting, rung, b->target_recall)) break;
  }
  return exit_status;
}

static void drop_exact(bench *b) {
  for (uint32_t i = b->count; i-- > 0;)
    if (b->settings[i].series == BENCH_EXACT) drop_setting(b, i);
}

static int scout_all(run *r) {
  bench *b = r->b;
  ctl_progress progress;
  ctl_progress_begin(&progress, "finding settings", false);
  bench_setting *usual = add_setting(b, BENCH_DEFAULT, b->promised_recall, &r->ctl->err);
  if (!usual) return ctl_fail(r->ctl);
  int exit_status = scout(r, usual, &progress);
  bool walks = usual->walked > 0, codes = usual->rescored > 0;
  if (exit_status == CTL_EXIT_OK && (walks || codes)) exit_status = scout_recalls(r, &progress);
  if (strcmp(b->engine, "graph") == 0) strcpy(b->knob, "ef");
  else if (strcmp(b->engine, "ivf") == 0) strcpy(b->knob, "nprobe");
  else if (strcmp(b->engine, "faiss") != 0) b->knob[0] = 0;
  if (exit_status == CTL_EXIT_OK && walks && b->knob[0]) exit_status = scout_knob(r, &progress);
  ctl_progress_end(&progress);
  b->everything_exact = !walks && !codes;
  if (b->everything_exact && !bench_stopped()) drop_exact(b); // the default is the same search
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- the rounds

static int measure(run *r) {
  bench *b = r->b;
  ctl_progress progress;
  rag_json answer, plan;
  uint64_t done = 0, total = (uint64_t)b->rounds * b->queries.count * b->count;
  int exit_status = CTL_EXIT_OK;
  ctl_progress_begin(&progress, "measuring", false);
  for (; b->rounds_done < b->rounds; b->rounds_done++) {
    for (size_t i = 0; i < b->queries.count; i++)
      for (uint32_t s = 0; s < b->count; s++, done++) {
        bench_setting *setting = &b->settings[(s + i + b->rounds_done) % b->count];
        if (setting->series == BENCH_EXACT) continue; // was measured
        if (bench_stopped()) goto out;
        exit_status = search(r, i, setting, &answer);
        if (exit_status != CTL_EXIT_OK) goto out;
        note_build(b, answer);
        if (rag_json_find(answer, rag_slice_str("plan"), &plan)) take_times(setting, i, answer, plan);
        ctl_progress_show(&progress, done, total, "searches", NULL);
      }
  }
out:
  ctl_progress_end(&progress);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- the command

static bool read_number(ctl_session *ctl, const char *option, uint64_t max, uint64_t *out) {
  if (!ctl_option_number(ctl, option, max, out)) return false;
  if (*out > 0) return true;
  (void)ctl_usage_error(ctl, "--%s: is at least 1", option);
  return false;
}

// A file that cannot be written should be known before minutes of measuring.
static int check_svg(ctl_session *ctl, const char *path) {
  struct stat about;
  if (!path) return CTL_EXIT_OK;
  const char *slash = strrchr(path, '/');
  char *folder = slash == path ? rag_strdup("/") : slash ? rag_strndup(path, (size_t)(slash - path)) : rag_strdup(".");
  rag_status status = RAG_OK;
  if (!folder) status = rag_fail_no_memory(&ctl->err, strlen(path));
  else if (stat(path, &about) == 0 && !S_ISREG(about.st_mode))
    status = rag_fail(&ctl->err, RAG_INVALID_ARGUMENT, "--svg: %s is there and no file", path);
  else if (access(folder, W_OK | X_OK) != 0) status = rag_os_fail(&ctl->err, "write into", folder, errno);
  rag_free(folder);
  return status == RAG_OK ? CTL_EXIT_OK : ctl_fail(ctl);
}

static int find_queries(run *r, uint64_t count) {
  ctl_session *ctl = r->ctl;
  bench *b = r->b;
  if (!r->path) return bench_queries_sample(ctl, &b->target, count, &b->queries);
  if (ctl_option_given(ctl, "count")) {
    if (b->queries.count < count)
      fprintf(stderr, "ragctl: %zu queries are there, fewer than the %llu asked for\n", b->queries.count,
              (unsigned long long)count);
    bench_queries_thin(&b->queries, count);
  }
  return CTL_EXIT_OK;
}

static int report(run *r) {
  ctl_session *ctl = r->ctl;
  bench *b = r->b;
  rag_buf out = {0};
  rag_status status = RAG_OK;
  const char *svg = ctl_option_text(ctl, "svg");
  bench_summarise(b);
  if (ctl->json) {
    RAG_TRY_OUT(bench_json(b, &out, &ctl->err));
    fwrite(out.data, 1, out.size, stdout);
    putchar('\n');
  } else bench_print(b);
  if (!svg) goto out;
  rag_buf_clear(&out);
  RAG_TRY_OUT(bench_svg(b, &out, &ctl->err));
  RAG_TRY_OUT(rag_os_write_file(svg, out.data, out.size, &ctl->err));
  fprintf(stderr, "ragctl: the curve is in %s\n", svg);
out:
  rag_buf_free(&out);
  return status == RAG_OK ? CTL_EXIT_OK : ctl_fail(ctl);
}

static int run_all(run *r, uint64_t count) {
  bench *b = r->b;
  int exit_status = read_settings(r->ctl, b);
  if (exit_status == CTL_EXIT_OK && r->path)
    exit_status = bench_queries_check(r->ctl, r->path, &b->target, &b->queries);
  if (exit_status == CTL_EXIT_OK) exit_status = read_version(r->ctl, b);
  if (exit_status == CTL_EXIT_OK) exit_status = prepare(r);
  if (exit_status == CTL_EXIT_OK) exit_status = find_queries(r, count);
  if (exit_status == CTL_EXIT_OK && !bench_stopped()) exit_status = find_truth(r);
  if (exit_status == CTL_EXIT_OK && !bench_stopped()) exit_status = scout_all(r);
  if (exit_status == CTL_EXIT_OK && !bench_stopped()) exit_status = measure(r);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  b->interrupted = bench_stopped();
  if (b->rounds_done == 0) {
    fputs("ragctl: interrupted; nothing was measured\n", stderr);
    return EXIT_INTERRUPTED;
  }
  exit_status = report(r);
  return exit_status == CTL_EXIT_OK && b->interrupted ? EXIT_INTERRUPTED : exit_status;
}

int ctl_run_bench(ctl_session *ctl) {
  uint64_t k = BENCH_K_DEFAULT, count = BENCH_QUERIES_DEFAULT, rounds = BENCH_ROUNDS_DEFAULT;
  double target = RAG_INDEX_TARGET_RECALL;
  const char *svg = ctl_option_text(ctl, "svg");
  if (!read_number(ctl, "k", RAG_INDEX_K_MAX, &k) || !read_number(ctl, "count", BENCH_QUERIES_MAX, &count) ||
      !read_number(ctl, "rounds", BENCH_ROUNDS_MAX, &rounds) || !ctl_option_share(ctl, "target-recall", &target))
    return CTL_EXIT_USAGE;
  bench b = {.kb = ctl->args[0],
             .k = (uint32_t)k,
             .rounds = (uint32_t)rounds,
             .target_recall = target,
             .filtered = ctl_option_given(ctl, "filter")};
  run r = {.ctl = ctl, .b = &b, .path = ctl_option_text(ctl, "queries")};
  catch_interrupts();
  int exit_status = check_svg(ctl, svg);
  if (exit_status == CTL_EXIT_OK && r.path) exit_status = bench_queries_read(ctl, r.path, &b.queries);
  // Before anything is connected to: a filter that is none, too. The version is not known yet, so it is made again.
  if (exit_status == CTL_EXIT_OK) {
    ctl_body_begin(&r.body);
    exit_status = ctl_body_filter(&r.body, ctl);
  }
  if (exit_status == CTL_EXIT_OK) exit_status = run_all(&r, count);
  rag_buf_free(&r.common);
  rag_buf_free(&r.body);
  bench_free(&b);
  return exit_status;
}
