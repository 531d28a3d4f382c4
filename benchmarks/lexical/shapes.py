#!/usr/bin/env python3
"""Queries of other shapes than plain words: under a filter, with +must, all +must, with -not, phrases, prefix*; and what
versions and removals cost. README.md has the question and the results.

    shapes.py --ours build/release/bin/bench_lexical --count 1000000 --out results_shapes.json

The texts are run.py's Zipf ones. tantivy has positions here, and a text field of labels that stand for the filters: "p1"
is on the chunks that a filter of 1 in 1,000 keeps. Ours takes a bitmap; how one is made is another benchmark's question.
"""
import argparse, json, os, random, statistics, tempfile, time

from run import Ours, Tantivy, make_queries, percentile, per_query, zipf_texts

PERMILLES = (1, 10, 100, 500)


def kept(ordinal, permille):
    """As in lexical.c."""
    x = (ordinal + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    return ((x ^ x >> 29) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1) >> 40 < permille * (1 << 24) // 1000


def shaped(path, plain, count, seed=23):
    """name -> queries in the syntax of lexical.c."""
    rng = random.Random(seed)
    with open(path) as f:
        texts = [line.split() for line in f.read().split("\n")]
    texts = [t for t in texts if len(t) > 8]
    out = {"words": plain}
    out["one_must"] = ["+" + q for q in plain]
    out["all_must"] = [" ".join("+" + w for w in q.split()) for q in plain]
    out["one_not"] = [q + " -" + rng.choice(rng.choice(texts)) for q in plain]
    for n in (2, 3):
        phrases = []
        while len(phrases) < count:
            t = rng.choice(texts)
            at = rng.randrange(len(t) - n)
            phrases.append("~".join(t[at:at + n]))
        out["phrase_%d" % n] = phrases
    # A prefix with some dozen to some thousand expansions.
    out["prefix"] = [w[:max(3, len(w) - 1)] + "*" for w in (rng.choice(rng.choice(texts)) for _ in range(count))]
    return out


class Peer(Tantivy):
    def __init__(self, texts):
        import tantivy
        self.t = tantivy
        b = tantivy.SchemaBuilder()
        b.add_text_field("text", stored=False, tokenizer_name="whitespace", index_option="position")
        b.add_text_field("label", stored=False, tokenizer_name="whitespace", index_option="basic")
        self.schema = b.build()
        index = tantivy.Index(self.schema)
        start = time.perf_counter()
        writer = index.writer(heap_size=1_000_000_000, num_threads=1)
        with open(texts) as f:
            for ordinal, line in enumerate(f):
                d = tantivy.Document()
                d.add_text("text", line.rstrip("\n"))
                d.add_text("label", " ".join("p%d" % p for p in PERMILLES if kept(ordinal, p)))
                writer.add_document(d)
        writer.commit()
        writer.wait_merging_threads()
        self.build = {"build_s": time.perf_counter() - start}
        index.reload()
        self.searcher = index.searcher()
        self.build["segments"] = self.searcher.num_segments

    def query(self, line, permille):
        q, occur = self.t.Query, self.t.Occur
        clauses = []
        for w in line.split():
            role = {"+": occur.Must, "-": occur.MustNot}.get(w[0], occur.Should)
            w = w.lstrip("+-")
            if w.endswith("*"):
                one = q.regex_query(self.schema, "text", w[:-1] + ".*")
            elif "~" in w:
                one = q.phrase_query(self.schema, "text", w.split("~"))
            else:
                one = q.term_query(self.schema, "text", w, "freq")
            clauses.append((role, one))
        made = q.boolean_query(clauses)
        if permille:
            keep = q.const_score_query(q.term_query(self.schema, "label", "p%d" % permille, "basic"), 0.0)
            made = q.boolean_query([(occur.Must, made), (occur.Must, keep)])
        return made

    def prepare(self, lines, permille):
        self.queries = [self.query(line, permille) for line in lines]


def compare(ours, peer, lines, k, permille, rounds, folder):
    path = os.path.join(folder, "shaped")
    with open(path, "w") as f:
        f.write("\n".join(lines) + "\n")
    ours.ask("queries " + path)
    peer.prepare(lines, permille)
    mine, theirs, hits = [], [], 0
    for _ in range(rounds):
        answer = ours.ask("run %d %d" % (k, permille) if permille else "run %d" % k)
        mine.append(answer["us"])
        hits = answer["hits"]
        theirs.append(peer.run(k))
    # As run.py: on a busy machine the best of the rounds says more than their median, at p99 above all.
    row = {"hits": hits}
    for of in ("median", "best"):
        part = {}
        for name, runs in (("ragd", mine), ("tantivy", theirs)):
            us = per_query(runs, min if of == "best" else statistics.median)
            part[name] = {"p50_us": round(percentile(us, .5), 1), "p99_us": round(percentile(us, .99), 1)}
        for p in ("p50", "p99"):
            part["ratio_" + p] = round(part["ragd"][p + "_us"] / part["tantivy"][p + "_us"], 3)
        row[of] = part
    return row


def summary(us):
    return {"p50_us": percentile(us, .5), "p99_us": percentile(us, .99), "mean_us": round(statistics.fmean(us), 1)}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--ours", required=True)
    a.add_argument("--count", type=int, required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--queries", type=int, default=210)
    a.add_argument("--rounds", type=int, default=3)
    args = a.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts = os.path.join(folder, "texts")
        with open(texts, "w") as f:
            for line in zipf_texts(args.count):
                f.write(line + "\n")
        plain = make_queries(texts, args.queries)
        with open(texts + ".queries", "w") as f:
            f.write("\n".join(plain) + "\n")
        ours, peer = Ours(args.ours, texts, texts + ".queries", True), Peer(texts)
        out = {"set": "zipf:%d" % args.count, "build": {"ragd": ours.build, "tantivy": peer.build}, "latency": []}
        for shape, lines in shaped(texts, plain, args.queries).items():
            for k in (10, 1000):
                for permille in (0,) + PERMILLES if shape in ("words", "phrase_2") else (0,):
                    row = {"shape": shape, "k": k, "filter_permille": permille or None}
                    row.update(compare(ours, peer, lines, k, permille, args.rounds, folder))
                    out["latency"].append(row)
                    print(json.dumps(row), flush=True)
        ours.ask("queries " + texts + ".queries")
        versions = ours.ask("versions 1000")
        out["versions"] = {k: summary(v["us"] if isinstance(v, dict) else v)
                           for k, v in versions.items() if not isinstance(v, int)}
        out["versions"]["derived"] = versions["derived"]
        out["removal"] = [ours.ask("remove 190"), ours.ask("remove 250")]
        ours.close()
        print(json.dumps({k: v for k, v in out.items() if k != "latency"}), flush=True)
        out["load_average"] = os.getloadavg()
        with open(args.out, "w") as f:
            json.dump(out, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
