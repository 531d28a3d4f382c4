// Goal: /metrics is text that Prometheus takes: every sample belongs to a family with HELP and TYPE, names and labels are
// well-formed and escaped, no sample comes twice, histograms are cumulative and add up; and the numbers are right.
// Method: observations from several threads, then a checker that reads the text line by line as `promtool check metrics`
// would. Broken texts prove the checker.
#include "http_testing.h"

#define SAMPLES_MAX 16384

typedef struct checker {
  char family[128]; // of the last TYPE line
  char type[16];
  bool help;
  char *samples[SAMPLES_MAX]; // name{labels}
  size_t count;
  double last_bucket; // of the running histogram, -1: none
  bool infinite;
} checker;

static bool name_valid(const char *s, size_t size) {
  for (size_t i = 0; i < size; i++) {
    bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_' || s[i] == ':';
    if (!letter && (i == 0 || s[i] < '0' || s[i] > '9')) return false;
  }
  return size > 0;
}

// Past `{a="b",...}`, or NULL.
static const char *labels_end(const char *at) {
  for (at++; *at != '}';) {
    size_t size = strcspn(at, "=");
    if (!name_valid(at, size) || at[size] != '=' || at[size + 1] != '"') return NULL;
    for (at += size + 2; *at != '"'; at++) {
      if (*at == '\0' || *at == '\n') return NULL;
      if (*at == '\\' && !strchr("\\\"n", *++at)) return NULL;
    }
    at++;
    if (*at == ',') at++;
    else if (*at != '}') return NULL;
  }
  return at + 1;
}

static const char *check_comment(checker *c, const char *line) {
  char keyword[8], name[128], rest[256];
  if (sscanf(line, "# %7s %127s %255[^\n]", keyword, name, rest) != 3) return "a comment that is no HELP or TYPE line";
  if (!name_valid(name, strlen(name))) return "a family's name";
  if (strcmp(keyword, "HELP") == 0) {
    snprintf(c->family, sizeof(c->family), "%s", name);
    c->help = true;
    c->type[0] = '\0';
    return NULL;
  }
  if (strcmp(keyword, "TYPE") != 0 || !c->help || strcmp(name, c->family) != 0) return "TYPE without HELP";
  if (strcmp(rest, "counter") != 0 && strcmp(rest, "gauge") != 0 && strcmp(rest, "histogram") != 0) return "a type";
  snprintf(c->type, sizeof(c->type), "%.15s", rest);
  return NULL;
}

static const char *check_histogram(checker *c, const char *suffix, const char *sample, double value) {
  if (strcmp(suffix, "_bucket") == 0) {
    if (!strstr(sample, "le=\"")) return "a bucket without le";
    if (value < c->last_bucket) return "buckets that fall";
    c->last_bucket = value;
    c->infinite = strstr(sample, "le=\"+Inf\"") != NULL;
    return NULL;
  }
  if (strcmp(suffix, "_sum") == 0) return c->infinite ? NULL : "a histogram without +Inf";
  if (strcmp(suffix, "_count") != 0) return "a histogram's sample";
  if (value != c->last_bucket) return "a count that is not the last bucket";
  c->last_bucket = -1;
  c->infinite = false;
  return NULL;
}

static const char *check_sample(checker *c, const char *line) {
  size_t name_size = strcspn(line, "{ ");
  size_t family_size = strlen(c->family);
  if (!name_valid(line, name_size) || c->type[0] == '\0') return "a sample without a family";
  const char *at = line + name_size;
  if (*at == '{' && !(at = labels_end(at))) return "labels";
  char *end = NULL;
  double value = strtod(at + 1, &end);
  if (*at != ' ' || end == at + 1 || *end != '\0') return "a value";
  if (strncmp(line, c->family, family_size) != 0 || name_size < family_size) return "a sample of another family";
  char suffix[64], sample[1024];
  snprintf(suffix, sizeof(suffix), "%.*s", (int)(name_size - family_size), line + family_size);
  snprintf(sample, sizeof(sample), "%.*s", (int)(at - line), line);
  for (size_t i = 0; i < c->count; i++)
    if (strcmp(c->samples[i], sample) == 0) return "a sample that comes twice";
  assert_true(c->count < SAMPLES_MAX);
  c->samples[c->count++] = strdup(sample);
  if (strcmp(c->type, "histogram") == 0) return check_histogram(c, suffix, sample, value);
  if (suffix[0] != '\0') return "a sample of another family";
  if (value < 0) return "a negative number";
  bool total = family_size > 6 && strcmp(c->family + family_size - 6, "_total") == 0;
  return total == (strcmp(c->type, "counter") == 0) ? NULL : "a counter not named _total, or a gauge that is";
}

// NULL, or what is wrong.
static const char *check_text(const char *text) {
  checker *c = calloc(1, sizeof(*c));
  const char *wrong = NULL;
  c->last_bucket = -1;
  while (*text && !wrong) {
    char line[2048];
    size_t size = strcspn(text, "\n");
    snprintf(line, sizeof(line), "%.*s", (int)size, text);
    if (text[size] != '\n') wrong = "no newline at the end";
    else wrong = line[0] == '#' ? check_comment(c, line) : check_sample(c, line);
    if (wrong && strcmp(wrong, "no newline at the end") != 0) print_message("%s: %s\n", wrong, line);
    text += size + (text[size] == '\n');
  }
  for (size_t i = 0; i < c->count; i++) free(c->samples[i]);
  free(c);
  return wrong;
}

static char *scrape(void) {
  rag_api api = {.started_ns = rag_clock_monotonic_ns()};
  rag_buf out = {0};
  rag_error err = {0};
  assert_int_equal(rag_api__metrics_text(&api, &out, &err), RAG_OK);
  rag_buf_append_char(&out, '\0');
  assert_false(out.failed);
  return out.data;
}

static void checker_finds_what_is_broken(void **state) {
  RAG_UNUSED(state);
#define FAMILY(type) "# HELP a_total b\n# TYPE a_total " type "\n"
  assert_null(check_text(FAMILY("counter") "a_total 1\na_total{x=\"\\\"\\\\\\n\"} 2\n"));
  assert_non_null(check_text(FAMILY("counter") "a_total 1"));
  assert_non_null(check_text("a_total 1\n"));
  assert_non_null(check_text(FAMILY("counter") "b_total 1\n"));
  assert_non_null(check_text(FAMILY("counter") "a_total 1\na_total 1\n"));
  assert_non_null(check_text(FAMILY("counter") "a_total one\n"));
  assert_non_null(check_text(FAMILY("counter") "a_total{x=\"a\"b\"} 1\n"));
  assert_non_null(check_text(FAMILY("counter") "a_total{1x=\"\"} 1\n"));
  assert_non_null(check_text(FAMILY("gauge") "a_total 1\n"));
  assert_non_null(check_text(FAMILY("summer") "a_total 1\n"));
  const char *histogram =
      "# HELP h b\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} %d\nh_sum 1\nh_count %d\n";
  char text[256];
  snprintf(text, sizeof(text), histogram, 3, 3);
  assert_null(check_text(text));
  snprintf(text, sizeof(text), histogram, 1, 1);
  assert_non_null(check_text(text));
  snprintf(text, sizeof(text), histogram, 3, 2);
  assert_non_null(check_text(text));
}

static void *observe(void *arg) {
  const char *route = arg;
  for (int i = 0; i < 10000; i++) rag_api__metrics_observe(route, i % 10 == 0 ? 503 : 200, (uint64_t)i * 1000);
  return NULL;
}

static void counts_from_every_thread(void **state) {
  RAG_UNUSED(state);
  static const char one[] = "Test/Shared", two[] = "Test/Shared"; // equal texts, two addresses
  pthread_t threads[4];
  for (size_t i = 0; i < 4; i++) pthread_create(&threads[i], NULL, observe, (void *)(uintptr_t)(i % 2 ? one : two));
  for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  rag_api__metrics_observe("odd \"route\" with \\ and\nnewline", 299, 1);
  rag_api__metrics_observe(NULL, 200, UINT64_MAX);
  char *text = scrape();
  assert_null(check_text(text));
  assert_non_null(strstr(text, "ragd_http_requests_total{route=\"Test/Shared\",code=\"200\"} 36000\n"));
  assert_non_null(strstr(text, "ragd_http_requests_total{route=\"Test/Shared\",code=\"503\"} 4000\n"));
  assert_non_null(strstr(text, "duration_seconds_count{route=\"Test/Shared\"} 40000\n"));
  // 0 to 1,000 us inclusive, from each of four.
  assert_non_null(strstr(text, "duration_seconds_bucket{route=\"Test/Shared\",le=\"0.001\"} 4004\n"));
  assert_non_null(strstr(text, "{route=\"odd \\\"route\\\" with \\\\ and\\nnewline\",code=\"other\"} 1\n"));
  assert_non_null(strstr(text, "ragd_store_commits_total 7\n"));
  assert_non_null(strstr(text, "ragd_kbs 3\n"));
  assert_non_null(strstr(text, "ragd_ready 1\n"));
  rag_free(text);
}

static void counts_routes_beyond_the_table_as_other(void **state) {
  RAG_UNUSED(state);
  static char names[400][16];
  for (int i = 0; i < 400; i++) {
    snprintf(names[i], sizeof(names[i]), "Test/Many%d", i);
    rag_api__metrics_observe(names[i], 200, 1000);
  }
  char *text = scrape();
  assert_null(check_text(text));
  unsigned long long other = 0, named = 0;
  const char *at = strstr(text, "ragd_http_requests_total{route=\"other\",code=\"200\"} ");
  assert_non_null(at);
  sscanf(at, "ragd_http_requests_total{route=\"other\",code=\"200\"} %llu", &other);
  for (at = text; (at = strstr(at, "ragd_http_requests_total{route=\"Test/Many")) != NULL; at++) named++;
  assert_int_equal(named + other, 400 + 1); // and the one without a route before
  rag_free(text);
}

static void survives_failed_allocations(void **state) {
  RAG_UNUSED(state);
  rag_api api = {0};
  for (uint64_t n = 1;; n++) {
    rag_buf out = {0};
    rag_error err = {0};
    rag_alloc_fail_after(n);
    rag_status status = rag_api__metrics_text(&api, &out, &err);
    bool failed = rag_alloc_has_failed();
    rag_alloc_fail_after(0);
    rag_buf_free(&out);
    if (!failed) break;
    assert_int_equal(status, RAG_RESOURCE_EXHAUSTED);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(checker_finds_what_is_broken),
      cmocka_unit_test(counts_from_every_thread),
      cmocka_unit_test(counts_routes_beyond_the_table_as_other),
      cmocka_unit_test(survives_failed_allocations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
