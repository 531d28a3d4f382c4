"""Recall against queries a second, as SVG, without a library. One panel beside another, the rate on a log scale."""
import math
from xml.sax.saxutils import escape

INK, FAINT, GRID, PAPER = "#1f2933", "#616e7c", "#e4e7eb", "#ffffff"
# One colour a library, one dash and marker a kind of index of it; colours keep apart for colour-blind eyes.
COLOURS = {"ragd": "#d1242f", "faiss": "#0b62c4", "hnswlib": "#0a7d55", "usearch": "#b76e00", "lancedb": "#7b3fb5",
           "chromadb": "#596673"}
DASHES = ("", "7 3", "2 3")
LEFT, TOP, WIDTH, HEIGHT, GAP, LEGEND = 74, 64, 430, 380, 84, 190


def frontier(points):
    """(recall, rate): those that no other point beats in both, by recall."""
    out, best = [], -1.0
    for recall, rate in sorted(points, reverse=True):
        if rate > best:
            out.append((recall, rate))
            best = rate
    return out[::-1]


def marker(kind, x, y, colour):
    if kind == 0:
        return '<circle cx="%.1f" cy="%.1f" r="3.4" fill="%s"/>' % (x, y, colour)
    if kind == 1:
        return '<rect x="%.1f" y="%.1f" width="6.4" height="6.4" fill="%s"/>' % (x - 3.2, y - 3.2, colour)
    return '<path d="M%.1f %.1fl4.2 7.2h-8.4z" fill="%s"/>' % (x, y - 4.4, colour)


def text(x, y, what, size=12, anchor="start", colour=INK, weight="normal", turn=""):
    return '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" fill="%s" font-weight="%s"%s>%s</text>' % (
        x, y, size, anchor, colour, weight, turn, escape(what))


def draw(title, subtitle, panels, path, lowest=0.85, target=0.98):
    """panels: (title, y label, {engine: [(recall, rate)]})."""
    names = sorted({n for _, _, series in panels for n in series}, key=lambda n: (not n.startswith("ragd"), n))
    styles, seen = {}, {}
    for name in names:
        library = name.split()[0]
        styles[name] = (COLOURS.get(library, INK), seen.get(library, 0))
        seen[library] = seen.get(library, 0) + 1
    total = LEFT + len(panels) * WIDTH + (len(panels) - 1) * GAP + LEGEND
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
           'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">' % (total, 510, total, 510),
           '<rect width="%d" height="510" fill="%s"/>' % (total, PAPER),
           text(LEFT, 26, title, 17, weight="600"), text(LEFT, 45, subtitle, 12, colour=FAINT)]
    for p, (name, label, series) in enumerate(panels):
        left = LEFT + p * (WIDTH + GAP)
        lines = {n: [(r, q) for r, q in frontier(points) if r >= lowest] for n, points in series.items()}
        rates = [q for points in lines.values() for _, q in points] or [1.0, 10.0]
        low, high = math.log10(min(rates)) - 0.08, math.log10(max(rates)) + 0.08

        def at(recall, rate):
            return (left + WIDTH * (recall - lowest) / (1.0 - lowest),
                    TOP + HEIGHT * (1 - (math.log10(rate) - low) / (high - low)))

        out.append(text(left + WIDTH / 2, TOP + 4, name, 13, "middle", weight="600"))
        bottom = TOP + HEIGHT
        top = TOP + 14
        for step in range(int(round((1 - lowest) / 0.05)) + 1):
            r = lowest + 0.05 * step
            x = at(r, 10 ** low)[0]
            out.append('<path d="M%.1f %dV%d" stroke="%s"/>' % (x, top, bottom, GRID))
            out.append(text(x, bottom + 18, "%.2f" % r, 11, "middle", FAINT))
        for exponent in range(math.floor(low), math.ceil(high) + 1):
            for digit in (1, 2, 5):
                rate = digit * 10.0 ** exponent
                if low <= math.log10(rate) <= high:
                    y = at(lowest, rate)[1]
                    if y < top:
                        continue
                    out.append('<path d="M%d %.1fH%d" stroke="%s"/>' % (left, y, left + WIDTH, GRID))
                    out.append(text(left - 7, y + 4, "{:,.0f}".format(rate) if rate >= 1 else "%g" % rate, 11, "end", FAINT))
        x = at(target, 10 ** low)[0]
        out.append('<path d="M%.1f %dV%d" stroke="%s" stroke-dasharray="4 3"/>' % (x, top, bottom, FAINT))
        out.append(text(x - 4, bottom - 6, "%.2f" % target, 11, "end", FAINT))
        out.append('<path d="M%d %dV%dH%d" fill="none" stroke="%s"/>' % (left, top, bottom, left + WIDTH, FAINT))
        out.append(text(left + WIDTH / 2, bottom + 38, "recall@10", 12, "middle"))
        middle = TOP + HEIGHT / 2
        out.append(text(left - 58, middle, label, 12, "middle", turn=' transform="rotate(-90 %d %.1f)"' % (left - 58, middle)))
        for n in names:
            points = [at(*point) for point in lines.get(n, ())]
            colour, kind = styles[n]
            width = 3 if n.startswith("ragd") else 1.7
            if len(points) > 1:
                out.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="%g" stroke-dasharray="%s"/>' % (
                    " ".join("%.1f,%.1f" % point for point in points), colour, width, DASHES[kind % 3]))
            out += [marker(kind % 3, *point, colour) for point in points]
    x = LEFT + len(panels) * WIDTH + (len(panels) - 1) * GAP + 22
    for n, name in enumerate(names):
        y = TOP + 24 + 22 * n
        colour, kind = styles[name]
        out.append('<path d="M%d %dh26" stroke="%s" stroke-width="%g" stroke-dasharray="%s"/>' % (
            x, y, colour, 3 if name.startswith("ragd") else 1.7, DASHES[kind % 3]))
        out.append(marker(kind % 3, x + 13, y, colour))
        out.append(text(x + 34, y + 4, name, 12))
    out.append("</svg>")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")
