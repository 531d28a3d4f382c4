// Commands of backups, and the check of everything.
//
// A backup directory can be read without a store or a server, so list, verify, delete and restore take one by --from;
// without it they ask the server, whose directory is its own option. `backup create --to` works in process.
#include "tools/ragctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

static bool id_of(const ctl_session *ctl, const char *text, uint64_t *out) {
  size_t digits = strspn(text, "0123456789");
  *out = digits > 0 && digits <= 10 && text[digits] == '\0' ? strtoull(text, NULL, 10) : 0;
  if (*out > 0 && *out <= UINT32_MAX) return true;
  (void)ctl_usage_error(ctl, "'%s' is no backup's number", text);
  return false;
}

static rag_status show_bytes(void *ctx, uint64_t done, uint64_t total, rag_error *err) {
  RAG_UNUSED(err);
  ctl_progress_show(ctx, done, total, "bytes", NULL);
  return RAG_OK;
}

static void print_size(const char *before, uint64_t bytes, const char *after) {
  char text[24];
  ctl_bytes(bytes, text);
  printf("%s%s%s", before, text, after);
}

// ---------------------------------------------------------------------------------------------- create

int ctl_run_backup_create(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer, result;
  uint64_t keep = 0;
  if (!ctl_option_number(ctl, "keep", UINT32_MAX, &keep)) return CTL_EXIT_USAGE;
  if (ctl_option_given(ctl, "keep") && keep == 0)
    return ctl_usage_error(ctl, "--keep 0 would keep none; without --keep all are kept");
  ctl->backup_dir = ctl_option_text(ctl, "to");
  ctl_body_begin(&body);
  ctl_body_uint(&body, "keep", keep);
  int exit_status = ctl_call(ctl, "Operations/CreateBackup", &body, &answer);
  rag_buf_free(&body);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_finish_job(ctl, ctl_uint(answer, "job"), &answer);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  if (!rag_json_find(answer, rag_slice_str("result"), &result) || rag_json_type_of(result) != RAG_JSON_OBJECT) {
    rag_slice state = ctl_text(answer, "state");
    printf("job %llu: %.*s\n", (unsigned long long)ctl_uint(answer, "id"), (int)state.size, state.data);
    return CTL_EXIT_OK;
  }
  printf("backup %llu", (unsigned long long)ctl_uint(result, "id"));
  print_size(": ", ctl_uint(result, "bytes"), "");
  print_size(", of which ", ctl_uint(result, "new_bytes"), " new");
  if (ctl_uint(result, "removed")) printf("; %llu older ones removed", (unsigned long long)ctl_uint(result, "removed"));
  putchar('\n');
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- list

static const char *const headings[] = {">ID", "STATE", "MADE", ">SIZE", ">NEW", "BY"};

static void row(ctl_table *table, uint64_t id, rag_slice state, rag_slice created, uint64_t bytes, uint64_t new_bytes,
                rag_slice program) {
  char text[64];
  bool complete = rag_slice_equal(state, rag_slice_str(rag_backup_state_name(RAG_BACKUP_COMPLETE)));
  ctl_table_cell(table, "%llu", (unsigned long long)id);
  ctl_table_slice(table, state);
  ctl_time_local(complete ? created : (rag_slice){0}, text);
  ctl_table_cell(table, "%s", text);
  ctl_bytes(bytes, text);
  ctl_table_cell(table, "%s", complete ? text : "-");
  ctl_bytes(new_bytes, text);
  ctl_table_cell(table, "%s", complete ? text : "-");
  ctl_table_slice(table, complete ? program : rag_slice_str("-"));
}

static void info_json(rag_buf *out, const rag_backup_info *info) {
  char created[RAG_TIME_TEXT_MAX];
  rag_time_format(info->created_us, created);
  rag_buf_printf(out, "{\"id\":%u,\"state\":\"%s\",\"created_at\":", info->id, rag_backup_state_name(info->state));
  if (info->created_us) rag_json_put_string(out, rag_slice_str(created));
  else rag_buf_append_str(out, "null");
  rag_buf_printf(out, ",\"bytes\":%llu,\"new_bytes\":%llu,\"files\":%llu,\"store_format\":%u,\"program\":",
                 (unsigned long long)info->bytes, (unsigned long long)info->new_bytes, (unsigned long long)info->files,
                 info->store_format);
  rag_json_put_string(out, rag_slice_str(info->program));
  rag_buf_append_str(out, ",\"store\":");
  rag_json_put_string(out, rag_slice_str(info->store));
  rag_buf_append_char(out, '}');
}

static int print_buf(ctl_session *ctl, rag_buf *text) {
  rag_status status = rag_buf_check(text, &ctl->err);
  if (status == RAG_OK) printf("%.*s\n", (int)text->size, text->data);
  rag_buf_free(text);
  return status == RAG_OK ? CTL_EXIT_OK : ctl_fail(ctl);
}

static int list_directory(ctl_session *ctl, const char *dir, ctl_table *table) {
  rag_backup_info *infos = NULL;
  uint32_t count = 0;
  rag_buf json = {0};
  char created[RAG_TIME_TEXT_MAX];
  if (rag_backup_list(dir, &infos, &count, &ctl->err) != RAG_OK) return ctl_fail(ctl);
  rag_buf_append_str(&json, "{\"backups\":[");
  for (uint32_t i = count; i-- > 0;) {
    rag_time_format(infos[i].created_us, created);
    row(table, infos[i].id, rag_slice_str(rag_backup_state_name(infos[i].state)), rag_slice_str(created),
        infos[i].bytes, infos[i].new_bytes, rag_slice_str(infos[i].program));
    info_json(&json, &infos[i]);
    if (i > 0) rag_buf_append_char(&json, ',');
  }
  rag_buf_append_str(&json, "],\"next_page_token\":\"\"}");
  rag_free(infos);
  if (ctl->json) return print_buf(ctl, &json);
  rag_buf_free(&json);
  return CTL_EXIT_OK;
}

int ctl_run_backup_list(ctl_session *ctl) {
  const char *dir = ctl_option_text(ctl, "from");
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  int exit_status;
  if (dir) exit_status = list_directory(ctl, dir, table);
  else {
    rag_buf body = {0};
    rag_json answer, backups;
    ctl_body_begin(&body);
    exit_status = ctl_call(ctl, "Operations/ListBackups", &body, &answer);
    rag_buf_free(&body);
    if (exit_status == CTL_EXIT_OK && ctl->json) (void)ctl_print_json(ctl);
    else if (exit_status == CTL_EXIT_OK && ctl_array(answer, "backups", &backups)) {
      rag_json_iter it = rag_json_iter_of(backups);
      while (rag_json_iter_next(&it))
        row(table, ctl_uint(it.value, "id"), ctl_text(it.value, "state"), ctl_text(it.value, "created_at"),
            ctl_uint(it.value, "bytes"), ctl_uint(it.value, "new_bytes"), ctl_text(it.value, "program"));
    }
  }
  if (exit_status == CTL_EXIT_OK && !ctl->json) {
    if (ctl_table_rows(table)) ctl_table_print(table);
    else puts("no backups");
  }
  ctl_table_destroy(table);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- verify

static void print_damage(void *ctx, const char *path, const char *what) {
  RAG_UNUSED(ctx);
  RAG_UNUSED(path);
  fprintf(stderr, "ragctl: %s\n", what);
}

static int verify_directory(ctl_session *ctl, const char *dir, uint32_t id) {
  ctl_progress progress;
  rag_backup_watch watch = {.progress = show_bytes, .report = print_damage, .ctx = &progress};
  rag_backup_info info = {0};
  rag_buf json = {0};
  ctl_progress_begin(&progress, "verify", true);
  rag_status status = rag_backup_verify(dir, id, &watch, &info, &ctl->err);
  ctl_progress_end(&progress);
  if (status != RAG_OK) return ctl_fail(ctl);
  if (ctl->json) {
    info_json(&json, &info);
    return print_buf(ctl, &json);
  }
  printf("backup %u is whole", info.id);
  print_size(": ", info.bytes, "");
  printf(" in %llu files\n", (unsigned long long)info.files);
  return CTL_EXIT_OK;
}

static void print_findings(rag_json result) {
  rag_json findings;
  if (!ctl_array(result, "findings", &findings)) return;
  rag_json_iter it = rag_json_iter_of(findings);
  while (rag_json_iter_next(&it)) {
    rag_slice level = ctl_text(it.value, "level"), where = ctl_text(it.value, "where");
    printf("%.*s: ", (int)level.size, level.data);
    if (where.size) {
      ctl_print_text(where, false);
      fputs(": ", stdout);
    }
    ctl_print_text(ctl_text(it.value, "text"), false);
    putchar('\n');
  }
}

// A job whose result lists findings: printed also when it failed.
static int finish_with_findings(ctl_session *ctl, uint64_t job, rag_json *result) {
  rag_json answer;
  int exit_status = ctl_finish_job(ctl, job, &answer);
  *result = (rag_json){0};
  bool answered = exit_status == CTL_EXIT_OK || ctl->err.status == RAG_OK;
  if (!answered || ctl->json) return exit_status;
  if (rag_json_find(answer, rag_slice_str("result"), result) && rag_json_type_of(*result) == RAG_JSON_OBJECT)
    print_findings(*result);
  return exit_status;
}

int ctl_run_backup_verify(ctl_session *ctl) {
  const char *dir = ctl_option_text(ctl, "from");
  uint64_t id = 0;
  rag_buf body = {0};
  rag_json answer, result;
  if (ctl->arg_count && !id_of(ctl, ctl->args[0], &id)) return CTL_EXIT_USAGE;
  if (dir) return verify_directory(ctl, dir, (uint32_t)id);
  if (!id) return ctl_usage_error(ctl, "which backup? Give its number, or --from DIR for the newest there");
  ctl_body_begin(&body);
  ctl_body_uint(&body, "id", id);
  int exit_status = ctl_call(ctl, "Operations/VerifyBackup", &body, &answer);
  rag_buf_free(&body);
  if (exit_status == CTL_EXIT_OK) exit_status = finish_with_findings(ctl, ctl_uint(answer, "job"), &result);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  if (ctl_option_given(ctl, "no-wait")) puts("being verified; see `ragctl jobs list`");
  else printf("backup %llu is whole\n", (unsigned long long)id);
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- delete, restore

int ctl_run_backup_delete(ctl_session *ctl) {
  const char *dir = ctl_option_text(ctl, "from");
  uint64_t id = 0;
  rag_json answer;
  int exit_status = CTL_EXIT_OK;
  if (!id_of(ctl, ctl->args[0], &id)) return CTL_EXIT_USAGE;
  if (!ctl_confirm(ctl, "This deletes backup %llu.", (unsigned long long)id)) return CTL_EXIT_FAILED;
  if (dir) {
    if (rag_backup_delete(dir, (uint32_t)id, &ctl->err) != RAG_OK) return ctl_fail(ctl);
    if (ctl->json) puts("{}");
  } else {
    rag_buf body = {0};
    ctl_body_begin(&body);
    ctl_body_uint(&body, "id", id);
    exit_status = ctl_call(ctl, "Operations/DeleteBackup", &body, &answer);
    rag_buf_free(&body);
    if (exit_status == CTL_EXIT_OK && ctl->json) return ctl_print_json(ctl);
  }
  if (exit_status == CTL_EXIT_OK && !ctl->json) printf("deleted backup %llu\n", (unsigned long long)id);
  return exit_status;
}

int ctl_run_restore(ctl_session *ctl) {
  const char *from = ctl_option_text(ctl, "from"), *to = ctl_option_text(ctl, "to"), *text = ctl_option_text(ctl, "id");
  uint64_t id = 0;
  ctl_progress progress;
  rag_backup_watch watch = {.progress = show_bytes, .ctx = &progress};
  rag_backup_info info = {0};
  rag_buf json = {0};
  if (!from || !to) return ctl_usage_error(ctl, "restore needs --from BACKUPS and --to NEWDIR");
  if (text && !id_of(ctl, text, &id)) return CTL_EXIT_USAGE;
  ctl_progress_begin(&progress, "restore", true);
  rag_status status = rag_backup_restore(from, (uint32_t)id, to, &watch, &info, &ctl->err);
  ctl_progress_end(&progress);
  if (status != RAG_OK) return ctl_fail(ctl);
  if (ctl->json) {
    info_json(&json, &info);
    return print_buf(ctl, &json);
  }
  char created[RAG_TIME_TEXT_MAX], local[64];
  rag_time_format(info.created_us, created);
  ctl_time_local(rag_slice_str(created), local);
  printf("restored backup %u of %s to %s", info.id, local, to);
  print_size(": ", info.bytes, "\n");
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- check

int ctl_run_check(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer, result;
  char rows[32], commits[32];
  ctl_body_begin(&body);
  int exit_status = ctl_call(ctl, "Operations/Check", &body, &answer);
  rag_buf_free(&body);
  if (exit_status == CTL_EXIT_OK) exit_status = finish_with_findings(ctl, ctl_uint(answer, "job"), &result);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  if (ctl_option_given(ctl, "no-wait")) {
    puts("being checked; see `ragctl jobs list`");
    return CTL_EXIT_OK;
  }
  ctl_count(ctl_uint(result, "rows"), rows);
  ctl_count(ctl_uint(result, "commits"), commits);
  printf("all is well: %s rows, %s commits of %llu knowledge bases, %llu notes\n", rows, commits,
         (unsigned long long)ctl_uint(result, "kbs"), (unsigned long long)ctl_uint(result, "notes"));
  return CTL_EXIT_OK;
}
