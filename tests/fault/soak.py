#!/usr/bin/env python3
"""Goal: a server that works for long uses no more memory and no more file descriptors than it did early on.

Method: a real daemon; writers, readers, versions, keys, streams, clients that break off and clients that are refused, all
at once, for --seconds. What is stored stays bounded on purpose (the same documents in a few variants, tags and branches
that go again, gc with few commits kept), so what grows has no reason to. Every --interval the daemon's resident memory,
descriptors and threads are written to --out as JSON lines. After the first third (caches fill, tables grow to their
size) the figures of the second third are the base: at the end

    median memory of the last third  <= base median * 1.15 + 24 MiB
    median of each of PARTS          <= base median * 1.25 + 1 MiB
    largest descriptor count after   <= base maximum + 32
    threads                          == those of the base

Also failed: an answer 500 or a broken one that no chaos explains, a daemon that does not stop cleanly.

    tests/fault/soak.py --ragd build/release/bin/ragd --seconds 1800 [--interval 10] [--out soak.jsonl] [--seed 1]

--leak opens ten connections a second and never closes them, and must make it fail: that proves the bounds.
"""
import argparse
import http.client
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

DOCUMENTS = 400
VARIANTS = 4


class Soak:
    def __init__(self, args):
        self.args = args
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.counts = {}
        self.wrong = []
        self.dir = tempfile.mkdtemp(prefix="ragd-soak-")
        self.process = subprocess.Popen(
            [args.ragd, "serve", "--data", self.dir + "/data", "--listen", "127.0.0.1:0", "--access-log", "off",
             "--log-level", "error", "--audit-log", self.dir + "/audit.log", "--audit-bytes-max", "1MiB",
             "--audit-files-max", "2", "--cache-bytes", "16MiB", "--write-buffer-bytes", "16MiB",
             "--object-cache-bytes", "8MiB", "--header-timeout-s", "2", "--body-timeout-s", "2",
             "--idle-timeout-s", "20", "--connections-per-address-max", "300"],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.split("127.0.0.1:")[1].split(",")[0])

    def count(self, name, status):
        with self.lock:
            key = f"{name} {status}"
            self.counts[key] = self.counts.get(key, 0) + 1

    def fail(self, text):
        with self.lock:
            self.wrong.append(text)

    def call(self, connection, name, method, path, body=None, expect=(200,), key=None):
        """One request; a refusal for overload is an answer like any other."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = "Bearer " + key
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        self.count(name, answer.status)
        if answer.status not in expect and answer.status not in (429, 503, 504):
            self.fail(f"{name}: {answer.status} {text[:300]!r}")
        return answer.status, text

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def repeat(self, name, seed, work):
        rng = random.Random(seed)
        connection = self.connection()
        while not self.stop.is_set():
            try:
                work(connection, rng)
            except (OSError, http.client.HTTPException) as error:
                if not self.stop.is_set():
                    self.count(name, type(error).__name__)
                connection.close()
                connection = self.connection()
            self.stop.wait(rng.random() * 0.02)
        connection.close()

    # ------------------------------------------------------------------------------------------ the work

    def document(self, rng):
        number, variant = rng.randrange(DOCUMENTS), rng.randrange(VARIANTS)
        return {"id": f"d{number}", "text": f"document {number} in its variant {variant} of some words " * 4,
                "metadata": {"variant": variant}}

    def put(self, c, rng):
        body = {"documents": list({d["id"]: d for d in (self.document(rng) for _ in range(5))}.values())}
        body["delete_ids"] = [i for i in (f"d{rng.randrange(DOCUMENTS)}",) if i not in {d["id"] for d in body["documents"]}]
        self.call(c, "put", "POST", "/v1/kbs/docs/documents", body, key=self.writer)

    def search(self, c, rng):
        body = {"query": f"document {rng.randrange(DOCUMENTS)} variant", "k": rng.choice((1, 10, 300)),
                "mode": "vector", "include": ["text", "vector", "plan"]}
        self.call(c, "search", "POST", "/v1/kbs/docs/search", body, key=self.reader)
        self.call(c, "get", "GET", f"/v1/kbs/docs/documents/d{rng.randrange(DOCUMENTS)}", expect=(200, 404),
                  key=self.reader)
        self.call(c, "log", "GET", "/v1/kbs/docs/commits?limit=20", key=self.reader)

    def versions(self, c, rng):
        name = f"b{rng.randrange(1000)}"
        path = "/v1/kbs/docs/"
        status, _ = self.call(c, "branch", "POST", path + "branches", {"name": name}, expect=(200, 409), key=self.writer)
        if status != 200:
            return
        self.call(c, "branch put", "POST", path + "documents",
                  {"branch": name, "documents": [self.document(rng)]}, key=self.writer)
        self.call(c, "diff", "GET", path + f"diff?from=main&to={name}&text=true", key=self.reader)
        self.call(c, "merge", "POST", path + "merge", {"from": name, "strategy": "theirs"}, key=self.writer)
        self.call(c, "rollback", "POST", path + "rollback", {"branch": name, "to": name + "~1"}, key=self.writer)
        self.call(c, "branch delete", "DELETE", path + "branches/" + name, key=self.writer)
        if rng.random() < self.args.gc:
            self.call(c, "gc", "POST", path + "gc", {"keep_commits": 20}, key=self.admin)

    def streams(self, c, rng):
        lines = "".join(json.dumps(self.document(rng)) + "\n" for _ in range(20)).encode()
        c.request("POST", "/v1/kbs/docs/documents:import?batch=7", iter([lines[:100], lines[100:]]),
                  {"Content-Type": "application/x-ndjson", "Authorization": "Bearer " + self.writer},
                  encode_chunked=True)
        answer = c.getresponse()
        text = answer.read()
        self.count("import", answer.status)
        if answer.status == 200 and b'"error"' in text and b"appears twice" not in text and b"twice" not in text:
            self.fail(f"import: {text[-300:]!r}")
        self.call(c, "export", "GET", "/v1/kbs/docs/export", key=self.reader)
        self.call(c, "metrics", "GET", "/metrics", key=self.reader)

    def kbs(self, c, rng):
        name = f"t{rng.randrange(10)}"
        self.call(c, "kb create", "POST", "/v1/kbs", {"name": name}, expect=(200, 409), key=self.admin)
        self.call(c, "kb put", "POST", f"/v1/kbs/{name}/documents", {"documents": [self.document(rng)]},
                  expect=(200, 404), key=self.admin)
        self.call(c, "kb delete", "DELETE", f"/v1/kbs/{name}", expect=(200, 404), key=self.admin)
        time.sleep(0.2)

    def keys(self, c, rng):
        status, text = self.call(c, "key create", "POST", "/v1/keys",
                                 {"role": "read", "kbs": ["docs"], "requests_per_second": 5}, key=self.admin)
        if status != 200:
            return
        made = json.loads(text)
        for _ in range(12):  # over its limit: some are 429
            self.call(c, "key use", "GET", "/v1/kbs/docs", key=made["secret"])
        self.call(c, "key rotate", "POST", f"/v1/keys/{made['key']['id']}:rotate", {"grace_seconds": 1}, key=self.admin)
        self.call(c, "key delete", "DELETE", f"/v1/keys/{made['key']['id']}", key=self.admin)
        self.call(c, "key gone", "GET", "/v1/kbs/docs", expect=(401,), key=made["secret"])
        time.sleep(0.2)

    def hostile(self, _, rng):
        pieces = [b"", b"GET /he", b"POST /v1/kbs/docs/search HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc",
                  b"\x16\x03\x01\x00\xff", b"GET /v1/kbs/do\x00cs HTTP/1.1\r\n\r\n",
                  b"POST /v1/kbs/docs/documents:import HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "
                  + self.writer.encode() + b"\r\nContent-Type: application/x-ndjson\r\nContent-Length: 90000\r\n\r\n{",
                  b"GET /v1/kbs/docs/export HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + self.reader.encode()
                  + b"\r\n\r\n"]
        s = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        s.sendall(rng.choice(pieces))
        if rng.random() < 0.3:  # until the server has enough of it
            s.settimeout(30)
            try:
                while s.recv(65536):
                    pass
            except OSError:
                pass
        s.close()
        self.count("hostile", "closed")

    # ------------------------------------------------------------------------------------------ the figures

    # What the daemon says of its own memory: where a growth would be looked for.
    WATCHED = ("ragd_heap_used_bytes", "ragd_heap_free_bytes", "ragd_kb_vector_bytes", "ragd_kb_table_bytes",
               "ragd_kb_word_bytes", "ragd_kb_field_bytes", "ragd_kb_object_cache_bytes", "ragd_kb_versions_cached",
               "ragd_store_memtable_bytes", "ragd_store_cache_bytes", "ragd_store_commits_total", "ragd_http_connections")

    # Of these, what is indexed by number or by word: it grows by little at a time, and for ever where nothing is forgotten.
    PARTS = ("ragd_kb_table_bytes", "ragd_kb_word_bytes", "ragd_kb_field_bytes")

    def watched(self):
        try:
            c = self.connection()
            _, text = self.call(c, "metrics", "GET", "/metrics", key=self.reader)
            c.close()
        except (OSError, http.client.HTTPException):
            return {}
        lines = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if line.startswith(self.WATCHED))
        return {name: float(lines[name]) for name in self.WATCHED if name in lines}

    def sample(self, began):
        base = f"/proc/{self.process.pid}/"
        with open(base + "status") as f:
            status = dict(line.split(":", 1) for line in f)
        return {"second": round(time.monotonic() - began, 1), "rss_bytes": int(status["VmRSS"].split()[0]) * 1024,
                "fds": len(os.listdir(base + "fd")), "threads": int(status["Threads"]),
                "answers": sum(self.counts.values()), **self.watched()}

    def run(self):
        c = self.connection()
        self.admin = None
        _, text = self.call(c, "key create", "POST", "/v1/keys", {"role": "admin"})
        self.admin = json.loads(text)["secret"]
        for name, role in (("writer", "write"), ("reader", "read")):
            _, text = self.call(c, "key create", "POST", "/v1/keys", {"role": role}, key=self.admin)
            setattr(self, name, json.loads(text)["secret"])
        self.call(c, "kb create", "POST", "/v1/kbs", {"name": "docs"}, key=self.admin)
        rng = random.Random(self.args.seed)
        everything = [{"id": f"d{n}", "text": self.document(rng)["text"]} for n in range(DOCUMENTS)]
        self.call(c, "put", "POST", "/v1/kbs/docs/documents", {"documents": everything}, key=self.writer)
        c.close()
        work = [self.put, self.put, self.search, self.search, self.search, self.versions, self.streams, self.kbs,
                self.keys, self.hostile, self.hostile]
        threads = [threading.Thread(target=self.repeat, args=(w.__name__, self.args.seed * 100 + i, w), daemon=True)
                   for i, w in enumerate(work)]
        for t in threads:
            t.start()
        began = time.monotonic()
        samples, leaks = [], []
        with open(self.args.out, "w") as out:
            while time.monotonic() - began < self.args.seconds and self.process.poll() is None:
                time.sleep(self.args.interval)
                if self.args.leak:
                    leaks += [socket.create_connection(("127.0.0.1", self.port)) for _ in range(10 * self.args.interval)]
                    for s in leaks:
                        try:
                            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                        except OSError:
                            pass
                samples.append(self.sample(began))
                out.write(json.dumps(samples[-1]) + "\n")
                out.flush()
            self.stop.set()
            for t in threads:
                t.join(60)
            self.judge(samples)
            self.process.terminate()
            try:
                code = self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                code = "none within 60 s"
            if code != 0:
                self.wrong.append(f"the daemon's exit status: {code}")
            summary = {"counts": dict(sorted(self.counts.items())), "wrong": self.wrong[:20], "seed": self.args.seed}
            out.write(json.dumps(summary) + "\n")
        shutil.rmtree(self.dir, ignore_errors=True)
        for line in self.wrong[:20]:
            print("WRONG:", line)
        print(f"{sum(self.counts.values())} answers, {len(samples)} samples, seed {self.args.seed}:",
              "FAILED" if self.wrong else "flat")
        return 1 if self.wrong else 0

    def judge(self, samples):
        third = len(samples) // 3
        if third < 2:
            self.wrong.append("too few samples to judge; a longer run, or a shorter interval")
            return
        base, late = samples[third:2 * third], samples[2 * third:]
        base_rss, late_rss = (statistics.median(s["rss_bytes"] for s in part) for part in (base, late))
        base_fds, late_fds = (max(s["fds"] for s in part) for part in (base, late))
        print(f"memory {base_rss / 2**20:.1f} -> {late_rss / 2**20:.1f} MiB, descriptors {base_fds} -> {late_fds}, "
              f"threads {base[-1]['threads']} -> {late[-1]['threads']}")
        if late_rss > base_rss * 1.15 + (24 << 20):
            self.wrong.append(f"memory grew from {base_rss} to {late_rss} bytes")
        for name in self.PARTS:
            was, now = (statistics.median(s.get(name, 0) for s in part) for part in (base, late))
            if now > was * 1.25 + (1 << 20):
                self.wrong.append(f"{name} grew from {was:.0f} to {now:.0f}")
        if late_fds > base_fds + 32:
            self.wrong.append(f"descriptors grew from {base_fds} to {late_fds}")
        if max(s["threads"] for s in late) > max(s["threads"] for s in base):
            self.wrong.append("threads grew")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ragd", required=True)
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--interval", type=int, default=10)
    parser.add_argument("--out", default="soak.jsonl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gc", type=float, default=0.05, help="share of the turns of versions that end with a gc")
    parser.add_argument("--leak", action="store_true")
    sys.exit(Soak(parser.parse_args()).run())


main()
