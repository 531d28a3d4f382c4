// The daemon's settings. One table gives each its name, its kind, its bounds and its help; the command line
// (--network-threads 4), the configuration file (network_threads = 4) and `ragd serve --help` all follow it.
//
// File format: one "name = value" a line, blanks around both ignored, '#' starts a comment at the start of a line or
// after a blank. A name twice, an unknown name and a value out of bounds are errors that name the line: a daemon that
// starts with half of its configuration is worse than one that does not start.
#include "tools/ragd/ragd.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CONFIG_FILE_BYTES_MAX (1u << 20)
#define NO_LINE 0u

typedef enum kind {
  KIND_TEXT,
  KIND_COUNT, // uint32_t
  KIND_UNSIGNED,
  KIND_BYTES32,
  KIND_BYTES64, // "256MiB"
  KIND_SWITCH,  // bool: on, off
  KIND_CHOICE,  // uint32_t: the index of one of `choices`
  KIND_HIDDEN,  // bool, on the command line alone and in no help: for the fault tests
} kind;

typedef struct setting {
  const char *name;
  const char *argument;
  kind kind;
  size_t offset;
  uint64_t min, max;
  const char *const *choices;
  const char *help;
} setting;

static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

#define AT(field) offsetof(ragd_config, field)
static const setting settings[] = {
    {"data", "DIR", KIND_TEXT, AT(data), 0, 0, NULL, "the data directory; made when it is missing (required)"},
    {"backup_dir", "DIR", KIND_TEXT, AT(backup_dir), 0, 0, NULL,
     "where backups go; without it none are made. On another disk than the data"},
    {"listen", "ADDRESS", KIND_TEXT, AT(listen), 0, 0, NULL,
     "numeric address and port, 0 for any free one; beyond loopback only once an API key exists"},
    {"network_threads", "N", KIND_UNSIGNED, AT(server.network_threads), 1, 256, NULL,
     "that read, route and answer what is cheap"},
    {"worker_threads", "N", KIND_UNSIGNED, AT(server.worker_threads), 1, 1024, NULL, "for writes and long reads"},
    {"worker_queue_max", "N", KIND_UNSIGNED, AT(server.worker_queue_max), 1, 1000000, NULL,
     "requests that may wait for a worker; more are answered 429"},
    {"job_threads", "N", KIND_COUNT, AT(job_threads), 1, RAG_JOBS_THREADS_MAX, NULL,
     "for gc, purge, sealing and the like"},
    {"body_bytes_max", "SIZE", KIND_BYTES64, AT(server.body_bytes_max), 1024, UINT64_C(1) << 30, NULL,
     "largest request body, streams apart"},
    {"header_bytes_max", "SIZE", KIND_BYTES32, AT(server.header_bytes_max), 1024, 1u << 20, NULL,
     "largest request head"},
    {"connections_max", "N", KIND_COUNT, AT(server.connections_max), 1, 1000000, NULL, "open at once"},
    {"header_timeout_s", "SECONDS", KIND_COUNT, AT(server.header_timeout_s), 1, 3600, NULL, "to send a request's head"},
    {"body_timeout_s", "SECONDS", KIND_COUNT, AT(server.body_timeout_s), 1, 86400, NULL, "to send a request's body"},
    {"idle_timeout_s", "SECONDS", KIND_COUNT, AT(server.idle_timeout_s), 1, 86400, NULL, "between two requests"},
    {"request_timeout_s", "SECONDS", KIND_COUNT, AT(server.request_timeout_s), 1, 86400, NULL,
     "for an answer, where the request does not say"},
    {"queue_wait_ms_max", "MS", KIND_COUNT, AT(server.queue_wait_ms_max), 1, 86400000, NULL,
     "a request may wait for its turn; more are answered 503"},
    {"connections_per_address_max", "N", KIND_COUNT, AT(server.connections_per_address_max), 1, 100000, NULL,
     "open at once of one client address"},
    {"tls_certificate_file", "FILE", KIND_TEXT, AT(tls_certificate_file), 0, 0, NULL,
     "PEM, with the chain: serves HTTPS alone; read again on SIGHUP"},
    {"tls_key_file", "FILE", KIND_TEXT, AT(tls_key_file), 0, 0, NULL, "PEM, unencrypted: the certificate's key"},
    {"audit_log", "FILE", KIND_TEXT, AT(audit_log), 0, 0, NULL,
     "one JSON line for each write and each refused key; what cannot be logged is not written"},
    {"audit_bytes_max", "SIZE", KIND_BYTES64, AT(audit.bytes_max), 1u << 16, UINT64_C(1) << 40, NULL,
     "of one file of the audit log before the next is begun"},
    {"audit_files_max", "N", KIND_COUNT, AT(audit.files_max), 1, 10000, NULL, "older files of the audit log kept"},
    {"slow_query_ms", "MS", KIND_COUNT, AT(slow_query_ms), 0, 86400000, NULL,
     "searches that take so long are logged with their plan; 0: none"},
    {"drain_timeout_s", "SECONDS", KIND_COUNT, AT(drain_timeout_s), 0, 3600, NULL,
     "for running requests to end after SIGTERM"},
    {"cache_bytes", "SIZE", KIND_BYTES64, AT(store.cache_bytes), 1u << 20, UINT64_C(1) << 44, NULL,
     "block cache of the store"},
    {"write_buffer_bytes", "SIZE", KIND_BYTES64, AT(store.write_buffer_bytes), 1u << 20, UINT64_C(1) << 40, NULL,
     "writes held in memory before they become files"},
    {"free_bytes_min", "SIZE", KIND_BYTES64, AT(store.free_bytes_min), 0, RAG_STORE_FREE_AUTO, NULL,
     "writes are refused below so much free disk, reads go on; 0: never; auto: 256MiB or 2% of the disk, if that is "
     "less"},
    {"object_cache_bytes", "SIZE", KIND_BYTES64, AT(kbs.object_cache_bytes), 0, UINT64_C(1) << 44, NULL,
     "documents ready to answer with"},
    {"version_cache", "N", KIND_COUNT, AT(kbs.version_cache), 1, 1000000, NULL,
     "past versions kept ready to be searched"},
    {"index_seal_rows", "N", KIND_COUNT, AT(kbs.seal_rows), 16, 10000000, NULL,
     "vectors gathered in memory and scanned before they are sealed into a segment"},
    {"index_graph_rows", "N", KIND_COUNT, AT(kbs.graph_rows), 16, 100000000, NULL,
     "vectors of a segment from which on it has a graph"},
    {"access_log", "on|off", KIND_SWITCH, AT(server.access_log), 0, 0, NULL, "one line for each request"},
    {"log_level", "LEVEL", KIND_CHOICE, AT(log_level), 0, 0, log_levels, "debug, info, warn or error"},
    {"log_format", "FORMAT", KIND_CHOICE, AT(log_format), 0, 0, log_formats, "text or json"},
    {"allow_test_mutants", NULL, KIND_HIDDEN, AT(allow_test_mutants), 0, 0, NULL, NULL},
};

rag_status ragd_config_init(ragd_config *config, rag_error *err) {
  *config = (ragd_config){
      .server = rag_server_options_default(),
      .store = rag_store_options_default(),
      .kbs = rag_kbs_options_default(),
      .audit = rag_api_options_default().audit,
      .job_threads = 2, // jobs give way to requests; one may be a merge of minutes, which gc and purge do not wait for
      .drain_timeout_s = 30,
      .log_level = RAG_LOG_INFO,
      .log_format = RAG_LOG_TEXT,
  };
  config->kbs.load_at_open = true;
  config->listen = rag_strdup("127.0.0.1:7700");
  return config->listen ? RAG_OK : rag_fail_no_memory(err, 16);
}

void ragd_config_free(ragd_config *config) {
  rag_free(config->data);
  rag_free(config->backup_dir);
  rag_free(config->config_file);
  rag_free(config->listen);
  rag_free(config->tls_certificate_file);
  rag_free(config->tls_key_file);
  rag_free(config->audit_log);
}

// ---------------------------------------------------------------------------------------------- values

static rag_status bad_value(const setting *s, rag_slice value, const char *why, rag_error *err) {
  return rag_fail(err, RAG_INVALID_ARGUMENT, "%s: '%.*s' %s", s->name, (int)RAG_MIN(value.size, (size_t)80), value.data,
                  why);
}

static rag_status parse_number(const setting *s, rag_slice value, uint64_t *out, rag_error *err) {
  static const struct {
    const char *suffix;
    unsigned shift;
  } units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  char text[32];
  if (value.size == 0 || value.size >= sizeof(text) || !isdigit((unsigned char)value.data[0]))
    return bad_value(s, value, "is no number", err);
  memcpy(text, value.data, value.size);
  text[value.size] = 0;
  char *end = NULL;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (errno) return bad_value(s, value, "is too large", err);
  unsigned shift = 0;
  if (*end && (s->kind == KIND_BYTES32 || s->kind == KIND_BYTES64)) {
    while (*end == ' ') end++;
    for (size_t i = 0; i < RAG_COUNT_OF(units); i++) {
      if (strcmp(end, units[i].suffix) != 0) continue;
      shift = units[i].shift;
      end += strlen(end);
      break;
    }
    if (*end) return bad_value(s, value, "is no size; write bytes, or a number with KiB, MiB or GiB", err);
  }
  if (*end) return bad_value(s, value, "is no number", err);
  char why[80];
  snprintf(why, sizeof(why), "is out of bounds: %llu to %llu", (unsigned long long)s->min, (unsigned long long)s->max);
  if (number > s->max >> shift || number << shift < s->min) return bad_value(s, value, why, err);
  *out = number << shift;
  return RAG_OK;
}

static rag_status set_value(ragd_config *config, const setting *s, rag_slice value, rag_error *err) {
  void *field = (char *)config + s->offset;
  uint64_t number = 0;
  switch (s->kind) {
  case KIND_TEXT: {
    if (value.size == 0) return rag_fail(err, RAG_INVALID_ARGUMENT, "%s must not be empty", s->name);
    if (memchr(value.data, '\0', value.size)) return bad_value(s, value, "holds a NUL character", err);
    char *copy = rag_strndup(value.data, value.size);
    if (!copy) return rag_fail_no_memory(err, value.size);
    rag_free(*(char **)field);
    *(char **)field = copy;
    return RAG_OK;
  }
  case KIND_COUNT:
  case KIND_BYTES32:
    RAG_TRY(parse_number(s, value, &number, err));
    *(uint32_t *)field = (uint32_t)number;
    return RAG_OK;
  case KIND_UNSIGNED:
    RAG_TRY(parse_number(s, value, &number, err));
    *(unsigned *)field = (unsigned)number;
    return RAG_OK;
  case KIND_BYTES64:
    if (s->max == RAG_STORE_FREE_AUTO && rag_slice_equal(value, rag_slice_str("auto"))) number = RAG_STORE_FREE_AUTO;
    else RAG_TRY(parse_number(s, value, &number, err));
    *(uint64_t *)field = number;
    return RAG_OK;
  case KIND_SWITCH: {
    bool on = rag_slice_equal(value, rag_slice_str("on"));
    if (!on && !rag_slice_equal(value, rag_slice_str("off"))) return bad_value(s, value, "is neither on nor off", err);
    *(bool *)field = on;
    return RAG_OK;
  }
  case KIND_CHOICE:
    for (uint32_t i = 0; s->choices[i]; i++) {
      if (!rag_slice_equal(value, rag_slice_str(s->choices[i]))) continue;
      *(uint32_t *)field = i;
      return RAG_OK;
    }
    return bad_value(s, value, "is not known; see `ragd serve --help`", err);
  case KIND_HIDDEN:
    *(bool *)field = true;
    return RAG_OK;
  }
  rag_assert_failed("every kind is handled", __FILE__, __LINE__);
}

// ---------------------------------------------------------------------------------------------- names

// Names are written with '_' in files and with '-' on the command line; both are taken in both places.
static bool name_is(const setting *s, rag_slice name) {
  if (strlen(s->name) != name.size) return false;
  for (size_t i = 0; i < name.size; i++)
    if ((name.data[i] == '-' ? '_' : name.data[i]) != s->name[i]) return false;
  return true;
}

static const setting *find(rag_slice name) {
  for (size_t i = 0; i < RAG_COUNT_OF(settings); i++)
    if (name_is(&settings[i], name)) return &settings[i];
  return NULL;
}

static const char *nearest(rag_slice name) {
  const char *best = settings[0].name;
  unsigned best_distance = UINT32_MAX;
  for (size_t i = 0; i < RAG_COUNT_OF(settings); i++) {
    if (settings[i].kind == KIND_HIDDEN) continue;
    unsigned distance = rag_edit_distance(name, rag_slice_str(settings[i].name));
    if (distance >= best_distance) continue;
    best = settings[i].name;
    best_distance = distance;
  }
  return best;
}

static void dashed(const char *name, char out[64]) {
  size_t i = 0;
  for (; name[i] && i < 63; i++) out[i] = name[i] == '_' ? '-' : name[i];
  out[i] = 0;
}

// ---------------------------------------------------------------------------------------------- the file

static rag_slice trim(rag_slice s) {
  while (s.size && isspace((unsigned char)s.data[0])) s.data++, s.size--;
  while (s.size && isspace((unsigned char)s.data[s.size - 1])) s.size--;
  return s;
}

static rag_slice without_comment(rag_slice line) {
  for (size_t i = 0; i < line.size; i++)
    if (line.data[i] == '#' && (i == 0 || isspace((unsigned char)line.data[i - 1])))
      return trim(rag_slice_of(line.data, i));
  return trim(line);
}

static rag_status read_line(ragd_config *config, rag_slice line, unsigned number, unsigned *first_line,
                            rag_error *err) {
  line = without_comment(line);
  if (line.size == 0) return RAG_OK;
  const char *equals = memchr(line.data, '=', line.size);
  if (!equals)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "'%.*s' is no setting; write name = value",
                    (int)RAG_MIN(line.size, (size_t)80), line.data);
  rag_slice name = trim(rag_slice_of(line.data, (size_t)(equals - line.data)));
  rag_slice value = trim(rag_slice_of(equals + 1, line.size - (size_t)(equals + 1 - line.data)));
  const setting *s = find(name);
  if (!s || s->kind == KIND_HIDDEN)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "there is no setting '%.*s'; did you mean '%s'?",
                    (int)RAG_MIN(name.size, (size_t)80), name.data, nearest(name));
  unsigned *seen = &first_line[s - settings];
  if (*seen != NO_LINE) return rag_fail(err, RAG_INVALID_ARGUMENT, "%s was already set on line %u", s->name, *seen);
  *seen = number;
  return set_value(config, s, value, err);
}

rag_status ragd_config_read(ragd_config *config, const char *path, rag_error *err) {
  char *text = NULL;
  size_t size = 0;
  unsigned first_line[RAG_COUNT_OF(settings)] = {NO_LINE};
  rag_status status = rag_os_read_file(path, CONFIG_FILE_BYTES_MAX, &text, &size, err);
  unsigned number = 0;
  for (size_t start = 0; status == RAG_OK && start < size;) {
    const char *newline = memchr(text + start, '\n', size - start);
    size_t end = newline ? (size_t)(newline - text) : size;
    number++;
    status = read_line(config, rag_slice_of(text + start, end - start), number, first_line, err);
    if (status != RAG_OK) rag_error_prefix(err, "%s:%u", path, number);
    start = end + 1;
  }
  rag_free(text);
  return status;
}

// ---------------------------------------------------------------------------------------------- the command line

typedef struct argument {
  const setting *setting;
  rag_slice value;
} argument;

// argv[*at] and, where the value is a word of its own, the next one.
static rag_status parse_argument(int argc, char **argv, int *at, argument *out, rag_error *err) {
  const char *word = argv[(*at)++];
  if (strncmp(word, "--", 2) != 0 || !word[2])
    return rag_fail(err, RAG_INVALID_ARGUMENT, "unexpected argument '%s'; see `ragd serve --help`", word);
  const char *equals = strchr(word, '=');
  rag_slice name = rag_slice_of(word + 2, equals ? (size_t)(equals - word - 2) : strlen(word) - 2);
  static const setting config_setting = {"config", "FILE", KIND_TEXT, AT(config_file), 0, 0, NULL, NULL};
  out->setting = name_is(&config_setting, name) ? &config_setting : find(name);
  if (!out->setting) {
    char near[64];
    dashed(nearest(name), near);
    return rag_fail(err, RAG_INVALID_ARGUMENT, "there is no option '--%.*s'; did you mean '--%s'?",
                    (int)RAG_MIN(name.size, (size_t)80), name.data, near);
  }
  if (out->setting->kind == KIND_HIDDEN) {
    if (equals) return rag_fail(err, RAG_INVALID_ARGUMENT, "'%s' takes no value", word);
    out->value = rag_slice_str("");
    return RAG_OK;
  }
  if (equals) {
    out->value = rag_slice_str(equals + 1);
    return RAG_OK;
  }
  if (*at >= argc) return rag_fail(err, RAG_INVALID_ARGUMENT, "%s needs a value: %s", word, out->setting->argument);
  out->value = rag_slice_str(argv[(*at)++]);
  return RAG_OK;
}

rag_status ragd_config_arguments(ragd_config *config, int argc, char **argv, bool *out_help, rag_error *err) {
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
    *out_help = true;
    return RAG_OK;
  }
  argument given;
  for (int i = 0; i < argc;) {
    RAG_TRY(parse_argument(argc, argv, &i, &given, err));
    if (given.setting->offset == AT(config_file)) RAG_TRY(set_value(config, given.setting, given.value, err));
  }
  if (config->config_file) RAG_TRY(ragd_config_read(config, config->config_file, err));
  for (int i = 0; i < argc;) {
    RAG_TRY(parse_argument(argc, argv, &i, &given, err));
    RAG_TRY(set_value(config, given.setting, given.value, err));
  }
  if (!config->data)
    return rag_fail(err, RAG_INVALID_ARGUMENT,
                    "where is the data? Give --data DIR, or data = DIR in a file of --config");
  return RAG_OK;
}

// ---------------------------------------------------------------------------------------------- help

static void append_size(rag_buf *out, uint64_t bytes) {
  static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
  unsigned unit = 0;
  while (unit + 1 < RAG_COUNT_OF(units) && bytes >= 1024 && bytes % 1024 == 0) bytes /= 1024, unit++;
  rag_buf_printf(out, "%llu%s", (unsigned long long)bytes, units[unit]);
}

static void append_default(rag_buf *out, const ragd_config *config, const setting *s) {
  const void *field = (const char *)config + s->offset;
  switch (s->kind) {
  case KIND_TEXT:
    if (*(char *const *)field) rag_buf_printf(out, " [%s]", *(char *const *)field);
    return;
  case KIND_COUNT:
    rag_buf_printf(out, " [%u]", *(const uint32_t *)field);
    return;
  case KIND_UNSIGNED:
    rag_buf_printf(out, " [%u]", *(const unsigned *)field);
    return;
  case KIND_SWITCH:
    rag_buf_printf(out, " [%s]", *(const bool *)field ? "on" : "off");
    return;
  case KIND_CHOICE:
    rag_buf_printf(out, " [%s]", s->choices[*(const uint32_t *)field]);
    return;
  case KIND_BYTES32:
  case KIND_BYTES64:
    if (s->max == RAG_STORE_FREE_AUTO && *(const uint64_t *)field == RAG_STORE_FREE_AUTO) {
      rag_buf_append_str(out, " [auto]");
      return;
    }
    rag_buf_append_str(out, " [");
    append_size(out, s->kind == KIND_BYTES32 ? *(const uint32_t *)field : *(const uint64_t *)field);
    rag_buf_append_str(out, "]");
    return;
  case KIND_HIDDEN:
    return;
  }
}

void ragd_config_help(rag_buf *out) {
  ragd_config defaults;
  if (ragd_config_init(&defaults, NULL) != RAG_OK) return;
  for (size_t i = 0; i < RAG_COUNT_OF(settings); i++) {
    const setting *s = &settings[i];
    if (s->kind == KIND_HIDDEN) continue;
    char name[64], left[96];
    dashed(s->name, name);
    snprintf(left, sizeof(left), "--%s %s", name, s->argument);
    rag_buf_printf(out, "  %-30s %s", left, s->help);
    append_default(out, &defaults, s);
    rag_buf_append_char(out, '\n');
  }
  ragd_config_free(&defaults);
}
