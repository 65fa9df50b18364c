"""DuckDB against a real node, through the Iceberg REST catalog."""

import duckdb
import pytest


@pytest.fixture
def connection(node, bucket):
    connection = node.duckdb(bucket)
    connection.execute("CREATE SCHEMA lake.ns")
    return connection


def rows(connection, text):
    return connection.execute(text).fetchall()


def test_create_insert_update_delete(connection):
    connection.execute("CREATE TABLE lake.ns.t AS SELECT range AS id, 'x' AS v FROM range(1000)")
    connection.execute("INSERT INTO lake.ns.t VALUES (1000, 'y')")
    assert rows(connection, "SELECT count(*), max(id) FROM lake.ns.t") == [(1001, 1000)]
    connection.execute("UPDATE lake.ns.t SET v = 'z' WHERE id < 10")
    connection.execute("DELETE FROM lake.ns.t WHERE id >= 990")
    assert rows(connection, "SELECT v, count(*) FROM lake.ns.t GROUP BY v ORDER BY v") == [
        ("x", 980), ("z", 10)]
    connection.execute("ALTER TABLE lake.ns.t ADD COLUMN note VARCHAR")
    assert rows(connection, "SELECT count(*) FROM lake.ns.t WHERE note IS NULL") == [(990,)]
    connection.execute("DROP TABLE lake.ns.t")
    assert rows(connection, "SELECT count(*) FROM duckdb_tables() WHERE database_name='lake'") == [(0,)]


def test_a_transaction_over_two_tables_is_atomic(connection):
    for name in ["a", "b"]:
        connection.execute(f"CREATE TABLE lake.ns.{name} (id INTEGER)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO lake.ns.a VALUES (1)")
    connection.execute("INSERT INTO lake.ns.b VALUES (2)")
    connection.execute("COMMIT")
    assert rows(connection, "SELECT (SELECT count(*) FROM lake.ns.a), (SELECT count(*) FROM lake.ns.b)") == [(1, 1)]
    connection.execute("BEGIN")
    connection.execute("INSERT INTO lake.ns.a VALUES (3)")
    connection.execute("ROLLBACK")
    assert rows(connection, "SELECT count(*) FROM lake.ns.a") == [(1,)]


def test_a_stale_writer_does_not_overwrite(node, bucket, connection):
    connection.execute("CREATE TABLE lake.ns.t (id INTEGER)")
    other = node.duckdb(bucket)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO lake.ns.t VALUES (1)")
    other.execute("INSERT INTO lake.ns.t VALUES (2)")
    with pytest.raises(duckdb.Error):
        connection.execute("COMMIT")
    fresh = node.duckdb(bucket)
    assert rows(fresh, "SELECT id FROM lake.ns.t") == [(2,)]


def test_reads_what_pyiceberg_wrote(node, bucket, connection):
    import pyarrow

    data = pyarrow.table({"id": pyarrow.array(range(50), pyarrow.int64())})
    catalog = node.pyiceberg(bucket)
    catalog.create_table("ns.p", schema=data.schema).append(data)
    assert rows(connection, "SELECT sum(id) FROM lake.ns.p") == [(1225,)]
