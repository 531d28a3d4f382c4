// Commands of operations: jobs, API keys, status.
#include "tools/ragctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

// ---------------------------------------------------------------------------------------------- jobs

static void progress_text(rag_json job, char out[96]) {
  char done[32], total[32];
  rag_slice unit = ctl_text(job, "unit");
  ctl_count(ctl_uint(job, "done"), done);
  ctl_count(ctl_uint(job, "total"), total);
  if (ctl_uint(job, "total"))
    snprintf(out, 96, "%s of %s %.*s (%.0f%%)", done, total, (int)unit.size, unit.data,
             ctl_double(job, "progress") * 100);
  else if (ctl_uint(job, "done")) snprintf(out, 96, "%s %.*s", done, (int)unit.size, unit.data);
  else snprintf(out, 96, "-");
}

static void job_one(void *ctx, rag_json job) {
  char progress[96], created[64];
  progress_text(job, progress);
  ctl_time_local(ctl_text(job, "created_at"), created);
  ctl_table_cell(ctx, "%llu", (unsigned long long)ctl_uint(job, "id"));
  ctl_table_slice(ctx, ctl_text(job, "kind"));
  ctl_table_slice(ctx, ctl_text(job, "subject"));
  ctl_table_slice(ctx, ctl_text(job, "state"));
  ctl_table_cell(ctx, "%s", progress);
  ctl_table_cell(ctx, "%s", created);
}

int ctl_run_jobs_list(ctl_session *ctl) {
  static const char *const headings[] = {">ID", "KIND", "OF", "STATE", "PROGRESS", "CREATED"};
  uint64_t limit = 0;
  rag_buf fields = {0};
  if (!ctl_option_number(ctl, "limit", UINT32_MAX, &limit)) return CTL_EXIT_USAGE;
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  ctl_body_begin(&fields);
  int exit_status = ctl_list(ctl, "Operations/ListJobs", &fields, "jobs", limit, job_one, table);
  if (exit_status == CTL_EXIT_OK && !ctl->json) {
    if (ctl_table_rows(table)) ctl_table_print(table);
    else puts("no jobs");
  }
  ctl_table_destroy(table);
  rag_buf_free(&fields);
  return exit_status;
}

static bool job_id(ctl_session *ctl, uint64_t *out) {
  const char *text = ctl->args[0];
  size_t digits = strspn(text, "0123456789");
  if (digits == 0 || digits > 19 || text[digits]) {
    (void)ctl_usage_error(ctl, "'%s' is no job's number", text);
    return false;
  }
  *out = strtoull(text, NULL, 10);
  return true;
}

static void print_job(rag_json job) {
  static const char *const times[][2] = {
      {"created_at", "created"}, {"started_at", "started"}, {"finished_at", "finished"}};
  char text[96], eta[24];
  rag_json result;
  rag_buf receipt = {0};
  rag_slice kind = ctl_text(job, "kind"), subject = ctl_text(job, "subject"), state = ctl_text(job, "state");
  printf("job %llu: %.*s%s%.*s, %.*s\n", (unsigned long long)ctl_uint(job, "id"), (int)kind.size, kind.data,
         subject.size ? " of " : "", (int)subject.size, subject.data, (int)state.size, state.data);
  progress_text(job, text);
  printf("  progress  %s", text);
  if (rag_json_find(job, rag_slice_str("eta_seconds"), &result) && rag_json_type_of(result) != RAG_JSON_NULL) {
    ctl_duration(ctl_double(job, "eta_seconds"), eta);
    printf(", %s left", eta);
  }
  putchar('\n');
  for (size_t i = 0; i < RAG_COUNT_OF(times); i++) {
    if (ctl_text(job, times[i][0]).size == 0) continue;
    ctl_time_local(ctl_text(job, times[i][0]), text);
    printf("  %-9s %s\n", times[i][1], text);
  }
  if (ctl_text(job, "error").size) {
    fputs("  error     ", stdout);
    ctl_print_text(ctl_text(job, "error"), false);
    putchar('\n');
  }
  if (rag_json_find(job, rag_slice_str("result"), &result) && rag_json_type_of(result) == RAG_JSON_OBJECT) {
    rag_json_write(result, &receipt);
    fputs("  result    ", stdout);
    ctl_print_text(rag_buf_slice(&receipt), false);
    putchar('\n');
  }
  rag_buf_free(&receipt);
}

static int job_call(ctl_session *ctl, const char *rpc) {
  rag_buf body = {0};
  rag_json job;
  uint64_t id = 0;
  if (!job_id(ctl, &id)) return CTL_EXIT_USAGE;
  ctl_body_begin(&body);
  ctl_body_uint(&body, "id", id);
  int exit_status = ctl_call(ctl, rpc, &body, &job);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  print_job(job);
  return CTL_EXIT_OK;
}

int ctl_run_jobs_show(ctl_session *ctl) {
  return job_call(ctl, "Operations/GetJob");
}

int ctl_run_jobs_pause(ctl_session *ctl) {
  return job_call(ctl, "Operations/PauseJob");
}

int ctl_run_jobs_resume(ctl_session *ctl) {
  return job_call(ctl, "Operations/ResumeJob");
}

int ctl_run_jobs_cancel(ctl_session *ctl) {
  return job_call(ctl, "Operations/CancelJob");
}

int ctl_run_jobs_wait(ctl_session *ctl) {
  uint64_t id = 0;
  rag_json job;
  if (!job_id(ctl, &id)) return CTL_EXIT_USAGE;
  int exit_status = ctl_finish_job(ctl, id, &job);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  rag_slice state = ctl_text(job, "state");
  bool succeeded = rag_slice_equal(state, rag_slice_str("succeeded"));
  if (ctl->json) (void)ctl_print_json(ctl);
  else print_job(job);
  return succeeded ? CTL_EXIT_OK : CTL_EXIT_FAILED;
}

// ---------------------------------------------------------------------------------------------- keys

// Every value of an option that may be given more than once, as a list.
static void body_names(rag_buf *body, const ctl_session *ctl, const char *option, const char *field) {
  const char *name;
  if (!ctl_option_given(ctl, option)) return;
  ctl_body_name(body, field);
  rag_buf_append_char(body, '[');
  for (unsigned i = 0; (name = ctl_option_nth(ctl, option, i)) != NULL; i++) {
    if (i) rag_buf_append_char(body, ',');
    rag_json_put_string(body, rag_slice_str(name));
  }
  rag_buf_append_char(body, ']');
}

// The secret alone on stdout, so that `ragctl key create me > key` makes an --api-key-file.
static int print_secret(ctl_session *ctl, rag_json answer) {
  if (ctl->json) return ctl_print_json(ctl);
  rag_slice secret = ctl_text(answer, "secret");
  rag_json key;
  if (rag_json_find(answer, rag_slice_str("key"), &key)) {
    rag_slice id = ctl_text(key, "id"), role = ctl_text(key, "role");
    fprintf(stderr, "key %.*s, role %.*s; the secret is shown this once:\n", (int)id.size, id.data, (int)role.size,
            role.data);
  }
  printf("%.*s\n", (int)secret.size, secret.data);
  return CTL_EXIT_OK;
}

int ctl_run_key_create(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer;
  const char *role = ctl_option_text(ctl, "role");
  static const struct {
    const char *option, *field;
    uint64_t max;
  } limits[] = {{"rate", "requests_per_second", UINT32_MAX},
                {"burst", "burst", UINT32_MAX},
                {"bytes-per-day", "bytes_per_day", INT64_MAX}};
  ctl_body_begin(&body);
  ctl_body_string(&body, "name", ctl->args[0]);
  ctl_body_string(&body, "role", role ? role : "read");
  body_names(&body, ctl, "kb", "kbs");
  body_names(&body, ctl, "feature-view", "feature_views");
  for (size_t i = 0; i < RAG_COUNT_OF(limits); i++) {
    uint64_t value = 0;
    if (!ctl_option_number(ctl, limits[i].option, limits[i].max, &value)) {
      rag_buf_free(&body);
      return CTL_EXIT_USAGE;
    }
    if (value) ctl_body_uint(&body, limits[i].field, value);
  }
  ctl_body_option(&body, ctl, "expires", "expires_at");
  int exit_status = ctl_call(ctl, "Operations/CreateKey", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  return print_secret(ctl, answer);
}

int ctl_run_key_rotate(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer;
  uint64_t grace_s = 0;
  if (!ctl_option_number(ctl, "grace", UINT32_MAX, &grace_s)) return CTL_EXIT_USAGE;
  ctl_body_begin(&body);
  ctl_body_string(&body, "id", ctl->args[0]);
  ctl_body_uint(&body, "grace_seconds", grace_s);
  ctl_body_option(&body, ctl, "expires", "expires_at");
  int exit_status = ctl_call(ctl, "Operations/RotateKey", &body, &answer);
  rag_buf_free(&body);
  return exit_status == CTL_EXIT_OK ? print_secret(ctl, answer) : exit_status;
}

static void list_names(rag_json key, const char *field, rag_buf *list) {
  rag_json names;
  if (!ctl_array(key, field, &names)) return;
  rag_json_iter it = rag_json_iter_of(names);
  while (rag_json_iter_next(&it)) {
    if (list->size) rag_buf_append_str(list, ", ");
    rag_slice name = rag_json_string(it.value);
    rag_buf_append(list, name.data, name.size);
  }
}

static void key_one(void *ctx, rag_json key) {
  rag_buf list = {0};
  char created[64], expires[64], used[64];
  list_names(key, "kbs", &list);
  list_names(key, "feature_views", &list);
  ctl_time_local(ctl_text(key, "last_used_at"), used);
  ctl_time_local(ctl_text(key, "created_at"), created);
  ctl_time_local(ctl_text(key, "expires_at"), expires);
  ctl_table_slice(ctx, ctl_text(key, "id"));
  ctl_table_slice(ctx, ctl_text(key, "name"));
  ctl_table_slice(ctx, ctl_text(key, "role"));
  ctl_table_slice(ctx, list.size ? rag_buf_slice(&list) : rag_slice_str("all"));
  ctl_table_cell(ctx, "%s", created);
  ctl_table_cell(ctx, "%s", ctl_text(key, "last_used_at").size ? used : "never");
  ctl_table_cell(ctx, "%s", ctl_text(key, "expires_at").size ? expires : "never");
  rag_buf_free(&list);
}

int ctl_run_key_list(ctl_session *ctl) {
  static const char *const headings[] = {"ID", "NAME", "ROLE", "FOR", "CREATED", "LAST USED", "EXPIRES"};
  rag_buf body = {0};
  rag_json answer, keys;
  ctl_body_begin(&body);
  int exit_status = ctl_call(ctl, "Operations/ListKeys", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  if (ctl_array(answer, "keys", &keys)) {
    rag_json_iter it = rag_json_iter_of(keys);
    while (rag_json_iter_next(&it)) key_one(table, it.value);
  }
  if (ctl_table_rows(table)) ctl_table_print(table);
  else puts("no API keys: whoever reaches the server may do everything");
  ctl_table_destroy(table);
  return CTL_EXIT_OK;
}

int ctl_run_key_delete(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json answer;
  ctl_body_begin(&body);
  ctl_body_string(&body, "id", ctl->args[0]);
  int exit_status = ctl_call(ctl, "Operations/DeleteKey", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  printf("deleted key %s\n", ctl->args[0]);
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- status

int ctl_run_status(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json s;
  char text[32], other[32];
  ctl_body_begin(&body);
  int exit_status = ctl_call(ctl, "Operations/GetStatus", &body, &s);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  rag_slice version = ctl_text(s, "version"), dir = ctl_text(s, "data_dir"), kernels = ctl_text(s, "kernels");
  ctl_duration((double)ctl_uint(s, "uptime_seconds"), text);
  printf("ragd %.*s, up %s\n", (int)version.size, version.data, text);
  fputs("data             ", stdout);
  ctl_print_text(dir, false);
  printf(", format %llu\n", (unsigned long long)ctl_uint(s, "store_format"));
  fputs("writes           ", stdout);
  if (ctl_bool(s, "writable")) puts("taken");
  else {
    printf("%srefused: ", ctl_colour.red);
    ctl_print_text(ctl_text(s, "reason"), false);
    puts(ctl_colour.off);
  }
  printf("API keys         %s\n",
         ctl_bool(s, "auth") ? "asked for" : "none: whoever reaches the server may do everything");
  ctl_count(ctl_uint(s, "kbs"), text);
  printf("knowledge bases  %s\n", text);
  ctl_count(ctl_uint(s, "commits"), text);
  ctl_count(ctl_uint(s, "commit_groups"), other);
  printf("commits          %s since the start, in %s synced writes\n", text, other);
  ctl_bytes(ctl_uint(s, "disk_bytes"), text);
  ctl_bytes(ctl_uint(s, "disk_free_bytes"), other);
  printf("disk             %s, %s free\n", text, other);
  ctl_bytes(ctl_uint(s, "vector_bytes"), text);
  printf("vectors          %s in memory, %.*s kernels\n", text, (int)kernels.size, kernels.data);
  ctl_bytes(ctl_uint(s, "word_bytes"), text);
  ctl_bytes(ctl_uint(s, "field_bytes"), other);
  printf("words, fields    %s, %s in memory\n", text, other);
  return CTL_EXIT_OK;
}
