#!/usr/bin/env python3
"""Runs bench_exact_scan and the same searches in FAISS (IndexFlatIP, and bf16 by its scalar quantizer; one thread), in
turn, and writes both with their ratio: the median over the rounds, and the least and greatest of them, as a busy machine
moves memory-bound figures most.

  python peer_faiss.py --ours build/release/bin/bench_exact_scan --out benchmarks/exact_scan/results.json

Needs numpy and faiss-cpu. One query a call, another query each call, k = 10, as in exact_scan.c; FAISS is called by its
raw entry point with ready pointers, so that numpy checks nothing in the timed loop. What a call still costs in the Python
binding is measured on an index without rows and reported beside the figures as call_overhead_us.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import time

import faiss
import numpy as np

K = 10
SAMPLES = 31
QUERIES = 256
SAMPLE_SECONDS = 0.001
CELL = ("dimension", "rows", "filter", "candidates")
CLIENTS = ("dimension", "rows", "clients")


def unit_rows(count, dimension, rng):
    rows = rng.random((count, dimension), dtype=np.float32) * 2 - 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def time_search(index, queries, params):
    distances = np.empty(K, dtype=np.float32)
    labels = np.empty(K, dtype=np.int64)
    pointers = [faiss.swig_ptr(queries[i]) for i in range(len(queries))]
    out, ids = faiss.swig_ptr(distances), faiss.swig_ptr(labels)
    search, turn = index.search_c, 0
    samples, calls = [], 1
    while len(samples) < SAMPLES:
        start = time.perf_counter()
        for _ in range(calls):
            search(1, pointers[turn], K, out, ids, params)
            turn = (turn + 1) % len(pointers)
        took = time.perf_counter() - start
        if not samples and took < SAMPLE_SECONDS:
            calls *= 2
            continue
        samples.append(took / calls * 1e6)
    return statistics.median(samples)


def make_floats(dimension):
    return faiss.IndexFlatIP(dimension)


def make_bf16(dimension):
    return faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_bf16, faiss.METRIC_INNER_PRODUCT)


def measure(name, make, wanted):
    """The same (dimension, rows, filter) as ours; the filter is an IDSelectorBitmap over as many rows."""
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(1)
    results, index, made = [], None, None
    for dimension, rows, fraction, candidates in wanted:
        if made != (dimension, rows):
            index, made = None, (dimension, rows)
            queries = unit_rows(QUERIES, dimension, rng)
            overhead = time_search(faiss.IndexFlatIP(dimension), queries, None)
            index = make(dimension)
            for first in range(0, rows, 10000):
                index.add(unit_rows(min(10000, rows - first), dimension, rng))
        params = None
        if fraction < 1:
            bits = np.zeros((rows + 7) // 8 * 8, dtype=np.uint8)
            bits[rng.choice(rows, candidates, replace=False)] = 1
            selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
            params = faiss.SearchParameters(sel=selector)
        median = time_search(index, queries, params)
        results.append({"kernel": name, "dimension": dimension, "rows": rows, "filter": fraction,
                        "candidates": candidates, "k": K, "median_us": round(median, 3),
                        "call_overhead_us": round(overhead, 3)})
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="bench_exact_scan")
    parser.add_argument("--rows", default="200000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    rounds, load_before = [], os.getloadavg()[0]
    for _ in range(args.rounds):
        output = subprocess.run([args.ours, args.rows], check=True, capture_output=True, text=True).stdout
        report = json.loads(output)
        best = report["results"][0]["kernel"]
        ours = [r for r in report["results"] if r["kernel"] == best]
        cells = [tuple(r[f] for f in CELL) for r in ours]
        rounds.append({"results": report.pop("results") + measure("faiss", make_floats, cells)
                       + measure("faiss_bf16", make_bf16, cells)})

    def figures(kernel, cell, field="median_us"):
        return [r[field] for one in rounds for r in one["results"]
                if r["kernel"] == kernel and all(r[f] == v for f, v in zip(CELL, cell))]

    def rates(cell):
        return [r["searches_per_s"] for one in rounds for r in one["results"]
                if r["kernel"] == "clients" and all(r[f] == v for f, v in zip(CLIENTS, cell))]

    report["peer"] = {"name": "faiss-cpu IndexFlatIP, IndexScalarQuantizer QT_bf16; one thread", "version": faiss.__version__,
                      "options": faiss.get_compile_options().strip()}
    report["load_average"] = {"before": load_before, "after": os.getloadavg()[0]}
    report["summary"] = []
    for cell in [tuple(r[f] for f in CELL) for r in ours]:
        mine, theirs, codes = figures(best, cell), figures("faiss", cell), figures("codes", cell)
        halves, their_halves = figures("bfloat16", cell), figures("faiss_bf16", cell)
        ratios = sorted(b / a for a, b in zip(mine, theirs))
        overhead = statistics.median(figures("faiss", cell, "call_overhead_us"))
        report["summary"].append({
            **dict(zip(CELL, cell)), "ours": best, "ours_us": statistics.median(mine),
            "by_codes_us": statistics.median(codes),
            "faiss_over_codes": round(statistics.median(b / a for a, b in zip(codes, theirs)), 2),
            "faiss_us": statistics.median(theirs), "faiss_call_overhead_us": overhead,
            "bfloat16_us": statistics.median(halves),
            "bfloat16_codes_us": statistics.median(figures("bfloat16_codes", cell)),
            "faiss_bf16_us": statistics.median(their_halves),
            "faiss_bf16_over_bfloat16": round(statistics.median(b / a for a, b in zip(halves, their_halves)), 2),
            "faiss_over_ours": round(statistics.median(ratios), 2),
            "faiss_over_ours_range": [round(ratios[0], 2), round(ratios[-1], 2)]})
    cells = [tuple(r[f] for f in CLIENTS) for r in rounds[0]["results"] if r["kernel"] == "clients"]
    report["clients"] = [{**dict(zip(CLIENTS, c)), "searches_per_s": statistics.median(rates(c))} for c in cells]
    report["rounds"] = rounds
    text = json.dumps(report, indent=1)
    # One result a line: the innermost objects and lists hold no others.
    text = re.sub(r"[{\[][^{}\[\]]*[}\]]", lambda m: re.sub(r"\s*\n\s*", " ", m.group(0)), text)
    text = re.sub(r"\{[^{}]*\}", lambda m: re.sub(r"\s*\n\s*", " ", m.group(0)), text)
    with open(args.out, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    for line in report["summary"]:
        print(line)


if __name__ == "__main__":
    main()
