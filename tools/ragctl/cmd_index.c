// Commands on the index of a knowledge base: what it is made of, and making it compact.
#include "tools/ragctl/ctl.h"

#include <stdio.h>

static void print_bytes(const char *name, uint64_t bytes) {
  printf("%s%-14s%s %.1f MB\n", ctl_colour.dim, name, ctl_colour.off, (double)bytes / 1e6);
}

static void print_index(rag_json index) {
  static const char *const headings[] = {"SEGMENT", "ENGINE", "OF", ">VECTORS", ">FILE MB", ">WALKED MB", ">RECALL@10"};
  char count[32];
  rag_json segments;
  rag_slice engine = ctl_text(index, "engine"), build = ctl_text(index, "build");
  printf("%s%-14s%s %.*s\n", ctl_colour.dim, "engine", ctl_colour.off, (int)engine.size, engine.data);
  printf("%s%-14s%s %.*s%s\n", ctl_colour.dim, "build", ctl_colour.off, (int)build.size, build.data,
         ctl_bool(index, "building") ? ", being worked on" : "");
  ctl_count(ctl_uint(index, "rows"), count);
  printf("%s%-14s%s %s, ", ctl_colour.dim, "vectors", ctl_colour.off, count);
  ctl_count(ctl_uint(index, "tail_rows"), count);
  printf("%s of them in the tail\n", count);
  print_bytes("memory", ctl_uint(index, "memory_bytes"));
  if (!ctl_array(index, "segments", &segments) || rag_json_size(segments) == 0) return;
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  for (rag_json_iter it = rag_json_iter_of(segments); rag_json_iter_next(&it);) {
    rag_json segment = it.value;
    rag_slice id = ctl_text(segment, "id");
    ctl_table_slice(table, rag_slice_of(id.data, RAG_MIN(id.size, (size_t)8)));
    ctl_table_slice(table, ctl_text(segment, "engine"));
    ctl_table_cell(table, "%s", ctl_bool(segment, "history") ? "history" : "heads");
    ctl_count(ctl_uint(segment, "present"), count);
    ctl_table_cell(table, "%s", count);
    ctl_table_cell(table, "%.1f", (double)ctl_uint(segment, "file_bytes") / 1e6);
    ctl_table_cell(table, "%.1f", (double)ctl_uint(segment, "memory_bytes") / 1e6);
    double recall = ctl_double(segment, "recall");
    if (recall > 0) ctl_table_cell(table, "%.3f", recall);
    else ctl_table_cell(table, "-");
  }
  putchar('\n');
  ctl_table_print(table);
  ctl_table_destroy(table);
}

static int get_index(ctl_session *ctl, rag_json *out) {
  rag_buf body = {0};
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  int exit_status = ctl_call(ctl, "KnowledgeBases/GetIndex", &body, out);
  rag_buf_free(&body);
  return exit_status;
}

int ctl_run_index_show(ctl_session *ctl) {
  rag_json index;
  int exit_status = get_index(ctl, &index);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  print_index(index);
  return CTL_EXIT_OK;
}

int ctl_run_index_compact(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  int exit_status = ctl_call(ctl, "KnowledgeBases/CompactIndex", &body, &answer);
  rag_buf_free(&body);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_finish_job(ctl, ctl_uint(answer, "job"), &answer);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  if (ctl_option_given(ctl, "no-wait")) return CTL_EXIT_OK;
  exit_status = get_index(ctl, &answer);
  if (exit_status == CTL_EXIT_OK) print_index(answer);
  return exit_status;
}
