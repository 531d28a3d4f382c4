#!/usr/bin/env python3
"""Judged queries through the real server, beside bm25s and tantivy on the same texts. README.md has the results.

    quality.py --ragd build/release/bin/ragd --set DATA/scifact --set DATA/cranfield --out results/quality.json

DATA/<name> is in BEIR's layout (benchmarks/hash_quality/prepare.py makes it). Needs bm25s, tantivy, PyStemmer and
pytrec_eval (PyPI: pytrec-eval-terrier). One set's judged training queries, where it has them, choose the weights of the
weighted fusion; test queries choose nothing.
"""
import argparse, json, os, pathlib, re, subprocess, tempfile, time, urllib.error, urllib.request

import pytrec_eval

METRICS = {"ndcg_cut_10", "recall_100"}
WEIGHTS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


class Server:
    """ragd on a free port with a store of its own; what the benchmark asks goes over HTTP."""

    def __init__(self, ragd):
        self.folder = tempfile.TemporaryDirectory(prefix="ragd-quality.")
        self.log = open(os.path.join(self.folder.name, "log"), "w+")
        self.process = subprocess.Popen([ragd, "serve", "--data", os.path.join(self.folder.name, "data"), "--listen",
                                         "127.0.0.1:0", "--access-log", "off"], stderr=self.log, stdout=self.log)
        for _ in range(200):
            self.log.seek(0)
            found = re.search(r"127\.0\.0\.1:(\d+)", self.log.read())
            if found:
                self.url = "http://127.0.0.1:" + found.group(1)
                return
            time.sleep(0.05)
        raise SystemExit("ragd did not say where it listens")

    def post(self, path, body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                         {"content-type": "application/json"})
        try:
            return json.load(urllib.request.urlopen(request, timeout=120))
        except urllib.error.HTTPError as error:
            raise SystemExit("%s: %s" % (path, error.read().decode()))

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()


def read_lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


class Collection:
    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.name = folder.name
        self.documents = read_lines(folder / "corpus.jsonl")
        self.texts = {q["_id"]: q["text"] for q in read_lines(folder / "queries.jsonl")}
        self.judgements = {}
        for path in (folder / "qrels").glob("*.tsv"):
            split = self.judgements[path.stem] = {}
            for line in path.read_text().splitlines()[1:]:
                query, document, gain = line.split("\t")
                split.setdefault(query, {})[document] = int(gain)

    def queries(self, split):
        return [(q, self.texts[q]) for q in self.judgements[split]]


def judge(collection, split, rankings):
    """rankings: {query: [document, ...]}, best first. Ranks become scores, so that ties stay as they were answered."""
    run = {q: {d: float(-i) for i, d in enumerate(ids)} for q, ids in rankings.items()}
    values = pytrec_eval.RelevanceEvaluator(collection.judgements[split], METRICS).evaluate(run)
    # A query that finds nothing counts as zero, as it has judgements.
    return {m: sum(v[m] for v in values.values()) / len(collection.judgements[split]) for m in METRICS}


# ---------------------------------------------------------------------------------------------- ragd

def load(server, collection, name, chunking, title_in_text=False):
    server.post("/v1/kbs", {"name": name, "model": "hash-384", "chunking": chunking, "language": "en"})
    documents = [{"id": d["_id"], "title": "" if title_in_text else d["title"],
                  "text": d["title"] + "\n" + d["text"] if title_in_text else d["text"]}
                 for d in collection.documents if d["text"].strip()]
    for at in range(0, len(documents), 1000):
        server.post("/v1/kbs/%s/documents" % name, {"documents": documents[at:at + 1000]})


def rank(server, name, queries, k, how):
    out = {}
    for at in range(0, len(queries), 64):
        part = queries[at:at + 64]
        searches = [dict(how, query=text, k=k, include=["scores"], group_by_document={"per_document": 1})
                    for _, text in part]
        responses = server.post("/v1/kbs/%s/search:batch" % name, {"searches": searches})["responses"]
        for (query, _), response in zip(part, responses):
            out[query] = [hit["document_id"] for hit in response["hits"]]
    return out


def ours(server, collection, name, split, how, metrics=METRICS):
    """nDCG@10 of answers of 10, recall@100 of answers of 100: each as one would ask for it."""
    queries, row = collection.queries(split), {}
    for metric, k in (("ndcg_cut_10", 10), ("recall_100", 100)):
        if metric in metrics:
            row[metric] = judge(collection, split, rank(server, name, queries, k, how))[metric]
    return row


def weighted(vector):
    return {"mode": "hybrid", "fusion": {"method": "weighted", "weights": {"vector": vector, "lexical": 1 - vector}}}


def rrf(vector):
    return {"mode": "hybrid", "fusion": {"method": "rrf", "weights": {"vector": vector, "lexical": 1 - vector}}}


# ---------------------------------------------------------------------------------------------- peers

def bm25s_rankings(collection, queries, title_weight):
    import bm25s, Stemmer
    stemmer = Stemmer.Stemmer("english")
    texts = [" ".join([d["title"]] * title_weight + [d["text"]]) for d in collection.documents]
    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    index.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize([t for _, t in queries], stopwords="en", stemmer=stemmer, show_progress=False)
    found, _ = index.retrieve(tokens, k=100, show_progress=False)
    return {q: [collection.documents[i]["_id"] for i in row] for (q, _), row in zip(queries, found)}


def tantivy_rankings(collection, queries, title_weight):
    import tantivy
    analyzer = (tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.remove_long(255))
                .filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.ascii_fold())
                .filter(tantivy.Filter.stopword("english")).filter(tantivy.Filter.stemmer("english")).build())
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("number", stored=True)
    builder.add_text_field("text", tokenizer_name="words")
    schema = builder.build()
    index = tantivy.Index(schema)
    index.register_tokenizer("words", analyzer)
    writer = index.writer(heap_size=200_000_000, num_threads=1)
    for number, d in enumerate(collection.documents):
        document = tantivy.Document()
        document.add_unsigned("number", number)
        document.add_text("text", " ".join([d["title"]] * title_weight + [d["text"]]))
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher, out = index.searcher(), {}
    for query, text in queries:
        words = analyzer.analyze(text)
        parsed = tantivy.Query.boolean_query([(tantivy.Occur.Should, tantivy.Query.term_query(schema, "text", w))
                                              for w in words])
        hits = searcher.search(parsed, 100).hits
        out[query] = [collection.documents[searcher.doc(a)["number"][0]]["_id"] for _, a in hits]
    return out


# ---------------------------------------------------------------------------------------------- the run

def choose_weight(server, collection, name, fusion, rows):
    scores = {}
    for vector in WEIGHTS:
        scores[vector] = ours(server, collection, name, "train", fusion(vector), {"ndcg_cut_10"})["ndcg_cut_10"]
    best = max(scores, key=lambda w: scores[w])
    rows.append({"set": collection.name, "split": "train", "fusion": fusion.__name__, "ndcg_cut_10_by_vector_weight":
                 {str(w): round(s, 4) for w, s in scores.items()}, "chosen": best})
    print(json.dumps(rows[-1]), flush=True)
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ragd", required=True)
    parser.add_argument("--set", action="append", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    collections = [Collection(folder) for folder in args.set]
    rows, chosen, server = [], {}, Server(args.ragd)

    def add(collection, engine, variant, values):
        rows.append({"set": collection.name, "split": "test", "engine": engine, "variant": variant,
                     **{m: round(v, 4) for m, v in sorted(values.items())}})
        print(json.dumps(rows[-1]), flush=True)

    try:
        for collection in collections:
            for chunks, chunking in (("whole", {"method": "whole"}), ("structure", {"method": "structure"})):
                name = collection.name + "-" + chunks
                load(server, collection, name, chunking)
                if "train" in collection.judgements and not chosen:
                    chosen = {f.__name__: choose_weight(server, collection, name, f, rows) for f in (weighted, rrf)}
                variants = [("lexical", {"mode": "lexical"}), ("vector", {"mode": "vector"}),
                            ("hybrid", {"mode": "hybrid"}), ("hybrid rrf", {"mode": "hybrid", "fusion": {"method": "rrf"}}),
                            ("hybrid weighted", weighted(0.5))]
                for fusion in (weighted, rrf):
                    if fusion.__name__ in chosen:
                        w = chosen[fusion.__name__]
                        variants.append(("hybrid %s, vector %g of 1" % (fusion.__name__, w), fusion(w)))
                for variant, how in variants:
                    add(collection, "ragd, chunks " + chunks, variant, ours(server, collection, name, "test", how))
            # Titles are not embedded: what would it be worth?
            name = collection.name + "-joined"
            load(server, collection, name, {"method": "whole"}, title_in_text=True)
            add(collection, "ragd, title put into the text", "vector",
                ours(server, collection, name, "test", {"mode": "vector"}))
            add(collection, "ragd, title put into the text", "hybrid",
                ours(server, collection, name, "test", {"mode": "hybrid"}))
            queries = collection.queries("test")
            for title_weight in (1, 2):
                label = "title and text" if title_weight == 1 else "title twice and text"
                add(collection, "bm25s", label, judge(collection, "test",
                                                      bm25s_rankings(collection, queries, title_weight)))
                add(collection, "tantivy", label, judge(collection, "test",
                                                        tantivy_rankings(collection, queries, title_weight)))
    finally:
        server.close()
    with open(args.out, "w") as f:
        json.dump(rows, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
