// What ragctl prints for people: colours, tables, numbers, times, progress.
//
// Texts of documents are untrusted: nothing of them reaches the terminal unfiltered (ctl_print_text), or an escape
// sequence in a document could rewrite what an operator sees.
#include "tools/ragctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#define TABLE_CELL_BYTES_MAX 4096u
#define PROGRESS_QUIET_NS UINT64_C(500000000)
#define PROGRESS_REDRAW_NS UINT64_C(100000000)
#define PROGRESS_LINE_NS UINT64_C(5000000000)
#define PROGRESS_BAR_COLUMNS 28u
#define WIDTH_DEFAULT 100u

ctl_colours ctl_colour = {"", "", "", "", "", "", ""};

void ctl_output_setup(void) {
  const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM"), *force = getenv("CLICOLOR_FORCE");
  bool forced = force && *force && strcmp(force, "0") != 0;
  if (no_color && *no_color) return;
  if (!forced && (!isatty(STDOUT_FILENO) || (term && strcmp(term, "dumb") == 0))) return;
  ctl_colour = (ctl_colours){"\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m", "\033[36m", "\033[0m"};
}

unsigned ctl_terminal_width(void) {
  struct winsize size;
  if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 40) return size.ws_col;
  return WIDTH_DEFAULT;
}

// ---------------------------------------------------------------------------------------------- text

static uint32_t next_character(rag_slice text, size_t at, size_t *size) {
  uint32_t c = rag_utf8_decode(text.data + at, text.size - at, size);
  if (*size == 0) *size = 1; // cannot be: answers are valid UTF-8
  return c;
}

static bool is_control(uint32_t c) {
  // C0, DEL, C1, and the marks that reverse the direction of what follows.
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void ctl_print_text(rag_slice text, bool newlines) {
  for (size_t at = 0, size = 0; at < text.size; at += size) {
    uint32_t c = next_character(text, at, &size);
    if (newlines && (c == '\n' || c == '\t')) putchar((int)c);
    else if (c == '\n' || c == '\t' || c == '\r') putchar(newlines ? '\r' == (int)c ? ' ' : (int)c : ' ');
    else if (is_control(c)) fputs("\xef\xbf\xbd", stdout);
    else fwrite(text.data + at, 1, size, stdout);
  }
}

static unsigned columns_of(uint32_t c) {
  if (is_control(c)) return 1; // shown as a replacement, or as a blank
  int columns = wcwidth((wchar_t)c);
  return columns < 0 ? 1 : (unsigned)columns;
}

unsigned ctl_columns(rag_slice text) {
  unsigned columns = 0;
  for (size_t at = 0, size = 0; at < text.size; at += size) columns += columns_of(next_character(text, at, &size));
  return columns;
}

size_t ctl_cut(rag_slice text, unsigned columns) {
  unsigned used = 0;
  size_t at = 0;
  for (size_t size = 0; at < text.size; at += size) {
    used += columns_of(next_character(text, at, &size));
    if (used > columns) break;
  }
  return at;
}

// ---------------------------------------------------------------------------------------------- tables

struct ctl_table {
  unsigned columns;
  const char *const *headings;
  rag_strings cells;
  bool failed;
};

ctl_table *ctl_table_create(unsigned columns, const char *const *headings) {
  ctl_table *table = rag_calloc(1, sizeof(*table));
  if (!table) return NULL;
  table->columns = columns;
  table->headings = headings;
  return table;
}

void ctl_table_slice(ctl_table *table, rag_slice text) {
  if (table && rag_strings_add(&table->cells, text, NULL) != RAG_OK) table->failed = true;
}

void ctl_table_cell(ctl_table *table, const char *fmt, ...) {
  char text[TABLE_CELL_BYTES_MAX];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof(text), fmt, args);
  va_end(args);
  ctl_table_slice(table, rag_slice_str(text));
}

size_t ctl_table_rows(const ctl_table *table) {
  return table ? table->cells.count / table->columns : 0;
}

static void print_cell(rag_slice text, unsigned width, bool right, bool last) {
  unsigned columns = ctl_columns(text);
  unsigned blanks = width > columns ? width - columns : 0;
  if (right) printf("%*s", (int)blanks, "");
  ctl_print_text(text, false);
  if (!right && !last) printf("%*s", (int)blanks, "");
  if (!last) fputs("  ", stdout);
}

void ctl_table_print(const ctl_table *table) {
  if (!table || table->failed) {
    fputs("ragctl: out of memory\n", stderr);
    return;
  }
  unsigned widths[16] = {0};
  RAG_ASSERT(table->columns <= RAG_COUNT_OF(widths));
  for (unsigned i = 0; i < table->columns; i++)
    widths[i] = ctl_columns(rag_slice_str(table->headings[i] + (table->headings[i][0] == '>')));
  for (size_t i = 0; i < table->cells.count; i++) {
    unsigned *width = &widths[i % table->columns];
    *width = RAG_MAX(*width, ctl_columns(rag_slice_str(table->cells.items[i])));
  }
  fputs(ctl_colour.bold, stdout);
  for (unsigned i = 0; i < table->columns; i++) {
    bool right = table->headings[i][0] == '>';
    print_cell(rag_slice_str(table->headings[i] + right), widths[i], right, i + 1 == table->columns);
  }
  printf("%s\n", ctl_colour.off);
  for (size_t i = 0; i < table->cells.count; i++) {
    unsigned column = (unsigned)(i % table->columns);
    bool last = column + 1 == table->columns;
    print_cell(rag_slice_str(table->cells.items[i]), widths[column], table->headings[column][0] == '>', last);
    if (last) putchar('\n');
  }
}

void ctl_table_destroy(ctl_table *table) {
  if (!table) return;
  rag_strings_free(&table->cells);
  rag_free(table);
}

// ---------------------------------------------------------------------------------------------- numbers, times

void ctl_time_local(rag_slice rfc3339, char out[64]) {
  int64_t us = 0;
  if (rfc3339.size == 0 || rag_time_parse(rfc3339, &us, NULL) != RAG_OK) {
    memcpy(out, "-", 2);
    return;
  }
  time_t seconds = (time_t)(us / 1000000);
  struct tm local;
  if (!localtime_r(&seconds, &local) || strftime(out, 64, "%Y-%m-%d %H:%M:%S %z", &local) == 0) memcpy(out, "-", 2);
}

void ctl_bytes(uint64_t bytes, char out[24]) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = (double)bytes;
  unsigned unit = 0;
  while (value >= 1024 && unit + 1 < RAG_COUNT_OF(units)) value /= 1024, unit++;
  snprintf(out, 24, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

void ctl_count(uint64_t count, char out[32]) {
  char digits[24];
  int size = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)count);
  char *to = out;
  for (int i = 0; i < size; i++) {
    if (i && (size - i) % 3 == 0) *to++ = ',';
    *to++ = digits[i];
  }
  *to = 0;
}

void ctl_duration(double seconds, char out[24]) {
  if (seconds < 0) snprintf(out, 24, "unknown");
  else if (seconds < 60) snprintf(out, 24, "%.*f s", seconds < 10 ? 1 : 0, seconds);
  else if (seconds < 3600) snprintf(out, 24, "%u min %u s", (unsigned)seconds / 60, (unsigned)seconds % 60);
  else snprintf(out, 24, "%.0f h %u min", seconds / 3600, (unsigned)seconds / 60 % 60);
}

// ---------------------------------------------------------------------------------------------- progress

void ctl_progress_begin(ctl_progress *progress, const char *what, bool bytes) {
  *progress = (ctl_progress){.what = what, .terminal = isatty(STDERR_FILENO) == 1, .bytes = bytes};
  progress->started_ns = progress->printed_ns = rag_clock_monotonic_ns();
}

static void amount(const ctl_progress *progress, uint64_t value, char out[32]) {
  if (progress->bytes) ctl_bytes(value, out);
  else ctl_count(value, out);
}

void ctl_progress_show(ctl_progress *progress, uint64_t done, uint64_t total, const char *unit, const char *note) {
  uint64_t now = rag_clock_monotonic_ns();
  if (now - progress->started_ns < PROGRESS_QUIET_NS) return;
  uint64_t interval = progress->terminal ? PROGRESS_REDRAW_NS : PROGRESS_LINE_NS;
  if (progress->shown && now - progress->printed_ns < interval) return;
  if (!progress->terminal && now - progress->started_ns < PROGRESS_LINE_NS) return;
  progress->shown = true;
  progress->printed_ns = now;

  char done_text[32], total_text[32], eta[40] = "";
  double share = total ? RAG_MIN((double)done / (double)total, 1.0) : 0;
  amount(progress, done, done_text);
  amount(progress, total, total_text);
  if (share > 0.01) {
    char left[24];
    ctl_duration((double)(now - progress->started_ns) / 1e9 * (1 - share) / share, left);
    snprintf(eta, sizeof(eta), ", %s left", left);
  }
  const char *after = note ? note : "";
  if (!progress->terminal) {
    if (total) fprintf(stderr, "%s: %s of %s %s%s%s\n", progress->what, done_text, total_text, unit, eta, after);
    else fprintf(stderr, "%s: %s %s%s\n", progress->what, done_text, unit, after);
    return;
  }
  char bar[PROGRESS_BAR_COLUMNS + 1];
  unsigned filled = (unsigned)(share * PROGRESS_BAR_COLUMNS);
  for (unsigned i = 0; i < PROGRESS_BAR_COLUMNS; i++) bar[i] = i < filled ? '#' : '.';
  bar[PROGRESS_BAR_COLUMNS] = 0;
  if (total)
    fprintf(stderr, "\r\033[K%s [%s] %3.0f%% %s of %s %s%s%s", progress->what, bar, share * 100, done_text, total_text,
            unit, eta, after);
  else fprintf(stderr, "\r\033[K%s: %s %s%s", progress->what, done_text, unit, after);
}

void ctl_progress_end(ctl_progress *progress) {
  if (progress->terminal && progress->shown) fputs("\r\033[K", stderr);
}
