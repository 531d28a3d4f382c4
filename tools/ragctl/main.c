// ragctl: the command line of operators and batch jobs. This file reads the command line, chooses the client and runs
// the command; the table is commands.c.
//
// Options may stand anywhere; "--" ends them. A command is one word or two ("kb create"). Wrong usage is found before
// anything is connected to or opened (ctl_connect), and exits with 2.
#include "tools/ragctl/ctl.h"

#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define API_KEY_BYTES_MAX 4096u
#define ENDPOINT_BYTES_MAX 512u

// ---------------------------------------------------------------------------------------------- options of a command

bool ctl_option_given(const ctl_session *ctl, const char *name) {
  return ctl_option_text(ctl, name) != NULL;
}

const char *ctl_option_text(const ctl_session *ctl, const char *name) {
  for (unsigned i = ctl->value_count; i-- > 0;)
    if (strcmp(ctl->values[i].option->name, name) == 0) return ctl->values[i].text;
  return NULL;
}

const char *ctl_option_nth(const ctl_session *ctl, const char *name, unsigned nth) {
  for (unsigned i = 0; i < ctl->value_count; i++)
    if (strcmp(ctl->values[i].option->name, name) == 0 && nth-- == 0) return ctl->values[i].text;
  return NULL;
}

bool ctl_option_number(const ctl_session *ctl, const char *name, uint64_t max, uint64_t *out) {
  const char *text = ctl_option_text(ctl, name);
  if (!text) return true;
  size_t digits = strspn(text, "0123456789");
  unsigned long long number = digits && digits < 20 && !text[digits] ? strtoull(text, NULL, 10) : ULLONG_MAX;
  if (number > max) {
    (void)ctl_usage_error(ctl, "--%s: '%s' is no number from 0 to %llu", name, text, (unsigned long long)max);
    return false;
  }
  *out = number;
  return true;
}

bool ctl_option_share(const ctl_session *ctl, const char *option, double *out) {
  const char *text = ctl_option_text(ctl, option);
  char *end = NULL;
  if (!text) return true;
  double value = strtod(text, &end);
  if (end == text || *end || !(value > 0 && value <= 1)) {
    (void)ctl_usage_error(ctl, "--%s: '%s' is no number over 0 and at most 1, as in 0.98", option, text);
    return false;
  }
  *out = value;
  return true;
}

int ctl_usage_error(const ctl_session *ctl, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fputs("ragctl: ", stderr);
  vfprintf(stderr, fmt, args);
  va_end(args);
  if (ctl->command) fprintf(stderr, "\nSee `ragctl %s --help`.\n", ctl->command->name);
  else fputs("\nSee `ragctl --help`.\n", stderr);
  return CTL_EXIT_USAGE;
}

int ctl_fail(const ctl_session *ctl) {
  fprintf(stderr, "ragctl: %s\n", ctl->err.message);
  return CTL_EXIT_FAILED;
}

// ---------------------------------------------------------------------------------------------- the command's name

static const ctl_command *find_command(const char *first, const char *second, unsigned *words) {
  for (size_t i = 0; i < ctl_command_count; i++) {
    const char *name = ctl_commands[i].name, *space = strchr(name, ' ');
    if (!space && strcmp(name, first) == 0) {
      *words = 1;
      return &ctl_commands[i];
    }
    if (space && second && strlen(first) == (size_t)(space - name) && strncmp(name, first, strlen(first)) == 0 &&
        strcmp(space + 1, second) == 0) {
      *words = 2;
      return &ctl_commands[i];
    }
  }
  return NULL;
}

static bool is_group(const char *word) {
  for (size_t i = 0; i < ctl_command_count; i++) {
    const char *space = strchr(ctl_commands[i].name, ' ');
    if (space && strlen(word) == (size_t)(space - ctl_commands[i].name) &&
        strncmp(ctl_commands[i].name, word, strlen(word)) == 0)
      return true;
  }
  return false;
}

// Nearest whole name to "kb craete", or nearest first word to "serach".
static void unknown_command(const char *first, const char *second) {
  char given[192];
  bool group = is_group(first);
  snprintf(given, sizeof(given), "%s%s%s", first, group && second ? " " : "", group && second ? second : "");
  const char *best = ctl_commands[0].name;
  unsigned best_distance = UINT32_MAX;
  size_t best_size = 0;
  for (size_t i = 0; i < ctl_command_count; i++) {
    const char *name = ctl_commands[i].name;
    size_t size = group ? strlen(name) : strcspn(name, " ");
    if (group && (strncmp(name, first, strlen(first)) != 0 || name[strlen(first)] != ' ')) continue;
    unsigned distance = rag_edit_distance(rag_slice_str(given), rag_slice_of(name, size));
    if (distance >= best_distance) continue;
    best = name;
    best_size = size;
    best_distance = distance;
  }
  fprintf(stderr, "ragctl: there is no command '%s'; did you mean '%.*s'?\nSee `ragctl --help`.\n", given,
          (int)best_size, best);
}

// ---------------------------------------------------------------------------------------------- parsing

static const ctl_option global_options[] = {
    {"url", 0, "URL", NULL}, {"data", 0, "DIR", NULL},  {"api-key-file", 0, "FILE", NULL}, {"ca-file", 0, "FILE", NULL},
    {"json", 0, NULL, NULL}, {"help", 'h', NULL, NULL}, {"version", 0, NULL, NULL},
};

static const ctl_option *match_option(const ctl_option *options, size_t count, rag_slice name, char letter) {
  for (size_t i = 0; i < count && options[i].name; i++) {
    if (letter ? options[i].letter == letter : rag_slice_equal(name, rag_slice_str(options[i].name)))
      return &options[i];
  }
  return NULL;
}

static int unknown_option(const ctl_session *ctl, const char *word, rag_slice name) {
  const char *best = NULL;
  unsigned best_distance = 4; // farther ones are other words
  const ctl_option *lists[] = {global_options, ctl->command ? ctl->command->options : NULL};
  const size_t counts[] = {RAG_COUNT_OF(global_options), CTL_OPTIONS_MAX};
  for (size_t l = 0; l < RAG_COUNT_OF(lists); l++) {
    for (size_t i = 0; lists[l] && i < counts[l] && lists[l][i].name; i++) {
      unsigned distance = rag_edit_distance(name, rag_slice_str(lists[l][i].name));
      if (distance >= best_distance) continue;
      best = lists[l][i].name;
      best_distance = distance;
    }
  }
  if (best) return ctl_usage_error(ctl, "there is no option '%s'; did you mean '--%s'?", word, best);
  return ctl_usage_error(ctl, "there is no option '%s'", word);
}

static int take_option(ctl_session *ctl, const ctl_option *option, bool global, const char *value) {
  if (!global) {
    if (ctl->value_count == CTL_VALUES_MAX) return ctl_usage_error(ctl, "over %d options", CTL_VALUES_MAX);
    ctl->values[ctl->value_count++] = (ctl_value){option, value};
  } else if (strcmp(option->name, "url") == 0) ctl->url = value;
  else if (strcmp(option->name, "data") == 0) ctl->data = value;
  else if (strcmp(option->name, "api-key-file") == 0) ctl->api_key_file = value;
  else if (strcmp(option->name, "ca-file") == 0) ctl->ca_file = value;
  else if (strcmp(option->name, "json") == 0) ctl->json = true;
  else if (strcmp(option->name, "help") == 0) ctl->help = true;
  else { // version
    puts("ragctl " RAGD_VERSION);
    exit(CTL_EXIT_OK);
  }
  return CTL_EXIT_OK;
}

// One option at argv[*at], with its value. Short: "-k 5" and "-k5".
static int parse_option(ctl_session *ctl, int argc, char **argv, int *at) {
  const char *word = argv[(*at)++];
  bool is_long = word[1] == '-';
  const char *equals = is_long ? strchr(word, '=') : NULL;
  rag_slice name = is_long ? rag_slice_of(word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2))
                           : rag_slice_of(word + 1, 1);
  char letter = is_long ? 0 : word[1];
  const ctl_option *option = NULL;
  bool global = false;
  if (ctl->command) option = match_option(ctl->command->options, CTL_OPTIONS_MAX, name, letter);
  if (!option) {
    option = match_option(global_options, RAG_COUNT_OF(global_options), name, letter);
    global = true;
  }
  if (!option) return unknown_option(ctl, word, name);
  const char *attached = equals ? equals + 1 : !is_long && word[2] ? word + 2 : NULL;
  if (!option->argument) {
    if (attached) return ctl_usage_error(ctl, "--%s takes no value", option->name);
    return take_option(ctl, option, global, "");
  }
  if (!attached) {
    if (*at >= argc) return ctl_usage_error(ctl, "--%s needs a value: %s", option->name, option->argument);
    attached = argv[(*at)++];
  }
  return take_option(ctl, option, global, attached);
}

static bool is_option(const char *word) {
  return word[0] == '-' && word[1];
}

// Global options before the command, the command's one or two words, then arguments and options in any order.
static int parse(ctl_session *ctl, int argc, char **argv) {
  int at = 1;
  while (at < argc && is_option(argv[at])) {
    int exit_status = parse_option(ctl, argc, argv, &at);
    if (exit_status != CTL_EXIT_OK) return exit_status;
  }
  if (at == argc) return CTL_EXIT_OK;
  if (strcmp(argv[at], "help") == 0) { // "ragctl help kb create"
    ctl->help = true;
    at++;
    if (at == argc) return CTL_EXIT_OK;
  }
  const char *first = argv[at], *second = at + 1 < argc && !is_option(argv[at + 1]) ? argv[at + 1] : NULL;
  unsigned words = 0;
  ctl->command = find_command(first, second, &words);
  if (!ctl->command && is_group(first) && !second) {
    bool asked = ctl->help;
    for (int i = at + 1; i < argc; i++) asked |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    if (asked) {
      ctl_print_group(first);
      exit(CTL_EXIT_OK);
    }
    fprintf(stderr, "ragctl: '%s' needs a second word; see `ragctl %s --help`\n", first, first);
    return CTL_EXIT_USAGE;
  }
  if (!ctl->command) {
    unknown_command(first, second);
    return CTL_EXIT_USAGE;
  }
  at += (int)words;
  bool only_arguments = false;
  while (at < argc) {
    if (!only_arguments && strcmp(argv[at], "--") == 0) {
      only_arguments = true;
      at++;
    } else if (!only_arguments && is_option(argv[at])) {
      int exit_status = parse_option(ctl, argc, argv, &at);
      if (exit_status != CTL_EXIT_OK) return exit_status;
    } else ctl->args[ctl->arg_count++] = argv[at++];
  }
  return CTL_EXIT_OK;
}

static int check_arguments(const ctl_session *ctl) {
  const ctl_command *command = ctl->command;
  if (ctl->arg_count < command->args_min)
    return ctl_usage_error(ctl, "'%s' needs more: ragctl %s %s", command->name, command->name, command->arguments);
  if (ctl->arg_count > command->args_max)
    return ctl_usage_error(ctl, "'%s' does not know what to do with '%s'", command->name, ctl->args[command->args_max]);
  if (ctl->url && ctl->data) return ctl_usage_error(ctl, "give --url or --data, not both");
  return CTL_EXIT_OK;
}

// ---------------------------------------------------------------------------------------------- the client

static const char *environment(const char *name) {
  const char *value = getenv(name);
  return value && *value ? value : NULL;
}

static rag_status read_trimmed(const char *path, size_t size_max, char **out, rag_error *err) {
  size_t size = 0;
  RAG_TRY(rag_os_read_file(path, size_max, out, &size, err));
  while (size && strchr(" \t\r\n", (*out)[size - 1])) (*out)[--size] = 0;
  return RAG_OK;
}

// The server that holds the directory, when there is one that answers. A file left by a killed one is passed over.
static bool endpoint_of(const char *data_dir, char **out) {
  rag_buf path = {0};
  rag_buf_printf(&path, "%s/ENDPOINT", data_dir);
  rag_buf_append_char(&path, 0);
  char *url = NULL;
  bool found = !path.failed && rag_os_exists(path.data) &&
               read_trimmed(path.data, ENDPOINT_BYTES_MAX, &url, NULL) == RAG_OK && ctl_http_answers(url);
  rag_buf_free(&path);
  if (found) *out = url;
  else rag_free(url);
  return found;
}

static rag_status connect_client(ctl_session *ctl) {
  char *key = NULL, *endpoint = NULL;
  rag_status status = RAG_OK;
  if (!ctl->data && !ctl->url) {
    ctl->url = environment("RAGD_URL");
    if (!ctl->url) ctl->data = environment("RAGD_DATA");
  }
  if (!ctl->ca_file) ctl->ca_file = environment("RAGD_CA_FILE");
  if (!ctl->api_key_file) ctl->api_key_file = environment("RAGD_API_KEY_FILE");
  if (ctl->api_key_file) status = read_trimmed(ctl->api_key_file, API_KEY_BYTES_MAX, &key, &ctl->err);
  if (status == RAG_OK) {
    if (ctl->data && !endpoint_of(ctl->data, &endpoint))
      status = ctl_client_local(ctl->data, ctl->backup_dir, ctl->command->creates, &ctl->client, &ctl->err);
    else if (ctl->backup_dir)
      status = rag_fail(&ctl->err, RAG_FAILED_PRECONDITION,
                        "a server's backups go to its own --backup-dir; leave --to out, or stop it and give --data");
    else
      status = ctl_client_http(endpoint   ? endpoint
                               : ctl->url ? ctl->url
                                          : CTL_URL_DEFAULT,
                               key, ctl->ca_file, &ctl->client, &ctl->err);
  }
  rag_free(key);
  rag_free(endpoint);
  return status;
}

ctl_client *ctl_connect(ctl_session *ctl) {
  if (!ctl->client && connect_client(ctl) != RAG_OK) return NULL;
  return ctl->client;
}

static int run(ctl_session *ctl) {
  int exit_status = check_arguments(ctl);
  if (exit_status != CTL_EXIT_OK) return exit_status;
  ctl->parser = rag_json_parser_create();
  if (ctl->parser) exit_status = ctl->command->run(ctl);
  else {
    (void)rag_fail_no_memory(&ctl->err, 1);
    exit_status = ctl_fail(ctl);
  }
  if (ctl->client) ctl->client->ops->close(ctl->client);
  rag_json_parser_destroy(ctl->parser);
  rag_buf_free(&ctl->answer);
  return exit_status;
}

int main(int argc, char **argv) {
  ctl_session ctl = {0};
  setlocale(LC_CTYPE, "C.UTF-8"); // for the widths of characters alone
  signal(SIGPIPE, SIG_IGN);       // `ragctl log | head`: the write fails, below
  rag_log_setup(2, RAG_LOG_WARN, RAG_LOG_TEXT);
  ctl_output_setup();
  ctl.args = rag_calloc((size_t)argc + 1, sizeof(*ctl.args));
  if (!ctl.args) return CTL_EXIT_FAILED;
  int exit_status = parse(&ctl, argc, argv);
  if (exit_status == CTL_EXIT_OK) {
    if (ctl.help && ctl.command) ctl_print_help(ctl.command);
    else if (ctl.help) ctl_print_all();
    else if (!ctl.command) exit_status = ctl_usage_error(&ctl, "what is to be done?");
    else exit_status = run(&ctl);
  }
  rag_free(ctl.args);
  // What was not written was not said: a full disk under `> file` must not look like success. A reader that has seen
  // enough (`ragctl log | head`) is no failure.
  struct stat out = {0};
  bool pipe = fstat(STDOUT_FILENO, &out) == 0 && S_ISFIFO(out.st_mode);
  if ((fflush(stdout) != 0 || ferror(stdout)) && !pipe && exit_status == CTL_EXIT_OK) {
    perror("ragctl: writing the output");
    exit_status = CTL_EXIT_FAILED;
  }
  return exit_status;
}
