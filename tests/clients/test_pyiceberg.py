"""PyIceberg against a real node."""

import pyarrow
import pytest
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError, NamespaceNotEmptyError, NoSuchNamespaceError,
    NoSuchTableError, TableAlreadyExistsError, ValidationException,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import LongType, NestedField, StringType, TimestampType

ROWS = pyarrow.table({"id": pyarrow.array(range(100), pyarrow.int64()),
                      "name": [f"row {n}" for n in range(100)]})


def test_namespaces(node, bucket):
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("a", {"owner": "ann"})
    catalog.create_namespace(("a", "inner"))
    with pytest.raises(NamespaceAlreadyExistsError):
        catalog.create_namespace("a")
    assert catalog.list_namespaces() == [("a",)]
    assert catalog.list_namespaces("a") == [("a", "inner")]
    summary = catalog.update_namespace_properties("a", {"owner"}, {"team": "blue"})
    assert summary.removed == ["owner"] and summary.updated == ["team"]
    assert catalog.load_namespace_properties("a")["team"] == "blue"
    assert catalog.namespace_exists("a") and not catalog.namespace_exists("b")
    with pytest.raises(NamespaceNotEmptyError):
        catalog.drop_namespace("a")
    catalog.drop_namespace(("a", "inner"))
    catalog.drop_namespace("a")
    with pytest.raises(NoSuchNamespaceError):
        catalog.load_namespace_properties("a")


@pytest.mark.parametrize("login", ["sigv4", "credential"])
def test_append_scan_and_time_travel(node, bucket, login):
    extra = {}
    if login == "credential":
        extra = {"rest.sigv4-enabled": "false", "credential": f"{node.access_key}:{node.secret_key}",
                 "oauth2-server-uri": f"{node.catalog_uri}/v1/oauth/tokens"}
    catalog = node.pyiceberg(bucket, **extra)
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=ROWS.schema)
    table.append(ROWS)
    first = table.current_snapshot().snapshot_id
    table.append(ROWS)
    assert table.scan().to_arrow().num_rows == 200
    assert table.scan(snapshot_id=first).to_arrow().num_rows == 100
    table.delete("id < 50")
    assert catalog.load_table("ns.t").scan().to_arrow().num_rows == 100
    with table.update_schema() as update:
        update.add_column("note", StringType())
    assert catalog.load_table("ns.t").schema().find_field("note").field_type == StringType()


def test_partitioned_table_and_properties(node, bucket):
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("ns")
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "at", TimestampType()))
    spec = PartitionSpec(PartitionField(1, 1000, BucketTransform(4), "id_bucket"),
                         PartitionField(2, 1001, DayTransform(), "day"))
    table = catalog.create_table("ns.p", schema, partition_spec=spec,
                                 properties={"write.parquet.compression-codec": "zstd"})
    with table.transaction() as change:
        change.set_properties(owner="ann")
    assert catalog.load_table("ns.p").properties["owner"] == "ann"
    assert catalog.load_table("ns.p").spec().fields[0].name == "id_bucket"


def test_conflicting_commits_and_names(node, bucket):
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=ROWS.schema)
    with pytest.raises(TableAlreadyExistsError):
        catalog.create_table("ns.t", schema=ROWS.schema)
    stale = catalog.load_table("ns.t")
    table.append(ROWS)
    # PyIceberg answers the 409 by looking again, and then sees that its overwrite is no longer valid.
    with pytest.raises(ValidationException):
        stale.overwrite(ROWS)
    assert catalog.load_table("ns.t").scan().to_arrow().num_rows == 100
    catalog.rename_table("ns.t", "ns.renamed")
    assert catalog.load_table("ns.renamed").scan().to_arrow().num_rows == 100
    assert catalog.list_tables("ns") == [("ns", "renamed")]
    with pytest.raises(NoSuchTableError):
        catalog.load_table("ns.t")
    with pytest.raises(NoSuchTableError):
        catalog.load_table("nowhere.t")


def test_drop_create_register(node, bucket):
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=ROWS.schema)
    table.append(ROWS)
    location, metadata = table.location(), table.metadata_location
    assert location.startswith(f"s3://{bucket}/ns/t-")
    catalog.drop_table("ns.t")
    assert not catalog.table_exists("ns.t")
    again = catalog.create_table("ns.t", schema=ROWS.schema)
    assert again.location() != location
    assert again.scan().to_arrow().num_rows == 0
    # The file of a dropped table still renders until the purge window ends.
    assert table.io.new_input(metadata).exists()


def test_metadata_files_are_served_for_every_version(node, bucket):
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("ns")
    table = catalog.create_table("ns.t", schema=ROWS.schema)
    seen = [table.metadata_location]
    for _ in range(3):
        table.append(ROWS)
        seen.append(table.metadata_location)
    assert len(set(seen)) == 4
    first = [table.io.new_input(path).open().read() for path in seen]
    table.append(ROWS)
    assert [table.io.new_input(path).open().read() for path in seen] == first


def test_commit_larger_than_an_entry_of_the_log(node, bucket):
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("ns")
    wide = Schema(*(NestedField(n, f"column_{n}", StringType(), doc="what it says " * 10)
                    for n in range(1, 10_001)))
    catalog.create_table("ns.wide", schema=wide)
    assert len(catalog.load_table("ns.wide").schema().fields) == 10_000
    table = catalog.create_table("ns.t", schema=ROWS.schema)
    values = {f"p{n}": f"{n}" * (1 << 20) for n in range(10)}
    with table.transaction() as transaction:
        transaction.set_properties(**values)
    table.append(ROWS)
    loaded = catalog.load_table("ns.t")
    assert {name: loaded.properties[name] for name in values} == values
    assert loaded.scan().to_arrow().num_rows == 100
    assert len(table.io.new_input(loaded.metadata_location).open().read()) > 10 << 20


def test_create_table_transaction(node, bucket):
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("ns")
    with catalog.create_table_transaction("ns.ctas", schema=ROWS.schema) as transaction:
        transaction.append(ROWS)
    assert catalog.load_table("ns.ctas").scan().to_arrow().num_rows == 100
