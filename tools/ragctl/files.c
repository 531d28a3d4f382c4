// Documents from files: folders, text files and NDJSON become elements of PutDocuments' "documents", as JSON text.
//
// A folder is read in the order of its ids, symbolic links to files of the folder are followed and others are not: those
// to folders may form circles, and a link to a file elsewhere would let whoever may write into the folder publish what the
// one who syncs it may read. What is not a document is said on stderr: hidden entries apart, nothing is left out in
// silence.
#include "tools/ragctl/ctl.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FOLDER_DEPTH_MAX 64u
#define TITLE_SCAN_BYTES_MAX (64u << 10) // a heading further down names a section
#define NDJSON_BYTES_MAX (1u << 30)      // larger ones are for `ragctl import`, which holds nothing

void ctl_documents_free(ctl_documents *documents) {
  rag_buf_free(&documents->text);
  rag_free(documents->ends);
  rag_strings_free(&documents->ids);
  rag_strings_free(&documents->sources);
}

// What was appended to `text` since the last document is one.
static rag_status documents_add(ctl_documents *documents, rag_slice id, rag_slice source, rag_error *err) {
  RAG_TRY(rag_buf_check(&documents->text, err));
  if (documents->count == documents->capacity) {
    size_t capacity = documents->capacity ? documents->capacity * 2 : 256;
    size_t *ends = rag_realloc_array(documents->ends, capacity, sizeof(*ends));
    if (!ends) return rag_fail_no_memory(err, capacity * sizeof(*ends));
    documents->ends = ends;
    documents->capacity = capacity;
  }
  RAG_TRY(rag_strings_add(&documents->ids, id, err));
  RAG_TRY(rag_strings_add(&documents->sources, source, err));
  documents->ends[documents->count++] = documents->text.size;
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- text files

static bool has_extension(const char *name, const char *list) {
  const char *dot = strrchr(name, '.');
  if (!list) return true;
  if (!dot) return false;
  rag_slice extension = rag_slice_str(dot + 1);
  while (*list) {
    size_t size = strcspn(list, ",");
    const char *from = *list == '.' ? list + 1 : list;
    if (rag_slice_equal(extension, rag_slice_of(from, size - (size_t)(from - list)))) return true;
    list += size + (list[size] == ',');
  }
  return false;
}

static bool is_markdown(const char *name) {
  return has_extension(name, "md,markdown,mdx");
}

static bool is_ndjson(const char *name) {
  return has_extension(name, "ndjson,jsonl");
}

static rag_slice strip(rag_slice line) {
  while (line.size && strchr(" \t\r#", line.data[line.size - 1])) line.size--;
  while (line.size && strchr(" \t", line.data[0])) line.data++, line.size--;
  return line;
}

// The first ATX heading ("# Title #") outside a code fence; empty where there is none.
static rag_slice markdown_title(rag_slice text) {
  bool fenced = false;
  text.size = RAG_MIN(text.size, (size_t)TITLE_SCAN_BYTES_MAX);
  while (text.size) {
    const char *newline = memchr(text.data, '\n', text.size);
    size_t size = newline ? (size_t)(newline - text.data) : text.size;
    rag_slice line = {text.data, size};
    size_t step = newline ? size + 1 : size;
    text = rag_slice_of(text.data + step, text.size - step);
    if (size >= 3 && (memcmp(line.data, "```", 3) == 0 || memcmp(line.data, "~~~", 3) == 0)) fenced = !fenced;
    if (fenced) continue;
    size_t level = 0;
    while (level < line.size && line.data[level] == '#') level++;
    if (level == 0 || level > 6 || level >= line.size || line.data[level] != ' ') continue;
    rag_slice title = strip(rag_slice_of(line.data + level, line.size - level));
    title.size = rag_utf8_floor(title.data, title.size, RAG_MIN(title.size, (size_t)RAG_DOCUMENT_TITLE_BYTES_MAX));
    if (title.size) return title;
  }
  return (rag_slice){0};
}

static bool is_blank(rag_slice text) {
  for (size_t i = 0; i < text.size; i++)
    if (!strchr(" \t\r\n\v\f", text.data[i]) || !text.data[i]) return false;
  return true;
}

static rag_status append_file(ctl_documents *out, const ctl_read_options *options, const char *id, rag_slice text,
                              const struct stat *stat_of, rag_error *err) {
  rag_buf *buf = &out->text;
  char time_text[RAG_TIME_TEXT_MAX];
  rag_buf full_id = {0}, source = {0};
  rag_buf_printf(&full_id, "%s%s", options->prefix ? options->prefix : "", id);
  rag_buf_printf(&source, "%s%s", options->source ? options->source : "", id);
  rag_status status = rag_buf_check(&full_id, err);
  if (status == RAG_OK) status = rag_buf_check(&source, err);
  if (status == RAG_OK) {
    rag_slice title = is_markdown(id) ? markdown_title(text) : (rag_slice){0};
    rag_buf_append_str(buf, "{\"id\":");
    rag_json_put_string(buf, rag_buf_slice(&full_id));
    if (title.size) {
      rag_buf_append_str(buf, ",\"title\":");
      rag_json_put_string(buf, title);
    }
    rag_buf_append_str(buf, ",\"source_uri\":");
    rag_json_put_string(buf, rag_buf_slice(&source));
    int64_t modified_us = (int64_t)stat_of->st_mtim.tv_sec * 1000000 + stat_of->st_mtim.tv_nsec / 1000;
    if (modified_us > 0) { // 0 means unknown
      rag_time_format(modified_us, time_text);
      rag_buf_printf(buf, ",\"source_modified_at\":\"%s\"", time_text);
    }
    rag_buf_append_str(buf, ",\"text\":");
    rag_json_put_string(buf, text);
    rag_buf_append_char(buf, '}');
    status = documents_add(out, rag_buf_slice(&full_id), rag_buf_slice(&source), err);
  }
  rag_buf_free(&full_id);
  rag_buf_free(&source);
  return status;
}

static rag_status skip_or_fail(ctl_documents *out, const char *path, bool explicitly, const char *why, rag_error *err) {
  if (explicitly) return rag_fail(err, RAG_INVALID_ARGUMENT, "%s %s", path, why);
  fprintf(stderr, "ragctl: left out %s: it %s\n", path, why);
  out->skipped++;
  return RAG_OK;
}

// explicitly: named on the command line, so that it is an error when it is no document.
static rag_status read_text_file(const char *path, const char *id, const struct stat *stat_of, bool explicitly,
                                 const ctl_read_options *options, ctl_documents *out, rag_error *err) {
  char *text = NULL;
  size_t size = 0;
  rag_error reading = {0};
  if (rag_os_read_file(path, RAG_DOCUMENT_TEXT_BYTES_MAX, &text, &size, &reading) != RAG_OK) {
    if (explicitly || reading.status != RAG_OUT_OF_RANGE) return rag_fail(err, reading.status, "%s", reading.message);
    return skip_or_fail(out, path, false, "is larger than a document may be", err);
  }
  const char *why = NULL;
  if (!rag_utf8_valid(id, strlen(id))) why = "has a name that is not UTF-8";
  else if (memchr(text, 0, size) || !rag_utf8_valid(text, size)) why = "is not UTF-8 text";
  else if (is_blank(rag_slice_of(text, size))) why = "has no text";
  rag_status status = why ? skip_or_fail(out, path, explicitly, why, err)
                          : append_file(out, options, id, rag_slice_of(text, size), stat_of, err);
  rag_free(text);
  return status;
}

// ---------------------------------------------------------------------------------------------- folders

static rag_status join(const char *folder, const char *name, char **out, rag_error *err) {
  rag_buf path = {0};
  rag_buf_printf(&path, "%s%s%s", folder, *folder ? "/" : "", name);
  rag_buf_append_char(&path, 0);
  RAG_TRY(rag_buf_check(&path, err));
  *out = path.data;
  return RAG_OK;
}

static rag_status list_folder(const char *path, rag_strings *out, rag_error *err) {
  DIR *dir = opendir(path);
  if (!dir) return rag_os_fail(err, "opendir", path, errno);
  rag_status status = RAG_OK;
  for (struct dirent *entry; status == RAG_OK && (errno = 0, entry = readdir(dir)) != NULL;)
    if (entry->d_name[0] != '.') status = rag_strings_add(out, rag_slice_str(entry->d_name), err);
  if (status == RAG_OK && errno != 0) status = rag_os_fail(err, "readdir", path, errno);
  closedir(dir);
  rag_strings_sort(out);
  return status;
}

typedef struct folder { // that was named
  char *root;           // its path without links
  const ctl_read_options *options;
} folder;

static rag_status read_folder(const folder *from, const char *path, const char *id, unsigned depth, ctl_documents *out,
                              rag_error *err);

static rag_status read_link(const folder *from, const char *path, const char *id, const struct stat *stat_of,
                            ctl_documents *out, rag_error *err) {
  size_t size = strlen(from->root);
  char *target = realpath(path, NULL);
  if (!target) return rag_os_fail(err, "resolve", path, errno);
  bool inside = strncmp(target, from->root, size) == 0 && (target[size] == '/' || from->root[size - 1] == '/');
  rag_status status = inside ? read_text_file(target, id, stat_of, false, from->options, out, err)
                             : skip_or_fail(out, path, false, "is a link to a file outside the folder", err);
  free(target); // of libc
  return status;
}

static rag_status read_entry(const folder *from, const char *path, const char *id, const char *name, unsigned depth,
                             ctl_documents *out, rag_error *err) {
  struct stat link, target;
  if (lstat(path, &link) != 0) return rag_os_fail(err, "lstat", path, errno);
  if (S_ISDIR(link.st_mode)) return read_folder(from, path, id, depth + 1, out, err);
  if (!has_extension(name, from->options->extensions)) return RAG_OK; // what --ext asked for
  if (stat(path, &target) != 0) return skip_or_fail(out, path, false, "is a link to nothing", err);
  if (S_ISDIR(target.st_mode)) return skip_or_fail(out, path, false, "is a link to a folder", err);
  if (!S_ISREG(target.st_mode)) return skip_or_fail(out, path, false, "is no file", err);
  if (S_ISLNK(link.st_mode)) return read_link(from, path, id, &target, out, err);
  return read_text_file(path, id, &target, false, from->options, out, err);
}

static rag_status read_folder(const folder *from, const char *path, const char *id, unsigned depth, ctl_documents *out,
                              rag_error *err) {
  rag_strings names = {0};
  if (depth > FOLDER_DEPTH_MAX)
    return rag_fail(err, RAG_OUT_OF_RANGE, "%s is over %u folders deep", path, FOLDER_DEPTH_MAX);
  rag_status status = list_folder(path, &names, err);
  for (size_t i = 0; status == RAG_OK && i < names.count; i++) {
    char *entry_path = NULL, *entry_id = NULL;
    status = join(path, names.items[i], &entry_path, err);
    if (status == RAG_OK) status = join(id, names.items[i], &entry_id, err);
    if (status == RAG_OK) status = read_entry(from, entry_path, entry_id, names.items[i], depth, out, err);
    rag_free(entry_path);
    rag_free(entry_id);
  }
  rag_strings_free(&names);
  return status;
}

// ---------------------------------------------------------------------------------------------- NDJSON

static rag_status read_ndjson(FILE *file, const char *name, rag_json_parser *parser, ctl_documents *out,
                              rag_error *err) {
  char *line = NULL;
  size_t capacity = 0;
  rag_status status = RAG_OK;
  ssize_t size;
  for (unsigned long number = 1; status == RAG_OK && (size = getline(&line, &capacity, file)) >= 0; number++) {
    rag_slice text = {line, (size_t)size};
    rag_json value;
    if (is_blank(text)) continue;
    if (out->text.size + text.size > NDJSON_BYTES_MAX) {
      status = rag_fail(err, RAG_OUT_OF_RANGE, "%s is too large to put; `ragctl import` streams it", name);
      break;
    }
    status = rag_json_parse(parser, text, &value, err);
    if (status == RAG_OK && rag_json_type_of(value) != RAG_JSON_OBJECT)
      status = rag_fail(err, RAG_INVALID_ARGUMENT, "a document is a JSON object, not %s",
                        rag_json_type_name(rag_json_type_of(value)));
    if (status != RAG_OK) {
      rag_error_prefix(err, "%s:%lu", name, number);
      break;
    }
    rag_json_write(value, &out->text);
    status = documents_add(out, ctl_text(value, "id"), ctl_text(value, "source_uri"), err);
  }
  if (status == RAG_OK && ferror(file)) status = rag_os_fail(err, "read", name, errno);
  free(line);
  return status;
}

// ---------------------------------------------------------------------------------------------- what was named

// The id of a file that was named itself: its path when that stays below here, else its name.
static const char *id_of_file(const char *path) {
  while (strncmp(path, "./", 2) == 0) path += 2;
  if (path[0] != '/' && strncmp(path, "../", 3) != 0 && !strstr(path, "/../")) return path;
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

rag_status ctl_read_path(const char *path, const ctl_read_options *options, rag_json_parser *parser, ctl_documents *out,
                         rag_error *err) {
  struct stat stat_of;
  if (strcmp(path, "-") == 0) return read_ndjson(stdin, "standard input", parser, out, err);
  if (stat(path, &stat_of) != 0) return rag_os_fail(err, "open", path, errno);
  if (S_ISDIR(stat_of.st_mode)) {
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    char *named = rag_strndup(path, size);
    if (!named) return rag_fail_no_memory(err, size);
    folder from = {.root = realpath(path, NULL), .options = options};
    rag_status status =
        from.root ? read_folder(&from, named, "", 0, out, err) : rag_os_fail(err, "resolve", path, errno);
    free(from.root); // of libc
    rag_free(named);
    return status;
  }
  if (!is_ndjson(path)) return read_text_file(path, id_of_file(path), &stat_of, true, options, out, err);
  FILE *file = fopen(path, "r");
  if (!file) return rag_os_fail(err, "open", path, errno);
  rag_status status = read_ndjson(file, path, parser, out, err);
  fclose(file);
  return status;
}
