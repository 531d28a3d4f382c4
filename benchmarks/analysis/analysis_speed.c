// How fast is the text analysis? (README.md says with which data, and holds the results.)
//
//   analysis_speed LANGUAGE FILE...
//
// Analyses each file as one text, again and again for a second of processor time, and prints the fastest and the median
// run as one JSON object a line. The tokens are counted and their bytes summed, no more: what an index does with them
// is its own cost.
#include "base/base.h"
#include "index/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RUNS_MAX 1001
#define RUN_NS_MIN 1000000000ull

typedef struct tally {
  uint64_t tokens, path, bytes;
} tally;

static bool count_token(void *context, const rag_token *token) {
  tally *t = context;
  t->tokens++;
  t->path += !(token->flags & RAG_TOKEN_EXTRA);
  t->bytes += token->term.size;
  return true;
}

// Of this thread, so that other work on the machine does not count; its cold caches do.
static uint64_t cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int order(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void fail(const rag_error *err) {
  fprintf(stderr, "analysis_speed: %s\n", err->message);
  exit(1);
}

int main(int argc, char **argv) {
  rag_error err = {0};
  rag_analyzer *analyzer;
  if (argc < 3) {
    fprintf(stderr, "usage: analysis_speed LANGUAGE FILE...\n");
    return 2;
  }
  if (rag_analyzer_open(rag_slice_str(argv[1]), &analyzer, &err) != RAG_OK) fail(&err);
  for (int i = 2; i < argc; i++) {
    char *text;
    size_t size;
    double seconds[RUNS_MAX];
    size_t runs = 0;
    tally counted = {0};
    if (rag_os_read_file(argv[i], RAG_ANALYSIS_TEXT_BYTES_MAX, &text, &size, &err) != RAG_OK) fail(&err);
    for (uint64_t begin = cpu_ns(); runs < RUNS_MAX;) {
      uint64_t start = cpu_ns();
      counted = (tally){0};
      if (rag_analyzer_run(analyzer, rag_slice_of(text, size), count_token, &counted) != RAG_OK) return 1;
      uint64_t now = cpu_ns();
      seconds[runs++] = (double)(now - start) / 1e9;
      if (now - begin > RUN_NS_MIN && runs >= 11) break;
    }
    qsort(seconds, runs, sizeof(*seconds), order);
    const char *name = strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i];
    printf("{\"analyzer\": \"%s\", \"text\": \"%s\", \"bytes\": %zu, \"tokens\": %llu, \"path_tokens\": %llu, "
           "\"term_bytes\": "
           "%llu, \"best_mb_per_s\": %.1f, \"median_mb_per_s\": %.1f, \"runs\": %zu}\n",
           rag_analyzer_id(analyzer), name, size, (unsigned long long)counted.tokens, (unsigned long long)counted.path,
           (unsigned long long)counted.bytes, (double)size / seconds[0] / 1e6, (double)size / seconds[runs / 2] / 1e6,
           runs);
    fflush(stdout);
    rag_free(text);
  }
  rag_analyzer_close(analyzer);
  return 0;
}
