// Goal: no ref makes the resolver crash or read past it; it resolves to what an independent reading of the grammar says
// (branch, tag, c42, REF~n, BRANCH@time); what is no ref is refused with a reason. Times likewise.
// Method: one small kb with a known history, made with a clock of its own. The oracle below parses the input anew and
// walks that history.
#include "kb/kb_internal.h"
#include "tests/fuzz/fuzz.h"

#define COMMITS_MAX 16u
#define T0 INT64_C(1767225600000000) // 2026-01-01T00:00:00Z
#define DAY_US (INT64_C(86400) * 1000000)

static rag_store *store;
static rag_jobs *jobs;
static rag_kbs *kbs;
static rag_kb *kb;
static uint32_t parents[COMMITS_MAX]; // 0: none
static uint32_t newest;

typedef struct stand { // of a branch, from a time on
  const char *branch;
  int64_t since_us;
  uint32_t commit;
} stand;
static stand stands[32];
static size_t stand_count;
static uint32_t tag_commit;

// ---------------------------------------------------------------------------------------------- the history

static void note(const char *branch, uint32_t commit, uint32_t parent) {
  REQUIRE(commit < COMMITS_MAX && stand_count < RAG_COUNT_OF(stands));
  if (commit > newest) parents[newest = commit] = parent;
  rag_commit_info info;
  rag_error err = {0};
  char ref[16];
  snprintf(ref, sizeof ref, "c%u", commit);
  REQUIRE_OK(rag_kb_commit_get(kb, rag_slice_str(ref), &info, &err));
  REQUIRE(info.parent_count == 0 ? parents[commit] == 0 : info.parents[0] == parents[commit]);
  stands[stand_count++] = (stand){branch, RAG_MAX(info.time_us, rag_clock_now_us()), commit};
  rag_commit_info_free(&info);
}

static uint32_t head(const char *branch) {
  for (size_t i = stand_count; i-- > 0;)
    if (strcmp(stands[i].branch, branch) == 0) return stands[i].commit;
  return 0;
}

static void put(const char *branch, const char *id, const char *text) {
  rag_error err = {0};
  rag_write_result result;
  rag_document_input in = {.id = rag_slice_str(id), .text = rag_slice_str(text)};
  rag_write write = {.branch = rag_slice_str(branch)};
  uint32_t parent = head(branch);
  REQUIRE_OK(rag_kb_put(kb, &write, &(rag_put){.documents = &in, .document_count = 1}, &result, NULL, &err));
  note(branch, (uint32_t)result.commit, parent);
}

static void make_history(void) {
  rag_error err = {0};
  rag_write write = {0};
  rag_ref_info info;
  rag_clock_set_for_test(T0);
  rag_kb_config config;
  rag_kb_config_init(&config);
  snprintf(config.name, sizeof config.name, "docs");
  snprintf(config.model, sizeof config.model, "hash-32");
  REQUIRE_OK(rag_kbs_create(kbs, &config, &write, &kb, &err));
  rag_kb_config_free(&config);
  note("main", 1, 0);
  for (int i = 0; i < 4; i++) {
    rag_clock_set_for_test(T0 + (i + 1) * DAY_US);
    put("main", "a", (const char *[]){"one", "two", "three", "four"}[i]);
  }
  rag_clock_set_for_test(T0 + 6 * DAY_US);
  REQUIRE_OK(rag_kb_branch_create(kb, &write, rag_slice_str("dev"), rag_slice_str("main~1"), &info, &err));
  note("dev", (uint32_t)info.commit, 0);
  REQUIRE_OK(rag_kb_tag_create(kb, &write, rag_slice_str("v1.0"), rag_slice_str("c3"), &info, &err));
  tag_commit = 3;
  rag_clock_set_for_test(T0 + 7 * DAY_US);
  put("dev", "b", "five");
  rag_clock_set_for_test(T0 + 8 * DAY_US);
  put("main", "c", "six");
}

static void begin(void) {
  rag_error err = {0};
  rag_store_options options = rag_store_options_default();
  rag_kbs_options kbs_options = rag_kbs_options_default();
  options.sync = false;
  options.cache_bytes = options.write_buffer_bytes = 8u << 20;
  kbs_options.object_cache_bytes = 1u << 20;
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  REQUIRE_OK(rag_store_open(fuzz_dir(), &options, &store, &err));
  REQUIRE_OK(rag_jobs_open(store, 0, &jobs, &err));
  REQUIRE_OK(rag_kbs_open(store, jobs, &kbs_options, &kbs, &err));
  make_history();
}

static void end(void) {
  rag_ref_drop(kb);
  rag_jobs_close(jobs);
  rag_kbs_close(kbs);
  rag_store_close(store);
  fuzz_dir_remove();
}

// ---------------------------------------------------------------------------------------------- the oracle

static bool number(rag_slice digits, uint64_t *out) { // at most 10 digits
  if (digits.size == 0 || digits.size > 10) return false;
  for (*out = 0; digits.size > 0; digits.data++, digits.size--) {
    if (digits.data[0] < '0' || digits.data[0] > '9') return false;
    *out = *out * 10 + (uint64_t)(digits.data[0] - '0');
  }
  return true;
}

static uint32_t at_time(rag_slice branch, int64_t time_us) {
  uint32_t found = 0;
  for (size_t i = 0; i < stand_count; i++)
    if (rag_slice_equal(branch, rag_slice_str(stands[i].branch)) && stands[i].since_us <= time_us)
      found = stands[i].commit;
  return found;
}

// The commit that a ref means; 0: none.
static uint32_t expected(rag_slice ref) {
  rag_slice name = ref, time = {0};
  uint64_t steps = 0, commit = 0;
  const char *tilde = memchr(ref.data, '~', ref.size);
  if (ref.size == 0) return head("main");
  if (ref.size > RAG_REF_BYTES_MAX) return 0;
  if (tilde != NULL) {
    rag_slice digits = {tilde + 1, ref.size - (size_t)(tilde + 1 - ref.data)};
    name.size = (size_t)(tilde - ref.data);
    if (digits.size == 0) steps = 1;
    else if (!number(digits, &steps)) return 0;
  }
  const char *at = memchr(name.data, '@', name.size);
  if (at != NULL) {
    time = rag_slice_of(at + 1, name.size - (size_t)(at + 1 - name.data));
    name.size = (size_t)(at - name.data);
    int64_t time_us;
    if (rag_time_parse(time, &time_us, NULL) != RAG_OK) return 0;
    commit = at_time(name, time_us);
  } else if (name.size > 1 && name.data[0] == 'c' && number(rag_slice_of(name.data + 1, name.size - 1), &commit)) {
    if (commit > newest) return 0;
  } else {
    commit = at_time(name, INT64_MAX);
    if (rag_slice_equal(name, rag_slice_str("v1.0"))) commit = tag_commit;
  }
  for (; steps > 0 && commit != 0; steps--) commit = parents[commit];
  return (uint32_t)commit;
}

// ---------------------------------------------------------------------------------------------- the properties

static void check_time(rag_slice text) {
  int64_t time_us, again;
  rag_error err = {0};
  char said[RAG_TIME_TEXT_MAX];
  rag_status status = rag_time_parse(text, &time_us, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_INVALID_ARGUMENT);
    fuzz_require_said(&err, status);
    return;
  }
  rag_time_format(time_us, said);
  REQUIRE_OK(rag_time_parse(rag_slice_str(said), &again, &err));
  REQUIRE(again == time_us || said[0] == '0' || said[0] == '9'); // years beyond 1 to 9999 are clamped
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (store == NULL) {
    begin();
    atexit(end);
  }
  char *text = fuzz_copy(data, size);
  rag_slice ref = {text, size};
  rag_version *version = NULL;
  rag_error err = {0};
  uint32_t wanted = expected(ref);
  rag_status status = rag_kb_resolve(kb, ref, &version, &err);
  REQUIRE((status == RAG_OK) == (wanted != 0));
  if (status == RAG_OK) {
    REQUIRE(rag_version_commit(version) == wanted);
    rag_ref_drop(version);
  } else {
    REQUIRE(status == RAG_INVALID_ARGUMENT || status == RAG_NOT_FOUND);
    fuzz_require_said(&err, status);
  }
  check_time(ref);
  free(text);
  return 0;
}
