#!/usr/bin/env python3
"""A client of ragd in another language that speaks raw protobuf over HTTP, with nothing but Python's standard library.

Goal: the wire formats are what they say they are, seen from outside: no code of ragd's and no generated code is used here.
Method: a dozen lines of protobuf encoding and decoding; then, through RPC with application/proto and through REST with
application/x-protobuf: create a knowledge base for client vectors, put documents, search by vector, read an error.

Usage: raw_protobuf_client.py URL [KEY]
"""
import json
import struct
import sys
import urllib.error
import urllib.request


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def uint(field, n):
    return varint(field << 3) + varint(n)


def blob(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def floats(values):
    return struct.pack("<%df" % len(values), *values)


def decode(data):
    """A message as {field: [raw values]}."""
    fields, at = {}, 0

    def read_varint():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return n

    while at < len(data):
        key = read_varint()
        kind = key & 7
        if kind == 0:
            value = read_varint()
        elif kind == 1:
            value, at = data[at : at + 8], at + 8
        elif kind == 2:
            size = read_varint()
            value, at = data[at : at + size], at + size
        elif kind == 5:
            value, at = data[at : at + 4], at + 4
        else:
            raise ValueError("wire type %d" % kind)
        fields.setdefault(key >> 3, []).append(value)
    return fields


class Client:
    def __init__(self, url, key=None):
        self.url, self.key = url.rstrip("/"), key

    def post(self, path, body, content_type):
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": content_type})
        if self.key:
            request.add_header("Authorization", "Bearer " + self.key)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read()

    def rpc(self, method, body):
        return self.post("/ragd.v1." + method, body, "application/proto")


def check(condition, what):
    if not condition:
        raise SystemExit("raw_protobuf_client: failed: " + what)
    print("ok: " + what)


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    client = Client(*sys.argv[1:])
    name = "raw-protobuf"

    # CreateKbRequest: name = 1, dimension = 4, metric = 5
    status, kind, body = client.rpc("KnowledgeBases/CreateKb", blob(1, name) + uint(4, 3) + blob(5, "cosine"))
    check(status == 200 and kind == "application/proto", "create answers 200 in protobuf")
    check(decode(body)[1] == [name.encode()] and decode(body)[4] == [3], "the kb has its name and dimension")

    # PutDocumentsRequest: kb = 1, documents = 3; DocumentInput: id = 1, text = 2, metadata = 4, vector = 8
    documents = b"".join(
        blob(3, blob(1, key) + blob(2, text) + blob(4, json.dumps({"n": n})) + blob(8, floats(vector)))
        for n, (key, text, vector) in enumerate(
            [("x", "along x", [1, 0, 0]), ("y", "along y", [0, 2, 0]), ("xy", "between", [1, 1, 0])]
        )
    )
    status, _, body = client.rpc("Documents/PutDocuments", blob(1, name) + documents + blob(5, "three vectors"))
    result = decode(body)
    check(status == 200 and result[1] == [b"c2"] and result[3] == [3], "put makes commit c2 with three documents")

    # SearchRequest: kb = 1, vector = 3, k = 4; SearchResponse: hits = 1, commit = 2; Hit: document_id = 1, score = 7
    search = blob(3, floats([1, 0, 0])) + uint(4, 2)
    for where, (status, kind, body) in {
        "RPC": client.rpc("Retrieval/Search", blob(1, name) + search),
        "REST": client.post("/v1/kbs/%s/search" % name, search, "application/x-protobuf"),
    }.items():
        answer = decode(body)
        hits = [decode(hit) for hit in answer[1]]
        check(status == 200 and "proto" in kind, where + ": search answers 200 in protobuf")
        check([hit[1][0] for hit in hits] == [b"x", b"xy"], where + ": the nearest two, in order")
        scores = [struct.unpack("<f", hit[7][0])[0] for hit in hits]
        check(abs(scores[0] - 1) < 1e-6 and abs(scores[1] - 0.5**0.5) < 1e-6, where + ": their cosines")
        check(answer[2] == [b"c2"], where + ": the answer names its commit")

    # Errors are JSON with Connect's codes, whatever the request's type.
    status, kind, body = client.rpc("Retrieval/Search", blob(1, name) + blob(3, floats([1, 0])))
    error = json.loads(body)
    check(status == 400 and kind == "application/json" and error["code"] == "invalid_argument", "a wrong dimension is 400")
    check("2 components" in error["message"] and "dimension 3" in error["message"], "and says what is wrong")
    status, _, body = client.rpc("KnowledgeBases/GetKb", blob(1, "nowhere"))
    check(status == 404 and json.loads(body)["code"] == "not_found", "an unknown kb is 404")
    status, _, body = client.rpc("KnowledgeBases/GetKb", b"\x0a\xff\xff\xff\xff\x0f")
    check(status == 400 and json.loads(body)["code"] == "invalid_argument", "a lying length is 400")

    status, _, _ = client.rpc("KnowledgeBases/DeleteKb", blob(1, name))
    check(status == 200, "delete")


if __name__ == "__main__":
    main()
