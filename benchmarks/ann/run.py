#!/usr/bin/env python3
"""Runs the peers and ours on one set and writes results. README.md has the question, the sweep and the protocol.

    run.py --set DIR --ours build/release/bin/bench_ann --out benchmarks/ann/results
    run.py --plot benchmarks/ann/results/real.jsonl        draws and sums up again what was measured

Of every engine each build goes through its sweep; its best at the target recall stays alive. Then all of those answer in
turn, round by round, so that what else the machine does falls on all alike; then they answer under each filter.
"""
import argparse, json, os, platform, re, subprocess, sys, tempfile, time

import numpy as np

from formats import Set
from summary import conclude

HERE = os.path.dirname(os.path.abspath(__file__))
K = 10
OURS = ("ragd graph", "ragd ivf", "ragd flat")
ENOUGH = 0.9985      # a sweep stops here: what follows only costs more
SLOW_US = 40_000     # and here
TOLERANCE = 1e-6     # of a score: equal texts have equal vectors, and which of them is named is chance
KEEP_ROWS = 300_000  # up to so many rows every engine's best index fits in memory beside the others


class Engine:
    """A process that speaks the protocol: worker.py for a peer, bench_ann for ours."""

    def __init__(self, name, data, ours):
        command = ([ours, name.split(" ", 1)[1], data.folder] if name in OURS
                   else [sys.executable, os.path.join(HERE, "worker.py"), name, data.folder])
        env = dict(os.environ, OMP_WAIT_POLICY="PASSIVE", OPENBLAS_NUM_THREADS="2", LANCE_CPU_THREADS="2",
                   PYTHONDONTWRITEBYTECODE="1", LANCE_LOG="error", LANCEDB_LOG="error")
        self.name, self.data = name, data
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.ids = tempfile.NamedTemporaryFile(prefix="bench-ann-ids-")
        self.hello = self.read()

    def read(self):
        line = self.p.stdout.readline()
        if not line:
            raise RuntimeError("%s ended with status %s" % (self.name, self.p.wait()))
        return json.loads(line)

    def ask(self, **message):
        self.p.stdin.write(json.dumps(message) + "\n")
        self.p.stdin.flush()
        return self.read()

    def close(self):
        try:
            self.p.stdin.write('{"do": "quit"}\n')
            self.p.stdin.close()
        except OSError: # it ended by itself
            pass
        self.p.wait()
        self.ids.close()

    def search(self, search, queries, truth, column=None):
        """One round: (answer, recall)."""
        message = {"do": "filter" if column else "search", "search": search, "k": K, "queries": queries, "ids": self.ids.name}
        if column:
            message["column"] = column
        out = self.ask(**message)
        if "unsupported" in out:
            return out, None
        ids = np.fromfile(self.ids.name, np.int32).reshape(queries, K)
        return out, recall(self.data, ids, truth, column)


def recall(data, ids, truth, column):
    """Mean share of the K best that were found; a row of the same score counts, one that does not pass the filter does not."""
    total = 0.0
    for q in range(len(ids)):
        want = truth[q, :K][truth[q, :K] >= 0]
        if not len(want):
            total += 1.0
            continue
        got = np.unique(ids[q])
        got = got[(got >= 0) & (got < len(data.base))]
        if column:
            c = data.columns.index(column)
            got = got[data.fields[got, c] == data.query_values[q, c]]
        least = data.scores(q, want[-1:])[0] - TOLERANCE
        total += min(len(want), int((data.scores(q, got) >= least).sum())) / len(want)
    return total / len(ids)


def times(rounds):
    """A query's time is its best of the rounds: other programs on the machine only ever add."""
    best = np.min(np.array(rounds), axis=0)
    middle = np.median(np.array(rounds), axis=0)
    return {"p50_us": round(float(np.median(best)), 1), "p99_us": round(float(np.percentile(best, 99)), 1),
            "mean_us": round(float(best.mean()), 1), "p50_us_median_round": round(float(np.median(middle)), 1),
            "p99_us_median_round": round(float(np.percentile(middle, 99)), 1)}


class Bench:
    def __init__(self, args):
        self.args, self.data, self.started = args, Set(args.set), time.monotonic()
        self.truth = self.data.truth()
        self.queries = min(args.queries, len(self.data.queries))
        os.makedirs(args.out, exist_ok=True)
        self.path = os.path.join(args.out, (args.label or self.data.name) + ".jsonl")
        self.file = open(self.path, "w")
        self.write({"what": "run", "set": self.data.about, "queries": self.queries, "k": K, "rounds": args.rounds, "quick": args.quick,
                    "cpu": cpu_name(), "cores": os.cpu_count(), "kernel": platform.release(),
                    "started": time.strftime("%Y-%m-%d %H:%M"), "load_average": os.getloadavg()})

    def write(self, row):
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        if row["what"] != "run":
            print(json.dumps(row), flush=True)

    def rounds(self, engine, search, count, column=None, queries=None, truth=None):
        queries, truth = queries or self.queries, self.truth if truth is None else truth
        us, batches, cpu = [], [], []
        for _ in range(count):
            out, found = engine.search(search, queries, truth, column)
            if "unsupported" in out:
                return out
            us.append(out["us"])
            cpu.append(out["cpu_us"])
            batches.append(out.get("batch_s"))
            if np.mean(us[0]) > 2000: # a slow one is noisy in proportion; its rounds would be most of the run
                break
        row = {"search": search, "recall": round(found, 4), **times(us), "cpu_us": round(min(cpu), 1)}
        if batches[0]:
            row["qps_batch"] = round(queries / min(batches), 1)
        return row

    def sweep(self, name):
        """The engine of the best build, and the setting that was best with it; None where no build could be searched."""
        engine = Engine(name, self.data, self.args.ours)
        steps = engine.hello["builds"]
        engine.close()
        best, best_row = None, None
        for step in quick(steps) if self.args.quick else steps:
            if self.args.build and not any(b in json.dumps(step["build"]) for b in self.args.build):
                continue
            engine = Engine(name, self.data, self.args.ours)
            engine.step = step
            try:
                mine = self.sweep_build(engine, step)
            except RuntimeError as e:
                self.write({"what": "failed", "engine": name, "build": step["build"], "why": str(e)})
                mine = None
            if better(mine, best_row, self.args.target):
                if best:
                    best.close()
                best, best_row = engine, mine
            else:
                engine.close()
        return best, best_row

    def sweep_build(self, engine, step):
        built = engine.ask(do="build", build=step["build"], threads=2)
        about = {"engine": engine.name, "build": step["build"]}
        self.write({"what": "build", **about, "version": engine.hello["version"], **built,
                    "load_average": os.getloadavg()})
        best, passed = None, set()
        for search in step["searches"]:
            group = search.get("refine")
            if group in passed:
                continue
            row = {"what": "search", **about, **self.rounds(engine, search, self.args.rounds)}
            self.write(row)
            if row["recall"] >= ENOUGH or row["mean_us"] > SLOW_US:
                passed.add(group)
            if better(row, best, self.args.target):
                best = row
        return best

    def final(self, alive):
        """The best of every engine in turn, round by round."""
        kept = [{"us": [], "batch": [], "cpu": []} for _ in alive]
        for _ in range(self.args.final_rounds):
            for (engine, row), k in zip(alive, kept):
                out, found = engine.search(row["search"], self.queries, self.truth)
                k["us"].append(out["us"])
                k["batch"].append(out["batch_s"])
                k["cpu"].append(out["cpu_us"])
                k["recall"] = found
        for (engine, row), k in zip(alive, kept):
            self.write({"what": "final", "engine": engine.name, "build": row["build"], "search": row["search"],
                        "recall": round(k["recall"], 4), **times(k["us"]), "cpu_us": round(min(k["cpu"]), 1),
                        "qps_batch": round(self.queries / min(k["batch"]), 1), "load_average": os.getloadavg()})

    def filters(self, alive):
        """Under each filter the cheapest setting of the sweep that reaches the target, and the one after it.

        It starts three steps below the setting that is best without a filter.
        """
        queries = min(self.args.filter_queries, self.queries)
        for column in self.data.columns:
            truth = self.data.truth(column)[:queries]
            for engine, row in alive:
                reached = False
                steps = [s for s in engine.step["searches"] if s.get("refine") == row["search"].get("refine")]
                for search in steps[max(0, steps.index(row["search"]) - 3):]:
                    out = self.rounds(engine, search, 2, column, queries, truth)
                    self.write({"what": "filter", "engine": engine.name, "column": column, "build": row["build"], **out})
                    if "unsupported" in out: # or too narrow a search for this filter: hnswlib throws when it has not k
                        if out["unsupported"].startswith("no filter"):
                            break
                        continue
                    if reached or out["mean_us"] > SLOW_US:
                        break
                    reached = out["recall"] >= self.args.target

    def run(self, names):
        alive = []
        for name in names:
            if self.args.minutes and time.monotonic() - self.started > 60 * self.args.minutes:
                self.write({"what": "skipped", "engine": name, "why": "--minutes %g are over" % self.args.minutes})
                continue
            engine, row = self.sweep(name)
            if engine:
                alive.append((engine, row))
            if len(self.data.base) > KEEP_ROWS:
                self.measure(alive)
                alive = []
        self.measure(alive)
        self.file.close()
        conclude(self.path)

    def measure(self, alive):
        if alive:
            self.final(alive)
            if not self.args.no_filters:
                self.filters(alive)
        for engine, _ in alive:
            engine.close()


def better(row, than, target):
    """Among those that reach the target the fastest; else the one that comes nearest."""
    if row is None or than is None:
        return than is None and row is not None
    if min(row["recall"], than["recall"]) >= target:
        return row["p50_us"] < than["p50_us"]
    return row["recall"] > than["recall"]


def quick(steps):
    """Of each kind of index the cheapest build; of list indexes one with the more lists."""
    kinds = {}
    for step in steps:
        kind = re.sub(r"\d+", "", step["build"].get("factory") or step["build"].get("index", ""))
        kinds.setdefault(kind, []).append(step)
    return [some[0] if any(k in some[0]["build"] for k in ("ef_construction", "expansion_add")) else some[len(some) // 2]
            for some in kinds.values()]


def cpu_name():
    with open("/proc/cpuinfo") as f:
        return next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "unknown")


def main():
    from peers import PEERS
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--set", help="folder that prepare.py made")
    a.add_argument("--ours", help="bench_ann; left out where there is none")
    a.add_argument("--out", default=os.path.join(HERE, "results"))
    a.add_argument("--label", help="name of the result files, if not the set's")
    a.add_argument("--only", action="append", help="engines to run: " + ", ".join(OURS + tuple(PEERS)))
    a.add_argument("--build", action="append", help="builds to run: a part of their JSON, as '\"m\": 16'")
    a.add_argument("--target", type=float, default=0.98)
    a.add_argument("--queries", type=int, default=1000)
    a.add_argument("--filter-queries", type=int, default=200)
    a.add_argument("--rounds", type=int, default=2, help="of the sweep")
    a.add_argument("--final-rounds", type=int, default=7)
    a.add_argument("--quick", action="store_true", help="one build of each kind of index: for a first look")
    a.add_argument("--minutes", type=float, help="begin no engine's sweep after so many; finals and filters follow")
    a.add_argument("--no-filters", action="store_true")
    a.add_argument("--plot", metavar="JSONL")
    args = a.parse_args()
    if args.plot:
        return conclude(args.plot)
    if not args.set:
        a.error("--set is needed")
    names = list(args.only or OURS + tuple(PEERS))
    if not args.ours or not os.access(args.ours, os.X_OK):
        print("no bench_ann%s: peers alone" % (" at " + args.ours if args.ours else ""), file=sys.stderr)
        names = [n for n in names if n not in OURS]
    Bench(args).run(names)


if __name__ == "__main__":
    main()
