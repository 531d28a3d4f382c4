// Question: does the cost of versioning follow the change, not the knowledge base? (README.md beside this file)
//
// Usage: bench_versions DIR [--large N] [--small N] [--commits N] > results/NAME.json
//   DIR is made and removed. Two knowledge bases, of --small (1,000) and --large (1,000,000) generated documents of about
//   60 words, embedded with hash-384, live in one store. Operations on the two are interleaved, so that noise of the
//   machine meets both; medians are printed.
//
// Measured on each: a synced commit of 10 changed documents; a branch; a tag; a rollback; a diff of 10 documents (the
// version chain head~1..head); a diff of 1,000 documents; a search at the head and at a version --commits commits old.
// Then bytes per document and per chunk beyond text and vector, from the store's own estimate after a flush.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "kb/kb.h"

#define REPEATS 201
#define DIE(...)                                                                                                       \
  do {                                                                                                                 \
    fprintf(stderr, __VA_ARGS__);                                                                                      \
    fputc('\n', stderr);                                                                                               \
    exit(1);                                                                                                           \
  } while (0)
#define MUST(expr)                                                                                                     \
  do {                                                                                                                 \
    rag_error must_err = {0};                                                                                          \
    rag_error *err = &must_err;                                                                                        \
    if ((expr) != RAG_OK) DIE("%s:%d: %s: %s", __FILE__, __LINE__, #expr, err->message);                               \
  } while (0)

static const char *const words[] = {
    "index",   "vector",  "commit", "branch",  "search",  "latency", "document", "retrieval", "memory", "durable",
    "server",  "query",   "model",  "feature", "version", "merge",   "filter",   "token",     "chunk",  "storage",
    "network", "station", "river",  "garden",  "engine",  "market",  "policy",   "weather",   "camera", "signal",
    "theory",  "window",  "letter", "bridge",  "forest",  "winter",  "summer",   "planet",    "orange", "silver"};

static uint64_t random_state = 42;
static uint32_t next_random(void) {
  random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)(random_state >> 33);
}

static size_t make_text(uint32_t id, uint32_t edition, char *out, size_t capacity) {
  random_state = ((uint64_t)id << 20 | edition) * UINT64_C(0x9E3779B97F4A7C15) + 1;
  size_t size = (size_t)snprintf(out, capacity, "Document %u, edition %u.", id, edition);
  for (int i = 0; i < 56; i++) {
    const char *word = words[next_random() % RAG_COUNT_OF(words)];
    size += (size_t)snprintf(out + size, capacity - size, " %s%s", word, i % 14 == 13 ? "." : "");
  }
  return size;
}

typedef struct batch {
  rag_document_input *documents;
  char *ids, *texts;
  uint32_t capacity;
} batch;
#define ID_BYTES 16
#define TEXT_BYTES 700

static void batch_init(batch *b, uint32_t capacity) {
  b->capacity = capacity;
  b->documents = calloc(capacity, sizeof *b->documents);
  b->ids = calloc(capacity, ID_BYTES);
  b->texts = calloc(capacity, TEXT_BYTES);
  if (b->documents == NULL || b->ids == NULL || b->texts == NULL) DIE("out of memory");
}

static uint64_t text_bytes;

static uint64_t put(rag_kb *kb, batch *b, uint32_t first, uint32_t stride, uint32_t count, uint32_t edition) {
  for (uint32_t i = 0; i < count; i++) {
    char *id = b->ids + i * ID_BYTES, *text = b->texts + (size_t)i * TEXT_BYTES;
    snprintf(id, ID_BYTES, "d%u", first + i * stride);
    size_t size = make_text(first + i * stride, edition, text, TEXT_BYTES);
    text_bytes += size;
    b->documents[i] = (rag_document_input){.id = rag_slice_str(id), .text = rag_slice_of(text, size)};
  }
  rag_put request = {.documents = b->documents, .document_count = count};
  rag_write write = {.message = rag_slice_str("benchmark")};
  rag_write_result result;
  uint64_t start = rag_clock_monotonic_ns();
  MUST(rag_kb_put(kb, &write, &request, &result, NULL, err));
  return rag_clock_monotonic_ns() - start;
}

static int compare_u64(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

typedef struct samples {
  uint64_t ns[REPEATS];
  size_t count;
} samples;

static double median_us(samples *s) {
  qsort(s->ns, s->count, sizeof s->ns[0], compare_u64);
  return (double)s->ns[s->count / 2] / 1000.0;
}

static double p90_us(samples *s) {
  qsort(s->ns, s->count, sizeof s->ns[0], compare_u64);
  return (double)s->ns[s->count * 9 / 10] / 1000.0;
}

static void add(samples *s, uint64_t ns) {
  if (s->count < REPEATS) s->ns[s->count++] = ns;
}

static uint64_t time_search(rag_kb *kb, const char *at) {
  rag_search search = {.mode = RAG_SEARCH_VECTOR, .query = rag_slice_str("durable vector search engine"),
                       .k = 10,
                       .at = rag_slice_str(at),
                       .want_text = true,
                       .want_metadata = true};
  rag_search_result result;
  uint64_t start = rag_clock_monotonic_ns();
  MUST(rag_kb_search(kb, &search, &result, err));
  uint64_t ns = rag_clock_monotonic_ns() - start;
  if (result.count != 10) DIE("search found %u", result.count);
  rag_search_result_free(&result);
  return ns;
}

static uint64_t time_diff(rag_kb *kb, const char *from, const char *to, size_t expected) {
  rag_diff diff;
  uint64_t start = rag_clock_monotonic_ns();
  MUST(rag_kb_diff(kb, rag_slice_str(from), rag_slice_str(to), &diff, err));
  uint64_t ns = rag_clock_monotonic_ns() - start;
  if (diff.count != expected) DIE("diff found %zu, not %zu", diff.count, expected);
  rag_diff_free(&diff);
  return ns;
}

enum { COMMIT, BRANCH, TAG, ROLLBACK, DIFF_10, DIFF_1000, SEARCH_HEAD, SEARCH_OLD, KINDS };
static const char *const kind_names[KINDS] = {"commit_10_documents", "branch",      "tag",       "rollback", "diff_10",
                                              "diff_1000",           "search_head", "search_old"};

typedef struct subject {
  rag_kb *kb;
  uint32_t documents, edition;
  char old[16], before_1000[16], after_1000[16];
  samples samples[KINDS];
  double load_seconds;
} subject;

static void head_of(rag_kb *kb, char out[16]) {
  rag_kb_info info;
  MUST(rag_kb_describe(kb, &info, err));
  memcpy(out, info.head, 16);
  rag_kb_info_free(&info);
}

static void measure_once(subject *s, batch *b, int round) {
  char name[32], from[16];
  rag_write write = {0};
  rag_ref_info ref;
  rag_write_result result;
  uint32_t stride = s->documents / 10; // ten documents spread over the whole kb
  s->edition++;
  add(&s->samples[COMMIT], put(s->kb, b, (uint32_t)round % stride, stride, 10, s->edition));
  head_of(s->kb, from);
  char parent[sizeof from + 2];
  snprintf(parent, sizeof parent, "%s~1", from);
  add(&s->samples[DIFF_10], time_diff(s->kb, parent, from, 10));
  add(&s->samples[DIFF_1000],
      time_diff(s->kb, s->before_1000, s->after_1000, s->documents < 1000 ? s->documents : 1000));
  snprintf(name, sizeof name, "b%d", round);
  uint64_t start = rag_clock_monotonic_ns();
  MUST(rag_kb_branch_create(s->kb, &write, rag_slice_str(name), rag_slice_str(s->old), &ref, err));
  add(&s->samples[BRANCH], rag_clock_monotonic_ns() - start);
  snprintf(name, sizeof name, "t%d", round);
  start = rag_clock_monotonic_ns();
  MUST(rag_kb_tag_create(s->kb, &write, rag_slice_str(name), rag_slice_str("main"), &ref, err));
  add(&s->samples[TAG], rag_clock_monotonic_ns() - start);
  snprintf(name, sizeof name, "b%d", round);
  write.branch = rag_slice_str(name); // roll the branch forward to the head: another, distant version
  start = rag_clock_monotonic_ns();
  MUST(rag_kb_rollback(s->kb, &write, rag_slice_str("main"), &result, err));
  add(&s->samples[ROLLBACK], rag_clock_monotonic_ns() - start);
  if (!result.committed) DIE("rollback made no commit");
  MUST(rag_kb_branch_delete(s->kb, rag_slice_str(name), err));
  if (round % 4 != 0 && s->documents > 100000) return; // exact scans of a large kb are slow: fewer repeats
  add(&s->samples[SEARCH_HEAD], time_search(s->kb, "main"));
  add(&s->samples[SEARCH_OLD], time_search(s->kb, s->old));
}

static void prepare(rag_kbs *kbs, subject *s, const char *name, uint32_t documents, uint32_t commits, batch *b) {
  rag_kb_config config;
  rag_write write = {0};
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "%s", name);
  MUST(rag_kbs_create(kbs, &config, &write, &s->kb, err));
  s->documents = documents;
  uint64_t start = rag_clock_monotonic_ns();
  for (uint32_t at = 0; at < documents; at += b->capacity)
    put(s->kb, b, at, 1, documents - at < b->capacity ? documents - at : b->capacity, 0);
  s->load_seconds = (double)(rag_clock_monotonic_ns() - start) / 1e9;
  fprintf(stderr, "%s: %u documents in %.1f s\n", name, documents, s->load_seconds);
  head_of(s->kb, s->before_1000);
  uint32_t thousand = documents < 1000 ? documents : 1000;
  put(s->kb, b, 0, documents / thousand, thousand, 1);
  head_of(s->kb, s->after_1000);
  head_of(s->kb, s->old);
  for (uint32_t i = 0; i < commits; i++) put(s->kb, b, i % documents, 1, 1, 2 + i);
  s->edition = 2 + commits;
  fprintf(stderr, "%s: %u commits on top\n", name, commits);
}

static void print_bytes(rag_store *store, uint64_t chunks, uint64_t documents, uint64_t vector_bytes) {
  rag_store_stats stats;
  uint64_t all = 0;
  MUST(rag_store_flush(store, err));
  rag_store_stats_get(store, &stats);
  printf("  \"store_live_bytes\": {");
  for (int cf = 0; cf < RAG_CF_COUNT; cf++) {
    all += stats.live_bytes[cf];
    printf("%s\"%s\": %" PRIu64, cf ? ", " : "", rag_cf_name((rag_cf)cf), stats.live_bytes[cf]);
  }
  uint64_t documents_bytes = stats.live_bytes[RAG_CF_DOCUMENT] + stats.live_bytes[RAG_CF_REVISION];
  uint64_t chunks_bytes = stats.live_bytes[RAG_CF_CHUNK] + stats.live_bytes[RAG_CF_CACHE];
  printf("},\n  \"written_text_bytes\": %" PRIu64 ", \"vector_bytes\": %" PRIu64 ", \"all_bytes\": %" PRIu64 ",\n",
         text_bytes, vector_bytes, all);
  printf("  \"bytes_per_revision_beyond_text\": %.1f, \"bytes_per_chunk_beyond_text_and_vector\": %.1f,\n",
         (double)documents_bytes / (double)documents, (double)chunks_bytes / (double)chunks);
}

int main(int argc, char **argv) {
  if (argc < 2) DIE("usage: %s DIR [--large N] [--small N] [--commits N]", argv[0]);
  uint32_t large = 1000000, small = 1000, commits = 1000;
  for (int i = 2; i + 1 < argc; i += 2) {
    uint32_t v = (uint32_t)strtoul(argv[i + 1], NULL, 10);
    if (strcmp(argv[i], "--large") == 0) large = v;
    else if (strcmp(argv[i], "--small") == 0) small = v;
    else if (strcmp(argv[i], "--commits") == 0) commits = v;
    else DIE("unknown option %s", argv[i]);
  }
  if (small < 100 || large < small || commits < 1) DIE("sizes: 100 <= small <= large, commits >= 1");
  rag_log_setup(2, RAG_LOG_WARN, RAG_LOG_TEXT);
  rag_store_options store_options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  rag_store *store;
  rag_jobs *jobs;
  rag_kbs *kbs;
  batch b;
  static subject subjects[2];
  batch_init(&b, 1000);
  MUST(rag_os_remove_tree(argv[1], err));
  MUST(rag_store_open(argv[1], &store_options, &store, err));
  MUST(rag_jobs_open(store, 0, &jobs, err));
  MUST(rag_kbs_open(store, jobs, &kbs_options, &kbs, err));
  prepare(kbs, &subjects[0], "small", small, commits, &b);
  prepare(kbs, &subjects[1], "large", large, commits, &b);
  MUST(rag_store_flush(store, err)); // both start from the same state: nothing of the load in a memtable
  for (int round = 0; round < REPEATS; round++)
    for (int i = 0; i < 2; i++) measure_once(&subjects[i], &b, round);

  rag_kb_info info[2];
  uint64_t chunks = 0, revisions = 0;
  for (int i = 0; i < 2; i++) {
    MUST(rag_kb_describe(subjects[i].kb, &info[i], err));
    revisions += info[i].revisions;
  }
  chunks = revisions; // one chunk a document here, and every change is a new content
  printf("{\n  \"small\": %u, \"large\": %u, \"commits\": %u, \"repeats\": %d,\n", small, large, commits, REPEATS);
  printf("  \"load_seconds_large\": %.1f,\n", subjects[1].load_seconds);
  print_bytes(store, chunks, revisions, chunks * 384 * 4);
  printf("  \"median_us\": {\n");
  for (int k = 0; k < KINDS; k++) {
    double a = median_us(&subjects[0].samples[k]), c = median_us(&subjects[1].samples[k]);
    printf(
        "    \"%s\": {\"small\": %.1f, \"large\": %.1f, \"ratio\": %.2f, \"small_p90\": %.1f, \"large_p90\": %.1f}%s\n",
        kind_names[k], a, c, c / a, p90_us(&subjects[0].samples[k]), p90_us(&subjects[1].samples[k]),
        k + 1 < KINDS ? "," : "");
  }
  double head = median_us(&subjects[1].samples[SEARCH_HEAD]), old = median_us(&subjects[1].samples[SEARCH_OLD]);
  printf("  },\n  \"search_old_over_head_large\": %.2f\n}\n", old / head);
  for (int i = 0; i < 2; i++) {
    rag_kb_info_free(&info[i]);
    rag_ref_drop(subjects[i].kb);
  }
  rag_kbs_close(kbs);
  rag_jobs_close(jobs);
  rag_store_close(store);
  MUST(rag_os_remove_tree(argv[1], err));
  free(b.documents);
  free(b.ids);
  free(b.texts);
  return 0;
}
