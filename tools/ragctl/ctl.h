// What the files of ragctl share: the command table's types, the client, and what is printed for people.
#ifndef RAGD_TOOLS_CTL_H
#define RAGD_TOOLS_CTL_H

#include "api/api.h"
#include "base/json.h"

#define CTL_EXIT_OK 0
#define CTL_EXIT_FAILED 1
#define CTL_EXIT_USAGE 2
#define CTL_EXIT_GATE 3 // a gate or an objective does not hold
#define CTL_URL_DEFAULT "http://127.0.0.1:7700"
// Bodies that we send are kept below the server's limit of 32 MiB, with room for the fields around the documents.
#define CTL_BODY_BYTES_MAX (30u << 20)

// ---------------------------------------------------------------------------------------------- the client

// One way to the dispatcher: over HTTP (client_http.c) or in process (client_local.c). Both take the same requests and
// give the same bytes, so commands do not know which they have.
typedef struct ctl_client ctl_client;
typedef struct ctl_stream { // a call whose body or answer has any length
  const char *method;       // "POST"
  const char *target;       // "/v1/kbs/docs/export"
  const char *content_type; // of the body, or NULL
  rag_read_fn read;         // the body, or NULL
  void *read_ctx;
  rag_write_fn write; // of a 200 answer's body; another's goes to *out
  void *write_ctx;
} ctl_stream;
typedef struct ctl_client_ops {
  // Fails only when there is no answer; *out_status and body are the answer's.
  rag_status (*call)(ctl_client *client, const char *rpc, rag_slice body, int *out_status, rag_buf *answer,
                     rag_error *err);
  rag_status (*stream)(ctl_client *client, const ctl_stream *stream, int *out_status, rag_buf *answer, rag_error *err);
  // Called once a second or so, and at the end, while a job runs; returns when it has ended.
  rag_status (*wait_job)(ctl_client *client, uint64_t job, rag_error *err);
  void (*close)(ctl_client *client);
} ctl_client_ops;
struct ctl_client {
  const ctl_client_ops *ops;
};
// ca_file: PEM of the authorities that an https server's certificate may come from; NULL: the system's.
RAG_NODISCARD rag_status ctl_client_http(const char *url, const char *api_key, const char *ca_file, ctl_client **out,
                                         rag_error *err);
// backup_dir: where backups of this run go, or NULL.
RAG_NODISCARD rag_status ctl_client_local(const char *data_dir, const char *backup_dir, bool create, ctl_client **out,
                                          rag_error *err);
bool ctl_http_answers(const char *url); // GET /healthz, within a second or so

// ---------------------------------------------------------------------------------------------- commands

typedef struct ctl_option {
  const char *name;     // "at"
  char letter;          // 'm', or 0
  const char *argument; // "REF"; NULL: a switch
  const char *help;
} ctl_option;
#define CTL_OPTIONS_MAX 24
#define CTL_VALUES_MAX 256 // options given in one command line

typedef struct ctl_session ctl_session; // one run of the program
typedef struct ctl_command {
  const char *name;      // "kb create"
  const char *arguments; // "NAME"
  const char *summary;   // one line
  const char *details;   // more for --help, or NULL
  unsigned args_min, args_max;
  bool creates; // may make a data directory (--data)
  ctl_option options[CTL_OPTIONS_MAX];
  int (*run)(ctl_session *ctl);
} ctl_command;
extern const ctl_command ctl_commands[];
extern const size_t ctl_command_count;

typedef struct ctl_value {
  const ctl_option *option;
  const char *text;
} ctl_value;
struct ctl_session {
  const ctl_command *command;
  const char *url, *data, *api_key_file, *ca_file; // NULL: not given
  const char *backup_dir;                          // of a command that makes backups in process; set before ctl_connect
  bool json, help;
  const char **args;
  unsigned arg_count;
  ctl_value values[CTL_VALUES_MAX];
  unsigned value_count;

  ctl_client *client; // ctl_connect
  rag_json_parser *parser;
  rag_buf answer; // of the last call; what ctl_call gives points into it
  rag_error err;
};

// The last value given for an option of the command, or NULL.
const char *ctl_option_text(const ctl_session *ctl, const char *name);
bool ctl_option_given(const ctl_session *ctl, const char *name);
// The i-th value of an option that may be given more than once; NULL past the last.
const char *ctl_option_nth(const ctl_session *ctl, const char *name, unsigned i);
// False: printed what is wrong. *out keeps its value when the option was not given.
bool ctl_option_number(const ctl_session *ctl, const char *name, uint64_t max, uint64_t *out);
bool ctl_option_share(const ctl_session *ctl, const char *name, double *out);       // over 0, at most 1
int ctl_usage_error(const ctl_session *ctl, const char *fmt, ...) RAG_PRINTF(2, 3); // prints; returns CTL_EXIT_USAGE
// The client, made at the first use, so that wrong usage is found before anything is opened. NULL: see ctl->err.
ctl_client *ctl_connect(ctl_session *ctl);
int ctl_fail(const ctl_session *ctl); // prints ctl->err; returns CTL_EXIT_FAILED
void ctl_print_help(const ctl_command *command);
void ctl_print_group(const char *group); // the commands below "kb"
void ctl_print_all(void);

// ---------------------------------------------------------------------------------------------- requests

// A request body under construction: ctl_body(), fields, then ctl_call closes it.
void ctl_body_begin(rag_buf *body);
void ctl_body_string(rag_buf *body, const char *name, const char *value); // NULL: left out
void ctl_body_uint(rag_buf *body, const char *name, uint64_t value);
void ctl_body_bool(rag_buf *body, const char *name, bool value);
void ctl_body_raw(rag_buf *body, const char *name, rag_slice json);
void ctl_body_name(rag_buf *body, const char *name); // `"name":`, with the comma before it
// The option's value as a string field of the same meaning; left out when it was not given.
void ctl_body_option(rag_buf *body, const ctl_session *ctl, const char *option, const char *field);
// --filter JSON|@FILE as the field `filter`; left out when it was not given. An exit status: what is wrong was printed.
int ctl_body_filter(rag_buf *body, ctl_session *ctl);
// Closes and sends the body. 0: *out is the answer (it lives until the next call). Else the error was printed and it is
// the exit status. With --json the caller prints the answer by ctl_print_json.
int ctl_call(ctl_session *ctl, const char *rpc, rag_buf *body, rag_json *out);
// The same, without printing errors: *out_status is the HTTP status (0: no answer, see ctl->err).
bool ctl_try(ctl_session *ctl, const char *rpc, rag_buf *body, int *out_status, rag_json *out);
int ctl_print_json(const ctl_session *ctl); // the last answer, unchanged, with a newline
// Prints an error answer (the last one).
int ctl_fail_answer(ctl_session *ctl, int http_status);
// A stream; ctl->answer gets an answer that is not 200. RAG_OK: *out_status is set.
rag_status ctl_stream_call(ctl_session *ctl, const ctl_stream *stream, int *out_status);
// Calls a list rpc page by page and hands each element of `plural` to `each`. With --json: one call, printed.
// limit 0: all. Returns an exit status.
int ctl_list(ctl_session *ctl, const char *rpc, rag_buf *fields, const char *plural, uint64_t limit,
             void (*each)(void *ctx, rag_json element), void *ctx);
// Waits for a job with a progress line, unless --no-wait was given. Returns an exit status. *out: the job's record.
int ctl_finish_job(ctl_session *ctl, uint64_t job, rag_json *out);

// ---------------------------------------------------------------------------------------------- answers

rag_slice ctl_text(rag_json object, const char *name); // "" where absent
uint64_t ctl_uint(rag_json object, const char *name);
double ctl_double(rag_json object, const char *name);
bool ctl_bool(rag_json object, const char *name);
bool ctl_array(rag_json object, const char *name, rag_json *out);

// ---------------------------------------------------------------------------------------------- for people (output.c)

// Empty texts where stdout is no terminal, NO_COLOR is set, or TERM is dumb.
typedef struct ctl_colours {
  const char *bold, *dim, *red, *green, *yellow, *cyan, *off;
} ctl_colours;
extern ctl_colours ctl_colour;
void ctl_output_setup(void);
unsigned ctl_terminal_width(void); // of stdout; 100 where it is no terminal
// Prints untrusted text: control characters become visible, so a document cannot drive the terminal.
void ctl_print_text(rag_slice text, bool newlines);
unsigned ctl_columns(rag_slice text);             // how wide a terminal shows it
size_t ctl_cut(rag_slice text, unsigned columns); // bytes that fit

typedef struct ctl_table ctl_table;
// A table whose widths follow the data. Headings starting with '>' are right-aligned. Rows are kept until printed.
ctl_table *ctl_table_create(unsigned columns, const char *const *headings);
void ctl_table_cell(ctl_table *table, const char *fmt, ...) RAG_PRINTF(2, 3);
void ctl_table_slice(ctl_table *table, rag_slice text);
size_t ctl_table_rows(const ctl_table *table);
void ctl_table_print(const ctl_table *table);
void ctl_table_destroy(ctl_table *table);

void ctl_time_local(rag_slice rfc3339, char out[64]); // "2026-01-31 10:00:00 +0100"; "-" where empty
void ctl_bytes(uint64_t bytes, char out[24]);         // "1.4 GiB"
void ctl_count(uint64_t count, char out[32]);         // "1,234,567"
void ctl_duration(double seconds, char out[24]);      // "1 min 20 s"

// Progress on stderr: a bar that redraws itself on a terminal, a plain line every few seconds elsewhere. Quiet for work
// that is done within half a second.
typedef struct ctl_progress {
  const char *what;
  bool terminal, shown, bytes;
  uint64_t started_ns, printed_ns;
} ctl_progress;
void ctl_progress_begin(ctl_progress *progress, const char *what, bool bytes);
void ctl_progress_show(ctl_progress *progress, uint64_t done, uint64_t total, const char *unit, const char *note);
void ctl_progress_end(ctl_progress *progress);

// ---------------------------------------------------------------------------------------------- files (files.c)

typedef struct ctl_documents { // elements of "documents", as JSON text
  rag_buf text;                // one after the other
  size_t *ends;
  size_t count, capacity;
  rag_strings ids;
  rag_strings sources; // of each, "" where none
  size_t skipped;
} ctl_documents;
void ctl_documents_free(ctl_documents *documents);
typedef struct ctl_read_options {
  const char *prefix;     // before every id
  const char *extensions; // "md,txt"; NULL: all
  const char *source;     // before every source_uri
} ctl_read_options;
// A folder (recursively), a text file, an NDJSON file (.ndjson, .jsonl) or "-" (NDJSON on stdin).
RAG_NODISCARD rag_status ctl_read_path(const char *path, const ctl_read_options *options, rag_json_parser *parser,
                                       ctl_documents *out, rag_error *err);

// ---------------------------------------------------------------------------------------------- the commands

#define CTL_RUN(name) int ctl_run_##name(ctl_session *ctl)
CTL_RUN(kb_create);
CTL_RUN(kb_list);
CTL_RUN(kb_show);
CTL_RUN(kb_update);
CTL_RUN(kb_delete);
CTL_RUN(kb_export);
CTL_RUN(kb_import);
CTL_RUN(put);
CTL_RUN(import);
CTL_RUN(sync);
CTL_RUN(get);
CTL_RUN(ls);
CTL_RUN(rm);
CTL_RUN(patch);
CTL_RUN(purge);
CTL_RUN(search);
CTL_RUN(facets);
CTL_RUN(bench);
CTL_RUN(log);
CTL_RUN(show);
CTL_RUN(branch_list);
CTL_RUN(branch_create);
CTL_RUN(branch_delete);
CTL_RUN(tag_list);
CTL_RUN(tag_create);
CTL_RUN(tag_delete);
CTL_RUN(diff);
CTL_RUN(merge);
CTL_RUN(rollback);
CTL_RUN(gc);
CTL_RUN(index_show);
CTL_RUN(index_compact);
CTL_RUN(jobs_list);
CTL_RUN(jobs_show);
CTL_RUN(jobs_pause);
CTL_RUN(jobs_resume);
CTL_RUN(jobs_cancel);
CTL_RUN(jobs_wait);
CTL_RUN(key_create);
CTL_RUN(key_list);
CTL_RUN(key_rotate);
CTL_RUN(key_delete);
CTL_RUN(status);
CTL_RUN(backup_create);
CTL_RUN(backup_list);
CTL_RUN(backup_verify);
CTL_RUN(backup_delete);
CTL_RUN(restore);
CTL_RUN(check);

// Asks before what cannot be undone, on a terminal and without --yes. False: the answer was no.
bool ctl_confirm(const ctl_session *ctl, const char *fmt, ...) RAG_PRINTF(2, 3);
// The fields of every write: branch, message, author, expect_parent.
void ctl_body_write(rag_buf *body, const ctl_session *ctl);
// What a commit did, in a line: "c5 on main: 2 added, 1 changed, 0 removed; 10 unchanged".
void ctl_print_commit_result(const ctl_session *ctl, rag_json result);

#endif
