#!/usr/bin/env python3
"""Compares bench_lexical with tantivy and bm25s on the same tokens. README.md has the question and the results.

    run.py --ours build/release/bin/bench_lexical --set zipf:1000000 --set real:DIR --out results.json

real:DIR reads DIR/corpus_train.csv (SciFact) and short package descriptions of the apt lists of a Debian machine.
All three see the same lines: lower-case tokens with one space between them. One thread each; rounds interleave.
"""
import argparse, csv, glob, json, os, random, re, statistics, subprocess, sys, tempfile, time


def zipf_texts(count, seed=7):
    """A Zipf-Mandelbrot vocabulary of count/4 words (at most 500,000), log-normal lengths around 60 words."""
    import numpy as np
    rng = np.random.default_rng(seed)
    vocabulary = min(500_000, max(20_000, count // 4))
    p = 1.0 / (np.arange(vocabulary) + 2.7) ** 1.05
    cdf = np.cumsum(p / p.sum())
    lengths = np.clip(rng.lognormal(np.log(55), 0.6, count), 3, 1000).astype(int)
    names = ["w%x" % i for i in range(vocabulary)]
    for start in range(0, count, 10_000):
        part = lengths[start:start + 10_000]
        words = np.searchsorted(cdf, rng.random(part.sum()))
        at = 0
        for n in part:
            yield " ".join(names[w] for w in words[at:at + n].clip(0, vocabulary - 1))
            at += n


def tokens(text):
    return " ".join(t[:255] for t in re.findall(r"[a-z0-9]+", text.lower()))


def real_texts(folder):
    """Sentences of SciFact's abstracts, then package descriptions, until there are 100,000."""
    out = []
    csv.field_size_limit(1 << 30)
    with open(os.path.join(folder, "corpus_train.csv"), newline="") as f:
        for row in csv.DictReader(f):
            sentences = re.split(r"['\"]\s+['\"]", row["abstract"].strip("[]'\""))
            out.append(tokens(row["title"] + " " + " ".join(sentences)))
            out += [tokens(s) for s in sentences]
    for path in sorted(glob.glob("/var/lib/apt/lists/*_main_binary-*_Packages*")):
        raw = subprocess.run(["lz4", "-dc", path], capture_output=True).stdout if path.endswith(".lz4") else open(path, "rb").read()
        for stanza in raw.decode("utf-8", "replace").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Description|Section|Tag): (.*)$", stanza, re.M))
            if "Description" in fields:
                out.append(tokens(" ".join(fields.values())))
    out = [t for t in out if t][:100_000]
    random.Random(3).shuffle(out)
    return out


def make_queries(path, count, seed=11):
    """2 to 8 words of one text each, as a person who looks for it would take them: any words, frequent ones too."""
    rng = random.Random(seed)
    with open(path) as f:
        texts = f.read().split("\n")
    out = []
    while len(out) < count:
        words = list(dict.fromkeys(rng.choice(texts).split()))
        n = 2 + len(out) % 7
        if len(words) >= n:
            out.append(" ".join(rng.sample(words, n)))
    return out


class Ours:
    name = "ragd"

    def __init__(self, binary, texts, queries, sequences=False):
        args = [binary, texts, queries, "1000"] + (["sequences"] if sequences else [])
        self.p = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.build = json.loads(self.p.stdout.readline())

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return json.loads(self.p.stdout.readline())

    def run(self, k):
        return self.ask("run %d" % k)["us"]

    def close(self):
        self.p.stdin.write("quit\n")
        self.p.stdin.flush()
        self.p.wait()


class Tantivy:
    name = "tantivy"

    def __init__(self, texts, queries):
        import tantivy
        self.t = tantivy
        b = tantivy.SchemaBuilder()
        b.add_text_field("text", stored=False, tokenizer_name="whitespace", index_option="freq")
        self.schema = b.build()
        index = tantivy.Index(self.schema)
        start = time.perf_counter()
        writer = index.writer(heap_size=1_000_000_000, num_threads=1)
        with open(texts) as f:
            for line in f:
                d = tantivy.Document()
                d.add_text("text", line.rstrip("\n"))
                writer.add_document(d)
        writer.commit()
        writer.wait_merging_threads()
        self.build = {"build_s": time.perf_counter() - start}
        index.reload()
        self.searcher = index.searcher()
        self.build["segments"] = self.searcher.num_segments
        q = tantivy.Query
        self.queries = [q.boolean_query([(tantivy.Occur.Should, q.term_query(self.schema, "text", w, "freq"))
                                         for w in line.split()]) for line in open(queries).read().splitlines()]
        empty = q.term_query(self.schema, "text", "nosuchword", "freq")
        samples = []
        for _ in range(2000):
            start = time.perf_counter()
            self.searcher.search(empty, 10, count=False)
            samples.append((time.perf_counter() - start) * 1e6)
        self.build["call_overhead_us"] = statistics.median(samples)

    def run(self, k):
        out = []
        for q in self.queries:
            start = time.perf_counter()
            self.searcher.search(q, k, count=False)
            out.append((time.perf_counter() - start) * 1e6)
        return out

    def close(self):
        pass


class Bm25s:
    name = "bm25s"

    def __init__(self, texts, queries):
        import bm25s
        lines = [l.split() for l in open(texts).read().splitlines()]
        start = time.perf_counter()
        self.index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
        self.index.index(lines, show_progress=False)
        self.build = {"build_s": time.perf_counter() - start}
        self.queries = [l.split() for l in open(queries).read().splitlines()][:100]
        self.n = len(lines)
        self.run(10)

    def run(self, k):
        out = []
        for q in self.queries:
            start = time.perf_counter()
            self.index.retrieve([q], k=min(k, self.n), show_progress=False, n_threads=1)
            out.append((time.perf_counter() - start) * 1e6)
        return out

    def close(self):
        pass


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))]


def per_query(rounds, of):
    return [of(x) for x in zip(*rounds)]


def measure(name, texts_path, args):
    queries_path = texts_path + ".queries"
    with open(queries_path, "w") as f:
        f.write("\n".join(make_queries(texts_path, args.queries)) + "\n")
    engines = [Ours(args.ours, texts_path, queries_path), Tantivy(texts_path, queries_path)]
    if engines[0].build["texts"] <= args.bm25s_max:
        engines.append(Bm25s(texts_path, queries_path))
    out = {"set": name, "build": {e.name: e.build for e in engines}, "latency": []}
    for k in (10, 1000):
        rounds = {e.name: [] for e in engines}
        for _ in range(args.rounds):
            for e in engines:
                rounds[e.name].append(e.run(k))
        # A query's time is its best of the rounds: other programs on the machine only ever add. The median of the
        # rounds is kept beside it.
        for words, of in [(0, statistics.median)] + [(w, min) for w in [0] + list(range(2, 9))]:
            row = {"k": k, "words": words or "2-8", "of_rounds": "best" if of is min else "median"}
            for e in engines:
                us = per_query(rounds[e.name], of)
                us = [u for i, u in enumerate(us) if not words or 2 + i % 7 == words]
                row[e.name] = {"p50_us": round(percentile(us, .5), 1), "p99_us": round(percentile(us, .99), 1)}
                if e.name == "tantivy":
                    for p in ("p50_us", "p99_us"):
                        row["ratio_" + p[:3]] = round(row["ragd"][p] / row["tantivy"][p], 3)
            out["latency"].append(row)
            print(json.dumps(row), flush=True)
    ours = engines[0]
    us = ours.ask("first")["us"]
    out["first_queries_of_a_counted_version"] = {"p50_us": percentile(us, .5), "p99_us": percentile(us, .99)}
    us = ours.ask("commits 1000")["us"]
    out["append_one_and_derive_a_version"] = {"p50_us": percentile(us, .5), "p99_us": percentile(us, .99)}
    us = ours.ask("run 10")["us"]
    out["first_queries_of_a_derived_version"] = {"p50_us": percentile(us, .5), "p99_us": percentile(us, .99)}
    for e in engines:
        e.close()
    with_sequences = Ours(args.ours, texts_path, queries_path, True)
    out["build"]["ragd_with_sequences"] = with_sequences.build
    with_sequences.close()
    print(json.dumps({k: v for k, v in out.items() if k != "latency"}), flush=True)
    return out


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--ours", required=True)
    a.add_argument("--set", action="append", required=True)
    a.add_argument("--out")
    a.add_argument("--queries", type=int, default=700)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--bm25s-max", type=int, default=100_000, help="texts; it needs minutes and GB beyond")
    args = a.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.set:
            kind, _, what = name.partition(":")
            path = os.path.join(folder, "texts")
            with open(path, "w") as f:
                for line in (zipf_texts(int(what)) if kind == "zipf" else real_texts(what)):
                    f.write(line + "\n")
            label = name if kind == "zipf" else "real"
            results.append(measure(label, path, args))
            results[-1]["load_average"] = os.getloadavg()
            if args.out:
                with open(args.out, "w") as f:
                    json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
