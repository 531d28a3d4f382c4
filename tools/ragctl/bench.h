// What the files of `ragctl bench` share: cmd_bench.c runs it, bench_queries.c finds what to ask, bench_report.c says
// what came of it (table, advice, JSON), bench_draw.c draws the curve in the terminal and bench_svg.c as a file.
//
// The curve is recall over latency. Recall is drawn by its misses: each step up halves, or so, what is not found, as
// 0.98 and 0.99 are further apart for whoever searches than 0.60 and 0.61. Latency is logarithmic.
#ifndef RAGD_TOOLS_BENCH_H
#define RAGD_TOOLS_BENCH_H

#include "tools/ragctl/ctl.h"

#define BENCH_QUERIES_DEFAULT 200u
#define BENCH_QUERIES_MAX 100000u
#define BENCH_K_DEFAULT 10u
#define BENCH_ROUNDS_DEFAULT 3u
#define BENCH_ROUNDS_MAX 100u
#define BENCH_SETTINGS_MAX 32u

// ---------------------------------------------------------------------------------------------- queries

typedef struct bench_queries {
  rag_buf text;    // `"query":"..."` or `"vector":[...]`, one after the other
  size_t *ends;    // of each in `text`
  unsigned *lines; // of the file that each came from; 0: of the knowledge base
  size_t count, capacity;
  bool has_text, has_vectors;
  const char *source; // for people: "lines of FILE", "titles and first sentences of documents", ...
} bench_queries;

// What the questions are asked of.
typedef struct bench_target {
  char commit[32];
  bool has_model;
  uint32_t dimension;
  uint64_t documents, chunks; // of the version
} bench_target;

void bench_queries_free(bench_queries *queries);
rag_slice bench_query(const bench_queries *queries, size_t at);
// From --queries: a text, {"query": ...} or {"vector": [...]} a line. Needs no connection. An exit status.
int bench_queries_read(ctl_session *ctl, const char *path, bench_queries *out);
// Whether those fit the knowledge base: a text needs a model, a vector the dimension. An exit status.
int bench_queries_check(ctl_session *ctl, const char *path, const bench_target *target, bench_queries *queries);
// Of the documents that pass --filter, `count` spread over the listing: titles or first sentences where the knowledge
// base has a model, else vectors. An exit status.
int bench_queries_sample(ctl_session *ctl, const bench_target *target, uint64_t count, bench_queries *out);
void bench_queries_thin(bench_queries *queries, uint64_t count); // keeps `count`, spread

// True once the user has asked to stop (SIGINT).
bool bench_stopped(void);

// ---------------------------------------------------------------------------------------------- settings

typedef enum bench_series { BENCH_DEFAULT = 0, BENCH_EXACT, BENCH_KNOB, BENCH_RECALL } bench_series;
typedef struct bench_times { // microseconds
  uint32_t p50, p95, p99;
  double mean;
} bench_times;
typedef struct bench_setting {
  bench_series series;
  double value;    // of the knob, or the recall asked for
  char name[32];   // "ef 64"
  char params[64]; // `{"ef":64}`, "" for the default and exact
  // Of each query.
  uint32_t *vector_us, *took_us; // the best of the rounds
  double *found;                 // recall
  // Sums over one pass of all queries.
  uint64_t candidates, rescored, walked;
  uint32_t wide; // the largest setting that a plan said
  double expected;
  uint32_t expected_count; // queries whose plan had an expected recall
  // Made of these (bench_summarise).
  double recall, recall_error, recall_worst;
  bench_times vector, took;
  bool front; // no other setting is both as fast and as good
} bench_setting;

typedef struct bench {
  const char *kb;
  bench_target target;
  bench_queries queries;
  uint32_t k, rounds, rounds_done;
  double target_recall;   // asked for
  double promised_recall; // of searches that name none
  char engine[16];        // of the default's plans, the most frequent one
  char knob[16];          // "ef", "nprobe", "rerank", or ""
  char metric[16], configured[16];
  char index_build[48];
  rag_buf index_patch; // members of the kb's `index` besides target_recall, as a PATCH must repeat them
  uint64_t tail_rows, index_rows;
  uint32_t segments;
  bool building, build_changed, interrupted;
  uint64_t chunks_matched;
  bool filtered;
  double *floors;   // of each query: the score of its last true hit
  uint32_t *wanted; // and how many those are
  bench_setting settings[BENCH_SETTINGS_MAX];
  uint32_t count;
  bool everything_exact;        // no setting leaves anything out
  const bench_setting *best;    // the cheapest that reaches the target; NULL: none
  const bench_setting *best_kb; // of those that the kb's index.target_recall can stand for
  const bench_setting *usual;   // the default
  const bench_setting *exact;
} bench;

void bench_summarise(bench *b);
void bench_print(const bench *b);
RAG_NODISCARD rag_status bench_json(const bench *b, rag_buf *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- drawing

// Both axes: where a value lies, 0 to 1, and the values that are labelled.
#define BENCH_TICKS_MAX 24u
typedef struct bench_axes {
  double latency_low, latency_high; // log10 of ms
  double miss_low, miss_high;       // -log10 of what is missed
  double latency_ticks[BENCH_TICKS_MAX], recall_ticks[BENCH_TICKS_MAX];
  uint32_t latency_count, recall_count;
} bench_axes;
void bench_axes_of(const bench *b, bench_axes *out);
double bench_axes_x(const bench_axes *axes, const bench_setting *setting);
double bench_axes_x_of(const bench_axes *axes, double ms);
double bench_axes_y_of(const bench_axes *axes, double recall);
// The settings of a series in the order of their values; the default is among those that ask for a recall. Returns how
// many.
uint32_t bench_series_of(const bench *b, bench_series series, const bench_setting *out[BENCH_SETTINGS_MAX]);

void bench_draw(const bench *b);
RAG_NODISCARD rag_status bench_svg(const bench *b, rag_buf *out, rag_error *err);

#endif
