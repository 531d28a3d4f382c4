#!/usr/bin/env python3
"""Brings the public collections of this benchmark into BEIR's layout, in OUT/<name>/.

  prepare.py scifact DIR OUT     allenai/scifact: corpus_train.csv, and queries and judgements as
                                 derived_{queries,qrels}_{train,test_beir}.tsv
  prepare.py cranfield DIR OUT   cran.all.1400.trec-format, cran.qry.trec-format, cran.qrels.trec-format
  prepare.py rust_book DIR OUT   src/*.md of github.com/rust-lang/book; each section under a heading is one document,
                                 the questions are rust_book_questions.tsv beside this file
"""
import csv
import json
import pathlib
import re
import sys


def one_line(text):
    return re.sub(r"\s+", " ", text).strip()


class Writer:
    def __init__(self, out, name):
        self.dir = pathlib.Path(out) / name
        (self.dir / "qrels").mkdir(parents=True, exist_ok=True)

    def lines(self, name, rows):
        with open(self.dir / name, "w", encoding="utf-8") as f:
            for row in rows:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")

    def qrels(self, split, rows):
        with open(self.dir / "qrels" / f"{split}.tsv", "w", encoding="utf-8") as f:
            f.write("query-id\tcorpus-id\tscore\n")
            for query, document, gain in rows:
                f.write(f"{query}\t{document}\t{gain}\n")


def scifact(source, out):
    csv.field_size_limit(1 << 30)

    def abstract(text):  # a printed array of sentences: 'a' 'b' "c's"
        parts = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", text)
        return one_line(" ".join(a or b for a, b in parts))

    writer = Writer(out, "scifact")
    with open(source / "corpus_train.csv", encoding="utf-8", newline="") as f:
        writer.lines("corpus.jsonl", [{"_id": r["doc_id"], "title": one_line(r["title"]),
                                       "text": abstract(r["abstract"])} for r in csv.DictReader(f)])
    queries = []
    for split, name in (("train", "train"), ("test", "test_beir")):
        for line in (source / f"derived_queries_{name}.tsv").read_text(encoding="utf-8").splitlines():
            query, text = line.split("\t", 1)
            queries.append({"_id": query, "text": text})
        rows = (source / f"derived_qrels_{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        writer.qrels(split, [row.split("\t") for row in rows])
    writer.lines("queries.jsonl", queries)


def cranfield(source, out):
    writer = Writer(out, "cranfield")
    documents = []
    for body in re.findall(r"<DOC>(.*?)</DOC>", (source / "cran.all.1400.trec-format").read_text(), re.S):
        number = re.search(r"<DOCNO>(.*?)</DOCNO>", body).group(1)
        text = re.search(r"<TEXT>(.*?)</TEXT>", body, re.S).group(1)
        documents.append({"_id": number, "title": one_line(text.split(".A")[0]), "text": one_line(text.split(".W")[-1])})
    writer.lines("corpus.jsonl", documents)
    topics = re.findall(r"<num> Number: (\d+).*?<desc> Description:(.*?)<narr>",
                        (source / "cran.qry.trec-format").read_text(), re.S)
    writer.lines("queries.jsonl", [{"_id": n, "text": one_line(t)} for n, t in topics])
    # Grades are reversed there: 1 is best, 4 least, -1 the paper that the question came from.
    rows = [line.split() for line in (source / "cran.qrels.trec-format").read_text().splitlines()]
    writer.qrels("test", [(r[0], r[2], 5 - int(r[3])) for r in rows if len(r) == 4 and int(r[3]) >= 1])


def rust_book(source, out):
    writer = Writer(out, "rust_book")
    documents, places = [], {}
    for path in sorted((source / "src").glob("ch*.md")):
        chapter = "-".join(path.name.split("-")[:2])
        heading, body, fenced = "", [], False
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines + ["# end"]:
            fenced ^= line.startswith("```")
            match = None if fenced else re.match(r"#+ +(.*)", line)
            if not match:
                body.append(line)
                continue
            if one_line(" ".join(body)):
                number = str(len(documents))
                documents.append({"_id": number, "title": heading, "text": one_line(" ".join(body))})
                places.setdefault((chapter, heading), number)
            heading, body = one_line(match.group(1)), []
    writer.lines("corpus.jsonl", documents)
    rows = [line.split("\t") for line in (pathlib.Path(__file__).parent / "rust_book_questions.tsv").read_text().splitlines()]
    writer.lines("queries.jsonl", [{"_id": str(i), "text": question} for i, (question, _, _) in enumerate(rows)])
    writer.qrels("test", [(i, places[chapter, heading], 1) for i, (_, chapter, heading) in enumerate(rows)])


if __name__ == "__main__":
    kinds = {"scifact": scifact, "cranfield": cranfield, "rust_book": rust_book}
    if len(sys.argv) != 4 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    kinds[sys.argv[1]](pathlib.Path(sys.argv[2]), sys.argv[3])
