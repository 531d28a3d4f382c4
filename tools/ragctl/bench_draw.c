// The curve of `ragctl bench` in the terminal, and the axes that the SVG has too.
//
// A cell of the terminal is two by four dots of Braille for the lines, or one character for a point, a label or a
// part of an axis. Where stdout is no terminal, or a dumb one, lines are rows of "." and everything is ASCII.
#include "tools/ragctl/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROWS 15u
#define COLUMNS_MAX 92u
#define COLUMNS_MIN 30u
#define MARGIN 9u // of the labels on the left, the axis included
#define LABEL_MAX 24u

// ---------------------------------------------------------------------------------------------- axes

static double latency_of(const bench_setting *setting) { // ms; a search takes some time, whatever the clock says
  return (double)RAG_MAX(setting->vector.p50, 1u) / 1000;
}

double bench_axes_x_of(const bench_axes *axes, double latency_ms) {
  return (log10(latency_ms) - axes->latency_low) / (axes->latency_high - axes->latency_low);
}

double bench_axes_x(const bench_axes *axes, const bench_setting *setting) {
  return bench_axes_x_of(axes, latency_of(setting));
}

double bench_axes_y_of(const bench_axes *axes, double recall) {
  double miss = RAG_MIN(-log10(RAG_MAX(1 - recall, 1e-12)), axes->miss_high);
  return RAG_MAX((miss - axes->miss_low) / (axes->miss_high - axes->miss_low), 0.0);
}

static void recall_axis(const bench *b, bench_axes *out) {
  static const double ticks[] = {0, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999};
  double lowest = 0.9, smallest = 0.5 / ((double)b->queries.count * b->k); // half of one miss in all: drawn as none
  for (uint32_t i = 0; i < b->count; i++) lowest = RAG_MIN(lowest, b->settings[i].recall);
  uint32_t first = 0;
  while (first + 1 < RAG_COUNT_OF(ticks) && ticks[first + 1] <= lowest) first++;
  out->miss_low = -log10(1 - ticks[first]);
  out->miss_high = RAG_MAX(-log10(smallest), out->miss_low + 1);
  for (uint32_t i = first; i < RAG_COUNT_OF(ticks) && -log10(1 - ticks[i]) < out->miss_high - 0.2; i++)
    out->recall_ticks[out->recall_count++] = ticks[i];
  out->recall_ticks[out->recall_count++] = 1;
}

static void latency_ticks(bench_axes *out, const double *steps, size_t count) {
  out->latency_count = 0;
  for (int decade = (int)floor(out->latency_low); decade <= (int)ceil(out->latency_high); decade++)
    for (size_t i = 0; i < count && out->latency_count < BENCH_TICKS_MAX; i++) {
      double at = decade + log10(steps[i]);
      if (at >= out->latency_low && at <= out->latency_high)
        out->latency_ticks[out->latency_count++] = steps[i] * pow(10, decade);
    }
}

static void latency_axis(const bench *b, bench_axes *out) {
  static const double coarse[] = {1, 2, 5}, fine[] = {1, 1.5, 2, 3, 4, 5, 6, 8};
  double low = INFINITY, high = -INFINITY;
  for (uint32_t i = 0; i < b->count; i++) {
    double at = log10(latency_of(&b->settings[i]));
    low = RAG_MIN(low, at);
    high = RAG_MAX(high, at);
  }
  double room = RAG_MAX((high - low) * 0.08, 0.05), middle = (low + high) / 2;
  double half = RAG_MAX((high - low) / 2 + room, 0.25); // wide enough for three fine ticks
  out->latency_low = middle - half;
  out->latency_high = middle + half;
  latency_ticks(out, coarse, RAG_COUNT_OF(coarse));
  if (out->latency_count < 3) latency_ticks(out, fine, RAG_COUNT_OF(fine));
}

void bench_axes_of(const bench *b, bench_axes *out) {
  *out = (bench_axes){0};
  recall_axis(b, out);
  latency_axis(b, out);
}

// ---------------------------------------------------------------------------------------------- cells

typedef struct cell {
  uint32_t symbol; // a code point; 0: none
  uint8_t dots;    // of a line that passes, as Braille numbers them
  bool letter;     // of a label
  const char *colour;
} cell;
typedef struct canvas {
  bool plain; // ASCII
  unsigned columns;
  cell cells[ROWS][COLUMNS_MAX];
  uint32_t target_row; // UINT32_MAX: off the drawing
} canvas;
typedef struct place { // in dots
  int x, y;
} place;

// How series are drawn: a symbol for terminals and one for the rest.
typedef struct look {
  uint32_t symbol;
  char plain;
} look;
static const look looks[] = {[BENCH_DEFAULT] = {0x25C6, 'D'},
                             [BENCH_EXACT] = {0x25B2, 'E'},
                             [BENCH_KNOB] = {0x25CF, 'o'},
                             [BENCH_RECALL] = {0x25CB, 'x'}};

static const char *colour_of(bench_series series) {
  switch (series) {
  case BENCH_DEFAULT:
    return ctl_colour.green;
  case BENCH_EXACT:
    return ctl_colour.red;
  case BENCH_KNOB:
    return ctl_colour.cyan;
  default:
    return ctl_colour.yellow;
  }
}

static place place_of(const canvas *c, const bench_axes *axes, const bench_setting *s) {
  double x = bench_axes_x(axes, s), y = bench_axes_y_of(axes, s->recall);
  return (place){(int)lround(x * (2 * c->columns - 1)), (int)lround((1 - y) * (4 * ROWS - 1))};
}

static cell *cell_at(canvas *c, place p) {
  if (p.x < 0 || p.y < 0 || p.x >= (int)(2 * c->columns) || p.y >= (int)(4 * ROWS)) return NULL;
  return &c->cells[p.y / 4][p.x / 2];
}

static void dot(canvas *c, place p, const char *colour) {
  static const uint8_t bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
  cell *at = cell_at(c, p);
  if (!at) return;
  at->dots |= bits[p.y % 4][p.x % 2];
  at->colour = colour;
}

static void line(canvas *c, place from, place to, const char *colour) {
  int steps = RAG_MAX(RAG_MAX(abs(to.x - from.x), abs(to.y - from.y)), 1);
  for (int i = 0; i <= steps; i++) {
    place p = {from.x + (int)lround((double)(to.x - from.x) * i / steps),
               from.y + (int)lround((double)(to.y - from.y) * i / steps)};
    dot(c, p, colour);
  }
}

static void draw_series(canvas *c, const bench *b, const bench_axes *axes, bench_series series) {
  const bench_setting *list[BENCH_SETTINGS_MAX];
  uint32_t count = bench_series_of(b, series, list);
  for (uint32_t i = 1; i < count; i++)
    line(c, place_of(c, axes, list[i - 1]), place_of(c, axes, list[i]), colour_of(series));
}

static void draw_points(canvas *c, const bench *b, const bench_axes *axes, bench_series series) {
  for (uint32_t i = 0; i < b->count; i++) {
    const bench_setting *s = &b->settings[i];
    cell *at = s->series == series ? cell_at(c, place_of(c, axes, s)) : NULL;
    if (!at) continue;
    at->symbol = c->plain ? (uint32_t)looks[series].plain : looks[series].symbol;
    at->colour = colour_of(series);
  }
}

// ---------------------------------------------------------------------------------------------- labels

// What a label there would cover: the dots of lines, or UINT32_MAX where there is no room. Labels are a blank apart.
static uint32_t covered(const canvas *c, int row, int column, int size) {
  uint32_t dots = 0;
  if (row < 0 || row >= (int)ROWS || column < 0 || column + size > (int)c->columns) return UINT32_MAX;
  for (int i = RAG_MAX(column - 1, 0); i < RAG_MIN(column + size + 1, (int)c->columns); i++) {
    const cell *at = &c->cells[row][i];
    bool within = i >= column && i < column + size;
    if (at->letter || (within && at->symbol)) return UINT32_MAX;
    dots += within && at->dots;
  }
  return dots;
}

static void draw_label(canvas *c, place p, const char *text, const char *colour) {
  int size = (int)strlen(text), row = p.y / 4, column = p.x / 2;
  const int spots[][2] = {{row, column + 2},        {row + 1, column + 1},   {row - 1, column - size},
                          {row, column - size - 1}, {row + 1, column},       {row - 1, column - size + 1},
                          {row - 1, column + 1},    {row + 1, column - size}};
  uint32_t least = UINT32_MAX, best = 0;
  for (uint32_t i = 0; i < RAG_COUNT_OF(spots); i++) {
    uint32_t there = covered(c, spots[i][0], spots[i][1], size);
    if (there < least) least = there, best = i;
  }
  if (least == UINT32_MAX) return; // no room: the table has it
  for (int i = 0; i < size; i++)
    c->cells[spots[best][0]][spots[best][1] + i] =
        (cell){.symbol = (unsigned char)text[i], .colour = colour, .letter = true};
}

// The one that matters first, as room is short.
static void draw_labels(canvas *c, const bench *b, const bench_axes *axes) {
  static const bench_series order[] = {BENCH_DEFAULT, BENCH_EXACT, BENCH_KNOB, BENCH_RECALL};
  if (b->best) draw_label(c, place_of(c, axes, b->best), b->best->name, ctl_colour.bold);
  for (size_t o = 0; o < RAG_COUNT_OF(order); o++)
    for (uint32_t i = 0; i < b->count; i++) {
      const bench_setting *s = &b->settings[i];
      if (s->series == order[o] && s != b->best) draw_label(c, place_of(c, axes, s), s->name, ctl_colour.dim);
    }
}

// ---------------------------------------------------------------------------------------------- on paper

static void put(uint32_t symbol) {
  char text[4];
  fwrite(text, 1, rag_utf8_encode(symbol, text), stdout);
}

static void put_cell(const canvas *c, uint32_t row, uint32_t column) {
  const cell *at = &c->cells[row][column];
  uint32_t symbol = at->symbol;
  const char *colour = at->colour;
  if (!symbol && at->dots) symbol = c->plain ? '.' : 0x2800u + at->dots;
  if (!symbol && row == c->target_row) {
    symbol = c->plain ? '-' : 0x254C;
    colour = ctl_colour.dim;
  }
  if (!symbol || symbol == ' ') putchar(' ');
  else if (colour && *colour) {
    fputs(colour, stdout);
    put(symbol);
    fputs(ctl_colour.off, stdout);
  } else put(symbol);
}

static void put_row(const canvas *c, const bench_axes *axes, uint32_t row) {
  char label[LABEL_MAX] = "";
  for (uint32_t i = 0; i < axes->recall_count; i++) // the higher one where two share a row
    if ((uint32_t)lround((1 - bench_axes_y_of(axes, axes->recall_ticks[i])) * (4 * ROWS - 1)) / 4 == row)
      snprintf(label, sizeof(label), "%g", axes->recall_ticks[i]);
  printf("%s%*s ", ctl_colour.dim, (int)MARGIN - 2, label);
  put(c->plain ? (label[0] ? '+' : '|') : (label[0] ? 0x2524u : 0x2502u));
  fputs(ctl_colour.off, stdout);
  for (uint32_t i = 0; i < c->columns; i++) put_cell(c, row, i);
  putchar('\n');
}

static uint32_t column_of(const canvas *c, const bench_axes *axes, double latency_ms) {
  return (uint32_t)lround(bench_axes_x_of(axes, latency_ms) * (2 * c->columns - 1)) / 2;
}

static void put_latency_axis(const canvas *c, const bench_axes *axes) {
  char labels[COLUMNS_MAX + LABEL_MAX + 1];
  uint32_t end = 0;
  memset(labels, ' ', sizeof(labels));
  printf("%s%*s", ctl_colour.dim, (int)MARGIN - 1, "");
  put(c->plain ? '+' : 0x2514);
  for (uint32_t column = 0; column < c->columns; column++) {
    bool tick = false;
    for (uint32_t i = 0; i < axes->latency_count; i++) tick |= column_of(c, axes, axes->latency_ticks[i]) == column;
    put(c->plain ? (tick ? '+' : '-') : (tick ? 0x252Cu : 0x2500u));
  }
  for (uint32_t i = 0; i < axes->latency_count; i++) {
    char label[LABEL_MAX];
    uint32_t size = (uint32_t)snprintf(label, sizeof(label), "%g", axes->latency_ticks[i]);
    uint32_t column = column_of(c, axes, axes->latency_ticks[i]);
    uint32_t start = column > size / 2 ? column - size / 2 : 0;
    if (i && start <= end) continue;
    memcpy(labels + start, label, size);
    end = start + size;
  }
  labels[end] = 0;
  printf("\n%*s%s ms%s\n", (int)MARGIN, "", labels, ctl_colour.off);
}

static void put_key(const canvas *c, const bench *b) {
  const char *names[] = {
      [BENCH_DEFAULT] = "default", [BENCH_EXACT] = "exact", [BENCH_KNOB] = b->knob, [BENCH_RECALL] = "target_recall"};
  printf("%*s%srecall@%u over the median latency of the vector search%s\n%*s", (int)MARGIN, "", ctl_colour.bold, b->k,
         ctl_colour.off, (int)MARGIN, "");
  for (int series = BENCH_DEFAULT; series <= BENCH_RECALL; series++) {
    bool there = false;
    for (uint32_t i = 0; i < b->count; i++) there |= b->settings[i].series == (bench_series)series;
    if (!there) continue;
    fputs(colour_of((bench_series)series), stdout);
    put(c->plain ? (uint32_t)looks[series].plain : looks[series].symbol);
    printf("%s %s  ", ctl_colour.off, names[series]);
  }
  putchar('\n');
}

void bench_draw(const bench *b) {
  const char *term = getenv("TERM");
  bench_axes axes;
  canvas *c = rag_calloc(1, sizeof(*c));
  if (!c) return; // the table says it all
  c->plain = isatty(STDOUT_FILENO) != 1 || (term && strcmp(term, "dumb") == 0);
  c->columns = RAG_MIN(RAG_MAX(ctl_terminal_width(), COLUMNS_MIN + MARGIN) - MARGIN, COLUMNS_MAX);
  bench_axes_of(b, &axes);
  double target = bench_axes_y_of(&axes, b->target_recall);
  c->target_row = target > 0 ? (uint32_t)lround((1 - target) * (4 * ROWS - 1)) / 4 : UINT32_MAX;
  draw_series(c, b, &axes, BENCH_RECALL);
  draw_series(c, b, &axes, BENCH_KNOB);
  for (int series = BENCH_RECALL; series >= BENCH_DEFAULT; series--) draw_points(c, b, &axes, (bench_series)series);
  draw_labels(c, b, &axes);
  put_key(c, b);
  for (uint32_t row = 0; row < ROWS; row++) put_row(c, &axes, row);
  put_latency_axis(c, &axes);
  putchar('\n');
  rag_free(c);
}
