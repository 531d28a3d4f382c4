"""One peer with one build, spoken to in JSON lines: the protocol that README.md describes and bench_ann speaks too."""
import json, statistics, sys, time

import numpy as np

import peers
from formats import Set

WARM_UP = 50


def timed(peer, queries, k, filters=None):
    """The answers and microseconds of each query, one after the other."""
    ids = np.full((len(queries), k), -1, np.int32)
    us = np.empty(len(queries))
    clock = time.perf_counter_ns
    for n in range(min(WARM_UP, len(queries))):
        peer.one(queries[n:n + 1], k, *([] if filters is None else [filters[n]]))
    cpu = time.process_time()
    for n in range(len(queries)):
        q = queries[n:n + 1]
        more = [] if filters is None else [filters[n]]
        start = clock()
        found = peer.one(q, k, *more)
        us[n] = (clock() - start) / 1e3
        ids[n, :len(found)] = np.asarray(found).astype(np.int64)[:k]
    cpu = time.process_time() - cpu
    return ids, us, cpu / len(queries) * 1e6


def filtered(peer, data, message, queries, k):
    column = message["column"]
    values = data.query_values[:len(queries), data.columns.index(column)]
    ready = {v: peer.prepare_filter(column, int(v), data.mask(column, v), message["search"]) for v in np.unique(values)}
    return timed(peer, queries, k, [ready[v] for v in values])


def answer(peer, data, message, folder):
    k = message.get("k")
    if message["do"] == "build":
        base = np.asarray(data.base)
        fields = {name: data.fields[:, c] for c, name in enumerate(data.columns)}
        base[:].sum(dtype=np.float64) # from the disk before the clock runs
        before, cpu, start = peers.heap_bytes(), time.process_time(), time.perf_counter()
        peer.build(base, fields, message["build"], folder)
        out = {"build_s": time.perf_counter() - start, "build_cpu_s": time.process_time() - cpu}
        out.update(heap_bytes=peers.heap_bytes() - before, stored_bytes=peer.stored_bytes(), version=peer.version)
        if hasattr(peer, "call_overhead"):
            call, samples, query = peer.call_overhead(base.shape[1]), [], data.queries[:1]
            for _ in range(2000):
                start = time.perf_counter()
                call(query)
                samples.append((time.perf_counter() - start) * 1e6)
            out["call_overhead_us"] = statistics.median(samples)
        return out
    queries = np.ascontiguousarray(data.queries[:message["queries"]])
    try:
        if not peer.threads_are_told:
            peers.one_core(True)
        if message["do"] == "filter":
            if not hasattr(peer, "prepare_filter"):
                return {"unsupported": "no filter in its Python interface"}
            try:
                ids, us, cpu_us = filtered(peer, data, message, queries, k)
            except (RuntimeError, ValueError, TypeError) as e:
                return {"unsupported": str(e).strip().split("\n")[0][-200:]}
        else:
            peer.set(message["search"])
            ids, us, cpu_us = timed(peer, queries, k)
    finally:
        if not peer.threads_are_told:
            peers.one_core(False)
    ids.tofile(message["ids"])
    out = {"us": us.round(2).tolist(), "cpu_us": cpu_us}
    if message["do"] == "search":
        start = time.perf_counter()
        peer.batch(queries, k)
        out["batch_s"] = time.perf_counter() - start
    return out


def main(name, folder_of_set):
    made, argument = peers.PEERS[name]
    data, peer, folder = Set(folder_of_set), made(argument), peers.scratch()
    hello = {"version": peer.version, "filter_note": getattr(peer, "filter_note", None),
             "builds": [{"build": b, "searches": peer.searches(b)} for b in peer.builds(len(data.base))]}
    try:
        print(json.dumps(hello), flush=True)
        for line in sys.stdin:
            message = json.loads(line)
            if message["do"] == "quit":
                break
            print(json.dumps(answer(peer, data, message, folder)), flush=True)
    finally:
        peers.discard(folder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
