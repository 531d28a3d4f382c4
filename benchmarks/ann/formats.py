"""Files of a set, and exact search: what prepare.py writes and run.py reads.

base.fbin, queries.fbin   u32 rows, u32 dimensions, then float32, little-endian: vectors of length 1
fields.ibin               u32 rows, u32 columns, then int32: the value of each column of each base row
query_values.ibin         the same shape for the queries: what each query asks of each column
set.json                  names, shares and kinds of the columns, where the data came from, digests
truth.ibin, truth_C.ibin  per query the 100 best rows, best first, among all or among those where column C has the query's
                          value; -1 where fewer pass
base.npy, queries.npy, truth.npy   the same for numpy
"""
import json, os, struct

import numpy as np

TRUTH = 100


def write_bin(path, array):
    """float32 or int32 rows behind their shape. Whole or not at all."""
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<II", *array.shape))
        array.tofile(f)
    os.replace(path + ".part", path)


def map_bin(path, dtype):
    shape = np.fromfile(path, np.uint32, 2)
    return np.memmap(path, dtype, "r", 8, tuple(int(x) for x in shape))


class Set:
    def __init__(self, folder):
        self.folder = folder
        with open(os.path.join(folder, "set.json")) as f:
            self.about = json.load(f)
        self.name = self.about["name"]
        self.base = map_bin(self.path("base.fbin"), np.float32)
        self.queries = np.array(map_bin(self.path("queries.fbin"), np.float32))
        self.fields = np.array(map_bin(self.path("fields.ibin"), np.int32))
        self.query_values = np.array(map_bin(self.path("query_values.ibin"), np.int32))
        self.columns = [c["name"] for c in self.about["columns"]]

    def path(self, name):
        return os.path.join(self.folder, name)

    def truth(self, column=None):
        return np.array(map_bin(self.path("truth_%s.ibin" % column if column else "truth.ibin"), np.int32))

    def mask(self, column, value):
        return self.fields[:, self.columns.index(column)] == value

    def scores(self, query, ids):
        """float64 inner products; -inf for an id that is no row."""
        ids = np.asarray(ids, np.int64)
        out = np.full(ids.shape, -np.inf)
        good = (ids >= 0) & (ids < len(self.base))
        out[good] = self.base[ids[good]].astype(np.float64) @ self.queries[query].astype(np.float64)
        return out


def exact(base, queries, groups, k, keep=32):
    """For each group (mask or None, indices of queries): the k best rows by inner product, ties to the lower row.

    float32 products in blocks choose k + keep candidates, float64 orders them.
    """
    out = []
    for mask, which in groups:
        rows = np.arange(len(base)) if mask is None else np.flatnonzero(mask)
        q = np.ascontiguousarray(queries[which])
        width = k + keep
        best_s = np.full((len(which), 0), -np.inf, np.float32)
        best_i = np.zeros((len(which), 0), np.int64)
        for start in range(0, len(rows), 1 << 15):
            part = rows[start:start + (1 << 15)]
            block = base[part[0]:part[-1] + 1] if mask is None else base[part]
            s = q @ np.asarray(block).T
            if s.shape[1] > width:
                at = np.argpartition(-s, width - 1, axis=1)[:, :width]
                s, ids = np.take_along_axis(s, at, 1), part[at]
            else:
                ids = np.broadcast_to(part, s.shape)
            best_s, best_i = np.concatenate([best_s, s], 1), np.concatenate([best_i, ids], 1)
            if best_s.shape[1] > width:
                at = np.argpartition(-best_s, width - 1, axis=1)[:, :width]
                best_s, best_i = np.take_along_axis(best_s, at, 1), np.take_along_axis(best_i, at, 1)
        result = np.full((len(which), k), -1, np.int32)
        for n in range(len(which)):
            s = base[best_i[n]].astype(np.float64) @ q[n].astype(np.float64)
            order = np.lexsort((best_i[n], -s))[:k]
            result[n, :len(order)] = best_i[n][order]
        out.append(result)
    return out
