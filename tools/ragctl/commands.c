// THE table of commands. Parsing, --help of each command and group, and the suggestions for misspelt names follow it.
#include "tools/ragctl/ctl.h"

#include <stdio.h>

// clang-format off
// (a command a paragraph reads better than a field a line)
#define BRANCH {"branch", 'b', "BRANCH", "the branch to write to [main]"}
#define MESSAGE {"message", 'm', "TEXT", "why: the commit's message"}
#define AUTHOR {"author", 0, "NAME", "who [$RAGD_AUTHOR, else the user's name]"}
#define PARENT {"expect-parent", 0, "REF", "fail when the branch has moved on since and both touched a document"}
#define AT {"at", 0, "REF", "the version: a branch, a tag, c42, main~3, main@2026-01-31T00:00:00Z [main]"}
#define NO_WAIT {"no-wait", 0, NULL, "leave the job running and print its number"}
#define YES {"yes", 'y', NULL, "do not ask"}
#define FROM {"from", 0, "BACKUPS", "a backup directory [the server's]"}
#define LIMIT {"limit", 'n', "N", "at most so many"}
#define FILTER {"filter", 'f', "JSON|@FILE", "only documents that pass, as in {\"must\": [{\"key\": \"lang\", \"match\": ...}]}"}
#define FILTER_HELP                                                                                                    \
  "A filter is a JSON object of must, should, must_not and min_should, lists of conditions on metadata and ids:\n"     \
  "  {\"must\": [{\"key\": \"lang\", \"match\": {\"value\": \"en\"}},\n"                                                \
  "            {\"key\": \"year\", \"range\": {\"gte\": 2020}}],\n"                                                     \
  "   \"must_not\": [{\"has_id\": [\"draft.md\"]}]}\n"                                                                 \
  "match takes value, any, except, text, text_any, phrase or prefix; other conditions are range, geo_radius,\n"        \
  "geo_bounding_box, geo_polygon, values_count, is_empty, is_null, has_id, nested, and filters again."
#define SETTINGS                                                                                                       \
  {"description", 0, "TEXT", "for people"},                                                                            \
  {"language", 0, "TAG", "of the texts, as in `en`"},                                                                  \
  {"chunking", 0, "METHOD", "structure (headings, paragraphs, sentences), whole or fixed"},                            \
  {"max-tokens", 0, "N", "longest chunk"},                                                                             \
  {"overlap-tokens", 0, "N", "shared by neighbouring chunks"},                                                         \
  {"engine", 0, "NAME", "index engine: auto, flat, graph, ivf, faiss"},                                                \
  {"factory", 0, "STRING", "FAISS's, of engine faiss, as in IVF1024,PQ48x4fs"},                                        \
  {"target-recall", 0, "R", "share of the true best that searches are to find [0.98]"},                                \
  {"memory-max", 0, "BYTES", "that the index may take"}

const ctl_command ctl_commands[] = {
    {"kb create", "NAME", "create a knowledge base",
     "With a model the text is embedded here; with --dimension instead, vectors come with the documents.",
     1, 1, true,
     {{"model", 0, "MODEL", "embedding model [hash-384]"},
      {"dimension", 0, "N", "of vectors that come from the client; then there is no model"},
      {"metric", 0, "METRIC", "cosine, ip or l2 [cosine]"},
      {"datatype", 0, "TYPE", "vectors are kept as float32, or rounded to bfloat16 in half the room [float32]"},
      SETTINGS},
     ctl_run_kb_create},
    {"kb list", "", "list knowledge bases", NULL, 0, 0, false, {LIMIT}, ctl_run_kb_list},
    {"kb show", "KB", "settings and sizes of a knowledge base", NULL, 1, 1, false, {{0}}, ctl_run_kb_show},
    {"kb update", "KB", "change settings", "New chunking applies to texts that are put from now on, another engine to what is sealed from now on: `ragctl index\n"
     "compact` builds all of it anew.",
     1, 1, false, {SETTINGS}, ctl_run_kb_update},
    {"kb delete", "KB", "delete a knowledge base and its whole history", NULL,
     1, 1, false, {YES, NO_WAIT}, ctl_run_kb_delete},
    {"kb export", "KB FILE|-", "write a knowledge base with its history to a file", NULL,
     2, 2, false, {{0}}, ctl_run_kb_export},
    {"kb import", "FILE|-", "create a knowledge base from an exported file", NULL,
     1, 1, true, {{"name", 0, "NAME", "instead of the exported one's"}}, ctl_run_kb_import},

    {"put", "KB PATH...", "put files, folders or NDJSON documents: one commit",
     "PATH is a text file, a folder (with what is below it), an NDJSON file (.ndjson, .jsonl: a document a line, with\n"
     "id, text, title, metadata, source_uri, ...) or - (NDJSON from standard input).\n"
     "\n"
     "A file's id is its path below the given folder, a Markdown file's title its first heading, and its source_uri\n"
     "the id after --source: so a folder that is moved as a whole is unchanged. Of folders, hidden files are left\n"
     "out, and so are, with a line that says it, empty files and what is not UTF-8 text. A document that did not\n"
     "change costs nothing.\n"
     "\n"
     "What fits one request (30 MiB) is one commit; more becomes several, and a line says so.",
     2, UINT32_MAX, false,
     {BRANCH, MESSAGE, AUTHOR, PARENT,
      {"prune", 0, "WHAT", "also remove what is not given: none, source (of the given sources), all [none]"},
      {"prefix", 0, "TEXT", "put before each id of a file"},
      {"source", 0, "URI", "put before each source_uri of a file, as in https://example.org/docs/"},
      {"ext", 0, "LIST", "of folders take files with these extensions alone, as in md,txt"}},
     ctl_run_put},
    {"sync", "KB FOLDER", "make a branch equal to a folder: put its files, remove the rest",
     "The same as `put KB FOLDER --prune all`.",
     2, 2, false,
     {BRANCH, MESSAGE, AUTHOR, PARENT,
      {"prefix", 0, "TEXT", "put before each id"},
      {"source", 0, "URI", "put before each source_uri"},
      {"ext", 0, "LIST", "take files with these extensions alone, as in md,txt"}},
     ctl_run_sync},
    {"import", "KB FILE|-", "stream any number of NDJSON documents, in commits of a batch each",
     "For loads that no single request can hold. An import that breaks off keeps the commits that it made; sent\n"
     "again, what is there already is unchanged and costs nothing.",
     2, 2, false, {BRANCH, MESSAGE, AUTHOR, {"batch", 0, "N", "documents in one commit"}}, ctl_run_import},
    {"get", "KB ID", "print a document", NULL,
     2, 2, false, {AT, {"text", 0, NULL, "only the text, as it is"}}, ctl_run_get},
    {"ls", "KB", "list the documents of a version", FILTER_HELP, 1, 1, false, {AT, FILTER, LIMIT}, ctl_run_ls},
    {"rm", "KB [ID...]", "delete documents, by id or by --filter: one commit",
     "Older versions keep them; see `ragctl purge` to erase.\n\n" FILTER_HELP,
     1, UINT32_MAX, false, {FILTER, BRANCH, MESSAGE, AUTHOR, PARENT}, ctl_run_rm},
    {"patch", "KB ID JSON|@FILE", "change a document's metadata; nothing is embedded again",
     "JSON is a merge patch (RFC 7386): {\"lang\": \"en\", \"draft\": null} sets lang and removes draft.",
     3, 3, false, {BRANCH, MESSAGE, AUTHOR, PARENT}, ctl_run_patch},
    {"purge", "KB ID...", "erase documents from every version, with a receipt", NULL,
     2, UINT32_MAX, false, {YES, NO_WAIT}, ctl_run_purge},

    {"search", "KB QUERY...", "search a version by words and by meaning",
     "Several words need no quotes. What stands in double quotes within the query is a phrase; +word must be there,\n"
     "-word must not, and word* stands for every word that begins so:\n"
     "  ragctl search docs 'install \"package manager\" +debian -windows'\n"
     "\n"
     "With --vector a JSON array of numbers gives the meaning; a query beside it gives the words.\n"
     "On a terminal the words that matched are bold.\n"
     "\n" FILTER_HELP,
     1, UINT32_MAX, false,
     {AT,
      {"k", 'k', "N", "hits [10]"},
      {"offset", 0, "N", "skip the first N"},
      {"min-score", 0, "X", "leave out what scores lower"},
      {"mode", 0, "MODE", "hybrid (words and meaning), vector or lexical [the best that there is]"},
      FILTER,
      {"language", 0, "TAG", "of the query's words, as in `en` [the knowledge base's]"},
      {"per-document", 0, "N", "at most N chunks of one document"},
      {"mmr", 0, "X", "diverse hits: 0 is diversity alone, 1 relevance alone"},
      {"fusion", 0, "METHOD", "of hybrid: rrf (by rank) or weighted (by score) [what suits the model]"},
      {"exact", 0, NULL, "score everything: equal requests give equal bits"},
      {"include", 0, "LIST", "of text, metadata, vector, scores, highlights, plan [text,metadata,scores]"},
      {"highlight", 0, NULL, "mark the words that matched; not on a terminal: **so**"},
      {"plan", 0, NULL, "say how it was answered, with numbers"},
      {"min-commit", 0, "COMMIT", "answer at least as new as this commit"},
      {"timeout-ms", 0, "N", "how long to wait for --min-commit"},
      {"vector", 0, "JSON", "search by this vector"},
      {"lines", 0, "N", "lines of text to show for each hit [3]"}},
     ctl_run_search},
    {"facets", "KB FIELD...", "the values of metadata fields, with the number of documents that have each",
     "FIELD is a path, as in filters: lang, author.name, tags[].\n\n" FILTER_HELP,
     2, UINT32_MAX, false,
     {AT, FILTER, {"limit", 'n', "N", "values of each field [10]"}},
     ctl_run_facets},

    {"bench", "KB", "recall and latency of vector search on your own data, and the setting for a target recall",
     "Asks each query exactly, then with every setting that the index has (ef, nprobe, target_recall), several times in\n"
     "turns, and draws recall over latency. Nothing is written to the knowledge base.\n"
     "\n"
     "--queries is a file with a text, {\"query\": \"...\"} or {\"vector\": [...]} on each line, - for standard input;\n"
     "without it titles or first sentences of the knowledge base's own documents are asked for, or, where vectors come\n"
     "from the client, their vectors. Queries of real users tell more.\n"
     "\n"
     "A hit counts as found where its score is not below that of the k-th exact hit. Latency is the vector search's, on\n"
     "the server, and of each query the best of the rounds: how fast it is when nothing else goes on.\n"
     "\n" FILTER_HELP,
     1, 1, false,
     {{"queries", 'q', "FILE|-", "what to ask [a sample of the documents]"},
      {"count", 'n', "N", "queries [200; all of --queries]"},
      {"k", 'k', "N", "hits of each [10]"},
      AT, FILTER,
      {"target-recall", 0, "R", "the recall that a setting is wanted for [0.98]"},
      {"rounds", 0, "N", "measure each query so many times [3]"},
      {"svg", 0, "FILE", "draw the curve into FILE, too"}},
     ctl_run_bench},

    {"log", "KB [REF]", "the commits of a branch, newest first", NULL,
     1, 2, false, {{"oneline", 0, NULL, "a line for each commit"}, LIMIT}, ctl_run_log},
    {"show", "KB [REF]", "a commit and what it changed", NULL, 1, 2, false, {{0}}, ctl_run_show},
    {"diff", "KB FROM [TO]", "what differs between two versions", "TO is main when it is not given.",
     2, 3, false,
     {{"text", 0, NULL, "with unified diffs of the texts"},
      {"stat", 0, NULL, "counts alone"}},
     ctl_run_diff},
    {"branch list", "KB", "list branches", NULL, 1, 1, false, {{0}}, ctl_run_branch_list},
    {"branch create", "KB NAME [FROM]", "create a branch", "FROM is any ref, and main when it is not given.",
     2, 3, false, {{0}}, ctl_run_branch_create},
    {"branch delete", "KB NAME", "delete a branch", NULL, 2, 2, false, {{0}}, ctl_run_branch_delete},
    {"tag list", "KB", "list tags", NULL, 1, 1, false, {{0}}, ctl_run_tag_list},
    {"tag create", "KB NAME [FROM]", "give a version a fixed name", "FROM is any ref, and main when it is not given.",
     2, 3, false, {{0}}, ctl_run_tag_create},
    {"tag delete", "KB NAME", "delete a tag", NULL, 2, 2, false, {{0}}, ctl_run_tag_delete},
    {"merge", "KB FROM", "merge a version into a branch",
     "Documents that both sides changed since they parted are conflicts: with the strategy fail they are listed and\n"
     "nothing is merged; with ours the branch's version of them is kept, with theirs FROM's is taken.",
     2, 2, false,
     {{"into", 0, "BRANCH", "the branch to merge into [main]"},
      {"strategy", 0, "NAME", "fail, ours or theirs [fail]"},
      MESSAGE, AUTHOR},
     ctl_run_merge},
    {"rollback", "KB REF", "a new commit with the content of an older version", "History is kept.",
     2, 2, false, {BRANCH, MESSAGE, AUTHOR}, ctl_run_rollback},
    {"gc", "KB", "drop old versions and what only they need",
     "Heads, tags and merge bases are always kept. Give at least one of the two; whichever keeps more counts.",
     1, 1, false,
     {{"keep-commits", 0, "N", "newest commits of each branch"},
      {"keep-days", 0, "N", "commits so young"},
      NO_WAIT},
     ctl_run_gc},

    {"index show", "KB", "where the vectors are: the tail and the sealed segments", NULL, 1, 1, false, {{0}},
     ctl_run_index_show},
    {"index compact", "KB", "make one segment of all vectors",
     "One of those that a head has, and one of the others. Not needed for searches to be right, nor, in the long run, to\n"
     "be fast: segments are merged by themselves.",
     1, 1, false, {NO_WAIT}, ctl_run_index_compact},

    {"jobs list", "", "list jobs, newest first", NULL, 0, 0, false, {LIMIT}, ctl_run_jobs_list},
    {"jobs show", "ID", "a job's state", NULL, 1, 1, false, {{0}}, ctl_run_jobs_show},
    {"jobs pause", "ID", "pause a job", NULL, 1, 1, false, {{0}}, ctl_run_jobs_pause},
    {"jobs resume", "ID", "resume a paused job", NULL, 1, 1, false, {{0}}, ctl_run_jobs_resume},
    {"jobs cancel", "ID", "cancel a job", NULL, 1, 1, false, {{0}}, ctl_run_jobs_cancel},
    {"jobs wait", "ID", "wait until a job has ended", "Without a server, it is run here.",
     1, 1, false, {{0}}, ctl_run_jobs_wait},
    {"key create", "NAME", "create an API key; its secret is printed once",
     "Once a key exists, every request needs one. The first must be an admin's.",
     1, 1, true,
     {{"role", 0, "ROLE", "read, write or admin [read]"},
      {"kb", 0, "KB", "only for this knowledge base; may be given more than once"},
      {"feature-view", 0, "VIEW", "only for this feature view; may be given more than once"},
      {"expires", 0, "TIME", "RFC 3339, as in 2027-01-31T00:00:00Z [never]"},
      {"rate", 0, "N", "requests a second [no limit]"},
      {"burst", 0, "N", "requests at once after a pause [as many as a second's]"},
      {"bytes-per-day", 0, "BYTES", "that it may write on one day, UTC [no limit]"}},
     ctl_run_key_create},
    {"key rotate", "ID", "give an API key a new secret; it is printed once",
     "The old secret is taken for --grace seconds more, so that its users can change over one by one.", 1, 1, false,
     {{"grace", 0, "SECONDS", "for the old secret, at most 30 days [0]"},
      {"expires", 0, "TIME", "a new end of the key, RFC 3339 [as before]"}},
     ctl_run_key_rotate},
    {"key list", "", "list API keys, without their secrets", NULL, 0, 0, false, {{0}}, ctl_run_key_list},
    {"key delete", "ID", "delete an API key", NULL, 1, 1, false, {{0}}, ctl_run_key_delete},
    {"status", "", "the server: version, sizes, whether it takes writes", NULL, 0, 0, false, {{0}}, ctl_run_status},

    {"backup create", "", "back the store up, while it is in use",
     "Copies what the backup directory does not have yet. A server's backups go to its --backup-dir; without a server,\n"
     "`ragctl --data DIR backup create --to BACKUPS` makes one here.",
     0, 0, false,
     {{"to", 0, "BACKUPS", "the backup directory, where no server is asked"},
      {"keep", 0, "N", "then remove all but the newest N"},
      NO_WAIT},
     ctl_run_backup_create},
    {"backup list", "", "list backups, newest first", NULL, 0, 0, false, {FROM}, ctl_run_backup_list},
    {"backup verify", "[ID]", "read every byte of a backup and check it", "Names each damaged file.",
     0, 1, false, {FROM, NO_WAIT}, ctl_run_backup_verify},
    {"backup delete", "ID", "delete a backup", NULL, 1, 1, false, {FROM, YES}, ctl_run_backup_delete},
    {"restore", "", "restore a backup as a new data directory",
     "NEWDIR must not exist, or be empty. It is there whole or not at all: every byte is checked, and the store is\n"
     "opened once, before it gets its name.",
     0, 0, false,
     {{"from", 0, "BACKUPS", "the backup directory"},
      {"to", 0, "NEWDIR", "the data directory to make"},
      {"id", 0, "ID", "which backup [the newest]"}},
     ctl_run_restore},
    {"check", "", "read and check every row: checksums, records, references, counts",
     "Exit status 1 and a line for each where something is wrong. Rows that nothing needs are notes.",
     0, 0, false, {NO_WAIT}, ctl_run_check},
};
// clang-format on
const size_t ctl_command_count = RAG_COUNT_OF(ctl_commands);

static const char globals[] =
    "      --url URL              the server [$RAGD_URL, else " CTL_URL_DEFAULT "]\n"
    "      --data DIR             a data directory: through the server that holds it, else in process [$RAGD_DATA]\n"
    "      --api-key-file FILE    a file that holds the API key [$RAGD_API_KEY_FILE]\n"
    "      --ca-file FILE         authorities that an https server may be certified by [$RAGD_CA_FILE]\n"
    "      --json                 print the server's answer, unchanged\n"
    "  -h, --help                 this text\n";

static void print_option(const ctl_option *option) {
  char left[64];
  snprintf(left, sizeof(left), "--%s%s%s", option->name, option->argument ? " " : "",
           option->argument ? option->argument : "");
  if (option->letter) printf("  -%c, %-22s %s\n", option->letter, left, option->help);
  else printf("      %-22s %s\n", left, option->help);
}

void ctl_print_help(const ctl_command *command) {
  printf("usage: ragctl [--url URL | --data DIR] [--json] %s%s%s%s\n\n", command->name, *command->arguments ? " " : "",
         command->arguments, command->options[0].name ? " [options]" : "");
  printf("%c%s.\n", command->summary[0] - 'a' + 'A', command->summary + 1);
  if (command->details) printf("\n%s\n", command->details);
  if (command->options[0].name) {
    puts("\nOptions, with [defaults]");
    for (const ctl_option *o = command->options; o < command->options + CTL_OPTIONS_MAX && o->name; o++)
      print_option(o);
  }
  printf("\nOptions of every command\n%s", globals);
}

static void print_summary(const ctl_command *command) {
  char left[64];
  snprintf(left, sizeof(left), "%s %s", command->name, command->arguments);
  printf("  %-30s %s\n", left, command->summary);
}

void ctl_print_group(const char *group) {
  size_t size = strlen(group);
  printf("usage: ragctl [options] %s COMMAND\n\n", group);
  for (size_t i = 0; i < ctl_command_count; i++)
    if (strncmp(ctl_commands[i].name, group, size) == 0 && ctl_commands[i].name[size] == ' ')
      print_summary(&ctl_commands[i]);
  printf("\n`ragctl %s COMMAND --help` says more.\n", group);
}

void ctl_print_all(void) {
  puts("ragctl " RAGD_VERSION ": versioned knowledge bases, from the command line.\n\n"
       "usage: ragctl [--url URL | --data DIR] [--api-key-file FILE] [--json] COMMAND\n\n"
       "Commands");
  for (size_t i = 0; i < ctl_command_count; i++) print_summary(&ctl_commands[i]);
  printf("\nOptions\n%s      --version              the version\n", globals);
  puts("\nA REF names a version: a branch, a tag, a commit (c42), main~3, main@2026-01-31T00:00:00Z.\n"
       "Exit status: 0 done, 1 failed, 2 wrong usage, 3 a gate or an objective does not hold.\n"
       "`ragctl COMMAND --help` says more about a command.");
}
