// Commands on documents: put and sync (files to one commit), import (a stream), get, ls, rm, patch, purge.
#include "tools/ragctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *author_of(const ctl_session *ctl) {
  const char *author = ctl_option_text(ctl, "author");
  if (author) return author;
  author = getenv("RAGD_AUTHOR");
  if (author && *author) return author;
  const struct passwd *user = getpwuid(getuid());
  return user ? user->pw_name : NULL;
}

void ctl_body_write(rag_buf *body, const ctl_session *ctl) {
  ctl_body_option(body, ctl, "branch", "branch");
  ctl_body_option(body, ctl, "message", "message");
  ctl_body_string(body, "author", author_of(ctl));
  ctl_body_option(body, ctl, "expect-parent", "expect_parent");
}

void ctl_print_commit_result(const ctl_session *ctl, rag_json result) {
  static const struct {
    const char *field, *text;
    bool always;
  } counts[] = {{"added", "added", true},
                {"changed", "changed", true},
                {"removed", "removed", true},
                {"unchanged", "unchanged", false},
                {"missing", "not there", false}};
  rag_slice commit = ctl_text(result, "commit");
  const char *branch = ctl_option_text(ctl, "branch");
  if (!branch) branch = ctl_option_text(ctl, "into");
  if (ctl_bool(result, "committed"))
    printf("%s%.*s%s on %s:", ctl_colour.yellow, (int)commit.size, commit.data, ctl_colour.off,
           branch ? branch : "main");
  else printf("nothing changed, %s is still at %.*s", branch ? branch : "main", (int)commit.size, commit.data);
  bool first = true, committed = ctl_bool(result, "committed");
  for (size_t i = 0; i < RAG_COUNT_OF(counts); i++) {
    char count[32];
    uint64_t value = ctl_uint(result, counts[i].field);
    if (!value && !(counts[i].always && committed)) continue;
    ctl_count(value, count);
    printf("%s %s %s", !first ? "," : committed ? "" : ":", count, counts[i].text);
    first = false;
  }
  char embedded[32], reused[32];
  ctl_count(ctl_uint(result, "chunks_embedded"), embedded);
  ctl_count(ctl_uint(result, "chunks_reused"), reused);
  if (ctl_uint(result, "chunks_added"))
    printf("; %s %s embedded, %s reused", embedded, strcmp(embedded, "1") == 0 ? "chunk" : "chunks", reused);
  puts(ctl_bool(result, "replayed") ? " (an earlier answer again)" : "");
}

static int finish_write(ctl_session *ctl, const char *rpc, rag_buf *body) {
  rag_json result;
  int exit_status = ctl_call(ctl, rpc, body, &result);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  ctl_print_commit_result(ctl, result);
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- put

// Documents [first, *end) that fit one request.
static size_t next_batch(const ctl_documents *documents, size_t first) {
  size_t start = first ? documents->ends[first - 1] : 0, end = first;
  while (end < documents->count && end - first < RAG_PUT_DOCUMENTS_MAX) {
    if (end > first && documents->ends[end] - start + (end - first) > CTL_BODY_BYTES_MAX) break;
    end++;
  }
  return end;
}

static void append_batch(rag_buf *body, const ctl_documents *documents, size_t first, size_t end) {
  rag_buf_append_char(body, '[');
  for (size_t i = first; i < end; i++) {
    size_t start = i ? documents->ends[i - 1] : 0;
    if (i > first) rag_buf_append_char(body, ',');
    rag_buf_append(body, documents->text.data + start, documents->ends[i] - start);
  }
  rag_buf_append_char(body, ']');
}

static int compare_strings(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool contains(const rag_strings *sorted, const char *text) {
  return bsearch(&text, sorted->items, sorted->count, sizeof(*sorted->items), compare_strings) != NULL;
}

// What a prune must remove when the documents do not fit one request, so that the server cannot tell by itself: the
// branch's documents that are not given. They are deleted with the last request.
typedef struct prune {
  const rag_strings *ids;     // sorted
  const rag_strings *sources; // sorted; NULL: all
  rag_strings gone;
  bool failed;
} prune;

static void prune_one(void *ctx, rag_json document) {
  prune *p = ctx;
  rag_slice id = ctl_text(document, "id"), source = ctl_text(document, "source_uri");
  char *id_text = rag_strndup(id.data, id.size), *source_text = rag_strndup(source.data, source.size);
  if (!id_text || !source_text) p->failed = true;
  else if (!contains(p->ids, id_text) && (!p->sources || (source.size && contains(p->sources, source_text))))
    p->failed |= rag_strings_add(&p->gone, id, NULL) != RAG_OK;
  rag_free(id_text);
  rag_free(source_text);
}

static int find_pruned(ctl_session *ctl, ctl_documents *documents, bool by_source, prune *out) {
  rag_buf fields = {0};
  bool json = ctl->json;
  rag_strings_sort(&documents->ids);
  rag_strings_sort(&documents->sources);
  *out = (prune){.ids = &documents->ids, .sources = by_source ? &documents->sources : NULL};
  ctl_body_begin(&fields);
  ctl_body_string(&fields, "kb", ctl->args[0]);
  ctl_body_option(&fields, ctl, "branch", "at");
  ctl->json = false; // this list is not the answer
  int exit_status = ctl_list(ctl, "Documents/ListDocuments", &fields, "documents", 0, prune_one, out);
  ctl->json = json;
  rag_buf_free(&fields);
  if (exit_status != CTL_EXIT_OK || !out->failed) return exit_status;
  (void)rag_fail_no_memory(&ctl->err, 1);
  return ctl_fail(ctl);
}

static void body_strings(rag_buf *body, const char *name, const rag_strings *strings) {
  ctl_body_name(body, name);
  rag_buf_append_char(body, '[');
  for (size_t i = 0; i < strings->count; i++) {
    if (i) rag_buf_append_char(body, ',');
    rag_json_put_string(body, rag_slice_str(strings->items[i]));
  }
  rag_buf_append_char(body, ']');
}

static int put_several(ctl_session *ctl, ctl_documents *documents, const char *prune_by) {
  rag_buf body = {0};
  prune pruned = {0};
  int exit_status = CTL_EXIT_OK;
  bool prunes = strcmp(prune_by, "none") != 0;
  fprintf(stderr, "ragctl: %zu documents are more than one request holds: several commits\n", documents->count);
  if (prunes) exit_status = find_pruned(ctl, documents, strcmp(prune_by, "source") == 0, &pruned);
  for (size_t first = 0; exit_status == CTL_EXIT_OK && first < documents->count;) {
    size_t end = next_batch(documents, first);
    ctl_body_begin(&body);
    ctl_body_string(&body, "kb", ctl->args[0]);
    ctl_body_write(&body, ctl);
    ctl_body_name(&body, "documents");
    append_batch(&body, documents, first, end);
    if (prunes && end == documents->count) body_strings(&body, "delete_ids", &pruned.gone);
    exit_status = finish_write(ctl, "Documents/PutDocuments", &body);
    fflush(stdout);
    first = end;
  }
  rag_strings_free(&pruned.gone);
  rag_buf_free(&body);
  return exit_status;
}

static int put_documents(ctl_session *ctl, ctl_documents *documents, const char *prune_by) {
  if (documents->count == 0 && strcmp(prune_by, "all") != 0) {
    fputs("ragctl: there is nothing to put\n", stderr);
    return CTL_EXIT_FAILED;
  }
  if (next_batch(documents, 0) < documents->count) return put_several(ctl, documents, prune_by);
  rag_buf body = {0};
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_write(&body, ctl);
  ctl_body_string(&body, "prune", prune_by);
  ctl_body_name(&body, "documents");
  append_batch(&body, documents, 0, documents->count);
  int exit_status = finish_write(ctl, "Documents/PutDocuments", &body);
  rag_buf_free(&body);
  return exit_status;
}

static int read_and_put(ctl_session *ctl, const char *prune_by) {
  ctl_documents documents = {0};
  ctl_read_options options = {.prefix = ctl_option_text(ctl, "prefix"),
                              .extensions = ctl_option_text(ctl, "ext"),
                              .source = ctl_option_text(ctl, "source")};
  int exit_status = CTL_EXIT_OK;
  for (unsigned i = 1; exit_status == CTL_EXIT_OK && i < ctl->arg_count; i++)
    if (ctl_read_path(ctl->args[i], &options, ctl->parser, &documents, &ctl->err) != RAG_OK)
      exit_status = ctl_fail(ctl);
  if (exit_status == CTL_EXIT_OK) exit_status = put_documents(ctl, &documents, prune_by);
  ctl_documents_free(&documents);
  return exit_status;
}

int ctl_run_put(ctl_session *ctl) {
  const char *prune_by = ctl_option_text(ctl, "prune");
  if (!prune_by) prune_by = "none";
  if (strcmp(prune_by, "none") != 0 && strcmp(prune_by, "source") != 0 && strcmp(prune_by, "all") != 0)
    return ctl_usage_error(ctl, "--prune: '%s' is none of none, source, all", prune_by);
  return read_and_put(ctl, prune_by);
}

int ctl_run_sync(ctl_session *ctl) {
  struct stat stat_of;
  if (stat(ctl->args[1], &stat_of) != 0) {
    (void)rag_os_fail(&ctl->err, "open", ctl->args[1], errno);
    return ctl_fail(ctl);
  }
  if (!S_ISDIR(stat_of.st_mode)) return ctl_usage_error(ctl, "%s is no folder", ctl->args[1]);
  return read_and_put(ctl, "all");
}

// ---------------------------------------------------------------------------------------------- import

typedef struct import {
  ctl_session *ctl;
  int fd;
  const char *path;
  uint64_t done, total;
  uint64_t documents; // committed, as far as the answer says
  ctl_progress progress;
  rag_buf line; // of the answer, not complete yet
  rag_json_parser *parser;
  bool finished, failed;
} import;

static rag_status import_read(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  import *im = ctx;
  ssize_t got;
  do got = read(im->fd, data, size);
  while (got < 0 && errno == EINTR);
  if (got < 0) return rag_os_fail(err, "read", im->path, errno);
  im->done += (uint64_t)got;
  char note[64] = "", count[32];
  ctl_count(im->documents, count);
  if (im->documents) snprintf(note, sizeof(note), ", %s documents", count);
  ctl_progress_show(&im->progress, im->done, im->total, "sent", note);
  *out_size = (size_t)got;
  return RAG_OK;
}

static void import_error(const import *im, rag_json line, rag_json error) {
  rag_slice code = ctl_text(error, "code"), message = ctl_text(error, "message");
  char count[32];
  ctl_count(ctl_uint(line, "documents"), count);
  fprintf(stderr, "ragctl: %s: %.*s (%.*s)\n", im->path, (int)message.size, message.data, (int)code.size, code.data);
  fprintf(stderr, "  %s documents before it are committed; sending them again costs nothing\n", count);
}

// Lines of the answer: one for each commit, then {"done": true, ...} or {"error": ...}.
static rag_status import_line(import *im, rag_error *err) {
  rag_json line, error;
  if (im->ctl->json) {
    fwrite(im->line.data, 1, im->line.size, stdout);
    putchar('\n');
  }
  RAG_TRY(rag_json_parse(im->parser, rag_buf_slice(&im->line), &line, err));
  if (rag_json_find(line, rag_slice_str("error"), &error)) {
    ctl_progress_end(&im->progress);
    import_error(im, line, error);
    im->failed = true;
    return RAG_OK;
  }
  im->documents = ctl_uint(line, "documents");
  if (!ctl_bool(line, "done")) return RAG_OK;
  im->finished = true;
  ctl_progress_end(&im->progress);
  if (im->ctl->json) return RAG_OK;
  char count[32];
  ctl_count(im->documents, count);
  uint64_t batches = ctl_uint(line, "batches");
  printf("%s documents in %llu %s; ", count, (unsigned long long)batches, batches == 1 ? "commit" : "commits");
  ctl_print_commit_result(im->ctl, line);
  return RAG_OK;
}

static rag_status import_write(void *ctx, const void *data, size_t size, rag_error *err) {
  import *im = ctx;
  const char *text = data;
  while (size) {
    const char *newline = memchr(text, '\n', size);
    size_t part = newline ? (size_t)(newline - text) : size;
    rag_buf_append(&im->line, text, part);
    RAG_TRY(rag_buf_check(&im->line, err));
    if (!newline) break;
    RAG_TRY(import_line(im, err));
    rag_buf_clear(&im->line);
    text += part + 1;
    size -= part + 1;
  }
  return RAG_OK;
}

static void query_param(rag_buf *target, const char *name, const char *value) {
  if (!value) return;
  rag_buf_append_char(target, memchr(target->data, '?', target->size) ? '&' : '?');
  rag_buf_printf(target, "%s=", name);
  for (const char *c = value; *c; c++) rag_buf_printf(target, "%%%02X", (unsigned char)*c);
}

int ctl_run_import(ctl_session *ctl) {
  rag_buf target = {0};
  struct stat stat_of;
  int http_status = 0, exit_status = CTL_EXIT_FAILED;
import im = {.ctl = ctl, .fd = STDIN_FILENO, .path = ctl->args[1], .parser = rag_json_parser_create() };
  if (!im.parser) {
    (void)rag_fail_no_memory(&ctl->err, 1);
    return ctl_fail(ctl);
  }
  rag_buf_append_str(&target, "/v1/kbs/");
  for (const char *c = ctl->args[0]; *c; c++) rag_buf_printf(&target, "%%%02X", (unsigned char)*c);
  rag_buf_append_str(&target, "/documents:import");
  query_param(&target, "branch", ctl_option_text(ctl, "branch"));
  query_param(&target, "message", ctl_option_text(ctl, "message"));
  query_param(&target, "author", author_of(ctl));
  query_param(&target, "batch", ctl_option_text(ctl, "batch"));
  rag_buf_append_char(&target, 0);
  if (rag_buf_check(&target, &ctl->err) != RAG_OK) goto failed;
  if (strcmp(im.path, "-") == 0) im.path = "standard input";
  else im.fd = open(im.path, O_RDONLY | O_CLOEXEC);
  if (im.fd < 0) {
    (void)rag_os_fail(&ctl->err, "open", im.path, errno);
    goto failed;
  }
  if (fstat(im.fd, &stat_of) == 0 && S_ISREG(stat_of.st_mode)) im.total = (uint64_t)stat_of.st_size;
  ctl_progress_begin(&im.progress, "import", true);
  ctl_stream stream = {.method = "POST",
                       .target = target.data,
                       .content_type = "application/x-ndjson",
                       .read = import_read,
                       .read_ctx = &im,
                       .write = import_write,
                       .write_ctx = &im};
  rag_status status = ctl_stream_call(ctl, &stream, &http_status);
  ctl_progress_end(&im.progress);
  if (im.finished && !im.failed) exit_status = CTL_EXIT_OK;
  else if (im.failed) exit_status = CTL_EXIT_FAILED; // it was printed; a cut connection after it says nothing new
  else if (status != RAG_OK) goto failed;
  else if (http_status != 200) exit_status = ctl_fail_answer(ctl, http_status);
  else {
    (void)rag_fail(&ctl->err, RAG_UNAVAILABLE, "the answer broke off; %llu documents are committed for certain",
                   (unsigned long long)im.documents);
    goto failed;
  }
  goto out;
failed:
  exit_status = ctl_fail(ctl);
out:
  if (im.fd > STDIN_FILENO) close(im.fd);
  rag_json_parser_destroy(im.parser);
  rag_buf_free(&im.line);
  rag_buf_free(&target);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- get, ls

static void print_field(const char *name, rag_slice value) {
  if (value.size == 0) return;
  printf("%s%-10s%s ", ctl_colour.dim, name, ctl_colour.off);
  ctl_print_text(value, false);
  putchar('\n');
}

static void print_document(rag_json document) {
  rag_json metadata, chunks;
  rag_buf text = {0};
  char changed[64];
  ctl_time_local(ctl_text(document, "changed_at"), changed);
  print_field("id", ctl_text(document, "id"));
  print_field("title", ctl_text(document, "title"));
  print_field("source", ctl_text(document, "source_uri"));
  print_field("language", ctl_text(document, "language"));
  if (rag_json_find(document, rag_slice_str("metadata"), &metadata) && rag_json_size(metadata)) {
    rag_json_write(metadata, &text);
    print_field("metadata", rag_buf_slice(&text));
  }
  rag_slice commit = ctl_text(document, "commit");
  printf("%s%-10s%s %.*s, %s\n", ctl_colour.dim, "changed", ctl_colour.off, (int)commit.size, commit.data, changed);
  if (ctl_array(document, "chunks", &chunks))
    printf("%s%-10s%s %zu\n", ctl_colour.dim, "chunks", ctl_colour.off, rag_json_size(chunks));
  putchar('\n');
  rag_buf_free(&text);
}

int ctl_run_get(ctl_session *ctl) {
  rag_buf body = {0};
  rag_json document;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "id", ctl->args[1]);
  ctl_body_option(&body, ctl, "at", "at");
  int exit_status = ctl_call(ctl, "Documents/GetDocument", &body, &document);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (ctl->json) return ctl_print_json(ctl);
  rag_slice text = ctl_text(document, "text");
  if (ctl_option_given(ctl, "text")) { // for pipes: the bytes as they are
    fwrite(text.data, 1, text.size, stdout);
    return CTL_EXIT_OK;
  }
  print_document(document);
  ctl_print_text(text, true);
  if (text.size && text.data[text.size - 1] != '\n') putchar('\n');
  return CTL_EXIT_OK;
}

static void list_one(void *ctx, rag_json document) {
  rag_slice title = ctl_text(document, "title");
  ctl_table_slice(ctx, ctl_text(document, "id"));
  ctl_table_slice(ctx, ctl_text(document, "commit"));
  ctl_table_slice(ctx, rag_slice_of(title.data, ctl_cut(title, 60)));
}

int ctl_run_ls(ctl_session *ctl) {
  static const char *const headings[] = {"ID", "CHANGED IN", "TITLE"};
  uint64_t limit = 0;
  rag_buf fields = {0};
  if (!ctl_option_number(ctl, "limit", UINT32_MAX, &limit)) return CTL_EXIT_USAGE;
  ctl_table *table = ctl_table_create(RAG_COUNT_OF(headings), headings);
  ctl_body_begin(&fields);
  ctl_body_string(&fields, "kb", ctl->args[0]);
  ctl_body_option(&fields, ctl, "at", "at");
  int exit_status = ctl_body_filter(&fields, ctl);
  if (exit_status == CTL_EXIT_OK)
    exit_status = ctl_list(ctl, "Documents/ListDocuments", &fields, "documents", limit, list_one, table);
  if (exit_status == CTL_EXIT_OK && !ctl->json) {
    if (ctl_table_rows(table)) ctl_table_print(table);
    else puts("no documents");
  }
  ctl_table_destroy(table);
  rag_buf_free(&fields);
  return exit_status;
}

// ---------------------------------------------------------------------------------------------- rm, patch, purge

static void body_arguments(rag_buf *body, const char *name, const ctl_session *ctl) {
  ctl_body_name(body, name);
  rag_buf_append_char(body, '[');
  for (unsigned i = 1; i < ctl->arg_count; i++) {
    if (i > 1) rag_buf_append_char(body, ',');
    rag_json_put_string(body, rag_slice_str(ctl->args[i]));
  }
  rag_buf_append_char(body, ']');
}

int ctl_run_rm(ctl_session *ctl) {
  rag_buf body = {0};
  bool by_filter = ctl_option_given(ctl, "filter");
  if (!by_filter && ctl->arg_count < 2) return ctl_usage_error(ctl, "what is to be deleted? Give ids, or --filter");
  if (by_filter && ctl->arg_count > 1) return ctl_usage_error(ctl, "give ids or --filter, not both");
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_write(&body, ctl);
  int exit_status = CTL_EXIT_OK;
  if (by_filter) exit_status = ctl_body_filter(&body, ctl);
  else body_arguments(&body, "delete_ids", ctl);
  if (exit_status == CTL_EXIT_OK)
    exit_status = finish_write(ctl, by_filter ? "Documents/DeleteDocuments" : "Documents/PutDocuments", &body);
  rag_buf_free(&body);
  return exit_status;
}

int ctl_run_patch(ctl_session *ctl) {
  const char *given = ctl->args[2];
  char *text = NULL;
  size_t size = 0;
  rag_buf body = {0};
  rag_json patch;
  if (given[0] == '@') {
    if (rag_os_read_file(given + 1, RAG_DOCUMENT_METADATA_BYTES_MAX * 2, &text, &size, &ctl->err) != RAG_OK)
      return ctl_fail(ctl);
  } else {
    text = rag_strdup(given);
    size = text ? strlen(text) : 0;
  }
  int exit_status = CTL_EXIT_FAILED;
  if (!text || rag_json_parse(ctl->parser, rag_slice_of(text, size), &patch, &ctl->err) != RAG_OK) {
    rag_error_prefix(&ctl->err, "the patch");
    exit_status = ctl_fail(ctl);
  } else {
    ctl_body_begin(&body);
    ctl_body_string(&body, "kb", ctl->args[0]);
    ctl_body_string(&body, "id", ctl->args[1]);
    ctl_body_write(&body, ctl);
    ctl_body_raw(&body, "metadata", rag_slice_of(text, size));
    exit_status = finish_write(ctl, "Documents/PatchDocument", &body);
  }
  rag_free(text);
  rag_buf_free(&body);
  return exit_status;
}

int ctl_run_purge(ctl_session *ctl) {
  rag_buf body = {0}, receipt = {0};
  rag_json answer, result;
  if (!ctl_confirm(ctl, "This erases %u documents of %s from every version.", ctl->arg_count - 1, ctl->args[0]))
    return CTL_EXIT_FAILED;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  body_arguments(&body, "document_ids", ctl);
  int exit_status = ctl_call(ctl, "Versions/Purge", &body, &answer);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_finish_job(ctl, ctl_uint(answer, "job"), &answer);
  if (exit_status == CTL_EXIT_OK && ctl->json) exit_status = ctl_print_json(ctl);
  else if (exit_status == CTL_EXIT_OK) {
    rag_slice state = ctl_text(answer, "state");
    printf("purge: job %llu %.*s\n", (unsigned long long)ctl_uint(answer, "id"), (int)state.size, state.data);
    if (rag_json_find(answer, rag_slice_str("result"), &result) && rag_json_type_of(result) == RAG_JSON_OBJECT) {
      rag_json_write(result, &receipt);
      fputs("receipt: ", stdout);
      ctl_print_text(rag_buf_slice(&receipt), false);
      putchar('\n');
    }
  }
  rag_buf_free(&body);
  rag_buf_free(&receipt);
  return exit_status;
}
