// The lexical index as a peer of run.py and shapes.py: reads texts (one a line, tokens between spaces) and queries
// (likewise), builds the index, then answers what is asked for on standard input, one JSON line each.
//
//   bench_lexical texts.txt queries.txt [batch [sequences]]
//
// A word of a query may be +must, -not, prefix*, or the~phrase~of~its~parts. Commands:
//   run K [PERMILLE]  searches every query once for its K best and prints each one's microseconds; with PERMILLE, under
//                     a filter that keeps so many of a thousand chunks (kept()), made before the clock starts
//   queries PATH      other queries from here on
//   first             10 best, at a version that nothing is cached of
//   commits N         appends N chunks one by one, each with its view and a derived version; microseconds of each
//   versions N        N commits that replace 10 chunks each; microseconds of making versions (run_versions)
//   remove PERMILLE   forgets so many of a thousand chunks; the last command
//   quit
#include "index/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LINE_TERMS_MAX 65536u
#define QUERY_TERMS_MAX 64u

static rag_error no_memory = {.message = "out of memory"};

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

static void lines_free(lines *l) {
  free(l->line);
  rag_free(l->text);
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

// Whether a filter of so many of a thousand keeps the chunk; shapes.py has the same for its peer.
static bool kept(uint32_t ordinal, uint32_t permille) {
  uint64_t x = (ordinal + 1ull) * 0x9e3779b97f4a7c15ull;
  return (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull >> 40 < (uint64_t)permille * (1u << 24) / 1000;
}

static rag_bitmap *filter_of(uint32_t ordinals, uint32_t permille) {
  rag_bitmap *set = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  for (uint32_t i = 0; edit && i < ordinals; i++) {
    if (kept(i, permille)) check(rag_bitmap_edit_add(edit, i), &no_memory);
  }
  check(edit ? rag_bitmap_edit_finish(edit, &set) : RAG_RESOURCE_EXHAUSTED, &no_memory);
  return set;
}

// `parts`: room for the terms of phrases.
static rag_lexical_clause clause_of(rag_slice *word, rag_slice *parts) {
  rag_lexical_clause clause = {.weight = 1, .term_count = 1, .terms = word};
  if (word->data[0] == '+' || word->data[0] == '-') {
    clause.occur = word->data[0] == '+' ? RAG_LEXICAL_MUST : RAG_LEXICAL_MUST_NOT;
    *word = rag_slice_of(word->data + 1, word->size - 1);
  }
  if (word->size > 1 && word->data[word->size - 1] == '*') {
    clause.kind = RAG_LEXICAL_PREFIX;
    word->size--;
  } else if (memchr(word->data, '~', word->size)) {
    clause.kind = RAG_LEXICAL_PHRASE;
    clause.terms = parts;
    clause.term_count = 0;
    const char *at = (const char *)word->data, *end = at + word->size;
    while (at < end && clause.term_count < RAG_LEXICAL_PHRASE_MAX) {
      const char *stop = memchr(at, '~', (size_t)(end - at));
      if (!stop) stop = end;
      parts[clause.term_count++] = rag_slice_of(at, (size_t)(stop - at));
      at = stop + 1;
    }
  }
  return clause;
}

static void run_queries(rag_lexical *lexical, const rag_lexical_version *version, const lines *queries, uint32_t k,
                        const rag_bitmap *filter) {
  rag_error err = {0};
  static rag_slice parts[QUERY_TERMS_MAX][RAG_LEXICAL_PHRASE_MAX];
  rag_lexical_view *view = rag_lexical_pin(lexical);
  rag_lexical_hit *hits = calloc(k, sizeof *hits);
  rag_lexical_plan plan;
  uint64_t scored = 0, postings = 0, checksum = 0, offered = 0, windows = 0, skipped = 0, hit_count = 0;
  printf("{\"us\": [");
  for (uint32_t i = 0; i < queries->count; i++) {
    rag_slice terms[QUERY_TERMS_MAX];
    rag_lexical_clause clauses[QUERY_TERMS_MAX];
    uint32_t count = split(queries->line[i], terms, QUERY_TERMS_MAX), found = 0;
    uint64_t start = rag_clock_monotonic_ns();
    for (uint32_t j = 0; j < count; j++) {
      clauses[j] = clause_of(&terms[j], parts[j]);
    }
    rag_lexical_query query = {.clauses = clauses, .clause_count = count, .k = k, .filter = filter};
    check(rag_lexical_search(view, version, &query, hits, &found, &plan, &err), &err);
    printf("%s%.2f", i ? "," : "", microseconds_since(start));
    scored += plan.postings_scored;
    postings += plan.postings;
    offered += plan.offered;
    windows += plan.windows;
    skipped += plan.windows_skipped;
    hit_count += found;
    for (uint32_t j = 0; j < RAG_MIN(found, 10u); j++) checksum += hits[j].ordinal;
  }
  printf("], \"scored\": %llu, \"postings\": %llu, \"offered\": %llu, \"windows\": %llu, \"skipped\": %llu, "
         "\"hits\": %llu, \"checksum\": %llu}",
         (unsigned long long)scored, (unsigned long long)postings, (unsigned long long)offered,
         (unsigned long long)windows, (unsigned long long)skipped, (unsigned long long)hit_count,
         (unsigned long long)checksum);
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
  printf("]}");
}

static rag_lexical_version *timed_version(const rag_lexical_view *view, const rag_bitmap *live,
                                          const rag_lexical_version *near, double *us) {
  rag_error err = {0};
  rag_lexical_version *made = NULL;
  uint64_t start = rag_clock_monotonic_ns();
  check(rag_lexical_version_create(view, live, near, &made, &err), &err);
  *us = microseconds_since(start);
  return made;
}

// Nine chunks of ten are live, anywhere, so that no block of a bitmap is full; each commit takes out 10 live chunks,
// anywhere, and brings 10 new ones at the end. "parent": each commit's version from its parent's. "root": counted anew.
// "apart": the last commit's from the first one's. "back": the first one's from the last one's,
// counted anew.
static void run_versions(rag_lexical *lexical, const lines *texts, const lines *queries, uint32_t commits) {
  enum { CHANGED = 10, REPEATS = 50 };
  rag_lexical_view *view = rag_lexical_pin(lexical);
  uint32_t first = texts->count - RAG_MIN(texts->count, commits * CHANGED);
  rag_bitmap *live = NULL;
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  for (uint32_t i = 0; i < first; i++) {
    if (kept(i, 900)) check(rag_bitmap_edit_add(edit, i), &no_memory);
  }
  check(rag_bitmap_edit_finish(edit, &live), &no_memory);
  rag_bitmap *oldest_live = rag_ref_take(live);
  double us;
  rag_lexical_version *oldest = timed_version(view, live, NULL, &us), *version = rag_ref_take(oldest);
  uint64_t random = 88172645463325252ull;
  uint32_t derived = 0;
  printf("{\"parent\": [");
  for (uint32_t i = 0; i < commits; i++) {
    edit = rag_bitmap_edit_create(live);
    for (uint32_t gone = 0; gone < CHANGED;) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      uint32_t ordinal = (uint32_t)(random % first);
      if (!rag_bitmap_edit_has(edit, ordinal)) continue;
      check(rag_bitmap_edit_remove(edit, ordinal), &no_memory);
      gone++;
    }
    check(rag_bitmap_edit_add_range(edit, first + i * CHANGED, CHANGED), &no_memory);
    rag_ref_drop(live);
    check(rag_bitmap_edit_finish(edit, &live), &no_memory);
    rag_lexical_version *next = timed_version(view, live, version, &us);
    printf("%s%.2f", i ? "," : "", us);
    derived += rag_lexical_version_derived(next);
    rag_ref_drop(version);
    version = next;
  }
  printf("], \"derived\": %u, \"first_queries_derived\": ", derived);
  run_queries(lexical, version, queries, 10, NULL);
  printf(", \"root\": [");
  for (uint32_t i = 0; i < REPEATS; i++) {
    rag_ref_drop(version);
    version = timed_version(view, live, NULL, &us);
    printf("%s%.2f", i ? "," : "", us);
  }
  printf("], \"first_queries_root\": ");
  run_queries(lexical, version, queries, 10, NULL);
  printf(", \"first_queries_again\": ");
  run_queries(lexical, version, queries, 10, NULL);
  printf(", \"apart\": [");
  for (uint32_t i = 0; i < REPEATS; i++) {
    rag_ref_drop(timed_version(view, live, oldest, &us));
    printf("%s%.2f", i ? "," : "", us);
  }
  printf("], \"back\": [");
  for (uint32_t i = 0; i < REPEATS; i++) {
    rag_ref_drop(timed_version(view, oldest_live, version, &us));
    printf("%s%.2f", i ? "," : "", us);
  }
  printf("]}");
  rag_ref_drop(version);
  rag_ref_drop(oldest);
  rag_ref_drop(oldest_live);
  rag_ref_drop(live);
  rag_ref_drop(view);
}

static void run_remove(rag_lexical *lexical, const lines *texts, uint32_t permille) {
  rag_error err = {0};
  rag_bitmap *gone = filter_of(texts->count, permille);
  rag_lexical_stats before, after;
  rag_lexical_stats_get(lexical, &before);
  uint64_t start = rag_clock_monotonic_ns();
  check(rag_lexical_remove(lexical, gone, &err), &err);
  double us = microseconds_since(start);
  rag_lexical_stats_get(lexical, &after);
  printf("{\"us\": %.0f, \"removed\": %llu, \"rebuilds\": %llu, \"terms\": [%llu, %llu], \"bytes\": [%llu, %llu]}", us,
         (unsigned long long)rag_bitmap_count(gone), (unsigned long long)(after.rebuilds - before.rebuilds),
         (unsigned long long)before.terms, (unsigned long long)after.terms, (unsigned long long)before.bytes,
         (unsigned long long)after.bytes);
  rag_ref_drop(gone);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: bench_lexical texts.txt queries.txt [batch [sequences]]\n");
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
  char command[4096], path[4096];
  uint32_t k, permille;
  while (fgets(command, sizeof command, stdin) && strncmp(command, "quit", 4) != 0) {
    int given = sscanf(command, "run %u %u", &k, &permille);
    if (given > 0) {
      rag_bitmap *filter = given > 1 ? filter_of(texts.count, permille) : NULL;
      run_queries(lexical, version, &queries, k, filter);
      rag_ref_drop(filter);
    }
    if (strncmp(command, "first", 5) == 0) {
      rag_lexical_version *fresh = head_version(lexical, NULL);
      run_queries(lexical, fresh, &queries, 10, NULL);
      rag_ref_drop(fresh);
    }
    if (sscanf(command, "queries %4095s", path) == 1) {
      lines_free(&queries);
      queries = read_lines(path);
      printf("{\"queries\": %u}", queries.count);
    }
    if (sscanf(command, "versions %u", &k) == 1) run_versions(lexical, &texts, &queries, k);
    if (sscanf(command, "remove %u", &permille) == 1) run_remove(lexical, &texts, permille);
    if (strncmp(command, "commits ", 8) == 0) run_commits(lexical, &version, &texts, (uint32_t)atoi(command + 8));
    putchar('\n');
    fflush(stdout);
  }
  rag_ref_drop(version);
  rag_lexical_destroy(lexical);
  lines_free(&texts);
  lines_free(&queries);
  return 0;
}
