// The search command: hits as people read them, rank, score, where, and the first lines of what was found.
#include "tools/ragctl/ctl.h"

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

static void add_list(rag_buf *body, const char *name, const char *list) {
  ctl_body_name(body, name);
  rag_buf_append_char(body, '[');
  for (bool first = true; *list; first = false) {
    size_t size = strcspn(list, ",");
    if (!first) rag_buf_append_char(body, ',');
    rag_json_put_string(body, rag_slice_of(list, size));
    list += size + (list[size] == ',');
  }
  rag_buf_append_char(body, ']');
}

static int build(ctl_session *ctl, rag_buf *body) {
  static const char *const numbers[][2] = {{"k", "k"}, {"offset", "offset"}, {"timeout-ms", "timeout_ms"}};
  const char *vector = ctl_option_text(ctl, "vector"), *score = ctl_option_text(ctl, "min-score");
  rag_json parsed;
  if (!vector && ctl->arg_count < 2) return ctl_usage_error(ctl, "what is to be found? Give a query, or --vector");
  if (vector && ctl->arg_count > 1) return ctl_usage_error(ctl, "give a query or --vector, not both");
  ctl_body_begin(body);
  ctl_body_string(body, "kb", ctl->args[0]);
  if (vector) {
    if (rag_json_parse(ctl->parser, rag_slice_str(vector), &parsed, &ctl->err) != RAG_OK ||
        rag_json_type_of(parsed) != RAG_JSON_ARRAY)
      return ctl_usage_error(ctl, "--vector: not a JSON array of numbers");
    ctl_body_raw(body, "vector", rag_slice_str(vector));
  } else if (!add_words(ctl, body)) return ctl_fail(ctl);
  for (size_t i = 0; i < RAG_COUNT_OF(numbers); i++) {
    uint64_t value = 0;
    if (!ctl_option_number(ctl, numbers[i][0], UINT32_MAX, &value)) return CTL_EXIT_USAGE;
    if (ctl_option_given(ctl, numbers[i][0])) ctl_body_uint(body, numbers[i][1], value);
  }
  if (score) {
    char *end = NULL;
    double value = strtod(score, &end);
    if (end == score || *end) return ctl_usage_error(ctl, "--min-score: '%s' is no number", score);
    ctl_body_name(body, "min_score");
    rag_json_put_double(body, value);
  }
  ctl_body_option(body, ctl, "at", "at");
  ctl_body_option(body, ctl, "mode", "mode");
  ctl_body_option(body, ctl, "min-commit", "min_commit");
  if (ctl_option_given(ctl, "exact")) ctl_body_bool(body, "exact", true);
  if (ctl_option_given(ctl, "include")) add_list(body, "include", ctl_option_text(ctl, "include"));
  return CTL_EXIT_OK;
}

// The first lines of the text, blank ones left out, each cut to the terminal's width.
static void print_excerpt(rag_slice text, uint64_t lines, unsigned width) {
  while (text.size && lines) {
    const char *newline = memchr(text.data, '\n', text.size);
    rag_slice line = {text.data, newline ? (size_t)(newline - text.data) : text.size};
    size_t step = line.size + (newline ? 1 : 0);
    text = rag_slice_of(text.data + step, text.size - step);
    while (line.size && strchr(" \t\r", line.data[0])) line.data++, line.size--;
    while (line.size && strchr(" \t\r", line.data[line.size - 1])) line.size--;
    if (line.size == 0) continue;
    unsigned room = width - INDENT;
    bool whole = ctl_columns(line) <= room;
    if (!whole) line.size = ctl_cut(line, room - 3);
    printf("%*s", (int)INDENT, "");
    ctl_print_text(line, false);
    puts(whole ? "" : "...");
    lines--;
  }
}

static void print_hit(uint64_t rank, rag_json hit, uint64_t lines, unsigned width) {
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
  putchar('\n');
  print_excerpt(ctl_text(hit, "text"), lines, width);
}

int ctl_run_search(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer, hits, plan;
  uint64_t lines = LINES_DEFAULT, rank = 0;
  if (!ctl_option_number(ctl, "lines", 1000000, &lines) || !ctl_option_number(ctl, "offset", UINT32_MAX, &rank))
    return CTL_EXIT_USAGE;
  int exit_status = build(ctl, &body);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_call(ctl, "Retrieval/Search", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  unsigned width = ctl_terminal_width();
  size_t count = 0;
  if (ctl_array(answer, "hits", &hits)) {
    rag_json_iter it = rag_json_iter_of(hits);
    for (; rag_json_iter_next(&it); count++) print_hit(++rank, it.value, lines, width);
  }
  rag_slice commit = ctl_text(answer, "commit");
  printf("%s%zu %s at %.*s in %.2f ms", ctl_colour.dim, count, count == 1 ? "hit" : "hits", (int)commit.size,
         commit.data, (double)ctl_uint(answer, "took_us") / 1000);
  uint64_t pending = ctl_uint(answer, "pending_chunks");
  if (pending) printf("; %llu chunks are not embedded yet", (unsigned long long)pending);
  if (rag_json_find(answer, rag_slice_str("plan"), &plan) && rag_json_type_of(plan) == RAG_JSON_OBJECT) {
    rag_slice engine = ctl_text(plan, "engine");
    if (engine.size)
      printf("; %.*s, %llu candidates, %.1f%% of the index is alive here", (int)engine.size, engine.data,
             (unsigned long long)ctl_uint(plan, "candidates"), ctl_double(plan, "selectivity") * 100);
  }
  printf("%s\n", ctl_colour.off);
  return CTL_EXIT_OK;
}
