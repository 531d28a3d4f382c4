"""The peers of the vector index, behind one shape. run.py drives them, one process each.

A peer has `builds(rows)`, the settings of its sweep, and for each build `searches(build)`, ascending in cost. build() uses
two threads; one() answers one query with one thread; batch() answers many with two. Vectors have length 1, so inner
product, cosine and L2 order alike and each peer gets the one that is cheapest for it. `prepare_filter` is not timed: a
filter that is asked for often is there beforehand.

The sweep is the same for all: see README.md, "Sweep".
"""
import concurrent.futures, ctypes, os, shutil, tempfile

import numpy as np

THREADS = 2
EF = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
NPROBE = (2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384)
REFINE = (5, 20)
GRAPHS = ((16, 100), (16, 200), (32, 100)) # links of a node (twice as many in the lowest layer), efConstruction


def lists(rows):
    """1 and 4 times the root of the rows: the usual rule, and what the larger of our sets wants."""
    return tuple(int(round(factor * rows ** 0.5)) for factor in (1, 4))


def heap_bytes():
    """Private memory of this process: the mapped files of the set do not count."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))


def one_core(on):
    """For peers whose threads cannot be told: every thread of the process on one core, or on all."""
    cores = set(range(os.cpu_count()))
    for task in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(task), {max(cores)} if on else cores)
        except OSError:
            pass


class Faiss:
    threads_are_told = True

    def __init__(self, names):
        import faiss
        self.faiss, self.names = faiss, names
        self.version = "faiss-cpu %s (%s)" % (faiss.__version__, faiss.get_compile_options().strip())

    def builds(self, rows):
        if self.names == "hnsw":
            return [{"factory": f % m, "ef_construction": c} for f in ("HNSW%d,Flat", "HNSW%d,SQ8", "HNSW%d_SQ8,RFlat")
                    for m, c in GRAPHS]
        if self.names == "ivfpq":
            return [{"factory": "IVF%d,PQ%sx4fs,RFlat" % (n, m)} for n in lists(rows) for m in ("{d/4}", "{d/2}")]
        return [{"factory": "IVF%d,RaBitQfs,%s" % (n, r)} for n in lists(rows) for r in ("Refine(SQ8)", "RFlat")]

    def searches(self, build):
        refine = REFINE if "," in build["factory"] and build["factory"].rsplit(",", 1)[1].startswith("R") else (0,)
        if self.names == "hnsw": # ef alone says how many are looked at; what is re-scored is a multiple of k
            return [{"ef": ef, "refine": refine[0]} for ef in EF]
        return [{"nprobe": p, "refine": r} for r in refine for p in NPROBE]

    def build(self, base, fields, build, folder):
        faiss = self.faiss
        faiss.omp_set_num_threads(THREADS)
        d = base.shape[1]
        factory = build["factory"].replace("{d/4}", str(d // 4)).replace("{d/2}", str(d // 2))
        self.index = faiss.index_factory(d, factory, faiss.METRIC_INNER_PRODUCT)
        inner = faiss.downcast_index(self.index.base_index) if "refine" in type(self.index).__name__.lower() else self.index
        self.refines = inner is not self.index
        if "ef_construction" in build:
            inner.hnsw.efConstruction = build["ef_construction"]
        self.index.train(base)
        self.index.add(base)
        self.rows = len(base)
        faiss.omp_set_num_threads(1)

    def stored_bytes(self):
        writer = self.faiss.VectorIOWriter()
        self.faiss.write_index(self.index, writer)
        return int(writer.data.size())

    def params(self, search, selector=None):
        faiss, given = self.faiss, {} if selector is None else {"sel": selector}
        inner = (faiss.SearchParametersHNSW(efSearch=search["ef"], **given) if "ef" in search
                 else faiss.SearchParametersIVF(nprobe=search["nprobe"], **given))
        if not self.refines:
            return inner
        return faiss.IndexRefineSearchParameters(k_factor=float(search["refine"]), base_index_params=inner)

    def set(self, search):
        self.now = self.params(search)

    def one(self, query, k, selector=None):
        return self.index.search(query, k, params=selector or self.now)[1][0]

    def call_overhead(self, d):
        index = self.faiss.IndexFlatIP(d)
        index.add(np.ones((1, d), np.float32))
        return lambda query: index.search(query, 1)

    def batch(self, queries, k):
        self.faiss.omp_set_num_threads(THREADS)
        ids = self.index.search(queries, k, params=self.now)[1]
        self.faiss.omp_set_num_threads(1)
        return ids

    def prepare_filter(self, column, value, mask, search):
        bits = np.packbits(mask, bitorder="little")
        return self.params(search, self.faiss.IDSelectorBitmap(bits))


class Hnswlib:
    threads_are_told = True
    # Its filter is a Python function here, called for every candidate: what it costs is mostly Python.
    filter_note = "a Python call for every candidate"

    def __init__(self, _):
        import hnswlib
        from importlib.metadata import version
        self.lib, self.version = hnswlib, "hnswlib " + version("hnswlib")

    def builds(self, rows):
        return [{"M": m, "ef_construction": c} for m, c in GRAPHS]

    def searches(self, build):
        return [{"ef": ef} for ef in EF]

    def build(self, base, fields, build, folder):
        self.index = self.lib.Index(space="ip", dim=base.shape[1])
        self.index.init_index(max_elements=len(base), M=build["M"], ef_construction=build["ef_construction"])
        self.index.set_num_threads(THREADS)
        self.index.add_items(base, np.arange(len(base)), num_threads=THREADS)
        self.folder = folder

    def stored_bytes(self):
        path = os.path.join(self.folder, "hnswlib.bin")
        self.index.save_index(path)
        size = os.path.getsize(path)
        os.unlink(path)
        return size

    def set(self, search):
        self.index.set_ef(search["ef"])

    def one(self, query, k, keep=None):
        return self.index.knn_query(query, k=k, num_threads=1, filter=keep)[0][0]

    def call_overhead(self, d):
        index = self.lib.Index(space="ip", dim=d)
        index.init_index(max_elements=1)
        index.add_items(np.ones((1, d), np.float32))
        return lambda query: index.knn_query(query, k=1, num_threads=1)

    def batch(self, queries, k):
        return self.index.knn_query(queries, k=k, num_threads=THREADS)[0]

    def prepare_filter(self, column, value, mask, search):
        self.set(search)
        return mask.tolist().__getitem__


class Usearch:
    threads_are_told = True

    def __init__(self, dtype):
        import usearch
        from usearch.index import Index
        self.Index, self.dtype, self.version = Index, dtype, "usearch %s" % usearch.__version__

    def builds(self, rows):
        return [{"connectivity": m, "expansion_add": c} for m, c in GRAPHS]

    def searches(self, build):
        return [{"expansion": ef} for ef in EF]

    def build(self, base, fields, build, folder):
        self.index = self.Index(ndim=base.shape[1], metric="cos" if self.dtype == "i8" else "ip", dtype=self.dtype,
                                connectivity=build["connectivity"], expansion_add=build["expansion_add"],
                                enable_key_lookups=False)
        self.index.add(np.arange(len(base)), base, threads=THREADS)
        self.version += ", " + str(self.index.hardware_acceleration)

    def stored_bytes(self):
        return int(self.index.serialized_length)

    def set(self, search):
        self.index.expansion_search = search["expansion"]

    def one(self, query, k):
        return self.index.search(query[0], k, threads=1).keys

    def call_overhead(self, d):
        index = self.Index(ndim=d, metric="ip", dtype=self.dtype)
        index.add(0, np.ones(d, np.float32))
        return lambda query: index.search(query[0], 1, threads=1)

    def batch(self, queries, k):
        return self.index.search(queries, k, threads=THREADS).keys


class Lancedb:
    threads_are_told = False

    def __init__(self, kind):
        import lancedb
        self.lib, self.kind, self.version = lancedb, kind, "lancedb " + lancedb.__version__

    def builds(self, rows):
        if self.kind == "hnsw":
            return [{"index": i, "partitions": 1, "m": m, "ef_construction": c} for i in ("IVF_HNSW_FLAT", "IVF_HNSW_SQ")
                    for m, c in GRAPHS]
        return [{"index": i, "partitions": n} for i in ("IVF_PQ", "IVF_RQ") for n in lists(rows)]

    def searches(self, build):
        if self.kind == "hnsw":
            refine = 0 if build["index"].endswith("FLAT") else REFINE[0]
            return [{"ef": ef, "refine": refine} for ef in EF if ef >= 10 * refine] # it refuses an ef below k * refine
        return [{"nprobe": p, "refine": r} for r in REFINE for p in NPROBE]

    def build(self, base, fields, build, folder):
        import pyarrow as pa
        d = base.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(base.reshape(-1)), d)
        columns = {"id": pa.array(np.arange(len(base), dtype=np.int32)), "vector": vectors}
        columns.update({name: pa.array(values) for name, values in fields.items()})
        self.folder = os.path.join(folder, "lance")
        self.db = self.lib.connect(self.folder)
        self.table = self.db.create_table("t", pa.table(columns))
        if self.kind == "hnsw":
            self.table.create_index(metric="dot", index_type=build["index"], num_partitions=1, m=build["m"],
                                    ef_construction=build["ef_construction"])
        elif build["index"] == "IVF_PQ":
            self.table.create_index(metric="dot", index_type="IVF_PQ", num_partitions=build["partitions"],
                                    num_sub_vectors=d // 4, num_bits=8)
        else:
            self.table.create_index(metric="dot", index_type="IVF_RQ", num_partitions=build["partitions"], num_bits=1)
        self.fields = fields
        self.indexed = set()
        self.pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def stored_bytes(self):
        return sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(self.folder) for f in files
                   if "/_indices" in at)

    def set(self, search):
        self.search = search

    def one(self, query, k, where=None):
        q = self.table.search(query[0], vector_column_name="vector").distance_type("dot").select(["id", "_distance"]).limit(k)
        q = q.nprobes(self.search["nprobe"]) if "nprobe" in self.search else q.nprobes(1).ef(self.search["ef"])
        if self.search["refine"]:
            q = q.refine_factor(self.search["refine"])
        if where:
            q = q.where(where, prefilter=True)
        return q.to_arrow()["id"].to_numpy()

    def batch(self, queries, k):
        return list(self.pool.map(lambda q: self.one(q[None], k), queries))

    def prepare_filter(self, column, value, mask, search):
        if column not in self.indexed:
            self.table.create_scalar_index(column, index_type="BITMAP")
            self.indexed.add(column)
        self.set(search)
        return "%s = %d" % (column, value)


class Chromadb:
    threads_are_told = False

    def __init__(self, _):
        import chromadb
        self.lib, self.version = chromadb, "chromadb " + chromadb.__version__
        self.search = None

    def builds(self, rows):
        return [{"max_neighbors": m, "ef_construction": c} for m, c in GRAPHS]

    def searches(self, build):
        return [{"ef": ef} for ef in EF]

    def build(self, base, fields, build, folder):
        self.folder = os.path.join(folder, "chroma")
        self.open()
        # The index reaches the disk once, with its last row: what is opened again (set) must not be built again.
        self.collection = self.client.create_collection("bench", embedding_function=None, configuration={"hnsw": {
            "space": "ip", "max_neighbors": build["max_neighbors"], "ef_construction": build["ef_construction"],
            "num_threads": THREADS, "sync_threshold": len(base)}})
        names = list(fields)
        for start in range(0, len(base), 5000):
            part = range(start, min(len(base), start + 5000))
            rows = zip(*(v[part.start:part.stop].tolist() for v in fields.values()))
            self.collection.add(ids=[str(i) for i in part], embeddings=np.asarray(base[part.start:part.stop]),
                                metadatas=[dict(zip(names, row)) for row in rows])
        self.pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def stored_bytes(self):
        return None # one file for vectors, metadata and log

    def open(self):
        self.client = self.lib.PersistentClient(self.folder, self.lib.Settings(anonymized_telemetry=False))

    def set(self, search):
        """An index that is open keeps the width that it was opened with, so it is opened again."""
        from chromadb.api.shared_system_client import SharedSystemClient
        if search == self.search:
            return
        self.search = search
        self.collection.modify(configuration={"hnsw": {"ef_search": search["ef"]}})
        self.client._system.stop()
        SharedSystemClient.clear_system_cache()
        self.open()
        self.collection = self.client.get_collection("bench", embedding_function=None)

    def one(self, query, k, where=None):
        found = self.collection.query(query_embeddings=query, n_results=k, include=[], where=where)
        return np.array(found["ids"][0], np.int64)

    def batch(self, queries, k):
        return list(self.pool.map(lambda q: self.one(q[None], k), queries))

    def prepare_filter(self, column, value, mask, search):
        self.set(search)
        return {column: int(value)}


PEERS = {
    "faiss hnsw": (Faiss, "hnsw"),
    "faiss ivf-pq fast scan": (Faiss, "ivfpq"),
    "faiss ivf-rabitq": (Faiss, "rabitq"),
    "hnswlib": (Hnswlib, None),
    "usearch f32": (Usearch, "f32"),
    "usearch bf16": (Usearch, "bf16"),
    "usearch i8": (Usearch, "i8"),
    "lancedb hnsw": (Lancedb, "hnsw"),
    "lancedb ivf": (Lancedb, "ivf"),
    "chromadb": (Chromadb, None),
}
GRAPH_PEERS = ("faiss hnsw", "hnswlib", "usearch f32", "usearch bf16", "usearch i8", "lancedb hnsw", "chromadb")


def scratch():
    return tempfile.mkdtemp(prefix="bench-ann-")


def discard(folder):
    shutil.rmtree(folder, ignore_errors=True)
