// Goal: whatever byte of whatever file goes wrong, ragd says so or answers as before. Never a wrong answer, never a
// crash, never a commit less than was acknowledged.
// Method: one store is built (versions, merges, deletions, large texts, blobs, several table files) and kept in two
// states: closed in good order, and killed with commits in its log; beside it two backups and an export. Each round takes
// a fresh copy, picks a file and a place at random, flips a bit there (or cuts the file off there, or removes it), and
// asks everything again in a child process: the check, every document of every version, searches, logs, diffs; then its
// jobs run, which seal what was lost of the index, and the searches are asked again; of backups: verify, then restore and
// ask; of the export: import and ask. The answers are compared with those of the untouched store, one by one.
//
// A round's outcome
//   detected  the damage was named (status data_loss) by the opening, by the answers that it concerns, by the check, by
//             verify or by the import; every other answer was right
//   harmless  every answer is right and nothing complains. Of a segment of the index that is not enough: whatever was done
//             to it, the check must name the file
//   torn      the newest log of a killed store ends sooner: no one can tell that from a power cut (store/seal.c). The
//             store must open, and be sound by its check
//   WRONG, CRASH, UNNAMED (an error that does not name the damage): failures
//
// usage: corruption [--rounds N] [--seed S] [--dir WORK] [--log FILE] [--only KIND] [--mutant]
//        corruption --ask DIR MODE OUT       (the child)
// --only: damage to files of one kind alone ("segment", "table", "log", ...) of the closed store.
#include "api/api.h"
#include "base/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 512
#define FILES_MAX 4096
#define CHILD_SECONDS 60
#define DOCUMENTS 60u
#define SEAL_ROWS 24u // so that each knowledge base has segments: scanned ones, and with a graph
#define GRAPH_ROWS 64u
#define EXIT_REFUSED 10 // the store, the backup or the export was refused: the reason is in OUT
#define EXIT_ASKED 0

static void fatal(const char *what) {
  fprintf(stderr, "corruption: %s: %s\n", what, strerror(errno));
  exit(2);
}

static uint64_t random_state;
static uint64_t next_random(uint64_t bound) { // splitmix64
  uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return (z ^ (z >> 31)) % bound;
}

// ---------------------------------------------------------------------------------------------- asking

static rag_status open_service(const char *dir, const char *backups, bool mutant, rag_api **out, rag_error *err) {
  rag_api_options options = rag_api_options_default();
  options.data_dir = dir;
  options.backup_dir = backups;
  options.job_threads = 0;
  options.kbs.load_at_open = false; // so that the check sees what the loading would put right
  options.kbs.seal_rows = SEAL_ROWS;
  options.kbs.graph_rows = GRAPH_ROWS;
  options.store.cache_bytes = 8u << 20;
  options.store.write_buffer_bytes = 8u << 20;
  options.store.mutant_unchecked = mutant;
  return rag_api_open(&options, out, err);
}

// Takes a value out of a body: what differs between two right answers.
static void leave_out(char *text, const char *name, const char *end) {
  char *at = text ? strstr(text, name) : NULL;
  if (at) memmove(at, at + strcspn(at, end), strlen(at + strcspn(at, end)) + 1);
}

// One line of OUT for each answer: status, then the body without what time changes, and without the name of the index's
// build, which is another one when a segment was made again. A tab ends the question's name.
static void ask(rag_api *api, FILE *out, const char *method, const char *target, const char *body) {
  rag_arena *arena = rag_arena_create(0);
  rag_api_request request = {.method = method,
                             .target = target,
                             .content_type = body ? "application/json" : NULL,
                             .body = rag_slice_str(body),
                             .trusted = true};
  rag_api_response answer;
  rag_api_handle(api, &request, arena, &answer);
  char *text = rag_arena_strndup(arena, answer.body.data, answer.body.size);
  leave_out(text, "\"took_us\":", ",}");
  leave_out(text, "\"index_build\":", ",}");
  fprintf(out, "%s %s %s\t%d %s\n", method, target, body ? body : "", answer.http_status, text ? text : "");
  rag_arena_destroy(arena);
}

static const char *const refs[] = {"main", "v1", "side", "main~2", "c3"};

static void ask_searches(rag_api *api, FILE *out, const char *at) {
  char body[256];
  for (int q = 0; q < 4; q++) {
    snprintf(body, sizeof(body),
             "{\"query\":\"word%d number %d\",\"at\":\"%s\",\"k\":50,\"exact\":true,\"mode\":\"vector\","
             "\"include\":[\"text\",\"metadata\",\"vector\",\"scores\"]}",
             q * 7, q, at);
    ask(api, out, "POST", "/v1/kbs/docs/search", body);
  }
}

static void ask_everything(rag_api *api, FILE *out) {
  char target[256];
  ask(api, out, "GET", "/v1/kbs", NULL);
  for (int kb = 0; kb < 2; kb++) {
    const char *name = kb ? "other" : "docs";
    snprintf(target, sizeof(target), "/v1/kbs/%s/branches", name);
    ask(api, out, "GET", target, NULL);
    snprintf(target, sizeof(target), "/v1/kbs/%s/tags", name);
    ask(api, out, "GET", target, NULL);
    snprintf(target, sizeof(target), "/v1/kbs/%s/commits?limit=1000", name);
    ask(api, out, "GET", target, NULL);
  }
  for (size_t r = 0; r < RAG_COUNT_OF(refs); r++) {
    snprintf(target, sizeof(target), "/v1/kbs/docs/documents?at=%s&text=true&limit=1000", refs[r]);
    ask(api, out, "GET", target, NULL);
    snprintf(target, sizeof(target), "/v1/kbs/docs/diff?from=c2&to=%s&text=true", refs[r]);
    ask(api, out, "GET", target, NULL);
    ask_searches(api, out, refs[r]);
  }
  for (unsigned i = 0; i < DOCUMENTS; i += 7) {
    snprintf(target, sizeof(target), "/v1/kbs/docs/documents/d%u", i);
    ask(api, out, "GET", target, NULL);
  }
  ask(api, out, "GET", "/v1/kbs/other/documents?text=true&limit=1000", NULL);
  ask(api, out, "GET", "/v1/keys", NULL);
}

static void on_finding(void *ctx, rag_check_level level, const char *kb, const char *text) {
  fprintf(ctx, "%s %s: %s\n", level == RAG_CHECK_ERROR ? "error" : "note", kb, text);
}

static int refuse(FILE *out, const char *what, rag_status status, const rag_error *err) {
  fprintf(out, "refused\t%s %s: %s\n", what, rag_status_name(status), err->message);
  fclose(out);
  return EXIT_REFUSED;
}

static rag_status read_fd(void *ctx, void *data, size_t size, size_t *out_size, rag_error *err) {
  ssize_t got = read(*(int *)ctx, data, size);
  if (got < 0) return rag_os_fail(err, "read", "the export", errno);
  *out_size = (size_t)got;
  return RAG_OK;
}

static rag_status write_fd(void *ctx, const void *data, size_t size, rag_error *err) {
  return rag_os_write_all(*(int *)ctx, data, size, err);
}

static rag_status look_at_index(rag_api *api, const char *name, rag_kb_index *out, rag_error *err) {
  rag_kb *kb = NULL;
  RAG_TRY(rag_kbs_get(rag_api_kbs(api), rag_slice_str(name), &kb, err));
  rag_status status = rag_kb_index_info(kb, out, err); // loads it
  rag_ref_drop(kb);
  return status;
}

// Runs what waits, as a server would, and says whether all is sealed that is to be.
static void seal_again(rag_api *api, FILE *out) {
  static const char *const names[] = {"docs", "other"};
  for (int after = 0; after < 2; after++) {
    for (size_t i = 0; i < RAG_COUNT_OF(names); i++) {
      rag_error err = {0};
      rag_kb_index info = {0};
      rag_status status = look_at_index(api, names[i], &info, &err);
      bool sealed = info.count > 0 && info.tail_rows < SEAL_ROWS;
      if (after && status == RAG_OK)
        fprintf(out, "index of %s\t%llu rows, %s\n", names[i], (unsigned long long)info.rows,
                sealed ? "sealed" : "not sealed");
      else if (after) fprintf(out, "index of %s\t\"%s\": %s\n", names[i], rag_status_name(status), err.message);
      rag_kb_index_free(&info);
    }
    rag_error err = {0};
    if (!after && rag_jobs_run_foreground(rag_api_jobs(api), NULL, NULL, &err) != RAG_OK)
      fprintf(out, "jobs\t%s: %s\n", rag_status_name(err.status), err.message);
  }
  for (size_t r = 0; r < RAG_COUNT_OF(refs); r++) ask_searches(api, out, refs[r]);
}

static int ask_store(const char *dir, bool mutant, FILE *out) {
  rag_api *api = NULL;
  rag_error err = {0};
  rag_check_options options = {.report = on_finding, .ctx = out};
  rag_check_result result;
  rag_status status = open_service(dir, NULL, mutant, &api, &err);
  if (status != RAG_OK) return refuse(out, "open", status, &err);
  status = rag_kbs_check(rag_api_kbs(api), &options, &result, &err);
  if (status == RAG_OK) fprintf(out, "check\t%llu errors\n", (unsigned long long)result.errors);
  else fprintf(out, "check\t%s: %s\n", rag_status_name(status), err.message);
  ask_everything(api, out);
  seal_again(api, out);
  rag_api_close(api);
  fclose(out);
  return EXIT_ASKED;
}

static int ask_backups(const char *dir, FILE *out) {
  rag_backup_info *infos = NULL;
  uint32_t count = 0;
  rag_error err = {0};
  char to[PATH_BYTES];
  rag_status first = RAG_OK;
  snprintf(to, sizeof(to), "%s/restored", dir);
  if (rag_backup_list(dir, &infos, &count, &err) != RAG_OK) return refuse(out, "list", err.status, &err);
  fprintf(out, "backups\t%u\n", count);
  for (uint32_t i = 0; i < count; i++) {
    rag_status status = rag_backup_verify(dir, infos[i].id, NULL, NULL, &err);
    if (status != RAG_OK) fprintf(out, "refused\tverify %s: %s\n", rag_status_name(status), err.message);
    if (first == RAG_OK) first = status;
  }
  rag_free(infos);
  // Whatever verify said: a restore succeeds only with the right store.
  rag_status status = rag_backup_restore(dir, 2, to, NULL, NULL, &err);
  if (status != RAG_OK) return refuse(out, "restore", status, &err);
  int code = ask_store(to, false, out);
  return first != RAG_OK && code == EXIT_ASKED ? EXIT_REFUSED : code;
}

static int ask_export(const char *path, FILE *out) {
  char dir[PATH_BYTES];
  rag_api *api = NULL;
  rag_kb *kb = NULL;
  rag_error err = {0};
  snprintf(dir, sizeof(dir), "%s.store", path);
  if (open_service(dir, NULL, false, &api, &err) != RAG_OK) return refuse(out, "new store", err.status, &err);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  rag_status status = rag_kbs_import(rag_api_kbs(api), (rag_slice){0}, read_fd, &fd, &kb, &err);
  close(fd);
  if (status != RAG_OK) {
    rag_api_close(api);
    return refuse(out, "import", status, &err);
  }
  rag_ref_drop(kb);
  ask_everything(api, out);
  rag_api_close(api);
  fclose(out);
  return EXIT_ASKED;
}

static int child_main(char **argv) {
  FILE *out = fopen(argv[4], "w");
  if (!out) return 3;
  alarm(CHILD_SECONDS);
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  rag_clock_set_for_test(INT64_C(1800000000000000));
  if (strcmp(argv[3], "backups") == 0) return ask_backups(argv[2], out);
  if (strcmp(argv[3], "export") == 0) return ask_export(argv[2], out);
  return ask_store(argv[2], strcmp(argv[3], "mutant") == 0, out);
}

// ---------------------------------------------------------------------------------------------- building

static void must(rag_api *api, const char *method, const char *target, const char *body) {
  rag_arena *arena = rag_arena_create(0);
  rag_api_request request = {.method = method,
                             .target = target,
                             .content_type = "application/json",
                             .body = rag_slice_str(body),
                             .trusted = true};
  rag_api_response answer;
  rag_api_handle(api, &request, arena, &answer);
  if (answer.http_status != 200) {
    fprintf(stderr, "corruption: %s %s: %.*s\n", method, target, (int)answer.body.size, answer.body.data);
    exit(2);
  }
  rag_arena_destroy(arena);
}

static void put_documents(rag_api *api, const char *kb, const char *branch, unsigned from, unsigned to, unsigned salt) {
  rag_buf body = {0};
  char target[64];
  rag_buf_printf(&body, "{\"branch\":\"%s\",\"message\":\"put %u\",\"documents\":[", branch, salt);
  for (unsigned i = from; i < to; i++) {
    rag_buf_printf(&body, "%s{\"id\":\"d%u\",\"title\":\"title %u\",\"metadata\":{\"n\":%u,\"salt\":%u},\"text\":\"",
                   i > from ? "," : "", i, i, i, salt);
    // A quarter are long enough for blob files; numbers from a mixer, so that they do not compress to nothing.
    uint64_t x = (uint64_t)i * 1000003 + salt;
    for (unsigned w = 0; w < (i % 4 ? 12u : 700u); w++) {
      x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
      rag_buf_printf(&body, "word%u number %u in%llx ", w % 40, i % 10, (unsigned long long)(x >> 40));
    }
    rag_buf_append_str(&body, ".\"}");
  }
  rag_buf_append_str(&body, "]}");
  rag_buf_append_char(&body, 0);
  if (body.failed) fatal("memory");
  snprintf(target, sizeof(target), "/v1/kbs/%s/documents", kb);
  must(api, "POST", target, body.data);
  rag_buf_free(&body);
}

static void first_history(rag_api *api) {
  must(api, "POST", "/v1/kbs", "{\"name\":\"docs\"}");
  must(api, "POST", "/v1/kbs", "{\"name\":\"other\",\"model\":\"hash-128\"}");
  put_documents(api, "docs", "main", 0, 40, 1);
  put_documents(api, "other", "main", 0, 10, 2);
  must(api, "POST", "/v1/kbs/docs/tags", "{\"name\":\"v1\"}");
  must(api, "POST", "/v1/kbs/docs/branches", "{\"name\":\"side\"}");
  put_documents(api, "docs", "side", 30, 50, 3);
}

static void second_history(rag_api *api) {
  must(api, "POST", "/v1/kbs/docs/documents", "{\"delete_ids\":[\"d3\",\"d4\"]}");
  must(api, "POST", "/v1/kbs/docs/merge", "{\"from\":\"side\",\"into\":\"main\"}");
  put_documents(api, "docs", "main", 10, 30, 4);
}

static void last_history(rag_api *api) { // stays in the log of the killed store
  must(api, "POST", "/v1/kbs/docs/rollback", "{\"to\":\"main~1\"}");
  for (unsigned i = 0; i < 12; i++) put_documents(api, "docs", "main", 3 * i, 3 * i + 6, 10 + i);
  put_documents(api, "docs", "main", 20, DOCUMENTS, 5);
  put_documents(api, "other", "main", 3, 12, 6);
}

static bool try_copy(const char *from, const char *to) {
  char command[3 * PATH_BYTES];
  snprintf(command, sizeof(command), "cp -a '%s' '%s' 2>/dev/null", from, to);
  if (rag_os_remove_tree(to, NULL) != RAG_OK) fatal(to);
  return system(command) == 0;
}

static void copy_tree(const char *from, const char *to) {
  if (!try_copy(from, to)) fatal("copy");
}

// Of a store that is open: again, where its background work has renamed or removed a file meanwhile.
static void copy_open_store(const char *from, const char *to) {
  for (int attempt = 0;; attempt++) {
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    if (try_copy(from, to)) return;
    if (attempt == 10) fatal("copy");
  }
}

static void make_backup(rag_api *api, const char *dir) {
  rag_error err = {0};
  if (rag_store_backup(rag_api_store(api), dir, "test", NULL, NULL, &err) == RAG_OK) return;
  fprintf(stderr, "corruption: backup: %s\n", err.message);
  exit(2);
}

// WORK/closed, WORK/killed (with the same commits), WORK/backups, WORK/export
static void build(const char *work) {
  char closed[PATH_BYTES], killed[PATH_BYTES], backups[PATH_BYTES], export[PATH_BYTES], endpoint[PATH_BYTES];
  rag_api *api = NULL;
  rag_kb *kb = NULL;
  rag_error err = {0};
  snprintf(closed, sizeof(closed), "%s/closed", work);
  snprintf(killed, sizeof(killed), "%s/killed", work);
  snprintf(backups, sizeof(backups), "%s/backups", work);
  snprintf(export, sizeof(export), "%s/export", work);
  for (int part = 0; part < 3; part++) {
    if (open_service(closed, NULL, false, &api, &err) != RAG_OK) fatal(err.message);
    if (part == 0) first_history(api);
    if (part == 1) second_history(api);
    if (part < 2 && rag_jobs_run_foreground(rag_api_jobs(api), NULL, NULL, &err) != RAG_OK) fatal(err.message);
    if (part == 1) make_backup(api, backups);
    if (part == 2) last_history(api);
    if (part == 2) copy_open_store(closed, killed); // as a kill here would leave it: synced commits are in the file
    if (part == 2) make_backup(api, backups);
    if (part == 2) {
      int fd = open(export, O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (fd < 0 || rag_kbs_get(rag_api_kbs(api), rag_slice_str("docs"), &kb, &err) != RAG_OK ||
          rag_kb_export(kb, write_fd, &fd, &err) != RAG_OK)
        fatal("export");
      rag_ref_drop(kb);
      close(fd);
    }
    rag_api_close(api);
  }
  for (int i = 0; i < 2; i++) {
    snprintf(endpoint, sizeof(endpoint), "%.400s/ENDPOINT", i ? killed : closed);
    if (rag_os_write_file(endpoint, "http://127.0.0.1:1\n", 19, &err) != RAG_OK) fatal("endpoint");
  }
}

// ---------------------------------------------------------------------------------------------- a round

typedef struct target {
  char path[PATH_BYTES]; // below the copy
  off_t size;
} target;
static target targets[FILES_MAX];
static size_t target_count;
static const char *targets_root;

static int add_target(const char *path, const struct stat *info, int type, struct FTW *at) {
  RAG_UNUSED(at);
  const char *leaf = strrchr(path, '/') + 1;
  if (type != FTW_F || strcmp(leaf, "LOCK") == 0 || target_count == FILES_MAX) return 0;
  snprintf(targets[target_count].path, PATH_BYTES, "%s", path + strlen(targets_root));
  targets[target_count++].size = info->st_size;
  return 0;
}

static int by_path(const void *a, const void *b) {
  return strcmp(((const target *)a)->path, ((const target *)b)->path);
}

static void list_targets(const char *root) {
  targets_root = root;
  target_count = 0;
  if (nftw(root, add_target, 16, FTW_PHYS) != 0 || target_count == 0) fatal("list the files");
  qsort(targets, target_count, sizeof(*targets), by_path);
}

static const char *kind_of(const char *path) {
  static const char *const kinds[][2] = {{"manifests/", "backup manifest"},
                                         {"engine/meta", "backup meta"},
                                         {"MANIFEST", "MANIFEST"},
                                         {"CURRENT", "CURRENT"},
                                         {"OPTIONS", "OPTIONS"},
                                         {"IDENTITY", "IDENTITY"},
                                         {"FORMAT", "FORMAT"},
                                         {"SEAL", "SEAL"},
                                         {"ENDPOINT", "ENDPOINT"},
                                         {".sst", "table"},
                                         {".blob", "blob"},
                                         {".seg", "segment"},
                                         {".log", "log"}};
  for (size_t i = 0; i < RAG_COUNT_OF(kinds); i++)
    if (strstr(path, kinds[i][0])) return kinds[i][1];
  return "export";
}

// Every kind of file is as likely as the others; within a kind, every file.
static const target *choose_target(const char *only) {
  const char *kinds[32];
  size_t kind_count = 0, count = 0;
  for (size_t i = 0; i < target_count; i++) {
    const char *kind = kind_of(targets[i].path);
    bool known = false;
    for (size_t k = 0; k < kind_count; k++) known = known || strcmp(kinds[k], kind) == 0;
    if (!known && (!only || strcmp(kind, only) == 0)) kinds[kind_count++] = kind;
  }
  const char *kind = kinds[next_random(kind_count)];
  for (size_t i = 0; i < target_count; i++) count += strcmp(kind_of(targets[i].path), kind) == 0;
  size_t nth = next_random(count);
  for (size_t i = 0; i < target_count; i++)
    if (strcmp(kind_of(targets[i].path), kind) == 0 && nth-- == 0) return &targets[i];
  abort();
}

static void flip(const char *path, off_t at, unsigned bit) {
  unsigned char byte = 0;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0 || pread(fd, &byte, 1, at) != 1) fatal(path);
  byte = (unsigned char)(byte ^ (1u << bit));
  if (pwrite(fd, &byte, 1, at) != 1) fatal(path);
  close(fd);
}

// Asks in a child. Returns its wait status.
static int ask_in_child(const char *dir, const char *mode, const char *out) {
  int status = 0;
  pid_t child = fork();
  if (child < 0) fatal("fork");
  if (child == 0) {
    int null = open("/dev/null", O_WRONLY);
    if (null >= 0 && !getenv("CORRUPTION_STDERR")) dup2(null, 2);
    execl("/proc/self/exe", "/proc/self/exe", "--ask", dir, mode, out, (char *)NULL);
    _exit(99);
  }
  if (waitpid(child, &status, 0) != child) fatal("wait");
  return status;
}

typedef struct verdict {
  const char *name; // "detected", ...
  char how[400];
} verdict;

// Compares two files of answers. An answer of 500 with code data_loss is a detection; any other difference is wrong.
static void compare(const char *expected_path, const char *path, verdict *v) {
  char *a = NULL, *b = NULL;
  size_t a_room = 0, b_room = 0;
  FILE *expected = fopen(expected_path, "r"), *got = fopen(path, "r");
  if (!expected || !got) fatal("answers");
  v->name = "harmless";
  for (;;) {
    ssize_t a_size = getline(&a, &a_room, expected), b_size;
    for (;;) { // lines that only some have: findings of the check, refusals of verify
      b_size = getline(&b, &b_room, got);
      if (b_size < 0) break;
      bool finding = strncmp(b, "error ", 6) == 0, note = strncmp(b, "note ", 5) == 0,
           refused = strncmp(b, "refused", 7) == 0, jobs = strncmp(b, "jobs\t", 5) == 0;
      if (!finding && !note && !refused && !jobs) break;
      if (!note && (!jobs || strstr(b, "data_loss")) && strcmp(v->name, "harmless") == 0) {
        v->name = "detected";
        snprintf(v->how, sizeof(v->how), "%.*s", (int)strcspn(b, "\n"), b);
      }
    }
    while (a_size >= 0 && strncmp(a, "note ", 5) == 0) a_size = getline(&a, &a_room, expected);
    if (a_size < 0 && b_size < 0) break;
    if (a_size == b_size && memcmp(a, b, (size_t)a_size) == 0) continue;
    bool named = b_size > 0 && (strstr(b, "\"data_loss\"") || strncmp(b, "check\t", 6) == 0);
    if (named && strcmp(v->name, "harmless") == 0) {
      v->name = "detected";
      snprintf(v->how, sizeof(v->how), "%.*s", (int)RAG_MIN(strcspn(b, "\n"), (size_t)380), b);
    }
    // What is not sealed, as a job could not read what it needs, is no answer. Of a damaged segment it would be: run_round.
    bool index = b_size > 0 && strncmp(b, "index of ", 9) == 0 && strcmp(v->name, "detected") == 0;
    if (named || index) continue;
    v->name = "WRONG";
    snprintf(v->how, sizeof(v->how), "got %.180s expected %.180s", b_size > 0 ? b : "(nothing)",
             a_size > 0 ? a : "(nothing)");
    break;
  }
  free(a);
  free(b);
  fclose(expected);
  fclose(got);
}

static void judge(int status, const char *expected, const char *got, verdict *v) {
  *v = (verdict){0};
  if (WIFSIGNALED(status) || (WEXITSTATUS(status) != EXIT_ASKED && WEXITSTATUS(status) != EXIT_REFUSED)) {
    v->name = "CRASH";
    if (WIFSIGNALED(status)) snprintf(v->how, sizeof(v->how), "signal %d", WTERMSIG(status));
    else snprintf(v->how, sizeof(v->how), "exit status %d", WEXITSTATUS(status));
    return;
  }
  if (WEXITSTATUS(status) == EXIT_ASKED) {
    compare(expected, got, v);
    return;
  }
  char line[1024] = "";
  FILE *file = fopen(got, "r");
  v->name = "UNNAMED";
  while (file && fgets(line, sizeof(line), file)) {
    if (strncmp(line, "refused", 7) != 0) continue;
    if (strstr(line, "data_loss")) v->name = "detected";
    snprintf(v->how, sizeof(v->how), "%.*s", (int)RAG_MIN(strcspn(line, "\n"), (size_t)380), line);
    if (strstr(line, "data_loss")) break;
  }
  if (file) fclose(file);
}

// The newest log that has something in it.
static bool is_newest_log(const char *path) {
  const char *newest = NULL;
  for (size_t i = 0; i < target_count; i++)
    if (strcmp(kind_of(targets[i].path), "log") == 0 && targets[i].size > 0) newest = targets[i].path;
  return newest && strcmp(newest, path) == 0;
}

static bool is_sound(const char *got) { // by its check
  char *line = NULL;
  size_t room = 0;
  bool sound = false;
  FILE *file = fopen(got, "r");
  while (file && getline(&line, &room, file) >= 0) sound = sound || strcmp(line, "check\t0 errors\n") == 0;
  free(line);
  if (file) fclose(file);
  return sound;
}

static bool says(const char *got, const char *what) {
  char *line = NULL;
  size_t room = 0;
  bool found = false;
  FILE *file = fopen(got, "r");
  while (file && !found && getline(&line, &room, file) >= 0) found = strstr(line, what) != NULL;
  free(line);
  if (file) fclose(file);
  return found;
}

typedef struct options {
  uint64_t rounds, seed;
  const char *dir, *log, *only;
  bool mutant;
} options;

static const char *const modes[] = {"closed", "killed", "backups", "export"};

static void run_round(const options *o, const char *work, uint64_t round, FILE *log, uint64_t counts[6]) {
  static const char *const outcomes[] = {"detected", "harmless", "torn", "WRONG", "CRASH", "UNNAMED"};
  static const char *const ways[] = {"flip", "cut", "remove"};
  char source[PATH_BYTES], copy[PATH_BYTES], path[2 * PATH_BYTES], expected[PATH_BYTES], got[PATH_BYTES],
      extra[PATH_BYTES];
  const char *mode =
      o->mutant || o->only ? "closed" : modes[(const int[]){0, 0, 0, 1, 1, 1, 2, 2, 3, 0}[next_random(10)]];
  verdict v;
  snprintf(source, sizeof(source), "%.400s/%s", work, mode);
  snprintf(copy, sizeof(copy), "%.400s/copy", work);
  snprintf(expected, sizeof(expected), "%.400s/expected.%s", work, mode);
  snprintf(got, sizeof(got), "%.400s/got", work);
  snprintf(extra, sizeof(extra), "%.400s/copy.store", work);
  copy_tree(source, copy);
  if (rag_os_remove_tree(extra, NULL) != RAG_OK) fatal("remove");
  list_targets(copy);
  const target *t = choose_target(o->mutant ? "table" : o->only);
  // Of ten, eight flips.
  unsigned draw = o->mutant || t->size == 0 ? 0 : (unsigned)next_random(10);
  unsigned way = draw < 8 ? 0 : draw - 7;
  if (strcmp(mode, "export") == 0 && way == 2) way = 1;
  off_t at = t->size > 0 ? (off_t)next_random((uint64_t)t->size) : 0;
  unsigned bit = (unsigned)next_random(8);
  snprintf(path, sizeof(path), "%.400s%.500s", copy, t->path);
  if (t->size == 0) way = 2;
  if (way == 0) flip(path, at, bit);
  else if (way == 1 && truncate(path, at) != 0) fatal("truncate");
  else if (way == 2 && unlink(path) != 0) fatal("unlink");
  int status = ask_in_child(copy, strcmp(mode, "closed") == 0 && o->mutant ? "mutant" : mode, got);
  judge(status, expected, got, &v);
  if (strcmp(v.name, "WRONG") == 0 && strcmp(mode, "killed") == 0 && way > 0 && is_newest_log(t->path) && is_sound(got))
    v.name = "torn";
  bool segment = strcmp(kind_of(t->path), "segment") == 0;
  if (segment && strcmp(v.name, "harmless") == 0)
    v.name = says(got, strrchr(t->path, '/') + 1) ? "detected" : "UNNAMED";
  if (segment && says(got, "not sealed")) v.name = "WRONG";
  for (int i = 0; i < 6; i++) counts[i] += strcmp(v.name, outcomes[i]) == 0;
  fprintf(log, "%llu\t%s\t%s\t%s\t%s\t%lld.%u\t%s\t%s\n", (unsigned long long)round, v.name, mode, kind_of(t->path),
          ways[way], (long long)at, bit, t->path, v.how);
  fflush(log);
}

static void parse(options *o, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(argv[i], "--mutant") == 0) o->mutant = true;
    else if (value && strcmp(argv[i], "--rounds") == 0) o->rounds = strtoull(argv[++i], NULL, 10);
    else if (value && strcmp(argv[i], "--seed") == 0) o->seed = strtoull(argv[++i], NULL, 10);
    else if (value && strcmp(argv[i], "--dir") == 0) o->dir = argv[++i];
    else if (value && strcmp(argv[i], "--log") == 0) o->log = argv[++i];
    else if (value && strcmp(argv[i], "--only") == 0) o->only = argv[++i];
    else {
      fprintf(stderr, "usage: corruption [--rounds N] [--seed S] [--dir WORK] [--log FILE] [--only KIND] [--mutant]\n");
      exit(2);
    }
  }
}

int main(int argc, char **argv) {
  options o = {.rounds = 40, .seed = 1};
  char work[256], path[PATH_BYTES], expected[PATH_BYTES];
  uint64_t counts[6] = {0};
  const char *tmp = getenv("TMPDIR");
  if (argc == 5 && strcmp(argv[1], "--ask") == 0) return child_main(argv);
  parse(&o, argc, argv);
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  snprintf(work, sizeof(work), "%.200s/ragd-corruption-XXXXXX", o.dir ? o.dir : tmp && *tmp ? tmp : "/tmp");
  if (!mkdtemp(work)) fatal(work);
  FILE *log = o.log ? fopen(o.log, "w") : stdout;
  if (!log) fatal(o.log);
  random_state = o.seed;
  rag_clock_set_for_test(INT64_C(1800000000000000));
  build(work);
  for (size_t m = 0; m < RAG_COUNT_OF(modes); m++) { // what the untouched say
    char source[PATH_BYTES], copy[PATH_BYTES], extra[PATH_BYTES];
    snprintf(source, sizeof(source), "%.256s/%s", work, modes[m]);
    snprintf(copy, sizeof(copy), "%.256s/copy", work);
    snprintf(extra, sizeof(extra), "%.256s/copy.store", work);
    snprintf(expected, sizeof(expected), "%.256s/expected.%s", work, modes[m]);
    copy_tree(source, copy);
    if (rag_os_remove_tree(extra, NULL) != RAG_OK) fatal("remove");
    int status = ask_in_child(copy, modes[m], expected);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_ASKED) {
      fprintf(stderr, "corruption: the untouched %s is refused; see %s\n", modes[m], expected);
      return 2;
    }
  }
  for (uint64_t round = 0; round < o.rounds; round++) run_round(&o, work, round, log, counts);
  snprintf(path, sizeof(path),
           "%llu rounds, seed %llu: %llu detected, %llu harmless, %llu torn, %llu wrong, %llu crashed, %llu unnamed",
           (unsigned long long)o.rounds, (unsigned long long)o.seed, (unsigned long long)counts[0],
           (unsigned long long)counts[1], (unsigned long long)counts[2], (unsigned long long)counts[3],
           (unsigned long long)counts[4], (unsigned long long)counts[5]);
  fprintf(log, "%s\n", path);
  if (o.log) {
    puts(path);
    fclose(log);
  }
  bool failed = counts[3] + counts[4] + counts[5] > 0;
  if (o.mutant && counts[3] > 0) puts("mutant caught");
  if (!getenv("CORRUPTION_KEEP")) (void)!rag_os_remove_tree(work, NULL);
  return o.mutant ? counts[3] == 0 : failed;
}
