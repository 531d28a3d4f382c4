#!/usr/bin/env python3
"""Which int8 code keeps recall best on real embeddings? Compares ways to choose the scale, in numpy.

  python calibration.py --base base.npy --queries queries.npy --out results/calibration.json

base, queries: float32 arrays of unit rows (several --base files are joined). For each way: the recall@10 of the exact
ten among the C rows that score best by codes, C = 10 (no re-scoring at all) to 50, and the error of a score in units of
the spread between a query's scores. The query is always 8 bits of its own scale, as the kernels have it, unless the way
says otherwise.

Ways
  vector       (x_i / max|x|) * 127, each row its own scale
  vector_fit   the same with the scale, below the maximum, that makes the row's squared error least (out of 16)
  global       one scale for all rows: the 99.99th percentile of |x_i|, beyond it clipped
  dimension    a scale for each dimension, from 1,000 rows (its largest |x_i| there); the query is multiplied by them
  range        a range for each dimension, from 1,000 rows (its least and largest x_i): FAISS's SQ8
  rotated      a random rotation, then as `vector`
  centred      the mean of the rows taken off, then as `vector`
  vector_q16   as `vector`, the query in full precision: what a finer query could gain at most
"""
import argparse
import json

import numpy as np

K = 10
DEPTHS = (10, 12, 15, 20, 50)


def by_vector(rows):
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127
    return np.rint(rows / np.maximum(scale, 1e-30)) * scale


def by_vector_fit(rows):
    top = np.abs(rows).max(axis=1, keepdims=True) / 127
    best, error = by_vector(rows), None
    error = ((best - rows) ** 2).sum(axis=1, keepdims=True)
    for part in np.linspace(0.6, 0.98, 16):
        coded = np.clip(np.rint(rows / (top * part)), -127, 127) * top * part
        e = ((coded - rows) ** 2).sum(axis=1, keepdims=True)
        best, error = np.where(e < error, coded, best), np.minimum(e, error)
    return best


def by_global(rows):
    scale = np.quantile(np.abs(rows[:4000]), 0.9999) / 127
    return np.clip(np.rint(rows / scale), -127, 127) * scale


def by_dimension(rows, queries):
    scale = np.maximum(np.abs(rows[:1000]).max(axis=0) / 127, 1e-30)
    return np.clip(np.rint(rows / scale), -127, 127), by_vector(queries * scale)


def by_range(rows):
    low, high = rows[:1000].min(axis=0), rows[:1000].max(axis=0)
    step = np.maximum((high - low) / 255, 1e-30)
    return np.clip(np.rint((rows - low) / step), 0, 255) * step + low


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="+", required=True)
    parser.add_argument("--queries", required=True)
    parser.add_argument("--count", type=int, default=500, help="queries")
    parser.add_argument("--out")
    args = parser.parse_args()
    rows = np.concatenate([np.load(f) for f in args.base]).astype(np.float32)
    queries = np.load(args.queries)[: args.count].astype(np.float32)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((rows.shape[1],) * 2))[0].astype(np.float32)
    mean = rows.mean(axis=0)
    peak = np.abs(rows).max(axis=1) / np.sqrt((rows**2).mean(axis=1))
    exact = queries @ rows.T
    true = np.argpartition(-exact, K, axis=1)[:, :K]
    spread = exact.std(axis=1).mean()
    ways = {
        "vector": lambda: (by_vector(rows), by_vector(queries)),
        "vector_fit": lambda: (by_vector_fit(rows), by_vector(queries)),
        "global": lambda: (by_global(rows), by_vector(queries)),
        "dimension": lambda: by_dimension(rows, queries),
        "range": lambda: (by_range(rows), by_vector(queries)),
        "rotated": lambda: (by_vector(rows @ rotation), by_vector(queries @ rotation)),
        "centred": lambda: (by_vector(rows - mean), by_vector(queries)),
        "vector_q16": lambda: (by_vector(rows), queries),
    }
    report = {"rows": len(rows), "dimension": rows.shape[1], "queries": len(queries), "k": K,
              "largest_over_rms": {"median": float(np.median(peak)), "p99": float(np.quantile(peak, 0.99))},
              "mean_norm": float(np.linalg.norm(mean)), "ways": []}
    for name, make in ways.items():
        coded, coded_queries = make()
        scores = (coded_queries @ coded.T).astype(np.float32)
        off = scores - exact
        off -= off.mean(axis=1, keepdims=True)  # a constant per query ranks nothing
        order = np.argpartition(-scores, max(DEPTHS), axis=1)[:, : max(DEPTHS)]
        order = np.take_along_axis(order, np.argsort(-np.take_along_axis(scores, order, 1), axis=1), 1)
        line = {"way": name, "error": round(float(off.std() / spread), 5), "recall": {}}
        for depth in DEPTHS:
            hits = sum(len(np.intersect1d(a, b)) for a, b in zip(order[:, :depth], true))
            line["recall"][depth] = round(hits / (K * len(queries)), 5)
        report["ways"].append(line)
        print(line, flush=True)
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            head = json.dumps({k: v for k, v in report.items() if k != "ways"}, indent=1)[:-2]
            file.write(head + ',\n "ways": [\n  ' + ",\n  ".join(json.dumps(w) for w in report["ways"]) + "\n ]\n}\n")


if __name__ == "__main__":
    main()
