#!/usr/bin/env bash
# Goal: `ragctl bench` measures what it says: its recall is that of the searches that any client can make, its advice
# follows from its numbers, its drawings are whole, and bad input is refused with what to change.
# Method: a daemon whose segments are small, so that a few thousand documents have a graph; every figure that can be known
# otherwise is computed again here, by REST. Times are only held against each other, never against a clock.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
command -v python3 >/dev/null || skip 'python3 is not installed'
command -v curl >/dev/null || skip 'curl is not installed'

python3 - <<'END_OF_PYTHON'
import json, random
random.seed(7)
words = ["%s%s" % (a, b) for a in "ba ce di fo gu ha je ki lo mu na pe ri so tu".split() for b in "rk lm nt sp st".split()]
with open("docs.ndjson", "w") as docs, open("queries.txt", "w") as queries:
    for i in range(4000):
        topic = random.Random(i % 40).sample(words, 12)
        text = " ".join(random.choice(topic if random.random() < .7 else words) for _ in range(18))
        document = {"id": "d%04d" % i, "text": text.capitalize() + ". More of it.", "metadata": {"part": i % 100}}
        if i % 3 == 0:
            document["title"] = " ".join(text.split()[:5])
        docs.write(json.dumps(document) + "\n")
    for i in range(30):
        queries.write(" ".join(random.sample(words, 4)) + "\n\n")
with open("vectors.ndjson", "w") as vectors, open("asked.ndjson", "w") as asked:
    for i in range(3000):
        vector = [round(random.gauss(0, 1), 3) for _ in range(16)]
        if i % 3 == 0: # a third of all are the same one
            vector = [1] * 16
        vectors.write(json.dumps({"id": "v%d" % i, "vector": vector}) + "\n")
    for i in range(20):
        asked.write(json.dumps({"vector": [1 + random.gauss(0, .01) for _ in range(16)]}) + "\n")
END_OF_PYTHON

start data --index-seal-rows 500 --index-graph-rows 1000
ctl=("$ragctl" --url "$url")
try 0 "${ctl[@]}" kb create docs
try 0 "${ctl[@]}" import docs docs.ndjson --batch 1000
try 0 "${ctl[@]}" index compact docs
says '^[0-9a-f]{8}  graph '

# --- the figures
try 0 "${ctl[@]}" bench docs --queries queries.txt --rounds 2 --json
cp out bench.json
cat >check.py <<'END_OF_PYTHON'
import json, sys, urllib.request
url, bench = sys.argv[1], json.load(open(sys.argv[2]))
settings = {s["name"]: s for s in bench["settings"]}
queries = [q.strip() for q in open("queries.txt") if q.strip()]
assert bench["queries"] == {"count": 30, "source": "queries of a file", "own": False}, bench["queries"]
assert bench["k"] == 10 and bench["rounds"] == 2 and bench["chunks"] == 4000 and bench["index"]["engine"] == "graph"
assert not bench["interrupted"] and not bench["everything_exact"] and not bench["index"]["changed_meanwhile"]
assert settings["exact"]["recall"] == 1 and settings["exact"]["candidates"] == 4000

def search(query, **more):
    body = json.dumps(dict(query=query, k=10, mode="vector", at=bench["commit"], include=["plan"], **more)).encode()
    request = urllib.request.Request(url + "/v1/kbs/docs/search", body, {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request))
    return [hit["score"] for hit in answer["hits"]], answer["plan"]["candidates"]

floors = [search(q, exact=True)[0][9] for q in queries]
for name in [s["name"] for s in bench["settings"] if not s["exact"]][:8]:
    setting = settings[name]
    answers = [search(q, **({"params": setting["params"]} if setting["params"] else {})) for q in queries]
    found = sum(min(10, sum(score >= floor for score in scores)) for (scores, _), floor in zip(answers, floors))
    assert abs(found / 300 - setting["recall"]) < 1e-9, (name, found / 300, setting["recall"])
    scored = sum(candidates for _, candidates in answers) / 30
    assert abs(scored - setting["candidates"]) < 1e-6, (name, scored, setting["candidates"])

for s in bench["settings"]:
    assert 0 <= s["recall_worst"] <= s["recall"] <= 1, s
    for times in s["vector_us"], s["took_us"]:
        assert 0 <= times["p50"] <= times["p95"] <= times["p99"], s
    assert s["vector_us"]["p50"] <= s["took_us"]["p50"], s
knob = [s for s in bench["settings"] if s["series"] == "knob"]
assert len(knob) >= 2 and knob[0]["name"] == "ef 10", [s["name"] for s in knob]
for a, b in zip(knob, knob[1:]):
    assert a["params"]["ef"] < b["params"]["ef"] and a["candidates"] <= b["candidates"], (a["name"], b["name"])
    assert b["recall"] >= a["recall"] - 0.02, (a["name"], b["name"])
targets = [s for s in bench["settings"] if s["series"] == "target_recall"]
assert [s["setting"] for s in targets] == sorted(s["setting"] for s in targets) and targets

def beats(a, b): # as good and as fast, and better in one
    x, y = (-a["recall"], a["vector_us"]["p50"]), (-b["recall"], b["vector_us"]["p50"])
    return x[0] <= y[0] and x[1] <= y[1] and x != y
for s in bench["settings"]:
    assert s["front"] == (not any(beats(o, s) for o in bench["settings"])), s["name"]
advice = bench["advice"]
reaching = [s for s in bench["settings"] if s["recall"] >= advice["target_recall"]]
best = settings[advice["setting"]]
assert best in reaching and best["advised"] and sum(s["advised"] for s in bench["settings"]) == 1
least = min(s["vector_us"]["p50"] for s in reaching)
allowed = max(2, least / 20) if best["name"] == "default" else 0 # which is named where it is as fast
assert best["vector_us"]["p50"] <= least + allowed, (best["name"], least)
assert advice["default"]["promised"] == 0.98 and advice["default"]["measured"] == settings["default"]["recall"]
assert (advice["default"]["promise"] == "kept") == (settings["default"]["recall"] >= 0.98)
print("the figures are right")
END_OF_PYTHON
try 0 python3 check.py "$url" bench.json
says 'the figures are right'

# What it advises for the knowledge base can be sent as it is, and the default then is that setting.
try 0 curl -sS --fail-with-body -X PATCH -H 'Content-Type: application/json' "$url/v1/kbs/docs" \
  -d '{"index":{"target_recall":0.8}}'
try 0 "${ctl[@]}" bench docs --queries queries.txt --rounds 1 --target-recall 0.9
says '^The default \(target_recall 0\.8; its calibration expects .*: (kept|missed|too close)'
says '^For searches that name no setting: index\.target_recall 0\.[0-9]+, .*: PATCH /v1/kbs/docs \{'
patch=$(sed -n 's/.*PATCH [^ ]* //p' out)
try 0 curl -sS --fail-with-body -X PATCH -H 'Content-Type: application/json' "$url/v1/kbs/docs" -d "$patch"
try 0 "${ctl[@]}" bench docs --queries queries.txt --rounds 1 --target-recall 0.9 --json
python3 -c '
import json, sys
bench, patch = json.load(open("out")), json.loads(sys.argv[1])
assert bench["advice"]["default"]["promised"] == patch["index"]["target_recall"]
assert bench["advice"]["default"]["measured"] >= 0.9' "$patch" || fail "the advice is not what it says: $patch"
try 0 curl -sS --fail-with-body -X PATCH -H 'Content-Type: application/json' "$url/v1/kbs/docs" \
  -d '{"index": {"target_recall": 0.98}}'
try 0 "${ctl[@]}" bench docs --queries queries.txt --rounds 1 --target-recall 1
says 'reaches 1 \(1\.0000'

# --- for people: ASCII where it is no terminal, and the SVG
try 0 "${ctl[@]}" bench docs --count 60 --rounds 1 --svg curve.svg --target-recall 0.9
says '^docs at c[0-9]+: 4,000 chunks of 384 dimensions, cosine$'
says '^queries 60, titles or first sentences of its own documents; k 10; the best of 1 round$'
says '^ +recall@10 over the median latency of the vector search$'
says '^ +D default  E exact  o ef  x target_recall  $'
says '^ +1 \+.*E'
says '^ +\+-.*\+-'
says '^SETTING +EF +RECALL@10 +WORST +P50 ms +P95 ms +P99 ms +REQUEST ms +SCORED'
says '^ef 10 +10 +[01]\.[0-9]{4} '
says '^default .* [0-9.]+'
says '^exact +- +1\.0000 +1\.00 .* 4,000 '
says '<- the one for 0\.9$'
same "$(grep -c 'the one for' out)" 1 'settings that are advised'
says 'reaches 0\.9 \([01]\.[0-9]+, give or take'
says '^The default \(target_recall [0-9.]+; its calibration expects [0-9.]+\) found '
complains 'the curve is in curve\.svg'
! LC_ALL=C grep -q $'[\x80-\xff]' out || fail 'the drawing for files is not ASCII'
! grep -q $'\033' out || fail 'there are escape sequences in a file'
cat >svg.py <<'END_OF_PYTHON'
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
space = "{http://www.w3.org/2000/svg}"
texts = ["".join(t.itertext()) for t in root.iter(space + "text")]
titles = [t.text for t in root.iter(space + "title")]
assert root.tag == space + "svg" and root.get("viewBox")
assert any("(ms" in t for t in texts) and any(t.startswith("recall@10") for t in texts), texts
for name in "ef 10", "default", "exact":
    assert name in texts, (name, texts)
    assert any(t.startswith(name + ": recall ") for t in titles), titles
assert "prefers-color-scheme:dark" in root.find(space + "style").text
width, height = (float(x) for x in root.get("viewBox").split()[2:])
for mark in root.iter(space + "circle"):
    assert 0 <= float(mark.get("cx")) <= width and 0 <= float(mark.get("cy")) <= height
assert not any(e.tag == space + "script" or e.get("href") for e in root.iter())
print("the drawing is whole: %d texts" % len(texts))
END_OF_PYTHON
try 0 python3 svg.py curve.svg
says 'the drawing is whole'

# On a terminal: Unicode, and not wider than it.
if script -qec true /dev/null >/dev/null 2>&1 </dev/null; then # where there is one, and pseudo-terminals
  TERM=xterm script -qec "stty cols 70; $ragctl --url $url bench docs --count 20 --rounds 1 2>/dev/null" /dev/null >out </dev/null
  says '●'
  says '┤'
  python3 -c 'import sys; sys.exit(not any(0x2800 < ord(c) < 0x2900 for c in open("out", encoding="utf-8").read()))' ||
    fail 'the curve has no lines'
  says '20 queries tell recall to 0\.05 at best'
  tr -d '\r' <out | grep '[│┤]' >drawing
  python3 -c 'assert max(len(l.rstrip("\n")) for l in open("drawing", encoding="utf-8")) <= 70' ||
    fail 'the drawing is wider than the terminal'
fi

# --- a filter, a version, more hits
try 0 "${ctl[@]}" bench docs --queries queries.txt --rounds 1 --filter '{"must": [{"key": "part", "range": {"lt": 50}}]}' --json
says '"chunks_matched":2000,'
try 0 "${ctl[@]}" bench docs --at main~1 --count 30 --rounds 1 --k 25
says '^docs at c4: 3,000 chunks'
says 'RECALL@25'
says '^exact +1\.0000 .* 3,000 '
says '^These searches walk no graph and no lists' # at an old version three quarters of the rows pass: a scan is cheaper
try 0 "${ctl[@]}" bench docs --count 30 --rounds 1 --k 25
says 'RECALL@25'
says '^ef 25 +25 '
printf '%s\n' "$(head -n 1 queries.txt)" '{"query": "bark celm dint"}' | "${ctl[@]}" bench docs -q - --rounds 1 >out 2>err ||
  fail 'queries from standard input'
says '^queries 2, queries of a file'
try 0 "${ctl[@]}" bench docs --queries queries.txt --count 7 --rounds 1
says '^queries 7, '

# --- vectors of the client's, and many equal ones: which of them is found does not matter
try 0 "${ctl[@]}" kb create same --dimension 16 --metric l2
try 0 "${ctl[@]}" import same vectors.ndjson
try 0 "${ctl[@]}" index compact same
try 0 "${ctl[@]}" bench same --queries asked.ndjson --rounds 1 --json
cp out same.json
python3 -c '
import json
bench = json.load(open("same.json"))
assert bench["index"]["engine"] == "graph"
for s in bench["settings"]:
    assert s["recall"] == 1, (s["name"], s["recall"])' || fail 'equal vectors count as missed'
try 0 "${ctl[@]}" bench same --count 40 --rounds 1
says '^queries 40, vectors of its own documents; '
says '^Note: stored vectors were asked for'

# --- other engines have other knobs
try 0 "${ctl[@]}" kb create lists --engine ivf
try 0 "${ctl[@]}" import lists docs.ndjson
try 0 "${ctl[@]}" index compact lists
says '^[0-9a-f]{8}  ivf '
try 0 "${ctl[@]}" bench lists --queries queries.txt --rounds 1
says '^SETTING +NPROBE +RECALL@10'
says '^nprobe 1 +1 '
says '^nprobe 2 +2 '
factory() { # KB FACTORY: false where this build has no FAISS
  curl -sS -H 'Content-Type: application/json' "$url/v1/kbs" \
    -d "{\"name\": \"$1\", \"index\": {\"engine\": \"faiss\", \"factory\": \"$2\"}}" >out || fail 'no answer'
  grep -q 'created_at' out || return 1
  try 0 "${ctl[@]}" import "$1" docs.ndjson
  try 0 "${ctl[@]}" index compact "$1"
  grep -Eq '^[0-9a-f]{8}  faiss ' out
}
if factory probes IVF16,SQ8; then
  try 0 "${ctl[@]}" bench probes --queries queries.txt --rounds 1
  says '^nprobe 1 '
  factory codes PQ48x4fs || fail 'no segment of codes'
  try 0 "${ctl[@]}" bench codes --queries queries.txt --rounds 1 --target-recall 1 --json
  says '"name":"rerank 10".*"name":"rerank 15"'
  silent_about '"name":"(ef|nprobe) '
  says '"kb":(null|\{"index":\{"target_recall":[0-9.]+,"factory":"PQ48x4fs"\}\})' # what a PATCH must repeat
fi

# --- nothing to set
try 0 "${ctl[@]}" kb create flat --engine flat
head -n 300 docs.ndjson >few.ndjson
try 0 "${ctl[@]}" put flat few.ndjson
try 0 "${ctl[@]}" bench flat --rounds 1 --svg flat.svg
says '^Every search here is exact: the index is flat, and all 300 vectors are scanned\. There is nothing to set\.$'
says '^It takes [0-9.]+ ms in the median'
silent_about '^exact '
silent_about 'recall@10 over'
try 0 python3 -c 'import xml.etree.ElementTree as t; t.parse("flat.svg")'
try 0 "${ctl[@]}" bench flat --count 500 --rounds 1
complains '300 documents, fewer than the 500 queries asked for'
says '^queries 300, '

# --- wrong usage, before anything is connected to
nowhere=("$ragctl" --url http://127.0.0.1:1)
try 2 "${nowhere[@]}" bench docs --k 0
complains '--k: is at least 1'
try 2 "${nowhere[@]}" bench docs --k 10001
complains 'no number from 0 to 10000'
try 2 "${nowhere[@]}" bench docs --count 0
complains '--count: is at least 1'
try 2 "${nowhere[@]}" bench docs --rounds 0
complains '--rounds: is at least 1'
for bad in 0 1.5 much nan; do
  try 2 "${nowhere[@]}" bench docs --target-recall "$bad"
  complains "--target-recall: '$bad' is no number over 0"
done
try 2 "${nowhere[@]}" bench docs --filter '[1]'
complains 'not a JSON object'
try 1 "${nowhere[@]}" bench docs --svg nowhere/curve.svg
complains 'nowhere'
try 1 "${nowhere[@]}" bench docs --svg /
complains 'is there and no file'
try 1 "${nowhere[@]}" bench docs --queries nowhere.txt
complains 'nowhere\.txt: No such file'
try 1 "${nowhere[@]}" bench docs --queries .
complains 'Is a directory'
: >empty.txt
try 1 "${nowhere[@]}" bench docs --queries empty.txt
complains 'empty\.txt has no queries'
bad_line() { # LINE MESSAGE: the third line of a file
  printf 'fine\n\n%b\n' "$1" >bad.txt
  try 1 "${nowhere[@]}" bench docs --queries bad.txt
  complains "bad\.txt:3: .*$2"
}
bad_line '{"query": ' 'JSON'
bad_line '{"query": 5}' '"query" is a number, not a text'
bad_line '{"query": "  "}' 'an empty text'
bad_line '{"text": "x"}' 'neither "query" nor "vector"'
bad_line '{"vector": [1, "2"]}' 'vector\[1\] is no number'
bad_line '{"vector": []}' 'not an array of numbers'
bad_line '{"vector": "AAAA"}' 'not an array of numbers'
bad_line '\xff\xfe' 'not UTF-8'

# --- what the knowledge base cannot do
try 0 "${ctl[@]}" kb create empty
try 1 "${ctl[@]}" bench empty
complains "'empty' is empty at c1: put documents"
try 1 "${ctl[@]}" bench absent
complains 'not_found'
try 1 "${ctl[@]}" bench docs --at nowhere
complains 'not_found'
try 1 "${ctl[@]}" bench docs --k 5000
complains "'docs' has 4000 chunks at c5; give --k 4000 or less"
try 1 "${ctl[@]}" bench docs --filter '{"must": [{"key": "part", "match": {"value": -1}}]}'
complains 'no document of .docs. at c5 passes the filter'
try 1 "${ctl[@]}" bench docs --queries queries.txt --filter '{"must": [{"key": "part", "match": {"value": -1}}]}'
complains 'no chunk of .docs. at c5 passes the filter'
try 1 "${ctl[@]}" bench docs --k 41 --filter '{"must": [{"key": "part", "match": {"value": 1}}]}'
complains 'the filter leaves 40 chunks, .*give --k 40 or less'
try 1 "${ctl[@]}" bench same --queries queries.txt
complains "queries\.txt:1: a text, but 'same' has no model"
try 1 "${ctl[@]}" bench docs --queries asked.ndjson
complains "asked\.ndjson:1: a vector of 16 numbers; those of 'docs' have 384"
printf '{"vector": [%s0]}\n' "$(printf '0,%.0s' {1..383})" >zero.ndjson
try 1 "${ctl[@]}" bench docs --queries zero.ndjson
complains 'the query is of zero\.ndjson:1$'

# --- stopped half-way: what was measured is reported, and the exit status says so
cat >interrupt.py <<'END_OF_PYTHON'
import signal, subprocess, sys, time
ctl = subprocess.Popen(sys.argv[2:], stdout=open("out", "w"), stderr=open("err", "w"))
time.sleep(float(sys.argv[1]))
ctl.send_signal(signal.SIGINT)
sys.exit(ctl.wait())
END_OF_PYTHON
interrupted() { # SECONDS COMMAND...
  local status=0
  python3 interrupt.py "$@" || status=$?
  same "$status" 130 'exit status of an interrupted run'
  if [[ -s out ]]; then says '^Interrupted after round [0-9]+ of 100\.$'
  else complains 'interrupted; nothing was measured'; fi
}
interrupted 3 "${ctl[@]}" bench docs --rounds 100
stop
same "$stopped" 0 'exit status of a drained server'

# --- in process: the same index, so the same recall
interrupted 1 "$ragctl" --data data bench docs --rounds 100
try 0 "$ragctl" --data data bench docs --queries queries.txt --rounds 1 --json
cp out local.json
python3 -c '
import json
one, two = ({s["name"]: s for s in json.load(open(f))["settings"] if s["series"] != "default"} for f in ("bench.json", "local.json"))
shared = [name for name in one if name in two]
assert "exact" in shared and "ef 10" in shared, shared
for name in shared:
    assert one[name]["recall"] == two[name]["recall"] and one[name]["candidates"] == two[name]["candidates"], name' ||
  fail 'in process the recall is another'
echo 'passed'
