// The driver of a fuzz target in every build, without libFuzzer: each file of a corpus, then a fixed sequence of
// mutations of them, the same on every machine for one seed.
//
//   fuzz_NAME [--mutations N] [--seconds S] [--seed K] [--dictionary FILE] FILE-OR-FOLDER...
//
// --seconds bounds the mutations alone: the corpus is always run whole. On a failure the input is left in a file, whose
// name is printed; `fuzz_NAME FILE --mutations 0` runs it alone.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_BYTES_MAX ((size_t)1 << 18)
#define INPUTS_MAX 100000u
#define TOKENS_MAX 4096u

// Present in targets that have them, or in the sanitizer.
extern size_t __attribute__((weak)) LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);
extern void __attribute__((weak)) __sanitizer_set_death_callback(void (*callback)(void));

typedef struct input {
  char *path;
  uint8_t *data;
  size_t size;
} input;

static input inputs[INPUTS_MAX];
static size_t input_count;
static rag_slice tokens[TOKENS_MAX];
static size_t token_count;
static uint64_t state; // of the random numbers

// ---------------------------------------------------------------------------------------------- random numbers

static uint64_t next_random(void) { // splitmix64
  uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

static size_t below(size_t n) {
  return n > 0 ? (size_t)(next_random() % n) : 0;
}

// ---------------------------------------------------------------------------------------------- mutations

static size_t insert(uint8_t *data, size_t size, size_t size_max, const void *bytes, size_t count) {
  if (count > size_max - size) return size;
  size_t at = below(size + 1);
  memmove(data + at + count, data + at, size - at);
  memcpy(data + at, bytes, count);
  return size + count;
}

static size_t overwrite(uint8_t *data, size_t size, const void *bytes, size_t count) {
  if (count > size) return size;
  memcpy(data + below(size - count + 1), bytes, count);
  return size;
}

static size_t erase(uint8_t *data, size_t size) {
  if (size == 0) return 0;
  size_t at = below(size), most = (size_t)1 << below(10);
  size_t count = 1 + below(RAG_MIN(size - at, most));
  memmove(data + at, data + at + count, size - at - count);
  return size - count;
}

static size_t copy_part(uint8_t *data, size_t size, size_t size_max) {
  uint8_t part[256];
  if (size == 0) return 0;
  size_t from = below(size), count = 1 + below(RAG_MIN(size - from, sizeof part));
  memcpy(part, data + from, count);
  return below(2) ? insert(data, size, size_max, part, count) : overwrite(data, size, part, count);
}

static size_t take_part(uint8_t *data, size_t size, size_t size_max) { // a part of another input
  const input *other = &inputs[below(input_count)];
  if (other->size == 0) return size;
  size_t from = below(other->size), count = 1 + below(RAG_MIN(other->size - from, (size_t)256));
  return below(2) ? insert(data, size, size_max, other->data + from, count)
                  : overwrite(data, size, other->data + from, count);
}

static size_t put_number(uint8_t *data, size_t size, size_t size_max) {
  static const uint64_t numbers[] = {0,     1,     2,     127,       128,        255,       256,       32767,
                                     32768, 65535, 65536, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
  uint64_t v = numbers[below(RAG_COUNT_OF(numbers))] + below(3) - 1;
  uint8_t bytes[8];
  size_t width = (size_t)1 << below(4);
  bool big = below(2) == 0;
  for (size_t i = 0; i < width; i++) bytes[big ? width - 1 - i : i] = (uint8_t)(v >> (8 * i));
  return below(3) == 0 ? insert(data, size, size_max, bytes, width) : overwrite(data, size, bytes, width);
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max) {
  uint8_t byte = (uint8_t)next_random();
  switch (below(9)) {
  case 0:
    if (size > 0) data[below(size)] ^= (uint8_t)(1u << below(8));
    return size;
  case 1:
    if (size > 0) data[below(size)] = byte;
    return size;
  case 2:
    return insert(data, size, size_max, &byte, 1);
  case 3:
    return erase(data, size);
  case 4:
    return copy_part(data, size, size_max);
  case 5:
    return take_part(data, size, size_max);
  case 6:
    return put_number(data, size, size_max);
  default: {
    if (token_count == 0) return copy_part(data, size, size_max);
    rag_slice token = tokens[below(token_count)];
    return below(2) ? insert(data, size, size_max, token.data, token.size)
                    : overwrite(data, size, token.data, token.size);
  }
  }
}

// ---------------------------------------------------------------------------------------------- files

static _Noreturn void stop(const char *what, const char *path) {
  fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
  exit(2);
}

static void add_file(const char *path) {
  rag_error err = {0};
  char *data = NULL;
  size_t size = 0;
  if (input_count == INPUTS_MAX || rag_os_read_file(path, INPUT_BYTES_MAX, &data, &size, &err) != RAG_OK) {
    fprintf(stderr, "%s: %s\n", path, err.message);
    exit(2);
  }
  inputs[input_count++] = (input){strdup(path), (uint8_t *)data, size};
}

static int by_path(const void *a, const void *b) {
  return strcmp(((const input *)a)->path, ((const input *)b)->path);
}

static void add_path(const char *path) {
  struct stat info;
  if (stat(path, &info) != 0) stop("look at", path);
  if (!S_ISDIR(info.st_mode)) {
    add_file(path);
    return;
  }
  DIR *dir = opendir(path);
  if (dir == NULL) stop("open", path);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char child[4096];
    if (entry->d_name[0] == '.') continue;
    snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
    add_file(child);
  }
  closedir(dir);
}

// One "text" a line, as libFuzzer and AFL read it: \\, \" and \xNN are escapes, '#' begins a comment.
static void read_dictionary(const char *path) {
  rag_error err = {0};
  char *text = NULL;
  size_t size = 0;
  if (rag_os_read_file(path, (size_t)1 << 20, &text, &size, &err) != RAG_OK) stop("read", path);
  for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    char *from = strchr(line, '"'), *to = strrchr(line, '"');
    if (line[0] == '#' || from == NULL || to == from || token_count == TOKENS_MAX) continue;
    char *out = from + 1, *start = out;
    for (char *p = from + 1; p < to; p++) {
      unsigned code;
      if (*p == '\\' && p[1] == 'x' && sscanf(p + 2, "%2x", &code) == 1) {
        *out++ = (char)code;
        p += 3;
      } else {
        if (*p == '\\') p++;
        *out++ = *p;
      }
    }
    if (out > start) tokens[token_count++] = rag_slice_of(start, (size_t)(out - start));
  }
}

// ---------------------------------------------------------------------------------------------- running

static const uint8_t *running; // the input under test, for who dies of it
static size_t running_size;
static const char *running_from;
static uint64_t running_number;
static const char *program;

static void leave_input(void) {
  char path[512];
  const char *tmp = getenv("TMPDIR"), *name = strrchr(program, '/');
  static bool left;
  if (left || running == NULL) return;
  left = true;
  snprintf(path, sizeof path, "%s/%s.failed", tmp && tmp[0] ? tmp : "/tmp", name ? name + 1 : program);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd >= 0 && write(fd, running, running_size) == (ssize_t)running_size)
    fprintf(stderr, "%s: the input is in %s (%zu bytes; mutation %llu of %s)\n", program, path, running_size,
            (unsigned long long)running_number, running_from);
  if (fd >= 0) close(fd);
}

static void on_signal(int number) {
  leave_input();
  signal(number, SIG_DFL);
  raise(number);
}

static void run(const input *from, const uint8_t *data, size_t size, uint64_t number) {
  uint8_t *copy = (uint8_t *)fuzz_copy(data, size); // exactly its size: see fuzz_copy
  running_from = from->path;
  running_number = number;
  running_size = size;
  running = copy;
  REQUIRE(LLVMFuzzerTestOneInput(copy, size) == 0);
  running = NULL;
  free(copy);
}

static void mutate_and_run(const input *from, uint64_t number, uint64_t seed) {
  static uint8_t buffer[INPUT_BYTES_MAX];
  size_t size_max = RAG_MIN(from->size * 2 + 64, INPUT_BYTES_MAX), size = from->size;
  state = seed ^ number * UINT64_C(0xd1342543de82ef95);
  if (size > 0) memcpy(buffer, from->data, size);
  for (size_t i = 0, count = 1 + below(4); i < count; i++)
    size = LLVMFuzzerCustomMutator && below(4) != 0
               ? LLVMFuzzerCustomMutator(buffer, size, size_max, (unsigned)next_random())
               : LLVMFuzzerMutate(buffer, size, size_max);
  run(from, buffer, size, number);
}

int main(int argc, char **argv) {
  uint64_t mutations = 20000, seconds = 2, seed = 1, done = 0;
  program = argv[0];
  for (int i = 1; i < argc; i++) {
    uint64_t *number = strcmp(argv[i], "--mutations") == 0 ? &mutations
                       : strcmp(argv[i], "--seconds") == 0 ? &seconds
                       : strcmp(argv[i], "--seed") == 0    ? &seed
                                                           : NULL;
    bool dictionary = strcmp(argv[i], "--dictionary") == 0;
    if ((number != NULL || dictionary) && i + 1 == argc) {
      fprintf(stderr, "%s needs a value\n", argv[i]);
      return 2;
    }
    if (number != NULL) *number = strtoull(argv[++i], NULL, 10);
    else if (dictionary) read_dictionary(argv[++i]);
    else add_path(argv[i]);
  }
  if (input_count == 0) { // a corpus that got lost must not pass for one without failures
    fprintf(stderr, "usage: %s [--mutations N] [--seconds S] [--seed K] [--dictionary FILE] FILE-OR-FOLDER...\n",
            argv[0]);
    return 2;
  }
  qsort(inputs, input_count, sizeof inputs[0], by_path);
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(leave_input);
  else
    for (size_t i = 0; i < 4; i++) signal((int[]){SIGABRT, SIGSEGV, SIGBUS, SIGFPE}[i], on_signal);
  signal(SIGABRT, on_signal);
  for (size_t i = 0; i < input_count; i++) run(&inputs[i], inputs[i].data, inputs[i].size, 0);
  uint64_t until_ns = rag_clock_monotonic_ns() + seconds * UINT64_C(1000000000);
  while (done < mutations && rag_clock_monotonic_ns() < until_ns) {
    mutate_and_run(&inputs[done % input_count], done + 1, seed);
    done++;
  }
  printf("%zu inputs, %llu mutations (seed %llu), no failure\n", input_count, (unsigned long long)done,
         (unsigned long long)seed);
  for (size_t i = 0; i < input_count; i++) {
    free(inputs[i].path);
    rag_free(inputs[i].data);
  }
  return 0;
}
