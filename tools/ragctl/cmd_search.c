// The search command: hits as people read them, rank, score, where, and a few lines of what was found, with the words
// that matched; and how it was answered.
#include "tools/ragctl/ctl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define LINES_DEFAULT 3u
#define INDENT 4u

static bool add_words(ctl_session *ctl, rag_buf *body) {
  rag_buf query = {0};
  for (unsigned i = 1; i < ctl->arg_count; i++) {
    if (i > 1) rag_buf_append_char(&query, ' ');
    rag_buf_append_str(&query, ctl->args[i]);
  }
  ctl_body_name(body, "query");
  rag_json_put_string(body, rag_buf_slice(&query));
  bool fine = rag_buf_check(&query, &ctl->err) == RAG_OK;
  rag_buf_free(&query);
  return fine;
}

// What to print, and what the terminal can show: the words that matched are asked for where they can be marked.
static void add_include(const ctl_session *ctl, rag_buf *body) {
  const char *given = ctl_option_text(ctl, "include");
  bool marks = ctl_option_given(ctl, "highlight") || (!given && !ctl->json && ctl_colour.bold[0]);
  bool plan = ctl_option_given(ctl, "plan");
  if (!given && !marks && !plan) return;
  ctl_body_name(body, "include");
  rag_buf_append_char(body, '[');
  for (const char *list = given ? given : "text,metadata,scores"; *list;) {
    size_t size = strcspn(list, ",");
    if (body->size && body->data[body->size - 1] != '[') rag_buf_append_char(body, ',');
    rag_json_put_string(body, rag_slice_of(list, size));
    list += size + (list[size] == ',');
  }
  if (marks) rag_buf_append_str(body, ",\"highlights\"");
  if (plan) rag_buf_append_str(body, ",\"plan\"");
  rag_buf_append_char(body, ']');
}

static bool add_number(ctl_session *ctl, rag_buf *body, const char *option, const char *name) {
  const char *text = ctl_option_text(ctl, option);
  char *end = NULL;
  if (!text) return true;
  double value = strtod(text, &end);
  if (end == text || *end || !isfinite(value)) {
    (void)ctl_usage_error(ctl, "--%s: '%s' is no number", option, text);
    return false;
  }
  ctl_body_name(body, name);
  rag_json_put_double(body, value);
  return true;
}

// {"field": ...} where the option was given.
static bool add_nested(ctl_session *ctl, rag_buf *body) {
  uint64_t per_document = 0;
  const char *fusion = ctl_option_text(ctl, "fusion");
  if (!ctl_option_number(ctl, "per-document", UINT32_MAX, &per_document)) return false;
  if (ctl_option_given(ctl, "per-document")) {
    ctl_body_name(body, "group_by_document");
    rag_buf_append_char(body, '{');
    ctl_body_uint(body, "per_document", per_document);
    rag_buf_append_char(body, '}');
  }
  if (fusion) {
    ctl_body_name(body, "fusion");
    rag_buf_append_char(body, '{');
    ctl_body_string(body, "method", fusion);
    rag_buf_append_char(body, '}');
  }
  if (!ctl_option_given(ctl, "mmr")) return true;
  ctl_body_name(body, "mmr");
  rag_buf_append_char(body, '{');
  if (!add_number(ctl, body, "mmr", "lambda")) return false;
  rag_buf_append_char(body, '}');
  return true;
}

static int build(ctl_session *ctl, rag_buf *body) {
  static const char *const numbers[][2] = {{"k", "k"}, {"offset", "offset"}, {"timeout-ms", "timeout_ms"}};
  const char *vector = ctl_option_text(ctl, "vector");
  rag_json parsed;
  if (!vector && ctl->arg_count < 2) return ctl_usage_error(ctl, "what is to be found? Give a query, or --vector");
  ctl_body_begin(body);
  ctl_body_string(body, "kb", ctl->args[0]);
  if (vector) {
    if (rag_json_parse(ctl->parser, rag_slice_str(vector), &parsed, &ctl->err) != RAG_OK ||
        rag_json_type_of(parsed) != RAG_JSON_ARRAY)
      return ctl_usage_error(ctl, "--vector: not a JSON array of numbers");
    ctl_body_raw(body, "vector", rag_slice_str(vector));
  }
  if (ctl->arg_count > 1 && !add_words(ctl, body)) return ctl_fail(ctl);
  for (size_t i = 0; i < RAG_COUNT_OF(numbers); i++) {
    uint64_t value = 0;
    if (!ctl_option_number(ctl, numbers[i][0], UINT32_MAX, &value)) return CTL_EXIT_USAGE;
    if (ctl_option_given(ctl, numbers[i][0])) ctl_body_uint(body, numbers[i][1], value);
  }
  if (!add_number(ctl, body, "min-score", "min_score") || !add_nested(ctl, body)) return CTL_EXIT_USAGE;
  ctl_body_option(body, ctl, "at", "at");
  ctl_body_option(body, ctl, "mode", "mode");
  ctl_body_option(body, ctl, "min-commit", "min_commit");
  if (ctl_option_given(ctl, "exact")) ctl_body_bool(body, "exact", true);
  ctl_body_option(body, ctl, "language", "language");
  add_include(ctl, body);
  return ctl_body_filter(body, ctl);
}

// ---------------------------------------------------------------------------------------------- hits

typedef struct marked { // a text with the spans that matched
  rag_slice text;
  rag_span spans[RAG_HIGHLIGHTS_MAX];
  size_t count;
  const char *on, *off;
} marked;

static void marks_of(rag_json hit, bool asked, marked *out) {
  rag_json list;
  *out = (marked){.text = ctl_text(hit, "text"), .on = ctl_colour.bold, .off = ctl_colour.off};
  if (asked && !out->on[0]) out->on = out->off = "**";
  if (!out->on[0] || !ctl_array(hit, "highlights", &list)) return;
  rag_json_iter it = rag_json_iter_of(list);
  while (out->count < RAG_HIGHLIGHTS_MAX && rag_json_iter_next(&it)) {
    uint64_t start = ctl_uint(it.value, "start"), end = ctl_uint(it.value, "end");
    if (start >= end || end > out->text.size) continue; // not of this text
    out->spans[out->count++] = (rag_span){(uint32_t)start, (uint32_t)end};
  }
}

// The first span that ends after `at`, or NULL.
static const rag_span *next_mark(const marked *m, size_t at) {
  for (size_t i = 0; i < m->count; i++)
    if (m->spans[i].end > at) return &m->spans[i];
  return NULL;
}

// Bytes [start, end) of the text, with what matched marked.
static void print_marked(const marked *m, size_t start, size_t end) {
  while (start < end) {
    const rag_span *mark = next_mark(m, start);
    size_t plain = mark && mark->start < end ? RAG_MAX((size_t)mark->start, start) : end;
    ctl_print_text(rag_slice_of(m->text.data + start, plain - start), false);
    if (plain == end) return;
    size_t marked_end = RAG_MIN((size_t)mark->end, end);
    fputs(m->on, stdout);
    ctl_print_text(rag_slice_of(m->text.data + plain, marked_end - plain), false);
    fputs(m->off, stdout);
    start = marked_end;
  }
}

// A line [start, end) in at most `room` columns: its beginning, or, where its first match lies beyond that, what is
// around the match.
static void print_line(const marked *m, size_t start, size_t end, unsigned room) {
  const char *text = m->text.data;
  const rag_span *mark = next_mark(m, start);
  bool cut_before = false;
  if (ctl_columns(rag_slice_of(text + start, end - start)) > room && mark && mark->end <= end &&
      ctl_columns(rag_slice_of(text + start, mark->end - start)) + 3 > room) {
    size_t from = RAG_MAX((size_t)mark->start, start);
    while (from > start && ctl_columns(rag_slice_of(text + from, mark->end - from)) < room / 2) do
        from--;
      while (from > start && ((unsigned char)text[from] & 0xC0) == 0x80); // whole characters
    const char *blank = from > start ? memchr(text + from, ' ', RAG_MAX(mark->start, from) - from) : NULL;
    if (blank) from = (size_t)(blank - text) + 1; // whole words, where there are any
    cut_before = from > start;
    start = from;
  }
  unsigned left = cut_before ? room - 3 : room;
  rag_slice line = {text + start, end - start};
  bool whole = ctl_columns(line) <= left;
  printf("%*s%s", (int)INDENT, "", cut_before ? "..." : "");
  print_marked(m, start, whole ? end : start + ctl_cut(line, left - 3));
  puts(whole ? "" : "...");
}

// Where the excerpt begins: at the top, or at the line of the first match where that would not be shown.
static size_t excerpt_start(const marked *m, uint64_t lines) {
  const rag_span *mark = next_mark(m, 0);
  size_t line = 0;
  uint64_t seen = 0;
  if (!mark) return 0;
  for (size_t at = 0; at < mark->start; at++) {
    if (m->text.data[at] != '\n') continue;
    seen += at > line; // blank lines are not shown
    line = at + 1;
  }
  return seen < lines ? 0 : line;
}

// Some lines of the text, blank ones left out, each cut to the terminal's width.
static void print_excerpt(const marked *m, uint64_t lines, unsigned width) {
  const char *text = m->text.data;
  for (size_t at = excerpt_start(m, lines); at < m->text.size && lines;) {
    const char *newline = memchr(text + at, '\n', m->text.size - at);
    size_t end = newline ? (size_t)(newline - text) : m->text.size, next = end + 1, start = at;
    while (start < end && strchr(" \t\r", text[start])) start++;
    while (end > start && strchr(" \t\r", text[end - 1])) end--;
    at = next;
    if (start == end) continue;
    print_line(m, start, end, width - INDENT);
    lines--;
  }
}

typedef struct display { // of every hit
  uint64_t lines;
  unsigned width;
  bool marks, plan;
} display;

static void print_score(const char *name, double score) {
  printf("  %s%s %.4f%s", ctl_colour.dim, name, score, ctl_colour.off);
}

static void print_hit(uint64_t rank, rag_json hit, const display *what) {
  unsigned width = what->width;
  marked text;
  rag_slice title = ctl_text(hit, "title");
  uint64_t start = ctl_uint(hit, "start"), end = ctl_uint(hit, "end");
  printf("%s%2llu%s  %s%.4f%s  %s", ctl_colour.bold, (unsigned long long)rank, ctl_colour.off, ctl_colour.green,
         ctl_double(hit, "score"), ctl_colour.off, ctl_colour.cyan);
  ctl_print_text(ctl_text(hit, "document_id"), false);
  fputs(ctl_colour.off, stdout);
  if (title.size) {
    size_t shown = ctl_columns(title) <= width / 2 ? title.size : ctl_cut(title, width / 2 - 3);
    fputs("  ", stdout);
    ctl_print_text(rag_slice_of(title.data, shown), false);
    if (shown < title.size) fputs("...", stdout);
  }
  if (end)
    printf("  %s[%llu, %llu)%s", ctl_colour.dim, (unsigned long long)start, (unsigned long long)end, ctl_colour.off);
  rag_json scores, score;
  if (what->plan && rag_json_find(hit, rag_slice_str("scores"), &scores)) {
    if (rag_json_find(scores, rag_slice_str("vector"), &score)) print_score("vector", rag_json_double(score));
    if (rag_json_find(scores, rag_slice_str("lexical"), &score)) print_score("words", rag_json_double(score));
  }
  putchar('\n');
  marks_of(hit, what->marks, &text);
  print_excerpt(&text, what->lines, width);
}

// ---------------------------------------------------------------------------------------------- the plan

static const char *grouped(uint64_t number, char out[32]) {
  ctl_count(number, out);
  return out;
}

static double ms_of(rag_json plan, const char *name) {
  return (double)ctl_uint(plan, name) / 1000;
}

static void plan_line(const char *name, double ms) { // the rest of the line follows
  printf("  %-8s %8.2f ms  ", name, ms);
}

static void print_filter(rag_json plan) {
  rag_json filter;
  char a[32], b[32], c[32], d[32];
  if (!rag_json_find(plan, rag_slice_str("filter"), &filter)) return;
  plan_line("filter", ms_of(plan, "filter_us"));
  printf("%s of %s documents pass, %s of %s chunks; ", grouped(ctl_uint(plan, "documents_matched"), a),
         grouped(ctl_uint(plan, "documents"), b), grouped(ctl_uint(plan, "chunks_matched"), c),
         grouped(ctl_uint(plan, "chunks"), d));
  if (ctl_bool(filter, "cached")) puts("known from an earlier request");
  else
    printf("%s of %s conditions by index alone, %s documents looked at\n", grouped(ctl_uint(filter, "indexed"), a),
           grouped(ctl_uint(filter, "conditions"), b), grouped(ctl_uint(filter, "verified"), c));
}

static void print_words(rag_json plan) {
  rag_json lexical;
  char a[32], b[32], c[32];
  if (!rag_json_find(plan, rag_slice_str("lexical"), &lexical)) return;
  plan_line("words", ms_of(plan, "lexical_us"));
  uint64_t terms = ctl_uint(lexical, "terms"), clauses = ctl_uint(lexical, "clauses");
  printf("%s %s of %s %s; %s of ", grouped(terms, a), terms == 1 ? "term" : "terms", grouped(clauses, b),
         clauses == 1 ? "clause" : "clauses", grouped(ctl_uint(lexical, "postings_scored"), c));
  printf("%s postings scored%s%s%s\n", grouped(ctl_uint(lexical, "postings"), a),
         ctl_bool(lexical, "only_stop_words") ? "; only stop words, searched as they are" : "",
         ctl_bool(lexical, "query_truncated") ? "; the query has too many words, the last ones were left out" : "",
         ctl_bool(lexical, "prefix_truncated") ? "; a prefix stands for too many words, not all were searched" : "");
}

// What was looked at, how, and what that finds by the index's own measure.
static void print_vectors(rag_json plan) {
  rag_slice engine = ctl_text(plan, "engine");
  char a[32], b[32];
  uint64_t tail = ctl_uint(plan, "tail_rows"), rescored = ctl_uint(plan, "rescored"),
           disk = ctl_uint(plan, "disk_reads");
  if (!engine.size) return;
  plan_line("vectors", ms_of(plan, "vector_us"));
  printf("%.*s, %s candidates", (int)engine.size, engine.data, grouped(ctl_uint(plan, "candidates"), a));
  if (tail) printf(", %s of the tail", grouped(tail, a));
  if (rescored) printf(", %s scored again exactly", grouped(rescored, a));
  printf("; %.1f%% of the index passes\n", ctl_double(plan, "selectivity") * 100);
  printf("%24s", "");
  if (ctl_uint(plan, "walked"))
    printf("%s segments, width %s, expected recall %.3f", grouped(ctl_uint(plan, "segments"), a),
           grouped(ctl_uint(plan, "setting"), b), ctl_double(plan, "expected_recall"));
  else printf("%s segments, all that pass were looked at", grouped(ctl_uint(plan, "segments"), a));
  if (disk) printf("; %s pages from disk", grouped(disk, a));
  printf("; the query took %.2f ms to embed\n", ms_of(plan, "embed_us"));
}

static void print_plan(rag_json plan) {
  rag_slice mode = ctl_text(plan, "mode"), reason = ctl_text(plan, "reason");
  char a[32], b[32];
  printf("%splan: %.*s%s%.*s\n", ctl_colour.dim, (int)mode.size, mode.data, reason.size ? ": " : "", (int)reason.size,
         reason.data);
  print_filter(plan);
  print_vectors(plan);
  print_words(plan);
  plan_line("rank", ms_of(plan, "rank_us"));
  printf("%s candidates, each side asked for %s", grouped(ctl_uint(plan, "fused"), a),
         grouped(ctl_uint(plan, "depth"), b));
  rag_json fusion, weights;
  if (rag_json_find(plan, rag_slice_str("fusion"), &fusion) &&
      rag_json_find(fusion, rag_slice_str("weights"), &weights)) {
    rag_slice method = ctl_text(fusion, "method");
    printf("; fused by %.*s, vectors %g, words %g", (int)method.size, method.data, ctl_double(weights, "vector"),
           ctl_double(weights, "lexical"));
  }
  printf("\n");
  plan_line("fetch", ms_of(plan, "fetch_us"));
  printf("texts and metadata of the hits%s\n", ctl_colour.off);
}

int ctl_run_search(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer, hits, plan;
  display what = {
      .lines = LINES_DEFAULT, .marks = ctl_option_given(ctl, "highlight"), .plan = ctl_option_given(ctl, "plan")};
  uint64_t rank = 0;
  if (!ctl_option_number(ctl, "lines", 1000000, &what.lines) || !ctl_option_number(ctl, "offset", UINT32_MAX, &rank))
    return CTL_EXIT_USAGE;
  int exit_status = build(ctl, &body);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_call(ctl, "Retrieval/Search", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  what.width = ctl_terminal_width();
  size_t count = 0;
  if (ctl_array(answer, "hits", &hits)) {
    rag_json_iter it = rag_json_iter_of(hits);
    for (; rag_json_iter_next(&it); count++) print_hit(++rank, it.value, &what);
  }
  rag_slice commit = ctl_text(answer, "commit");
  printf("%s%zu %s at %.*s in %.2f ms", ctl_colour.dim, count, count == 1 ? "hit" : "hits", (int)commit.size,
         commit.data, (double)ctl_uint(answer, "took_us") / 1000);
  uint64_t pending = ctl_uint(answer, "pending_chunks");
  if (pending) printf("; %llu chunks are not embedded yet", (unsigned long long)pending);
  printf("%s\n", ctl_colour.off);
  if (rag_json_find(answer, rag_slice_str("plan"), &plan)) print_plan(plan);
  return CTL_EXIT_OK;
}
