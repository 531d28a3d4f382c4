// Goal: no configuration file makes its reader crash, read past it, or leave a setting outside of its bounds; every
// refusal names file and line. Method: the input is the file; then its lines are the command line. A file that is taken
// gives the same settings twice, and the command line takes what it says (but for comments).
#include "tests/fuzz/fuzz.h"
#include "tools/ragd/ragd.h"

#define ARGUMENTS_MAX 64

static void require_bounds(const ragd_config *c) {
  REQUIRE(c->server.network_threads <= 256 && c->server.worker_threads <= 1024);
  REQUIRE(c->server.header_bytes_max >= 1024 && c->server.header_bytes_max <= 1u << 20);
  REQUIRE(c->server.body_bytes_max >= 1024 && c->server.body_bytes_max <= UINT64_C(1) << 30);
  REQUIRE(c->server.header_timeout_s >= 1 && c->server.header_timeout_s <= 3600);
  REQUIRE(c->job_threads >= 1 && c->job_threads <= RAG_JOBS_THREADS_MAX && c->drain_timeout_s <= 3600);
  REQUIRE(c->store.cache_bytes >= 1u << 20 && c->store.cache_bytes <= UINT64_C(1) << 44);
  REQUIRE(c->audit.bytes_max >= 1u << 16 && c->audit.bytes_max <= UINT64_C(1) << 40);
  REQUIRE(c->kbs.version_cache >= 1 && c->kbs.version_cache <= 1000000);
  REQUIRE(c->log_level <= RAG_LOG_ERROR && c->log_format <= RAG_LOG_JSON);
  REQUIRE(!c->allow_test_mutants && c->listen != NULL && c->listen[0] != '\0');
}

static bool same_text(const char *a, const char *b) {
  return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void require_same(const ragd_config *a, const ragd_config *b) {
  REQUIRE(same_text(a->data, b->data) && same_text(a->listen, b->listen) && same_text(a->audit_log, b->audit_log));
  REQUIRE(a->server.body_bytes_max == b->server.body_bytes_max && a->store.cache_bytes == b->store.cache_bytes);
  REQUIRE(a->store.free_bytes_min == b->store.free_bytes_min && a->server.access_log == b->server.access_log);
  REQUIRE(a->log_level == b->log_level && a->log_format == b->log_format && a->slow_query_ms == b->slow_query_ms);
}

static rag_status read_file(const char *path, ragd_config *config) {
  rag_error err = {0};
  REQUIRE_OK(ragd_config_init(config, &err));
  rag_status status = ragd_config_read(config, path, &err);
  if (status != RAG_OK) {
    REQUIRE(status == RAG_INVALID_ARGUMENT);
    fuzz_require_said(&err, status);
    REQUIRE(strncmp(err.message, path, strlen(path)) == 0 && err.message[strlen(path)] == ':');
  }
  require_bounds(config);
  return status;
}

static void as_arguments(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1), *words[ARGUMENTS_MAX];
  ragd_config config;
  rag_error err = {0};
  bool help = false;
  int count = 0;
  REQUIRE(text != NULL);
  memcpy(text, data, size);
  text[size] = '\0';
  for (char *word = strtok(text, "\n"); word != NULL && count < ARGUMENTS_MAX; word = strtok(NULL, "\n"))
    if (strstr(word, "config") == NULL) words[count++] = word; // no file of this machine
  REQUIRE_OK(ragd_config_init(&config, &err));
  rag_status status = ragd_config_arguments(&config, count, words, &help, &err);
  if (status != RAG_OK) fuzz_require_said(&err, status);
  else REQUIRE(help || (config.data != NULL && config.data[0] != '\0'));
  config.allow_test_mutants = false; // the command line may
  require_bounds(&config);
  ragd_config_free(&config);
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[32];
  ragd_config first, second;
  int fd = fuzz_file(data, size, path);
  rag_status status = read_file(path, &first);
  REQUIRE(read_file(path, &second) == status);
  require_same(&first, &second);
  ragd_config_free(&first);
  ragd_config_free(&second);
  close(fd);
  as_arguments(data, size);
  return 0;
}
