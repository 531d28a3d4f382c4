#!/usr/bin/env python3
"""Runs bench_json_vector and Python's own json on the same body, and writes both as one JSON file.

usage: run.py build/release/bin/bench_json_vector results.json
"""
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time


def cpu_model():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def measure_python(body):
    per_call = []
    for _ in range(201):
        start = time.perf_counter_ns()
        for _ in range(20):
            json.loads(body)
        per_call.append((time.perf_counter_ns() - start) / 20 / 1000)
    per_call.sort()
    return {
        "name": "python json.loads: request, JSON, 17 digits (Python floats of float32)",
        "bytes": len(body),
        "median_us": round(statistics.median(per_call), 3),
        "min_us": round(per_call[0], 3),
        "p99_us": round(per_call[len(per_call) * 99 // 100], 3),
    }


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, results_path = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        body_path = os.path.join(folder, "body.json")
        load_before = os.getloadavg()[0]
        results = json.loads(subprocess.run([program, body_path], check=True, capture_output=True).stdout)
        with open(body_path, "rb") as body:
            results["results"].append(measure_python(body.read()))
    results["machine"] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(load_before, 2),
    }
    with open(results_path, "w") as out:
        json.dump(results, out, indent=1)
        out.write("\n")
    for row in results["results"]:
        print(f"{row['median_us']:10.3f} us  {row['min_us']:10.3f} us  {row['bytes']:6} B  {row['name']}")


if __name__ == "__main__":
    main()
