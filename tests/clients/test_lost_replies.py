"""Real clients whose commit gets through and whose reply does not: the table must stay readable, and
the row must be in it exactly once.

Clients delete their files when they take a commit for failed, so a catalog that answers a repeated
commit with a conflict loses data that it had acknowledged."""

import copy
import secrets
import time
import uuid

import duckdb
import fault_proxy
import pyarrow
import pytest
import requests
from pyiceberg.types import LongType
from requests.adapters import HTTPAdapter


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


def is_there_once(node, bucket, rows):
    """One table of the name, readable by both clients, and open for the next commit."""
    catalog = node.pyiceberg(bucket)
    assert catalog.list_tables("ns") == [("ns", "t")]
    assert ids(node, bucket) == rows
    catalog.load_table("ns.t").append(numbers(9))
    assert ids(node, bucket) == [*rows, 9]


def numbers(*values):
    return pyarrow.table({"id": pyarrow.array(values, pyarrow.int64())})


@modes()
def test_pyiceberg_keeps_a_table_it_has_created(node, bucket, proxy, through, fault):
    catalog = through.pyiceberg(bucket)
    catalog.create_namespace("ns")
    proxy.lose_next(fault, fault_proxy.CREATE)
    try:
        catalog.create_table("ns.t", schema=numbers(1).schema)
        shown = None
    except Exception as error:  # noqa: BLE001, whatever the client makes of it
        shown = type(error).__name__
    was_lost(proxy, fault)
    print(f"pyiceberg creates, {fault}: answers {proxy.commits}, shown {shown}")
    is_there_once(node, bucket, [])


@modes()
def test_duckdb_keeps_a_table_it_has_created(node, bucket, proxy, through, fault):
    connection = through.duckdb(bucket)
    connection.execute("CREATE SCHEMA lake.ns")
    proxy.lose_next(fault, fault_proxy.COMMIT)
    try:
        connection.execute("CREATE TABLE lake.ns.t (id BIGINT)")
        shown = None
    except duckdb.Error as error:
        shown = type(error).__name__
    was_lost(proxy, fault)
    print(f"duckdb creates, {fault}: answers {proxy.commits}, shown {shown}")
    is_there_once(node, bucket, [])


def uuid7():
    """RFC 9562, 5.7: milliseconds, then chance."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=value & ~(0b11 << 62) | 0b10 << 62))


class SendsKeys(HTTPAdapter):
    """What Iceberg's Java client does where the catalog advertises it: every change carries a key,
    and is sent again under it when its reply is lost."""

    AGAIN = {429, 500, 502, 503, 504}

    def send(self, request, **options):
        if not fault_proxy.CHANGE.match(f"{request.method} {request.url.split('?')[0]}"):
            return super().send(request, **options)
        request.headers["Idempotency-Key"] = uuid7()
        for attempt in range(3):
            try:
                answer = super().send(request, **options)
            except requests.ConnectionError:
                if attempt == 2:
                    raise
                continue
            if answer.status_code not in self.AGAIN:
                return answer
        return answer


@pytest.fixture
def keyed(node, bucket, through):
    catalog = through.pyiceberg(bucket, **{
        "rest.sigv4-enabled": "false", "credential": f"{node.access_key}:{node.secret_key}",
        "oauth2-server-uri": f"{node.catalog_uri}/v1/oauth/tokens",
    })
    catalog._session.mount(through.catalog_uri, SendsKeys())
    return catalog


@pytest.mark.parametrize("fault", [fault_proxy.CUT, 500, 502, 503, 504, 429], ids=str)
def test_a_client_with_keys_notices_nothing(node, bucket, proxy, keyed, fault):
    config = keyed._session.get(f"{node.catalog_uri}/v1/config", params={"warehouse": bucket})
    assert config.json()["idempotency-key-lifetime"] == "PT30M"

    def losing(change, *arguments, **named):
        proxy.lose_next(fault, fault_proxy.CHANGE)
        done = change(*arguments, **named)
        assert proxy.commits[0] == fault and proxy.commits[1] == proxy.lost[0] < 300
        return done

    losing(keyed.create_namespace, "ns")
    summary = losing(keyed.update_namespace_properties, "ns", None, {"team": "blue"})
    assert summary.updated == ["team"]
    losing(keyed.create_namespace, "other")
    losing(keyed.drop_namespace, "other")
    table = losing(keyed.create_table, "ns.old", schema=numbers(1).schema)
    losing(keyed.rename_table, "ns.old", "ns.t")
    table = keyed.load_table("ns.t")
    losing(table.append, numbers(1))
    losing(table.append, numbers(2))
    update = table.update_schema().add_column("other", LongType())
    losing(update.commit)
    assert [len(version.fields) for version in table.schemas().values()] == [1, 2]
    losing(keyed.create_table, "ns.gone", schema=numbers(1).schema)
    losing(keyed.drop_table, "ns.gone")
    is_there_once(node, bucket, [1, 2])
    assert len(node.pyiceberg(bucket).load_table("ns.t").snapshots()) == 3
