// Structured log: one line a call, one write(2) a line.
//
// Formats
//   text  2026-01-31T10:00:00.000001Z info kb.created name=docs title="two words" docs=3
//   json  {"time":"2026-01-31T10:00:00.000001Z","level":"info","event":"kb.created","name":"docs","docs":3}
// Both escape like JSON inside quotes; bytes that are not UTF-8 become U+FFFD. A line over LOG_LINE_MAX loses its end,
// is still well-formed, and says truncated=true.
//
// The pairs are found in the *format*, and each value is formatted alone: splitting the finished text instead would let
// a value with " admin=true" in it forge a field.
//
// Threads: the settings are atomic (relaxed: each is used by itself, and a line that goes by the old level is fine).
// Lines of two threads do not mix, as write(2) with one buffer is atomic on pipes up to PIPE_BUF (4096) and on files in
// append mode.
//
// Left to others: rotation, shipping.
#include "base/base.h"

#include <stdio.h>
#include <unistd.h>

#define LOG_LINE_MAX 4096
#define LOG_VALUE_MAX 4096
#define LOG_KEY_MAX 64
#define LOG_SPEC_MAX 32
// Kept free for what closes a line that was cut: a quote, ` truncated=true` or `,"truncated":true`, a brace, a newline.
#define LOG_TAIL_MAX 32

static _Atomic int log_fd = 2;
static _Atomic int log_level = RAG_LOG_INFO;
static _Atomic int log_format = RAG_LOG_TEXT;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void rag_log_setup(int fd, rag_log_level level, rag_log_format format) {
  atomic_store_explicit(&log_fd, fd, memory_order_relaxed);
  atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
  atomic_store_explicit(&log_format, (int)format, memory_order_relaxed);
}

bool rag_log_enabled(rag_log_level level) {
  return (int)level >= atomic_load_explicit(&log_level, memory_order_relaxed);
}

// --------------------------------------------------------------------------------------------------------- the line

typedef struct line {
  char text[LOG_LINE_MAX];
  size_t size; // <= LOG_LINE_MAX - LOG_TAIL_MAX until it is closed
  bool json;
  bool cut;
} line;

static bool put(line *l, const char *data, size_t size) {
  if (l->cut || LOG_LINE_MAX - LOG_TAIL_MAX - l->size < size) {
    l->cut = true;
    return false;
  }
  memcpy(l->text + l->size, data, size);
  l->size += size;
  return true;
}

static bool put_str(line *l, const char *s) {
  return put(l, s, strlen(s));
}

// One character of a quoted string, escaped; *io moves past it.
static bool put_escaped(line *l, const char *data, size_t size, size_t *io) {
  unsigned char c = (unsigned char)data[*io];
  char escape[8];
  if (c >= 0x80) {
    size_t length = 1;
    rag_utf8_decode(data + *io, size - *io, &length);
    bool valid = length > 1;
    const char *from = data + *io;
    *io += length;
    return valid ? put(l, from, length) : put_str(l, "\xEF\xBF\xBD");
  }
  (*io)++;
  switch (c) {
  case '"':
    return put_str(l, "\\\"");
  case '\\':
    return put_str(l, "\\\\");
  case '\n':
    return put_str(l, "\\n");
  case '\r':
    return put_str(l, "\\r");
  case '\t':
    return put_str(l, "\\t");
  default:
    break;
  }
  if (c >= 0x20 && c != 0x7F) return put(l, (const char *)&c, 1);
  snprintf(escape, sizeof(escape), "\\u%04x", c);
  return put_str(l, escape);
}

// A string in quotes. The closing quote comes out of the tail, so that a cut string is still closed.
static void put_quoted(line *l, const char *data, size_t size) {
  if (!put_str(l, "\"")) return;
  for (size_t i = 0; i < size;)
    if (!put_escaped(l, data, size, &i)) break;
  l->text[l->size++] = '"';
}

static bool needs_quotes(const char *data, size_t size) {
  if (size == 0) return true;
  for (size_t i = 0; i < size; i++) {
    unsigned char c = (unsigned char)data[i];
    if (c <= 0x20 || c >= 0x7F || c == '"' || c == '\\' || c == '=') return true;
  }
  return false;
}

static void put_pair(line *l, const char *key, const char *value, size_t size, bool number) {
  size_t before = l->size;
  bool fits = l->json ? put_str(l, ",\"") && put_str(l, key) && put_str(l, "\":") : //
                  put_str(l, " ") && put_str(l, key) && put_str(l, "=");
  bool quoted = l->json ? !number : needs_quotes(value, size);
  if (fits && quoted) {
    size_t start = l->size;
    put_quoted(l, value, size);
    fits = l->size > start; // a string may be cut, but not down to nothing at all
  } else if (fits) {
    fits = put(l, value, size);
  }
  if (!fits) l->size = before; // a key without its value, or a number without its end, would lie
}

static void close_line(line *l) {
  const char *tail = l->json ? (l->cut ? ",\"truncated\":true}\n" : "}\n") : (l->cut ? " truncated=true\n" : "\n");
  size_t size = strlen(tail);
  RAG_ASSERT(l->size + size <= LOG_LINE_MAX);
  memcpy(l->text + l->size, tail, size);
  l->size += size;
}

// -------------------------------------------------------------------------------------------------------- the format

typedef struct value {
  char text[LOG_VALUE_MAX];
  size_t size;
  unsigned conversions;
  bool numeric;  // the last conversion was of a number
  bool literals; // there is literal text, too
} value;

static void value_append(value *v, const char *data, size_t size) {
  size = RAG_MIN(size, sizeof(v->text) - v->size);
  if (size) memcpy(v->text + v->size, data, size);
  v->size += size;
}

// Scans one conversion ("%-8.3lu") at fmt into its parts. Returns what follows it.
typedef struct spec {
  char text[LOG_SPEC_MAX]; // as written
  int stars;               // arguments of width and precision
  char length[3];          // "", "h", "hh", "l", "ll", "z", "t", "j"
  char conversion;         // '\0' when the format ends early or is none of ours
} spec;

static const char *scan_spec(const char *fmt, spec *s) {
  *s = (spec){.stars = 0};
  const char *at = fmt + 1;
  while (*at && strchr("-+ #0123456789.*'", *at)) s->stars += *at++ == '*';
  for (size_t i = 0; *at && strchr("hlztj", *at); at++)
    if (i < sizeof(s->length) - 1) s->length[i++] = *at;
  size_t size = (size_t)(at - fmt) + 1;
  if (*at && strchr("diouxXcsfFeEgGpm", *at) && size < sizeof(s->text)) {
    memcpy(s->text, fmt, size);
    s->conversion = *at;
  }
  return *at ? at + 1 : at;
}

// va_list may be an array type, which decays in a parameter: in a struct it can be passed on by address.
typedef struct arguments {
  va_list list;
} arguments;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
// The format is a piece of a literal that the compiler has checked at the call of rag_log; only the stars vary.
#define FORMAT_ONE(type)                                                                                               \
  do {                                                                                                                 \
    type argument = va_arg(args->list, type);                                                                          \
    wanted = s->stars == 0   ? snprintf(out, capacity, s->text, argument)                                              \
             : s->stars == 1 ? snprintf(out, capacity, s->text, star[0], argument)                                     \
                             : snprintf(out, capacity, s->text, star[0], star[1], argument);                           \
  } while (0)

// Formats one argument of the type that `s` names. Returns the bytes written.
static size_t format_one(const spec *s, arguments *args, char *out, size_t capacity) {
  int star[2] = {0, 0};
  for (int i = 0; i < s->stars && i < 2; i++) star[i] = va_arg(args->list, int);
  int wanted = 0;
  if (strchr("diouxX", s->conversion)) {
    if (strcmp(s->length, "l") == 0) FORMAT_ONE(long);
    else if (strcmp(s->length, "ll") == 0) FORMAT_ONE(long long);
    else if (strcmp(s->length, "z") == 0) FORMAT_ONE(size_t);
    else if (strcmp(s->length, "t") == 0) FORMAT_ONE(ptrdiff_t);
    else if (strcmp(s->length, "j") == 0) FORMAT_ONE(intmax_t);
    else FORMAT_ONE(int); // h and hh are promoted
  } else if (s->conversion == 's') {
    FORMAT_ONE(const char *);
  } else if (s->conversion == 'p') {
    FORMAT_ONE(void *);
  } else if (s->conversion == 'c') {
    FORMAT_ONE(int);
  } else if (s->conversion == 'm') {
    wanted = snprintf(out, capacity, "%m");
  } else {
    FORMAT_ONE(double);
  }
  return wanted < 0 ? 0 : RAG_MIN((size_t)wanted, capacity - 1);
}
#undef FORMAT_ONE
#pragma GCC diagnostic pop

static bool is_number_text(const char *text, size_t size) {
  size_t i = size > 0 && text[0] == '-';
  bool leading_zero = i + 1 < size && text[i] == '0' && text[i + 1] >= '0' && text[i + 1] <= '9';
  if (i == size || leading_zero || text[i] < '0' || text[i] > '9') return false; // nan, inf, +1, padding, 007, 0x7
  for (; i < size; i++)
    if (!strchr("0123456789.eE+-", text[i])) return false;
  return true;
}

// Formats the value at fmt, up to the next space *of the format*, into *v. Returns where it ends, NULL on a conversion
// that is none of ours: what follows would read arguments of the wrong type.
static const char *format_value(const char *fmt, arguments *args, value *v) {
  v->size = 0;
  v->conversions = 0;
  v->numeric = v->literals = false;
  while (*fmt && *fmt != ' ') {
    if (*fmt != '%' || fmt[1] == '%') {
      value_append(v, fmt, 1);
      v->literals = true;
      fmt += *fmt == '%' ? 2 : 1;
      continue;
    }
    spec s;
    fmt = scan_spec(fmt, &s);
    if (!s.conversion || s.stars > 2) return NULL;
    char piece[LOG_VALUE_MAX];
    value_append(v, piece, format_one(&s, args, piece, sizeof(piece)));
    v->conversions++;
    v->numeric = strchr("diufFeEgG", s.conversion) != NULL;
  }
  return fmt;
}

static void put_pairs(line *l, const char *fmt, arguments *args) {
  value v;
  while (fmt && *fmt) {
    if (*fmt == ' ') {
      fmt++;
      continue;
    }
    char key[LOG_KEY_MAX] = "message"; // for a word of the format that is no pair
    size_t length = strcspn(fmt, "= %");
    if (fmt[length] == '=') {
      snprintf(key, sizeof(key), "%.*s", (int)RAG_MIN(length, sizeof(key) - 1), fmt);
      fmt += length + 1;
    }
    fmt = format_value(fmt, args, &v);
    bool number = v.conversions == 1 && v.numeric && !v.literals && is_number_text(v.text, v.size);
    if (fmt) put_pair(l, key, v.text, v.size, number);
  }
}

void rag_log(rag_log_level level, const char *event, const char *fmt, ...) {
  if (!rag_log_enabled(level)) return;
  line l;
  l.size = 0;
  l.cut = false;
  l.json = atomic_load_explicit(&log_format, memory_order_relaxed) == RAG_LOG_JSON;
  char time_text[RAG_TIME_TEXT_MAX];
  rag_time_format(rag_clock_now_us(), time_text);
  const char *level_text = level_names[RAG_MIN((size_t)level, RAG_COUNT_OF(level_names) - 1)];
  if (l.json) {
    put_str(&l, "{\"time\":\"");
    put_str(&l, time_text);
    put_str(&l, "\",\"level\":\"");
    put_str(&l, level_text);
    put_str(&l, "\",\"event\":");
    put_quoted(&l, event, strlen(event));
  } else {
    put_str(&l, time_text);
    put_str(&l, " ");
    put_str(&l, level_text);
    put_str(&l, " ");
    put_str(&l, event);
  }
  arguments args;
  va_start(args.list, fmt);
  put_pairs(&l, fmt, &args);
  va_end(args.list);
  close_line(&l);
  // A log that cannot be written has nobody to tell.
  rag_status ignored = rag_os_write_all(atomic_load_explicit(&log_fd, memory_order_relaxed), l.text, l.size, NULL);
  RAG_UNUSED(ignored);
}
