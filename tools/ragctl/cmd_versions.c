// Commands on history: log, show, diff, branches, tags, merge, rollback, gc.
#include "tools/ragctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

#define SHOWN_CHANGES_MAX 50u // of `show`; `diff` lists all

// ---------------------------------------------------------------------------------------------- names of commits

typedef struct names { // "c5" -> "main, v1"
  rag_strings commits, names;
  bool tag;
} names;

static void names_add(void *ctx, rag_json ref) {
  names *n = ctx;
  char text[RAG_NAME_MAX + 8];
  rag_slice name = ctl_text(ref, "name");
  snprintf(text, sizeof(text), "%s%.*s", n->tag ? "tag: " : "", (int)name.size, name.data);
  if (rag_strings_add(&n->commits, ctl_text(ref, "commit"), NULL) == RAG_OK &&
      rag_strings_add(&n->names, rag_slice_str(text), NULL) != RAG_OK)
    n->commits.count = n->names.count; // decoration: without memory it stays short
}

static void names_free(names *n) {
  rag_strings_free(&n->commits);
  rag_strings_free(&n->names);
}

static int names_load(ctl_session *ctl, names *out) {
  static const char *const rpcs[][2] = {{"Versions/ListBranches", "branches"}, {"Versions/ListTags", "tags"}};
  rag_buf fields = {0};
  int exit_status = CTL_EXIT_OK;
  *out = (names){0};
  ctl_body_begin(&fields);
  ctl_body_string(&fields, "kb", ctl->args[0]);
  for (size_t i = 0; exit_status == CTL_EXIT_OK && i < RAG_COUNT_OF(rpcs); i++) {
    out->tag = i == 1;
    exit_status = ctl_list(ctl, rpcs[i][0], &fields, rpcs[i][1], 0, names_add, out);
  }
  rag_buf_free(&fields);
  return exit_status;
}

static void print_names(const names *n, rag_slice commit) {
  bool any = false;
  for (size_t i = 0; i < n->commits.count; i++) {
    if (!rag_slice_equal(commit, rag_slice_str(n->commits.items[i]))) continue;
    bool tag = strncmp(n->names.items[i], "tag: ", 5) == 0;
    printf("%s%s%s%s", any ? ", " : " (", tag ? ctl_colour.yellow : ctl_colour.green, n->names.items[i],
           ctl_colour.off);
    any = true;
  }
  if (any) putchar(')');
}

// ---------------------------------------------------------------------------------------------- log, show

typedef struct log {
  names names;
  bool oneline, any;
} log_output;

static void print_counts(rag_json commit) {
  printf("%s+%llu%s %s~%llu%s %s-%llu%s", ctl_colour.green, (unsigned long long)ctl_uint(commit, "added"),
         ctl_colour.off, ctl_colour.yellow, (unsigned long long)ctl_uint(commit, "changed"), ctl_colour.off,
         ctl_colour.red, (unsigned long long)ctl_uint(commit, "removed"), ctl_colour.off);
  if (!ctl_bool(commit, "counts_exact")) fputs(" revisions", stdout);
}

static rag_slice first_line(rag_slice text) {
  const char *newline = memchr(text.data, '\n', text.size);
  return rag_slice_of(text.data, newline ? (size_t)(newline - text.data) : text.size);
}

static void print_message(rag_slice message) {
  while (message.size) {
    rag_slice line = first_line(message);
    fputs("    ", stdout);
    ctl_print_text(line, false);
    putchar('\n');
    size_t step = RAG_MIN(line.size + 1, message.size);
    message = rag_slice_of(message.data + step, message.size - step);
  }
}

static void print_commit(const names *n, rag_json commit) {
  rag_slice id = ctl_text(commit, "id"), author = ctl_text(commit, "author"), kind = ctl_text(commit, "kind");
  rag_json parents;
  char time_text[64], documents[32], chunks[32];
  printf("%scommit %.*s%s", ctl_colour.yellow, (int)id.size, id.data, ctl_colour.off);
  print_names(n, id);
  putchar('\n');
  if (ctl_array(commit, "parents", &parents) && rag_json_size(parents) > 1) {
    fputs("Merge:   ", stdout);
    rag_json_iter it = rag_json_iter_of(parents);
    while (rag_json_iter_next(&it))
      if (rag_json_type_of(it.value) == RAG_JSON_STRING)
        printf("%.*s ", (int)rag_json_string(it.value).size, rag_json_string(it.value).data);
    putchar('\n');
  }
  if (author.size) {
    fputs("Author:  ", stdout);
    ctl_print_text(author, false);
    putchar('\n');
  }
  ctl_time_local(ctl_text(commit, "time"), time_text);
  ctl_count(ctl_uint(commit, "documents"), documents);
  ctl_count(ctl_uint(commit, "chunks"), chunks);
  printf("Date:    %s\nChanges: %.*s ", time_text, (int)kind.size, kind.data);
  print_counts(commit);
  printf(", %s documents, %s chunks\n", documents, chunks);
  rag_slice message = ctl_text(commit, "message");
  if (message.size) putchar('\n');
  print_message(message);
}

static void log_one(void *ctx, rag_json commit) {
  log_output *log = ctx;
  if (!log->oneline) {
    if (log->any) putchar('\n');
    print_commit(&log->names, commit);
    log->any = true;
    return;
  }
  rag_slice id = ctl_text(commit, "id"), message = first_line(ctl_text(commit, "message"));
  rag_slice kind = ctl_text(commit, "kind");
  printf("%s%.*s%s", ctl_colour.yellow, (int)id.size, id.data, ctl_colour.off);
  print_names(&log->names, id);
  printf(" %.*s ", (int)kind.size, kind.data);
  print_counts(commit);
  if (message.size) {
    putchar(' ');
    ctl_print_text(message, false);
  }
  putchar('\n');
}

int ctl_run_log(ctl_session *ctl) {
  uint64_t limit = 0;
  rag_buf fields = {0};
  log_output log = {.oneline = ctl_option_given(ctl, "oneline")};
  if (!ctl_option_number(ctl, "limit", UINT32_MAX, &limit)) return CTL_EXIT_USAGE;
  int exit_status = ctl->json ? CTL_EXIT_OK : names_load(ctl, &log.names);
  if (exit_status == CTL_EXIT_OK) {
    ctl_body_begin(&fields);
    ctl_body_string(&fields, "kb", ctl->args[0]);
    if (ctl->arg_count > 1) ctl_body_string(&fields, "branch", ctl->args[1]);
    exit_status = ctl_list(ctl, "Versions/ListCommits", &fields, "commits", limit, log_one, &log);
  }
  names_free(&log.names);
  rag_buf_free(&fields);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- diff

typedef struct diff_output {
  bool texts;
  uint64_t max, printed; // ids; 0: no bound
} diff_output;

static void print_ids(diff_output *out, rag_json answer, const char *field, char mark, const char *colour) {
  rag_json ids;
  if (!ctl_array(answer, field, &ids)) return;
  rag_json_iter it = rag_json_iter_of(ids);
  while ((!out->max || out->printed < out->max) && rag_json_iter_next(&it)) {
    printf("%s%c ", colour, mark);
    ctl_print_text(rag_json_string(it.value), false);
    printf("%s\n", ctl_colour.off);
    out->printed++;
  }
}

static void print_unified(rag_slice diff) {
  while (diff.size) {
    rag_slice line = first_line(diff);
    const char *colour = "";
    if (line.size >= 3 && (memcmp(line.data, "---", 3) == 0 || memcmp(line.data, "+++", 3) == 0))
      colour = ctl_colour.bold;
    else if (line.size && line.data[0] == '+') colour = ctl_colour.green;
    else if (line.size && line.data[0] == '-') colour = ctl_colour.red;
    else if (line.size && line.data[0] == '@') colour = ctl_colour.cyan;
    fputs(colour, stdout);
    ctl_print_text(line, true);
    puts(*colour ? ctl_colour.off : "");
    size_t step = RAG_MIN(line.size + 1, diff.size);
    diff = rag_slice_of(diff.data + step, diff.size - step);
  }
}

static void print_diff_page(diff_output *out, rag_json answer) {
  rag_json texts;
  print_ids(out, answer, "added", 'A', ctl_colour.green);
  print_ids(out, answer, "changed", 'M', ctl_colour.yellow);
  print_ids(out, answer, "removed", 'D', ctl_colour.red);
  if (!out->texts || !ctl_array(answer, "texts", &texts)) return;
  rag_json_iter it = rag_json_iter_of(texts);
  while (rag_json_iter_next(&it)) {
    putchar('\n');
    print_unified(ctl_text(it.value, "diff"));
  }
}

static void print_diff_counts(rag_json answer) {
  rag_slice from = ctl_text(answer, "from_commit"), to = ctl_text(answer, "to_commit");
  char added[32], changed[32], removed[32];
  ctl_count(ctl_uint(answer, "added_count"), added);
  ctl_count(ctl_uint(answer, "changed_count"), changed);
  ctl_count(ctl_uint(answer, "removed_count"), removed);
  printf("%s%.*s to %.*s: %s added, %s changed, %s removed%s\n", ctl_colour.dim, (int)from.size, from.data,
         (int)to.size, to.data, added, changed, removed, ctl_colour.off);
}

// to NULL: main.
static int print_diff(ctl_session *ctl, const char *from, const char *to, diff_output *out) {
  rag_buf body = {0};
  char *token = NULL;
  int exit_status = CTL_EXIT_OK;
  for (bool first = true; exit_status == CTL_EXIT_OK && (first || token); first = false) {
    rag_json answer;
    ctl_body_begin(&body);
    ctl_body_string(&body, "kb", ctl->args[0]);
    ctl_body_string(&body, "from", from);
    ctl_body_string(&body, "to", to);
    if (out->texts) ctl_body_bool(&body, "text", true);
    ctl_body_string(&body, "page_token", token);
    exit_status = ctl_call(ctl, "Versions/Diff", &body, &answer);
    rag_free(token);
    token = NULL;
    if (exit_status != CTL_EXIT_OK) break;
    if (ctl->json) {
      exit_status = ctl_print_json(ctl);
      break;
    }
    if (first) print_diff_counts(answer);
    if (ctl_option_given(ctl, "stat")) break;
    print_diff_page(out, answer);
    rag_slice next = ctl_text(answer, "next_page_token");
    bool full = out->max && out->printed >= out->max;
    if (next.size && full) puts("  and more; `ragctl diff` lists all");
    if (next.size && !full) token = rag_strndup(next.data, next.size);
  }
  rag_free(token);
  rag_buf_free(&body);
  return exit_status;
}

int ctl_run_diff(ctl_session *ctl) {
  diff_output out = {.texts = ctl_option_given(ctl, "text")};
  return print_diff(ctl, ctl->args[1], ctl->arg_count > 2 ? ctl->args[2] : NULL, &out);
}

int ctl_run_show(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json commit, parents;
  names n = {0};
  char *id = NULL, *parent = NULL;
  int exit_status = ctl->json ? CTL_EXIT_OK : names_load(ctl, &n);
  if (exit_status == CTL_EXIT_OK) {
    ctl_body_begin(&body);
    ctl_body_string(&body, "kb", ctl->args[0]);
    ctl_body_string(&body, "ref", ctl->arg_count > 1 ? ctl->args[1] : "main");
    exit_status = ctl_call(ctl, "Versions/GetCommit", &body, &commit);
  }
  if (exit_status == CTL_EXIT_OK && ctl->json) exit_status = ctl_print_json(ctl);
  else if (exit_status == CTL_EXIT_OK) {
    rag_slice id_text = ctl_text(commit, "id");
    print_commit(&n, commit);
    id = rag_strndup(id_text.data, id_text.size);
    if (ctl_array(commit, "parents", &parents)) {
      rag_json_iter it = rag_json_iter_of(parents);
      if (rag_json_iter_next(&it) && rag_json_type_of(it.value) == RAG_JSON_STRING)
        parent = rag_strndup(rag_json_string(it.value).data, rag_json_string(it.value).size);
    }
    diff_output out = {.max = SHOWN_CHANGES_MAX};
    if (id && parent) {
      putchar('\n');
      exit_status = print_diff(ctl, parent, id, &out);
    }
  }
  rag_free(id);
  rag_free(parent);
  names_free(&n);
  rag_buf_free(&body);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- branches, tags

static void ref_one(void *ctx, rag_json ref) {
  char created[64], moved[64];
  ctl_time_local(ctl_text(ref, "created_at"), created);
  ctl_time_local(ctl_text(ref, "moved_at"), moved);
  ctl_table_slice(ctx, ctl_text(ref, "name"));
  ctl_table_slice(ctx, ctl_text(ref, "commit"));
  ctl_table_cell(ctx, "%s", created);
  ctl_table_cell(ctx, "%s", moved);
}

static int list_refs(ctl_session *ctl, const char *rpc, const char *plural) {
  static const char *const headings[] = {"NAME", "COMMIT", "CREATED", "MOVED"};
  rag_buf fields = {0};
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  ctl_body_begin(&fields);
  ctl_body_string(&fields, "kb", ctl->args[0]);
  int exit_status = ctl_list(ctl, rpc, &fields, plural, 0, ref_one, table);
  if (exit_status == CTL_EXIT_OK && !ctl->json) {
    if (ctl_table_rows(table)) ctl_table_print(table);
    else printf("no %s\n", plural);
  }
  ctl_table_destroy(table);
  rag_buf_free(&fields);
  return exit_status;
}

static int create_ref(ctl_session *ctl, const char *rpc, const char *kind) {
  rag_buf body = {0};
  rag_json ref;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "name", ctl->args[1]);
  if (ctl->arg_count > 2) ctl_body_string(&body, "from", ctl->args[2]);
  int exit_status = ctl_call(ctl, rpc, &body, &ref);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  rag_slice commit = ctl_text(ref, "commit");
  printf("%s %s is at %.*s\n", kind, ctl->args[1], (int)commit.size, commit.data);
  return CTL_EXIT_OK;
}

static int delete_ref(ctl_session *ctl, const char *rpc, const char *kind) {
  rag_buf body = {0};
  rag_json answer;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "name", ctl->args[1]);
  int exit_status = ctl_call(ctl, rpc, &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  printf("deleted %s %s\n", kind, ctl->args[1]);
  return CTL_EXIT_OK;
}

int ctl_run_branch_list(ctl_session *ctl) {
  return list_refs(ctl, "Versions/ListBranches", "branches");
}

int ctl_run_branch_create(ctl_session *ctl) {
  return create_ref(ctl, "Versions/CreateBranch", "branch");
}

int ctl_run_branch_delete(ctl_session *ctl) {
  return delete_ref(ctl, "Versions/DeleteBranch", "branch");
}

int ctl_run_tag_list(ctl_session *ctl) {
  return list_refs(ctl, "Versions/ListTags", "tags");
}

int ctl_run_tag_create(ctl_session *ctl) {
  return create_ref(ctl, "Versions/CreateTag", "tag");
}

int ctl_run_tag_delete(ctl_session *ctl) {
  return delete_ref(ctl, "Versions/DeleteTag", "tag");
}

// ---------------------------------------------------------------------------------------------- merge, rollback, gc

static int finish(ctl_session *ctl, const char *rpc, rag_buf *body) {
  rag_json result;
  int exit_status = ctl_call(ctl, rpc, body, &result);
  rag_buf_free(body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  ctl_print_commit_result(ctl, result);
  return CTL_EXIT_OK;
}

int ctl_run_merge(ctl_session *ctl) {
  rag_buf body = {0};
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "from", ctl->args[1]);
  ctl_body_option(&body, ctl, "into", "into");
  ctl_body_option(&body, ctl, "strategy", "strategy");
  ctl_body_write(&body, ctl);
  return finish(ctl, "Versions/Merge", &body);
}

int ctl_run_rollback(ctl_session *ctl) {
  rag_buf body = {0};
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "to", ctl->args[1]);
  ctl_body_write(&body, ctl);
  return finish(ctl, "Versions/Rollback", &body);
}

int ctl_run_gc(ctl_session *ctl) {
  rag_buf body = {0}, text = {0};
  rag_json answer, result;
  uint64_t commits = 0, days = 0;
  if (!ctl_option_number(ctl, "keep-commits", UINT32_MAX, &commits) ||
      !ctl_option_number(ctl, "keep-days", UINT32_MAX, &days))
    return CTL_EXIT_USAGE;
  if (!commits && !days) return ctl_usage_error(ctl, "what is to be kept? Give --keep-commits or --keep-days");
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_uint(&body, "keep_commits", commits);
  ctl_body_uint(&body, "keep_days", days);
  int exit_status = ctl_call(ctl, "Versions/Gc", &body, &answer);
  rag_buf_free(&body);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_finish_job(ctl, ctl_uint(answer, "job"), &answer);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  rag_slice state = ctl_text(answer, "state");
  printf("gc: job %llu %.*s", (unsigned long long)ctl_uint(answer, "id"), (int)state.size, state.data);
  if (rag_json_find(answer, rag_slice_str("result"), &result) && rag_json_type_of(result) == RAG_JSON_OBJECT) {
    rag_json_write(result, &text);
    fputs(": ", stdout);
    ctl_print_text(rag_buf_slice(&text), false);
  }
  putchar('\n');
  rag_buf_free(&text);
  return CTL_EXIT_OK;
}
