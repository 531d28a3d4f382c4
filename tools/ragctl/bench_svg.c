// The curve of `ragctl bench` as an SVG file that stands for itself: no scripts, no fonts or styles from elsewhere, and
// colours that follow the reader's light or dark background.
//
// Labels are placed one after another, the one that matters first, at the first of some spots around their point that
// covers nothing; where all cover something, at the one that covers least, with a line back to the point.
#include "tools/ragctl/bench.h"

#include <math.h>
#include <stdio.h>

#define WIDTH 860.0
#define HEIGHT 520.0
#define LEFT 78.0
#define RIGHT 26.0
#define TOP 84.0
#define BOTTOM 62.0
#define LETTER 6.3 // of 11 px, about
#define LINE 13.0
#define BOXES_MAX (2 * BENCH_SETTINGS_MAX + 1)
#define STEPS 24u           // points of a line that labels keep off
#define COVERS_LINE 10.0    // what each of them costs, in square pixels of a label that is covered
#define COVERS_DISTANCE 0.8 // and each pixel from the point

// Colours are written out for each class and once more for dark backgrounds, as many viewers know no CSS variables; one
// that knows no media queries shows the light ones.
static const char style[] =
    "<style>\n"
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}\n"
    ".title{font-size:16px;font-weight:600}\n"
    ".faint{fill:#59636e}\n"
    ".label{font-size:11px}\n"
    ".best{font-weight:700}\n"
    ".ground{fill:#ffffff}\n"
    ".grid{stroke:#d8dee4;stroke-width:1}\n"
    ".axis{stroke:#59636e;stroke-width:1;fill:none}\n"
    ".wanted{stroke:#1f2328;stroke-width:1;stroke-dasharray:5 4}\n"
    ".leader{stroke:#8c959f;stroke-width:.6}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}\n"
    ".knob{stroke:#0969da}.target{stroke:#9a6700;stroke-dasharray:2 4}\n"
    ".mark{stroke:#ffffff;stroke-width:1.2}\n"
    ".of-knob{fill:#0969da}.of-target{fill:#9a6700}.of-default{fill:#1a7f37}.of-exact{fill:#cf222e}\n"
    ".ring{fill:none;stroke:#1f2328;stroke-width:1.5}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#e6edf3}.faint{fill:#9198a1}.ground{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#9198a1}\n"
    ".wanted{stroke:#e6edf3}.leader{stroke:#6e7681}.knob{stroke:#58a6ff}.target{stroke:#d29922}.mark{stroke:#0d1117}\n"
    ".of-knob{fill:#58a6ff}.of-target{fill:#d29922}.of-default{fill:#3fb950}.of-exact{fill:#f85149}\n"
    ".ring{stroke:#e6edf3}\n"
    "}\n"
    "</style>\n";

typedef struct box {
  double x, y, width, height;
} box;
typedef struct drawing {
  const bench *b;
  bench_axes axes;
  rag_buf *out;
  box taken[BOXES_MAX];
  uint32_t taken_count;
  struct {
    double x, y;
  } passed[2 * BENCH_SETTINGS_MAX * STEPS];
  uint32_t passed_count;
} drawing;

static const char *const classes[] = {
    [BENCH_DEFAULT] = "default", [BENCH_EXACT] = "exact", [BENCH_KNOB] = "knob", [BENCH_RECALL] = "target"};

// Text of the user's: a name, which has no such signs today.
static void put_escaped(rag_buf *out, const char *text) {
  for (; *text; text++) {
    if (*text == '&') rag_buf_append_str(out, "&amp;");
    else if (*text == '<') rag_buf_append_str(out, "&lt;");
    else if (*text == '>') rag_buf_append_str(out, "&gt;");
    else if (*text == '"') rag_buf_append_str(out, "&quot;");
    else rag_buf_append_char(out, *text);
  }
}

static double x_at(double share) {
  return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_at(double share) {
  return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
}

static double x_of(const drawing *d, const bench_setting *s) {
  return x_at(bench_axes_x(&d->axes, s));
}

static double y_of(const drawing *d, const bench_setting *s) {
  return y_at(bench_axes_y_of(&d->axes, s->recall));
}

// ---------------------------------------------------------------------------------------------- around it

static void put_heading(const drawing *d) {
  const bench *b = d->b;
  char count[32], queries[32];
  ctl_count(b->filtered ? b->chunks_matched : b->target.chunks, count);
  ctl_count(b->queries.count, queries);
  rag_buf_printf(d->out, "<text class=\"title\" x=\"%g\" y=\"26\">", LEFT);
  put_escaped(d->out, b->kb);
  rag_buf_printf(d->out, ": recall and latency of vector search</text>\n<text class=\"faint\" x=\"%g\" y=\"45\">",
                 LEFT);
  rag_buf_printf(d->out, "%s vectors of %u dimensions, %s, %s at %s%s; %s queries, k = %u, best of %u %s</text>\n",
                 count, b->target.dimension, b->metric, b->engine, b->target.commit, b->filtered ? ", filtered" : "",
                 queries, b->k, b->rounds_done, b->rounds_done == 1 ? "round" : "rounds");
}

static void put_grid(const drawing *d) {
  const bench_axes *axes = &d->axes;
  rag_buf *out = d->out;
  double left = x_at(0), right = x_at(1), top = y_at(1), bottom = y_at(0), above = INFINITY;
  for (uint32_t i = 0; i < axes->latency_count; i++) {
    double x = x_at(bench_axes_x_of(axes, axes->latency_ticks[i]));
    rag_buf_printf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x, top, x, bottom);
    rag_buf_printf(out, "<text class=\"faint\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">%g</text>\n", x,
                   bottom + 18, axes->latency_ticks[i]);
  }
  for (uint32_t i = 0; i < axes->recall_count; i++) {
    double y = y_at(bench_axes_y_of(axes, axes->recall_ticks[i]));
    rag_buf_printf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", left, y, right, y);
    if (above - y < LINE) continue; // would be written over the last one
    above = y;
    rag_buf_printf(out, "<text class=\"faint\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">%g</text>\n", left - 8, y + 4,
                   axes->recall_ticks[i]);
  }
  rag_buf_printf(out, "<polyline class=\"axis\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>\n", left, top, left, bottom,
                 right, bottom);
  rag_buf_printf(out,
                 "<text text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">latency of the vector search, median (ms, "
                 "logarithmic)</text>\n",
                 (left + right) / 2, bottom + 44);
  rag_buf_printf(out,
                 "<text text-anchor=\"middle\" transform=\"translate(20 %.1f) rotate(-90)\">recall@%u (share of the "
                 "true hits; by misses)</text>\n",
                 (top + bottom) / 2, d->b->k);
}

static void put_mark(rag_buf *out, bench_series series, double x, double y) {
  switch (series) {
  case BENCH_DEFAULT:
    rag_buf_printf(out, "<path class=\"mark of-default\" d=\"M%.1f %.1fl6 6l-6 6l-6 -6z\">", x, y - 6);
    return;
  case BENCH_EXACT:
    rag_buf_printf(out, "<path class=\"mark of-exact\" d=\"M%.1f %.1fl6 11h-12z\">", x, y - 7);
    return;
  case BENCH_KNOB:
    rag_buf_printf(out, "<circle class=\"mark of-knob\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\">", x, y);
    return;
  default:
    rag_buf_printf(out, "<rect class=\"mark of-target\" x=\"%.1f\" y=\"%.1f\" width=\"8\" height=\"8\">", x - 4, y - 4);
  }
}

static const char *mark_end(bench_series series) {
  return series == BENCH_KNOB ? "</circle>" : series == BENCH_RECALL ? "</rect>" : "</path>";
}

static void put_key(const drawing *d) {
  const char *names[] = {[BENCH_DEFAULT] = "default",
                         [BENCH_EXACT] = "exact",
                         [BENCH_KNOB] = d->b->knob,
                         [BENCH_RECALL] = "target_recall"};
  double x = LEFT + 6;
  for (int series = BENCH_DEFAULT; series <= BENCH_RECALL; series++) {
    bool there = false;
    for (uint32_t i = 0; i < d->b->count; i++) there |= d->b->settings[i].series == (bench_series)series;
    if (!there) continue;
    put_mark(d->out, (bench_series)series, x, 62);
    rag_buf_append_str(d->out, mark_end((bench_series)series));
    rag_buf_printf(d->out, "<text x=\"%.1f\" y=\"66\">%s</text>\n", x + 12, names[series]);
    x += 12 + 8 * (double)strlen(names[series]) + 22;
  }
}

// ---------------------------------------------------------------------------------------------- the curve

static void put_lines(drawing *d, bench_series series) {
  const bench_setting *list[BENCH_SETTINGS_MAX];
  uint32_t count = bench_series_of(d->b, series, list);
  if (count < 2) return;
  rag_buf_printf(d->out, "<polyline class=\"line %s\" points=\"", classes[series]);
  for (uint32_t i = 0; i < count; i++) {
    double x = x_of(d, list[i]), y = y_of(d, list[i]);
    rag_buf_printf(d->out, "%s%.1f,%.1f", i ? " " : "", x, y);
    for (uint32_t step = 0; i + 1 < count && step < STEPS; step++, d->passed_count++) {
      d->passed[d->passed_count].x = x + (x_of(d, list[i + 1]) - x) * step / STEPS;
      d->passed[d->passed_count].y = y + (y_of(d, list[i + 1]) - y) * step / STEPS;
    }
  }
  rag_buf_append_str(d->out, "\"/>\n");
}

static void take(drawing *d, box taken) {
  if (d->taken_count < BOXES_MAX) d->taken[d->taken_count++] = taken;
}

static void put_wanted(drawing *d) {
  double share = bench_axes_y_of(&d->axes, d->b->target_recall), y = y_at(share);
  if (share <= 0) return;
  rag_buf_printf(d->out, "<line class=\"wanted\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x_at(0), y,
                 x_at(1), y);
  rag_buf_printf(d->out, "<text class=\"label faint\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">wanted: %g</text>\n",
                 x_at(1) - 4, y + 13, d->b->target_recall);
  take(d, (box){x_at(1) - 84, y, 84, 16});
}

static void put_points(drawing *d, bench_series series) {
  const bench *b = d->b;
  for (uint32_t i = 0; i < b->count; i++) {
    const bench_setting *s = &b->settings[i];
    if (s->series != series) continue;
    double x = x_of(d, s), y = y_of(d, s);
    if (s == b->best) rag_buf_printf(d->out, "<circle class=\"ring\" cx=\"%.1f\" cy=\"%.1f\" r=\"9\"/>\n", x, y);
    put_mark(d->out, series, x, y);
    rag_buf_printf(d->out, "<title>%s: recall %.4f, p50 %.3f ms, p95 %.3f ms, p99 %.3f ms</title>%s\n", s->name,
                   s->recall, (double)s->vector.p50 / 1000, (double)s->vector.p95 / 1000, (double)s->vector.p99 / 1000,
                   mark_end(series));
    take(d, (box){x - 6, y - 6, 12, 12});
  }
}

// ---------------------------------------------------------------------------------------------- labels

static double overlap(const drawing *d, box at) {
  double sum = 0;
  for (uint32_t i = 0; i < d->taken_count; i++) {
    const box *o = &d->taken[i];
    double width = RAG_MIN(at.x + at.width, o->x + o->width) - RAG_MAX(at.x, o->x);
    double height = RAG_MIN(at.y + at.height, o->y + o->height) - RAG_MAX(at.y, o->y);
    if (width > 0 && height > 0) sum += width * height;
  }
  for (uint32_t i = 0; i < d->passed_count; i++)
    if (d->passed[i].x >= at.x && d->passed[i].x <= at.x + at.width && d->passed[i].y >= at.y &&
        d->passed[i].y <= at.y + at.height)
      sum += COVERS_LINE;
  if (at.x < LEFT + 2 || at.x + at.width > WIDTH - 4) sum += 1000;
  if (at.y < TOP - 16 || at.y + at.height > HEIGHT - BOTTOM - 2) sum += 1000;
  return sum;
}

static void put_label(drawing *d, const bench_setting *s) {
  static const double radii[] = {9, 22, 36, 52, 70};
  static const double ways[][2] = {{1, 0.4}, {1, -0.4}, {-1, -0.4}, {-1, 0.4},
                                   {0, 1},   {0, -1},   {0.7, 0.8}, {-0.7, -0.8}};
  double x = x_of(d, s), y = y_of(d, s), width = LETTER * (double)strlen(s->name) + 2, least = INFINITY, radius = 0;
  box best = {0};
  for (size_t r = 0; r < RAG_COUNT_OF(radii); r++)
    for (size_t w = 0; w < RAG_COUNT_OF(ways); w++) {
      double cx = x + ways[w][0] * radii[r], cy = y + ways[w][1] * radii[r];
      double left = ways[w][0] > 0.5 ? cx : ways[w][0] < -0.5 ? cx - width : cx - width / 2;
      box at = {left, cy - LINE / 2 + (fabs(ways[w][0]) < 0.5 ? ways[w][1] * 5 : 0), width, LINE};
      double covers = overlap(d, at) + COVERS_DISTANCE * radii[r];
      if (covers < least) least = covers, best = at, radius = radii[r];
    }
  take(d, best);
  if (radius > radii[0]) {
    double to_x = RAG_MIN(RAG_MAX(x, best.x), best.x + best.width);
    double to_y = best.y > y ? best.y + 2 : best.y + best.height < y ? best.y + best.height - 2 : y;
    rag_buf_printf(d->out, "<line class=\"leader\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x, y, to_x,
                   to_y);
  }
  rag_buf_printf(d->out, "<text class=\"label%s\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", s == d->b->best ? " best" : "",
                 best.x + 1, best.y + LINE - 3, s->name);
}

static void put_labels(drawing *d) {
  static const bench_series order[] = {BENCH_DEFAULT, BENCH_EXACT, BENCH_KNOB, BENCH_RECALL};
  const bench *b = d->b;
  if (b->best) put_label(d, b->best);
  for (size_t o = 0; o < RAG_COUNT_OF(order); o++)
    for (uint32_t i = 0; i < b->count; i++)
      if (b->settings[i].series == order[o] && &b->settings[i] != b->best) put_label(d, &b->settings[i]);
}

rag_status bench_svg(const bench *b, rag_buf *out, rag_error *err) {
  drawing d = {.b = b, .out = out};
  bench_axes_of(b, &d.axes);
  rag_buf_printf(
      out,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" role=\"img\" "
      "aria-labelledby=\"title\">\n<title id=\"title\">Recall and latency of vector search on ",
      WIDTH, HEIGHT, WIDTH, HEIGHT);
  put_escaped(out, b->kb);
  rag_buf_append_str(out, "</title>\n");
  rag_buf_append_str(out, style);
  rag_buf_printf(out, "<rect width=\"%g\" height=\"%g\" class=\"ground\"/>\n", WIDTH, HEIGHT);
  put_heading(&d);
  put_grid(&d);
  put_key(&d);
  put_wanted(&d);
  put_lines(&d, BENCH_RECALL);
  put_lines(&d, BENCH_KNOB);
  for (int series = BENCH_RECALL; series >= BENCH_DEFAULT; series--) put_points(&d, (bench_series)series);
  put_labels(&d);
  rag_buf_append_str(out, "</svg>\n");
  return rag_buf_check(out, err);
}
