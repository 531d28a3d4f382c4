// The question: what does it cost to know exactly which of a million documents pass a filter, and what do the indexes
// that tell it cost to make and to keep? See README.md for the data and the command.
//
// Prints one JSON object a line. With a second argument, also writes the columns as CSV for peer_duckdb.py.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/json.h"
#include "kb/filters/filters_internal.h"

#define RUNS 201u
#define SMALL_APPENDS 20000u
#define BATCH 65536u

typedef struct row {
  uint32_t category; // of 1,004
  uint32_t views;    // 0 to 999,999
  double price;      // 0 to 1,000
  int64_t at_us;
  uint32_t flags; // bits: public_50, public_10, public_1, public_01
  uint32_t text_at, text_size;
} row;
typedef struct corpus {
  row *rows;
  uint32_t count;
  rag_buf texts;
} corpus;

static uint64_t seed = 20261121;

static uint32_t draw(uint32_t below) {
  seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((seed >> 33) % below);
}

#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "failed: %s (%s:%d)\n", #condition, __FILE__, __LINE__);                                         \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

#define AT_FIRST_US INT64_C(1577836800000000) // 2020-01-01
#define AT_SPAN_S 157680000u                  // five years of 365 days

// Shares in thousandths: c500, c100, c10, c1; the rest is spread over a thousand.
static uint32_t draw_category(void) {
  uint32_t v = draw(1000);
  if (v < 500) return 0;
  if (v < 600) return 1;
  if (v < 610) return 2;
  if (v < 611) return 3;
  return 4 + draw(1000);
}

static void category_name(uint32_t category, char out[24]) {
  static const char *const named[] = {"c500", "c100", "c10", "c1"};
  if (category < 4) snprintf(out, 24, "%s", named[category]);
  else snprintf(out, 24, "topic-%u", category - 4);
}

static void make_row(corpus *c, row *r, uint32_t number) {
  char category[24], at[RAG_TIME_TEXT_MAX];
  r->category = draw_category();
  r->views = draw(1000000);
  r->price = (double)draw(1000000) / 1000.0;
  r->at_us = AT_FIRST_US + (int64_t)draw(AT_SPAN_S) * 1000000;
  uint32_t v[4] = {draw(2), draw(10), draw(100), draw(1000)};
  r->flags = (v[0] == 0) | (v[1] == 0) << 1 | (v[2] == 0) << 2 | (v[3] == 0) << 3;
  r->text_at = (uint32_t)c->texts.size;
  category_name(r->category, category);
  rag_time_format(r->at_us, at);
  rag_buf_printf(&c->texts,
                 "{\"category\":\"%s\",\"views\":%u,\"price\":%.3f,\"at\":\"%s\",\"public_50\":%s,\"public_10\":%s,"
                 "\"public_1\":%s,\"public_01\":%s,\"source\":\"doc-%07u\"}",
                 category, r->views, r->price, at, r->flags & 1 ? "true" : "false", r->flags & 2 ? "true" : "false",
                 r->flags & 4 ? "true" : "false", r->flags & 8 ? "true" : "false", number);
  r->text_size = (uint32_t)c->texts.size - r->text_at;
}

static void write_csv(const corpus *c, const char *path) {
  FILE *f = fopen(path, "w");
  REQUIRE(f != NULL);
  fprintf(f, "category,views,price,at,public_50,public_10,public_1,public_01\n");
  for (uint32_t i = 0; i < c->count; i++) {
    const row *r = &c->rows[i];
    char category[24], at[RAG_TIME_TEXT_MAX];
    category_name(r->category, category);
    rag_time_format(r->at_us, at);
    at[19] = '\0';
    at[10] = ' ';
    fprintf(f, "%s,%u,%.3f,%s,%d,%d,%d,%d\n", category, r->views, r->price, at, r->flags & 1, r->flags >> 1 & 1,
            r->flags >> 2 & 1, r->flags >> 3 & 1);
  }
  fclose(f);
}

// ---------------------------------------------------------------------------------------------- building

static int compare_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static double cpu_seconds(void) { // of this thread
  struct timespec t;
  REQUIRE(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void bench_load(const corpus *c, rag_fields *fields) {
  rag_kb__fields_row *rows = calloc(BATCH, sizeof *rows);
  REQUIRE(rows != NULL);
  uint64_t before = rag_clock_monotonic_ns();
  double cpu_before = cpu_seconds();
  for (uint32_t at = 0; at < c->count;) { // revisions from 1
    uint32_t count = RAG_MIN(BATCH - (at + 1) % BATCH, c->count - at);
    for (uint32_t i = 0; i < count; i++) {
      const row *r = &c->rows[at + i];
      rows[i] = (rag_kb__fields_row){at + i + 1, rag_slice_of(c->texts.data + r->text_at, r->text_size)};
    }
    REQUIRE(rag_kb__fields_append(fields, count, rows, NULL) == RAG_OK);
    at += count;
  }
  double seconds = (double)(rag_clock_monotonic_ns() - before) / 1e9, cpu = cpu_seconds() - cpu_before;
  rag_fields_stats stats;
  REQUIRE(rag_fields_stats_get(fields, &stats, NULL) == RAG_OK);
  printf("{\"what\": \"load\", \"documents\": %u, \"seconds\": %.3f, \"cpu_seconds\": %.3f, "
         "\"documents_per_cpu_second\": %.0f, \"values\": %llu, "
         "\"json_bytes\": %zu, \"index_bytes\": %llu, \"bytes_per_document\": %.1f, \"segments\": %llu}\n",
         c->count, seconds, cpu, c->count / cpu, (unsigned long long)stats.values, c->texts.size,
         (unsigned long long)stats.bytes, (double)stats.bytes / c->count, (unsigned long long)stats.segments);
  free(rows);
}

// Commits of one document each: what each pays, merges included.
static void bench_small_appends(const corpus *c, rag_fields *fields) {
  static uint64_t took[SMALL_APPENDS];
  uint64_t sum = 0;
  double cpu_before = cpu_seconds();
  for (uint32_t i = 0; i < SMALL_APPENDS; i++) {
    const row *r = &c->rows[i];
    rag_kb__fields_row one = {c->count + 1 + i, rag_slice_of(c->texts.data + r->text_at, r->text_size)};
    uint64_t before = rag_clock_monotonic_ns();
    REQUIRE(rag_kb__fields_append(fields, 1, &one, NULL) == RAG_OK);
    took[i] = rag_clock_monotonic_ns() - before;
    sum += took[i];
  }
  qsort(took, SMALL_APPENDS, sizeof *took, compare_u64);
  printf("{\"what\": \"append_one\", \"appends\": %u, \"mean_us\": %.2f, \"mean_cpu_us\": %.2f, \"p50_us\": %.2f, "
         "\"p99_us\": %.2f, "
         "\"max_us\": %.2f}\n",
         SMALL_APPENDS, (double)sum / SMALL_APPENDS / 1e3, (cpu_seconds() - cpu_before) / SMALL_APPENDS * 1e6,
         (double)took[SMALL_APPENDS / 2] / 1e3, (double)took[SMALL_APPENDS * 99 / 100] / 1e3,
         (double)took[SMALL_APPENDS - 1] / 1e3);
}

// ---------------------------------------------------------------------------------------------- filters

static rag_status no_document(void *context, uint32_t revision, rag_slice *id, rag_slice *metadata, rag_error *err) {
  RAG_UNUSED(context);
  RAG_UNUSED(revision);
  RAG_UNUSED(id);
  RAG_UNUSED(metadata);
  return rag_fail(err, RAG_INTERNAL, "a document was fetched");
}

static void bench_filter(const rag_fields_view *view, const rag_bitmap *live, const char *kind, double share,
                         const char *text) {
  static uint64_t took[RUNS];
  rag_arena *arena = rag_arena_create(0);
  const rag_filter *filter = NULL;
  rag_error err = {0};
  rag_kb__filter_source source = {.fields = view, .live = live, .get_document = no_document};
  uint64_t survivors = 0;
  REQUIRE(arena != NULL && rag_filter_parse(rag_slice_str(text), arena, &filter, &err) == RAG_OK);
  for (uint32_t i = 0; i < RUNS; i++) {
    rag_bitmap *out = NULL;
    uint64_t before = rag_clock_monotonic_ns();
    REQUIRE(rag_kb__filter_eval(filter, &source, &out, NULL, &err) == RAG_OK);
    took[i] = rag_clock_monotonic_ns() - before;
    survivors = rag_bitmap_count(out);
    rag_ref_drop(out);
  }
  qsort(took, RUNS, sizeof *took, compare_u64);
  printf("{\"what\": \"filter\", \"kind\": \"%s\", \"share\": %g, \"survivors\": %llu, \"of\": %llu, \"min_us\": %.1f, "
         "\"p50_us\": %.1f, "
         "\"p99_us\": %.1f, \"runs\": %u}\n",
         kind, share, (unsigned long long)survivors, (unsigned long long)rag_bitmap_count(live), (double)took[0] / 1e3,
         (double)took[RUNS / 2] / 1e3, (double)took[RUNS * 99 / 100] / 1e3, RUNS);
  rag_arena_destroy(arena);
}

static void bench_filters(const rag_fields_view *view, const rag_bitmap *live) {
  static const double shares[] = {0.001, 0.01, 0.1, 0.5};
  static const char *const categories[] = {"c1", "c10", "c100", "c500"};
  static const char *const flags[] = {"public_01", "public_1", "public_10", "public_50"};
  char text[512];
  for (uint32_t i = 0; i < RAG_COUNT_OF(shares); i++) {
    double share = shares[i];
    char from[RAG_TIME_TEXT_MAX], to[RAG_TIME_TEXT_MAX];
    snprintf(text, sizeof text, "{\"must\":[{\"key\":\"category\",\"match\":{\"value\":\"%s\"}}]}", categories[i]);
    bench_filter(view, live, "keyword", share, text);
    snprintf(text, sizeof text, "{\"must\":[{\"key\":\"%s\",\"match\":{\"value\":true}}]}", flags[i]);
    bench_filter(view, live, "bool", share, text);
    snprintf(text, sizeof text, "{\"must\":[{\"key\":\"views\",\"range\":{\"gte\":300000,\"lt\":%.0f}}]}",
             300000 + share * 1e6);
    bench_filter(view, live, "integer range", share, text);
    snprintf(text, sizeof text, "{\"must\":[{\"key\":\"price\",\"range\":{\"gte\":300,\"lt\":%g}}]}",
             300 + share * 1e3);
    bench_filter(view, live, "number range", share, text);
    rag_time_format(AT_FIRST_US + (int64_t)(0.3 * AT_SPAN_S) * 1000000, from);
    rag_time_format(AT_FIRST_US + (int64_t)((0.3 + share) * AT_SPAN_S) * 1000000, to);
    snprintf(text, sizeof text, "{\"must\":[{\"key\":\"at\",\"range\":{\"gte\":\"%s\",\"lt\":\"%s\"}}]}", from, to);
    bench_filter(view, live, "time range", share, text);
  }
  bench_filter(view, live, "keyword and time range and not flag", 0.225,
               "{\"must\":[{\"key\":\"category\",\"match\":{\"value\":\"c500\"}},{\"key\":\"at\",\"range\":"
               "{\"gte\":\"2021-07-01\",\"lt\":\"2024-01-01\"}}],\"must_not\":[{\"key\":\"public_10\",\"match\":"
               "{\"value\":true}}]}");
  bench_filter(view, live, "one string of a million", 1e-6,
               "{\"must\":[{\"key\":\"source\",\"match\":{\"value\":\"doc-0500000\"}}]}");
  bench_filter(view, live, "prefix of a million strings", 0.0001,
               "{\"must\":[{\"key\":\"source\",\"match\":{\"prefix\":\"doc-05000\"}}]}");
  bench_filter(view, live, "text in a million strings", 0.00002,
               "{\"must\":[{\"key\":\"source\",\"match\":{\"text\":\"77777\"}}]}");
}

static void bench_facet(const rag_fields_view *view, const rag_bitmap *live, const char *field) {
  static uint64_t took[21];
  rag_kb__filter_source source = {.fields = view, .live = live, .get_document = no_document};
  rag_facet facet = {0};
  uint64_t fetched = 0;
  rag_arena *arena = rag_arena_create(0);
  REQUIRE(arena != NULL);
  for (uint32_t i = 0; i < RAG_COUNT_OF(took); i++) {
    rag_arena_reset(arena);
    uint64_t before = rag_clock_monotonic_ns();
    REQUIRE(rag_kb__facet(&source, rag_slice_str(field), live, 10, arena, &facet, &fetched, NULL) == RAG_OK);
    took[i] = rag_clock_monotonic_ns() - before;
  }
  qsort(took, RAG_COUNT_OF(took), sizeof *took, compare_u64);
  printf("{\"what\": \"facet\", \"field\": \"%s\", \"distinct\": %llu, \"documents\": %llu, \"p50_us\": %.1f, "
         "\"runs\": %zu}\n",
         field, (unsigned long long)facet.distinct, (unsigned long long)facet.documents,
         (double)took[RAG_COUNT_OF(took) / 2] / 1e3, RAG_COUNT_OF(took));
  rag_arena_destroy(arena);
}

int main(int argc, char **argv) {
  corpus c = {.count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000};
  rag_fields_options none = {0};
  rag_fields *fields = NULL;
  rag_bitmap *live = NULL;
  c.rows = calloc(c.count, sizeof *c.rows);
  REQUIRE(c.rows != NULL && c.count >= SMALL_APPENDS);
  for (uint32_t i = 0; i < c.count; i++) make_row(&c, &c.rows[i], i);
  REQUIRE(!c.texts.failed && c.texts.size < UINT32_MAX);
  if (argc > 2) write_csv(&c, argv[2]);
  REQUIRE(rag_fields_create(&none, &fields, NULL) == RAG_OK);
  bench_load(&c, fields);
  rag_bitmap_edit *edit = rag_bitmap_edit_create(NULL);
  REQUIRE(edit != NULL && rag_bitmap_edit_add_range(edit, 1, c.count) == RAG_OK);
  REQUIRE(rag_bitmap_edit_finish(edit, &live) == RAG_OK);
  rag_fields_view *view = rag_fields_pin(fields);
  bench_filters(view, live);
  bench_facet(view, live, "category");
  bench_facet(view, live, "public_50");
  bench_facet(view, live, "views");
  bench_facet(view, live, "source");
  rag_ref_drop(view);
  bench_small_appends(&c, fields);
  rag_ref_drop(live);
  rag_fields_destroy(fields);
  rag_buf_free(&c.texts);
  free(c.rows);
  return 0;
}
