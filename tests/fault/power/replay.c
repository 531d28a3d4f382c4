// From the durable image to a folder: what a disk would hold (faultfs.h has the layout and the three modes). Runs in
// the parent, when the process is gone, so nothing moves meanwhile.
//
// A change of a folder that was never synced is one name that was put in, taken out or pointed elsewhere.
#include "tests/fault/power/faultfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define FILE_BYTES_MAX (256u << 20)

typedef struct context {
  const char *durable;
  replay_mode mode;
  uint64_t *seed;
} context;

typedef struct names { // of one folder
  struct name {
    char kind; // 'f', 'd'
    unsigned long long inode;
    char name[256];
  } * items;
  size_t count;
} names;

static bool failed(const char *what, const char *path) {
  fprintf(stderr, "replay: %s %s: %s\n", what, path, strerror(errno));
  return false;
}

static bool add(names *list, char kind, unsigned long long inode, const char *name) {
  struct name *items = realloc(list->items, (list->count + 1) * sizeof *items);
  if (items == NULL) return failed("memory for", name);
  list->items = items;
  items[list->count].kind = kind;
  items[list->count].inode = inode;
  snprintf(items[list->count].name, sizeof items[list->count].name, "%s", name);
  list->count++;
  return true;
}

static const struct name *find(const names *list, const char *name) {
  for (size_t i = 0; i < list->count; i++)
    if (strcmp(list->items[i].name, name) == 0) return &list->items[i];
  return NULL;
}

// A folder that was never synced has no list: it is empty.
static bool read_durable(const context *c, unsigned long long inode, names *out) {
  char path[PATH_MAX], line[400], name[256], kind;
  unsigned long long number;
  bool good = true;
  snprintf(path, sizeof path, "%s/dir-%llu", c->durable, inode);
  FILE *in = fopen(path, "re");
  if (in == NULL) return errno == ENOENT || failed("open", path);
  while (good && fgets(line, sizeof line, in) != NULL) {
    if (sscanf(line, "%c %llu %255[^\n]", &kind, &number, name) != 3) good = failed("bad line in", path);
    else good = add(out, kind, number, name);
  }
  fclose(in);
  return good;
}

static bool read_live(const char *path, names *out) {
  struct stat found;
  bool good = true;
  DIR *folder = opendir(path);
  if (folder == NULL) return errno == ENOENT || failed("open", path);
  for (struct dirent *entry; good && (entry = readdir(folder)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (fstatat(dirfd(folder), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) != 0) good = failed("stat", path);
    else good = add(out, S_ISDIR(found.st_mode) ? 'd' : 'f', found.st_ino, entry->d_name);
  }
  closedir(folder);
  return good;
}

static bool coin(const context *c) {
  return (fault_random(c->seed) & 1) != 0;
}

// Of one pending change of a folder. `all`: the folder's one coin.
static bool survives(const context *c, bool all) {
  return c->mode == REPLAY_HOLES ? coin(c) : all;
}

// The whole file, NULL and size 0 where there is none. False: it cannot be read.
static bool slurp(const char *path, char **out, size_t *out_size) {
  struct stat found;
  *out = NULL;
  *out_size = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || failed("open", path);
  bool good = fstat(fd, &found) == 0 && found.st_size <= FILE_BYTES_MAX;
  size_t size = good ? (size_t)found.st_size : 0;
  char *data = good ? malloc(size + 1) : NULL;
  good = data != NULL && read(fd, data, size) == (ssize_t)size;
  close(fd);
  if (!good) {
    free(data);
    return failed("read", path);
  }
  *out = data;
  *out_size = size;
  return true;
}

// Takes over into *data what of the live bytes the disk got to. Bytes that no write reached are zero.
static bool tear(const context *c, char **data, size_t *size, const char *live, size_t live_size) {
  size_t end = live_size;
  if (live_size > *size) { // so much longer it is; whole, at a sector, or at any byte
    size_t more = live_size - *size, what = fault_random(c->seed) % 4;
    end = *size + (what == 0 ? 0 : what == 1 ? more : fault_random(c->seed) % (more + 1));
    if (what == 2) end = end / SECTOR * SECTOR;
    if (end < *size) end = *size;
    char *longer = realloc(*data, end + 1);
    if (longer == NULL) return failed("memory", "");
    memset(longer + *size, 0, end - *size);
    *data = longer;
    *size = end;
  }
  size_t both = end < live_size ? end : live_size;
  for (size_t at = 0; at < both; at += SECTOR) {
    size_t piece = both - at < SECTOR ? both - at : SECTOR;
    if (memcmp(*data + at, live + at, piece) == 0) continue;
    if (c->mode == REPLAY_PREFIX || coin(c)) memcpy(*data + at, live + at, piece);
  }
  return true;
}

static bool put_file(const context *c, unsigned long long inode, const char *out) {
  char path[PATH_MAX], *data = NULL, *live = NULL;
  size_t size = 0, live_size = 0;
  bool good;
  snprintf(path, sizeof path, "%s/file-%llu", c->durable, inode);
  good = slurp(path, &data, &size);
  if (good && c->mode != REPLAY_STRICT) {
    snprintf(path, sizeof path, "%s/live-%llu", c->durable, inode);
    good = slurp(path, &live, &live_size) && tear(c, &data, &size, live, live_size);
  }
  if (good) {
    int fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    good = fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size);
    if (!good) failed("write", out);
    if (fd >= 0) close(fd);
  }
  free(data);
  free(live);
  return good;
}

static bool put_folder(const context *c, unsigned long long inode, const char *live, const char *out);

static bool put_entry(const context *c, const struct name *entry, const char *live, const char *out) {
  char live_path[PATH_MAX], out_path[PATH_MAX];
  if (snprintf(live_path, sizeof live_path, "%s/%s", live, entry->name) >= PATH_MAX ||
      snprintf(out_path, sizeof out_path, "%s/%s", out, entry->name) >= PATH_MAX)
    return failed("too long", entry->name);
  if (entry->kind == 'd') return put_folder(c, entry->inode, live_path, out_path);
  return put_file(c, entry->inode, out_path);
}

static bool put_folder(const context *c, unsigned long long inode, const char *live, const char *out) {
  names kept = {0}, now = {0};
  if (mkdir(out, 0700) != 0) return failed("mkdir", out);
  bool good = read_durable(c, inode, &kept), all = coin(c);
  if (good && c->mode != REPLAY_STRICT) good = read_live(live, &now);
  for (size_t i = 0; good && i < kept.count; i++) {
    const struct name *entry = &kept.items[i];
    const struct name *newer = c->mode != REPLAY_STRICT ? find(&now, entry->name) : entry;
    if ((newer == NULL || newer->inode != entry->inode) && survives(c, all)) entry = newer;
    if (entry != NULL) good = put_entry(c, entry, live, out);
  }
  for (size_t i = 0; good && i < now.count; i++)
    if (find(&kept, now.items[i].name) == NULL && survives(c, all)) good = put_entry(c, &now.items[i], live, out);
  free(kept.items);
  free(now.items);
  return good;
}

bool replay(const char *durable, const char *live, const char *out, replay_mode mode, uint64_t *seed) {
  context c = {durable, mode, seed};
  char path[PATH_MAX];
  unsigned long long root = 0;
  snprintf(path, sizeof path, "%s/root", durable);
  FILE *in = fopen(path, "re");
  if (in == NULL) return failed("open", path);
  bool good = fscanf(in, "%llu", &root) == 1;
  fclose(in);
  return good ? put_folder(&c, root, live, out) : failed("read", path);
}
