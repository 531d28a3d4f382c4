// The questions of `ragctl bench`: read from a file, or taken from the knowledge base itself.
//
// A sample of documents is spread over the whole listing without knowing its length: every step-th document is kept,
// and when twice as many as wanted have come together, every other one is dropped and the step doubled.
#include "tools/ragctl/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define QUERIES_BYTES_MAX ((size_t)1 << 30)
#define PAGE_DOCUMENTS 1000u
#define SENTENCE_BYTES_MAX 300u
#define SENTENCE_BYTES_MIN 16u // "1." and "e.g." end no sentence
#define VECTORS_AT_ONCE 32u    // of 8,192 dimensions: 3 MB of JSON

void bench_queries_free(bench_queries *queries) {
  rag_buf_free(&queries->text);
  rag_free(queries->ends);
  rag_free(queries->lines);
  *queries = (bench_queries){0};
}

rag_slice bench_query(const bench_queries *queries, size_t at) {
  size_t start = at ? queries->ends[at - 1] : 0;
  return rag_slice_of(queries->text.data + start, queries->ends[at] - start);
}

// What was appended to `text` since the last query is one.
static rag_status add(bench_queries *queries, unsigned line, rag_error *err) {
  RAG_TRY(rag_buf_check(&queries->text, err));
  if (queries->count == queries->capacity) {
    size_t capacity = queries->capacity ? queries->capacity * 2 : 256;
    size_t *ends = rag_realloc_array(queries->ends, capacity, sizeof(*ends));
    if (ends) queries->ends = ends;
    unsigned *lines = ends ? rag_realloc_array(queries->lines, capacity, sizeof(*lines)) : NULL;
    if (!lines) return rag_fail_no_memory(err, capacity * sizeof(*ends));
    queries->lines = lines;
    queries->capacity = capacity;
  }
  queries->lines[queries->count] = line;
  queries->ends[queries->count++] = queries->text.size;
  return RAG_OK;
}

void bench_queries_thin(bench_queries *queries, uint64_t count) {
  size_t all = queries->count, written = 0;
  if (count >= all) return;
  for (size_t i = 0; i < count; i++) { // never past what is read next
    size_t from = (size_t)((uint64_t)i * all / count);
    rag_slice query = bench_query(queries, from);
    unsigned line = queries->lines[from];
    memmove(queries->text.data + written, query.data, query.size);
    written += query.size;
    queries->ends[i] = written;
    queries->lines[i] = line;
  }
  queries->text.size = written;
  queries->count = (size_t)count;
}

// ---------------------------------------------------------------------------------------------- a file

static rag_slice trimmed(rag_slice text) {
  while (text.size && strchr(" \t\r\n\v\f", text.data[text.size - 1]) && text.data[text.size - 1]) text.size--;
  while (text.size && strchr(" \t\r\n\v\f", text.data[0]) && text.data[0]) text.data++, text.size--;
  return text;
}

static void put_text(bench_queries *queries, rag_slice text) {
  rag_buf_append_str(&queries->text, "\"query\":");
  rag_json_put_string(&queries->text, text);
  queries->has_text = true;
}

static rag_status take_vector(rag_json vector, bench_queries *out, rag_error *err) {
  size_t bad = 0, size = rag_json_floats(vector, NULL, 0, &bad);
  if (rag_json_type_of(vector) != RAG_JSON_ARRAY || size == 0)
    return rag_fail(err, RAG_INVALID_ARGUMENT,
                    "\"vector\" is not an array of numbers, as in {\"vector\": [0.1, -0.2]}");
  if (size == SIZE_MAX)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "vector[%zu] is no number that a float can hold", bad);
  rag_buf_append_str(&out->text, "\"vector\":");
  rag_json_write(vector, &out->text);
  out->has_vectors = true;
  return RAG_OK;
}

static rag_status take_text(rag_slice text, bench_queries *out, rag_error *err) {
  text = trimmed(text);
  if (text.size == 0) return rag_fail(err, RAG_INVALID_ARGUMENT, "\"query\" is an empty text");
  if (text.size > RAG_SEARCH_QUERY_BYTES_MAX)
    return rag_fail(err, RAG_OUT_OF_RANGE, "a query of %zu bytes; at most %u", text.size, RAG_SEARCH_QUERY_BYTES_MAX);
  put_text(out, text);
  return RAG_OK;
}

static rag_status take_object(rag_json_parser *parser, rag_slice line, bench_queries *out, rag_error *err) {
  rag_json object, value;
  RAG_TRY(rag_json_parse(parser, line, &object, err));
  if (rag_json_find(object, rag_slice_str("vector"), &value)) return take_vector(value, out, err);
  if (!rag_json_find(object, rag_slice_str("query"), &value))
    return rag_fail(err, RAG_INVALID_ARGUMENT, "neither \"query\" nor \"vector\" is in the object");
  if (rag_json_type_of(value) != RAG_JSON_STRING)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "\"query\" is %s, not a text",
                    rag_json_type_name(rag_json_type_of(value)));
  return take_text(rag_json_string(value), out, err);
}

static rag_status take_line(rag_json_parser *parser, rag_slice line, unsigned number, bench_queries *out,
                            rag_error *err) {
  if (memchr(line.data, 0, line.size) || !rag_utf8_valid(line.data, line.size))
    return rag_fail(err, RAG_INVALID_ARGUMENT, "not UTF-8 text");
  if (out->count == BENCH_QUERIES_MAX)
    return rag_fail(err, RAG_OUT_OF_RANGE, "over %u queries; give fewer, they are not better for it",
                    BENCH_QUERIES_MAX);
  if (out->text.size + line.size > QUERIES_BYTES_MAX)
    return rag_fail(err, RAG_OUT_OF_RANGE, "over 1 GiB of queries; give fewer");
  RAG_TRY(line.data[0] == '{' ? take_object(parser, line, out, err) : take_text(line, out, err));
  return add(out, number, err);
}

static rag_status read_lines(FILE *file, const char *name, rag_json_parser *parser, bench_queries *out,
                             rag_error *err) {
  char *buffer = NULL;
  size_t capacity = 0;
  rag_status status = RAG_OK;
  ssize_t size;
  for (unsigned number = 1; status == RAG_OK && (size = getline(&buffer, &capacity, file)) >= 0; number++) {
    rag_slice line = trimmed(rag_slice_of(buffer, (size_t)size));
    if (line.size == 0) continue;
    status = take_line(parser, line, number, out, err);
    if (status != RAG_OK) rag_error_prefix(err, "%s:%u", name, number);
  }
  if (status == RAG_OK && ferror(file)) status = rag_os_fail(err, "read", name, errno);
  free(buffer); // of libc
  return status;
}

static const char *name_of(const char *path) {
  return strcmp(path, "-") == 0 ? "standard input" : path;
}

int bench_queries_read(ctl_session *ctl, const char *path, bench_queries *out) {
  FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
  rag_status status =
      file ? read_lines(file, name_of(path), ctl->parser, out, &ctl->err) : rag_os_fail(&ctl->err, "open", path, errno);
  if (file && file != stdin) fclose(file);
  if (status == RAG_OK && out->count == 0)
    status =
        rag_fail(&ctl->err, RAG_INVALID_ARGUMENT,
                 "%s has no queries: a text, {\"query\": \"...\"} or {\"vector\": [...]} on each line", name_of(path));
  out->source = "queries of a file";
  return status == RAG_OK ? CTL_EXIT_OK : ctl_fail(ctl);
}

int bench_queries_check(ctl_session *ctl, const char *path, const bench_target *target, bench_queries *queries) {
  static const char vector[] = "\"vector\":";
  for (size_t i = 0; i < queries->count; i++) {
    rag_slice query = bench_query(queries, i);
    rag_json parsed;
    if (query.size < sizeof(vector) || memcmp(query.data, vector, sizeof(vector) - 1) != 0) {
      if (target->has_model) continue;
      (void)rag_fail(&ctl->err, RAG_FAILED_PRECONDITION,
                     "%s:%u: a text, but '%s' has no model to embed it: give {\"vector\": [...]} of %u numbers",
                     name_of(path), queries->lines[i], ctl->args[0], target->dimension);
      return ctl_fail(ctl);
    }
    rag_slice array = rag_slice_of(query.data + sizeof(vector) - 1, query.size - sizeof(vector) + 1);
    size_t size = 0;
    if (rag_json_parse(ctl->parser, array, &parsed, &ctl->err) == RAG_OK) size = rag_json_size(parsed);
    if (size == target->dimension) continue;
    (void)rag_fail(&ctl->err, RAG_INVALID_ARGUMENT, "%s:%u: a vector of %zu numbers; those of '%s' have %u",
                   name_of(path), queries->lines[i], size, ctl->args[0], target->dimension);
    return ctl_fail(ctl);
  }
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- which documents

typedef struct sample {
  rag_strings ids, titles; // of one document each
  uint64_t wanted, seen, step;
} sample;

static void sample_free(sample *s) {
  rag_strings_free(&s->ids);
  rag_strings_free(&s->titles);
}

static rag_status keep(rag_strings *list, size_t count, rag_error *err) {
  rag_strings kept = {0};
  rag_status status = RAG_OK;
  for (size_t i = 0; status == RAG_OK && i < count; i++)
    status = rag_strings_add(&kept, rag_slice_str(list->items[i * list->count / count]), err);
  if (status != RAG_OK) {
    rag_strings_free(&kept);
    return status;
  }
  rag_strings_free(list);
  *list = kept;
  return RAG_OK;
}

static rag_status sample_thin(sample *s, size_t count, rag_error *err) {
  RAG_TRY(keep(&s->ids, count, err));
  return keep(&s->titles, count, err);
}

static rag_status sample_add(sample *s, rag_json document, rag_error *err) {
  if (s->seen++ % s->step != 0) return RAG_OK;
  RAG_TRY(rag_strings_add(&s->ids, ctl_text(document, "id"), err));
  RAG_TRY(rag_strings_add(&s->titles, trimmed(ctl_text(document, "title")), err));
  if (s->ids.count < 2 * s->wanted) return RAG_OK;
  s->step *= 2;
  return sample_thin(s, (size_t)s->wanted, err); // of pairs the first
}

static int sample_page(ctl_session *ctl, const bench_target *target, sample *s, char **token) {
  rag_buf body = {0};
  rag_json answer, documents;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "at", target->commit);
  ctl_body_uint(&body, "limit", PAGE_DOCUMENTS);
  ctl_body_string(&body, "page_token", *token);
  int exit_status = ctl_body_filter(&body, ctl);
  if (exit_status == CTL_EXIT_OK) exit_status = ctl_call(ctl, "Documents/ListDocuments", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  rag_status status = RAG_OK;
  if (ctl_array(answer, "documents", &documents))
    for (rag_json_iter it = rag_json_iter_of(documents); status == RAG_OK && rag_json_iter_next(&it);)
      status = sample_add(s, it.value, &ctl->err);
  rag_slice next = ctl_text(answer, "next_page_token");
  rag_free(*token);
  *token = NULL;
  if (status == RAG_OK && next.size && !(*token = rag_strndup(next.data, next.size)))
    status = rag_fail_no_memory(&ctl->err, next.size);
  return status == RAG_OK ? CTL_EXIT_OK : ctl_fail(ctl);
}

static int sample_documents(ctl_session *ctl, const bench_target *target, sample *s) {
  ctl_progress progress;
  char *token = NULL;
  ctl_progress_begin(&progress, "listing", false);
  int exit_status = CTL_EXIT_OK;
  do {
    exit_status = sample_page(ctl, target, s, &token);
    ctl_progress_show(&progress, s->seen, target->documents, "documents", NULL);
  } while (exit_status == CTL_EXIT_OK && token && !bench_stopped());
  ctl_progress_end(&progress);
  rag_free(token);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  if (s->ids.count == 0) {
    (void)rag_fail(&ctl->err, RAG_FAILED_PRECONDITION, "no document of '%s' at %s passes the filter: change --filter",
                   ctl->args[0], target->commit);
    return ctl_fail(ctl);
  }
  if (s->ids.count > s->wanted && sample_thin(s, (size_t)s->wanted, &ctl->err) != RAG_OK) return ctl_fail(ctl);
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- what they ask

// Up to the end of the first sentence or line, without the signs of a heading or a list before it.
static rag_slice first_sentence(rag_slice text) {
  text = trimmed(text);
  while (text.size && strchr("#*-=> \t\r\n", text.data[0])) text.data++, text.size--;
  size_t end = 0, room = RAG_MIN(text.size, (size_t)SENTENCE_BYTES_MAX);
  for (; end < room; end++) {
    char c = text.data[end];
    if (c == '\n') break;
    bool stop = (c == '.' || c == '!' || c == '?') && end + 1 < text.size && strchr(" \t\r\n", text.data[end + 1]);
    if (stop && end + 1 >= SENTENCE_BYTES_MIN) {
      end++;
      break;
    }
  }
  return trimmed(rag_slice_of(text.data, rag_utf8_floor(text.data, text.size, end)));
}

static int ask_of_text(ctl_session *ctl, const bench_target *target, const char *id, bench_queries *out) {
  rag_buf body = {0};
  rag_json answer;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "id", id);
  ctl_body_string(&body, "at", target->commit);
  int exit_status = ctl_call(ctl, "Documents/GetDocument", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  rag_slice sentence = first_sentence(ctl_text(answer, "text"));
  if (sentence.size == 0) return CTL_EXIT_OK; // nothing to ask by
  put_text(out, sentence);
  return add(out, 0, &ctl->err) == RAG_OK ? CTL_EXIT_OK : ctl_fail(ctl);
}

static int ask_in_words(ctl_session *ctl, const bench_target *target, const sample *s, bench_queries *out) {
  ctl_progress progress;
  int exit_status = CTL_EXIT_OK;
  out->source = "titles or first sentences of its own documents";
  ctl_progress_begin(&progress, "reading", false);
  for (size_t i = 0; exit_status == CTL_EXIT_OK && i < s->ids.count && !bench_stopped(); i++) {
    rag_slice title = rag_slice_str(s->titles.items[i]);
    if (title.size == 0) exit_status = ask_of_text(ctl, target, s->ids.items[i], out);
    else {
      put_text(out, title);
      if (add(out, 0, &ctl->err) != RAG_OK) exit_status = ctl_fail(ctl);
    }
    ctl_progress_show(&progress, i + 1, s->ids.count, "documents", NULL);
  }
  ctl_progress_end(&progress);
  return exit_status;
}

// A search among those documents alone, for any vector: a chunk of each comes back with its own.
static int ask_vectors(ctl_session *ctl, const bench_target *target, char *const *ids, size_t count,
                       bench_queries *out) {
  rag_buf body = {0};
  rag_json answer, hits, vector;
  ctl_body_begin(&body);
  ctl_body_string(&body, "kb", ctl->args[0]);
  ctl_body_string(&body, "at", target->commit);
  ctl_body_string(&body, "mode", "vector");
  ctl_body_uint(&body, "k", count);
  ctl_body_raw(&body, "include", rag_slice_str("[\"vector\"]"));
  ctl_body_raw(&body, "group_by_document", rag_slice_str("{\"per_document\":1}"));
  ctl_body_name(&body, "vector");
  for (uint32_t i = 0; i < target->dimension; i++) rag_buf_append_str(&body, i ? ",0" : "[1");
  rag_buf_append_char(&body, ']');
  ctl_body_name(&body, "filter");
  rag_buf_append_str(&body, "{\"must\":[{\"has_id\":[");
  for (size_t i = 0; i < count; i++) {
    if (i) rag_buf_append_char(&body, ',');
    rag_json_put_string(&body, rag_slice_str(ids[i]));
  }
  rag_buf_append_str(&body, "]}]}");
  ctl_body_bool(&body, "exact", true);
  int exit_status = ctl_call(ctl, "Retrieval/Search", &body, &answer);
  rag_buf_free(&body);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  rag_status status = RAG_OK;
  if (!ctl_array(answer, "hits", &hits)) return CTL_EXIT_OK;
  for (rag_json_iter it = rag_json_iter_of(hits); status == RAG_OK && rag_json_iter_next(&it);) {
    if (!ctl_array(it.value, "vector", &vector)) continue;
    status = take_vector(vector, out, &ctl->err);
    if (status == RAG_OK) status = add(out, 0, &ctl->err);
  }
  return status == RAG_OK ? CTL_EXIT_OK : ctl_fail(ctl);
}

static int ask_by_vectors(ctl_session *ctl, const bench_target *target, const sample *s, bench_queries *out) {
  ctl_progress progress;
  int exit_status = CTL_EXIT_OK;
  out->source = "vectors of its own documents";
  ctl_progress_begin(&progress, "reading", false);
  for (size_t i = 0; exit_status == CTL_EXIT_OK && i < s->ids.count && !bench_stopped(); i += VECTORS_AT_ONCE) {
    size_t count = RAG_MIN(s->ids.count - i, (size_t)VECTORS_AT_ONCE);
    exit_status = ask_vectors(ctl, target, s->ids.items + i, count, out);
    ctl_progress_show(&progress, i + count, s->ids.count, "documents", NULL);
  }
  ctl_progress_end(&progress);
  return exit_status;
}

int bench_queries_sample(ctl_session *ctl, const bench_target *target, uint64_t count, bench_queries *out) {
  sample s = {.wanted = count, .step = 1};
  int exit_status = sample_documents(ctl, target, &s);
  if (exit_status == CTL_EXIT_OK && s.ids.count < count)
    fprintf(stderr, "ragctl: %zu documents%s, fewer than the %llu queries asked for: one query of each\n", s.ids.count,
            ctl_option_given(ctl, "filter") ? " pass the filter" : "", (unsigned long long)count);
  if (exit_status == CTL_EXIT_OK)
    exit_status = target->has_model ? ask_in_words(ctl, target, &s, out) : ask_by_vectors(ctl, target, &s, out);
  sample_free(&s);
  if (exit_status != CTL_EXIT_OK || out->count > 0 || bench_stopped()) return exit_status;
  (void)rag_fail(&ctl->err, RAG_FAILED_PRECONDITION, "the documents of '%s' have no %s to ask by: give --queries FILE",
                 ctl->args[0], target->has_model ? "title and no text" : "vectors");
  return ctl_fail(ctl);
}
