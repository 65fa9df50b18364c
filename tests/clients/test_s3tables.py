"""The S3 Tables API from boto3."""

import pytest
from botocore.exceptions import ClientError


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_buckets_namespaces_and_tables(node, bucket):
    tables = node.boto3("s3tables")
    arn = node.warehouse(bucket)
    assert tables.get_table_bucket(tableBucketARN=arn)["name"] == bucket
    assert arn in [b["arn"] for b in tables.list_table_buckets(prefix=bucket)["tableBuckets"]]
    tables.create_namespace(tableBucketARN=arn, namespace=["ns"])
    assert tables.get_namespace(tableBucketARN=arn, namespace="ns")["namespace"] == ["ns"]
    created = tables.create_table(
        tableBucketARN=arn, namespace="ns", name="t", format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": [{"name": "id", "type": "long", "required": True}]}}},
    )
    got = tables.get_table(tableBucketARN=arn, namespace="ns", name="t")
    assert got["tableARN"] == created["tableARN"] and got["format"] == "ICEBERG"
    assert tables.get_table(tableArn=created["tableARN"])["name"] == "t"
    assert [t["name"] for t in tables.list_tables(tableBucketARN=arn)["tables"]] == ["t"]
    location = tables.get_table_metadata_location(tableBucketARN=arn, namespace="ns", name="t")
    assert location["metadataLocation"].startswith(location["warehouseLocation"])
    with pytest.raises(ClientError) as refused:
        tables.delete_namespace(tableBucketARN=arn, namespace="ns")
    assert code(refused)[1] == 409
    tables.delete_table(tableBucketARN=arn, namespace="ns", name="t")
    tables.delete_namespace(tableBucketARN=arn, namespace="ns")
    tables.delete_table_bucket(tableBucketARN=arn)
    with pytest.raises(ClientError) as refused:
        tables.get_table_bucket(tableBucketARN=arn)
    assert code(refused) == ("NotFoundException", 404)


def test_refusals(node, bucket):
    tables = node.boto3("s3tables")
    arn = node.warehouse(bucket)
    with pytest.raises(ClientError) as refused:
        tables.create_table_bucket(name=bucket)
    assert code(refused) == ("ConflictException", 409)
    with pytest.raises(ClientError) as refused:
        tables.create_table_bucket(name="Upper")
    assert code(refused) == ("BadRequestException", 400)
    with pytest.raises(ClientError) as refused:
        tables.create_table(tableBucketARN=arn, namespace="none", name="t", format="ICEBERG")
    assert code(refused) == ("NotFoundException", 404)


def test_metadata_location_pair(node, bucket):
    """The only commit primitive of S3 Tables: swap the location under a version token."""
    tables, s3 = node.boto3("s3tables"), node.boto3("s3")
    arn = node.warehouse(bucket)
    tables.create_namespace(tableBucketARN=arn, namespace=["ns"])
    tables.create_table(
        tableBucketARN=arn, namespace="ns", name="t", format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": [{"name": "id", "type": "long"}]}}},
    )
    name = {"tableBucketARN": arn, "namespace": "ns", "name": "t"}
    before = tables.get_table_metadata_location(**name)
    old_key = before["metadataLocation"].removeprefix(f"s3://{bucket}/")
    body = s3.get_object(Bucket=bucket, Key=old_key)["Body"].read()
    body = body.replace(b'"properties":{', b'"properties":{"written-by":"hand",').replace(b",}", b"}")
    new_key = old_key.rsplit("/", 1)[0] + "/00001-by-hand.metadata.json"
    s3.put_object(Bucket=bucket, Key=new_key, Body=body)
    done = tables.update_table_metadata_location(
        **name, versionToken=before["versionToken"], metadataLocation=f"s3://{bucket}/{new_key}")
    assert done["metadataLocation"].endswith("by-hand.metadata.json")
    assert done["versionToken"] != before["versionToken"]
    with pytest.raises(ClientError) as refused:
        tables.update_table_metadata_location(
            **name, versionToken=before["versionToken"], metadataLocation=f"s3://{bucket}/{new_key}")
    assert code(refused) == ("ConflictException", 409)
    loaded = node.pyiceberg(bucket).load_table("ns.t")
    assert loaded.properties["written-by"] == "hand"


def test_paging(node, bucket):
    tables = node.boto3("s3tables")
    arn = node.warehouse(bucket)
    for n in range(5):
        tables.create_namespace(tableBucketARN=arn, namespace=[f"ns{n}"])
    seen, token = [], {}
    while True:
        page = tables.list_namespaces(tableBucketARN=arn, maxNamespaces=2, **token)
        seen += [n["namespace"][0] for n in page["namespaces"]]
        if not page.get("continuationToken"):
            break
        token = {"continuationToken": page["continuationToken"]}
    assert seen == [f"ns{n}" for n in range(5)]
