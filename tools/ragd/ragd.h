// What the files of the daemon share: its settings and where they come from.
#ifndef RAGD_TOOLS_RAGD_H
#define RAGD_TOOLS_RAGD_H

#include "api/api.h"

#define RAGD_EXIT_OK 0
#define RAGD_EXIT_FAILED 1
#define RAGD_EXIT_USAGE 2

typedef struct ragd_config { // strings owned: ragd_config_free
  char *data;
  char *backup_dir; // NULL: none
  char *config_file;
  rag_server_options server; // .listen is not used: see listen
  char *listen;
  char *tls_certificate_file, *tls_key_file, *audit_log; // NULL: none
  rag_audit_options audit;                               // .path is not used: see audit_log
  uint32_t slow_query_ms;
  rag_store_options store;
  rag_kbs_options kbs;
  uint32_t job_threads;
  uint32_t drain_timeout_s;
  uint32_t log_level, log_format;
  bool allow_test_mutants;
} ragd_config;

RAG_NODISCARD rag_status ragd_config_init(ragd_config *config, rag_error *err); // the defaults
void ragd_config_free(ragd_config *config);
// `serve`'s arguments, argv[0] being the first after the word. The file of --config is read first, so that the command
// line wins over it. RAG_INVALID_ARGUMENT. *out_help: --help was among them; nothing else was looked at.
RAG_NODISCARD rag_status ragd_config_arguments(ragd_config *config, int argc, char **argv, bool *out_help,
                                               rag_error *err);
// "name = value" lines. RAG_INVALID_ARGUMENT naming file and line.
RAG_NODISCARD rag_status ragd_config_read(ragd_config *config, const char *path, rag_error *err);
// One line of help for each setting, with its default.
void ragd_config_help(rag_buf *out);

#endif
