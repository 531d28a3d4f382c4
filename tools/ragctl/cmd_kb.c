// Commands on whole knowledge bases: create, list, show, update, delete, export, import.
#include "tools/ragctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool ctl_confirm(const ctl_session *ctl, const char *fmt, ...) {
  char answer[16] = "";
  va_list args;
  if (ctl_option_given(ctl, "yes") || !isatty(STDIN_FILENO)) return true;
  va_start(args, fmt);
  vfprintf(stderr, fmt, args);
  va_end(args);
  fputs(" Type yes to go on: ", stderr);
  if (!fgets(answer, sizeof(answer), stdin) || strcmp(answer, "yes\n") != 0) {
    fputs("ragctl: nothing was done\n", stderr);
    return false;
  }
  return true;
}

// ---------------------------------------------------------------------------------------------- settings

// Settings of the index. A call replaces all of them, so what is not given is as it is now (NULL: a new knowledge base).
static bool add_index(ctl_session *ctl, rag_buf *body, const rag_json *now) {
  static const char *const options[] = {"engine", "factory", "target-recall", "memory-max", "datatype"};
  uint64_t memory = now ? ctl_uint(*now, "memory_bytes_max") : 0;
  double target = now ? ctl_double(*now, "target_recall") : 0;
  bool any = false;
  for (size_t i = 0; i < RAG_COUNT_OF(options); i++) any |= ctl_option_given(ctl, options[i]);
  if (!any) return true;
  if (!ctl_option_number(ctl, "memory-max", UINT64_MAX / 2, &memory)) return false;
  if (!ctl_option_share(ctl, "target-recall", &target)) return false;
  rag_buf index = {0};
  ctl_body_begin(&index);
  ctl_body_option(&index, ctl, "engine", "engine");
  ctl_body_option(&index, ctl, "factory", "factory");
  ctl_body_option(&index, ctl, "datatype", "datatype");
  bool same_engine = !ctl_option_given(ctl, "engine");
  if (now && same_engine && !ctl_option_given(ctl, "factory") && ctl_text(*now, "factory").size) {
    ctl_body_name(&index, "factory");
    rag_json_put_string(&index, ctl_text(*now, "factory"));
  }
  if (target > 0) {
    ctl_body_name(&index, "target_recall");
    rag_json_put_double(&index, target);
  }
  if (memory > 0) ctl_body_uint(&index, "memory_bytes_max", memory);
  rag_buf_append_char(&index, '}');
  ctl_body_raw(body, "index", rag_buf_slice(&index));
  body->failed |= index.failed;
  rag_buf_free(&index);
  return true;
}

static bool add_settings(ctl_session *ctl, rag_buf *body, const rag_json *index_now) {
  uint64_t max_tokens = 0, overlap = 0;
  if (!ctl_option_number(ctl, "max-tokens", UINT32_MAX, &max_tokens)) return false;
  if (!ctl_option_number(ctl, "overlap-tokens", UINT32_MAX, &overlap)) return false;
  ctl_body_option(body, ctl, "description", "description");
  ctl_body_option(body, ctl, "language", "language");
  const char *method = ctl_option_text(ctl, "chunking");
  if (method || ctl_option_given(ctl, "max-tokens") || ctl_option_given(ctl, "overlap-tokens")) {
    rag_buf chunking = {0};
    ctl_body_begin(&chunking);
    ctl_body_string(&chunking, "method", method);
    if (ctl_option_given(ctl, "max-tokens")) ctl_body_uint(&chunking, "max_tokens", max_tokens);
    if (ctl_option_given(ctl, "overlap-tokens")) ctl_body_uint(&chunking, "overlap_tokens", overlap);
    rag_buf_append_char(&chunking, '}');
    ctl_body_raw(body, "chunking", rag_buf_slice(&chunking));
    body->failed |= chunking.failed;
    rag_buf_free(&chunking);
  }
  return add_index(ctl, body, index_now);
}

static void print_pair(const char *name, rag_slice value) {
  printf("%s%-14s%s ", ctl_colour.dim, name, ctl_colour.off);
  ctl_print_text(value, false);
  putchar('\n');
}

static void print_count(const char *name, uint64_t value) {
  char text[32];
  ctl_count(value, text);
  print_pair(name, rag_slice_str(text));
}

static void print_index(rag_json index) {
  char line[320], bytes[32];
  rag_slice engine = ctl_text(index, "engine"), factory = ctl_text(index, "factory");
  double target = ctl_double(index, "target_recall");
  int size = snprintf(line, sizeof(line), "%.*s%s%.*s", engine.size ? (int)engine.size : 4,
                      engine.size ? engine.data : "auto", factory.size ? " " : "", (int)factory.size, factory.data);
  if (target > 0) size += snprintf(line + size, sizeof(line) - (size_t)size, ", target recall %g", target);
  if (ctl_uint(index, "memory_bytes_max")) {
    ctl_count(ctl_uint(index, "memory_bytes_max"), bytes);
    snprintf(line + size, sizeof(line) - (size_t)size, ", at most %s bytes of memory", bytes);
  }
  print_pair("index", rag_slice_str(line));
}

static void print_kb(rag_json kb) {
  char line[160], time_text[64];
  rag_json chunking, index;
  rag_slice model = ctl_text(kb, "model"), metric = ctl_text(kb, "metric");
  print_pair("name", ctl_text(kb, "name"));
  if (ctl_text(kb, "description").size) print_pair("description", ctl_text(kb, "description"));
  print_pair("model", model.size ? model : rag_slice_str("none: vectors come with the documents"));
  rag_slice datatype = {0};
  if (rag_json_find(kb, rag_slice_str("index"), &index) && rag_json_type_of(index) == RAG_JSON_OBJECT)
    datatype = ctl_text(index, "datatype");
  snprintf(line, sizeof(line), "%llu dimensions, %.*s%s%.*s", (unsigned long long)ctl_uint(kb, "dimension"),
           (int)metric.size, metric.data, datatype.size ? ", kept as " : "", (int)datatype.size, datatype.data);
  print_pair("vectors", rag_slice_str(line));
  if (rag_json_find(kb, rag_slice_str("chunking"), &chunking) && rag_json_type_of(chunking) == RAG_JSON_OBJECT) {
    rag_slice method = ctl_text(chunking, "method");
    snprintf(line, sizeof(line), "%.*s, at most %llu tokens, %llu shared", (int)method.size, method.data,
             (unsigned long long)ctl_uint(chunking, "max_tokens"),
             (unsigned long long)ctl_uint(chunking, "overlap_tokens"));
    print_pair("chunking", rag_slice_str(line));
  }
  if (ctl_text(kb, "language").size) print_pair("language", ctl_text(kb, "language"));
  if (rag_json_find(kb, rag_slice_str("index"), &index) && rag_json_type_of(index) == RAG_JSON_OBJECT)
    print_index(index);
  print_pair("space", ctl_text(kb, "space"));
  ctl_time_local(ctl_text(kb, "created_at"), time_text);
  print_pair("created", rag_slice_str(time_text));
  print_pair("head of main", ctl_text(kb, "head"));
  print_count("documents", ctl_uint(kb, "documents"));
  print_count("chunks", ctl_uint(kb, "chunks"));
  print_count("commits", ctl_uint(kb, "commits"));
  print_count("branches", ctl_uint(kb, "branches"));
  print_count("tags", ctl_uint(kb, "tags"));
}

// ---------------------------------------------------------------------------------------------- commands

int ctl_run_kb_create(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json kb;
  uint64_t dimension = 0;
  if (!ctl_option_number(ctl, "dimension", UINT32_MAX, &dimension)) return CTL_EXIT_USAGE;
  ctl_body_begin(&body);
  ctl_body_string(&body, "name", ctl->args[0]);
  ctl_body_option(&body, ctl, "model", "model");
  if (ctl_option_given(ctl, "dimension")) ctl_body_uint(&body, "dimension", dimension);
  ctl_body_option(&body, ctl, "metric", "metric");
  int exit_status = CTL_EXIT_USAGE;
  if (add_settings(ctl, &body, NULL)) exit_status = ctl_call(ctl, "KnowledgeBases/CreateKb", &body, &kb);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  rag_slice model = ctl_text(kb, "model");
  printf("created %s: %llu dimensions, ", ctl->args[0], (unsigned long long)ctl_uint(kb, "dimension"));
  if (model.size) printf("embedded by %.*s\n", (int)model.size, model.data);
  else puts("vectors come with the documents");
  return CTL_EXIT_OK;
}

static void list_one(void *ctx, rag_json kb) {
  ctl_table *table = ctx;
  char count[32];
  ctl_table_slice(table, ctl_text(kb, "name"));
  ctl_count(ctl_uint(kb, "documents"), count);
  ctl_table_cell(table, "%s", count);
  ctl_count(ctl_uint(kb, "chunks"), count);
  ctl_table_cell(table, "%s", count);
  ctl_table_slice(table, ctl_text(kb, "head"));
  rag_slice model = ctl_text(kb, "model");
  ctl_table_slice(table, model.size ? model : rag_slice_str("-"));
  rag_slice description = ctl_text(kb, "description");
  ctl_table_slice(table, rag_slice_of(description.data, ctl_cut(description, 60)));
}

int ctl_run_kb_list(ctl_session *ctl) {
  static const char *const headings[] = {"NAME", ">DOCUMENTS", ">CHUNKS", "HEAD", "MODEL", "DESCRIPTION"};
  uint64_t limit = 0;
  rag_buf fields = {0};
  if (!ctl_option_number(ctl, "limit", UINT32_MAX, &limit)) return CTL_EXIT_USAGE;
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  ctl_body_begin(&fields);
  int exit_status = ctl_list(ctl, "KnowledgeBases/ListKbs", &fields, "kbs", limit, list_one, table);
  if (exit_status == CTL_EXIT_OK && !ctl->json) {
    if (ctl_table_rows(table)) ctl_table_print(table);
    else puts("no knowledge bases yet; `ragctl kb create NAME` makes one");
  }
  ctl_table_destroy(table);
  rag_buf_free(&fields);
  return exit_status;
}

static int call_kb(ctl_session *ctl, const char *rpc, rag_json *out) {
  rag_buf body = {0};
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  int exit_status = ctl_call(ctl, rpc, &body, out);
  rag_buf_free(&body);
  return exit_status;
}

int ctl_run_kb_show(ctl_session *ctl) {
  rag_json kb;
  int exit_status = call_kb(ctl, "KnowledgeBases/GetKb", &kb);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  print_kb(kb);
  return CTL_EXIT_OK;
}

int ctl_run_kb_update(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json kb, index;
  if (ctl->value_count == 0) return ctl_usage_error(ctl, "what is to change? Give at least one option");
  int exit_status = call_kb(ctl, "KnowledgeBases/GetKb", &kb);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  bool found = rag_json_find(kb, rag_slice_str("index"), &index) && rag_json_type_of(index) == RAG_JSON_OBJECT;
  exit_status = CTL_EXIT_USAGE;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  if (add_settings(ctl, &body, found ? &index : NULL))
    exit_status = ctl_call(ctl, "KnowledgeBases/UpdateKb", &body, &kb);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  print_kb(kb);
  return CTL_EXIT_OK;
}

int ctl_run_kb_delete(ctl_session *ctl) {
  rag_json answer;
  if (!ctl_confirm(ctl, "This deletes the knowledge base %s with its whole history.", ctl->args[0]))
    return CTL_EXIT_FAILED;
  int exit_status = call_kb(ctl, "KnowledgeBases/DeleteKb", &answer);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  uint64_t job = ctl_uint(answer, "job");
  if (ctl->json) (void)ctl_print_json(ctl);
  else printf("deleted %s\n", ctl->args[0]);
  fflush(stdout);
  bool json = ctl->json;
  ctl->json = false; // the answer to print was the call's, not the job's
  exit_status = ctl_finish_job(ctl, job, &answer);
  ctl->json = json;
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- export, import

typedef struct transfer_file {
  int fd;
  uint64_t done, total;
  const char *path;
  ctl_progress progress;
} transfer_file;

static rag_status write_file(void *ctx, const void *data, size_t size, rag_error *err) {
  transfer_file *file = ctx;
  RAG_TRY(rag_os_write_all(file->fd, data, size, err));
  file->done += size;
  ctl_progress_show(&file->progress, file->done, 0, "written", NULL);
  return RAG_OK;
}

static rag_status read_file(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  transfer_file *file = ctx;
  ssize_t got;
  do got = read(file->fd, data, size);
  while (got < 0 && errno == EINTR);
  if (got < 0) return rag_os_fail(err, "read", file->path, errno);
  file->done += (uint64_t)got;
  ctl_progress_show(&file->progress, file->done, file->total, "read", NULL);
  *out_size = (size_t)got;
  return RAG_OK;
}

static bool target_of(ctl_session *ctl, rag_buf *target, const char *before, const char *segment, const char *after) {
  rag_buf_append_str(target, before);
  for (const char *c = segment; *c; c++) {
    bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("-._~", *c);
    if (plain) rag_buf_append_char(target, *c);
    else rag_buf_printf(target, "%%%02X", (unsigned char)*c);
  }
  rag_buf_append_str(target, after);
  rag_buf_append_char(target, 0);
  return rag_buf_check(target, &ctl->err) == RAG_OK;
}

// To a temporary name first: a file with the asked-for name is a whole export.
int ctl_run_kb_export(ctl_session *ctl) {
  const char *path = ctl->args[1];
  bool to_stdout = strcmp(path, "-") == 0;
  rag_buf target = {0}, partial = {0};
  int http_status = 0, exit_status = CTL_EXIT_FAILED;
  transfer_file file = {.fd = STDOUT_FILENO, .path = path};
  rag_buf_printf(&partial, "%s.partial", path);
  rag_buf_append_char(&partial, 0);
  if (rag_buf_check(&partial, &ctl->err) != RAG_OK || !target_of(ctl, &target, "/v1/kbs/", ctl->args[0], "/export"))
    goto failed;
  if (!to_stdout) file.fd = open(partial.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file.fd < 0) {
    (void)rag_os_fail(&ctl->err, "open", partial.data, errno);
    goto failed;
  }
  ctl_progress_begin(&file.progress, "export", true);
  ctl_stream stream = {.method = "GET", .target = target.data, .write = write_file, .write_ctx = &file};
  rag_status status = ctl_stream_call(ctl, &stream, &http_status);
  ctl_progress_end(&file.progress);
  if (status == RAG_OK && http_status != 200) {
    exit_status = ctl_fail_answer(ctl, http_status);
    goto out;
  }
  if (status != RAG_OK) goto failed;
  if (!to_stdout) {
    if (fsync(file.fd) != 0 || rename(partial.data, path) != 0) {
      (void)rag_os_fail(&ctl->err, "write", path, errno);
      goto failed;
    }
    char size[24];
    ctl_bytes(file.done, size);
    if (!ctl->json) printf("exported %s to %s: %s\n", ctl->args[0], path, size);
    else printf("{\"bytes\":%llu}\n", (unsigned long long)file.done);
  }
  exit_status = CTL_EXIT_OK;
  goto out;
failed:
  exit_status = ctl_fail(ctl);
out:
  if (!to_stdout && file.fd >= 0) close(file.fd);
  if (!to_stdout && exit_status != CTL_EXIT_OK && partial.data) unlink(partial.data);
  rag_buf_free(&target);
  rag_buf_free(&partial);
  return exit_status;
}

static rag_status collect(void *ctx, const void *data, size_t size, rag_error *err) {
  rag_buf_append(ctx, data, size);
  return rag_buf_check(ctx, err);
}

int ctl_run_kb_import(ctl_session *ctl) {
  const char *path = ctl->args[0], *name = ctl_option_text(ctl, "name");
  rag_buf target = {0};
  rag_json kb;
  struct stat stat_of;
  int http_status = 0, exit_status = CTL_EXIT_FAILED;
  transfer_file file = {.fd = STDIN_FILENO, .path = path};
  if (!target_of(ctl, &target, name ? "/v1/kbs:import?name=" : "/v1/kbs:import", name ? name : "", "")) goto failed;
  if (strcmp(path, "-") != 0) file.fd = open(path, O_RDONLY | O_CLOEXEC);
  if (file.fd < 0) {
    (void)rag_os_fail(&ctl->err, "open", path, errno);
    goto failed;
  }
  if (fstat(file.fd, &stat_of) == 0 && S_ISREG(stat_of.st_mode)) file.total = (uint64_t)stat_of.st_size;
  ctl_progress_begin(&file.progress, "import", true);
  ctl_stream stream = {.method = "POST",
                       .target = target.data,
                       .content_type = "application/octet-stream",
                       .read = read_file,
                       .read_ctx = &file,
                       .write = collect,
                       .write_ctx = &ctl->answer};
  rag_status status = ctl_stream_call(ctl, &stream, &http_status);
  ctl_progress_end(&file.progress);
  if (status != RAG_OK) goto failed;
  if (http_status != 200) {
    exit_status = ctl_fail_answer(ctl, http_status);
    goto out;
  }
  exit_status = CTL_EXIT_OK;
  if (ctl->json) {
    (void)ctl_print_json(ctl);
  } else if (rag_json_parse(ctl->parser, rag_buf_slice(&ctl->answer), &kb, &ctl->err) == RAG_OK) {
    rag_slice kb_name = ctl_text(kb, "name");
    printf("imported %.*s: %llu documents, %llu commits\n", (int)kb_name.size, kb_name.data,
           (unsigned long long)ctl_uint(kb, "documents"), (unsigned long long)ctl_uint(kb, "commits"));
  } else goto failed;
  goto out;
failed:
  exit_status = ctl_fail(ctl);
out:
  if (file.fd > STDIN_FILENO) close(file.fd);
  rag_buf_free(&target);
  return exit_status;
}
