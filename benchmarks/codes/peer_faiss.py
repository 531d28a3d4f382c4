#!/usr/bin/env python3
"""What a row costs in FAISS's scans of the same kinds of code: one thread, one query a call, k = 10.

  OMP_NUM_THREADS=1 python peer_faiss.py --ours bench_codes --out results/rows.json

Runs bench_codes and FAISS in turn, three rounds, and writes the medians of both. Times are CPU times of the thread, as
bench_codes measures them. FAISS's figures hold the whole search: its top ten too, and the preparation of the query.
"""
import argparse
import json
import os
import statistics
import subprocess
import time

import faiss
import numpy as np

ROWS = 300000
K = 10
SAMPLES = 15
QUERIES = 16


def scalar(kind):
    return lambda d: faiss.IndexScalarQuantizer(d, kind, faiss.METRIC_INNER_PRODUCT)


def rabitq(d):
    index = faiss.IndexRaBitQ(d, faiss.METRIC_INNER_PRODUCT)
    index.qb = 4
    return index


KINDS = {
    "fp32": lambda d: faiss.IndexFlatIP(d),
    "bf16": scalar(faiss.ScalarQuantizer.QT_bf16),
    "int8 (QT_8bit, a range per dimension)": scalar(faiss.ScalarQuantizer.QT_8bit),
    "int8 (QT_8bit_uniform, one range)": scalar(faiss.ScalarQuantizer.QT_8bit_uniform),
    "int8 (QT_8bit_direct_signed, no scale)": scalar(faiss.ScalarQuantizer.QT_8bit_direct_signed),
    "1 bit (IndexRaBitQ, qb = 4)": rabitq,
    "1 bit (IndexRaBitQFastScan)": lambda d: faiss.IndexRaBitQFastScan(d, faiss.METRIC_INNER_PRODUCT),
}


def measure():
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(1)
    results = []
    for d in (384, 768):
        rows = rng.standard_normal((ROWS, d), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        for name, make in KINDS.items():
            scaled = rows * 1000 if "direct" in name else rows  # it takes the values for codes
            index = make(d)
            index.train(scaled[:20000])
            index.add(scaled)
            samples = []
            for i in range(SAMPLES + 1):
                query = scaled[i % QUERIES : i % QUERIES + 1]
                start = time.thread_time()
                index.search(query, K)
                samples.append((time.thread_time() - start) / ROWS * 1e9)
            size = getattr(index, "code_size", 0) or index.sa_code_size()
            results.append({"code": name, "dimension": d, "rows": ROWS, "row_bytes": size,
                            "ns_per_row": round(statistics.median(samples[1:]), 2)})
            del index, scaled
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    before, ours, theirs = os.getloadavg()[0], [], []
    for _ in range(args.rounds):
        ours.append(json.loads(subprocess.run([args.ours], check=True, capture_output=True, text=True).stdout))
        theirs.append(measure())
    report = {"machine": {**ours[0]["machine"], "load_average_before": before, "load_average_after": os.getloadavg()[0]},
              "compiler": ours[0]["compiler"], "rounds": args.rounds,
              "faiss": {"version": faiss.__version__, "options": faiss.get_compile_options().strip()}}

    def merged(rounds, fields):
        lines = []
        for same in zip(*rounds):
            line = dict(same[0])
            for field in fields:
                line[field] = round(statistics.median(one[field] for one in same), 3)
            lines.append(line)
        return lines

    preparation = [f for f in ours[0]["preparation"][0] if f.endswith("_us")]
    report["preparation"] = merged([one["preparation"] for one in ours], preparation)
    report["rows"] = merged([one["rows"] for one in ours], ["ns_per_row", "gb_per_s"])
    report["faiss_rows"] = merged(theirs, ["ns_per_row"])
    parts = [f" {json.dumps(k)}: {json.dumps(v)}" if not isinstance(v, list) else
             f" {json.dumps(k)}: [\n  " + ",\n  ".join(json.dumps(line) for line in v) + "\n ]" for k, v in report.items()]
    with open(args.out, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
