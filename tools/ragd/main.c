// ragd, the daemon: settings, start, the wait for a signal, and a drain.
//
// Signals: SIGTERM and SIGINT are blocked before the first thread starts, so that only the wait below sees them. The
// first begins the drain and gives both back their default action, so the second ends the process at once; that is safe
// at any moment, as what was acknowledged is on disk. SIGHUP has the certificate and its key read again.
#include "tools/ragd/ragd.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] = "usage: ragd serve --data DIR [--listen ADDRESS] [--config FILE] [options]\n"
                            "       ragd --help | --version\n";

static int print_help(void) {
  rag_buf text = {0};
  rag_buf_append_str(&text, "ragd " RAGD_VERSION ": versioned knowledge bases, searched over HTTP.\n\n");
  rag_buf_append_str(&text, usage);
  rag_buf_append_str(&text,
                     "\nServes the knowledge bases of a data directory until SIGTERM or SIGINT, then lets running\n"
                     "requests end; a second signal ends it at once. Nothing acknowledged is lost either way.\n\n"
                     "Options, with [defaults]. Sizes take KiB, MiB, GiB.\n"
                     "  --config FILE                  settings as `name = value` lines, '#' for comments; names as\n"
                     "                                 below with '_' for '-'. The command line wins\n");
  ragd_config_help(&text);
  rag_buf_append_str(&text, "\nExit status: 0 after a clean stop, 1 on failure, 2 for wrong usage or configuration.\n");
  bool failed = text.failed || fwrite(text.data, 1, text.size, stdout) != text.size || fflush(stdout) != 0;
  rag_buf_free(&text);
  return failed ? RAGD_EXIT_FAILED : RAGD_EXIT_OK;
}

static int complain(const rag_error *err, int exit_status) {
  fprintf(stderr, "ragd: %s\n", err->message);
  return exit_status;
}

// The fault tests put a bug back and must find it. It takes the variable and an option that no help shows, as either
// alone could come from somebody's environment or start script.
static rag_status apply_mutant(ragd_config *config, rag_error *err) {
  const char *mutant = getenv("RAGD_TEST_MUTANT");
  if (!mutant || !*mutant) return RAG_OK;
  if (!config->allow_test_mutants) {
    rag_log(RAG_LOG_WARN, "ragd.mutant_ignored", "RAGD_TEST_MUTANT=%s", mutant);
    return RAG_OK;
  }
  if (strcmp(mutant, "acknowledge-early") != 0)
    return rag_fail(err, RAG_INVALID_ARGUMENT, "RAGD_TEST_MUTANT: there is no mutant '%s'", mutant);
  config->store.mutant_acknowledge_early = true;
  rag_log(RAG_LOG_ERROR, "ragd.mutant", "name=%s effect=\"acknowledged writes may be lost\"", mutant);
  return RAG_OK;
}

static void block_signals(sigset_t *out) {
  signal(SIGPIPE, SIG_IGN);
  sigemptyset(out);
  sigaddset(out, SIGTERM);
  sigaddset(out, SIGINT);
  sigaddset(out, SIGHUP);
  pthread_sigmask(SIG_BLOCK, out, NULL);
}

static void reload(rag_server *server) {
  rag_error err = {0};
  rag_log(RAG_LOG_INFO, "ragd.reloading", "signal=SIGHUP");
  if (rag_server_reload(server, &err) != RAG_OK)
    rag_log(RAG_LOG_ERROR, "ragd.not_reloaded", "message=%s effect=%s", err.message, "goes on with what it has");
}

static void wait_for_signal(const sigset_t *set, rag_server *server) {
  int number = 0;
  for (;;) {
    if (sigwait(set, &number) != 0) continue;
    if (number != SIGHUP) break;
    reload(server);
  }
  signal(SIGTERM, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  signal(SIGHUP, SIG_IGN); // a reload that comes too late ends nothing
  pthread_sigmask(SIG_UNBLOCK, set, NULL);
  rag_log(RAG_LOG_INFO, "ragd.stopping", "signal=%s", number == SIGTERM ? "SIGTERM" : "SIGINT");
}

static rag_status serve(ragd_config *config, rag_error *err) {
  rag_api *api = NULL;
  rag_server *server = NULL;
  sigset_t signals;
  rag_status status = RAG_OK;
  rag_log_setup(2, (rag_log_level)config->log_level, (rag_log_format)config->log_format);
  RAG_TRY_OUT(apply_mutant(config, err));
  block_signals(&signals);

  rag_api_options options = rag_api_options_default();
  options.data_dir = config->data;
  options.backup_dir = config->backup_dir;
  options.store = config->store;
  options.kbs = config->kbs;
  options.job_threads = config->job_threads;
  options.audit = config->audit;
  options.audit.path = config->audit_log;
  options.slow_query_ms = config->slow_query_ms;
  config->server.listen = config->listen;
  config->server.tls_certificate_file = config->tls_certificate_file;
  config->server.tls_key_file = config->tls_key_file;
  RAG_TRY_OUT(rag_api_open(&options, &api, err));
  RAG_TRY_OUT(rag_server_start(api, &config->server, &server, err));

  // Programs that start us read this line: it is written whole, before anything is waited for.
  if (printf("ragd %s listening on %s, data in %s\n", RAGD_VERSION, rag_server_url(server), config->data) < 0 ||
      fflush(stdout) != 0)
    rag_log(RAG_LOG_WARN, "ragd.stdout_closed", "url=%s", rag_server_url(server));
  wait_for_signal(&signals, server);

out:
  rag_server_stop(server, (uint64_t)config->drain_timeout_s * 1000);
  rag_api_close(api);
  if (status == RAG_OK) rag_log(RAG_LOG_INFO, "ragd.stopped", "data=%s", config->data);
  return status;
}

static int serve_command(int argc, char **argv) {
  ragd_config config;
  rag_error err = {0};
  bool help = false;
  int exit_status = RAGD_EXIT_OK;
  (void)rag_heap_limit_arenas();
  if (ragd_config_init(&config, &err) != RAG_OK) return complain(&err, RAGD_EXIT_FAILED);
  if (ragd_config_arguments(&config, argc, argv, &help, &err) != RAG_OK) exit_status = complain(&err, RAGD_EXIT_USAGE);
  else if (help) exit_status = print_help();
  else if (serve(&config, &err) != RAG_OK)
    exit_status =
        complain(&err, strcmp(err.field, "listen") == 0 && err.status == RAG_INVALID_ARGUMENT ? RAGD_EXIT_USAGE
                                                                                              : RAGD_EXIT_FAILED);
  ragd_config_free(&config);
  return exit_status;
}

int main(int argc, char **argv) {
  const char *word = argc > 1 ? argv[1] : "";
  if (strcmp(word, "serve") == 0) return serve_command(argc - 2, argv + 2);
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) return print_help();
  if (strcmp(word, "--version") == 0) {
    puts("ragd " RAGD_VERSION);
    return RAGD_EXIT_OK;
  }
  if (*word) fprintf(stderr, "ragd: there is no command '%s'; did you mean 'serve'?\n", word);
  fputs(usage, stderr);
  return RAGD_EXIT_USAGE;
}
