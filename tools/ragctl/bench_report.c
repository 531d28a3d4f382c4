// What came of `ragctl bench`: percentiles, the front of settings that nothing beats, the advice; as a table and
// lines for people, and as one JSON object.
#include "tools/ragctl/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CLOSE_US 2u    // medians that are no further apart are the same: the server tells microseconds
#define CLOSE_PART 20u // or than this part of them

// ---------------------------------------------------------------------------------------------- numbers

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

// By nearest rank: the value that so many percent do not pass. Sorts.
static bench_times times_of(uint32_t *values, size_t count) {
  bench_times t = {0};
  qsort(values, count, sizeof(*values), ascending);
  for (size_t i = 0; i < count; i++) t.mean += values[i];
  t.mean /= (double)count;
  t.p50 = values[(count * 50 + 99) / 100 - 1];
  t.p95 = values[(count * 95 + 99) / 100 - 1];
  t.p99 = values[(count * 99 + 99) / 100 - 1];
  return t;
}

static void summarise(bench_setting *s, size_t count) {
  double sum = 0, squares = 0;
  s->recall_worst = 1;
  for (size_t i = 0; i < count; i++) {
    sum += s->found[i];
    s->recall_worst = RAG_MIN(s->recall_worst, s->found[i]);
  }
  s->recall = sum / (double)count;
  for (size_t i = 0; i < count; i++) squares += pow(s->found[i] - s->recall, 2);
  s->recall_error = count > 1 ? sqrt(squares / (double)(count - 1) / (double)count) : 0;
  s->vector = times_of(s->vector_us, count);
  s->took = times_of(s->took_us, count);
}

static bool beaten(const bench *b, const bench_setting *s) {
  for (uint32_t i = 0; i < b->count; i++) {
    const bench_setting *o = &b->settings[i];
    bool no_worse = o->recall >= s->recall && o->vector.p50 <= s->vector.p50;
    if (no_worse && (o->recall > s->recall || o->vector.p50 < s->vector.p50)) return true;
  }
  return false;
}

static const bench_setting *cheaper(const bench_setting *a, const bench_setting *b) {
  return a == NULL || b->vector.p50 < a->vector.p50 ? b : a;
}

// Within what the clock tells: the default is named rather than a setting that is no faster to speak of.
static const bench_setting *prefer_default(const bench *b, const bench_setting *best) {
  const bench_setting *usual = b->usual;
  if (best == NULL || usual->recall < b->target_recall) return best;
  return usual->vector.p50 <= best->vector.p50 + RAG_MAX(best->vector.p50 / CLOSE_PART, CLOSE_US) ? usual : best;
}

void bench_summarise(bench *b) {
  for (uint32_t i = 0; i < b->count; i++) summarise(&b->settings[i], b->queries.count);
  for (uint32_t i = 0; i < b->count; i++) {
    bench_setting *s = &b->settings[i];
    s->front = !beaten(b, s);
    if (s->series == BENCH_DEFAULT) b->usual = s;
    if (s->series == BENCH_EXACT) b->exact = s;
    if (s->recall < b->target_recall) continue;
    b->best = cheaper(b->best, s);
    if (s->series == BENCH_DEFAULT || s->series == BENCH_RECALL) b->best_kb = cheaper(b->best_kb, s);
  }
  b->best = prefer_default(b, b->best);
  b->best_kb = prefer_default(b, b->best_kb);
}

uint32_t bench_series_of(const bench *b, bench_series series, const bench_setting *out[BENCH_SETTINGS_MAX]) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < b->count; i++) {
    const bench_setting *s = &b->settings[i];
    if (s->series != series && !(series == BENCH_RECALL && s->series == BENCH_DEFAULT)) continue;
    uint32_t at = count++;
    for (; at > 0 && out[at - 1]->value > s->value; at--) out[at] = out[at - 1];
    out[at] = s;
  }
  return count;
}

static double ms(uint32_t us) {
  return (double)us / 1000;
}

static const char *grouped(uint64_t number, char out[32]) {
  ctl_count(number, out);
  return out;
}

// ---------------------------------------------------------------------------------------------- the table

static void print_head(const bench *b) {
  char a[32], c[32], d[32];
  printf("%s%s%s at %s: %s chunks of %u dimensions, %s", ctl_colour.bold, b->kb, ctl_colour.off, b->target.commit,
         grouped(b->target.chunks, a), b->target.dimension, b->metric);
  if (b->filtered) printf("; %s pass the filter", grouped(b->chunks_matched, a));
  printf("\n%sindex%s   %s: %s of %s vectors in %u %s, %s in the tail; searches: %s\n", ctl_colour.dim, ctl_colour.off,
         b->configured, grouped(b->index_rows - b->tail_rows, a), grouped(b->index_rows, c), b->segments,
         b->segments == 1 ? "segment" : "segments", grouped(b->tail_rows, d), b->engine);
  printf("%squeries%s %s, %s; k %u; the best of %u %s\n\n", ctl_colour.dim, ctl_colour.off,
         grouped(b->queries.count, a), b->queries.source, b->k, b->rounds_done,
         b->rounds_done == 1 ? "round" : "rounds");
}

static void add_row(const bench *b, ctl_table *table, const bench_setting *s, bool wide) {
  char count[32], marks[96] = "";
  ctl_table_cell(table, "%s", s->name);
  if (wide && s->wide) ctl_table_cell(table, "%u", s->wide);
  else if (wide) ctl_table_cell(table, "-");
  ctl_table_cell(table, "%.4f", s->recall);
  ctl_table_cell(table, "%.2f", s->recall_worst);
  ctl_table_cell(table, "%.3f", ms(s->vector.p50));
  ctl_table_cell(table, "%.3f", ms(s->vector.p95));
  ctl_table_cell(table, "%.3f", ms(s->vector.p99));
  ctl_table_cell(table, "%.3f", ms(s->took.p50));
  ctl_table_cell(table, "%s", grouped(s->candidates / b->queries.count, count));
  if (s->front) strcpy(marks, "* ");
  if (s == b->best) snprintf(marks, sizeof(marks), "%s<- the one for %g", s->front ? "* " : "", b->target_recall);
  ctl_table_cell(table, "%s", marks);
}

static void print_table(const bench *b) {
  static const bench_series order[] = {BENCH_KNOB, BENCH_RECALL, BENCH_EXACT};
  const char *headings[10];
  char wide[24], recall[24];
  unsigned columns = 0;
  bool has_wide = false; // a plan says how wide it looked, in units of the knob
  for (uint32_t i = 0; i < b->count; i++) has_wide |= b->knob[0] && b->settings[i].wide > 0;
  snprintf(wide, sizeof(wide), ">%.*s", (int)sizeof(wide) - 2, b->knob);
  for (char *c = wide; *c; c++) *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
  snprintf(recall, sizeof(recall), ">RECALL@%u", b->k);
  headings[columns++] = "SETTING";
  if (has_wide) headings[columns++] = wide;
  headings[columns++] = recall;
  headings[columns++] = ">WORST";
  headings[columns++] = ">P50 ms";
  headings[columns++] = ">P95 ms";
  headings[columns++] = ">P99 ms";
  headings[columns++] = ">REQUEST ms";
  headings[columns++] = ">SCORED";
  headings[columns++] = "";
  ctl_table *table = ctl_table_create(columns, headings);
  for (size_t i = 0; table && i < RAG_COUNT_OF(order); i++) {
    const bench_setting *list[BENCH_SETTINGS_MAX];
    uint32_t count = bench_series_of(b, order[i], list);
    for (uint32_t s = 0; s < count; s++) add_row(b, table, list[s], has_wide);
  }
  ctl_table_print(table);
  ctl_table_destroy(table);
  printf("%sLatency is the vector search's, on the server; REQUEST the median of whole searches there%s.\n"
         "SCORED: vectors, of a query.",
         ctl_colour.dim, b->queries.has_text ? ", embedding included" : "");
  if (!b->everything_exact) printf(" *: no other setting is as fast and as good. exact was measured in one round.");
  printf("%s\n", ctl_colour.off);
}

// ---------------------------------------------------------------------------------------------- the advice

// The settings of a knowledge base are replaced as a whole, so the rest of them is repeated.
static void put_patch(const bench *b, double recall, rag_buf *out) {
  rag_buf_printf(out, "{\"index\":{\"target_recall\":%g", recall);
  rag_buf_append(out, b->index_patch.data, b->index_patch.size);
  rag_buf_append_str(out, "}}");
}

static void print_speed(const bench *b, const bench_setting *s) {
  printf("%.3f ms", ms(s->vector.p50));
  if (!b->exact || s == b->exact || s->vector.p50 == 0) return;
  double times = (double)b->exact->vector.p50 / (double)s->vector.p50;
  if (times >= 1.05) printf(", %.1f times as fast as exact search", times);
}

static void print_best(const bench *b) {
  const bench_setting *s = b->best, *most = NULL;
  if (s == NULL) {
    for (uint32_t i = 0; i < b->count; i++)
      if (!most || b->settings[i].recall > most->recall) most = &b->settings[i];
    printf("No setting reaches %g: the most is %s with %.4f.\n", b->target_recall, most->name, most->recall);
    return;
  }
  printf("%s%s%s reaches %g (%.4f, give or take %.4f) at ", ctl_colour.bold,
         s->series == BENCH_DEFAULT ? "The default" : s->name, ctl_colour.off, b->target_recall, s->recall,
         2 * s->recall_error);
  print_speed(b, s);
  if (s->series == BENCH_DEFAULT) puts(": there is nothing to set.");
  else if (s->series == BENCH_EXACT)
    puts(": \"exact\": true in a search. No setting of the index is as fast and as good.");
  else printf(": \"params\": %s in a search.\n", s->params);
}

static void print_best_of_kb(const bench *b) {
  const bench_setting *s = b->best_kb;
  rag_buf patch = {0};
  if (b->best == NULL || b->best == b->usual) return;
  if (s == NULL) {
    puts("For searches that name no setting: no index.target_recall reaches it; name it in each search.");
    return;
  }
  if (s->series == BENCH_DEFAULT) {
    printf("Searches that name no setting reach it too: the default, %.4f at ", s->recall);
    print_speed(b, s);
    puts(".");
    return;
  }
  put_patch(b, s->value, &patch);
  printf("For searches that name no setting: index.target_recall %g, %.4f at ", s->value, s->recall);
  print_speed(b, s);
  printf(": PATCH /v1/kbs/%s %.*s\n", b->kb, (int)patch.size, patch.size ? patch.data : "");
  rag_buf_free(&patch);
}

// Kept, missed, or too close for so many queries to tell.
typedef enum promise { PROMISE_KEPT, PROMISE_CLOSE, PROMISE_MISSED } promise;
static promise promise_of(const bench *b) {
  const bench_setting *s = b->usual;
  if (s->recall >= b->promised_recall) return PROMISE_KEPT;
  return s->recall + 2 * s->recall_error >= b->promised_recall ? PROMISE_CLOSE : PROMISE_MISSED;
}

static void print_default(const bench *b) {
  const bench_setting *s = b->usual;
  promise kept = promise_of(b);
  if (s->walked == 0) {
    puts("These searches walk no graph and no lists: they look at the codes of every vector that passes.");
    return;
  }
  printf("The default (target_recall %g", b->promised_recall);
  if (s->expected_count) printf("; its calibration expects %.4f", s->expected / s->expected_count);
  printf(") found %s%.4f%s, give or take %.4f: ", kept == PROMISE_MISSED ? ctl_colour.yellow : ctl_colour.green,
         s->recall, ctl_colour.off, 2 * s->recall_error);
  if (kept == PROMISE_MISSED)
    puts("missed. These queries are not like the stored vectors that it was calibrated with.");
  else puts(kept == PROMISE_KEPT ? "kept." : "too close to tell with so many queries.");
}

static void print_exact(const bench *b) {
  const bench_setting *s = b->usual;
  char count[32];
  printf("Every search here is exact: ");
  if (strcmp(b->configured, "flat") == 0)
    printf("the index is flat, and all %s vectors are scanned", grouped(b->index_rows, count));
  else if (b->tail_rows == b->index_rows)
    printf("all %s vectors are in the tail, which is scanned (`ragctl index compact %s` makes a segment of them)",
           grouped(b->index_rows, count), b->kb);
  else printf("so few vectors are left to search that all of them are scored");
  printf(". There is nothing to set.\nIt takes %.3f ms in the median, %.3f ms at p99.\n", ms(s->vector.p50),
         ms(s->vector.p99));
}

static void print_notes(const bench *b) {
  if (!b->queries.has_text && b->queries.lines[0] == 0)
    puts("Note: stored vectors were asked for, and each finds itself: real queries may find less (--queries FILE).");
  if (b->queries.count < 50)
    printf("Note: %zu queries tell recall to %.2f at best; give more (--count, --queries).\n", b->queries.count,
           1 / (double)b->queries.count);
  if (b->building || b->build_changed)
    printf("Note: the index was being worked on%s: run this again when `ragctl index show %s` is quiet.\n",
           b->build_changed ? " and changed meanwhile" : "", b->kb);
  if (b->interrupted) printf("Interrupted after round %u of %u.\n", b->rounds_done, b->rounds);
}

void bench_print(const bench *b) {
  print_head(b);
  if (!b->everything_exact) bench_draw(b);
  print_table(b);
  putchar('\n');
  if (b->everything_exact) print_exact(b);
  else {
    print_best(b);
    print_best_of_kb(b);
    print_default(b);
  }
  print_notes(b);
}

// ---------------------------------------------------------------------------------------------- JSON

static void put_number(rag_buf *out, const char *name, double value) {
  ctl_body_name(out, name);
  rag_json_put_double(out, value);
}

static void put_object(rag_buf *out, const char *name) {
  ctl_body_name(out, name);
  rag_buf_append_char(out, '{');
}

static void put_times(rag_buf *out, const char *name, const bench_times *t) {
  put_object(out, name);
  ctl_body_uint(out, "p50", t->p50);
  ctl_body_uint(out, "p95", t->p95);
  ctl_body_uint(out, "p99", t->p99);
  put_number(out, "mean", t->mean);
  rag_buf_append_char(out, '}');
}

static void put_setting(const bench *b, rag_buf *out, const bench_setting *s) {
  static const char *const series[] = {"default", "exact", "knob", "target_recall"};
  double count = (double)b->queries.count;
  rag_buf_append_char(out, '{');
  ctl_body_string(out, "name", s->name);
  ctl_body_string(out, "series", series[s->series]);
  ctl_body_raw(out, "params", rag_slice_str(s->params[0] ? s->params : "{}"));
  ctl_body_bool(out, "exact", s->series == BENCH_EXACT);
  put_number(out, "recall", s->recall);
  put_number(out, "recall_error", s->recall_error);
  put_number(out, "recall_worst", s->recall_worst);
  put_times(out, "vector_us", &s->vector);
  put_times(out, "took_us", &s->took);
  put_number(out, "candidates", (double)s->candidates / count);
  put_number(out, "rescored", (double)s->rescored / count);
  put_number(out, "walked", (double)s->walked / count);
  ctl_body_uint(out, "setting", s->wide);
  ctl_body_name(out, "expected_recall");
  if (s->expected_count) rag_json_put_double(out, s->expected / s->expected_count);
  else rag_buf_append_str(out, "null");
  ctl_body_bool(out, "front", s->front);
  ctl_body_bool(out, "advised", s == b->best);
  rag_buf_append_char(out, '}');
}

static void put_advice(const bench *b, rag_buf *out) {
  static const char *const verdicts[] = {"kept", "close", "missed"};
  put_object(out, "advice");
  put_number(out, "target_recall", b->target_recall);
  ctl_body_name(out, "setting");
  if (b->best) rag_json_put_string(out, rag_slice_str(b->best->name));
  else rag_buf_append_str(out, "null");
  if (b->best) ctl_body_raw(out, "params", rag_slice_str(b->best->params[0] ? b->best->params : "{}"));
  if (b->best) ctl_body_bool(out, "exact", b->best->series == BENCH_EXACT);
  ctl_body_name(out, "kb");
  if (b->best_kb) put_patch(b, b->best_kb->value, out);
  else rag_buf_append_str(out, "null");
  put_object(out, "default");
  put_number(out, "promised", b->promised_recall);
  put_number(out, "measured", b->usual->recall);
  ctl_body_string(out, "promise", verdicts[promise_of(b)]);
  rag_buf_append_str(out, "}}");
}

rag_status bench_json(const bench *b, rag_buf *out, rag_error *err) {
  ctl_body_begin(out);
  ctl_body_string(out, "kb", b->kb);
  ctl_body_string(out, "commit", b->target.commit);
  ctl_body_uint(out, "documents", b->target.documents);
  ctl_body_uint(out, "chunks", b->target.chunks);
  ctl_body_uint(out, "chunks_matched", b->chunks_matched);
  ctl_body_uint(out, "dimension", b->target.dimension);
  ctl_body_string(out, "metric", b->metric);
  put_object(out, "index");
  ctl_body_string(out, "configured", b->configured);
  ctl_body_string(out, "engine", b->engine);
  ctl_body_string(out, "build", b->index_build);
  ctl_body_uint(out, "rows", b->index_rows);
  ctl_body_uint(out, "tail_rows", b->tail_rows);
  ctl_body_uint(out, "segments", b->segments);
  ctl_body_bool(out, "changed_meanwhile", b->building || b->build_changed);
  rag_buf_append_char(out, '}');
  put_object(out, "queries");
  ctl_body_uint(out, "count", b->queries.count);
  ctl_body_string(out, "source", b->queries.source);
  ctl_body_bool(out, "own", b->queries.lines[0] == 0);
  rag_buf_append_char(out, '}');
  ctl_body_uint(out, "k", b->k);
  ctl_body_uint(out, "rounds", b->rounds_done);
  ctl_body_bool(out, "interrupted", b->interrupted);
  ctl_body_bool(out, "everything_exact", b->everything_exact);
  ctl_body_name(out, "settings");
  for (uint32_t i = 0; i < b->count; i++) {
    rag_buf_append_char(out, i ? ',' : '[');
    put_setting(b, out, &b->settings[i]);
  }
  rag_buf_append_char(out, ']');
  put_advice(b, out);
  rag_buf_append_char(out, '}');
  return rag_buf_check(out, err);
}
