// Question: what does hybrid retrieval cost through the product? (README.md beside this file)
//
// Usage: bench_retrieval load DIR MODEL FILE|COUNT   makes a store in DIR with one knowledge base "b": the documents of
//                                                    a file (one JSON document a line), or COUNT made-up ones
//        bench_retrieval measure DIR [option value]... > results/NAME.json
//          --queries N (101)  --rounds N (3)  --hybrid 0|1 (1)  --filters 0|1 (0)  --commits N (201)
//          --large-commits N (20)
//
// `load` prints documents per second of commits of 1,000, and where the time went. `measure` opens the store, prints:
//   open     what reading the knowledge base into memory takes, as its log line splits it
//   hybrid   lexical, vector and hybrid searches in turn, k = 10 and 100; also both sides as deep as hybrid asks them
//   filters  filtered hybrid searches: a filter seen for the first time, then again
//   commits  durable commits of 10 documents of about 1 KB, the first search by words after each, commits of 1,000
// Each search is timed by the wall and by its thread's processor time: on a busy machine the latter is the steadier.
//
// Where a commit spends its time: the linker (--wrap) leads six calls by way of the timers below. They run in the
// caller's thread; nothing else is added to the product.
#include "corpus.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "kb/filters/filters_internal.h"
#include "kb/words_internal.h"

#define SAMPLES_MAX 8192u
#define LARGE_COMMIT 1000u

// ---------------------------------------------------------------------------------------------- timers

typedef enum part { ANALYSIS, EMBEDDING, APPEND_WORDS, APPEND_FIELDS, APPEND_VECTORS, WRITE_AND_SYNC, PARTS } part;
static const char *const part_names[PARTS] = {"analysis",      "embedding",      "append_words",
                                              "append_fields", "append_vectors", "write_and_sync"};
static uint64_t part_ns[PARTS], part_cpu_ns[PARTS];

static uint64_t cpu_ns(void) {
  struct timespec t;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) DIE("no thread clock");
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

#define TIMED(which, call)                                                                                             \
  uint64_t timed_start = rag_clock_monotonic_ns(), timed_cpu = cpu_ns();                                               \
  rag_status timed_status = call;                                                                                      \
  part_cpu_ns[which] += cpu_ns() - timed_cpu;                                                                          \
  part_ns[which] += rag_clock_monotonic_ns() - timed_start;                                                            \
  return timed_status

struct rag_store__batch; // store's own: passed through
rag_status __real_rag_kb__words_of(rag_analyzer *, rag_slice, rag_slice, const rag_span *, uint32_t, uint32_t, uint32_t,
                                   rag_arena *, rag_lexical_chunk *, rag_error *);
rag_status __wrap_rag_kb__words_of(rag_analyzer *, rag_slice, rag_slice, const rag_span *, uint32_t, uint32_t, uint32_t,
                                   rag_arena *, rag_lexical_chunk *, rag_error *);
rag_status __wrap_rag_kb__words_of(rag_analyzer *rules, rag_slice title, rag_slice body, const rag_span *spans,
                                   uint32_t count, uint32_t stride, uint32_t first, rag_arena *arena,
                                   rag_lexical_chunk *out, rag_error *err) {
  TIMED(ANALYSIS, __real_rag_kb__words_of(rules, title, body, spans, count, stride, first, arena, out, err));
}

rag_status __real_rag_embedder_embed(rag_embedder *, rag_embed_role, const rag_slice *, uint32_t, float *, rag_error *);
rag_status __wrap_rag_embedder_embed(rag_embedder *, rag_embed_role, const rag_slice *, uint32_t, float *, rag_error *);
rag_status __wrap_rag_embedder_embed(rag_embedder *embedder, rag_embed_role role, const rag_slice *texts,
                                     uint32_t count, float *out, rag_error *err) {
  TIMED(EMBEDDING, __real_rag_embedder_embed(embedder, role, texts, count, out, err));
}

rag_status __real_rag_lexical_append(rag_lexical *, const rag_lexical_chunk *, uint32_t, rag_error *);
rag_status __wrap_rag_lexical_append(rag_lexical *, const rag_lexical_chunk *, uint32_t, rag_error *);
rag_status __wrap_rag_lexical_append(rag_lexical *lexical, const rag_lexical_chunk *chunks, uint32_t count,
                                     rag_error *err) {
  TIMED(APPEND_WORDS, __real_rag_lexical_append(lexical, chunks, count, err));
}

rag_status __real_rag_kb__fields_append(rag_fields *, uint32_t, const rag_kb__fields_row *, rag_error *);
rag_status __wrap_rag_kb__fields_append(rag_fields *, uint32_t, const rag_kb__fields_row *, rag_error *);
rag_status __wrap_rag_kb__fields_append(rag_fields *fields, uint32_t count, const rag_kb__fields_row *rows,
                                        rag_error *err) {
  TIMED(APPEND_FIELDS, __real_rag_kb__fields_append(fields, count, rows, err));
}

rag_status __real_rag_index_append(rag_index *, const uint32_t *, uint32_t, const float *, rag_error *);
rag_status __wrap_rag_index_append(rag_index *, const uint32_t *, uint32_t, const float *, rag_error *);
rag_status __wrap_rag_index_append(rag_index *index, const uint32_t *ordinals, uint32_t count, const float *vectors,
                                   rag_error *err) {
  TIMED(APPEND_VECTORS, __real_rag_index_append(index, ordinals, count, vectors, err));
}

rag_status __real_rag_store__batch_write(struct rag_store__batch *, rag_error *);
rag_status __wrap_rag_store__batch_write(struct rag_store__batch *, rag_error *);
rag_status __wrap_rag_store__batch_write(struct rag_store__batch *batch, rag_error *err) {
  TIMED(WRITE_AND_SYNC, __real_rag_store__batch_write(batch, err));
}

// ---------------------------------------------------------------------------------------------- samples

typedef struct samples {
  double values[SAMPLES_MAX];
  size_t count;
} samples;

static void add(samples *s, double value) {
  if (s->count < SAMPLES_MAX) s->values[s->count++] = value;
}

static int compare_double(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double quantile(samples *s, double q) {
  if (s->count == 0) return 0;
  qsort(s->values, s->count, sizeof s->values[0], compare_double);
  return s->values[RAG_MIN(s->count - 1, (size_t)((double)s->count * q))];
}

// ---------------------------------------------------------------------------------------------- the store

typedef struct session {
  rag_store *store;
  rag_jobs *jobs;
  rag_kbs *kbs;
  rag_kb *kb;
} session;

static void session_open(session *s, const char *dir) {
  rag_store_options store_options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  kbs_options.load_at_open = false;
  MUST(rag_store_open(dir, &store_options, &s->store, err));
  MUST(rag_jobs_open(s->store, 0, &s->jobs, err));
  MUST(rag_kbs_open(s->store, s->jobs, &kbs_options, &s->kbs, err));
}

static void session_close(session *s) {
  rag_ref_drop(s->kb);
  rag_kbs_close(s->kbs);
  rag_jobs_close(s->jobs);
  rag_store_close(s->store);
}

typedef struct put_time {
  double ns, cpu_ns;
} put_time;

static put_time put(rag_kb *kb, const rag_document_input *documents, uint32_t count) {
  rag_put request = {.documents = documents, .document_count = count};
  rag_write write = {.message = rag_slice_str("benchmark")};
  rag_write_result result;
  uint64_t start = rag_clock_monotonic_ns(), start_cpu = cpu_ns();
  MUST(rag_kb_put(kb, &write, &request, &result, NULL, err));
  put_time took = {.cpu_ns = (double)(cpu_ns() - start_cpu), .ns = (double)(rag_clock_monotonic_ns() - start)};
  if (!result.committed || result.added != count) DIE("%" PRIu64 " of %u documents added", result.added, count);
  return took;
}

static void print_load(const char *when) {
  double average[3] = {0};
  if (getloadavg(average, 3) < 0) average[0] = -1;
  printf("\"load_average_%s\": %.1f", when, average[0]);
}

static void load(const char *dir, const char *model, const char *source) {
  session s;
  rag_kb_config config;
  rag_write write = {0};
  char *end;
  unsigned long number = strtoul(source, &end, 10);
  corpus *c = *end == '\0' ? corpus_open(NULL, (uint32_t)number) : corpus_open(source, 0);
  rag_document_input *documents = calloc(LARGE_COMMIT, sizeof *documents);
  if (documents == NULL) DIE("out of memory");
  MUST(rag_os_remove_tree(dir, err));
  session_open(&s, dir);
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "b");
  snprintf(config.model, sizeof config.model, "%s", model);
  snprintf(config.language, sizeof config.language, "en");
  config.chunking.method = RAG_CHUNK_WHOLE;
  MUST(rag_kbs_create(s.kbs, &config, &write, &s.kb, err));
  put_time all = {0};
  uint64_t count = 0, bytes = 0;
  for (uint32_t n; (n = corpus_next(c, LARGE_COMMIT, documents)) > 0; count += n) {
    for (uint32_t i = 0; i < n; i++) bytes += documents[i].text.size + documents[i].title.size;
    put_time took = put(s.kb, documents, n);
    all = (put_time){all.ns + took.ns, all.cpu_ns + took.cpu_ns};
  }
  printf("{\"documents\": %" PRIu64 ", \"model\": \"%s\", \"text_bytes\": %" PRIu64 ", \"seconds\": %.1f, "
         "\"cpu_seconds\": %.1f, \"documents_per_second\": %.0f, \"documents_per_cpu_second\": %.0f, "
         "\"write_and_sync_seconds\": %.1f, \"share_of_cpu\": {",
         count, model, bytes, all.ns / 1e9, all.cpu_ns / 1e9, (double)count / (all.ns / 1e9),
         (double)count / (all.cpu_ns / 1e9), (double)part_ns[WRITE_AND_SYNC] / 1e9);
  for (int p = 0; p < PARTS; p++)
    printf("%s\"%s\": %.3f", p ? ", " : "", part_names[p], (double)part_cpu_ns[p] / all.cpu_ns);
  printf("}, ");
  print_load("after");
  printf("}\n");
  MUST(rag_store_flush(s.store, err));
  session_close(&s);
  rag_kb_config_free(&config);
  corpus_close(c);
  free(documents);
}

// ---------------------------------------------------------------------------------------------- opening

static long logged(const char *line, const char *name) {
  const char *at = strstr(line, name);
  return at == NULL ? -1 : strtol(at + strlen(name), NULL, 10);
}

static void measure_open(session *s, const char *dir) {
  char line[4096];
  FILE *log = tmpfile();
  if (log == NULL) DIE("no temporary file");
  rag_log_setup(fileno(log), RAG_LOG_INFO, RAG_LOG_TEXT);
  uint64_t start = rag_clock_monotonic_ns();
  session_open(s, dir);
  MUST(rag_kbs_get(s->kbs, rag_slice_str("b"), &s->kb, err));
  double open_ms = (double)(rag_clock_monotonic_ns() - start) / 1e6;
  memset(part_cpu_ns, 0, sizeof part_cpu_ns);
  start = rag_clock_monotonic_ns();
  uint64_t start_cpu = cpu_ns();
  MUST(rag_kb_load(s->kb, err));
  double load_ms = (double)(rag_clock_monotonic_ns() - start) / 1e6, load_cpu_ms = (double)(cpu_ns() - start_cpu) / 1e6;
  rewind(log);
  while (fgets(line, sizeof line, log) != NULL && strstr(line, "kb.loaded") == NULL) continue;
  rag_log_setup(2, RAG_LOG_WARN, RAG_LOG_TEXT);
  printf("  \"open\": {\"store_ms\": %.0f, \"load_ms\": %.0f, \"load_cpu_ms\": %.0f, \"tables_and_fields_ms\": %ld, "
         "\"vectors_ms\": %ld, \"words_ms\": %ld, \"words_analysis_cpu_ms\": %.0f, \"words_append_cpu_ms\": %.0f},\n",
         open_ms, load_ms, load_cpu_ms, logged(line, "tables_and_fields_ms="), logged(line, "vectors_ms="),
         logged(line, "words_ms="), (double)part_cpu_ns[ANALYSIS] / 1e6, (double)part_cpu_ns[APPEND_WORDS] / 1e6);
  fclose(log);
}

// ---------------------------------------------------------------------------------------------- queries

// 2 to 8 different words of one text, as a person who looks for it would take them: frequent ones too.
static char *make_query(rag_kb *kb, uint32_t revisions, uint32_t words) {
  for (;;) {
    rag_document document;
    rag_slice found[512];
    uint32_t count = 0;
    rag_buf query = {0};
    MUST(rag_kb_revision_get(kb, 1 + bench_random(revisions), &document, err));
    const char *p = document.text.data, *end = p + document.text.size;
    while (p < end && count < RAG_COUNT_OF(found)) {
      const char *start = p;
      while (p < end && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z'))) p++;
      if (p - start >= 2) {
        rag_slice word = rag_slice_of(start, (size_t)(p - start));
        bool seen = false;
        for (uint32_t i = 0; i < count && !seen; i++)
          seen = found[i].size == word.size && memcmp(found[i].data, word.data, word.size) == 0;
        if (!seen) found[count++] = word;
      }
      p += p == start;
    }
    if (count >= words) {
      for (uint32_t i = 0; i < words; i++) {
        uint32_t pick = i + bench_random(count - i);
        rag_slice word = found[pick];
        found[pick] = found[i];
        if (i > 0) rag_buf_append(&query, " ", 1);
        rag_buf_append(&query, word.data, word.size);
      }
      rag_buf_append(&query, "", 1);
    }
    rag_document_free(&document);
    if (query.size > 0) return (char *)query.data; // the process ends with it
  }
}

typedef struct timing {
  double wall_us, cpu_us;
  rag_search_plan plan;
  uint32_t hits;
} timing;

static timing ask(rag_kb *kb, rag_search_mode mode, const char *query, uint32_t k, const rag_filter *filter) {
  rag_search search = {
      .mode = mode, .query = rag_slice_str(query), .k = k, .filter = filter, .want_text = true, .want_metadata = true};
  rag_search_result result;
  uint64_t start = rag_clock_monotonic_ns(), start_cpu = cpu_ns();
  MUST(rag_kb_search(kb, &search, &result, err));
  timing t = {.cpu_us = (double)(cpu_ns() - start_cpu) / 1e3,
              .wall_us = (double)(rag_clock_monotonic_ns() - start) / 1e3,
              .plan = result.plan,
              .hits = result.count};
  rag_search_result_free(&result);
  return t;
}

// ---------------------------------------------------------------------------------------------- hybrid

// "deep": as deep as hybrid asks each side for an answer of k.
enum { LEXICAL, VECTOR, HYBRID, LEXICAL_DEEP, VECTOR_DEEP, KINDS };
static const char *const kind_names[KINDS] = {"lexical", "vector", "hybrid", "lexical_deep", "vector_deep"};

static void measure_hybrid(rag_kb *kb, char **queries, uint32_t count, uint32_t rounds) {
  static const rag_search_mode modes[KINDS] = {RAG_SEARCH_LEXICAL, RAG_SEARCH_VECTOR, RAG_SEARCH_HYBRID,
                                               RAG_SEARCH_LEXICAL, RAG_SEARCH_VECTOR};
  static const uint32_t ks[] = {10, 100};
  printf("  \"hybrid\": [\n");
  for (size_t i = 0; i < RAG_COUNT_OF(ks); i++) {
    static samples wall[KINDS], cpu[KINDS], ratio, rank, fetch, side_vector, side_lexical;
    samples *all[] = {&ratio, &rank, &fetch, &side_vector, &side_lexical};
    uint32_t depth = RAG_FUSION_DEPTH_MIN;
    while (depth < 2 * ks[i]) depth *= 2;
    for (int kind = 0; kind < KINDS; kind++) wall[kind].count = cpu[kind].count = 0;
    for (size_t a = 0; a < RAG_COUNT_OF(all); a++) all[a]->count = 0;
    for (uint32_t q = 0; q < count; q++) // what they answer with is in memory from here on
      for (int kind = 0; kind < KINDS; kind++) ask(kb, modes[kind], queries[q], kind > HYBRID ? depth : ks[i], NULL);
    for (uint32_t round = 0; round < rounds; round++) {
      for (uint32_t q = 0; q < count; q++) {
        timing t[KINDS];
        for (uint32_t turn = 0; turn < KINDS; turn++) {
          uint32_t kind = (turn + q + round) % KINDS; // none comes always first
          t[kind] = ask(kb, modes[kind], queries[q], kind > HYBRID ? depth : ks[i], NULL);
          add(&wall[kind], t[kind].wall_us);
          add(&cpu[kind], t[kind].cpu_us);
        }
        add(&ratio, t[HYBRID].cpu_us / (t[LEXICAL].cpu_us + t[VECTOR].cpu_us));
        add(&rank, (double)t[HYBRID].plan.rank_ns / 1e3);
        add(&fetch, (double)t[HYBRID].plan.fetch_ns / 1e3);
        add(&side_vector, (double)t[HYBRID].plan.vector_ns / 1e3);
        add(&side_lexical, (double)t[HYBRID].plan.lexical_ns / 1e3);
      }
    }
    printf("    {\"k\": %u, \"depth\": %u, \"samples\": %zu", ks[i], depth, wall[0].count);
    for (int kind = 0; kind < KINDS; kind++)
      printf(", \"%s\": {\"cpu_p50_us\": %.1f, \"cpu_p99_us\": %.1f, \"wall_p50_us\": %.1f, \"wall_p99_us\": %.1f}",
             kind_names[kind], quantile(&cpu[kind], .5), quantile(&cpu[kind], .99), quantile(&wall[kind], .5),
             quantile(&wall[kind], .99));
    printf(
        ",\n     \"hybrid_parts_wall_p50_us\": {\"vector\": %.1f, \"lexical\": %.1f, \"rank\": %.1f, \"fetch\": %.1f}",
        quantile(&side_vector, .5), quantile(&side_lexical, .5), quantile(&rank, .5), quantile(&fetch, .5));
    printf(",\n     \"ratio_of_cpu_medians\": %.3f, \"ratio_of_wall_medians\": %.3f, \"median_of_cpu_ratios\": %.3f, "
           "\"p90_of_cpu_ratios\": %.3f}%s\n",
           quantile(&cpu[HYBRID], .5) / (quantile(&cpu[LEXICAL], .5) + quantile(&cpu[VECTOR], .5)),
           quantile(&wall[HYBRID], .5) / (quantile(&wall[LEXICAL], .5) + quantile(&wall[VECTOR], .5)),
           quantile(&ratio, .5), quantile(&ratio, .9), i + 1 < RAG_COUNT_OF(ks) ? "," : "");
  }
  printf("  ],\n");
}

// ---------------------------------------------------------------------------------------------- filters

typedef struct condition {
  const char *name, *json; // NULL: none
} condition;

static void measure_filters(rag_kb *kb, char **queries, uint32_t count) {
  static const condition conditions[] = {
      {"none", NULL},
      {"keyword 0.1%", "{\"key\":\"category\",\"match\":{\"value\":\"c1\"}}"},
      {"keyword 1%", "{\"key\":\"category\",\"match\":{\"value\":\"c10\"}}"},
      {"keyword 10%", "{\"key\":\"category\",\"match\":{\"value\":\"c100\"}}"},
      {"keyword 50%", "{\"key\":\"category\",\"match\":{\"value\":\"c500\"}}"},
      {"range 0.1%", "{\"key\":\"views\",\"range\":{\"gte\":400000,\"lt\":401000}}"},
      {"range 1%", "{\"key\":\"views\",\"range\":{\"gte\":400000,\"lt\":410000}}"},
      {"range 10%", "{\"key\":\"views\",\"range\":{\"gte\":400000,\"lt\":500000}}"},
      {"range 50%", "{\"key\":\"views\",\"range\":{\"gte\":400000,\"lt\":900000}}"},
      {"bool 50%", "{\"key\":\"public\",\"match\":{\"value\":true}}"},
  };
  enum { FIRST_FILTER, CACHED_FILTER, FIRST_ALL, CACHED_ALL, SIDE_VECTOR, SIDE_LEXICAL, MEASURES };
  static const char *const names[MEASURES] = {"filter_first_us",      "filter_cached_us", "search_first_cpu_us",
                                              "search_cached_cpu_us", "vector_us",        "lexical_us"};
  rag_arena *arena = rag_arena_create(0);
  if (arena == NULL) DIE("out of memory");
  printf("  \"filters\": [\n");
  for (size_t i = 0; i < RAG_COUNT_OF(conditions); i++) {
    static samples measured[MEASURES];
    rag_search_plan plan = {0};
    for (int m = 0; m < MEASURES; m++) measured[m].count = 0;
    for (uint32_t q = 0; q < count; q++) {
      const rag_filter *filter = NULL;
      rag_buf json = {0};
      if (conditions[i].json != NULL) { // blanks make it a filter that was not seen before
        rag_buf_printf(&json, "{%*s\"must\":[%s]}", (int)q, "", conditions[i].json);
        MUST(rag_filter_parse(rag_slice_of(json.data, json.size), arena, &filter, err));
      }
      timing first = ask(kb, RAG_SEARCH_HYBRID, queries[q], 10, filter);
      if (first.plan.filter_cached) DIE("a filter was known before");
      timing again = ask(kb, RAG_SEARCH_HYBRID, queries[q], 10, filter);
      if (filter != NULL && !again.plan.filter_cached) DIE("a filter was forgotten");
      add(&measured[FIRST_FILTER], (double)first.plan.filter_ns / 1e3);
      add(&measured[CACHED_FILTER], (double)again.plan.filter_ns / 1e3);
      add(&measured[FIRST_ALL], first.cpu_us);
      add(&measured[CACHED_ALL], again.cpu_us);
      add(&measured[SIDE_VECTOR], (double)again.plan.vector_ns / 1e3);
      add(&measured[SIDE_LEXICAL], (double)again.plan.lexical_ns / 1e3);
      plan = again.plan;
      rag_buf_free(&json);
      rag_arena_reset(arena);
    }
    printf("    {\"filter\": \"%s\", \"documents_matched\": %" PRIu64 ", \"verified\": %" PRIu64
           ", \"vectors_scored\": %" PRIu64,
           conditions[i].name, plan.documents_matched, plan.filter_verified, plan.vector.candidates);
    for (int m = 0; m < MEASURES; m++)
      printf(", \"%s\": {\"best\": %.1f, \"p50\": %.1f, \"p90\": %.1f}", names[m], quantile(&measured[m], 0),
             quantile(&measured[m], .5), quantile(&measured[m], .9));
    printf("}%s\n", i + 1 < RAG_COUNT_OF(conditions) ? "," : "");
  }
  printf("  ],\n");
  rag_arena_destroy(arena);
}

// ---------------------------------------------------------------------------------------------- commits

// A new document of about 1 KB out of stored texts, so that its words are as frequent as theirs.
static void add_document(rag_kb *kb, uint32_t revisions, uint32_t number, rag_arena *arena, rag_document_input *out) {
  rag_buf text = {0};
  char id[32], metadata[96];
  rag_buf_printf(&text, "Edition %u.", number);
  while (text.size < 1024) {
    rag_document document;
    MUST(rag_kb_revision_get(kb, 1 + bench_random(revisions), &document, err));
    size_t size = RAG_MIN(document.text.size, 1024 - text.size);
    while (size < document.text.size && size > 0 && ((unsigned char)document.text.data[size] & 0xC0) == 0x80) size--;
    rag_buf_append(&text, "\n", 1);
    rag_buf_append(&text, document.text.data, size);
    rag_document_free(&document);
  }
  int id_size = snprintf(id, sizeof id, "new-%u", number);
  int metadata_size = snprintf(metadata, sizeof metadata, "{\"section\":\"section-%u\",\"views\":%u,\"public\":%s}",
                               bench_random(100), bench_random(1000000), number % 2 ? "true" : "false");
  char *kept = rag_arena_alloc(arena, text.size + (size_t)(id_size + metadata_size));
  if (kept == NULL) DIE("out of memory");
  memcpy(kept, text.data, text.size);
  memcpy(kept + text.size, id, (size_t)id_size);
  memcpy(kept + text.size + id_size, metadata, (size_t)metadata_size);
  *out = (rag_document_input){.text = rag_slice_of(kept, text.size),
                              .id = rag_slice_of(kept + text.size, (size_t)id_size),
                              .metadata = rag_slice_of(kept + text.size + id_size, (size_t)metadata_size)};
  rag_buf_free(&text);
}

static void measure_commits(session *s, char **queries, uint32_t query_count, uint32_t revisions, uint32_t size,
                            uint32_t commits, uint32_t *number) {
  static samples total, total_cpu, parts[PARTS], rest, write, first_words, next_words;
  samples *all[] = {&total, &total_cpu, &rest, &write, &first_words, &next_words};
  double ns = 0;
  rag_arena *arena = rag_arena_create(0);
  rag_document_input *documents = calloc(size, sizeof *documents);
  if (arena == NULL || documents == NULL) DIE("out of memory");
  for (size_t a = 0; a < RAG_COUNT_OF(all); a++) all[a]->count = 0;
  for (int p = 0; p < PARTS; p++) parts[p].count = 0;
  for (uint32_t commit = 0; commit < commits; commit++) {
    rag_arena_reset(arena);
    for (uint32_t i = 0; i < size; i++) add_document(s->kb, revisions, (*number)++, arena, &documents[i]);
    memset(part_ns, 0, sizeof part_ns);
    memset(part_cpu_ns, 0, sizeof part_cpu_ns);
    put_time took = put(s->kb, documents, size);
    double left = took.cpu_ns;
    for (int p = 0; p < PARTS; p++) {
      add(&parts[p], (double)part_cpu_ns[p] / 1e3);
      left -= (double)part_cpu_ns[p];
    }
    ns += took.ns;
    add(&total, took.ns / 1e3);
    add(&total_cpu, took.cpu_ns / 1e3);
    add(&write, (double)part_ns[WRITE_AND_SYNC] / 1e3);
    add(&rest, left / 1e3);
    const char *query = queries[commit % query_count];
    add(&first_words, ask(s->kb, RAG_SEARCH_LEXICAL, query, 10, NULL).cpu_us);
    add(&next_words, ask(s->kb, RAG_SEARCH_LEXICAL, query, 10, NULL).cpu_us);
  }
  printf("    {\"documents_a_commit\": %u, \"commits\": %u, \"documents_per_second\": %.0f, \"p50_us\": %.1f, "
         "\"p99_us\": %.1f, \"cpu_p50_us\": %.1f, \"write_and_sync_wall_p50_us\": %.1f,\n     \"parts_cpu_p50_us\": {",
         size, commits, (double)size * commits / (ns / 1e9), quantile(&total, .5), quantile(&total, .99),
         quantile(&total_cpu, .5), quantile(&write, .5));
  for (int p = 0; p < PARTS; p++) printf("\"%s\": %.1f, ", part_names[p], quantile(&parts[p], .5));
  printf("\"rest\": %.1f},\n     \"lexical_search_after_cpu_p50_us\": %.1f, \"the_same_again_cpu_p50_us\": %.1f}",
         quantile(&rest, .5), quantile(&first_words, .5), quantile(&next_words, .5));
  rag_arena_destroy(arena);
  free(documents);
}

// ---------------------------------------------------------------------------------------------- all of it

static void measure(const char *dir, int argc, char **argv) {
  uint32_t query_count = 101, rounds = 3, hybrid = 1, filters = 0, commits = 201, large_commits = 20;
  for (int i = 0; i + 1 < argc; i += 2) {
    uint32_t v = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    if (strcmp(argv[i], "--queries") == 0) query_count = v;
    else if (strcmp(argv[i], "--rounds") == 0) rounds = v;
    else if (strcmp(argv[i], "--hybrid") == 0) hybrid = v;
    else if (strcmp(argv[i], "--filters") == 0) filters = v;
    else if (strcmp(argv[i], "--commits") == 0) commits = v;
    else if (strcmp(argv[i], "--large-commits") == 0) large_commits = v;
    else DIE("unknown option %s", argv[i]);
  }
  if (query_count == 0 || rounds == 0 || (uint64_t)query_count * rounds > SAMPLES_MAX || commits > SAMPLES_MAX)
    DIE("1 to %u samples", SAMPLES_MAX);
  session s = {0};
  printf("{\n  ");
  print_load("before");
  printf(",\n");
  measure_open(&s, dir);
  rag_kb_info info;
  MUST(rag_kb_describe(s.kb, &info, err));
  uint32_t revisions = (uint32_t)info.revisions, number = revisions; // of new documents: another one in each run
  printf("  \"documents\": %" PRIu64 ", \"chunks\": %" PRIu64 ", \"model\": \"%s\",\n", info.documents, info.chunks,
         info.config.model);
  rag_kb_info_free(&info);
  char **queries = calloc(query_count, sizeof *queries);
  if (queries == NULL) DIE("out of memory");
  for (uint32_t i = 0; i < query_count; i++) queries[i] = make_query(s.kb, revisions, 2 + i % 7);
  if (hybrid) measure_hybrid(s.kb, queries, query_count, rounds);
  if (filters) measure_filters(s.kb, queries, RAG_MIN(query_count, 51));
  printf("  \"commits\": [\n");
  if (commits > 0) measure_commits(&s, queries, query_count, revisions, 10, commits, &number);
  if (commits > 0 && large_commits > 0) printf(",\n");
  if (large_commits > 0) measure_commits(&s, queries, query_count, revisions, LARGE_COMMIT, large_commits, &number);
  printf("\n  ],\n  ");
  print_load("after");
  printf("\n}\n");
  session_close(&s);
}

int main(int argc, char **argv) {
  rag_log_setup(2, RAG_LOG_WARN, RAG_LOG_TEXT);
  if (argc == 5 && strcmp(argv[1], "load") == 0) load(argv[2], argv[3], argv[4]);
  else if (argc >= 3 && strcmp(argv[1], "measure") == 0) measure(argv[2], argc - 3, argv + 3);
  else DIE("usage: %s load DIR MODEL FILE|COUNT | measure DIR [option value]...", argv[0]);
  return 0;
}
