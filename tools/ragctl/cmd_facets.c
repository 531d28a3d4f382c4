// The facets command: the values of metadata fields, most frequent first.
#include "tools/ragctl/ctl.h"

#include <stdio.h>

// A value as people read it: text without quotes, the rest as JSON.
static void add_value(ctl_table *table, rag_json value) {
  if (rag_json_type_of(value) == RAG_JSON_STRING) {
    rag_slice text = rag_json_string(value);
    ctl_table_slice(table, rag_slice_of(text.data, ctl_cut(text, 60)));
    return;
  }
  rag_buf text = {0};
  rag_json_write(value, &text);
  ctl_table_slice(table, rag_buf_slice(&text));
  rag_buf_free(&text);
}

static void add_row(ctl_table *table, rag_slice field, rag_json value, uint64_t count, uint64_t documents) {
  char number[32];
  ctl_count(count, number);
  ctl_table_slice(table, field);
  add_value(table, value);
  ctl_table_cell(table, "%s", number);
  ctl_table_cell(table, "%.1f%%", documents ? 100.0 * (double)count / (double)documents : 0.0);
}

static void add_note(ctl_table *table, rag_slice field, const char *note) {
  ctl_table_slice(table, field);
  ctl_table_cell(table, "%s", note);
  ctl_table_cell(table, "%s", "");
  ctl_table_cell(table, "%s", "");
}

static void add_facet(ctl_table *table, rag_json facet, uint64_t documents) {
  rag_json values, value, low, high;
  rag_slice field = ctl_text(facet, "field"), none = rag_slice_str("");
  uint64_t distinct = ctl_uint(facet, "distinct"), shown = 0;
  char note[128], count[32];
  if (ctl_array(facet, "values", &values)) {
    rag_json_iter it = rag_json_iter_of(values);
    for (; rag_json_iter_next(&it); shown++)
      if (rag_json_find(it.value, rag_slice_str("value"), &value))
        add_row(table, shown ? none : field, value, ctl_uint(it.value, "count"), documents);
  }
  if (shown == 0) add_note(table, field, "(no values)");
  if (distinct > shown) {
    ctl_count(distinct - shown, count);
    snprintf(note, sizeof(note), "(%s more %s)", count, distinct - shown == 1 ? "value" : "values");
    add_note(table, none, note);
  }
  if (rag_json_find(facet, rag_slice_str("min"), &low) && rag_json_find(facet, rag_slice_str("max"), &high)) {
    rag_buf text = {0};
    rag_buf_append_str(&text, "(numbers from ");
    rag_json_write(low, &text);
    rag_buf_append_str(&text, " to ");
    rag_json_write(high, &text);
    rag_buf_append_str(&text, ")");
    snprintf(note, sizeof(note), "%.*s", (int)text.size, text.data ? text.data : "");
    add_note(table, none, note);
    rag_buf_free(&text);
  }
}

static int build(ctl_session *ctl, rag_buf *body) {
  uint64_t limit = 0;
  if (!ctl_option_number(ctl, "limit", UINT32_MAX, &limit)) return CTL_EXIT_USAGE;
  ctl_body_begin(body);
  ctl_body_string(body, "kb", ctl->args[0]);
  ctl_body_name(body, "fields");
  rag_buf_append_char(body, '[');
  for (unsigned i = 1; i < ctl->arg_count; i++) {
    if (i > 1) rag_buf_append_char(body, ',');
    rag_json_put_string(body, rag_slice_str(ctl->args[i]));
  }
  rag_buf_append_char(body, ']');
  ctl_body_option(body, ctl, "at", "at");
  if (ctl_option_given(ctl, "limit")) ctl_body_uint(body, "limit", limit);
  return ctl_body_filter(body, ctl);
}

int ctl_run_facets(ctl_session *ctl) {
  static const char *const headings[] = {"FIELD", "VALUE", ">DOCUMENTS", ">SHARE"};
  rag_buf body = {0};
  rag_json answer, facets;
  int exit_status = build(ctl, &body);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_call(ctl, "Retrieval/Facets", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  uint64_t documents = ctl_uint(answer, "documents");
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  if (ctl_array(answer, "facets", &facets)) {
    rag_json_iter it = rag_json_iter_of(facets);
    while (rag_json_iter_next(&it)) add_facet(table, it.value, documents);
  }
  ctl_table_print(table);
  ctl_table_destroy(table);
  char count[32];
  ctl_count(documents, count);
  rag_slice commit = ctl_text(answer, "commit");
  printf("%s%s %s at %.*s in %.2f ms%s\n", ctl_colour.dim, count, documents == 1 ? "document" : "documents",
         (int)commit.size, commit.data, (double)ctl_uint(answer, "took_us") / 1000, ctl_colour.off);
  return CTL_EXIT_OK;
}
