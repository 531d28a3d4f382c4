"""The same rows and conditions in DuckDB: how long it takes to count the rows that pass, with one thread.

Counting is the least that it can be asked for: no list of rows is made. The table is in memory, with its zone maps;
DuckDB has no secondary index that serves ranges of many rows.
"""
import json
import statistics
import sys
import time

import duckdb

RUNS = 51
SHARES = (0.001, 0.01, 0.1, 0.5)
CATEGORIES = ("c1", "c10", "c100", "c500")
FLAGS = ("public_01", "public_1", "public_10", "public_50")
FIRST_S = 1577836800
SPAN_S = 157680000


def main(path):
    db = duckdb.connect(":memory:", config={"threads": 1})
    db.execute(
        f"""create table docs as select category, views::integer as views, price::double as price,
        "at"::timestamp as moment, public_50 = 1 as public_50, public_10 = 1 as public_10, public_1 = 1 as public_1,
        public_01 = 1 as public_01 from read_csv('{path}')"""
    )
    for share, category, flag in zip(SHARES, CATEGORIES, FLAGS):
        low = FIRST_S + int(0.3 * SPAN_S)
        high = FIRST_S + int((0.3 + share) * SPAN_S)
        conditions = {
            "keyword": f"category = '{category}'",
            "bool": flag,
            "integer range": f"views >= 300000 and views < {int(300000 + share * 1e6)}",
            "number range": f"price >= 300 and price < {300 + share * 1e3}",
            "time range": f"moment >= make_timestamp({low * 1000000}) and moment < make_timestamp({high * 1000000})",
        }
        for kind, condition in conditions.items():
            statement = f"select count(*) from docs where {condition}"
            took = []
            for _ in range(RUNS):
                before = time.perf_counter()
                survivors = db.execute(statement).fetchone()[0]
                took.append((time.perf_counter() - before) * 1e6)
            print(json.dumps({"what": "filter", "peer": "duckdb " + duckdb.__version__, "kind": kind, "share": share,
                              "survivors": survivors, "min_us": round(min(took), 1), "p50_us": round(statistics.median(took), 1), "runs": RUNS}))


if __name__ == "__main__":
    main(sys.argv[1])
