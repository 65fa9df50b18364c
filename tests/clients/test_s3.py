"""The S3 data plane from boto3 and pyarrow."""

import hashlib
import os
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError


def status(error):
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 300_000, 5_000_001])
def test_put_get_head_delete(node, s3_bucket, size):
    s3 = node.boto3("s3")
    body = os.urandom(size)
    put = s3.put_object(Bucket=s3_bucket, Key="a/b c+%.bin", Body=body, ContentType="x/y",
                        Metadata={"who": "me"})
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=s3_bucket, Key="a/b c+%.bin")
    assert got["Body"].read() == body
    assert got["ContentType"] == "x/y" and got["Metadata"] == {"who": "me"}
    assert s3.head_object(Bucket=s3_bucket, Key="a/b c+%.bin")["ContentLength"] == size
    s3.delete_object(Bucket=s3_bucket, Key="a/b c+%.bin")
    with pytest.raises(ClientError) as missing:
        s3.get_object(Bucket=s3_bucket, Key="a/b c+%.bin")
    assert missing.value.response["Error"]["Code"] == "NoSuchKey"


def test_ranges(node, s3_bucket):
    s3 = node.boto3("s3")
    body = os.urandom(3_000_000)
    s3.put_object(Bucket=s3_bucket, Key="k", Body=body)
    for text, expected in [("bytes=0-0", body[:1]), ("bytes=-10", body[-10:]),
                           ("bytes=1048570-1048590", body[1048570:1048591]),
                           ("bytes=2999999-", body[-1:]), ("bytes=2999000-9999999", body[2999000:])]:
        got = s3.get_object(Bucket=s3_bucket, Key="k", Range=text)
        assert got["Body"].read() == expected and got["ResponseMetadata"]["HTTPStatusCode"] == 206
    with pytest.raises(ClientError) as refused:
        s3.get_object(Bucket=s3_bucket, Key="k", Range="bytes=3000000-")
    assert status(refused) == 416


def test_listing(node, s3_bucket):
    s3 = node.boto3("s3")
    keys = sorted([f"dir{d}/file{n}" for d in range(3) for n in range(4)] + ["top", "zed"])
    for key in keys:
        s3.put_object(Bucket=s3_bucket, Key=key, Body=b"x")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=s3_bucket, PaginationConfig={"PageSize": 5})
    assert [o["Key"] for page in pages for o in page.get("Contents", [])] == keys
    top = s3.list_objects_v2(Bucket=s3_bucket, Delimiter="/")
    assert [p["Prefix"] for p in top["CommonPrefixes"]] == ["dir0/", "dir1/", "dir2/"]
    assert [o["Key"] for o in top["Contents"]] == ["top", "zed"]
    assert len(s3.list_objects(Bucket=s3_bucket, Prefix="dir1/")["Contents"]) == 4
    versions = s3.list_object_versions(Bucket=s3_bucket)["Versions"]
    assert {v["VersionId"] for v in versions} == {"null"} and len(versions) == len(keys)
    gone = s3.delete_objects(Bucket=s3_bucket, Delete={"Objects": [{"Key": k} for k in keys + ["no"]]})
    assert len(gone["Deleted"]) == len(keys) + 1
    s3.delete_bucket(Bucket=s3_bucket)


def test_multipart_and_copy(node, s3_bucket):
    s3 = node.boto3("s3")
    parts = [os.urandom(5 << 20), os.urandom(5 << 20), os.urandom(100)]
    upload = s3.create_multipart_upload(Bucket=s3_bucket, Key="m")["UploadId"]
    done = []
    for number, body in enumerate(parts, 1):
        tag = s3.upload_part(Bucket=s3_bucket, Key="m", UploadId=upload, PartNumber=number, Body=body)
        done.append({"PartNumber": number, "ETag": tag["ETag"]})
    assert len(s3.list_parts(Bucket=s3_bucket, Key="m", UploadId=upload)["Parts"]) == 3
    assert len(s3.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]) == 1
    finished = s3.complete_multipart_upload(
        Bucket=s3_bucket, Key="m", UploadId=upload, MultipartUpload={"Parts": done})
    assert finished["ETag"].endswith('-3"')
    whole = b"".join(parts)
    assert s3.get_object(Bucket=s3_bucket, Key="m")["Body"].read() == whole
    s3.copy_object(Bucket=s3_bucket, Key="copy", CopySource={"Bucket": s3_bucket, "Key": "m"})
    assert s3.get_object(Bucket=s3_bucket, Key="copy")["Body"].read() == whole
    upload = s3.create_multipart_upload(Bucket=s3_bucket, Key="n")["UploadId"]
    part = s3.upload_part_copy(Bucket=s3_bucket, Key="n", UploadId=upload, PartNumber=1,
                               CopySource={"Bucket": s3_bucket, "Key": "m"},
                               CopySourceRange="bytes=0-5242879")
    s3.complete_multipart_upload(
        Bucket=s3_bucket, Key="n", UploadId=upload, MultipartUpload={
            "Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]})
    assert s3.get_object(Bucket=s3_bucket, Key="n")["Body"].read() == parts[0]
    upload = s3.create_multipart_upload(Bucket=s3_bucket, Key="gone")["UploadId"]
    s3.abort_multipart_upload(Bucket=s3_bucket, Key="gone", UploadId=upload)
    with pytest.raises(ClientError) as refused:
        s3.list_parts(Bucket=s3_bucket, Key="gone", UploadId=upload)
    assert status(refused) == 404


def test_conditions_and_checksums(node, s3_bucket):
    s3 = node.boto3("s3")
    tag = s3.put_object(Bucket=s3_bucket, Key="c", Body=b"one", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=s3_bucket, Key="c", Body=b"two", IfNoneMatch="*")
    assert status(refused) == 412
    s3.put_object(Bucket=s3_bucket, Key="c", Body=b"two", IfMatch=tag)
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=s3_bucket, Key="c", Body=b"three", IfMatch=tag)
    assert status(refused) == 412
    for algorithm in ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"]:
        try:
            s3.put_object(Bucket=s3_bucket, Key=algorithm, Body=b"data", ChecksumAlgorithm=algorithm)
        except Exception as error:  # boto needs an extra package for some kinds
            if "awscrt" in str(error) or "MissingDependency" in type(error).__name__:
                continue
            raise
        got = s3.head_object(Bucket=s3_bucket, Key=algorithm, ChecksumMode="ENABLED")
        assert got[f"Checksum{algorithm}"]
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=s3_bucket, Key="bad", Body=b"data", ChecksumSHA256="A" * 43 + "=")
    assert status(refused) == 400


def test_presigned(node, s3_bucket):
    s3 = node.boto3("s3")
    s3.put_object(Bucket=s3_bucket, Key="p", Body=b"hello")
    url = s3.generate_presigned_url("get_object", {"Bucket": s3_bucket, "Key": "p"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"hello"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url[:-4] + "0000")
    assert refused.value.code == 403
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{node.s3_uri}/{s3_bucket}/p")
    assert refused.value.code == 403


def test_pyarrow_files(node, s3_bucket):
    from pyarrow import fs

    files = fs.S3FileSystem(access_key=node.access_key, secret_key=node.secret_key, region=node.region,
                            scheme="http", endpoint_override=node.s3_uri.removeprefix("http://"))
    with files.open_output_stream(f"{s3_bucket}/dir/file") as out:
        out.write(b"z" * 12_000_000)
    assert files.get_file_info(f"{s3_bucket}/dir/file").size == 12_000_000
    with files.open_input_file(f"{s3_bucket}/dir/file") as source:
        source.seek(11_999_990)
        assert source.read() == b"z" * 10
    files.delete_file(f"{s3_bucket}/dir/file")
    assert files.get_file_info(f"{s3_bucket}/dir/file").type == fs.FileType.NotFound


def test_table_buckets_protect_their_tables(node, bucket):
    import pyarrow

    s3 = node.boto3("s3")
    catalog = node.pyiceberg(bucket)
    catalog.create_namespace("ns")
    data = pyarrow.table({"id": pyarrow.array(range(10), pyarrow.int64())})
    table = catalog.create_table("ns.t", schema=data.schema)
    table.append(data)
    path = next(iter(table.inspect.files()["file_path"].to_pylist()))
    key = path.removeprefix(f"s3://{bucket}/")
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key=key, Body=b"something else")
    assert 400 <= status(refused) < 500
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="outside/every/table", Body=b"x")
    assert status(refused) == 403
    s3.delete_object(Bucket=bucket, Key=key)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=key)
    assert listed["KeyCount"] == 0
    assert catalog.load_table("ns.t").scan().to_arrow().num_rows == 10
