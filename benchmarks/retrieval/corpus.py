#!/usr/bin/env python3
"""100,000 real texts, none twice, as one JSON document a line: descriptions of Debian packages (tools/demo-data all),
then the abstracts of SciFact, then single sentences of them with their titles.

    tools/demo-data all > debian.ndjson
    corpus.py debian.ndjson DATA/scifact > texts.ndjson          # DATA/scifact: BEIR's layout
"""
import itertools, json, pathlib, re, sys

COUNT = 100_000


def packages(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def abstracts(folder):
    with open(folder / "corpus.jsonl", encoding="utf-8") as f:
        for line in f:
            d = json.loads(line)
            yield d["_id"], d["title"], d["text"]


def papers(folder):
    for number, title, text in abstracts(folder):
        yield {"id": "paper-" + number, "title": title, "text": text, "metadata": {"section": "abstract"}}
    for number, title, text in abstracts(folder):
        for i, sentence in enumerate(re.split(r"(?<=[.!?])\s+", text)):
            if len(sentence) >= 20:
                yield {"id": "paper-%s-%d" % (number, i), "title": title, "text": sentence,
                       "metadata": {"section": "sentence", "sentence": i}}


if len(sys.argv) != 3:
    sys.exit(__doc__)
written = 0
for document in itertools.islice(itertools.chain(packages(sys.argv[1]), papers(pathlib.Path(sys.argv[2]))), COUNT):
    document.pop("source_uri", None)
    print(json.dumps(document, ensure_ascii=False))
    written += 1
if written != COUNT:
    sys.exit("only %d texts" % written)
