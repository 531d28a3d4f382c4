"""From the rows of a run: each engine's best at the target recall, ours beside the best peer's, and the plot."""
import json, os

from plot import draw

TARGET = 0.98


def best(rows, least):
    good = [r for r in rows if r["recall"] >= TARGET]
    return min(good, key=least) if good else None


def engine_summary(name, rows):
    mine = {what: [r for r in rows if r.get("engine") == name and r["what"] == what]
            for what in ("build", "search", "final", "filter")}
    # Measured at the end, beside the others: unless another build, of another run, was better in its sweep.
    swept = best(mine["search"], lambda r: r["p50_us"])
    final = next((r for r in reversed(mine["final"]) if swept is None or r["build"] == swept["build"]), swept)
    out = {"engine": name, "version": mine["build"][0]["version"] if mine["build"] else None}
    if final is None:
        return {**out, "reached": False, "highest_recall": max((r["recall"] for r in mine["search"]), default=None)}
    built = next(b for b in mine["build"] if b["build"] == final["build"])
    out.update({k: final[k] for k in ("build", "search", "recall", "p50_us", "p99_us", "cpu_us", "qps_batch")})
    out["reached"] = final["recall"] >= TARGET
    out["call_overhead_us"] = built.get("call_overhead_us")
    out.update({k: built[k] for k in ("build_s", "build_cpu_s", "heap_bytes", "stored_bytes")})
    fastest = best(mine["search"] + mine["final"], lambda r: -r["qps_batch"])
    if fastest:
        out["best_qps"] = {k: fastest[k] for k in ("build", "search", "recall", "qps_batch")}
    able = [b for b in mine["build"]
            if any(s["recall"] >= TARGET for s in mine["search"] if s["build"] == b["build"])]
    if able:
        quickest = min(able, key=lambda b: b["build_s"])
        out["quickest_build"] = {k: quickest[k] for k in ("build", "build_s", "build_cpu_s")}
    out["filters"] = {}
    for column in dict.fromkeys(r["column"] for r in mine["filter"]):
        tried = [r for r in mine["filter"] if r["column"] == column]
        answered = [r for r in tried if "unsupported" not in r]
        if not answered:
            out["filters"][column] = {"unsupported": tried[-1]["unsupported"]}
            continue
        at = best(answered, lambda r: r["p50_us"]) or max(answered, key=lambda r: r["recall"])
        out["filters"][column] = {"recall": at["recall"], "p50_us": at["p50_us"], "p99_us": at["p99_us"],
                                  "search": at["search"], "of_unfiltered": round(at["p50_us"] / out["p50_us"], 2)}
    return out


def goals(engines):
    """Ours over the best of the peers that reach the target: what the goals are said in."""
    peers = [e for e in engines if not e["engine"].startswith("ragd") and e["reached"]]
    ours = [e for e in engines if e["engine"].startswith("ragd") and e["reached"]]
    if not peers:
        return None
    from peers import GRAPH_PEERS
    latency = min(peers, key=lambda e: e["p50_us"])
    rate = max(peers, key=lambda e: e["best_qps"]["qps_batch"])
    graphs = [e for e in peers if e["engine"] in GRAPH_PEERS]
    build = min(graphs, key=lambda e: e["quickest_build"]["build_s"]) if graphs else None
    out = {"best_latency": [latency["engine"], latency["p50_us"]],
           "best_throughput": [rate["engine"], rate["best_qps"]["qps_batch"]],
           "quickest_graph": build and [build["engine"], build["quickest_build"]["build_s"]], "ours": {}}
    for e in ours:
        out["ours"][e["engine"]] = {
            "latency": round(e["p50_us"] / latency["p50_us"], 3),
            "throughput": round(e["best_qps"]["qps_batch"] / rate["best_qps"]["qps_batch"], 3),
            "build": build and round(e["quickest_build"]["build_s"] / build["quickest_build"]["build_s"], 3)}
    return out


def table(engines):
    def cell(value, how="%s"):
        return "-" if value is None else how % value

    print("| engine | recall | p50, us | p99, us | CPU, us | batch, q/s | build, s | heap, MB | stored, MB |")
    print("| --- " * 9 + "|")
    for e in sorted(engines, key=lambda e: e.get("p50_us") or 1e12):
        mb = [None if e.get(k) is None else e[k] / 1e6 for k in ("heap_bytes", "stored_bytes")]
        print("| %s | %s |" % (e["engine"], " | ".join([
            cell(e.get("recall", e.get("highest_recall")), "%.3f"), cell(e.get("p50_us"), "%.0f"), cell(e.get("p99_us"), "%.0f"),
            cell(e.get("cpu_us"), "%.0f"), cell(e.get("qps_batch"), "%.0f"), cell(e.get("build_s"), "%.1f"),
            cell(mb[0], "%.0f"), cell(mb[1], "%.0f")])))


def conclude(path):
    with open(path) as f:
        rows = [json.loads(line) for line in f]
    about = rows[0]
    names = list(dict.fromkeys(r["engine"] for r in rows if r["what"] == "search"))
    engines = [engine_summary(n, rows) for n in names]
    stem = os.path.splitext(path)[0]
    with open(stem + "_summary.json", "w") as f:
        json.dump({"run": about, "target_recall": TARGET, "goals": goals(engines), "engines": engines,
                   "not_run": [r for r in rows if r["what"] in ("failed", "skipped")]}, f, indent=1)
        f.write("\n")
    table(engines)
    searches = {n: [r for r in rows if r["what"] in ("search", "final") and r["engine"] == n] for n in names}
    draw("%s set: %s vectors of %d dimensions" % (about["set"]["name"], format(about["set"]["rows"], ","), about["set"]["dims"]),
         "%s, %d cores, %s; each engine's best settings of the sweep" % (about["cpu"], about["cores"], about["started"]),
         [("one query at a time, one thread", "queries a second (1 / median latency)",
           {n: [(r["recall"], 1e6 / r["p50_us"]) for r in some] for n, some in searches.items()}),
          ("batch, two threads", "queries a second",
           {n: [(r["recall"], r["qps_batch"]) for r in some if "qps_batch" in r] for n, some in searches.items()})],
         stem + ".svg", target=TARGET)
