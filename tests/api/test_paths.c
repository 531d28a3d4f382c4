// Goal: no name that a client sends becomes a path, and nothing in a backup folder leads out of it. Nothing is created,
// changed, removed or read outside of the data directory and of the backup directory.
// Method: the service in a folder beside a canary. Every parameter, field, header and query of the routes that takes a
// name is sent every hostile name (parents, absolute paths, escapes of one and two layers, overlong UTF-8, backslashes,
// NUL, fullwidth dots); afterwards the folder holds what it held, the canary's text was in no answer, and no answer was
// the server's own failure. Then backup folders of somebody who means harm: links, pipes, manifests that name other
// places; what they point at stays as it is, and what they would bring in does not come.
#include "tests/api/dispatch_testing.h"

#include <dirent.h>
#include <sys/stat.h>

#include "store/backup_internal.h"

#define SECRET "the text of the canary"

typedef struct world {
  service *s;
  char parent[256];   // canary, data, backups; nothing else may appear
  rag_strings before; // every path below it but the insides of data/db
} world;

// ---------------------------------------------------------------------------------------------- the folder

static char *path_in(const char *folder, const char *leaf) {
  static char paths[8][1024];
  static unsigned next;
  char *path = paths[next++ % 8];
  snprintf(path, sizeof(paths[0]), "%s/%s", folder, leaf);
  return path;
}

static void write_text(const char *path, const char *text) {
  rag_error err = {0};
  if (rag_os_write_file(path, text, strlen(text), &err) != RAG_OK) fail_msg("%s", err.message);
}

static void expect_text(const char *path, const char *text) {
  rag_error err = {0};
  char *bytes = NULL;
  size_t size = 0;
  if (rag_os_read_file(path, 1 << 20, &bytes, &size, &err) != RAG_OK) fail_msg("%s", err.message);
  assert_int_equal(size, strlen(text));
  assert_memory_equal(bytes, text, size);
  rag_free(bytes);
}

// Names of RocksDB's own in data/db: digits and a suffix, or one of its words.
static bool is_of_the_store(const char *name) {
  static const char *const words[] = {"CURRENT", "IDENTITY", "LOCK", "LOG", "MANIFEST-", "OPTIONS-"};
  for (size_t i = 0; i < RAG_COUNT_OF(words); i++)
    if (strncmp(name, words[i], strlen(words[i])) == 0) return strchr(name, '/') == NULL;
  size_t digits = strspn(name, "0123456789");
  return digits >= 6 && (strcmp(name + digits, ".log") == 0 || strcmp(name + digits, ".sst") == 0 ||
                         strcmp(name + digits, ".blob") == 0 || strcmp(name + digits, ".dbtmp") == 0);
}

static void list_below(const char *folder, const char *shown, rag_strings *out) {
  rag_error err = {0};
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char path[1024], name[1024];
    struct stat info;
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
    snprintf(name, sizeof(name), "%s/%s", shown, entry->d_name);
    if (strcmp(shown, "/data/db") == 0) {
      if (!is_of_the_store(entry->d_name)) fail_msg("'%s' appeared", name);
      continue;
    }
    assert_int_equal(rag_strings_add(out, rag_slice_str(name), &err), RAG_OK);
    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode)) list_below(path, name, out);
  }
  closedir(dir);
}

static void expect_nothing_moved(const world *w, const char *after) {
  rag_strings now = {0};
  list_below(w->parent, "", &now);
  rag_strings_sort(&now);
  for (size_t i = 0; i < RAG_MAX(now.count, w->before.count); i++) {
    const char *was = i < w->before.count ? w->before.items[i] : "nothing";
    const char *is = i < now.count ? now.items[i] : "nothing";
    if (strcmp(was, is) != 0) fail_msg("after %s there is %s where %s was", after, is, was);
  }
  rag_strings_free(&now);
  expect_text(path_in(w->parent, "canary"), SECRET);
}

static int world_start(void **state) {
  world *w = calloc(1, sizeof(*w));
  rag_error err = {0};
  rag_api_options options = rag_api_options_default();
  const char *tmp = getenv("TMPDIR");
  snprintf(w->parent, sizeof(w->parent), "%s/ragd-paths-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
  assert_non_null(mkdtemp(w->parent));
  write_text(path_in(w->parent, "canary"), SECRET);
  service *s = w->s = calloc(1, sizeof(*s));
  snprintf(s->dir, sizeof(s->dir), "%.200s/data", w->parent);
  s->arena = rag_arena_create(0);
  s->parser = rag_json_parser_create();
  s->content_type = "application/json";
  options.data_dir = s->dir;
  options.backup_dir = path_in(w->parent, "backups");
  options.store.cache_bytes = options.store.write_buffer_bytes = 8 << 20;
  options.kbs.object_cache_bytes = 8 << 20;
  assert_int_equal(rag_os_make_dirs(options.backup_dir, &err), RAG_OK);
  if (rag_api_open(&options, &s->api, &err) != RAG_OK) fail_msg("open: %s", err.message);
  CALL(200, "POST", "/v1/kbs", "{\"name\":\"docs\",\"model\":\"hash-16\"}");
  CALL(200, "POST", "/v1/kbs/docs/documents", "{\"documents\":[{\"id\":\"a\",\"text\":\"the first\"}]}");
  list_below(w->parent, "", &w->before);
  rag_strings_sort(&w->before);
  *state = w;
  return 0;
}

static int world_end(void **state) {
  world *w = *state;
  rag_api_close(w->s->api);
  rag_arena_destroy(w->s->arena);
  rag_json_parser_destroy(w->s->parser);
  free(w->s);
  rag_strings_free(&w->before);
  rag_status status = rag_os_remove_tree(w->parent, NULL);
  free(w);
  return status == RAG_OK ? 0 : -1;
}

// ---------------------------------------------------------------------------------------------- hostile names

static char absolute[300], uri[320], longest[6001]; // set by the test: the canary's path, and one that is too long
static const rag_slice *hostile_names(size_t *out_count) {
  static rag_slice names[40];
  static const char *const texts[] = {".",
                                      "..",
                                      "/",
                                      "//",
                                      "../canary",
                                      "../../canary",
                                      "../../../../../../../../../../etc/passwd",
                                      "/etc/passwd",
                                      "a/../../canary",
                                      "./../canary",
                                      "..\\canary",
                                      "..\\..\\..\\etc\\passwd",
                                      "%2e%2e%2fcanary",
                                      "..%2fcanary",
                                      "%252e%252e%252fcanary",
                                      "..;/canary",
                                      "....//canary",
                                      "~/canary",
                                      "~root",
                                      ".hidden",
                                      "db/CURRENT",
                                      "../data/db/CURRENT",
                                      "C:\\canary",
                                      "canary\n../canary",
                                      "-rf",
                                      "$(touch canary2)",
                                      "\xC0\xAE\xC0\xAE\xC0\xAF"
                                      "canary",
                                      "\xE0\x80\xAE\xE0\x80\xAE/canary",
                                      "\xEF\xBC\x8E\xEF\xBC\x8E\xEF\xBC\x8F"
                                      "canary",
                                      "\xE2\x80\xAE"
                                      "x"};
  size_t count = 0;
  for (; count < RAG_COUNT_OF(texts); count++) names[count] = rag_slice_str(texts[count]);
  names[count++] = rag_slice_of("canary\0.txt", 11);
  names[count++] = rag_slice_of("../canary\0", 10);
  names[count++] = rag_slice_str(absolute);
  names[count++] = rag_slice_str(uri);
  names[count++] = rag_slice_str(longest);
  RAG_ASSERT(count <= RAG_COUNT_OF(names));
  *out_count = count;
  return names;
}

// In a template, @ is the name with every byte escaped as %XX, $ the name in a JSON string, ` the name as it is.
static char *fill(const char *template, rag_slice name) {
  static rag_buf out;
  rag_buf_clear(&out);
  for (const char *p = template; *p; p++) {
    if (*p != '@' && *p != '$' && *p != '`') {
      rag_buf_append_char(&out, *p);
      continue;
    }
    for (size_t i = 0; i < name.size; i++) {
      unsigned char c = (unsigned char)name.data[i];
      if (*p == '@') rag_buf_printf(&out, "%%%02x", c);
      else if (*p == '$' && c < 0x20) rag_buf_printf(&out, "\\u%04x", c);
      else {
        if (*p == '$' && (c == '"' || c == '\\')) rag_buf_append_char(&out, '\\');
        rag_buf_append_char(&out, (char)c);
      }
    }
  }
  rag_buf_append_char(&out, '\0');
  assert_false(out.failed);
  char *text = rag_strdup(out.data);
  rag_buf_free(&out);
  return text;
}

typedef enum outcome { REFUSED, ANY } outcome; // REFUSED: 400 or 404; ANY: whatever but a failure of the server

typedef struct door {
  const char *method, *target, *body; // body NULL: none
  outcome outcome;
} door;

static const door doors[] = {
    // Names that are kept under rules: none of the hostile ones passes them.
    {"POST", "/v1/kbs", "{\"name\":\"$\",\"model\":\"hash-16\"}", REFUSED},
    {"POST", "/v1/kbs", "{\"name\":\"other\",\"model\":\"$\"}", REFUSED},
    {"POST", "/v1/kbs", "{\"name\":\"other\",\"model\":\"hash-16\",\"language\":\"$\"}", REFUSED},
    {"GET", "/v1/kbs/@", NULL, REFUSED},
    {"PATCH", "/v1/kbs/@", "{}", REFUSED},
    {"DELETE", "/v1/kbs/@", NULL, REFUSED},
    {"GET", "/v1/kbs/@/documents/a", NULL, REFUSED},
    {"POST", "/v1/kbs/@/documents", "{\"documents\":[{\"id\":\"b\",\"text\":\"t\"}]}", REFUSED},
    {"POST", "/v1/kbs/docs/branches", "{\"name\":\"$\"}", REFUSED},
    {"POST", "/v1/kbs/docs/branches", "{\"name\":\"b\",\"from\":\"$\"}", REFUSED},
    {"DELETE", "/v1/kbs/docs/branches/@", NULL, REFUSED},
    {"POST", "/v1/kbs/docs/tags", "{\"name\":\"$\"}", REFUSED},
    {"DELETE", "/v1/kbs/docs/tags/@", NULL, REFUSED},
    {"GET", "/v1/kbs/docs/commits/@", NULL, REFUSED},
    {"GET", "/v1/kbs/docs/documents/a?at=@", NULL, REFUSED},
    {"GET", "/v1/kbs/docs/diff?from=@&to=main", NULL, REFUSED},
    {"POST", "/v1/kbs/docs/merge", "{\"from\":\"$\"}", REFUSED},
    {"POST", "/v1/kbs/docs/rollback", "{\"to\":\"$\"}", REFUSED},
    {"POST", "/v1/kbs/docs/search", "{\"query\":\"first\",\"at\":\"$\"}", REFUSED},
    {"GET", "/v1/jobs/@", NULL, REFUSED},
    {"POST", "/v1/jobs/@:cancel", NULL, REFUSED},
    {"DELETE", "/v1/keys/@", NULL, REFUSED},
    {"POST", "/v1/keys/@:rotate", "{}", REFUSED},
    {"POST", "/v1/keys", "{\"role\":\"read\",\"kbs\":[\"$\"]}", REFUSED},
    {"POST", "/v1/backups/@:verify", NULL, REFUSED},
    {"DELETE", "/v1/backups/@", NULL, REFUSED},
    {"POST", "/v1/backups/1@:verify", NULL, REFUSED},
    // Texts of the client's, which are kept as they are.
    {"POST", "/v1/kbs/docs/documents",
     "{\"documents\":[{\"id\":\"b\",\"title\":\"$\",\"text\":\"$\",\"source_uri\":\"$\",\"metadata\":{\"path\":\"$\"}}]"
     "}",
     ANY},
    {"GET", "/v1/kbs/docs/documents?prefix=@", NULL, ANY},
    {"POST", "/v1/kbs/docs/search", "{\"query\":\"$\",\"filter\":{\"path\":\"$\"}}", ANY},
    {"POST", "/v1/kbs/docs/facets", "{\"fields\":[\"$\"]}", ANY},
    {"POST", "/v1/kbs/docs/purge", "{\"ids\":[\"$\"]}", ANY},
};

static void expect_no_secret(const service *s, const char *target) {
  if (s->answer.body.size && memmem(s->answer.body.data, s->answer.body.size, SECRET, sizeof(SECRET) - 1))
    fail_msg("the answer to %.200s has the canary's text", target);
}

static void knock(world *w, const door *d, rag_slice name) {
  char *target = fill(d->target, name), *body = d->body ? fill(d->body, name) : NULL;
  int status = send_text(w->s, d->method, target, body);
  if (status >= 500 || (d->outcome == REFUSED && status != 400 && status != 404 && status != 414))
    fail_msg("%s %.200s with %.200s was answered %d: %.*s", d->method, target, body ? body : "", status,
             (int)RAG_MIN(w->s->answer.body.size, (size_t)300), w->s->answer.body.data);
  expect_no_secret(w->s, target);
  rag_free(target);
  rag_free(body);
}

static void set_names(const world *w) {
  snprintf(absolute, sizeof(absolute), "%s/canary", w->parent);
  snprintf(uri, sizeof(uri), "file://%s/canary", w->parent);
  memset(longest, 'a', sizeof(longest) - 1);
}

static void test_no_name_becomes_a_path(void **state) {
  world *w = *state;
  size_t count;
  set_names(w);
  const rag_slice *names = hostile_names(&count);
  for (size_t d = 0; d < RAG_COUNT_OF(doors); d++) {
    for (size_t n = 0; n < count; n++) knock(w, &doors[d], names[n]);
    expect_nothing_moved(w, doors[d].target);
  }
}

// A document's id may be any text: it comes back as it was sent, under that name alone.
static void test_ids_are_names_and_no_paths(void **state) {
  world *w = *state;
  service *s = w->s;
  size_t count, kept = 0;
  set_names(w);
  const rag_slice *names = hostile_names(&count);
  for (size_t n = 0; n < count; n++) {
    char *body = fill("{\"documents\":[{\"id\":\"$\",\"text\":\"text of it\",\"source_uri\":\"file://$\"}]}", names[n]);
    int status = send_text(s, "POST", "/v1/kbs/docs/documents", body);
    rag_free(body);
    if (status != 200) {
      assert_int_equal(status, 400);
      continue;
    }
    kept++;
    char *target = fill("/v1/kbs/docs/documents/@", names[n]);
    CALL(200, "GET", target, NULL);
    const char *id = at(s, "id");
    assert_int_equal(strlen(id), names[n].size);
    assert_memory_equal(id, names[n].data, names[n].size);
    EXPECT("text", "text of it");
    CALL(200, "DELETE", target, NULL);
    CALL(404, "GET", target, NULL);
    rag_free(target);
    CALL(200, "GET", "/v1/kbs/docs/documents/a", NULL); // and nobody else's document went
  }
  assert_true(kept > count / 2);
  expect_nothing_moved(w, "documents");
}

static void test_headers_and_streams(void **state) {
  world *w = *state;
  service *s = w->s;
  size_t count;
  set_names(w);
  const rag_slice *names = hostile_names(&count);
  stream_ends exported = {.body = ""};
  assert_int_equal(send_stream(s, "GET", "/v1/kbs/docs/export", NULL, &exported), 200);
  assert_true(exported.written.size > 0);
  for (size_t n = 0; n < count; n++) {
    if (names[n].size == strlen(names[n].data)) { // a header has no NUL
      s->idempotency_key = names[n].data;
      int status =
          send_text(s, "POST", "/v1/kbs/docs/documents", "{\"documents\":[{\"id\":\"a\",\"text\":\"again\"}]}");
      s->idempotency_key = NULL;
      assert_true(status == 200 || status == 400);
    }
    stream_ends in = {.body = exported.written.data, .size = exported.written.size};
    char *target = fill("/v1/kbs:import?name=@", names[n]);
    int status = send_stream(s, "POST", target, "application/octet-stream", &in);
    if (status != 400) fail_msg("%.200s was answered %d", target, status);
    rag_free(target);
    stream_ends out = {.body = ""};
    target = fill("/v1/kbs/@/export", names[n]);
    status = send_stream(s, "GET", target, NULL, &out);
    assert_true(status == 400 || status == 404);
    rag_free(target);
    rag_buf_free(&in.written);
    rag_buf_free(&out.written);
  }
  rag_buf_free(&exported.written);
  expect_nothing_moved(w, "streams");
}

// Targets that are not of the table, as they come from the wire.
static void test_targets(void **state) {
  world *w = *state;
  service *s = w->s;
  static const char *const targets[] = {"/../canary",
                                        "/..%2fcanary",
                                        "/%2e%2e/canary",
                                        "/%2e%2e%2fcanary",
                                        "//canary",
                                        "/./canary",
                                        "/v1/../canary",
                                        "/v1/kbs/../../canary",
                                        "/v1/kbs/docs/../../../canary",
                                        "/v1/kbs/docs/documents/../../../../canary",
                                        "/v1/kbs/%2e%2e/%2e%2e/canary",
                                        "/v1/kbs/..%5c..%5ccanary",
                                        "/v1/kbs/%c0%ae%c0%ae%c0%afcanary",
                                        "/v1/kbs/docs/export/../../canary",
                                        "/openapi.json/../canary",
                                        "/openapi.json%00.txt",
                                        "/metrics/../../canary",
                                        "/healthz%2f..%2f..%2fcanary",
                                        "/v1/backups/../../canary",
                                        "/v1/backups/1/../../../canary",
                                        "../canary",
                                        "canary",
                                        "file:///etc/passwd",
                                        "/v1/kbs/docs/documents/%",
                                        "/v1/kbs/docs/documents/%zz",
                                        "/v1/kbs/%00"};
  for (size_t t = 0; t < RAG_COUNT_OF(targets); t++) {
    static const char *const methods[] = {"GET", "POST", "PUT", "DELETE", "PATCH"};
    for (size_t m = 0; m < RAG_COUNT_OF(methods); m++) {
      int status = send_text(s, methods[m], targets[t], strcmp(methods[m], "POST") == 0 ? "{}" : NULL);
      if (status != 400 && status != 404 && status != 405) fail_msg("%s %s: %d", methods[m], targets[t], status);
      expect_no_secret(s, targets[t]);
    }
  }
  expect_nothing_moved(w, "targets");
}

// ---------------------------------------------------------------------------------------------- hostile backups

typedef struct trap {
  char parent[256];
  char backups[300], to[300], outside[300];
} trap;

static rag_status put_apply(void *ctx, rag_txn *txn, rag_error *err) {
  RAG_UNUSED(ctx);
  RAG_UNUSED(err);
  rag_txn_put(txn, RAG_CF_META, rag_slice_str("row"), rag_slice_str("value"));
  return RAG_OK;
}

// A store with a row, its backup 1, and a folder outside that nothing may touch.
static int trap_set(void **state) {
  trap *t = calloc(1, sizeof(*t));
  rag_error err = {0};
  rag_store *store = NULL;
  rag_store_options options = rag_store_options_default();
  const char *tmp = getenv("TMPDIR");
  snprintf(t->parent, sizeof(t->parent), "%s/ragd-paths-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
  assert_non_null(mkdtemp(t->parent));
  snprintf(t->backups, sizeof(t->backups), "%s/backups", t->parent);
  snprintf(t->to, sizeof(t->to), "%s/restored", t->parent);
  snprintf(t->outside, sizeof(t->outside), "%s/outside", t->parent);
  options.cache_bytes = options.write_buffer_bytes = 8 << 20;
  assert_int_equal(rag_store_open(path_in(t->parent, "data"), &options, &store, &err), RAG_OK);
  rag_commit_request request = {.apply = put_apply};
  assert_int_equal(rag_store_commit(store, &request, &err), RAG_OK);
  if (rag_store_backup(store, t->backups, "test", NULL, NULL, &err) != RAG_OK) fail_msg("%s", err.message);
  rag_store_close(store);
  assert_int_equal(rag_os_make_dirs(t->outside, &err), RAG_OK);
  write_text(path_in(t->outside, "precious"), SECRET);
  alarm(120); // what blocks on a pipe does not get through
  *state = t;
  return 0;
}

static int trap_clear(void **state) {
  trap *t = *state;
  alarm(0);
  rag_status status = rag_os_remove_tree(t->parent, NULL);
  free(t);
  return status == RAG_OK ? 0 : -1;
}

static void expect_outside_untouched(const trap *t) {
  rag_strings names = {0};
  list_below(t->outside, "", &names);
  assert_int_equal(names.count, 1);
  rag_strings_free(&names);
  expect_text(path_in(t->outside, "precious"), SECRET);
}

static void expect_not_restored(const trap *t, const char *message) {
  rag_error err = {0};
  assert_int_equal(rag_backup_restore(t->backups, 1, t->to, NULL, NULL, &err), RAG_DATA_LOSS);
  if (!strstr(err.message, message)) fail_msg("'%s' is not in '%s'", message, err.message);
  assert_false(rag_os_exists(t->to));
  assert_false(rag_os_exists(path_in(t->parent, "restored.restoring")));
  expect_outside_untouched(t);
}

// The first file of backup 1 that comes from the engine's private part.
static rag_backup__manifest manifest_of(const trap *t) {
  rag_error err = {0};
  rag_backup__manifest manifest = {0};
  if (rag_backup__manifest_read(t->backups, 1, &manifest, &err) != RAG_OK) fail_msg("%s", err.message);
  return manifest;
}

// Each file in turn lies elsewhere, with the very bytes that the manifest wants, and a link leads to it.
static void test_links_are_not_followed(void **state) {
  trap *t = *state;
  rag_error err = {0};
  rag_backup__manifest manifest = manifest_of(t);
  uint32_t tried = 0;
  for (uint32_t i = 0; i < manifest.file_count; i++) {
    char path[1024], moved[1024];
    if (!*manifest.files[i].to) continue; // not restored
    snprintf(path, sizeof(path), "%s/%s", t->backups, manifest.files[i].path);
    snprintf(moved, sizeof(moved), "%s/moved", t->parent);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(symlink(moved, path), 0);
    expect_not_restored(t, "is a link");
    assert_int_equal(rag_backup_verify(t->backups, 1, NULL, NULL, &err), RAG_DATA_LOSS);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_not_restored(t, "no regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(moved, path), 0);
    tried++;
  }
  assert_true(tried >= 4);
  rag_backup__manifest_free(&manifest);
  if (rag_backup_restore(t->backups, 1, t->to, NULL, NULL, &err) != RAG_OK) fail_msg("%s", err.message);
}

// The same for the folders on the way, and for the manifest.
static void test_folders_are_no_links(void **state) {
  trap *t = *state;
  rag_error err = {0};
  static const char *const folders[] = {"engine",  "engine/private", "engine/private/1", "files",
                                        "files/1", "manifests",      "manifests/1"};
  for (size_t i = 0; i < RAG_COUNT_OF(folders); i++) {
    char path[1024], moved[1024];
    snprintf(path, sizeof(path), "%s/%s", t->backups, folders[i]);
    snprintf(moved, sizeof(moved), "%s/moved", t->parent);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(symlink(moved, path), 0);
    expect_not_restored(t, "is a link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(moved, path), 0);
  }
  if (rag_backup_restore(t->backups, 1, t->to, NULL, NULL, &err) != RAG_OK) fail_msg("%s", err.message);
}

// A file that goes on for ever is read no further than its size.
static void test_a_longer_file_is_not_read_on(void **state) {
  trap *t = *state;
  rag_backup__manifest manifest = manifest_of(t);
  for (uint32_t i = 0; i < manifest.file_count; i++) {
    if (!*manifest.files[i].to) continue;
    char path[1024];
    snprintf(path, sizeof(path), "%s/%s", t->backups, manifest.files[i].path);
    assert_int_equal(truncate(path, (off_t)1 << 42), 0); // holes: 4 TiB of zeros
    expect_not_restored(t, "is damaged");
    assert_int_equal(truncate(path, (off_t)manifest.files[i].size), 0);
  }
  rag_backup__manifest_free(&manifest);
}

// A manifest with a right checksum that names other places: no target is written, whether or not a file is there to copy.
static void test_manifests_name_their_places_only(void **state) {
  trap *t = *state;
  char outside[400], parent[400];
  rag_backup__manifest manifest = manifest_of(t);
  snprintf(outside, sizeof(outside), "%s/new", t->outside);
  snprintf(parent, sizeof(parent), "../outside/precious");
  const char *const bad[] = {parent,
                             outside,
                             "db/../../outside/new",
                             "../restored.txt",
                             "db//x",
                             "./db/x",
                             "db/./x",
                             "db/.x",
                             "db/",
                             "db",
                             "/",
                             ".",
                             "..",
                             "db/a/b",
                             "ENDPOINT",
                             "LOCK",
                             "db/..",
                             "db\\..\\x",
                             "db/x\n",
                             "db/%2e%2e",
                             "FORMAT/../x",
                             "~/x",
                             "x"};
  rag_backup__file *file = NULL;
  for (uint32_t i = 0; i < manifest.file_count && !file; i++)
    if (strcmp(manifest.files[i].to, "FORMAT") == 0) file = &manifest.files[i];
  assert_non_null(file);
  char *path = file->path, *to = file->to;
  for (size_t i = 0; i < RAG_COUNT_OF(bad); i++) {
    rag_error err = {0};
    file->to = rag_strdup(bad[i]);
    assert_int_equal(rag_backup__manifest_write(t->backups, &manifest, &err), RAG_OK);
    expect_not_restored(t, "which no backup has");
    rag_free(file->to);
    file->to = to;
    if (i >= 2 && strchr(bad[i], '/') == NULL) continue; // as a source they are plain names that are not there
    file->path = rag_strdup(bad[i]);
    assert_int_equal(rag_backup__manifest_write(t->backups, &manifest, &err), RAG_OK);
    assert_int_equal(rag_backup_restore(t->backups, 1, t->to, NULL, NULL, &err), RAG_DATA_LOSS);
    assert_int_equal(rag_backup_verify(t->backups, 1, NULL, NULL, &err), RAG_DATA_LOSS);
    rag_free(file->path);
    file->path = path;
    assert_false(rag_os_exists(t->to));
    expect_outside_untouched(t);
  }
  rag_backup__manifest_free(&manifest);
}

// Removing a backup, and making one, in a folder with links: nothing behind them is removed or made.
static void test_changing_a_folder_with_links(void **state) {
  trap *t = *state;
  static const char *const links[] = {"engine/private/99", "engine/shared_checksum/link", "files/7", "manifests/link",
                                      "engine/meta/link"};
  for (size_t i = 0; i < RAG_COUNT_OF(links); i++) {
    rag_error err = {0};
    rag_store *store = NULL;
    rag_store_options options = rag_store_options_default();
    char *path = path_in(t->backups, links[i]);
    assert_int_equal(symlink(t->outside, path), 0);
    assert_int_equal(rag_backup_delete(t->backups, 1, &err), RAG_FAILED_PRECONDITION);
    assert_non_null(strstr(err.message, "is a link"));
    assert_int_equal(rag_store_open(path_in(t->parent, "data"), &options, &store, &err), RAG_OK);
    assert_int_equal(rag_store_backup(store, t->backups, "test", NULL, NULL, &err), RAG_FAILED_PRECONDITION);
    rag_store_close(store);
    expect_outside_untouched(t);
    assert_int_equal(unlink(path), 0);
  }
  char *lock = path_in(t->backups, "LOCK");
  rag_error err = {0};
  assert_int_equal(unlink(lock), 0);
  assert_int_equal(symlink(path_in(t->outside, "new"), lock), 0);
  assert_int_not_equal(rag_backup_delete(t->backups, 1, &err), RAG_OK);
  expect_outside_untouched(t);
  assert_int_equal(unlink(lock), 0);
  if (rag_backup_delete(t->backups, 1, &err) != RAG_OK) fail_msg("%s", err.message);
}

// The name under which a restore is made is taken by a link: the link goes, not what it points at.
static void test_the_temporary_name_is_a_link(void **state) {
  trap *t = *state;
  rag_error err = {0};
  assert_int_equal(symlink(t->outside, path_in(t->parent, "restored.restoring")), 0);
  if (rag_backup_restore(t->backups, 1, t->to, NULL, NULL, &err) != RAG_OK) fail_msg("%s", err.message);
  expect_outside_untouched(t);
  assert_true(rag_os_exists(path_in(t->to, "FORMAT")));
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_start, world_end)
#define TRAP(test) cmocka_unit_test_setup_teardown(test, trap_set, trap_clear)

int main(void) {
  rag_log_setup(2, RAG_LOG_ERROR, RAG_LOG_TEXT);
  const struct CMUnitTest tests[] = {
      WORLD(test_no_name_becomes_a_path),      WORLD(test_ids_are_names_and_no_paths),
      WORLD(test_headers_and_streams),         WORLD(test_targets),
      TRAP(test_links_are_not_followed),       TRAP(test_folders_are_no_links),
      TRAP(test_a_longer_file_is_not_read_on), TRAP(test_manifests_name_their_places_only),
      TRAP(test_changing_a_folder_with_links), TRAP(test_the_temporary_name_is_a_link),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
