// The lexical index as a peer of run.py: reads texts (one a line, tokens between spaces) and queries (likewise), builds
// the index, then answers rounds that are asked for on standard input, one JSON line each.
//
//   bench_lexical texts.txt queries.txt [batch]      then lines: "run K" | "first" | "commits N" | "quit"
//
// "run K" searches every query once for its K best and prints each one's microseconds. "first" does so at a version
// that nothing is cached of. "commits N" appends N chunks one by one, each with its view and a derived version, and
// prints each one's microseconds.
#include "index/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LINE_TERMS_MAX 65536u
#define QUERY_TERMS_MAX 64u

static void check(rag_status status, const rag_error *err) {
  if (status == RAG_OK) return;
  fprintf(stderr, "lexical: %s: %s\n", rag_status_name(status), err->message);
  exit(1);
}

typedef struct lines {
  char *text;
  char **line;
  uint32_t count;
} lines;

static lines read_lines(const char *path) {
  lines l = {0};
  rag_error err = {0};
  size_t size = 0;
  check(rag_os_read_file(path, (size_t)1 << 33, &l.text, &size, &err), &err);
  for (size_t i = 0; i < size; i++) l.count += l.text[i] == '\n';
  l.line = calloc(l.count + 1, sizeof *l.line);
  char *at = l.text;
  for (uint32_t i = 0; i < l.count; i++) {
    l.line[i] = at;
    at = strchr(at, '\n');
    *at++ = '\0';
  }
  return l;
}

static uint32_t split(char *line, rag_slice *out, uint32_t max) {
  uint32_t count = 0;
  for (char *at = line; *at && count < max;) {
    char *end = strchrnul(at, ' ');
    if (end > at) out[count++] = rag_slice_of(at, RAG_MIN((size_t)(end - at), (size_t)RAG_LEXICAL_TERM_MAX));
    at = *end ? end + 1 : end;
  }
  return count;
}

static double microseconds_since(uint64_t start) {
  return (double)(rag_clock_monotonic_ns() - start) / 1e3;
}

static double build(rag_lexical *lexical, const lines *texts, uint32_t batch) {
  rag_error err = {0};
  double seconds = 0;
  rag_slice *terms = malloc(sizeof(rag_slice) * LINE_TERMS_MAX * 16);
  rag_lexical_chunk *chunks = calloc(batch, sizeof *chunks);
  for (uint32_t at = 0, count; at < texts->count; at += count) {
    size_t used = 0;
    for (count = 0; count < batch && at + count < texts->count && used < LINE_TERMS_MAX * 15u; count++) {
      uint32_t got = split(texts->line[at + count], terms + used, LINE_TERMS_MAX);
      chunks[count] = (rag_lexical_chunk){.ordinal = at + count, .text = terms + used, .text_count = got};
      used += got;
    }
    uint64_t start = rag_clock_monotonic_ns();
    check(rag_lexical_append(lexical, chunks, count, &err), &err);
    seconds += microseconds_since(start) / 1e6;
  }
  free(terms);
  free(chunks);
  return seconds;
}

static void run_queries(rag_lexical *lexical, const rag_lexical_version *version, const lines *queries, uint32_t k) {
  rag_error err = {0};
  rag_lexical_view *view = rag_lexical_pin(lexical);
  rag_lexical_hit *hits = calloc(k, sizeof *hits);
  rag_lexical_plan plan;
  uint64_t scored = 0, postings = 0, checksum = 0, offered = 0, windows = 0, skipped = 0;
  printf("{\"us\": [");
  for (uint32_t i = 0; i < queries->count; i++) {
    rag_slice terms[QUERY_TERMS_MAX];
    rag_lexical_clause clauses[QUERY_TERMS_MAX];
    uint32_t count = split(queries->line[i], terms, QUERY_TERMS_MAX), found = 0;
    uint64_t start = rag_clock_monotonic_ns();
    for (uint32_t j = 0; j < count; j++) {
      clauses[j] = (rag_lexical_clause){.weight = 1, .term_count = 1, .terms = &terms[j]};
    }
    rag_lexical_query query = {.clauses = clauses, .clause_count = count, .k = k};
    check(rag_lexical_search(view, version, &query, hits, &found, &plan, &err), &err);
    printf("%s%.2f", i ? "," : "", microseconds_since(start));
    scored += plan.postings_scored;
    postings += plan.postings;
    offered += plan.offered;
    windows += plan.windows;
    skipped += plan.windows_skipped;
    for (uint32_t j = 0; j < RAG_MIN(found, 10u); j++) checksum += hits[j].ordinal;
  }
  printf("], \"scored\": %llu, \"postings\": %llu, \"offered\": %llu, \"windows\": %llu, \"skipped\": %llu, "
         "\"checksum\": %llu}\n",
         (unsigned long long)scored, (unsigned long long)postings, (unsigned long long)offered,
         (unsigned long long)windows, (unsigned long long)skipped, (unsigned long long)checksum);
  free(hits);
  rag_ref_drop(view);
}

static rag_lexical_version *head_version(rag_lexical *lexical, const rag_lexical_version *near) {
  rag_error err = {0};
  rag_lexical_version *version = NULL;
  rag_lexical_view *view = rag_lexical_pin(lexical);
  check(rag_lexical_version_create(view, rag_lexical_view_present(view), near, &version, &err), &err);
  rag_ref_drop(view);
  return version;
}

static void run_commits(rag_lexical *lexical, rag_lexical_version **version, const lines *texts, uint32_t count) {
  static rag_slice terms[LINE_TERMS_MAX];
  static uint32_t added;
  rag_error err = {0};
  printf("{\"us\": [");
  for (uint32_t i = 0; i < count; i++, added++) {
    uint32_t got = split(texts->line[added % texts->count], terms, LINE_TERMS_MAX);
    rag_lexical_chunk chunk = {.ordinal = texts->count + added, .text = terms, .text_count = got};
    uint64_t start = rag_clock_monotonic_ns();
    check(rag_lexical_append(lexical, &chunk, 1, &err), &err);
    rag_lexical_version *next = head_version(lexical, *version);
    printf("%s%.2f", i ? "," : "", microseconds_since(start));
    rag_ref_drop(*version);
    *version = next;
  }
  printf("]}\n");
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: bench_lexical texts.txt queries.txt [batch] [sequences]\n");
    return 2;
  }
  lines texts = read_lines(argv[1]), queries = read_lines(argv[2]);
  rag_error err = {0};
  rag_lexical *lexical = NULL;
  rag_lexical_options options = {.title_weight = 1, .keep_sequences = argc > 4};
  check(rag_lexical_create(&options, &lexical, &err), &err);
  double seconds = build(lexical, &texts, argc > 3 ? (uint32_t)atoi(argv[3]) : 1000);
  rag_lexical_stats stats;
  rag_lexical_stats_get(lexical, &stats);
  printf("{\"build_s\": %.3f, \"texts\": %u, \"terms\": %llu, \"postings\": %llu, \"bytes\": %llu, "
         "\"postings_bytes\": %llu, \"dictionary_bytes\": %llu, \"sequence_bytes\": %llu}\n",
         seconds, texts.count, (unsigned long long)stats.terms, (unsigned long long)stats.postings,
         (unsigned long long)stats.bytes, (unsigned long long)stats.postings_bytes,
         (unsigned long long)stats.dictionary_bytes, (unsigned long long)stats.sequence_bytes);
  fflush(stdout);
  rag_lexical_version *version = head_version(lexical, NULL);
  char command[64];
  while (fgets(command, sizeof command, stdin) && strncmp(command, "quit", 4) != 0) {
    if (strncmp(command, "run ", 4) == 0) run_queries(lexical, version, &queries, (uint32_t)atoi(command + 4));
    if (strncmp(command, "first", 5) == 0) {
      rag_lexical_version *fresh = head_version(lexical, NULL);
      run_queries(lexical, fresh, &queries, 10);
      rag_ref_drop(fresh);
    }
    if (strncmp(command, "commits ", 8) == 0) run_commits(lexical, &version, &texts, (uint32_t)atoi(command + 8));
    fflush(stdout);
  }
  rag_ref_drop(version);
  rag_lexical_destroy(lexical);
  free(texts.line);
  rag_free(texts.text);
  free(queries.line);
  rag_free(queries.text);
  return 0;
}
