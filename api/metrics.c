// Numbers: request counters and latency histograms by route, the server's gauges, and all of it with the store's, the
// knowledge bases' and the process's numbers as Prometheus text (exposition format 0.0.4).
//
// Invariants
//  1. A slot of `routes`, once its `route` is set, keeps it for the life of the process; routes are static strings.
//  2. Two slots may hold equal texts at different addresses (a literal in two files): they are added up in the text.
//  3. A histogram's _count is the sum of its buckets as they were read, so that one scrape is consistent with itself.
//
// Threads: everything is atomic and relaxed; each number is a fact of its own, and a scrape is not a snapshot. A request
// costs one look-up by address and three additions.
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "api/api_internal.h"

#define METRICS_ROUTES_MAX 256u // slots, a power of two; a route that finds none is counted as "other"
#define METRICS_PROBES_MAX 32u

// Seconds. From a look-up on the network thread (tens of microseconds) to a large import.
static const double bucket_bounds[] = {0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                       0.05,    0.1,    0.25,    0.5,    1,     2.5,    5,     10,   30};
#define METRICS_BUCKETS (RAG_COUNT_OF(bucket_bounds) + 1)
static const int statuses[] = {200, 204, 400, 401, 403, 404, 405, 408, 409, 413,
                               414, 429, 431, 499, 500, 501, 503, 504, 0}; // 0: any other
#define METRICS_STATUSES RAG_COUNT_OF(statuses)

typedef struct route_numbers {
  _Atomic(const char *) route;
  _Atomic uint64_t by_status[METRICS_STATUSES];
  _Atomic uint64_t buckets[METRICS_BUCKETS];
  _Atomic uint64_t sum_ns;
} route_numbers;

static route_numbers routes[METRICS_ROUTES_MAX];
static route_numbers other = {.route = "other"};
rag_api__server_gauges rag_api__server;

static uint64_t load(const _Atomic uint64_t *value) {
  return atomic_load_explicit(value, memory_order_relaxed);
}

static void add(_Atomic uint64_t *value, uint64_t n) {
  atomic_fetch_add_explicit(value, n, memory_order_relaxed);
}

static route_numbers *slot_of(const char *route) {
  uint64_t hash = (uint64_t)(uintptr_t)route * UINT64_C(0x9E3779B97F4A7C15);
  for (unsigned i = 0; i < METRICS_PROBES_MAX; i++) {
    route_numbers *slot = &routes[((hash >> 32) + i) % METRICS_ROUTES_MAX];
    const char *there = atomic_load_explicit(&slot->route, memory_order_relaxed);
    if (there == route) return slot;
    if (there) continue;
    if (atomic_compare_exchange_strong_explicit(&slot->route, &there, route, memory_order_relaxed,
                                                memory_order_relaxed))
      return slot;
    if (there == route) return slot; // another thread came first with the same one
  }
  return &other;
}

static unsigned status_index(int http_status) {
  unsigned i = 0;
  while (statuses[i] != 0 && statuses[i] != http_status) i++;
  return i;
}

static unsigned bucket_index(uint64_t duration_ns) {
  double seconds = (double)duration_ns * 1e-9;
  unsigned i = 0;
  while (i < RAG_COUNT_OF(bucket_bounds) && seconds > bucket_bounds[i]) i++;
  return i;
}

void rag_api__metrics_observe(const char *route, int http_status, uint64_t duration_ns) {
  route_numbers *slot = route ? slot_of(route) : &other;
  add(&slot->by_status[status_index(http_status)], 1);
  add(&slot->buckets[bucket_index(duration_ns)], 1);
  add(&slot->sum_ns, duration_ns);
}

// ---------------------------------------------------------------------------------------------- text

static void family(rag_buf *out, const char *name, const char *type, const char *help) {
  rag_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void number(rag_buf *out, const char *name, const char *type, const char *help, uint64_t value) {
  family(out, name, type, help);
  rag_buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void decimal(rag_buf *out, const char *name, const char *type, const char *help, double value) {
  family(out, name, type, help);
  rag_buf_printf(out, "%s %.9g\n", name, value);
}

// A label's value: backslash, quote and newline are escaped, as the format asks.
static void label(rag_buf *out, const char *name, const char *value) {
  rag_buf_printf(out, "%s=\"", name);
  for (const char *p = value; *p; p++) {
    if (*p == '\\' || *p == '"') rag_buf_append_char(out, '\\');
    if (*p == '\n') rag_buf_append_str(out, "\\n");
    else rag_buf_append_char(out, *p);
  }
  rag_buf_append_char(out, '"');
}

// The numbers of one route, equal texts added up; plain, as they are a copy.
typedef struct route_copy {
  const char *route;
  uint64_t by_status[METRICS_STATUSES];
  uint64_t buckets[METRICS_BUCKETS];
  uint64_t sum_ns;
} route_copy;

static void copy_slot(const route_numbers *slot, route_copy *copies, size_t *count) {
  const char *route = atomic_load_explicit(&slot->route, memory_order_relaxed);
  if (!route) return;
  size_t at = 0;
  while (at < *count && strcmp(copies[at].route, route) != 0) at++;
  if (at == *count) copies[(*count)++] = (route_copy){.route = route};
  route_copy *copy = &copies[at];
  for (size_t i = 0; i < METRICS_STATUSES; i++) copy->by_status[i] += load(&slot->by_status[i]);
  for (size_t i = 0; i < METRICS_BUCKETS; i++) copy->buckets[i] += load(&slot->buckets[i]);
  copy->sum_ns += load(&slot->sum_ns);
}

static int by_route(const void *a, const void *b) {
  return strcmp(((const route_copy *)a)->route, ((const route_copy *)b)->route);
}

static void status_lines(rag_buf *out, const route_copy *copies, size_t count) {
  family(out, "ragd_http_requests_total", "counter", "Requests answered, by route and HTTP status.");
  for (size_t r = 0; r < count; r++)
    for (size_t s = 0; s < METRICS_STATUSES; s++) {
      if (copies[r].by_status[s] == 0) continue;
      char code[16] = "other";
      if (statuses[s] != 0) snprintf(code, sizeof(code), "%d", statuses[s]);
      rag_buf_append_str(out, "ragd_http_requests_total{");
      label(out, "route", copies[r].route);
      rag_buf_printf(out, ",code=\"%s\"} %" PRIu64 "\n", code, copies[r].by_status[s]);
    }
}

static void histogram_lines(rag_buf *out, const route_copy *copy) {
  const char *name = "ragd_http_request_duration_seconds";
  uint64_t total = 0;
  for (size_t b = 0; b < METRICS_BUCKETS; b++) {
    total += copy->buckets[b];
    char bound[32] = "+Inf";
    if (b < RAG_COUNT_OF(bucket_bounds)) snprintf(bound, sizeof(bound), "%g", bucket_bounds[b]);
    rag_buf_printf(out, "%s_bucket{", name);
    label(out, "route", copy->route);
    rag_buf_printf(out, ",le=\"%s\"} %" PRIu64 "\n", bound, total);
  }
  rag_buf_printf(out, "%s_sum{", name);
  label(out, "route", copy->route);
  rag_buf_printf(out, "} %.9g\n%s_count{", (double)copy->sum_ns * 1e-9, name);
  label(out, "route", copy->route);
  rag_buf_printf(out, "} %" PRIu64 "\n", total);
}

static rag_status route_text(rag_buf *out, rag_error *err) {
  route_copy *copies = rag_calloc(METRICS_ROUTES_MAX + 1, sizeof(*copies));
  if (!copies) return rag_fail_no_memory(err, (METRICS_ROUTES_MAX + 1) * sizeof(*copies));
  size_t count = 0;
  for (size_t i = 0; i < METRICS_ROUTES_MAX; i++) copy_slot(&routes[i], copies, &count);
  copy_slot(&other, copies, &count);
  qsort(copies, count, sizeof(*copies), by_route);
  status_lines(out, copies, count);
  family(out, "ragd_http_request_duration_seconds", "histogram",
         "From the request line to the last byte of the answer, by route.");
  for (size_t i = 0; i < count; i++) histogram_lines(out, &copies[i]);
  rag_free(copies);
  return RAG_OK;
}

static void server_text(rag_buf *out) {
  number(out, "ragd_http_connections", "gauge", "Open connections.", load(&rag_api__server.connections));
  number(out, "ragd_http_requests_in_flight", "gauge", "Requests begun and not yet answered.",
         load(&rag_api__server.requests_in_flight));
  number(out, "ragd_http_pool_queued", "gauge", "Requests waiting for a worker.", load(&rag_api__server.pool_queued));
  number(out, "ragd_http_rejected_overload_total", "counter",
         "Requests and connections turned away because a limit was reached.", load(&rag_api__server.rejected_overload));
  number(out, "ragd_http_rejected_wait_total", "counter", "Of these, requests that had waited too long for their turn.",
         load(&rag_api__server.rejected_wait));
  number(out, "ragd_http_rejected_peer_total", "counter", "Of these, connections over one address's share.",
         load(&rag_api__server.rejected_peer));
  number(out, "ragd_key_limited_total", "counter", "Requests refused by the rate or the quota of their API key.",
         load(&rag_api__server.rejected_limit));
  number(out, "ragd_audit_failing", "gauge",
         "1 while the audit log cannot be written; writes are refused once its queue is full.",
         load(&rag_api__server.audit_failing));
  number(out, "ragd_http_received_bytes_total", "counter", "Bytes of request bodies.", load(&rag_api__server.bytes_in));
  number(out, "ragd_http_sent_bytes_total", "counter", "Bytes of answers' bodies.", load(&rag_api__server.bytes_out));
}

static void column_family_lines(rag_buf *out, const char *name, const char *help, const uint64_t *values) {
  family(out, name, "gauge", help);
  for (int cf = 0; cf < RAG_CF_COUNT; cf++) {
    rag_buf_printf(out, "%s{", name);
    label(out, "column_family", rag_cf_name((rag_cf)cf));
    rag_buf_printf(out, "} %" PRIu64 "\n", values[cf]);
  }
}

static void store_text(rag_api *api, rag_buf *out) {
  rag_store_stats stats = {0};
  rag_store_stats_get(api->store, &stats);
  number(out, "ragd_store_writable", "gauge", "1, or 0 once writes are refused after an I/O error.",
         rag_store_writable(api->store, NULL) == RAG_OK ? 1 : 0);
  number(out, "ragd_store_commits_total", "counter", "Commits since the store was opened.", stats.commits);
  number(out, "ragd_store_commit_groups_total", "counter",
         "Batches that commits were written in; commits / groups is the mean size of a group.", stats.groups);
  number(out, "ragd_store_syncs_total", "counter", "Synced writes of the write-ahead log.", stats.syncs);
  number(out, "ragd_store_written_bytes_total", "counter", "Bytes given to the write-ahead log.", stats.bytes_written);
  number(out, "ragd_store_sst_bytes", "gauge", "Bytes of table files.", stats.sst_bytes);
  number(out, "ragd_store_blob_bytes", "gauge", "Bytes of blob files.", stats.blob_bytes);
  number(out, "ragd_store_wal_bytes", "gauge", "Bytes of the write-ahead log.", stats.wal_bytes);
  number(out, "ragd_store_disk_low", "gauge", "1 while writes are refused because the disk is nearly full.",
         stats.disk_low);
  number(out, "ragd_store_memtable_bytes", "gauge", "Bytes of memtables.", stats.memtable_bytes);
  number(out, "ragd_store_cache_bytes", "gauge", "Bytes in the block cache.", stats.cache_bytes);
  column_family_lines(out, "ragd_store_keys", "Estimated keys, by column family.", stats.estimated_keys);
  column_family_lines(out, "ragd_store_live_bytes", "Estimated bytes of live data, by column family.",
                      stats.live_bytes);
}

static void kbs_text(rag_api *api, rag_buf *out) {
  rag_kbs_stats stats = {0};
  rag_kbs_stats_get(api->kbs, &stats);
  number(out, "ragd_kbs", "gauge", "Knowledge bases.", stats.kbs);
  number(out, "ragd_kb_vector_bytes", "gauge", "Bytes of vectors in memory.", stats.vector_bytes);
  number(out, "ragd_kb_word_bytes", "gauge", "Bytes of the lexical indexes in memory.", stats.word_bytes);
  number(out, "ragd_kb_field_bytes", "gauge", "Bytes of the field indexes in memory.", stats.field_bytes);
  number(out, "ragd_kb_filter_cache_bytes", "gauge", "Bytes of the filter cache: documents that pass, by commit.",
         stats.filter_cache_bytes);
  number(out, "ragd_kb_table_bytes", "gauge", "Bytes of chunk and revision tables in memory.", stats.table_bytes);
  number(out, "ragd_kb_object_cache_bytes", "gauge", "Bytes of decoded documents in memory.", stats.object_cache_bytes);
  number(out, "ragd_kb_object_cache_hits_total", "counter", "Documents found decoded.", stats.object_cache_hits);
  number(out, "ragd_kb_object_cache_misses_total", "counter", "Documents read and decoded.", stats.object_cache_misses);
  number(out, "ragd_kb_embed_cache_hits_total", "counter", "Chunks whose vector was already there.",
         stats.embed_cache_hits);
  number(out, "ragd_kb_embed_cache_misses_total", "counter", "Chunks that had to be embedded.",
         stats.embed_cache_misses);
  number(out, "ragd_kb_versions_cached", "gauge", "Versions whose live sets are in memory.", stats.versions_cached);
}

// ---------------------------------------------------------------------------------------------- the process

static uint64_t resident_bytes(void) {
  char line[128] = "";
  FILE *file = fopen("/proc/self/statm", "re");
  if (!file) return 0;
  uint64_t pages = 0;
  if (!fgets(line, sizeof(line), file) || sscanf(line, "%*u %" SCNu64, &pages) != 1) pages = 0;
  fclose(file);
  return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t open_files(void) {
  DIR *dir = opendir("/proc/self/fd");
  if (!dir) return 0;
  uint64_t count = 0;
  while (readdir(dir)) count++;
  closedir(dir);
  return count > 3 ? count - 3 : 0; // ".", ".." and this directory's own
}

static void process_text(rag_api *api, rag_buf *out) {
  struct rusage usage = {0};
  getrusage(RUSAGE_SELF, &usage);
  double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  struct rlimit files = {0};
  getrlimit(RLIMIT_NOFILE, &files);
  double uptime = (double)(rag_clock_monotonic_ns() - api->started_ns) * 1e-9;
  decimal(out, "process_cpu_seconds_total", "counter", "CPU time of the process.", cpu);
  number(out, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
  rag_heap_stats heap;
  rag_heap_stats_get(&heap);
  number(out, "ragd_heap_used_bytes", "gauge", "Heap memory in use, by libraries too.", heap.used_bytes);
  number(out, "ragd_heap_free_bytes", "gauge", "Heap memory that is free and held for what comes next.",
         heap.free_bytes);
  number(out, "process_open_fds", "gauge", "Open file descriptors.", open_files());
  number(out, "process_max_fds", "gauge", "Limit of open file descriptors.", (uint64_t)files.rlim_cur);
  decimal(out, "ragd_uptime_seconds", "gauge", "Since the data directory was opened.", uptime);
  family(out, "ragd_build_info", "gauge", "Always 1; the version is the label.");
  rag_buf_append_str(out, "ragd_build_info{");
  label(out, "version", RAGD_VERSION);
  rag_buf_append_str(out, "} 1\n");
}

rag_status rag_api__metrics_text(rag_api *api, rag_buf *out, rag_error *err) {
  RAG_TRY(route_text(out, err));
  server_text(out);
  store_text(api, out);
  kbs_text(api, out);
  number(out, "ragd_ready", "gauge", "1 while /readyz says yes.",
         atomic_load_explicit(&api->draining, memory_order_relaxed) ? 0 : 1);
  process_text(api, out);
  return rag_buf_check(out, err);
}
