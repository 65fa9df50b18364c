"""Real clients whose commit gets through and whose reply does not: the table must stay readable, and
the row must be in it exactly once.

Clients delete their files when they take a commit for failed, so a catalog that answers a repeated
commit with a conflict loses data that it had acknowledged."""

import copy

import duckdb
import fault_proxy
import pyarrow
import pytest


def modes():
    return pytest.mark.parametrize("fault", fault_proxy.FAULTS, ids=str)


@pytest.fixture
def proxy(node):
    with fault_proxy.FaultProxy(node.catalog_uri.split("/")[2]) as proxy:
        yield proxy


@pytest.fixture
def through(node, proxy):
    """The node as seen through the proxy."""
    seen = copy.copy(node)
    seen.catalog_uri = f"http://{proxy.address}/iceberg"
    return seen


def ids(node, bucket):
    """What both clients read, past the proxy."""
    scanned = node.pyiceberg(bucket).load_table("ns.t").scan().to_arrow()
    found = sorted(scanned["id"].to_pylist())
    selected = node.duckdb(bucket).execute("SELECT id FROM lake.ns.t ORDER BY id").fetchall()
    assert found == [row[0] for row in selected]
    return found


def was_lost(proxy, fault):
    """The server had said yes, and the client heard something else."""
    assert proxy.lost == [200] or proxy.lost == [204]
    assert proxy.commits[0] == fault


@modes()
def test_pyiceberg_keeps_its_table(node, bucket, proxy, through, fault):
    row = pyarrow.table({"id": pyarrow.array([1], pyarrow.int64())})
    catalog = through.pyiceberg(bucket)
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=row.schema)
    table.append(row)
    proxy.lose_next(fault)
    try:
        table.append(pyarrow.table({"id": pyarrow.array([2], pyarrow.int64())}))
        shown = None
    except Exception as error:  # noqa: BLE001, whatever the client makes of it
        shown = type(error).__name__
    was_lost(proxy, fault)
    print(f"pyiceberg, {fault}: answers {proxy.commits}, shown {shown}")
    assert ids(node, bucket) == [1, 2]


@modes()
def test_duckdb_keeps_its_table(node, bucket, proxy, through, fault):
    connection = through.duckdb(bucket)
    connection.execute("CREATE SCHEMA lake.ns")
    connection.execute("CREATE TABLE lake.ns.t (id BIGINT)")
    connection.execute("INSERT INTO lake.ns.t VALUES (1)")
    proxy.lose_next(fault)
    try:
        connection.execute("INSERT INTO lake.ns.t VALUES (2)")
        shown = None
    except duckdb.Error as error:
        shown = type(error).__name__
    was_lost(proxy, fault)
    print(f"duckdb, {fault}: answers {proxy.commits}, shown {shown}")
    assert ids(node, bucket) == [1, 2]


@modes()
def test_duckdb_keeps_both_tables_of_a_transaction(node, bucket, proxy, through, fault):
    connection = through.duckdb(bucket)
    connection.execute("CREATE SCHEMA lake.ns")
    for name in ["t", "u"]:
        connection.execute(f"CREATE TABLE lake.ns.{name} (id BIGINT)")
        connection.execute(f"INSERT INTO lake.ns.{name} VALUES (1)")
    proxy.lose_next(fault)
    try:
        connection.execute("BEGIN")
        for name in ["t", "u"]:
            connection.execute(f"INSERT INTO lake.ns.{name} VALUES (2)")
        connection.execute("COMMIT")
    except duckdb.Error:
        pass
    was_lost(proxy, fault)
    assert ids(node, bucket) == [1, 2]
    fresh = node.duckdb(bucket)
    assert fresh.execute("SELECT id FROM lake.ns.u ORDER BY id").fetchall() == [(1,), (2,)]
