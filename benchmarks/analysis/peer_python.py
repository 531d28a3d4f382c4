#!/usr/bin/env python3
"""Peers of analysis_speed: peer_python.py FILE... prints one JSON object a line, of processor time.

  pystemmer   regex \\w+, lower(), Snowball English through PyStemmer (with its own cache), tokens in a list
  tantivy     its "en_stem" analyser (simple tokenizer, lower case, Snowball English) through TextAnalyzer.analyze; its
              list of Python strings is part of the time
"""
import json
import pathlib
import re
import sys
import time

import Stemmer
import tantivy

RUNS = 5


def pystemmer():
    stemmer, words = Stemmer.Stemmer("english"), re.compile(r"\w+")
    return lambda text: stemmer.stemWords(words.findall(text.lower()))


def tantivy_en():
    analyzer = (tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())
                .filter(tantivy.Filter.stemmer("english")).build())
    return analyzer.analyze


for path in map(pathlib.Path, sys.argv[1:]):
    text = path.read_text(encoding="utf-8", errors="replace")
    size = len(text.encode())
    for name, analyze in (("pystemmer", pystemmer()), ("tantivy", tantivy_en())):
        seconds = []
        for _ in range(RUNS):
            start = time.process_time()
            tokens = len(analyze(text))
            seconds.append(time.process_time() - start)
        seconds.sort()
        print(json.dumps({"analyzer": name, "text": path.name, "bytes": size, "tokens": tokens,
                          "best_mb_per_s": round(size / seconds[0] / 1e6, 1),
                          "median_mb_per_s": round(size / seconds[RUNS // 2] / 1e6, 1), "runs": RUNS}), flush=True)
