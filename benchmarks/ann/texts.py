"""The texts of the real set: paragraphs of Debian package descriptions and of manual pages, and the queries.

Base texts are paragraphs of at least MIN_CHARS characters, each once. Queries are of another kind: the one-line synopsis of
a package, and the one line that a manual page has under NAME; neither occurs in the base, whole or as a paragraph.
Everything is sorted or drawn from a fixed seed, so the same package index and manual pages give the same files.
"""
import glob, gzip, json, random, re

MIN_CHARS = 60
SEED = 20261121
# One vendor's command has 16,000 generated pages, all alike, on some machines and not on others.
SKIPPED_PAGES = re.compile(r"/gcloud[^/]*$")

ROFF_ESCAPES = [
    (re.compile(r'\\".*$'), ""),
    (re.compile(r"\\f(\[[^\]]*\]|\(..|.)"), ""),
    (re.compile(r"\\s[-+]?\d+"), ""),
    (re.compile(r"\\\*(\[[^\]]*\]|\(..|.)"), ""),
    (re.compile(r"\\m\[[^\]]*\]|\\h'[^']*'|\\w'[^']*'"), ""),
    (re.compile(r"\\\((?:aq|cq)|\\\[(?:aq|cq)\]"), "'"),
    (re.compile(r"\\\([lr]q|\\\[[lr]q\]"), '"'),
    (re.compile(r"\\\((?:em|en)|\\\[(?:em|en)\]|\\-"), "-"),
    (re.compile(r"\\(\[[^\]]*\]|\(..)"), " "),
    (re.compile(r"\\e"), "\\\\"),
    (re.compile(r"\\[&|^c/,:%]"), ""),
    (re.compile(r"\\[ ~0]"), " "),
]
BREAKS = {"SH", "SS", "Sh", "Ss", "PP", "P", "LP", "TP", "TQ", "IP", "HP", "Pp", "It", "sp", "br", "RS", "RE", "Bl", "El", "UR", "UE"}
VERBATIM = {"nf": "fi", "EX": "EE", "Bd": "Ed", "TS": "TE", "Vb": "Ve"}
FONTS = {"B", "I", "BR", "IR", "RB", "RI", "BI", "IB", "SM", "SB"}


def plain(line):
    for pattern, to in ROFF_ESCAPES:
        line = pattern.sub(to, line)
    return line


def arguments(rest):
    return [quoted[1:-1] if quoted.startswith('"') else quoted for quoted in re.findall(r'"[^"]*"|\S+', rest)]


def man_page(path):
    """Yields (title of the section, paragraph). Neither tables nor examples; man(7) and mdoc(7)."""
    with gzip.open(path, "rb") as f:
        lines = f.read().decode("utf-8", "replace").split("\n")
    section, words, until = "", [], None
    for line in lines:
        if line[:1] not in (".", "'"):
            if until is None and line.strip():
                words.append(plain(line))
            elif until is None:
                yield section, " ".join(words)
                words = []
            continue
        macro, _, rest = line[1:].lstrip().partition(" ")
        if until is not None:
            until = None if macro == until else until
        elif macro in VERBATIM or macro in ("de", "ig"):
            until = VERBATIM.get(macro, ".")
        elif macro in BREAKS:
            yield section, " ".join(words)
            words = []
            if macro in ("SH", "Sh"):
                section = plain(" ".join(arguments(rest))).strip().upper()
        elif macro in FONTS:
            parts = [plain(a) for a in arguments(rest)]
            words.append(("" if len(macro) == 2 and macro not in ("SM", "SB") else " ").join(parts))
        elif macro == "Nd":
            words.append("- " + plain(rest))
        elif macro in ("Nm", "Fl", "Ar", "Pa", "Xr", "Cm", "Ev", "Em", "Sy", "Va", "Vt", "Fa", "Fn", "Dv", "Er", "Li", "Ql", "Dq", "Sq", "Pq"):
            words.append(" ".join(plain(a) for a in arguments(rest) if not re.fullmatch(r"[A-Z][a-z]", a)))
    yield section, " ".join(words)


def tidy(text):
    return " ".join(text.split())


def is_prose(text):
    letters = sum(c.isalpha() or c == " " for c in text)
    return len(text) >= MIN_CHARS and len(text.split()) >= 8 and letters >= 0.75 * len(text)


def key(text):
    return re.sub(r"\W+", " ", text.casefold()).strip()


def collect(packages_path, man_root, limit, query_count):
    """Two lists of (text, section): the base in random order, the queries."""
    base, synopses, one_liners, seen = [], [], [], set()

    def add(text, section):
        k = key(text)
        if is_prose(text) and k not in seen:
            seen.add(k)
            base.append((text, section))
            return True
        return False

    with open(packages_path, encoding="utf-8") as f:
        for document in sorted((json.loads(line) for line in f), key=lambda d: d["id"]):
            section = document["metadata"]["section"].split("/")[-1]
            added = [add(tidy(p), section) for p in re.split(r"\n\s*\n", document["text"][len(document["title"]):])]
            if any(added):
                synopses.append((tidy(document["title"]), section))
    packages = len(base)
    for number in (1, 2, 3, 4, 5, 6, 7, 8):
        for path in sorted(glob.glob("%s/man%d/*.gz" % (man_root, number))):
            if SKIPPED_PAGES.search(path):
                continue
            try:
                page = [(title, tidy(text)) for title, text in man_page(path)]
            except OSError: # a link to a page that is not installed
                continue
            section = "man%d" % number
            added = [add(text, section) for title, text in page if title != "NAME"]
            name = " ".join(text for title, text in page if title == "NAME")
            if any(added) and " - " in name:
                one_liners.append((name.split(" - ", 1)[1], section))
    rng = random.Random(SEED)
    manual = base[packages:]
    if len(base) > limit: # every package paragraph first, then as many of the manual pages as there is room for
        rng.shuffle(manual)
    base = (base[:packages] + manual)[:limit]
    rng.shuffle(base)

    queries, asked = [], set()
    for source, count in ((one_liners, query_count * 3 // 20), (synopses, query_count)):
        rng.shuffle(source)
        for text, section in source:
            k = key(text)
            if len(queries) < count and 4 <= len(text.split()) <= 20 and k not in seen and k not in asked:
                asked.add(k)
                queries.append((text, section))
    rng.shuffle(queries)
    return base, queries
